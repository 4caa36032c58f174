/* bytes.c: the bounded reader and the growing writer. */
#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/* --- reader --------------------------------------------------------------------------------------------------- */

void dw_reader_init(dw_reader *reader, const void *data, uint64_t size) {
    *reader = (dw_reader){.data = data, .size = data ? size : 0, .offset = 0, .status = DW_OK};
}

uint64_t dw_reader_left(const dw_reader *reader) {
    return reader->status == DW_OK ? reader->size - reader->offset : 0;
}

static void reader_fail(dw_reader *reader, dw_status status, uint64_t offset) {
    if (reader->status != DW_OK) return; /* the first failure is the one to report */
    reader->status = status;
    reader->offset = offset;
}

const uint8_t *dw_read_bytes(dw_reader *reader, uint64_t length) {
    if (reader->status != DW_OK) return NULL;
    if (length > reader->size - reader->offset) {
        reader_fail(reader, DW_E_TRUNCATED, reader->offset);
        return NULL;
    }
    /* A view of zero bytes of an empty input must not be mistaken for a failure. */
    static const uint8_t nothing[1];
    const uint8_t *view = reader->data ? reader->data + reader->offset : nothing;
    reader->offset += length;
    return view;
}

static uint64_t read_little_endian(dw_reader *reader, unsigned bytes) {
    const uint8_t *view = dw_read_bytes(reader, bytes);
    if (!view) return 0;
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)view[i] << (8 * i);
    return value;
}

uint8_t dw_read_u8(dw_reader *reader) { return (uint8_t)read_little_endian(reader, 1); }
uint16_t dw_read_u16(dw_reader *reader) { return (uint16_t)read_little_endian(reader, 2); }
uint32_t dw_read_u32(dw_reader *reader) { return (uint32_t)read_little_endian(reader, 4); }
uint64_t dw_read_u64(dw_reader *reader) { return read_little_endian(reader, 8); }

/* True when the payload of the last byte an N-bit number may have says nothing beyond its N bits: unused bits are zero
 * (unsigned) or all copies of the sign (signed). WebAssembly core specification, section 5.2.2. */
static bool leb_last_byte_fits(uint8_t payload, unsigned bits_used, bool is_signed) {
    if (!is_signed) return (payload >> bits_used) == 0;
    uint8_t from_sign_up = (uint8_t)(payload >> (bits_used - 1));
    uint8_t all_ones = (uint8_t)(0x7Fu >> (bits_used - 1));
    return from_sign_up == 0 || from_sign_up == all_ones;
}

/* LEB128 of `bits` (32 or 64) bits: at most ceil(bits/7) bytes. Returns the bits, sign-extended to 64 when signed. */
static uint64_t read_leb(dw_reader *reader, unsigned bits, bool is_signed) {
    uint64_t start = reader->offset;
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = dw_read_u8(reader);
        if (reader->status != DW_OK) return 0;
        uint8_t payload = byte & 0x7Fu;
        bool more = (byte & 0x80u) != 0;
        unsigned bits_left = bits - shift;
        if (bits_left < 7 && !leb_last_byte_fits(payload, bits_left, is_signed)) break;
        value |= (uint64_t)payload << shift;
        if (more) continue; /* after the last byte that fits, this ends the loop: over-long */
        bool negative = is_signed && (payload & 0x40u) != 0;
        if (negative && shift + 7 < 64) value |= ~UINT64_C(0) << (shift + 7);
        return value;
    }
    reader_fail(reader, DW_E_FORMAT, start);
    return 0;
}

uint32_t dw_read_leb_u32(dw_reader *reader) { return (uint32_t)read_leb(reader, 32, false); }
uint64_t dw_read_leb_u64(dw_reader *reader) { return read_leb(reader, 64, false); }

/* memcpy instead of a cast: conversion of an out-of-range value to a signed type is implementation-defined. */
int32_t dw_read_leb_s32(dw_reader *reader) {
    uint32_t bits = (uint32_t)read_leb(reader, 32, true);
    int32_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

int64_t dw_read_leb_s64(dw_reader *reader) {
    uint64_t bits = read_leb(reader, 64, true);
    int64_t value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* --- writer --------------------------------------------------------------------------------------------------- */

void dw_writer_init(dw_writer *writer) { *writer = (dw_writer){.status = DW_OK}; }

void dw_writer_deinit(dw_writer *writer) {
    free(writer->data);
    dw_writer_init(writer);
}

/* Room for `extra` more bytes, or a failed writer. Doubles, so that n bytes cost O(n) copies. */
static bool writer_reserve(dw_writer *writer, size_t extra) {
    if (writer->status != DW_OK) return false;
    uint64_t needed, capacity;
    if (!dw_add_u64(writer->size, extra, &needed) || needed > SIZE_MAX) goto no_memory;
    if (needed <= writer->capacity) return true;
    if (!dw_mul_u64(writer->capacity, 2, &capacity)) goto no_memory;
    capacity = dw_max_u64(dw_max_u64(capacity, needed), 64);
    uint8_t *data = realloc(writer->data, (size_t)capacity);
    if (!data) goto no_memory;
    writer->data = data;
    writer->capacity = (size_t)capacity;
    return true;
no_memory:
    writer->status = DW_E_NO_MEMORY;
    return false;
}

void dw_write_bytes(dw_writer *writer, const void *data, size_t length) {
    if (length == 0 || !writer_reserve(writer, length)) return;
    memcpy(writer->data + writer->size, data, length);
    writer->size += length;
}

static void write_little_endian(dw_writer *writer, uint64_t value, unsigned bytes) {
    uint8_t encoded[8];
    for (unsigned i = 0; i < bytes; i++) encoded[i] = (uint8_t)(value >> (8 * i));
    dw_write_bytes(writer, encoded, bytes);
}

void dw_write_u8(dw_writer *writer, uint8_t value) { write_little_endian(writer, value, 1); }
void dw_write_u32(dw_writer *writer, uint32_t value) { write_little_endian(writer, value, 4); }
void dw_write_u64(dw_writer *writer, uint64_t value) { write_little_endian(writer, value, 8); }

void dw_write_leb_u32(dw_writer *writer, uint32_t value) {
    uint8_t encoded[5];
    size_t used = 0;
    while (value >= 0x80u) {
        encoded[used++] = (uint8_t)((value & 0x7Fu) | 0x80u);
        value >>= 7;
    }
    encoded[used++] = (uint8_t)value;
    dw_write_bytes(writer, encoded, used);
}

dw_status dw_writer_finish(dw_writer *writer, uint8_t **out, size_t *out_size) {
    dw_status status = writer->status;
    *out = NULL;
    *out_size = 0;
    /* Callers free() and may index what they get: an empty result is still an allocation. */
    if (status == DW_OK && !writer->data && !writer_reserve(writer, 1)) status = writer->status;
    if (status == DW_OK) {
        *out = writer->data;
        *out_size = writer->size;
        writer->data = NULL;
    }
    dw_writer_deinit(writer);
    return status;
}

bool dw_is_zero(const void *data, size_t size) {
    const uint8_t *bytes = data;
    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* bytes.h: a bounded reader for bytes from outside and a growing writer for bytes we make. Little-endian throughout.
 *
 * Rules
 * 1. The reader never reads outside [data, data+size) and never allocates. After the first failure it stays failed
 *    (`status`), every later read gives zero, so a parser may read a whole record and check once. `offset` of the
 *    first failure is kept.
 * 2. The writer owns its memory; a failed allocation makes it fail for good; dw_writer_finish hands the bytes over.
 * Threads: none of these is shared.
 */
#ifndef DW_BASE_BYTES_H
#define DW_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

typedef struct dw_reader {
    const uint8_t *data;  /* borrowed */
    uint64_t size;
    uint64_t offset;      /* of the next byte; stands at the first bad byte once failed */
    dw_status status;
} dw_reader;

void dw_reader_init(dw_reader *reader, const void *data, uint64_t size);
uint8_t dw_read_u8(dw_reader *reader);
uint16_t dw_read_u16(dw_reader *reader);
uint32_t dw_read_u32(dw_reader *reader);
uint64_t dw_read_u64(dw_reader *reader);
/* LEB128 of WebAssembly: unsigned 32, signed 32 and 64 bit; over-long or out-of-range encodings fail with
 * DW_E_FORMAT. */
uint32_t dw_read_leb_u32(dw_reader *reader);
uint64_t dw_read_leb_u64(dw_reader *reader);
int32_t dw_read_leb_s32(dw_reader *reader);
int64_t dw_read_leb_s64(dw_reader *reader);
/* Borrowed view of the next `length` bytes, or NULL (and failed) when fewer are left. */
const uint8_t *dw_read_bytes(dw_reader *reader, uint64_t length);
uint64_t dw_reader_left(const dw_reader *reader);

/* Whether all bytes are zero; true for none. */
bool dw_is_zero(const void *data, size_t size);

typedef struct dw_writer {
    uint8_t *data;
    size_t size, capacity;
    dw_status status;
} dw_writer;

void dw_writer_init(dw_writer *writer);
void dw_writer_deinit(dw_writer *writer);
void dw_write_u8(dw_writer *writer, uint8_t value);
void dw_write_u32(dw_writer *writer, uint32_t value);
void dw_write_u64(dw_writer *writer, uint64_t value);
void dw_write_leb_u32(dw_writer *writer, uint32_t value);
void dw_write_bytes(dw_writer *writer, const void *data, size_t length);
/* Moves the bytes to the caller (free with free()); the writer is empty afterwards. */
dw_status dw_writer_finish(dw_writer *writer, uint8_t **out, size_t *out_size) DW_MUST_USE;

#endif

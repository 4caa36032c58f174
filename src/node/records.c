/* records.c: messages that wait, and answers, as records of the store (node.h has the bytes). */
#include <string.h>

#include "node/node_internal.h"

enum { RECORD_VERSION = 1 };

static void write_field(dw_writer *writer, const void *data, uint32_t size) {
    dw_write_u32(writer, size);
    if (size > 0) dw_write_bytes(writer, data, size);
}

static const uint8_t *read_field(dw_reader *reader, uint32_t *size, uint64_t size_max) {
    *size = dw_read_u32(reader);
    if (reader->status == DW_OK && *size > size_max) reader->status = DW_E_CORRUPT;
    return dw_read_bytes(reader, reader->status == DW_OK ? *size : 0);
}

/* A key is a text: it holds no NUL. */
static const uint8_t *read_record_key(dw_reader *reader, uint32_t *size) {
    const uint8_t *key = read_field(reader, size, DW_NODE_KEY_BYTES_MAX);
    if (reader->status == DW_OK && *size > 0 && memchr(key, 0, *size)) reader->status = DW_E_CORRUPT;
    return key;
}

static dw_status begin_record(dw_reader *reader, const void *data, size_t size, const char *what, dw_error *err) {
    dw_reader_init(reader, data, size);
    uint32_t version = dw_read_u32(reader);
    if (reader->status != DW_OK || version == RECORD_VERSION) return DW_OK; /* told at the end */
    return dw_fail_at(err, DW_E_VERSION, 0, "%s of version %u", what, version);
}

static dw_status end_record(dw_reader *reader, const char *what, dw_error *err) {
    if (reader->status == DW_OK && dw_reader_left(reader) > 0) reader->status = DW_E_CORRUPT;
    return reader->status == DW_OK ? DW_OK : dw_fail_at(err, reader->status, reader->offset, "%s", what);
}

dw_status dw_message_record_encode(const dw_message_record *record, uint8_t **out, size_t *size) {
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_u32(&writer, RECORD_VERSION);
    dw_write_u64(&writer, record->realtime_ns);
    write_field(&writer, record->key, record->key_bytes);
    write_field(&writer, record->body, record->size);
    return dw_writer_finish(&writer, out, size);
}

dw_status dw_message_record_decode(const void *data, size_t size, dw_message_record *out, dw_error *err) {
    dw_reader reader;
    *out = (dw_message_record){0};
    dw_status status = begin_record(&reader, data, size, "a message's record", err);
    if (status != DW_OK) return status;
    out->realtime_ns = dw_read_u64(&reader);
    out->key = read_record_key(&reader, &out->key_bytes);
    out->body = read_field(&reader, &out->size, DW_MESSAGE_BYTES_MAX);
    return end_record(&reader, "a message's record", err);
}

dw_status dw_answer_record_encode(const dw_answer_record *record, uint8_t **out, size_t *size) {
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_u32(&writer, RECORD_VERSION);
    write_field(&writer, record->key, record->key_bytes);
    dw_write_bytes(&writer, record->body.bytes, sizeof record->body.bytes);
    dw_write_u32(&writer, (uint32_t)record->status);
    dw_write_u64(&writer, record->turn);
    write_field(&writer, record->text, record->size);
    return dw_writer_finish(&writer, out, size);
}

dw_status dw_answer_record_decode(const void *data, size_t size, dw_answer_record *out, dw_error *err) {
    dw_reader reader;
    *out = (dw_answer_record){0};
    dw_status status = begin_record(&reader, data, size, "an answer's record", err);
    if (status != DW_OK) return status;
    out->key = read_record_key(&reader, &out->key_bytes);
    const uint8_t *hash = dw_read_bytes(&reader, sizeof out->body.bytes);
    if (hash) memcpy(out->body.bytes, hash, sizeof out->body.bytes);
    out->status = (dw_status)(int32_t)dw_read_u32(&reader);
    out->turn = dw_read_u64(&reader);
    out->text = read_field(&reader, &out->size, DW_TEXT_BYTES_MAX);
    bool sane = out->status <= 0 && (out->status == DW_OK) == (out->turn > 0) && out->key_bytes > 0;
    if (reader.status == DW_OK && !sane) reader.status = DW_E_CORRUPT;
    return end_record(&reader, "an answer's record", err);
}

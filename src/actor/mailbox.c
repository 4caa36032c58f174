/* mailbox.c: see mailbox.h. */
#include "actor/mailbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static dw_message *mailbox_slot(const dw_mailbox *box, uint32_t index) {
    return &box->items[(box->first + index) % box->capacity];
}

dw_status dw_mailbox_reserve(dw_mailbox *box, uint32_t n) {
    if (n <= box->capacity - box->count) return DW_OK;
    uint32_t capacity = box->capacity ? box->capacity : 8;
    while (capacity - box->count < n) capacity *= 2;
    dw_message *grown = calloc(capacity, sizeof *grown);
    if (!grown) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < box->count; i++) grown[i] = *mailbox_slot(box, i);
    free(box->items);
    box->items = grown;
    box->capacity = capacity;
    box->first = 0;
    return DW_OK;
}

void dw_mailbox_put(dw_mailbox *box, dw_message message) {
    assert(box->count < box->capacity);
    *mailbox_slot(box, box->count) = message;
    box->count++;
    box->bytes += message.size;
    if (message.id > box->next_id) box->next_id = message.id;
}

dw_status dw_mailbox_put_copy(dw_mailbox *box, uint64_t id, const void *body, uint32_t size, uint64_t realtime_ns) {
    dw_status status = dw_mailbox_reserve(box, 1);
    if (status != DW_OK) return status;
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) return DW_E_NO_MEMORY;
    if (size) memcpy(copy, body, size);
    dw_mailbox_put(box, (dw_message){.id = id, .realtime_ns = realtime_ns, .body = copy, .size = size});
    return DW_OK;
}

const dw_message *dw_mailbox_first(const dw_mailbox *box) { return box->count ? mailbox_slot(box, 0) : NULL; }

void dw_mailbox_drop_first(dw_mailbox *box) {
    dw_message *first = mailbox_slot(box, 0);
    assert(box->count > 0);
    box->bytes -= first->size;
    free(first->body);
    *first = (dw_message){0};
    box->first = (box->first + 1) % box->capacity;
    box->count--;
}

void dw_mailbox_deinit(dw_mailbox *box) {
    while (box->count) dw_mailbox_drop_first(box);
    free(box->items);
    *box = (dw_mailbox){0};
}

dw_status dw_mailbox_clone(const dw_mailbox *box, dw_mailbox *out) {
    *out = (dw_mailbox){.next_id = box->next_id};
    for (uint32_t i = 0; i < box->count; i++) {
        const dw_message *from = mailbox_slot(box, i);
        dw_status status = dw_mailbox_put_copy(out, from->id, from->body, from->size, from->realtime_ns);
        if (status != DW_OK) {
            dw_mailbox_deinit(out);
            return status;
        }
    }
    return DW_OK;
}

/* --- the checkpoint's mailbox section: u32 version, u64 next_id, u32 count, --------------------------------------
 * --- count x (u64 id, u64 realtime_ns, u32 size, bytes) ---------------------------------------------------------- */

enum { MAILBOX_SECTION_VERSION = 1 };

dw_status dw_state_encode_mailbox(const dw_mailbox *box, uint8_t **out, size_t *size) {
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_u32(&writer, MAILBOX_SECTION_VERSION);
    dw_write_u64(&writer, box->next_id);
    dw_write_u32(&writer, box->count);
    for (uint32_t i = 0; i < box->count; i++) {
        const dw_message *from = mailbox_slot(box, i);
        dw_write_u64(&writer, from->id);
        dw_write_u64(&writer, from->realtime_ns);
        dw_write_u32(&writer, from->size);
        dw_write_bytes(&writer, from->body, from->size);
    }
    return dw_writer_finish(&writer, out, size);
}

dw_status dw_state_decode_mailbox(const void *data, uint64_t size, dw_mailbox *out, dw_error *err) {
    *out = (dw_mailbox){0};
    dw_reader reader;
    dw_reader_init(&reader, data, size);
    uint32_t version = dw_read_u32(&reader);
    uint64_t next_id = dw_read_u64(&reader);
    uint32_t count = dw_read_u32(&reader);
    dw_status status = reader.status;
    if (status == DW_OK && version != MAILBOX_SECTION_VERSION)
        return dw_fail_at(err, DW_E_VERSION, 0, "mailbox section of version %u", version);
    if (status == DW_OK && count > DW_MAILBOX_MESSAGES_MAX)
        return dw_fail_at(err, DW_E_CORRUPT, 12, "mailbox section of %u messages", count);
    uint64_t last_id = 0;
    for (uint32_t i = 0; i < count && status == DW_OK; i++) {
        uint64_t id = dw_read_u64(&reader), realtime_ns = dw_read_u64(&reader);
        uint32_t bytes = dw_read_u32(&reader);
        const uint8_t *body = dw_read_bytes(&reader, bytes);
        status = reader.status;
        bool sane = id > last_id && id <= next_id && bytes <= DW_MESSAGE_BYTES_MAX &&
                    out->bytes + bytes <= DW_MAILBOX_BYTES_MAX;
        if (status == DW_OK && !sane) status = DW_E_CORRUPT;
        if (status == DW_OK) status = dw_mailbox_put_copy(out, id, body, bytes, realtime_ns);
        last_id = id;
    }
    if (status == DW_OK && dw_reader_left(&reader) != 0) status = DW_E_CORRUPT;
    out->next_id = next_id;
    if (status == DW_OK) return DW_OK;
    dw_mailbox_deinit(out);
    return dw_fail_at(err, status, reader.offset, "mailbox section");
}

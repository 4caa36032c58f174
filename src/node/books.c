/* books.c: what the node knows of an actor's messages without waking it. */
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"

void dw_entry_deinit(dw_entry *entry) {
    free(entry->key);
    *entry = (dw_entry){0};
}

void dw_entries_deinit(dw_entries *entries) {
    for (size_t i = 0; i < entries->count; i++) dw_entry_deinit(&entries->items[i]);
    DW_VEC_DEINIT(entries);
}

dw_status dw_entries_reserve(dw_entries *entries, dw_error *err) {
    dw_status status = DW_VEC_RESERVE(entries, 1, DW_MAILBOX_MESSAGES_MAX);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no room in an actor's books");
}

dw_status dw_entries_add(dw_entries *entries, dw_entry entry, dw_error *err) {
    dw_status status = dw_entries_reserve(entries, err);
    if (status == DW_OK) entries->items[entries->count++] = entry;
    else dw_entry_deinit(&entry);
    return status;
}

void dw_entries_remove(dw_entries *entries, size_t index) {
    dw_entry_deinit(&entries->items[index]);
    entries->count--;
    memmove(&entries->items[index], &entries->items[index + 1], (entries->count - index) * sizeof *entries->items);
}

const dw_entry *dw_entries_with_key(const dw_entries *entries, const char *key) {
    for (size_t i = 0; key && i < entries->count; i++)
        if (entries->items[i].key && strcmp(entries->items[i].key, key) == 0) return &entries->items[i];
    return NULL;
}

const dw_entry *dw_entries_numbered(const dw_entries *entries, uint64_t number) {
    for (size_t i = 0; i < entries->count; i++)
        if (entries->items[i].number == number) return &entries->items[i];
    return NULL;
}

static char *copy_key(const void *key, size_t size) {
    char *copy = malloc(size + 1);
    if (!copy) return NULL;
    memcpy(copy, key, size);
    copy[size] = '\0';
    return copy;
}

dw_status dw_entry_of(const dw_node_message *message, uint64_t number, dw_entry *out, dw_error *err) {
    *out = (dw_entry){.number = number, .bytes = message->size};
    if (!message->key) return DW_OK;
    size_t length = strlen(message->key);
    if (length == 0 || length > DW_NODE_KEY_BYTES_MAX)
        return dw_fail(err, DW_E_INVALID, "a key has 1 to %u bytes", DW_NODE_KEY_BYTES_MAX);
    out->key = copy_key(message->key, length);
    if (out->key && dw_hash_of(message->body, message->size, &out->body) == DW_OK) return DW_OK;
    dw_entry_deinit(out);
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for a message's key");
}

dw_status dw_entry_copy(const dw_entry *entry, dw_entry *out, dw_error *err) {
    *out = *entry;
    if (!entry->key) return DW_OK;
    out->key = copy_key(entry->key, strlen(entry->key));
    if (out->key) return DW_OK;
    *out = (dw_entry){0};
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for a message's key");
}

/* --- from records -------------------------------------------------------------------------------------------- */

typedef struct reading {
    dw_entries *entries;
    dw_status status;
    dw_error *err;
} reading;

static dw_status entry_of_message(const void *data, size_t size, dw_entry *out, dw_error *err) {
    dw_message_record record;
    dw_status status = dw_message_record_decode(data, size, &record, err);
    if (status != DW_OK) return status;
    out->bytes = record.size;
    if (record.key_bytes == 0) return DW_OK;
    out->key = copy_key(record.key, record.key_bytes);
    bool good = out->key && dw_hash_of(record.body, record.size, &out->body) == DW_OK;
    return good ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's books");
}

static bool read_message_entry(void *context, uint64_t number, const void *data, size_t size) {
    reading *to = context;
    dw_entry entry = {.number = number};
    to->status = entry_of_message(data, size, &entry, to->err);
    if (to->status == DW_OK) to->status = dw_entries_add(to->entries, entry, to->err);
    else dw_entry_deinit(&entry);
    return to->status == DW_OK;
}

static bool read_answer_entry(void *context, uint64_t number, const void *data, size_t size) {
    reading *to = context;
    dw_answer_record record;
    to->status = dw_answer_record_decode(data, size, &record, to->err);
    if (to->status != DW_OK) return false;
    dw_entry entry = {.number = number, .bytes = record.size, .body = record.body,
                      .key = copy_key(record.key, record.key_bytes)};
    if (entry.key) to->status = dw_entries_add(to->entries, entry, to->err);
    else to->status = dw_fail(to->err, DW_E_NO_MEMORY, "no memory for an actor's books");
    return to->status == DW_OK;
}

static dw_status read_entries(dw_resident *resident, dw_node_kind kind, dw_entries *to, dw_error *err) {
    reading all = {.entries = to, .err = err};
    dw_status status = dw_store_records(resident->node->store, resident->name, kind, 0,
                                        kind == DW_NODE_MESSAGE ? read_message_entry : read_answer_entry, &all, err);
    if (status == DW_OK) status = all.status;
    if (status == DW_OK && to->count > 0) resident->last = dw_max_u64(resident->last, to->items[to->count - 1].number);
    return status;
}

dw_status dw_books_read(dw_resident *resident, const dw_blob *state, dw_error *err) {
    dw_status status = dw_kept_last_message(state, &resident->last, err);
    if (status == DW_OK) status = read_entries(resident, DW_NODE_MESSAGE, &resident->waiting, err);
    if (status == DW_OK) status = read_entries(resident, DW_NODE_ANSWER, &resident->answers, err);
    return status;
}

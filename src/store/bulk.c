/* bulk.c: append files: one that is written, and those that are read. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

static const char bulk_magic[8] = {'D', 'W', 'B', 'U', 'L', 'K', '0', '1'};
enum { BULK_PAGES_MAX = UINT32_MAX / 2 };

/* --- names and heads -------------------------------------------------------------------------------------------- */

void dw_bulk_path(const dw_store *store, uint32_t file, char out[DW_OS_PATH_BYTES]) {
    (void)snprintf(out, DW_OS_PATH_BYTES, "%s/bulk-%08" PRIx32, store->folder, file);
}

uint32_t dw_bulk_number_of(const char *name) {
    if (strncmp(name, "bulk-", 5) != 0 || strlen(name) != 13) return 0;
    uint32_t number = 0;
    for (const char *at = name + 5; *at; at++) {
        const char *digits = "0123456789abcdef", *digit = strchr(digits, *at);
        if (!digit) return 0;
        number = number << 4 | (uint32_t)(digit - digits);
    }
    return number;
}

/* Ends with the first one. */
static bool see_bulk_file(void *context, const char *name) {
    uint32_t *number = context;
    *number = dw_bulk_number_of(name);
    return *number == 0;
}

dw_status dw_bulk_refuse_any(dw_store *store, dw_error *err) {
    uint32_t number = 0;
    dw_status status = store->disk->list(store->disk->context, store->folder, see_bulk_file, &number, err);
    if (status != DW_OK || number == 0) return status;
    return dw_fail(err, DW_E_CORRUPT,
                   "%s/index is empty or missing, and bulk-%08" PRIx32 " is there: this is not the whole store",
                   store->folder, number);
}

/* magic [8], identity [16], u32 number, u32 page bytes, zeros, and in the last 8 bytes the sum of all before. */
void dw_bulk_head_write(const uint8_t identity[16], uint32_t number, uint8_t out[DW_BULK_HEAD_BYTES]) {
    uint64_t sum = 0;
    memset(out, 0, DW_BULK_HEAD_BYTES);
    memcpy(out, bulk_magic, sizeof bulk_magic);
    memcpy(out + 8, identity, 16);
    for (unsigned i = 0; i < 4; i++) out[24 + i] = (uint8_t)(number >> (8 * i));
    for (unsigned i = 0; i < 4; i++) out[28 + i] = (uint8_t)((uint32_t)DW_STORE_PAGE_BYTES >> (8 * i));
    /* Without memory for the hash the sum is 0: such a head is refused when it is read, and nothing is named in the
     * file. */
    if (dw_store_sum(out, DW_BULK_HEAD_BYTES - 8, &sum) != DW_OK) sum = 0;
    for (unsigned i = 0; i < 8; i++) out[DW_BULK_HEAD_BYTES - 8 + i] = (uint8_t)(sum >> (8 * i));
}

dw_status dw_bulk_head_check(const uint8_t identity[16], uint32_t number, const uint8_t *head, size_t size,
                             dw_error *err) {
    dw_reader reader;
    dw_reader_init(&reader, head, size);
    const uint8_t *magic = dw_read_bytes(&reader, 8), *whose = dw_read_bytes(&reader, 16);
    uint32_t says = dw_read_u32(&reader), page_bytes = dw_read_u32(&reader);
    (void)dw_read_bytes(&reader, DW_BULK_HEAD_BYTES - 8 - 32);
    uint64_t sum = dw_read_u64(&reader), found = 0;
    if (reader.status != DW_OK) return dw_fail(err, DW_E_TRUNCATED, "bulk file %08" PRIx32 " has no head", number);
    if (memcmp(magic, bulk_magic, sizeof bulk_magic) != 0)
        return dw_fail(err, DW_E_FORMAT, "bulk file %08" PRIx32 " is none", number);
    dw_status status = dw_store_sum(head, DW_BULK_HEAD_BYTES - 8, &found);
    if (status != DW_OK) return dw_fail(err, status, "cannot hash a head");
    if (found != sum) return dw_fail(err, DW_E_HASH, "the head of bulk file %08" PRIx32 " is damaged", number);
    if (memcmp(whose, identity, 16) != 0 || says != number || page_bytes != DW_STORE_PAGE_BYTES)
        return dw_fail(err, DW_E_CORRUPT, "bulk file %08" PRIx32 " belongs to another store or number", number);
    return DW_OK;
}

/* --- appending -------------------------------------------------------------------------------------------------- */

dw_status dw_bulk_init(dw_store *store, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    bulk->file = DW_OS_FILE_NONE;
    for (size_t i = 0; i < DW_STORE_FILES_OPEN_MAX; i++) bulk->open[i].file = DW_OS_FILE_NONE;
    bulk->buffer = malloc(DW_BULK_BUFFER_BYTES);
    if (!bulk->buffer) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the buffer of a bulk file");
    return dw_os_mutex_create(&bulk->lock, err);
}

void dw_bulk_deinit(dw_store *store) {
    dw_bulk *bulk = &store->bulk;
    if (!bulk->buffer) return;
    store->disk->close(store->disk->context, &bulk->file);
    for (size_t i = 0; i < DW_STORE_FILES_OPEN_MAX; i++) {
        assert(bulk->open[i].users == 0);
        store->disk->close(store->disk->context, &bulk->open[i].file);
    }
    free(bulk->buffer);
    dw_os_mutex_destroy(bulk->lock);
}

static uint64_t bulk_bytes(uint32_t pages) { return (uint64_t)pages * DW_STORE_PAGE_BYTES; }

static dw_status check_head_of(dw_store *store, dw_os_file file, uint32_t number, dw_error *err) {
    uint8_t head[DW_BULK_HEAD_BYTES];
    dw_status status = store->disk->read_at(store->disk->context, file, 0, head, sizeof head, err);
    return status == DW_OK ? dw_bulk_head_check(store->identity, number, head, sizeof head, err) : status;
}

dw_status dw_bulk_resume(dw_store *store, uint32_t number, uint32_t pages, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    char path[DW_OS_PATH_BYTES];
    dw_os_file file = DW_OS_FILE_NONE;
    uint64_t size = 0;
    dw_bulk_path(store, number, path);
    dw_status status = store->disk->open(store->disk->context, path, DW_OS_READ_WRITE, &file, err);
    if (status == DW_OK) status = store->disk->size(store->disk->context, file, &size, err);
    if (status == DW_OK && (pages == 0 || size < bulk_bytes(pages)))
        status = dw_fail(err, DW_E_TRUNCATED, "%s ends too early", path);
    if (status == DW_OK) status = check_head_of(store, file, number, err);
    if (status == DW_OK && size > bulk_bytes(pages))
        status = store->disk->resize(store->disk->context, file, bulk_bytes(pages), err);
    if (status == DW_OK && bulk_bytes(pages) < store->file_bytes) {
        bulk->number = number;
        bulk->next = bulk->counted = bulk->flushed = pages;
        bulk->file = file;
        return DW_OK;
    }
    store->disk->close(store->disk->context, &file);
    /* A file that is damaged is told by who reads from it. The store goes on in another. */
    if (status == DW_E_NOT_FOUND || dw_status_kind_of(status) == DW_KIND_CORRUPT) status = DW_OK;
    return status;
}

dw_status dw_bulk_begin(dw_store *store, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    /* Pages that are not counted belong to a transaction that failed: the next one of this file counts them. */
    if (bulk->number && (bulk->counted != bulk->next || bulk_bytes(bulk->next) < store->file_bytes)) return DW_OK;
    if (bulk->last_number == UINT32_MAX) return dw_fail(err, DW_E_LIMIT, "the store has no more numbers for files");
    uint32_t number = bulk->last_number + 1;
    uint8_t page[DW_STORE_PAGE_BYTES] = {0};
    char path[DW_OS_PATH_BYTES];
    dw_os_file file;
    dw_bulk_path(store, number, path);
    dw_bulk_head_write(store->identity, number, page);
    dw_status status = store->disk->open(store->disk->context, path, DW_OS_CREATE_TRUNCATE, &file, err);
    if (status != DW_OK) return status;
    status = store->disk->write_at(store->disk->context, file, 0, page, sizeof page, err);
    if (status == DW_OK) {
        status = store->disk->sync_folder(store->disk->context, store->folder, err);
        if (status != DW_OK) atomic_store(&store->poisoned, true);
    }
    if (status != DW_OK) {
        store->disk->close(store->disk->context, &file);
        (void)store->disk->remove(store->disk->context, path, NULL);
        return status;
    }
    store->disk->close(store->disk->context, &bulk->file);
    bulk->last_number = bulk->number = number;
    bulk->next = bulk->flushed = bulk->counted = 1; /* the head is nobody's */
    bulk->file = file;
    bulk->unsynced = true;
    return DW_OK;
}

static dw_status flush_bulk(dw_store *store, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    if (bulk->flushed == bulk->next) return DW_OK;
    size_t size = (size_t)bulk_bytes(bulk->next - bulk->flushed);
    dw_status status =
        store->disk->write_at(store->disk->context, bulk->file, bulk_bytes(bulk->flushed), bulk->buffer, size, err);
    if (status == DW_OK) bulk->flushed = bulk->next;
    return status;
}

dw_status dw_bulk_put(dw_store *store, const void *data, size_t size, uint32_t *file, uint32_t *page, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    uint32_t n = (uint32_t)((size + DW_STORE_PAGE_BYTES - 1) / DW_STORE_PAGE_BYTES);
    size_t padded = (size_t)bulk_bytes(n), used = (size_t)bulk_bytes(bulk->next - bulk->flushed);
    assert(bulk->number && size > 0 && padded <= DW_BULK_BUFFER_BYTES);
    if (bulk->next > BULK_PAGES_MAX - n) return dw_fail(err, DW_E_LIMIT, "a bulk file has too many pages");
    if (used + padded > DW_BULK_BUFFER_BYTES) {
        dw_status status = flush_bulk(store, err);
        if (status != DW_OK) return status;
        used = 0;
    }
    memcpy(bulk->buffer + used, data, size);
    memset(bulk->buffer + used + size, 0, padded - size);
    *file = bulk->number;
    *page = bulk->next;
    bulk->next += n;
    bulk->unsynced = true;
    return DW_OK;
}

dw_status dw_bulk_sync(dw_store *store, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    if (!bulk->unsynced) return DW_OK;
    dw_status status = flush_bulk(store, err);
    if (status != DW_OK) return status;
    status = store->disk->sync(store->disk->context, bulk->file, err);
    atomic_fetch_add(&store->n_syncs, 1);
    if (status != DW_OK) atomic_store(&store->poisoned, true);
    else bulk->unsynced = false;
    return status;
}

void dw_bulk_take_back(dw_store *store, uint32_t next) {
    dw_bulk *bulk = &store->bulk;
    assert(next <= bulk->next && next >= bulk->counted);
    bulk->next = next;
    if (bulk->flushed > next) bulk->flushed = next; /* else the buffer's first pages stay */
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

/* A file to read: *slot is where it stays open, or -1 where all slots are taken and the caller closes it. */
static dw_status take_file(dw_store *store, uint32_t number, dw_os_file *out, int *slot, dw_error *err) {
    dw_bulk *bulk = &store->bulk;
    int empty = -1;
    dw_os_mutex_lock(bulk->lock);
    for (int i = 0; i < (int)DW_STORE_FILES_OPEN_MAX; i++) {
        dw_bulk_open *open = &bulk->open[i];
        if (open->file.fd >= 0 && open->number == number) {
            open->users++;
            open->used = ++bulk->clock;
            *out = open->file;
            *slot = i;
            dw_os_mutex_unlock(bulk->lock);
            return DW_OK;
        }
        if (open->users == 0 && (empty < 0 || open->used < bulk->open[empty].used)) empty = i;
    }
    char path[DW_OS_PATH_BYTES];
    dw_bulk_path(store, number, path);
    dw_status status = store->disk->open(store->disk->context, path, DW_OS_READ_WRITE, out, err);
    if (status == DW_E_NOT_FOUND) status = dw_fail(err, DW_E_CORRUPT, "%s is missing", path);
    if (status == DW_OK) {
        status = check_head_of(store, *out, number, err);
        if (status != DW_OK) store->disk->close(store->disk->context, out);
    }
    *slot = empty;
    if (status == DW_OK && empty >= 0) {
        store->disk->close(store->disk->context, &bulk->open[empty].file);
        bulk->open[empty] = (dw_bulk_open){.number = number, .users = 1, .used = ++bulk->clock, .file = *out};
    }
    dw_os_mutex_unlock(bulk->lock);
    return status;
}

static void give_file(dw_store *store, dw_os_file *file, int slot) {
    dw_os_mutex_lock(store->bulk.lock);
    if (slot < 0) {
        store->disk->close(store->disk->context, file);
    } else {
        assert(store->bulk.open[slot].users > 0);
        store->bulk.open[slot].users--;
    }
    dw_os_mutex_unlock(store->bulk.lock);
}

dw_status dw_bulk_read(dw_store *store, uint32_t file, uint32_t page, void *out, size_t size, dw_error *err) {
    dw_os_file handle;
    int slot;
    dw_status status = take_file(store, file, &handle, &slot, err);
    if (status != DW_OK) return status;
    status = store->disk->read_at(store->disk->context, handle, bulk_bytes(page), out, size, err);
    give_file(store, &handle, slot);
    return status == DW_OK ? DW_OK : dw_error_prefix(err, status, "bulk file %08" PRIx32, file);
}

dw_status dw_bulk_discard(dw_store *store, uint32_t file, uint32_t page, uint32_t n, dw_error *err) {
    dw_os_file handle;
    int slot;
    dw_status status = take_file(store, file, &handle, &slot, err);
    if (status != DW_OK) return status;
    status = store->disk->discard(store->disk->context, handle, bulk_bytes(page), bulk_bytes(n), err);
    give_file(store, &handle, slot);
    return status;
}

dw_status dw_bulk_remove(dw_store *store, uint32_t file, dw_error *err) {
    char path[DW_OS_PATH_BYTES];
    dw_bulk *bulk = &store->bulk;
    dw_os_mutex_lock(bulk->lock);
    for (size_t i = 0; i < DW_STORE_FILES_OPEN_MAX; i++) {
        if (bulk->open[i].number != file || bulk->open[i].file.fd < 0) continue;
        assert(bulk->open[i].users == 0);
        store->disk->close(store->disk->context, &bulk->open[i].file);
    }
    dw_os_mutex_unlock(bulk->lock);
    dw_bulk_path(store, file, path);
    dw_status status = store->disk->remove(store->disk->context, path, err);
    return status == DW_E_NOT_FOUND ? DW_OK : status;
}

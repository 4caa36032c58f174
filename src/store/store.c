/* store.c: opening and closing a store, its transactions, and what it says of itself. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

dw_status dw_store_check_sound(dw_store *store, dw_error *err) {
    if (!atomic_load(&store->poisoned)) return DW_OK;
    return dw_fail(err, DW_E_STATE, "a sync of the store in %s has failed: nothing is written until it is opened again",
                   store->folder);
}

/* --- transactions ------------------------------------------------------------------------------------------------- */

dw_status dw_store_begin(dw_store *store, dw_error *err) {
    dw_status status = dw_store_check_sound(store, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->index_lock);
    (void)dw_vfs_take_failure(store->vfs, NULL); /* an old one, of a call that went well in the end */
    dw_index_use(store, DW_SQL_BEGIN);
    status = dw_index_run(store, DW_SQL_BEGIN, err);
    if (status == DW_OK) store->epoch++;
    else dw_os_mutex_unlock(store->index_lock);
    return status;
}

static dw_status count_bulk(dw_store *store, dw_error *err) {
    const dw_bulk *bulk = &store->bulk;
    if (bulk->counted == bulk->next) return DW_OK;
    sqlite3_stmt *grow = dw_index_use(store, DW_SQL_FILE_GROW);
    (void)sqlite3_bind_int64(grow, 1, bulk->number);
    (void)sqlite3_bind_int64(grow, 2, bulk->next);
    (void)sqlite3_bind_int64(grow, 3, bulk->next - bulk->counted);
    return dw_index_run(store, DW_SQL_FILE_GROW, err);
}

static dw_status note_holes(dw_store *store, const dw_freed *freed, dw_error *err) {
    dw_status status = DW_OK;
    if (freed->failed) return dw_fail(err, DW_E_NO_MEMORY, "no memory to free pages");
    for (size_t i = 0; i < freed->runs.count && status == DW_OK; i++) {
        const dw_freed_run *run = &freed->runs.items[i];
        sqlite3_stmt *add = dw_index_use(store, DW_SQL_HOLE_ADD);
        (void)sqlite3_bind_int64(add, 1, run->file);
        (void)sqlite3_bind_int64(add, 2, run->page);
        (void)sqlite3_bind_int64(add, 3, run->n);
        (void)sqlite3_bind_int64(add, 4, (sqlite3_int64)store->epoch);
        status = dw_index_run(store, DW_SQL_HOLE_ADD, err);
        if (status != DW_OK) break;
        sqlite3_stmt *less = dw_index_use(store, DW_SQL_FILE_FREE);
        (void)sqlite3_bind_int64(less, 1, run->file);
        (void)sqlite3_bind_int64(less, 2, run->n);
        status = dw_index_run(store, DW_SQL_FILE_FREE, err);
    }
    return status;
}

dw_status dw_store_end(dw_store *store, dw_freed *freed, dw_status status, dw_error *err) {
    if (status == DW_OK) status = count_bulk(store, err);
    if (status == DW_OK) status = note_holes(store, &store->spoiled, err);
    dw_freed_join(freed); /* spoiled is not joined: write_group counts its runs */
    if (status == DW_OK) status = note_holes(store, freed, err);
    if (status == DW_OK) {
        dw_index_use(store, DW_SQL_COMMIT);
        status = dw_index_run(store, DW_SQL_COMMIT, err);
    }
    if (status == DW_OK) {
        store->bulk.counted = store->bulk.next;
        store->spoiled.runs.count = 0;
    } else if (!sqlite3_get_autocommit(store->db)) {
        dw_index_use(store, DW_SQL_ROLLBACK);
        /* It only forgets. Where even that fails, nothing can be begun any more. */
        if (dw_index_run(store, DW_SQL_ROLLBACK, NULL) != DW_OK && !sqlite3_get_autocommit(store->db))
            atomic_store(&store->poisoned, true);
    }
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

/* --- opening -------------------------------------------------------------------------------------------------------
 */

static dw_status check_options(const dw_store_options *options, dw_store *store, dw_error *err) {
    store->retention = options && options->retention_turns ? options->retention_turns : DW_STORE_RETENTION_TURNS;
    store->file_bytes = options && options->file_bytes ? options->file_bytes : DW_STORE_FILE_BYTES;
    store->fold_layers = options && options->fold_layers ? options->fold_layers : DW_STORE_FOLD_LAYERS;
    store->log_bytes = options && options->log_bytes ? options->log_bytes : DW_STORE_LOG_BYTES;
    store->disk = options && options->disk ? options->disk : &dw_store_disk_system;
    if (store->retention > DW_STORE_RETENTION_TURNS_MAX)
        return dw_fail(err, DW_E_LIMIT, "a retention of %" PRIu64 " turns is more than %u", store->retention,
                       DW_STORE_RETENTION_TURNS_MAX);
    return DW_OK;
}

/* Makes the folder, durably, and takes its lock. */
static dw_status own_folder(dw_store *store, dw_error *err) {
    char path[DW_OS_PATH_BYTES], index[DW_OS_PATH_BYTES];
    const dw_store_disk *disk = store->disk;
    (void)snprintf(path, sizeof path, "%s/lock", store->folder);
    (void)snprintf(index, sizeof index, "%s/index", store->folder);
    dw_status status = disk->make_folders(disk->context, store->folder, err);
    if (status != DW_OK) return status;
    status = disk->lock(disk->context, path, &store->lock, err);
    if (status == DW_E_BUSY) return dw_fail(err, DW_E_BUSY, "somebody else has the store in %s", store->folder);
    if (status != DW_OK || disk->exists(disk->context, index)) return status;
    /* A new store: the folder's own name. */
    (void)snprintf(path, sizeof path, "%s/..", store->folder);
    return disk->sync_folder(disk->context, path, err);
}

typedef struct found_files {
    DW_VEC(uint32_t) numbers;
    dw_status status;
} found_files;

static bool note_bulk_file(void *context, const char *name) {
    found_files *found = context;
    uint32_t number = dw_bulk_number_of(name);
    if (number == 0) return true;
    found->status = DW_VEC_RESERVE(&found->numbers, 1, DW_VEC_ITEMS_MAX);
    if (found->status == DW_OK) found->numbers.items[found->numbers.count++] = number;
    return found->status == DW_OK;
}

static int number_order(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Walks the files of the index beside those of the folder (both ascending): what the index does not know is removed. */
static dw_status drop_strangers(dw_store *store, const found_files *found, uint32_t *last, uint32_t *last_pages,
                                dw_error *err) {
    size_t at = 0;
    bool row = true;
    dw_status status = DW_OK;
    sqlite3_stmt *files = dw_index_use(store, DW_SQL_FILES);
    while (status == DW_OK && row) {
        status = dw_index_step(store, DW_SQL_FILES, &row, err);
        if (status != DW_OK) break;
        uint32_t known = row ? (uint32_t)sqlite3_column_int64(files, 0) : UINT32_MAX;
        if (row) {
            *last = known;
            *last_pages = (uint32_t)sqlite3_column_int64(files, 1);
        }
        for (; at < found->numbers.count && found->numbers.items[at] < known && status == DW_OK; at++)
            status = dw_bulk_remove(store, found->numbers.items[at], err);
        if (at < found->numbers.count && found->numbers.items[at] == known) at++;
    }
    dw_index_done(store, DW_SQL_FILES);
    return status;
}

static dw_status recover_bulk(dw_store *store, dw_error *err) {
    found_files found = {.status = DW_OK};
    uint32_t last = 0, last_pages = 0;
    dw_status status = store->disk->list(store->disk->context, store->folder, note_bulk_file, &found, err);
    if (status == DW_OK && found.status != DW_OK)
        status = dw_fail(err, found.status, "no memory for the names of bulk files");
    if (found.numbers.count > 1)
        qsort(found.numbers.items, found.numbers.count, sizeof *found.numbers.items, number_order);
    dw_os_mutex_lock(store->index_lock);
    if (status == DW_OK) status = drop_strangers(store, &found, &last, &last_pages, err);
    /* Epochs are of one opening: nobody views what was freed before. */
    dw_index_use(store, DW_SQL_HOLES_AGED);
    if (status == DW_OK) status = dw_index_run(store, DW_SQL_HOLES_AGED, err);
    dw_os_mutex_unlock(store->index_lock);
    DW_VEC_DEINIT(&found.numbers);
    store->bulk.last_number = last;
    if (status == DW_OK && last) status = dw_bulk_resume(store, last, last_pages, err);
    return status;
}

static void free_store(dw_store *store) {
    if (store->index_lock) {
        dw_os_mutex_lock(store->index_lock);
        dw_index_close(store);
        dw_os_mutex_unlock(store->index_lock);
    }
    dw_vfs_destroy(store->vfs);
    dw_bulk_deinit(store);
    dw_freed_deinit(&store->spoiled);
    store->disk->close(store->disk->context, &store->lock);
    dw_os_condition_destroy(store->queue_moved);
    dw_os_mutex_destroy(store->queue_lock);
    dw_os_mutex_destroy(store->index_lock);
    free(store);
}

dw_status dw_store_open(const char *folder, const dw_store_options *options, dw_store **out, dw_error *err) {
    *out = NULL;
    size_t length = strlen(folder);
    dw_store *store = NULL;
    if (length == 0) return dw_fail(err, DW_E_INVALID, "a store without a folder");
    if (length >= sizeof store->folder)
        return dw_fail(err, DW_E_LIMIT, "the store's folder has a name of %zu bytes", length);
    store = calloc(1, sizeof *store);
    if (!store) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a store");
    memcpy(store->folder, folder, length + 1);
    store->lock = DW_OS_FILE_NONE;
    dw_status status = check_options(options, store, err);
    if (status == DW_OK) status = dw_os_mutex_create(&store->index_lock, err);
    if (status == DW_OK) status = dw_os_mutex_create(&store->queue_lock, err);
    if (status == DW_OK) status = dw_os_condition_create(&store->queue_moved, err);
    if (status == DW_OK) status = own_folder(store, err);
    if (status == DW_OK) status = dw_bulk_init(store, err);
    if (status == DW_OK) status = dw_vfs_create(store->disk, store->folder, &store->poisoned, &store->vfs, err);
    if (status == DW_OK) status = dw_index_open(store, err);
    if (status == DW_OK) status = recover_bulk(store, err);
    if (status != DW_OK) {
        free_store(store);
        return status;
    }
    *out = store;
    return DW_OK;
}

dw_status dw_store_close(dw_store *store, dw_error *err) {
    if (!store) return DW_OK;
    assert(!store->views);
    dw_status status = dw_store_flush(store, true, err);
    dw_store_drop_early(store);
    free_store(store);
    return status;
}

/* --- use -----------------------------------------------------------------------------------------------------------
 */

dw_status dw_store_use_now(dw_store *store, dw_store_use *out, dw_error *err) {
    bool row = false;
    *out = (dw_store_use){0};
    dw_os_mutex_lock(store->index_lock);
    sqlite3_stmt *use = dw_index_use(store, DW_SQL_USE);
    dw_status status = dw_index_step(store, DW_SQL_USE, &row, err);
    if (status == DW_OK) {
        uint64_t *const numbers[] = {&out->actors,     &out->layers,     &out->records,      &out->files,
                                     &out->bulk_pages, &out->live_pages, &out->holes_waiting};
        for (int i = 0; i < 7; i++) *numbers[i] = (uint64_t)sqlite3_column_int64(use, i);
    }
    dw_index_done(store, DW_SQL_USE);
    dw_os_mutex_unlock(store->index_lock);
    out->groups = atomic_load(&store->n_groups);
    out->batches = atomic_load(&store->n_batches);
    out->syncs = atomic_load(&store->n_syncs);
    return status;
}

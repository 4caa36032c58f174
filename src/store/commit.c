/* commit.c: batches, and the groups in which they are written.
 *
 * Whoever comes with a batch and finds no leader leads: he takes all that wait, writes their bulk, syncs it, makes one
 * transaction of them, syncs the log, and tells everybody. While he syncs the next group gathers. So there is no thread
 * of the store's own, and one caller alone pays two syncs (one where he has no bulk), a hundred at once the same two.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* What the pages and rows of one change say. */
typedef struct packed_change {
    dw_layer layer;              /* without places, until they are written */
    const void **extent_data;    /* [layer.n_extents] */
} packed_change;

struct dw_batch {
    dw_batch *next;
    const dw_store_change *changes;
    size_t n;
    packed_change *packed;       /* [n] */
    void *copy;                  /* owned: all that the changes point to, where the caller does not wait */
    uint64_t bytes;              /* that it takes in memory while it waits, or of its bulk */
    dw_store_level level;
    bool everything;             /* what waits in memory goes with it */
    bool done;
    uint32_t first_page, end_page; /* of its bulk */
    dw_status status;
    dw_error err;
};

/* --- lists ------------------------------------------------------------------------------------------------------- */

static unsigned bit_of_name(const char *name) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return (hash ^ hash >> 16) % (64 * 64);
}

static bool list_may_name(const dw_batches *list, const char *name) {
    unsigned bit = bit_of_name(name);
    return list->names[bit / 64] >> (bit % 64) & 1;
}

static void append_batch(dw_batches *list, dw_batch *batch) {
    batch->next = NULL;
    if (list->last) list->last->next = batch;
    else list->first = batch;
    list->last = batch;
}

static void note_names(dw_batches *list, const dw_batch *batch) {
    for (size_t i = 0; i < batch->n; i++) {
        unsigned bit = bit_of_name(batch->changes[i].actor);
        list->names[bit / 64] |= UINT64_C(1) << (bit % 64);
        if (batch->changes[i].act != DW_STORE_FORK) continue;
        bit = bit_of_name(batch->changes[i].source);
        list->names[bit / 64] |= UINT64_C(1) << (bit % 64);
    }
}

/* Puts the batches of `from` behind those of `to`. */
static void move_batches(dw_batches *to, dw_batches *from) {
    if (!from->first) return;
    if (to->last) to->last->next = from->first;
    else to->first = from->first;
    to->last = from->last;
    *from = (dw_batches){0};
}

/* --- packing ----------------------------------------------------------------------------------------------------- */

static void unpack_batch(dw_batch *batch) {
    for (size_t i = 0; batch->packed && i < batch->n; i++) {
        dw_layer_deinit(&batch->packed[i].layer);
        free(batch->packed[i].extent_data);
    }
    free(batch->packed);
    batch->packed = NULL;
}

static uint64_t rows_of_extent(const dw_store_rows *rows) { return DW_STORE_EXTENT_BYTES_MAX / rows->row_bytes; }

static dw_status pack_pages(const dw_store_change *change, dw_layer *layer, uint64_t *bulk_bytes) {
    dw_status status = DW_OK;
    for (size_t i = 0; i < change->n_pages && status == DW_OK; i++) {
        const dw_store_page *page = &change->pages[i];
        if (!page->data && change->act == DW_STORE_CREATE) continue; /* there is nothing below that it would hide */
        dw_store_place *place = &layer->pages[layer->n_pages++];
        place->index = (uint32_t)page->index;
        if (!page->data) continue;
        place->file = 1; /* some file: told from zeros */
        status = dw_store_sum(page->data, DW_STORE_PAGE_BYTES, &place->sum);
        *bulk_bytes += DW_STORE_PAGE_BYTES;
    }
    return status;
}

static dw_status pack_session(const dw_store_rows *rows, packed_change *packed, uint64_t *bulk_bytes) {
    dw_layer *layer = &packed->layer;
    dw_status status = DW_OK;
    layer->cuts[layer->n_cuts++] = (dw_layer_cut){rows->session, rows->first};
    for (uint64_t done = 0; done < rows->n && status == DW_OK;) {
        uint32_t n = (uint32_t)dw_min_u64(rows->n - done, rows_of_extent(rows));
        const uint8_t *data = (const uint8_t *)rows->data + done * rows->row_bytes;
        dw_layer_extent *extent = &layer->extents[layer->n_extents];
        *extent = (dw_layer_extent){.session = rows->session,
                                    .first_row = rows->first + done,
                                    .n_rows = n,
                                    .stored_rows = n,
                                    .row_bytes = rows->row_bytes};
        packed->extent_data[layer->n_extents++] = data;
        status = dw_store_sum(data, (size_t)n * rows->row_bytes, &extent->sum);
        *bulk_bytes += (uint64_t)dw_extent_pages(extent) * DW_STORE_PAGE_BYTES;
        done += n;
    }
    return status;
}

static int rows_order(const void *a, const void *b) {
    uint64_t x = (*(const dw_store_rows *const *)a)->session, y = (*(const dw_store_rows *const *)b)->session;
    return (x > y) - (x < y);
}

static dw_status pack_change(const dw_store_change *change, packed_change *packed, uint64_t *bulk_bytes,
                             dw_error *err) {
    const dw_store_rows *rows[DW_STORE_SESSIONS_MAX];
    size_t n_extents = 0;
    for (size_t i = 0; i < change->n_rows; i++) {
        rows[i] = &change->rows[i];
        if (rows[i]->n) n_extents += (size_t)((rows[i]->n + rows_of_extent(rows[i]) - 1) / rows_of_extent(rows[i]));
    }
    dw_layer *layer = &packed->layer;
    if (change->n_pages && !(layer->pages = calloc(change->n_pages, sizeof *layer->pages))) goto no_memory;
    if (change->n_rows && !(layer->cuts = calloc(change->n_rows, sizeof *layer->cuts))) goto no_memory;
    if (n_extents && !(layer->extents = calloc(n_extents, sizeof *layer->extents))) goto no_memory;
    if (n_extents && !(packed->extent_data = calloc(n_extents, sizeof *packed->extent_data))) goto no_memory;
    if (change->n_rows > 1) qsort(rows, change->n_rows, sizeof *rows, rows_order);
    dw_status status = pack_pages(change, layer, bulk_bytes);
    for (size_t i = 0; i < change->n_rows && status == DW_OK; i++) status = pack_session(rows[i], packed, bulk_bytes);
    if (status == DW_OK) return DW_OK;
no_memory:
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for a change of %s", change->actor);
}

static dw_status pack_batch(dw_batch *batch, dw_error *err) {
    dw_status status = DW_OK;
    if (batch->n > DW_STORE_CHANGES_MAX) return dw_fail(err, DW_E_LIMIT, "a batch of %zu changes", batch->n);
    for (size_t i = 0; i < batch->n && status == DW_OK; i++) {
        status = dw_store_check_change(&batch->changes[i], err);
        if (status != DW_OK) return dw_error_prefix(err, status, "change %zu", i);
    }
    batch->packed = calloc(batch->n ? batch->n : 1, sizeof *batch->packed);
    if (!batch->packed) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu changes", batch->n);
    uint64_t bulk_bytes = 0;
    for (size_t i = 0; i < batch->n && status == DW_OK; i++)
        status = pack_change(&batch->changes[i], &batch->packed[i], &bulk_bytes, err);
    batch->bytes += bulk_bytes;
    if (status != DW_OK) unpack_batch(batch);
    return status;
}

/* --- copies of what nobody waits for ------------------------------------------------------------------------------ */

/* Hands out parts of one block; without a block it only counts. */
typedef struct copy_space { uint8_t *block; size_t used; } copy_space;

static const void *copy_in(copy_space *space, const void *data, size_t size) {
    if (!data) return NULL;
    uint8_t *at = space->block ? space->block + space->used : NULL;
    space->used += (size + 15) & ~(size_t)15;
    if (at && size) memcpy(at, data, size);
    return at;
}

static void copy_change(copy_space *space, const dw_store_change *change, dw_store_change *out) {
    dw_store_change copy = *change;
    copy.actor = copy_in(space, change->actor, strlen(change->actor) + 1);
    if (change->act == DW_STORE_FORK) copy.source = copy_in(space, change->source, strlen(change->source) + 1);
    copy.state = copy_in(space, change->state, change->state_bytes);
    dw_store_page *pages = (dw_store_page *)(uintptr_t)copy_in(space, change->pages, change->n_pages * sizeof *pages);
    for (size_t i = 0; i < change->n_pages; i++) {
        const void *data = copy_in(space, change->pages[i].data, DW_STORE_PAGE_BYTES);
        if (pages) pages[i].data = data;
    }
    dw_store_rows *rows = (dw_store_rows *)(uintptr_t)copy_in(space, change->rows, change->n_rows * sizeof *rows);
    for (size_t i = 0; i < change->n_rows; i++) {
        const void *data =
            copy_in(space, change->rows[i].data, (size_t)(change->rows[i].n * change->rows[i].row_bytes));
        if (rows) rows[i].data = data;
    }
    dw_store_record *records =
        (dw_store_record *)(uintptr_t)copy_in(space, change->records, change->n_records * sizeof *records);
    for (size_t i = 0; i < change->n_records; i++) {
        const void *data = copy_in(space, change->records[i].data, change->records[i].size);
        if (records) records[i].data = data;
    }
    copy.pages = pages;
    copy.rows = rows;
    copy.records = records;
    if (out) *out = copy;
}

static void copy_changes(copy_space *space, const dw_store_change *changes, size_t n) {
    size_t bytes = n * sizeof *changes;
    dw_store_change *out = space->block ? (dw_store_change *)(void *)space->block : NULL;
    space->used = (bytes + 15) & ~(size_t)15;
    for (size_t i = 0; i < n; i++) copy_change(space, &changes[i], out ? &out[i] : NULL);
}

static dw_status copy_batch(const dw_store_change *changes, size_t n, dw_batch **out, dw_error *err) {
    copy_space space = {0};
    *out = NULL;
    copy_changes(&space, changes, n);
    size_t size = space.used;
    dw_batch *batch = calloc(1, sizeof *batch);
    space.block = batch ? malloc(size ? size : 1) : NULL;
    if (!space.block) {
        free(batch);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu bytes that wait", size);
    }
    copy_changes(&space, changes, n);
    assert(space.used == size);
    batch->copy = space.block;
    batch->changes = (const dw_store_change *)batch->copy;
    batch->n = n;
    batch->bytes = size;
    *out = batch;
    return DW_OK;
}

static void free_early_batch(dw_batch *batch) {
    unpack_batch(batch);
    free(batch->copy);
    free(batch);
}

static void free_early_list(dw_batches *list) {
    for (dw_batch *batch = list->first, *next; batch; batch = next) {
        next = batch->next;
        free_early_batch(batch);
    }
    *list = (dw_batches){0};
}

void dw_store_drop_early(dw_store *store) {
    free_early_list(&store->interval);
    free_early_list(&store->memory);
}

/* --- a group ------------------------------------------------------------------------------------------------------ */

static dw_status put_batch(dw_store *store, dw_batch *batch, dw_error *err) {
    dw_status status = DW_OK;
    batch->first_page = store->bulk.next;
    for (size_t i = 0; i < batch->n; i++) {
        const dw_store_change *change = &batch->changes[i];
        packed_change *packed = &batch->packed[i];
        dw_layer *layer = &packed->layer;
        size_t at = 0;
        for (size_t k = 0; k < layer->n_pages && status == DW_OK; k++) {
            if (!layer->pages[k].file) continue;
            while (change->pages[at].index != layer->pages[k].index) at++;
            status = dw_bulk_put(store, change->pages[at].data, DW_STORE_PAGE_BYTES, &layer->pages[k].file,
                                 &layer->pages[k].page, err);
        }
        for (size_t k = 0; k < layer->n_extents && status == DW_OK; k++) {
            dw_layer_extent *extent = &layer->extents[k];
            status = dw_bulk_put(store, packed->extent_data[k], (size_t)extent->stored_rows * extent->row_bytes,
                                 &extent->file, &extent->page, err);
        }
        if (status != DW_OK) return status;
    }
    batch->end_page = store->bulk.next;
    return status;
}

static bool batch_has_bulk(const dw_batch *batch) {
    for (size_t i = 0; i < batch->n; i++) {
        const dw_layer *layer = &batch->packed[i].layer;
        if (layer->n_extents) return true;
        for (size_t k = 0; k < layer->n_pages; k++)
            if (layer->pages[k].file) return true;
    }
    return false;
}

/* Writes and syncs the bulk of all. A failure leaves the append file as it was. */
static dw_status put_group(dw_store *store, dw_batch *first, uint32_t *start, dw_error *err) {
    bool has_bulk = false;
    size_t n = 1;
    for (dw_batch *batch = first; batch; batch = batch->next, n++) has_bulk = has_bulk || batch_has_bulk(batch);
    *start = store->bulk.next;
    if (!has_bulk) return DW_OK;
    if (!dw_freed_reserve(&store->spoiled, n)) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a group");
    dw_status status = dw_bulk_begin(store, err);
    if (status != DW_OK) return status;
    *start = store->bulk.next;
    for (dw_batch *batch = first; batch && status == DW_OK; batch = batch->next) status = put_batch(store, batch, err);
    if (status == DW_OK) status = dw_bulk_sync(store, err);
    if (status != DW_OK) dw_bulk_take_back(store, *start);
    return status;
}

/* One batch in the group's transaction. A refusal concerns it alone, and is noted in it; what is returned concerns all.
 */
static dw_status apply_batch(dw_store *store, dw_batch *batch, dw_freed *freed, dw_error *err) {
    /* One turn, or records, look at everything before they write (apply.c). */
    bool saved = batch->n > 1 || (batch->n == 1 && batch->changes[0].act >= DW_STORE_FORK);
    size_t freed_before = freed->runs.count;
    dw_status status = saved ? dw_index_run(store, DW_SQL_SAVE, err) : DW_OK;
    if (status != DW_OK) return status;
    for (size_t i = 0; i < batch->n && status == DW_OK; i++) {
        status = dw_store_apply(store, &batch->changes[i], &batch->packed[i].layer, freed, &batch->err);
        if (status != DW_OK) (void)dw_error_prefix(&batch->err, status, "change %zu", i);
    }
    bool own = dw_status_kind_of(status) == DW_KIND_REFUSED || (dw_status_kind_of(status) == DW_KIND_CORRUPT && saved);
    if (status != DW_OK && (!own || sqlite3_get_autocommit(store->db))) {
        if (err) *err = batch->err;
        return status;
    }
    batch->status = status;
    if (status != DW_OK) {
        freed->runs.count = freed_before;
        /* Was reserved: put_group. Without bulk it has no pages. */
        if (batch->end_page > batch->first_page)
            dw_freed_add(&store->spoiled, store->bulk.number, batch->first_page, batch->end_page - batch->first_page);
        if (!saved) return DW_OK;
        status = dw_index_run(store, DW_SQL_UNDO, err);
        if (status != DW_OK) return status;
    }
    return saved ? dw_index_run(store, DW_SQL_SAVED, err) : DW_OK;
}

/* All batches, or none of them: what is returned is then everybody's status. */
static dw_status write_group(dw_store *store, dw_batch *first, dw_error *err) {
    dw_freed freed = {0};
    uint32_t start = 0;
    bool empty = true;
    for (dw_batch *batch = first; batch; batch = batch->next) empty = empty && batch->n == 0;
    dw_status status = dw_store_check_sound(store, err);
    if (status != DW_OK || empty) return status;
    status = put_group(store, first, &start, err);
    if (status != DW_OK) return status;
    size_t spoiled_before = store->spoiled.runs.count;
    status = dw_store_begin(store, err);
    if (status == DW_OK) {
        for (dw_batch *batch = first; batch && status == DW_OK; batch = batch->next)
            status = apply_batch(store, batch, &freed, err);
        status = dw_store_end(store, &freed, status, err);
    }
    dw_freed_deinit(&freed);
    if (status != DW_OK) {
        /* The pages may be named by what SQLite has written of this transaction and a crash could bring back: they are
         * not written again. The next transaction counts them, and gives them back. */
        store->spoiled.runs.count = spoiled_before;
        dw_freed_add(&store->spoiled, store->bulk.number, start, store->bulk.next - start);
        return status;
    }
    status = dw_vfs_sync_log(store->vfs, err);
    atomic_fetch_add(&store->n_syncs, 1);
    atomic_fetch_add(&store->n_groups, 1);
    return status;
}

/* --- leading ------------------------------------------------------------------------------------------------------ */

void dw_store_lead(dw_store *store) {
    dw_os_mutex_lock(store->queue_lock);
    while (store->leading) dw_os_condition_wait(store->queue_moved, store->queue_lock);
    store->leading = true;
    dw_os_mutex_unlock(store->queue_lock);
}

void dw_store_lead_no_more(dw_store *store) {
    dw_os_mutex_lock(store->queue_lock);
    store->leading = false;
    dw_os_condition_broadcast(store->queue_moved);
    dw_os_mutex_unlock(store->queue_lock);
}

/* Early batches first: they were acknowledged before the others came. queue_lock is held. */
static dw_batches take_group(dw_store *store) {
    dw_batches group = {0}, late = {0};
    uint64_t bytes = 0;
    bool everything = false;
    while (store->waiting.first) {
        dw_batch *batch = store->waiting.first;
        if (late.first && bytes + batch->bytes > DW_STORE_GROUP_BYTES_MAX) break;
        store->waiting.first = batch->next;
        if (!batch->next) store->waiting.last = NULL;
        bytes += batch->bytes;
        everything = everything || batch->everything;
        append_batch(&late, batch);
    }
    /* An actor's turns stay in order when it goes from one level to another: a batch of another level asks for
     * everything. */
    for (size_t i = 0; i < 64; i++)
        store->flying[i] = store->interval.names[i] | (everything ? store->memory.names[i] : 0);
    if (everything) move_batches(&group, &store->memory);
    move_batches(&group, &store->interval);
    move_batches(&group, &late);
    return group;
}

/* Puts the batches of `again` before those of `list`. */
static void go_before(dw_batches *list, dw_batches *again) {
    for (size_t i = 0; i < 64; i++) again->names[i] |= list->names[i];
    move_batches(again, list);
    *list = *again;
}

/* Tells everybody. Early batches that were not written wait on. queue_lock is held. */
static void settle_group(dw_store *store, dw_batches *group, dw_status status, const dw_error *err) {
    dw_batches again_interval = {0}, again_memory = {0};
    for (dw_batch *batch = group->first, *next; batch; batch = next) {
        next = batch->next;
        bool early = batch->copy != NULL;
        if (status != DW_OK) {
            batch->status = status;
            batch->err = *err;
        } else {
            atomic_fetch_add(&store->n_batches, batch->n > 0);
        }
        if (!early) {
            batch->done = true; /* its caller goes on, and it is his */
        } else if (status != DW_OK) {
            dw_batches *again = batch->level == DW_STORE_LEVEL_MEMORY ? &again_memory : &again_interval;
            append_batch(again, batch);
            note_names(again, batch);
        } else {
            if (batch->status != DW_OK && store->early_failure.status == DW_OK) store->early_failure = batch->err;
            store->early_bytes -= batch->bytes;
            free_early_batch(batch);
        }
    }
    go_before(&store->interval, &again_interval);
    go_before(&store->memory, &again_memory);
    memset(store->flying, 0, sizeof store->flying);
    dw_os_condition_broadcast(store->queue_moved);
}

/* After a group: what would make later ones slow. Nobody waits for it, so a failure is only logged; if it was a sync's,
 * the next commit refuses. */
static void leave_in_order(dw_store *store) {
    dw_error err;
    dw_status status = DW_OK;
    if (dw_vfs_log_bytes(store->vfs) > store->log_bytes && !atomic_load(&store->poisoned)) {
        dw_os_mutex_lock(store->index_lock);
        status = dw_index_checkpoint(store, &err);
        dw_os_mutex_unlock(store->index_lock);
    }
    if (status == DW_OK && store->grown[0]) status = dw_store_fold(store, store->grown, &err);
    store->grown[0] = '\0';
    if (status != DW_OK) dw_log(DW_LOG_WARN, "store", "status=%s error=\"%s\"", dw_status_name(status), err.text);
}

/* Puts a batch in the queue, and leads until it is done. */
static dw_status queue_batch(dw_store *store, dw_batch *batch, dw_error *err) {
    dw_os_mutex_lock(store->queue_lock);
    for (size_t i = 0; i < batch->n && !batch->everything; i++) {
        const dw_store_change *change = &batch->changes[i];
        batch->everything = list_may_name(&store->memory, change->actor) ||
                            (change->act == DW_STORE_FORK && list_may_name(&store->memory, change->source));
    }
    append_batch(&store->waiting, batch);
    while (!batch->done) {
        if (store->leading) {
            dw_os_condition_wait(store->queue_moved, store->queue_lock);
            continue;
        }
        store->leading = true;
        dw_batches group = take_group(store);
        dw_os_mutex_unlock(store->queue_lock);
        dw_error failure = {0};
        dw_status status = write_group(store, group.first, &failure);
        dw_os_mutex_lock(store->queue_lock);
        settle_group(store, &group, status, &failure);
        dw_os_mutex_unlock(store->queue_lock);
        leave_in_order(store);
        dw_store_lead_no_more(store);
        dw_os_mutex_lock(store->queue_lock);
    }
    dw_os_mutex_unlock(store->queue_lock);
    if (batch->status != DW_OK && err) *err = batch->err;
    return batch->status;
}

/* --- the doors ---------------------------------------------------------------------------------------------------- */

static dw_status commit_early(dw_store *store, const dw_store_change *changes, size_t n, dw_store_level level,
                              dw_error *err) {
    dw_batch *batch = NULL;
    dw_status status = dw_store_check_sound(store, err);
    /* Before they are copied: what they point to must make sense. */
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        status = dw_store_check_change(&changes[i], err);
        if (status != DW_OK) return dw_error_prefix(err, status, "change %zu", i);
    }
    if (status == DW_OK) status = copy_batch(changes, n, &batch, err);
    if (status != DW_OK) return status;
    batch->level = level;
    status = pack_batch(batch, err);
    dw_os_mutex_lock(store->queue_lock);
    bool full = store->early_bytes + batch->bytes > DW_STORE_WAITING_BYTES_MAX;
    /* What of this actor waits at the other level goes first. */
    dw_batches *other = level == DW_STORE_LEVEL_MEMORY ? &store->interval : &store->memory;
    for (size_t i = 0; i < n && !full; i++) full = list_may_name(other, changes[i].actor);
    dw_os_mutex_unlock(store->queue_lock);
    if (status == DW_OK && full) status = dw_store_flush(store, true, err);
    if (status != DW_OK) {
        free_early_batch(batch);
        return status;
    }
    dw_os_mutex_lock(store->queue_lock);
    dw_batches *list = level == DW_STORE_LEVEL_MEMORY ? &store->memory : &store->interval;
    append_batch(list, batch);
    note_names(list, batch);
    store->early_bytes += batch->bytes;
    dw_os_mutex_unlock(store->queue_lock);
    return DW_OK;
}

dw_status dw_store_commit(dw_store *store, const dw_store_change *changes, size_t n, dw_store_level level,
                          dw_error *err) {
    if (n == 0) return DW_OK;
    if (level != DW_STORE_LEVEL_TURN) return commit_early(store, changes, n, level, err);
    dw_batch batch = {.changes = changes, .n = n, .level = level};
    dw_status status = pack_batch(&batch, err);
    if (status == DW_OK) status = queue_batch(store, &batch, err);
    unpack_batch(&batch);
    return status;
}

dw_status dw_store_flush(dw_store *store, bool everything, dw_error *err) {
    dw_batch batch = {.everything = everything};
    dw_status status = queue_batch(store, &batch, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->queue_lock);
    status = store->early_failure.status;
    if (status != DW_OK && err) *err = store->early_failure;
    store->early_failure.status = DW_OK;
    dw_os_mutex_unlock(store->queue_lock);
    return status;
}

dw_status dw_store_settle(dw_store *store, const char *actor, dw_error *err) {
    dw_os_mutex_lock(store->queue_lock);
    unsigned bit = bit_of_name(actor);
    bool waits = list_may_name(&store->interval, actor) || list_may_name(&store->memory, actor) ||
                 (store->flying[bit / 64] >> (bit % 64) & 1);
    dw_os_mutex_unlock(store->queue_lock);
    return waits ? dw_store_flush(store, true, err) : DW_OK;
}

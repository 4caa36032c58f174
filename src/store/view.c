/* view.c: reading what was committed: an actor at a turn, and lists. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* --- views ---------------------------------------------------------------------------------------------------------
 */

/* State and sessions of the layer that LAYER_GET stands on. */
static dw_status copy_head(dw_store *store, dw_store_view *view, dw_error *err) {
    sqlite3_stmt *get = store->statements[DW_SQL_LAYER_GET];
    uint64_t wanted = (uint64_t)sqlite3_column_int64(get, 6), sum = 0;
    dw_status status = dw_sessions_decode(sqlite3_column_blob(get, 5), (size_t)sqlite3_column_bytes(get, 5),
                                          &view->sessions, &view->n_sessions, err);
    if (status != DW_OK) return status;
    const void *state = sqlite3_column_blob(get, 7);
    view->state_bytes = (size_t)sqlite3_column_bytes(get, 7);
    view->state = malloc(view->state_bytes ? view->state_bytes : 1);
    if (!view->state || (view->state_bytes && !state)) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a state");
    if (view->state_bytes) memcpy(view->state, state, view->state_bytes);
    status = dw_store_sum(view->state, view->state_bytes, &sum);
    if (status != DW_OK) return dw_fail(err, status, "cannot hash a state");
    return sum == wanted
               ? DW_OK
               : dw_fail(err, DW_E_HASH, "the checksum of the state of turn %" PRIu64 " does not match", view->turn);
}

static dw_status read_head(dw_store *store, uint64_t id, dw_store_view *view, dw_error *err) {
    bool row = false;
    sqlite3_stmt *get = dw_index_use(store, DW_SQL_LAYER_GET);
    (void)sqlite3_bind_int64(get, 1, (sqlite3_int64)id);
    dw_status status = dw_index_step(store, DW_SQL_LAYER_GET, &row, err);
    if (status != DW_OK) return status;
    status = row ? copy_head(store, view, err) : dw_fail(err, DW_E_CORRUPT, "index: layer %" PRIu64 " is missing", id);
    dw_index_done(store, DW_SQL_LAYER_GET);
    return status;
}

/* The totals that were written beside the layers, and what the layers add up to. */
static dw_status check_view_sessions(const dw_store_view *view, dw_error *err) {
    size_t at = 0;
    for (size_t i = 0; i < view->n_sessions; i++) {
        const dw_store_session *session = &view->sessions[i];
        uint64_t rows = 0;
        for (; at < view->sum.n_extents && view->sum.extents[at].session == session->session; at++) {
            const dw_layer_extent *extent = &view->sum.extents[at];
            if (extent->row_bytes != session->row_bytes) break;
            rows = extent->first_row + extent->n_rows;
        }
        if (rows != session->n_rows)
            return dw_fail(err, DW_E_CORRUPT, "session %" PRIu64 " has %" PRIu64 " rows, not %" PRIu64,
                           session->session, rows, session->n_rows);
    }
    return at == view->sum.n_extents ? DW_OK : dw_fail(err, DW_E_CORRUPT, "rows of a session that is not there");
}

dw_status dw_store_resolve(dw_store *store, const char *actor, uint64_t turn, dw_store_view *view, dw_error *err) {
    dw_store_actor head;
    dw_layer_row row;
    dw_layer older = {0}, merged = {0};
    dw_status status = dw_index_actor(store, actor, &head, err);
    if (status == DW_OK) status = dw_index_layer_of_turn(store, actor, &head, turn, &row, err);
    if (status == DW_OK && turn == DW_STORE_LATEST && row.turn != head.turn)
        status = dw_fail(err, DW_E_CORRUPT, "index: it is at turn %" PRIu64 ", and its layer at %" PRIu64, head.turn,
                         row.turn);
    if (status != DW_OK) return status;
    view->turn = row.turn;
    status = read_head(store, row.id, view, err);
    /* A layer that says nothing, so that a root alone is looked at as one too. From the newest to the oldest: what is
     * merged again and again is the small end. */
    for (uint64_t id = row.id; id && status == DW_OK; id = row.parent) {
        status = dw_index_layer_body(store, id, &row, &older, err);
        if (status == DW_OK) status = dw_layer_merge(&older, &view->sum, row.parent == 0, &merged, NULL, err);
        dw_layer_deinit(&older);
        if (status != DW_OK) break;
        dw_layer_deinit(&view->sum);
        view->sum = merged;
    }
    return status == DW_OK ? check_view_sessions(view, err) : status;
}

void dw_store_view_free_content(dw_store_view *view) {
    dw_layer_deinit(&view->sum);
    free(view->sessions);
    free(view->state);
    free(view->extent);
}

dw_status dw_store_view_open(dw_store *store, const char *actor, uint64_t turn, dw_store_view **out, dw_error *err) {
    *out = NULL;
    dw_status status = dw_store_settle(store, actor, err);
    if (status != DW_OK) return status;
    dw_store_view *view = calloc(1, sizeof *view);
    if (!view) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a view");
    view->store = store;
    dw_os_mutex_lock(store->index_lock);
    status = dw_store_resolve(store, actor, turn, view, err);
    if (status == DW_OK) {
        view->epoch = store->epoch;
        view->next = store->views;
        if (view->next) view->next->previous = view;
        store->views = view;
    }
    dw_os_mutex_unlock(store->index_lock);
    if (status != DW_OK) {
        dw_store_view_free_content(view);
        free(view);
        return dw_error_prefix(err, status, "%s", actor);
    }
    *out = view;
    return DW_OK;
}

void dw_store_view_close(dw_store_view *view) {
    if (!view) return;
    dw_store *store = view->store;
    dw_os_mutex_lock(store->index_lock);
    if (view->previous) view->previous->next = view->next;
    else store->views = view->next;
    if (view->next) view->next->previous = view->previous;
    dw_os_mutex_unlock(store->index_lock);
    dw_store_view_free_content(view);
    free(view);
}

uint64_t dw_store_oldest_view(const dw_store *store) {
    assert(dw_os_mutex_held(store->index_lock));
    uint64_t oldest = UINT64_MAX;
    for (const dw_store_view *view = store->views; view; view = view->next) oldest = dw_min_u64(oldest, view->epoch);
    return oldest;
}

uint64_t dw_store_view_turn(const dw_store_view *view) { return view->turn; }

const void *dw_store_view_state(const dw_store_view *view, size_t *size) {
    *size = view->state_bytes;
    return view->state;
}

size_t dw_store_view_pages(const dw_store_view *view, const dw_store_place **out) {
    *out = view->sum.pages;
    return view->sum.n_pages;
}

size_t dw_store_view_sessions(const dw_store_view *view, const dw_store_session **out) {
    *out = view->sessions;
    return view->n_sessions;
}

/* The first entry whose index is not below `index`. */
static size_t find_page(const dw_layer *layer, uint64_t index) {
    size_t low = 0, high = layer->n_pages;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (layer->pages[middle].index < index) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Reads n pages that lie side by side, in memory and on disk, and checks each. */
static dw_status read_run(dw_store_view *view, const dw_store_place *pages, size_t n, uint8_t *out, dw_error *err) {
    dw_status status = dw_bulk_read(view->store, pages->file, pages->page, out, n * DW_STORE_PAGE_BYTES, err);
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        uint64_t sum;
        status = dw_store_sum(out + i * DW_STORE_PAGE_BYTES, DW_STORE_PAGE_BYTES, &sum);
        if (status != DW_OK) return dw_fail(err, status, "cannot hash a page");
        if (sum != pages[i].sum)
            status = dw_fail(err, DW_E_HASH, "page %u, in bulk file %08" PRIx32 " at page %u, is not what was written",
                             pages[i].index, pages[i].file, pages[i].page);
    }
    return status;
}

dw_status dw_store_view_read_pages(dw_store_view *view, uint64_t first, uint64_t n, void *out, dw_error *err) {
    uint8_t *to = out;
    if (!dw_in_range(first, n, DW_STORE_PAGES_MAX))
        return dw_fail(err, DW_E_RANGE, "pages %" PRIu64 " to %" PRIu64, first, first + n);
    const dw_store_place *pages = view->sum.pages;
    size_t at = find_page(&view->sum, first), end = find_page(&view->sum, first + n);
    uint64_t next = first;
    dw_status status = DW_OK;
    while (at < end && status == DW_OK) {
        size_t run = 1;
        while (at + run < end && pages[at + run].index == pages[at].index + run &&
               pages[at + run].file == pages[at].file && pages[at + run].page == pages[at].page + run)
            run++;
        memset(to + (next - first) * DW_STORE_PAGE_BYTES, 0, (size_t)(pages[at].index - next) * DW_STORE_PAGE_BYTES);
        status = read_run(view, &pages[at], run, to + (pages[at].index - first) * DW_STORE_PAGE_BYTES, err);
        next = (uint64_t)pages[at].index + run;
        at += run;
    }
    if (status == DW_OK)
        memset(to + (next - first) * DW_STORE_PAGE_BYTES, 0, (size_t)(first + n - next) * DW_STORE_PAGE_BYTES);
    return status;
}

dw_status dw_store_view_read_page(dw_store_view *view, uint64_t index, void *out, dw_error *err) {
    return dw_store_view_read_pages(view, index, 1, out, err);
}

/* Reads an extent, whole, and checks it. */
static dw_status read_extent(dw_store_view *view, const dw_layer_extent *extent, uint8_t *out, dw_error *err) {
    size_t size = (size_t)extent->stored_rows * extent->row_bytes;
    uint64_t sum;
    dw_status status = dw_bulk_read(view->store, extent->file, extent->page, out, size, err);
    if (status != DW_OK) return status;
    status = dw_store_sum(out, size, &sum);
    if (status != DW_OK) return dw_fail(err, status, "cannot hash rows");
    if (sum == extent->sum) return DW_OK;
    return dw_fail(err, DW_E_HASH,
                   "rows from %" PRIu64 " on of session %" PRIu64 ", in bulk file %08" PRIx32
                   " at page %u, are not what was written",
                   extent->first_row, extent->session, extent->file, extent->page);
}

dw_status dw_store_view_read_rows(dw_store_view *view, uint64_t session, uint64_t first, uint64_t n, void *out,
                                  dw_error *err) {
    const dw_store_session *of = NULL;
    for (size_t i = 0; i < view->n_sessions; i++)
        if (view->sessions[i].session == session) of = &view->sessions[i];
    if (!dw_in_range(first, n, of ? of->n_rows : 0))
        return dw_fail(err, DW_E_RANGE, "session %" PRIu64 " has %" PRIu64 " rows", session, of ? of->n_rows : 0);
    if (n == 0) return DW_OK;
    uint8_t *to = out;
    uint64_t end = first + n;
    dw_status status = DW_OK;
    for (size_t i = 0; i < view->sum.n_extents && status == DW_OK; i++) {
        const dw_layer_extent *extent = &view->sum.extents[i];
        uint64_t extent_end = extent->first_row + extent->n_rows;
        if (extent->session != session || extent_end <= first || extent->first_row >= end) continue;
        uint64_t from = dw_max_u64(first, extent->first_row), until = dw_min_u64(end, extent_end);
        uint8_t *at = to + (from - first) * of->row_bytes;
        if (from == extent->first_row && until - from == extent->stored_rows) {
            status = read_extent(view, extent, at, err);
            continue;
        }
        if (!view->extent && !(view->extent = malloc(DW_STORE_EXTENT_BYTES_MAX)))
            return dw_fail(err, DW_E_NO_MEMORY, "no memory for rows");
        status = read_extent(view, extent, view->extent, err);
        if (status == DW_OK)
            memcpy(at, view->extent + (from - extent->first_row) * extent->row_bytes,
                   (size_t)(until - from) * extent->row_bytes);
    }
    return status;
}

/* --- lists ---------------------------------------------------------------------------------------------------------
 */

dw_status dw_store_actors(dw_store *store, dw_store_each_actor each, void *context, dw_error *err) {
    bool row = true;
    dw_status status = dw_store_flush(store, true, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->index_lock);
    sqlite3_stmt *actors = dw_index_use(store, DW_SQL_ACTORS);
    while (row) {
        status = dw_index_step(store, DW_SQL_ACTORS, &row, err);
        if (status != DW_OK || !row) break;
        const char *name = (const char *)sqlite3_column_text(actors, 0);
        if (!name) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a name");
        if (!name || !each(context, name, (uint64_t)sqlite3_column_int64(actors, 1))) break;
    }
    dw_index_done(store, DW_SQL_ACTORS);
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

dw_status dw_store_records(dw_store *store, const char *actor, uint32_t kind, uint64_t from, dw_store_each_record each,
                           void *context, dw_error *err) {
    dw_store_actor of;
    bool row = true;
    dw_status status = dw_store_settle(store, actor, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->index_lock);
    status = dw_index_actor(store, actor, &of, err);
    sqlite3_stmt *records = dw_index_use(store, DW_SQL_RECORDS);
    (void)sqlite3_bind_int64(records, 1, of.id);
    (void)sqlite3_bind_int64(records, 2, kind);
    (void)sqlite3_bind_int64(records, 3, (sqlite3_int64)dw_min_u64(from, INT64_MAX));
    while (status == DW_OK && row) {
        status = dw_index_step(store, DW_SQL_RECORDS, &row, err);
        if (status != DW_OK || !row) break;
        const void *data = sqlite3_column_blob(records, 1);
        size_t size = (size_t)sqlite3_column_bytes(records, 1);
        if (!each(context, (uint64_t)sqlite3_column_int64(records, 0), data ? data : "", size)) break;
    }
    dw_index_done(store, DW_SQL_RECORDS);
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

dw_status dw_store_history(dw_store *store, const char *actor, dw_store_each_turn each, void *context, dw_error *err) {
    dw_store_actor of;
    dw_layer_rows chain = {.count = 0};
    dw_status status = dw_store_settle(store, actor, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->index_lock);
    status = dw_index_actor(store, actor, &of, err);
    if (status == DW_OK) status = dw_store_chain(store, of.head, &chain, err);
    dw_os_mutex_unlock(store->index_lock);
    for (size_t i = 0; i < chain.count && status == DW_OK; i++)
        if (!each(context, chain.items[i].turn, chain.items[i].id)) break;
    DW_VEC_DEINIT(&chain);
    return status;
}

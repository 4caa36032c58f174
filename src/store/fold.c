/* fold.c: making few layers of many, and giving back what nobody names.
 *
 * A layer whose parent has it as its only child, and whose parent's turn is out of the retention, takes the parent in.
 * Which of them do follows the sizes, so that each entry is copied a logarithm of times: from the newest on, a layer
 * takes in those behind it as long as the next is at most twice as large as all before it together. Below a layer that
 * others stand on too, the retention is counted from that layer: whoever stands there may want the turns before it. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* Whether layer i of a chain may take in the one behind it. `anchor`: the turn from which the retention is counted. */
static bool may_take_in(const dw_layer_row *chain, size_t n, size_t i, uint64_t retention, uint64_t anchor) {
    return i + 1 < n && chain[i + 1].refs == 1 && chain[i + 1].turn + retention <= anchor;
}

/* Layers [first, last] of the chain become the first. In a transaction. */
static dw_status fold_run(dw_store *store, const dw_layer_row *chain, size_t first, size_t last, dw_freed *freed,
                          dw_error *err) {
    dw_layer sum = {0}, older = {0}, merged = {0};
    dw_layer_row row;
    uint8_t *body = NULL;
    size_t body_size = 0;
    dw_status status = dw_index_layer_body(store, chain[first].id, &row, &sum, err);
    for (size_t i = first + 1; i <= last && status == DW_OK; i++) {
        status = dw_index_layer_body(store, chain[i].id, &row, &older, err);
        if (status == DW_OK) status = dw_layer_merge(&older, &sum, row.parent == 0, &merged, freed, err);
        dw_layer_deinit(&older);
        if (status != DW_OK) break;
        dw_layer_deinit(&sum);
        sum = merged;
        (void)sqlite3_bind_int64(dw_index_use(store, DW_SQL_LAYER_DROP), 1, (sqlite3_int64)chain[i].id);
        status = dw_index_run(store, DW_SQL_LAYER_DROP, err);
    }
    if (status == DW_OK) status = dw_layer_encode(&sum, &body, &body_size, err);
    if (status == DW_OK) {
        sqlite3_stmt *replace = dw_index_use(store, DW_SQL_LAYER_REPLACE);
        (void)sqlite3_bind_int64(replace, 1, (sqlite3_int64)chain[first].id);
        (void)sqlite3_bind_int64(replace, 2, (sqlite3_int64)chain[last].parent);
        (void)sqlite3_bind_int64(replace, 3, (sqlite3_int64)dw_layer_weight(&sum));
        (void)sqlite3_bind_blob64(replace, 4, body, body_size, SQLITE_STATIC);
        status = dw_index_run(store, DW_SQL_LAYER_REPLACE, err);
    }
    free(body);
    dw_layer_deinit(&sum);
    return status;
}

static dw_status fold_chain(dw_store *store, const dw_store_actor *actor, const dw_layer_row *chain, size_t n,
                            size_t *left, dw_freed *freed, dw_error *err) {
    dw_status status = DW_OK;
    uint64_t anchor = actor->turn;
    *left = n;
    for (size_t i = 0; i < n && status == DW_OK;) {
        size_t last = i;
        if (chain[i].refs > 1) anchor = dw_min_u64(anchor, chain[i].turn);
        uint64_t weight = chain[i].weight + 1;
        while (may_take_in(chain, n, last, store->retention, anchor) && chain[last + 1].weight + 1 <= 2 * weight)
            weight += chain[++last].weight + 1;
        if (last > i) status = fold_run(store, chain, i, last, freed, err);
        *left -= last - i;
        i = last + 1;
    }
    return status;
}

dw_status dw_store_fold(dw_store *store, const char *name, dw_error *err) {
    dw_freed freed = {0};
    dw_store_actor actor;
    dw_layer_rows chain = {.count = 0};
    size_t left = 0;
    dw_status status = dw_store_begin(store, err);
    if (status != DW_OK) return status;
    status = dw_index_actor(store, name, &actor, err);
    if (status == DW_OK) status = dw_store_chain(store, actor.head, &chain, err);
    if (status == DW_OK) status = fold_chain(store, &actor, chain.items, chain.count, &left, &freed, err);
    if (status == DW_OK) {
        sqlite3_stmt *move = dw_index_use(store, DW_SQL_ACTOR_MOVE);
        (void)sqlite3_bind_int64(move, 1, actor.id);
        (void)sqlite3_bind_int64(move, 2, (sqlite3_int64)actor.head);
        (void)sqlite3_bind_int64(move, 3, (sqlite3_int64)actor.turn);
        (void)sqlite3_bind_int64(move, 4, (sqlite3_int64)left);
        (void)sqlite3_bind_int64(move, 5, (sqlite3_int64)(left + store->fold_layers));
        status = dw_index_run(store, DW_SQL_ACTOR_MOVE, err);
    }
    status = dw_store_end(store, &freed, status, err);
    DW_VEC_DEINIT(&chain);
    dw_freed_deinit(&freed);
    return status == DW_E_NOT_FOUND ? DW_OK : status; /* it has gone meanwhile */
}

/* --- giving back ---------------------------------------------------------------------------------------------------
 */

enum { HOLES_AT_ONCE = 256 };

static dw_status read_holes(dw_store *store, dw_freed_run *out, size_t *n, dw_error *err) {
    bool row = true;
    *n = 0;
    dw_os_mutex_lock(store->index_lock);
    sqlite3_stmt *holes = dw_index_use(store, DW_SQL_HOLES);
    (void)sqlite3_bind_int64(holes, 1, (sqlite3_int64)dw_min_u64(dw_store_oldest_view(store), INT64_MAX));
    dw_status status = DW_OK;
    while (*n < HOLES_AT_ONCE) {
        status = dw_index_step(store, DW_SQL_HOLES, &row, err);
        if (status != DW_OK || !row) break;
        out[(*n)++] = (dw_freed_run){(uint32_t)sqlite3_column_int64(holes, 0), (uint32_t)sqlite3_column_int64(holes, 1),
                                     (uint32_t)sqlite3_column_int64(holes, 2)};
    }
    dw_index_done(store, DW_SQL_HOLES);
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

/* Gives the pages of some holes back. That they are free is durable: what freed them was synced. */
static dw_status punch_holes(dw_store *store, bool *more, dw_error *err) {
    dw_freed_run runs[HOLES_AT_ONCE];
    dw_freed none = {0};
    size_t n = 0, done = 0;
    dw_status status = read_holes(store, runs, &n, err);
    *more = n == HOLES_AT_ONCE;
    if (status != DW_OK || n == 0) return status;
    for (; done < n; done++) {
        status = dw_bulk_discard(store, runs[done].file, runs[done].page, runs[done].n, err);
        /* Where the system cannot make holes, space comes back with whole files. A file that is gone has none. */
        if (status == DW_E_UNSUPPORTED || dw_status_kind_of(status) == DW_KIND_CORRUPT) status = DW_OK;
        if (status != DW_OK) break;
    }
    dw_error later;
    dw_status noted = dw_store_begin(store, &later);
    if (noted == DW_OK) {
        for (size_t i = 0; i < done && noted == DW_OK; i++) {
            sqlite3_stmt *drop = dw_index_use(store, DW_SQL_HOLE_DROP);
            (void)sqlite3_bind_int64(drop, 1, runs[i].file);
            (void)sqlite3_bind_int64(drop, 2, runs[i].page);
            noted = dw_index_run(store, DW_SQL_HOLE_DROP, &later);
        }
        noted = dw_store_end(store, &none, noted, &later);
    }
    if (status == DW_OK && noted != DW_OK) {
        if (err) *err = later;
        status = noted;
    }
    return status;
}

/* One file that holds nothing leaves the index; *number is 0 where there is none. */
static dw_status drop_dead_file(dw_store *store, uint32_t *number, dw_error *err) {
    dw_freed none = {0};
    bool row = false;
    *number = 0;
    dw_status status = dw_store_begin(store, err);
    if (status != DW_OK) return status;
    sqlite3_stmt *dead = dw_index_use(store, DW_SQL_FILES_DEAD);
    (void)sqlite3_bind_int64(dead, 1, store->bulk.number);
    (void)sqlite3_bind_int64(dead, 2, (sqlite3_int64)dw_min_u64(dw_store_oldest_view(store), INT64_MAX));
    status = dw_index_step(store, DW_SQL_FILES_DEAD, &row, err);
    if (status == DW_OK && row) *number = (uint32_t)sqlite3_column_int64(dead, 0);
    dw_index_done(store, DW_SQL_FILES_DEAD);
    static const dw_sql drops[] = {DW_SQL_FILE_HOLES_DROP, DW_SQL_FILE_DROP};
    for (size_t i = 0; i < 2 && *number && status == DW_OK; i++) {
        (void)sqlite3_bind_int64(dw_index_use(store, drops[i]), 1, *number);
        status = dw_index_run(store, drops[i], err);
    }
    return dw_store_end(store, &none, status, err);
}

static dw_status remove_dead_files(dw_store *store, dw_error *err) {
    for (;;) {
        uint32_t number = 0;
        dw_status status = drop_dead_file(store, &number, err);
        if (status != DW_OK || number == 0) return status;
        /* Durable first: an index that names a file that is gone would look damaged. */
        status = dw_vfs_sync_log(store->vfs, err);
        if (status == DW_OK) status = dw_bulk_remove(store, number, err);
        if (status != DW_OK) return status;
    }
}

static dw_status find_ripe(dw_store *store, char name[DW_ACTOR_NAME_BYTES_MAX + 1], dw_error *err) {
    bool row = false;
    name[0] = '\0';
    dw_os_mutex_lock(store->index_lock);
    sqlite3_stmt *ripe = dw_index_use(store, DW_SQL_RIPE);
    dw_status status = dw_index_step(store, DW_SQL_RIPE, &row, err);
    if (status == DW_OK && row) {
        const char *text = (const char *)sqlite3_column_text(ripe, 0);
        size_t length = text ? strlen(text) : 0;
        if (length == 0 || length > DW_ACTOR_NAME_BYTES_MAX)
            status = dw_fail(err, DW_E_CORRUPT, "index: an actor without a name");
        else memcpy(name, text, length + 1);
    }
    dw_index_done(store, DW_SQL_RIPE);
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

static dw_status give_back_space(dw_store *store, bool *more, dw_error *err) {
    dw_status status = dw_store_check_sound(store, err);
    /* What folds have freed is free for good before it is given back. */
    if (status == DW_OK) status = dw_vfs_sync_log(store->vfs, err);
    if (status == DW_OK) status = remove_dead_files(store, err);
    if (status == DW_OK) status = punch_holes(store, more, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(store->index_lock);
    if (dw_vfs_log_bytes(store->vfs) > 0) status = dw_index_checkpoint(store, err);
    dw_os_mutex_unlock(store->index_lock);
    return status;
}

dw_status dw_store_tidy(dw_store *store, uint32_t actors_max, bool *more, dw_error *err) {
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    bool more_holes = false;
    uint32_t folded = 0;
    dw_status status = dw_store_check_sound(store, err);
    *more = false;
    for (; folded < actors_max && status == DW_OK; folded++) {
        status = find_ripe(store, name, err);
        if (status != DW_OK || !name[0]) break;
        dw_store_lead(store); /* once for each, so that commits get their turn */
        status = dw_store_fold(store, name, err);
        dw_store_lead_no_more(store);
    }
    if (status != DW_OK) return status;
    dw_store_lead(store);
    status = give_back_space(store, &more_holes, err);
    dw_store_lead_no_more(store);
    *more = folded == actors_max || more_holes;
    return status;
}

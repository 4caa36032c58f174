/* apply.c: what one change does to the index, inside of a group's transaction. */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

/* --- what can be said without looking ---------------------------------------------------------------------------- */

static dw_status check_name(const char *name, const char *what, dw_error *err) {
    size_t length = 0;
    while (name && length <= DW_ACTOR_NAME_BYTES_MAX && name[length]) length++;
    if (length == 0) return dw_fail(err, DW_E_INVALID, "a change without %s", what);
    if (length > DW_ACTOR_NAME_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "%s has a name of more than %u bytes", what, DW_ACTOR_NAME_BYTES_MAX);
    return DW_OK;
}

static dw_status check_content(const dw_store_change *change, dw_error *err) {
    for (size_t i = 0; i < change->n_pages; i++) {
        const dw_store_page *page = &change->pages[i];
        if (page->index >= DW_STORE_PAGES_MAX)
            return dw_fail(err, DW_E_LIMIT, "page %" PRIu64 " is too far", page->index);
        if (i > 0 && page->index <= page[-1].index)
            return dw_fail(err, DW_E_INVALID, "page %" PRIu64 " is out of order", page->index);
    }
    if (change->n_rows > DW_STORE_SESSIONS_MAX)
        return dw_fail(err, DW_E_LIMIT, "%zu sessions in one turn", change->n_rows);
    for (size_t i = 0; i < change->n_rows; i++) {
        const dw_store_rows *rows = &change->rows[i];
        for (size_t k = 0; k < i; k++)
            if (change->rows[k].session == rows->session)
                return dw_fail(err, DW_E_INVALID, "session %" PRIu64 " comes twice", rows->session);
        if (rows->first > DW_STORE_ROWS_MAX || rows->n > DW_STORE_ROWS_MAX - rows->first)
            return dw_fail(err, DW_E_LIMIT, "session %" PRIu64 " has too many rows", rows->session);
        if (rows->n == 0) continue;
        if (!rows->data || rows->row_bytes == 0)
            return dw_fail(err, DW_E_INVALID, "session %" PRIu64 " has rows of nothing", rows->session);
        if (rows->row_bytes > DW_STORE_ROW_BYTES_MAX)
            return dw_fail(err, DW_E_LIMIT, "session %" PRIu64 " has rows of %u bytes", rows->session, rows->row_bytes);
    }
    if (change->state_bytes && !change->state) return dw_fail(err, DW_E_INVALID, "a state of nothing");
    if (change->state_bytes > DW_STORE_STATE_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "a state of %zu bytes", change->state_bytes);
    return DW_OK;
}

dw_status dw_store_check_change(const dw_store_change *change, dw_error *err) {
    dw_status status = check_name(change->actor, "an actor", err);
    if (status != DW_OK) return status;
    switch (change->act) {
        case DW_STORE_CREATE:
        case DW_STORE_TURN: status = check_content(change, err); break;
        case DW_STORE_FORK: status = check_name(change->source, "a source", err); break;
        case DW_STORE_RECORDS:
        case DW_STORE_REWIND:
        case DW_STORE_REMOVE: break;
        default: return dw_fail(err, DW_E_INVALID, "%d is nothing that can happen to an actor", (int)change->act);
    }
    bool turned = change->act == DW_STORE_CREATE || change->act == DW_STORE_TURN;
    if (status == DW_OK && turned && change->turn >= (uint64_t)INT64_MAX)
        status = dw_fail(err, DW_E_LIMIT, "turn %" PRIu64, change->turn);
    if (status == DW_OK && !turned && (change->n_pages || change->n_rows || change->state_bytes))
        status = dw_fail(err, DW_E_INVALID, "only a turn has pages, rows and a state");
    for (size_t i = 0; status == DW_OK && i < change->n_records; i++) {
        if (change->records[i].data && change->records[i].size > DW_STORE_RECORD_BYTES_MAX)
            status = dw_fail(err, DW_E_LIMIT, "a record of %zu bytes", change->records[i].size);
        else if (change->records[i].number > (uint64_t)INT64_MAX)
            status = dw_fail(err, DW_E_LIMIT, "record number %" PRIu64, change->records[i].number);
    }
    return status;
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */

static int session_order(const void *a, const void *b) {
    uint64_t x = ((const dw_store_session *)a)->session, y = ((const dw_store_session *)b)->session;
    return (x > y) - (x < y);
}

/* What one rows change makes of the table [*n] of sessions, which has room for one more. */
static dw_status turn_session(dw_store_session *sessions, size_t *n, const dw_store_rows *rows, dw_error *err) {
    size_t at = 0;
    while (at < *n && sessions[at].session != rows->session) at++;
    uint64_t have = at < *n ? sessions[at].n_rows : 0;
    if (rows->first > have)
        return dw_fail(err, DW_E_RANGE, "session %" PRIu64 " has %" PRIu64 " rows, not %" PRIu64, rows->session, have,
                       rows->first);
    if (rows->first > 0 && rows->n > 0 && rows->row_bytes != sessions[at].row_bytes)
        return dw_fail(err, DW_E_MISMATCH, "session %" PRIu64 " has rows of %u bytes, not of %u", rows->session,
                       sessions[at].row_bytes, rows->row_bytes);
    if (rows->first + rows->n == 0) {
        if (at < *n) sessions[at] = sessions[--*n];
        return DW_OK;
    }
    uint32_t row_bytes = rows->n ? rows->row_bytes : sessions[at].row_bytes;
    sessions[at] = (dw_store_session){rows->session, rows->first + rows->n, row_bytes};
    if (at == *n) ++*n;
    return DW_OK;
}

/* The bytes of the sessions' table after a turn on layer `parent` (0: none). The caller frees *out. */
static dw_status turn_sessions(dw_store *store, const dw_store_change *change, uint64_t parent, uint8_t **out,
                               size_t *out_size, dw_error *err) {
    dw_store_session *before = NULL, *now = NULL;
    size_t n = 0;
    bool row = false;
    dw_status status = DW_OK;
    *out = NULL;
    *out_size = 0;
    if (parent) {
        sqlite3_stmt *get = dw_index_use(store, DW_SQL_LAYER_SESSIONS);
        (void)sqlite3_bind_int64(get, 1, (sqlite3_int64)parent);
        status = dw_index_step(store, DW_SQL_LAYER_SESSIONS, &row, err);
        if (status != DW_OK) return status;
        if (row)
            status =
                dw_sessions_decode(sqlite3_column_blob(get, 0), (size_t)sqlite3_column_bytes(get, 0), &before, &n, err);
        else status = dw_fail(err, DW_E_CORRUPT, "index: layer %" PRIu64 " is missing", parent);
        dw_index_done(store, DW_SQL_LAYER_SESSIONS);
    }
    if (status == DW_OK && n + change->n_rows > 0) {
        now = calloc(n + change->n_rows, sizeof *now);
        if (!now) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for sessions");
        else if (n) memcpy(now, before, n * sizeof *now);
    }
    for (size_t i = 0; status == DW_OK && i < change->n_rows; i++)
        status = turn_session(now, &n, &change->rows[i], err);
    if (status == DW_OK && n > DW_STORE_SESSIONS_MAX) status = dw_fail(err, DW_E_LIMIT, "%zu sessions of one actor", n);
    if (status == DW_OK && n > 1) qsort(now, n, sizeof *now, session_order);
    if (status == DW_OK) status = dw_sessions_encode(now, n, out, out_size, err);
    free(before);
    free(now);
    return status;
}

/* --- rows of the index ------------------------------------------------------------------------------------------- */

/* Bytes that stay until the statement is done with; no bytes are an empty blob, not NULL. */
static void bind_bytes(sqlite3_stmt *statement, int at, const void *data, size_t size) {
    (void)sqlite3_bind_blob64(statement, at, size ? data : "", size, SQLITE_STATIC);
}

static dw_status add_layer(dw_store *store, const dw_store_change *change, const dw_layer *layer, uint64_t parent,
                           uint64_t *id, dw_error *err) {
    uint8_t *body = NULL, *sessions = NULL;
    size_t body_size = 0, sessions_size = 0;
    uint64_t sum = 0;
    dw_layer named = *layer; /* its lists are borrowed */
    named.id = store->next_layer;
    named.parent = parent;
    named.turn = change->turn;
    dw_status status = turn_sessions(store, change, parent, &sessions, &sessions_size, err);
    if (status == DW_OK) status = dw_layer_encode(&named, &body, &body_size, err);
    if (status == DW_OK && dw_store_sum(change->state, change->state_bytes, &sum) != DW_OK)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to hash a state");
    if (status == DW_OK) {
        *id = store->next_layer++;
        sqlite3_stmt *add = dw_index_use(store, DW_SQL_LAYER_ADD);
        (void)sqlite3_bind_int64(add, 1, (sqlite3_int64)*id);
        (void)sqlite3_bind_int64(add, 2, (sqlite3_int64)parent);
        (void)sqlite3_bind_int64(add, 3, (sqlite3_int64)change->turn);
        (void)sqlite3_bind_int64(add, 4, (sqlite3_int64)dw_layer_weight(layer));
        (void)sqlite3_bind_int64(add, 5, (sqlite3_int64)sum);
        bind_bytes(add, 6, sessions, sessions_size);
        bind_bytes(add, 7, body, body_size);
        bind_bytes(add, 8, change->state, change->state_bytes);
        status = dw_index_run(store, DW_SQL_LAYER_ADD, err);
    }
    free(body);
    free(sessions);
    return status;
}

static dw_status move_actor(dw_store *store, const dw_store_actor *actor, dw_error *err) {
    sqlite3_stmt *move = dw_index_use(store, DW_SQL_ACTOR_MOVE);
    (void)sqlite3_bind_int64(move, 1, actor->id);
    (void)sqlite3_bind_int64(move, 2, (sqlite3_int64)actor->head);
    (void)sqlite3_bind_int64(move, 3, (sqlite3_int64)actor->turn);
    (void)sqlite3_bind_int64(move, 4, (sqlite3_int64)actor->depth);
    (void)sqlite3_bind_int64(move, 5, (sqlite3_int64)actor->ripe_at);
    return dw_index_run(store, DW_SQL_ACTOR_MOVE, err);
}

static dw_status add_actor(dw_store *store, const char *name, dw_store_actor *actor, dw_error *err) {
    sqlite3_stmt *add = dw_index_use(store, DW_SQL_ACTOR_ADD);
    (void)sqlite3_bind_text(add, 1, name, -1, SQLITE_STATIC);
    (void)sqlite3_bind_int64(add, 2, (sqlite3_int64)actor->head);
    (void)sqlite3_bind_int64(add, 3, (sqlite3_int64)actor->turn);
    (void)sqlite3_bind_int64(add, 4, (sqlite3_int64)actor->depth);
    (void)sqlite3_bind_int64(add, 5, (sqlite3_int64)actor->ripe_at);
    dw_status status = dw_index_run(store, DW_SQL_ACTOR_ADD, err);
    actor->id = sqlite3_last_insert_rowid(store->db);
    return status;
}

static dw_status count_layer(dw_store *store, uint64_t id, int by, dw_error *err) {
    sqlite3_stmt *refs = dw_index_use(store, DW_SQL_LAYER_REFS);
    (void)sqlite3_bind_int64(refs, 1, (sqlite3_int64)id);
    (void)sqlite3_bind_int(refs, 2, by);
    return dw_index_run(store, DW_SQL_LAYER_REFS, err);
}

dw_status dw_store_release_layer(dw_store *store, uint64_t id, dw_freed *freed, dw_error *err) {
    dw_status status = DW_OK;
    while (id && status == DW_OK) {
        dw_layer_row row;
        dw_layer layer;
        status = dw_index_layer(store, id, &row, err);
        if (status != DW_OK) break;
        if (row.refs == 0) return dw_fail(err, DW_E_CORRUPT, "index: nobody refers to layer %" PRIu64, id);
        if (row.refs > 1) return count_layer(store, id, -1, err);
        status = dw_index_layer_body(store, id, &row, &layer, err);
        if (status != DW_OK) break;
        dw_layer_free_all(&layer, freed);
        dw_layer_deinit(&layer);
        if (freed->failed) return dw_fail(err, DW_E_NO_MEMORY, "no memory to free a layer");
        (void)sqlite3_bind_int64(dw_index_use(store, DW_SQL_LAYER_DROP), 1, (sqlite3_int64)id);
        status = dw_index_run(store, DW_SQL_LAYER_DROP, err);
        id = row.parent;
    }
    return status;
}

static dw_status apply_records(dw_store *store, const dw_store_change *change, int64_t actor, dw_error *err) {
    dw_status status = DW_OK;
    for (size_t i = 0; i < change->n_records && status == DW_OK; i++) {
        const dw_store_record *record = &change->records[i];
        dw_sql sql = record->data ? DW_SQL_RECORD_PUT : DW_SQL_RECORD_DROP;
        sqlite3_stmt *statement = dw_index_use(store, sql);
        (void)sqlite3_bind_int64(statement, 1, actor);
        (void)sqlite3_bind_int64(statement, 2, record->kind);
        (void)sqlite3_bind_int64(statement, 3, (sqlite3_int64)record->number);
        if (record->data) bind_bytes(statement, 4, record->data, record->size);
        status = dw_index_run(store, sql, err);
    }
    return status;
}

/* --- acts -------------------------------------------------------------------------------------------------------- */

static dw_status check_absent(dw_store *store, const char *name, dw_error *err) {
    dw_store_actor there;
    dw_status status = dw_index_actor(store, name, &there, err);
    if (status == DW_E_NOT_FOUND) return DW_OK;
    return status == DW_OK ? dw_fail(err, DW_E_EXISTS, "there is an actor %s", name) : status;
}

static dw_status apply_create(dw_store *store, const dw_store_change *change, const dw_layer *layer, int64_t *id,
                              dw_error *err) {
    dw_store_actor actor = {.turn = change->turn, .depth = 1, .ripe_at = store->retention + store->fold_layers};
    dw_status status = check_absent(store, change->actor, err);
    if (status == DW_OK) status = add_layer(store, change, layer, 0, &actor.head, err);
    if (status == DW_OK) status = add_actor(store, change->actor, &actor, err);
    *id = actor.id;
    return status;
}

static dw_status apply_turn(dw_store *store, const dw_store_change *change, const dw_layer *layer,
                            dw_store_actor *actor, dw_error *err) {
    if (change->turn != actor->turn + 1)
        return dw_fail(err, DW_E_MISMATCH, "%s is at turn %" PRIu64 ", so the next is not %" PRIu64, change->actor,
                       actor->turn, change->turn);
    uint64_t head = 0;
    dw_status status = add_layer(store, change, layer, actor->head, &head, err);
    actor->head = head; /* the reference of the old head is its child's now */
    actor->turn = change->turn;
    actor->depth++;
    if (status == DW_OK) status = move_actor(store, actor, err);
    if (status == DW_OK && actor->depth > actor->ripe_at + DW_STORE_LAYERS_SOON)
        memcpy(store->grown, change->actor, strlen(change->actor) + 1);
    return status;
}

static dw_status apply_fork(dw_store *store, const dw_store_change *change, int64_t *id, dw_error *err) {
    dw_store_actor source, fork;
    dw_layer_row at;
    dw_status status = check_absent(store, change->actor, err);
    if (status == DW_OK) status = dw_index_actor(store, change->source, &source, err);
    if (status != DW_OK) return status;
    if (source.depth >= DW_STORE_LAYERS_MAX)
        return dw_fail(err, DW_E_LIMIT, "%s stands on %" PRIu64 " layers", change->source, source.depth);
    status = dw_index_layer_of_turn(store, change->source, &source, change->turn, &at, err);
    fork = (dw_store_actor){.head = at.id, .turn = at.turn, .depth = source.depth, .ripe_at = source.ripe_at};
    if (status == DW_OK) status = count_layer(store, at.id, 1, err);
    if (status == DW_OK) status = add_actor(store, change->actor, &fork, err);
    *id = fork.id;
    return status;
}

static dw_status apply_rewind(dw_store *store, const dw_store_change *change, dw_store_actor *actor, dw_freed *freed,
                              dw_error *err) {
    dw_layer_row to;
    uint64_t from = actor->head;
    dw_status status = dw_index_layer_of_turn(store, change->actor, actor, change->turn, &to, err);
    if (status != DW_OK) return status;
    /* The new reference first, so that the layer is not given up with those behind it. */
    actor->head = to.id;
    actor->turn = to.turn;
    status = count_layer(store, to.id, 1, err);
    if (status == DW_OK) status = move_actor(store, actor, err);
    return status == DW_OK ? dw_store_release_layer(store, from, freed, err) : status;
}

static dw_status apply_remove(dw_store *store, const dw_store_actor *actor, dw_freed *freed, dw_error *err) {
    (void)sqlite3_bind_int64(dw_index_use(store, DW_SQL_ACTOR_DROP), 1, actor->id);
    dw_status status = dw_index_run(store, DW_SQL_ACTOR_DROP, err);
    if (status != DW_OK) return status;
    (void)sqlite3_bind_int64(dw_index_use(store, DW_SQL_RECORDS_DROP), 1, actor->id);
    status = dw_index_run(store, DW_SQL_RECORDS_DROP, err);
    return status == DW_OK ? dw_store_release_layer(store, actor->head, freed, err) : status;
}

dw_status dw_store_apply(dw_store *store, const dw_store_change *change, const dw_layer *layer, dw_freed *freed,
                         dw_error *err) {
    dw_store_actor actor = {0};
    dw_status status = DW_OK;
    bool is_new = change->act == DW_STORE_CREATE || change->act == DW_STORE_FORK;
    if (!is_new) status = dw_index_actor(store, change->actor, &actor, err);
    if (status != DW_OK) return status;
    switch (change->act) {
        case DW_STORE_CREATE: status = apply_create(store, change, layer, &actor.id, err); break;
        case DW_STORE_TURN: status = apply_turn(store, change, layer, &actor, err); break;
        case DW_STORE_FORK: status = apply_fork(store, change, &actor.id, err); break;
        case DW_STORE_REWIND: status = apply_rewind(store, change, &actor, freed, err); break;
        case DW_STORE_REMOVE: return apply_remove(store, &actor, freed, err);
        case DW_STORE_RECORDS: break;
    }
    return status == DW_OK ? apply_records(store, change, actor.id, err) : status;
}

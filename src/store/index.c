/* index.c: the SQLite database: its schema, its statements, and what its codes mean.
 *
 * Mode: WAL with synchronous=NORMAL, and a sync of the log of our own after each group's COMMIT (commit.c). A rollback
 * journal costs two or three syncs and a rewrite of each page in place; WAL costs one. FULL would make the same sync
 * inside of COMMIT, where whoever wants to read has to wait for it; NORMAL leaves out that one alone, and keeps those
 * around a checkpoint, which keep the database whole. locking_mode=EXCLUSIVE, because the store has one owner: then
 * nothing is shared with other processes, and no page is looked at twice. Checkpoints are ours to time
 * (wal_autocheckpoint=0): after the callers were told. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

#define INDEX_APPLICATION_ID 0x44575354 /* 'DWST' */

static const char schema[] =
    "CREATE TABLE store(identity BLOB NOT NULL);"
    "CREATE TABLE actors(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, head INTEGER NOT NULL, turn INTEGER NOT "
    "NULL,"
    " depth INTEGER NOT NULL, ripe_at INTEGER NOT NULL);"
    "CREATE INDEX actors_ripe ON actors(id) WHERE depth >= ripe_at;"
    "CREATE TABLE layers(id INTEGER PRIMARY KEY, parent INTEGER NOT NULL, refs INTEGER NOT NULL, turn INTEGER NOT NULL,"
    " weight INTEGER NOT NULL, state_sum INTEGER NOT NULL, sessions BLOB NOT NULL, body BLOB NOT NULL, state BLOB NOT "
    "NULL);"
    "CREATE TABLE records(actor INTEGER NOT NULL, kind INTEGER NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL,"
    " PRIMARY KEY(actor, kind, number)) WITHOUT ROWID;"
    "CREATE TABLE files(id INTEGER PRIMARY KEY, pages INTEGER NOT NULL, live INTEGER NOT NULL);"
    "CREATE TABLE holes(file INTEGER NOT NULL, page INTEGER NOT NULL, n INTEGER NOT NULL, epoch INTEGER NOT NULL,"
    " PRIMARY KEY(file, page)) WITHOUT ROWID;";

static const char *const statement_text[DW_SQL_COUNT] = {
    [DW_SQL_BEGIN] = "BEGIN IMMEDIATE",
    [DW_SQL_COMMIT] = "COMMIT",
    [DW_SQL_ROLLBACK] = "ROLLBACK",
    [DW_SQL_SAVE] = "SAVEPOINT batch",
    [DW_SQL_SAVED] = "RELEASE batch",
    [DW_SQL_UNDO] = "ROLLBACK TO batch",
    [DW_SQL_ACTOR_FIND] = "SELECT id, head, turn, depth, ripe_at FROM actors WHERE name = ?1",
    [DW_SQL_ACTOR_ADD] = "INSERT INTO actors(name, head, turn, depth, ripe_at) VALUES(?1, ?2, ?3, ?4, ?5)",
    [DW_SQL_ACTOR_MOVE] = "UPDATE actors SET head = ?2, turn = ?3, depth = ?4, ripe_at = ?5 WHERE id = ?1",
    [DW_SQL_ACTOR_DROP] = "DELETE FROM actors WHERE id = ?1",
    [DW_SQL_ACTORS] = "SELECT name, turn, head FROM actors ORDER BY name",
    [DW_SQL_RIPE] = "SELECT name FROM actors WHERE depth >= ripe_at LIMIT 1",
    [DW_SQL_LAYER_ADD] = "INSERT INTO layers(id, parent, refs, turn, weight, state_sum, sessions, body, state)"
                         " VALUES(?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8)",
    [DW_SQL_LAYER_GET] =
        "SELECT parent, refs, turn, weight, body, sessions, state_sum, state FROM layers WHERE id = ?1",
    [DW_SQL_LAYER_LOOK] = "SELECT parent, refs, turn, weight FROM layers WHERE id = ?1",
    [DW_SQL_LAYER_SESSIONS] = "SELECT sessions FROM layers WHERE id = ?1",
    [DW_SQL_LAYER_REFS] = "UPDATE layers SET refs = refs + ?2 WHERE id = ?1",
    [DW_SQL_LAYER_DROP] = "DELETE FROM layers WHERE id = ?1",
    [DW_SQL_LAYER_REPLACE] = "UPDATE layers SET parent = ?2, weight = ?3, body = ?4 WHERE id = ?1",
    [DW_SQL_LAYERS] = "SELECT id, parent, refs FROM layers ORDER BY id",
    [DW_SQL_RECORD_PUT] = "INSERT OR REPLACE INTO records(actor, kind, number, body) VALUES(?1, ?2, ?3, ?4)",
    [DW_SQL_RECORD_DROP] = "DELETE FROM records WHERE actor = ?1 AND kind = ?2 AND number = ?3",
    [DW_SQL_RECORDS_DROP] = "DELETE FROM records WHERE actor = ?1",
    [DW_SQL_RECORDS] =
        "SELECT number, body FROM records WHERE actor = ?1 AND kind = ?2 AND number >= ?3 ORDER BY number",
    [DW_SQL_FILE_GROW] = "INSERT INTO files(id, pages, live) VALUES(?1, ?2, ?3)"
                         " ON CONFLICT(id) DO UPDATE SET pages = excluded.pages, live = live + excluded.live",
    [DW_SQL_FILE_FREE] = "UPDATE files SET live = live - ?2 WHERE id = ?1",
    [DW_SQL_FILE_DROP] = "DELETE FROM files WHERE id = ?1",
    [DW_SQL_FILES] = "SELECT id, pages, live FROM files ORDER BY id",
    [DW_SQL_FILES_DEAD] = "SELECT id FROM files WHERE live = 0 AND id <> ?1 AND NOT EXISTS"
                          " (SELECT 1 FROM holes WHERE file = files.id AND epoch > ?2) LIMIT 1",
    [DW_SQL_HOLE_ADD] = "INSERT INTO holes(file, page, n, epoch) VALUES(?1, ?2, ?3, ?4)",
    [DW_SQL_HOLES] = "SELECT file, page, n FROM holes WHERE epoch <= ?1 LIMIT 256",
    [DW_SQL_HOLE_DROP] = "DELETE FROM holes WHERE file = ?1 AND page = ?2",
    [DW_SQL_FILE_HOLES_DROP] = "DELETE FROM holes WHERE file = ?1",
    [DW_SQL_HOLES_AGED] = "UPDATE holes SET epoch = 0",
    [DW_SQL_USE] =
        "SELECT (SELECT count(*) FROM actors), (SELECT count(*) FROM layers), (SELECT count(*) FROM records),"
        " (SELECT count(*) FROM files), (SELECT total(pages) FROM files), (SELECT total(live) FROM files),"
        " (SELECT count(*) FROM holes)",
};

/* --- codes ------------------------------------------------------------------------------------------------------ */

dw_status dw_index_fail(dw_store *store, int code, const char *what, dw_error *err) {
    dw_error disk;
    if (dw_vfs_take_failure(store->vfs, &disk)) {
        if (err) *err = disk;
        return dw_error_prefix(err, disk.status, "index: %s", what);
    }
    const char *says = store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code);
    switch (code & 0xFF) {
        case SQLITE_NOMEM: return dw_fail(err, DW_E_NO_MEMORY, "index: %s: out of memory", what);
        case SQLITE_FULL: return dw_fail(err, DW_E_NO_SPACE, "index: %s: %s", what, says);
        case SQLITE_IOERR: return dw_fail(err, DW_E_IO, "index: %s: %s", what, says);
        case SQLITE_TOOBIG: return dw_fail(err, DW_E_LIMIT, "index: %s: %s", what, says);
        case SQLITE_CORRUPT:
        case SQLITE_CONSTRAINT: return dw_fail(err, DW_E_CORRUPT, "index: %s: %s", what, says);
        case SQLITE_NOTADB: return dw_fail(err, DW_E_FORMAT, "index: %s: %s", what, says);
        default: return dw_fail(err, DW_E_INTERNAL, "index: %s: %s (%d)", what, says, code);
    }
}

sqlite3_stmt *dw_index_use(dw_store *store, dw_sql sql) {
    assert(dw_os_mutex_held(store->index_lock));
    sqlite3_stmt *statement = store->statements[sql];
    (void)sqlite3_reset(statement); /* what its last step failed with was told then */
    (void)sqlite3_clear_bindings(statement);
    return statement;
}

void dw_index_done(dw_store *store, dw_sql sql) {
    (void)sqlite3_reset(store->statements[sql]);
    (void)sqlite3_clear_bindings(store->statements[sql]); /* lets go of bytes that were bound without a copy */
}

dw_status dw_index_step(dw_store *store, dw_sql sql, bool *row, dw_error *err) {
    int code = sqlite3_step(store->statements[sql]);
    *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE) return DW_OK;
    dw_status status = dw_index_fail(store, sqlite3_extended_errcode(store->db), statement_text[sql], err);
    dw_index_done(store, sql);
    return status;
}

dw_status dw_index_run(dw_store *store, dw_sql sql, dw_error *err) {
    bool row;
    dw_status status = dw_index_step(store, sql, &row, err);
    assert(status != DW_OK || !row);
    dw_index_done(store, sql);
    return status;
}

static dw_status index_execute(dw_store *store, const char *text, dw_error *err) {
    int code = sqlite3_exec(store->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? DW_OK : dw_index_fail(store, sqlite3_extended_errcode(store->db), text, err);
}

/* The one number that a statement gives; or its bytes, of exactly `size`, where `bytes` is not NULL. */
static dw_status ask_index(dw_store *store, const char *text, int64_t *number, void *bytes, int size, dw_error *err) {
    sqlite3_stmt *statement = NULL;
    dw_status status = DW_OK;
    int code = sqlite3_prepare_v2(store->db, text, -1, &statement, NULL);
    if (code == SQLITE_OK) code = sqlite3_step(statement);
    if (code != SQLITE_ROW) {
        if (code == SQLITE_DONE) status = dw_fail(err, DW_E_CORRUPT, "index: %s gives nothing", text);
        else status = dw_index_fail(store, sqlite3_extended_errcode(store->db), text, err);
    } else if (bytes) {
        const void *found = sqlite3_column_blob(statement, 0);
        if (found && sqlite3_column_bytes(statement, 0) == size) memcpy(bytes, found, (size_t)size);
        else status = dw_fail(err, DW_E_CORRUPT, "index: %s gives something else", text);
    } else {
        *number = sqlite3_column_int64(statement, 0);
    }
    (void)sqlite3_finalize(statement);
    return status;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* SQLite's log as the last process left it may be in the system's cache alone, where its last sync failed: recovery
 * would take turns from it that a loss of power takes back, and with them all that was committed behind them. Writing
 * the same bytes again makes them go to the disk with the next sync. */
static dw_status refresh_log(dw_store *store, const char *path, dw_error *err) {
    const dw_store_disk *disk = store->disk;
    char log_path[DW_OS_PATH_BYTES + 8];
    dw_os_file file;
    uint8_t *buffer = NULL;
    uint64_t size = 0;
    (void)snprintf(log_path, sizeof log_path, "%s-wal", path);
    dw_status status = disk->open(disk->context, log_path, DW_OS_READ_WRITE, &file, err);
    if (status == DW_E_NOT_FOUND) return DW_OK;
    if (status != DW_OK) return status;
    status = disk->size(disk->context, file, &size, err);
    if (status == DW_OK && !(buffer = malloc(DW_BULK_BUFFER_BYTES)))
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to read a log");
    for (uint64_t at = 0; status == DW_OK && at < size;) {
        size_t part = (size_t)dw_min_u64(size - at, DW_BULK_BUFFER_BYTES);
        status = disk->read_at(disk->context, file, at, buffer, part, err);
        if (status == DW_OK) status = disk->write_at(disk->context, file, at, buffer, part, err);
        at += part;
    }
    if (status == DW_OK && size > 0) status = disk->sync(disk->context, file, err);
    disk->close(disk->context, &file);
    free(buffer);
    return status;
}

static dw_status make_schema(dw_store *store, dw_error *err) {
    char text[96];
    dw_status status = dw_os_random(store->identity, sizeof store->identity, err);
    if (status == DW_OK) status = index_execute(store, "BEGIN IMMEDIATE", err);
    if (status != DW_OK) return status;
    status = index_execute(store, schema, err);
    (void)snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d", INDEX_APPLICATION_ID,
                   DW_STORE_VERSION);
    if (status == DW_OK) status = index_execute(store, text, err);
    char insert[96] = "INSERT INTO store VALUES(x'";
    size_t used = strlen(insert);
    for (size_t i = 0; i < sizeof store->identity; i++)
        used += (size_t)snprintf(insert + used, sizeof insert - used, "%02x", store->identity[i]);
    (void)snprintf(insert + used, sizeof insert - used, "')");
    if (status == DW_OK) status = index_execute(store, insert, err);
    if (status == DW_OK) status = index_execute(store, "COMMIT", err);
    if (status == DW_OK) status = dw_vfs_sync_log(store->vfs, err);
    return status; /* after a failure the connection is closed, and SQLite takes back what it did */
}

/* Whose it is, before anything is changed. */
static dw_status check_version(dw_store *store, bool *is_new, dw_error *err) {
    int64_t version = 0, application = 0, tables = 0;
    dw_status status = ask_index(store, "PRAGMA user_version", &version, NULL, 0, err);
    if (status == DW_OK) status = ask_index(store, "PRAGMA application_id", &application, NULL, 0, err);
    if (status == DW_OK) status = ask_index(store, "SELECT count(*) FROM sqlite_master", &tables, NULL, 0, err);
    if (status != DW_OK) return status;
    *is_new = version == 0 && application == 0 && tables == 0;
    if (*is_new) return DW_OK;
    if (application != INDEX_APPLICATION_ID)
        return dw_fail(err, DW_E_FORMAT, "%s/index is a database, but not of a store", store->folder);
    if (version != DW_STORE_VERSION)
        return dw_fail(err, DW_E_VERSION, "the store in %s has version %" PRId64 ", and this program reads version %d",
                       store->folder, version, DW_STORE_VERSION);
    return DW_OK;
}

static dw_status prepare_statements(dw_store *store, dw_error *err) {
    for (size_t i = 0; i < DW_SQL_COUNT; i++) {
        int code = sqlite3_prepare_v3(store->db, statement_text[i], -1, SQLITE_PREPARE_PERSISTENT,
                                      &store->statements[i], NULL);
        if (code == SQLITE_ERROR)
            return dw_fail(err, DW_E_CORRUPT, "index: its tables are others: %s", sqlite3_errmsg(store->db));
        if (code != SQLITE_OK)
            return dw_index_fail(store, sqlite3_extended_errcode(store->db), statement_text[i], err);
    }
    return DW_OK;
}

dw_status dw_index_open(dw_store *store, dw_error *err) {
    char path[DW_OS_PATH_BYTES];
    bool is_new = false;
    int64_t last_layer = 0;
    (void)snprintf(path, sizeof path, "%s/index", store->folder);
    dw_status status = refresh_log(store, path, err);
    if (status != DW_OK) return status;
    int code = sqlite3_open_v2(path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                               dw_vfs_name(store->vfs));
    if (code != SQLITE_OK) return dw_index_fail(store, code, "open", err);
    (void)sqlite3_extended_result_codes(store->db, 1);
    status =
        index_execute(store, "PRAGMA locking_mode = EXCLUSIVE; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON",
                      err);
    if (status == DW_OK) status = check_version(store, &is_new, err);
    if (status == DW_OK && is_new) status = dw_bulk_refuse_any(store, err);
    if (status == DW_OK) status = index_execute(store, "PRAGMA synchronous = FULL", err); /* to make the file */
    if (status == DW_OK) status = index_execute(store, "PRAGMA journal_mode = WAL", err);
    if (status == DW_OK)
        status = index_execute(store,
                               "PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 0; PRAGMA cache_size = -16384",
                               err);
    if (status == DW_OK && is_new) status = make_schema(store, err);
    if (status == DW_OK)
        status = ask_index(store, "SELECT identity FROM store", NULL, store->identity, sizeof store->identity, err);
    if (status == DW_OK) status = ask_index(store, "SELECT ifnull(max(id), 0) FROM layers", &last_layer, NULL, 0, err);
    if (status == DW_OK) status = prepare_statements(store, err);
    store->next_layer = (uint64_t)last_layer + 1;
    if (status == DW_OK) status = dw_index_checkpoint(store, err);
    return status;
}

void dw_index_close(dw_store *store) {
    for (size_t i = 0; i < DW_SQL_COUNT; i++) (void)sqlite3_finalize(store->statements[i]);
    /* The last connection moves the log into the database; after a sync that failed that would be built on sand. */
    if (store->db)
        (void)sqlite3_db_config(store->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, (int)atomic_load(&store->poisoned), NULL);
    int code = sqlite3_close(store->db);
    assert(code == SQLITE_OK);
    (void)code;
    store->db = NULL;
}

dw_status dw_index_checkpoint(dw_store *store, dw_error *err) {
    int code = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    return code == SQLITE_OK ? DW_OK : dw_index_fail(store, code, "checkpoint", err);
}

/* --- rows ------------------------------------------------------------------------------------------------------- */

dw_status dw_index_actor(dw_store *store, const char *name, dw_store_actor *out, dw_error *err) {
    bool row;
    *out = (dw_store_actor){0};
    sqlite3_stmt *find = dw_index_use(store, DW_SQL_ACTOR_FIND);
    (void)sqlite3_bind_text(find, 1, name, -1, SQLITE_STATIC);
    dw_status status = dw_index_step(store, DW_SQL_ACTOR_FIND, &row, err);
    if (status != DW_OK) return status;
    if (row)
        *out = (dw_store_actor){.id = sqlite3_column_int64(find, 0),
                                .head = (uint64_t)sqlite3_column_int64(find, 1),
                                .turn = (uint64_t)sqlite3_column_int64(find, 2),
                                .depth = (uint64_t)sqlite3_column_int64(find, 3),
                                .ripe_at = (uint64_t)sqlite3_column_int64(find, 4)};
    dw_index_done(store, DW_SQL_ACTOR_FIND);
    return row ? DW_OK : dw_fail(err, DW_E_NOT_FOUND, "there is no actor %s", name);
}

static dw_layer_row row_of(sqlite3_stmt *statement, uint64_t id) {
    return (dw_layer_row){.id = id,
                          .parent = (uint64_t)sqlite3_column_int64(statement, 0),
                          .refs = (uint32_t)sqlite3_column_int64(statement, 1),
                          .turn = (uint64_t)sqlite3_column_int64(statement, 2),
                          .weight = (uint64_t)sqlite3_column_int64(statement, 3)};
}

/* One row of LOOK or GET; the statement stands on it, and the caller is done with it. */
static dw_status step_layer(dw_store *store, dw_sql sql, uint64_t id, dw_layer_row *out, dw_error *err) {
    bool row;
    sqlite3_stmt *statement = dw_index_use(store, sql);
    (void)sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
    dw_status status = dw_index_step(store, sql, &row, err);
    if (status != DW_OK) return status;
    if (row) *out = row_of(statement, id);
    /* A parent is older than its child: so every walk ends. */
    if (row && out->parent < id) return DW_OK;
    dw_index_done(store, sql);
    return dw_fail(err, DW_E_CORRUPT, "index: layer %" PRIu64 " %s", id,
                   row ? "is older than its parent" : "is missing");
}

dw_status dw_index_layer(dw_store *store, uint64_t id, dw_layer_row *out, dw_error *err) {
    dw_status status = step_layer(store, DW_SQL_LAYER_LOOK, id, out, err);
    if (status == DW_OK) dw_index_done(store, DW_SQL_LAYER_LOOK);
    return status;
}

dw_status dw_index_layer_body(dw_store *store, uint64_t id, dw_layer_row *row, dw_layer *out, dw_error *err) {
    *out = (dw_layer){0};
    dw_status status = step_layer(store, DW_SQL_LAYER_GET, id, row, err);
    if (status != DW_OK) return status;
    sqlite3_stmt *get = store->statements[DW_SQL_LAYER_GET];
    const void *body = sqlite3_column_blob(get, 4);
    status = dw_layer_decode(body, (size_t)sqlite3_column_bytes(get, 4), out, err);
    dw_index_done(store, DW_SQL_LAYER_GET);
    if (status == DW_OK && (out->id != id || out->parent != row->parent || out->turn != row->turn)) {
        dw_layer_deinit(out);
        status = dw_fail(err, DW_E_CORRUPT, "it is another one");
    }
    return status == DW_OK ? DW_OK : dw_error_prefix(err, status, "layer %" PRIu64, id);
}

dw_status dw_index_layer_of_turn(dw_store *store, const char *actor, const dw_store_actor *from, uint64_t turn,
                                 dw_layer_row *out, dw_error *err) {
    dw_status status = dw_index_layer(store, from->head, out, err);
    if (turn == DW_STORE_LATEST) return status;
    while (status == DW_OK && out->turn > turn && out->parent) status = dw_index_layer(store, out->parent, out, err);
    if (status == DW_OK && out->turn != turn)
        status = dw_fail(err, DW_E_NOT_FOUND, "turn %" PRIu64 " of %s is not kept: it is at turn %" PRIu64, turn, actor,
                         from->turn);
    return status;
}

dw_status dw_store_chain(dw_store *store, uint64_t head, dw_layer_rows *out, dw_error *err) {
    dw_status status = DW_OK;
    out->count = 0;
    for (uint64_t id = head; id && status == DW_OK;) {
        status = DW_VEC_RESERVE(out, 1, DW_VEC_ITEMS_MAX);
        if (status != DW_OK) return dw_fail(err, status, "no memory for a chain of layers");
        dw_layer_row *row = &out->items[out->count];
        status = dw_index_layer(store, id, row, err);
        if (status != DW_OK) break;
        id = row->parent;
        out->count++;
    }
    return status;
}

/* store_internal.h: what the files of src/store share. Nobody else includes it but their tests.
 *
 * Locks, in this order: leadership (queue_lock is held only to take it), index_lock, bulk.lock. A commit's syncs are
 * made under leadership alone; a checkpoint's, of SQLite's log, under index_lock too.
 *
 *   leadership   one thread at a time writes: a group of commits, a fold, or what tidying gives back. All of bulk's
 *                append side, `spoiled` and `epoch` are the leader's
 *   index_lock   the SQLite connection, its statements, and the list of views
 *   queue_lock   batches that wait, and who leads
 */
#ifndef DW_STORE_STORE_INTERNAL_H
#define DW_STORE_STORE_INTERNAL_H

#include <sqlite3.h>
#include <stdatomic.h>

#include "base/base.h"
#include "os/os.h"
#include "store/disk.h"
#include "store/layer.h"
#include "store/store.h"

/* --- SQLite's files (vfs.c) ------------------------------------------------------------------------------------ */

typedef struct dw_store_vfs dw_store_vfs;

/* Registers a file layer of SQLite over the store's disk, under a name of its own. After a sync that failed it sets
 * *poisoned, and writes nothing any more. */
dw_status dw_vfs_create(const dw_store_disk *disk, const char *folder, atomic_bool *poisoned, dw_store_vfs **out,
                        dw_error *err) DW_MUST_USE;
/* Every file of it is closed. NULL is a no-op. */
void dw_vfs_destroy(dw_store_vfs *vfs);
const char *dw_vfs_name(const dw_store_vfs *vfs);
/* Makes durable what SQLite has written to its log. */
dw_status dw_vfs_sync_log(dw_store_vfs *vfs, dw_error *err) DW_MUST_USE;
uint64_t dw_vfs_log_bytes(const dw_store_vfs *vfs);
/* What made SQLite's last call fail, if it was a file: true, and in *err; forgotten then. */
bool dw_vfs_take_failure(dw_store_vfs *vfs, dw_error *err);

/* --- bulk files (bulk.c) --------------------------------------------------------------------------------------- */

enum { DW_BULK_BUFFER_BYTES = 1 << 20, DW_BULK_HEAD_BYTES = 64 };

typedef struct dw_bulk_open { uint32_t number, users; uint64_t used; dw_os_file file; } dw_bulk_open;

typedef struct dw_bulk {
    /* Append side; the leader's. */
    uint32_t number;            /* of the file that is appended to; 0: none yet */
    uint32_t last_number;       /* highest number that was ever taken */
    uint32_t next;              /* page */
    uint32_t counted;           /* pages below are in the index's count; others were written for nothing, or now */
    uint32_t flushed;           /* pages below are in the file, those from here to next in the buffer */
    bool unsynced;
    dw_os_file file;
    uint8_t *buffer;            /* [DW_BULK_BUFFER_BYTES] */
    /* Files open to be read. */
    dw_os_mutex *lock;
    uint64_t clock;
    dw_bulk_open open[DW_STORE_FILES_OPEN_MAX];
} dw_bulk;

dw_status dw_bulk_init(dw_store *store, dw_error *err) DW_MUST_USE;
void dw_bulk_deinit(dw_store *store);
/* Goes on in file `number`, of which the index counts `pages`; cuts off what is behind. Where that file is full or not
 * as it should be, a new one is begun when it is needed. */
dw_status dw_bulk_resume(dw_store *store, uint32_t number, uint32_t pages, dw_error *err) DW_MUST_USE;
/* Before the first put of a group: there is a file with room. */
dw_status dw_bulk_begin(dw_store *store, dw_error *err) DW_MUST_USE;
/* Appends bytes on a page of their own. */
dw_status dw_bulk_put(dw_store *store, const void *data, size_t size, uint32_t *file, uint32_t *page,
                      dw_error *err) DW_MUST_USE;
/* What was put is on disk. */
dw_status dw_bulk_sync(dw_store *store, dw_error *err) DW_MUST_USE;
/* Gives up what was put from page `next` on, and was named by nobody. */
void dw_bulk_take_back(dw_store *store, uint32_t next);
dw_status dw_bulk_read(dw_store *store, uint32_t file, uint32_t page, void *out, size_t size,
                       dw_error *err) DW_MUST_USE;
dw_status dw_bulk_discard(dw_store *store, uint32_t file, uint32_t page, uint32_t n, dw_error *err) DW_MUST_USE;
dw_status dw_bulk_remove(dw_store *store, uint32_t file, dw_error *err) DW_MUST_USE;
void dw_bulk_path(const dw_store *store, uint32_t file, char out[DW_OS_PATH_BYTES]);
/* The number in a bulk file's name; 0 where it is none. */
uint32_t dw_bulk_number_of(const char *name);
/* For a new index: DW_E_CORRUPT where there is a bulk file, which is of an index that is gone. Removes nothing. */
dw_status dw_bulk_refuse_any(dw_store *store, dw_error *err) DW_MUST_USE;
/* The first page of a bulk file: its first DW_BULK_HEAD_BYTES, the rest is zeros. */
void dw_bulk_head_write(const uint8_t identity[16], uint32_t number, uint8_t out[DW_BULK_HEAD_BYTES]);
dw_status dw_bulk_head_check(const uint8_t identity[16], uint32_t number, const uint8_t *head, size_t size,
                             dw_error *err) DW_MUST_USE;

/* --- the index (index.c) --------------------------------------------------------------------------------------- */

typedef enum dw_sql {
    DW_SQL_BEGIN, DW_SQL_COMMIT, DW_SQL_ROLLBACK, DW_SQL_SAVE, DW_SQL_SAVED, DW_SQL_UNDO,
    DW_SQL_ACTOR_FIND, DW_SQL_ACTOR_ADD, DW_SQL_ACTOR_MOVE, DW_SQL_ACTOR_DROP, DW_SQL_ACTORS, DW_SQL_RIPE,
    DW_SQL_LAYER_ADD, DW_SQL_LAYER_GET, DW_SQL_LAYER_LOOK, DW_SQL_LAYER_SESSIONS, DW_SQL_LAYER_REFS, DW_SQL_LAYER_DROP,
    DW_SQL_LAYER_REPLACE, DW_SQL_LAYERS,
    DW_SQL_RECORD_PUT, DW_SQL_RECORD_DROP, DW_SQL_RECORDS_DROP, DW_SQL_RECORDS,
    DW_SQL_FILE_GROW, DW_SQL_FILE_FREE, DW_SQL_FILE_DROP, DW_SQL_FILES, DW_SQL_FILES_DEAD,
    DW_SQL_HOLE_ADD, DW_SQL_HOLES, DW_SQL_HOLE_DROP, DW_SQL_FILE_HOLES_DROP, DW_SQL_HOLES_AGED, DW_SQL_USE,
    DW_SQL_COUNT
} dw_sql;

typedef struct dw_store_actor {
    int64_t id;
    uint64_t head, turn, depth, ripe_at; /* depth: at least the number of layers from head to root */
} dw_store_actor;

typedef struct dw_layer_row {
    uint64_t id, parent, turn, weight;
    uint32_t refs;
} dw_layer_row;
typedef DW_VEC(dw_layer_row) dw_layer_rows;

/* Opens and makes the index; identity and the next layer's number are known then. */
dw_status dw_index_open(dw_store *store, dw_error *err) DW_MUST_USE;
void dw_index_close(dw_store *store);
/* From SQLite's code to a status: what the disk said, where it was the disk. */
dw_status dw_index_fail(dw_store *store, int code, const char *what, dw_error *err);
/* A statement, reset, without values. index_lock is held until it is done with. */
sqlite3_stmt *dw_index_use(dw_store *store, dw_sql sql);
/* Steps a statement that gives no rows, and resets it. */
dw_status dw_index_run(dw_store *store, dw_sql sql, dw_error *err) DW_MUST_USE;
/* Steps one that does: *row says whether there is one. The caller resets it (dw_index_use, or dw_index_done). */
dw_status dw_index_step(dw_store *store, dw_sql sql, bool *row, dw_error *err) DW_MUST_USE;
void dw_index_done(dw_store *store, dw_sql sql);
dw_status dw_index_actor(dw_store *store, const char *name, dw_store_actor *out, dw_error *err) DW_MUST_USE;
dw_status dw_index_layer(dw_store *store, uint64_t id, dw_layer_row *out, dw_error *err) DW_MUST_USE;
/* With its body decoded. */
dw_status dw_index_layer_body(dw_store *store, uint64_t id, dw_layer_row *row, dw_layer *out,
                              dw_error *err) DW_MUST_USE;
/* The layer of a turn at or below `head`. */
dw_status dw_index_layer_of_turn(dw_store *store, const char *actor, const dw_store_actor *from, uint64_t turn,
                                 dw_layer_row *out, dw_error *err) DW_MUST_USE;
/* Moves SQLite's log into the database. */
dw_status dw_index_checkpoint(dw_store *store, dw_error *err) DW_MUST_USE;

/* --- the store -------------------------------------------------------------------------------------------------- */

typedef struct dw_batch dw_batch; /* commit.c */

/* In order. `names` has a bit for each actor of a batch, at its name's hash: a bit that is not set is an actor that
 * does not wait. */
typedef struct dw_batches { dw_batch *first, *last; uint64_t names[64]; } dw_batches;

struct dw_store {
    char folder[DW_OS_PATH_BYTES - 64]; /* names of its files are longer */
    const dw_store_disk *disk;
    uint64_t retention, fold_layers, file_bytes, log_bytes;
    dw_os_file lock;
    uint8_t identity[16];         /* of the store: bulk files carry it */
    atomic_bool poisoned;

    dw_os_mutex *index_lock;
    dw_store_vfs *vfs;
    sqlite3 *db;
    sqlite3_stmt *statements[DW_SQL_COUNT];
    dw_store_view *views;
    uint64_t next_layer;
    uint64_t epoch;               /* of the last transaction that freed pages */

    dw_bulk bulk;
    dw_freed spoiled;             /* pages that were written and that no layer names */

    dw_os_mutex *queue_lock;
    dw_os_condition *queue_moved;
    bool leading;
    dw_batches waiting;           /* whose callers wait */
    dw_batches interval, memory;  /* acknowledged */
    uint64_t flying[64];          /* names, as in dw_batches, of those that a leader writes now */
    uint64_t early_bytes;         /* of interval and memory */
    dw_error early_failure;       /* of an acknowledged batch that was refused: told by the next flush */
    char grown[DW_ACTOR_NAME_BYTES_MAX + 1]; /* an actor that is to be folded soon; the leader's */
    atomic_uint_least64_t n_groups, n_batches, n_syncs;
};

void dw_store_lead(dw_store *store);
void dw_store_lead_no_more(dw_store *store);
dw_status dw_store_check_sound(dw_store *store, dw_error *err) DW_MUST_USE;
/* A transaction of the leader's. End commits, with `freed` given back; a status that is not DW_OK rolls back and is
 * passed on. index_lock is held from begin to end. */
dw_status dw_store_begin(dw_store *store, dw_error *err) DW_MUST_USE;
dw_status dw_store_end(dw_store *store, dw_freed *freed, dw_status status, dw_error *err) DW_MUST_USE;
/* Lowest epoch of an open view; UINT64_MAX without one. index_lock is held. */
uint64_t dw_store_oldest_view(const dw_store *store);
/* Folds one actor; by the leader. */
dw_status dw_store_fold(dw_store *store, const char *actor, dw_error *err) DW_MUST_USE;
/* Takes a reference off a layer; what nobody refers to goes into `freed`. In a transaction. */
dw_status dw_store_release_layer(dw_store *store, uint64_t id, dw_freed *freed, dw_error *err) DW_MUST_USE;
/* Forgets what was acknowledged and never written: after a last flush. */
void dw_store_drop_early(dw_store *store);
/* Writes what waits of an actor, so that a read sees it. */
dw_status dw_store_settle(dw_store *store, const char *actor, dw_error *err) DW_MUST_USE;
/* The layers from `head` to the root. index_lock is held; the caller frees *out, also after a failure. */
dw_status dw_store_chain(dw_store *store, uint64_t head, dw_layer_rows *out, dw_error *err) DW_MUST_USE;

/* A view that is in no list and pins nothing: all of a turn, resolved. index_lock is held. */
dw_status dw_store_resolve(dw_store *store, const char *actor, uint64_t turn, dw_store_view *view,
                           dw_error *err) DW_MUST_USE;
void dw_store_view_free_content(dw_store_view *view);

struct dw_store_view {
    dw_store *store;
    dw_store_view *previous, *next;
    uint64_t epoch;               /* pages that were freed after that are still there */
    uint64_t turn;
    dw_layer sum;                 /* of all layers */
    dw_store_session *sessions;
    size_t n_sessions;
    uint8_t *state;
    size_t state_bytes;
    uint8_t *extent;              /* [DW_STORE_EXTENT_BYTES_MAX], made when rows are read */
};

/* --- applying a change (apply.c) -------------------------------------------------------------------------------- */

/* One change, in a transaction. `layer` is what its pages and rows say, with their places. A refusal leaves the
 * transaction to be undone by the caller. */
dw_status dw_store_apply(dw_store *store, const dw_store_change *change, const dw_layer *layer, dw_freed *freed,
                         dw_error *err) DW_MUST_USE;
/* What can be said of a change without looking at the store. */
dw_status dw_store_check_change(const dw_store_change *change, dw_error *err) DW_MUST_USE;

#endif

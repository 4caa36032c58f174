/* store.h: what a node remembers: of each actor its memory, its conversations' KV rows, its state and its records, turn
 * by turn, in one folder. The store knows actors by name alone, and what they hold as bytes.
 *
 *   actor     a name, and the layer that it stands on (its head)
 *   layer     what one turn changed: pages, rows, and the state as a whole. It has a parent, the turn before. An
 *             actor's memory is what the layers from its head to the root say, the newest first
 *   page      DW_STORE_PAGE_BYTES of an actor's memory
 *   rows      of a session: fixed-size rows that are appended behind those that are kept
 *   state     one blob a turn: globals, tables, mailbox, sessions, as the caller writes them
 *   record    a small thing that does not belong to a turn's past (a message that waits, an output that has not left, a
 *             timer), under (actor, kind, number). A rewind or a fork does not touch records
 *   change    one thing that happens to one actor; a batch of changes happens as one, or not at all
 *   bulk      pages and rows on disk: append files whose records begin on pages
 *   index     all else: an SQLite database that says of each layer where its bulk lies
 *   group     the batches that one sync serves
 *   fold      to make one layer of several, of which the older ones are nobody's any more
 *
 * On disk
 *   DIR/lock            whoever holds its lock owns the store
 *   DIR/index           SQLite, application id 'DWST', user version DW_STORE_VERSION; beside it SQLite's own -wal
 *   DIR/bulk-XXXXXXXX   page 0 says which store's and which number; then pages and extents of rows, as they came
 *
 * A group is committed in this order: its bulk is written and synced; one transaction adds its layers and records; the
 * log of SQLite is synced; the callers are told. What lies in a bulk file and in no layer is nothing.
 *
 * Rules
 * 1. What was acknowledged (dw_store_commit returned DW_OK at level turn, or dw_store_flush did) is there after any
 *    crash, whole. What was not acknowledged is there as a whole batch or not at all.
 * 2. A commit that fails changes nothing, and everything before stays: DW_E_NO_SPACE, DW_E_IO, DW_E_SYSTEM. One
 *    exception: where a sync failed, what the disk has is unknown. Then the store is poisoned: nothing is acknowledged
 *    any more (DW_E_STATE), until it is opened again. Reads go on, but not of an actor of whom something waits.
 * 3. Bulk that a layer names is never written again. It is given back to the system when no layer names it (and no view
 *    was opened before that): holes of pages, and whole files.
 * 4. Each page, extent of rows, layer (with its number, parent and turn) and state has a checksum (64 bits of its
 *    SHA-256), verified at each read: DW_E_HASH. Nothing of the store is mapped.
 * 5. Costs follow change: a commit costs its pages and rows and one row of the index; a fork, one layer's count; a
 *    rewind, the layers that it drops; a view, the layers of the actor: those of the retention, some
 *    DW_STORE_FOLD_LAYERS more, and a number that grows with the logarithm of what it holds.
 * 6. The retention: an actor's last `retention_turns` turns can be viewed, forked and rewound to. Older ones are folded
 *    (dw_store_tidy), except those that a fork or a view stands on.
 * 7. References are counted: a layer's are its children and the actors that stand on it. The last one that goes takes
 *    the layer with it, and then what only that stood on.
 * 8. A store of another version is refused with DW_E_VERSION, and keeps its content.
 * Threads: all functions may be called by several threads at once, but open and close. A view belongs to one thread at
 * a time. Callbacks must not call the store.
 */
#ifndef DW_STORE_STORE_H
#define DW_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"

enum { DW_STORE_VERSION = 1, DW_STORE_PAGE_BYTES = 4096 };

typedef struct dw_store dw_store;
typedef struct dw_store_disk dw_store_disk; /* disk.h */

typedef struct dw_store_options {
    uint32_t retention_turns;    /* 0: DW_STORE_RETENTION_TURNS; at most DW_STORE_RETENTION_TURNS_MAX */
    uint32_t fold_layers;        /* more than after its last fold: an actor is ripe; 0: DW_STORE_FOLD_LAYERS */
    uint64_t file_bytes;         /* a bulk file that is longer gets no more; 0: DW_STORE_FILE_BYTES */
    uint64_t log_bytes;          /* SQLite's log is moved into the index when it is longer; 0: DW_STORE_LOG_BYTES */
    const dw_store_disk *disk;   /* NULL: the system's. Borrowed as long as the store lives */
} dw_store_options;

/* Opens the store of a folder, and makes both where they are missing. Recovers what a crash left: the index by SQLite's
 * log, then what no layer names is given back. DW_E_BUSY: somebody else has it; DW_E_VERSION; DW_E_FORMAT: not a store.
 * `options` may be NULL. */
dw_status dw_store_open(const char *folder, const dw_store_options *options, dw_store **out, dw_error *err) DW_MUST_USE;
/* Writes what waits (dw_store_flush), and closes. The store is closed whatever this returns; views were closed before.
 * NULL is a no-op. */
dw_status dw_store_close(dw_store *store, dw_error *err) DW_MUST_USE;

/* --- commits ------------------------------------------------------------------------------------------------- */

typedef struct dw_store_page {
    uint64_t index;       /* in the actor's memory; below DW_STORE_PAGES_MAX */
    const void *data;     /* [DW_STORE_PAGE_BYTES]; NULL: zeros, which take no room */
} dw_store_page;

/* A session's rows [0, first) stay, `n` rows come behind, and what else was there is cut. */
typedef struct dw_store_rows {
    uint64_t session;     /* the caller's number of it */
    uint64_t first;       /* at most as many as there are, else DW_E_RANGE */
    uint64_t n;
    uint32_t row_bytes;   /* 1 .. DW_STORE_ROW_BYTES_MAX; the same in all of a session's rows that are kept */
    const void *data;     /* [n * row_bytes]; NULL where n is 0 */
} dw_store_rows;

typedef struct dw_store_record {
    uint32_t kind;        /* the caller's */
    uint64_t number;
    const void *data;     /* NULL: the record goes; one that is not there: no-op */
    size_t size;          /* at most DW_STORE_RECORD_BYTES_MAX */
} dw_store_record;

typedef enum dw_store_act {
    DW_STORE_CREATE,      /* a new actor (DW_E_EXISTS) at turn `turn`, with pages, rows, state, records */
    DW_STORE_TURN,        /* turn `turn`, one more than the last (DW_E_MISMATCH), with the same */
    DW_STORE_RECORDS,     /* records alone; no turn */
    DW_STORE_FORK,        /* a new actor that stands on turn `turn` of the actor `source`; and its records */
    DW_STORE_REWIND,      /* back to turn `turn`; the later ones go; and records */
    DW_STORE_REMOVE       /* the actor, with its records */
} dw_store_act;

typedef struct dw_store_change {
    dw_store_act act;
    const char *actor;             /* 1 .. DW_ACTOR_NAME_BYTES_MAX bytes */
    const char *source;            /* of a fork */
    uint64_t turn;                 /* of a fork: DW_STORE_LATEST is the last one */
    const dw_store_page *pages;    /* ascending, none twice */
    size_t n_pages;
    const dw_store_rows *rows;     /* none twice */
    size_t n_rows;
    const void *state;             /* at most DW_STORE_STATE_BYTES_MAX */
    size_t state_bytes;
    const dw_store_record *records;
    size_t n_records;
} dw_store_change;

#define DW_STORE_LATEST UINT64_MAX

/* When a commit is acknowledged. An actor has one level; the store takes what each call says.
 *   turn      when it is on disk
 *   interval  at once; it is on disk with the next group, or after dw_store_flush, which the node calls when the
 *             interval ends
 *   memory    at once; it is written when somebody asks (a read, a flush of everything, a commit of another level for
 *             one of its actors), or when what waits is more than DW_STORE_WAITING_BYTES_MAX
 * What waits is lost with the process. It is in order: whatever is read or written later sees it. */
typedef enum dw_store_level { DW_STORE_LEVEL_TURN, DW_STORE_LEVEL_INTERVAL, DW_STORE_LEVEL_MEMORY } dw_store_level;

/* The changes as one, in their order. Blocks until acknowledged; concurrent calls share their syncs. What changes point
 * to is read until this returns, and copied where the level is not turn. A refusal (DW_E_INVALID, DW_E_NOT_FOUND,
 * DW_E_EXISTS, DW_E_MISMATCH, DW_E_RANGE, DW_E_LIMIT) names the change; batches of others go on. A batch that was
 * acknowledged early and is refused when it is written is dropped, and the next flush says why. */
dw_status dw_store_commit(dw_store *store, const dw_store_change *changes, size_t n, dw_store_level level,
                          dw_error *err) DW_MUST_USE;
/* Writes and syncs what waits: interval, and with `everything` memory too. */
dw_status dw_store_flush(dw_store *store, bool everything, dw_error *err) DW_MUST_USE;

/* --- reading -------------------------------------------------------------------------------------------------- */

/* An actor as one turn left it. It stays readable, whatever is committed, until it is closed. */
typedef struct dw_store_view dw_store_view;

/* DW_STORE_LATEST, or a turn in the retention. DW_E_NOT_FOUND: no such actor, or no such turn. */
dw_status dw_store_view_open(dw_store *store, const char *actor, uint64_t turn, dw_store_view **out,
                             dw_error *err) DW_MUST_USE;
void dw_store_view_close(dw_store_view *view); /* NULL is a no-op */

uint64_t dw_store_view_turn(const dw_store_view *view);
/* Borrowed from the view. */
const void *dw_store_view_state(const dw_store_view *view, size_t *size);

/* Where a page lies; ascending by index. Pages that are not in the list are zeros. Borrowed. */
typedef struct dw_store_place {
    uint32_t index, file, page;  /* page of the file */
    uint64_t sum;
} dw_store_place;
size_t dw_store_view_pages(const dw_store_view *view, const dw_store_place **out);
/* [DW_STORE_PAGE_BYTES] of any page, also one of zeros. */
dw_status dw_store_view_read_page(dw_store_view *view, uint64_t index, void *out, dw_error *err) DW_MUST_USE;
/* Pages [first, +n), contiguous at `out`; those that lie side by side are one read. */
dw_status dw_store_view_read_pages(dw_store_view *view, uint64_t first, uint64_t n, void *out,
                                   dw_error *err) DW_MUST_USE;

typedef struct dw_store_session { uint64_t session, n_rows; uint32_t row_bytes; } dw_store_session;
/* Sessions that have rows, ascending; borrowed. */
size_t dw_store_view_sessions(const dw_store_view *view, const dw_store_session **out);
/* Rows [first, +n) of a session, contiguous at `out`. DW_E_RANGE: not that many. Reads whole extents of at most
 * DW_STORE_EXTENT_BYTES_MAX, and allocates one. */
dw_status dw_store_view_read_rows(dw_store_view *view, uint64_t session, uint64_t first, uint64_t n, void *out,
                                  dw_error *err) DW_MUST_USE;

/* `each` returns false to end a walk. Names and bytes are valid during the call. */
typedef bool (*dw_store_each_actor)(void *context, const char *name, uint64_t turn);
dw_status dw_store_actors(dw_store *store, dw_store_each_actor each, void *context, dw_error *err) DW_MUST_USE;
typedef bool (*dw_store_each_record)(void *context, uint64_t number, const void *data, size_t size);
/* Records of one kind from `from` on, ascending. */
dw_status dw_store_records(dw_store *store, const char *actor, uint32_t kind, uint64_t from, dw_store_each_record each,
                           void *context, dw_error *err) DW_MUST_USE;
/* The turns that can be viewed, newest first, with the layer's number: forks that share a turn name the same layer. */
typedef bool (*dw_store_each_turn)(void *context, uint64_t turn, uint64_t layer);
dw_status dw_store_history(dw_store *store, const char *actor, dw_store_each_turn each, void *context,
                           dw_error *err) DW_MUST_USE;

/* --- housekeeping --------------------------------------------------------------------------------------------- */

/* Folds at most `actors_max` actors that have grown, gives space back, and moves SQLite's log into the index. For a
 * thread that has nothing better to do; *more: call again. Commits and reads wait meanwhile for one fold, not for all.
 * A commit folds by itself an actor that has grown far beyond (DW_STORE_LAYERS_SOON), so that never calling this costs
 * time, not correctness. */
dw_status dw_store_tidy(dw_store *store, uint32_t actors_max, bool *more, dw_error *err) DW_MUST_USE;

typedef struct dw_store_use {
    uint64_t actors, layers, records;
    uint64_t files, bulk_pages, live_pages;    /* bulk_pages: of files; live ones are named by some layer */
    uint64_t holes_waiting;                    /* runs of pages that are free, and not yet given back */
    uint64_t groups, batches, syncs;           /* since it was opened */
} dw_store_use;
dw_status dw_store_use_now(dw_store *store, dw_store_use *out, dw_error *err) DW_MUST_USE;
/* Reads everything and holds the books against each other: counts of layers, live pages of files, every checksum. The
 * first breach: DW_E_CORRUPT, DW_E_HASH, DW_E_TRUNCATED. Blocks commits. */
dw_status dw_store_verify(dw_store *store, dw_error *err) DW_MUST_USE;

#endif

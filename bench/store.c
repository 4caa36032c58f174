/* store.c: turns that are on disk when they are told of, beside the disk's own syncs and SQLite's own inserts, taking
 * turns in one run.
 *
 *     bench_store --folder FOLDER --callers N --batch N --pages N --rounds N --ms N
 *
 * One JSON object: what each round had a second. `callers` threads each commit batches of `batch` turns, of as many
 * actors, each of which writes `pages` pages and a state of 200 bytes. bench/store runs it and sums up. */
#include <inttypes.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "store/store.h"

enum { CALLERS_MAX = 256, BATCH_MAX = 4096, PAGES_MAX = 64, STATE_BYTES = 200 };

typedef struct store_bench {
    const char *folder;
    uint32_t callers, batch, pages, rounds, ms;
    dw_store *store;
    atomic_bool stop;
    atomic_uint_least64_t turns;
} store_bench;

typedef struct caller {
    store_bench *bench;
    uint32_t number;
    uint64_t turn;
    dw_os_thread *thread;
} caller;

static void must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "bench_store: %s: %s\n", dw_status_name(status), err->text);
    exit(1);
}

static void must_sqlite(int code, sqlite3 *db) {
    if (code == SQLITE_OK || code == SQLITE_DONE || code == SQLITE_ROW) return;
    fprintf(stderr, "bench_store: SQLite: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static uint64_t deadline_of(const store_bench *b) { return dw_os_monotonic_ns() + (uint64_t)b->ms * 1000000; }
static double a_second(uint64_t n, uint64_t begun) { return (double)n * 1e9 / (double)(dw_os_monotonic_ns() - begun); }

/* --- the raw costs -------------------------------------------------------------------------------------------------
 */

/* A page appended and synced, one after another. */
static double measure_syncs(const store_bench *b) {
    static uint8_t page[DW_STORE_PAGE_BYTES];
    char path[1024];
    dw_os_file file;
    dw_error err;
    uint64_t n = 0;
    (void)snprintf(path, sizeof path, "%s/raw", b->folder);
    must(dw_os_open(path, DW_OS_CREATE_TRUNCATE, &file, &err), &err);
    uint64_t begun = dw_os_monotonic_ns();
    for (uint64_t deadline = deadline_of(b); dw_os_monotonic_ns() < deadline; n++) {
        must(dw_os_write_at(file, n * sizeof page, page, sizeof page, &err), &err);
        must(dw_os_sync(file, &err), &err);
    }
    double rate = a_second(n, begun);
    dw_os_close(&file);
    (void)remove(path);
    return rate;
}

/* Rows as large as a turn's, callers * batch of them a transaction, WAL and synchronous=FULL: what a group could be at
 * best. */
static double measure_inserts(const store_bench *b) {
    static const uint8_t body[STATE_BYTES + 150];
    char path[1024];
    sqlite3 *db;
    sqlite3_stmt *insert;
    uint64_t n = 0;
    (void)snprintf(path, sizeof path, "%s/insert.db", b->folder);
    must_sqlite(sqlite3_open(path, &db), db);
    must_sqlite(sqlite3_exec(db,
                             "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE IF NOT EXISTS t(id "
                             "INTEGER PRIMARY KEY, body BLOB)",
                             NULL, NULL, NULL),
                db);
    must_sqlite(sqlite3_prepare_v2(db, "INSERT INTO t(body) VALUES(?1)", -1, &insert, NULL), db);
    uint64_t begun = dw_os_monotonic_ns();
    for (uint64_t deadline = deadline_of(b); dw_os_monotonic_ns() < deadline;) {
        must_sqlite(sqlite3_exec(db, "BEGIN", NULL, NULL, NULL), db);
        for (uint32_t i = 0; i < b->callers * b->batch; i++, n++) {
            must_sqlite(sqlite3_bind_blob(insert, 1, body, sizeof body, SQLITE_STATIC), db);
            must_sqlite(sqlite3_step(insert), db);
            must_sqlite(sqlite3_reset(insert), db);
        }
        must_sqlite(sqlite3_exec(db, "COMMIT", NULL, NULL, NULL), db);
    }
    double rate = a_second(n, begun);
    (void)sqlite3_finalize(insert);
    must_sqlite(sqlite3_exec(db, "DROP TABLE t", NULL, NULL, NULL), db);
    must_sqlite(sqlite3_close(db), db);
    return rate;
}

/* --- durable turns --------------------------------------------------------------------------------------------------
 */

static void run_caller(void *argument) {
    caller *self = argument;
    store_bench *b = self->bench;
    dw_store_change *changes = calloc(b->batch, sizeof *changes);
    char(*names)[32] = calloc(b->batch, sizeof *names);
    uint8_t *bytes = malloc((size_t)b->pages * DW_STORE_PAGE_BYTES + 1), state[STATE_BYTES];
    dw_store_page pages[PAGES_MAX];
    dw_error err;
    if (!changes || !names || !bytes) exit(1);
    memset(bytes, (int)(self->number + 1), (size_t)b->pages * DW_STORE_PAGE_BYTES);
    memset(state, 7, sizeof state);
    for (uint32_t i = 0; i < b->pages; i++) pages[i].data = bytes + (size_t)i * DW_STORE_PAGE_BYTES;
    for (uint32_t i = 0; i < b->batch; i++) (void)snprintf(names[i], sizeof names[i], "actor-%u-%u", self->number, i);
    while (!atomic_load(&b->stop)) {
        uint64_t turn = ++self->turn;
        for (uint32_t i = 0; i < b->pages; i++) pages[i].index = i + turn % 16 * b->pages;
        for (uint32_t i = 0; i < b->batch; i++)
            changes[i] = (dw_store_change){.act = turn == 1 ? DW_STORE_CREATE : DW_STORE_TURN,
                                           .actor = names[i],
                                           .turn = turn,
                                           .pages = pages,
                                           .n_pages = b->pages,
                                           .state = state,
                                           .state_bytes = sizeof state};
        must(dw_store_commit(b->store, changes, b->batch, DW_STORE_LEVEL_TURN, &err), &err);
        atomic_fetch_add(&b->turns, b->batch);
    }
    free(changes);
    free(names);
    free(bytes);
}

static double measure_turns(store_bench *b, caller *callers) {
    dw_error err;
    atomic_store(&b->stop, false);
    atomic_store(&b->turns, 0);
    uint64_t begun = dw_os_monotonic_ns();
    for (uint32_t i = 0; i < b->callers; i++) {
        callers[i].bench = b;
        callers[i].number = i;
        must(dw_os_thread_create("caller", 0, run_caller, &callers[i], &callers[i].thread, &err), &err);
    }
    for (uint64_t deadline = deadline_of(b); dw_os_monotonic_ns() < deadline;)
        dw_os_sleep(deadline - dw_os_monotonic_ns());
    atomic_store(&b->stop, true);
    for (uint32_t i = 0; i < b->callers; i++) dw_os_thread_join(callers[i].thread);
    return a_second(atomic_load(&b->turns), begun);
}

static bool tidy(store_bench *b) {
    bool more = false;
    dw_error err;
    must(dw_store_tidy(b->store, 1000, &more, &err), &err);
    return more;
}

static uint32_t number_of(const char *text, uint32_t max) {
    unsigned long value = strtoul(text, NULL, 10);
    if (value <= max) return (uint32_t)value;
    fprintf(stderr, "bench_store: %s is more than %u\n", text, max);
    exit(2);
}

int main(int argc, char **argv) {
    static caller callers[CALLERS_MAX];
    store_bench b = {.callers = 1, .batch = 1, .pages = 1, .rounds = 3, .ms = 300};
    dw_error err;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--folder") == 0) b.folder = argv[i + 1];
        else if (strcmp(argv[i], "--callers") == 0) b.callers = number_of(argv[i + 1], CALLERS_MAX);
        else if (strcmp(argv[i], "--batch") == 0) b.batch = number_of(argv[i + 1], BATCH_MAX);
        else if (strcmp(argv[i], "--pages") == 0) b.pages = number_of(argv[i + 1], PAGES_MAX);
        else if (strcmp(argv[i], "--rounds") == 0) b.rounds = number_of(argv[i + 1], 1000);
        else if (strcmp(argv[i], "--ms") == 0) b.ms = number_of(argv[i + 1], 100000);
        else return fprintf(stderr, "bench_store: what is %s?\n", argv[i]), 2;
    }
    if (!b.folder || !b.callers || !b.batch || !b.rounds)
        return fprintf(stderr, "bench_store: --folder, and numbers from 1 on\n"), 2;
    must(dw_store_open(b.folder, NULL, &b.store, &err), &err);
    json_t *turns = json_array(), *syncs = json_array(), *inserts = json_array();
    for (uint32_t i = 0; i < b.rounds; i++) {
        json_array_append_new(syncs, json_real(measure_syncs(&b)));
        json_array_append_new(inserts, json_real(measure_inserts(&b)));
        json_array_append_new(turns, json_real(measure_turns(&b, callers)));
        while (tidy(&b)) {}
    }
    dw_store_use use;
    must(dw_store_use_now(b.store, &use, &err), &err);
    must(dw_store_close(b.store, &err), &err);
    json_t *out =
        json_pack("{s:o, s:o, s:o, s:f, s:I, s:I}", "turns", turns, "syncs", syncs, "inserts", inserts, "turns_a_group",
                  use.groups ? (double)(use.batches * b.batch) / (double)use.groups : 0.0, "live_bytes",
                  (json_int_t)(use.live_pages * DW_STORE_PAGE_BYTES), "layers", (json_int_t)use.layers);
    char *text = out ? json_dumps(out, JSON_COMPACT) : NULL;
    if (!text) return 1;
    printf("%s\n", text);
    free(text);
    json_decref(out);
    return 0;
}

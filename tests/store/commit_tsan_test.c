/* commit_tsan_test.c: several threads commit, read, fork, remove and tidy at once, under the thread sanitizer. Each
 * finds what it committed; groups are fewer than batches; and the books are right in the end. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"
#include "store/disk.h"
#include "store/store.h"

enum { THREADS = 4, TURNS = 60, PAGES = 3, ROW_BYTES = 500 };

static dw_store *store;
static atomic_uint n_running;

static void require(bool truth, const char *what, const dw_error *err) {
    if (truth) return;
    fprintf(stderr, "%s: %s\n", what, err ? err->text : "");
    exit(1);
}

/* The sync takes a moment, so that groups gather. */
static dw_status slow_sync(void *context, dw_os_file file, dw_error *err) {
    (void)context, (void)file, (void)err;
    dw_os_sleep(200000);
    return DW_OK;
}

typedef struct committer { unsigned number; dw_os_thread *thread; } committer;

static void read_back(const char *name, uint64_t turn, dw_store_view **view) {
    uint8_t page[DW_STORE_PAGE_BYTES], row[ROW_BYTES];
    dw_error err;
    require(dw_store_view_open(store, name, DW_STORE_LATEST, view, &err) == DW_OK, "view", &err);
    require(dw_store_view_turn(*view) == turn, "another turn", NULL);
    for (uint64_t i = 0; i < PAGES; i++) {
        require(dw_store_view_read_page(*view, i, page, &err) == DW_OK, "page", &err);
        require(page[5] == (uint8_t)(turn + i), "another page", NULL);
    }
    require(dw_store_view_read_rows(*view, 1, turn - 1, 1, row, &err) == DW_OK, "row", &err);
    require(row[9] == (uint8_t)turn, "another row", NULL);
}

static void commit_one(const char *name, uint64_t turn) {
    uint8_t bytes[PAGES][DW_STORE_PAGE_BYTES], row[ROW_BYTES];
    dw_store_page pages[PAGES];
    dw_error err;
    for (uint64_t i = 0; i < PAGES; i++) {
        memset(bytes[i], (int)(uint8_t)(turn + i), sizeof bytes[i]);
        pages[i] = (dw_store_page){i, bytes[i]};
    }
    memset(row, (int)(uint8_t)turn, sizeof row);
    const dw_store_rows rows = {.session = 1, .first = turn - 1, .n = 1, .row_bytes = ROW_BYTES, .data = row};
    const dw_store_record record = {.kind = 1, .number = turn, .data = row, .size = 20};
    const dw_store_change change = {.act = turn == 1 ? DW_STORE_CREATE : DW_STORE_TURN,
                                    .actor = name,
                                    .turn = turn,
                                    .pages = pages,
                                    .n_pages = PAGES,
                                    .rows = &rows,
                                    .n_rows = 1,
                                    .state = row,
                                    .state_bytes = 30,
                                    .records = &record,
                                    .n_records = 1};
    dw_store_level level = turn % 7 == 0    ? DW_STORE_LEVEL_INTERVAL
                           : turn % 11 == 0 ? DW_STORE_LEVEL_MEMORY
                                            : DW_STORE_LEVEL_TURN;
    require(dw_store_commit(store, &change, 1, level, &err) == DW_OK, "commit", &err);
}

static void run_committer(void *argument) {
    const committer *self = argument;
    char name[32], fork[32];
    dw_error err;
    dw_store_view *view = NULL;
    (void)snprintf(name, sizeof name, "actor %u", self->number);
    (void)snprintf(fork, sizeof fork, "fork %u", self->number);
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        commit_one(name, turn);
        if (turn % 5 != 0) continue;
        const dw_store_change forks = {.act = DW_STORE_FORK, .actor = fork, .source = name, .turn = DW_STORE_LATEST};
        const dw_store_change removes = {.act = DW_STORE_REMOVE, .actor = fork};
        require(dw_store_commit(store, &forks, 1, DW_STORE_LEVEL_TURN, &err) == DW_OK, "fork", &err);
        read_back(fork, turn, &view);
        dw_store_view_close(view);
        read_back(name, turn, &view);
        require(dw_store_commit(store, &removes, 1, DW_STORE_LEVEL_TURN, &err) == DW_OK, "remove", &err);
        dw_store_view_close(view);
    }
    atomic_fetch_sub(&n_running, 1);
}

static bool remove_entry(void *context, const char *name) {
    char path[600];
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    (void)remove(path);
    return true;
}

int main(void) {
    char folder[500];
    uint64_t tag;
    dw_error err;
    dw_store_disk disk = dw_store_disk_system;
    committer committers[THREADS];
    disk.sync = slow_sync;
    const dw_store_options options = {.retention_turns = 4,
                                      .file_bytes = 128 * 1024,
                                      .log_bytes = 64 * 1024,
                                      .disk = &disk};
    require(dw_os_random(&tag, sizeof tag, &err) == DW_OK, "random", &err);
    (void)snprintf(folder, sizeof folder, "%s/store-tsan-%016" PRIx64, DW_TEST_BUILD, tag);
    require(dw_store_open(folder, &options, &store, &err) == DW_OK, "open", &err);
    atomic_store(&n_running, THREADS);
    for (unsigned i = 0; i < THREADS; i++) {
        committers[i].number = i;
        require(dw_os_thread_create("committer", 0, run_committer, &committers[i], &committers[i].thread, &err) ==
                    DW_OK,
                "thread", &err);
    }
    while (atomic_load(&n_running) > 0) {
        bool more;
        require(dw_store_tidy(store, 2, &more, &err) == DW_OK, "tidy", &err);
        dw_os_sleep(3000000);
    }
    for (unsigned i = 0; i < THREADS; i++) dw_os_thread_join(committers[i].thread);
    dw_store_use use;
    require(dw_store_use_now(store, &use, &err) == DW_OK, "use", &err);
    printf("%" PRIu64 " batches in %" PRIu64 " groups, %" PRIu64 " syncs\n", use.batches, use.groups, use.syncs);
    require(use.groups < use.batches, "no group had two batches", NULL);
    require(dw_store_verify(store, &err) == DW_OK, "verify", &err);
    require(dw_store_close(store, &err) == DW_OK, "close", &err);
    require(dw_os_list(folder, remove_entry, folder, &err) == DW_OK, "list", &err);
    return remove(folder);
}

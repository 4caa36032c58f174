/* store_test.c: what a store promises, one claim a test. */
#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <string.h>

#include "os/os.h"
#include "os/scratch.h"
#include "store/disk.h"
#include "store/kit.h"

static dw_error err;
static kit_batch batch;
static kit_model model, next;
static char why[KIT_WHY_BYTES];

/* The system's disk, but nothing is synced: these tests lose no power (power_test.c does), and a sync takes
 * milliseconds. */
static dw_store_disk quick_disk;
static dw_store_options small_files = {.retention_turns = KIT_PAST + 1, .file_bytes = 64 * 1024, .disk = &quick_disk};
static dw_store_options usual = {.disk = &quick_disk};

static dw_status sync_nothing(void *context, dw_os_file file, dw_error *error) {
    (void)context, (void)file, (void)error;
    return DW_OK;
}

static dw_status sync_no_folder(void *context, const char *folder, dw_error *error) {
    (void)context, (void)folder, (void)error;
    return DW_OK;
}

/* An empty folder's name; what was there is removed. */
static const char *fresh(void) {
    static char folder[SCRATCH_PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%s/store", scratch_folder);
    kit_empty_folder(folder);
    if (dw_os_exists(folder)) assert_int_equal(remove(folder), 0);
    model = (kit_model){0};
    return folder;
}

static dw_store *open_store(const char *folder, const dw_store_options *options) {
    dw_store *store = NULL;
    assert_ok(dw_store_open(folder, options, &store, &err), err);
    return store;
}

static void commit(dw_store *store) {
    assert_ok(dw_store_commit(store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err), err);
}

static void assert_matches(dw_store *store, bool past) {
    if (!kit_matches(store, &model, past, why)) fail_msg("%s", why);
}

static dw_store_use use_of(dw_store *store) {
    dw_store_use use;
    assert_ok(dw_store_use_now(store, &use, &err), err);
    return use;
}

static void tidy(dw_store *store) {
    bool more = true;
    for (int i = 0; more; i++) {
        assert_true(i < 1000);
        assert_ok(dw_store_tidy(store, 8, &more, &err), err);
    }
}

/* --- claims ------------------------------------------------------------------------------------------------------- */

static void what_was_committed_is_there_after_a_reopening(void **unused) {
    (void)unused;
    const char *folder = fresh();
    uint64_t random = test_seed(11);
    dw_store *store = open_store(folder, &small_files);
    for (int i = 0; i < 300; i++) {
        kit_random_batch(&random, &model, &next, &batch);
        commit(store);
        model = next;
        if (i % 20 == 0) assert_matches(store, true);
        if (i % 35 == 0) tidy(store);
        if (i % 50 == 0) {
            assert_ok(dw_store_close(store, &err), err);
            store = open_store(folder, &small_files);
            assert_matches(store, true);
        }
    }
    assert_matches(store, true);
    assert_ok(dw_store_verify(store, &err), err);
    assert_ok(dw_store_close(store, &err), err);
}

static void a_store_has_one_owner(void **unused) {
    (void)unused;
    const char *folder = fresh();
    dw_store *store = open_store(folder, &usual), *second = NULL;
    assert_status(dw_store_open(folder, &usual, &second, &err), DW_E_BUSY);
    assert_null(second);
    assert_ok(dw_store_close(store, &err), err);
    store = open_store(folder, &usual);
    assert_ok(dw_store_close(store, &err), err);
}

static void other_databases_and_versions_are_refused(void **unused) {
    (void)unused;
    const char *folder = fresh();
    char index[SCRATCH_PATH_BYTES + 8];
    dw_store *store = open_store(folder, &usual);
    dw_os_file file;
    uint8_t head[100], changed[4] = {0, 0, 0, 9};
    assert_ok(dw_store_close(store, &err), err);
    (void)snprintf(index, sizeof index, "%s/index", folder);
    /* SQLite keeps the user version at byte 60, and the application's id at byte 68. */
    assert_ok(dw_os_open(index, DW_OS_READ_WRITE, &file, &err), err);
    assert_ok(dw_os_read_at(file, 0, head, sizeof head, &err), err);
    assert_ok(dw_os_write_at(file, 60, changed, 4, &err), err);
    assert_status(dw_store_open(folder, &usual, &store, &err), DW_E_VERSION);
    assert_non_null(strstr(err.text, "version 9"));
    assert_ok(dw_os_write_at(file, 60, head + 60, 4, &err), err);
    assert_ok(dw_os_write_at(file, 68, changed, 4, &err), err);
    assert_status(dw_store_open(folder, &usual, &store, &err), DW_E_FORMAT);
    assert_ok(dw_os_write_at(file, 68, head + 68, 4, &err), err);
    assert_ok(dw_os_write_at(file, 0, "nonsense", 8, &err), err);
    assert_status(dw_store_open(folder, &usual, &store, &err), DW_E_FORMAT);
    assert_ok(dw_os_write_at(file, 0, head, 16, &err), err);
    dw_os_close(&file);
    store = open_store(folder, &usual);
    assert_ok(dw_store_close(store, &err), err);
}

static dw_status one_change(dw_store *store, dw_store_change change) {
    return dw_store_commit(store, &change, 1, DW_STORE_LEVEL_TURN, &err);
}

static void a_refusal_leaves_everything_as_it_was(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 5;
    uint8_t bytes[DW_STORE_PAGE_BYTES] = {1};
    for (int i = 0; i < 4; i++) {
        kit_turn(&random, &model, 0, 3, 4, &batch);
        commit(store);
    }
    const dw_store_page pages[] = {{4, bytes}, {4, bytes}}, far = {DW_STORE_PAGES_MAX, bytes}, good = {9, bytes};
    const dw_store_rows beyond = {.session = 100, .first = 17, .n = 1, .row_bytes = KIT_ROW_BYTES, .data = bytes};
    const dw_store_rows other = {.session = 100, .first = 16, .n = 1, .row_bytes = KIT_ROW_BYTES + 1, .data = bytes};
    const char *a = "actor/0";
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = a, .turn = 6}), DW_E_MISMATCH);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_CREATE, .actor = a, .turn = 1}), DW_E_EXISTS);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = "b", .turn = 1}), DW_E_NOT_FOUND);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = "", .turn = 1}), DW_E_INVALID);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_REWIND, .actor = a, .turn = 99}), DW_E_NOT_FOUND);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_FORK, .actor = "b", .source = "c", .turn = 1}),
                  DW_E_NOT_FOUND);
    assert_status(one_change(store, (dw_store_change){.act = DW_STORE_FORK, .actor = a, .source = a, .turn = 1}),
                  DW_E_EXISTS);
    assert_status(
        one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = a, .turn = 5, .pages = pages, .n_pages = 2}),
        DW_E_INVALID);
    assert_status(
        one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = a, .turn = 5, .pages = &far, .n_pages = 1}),
        DW_E_LIMIT);
    assert_status(
        one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = a, .turn = 5, .rows = &beyond, .n_rows = 1}),
        DW_E_RANGE);
    assert_status(
        one_change(store, (dw_store_change){.act = DW_STORE_TURN, .actor = a, .turn = 5, .rows = &other, .n_rows = 1}),
        DW_E_MISMATCH);
    /* A batch whose last change is refused, after pages of it were written. */
    const dw_store_change both[] = {{.act = DW_STORE_TURN, .actor = a, .turn = 5, .pages = &good, .n_pages = 1},
                                    {.act = DW_STORE_REMOVE, .actor = "nobody"}};
    assert_status(dw_store_commit(store, both, 2, DW_STORE_LEVEL_TURN, &err), DW_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "change 1"));
    assert_matches(store, true);
    assert_ok(dw_store_verify(store, &err), err);
    kit_turn(&random, &model, 0, 3, 4, &batch);
    commit(store);
    assert_matches(store, true);
    assert_ok(dw_store_verify(store, &err), err);
    assert_ok(dw_store_close(store, &err), err);
}

static void a_fork_shares_and_outlives_its_source(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 6;
    for (int i = 0; i < 6; i++) {
        kit_turn(&random, &model, 0, 5, 3, &batch);
        commit(store);
    }
    dw_store_use before = use_of(store);
    assert_ok(one_change(store, (dw_store_change){.act = DW_STORE_FORK,
                                                  .actor = "actor/1",
                                                  .source = "actor/0",
                                                  .turn = DW_STORE_LATEST}),
              err);
    model.actors[1] = model.actors[0];
    dw_store_use after = use_of(store);
    assert_int_equal(after.layers, before.layers);
    assert_int_equal(after.live_pages, before.live_pages);
    kit_turn(&random, &model, 1, 2, 1, &batch);
    commit(store);
    assert_ok(one_change(store, (dw_store_change){.act = DW_STORE_REMOVE, .actor = "actor/0"}), err);
    model.actors[0] = (kit_actor){0};
    tidy(store);
    assert_matches(store, true);
    assert_ok(dw_store_verify(store, &err), err);
    assert_ok(one_change(store, (dw_store_change){.act = DW_STORE_REMOVE, .actor = "actor/1"}), err);
    after = use_of(store);
    assert_int_equal(after.layers, 0);
    assert_int_equal(after.live_pages, 0);
    assert_ok(dw_store_close(store, &err), err);
}

static void a_thousand_turns_are_few_layers_and_little_space(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 7;
    for (int i = 0; i < 1000; i++) {
        kit_turn(&random, &model, 0, 4, 0, &batch);
        commit(store);
        if (i % 40 == 39) tidy(store);
    }
    tidy(store);
    dw_store_use use = use_of(store);
    /* The retention, a fold's threshold, and a logarithm. */
    assert_in_range(use.layers, KIT_PAST + 1, KIT_PAST + 1 + DW_STORE_FOLD_LAYERS + 10);
    assert_in_range(use.live_pages, 4, 4 * use.layers);
    assert_int_equal(use.holes_waiting, 0);
    /* Files of 16 pages with 4 live ones a turn: nearly all are gone. */
    assert_in_range(use.files, 1, use.live_pages + 1);
    assert_matches(store, true);
    assert_ok(dw_store_verify(store, &err), err);
    assert_ok(dw_store_close(store, &err), err);
}

static void a_commit_folds_by_itself_what_nobody_tidies(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 8;
    for (unsigned i = 0; i < DW_STORE_LAYERS_SOON + 100; i++) {
        kit_turn(&random, &model, 0, 1, 0, &batch);
        commit(store);
    }
    assert_in_range(use_of(store).layers, 1, 200);
    assert_matches(store, true);
    assert_ok(dw_store_close(store, &err), err);
}

static void a_view_stays_what_it_is(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 9;
    dw_store_view *view = NULL;
    uint8_t page[DW_STORE_PAGE_BYTES], wanted[DW_STORE_PAGE_BYTES];
    kit_turn(&random, &model, 0, 4, 2, &batch);
    commit(store);
    memcpy(wanted, batch.page_bytes[0][2], sizeof wanted);
    assert_ok(dw_store_view_open(store, "actor/0", DW_STORE_LATEST, &view, &err), err);
    for (int i = 0; i < 80; i++) {
        kit_turn(&random, &model, 0, 4, 0, &batch);
        commit(store);
    }
    tidy(store);
    assert_ok(one_change(store, (dw_store_change){.act = DW_STORE_REMOVE, .actor = "actor/0"}), err);
    tidy(store);
    assert_ok(dw_store_view_read_page(view, 2, page, &err), err);
    assert_memory_equal(page, wanted, sizeof page);
    assert_true(use_of(store).holes_waiting > 0);
    dw_store_view_close(view);
    tidy(store);
    assert_int_equal(use_of(store).holes_waiting, 0);
    assert_int_equal(use_of(store).live_pages, 0);
    assert_ok(dw_store_close(store, &err), err);
}

/* Changes one byte of a file of the store. */
static void damage(const char *folder, const char *name, uint64_t offset) {
    char path[SCRATCH_PATH_BYTES + 32];
    dw_os_file file;
    uint8_t byte;
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(dw_os_open(path, DW_OS_READ_WRITE, &file, &err), err);
    assert_ok(dw_os_read_at(file, offset, &byte, 1, &err), err);
    byte ^= 0x10;
    assert_ok(dw_os_write_at(file, offset, &byte, 1, &err), err);
    dw_os_close(&file);
}

static void damaged_bulk_is_told_and_never_given(void **unused) {
    (void)unused;
    const char *folder = fresh();
    dw_store *store = open_store(folder, &usual);
    dw_store_view *view = NULL;
    static uint8_t out[64 * KIT_ROW_BYTES];
    uint64_t random = 10;
    kit_turn(&random, &model, 0, 3, 8, &batch);
    commit(store);
    /* Page 0 is the head, 1 to 3 the actor's pages, then its rows. */
    damage(folder, "bulk-00000001", 2 * DW_STORE_PAGE_BYTES + 77);
    damage(folder, "bulk-00000001", 4 * DW_STORE_PAGE_BYTES + 4000);
    assert_ok(dw_store_view_open(store, "actor/0", DW_STORE_LATEST, &view, &err), err);
    assert_ok(dw_store_view_read_page(view, 0, out, &err), err);
    assert_status(dw_store_view_read_page(view, 1, out, &err), DW_E_HASH);
    assert_non_null(strstr(err.text, "page 1"));
    assert_status(dw_store_view_read_rows(view, 100, 0, 1, out, &err), DW_E_HASH);
    dw_store_view_close(view);
    assert_status(dw_store_verify(store, &err), DW_E_HASH);
    assert_ok(dw_store_close(store, &err), err);
    damage(folder, "bulk-00000001", 10);
    store = open_store(folder, &usual);
    assert_ok(dw_store_view_open(store, "actor/0", DW_STORE_LATEST, &view, &err), err);
    assert_status(dw_store_view_read_page(view, 0, out, &err), DW_E_HASH);
    dw_store_view_close(view);
    /* New turns go into another file. */
    kit_turn(&random, &model, 1, 3, 8, &batch);
    commit(store);
    assert_ok(dw_store_close(store, &err), err);
}

/* Changes the index behind the store's back. */
static void change_index(const char *folder, const char *sql) {
    char path[SCRATCH_PATH_BYTES + 8];
    sqlite3 *db = NULL;
    (void)snprintf(path, sizeof path, "%s/index", folder);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_changes(db), 1);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void rows_of_the_index_that_are_others_are_told(void **unused) {
    (void)unused;
    static const char *const changes[] = {
        "UPDATE layers SET parent = parent - 1 WHERE id = 4",
        "UPDATE layers SET turn = turn + 7 WHERE id = 3",
        "UPDATE layers SET body = (SELECT body FROM layers WHERE id = 2) WHERE id = 3",
        "UPDATE layers SET state = (SELECT state FROM layers WHERE id = 2) WHERE id = 4",
        "UPDATE layers SET sessions = (SELECT sessions FROM layers WHERE id = 2) WHERE id = 4",
        "UPDATE actors SET head = head - 1",
        "DELETE FROM layers WHERE id = 2",
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        const char *folder = fresh();
        dw_store *store = open_store(folder, &usual);
        dw_store_view *view = NULL;
        uint64_t random = 30;
        for (int k = 0; k < 4; k++) {
            kit_turn(&random, &model, 0, 2, 1, &batch);
            commit(store);
        }
        assert_ok(dw_store_close(store, &err), err);
        change_index(folder, changes[i]);
        store = open_store(folder, &usual);
        dw_status status = dw_store_view_open(store, "actor/0", DW_STORE_LATEST, &view, &err);
        if (dw_status_kind_of(status) != DW_KIND_CORRUPT) fail_msg("%s: %s", changes[i], dw_status_name(status));
        assert_null(view);
        status = dw_store_verify(store, &err);
        if (dw_status_kind_of(status) != DW_KIND_CORRUPT)
            fail_msg("%s: verify: %s", changes[i], dw_status_name(status));
        assert_ok(dw_store_close(store, &err), err);
    }
}

/* Whatever the damage: a status, and no crash. */
static void look_at_damage(const char *folder) {
    dw_store *store = NULL;
    bool more;
    dw_status status = dw_store_open(folder, &small_files, &store, &err);
    if (status == DW_OK) {
        if (kit_matches(store, &model, true, why)) why[0] = '\0';
        status = dw_store_verify(store, &err);
        if (status == DW_OK) status = dw_store_tidy(store, 4, &more, &err);
        kit_random_batch(&(uint64_t){3}, &model, &next, &batch);
        dw_status committed = dw_store_commit(store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err);
        if (status == DW_OK && committed != DW_OK && dw_status_kind_of(committed) != DW_KIND_REFUSED)
            status = committed;
        dw_status closed = dw_store_close(store, &err);
        if (status == DW_OK) status = closed;
    }
    bool said = status == DW_OK || dw_status_kind_of(status) == DW_KIND_CORRUPT || status == DW_E_VERSION;
    if (!said) fail_msg("%s: %s", dw_status_name(status), err.text);
}

static void a_damaged_index_is_told_and_ends_nothing(void **unused) {
    (void)unused;
    const char *folder = fresh();
    char path[SCRATCH_PATH_BYTES + 8];
    uint8_t *whole;
    size_t size;
    uint64_t random = test_seed(21);
    dw_store *store = open_store(folder, &small_files);
    for (int i = 0; i < 60; i++) {
        kit_random_batch(&random, &model, &next, &batch);
        commit(store);
        model = next;
    }
    assert_ok(dw_store_close(store, &err), err);
    (void)snprintf(path, sizeof path, "%s/index", folder);
    assert_ok(dw_os_read_file(path, 1 << 30, &whole, &size, &err), err);
    for (int i = 0; i < 150; i++) {
        dw_os_file file;
        uint64_t at = test_random_below(&random, size), n = 1 + test_random_below(&random, i % 2 ? 1 : 400);
        assert_ok(dw_os_open(path, DW_OS_CREATE_TRUNCATE, &file, &err), err);
        assert_ok(dw_os_write_at(file, 0, whole, size, &err), err);
        for (uint64_t k = at; k < at + n && k < size; k++) {
            uint8_t byte = (uint8_t)(whole[k] ^ (1 + test_random_below(&random, 255)));
            assert_ok(dw_os_write_at(file, k, &byte, 1, &err), err);
        }
        dw_os_close(&file);
        look_at_damage(folder);
    }
    free(whole);
}

/* An index that is gone is no new store: nothing of the old one is removed. */
static void bulk_without_its_index_is_told_and_stays(void **unused) {
    (void)unused;
    for (int is_empty = 0; is_empty < 2; is_empty++) {
        const char *folder = fresh();
        char index[SCRATCH_PATH_BYTES + 32], aside[SCRATCH_PATH_BYTES + 32];
        dw_store *store = open_store(folder, &usual);
        uint64_t random = 20;
        kit_turn(&random, &model, 0, 3, 8, &batch);
        commit(store);
        assert_ok(dw_store_close(store, &err), err);
        (void)snprintf(index, sizeof index, "%s/index", folder);
        (void)snprintf(aside, sizeof aside, "%s/aside", folder);
        assert_int_equal(rename(index, aside), 0);
        if (is_empty) assert_int_equal(fclose(fopen(index, "w")), 0);
        for (int again = 0; again < 2; again++) {
            assert_status(dw_store_open(folder, &usual, &store, &err), DW_E_CORRUPT);
            assert_non_null(strstr(err.text, "bulk-00000001"));
        }
        assert_int_equal(rename(aside, index), 0);
        store = open_store(folder, &usual);
        assert_ok(dw_store_verify(store, &err), err);
        assert_ok(dw_store_close(store, &err), err);
    }
}

static void early_levels_are_seen_at_once_and_kept_by_a_flush(void **unused) {
    (void)unused;
    const char *folder = fresh();
    dw_store *store = open_store(folder, &small_files);
    uint64_t random = 12;
    static const dw_store_level levels[] = {DW_STORE_LEVEL_INTERVAL, DW_STORE_LEVEL_MEMORY};
    for (int i = 0; i < 30; i++) {
        kit_turn(&random, &model, (unsigned)i % 2, 3, 1, &batch);
        assert_ok(dw_store_commit(store, batch.changes, batch.n, levels[i % 2], &err), err);
        memset(&batch, 0xEE, sizeof batch); /* it was copied */
    }
    dw_store_use use = use_of(store);
    assert_int_equal(use.groups, 0);
    assert_ok(dw_store_flush(store, false, &err), err);
    use = use_of(store);
    assert_int_equal(use.groups, 1);
    assert_int_equal(use.actors, 1); /* memory waits on */
    assert_matches(store, true);     /* a read asks for it */
    kit_turn(&random, &model, 1, 3, 1, &batch);
    assert_ok(dw_store_commit(store, batch.changes, batch.n, DW_STORE_LEVEL_MEMORY, &err), err);
    kit_turn(&random, &model, 1, 3, 1, &batch); /* another level: the turn before goes first */
    commit(store);
    kit_turn(&random, &model, 1, 3, 1, &batch);
    assert_ok(dw_store_commit(store, batch.changes, batch.n, DW_STORE_LEVEL_INTERVAL, &err), err);
    kit_turn(&random, &model, 1, 3, 1, &batch);
    assert_ok(dw_store_commit(store, batch.changes, batch.n, DW_STORE_LEVEL_MEMORY, &err), err);
    assert_ok(dw_store_close(store, &err), err);
    store = open_store(folder, &small_files);
    assert_matches(store, true);
    /* What is refused when it is written is told by the next flush. */
    batch.changes[0] = (dw_store_change){.act = DW_STORE_REMOVE, .actor = "nobody"};
    assert_ok(dw_store_commit(store, batch.changes, 1, DW_STORE_LEVEL_INTERVAL, &err), err);
    assert_status(dw_store_flush(store, false, &err), DW_E_NOT_FOUND);
    assert_ok(dw_store_flush(store, false, &err), err);
    assert_ok(dw_store_close(store, &err), err);
}

static bool note_turn(void *context, uint64_t turn, uint64_t layer) {
    uint64_t *sum = context;
    (void)layer;
    *sum = *sum * 10 + turn;
    return true;
}

static bool note_actor(void *context, const char *name, uint64_t turn) {
    char *all = context;
    (void)snprintf(all + strlen(all), 200 - strlen(all), "%s@%" PRIu64 " ", name, turn);
    return true;
}

static void actors_and_turns_can_be_listed(void **unused) {
    (void)unused;
    dw_store *store = open_store(fresh(), &small_files);
    uint64_t random = 13, turns = 0;
    char all[200] = "";
    for (int i = 0; i < 4; i++) {
        kit_turn(&random, &model, 1, 1, 0, &batch);
        commit(store);
    }
    kit_turn(&random, &model, 0, 1, 0, &batch);
    commit(store);
    assert_ok(dw_store_actors(store, note_actor, all, &err), err);
    assert_string_equal(all, "actor/0@1 actor/1@4 ");
    assert_ok(dw_store_history(store, "actor/1", note_turn, &turns, &err), err);
    assert_int_equal(turns, 4321);
    assert_ok(dw_store_close(store, &err), err);
}

static int drop_all(void **state) {
    (void)fresh();
    return scratch_drop(state);
}

int main(void) {
    quick_disk = dw_store_disk_system;
    quick_disk.sync = sync_nothing;
    quick_disk.sync_folder = sync_no_folder;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_is_there_after_a_reopening),
        cmocka_unit_test(a_store_has_one_owner),
        cmocka_unit_test(other_databases_and_versions_are_refused),
        cmocka_unit_test(a_refusal_leaves_everything_as_it_was),
        cmocka_unit_test(a_fork_shares_and_outlives_its_source),
        cmocka_unit_test(a_thousand_turns_are_few_layers_and_little_space),
        cmocka_unit_test(a_commit_folds_by_itself_what_nobody_tidies),
        cmocka_unit_test(a_view_stays_what_it_is),
        cmocka_unit_test(damaged_bulk_is_told_and_never_given),
        cmocka_unit_test(rows_of_the_index_that_are_others_are_told),
        cmocka_unit_test(a_damaged_index_is_told_and_ends_nothing),
        cmocka_unit_test(bulk_without_its_index_is_told_and_stays),
        cmocka_unit_test(early_levels_are_seen_at_once_and_kept_by_a_flush),
        cmocka_unit_test(actors_and_turns_can_be_listed),
    };
    return cmocka_run_group_tests(tests, scratch_make, drop_all);
}

/* fault_test.c: every system call of a store's life fails in turn, in several scenarios: once, and from then on; with
 * the errors that such calls have, short, and torn in the middle of a write. Whatever fails: what was acknowledged is
 * there after a reopening, what was not is there whole or not at all, and nothing leaks.
 *
 * That every call was hit is counted: a run without faults counts the calls of each kind, and the loop must deliver a
 * fault to each of them. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "os/fault_loop.h"
#include "os/scratch.h"
#include "store/disk.h"
#include "store/kit.h"

static dw_error err;
static char folder[SCRATCH_PATH_BYTES];
static char why[KIT_WHY_BYTES];

/* What was acknowledged, and what one batch that was not would make of it. */
static kit_model acknowledged, maybe;
static bool in_doubt;

static const dw_store_options options = {.retention_turns = KIT_PAST + 1,
                                         .file_bytes = 48 * 1024,
                                         .log_bytes = 40 * 1024};

/* The system's disk without syncs, to build up and to look at what is left: only the calls under test are synced. */
static dw_store_disk quick_disk;
static dw_store_options quick_options;

static dw_status sync_nothing(void *context, dw_os_file file, dw_error *error) {
    (void)context, (void)file, (void)error;
    return DW_OK;
}

static dw_status sync_no_folder(void *context, const char *name, dw_error *error) {
    (void)context, (void)name, (void)error;
    return DW_OK;
}

/* In memory, where there is such a folder: thousands of cases sync for real, and a disk takes milliseconds for each. */
static void empty_folder(void) {
    static uint64_t tag;
    if (!tag) assert_ok(dw_os_random(&tag, sizeof tag, &err), err);
    if (dw_os_exists("/dev/shm")) (void)snprintf(folder, sizeof folder, "/dev/shm/driftwood-store-%016" PRIx64, tag);
    else (void)snprintf(folder, sizeof folder, "%s/store", scratch_folder);
    kit_empty_folder(folder);
    acknowledged = (kit_model){0};
    in_doubt = false;
}

/* --- scenarios: each begins with an empty folder or a built one, and stops at the first failure ----------------------
 */

typedef enum scenario_kind {
    OPENS_NEW, OPENS_OLD, COMMITS_ONE, COMMITS_MANY, FORKS_AND_REMOVES, REWINDS, FOLDS, TIDIES, VIEWS, FLUSHES_EARLY,
    CHECKPOINTS, VERIFIES, N_SCENARIOS
} scenario_kind;

static const char *const scenario_names[N_SCENARIOS] = {
    "opens new", "opens old", "commits one", "commits many", "forks and removes", "rewinds", "folds", "tidies", "views",
    "flushes early", "checkpoints", "verifies",
};

static kit_batch batch;

/* Commits what `batch` holds; `next` is the model after it. */
static dw_status commit_noting(dw_store *store, const kit_model *next, dw_store_level level) {
    maybe = *next;
    in_doubt = true;
    dw_status status = dw_store_commit(store, batch.changes, batch.n, level, &err);
    if (status == DW_OK) acknowledged = *next;
    if (status == DW_OK && level == DW_STORE_LEVEL_TURN) in_doubt = false;
    return status;
}

static dw_status commit_turn(dw_store *store, uint64_t *random, unsigned actor, unsigned pages, unsigned rows) {
    kit_model next = acknowledged;
    kit_turn(random, &next, actor, pages, rows, &batch);
    return commit_noting(store, &next, DW_STORE_LEVEL_TURN);
}

/* The files of a store that was built before: building it again for each case would take most of the time. */
typedef struct kept_file { char name[32]; uint8_t *data; size_t size; } kept_file;
static struct { unsigned turns; size_t n; kept_file files[64]; kit_model model; } kept;

static bool keep_file(void *context, const char *name) {
    char path[SCRATCH_PATH_BYTES + 64];
    kept_file *file = &kept.files[kept.n++];
    (void)context;
    assert_true(kept.n <= sizeof kept.files / sizeof kept.files[0]);
    (void)snprintf(file->name, sizeof file->name, "%s", name);
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(dw_os_read_file(path, 1 << 30, &file->data, &file->size, &err), err);
    return true;
}

static void forget_files(void) {
    for (size_t i = 0; i < kept.n; i++) free(kept.files[i].data);
    kept.n = 0;
    kept.turns = 0;
}

static bool rebuild(unsigned turns) {
    if (kept.turns != turns) return false;
    for (size_t i = 0; i < kept.n; i++) {
        char path[SCRATCH_PATH_BYTES + 64];
        dw_os_file file;
        (void)snprintf(path, sizeof path, "%s/%s", folder, kept.files[i].name);
        assert_ok(dw_os_open(path, DW_OS_CREATE_TRUNCATE, &file, &err), err);
        assert_ok(dw_os_write_at(file, 0, kept.files[i].data, kept.files[i].size, &err), err);
        dw_os_close(&file);
    }
    acknowledged = kept.model;
    return true;
}

static void build(unsigned turns) {
    if (rebuild(turns)) return;
    dw_store *store = NULL;
    uint64_t random = 77;
    assert_ok(dw_store_open(folder, &quick_options, &store, &err), err);
    for (unsigned i = 0; i < turns; i++)
        assert_ok(commit_turn(store, &random, i < 12 ? i % 2 : 0, 3, i < 12 ? 2 : 0), err);
    assert_ok(dw_store_close(store, &err), err);
    forget_files();
    kept.turns = turns;
    kept.model = acknowledged;
    assert_ok(dw_os_list(folder, keep_file, NULL, &err), err);
}

static dw_status change_one(dw_store *store, dw_store_change change, const kit_model *next) {
    batch.changes[0] = change;
    batch.n = 1;
    return commit_noting(store, next, DW_STORE_LEVEL_TURN);
}

static dw_status fork_and_remove(dw_store *store) {
    kit_model next = acknowledged;
    next.actors[3] = next.actors[0];
    dw_status status = change_one(
        store,
        (dw_store_change){.act = DW_STORE_FORK, .actor = "actor/3", .source = "actor/0", .turn = DW_STORE_LATEST},
        &next);
    if (status != DW_OK) return status;
    next = acknowledged;
    next.actors[0] = (kit_actor){0};
    return change_one(store, (dw_store_change){.act = DW_STORE_REMOVE, .actor = "actor/0"}, &next);
}

static dw_status rewind_one(dw_store *store) {
    kit_model next = acknowledged;
    kit_actor *actor = &next.actors[1];
    actor->now = actor->past[1];
    actor->n_past -= 2;
    memmove(actor->past, &actor->past[2], actor->n_past * sizeof actor->past[0]);
    return change_one(store, (dw_store_change){.act = DW_STORE_REWIND, .actor = "actor/1", .turn = actor->now.turn},
                      &next);
}

static dw_status read_one(dw_store *store) {
    static uint8_t out[KIT_PAGES * DW_STORE_PAGE_BYTES];
    dw_store_view *view = NULL;
    dw_status status = dw_store_view_open(store, "actor/0", DW_STORE_LATEST, &view, &err);
    if (status != DW_OK) return status;
    status = dw_store_view_read_pages(view, 0, KIT_PAGES, out, &err);
    for (unsigned i = 0; i < 3 && status == DW_OK; i++)
        if (memcmp(out + i * DW_STORE_PAGE_BYTES, &(uint64_t){0}, 8) == 0) fail_msg("page %u reads as zeros", i);
    if (status == DW_OK) status = dw_store_view_read_rows(view, 100, 1, 5, out, &err);
    dw_store_view_close(view);
    return status;
}

static dw_status flush_early(dw_store *store, uint64_t *random) {
    kit_model before = acknowledged, next = acknowledged;
    kit_turn(random, &next, 0, 2, 1, &batch);
    dw_status status = commit_noting(store, &next, DW_STORE_LEVEL_INTERVAL);
    if (status == DW_OK) status = dw_store_flush(store, true, &err);
    if (status == DW_OK) {
        in_doubt = false;
    } else {
        /* It was acknowledged as what may be lost. */
        maybe = next;
        acknowledged = before;
    }
    return status;
}

/* Fills SQLite's log until a commit moves it into the index. */
static dw_status fill_log(dw_store *store, uint64_t *random) {
    static uint8_t big[16 * 1024];
    dw_status status = DW_OK;
    for (uint64_t i = 0; i < 3 && status == DW_OK; i++) {
        const dw_store_record record = {.kind = 1000, .number = i, .data = big, .size = sizeof big};
        const dw_store_change change = {.act = DW_STORE_RECORDS,
                                        .actor = "actor/0",
                                        .records = &record,
                                        .n_records = 1};
        status =
            dw_store_commit(store, &change, 1, DW_STORE_LEVEL_TURN, &err); /* the model does not look at that kind */
    }
    return status == DW_OK ? commit_turn(store, random, 0, 1, 1) : status;
}

static dw_status play_opened(scenario_kind scenario, dw_store *store, uint64_t *random) {
    bool more;
    dw_status status = DW_OK;
    switch (scenario) {
        case COMMITS_ONE: return commit_turn(store, random, 0, 2, 3);
        case COMMITS_MANY:
            for (int i = 0; i < 5 && status == DW_OK; i++) {
                kit_model next;
                kit_random_batch(random, &acknowledged, &next, &batch);
                status = commit_noting(store, &next, DW_STORE_LEVEL_TURN);
            }
            return status;
        case FORKS_AND_REMOVES: return fork_and_remove(store);
        case REWINDS: return rewind_one(store);
        case FOLDS: return dw_store_tidy(store, 1, &more, &err);
        case TIDIES:
            status = rewind_one(store);
            if (status == DW_OK) status = fork_and_remove(store);
            return status == DW_OK ? dw_store_tidy(store, 4, &more, &err) : status;
        case VIEWS: return read_one(store);
        case FLUSHES_EARLY: return flush_early(store, random);
        case CHECKPOINTS: return fill_log(store, random);
        case VERIFIES: return dw_store_verify(store, &err);
        default: return DW_OK;
    }
}

static void prepare(scenario_kind scenario) {
    empty_folder();
    if (scenario != OPENS_NEW)
        build(scenario == FOLDS || scenario == TIDIES ? KIT_PAST + DW_STORE_FOLD_LAYERS + 12 : 12);
}

/* The faults are armed between opening and closing, or before opening where that is the subject. */
static dw_status play(scenario_kind scenario, const dw_fault_plan *plan, bool *hit, uint64_t *calls) {
    dw_store *store = NULL;
    uint64_t random = 4242;
    bool opens = scenario == OPENS_NEW || scenario == OPENS_OLD;
    if (!opens) assert_ok(dw_store_open(folder, &options, &store, &err), err);
    dw_fault_arm(*plan);
    dw_status status = opens ? dw_store_open(folder, &options, &store, &err) : play_opened(scenario, store, &random);
    if (status == DW_OK && opens) status = commit_turn(store, &random, 0, 1, 1);
    dw_error closing = {0};
    dw_status closed = dw_store_close(store, &closing);
    *calls = dw_fault_disarm(hit);
    if (status == DW_OK && closed != DW_OK) err = closing;
    return status == DW_OK ? closed : status;
}

/* After whatever happened: the store opens, is sound, and holds what was acknowledged, or that and what was in doubt.
 */
static void look(scenario_kind scenario, const dw_fault_plan *plan) {
    dw_store *store = NULL;
    uint64_t random = 99;
    assert_ok(dw_store_open(folder, &quick_options, &store, &err), err);
    bool same = kit_matches(store, &acknowledged, true, why);
    if (!same && in_doubt) {
        acknowledged = maybe;
        same = kit_matches(store, &acknowledged, true, why);
    }
    if (!same) fail_msg("%s, kind %d, call %" PRIu64 ": %s", scenario_names[scenario], (int)plan->kind, plan->k, why);
    assert_ok(dw_store_verify(store, &err), err);
    if (plan->k % 4 == 1) {
        assert_ok(commit_turn(store, &random, 0, 1, 1), err);
        if (!kit_matches(store, &acknowledged, true, why)) fail_msg("afterwards: %s", why);
    }
    assert_ok(dw_store_close(store, &err), err);
}

/* --- the loop
 * --------------------------------------------------------------------------------------------------------- */

static uint64_t n_cases, n_failed;

static void assert_said_well(dw_status status, const dw_fault_plan *plan, scenario_kind scenario) {
    if (status == DW_OK) return;
    n_failed++;
    /* A disk that fails is not a corrupt store, and nobody asked for what he may not have: but a poisoned store
     * refuses. */
    if (dw_status_kind_of(status) != DW_KIND_FAILED && status != DW_E_STATE)
        fail_msg("%s, kind %d, call %" PRIu64 ": %s: %s", scenario_names[scenario], (int)plan->kind, plan->k,
                 dw_status_name(status), err.text);
    assert_int_not_equal(err.text[0], '\0');
    if (plan->system_errno == ENOSPC && plan->kind == DW_FAULT_WRITE && !plan->from_then_on)
        assert_status(status, DW_E_NO_SPACE);
}

static void fail_each_call(scenario_kind scenario, dw_fault_plan plan) {
    bool hit;
    uint64_t calls, counted;
    dw_fault_plan none = plan;
    none.k = 0;
    prepare(scenario);
    assert_ok(play(scenario, &none, &hit, &calls), err);
    look(scenario, &none);
    /* Torn is the call before the k-th. */
    for (plan.k = 1; plan.k <= calls; plan.k++) {
        prepare(scenario);
        unsigned open_before = open_descriptors();
        dw_status status = play(scenario, &plan, &hit, &counted);
        assert_true(hit); /* each call of the run without faults was reached, and failed */
        assert_int_equal(open_descriptors(), open_before);
        assert_said_well(status, &plan, scenario);
        look(scenario, &plan);
        n_cases++;
    }
}

/* Every call fails once. From then on, and all kinds mixed: in the long run ($DW_TEST_FAULTS_ALL), but for what disks
 * do. */
typedef struct fault_error {
    dw_fault_kind kind;
    int number;
    bool for_ever, is_long;
} fault_error;
static const fault_error errors[] = {
    {DW_FAULT_OPEN, EMFILE, false, false}, {DW_FAULT_READ, EIO, false, false},
    {DW_FAULT_READ, EINTR, false, true},  {DW_FAULT_WRITE, ENOSPC, false, false},
    {DW_FAULT_WRITE, ENOSPC, true, false}, {DW_FAULT_WRITE, EINTR, false, true},
    {DW_FAULT_RESIZE, EIO, false, false},  {DW_FAULT_SYNC, EIO, false, false},
    {DW_FAULT_SYNC, EIO, true, false},     {DW_FAULT_SYNC, EINTR, false, false},
    {DW_FAULT_STAT, EIO, false, false},    {DW_FAULT_NAME, EIO, false, false},
    {DW_FAULT_RANDOM, EIO, false, false},  {DW_FAULT_OPEN, EMFILE, true, true},
    {DW_FAULT_READ, EIO, true, true},      {DW_FAULT_WRITE, EIO, false, true},
    {DW_FAULT_WRITE, EIO, true, true},     {DW_FAULT_RESIZE, EIO, true, true},
    {DW_FAULT_NAME, EIO, true, true},      {DW_FAULT_ANY, EIO, false, true},
    {DW_FAULT_ANY, EIO, true, true},
};

/* Every transfer is short, and is continued. */
static void play_short(scenario_kind scenario) {
    const dw_fault_plan plan = {.short_writes = true};
    bool hit;
    uint64_t calls;
    prepare(scenario);
    assert_ok(play(scenario, &plan, &hit, &calls), err);
    look(scenario, &plan);
}

static void fail_all_of(scenario_kind scenario) {
    uint64_t cases = n_cases, failed = n_failed;
    for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
        if (errors[i].is_long && !test_number("DW_TEST_FAULTS_ALL", 0)) continue;
        fail_each_call(scenario, (dw_fault_plan){.kind = errors[i].kind,
                                                 .system_errno = errors[i].number,
                                                 .from_then_on = errors[i].for_ever});
    }
    static const uint64_t tears[] = {512, 4096};
    for (size_t i = 0; i < 2; i++)
        fail_each_call(scenario, (dw_fault_plan){.kind = DW_FAULT_WRITE, .system_errno = EIO, .torn_bytes = tears[i]});
    const bool interrupts = scenario == COMMITS_ONE || scenario == OPENS_OLD; /* the same loops go on in all */
    for (size_t i = 0; i < 2 && interrupts; i++)
        fail_each_call(scenario, (dw_fault_plan){.kind = i ? DW_FAULT_READ : DW_FAULT_WRITE, .system_errno = EINTR});
    play_short(scenario);
    print_message("%s: %" PRIu64 " calls failed, %" PRIu64 " told\n", scenario_names[scenario], n_cases - cases,
                  n_failed - failed);
    assert_true(n_cases > cases);
}

static void each_call_of_opening(void **unused) { (void)unused, fail_all_of(OPENS_NEW), fail_all_of(OPENS_OLD); }
static void each_call_of_a_commit(void **unused) { (void)unused, fail_all_of(COMMITS_ONE), fail_all_of(COMMITS_MANY); }
static void each_call_of_forks_and_rewinds(void **unused) {
    (void)unused, fail_all_of(FORKS_AND_REMOVES), fail_all_of(REWINDS);
}
static void each_call_of_tidying(void **unused) { (void)unused, fail_all_of(FOLDS), fail_all_of(TIDIES); }
static void each_call_of_reading(void **unused) { (void)unused, fail_all_of(VIEWS), fail_all_of(VERIFIES); }
static void each_call_of_a_flush(void **unused) { (void)unused, fail_all_of(FLUSHES_EARLY); }
static void each_call_of_a_checkpoint(void **unused) { (void)unused, fail_all_of(CHECKPOINTS); }

static void after_a_failed_sync_nothing_is_acknowledged(void **unused) {
    (void)unused;
    for (uint64_t k = 1; k <= 2; k++) { /* of the bulk, of the log */
        dw_store *store = NULL;
        uint64_t random = 3;
        bool hit;
        prepare(COMMITS_ONE);
        assert_ok(dw_store_open(folder, &options, &store, &err), err);
        assert_ok(commit_turn(store, &random, 0, 1, 1), err); /* folders are synced by now */
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_SYNC, .k = k, .system_errno = EIO});
        assert_status(commit_turn(store, &random, 0, 1, 1), DW_E_IO);
        (void)dw_fault_disarm(&hit);
        assert_true(hit);
        kit_model before = acknowledged, doubt = maybe;
        assert_status(commit_turn(store, &random, 1, 1, 1), DW_E_STATE);
        assert_status(dw_store_flush(store, true, &err), DW_E_STATE);
        assert_ok(read_one(store), err);
        assert_status(dw_store_close(store, &err), DW_E_STATE);
        acknowledged = before, maybe = doubt, in_doubt = true;
        look(COMMITS_ONE, &(dw_fault_plan){.kind = DW_FAULT_SYNC, .k = k});
    }
}

static void a_full_disk_refuses_and_goes_on_when_there_is_room(void **unused) {
    (void)unused;
    dw_store *store = NULL;
    uint64_t random = 3;
    prepare(COMMITS_ONE);
    assert_ok(dw_store_open(folder, &options, &store, &err), err);
    dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_WRITE, .k = 1, .from_then_on = true, .system_errno = ENOSPC});
    kit_model before = acknowledged;
    for (int i = 0; i < 5; i++) assert_status(commit_turn(store, &random, (unsigned)i % 2, 2, 1), DW_E_NO_SPACE);
    (void)dw_fault_disarm(NULL);
    acknowledged = before;
    if (!kit_matches(store, &acknowledged, true, why)) fail_msg("%s", why);
    for (unsigned i = 0; i < 4; i++) assert_ok(commit_turn(store, &random, i % 2, 2, 1), err);
    if (!kit_matches(store, &acknowledged, true, why)) fail_msg("%s", why);
    assert_ok(dw_store_verify(store, &err), err);
    assert_ok(dw_store_close(store, &err), err);
}

static int drop_all(void **state) {
    empty_folder();
    (void)remove(folder);
    forget_files();
    print_message("%" PRIu64 " faults delivered\n", n_cases);
    return scratch_drop(state);
}

int main(void) {
    dw_log_set_level(DW_LOG_ERROR); /* failed checkpoints and folds are logged, a line for each case */
    quick_disk = dw_store_disk_system;
    quick_disk.sync = sync_nothing;
    quick_disk.sync_folder = sync_no_folder;
    quick_options = options;
    quick_options.disk = &quick_disk;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_a_failed_sync_nothing_is_acknowledged),
        cmocka_unit_test(a_full_disk_refuses_and_goes_on_when_there_is_room),
        cmocka_unit_test(each_call_of_opening),
        cmocka_unit_test(each_call_of_a_commit),
        cmocka_unit_test(each_call_of_forks_and_rewinds),
        cmocka_unit_test(each_call_of_reading),
        cmocka_unit_test(each_call_of_a_flush),
        cmocka_unit_test(each_call_of_a_checkpoint),
        cmocka_unit_test(each_call_of_tidying),
    };
    return cmocka_run_group_tests(tests, scratch_make, drop_all);
}

/* power_test.c: stores on a disk that loses power, and whose syncs fail, thousands of times, each with its own seed:
 * which of the writes that were not synced are there afterwards is thrown by dice (simdisk.h). The oracle is what was
 * acknowledged: that is there, and of what was not, whole batches in their order, or nothing.
 *
 * A failure prints its seed: DW_TEST_SEED=N DW_TEST_POWER_SEEDS=1 repeats it. $DW_TEST_POWER_SEEDS is how many there
 * are. */
#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "base/test.h"
#include "os/os.h"
#include "store/kit.h"
#include "store/simdisk.h"

enum { USUAL_SEEDS = 1000, BATCHES = 14, FOLDER_OPERATIONS_MAX = 420, CANDIDATES = BATCHES + 2 };

static dw_error err;
static char why[KIT_WHY_BYTES];
static kit_batch batch;

/* What the store may hold. `current` is what the running process has committed; the others are what came before, where
 * that is not certain to be on the disk, and batches that failed, of which the disk may have more than was told. */
static kit_model candidates[CANDIDATES];
static size_t n_candidates, current;

static uint64_t n_losses, n_sync_failures, n_undone;

typedef struct run {
    uint64_t seed, random;
    sim_disk *sim;
    dw_store_options options;
    dw_store *store;
} run;

static void certain(void) {
    candidates[0] = candidates[current];
    n_candidates = 1;
    current = 0;
}

static void fail_run(const run *at, const char *what) { fail_msg("seed %" PRIu64 ": %s: %s", at->seed, what, why); }

/* False where a fault came in the way; without `faults` there is none. */
static bool open_store(run *at, bool faults) {
    at->store = NULL;
    dw_status status = dw_store_open("/sim", &at->options, &at->store, &err);
    if (status == DW_OK) return true;
    (void)snprintf(why, sizeof why, "%s: %s", dw_status_name(status), err.text);
    if (!faults || status != DW_E_IO) fail_run(at, "it does not open");
    return false;
}

static void recognise(run *at) {
    for (size_t i = n_candidates; i-- > 0;) {
        if (!kit_matches(at->store, &candidates[i], true, why)) continue;
        n_undone += i != current;
        current = i;
        certain();
        dw_status status = dw_store_verify(at->store, &err);
        if (status != DW_OK) {
            (void)snprintf(why, sizeof why, "%s: %s", dw_status_name(status), err.text);
            fail_run(at, "the books are wrong");
        }
        return;
    }
    fail_run(at, n_candidates == 1 ? "what was acknowledged is not there" : "nothing that was committed is there");
}

/* Batches, as long as there is power and no sync has failed. Levels early may be lost until something later is synced;
 * turn may not. */
static void commit_some(run *at) {
    for (int i = 0; i < BATCHES; i++) {
        uint64_t dice = test_random_below(&at->random, 12);
        dw_store_level level = dice < 3 ? DW_STORE_LEVEL_INTERVAL : DW_STORE_LEVEL_TURN;
        dw_status status;
        bool more;
        if (dice >= 10) {
            status = dw_store_tidy(at->store, 2, &more, &err);
        } else {
            size_t next = n_candidates++;
            kit_random_batch(&at->random, &candidates[current], &candidates[next], &batch);
            status = dw_store_commit(at->store, batch.changes, batch.n, level, &err);
            if (status == DW_OK) current = next;
            if (status == DW_OK && level == DW_STORE_LEVEL_TURN) certain();
        }
        if (status == DW_E_STATE || sim_is_off(at->sim)) return;
        if (status != DW_OK && status != DW_E_IO) fail_run(at, err.text);
    }
}

/* The power fails while a store is opened that did not end well. */
static void fail_while_opening(run *at) {
    sim_lose_power_at(at->sim, 1 + test_random_below(&at->random, 60));
    if (open_store(at, true)) assert_ok(dw_store_close(at->store, &err), err);
    sim_power_cycle(at->sim);
    n_losses++;
}

/* A round ends with a loss of power at some operation, or with a sync that fails and perhaps a process that ends. */
static void play_round(run *at) {
    uint64_t dice = test_random_below(&at->random, 8);
    if (dice < 2) sim_fail_sync_at(at->sim, 1 + test_random_below(&at->random, 25));
    if (dice == 2 || dice == 3) sim_fail_write_at(at->sim, 1 + test_random_below(&at->random, 150));
    if (dice != 1) sim_lose_power_at(at->sim, 1 + test_random_below(&at->random, FOLDER_OPERATIONS_MAX));
    if (open_store(at, true)) {
        commit_some(at);
        dw_status closed = dw_store_close(at->store, &err);
        if (closed == DW_OK && !sim_is_off(at->sim)) certain();
    }
    n_sync_failures += dice < 2;
    sim_fail_sync_at(at->sim, 0);
    sim_fail_write_at(at->sim, 0);
    if (sim_is_off(at->sim) || dice != 1) {
        n_losses++;
        sim_power_cycle(at->sim);
    } else {
        sim_process_ends(at->sim);
    }
    if (test_random_below(&at->random, 3) == 0) fail_while_opening(at);
}

/* The next process looks: and what it has seen must last. */
static void look_round(run *at) {
    sim_lose_power_at(at->sim, 0);
    (void)open_store(at, false);
    recognise(at);
    kit_turn(&at->random, &candidates[0], 0, 2, 0, &batch);
    dw_status status = dw_store_commit(at->store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err);
    if (status != DW_OK) {
        (void)snprintf(why, sizeof why, "%s: %s", dw_status_name(status), err.text);
        fail_run(at, "the next commit");
    }
    if (test_random_below(&at->random, 2)) {
        assert_ok(dw_store_close(at->store, &err), err);
        return;
    }
    /* Ended without closing: power fails right behind the acknowledgement. */
    sim_lose_power_at(at->sim, 1);
    assert_ok(dw_store_close(at->store, &err), err); /* nothing waits, so nothing is lost */
    sim_power_cycle(at->sim);
    n_losses++;
}

static void play_seed(uint64_t seed) {
    run at = {.seed = seed, .random = seed, .sim = sim_create(seed * 31 + 7)};
    at.options = (dw_store_options){.retention_turns = KIT_PAST + 1, .fold_layers = 1,
                                    .file_bytes = 40 * 1024,
                                    .log_bytes = 24 * 1024,
                                    .disk = sim_ops(at.sim)};
    memset(&candidates[0], 0, sizeof candidates[0]);
    n_candidates = 1;
    current = 0;
    int n_rounds = seed % 8 == 0 ? 5 : 1; /* most begin anew, where there are the most names and files to be made */
    for (int i = 0; i < n_rounds; i++) {
        play_round(&at);
        look_round(&at);
    }
    sim_destroy(at.sim);
}

static void what_was_acknowledged_survives_any_loss_of_power(void **unused) {
    (void)unused;
    uint64_t first = test_seed(1);
    uint32_t n = test_number("DW_TEST_POWER_SEEDS", USUAL_SEEDS);
    for (uint32_t i = 0; i < n; i++) play_seed(first + i);
    print_message("%u seeds: %" PRIu64 " losses of power, %" PRIu64 " rounds with a failing sync, %" PRIu64
                  " batches undone\n",
                  n, n_losses, n_sync_failures, n_undone);
    assert_true(n_losses >= n);
    assert_true(n < 100 || n_undone > n / 20); /* else nothing was ever in the balance */
}

/* One commit, whose k-th write fails and arrives all the same; another one behind it; and power fails at its j-th
 * operation. False when k is behind the last write. */
static bool fail_and_lose(uint64_t k, uint64_t j, bool *lost) {
    run at = {.seed = k * 1000 + j, .random = 5, .sim = sim_create(1)};
    at.options = (dw_store_options){.retention_turns = KIT_PAST + 1, .disk = sim_ops(at.sim)};
    memset(candidates, 0, sizeof candidates[0]);
    sim_keep_all(at.sim);
    (void)open_store(&at, false);
    kit_turn(&at.random, &candidates[0], 0, 2, 1, &batch);
    assert_ok(dw_store_commit(at.store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err), err);
    candidates[1] = candidates[2] = candidates[0];
    kit_turn(&at.random, &candidates[1], 0, 3, 1, &batch);
    sim_fail_write_at(at.sim, k);
    bool failed = dw_store_commit(at.store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err) != DW_OK;
    sim_fail_write_at(at.sim, 0);
    if (failed) {
        kit_turn(&at.random, &candidates[2], 1, 4, 2, &batch);
        sim_lose_power_at(at.sim, j);
        *lost = dw_store_commit(at.store, batch.changes, batch.n, DW_STORE_LEVEL_TURN, &err) != DW_OK;
        if (!*lost) candidates[0] = candidates[1] = candidates[2];
        n_candidates = 3;
        current = 2;
    }
    dw_status closed = dw_store_close(at.store, &err);
    assert_true(closed == DW_OK || failed);
    sim_power_cycle(at.sim);
    if (failed) {
        (void)open_store(&at, false);
        recognise(&at);
        assert_ok(dw_store_close(at.store, &err), err);
    }
    sim_destroy(at.sim);
    return failed;
}

static void a_commit_that_failed_and_arrived_is_whole_or_not_there(void **unused) {
    (void)unused;
    uint64_t n_cases = 0, k = 1;
    for (bool reached = true; reached; k++) {
        bool lost = true;
        for (uint64_t j = 1; lost && reached; j++, n_cases++) reached = fail_and_lose(k, j, &lost);
    }
    print_message("%" PRIu64 " writes, %" PRIu64 " cases\n", k - 1, n_cases);
    assert_true(k > 8 && n_cases > 50);
}

int main(void) {
    dw_log_set_level(DW_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_that_failed_and_arrived_is_whole_or_not_there),
        cmocka_unit_test(what_was_acknowledged_survives_any_loss_of_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

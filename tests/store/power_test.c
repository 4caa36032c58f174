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

enum { USUAL_SEEDS = 2500, ROUNDS = 4, BATCHES = 14, FOLDER_OPERATIONS_MAX = 420, CANDIDATES = BATCHES + 2 };

static dw_error err;
static char why[KIT_WHY_BYTES];
static kit_batch batch;

/* What the store may hold: the last is what the process that runs has committed, the first what is certain. */
static kit_model candidates[CANDIDATES];
static size_t n_candidates;

static uint64_t n_losses, n_sync_failures, n_undone;

typedef struct run {
    uint64_t seed, random;
    sim_disk *sim;
    dw_store_options options;
    dw_store *store;
} run;

static void certain(void) {
    candidates[0] = candidates[n_candidates - 1];
    n_candidates = 1;
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
        n_undone += n_candidates - 1 - i;
        candidates[0] = candidates[i];
        n_candidates = 1;
        dw_status status = dw_store_verify(at->store, &err);
        if (status != DW_OK) {
            (void)snprintf(why, sizeof why, "%s: %s", dw_status_name(status), err.text);
            fail_run(at, "the books are wrong");
        }
        return;
    }
    fail_run(at, n_candidates == 1 ? "what was acknowledged is not there" : "nothing that was committed is there");
}

/* Batches until one fails. Levels early may be lost until something later is synced; turn may not. */
static void commit_some(run *at) {
    for (int i = 0; i < BATCHES; i++) {
        uint64_t dice = test_random_below(&at->random, 12);
        kit_model *next = &candidates[n_candidates];
        dw_store_level level = dice < 3 ? DW_STORE_LEVEL_INTERVAL : DW_STORE_LEVEL_TURN;
        dw_status status;
        bool more;
        if (dice == 11) {
            status = dw_store_tidy(at->store, 2, &more, &err);
            if (status != DW_OK) return;
            continue;
        }
        kit_random_batch(&at->random, &candidates[n_candidates - 1], next, &batch);
        n_candidates++;
        status = dw_store_commit(at->store, batch.changes, batch.n, level, &err);
        if (status == DW_OK && level == DW_STORE_LEVEL_TURN) certain();
        if (status != DW_OK) {
            if (sim_is_off(at->sim)) return;
            if (status != DW_E_STATE && status != DW_E_IO) fail_run(at, dw_status_name(status));
            return;
        }
    }
}

/* A round ends with a loss of power at some operation, or with a sync that fails and perhaps a process that ends. */
static void play_round(run *at) {
    uint64_t dice = test_random_below(&at->random, 8);
    if (dice < 2) sim_fail_sync_at(at->sim, 1 + test_random_below(&at->random, 25));
    if (dice != 1) sim_lose_power_at(at->sim, 1 + test_random_below(&at->random, FOLDER_OPERATIONS_MAX));
    if (open_store(at, true)) {
        commit_some(at);
        dw_status closed = dw_store_close(at->store, &err);
        if (closed == DW_OK && !sim_is_off(at->sim)) certain();
    }
    n_sync_failures += dice < 2;
    sim_fail_sync_at(at->sim, 0);
    if (sim_is_off(at->sim) || dice != 1) {
        n_losses++;
        sim_power_cycle(at->sim);
    } else {
        sim_process_ends(at->sim);
    }
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
    at.options = (dw_store_options){.retention_turns = KIT_PAST + 1,
                                    .file_bytes = 40 * 1024,
                                    .log_bytes = 24 * 1024,
                                    .disk = sim_ops(at.sim)};
    memset(&candidates[0], 0, sizeof candidates[0]);
    n_candidates = 1;
    for (int i = 0; i < ROUNDS; i++) {
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
    assert_true(n < 100 || n_undone > n / 10); /* else nothing was ever in the balance */
}

int main(void) {
    dw_log_set_level(DW_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_acknowledged_survives_any_loss_of_power),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

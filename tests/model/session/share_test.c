/* Sharing of a prefix's rows between sessions: what is shared with whom and how much of it; and that an exact session's rows, logits and tokens
 * are to the bit what they are without (session.h rule 4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/engine/batch.h"
#include "model/kit/random.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum { CONTEXT = 900, N_VOCAB = 512, SESSIONS = 8, ALICE = 1, BOB = 2 };

static dw_device *device;
static dw_model *model;

static uint64_t random_state;

static uint32_t roll(uint32_t n) {
    return random_below(&random_state, n);
}

static void open_model(const char *name) {
    model = open_model_on(device, made_model_path(made_model_named(name)),
                          &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = SESSIONS});
}

static void close_model(void) {
    dw_model_close(model);
    model = NULL;
}

static int with_model(void **state) {
    (void)state;
    open_model("tied_f16");
    return 0;
}

static int without_model(void **state) {
    (void)state;
    close_model();
    return 0;
}

/* One step of a job, with nobody else in it. */
static dw_job_progress step_of(dw_job *job) {
    dw_batch_job alone = {.job = job, .progress = DW_JOB_MORE};
    assert_true(dw_batch_step(&alone, 1, &(dw_batch_options){0}));
    return alone.progress;
}

static dw_session *opened(dw_session_options options) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, &options, &session, NULL), DW_OK);
    return session;
}

static dw_session *exact_of(uint64_t owner) { return opened((dw_session_options){.owner = owner}); }
static dw_session *fast_of(uint64_t owner) { return opened((dw_session_options){.owner = owner, .fast = true}); }

static dw_job run(dw_job job) {
    dw_error err = {0};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    return job;
}

/* How many rows a forward of these tokens shared. */
static uint32_t shared_by(dw_session *session, const int32_t *tokens, uint32_t n) {
    uint32_t before = dw_session_rows(session);
    dw_job job = run((dw_job){.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n});
    assert_int_equal(dw_session_rows(session), before + job.n_shared + job.n_evaluated);
    return job.n_shared;
}

static void generate(dw_session *session, uint32_t n) {
    run((dw_job){.kind = DW_JOB_GENERATE, .session = session, .n_max = n, .ignore_end = true, .sampling = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 40}});
}

static void assert_same_rows(const dw_session *a, const dw_session *b) {
    assert_int_equal(dw_session_rows(a), dw_session_rows(b));
    for (uint32_t area = 0; area < 2 * dw_model_info_view(model)->n_layers; area++) {
        const void *ra = NULL, *rb = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(a, area / 2, (int)(area % 2), &ra, &bytes), DW_OK);
        assert_int_equal(dw_session_kv_view(b, area / 2, (int)(area % 2), &rb, &bytes), DW_OK);
        assert_memory_equal(ra, rb, bytes);
    }
}

/* --- how much ------------------------------------------------------------------------------------------------ */

static void all_but_a_whole_chunk_of_a_common_prompt_is_shared(void **state) {
    (void)state;
    int32_t tokens[500];
    make_tokens(tokens, 500, 1);
    dw_session *first = exact_of(ALICE), *second = exact_of(ALICE), *third = exact_of(ALICE), *alone = exact_of(0);
    assert_int_equal(shared_by(first, tokens, 400), 0);
    dw_job job = run((dw_job){.kind = DW_JOB_FORWARD, .session = second, .tokens = tokens, .n_tokens = 400});
    assert_int_equal(job.n_shared, 400 - 64);
    assert_int_equal(job.n_evaluated, 64);
    assert_int_equal(shared_by(third, tokens, 500), 400);
    assert_int_equal(shared_by(alone, tokens, 500), 0); /* of nobody */
    assert_same_rows(third, alone);
    dw_session_use use = {0};
    assert_int_equal(dw_session_use_now(second, &use, NULL), DW_OK);
    assert_true(use.own_bytes < use.kv_bytes / 2);
    dw_session_destroy(first); /* the rows outlive it */
    assert_int_equal(shared_by(third, tokens, 20), 0);
    assert_int_equal(shared_by(alone, tokens, 20), 0);
    assert_same_rows(third, alone);
    dw_session_destroy(second);
    dw_session_destroy(third);
    dw_session_destroy(alone);
}

static void the_longest_prefix_is_taken(void **state) {
    (void)state;
    int32_t tokens[600];
    make_tokens(tokens, 600, 2);
    dw_session *givers[3], *taker = exact_of(ALICE);
    const uint32_t lengths[3] = {150, 420, 300};
    for (int i = 0; i < 3; i++) {
        givers[i] = exact_of(ALICE);
        int32_t own[600];
        memcpy(own, tokens, sizeof own);
        make_tokens(own + lengths[i], 600 - lengths[i], 3 + (uint64_t)i);
        shared_by(givers[i], own, 600);
    }
    assert_int_equal(shared_by(taker, tokens, 600), 420);
    dw_session_destroy(taker);
    for (int i = 0; i < 3; i++) dw_session_destroy(givers[i]);
}

static void short_prefixes_are_computed(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 4);
    dw_session *giver = exact_of(ALICE), *taker = exact_of(ALICE);
    shared_by(giver, tokens, 300);
    assert_int_equal(shared_by(taker, tokens, 127), 0); /* 63 rows and a whole chunk */
    assert_int_equal(dw_session_rewind(taker, 0, NULL), DW_OK);
    assert_int_equal(shared_by(taker, tokens, 128), 64);
    dw_session_destroy(giver);
    dw_session_destroy(taker);
}

/* --- with whom ----------------------------------------------------------------------------------------------- */

static void only_the_owner_shares_unless_both_are_granted(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 5);
    const dw_session_options grants[] = {{.owner = ALICE}, {.owner = ALICE, .granted = true}, {.owner = 0}, {.owner = 0, .granted = true}};
    const uint32_t expected_for_bob[2][4] = {{0, 0, 0, 0}, {0, 236, 0, 236}}; /* bob not granted, granted */
    for (int giver = 0; giver < 4; giver++) {
        dw_session *from = opened(grants[giver]);
        shared_by(from, tokens, 300);
        for (int granted = 0; granted < 2; granted++) {
            for (int fast = 0; fast < 2; fast++) {
                dw_session *to = opened((dw_session_options){.owner = BOB, .granted = granted != 0, .fast = fast != 0});
                uint32_t expected = expected_for_bob[granted][giver];
                assert_int_equal(shared_by(to, tokens, 300), expected > 0 && fast ? 299 : expected);
                dw_session_destroy(to);
            }
        }
        dw_session *to = exact_of(ALICE), *to_nobody = exact_of(0);
        assert_int_equal(shared_by(to, tokens, 300), giver < 2 ? 236 : 0);
        assert_int_equal(shared_by(to_nobody, tokens, 300), 0);
        dw_session_destroy(to);
        dw_session_destroy(to_nobody);
        dw_session_destroy(from);
    }
}

static void a_fork_belongs_to_its_parents_owner(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 6);
    dw_session *parent = exact_of(ALICE), *child = NULL, *taker = exact_of(ALICE);
    shared_by(parent, tokens, 300);
    assert_int_equal(dw_session_fork(parent, &child, NULL), DW_OK);
    dw_session_destroy(parent);
    assert_int_equal(shared_by(taker, tokens, 300), 236);
    dw_session_destroy(child);
    dw_session_destroy(taker);
}

/* --- which rows ---------------------------------------------------------------------------------------------- */

static void an_exact_session_takes_no_decoded_rows_and_keeps_its_own(void **state) {
    (void)state;
    int32_t tokens[600], *log = NULL;
    uint32_t n = 0;
    make_tokens(tokens, 600, 7);
    dw_session *giver = exact_of(ALICE), *taker = exact_of(ALICE), *fast = fast_of(ALICE), *longer = exact_of(ALICE);
    shared_by(giver, tokens, 200);
    generate(giver, 100);
    shared_by(giver, tokens, 200); /* prefill behind decoded rows */
    log = (int32_t *)(uintptr_t)dw_session_tokens(giver, &n);
    assert_int_equal(n, 500);
    assert_int_equal(shared_by(taker, log, 500), 199); /* the last row of the prompt was computed once more, alone */
    assert_int_equal(shared_by(fast, log, 500), 499);
    /* One that decoded has rows that nobody else's can replace. */
    dw_session *decoded = exact_of(ALICE);
    shared_by(decoded, tokens, 100);
    generate(decoded, 10);
    memcpy(tokens, dw_session_tokens(decoded, &n), 110 * sizeof tokens[0]);
    assert_int_equal(shared_by(longer, tokens, 600), 100); /* of the giver's */
    assert_int_equal(shared_by(decoded, tokens + 110, 490), 0);
    /* One that only prefilled may go on with those of another. */
    dw_session *prefilled = exact_of(ALICE);
    shared_by(prefilled, tokens, 80);
    assert_int_equal(shared_by(prefilled, tokens + 80, 520), 600 - 64 - 80);
    assert_same_rows(prefilled, longer);
    dw_session *all[] = {giver, taker, fast, longer, decoded, prefilled};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) dw_session_destroy(all[i]);
}

static void an_exact_session_takes_nothing_of_a_fast_one(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 8);
    dw_session *giver = fast_of(ALICE), *exact = exact_of(ALICE), *fast = fast_of(ALICE);
    shared_by(giver, tokens, 300);
    assert_int_equal(shared_by(exact, tokens, 300), 0);
    dw_session_destroy(exact);
    assert_int_equal(shared_by(fast, tokens, 300), 299);
    assert_int_equal(shared_by(fast, tokens, 50), 0); /* it has rows of its own by now */
    dw_session_destroy(giver);
    dw_session_destroy(fast);
}

static void rows_that_are_wanted_are_computed(void **state) {
    (void)state;
    static float logits[2][2][N_VOCAB];
    int32_t tokens[800];
    make_tokens(tokens, 800, 9);
    dw_session *giver = exact_of(ALICE), *taker = exact_of(ALICE), *alone = exact_of(0);
    shared_by(giver, tokens, 800);
    dw_session *both[2] = {taker, alone};
    const uint32_t wanted[][2] = {{150, 0}, {600, 620}, {300, DW_ROW_LAST}, {40, 0}};
    const uint32_t expected[] = {150, 512, 256, 0}; /* several: whole chunks of its own schedule */
    for (size_t w = 0; w < sizeof expected / sizeof expected[0]; w++) {
        for (int i = 0; i < 2; i++) {
            assert_int_equal(dw_session_rewind(both[i], 0, NULL), DW_OK);
            dw_row_request rows[2] = {{.index = wanted[w][0], .logits = logits[i][0]}, {.index = wanted[w][1], .logits = logits[i][1]}};
            dw_job job = run((dw_job){.kind = DW_JOB_FORWARD, .session = both[i], .tokens = tokens, .n_tokens = 700, .rows = rows, .n_rows = wanted[w][1] > 0 ? 2 : 1});
            assert_int_equal(job.n_shared, i == 0 ? expected[w] : 0);
        }
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        assert_same_rows(taker, alone);
    }
    dw_session_destroy(giver);
    dw_session_destroy(taker);
    dw_session_destroy(alone);
}

static void a_sync_shares_at_once_when_fast_and_with_the_job_when_exact(void **state) {
    (void)state;
    int32_t tokens[400];
    uint32_t reused = 0;
    make_tokens(tokens, 400, 10);
    dw_session *giver = exact_of(ALICE), *fast = fast_of(ALICE), *exact = exact_of(ALICE);
    shared_by(giver, tokens, 400);
    assert_int_equal(dw_session_sync(fast, tokens, 400, &reused, NULL), DW_OK);
    assert_int_equal(reused, 399);
    assert_int_equal(dw_session_sync(exact, tokens, 400, &reused, NULL), DW_OK);
    assert_int_equal(reused, 0);
    assert_int_equal(shared_by(exact, tokens, 5), 405 - 64 < 400 ? 405 - 64 : 400);
    assert_int_equal(dw_session_sync(fast, NULL, 0, &reused, NULL), DW_OK);
    assert_int_equal(reused, 0);
    dw_session_destroy(giver);
    dw_session_destroy(fast);
    dw_session_destroy(exact);
}

static void a_cancelled_job_gives_back_what_it_shared(void **state) {
    (void)state;
    int32_t tokens[600];
    make_tokens(tokens, 600, 11);
    dw_session *giver = exact_of(ALICE), *taker = exact_of(ALICE), *alone = exact_of(0);
    shared_by(giver, tokens, 600);
    shared_by(taker, tokens, 70);
    shared_by(alone, tokens, 70);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = taker, .tokens = tokens + 70, .n_tokens = 530};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    assert_int_equal(job.n_shared, 600 - 64 - 70);
    atomic_store(&job.cancel, true);
    while (step_of(&job) == DW_JOB_MORE) {}
    assert_int_equal(dw_job_end(&job), DW_E_CANCELLED);
    assert_same_rows(taker, alone);
    shared_by(taker, tokens + 70, 10); /* a chunk of 10 as it would have been */
    shared_by(alone, tokens + 70, 10);
    assert_same_rows(taker, alone);
    dw_session_destroy(giver);
    dw_session_destroy(taker);
    dw_session_destroy(alone);
}

/* --- donors at work, full arenas ------------------------------------------------------------------------------ */

static void a_donor_at_work_gives_all_that_it_has_committed(void **state) {
    (void)state;
    int32_t tokens[880];
    make_tokens(tokens, 880, 12);
    dw_session *giver = exact_of(ALICE), *child = NULL, *taker = exact_of(ALICE);
    shared_by(giver, tokens, 300);
    assert_int_equal(dw_session_fork(giver, &child, NULL), DW_OK); /* rows behind 300 are a tail of its own */
    dw_session_destroy(giver);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = child, .tokens = tokens + 300, .n_tokens = 580};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    assert_int_equal(step_of(&job), DW_JOB_MORE);
    assert_int_equal(dw_session_rows(child), 556);
    assert_int_equal(shared_by(taker, tokens, 700), 556);
    while (step_of(&job) == DW_JOB_MORE) {}
    assert_int_equal(dw_job_end(&job), DW_OK);
    assert_int_equal(dw_session_rewind(taker, 0, NULL), DW_OK);
    assert_int_equal(shared_by(taker, tokens, 700), 636);
    dw_session *second = exact_of(ALICE), *alone = exact_of(0);
    job = (dw_job){.kind = DW_JOB_FORWARD, .session = child, .tokens = tokens, .n_tokens = 20};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    assert_int_equal(shared_by(second, tokens, 880), 816); /* at work again, with other tokens */
    while (step_of(&job) == DW_JOB_MORE) {}
    assert_int_equal(dw_job_end(&job), DW_OK);
    shared_by(alone, tokens, 880);
    assert_same_rows(second, alone);
    dw_session *all[] = {child, taker, second, alone};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) dw_session_destroy(all[i]);
}

static void a_full_pool_still_shares_with_every_session(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 13);
    dw_session *all[SESSIONS];
    for (int i = 0; i < SESSIONS; i++) all[i] = exact_of(ALICE);
    assert_int_equal(shared_by(all[0], tokens, 300), 0);
    for (int i = 1; i < SESSIONS; i++) assert_int_equal(shared_by(all[i], tokens, 300), 236);
    assert_int_equal(dw_session_rewind(all[1], 80, NULL), DW_OK);
    assert_int_equal(shared_by(all[1], tokens + 80, 220), 236 - 80); /* in place of its own: one of the arena's own slots lies beside them */
    for (int i = 0; i < SESSIONS; i++) assert_same_rows(all[i], all[0]);
    for (int i = 0; i < SESSIONS; i++) dw_session_destroy(all[i]);
}

/* --- rows of a file ------------------------------------------------------------------------------------------ */

/* A session over a file of zeros: a checkpoint that somebody made up. */
static dw_session *thawed(const int32_t *tokens, uint32_t n, bool fast, uint64_t owner) {
    dw_kv_source sources[16];
    dw_backing *backing = NULL;
    dw_session *session = NULL;
    uint64_t area = dw_round_down_u64((uint64_t)n * dw_model_info_view(model)->kv_row_bytes + dw_os_page_bytes() - 1, dw_os_page_bytes());
    uint32_t n_layers = dw_model_info_view(model)->n_layers;
    assert_int_equal(dw_backing_create_memory("checkpoint", 2 * n_layers * area, &backing, NULL), DW_OK);
    for (uint32_t i = 0; i < n_layers; i++) sources[i] = (dw_kv_source){2 * i * area, (2 * i + 1) * area};
    dw_session_image image = {.tokens = tokens, .n_tokens = n, .n_rows = n, .backing = backing, .layers = sources, .fast = fast, .owner = owner};
    assert_int_equal(dw_model_restore_session(model, &image, &session, NULL), DW_OK);
    dw_backing_release(backing);
    return session;
}

static void rows_of_a_file_of_which_nothing_is_known_are_for_fast_sessions_of_its_owner_alone(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 14);
    for (int fast = 0; fast < 2; fast++) {
        dw_session *giver = thawed(tokens, 300, fast != 0, ALICE), *exact = exact_of(ALICE), *quick = fast_of(ALICE), *bob = NULL;
        assert_int_equal(shared_by(exact, tokens, 300), 0);
        dw_session_destroy(exact);
        assert_int_equal(shared_by(quick, tokens, 300), 299);
        dw_session_destroy(giver);
        /* Nor at second hand. */
        bob = fast_of(BOB);
        assert_int_equal(shared_by(bob, tokens, 300), 0);
        dw_session_destroy(quick);
        dw_session_destroy(bob);
    }
}

/* The rows of a session as a file has them: layer after layer, K and then V, each on pages of its own. */
static dw_session *moved_by_file(const dw_session *from, uint32_t n_prefilled, bool granted, uint64_t owner) {
    dw_kv_source sources[16];
    dw_backing *backing = NULL;
    dw_session *session = NULL;
    uint32_t n_layers = dw_model_info_view(model)->n_layers, n_tokens = 0;
    const int32_t *tokens = dw_session_tokens(from, &n_tokens);
    uint64_t page = dw_os_page_bytes(), area = ((uint64_t)n_tokens * dw_model_info_view(model)->kv_row_bytes + page - 1) / page * page;
    assert_int_equal(dw_backing_create_memory("checkpoint", 2 * n_layers * area, &backing, NULL), DW_OK);
    for (uint32_t i = 0; i < 2 * n_layers; i++) {
        const void *rows = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(from, i / 2, (int)(i % 2), &rows, &bytes), DW_OK);
        assert_int_equal(dw_os_write_at(dw_backing_file(backing), i * area, rows, (size_t)bytes, NULL), DW_OK);
        if (i % 2 == 0) sources[i / 2] = (dw_kv_source){i * area, (i + 1) * area};
    }
    dw_session_image image = {.tokens = tokens, .n_tokens = n_tokens, .n_rows = dw_session_rows(from), .n_prefilled = n_prefilled, .granted = granted,
                              .backing = backing, .layers = sources, .fast = dw_session_is_fast(from), .owner = owner};
    assert_int_equal(dw_model_restore_session(model, &image, &session, NULL), DW_OK);
    dw_backing_release(backing);
    return session;
}

static void a_thawed_session_shares_with_its_owner_what_it_had_prefilled(void **state) {
    (void)state;
    int32_t tokens[400];
    make_tokens(tokens, 400, 15);
    dw_session *before = exact_of(ALICE), *alone = exact_of(0);
    assert_int_equal(shared_by(before, tokens, 300), 0);
    assert_int_equal(dw_session_prefilled(before), 300);
    dw_session *thawed_one = moved_by_file(before, 300, true, ALICE);
    dw_session_destroy(before);
    assert_int_equal(dw_session_prefilled(thawed_one), 300);
    dw_session *second = exact_of(ALICE), *bob = exact_of(BOB);
    assert_int_equal(shared_by(second, tokens, 400), 300);
    assert_int_equal(shared_by(bob, tokens, 400), 0);
    shared_by(alone, tokens, 400);
    assert_same_rows(second, alone);
    /* And it takes a longer prefix in place of its own rows, as one that was never in a file would. */
    assert_int_equal(dw_session_rewind(thawed_one, 200, NULL), DW_OK);
    assert_int_equal(shared_by(thawed_one, tokens + 200, 200), 336 - 200);
    assert_same_rows(thawed_one, alone);
    dw_session *all[] = {thawed_one, second, bob, alone};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) dw_session_destroy(all[i]);
}

static void a_grant_of_a_file_counts_where_it_is_trusted_and_its_rows_stay_with_the_owner(void **state) {
    (void)state;
    int32_t tokens[300];
    make_tokens(tokens, 300, 16);
    dw_session *before = opened((dw_session_options){.owner = ALICE, .granted = true});
    shared_by(before, tokens, 300);
    dw_session *trusted = moved_by_file(before, 300, true, ALICE), *untrusted = moved_by_file(before, 300, false, ALICE);
    assert_true(dw_session_is_granted(trusted));
    assert_false(dw_session_is_granted(untrusted));
    dw_session_destroy(before);
    dw_session *bob = opened((dw_session_options){.owner = BOB, .granted = true});
    assert_int_equal(shared_by(bob, tokens, 300), 0); /* rows of a file */
    dw_session *all[] = {trusted, untrusted, bob};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) dw_session_destroy(all[i]);
}

/* --- any schedule -------------------------------------------------------------------------------------------- */

enum { DOCUMENTS = 3, DOCUMENT = 700, STEPS = 120 };

typedef struct trace { dw_hasher *hasher; uint64_t shared, evaluated; dw_hash steps[STEPS]; } trace;

/* What can be seen of an exact session. */
static void hash_session(trace *t, const dw_session *session) {
    uint32_t n = 0, rows = dw_session_rows(session);
    const int32_t *tokens = dw_session_tokens(session, &n);
    assert_int_equal(dw_hasher_update(t->hasher, &rows, sizeof rows), DW_OK);
    if (n > 0) assert_int_equal(dw_hasher_update(t->hasher, tokens, n * sizeof tokens[0]), DW_OK);
    for (uint32_t area = 0; area < 2 * dw_model_info_view(model)->n_layers; area++) {
        const void *bytes = NULL;
        uint64_t size = 0;
        assert_int_equal(dw_session_kv_view(session, area / 2, (int)(area % 2), &bytes, &size), DW_OK);
        if (size > 0) assert_int_equal(dw_hasher_update(t->hasher, bytes, size), DW_OK);
    }
}

/* A piece of a document from where the log ends: other sessions have said the same, or something else at some place. */
static uint32_t next_piece(const dw_session *session, int32_t documents[DOCUMENTS][DOCUMENT], int32_t *out) {
    uint32_t n = 0, piece = roll(2) == 0 ? roll(20) + 1 : roll(400) + 1;
    dw_session_tokens(session, &n);
    uint32_t which = roll(DOCUMENTS);
    for (uint32_t i = 0; i < piece; i++) out[i] = documents[which][(n + i) % DOCUMENT];
    if (n + piece > CONTEXT - 40) return 0;
    if (roll(4) == 0) out[roll(piece)] = 300;
    return piece;
}

static void random_forward(trace *t, dw_session *session, int32_t documents[DOCUMENTS][DOCUMENT], bool exact) {
    static float logits[3][N_VOCAB];
    static int32_t tokens[CONTEXT];
    uint32_t n = next_piece(session, documents, tokens), n_rows = roll(4), have = 0;
    dw_session_tokens(session, &have);
    if (n == 0 && have == 0) return;
    memset(logits, 0, sizeof logits);
    dw_row_request rows[3] = {{0}};
    uint32_t kept = 0, before = 0;
    for (uint32_t i = 0; i < n_rows && i < 3; i++) {
        uint32_t index = before + roll(n > before ? n - before : 1);
        if (i + 1 == n_rows && (kept == 0 || before < n)) index = DW_ROW_LAST;
        else if (index >= n) break;
        rows[kept] = (dw_row_request){.index = index, .logits = logits[kept]};
        kept++;
        before = index + 1;
        if (index == DW_ROW_LAST) break;
    }
    if (kept == 2 && rows[1].index == DW_ROW_LAST && rows[0].index == n - 1) kept = 1;
    if (kept == 3 && rows[2].index == DW_ROW_LAST && rows[1].index == n - 1) kept = 2;
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n, .rows = rows, .n_rows = kept};
    dw_error err = {0};
    if (dw_job_begin(&job, &err) != DW_OK) fail_msg("%s", err.text);
    uint32_t cancel_after = roll(5) == 0 ? roll(3) : UINT32_MAX;
    for (uint32_t step = 0;; step++) {
        if (step == cancel_after) atomic_store(&job.cancel, true);
        if (step_of(&job) == DW_JOB_DONE) break;
    }
    dw_status status = dw_job_end(&job);
    t->shared += job.n_shared;
    t->evaluated += job.n_evaluated;
    if (cancel_after == 0) assert_int_equal(status, DW_E_CANCELLED);
    /* Whether a later cancel comes in time depends on how many steps there are, and these are fewer with sharing. */
    if (cancel_after != UINT32_MAX && cancel_after > 0) assert_int_equal(dw_session_rewind_rows(session, have, 0, NULL), DW_OK);
    if (exact && cancel_after == UINT32_MAX) assert_int_equal(dw_hasher_update(t->hasher, logits, sizeof logits), DW_OK);
}

static void random_step(trace *t, dw_session *sessions[6], int32_t documents[DOCUMENTS][DOCUMENT], uint64_t owner) {
    static int32_t tokens[CONTEXT];
    uint32_t which = roll(6), action = roll(100), n = 0, reused = 0;
    bool fast = which == 5;
    dw_session **at = &sessions[which];
    dw_session_tokens(*at, &n);
    if (action < 45) {
        random_forward(t, *at, documents, !fast);
    } else if (action < 60 && n > 0 && n < CONTEXT - 40) {
        generate(*at, roll(12) + 1);
    } else if (action < 72) {
        assert_int_equal(dw_session_rewind(*at, roll(n + 1), NULL), DW_OK);
    } else if (action < 85) {
        uint32_t wanted = roll(DOCUMENT) + 1;
        memcpy(tokens, documents[roll(DOCUMENTS)], wanted * sizeof tokens[0]);
        assert_int_equal(dw_session_sync(*at, tokens, wanted, &reused, NULL), DW_OK);
    } else if (action < 93 && !fast) {
        dw_session *child = NULL;
        uint32_t from = roll(5);
        assert_int_equal(dw_session_fork(sessions[from], &child, NULL), DW_OK);
        dw_session_destroy(*at);
        *at = child;
    } else {
        dw_session_destroy(*at);
        *at = opened((dw_session_options){.owner = owner, .fast = fast, .seed = roll(1000)});
    }
    if (!fast) hash_session(t, *at);
}

static void run_schedule(uint64_t seed, uint64_t owner, trace *t) {
    static int32_t documents[DOCUMENTS][DOCUMENT];
    random_state = seed;
    make_tokens(documents[0], DOCUMENT, 100);
    for (int i = 1; i < DOCUMENTS; i++) { /* alike up to some place */
        memcpy(documents[i], documents[0], sizeof documents[i]);
        make_tokens(documents[i] + 150 * i, (uint32_t)(DOCUMENT - 150 * i), 100 + (uint64_t)i);
    }
    dw_session *sessions[6];
    for (int i = 0; i < 6; i++) sessions[i] = opened((dw_session_options){.owner = owner, .fast = i == 5, .seed = (uint64_t)i});
    for (int step = 0; step < STEPS; step++) {
        assert_int_equal(dw_hasher_create(&t->hasher), DW_OK);
        random_step(t, sessions, documents, owner);
        assert_int_equal(dw_hasher_finish(t->hasher, &t->steps[step]), DW_OK);
        dw_hasher_destroy(t->hasher);
    }
    for (int i = 0; i < 6; i++) dw_session_destroy(sessions[i]);
}

static void any_schedule_is_the_same_with_and_without(void **state) {
    static const char *const names[] = {"tied_f16", "grouped_q8", "factors_q4k", "window_q8"};
    (void)state;
    for (uint64_t i = 0; i < 8; i++) {
        static trace with, without;
        uint64_t seed = 20261125 + i;
        with = without = (trace){0};
        open_model(names[i % 4]);
        run_schedule(seed, 0, &without);
        run_schedule(seed, ALICE, &with);
        close_model();
        printf("%s, seed %llu: %llu rows shared, %llu evaluated; without %llu evaluated\n", names[i % 4], (unsigned long long)seed,
               (unsigned long long)with.shared, (unsigned long long)with.evaluated, (unsigned long long)without.evaluated);
        for (int step = 0; step < STEPS; step++) {
            if (!dw_hash_equal(&with.steps[step], &without.steps[step])) fail_msg("%s, seed %llu: step %d differs", names[i % 4], (unsigned long long)seed, step);
        }
        assert_int_equal(without.shared, 0);
        assert_true(with.shared > 0 && with.evaluated < without.evaluated);
    }
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
#define with_a_model(test) cmocka_unit_test_setup_teardown(test, with_model, without_model)
    const struct CMUnitTest tests[] = {
        with_a_model(all_but_a_whole_chunk_of_a_common_prompt_is_shared),
        with_a_model(the_longest_prefix_is_taken),
        with_a_model(short_prefixes_are_computed),
        with_a_model(only_the_owner_shares_unless_both_are_granted),
        with_a_model(a_fork_belongs_to_its_parents_owner),
        with_a_model(an_exact_session_takes_no_decoded_rows_and_keeps_its_own),
        with_a_model(an_exact_session_takes_nothing_of_a_fast_one),
        with_a_model(rows_that_are_wanted_are_computed),
        with_a_model(a_sync_shares_at_once_when_fast_and_with_the_job_when_exact),
        with_a_model(a_cancelled_job_gives_back_what_it_shared),
        with_a_model(a_donor_at_work_gives_all_that_it_has_committed),
        with_a_model(a_full_pool_still_shares_with_every_session),
        with_a_model(rows_of_a_file_of_which_nothing_is_known_are_for_fast_sessions_of_its_owner_alone),
        with_a_model(a_thawed_session_shares_with_its_owner_what_it_had_prefilled),
        with_a_model(a_grant_of_a_file_counts_where_it_is_trusted_and_its_rows_stay_with_the_owner),
        cmocka_unit_test(any_schedule_is_the_same_with_and_without),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

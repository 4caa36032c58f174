/* Held logits: a draw from them is the draw that the row gave, they go where the log goes and no further, and what they
 * take is counted. */
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
#include "model/engine/job.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum { CONTEXT = 900, N_VOCAB = 512, SESSIONS = 10, N_MADE = 8 };
static const uint64_t logits_bytes = N_VOCAB * sizeof(float);
static const dw_sampling sampling = {.temperature = 1.5f, .top_p = 1.0f};

static dw_device *device;
static dw_model *model;
static uint64_t row_bytes; /* of a token */
static int32_t prompt[300];

static void open_named(const char *name, uint64_t budget_bytes) {
    dw_error err = {0};
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = SESSIONS, .kv_bytes_max = budget_bytes};
    if (dw_model_open(made_model_path(made_model_named(name)), device, &options, &model, &err) != DW_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(dw_model_info_view(model)->n_vocab, N_VOCAB);
    row_bytes = dw_model_info_view(model)->kv_bytes_per_token;
}

static int open_model(void **state) {
    (void)state;
    open_named("tied_f16", 0);
    for (uint32_t i = 0; i < 300; i++) prompt[i] = (int32_t)(259 + i * i * 7 % (N_VOCAB - 259));
    return 0;
}

static int close_model(void **state) {
    (void)state;
    dw_model_close(model);
    model = NULL;
    return 0;
}

static dw_session *opened(bool fast) {
    dw_session *session = NULL;
    dw_session_options options = {.fast = fast, .seed = 11};
    assert_int_equal(dw_model_create_session(model, &options, &session, NULL), DW_OK);
    return session;
}

static dw_job forward(dw_session *session, uint32_t n, bool hold, dw_row_request *rows, uint32_t n_rows) {
    return (dw_job){.kind = DW_JOB_FORWARD, .session = session, .tokens = prompt, .n_tokens = n, .hold = hold,
                    .rows = rows, .n_rows = n_rows};
}

static void run(dw_job job, uint32_t n_evaluated) {
    dw_error err = {0};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(job.n_evaluated, n_evaluated);
}

static void hold(dw_session *session, uint32_t n) { run(forward(session, n, true, NULL, 0), n); }

static const float *held(const dw_session *session) {
    uint32_t n = 0;
    const float *logits = dw_session_logits(session, &n);
    assert_int_equal(n, logits != NULL ? N_VOCAB : 0);
    return logits;
}

static dw_session_pool_use use_now(void) {
    dw_session_pool_use use;
    dw_session_pool_use_now(dw_model_pool(model), &use);
    return use;
}

/* N_MADE tokens behind a log that is evaluated; fails where anything but the drawn tokens is evaluated. */
static void generate(dw_session *session, int32_t made[N_MADE]) {
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .n_max = N_MADE, .ignore_end = true,
                  .sampling = sampling};
    uint32_t before = 0, after = 0;
    dw_error err = {0};
    dw_session_tokens(session, &before);
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(job.n_evaluated, 0);
    const int32_t *log = dw_session_tokens(session, &after);
    assert_int_equal(after, before + N_MADE);
    assert_int_equal(dw_session_rows(session), after - 1);
    memcpy(made, log + before, N_MADE * sizeof made[0]);
}

/* The prompt ends in prefill chunks, in a short tail, and in a single token. */
static void a_draw_from_held_logits_is_the_draw_of_that_row(void **state) {
    (void)state;
    const uint32_t lengths[] = {300, 256, 40, 7, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        float wanted[N_VOCAB], read[N_VOCAB];
        dw_session *twin = opened(false), *session = opened(false);
        dw_row_request sampled = {.index = DW_ROW_LAST, .sample = true, .sampling = sampling};
        run(forward(twin, lengths[i], false, &sampled, 1), lengths[i]);
        dw_row_request row = {.index = DW_ROW_LAST, .logits = wanted};
        dw_session *other = opened(false);
        run(forward(other, lengths[i], true, &row, 1), lengths[i]);
        hold(session, lengths[i]);
        assert_memory_equal(held(session), wanted, sizeof wanted);
        assert_memory_equal(held(other), wanted, sizeof wanted);
        row.logits = read;
        run(forward(session, 0, false, &row, 1), 0);
        assert_memory_equal(read, wanted, sizeof wanted);
        run(forward(session, 0, true, NULL, 0), 0); /* they are held already */
        assert_memory_equal(held(session), wanted, sizeof wanted);
        int32_t made[N_MADE], others[N_MADE];
        generate(session, made);
        generate(other, others);
        assert_int_equal(made[0], sampled.sampled.token);
        assert_memory_equal(made, others, sizeof made);
        assert_null(held(session));
        dw_session_destroy(twin);
        dw_session_destroy(other);
        dw_session_destroy(session);
    }
    assert_int_equal(use_now().logits_bytes, 0);
}

static void rows_asked_for_are_answered_from_held_logits(void **state) {
    (void)state;
    dw_session *session = opened(false);
    dw_token_score top[2][4];
    float entropy[2], scores[2][2];
    const int32_t candidates[2] = {5, 300};
    for (int i = 0; i < 2; i++) {
        dw_row_request row = {.index = DW_ROW_LAST, .top = top[i], .n_top = 4, .entropy = &entropy[i],
                              .candidates = candidates, .candidate_logprobs = scores[i], .n_candidates = 2};
        run(forward(session, i == 0 ? 100 : 0, true, &row, 1), i == 0 ? 100 : 0);
    }
    assert_memory_equal(top[0], top[1], sizeof top[0]);
    assert_memory_equal(&entropy[0], &entropy[1], sizeof entropy[0]);
    assert_memory_equal(scores[0], scores[1], sizeof scores[0]);
    dw_session_destroy(session);
}

/* Logits go by how many are computed together (session.h rule 2): the held row counts as a wanted one. */
static void a_held_row_beside_wanted_ones_has_the_bits_of_a_wanted_one(void **state) {
    (void)state;
    float first[2][N_VOCAB], last[N_VOCAB];
    dw_session *session = opened(false), *twin = opened(false), *hurried = opened(false);
    dw_row_request rows[2] = {{.index = 3, .logits = first[0]}, {.index = DW_ROW_LAST, .logits = last}};
    run(forward(twin, 150, false, rows, 2), 150);
    dw_row_request row = {.index = 3, .logits = first[1]};
    run(forward(session, 150, true, &row, 1), 150);
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    assert_memory_equal(held(session), last, sizeof last);
    /* Somebody is in a hurry: a prompt is cut shorter only where that keeps the bits of what is wanted of it. */
    dw_job job = forward(hurried, 150, true, &row, 1);
    dw_batch_job alone = {.job = &job, .progress = DW_JOB_MORE};
    const dw_batch_options options = {.short_steps = true};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    while (alone.progress == DW_JOB_MORE) assert_true(dw_batch_step(&alone, 1, &options));
    assert_int_equal(dw_job_end(&job), DW_OK);
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    assert_memory_equal(held(hurried), last, sizeof last);
    dw_session_destroy(hurried);
    dw_session_destroy(session);
    dw_session_destroy(twin);
}

/* engine.h rule 5: others may write to the caller's memory while the device does. */
static void what_is_held_is_never_read_from_the_callers_memory(void **state) {
    (void)state;
    float wanted[N_VOCAB];
    dw_session *session = opened(false);
    dw_row_request row = {.index = DW_ROW_LAST, .logits = wanted};
    for (int i = 0; i < 2; i++) {
        dw_job job = forward(session, 10, i == 1, &row, 1);
        dw_job_part part;
        assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
        assert_int_equal(dw_job_plan(&job, DW_PREFILL_CHUNK_TOKENS, &part), DW_JOB_MORE);
        assert_ptr_equal(part.logits, i == 0 ? wanted : NULL);
        assert_int_equal(dw_job_end(&job), DW_E_CANCELLED);
    }
    dw_session_destroy(session);
}

static void a_log_that_grows_or_is_cut_drops_its_logits(void **state) {
    (void)state;
    uint32_t reused = 0;
    for (int change = 0; change < 7; change++) {
        dw_session *session = opened(false);
        hold(session, 120);
        switch (change) {
        case 0: assert_int_equal(dw_session_rewind(session, 120, NULL), DW_OK); break;
        case 1: assert_int_equal(dw_session_sync(session, prompt, 120, &reused, NULL), DW_OK); break;
        case 2: assert_int_equal(dw_session_rewind(session, 121, NULL), DW_E_RANGE); break;
        case 3: assert_int_equal(dw_session_rewind(session, 119, NULL), DW_OK); break;
        case 4: assert_int_equal(dw_session_rewind_rows(session, 120, 100, NULL), DW_OK); break;
        case 5: assert_int_equal(dw_session_sync(session, prompt, 121, &reused, NULL), DW_OK); break;
        default: run(forward(session, 1, false, NULL, 0), 1); break;
        }
        assert_int_equal(held(session) != NULL, change < 3);
        assert_int_equal(use_now().logits_bytes, change < 3 ? logits_bytes : 0);
        dw_session_destroy(session);
    }
}

/* A forward without the wish holds nothing, and holding again needs an evaluation of the last row. */
static void logits_are_held_for_who_asks(void **state) {
    (void)state;
    dw_session *session = opened(false);
    run(forward(session, 100, false, NULL, 0), 100);
    assert_null(held(session));
    run(forward(session, 0, true, NULL, 0), 1);
    assert_non_null(held(session));
    dw_session_destroy(session);
}

static void a_fork_has_the_logits_and_they_are_counted_once(void **state) {
    (void)state;
    dw_session *parent = opened(false), *child = NULL, *second = NULL;
    hold(parent, 130);
    assert_int_equal(dw_session_fork(parent, &child, NULL), DW_OK);
    assert_int_equal(dw_session_fork(child, &second, NULL), DW_OK);
    assert_int_equal(use_now().logits_bytes, logits_bytes);
    dw_session_use use = {0};
    assert_int_equal(dw_session_use_now(child, &use, NULL), DW_OK);
    assert_int_equal(use.logits_bytes, logits_bytes);
    int32_t made[3][N_MADE];
    generate(parent, made[0]);
    dw_session_destroy(parent);
    assert_int_equal(use_now().logits_bytes, logits_bytes); /* the children's */
    generate(child, made[1]);
    generate(second, made[2]);
    assert_memory_equal(made[0], made[1], sizeof made[0]);
    assert_memory_equal(made[0], made[2], sizeof made[0]);
    assert_int_equal(use_now().logits_bytes, 0);
    dw_session_destroy(child);
    dw_session_destroy(second);
}

static void a_job_that_fails_leaves_the_logits_that_were_held(void **state) {
    (void)state;
    float before[N_VOCAB];
    dw_session *session = opened(false);
    hold(session, 110);
    memcpy(before, held(session), sizeof before);
    const dw_sampler_state sampler = dw_session_sampler_state(session);
    dw_job jobs[] = {
        forward(session, 30, true, NULL, 0), forward(session, 30, false, NULL, 0), forward(session, 0, true, NULL, 0),
        {.kind = DW_JOB_GENERATE, .session = session, .n_max = 3, .sampling = sampling},
        {.kind = DW_JOB_GENERATE, .session = session, .n_max = 3, .sampling = sampling, .tokens = prompt,
         .n_tokens = 9},
    };
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++) {
        dw_error err = {0};
        uint32_t n = 0;
        atomic_store(&jobs[i].cancel, true);
        assert_int_equal(dw_job_run(&jobs[i], &err), DW_E_CANCELLED);
        dw_session_tokens(session, &n);
        assert_int_equal(n, 110);
        assert_memory_equal(held(session), before, sizeof before);
        dw_sampler_state now = dw_session_sampler_state(session);
        assert_memory_equal(&now, &sampler, sizeof now);
    }
    int32_t token = N_VOCAB; /* refused before it begins */
    dw_job outside = {.kind = DW_JOB_FORWARD, .session = session, .tokens = &token, .n_tokens = 1, .hold = true};
    dw_error err = {0};
    assert_int_equal(dw_job_run(&outside, &err), DW_E_RANGE);
    assert_memory_equal(held(session), before, sizeof before);
    assert_int_equal(use_now().logits_bytes, logits_bytes);
    dw_session_destroy(session);
}

/* What a turn notes at its beginning stays good while the session goes on. */
static void noted_logits_can_be_put_back(void **state) {
    (void)state;
    int32_t made[2][N_MADE];
    dw_session *session = opened(false);
    hold(session, 110);
    const dw_sampler_state sampler = dw_session_sampler_state(session);
    dw_logits *noted = dw_session_note_logits(session);
    generate(session, made[0]);
    assert_int_equal(use_now().logits_bytes, logits_bytes);
    dw_session_put_logits_back(session, noted); /* its log is another now: it holds nothing */
    assert_null(held(session));
    assert_int_equal(dw_session_rewind_rows(session, 110, 110, NULL), DW_OK);
    dw_session_put_logits_back(session, noted);
    dw_session_set_sampler_state(session, sampler);
    dw_logits_release(noted);
    generate(session, made[1]);
    assert_memory_equal(made[0], made[1], sizeof made[0]);
    dw_session_destroy(session);
    dw_logits_release(NULL);
}

static void the_budget_counts_held_logits(void **state) {
    close_model(state);
    open_named("tied_f16", 0);
    const uint64_t rows = 64 * row_bytes;
    close_model(state);
    open_named("tied_f16", 2 * rows + 2 * logits_bytes);
    dw_session *exact = opened(false), *fast = opened(true);
    dw_error err = {0};
    hold(exact, 64);
    hold(fast, 64);
    dw_session_pool_use use = use_now();
    assert_int_equal(use.logits_bytes, 2 * logits_bytes);
    assert_int_equal(use.own_bytes + use.shared_bytes + use.logits_bytes, use.budget_bytes);
    /* The idle fast session gives way with rows and logits. */
    dw_session *second = opened(false);
    hold(second, 64);
    assert_int_equal(dw_session_rows(fast), 0);
    assert_null(held(fast));
    assert_int_equal(use_now().evictions, 1);
    /* Nobody is left who could. Refused before anything is evaluated. */
    dw_job job = forward(fast, 0, true, NULL, 0);
    assert_int_equal(dw_job_run(&job, &err), DW_E_FULL);
    job = forward(second, 1, true, NULL, 0);
    assert_int_equal(dw_job_run(&job, &err), DW_E_FULL);
    assert_int_equal(job.n_evaluated, 0);
    assert_non_null(strstr(err.text, "held logits"));
    assert_non_null(held(second));
    assert_int_equal(use_now().refused, 2);
    dw_session_destroy(second);
    dw_session_destroy(fast);
    dw_session_destroy(exact);
    assert_int_equal(use_now().logits_bytes, 0);
}

static void an_image_whose_logits_do_not_fit_is_refused(void **state) {
    (void)state;
    const int32_t tokens[2] = {5, 6};
    float logits[N_VOCAB] = {0};
    dw_session *session = NULL;
    dw_session_image image = {.tokens = tokens, .n_tokens = 2, .logits = logits, .n_logits = N_VOCAB};
    assert_int_equal(dw_session_restore(dw_model_pool(model), &image, &session, NULL), DW_E_FORMAT); /* no rows */
    image = (dw_session_image){.logits = logits, .n_logits = N_VOCAB};
    assert_int_equal(dw_session_restore(dw_model_pool(model), &image, &session, NULL), DW_E_FORMAT); /* no log */
    image.n_logits = N_VOCAB - 1;
    assert_int_equal(dw_session_restore(dw_model_pool(model), &image, &session, NULL), DW_E_FORMAT);
    assert_int_equal(use_now().logits_bytes, 0);
}

/* An image of a session as a checkpoint has it; its rows go to *backing. */
static dw_session_image image_of(const dw_session *session, dw_kv_source *sources, dw_backing **backing) {
    dw_session_image image = {.n_rows = dw_session_rows(session), .layers = sources,
                              .sampler = dw_session_sampler_state(session)};
    const dw_model_info *info = dw_model_info_view(model);
    uint64_t page = dw_os_page_bytes(), area = (image.n_rows * info->kv_row_bytes + page - 1) / page * page;
    assert_int_equal(dw_backing_create_memory("image", 2 * info->n_layers * area, backing, NULL), DW_OK);
    for (uint32_t i = 0; i < 2 * info->n_layers; i++) {
        const void *rows = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(session, i / 2, (int)(i % 2), &rows, &bytes), DW_OK);
        assert_int_equal(dw_os_write_at(dw_backing_file(*backing), i * area, rows, (size_t)bytes, NULL), DW_OK);
        if (i % 2 == 0) sources[i / 2] = (dw_kv_source){i * area, (i + 1) * area};
    }
    image.tokens = dw_session_tokens(session, &image.n_tokens);
    image.logits = dw_session_logits(session, &image.n_logits);
    image.backing = *backing;
    return image;
}

static void a_restored_session_draws_from_its_logits_and_needs_room_for_them(void **state) {
    dw_kv_source sources[8];
    dw_backing *backing = NULL;
    dw_session *restored = NULL;
    dw_error err = {0};
    int32_t made[2][N_MADE];
    dw_session *session = opened(false);
    hold(session, 64);
    generate(session, made[1]);
    dw_session_destroy(session);
    close_model(state);
    open_named("tied_f16", 64 * row_bytes + 2 * logits_bytes);
    assert_true(dw_model_info_view(model)->n_layers <= 8);
    session = opened(false);
    hold(session, 64);
    const dw_session_image image = image_of(session, sources, &backing);
    /* Its rows take nothing. */
    assert_int_equal(dw_session_restore(dw_model_pool(model), &image, &restored, &err), DW_OK);
    assert_int_equal(use_now().logits_bytes, 2 * logits_bytes);
    dw_session *second = NULL;
    assert_int_equal(dw_session_restore(dw_model_pool(model), &image, &second, &err), DW_E_FULL);
    assert_null(second);
    assert_int_equal(use_now().sessions, 2);
    assert_int_equal(use_now().logits_bytes, 2 * logits_bytes);
    dw_session_destroy(session);
    generate(restored, made[0]);
    dw_session_destroy(restored);
    assert_memory_equal(made[0], made[1], sizeof made[0]);
    dw_backing_release(backing);
}

/* Two jobs in one pass: each session holds its own row. */
static void sessions_that_are_evaluated_together_hold_their_own(void **state) {
    (void)state;
    float alone[2][N_VOCAB];
    dw_session *sessions[2];
    for (uint32_t i = 0; i < 2; i++) {
        dw_session *twin = opened(false);
        sessions[i] = opened(false);
        run(forward(twin, 50 + i, false, NULL, 0), 50 + i);
        run(forward(sessions[i], 50 + i, false, NULL, 0), 50 + i);
        run(forward(twin, 1, true, NULL, 0), 1);
        memcpy(alone[i], held(twin), sizeof alone[i]);
        dw_session_destroy(twin);
    }
    dw_job jobs[2] = {forward(sessions[0], 1, true, NULL, 0), forward(sessions[1], 1, true, NULL, 0)};
    dw_batch_job batch[2];
    const dw_batch_options options = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dw_job_begin(&jobs[i], NULL), DW_OK);
        batch[i] = (dw_batch_job){.job = &jobs[i]};
    }
    assert_true(dw_batch_step(batch, 2, &options));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(batch[i].progress, DW_JOB_DONE);
        assert_int_equal(dw_job_end(&jobs[i]), DW_OK);
        assert_memory_equal(held(sessions[i]), alone[i], sizeof alone[i]);
        dw_session_destroy(sessions[i]);
    }
}

/* A drawn token and everything behind it are the same whether one job makes them or each job draws one from held
 * logits. */
static void token_by_token_from_held_logits_is_one_generation(void **state) {
    (void)state;
    dw_session *whole = opened(false), *stepped = opened(false);
    int32_t made[N_MADE];
    hold(whole, 90);
    hold(stepped, 90);
    generate(whole, made);
    for (int i = 0; i < N_MADE; i++) {
        dw_row_request row = {.index = DW_ROW_LAST, .sample = true, .sampling = sampling};
        run(forward(stepped, 0, false, &row, 1), 0);
        assert_int_equal(row.sampled.token, made[i]);
        dw_job next = {.kind = DW_JOB_FORWARD, .session = stepped, .tokens = &row.sampled.token, .n_tokens = 1,
                       .hold = true};
        run(next, 1);
    }
    dw_session_destroy(whole);
    dw_session_destroy(stepped);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
#define test(name) cmocka_unit_test_setup_teardown(name, open_model, close_model)
    const struct CMUnitTest tests[] = {
        test(a_draw_from_held_logits_is_the_draw_of_that_row),
        test(rows_asked_for_are_answered_from_held_logits),
        test(a_held_row_beside_wanted_ones_has_the_bits_of_a_wanted_one),
        test(what_is_held_is_never_read_from_the_callers_memory),
        test(a_log_that_grows_or_is_cut_drops_its_logits),
        test(logits_are_held_for_who_asks),
        test(a_fork_has_the_logits_and_they_are_counted_once),
        test(a_job_that_fails_leaves_the_logits_that_were_held),
        test(noted_logits_can_be_put_back),
        test(the_budget_counts_held_logits),
        test(an_image_whose_logits_do_not_fit_is_refused),
        test(a_restored_session_draws_from_its_logits_and_needs_room_for_them),
        test(sessions_that_are_evaluated_together_hold_their_own),
        test(token_by_token_from_held_logits_is_one_generation),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

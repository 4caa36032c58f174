/* numbers_test.c: what leaves as a result is a number, and is decided from memory that nobody else can change (engine.h rules 4 and 5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/embed/make_encoder.h"
#include "model/engine/engine.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum { CONTEXT = 512, N_VOCAB = 512, WIDTH_MAX = 256, N_TOKENS = 100, N_TOP = 5 };

static dw_device *device;
static int32_t tokens[N_TOKENS];

static dw_model *opened(const char *path) {
    return open_model_on(device, path, &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 2});
}

/* A model one of whose weights is `value`. */
static dw_model *spoilt(const char *base, const char *tensor, uint32_t at, float value, const char *name) {
    made_model made = *made_model_named(base);
    made.name = name;
    made.spoilt = tensor;
    made.spoilt_at = at;
    made.spoilt_value = value;
    return opened(made_model_path(&made));
}

static dw_session *session_of(dw_model *model) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    return session;
}

static bool all_zero(const float *x, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] != 0) return false;
    }
    return true;
}

/* --- rows and draws ------------------------------------------------------------------------------------------ */

/* Everything that a row can be asked for, one at a time (`what`) or all of it. */
enum { LOGITS, TOP, CANDIDATES, ENTROPY, DRAW, ALL, WAYS };

typedef struct row_results {
    float logits[N_VOCAB], scores[2], entropy;
    dw_token_score top[N_TOP];
} row_results;

static dw_row_request row_for(int what, uint32_t index, row_results *to) {
    static const int32_t candidates[2] = {7, 300};
    dw_row_request row = {.index = index, .sampling = {.temperature = 1, .top_p = 1}};
    if (what == LOGITS || what == ALL) row.logits = to->logits;
    if (what == TOP || what == ALL) row.top = to->top, row.n_top = N_TOP;
    if (what == CANDIDATES || what == ALL) row.candidates = candidates, row.candidate_logprobs = to->scores, row.n_candidates = 2;
    if (what == ENTROPY || what == ALL) row.entropy = &to->entropy;
    row.sample = what == DRAW || what == ALL;
    return row;
}

/* Every request fails, whatever it asks for, leaves the session as it was and no numbers that are none. */
static void must_fail(dw_model *model) {
    for (int what = 0; what < WAYS; what++) {
        for (uint32_t n_rows = 1; n_rows <= 2; n_rows++) {
            dw_session *session = session_of(model);
            row_results results[2];
            memset(results, 0x55, sizeof results);
            dw_row_request rows[2] = {row_for(what, n_rows == 2 ? 10 : DW_ROW_LAST, &results[0]), row_for(what, DW_ROW_LAST, &results[1])};
            dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = N_TOKENS, .rows = rows, .n_rows = n_rows};
            dw_error err = {0};
            assert_int_equal(dw_job_run(&job, &err), DW_E_DEVICE);
            assert_non_null(strstr(err.text, "no numbers"));
            uint32_t n = 1;
            dw_session_tokens(session, &n);
            assert_int_equal(n, 0);
            assert_int_equal(dw_session_sampler_state(session).counter, 0);
            if (what == LOGITS || what == ALL) assert_true(all_zero(results[0].logits, N_VOCAB));
            dw_session_destroy(session);
        }
    }
    dw_session *session = session_of(model);
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .tokens = tokens, .n_tokens = N_TOKENS, .n_max = 5, .sampling = {.top_p = 1}};
    assert_int_equal(dw_job_run(&job, NULL), DW_E_DEVICE);
    assert_int_equal(job.n_generated, 0);
    dw_session_destroy(session);
}

static void logits_that_are_no_numbers_end_the_job(void **state) {
    (void)state;
    static const struct { const char *tensor; uint32_t at; float value; const char *name; } cases[] = {
        {"output_norm.weight", 3, NAN, "s_norm_nan"},  /* all logits */
        {"output.bias", 7, NAN, "s_bias_nan"},         /* one of them */
        {"output.bias", N_VOCAB - 1, INFINITY, "s_bias_inf"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_model *model = spoilt("v_qwen2_yarn", cases[i].tensor, cases[i].at, cases[i].value, cases[i].name);
        must_fail(model);
        dw_model_close(model);
    }
}

static void an_excluded_token_is_minus_infinity_and_never_drawn(void **state) {
    (void)state;
    dw_model *model = spoilt("v_qwen2_yarn", "output.bias", 7, -INFINITY, "s_bias_minus_inf");
    dw_session *session = session_of(model);
    row_results results;
    dw_row_request row = row_for(ALL, DW_ROW_LAST, &results);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = N_TOKENS, .rows = &row, .n_rows = 1};
    assert_int_equal(dw_job_run(&job, NULL), DW_OK);
    assert_true(results.logits[7] == -INFINITY && results.scores[0] == -INFINITY);
    assert_true(isfinite(results.scores[1]) && isfinite(results.entropy) && isfinite(row.sampled.logprob));
    for (int i = 0; i < N_TOP; i++) assert_true(results.top[i].token != 7 && isfinite(results.top[i].logprob));
    dw_session_destroy(session);
    dw_model_close(model);
}

/* --- vectors ------------------------------------------------------------------------------------------------- */

static void must_fail_to_embed(dw_model *model, const dw_embed_text *texts, uint32_t n, uint32_t good) {
    uint32_t width = dw_model_info_view(model)->n_embedding;
    for (int pooling = DW_POOLING_MEAN; pooling <= DW_POOLING_LAST; pooling++) {
        for (int normalize = 0; normalize < 2; normalize++) {
            for (uint32_t i = 0; i < n; i++) memset(texts[i].vector, 0x55, width * sizeof(float));
            dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = n, .pooling = (dw_pooling)pooling, .normalize = normalize == 1};
            dw_error err = {0};
            assert_int_equal(dw_job_run(&job, &err), DW_E_DEVICE);
            char says[32];
            snprintf(says, sizeof says, "text %u", good);
            assert_non_null(strstr(err.text, says));
            assert_int_equal(job.n_embedded, good);
            for (uint32_t i = 0; i < good; i++) assert_false(all_zero(texts[i].vector, width));
            assert_true(all_zero(texts[good].vector, width));
            for (uint32_t i = 0; i < n * width; i++) assert_true(isfinite(texts[0].vector[i]));
        }
    }
}

static void vectors_that_hold_no_number_end_the_job(void **state) {
    (void)state;
    static float vectors[3][WIDTH_MAX];
    /* A decoder: one number of each vector. */
    dw_model *model = spoilt("grouped_three_f32", "output_norm.weight", 3, NAN, "s_decoder_nan");
    dw_embed_text one = {tokens, N_TOKENS, vectors[0]};
    must_fail_to_embed(model, &one, 1, 0);
    dw_model_close(model);
    /* A decoder: the second text, in which the token with the spoilt embedding is. */
    int32_t with[3] = {300, 301, 302}, without[3] = {303, 304, 305};
    uint32_t width = made_model_named("grouped_three_f32")->width;
    model = spoilt("grouped_three_f32", "token_embd.weight", 301 * width + 9, INFINITY, "s_token_inf");
    assert_int_equal(dw_model_info_view(model)->n_embedding, width);
    dw_embed_text decoder_texts[3] = {{without, 3, vectors[0]}, {with, 3, vectors[0] + width}, {without, 3, vectors[0] + 2 * width}};
    dw_embed_text all[3] = {decoder_texts[0], decoder_texts[1], decoder_texts[2]};
    for (int normalize = 0; normalize < 2; normalize++) {
        dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = all, .n_texts = 3, .pooling = DW_POOLING_MEAN, .normalize = normalize == 1};
        assert_int_equal(dw_job_run(&job, NULL), DW_E_DEVICE);
        assert_int_equal(job.n_embedded, 1);
        assert_true(all_zero(all[1].vector, width));
    }
    dw_model_close(model);
    /* An encoder, whose graph writes into the caller's memory. */
    static int32_t words[3][8] = {{MADE_CLS, 9, 10, MADE_SEP}, {MADE_CLS, 11, 12, MADE_SEP}, {MADE_CLS, 20, 21, MADE_SEP}};
    model = opened(made_encoder_path(&made_encoders[0], MADE_NAN, "numbers"));
    width = dw_model_info_view(model)->n_embedding;
    dw_embed_text texts[3];
    for (uint32_t i = 0; i < 3; i++) texts[i] = (dw_embed_text){words[i], 4, vectors[0] + i * width};
    must_fail_to_embed(model, texts, 3, 0);
    dw_model_close(model);
}

/* --- memory for results is only written ------------------------------------------------------------------------ */

typedef struct scribbler { volatile float *memory; _Atomic bool over; } scribbler;

static void scribble(void *argument) {
    scribbler *s = argument;
    for (uint32_t i = 0; !atomic_load(&s->over); i = (i + 1) % N_VOCAB) s->memory[i] = i % 3 == 0 ? 1e30f : NAN;
}

static void what_is_decided_does_not_depend_on_the_memory_for_results(void **state) {
    (void)state;
    enum { ROUNDS = 40 };
    dw_model *model = opened(made_model_path(made_model_named("grouped_q8")));
    static row_results quiet, disturbed;
    for (int round = 0; round < ROUNDS; round++) {
        dw_token_score drawn[2];
        for (int turn = 0; turn < 2; turn++) {
            row_results *to = turn == 0 ? &quiet : &disturbed;
            dw_session *session = session_of(model);
            dw_row_request row = row_for(ALL, DW_ROW_LAST, to);
            scribbler s = {.memory = to->logits};
            dw_os_thread *thread = NULL;
            if (turn == 1) assert_int_equal(dw_os_thread_create("scribbles", 1 << 20, scribble, &s, &thread, NULL), DW_OK);
            dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = 1 + (uint32_t)round, .rows = &row, .n_rows = 1};
            assert_int_equal(dw_job_run(&job, NULL), DW_OK);
            assert_int_equal(job.copied_bytes, sizeof to->logits);
            atomic_store(&s.over, true);
            if (thread != NULL) dw_os_thread_join(thread);
            drawn[turn] = row.sampled;
            dw_session_destroy(session);
        }
        assert_memory_equal(&drawn[0], &drawn[1], sizeof drawn[0]);
        assert_memory_equal(quiet.top, disturbed.top, sizeof quiet.top);
        assert_memory_equal(quiet.scores, disturbed.scores, sizeof quiet.scores);
        assert_true(quiet.entropy == disturbed.entropy);
    }
    dw_model_close(model);
}

static void logits_alone_are_not_copied(void **state) {
    (void)state;
    dw_model *model = opened(made_model_path(made_model_named("grouped_q8")));
    dw_session *session = session_of(model);
    row_results results;
    dw_row_request row = row_for(LOGITS, DW_ROW_LAST, &results);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = N_TOKENS, .rows = &row, .n_rows = 1};
    assert_int_equal(dw_job_run(&job, NULL), DW_OK);
    assert_int_equal(job.copied_bytes, 0);
    dw_session_destroy(session);
    dw_model_close(model);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int32_t i = 0; i < N_TOKENS; i++) tokens[i] = 300 + i;
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_that_are_no_numbers_end_the_job),
        cmocka_unit_test(an_excluded_token_is_minus_infinity_and_never_drawn),
        cmocka_unit_test(vectors_that_hold_no_number_end_the_job),
        cmocka_unit_test(what_is_decided_does_not_depend_on_the_memory_for_results),
        cmocka_unit_test(logits_alone_are_not_copied),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

/* Pooled decoders: beside libllama's, in chunks, and beside sessions, whose slots they share. */
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
#include "model/embed/embed_oracle.h"
#include "model/kit/random.h"
#include "model/kit/make_model.h"
#include "model/engine/engine.h"

enum { CONTEXT = 1024, WIDTH_MAX = 256, TOKENS_MAX = 700 };

static dw_device *cpu;

static dw_model *open_model(const made_model *made, uint32_t sessions_max) {
    dw_model *model = NULL;
    dw_error err = {0};
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = sessions_max};
    if (dw_model_open(made_model_path(made), cpu, &options, &model, &err) != DW_OK) fail_msg("%s", err.text);
    return model;
}

static void make_text(int32_t *tokens, uint32_t n, uint64_t seed) {
    make_tokens(tokens, n, seed);
    tokens[0] = 1;
}

static dw_status embed(dw_model *model, const dw_embed_text *texts, uint32_t n, dw_pooling pooling, bool normalize, dw_error *err) {
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = n, .pooling = pooling, .normalize = normalize};
    dw_status status = dw_job_run(&job, err);
    uint32_t tokens = 0;
    for (uint32_t i = 0; i < job.n_embedded; i++) tokens += texts[i].n_tokens;
    if (status == DW_OK) assert_int_equal(job.n_evaluated, tokens);
    return status;
}

static void must_embed(dw_model *model, const dw_embed_text *texts, uint32_t n, dw_pooling pooling, bool normalize) {
    dw_error err = {0};
    if (embed(model, texts, n, pooling, normalize, &err) != DW_OK) fail_msg("%s", err.text);
}

/* Distance from libllama's vector, relative to its length. */
static double distance(const float *ours, const float *theirs, uint32_t n) {
    double difference = 0, length = 0;
    for (uint32_t i = 0; i < n; i++) {
        double d = (double)ours[i] - (double)theirs[i];
        difference += d * d;
        length += (double)theirs[i] * (double)theirs[i];
    }
    return sqrt(difference / length);
}

/* libllama evaluates a text that is pooled in one batch, computes the last layer for all its rows and the mean in F32; we evaluate in chunks,
 * the last layer for the rows that are wanted, and sum in float64. Measured: 2e-7 at most. */
static void compare(const made_model *made) {
    const double bound = 1e-5;
    static const uint32_t lengths[] = {1, 2, 17, 64, 100, 256, 319, 320, 600};
    static float ours[WIDTH_MAX];
    static int32_t tokens[TOKENS_MAX];
    dw_model *model = open_model(made, 2);
    uint32_t width = dw_model_info_view(model)->n_embedding;
    assert_int_equal(dw_model_info_view(model)->kind, DW_MODEL_DECODER);
    assert_int_equal(dw_model_info_view(model)->pooling, DW_POOLING_LAST);
    for (int pooling = DW_POOLING_MEAN; pooling <= DW_POOLING_LAST; pooling++) {
        embed_oracle *o = embed_oracle_open(made_model_path(made), CONTEXT, 1, pooling);
        assert_non_null(o);
        double worst = 0;
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            make_text(tokens, lengths[i], i + 1);
            must_embed(model, &(dw_embed_text){tokens, lengths[i], ours}, 1, (dw_pooling)pooling, false);
            double d = distance(ours, embed_oracle_text(o, tokens, lengths[i]), width);
            if (!(d <= worst)) worst = d;
        }
        printf("%s, %s: largest relative distance from libllama %g\n", made->name, dw_pooling_name((dw_pooling)pooling), worst);
        assert_true(worst <= bound);
        embed_oracle_close(o);
    }
    dw_model_close(model);
}

static void pooled_decoders_give_libllamas_vectors(void **state) {
    (void)state;
    compare(made_model_named("grouped_three_f32"));
    compare(made_model_named("tied_f16"));
    compare(made_model_named("grouped_q8"));
    compare(made_model_named("window_q8"));
}

static void a_texts_vector_has_the_same_bits_in_any_company(void **state) {
    (void)state;
    static int32_t tokens[5][TOKENS_MAX];
    static float alone[5][WIDTH_MAX], together[5][WIDTH_MAX];
    static const uint32_t lengths[5] = {3, 400, 1, 90, 660};
    dw_model *model = open_model(made_model_named("grouped_q8"), 1);
    uint32_t width = dw_model_info_view(model)->n_embedding;
    dw_embed_text texts[5];
    for (int pooling = 0; pooling <= DW_POOLING_LAST; pooling++) {
        for (uint32_t i = 0; i < 5; i++) {
            make_text(tokens[i], lengths[i], 70 + i);
            texts[i] = (dw_embed_text){tokens[i], lengths[i], alone[i]};
            must_embed(model, &texts[i], 1, (dw_pooling)pooling, true);
            texts[i].vector = together[i];
        }
        must_embed(model, texts, 5, (dw_pooling)pooling, true);
        for (uint32_t i = 0; i < 5; i++) assert_memory_equal(alone[i], together[i], width * sizeof(float));
        double length = 0;
        for (uint32_t i = 0; i < width; i++) length += (double)alone[1][i] * (double)alone[1][i];
        assert_true(fabs(length - 1) < 1e-5);
    }
    dw_model_close(model);
}

static void sessions_do_not_notice_and_take_no_slot_from_texts(void **state) {
    (void)state;
    static int32_t tokens[200];
    static float vector[WIDTH_MAX], expected[512], logits[512];
    dw_model *model = open_model(made_model_named("grouped_q8"), 2);
    dw_session *session = NULL, *second = NULL;
    make_text(tokens, 200, 9);
    for (int embeds = 0; embeds < 2; embeds++) {
        assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
        dw_row_request row = {.index = DW_ROW_LAST, .logits = embeds ? logits : expected};
        for (int part = 0; part < 2; part++) {
            dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens + part * 100, .n_tokens = 100, .rows = &row, .n_rows = 1};
            assert_int_equal(dw_job_run(&job, NULL), DW_OK);
            if (embeds) must_embed(model, &(dw_embed_text){tokens, 150, vector}, 1, DW_POOLING_MEAN, true);
        }
        dw_session_destroy(session);
    }
    assert_memory_equal(expected, logits, sizeof logits);
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    assert_int_equal(dw_model_create_session(model, NULL, &second, NULL), DW_OK);
    for (int i = 0; i < 20; i++) must_embed(model, &(dw_embed_text){tokens, 150, vector}, 1, DW_POOLING_MEAN, true); /* each gave its slot back */
    dw_session_destroy(second);
    dw_session_destroy(session);
    dw_model_close(model);
}

/* --- more texts at a time than the model has slots for them ---------------------------------------------------- */

enum { MANY = 3 * DW_EMBED_SLOTS_MAX };

static _Atomic bool gate_open;
static _Atomic uint32_t n_done, order[MANY];

static bool wait_at_gate(dw_job *job, const char *text, size_t size) {
    (void)job, (void)text, (void)size;
    while (!atomic_load(&gate_open)) {}
    return true;
}

static void note_done(dw_job *job) {
    uint32_t at = atomic_fetch_add(&n_done, 1);
    if (job->kind == DW_JOB_EMBED) atomic_store(&order[(uintptr_t)job->context], at);
}

/* Long texts of several jobs, and one of the highest class that comes last; a session decodes before them until all are there. */
static void texts_wait_for_slots_and_take_none_from_sessions(void **state) {
    (void)state;
    static int32_t tokens[MANY][TOKENS_MAX];
    static float alone[WIDTH_MAX], vectors[MANY][WIDTH_MAX];
    dw_embed_text texts[MANY];
    dw_job jobs[MANY];
    dw_model *model = open_model(made_model_named("grouped_q8"), 2);
    dw_session *session = NULL, *second = NULL;
    dw_engine *engine = NULL;
    dw_error err = {0};
    uint32_t width = dw_model_info_view(model)->n_embedding;
    assert_int_equal(dw_model_create_session(model, &(dw_session_options){.priority = DW_PRIORITY_REALTIME}, &session, NULL), DW_OK);
    assert_int_equal(dw_engine_create(cpu, &engine, NULL), DW_OK);
    atomic_store(&gate_open, false);
    atomic_store(&n_done, 0);
    dw_job gate = {.kind = DW_JOB_GENERATE, .session = session, .tokens = (const int32_t[]){300}, .n_tokens = 1, .n_max = 300, .ignore_end = true,
                   .sampling = {.temperature = 1, .top_p = 1}, .on_text = wait_at_gate, .on_done = note_done};
    assert_int_equal(dw_engine_submit(engine, &gate, &err), DW_OK);
    for (uint32_t i = 0; i < MANY; i++) {
        make_text(tokens[i], TOKENS_MAX, 100 + i);
        texts[i] = (dw_embed_text){tokens[i], TOKENS_MAX, vectors[i]};
        jobs[i] = (dw_job){.kind = DW_JOB_EMBED, .model = model, .texts = &texts[i], .n_texts = 1, .pooling = DW_POOLING_LAST, .on_done = note_done,
                           .priority = i == MANY - 1 ? DW_PRIORITY_REALTIME : i % 2 == 0 ? DW_PRIORITY_BACKGROUND : DW_PRIORITY_NORMAL,
                           .context = (void *)(uintptr_t)i};
        assert_int_equal(dw_engine_submit(engine, &jobs[i], &err), DW_OK);
    }
    assert_int_equal(dw_model_create_session(model, NULL, &second, &err), DW_OK);
    atomic_store(&gate_open, true);
    while (atomic_load(&n_done) < MANY + 1) {}
    dw_engine_destroy(engine);
    for (uint32_t i = 0; i < MANY; i++) {
        if (jobs[i].status != DW_OK) fail_msg("text %u: %s", i, jobs[i].error.text);
        must_embed(model, &(dw_embed_text){tokens[i], TOKENS_MAX, alone}, 1, DW_POOLING_LAST, false);
        assert_memory_equal(alone, vectors[i], width * sizeof(float));
    }
    assert_true(atomic_load(&order[MANY - 1]) <= DW_EMBED_SLOTS_MAX + 1); /* it takes one of the next slots */
    dw_session_destroy(second);
    dw_session_destroy(session);
    dw_model_close(model);
}

static void a_cancelled_one_gives_its_slot_back(void **state) {
    (void)state;
    static int32_t tokens[600];
    static float vector[WIDTH_MAX];
    dw_model *model = open_model(made_model_named("grouped_q8"), 1);
    make_text(tokens, 600, 9);
    dw_embed_text text = {tokens, 600, vector};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = &text, .n_texts = 1, .cancel = true};
    assert_int_equal(dw_job_run(&job, NULL), DW_E_CANCELLED);
    text.n_tokens = CONTEXT + 1;
    dw_error err = {0};
    assert_int_equal(embed(model, &text, 1, DW_POOLING_LAST, false, &err), DW_E_FULL);
    assert_non_null(strstr(err.text, "1025 tokens, the model takes 1024"));
    text.n_tokens = 600;
    must_embed(model, &text, 1, DW_POOLING_DEFAULT, false);
    dw_model_close(model);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &cpu, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pooled_decoders_give_libllamas_vectors),
        cmocka_unit_test(a_texts_vector_has_the_same_bits_in_any_company),
        cmocka_unit_test(sessions_do_not_notice_and_take_no_slot_from_texts),
        cmocka_unit_test(texts_wait_for_slots_and_take_none_from_sessions),
        cmocka_unit_test(a_cancelled_one_gives_its_slot_back),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(cpu);
    return failed;
}

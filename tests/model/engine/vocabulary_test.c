/* vocabulary_test.c: tokens are evaluated before the vocabulary is loaded; only what needs text waits for it (engine.h
 * rule 6). The loader is held where it opens libllama's part, for as long as a test wants. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/engine/engine.h"
#include "model/kit/make_model.h"
#include "model/text/llama_shim.h"
#include "os/os.h"

enum { N_TOKENS = 100, N_MAX = 4 };

static dw_device *device;
static int32_t tokens[N_TOKENS];
static _Atomic bool is_held, must_fail;

dw_status __real_dw_llama_open(const void *header, size_t bytes, bool is_normal, dw_llama **out, dw_llama_facts *facts,
                               dw_error *err);
dw_status __wrap_dw_llama_open(const void *header, size_t bytes, bool is_normal, dw_llama **out, dw_llama_facts *facts,
                               dw_error *err);

dw_status __wrap_dw_llama_open(const void *header, size_t bytes, bool is_normal, dw_llama **out, dw_llama_facts *facts,
                               dw_error *err) {
    while (atomic_load(&is_held)) dw_os_sleep(1000000);
    if (atomic_load(&must_fail)) return dw_fail(err, DW_E_FORMAT, "a vocabulary that is none");
    return __real_dw_llama_open(header, bytes, is_normal, out, facts, err);
}

/* --- what the tests share ------------------------------------------------------------------------------------ */

typedef struct fixture { dw_model *model; dw_session *session, *other; dw_engine *engine; } fixture;

typedef struct generation { dw_job job; char text[512]; size_t size; _Atomic bool is_done; } generation;

static void set_up(fixture *f, bool fails) {
    dw_error err = {0};
    const dw_model_options options = {.context_tokens = 512, .sessions_max = 2};
    atomic_store(&is_held, true);
    atomic_store(&must_fail, fails);
    if (dw_model_open(made_model_path(made_model_named("grouped_q8")), device, &options, &f->model, &err) != DW_OK) {
        fail_msg("%s", err.text);
    }
    assert_int_equal(dw_model_create_session(f->model, NULL, &f->session, NULL), DW_OK);
    assert_int_equal(dw_model_create_session(f->model, NULL, &f->other, NULL), DW_OK);
    assert_int_equal(dw_engine_create(device, &f->engine, NULL), DW_OK);
}

static void tear_down(fixture *f) {
    dw_engine_destroy(f->engine);
    dw_session_destroy(f->session);
    dw_session_destroy(f->other);
    atomic_store(&is_held, false);
    dw_model_close(f->model);
}

static bool add_text(dw_job *job, const char *text, size_t size) {
    generation *g = job->context;
    assert_true(g->size + size <= sizeof g->text);
    memcpy(g->text + g->size, text, size);
    g->size += size;
    return true;
}

static void set_done(dw_job *job) { atomic_store(&((generation *)job->context)->is_done, true); }

static void prepare_generation(generation *g, dw_session *session) {
    *g = (generation){0};
    g->job = (dw_job){.kind = DW_JOB_GENERATE, .session = session, .tokens = tokens, .n_tokens = N_TOKENS,
                      .n_max = N_MAX, .sampling = {.top_p = 1}, .on_text = add_text, .on_done = set_done, .context = g};
}

static void await(const generation *g) {
    while (!atomic_load(&g->is_done)) dw_os_sleep(100000);
}

/* Submits, and returns once all its tokens are evaluated. */
static void submit_and_evaluate(fixture *f, generation *g) {
    prepare_generation(g, f->session);
    assert_int_equal(dw_engine_submit(f->engine, &g->job, NULL), DW_OK);
    while (dw_session_rows(f->session) < N_TOKENS) dw_os_sleep(100000);
}

static uint32_t length_of(const dw_session *session) {
    uint32_t n;
    dw_session_tokens(session, &n);
    return n;
}

/* --- tests --------------------------------------------------------------------------------------------------- */

static void a_prompt_is_evaluated_while_the_vocabulary_is_being_loaded(void **state) {
    (void)state;
    fixture f;
    generation g, after;
    set_up(&f, false);
    submit_and_evaluate(&f, &g);
    assert_false(atomic_load(&g.is_done));
    atomic_store(&is_held, false);
    await(&g);
    assert_int_equal(g.job.status, DW_OK);
    assert_int_equal(g.job.n_generated, N_MAX);

    /* Waiting changed nothing: the same with the vocabulary there. */
    prepare_generation(&after, f.other);
    after.job.on_done = NULL;
    assert_int_equal(dw_job_run(&after.job, NULL), DW_OK);
    uint32_t n, n_after;
    const int32_t *log = dw_session_tokens(f.session, &n), *log_after = dw_session_tokens(f.other, &n_after);
    assert_int_equal(n, N_TOKENS + N_MAX);
    assert_int_equal(n, n_after);
    assert_memory_equal(log, log_after, n * sizeof log[0]);
    assert_int_equal(g.size, after.size);
    assert_memory_equal(g.text, after.text, g.size);
    tear_down(&f);
}

static void nobody_waits_for_one_that_waits(void **state) {
    (void)state;
    fixture f;
    generation g, other;
    set_up(&f, false);
    submit_and_evaluate(&f, &g);
    dw_row_request row = {.index = DW_ROW_LAST, .sample = true, .sampling = {.top_p = 1}};
    prepare_generation(&other, f.other);
    other.job.kind = DW_JOB_FORWARD;
    other.job.rows = &row;
    other.job.n_rows = 1;
    assert_int_equal(dw_engine_submit(f.engine, &other.job, NULL), DW_OK);
    await(&other); /* a forward pass with a draw: tokens in, a token out */
    assert_int_equal(other.job.status, DW_OK);
    assert_false(atomic_load(&g.is_done));
    prepare_generation(&other, f.other);
    other.job.n_tokens = 1;
    other.job.on_text = NULL;
    other.job.ignore_end = true;
    assert_int_equal(dw_engine_submit(f.engine, &other.job, NULL), DW_OK);
    await(&other); /* a generation that no text can end */
    assert_int_equal(other.job.n_generated, N_MAX);
    assert_false(atomic_load(&g.is_done));
    atomic_store(&is_held, false);
    await(&g);
    assert_int_equal(g.job.status, DW_OK);
    tear_down(&f);
}

static void one_that_waits_can_be_cancelled_and_the_engine_closed(void **state) {
    (void)state;
    fixture f;
    generation g;
    set_up(&f, false);
    submit_and_evaluate(&f, &g);
    dw_engine_cancel(f.engine, &g.job);
    await(&g);
    assert_int_equal(g.job.status, DW_E_CANCELLED);
    assert_int_equal(length_of(f.session), 0);
    submit_and_evaluate(&f, &g);
    dw_engine_destroy(f.engine);
    assert_true(atomic_load(&g.is_done));
    assert_int_equal(g.job.status, DW_E_CANCELLED);
    assert_int_equal(length_of(f.session), 0);
    f.engine = NULL;
    tear_down(&f);
}

static void a_vocabulary_that_is_none_ends_it_with_the_reason(void **state) {
    (void)state;
    fixture f;
    generation g;
    set_up(&f, true);
    submit_and_evaluate(&f, &g);
    atomic_store(&is_held, false);
    await(&g);
    assert_int_equal(g.job.status, DW_E_FORMAT);
    assert_non_null(strstr(g.job.error.text, "a vocabulary that is none"));
    assert_int_equal(length_of(f.session), 0);
    tear_down(&f);
}

int main(void) {
    for (int32_t i = 0; i < N_TOKENS; i++) tokens[i] = 300 + i;
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prompt_is_evaluated_while_the_vocabulary_is_being_loaded),
        cmocka_unit_test(nobody_waits_for_one_that_waits),
        cmocka_unit_test(one_that_waits_can_be_cancelled_and_the_engine_closed),
        cmocka_unit_test(a_vocabulary_that_is_none_ends_it_with_the_reason),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

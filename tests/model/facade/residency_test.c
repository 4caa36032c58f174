/* residency_test.c: a model without sessions, and sessions whose model is closed and opened again (model.h rules 1 and 2). */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/engine/engine.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum { CONTEXT = 300, N_TOKENS = 100 };

static dw_device *device;
static int32_t tokens[N_TOKENS];

static dw_model *open_model(const char *name, const dw_model_options *options) {
    return open_model_on(device, made_model_path(made_model_named(name)), options);
}

static void read_and_talk(dw_session *session, const int32_t *read, uint32_t n, uint32_t n_made) {
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .tokens = read, .n_tokens = n, .n_max = n_made, .ignore_end = true,
                  .sampling = {.temperature = 0.8f, .top_p = 1.0f, .top_k = 40}};
    dw_error err = {0};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
}

static dw_session *new_session(dw_model *model) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, &(dw_session_options){.seed = 3}, &session, NULL), DW_OK);
    return session;
}

static void sessions_outlive_their_model_and_go_on_with_the_same_bits(void **state) {
    (void)state;
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = 2};
    dw_error err = {0};
    dw_model *model = open_model("tied_f16", &options);
    dw_session *twin = new_session(model), *session = new_session(model);
    read_and_talk(twin, tokens, N_TOKENS, 10);
    read_and_talk(session, tokens, N_TOKENS, 10);
    assert_int_equal(dw_model_keep_pool(model, &options.pool, &err), DW_OK);
    dw_model_close(model);

    assert_null(dw_session_model(session));
    uint32_t n = 0, rows = dw_session_rows(session);
    (void)dw_session_tokens(session, &n);
    assert_int_equal(n, N_TOKENS + 10);
    assert_int_equal(rows, N_TOKENS + 9);
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .n_max = 1};
    assert_int_equal(dw_job_run(&job, &err), DW_E_STATE); /* refused, and the session as it was */
    assert_int_equal(dw_session_rows(session), rows);

    model = open_model("tied_f16", &options); /* all slots are taken: nothing may need one */
    assert_ptr_equal(dw_session_model(session), model);
    read_and_talk(session, tokens, 20, 10);
    dw_model *second = NULL;
    assert_int_equal(dw_model_open(made_model_path(made_model_named("tied_f16")), device, &options, &second, &err), DW_E_BUSY);
    dw_session_pool_release(options.pool);

    /* Beside one that was never without. */
    dw_model *other = open_model("tied_f16", &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 1});
    dw_session *fresh = new_session(other);
    read_and_talk(fresh, tokens, N_TOKENS, 10);
    read_and_talk(fresh, tokens, 20, 10);
    uint32_t n_fresh = 0;
    const int32_t *log = dw_session_tokens(session, &n), *fresh_log = dw_session_tokens(fresh, &n_fresh);
    assert_int_equal(n, n_fresh);
    assert_memory_equal(log, fresh_log, n * sizeof log[0]);
    for (uint32_t layer = 0; layer < dw_model_info_view(model)->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            const void *a = NULL, *b = NULL;
            uint64_t bytes_a = 0, bytes_b = 0;
            assert_int_equal(dw_session_kv_view(session, layer, which, &a, &bytes_a), DW_OK);
            assert_int_equal(dw_session_kv_view(fresh, layer, which, &b, &bytes_b), DW_OK);
            assert_int_equal(bytes_a, bytes_b);
            assert_memory_equal(a, b, bytes_a);
        }
    }
    dw_session_destroy(fresh);
    dw_model_close(other);
    dw_model_close(model); /* before its sessions */
    dw_session_destroy(session);
    dw_session_destroy(twin);
}

static void a_kept_pool_is_not_given_to_another_model(void **state) {
    (void)state;
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = 2};
    dw_error err = {0};
    dw_model *model = open_model("tied_f16", &options), *other = NULL;
    assert_int_equal(dw_model_keep_pool(model, &options.pool, NULL), DW_OK);
    dw_model_close(model);
    assert_int_equal(dw_model_open(made_model_path(made_model_named("grouped_q8")), device, &options, &other, &err), DW_E_INVALID);
    assert_non_null(strstr(err.text, "another model"));
    options.context_tokens = CONTEXT - 1;
    assert_int_equal(dw_model_open(made_model_path(made_model_named("tied_f16")), device, &options, &other, &err), DW_E_INVALID);
    dw_session_pool_release(options.pool);
}

typedef struct watcher { dw_session_pool *pool; atomic_bool stop; uint64_t most, texts_most; } watcher;

static void watch_pool(void *argument) {
    watcher *w = argument;
    while (!atomic_load(&w->stop)) {
        dw_session_pool_use use;
        dw_session_pool_use_now(w->pool, &use);
        w->most = dw_max_u64(w->most, use.own_bytes + use.shared_bytes);
        w->texts_most = dw_max_u64(w->texts_most, use.text_bytes);
    }
}

/* What is tried while the model is opened again takes rows. They are nothing that a session would have to give way
 * for. */
static void trials_at_opening_take_nothing_from_kept_sessions(void **state) {
    (void)state;
    setenv("DRIFTWOOD_CACHE", "/dev/null/none", 1); /* no note of earlier trials */
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = 1};
    dw_error err = {0};
    dw_model *model = open_model("tied_f16", &options);
    dw_session *session = new_session(model);
    read_and_talk(session, tokens, N_TOKENS, 10);
    assert_int_equal(dw_model_keep_pool(model, &options.pool, NULL), DW_OK);
    dw_model_close(model);
    dw_session_pool_use before, after;
    dw_session_pool_use_now(options.pool, &before);
    watcher w = {.pool = options.pool};
    dw_os_thread *thread = NULL;
    assert_int_equal(dw_os_thread_create("watcher", 1 << 20, watch_pool, &w, &thread, &err), DW_OK);
    model = open_model("tied_f16", &options);
    atomic_store(&w.stop, true);
    dw_os_thread_join(thread);
    dw_session_pool_use_now(options.pool, &after);
    assert_true(w.texts_most > 0); /* it was seen */
    assert_int_equal(w.most, before.own_bytes + before.shared_bytes);
    assert_int_equal(after.text_bytes, 0);
    unsetenv("DRIFTWOOD_CACHE");
    dw_session_destroy(session);
    dw_session_pool_release(options.pool);
    dw_model_close(model);
}

static void a_model_without_a_pool_says_what_it_is_and_evaluates_nothing(void **state) {
    (void)state;
    dw_error err = {0};
    dw_model *model = open_model("tied_f16", &(dw_model_options){.context_tokens = CONTEXT, .without_pool = true});
    dw_session *session = NULL;
    dw_session_pool *pool = NULL;
    float vector[1024];
    assert_true(dw_model_info_view(model)->n_vocab > 0);
    assert_null(dw_model_pool(model));
    assert_int_equal(dw_model_create_session(model, NULL, &session, &err), DW_E_STATE);
    assert_int_equal(dw_model_keep_pool(model, &pool, &err), DW_E_STATE);
    dw_embed_text text = {.tokens = tokens, .n_tokens = 5, .vector = vector};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = &text, .n_texts = 1, .pooling = DW_POOLING_MEAN};
    assert_int_equal(dw_job_run(&job, &err), DW_E_STATE);
    dw_model_close(model);
}

int main(void) {
    dw_error err = {0};
    for (int32_t i = 0; i < N_TOKENS; i++) tokens[i] = 260 + (i * 37) % 200;
    if (dw_device_open("cpu", &(dw_device_options){.threads = 2}, &device, &err) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_outlive_their_model_and_go_on_with_the_same_bits),
        cmocka_unit_test(a_kept_pool_is_not_given_to_another_model),
        cmocka_unit_test(trials_at_opening_take_nothing_from_kept_sessions),
        cmocka_unit_test(a_model_without_a_pool_says_what_it_is_and_evaluates_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

/* What KV rows take, and the budget: who gives way in which order, what is refused, and what both leave behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "base/hash.h"
#include "model/engine/batch.h"
#include "model/engine/job.h"
#include "model/kit/random.h"
#include "model/kv/fake_rows.h"
#include "model/kit/make_model.h"
#include "model/session/session_internal.h"
#include "os/os.h"

enum { CONTEXT = 900, N_VOCAB = 512, SESSIONS = 10 };

static dw_device *device;
static dw_model *model;
static uint64_t row_bytes; /* of a token */

static void open_model(uint64_t budget_rows) {
    dw_error err = {0};
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = SESSIONS};
    made_model named = *made_model_named("tied_f16");
    uint64_t per_token = 2ull * named.n_layers * named.n_heads_kv * named.head_dim * 2;
    options.kv_bytes_max = budget_rows * per_token;
    if (dw_model_open(made_model_path(made_model_named("tied_f16")), device, &options, &model, &err) != DW_OK) fail_msg("%s", err.text);
    row_bytes = dw_model_info_view(model)->kv_bytes_per_token;
    assert_int_equal(row_bytes, per_token);
}

static int close_model(void **state) {
    (void)state;
    dw_model_close(model);
    model = NULL;
    return 0;
}

static dw_session *opened(bool fast, dw_priority priority, uint64_t owner) {
    dw_session *session = NULL;
    dw_session_options options = {.fast = fast, .priority = priority, .owner = owner};
    assert_int_equal(dw_model_create_session(model, &options, &session, NULL), DW_OK);
    return session;
}

/* Tokens that nobody else has. */
static void make_new_tokens(int32_t *tokens, uint32_t n) {
    static uint64_t seed = 1;
    for (uint32_t i = 0; i < n; i++) {
        tokens[i] = (int32_t)(TEXT_TOKENS_FIRST + random_below(&seed, TEXT_TOKENS));
    }
}

static dw_status forward(dw_session *session, const int32_t *tokens, uint32_t n, dw_job *out, dw_error *err) {
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n};
    dw_status status = dw_job_run(&job, err);
    if (out != NULL) *out = job;
    return status;
}

static void say(dw_session *session, uint32_t n) {
    int32_t tokens[CONTEXT];
    dw_error err = {0};
    make_new_tokens(tokens, n);
    if (forward(session, tokens, n, NULL, &err) != DW_OK) fail_msg("%s", err.text);
}

static dw_session_pool_use use_now(void) {
    dw_session_pool_use use;
    dw_session_pool_use_now(dw_model_pool(model), &use);
    return use;
}

/* Rows of 256 bytes an area: 16 to a page. All lengths here are multiples of that, so that sums are exact. */
static void what_rows_take_is_counted_once(void **state) {
    (void)state;
    open_model(0);
    dw_session *a = opened(false, DW_PRIORITY_NORMAL, 1), *b = NULL, *c = NULL;
    say(a, 320);
    assert_int_equal(use_now().own_bytes, 320 * row_bytes);
    assert_int_equal(dw_session_fork(a, &b, NULL), DW_OK);
    assert_int_equal(dw_session_fork(a, &c, NULL), DW_OK);
    dw_session_pool_use use = use_now();
    assert_int_equal(use.sessions, 3);
    assert_int_equal(use.kv_bytes, 3 * 320 * row_bytes);
    assert_int_equal(use.own_bytes, 0);
    assert_int_equal(use.shared_bytes, 320 * row_bytes);
    say(a, 64); /* behind what the others map, in the same object */
    say(b, 128); /* copies of its own */
    use = use_now();
    assert_int_equal(use.own_bytes, (64 + 128) * row_bytes);
    assert_int_equal(use.shared_bytes, 320 * row_bytes);
    dw_session_use of = {0};
    assert_int_equal(dw_session_use_now(b, &of, NULL), DW_OK);
    assert_int_equal(of.kv_bytes, 448 * row_bytes);
    assert_int_equal(of.own_bytes, 128 * row_bytes);
    assert_int_equal(of.shared_bytes, 320 * row_bytes);
    dw_session_destroy(a); /* its 64 rows stay with the object that the others map */
    assert_int_equal(use_now().shared_bytes, (320 + 64) * row_bytes);
    dw_session_destroy(c);
    use = use_now(); /* now b alone holds it all */
    assert_int_equal(use.own_bytes, (320 + 64 + 128) * row_bytes);
    assert_int_equal(use.shared_bytes, 0);
    assert_int_equal(dw_session_fork(b, &c, NULL), DW_OK); /* seals */
    use = use_now();
    assert_int_equal(use.own_bytes, 0);
    assert_int_equal(use.shared_bytes, (320 + 64 + 128) * row_bytes);
    dw_session_destroy(b);
    dw_session_destroy(c);
    use = use_now();
    assert_int_equal(use.sessions + use.own_bytes + use.shared_bytes + use.kv_bytes, 0);
}

static void fast_sessions_give_way_lowest_class_and_longest_unused_first(void **state) {
    (void)state;
    open_model(640);
    dw_session *back = opened(true, DW_PRIORITY_BACKGROUND, 0), *old = opened(true, DW_PRIORITY_NORMAL, 0), *young = opened(true, DW_PRIORITY_NORMAL, 0),
               *real = opened(true, DW_PRIORITY_REALTIME, 0), *exact = opened(false, DW_PRIORITY_BACKGROUND, 0);
    say(real, 112);
    say(exact, 128);
    say(old, 128);
    say(young, 128);
    say(back, 128);
    assert_int_equal(use_now().own_bytes, 624 * row_bytes);
    dw_session *asks = opened(false, DW_PRIORITY_NORMAL, 0);
    dw_session *in_order[] = {back, old, young};
    for (int i = 0; i < 3; i++) {
        uint32_t n = 0;
        say(asks, 128);
        assert_int_equal(use_now().evictions, i + 1);
        for (int k = 0; k < 3; k++) assert_int_equal(dw_session_rows(in_order[k]), k <= i ? 0 : 128);
        dw_session_tokens(in_order[i], &n);
        assert_int_equal(n, 128);
    }
    assert_int_equal(dw_session_rows(real), 112); /* of a higher class than who asks */
    assert_int_equal(dw_session_rows(exact), 128);
    assert_true(use_now().own_bytes <= 640 * row_bytes);
    dw_session *all[] = {back, old, young, real, exact, asks};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) dw_session_destroy(all[i]);
    assert_int_equal(use_now().own_bytes, 0);
}

static void an_evicted_session_computes_its_rows_again_and_says_so(void **state) {
    (void)state;
    open_model(320);
    float before[N_VOCAB], after[N_VOCAB];
    int32_t tokens[208];
    make_new_tokens(tokens, 208);
    dw_session *fast = opened(true, DW_PRIORITY_NORMAL, 0), *other = opened(true, DW_PRIORITY_NORMAL, 0);
    dw_row_request row = {.index = DW_ROW_LAST, .logits = before};
    dw_job job = {.kind = DW_JOB_FORWARD, .session = fast, .tokens = tokens, .n_tokens = 208, .rows = &row, .n_rows = 1};
    assert_int_equal(dw_job_run(&job, NULL), DW_OK);
    say(other, 208);
    assert_int_equal(dw_session_rows(fast), 0);
    row.logits = after;
    job = (dw_job){.kind = DW_JOB_FORWARD, .session = fast, .rows = &row, .n_rows = 1};
    assert_int_equal(dw_job_run(&job, NULL), DW_OK);
    assert_int_equal(job.n_evaluated, 208);
    assert_memory_equal(before, after, sizeof before); /* the same chunks here, so even the same bits */
    assert_int_equal(dw_session_rows(other), 0);
    assert_int_equal(use_now().evictions, 2);
    dw_session_destroy(fast);
    dw_session_destroy(other);
}

static void what_does_not_fit_is_refused_and_leaves_the_session_as_it_was(void **state) {
    (void)state;
    open_model(400);
    int32_t tokens[600];
    make_new_tokens(tokens, 600);
    dw_session *exact = opened(false, DW_PRIORITY_NORMAL, 0), *kept = opened(true, DW_PRIORITY_NORMAL, 0), *asks = opened(false, DW_PRIORITY_NORMAL, 0);
    say(exact, 160);
    say(kept, 160);
    say(asks, 64);
    dw_session_keep(kept); /* somebody looks at it */
    dw_job job;
    dw_error err = {0};
    assert_int_equal(forward(asks, tokens, 96, &job, &err), DW_E_FULL);
    char expected[DW_ERROR_TEXT_BYTES];
    snprintf(expected, sizeof expected,
             "KV rows and held logits take %llu of %llu bytes, %llu more are needed for KV rows",
             (unsigned long long)(384 * row_bytes), (unsigned long long)(400 * row_bytes),
             (unsigned long long)(96 * row_bytes));
    if (strncmp(err.text, expected, strlen(expected)) != 0) fail_msg("%s, not %s", err.text, expected);
    uint32_t n = 0;
    dw_session_tokens(asks, &n);
    assert_int_equal(n, 64);
    assert_int_equal(dw_session_rows(asks), 64);
    assert_int_equal(dw_session_rows(exact), 160);
    assert_int_equal(dw_session_rows(kept), 160);
    assert_int_equal(use_now().refused, 1);
    /* In the middle of a job too: the first chunk fits, the second does not. */
    dw_session_let_go(kept);
    assert_int_equal(forward(asks, tokens, 600, &job, &err), DW_E_FULL);
    dw_session_tokens(asks, &n);
    assert_int_equal(n, 64);
    assert_int_equal(dw_session_rows(asks), 64);
    assert_int_equal(dw_session_rows(exact), 160);
    assert_int_equal(use_now().refused, 2);
    assert_int_equal(forward(asks, tokens, 96, &job, &err), DW_OK);
    dw_session_destroy(exact);
    dw_session_destroy(kept);
    dw_session_destroy(asks);
}

/* A job without tokens computes the last row again. Where others map that row too it needs memory for a copy, which the budget may refuse. */
static void a_last_row_that_cannot_be_computed_again_stays(void **state) {
    (void)state;
    for (uint32_t n_rows = 1; n_rows <= 33; n_rows += 16) { /* one row; the first of a page; the first of another */
        open_model(((n_rows + 15) / 16 + 1) * 16); /* whole pages of 16 rows: those that the rows take, and one more */
        dw_session_pool_use use;
        dw_session *exact = opened(false, DW_PRIORITY_NORMAL, 0), *child = NULL, *filler = opened(false, DW_PRIORITY_NORMAL, 0);
        say(exact, n_rows);
        assert_int_equal(dw_session_fork(exact, &child, NULL), DW_OK);
        use = use_now();
        while (use.own_bytes + use.shared_bytes + 16 * row_bytes <= use.budget_bytes) { /* no page is left */
            say(filler, 16);
            use = use_now();
        }
        dw_hash before, after;
        uint32_t n = 0;
        const void *view = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(child, 0, 0, &view, &bytes), DW_OK);
        assert_int_equal(dw_hash_of(view, (size_t)bytes, &before), DW_OK);
        float logits[N_VOCAB];
        dw_row_request row = {.index = DW_ROW_LAST, .logits = logits};
        dw_job job = {.kind = DW_JOB_FORWARD, .session = child, .rows = &row, .n_rows = 1};
        dw_error err = {0};
        assert_int_equal(dw_job_run(&job, &err), DW_E_FULL);
        assert_int_equal(dw_session_rows(child), n_rows);
        dw_session_tokens(child, &n);
        assert_int_equal(n, n_rows);
        assert_int_equal(dw_session_kv_view(child, 0, 0, &view, &bytes), DW_OK);
        assert_int_equal(bytes, (uint64_t)n_rows * row_bytes / (2ull * dw_model_info_view(model)->n_layers));
        assert_int_equal(dw_hash_of(view, (size_t)bytes, &after), DW_OK);
        assert_memory_equal(&before, &after, sizeof before);
        dw_session_destroy(filler); /* now there is room */
        assert_int_equal(dw_job_run(&job, &err), DW_OK);
        assert_int_equal(dw_session_rows(child), n_rows);
        dw_session_destroy(exact);
        dw_session_destroy(child);
        assert_int_equal(use_now().own_bytes + use_now().shared_bytes, 0);
        dw_model_close(model);
        model = NULL;
    }
}

static void texts_in_the_middle_take_nothing_from_sessions(void **state) {
    (void)state;
    open_model(320);
    static int32_t text[600];
    static float vector[512];
    make_new_tokens(text, 600);
    dw_session *session = opened(false, DW_PRIORITY_NORMAL, 0);
    dw_embed_text one = {text, 600, vector};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = &one, .n_texts = 1, .pooling = DW_POOLING_MEAN};
    dw_batch_job alone = {.job = &job, .progress = DW_JOB_MORE};
    const dw_batch_options options = {0};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    (void)dw_batch_step(&alone, 1, &options); /* 256 rows, and more to come */
    assert_int_equal(alone.progress, DW_JOB_MORE);
    assert_int_equal(use_now().text_bytes, 256 * row_bytes);
    assert_int_equal(use_now().own_bytes + use_now().shared_bytes, 0);
    say(session, 320);
    assert_int_equal(use_now().own_bytes, 320 * row_bytes);
    assert_int_equal(use_now().shared_bytes, 0);
    while (alone.progress == DW_JOB_MORE) (void)dw_batch_step(&alone, 1, &options);
    assert_int_equal(dw_job_end(&job), DW_OK);
    assert_int_equal(use_now().text_bytes, 0);
    dw_session_destroy(session);
}

typedef struct watcher { atomic_bool stop; uint64_t rows_bytes_most; } watcher;

static void watch_rows(void *argument) {
    watcher *w = argument;
    while (!atomic_load(&w->stop)) {
        dw_session_pool_use use = use_now();
        w->rows_bytes_most = dw_max_u64(w->rows_bytes_most, use.own_bytes + use.shared_bytes);
    }
}

/* Also while a chunk of it is computed, seen by another thread. There are no sessions. */
static void rows_of_a_text_never_count_as_rows_of_sessions(void **state) {
    (void)state;
    open_model(320);
    static int32_t text[800];
    static float vector[512];
    make_tokens(text, 800, 1);
    dw_embed_text one = {text, 800, vector};
    watcher w = {false, 0};
    dw_os_thread *thread = NULL;
    dw_error err = {0};
    if (dw_os_thread_create("watcher", 1 << 20, watch_rows, &w, &thread, &err) != DW_OK) fail_msg("%s", err.text);
    for (int i = 0; i < 4; i++) {
        dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = &one, .n_texts = 1, .pooling = DW_POOLING_MEAN};
        if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    }
    atomic_store(&w.stop, true);
    dw_os_thread_join(thread);
    assert_int_equal(w.rows_bytes_most, 0);
}

static void what_is_shared_needs_no_room(void **state) {
    (void)state;
    open_model(700);
    int32_t tokens[512];
    make_new_tokens(tokens, 512);
    dw_session *all[6];
    dw_job job;
    for (int i = 0; i < 3; i++) {
        all[i] = opened(false, DW_PRIORITY_NORMAL, 5);
        dw_error err = {0};
        if (forward(all[i], tokens, 512, &job, &err) != DW_OK) fail_msg("%s", err.text);
        assert_int_equal(job.n_shared, i == 0 ? 0 : 448);
    }
    assert_int_equal(use_now().kv_bytes, 3 * 512 * row_bytes);
    assert_true(use_now().own_bytes + use_now().shared_bytes <= 700 * row_bytes);
    assert_int_equal(use_now().evictions, 0);
    for (int i = 0; i < 3; i++) dw_session_destroy(all[i]);
}

/* --- folds --------------------------------------------------------------------------------------------------- */

enum { FAKE_ROW = 2 * 256, FAKE_STEP_MAP = 2 }; /* bytes of a token; at a granule's end only memory is made before */

/* A pool over rows whose maps can fail: one layer, 16 rows to a granule. Nothing is evaluated in it. */
static dw_session_pool *fake_pool(uint64_t budget_rows, dw_rows **rows) {
    const dw_session_pool_options options = {
        .kv = {.n_layers = 1, .n_slots = 4 + DW_MODEL_OWN_SLOTS, .context_tokens = 128, .row_bytes = FAKE_ROW / 2},
        .sessions_max = 4, .n_vocab = N_VOCAB, .context_tokens = 128, .kv_bytes_max = budget_rows * FAKE_ROW};
    dw_session_pool *pool = NULL;
    assert_int_equal(dw_session_pool_create(&options, device, &pool, NULL), DW_OK);
    dw_kv_arena_destroy(pool->arena);
    assert_int_equal(fake_rows_create(&options.kv, 4096, 1, rows), DW_OK);
    assert_int_equal(dw_kv_arena_create_over(*rows, &pool->arena, NULL), DW_OK);
    pool->model = (dw_model *)&device; /* open, as far as sessions can tell */
    return pool;
}

/* What a job does with n more tokens. Instead of evaluating them it writes each token into its row. */
static dw_status bind_more(dw_session *session, uint32_t n, dw_error *err) {
    int32_t tokens[CONTEXT];
    dw_buffer *buffer = NULL;
    uint64_t offset = 0;
    make_new_tokens(tokens, n);
    assert_int_equal(dw_session_take(session, NULL), DW_OK);
    assert_int_equal(dw_session_append(session, tokens, n, NULL), DW_OK);
    dw_status status = dw_session_bind(session, &buffer, &offset, err);
    for (uint32_t row = session->n_rows; status == DW_OK && row < session->n_tokens; row++) {
        int32_t words[FAKE_ROW / 2 / sizeof(int32_t)] = {session->tokens[row]};
        dw_os_mutex_lock(session->pool->lock);
        assert_int_equal(dw_kv_write(session->pool->arena, session->slot, 1, row, 1, words, NULL), DW_OK);
        dw_os_mutex_unlock(session->pool->lock);
    }
    if (status == DW_OK) dw_session_commit(session, session->n_tokens);
    else dw_session_cut(session, session->n_tokens - n, session->n_rows);
    atomic_store(&session->busy, false);
    return status;
}

static dw_session_pool_use use_of_pool(const dw_session_pool *pool) {
    dw_session_pool_use use;
    dw_session_pool_use_now(pool, &use);
    return use;
}

/* Where the process has no maps for a tail, all rows are copied, and others still hold what was copied. An idle session
 * gives way for that, or the budget refuses. */
static void a_copy_for_want_of_maps_stays_in_the_budget(void **state) {
    (void)state;
    for (int fast = 0; fast < 2; fast++) {
        dw_rows *rows = NULL;
        dw_session_pool *pool = fake_pool(64 + 32 + 64, &rows);
        dw_session *parent = NULL, *child = NULL, *idle = NULL;
        const dw_session_options options = {.fast = fast == 1};
        dw_error err = {0};
        assert_int_equal(dw_session_create(pool, NULL, &parent, NULL), DW_OK);
        assert_int_equal(dw_session_create(pool, &options, &idle, NULL), DW_OK);
        assert_int_equal(bind_more(parent, 64, &err), DW_OK);
        assert_int_equal(bind_more(idle, 64, &err), DW_OK);
        assert_int_equal(dw_session_fork(parent, &child, NULL), DW_OK);
        fake_rows_fail(rows, FAKE_STEP_MAP, DW_E_LIMIT);
        dw_status status = bind_more(child, 16, &err);
        assert_true(fake_rows_failed(rows));
        fake_rows_fail(rows, 0, DW_OK);
        assert_int_equal(status, fast ? DW_OK : DW_E_FULL);
        dw_session_pool_use use = use_of_pool(pool);
        assert_int_equal(use.evictions, fast);
        assert_int_equal(use.refused, 1 - fast);
        assert_int_equal(use.own_bytes + use.shared_bytes, (fast ? 64 + 80 : 64 + 64) * FAKE_ROW);
        assert_int_equal(dw_session_rows(child), fast ? 80 : 64);
        dw_session_destroy(idle); /* now there is room in any case */
        assert_int_equal(bind_more(child, 16, &err), DW_OK);
        dw_session_destroy(parent);
        dw_session_destroy(child);
        assert_int_equal(use_of_pool(pool).own_bytes + use_of_pool(pool).shared_bytes, 0);
        pool->model = NULL;
        dw_session_pool_release(pool);
    }
}

static void rows_are_those_of_the_tokens(dw_session *session, uint32_t n_rows) {
    assert_int_equal(dw_session_rows(session), n_rows);
    for (uint32_t row = 0; row < n_rows; row++) {
        int32_t words[FAKE_ROW / 2 / sizeof(int32_t)];
        assert_int_equal(dw_kv_read(session->pool->arena, session->slot, 1, row, 1, words, NULL), DW_OK);
        assert_int_equal(words[0], session->tokens[row]);
    }
}

/* A last row that is computed again, in a session whose rows have to be copied for that. */
static void a_last_row_behind_a_fold_stays_where_the_budget_refuses(void **state) {
    (void)state;
    enum { ROWS = 16 + 2 * (DW_KV_EXTENTS_MAX - 1) };
    dw_rows *rows = NULL;
    dw_session_pool *pool = fake_pool(16 * (DW_KV_EXTENTS_MAX + 3), &rows);
    dw_session *session = NULL, *child = NULL, *filler = NULL;
    dw_buffer *buffer = NULL;
    uint64_t offset = 0;
    dw_error err = {0};
    assert_int_equal(dw_session_create(pool, NULL, &session, NULL), DW_OK);
    assert_int_equal(bind_more(session, 16, &err), DW_OK);
    for (uint32_t i = 1; i < DW_KV_EXTENTS_MAX; i++) { /* each with a granule of its own in each area */
        assert_int_equal(dw_session_fork(session, &child, NULL), DW_OK);
        dw_session_destroy(session);
        session = child;
        assert_int_equal(bind_more(session, 2, &err), DW_OK);
    }
    assert_int_equal(dw_session_fork(session, &child, NULL), DW_OK);
    dw_session_destroy(session);
    assert_int_equal(dw_session_create(pool, NULL, &filler, NULL), DW_OK);
    while (bind_more(filler, 16, &err) == DW_OK) continue;

    assert_int_equal(dw_session_take(child, NULL), DW_OK);
    assert_int_equal(dw_session_bind_again(child, &buffer, &offset, &err), DW_E_FULL);
    rows_are_those_of_the_tokens(child, ROWS);
    dw_session_destroy(filler);
    assert_int_equal(dw_session_bind_again(child, &buffer, &offset, &err), DW_OK);
    rows_are_those_of_the_tokens(child, ROWS - 1);
    dw_session_use use;
    assert_int_equal(dw_session_use_now(child, &use, NULL), DW_OK);
    assert_int_equal(use.extents, 1);
    assert_int_equal(use.own_bytes, (ROWS + 15) / 16 * 16 * FAKE_ROW);
    dw_session_commit(child, ROWS);
    atomic_store(&child->busy, false);
    dw_session_destroy(child);
    pool->model = NULL;
    dw_session_pool_release(pool);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_rows_take_is_counted_once, close_model),
        cmocka_unit_test_teardown(fast_sessions_give_way_lowest_class_and_longest_unused_first, close_model),
        cmocka_unit_test_teardown(an_evicted_session_computes_its_rows_again_and_says_so, close_model),
        cmocka_unit_test_teardown(what_does_not_fit_is_refused_and_leaves_the_session_as_it_was, close_model),
        cmocka_unit_test_teardown(a_last_row_that_cannot_be_computed_again_stays, close_model),
        cmocka_unit_test_teardown(texts_in_the_middle_take_nothing_from_sessions, close_model),
        cmocka_unit_test_teardown(rows_of_a_text_never_count_as_rows_of_sessions, close_model),
        cmocka_unit_test_teardown(what_is_shared_needs_no_room, close_model),
        cmocka_unit_test(a_copy_for_want_of_maps_stays_in_the_budget),
        cmocka_unit_test(a_last_row_behind_a_fold_stays_where_the_budget_refuses),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

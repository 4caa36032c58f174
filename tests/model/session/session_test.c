/* Sessions and jobs on a small random model: what must be equal to the bit, what must be refused, and what a failed or cancelled job leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/text/utf8.h"
#include "model/engine/batch.h"
#include "model/kit/random.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "os/os.h"
#include "os/os_fault.h"

enum { CONTEXT = 900, N_VOCAB = 512 };

static dw_device *device;
static dw_model *model;

/* --- helpers ------------------------------------------------------------------------------------------------- */

static dw_session *new_session(uint64_t seed) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, &(dw_session_options){.seed = seed}, &session, NULL), DW_OK);
    return session;
}

static dw_session *fork_of(dw_session *session) {
    dw_session *child = NULL;
    dw_error err = {0};
    if (dw_session_fork(session, &child, &err) != DW_OK) fail_msg("%s", err.text);
    return child;
}

static void must(dw_job *job) {
    dw_error err = {0};
    if (dw_job_run(job, &err) != DW_OK) fail_msg("%s", err.text);
}

static void generate(dw_session *session, uint32_t n) {
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .n_max = n, .ignore_end = true, .sampling = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 40}};
    must(&job);
    assert_int_equal(job.n_generated, n);
}

static void assert_same(const dw_session *a, const dw_session *b) {
    uint32_t na = 0, nb = 0;
    const int32_t *ta = dw_session_tokens(a, &na), *tb = dw_session_tokens(b, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(ta, tb, na * sizeof ta[0]);
    assert_int_equal(dw_session_rows(a), dw_session_rows(b));
    for (uint32_t layer = 0; layer < dw_model_info_view(model)->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            const void *ra = NULL, *rb = NULL;
            uint64_t ba = 0, bb = 0;
            assert_int_equal(dw_session_kv_view(a, layer, which, &ra, &ba), DW_OK);
            assert_int_equal(dw_session_kv_view(b, layer, which, &rb, &bb), DW_OK);
            assert_int_equal(ba, bb);
            assert_memory_equal(ra, rb, ba);
        }
    }
    dw_sampler_state sa = dw_session_sampler_state(a), sb = dw_session_sampler_state(b);
    assert_int_equal(sa.seed, sb.seed);
    assert_int_equal(sa.counter, sb.counter);
}

/* --- sharing the past ---------------------------------------------------------------------------------------- */

static void a_fork_goes_on_as_its_parent_would(void **state) {
    (void)state;
    int32_t tokens[330], other[20];
    make_tokens(tokens, 330, 1);
    make_tokens(other, 20, 2);
    dw_session *parent = new_session(5), *fresh = new_session(5);
    forward(parent, tokens, 330, NULL);
    generate(parent, 10);
    dw_session *child = fork_of(parent);
    forward(parent, other, 20, NULL); /* the parent says something else, and its rows must not appear in the child */
    generate(parent, 30);
    generate(child, 40);
    dw_session *grandchild = fork_of(child);
    generate(grandchild, 10);
    generate(child, 10);
    assert_same(child, grandchild);
    forward(fresh, tokens, 330, NULL);
    generate(fresh, 10);
    generate(fresh, 40);
    generate(fresh, 10);
    assert_same(child, fresh);
    dw_session_destroy(parent);
    generate(child, 10);
    generate(fresh, 10);
    assert_same(child, fresh);
    dw_session_destroy(child);
    dw_session_destroy(grandchild);
    dw_session_destroy(fresh);
}

static void a_rewound_session_goes_on_as_if_it_had_never_gone_further(void **state) {
    (void)state;
    int32_t tokens[300], other[100];
    make_tokens(tokens, 300, 3);
    make_tokens(other, 100, 4);
    dw_session *a = new_session(1), *b = new_session(1);
    forward(a, tokens, 300, NULL);
    dw_session *child = fork_of(a); /* seals rows 0..299 */
    forward(a, other, 100, NULL);
    assert_int_equal(dw_session_rewind(a, 300, NULL), DW_OK);
    forward(b, tokens, 300, NULL);
    forward(a, other, 50, NULL);
    forward(b, other, 50, NULL);
    assert_same(a, b);
    /* Into the sealed rows, and on with other tokens: the child keeps what it shared. */
    assert_int_equal(dw_session_rewind(a, 120, NULL), DW_OK);
    forward(a, other, 100, NULL);
    assert_int_equal(dw_session_rewind(b, 300, NULL), DW_OK);
    assert_same(child, b);
    assert_int_equal(dw_session_rewind(b, 301, NULL), DW_E_RANGE);
    dw_session_destroy(a);
    dw_session_destroy(b);
    dw_session_destroy(child);
}

static void sync_keeps_the_common_prefix(void **state) {
    (void)state;
    int32_t tokens[200], changed[150];
    uint32_t reused = 0, n = 0;
    make_tokens(tokens, 200, 6);
    memcpy(changed, tokens, sizeof changed);
    changed[90] = 300 + (changed[90] == 300);
    dw_session *a = new_session(0), *b = new_session(0);
    forward(a, tokens, 200, NULL);
    assert_int_equal(dw_session_sync(a, changed, 150, &reused, NULL), DW_OK);
    assert_int_equal(reused, 90);
    assert_int_equal(dw_session_rows(a), 90);
    assert_memory_equal(dw_session_tokens(a, &n), changed, sizeof changed);
    assert_int_equal(n, 150);
    forward(a, NULL, 0, NULL); /* evaluates what is pending */
    assert_int_equal(dw_session_rows(a), 150);
    forward(b, tokens, 200, NULL);
    assert_int_equal(dw_session_sync(b, tokens, 50, &reused, NULL), DW_OK); /* a prefix */
    assert_int_equal(reused, 50);
    assert_int_equal(dw_session_sync(b, (int32_t[]){1, -1}, 2, &reused, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_rows(b), 50); /* a refused sync changes nothing */
    dw_session_destroy(a);
    dw_session_destroy(b);
}

/* --- freezing and thawing ------------------------------------------------------------------------------------ */

/* As a checkpoint does it: each area's rows, page-aligned, with the log in front. */
typedef struct file_head { uint32_t n_tokens, n_rows; dw_sampler_state sampler; } file_head;

static uint64_t area_bytes(const dw_session *session) {
    uint64_t page = dw_os_page_bytes();
    return (dw_session_rows(session) * (uint64_t)dw_model_info_view(model)->kv_row_bytes + page - 1) / page * page;
}

static void freeze_to(const dw_session *session, const char *path) {
    dw_os_file file;
    uint32_t n = 0, n_layers = dw_model_info_view(model)->n_layers;
    const int32_t *tokens = dw_session_tokens(session, &n);
    file_head head = {n, dw_session_rows(session), dw_session_sampler_state(session)};
    assert_int_equal(dw_os_open(path, DW_OS_CREATE_TRUNCATE, &file, NULL), DW_OK);
    assert_int_equal(dw_os_resize(file, dw_os_page_bytes() + 2 * n_layers * area_bytes(session), NULL), DW_OK);
    assert_int_equal(dw_os_write_at(file, 0, &head, sizeof head, NULL), DW_OK);
    assert_true(sizeof head + n * sizeof tokens[0] <= dw_os_page_bytes());
    assert_int_equal(dw_os_write_at(file, sizeof head, tokens, n * sizeof tokens[0], NULL), DW_OK);
    for (uint32_t area = 0; area < 2 * n_layers; area++) {
        const void *rows = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(session, area / 2, (int)(area % 2), &rows, &bytes), DW_OK);
        assert_int_equal(dw_os_write_at(file, dw_os_page_bytes() + area * area_bytes(session), rows, bytes, NULL), DW_OK);
    }
    dw_os_close(&file);
}

static dw_session *thaw_from(const char *path) {
    dw_backing *backing = NULL;
    uint8_t first[4096];
    file_head head;
    dw_kv_source sources[16];
    dw_session *session = NULL;
    dw_error err = {0};
    assert_int_equal(dw_backing_open(path, "checkpoint", &backing, NULL), DW_OK);
    assert_int_equal(dw_os_read_at(dw_backing_file(backing), 0, first, sizeof first, NULL), DW_OK);
    memcpy(&head, first, sizeof head);
    uint64_t page = dw_os_page_bytes();
    uint64_t bytes = (head.n_rows * (uint64_t)dw_model_info_view(model)->kv_row_bytes + page - 1) / page * page;
    for (uint32_t layer = 0; layer < dw_model_info_view(model)->n_layers; layer++) {
        sources[layer] = (dw_kv_source){page + 2 * layer * bytes, page + (2 * layer + 1) * bytes};
    }
    dw_session_image image = {.tokens = (const int32_t *)(const void *)(first + sizeof head), .n_tokens = head.n_tokens, .n_rows = head.n_rows,
                              .backing = backing, .layers = sources, .sampler = head.sampler};
    if (dw_model_restore_session(model, &image, &session, &err) != DW_OK) fail_msg("%s", err.text);
    dw_backing_release(backing);
    return session;
}

static void path_in_build(char *out, size_t size, const char *name) { snprintf(out, size, "%s/session-test-%s", DW_TEST_BUILD, name); }

static void thawed_equals_uninterrupted(void **state) {
    (void)state;
    char path[512];
    int32_t tokens[290];
    path_in_build(path, sizeof path, "thaw");
    make_tokens(tokens, 290, 8);
    dw_session *session = new_session(11);
    forward(session, tokens, 290, NULL);
    generate(session, 33);
    freeze_to(session, path);
    dw_session *thawed = thaw_from(path);
    assert_same(session, thawed);
    dw_session *of_thawed = fork_of(thawed); /* maps the file again */
    generate(session, 40);
    generate(thawed, 40);
    assert_same(session, thawed);
    dw_session *of_both = fork_of(thawed);   /* the file, and an object of the rows made since */
    generate(of_thawed, 40);
    assert_same(session, of_thawed);
    generate(of_both, 20);
    generate(session, 20);
    assert_same(session, of_both);
    assert_int_equal(dw_session_rewind(of_both, 100, NULL), DW_OK); /* below the file's end */
    assert_int_equal(dw_session_rewind(session, 100, NULL), DW_OK);
    dw_session_set_sampler_state(of_both, dw_session_sampler_state(session));
    forward(of_both, tokens, 90, NULL);
    forward(session, tokens, 90, NULL);
    assert_same(session, of_both);
    dw_session_destroy(session);
    dw_session_destroy(thawed);
    dw_session_destroy(of_thawed);
    dw_session_destroy(of_both);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
}

/* A session of the same log, whose rows come as pieces of bytes. */
static dw_session *copy_through_bytes(dw_session *from, uint32_t first_piece) {
    uint32_t n = 0, n_rows = dw_session_rows(from), row = dw_session_row_bytes(from);
    const int32_t *log = dw_session_tokens(from, &n);
    dw_session *copy = NULL;
    dw_error err = {0};
    uint8_t *rows = malloc((size_t)n_rows * row);
    assert_non_null(rows);
    if (dw_session_read_rows(from, 0, first_piece, rows, &err) != DW_OK) fail_msg("%s", err.text);
    if (dw_session_read_rows(from, first_piece, n_rows - first_piece, rows + (size_t)first_piece * row, &err) != DW_OK)
        fail_msg("%s", err.text);
    const dw_session_image image = {.tokens = log, .n_tokens = n, .sampler = dw_session_sampler_state(from)};
    assert_int_equal(dw_model_restore_session(model, &image, &copy, NULL), DW_OK);
    uint32_t prefilled = dw_session_prefilled(from), half = n_rows / 2;
    dw_status status = dw_session_write_rows(copy, half, rows, prefilled < half ? prefilled : half, &err);
    if (status == DW_OK)
        status = dw_session_write_rows(copy, n_rows - half, rows + (size_t)half * row, prefilled, &err);
    if (status != DW_OK) fail_msg("%s", err.text);
    free(rows);
    return copy;
}

static void rows_that_left_as_bytes_and_came_back_go_on_alike(void **state) {
    (void)state;
    int32_t tokens[290];
    make_tokens(tokens, 290, 31);
    dw_session *session = new_session(12);
    forward(session, tokens, 290, NULL);
    generate(session, 33);
    for (uint32_t piece = 0; piece < 300; piece += 109) {
        dw_session *copy = copy_through_bytes(session, piece);
        dw_session *twin = fork_of(session);
        assert_same(session, copy);
        assert_int_equal(dw_session_prefilled(copy), dw_session_prefilled(session));
        generate(twin, 20);
        generate(copy, 20);
        assert_same(twin, copy);
        dw_session_destroy(copy);
        dw_session_destroy(twin);
    }
    dw_session_destroy(session);
}

static void rows_that_are_not_there_are_neither_read_nor_written(void **state) {
    (void)state;
    int32_t tokens[20];
    uint8_t row[65536];
    make_tokens(tokens, 20, 32);
    dw_session *session = new_session(13);
    forward(session, tokens, 20, NULL);
    assert_true(dw_session_row_bytes(session) <= sizeof row);
    assert_int_equal(dw_session_read_rows(session, 20, 1, row, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_read_rows(session, 21, 0, row, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_read_rows(session, 1, UINT32_MAX, row, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_read_rows(session, 20, 0, row, NULL), DW_OK);
    assert_int_equal(dw_session_write_rows(session, 1, row, 0, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_write_rows(session, UINT32_MAX, row, 0, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_write_rows(session, 0, row, 21, NULL), DW_E_RANGE);
    assert_int_equal(dw_session_rows(session), 20);
    dw_session_destroy(session);
}

static void expect_same_as_marked(const dw_session *session, uint32_t n_tokens, uint32_t n_rows) {
    uint32_t tokens = 0, rows = 0;
    dw_session_same(session, &tokens, &rows);
    assert_int_equal(tokens, n_tokens);
    assert_int_equal(rows, n_rows);
}

/* Whatever was cut since is not the same again, though as much is there. */
static void a_mark_knows_what_is_still_as_it_was(void **state) {
    (void)state;
    int32_t tokens[200], other[200];
    uint32_t reused = 0;
    make_tokens(tokens, 200, 33);
    memcpy(other, tokens, sizeof other);
    other[90] = tokens[90] == 300 ? 301 : 300;
    dw_session *session = new_session(14);
    forward(session, tokens, 150, NULL);
    expect_same_as_marked(session, 0, 0);
    dw_session_mark(session);
    generate(session, 10); /* evaluates the last row again, to draw from it; the last token made is pending */
    expect_same_as_marked(session, 150, 149);
    dw_session_mark(session);
    expect_same_as_marked(session, 160, 159);
    dw_session *child = fork_of(session);
    expect_same_as_marked(child, 160, 159);
    assert_int_equal(dw_session_rewind_rows(session, 155, 140, NULL), DW_OK);
    generate(session, 30);
    expect_same_as_marked(session, 155, 140);
    assert_int_equal(dw_session_sync(session, other, 200, &reused, NULL), DW_OK);
    forward(session, other, 10, NULL);
    expect_same_as_marked(session, 90, 90);
    expect_same_as_marked(child, 160, 159);
    dw_session_destroy(session);
    dw_session_destroy(child);
}

static int32_t *continue_in_this_process(const char *path) {
    static int32_t made[40];
    dw_session *session = thaw_from(path);
    uint32_t n = 0;
    generate(session, 40);
    const int32_t *log = dw_session_tokens(session, &n);
    memcpy(made, log + n - 40, sizeof made);
    dw_session_destroy(session);
    return made;
}

static void another_process_goes_on_with_the_same_tokens(void **state) {
    char path[512], printed[1024] = "";
    int32_t tokens[100];
    path_in_build(path, sizeof path, "process");
    make_tokens(tokens, 100, 9);
    dw_session *session = new_session(12);
    forward(session, tokens, 100, NULL);
    generate(session, 7);
    freeze_to(session, path);
    generate(session, 40);
    uint32_t n = 0;
    const int32_t *log = dw_session_tokens(session, &n);
    for (uint32_t i = n - 40; i < n; i++) snprintf(printed + strlen(printed), sizeof printed - strlen(printed), "%d ", log[i]);
    const char *const argv[] = {*state, "--continue", path, NULL};
    dw_os_process_result result = {0};
    assert_int_equal(dw_os_run(argv, 4096, &result, NULL), DW_OK);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.output, printed);
    free(result.output);
    dw_session_destroy(session);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
}

/* One step of a job, with nobody else in it. */
static dw_job_progress step_of(dw_job *job) {
    dw_batch_job alone = {.job = job, .progress = DW_JOB_MORE};
    assert_true(dw_batch_step(&alone, 1, &(dw_batch_options){0}));
    return alone.progress;
}

/* --- shapes -------------------------------------------------------------------------------------------------- */

static void who_else_is_there_does_not_change_the_bits(void **state) {
    (void)state;
    int32_t tokens[700], other[400];
    make_tokens(tokens, 700, 13);
    make_tokens(other, 400, 14);
    dw_session *alone = new_session(3), *among = new_session(3), *noise = new_session(4);
    forward(alone, tokens, 700, NULL);
    generate(alone, 20);
    /* The same two jobs, a step of another session's between any two of their steps. */
    dw_job jobs[2] = {{.kind = DW_JOB_FORWARD, .session = among, .tokens = tokens, .n_tokens = 700},
                      {.kind = DW_JOB_GENERATE, .session = among, .n_max = 20, .ignore_end = true, .sampling = {.temperature = 0.8f, .top_p = 0.95f, .top_k = 40}}};
    uint32_t done = 0;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(dw_job_begin(&jobs[i], NULL), DW_OK);
        while (step_of(&jobs[i]) == DW_JOB_MORE) {
            forward(noise, other + done % 400, 1 + done % 3, NULL);
            done++;
        }
        assert_int_equal(dw_job_end(&jobs[i]), DW_OK);
    }
    assert_true(done >= 20);
    assert_same(alone, among);
    dw_session_destroy(alone);
    dw_session_destroy(among);
    dw_session_destroy(noise);
}

static double largest_difference(const float *a, const float *b) {
    double largest = 0;
    for (int i = 0; i < N_VOCAB; i++) {
        double d = (double)a[i] - (double)b[i];
        largest = d > largest ? d : -d > largest ? -d : largest;
    }
    return largest;
}

static void rows_in_the_middle_are_what_their_prefix_gives(void **state) {
    (void)state;
    enum { N = 400, WANTED = 40 }; /* in two chunks, more than one group of the head */
    static float logits[WANTED][N_VOCAB], alone[N_VOCAB];
    int32_t tokens[N];
    dw_row_request rows[WANTED];
    float entropies[WANTED];
    dw_token_score top[WANTED][3];
    make_tokens(tokens, N, 15);
    for (uint32_t i = 0; i < WANTED; i++) {
        rows[i] = (dw_row_request){.index = i + 1 == WANTED ? DW_ROW_LAST : 5 + i * 10, .logits = logits[i], .entropy = &entropies[i], .top = top[i], .n_top = 3};
    }
    dw_session *session = new_session(0);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = N, .rows = rows, .n_rows = WANTED};
    must(&job);
    for (uint32_t i = 0; i < WANTED; i += 3) {
        uint32_t n = rows[i].index == DW_ROW_LAST ? N : rows[i].index + 1;
        dw_session *prefix = new_session(0);
        forward(prefix, tokens, n, alone);
        /* Other shapes round otherwise; logits here reach about 4. */
        if (largest_difference(alone, logits[i]) > 0.05) fail_msg("row %u differs by %g", n - 1, largest_difference(alone, logits[i]));
        assert_true(logits[i][top[i][0].token] >= logits[i][top[i][1].token] && top[i][1].logprob >= top[i][2].logprob);
        assert_true(entropies[i] > 0 && entropies[i] < 6.3f); /* ln 512 = 6.24 */
        dw_session_destroy(prefix);
    }
    dw_session_destroy(session);
}

static void logits_may_lie_at_any_float(void **state) {
    (void)state;
    static float memory[N_VOCAB + 4], straight[N_VOCAB];
    int32_t tokens[10];
    make_tokens(tokens, 10, 16);
    dw_session *a = new_session(0), *b = new_session(0);
    forward(a, tokens, 10, straight);
    memory[N_VOCAB + 1] = 77;
    forward(b, tokens, 10, memory + 1);
    assert_memory_equal(memory + 1, straight, sizeof straight);
    assert_true(memory[0] == 0 && memory[N_VOCAB + 1] == 77);
    dw_session_destroy(a);
    dw_session_destroy(b);
}

static void asking_again_after_everything_is_evaluated_works(void **state) {
    (void)state;
    static float first[N_VOCAB], again[N_VOCAB];
    int32_t tokens[10];
    make_tokens(tokens, 10, 17);
    dw_session *session = new_session(0);
    forward(session, tokens, 10, first);
    forward(session, NULL, 0, again);
    assert_true(largest_difference(first, again) < 0.05);
    assert_int_equal(dw_session_rows(session), 10);
    dw_session_destroy(session);
}

typedef struct finished { dw_os_mutex *mutex; dw_os_condition *changed; int count; } finished;

static void job_is_done(dw_job *job) {
    finished *f = job->context;
    dw_os_mutex_lock(f->mutex);
    f->count++;
    dw_os_condition_signal(f->changed);
    dw_os_mutex_unlock(f->mutex);
}

static void the_engine_gives_what_the_native_loop_gives(void **state) {
    (void)state;
    enum { N = 4 };
    int32_t tokens[N][350];
    finished f = {0};
    dw_engine *engine = NULL;
    dw_session *alone[N], *engined[N];
    dw_job jobs[N];
    assert_int_equal(dw_os_mutex_create(&f.mutex, NULL), DW_OK);
    assert_int_equal(dw_os_condition_create(&f.changed, NULL), DW_OK);
    for (int i = 0; i < N; i++) {
        make_tokens(tokens[i], 350, 40 + (uint64_t)i);
        alone[i] = new_session(50);
        engined[i] = new_session(50);
        jobs[i] = (dw_job){.kind = DW_JOB_GENERATE, .session = alone[i], .tokens = tokens[i], .n_tokens = 350 - (uint32_t)i * 50, .n_max = 20,
                           .ignore_end = true, .sampling = {.temperature = 1, .top_p = 0.9f}};
        must(&jobs[i]);
        jobs[i].session = engined[i];
        jobs[i].on_done = job_is_done;
        jobs[i].context = &f;
    }
    assert_int_equal(dw_engine_create(dw_model_device(model), &engine, NULL), DW_OK);
    for (int i = 0; i < N; i++) assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    dw_os_mutex_lock(f.mutex);
    while (f.count < N) dw_os_condition_wait(f.changed, f.mutex);
    dw_os_mutex_unlock(f.mutex);
    for (int i = 0; i < N; i++) {
        assert_int_equal(jobs[i].status, DW_OK);
        assert_same(alone[i], engined[i]);
    }
    dw_engine_destroy(engine);
    for (int i = 0; i < N; i++) {
        dw_session_destroy(alone[i]);
        dw_session_destroy(engined[i]);
    }
    dw_os_condition_destroy(f.changed);
    dw_os_mutex_destroy(f.mutex);
}

/* --- jobs that end otherwise --------------------------------------------------------------------------------- */

static void a_cancelled_forward_leaves_the_session_as_it_was(void **state) {
    (void)state;
    int32_t tokens[700], few[30];
    make_tokens(tokens, 700, 18);
    make_tokens(few, 30, 19);
    dw_session *session = new_session(1), *twin = new_session(1);
    forward(session, few, 30, NULL);
    forward(twin, few, 30, NULL);
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = 700};
    assert_int_equal(dw_job_begin(&job, NULL), DW_OK);
    assert_int_equal(step_of(&job), DW_JOB_MORE);
    assert_int_equal(dw_session_rewind(session, 0, NULL), DW_E_BUSY);
    dw_job second = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = 1};
    assert_int_equal(dw_job_begin(&second, NULL), DW_E_BUSY);
    atomic_store(&job.cancel, true);
    assert_int_equal(step_of(&job), DW_JOB_DONE);
    assert_int_equal(dw_job_end(&job), DW_E_CANCELLED);
    assert_same(session, twin);
    generate(session, 5);
    generate(twin, 5);
    assert_same(session, twin);
    dw_session_destroy(session);
    dw_session_destroy(twin);
}

typedef struct listener { char text[4096]; size_t size, limit; } listener;

static bool listen(dw_job *job, const char *text, size_t size) {
    listener *l = job->context;
    assert_true(l->size + size < sizeof l->text);
    memcpy(l->text + l->size, text, size);
    l->size += size;
    return l->limit == 0 || l->size < l->limit;
}

static uint32_t log_length(const dw_session *session) {
    uint32_t n = 0;
    (void)dw_session_tokens(session, &n);
    return n;
}

/* The log's text from token `first` on is this: what is no character replaced, also where a control token stands inside
 * of one. */
static void assert_log_says(const dw_session *session, uint32_t first, const char *text, size_t size) {
    char pieces[512], said[1536];
    size_t n_pieces = 0, n_said = 0;
    uint32_t n = 0;
    dw_vocab *vocab = dw_model_vocab(model);
    const int32_t *log = dw_session_tokens(session, &n);
    for (uint32_t i = first; i <= n; i++) {
        size_t one = 0;
        if (i == n || dw_vocab_is_control(vocab, log[i])) {
            dw_utf8_repair(pieces, n_pieces, said + n_said);
            n_said += dw_utf8_repaired_bytes(pieces, n_pieces);
            n_pieces = 0;
        } else {
            assert_int_equal(dw_vocab_piece(vocab, log[i], false, pieces + n_pieces, sizeof pieces - n_pieces, &one),
                             DW_OK);
            n_pieces += one;
        }
    }
    assert_int_equal(n_said, size);
    assert_memory_equal(said, text, size);
}

static void a_listener_that_ends_it_keeps_what_it_heard(void **state) {
    (void)state;
    int32_t tokens[20];
    make_tokens(tokens, 20, 20);
    dw_session *session = new_session(21);
    listener l = {.limit = 10};
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .tokens = tokens, .n_tokens = 20, .n_max = 100, .ignore_end = true, .sampling = {.top_p = 1},
                  .on_text = listen, .context = &l};
    assert_int_equal(dw_job_run(&job, NULL), DW_E_CANCELLED);
    assert_int_equal(log_length(session), 20 + job.n_generated);
    assert_true(l.size >= 10);
    assert_log_says(session, 20, l.text, l.size);
    dw_session_destroy(session);
}

static void text_before_a_stop_is_delivered_and_no_more(void **state) {
    (void)state;
    int32_t tokens[20];
    make_tokens(tokens, 20, 22);
    dw_session *base = new_session(23);
    forward(base, tokens, 19, NULL);
    dw_session *whole = fork_of(base);
    listener all = {0};
    const dw_sampling warm = {.temperature = 1, .top_p = 1};
    dw_job job = {.kind = DW_JOB_GENERATE, .session = whole, .tokens = tokens + 19, .n_tokens = 1, .n_max = 60, .ignore_end = true, .sampling = warm,
                  .on_text = listen, .context = &all};
    must(&job);
    uint32_t n_tried = 0;
    for (size_t length = 1; length < 12; length += 5) {
        for (size_t at = 3; at + length < all.size - 1; at += 7) {
            char stop[16] = "";
            memcpy(stop, all.text + at, length);
            bool is_text = strlen(stop) ==
                           length; /* this model also makes bytes 0, which no stop can hold, and what is no character */
            for (size_t i = 0; i < length; i++) is_text = is_text && (stop[i] & 0x80) == 0;
            if (!is_text) continue;
            n_tried++;
            const char *stops[2] = {"\x01never", stop};
            size_t first = 0;
            while (memcmp(all.text + first, stop, length) != 0) first++;
            dw_session *session = fork_of(base);
            listener heard = {0};
            dw_job stopped = job;
            stopped.session = session;
            stopped.stops = stops;
            stopped.n_stops = 2;
            stopped.context = &heard;
            must(&stopped);
            assert_int_equal(stopped.end_reason, DW_END_STOP);
            assert_int_equal(stopped.stop_index, 1);
            assert_int_equal(heard.size, first);
            assert_memory_equal(heard.text, all.text, first);
            /* The log says what was heard, and nothing of the stop. */
            assert_int_equal(log_length(session), 20 + stopped.n_generated);
            assert_log_says(session, 20, heard.text, heard.size);
            dw_session_destroy(session);
        }
    }
    assert_true(n_tried > 3);
    dw_session_destroy(whole);
    dw_session_destroy(base);
}

/* At temperature 100 every token is about equally likely: some of 512 tokens are marks of the beginning. */
static void a_stop_may_name_a_control_token(void **state) {
    (void)state;
    int32_t tokens[20];
    uint32_t stopped = 0;
    make_tokens(tokens, 20, 25);
    const char *stops[1] = {"<s>"};
    dw_job job = {.kind = DW_JOB_GENERATE,
                  .n_max = 500,
                  .sampling = {.temperature = 100, .top_p = 1},
                  .tokens = tokens,
                  .n_tokens = 20,
                  .stops = stops,
                  .n_stops = 1,
                  .ignore_end = true};
    for (uint64_t seed = 0; seed < 6; seed++) {
        job.session = new_session(seed);
        must(&job);
        uint32_t n = 0;
        const int32_t *log = dw_session_tokens(job.session, &n);
        for (uint32_t i = 20; i < n; i++) assert_int_not_equal(log[i], dw_vocab_bos(dw_model_vocab(model)));
        stopped += job.end_reason == DW_END_STOP;
        dw_session_destroy(job.session);
    }
    assert_true(stopped > 0);
}

/* This model makes bytes, so generations of one token each end inside characters all the time. What they deliver one
 * behind the other is what one generation delivers, and each delivers whole characters. */
static void characters_cut_by_the_length_come_with_the_next_generation(void **state) {
    (void)state;
    int32_t tokens[20];
    make_tokens(tokens, 20, 26);
    const dw_sampling warm = {.temperature = 100, .top_p = 1};
    dw_session *whole = new_session(27), *cut = new_session(27);
    listener all = {0}, parts = {0};
    enum { N = 60 };
    dw_job job = {.kind = DW_JOB_GENERATE,
                  .session = whole,
                  .tokens = tokens,
                  .n_tokens = 20,
                  .n_max = N,
                  .ignore_end = true,
                  .sampling = warm,
                  .on_text = listen,
                  .context = &all};
    must(&job);
    job.session = cut;
    job.context = &parts;
    job.n_max = 1;
    for (uint32_t i = 0; i < N; i++) {
        must(&job);
        assert_int_equal(job.n_generated, 1);
        assert_int_equal(dw_utf8_settled(parts.text, parts.size), parts.size);
        job.n_tokens = 0;
    }
    assert_int_equal(parts.size, all.size);
    assert_memory_equal(parts.text, all.text, all.size);
    dw_session_destroy(whole);
    dw_session_destroy(cut);
}

static void generation_ends_at_an_end_token_and_at_the_context(void **state) {
    (void)state;
    int32_t tokens[CONTEXT];
    make_tokens(tokens, CONTEXT, 24);
    /* At temperature 100 every token is about equally likely: one of 512 is the end. */
    dw_job job = {.kind = DW_JOB_GENERATE, .n_max = 800, .sampling = {.temperature = 100, .top_p = 1}, .tokens = tokens, .n_tokens = 20};
    uint32_t ends = 0, contexts = 0;
    for (uint64_t seed = 0; seed < 4; seed++) {
        job.session = new_session(seed);
        must(&job);
        uint32_t n = 0;
        const int32_t *log = dw_session_tokens(job.session, &n);
        assert_int_equal(n, 20 + job.n_generated);
        for (uint32_t i = 20; i < n; i++) assert_false(dw_vocab_is_end(dw_model_vocab(model), log[i]));
        assert_int_equal(dw_session_rows(job.session), job.end_reason == DW_END_TOKEN ? n : n - 1);
        if (job.end_reason == DW_END_TOKEN) ends++;
        dw_session_destroy(job.session);
    }
    assert_true(ends > 0);
    job.session = new_session(9);
    job.ignore_end = true;
    job.n_tokens = CONTEXT - 10;
    must(&job);
    contexts += job.end_reason == DW_END_CONTEXT;
    assert_int_equal(job.n_generated, 10);
    assert_int_equal(contexts, 1);
    assert_int_equal(dw_job_begin(&(dw_job){.kind = DW_JOB_FORWARD, .session = job.session, .tokens = tokens, .n_tokens = 1}, NULL), DW_E_FULL);
    job.n_tokens = 0;
    must(&job); /* nothing fits, and it says so */
    assert_int_equal(job.end_reason, DW_END_CONTEXT);
    assert_int_equal(job.n_generated, 0);
    dw_session_destroy(job.session);
}

static void jobs_that_cannot_be_are_refused(void **state) {
    (void)state;
    float value;
    int32_t good[3] = {300, 301, 302}, bad[2] = {300, N_VOCAB};
    dw_row_request twice[2] = {{.index = 1}, {.index = 1}}, beyond = {.index = 3}, last_first[2] = {{.index = DW_ROW_LAST}, {.index = 2}};
    dw_row_request doubled[2] = {{.index = 2}, {.index = DW_ROW_LAST}}, nowhere = {.index = 0, .n_top = 4}, many = {.index = 0, .n_top = N_VOCAB + 1};
    dw_row_request candidate = {.index = 0, .candidates = bad, .n_candidates = 2, .candidate_logprobs = &value};
    dw_session *session = new_session(0);
    const char *empty_stop[1] = {""};
    const struct { dw_job job; dw_status status; } cases[] = {
        {{.kind = DW_JOB_FORWARD}, DW_E_INVALID},
        {{.kind = DW_JOB_FORWARD, .tokens = bad, .n_tokens = 2}, DW_E_RANGE},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = twice, .n_rows = 2}, DW_E_RANGE},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = &beyond, .n_rows = 1}, DW_E_RANGE},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = last_first, .n_rows = 2}, DW_E_RANGE},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = doubled, .n_rows = 2}, DW_E_RANGE},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = &nowhere, .n_rows = 1}, DW_E_INVALID},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = &many, .n_rows = 1}, DW_E_LIMIT},
        {{.kind = DW_JOB_FORWARD, .tokens = good, .n_tokens = 3, .rows = &candidate, .n_rows = 1}, DW_E_RANGE},
        {{.kind = DW_JOB_GENERATE, .tokens = good, .n_tokens = 3, .sampling = {.top_p = 1}}, DW_E_INVALID},
        {{.kind = DW_JOB_GENERATE, .tokens = good, .n_tokens = 3, .n_max = 1, .sampling = {.top_p = -1}}, DW_E_RANGE},
        {{.kind = DW_JOB_GENERATE, .tokens = good, .n_tokens = 3, .n_max = 1, .sampling = {.top_p = 1}, .stops = empty_stop, .n_stops = 1}, DW_E_INVALID},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_job job = cases[i].job;
        dw_error err = {0};
        uint32_t n = 0;
        job.session = session;
        dw_status status = dw_job_begin(&job, &err);
        if (status != cases[i].status) fail_msg("case %zu: %s %s", i, dw_status_name(status), err.text);
        (void)dw_session_tokens(session, &n);
        assert_int_equal(n, 0);
    }
    forward(session, good, 3, NULL); /* and the session is free */
    dw_session_destroy(session);
}

static void a_failed_fork_leaves_the_parent_usable(void **state) {
    (void)state;
    int32_t tokens[80];
    make_tokens(tokens, 80, 30);
    bool hit = true;
    for (uint64_t k = 1; hit; k++) {
        dw_session *session = new_session(31), *twin = new_session(31), *child = NULL;
        forward(session, tokens, 80, NULL);
        forward(twin, tokens, 80, NULL);
        dw_session *middle = fork_of(session);
        generate(middle, 3);
        generate(twin, 3);
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_ANY, .k = k, .system_errno = 28 /* ENOSPC */});
        dw_status status = dw_session_fork(middle, &child, NULL);
        (void)dw_fault_disarm(&hit);
        assert_true(hit ? status != DW_OK && child == NULL : status == DW_OK);
        generate(middle, 5);
        generate(twin, 5);
        assert_same(middle, twin);
        dw_session_destroy(child);
        dw_session_destroy(middle);
        dw_session_destroy(session);
        dw_session_destroy(twin);
    }
}

static void model_describes_itself(void **state) {
    (void)state;
    const dw_model_info *info = dw_model_info_view(model);
    char profile[DW_PROFILE_BYTES];
    dw_model_fingerprint one, two;
    assert_string_equal(info->architecture, "llama");
    assert_int_equal(info->kv_row_bytes, info->kv_type == DW_KV_Q8_0 ? 136 : 256); /* 128 elements */
    assert_int_equal(info->weights_copied_bytes, 0);
    assert_true(info->weights_wrapped_bytes > 0 && info->weights_wrapped_bytes < info->file_bytes);
    dw_model_profile(model, profile);
    printf("%s\n", profile);
    char end[64];
    snprintf(end, sizeof end, "threads=any;kv=%s;weights=mapped;chunk=256/64", dw_kv_type_name(info->kv_type));
    assert_non_null(strstr(profile, end));
    assert_int_equal(dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &one, NULL), DW_OK);
    assert_int_equal(dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &two, NULL), DW_OK);
    assert_memory_equal(&one, &two, sizeof one);
    assert_false(dw_hash_equal(&one.weights, &one.tokenizer));
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    dw_error err = {0};
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = 8};
    const char *kv_type = getenv("DW_TEST_KV"); /* all of this holds for rows of every type */
    if (kv_type != NULL && !dw_kv_type_named(kv_type, &options.kv_type)) return 1;
    dw_status status = dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, &err);
    if (status == DW_OK) status = dw_model_open(made_model_path(made_model_named("tied_f16")), device, &options, &model, &err);
    if (status != DW_OK) {
        printf("%s\n", err.text);
        return 1;
    }
    int failed = 0;
    if (argc == 3 && strcmp(argv[1], "--continue") == 0) {
        int32_t *made = continue_in_this_process(argv[2]);
        for (int i = 0; i < 40; i++) printf("%d ", made[i]);
    } else {
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(a_fork_goes_on_as_its_parent_would),
            cmocka_unit_test(a_rewound_session_goes_on_as_if_it_had_never_gone_further),
            cmocka_unit_test(sync_keeps_the_common_prefix),
            cmocka_unit_test(rows_that_left_as_bytes_and_came_back_go_on_alike),
            cmocka_unit_test(rows_that_are_not_there_are_neither_read_nor_written),
            cmocka_unit_test(a_mark_knows_what_is_still_as_it_was),
            cmocka_unit_test(thawed_equals_uninterrupted),
            cmocka_unit_test_prestate(another_process_goes_on_with_the_same_tokens, argv[0]),
            cmocka_unit_test(who_else_is_there_does_not_change_the_bits),
            cmocka_unit_test(the_engine_gives_what_the_native_loop_gives),
            cmocka_unit_test(rows_in_the_middle_are_what_their_prefix_gives),
            cmocka_unit_test(logits_may_lie_at_any_float),
            cmocka_unit_test(asking_again_after_everything_is_evaluated_works),
            cmocka_unit_test(a_cancelled_forward_leaves_the_session_as_it_was),
            cmocka_unit_test(a_listener_that_ends_it_keeps_what_it_heard),
            cmocka_unit_test(text_before_a_stop_is_delivered_and_no_more),
            cmocka_unit_test(a_stop_may_name_a_control_token),
        cmocka_unit_test(characters_cut_by_the_length_come_with_the_next_generation),
        cmocka_unit_test(generation_ends_at_an_end_token_and_at_the_context),
            cmocka_unit_test(jobs_that_cannot_be_are_refused),
            cmocka_unit_test(a_failed_fork_leaves_the_parent_usable),
            cmocka_unit_test(model_describes_itself),
        };
        failed = cmocka_run_group_tests(tests, NULL, NULL);
    }
    dw_model_close(model);
    dw_device_close(device);
    return failed;
}

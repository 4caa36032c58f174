/* whole_tsan_test.c: engine, batches, sessions, sharing and the budget together, with a real model, under the thread sanitizer. Threads use sessions
 * of their own: they submit, cancel, fork, rewind, look at rows and embed texts, while the engine's thread evaluates with two or three threads of the
 * device.
 *
 * What is watched: every access of ours, on every thread, and what ggml copies on the engine's thread. ggml itself is linked as it is: its loads and
 * stores are not seen, and neither are the barriers at which its own threads wait. Of those threads the sanitizer would see calls of memcpy alone,
 * unordered. So it ignores the threads that dw_device_open makes, which run nothing but ggml's operations.
 * Exit 0 when every job ended as it may; the sanitizer ends the process with another code when it sees a race. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/engine/engine.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum { THREADS = 4, ROUNDS = 60, CONTEXT = 500, DOCUMENT = 400, DOCUMENTS = 2, TEXT = 330, WIDTH = 128, IDLE = 4, SESSIONS = 2 * THREADS + IDLE };

static dw_model *model;
static dw_engine *engine;
static int32_t documents[DOCUMENTS][DOCUMENT];
static _Atomic uint64_t n_jobs, n_shared, n_cancelled, n_full, n_embedded, n_drawn;

typedef struct worker {
    dw_session *session;
    uint64_t random;
    uint32_t number;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    bool done;
} worker;

/* --- the device's threads -------------------------------------------------------------------------------------- */

static _Thread_local bool opens_device;

typedef struct start { void *(*run)(void *); void *argument; } start;

void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument);

static void *run_unwatched(void *argument) {
    start s = *(start *)argument;
    free(argument);
    AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
    AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
    void *result = s.run(s.argument);
    AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
    AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
    return result;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    if (!opens_device) return __real_pthread_create(thread, attributes, run, argument);
    start *s = malloc(sizeof *s);
    if (s == NULL) return ENOMEM;
    *s = (start){run, argument};
    return __real_pthread_create(thread, attributes, run_unwatched, s);
}

/* --- the test ------------------------------------------------------------------------------------------------ */

static void must(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "whole_tsan_test: %s\n", what);
    exit(1);
}

static uint32_t below(worker *w, uint32_t bound) {
    w->random = w->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((w->random >> 33) % bound);
}

static void on_done(dw_job *job) {
    worker *w = job->context;
    dw_os_mutex_lock(w->mutex);
    w->done = true;
    dw_os_condition_signal(w->changed);
    dw_os_mutex_unlock(w->mutex);
}

/* Submits, cancels now and then, waits. */
static void run(worker *w, dw_job *job) {
    dw_error err = {0};
    job->on_done = on_done;
    job->context = w;
    w->done = false;
    must(dw_engine_submit(engine, job, &err) == DW_OK, err.text);
    atomic_fetch_add(&n_jobs, 1);
    if (below(w, 5) == 0) dw_engine_cancel(engine, job);
    (void)dw_engine_counts_now(engine);
    dw_os_mutex_lock(w->mutex);
    while (!w->done) dw_os_condition_wait(w->changed, w->mutex);
    dw_os_mutex_unlock(w->mutex);
    must(job->status == DW_OK || job->status == DW_E_CANCELLED || job->status == DW_E_FULL, job->error.text);
    atomic_fetch_add(&n_shared, job->n_shared);
    atomic_fetch_add(&n_cancelled, job->status == DW_E_CANCELLED);
    atomic_fetch_add(&n_full, job->status == DW_E_FULL);
}

static void think(worker *w) {
    static const dw_sampling sampling = {.temperature = 1, .top_p = 0.9f, .top_k = 40};
    float logits[512];
    uint32_t n = 0, piece = below(w, 2) == 0 ? 100 + below(w, 200) : 1 + below(w, 20);
    dw_session_tokens(w->session, &n);
    if (n + piece + 20 > CONTEXT || (n < DOCUMENT && below(w, 4) == 0)) {
        must(dw_session_rewind(w->session, 0, NULL) == DW_OK, "rewind");
        n = 0;
    }
    const int32_t *document = documents[below(w, DOCUMENTS)];
    if (n + piece > DOCUMENT) piece = n < DOCUMENT ? DOCUMENT - n : 1;
    const int32_t *tokens = n < DOCUMENT ? document + n : document;
    dw_row_request row = {.index = DW_ROW_LAST, .logits = below(w, 2) == 0 ? logits : NULL, .sample = true, .sampling = sampling};
    dw_job job = {.kind = below(w, 2) == 0 ? DW_JOB_FORWARD : DW_JOB_GENERATE, .session = w->session, .tokens = tokens, .n_tokens = piece, .n_max = 1 + below(w, 10),
                  .ignore_end = true, .sampling = sampling};
    if (job.kind == DW_JOB_FORWARD) job.rows = &row, job.n_rows = 1, job.hold = below(w, 2) == 0;
    run(w, &job);
}

/* Lets the session hold logits, and draws from them where nobody of a higher class has taken its rows meanwhile. */
static void draw(worker *w) {
    uint32_t n = 0, n_held = 0;
    float logits[512];
    dw_session_tokens(w->session, &n);
    if (n == 0 || n + 2 > CONTEXT) return;
    dw_job hold = {.kind = DW_JOB_FORWARD, .session = w->session, .hold = true};
    run(w, &hold);
    dw_logits *noted = dw_session_note_logits(w->session);
    dw_row_request row = {.index = DW_ROW_LAST, .logits = logits};
    dw_job job = {.kind = below(w, 2) == 0 ? DW_JOB_FORWARD : DW_JOB_GENERATE, .session = w->session, .n_max = 1,
                  .ignore_end = true, .sampling = {.temperature = 1, .top_p = 0.9f}};
    if (job.kind == DW_JOB_FORWARD) job.rows = &row, job.n_rows = 1, job.hold = true;
    run(w, &job);
    bool grew = job.status == DW_OK && job.kind == DW_JOB_GENERATE;
    must(!grew || dw_session_rewind(w->session, n, NULL) == DW_OK, "rewind");
    dw_session_keep(w->session);
    if (noted != NULL) dw_session_put_logits_back(w->session, noted);
    const float *held = dw_session_logits(w->session, &n_held);
    must(held == NULL || held[n_held - 1] < 1e30f, "no logits");
    dw_session_let_go(w->session);
    dw_logits_release(noted);
    atomic_fetch_add(&n_drawn, job.status == DW_OK && job.n_evaluated == 0);
}

static void embed(worker *w) {
    float vectors[2][WIDTH];
    dw_embed_text texts[2] = {{documents[0], TEXT, vectors[0]}, {documents[1], 1 + below(w, TEXT), vectors[1]}};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = 2, .pooling = DW_POOLING_MEAN, .normalize = true,
                  .priority = (dw_priority)((int)below(w, 3) - 1)};
    run(w, &job);
    atomic_fetch_add(&n_embedded, job.n_embedded);
}

/* Whoever looks, whenever: never more than the budget. */
static void check_budget(void) {
    dw_session_pool_use use;
    dw_session_pool_use_now(dw_model_pool(model), &use);
    uint64_t held = use.own_bytes + use.shared_bytes + use.logits_bytes;
    if (held > use.budget_bytes) {
        fprintf(stderr, "rows of one session %llu, of several %llu, logits %llu; budget %llu; texts %llu\n",
                (unsigned long long)use.own_bytes, (unsigned long long)use.shared_bytes,
                (unsigned long long)use.logits_bytes, (unsigned long long)use.budget_bytes,
                (unsigned long long)use.text_bytes);
    }
    must(held <= use.budget_bytes, "more than the budget");
}

static void watch_budget(void *argument) {
    atomic_bool *stop = argument;
    while (!atomic_load(stop)) {
        check_budget();
        dw_os_sleep(100000);
    }
}

static void look(worker *w) {
    uint64_t sum = 0, bytes = 0;
    const void *view = NULL;
    dw_session_keep(w->session);
    must(dw_session_kv_view(w->session, 0, 1, &view, &bytes) == DW_OK, "no view");
    for (uint64_t i = 0; i < bytes; i += 64) sum += ((const uint8_t *)view)[i];
    dw_session_let_go(w->session);
    must(sum <= 255 * bytes, "bytes are read");
}

static void change_session(worker *w) {
    dw_session *made = NULL;
    dw_session_options options = {.owner = 1, .fast = below(w, 2) == 0, .priority = (dw_priority)((int)below(w, 3) - 1), .seed = w->random};
    dw_error err = {0};
    bool forks = w->session != NULL && below(w, 2) == 0;
    dw_status status = forks ? dw_session_fork(w->session, &made, &err) : dw_model_create_session(model, &options, &made, &err);
    must(status == DW_OK, err.text);
    dw_session_destroy(w->session);
    w->session = made;
}

static void live(void *argument) {
    worker *w = argument;
    change_session(w);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t action = below(w, 12);
        if (action >= 10) draw(w);
        else if (action < 6) think(w);
        else if (action < 7) embed(w);
        else if (action < 8) look(w);
        else change_session(w);
    }
    dw_session_destroy(w->session);
}

/* Sessions with rows that nobody uses: the first to give way. */
static void make_idle(dw_session *idle[IDLE]) {
    dw_error err = {0};
    for (uint32_t i = 0; i < IDLE; i++) {
        dw_session_options options = {.fast = true, .priority = DW_PRIORITY_BACKGROUND};
        must(dw_model_create_session(model, &options, &idle[i], &err) == DW_OK, err.text);
        dw_job job = {.kind = DW_JOB_FORWARD, .session = idle[i], .tokens = documents[0], .n_tokens = 200};
        must(dw_job_run(&job, &err) == DW_OK, err.text);
    }
}

static void run_with(unsigned n_threads) {
    dw_device *device = NULL;
    dw_error err = {0};
    worker workers[THREADS];
    dw_session *idle[IDLE];
    dw_os_thread *threads[THREADS], *watcher = NULL;
    atomic_bool stop = false;
    opens_device = true;
    must(dw_device_open("cpu", &(dw_device_options){.threads = n_threads}, &device, &err) == DW_OK, err.text);
    opens_device = false;
    const made_model *made = made_model_named("tied_f16");
    uint64_t per_token = 2ull * made->n_layers * made->n_heads_kv * made->head_dim * 2;
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = SESSIONS, .kv_bytes_max = 900 * per_token};
    must(dw_model_open(made_model_path(made), device, &options, &model, &err) == DW_OK, err.text);
    make_idle(idle);
    must(dw_engine_create(device, &engine, &err) == DW_OK, err.text);
    must(dw_os_thread_create("watcher", 1 << 20, watch_budget, &stop, &watcher, &err) == DW_OK, err.text);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (worker){.random = 1000 * n_threads + i, .number = i};
        must(dw_os_mutex_create(&workers[i].mutex, &err) == DW_OK && dw_os_condition_create(&workers[i].changed, &err) == DW_OK, err.text);
        must(dw_os_thread_create("worker", 1 << 20, live, &workers[i], &threads[i], &err) == DW_OK, err.text);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        dw_os_thread_join(threads[i]);
        dw_os_condition_destroy(workers[i].changed);
        dw_os_mutex_destroy(workers[i].mutex);
    }
    atomic_store(&stop, true);
    dw_os_thread_join(watcher);
    for (uint32_t i = 0; i < IDLE; i++) dw_session_destroy(idle[i]);
    dw_engine_counts counts = dw_engine_counts_now(engine);
    dw_session_pool_use use;
    dw_session_pool_use_now(dw_model_pool(model), &use);
    printf("%u threads: %llu jobs, %llu steps, up to %llu in one, %llu given up; %llu rows shared, %llu evictions; %llu cancelled, %llu without room; %llu texts; "
           "%llu draws from held logits\n",
           n_threads, (unsigned long long)n_jobs, (unsigned long long)counts.steps, (unsigned long long)counts.parts_most, (unsigned long long)counts.given_up,
           (unsigned long long)n_shared, (unsigned long long)use.evictions, (unsigned long long)n_cancelled, (unsigned long long)n_full, (unsigned long long)n_embedded,
           (unsigned long long)n_drawn);
    must(n_shared > 0 && use.evictions > 0 && counts.parts_most > 1 && n_embedded > 0 && n_cancelled > 0,
         "something was not tried");
    must(n_drawn > 0, "nothing was drawn from held logits");
    must(use.sessions == 0 && use.own_bytes + use.shared_bytes + use.logits_bytes == 0, "something is left");
    dw_engine_destroy(engine);
    dw_model_close(model);
    dw_device_close(device);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int d = 0; d < DOCUMENTS; d++) {
        for (int i = 0; i < DOCUMENT; i++) documents[d][i] = 259 + (i < 200 ? i : i + d) % 250;
    }
    run_with(2);
    run_with(3);
    return 0;
}

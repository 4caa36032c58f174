/* An exact session among others: whatever the others do (join, leave, decode, prefill, get cancelled, are forked, looked at, evicted in favour of a
 * higher class), and whenever it is itself frozen, thawed or forked in between, its tokens and KV rows are to the bit those it has alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/hash.h"
#include "base/test.h"
#include "model/kit/make_model.h"
#include "model/engine/engine.h"
#include "os/os.h"

enum { SCRIPTS = 12, STEPS = 4, CONTEXT = 900, N_VOCAB = 512, NOISES = 6, NOISE_TOKENS = 400, LAYERS_MAX = 8 };

static dw_device *device;
static dw_model *model;
static dw_engine *engine;
static dw_os_mutex *mutex;
static dw_os_condition *changed;

/* --- what the session does ----------------------------------------------------------------------------------- */

typedef struct script_step {
    dw_job_kind kind;
    int32_t tokens[450];
    uint32_t n_tokens, n_made;
    bool hold;               /* the next step may draw from what is held then: it has no tokens */
    dw_sampling sampling;
} script_step;

typedef struct script {
    uint64_t seed;
    script_step steps[STEPS];
    dw_hash tokens, rows;    /* as they are when nobody else is there; rows: with held logits */
} script;

static script scripts[SCRIPTS];

static void make_script(script *s, uint64_t *random) {
    static const uint32_t lengths[] = {1, 2, 7, 16, 17, 40, 64, 65, 100, 319, 320, 420};
    s->seed = test_random(random);
    for (uint32_t i = 0; i < STEPS; i++) {
        script_step *step = &s->steps[i];
        step->kind = test_random_below(random, 3) == 0 ? DW_JOB_FORWARD : DW_JOB_GENERATE;
        step->n_tokens = i == 0 ? lengths[test_random_below(random, 12)] : lengths[test_random_below(random, 7)];
        for (uint32_t t = 0; t < step->n_tokens; t++) step->tokens[t] = (int32_t)(259 + test_random_below(random, N_VOCAB - 259));
        step->hold = step->kind == DW_JOB_FORWARD && test_random_below(random, 3) != 0;
        if (i > 0 && s->steps[i - 1].hold && test_random_below(random, 3) != 0) {
            *step = (script_step){.kind = DW_JOB_GENERATE};
        }
        step->n_made = 1 + (uint32_t)test_random_below(random, 12);
        bool greedy = test_random_below(random, 2) == 0;
        step->sampling = greedy ? (dw_sampling){.top_p = 1} : (dw_sampling){.temperature = 0.9f, .top_k = 40, .top_p = 0.95f, .min_p = 0.02f};
    }
}

static dw_job job_of(const script_step *step, dw_session *session) {
    return (dw_job){.kind = step->kind, .session = session, .tokens = step->tokens, .n_tokens = step->n_tokens, .n_max = step->n_made,
                    .hold = step->hold, .ignore_end = true, .sampling = step->sampling};
}

static void digest(const dw_session *session, dw_hash *tokens, dw_hash *rows) {
    uint32_t n = 0;
    const int32_t *log = dw_session_tokens(session, &n);
    dw_hash areas[2 * LAYERS_MAX + 1];
    uint32_t n_areas = 2 * dw_model_info_view(model)->n_layers, n_held = 0;
    const float *held = dw_session_logits(session, &n_held);
    assert_true(n_areas <= 2 * LAYERS_MAX);
    assert_int_equal(dw_hash_of(log, n * sizeof log[0], tokens), DW_OK);
    for (uint32_t area = 0; area < n_areas; area++) {
        const void *view = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(session, area / 2, (int)(area % 2), &view, &bytes), DW_OK);
        assert_int_equal(dw_hash_of(view, (size_t)bytes, &areas[area]), DW_OK);
    }
    const void *logits = held != NULL ? (const void *)held : "";
    assert_int_equal(dw_hash_of(logits, n_held * sizeof held[0], &areas[n_areas++]), DW_OK);
    assert_int_equal(dw_hash_of(areas, n_areas * sizeof areas[0], rows), DW_OK);
}

static void run_alone(script *s) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, &(dw_session_options){.seed = s->seed}, &session, NULL), DW_OK);
    for (uint32_t i = 0; i < STEPS; i++) {
        dw_error err = {0};
        dw_job job = job_of(&s->steps[i], session);
        if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    }
    digest(session, &s->tokens, &s->rows);
    dw_session_destroy(session);
}

/* --- what the others do -------------------------------------------------------------------------------------- */

typedef struct noise {
    dw_session *session;
    dw_job job;
    bool running;            /* under the mutex */
    int32_t tokens[NOISE_TOKENS];
} noise;

static noise noises[NOISES];
static struct { uint64_t joined, left, jobs, cancelled, forked, looked, frozen, thawed, drawn; } counts;

static void noise_done(dw_job *job) {
    dw_os_mutex_lock(mutex);
    ((noise *)job->context)->running = false;
    dw_os_condition_broadcast(changed);
    dw_os_mutex_unlock(mutex);
}

static bool is_running(const noise *n) {
    dw_os_mutex_lock(mutex);
    bool running = n->running;
    dw_os_mutex_unlock(mutex);
    return running;
}

static void join(noise *n, uint64_t *random) {
    dw_session_options options = {.fast = test_random_below(random, 2) == 0, .priority = (dw_priority)((int)test_random_below(random, 3) - 1),
                                  .owner = 1 + test_random_below(random, 2), .seed = test_random(random)};
    counts.joined += dw_model_create_session(model, &options, &n->session, NULL) == DW_OK;
}

static void submit(noise *n, uint64_t *random) {
    uint32_t length = 0, n_held = 0;
    (void)dw_session_tokens(n->session, &length);
    uint32_t n_tokens = 1 + (uint32_t)test_random_below(random, test_random_below(random, 3) == 0 ? NOISE_TOKENS : 5);
    if (length + n_tokens + 30 > CONTEXT) {
        assert_int_equal(dw_session_rewind(n->session, 0, NULL), DW_OK);
    }
    for (uint32_t t = 0; t < n_tokens; t++) n->tokens[t] = (int32_t)(259 + test_random_below(random, 40)); /* often a prefix of another's */
    bool may_draw = length + 30 <= CONTEXT && dw_session_logits(n->session, &n_held) != NULL;
    if (may_draw && test_random_below(random, 2) == 0) n_tokens = 0;
    n->job = (dw_job){.kind = test_random_below(random, 3) == 0 ? DW_JOB_FORWARD : DW_JOB_GENERATE,
                      .hold = test_random_below(random, 2) == 0, .session = n->session, .tokens = n->tokens,
                      .n_tokens = n_tokens, .n_max = 1 + (uint32_t)test_random_below(random, 25), .ignore_end = true,
                      .sampling = {.temperature = 1, .top_p = 1}, .on_done = noise_done, .context = n};
    n->running = true;
    assert_int_equal(dw_engine_submit(engine, &n->job, NULL), DW_OK);
    counts.jobs++;
}

static void leave(noise *n) {
    dw_session_destroy(n->session);
    n->session = NULL;
    counts.left++;
}

static void fork_into(noise *from, noise *into) {
    if (into->session != NULL || from->session == NULL || is_running(from)) return;
    counts.forked += dw_session_fork(from->session, &into->session, NULL) == DW_OK;
}

static void act(uint64_t *random) {
    noise *n = &noises[test_random_below(random, NOISES)];
    if (n->session == NULL) {
        if (test_random_below(random, 3) == 0) fork_into(&noises[test_random_below(random, NOISES)], n);
        else join(n, random);
        return;
    }
    if (is_running(n)) {
        if (test_random_below(random, 3) != 0) return;
        dw_engine_cancel(engine, &n->job);
        counts.cancelled++;
        return;
    }
    switch (test_random_below(random, 8)) {
    case 0: leave(n); break;
    case 1: {
        dw_hash tokens, rows;
        dw_session_keep(n->session);
        digest(n->session, &tokens, &rows);
        dw_session_let_go(n->session);
        counts.looked++;
        break;
    }
    default: submit(n, random); break;
    }
}

static void quiet_all(void) {
    for (uint32_t i = 0; i < NOISES; i++) {
        if (is_running(&noises[i])) dw_engine_cancel(engine, &noises[i].job);
        dw_os_mutex_lock(mutex);
        while (noises[i].running) dw_os_condition_wait(changed, mutex);
        dw_os_mutex_unlock(mutex);
        if (noises[i].session != NULL) leave(&noises[i]);
    }
}

/* --- the session, among them --------------------------------------------------------------------------------- */

typedef struct subject { dw_session *session; bool done; } subject;

static void subject_done(dw_job *job) {
    dw_os_mutex_lock(mutex);
    ((subject *)job->context)->done = true;
    dw_os_condition_broadcast(changed);
    dw_os_mutex_unlock(mutex);
}

/* Goes on in a fork; what it came from leaves. */
static void fork_subject(subject *s) {
    dw_session *child = NULL;
    if (dw_session_fork(s->session, &child, NULL) != DW_OK) return; /* no slot is free */
    dw_session_destroy(s->session);
    s->session = child;
    counts.forked++;
}

/* Its rows go to a memory object and come back from there. */
static void freeze_and_thaw(subject *s) {
    uint32_t n_tokens = 0, n_layers = dw_model_info_view(model)->n_layers, n_rows = dw_session_rows(s->session);
    const int32_t *tokens = dw_session_tokens(s->session, &n_tokens);
    uint64_t page = dw_os_page_bytes(), area = ((uint64_t)n_rows * dw_model_info_view(model)->kv_row_bytes + page - 1) / page * page;
    if (n_rows == 0) return;
    dw_backing *backing = NULL;
    dw_kv_source sources[LAYERS_MAX];
    assert_int_equal(dw_backing_create_memory("frozen", 2 * n_layers * area, &backing, NULL), DW_OK);
    for (uint32_t i = 0; i < 2 * n_layers; i++) {
        const void *rows = NULL;
        uint64_t bytes = 0;
        assert_int_equal(dw_session_kv_view(s->session, i / 2, (int)(i % 2), &rows, &bytes), DW_OK);
        assert_int_equal(dw_os_write_at(dw_backing_file(backing), i * area, rows, (size_t)bytes, NULL), DW_OK);
    }
    for (uint32_t layer = 0; layer < n_layers; layer++) sources[layer] = (dw_kv_source){2 * layer * area, (2 * layer + 1) * area};
    dw_session_image image = {.tokens = tokens, .n_tokens = n_tokens, .n_rows = n_rows, .backing = backing, .layers = sources,
                              .sampler = dw_session_sampler_state(s->session)};
    image.logits = dw_session_logits(s->session, &image.n_logits);
    dw_session *thawed = NULL;
    counts.frozen++;
    if (dw_model_restore_session(model, &image, &thawed, NULL) == DW_OK) {
        dw_session_destroy(s->session);
        s->session = thawed;
        counts.thawed++;
    }
    dw_backing_release(backing);
}

static void run_among(const script *s, uint64_t *random) {
    subject it = {0};
    dw_session_options options = {.seed = s->seed, .owner = 1, .priority = (dw_priority)((int)test_random_below(random, 3) - 1)};
    while (dw_model_create_session(model, &options, &it.session, NULL) != DW_OK) act(random); /* all slots are taken: somebody will leave */
    for (uint32_t i = 0; i < STEPS; i++) {
        for (uint64_t k = test_random_below(random, 6); k > 0; k--) act(random);
        dw_job job = job_of(&s->steps[i], it.session);
        job.on_done = subject_done;
        job.context = &it;
        it.done = false;
        dw_error err = {0};
        if (dw_engine_submit(engine, &job, &err) != DW_OK) fail_msg("%s", err.text);
        for (uint64_t k = test_random_below(random, 8); k > 0; k--) act(random);
        dw_os_mutex_lock(mutex);
        while (!it.done) dw_os_condition_wait(changed, mutex);
        dw_os_mutex_unlock(mutex);
        assert_int_equal(job.status, DW_OK);
        if (s->steps[i].n_tokens == 0) {
            assert_int_equal(job.n_evaluated, 0);
            counts.drawn++;
        }
        uint64_t then = test_random_below(random, 6);
        if (then == 0) fork_subject(&it);
        if (then == 1) freeze_and_thaw(&it);
    }
    dw_hash tokens, rows;
    digest(it.session, &tokens, &rows);
    assert_memory_equal(&tokens, &s->tokens, sizeof tokens);
    assert_memory_equal(&rows, &s->rows, sizeof rows);
    dw_session_destroy(it.session);
}

static void an_exact_session_is_the_same_in_every_schedule(void **state) {
    const char *name = *state;
    dw_error err = {0};
    dw_model_options options = {.context_tokens = CONTEXT, .sessions_max = NOISES + 2};
    uint64_t random = test_seed(2026);
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, &err) != DW_OK) fail_msg("%s", err.text);
    if (dw_model_open(made_model_path(made_model_named(name)), device, &options, &model, &err) != DW_OK) fail_msg("%s", err.text);
    uint32_t schedules = test_number("DW_TEST_SCHEDULES", 1000) / 2; /* of each model */
    memset(&counts, 0, sizeof counts);
    for (uint32_t i = 0; i < SCRIPTS; i++) {
        make_script(&scripts[i], &random);
        run_alone(&scripts[i]);
    }
    assert_int_equal(dw_engine_create(device, &engine, &err), DW_OK);
    for (uint32_t i = 0; i < schedules; i++) {
        run_among(&scripts[test_random_below(&random, SCRIPTS)], &random);
        if (i % 50 == 49) quiet_all();
    }
    quiet_all();
    dw_engine_counts done = dw_engine_counts_now(engine);
    dw_engine_destroy(engine);
    printf("%s, %u threads: %u schedules of %llu steps, up to %llu sessions in one, %llu given up; others: %llu joined, %llu left, %llu jobs, %llu cancels, %llu looked at; "
           "%llu forks, %llu thaws, %llu draws from held logits\n", name, dw_device_threads(device), schedules, (unsigned long long)done.steps, (unsigned long long)done.parts_most,
           (unsigned long long)done.given_up, (unsigned long long)counts.joined, (unsigned long long)counts.left, (unsigned long long)counts.jobs,
           (unsigned long long)counts.cancelled, (unsigned long long)counts.looked, (unsigned long long)counts.forked, (unsigned long long)counts.thawed,
           (unsigned long long)counts.drawn);
    /* else it was no test */
    assert_true(done.parts_most >= 3 && counts.thawed > schedules / 25 && counts.cancelled > schedules / 10);
    assert_true(counts.drawn > schedules / 25);
    dw_model_close(model);
    dw_device_close(device);
}

static int set_up(void **state) {
    (void)state;
    return dw_os_mutex_create(&mutex, NULL) == DW_OK && dw_os_condition_create(&changed, NULL) == DW_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    dw_os_condition_destroy(changed);
    dw_os_mutex_destroy(mutex);
    return 0;
}

int main(void) {
    static char f16[] = "tied_f16", k_quant[] = "factors_q4k";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(an_exact_session_is_the_same_in_every_schedule, f16),
        cmocka_unit_test_prestate(an_exact_session_is_the_same_in_every_schedule, k_quant),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

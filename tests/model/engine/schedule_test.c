/* schedule_test.c: whose step is next, by class, model and how long jobs have waited; and that nobody waits longer than schedule.h says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/engine/schedule.h"

enum { JOBS_MAX = 200 };
static const char models[4];
#define MODEL_A (&models[0])
#define MODEL_B (&models[1])

/* --- a queue as the engine keeps it ---------------------------------------------------------------------------- */

typedef struct queued_job { dw_job_look look; uint32_t id; uint64_t waits_since; } queued_job;

typedef struct queue {
    dw_schedule schedule;
    queued_job jobs[JOBS_MAX];
    uint32_t n;
    uint64_t steps[JOBS_MAX];             /* of each id */
    uint32_t picked[DW_BATCH_PARTS_MAX];  /* ids */
} queue;

static void enqueue(queue *q, uint32_t id, const void *model, dw_priority priority, dw_step_group group, uint32_t n_tokens) {
    dw_job_look look = {.model = model, .priority = priority, .group = group, .n_tokens = n_tokens};
    assert_true(q->n < JOBS_MAX);
    q->jobs[q->n++] = (queued_job){.look = look, .id = id, .waits_since = q->schedule.picks};
}

static queue *queue_of(const dw_job_look *looks, uint32_t n) {
    queue *q = calloc(1, sizeof *q);
    assert_non_null(q);
    for (uint32_t i = 0; i < n; i++) q->jobs[q->n++] = (queued_job){.look = looks[i], .id = i};
    return q;
}

/* One step: those picked go behind the others. */
static uint32_t step(queue *q) {
    dw_job_look looks[JOBS_MAX];
    queued_job moved[DW_BATCH_PARTS_MAX];
    bool out[JOBS_MAX] = {false};
    uint32_t picked[DW_BATCH_PARTS_MAX], kept = 0;
    for (uint32_t i = 0; i < q->n; i++) looks[i] = q->jobs[i].look;
    uint32_t n = dw_schedule_pick(&q->schedule, looks, q->n, picked);
    assert_true(n <= DW_BATCH_PARTS_MAX && (n > 0) == (q->n > 0));
    for (uint32_t i = 0; i < n; i++) {
        assert_true(picked[i] < q->n && !out[picked[i]]);
        out[picked[i]] = true;
        moved[i] = q->jobs[picked[i]];
        moved[i].waits_since = q->schedule.picks;
        q->picked[i] = moved[i].id;
        q->steps[moved[i].id]++;
        assert_ptr_equal(moved[i].look.model, moved[0].look.model);
        assert_int_equal(moved[i].look.group, moved[0].look.group);
        assert_true(n == 1 || (moved[i].look.group != DW_STEP_ALONE && (moved[i].look.group != DW_STEP_PREFILL || moved[i].look.packs)));
    }
    for (uint32_t i = 0; i < q->n; i++) {
        if (!out[i]) q->jobs[kept++] = q->jobs[i];
    }
    memcpy(q->jobs + kept, moved, n * sizeof moved[0]);
    return n;
}

static dw_job_look look(const void *model, dw_priority priority, dw_step_group group) {
    return (dw_job_look){.model = model, .priority = priority, .group = group, .n_tokens = group == DW_STEP_PREFILL ? 256 : 1};
}

/* --- turns --------------------------------------------------------------------------------------------------- */

static void nothing_waits_nothing_is_picked(void **state) {
    (void)state;
    dw_schedule s = {0};
    assert_int_equal(dw_schedule_pick(&s, NULL, 0, NULL), 0);
}

static void a_turn_is_all_that_decode_and_some_prefill(void **state) {
    (void)state;
    const dw_job_look looks[] = {look(MODEL_A, 0, DW_STEP_PREFILL), look(MODEL_A, 0, DW_STEP_SINGLE), look(MODEL_A, 0, DW_STEP_SINGLE), look(MODEL_A, 0, DW_STEP_PREFILL)};
    queue *q = queue_of(looks, 4);
    assert_int_equal(step(q), 2);
    assert_int_equal(q->picked[0] + q->picked[1], 1 + 2);
    assert_int_equal(step(q), 1);
    assert_int_equal(q->picked[0], 0); /* has waited longest */
    assert_int_equal(step(q), 1);
    assert_int_equal(q->picked[0], 3);
    assert_int_equal(step(q), 2); /* 512 tokens: those who decode */
    assert_int_equal(step(q), 1);
    assert_int_equal(q->picked[0], 0);
    free(q);
}

static void prefill_chunks_that_may_go_together_do_up_to_a_bound(void **state) {
    (void)state;
    dw_job_look looks[8];
    for (uint32_t i = 0; i < 8; i++) {
        looks[i] = look(MODEL_A, 0, DW_STEP_PREFILL);
        looks[i].n_tokens = 128;
        looks[i].packs = i != 5;
    }
    queue *q = queue_of(looks, 8);
    assert_int_equal(step(q), 4);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(q->picked[i], i);
    assert_int_equal(step(q), 4); /* 4, 6, 7 and the first again */
    for (uint32_t i = 0; i < 4; i++) assert_int_not_equal(q->picked[i], 5);
    assert_int_equal(step(q), 1);
    assert_int_equal(q->picked[0], 5); /* never with others */
    free(q);
}

static void a_step_that_must_be_alone_is_alone(void **state) {
    (void)state;
    const dw_job_look looks[] = {look(MODEL_A, 0, DW_STEP_SINGLE), look(MODEL_A, 0, DW_STEP_ALONE), look(MODEL_A, 0, DW_STEP_SINGLE), look(MODEL_A, 0, DW_STEP_FEW),
                                 look(MODEL_A, 0, DW_STEP_FEW)};
    queue *q = queue_of(looks, 5);
    for (int i = 0; i < 30; i++) {
        uint32_t n = step(q);
        assert_int_equal(n, q->picked[0] == 1 ? 1 : 2);
    }
    for (int id = 0; id < 5; id++) assert_int_equal(q->steps[id], 10);
    free(q);
}

static void when_too_many_decode_each_gets_as_many_tokens(void **state) {
    (void)state;
    dw_job_look looks[JOBS_MAX];
    for (uint32_t i = 0; i < JOBS_MAX; i++) looks[i] = look(MODEL_A, 0, DW_STEP_SINGLE);
    queue *q = queue_of(looks, JOBS_MAX);
    for (int i = 0; i < 100; i++) assert_int_equal(step(q), DW_BATCH_PARTS_MAX);
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t id = 0; id < JOBS_MAX; id++) {
        if (q->steps[id] < least) least = q->steps[id];
        if (q->steps[id] > most) most = q->steps[id];
    }
    assert_true(most - least <= 1);
    free(q);
}

static void models_take_turns(void **state) {
    (void)state;
    const dw_job_look looks[] = {look(MODEL_A, 0, DW_STEP_SINGLE), look(MODEL_B, 0, DW_STEP_SINGLE), look(MODEL_A, 0, DW_STEP_SINGLE)};
    queue *q = queue_of(looks, 3);
    for (int i = 0; i < 20; i++) (void)step(q);
    assert_int_equal(q->steps[1], 10);
    free(q);
}

/* --- classes ------------------------------------------------------------------------------------------------- */

static void the_highest_class_leads_and_no_other_is_starved(void **state) {
    (void)state;
    const uint32_t rounds = 10;
    const dw_job_look looks[] = {look(MODEL_A, DW_PRIORITY_NORMAL, DW_STEP_SINGLE), look(MODEL_B, DW_PRIORITY_REALTIME, DW_STEP_SINGLE),
                                 look(MODEL_A, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL)};
    queue *q = queue_of(looks, 3);
    for (uint32_t i = 0; i < 2 * rounds * (DW_CLASS_STREAK_MAX + 1); i++) {
        (void)step(q);
        if (i < DW_CLASS_STREAK_MAX) assert_int_equal(q->picked[0], 1);
    }
    assert_int_equal(q->steps[0], rounds);
    assert_int_equal(q->steps[2], rounds);
    free(q);
}

/* Real-time work decodes and background work prefills, on the same model: normal work has its share of the open picks. */
static void normal_work_between_two_busy_classes_moves(void **state) {
    (void)state;
    const uint32_t rounds = 10;
    for (int group = DW_STEP_ALONE; group <= DW_STEP_PREFILL; group++) {
        const dw_job_look looks[] = {look(MODEL_A, DW_PRIORITY_REALTIME, DW_STEP_SINGLE), look(MODEL_A, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL),
                                     look(MODEL_A, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL), look(MODEL_A, DW_PRIORITY_NORMAL, (dw_step_group)group)};
        queue *q = queue_of(looks, 4);
        for (uint32_t i = 0; i < 2 * rounds * (DW_CLASS_STREAK_MAX + 1); i++) (void)step(q);
        assert_true(q->steps[3] >= rounds);
        assert_true(q->steps[1] >= rounds / 2 && q->steps[2] >= rounds / 2);
        free(q);
    }
}

static void the_lowest_class_prefills_while_a_higher_one_decodes(void **state) {
    (void)state;
    dw_job_look looks[JOBS_MAX];
    for (uint32_t i = 0; i < JOBS_MAX; i++) looks[i] = look(MODEL_A, DW_PRIORITY_NORMAL, DW_STEP_SINGLE);
    looks[7] = look(MODEL_A, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL);
    looks[8] = look(MODEL_A, DW_PRIORITY_BACKGROUND, DW_STEP_SINGLE);
    looks[9] = look(MODEL_A, DW_PRIORITY_NORMAL, DW_STEP_PREFILL);
    queue *q = queue_of(looks, JOBS_MAX);
    for (uint32_t i = 0; i < 20 * (DW_CLASS_STREAK_MAX + 1); i++) (void)step(q);
    assert_true(q->steps[7] >= 9 && q->steps[8] >= 9 && q->steps[9] >= 50);
    free(q);
}

/* Who comes while a long prompt is read has no claim on what that was given before, nor has it one on those who come. */
static void newcomers_and_a_long_prefill_take_turns(void **state) {
    (void)state;
    const dw_job_look prefill = look(MODEL_A, 0, DW_STEP_PREFILL);
    queue *q = queue_of(&prefill, 1);
    for (int i = 0; i < 100; i++) (void)step(q); /* far ahead */
    for (uint32_t id = 1; id <= 50; id++) {
        enqueue(q, id, MODEL_A, 0, DW_STEP_PREFILL, 256); /* one chunk each, and always another one */
        uint64_t before = q->steps[0];
        for (int i = 0; i < 2; i++) (void)step(q);
        assert_int_equal(q->steps[id], 1);
        assert_int_equal(q->steps[0], before + 1);
        for (uint32_t i = 0; i < q->n; i++) {
            if (q->jobs[i].id == id) q->jobs[i] = q->jobs[--q->n];
        }
    }
    free(q);
}

/* --- nobody waits for ever ----------------------------------------------------------------------------------- */

static void enqueue_random(queue *q, uint64_t *random, uint32_t id, uint32_t n_models, uint32_t n_classes) {
    dw_step_group group = (dw_step_group)test_random_below(random, 4);
    uint32_t n_tokens = group == DW_STEP_PREFILL ? 17 + (uint32_t)test_random_below(random, 300) : group == DW_STEP_FEW ? 5 : 1;
    enqueue(q, id, &models[test_random_below(random, n_models)], (dw_priority)((int)test_random_below(random, n_classes) + DW_PRIORITY_REALTIME), group, n_tokens);
    q->jobs[q->n - 1].look.packs = group == DW_STEP_PREFILL && test_random_below(random, 2) == 0;
}

/* Some jobs never end, others come and go, in bursts, in any class, on any model. *worst: the longest wait beside its bound. */
static void run_mix(uint64_t *random, double *worst) {
    enum { PICKS = 3000 };
    uint32_t n_models = 1 + (uint32_t)test_random_below(random, 4), n_classes = 1 + (uint32_t)test_random_below(random, DW_CLASSES);
    uint32_t lasting = 1 + (uint32_t)test_random_below(random, 12), most = lasting + (uint32_t)test_random_below(random, 100), next_id = lasting;
    uint32_t comes = 1 + (uint32_t)test_random_below(random, 8);
    queue *q = queue_of(NULL, 0);
    for (uint32_t id = 0; id < lasting; id++) enqueue_random(q, random, id, n_models, n_classes);
    for (int i = 0; i < PICKS; i++) {
        if (q->n < most && test_random_below(random, comes) == 0) {
            enqueue_random(q, random, next_id, n_models, n_classes);
            next_id = next_id + 1 < JOBS_MAX ? next_id + 1 : lasting;
        }
        (void)step(q);
        for (uint32_t k = 0; k < q->n; k++) { /* what was stepped changes its kind, or leaves */
            queued_job *job = &q->jobs[k];
            double wait = (double)(q->schedule.picks - job->waits_since) / (double)dw_schedule_wait_max(most, n_models);
            if (wait > *worst) *worst = wait;
            if (job->waits_since != q->schedule.picks) continue;
            if (job->id >= lasting && test_random_below(random, 4) == 0) {
                memmove(job, job + 1, (q->n - k - 1) * sizeof *job);
                q->n--;
            } else if (test_random_below(random, 8) == 0) {
                job->look.group = job->look.group == DW_STEP_PREFILL ? DW_STEP_SINGLE : DW_STEP_PREFILL;
                job->look.n_tokens = job->look.group == DW_STEP_PREFILL ? 17 : 1;
            }
        }
    }
    free(q);
}

static void nobody_waits_longer_than_the_bound(void **state) {
    (void)state;
    uint64_t random = test_seed(2027);
    double worst = 0;
    for (int mix = 0; mix < 200; mix++) run_mix(&random, &worst);
    printf("the longest wait is %.3f of its bound\n", worst);
    assert_true(worst <= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_waits_nothing_is_picked),
        cmocka_unit_test(a_turn_is_all_that_decode_and_some_prefill),
        cmocka_unit_test(prefill_chunks_that_may_go_together_do_up_to_a_bound),
        cmocka_unit_test(a_step_that_must_be_alone_is_alone),
        cmocka_unit_test(when_too_many_decode_each_gets_as_many_tokens),
        cmocka_unit_test(models_take_turns),
        cmocka_unit_test(the_highest_class_leads_and_no_other_is_starved),
        cmocka_unit_test(normal_work_between_two_busy_classes_moves),
        cmocka_unit_test(the_lowest_class_prefills_while_a_higher_one_decodes),
        cmocka_unit_test(newcomers_and_a_long_prefill_take_turns),
        cmocka_unit_test(nobody_waits_longer_than_the_bound),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* schedule_test.c: whose step is next, by class, model and tokens served. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "model/engine/schedule.h"

enum { LOOKS_MAX = 200 };
static const char model_a, model_b;

static dw_job_look look(const void *model, dw_priority priority, dw_step_group group, uint64_t served) {
    return (dw_job_look){.model = model, .priority = priority, .group = group, .n_tokens = 1, .served = served};
}

/* Picks, and counts the tokens as served. */
static uint32_t pick(dw_schedule *s, dw_job_look *looks, uint32_t n, uint32_t picked[]) {
    uint32_t n_picked = dw_schedule_pick(s, looks, n, picked);
    for (uint32_t i = 0; i < n_picked; i++) {
        assert_true(picked[i] < n);
        for (uint32_t k = 0; k < i; k++) assert_int_not_equal(picked[i], picked[k]);
        looks[picked[i]].served += looks[picked[i]].n_tokens;
    }
    return n_picked;
}

static void nothing_waits_nothing_is_picked(void **state) {
    (void)state;
    dw_schedule s = {0};
    assert_int_equal(dw_schedule_pick(&s, NULL, 0, NULL), 0);
}

static void a_turn_is_all_that_decode_and_some_prefill(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX];
    dw_job_look looks[] = {look(&model_a, 0, DW_STEP_PREFILL, 0), look(&model_a, 0, DW_STEP_SINGLE, 5), look(&model_a, 0, DW_STEP_SINGLE, 900),
                           look(&model_a, 0, DW_STEP_PREFILL, 10)};
    looks[0].n_tokens = looks[3].n_tokens = 256;
    assert_int_equal(pick(&s, looks, 4, picked), 2);
    assert_int_equal(picked[0] + picked[1], 1 + 2);
    assert_int_equal(pick(&s, looks, 4, picked), 1);
    assert_int_equal(picked[0], 0); /* served the fewest tokens */
    assert_int_equal(pick(&s, looks, 4, picked), 1);
    assert_int_equal(picked[0], 3);
    assert_int_equal(pick(&s, looks, 4, picked), 2); /* 512 tokens: those who decode */
    assert_int_equal(pick(&s, looks, 4, picked), 1);
    assert_int_equal(picked[0], 0);
}

static void prefill_chunks_that_may_go_together_do_up_to_a_bound(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX];
    dw_job_look looks[8];
    for (uint32_t i = 0; i < 8; i++) {
        looks[i] = look(&model_a, 0, DW_STEP_PREFILL, i);
        looks[i].n_tokens = 128;
        looks[i].packs = i != 5;
    }
    assert_int_equal(pick(&s, looks, 8, picked), 4);
    for (uint32_t i = 0; i < 4; i++) assert_int_equal(picked[i], i);
    assert_int_equal(pick(&s, looks, 8, picked), 4); /* 4, 6, 7 and the first again */
    for (uint32_t i = 0; i < 4; i++) assert_int_not_equal(picked[i], 5);
    assert_int_equal(pick(&s, looks, 8, picked), 1);
    assert_int_equal(picked[0], 5); /* never with others */
}

static void a_step_that_must_be_alone_is_alone(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX], singles = 0, alones = 0, fews = 0;
    dw_job_look looks[] = {look(&model_a, 0, DW_STEP_SINGLE, 0), look(&model_a, 0, DW_STEP_ALONE, 0), look(&model_a, 0, DW_STEP_SINGLE, 0),
                           look(&model_a, 0, DW_STEP_FEW, 0), look(&model_a, 0, DW_STEP_FEW, 0)};
    for (int step = 0; step < 30; step++) {
        uint32_t n = pick(&s, looks, 5, picked);
        dw_step_group group = looks[picked[0]].group;
        for (uint32_t i = 0; i < n; i++) assert_int_equal(looks[picked[i]].group, group);
        assert_int_equal(n, group == DW_STEP_ALONE ? 1 : 2);
        singles += group == DW_STEP_SINGLE;
        alones += group == DW_STEP_ALONE;
        fews += group == DW_STEP_FEW;
    }
    assert_int_equal(singles, 10);
    assert_int_equal(alones, 10);
    assert_int_equal(fews, 10);
}

static void when_too_many_decode_each_gets_as_many_tokens(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX];
    dw_job_look looks[LOOKS_MAX];
    for (uint32_t i = 0; i < LOOKS_MAX; i++) looks[i] = look(&model_a, 0, DW_STEP_SINGLE, 0);
    for (int step = 0; step < 100; step++) assert_int_equal(pick(&s, looks, LOOKS_MAX, picked), DW_BATCH_PARTS_MAX);
    uint64_t least = UINT64_MAX, most = 0;
    for (uint32_t i = 0; i < LOOKS_MAX; i++) {
        if (looks[i].served < least) least = looks[i].served;
        if (looks[i].served > most) most = looks[i].served;
    }
    assert_true(most - least <= 1);
}

static void models_take_turns(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX], of_b = 0;
    dw_job_look looks[] = {look(&model_a, 0, DW_STEP_SINGLE, 0), look(&model_b, 0, DW_STEP_SINGLE, 1000000), look(&model_a, 0, DW_STEP_SINGLE, 0)};
    for (int step = 0; step < 20; step++) {
        uint32_t n = pick(&s, looks, 3, picked);
        for (uint32_t i = 1; i < n; i++) assert_ptr_equal(looks[picked[i]].model, looks[picked[0]].model);
        of_b += looks[picked[0]].model == &model_b;
    }
    assert_int_equal(of_b, 10);
}

static void a_class_goes_first_and_the_others_are_not_starved(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX], lower = 0;
    dw_job_look looks[] = {look(&model_a, DW_PRIORITY_NORMAL, DW_STEP_SINGLE, 0), look(&model_b, DW_PRIORITY_REALTIME, DW_STEP_SINGLE, 0),
                           look(&model_a, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL, 0)};
    for (uint32_t step = 0; step < 10 * (DW_CLASS_STREAK_MAX + 1); step++) {
        (void)pick(&s, looks, 3, picked);
        bool realtime = looks[picked[0]].priority == DW_PRIORITY_REALTIME;
        if (step < DW_CLASS_STREAK_MAX) assert_true(realtime);
        lower += !realtime;
    }
    assert_true(lower >= 5 && lower <= 10);
    assert_true(looks[2].served > 0);
}

static void the_lowest_class_prefills_while_a_higher_one_decodes(void **state) {
    (void)state;
    dw_schedule s = {0};
    uint32_t picked[DW_BATCH_PARTS_MAX];
    dw_job_look looks[LOOKS_MAX];
    for (uint32_t i = 0; i < LOOKS_MAX; i++) looks[i] = look(&model_a, DW_PRIORITY_NORMAL, DW_STEP_SINGLE, 0);
    looks[7] = look(&model_a, DW_PRIORITY_BACKGROUND, DW_STEP_PREFILL, 0);
    looks[8] = look(&model_a, DW_PRIORITY_BACKGROUND, DW_STEP_SINGLE, 1000000);
    looks[9] = look(&model_a, DW_PRIORITY_NORMAL, DW_STEP_PREFILL, 0);
    for (uint32_t step = 0; step < 20 * (DW_CLASS_STREAK_MAX + 1); step++) (void)pick(&s, looks, LOOKS_MAX, picked);
    assert_true(looks[7].served >= 9);
    assert_true(looks[8].served >= 1000009);
    assert_true(looks[9].served >= 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_waits_nothing_is_picked),
        cmocka_unit_test(a_turn_is_all_that_decode_and_some_prefill),
        cmocka_unit_test(prefill_chunks_that_may_go_together_do_up_to_a_bound),
        cmocka_unit_test(a_step_that_must_be_alone_is_alone),
        cmocka_unit_test(when_too_many_decode_each_gets_as_many_tokens),
        cmocka_unit_test(models_take_turns),
        cmocka_unit_test(a_class_goes_first_and_the_others_are_not_starved),
        cmocka_unit_test(the_lowest_class_prefills_while_a_higher_one_decodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

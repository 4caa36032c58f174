/* engine_test.c: the engine's queue, with jobs that only keep books (engine_stub.h). No test here depends on how fast anything is: each
 * waits for what it needs to have happened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "model/engine/engine_stub.h"
#include "os/os.h"
#include "os/os_fault.h"

static int devices[2]; /* whose addresses stand for devices */
static dw_device *const device = (dw_device *)&devices[0];
static dw_model model = {(dw_device *)&devices[0]};

/* on_done of most jobs. */
static void count_done(dw_job *job) {
    stub_plan *plan = job->context;
    atomic_fetch_add(&plan->done, 1);
}

static void wait_done(const stub_plan *plan) {
    while (atomic_load(&plan->done) == 0) {}
}

static dw_job make_job(dw_session *session, stub_plan *plan) {
    return (dw_job){.kind = DW_JOB_FORWARD, .session = session, .on_done = count_done, .context = plan};
}

static dw_engine *make_engine(void) {
    dw_engine *engine = NULL;
    atomic_store(&stub_trace_length, 0);
    assert_int_equal(dw_engine_create(device, &engine, NULL), DW_OK);
    return engine;
}

static void a_job_that_waits_for_its_vocabulary_holds_nobody_up_and_can_be_cancelled(void **state) {
    (void)state;
    _Atomic bool vocabulary = false;
    dw_session sessions[3] = {{.model = &model}, {.model = &model}, {.model = &model}};
    stub_plan plans[3] = {{.steps = 1, .vocabulary = &vocabulary, .name = 'v'}, {.steps = 2, .name = 'a'},
                          {.steps = 1, .vocabulary = &vocabulary, .name = 'c'}};
    dw_job jobs[3];
    dw_engine *engine = make_engine();
    for (int i = 0; i < 3; i++) {
        jobs[i] = make_job(&sessions[i], &plans[i]);
        assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    }
    wait_done(&plans[1]);
    dw_engine_cancel(engine, &jobs[2]);
    wait_done(&plans[2]);
    assert_int_equal(jobs[2].status, DW_E_CANCELLED);
    assert_int_equal(atomic_load(&plans[0].entered), 0);
    atomic_store(&vocabulary, true);
    jobs[0].wake(jobs[0].wake_context);
    wait_done(&plans[0]);
    assert_int_equal(jobs[0].status, DW_OK);
    dw_engine_destroy(engine);
    assert_int_equal(atomic_load(&stub_trace_length), 3);
    assert_memory_equal(stub_trace, "aav", 3);
}

static void jobs_are_stepped_in_turn(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[4] = {{.model = &model}, {.model = &model}, {.model = &model}, {.model = &model}};
    stub_plan plans[4] = {{.steps = 1, .gate = &gate, .name = 'G'}, {.steps = 3, .name = 'a'}, {.steps = 2, .name = 'b'}, {.steps = 1, .name = 'c'}};
    dw_job jobs[4];
    dw_engine *engine = make_engine();
    for (int i = 0; i < 4; i++) {
        jobs[i] = make_job(&sessions[i], &plans[i]);
        assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    }
    atomic_store(&gate, true);
    for (int i = 0; i < 4; i++) {
        wait_done(&plans[i]);
        assert_int_equal(jobs[i].status, DW_OK);
    }
    dw_engine_destroy(engine);
    assert_int_equal(atomic_load(&stub_trace_length), 7);
    assert_memory_equal(stub_trace, "Gabcaba", 7);
}

static void cancel_ends_the_stepped_job_with_that_step(void **state) {
    (void)state;
    _Atomic bool never = false;
    dw_session session = {.model = &model};
    stub_plan plan = {.steps = UINT32_MAX, .gate = &never};
    dw_job job = make_job(&session, &plan);
    dw_engine *engine = make_engine();
    assert_int_equal(dw_engine_submit(engine, &job, NULL), DW_OK);
    while (atomic_load(&plan.entered) == 0) {}
    dw_engine_cancel(engine, &job);
    wait_done(&plan);
    assert_int_equal(job.status, DW_E_CANCELLED);
    /* The step ran to its end, or it was given up: then the job ends without one. There is never a second. */
    assert_true(atomic_load(&plan.stepped) <= 1);
    assert_int_equal(atomic_load(&plan.ended), 1);
    dw_engine_destroy(engine);
    assert_int_equal(atomic_load(&plan.done), 1);
}

static void cancel_reaches_a_waiting_job(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[2] = {{.model = &model}, {.model = &model}};
    stub_plan plans[2] = {{.steps = 1, .gate = &gate}, {.steps = UINT32_MAX}};
    dw_job first = make_job(&sessions[0], &plans[0]), second = make_job(&sessions[1], &plans[1]);
    dw_engine *engine = make_engine();
    assert_int_equal(dw_engine_submit(engine, &first, NULL), DW_OK);
    assert_int_equal(dw_engine_submit(engine, &second, NULL), DW_OK);
    dw_engine_cancel(engine, &second);
    atomic_store(&gate, true);
    wait_done(&plans[0]);
    wait_done(&plans[1]);
    assert_int_equal(first.status, DW_OK);
    assert_int_equal(second.status, DW_E_CANCELLED);
    assert_int_equal(atomic_load(&plans[1].stepped), 0);
    dw_engine_destroy(engine);
}

/* While a higher class is always busy, those who wait below it have a step now and then; a cancelled one waits for none. */
static void a_cancelled_job_ends_with_the_step_under_way_whoever_goes_first(void **state) {
    (void)state;
    enum { N = 100 }; /* more than end at a time */
    _Atomic bool gate = false;
    static dw_session sessions[N + 1];
    static stub_plan plans[N + 1];
    static dw_job jobs[N + 1];
    dw_engine *engine = make_engine();
    for (int i = 0; i <= N; i++) {
        sessions[i] = (dw_session){.model = &model};
        plans[i] = (stub_plan){.steps = UINT32_MAX, .gate = i == 0 ? &gate : NULL, .priority = i == 0 ? DW_PRIORITY_REALTIME : DW_PRIORITY_BACKGROUND};
        jobs[i] = make_job(&sessions[i], &plans[i]);
        assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
        while (i == 0 && atomic_load(&plans[0].entered) == 0) {}
    }
    for (int i = 1; i <= N; i++) dw_engine_cancel(engine, &jobs[i]);
    atomic_store(&gate, true);
    for (int i = 1; i <= N; i++) {
        wait_done(&plans[i]);
        assert_int_equal(jobs[i].status, DW_E_CANCELLED);
        assert_int_equal(atomic_load(&plans[i].stepped), 0);
    }
    dw_engine_cancel(engine, &jobs[0]);
    wait_done(&plans[0]);
    dw_engine_destroy(engine);
}

static void refusals_are_returned_and_on_done_stays_silent(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_model other = {(dw_device *)&devices[1]};
    dw_session session = {.model = &model}, foreign = {.model = &other};
    stub_plan running = {.steps = 1, .gate = &gate}, refused = {.steps = 1};
    dw_job first = make_job(&session, &running), second = make_job(&session, &refused), third = make_job(&foreign, &refused);
    dw_job without = make_job(NULL, &refused);
    dw_engine *engine = make_engine();
    dw_error err = {0};
    assert_int_equal(dw_engine_submit(engine, &first, &err), DW_OK);
    assert_int_equal(dw_engine_submit(engine, &second, &err), DW_E_BUSY);
    assert_int_equal(dw_engine_submit(engine, &third, &err), DW_E_MISMATCH);
    assert_int_equal(dw_engine_submit(engine, &without, &err), DW_E_INVALID);
    assert_int_equal(dw_engine_submit(engine, &first, &err), DW_E_BUSY);
    assert_int_equal(atomic_load(&running.begun), 1);
    atomic_store(&gate, true);
    wait_done(&running);
    dw_engine_destroy(engine);
    assert_int_equal(first.status, DW_OK);
    assert_int_equal(atomic_load(&running.done), 1);
    assert_int_equal(atomic_load(&refused.done) + atomic_load(&refused.begun) + atomic_load(&refused.stepped), 0);
}

static void destroy_cancels_what_is_left_each_once(void **state) {
    (void)state;
    enum { N = 20 };
    _Atomic bool never = false;
    dw_session sessions[N];
    stub_plan plans[N];
    dw_job jobs[N];
    dw_engine *engine = make_engine();
    for (int i = 0; i < N; i++) {
        sessions[i] = (dw_session){.model = &model};
        plans[i] = (stub_plan){.steps = UINT32_MAX, .gate = i == 0 ? &never : NULL};
        jobs[i] = make_job(&sessions[i], &plans[i]);
        assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    }
    dw_engine_destroy(engine);
    for (int i = 0; i < N; i++) {
        assert_int_equal(jobs[i].status, DW_E_CANCELLED);
        assert_int_equal(atomic_load(&plans[i].ended), 1);
        assert_int_equal(atomic_load(&plans[i].done), 1);
        assert_false(atomic_load(&sessions[i].busy));
    }
    dw_engine_destroy(NULL);
}

/* --- batches and classes ------------------------------------------------------------------------------------------- */

static void what_may_go_together_is_stepped_together(void **state) {
    (void)state;
    enum { N = 5 };
    _Atomic bool gate = false;
    dw_session sessions[N + 1];
    stub_plan plans[N + 1];
    dw_job jobs[N + 1];
    dw_engine *engine = make_engine();
    for (int i = 0; i <= N; i++) {
        sessions[i] = (dw_session){.model = &model};
        plans[i] = (stub_plan){.steps = i == 0 ? 1 : 3, .gate = i == 0 ? &gate : NULL, .group = i == 0 ? DW_STEP_ALONE : DW_STEP_SINGLE};
        jobs[i] = make_job(&sessions[i], &plans[i]);
        assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    }
    atomic_store(&gate, true); /* all are there by now */
    for (int i = 0; i <= N; i++) wait_done(&plans[i]);
    dw_engine_counts counts = dw_engine_counts_now(engine);
    dw_engine_destroy(engine);
    assert_int_equal(counts.parts_most, N);
    assert_int_equal(counts.steps, 1 + 3);
    assert_int_equal(counts.parts, 1 + 3 * N);
}

static void a_higher_class_has_the_step_under_way_given_up(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[2] = {{.model = &model}, {.model = &model}};
    stub_plan slow = {.steps = 1, .gate = &gate, .name = 's', .group = DW_STEP_PREFILL}, quick = {.steps = 1, .name = 'q', .priority = DW_PRIORITY_REALTIME};
    dw_job prefill = make_job(&sessions[0], &slow), short_one = make_job(&sessions[1], &quick);
    dw_engine *engine = make_engine();
    assert_int_equal(dw_engine_submit(engine, &prefill, NULL), DW_OK);
    while (atomic_load(&slow.entered) == 0) {}
    assert_int_equal(dw_engine_submit(engine, &short_one, NULL), DW_OK);
    wait_done(&quick); /* the gate is still closed */
    assert_int_equal(atomic_load(&slow.stepped), 0);
    atomic_store(&gate, true);
    wait_done(&slow);
    assert_int_equal(dw_engine_counts_now(engine).given_up, 1);
    dw_engine_destroy(engine);
    assert_int_equal(prefill.status, DW_OK);
    assert_memory_equal(stub_trace, "qs", 2);
}

static void what_was_given_up_once_runs_to_its_end_the_next_time(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[3] = {{.model = &model}, {.model = &model}, {.model = &model}};
    stub_plan slow = {.steps = 1, .gate = &gate, .name = 's', .group = DW_STEP_PREFILL};
    stub_plan quick[2] = {{.steps = 1, .name = 'a', .priority = DW_PRIORITY_REALTIME}, {.steps = 1, .name = 'b', .priority = DW_PRIORITY_REALTIME}};
    dw_job prefill = make_job(&sessions[0], &slow), short_ones[2] = {make_job(&sessions[1], &quick[0]), make_job(&sessions[2], &quick[1])};
    dw_engine *engine = make_engine();
    assert_int_equal(dw_engine_submit(engine, &prefill, NULL), DW_OK);
    while (atomic_load(&slow.entered) == 0) {}
    assert_int_equal(dw_engine_submit(engine, &short_ones[0], NULL), DW_OK);
    wait_done(&quick[0]);
    while (atomic_load(&slow.entered) == 1) {}
    assert_int_equal(dw_engine_submit(engine, &short_ones[1], NULL), DW_OK);
    assert_int_equal(atomic_load(&quick[1].entered), 0);
    atomic_store(&gate, true);
    wait_done(&slow);
    wait_done(&quick[1]);
    dw_engine_destroy(engine);
    assert_memory_equal(stub_trace, "asb", 3);
}

/* Two of a class, and somebody of a higher one comes whenever the first of them is stepped: a step that is given up costs no place. */
static void who_was_given_up_is_the_next_of_his_class(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[3] = {{.model = &model}, {.model = &model}, {.model = &model}};
    stub_plan slow[2] = {{.steps = 1, .gate = &gate, .name = 's', .group = DW_STEP_PREFILL}, {.steps = 1, .name = 't', .group = DW_STEP_PREFILL}};
    stub_plan quick = {.steps = 1, .name = 'q', .priority = DW_PRIORITY_REALTIME};
    dw_job first = make_job(&sessions[0], &slow[0]), second = make_job(&sessions[1], &slow[1]), higher = make_job(&sessions[2], &quick);
    dw_engine *engine = make_engine();
    assert_int_equal(dw_engine_submit(engine, &first, NULL), DW_OK);
    while (atomic_load(&slow[0].entered) == 0) {}
    assert_int_equal(dw_engine_submit(engine, &second, NULL), DW_OK);
    assert_int_equal(dw_engine_submit(engine, &higher, NULL), DW_OK);
    wait_done(&quick);
    atomic_store(&gate, true);
    wait_done(&slow[0]);
    wait_done(&slow[1]);
    dw_engine_destroy(engine);
    assert_memory_equal(stub_trace, "qst", 3);
}

/* --- a job belongs to its owner again when on_done is called -------------------------------------------------------- */

static _Atomic uint32_t freed;

static void free_job(dw_job *job) {
    free(job);
    atomic_fetch_add(&freed, 1);
}

static void a_late_cancel_touches_no_finished_job(void **state) {
    (void)state;
    enum { N = 200 };
    dw_session session = {.model = &model};
    stub_plan plan = {.steps = 1};
    dw_engine *engine = make_engine();
    atomic_store(&freed, 0);
    for (uint32_t i = 0; i < N; i++) {
        dw_job *job = calloc(1, sizeof *job);
        assert_non_null(job);
        *job = make_job(&session, &plan);
        job->on_done = free_job;
        const uintptr_t address = (uintptr_t)job;
        assert_int_equal(dw_engine_submit(engine, job, NULL), DW_OK);
        while (atomic_load(&freed) <= i) {}
        dw_engine_cancel(engine, (dw_job *)address); /* the address sanitizer watches */
    }
    dw_engine_destroy(engine);
}

static dw_engine *engine_of_callback;
static dw_job *job_to_cancel;

static void cancel_other(dw_job *job) {
    dw_engine_cancel(engine_of_callback, job_to_cancel);
    count_done(job);
}

static void on_done_may_cancel_another_job(void **state) {
    (void)state;
    _Atomic bool gate = false;
    dw_session sessions[2] = {{.model = &model}, {.model = &model}};
    stub_plan plans[2] = {{.steps = 1, .gate = &gate}, {.steps = UINT32_MAX}};
    dw_job first = make_job(&sessions[0], &plans[0]), second = make_job(&sessions[1], &plans[1]);
    first.on_done = cancel_other;
    engine_of_callback = make_engine();
    job_to_cancel = &second;
    assert_int_equal(dw_engine_submit(engine_of_callback, &first, NULL), DW_OK);
    assert_int_equal(dw_engine_submit(engine_of_callback, &second, NULL), DW_OK);
    atomic_store(&gate, true);
    wait_done(&plans[0]);
    wait_done(&plans[1]);
    assert_int_equal(second.status, DW_E_CANCELLED);
    dw_engine_destroy(engine_of_callback);
}

static void an_engine_that_cannot_start_is_a_failure_not_a_leak(void **state) {
    (void)state;
#ifdef DW_FAULTS
    bool hit = true;
    for (uint64_t k = 1; hit; k++) {
        dw_engine *engine = NULL;
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_THREAD, .k = k, .system_errno = EAGAIN});
        dw_status status = dw_engine_create(device, &engine, NULL);
        (void)dw_fault_disarm(&hit);
        assert_int_equal(status == DW_OK, !hit);
        assert_int_equal(engine != NULL, !hit);
        dw_engine_destroy(engine);
    }
#else
    skip();
#endif
}

/* Every growth of the engine's lists. A submission is refused, and may be repeated; a look around that has no memory
 * steps the first job. */
static void without_memory_a_job_is_refused_or_goes_alone(void **state) {
    (void)state;
#ifdef DW_FAULTS
    enum { JOBS = 40 };
    bool met = true;
    uint64_t k = 1;
    for (; met; k++) {
        _Atomic bool gate = false;
        static dw_session sessions[JOBS];
        static stub_plan plans[JOBS];
        static dw_job jobs[JOBS];
        uint32_t refused = 0;
        dw_vec_fault_arm(k);
        dw_engine *engine = make_engine();
        for (int i = 0; i < JOBS; i++) {
            sessions[i] = (dw_session){.model = &model};
            plans[i] = (stub_plan){.steps = 1, .gate = &gate, .name = 'a'};
            jobs[i] = make_job(&sessions[i], &plans[i]);
            dw_status status;
            while ((status = dw_engine_submit(engine, &jobs[i], NULL)) != DW_OK) {
                assert_int_equal(status, DW_E_NO_MEMORY);
                refused++;
            }
        }
        atomic_store(&gate, true);
        for (int i = 0; i < JOBS; i++) {
            wait_done(&plans[i]);
            assert_int_equal(jobs[i].status, DW_OK);
        }
        dw_engine_destroy(engine);
        met = dw_vec_fault_disarm();
        assert_in_range(refused, 0, met);
    }
    assert_in_range(k, 4, 20);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_are_stepped_in_turn),
        cmocka_unit_test(a_job_that_waits_for_its_vocabulary_holds_nobody_up_and_can_be_cancelled),
        cmocka_unit_test(cancel_ends_the_stepped_job_with_that_step),
        cmocka_unit_test(cancel_reaches_a_waiting_job),
        cmocka_unit_test(a_cancelled_job_ends_with_the_step_under_way_whoever_goes_first),
        cmocka_unit_test(refusals_are_returned_and_on_done_stays_silent),
        cmocka_unit_test(destroy_cancels_what_is_left_each_once),
        cmocka_unit_test(what_may_go_together_is_stepped_together),
        cmocka_unit_test(a_higher_class_has_the_step_under_way_given_up),
        cmocka_unit_test(what_was_given_up_once_runs_to_its_end_the_next_time),
        cmocka_unit_test(who_was_given_up_is_the_next_of_his_class),
        cmocka_unit_test(a_late_cancel_touches_no_finished_job),
        cmocka_unit_test(on_done_may_cancel_another_job),
        cmocka_unit_test(an_engine_that_cannot_start_is_a_failure_not_a_leak),
        cmocka_unit_test(without_memory_a_job_is_refused_or_goes_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

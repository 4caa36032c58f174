/* park_test.c: a turn's waiting, and how it ends (park.h). Nothing here depends on how long something takes: whoever
 * must be waiting has said so under the lock, and a wait that never ends is the test's own time limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdatomic.h>
#include <stdint.h>
#include <cmocka.h>
#include "os/os.h"
#include "park/park.h"

static dw_error err;

#define assert_ok(call) assert_int_equal((call), DW_OK)

static dw_park *make_park(void) {
    dw_park *park = NULL;
    assert_ok(dw_park_create(&park, &err));
    return park;
}

/* --- asking a turn to end ------------------------------------------------------------------------------------ */

static void a_stop_that_comes_late_does_not_hit_the_next_turn(void **state) {
    (void)state;
    dw_park *park = make_park();
    uint64_t first = dw_park_turn(park);
    dw_park_begin(park, UINT64_MAX);
    assert_int_equal(dw_park_turn(park), first);
    assert_false(dw_park_end(park));
    assert_int_equal(dw_park_stop(park, first), DW_E_NOT_FOUND);
    assert_int_equal(dw_park_interrupt(park, first), DW_E_NOT_FOUND);
    dw_park_begin(park, UINT64_MAX);
    assert_false(dw_park_stopped(park) || dw_park_interrupted(park));
    assert_ok(dw_park_ending(park));
    assert_false(dw_park_end(park));
    dw_park_destroy(park);
}

static void a_turn_can_be_stopped_before_it_begins(void **state) {
    (void)state;
    dw_park *park = make_park();
    uint64_t next = dw_park_turn(park);
    assert_int_equal(dw_park_stop(park, next + 1), DW_E_NOT_FOUND);
    assert_ok(dw_park_stop(park, next));
    dw_park_begin(park, UINT64_MAX);
    assert_int_equal(dw_park_ending(park), DW_E_CANCELLED);
    assert_true(dw_park_interrupted(park));
    assert_true(dw_park_end(park));
    dw_park_begin(park, UINT64_MAX);
    assert_ok(dw_park_ending(park));
    assert_false(dw_park_end(park));
    dw_park_destroy(park);
}

static void an_interrupt_does_not_end_the_turn(void **state) {
    (void)state;
    dw_park *park = make_park();
    dw_park_begin(park, UINT64_MAX);
    assert_ok(dw_park_interrupt(park, dw_park_turn(park)));
    assert_true(dw_park_interrupted(park));
    assert_ok(dw_park_ending(park));
    assert_false(dw_park_end(park));
    assert_false(dw_park_interrupted(park));
    dw_park_destroy(park);
}

static void a_deadline_that_has_passed_ends_the_turn(void **state) {
    (void)state;
    dw_park *park = make_park();
    dw_park_begin(park, 1);
    assert_int_equal(dw_park_ending(park), DW_E_DEADLINE);
    assert_ok(dw_park_stop(park, dw_park_turn(park))); /* what was asked for goes first */
    assert_int_equal(dw_park_ending(park), DW_E_CANCELLED);
    assert_true(dw_park_end(park));
    dw_park_destroy(park);
}

static void count_cut(void *context) { ++*(int *)context; }

static void a_stop_cuts_guest_code_while_it_runs_and_only_then(void **state) {
    (void)state;
    int cuts = 0;
    dw_park *park = make_park();
    dw_park_begin(park, UINT64_MAX);
    dw_park_cut_with(park, count_cut, &cuts);
    assert_ok(dw_park_interrupt(park, dw_park_turn(park)));
    assert_int_equal(cuts, 0);
    assert_ok(dw_park_stop(park, dw_park_turn(park)));
    assert_int_equal(cuts, 1);
    dw_park_cut_with(park, NULL, NULL);
    assert_ok(dw_park_stop(park, dw_park_turn(park)));
    assert_int_equal(cuts, 1);
    dw_park_cut_with(park, count_cut, &cuts); /* code that begins when the turn is stopped already */
    assert_int_equal(cuts, 2);
    dw_park_cut_with(park, NULL, NULL);
    assert_true(dw_park_end(park));
    dw_park_destroy(park);
}

/* --- threads that wait --------------------------------------------------------------------------------------- */

typedef struct waiting {
    dw_os_thread *thread;
    dw_park *park;       /* NULL: runs no turn */
    dw_gate *gate;
    bool *free_flag;     /* under the gate's lock */
    atomic_int *order;   /* counts those who passed */
    _Atomic bool there;  /* it has looked once, under the gate's lock, and goes to sleep */
    dw_status status;
    int place;
    bool keeps;          /* does not free it again */
} waiting;

static bool take_flag(void *context) {
    waiting *w = context;
    atomic_store(&w->there, true);
    if (!*w->free_flag) return false;
    *w->free_flag = false;
    return true;
}

static void wait_at_gate(void *argument) {
    waiting *w = argument;
    dw_gate_lock(w->gate);
    w->status = dw_gate_wait(w->gate, w->park, take_flag, w);
    if (w->status == DW_OK) {
        w->place = atomic_fetch_add(w->order, 1) + 1;
        *w->free_flag = !w->keeps;
        dw_gate_wake(w->gate);
    }
    dw_gate_unlock(w->gate);
}

static void start_waiting(waiting *w) {
    assert_ok(dw_os_thread_create("waiting", 0, wait_at_gate, w, &w->thread, &err));
}

/* The gate's lock is free only while those who looked sleep. */
static void until_there(waiting *w) {
    for (;;) {
        dw_gate_lock(w->gate);
        bool there = atomic_load(&w->there);
        dw_gate_unlock(w->gate);
        if (there) return;
    }
}

static void a_stop_reaches_a_turn_that_waits_at_a_gate(void **state) {
    (void)state;
    bool free_flag = false;
    atomic_int order = 0;
    dw_gate *gate = NULL;
    assert_ok(dw_gate_create(&gate, &err));
    waiting w = {.park = make_park(), .gate = gate, .free_flag = &free_flag, .order = &order};
    dw_park_begin(w.park, UINT64_MAX);
    start_waiting(&w);
    until_there(&w);
    assert_ok(dw_park_interrupt(w.park, dw_park_turn(w.park))); /* wakes it, and it waits on */
    assert_ok(dw_park_stop(w.park, dw_park_turn(w.park)));
    dw_os_thread_join(w.thread);
    assert_int_equal(w.status, DW_E_CANCELLED);
    assert_true(dw_park_end(w.park));
    dw_park_destroy(w.park);
    dw_gate_destroy(gate);
}

static void a_deadline_reaches_a_turn_that_waits_at_a_gate(void **state) {
    (void)state;
    bool free_flag = false;
    atomic_int order = 0;
    dw_gate *gate = NULL;
    assert_ok(dw_gate_create(&gate, &err));
    waiting w = {.park = make_park(), .gate = gate, .free_flag = &free_flag, .order = &order};
    dw_park_begin(w.park, dw_os_monotonic_ns() + 1000000);
    start_waiting(&w);
    dw_os_thread_join(w.thread);
    assert_int_equal(w.status, DW_E_DEADLINE);
    assert_false(dw_park_end(w.park));
    dw_park_destroy(w.park);
    dw_gate_destroy(gate);
}

/* Some with a turn and some without; the second gives up and those behind it still come. */
static void those_who_wait_at_a_gate_pass_one_by_one(void **state) {
    enum { N = 6 };
    (void)state;
    bool free_flag = false;
    atomic_int order = 0;
    dw_gate *gate = NULL;
    waiting w[N];
    assert_ok(dw_gate_create(&gate, &err));
    for (int i = 0; i < N; i++) {
        w[i] =
            (waiting){.park = i % 3 == 2 ? NULL : make_park(), .gate = gate, .free_flag = &free_flag, .order = &order};
        if (w[i].park) dw_park_begin(w[i].park, UINT64_MAX);
        start_waiting(&w[i]);
        if (i == 0) until_there(&w[0]);
    }
    assert_ok(dw_park_stop(w[1].park, dw_park_turn(w[1].park)));
    dw_os_thread_join(w[1].thread);
    assert_int_equal(w[1].status, DW_E_CANCELLED);
    dw_gate_lock(gate);
    free_flag = true;
    dw_gate_wake(gate);
    dw_gate_unlock(gate);
    int places = 0;
    for (int i = 0; i < N; i++) {
        if (i != 1) dw_os_thread_join(w[i].thread);
        if (i != 1) assert_ok(w[i].status);
        places |= i == 1 ? 0 : 1 << w[i].place;
        if (w[i].park) (void)dw_park_end(w[i].park);
        dw_park_destroy(w[i].park);
    }
    assert_int_equal(w[0].place, 1);
    assert_int_equal(places, 0x3e);
    assert_true(free_flag);
    dw_gate_destroy(gate);
}

static void what_is_taken_by_one_is_not_given_to_another(void **state) {
    enum { N = 4 };
    (void)state;
    bool free_flag = true;
    atomic_int order = 0;
    dw_gate *gate = NULL;
    waiting w[N];
    assert_ok(dw_gate_create(&gate, &err));
    for (int i = 0; i < N; i++) {
        w[i] = (waiting){.park = make_park(), .gate = gate, .free_flag = &free_flag, .order = &order, .keeps = true};
        dw_park_begin(w[i].park, UINT64_MAX);
        start_waiting(&w[i]);
    }
    int passed = 0;
    while (atomic_load(&order) == 0) {}
    for (int i = 0; i < N; i++) (void)!dw_park_stop(w[i].park, dw_park_turn(w[i].park));
    for (int i = 0; i < N; i++) {
        dw_os_thread_join(w[i].thread);
        passed += w[i].status == DW_OK;
        (void)dw_park_end(w[i].park);
        dw_park_destroy(w[i].park);
    }
    assert_int_equal(passed, 1);
    dw_gate_destroy(gate);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stop_that_comes_late_does_not_hit_the_next_turn),
        cmocka_unit_test(a_turn_can_be_stopped_before_it_begins),
        cmocka_unit_test(an_interrupt_does_not_end_the_turn),
        cmocka_unit_test(a_deadline_that_has_passed_ends_the_turn),
        cmocka_unit_test(a_stop_cuts_guest_code_while_it_runs_and_only_then),
        cmocka_unit_test(a_stop_reaches_a_turn_that_waits_at_a_gate),
        cmocka_unit_test(a_deadline_reaches_a_turn_that_waits_at_a_gate),
        cmocka_unit_test(those_who_wait_at_a_gate_pass_one_by_one),
        cmocka_unit_test(what_is_taken_by_one_is_not_given_to_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

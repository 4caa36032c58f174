/* hostile_test.c: a guest doing its worst harms only itself. After each of these another instance still works, and so does the
 * process, which is the point. */
#include "wasm/fixture.h"

#include <stdatomic.h>

static const char *const neighbour_wat =
    "(module (memory 1) (func (export \"driftwood_receive\") (result i32)"
    " (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (i32.load (i32.const 0))))";

static dw_program *neighbour_program;
static dw_instance *neighbour;
static int32_t neighbour_calls;

static void assert_neighbour_works(void) {
    dw_call_result result;
    assert_ok(dw_instance_receive(neighbour, UINT64_MAX, &result, err));
    assert_int_equal(result.value, ++neighbour_calls);
}

static int set_up(void **state) {
    (void)state;
    neighbour_program = test_program(neighbour_wat);
    neighbour = test_instance(neighbour_program);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    dw_instance_destroy(neighbour);
    dw_program_release(neighbour_program);
    return 0;
}

/* Runs the export "f" of a module once and returns how it ended; the text is in *err. */
static dw_status run_once(const char *wat, uint64_t deadline_ns, dw_call_result *result, dw_error *err) {
    dw_program *program = test_program(wat);
    dw_instance *instance = test_instance(program);
    dw_status status = dw_instance_call(instance, "f", deadline_ns, result, err);
    dw_instance_destroy(instance);
    dw_program_release(program);
    return status;
}

typedef struct trap { const char *code, *text; } trap;

static void every_kind_of_trap_ends_the_call_with_its_name(void **state) {
    (void)state;
    static const trap traps[] = {
        {"(unreachable)", "unreachable code (abort) in boom"},
        {"(drop (i32.load (i32.const -4)))", "memory access out of bounds"},
        {"(i32.store (i32.const 65536) (i32.const 1))", "memory access out of bounds"},
        {"(drop (i64.load offset=0xffffffff (i32.const -1)))", "memory access out of bounds"},
        {"(memory.fill (i32.const 65530) (i32.const 1) (i32.const 7))", "memory access out of bounds"},
        {"(memory.init $emptied (i32.const 0) (i32.const 0) (i32.const 1))", "memory access out of bounds"},
        {"(drop (i32.div_u (i32.const 1) (i32.load (i32.const 0))))", "integer division by zero"},
        {"(drop (i32.div_s (i32.const -0x80000000) (i32.sub (i32.load (i32.const 0)) (i32.const 1))))", "integer overflow"},
        {"(drop (i32.trunc_f32_s (f32.const nan)))", "float is no integer"},
        {"(call_indirect (i32.const 1))", "indirect call of a null function"},
        {"(call_indirect (i32.const 9))", "table access out of bounds"},
        {"(drop (call_indirect (result i32) (i32.const 0)))", "indirect call with a wrong signature"},
        {"(call $deep)", "stack overflow"},
    };
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++) {
        char wat[1024];
        dw_call_result result;
        dw_error err = {0};
        snprintf(wat, sizeof wat,
                 "(module (memory 1) (table 2 funcref) (elem (i32.const 0) $deep) (data $emptied (i32.const 40) \"x\")"
                 " (func $deep (call $deep) (call $deep)) (func $boom (export \"f\") %s))", traps[i].code);
        dw_status status = run_once(wat, UINT64_MAX, &result, &err);
        if (status != DW_E_TRAP || !strstr(err.text, traps[i].text)) fail_msg("%s: %s: %s", traps[i].code, dw_status_name(status), err.text);
        assert_neighbour_works();
    }
}

static const char *const endless_wat = "(module (memory 1) (func (export \"f\") (loop $l (br $l))) (func (export \"g\")))";

static void an_endless_loop_ends_at_its_deadline(void **state) {
    (void)state;
    dw_call_result result;
    dw_error err = {0};
    uint64_t deadline = dw_os_monotonic_ns() + 20 * 1000000;
    assert_int_equal(run_once(endless_wat, deadline, &result, &err), DW_E_DEADLINE);
    assert_true(dw_os_monotonic_ns() >= deadline);
    assert_neighbour_works();
}

static void endless_recursion_without_a_loop_ends_at_its_deadline(void **state) {
    (void)state;
    dw_call_result result;
    dw_error err = {0};
    /* Every function entry is a place to stop, too: a tail call takes no stack. */
    assert_int_equal(run_once("(module (memory 1) (func $f (export \"f\") (return_call $f)))", dw_os_monotonic_ns() + 20 * 1000000, &result, &err),
                     DW_E_DEADLINE);
    assert_neighbour_works();
}

typedef struct interrupter { dw_instance *instance; } interrupter;

static void interrupt_later(void *argument) {
    uint64_t until = dw_os_monotonic_ns() + 10 * 1000000;
    while (dw_os_monotonic_ns() < until) {}
    dw_instance_interrupt(((interrupter *)argument)->instance);
}

static void an_endless_loop_ends_when_it_is_interrupted(void **state) {
    (void)state;
    dw_program *program = test_program(endless_wat);
    interrupter i = {.instance = test_instance(program)};
    dw_os_thread *thread = NULL;
    dw_call_result result;
    assert_ok(dw_os_thread_create("interrupter", 1 << 20, interrupt_later, &i, &thread, err));
    assert_int_equal(dw_instance_call(i.instance, "f", UINT64_MAX, &result, NULL), DW_E_CANCELLED);
    dw_os_thread_join(thread);
    assert_false(dw_instance_interrupted(i.instance));
    assert_neighbour_works();
    dw_instance_destroy(i.instance);
    dw_program_release(program);
}

static void an_interruption_between_calls_ends_the_next_one_only(void **state) {
    (void)state;
    dw_program *program = test_program(endless_wat);
    dw_instance *instance = test_instance(program);
    dw_call_result result;
    dw_instance_interrupt(instance);
    assert_int_equal(dw_instance_call(instance, "g", UINT64_MAX, &result, NULL), DW_E_CANCELLED);
    /* It had not begun, so the memory is whole and the instance goes on. */
    assert_ok(dw_instance_call(instance, "g", UINT64_MAX, &result, err));
    assert_int_equal(dw_instance_call(instance, "g", 1, &result, NULL), DW_E_DEADLINE);
    assert_ok(dw_instance_call(instance, "g", UINT64_MAX, &result, err));
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void an_instance_whose_call_did_not_return_refuses_further_calls(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 1) (func (export \"f\") (unreachable)) (func (export \"g\")))");
    dw_instance *instance = test_instance(program);
    dw_call_result result;
    assert_ok(dw_instance_call(instance, "g", UINT64_MAX, &result, err));
    assert_int_equal(dw_instance_call(instance, "f", UINT64_MAX, &result, NULL), DW_E_TRAP);
    assert_int_equal(dw_instance_call(instance, "g", UINT64_MAX, &result, NULL), DW_E_STATE);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void growing_to_the_end_stops_at_the_limit_and_harms_nobody(void **state) {
    (void)state;
    dw_call_result result;
    /* Writes to each last page too, so that it is there. 65535 pages are the limit: 1 at the start, 65534 grown. */
    assert_ok(run_once("(module (memory 1) (func (export \"f\") (result i32) (local $n i32)"
                       " (loop $l (if (i32.ne (memory.grow (i32.const 1)) (i32.const -1)) (then"
                       "   (local.set $n (i32.add (local.get $n) (i32.const 1)))"
                       "   (if (i32.eqz (i32.and (local.get $n) (i32.const 1023)))"
                       "     (then (i32.store (i32.shl (local.get $n) (i32.const 16)) (local.get $n))))"
                       "   (br $l)))) (local.get $n)))", UINT64_MAX, &result, err));
    assert_int_equal(result.value, 65534);
    assert_ok(run_once("(module (memory 1) (func (export \"f\") (result i32) (memory.grow (i32.const -1))))", UINT64_MAX, &result, err));
    assert_int_equal(result.value, -1);
    assert_neighbour_works();
}

static void an_instance_has_its_own_lower_limit_of_memory(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 2 100) (func (export \"f\") (result i32) (memory.grow (i32.const 1))))");
    dw_instance_options options = test_options();
    dw_instance *instance = NULL;
    dw_call_result result;
    options.memory_bytes_max = 3 * DW_WASM_PAGE_BYTES;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    assert_ok(dw_instance_call(instance, "f", UINT64_MAX, &result, err));
    assert_int_equal(result.value, 2);
    assert_ok(dw_instance_call(instance, "f", UINT64_MAX, &result, err));
    assert_int_equal(result.value, -1);
    dw_instance_destroy(instance);
    options.memory_bytes_max = DW_WASM_PAGE_BYTES;
    assert_int_equal(dw_instance_create(program, &options, &instance, NULL), DW_E_LIMIT);
    dw_program_release(program);
}

static void proc_exit_ends_the_call_with_its_code(void **state) {
    (void)state;
    dw_call_result result;
    dw_error err = {0};
    static const char *const wat =
        "(module (import \"wasi_snapshot_preview1\" \"%s\" (func $end (param i32)%s)) (memory 1)"
        " (func (export \"f\") (result i32) (call $end (i32.const %d))%s (i32.const 5)))";
    char text[512];
    snprintf(text, sizeof text, wat, "proc_exit", "", 300, "");
    assert_int_equal(run_once(text, UINT64_MAX, &result, &err), DW_E_EXIT);
    assert_int_equal(result.exit_code, 300);
    snprintf(text, sizeof text, wat, "proc_raise", "(result i32)", 6, "(drop)");
    assert_int_equal(run_once(text, UINT64_MAX, &result, &err), DW_E_EXIT);
    assert_int_equal(result.exit_code, 134);
    assert_neighbour_works();
}

/* Instantiation runs code of its own for such globals and segments, and that code looks at the clock, too. */
static void instances_are_made_whatever_the_clock_shows(void **state) {
    (void)state;
    dw_call_result result;
    assert_int_equal(run_once(endless_wat, dw_os_monotonic_ns() + 10 * 1000000, &result, NULL), DW_E_DEADLINE); /* some ticks */
    dw_program *program = test_program(
        "(module (memory 1) (global $a i32 (i32.const 4)) (global (mut i32) (i32.mul (global.get $a) (i32.const 3)))"
        " (table 4 funcref) (func $f) (elem (i32.sub (global.get $a) (i32.const 2)) $f $f) (func (export \"f\") (call_indirect (i32.const 3))))");
    dw_instance *instance = test_instance(program);
    dw_value global;
    assert_ok(dw_instance_globals(instance, &global, 1, err));
    assert_int_equal(global.bits[0], 12);
    assert_ok(dw_instance_call(instance, "f", UINT64_MAX, &result, err));
    dw_instance_destroy(instance);
    dw_program_release(program);
}

/* --- the door ---------------------------------------------------------------------------------------------------- */

typedef struct door { uint32_t seen[5]; int64_t deadline; dw_status stop; dw_instance *instance; dw_status inner; uint32_t calls; } door;

static int32_t on_enter(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests, uint32_t completions, uint32_t capacity,
                        uint32_t wait, int64_t deadline_ns, dw_status *stop) {
    door *d = context;
    dw_call_result result;
    const uint32_t seen[5] = {requests, n_requests, completions, capacity, wait};
    memcpy(d->seen, seen, sizeof seen);
    d->deadline = deadline_ns;
    d->calls++;
    *stop = d->stop;
    if (d->instance) d->inner = dw_instance_call(d->instance, "f", UINT64_MAX, &result, NULL);
    return dw_guest_size(memory) == DW_WASM_PAGE_BYTES ? -77 : 0;
}

static const char *const door_wat =
    "(module (import \"driftwood\" \"enter\" (func $enter (param i32 i32 i32 i32 i32 i64) (result i32))) (memory 1)"
    " (func (export \"f\") (result i32)"
    "  (call $enter (i32.const -1) (i32.const 2) (i32.const 3) (i32.const 4) (i32.const 5) (i64.const -6))))";

static void the_door_gets_what_the_guest_said_and_can_stop_it(void **state) {
    (void)state;
    dw_program *program = test_program(door_wat);
    door d = {.stop = DW_OK};
    dw_instance_options options = test_options();
    dw_instance *instance = NULL;
    dw_call_result result;
    assert_true(dw_program_info_view(program)->imports_enter);
    options.enter = on_enter;
    options.enter_context = &d;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    d.instance = instance; /* a call into the instance that is calling must be refused, not run */
    assert_ok(dw_instance_call(instance, "f", UINT64_MAX, &result, err));
    assert_int_equal(result.value, -77);
    assert_int_equal(d.inner, DW_E_STATE);
    const uint32_t expected[5] = {UINT32_MAX, 2, 3, 4, 5};
    assert_memory_equal(d.seen, expected, sizeof expected);
    assert_true(d.deadline == -6);
    d.instance = NULL;
    d.stop = DW_E_FULL;
    assert_int_equal(dw_instance_call(instance, "f", UINT64_MAX, &result, NULL), DW_E_FULL);
    dw_instance_destroy(instance);
    dw_program_release(program);
    assert_neighbour_works();
}

static void a_door_that_is_not_there_says_unsupported(void **state) {
    (void)state;
    dw_call_result result;
    assert_ok(run_once(door_wat, UINT64_MAX, &result, err));
    assert_int_equal(result.value, DW_E_UNSUPPORTED);
}

/* --- several threads ---------------------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 30 };
typedef struct worker { dw_program *program; dw_os_thread *thread; int wrong; } worker;

static void work(void *argument) {
    worker *w = argument;
    for (int i = 0; i < ROUNDS; i++) {
        dw_instance *instance = NULL;
        dw_instance_options options = test_options();
        dw_call_result result = {0};
        if (dw_instance_create(w->program, &options, &instance, NULL) != DW_OK) { w->wrong++; continue; }
        dw_status trapped = dw_instance_call(instance, i % 2 ? "trap" : "deep", UINT64_MAX, &result, NULL);
        if (trapped != DW_E_TRAP) w->wrong++;
        dw_instance_destroy(instance);
    }
}

static void guests_on_several_threads_trap_independently(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 1) (func (export \"trap\") (drop (i32.load (i32.const -1))))"
                                       " (func $deep (export \"deep\") (call $deep) (call $deep)))");
    worker workers[THREADS] = {0};
    for (int i = 0; i < THREADS; i++) {
        workers[i].program = program;
        assert_ok(dw_os_thread_create("worker", DW_WORKER_STACK_BYTES, work, &workers[i], &workers[i].thread, err));
    }
    for (int i = 0; i < THREADS; i++) {
        dw_os_thread_join(workers[i].thread);
        assert_int_equal(workers[i].wrong, 0);
    }
    dw_program_release(program);
    assert_neighbour_works();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_of_trap_ends_the_call_with_its_name),
        cmocka_unit_test(an_endless_loop_ends_at_its_deadline),
        cmocka_unit_test(endless_recursion_without_a_loop_ends_at_its_deadline),
        cmocka_unit_test(an_endless_loop_ends_when_it_is_interrupted),
        cmocka_unit_test(an_interruption_between_calls_ends_the_next_one_only),
        cmocka_unit_test(an_instance_whose_call_did_not_return_refuses_further_calls),
        cmocka_unit_test(growing_to_the_end_stops_at_the_limit_and_harms_nobody),
        cmocka_unit_test(an_instance_has_its_own_lower_limit_of_memory),
        cmocka_unit_test(proc_exit_ends_the_call_with_its_code),
        cmocka_unit_test(instances_are_made_whatever_the_clock_shows),
        cmocka_unit_test(the_door_gets_what_the_guest_said_and_can_stop_it),
        cmocka_unit_test(a_door_that_is_not_there_says_unsupported),
        cmocka_unit_test(guests_on_several_threads_trap_independently),
    };
    int failed = cmocka_run_group_tests(tests, set_up, tear_down);
    test_engine_end();
    return failed;
}

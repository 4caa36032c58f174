/* advice_test.c: modules whose linking makes them something other than their author meant: refused where that is
 * certain, and else with a word to the user. Written as text, and made by the linker of this machine. */
#include "wasm/fixture.h"

#include "wasm/prepare.h"

#define ACTOR "(func $r (export \"driftwood_receive\") (result i32) (i32.const 0))"
/* What LLVM begins a function with that takes room on the stack. */
#define FRAME                                                                                                          \
    "(func (local i32) (global.get 0) (i32.const 16) (i32.sub) (local.tee 0) (global.set 0) (i32.store8 (local.get "   \
    "0) (i32.const 1)))"

static uint32_t advice_of(const char *wat) {
    dw_program *program = test_program(wat);
    uint32_t advice = dw_program_info_view(program)->advice;
    dw_program_release(program);
    return advice;
}

/* Without compiling it. */
static uint32_t advice_of_guest(const char *name) {
    test_bytes wasm = test_guest(name);
    dw_prepared prepared;
    if (!wasm.data && strcmp(name, "wasm_gopher") == 0) return 0; /* no Go here */
    assert_non_null(wasm.data);
    assert_ok(dw_prepare(wasm.data, wasm.size, &prepared, err));
    uint32_t advice = prepared.advice;
    dw_prepared_deinit(&prepared);
    free(wasm.data);
    return advice;
}

static void expect_wat_refused(const char *wat, dw_status status, const char *reason) {
    test_bytes wasm = test_wat(wat);
    test_refused(wasm.data, wasm.size, status, reason);
    free(wasm.data);
}

/* --- the stack --------------------------------------------------------------------------------------------------- */

static void a_stack_above_the_data_is_told(void **state) {
    (void)state;
    static const char *const above[] = {
        /* by name, by export, and by its use where there are no names */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $__stack_pointer (mut i32) (i32.const "
        "66576)) " ACTOR ")",
        "(module (memory 2) (data (i32.const 1024) \"data\") (global (export \"__stack_pointer\") (mut i32) (i32.const "
        "66576)) " ACTOR ")",
        "(module (memory 2) (data (i32.const 1024) \"data\") (global (mut i32) (i32.const 66576)) " FRAME ACTOR ")",
        /* not the first one, and right at the end of the data */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $x (mut i32) (i32.const 7)) (global "
        "$__stack_pointer (mut i32) (i32.const 1028)) " ACTOR ")",
    };
    for (size_t i = 0; i < sizeof above / sizeof above[0]; i++)
        if (advice_of(above[i]) != DW_ADVICE_STACK_ABOVE_DATA) fail_msg("nothing is said about: %s", above[i]);
    assert_non_null(strstr(dw_advice_text(DW_ADVICE_STACK_ABOVE_DATA), "--stack-first"));
}

static void a_stack_that_cannot_reach_the_data_and_what_is_no_stack_are_not(void **state) {
    (void)state;
    static const char *const fine[] = {
        "(module (memory 2) (data (i32.const 65536) \"data\") (global $__stack_pointer (mut i32) (i32.const "
        "65536)) " ACTOR ")",
        "(module (memory 2) (data (i32.const 65536) \"data\") (global (mut i32) (i32.const 65536)) " FRAME ACTOR ")",
        "(module (memory 2) (global $__stack_pointer (mut i32) (i32.const 66576)) " ACTOR
        ")", /* no data that is known */
        "(module (memory 2) (data (i32.const 1024) \"\") (global $__stack_pointer (mut i32) (i32.const 66576)) " ACTOR
        ")",
        "(module (memory 2) (data (i32.const 1024) \"data\") (global (mut i32) (i32.const 66576)) " ACTOR
        ")", /* a number, for all that is known */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $heap (mut i32) (i32.const 66576)) " FRAME ACTOR
        ")", /* named otherwise */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $__stack_pointer i32 (i32.const 66576)) " ACTOR
        ")",
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $__stack_pointer (mut i64) (i64.const "
        "66576)) " ACTOR ")",
        "(module (memory 2) (data (i32.const 1024) \"data\") (global i32 (i32.const 66576)) (global $__stack_pointer "
        "(mut i32) (global.get 0)) " ACTOR ")",
        /* a command's memory ends with it */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $__stack_pointer (mut i32) (i32.const 66576)) "
        "(func (export \"_start\")))",
        /* AssemblyScript's, which checks its stack itself */
        "(module (memory 2) (data (i32.const 1024) \"data\") (global $~lib/memory/__stack_pointer (mut i32) (i32.const "
        "66576)) " ACTOR ")",
    };
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        if (advice_of(fine[i]) != 0) fail_msg("%s is said about: %s", dw_advice_text(advice_of(fine[i])), fine[i]);
}

static void the_linker_s_own_layouts_are_told_apart_with_and_without_names(void **state) {
    (void)state;
    assert_int_equal(advice_of_guest("wasm_frames_first"), 0);
    assert_int_equal(advice_of_guest("wasm_frames_first_bare"), 0);
    assert_int_equal(advice_of_guest("wasm_frames_last"), DW_ADVICE_STACK_ABOVE_DATA);
    assert_int_equal(advice_of_guest("wasm_frames_last_bare"), DW_ADVICE_STACK_ABOVE_DATA);
}

/* How a call of `overflow` ends in a built guest. */
static dw_status overflow(const char *name) {
    test_bytes wasm = test_guest(name);
    dw_program *program = NULL;
    dw_call_result result;
    assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
    dw_instance *instance = test_instance(program);
    assert_ok(dw_instance_initialize(instance, UINT64_MAX, &result, err));
    dw_status status = dw_instance_call(instance, "overflow", UINT64_MAX, &result, NULL);
    assert_true(status != DW_OK || result.value > 1);
    dw_instance_destroy(instance);
    dw_program_release(program);
    free(wasm.data);
    return status;
}

/* The note is true: what overflows below the data traps, and what overflows into it returns as if nothing were. */
static void an_overflow_traps_only_where_the_stack_lies_first(void **state) {
    (void)state;
    assert_int_equal(overflow("wasm_frames_first"), DW_E_TRAP);
    assert_int_equal(overflow("wasm_frames_last"), DW_OK);
}

static void none_of_our_own_programs_needs_advice(void **state) {
    (void)state;
    static const char *const names[] = {"counter",     "chat",        "branch",     "reader",
                                        "gemm",        "sdk_hello",   "sdk_story",  "abi_echo",
                                        "wasm_ledger", "wasm_shapes", "wasm_gopher"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (advice_of_guest(names[i]) != 0) fail_msg("%s: %s", names[i], dw_advice_text(advice_of_guest(names[i])));
}

/* --- wrappers ---------------------------------------------------------------------------------------------------- */

#define RECEIVE "(func $receive (result i32) (i32.const 0)) "

static void a_wrapper_that_runs_constructors_with_each_message_is_refused(void **state) {
    (void)state;
    static const char reason[] = "each message runs all constructors again";
    expect_wat_refused("(module (memory 1) (func $__wasm_call_ctors) " RECEIVE
                       "(func $driftwood_receive.command_export (export \"driftwood_receive\") (result i32)"
                       " (call $__wasm_call_ctors) (call $receive)))",
                       DW_E_UNSUPPORTED, reason);
    expect_wat_refused("(module (memory 1) (func $__wasm_call_ctors) " RECEIVE "(func $__wasm_call_dtors)"
                       "(func $driftwood_receive.command_export (export \"driftwood_receive\") (result i32)"
                       " (call $__wasm_call_ctors) (call $receive) (call $__wasm_call_dtors)))",
                       DW_E_UNSUPPORTED, reason);
    test_bytes wasm = test_guest("wasm_wrapped");
    test_refused(wasm.data, wasm.size, DW_E_UNSUPPORTED, reason);
    test_refused(wasm.data, wasm.size, DW_E_UNSUPPORTED, "-mexec-model=reactor");
    free(wasm.data);
}

static void a_wrapper_that_may_do_so_is_told(void **state) {
    (void)state;
    static const char *const wrapped[] = {
        /* what an optimiser has made one function of */
        "(module (memory 1) (func $driftwood_receive.command_export (export \"driftwood_receive\") (result i32)"
        " (i32.store (i32.const 4) (i32.const 0)) (i32.const 0)))",
        /* without names */
        "(module (memory 1) (func) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") (result i32) "
        "(call 0) (call 1)))",
    };
    for (size_t i = 0; i < sizeof wrapped / sizeof wrapped[0]; i++)
        if (advice_of(wrapped[i]) != DW_ADVICE_WRAPPED) fail_msg("nothing is said about: %s", wrapped[i]);
    assert_int_equal(advice_of_guest("wasm_wrapped_bare"), DW_ADVICE_WRAPPED);
    assert_non_null(strstr(dw_advice_text(DW_ADVICE_WRAPPED), "-mexec-model=reactor"));
    assert_non_null(strstr(dw_advice_text(DW_ADVICE_WRAPPED), "--export=__wasm_call_ctors"));
}

static void wrappers_without_constructors_and_functions_that_call_others_are_fine(void **state) {
    (void)state;
    static const char *const fine[] = {
        /* a wrapper that runs exit functions only: nothing is set back */
        "(module (memory 1) " RECEIVE "(func $__wasm_call_dtors)"
        "(func $driftwood_receive.command_export (export \"driftwood_receive\") (result i32) (call $receive) (call "
        "$__wasm_call_dtors)))",
        "(module (memory 1) (func $set_up) (func $work (result i32) (i32.const 0)) (func $go (export "
        "\"driftwood_receive\") (result i32) (call $set_up) (call $work)))",
        "(module (memory 1) (func) (func) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") "
        "(result i32) (call 1) (call 2)))",
        "(module (memory 1) (func) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") (result i32) "
        "(local i32) (call 0) (call 1)))",
        "(module (memory 1) (func) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") (result i32) "
        "(call 0) (call 1) (nop)))",
        "(module (memory 1) (func) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") (result i32) "
        "(call 0) (call 0) (call 0) (call 1)))",
        "(module (memory 1) (func (result i32) (i32.const 0)) (func (export \"driftwood_receive\") (result i32) (call "
        "0)))",
        "(module (memory 1) (func) (func (export \"other\") (call 0) (call 0)))",
    };
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++)
        if (advice_of(fine[i]) != 0) fail_msg("%s is said about: %s", dw_advice_text(advice_of(fine[i])), fine[i]);
    assert_int_equal(advice_of_guest("wasm_frames_no_entry"), 0);
}

/* What the error says to do instead: both keep the state that constructors made. */
static void both_mends_for_a_wrapped_program_run_its_constructors_once(void **state) {
    (void)state;
    static const char *const names[] = {"wasm_wrapped_reactor", "wasm_wrapped_exported"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        test_bytes wasm = test_guest(names[i]);
        dw_program *program = NULL;
        dw_call_result result;
        assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
        assert_int_equal(dw_program_info_view(program)->advice, 0);
        assert_true(dw_program_info_view(program)->has_initialize);
        dw_instance *instance = test_instance(program);
        assert_ok(dw_instance_initialize(instance, UINT64_MAX, &result, err));
        for (int32_t n = 41; n <= 43; n++) {
            assert_ok(dw_instance_receive(instance, UINT64_MAX, &result, err));
            assert_int_equal(result.value, n);
        }
        dw_instance_destroy(instance);
        dw_program_release(program);
        free(wasm.data);
    }
}

static void initialize_comes_before_constructors_that_are_exported_too(void **state) {
    (void)state;
    dw_call_result result;
    dw_program *program = test_program("(module (memory 1) (global $n (mut i32) (i32.const 0))"
                                       "(func $__wasm_call_ctors (export \"__wasm_call_ctors\") (global.set $n "
                                       "(i32.add (global.get $n) (i32.const 1))))"
                                       "(func (export \"_initialize\") (call $__wasm_call_ctors))"
                                       "(func (export \"driftwood_receive\") (result i32) (global.get $n)))");
    dw_instance *instance = test_instance(program);
    assert_ok(dw_instance_initialize(instance, UINT64_MAX, &result, err));
    assert_ok(dw_instance_receive(instance, UINT64_MAX, &result, err));
    assert_int_equal(result.value, 1);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

/* --- commands ---------------------------------------------------------------------------------------------------- */

static void a_command_that_is_an_actor_too_is_refused(void **state) {
    (void)state;
    expect_wat_refused("(module (memory 1) (func (export \"_start\")) " ACTOR ")", DW_E_INVALID,
                       "_start, with its main and constructors, would never run");
    expect_wat_refused("(module (memory 1) (func (export \"_start\")) (func (export \"_initialize\")) " ACTOR ")",
                       DW_E_INVALID, "-mexec-model=reactor");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stack_above_the_data_is_told),
        cmocka_unit_test(a_stack_that_cannot_reach_the_data_and_what_is_no_stack_are_not),
        cmocka_unit_test(the_linker_s_own_layouts_are_told_apart_with_and_without_names),
        cmocka_unit_test(an_overflow_traps_only_where_the_stack_lies_first),
        cmocka_unit_test(none_of_our_own_programs_needs_advice),
        cmocka_unit_test(a_wrapper_that_runs_constructors_with_each_message_is_refused),
        cmocka_unit_test(a_wrapper_that_may_do_so_is_told),
        cmocka_unit_test(wrappers_without_constructors_and_functions_that_call_others_are_fine),
        cmocka_unit_test(both_mends_for_a_wrapped_program_run_its_constructors_once),
        cmocka_unit_test(initialize_comes_before_constructors_that_are_exported_too),
        cmocka_unit_test(a_command_that_is_an_actor_too_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

/* exceptions_test.c: how a turn ends that makes exceptions (guests/exceptions.wat). That they work, and that they leave
 * nothing behind which an image would need, is restore_test.c's. */
#include "wasm/fixture.h"

static dw_program *program;

static int setup(void **state) {
    (void)state;
    test_bytes wasm = test_guest("wasm_exceptions");
    if (!wasm.data) return 0;
    assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
    free(wasm.data);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    dw_program_release(program);
    test_engine_end();
    return 0;
}

static void need_program(void) {
    if (program) return;
    print_message("skipped: wasm_exceptions.wasm was not built, DW_PYTHON is not set\n");
    skip();
}

static void expect_trap(const char *function, const char *text) {
    dw_instance *instance = test_instance(program);
    dw_call_result result;
    dw_error err = {0};
    assert_int_equal(dw_instance_call(instance, function, UINT64_MAX, &result, &err), DW_E_TRAP);
    if (!strstr(err.text, text)) fail_msg("\"%s\" does not say \"%s\"", err.text, text);
    assert_int_equal(dw_instance_call(instance, function, UINT64_MAX, &result, &err), DW_E_STATE);
    dw_instance_destroy(instance);
}

static int32_t call(dw_instance *instance, const char *function) {
    dw_call_result result;
    assert_ok(dw_instance_call(instance, function, UINT64_MAX, &result, err));
    return result.value;
}

static void an_exception_that_nothing_catches_is_a_trap(void **state) {
    (void)state;
    need_program();
    expect_trap("uncaught", "an exception that nothing caught");
    expect_trap("null", "null reference");
}

/* A guest that catches everything could else not be stopped. */
static void what_the_host_ends_is_nothing_that_a_guest_can_catch(void **state) {
    (void)state;
    need_program();
    dw_call_result result;
    dw_instance *instance = test_instance(program);
    assert_int_equal(dw_instance_call(instance, "exit", UINT64_MAX, &result, NULL), DW_E_EXIT);
    assert_int_equal(result.exit_code, 7);
    dw_instance_destroy(instance);
    instance = test_instance(program);
    uint64_t soon = dw_os_monotonic_ns() + 20000000;
    assert_int_equal(dw_instance_call(instance, "endless", soon, &result, NULL), DW_E_DEADLINE);
    dw_instance_destroy(instance);
}

static void a_million_exceptions_one_after_another_need_no_more_than_one(void **state) {
    (void)state;
    need_program();
    dw_instance *instance = test_instance(program);
    assert_int_equal(call(instance, "many"), 1000000);
    dw_instance_destroy(instance);
}

/* Exceptions are in memory of the host, which a guest cannot fill. */
static void more_exceptions_at_once_than_the_limit_are_a_trap_and_harm_nobody_else(void **state) {
    (void)state;
    need_program();
    dw_instance *other = test_instance(program);
    for (int i = 0; i < 3; i++) {
        expect_trap("hoard", "MiB of exceptions");
        assert_int_equal(call(other, "hoard_some"), 1);
    }
    dw_instance_destroy(other);
}

static bool count_line(void *context, const char *name) {
    (void)name;
    (*(size_t *)context)++;
    return true;
}

/* The heap is made with the instance and ends with it. */
static void the_heap_of_exceptions_ends_with_its_instance(void **state) {
    (void)state;
    need_program();
    dw_instance *instances[8];
    size_t before = 0, after = 0;
    assert_ok(dw_os_list("/proc/self/map_files", count_line, &before, err));
    for (int round = 0; round < 16; round++) {
        for (size_t i = 0; i < sizeof instances / sizeof instances[0]; i++) {
            instances[i] = test_instance(program);
            assert_int_equal(call(instances[i], "hoard_some"), 1);
        }
        for (size_t i = 0; i < sizeof instances / sizeof instances[0]; i++) dw_instance_destroy(instances[i]);
    }
    assert_ok(dw_os_list("/proc/self/map_files", count_line, &after, err));
    assert_in_range(after, 0, before + 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exception_that_nothing_catches_is_a_trap),
        cmocka_unit_test(what_the_host_ends_is_nothing_that_a_guest_can_catch),
        cmocka_unit_test(a_million_exceptions_one_after_another_need_no_more_than_one),
        cmocka_unit_test(more_exceptions_at_once_than_the_limit_are_a_trap_and_harm_nobody_else),
        cmocka_unit_test(the_heap_of_exceptions_ends_with_its_instance),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

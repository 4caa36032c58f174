/* Running other programs, and Ctrl-C. Run with an argument, this program is the other program. */
#include <signal.h>

#include "os/os.h"
#include "os/scratch.h"

static dw_error err;
static char own_path[4096];

static dw_os_process_result run_shell(const char *command) {
    const char *argv[] = {"sh", "-c", command, NULL};
    dw_os_process_result result;
    assert_ok(dw_os_run(argv, 1 << 20, &result, &err), err);
    return result;
}

static void output_and_exit_code_are_collected(void **state) {
    (void)state;
    dw_os_process_result result = run_shell("printf 'one\\ntwo'; exit 3");
    assert_int_equal(result.exit_code, 3);
    assert_int_equal(result.output_size, 7);
    assert_string_equal(result.output, "one\ntwo");
    free(result.output);
    result = run_shell("kill -9 $$");
    assert_int_equal(result.exit_code, 128 + 9);
    assert_string_equal(result.output, "");
    free(result.output);
}

static void standard_input_is_empty(void **state) {
    (void)state;
    dw_os_process_result result = run_shell("cat; echo end");
    assert_string_equal(result.output, "end\n");
    free(result.output);
}

static void large_output_is_whole_and_limited(void **state) {
    (void)state;
    dw_os_process_result result = run_shell("head -c 300000 /dev/zero");
    assert_int_equal(result.output_size, 300000);
    free(result.output);
    const char *argv[] = {"sh", "-c", "head -c 300001 /dev/zero; exec sleep 1000", NULL};
    assert_status(dw_os_run(argv, 300000, &result, &err), DW_E_LIMIT);
    assert_null(result.output);
}

static void missing_program_is_not_found(void **state) {
    (void)state;
    const char *argv[] = {"/no/such/program", NULL};
    dw_os_process_result result;
    assert_status(dw_os_run(argv, 10, &result, &err), DW_E_NOT_FOUND);
    const char *none[] = {NULL};
    assert_status(dw_os_run(none, 10, &result, &err), DW_E_INVALID);
}

static void one_interrupt_sets_the_flag_and_two_end_the_process(void **state) {
    (void)state;
    const char *once[] = {own_path, "interrupt-once", NULL}, *twice[] = {own_path, "interrupt-twice", NULL};
    dw_os_process_result result;
    assert_ok(dw_os_run(once, 100, &result, &err), err);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(result.output, "flag\n");
    free(result.output);
    assert_ok(dw_os_run(twice, 100, &result, &err), err);
    assert_int_equal(result.exit_code, 128 + SIGINT);
    free(result.output);
}

static int be_interrupted(bool twice) {
    dw_os_catch_interrupts();
    if (dw_os_interrupted(false)) return 1;
    (void)raise(SIGINT);
    if (twice) (void)raise(SIGINT);
    if (!dw_os_interrupted(true) || dw_os_interrupted(false)) return 2;
    return dw_os_write_stream(1, "flag\n", 5, NULL) == DW_OK ? 0 : 3;
}

int main(int argc, char **argv) {
    if (argc == 2) return be_interrupted(strcmp(argv[1], "interrupt-twice") == 0);
    if (dw_os_executable_path(own_path, sizeof own_path, &err) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_and_exit_code_are_collected),
        cmocka_unit_test(standard_input_is_empty),
        cmocka_unit_test(large_output_is_whole_and_limited),
        cmocka_unit_test(missing_program_is_not_found),
        cmocka_unit_test(one_interrupt_sets_the_flag_and_two_end_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Log lines, as another process sees them. Run with --emit, this program writes them. */
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/test.h"
#include "os/os.h"

static char own_path[4096];

static int emit(void) {
    static char long_text[2 * DW_LOG_LINE_BYTES_MAX];
    memset(long_text, '\n', sizeof long_text - 1);
    dw_log(DW_LOG_WARN, "first", "actor=%s tokens=%d", "a", 12);
    dw_log(DW_LOG_INFO, "hidden", "x=1");
    dw_log_set_level(DW_LOG_INFO);
    dw_log(DW_LOG_INFO, "second", "name=%s", "evil\n2026-01-01T00:00:00.000Z error forged \x1b[31m");
    dw_log(DW_LOG_ERROR, "third", "%s", long_text);
    return 0;
}

static void lines(char *output, const char *out[8], size_t *count) {
    *count = 0;
    for (char *line = strtok(output, "\n"); line && *count < 8; line = strtok(NULL, "\n")) out[(*count)++] = line;
}

static void one_line_an_event_at_the_chosen_level_with_controls_escaped(void **state) {
    (void)state;
    dw_error err = {0};
    dw_os_process_result result;
    char command[4200];
    (void)snprintf(command, sizeof command, "unset DRIFTWOOD_LOG; exec '%s' --emit 2>&1", own_path);
    const char *argv[] = {"sh", "-c", command, NULL};
    assert_ok(dw_os_run(argv, 1 << 20, &result, &err), err);
    assert_int_equal(result.exit_code, 0);
    const char *line[8];
    size_t count;
    lines(result.output, line, &count);
    assert_int_equal(count, 3);
    unsigned year, month, day, hour, minute, second, milli;
    int used = 0;
    assert_int_equal(sscanf(line[0], "%4u-%2u-%2uT%2u:%2u:%2u.%3uZ%n", &year, &month, &day, &hour, &minute, &second, &milli, &used), 7);
    assert_true(year >= 2024 && month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour < 24 && minute < 60 && second < 61);
    assert_string_equal(line[0] + used, " warn first actor=a tokens=12");
    assert_non_null(strstr(line[1], "info second name=evil\\x0a2026"));
    assert_non_null(strstr(line[1], "\\x1b[31m"));
    assert_true(strlen(line[2]) <= DW_LOG_LINE_BYTES_MAX + 128);
    free(result.output);
}

static void level_names_are_parsed_and_others_refused(void **state) {
    (void)state;
    dw_log_level level = DW_LOG_ERROR;
    assert_status(dw_log_parse_level("trace", &level), DW_OK);
    assert_int_equal(level, DW_LOG_TRACE);
    assert_status(dw_log_parse_level("loud", &level), DW_E_INVALID);
    assert_status(dw_log_parse_level(NULL, &level), DW_E_INVALID);
    dw_log_set_level(DW_LOG_WARN);
    assert_true(dw_log_enabled(DW_LOG_ERROR) && dw_log_enabled(DW_LOG_WARN) && !dw_log_enabled(DW_LOG_INFO));
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "--emit") == 0) return emit();
    dw_error err = {0};
    if (dw_os_executable_path(own_path, sizeof own_path, &err) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_line_an_event_at_the_chosen_level_with_controls_escaped),
        cmocka_unit_test(level_names_are_parsed_and_others_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

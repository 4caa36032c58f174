/* Statuses, and how an error is worded. */
#include <errno.h>
#include <string.h>

#include "base/test.h"

static void every_status_has_name_text_and_the_kind_of_its_number(void **state) {
    (void)state;
#define X(name, number, kind, text)                                                                       \
    assert_string_equal(dw_status_name(name), #name);                                                      \
    assert_string_equal(dw_status_text(name), text);                                                       \
    assert_int_equal(dw_status_kind_of(name), (number) == 0      ? DW_KIND_OK                                \
                                              : (number) > -100 ? DW_KIND_REFUSED                           \
                                              : (number) > -200 ? DW_KIND_FAILED                            \
                                                                : DW_KIND_CORRUPT);
    DW_STATUS_TABLE(X)
#undef X
}

static void unknown_status_is_told_as_unknown(void **state) {
    (void)state;
    assert_string_equal(dw_status_name((dw_status)-999), "DW_E_?");
    assert_non_null(dw_status_text((dw_status)-999));
    assert_int_equal(dw_status_kind_of((dw_status)-999), DW_KIND_FAILED);
}

static void failure_fills_every_field(void **state) {
    (void)state;
    dw_error err;
    memset(&err, 0xAA, sizeof err);
    assert_status(dw_fail(&err, DW_E_RANGE, "value %d", 7), DW_E_RANGE);
    assert_int_equal(err.status, DW_E_RANGE);
    assert_int_equal(err.system_errno, 0);
    assert_true(err.offset == DW_NO_OFFSET);
    assert_string_equal(err.text, "value 7");
    assert_status(dw_fail_at(&err, DW_E_FORMAT, 12, "odd byte"), DW_E_FORMAT);
    assert_int_equal(err.offset, 12);
}

static void missing_error_record_is_fine(void **state) {
    (void)state;
    assert_status(dw_fail(NULL, DW_E_RANGE, "value %d", 7), DW_E_RANGE);
    assert_status(dw_fail_at(NULL, DW_E_FORMAT, 1, "x"), DW_E_FORMAT);
    assert_status(dw_fail_errno(NULL, ENOENT, "x"), DW_E_NOT_FOUND);
    assert_status(dw_error_prefix(NULL, DW_E_IO, "x"), DW_E_IO);
}

static void errno_chooses_the_status_and_its_text_is_appended(void **state) {
    (void)state;
    static const struct { int number; dw_status status; } rows[] = {
        {ENOENT, DW_E_NOT_FOUND}, {EEXIST, DW_E_EXISTS}, {EACCES, DW_E_DENIED}, {ENOMEM, DW_E_NO_MEMORY},
        {ENOSPC, DW_E_NO_SPACE}, {EIO, DW_E_IO}, {EMFILE, DW_E_SYSTEM}, {ENFILE, DW_E_SYSTEM}, {ETIMEDOUT, DW_E_IO},
        {EBADF, DW_E_SYSTEM}, {ENOSYS, DW_E_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dw_error err;
        assert_status(dw_fail_errno(&err, rows[i].number, "cannot %s", "go"), rows[i].status);
        assert_int_equal(err.system_errno, rows[i].number);
        assert_true(strncmp(err.text, "cannot go: ", 11) == 0 && strlen(err.text) > 11);
    }
    dw_error err;
    assert_status(dw_fail_errno(&err, 99999, "x"), DW_E_SYSTEM);
    assert_string_equal(err.text, "x: system error 99999");
}

/* Every error of a call on what is ours is a failure; but for files of the wrong kind. */
static void want_of_the_system_is_no_refusal(void **state) {
    (void)state;
    for (int number = 1; number < 200; number++) {
        dw_error err;
        dw_status_kind kind = number == EISDIR || number == ENODEV ? DW_KIND_REFUSED : DW_KIND_FAILED;
        dw_status status = dw_fail_system(&err, number, "x");
        if (number == ENOEXEC) continue; /* a program's bytes: corrupt, whoever asks */
        if (dw_status_kind_of(status) != kind) fail_msg("errno %d: %s", number, dw_status_name(status));
        assert_int_equal(err.status, status);
        assert_int_equal(err.system_errno, number);
    }
}

static void prefix_keeps_status_and_text(void **state) {
    (void)state;
    dw_error err;
    dw_status status = dw_fail_errno(&err, ENOENT, "cannot open");
    assert_status(dw_error_prefix(&err, status, "%s", "model.gguf"), DW_E_NOT_FOUND);
    assert_string_equal(err.text, "model.gguf: cannot open: no such file or folder");
    assert_int_equal(err.system_errno, ENOENT);
}

static void long_texts_are_cut_and_stay_terminated(void **state) {
    (void)state;
    char name[1000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    dw_error err;
    assert_status(dw_fail_errno(&err, EIO, "%s", name), DW_E_IO);
    assert_int_equal(strlen(err.text), DW_ERROR_TEXT_BYTES - 1);
    assert_status(dw_error_prefix(&err, DW_E_IO, "%s", name), DW_E_IO);
    assert_int_equal(strlen(err.text), DW_ERROR_TEXT_BYTES - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_has_name_text_and_the_kind_of_its_number),
        cmocka_unit_test(unknown_status_is_told_as_unknown),
        cmocka_unit_test(failure_fills_every_field),
        cmocka_unit_test(missing_error_record_is_fine),
        cmocka_unit_test(errno_chooses_the_status_and_its_text_is_appended),
        cmocka_unit_test(want_of_the_system_is_no_refusal),
        cmocka_unit_test(prefix_keeps_status_and_text),
        cmocka_unit_test(long_texts_are_cut_and_stay_terminated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

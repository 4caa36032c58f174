/* hello_test.c: the first program of sdk/c/README.md, taken from there, does what the page says. */
#include "programs/check.h"

static void the_first_program_greets_and_counts(void **state) {
    (void)state;
    assert_int_equal(fake_turn("Ada"), 0);
    assert_string_equal(fake_reply(), "Hello, Ada! You are number 1.");
    assert_int_equal(fake_turn("Grace"), 0);
    assert_string_equal(fake_reply(), "Hello, Grace! You are number 2.");
    assert_int_equal(fake_turn("Somebody whose name is by far too long for the sixty-four bytes there are"), DW_E_FULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {host_test(the_first_program_greets_and_counts)};
    int failed = cmocka_run_group_tests_name("hello", tests, NULL, NULL);
    fake_reset();
    return failed;
}

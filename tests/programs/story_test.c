/* story_test.c: the second program of sdk/c/README.md, taken from there. */
#include "programs/check.h"

static void the_story_goes_on_where_it_stopped(void **state) {
    (void)state;
    fake_rule("Once", " upon a time", 5);
    fake_rule("time, and then", " the end", 5);
    assert_int_equal(fake_turn("Once"), 0);
    assert_string_equal(fake_reply(), " upon a time");
    assert_string_equal(fake_emitted(), " upon a time");
    assert_int_equal(fake_turn(", and then"), 0);
    assert_string_equal(fake_reply(), " the end");
    assert_true(fake_evaluated() < 20); /* nothing of the first turn is evaluated again */
}

int main(void) {
    const struct CMUnitTest tests[] = {host_test(the_story_goes_on_where_it_stopped)};
    int failed = cmocka_run_group_tests_name("story", tests, NULL, NULL);
    fake_reset();
    return failed;
}

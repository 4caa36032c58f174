/* gemm_test.c: programs/gemm as it is, with the fake host's slow and simple product. */
#include "programs/check.h"

#include <stdlib.h>

static const char *say(const char *message) {
    assert_int_equal(fake_turn(message), 0);
    return fake_reply();
}

static void a_right_product_has_no_wrong_element(void **state) {
    (void)state;
    assert_contains(say("n=40 seed=3 device=cpu"), "n=40 wrong=0 checked=1600 worst=0 ");
    assert_contains(fake_reply(), " copied=0 ");
    assert_contains(say("n=40 seed=3 data=real"), "n=40 wrong=0 checked=1600 ");
    assert_contains(say("n=1"), "n=1 wrong=0 checked=1 ");
}

static void a_wrong_element_is_found(void **state) {
    (void)state;
    fake_spoil_compute();
    assert_contains(say("n=40"), " wrong=1 checked=1600 worst=1 ");
    fake_spoil_compute();
    assert_contains(say("n=40 data=real"), " wrong=1 ");
    assert_contains(say("n=40"), " wrong=0 ");
}

static void a_sample_is_spread_over_all_elements(void **state) {
    (void)state;
    assert_contains(say("n=40 check=100"), " wrong=0 checked=100 ");
    assert_contains(say("n=40 check=99999"), " checked=1600 ");
    assert_contains(say("n=40 check=all"), " checked=1600 ");
    fake_spoil_compute(); /* the first element belongs to every sample */
    assert_contains(say("n=40 check=10"), " wrong=1 checked=10 ");
}

static void copies_are_counted(void **state) {
    (void)state;
    const char *copied = strstr(say("n=40 copy=1"), "copied=");
    assert_true(strtoul(copied + 7, NULL, 10) > 0);
}

static void devices_and_settings_that_do_not_exist_are_named(void **state) {
    (void)state;
    assert_contains(say("n=8 device=abacus"), "error=-3 ");
    assert_contains(say("n=2049"), "error=-1 what is 'n'?");
    assert_contains(say("n=0"), "what is 'n'?");
    assert_contains(say("n=8x"), "what is 'n'?");
    assert_contains(say("size=8"), "what is 'size'?");
    assert_contains(say("hello"), "what is 'hello'?");
    assert_contains(say("data=random"), "what is 'data'?");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        host_test(a_right_product_has_no_wrong_element), host_test(a_wrong_element_is_found),
        host_test(a_sample_is_spread_over_all_elements), host_test(copies_are_counted),
        host_test(devices_and_settings_that_do_not_exist_are_named),
    };
    int failed = cmocka_run_group_tests_name("gemm", tests, NULL, NULL);
    fake_turn("n=1"); /* gives the big matrices back: the leak checker cannot see what a program keeps for its next message */
    fake_reset();
    return failed;
}

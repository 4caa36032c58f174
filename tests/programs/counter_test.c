/* counter_test.c: programs/counter as it is. Its traps and endless loops are for a host that survives them. */
#include "programs/check.h"

static const char *say(const char *message) {
    assert_int_equal(fake_turn(message), 0);
    return fake_reply();
}

static void messages_are_counted_and_remembered(void **state) {
    (void)state;
    assert_string_equal(say("first"), "1");
    assert_string_equal(say("second"), "2");
    assert_contains(say("get"), "messages=3 sum=0 ");
    assert_contains(say("get"), "last=first|second|get|get");
    for (int i = 0; i < 8; i++) say("again");
    assert_contains(say("get"), "last=again|again|again|again|again|again|again|get");
}

static void a_long_message_is_remembered_by_its_beginning(void **state) {
    (void)state;
    say("This message is a good deal longer than the history has room for");
    assert_contains(say("get"), "|This message is a good deal lon|get");
}

static void sums_add_and_wrap(void **state) {
    (void)state;
    assert_string_equal(say("add 40"), "40");
    assert_string_equal(say("add 2"), "42");
    assert_string_equal(say("add -43"), "-1");
    assert_string_equal(say("add 9223372036854775807"), "9223372036854775806");
    assert_string_equal(say("add 9223372036854775807"), "-3");
}

static void the_checksum_tells_histories_apart(void **state) {
    (void)state;
    char before[64], after[64];
    strncpy(before, strstr(say("get"), "checksum="), 25);
    strncpy(after, strstr(say("get"), "checksum="), 25);
    assert_memory_not_equal(before, after, 25);
}

static void grown_memory_is_filled_and_summed(void **state) {
    (void)state;
    assert_contains(say("get"), "blocks=0000000000000000 kib=0 ");
    assert_string_equal(say("grow 100"), "grown by 100 KiB");
    assert_string_equal(say("grow 28"), "grown by 28 KiB");
    assert_contains(say("get"), " kib=128 ");
    assert_null(strstr(fake_reply(), "blocks=0000000000000000"));
    assert_string_equal(say("grow 0"), "refused");
    assert_string_equal(say("grow 18446744073709551615"), "refused");
}

static void a_refused_turn_carries_its_status(void **state) {
    (void)state;
    assert_int_equal(fake_turn("refuse"), DW_E_DENIED);
    assert_string_equal(fake_reply(), "");
}

static void an_overlong_message_is_not_taken_for_its_beginning(void **state) {
    (void)state;
    static char message[5000];
    memset(message, ' ', sizeof message - 1);
    memcpy(message, "refuse", 6);
    assert_int_equal(fake_turn(message), DW_E_FULL);
    assert_contains(fake_logged(), "That message has 4999 bytes; at most 4095 are taken.");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        host_test(messages_are_counted_and_remembered), /* first: it counts from one */
        host_test(a_long_message_is_remembered_by_its_beginning),
        host_test(sums_add_and_wrap),
        host_test(the_checksum_tells_histories_apart),
        host_test(grown_memory_is_filled_and_summed),
        host_test(a_refused_turn_carries_its_status),
        host_test(an_overlong_message_is_not_taken_for_its_beginning),
    };
    int failed = cmocka_run_group_tests_name("counter", tests, NULL, NULL);
    fake_reset();
    return failed;
}

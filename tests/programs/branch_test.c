/* branch_test.c: programs/branch as it is. */
#include "programs/check.h"

/* The program keeps a session; a new host does not know it, so each test begins with a prompt, which replaces it. */
static void say(const char *message) { assert_int_equal(fake_turn(message), 0); }

/* 'x' looks best at first, but nothing good comes of it: after it everything is equally likely. After 'y' all is certain. */
static void know_two_ways(void) {
    fake_rule("Go", "x", 9);
    fake_rule("Go", "yes and on and on", 8);
    fake_rule("Gox", "!!!!", 3);
    fake_rule("Goy", "es and on and on", 20);
}

static void without_a_prompt_or_a_past_it_explains_itself(void **state) {
    (void)state;
    say("n=2");
    assert_contains(fake_reply(), "Give me a beginning");
    assert_int_equal(fake_sessions_open(), 0);
}

static void the_likeliest_branch_wins_not_the_likeliest_first_token(void **state) {
    (void)state;
    know_two_ways();
    say("n=2 tokens=5 Go");
    assert_true(strncmp(fake_reply(), "yes a\n\n", 7) == 0);
    assert_contains(fake_reply(), "\n       1 ");
    assert_contains(fake_reply(), "\n*      2 ");
    assert_int_equal(fake_sessions_open(), 1); /* the winner's */
}

static void all_branches_step_in_one_call(void **state) {
    (void)state;
    fake_rule("Go", "abcdefgh", 4);
    fake_rule("Go", "ABCDEFGH", 4);
    fake_rule("Go", "01234567", 4);
    fake_rule("Go", "zyxwvuts", 4);
    say("tokens=4 Go");
    assert_int_equal(fake_forwards_max(), 4);
    assert_int_equal(fake_evaluated(), strlen("Go") + 1 + 4 * 4); /* the prompt once, with its BOS */
}

static void a_branch_that_ends_early_is_compared_per_token(void **state) {
    (void)state;
    fake_rule("Go", "ab", 6);                /* three factors, of which the end is an unlikely one */
    fake_rule("Goa", "b", 12);
    fake_rule("Go", "c", 5.9f);              /* eight factors: a smaller product than the three, but each about a half */
    fake_rule("Goc", "ccccccc", 5.5f);
    say("n=2 tokens=8 Go");
    assert_true(strncmp(fake_reply(), "cccccccc\n", 9) == 0);
    const char *ended = strstr(fake_reply(), "       1 ");
    assert_non_null(ended);
    assert_contains(ended, "       2  ab\n"); /* an end is not text */
    assert_int_equal(fake_sessions_open(), 1);
}

static void it_goes_on_from_the_branch_that_was_kept(void **state) {
    (void)state;
    know_two_ways();
    say("n=2 tokens=3 Go");
    assert_true(strncmp(fake_reply(), "yes\n", 4) == 0);
    say("n=2 tokens=7");
    assert_true(strncmp(fake_reply(), " and on\n", 8) == 0);
    assert_int_equal(fake_sessions_open(), 1);
}

static void an_interruption_reports_what_there_is(void **state) {
    (void)state;
    know_two_ways();
    fake_interrupt_after(0);
    say("n=2 tokens=5 Go");
    assert_contains(fake_reply(), "branch   logprob");
    assert_int_equal(fake_sessions_open(), 1);
}

static void a_prompt_beyond_the_context_gives_the_turn_up(void **state) {
    (void)state;
    fake_set_context(8);
    assert_int_equal(fake_turn("n=2 A long prompt"), DW_E_FULL);
    assert_contains(fake_logged(), "cannot evaluate the prompt");
}

static void numbers_are_kept_within_bounds(void **state) {
    (void)state;
    fake_rule("Go", "on", 9);
    say("n=99999 tokens=1 Go");
    assert_contains(fake_reply(), "     16 ");
    assert_null(strstr(fake_reply(), "     17 "));
    say("n=0 tokens=1 Go");
    assert_contains(fake_reply(), "*      1 ");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        host_test(without_a_prompt_or_a_past_it_explains_itself), /* first: there is no past yet */
        host_test(the_likeliest_branch_wins_not_the_likeliest_first_token),
        host_test(all_branches_step_in_one_call),
        host_test(a_branch_that_ends_early_is_compared_per_token),
        host_test(it_goes_on_from_the_branch_that_was_kept),
        host_test(an_interruption_reports_what_there_is),
        host_test(a_prompt_beyond_the_context_gives_the_turn_up),
        host_test(numbers_are_kept_within_bounds),
    };
    int failed = cmocka_run_group_tests_name("branch", tests, NULL, NULL);
    fake_reset();
    return failed;
}

/* Text from outside, made fit for a terminal. */
#include <string.h>

#include "base/plain.h"
#include "base/test.h"

static void becomes(const char *text, size_t size, bool keep_lines, const char *expected) {
    char out[256];
    assert_int_equal(dw_plain_text(text, size, keep_lines, out, sizeof out), strlen(expected));
    assert_string_equal(out, expected);
}

static void text_stays_as_it_is(void **state) {
    (void)state;
    static const char text[] = "Gr\xc3\xbc\xc3\x9f\x65, \xe6\x97\xa5\xe6\x9c\xac \xf0\x9f\x8c\x8a \\x41 \xc2\xa0|";
    becomes(text, sizeof text - 1, false, text);
    becomes("", 0, false, "");
}

static void what_drives_a_terminal_is_written_out(void **state) {
    (void)state;
    becomes("\x1b[2Ja\x07\x7f\r", 8, true, "\\x1b[2Ja\\x07\\x7f\\x0d");
    becomes("a\0b", 3, false, "a\\x00b");
    becomes("\xc2\x9b" "31m", 5, false, "\\xc2\\x9b31m");       /* CSI as one character */
    becomes("\x9b" "31m", 4, false, "\\x9b31m");                 /* and as one byte */
    becomes("\xe2\x80\xae" "txt", 6, false, "\\xe2\\x80\\xaetxt"); /* from right to left */
    becomes("\xe2\x81\xa6", 3, false, "\\xe2\\x81\\xa6");
    becomes("a\n\tb", 4, true, "a\n\tb");
    becomes("a\n\tb", 4, false, "a\\x0a\\x09b");
}

static void what_is_no_utf8_is_written_out(void **state) {
    (void)state;
    becomes("\xc0\x80", 2, false, "\\xc0\\x80");                 /* too long for what it says */
    becomes("\xe0\x80\x9b", 3, false, "\\xe0\\x80\\x9b");
    becomes("\xed\xa0\x80", 3, false, "\\xed\\xa0\\x80");        /* a surrogate */
    becomes("\xf4\x90\x80\x80", 4, false, "\\xf4\\x90\\x80\\x80"); /* above the last character */
    becomes("\xff\xfe", 2, false, "\\xff\\xfe");
    becomes("\xe6\x97", 2, false, "\\xe6\\x97");                 /* cut short */
    becomes("\xe6\x97" "a", 3, false, "\\xe6\\x97" "a");
}

static void what_does_not_fit_is_left_out_whole(void **state) {
    (void)state;
    char out[8];
    memset(out, '#', sizeof out);
    assert_int_equal(dw_plain_text("ab\x1b" "c", 4, false, out, 6), 7); /* 6 bytes would hold a part of the escape */
    assert_string_equal(out, "ab");
    assert_int_equal(out[6], '#');
    assert_int_equal(dw_plain_text("\xe6\x97\xa5", 3, false, out, 3), 3);
    assert_string_equal(out, "");
    assert_int_equal(dw_plain_text("abc", 3, false, NULL, 0), 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_stays_as_it_is),
        cmocka_unit_test(what_drives_a_terminal_is_written_out),
        cmocka_unit_test(what_is_no_utf8_is_written_out),
        cmocka_unit_test(what_does_not_fit_is_left_out_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

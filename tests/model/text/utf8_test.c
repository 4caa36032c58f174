/* utf8_test.c: what is UTF-8, and what becomes of the rest. The examples of broken parts are those of the Unicode
 * Standard, chapter 3. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/text/bert_text.h"
#include "model/text/utf8.h"

#define R "\xef\xbf\xbd"

static void repaired_is(const char *text, size_t length, const char *expected) {
    char out[256];
    size_t size = dw_utf8_repaired_bytes(text, length);
    assert_true(size < sizeof out);
    dw_utf8_repair(text, length, out);
    out[size] = 0;
    assert_string_equal(out, expected);
}

static void each_broken_part_becomes_one_replacement(void **state) {
    (void)state;
    static const struct { const char *text, *expected; } cases[] = {
        {"plain", "plain"},
        {"\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x8c\xb2", "\xc3\xa9\xe4\xbd\xa0\xf0\x9f\x8c\xb2"},
        {"a\x80z", "a" R "z"},
        {"\xc0\xaf", R R},                                   /* an overlong slash */
        {"\xe0\x80\xbf\x41", R R R "A"},
        {"\xed\xa0\x80", R R R},                             /* a surrogate */
        {"\xf4\x90\x80\x80", R R R R},                       /* U+110000, which WordPiece threw at */
        {"\xf7\xbf\xbf\xbf", R R R R},
        {"\xf8\x88\x80\x80\x80", R R R R R},
        {"\xff\xfe", R R},
        {"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A"}, /* table 3-11 */
        {"\xf0\x9f\x8c", R},
        {"\xf0\x9f\x8cz", R "z"},
        {"\xe4\xbd", R},
        {"\xef\xbf\xbd", R},                                 /* itself */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        repaired_is(cases[i].text, strlen(cases[i].text), cases[i].expected);
    repaired_is("a\0b", 1, "a");
}

static void what_was_repaired_is_whole_and_stays(void **state) {
    (void)state;
    uint64_t random = 7;
    for (int run = 0; run < 20000; run++) {
        char text[24], once[96], twice[96];
        size_t length = 1 + (size_t)run % sizeof text;
        for (size_t i = 0; i < length; i++) {
            random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
            text[i] = (char)(random >> 40 | (run % 3 ? 0x80 : 0));
        }
        size_t size = dw_utf8_repaired_bytes(text, length);
        dw_utf8_repair(text, length, once);
        assert_int_equal(dw_utf8_repaired_bytes(once, size), size);
        dw_utf8_repair(once, size, twice);
        assert_memory_equal(once, twice, size);
    }
}

static void every_code_point_is_read_as_it_is_written(void **state) {
    (void)state;
    for (uint32_t point = 0; point < 0x110000; point++) {
        if (point >= 0xd800 && point < 0xe000) continue;
        char out[4];
        uint32_t read = 0;
        size_t size = dw_utf8_put(point, out);
        assert_int_equal(dw_utf8_step(out, size, &read), size);
        assert_int_equal(read, point);
        /* Its beginnings can still become it, and nothing else is held back. */
        for (size_t part = 0; part < size; part++) assert_int_equal(dw_utf8_settled(out, part), 0);
        assert_int_equal(dw_utf8_settled(out, size), size);
    }
    assert_int_equal(dw_utf8_settled("ab\xf0\x9f", 4), 2);
    assert_int_equal(dw_utf8_settled("ab\x9f\x9f\x9f\x9f", 6), 6);
    assert_int_equal(dw_utf8_settled("ab\xf0\x80", 4), 4); /* no character begins so */
    assert_int_equal(dw_utf8_settled("ab\xff", 3), 3);
}

static void normal_is(dw_bert_rules rules, const char *text, const char *expected) {
    char out[256];
    size_t size = dw_bert_normalize(&rules, text, strlen(text), NULL);
    assert_true(size <= 4 * strlen(text) && size < sizeof out);
    assert_int_equal(dw_bert_normalize(&rules, text, strlen(text), out), size);
    out[size] = 0;
    assert_string_equal(out, expected);
}

/* The expected texts are what Hugging Face's BertNormalizer gives (tokenizers 0.22). */
static void bert_text_keeps_vowel_signs_and_opens_syllables(void **state) {
    (void)state;
    const dw_bert_rules uncased = {true, true}, cased = {false, false}, lowered = {false, true};
    normal_is(uncased, "H\xc3\xa9llo W\xc3\x96RLD", "hello world");
    normal_is(cased, "H\xc3\xa9llo", "H\xc3\xa9llo");
    /* Hindi: U+0928 U+0908, and U+0926 U+093F: the vowel sign has a width (Mc) and stays; U+0941 and the virama U+094D
     * have none (Mn). */
    normal_is(uncased,
              "\xe0\xa4\xa8\xe0\xa4\x88 \xe0\xa4\xa6\xe0\xa4\xbf\xe0\xa4\xb2\xe0\xa5\x8d\xe0\xa4\xb2\xe0\xa5\x80",
              "\xe0\xa4\xa8\xe0\xa4\x88 \xe0\xa4\xa6\xe0\xa4\xbf\xe0\xa4\xb2\xe0\xa4\xb2\xe0\xa5\x80");
    /* Korean: one syllable, three letters. */
    normal_is(uncased, "\xed\x95\x9c", "\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab");
    normal_is(cased, "\xed\x95\x9c", "\xed\x95\x9c");
    /* Control characters, soft hyphens, private characters and U+FFFD vanish; every white space is a space. */
    normal_is(cased, "a\x01" "b\xc2\xad" "c\xee\x80\x80" "d\xef\xbf\xbd" "e\x7f", "abcde");
    normal_is(cased, "a\tb\nc\xc2\xa0" "d\xe2\x80\xa8" "e\xe3\x80\x80" "f", "a b c d e f");
    /* The one small letter of two code points; stripped of its dot where accents are. */
    normal_is(lowered, "\xc4\xb0", "i\xcc\x87");
    normal_is(uncased, "\xc4\xb0", "i");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_broken_part_becomes_one_replacement),
        cmocka_unit_test(what_was_repaired_is_whole_and_stays),
        cmocka_unit_test(every_code_point_is_read_as_it_is_written),
        cmocka_unit_test(bert_text_keeps_vowel_signs_and_opens_syllables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

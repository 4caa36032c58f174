/* stop_test.c: what of generated text is certain, what is shown, and what of a log stays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kinds.h"

typedef struct shown { char text[256]; size_t size; bool enough; } shown;

static bool show(void *context, const char *text, size_t size) {
    shown *s = context;
    memcpy(s->text + s->size, text, size);
    s->size += size;
    s->text[s->size] = 0;
    return !s->enough;
}

/* Feeds pieces ('|' in front: a control token's) and hands out what is certain. Returns the stop that was met, or
 * DW_STOP_NONE. */
static uint32_t feed(dw_stop_text *text, const char *const *pieces, size_t n, shown *s) {
    uint32_t stop = DW_STOP_NONE;
    for (size_t i = 0; i < n && stop == DW_STOP_NONE; i++) {
        bool hidden = pieces[i][0] == '|';
        size_t ready = 0;
        assert_int_equal(dw_stop_feed(text, pieces[i] + hidden, strlen(pieces[i] + hidden), hidden, &ready, &stop),
                         DW_OK);
        assert_int_equal(dw_stop_hand_out(text, ready, show, s), DW_OK);
    }
    return stop;
}

static void a_character_is_shown_when_it_is_whole(void **state) {
    (void)state;
    static const char *const pieces[] = {"a\xf0", "\x9f", "\x8c", "\xb2z"};
    static const char *const after[] = {"a", "a", "a", "a\xf0\x9f\x8c\xb2z"};
    dw_stop_text text = {0};
    shown s = {0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(feed(&text, pieces + i, 1, &s), DW_STOP_NONE);
        assert_string_equal(s.text, after[i]);
    }
    dw_stop_deinit(&text);
}

static void what_is_no_character_is_shown_as_one_that_says_so(void **state) {
    (void)state;
    static const char *const pieces[] = {"a\xff", "b\xe4", "\xbd", "c"};
    dw_stop_text text = {0};
    shown s = {0};
    assert_int_equal(feed(&text, pieces, 4, &s), DW_STOP_NONE);
    assert_string_equal(s.text, "a\xef\xbf\xbd" "b\xef\xbf\xbd" "c");
    assert_int_equal(text.taken, 6); /* counts what was fed */
    dw_stop_deinit(&text);
}

static void a_stop_may_name_a_control_token_that_nobody_sees(void **state) {
    (void)state;
    const char *const stops[] = {"never", "!\n<turn>"};
    static const char *const pieces[] = {"|<s>", "hello", "|<turn>", " you", "!", "\n", "|<turn>", "more"};
    dw_stop_text text = {.stops = stops, .n_stops = 2};
    shown s = {0};
    assert_int_equal(feed(&text, pieces, 8, &s), 1);
    assert_string_equal(s.text, "hello you");
    assert_int_equal(text.taken, strlen("<s>hello<turn> you"));
    dw_stop_deinit(&text);
}

static void a_stop_of_text_is_not_found_inside_a_control_token(void **state) {
    (void)state;
    const char *const stops[] = {"s", ">", "a<", "<s"};
    static const char *const pieces[] = {"|<s>", "a", "|<s>", "b"};
    dw_stop_text text = {.stops = stops, .n_stops = 4};
    shown s = {0};
    assert_int_equal(feed(&text, pieces, 4, &s), DW_STOP_NONE);
    assert_string_equal(s.text, "ab");
    dw_stop_deinit(&text);
}

static void a_listener_that_has_enough_hears_no_more(void **state) {
    (void)state;
    dw_stop_text text = {0};
    shown s = {.enough = true};
    size_t ready = 0;
    uint32_t stop;
    assert_int_equal(dw_stop_feed(&text, "hello", 5, false, &ready, &stop), DW_OK);
    assert_int_equal(dw_stop_hand_out(&text, ready, show, &s), DW_E_CANCELLED);
    assert_int_equal(text.taken, 5);
    dw_stop_deinit(&text);
}

/* --- the end of a log ------------------------------------------------------------------------------------------ */

static void a_token_cut_inside_is_replaced_by_its_part(void **state) {
    (void)state;
    enum {
        HELLO = MAKE_FIRST_WORD + 3,
        HE = MAKE_FIRST_WORD,
        HELL = MAKE_FIRST_WORD + 2,
        E4 = MAKE_FIRST_BYTE + 0xe4,
        BD = MAKE_FIRST_BYTE + 0xbd,
        A0 = MAKE_FIRST_BYTE + 0xa0
    };
    kind k;
    assert_true(kind_open(&k, KIND_SPACES));
    int32_t out[16];
    size_t n_stay = 0, n = 0;
    const int32_t log[] = {HE, HELLO};
    assert_int_equal(dw_vocab_cut(k.vocab, log, 2, 4, &n_stay, out, 16, &n, NULL), DW_OK);
    assert_true(n_stay == 1 && n == 1 && out[0] == HELL);
    assert_int_equal(dw_vocab_cut(k.vocab, log, 2, 0, &n_stay, out, 16, &n, NULL), DW_OK);
    assert_true(n_stay == 1 && n == 0);
    assert_int_equal(dw_vocab_cut(k.vocab, log, 2, 3, &n_stay, out, 1, &n, NULL),
                     DW_OK); /* "hel" takes two tokens: no room */
    assert_true(n_stay == 1 && n == 0);
    /* A character that began before stays whole; its tokens are made anew with the part. */
    const int32_t character[] = {HE, E4, BD, A0};
    assert_int_equal(dw_vocab_cut(k.vocab, character, 4, 1, &n_stay, out, 16, &n, NULL), DW_OK);
    assert_true(n_stay == 1 && n == 3 && out[0] == E4 && out[2] == A0);
    char begun[3];
    assert_int_equal(dw_vocab_open_end(k.vocab, character, 3, begun), 2);
    assert_memory_equal(begun, "\xe4\xbd", 2);
    assert_int_equal(dw_vocab_open_end(k.vocab, character, 4, begun), 0);
    assert_int_equal(dw_vocab_open_end(k.vocab, character, 0, begun), 0);
    kind_close(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_character_is_shown_when_it_is_whole),
        cmocka_unit_test(what_is_no_character_is_shown_as_one_that_says_so),
        cmocka_unit_test(a_stop_may_name_a_control_token_that_nobody_sees),
        cmocka_unit_test(a_stop_of_text_is_not_found_inside_a_control_token),
        cmocka_unit_test(a_listener_that_has_enough_hears_no_more),
        cmocka_unit_test(a_token_cut_inside_is_replaced_by_its_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

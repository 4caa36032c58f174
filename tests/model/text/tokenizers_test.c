/* tokenizers_test.c: any bytes for any kind of tokenizer, and what a text's place in a log does to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kinds.h"
#include "model/text/llama_shim.h"
#include "model/text/utf8.h"
#include "os/os.h"

/* --- any bytes ------------------------------------------------------------------------------------------------- */

static const char *const broken[] = {
    "\xf4\x90\x80\x80",
    "\xf7\xbf\xbf\xbf",
    "a\xf5\x80\x80\x80 b",
    "\xff\xff\xff\xff",
    "\xed\xa0\x80\xed\xb0\x80",
    "\xc0\x80",
    "\xe0\x80\x80",
    "\xf0\x80\x80\x80",
    "\xf0\x9f\x8c",
    "\xe4\xbd",
    "\xc3",
    "\x80\x80",
    "ok\xf8\x88\x80\x80\x80!",
    "\xfc\x84\x80\x80\x80\x80",
    "hello \xf4\xa0\x80\x80 world 12345 \xf7\xbf\xbf\xbf\xbf\n\n\t x",
};

/* libllama's WordPiece decodes such bytes to a code point beyond the last one and throws while it writes it again:
 * through llama_tokenize. */
static void what_libllama_throws_is_a_status(void **state) {
    (void)state;
    kind k;
    assert_true(kind_open(&k, KIND_WORD_PIECES));
    const dw_gguf_part file = dw_gguf_part_at(k.gguf, 0);
    dw_llama *llama = NULL;
    dw_llama_facts facts;
    dw_error err = {0};
    int32_t tokens[64];
    size_t n = 0;
    assert_int_equal(dw_llama_open(file.data, (size_t)file.bytes, true, &llama, &facts, &err), DW_OK);
    assert_int_equal(dw_llama_tokenize(llama, "\xf4\x90\x80\x80", 4, true, false, tokens, 64, &n, &err), DW_E_INTERNAL);
    assert_string_equal(err.text, "libllama: invalid codepoint");
    assert_int_equal(n, 0);
    assert_int_equal(dw_llama_tokenize(llama, "hello", 5, true, false, tokens, 64, &n, &err), DW_OK); /* and goes on */
    /* A token that is none is an exception too. */
    const char *text;
    unsigned flags;
    assert_int_equal(dw_llama_token(llama, facts.n_tokens, &text, &flags, &err), DW_E_INTERNAL);
    dw_llama_close(llama);
    dw_llama_close(NULL);
    kind_close(&k);
}

static void a_file_that_libllama_refuses_is_refused_in_its_words(void **state) {
    (void)state;
    dw_writer w;
    dw_gguf *gguf = NULL;
    dw_llama *llama = NULL;
    dw_llama_facts facts;
    dw_error err = {0};
    dw_writer_init(&w);
    make_llama(&w, &(make_vocabulary){.byte_pairs = true, .fault = MAKE_UNKNOWN_PRE});
    assert_int_equal(make_open(&w, &gguf, NULL), DW_OK);
    const dw_gguf_part file = dw_gguf_part_at(gguf, 0);
    assert_int_equal(dw_llama_open(file.data, (size_t)file.bytes, false, &llama, &facts, &err), DW_E_FORMAT);
    assert_null(llama);
    assert_non_null(strstr(err.text, "unknown pre-tokenizer type: 'no-such-splitting'"));
    assert_int_equal(dw_llama_open(file.data, 40, false, &llama, &facts, &err),
                     DW_E_FORMAT); /* nothing is left of the words before */
    assert_null(strstr(err.text, "no-such-splitting"));
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

static void tokens_of(dw_vocab *vocab, const char *text, size_t length, bool special, int32_t *tokens, size_t *n) {
    dw_error err = {0};
    dw_status status = dw_vocab_tokenize(vocab, text, length, DW_TEXT_WHOLE, special, tokens, 256, n, &err);
    if (status != DW_OK) fail_msg("%s", err.text);
    for (size_t i = 0; i < *n; i++) assert_true(tokens[i] >= 0 && (uint32_t)tokens[i] < dw_vocab_size(vocab));
}

static void broken_text_is_read_as_its_repair_by_every_tokenizer(void **state) {
    (void)state;
    kind k;
    size_t index = 0;
    for (; kind_open(&k, index); index++) {
        assert_non_null(k.vocab);
        for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
            char repaired[256];
            int32_t ours[256], theirs[256];
            size_t length = strlen(broken[i]), bytes = dw_utf8_repaired_bytes(broken[i], length), n = 0, expected = 0;
            dw_utf8_repair(broken[i], length, repaired);
            for (int special = 0; special < 2; special++) {
                tokens_of(k.vocab, broken[i], length, special != 0, ours, &n);
                tokens_of(k.vocab, repaired, bytes, special != 0, theirs, &expected);
                assert_int_equal(n, expected);
                assert_memory_equal(ours, theirs, n * sizeof ours[0]);
            }
        }
        kind_close(&k);
    }
    assert_true(index > KIND_FIRST_SPLITTER + 80);
}

/* --- long texts ------------------------------------------------------------------------------------------------ */

typedef struct run { dw_vocab *vocab; char *text; size_t size; dw_status status; dw_error err; } run;

static void tokenize_run(void *argument) {
    run *r = argument;
    size_t n;
    r->status = dw_vocab_tokenize(r->vocab, r->text, r->size, DW_TEXT_GOES_ON, false, NULL, 0, &n, &r->err);
}

static dw_status tokenize_on_small_stack(dw_vocab *vocab, char *text, size_t size, dw_error *err) {
    run r = {vocab, text, size, DW_OK, {0}};
    dw_os_thread *thread = NULL;
    assert_int_equal(dw_os_thread_create("small", 256 << 10, tokenize_run, &r, &thread, NULL), DW_OK);
    dw_os_thread_join(thread);
    *err = r.err;
    return r.status;
}

/* A long run of one kind of character, and of two by turns, is what makes a recursive pattern matcher run out of stack.
 */
static void long_runs_never_overflow_the_stack(void **state) {
    (void)state;
    static const char *const fillers[] = {"a", " ", "7", "\n", ".-", " \n", "a ", "\xe4\xbd\xa0"};
    static const size_t sizes[] = {300, 100000};
    char *text = malloc(sizes[1] + 8);
    kind k;
    assert_non_null(text);
    for (size_t index = KIND_FIRST_SPLITTER; kind_open(&k, index); index++) {
        dw_splitter_kind splitter = DW_SPLITTER_LOOPS;
        assert_true(dw_splitter_find(k.name, strlen(k.name), &splitter));
        for (size_t s = 0; splitter != DW_SPLITTER_LOOPS && s < sizeof sizes / sizeof sizes[0]; s++) {
            for (size_t f = 0; f < sizeof fillers / sizeof fillers[0]; f++) {
                dw_error err = {0};
                size_t length = strlen(fillers[f]), size = sizes[s] / length * length;
                for (size_t i = 0; i < size; i++) text[i] = fillers[f][i % length];
                memcpy(text + size, "\xe4\xbd\xa0", 3); /* a run that does not end the text costs most */
                dw_status status = tokenize_on_small_stack(k.vocab, text, size + 3, &err);
                if (status != DW_OK && status != DW_E_FULL && !(status == DW_E_LIMIT && s > 0))
                    fail_msg("%s, %zu of '%s': %s", k.name, size, fillers[f], err.text);
            }
        }
        kind_close(&k);
    }
    free(text);
}

static void a_text_without_a_place_to_end_a_word_is_refused(void **state) {
    (void)state;
    static const struct { dw_splitter_kind kind; const char *filler; bool refused;
    } cases[] = {
        {DW_SPLITTER_REGEX, "a", true},
        {DW_SPLITTER_REGEX, " ", true},
        {DW_SPLITTER_REGEX, "hello ", false},
        {DW_SPLITTER_REGEX, "hello.", false},
        {DW_SPLITTER_REGEX, ".-", true},
        {DW_SPLITTER_REGEX_LINES, "hello ", true},
        {DW_SPLITTER_REGEX_LINES, "hi.\n", false},
        {DW_SPLITTER_REGEX_DIGITS, "7", true},
        {DW_SPLITTER_REGEX_DIGITS, "77 ", false},
        {DW_SPLITTER_REGEX_SPACES, "    x", false},
        {DW_SPLITTER_LOOPS, "a", false},
    };
    const size_t size = (size_t)1 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        size_t length = strlen(cases[c].filler);
        for (size_t i = 0; i < size; i++) text[i] = cases[c].filler[i % length];
        dw_splitter_cost cost = dw_splitter_measure(cases[c].kind, text, size);
        assert_int_equal(dw_splitter_check(&cost, NULL), cases[c].refused ? DW_E_LIMIT : DW_OK);
    }
    free(text);
}

/* --- places ---------------------------------------------------------------------------------------------------- */

static size_t tokenize_at(dw_vocab *vocab, const char *text, dw_text_place place, bool special, int32_t *tokens) {
    size_t n = 0, again = 0;
    int32_t guarded[65];
    assert_int_equal(dw_vocab_tokenize(vocab, text, strlen(text), place, special, tokens, 64, &n, NULL), DW_OK);
    /* Exactly as much room is enough, one less is told and leaves everything. */
    assert_int_equal(dw_vocab_tokenize(vocab, text, strlen(text), place, special, guarded, n, &again, NULL), DW_OK);
    assert_int_equal(again, n);
    for (size_t i = 0; n > 0 && i < n; i++) guarded[i] = -7;
    if (n > 0) {
        assert_int_equal(dw_vocab_tokenize(vocab, text, strlen(text), place, special, guarded, n - 1, &again, NULL),
                         DW_E_FULL);
        assert_int_equal(again, n);
        assert_int_equal(guarded[0], -7);
    }
    return n;
}

static void a_place_decides_what_stands_around_a_text(void **state) {
    (void)state;
    enum { BOS = 1, EOS = 2, HELLO = MAKE_FIRST_WORD + 3, SPACE = MAKE_FIRST_WORD + 8 };
    for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
        dw_writer w;
        dw_gguf *gguf = NULL;
        dw_vocab *vocab = NULL;
        int32_t tokens[64];
        dw_writer_init(&w);
        make_llama(&w, &(make_vocabulary){.byte_pairs = byte_pairs != 0, .spaces = !byte_pairs, .adds_eos = true});
        assert_int_equal(make_open(&w, &gguf, NULL), DW_OK);
        assert_int_equal(dw_vocab_create(gguf, &vocab, NULL), DW_OK);
        size_t spaces = byte_pairs ? 0 : 1;
        assert_int_equal(tokenize_at(vocab, "hello", DW_TEXT_WHOLE, false, tokens), 3 + spaces);
        assert_int_equal(tokens[0], BOS);
        assert_int_equal(tokens[1 + spaces], HELLO);
        assert_int_equal(tokens[2 + spaces], EOS);
        assert_int_equal(tokenize_at(vocab, "hello", DW_TEXT_BEGINS, false, tokens), 2 + spaces);
        assert_int_equal(tokens[0], BOS);
        if (spaces > 0) assert_int_equal(tokens[1], SPACE);
        assert_int_equal(tokens[1 + spaces], HELLO);
        assert_int_equal(tokenize_at(vocab, "hello", DW_TEXT_GOES_ON, false, tokens), 1);
        assert_int_equal(tokens[0], HELLO);
        assert_int_equal(tokenize_at(vocab, "", DW_TEXT_GOES_ON, false, tokens), 0);
        assert_int_equal(tokenize_at(vocab, "", DW_TEXT_BEGINS, false, tokens), 1);
        dw_vocab_destroy(vocab);
        dw_gguf_close(gguf);
        dw_writer_deinit(&w);
    }
}

/* A conversation, turn by turn: the pieces of all tokens are all texts, after what the beginning gets. */
static void a_conversation_is_the_text_of_its_tokens(void **state) {
    (void)state;
    static const char *const turns[] = {
        "User: hello world",
        "\nActor:",
        " hello",
        "\nUser: ",
        "  two spaces",
        "",
        "\n",
        "caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd",
        " ",
        "hello",
        "lo",
        "\x01\x02 odd",
        "</s>",
        "hell",
        "o world\n\n",
    };
    kind k;
    for (size_t index = 0; kind_open(&k, index); index++) {
        if (index == KIND_WORD_PIECES || index == KIND_PLAIN) { /* lossy by design; and one that has no space */
            kind_close(&k);
            continue;
        }
        int32_t tokens[1024];
        char expected[512] = "", back[512];
        size_t n = 0, size = 0;
        for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
            size_t made = 0;
            dw_text_place place = i == 0 ? DW_TEXT_BEGINS : DW_TEXT_GOES_ON;
            assert_int_equal(
                dw_vocab_tokenize(k.vocab, turns[i], strlen(turns[i]), place, false, tokens + n, 1024 - n, &made, NULL),
                DW_OK);
            n += made;
            if (i == 0 && index == KIND_SPACES) strcat(expected, " ");
            strcat(expected, turns[i]);
        }
        assert_int_equal(dw_vocab_detokenize(k.vocab, tokens, n, false, back, sizeof back - 1, &size, NULL), DW_OK);
        back[size] = 0;
        /* These escape spaces as U+2581, which this vocabulary has no token for; its bytes come back. */
        bool escapes = strstr("gemma4 granite-embed-multi-311m mmbert sarvam-moe", k.name) != NULL;
        if (!escapes) assert_string_equal(back, expected);
        kind_close(&k);
    }
}

/* Control tokens in a text that goes on: a space follows them as everywhere, but none begins it. */
static void control_tokens_in_a_text_that_goes_on_are_found(void **state) {
    (void)state;
    enum { EOS = 2, HELLO = MAKE_FIRST_WORD + 3, SPACE = MAKE_FIRST_WORD + 8 };
    kind k;
    int32_t tokens[64];
    assert_true(kind_open(&k, KIND_SPACES));
    assert_int_equal(tokenize_at(k.vocab, "hello</s>hello", DW_TEXT_GOES_ON, true, tokens), 4);
    const int32_t expected[] = {HELLO, EOS, SPACE, HELLO};
    assert_memory_equal(tokens, expected, sizeof expected);
    assert_int_equal(tokenize_at(k.vocab, "</s>", DW_TEXT_GOES_ON, true, tokens), 1);
    assert_int_equal(tokens[0], EOS);
    kind_close(&k);
}

/* --- files that llama.cpp takes -------------------------------------------------------------------------------- */

static void files_that_llama_cpp_takes_are_taken(void **state) {
    (void)state;
    static const make_fault taken[] = {MAKE_OTHER_SIZE, MAKE_BOS_OUTSIDE, MAKE_BOS_NONE, MAKE_BOS_NONE_SIGNED};
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++) {
        for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
            dw_writer w;
            dw_gguf *gguf = NULL;
            dw_vocab *vocab = NULL;
            dw_error err = {0};
            int32_t tokens[64];
            dw_writer_init(&w);
            make_llama(&w, &(make_vocabulary){.byte_pairs = byte_pairs != 0, .fault = taken[i]});
            assert_int_equal(make_open(&w, &gguf, NULL), DW_OK);
            dw_status status = dw_vocab_create(gguf, &vocab, &err);
            if (status == DW_OK) status = dw_vocab_wait(vocab, &err);
            if (status != DW_OK) fail_msg("%d: %s", (int)taken[i], err.text);
            /* Where the file names none, the tokenizer's own default begins a text: 1 of SentencePiece, 11 of byte
             * pairs. */
            assert_int_equal(tokenize_at(vocab, "hello", DW_TEXT_BEGINS, false, tokens), 2);
            assert_int_equal(tokens[0], taken[i] == MAKE_OTHER_SIZE || !byte_pairs ? 1 : 11);
            dw_vocab_destroy(vocab);
            dw_gguf_close(gguf);
            dw_writer_deinit(&w);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_libllama_throws_is_a_status),
        cmocka_unit_test(a_file_that_libllama_refuses_is_refused_in_its_words),
        cmocka_unit_test(broken_text_is_read_as_its_repair_by_every_tokenizer),
        cmocka_unit_test(long_runs_never_overflow_the_stack),
        cmocka_unit_test(a_text_without_a_place_to_end_a_word_is_refused),
        cmocka_unit_test(a_place_decides_what_stands_around_a_text),
        cmocka_unit_test(a_conversation_is_the_text_of_its_tokens),
        cmocka_unit_test(control_tokens_in_a_text_that_goes_on_are_found),
        cmocka_unit_test(files_that_llama_cpp_takes_are_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* vocab_test.c: the tokenizer, and the vocabularies that must not reach libllama. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"
#include "model/text/text.h"
#include "model/kit/make_gguf.h"
#include "os/os.h"
#include "os/os_fault.h"

typedef struct loaded { dw_writer w; dw_gguf *gguf; dw_vocab *vocab; } loaded;

/* Opens a made vocabulary and waits for it; answers with the first status that is not ok. */
static dw_status try_load(loaded *l, const make_vocabulary *options, dw_error *err) {
    *l = (loaded){0};
    dw_writer_init(&l->w);
    make_llama(&l->w, options);
    assert_int_equal(make_open(&l->w, &l->gguf, err), DW_OK);
    dw_status status = dw_vocab_create(l->gguf, &l->vocab, err);
    return status == DW_OK ? dw_vocab_wait(l->vocab, err) : status;
}

static void unload(loaded *l) {
    dw_vocab_destroy(l->vocab);
    dw_gguf_close(l->gguf);
    dw_writer_deinit(&l->w);
}

static loaded load_good(bool byte_pairs) {
    loaded l;
    dw_error err = {0};
    dw_status status = try_load(&l, &(make_vocabulary){.byte_pairs = byte_pairs}, &err);
    if (status != DW_OK) print_error("%s\n", err.text);
    assert_int_equal(status, DW_OK);
    return l;
}

/* --- tokenizing ------------------------------------------------------------------------------------------------- */

static void text_becomes_words_and_bytes(void **state) {
    (void)state;
    enum { HELLO = MAKE_FIRST_WORD + 3, WORLD = MAKE_FIRST_WORD + 7 };
    for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
        loaded l = load_good(byte_pairs != 0);
        int32_t tokens[16] = {0};
        size_t n = 0;
        assert_int_equal(dw_vocab_tokenize(l.vocab, "hello!world", 11, DW_TEXT_WHOLE, false, tokens, 16, &n, NULL),
                         DW_OK);
        assert_int_equal(n, 4);
        assert_int_equal(tokens[0], 1);
        assert_int_equal(tokens[1], HELLO);
        assert_int_equal(tokens[2], MAKE_FIRST_BYTE + '!');
        assert_int_equal(tokens[3], WORLD);
        assert_int_equal(dw_vocab_tokenize(l.vocab, "", 0, DW_TEXT_GOES_ON, false, tokens, 16, &n, NULL), DW_OK);
        assert_int_equal(n, 0);
        unload(&l);
    }
}

static void every_character_survives_tokenizing(void **state) {
    (void)state;
    char text[1024], back[1024];
    size_t length = 0;
    for (uint32_t point = 0; point < 128; point++)
        text[length++] = (char)(point == ' ' ? '_' : point); /* this vocabulary has no space */
    const char utf8[] = "gr\xc3\xbc\xc3\x9f_\xe4\xbd\xa0\xe5\xa5\xbd_\xf0\x9f\x8c\xb2\xf4\x8f\xbf\xbf\n";
    memcpy(text + length, utf8, sizeof utf8 - 1);
    length += sizeof utf8 - 1;
    for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
        loaded l = load_good(byte_pairs != 0);
        int32_t tokens[1024];
        size_t n = 0, size = 0;
        assert_int_equal(dw_vocab_tokenize(l.vocab, text, length, DW_TEXT_GOES_ON, false, tokens, 1024, &n, NULL),
                         DW_OK);
        assert_int_equal(dw_vocab_detokenize(l.vocab, tokens, n, false, back, sizeof back, &size, NULL), DW_OK);
        assert_int_equal(size, length);
        assert_memory_equal(back, text, size);
        unload(&l);
    }
}

static void control_tokens_in_text_need_permission(void **state) {
    (void)state;
    for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
        loaded l = load_good(byte_pairs != 0);
        int32_t tokens[16];
        size_t n = 0;
        assert_int_equal(dw_vocab_tokenize(l.vocab, "</s>", 4, DW_TEXT_GOES_ON, true, tokens, 16, &n, NULL), DW_OK);
        assert_true(n == 1 && tokens[0] == 2);
        assert_int_equal(dw_vocab_tokenize(l.vocab, "</s>", 4, DW_TEXT_GOES_ON, false, tokens, 16, &n, NULL), DW_OK);
        assert_int_equal(n, 4); /* four bytes */
        for (size_t i = 0; i < n; i++) assert_true(tokens[i] >= MAKE_FIRST_BYTE);
        unload(&l);
    }
}

static void small_buffers_say_how_much_is_needed(void **state) {
    (void)state;
    loaded l = load_good(false);
    int32_t tokens[4] = {-7, -7, -7, -7};
    char text[8] = "zzzzzzz";
    size_t n = 0;
    assert_int_equal(dw_vocab_tokenize(l.vocab, "hello!!!", 8, DW_TEXT_GOES_ON, false, tokens, 3, &n, NULL), DW_E_FULL);
    assert_int_equal(n, 4);
    assert_int_equal(tokens[0], -7);
    assert_int_equal(dw_vocab_tokenize(l.vocab, "hello!!!", 8, DW_TEXT_GOES_ON, false, NULL, 0, &n, NULL), DW_E_FULL);
    assert_int_equal(dw_vocab_tokenize(l.vocab, "hello!!!", 8, DW_TEXT_GOES_ON, false, tokens, 4, &n, NULL), DW_OK);
    assert_int_equal(dw_vocab_piece(l.vocab, tokens[0], false, text, 4, &n), DW_E_FULL);
    assert_int_equal(n, 5);
    assert_int_equal(text[0], 'z');
    assert_int_equal(dw_vocab_piece(l.vocab, tokens[0], false, text, 5, &n), DW_OK);
    assert_memory_equal(text, "helloz", 6);
    assert_int_equal(dw_vocab_detokenize(l.vocab, tokens, 4, false, text, 7, &n, NULL), DW_E_FULL);
    assert_int_equal(n, 8);
    assert_int_equal(dw_vocab_detokenize(l.vocab, tokens, 4, false, text, 8, &n, NULL), DW_OK);
    assert_memory_equal(text, "hello!!!", 8);
    unload(&l);
}

static void tokens_outside_the_vocabulary_are_refused(void **state) {
    (void)state;
    loaded l = load_good(false);
    int32_t size = (int32_t)dw_vocab_size(l.vocab);
    const int32_t outside[] = {-1, size, INT32_MAX, INT32_MIN};
    char text[64];
    size_t n;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(dw_vocab_piece(l.vocab, outside[i], true, text, sizeof text, &n), DW_E_RANGE);
        assert_int_equal(dw_vocab_detokenize(l.vocab, &outside[i], 1, true, text, sizeof text, &n, NULL), DW_E_RANGE);
        assert_false(dw_vocab_is_end(l.vocab, outside[i]));
    }
    unload(&l);
}

static void special_tokens_are_known(void **state) {
    (void)state;
    loaded l = load_good(false);
    char text[16];
    size_t n = 9;
    assert_int_equal(dw_vocab_bos(l.vocab), 1);
    assert_int_equal(dw_vocab_eos(l.vocab), 2);
    assert_true(dw_vocab_is_end(l.vocab, 2));
    assert_false(dw_vocab_is_end(l.vocab, MAKE_FIRST_WORD));
    assert_int_equal(dw_vocab_piece(l.vocab, 2, false, text, sizeof text, &n), DW_OK);
    assert_int_equal(n, 0);
    assert_int_equal(dw_vocab_piece(l.vocab, 2, true, text, sizeof text, &n), DW_OK);
    assert_true(n == 4 && memcmp(text, "</s>", 4) == 0);
    unload(&l);
}

static void too_much_text_is_refused(void **state) {
    (void)state;
    loaded l = load_good(false);
    size_t n;
    assert_int_equal(
        dw_vocab_tokenize(l.vocab, "", (size_t)DW_TEXT_BYTES_MAX + 1, DW_TEXT_GOES_ON, false, NULL, 0, &n, NULL),
        DW_E_LIMIT);
    unload(&l);
}

/* A long run of one kind of character is what makes a recursive pattern matcher run out of stack. */
typedef struct run { dw_vocab *vocab; char *text; size_t size; dw_status status; } run;
static void tokenize_run(void *argument) {
    run *r = argument;
    size_t n;
    r->status = dw_vocab_tokenize(r->vocab, r->text, r->size, DW_TEXT_GOES_ON, false, NULL, 0, &n, NULL);
}

static void long_runs_do_not_use_up_a_small_stack(void **state) {
    (void)state;
    static const char kinds[] = {'a', '.', ' ', '7', '\n'};
    const size_t size = 100000;
    loaded l = load_good(true);
    char *text = malloc(size);
    assert_non_null(text);
    for (size_t k = 0; k < sizeof kinds; k++) {
        memset(text, kinds[k], size);
        run r = {l.vocab, text, size, DW_OK};
        dw_os_thread *thread = NULL;
        assert_int_equal(dw_os_thread_create("small", 256 << 10, tokenize_run, &r, &thread, NULL), DW_OK);
        dw_os_thread_join(thread);
        assert_int_equal(r.status, DW_E_FULL);
    }
    free(text);
    unload(&l);
}

/* Characters without a token make libllama copy everything made so far: 100 KB of them take seconds, 4 MB hours. */
static void text_of_quadratic_cost_is_refused(void **state) {
    (void)state;
    loaded l = load_good(false);
    const size_t size = (size_t)DW_TEXT_BYTES_MAX;
    char *text = malloc(size);
    assert_non_null(text);
    static const char *const fillers[] = {"\x80", "a", "\xe4\xbd\xa0", "\xc1\xa1", "\xff"};
    size_t n;
    for (size_t f = 0; f < sizeof fillers / sizeof fillers[0]; f++) {
        size_t length = strlen(fillers[f]);
        for (size_t i = 0; i < size; i++) text[i] = fillers[f][i % length];
        dw_error err = {0};
        assert_int_equal(dw_vocab_tokenize(l.vocab, text, size, DW_TEXT_GOES_ON, false, NULL, 0, &n, &err), DW_E_LIMIT);
        assert_non_null(strstr(err.text, "have no token"));
    }
    for (size_t i = 0; i < size; i++) text[i] = "</s>"[i % 4];
    dw_error err = {0};
    assert_int_equal(dw_vocab_tokenize(l.vocab, text, 1000000, DW_TEXT_GOES_ON, true, NULL, 0, &n, &err), DW_E_LIMIT);
    unload(&l);
    l = load_good(true); /* no such copies in byte-pair vocabularies, but special tokens all the same */
    assert_int_equal(dw_vocab_tokenize(l.vocab, text, 1000000, DW_TEXT_GOES_ON, true, NULL, 0, &n, &err), DW_E_LIMIT);
    assert_non_null(strstr(err.text, "special tokens may be in"));
    assert_int_equal(dw_vocab_tokenize(l.vocab, text, 20000, DW_TEXT_GOES_ON, true, NULL, 0, &n, &err), DW_E_FULL);
    assert_int_equal(n, 5000);
    free(text);
    unload(&l);
}

/* --- vocabularies that libllama must not see -----------------------------------------------------------------------
 */

/* Among them what was found in libllama: arrays shorter than the tokens (llama.cpp #20735) or of narrower elements
 * (#26690, read as 4 bytes each), tokens of one text (an assertion, #25739), tokens whose length does not fit where it
 * is put (CVE-2025-49847, GHSA-8wwf-w4qm-gpqr), byte tokens that name no byte (#25969), more tokens than an int32
 * counts (CVE-2025-52566, #14301: text is bounded before it gets there). */
static void bad_vocabularies_are_refused_with_the_reason(void **state) {
    (void)state;
    static const struct {
        make_fault fault;
        int kinds; /* 1 SentencePiece, 2 byte pairs, 3 both */
        dw_status status;
        const char *says;
    } cases[] = {
        {MAKE_NO_ARCHITECTURE, 3, DW_E_FORMAT, "general.architecture"},
        {MAKE_NO_MODEL, 3, DW_E_FORMAT, "tokenizer.ggml.model"},
        {MAKE_UNKNOWN_MODEL, 3, DW_E_UNSUPPORTED, "rwkv"},
        {MAKE_UNKNOWN_PRE, 2, DW_E_UNSUPPORTED, "no-such-splitting"},
        {MAKE_NO_TOKENS, 3, DW_E_FORMAT, "tokenizer.ggml.tokens"},
        {MAKE_TOKENS_NOT_STRINGS, 3, DW_E_FORMAT, "tokenizer.ggml.tokens"},
        {MAKE_EQUAL_TOKENS, 3, DW_E_FORMAT, "the same text"},
        {MAKE_EQUAL_UP_TO_ZERO, 3, DW_E_FORMAT, "the same text"},
        {MAKE_NAME_OF_EMPTY, 3, DW_E_FORMAT, "empty token"},
        {MAKE_MISSING_BYTE, 1, DW_E_UNSUPPORTED, "<0xE2>"},
        {MAKE_SHORT_SCORES, 3, DW_E_FORMAT, "tokenizer.ggml.scores"},
        {MAKE_NAN_SCORE, 3, DW_E_FORMAT, "token 9 has no finite score"},
        {MAKE_SCORES_NOT_NUMBERS, 3, DW_E_FORMAT, "tokenizer.ggml.scores"},
        {MAKE_SHORT_TYPES, 3, DW_E_FORMAT, "tokenizer.ggml.token_type"},
        {MAKE_UNKNOWN_TYPE, 3, DW_E_FORMAT, "token 7 has the unknown type 99"},
        {MAKE_BYTE_NOT_WRITTEN_SO, 3, DW_E_FORMAT, "<0xHH>"},
        {MAKE_NO_MERGES, 2, DW_E_FORMAT, "tokenizer.ggml.merges"},
        {MAKE_OTHER_ROWS, 3, DW_E_FORMAT, "token_embd.weight"},
        {MAKE_LONG_TOKEN, 3, DW_E_LIMIT, "5000 bytes"},
        {MAKE_GROWING_TOKENS, 2, DW_E_LIMIT, "too many characters"},
        {MAKE_SUPPRESS_NOT_ARRAY, 3, DW_E_FORMAT, "libllama does not take it: invalid gguf type for tokenizer.ggml.suppress_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
            if (!(cases[i].kinds & (1 << byte_pairs))) continue;
            loaded l;
            dw_error err = {0};
            dw_status status =
                try_load(&l, &(make_vocabulary){.byte_pairs = byte_pairs != 0, .fault = cases[i].fault}, &err);
            if (status != cases[i].status || !strstr(err.text, cases[i].says))
                print_error("fault %d: %s: %s\n", (int)cases[i].fault, dw_status_name(status), err.text);
            assert_int_equal(status, cases[i].status);
            assert_non_null(strstr(err.text, cases[i].says));
            unload(&l);
        }
    }
}

/* libllama has defaults for special tokens: where a default exists the file need not name it, and what it makes of them
 * is looked at before the first text is tokenized (it asserts there). */
static void missing_special_tokens_never_reach_an_assertion(void **state) {
    (void)state;
    for (make_fault fault = MAKE_BOS_MISSING; fault <= MAKE_EOS_MISSING; fault++) {
        for (int byte_pairs = 0; byte_pairs < 2; byte_pairs++) {
            loaded l;
            dw_error err = {0};
            dw_status status = try_load(&l, &(make_vocabulary){.byte_pairs = byte_pairs != 0, .fault = fault}, &err);
            if (status == DW_OK) {
                int32_t tokens[8];
                size_t n;
                assert_int_equal(dw_vocab_tokenize(l.vocab, "lo", 2, DW_TEXT_WHOLE, false, tokens, 8, &n, NULL), DW_OK);
            } else {
                assert_int_equal(status, DW_E_FORMAT);
            }
            unload(&l);
        }
    }
}

static void a_failed_vocabulary_answers_every_call(void **state) {
    (void)state;
    loaded l;
    dw_error err = {0};
    assert_int_equal(try_load(&l, &(make_vocabulary){.fault = MAKE_EQUAL_TOKENS}, &err), DW_E_FORMAT);
    assert_non_null(l.vocab); /* the token checks run on the loader's thread */
    int32_t token = 1;
    char text[8];
    size_t n;
    assert_int_equal(dw_vocab_tokenize(l.vocab, "a", 1, DW_TEXT_WHOLE, false, &token, 1, &n, NULL), DW_E_FORMAT);
    assert_int_equal(dw_vocab_piece(l.vocab, 1, false, text, 8, &n), DW_E_FORMAT);
    assert_int_equal(dw_vocab_detokenize(l.vocab, &token, 1, false, text, 8, &n, &err), DW_E_FORMAT);
    assert_non_null(strstr(err.text, "the same text"));
    assert_false(dw_vocab_is_end(l.vocab, 2));
    assert_int_equal(dw_vocab_bos(l.vocab), -1);
    assert_int_equal(dw_vocab_eos(l.vocab), -1);
    unload(&l);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void destroy_waits_for_the_loader(void **state) {
    (void)state;
    for (int i = 0; i < 20; i++) {
        loaded l = {0};
        dw_writer_init(&l.w);
        make_llama(&l.w, &(make_vocabulary){.byte_pairs = i % 2 != 0});
        assert_int_equal(make_open(&l.w, &l.gguf, NULL), DW_OK);
        assert_int_equal(dw_vocab_create(l.gguf, &l.vocab, NULL), DW_OK);
        unload(&l);
    }
    dw_vocab_destroy(NULL);
}

typedef struct user { dw_vocab *vocab; int wrong; } user;
static void use(void *argument) {
    user *u = argument;
    for (int i = 0; i < 50; i++) {
        int32_t tokens[16];
        size_t n = 0;
        if (dw_vocab_tokenize(u->vocab, "hello world", 11, DW_TEXT_WHOLE, false, tokens, 16, &n, NULL) != DW_OK ||
            tokens[1] != MAKE_FIRST_WORD + 3)
            u->wrong++;
    }
}

static void several_threads_may_wait_and_use_it(void **state) {
    (void)state;
    loaded l = {0};
    dw_writer_init(&l.w);
    make_llama(&l.w, &(make_vocabulary){.byte_pairs = true});
    assert_int_equal(make_open(&l.w, &l.gguf, NULL), DW_OK);
    assert_int_equal(dw_vocab_create(l.gguf, &l.vocab, NULL), DW_OK);
    user users[4];
    dw_os_thread *threads[4];
    for (int i = 0; i < 4; i++) {
        users[i] = (user){l.vocab, 0};
        assert_int_equal(dw_os_thread_create("user", 1 << 20, use, &users[i], &threads[i], NULL), DW_OK);
    }
    for (int i = 0; i < 4; i++) {
        dw_os_thread_join(threads[i]);
        assert_int_equal(users[i].wrong, 0);
    }
    unload(&l);
}

static void a_thread_that_cannot_start_is_a_failure_not_a_leak(void **state) {
    (void)state;
#ifdef DW_FAULTS
    loaded l = {0};
    dw_writer_init(&l.w);
    make_llama(&l.w, &(make_vocabulary){.byte_pairs = false});
    assert_int_equal(make_open(&l.w, &l.gguf, NULL), DW_OK);
    bool hit = true;
    for (uint64_t k = 1; hit; k++) {
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_THREAD, .k = k, .system_errno = EAGAIN});
        dw_status status = dw_vocab_create(l.gguf, &l.vocab, NULL);
        (void)dw_fault_disarm(&hit);
        assert_int_equal(status == DW_OK, !hit);
        assert_int_equal(l.vocab != NULL, !hit);
    }
    unload(&l);
#else
    skip();
#endif
}

static void words_become_their_longest_pieces(void **state) {
    (void)state;
    enum { LETTER = 5, INSIDE = LETTER + 26, HELLO = INSIDE + 26, WOR, LD, DOT };
    static const int32_t expected[] = {2,      HELLO,      WOR, LD, DOT,
                                       LETTER, INSIDE + 1, 1,   3}; /* "ab" in letters; nothing has a snowman */
    loaded l = {0};
    dw_error err = {0};
    int32_t tokens[16];
    size_t n = 0;
    dw_writer_init(&l.w);
    make_word_pieces(&l.w);
    assert_int_equal(make_open(&l.w, &l.gguf, &err), DW_OK);
    if (dw_vocab_create(l.gguf, &l.vocab, &err) != DW_OK || dw_vocab_wait(l.vocab, &err) != DW_OK)
        fail_msg("%s", err.text);
    static const char text[] = "  H\xc3\xa9llo WORLD.\nab \xe2\x98\x83";
    assert_int_equal(dw_vocab_tokenize(l.vocab, text, sizeof text - 1, DW_TEXT_WHOLE, false, tokens, 16, &n, NULL),
                     DW_OK);
    assert_int_equal(n, sizeof expected / sizeof expected[0]);
    assert_memory_equal(tokens, expected, sizeof expected);
    unload(&l);
}

static void corpus_is_what_make_gguf_writes(void **state) {
    (void)state;
    static const char *const names[] = {"all_types", "sentencepiece", "byte_pairs", "../../weights/corpus/whole_model",
                                        "word_pieces"};
    for (int i = 0; i < 5; i++) {
        dw_writer w;
        dw_writer_init(&w);
        if (i == 0) make_all_types(&w);
        else if (i == 3) make_whole_model(&w, NULL, 0);
        else if (i == 4) make_word_pieces(&w);
        else make_llama(&w, &(make_vocabulary){.byte_pairs = i == 2});
        char path[1024];
        uint8_t *bytes = NULL;
        size_t size = 0;
        (void)snprintf(path, sizeof path, "%s/tests/model/gguf/corpus/%s.gguf", DW_TEST_SOURCE, names[i]);
        assert_int_equal(dw_os_read_file(path, 1 << 20, &bytes, &size, NULL), DW_OK);
        assert_int_equal(size, w.size);
        assert_memory_equal(bytes, w.data, size);
        free(bytes);
        dw_writer_deinit(&w);
    }
}

/* --- a real model ----------------------------------------------------------------------------------------------- */

/* The same tokens as libllama gives when it opens the file itself. */
static void a_real_vocabulary_tokenizes_as_libllama_does(void **state) {
    (void)state;
    static const char *const texts[] = {
        "Once upon a time, there was a small actor.",
        "  two spaces\n\n\tand a tab",
        "naïve café — 你好，世界 🌲🔥",
        "x = {\"a\": [1, 2.50e-3]};",
        "<start_of_turn>user\nhi<end_of_turn>",
        "\xef\xbf\xbd replaced \xef\xbf\xbd",
        "",
    };
    if (DW_TEST_MODEL[0] == '\0') skip();
    dw_gguf *gguf = NULL;
    dw_vocab *vocab = NULL;
    dw_error err = {0};
    assert_int_equal(dw_gguf_open(DW_TEST_MODEL, &gguf, &err), DW_OK);
    assert_int_equal(dw_vocab_create(gguf, &vocab, &err), DW_OK);
    assert_int_equal(dw_vocab_wait(vocab, &err), DW_OK);
    struct llama_model_params params = llama_model_default_params();
    params.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(DW_TEST_MODEL, params);
    assert_non_null(model);
    const struct llama_vocab *oracle = llama_model_get_vocab(model);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (int special = 0; special < 2; special++) {
            int32_t ours[256], theirs[256];
            size_t n = 0;
            int32_t expected =
                llama_tokenize(oracle, texts[i], (int32_t)strlen(texts[i]), theirs, 256, true, special != 0);
            assert_int_equal(
                dw_vocab_tokenize(vocab, texts[i], strlen(texts[i]), DW_TEXT_WHOLE, special != 0, ours, 256, &n, &err),
                DW_OK);
            assert_int_equal(n, expected);
            assert_memory_equal(ours, theirs, n * sizeof *ours);
        }
    }
    assert_int_equal(dw_vocab_eos(vocab), llama_vocab_eos(oracle));
    /* Indented text is full of tokens that are white space; ordinary amounts of it must pass. */
    enum { INDENTED = 400000 };
    static const char line[] = "\n        return x;  // y\n\n";
    char *code = malloc(INDENTED);
    assert_non_null(code);
    size_t n_code;
    for (size_t i = 0; i < INDENTED; i++) code[i] = line[i % (sizeof line - 1)];
    assert_int_equal(dw_vocab_tokenize(vocab, code, INDENTED / 4, DW_TEXT_GOES_ON, false, NULL, 0, &n_code, &err),
                     DW_E_FULL);
    memset(code, ' ', INDENTED);
    assert_int_equal(dw_vocab_tokenize(vocab, code, INDENTED, DW_TEXT_GOES_ON, false, NULL, 0, &n_code, &err),
                     DW_E_FULL);
    free(code);
    assert_int_equal(dw_vocab_size(vocab), llama_vocab_n_tokens(oracle));
    llama_model_free(model);
    dw_vocab_destroy(vocab);
    dw_gguf_close(gguf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_becomes_words_and_bytes),
        cmocka_unit_test(every_character_survives_tokenizing),
        cmocka_unit_test(control_tokens_in_text_need_permission),
        cmocka_unit_test(small_buffers_say_how_much_is_needed),
        cmocka_unit_test(tokens_outside_the_vocabulary_are_refused),
        cmocka_unit_test(special_tokens_are_known),
        cmocka_unit_test(too_much_text_is_refused),
        cmocka_unit_test(long_runs_do_not_use_up_a_small_stack),
        cmocka_unit_test(text_of_quadratic_cost_is_refused),
        cmocka_unit_test(bad_vocabularies_are_refused_with_the_reason),
        cmocka_unit_test(missing_special_tokens_never_reach_an_assertion),
        cmocka_unit_test(a_failed_vocabulary_answers_every_call),
        cmocka_unit_test(destroy_waits_for_the_loader),
        cmocka_unit_test(several_threads_may_wait_and_use_it),
        cmocka_unit_test(a_thread_that_cannot_start_is_a_failure_not_a_leak),
        cmocka_unit_test(words_become_their_longest_pieces),
        cmocka_unit_test(corpus_is_what_make_gguf_writes),
        cmocka_unit_test(a_real_vocabulary_tokenizes_as_libllama_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* Tokens and logits beside libllama's own inference: small random models of every trait, and Gemma 3 270M where it is there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/kit/compare.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "model/model.h"
#include "model/kit/oracle.h"

enum { CONTEXT = 1024, N_GREEDY = 64 };

static dw_device *device;

/* One prompt: logits behind it must be equal to the bit, then 64 greedy tokens. */
static void compare(dw_model *model, oracle *o, const int32_t *prompt, uint32_t n, uint32_t n_greedy) {
    comparison c = compare_with_oracle(model, o, prompt, &n, 1, n_greedy);
    printf("  %4u tokens: first logits differ by at most %g; %u of %u greedy tokens equal\n", n, c.difference, c.equal, n_greedy);
    assert_true(c.difference == 0);
    assert_int_equal(c.equal, n_greedy);
}

/* Mostly one thread: several wait for each other at every one of some hundred barriers a step, which on a busy machine takes minutes. */
static void open_device(int threads) {
    assert_int_equal(dw_device_open("cpu", &(dw_device_options){.threads = (unsigned)threads}, &device, NULL), DW_OK);
}

static dw_model *open_model(const char *path, uint32_t context) {
    return open_model_on(device, path, &(dw_model_options){.context_tokens = context, .sessions_max = 2});
}

static void small_models_equal_libllama(void **state) {
    (void)state;
    open_device(1);
    static const uint32_t lengths[] = {1, 5, 70, 256, 300, 320, 700};
    for (const made_model *m = made_models; m->name != NULL; m++) {
        const char *path = made_model_path(m);
        printf("%s\n", m->name);
        dw_model *model = open_model(path, CONTEXT);
        oracle *o = oracle_open(path, CONTEXT, 1);
        assert_non_null(o);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            int32_t prompt[1024];
            make_prompt(prompt, lengths[i], m->n_vocab, 1, 100 + i);
            compare(model, o, prompt, lengths[i], N_GREEDY);
        }
        oracle_close(o);
        dw_model_close(model);
    }
    dw_device_close(device);
}

static void compare_gemma(const char *path, int threads, bool long_prompt) {
    static const char *const texts[] = {
        "The capital of France is",
        "Once upon a time, in a small village by the sea, there lived an old fisherman who",
        "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
        "Q: Why is the sky blue?\nA:",
    };
    enum { LONG = 1100 }; /* beyond the window of 512, and beyond two chunks */
    open_device(threads);
    dw_model *model = open_model(path, 2048);
    oracle *o = oracle_open(path, 2048, 1);
    assert_non_null(o);
    int32_t prompt[LONG];
    for (size_t i = 0; !long_prompt && i < sizeof texts / sizeof texts[0]; i++) {
        size_t n = 0;
        assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), texts[i], strlen(texts[i]), DW_TEXT_WHOLE, false,
                                           prompt, LONG, &n, NULL),
                         DW_OK);
        compare(model, o, prompt, (uint32_t)n, N_GREEDY);
    }
    if (long_prompt) {
        make_prompt(prompt, LONG, dw_model_info_view(model)->n_vocab, dw_vocab_bos(dw_model_vocab(model)), 7);
        compare(model, o, prompt, LONG, threads == 1 ? N_GREEDY : 4);
    }
    oracle_close(o);
    dw_model_close(model);
    dw_device_close(device);
}

static const char *gemma(void) {
    const char *path = getenv("DW_TEST_MODEL");
    if (path != NULL && path[0] != 0) return path;
    printf("skipped: no model (DW_TEST_MODEL)\n");
    skip();
    return NULL;
}

static void gemma_equals_libllama(void **state) {
    (void)state;
    compare_gemma(gemma(), 1, false);
}

static void gemma_beyond_its_window_equals_libllama(void **state) {
    (void)state;
    compare_gemma(gemma(), 1, true);
}

/* From 512 rows on libllama's decoding cuts attention between threads, and rounds by their number; ours does not. */
static void two_threads_decode_what_one_does(void **state) {
    (void)state;
    compare_gemma(gemma(), 2, true);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_models_equal_libllama),
        cmocka_unit_test(gemma_equals_libllama),
        cmocka_unit_test(gemma_beyond_its_window_equals_libllama),
        cmocka_unit_test(two_threads_decode_what_one_does),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}

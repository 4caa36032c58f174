/* kv_types_test.c: KV rows of every type beside libllama's with the same types. Sessions, forks and thaws per type are in session_test.c. */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "model/engine/engine.h"
#include "model/kit/oracle.h"
#include "model/kit/make_gguf.h"
#include "os/os.h"

enum { CONTEXT = 1024, N_GREEDY = 16 };

static dw_device *device;

static int set_up(void **state) {
    (void)state;
    return dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, NULL) == DW_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    dw_device_close(device);
    return 0;
}

static dw_model *open_model(const char *path, dw_kv_type type) {
    return open_model_on(device, path, &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 2, .kv_type = type});
}

typedef struct differences { double logits; uint32_t greedy_equal; } differences;

/* A prompt, then greedy tokens one at a time, all through the cache. Both sides go on with the same token, so that one that differs
 * does not hide the rest. */
static differences compare(dw_model *model, oracle *o, const int32_t *prompt, uint32_t n) {
    uint32_t n_vocab = dw_model_info_view(model)->n_vocab;
    float *logits = malloc(n_vocab * sizeof logits[0]);
    dw_session *session = NULL;
    differences out = {0};
    assert_non_null(logits);
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    oracle_reset(o);
    for (uint32_t step = 0; step <= N_GREEDY; step++) {
        int32_t token = step == 0 ? 0 : oracle_argmax(logits, n_vocab);
        const int32_t *tokens = step == 0 ? prompt : &token;
        forward(session, tokens, step == 0 ? n : 1, logits);
        const float *expected = oracle_evaluate(o, tokens, step == 0 ? n : 1);
        for (uint32_t i = 0; i < n_vocab; i++) {
            double d = (double)logits[i] - (double)expected[i];
            if (d < 0) d = -d;
            if (!(d <= out.logits)) out.logits = d;
        }
        out.greedy_equal += oracle_argmax(logits, n_vocab) == oracle_argmax(expected, n_vocab);
    }
    dw_session_destroy(session);
    free(logits);
    return out;
}

/* Every model that libllama compares with, at lengths of one chunk and of several. */
static void compare_all(dw_kv_type type, double bound) {
    static const uint32_t lengths[] = {5, 70, 300, 700};
    for (const made_model *m = made_models; m->name != NULL; m++) {
        dw_model *model = open_model(made_model_path(m), type);
        oracle *o = oracle_open_kv(made_model_path(m), CONTEXT, 1, (int)dw_kv_type_ggml(type));
        assert_non_null(o);
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
            int32_t prompt[1024];
            for (uint32_t k = 0; k < lengths[i]; k++) prompt[k] = k == 0 ? 1 : (int32_t)(3 + (k * 7919 + i * 104729) % (m->n_vocab - 3));
            differences d = compare(model, o, prompt, lengths[i]);
            printf("%s %s, %u tokens: logits of %d steps differ by at most %g, %u greedy tokens of %d equal\n", dw_kv_type_name(type), m->name, lengths[i],
                   N_GREEDY + 1, d.logits, d.greedy_equal, N_GREEDY + 1);
            assert_true(d.logits <= bound);
        }
        oracle_close(o);
        dw_model_close(model);
    }
}

static void f16_rows_equal_libllama(void **state) {
    (void)state;
    compare_all(DW_KV_F16, 0);
}

static void bf16_rows_equal_libllama(void **state) {
    (void)state;
    compare_all(DW_KV_BF16, 0);
}

/* libllama without its rotation of quantised rows computes what is computed here. */
static void q8_0_rows_equal_libllama_without_rotation(void **state) {
    (void)state;
    assert_int_equal(setenv("LLAMA_ATTN_ROT_DISABLE", "1", 1), 0);
    compare_all(DW_KV_Q8_0, 0);
}

/* With the rotation (its default) it quantises other numbers: the results are close, not equal. */
static void q8_0_rows_are_close_to_libllama_with_rotation(void **state) {
    (void)state;
    assert_int_equal(unsetenv("LLAMA_ATTN_ROT_DISABLE"), 0);
    compare_all(DW_KV_Q8_0, 0.4); /* of logits whose deviation is about 1 */
}

static void row_bytes_are_ggmls(void **state) {
    (void)state;
    for (int type = 0; type < DW_KV_TYPES; type++) {
        dw_kv_type kv = (dw_kv_type)type, named;
        enum ggml_type ggml = (enum ggml_type)dw_kv_type_ggml(kv);
        assert_int_equal(dw_kv_type_block(kv), ggml_blck_size(ggml));
        for (uint32_t heads = 1; heads <= 8; heads++) {
            for (uint32_t dim = 32; dim <= 256; dim += 32) assert_int_equal(dw_kv_row_bytes(kv, heads, dim), ggml_row_size(ggml, (int64_t)heads * dim));
        }
        assert_true(dw_kv_type_named(dw_kv_type_name(kv), &named) && named == kv);
    }
    dw_kv_type none;
    assert_false(dw_kv_type_named("q8_0", &none));
    assert_false(dw_kv_type_named("", &none));
}

/* Heads of 16, which are half a block. */
static void heads_that_are_no_whole_blocks_are_refused(void **state) {
    (void)state;
    char path[512];
    dw_model *model = NULL;
    dw_error err = {0};
    dw_writer w;
    dw_writer_init(&w);
    make_whole_model(&w, NULL, 0);
    (void)snprintf(path, sizeof path, "%s/kv_types.%llu.gguf", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    assert_int_equal(dw_os_write_file(path, w.data, w.size, &err), DW_OK);
    dw_writer_deinit(&w);
    assert_int_equal(dw_model_open(path, device, &(dw_model_options){.kv_type = DW_KV_Q8_0}, &model, &err), DW_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "Q8_0 need heads of a multiple of 32; this model's have 16"));
    assert_int_equal(dw_model_open(path, device, &(dw_model_options){.kv_type = (dw_kv_type)3}, &model, &err), DW_E_INVALID);
    assert_int_equal(dw_model_open(path, device, &(dw_model_options){.kv_type = DW_KV_BF16}, &model, &err), DW_OK);
    dw_model_close(model);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(row_bytes_are_ggmls),
        cmocka_unit_test(heads_that_are_no_whole_blocks_are_refused),
        cmocka_unit_test(f16_rows_equal_libllama),
        cmocka_unit_test(bf16_rows_equal_libllama),
        cmocka_unit_test(q8_0_rows_equal_libllama_without_rotation),
        cmocka_unit_test(q8_0_rows_are_close_to_libllama_with_rotation),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

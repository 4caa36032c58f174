/* hostile_test.c: models whose GGUF is well formed and whose claims are not: dw_model_open refuses them by key or tensor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "model/engine/engine.h"
#include "model/kit/make_gguf.h"
#include "os/os.h"

static dw_device *device;
static char path[512];

static int set_up(void **state) {
    (void)state;
    (void)snprintf(path, sizeof path, "%s/hostile.%llu.gguf", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    return dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, NULL) == DW_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    dw_device_close(device);
    return dw_os_remove(path, NULL) == DW_OK ? 0 : 1;
}

static dw_status open_changed(const make_change *changes, size_t n, dw_model **out, dw_error *err) {
    dw_writer w;
    dw_writer_init(&w);
    make_whole_model(&w, changes, n);
    assert_int_equal(dw_os_write_file(path, w.data, w.size, err), DW_OK);
    dw_writer_deinit(&w);
    return dw_model_open(path, device, &(dw_model_options){.context_tokens = 64, .sessions_max = 1}, out, err);
}

/* One changed key, which must be refused by a text that names `says`. */
static void assert_refused(make_change change, const char *says) {
    dw_model *model = NULL;
    dw_error err = {0};
    dw_status status = open_changed(&change, 1, &model, &err);
    if (status == DW_OK || !strstr(err.text, says)) print_error("%s = %llu: %s: %s\n", change.key, (unsigned long long)change.value, dw_status_name(status), err.text);
    assert_true(status == DW_E_FORMAT || status == DW_E_LIMIT || status == DW_E_UNSUPPORTED);
    assert_null(model);
    assert_non_null(strstr(err.text, says));
    assert_non_null(strstr(err.text, path));
}

static void the_model_without_changes_is_good(void **state) {
    (void)state;
    dw_model *model = NULL;
    dw_session *session = NULL;
    dw_error err = {0};
    dw_status status = open_changed(NULL, 0, &model, &err);
    if (status != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(dw_vocab_wait(dw_model_vocab(model), &err), DW_OK);
    assert_int_equal(dw_model_create_session(model, NULL, &session, &err), DW_OK);
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .tokens = (const int32_t[]){1}, .n_tokens = 1, .n_max = 8, .ignore_end = true,
                  .sampling = {.top_p = 1}};
    assert_int_equal(dw_job_run(&job, &err), DW_OK);
    assert_int_equal(job.n_generated, 8);
    dw_session_destroy(session);
    dw_model_close(model);
}

/* Layer counts into arrays of a fixed size: acestep.cpp #98; times a size: llama.cpp #19856. */
static void absurd_counts_of_layers_are_refused(void **state) {
    (void)state;
    static const char key[] = "llama.block_count";
    assert_refused((make_change){key, DW_GGUF_U32, 0}, key);
    assert_refused((make_change){key, DW_GGUF_U32, 2}, "blk.1.");
    assert_refused((make_change){key, DW_GGUF_U32, 1024}, "1024 layers");
    assert_refused((make_change){key, DW_GGUF_U32, 1025}, key);
    assert_refused((make_change){key, DW_GGUF_U32, UINT32_MAX}, key);
    assert_refused((make_change){key, DW_GGUF_U64, UINT64_C(1) << 32 | 1}, key); /* 1 to a reader of 32 bits */
    assert_refused((make_change){key, DW_GGUF_I32, UINT32_MAX}, key);
    assert_refused((make_change){key, MAKE_LEFT_OUT, 0}, key);
}

static void absurd_widths_and_heads_are_refused(void **state) {
    (void)state;
    static const struct { const char *key; uint64_t values[6]; } cases[] = {
        {"llama.embedding_length", {0, 1, 64, 1u << 20, (1u << 20) + 1, UINT32_MAX}},
        {"llama.feed_forward_length", {0, 1, 33, 1u << 24, (1u << 24) + 1, UINT32_MAX}},
        {"llama.attention.head_count", {0, 3, 4, 1024, 1025, UINT32_MAX}},
        {"llama.attention.head_count_kv", {0, 2, 3, 1024, 1025, UINT32_MAX}},
        {"llama.attention.key_length", {0, 1, 17, 4096, 4097, UINT32_MAX}},
        {"llama.attention.value_length", {0, 1, 17, 4096, 4097, UINT32_MAX}},
        {"llama.context_length", {0, 0, 0, UINT32_MAX, UINT32_MAX - 1, (1u << 24) + 1}},
        {"llama.rope.dimension_count", {0, 1, 15, 18, 1u << 31, UINT32_MAX}},
        {"llama.vocab_size", {0, 1, 267, 269, 1u << 31, UINT32_MAX}},
        {"tokenizer.ggml.unknown_token_id", {268, 269, 1u << 16, 1u << 31, UINT32_MAX - 1, UINT32_MAX}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t v = 0; v < 6; v++) assert_refused((make_change){cases[i].key, DW_GGUF_U32, cases[i].values[v]}, "");
    }
}

static void numbers_that_are_none_are_refused(void **state) {
    (void)state;
    static const char epsilon[] = "llama.attention.layer_norm_rms_epsilon", base[] = "llama.rope.freq_base";
    static const uint32_t nan = 0x7fc00000, infinite = 0x7f800000, minus_one = 0xbf800000;
    assert_refused((make_change){epsilon, DW_GGUF_F32, nan}, epsilon);
    assert_refused((make_change){epsilon, DW_GGUF_F32, infinite}, epsilon);
    assert_refused((make_change){epsilon, DW_GGUF_F32, minus_one}, epsilon);
    assert_refused((make_change){epsilon, MAKE_LEFT_OUT, 0}, epsilon);
    assert_refused((make_change){base, DW_GGUF_F32, nan}, base);
    assert_refused((make_change){base, DW_GGUF_F32, infinite}, base);
    assert_refused((make_change){base, DW_GGUF_F32, minus_one}, base);
    assert_refused((make_change){base, DW_GGUF_F32, 0}, base);
    assert_refused((make_change){"llama.rope.scaling.factor", DW_GGUF_F32, nan}, "llama.rope.scaling.factor");
}

/* A key read as another type than it has: an assertion in ggml (llama.cpp #26318), or bytes of something else. */
static void keys_of_another_type_are_refused(void **state) {
    (void)state;
    static const char *const keys[] = {"llama.block_count", "llama.embedding_length", "llama.context_length", "llama.rope.dimension_count",
                                       "llama.attention.layer_norm_rms_epsilon"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        assert_refused((make_change){keys[i], DW_GGUF_STRING, 0}, keys[i]);
        assert_refused((make_change){keys[i], DW_GGUF_ARRAY, 1}, keys[i]);
        assert_refused((make_change){keys[i], DW_GGUF_BOOL, 1}, keys[i]);
    }
    assert_refused((make_change){"llama.block_count", DW_GGUF_F32, 0x3f800000}, "llama.block_count");
    assert_refused((make_change){"tokenizer.ggml.padding_token_id", DW_GGUF_STRING, 0}, "tokenizer.ggml.padding_token_id");
    assert_refused((make_change){"tokenizer.ggml.remove_extra_whitespaces", DW_GGUF_U32, 1}, "tokenizer.ggml.remove_extra_whitespaces");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model_without_changes_is_good),
        cmocka_unit_test(absurd_counts_of_layers_are_refused),
        cmocka_unit_test(absurd_widths_and_heads_are_refused),
        cmocka_unit_test(numbers_that_are_none_are_refused),
        cmocka_unit_test(keys_of_another_type_are_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

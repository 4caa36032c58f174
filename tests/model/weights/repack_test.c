/* Repacked weights: really in memory of their own, equal to libllama's repacked inference to the bit, near to the mapped weights' logits. */
#include <math.h>
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

enum { CONTEXT = 512, N_VOCAB = 512, N_STEPS = 16 };

#define MODEL(n, t, own, s) {.name = "repack_" n, .architecture = "llama", .n_layers = 2, .width = 256, .n_heads = 4, .n_heads_kv = 2, .head_dim = 64, \
    .n_feed_forward = 512, .n_vocab = N_VOCAB, .context = CONTEXT, .type = GGML_TYPE_##t, .own_output = own, .seed = s}

/* Types that some processor has a repacked product for. Output and embedding are one tensor in the tied ones. */
static const made_model models[] = {
    MODEL("q4_0_tied", Q4_0, false, 31), MODEL("q4_0", Q4_0, true, 32),     MODEL("q4_k_tied", Q4_K, false, 33), MODEL("q4_k", Q4_K, true, 34),
    MODEL("q2_k", Q2_K, true, 35),       MODEL("q5_k", Q5_K, true, 36),     MODEL("q6_k", Q6_K, true, 37),       MODEL("iq4_nl_tied", IQ4_NL, false, 38),
    MODEL("q8_0", Q8_0, true, 39),       MODEL("mxfp4", MXFP4, true, 40),
};
enum { N_MODELS = sizeof models / sizeof models[0] };

static dw_device *device;

static bool has_kernel(enum ggml_type type) {
    const char *name = ggml_type_name(type), *list = dw_device_info_view(device)->repacks;
    size_t length = strlen(name);
    for (const char *at = strstr(list, name); at != NULL; at = strstr(at + 1, name)) {
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || at[length] == 0)) return true;
    }
    return false;
}

static dw_model *open_model(const char *path, bool repack) {
    return open_model_on(device, path, &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 2, .repack = repack});
}

/* Root mean square of a - b, over that of a. */
static double relative_difference(const float *a, const float *b) {
    double difference = 0, size = 0;
    for (int i = 0; i < N_VOCAB; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)a[i] * (double)a[i];
    }
    return sqrt(difference / size);
}

/* A prefill of n tokens and some steps, each beside the mapped weights and beside libllama. Returns the largest difference from the mapped ones. */
static double compare(dw_model *repacked, dw_model *mapped, oracle *o, uint32_t n) {
    int32_t tokens[CONTEXT];
    float ours[N_VOCAB], beside[N_VOCAB];
    double largest = 0;
    dw_session *a = NULL, *b = NULL;
    for (uint32_t i = 0; i < n + N_STEPS; i++) tokens[i] = (int32_t)((i * 7919 + 3) % N_VOCAB);
    assert_int_equal(dw_model_create_session(repacked, NULL, &a, NULL), DW_OK);
    assert_int_equal(dw_model_create_session(mapped, NULL, &b, NULL), DW_OK);
    oracle_reset(o);
    for (uint32_t done = 0; done < n + N_STEPS;) {
        uint32_t step = done == 0 ? n : 1;
        forward(a, tokens + done, step, ours);
        forward(b, tokens + done, step, beside);
        assert_memory_equal(ours, oracle_evaluate(o, tokens + done, step), sizeof ours);
        double difference = relative_difference(ours, beside);
        if (!(difference <= largest)) largest = difference;
        done += step;
    }
    dw_session_destroy(a);
    dw_session_destroy(b);
    return largest;
}

static void products_equal_libllama_and_are_near_the_mapped_ones(void **state) {
    (void)state;
    static const uint32_t lengths[] = {1, 5, 70, 300};
    int met = 0;
    for (size_t m = 0; m < N_MODELS; m++) {
        if (!has_kernel(models[m].type)) {
            printf("  %s: no repack kernel on this processor\n", models[m].name);
            continue;
        }
        met++;
        const char *path = made_model_path(&models[m]);
        dw_model *mapped = open_model(path, false), *repacked = open_model(path, true);
        oracle *o = oracle_open_repacked(path, CONTEXT, 1);
        assert_non_null(o);
        double difference = 0;
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) difference = fmax(difference, compare(repacked, mapped, o, lengths[i]));
        printf("  %s: %llu bytes repacked; logits equal libllama's, and differ from the mapped weights' by %.2g of their size\n", models[m].name,
               (unsigned long long)dw_model_info_view(repacked)->weights_repacked_bytes, difference);
        /* Sums in another order move an activation across a step of its 8 bits now and then: as much as rounding to 8 bits itself does,
         * 1 to 3 % after the layers of these models. A wrong weight is off by all of it. */
        assert_true(difference < 1e-1);
        oracle_close(o);
        dw_model_close(mapped);
        dw_model_close(repacked);
    }
    if (met == 0) skip();
}

/* Bytes of one model's matrices as its file has them. */
static uint64_t matrix_bytes(const made_model *m) {
    uint64_t kv = (uint64_t)m->n_heads_kv * m->head_dim, q = (uint64_t)m->n_heads * m->head_dim;
    uint64_t elements = m->n_layers * (2 * m->width * q + 2 * m->width * kv + 3 * (uint64_t)m->width * m->n_feed_forward) + (uint64_t)m->width * m->n_vocab;
    return elements / (uint64_t)ggml_blck_size(m->type) * ggml_type_size(m->type);
}

static void the_copy_is_counted_and_named(void **state) {
    (void)state;
    int met = 0;
    for (size_t m = 0; m < N_MODELS; m++) {
        if (!has_kernel(models[m].type)) continue;
        met++;
        const char *path = made_model_path(&models[m]);
        char one[DW_PROFILE_BYTES], two[DW_PROFILE_BYTES];
        dw_model *mapped = open_model(path, false);
        dw_model_info info = *dw_model_info_view(mapped);
        dw_model_profile(mapped, one);
        assert_int_equal(info.weights_repacked_bytes, 0);
        assert_string_equal(info.weights, "mapped");
        uint64_t embedding_bytes = matrix_bytes(&(made_model){.width = models[m].width, .n_vocab = N_VOCAB, .type = models[m].type});
        dw_model_close(mapped);

        dw_ledger before = dw_device_ledger(device);
        dw_model *repacked = open_model(path, true);
        dw_ledger after = dw_device_ledger(device);
        const dw_model_info *now = dw_model_info_view(repacked);
        dw_model_profile(repacked, two);
        /* Every matrix and the output; the embedding stays in the map, also where it is the output. */
        assert_int_equal(now->weights_repacked_bytes, matrix_bytes(&models[m]));
        assert_int_equal(after.copied_in - before.copied_in >= now->weights_repacked_bytes, 1);
        assert_true(after.allocated_now - before.allocated_now >= now->weights_repacked_bytes);
        uint64_t matrices_mapped = info.weights_wrapped_bytes - now->weights_wrapped_bytes;
        assert_int_equal(matrices_mapped, now->weights_repacked_bytes - (models[m].own_output ? 0 : embedding_bytes));
        assert_string_equal(now->weights, "repacked");
        assert_non_null(strstr(one, ";weights=mapped;"));
        assert_non_null(strstr(two, ";weights=repacked;"));
        dw_model_close(repacked);
        assert_int_equal(dw_device_ledger(device).allocated_now, before.allocated_now);
    }
    if (met == 0) {
        printf("no repack kernel on this processor\n");
        skip();
    }
}

static void without_a_kernel_weights_stay_mapped(void **state) {
    (void)state;
    const made_model plain = MODEL("f16", F16, false, 41);
    assert_false(has_kernel(GGML_TYPE_F16));
    dw_model *model = open_model(made_model_path(&plain), true);
    const dw_model_info *info = dw_model_info_view(model);
    assert_int_equal(info->weights_repacked_bytes, 0);
    assert_string_equal(info->weights, "mapped");
    dw_model_close(model);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    dw_error err = {0};
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, &err) != DW_OK) {
        printf("%s\n", err.text);
        return 1;
    }
    printf("repacked products: %s\n", dw_device_info_view(device)->repacks);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_equal_libllama_and_are_near_the_mapped_ones),
        cmocka_unit_test(the_copy_is_counted_and_named),
        cmocka_unit_test(without_a_kernel_weights_stay_mapped),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

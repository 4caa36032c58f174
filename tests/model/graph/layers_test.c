/* layers_test.c: layers that stand for all others when bits are tried: each kind is there, and graphs of chosen layers compute them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/test.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "model/model_internal.h"

enum { CONTEXT = 600, WIDTH_MAX = 256, N_TOKENS = 40 };

static dw_device *device;

static dw_model *opened(const made_model *made) {
    return open_model_on(device, made_model_path(made), &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 1});
}

/* Every layer has one of its kind among the chosen: of windows, rope, experts, heads and feed-forward. */
static void check_kinds(const made_model *made, uint32_t n_expected, const uint16_t *expected) {
    uint16_t layers[DW_GRAPH_CHOSEN_MAX];
    dw_model *model = opened(made);
    uint32_t n = dw_bits_layers(model, layers);
    assert_int_equal(n, n_expected);
    assert_memory_equal(layers, expected, n * sizeof layers[0]);
    for (uint32_t layer = 0; layer < model->hp.n_layers; layer++) {
        bool there = false;
        for (uint32_t i = 0; i < n; i++) {
            const dw_layer_sizes *x = &model->hp.layers[layers[i]], *y = &model->hp.layers[layer];
            there = there || (x->n_heads == y->n_heads && x->n_feed_forward == y->n_feed_forward && x->rope == y->rope && x->windowed == y->windowed &&
                              (model->weights.layers[layers[i]].router != NULL) == (model->weights.layers[layer].router != NULL));
        }
        assert_true(there);
    }
    assert_true(model->bits.batches && model->bits.chunks); /* and what was tried holds, as it did with fewer layers */
    dw_model_close(model);
}

static void each_kind_of_layer_is_tried(void **state) {
    (void)state;
    static const uint32_t heads[] = {4, 4, 2, 4}, feed[] = {256, 256, 256, 128};
    made_model unequal = {.name = "unequal_kinds", .architecture = "llama", .n_layers = 4, .width = 256, .n_heads = 4, .n_heads_kv = 1, .head_dim = 64,
                          .n_feed_forward = 256, .context = 2048, .n_vocab = 512, .type = GGML_TYPE_F32, .heads_of = heads, .feed_of = feed, .seed = 71};
    check_kinds(made_model_named("tied_f16"), 2, (const uint16_t[]){0, 1});  /* all are equal */
    check_kinds(made_model_named("window_q8"), 2, (const uint16_t[]){0, 5}); /* every sixth sees everything */
    check_kinds(&unequal, 3, (const uint16_t[]){0, 2, 3});
}

/* Hidden rows of N_TOKENS tokens by these layers. */
static void evaluate(dw_model *model, const uint16_t *layers, uint32_t n_layers, float *hidden) {
    int32_t tokens[N_TOKENS];
    dw_kv_slot slot = 0;
    dw_error err = {0};
    const uint32_t last = N_TOKENS - 1;
    for (int32_t i = 0; i < N_TOKENS; i++) tokens[i] = 300 + i;
    dw_graph_part part = {.tokens = tokens, .n_tokens = N_TOKENS};
    dw_os_mutex_lock(model->pool->lock);
    assert_int_equal(dw_kv_open(model->pool->arena, &slot, &err), DW_OK);
    assert_int_equal(dw_kv_writable(model->pool->arena, slot, N_TOKENS, &part.binding.buffer, &part.binding.offset, &err), DW_OK);
    dw_os_mutex_unlock(model->pool->lock);
    dw_graph_batch batch = {.parts = &part, .n_parts = 1, .wanted = &last, .n_wanted = 1, .layers = layers, .n_layers = n_layers, .result = DW_RESULT_HIDDEN};
    if (dw_decoder_evaluate(model->decoder, &batch, hidden, &err) != DW_OK) fail_msg("%s", err.text);
    dw_os_mutex_lock(model->pool->lock);
    dw_kv_close(model->pool->arena, slot);
    dw_os_mutex_unlock(model->pool->lock);
}

static void chosen_layers_are_those_that_are_evaluated(void **state) {
    (void)state;
    static const uint16_t every[] = {0, 1, 2, 3, 4, 5, 6}, some[] = {0, 5}, others[] = {1, 5};
    float all[WIDTH_MAX], by_name[WIDTH_MAX], of_some[WIDTH_MAX], of_others[WIDTH_MAX], again[WIDTH_MAX];
    dw_model *model = opened(made_model_named("window_q8"));
    size_t bytes = model->info.n_embedding * sizeof(float);
    evaluate(model, NULL, 0, all);
    evaluate(model, every, 7, by_name);
    evaluate(model, some, 2, of_some);
    evaluate(model, others, 2, of_others);
    evaluate(model, some, 2, again);
    assert_memory_equal(all, by_name, bytes);
    assert_memory_equal(of_some, again, bytes);
    assert_memory_not_equal(of_some, of_others, bytes); /* graphs of other layers are other graphs */
    assert_memory_not_equal(of_some, all, bytes);
    dw_model_close(model);
}

int main(void) {
    if (dw_device_open("cpu", &(dw_device_options){.threads = test_threads()}, &device, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_of_layer_is_tried),
        cmocka_unit_test(chosen_layers_are_those_that_are_evaluated),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

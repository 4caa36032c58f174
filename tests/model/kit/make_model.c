/* make_model.c */
#include "model/kit/make_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-cpu.h"
#include "gguf.h"
#include "model/kit/random.h"

enum { GENERATION = 4 }; /* in the files' names: raise it when what is written changes */

#define SMALL .n_vocab = 512
#define SIZES(layers, w, heads, heads_kv, feed) \
    .n_layers = (layers), .width = (w), .n_heads = (heads), .n_heads_kv = (heads_kv), .head_dim = 64, .n_feed_forward = (feed), .context = 2048

const made_model made_models[] = {
    {.name = "tied_f16", .architecture = "llama", SIZES(3, 128, 2, 2, 256), SMALL, .type = GGML_TYPE_F16, .seed = 1},
    {.name = "grouped_q8", .architecture = "llama", SIZES(3, 256, 4, 2, 384), SMALL, .type = GGML_TYPE_Q8_0, .own_output = true, .seed = 2},
    {.name = "grouped_three_f32", .architecture = "llama", SIZES(2, 192, 6, 3, 320), SMALL, .type = GGML_TYPE_F32, .own_output = true, .seed = 3},
    {.name = "factors_q4k", .architecture = "llama", SIZES(3, 256, 4, 1, 512), SMALL, .type = GGML_TYPE_Q4_K, .rope_factors = true, .seed = 4},
    {.name = "linear_biases_q8", .architecture = "llama", SIZES(2, 256, 4, 4, 256), SMALL, .type = GGML_TYPE_Q8_0, .own_output = true,
     .rope_scaling = "linear", .rope_factor = 2.0f, .qkv_biases = true, .biases = true, .seed = 5},
    {.name = "window_q8", .architecture = "gemma3", SIZES(7, 256, 4, 1, 512), SMALL, .type = GGML_TYPE_Q8_0, .window = 128, .seed = 6},
    {.name = NULL},
};

/* Vocabularies are the family's own where llama.cpp has it, else the nearest kind. Large ones go with a narrow model. */
const made_model made_families[] = {
    {.name = "llama", .architecture = "llama", SIZES(3, 256, 4, 2, 512), .vocabulary = "llama-spm", .type = GGML_TYPE_Q4_K, .seed = 11},
    {.name = "llama3", .architecture = "llama", SIZES(2, 128, 2, 1, 256), .vocabulary = "llama-bpe", .type = GGML_TYPE_F16,
     .embedding_type = GGML_TYPE_Q4_0, .rope_factors = true, .seed = 12},
    {.name = "mixtral", .architecture = "llama", SIZES(2, 256, 4, 2, 256), .vocabulary = "llama-spm", .type = GGML_TYPE_Q5_0,
     .own_output = true, .n_experts = 4, .n_experts_used = 2, .seed = 13},
    {.name = "qwen2", .architecture = "qwen2", SIZES(3, 128, 2, 2, 256), .vocabulary = "qwen2", .type = GGML_TYPE_Q8_0,
     .embedding_type = GGML_TYPE_Q4_0, .qkv_biases = true, .seed = 14},
    {.name = "qwen3", .architecture = "qwen3", SIZES(3, 128, 4, 2, 256), .vocabulary = "qwen2", .type = GGML_TYPE_BF16,
     .embedding_type = GGML_TYPE_Q4_0, .seed = 15},
    {.name = "qwen3moe", .architecture = "qwen3moe", SIZES(2, 128, 4, 1, 384), .vocabulary = "qwen2", .type = GGML_TYPE_Q4_1,
     .embedding_type = GGML_TYPE_Q4_0, .n_experts = 8, .n_experts_used = 3, .n_expert_feed_forward = 128, .seed = 16},
    {.name = "gemma2", .architecture = "gemma2", SIZES(4, 256, 4, 2, 512), .vocabulary = "llama-spm", .type = GGML_TYPE_Q6_K, .window = 128, .seed = 17},
    {.name = "gemma3", .architecture = "gemma3", SIZES(7, 256, 4, 1, 256), .vocabulary = "llama-spm", .type = GGML_TYPE_Q8_0, .window = 128, .seed = 18},
    {.name = "phi3", .architecture = "phi3", SIZES(3, 256, 4, 4, 384), .vocabulary = "phi-3", .type = GGML_TYPE_F16, .own_output = true, .window = 64,
     .fused_qkv = true, .fused_gate = true, .rope_short_and_long = true, .rope_original = 512, .seed = 19},
    {.name = "granite", .architecture = "granite", SIZES(3, 256, 4, 2, 512), .vocabulary = "starcoder", .type = GGML_TYPE_Q5_K, .seed = 20},
    {.name = "olmo2", .architecture = "olmo2", SIZES(4, 256, 4, 2, 256), .vocabulary = "gpt-2", .type = GGML_TYPE_IQ4_XS, .own_output = true, .seed = 21},
    {.name = "smollm3", .architecture = "smollm3", SIZES(5, 128, 2, 1, 256), .vocabulary = "llama-bpe", .type = GGML_TYPE_IQ4_NL, .seed = 22},
    {.name = "starcoder2", .architecture = "starcoder2", SIZES(3, 256, 4, 2, 512), .vocabulary = "starcoder", .type = GGML_TYPE_Q5_1,
     .qkv_biases = true, .biases = true, .seed = 23},
    {.name = NULL},
};

/* --- changes to keys ----------------------------------------------------------------------------------------- */

static void rope_off(struct gguf_context *file) { gguf_set_val_bool(file, "granite.rope.scaling.finetuned", false); }
static void pattern_three(struct gguf_context *file) { gguf_set_val_u32(file, "gemma2.attention.sliding_window_pattern", 3); }
static void other_softcaps(struct gguf_context *file) {
    gguf_set_val_f32(file, "gemma2.attn_logit_softcapping", 20.0f);
    gguf_set_val_f32(file, "gemma2.final_logit_softcapping", 5.0f);
}
static void gemma3_softcap(struct gguf_context *file) { gguf_set_val_f32(file, "gemma3.final_logit_softcapping", 3.0f); }
static void gemma3_window_base(struct gguf_context *file) { gguf_set_val_f32(file, "gemma3.rope.freq_base_swa", 5000.0f); }
static void attention_factor(struct gguf_context *file) { gguf_set_val_f32(file, "phi3.rope.scaling.attn_factor", 1.19f); }
static void half_rope(struct gguf_context *file) { gguf_set_val_u32(file, "phi3.rope.dimension_count", 32); }
static void scales_off(struct gguf_context *file) {
    gguf_remove_key(file, "granite.embedding_scale");
    gguf_remove_key(file, "granite.residual_scale");
    gguf_remove_key(file, "granite.attention.scale");
}
static void equal_arrays(struct gguf_context *file) {
    const int32_t feed[2] = {256, 256}, heads[2] = {4, 4}, heads_kv[2] = {2, 2};
    gguf_set_arr_data(file, "llama.feed_forward_length", GGUF_TYPE_INT32, feed, 2);
    gguf_set_arr_data(file, "llama.attention.head_count", GGUF_TYPE_INT32, heads, 2);
    gguf_set_arr_data(file, "llama.attention.head_count_kv", GGUF_TYPE_INT32, heads_kv, 2);
}

static const uint8_t two_of_four[4] = {1, 0, 0, 1};

const made_model made_variants[] = {
    {.name = "v_llama_fused", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_Q8_0, .fused_qkv = true, .qkv_biases = true, .seed = 31},
    {.name = "v_llama_arrays", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .edit = equal_arrays, .seed = 32},
    {.name = "v_llama_yarn", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .rope_scaling = "yarn", .rope_factor = 4,
     .rope_original = 128, .seed = 33},
    {.name = "v_qwen2_yarn", .architecture = "qwen2", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .rope_scaling = "yarn", .rope_factor = 3.3f,
     .rope_original = 256, .own_output = true, .output_bias = true, .qkv_biases = true, .seed = 34},
    {.name = "v_llama_longrope", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .rope_scaling = "longrope",
     .rope_short_and_long = true, .rope_original = 512, .seed = 35},
    {.name = "v_llama_none", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .rope_scaling = "none", .rope_factor = 4, .seed = 36},
    {.name = "v_one_expert", .architecture = "llama", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .n_experts = 4, .n_experts_used = 1, .seed = 37},
    {.name = "v_experts_share", .architecture = "qwen3moe", SIZES(2, 256, 4, 2, 512), SMALL, .type = GGML_TYPE_Q8_0, .n_experts = 4, .n_experts_used = 4, .seed = 38},
    {.name = "v_qwen3_fused", .architecture = "qwen3", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_Q8_0, .fused_qkv = true, .seed = 39},
    {.name = "v_gemma2_three", .architecture = "gemma2", SIZES(4, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .window = 100, .edit = pattern_three, .seed = 40},
    {.name = "v_gemma2_caps", .architecture = "gemma2", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .rope_factor = 2, .edit = other_softcaps, .seed = 41},
    {.name = "v_gemma3_each", .architecture = "gemma3", SIZES(4, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .window = 100, .window_layers = two_of_four,
     .rope_scaling = "linear", .rope_factor = 8, .edit = gemma3_window_base, .seed = 42},
    {.name = "v_gemma3_open", .architecture = "gemma3", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .edit = gemma3_softcap, .seed = 43},
    {.name = "v_phi3_split", .architecture = "phi3", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .fused_gate = true, .edit = half_rope, .seed = 44},
    {.name = "v_phi3_factor", .architecture = "phi3", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .fused_qkv = true, .fused_gate = true,
     .rope_scaling = "longrope", .rope_short_and_long = true, .rope_original = 2048, .edit = attention_factor, .seed = 45},
    {.name = "v_granite_off", .architecture = "granite", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .own_output = true, .edit = rope_off, .seed = 46},
    {.name = "v_granite_plain", .architecture = "granite", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .biases = true, .rope_factors = true,
     .edit = scales_off, .seed = 47},
    {.name = "v_olmo2_fused", .architecture = "olmo2", SIZES(2, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .own_output = true, .fused_qkv = true, .seed = 48},
    {.name = "v_olmo3", .architecture = "olmo2", SIZES(8, 256, 4, 2, 256), SMALL, .type = GGML_TYPE_F16, .own_output = true, .window = 100,
     .rope_scaling = "yarn", .rope_factor = 8, .rope_original = 128, .seed = 49},
    {.name = "v_starcoder2_own", .architecture = "starcoder2", SIZES(2, 256, 4, 4, 256), SMALL, .type = GGML_TYPE_F16, .own_output = true, .fused_qkv = true,
     .biases = true, .window = 64, .seed = 50},
    {.name = NULL},
};

const made_model *made_model_named(const char *name) {
    const made_model *const lists[] = {made_models, made_families, made_variants};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        for (const made_model *m = lists[i]; m->name != NULL; m++) {
            if (strcmp(m->name, name) == 0) return m;
        }
    }
    abort();
}

/* --- writing ------------------------------------------------------------------------------------------------- */

/* What the files of an architecture hold; libllama, which reads them too, refuses what is missing and what is too much. */
typedef struct architecture {
    const char *name;
    bool norms_before, norms_after, layer_norm, qk_norm_head, qk_norm_width, plain_feed, scales;
} architecture;

static const architecture architectures[] = {
    {.name = "llama", .norms_before = true},
    {.name = "qwen2", .norms_before = true},
    {.name = "qwen3", .norms_before = true, .qk_norm_head = true},
    {.name = "qwen3moe", .norms_before = true, .qk_norm_head = true},
    {.name = "gemma2", .norms_before = true, .norms_after = true},
    {.name = "gemma3", .norms_before = true, .norms_after = true, .qk_norm_head = true},
    {.name = "phi3", .norms_before = true},
    {.name = "granite", .norms_before = true, .scales = true},
    {.name = "olmo2", .norms_after = true, .qk_norm_width = true},
    {.name = "smollm3", .norms_before = true},
    {.name = "starcoder2", .norms_before = true, .layer_norm = true, .plain_feed = true},
};

typedef struct maker {
    const made_model *m;
    const architecture *a;
    uint32_t n_vocab;
    struct gguf_context *file;
    struct ggml_context *context;
    uint64_t random;
} maker;

/* values [columns, rows * depth] become the tensor's. Some types are made only with a weight for each column. */
static void put(maker *k, const char *name, enum ggml_type type, const int64_t shape[3], const float *values) {
    int n_dims = shape[2] != 0 ? 3 : shape[1] != 0 ? 2 : 1;
    int64_t rows = (shape[1] != 0 ? shape[1] : 1) * (shape[2] != 0 ? shape[2] : 1);
    if (k->m->omit != NULL && strcmp(k->m->omit, name) == 0) return;
    struct ggml_tensor *t = ggml_new_tensor(k->context, type, n_dims, shape);
    if (type == GGML_TYPE_F32) {
        memcpy(t->data, values, ggml_nbytes(t));
        if (k->m->spoilt != NULL && strcmp(k->m->spoilt, name) == 0) ((float *)t->data)[k->m->spoilt_at] = k->m->spoilt_value;
    } else {
        float *weights = malloc((size_t)shape[0] * sizeof weights[0]);
        if (weights == NULL) abort();
        for (int64_t i = 0; i < shape[0]; i++) weights[i] = 1;
        ggml_quantize_chunk(type, values, t->data, 0, rows, shape[0], weights);
        free(weights);
    }
    ggml_set_name(t, name);
    gguf_add_tensor(k->file, t);
}

/* Uniform in middle +- spread. */
static float *make_values(maker *k, int64_t n, float middle, float spread) {
    float *values = malloc((size_t)n * sizeof values[0]);
    if (values == NULL) abort();
    for (int64_t i = 0; i < n; i++) values[i] = middle + spread * random_uniform(&k->random);
    return values;
}

static void vector(maker *k, const char *name, uint32_t size, float middle, float spread) {
    float *values = make_values(k, size, middle, spread);
    put(k, name, GGML_TYPE_F32, (const int64_t[3]){size, 0, 0}, values);
    free(values);
}

/* Variance 1/input keeps activations of the size they have; 1.7 is sqrt(3), uniform's width over its deviation. */
static float spread_of(uint32_t input) { return 1.7f / sqrtf((float)input); }

static void matrix(maker *k, const char *name, enum ggml_type type, uint32_t input, uint32_t output, uint32_t depth) {
    float *values = make_values(k, (int64_t)input * output * (depth != 0 ? depth : 1), 0, spread_of(input));
    put(k, name, type, (const int64_t[3]){input, output, depth}, values);
    free(values);
}

/* A matrix of which the first keep_input columns and keep_output rows count. */
static void kept_matrix(maker *k, const char *name, uint32_t input, uint32_t output, uint32_t keep_input, uint32_t keep_output) {
    if (keep_input == input && keep_output == output) {
        matrix(k, name, k->m->type, input, output, 0);
        return;
    }
    float *values = make_values(k, (int64_t)input * output, 0, spread_of(input));
    for (uint32_t row = 0; row < output; row++) {
        float *from = values + (size_t)row * input;
        for (uint32_t i = keep_input; k->m->padded && i < input; i++) from[i] = 0;
        if (!k->m->padded && row < keep_output) memmove(values + (size_t)row * keep_input, from, keep_input * sizeof values[0]);
    }
    if (k->m->padded) put(k, name, GGML_TYPE_F32, (const int64_t[3]){input, output, 0}, values);
    else put(k, name, GGML_TYPE_F32, (const int64_t[3]){keep_input, keep_output, 0}, values);
    free(values);
}

static const char *in_layer(uint32_t layer, const char *what) {
    static char name[64];
    snprintf(name, sizeof name, "blk.%u.%s", layer, what);
    return name;
}

static void norm_tensors(maker *k, uint32_t layer, const char *what, uint32_t size, bool bias) {
    char name[48];
    snprintf(name, sizeof name, "%s.weight", what);
    vector(k, in_layer(layer, name), size, 1.0f, 0.3f);
    snprintf(name, sizeof name, "%s.bias", what);
    if (bias) vector(k, in_layer(layer, name), size, 0, 0.3f);
}

static void attention_tensors(maker *k, uint32_t layer) {
    const made_model *m = k->m;
    uint32_t q = m->n_heads * m->head_dim, kv = m->n_heads_kv * m->head_dim;
    uint32_t keep = m->heads_of != NULL ? m->heads_of[layer] * m->head_dim : q;
    if (m->fused_qkv) {
        matrix(k, in_layer(layer, "attn_qkv.weight"), m->type, m->width, q + 2 * kv, 0);
        if (m->biases) vector(k, in_layer(layer, "attn_qkv.bias"), q + 2 * kv, 0, 0.5f);
    } else {
        kept_matrix(k, in_layer(layer, "attn_q.weight"), m->width, q, m->width, keep);
        matrix(k, in_layer(layer, "attn_k.weight"), m->type, m->width, kv, 0);
        matrix(k, in_layer(layer, "attn_v.weight"), m->type, m->width, kv, 0);
    }
    if (m->qkv_biases) {
        vector(k, in_layer(layer, "attn_q.bias"), q, 0, 0.5f);
        vector(k, in_layer(layer, "attn_k.bias"), kv, 0, 0.5f);
        vector(k, in_layer(layer, "attn_v.bias"), kv, 0, 0.5f);
    }
    kept_matrix(k, in_layer(layer, "attn_output.weight"), q, m->width, keep, m->width);
    if (m->biases) vector(k, in_layer(layer, "attn_output.bias"), m->width, 0, 0.5f);
    if (k->a->qk_norm_head || k->a->qk_norm_width) {
        norm_tensors(k, layer, "attn_q_norm", k->a->qk_norm_head ? m->head_dim : q, false);
        norm_tensors(k, layer, "attn_k_norm", k->a->qk_norm_head ? m->head_dim : kv, false);
    }
}

static void expert_tensors(maker *k, uint32_t layer) {
    const made_model *m = k->m;
    bool shared = strcmp(m->architecture, "qwen3moe") == 0 && m->n_expert_feed_forward == 0;
    uint32_t feed = m->n_expert_feed_forward != 0 ? m->n_expert_feed_forward : shared ? m->n_feed_forward / m->n_experts_used : m->n_feed_forward;
    matrix(k, in_layer(layer, "ffn_gate_inp.weight"), GGML_TYPE_F32, m->width, m->n_experts, 0);
    matrix(k, in_layer(layer, "ffn_gate_exps.weight"), m->type, m->width, feed, m->n_experts);
    matrix(k, in_layer(layer, "ffn_up_exps.weight"), m->type, m->width, feed, m->n_experts);
    matrix(k, in_layer(layer, "ffn_down_exps.weight"), m->type, feed, m->width, m->n_experts);
}

static void feed_tensors(maker *k, uint32_t layer) {
    const made_model *m = k->m;
    uint32_t feed = m->n_feed_forward, keep = m->feed_of != NULL ? m->feed_of[layer] : feed;
    bool gate = !k->a->plain_feed && !m->fused_gate;
    if (gate) kept_matrix(k, in_layer(layer, "ffn_gate.weight"), m->width, feed, m->width, keep);
    if (m->fused_gate) matrix(k, in_layer(layer, "ffn_up.weight"), m->type, m->width, 2 * feed, 0);
    else kept_matrix(k, in_layer(layer, "ffn_up.weight"), m->width, feed, m->width, keep);
    kept_matrix(k, in_layer(layer, "ffn_down.weight"), feed, m->width, keep, m->width);
    if (!m->biases) return;
    if (gate) vector(k, in_layer(layer, "ffn_gate.bias"), feed, 0, 0.5f);
    vector(k, in_layer(layer, "ffn_up.bias"), feed, 0, 0.5f);
    vector(k, in_layer(layer, "ffn_down.bias"), m->width, 0, 0.5f);
}

static void tensors(maker *k) {
    const made_model *m = k->m;
    enum ggml_type ends = m->embedding_type != GGML_TYPE_F32 ? m->embedding_type : m->type;
    matrix(k, "token_embd.weight", ends, m->width, k->n_vocab, 0);
    vector(k, "output_norm.weight", m->width, 1.0f, 0.3f);
    if (k->a->layer_norm) vector(k, "output_norm.bias", m->width, 0, 0.3f);
    if (m->own_output) matrix(k, "output.weight", ends, m->width, k->n_vocab, 0);
    if (m->output_bias) vector(k, "output.bias", k->n_vocab, 0, 0.5f);
    if (m->rope_factors) vector(k, "rope_freqs.weight", m->head_dim / 2, 4.0f, 3.0f);
    if (m->rope_short_and_long) {
        vector(k, "rope_factors_short.weight", m->head_dim / 2, 1.2f, 0.2f);
        vector(k, "rope_factors_long.weight", m->head_dim / 2, 8.0f, 7.0f);
    }
    for (uint32_t i = 0; i < m->n_layers; i++) {
        if (k->a->norms_before) norm_tensors(k, i, "attn_norm", m->width, k->a->layer_norm);
        attention_tensors(k, i);
        if (k->a->norms_after) norm_tensors(k, i, "post_attention_norm", m->width, false);
        if (k->a->norms_before) norm_tensors(k, i, "ffn_norm", m->width, k->a->layer_norm);
        if (m->n_experts != 0) expert_tensors(k, i);
        else feed_tensors(k, i);
        if (k->a->norms_after) norm_tensors(k, i, "post_ffw_norm", m->width, false);
    }
    if (m->extra != NULL) vector(k, m->extra, m->width, 1.0f, 0.3f);
}

/* SentencePiece-like: unknown, begin, end, the 256 bytes, then short strings of letters, and a space. */
static void small_vocabulary(maker *k) {
    uint32_t n = k->n_vocab;
    const char **texts = calloc(n, sizeof texts[0]);
    float *scores = calloc(n, sizeof scores[0]);
    int32_t *types = calloc(n, sizeof types[0]);
    char(*memory)[16] = calloc(n, sizeof memory[0]);
    if (texts == NULL || scores == NULL || types == NULL || memory == NULL) abort();
    for (uint32_t i = 0; i < n; i++) {
        static const char *const special[3] = {"<unk>", "<s>", "</s>"};
        uint32_t word = i - 259;
        if (i < 3) snprintf(memory[i], sizeof memory[i], "%s", special[i]);
        else if (i < 259) snprintf(memory[i], sizeof memory[i], "<0x%02X>", i - 3);
        else if (i == n - 1) snprintf(memory[i], sizeof memory[i], "\xe2\x96\x81");
        else if (word < 26) snprintf(memory[i], sizeof memory[i], "%c", (int)('a' + word));
        else snprintf(memory[i], sizeof memory[i], "%s%c%c", word % 2 ? "\xe2\x96\x81" : "", (int)('a' + word / 26 % 26), (int)('a' + word % 26));
        texts[i] = memory[i];
        scores[i] = i < 259 ? 0 : -(float)word;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1; /* unknown, control, byte, normal */
    }
    gguf_set_val_str(k->file, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(k->file, "tokenizer.ggml.tokens", texts, n);
    gguf_set_arr_data(k->file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, n);
    gguf_set_arr_data(k->file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, n);
    gguf_set_val_u32(k->file, "tokenizer.ggml.unknown_token_id", 0);
    gguf_set_val_u32(k->file, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(k->file, "tokenizer.ggml.eos_token_id", 2);
    free(texts);
    free(scores);
    free(types);
    free(memory);
}

bool made_vocabularies_there(void) { return DW_TEST_VOCABULARIES[0] != 0; }

/* Takes over the tokenizer's keys, and nothing else, of one of llama.cpp's vocabulary files. */
static bool real_vocabulary(maker *k) {
    char path[1024];
    snprintf(path, sizeof path, "%s/ggml-vocab-%s.gguf", DW_TEST_VOCABULARIES, k->m->vocabulary);
    struct gguf_context *from = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
    if (from == NULL) return false;
    for (int64_t i = gguf_get_n_kv(from) - 1; i >= 0; i--) {
        const char *key = gguf_get_key(from, i);
        if (strncmp(key, "tokenizer.", strlen("tokenizer.")) != 0) gguf_remove_key(from, key);
    }
    k->n_vocab = (uint32_t)gguf_get_arr_n(from, gguf_find_key(from, "tokenizer.ggml.tokens"));
    gguf_set_kv(k->file, from);
    gguf_free(from);
    return true;
}

static const char *own_key(const maker *k, const char *key) {
    static char whole[96];
    snprintf(whole, sizeof whole, "%s.%s", k->m->architecture, key);
    return whole;
}

static void set_u32(maker *k, const char *key, uint32_t value) { gguf_set_val_u32(k->file, own_key(k, key), value); }
static void set_f32(maker *k, const char *key, float value) { gguf_set_val_f32(k->file, own_key(k, key), value); }

static void set_sizes(maker *k, const char *key, uint32_t value, const uint32_t *of_layers) {
    if (of_layers == NULL || k->m->padded) set_u32(k, key, value);
    else gguf_set_arr_data(k->file, own_key(k, key), GGUF_TYPE_UINT32, of_layers, k->m->n_layers);
}

static void hyperparameters(maker *k) {
    const made_model *m = k->m;
    gguf_set_val_str(k->file, "general.architecture", m->architecture);
    /* libllama looks for some names here, and for their models' tokens in the vocabulary then. */
    gguf_set_val_str(k->file, "general.name", m->vocabulary != NULL ? m->name : "made");
    set_u32(k, "block_count", m->n_layers);
    set_u32(k, "context_length", m->context);
    set_u32(k, "embedding_length", m->width);
    set_sizes(k, "feed_forward_length", m->n_feed_forward, m->feed_of);
    set_sizes(k, "attention.head_count", m->n_heads, m->heads_of);
    set_u32(k, "attention.head_count_kv", m->n_heads_kv);
    set_u32(k, "attention.key_length", m->head_dim);
    set_u32(k, "attention.value_length", m->head_dim);
    set_u32(k, "rope.dimension_count", m->head_dim);
    set_f32(k, k->a->layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 1e-5f);
    set_f32(k, "rope.freq_base", strcmp(m->architecture, "gemma3") == 0 ? 1e6f : 10000.0f);
    if (m->window != 0) set_u32(k, "attention.sliding_window", m->window);
    if (m->window_layers != NULL) {
        gguf_set_arr_data(k->file, own_key(k, "attention.sliding_window_pattern"), GGUF_TYPE_BOOL, m->window_layers, m->n_layers);
    }
    if (m->rope_scaling != NULL) gguf_set_val_str(k->file, own_key(k, "rope.scaling.type"), m->rope_scaling);
    if (m->rope_factor != 0) set_f32(k, "rope.scaling.factor", m->rope_factor);
    if (m->rope_original != 0) set_u32(k, "rope.scaling.original_context_length", m->rope_original);
    if (m->n_experts != 0) {
        set_u32(k, "expert_count", m->n_experts);
        set_u32(k, "expert_used_count", m->n_experts_used);
        if (m->n_expert_feed_forward != 0) set_u32(k, "expert_feed_forward_length", m->n_expert_feed_forward);
    }
    if (k->a->scales) {
        set_f32(k, "embedding_scale", 12.0f);
        set_f32(k, "residual_scale", 0.22f);
        set_f32(k, "attention.scale", 0.015625f);
        set_f32(k, "logit_scale", 8.0f);
    }
}

static const architecture *architecture_of(const made_model *m) {
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        if (strcmp(architectures[i].name, m->architecture) == 0) return &architectures[i];
    }
    return &architectures[0]; /* a test of refusals */
}

bool made_model_write(const made_model *model, const char *path) {
    maker k = {.m = model, .a = architecture_of(model), .n_vocab = model->n_vocab, .file = gguf_init_empty(), .random = model->seed};
    k.context = ggml_init((struct ggml_init_params){.mem_size = (size_t)160 << 20});
    if (k.file == NULL || k.context == NULL) return false;
    bool written = model->vocabulary == NULL || real_vocabulary(&k);
    if (written && model->vocabulary == NULL) small_vocabulary(&k);
    if (written) {
        hyperparameters(&k);
        tensors(&k);
        if (model->edit != NULL) model->edit(k.file);
        written = gguf_write_to_file(k.file, path, false);
    }
    gguf_free(k.file);
    ggml_free(k.context);
    ggml_quantize_free();
    return written;
}

const char *made_model_path(const made_model *model) {
    static char path[1024];
    char unfinished[1040];
    snprintf(path, sizeof path, "%s/made%d-%s.gguf", DW_TEST_BUILD, GENERATION, model->name);
    FILE *there = fopen(path, "rb");
    if (there != NULL) {
        fclose(there);
        return path;
    }
    /* Several tests may make the same file at once; each makes the same bytes, and a rename is whole. */
    snprintf(unfinished, sizeof unfinished, "%s.%p", path, (void *)&unfinished);
    if (!made_model_write(model, unfinished) || rename(unfinished, path) != 0) abort();
    return path;
}

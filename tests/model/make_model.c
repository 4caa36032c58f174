/* make_model.c */
#include "model/make_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-cpu.h"
#include "gguf.h"

const made_model made_models[] = {
    {"tied_f16", "llama", 3, 128, 2, 2, 64, 256, 512, 2048, 0, GGML_TYPE_F16, false, false, 0, false, 1},
    {"grouped_q8", "llama", 3, 256, 4, 2, 64, 384, 512, 2048, 0, GGML_TYPE_Q8_0, true, false, 0, false, 2},
    {"grouped_three_f32", "llama", 2, 192, 6, 3, 64, 320, 512, 1024, 0, GGML_TYPE_F32, true, false, 0, false, 3},
    {"factors_q4k", "llama", 3, 256, 4, 1, 64, 512, 512, 2048, 0, GGML_TYPE_Q4_K, false, true, 0, false, 4},
    {"linear_biases_q8", "llama", 2, 256, 4, 4, 64, 256, 512, 1024, 0, GGML_TYPE_Q8_0, true, false, 2.0f, true, 5},
    {"window_q8", "gemma3", 7, 256, 4, 1, 64, 512, 512, 2048, 128, GGML_TYPE_Q8_0, false, false, 0, false, 6},
    {.name = NULL},
};

const made_model *made_model_named(const char *name) {
    for (const made_model *m = made_models; m->name != NULL; m++) {
        if (strcmp(m->name, name) == 0) return m;
    }
    abort();
}

typedef struct maker {
    const made_model *m;
    struct gguf_context *file;
    struct ggml_context *context;
    uint64_t random;
} maker;

static float next_uniform(maker *k) { /* (-1, 1) */
    k->random = k->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)(k->random >> 40) / (float)(1u << 23) - 1.0f;
}

/* Uniform in middle +- spread. */
static void add_tensor(maker *k, const char *name, enum ggml_type type, int64_t columns, int64_t rows, float middle, float spread) {
    struct ggml_tensor *t = rows == 0 ? ggml_new_tensor_1d(k->context, type, columns) : ggml_new_tensor_2d(k->context, type, columns, rows);
    int64_t n = ggml_nelements(t);
    float *values = malloc((size_t)n * sizeof values[0]);
    if (values == NULL) abort();
    for (int64_t i = 0; i < n; i++) values[i] = middle + spread * next_uniform(k);
    if (type == GGML_TYPE_F32) memcpy(t->data, values, (size_t)n * sizeof values[0]);
    else ggml_quantize_chunk(type, values, t->data, 0, rows, columns, NULL);
    free(values);
    ggml_set_name(t, name);
    gguf_add_tensor(k->file, t);
}

static void matrix(maker *k, const char *name, uint32_t input, uint32_t output) {
    /* Variance 1/input keeps activations of the size they have; 1.7 is sqrt(3), uniform's width over its deviation. */
    add_tensor(k, name, k->m->type, input, output, 0, 1.7f / sqrtf((float)input));
}

static void layer_tensors(maker *k, uint32_t layer) {
    const made_model *m = k->m;
    uint32_t q = m->n_heads * m->head_dim, kv = m->n_heads_kv * m->head_dim;
    const struct { const char *name; uint32_t input, output; bool there; } rows[] = {
        {"attn_q.weight", m->width, q, true}, {"attn_k.weight", m->width, kv, true}, {"attn_v.weight", m->width, kv, true},
        {"attn_output.weight", q, m->width, true}, {"ffn_gate.weight", m->width, m->n_feed_forward, true},
        {"ffn_up.weight", m->width, m->n_feed_forward, true}, {"ffn_down.weight", m->n_feed_forward, m->width, true},
        {"attn_norm.weight", m->width, 0, true}, {"ffn_norm.weight", m->width, 0, true},
        {"attn_q_norm.weight", m->head_dim, 0, m->window != 0}, {"attn_k_norm.weight", m->head_dim, 0, m->window != 0},
        {"post_attention_norm.weight", m->width, 0, m->window != 0}, {"post_ffw_norm.weight", m->width, 0, m->window != 0},
        {"attn_q.bias", q, 0, m->biases}, {"attn_k.bias", kv, 0, m->biases}, {"attn_v.bias", kv, 0, m->biases},
        {"attn_output.bias", m->width, 0, m->biases}, {"ffn_gate.bias", m->n_feed_forward, 0, m->biases},
        {"ffn_up.bias", m->n_feed_forward, 0, m->biases}, {"ffn_down.bias", m->width, 0, m->biases},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[64];
        if (!rows[i].there) continue;
        snprintf(name, sizeof name, "blk.%u.%s", layer, rows[i].name);
        if (rows[i].output != 0) matrix(k, name, rows[i].input, rows[i].output);
        else if (strstr(name, ".bias") != NULL) add_tensor(k, name, GGML_TYPE_F32, rows[i].input, 0, 0, 0.5f);
        else add_tensor(k, name, GGML_TYPE_F32, rows[i].input, 0, 1.0f, 0.3f);
    }
}

static void tensors(maker *k) {
    const made_model *m = k->m;
    matrix(k, "token_embd.weight", m->width, m->n_vocab);
    add_tensor(k, "output_norm.weight", GGML_TYPE_F32, m->width, 0, 1.0f, 0.3f);
    if (m->own_output) matrix(k, "output.weight", m->width, m->n_vocab);
    if (m->rope_factors) add_tensor(k, "rope_freqs.weight", GGML_TYPE_F32, m->head_dim / 2, 0, 4.0f, 3.0f);
    for (uint32_t i = 0; i < m->n_layers; i++) layer_tensors(k, i);
}

/* SentencePiece-like: unknown, begin, end, the 256 bytes, then short strings of letters. */
static void vocabulary(maker *k) {
    const made_model *m = k->m;
    const char **texts = calloc(m->n_vocab, sizeof texts[0]);
    float *scores = calloc(m->n_vocab, sizeof scores[0]);
    int32_t *types = calloc(m->n_vocab, sizeof types[0]);
    char(*memory)[16] = calloc(m->n_vocab, sizeof memory[0]);
    if (texts == NULL || scores == NULL || types == NULL || memory == NULL) abort();
    for (uint32_t i = 0; i < m->n_vocab; i++) {
        static const char *const special[3] = {"<unk>", "<s>", "</s>"};
        uint32_t word = i - 259;
        if (i < 3) snprintf(memory[i], sizeof memory[i], "%s", special[i]);
        else if (i < 259) snprintf(memory[i], sizeof memory[i], "<0x%02X>", i - 3);
        else if (word < 26) snprintf(memory[i], sizeof memory[i], "%c", (int)('a' + word));
        else snprintf(memory[i], sizeof memory[i], "%s%c%c", word % 2 ? "\xe2\x96\x81" : "", (int)('a' + word / 26 % 26), (int)('a' + word % 26));
        texts[i] = memory[i];
        scores[i] = i < 259 ? 0 : -(float)word;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1; /* unknown, control, byte, normal */
    }
    gguf_set_val_str(k->file, "tokenizer.ggml.model", "llama");
    gguf_set_arr_str(k->file, "tokenizer.ggml.tokens", texts, m->n_vocab);
    gguf_set_arr_data(k->file, "tokenizer.ggml.scores", GGUF_TYPE_FLOAT32, scores, m->n_vocab);
    gguf_set_arr_data(k->file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, m->n_vocab);
    gguf_set_val_u32(k->file, "tokenizer.ggml.unknown_token_id", 0);
    gguf_set_val_u32(k->file, "tokenizer.ggml.bos_token_id", 1);
    gguf_set_val_u32(k->file, "tokenizer.ggml.eos_token_id", 2);
    free(texts);
    free(scores);
    free(types);
    free(memory);
}

static void set_u32(maker *k, const char *key, uint32_t value) {
    char whole[96];
    snprintf(whole, sizeof whole, "%s.%s", k->m->architecture, key);
    gguf_set_val_u32(k->file, whole, value);
}

static void set_f32(maker *k, const char *key, float value) {
    char whole[96];
    snprintf(whole, sizeof whole, "%s.%s", k->m->architecture, key);
    gguf_set_val_f32(k->file, whole, value);
}

static void hyperparameters(maker *k) {
    const made_model *m = k->m;
    gguf_set_val_str(k->file, "general.architecture", m->architecture);
    gguf_set_val_str(k->file, "general.name", m->name);
    set_u32(k, "block_count", m->n_layers);
    set_u32(k, "context_length", m->context);
    set_u32(k, "embedding_length", m->width);
    set_u32(k, "feed_forward_length", m->n_feed_forward);
    set_u32(k, "attention.head_count", m->n_heads);
    set_u32(k, "attention.head_count_kv", m->n_heads_kv);
    set_u32(k, "attention.key_length", m->head_dim);
    set_u32(k, "attention.value_length", m->head_dim);
    set_u32(k, "rope.dimension_count", m->head_dim);
    set_f32(k, "attention.layer_norm_rms_epsilon", 1e-5f);
    set_f32(k, "rope.freq_base", m->window != 0 ? 1e6f : 10000.0f);
    if (m->window != 0) set_u32(k, "attention.sliding_window", m->window);
    if (m->rope_linear != 0) {
        char whole[96];
        snprintf(whole, sizeof whole, "%s.rope.scaling.type", m->architecture);
        gguf_set_val_str(k->file, whole, "linear");
        set_f32(k, "rope.scaling.factor", m->rope_linear);
    }
}

bool made_model_write(const made_model *model, const char *path) {
    maker k = {.m = model, .file = gguf_init_empty(), .random = model->seed};
    k.context = ggml_init((struct ggml_init_params){.mem_size = (size_t)64 << 20});
    if (k.file == NULL || k.context == NULL) return false;
    hyperparameters(&k);
    vocabulary(&k);
    tensors(&k);
    bool written = gguf_write_to_file(k.file, path, false);
    gguf_free(k.file);
    ggml_free(k.context);
    ggml_quantize_free();
    return written;
}

const char *made_model_path(const made_model *model) {
    static char path[1024];
    char unfinished[1040];
    snprintf(path, sizeof path, "%s/made-%s.gguf", DW_TEST_BUILD, model->name);
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

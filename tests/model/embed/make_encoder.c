/* make_encoder.c */
#include "model/embed/make_encoder.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf.h"
#include "model/kit/random.h"

const made_encoder made_encoders[] = {
    {"f32", 2, 96, 3, 192, 128, GGML_TYPE_F32, 1, true},
    {"f16", 3, 128, 2, 256, 96, GGML_TYPE_F16, 2, true},
    {"q8", 2, 256, 4, 512, 64, GGML_TYPE_Q8_0, 3, false},
    {"unpooled", 1, 64, 2, 128, 600, GGML_TYPE_F32, 0, true},
    {.name = NULL},
};

typedef struct maker {
    const made_encoder *m;
    made_fault fault;
    struct gguf_context *file;
    struct ggml_context *context;
    uint64_t random;
} maker;

/* Uniform in middle +- spread. rows 0: a vector. */
static void add_tensor(maker *k, const char *name, enum ggml_type type, int64_t columns, int64_t rows, float middle, float spread) {
    struct ggml_tensor *t = rows == 0 ? ggml_new_tensor_1d(k->context, type, columns) : ggml_new_tensor_2d(k->context, type, columns, rows);
    int64_t n = ggml_nelements(t);
    float *values = malloc((size_t)n * sizeof values[0]);
    if (values == NULL) abort();
    for (int64_t i = 0; i < n; i++) values[i] = middle + spread * random_uniform(&k->random);
    if (type == GGML_TYPE_F32) memcpy(t->data, values, (size_t)n * sizeof values[0]);
    else ggml_quantize_chunk(type, values, t->data, 0, rows == 0 ? 1 : rows, columns, NULL);
    free(values);
    char spoilt[64];
    snprintf(spoilt, sizeof spoilt, "blk.%u.layer_output_norm.bias", k->m->n_layers - 1);
    if (k->fault == MADE_NAN && strcmp(name, spoilt) == 0) ((float *)t->data)[3] = NAN;
    ggml_set_name(t, name);
    gguf_add_tensor(k->file, t);
}

/* Variance 1/input keeps activations of the size they have; 1.7 is sqrt(3), uniform's width over its deviation. */
static void add_linear(maker *k, const char *prefix, uint32_t input, uint32_t output) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add_tensor(k, name, k->m->type, input, output, 0, 1.7f / sqrtf((float)input));
    snprintf(name, sizeof name, "%s.bias", prefix);
    add_tensor(k, name, GGML_TYPE_F32, output, 0, 0, 0.3f);
}

static void add_norm(maker *k, const char *prefix) {
    char name[64];
    snprintf(name, sizeof name, "%s.weight", prefix);
    add_tensor(k, name, k->fault == MADE_F16_NORM ? GGML_TYPE_F16 : GGML_TYPE_F32, k->m->width, 0, 1.0f, 0.3f);
    snprintf(name, sizeof name, "%s.bias", prefix);
    if (k->fault != MADE_NO_NORM_BIAS) add_tensor(k, name, GGML_TYPE_F32, k->m->width, 0, 0, 0.3f);
}

static void tensors(maker *k) {
    const made_encoder *m = k->m;
    uint32_t width = m->width, feed = k->fault == MADE_NARROW_FEED ? m->n_feed_forward / 2 : m->n_feed_forward;
    add_tensor(k, "token_embd.weight", m->type, width, MADE_VOCABULARY, 0, 1.0f);
    if (k->fault != MADE_NO_POSITIONS) add_tensor(k, "position_embd.weight", GGML_TYPE_F32, width, m->context - (k->fault == MADE_FEW_POSITIONS), 0, 0.5f);
    if (m->token_types) add_tensor(k, "token_types.weight", GGML_TYPE_F32, width, 2, 0, 0.5f);
    add_norm(k, "token_embd_norm");
    for (uint32_t i = 0; i < m->n_layers; i++) {
        static const char *const square[4] = {"attn_q", "attn_k", "attn_v", "attn_output"};
        char prefix[64];
        for (int s = 0; s < 4; s++) {
            snprintf(prefix, sizeof prefix, "blk.%u.%s", i, square[s]);
            add_linear(k, prefix, width, width);
        }
        snprintf(prefix, sizeof prefix, "blk.%u.attn_output_norm", i);
        add_norm(k, prefix);
        snprintf(prefix, sizeof prefix, "blk.%u.ffn_up", i);
        add_linear(k, prefix, width, feed);
        snprintf(prefix, sizeof prefix, "blk.%u.ffn_down", i);
        add_linear(k, prefix, feed, width);
        snprintf(prefix, sizeof prefix, "blk.%u.layer_output_norm", i);
        add_norm(k, prefix);
    }
}

/* Special tokens, letters that begin a word, letters inside one, then words of two letters. */
static void vocabulary(maker *k) {
    static const char *const special[MADE_FIRST_WORD] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    char memory[MADE_VOCABULARY][16];
    const char *texts[MADE_VOCABULARY];
    int32_t types[MADE_VOCABULARY];
    for (uint32_t i = 0; i < MADE_VOCABULARY; i++) {
        uint32_t word = i - MADE_FIRST_WORD;
        if (i < MADE_FIRST_WORD) snprintf(memory[i], sizeof memory[i], "%s", special[i]);
        else if (word < 52) snprintf(memory[i], sizeof memory[i], "%s%c", word < 26 ? "\xe2\x96\x81" : "", (int)('a' + word % 26));
        else snprintf(memory[i], sizeof memory[i], "\xe2\x96\x81%c%c", (int)('a' + word / 26), (int)('a' + word % 26));
        texts[i] = memory[i];
        types[i] = i == MADE_UNK ? 2 : i < MADE_FIRST_WORD ? 3 : 1;
    }
    if (k->fault == MADE_BYTE_TOKEN) {
        texts[MADE_VOCABULARY - 1] = "<0x41>";
        types[MADE_VOCABULARY - 1] = 6;
    }
    gguf_set_val_u32(k->file, "tokenizer.ggml.token_type_count", 2);
    if (k->fault == MADE_NO_TOKENIZER) return;
    gguf_set_val_str(k->file, "tokenizer.ggml.model", "bert");
    gguf_set_arr_str(k->file, "tokenizer.ggml.tokens", texts, k->fault == MADE_OTHER_VOCABULARY ? MADE_VOCABULARY - 1 : MADE_VOCABULARY);
    gguf_set_arr_data(k->file, "tokenizer.ggml.token_type", GGUF_TYPE_INT32, types, k->fault == MADE_OTHER_VOCABULARY ? MADE_VOCABULARY - 1 : MADE_VOCABULARY);
    gguf_set_val_u32(k->file, "tokenizer.ggml.bos_token_id", MADE_CLS);
    gguf_set_val_u32(k->file, "tokenizer.ggml.unknown_token_id", MADE_UNK);
    if (k->fault == MADE_SEPARATOR_OUTSIDE) gguf_set_val_u32(k->file, "tokenizer.ggml.seperator_token_id", MADE_VOCABULARY);
    else if (k->fault != MADE_NO_SEPARATOR) gguf_set_val_u32(k->file, "tokenizer.ggml.seperator_token_id", MADE_SEP);
}

static void hyperparameters(maker *k) {
    const made_encoder *m = k->m;
    made_fault fault = k->fault;
    gguf_set_val_str(k->file, "general.architecture", "bert");
    gguf_set_val_str(k->file, "general.name", m->name);
    if (fault != MADE_NO_LAYERS) gguf_set_val_u32(k->file, "bert.block_count", fault == MADE_ABSURD_LAYERS ? 1000 : m->n_layers);
    gguf_set_val_u32(k->file, "bert.context_length", fault == MADE_ABSURD_CONTEXT ? UINT32_MAX : m->context);
    gguf_set_val_u32(k->file, "bert.embedding_length", m->width);
    gguf_set_val_u32(k->file, "bert.feed_forward_length", m->n_feed_forward);
    gguf_set_val_u32(k->file, "bert.attention.head_count", fault == MADE_HEADS_DO_NOT_DIVIDE ? 7 : m->n_heads);
    if (fault == MADE_SHARED_HEADS) gguf_set_val_u32(k->file, "bert.attention.head_count_kv", 1);
    if (fault != MADE_NO_EPSILON) gguf_set_val_f32(k->file, "bert.attention.layer_norm_epsilon", 1e-12f);
    gguf_set_val_bool(k->file, "bert.attention.causal", fault == MADE_CAUSAL);
    if (m->pooling != 0) gguf_set_val_u32(k->file, "bert.pooling_type", fault == MADE_RANK_POOLING ? 4 : m->pooling);
}

const char *made_encoder_path(const made_encoder *encoder, made_fault fault, const char *purpose) {
    static char path[1024];
    maker k = {.m = encoder, .fault = fault, .file = gguf_init_empty(), .random = 99 + encoder->width};
    k.context = ggml_init((struct ggml_init_params){.mem_size = (size_t)32 << 20});
    if (k.file == NULL || k.context == NULL) abort();
    hyperparameters(&k);
    vocabulary(&k);
    tensors(&k);
    snprintf(path, sizeof path, "%s/made-encoder-%s-%d-%s.gguf", DW_TEST_BUILD, encoder->name, (int)fault, purpose);
    if (!gguf_write_to_file(k.file, path, false)) abort();
    gguf_free(k.file);
    ggml_free(k.context);
    ggml_quantize_free();
    return path;
}

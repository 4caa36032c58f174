/* encoder_weights.c: see encoder_weights.h. */
#include "model/weights/encoder_weights.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "model/weights/family.h"

static const char architecture[] = "bert";

/* --- keys ---------------------------------------------------------------------------------------------------- */

bool dw_encoder_is_one(const dw_gguf *gguf) {
    dw_gguf_string name = {0};
    bool found = false;
    return dw_gguf_get_string(gguf, "general.architecture", &name, &found, NULL) == DW_OK && found &&
           name.size == strlen(architecture) && memcmp(name.data, architecture, name.size) == 0;
}

/* A count within [1, high]. `fallback` 0: the key must be there. */
static dw_status read_encoder_count(const dw_gguf *gguf, const char *key, uint32_t high, uint32_t fallback,
                                    uint32_t *out, dw_error *err) {
    uint64_t value = 0;
    bool found = false;
    dw_status status = dw_gguf_u64(gguf, key, &value, &found, err);
    if (status != DW_OK) return status;
    if (!found && fallback == 0) return dw_fail(err, DW_E_FORMAT, "key %s is missing", key);
    if (!found) value = fallback;
    if (value < 1 || value > high)
        return dw_fail(err, DW_E_FORMAT, "key %s is %llu, allowed are 1 to %u", key, (unsigned long long)value, high);
    *out = (uint32_t)value;
    return DW_OK;
}

static dw_status read_attention(const dw_gguf *gguf, dw_encoder_hyperparameters *hp, dw_error *err) {
    uint32_t n_heads_kv = 0;
    bool causal = false, found = false;
    dw_status status = read_encoder_count(gguf, "bert.attention.head_count", DW_HEADS_MAX, 0, &hp->n_heads, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "bert.attention.head_count_kv", DW_HEADS_MAX, hp->n_heads, &n_heads_kv, err);
    if (status == DW_OK) status = dw_gguf_bool(gguf, "bert.attention.causal", &causal, &found, err);
    if (status != DW_OK) return status;
    if (n_heads_kv != hp->n_heads)
        return dw_fail(err, DW_E_UNSUPPORTED, "an encoder with %u heads that share %u", hp->n_heads, n_heads_kv);
    if (found && causal) return dw_fail(err, DW_E_UNSUPPORTED, "an encoder with causal attention");
    if (hp->n_embedding % hp->n_heads != 0)
        return dw_fail(err, DW_E_FORMAT, "%u heads cannot divide a width of %u", hp->n_heads, hp->n_embedding);
    hp->head_dim = hp->n_embedding / hp->n_heads;
    return DW_OK;
}

dw_status dw_encoder_hyperparameters_read(const dw_gguf *gguf, dw_encoder_hyperparameters *out, dw_error *err) {
    memset(out, 0, sizeof *out);
    double epsilon = 0;
    bool found = false;
    dw_status status = dw_vocab_tokens_read(gguf, &out->n_vocab, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "bert.block_count", DW_LAYERS_MAX, 0, &out->n_layers, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "bert.embedding_length", 1u << 20, 0, &out->n_embedding, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "bert.feed_forward_length", 1u << 24, 0, &out->n_feed_forward, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "bert.context_length", DW_CONTEXT_TOKENS_MAX, 0, &out->context, err);
    if (status == DW_OK)
        status = read_encoder_count(gguf, "tokenizer.ggml.token_type_count", 1u << 20, 1, &out->n_token_types, err);
    if (status == DW_OK) status = read_attention(gguf, out, err);
    if (status == DW_OK) status = dw_gguf_f64(gguf, "bert.attention.layer_norm_epsilon", &epsilon, &found, err);
    if (status == DW_OK && (!found || !(epsilon >= 0 && epsilon <= 1))) {
        status = dw_fail(err, DW_E_FORMAT, "key bert.attention.layer_norm_epsilon is missing or out of range");
    }
    out->norm_epsilon = (float)epsilon;
    return status == DW_OK ? dw_pooling_read(gguf, architecture, DW_POOLING_MEAN, &out->pooling, err) : status;
}

/* --- finding ------------------------------------------------------------------------------------------------- */

/* What one dimension of a tensor must be. */
typedef enum size_of { WIDTH, FEED, VOCAB, POSITIONS, TYPES } size_of;

/* A projection or a norm of a layer. A norm has a weight of one row, and always a bias. */
typedef struct linear_row {
    const char *name;      /* behind "blk.N." */
    size_t field;          /* in dw_encoder_layer */
    size_of input, output;
    bool is_norm;
} linear_row;

#define FIELD(name) offsetof(dw_encoder_layer, name)
static const linear_row layer_rows[] = {
    {"attn_q", FIELD(q), WIDTH, WIDTH, false},
    {"attn_k", FIELD(k), WIDTH, WIDTH, false},
    {"attn_v", FIELD(v), WIDTH, WIDTH, false},
    {"attn_output", FIELD(o), WIDTH, WIDTH, false},
    {"attn_output_norm", FIELD(attention_norm), WIDTH, WIDTH, true},
    {"ffn_up", FIELD(up), WIDTH, FEED, false},
    {"ffn_down", FIELD(down), FEED, WIDTH, false},
    {"layer_output_norm", FIELD(output_norm), WIDTH, WIDTH, true},
};
enum { N_LAYER_ROWS = sizeof layer_rows / sizeof layer_rows[0], N_OUTSIDE = 5, TENSOR_NAME_BYTES = 64 };

typedef struct loader {
    const dw_gguf *gguf;
    const dw_encoder_hyperparameters *hp;
    dw_device *device;
    dw_encoder_weights *weights;
    dw_tensor_table table;
    dw_error *err;
} loader;

static uint64_t encoder_size(const loader *l, size_of what) {
    switch (what) {
    case WIDTH: return l->hp->n_embedding;
    case FEED: return l->hp->n_feed_forward;
    case VOCAB: return l->hp->n_vocab;
    case POSITIONS: return l->hp->context;
    case TYPES: return l->hp->n_token_types;
    }
    return 0;
}

/* A tensor without memory yet; rows 0: a vector, which has to be F32. */
static dw_status make_encoder_tensor(loader *l, const char *name, uint64_t columns, uint64_t rows, bool required,
                                     struct ggml_tensor **out) {
    const dw_gguf_tensor *source = dw_gguf_find_tensor(l->gguf, name);
    *out = NULL;
    if (source == NULL) return required ? dw_fail(l->err, DW_E_FORMAT, "tensor %s is missing", name) : DW_OK;
    uint64_t wanted = rows == 0 ? 1 : rows;
    if (source->shape[0] != columns || source->shape[1] != wanted || source->shape[2] != 1 || source->shape[3] != 1) {
        return dw_fail_at(l->err, DW_E_FORMAT, source->offset,
                          "tensor %s is [%llu, %llu, %llu, %llu] instead of [%llu, %llu]", name,
                          (unsigned long long)source->shape[0], (unsigned long long)source->shape[1],
                          (unsigned long long)source->shape[2], (unsigned long long)source->shape[3],
                          (unsigned long long)columns, (unsigned long long)wanted);
    }
    if (rows == 0 && source->type != GGML_TYPE_F32)
        return dw_fail(l->err, DW_E_UNSUPPORTED, "tensor %s is %s, must be F32", name, ggml_type_name(source->type));
    const int64_t shape[2] = {(int64_t)columns, (int64_t)wanted};
    return dw_tensor_table_add(&l->table, name, source, rows == 0 ? 1 : 2, shape, out, l->err);
}

/* `prefix`.weight and `prefix`.bias. */
static dw_status make_linear(loader *l, const char *prefix, uint64_t input, uint64_t output, bool is_norm,
                             dw_encoder_linear *out) {
    char name[TENSOR_NAME_BYTES];
    snprintf(name, sizeof name, "%s.weight", prefix);
    dw_status status = make_encoder_tensor(l, name, input, is_norm ? 0 : output, true, &out->weight);
    if (status != DW_OK) return status;
    snprintf(name, sizeof name, "%s.bias", prefix);
    return make_encoder_tensor(l, name, output, 0, is_norm, &out->bias);
}

static dw_status make_outside(loader *l) {
    dw_encoder_weights *w = l->weights;
    uint64_t width = l->hp->n_embedding;
    dw_status status = make_encoder_tensor(l, "token_embd.weight", width, l->hp->n_vocab, true, &w->embedding);
    if (status == DW_OK)
        status = make_encoder_tensor(l, "position_embd.weight", width, l->hp->context, true, &w->position);
    if (status == DW_OK)
        status = make_encoder_tensor(l, "token_types.weight", width, l->hp->n_token_types, false, &w->token_type);
    if (status == DW_OK && w->token_type != NULL && w->token_type->type != GGML_TYPE_F32) {
        status = dw_fail(l->err, DW_E_UNSUPPORTED, "tensor token_types.weight is %s, must be F32",
                         ggml_type_name(w->token_type->type));
    }
    if (status == DW_OK) status = make_linear(l, "token_embd_norm", width, width, true, &w->embedding_norm);
    return status;
}

static dw_status make_encoder_layer(loader *l, uint32_t layer) {
    dw_status status = DW_OK;
    for (size_t i = 0; status == DW_OK && i < N_LAYER_ROWS; i++) {
        const linear_row *row = &layer_rows[i];
        char prefix[TENSOR_NAME_BYTES];
        dw_encoder_linear linear = {0};
        snprintf(prefix, sizeof prefix, "blk.%u.%s", layer, row->name);
        status = make_linear(l, prefix, encoder_size(l, row->input), encoder_size(l, row->output), row->is_norm,
                             &linear);
        memcpy((char *)&l->weights->layers[layer] + row->field, &linear, sizeof linear);
    }
    return status;
}

dw_status dw_encoder_weights_open(const dw_gguf *gguf, const dw_encoder_hyperparameters *hp, dw_device *device,
                                  dw_encoder_weights *out, dw_error *err) {
    memset(out, 0, sizeof *out);
    loader l = {.gguf = gguf, .hp = hp, .device = device, .weights = out, .err = err};
    dw_status status = dw_tensor_table_open(gguf, hp->n_layers, N_LAYER_ROWS * 2, N_OUTSIDE, &l.table, err);
    if (status != DW_OK) return status;
    out->context = l.table.context;
    out->layers = calloc(hp->n_layers, sizeof out->layers[0]);
    if (out->layers == NULL) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for weights");
    if (status == DW_OK) status = make_outside(&l);
    for (uint32_t layer = 0; status == DW_OK && layer < hp->n_layers; layer++) status = make_encoder_layer(&l, layer);
    if (status == DW_OK) status = dw_place_tensors(gguf, device, &l.table, &out->placed, err);
    if (status == DW_OK) out->embedding_host = dw_gguf_tensor_data(gguf, l.table.sources[0]);
    dw_tensor_table_close(&l.table);
    if (status != DW_OK) dw_encoder_weights_close(out);
    return status;
}

void dw_encoder_weights_close(dw_encoder_weights *weights) {
    dw_placed_release(&weights->placed);
    if (weights->context != NULL) ggml_free(weights->context);
    free(weights->layers);
    memset(weights, 0, sizeof *weights);
}

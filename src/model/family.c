/* family.c: the table, and reading of hyperparameters. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const dw_family families[] = {
    /* Llama 2/3, Mistral, TinyLlama, SmolLM: the converter permuted Q and K so that rope pairs are neighbours. */
    {.architecture = "llama", .activation = DW_ACTIVATION_SILU, .biases = true, .rope_factors = true},
    {.architecture = "gemma3", .rope_neox = true, .activation = DW_ACTIVATION_GELU, .qk_norm = true, .post_norms = true,
     .embedding_scale = true, .scale_q = true, .window_pattern = 6, .wide_scale_layers = 62},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

dw_status dw_family_of(const dw_gguf *gguf, const dw_family **out, dw_error *err) {
    dw_gguf_string name = {0};
    bool found = false;
    *out = NULL;
    dw_status status = dw_gguf_get_string(gguf, "general.architecture", &name, &found, err);
    if (status != DW_OK) return status;
    if (!found) return dw_fail(err, DW_E_FORMAT, "the file names no general.architecture");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (strlen(families[i].architecture) == name.size && memcmp(families[i].architecture, name.data, name.size) == 0) *out = &families[i];
    }
    if (*out != NULL) return DW_OK;
    char known[96] = "";
    for (size_t i = 0, length = 0; i < N_FAMILIES && length < sizeof known; i++) {
        int written = snprintf(known + length, sizeof known - length, "%s%s", i == 0 ? "" : ", ", families[i].architecture);
        length += written > 0 ? (size_t)written : 0;
    }
    return dw_fail(err, DW_E_UNSUPPORTED, "architecture \"%.*s\" is not supported; supported are: %s, and bert for embeddings", (int)dw_min_u64(name.size, 40), name.data, known);
}

bool dw_layer_is_windowed(const dw_hyperparameters *hp, uint32_t layer) {
    return hp->window != 0 && layer % hp->window_pattern != hp->window_pattern - 1;
}

/* --- keys ---------------------------------------------------------------------------------------------------- */

typedef struct keys {
    const dw_gguf *gguf;
    const char *architecture;
    dw_error *err;
    char key[128];
} keys;

static const char *key_of(keys *k, const char *suffix) {
    snprintf(k->key, sizeof k->key, "%s.%s", k->architecture, suffix);
    return k->key;
}

/* A count within [low, high]; `fallback` where the key is absent (then low > fallback means: it must be there). */
static dw_status read_u32(keys *k, const char *suffix, uint32_t low, uint32_t high, uint32_t fallback, uint32_t *out) {
    uint64_t value = 0;
    bool found = false;
    dw_status status = dw_gguf_u64(k->gguf, key_of(k, suffix), &value, &found, k->err);
    if (status != DW_OK) return status;
    if (!found) value = fallback;
    if (value < low || value > high) {
        if (!found) return dw_fail(k->err, DW_E_FORMAT, "key %s is missing", k->key);
        return dw_fail(k->err, DW_E_FORMAT, "key %s is %llu, allowed are %u to %u", k->key, (unsigned long long)value, low, high);
    }
    *out = (uint32_t)value;
    return DW_OK;
}

/* As read_u32 for keys that may be one number or one a layer; unequal layers are refused. */
static dw_status read_per_layer(keys *k, const char *suffix, uint32_t high, uint32_t fallback, uint32_t *out) {
    dw_gguf_type type;
    uint64_t count = 0, first = 0, value = 0;
    bool found = false;
    if (dw_gguf_array(k->gguf, key_of(k, suffix), &type, &count, &found, NULL) != DW_OK || !found) {
        return read_u32(k, suffix, 1, high, fallback, out);
    }
    for (uint64_t i = 0; i < count; i++) {
        dw_status status = dw_gguf_array_u64(k->gguf, k->key, i, &value, k->err);
        if (status != DW_OK) return status;
        if (i == 0) first = value;
        if (value != first) return dw_fail(k->err, DW_E_UNSUPPORTED, "key %s differs between layers", k->key);
    }
    if (first == 0 || first > high) return dw_fail(k->err, DW_E_FORMAT, "key %s is out of range", k->key);
    *out = (uint32_t)first;
    return DW_OK;
}

static dw_status read_float(keys *k, const char *suffix, double low, double high, float fallback, float *out) {
    double value = 0;
    bool found = false;
    dw_status status = dw_gguf_f64(k->gguf, key_of(k, suffix), &value, &found, k->err);
    if (status != DW_OK) return status;
    if (found && !(value >= low && value <= high)) return dw_fail(k->err, DW_E_FORMAT, "key %s is out of range", k->key);
    *out = found ? (float)value : fallback;
    return DW_OK;
}

/* --- groups of keys ------------------------------------------------------------------------------------------ */

static dw_status read_sizes(keys *k, dw_hyperparameters *hp) {
    uint32_t experts = 0, value_length = 0;
    dw_status status = read_u32(k, "block_count", 1, DW_LAYERS_MAX, 0, &hp->n_layers);
    if (status == DW_OK) status = read_u32(k, "embedding_length", 1, 1u << 20, 0, &hp->n_embedding);
    if (status == DW_OK) status = read_u32(k, "context_length", 1, DW_CONTEXT_TOKENS_MAX * 16u, 0, &hp->context_train);
    if (status == DW_OK) status = read_per_layer(k, "feed_forward_length", 1u << 24, 0, &hp->n_feed_forward);
    if (status == DW_OK) status = read_per_layer(k, "attention.head_count", DW_HEADS_MAX, 0, &hp->n_heads);
    if (status == DW_OK) status = read_per_layer(k, "attention.head_count_kv", DW_HEADS_MAX, hp->n_heads, &hp->n_heads_kv);
    if (status == DW_OK && hp->n_heads % hp->n_heads_kv != 0) status = dw_fail(k->err, DW_E_FORMAT, "%u heads cannot share %u", hp->n_heads, hp->n_heads_kv);
    if (status == DW_OK) status = read_u32(k, "attention.key_length", 1, 4096, hp->n_embedding / hp->n_heads, &hp->head_dim);
    if (status == DW_OK) status = read_u32(k, "attention.value_length", 1, 4096, hp->n_embedding / hp->n_heads, &value_length);
    if (status == DW_OK && value_length != hp->head_dim) status = dw_fail(k->err, DW_E_UNSUPPORTED, "keys and values of different length");
    if (status == DW_OK) status = read_u32(k, "expert_count", 0, UINT32_MAX, 0, &experts);
    if (status == DW_OK && experts > 0) status = dw_fail(k->err, DW_E_UNSUPPORTED, "models with experts are not supported (%u experts)", experts);
    return status;
}

static bool string_is(dw_gguf_string string, const char *text) { return string.size == strlen(text) && memcmp(string.data, text, string.size) == 0; }

static dw_status read_rope(keys *k, dw_hyperparameters *hp) {
    float factor = 0;
    bool found = false;
    dw_gguf_string scaling = {0};
    dw_status status = read_u32(k, "rope.dimension_count", 2, hp->head_dim, hp->head_dim, &hp->n_rot);
    if (status == DW_OK && hp->n_rot % 2 != 0) status = dw_fail(k->err, DW_E_FORMAT, "rope over an odd number of dimensions");
    if (status == DW_OK) status = read_float(k, "rope.freq_base", 1, 1e12, 10000.0f, &hp->rope_base);
    if (status == DW_OK) status = read_float(k, "rope.freq_base_swa", 1, 1e12, 10000.0f, &hp->rope_base_window);
    if (status == DW_OK) status = read_float(k, "rope.scaling.attn_factor", 0, 1e6, 1.0f, &hp->rope_attention_factor);
    if (status == DW_OK) status = read_float(k, "rope.scale_linear", 0, 1e6, 0, &factor); /* the old name of the key that follows */
    if (status == DW_OK) status = read_float(k, "rope.scaling.factor", 0, 1e6, factor, &factor);
    if (status == DW_OK) status = read_u32(k, "rope.scaling.original_context_length", 1, UINT32_MAX, hp->context_train, &hp->context_original);
    if (status == DW_OK) status = dw_gguf_get_string(k->gguf, key_of(k, "rope.scaling.type"), &scaling, &found, k->err);
    if (status != DW_OK) return status;
    hp->rope_scale = factor > 0 ? 1.0f / factor : 1.0f;
    if (found && string_is(scaling, "none")) hp->rope_scale = 1.0f;
    else if (found && !string_is(scaling, "linear")) {
        return dw_fail(k->err, DW_E_UNSUPPORTED, "rope scaling \"%.*s\" is not supported", (int)dw_min_u64(scaling.size, 32), scaling.data);
    }
    return DW_OK;
}

static dw_status read_window(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    if (family->window_pattern == 0) return DW_OK;
    dw_gguf_type type;
    uint64_t count;
    bool found = false;
    dw_status status = read_u32(k, "attention.sliding_window", 0, UINT32_MAX, 0, &hp->window);
    if (status != DW_OK) return status;
    if (dw_gguf_array(k->gguf, key_of(k, "attention.sliding_window_pattern"), &type, &count, &found, NULL) == DW_OK && found) {
        return dw_fail(k->err, DW_E_UNSUPPORTED, "key %s with a value for each layer is not supported", k->key);
    }
    return read_u32(k, "attention.sliding_window_pattern", 1, DW_LAYERS_MAX, family->window_pattern, &hp->window_pattern);
}

dw_status dw_hyperparameters_read(const dw_gguf *gguf, const dw_family *family, dw_hyperparameters *out, dw_error *err) {
    keys k = {.gguf = gguf, .architecture = family->architecture, .err = err};
    memset(out, 0, sizeof *out);
    const dw_gguf_tensor *embedding = dw_gguf_find_tensor(gguf, "token_embd.weight");
    if (embedding == NULL || embedding->n_dims != 2) return dw_fail(err, DW_E_FORMAT, "tensor token_embd.weight is missing or not a matrix");
    if (embedding->shape[1] > DW_VOCAB_TOKENS_MAX) return dw_fail(err, DW_E_LIMIT, "a vocabulary of %llu tokens", (unsigned long long)embedding->shape[1]);
    out->n_vocab = (uint32_t)embedding->shape[1];
    dw_status status = read_sizes(&k, out);
    if (status == DW_OK) status = read_rope(&k, out);
    if (status == DW_OK) status = read_window(&k, family, out);
    if (status == DW_OK) status = read_float(&k, "attention.layer_norm_rms_epsilon", 0, 1, -1, &out->norm_epsilon);
    if (status == DW_OK && out->norm_epsilon < 0) status = dw_fail(err, DW_E_FORMAT, "key %s is missing", k.key);
    if (status == DW_OK) status = read_float(&k, "final_logit_softcapping", 0, 1e6, 0, &out->final_softcap);
    if (status != DW_OK) return status;
    bool wide = family->wide_scale_layers != 0 && out->n_layers == family->wide_scale_layers;
    out->attention_scale = 1.0f / sqrtf((float)(wide ? out->n_embedding / out->n_heads : out->head_dim));
    return DW_OK;
}

/* family.c: the table, and reading of hyperparameters. */
#include "model/weights/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const dw_family families[] = {
    /* Llama 2/3, Mistral, Mixtral, TinyLlama, SmolLM: the converter permuted Q and K so that rope pairs are
     * neighbours. */
    {.architecture = "llama", .experts = DW_EXPERTS_MAY, .rope_factors = true},
    {.architecture = "qwen2", .rope_neox = true},
    {.architecture = "qwen3", .qk_norm = DW_QK_NORM_HEAD, .rope_neox = true},
    {.architecture = "qwen3moe", .qk_norm = DW_QK_NORM_HEAD, .experts = DW_EXPERTS_ALWAYS, .rope_neox = true},
    {.architecture = "gemma2", .post_norms = true, .activation = DW_ACTIVATION_GELU, .embedding_scale = true,
     .scale_q = true, .attention_softcap = 50.0f, .final_softcap = 30.0f, .wide_scale_layers = 46, .rope_neox = true,
     .window_pattern = 2, .window = 4096,
     .window_rope = DW_WINDOW_ROPE_SAME},
    {.architecture = "gemma3", .post_norms = true, .qk_norm = DW_QK_NORM_HEAD, .activation = DW_ACTIVATION_GELU,
     .embedding_scale = true, .scale_q = true, .wide_scale_layers = 62, .rope_neox = true, .window_pattern = 6,
     .window_rope = DW_WINDOW_ROPE_LOCAL},
    /* Its files name a window, but their values are not to be relied on: llama.cpp, pull request 13676. */
    {.architecture = "phi3", .scale_q = true, .rope_neox = true, .rope_long = true},
    {.architecture = "granite", .scales = true, .rope_factors = true, .rope_switch = true},
    /* OLMo 2 and, with windows, OLMo 3. */
    {.architecture = "olmo2", .norms_inside = true, .post_norms = true, .qk_norm = DW_QK_NORM_WIDTH,
     .own_output_required = true, .rope_neox = true, .window_pattern = 4, .window_rope = DW_WINDOW_ROPE_PLAIN},
    {.architecture = "smollm3", .no_rope_step = 4},
    {.architecture = "starcoder2", .norm = DW_NORM_LAYER, .activation = DW_ACTIVATION_GELU, .plain_feed_forward = true,
     .biases_required = true, .rope_neox = true},
};
enum { N_FAMILIES = sizeof families / sizeof families[0] };

const dw_family *dw_family_at(size_t index) { return index < N_FAMILIES ? &families[index] : NULL; }

dw_status dw_family_of(const dw_gguf *gguf, const dw_family **out, dw_error *err) {
    dw_gguf_string name = {0};
    bool found = false;
    *out = NULL;
    dw_status status = dw_gguf_get_string(gguf, "general.architecture", &name, &found, err);
    if (status != DW_OK) return status;
    if (!found) return dw_fail(err, DW_E_FORMAT, "the file names no general.architecture");
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (strlen(families[i].architecture) == name.size &&
            memcmp(families[i].architecture, name.data, name.size) == 0)
            *out = &families[i];
    }
    if (*out != NULL) return DW_OK;
    char known[DW_ERROR_TEXT_BYTES] = "";
    for (size_t i = 0, length = 0; i < N_FAMILIES && length < sizeof known; i++) {
        int written = snprintf(known + length, sizeof known - length, "%s%s", i == 0 ? "" : ", ",
                               families[i].architecture);
        length += written > 0 ? (size_t)written : 0;
    }
    return dw_fail(err, DW_E_UNSUPPORTED,
                   "architecture \"%.*s\" is not supported; supported are: %s, and bert for embeddings",
                   (int)dw_min_u64(name.size, 40), name.data, known);
}

bool dw_layer_is_windowed(const dw_hyperparameters *hp, uint32_t layer) { return hp->layers[layer].windowed; }

/* --- keys ---------------------------------------------------------------------------------------------------- */

typedef struct keys {
    const dw_gguf *gguf;
    const char *architecture;
    dw_error *err;
    char key[128];
} keys;

static const char *family_key(keys *k, const char *suffix) {
    snprintf(k->key, sizeof k->key, "%s.%s", k->architecture, suffix);
    return k->key;
}

/* A count within [low, high]; `fallback` where the key is absent (then low > fallback means: it must be there). */
static dw_status read_u32(keys *k, const char *suffix, uint32_t low, uint32_t high, uint32_t fallback, uint32_t *out) {
    uint64_t value = 0;
    bool found = false;
    dw_status status = dw_gguf_u64(k->gguf, family_key(k, suffix), &value, &found, k->err);
    if (status != DW_OK) return status;
    if (!found) value = fallback;
    if (value < low || value > high) {
        if (!found) return dw_fail(k->err, DW_E_FORMAT, "key %s is missing", k->key);
        return dw_fail(k->err, DW_E_FORMAT, "key %s is %llu, allowed are %u to %u", k->key, (unsigned long long)value,
                       low, high);
    }
    *out = (uint32_t)value;
    return DW_OK;
}

static bool is_array(keys *k, const char *suffix, uint64_t *count) {
    dw_gguf_type type;
    bool found = false;
    return dw_gguf_array(k->gguf, family_key(k, suffix), &type, count, &found, NULL) == DW_OK && found;
}

/* As read_u32 with low = 1, for keys that are one number or one a layer: out[n_layers]. */
static dw_status read_per_layer(keys *k, const char *suffix, uint32_t high, uint32_t fallback, uint32_t n_layers,
                                uint32_t *out) {
    uint64_t count = 0;
    if (!is_array(k, suffix, &count)) {
        dw_status status = read_u32(k, suffix, 1, high, fallback, &out[0]);
        for (uint32_t i = 1; status == DW_OK && i < n_layers; i++) out[i] = out[0];
        return status;
    }
    if (count != n_layers)
        return dw_fail(k->err, DW_E_FORMAT, "key %s has %llu values for %u layers", k->key, (unsigned long long)count,
                       n_layers);
    for (uint32_t i = 0; i < n_layers; i++) {
        uint64_t value = 0;
        dw_status status = dw_gguf_array_u64(k->gguf, k->key, i, &value, k->err);
        if (status != DW_OK) return status;
        if (value == 0 || value > high)
            return dw_fail(k->err, DW_E_FORMAT, "key %s is %llu for layer %u, allowed are 1 to %u", k->key,
                           (unsigned long long)value, i, high);
        out[i] = (uint32_t)value;
    }
    return DW_OK;
}

/* As read_per_layer where the decoder can take only one number for all layers. */
static dw_status read_uniform(keys *k, const char *suffix, uint32_t high, uint32_t fallback, uint32_t n_layers,
                              uint32_t *out) {
    uint32_t values[DW_LAYERS_MAX];
    dw_status status = read_per_layer(k, suffix, high, fallback, n_layers, values);
    for (uint32_t i = 1; status == DW_OK && i < n_layers; i++) {
        if (values[i] != values[0]) status = dw_fail(k->err, DW_E_UNSUPPORTED, "key %s differs between layers", k->key);
    }
    if (status == DW_OK) *out = values[0];
    return status;
}

static dw_status read_float(keys *k, const char *suffix, double low, double high, float fallback, float *out) {
    double value = 0;
    bool found = false;
    dw_status status = dw_gguf_f64(k->gguf, family_key(k, suffix), &value, &found, k->err);
    if (status != DW_OK) return status;
    if (found && !(value >= low && value <= high))
        return dw_fail(k->err, DW_E_FORMAT, "key %s is out of range", k->key);
    *out = found ? (float)value : fallback;
    return DW_OK;
}

/* --- groups of keys ------------------------------------------------------------------------------------------ */

static dw_status read_heads(keys *k, dw_hyperparameters *hp) {
    uint32_t heads[DW_LAYERS_MAX], value_length = 0;
    dw_status status = read_per_layer(k, "attention.head_count", DW_HEADS_MAX, 0, hp->n_layers, heads);
    if (status != DW_OK) return status;
    hp->n_heads = heads[0];
    /* Rows of KV have one size in all layers. */
    status = read_uniform(k, "attention.head_count_kv", DW_HEADS_MAX, hp->n_heads, hp->n_layers, &hp->n_heads_kv);
    for (uint32_t i = 0; status == DW_OK && i < hp->n_layers; i++) {
        hp->layers[i].n_heads = heads[i];
        if (heads[i] % hp->n_heads_kv != 0)
            status = dw_fail(k->err, DW_E_FORMAT, "%u heads cannot share %u", heads[i], hp->n_heads_kv);
    }
    if (status == DW_OK)
        status = read_u32(k, "attention.key_length", 1, 4096, hp->n_embedding / hp->n_heads, &hp->head_dim);
    if (status == DW_OK)
        status = read_u32(k, "attention.value_length", 1, 4096, hp->n_embedding / hp->n_heads, &value_length);
    if (status == DW_OK && value_length != hp->head_dim)
        status = dw_fail(k->err, DW_E_UNSUPPORTED, "keys and values of different length");
    return status;
}

static dw_status read_feed_forward(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    uint32_t feed[DW_LAYERS_MAX], expert_feed = 0;
    dw_status status = read_u32(k, "expert_count", 0, DW_EXPERTS_MAX, 0, &hp->n_experts);
    if (status == DW_OK && hp->n_experts > 0 && family->experts == DW_EXPERTS_NONE) {
        return dw_fail(k->err, DW_E_UNSUPPORTED, "key %s is %u, and %s models with experts are not supported", k->key,
                       hp->n_experts, k->architecture);
    }
    if (status == DW_OK && hp->n_experts == 0 && family->experts == DW_EXPERTS_ALWAYS)
        status = dw_fail(k->err, DW_E_FORMAT, "key %s is missing", k->key);
    if (status == DW_OK && hp->n_experts > 0)
        status = read_uniform(k, "expert_used_count", hp->n_experts, 0, hp->n_layers, &hp->n_experts_used);
    if (status == DW_OK && family->experts == DW_EXPERTS_ALWAYS)
        status = read_u32(k, "expert_feed_forward_length", 0, 1u << 24, 0, &expert_feed);
    if (status == DW_OK) status = read_per_layer(k, "feed_forward_length", 1u << 24, expert_feed, hp->n_layers, feed);
    if (status != DW_OK) return status;
    for (uint32_t i = 0; i < hp->n_layers; i++) hp->layers[i].n_feed_forward = feed[i];
    if (hp->n_experts == 0) return DW_OK;
    hp->n_expert_feed_forward = family->experts == DW_EXPERTS_MAY ? feed[0]
                                : expert_feed != 0                ? expert_feed
                                                                  : feed[0] / hp->n_experts_used;
    return DW_OK;
}

static dw_status read_sizes(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    dw_status status = read_u32(k, "block_count", 1, DW_LAYERS_MAX, 0, &hp->n_layers);
    if (status == DW_OK) status = read_u32(k, "embedding_length", 1, 1u << 20, 0, &hp->n_embedding);
    if (status == DW_OK) status = read_u32(k, "context_length", 1, DW_CONTEXT_TOKENS_MAX * 16u, 0, &hp->context_train);
    if (status == DW_OK) status = read_heads(k, hp);
    if (status == DW_OK) status = read_feed_forward(k, family, hp);
    return status;
}

static bool string_is(dw_gguf_string string, const char *text) {
    return string.size == strlen(text) && memcmp(string.data, text, string.size) == 0;
}

/* YaRN's magnitude for a stretch: ggml_rope_ext multiplies by 1 + 0.1 ln(stretch) itself, so what is given has that
 * taken out again. Operation by operation as llama.cpp, whose last bit it shares. */
static float yarn_magnitude(float scale) {
    float stretch = 1.0f / scale;
    float magnitude = stretch <= 1.0f ? 1.0f : 0.1f * logf(stretch) + 1.0f;
    return magnitude * (1.0f / (1.0f + 0.1f * logf(stretch)));
}

static dw_status read_scaling(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    float factor = 0, magnitude = 1;
    bool found = false;
    dw_gguf_string scaling = {0};
    dw_status status = read_float(k, "rope.scaling.attn_factor", 0, 1e6, 1.0f, &magnitude);
    /* The old name of the key that follows. */
    if (status == DW_OK) status = read_float(k, "rope.scale_linear", 0, 1e6, 0, &factor);
    if (status == DW_OK) status = read_float(k, "rope.scaling.factor", 0, 1e6, factor, &factor);
    if (status == DW_OK)
        status = read_u32(k, "rope.scaling.original_context_length", 1, UINT32_MAX, hp->context_train,
                          &hp->context_original);
    if (status == DW_OK)
        status = dw_gguf_get_string(k->gguf, family_key(k, "rope.scaling.type"), &scaling, &found, k->err);
    if (status != DW_OK) return status;
    float scale = factor > 0 ? 1.0f / factor : 1.0f;
    hp->rope = (dw_rope){.scale = scale, .magnitude = magnitude};
    hp->rope_window = hp->rope;
    hp->rope_long = family->rope_long;
    if (!found || string_is(scaling, "linear")) return DW_OK;
    if (string_is(scaling, "none")) {
        hp->rope.scale = 1.0f;
    } else if (string_is(scaling, "yarn")) {
        hp->rope.extrapolation = hp->rope_window.extrapolation = 1.0f;
        hp->rope.magnitude = hp->rope_window.magnitude = yarn_magnitude(scale) * magnitude;
    } else if (string_is(scaling, "longrope") && (family->rope_long || family->rope_factors)) {
        hp->rope_long = hp->rope_long_required = true;
    } else {
        return dw_fail(k->err, DW_E_UNSUPPORTED, "key %s: rope scaling \"%.*s\" is not supported for %s", k->key,
                       (int)dw_min_u64(scaling.size, 32), scaling.data, k->architecture);
    }
    return DW_OK;
}

/* What layers with a window do differently. */
static dw_status read_window_rope(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    if (family->window_rope == DW_WINDOW_ROPE_PLAIN) {
        hp->rope_window = (dw_rope){.base = hp->rope.base, .scale = 1.0f, .magnitude = 1.0f};
        return DW_OK;
    }
    bool local = family->window_rope == DW_WINDOW_ROPE_LOCAL;
    if (local) hp->rope_window.scale = 1.0f;
    return read_float(k, "rope.freq_base_swa", 1, 1e12, local ? 10000.0f : hp->rope.base, &hp->rope_window.base);
}

static dw_status read_rope(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    bool found = false, on = true;
    dw_status status = read_u32(k, "rope.dimension_count", 2, hp->head_dim, hp->head_dim, &hp->n_rot);
    if (status == DW_OK && hp->n_rot % 2 != 0)
        status = dw_fail(k->err, DW_E_FORMAT, "rope over an odd number of dimensions");
    if (status == DW_OK) status = read_scaling(k, family, hp);
    if (status == DW_OK) status = read_float(k, "rope.freq_base", 1, 1e12, 10000.0f, &hp->rope.base);
    if (status == DW_OK) status = read_window_rope(k, family, hp);
    if (status == DW_OK && family->rope_switch)
        status = dw_gguf_bool(k->gguf, family_key(k, "rope.scaling.finetuned"), &on, &found, k->err);
    for (uint32_t i = 0; i < hp->n_layers; i++)
        hp->layers[i].rope = on && (family->no_rope_step == 0 || (i + 1) % family->no_rope_step != 0);
    return status;
}

static dw_status read_window_of_layer(keys *k, uint32_t layer, bool *out) {
    uint64_t value = 0;
    dw_gguf_type type;
    uint64_t count;
    bool found;
    dw_status status = dw_gguf_array(k->gguf, k->key, &type, &count, &found, k->err);
    if (status != DW_OK) return status;
    if (type == DW_GGUF_BOOL) return dw_gguf_array_bool(k->gguf, k->key, layer, out, k->err);
    status = dw_gguf_array_u64(k->gguf, k->key, layer, &value, k->err);
    *out = value != 0;
    return status;
}

/* The pattern is a number (every n-th layer sees everything) or says for each layer whether it is windowed. */
static dw_status read_window(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    if (family->window_pattern == 0) return DW_OK;
    uint64_t count = 0;
    uint32_t pattern = 0;
    dw_status status = read_u32(k, "attention.sliding_window", 0, UINT32_MAX, family->window, &hp->window);
    if (status != DW_OK || hp->window == 0) return status;
    bool each = is_array(k, "attention.sliding_window_pattern", &count);
    if (each && count != hp->n_layers)
        return dw_fail(k->err, DW_E_FORMAT, "key %s has %llu values for %u layers", k->key, (unsigned long long)count,
                       hp->n_layers);
    if (!each)
        status = read_u32(k, "attention.sliding_window_pattern", 0, DW_LAYERS_MAX, family->window_pattern, &pattern);
    for (uint32_t i = 0; status == DW_OK && i < hp->n_layers; i++) {
        if (each) status = read_window_of_layer(k, i, &hp->layers[i].windowed);
        else hp->layers[i].windowed = pattern == 0 || i % pattern != pattern - 1;
    }
    return status;
}

static dw_status read_scales(keys *k, const dw_family *family, dw_hyperparameters *hp) {
    bool wide = family->wide_scale_layers != 0 && hp->n_layers == family->wide_scale_layers;
    float usual = 1.0f / sqrtf((float)(wide ? hp->n_embedding / hp->n_heads : hp->head_dim));
    dw_status status = read_float(k, "final_logit_softcapping", 0, 1e6, family->final_softcap, &hp->final_softcap);
    if (status == DW_OK && family->attention_softcap != 0) {
        status = read_float(k, "attn_logit_softcapping", 0, 1e6, family->attention_softcap, &hp->attention_softcap);
    }
    if (family->embedding_scale) hp->embedding_scale = sqrtf((float)hp->n_embedding);
    if (status == DW_OK && family->scales) {
        status = read_float(k, "embedding_scale", 0, 1e6, 0, &hp->embedding_scale);
        if (status == DW_OK) status = read_float(k, "residual_scale", 0, 1e6, 0, &hp->residual_scale);
        if (status == DW_OK) status = read_float(k, "attention.scale", 0, 1e6, 0, &hp->attention_scale);
        if (status == DW_OK) status = read_float(k, "logit_scale", 0, 1e6, 0, &hp->logit_divisor);
        if (status == DW_OK && hp->logit_divisor == 0)
            status = dw_fail(k->err, DW_E_FORMAT, "key %s is missing or 0", k->key);
    }
    if (hp->attention_scale == 0) hp->attention_scale = usual;
    return status;
}

dw_status dw_vocab_tokens_read(const dw_gguf *gguf, uint32_t *out, dw_error *err) {
    const dw_gguf_tensor *embedding = dw_gguf_find_tensor(gguf, "token_embd.weight");
    if (embedding == NULL || embedding->n_dims != 2)
        return dw_fail(err, DW_E_FORMAT, "tensor token_embd.weight is missing or not a matrix");
    if (embedding->shape[1] > DW_VOCAB_TOKENS_MAX)
        return dw_fail(err, DW_E_LIMIT, "a vocabulary of %llu tokens", (unsigned long long)embedding->shape[1]);
    *out = (uint32_t)embedding->shape[1];
    return DW_OK;
}

dw_status dw_hyperparameters_read(const dw_gguf *gguf, const dw_family *family, dw_hyperparameters *out,
                                  dw_error *err) {
    keys k = {.gguf = gguf, .architecture = family->architecture, .err = err};
    memset(out, 0, sizeof *out);
    bool rms = family->norm == DW_NORM_RMS;
    dw_status status = dw_vocab_tokens_read(gguf, &out->n_vocab, err);
    if (status == DW_OK) status = read_sizes(&k, family, out);
    if (status == DW_OK) status = read_rope(&k, family, out);
    if (status == DW_OK) status = read_window(&k, family, out);
    if (status == DW_OK)
        status = read_float(&k, rms ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon", 0, 1, -1,
                            &out->norm_epsilon);
    if (status == DW_OK && out->norm_epsilon < 0) status = dw_fail(err, DW_E_FORMAT, "key %s is missing", k.key);
    if (status == DW_OK) status = read_scales(&k, family, out);
    return status;
}

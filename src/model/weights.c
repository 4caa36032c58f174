/* weights.c: finds, checks and places the tensors that a family's decoder uses. */
#include "model/weights.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"

/* What one dimension of a tensor must be. */
typedef enum size_of { ONE, WIDTH, Q_WIDTH, KV_WIDTH, HEAD, FEED, VOCAB, HALF_ROT } size_of;

typedef struct tensor_row {
    const char *name;        /* behind "blk.N." */
    size_t field;            /* in dw_layer_weights */
    size_of columns, rows;   /* rows ONE: a vector */
    bool required;
    size_t trait;            /* offset of the bool in dw_family that asks for it, or ALWAYS */
} tensor_row;

#define ALWAYS SIZE_MAX
#define FIELD(name) offsetof(dw_layer_weights, name)
#define TRAIT(name) offsetof(dw_family, name)

static const tensor_row layer_tensors[] = {
    {"attn_norm.weight", FIELD(attention_norm), WIDTH, ONE, true, ALWAYS},
    {"attn_q.weight", FIELD(q), WIDTH, Q_WIDTH, true, ALWAYS},
    {"attn_k.weight", FIELD(k), WIDTH, KV_WIDTH, true, ALWAYS},
    {"attn_v.weight", FIELD(v), WIDTH, KV_WIDTH, true, ALWAYS},
    {"attn_output.weight", FIELD(o), Q_WIDTH, WIDTH, true, ALWAYS},
    {"attn_q.bias", FIELD(q_bias), Q_WIDTH, ONE, false, TRAIT(biases)},
    {"attn_k.bias", FIELD(k_bias), KV_WIDTH, ONE, false, TRAIT(biases)},
    {"attn_v.bias", FIELD(v_bias), KV_WIDTH, ONE, false, TRAIT(biases)},
    {"attn_output.bias", FIELD(o_bias), WIDTH, ONE, false, TRAIT(biases)},
    {"attn_q_norm.weight", FIELD(q_norm), HEAD, ONE, true, TRAIT(qk_norm)},
    {"attn_k_norm.weight", FIELD(k_norm), HEAD, ONE, true, TRAIT(qk_norm)},
    {"post_attention_norm.weight", FIELD(attention_post_norm), WIDTH, ONE, true, TRAIT(post_norms)},
    {"ffn_norm.weight", FIELD(feed_norm), WIDTH, ONE, true, ALWAYS},
    {"ffn_gate.weight", FIELD(gate), WIDTH, FEED, true, ALWAYS},
    {"ffn_up.weight", FIELD(up), WIDTH, FEED, true, ALWAYS},
    {"ffn_down.weight", FIELD(down), FEED, WIDTH, true, ALWAYS},
    {"ffn_gate.bias", FIELD(gate_bias), FEED, ONE, false, TRAIT(biases)},
    {"ffn_up.bias", FIELD(up_bias), FEED, ONE, false, TRAIT(biases)},
    {"ffn_down.bias", FIELD(down_bias), WIDTH, ONE, false, TRAIT(biases)},
    {"post_ffw_norm.weight", FIELD(feed_post_norm), WIDTH, ONE, true, TRAIT(post_norms)},
};
enum { N_LAYER_TENSORS = sizeof layer_tensors / sizeof layer_tensors[0], N_MODEL_TENSORS = 4, TENSOR_NAME_BYTES = 64 };

typedef struct loader {
    const dw_gguf *gguf;
    const dw_family *family;
    const dw_hyperparameters *hp;
    dw_device *device;
    dw_weights *weights;
    /* Tensors made so far, with their places in the file. */
    struct ggml_tensor **made;
    const dw_gguf_tensor **sources;
    size_t n_made;
    dw_error *err;
} loader;

static uint64_t size_in(const loader *l, size_of what) {
    const dw_hyperparameters *hp = l->hp;
    switch (what) {
    case ONE: return 1;
    case WIDTH: return hp->n_embedding;
    case Q_WIDTH: return (uint64_t)hp->n_heads * hp->head_dim;
    case KV_WIDTH: return (uint64_t)hp->n_heads_kv * hp->head_dim;
    case HEAD: return hp->head_dim;
    case FEED: return hp->n_feed_forward;
    case VOCAB: return hp->n_vocab;
    case HALF_ROT: return hp->n_rot / 2;
    }
    return 0;
}

/* A tensor without memory yet. */
static dw_status make(loader *l, const char *name, size_of columns, size_of rows, bool required, struct ggml_tensor **out) {
    const dw_gguf_tensor *source = dw_gguf_find_tensor(l->gguf, name);
    *out = NULL;
    if (source == NULL) return required ? dw_fail(l->err, DW_E_FORMAT, "tensor %s is missing", name) : DW_OK;
    const uint64_t want[2] = {size_in(l, columns), size_in(l, rows)};
    if (source->shape[0] != want[0] || source->shape[1] != want[1] || source->shape[2] != 1 || source->shape[3] != 1) {
        return dw_fail_at(l->err, DW_E_FORMAT, source->offset, "tensor %s is [%llu, %llu, %llu, %llu] instead of [%llu, %llu]", name,
                          (unsigned long long)source->shape[0], (unsigned long long)source->shape[1], (unsigned long long)source->shape[2],
                          (unsigned long long)source->shape[3], (unsigned long long)want[0], (unsigned long long)want[1]);
    }
    if (rows == ONE && source->type != GGML_TYPE_F32) return dw_fail(l->err, DW_E_UNSUPPORTED, "tensor %s is %s, must be F32", name, ggml_type_name(source->type));
    struct ggml_tensor *tensor = rows == ONE ? ggml_new_tensor_1d(l->weights->context, source->type, (int64_t)want[0])
                                             : ggml_new_tensor_2d(l->weights->context, source->type, (int64_t)want[0], (int64_t)want[1]);
    if (ggml_nbytes(tensor) != source->bytes) return dw_fail(l->err, DW_E_FORMAT, "tensor %s has %llu bytes", name, (unsigned long long)source->bytes);
    ggml_set_name(tensor, name);
    l->made[l->n_made] = tensor;
    l->sources[l->n_made++] = source;
    *out = tensor;
    return DW_OK;
}

static dw_status make_all(loader *l) {
    dw_weights *w = l->weights;
    dw_status status = make(l, "token_embd.weight", WIDTH, VOCAB, true, &w->embedding);
    if (status == DW_OK) status = make(l, "output_norm.weight", WIDTH, ONE, true, &w->output_norm);
    if (status == DW_OK) status = make(l, "output.weight", WIDTH, VOCAB, false, &w->output);
    if (status == DW_OK && w->output == NULL) w->output = w->embedding;
    if (status == DW_OK && l->family->rope_factors) status = make(l, "rope_freqs.weight", HALF_ROT, ONE, false, &w->rope_factors);
    for (uint32_t layer = 0; status == DW_OK && layer < l->hp->n_layers; layer++) {
        for (size_t i = 0; status == DW_OK && i < N_LAYER_TENSORS; i++) {
            const tensor_row *row = &layer_tensors[i];
            if (row->trait != ALWAYS && !*(const bool *)((const char *)l->family + row->trait)) continue;
            char name[TENSOR_NAME_BYTES];
            snprintf(name, sizeof name, "blk.%u.%s", layer, row->name);
            struct ggml_tensor *tensor = NULL;
            status = make(l, name, row->columns, row->rows, row->required, &tensor);
            memcpy((char *)&w->layers[layer] + row->field, &tensor, sizeof tensor);
        }
    }
    return status;
}

/* --- placing ------------------------------------------------------------------------------------------------- */

/* Wraps the map of one of the file's parts, if the device can; else leaves its wrap NULL and says why. */
static dw_status wrap_part(loader *l, uint32_t index) {
    const dw_gguf_part part = dw_gguf_part_at(l->gguf, index);
    const dw_device_info *info = dw_device_info_view(l->device);
    uint64_t bytes = info->kind == DW_DEVICE_CPU ? part.bytes : part.mapped_bytes;
    dw_error why = {0};
    dw_status status = dw_device_wrap(l->device, (void *)(uintptr_t)part.data, bytes, false, &l->weights->wraps[index], &why);
    if (status == DW_E_UNSUPPORTED || status == DW_E_INVALID) {
        dw_log(DW_LOG_INFO, "weights", "part=%u wrapped=no reason=\"%s\"", index + 1, why.text);
        return DW_OK;
    }
    if (status != DW_OK && l->err != NULL) *l->err = why;
    return status;
}

/* Tensors that could not be placed in the wrap go one behind the other into one buffer of the device. */
static dw_status copy_rest(loader *l, const size_t *rest, size_t n_rest) {
    if (n_rest == 0) return DW_OK;
    uint64_t align = dw_max_u64(dw_device_info_view(l->device)->tensor_align_bytes, 256), total = 0;
    for (size_t i = 0; i < n_rest; i++) {
        /* A backend may pad rows; twice a row is more than any does. */
        uint64_t bytes = l->sources[rest[i]]->bytes + 2 * l->made[rest[i]]->nb[1];
        if (!dw_add_u64(total, bytes, &total) || !dw_round_up_u64(total, align, &total)) return dw_fail(l->err, DW_E_RANGE, "weights too large");
    }
    dw_status status = dw_device_allocate(l->device, total, &l->weights->own, l->err);
    uint64_t offset = 0;
    for (size_t i = 0; status == DW_OK && i < n_rest; i++) {
        struct ggml_tensor *tensor = l->made[rest[i]];
        const dw_gguf_tensor *source = l->sources[rest[i]];
        status = dw_buffer_place(l->weights->own, tensor, offset, l->err);
        if (status == DW_OK) status = dw_tensor_write(l->device, tensor, dw_gguf_tensor_data(l->gguf, source), 0, source->bytes);
        l->weights->copied_bytes += source->bytes;
        offset += source->bytes + 2 * tensor->nb[1];
        offset = (offset + align - 1) / align * align;
    }
    return status;
}

static dw_status place_all(loader *l) {
    size_t *rest = calloc(l->n_made, sizeof *rest);
    if (rest == NULL) return dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    size_t n_rest = 0;
    dw_status status = DW_OK;
    uint32_t n_parts = dw_gguf_n_parts(l->gguf);
    l->weights->wraps = calloc(n_parts, sizeof *l->weights->wraps);
    if (l->weights->wraps == NULL) status = dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    else l->weights->n_wraps = n_parts;
    for (uint32_t i = 0; status == DW_OK && i < n_parts; i++) status = wrap_part(l, i);
    for (size_t i = 0; status == DW_OK && i < l->n_made; i++) {
        dw_buffer *wrap = l->weights->wraps[l->sources[i]->part];
        if (wrap != NULL && dw_buffer_place(wrap, l->made[i], l->sources[i]->offset, NULL) == DW_OK) {
            l->weights->wrapped_bytes += l->sources[i]->bytes;
        } else {
            rest[n_rest++] = i;
        }
    }
    if (status == DW_OK) status = copy_rest(l, rest, n_rest);
    free(rest);
    return status;
}

dw_status dw_weights_open(const dw_gguf *gguf, const dw_family *family, const dw_hyperparameters *hp, dw_device *device, dw_weights *out,
                          dw_error *err) {
    memset(out, 0, sizeof *out);
    loader l = {.gguf = gguf, .family = family, .hp = hp, .device = device, .weights = out, .err = err};
    size_t most = (size_t)hp->n_layers * N_LAYER_TENSORS + N_MODEL_TENSORS;
    /* A layer has at least one tensor in the file: what is allocated here is bounded by the file. */
    if (hp->n_layers > dw_gguf_n_tensors(gguf)) return dw_fail(err, DW_E_FORMAT, "%u layers and %llu tensors", hp->n_layers, (unsigned long long)dw_gguf_n_tensors(gguf));
    dw_status status = DW_OK;
    l.made = calloc(most, sizeof *l.made);
    l.sources = calloc(most, sizeof *l.sources);
    out->layers = calloc(hp->n_layers, sizeof out->layers[0]);
    out->context = ggml_init((struct ggml_init_params){.mem_size = most * ggml_tensor_overhead(), .no_alloc = true});
    if (l.made == NULL || l.sources == NULL || out->layers == NULL || out->context == NULL) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for weights");
        goto out;
    }
    status = make_all(&l);
    if (status == DW_OK) status = place_all(&l);
    if (status == DW_OK) out->embedding_host = dw_gguf_tensor_data(gguf, l.sources[0]);
out:
    free(l.made);
    free(l.sources);
    if (status != DW_OK) dw_weights_close(out);
    return status;
}

void dw_weights_close(dw_weights *weights) {
    for (uint32_t i = 0; i < weights->n_wraps; i++) dw_buffer_destroy(weights->wraps[i]);
    free(weights->wraps);
    dw_buffer_destroy(weights->own);
    if (weights->context != NULL) ggml_free(weights->context);
    free(weights->layers);
    memset(weights, 0, sizeof *weights);
}

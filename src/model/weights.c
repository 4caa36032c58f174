/* weights.c: finds, checks and places the tensors that a family's decoder uses. */
#include "model/weights.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "os/os.h"

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
    bool repack;
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

/* Wraps the file's map, if the device can; else leaves wrap NULL and says why. */
static dw_status wrap_file(loader *l) {
    uint64_t file_bytes = 0;
    const void *data = dw_gguf_data(l->gguf, &file_bytes);
    const dw_device_info *info = dw_device_info_view(l->device);
    uint64_t bytes = info->kind == DW_DEVICE_CPU ? file_bytes : dw_gguf_mapped_bytes(l->gguf);
    dw_error why = {0};
    dw_status status = dw_device_wrap(l->device, (void *)(uintptr_t)data, bytes, false, &l->weights->wrap, &why);
    if (status == DW_E_UNSUPPORTED || status == DW_E_INVALID) {
        dw_log(DW_LOG_INFO, "weights", "wrapped=no reason=\"%s\"", why.text);
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
    const uint8_t *file = dw_gguf_data(l->gguf, &(uint64_t){0});
    uint64_t offset = 0;
    for (size_t i = 0; status == DW_OK && i < n_rest; i++) {
        struct ggml_tensor *tensor = l->made[rest[i]];
        const dw_gguf_tensor *source = l->sources[rest[i]];
        status = dw_buffer_place(l->weights->own, tensor, offset, l->err);
        if (status == DW_OK) status = dw_tensor_write(l->device, tensor, file + source->offset, 0, source->bytes);
        l->weights->copied_bytes += source->bytes;
        offset += source->bytes + 2 * tensor->nb[1];
        offset = (offset + align - 1) / align * align;
    }
    return status;
}

/* A tied output as a tensor of its own, over the embedding's bytes, where it will be repacked: rows are looked up in the other. */
static void untie_output(loader *l) {
    dw_weights *w = l->weights;
    if (w->output != w->embedding || dw_device_repacks(l->device, w->embedding) == NULL) return;
    w->output = ggml_dup_tensor(w->context, w->embedding);
    ggml_set_name(w->output, "output.weight");
    l->made[l->n_made] = w->output;
    l->sources[l->n_made++] = l->sources[0];
}

/* What is multiplied with, and not looked up in. */
static bool is_product(const loader *l, const struct ggml_tensor *tensor) { return tensor->ne[1] > 1 && tensor != l->weights->embedding; }

static dw_status repack_products(loader *l) {
    uint64_t begin_ns = dw_os_monotonic_ns();
    untie_output(l);
    dw_repack_weight *products = calloc(l->n_made, sizeof *products);
    if (products == NULL) return dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    const uint8_t *file = dw_gguf_data(l->gguf, &(uint64_t){0});
    size_t n = 0;
    for (size_t i = 0; i < l->n_made; i++) {
        if (is_product(l, l->made[i])) products[n++] = (dw_repack_weight){.tensor = l->made[i], .data = file + l->sources[i]->offset};
    }
    dw_status status = dw_repack(l->device, products, n, &l->weights->repacked, l->err);
    free(products);
    dw_log(DW_LOG_INFO, "weights", "repacked_bytes=%llu ms=%llu", (unsigned long long)l->weights->repacked.bytes,
           (unsigned long long)(dw_os_monotonic_ns() - begin_ns) / 1000000);
    return status;
}

static dw_status place_all(loader *l) {
    size_t *rest = calloc(l->n_made, sizeof *rest);
    if (rest == NULL) return dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    size_t n_rest = 0;
    dw_status status = l->repack ? repack_products(l) : DW_OK;
    if (status == DW_OK) status = wrap_file(l);
    for (size_t i = 0; status == DW_OK && i < l->n_made; i++) {
        if (l->made[i]->buffer != NULL) continue; /* repacked */
        if (l->weights->wrap != NULL && dw_buffer_place(l->weights->wrap, l->made[i], l->sources[i]->offset, NULL) == DW_OK) {
            l->weights->wrapped_bytes += l->sources[i]->bytes;
        } else {
            rest[n_rest++] = i;
        }
    }
    if (status == DW_OK) status = copy_rest(l, rest, n_rest);
    free(rest);
    return status;
}

dw_status dw_weights_open(const dw_gguf *gguf, const dw_family *family, const dw_hyperparameters *hp, dw_device *device, bool repack,
                          dw_weights *out, dw_error *err) {
    memset(out, 0, sizeof *out);
    loader l = {.gguf = gguf, .family = family, .hp = hp, .device = device, .repack = repack, .weights = out, .err = err};
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
    if (status == DW_OK) out->embedding_host = (const uint8_t *)dw_gguf_data(gguf, &(uint64_t){0}) + l.sources[0]->offset;
out:
    free(l.made);
    free(l.sources);
    if (status != DW_OK) dw_weights_close(out);
    return status;
}

void dw_weights_close(dw_weights *weights) {
    dw_buffer_destroy(weights->wrap);
    dw_buffer_destroy(weights->own);
    dw_repack_release(&weights->repacked);
    if (weights->context != NULL) ggml_free(weights->context);
    free(weights->layers);
    memset(weights, 0, sizeof *weights);
}

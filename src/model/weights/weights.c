/* weights.c: finds, checks and places the tensors that a family's decoder uses. */
#include "model/weights/weights.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "os/os.h"

/* What one dimension of a tensor must be. */
typedef enum size_of {
    ONE,
    WIDTH,
    Q_WIDTH,
    KV_WIDTH,
    QKV_WIDTH,
    Q_NORM,
    K_NORM,
    FEED,
    UP,
    EXPERTS,
    EXPERT_FEED,
    VOCAB,
    HALF_ROT
} size_of;

/* How this layer's tensors are laid out, seen from the file before they are made. */
typedef struct layer_form {
    uint32_t layer;
    bool fused_qkv;
    bool fused_gate;         /* gate and up in one matrix */
} layer_form;

typedef struct loader {
    const dw_gguf *gguf;
    const dw_family *family;
    const dw_hyperparameters *hp;
    dw_device *device;
    dw_weights *weights;
    layer_form form;
    dw_tensor_table table;
    dw_error *err;
} loader;

typedef enum need { NO, MAY, MUST } need;

/* Who has which tensor. */
static need always(const loader *l) { (void)l; return MUST; }
static need maybe(const loader *l) { (void)l; return MAY; }
static need norm_before(const loader *l) { return l->family->norms_inside ? NO : MUST; }
static need norm_before_bias(const loader *l) {
    return l->family->norms_inside || l->family->norm != DW_NORM_LAYER ? NO : MUST;
}
static need norm_after(const loader *l) { return l->family->post_norms ? MUST : NO; }
static need norm_of_qk(const loader *l) { return l->family->qk_norm != DW_QK_NORM_NONE ? MUST : NO; }
static need fused_qkv(const loader *l) { return l->form.fused_qkv ? MUST : NO; }
static need fused_qkv_bias(const loader *l) { return l->form.fused_qkv ? MAY : NO; }
static need split_qkv(const loader *l) { return l->form.fused_qkv ? NO : MUST; }
static need bias(const loader *l) { return l->family->biases_required ? MUST : MAY; }
static need dense(const loader *l) { return l->hp->n_experts == 0 ? MUST : NO; }
static need dense_bias(const loader *l) { return l->hp->n_experts == 0 ? bias(l) : NO; }
static need split_gate(const loader *l) {
    return l->hp->n_experts != 0 || l->family->plain_feed_forward || l->form.fused_gate ? NO : MUST;
}
static need split_gate_bias(const loader *l) { return split_gate(l) == MUST ? bias(l) : NO; }
static need experts(const loader *l) { return l->hp->n_experts != 0 ? MUST : NO; }

typedef struct tensor_row {
    const char *name;        /* behind "blk.N." */
    size_t field;            /* in dw_layer_weights */
    size_of columns, rows, depth; /* rows ONE: a vector; depth ONE: a matrix */
    need (*needed)(const loader *l);
} tensor_row;

#define FIELD(name) offsetof(dw_layer_weights, name)

static const tensor_row layer_tensors[] = {
    {"attn_norm.weight", FIELD(attention_norm), WIDTH, ONE, ONE, norm_before},
    {"attn_norm.bias", FIELD(attention_norm_bias), WIDTH, ONE, ONE, norm_before_bias},
    {"attn_qkv.weight", FIELD(qkv), WIDTH, QKV_WIDTH, ONE, fused_qkv},
    {"attn_qkv.bias", FIELD(qkv_bias), QKV_WIDTH, ONE, ONE, fused_qkv_bias},
    {"attn_q.weight", FIELD(q), WIDTH, Q_WIDTH, ONE, split_qkv},
    {"attn_k.weight", FIELD(k), WIDTH, KV_WIDTH, ONE, split_qkv},
    {"attn_v.weight", FIELD(v), WIDTH, KV_WIDTH, ONE, split_qkv},
    {"attn_output.weight", FIELD(o), Q_WIDTH, WIDTH, ONE, always},
    {"attn_q.bias", FIELD(q_bias), Q_WIDTH, ONE, ONE, maybe},
    {"attn_k.bias", FIELD(k_bias), KV_WIDTH, ONE, ONE, maybe},
    {"attn_v.bias", FIELD(v_bias), KV_WIDTH, ONE, ONE, maybe},
    {"attn_output.bias", FIELD(o_bias), WIDTH, ONE, ONE, bias},
    {"attn_q_norm.weight", FIELD(q_norm), Q_NORM, ONE, ONE, norm_of_qk},
    {"attn_k_norm.weight", FIELD(k_norm), K_NORM, ONE, ONE, norm_of_qk},
    {"post_attention_norm.weight", FIELD(attention_post_norm), WIDTH, ONE, ONE, norm_after},
    {"ffn_norm.weight", FIELD(feed_norm), WIDTH, ONE, ONE, norm_before},
    {"ffn_norm.bias", FIELD(feed_norm_bias), WIDTH, ONE, ONE, norm_before_bias},
    {"ffn_gate.weight", FIELD(gate), WIDTH, FEED, ONE, split_gate},
    {"ffn_up.weight", FIELD(up), WIDTH, UP, ONE, dense},
    {"ffn_down.weight", FIELD(down), FEED, WIDTH, ONE, dense},
    {"ffn_gate.bias", FIELD(gate_bias), FEED, ONE, ONE, split_gate_bias},
    {"ffn_up.bias", FIELD(up_bias), UP, ONE, ONE, dense_bias},
    {"ffn_down.bias", FIELD(down_bias), WIDTH, ONE, ONE, dense_bias},
    {"ffn_gate_inp.weight", FIELD(router), WIDTH, EXPERTS, ONE, experts},
    {"ffn_gate_exps.weight", FIELD(gate_experts), WIDTH, EXPERT_FEED, EXPERTS, experts},
    {"ffn_up_exps.weight", FIELD(up_experts), WIDTH, EXPERT_FEED, EXPERTS, experts},
    {"ffn_down_exps.weight", FIELD(down_experts), EXPERT_FEED, WIDTH, EXPERTS, experts},
    {"post_ffw_norm.weight", FIELD(feed_post_norm), WIDTH, ONE, ONE, norm_after},
};
enum { N_LAYER_TENSORS = sizeof layer_tensors / sizeof layer_tensors[0], N_MODEL_TENSORS = 8, TENSOR_NAME_BYTES = 64 };

static uint64_t decoder_size(const loader *l, size_of what) {
    const dw_hyperparameters *hp = l->hp;
    const dw_layer_sizes *layer = &hp->layers[l->form.layer];
    uint64_t q = (uint64_t)layer->n_heads * hp->head_dim, kv = (uint64_t)hp->n_heads_kv * hp->head_dim;
    bool norm_heads = l->family->qk_norm == DW_QK_NORM_HEAD;
    switch (what) {
    case ONE: return 1;
    case WIDTH: return hp->n_embedding;
    case Q_WIDTH: return q;
    case KV_WIDTH: return kv;
    case QKV_WIDTH: return q + 2 * kv;
    case Q_NORM: return norm_heads ? hp->head_dim : q;
    case K_NORM: return norm_heads ? hp->head_dim : kv;
    case FEED: return layer->n_feed_forward;
    case UP: return (uint64_t)layer->n_feed_forward * (l->form.fused_gate ? 2 : 1);
    case EXPERTS: return hp->n_experts;
    case EXPERT_FEED: return hp->n_expert_feed_forward;
    case VOCAB: return hp->n_vocab;
    case HALF_ROT: return hp->n_rot / 2;
    }
    return 0;
}

/* Kernels take vectors as F32 alone. A matrix may be of any type that holds weights; whether the device has a kernel
 * for it is asked with the graph (dw_device_supports). */
static dw_status check_type(loader *l, const char *name, const dw_gguf_tensor *source, bool vector) {
    enum ggml_type type = (enum ggml_type)source->type;
    const char *type_name = ggml_type_name(type);
    if (vector && type != GGML_TYPE_F32)
        return dw_fail(l->err, DW_E_UNSUPPORTED, "tensor %s is %s, must be F32", name, type_name);
    if (type != GGML_TYPE_F32 && ggml_get_type_traits(type)->to_float == NULL) {
        return dw_fail(l->err, DW_E_UNSUPPORTED, "tensor %s is %s, which no matrix of weights can be", name, type_name);
    }
    return DW_OK;
}

static dw_status check_shape(loader *l, const char *name, const dw_gguf_tensor *source, const uint64_t want[3]) {
    const uint64_t *is = source->shape;
    if (is[0] == want[0] && is[1] == want[1] && is[2] == want[2] && is[3] == 1) return DW_OK;
    return dw_fail_at(l->err, DW_E_FORMAT, source->offset,
                      "tensor %s is [%llu, %llu, %llu, %llu] instead of [%llu, %llu, %llu]", name,
                      (unsigned long long)is[0], (unsigned long long)is[1], (unsigned long long)is[2],
                      (unsigned long long)is[3], (unsigned long long)want[0], (unsigned long long)want[1],
                      (unsigned long long)want[2]);
}

/* A tensor without memory yet; NULL where it may be missing and is. */
static dw_status make_tensor(loader *l, const char *name, size_of columns, size_of rows, size_of depth, need needed,
                             struct ggml_tensor **out) {
    const dw_gguf_tensor *source = dw_gguf_find_tensor(l->gguf, name);
    *out = NULL;
    if (source == NULL) return needed == MUST ? dw_fail(l->err, DW_E_FORMAT, "tensor %s is missing", name) : DW_OK;
    const uint64_t want[3] = {decoder_size(l, columns), decoder_size(l, rows), decoder_size(l, depth)};
    dw_status status = check_shape(l, name, source, want);
    if (status == DW_OK) status = check_type(l, name, source, rows == ONE);
    if (status != DW_OK) return status;
    const int64_t shape[3] = {(int64_t)want[0], (int64_t)want[1], (int64_t)want[2]};
    return dw_tensor_table_add(&l->table, name, source, depth != ONE ? 3 : rows != ONE ? 2 : 1, shape, out, l->err);
}

/* Rope's divisors: one set, or a short and a long one, of which the context decides. A set that is not chosen is no
 * part of this model. */
static dw_status make_rope_factors(loader *l) {
    dw_weights *w = l->weights;
    if (!l->hp->rope_long)
        return l->family->rope_factors ? make_tensor(l, "rope_freqs.weight", HALF_ROT, ONE, ONE, MAY, &w->rope_factors)
                                       : DW_OK;
    static const char *const names[2] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    const bool there[2] = {dw_gguf_find_tensor(l->gguf, names[0]) != NULL,
                           dw_gguf_find_tensor(l->gguf, names[1]) != NULL};
    need needed = l->hp->rope_long_required || there[0] || there[1] ? MUST : NO;
    if (needed == NO) return DW_OK;
    struct ggml_tensor *sets[2] = {NULL, NULL};
    dw_status status = make_tensor(l, names[0], HALF_ROT, ONE, ONE, MUST, &sets[0]);
    if (status == DW_OK) status = make_tensor(l, names[1], HALF_ROT, ONE, ONE, MUST, &sets[1]);
    w->rope_is_long = l->hp->context > l->hp->context_original;
    w->rope_factors = sets[w->rope_is_long];
    return status;
}

static dw_status make_ends(loader *l) {
    dw_weights *w = l->weights;
    dw_status status = make_tensor(l, "token_embd.weight", WIDTH, VOCAB, ONE, MUST, &w->embedding);
    if (status == DW_OK) status = make_tensor(l, "output_norm.weight", WIDTH, ONE, ONE, MUST, &w->output_norm);
    if (status == DW_OK && l->family->norm == DW_NORM_LAYER)
        status = make_tensor(l, "output_norm.bias", WIDTH, ONE, ONE, MUST, &w->output_norm_bias);
    if (status == DW_OK)
        status = make_tensor(l, "output.weight", WIDTH, VOCAB, ONE, l->family->own_output_required ? MUST : MAY,
                             &w->output);
    if (status == DW_OK) status = make_tensor(l, "output.bias", VOCAB, ONE, ONE, MAY, &w->output_bias);
    if (w->output == NULL) w->output = w->embedding;
    return status == DW_OK ? make_rope_factors(l) : status;
}

static layer_form form_of(const loader *l, uint32_t layer) {
    char name[TENSOR_NAME_BYTES];
    layer_form form = {.layer = layer};
    snprintf(name, sizeof name, "blk.%u.attn_qkv.weight", layer);
    form.fused_qkv = dw_gguf_find_tensor(l->gguf, name) != NULL;
    snprintf(name, sizeof name, "blk.%u.ffn_up.weight", layer);
    const dw_gguf_tensor *up = dw_gguf_find_tensor(l->gguf, name);
    form.fused_gate = !l->family->plain_feed_forward && up != NULL &&
                      up->shape[1] == 2 * (uint64_t)l->hp->layers[layer].n_feed_forward;
    return form;
}

static dw_status make_decoder_layer(loader *l, uint32_t layer) {
    dw_status status = DW_OK;
    l->form = form_of(l, layer);
    for (size_t i = 0; status == DW_OK && i < N_LAYER_TENSORS; i++) {
        const tensor_row *row = &layer_tensors[i];
        need needed = row->needed(l);
        if (needed == NO) continue;
        char name[TENSOR_NAME_BYTES];
        snprintf(name, sizeof name, "blk.%u.%s", layer, row->name);
        struct ggml_tensor *tensor = NULL;
        status = make_tensor(l, name, row->columns, row->rows, row->depth, needed, &tensor);
        memcpy((char *)&l->weights->layers[layer] + row->field, &tensor, sizeof tensor);
        if (status == DW_OK || dw_gguf_find_tensor(l->gguf, name) != NULL) continue;
        /* Another could have stood for it. */
        if (row->needed == split_qkv)
            status = dw_fail(l->err, status, "tensor %s is missing, and so is attn_qkv.weight", name);
        if (row->needed == split_gate)
            status = dw_fail(l->err, status, "tensor %s is missing, and ffn_up.weight does not hold both", name);
    }
    return status;
}

/* A tensor that this decoder would leave out: what it computed would not be this model. */
static dw_status refuse_unused(loader *l) {
    uint64_t n = dw_gguf_n_tensors(l->gguf);
    if (l->table.n == n) return DW_OK;
    bool *used = calloc(n, sizeof *used);
    if (used == NULL) return dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    const dw_gguf_tensor *first = dw_gguf_tensor_at(l->gguf, 0);
    for (size_t i = 0; i < l->table.n; i++) used[l->table.sources[i] - first] = true;
    uint64_t unused = 0;
    while (unused < n && used[unused]) unused++;
    free(used);
    if (unused == n) return DW_OK;
    dw_gguf_string name = dw_gguf_tensor_at(l->gguf, unused)->name;
    return dw_fail(l->err, DW_E_UNSUPPORTED, "tensor %.*s has no place in a %s model here",
                   (int)dw_min_u64(name.size, TENSOR_NAME_BYTES), name.data, l->family->architecture);
}

static dw_status make_all(loader *l) {
    dw_status status = make_ends(l);
    for (uint32_t layer = 0; status == DW_OK && layer < l->hp->n_layers; layer++) status = make_decoder_layer(l, layer);
    return status == DW_OK ? refuse_unused(l) : status;
}

/* --- placing ------------------------------------------------------------------------------------------------- */

/* A tied output as a tensor of its own, over the embedding's bytes, where it will be repacked: rows are looked up in
 * the other. */
static void untie_output(loader *l) {
    dw_weights *w = l->weights;
    if (w->output != w->embedding || dw_device_repacks(l->device, w->embedding) == NULL) return;
    w->output = ggml_dup_tensor(w->context, w->embedding);
    ggml_set_name(w->output, "output.weight");
    l->table.tensors[l->table.n] = w->output;
    l->table.sources[l->table.n++] = l->table.sources[0];
}

/* What is multiplied with, and not looked up in. */
static bool is_product(const loader *l, const struct ggml_tensor *tensor) {
    return tensor->ne[1] > 1 && tensor != l->weights->embedding;
}

static dw_status repack_products(loader *l) {
    uint64_t begin_ns = dw_os_monotonic_ns();
    untie_output(l);
    dw_repack_weight *products = calloc(l->table.n, sizeof *products);
    if (products == NULL) return dw_fail(l->err, DW_E_NO_MEMORY, "no memory for weights");
    size_t n = 0;
    for (size_t i = 0; i < l->table.n; i++) {
        const void *data = dw_gguf_tensor_data(l->gguf, l->table.sources[i]);
        if (is_product(l, l->table.tensors[i]))
            products[n++] = (dw_repack_weight){.tensor = l->table.tensors[i], .data = data};
    }
    dw_status status = dw_repack(l->device, products, n, &l->weights->repacked, l->err);
    free(products);
    dw_log(DW_LOG_INFO, "weights", "repacked_bytes=%llu ms=%llu", (unsigned long long)l->weights->repacked.bytes,
           (unsigned long long)(dw_os_monotonic_ns() - begin_ns) / 1000000);
    return status;
}

dw_status dw_weights_open(const dw_gguf *gguf, const dw_family *family, const dw_hyperparameters *hp, dw_device *device,
                          bool repack, dw_weights *out, dw_error *err) {
    memset(out, 0, sizeof *out);
    loader l = {.gguf = gguf, .family = family, .hp = hp, .device = device, .weights = out, .err = err};
    dw_status status = dw_tensor_table_open(gguf, hp->n_layers, N_LAYER_TENSORS, N_MODEL_TENSORS, &l.table, err);
    if (status != DW_OK) return status;
    out->context = l.table.context;
    out->layers = calloc(hp->n_layers, sizeof out->layers[0]);
    if (out->layers == NULL) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for weights");
    if (status == DW_OK) status = make_all(&l);
    if (status == DW_OK && repack) status = repack_products(&l);
    if (status == DW_OK) status = dw_place_tensors(gguf, device, &l.table, &out->placed, err);
    if (status == DW_OK) out->embedding_host = dw_gguf_tensor_data(gguf, l.table.sources[0]);
    dw_tensor_table_close(&l.table);
    if (status != DW_OK) dw_weights_close(out);
    return status;
}

void dw_weights_close(dw_weights *weights) {
    dw_placed_release(&weights->placed);
    dw_repack_release(&weights->repacked);
    if (weights->context != NULL) ggml_free(weights->context);
    free(weights->layers);
    memset(weights, 0, sizeof *weights);
}

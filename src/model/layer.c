/* layer.c: the operations of a decoder, from the traits of its family.
 *
 * Attention: Vaswani et al. 2017; RMS norm: Zhang and Sennrich 2019; rope: Su et al. 2021; grouped queries: Ainslie et al. 2023; gated
 * units: Shazeer 2020; attention by tiles with a running maximum: Dao et al. 2022. Kind and order follow llama.cpp's graphs.
 */
#include <math.h>

#include "ggml.h"
#include "model/graph_internal.h"

typedef struct ggml_tensor tensor;

/* ggml_mul_mat(w, x): w [input, output], x [input, n] -> [output, n] */
static tensor *project(dw_graph *g, tensor *w, tensor *bias, tensor *x) {
    tensor *y = ggml_mul_mat(g->context, w, x);
    return bias != NULL ? ggml_add(g->context, y, bias) : y;
}

static tensor *norm(dw_graph *g, tensor *x, tensor *w) {
    return ggml_mul(g->context, ggml_rms_norm(g->context, x, g->model.hp->norm_epsilon), w);
}

static tensor *input_of(tensor *t, const char *name) {
    ggml_set_name(t, name);
    ggml_set_input(t);
    return t;
}

static tensor *rope(dw_graph *g, tensor *x, uint32_t layer) {
    const dw_hyperparameters *hp = g->model.hp;
    bool windowed = dw_layer_is_windowed(hp, layer);
    int mode = g->model.family->rope_neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    return ggml_rope_ext(g->context, x, g->inputs.positions, g->model.weights->rope_factors, (int)hp->n_rot, mode, (int)hp->context_original,
                         windowed ? hp->rope_base_window : hp->rope_base, windowed ? 1.0f : hp->rope_scale, 0.0f,
                         hp->rope_attention_factor, 32.0f, 1.0f);
}

/* --- attention ----------------------------------------------------------------------------------------------- */

/* Writes rows [row, n_tokens] into the area; returns nothing, because only the graph's order says that attention reads later. */
static void write_kv(dw_graph *g, uint32_t layer, int which, tensor *x) {
    const dw_hyperparameters *hp = g->model.hp;
    dw_graph_kv *kv = &g->layers[layer].kv[which];
    int64_t row = (int64_t)hp->n_heads_kv * hp->head_dim;
    kv->rows = ggml_new_tensor_2d(g->context, GGML_TYPE_F16, row, (int64_t)g->kv_rows);
    ggml_format_name(kv->rows, "kv.%c.%u", which == 0 ? 'k' : 'v', layer);
    tensor *flat = ggml_view_2d(g->context, x, row, g->shape.n_tokens, x->nb[2], 0);
    kv->written = ggml_set_rows(g->context, kv->rows, flat, g->inputs.row_index);
    ggml_build_forward_expand(g->graph, kv->written);
}

/* The slot's first n_kv rows as [head_dim, n_kv, n_heads_kv]. */
static tensor *read_kv(dw_graph *g, uint32_t layer, int which) {
    const dw_hyperparameters *hp = g->model.hp;
    dw_graph_kv *kv = &g->layers[layer].kv[which];
    size_t head_bytes = (size_t)hp->head_dim * sizeof(uint16_t);
    kv->seen = ggml_view_3d(g->context, kv->rows, hp->head_dim, g->shape.n_kv, hp->n_heads_kv, kv->rows->nb[1], head_bytes,
                            (size_t)(g->first_row * dw_graph_row_bytes(g)));
    return kv->seen;
}

/* Returns NULL after the last layer's rows are written when no row of output is wanted. */
static tensor *attention(dw_graph *g, uint32_t layer, tensor *x, bool only_rows) {
    const dw_hyperparameters *hp = g->model.hp;
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    int64_t n = g->shape.n_tokens;
    tensor *k = ggml_reshape_3d(g->context, project(g, w->k, w->k_bias, x), hp->head_dim, hp->n_heads_kv, n);
    tensor *v = ggml_reshape_3d(g->context, project(g, w->v, w->v_bias, x), hp->head_dim, hp->n_heads_kv, n);
    if (w->k_norm != NULL) k = norm(g, k, w->k_norm);
    k = rope(g, k, layer);
    if (only_rows) {
        write_kv(g, layer, 0, k);
        write_kv(g, layer, 1, v);
        return NULL;
    }
    tensor *q = ggml_reshape_3d(g->context, project(g, w->q, w->q_bias, x), hp->head_dim, hp->n_heads, n);
    if (w->q_norm != NULL) q = norm(g, q, w->q_norm);
    q = rope(g, q, layer);
    float scale = hp->attention_scale;
    if (g->model.family->scale_q) {
        q = ggml_scale(g->context, q, scale);
        scale = 1.0f;
    }
    ggml_build_forward_expand(g->graph, q);
    ggml_build_forward_expand(g->graph, v);
    ggml_build_forward_expand(g->graph, k);
    write_kv(g, layer, 0, k);
    write_kv(g, layer, 1, v);
    tensor *mask = dw_layer_is_windowed(hp, layer) ? g->inputs.mask_window : g->inputs.mask;
    tensor *y = ggml_flash_attn_ext(g->context, ggml_permute(g->context, q, 0, 2, 1, 3), read_kv(g, layer, 0), read_kv(g, layer, 1), mask,
                                    scale, 0.0f, 0.0f);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    y = ggml_reshape_2d(g->context, y, (int64_t)hp->head_dim * hp->n_heads, n);
    ggml_build_forward_expand(g->graph, y);
    return project(g, w->o, w->o_bias, y);
}

static tensor *feed_forward(dw_graph *g, uint32_t layer, tensor *x) {
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    tensor *up = project(g, w->up, w->up_bias, x);
    tensor *gate = project(g, w->gate, w->gate_bias, x);
    tensor *gated = g->model.family->activation == DW_ACTIVATION_GELU ? ggml_geglu_split(g->context, gate, up)
                                                                      : ggml_swiglu_split(g->context, gate, up);
    return project(g, w->down, w->down_bias, gated);
}

/* --- ends ---------------------------------------------------------------------------------------------------- */

static bool too_large(const dw_graph *g, const tensor *t) { return ggml_nbytes(t) > dw_device_info_view(g->model.device)->tensor_bytes_max; }

static void make_inputs(dw_graph *g) {
    struct ggml_context *c = g->context;
    dw_graph_inputs *in = &g->inputs;
    const dw_hyperparameters *hp = g->model.hp;
    int64_t n = g->shape.n_tokens;
    if (too_large(g, g->model.weights->embedding)) {
        in->embedding = input_of(ggml_new_tensor_2d(c, GGML_TYPE_F32, hp->n_embedding, n), "embedding");
    } else {
        in->tokens = input_of(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "tokens");
    }
    in->positions = input_of(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "positions");
    in->row_index = input_of(ggml_new_tensor_1d(c, GGML_TYPE_I64, n), "row_index");
    in->mask = input_of(ggml_new_tensor_2d(c, GGML_TYPE_F16, g->shape.n_kv, n), "mask");
    if (hp->window != 0) in->mask_window = input_of(ggml_new_tensor_2d(c, GGML_TYPE_F16, g->shape.n_kv, n), "mask_window");
    if (g->shape.n_wanted != 0 && g->shape.n_wanted < g->shape.n_tokens) {
        in->wanted = input_of(ggml_new_tensor_1d(c, GGML_TYPE_I32, g->shape.n_wanted), "wanted");
    }
}

/* logits = output x norm(hidden). An output matrix that the device cannot take whole is used in parts. */
static tensor *head(dw_graph *g, tensor *hidden) {
    tensor *w = g->model.weights->output;
    tensor *x = norm(g, hidden, g->model.weights->output_norm);
    tensor *y = NULL;
    if (!too_large(g, w)) {
        y = ggml_mul_mat(g->context, w, x);
    } else {
        /* Whole multiples of 256 rows: each part begins at an offset that every device can bind. */
        int64_t part = (int64_t)(dw_device_info_view(g->model.device)->tensor_bytes_max / w->nb[1]) / 256 * 256;
        if (part == 0) part = 256; /* then supports() refuses it by name */
        for (int64_t row = 0; row < w->ne[1]; row += part) {
            int64_t rows = w->ne[1] - row < part ? w->ne[1] - row : part;
            tensor *piece = ggml_mul_mat(g->context, ggml_view_2d(g->context, w, w->ne[0], rows, w->nb[1], (size_t)row * w->nb[1]), x);
            y = y == NULL ? piece : ggml_concat(g->context, y, piece, 0);
        }
    }
    float cap = g->model.hp->final_softcap;
    if (cap != 0) y = ggml_scale(g->context, ggml_tanh(g->context, ggml_scale(g->context, y, 1.0f / cap)), cap);
    return y;
}

static void set_output(dw_graph *g, tensor *y, bool placed) {
    ggml_set_output(y);
    ggml_build_forward_expand(g->graph, y);
    g->output = y;
    g->output_is_placed = placed && dw_device_info_view(g->model.device)->addresses_are_host;
}

void dw_graph_build(dw_graph *g) {
    struct ggml_context *c = g->context;
    const dw_hyperparameters *hp = g->model.hp;
    const dw_weights *w = g->model.weights;
    make_inputs(g);
    tensor *x = g->inputs.embedding != NULL ? g->inputs.embedding : ggml_get_rows(c, w->embedding, g->inputs.tokens);
    if (g->model.family->embedding_scale) x = ggml_scale(c, x, sqrtf((float)hp->n_embedding));
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        const dw_layer_weights *lw = &w->layers[layer];
        bool last = layer + 1 == hp->n_layers;
        tensor *y = attention(g, layer, norm(g, x, lw->attention_norm), last && g->shape.n_wanted == 0);
        if (y == NULL) return;
        if (last && g->inputs.wanted != NULL) { /* from here on only the rows that somebody wants */
            y = ggml_get_rows(c, y, g->inputs.wanted);
            x = ggml_get_rows(c, x, g->inputs.wanted);
        }
        if (lw->attention_post_norm != NULL) y = norm(g, y, lw->attention_post_norm);
        tensor *middle = ggml_add(c, y, x);
        y = feed_forward(g, layer, norm(g, middle, lw->feed_norm));
        if (lw->feed_post_norm != NULL) y = norm(g, y, lw->feed_post_norm);
        x = ggml_add(c, y, middle);
    }
    if (g->shape.n_wanted == 1) set_output(g, head(g, x), true);
    else set_output(g, x, false);
}

void dw_graph_build_head(dw_graph *g) {
    g->inputs.hidden = input_of(ggml_new_tensor_2d(g->context, GGML_TYPE_F32, g->model.hp->n_embedding, g->shape.n_wanted), "hidden");
    set_output(g, head(g, g->inputs.hidden), true);
}

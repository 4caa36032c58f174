/* layer.c: the operations of a decoder, from the traits of its family.
 *
 * Attention: Vaswani et al. 2017; RMS norm: Zhang and Sennrich 2019; rope: Su et al. 2021; gated units: Shazeer 2020. Kind and order follow
 * llama.cpp's graphs. The KV side of attention is in attention.c, products with weights in linear.c.
 */
#include <math.h>

#include "ggml.h"
#include "model/graph_internal.h"

typedef struct ggml_tensor tensor;

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

/* Returns NULL after the last layer's rows are written when no row of output is wanted. */
static tensor *attention(dw_graph *g, uint32_t layer, tensor *x, bool only_rows) {
    const dw_hyperparameters *hp = g->model.hp;
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    int64_t n = g->shape.n_tokens;
    tensor *k = ggml_reshape_3d(g->context, dw_linear(g, w->k, w->k_bias, x), hp->head_dim, hp->n_heads_kv, n);
    tensor *v = ggml_reshape_3d(g->context, dw_linear(g, w->v, w->v_bias, x), hp->head_dim, hp->n_heads_kv, n);
    if (w->k_norm != NULL) k = norm(g, k, w->k_norm);
    k = rope(g, k, layer);
    if (only_rows) {
        dw_graph_keep_rows(g, layer, k, v);
        return NULL;
    }
    tensor *q = ggml_reshape_3d(g->context, dw_linear(g, w->q, w->q_bias, x), hp->head_dim, hp->n_heads, n);
    if (w->q_norm != NULL) q = norm(g, q, w->q_norm);
    q = rope(g, q, layer);
    float scale = hp->attention_scale;
    if (g->model.family->scale_q) {
        q = ggml_scale(g->context, q, scale);
        scale = 1.0f;
    }
    tensor *y = dw_graph_attend(g, layer, q, k, v, scale, 0.0f);
    return dw_linear(g, w->o, w->o_bias, y);
}

static tensor *feed_forward(dw_graph *g, uint32_t layer, tensor *x) {
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    tensor *up = dw_linear(g, w->up, w->up_bias, x);
    tensor *gate = dw_linear(g, w->gate, w->gate_bias, x);
    tensor *gated = g->model.family->activation == DW_ACTIVATION_GELU ? ggml_geglu_split(g->context, gate, up)
                                                                      : ggml_swiglu_split(g->context, gate, up);
    return dw_linear(g, w->down, w->down_bias, gated);
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
        y = dw_linear(g, w, NULL, x);
    } else {
        /* Whole multiples of 256 rows: each part begins at an offset that every device can bind. */
        int64_t part = (int64_t)(dw_device_info_view(g->model.device)->tensor_bytes_max / w->nb[1]) / 256 * 256;
        if (part == 0) part = 256; /* then supports() refuses it by name */
        for (int64_t row = 0; row < w->ne[1]; row += part) {
            int64_t rows = w->ne[1] - row < part ? w->ne[1] - row : part;
            tensor *piece = dw_linear(g, ggml_view_2d(g->context, w, w->ne[0], rows, w->nb[1], (size_t)row * w->nb[1]), NULL, x);
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
    if (g->shape.normed) set_output(g, norm(g, x, w->output_norm), false);
    else if (g->shape.n_wanted == 1) set_output(g, head(g, x), true);
    else set_output(g, x, false);
}

void dw_graph_build_head(dw_graph *g) {
    g->inputs.hidden = input_of(ggml_new_tensor_2d(g->context, GGML_TYPE_F32, g->model.hp->n_embedding, g->shape.n_wanted), "hidden");
    set_output(g, head(g, g->inputs.hidden), true);
}

/* layer.c: the operations of a decoder, from the traits of its family.
 *
 * Attention: Vaswani et al. 2017; RMS norm: Zhang and Sennrich 2019; rope: Su et al. 2021; gated units: Shazeer 2020.
 * Kind and order follow llama.cpp's graphs. The KV side of attention is in attention.c, products with weights in
 * linear.c, feed-forward by experts in experts.c.
 *
 * Columns are tokens, possibly of several sessions: nothing here mixes them or depends on their number.
 */
#include <math.h>

#include "ggml.h"
#include "model/graph/graph_internal.h"

typedef struct ggml_tensor tensor;

/* bias: NULL but for DW_NORM_LAYER. */
static tensor *norm(dw_graph *g, tensor *x, tensor *w, tensor *bias) {
    float epsilon = g->model.hp->norm_epsilon;
    tensor *y = g->model.family->norm == DW_NORM_LAYER ? ggml_norm(g->context, x, epsilon) : ggml_rms_norm(g->context,
        x, epsilon);
    y = ggml_mul(g->context, y, w);
    return bias != NULL ? ggml_add(g->context, y, bias) : y;
}

/* --- attention ----------------------------------------------------------------------------------------------- */

static tensor *rope(dw_graph *g, tensor *x, uint32_t layer) {
    const dw_hyperparameters *hp = g->model.hp;
    if (!hp->layers[layer].rope) return x;
    const dw_rope *r = dw_layer_is_windowed(hp, layer) ? &hp->rope_window : &hp->rope;
    int mode = g->model.family->rope_neox ? GGML_ROPE_TYPE_NEOX : GGML_ROPE_TYPE_NORMAL;
    return ggml_rope_ext(g->context, x, g->inputs.positions, g->model.weights->rope_factors, (int)hp->n_rot, mode,
                         (int)hp->context_original,
                         r->base, r->scale, r->extrapolation, r->magnitude, 32.0f, 1.0f);
}

/* One of Q, K and V as [head_dim, n_heads, n]: a product of its own, or rows from first_head on of the one for all
 * three. */
static tensor *heads(dw_graph *g, tensor *qkv, uint32_t first_head, uint32_t n_heads, tensor *w, tensor *bias,
                     tensor *x) {
    int64_t head_dim = g->model.hp->head_dim, n = x->ne[1];
    if (qkv == NULL) return ggml_reshape_3d(g->context, dw_linear(g, w, bias, x), head_dim, n_heads, n);
    size_t head_bytes = (size_t)head_dim * sizeof(float);
    tensor *y = ggml_view_3d(g->context, qkv, head_dim, n_heads, n, head_bytes, qkv->nb[1], first_head * head_bytes);
    return bias != NULL ? ggml_add(g->context, y, ggml_reshape_2d(g->context, bias, head_dim, n_heads)) : y;
}

static tensor *norm_heads(dw_graph *g, tensor *x, tensor *w) {
    if (w == NULL) return x;
    if (g->model.family->qk_norm == DW_QK_NORM_HEAD) return norm(g, x, w, NULL);
    int64_t head_dim = x->ne[0], n_heads = x->ne[1], n = x->ne[2];
    if (!ggml_is_contiguous(x)) x = ggml_cont(g->context, x);
    x = norm(g, ggml_reshape_2d(g->context, x, head_dim * n_heads, n), w, NULL);
    return ggml_reshape_3d(g->context, x, head_dim, n_heads, n);
}

/* Returns NULL when no row of output is wanted: the last layer only writes its KV rows then. */
static tensor *attention(dw_graph *g, uint32_t layer, tensor *x, bool only_rows) {
    const dw_hyperparameters *hp = g->model.hp;
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    uint32_t n_heads = hp->layers[layer].n_heads;
    tensor *qkv = w->qkv != NULL ? dw_linear(g, w->qkv, w->qkv_bias, x) : NULL;
    tensor *k = heads(g, qkv, n_heads, hp->n_heads_kv, w->k, w->k_bias, x);
    tensor *v = heads(g, qkv, n_heads + hp->n_heads_kv, hp->n_heads_kv, w->v, w->v_bias, x);
    k = rope(g, norm_heads(g, k, w->k_norm), layer);
    if (only_rows) {
        dw_graph_keep_rows(g, layer, k, v);
        return NULL;
    }
    tensor *q = heads(g, qkv, 0, n_heads, w->q, w->q_bias, x);
    q = rope(g, norm_heads(g, q, w->q_norm), layer);
    float scale = hp->attention_scale;
    if (g->model.family->scale_q) {
        q = ggml_scale(g->context, q, scale);
        scale = 1.0f;
    }
    tensor *y = dw_graph_attend(g, layer, q, k, v, scale, hp->attention_softcap);
    return dw_linear(g, w->o, w->o_bias, y);
}

/* --- feed-forward -------------------------------------------------------------------------------------------- */

/* gate NULL: up holds the gate's rows, then its own. */
static tensor *gated(dw_graph *g, tensor *gate, tensor *up) {
    bool gelu = g->model.family->activation == DW_ACTIVATION_GELU;
    if (gate == NULL) return gelu ? ggml_geglu(g->context, up) : ggml_swiglu(g->context, up);
    return gelu ? ggml_geglu_split(g->context, gate, up) : ggml_swiglu_split(g->context, gate, up);
}

static tensor *feed_forward(dw_graph *g, uint32_t layer, tensor *x) {
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    if (w->router != NULL) return dw_graph_experts(g, layer, x);
    tensor *y = dw_linear(g, w->up, w->up_bias, x);
    if (!g->model.family->plain_feed_forward) y = gated(g, w->gate != NULL ? dw_linear(g, w->gate, w->gate_bias,
        x) : NULL, y);
    else y = g->model.family->activation == DW_ACTIVATION_GELU ? ggml_gelu(g->context, y) : ggml_silu(g->context, y);
    return dw_linear(g, w->down, w->down_bias, y);
}

/* --- ends ---------------------------------------------------------------------------------------------------- */

/* The product with the output matrix. One that the device cannot take whole is used in parts. */
static tensor *output_of(dw_graph *g, tensor *x) {
    tensor *w = g->model.weights->output, *bias = g->model.weights->output_bias, *y = NULL;
    if (!dw_graph_too_large(g, w)) return dw_linear(g, w, bias, x);
    /* Whole multiples of 256 rows: each part begins at an offset that every device can bind. */
    int64_t part = (int64_t)(dw_device_info_view(g->model.device)->tensor_bytes_max / w->nb[1]) / 256 * 256;
    if (part == 0) part = 256; /* then supports() refuses it by name */
    for (int64_t row = 0; row < w->ne[1]; row += part) {
        int64_t rows = w->ne[1] - row < part ? w->ne[1] - row : part;
        tensor *piece_bias = bias != NULL ? ggml_view_1d(g->context, bias, rows, (size_t)row * sizeof(float)) : NULL;
        tensor *piece = dw_linear(g, ggml_view_2d(g->context, w, w->ne[0], rows, w->nb[1], (size_t)row * w->nb[1]),
                                  piece_bias, x);
        y = y == NULL ? piece : ggml_concat(g->context, y, piece, 0);
    }
    return y;
}

/* logits = output x norm(hidden). */
static tensor *head(dw_graph *g, tensor *hidden) {
    const dw_hyperparameters *hp = g->model.hp;
    tensor *y = output_of(g, norm(g, hidden, g->model.weights->output_norm, g->model.weights->output_norm_bias));
    float cap = hp->final_softcap;
    if (hp->logit_divisor != 0) y = ggml_scale(g->context, y, 1.0f / hp->logit_divisor);
    if (cap != 0) y = ggml_scale(g->context, ggml_tanh(g->context, ggml_scale(g->context, y, 1.0f / cap)), cap);
    return y;
}

static void set_output(dw_graph *g, tensor *y, bool placed) {
    ggml_set_output(y);
    ggml_build_forward_expand(g->graph, y);
    g->output = y;
    g->output_is_placed = placed && dw_device_info_view(g->model.device)->addresses_are_host;
}

/* What a layer adds to its input. */
static tensor *added(dw_graph *g, tensor *y, tensor *post_norm, tensor *to) {
    if (post_norm != NULL) y = norm(g, y, post_norm, NULL);
    if (g->model.hp->residual_scale != 0) y = ggml_scale(g->context, y, g->model.hp->residual_scale);
    return ggml_add(g->context, y, to);
}

void dw_graph_build(dw_graph *g) {
    struct ggml_context *c = g->context;
    const dw_hyperparameters *hp = g->model.hp;
    const dw_weights *w = g->model.weights;
    g->narrow_now = g->shape.narrow && g->shape.n_parts == g->shape.n_tokens;
    dw_graph_make_inputs(g);
    tensor *x = g->inputs.embedding != NULL ? g->inputs.embedding : ggml_get_rows(c, w->embedding, g->inputs.tokens);
    if (hp->embedding_scale != 0) x = ggml_scale(c, x, hp->embedding_scale);
    uint32_t n_layers = g->shape.n_chosen > 0 ? g->shape.n_chosen : g->shape.n_layers;
    for (uint32_t i = 0; i < n_layers; i++) {
        uint32_t layer = g->shape.n_chosen > 0 ? g->shape.chosen[i] : i;
        const dw_layer_weights *lw = &w->layers[layer];
        bool last = i + 1 == n_layers;
        tensor *y = lw->attention_norm != NULL ? norm(g, x, lw->attention_norm, lw->attention_norm_bias) : x;
        y = attention(g, layer, y, last && g->shape.n_wanted == 0);
        if (y == NULL) return;
        if (last && g->inputs.wanted != NULL) { /* from here on only the rows that somebody wants */
            y = ggml_get_rows(c, y, g->inputs.wanted);
            x = ggml_get_rows(c, x, g->inputs.wanted);
            g->narrow_now = g->shape.narrow;
        }
        x = added(g, y, lw->attention_post_norm, x);
        y = lw->feed_norm != NULL ? norm(g, x, lw->feed_norm, lw->feed_norm_bias) : x;
        x = added(g, feed_forward(g, layer, y), lw->feed_post_norm, x);
    }
    if (g->shape.result == DW_RESULT_NORMED) set_output(g, norm(g, x, w->output_norm, w->output_norm_bias), false);
    else if (g->shape.n_wanted == 1 && g->shape.result == DW_RESULT_USUAL) set_output(g, head(g, x), true);
    else set_output(g, x, false);
}

void dw_graph_build_head(dw_graph *g) {
    g->narrow_now = g->shape.narrow;
    dw_graph_make_head_input(g);
    set_output(g, head(g, g->inputs.hidden), true);
}

/* experts.c: feed-forward by experts. A router chooses some experts for each token. Their results are weighed and
 * added.
 *
 * Shazeer et al. 2017; Jiang et al. 2024 (Mixtral). The weights of the chosen experts are scaled to a sum of 1. Kind
 * and order of operations follow llama.cpp's graphs. The weights are expanded before the products, so that devices can
 * fuse the choice.
 */
#include <math.h>

#include "ggml.h"
#include "model/graph/graph_internal.h"

typedef struct ggml_tensor tensor;

/* experts I32 [n_used, n] and their weights [1, n_used, n] */
static tensor *choose(dw_graph *g, const dw_layer_weights *w, tensor *x, tensor **experts) {
    struct ggml_context *c = g->context;
    int64_t n_experts = g->model.hp->n_experts, n_used = g->model.hp->n_experts_used, n = x->ne[1];
    tensor *probabilities = ggml_soft_max(c, dw_linear(g, w->router, NULL, x));
    *experts = ggml_argsort_top_k(c, probabilities, (int)n_used);
    tensor *weights = ggml_get_rows(c, ggml_reshape_3d(c, probabilities, 1, n_experts, n), *experts);
    weights = ggml_reshape_2d(c, weights, n_used, n);
    tensor *sum = ggml_clamp(c, ggml_sum_rows(c, weights), 6.103515625e-5f, INFINITY); /* the smallest normal F16 */
    weights = ggml_reshape_3d(c, ggml_div(c, weights, sum), 1, n_used, n);
    ggml_build_forward_expand(g->graph, weights);
    return weights;
}

/* y [n_embedding, n_used, n] -> [n_embedding, n], in the order of the choice */
static tensor *sum_of(dw_graph *g, tensor *y) {
    struct ggml_context *c = g->context;
    int64_t n_used = y->ne[1];
    tensor *sum = NULL;
    ggml_build_forward_expand(g->graph, y);
    for (int64_t i = 0; i < n_used; i++) {
        tensor *one = ggml_view_2d(c, y, y->ne[0], y->ne[2], y->nb[2], (size_t)i * y->nb[1]);
        sum = sum == NULL ? one : ggml_add(c, sum, one);
        ggml_build_forward_expand(g->graph, sum);
    }
    return n_used == 1 ? ggml_cont(c, sum) : sum;
}

tensor *dw_graph_experts(dw_graph *g, uint32_t layer, tensor *x) {
    struct ggml_context *c = g->context;
    const dw_layer_weights *w = &g->model.weights->layers[layer];
    tensor *experts = NULL;
    tensor *weights = choose(g, w, x, &experts);
    x = ggml_reshape_3d(c, x, x->ne[0], 1, x->ne[1]);
    tensor *up = dw_linear_experts(g, w->up_experts, x, experts);
    tensor *gate = dw_linear_experts(g, w->gate_experts, x, experts);
    bool gelu = g->model.family->activation == DW_ACTIVATION_GELU;
    tensor *y = gelu ? ggml_geglu_split(c, gate, up) : ggml_swiglu_split(c, gate, up);
    return sum_of(g, ggml_mul(c, dw_linear_experts(g, w->down_experts, y, experts), weights));
}

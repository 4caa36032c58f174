/* linear.c: products with weights. One place, because which kernel a device takes depends on how many columns come at once (bits.h). */
#include "ggml.h"
#include "model/graph_internal.h"

typedef struct ggml_tensor tensor;

/* Every column as a matrix of its own: the kernel of one column, and weights are still read once. */
static tensor *narrow_product(dw_graph *g, tensor *w, tensor *x) {
    tensor *columns = ggml_view_3d(g->context, x, x->ne[0], 1, x->ne[1], x->nb[1], x->nb[1], 0);
    tensor *y = ggml_mul_mat(g->context, w, columns);
    return ggml_reshape_2d(g->context, y, y->ne[0], x->ne[1]);
}

tensor *dw_linear(dw_graph *g, tensor *w, tensor *bias, tensor *x) {
    bool narrow = g->shape.narrow && x->ne[1] > 1 && !g->model.bits->wide[w->type];
    tensor *y = narrow ? narrow_product(g, w, x) : ggml_mul_mat(g->context, w, x);
    return bias != NULL ? ggml_add(g->context, y, bias) : y;
}

/* A product with experts sorts its columns by expert, so their number decides there too. */
tensor *dw_linear_experts(dw_graph *g, tensor *w, tensor *x, tensor *experts) {
    int64_t n = experts->ne[1], at_once = g->model.bits->experts_columns;
    if (!g->shape.narrow || at_once >= n) return ggml_mul_mat_id(g->context, w, x, experts);
    tensor *y = NULL;
    for (int64_t first = 0; first < n; first += at_once) {
        int64_t some = n - first < at_once ? n - first : at_once;
        tensor *x_part = ggml_view_3d(g->context, x, x->ne[0], x->ne[1], some, x->nb[1], x->nb[2], (size_t)first * x->nb[2]);
        tensor *e_part = ggml_view_2d(g->context, experts, experts->ne[0], some, experts->nb[1], (size_t)first * experts->nb[1]);
        tensor *piece = ggml_mul_mat_id(g->context, w, x_part, e_part);
        y = y == NULL ? piece : ggml_concat(g->context, y, piece, 2);
    }
    return y;
}

size_t dw_linear_nodes(const dw_graph *g) {
    if (!g->shape.narrow) return 0;
    size_t pieces = g->shape.n_tokens / (g->model.bits->experts_columns > 0 ? g->model.bits->experts_columns : 1) + 1;
    return (size_t)g->shape.n_layers * (16 + 3 * 4 * pieces);
}

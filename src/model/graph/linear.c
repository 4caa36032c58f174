/* linear.c: products with weights. One place, because which kernel a device takes depends on how many columns come at
 * once (bits.h). */
#include "ggml-backend.h"
#include "ggml.h"
#include "model/graph/graph_internal.h"

typedef struct ggml_tensor tensor;

/* Makes every column a matrix of its own. The device takes the kernel of one column then, and still reads the weights
 * once. */
static tensor *narrow_product(dw_graph *g, tensor *w, tensor *x) {
    tensor *columns = ggml_view_3d(g->context, x, x->ne[0], 1, x->ne[1], x->nb[1], x->nb[1], 0);
    tensor *y = ggml_mul_mat(g->context, w, columns);
    return ggml_reshape_2d(g->context, y, y->ne[0], x->ne[1]);
}

/* A product with a repacked matrix takes no third dimension, so its columns are multiplied one by one. */
static bool is_repacked(const dw_graph *g, const tensor *w) {
    return dw_graph_on_host(g) && w->buffer != NULL && !ggml_backend_buffer_is_host(w->buffer);
}

static tensor *single_products(dw_graph *g, tensor *w, tensor *x) {
    tensor *y = NULL;
    for (int64_t i = 0; i < x->ne[1]; i++) {
        tensor *column = ggml_mul_mat(g->context, w,
                                      ggml_view_2d(g->context, x, x->ne[0], 1, x->nb[1], (size_t)i * x->nb[1]));
        y = y == NULL ? column : ggml_concat(g->context, y, column, 1);
    }
    return y;
}

tensor *dw_linear(dw_graph *g, tensor *w, tensor *bias, tensor *x) {
    bool narrow = g->narrow_now && x->ne[1] > 1 && !g->model.bits->wide[w->type];
    tensor *y = !narrow             ? ggml_mul_mat(g->context, w, x)
                : is_repacked(g, w) ? single_products(g, w, x)
                                    : narrow_product(g, w, x);
    return bias != NULL ? ggml_add(g->context, y, bias) : y;
}

/* A product with experts sorts its columns by expert. So their number decides about its kernel too. */
tensor *dw_linear_experts(dw_graph *g, tensor *w, tensor *x, tensor *experts) {
    int64_t n = experts->ne[1], at_once = g->model.bits->experts_columns;
    if (!g->narrow_now || at_once >= n) return ggml_mul_mat_id(g->context, w, x, experts);
    tensor *y = NULL;
    for (int64_t first = 0; first < n; first += at_once) {
        int64_t some = n - first < at_once ? n - first : at_once;
        tensor *x_part = ggml_view_3d(g->context, x, x->ne[0], x->ne[1], some, x->nb[1], x->nb[2],
                                      (size_t)first * x->nb[2]);
        tensor *e_part = ggml_view_2d(g->context, experts, experts->ne[0], some, experts->nb[1],
                                      (size_t)first * experts->nb[1]);
        tensor *piece = ggml_mul_mat_id(g->context, w, x_part, e_part);
        y = y == NULL ? piece : ggml_concat(g->context, y, piece, 2);
    }
    return y;
}

size_t dw_linear_nodes(const dw_graph *g) {
    enum { PRODUCTS = 9 }; /* of a layer, at most; those with experts are three */
    if (!g->shape.narrow) return 0;
    size_t n = g->shape.n_parts == g->shape.n_tokens && g->shape.n_tokens > 0 ? g->shape.n_tokens : g->shape.n_wanted;
    size_t at_once = g->model.bits->experts_columns > 0 ? g->model.bits->experts_columns : 1;
    size_t single = g->model.weights->repacked.bytes > 0 ? 3 * n : 0;
    return (g->shape.n_layers + (size_t)1) * PRODUCTS * (2 + single + 4 * (n / at_once + 1));
}

/* linear.c: products with weights. One place, because which kernel a device takes depends on how many columns come at once. */
#include "ggml.h"
#include "model/graph_internal.h"

struct ggml_tensor *dw_linear(dw_graph *g, struct ggml_tensor *w, struct ggml_tensor *bias, struct ggml_tensor *x) {
    struct ggml_tensor *y = ggml_mul_mat(g->context, w, x);
    return bias != NULL ? ggml_add(g->context, y, bias) : y;
}

struct ggml_tensor *dw_linear_experts(dw_graph *g, struct ggml_tensor *w, struct ggml_tensor *x, struct ggml_tensor *experts) {
    return ggml_mul_mat_id(g->context, w, x, experts);
}

/* attention.c: where a layer meets the KV rows: writing the new ones, attending to those there are.
 *
 * Attention by tiles with a running maximum: Dao et al. 2022; grouped queries: Ainslie et al. 2023.
 */
#include "ggml.h"
#include "model/graph_internal.h"

typedef struct ggml_tensor tensor;

/* Writes rows [row, n_tokens] into the area; returns nothing, because only the graph's order says that attention reads later. */
static void write_kv(dw_graph *g, uint32_t layer, int which, tensor *x) {
    const dw_hyperparameters *hp = g->model.hp;
    dw_graph_kv *kv = &g->layers[layer].kv[which];
    int64_t row = (int64_t)hp->n_heads_kv * hp->head_dim;
    kv->rows = ggml_new_tensor_2d(g->context, (enum ggml_type)dw_kv_type_ggml(g->model.kv_type), row, (int64_t)g->kv_rows);
    ggml_format_name(kv->rows, "kv.%c.%u", which == 0 ? 'k' : 'v', layer);
    tensor *flat = ggml_view_2d(g->context, x, row, g->shape.n_tokens, x->nb[2], 0);
    kv->written = ggml_set_rows(g->context, kv->rows, flat, g->inputs.row_index);
    ggml_build_forward_expand(g->graph, kv->written);
}

/* The slot's first n_kv rows as [head_dim, n_kv, n_heads_kv]. */
static tensor *read_kv(dw_graph *g, uint32_t layer, int which) {
    const dw_hyperparameters *hp = g->model.hp;
    dw_graph_kv *kv = &g->layers[layer].kv[which];
    size_t head_bytes = (size_t)dw_kv_row_bytes(g->model.kv_type, 1, hp->head_dim);
    kv->seen = ggml_view_3d(g->context, kv->rows, hp->head_dim, g->shape.n_kv, hp->n_heads_kv, kv->rows->nb[1], head_bytes,
                            (size_t)(g->first_row * dw_graph_row_bytes(g)));
    return kv->seen;
}

void dw_graph_keep_rows(dw_graph *g, uint32_t layer, tensor *k, tensor *v) {
    write_kv(g, layer, 0, k);
    write_kv(g, layer, 1, v);
}

tensor *dw_graph_attend(dw_graph *g, uint32_t layer, tensor *q, tensor *k, tensor *v, float scale, float softcap) {
    const dw_hyperparameters *hp = g->model.hp;
    ggml_build_forward_expand(g->graph, q);
    ggml_build_forward_expand(g->graph, v);
    ggml_build_forward_expand(g->graph, k);
    dw_graph_keep_rows(g, layer, k, v);
    tensor *mask = dw_layer_is_windowed(hp, layer) ? g->inputs.mask_window : g->inputs.mask;
    tensor *y = ggml_flash_attn_ext(g->context, ggml_permute(g->context, q, 0, 2, 1, 3), read_kv(g, layer, 0), read_kv(g, layer, 1), mask,
                                    scale, 0.0f, softcap);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    y = ggml_reshape_2d(g->context, y, (int64_t)hp->head_dim * hp->n_heads, g->shape.n_tokens);
    ggml_build_forward_expand(g->graph, y);
    return y;
}

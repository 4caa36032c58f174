/* attention.c: where a layer meets the KV rows: writing the new ones, attending to those there are.
 *
 * Attention by tiles with a running maximum: Dao et al. 2022; grouped queries: Ainslie et al. 2023.
 */
#include "ggml.h"
#include "model/graph/graph_internal.h"

typedef struct ggml_tensor tensor;

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* Writes n columns of x [head_dim, heads, tokens] from `first` on as rows of a store. Only the graph's order says that
 * attention reads later. */
static void write_rows(dw_graph *g, dw_graph_store *store, const char *name, uint32_t layer, tensor *x, uint32_t first,
                       uint32_t n) {
    const dw_hyperparameters *hp = g->model.hp;
    int64_t row = (int64_t)hp->n_heads_kv * hp->head_dim;
    store->rows = ggml_new_tensor_2d(g->context, (enum ggml_type)dw_kv_type_ggml(g->model.kv_type), row,
                                     (int64_t)g->kv_rows);
    store->rows->nb[1] = (size_t)g->model.kv_row_step;
    store->rows->nb[2] = store->rows->nb[3] = store->rows->nb[1] * g->kv_rows;
    ggml_format_name(store->rows, "kv.%s.%u", name, layer);
    tensor *columns = ggml_view_2d(g->context, x, row, n, x->nb[2], first * x->nb[2]);
    tensor *index = g->inputs.row_index;
    if (n != g->shape.n_tokens) index = ggml_view_1d(g->context, index, n, first * index->nb[0]);
    store->written = ggml_set_rows(g->context, store->rows, columns, index);
    ggml_build_forward_expand(g->graph, store->written);
}

static void write_kv(dw_graph *g, uint32_t layer, int which, tensor *x) {
    const char *name = which == 0 ? "k" : "v";
    if (dw_graph_one_store(g)) {
        write_rows(g, dw_graph_store_of(g, layer, which, 0), name, layer, x, 0, g->shape.n_tokens);
        return;
    }
    for (uint32_t r = 0; r < g->shape.n_runs; r++) { /* else each run is one part with a store of its own */
        write_rows(g, dw_graph_store_of(g, layer, which, g->places[r].first_part), name, layer, x,
                   g->places[r].first_column, g->shape.runs[r].n_columns);
    }
}

/* A view with one sequence more, which lies where the first one lies. ggml's own function would count its bytes twice
 * and refuse. */
static tensor *again(tensor *view) {
    view->ne[3] = 2;
    view->nb[3] = 0;
    return view;
}

/* The first n_kv rows of a run's slots as [head_dim, n_kv, n_heads_kv, n_sequences]. */
static tensor *read_kv(dw_graph *g, uint32_t layer, int which, uint32_t r) {
    const dw_hyperparameters *hp = g->model.hp;
    const dw_graph_run_shape *run = &g->shape.runs[r];
    const dw_graph_run_place *place = &g->places[r];
    tensor *rows = dw_graph_store_of(g, layer, which, dw_graph_one_store(g) ? 0 : place->first_part)->rows;
    size_t head_bytes = (size_t)dw_kv_row_bytes(g->model.kv_type, 1, hp->head_dim);
    tensor *seen = ggml_view_4d(g->context, rows, hp->head_dim, run->n_kv, hp->n_heads_kv, run->n_parts, rows->nb[1],
                                head_bytes, (size_t)place->step_rows * rows->nb[1],
                                (size_t)place->first_row * rows->nb[1]);
    if (run->n_sequences > run->n_parts) seen = again(seen);
    *dw_graph_seen_of(g, layer, which, r) = seen;
    return seen;
}

void dw_graph_keep_rows(dw_graph *g, uint32_t layer, tensor *k, tensor *v) {
    write_kv(g, layer, 0, k);
    write_kv(g, layer, 1, v);
}

/* --- attention ----------------------------------------------------------------------------------------------- */

/* A run's columns of q [head_dim, n_heads, tokens] as [head_dim, queries, n_heads, n_sequences]. */
static tensor *queries_of(dw_graph *g, tensor *q, uint32_t r) {
    const dw_graph_run_shape *run = &g->shape.runs[r];
    size_t at = g->places[r].first_column * q->nb[2];
    int64_t queries = run->n_columns / run->n_parts;
    tensor *view = ggml_view_4d(g->context, q, q->ne[0], queries, q->ne[1], run->n_parts, q->nb[2], q->nb[1],
                                (size_t)queries * q->nb[2], at);
    /* A second sequence stands beside a lone part. It asks the same and sees nothing. */
    return run->n_sequences > run->n_parts ? again(view) : view;
}

static tensor *attend_run(dw_graph *g, uint32_t layer, uint32_t r, tensor *q, float scale, float softcap) {
    tensor *mask = dw_layer_is_windowed(g->model.hp, layer) ? g->inputs.mask_window[r] : g->inputs.mask[r];
    tensor *y = ggml_flash_attn_ext(g->context, queries_of(g, q, r), read_kv(g, layer, 0, r), read_kv(g, layer, 1, r),
                                    mask, scale, 0.0f, softcap);
    ggml_prec_set_acc(y, GGML_PREC_F32);
    return y;
}

/* Several runs leave their columns side by side in one tensor. Each result is made a view of it, so no copy joins them.
 * All layers use the same tensor: nodes run in their order, so a layer has read it before the next one writes. */
static void place_columns(dw_graph *g, tensor *y, uint32_t first_column) {
    y->view_src = g->attended;
    y->view_offs = first_column * g->attended->nb[1];
}

tensor *dw_graph_attend(dw_graph *g, uint32_t layer, tensor *q, tensor *k, tensor *v, float scale, float softcap) {
    const dw_graph_shape *shape = &g->shape;
    int64_t width = q->ne[0] * q->ne[1];
    ggml_build_forward_expand(g->graph, q);
    ggml_build_forward_expand(g->graph, v);
    ggml_build_forward_expand(g->graph, k);
    dw_graph_keep_rows(g, layer, k, v);
    if (shape->n_runs == 1) {
        tensor *y = attend_run(g, layer, 0, q, scale, softcap);
        y = ggml_view_2d(g->context, y, width, shape->n_tokens, (size_t)width * sizeof(float), 0);
        ggml_build_forward_expand(g->graph, y);
        return y;
    }
    if (g->attended == NULL || g->attended->ne[0] != width) {
        /* The sequence that sees nothing leaves one column behind the run's own. The next run overwrites it. */
        g->attended = ggml_new_tensor_2d(g->context, GGML_TYPE_F32, width, shape->n_tokens + 1);
        ggml_set_name(g->attended, "attended");
        ggml_set_input(g->attended); /* keeps its memory from being given to others */
        ggml_set_output(g->attended);
    }
    for (uint32_t r = 0; r < shape->n_runs; r++) {
        tensor *y = attend_run(g, layer, r, q, scale, softcap);
        place_columns(g, y, g->places[r].first_column);
        ggml_build_forward_expand(g->graph, y);
    }
    return ggml_view_2d(g->context, g->attended, width, shape->n_tokens, g->attended->nb[1], 0);
}

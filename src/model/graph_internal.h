/* graph_internal.h: a graph's insides, shared by graph.c (holding, binding, feeding) and layer.c (which operations). */
#ifndef DW_MODEL_GRAPH_INTERNAL_H
#define DW_MODEL_GRAPH_INTERNAL_H

#include "ggml-alloc.h"
#include "ggml.h"
#include "model/graph.h"

/* K or V of one layer. */
typedef struct dw_graph_kv {
    struct ggml_tensor *rows;    /* 2-D leaf [row, rows]: set_rows writes into it by row index */
    struct ggml_tensor *written; /* what set_rows returns: a view of rows */
    struct ggml_tensor *seen;    /* what attention reads: a view of the slot's rows, already in attention's order */
} dw_graph_kv;

typedef struct dw_graph_layer { dw_graph_kv kv[2]; } dw_graph_layer;

/* NULL where a graph has no such input. The allocator may reuse an input's memory after its last use: all are set before each run. */
typedef struct dw_graph_inputs {
    struct ggml_tensor *tokens;      /* I32 [n_tokens] */
    struct ggml_tensor *embedding;   /* F32 [n_embedding, n_tokens], instead of tokens */
    struct ggml_tensor *positions;   /* I32 [n_tokens] */
    struct ggml_tensor *row_index;   /* I64 [n_tokens] */
    struct ggml_tensor *mask, *mask_window; /* F16 [n_kv, n_tokens] */
    struct ggml_tensor *wanted;      /* I32 [n_wanted] */
    struct ggml_tensor *hidden;      /* F32 [n_embedding, n_rows], head graphs */
} dw_graph_inputs;

struct dw_graph {
    dw_graph_model model;
    dw_graph_shape shape;
    bool is_head;
    uint64_t first_row;       /* of the bound slot, in the KV tensors */
    uint64_t kv_rows;         /* of the KV tensors */
    void *memory;             /* of tensor descriptions and the graph */
    size_t memory_bytes, nodes_max;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    ggml_gallocr_t allocator;
    uint64_t counted_bytes;   /* of the allocator, in the device's ledger */
    dw_graph_inputs inputs;
    dw_graph_layer *layers;
    struct ggml_tensor *output;
    bool output_is_placed;    /* output's address is set before each run */
    void *scratch;
    size_t scratch_bytes;
};

static inline uint64_t dw_graph_row_bytes(const dw_graph *graph) {
    return dw_kv_row_bytes(graph->model.kv_type, graph->model.hp->n_heads_kv, graph->model.hp->head_dim);
}

/* linear.c. w [input, output], x [input, n] -> [output, n], bias [output] or NULL. Every product with a weight matrix goes through these. */
struct ggml_tensor *dw_linear(dw_graph *graph, struct ggml_tensor *w, struct ggml_tensor *bias, struct ggml_tensor *x);
/* w [input, output, n_experts], x [input, 1 or n_used, n], experts I32 [n_used, n] -> [output, n_used, n] */
struct ggml_tensor *dw_linear_experts(dw_graph *graph, struct ggml_tensor *w, struct ggml_tensor *x, struct ggml_tensor *experts);

/* attention.c. q [head_dim, n_heads, n], k and v [head_dim, n_heads_kv, n], all placed by rope already. Writes K and V to the slot's rows, then
 * attends: [head_dim * n_heads, n]. softcap 0 = none. */
struct ggml_tensor *dw_graph_attend(dw_graph *graph, uint32_t layer, struct ggml_tensor *q, struct ggml_tensor *k, struct ggml_tensor *v, float scale,
                                    float softcap);
/* Only the writing, for a last layer of which no output is wanted. */
void dw_graph_keep_rows(dw_graph *graph, uint32_t layer, struct ggml_tensor *k, struct ggml_tensor *v);

/* layer.c: fill graph->graph, inputs, layers and output. */
void dw_graph_build(dw_graph *graph);
void dw_graph_build_head(dw_graph *graph);

#endif

/* graph_internal.h: a graph's insides, shared by graph.c (holding, binding), inputs.c (feeding), linear.c, attention.c
 * and layer.c (which operations). */
#ifndef DW_MODEL_GRAPH_GRAPH_INTERNAL_H
#define DW_MODEL_GRAPH_GRAPH_INTERNAL_H

#include "ggml-alloc.h"
#include "ggml.h"
#include "model/graph/graph.h"

/* --- graph.c: holding ---------------------------------------------------------------------------------------- */

typedef struct dw_graph dw_graph;
/* An empty holder; memory grows with the largest graph it held. */
dw_status dw_graph_create(const dw_graph_model *model, dw_graph **out, dw_error *err) DW_MUST_USE;
void dw_graph_destroy(dw_graph *graph);
/* Whether the holder holds a graph of this batch's shape. */
bool dw_graph_holds(const dw_graph *graph, const dw_graph_batch *batch);
/* Makes the holder hold a graph of this shape bound to these slots; cheap when it already does. A node that the device
 * cannot run is refused (DW_E_UNSUPPORTED). */
dw_status dw_graph_prepare(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) DW_MUST_USE;
/* Feeds, computes and leaves the result in output, as dw_decoder_evaluate says. */
dw_status dw_graph_run(dw_graph *graph, const dw_graph_batch *batch, float *output, dw_error *err) DW_MUST_USE;

/* The head: logits [n_vocab, n_rows] from hidden rows [n_embedding, n_rows]. */
dw_status dw_graph_prepare_head(dw_graph *graph, uint32_t n_rows, bool narrow, dw_error *err) DW_MUST_USE;
dw_status dw_graph_run_head(dw_graph *graph, const float *hidden, float *logits, dw_error *err) DW_MUST_USE;

/* --- insides -------------------------------------------------------------------------------------------------- */

/* K or V of one layer. On the host one tensor over the whole arena serves every slot; elsewhere each part's slot is a
 * buffer of its own. */
typedef struct dw_graph_store {
    struct ggml_tensor *rows;    /* 2-D leaf [row, rows]: set_rows writes into it by row index */
    struct ggml_tensor *written; /* what set_rows returns: a view of rows */
} dw_graph_store;

typedef struct dw_graph_run_shape {
    uint32_t n_parts, n_columns;
    uint32_t n_kv;               /* rows seen, a multiple of DW_KV_STEP_ROWS */
    uint32_t n_sequences;        /* of the attention operation: n_parts, or one more that sees nothing */
} dw_graph_run_shape;

typedef struct dw_graph_run_place {
    uint32_t first_part, first_column;
    uint64_t first_row, step_rows; /* of the slots, in the KV tensors */
} dw_graph_run_place;

typedef struct dw_graph_shape {
    uint32_t n_tokens, n_wanted, n_layers, n_parts, n_runs;
    uint32_t n_chosen;           /* 0 = all layers */
    uint16_t chosen[DW_GRAPH_CHOSEN_MAX];
    bool narrow;
    dw_graph_result result;
    dw_graph_run_shape runs[DW_BATCH_PARTS_MAX];
} dw_graph_shape;

/* NULL where a graph has no such input. The allocator may reuse an input's memory after its last use: all are set
 * before each run. */
typedef struct dw_graph_inputs {
    struct ggml_tensor *tokens;      /* I32 [n_tokens] */
    struct ggml_tensor *embedding;   /* F32 [n_embedding, n_tokens], instead of tokens */
    struct ggml_tensor *positions;   /* I32 [n_tokens] */
    struct ggml_tensor *row_index;   /* I64 [n_tokens], in the part's store */
    /* Of each run: F16 [n_kv, columns / parts, 1, n_sequences]. */
    struct ggml_tensor *mask[DW_BATCH_PARTS_MAX], *mask_window[DW_BATCH_PARTS_MAX];
    struct ggml_tensor *wanted;      /* I32 [n_wanted] */
    struct ggml_tensor *hidden;      /* F32 [n_embedding, n_rows], head graphs */
} dw_graph_inputs;

struct dw_graph {
    dw_graph_model model;
    dw_graph_shape shape;
    dw_graph_run_place places[DW_BATCH_PARTS_MAX]; /* of each run */
    bool is_head;
    bool narrow_now;          /* while it is built: the columns are single tokens that would be alone otherwise */
    uint32_t n_stores;        /* 1 where one buffer holds all slots, else n_parts */
    uint64_t kv_rows;         /* of a store's tensor */
    void *memory;             /* of tensor descriptions and the graph */
    size_t memory_bytes, nodes_max;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    ggml_gallocr_t allocator;
    uint64_t counted_bytes;   /* of the allocator, in the device's ledger */
    dw_graph_inputs inputs;
    dw_graph_store *stores;   /* [2 * n_layers][n_stores]: layer 0 K, layer 0 V, layer 1 K, ... */
    struct ggml_tensor **seen; /* [2 * n_layers][n_runs]: what attention reads, already in its order */
    size_t stores_capacity, seen_capacity;
    /* F32 [head_dim * n_heads, n_tokens] where several runs leave their results, shared by all layers. */
    struct ggml_tensor *attended;
    struct ggml_tensor *output;
    bool output_is_placed;    /* output's address is set before each run */
    void *scratch;
    size_t scratch_bytes;
};

static inline uint64_t dw_graph_row_bytes(const dw_graph *graph) {
    return dw_kv_row_bytes(graph->model.kv_type, graph->model.hp->n_heads_kv, graph->model.hp->head_dim);
}

static inline bool dw_graph_on_host(const dw_graph *graph) {
    return dw_device_info_view(graph->model.device)->addresses_are_host;
}

/* One store serves all parts; else each has one of its own. */
static inline bool dw_graph_one_store(const dw_graph *graph) { return graph->model.kv_in_one_buffer; }

static inline dw_graph_store *dw_graph_store_of(dw_graph *graph, uint32_t layer, int which, uint32_t store) {
    return &graph->stores[(2 * (size_t)layer + (size_t)which) * graph->n_stores + store];
}

static inline struct ggml_tensor **dw_graph_seen_of(dw_graph *graph, uint32_t layer, int which, uint32_t run) {
    return &graph->seen[(2 * (size_t)layer + (size_t)which) * graph->shape.n_runs + run];
}

/* Whether one operation of the device can take this tensor. */
static inline bool dw_graph_too_large(const dw_graph *graph, const struct ggml_tensor *tensor) {
    return ggml_nbytes(tensor) > dw_device_info_view(graph->model.device)->tensor_bytes_max;
}

/* graph.c: runs of a batch: shapes and places. */
void dw_graph_find_runs(const dw_graph_model *model, const dw_graph_batch *batch, dw_graph_shape *shape,
                        dw_graph_run_place *places);

/* inputs.c */
void dw_graph_make_inputs(dw_graph *graph);
void dw_graph_make_head_input(dw_graph *graph);
dw_status dw_graph_feed(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) DW_MUST_USE;

/* linear.c. w [input, output], x [input, n] -> [output, n], bias [output] or NULL. Every product with a weight matrix
 * goes through these. */
struct ggml_tensor *dw_linear(dw_graph *graph, struct ggml_tensor *w, struct ggml_tensor *bias, struct ggml_tensor *x);
/* w [input, output, n_experts], x [input, 1 or n_used, n], experts I32 [n_used, n] -> [output, n_used, n] */
struct ggml_tensor *dw_linear_experts(dw_graph *graph, struct ggml_tensor *w, struct ggml_tensor *x,
                                      struct ggml_tensor *experts);

/* How many tensors these may add in the narrow form. */
size_t dw_linear_nodes(const dw_graph *graph);

/* attention.c. q [head_dim, n_heads, n], k and v [head_dim, n_heads_kv, n], all placed by rope already. Writes K and V
 * to the slots' rows, then attends: [head_dim * n_heads, n]. softcap 0 = none. */
struct ggml_tensor *dw_graph_attend(dw_graph *graph, uint32_t layer, struct ggml_tensor *q, struct ggml_tensor *k,
                                    struct ggml_tensor *v, float scale, float softcap);
/* Only the writing, for a last layer of which no output is wanted. */
void dw_graph_keep_rows(dw_graph *graph, uint32_t layer, struct ggml_tensor *k, struct ggml_tensor *v);

/* experts.c. x [n_embedding, n] -> [n_embedding, n]: the feed-forward of a layer with experts. */
struct ggml_tensor *dw_graph_experts(dw_graph *graph, uint32_t layer, struct ggml_tensor *x);

/* layer.c: fill graph->graph, inputs and output. */
void dw_graph_build(dw_graph *graph);
void dw_graph_build_head(dw_graph *graph);

#endif

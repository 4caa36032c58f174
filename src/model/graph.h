/* graph.h: one forward pass as a ggml graph: built for a shape, bound to a slot, fed, computed.
 *
 *   shape    (tokens, rows of KV seen, rows wanted). A graph of one shape serves every slot and position of that shape
 *   bind     to point the graph's KV tensors at a slot; nothing is rebuilt
 *   hidden   the last layer's output for the wanted rows, [n_embedding, n_wanted] F32: what a graph of several wanted rows gives.
 *            A head graph turns some of its rows into logits, so that memory does not grow with rows x vocabulary
 *
 * The order and kind of operations is llama.cpp's, so that the bits are (tests/model/oracle_test.c).
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_GRAPH_H
#define DW_MODEL_GRAPH_H

#include "device/device.h"
#include "model/family.h"
#include "model/weights.h"

/* What a graph is made from. Borrowed; outlives the graphs. */
typedef struct dw_graph_model {
    const dw_family *family;
    const dw_hyperparameters *hp;
    const dw_weights *weights;
    dw_device *device;
    uint64_t kv_area_bytes;
} dw_graph_model;

typedef struct dw_graph_shape {
    uint32_t n_tokens, n_kv, n_wanted;
    bool normed;        /* output is the wanted rows behind the final norm, [n_embedding, n_wanted], however many they are */
} dw_graph_shape;

/* Where a slot's rows are: its buffer on the device and the slot's first byte there. */
typedef struct dw_graph_binding { dw_buffer *buffer; uint64_t offset; } dw_graph_binding;

typedef struct dw_graph dw_graph;
/* An empty holder; memory grows with the largest graph it held. */
dw_status dw_graph_create(const dw_graph_model *model, dw_graph **out, dw_error *err) DW_MUST_USE;
void dw_graph_destroy(dw_graph *graph);
/* Makes the holder hold a graph of this shape bound to this slot; cheap when it already does. A node that the device cannot run is
 * refused (DW_E_UNSUPPORTED). */
dw_status dw_graph_prepare(dw_graph *graph, dw_graph_shape shape, dw_graph_binding binding, dw_error *err) DW_MUST_USE;
/* The head: logits [n_vocab, n_rows] from hidden rows [n_embedding, n_rows]. */
dw_status dw_graph_prepare_head(dw_graph *graph, uint32_t n_rows, dw_error *err) DW_MUST_USE;

typedef struct dw_graph_input {
    const int32_t *tokens;      /* [n_tokens] */
    uint32_t first_position;
    const uint32_t *wanted;     /* [n_wanted], ascending, within tokens */
    const float *hidden;        /* head graphs: [n_embedding, n_rows] */
} dw_graph_input;

/* Feeds, computes and leaves the result in output: the normed rows of a normed shape, logits [n_vocab] when one row is wanted, hidden [n_embedding, n_wanted] for several, for a
 * head logits [n_vocab, n_rows]; nothing (NULL) when no row is wanted. Where the device follows host addresses, logits are written
 * into `output` by the last operation itself. */
dw_status dw_graph_run(dw_graph *graph, const dw_graph_input *input, float *output, dw_error *err) DW_MUST_USE;

#endif

/* graph.h: forward passes as ggml graphs: built for a shape, bound to slots, fed, computed. The room's face: neighbours
 * include this header alone. encoder.h has the passes of encoders, kv_type.h what a KV row is made of, bits.h what the
 * bits of a result depend on.
 *
 *   decoder  the passes of one model. Keeps graphs of the shapes met last, so that a decode step builds nothing until a
 *            session joins or leaves, or the KV it sees crosses a multiple of DW_KV_STEP_ROWS
 *   part     consecutive tokens of one session. A batch is a row of parts; token t of part p is column (tokens of the
 *            parts before p) + t
 *   run      one attention operation: a part of several tokens, or single tokens of several sessions whose slots lie at
 *            equal distances in the arena (then one operation serves them all)
 *   shape    the tokens of each run, the rows of KV it sees, rows wanted. A graph of one shape serves every slot and
 *            position of that shape
 *   bind     to point the graph's KV tensors at slots; nothing is rebuilt
 *   hidden   the last layer's output for the wanted columns, [n_embedding, n_wanted] F32: what a graph of several
 *            wanted rows gives. A head graph turns some of its rows into logits, so that memory does not grow with rows
 *            x vocabulary
 *   narrow   products of single tokens in the form whose bits do not depend on how many columns come at once (bits.h):
 *            a token then gets the bits that it would get alone. In a part of more tokens this concerns the operations
 *            behind the choice of its wanted rows
 *
 * The order and kind of operations is llama.cpp's, so that the bits are (tests/model/graph/oracle_test.c).
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_GRAPH_GRAPH_H
#define DW_MODEL_GRAPH_GRAPH_H

#include "device/device.h"
#include "model/graph/bits.h"
#include "model/graph/encoder.h"
#include "model/graph/kv_type.h"
#include "model/weights/weights.h"

/* What a graph is made from. Borrowed; outlives the graphs. */
typedef struct dw_graph_model {
    const dw_family *family;
    const dw_hyperparameters *hp;
    const dw_weights *weights;
    const dw_bits *bits;
    dw_device *device;
    dw_kv_type kv_type;
    /* Where KV rows lie in a slot: row r of area a (layer 0 K, layer 0 V, layer 1 K, ...) begins at
     * a / kv_areas_per_run * kv_run_bytes + r * kv_row_step + a % kv_areas_per_run * (bytes of a row) */
    uint64_t kv_run_bytes, kv_row_step;
    uint32_t kv_areas_per_run;
    bool kv_in_one_buffer;      /* that holds all slots: one tensor an area serves them all. Else each has its own */
} dw_graph_model;

/* Where a slot's rows are: its buffer on the device and the slot's first byte there. */
typedef struct dw_graph_binding { dw_buffer *buffer; uint64_t offset; } dw_graph_binding;

typedef struct dw_graph_part {
    const int32_t *tokens;      /* [n_tokens] */
    uint32_t n_tokens;
    uint32_t first_position;
    dw_graph_binding binding;
} dw_graph_part;

typedef enum dw_graph_result {
    DW_RESULT_USUAL,   /* logits of a single wanted row, hidden rows of several */
    DW_RESULT_HIDDEN,  /* hidden rows, however many are wanted */
    DW_RESULT_NORMED   /* the same behind the final norm: what a pooled embedding is made of */
} dw_graph_result;

enum { DW_GRAPH_CHOSEN_MAX = 16 };

typedef struct dw_graph_batch {
    /* [n_parts], at most DW_BATCH_PARTS_MAX; single tokens by ascending offset of their slots make the longest runs */
    const dw_graph_part *parts;
    uint32_t n_parts;
    const uint32_t *wanted;     /* [n_wanted] columns, ascending */
    uint32_t n_wanted;
    bool narrow;
    dw_graph_result result;
    /* [n_layers] ascending, at most DW_GRAPH_CHOSEN_MAX: only these layers are evaluated, and each takes what the one
     * before it gives */
    const uint16_t *layers;
    uint32_t n_layers;          /* 0 = all of the model's */
    const _Atomic bool *stop;   /* once true the run is given up (DW_E_CANCELLED) where the device can; NULL = never */
} dw_graph_batch;

/* --- decoders ------------------------------------------------------------------------------------------------ */

/* Attention sees KV rows in whole multiples of this, the rest is masked: graphs change less often, and some kernels
 * require it. */
enum { DW_KV_STEP_ROWS = 256 };
/* Rows that a single token's attention may look at behind these, masked, to share an operation with longer ones. */
enum { DW_KV_RUN_DIFFERENCE_ROWS = 1024 };

typedef struct dw_decoder dw_decoder;

dw_status dw_decoder_create(const dw_graph_model *model, dw_decoder **out, dw_error *err) DW_MUST_USE;
void dw_decoder_destroy(dw_decoder *decoder);
/* Builds a decode and a prefill graph, so that an operation which this device cannot run is known before it is
 * needed. */
dw_status dw_decoder_check(dw_decoder *decoder, dw_graph_binding binding, dw_error *err) DW_MUST_USE;

/* Evaluates a batch and leaves the result in output: logits [n_vocab], or rows [n_embedding, n_wanted]; nothing (NULL)
 * when no row is wanted. Where the device follows host addresses, the last operation itself writes into `output`. */
dw_status dw_decoder_evaluate(dw_decoder *decoder, const dw_graph_batch *batch, float *output,
                              dw_error *err) DW_MUST_USE;
/* logits [n_vocab, n_rows] of hidden rows. */
dw_status dw_decoder_head(dw_decoder *decoder, const float *hidden, uint32_t n_rows, bool narrow, float *logits,
                          dw_error *err) DW_MUST_USE;

#endif

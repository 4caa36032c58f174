/* decoder.h: forward passes of one model. Keeps graphs of the shapes met last, so that a decode step builds nothing until a session joins or
 * leaves or the KV it sees crosses a multiple of DW_KV_STEP_ROWS.
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_DECODER_H
#define DW_MODEL_DECODER_H

#include "model/graph.h"

/* Attention sees KV rows in whole multiples of this, the rest is masked: graphs change less often, and some kernels require it. */
enum { DW_KV_STEP_ROWS = 256 };

typedef struct dw_decoder dw_decoder;

dw_status dw_decoder_create(const dw_graph_model *model, dw_decoder **out, dw_error *err) DW_MUST_USE;
void dw_decoder_destroy(dw_decoder *decoder);
/* Builds a decode and a prefill graph, so that an operation which this device cannot run is known before it is needed. */
dw_status dw_decoder_check(dw_decoder *decoder, dw_graph_binding binding, dw_error *err) DW_MUST_USE;

/* Evaluates a batch. Output as for dw_graph_run. */
dw_status dw_decoder_evaluate(dw_decoder *decoder, const dw_graph_batch *batch, float *output, dw_error *err) DW_MUST_USE;
/* logits [n_vocab, n_rows] of hidden rows. */
dw_status dw_decoder_head(dw_decoder *decoder, const float *hidden, uint32_t n_rows, bool narrow, float *logits, dw_error *err) DW_MUST_USE;

#endif

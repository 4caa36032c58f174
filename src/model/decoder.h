/* decoder.h: forward passes of one model. Keeps one graph for single tokens, one for prefill and one for heads, so that a decode step
 * builds nothing until the KV it sees crosses a multiple of DW_KV_STEP_ROWS.
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

/* Evaluates tokens at first_position.. into the bound slot. Output as for dw_graph_run. */
dw_status dw_decoder_evaluate(dw_decoder *decoder, const dw_graph_input *input, uint32_t n_tokens, uint32_t n_wanted, dw_graph_binding binding,
                              float *output, dw_error *err) DW_MUST_USE;
/* The same, for the wanted rows behind the final norm: output [n_embedding, n_wanted]. */
dw_status dw_decoder_evaluate_normed(dw_decoder *decoder, const dw_graph_input *input, uint32_t n_tokens, uint32_t n_wanted,
                                     dw_graph_binding binding, float *output, dw_error *err) DW_MUST_USE;
/* logits [n_vocab, n_rows] of hidden rows. */
dw_status dw_decoder_head(dw_decoder *decoder, const float *hidden, uint32_t n_rows, float *logits, dw_error *err) DW_MUST_USE;

#endif

/* encoder.h: texts through a bidirectional encoder, pooled to one vector each. No KV, no sessions: a text is evaluated
 * whole.
 *
 * Several texts go through one graph: products with weights take all tokens at once, attention is an operation per text
 * over that text's own tokens, so that a text's vector has the same bits whoever is beside it
 * (tests/model/embed/encoder_test.c). Operations and their order are llama.cpp's.
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_GRAPH_ENCODER_H
#define DW_MODEL_GRAPH_ENCODER_H

#include "model/weights/weights.h"

/* One text to be embedded. All pointers stay the caller's until the job is done. */
typedef struct dw_embed_text {
    const int32_t *tokens;
    uint32_t n_tokens; /* with the special tokens that the model wants (DW_TEXT_WHOLE); 1 to context_tokens */
    /* -> [n_embedding]; on the CPU the graph writes here itself (no staging copy). */
    float *vector;
} dw_embed_text;

typedef struct dw_encoder dw_encoder;

/* Opens, and builds a small graph, so that an operation which the device cannot run is known before it is needed. */
dw_status dw_encoder_open(const dw_gguf *gguf, dw_device *device, dw_encoder **out, dw_error *err) DW_MUST_USE;
void dw_encoder_close(dw_encoder *encoder);
const dw_encoder_hyperparameters *dw_encoder_hyperparameters_view(const dw_encoder *encoder);
const dw_encoder_weights *dw_encoder_weights_view(const dw_encoder *encoder);

/* One graph: the texts (checked: tokens in the vocabulary, 1 to `context` of them) to their vectors, each written to
 * text.vector by the graph's last operation itself where the device follows host addresses. `pooling` is not
 * DW_POOLING_DEFAULT. */
dw_status dw_encoder_run(dw_encoder *encoder, const dw_embed_text *texts, uint32_t n_texts, dw_pooling pooling,
                         bool normalize, dw_error *err) DW_MUST_USE;

#endif

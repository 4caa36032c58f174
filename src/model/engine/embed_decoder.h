/* embed_decoder.h: inside the module: texts through a decoder, pooled. embed.c's counterpart for models that have KV rows.
 *
 * A text is evaluated in a slot of the arena that is taken for it and given back, in the chunks of session.h rule 2: one chunk a step. What is
 * pooled are the rows behind the final norm. The mean is summed in float64 on the host.
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_ENGINE_EMBED_DECODER_H
#define DW_MODEL_ENGINE_EMBED_DECODER_H

#include "model/engine/engine.h"
#include "model/model_internal.h"

/* The text being evaluated. */
typedef struct dw_embed_decoding {
    bool has_slot;
    dw_kv_slot slot;
    uint32_t n_rows;    /* evaluated */
    double *sum;        /* [n_embedding] */
} dw_embed_decoding;

dw_status dw_embed_decoding_create(const dw_model *model, dw_embed_decoding **out, dw_error *err) DW_MUST_USE;
void dw_embed_decoding_destroy(dw_model *model, dw_embed_decoding *decoding);

/* The next chunk of a text; *n_evaluated = its tokens. With the last one *done is set, the vector is written and the slot given back. */
dw_status dw_embed_decode(dw_model *model, dw_embed_decoding *decoding, const dw_embed_text *text, dw_pooling pooling, bool normalize,
                          uint32_t *n_evaluated, bool *done, dw_error *err) DW_MUST_USE;

#endif

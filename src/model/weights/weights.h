/* weights.h: the tensors of one model, on its device. The room's face: neighbours include this header alone.
 *
 *   family       a row of traits that says how a decoder of that architecture computes (family.h)
 *   placing      tensors of a file, by name, in memory that the device reads (placing.h)
 *   repack       the copy of a weight in the layout that this processor multiplies fastest (repack.h)
 *   fingerprint  hashes of what must be equal for KV rows to be a model's (fingerprint.h)
 *   pooling      how an embedding model makes one vector of a text (pooling.h); encoder_weights.h has the tensors of
 *                encoders
 *
 * Where they lie: placing.h. With `repack` the matrices that have a faster product in another layout on this
 * processor are copied into it, and counted apart; where output and embedding are one tensor in the file, the output
 * becomes a second one, since rows cannot be looked up in such a copy.
 * Threads: immutable after opening.
 */
#ifndef DW_MODEL_WEIGHTS_WEIGHTS_H
#define DW_MODEL_WEIGHTS_WEIGHTS_H

#include "device/device.h"
#include "model/weights/encoder_weights.h"
#include "model/weights/family.h"
#include "model/weights/fingerprint.h"
#include "model/weights/placing.h"
#include "model/weights/pooling.h"
#include "model/weights/repack.h"

/* NULL where the family or the file has no such tensor. Matrices are [input, output] in ggml's order (rows are
 * outputs), experts' [input, output, n_experts]. A norm's bias is there for DW_NORM_LAYER. */
typedef struct dw_layer_weights {
    struct ggml_tensor *attention_norm, *attention_norm_bias;
    struct ggml_tensor *qkv, *qkv_bias;  /* rows of Q, then K, then V; or else the three: */
    struct ggml_tensor *q, *k, *v, *o, *q_bias, *k_bias, *v_bias, *o_bias; /* the biases also beside qkv without one */
    struct ggml_tensor *q_norm, *k_norm, *attention_post_norm;
    struct ggml_tensor *feed_norm, *feed_norm_bias;
    /* Gated without gate: rows of gate, then of up, are in up. */
    struct ggml_tensor *gate, *up, *down, *gate_bias, *up_bias, *down_bias;
    struct ggml_tensor *router, *gate_experts, *up_experts, *down_experts;
    struct ggml_tensor *feed_post_norm;
} dw_layer_weights;

typedef struct dw_weights {
    /* Output == embedding where they are tied and not repacked. */
    struct ggml_tensor *embedding, *output, *output_bias, *output_norm, *output_norm_bias;
    /* Divisors of rope's frequencies; of short and long ones those for this context. */
    struct ggml_tensor *rope_factors;
    bool rope_is_long;
    const void *embedding_host;  /* the embedding's bytes in the file's map */
    dw_layer_weights *layers;
    /* owned */
    struct ggml_context *context;
    dw_placed placed;            /* all but what is repacked */
    dw_repacked repacked;
} dw_weights;

dw_status dw_weights_open(const dw_gguf *gguf, const dw_family *family, const dw_hyperparameters *hp, dw_device *device,
                          bool repack, dw_weights *out, dw_error *err) DW_MUST_USE;
void dw_weights_close(dw_weights *weights); /* also of one that failed to open */

#endif

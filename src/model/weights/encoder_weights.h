/* encoder_weights.h: hyperparameters and tensors of an encoder, read from a GGUF file and checked.
 *
 * One architecture: "bert" (Devlin et al. 2018), as llama.cpp's converters write it. Bidirectional attention, learned
 * positions, LayerNorm behind each sublayer.
 * Threads: immutable after opening.
 */
#ifndef DW_MODEL_WEIGHTS_ENCODER_WEIGHTS_H
#define DW_MODEL_WEIGHTS_ENCODER_WEIGHTS_H

#include "device/device.h"
#include "model/gguf/gguf.h"
#include "model/weights/placing.h"
#include "model/weights/pooling.h"

typedef struct dw_encoder_hyperparameters {
    uint32_t n_layers, n_embedding, n_heads, head_dim, n_feed_forward, n_vocab;
    uint32_t context;          /* positions that were trained: no text is longer */
    uint32_t n_token_types;
    float norm_epsilon;
    dw_pooling pooling;        /* the file's, DW_POOLING_MEAN where it names none */
} dw_encoder_hyperparameters;

/* Matrices are [input, output] in ggml's order; vectors F32. A bias that the file does not have is NULL. */
typedef struct dw_encoder_linear { struct ggml_tensor *weight, *bias; } dw_encoder_linear;

typedef struct dw_encoder_layer {
    dw_encoder_linear q, k, v, o, attention_norm, up, down, output_norm;
} dw_encoder_layer;

typedef struct dw_encoder_weights {
    struct ggml_tensor *embedding, *position, *token_type; /* token_type NULL where the file has none */
    const void *embedding_host;  /* the embedding's bytes in the file's map */
    dw_encoder_linear embedding_norm;
    dw_encoder_layer *layers;
    /* owned */
    struct ggml_context *context;
    dw_placed placed;
} dw_encoder_weights;

/* True for a file whose general.architecture is an encoder's. */
bool dw_encoder_is_one(const dw_gguf *gguf);
dw_status dw_encoder_hyperparameters_read(const dw_gguf *gguf, dw_encoder_hyperparameters *out,
                                          dw_error *err) DW_MUST_USE;
dw_status dw_encoder_weights_open(const dw_gguf *gguf, const dw_encoder_hyperparameters *hp, dw_device *device,
                                  dw_encoder_weights *out, dw_error *err) DW_MUST_USE;
void dw_encoder_weights_close(dw_encoder_weights *weights); /* also of one that failed to open */

#endif

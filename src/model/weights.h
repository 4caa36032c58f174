/* weights.h: the tensors of one model, on its device.
 *
 * The map of each of the file's parts is wrapped (I1: no copy). Tensors that cannot lie in the wrap (the device does not import, the file's alignment is too
 * small) are copied to memory of the device, and counted.
 * Threads: immutable after opening.
 */
#ifndef DW_MODEL_WEIGHTS_H
#define DW_MODEL_WEIGHTS_H

#include "device/device.h"
#include "model/family.h"

/* NULL where the family or the file has no such tensor. Matrices are [input, output] in ggml's order (rows are outputs). */
typedef struct dw_layer_weights {
    struct ggml_tensor *attention_norm, *q, *k, *v, *o, *q_bias, *k_bias, *v_bias, *o_bias;
    struct ggml_tensor *q_norm, *k_norm, *attention_post_norm;
    struct ggml_tensor *feed_norm, *gate, *up, *down, *gate_bias, *up_bias, *down_bias, *feed_post_norm;
} dw_layer_weights;

typedef struct dw_weights {
    struct ggml_tensor *embedding, *output, *output_norm, *rope_factors; /* output == embedding where they are tied */
    const void *embedding_host;  /* the embedding's bytes in the file's map */
    dw_layer_weights *layers;
    uint64_t wrapped_bytes, copied_bytes;
    /* owned */
    struct ggml_context *context;
    dw_buffer **wraps;           /* [n_wraps] one a part; NULL: that part is not wrapped */
    uint32_t n_wraps;
    dw_buffer *own;
} dw_weights;

dw_status dw_weights_open(const dw_gguf *gguf, const dw_family *family, const dw_hyperparameters *hp, dw_device *device, dw_weights *out,
                          dw_error *err) DW_MUST_USE;
void dw_weights_close(dw_weights *weights); /* also of one that failed to open */

#endif

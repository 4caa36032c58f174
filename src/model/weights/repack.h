/* repack.h: weights copied into the layouts for which this processor has faster products (model.h:
 * dw_model_options.repack).
 *
 * The copy is private to the process and as large as the weights it holds, where a map of the file costs no memory of
 * its own.
 */
#ifndef DW_MODEL_WEIGHTS_REPACK_H
#define DW_MODEL_WEIGHTS_REPACK_H

#include "device/device.h"

enum { DW_REPACK_LAYOUTS_MAX = 4 }; /* ggml has at most three for one processor */

typedef struct dw_repacked {
    dw_buffer *buffers[DW_REPACK_LAYOUTS_MAX];
    size_t n_buffers;
    uint64_t bytes; /* of the weights copied */
} dw_repacked;

/* A weight of products alone: a tensor without memory yet, and its bytes as the file has them. */
typedef struct dw_repack_weight { struct ggml_tensor *tensor; const void *data; } dw_repack_weight;

/* Places those weights that have a faster layout; the others stay without memory. The copies are counted in the
 * device's ledger. */
dw_status dw_repack(dw_device *device, const dw_repack_weight *weights, size_t n_weights, dw_repacked *out,
                    dw_error *err) DW_MUST_USE;
void dw_repack_release(dw_repacked *repacked); /* also of one that failed */

#endif

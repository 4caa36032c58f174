/* placing.h: tensors of a GGUF file, made by name and then placed on a device. The map of each of the file's parts is
 * wrapped (I1: no copy); what cannot lie in a wrap (the device does not import, the file's alignment is too small) is
 * copied to memory of the device, and counted. Threads: the one that opens the model.
 */
#ifndef DW_MODEL_WEIGHTS_PLACING_H
#define DW_MODEL_WEIGHTS_PLACING_H

#include "device/device.h"
#include "model/gguf/gguf.h"

/* Tensors made so far, with their places in the file. */
typedef struct dw_tensor_table {
    struct ggml_context *context; /* holds the tensors, outlives the table: the one that opened it frees it */
    struct ggml_tensor **tensors; /* [n] owned, as is sources */
    const dw_gguf_tensor **sources;
    size_t n;
} dw_tensor_table;

/* Room for n_layers x per_layer + outside tensors. More layers than the file has tensors are refused (DW_E_FORMAT): a
 * layer has at least one, so what is allocated is bounded by the file. After a failure there is nothing to free. */
dw_status dw_tensor_table_open(const dw_gguf *gguf, uint32_t n_layers, size_t per_layer, size_t outside,
                               dw_tensor_table *out, dw_error *err) DW_MUST_USE;
/* A tensor of n_dims dimensions (shape[n_dims], fastest first) and source's type. DW_E_FORMAT: source has another
 * number of bytes. */
dw_status dw_tensor_table_add(dw_tensor_table *table, const char *name, const dw_gguf_tensor *source, int n_dims,
                              const int64_t *shape, struct ggml_tensor **out, dw_error *err) DW_MUST_USE;
void dw_tensor_table_close(dw_tensor_table *table);

typedef struct dw_placed {
    uint64_t wrapped_bytes, copied_bytes;
    /* owned */
    dw_buffer **wraps;           /* [n_wraps] one a part; NULL: that part is not wrapped */
    uint32_t n_wraps;
    dw_buffer *own;
} dw_placed;

/* Gives memory to those of the table's tensors that have none, with their sources' content. A failure leaves *out to be
 * released as well. */
dw_status dw_place_tensors(const dw_gguf *gguf, dw_device *device, const dw_tensor_table *table, dw_placed *out,
                           dw_error *err) DW_MUST_USE;
void dw_placed_release(dw_placed *placed);

#endif

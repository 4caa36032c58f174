/* placing.h: tensors of a GGUF file on a device. The map of each of the file's parts is wrapped (I1: no copy); what cannot lie in a wrap (the
 * device does not import, the file's alignment is too small) is copied to memory of the device, and counted.
 * Threads: the one that opens the model.
 */
#ifndef DW_MODEL_PLACING_H
#define DW_MODEL_PLACING_H

#include "device/device.h"
#include "model/gguf.h"

typedef struct dw_placed {
    uint64_t wrapped_bytes, copied_bytes;
    /* owned */
    dw_buffer **wraps;           /* [n_wraps] one a part; NULL: that part is not wrapped */
    uint32_t n_wraps;
    dw_buffer *own;
} dw_placed;

/* Gives memory to those of tensors[n] that have none, with the content of sources[n]. A failure leaves *out to be released as well. */
dw_status dw_place_tensors(const dw_gguf *gguf, dw_device *device, struct ggml_tensor *const *tensors, const dw_gguf_tensor *const *sources, size_t n,
                           dw_placed *out, dw_error *err) DW_MUST_USE;
void dw_placed_release(dw_placed *placed);

#endif

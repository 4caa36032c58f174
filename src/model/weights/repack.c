/* repack.c: see repack.h. One buffer for each layout in use. */
#include "model/weights/repack.h"

#include <stdlib.h>
#include <string.h>

#include "ggml.h"

typedef struct ggml_backend_buffer_type layout;

/* Where the next weight begins, behind one at `offset`. */
static bool advance(uint64_t align, layout *type, const struct ggml_tensor *weight, uint64_t *offset) {
    return dw_add_u64(*offset, dw_repacked_bytes(type, weight), offset) && dw_round_up_u64(*offset, align, offset);
}

static dw_status fill_layout(dw_device *device, layout *type, const dw_repack_weight *weights, layout *const *layouts,
                             size_t n, dw_repacked *out, dw_error *err) {
    uint64_t align = dw_device_info_view(device)->tensor_align_bytes, total = 0, offset = 0;
    for (size_t i = 0; i < n; i++) {
        if (layouts[i] == type && !advance(align, type, weights[i].tensor, &total))
            return dw_fail(err, DW_E_RANGE, "weights too large to repack");
    }
    if (out->n_buffers == DW_REPACK_LAYOUTS_MAX)
        return dw_fail(err, DW_E_UNSUPPORTED, "more than %d layouts of weights", DW_REPACK_LAYOUTS_MAX);
    dw_buffer **buffer = &out->buffers[out->n_buffers];
    dw_status status = dw_device_allocate_repacked(device, type, total, buffer, err);
    if (status == DW_OK) out->n_buffers++;
    for (size_t i = 0; status == DW_OK && i < n; i++) {
        struct ggml_tensor *tensor = weights[i].tensor;
        if (layouts[i] != type) continue;
        status = dw_buffer_place(*buffer, tensor, offset, err);
        /* Whole, as these layouts want it. */
        if (status == DW_OK) status = dw_tensor_write(device, tensor, weights[i].data, 0, ggml_nbytes(tensor));
        if (!advance(align, type, tensor, &offset)) return DW_E_RANGE; /* not after the sum above fitted */
        out->bytes += ggml_nbytes(tensor);
    }
    return status;
}

dw_status dw_repack(dw_device *device, const dw_repack_weight *weights, size_t n_weights, dw_repacked *out,
                    dw_error *err) {
    memset(out, 0, sizeof *out);
    if (n_weights == 0) return DW_OK;
    layout **layouts = calloc(n_weights, sizeof *layouts);
    if (layouts == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory to repack weights");
    for (size_t i = 0; i < n_weights; i++) layouts[i] = dw_device_repacks(device, weights[i].tensor);
    dw_status status = DW_OK;
    for (size_t i = 0; status == DW_OK && i < n_weights; i++) {
        bool filled = weights[i].tensor->buffer != NULL;
        if (layouts[i] != NULL && !filled)
            status = fill_layout(device, layouts[i], weights, layouts, n_weights, out, err);
    }
    free(layouts);
    return status;
}

void dw_repack_release(dw_repacked *repacked) {
    for (size_t i = 0; i < repacked->n_buffers; i++) dw_buffer_destroy(repacked->buffers[i]);
    memset(repacked, 0, sizeof *repacked);
}

/* repack.c: which weights have a repacked kernel here. ggml tells it no other way than by asking about a product with a
 * weight that lies in such memory; the memory asked about is a buffer of no bytes. */
#include "device/device_internal.h"
#include "device/guard.h"

#include <stdio.h>

#include "ggml-cpu.h"
#include "ggml.h"

enum { COLUMNS = 2, EXPERTS_USED = 1 }; /* of the product asked about; the answer does not depend on them */

/* The product a weight of this shape is for: with a matrix, or with some of a stack of experts' matrices. */
static struct ggml_tensor *product_with(struct ggml_context *context, struct ggml_tensor *weight) {
    if (weight->ne[2] == 1)
        return ggml_mul_mat(context, weight, ggml_new_tensor_2d(context, GGML_TYPE_F32, weight->ne[0], COLUMNS));
    struct ggml_tensor *x = ggml_new_tensor_3d(context, GGML_TYPE_F32, weight->ne[0], EXPERTS_USED, COLUMNS);
    return ggml_mul_mat_id(context, weight, x, ggml_new_tensor_2d(context, GGML_TYPE_I32, EXPERTS_USED, COLUMNS));
}

static bool suits(ggml_backend_dev_t device, ggml_backend_buffer_type_t type, const struct ggml_tensor *weight) {
    struct ggml_context *context = ggml_init(
        (struct ggml_init_params){.mem_size = 4 * ggml_tensor_overhead(), .no_alloc = true});
    if (context == NULL) return false;
    struct ggml_tensor *copy = ggml_new_tensor(context, weight->type, GGML_MAX_DIMS, weight->ne);
    bool yes = dw_guard_allocate(type, 0, &copy->buffer, NULL) == DW_OK &&
               dw_guard_supports(device, product_with(context, copy));
    dw_guard_free(copy->buffer);
    ggml_free(context);
    return yes;
}

ggml_backend_buffer_type_t dw_device_repacks_of(ggml_backend_dev_t device, const struct ggml_tensor *weight) {
    if (weight->ne[3] != 1) return NULL;
    for (ggml_backend_buffer_type_t *type = dw_guard_extra_types(device); type != NULL && *type != NULL; type++) {
        if (suits(device, *type, weight)) return *type;
    }
    return NULL;
}

void dw_device_repack_types(ggml_backend_dev_t device, char *out, size_t size) {
    size_t length = 0;
    out[0] = 0;
    for (int number = 0; number < GGML_TYPE_COUNT; number++) {
        const struct ggml_type_traits *traits = ggml_get_type_traits((enum ggml_type)number);
        if (!traits->is_quantized || traits->blck_size == 0) continue;
        struct ggml_context *context = ggml_init(
            (struct ggml_init_params){.mem_size = ggml_tensor_overhead(), .no_alloc = true});
        if (context == NULL) return;
        /* Rows and columns that every kernel's blocks divide. */
        const struct ggml_tensor *weight = ggml_new_tensor_2d(context, (enum ggml_type)number, 512, 512);
        bool yes = dw_device_repacks_of(device, weight) != NULL;
        ggml_free(context);
        if (!yes) continue;
        int written = snprintf(out + length, size - length, "%s%s", length == 0 ? "" : " ", traits->type_name);
        if (written < 0 || (size_t)written >= size - length) return;
        length += (size_t)written;
    }
}

uint64_t dw_repacked_bytes(struct ggml_backend_buffer_type *type, const struct ggml_tensor *weight) {
    return dw_guard_bytes_of(type, weight);
}

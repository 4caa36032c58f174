/* compute.h: a small graph of tensor operations over one window of memory: the guest's `compute` request and `prove`.
 *
 * Tensors are places in the window; nodes are operations on them, in order. With a device that can wrap, the device
 * works on the window's own pages (I1); else, or when `copy` is asked for (the explicit-copy path that `prove` measures
 * beside it), inputs are copied to device memory and outputs back, and the bytes are counted.
 * The caller owns the window, has lent it, and has validated nothing: everything is checked here.
 */
#ifndef DW_DEVICE_COMPUTE_H
#define DW_DEVICE_COMPUTE_H

#include "device/device.h"

enum { DW_COMPUTE_TENSORS_MAX = 64, DW_COMPUTE_NODES_MAX = 64 };

/* The numbers are ABI (guest.h). */
typedef enum dw_compute_type { DW_COMPUTE_F32 = 0, DW_COMPUTE_F16 = 1 } dw_compute_type;
typedef enum dw_compute_op {     /* the numbers are ABI (guest.h) */
    /* out[m,n] = b[m,k] x transposed a[n,k]: rows are contiguous; ggml's mul_mat(a, b); out F32. */
    DW_COMPUTE_MUL_MAT = 1,
    DW_COMPUTE_ADD = 2,          /* out = a + b, same shape, F32 */
    DW_COMPUTE_MUL = 3           /* out = a * b, element by element, F32 */
} dw_compute_op;

typedef struct dw_compute_tensor {
    uint64_t offset;        /* in the window */
    uint32_t type;          /* dw_compute_type */
    uint32_t columns, rows; /* row-major, contiguous: element (r, c) at (r * columns + c) */
} dw_compute_tensor;

typedef struct dw_compute_node { uint32_t op, a, b, out; } dw_compute_node; /* indices of tensors */

typedef struct dw_compute_request {
    void *window;           /* host address, aligned as the device wants it for a wrap */
    uint64_t window_bytes;
    /* The window lies in its body: the wrap is kept there for the next request. NULL: it is not. */
    dw_region *region;
    const dw_compute_tensor *tensors; size_t n_tensors;
    const dw_compute_node *nodes; size_t n_nodes;
    bool copy;              /* take the explicit-copy path */
    /* Gives up between two nodes once it is true, where the device can (device.h); NULL: never. */
    const _Atomic bool *stop;
} dw_compute_request;

typedef struct dw_compute_report {
    uint64_t prepare_ns;    /* wrapping, or allocating and copying in */
    uint64_t compute_ns;
    uint64_t finish_ns;     /* unwrapping, or copying out */
    uint64_t wrapped_bytes, copied_bytes;
} dw_compute_report;

/* Bytes of a tensor, or DW_E_RANGE / DW_E_INVALID. */
dw_status dw_compute_tensor_bytes(const dw_compute_tensor *tensor, uint64_t *out) DW_MUST_USE;
/* Outputs that overlap inputs of the same node are refused. */
dw_status dw_compute_run(dw_device *device, const dw_compute_request *request, dw_compute_report *report,
                         dw_error *err) DW_MUST_USE;

#endif

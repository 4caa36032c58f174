/* cuda_driver.h: inside the module: the calls of NVIDIA's driver that we make ourselves.
 *
 * ggml's CUDA backend has no way to work in memory that it did not allocate. So the memory is ours (registered host
 * pages, mapped VRAM), and ggml computes in it. The driver's library is looked for while the program runs: without it
 * the program starts, and says why there is no such device. Nothing of NVIDIA's is needed to compile this: names,
 * numbers and layouts are the driver's stable interface (CUDA driver API, versions with _v2 where there is one).
 *
 * Rules
 * 1. Every call but `init` and those on devices is made between dw_cuda_enter and dw_cuda_leave.
 * 2. A test may put a table of its own in the driver's place (dw_cuda_driver_replace), before anything else asks.
 * Threads: any.
 */
#ifndef DW_DEVICE_CUDA_DRIVER_H
#define DW_DEVICE_CUDA_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef int dw_cu_result; /* 0: success */
typedef int dw_cu_device;
typedef uint64_t dw_cu_address, dw_cu_handle;
typedef struct dw_cu_context_opaque *dw_cu_context;

enum { DW_CU_OK = 0, DW_CU_OUT_OF_MEMORY = 2, DW_CU_ALREADY_REGISTERED = 712 };
enum { DW_CU_REGISTER_PORTABLE = 1, DW_CU_REGISTER_MAPPED = 2, DW_CU_REGISTER_READ_ONLY = 8 };
enum {
    DW_CU_ALLOCATION_PINNED = 1,
    DW_CU_LOCATION_DEVICE = 1,
    DW_CU_ACCESS_READ_WRITE = 3,
    DW_CU_GRANULARITY_MINIMUM = 0
};
enum { DW_CU_MEMORY_HOST = 1, DW_CU_MEMORY_DEVICE = 2 };

typedef struct dw_cu_location { int type, id; } dw_cu_location;

typedef struct dw_cu_allocation { /* CUmemAllocationProp */
    int type, handle_types;
    dw_cu_location location;
    void *windows_handle;
    struct { unsigned char compression, rdma; unsigned short usage; unsigned char reserved[4]; } flags;
} dw_cu_allocation;

typedef struct dw_cu_access { dw_cu_location location; int flags; } dw_cu_access; /* CUmemAccessDesc */

typedef struct dw_cu_copy_2d { /* CUDA_MEMCPY2D */
    size_t from_x, from_y;
    int from_type;
    const void *from_host;
    dw_cu_address from_device;
    void *from_array;
    size_t from_pitch;
    size_t to_x, to_y;
    int to_type;
    void *to_host;
    dw_cu_address to_device;
    void *to_array;
    size_t to_pitch;
    size_t width, height;
} dw_cu_copy_2d;

typedef struct dw_cuda_driver {
    dw_cu_result (*init)(unsigned flags);
    dw_cu_result (*error_text)(dw_cu_result result, const char **out);
    dw_cu_result (*device_get)(dw_cu_device *out, int ordinal);
    dw_cu_result (*primary_retain)(dw_cu_context *out, dw_cu_device device);
    dw_cu_result (*primary_release)(dw_cu_device device);
    dw_cu_result (*push)(dw_cu_context context);
    dw_cu_result (*pop)(dw_cu_context *out);
    /* host memory */
    dw_cu_result (*host_register)(void *address, size_t size, unsigned flags);
    dw_cu_result (*host_unregister)(void *address);
    dw_cu_result (*host_make)(void **out, size_t size); /* pinned memory of the driver's */
    dw_cu_result (*host_free)(void *address);
    dw_cu_result (*host_address)(dw_cu_address *out, void *address, unsigned flags);
    /* addresses and memory of the device */
    dw_cu_result (*granularity)(size_t *out, const dw_cu_allocation *what, int option);
    dw_cu_result (*reserve)(dw_cu_address *out, size_t size, size_t alignment, dw_cu_address near, uint64_t flags);
    dw_cu_result (*unreserve)(dw_cu_address address, size_t size);
    dw_cu_result (*create)(dw_cu_handle *out, size_t size, const dw_cu_allocation *what, uint64_t flags);
    dw_cu_result (*release)(dw_cu_handle handle);
    dw_cu_result (*map)(dw_cu_address address, size_t size, size_t offset, dw_cu_handle handle, uint64_t flags);
    dw_cu_result (*unmap)(dw_cu_address address, size_t size);
    dw_cu_result (*set_access)(dw_cu_address address, size_t size, const dw_cu_access *access, size_t count);
    /* copies; when they return they are done for the host */
    dw_cu_result (*copy_in)(dw_cu_address to, const void *from, size_t size);
    dw_cu_result (*copy_out)(void *to, dw_cu_address from, size_t size);
    dw_cu_result (*copy_across)(dw_cu_address to, dw_cu_address from, size_t size);
    dw_cu_result (*copy_2d)(const dw_cu_copy_2d *copy);
    dw_cu_result (*fill)(dw_cu_address to, unsigned char value, size_t size);
    dw_cu_result (*stream_wait)(void *stream); /* NULL: the one that the calls above are made in */
} dw_cuda_driver;

/* The driver, loaded and started once. DW_E_NOT_FOUND: it is not here, and err says what is missing. */
dw_status dw_cuda_driver_get(const dw_cuda_driver **out, dw_error *err) DW_MUST_USE;
/* For tests: `driver` stands for the system's; NULL: the system's again. */
void dw_cuda_driver_replace(const dw_cuda_driver *driver);

/* A device as we use it beside ggml: both have its primary context. */
typedef struct dw_cuda {
    const dw_cuda_driver *driver;
    dw_cu_device device;
    dw_cu_context context;
} dw_cuda;

dw_status dw_cuda_open(int ordinal, dw_cuda *out, dw_error *err) DW_MUST_USE;
void dw_cuda_close(dw_cuda *cuda);
dw_status dw_cuda_enter(const dw_cuda *cuda, dw_error *err) DW_MUST_USE;
void dw_cuda_leave(const dw_cuda *cuda);
/* DW_OK, DW_E_NO_MEMORY or DW_E_DEVICE, with the driver's text. */
dw_status dw_cuda_check(const dw_cuda *cuda, dw_cu_result result, const char *what, dw_error *err) DW_MUST_USE;

#endif

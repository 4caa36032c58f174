/* guard.h: inside the module: every call into ggml's C++ that can throw, with its exceptions caught.
 *
 * ggml's backends are C++ behind a C interface: Vulkan's throws vk::SystemError when a device is lost, and
 * std::bad_alloc can leave any of them. An exception that leaves through our C ends the process. So these calls are
 * made here alone, and what they throw becomes a status: DW_E_NO_MEMORY for std::bad_alloc, else DW_E_DEVICE with the
 * exception's text.
 *
 * Not here, read in the pinned source as calls that cannot throw: everything of ggml.c and of the thread pool is C;
 * ggml-alloc.c is C too, but allocates through a backend, so it is here. Of the C++: ggml_backend_buffer_is_host,
 * _get_base, _get_alloc_size and _set_usage, ggml_backend_get_default_buffer_type, ggml_backend_cpu_set_n_threads,
 * _set_threadpool and _set_abort_callback read or set a field. Kernels run on ggml's own threads, where no shim
 * reaches. tests/checks/layers.py holds the rest of src/ to this list. Read the source again when the pin moves.
 *
 * Rules
 * 1. C and C++ include this header, so it uses what both have.
 * Threads: those of what is called.
 */
#ifndef DW_DEVICE_GUARD_H
#define DW_DEVICE_GUARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "ggml-alloc.h"
#include "ggml-backend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --- what there is ------------------------------------------------------------------------------------------- */

/* The registry that `get` gives; NULL where there is no driver, or it throws. */
ggml_backend_reg_t dw_guard_registry(ggml_backend_reg_t (*get)(void));
size_t dw_guard_device_count(ggml_backend_reg_t registry); /* 0 also when it throws */
/* NULL when it throws. */
ggml_backend_dev_t dw_guard_device_at(ggml_backend_reg_t registry, size_t index);

typedef struct dw_guard_facts {
    enum ggml_backend_dev_type type;
    char description[128], backend[32];
    size_t alignment_bytes, memory_free_bytes, memory_bytes;
} dw_guard_facts;
dw_status dw_guard_describe(ggml_backend_dev_t device, dw_guard_facts *out, dw_error *err) DW_MUST_USE;
/* The device's further buffer types, a list that NULL ends; NULL for none. */
ggml_backend_buffer_type_t *dw_guard_extra_types(ggml_backend_dev_t device);
/* "AVX2+FMA+...": the features that a backend names as in use. "" for none. */
void dw_guard_features(ggml_backend_reg_t (*get)(void), char *out, size_t size);

/* --- a device ------------------------------------------------------------------------------------------------ */

dw_status dw_guard_open(ggml_backend_dev_t device, ggml_backend_t *out, dw_error *err) DW_MUST_USE;
void dw_guard_close(ggml_backend_t backend);
bool dw_guard_supports(ggml_backend_dev_t device, const struct ggml_tensor *node); /* false also when it throws */
/* DW_E_CANCELLED when the abort callback said so; what a device answers otherwise is DW_E_DEVICE with its text. */
dw_status dw_guard_compute(ggml_backend_t backend, struct ggml_cgraph *graph, dw_error *err) DW_MUST_USE;

/* --- buffers ------------------------------------------------------------------------------------------------- */

ggml_backend_buffer_type_t dw_guard_buffer_type(ggml_backend_dev_t device); /* NULL when it throws */
dw_status dw_guard_allocate(ggml_backend_buffer_type_t type, size_t size, ggml_backend_buffer_t *out,
                            dw_error *err) DW_MUST_USE;
/* A wrap of [address, +size); NULL where the backend has no such function, refuses, or throws. */
ggml_backend_buffer_t dw_guard_import(ggml_backend_dev_t device, void *address, size_t size);
/* Memory that is ours, for a buffer of a backend that wraps none itself. Addresses are those of the device. */
typedef struct dw_guard_memory {
    void (*release)(void *context); /* with the buffer */
    dw_status (*write)(void *context, void *to, const void *from, size_t size);
    dw_status (*read)(void *context, void *to, const void *from, size_t size);
    dw_status (*fill)(void *context, void *to, unsigned char value, size_t size);
} dw_guard_memory;
/* A buffer of this type at `base`, an address of the device. Releases the memory, also when it fails. */
dw_status dw_guard_over(ggml_backend_buffer_type_t type, void *base, size_t size, const dw_guard_memory *memory,
                        void *context, ggml_backend_buffer_t *out, dw_error *err) DW_MUST_USE;
void dw_guard_free(ggml_backend_buffer_t buffer); /* NULL is fine */
size_t dw_guard_bytes_of(ggml_backend_buffer_type_t type,
                         const struct ggml_tensor *tensor); /* SIZE_MAX when it throws */
dw_status dw_guard_place(ggml_backend_buffer_t buffer, struct ggml_tensor *tensor, void *address,
                         dw_error *err) DW_MUST_USE;
dw_status dw_guard_write(struct ggml_tensor *tensor, const void *data, size_t offset, size_t size) DW_MUST_USE;
dw_status dw_guard_read(const struct ggml_tensor *tensor, void *data, size_t offset, size_t size) DW_MUST_USE;

/* --- memory of graphs ---------------------------------------------------------------------------------------- */

ggml_gallocr_t dw_guard_allocator_create(ggml_backend_t backend); /* NULL: no memory */
void dw_guard_allocator_destroy(ggml_gallocr_t allocator);        /* NULL is fine */
dw_status dw_guard_allocator_place(ggml_gallocr_t allocator, struct ggml_cgraph *graph, dw_error *err) DW_MUST_USE;

#ifdef __cplusplus
}
#endif

#endif

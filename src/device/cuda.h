/* cuda.h: inside the module: ggml's CUDA backend as a module that is loaded when it is asked for, and buffers of it
 * over host memory.
 *
 * A wrap registers the pages with the driver: they are pinned, and a kernel reads them over the bus. The driver looks
 * at page tables once: after a map is laid over a registered page the device goes on with the old page, silently. So a
 * wrap ends before its pages change (device.h rule 1).
 */
#ifndef DW_DEVICE_CUDA_H
#define DW_DEVICE_CUDA_H

#include "device/cuda_driver.h"
#include "device/guard.h"

/* ggml's registry; NULL where the module, a library that it needs, or the driver is missing: dw_cuda_why says what. */
ggml_backend_reg_t dw_cuda_registry(void);
/* Why there is no CUDA device. */
void dw_cuda_why(char *out, size_t size);

/* A buffer over [address, +size), whole pages, on ggml's device of number `ordinal`. `writable` false: a read-only map.
 * DW_E_UNSUPPORTED: the driver does not register these pages, with its reason. The buffer needs no dw_cuda. */
dw_status dw_cuda_wrap(int ordinal, ggml_backend_buffer_type_t type, void *address, size_t size, bool writable,
                       ggml_backend_buffer_t *out, dw_error *err) DW_MUST_USE;

#endif

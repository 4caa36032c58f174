/* device_internal.h: what device.c and device_list.c share. Not for other modules. */
#ifndef DW_DEVICE_DEVICE_INTERNAL_H
#define DW_DEVICE_DEVICE_INTERNAL_H

#include "device/device.h"
#include "device/guard.h"
#include "ggml-backend.h"

/* One device as this build knows it before it is opened. */
typedef struct dw_device_found {
    dw_device_info info;
    bool tried;             /* false: there was no memory to find out what it can, so `info` does not say it */
    ggml_backend_dev_t ggml;
    int cuda_ordinal;       /* number of a CUDA device; -1: it is none */
} dw_device_found;

enum { DW_DEVICES_MAX = 32 };

/* Devices whose backend is `backend` ("cpu", "vulkan"; NULL = all), cpu first. Only the backends asked for are woken
 * up: loading a graphics driver takes tens of milliseconds that a run on the CPU need not spend. */
size_t dw_device_find(const char *backend, dw_device_found *out, size_t capacity);

/* One more who closes it: a kept wrap, which may outlive who opened the device. */
void dw_device_hold(dw_device *device);

/* CUDA's number of the device; -1: it is none of CUDA's. */
int dw_device_cuda_ordinal(const dw_device *device);
/* A buffer over memory that somebody else counts; releases it, also when it fails (guard.h). */
dw_status dw_device_buffer_over(dw_device *device, void *base, uint64_t size, const dw_guard_memory *memory,
                                void *context, dw_buffer **out, dw_error *err) DW_MUST_USE;

/* A wrap by whatever way the device has. NULL and a status when it has none, or refuses. */
dw_status dw_device_import(const dw_device_found *found, void *address, uint64_t size, bool writable,
                           ggml_backend_buffer_t *out, dw_error *err) DW_MUST_USE;

/* ggml's message hook into our log; once per process. */
void dw_device_quiet_ggml(void);

/* repack.c: dw_device_repacks on ggml's device; and the types that it says yes to, "q4_0 q4_K", or "" for none. */
ggml_backend_buffer_type_t dw_device_repacks_of(ggml_backend_dev_t device, const struct ggml_tensor *weight);
void dw_device_repack_types(ggml_backend_dev_t device, char *out, size_t size);

#endif

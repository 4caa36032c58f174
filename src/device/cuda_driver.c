/* cuda_driver.c: finding NVIDIA's driver, and its contexts. */
#include "device/cuda_driver.h"

#include <stdatomic.h>
#include <string.h>

#include "base/base.h"
#include "os/os.h"

static const dw_cuda_driver *_Atomic cuda_replaced;

/* Where each call of the table is found in the library. */
static const struct cuda_symbol { const char *name; size_t place; } cuda_symbols[] = {
    {"cuInit", offsetof(dw_cuda_driver, init)},
    {"cuGetErrorString", offsetof(dw_cuda_driver, error_text)},
    {"cuDeviceGet", offsetof(dw_cuda_driver, device_get)},
    {"cuDevicePrimaryCtxRetain", offsetof(dw_cuda_driver, primary_retain)},
    {"cuDevicePrimaryCtxRelease_v2", offsetof(dw_cuda_driver, primary_release)},
    {"cuCtxPushCurrent_v2", offsetof(dw_cuda_driver, push)},
    {"cuCtxPopCurrent_v2", offsetof(dw_cuda_driver, pop)},
    {"cuMemHostRegister_v2", offsetof(dw_cuda_driver, host_register)},
    {"cuMemHostUnregister", offsetof(dw_cuda_driver, host_unregister)},
    {"cuMemAllocHost_v2", offsetof(dw_cuda_driver, host_make)},
    {"cuMemFreeHost", offsetof(dw_cuda_driver, host_free)},
    {"cuMemHostGetDevicePointer_v2", offsetof(dw_cuda_driver, host_address)},
    {"cuMemGetAllocationGranularity", offsetof(dw_cuda_driver, granularity)},
    {"cuMemAddressReserve", offsetof(dw_cuda_driver, reserve)},
    {"cuMemAddressFree", offsetof(dw_cuda_driver, unreserve)},
    {"cuMemCreate", offsetof(dw_cuda_driver, create)},
    {"cuMemRelease", offsetof(dw_cuda_driver, release)},
    {"cuMemMap", offsetof(dw_cuda_driver, map)},
    {"cuMemUnmap", offsetof(dw_cuda_driver, unmap)},
    {"cuMemSetAccess", offsetof(dw_cuda_driver, set_access)},
    {"cuMemcpyHtoD_v2", offsetof(dw_cuda_driver, copy_in)},
    {"cuMemcpyDtoH_v2", offsetof(dw_cuda_driver, copy_out)},
    {"cuMemcpyDtoD_v2", offsetof(dw_cuda_driver, copy_across)},
    {"cuMemcpy2D_v2", offsetof(dw_cuda_driver, copy_2d)},
    {"cuMemsetD8_v2", offsetof(dw_cuda_driver, fill)},
    {"cuStreamSynchronize", offsetof(dw_cuda_driver, stream_wait)},
};
enum { CUDA_SYMBOLS = sizeof cuda_symbols / sizeof cuda_symbols[0] };
_Static_assert(sizeof(dw_cuda_driver) == CUDA_SYMBOLS * sizeof(void (*)(void)), "each call has a name");

static dw_status cuda_fill_table(dw_cuda_driver *table, dw_error *err) {
    void *library = NULL;
    dw_status status = dw_os_library_open("libcuda.so.1", &library, err);
    if (status != DW_OK) return dw_error_prefix(err, status, "no NVIDIA driver");
    for (size_t i = 0; i < CUDA_SYMBOLS; i++) {
        void *symbol = dw_os_library_symbol(library, cuda_symbols[i].name);
        if (symbol == NULL) {
            return dw_fail(err, DW_E_NOT_FOUND, "NVIDIA's driver has no %s: it is too old", cuda_symbols[i].name);
        }
        memcpy((char *)table + cuda_symbols[i].place, &symbol, sizeof symbol);
    }
    dw_cu_result result = table->init(0);
    return result == DW_CU_OK ? DW_OK
                              : dw_fail(err, DW_E_NOT_FOUND, "NVIDIA's driver does not start (error %d)", result);
}

dw_status dw_cuda_driver_get(const dw_cuda_driver **out, dw_error *err) {
    static dw_cuda_driver table;
    static atomic_int state; /* 0: nobody asked, 1: somebody fills it, 2: it is filled */
    *out = atomic_load(&cuda_replaced);
    if (*out != NULL) return DW_OK;
    for (;;) {
        int seen = 0;
        if (atomic_load(&state) == 2) {
            *out = &table;
            return DW_OK;
        }
        if (atomic_compare_exchange_strong(&state, &seen, 1)) break;
        dw_os_sleep(1000000);
    }
    dw_status status = cuda_fill_table(&table, err);
    atomic_store(&state, status == DW_OK ? 2 : 0); /* a driver may be installed while we run */
    if (status == DW_OK) *out = &table;
    return status;
}

void dw_cuda_driver_replace(const dw_cuda_driver *driver) { atomic_store(&cuda_replaced, driver); }

dw_status dw_cuda_check(const dw_cuda *cuda, dw_cu_result result, const char *what, dw_error *err) {
    const char *text = NULL;
    if (result == DW_CU_OK) return DW_OK;
    if (cuda->driver->error_text(result, &text) != DW_CU_OK || text == NULL) text = "an error without a text";
    return dw_fail(err, result == DW_CU_OUT_OF_MEMORY ? DW_E_NO_MEMORY : DW_E_DEVICE, "%s: %s (%d)", what, text,
                   result);
}

dw_status dw_cuda_open(int ordinal, dw_cuda *out, dw_error *err) {
    *out = (dw_cuda){0};
    dw_status status = dw_cuda_driver_get(&out->driver, err);
    if (status != DW_OK) return status;
    status = dw_cuda_check(out, out->driver->device_get(&out->device, ordinal), "a CUDA device", err);
    if (status == DW_OK) {
        status = dw_cuda_check(out, out->driver->primary_retain(&out->context, out->device), "a CUDA context", err);
    }
    if (status != DW_OK) *out = (dw_cuda){0};
    return status;
}

void dw_cuda_close(dw_cuda *cuda) {
    if (cuda->context != NULL) (void)cuda->driver->primary_release(cuda->device);
    *cuda = (dw_cuda){0};
}

dw_status dw_cuda_enter(const dw_cuda *cuda, dw_error *err) {
    return dw_cuda_check(cuda, cuda->driver->push(cuda->context), "a CUDA context", err);
}

void dw_cuda_leave(const dw_cuda *cuda) {
    dw_cu_context ours = NULL;
    (void)cuda->driver->pop(&ours);
}

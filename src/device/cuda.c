/* cuda.c: see cuda.h. */
#include "device/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "os/os.h"

/* --- the backend --------------------------------------------------------------------------------------------- */

#ifdef DW_GGML_CUDA
static dw_status cuda_find_backend(ggml_backend_reg_t (**out)(void), dw_error *err) {
    void *library = NULL;
    const dw_cuda_driver *driver = NULL;
    dw_status status = dw_cuda_driver_get(&driver, err);
    if (status == DW_OK) status = dw_os_library_open("libdriftwood-cuda.so", &library, err);
    if (status != DW_OK) return status;
    void *symbol = dw_os_library_symbol(library, "ggml_backend_cuda_reg");
    if (symbol == NULL) return dw_fail(err, DW_E_NOT_FOUND, "libdriftwood-cuda.so is not ggml's CUDA backend");
    memcpy(out, &symbol, sizeof symbol);
    return DW_OK;
}
#else
static dw_status cuda_find_backend(ggml_backend_reg_t (**out)(void), dw_error *err) {
    *out = NULL;
    return dw_fail(err, DW_E_NOT_FOUND, "this build is without CUDA");
}
#endif

ggml_backend_reg_t dw_cuda_registry(void) {
    ggml_backend_reg_t (*get)(void) = NULL;
    dw_error err = {0};
    if (cuda_find_backend(&get, &err) != DW_OK) {
        dw_log(DW_LOG_DEBUG, "cuda", "missing=\"%s\"", err.text);
        return NULL;
    }
    return get();
}

void dw_cuda_why(char *out, size_t size) {
    ggml_backend_reg_t (*get)(void) = NULL;
    dw_error err = {0};
    dw_status status = cuda_find_backend(&get, &err);
    (void)snprintf(out, size, "%s", status == DW_OK ? "the driver knows no device" : err.text);
}

/* --- host memory --------------------------------------------------------------------------------------------- */

typedef struct cuda_pages {
    dw_cuda cuda;
    void *address;
} cuda_pages;

static void cuda_unregister(void *context) {
    cuda_pages *pages = context;
    dw_error err = {0};
    dw_status status = dw_cuda_enter(&pages->cuda, &err);
    if (status == DW_OK) {
        const dw_cuda_driver *driver = pages->cuda.driver;
        status = dw_cuda_check(&pages->cuda, driver->host_unregister(pages->address), "cannot unregister host memory",
                               &err);
        dw_cuda_leave(&pages->cuda);
    }
    if (status != DW_OK) dw_log(DW_LOG_ERROR, "cuda", "error=\"%s\"", err.text);
    dw_cuda_close(&pages->cuda);
    free(pages);
}

/* The pages are the host's: it reads and writes them itself, when no graph runs. */
static dw_status cuda_pages_write(void *context, void *to, const void *from, size_t size) {
    (void)context;
    memcpy(to, from, size);
    return DW_OK;
}

static dw_status cuda_pages_fill(void *context, void *to, unsigned char value, size_t size) {
    (void)context;
    memset(to, value, size);
    return DW_OK;
}

static const dw_guard_memory cuda_pages_memory = {
    .release = cuda_unregister, .write = cuda_pages_write, .read = cuda_pages_write, .fill = cuda_pages_fill};

static dw_status cuda_register(const cuda_pages *pages, size_t size, bool writable, dw_error *err) {
    const dw_cuda_driver *driver = pages->cuda.driver;
    unsigned flags = DW_CU_REGISTER_MAPPED | DW_CU_REGISTER_PORTABLE | (writable ? 0u : DW_CU_REGISTER_READ_ONLY);
    dw_cu_address seen = 0;
    dw_status status = dw_cuda_enter(&pages->cuda, err);
    if (status != DW_OK) return status;
    dw_cu_result result = driver->host_register(pages->address, size, flags);
    status = dw_cuda_check(&pages->cuda, result, "cannot register host memory", err);
    if (status == DW_E_DEVICE) { /* not these pages; the device is well */
        status = DW_E_UNSUPPORTED;
        if (err != NULL) err->status = status;
    }
    if (status == DW_OK) {
        /* One address for both, or the host's is not what a tensor may be given. */
        result = driver->host_address(&seen, pages->address, 0);
        if (result != DW_CU_OK || seen != (dw_cu_address)(uintptr_t)pages->address) {
            status = dw_fail(err, DW_E_UNSUPPORTED, "the device sees host memory at addresses of its own");
            (void)driver->host_unregister(pages->address);
        }
    }
    dw_cuda_leave(&pages->cuda);
    return status;
}

dw_status dw_cuda_wrap(int ordinal, ggml_backend_buffer_type_t type, void *address, size_t size, bool writable,
                       ggml_backend_buffer_t *out, dw_error *err) {
    *out = NULL;
    cuda_pages *pages = calloc(1, sizeof *pages);
    if (pages == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a wrap");
    pages->address = address;
    dw_status status = dw_cuda_open(ordinal, &pages->cuda, err);
    if (status == DW_OK) {
        status = cuda_register(pages, size, writable, err);
        if (status == DW_OK) return dw_guard_over(type, address, size, &cuda_pages_memory, pages, out, err);
        dw_cuda_close(&pages->cuda);
    }
    free(pages);
    return status;
}

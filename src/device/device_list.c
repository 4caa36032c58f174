/* device_list.c: which devices there are and what they can do.
 *
 * ggml tells less than we need, so two facts are found by trying: whether host memory can be wrapped (one page is), and
 * how large a tensor of one operation may be (supports_op is asked about ever larger ones; nothing is allocated).
 */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "device/cuda.h"
#include "device/device_internal.h"
#include "device/guard.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "os/os.h"
#ifdef DW_GGML_VULKAN
#include "ggml-vulkan.h"
#endif
#ifdef DW_GGML_METAL
#include "ggml-metal.h"
#endif

/* Names are what dw_device_open takes; with several devices of a backend a number follows. */
static const struct backend_row {
    const char *name;
    ggml_backend_reg_t (*reg)(void);
    bool addresses_are_host; /* a tensor's data pointer may be followed on the host */
} backends[] = {
    {"cpu", ggml_backend_cpu_reg, true},
#ifdef DW_GGML_VULKAN
    {"vulkan", ggml_backend_vk_reg, false},
#endif
    {"cuda", dw_cuda_registry, false},
#ifdef DW_GGML_METAL
    {"metal", ggml_backend_metal_reg, false},
#endif
};
enum { N_BACKENDS = sizeof backends / sizeof backends[0] };

static void log_from_ggml(enum ggml_log_level level, const char *text, void *context) {
    (void)context;
    /* ggml's pieces end in a line break, which one line per event cannot use. */
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n') length--;
    if (length == 0) return;
    dw_log_level ours = level == GGML_LOG_LEVEL_ERROR ? DW_LOG_ERROR : DW_LOG_DEBUG;
    dw_log(ours, "ggml", "text=\"%.*s\"", (int)length, text);
}

void dw_device_quiet_ggml(void) {
    static atomic_flag done = ATOMIC_FLAG_INIT;
    if (!atomic_flag_test_and_set(&done)) ggml_log_set(log_from_ggml, NULL);
}

dw_status dw_device_import(const dw_device_found *found, void *address, uint64_t size, bool writable,
                           ggml_backend_buffer_t *out, dw_error *err) {
    if (found->cuda_ordinal >= 0) {
        return dw_cuda_wrap(found->cuda_ordinal, dw_guard_buffer_type(found->ggml), address, (size_t)size, writable,
                            out, err);
    }
    *out = dw_guard_import(found->ggml, address, (size_t)size);
    return *out != NULL ? DW_OK : dw_fail(err, DW_E_UNSUPPORTED, "it does not import %llu bytes at this address",
                                          (unsigned long long)size);
}

/* Sets info.can_wrap. False: there was no page to try it with, which says
 * nothing about the device. */
static bool try_to_import_a_page(dw_device_found *found) {
    size_t page = dw_os_page_bytes();
    void *address = NULL;
    if (dw_os_map_reserve(page, &address, NULL) != DW_OK) return false;
    bool tried = dw_os_map_anonymous(address, page, NULL) == DW_OK;
    if (tried) {
        ggml_backend_buffer_t buffer = NULL;
        found->info.can_wrap = dw_device_import(found, address, page, true, &buffer, NULL) == DW_OK;
        dw_guard_free(buffer);
    }
    dw_os_unmap(address, page);
    return tried;
}

/* Whether the device would add two tensors of n floats. */
static bool adds(ggml_backend_dev_t device, int64_t n) {
    struct ggml_init_params params = {.mem_size = 4 * ggml_tensor_overhead(), .no_alloc = true};
    struct ggml_context *context = ggml_init(params);
    if (context == NULL) return false;
    struct ggml_tensor *a = ggml_new_tensor_1d(context, GGML_TYPE_F32, n);
    struct ggml_tensor *b = ggml_new_tensor_1d(context, GGML_TYPE_F32, n);
    bool yes = dw_guard_supports(device, ggml_add(context, a, b));
    ggml_free(context);
    return yes;
}

static uint64_t largest_tensor_bytes(ggml_backend_dev_t device) {
    int64_t low = 0, high = INT64_C(1) << 40; /* in floats: low works, high does not or is beyond every memory */
    if (adds(device, high)) return UINT64_MAX;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (adds(device, middle)) low = middle; else high = middle;
    }
    return (uint64_t)low * sizeof(float);
}

static bool is_software(const char *description) {
    return strstr(description, "llvmpipe") != NULL || strstr(description, "lavapipe") != NULL ||
           strstr(description, "SwiftShader") != NULL;
}

static dw_device_kind kind_of(enum ggml_backend_dev_type type, const char *description) {
    if (type == GGML_BACKEND_DEVICE_TYPE_CPU) return DW_DEVICE_CPU;
    if (is_software(description)) return DW_DEVICE_GPU_SOFTWARE;
    return type == GGML_BACKEND_DEVICE_TYPE_IGPU ? DW_DEVICE_GPU_UNIFIED : DW_DEVICE_GPU_DISCRETE;
}

/* False for a device that cannot tell what it is. */
static bool describe(const struct backend_row *row, size_t index, dw_device_found *found) {
    ggml_backend_dev_t device = found->ggml;
    dw_device_info *info = &found->info;
    dw_guard_facts facts;
    dw_error err = {0};
    memset(info, 0, sizeof *info);
    if (dw_guard_describe(device, &facts, &err) != DW_OK) {
        dw_log(DW_LOG_ERROR, "device", "name=%s%zu error=\"%s\"", row->name, index, err.text);
        return false;
    }
    if (index == 0) snprintf(info->name, sizeof info->name, "%s", row->name);
    else snprintf(info->name, sizeof info->name, "%s%zu", row->name, index);
    memcpy(info->description, facts.description, sizeof info->description);
    memcpy(info->backend, facts.backend, sizeof info->backend);
    info->kind = kind_of(facts.type, info->description);
    info->addresses_are_host = row->addresses_are_host;
    info->tensor_align_bytes = facts.alignment_bytes;
    info->memory_bytes = facts.memory_bytes;
    info->memory_free_bytes = facts.memory_free_bytes;
    found->cuda_ordinal = strcmp(row->name, "cuda") == 0 ? (int)index : -1;
    found->tried = try_to_import_a_page(found);
    if (!found->tried) {
        snprintf(info->reason, sizeof info->reason, "there was no memory to find out what it can");
    } else if (info->can_wrap) {
        /* An import is of whole pages everywhere but on the CPU, where a wrap is a pointer. How much one import may
         * cover is not told by ggml: it refuses what is too much. */
        info->wrap_align_bytes = info->kind == DW_DEVICE_CPU ? info->tensor_align_bytes : dw_os_page_bytes();
        info->wrap_bytes_max = UINT64_MAX;
    } else {
        snprintf(info->reason, sizeof info->reason, "%s cannot import host memory; data is copied, and counted",
                 info->backend);
    }
    dw_device_repack_types(device, info->repacks, sizeof info->repacks);
    info->tensor_bytes_max = info->kind == DW_DEVICE_CPU ? UINT64_MAX : largest_tensor_bytes(device);
    return true;
}

size_t dw_device_find(const char *backend, dw_device_found *out, size_t capacity) {
    dw_device_quiet_ggml();
    size_t found = 0;
    for (size_t b = 0; b < N_BACKENDS; b++) {
        if (backend != NULL && strcmp(backend, backends[b].name) != 0) continue;
        ggml_backend_reg_t reg = dw_guard_registry(backends[b].reg);
        if (reg == NULL) continue; /* no driver here */
        size_t count = dw_guard_device_count(reg);
        for (size_t i = 0; i < count; i++) {
            ggml_backend_dev_t device = dw_guard_device_at(reg, i);
            dw_device_found one = {.ggml = device, .cuda_ordinal = -1};
            if (device == NULL || (found < capacity && !describe(&backends[b], i, &one))) continue;
            if (found < capacity) out[found] = one;
            found++;
        }
    }
    return found;
}

size_t dw_device_list(dw_device_info *out, size_t capacity) {
    dw_device_found found[DW_DEVICES_MAX];
    size_t n = dw_device_find(NULL, found, DW_DEVICES_MAX);
    for (size_t i = 0; i < n && i < capacity && i < DW_DEVICES_MAX; i++) out[i] = found[i].info;
    return n;
}

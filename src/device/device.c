/* device.c: an open device, its buffers, its graphs, its ledger. */
#include "device/device.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/device_internal.h"
#include "device/guard.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include "os/os.h"

struct dw_device {
    dw_device_info info;
    ggml_backend_dev_t ggml;
    ggml_backend_t backend;
    ggml_threadpool_t pool; /* CPU only; NULL with one thread */
    unsigned threads;
    dw_os_mutex *computing; /* a graph runs */
    /* Read by any thread while the device works. */
    _Atomic uint64_t wrapped, copied_in, copied_out, allocated_now, allocated_peak, graphs, nodes;
};

struct dw_buffer {
    dw_device *device;
    ggml_backend_buffer_t ggml;
    uint64_t size;
    bool is_wrap;
};

/* --- opening ------------------------------------------------------------------------------------------------- */

static dw_status not_found(const char *name, dw_error *err) {
    dw_device_found found[DW_DEVICES_MAX];
    size_t n = dw_device_find(NULL, found, DW_DEVICES_MAX);
    char names[96] = "";
    size_t length = 0;
    for (size_t i = 0; i < n && i < DW_DEVICES_MAX; i++) {
        int written = snprintf(names + length, sizeof names - length, "%s%s", i == 0 ? "" : ", ", found[i].info.name);
        if (written < 0 || (size_t)written >= sizeof names - length) break;
        length += (size_t)written;
    }
    bool vulkan = strncmp(name, "vulkan", 6) == 0;
    return dw_fail(err, DW_E_NOT_FOUND, "no device \"%.32s\" here; there is: %s%s", name, names,
                   vulkan ? " (a software Vulkan shows with GGML_VK_VISIBLE_DEVICES=0)" : "");
}

/* "vulkan1" -> "vulkan", 1; "vulkan" and "vulkan0" -> "vulkan", 0. */
static bool split_name(const char *name, char backend[32], size_t *index) {
    size_t length = strcspn(name, "0123456789");
    if (length == 0 || length >= 32) return false;
    memcpy(backend, name, length);
    backend[length] = 0;
    *index = 0;
    for (const char *digit = name + length; *digit != 0; digit++) {
        if (*digit < '0' || *digit > '9' || *index >= DW_DEVICES_MAX) return false;
        *index = *index * 10 + (size_t)(*digit - '0');
    }
    return *index < DW_DEVICES_MAX;
}

static dw_status start_threads(dw_device *device, dw_error *err) {
    ggml_backend_cpu_set_n_threads(device->backend, (int)device->threads);
    if (device->threads < 2) return DW_OK;
    /* Without a pool ggml makes its threads anew for each graph. */
    struct ggml_threadpool_params params = ggml_threadpool_params_default((int)device->threads);
    /* Waiting for the next graph: some milliseconds of spinning bridge the gap between two steps, then a thread sleeps.
     * ggml's default of 50 decodes no faster and spins for 150 ms and more behind each answer. Until the first graph
     * they sleep: loading wants the cores. */
    params.poll = 4;
    params.paused = true;
    device->pool = ggml_threadpool_new(&params);
    if (device->pool == NULL) return dw_fail(err, DW_E_SYSTEM, "cannot start %u compute threads", device->threads);
    ggml_backend_cpu_set_threadpool(device->backend, device->pool);
    return DW_OK;
}

dw_status dw_device_open(const char *name, const dw_device_options *options, dw_device **out, dw_error *err) {
    *out = NULL;
    char backend[32];
    size_t index;
    dw_device_found found[DW_DEVICES_MAX];
    if (!split_name(name, backend, &index) || index >= dw_device_find(backend, found, DW_DEVICES_MAX))
        return not_found(name, err);

    if (!found[index].tried) return dw_fail(err, DW_E_NO_MEMORY, "no memory to find out what device %s can", name);

    dw_device *device = calloc(1, sizeof *device);
    if (device == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a device");
    dw_status status = dw_os_mutex_create(&device->computing, err);
    if (status != DW_OK) goto out;
    device->info = found[index].info;
    device->ggml = found[index].ggml;
    unsigned threads = options != NULL && options->threads != 0 ? options->threads : dw_os_cpu_count();
    device->threads = threads > GGML_MAX_N_THREADS ? GGML_MAX_N_THREADS : threads;
    status = dw_guard_open(device->ggml, &device->backend, err);
    if (status != DW_OK) {
        status = dw_error_prefix(err, status, "device %s (%s) cannot be opened: ", device->info.name,
                                 device->info.description);
        goto out;
    }
    if (device->info.kind == DW_DEVICE_CPU) status = start_threads(device, err);
out:
    if (status != DW_OK) dw_device_close(device);
    else *out = device;
    return status;
}

void dw_device_close(dw_device *device) {
    if (device == NULL) return;
    if (device->backend != NULL) dw_guard_close(device->backend);
    if (device->pool != NULL) ggml_threadpool_free(device->pool);
    if (device->computing != NULL) dw_os_mutex_destroy(device->computing);
    free(device);
}

const dw_device_info *dw_device_info_view(const dw_device *device) { return &device->info; }
unsigned dw_device_threads(const dw_device *device) { return device->threads; }

/* --- ledger -------------------------------------------------------------------------------------------------- */

void dw_device_count_allocation(dw_device *device, uint64_t bytes) {
    uint64_t now = atomic_fetch_add(&device->allocated_now, bytes) + bytes;
    uint64_t peak = atomic_load(&device->allocated_peak);
    while (now > peak && !atomic_compare_exchange_weak(&device->allocated_peak, &peak, now)) {}
}

void dw_device_count_release(dw_device *device, uint64_t bytes) { atomic_fetch_sub(&device->allocated_now, bytes); }

void dw_device_count_copied_out(dw_device *device, uint64_t bytes) { atomic_fetch_add(&device->copied_out, bytes); }

dw_ledger dw_device_ledger(const dw_device *device) {
    return (dw_ledger){
        .wrapped = atomic_load(&device->wrapped),
        .copied_in = atomic_load(&device->copied_in),
        .copied_out = atomic_load(&device->copied_out),
        .allocated_now = atomic_load(&device->allocated_now),
        .allocated_peak = atomic_load(&device->allocated_peak),
        .graphs = atomic_load(&device->graphs),
        .nodes = atomic_load(&device->nodes),
    };
}

/* --- buffers ------------------------------------------------------------------------------------------------- */

static dw_status buffer_of(dw_device *device, ggml_backend_buffer_t ggml, uint64_t size, bool is_wrap, dw_buffer **out,
                           dw_error *err) {
    dw_buffer *buffer = malloc(sizeof *buffer);
    if (buffer == NULL) {
        dw_guard_free(ggml);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for a buffer");
    }
    *buffer = (dw_buffer){.device = device, .ggml = ggml, .size = size, .is_wrap = is_wrap};
    *out = buffer;
    return DW_OK;
}

dw_status dw_device_wrap(dw_device *device, void *address, uint64_t size, bool writable, dw_buffer **out,
                         dw_error *err) {
    *out = NULL;
    const dw_device_info *info = &device->info;
    if (!info->can_wrap) return dw_fail(err, DW_E_UNSUPPORTED, "device %s cannot wrap host memory", info->name);
    if (address == NULL || size == 0 || size > SIZE_MAX) return dw_fail(err, DW_E_INVALID, "nothing to wrap");
    if ((uintptr_t)address % info->wrap_align_bytes != 0 ||
        (info->kind != DW_DEVICE_CPU && size % info->wrap_align_bytes != 0)) {
        return dw_fail(err, DW_E_INVALID, "device %s wraps multiples of %llu bytes", info->name,
                       (unsigned long long)info->wrap_align_bytes);
    }
    ggml_backend_buffer_t ggml = dw_guard_import(device->ggml, address, (size_t)size);
    if (ggml == NULL) {
        return dw_fail(err, DW_E_UNSUPPORTED, "device %s does not import %llu bytes at this address", info->name,
                       (unsigned long long)size);
    }
    /* Read-only pages are weights; backends place and prefetch those differently. */
    ggml_backend_buffer_set_usage(ggml, writable ? GGML_BACKEND_BUFFER_USAGE_ANY : GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    dw_status status = buffer_of(device, ggml, size, true, out, err);
    if (status == DW_OK) atomic_fetch_add(&device->wrapped, size);
    return status;
}

static dw_status allocate(dw_device *device, ggml_backend_buffer_type_t type, uint64_t size, dw_buffer **out,
                          dw_error *err) {
    *out = NULL;
    if (size == 0 || size > SIZE_MAX) return dw_fail(err, DW_E_INVALID, "nothing to allocate");
    ggml_backend_buffer_t ggml = NULL;
    dw_status status = dw_guard_allocate(type, (size_t)size, &ggml, err);
    if (status != DW_OK) return dw_error_prefix(err, status, "device %s: ", device->info.name);
    status = buffer_of(device, ggml, size, false, out, err);
    if (status == DW_OK) dw_device_count_allocation(device, size);
    return status;
}

dw_status dw_device_allocate(dw_device *device, uint64_t size, dw_buffer **out, dw_error *err) {
    return allocate(device, dw_guard_buffer_type(device->ggml), size, out, err);
}

struct ggml_backend_buffer_type *dw_device_repacks(dw_device *device, const struct ggml_tensor *weight) {
    return dw_device_repacks_of(device->ggml, weight);
}

dw_status dw_device_allocate_repacked(dw_device *device, struct ggml_backend_buffer_type *type, uint64_t size,
                                      dw_buffer **out, dw_error *err) {
    dw_status status = allocate(device, type, size, out, err);
    if (status == DW_OK) ggml_backend_buffer_set_usage((*out)->ggml, GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
    return status;
}

void dw_buffer_destroy(dw_buffer *buffer) {
    if (buffer == NULL) return;
    dw_guard_free(buffer->ggml);
    if (!buffer->is_wrap) dw_device_count_release(buffer->device, buffer->size);
    free(buffer);
}

uint64_t dw_buffer_size(const dw_buffer *buffer) { return buffer->size; }
void *dw_buffer_base(const dw_buffer *buffer) { return ggml_backend_buffer_get_base(buffer->ggml); }
struct ggml_backend_buffer *dw_buffer_ggml(const dw_buffer *buffer) { return buffer->ggml; }

dw_status dw_buffer_place(dw_buffer *buffer, struct ggml_tensor *tensor, uint64_t offset, dw_error *err) {
    if (tensor->data != NULL || tensor->buffer != NULL || tensor->view_src != NULL) {
        return dw_fail(err, DW_E_INVALID, "tensor %s already has memory", tensor->name);
    }
    if (offset % buffer->device->info.tensor_align_bytes != 0) {
        return dw_fail(err, DW_E_INVALID, "tensor %s at offset %llu: the device wants multiples of %llu", tensor->name,
                       (unsigned long long)offset, (unsigned long long)buffer->device->info.tensor_align_bytes);
    }
    /* More than the tensor's own bytes where a backend pads rows; a tensor that lies in somebody's file cannot give it
     * that. */
    uint64_t bytes = ggml_backend_buffer_get_alloc_size(buffer->ggml, tensor);
    if (!dw_in_range(offset, bytes, buffer->size)) {
        return dw_fail(err, DW_E_RANGE, "tensor %s needs %llu bytes at offset %llu of a buffer of %llu", tensor->name,
                       (unsigned long long)bytes, (unsigned long long)offset, (unsigned long long)buffer->size);
    }
    return dw_guard_place(buffer->ggml, tensor, (char *)dw_buffer_base(buffer) + offset, err);
}

/* --- memory of graphs ---------------------------------------------------------------------------------------- */

struct ggml_gallocr *dw_device_allocator_create(dw_device *device) {
    return dw_guard_allocator_create(device->backend);
}
void dw_device_allocator_destroy(struct ggml_gallocr *allocator) { dw_guard_allocator_destroy(allocator); }

dw_status dw_device_allocator_place(struct ggml_gallocr *allocator, struct ggml_cgraph *graph, dw_error *err) {
    return dw_guard_allocator_place(allocator, graph, err);
}

void dw_device_features(char *out, size_t size) { dw_guard_features(ggml_backend_cpu_reg, out, size); }

/* --- copies and graphs --------------------------------------------------------------------------------------- */

dw_status dw_tensor_write(dw_device *device, struct ggml_tensor *tensor, const void *data, uint64_t offset,
                          uint64_t size) {
    if (tensor->data == NULL || !dw_in_range(offset, size, ggml_nbytes(tensor))) return DW_E_RANGE;
    dw_status status = dw_guard_write(tensor, data, (size_t)offset, (size_t)size);
    if (status == DW_OK) atomic_fetch_add(&device->copied_in, size);
    return status;
}

dw_status dw_tensor_read(dw_device *device, const struct ggml_tensor *tensor, void *data, uint64_t offset,
                         uint64_t size) {
    if (tensor->data == NULL || !dw_in_range(offset, size, ggml_nbytes(tensor))) return DW_E_RANGE;
    dw_status status = dw_guard_read(tensor, data, (size_t)offset, (size_t)size);
    if (status == DW_OK) atomic_fetch_add(&device->copied_out, size);
    return status;
}

/* Backends copy tensors, not bytes, and some address a tensor by 32 bits: a large copy goes in pieces, each as a tensor
 * of bytes. */
dw_status dw_buffer_write(dw_buffer *buffer, uint64_t offset, const void *data, uint64_t size, dw_error *err) {
    const uint64_t piece_bytes_max = UINT64_C(256) << 20;
    dw_status status = DW_OK;
    if (!dw_in_range(offset, size, buffer->size)) return dw_fail(err, DW_E_RANGE, "the copy leaves the buffer");
    for (uint64_t done = 0; status == DW_OK && done < size;) {
        uint64_t piece = dw_min_u64(size - done, piece_bytes_max);
        struct ggml_init_params params = {.mem_size = ggml_tensor_overhead(), .no_alloc = true};
        struct ggml_context *context = ggml_init(params);
        if (context == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a copy");
        struct ggml_tensor *bytes = ggml_new_tensor_1d(context, GGML_TYPE_I8, (int64_t)piece);
        status = dw_buffer_place(buffer, bytes, offset + done, err);
        if (status == DW_OK) status = dw_tensor_write(buffer->device, bytes, (const char *)data + done, 0, piece);
        ggml_free(context);
        done += piece;
    }
    return status;
}

/* Operations that only look at another tensor's memory; ggml runs nothing for them, but may say "unsupported" for a
 * large source. */
static bool is_view(enum ggml_op op) {
    return op == GGML_OP_NONE || op == GGML_OP_VIEW || op == GGML_OP_RESHAPE || op == GGML_OP_PERMUTE ||
           op == GGML_OP_TRANSPOSE;
}

dw_status dw_device_supports(dw_device *device, const struct ggml_cgraph *graph, dw_error *err) {
    /* ggml's accessors are not const; they do not write. */
    struct ggml_cgraph *walked = (struct ggml_cgraph *)(uintptr_t)graph;
    for (int i = 0; i < ggml_graph_n_nodes(walked); i++) {
        const struct ggml_tensor *node = ggml_graph_node(walked, i);
        if (is_view(node->op) || dw_guard_supports(device->ggml, node)) continue;
        return dw_fail(err, DW_E_UNSUPPORTED, "device %s cannot run %s of %s (%s) for %s", device->info.name,
                       ggml_op_name(node->op), node->src[0] != NULL ? node->src[0]->name : "nothing",
                       node->src[0] != NULL ? ggml_type_name(node->src[0]->type) : "-", node->name);
    }
    return DW_OK;
}

dw_status dw_device_compute(dw_device *device, struct ggml_cgraph *graph, dw_error *err) {
    return dw_device_compute_until(device, graph, NULL, err);
}

static bool must_stop(void *flag) { return atomic_load_explicit((const _Atomic bool *)flag, memory_order_relaxed); }

dw_status dw_device_compute_until(dw_device *device, struct ggml_cgraph *graph, const _Atomic bool *stop,
                                  dw_error *err) {
    bool looks = stop != NULL && device->info.kind == DW_DEVICE_CPU;
    dw_os_mutex_lock(device->computing);
    if (looks) ggml_backend_cpu_set_abort_callback(device->backend, must_stop, (void *)(uintptr_t)stop);
    dw_status status = dw_guard_compute(device->backend, graph, err);
    if (looks) ggml_backend_cpu_set_abort_callback(device->backend, NULL, NULL);
    dw_os_mutex_unlock(device->computing);
    if (status == DW_E_CANCELLED) return status;
    if (status != DW_OK) return dw_error_prefix(err, status, "device %s: ", device->info.name);
    atomic_fetch_add(&device->graphs, 1);
    atomic_fetch_add(&device->nodes, (uint64_t)ggml_graph_n_nodes(graph));
    return DW_OK;
}

/* vram.c: see vram.h. Over CUDA's virtual memory management: a chunk is a handle of cuMemCreate. What a map costs is
 * per chunk, whatever its size (0.02 ms, reference measurement on an H100). */
#include "device/vram.h"

#include <stdlib.h>
#include <string.h>

#include "device/cuda.h"
#include "device/device_internal.h"

struct dw_vram_chunk {
    dw_cu_handle handle;
    atomic_uint holders;
    dw_vram_chunk *next; /* of the free ones */
};

struct dw_vram {
    dw_device *device; /* NULL: none */
    dw_cuda cuda;
    dw_cu_address base;
    uint64_t bytes, chunk_bytes; /* behind `bytes` one chunk's place more, for what is mapped nowhere else */
    dw_os_mutex *lock;           /* over that place, and the free chunks */
    dw_vram_chunk *free;
    unsigned n_free;
    dw_os_mutex *bounce_lock;
    uint8_t *bounce;             /* pinned, BOUNCE_BYTES; NULL: to be made */
};

/* Scattered rows go through pinned memory: 44 GB/s, where pageable memory takes them at one (measured, H100). */
enum { BOUNCE_BYTES = 4 << 20 };

/* More go back to the driver, for others: to make one anew takes as long as to clear it. */
enum { VRAM_FREE_MAX = 16 };

static dw_cu_allocation vram_kind(const dw_cuda *cuda) {
    return (dw_cu_allocation){.type = DW_CU_ALLOCATION_PINNED,
                              .location = {.type = DW_CU_LOCATION_DEVICE, .id = cuda->device}};
}

static uint64_t vram_unit_of(int ordinal) {
    dw_cuda cuda = {0};
    size_t unit = 0;
    if (ordinal < 0 || dw_cuda_open(ordinal, &cuda, NULL) != DW_OK) return 0;
    if (dw_cuda_enter(&cuda, NULL) == DW_OK) {
        dw_cu_allocation what = vram_kind(&cuda);
        if (cuda.driver->granularity(&unit, &what, DW_CU_GRANULARITY_MINIMUM) != DW_CU_OK) unit = 0;
        dw_cuda_leave(&cuda);
    }
    dw_cuda_close(&cuda);
    return unit;
}

uint64_t dw_vram_unit_bytes(dw_device *device) { return vram_unit_of(dw_device_cuda_ordinal(device)); }

/* --- making and ending --------------------------------------------------------------------------------------- */

static dw_status vram_reserve(dw_vram *vram, int ordinal, dw_error *err) {
    uint64_t unit = vram_unit_of(ordinal), total = 0;
    if (unit == 0) return dw_fail(err, DW_E_UNSUPPORTED, "this device's memory cannot be mapped");
    bool fits = vram->chunk_bytes > 0 && vram->chunk_bytes % unit == 0 && vram->bytes > 0 &&
                vram->bytes % vram->chunk_bytes == 0 && dw_add_u64(vram->bytes, vram->chunk_bytes, &total) &&
                total <= SIZE_MAX / 2;
    if (!fits) return dw_fail(err, DW_E_INVALID, "no such space of a device's addresses");
    dw_status status = dw_os_mutex_create(&vram->lock, err);
    if (status == DW_OK) status = dw_os_mutex_create(&vram->bounce_lock, err);
    if (status == DW_OK) status = dw_cuda_open(ordinal, &vram->cuda, err);
    if (status == DW_OK) status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    dw_cu_result result = vram->cuda.driver->reserve(&vram->base, (size_t)total, 0, 0, 0);
    dw_cuda_leave(&vram->cuda);
    if (result != DW_CU_OK) vram->base = 0;
    return dw_cuda_check(&vram->cuda, result, "cannot reserve addresses of the device", err);
}

static dw_status vram_create(dw_device *device, int ordinal, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out,
                             dw_error *err) {
    *out = NULL;
    dw_vram *vram = calloc(1, sizeof *vram);
    if (vram == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a space of a device's addresses");
    *vram = (dw_vram){.device = device, .bytes = bytes, .chunk_bytes = chunk_bytes};
    dw_status status = vram_reserve(vram, ordinal, err);
    if (status == DW_OK) *out = vram;
    else dw_vram_destroy(vram);
    return status;
}

dw_status dw_vram_create(dw_device *device, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out, dw_error *err) {
    return vram_create(device, dw_device_cuda_ordinal(device), bytes, chunk_bytes, out, err);
}

dw_status dw_vram_create_bare(int ordinal, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out, dw_error *err) {
    return vram_create(NULL, ordinal, bytes, chunk_bytes, out, err);
}

static void vram_chunk_end(dw_vram *vram, dw_vram_chunk *chunk) {
    dw_cu_result result = vram->cuda.driver->release(chunk->handle);
    if (result != DW_CU_OK) dw_log(DW_LOG_ERROR, "vram", "release=%d", result);
    if (vram->device != NULL) dw_device_count_release(vram->device, vram->chunk_bytes);
    free(chunk);
}

void dw_vram_destroy(dw_vram *vram) {
    if (vram == NULL) return;
    if (vram->cuda.context != NULL && dw_cuda_enter(&vram->cuda, NULL) == DW_OK) {
        while (vram->free != NULL) {
            dw_vram_chunk *chunk = vram->free;
            vram->free = chunk->next;
            vram_chunk_end(vram, chunk);
        }
        if (vram->bounce != NULL) (void)vram->cuda.driver->host_free(vram->bounce);
        size_t total = (size_t)(vram->bytes + vram->chunk_bytes);
        if (vram->base != 0) (void)vram->cuda.driver->unreserve(vram->base, total);
        dw_cuda_leave(&vram->cuda);
    }
    dw_cuda_close(&vram->cuda);
    if (vram->lock != NULL) dw_os_mutex_destroy(vram->lock);
    if (vram->bounce_lock != NULL) dw_os_mutex_destroy(vram->bounce_lock);
    free(vram);
}

/* --- maps; the context is entered ---------------------------------------------------------------------------- */

static dw_status vram_map_at(dw_vram *vram, uint64_t offset, const dw_vram_chunk *chunk, dw_error *err) {
    const dw_cuda_driver *driver = vram->cuda.driver;
    size_t size = (size_t)vram->chunk_bytes;
    dw_cu_access access = {.location = {.type = DW_CU_LOCATION_DEVICE, .id = vram->cuda.device},
                           .flags = DW_CU_ACCESS_READ_WRITE};
    dw_cu_result result = driver->map(vram->base + offset, size, 0, chunk->handle, 0);
    dw_status status = dw_cuda_check(&vram->cuda, result, "cannot map memory of the device", err);
    if (status != DW_OK) return status;
    result = driver->set_access(vram->base + offset, size, &access, 1);
    status = dw_cuda_check(&vram->cuda, result, "cannot map memory of the device", err);
    if (status != DW_OK) (void)driver->unmap(vram->base + offset, size);
    return status;
}

static dw_status vram_unmap_at(dw_vram *vram, uint64_t offset, dw_error *err) {
    dw_cu_result result = vram->cuda.driver->unmap(vram->base + offset, (size_t)vram->chunk_bytes);
    return dw_cuda_check(&vram->cuda, result, "cannot unmap memory of the device", err);
}

/* Copies and fills of the device go on behind the call. */
static dw_status vram_wait(dw_vram *vram, dw_cu_result result, dw_error *err) {
    if (result == DW_CU_OK) result = vram->cuda.driver->stream_wait(NULL);
    return dw_cuda_check(&vram->cuda, result, "a copy in the device's memory", err);
}

dw_status dw_vram_map(dw_vram *vram, uint64_t offset, const dw_vram_chunk *chunk, dw_error *err) {
    dw_status status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    status = vram_map_at(vram, offset, chunk, err);
    dw_cuda_leave(&vram->cuda);
    return status;
}

dw_status dw_vram_unmap(dw_vram *vram, uint64_t offset, dw_error *err) {
    dw_status status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    status = vram_unmap_at(vram, offset, err);
    dw_cuda_leave(&vram->cuda);
    return status;
}

/* --- chunks -------------------------------------------------------------------------------------------------- */

/* One to have, whatever it holds. The lock is held. */
static dw_status vram_chunk_take(dw_vram *vram, dw_vram_chunk **out, dw_error *err) {
    if (vram->free != NULL) {
        *out = vram->free;
        vram->free = (*out)->next;
        vram->n_free--;
    } else {
        dw_vram_chunk *chunk = calloc(1, sizeof *chunk);
        if (chunk == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a chunk");
        dw_cu_allocation what = vram_kind(&vram->cuda);
        dw_cu_result result = vram->cuda.driver->create(&chunk->handle, (size_t)vram->chunk_bytes, &what, 0);
        dw_status status = dw_cuda_check(&vram->cuda, result, "no memory of the device", err);
        if (status != DW_OK) {
            free(chunk);
            return status;
        }
        if (vram->device != NULL) dw_device_count_allocation(vram->device, vram->chunk_bytes);
        *out = chunk;
    }
    (*out)->next = NULL;
    atomic_init(&(*out)->holders, 1);
    return DW_OK;
}

/* Rule 1. The driver promises nothing of fresh memory either. */
static dw_status vram_chunk_clear(dw_vram *vram, const dw_vram_chunk *chunk, dw_error *err) {
    dw_status status = vram_map_at(vram, vram->bytes, chunk, err);
    if (status != DW_OK) return status;
    dw_cu_result result = vram->cuda.driver->fill(vram->base + vram->bytes, 0, (size_t)vram->chunk_bytes);
    status = vram_wait(vram, result, err);
    dw_status unmapped = vram_unmap_at(vram, vram->bytes, err);
    return status != DW_OK ? status : unmapped;
}

static void vram_chunk_put(dw_vram *vram, dw_vram_chunk *chunk) {
    chunk->next = vram->free;
    vram->free = chunk;
    vram->n_free++;
}

dw_status dw_vram_chunk_make(dw_vram *vram, dw_vram_chunk **out, dw_error *err) {
    *out = NULL;
    dw_status status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    dw_vram_chunk *chunk = NULL;
    dw_os_mutex_lock(vram->lock);
    status = vram_chunk_take(vram, &chunk, err);
    if (status == DW_OK) {
        status = vram_chunk_clear(vram, chunk, err);
        if (status == DW_OK) *out = chunk;
        else vram_chunk_put(vram, chunk);
    }
    dw_os_mutex_unlock(vram->lock);
    dw_cuda_leave(&vram->cuda);
    return status;
}

dw_vram_chunk *dw_vram_chunk_retain(dw_vram_chunk *chunk) {
    if (chunk != NULL) atomic_fetch_add(&chunk->holders, 1);
    return chunk;
}

void dw_vram_chunk_release(dw_vram *vram, dw_vram_chunk *chunk) {
    if (chunk == NULL || atomic_fetch_sub(&chunk->holders, 1) != 1) return;
    dw_os_mutex_lock(vram->lock);
    bool goes = vram->n_free >= VRAM_FREE_MAX && dw_cuda_enter(&vram->cuda, NULL) == DW_OK;
    if (goes) {
        vram_chunk_end(vram, chunk);
        dw_cuda_leave(&vram->cuda);
    } else {
        vram_chunk_put(vram, chunk);
    }
    dw_os_mutex_unlock(vram->lock);
}

/* --- copies -------------------------------------------------------------------------------------------------- */

static dw_cu_result vram_copy_rows(dw_vram *vram, const dw_vram_rows *rows, const void *from, void *to) {
    dw_cu_address device = vram->base + rows->offset;
    bool in = from != NULL;
    if (rows->step == rows->row_bytes || rows->n == 1) {
        size_t size = (size_t)(rows->n * rows->row_bytes);
        return in ? vram->cuda.driver->copy_in(device, from, size) : vram->cuda.driver->copy_out(to, device, size);
    }
    dw_cu_copy_2d copy = {.width = (size_t)rows->row_bytes, .height = (size_t)rows->n};
    copy.from_type = in ? DW_CU_MEMORY_HOST : DW_CU_MEMORY_DEVICE;
    copy.to_type = in ? DW_CU_MEMORY_DEVICE : DW_CU_MEMORY_HOST;
    copy.from_host = from;
    copy.to_host = to;
    copy.from_device = in ? 0 : device;
    copy.to_device = in ? device : 0;
    copy.from_pitch = (size_t)(in ? rows->row_bytes : rows->step);
    copy.to_pitch = (size_t)(in ? rows->step : rows->row_bytes);
    return vram->cuda.driver->copy_2d(&copy);
}

/* The same through the pinned memory, piece by piece. */
static dw_cu_result vram_bounce_rows(dw_vram *vram, const dw_vram_rows *rows, const uint8_t *from, uint8_t *to) {
    uint64_t most = BOUNCE_BYTES / rows->row_bytes;
    dw_cu_result result = DW_CU_OK;
    dw_os_mutex_lock(vram->bounce_lock);
    if (vram->bounce == NULL) {
        void *made = NULL;
        if (vram->cuda.driver->host_make(&made, BOUNCE_BYTES) == DW_CU_OK) vram->bounce = made;
    }
    if (vram->bounce == NULL) { /* no memory for it: as it is */
        result = vram_copy_rows(vram, rows, from, to);
        if (result == DW_CU_OK) result = vram->cuda.driver->stream_wait(NULL);
    } else {
        for (uint64_t done = 0, n; result == DW_CU_OK && done < rows->n; done += n) {
            n = dw_min_u64(rows->n - done, most);
            dw_vram_rows piece = *rows;
            piece.offset += done * rows->step;
            piece.n = n;
            size_t size = (size_t)(n * rows->row_bytes), at = (size_t)(done * rows->row_bytes);
            if (from != NULL) memcpy(vram->bounce, from + at, size);
            if (from != NULL) result = vram_copy_rows(vram, &piece, vram->bounce, NULL);
            else result = vram_copy_rows(vram, &piece, NULL, vram->bounce);
            if (result == DW_CU_OK) result = vram->cuda.driver->stream_wait(NULL);
            if (result == DW_CU_OK && from == NULL) memcpy(to + at, vram->bounce, size);
        }
    }
    dw_os_mutex_unlock(vram->bounce_lock);
    return result;
}

static dw_status vram_move_rows(dw_vram *vram, const dw_vram_rows *rows, const void *from, void *to, dw_error *err) {
    if (rows->n == 0) return DW_OK;
    dw_status status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    bool scattered = rows->n > 1 && rows->step != rows->row_bytes && rows->row_bytes <= BOUNCE_BYTES;
    dw_cu_result result = scattered ? vram_bounce_rows(vram, rows, from, to) : vram_copy_rows(vram, rows, from, to);
    status = vram_wait(vram, result, err);
    dw_cuda_leave(&vram->cuda);
    uint64_t bytes = rows->n * rows->row_bytes;
    if (status == DW_OK && vram->device != NULL) {
        if (from != NULL) dw_device_count_copied_in(vram->device, bytes);
        else dw_device_count_copied_out(vram->device, bytes);
    }
    return status;
}

dw_status dw_vram_write(dw_vram *vram, const dw_vram_rows *rows, const void *from, dw_error *err) {
    return vram_move_rows(vram, rows, from, NULL, err);
}

dw_status dw_vram_read(dw_vram *vram, const dw_vram_rows *rows, void *to, dw_error *err) {
    return vram_move_rows(vram, rows, NULL, to, err);
}

dw_status dw_vram_write_into(dw_vram *vram, const dw_vram_chunk *chunk, const dw_vram_rows *rows, const void *from,
                             dw_error *err) {
    dw_vram_rows there = *rows;
    there.offset += vram->bytes;
    dw_os_mutex_lock(vram->lock);
    dw_status status = dw_vram_map(vram, vram->bytes, chunk, err);
    if (status == DW_OK) {
        status = vram_move_rows(vram, &there, from, NULL, err);
        dw_status unmapped = dw_vram_unmap(vram, vram->bytes, err);
        if (status == DW_OK) status = unmapped;
    }
    dw_os_mutex_unlock(vram->lock);
    return status;
}

dw_status dw_vram_copy_into(dw_vram *vram, const dw_vram_chunk *chunk, uint64_t at, uint64_t offset, uint64_t size,
                            dw_error *err) {
    dw_status status = dw_cuda_enter(&vram->cuda, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(vram->lock);
    status = vram_map_at(vram, vram->bytes, chunk, err);
    if (status == DW_OK) {
        dw_cu_address to = vram->base + vram->bytes + at;
        status = vram_wait(vram, vram->cuda.driver->copy_across(to, vram->base + offset, (size_t)size), err);
        dw_status unmapped = vram_unmap_at(vram, vram->bytes, err);
        if (status == DW_OK) status = unmapped;
    }
    dw_os_mutex_unlock(vram->lock);
    dw_cuda_leave(&vram->cuda);
    return status;
}

/* --- buffers ------------------------------------------------------------------------------------------------- */

static void vram_buffer_release(void *context) { (void)context; }

static dw_status vram_buffer_write(void *context, void *to, const void *from, size_t size) {
    dw_vram *vram = context;
    dw_vram_rows all = {.offset = (uint64_t)(uintptr_t)to - vram->base, .step = size, .row_bytes = size, .n = 1};
    return vram_move_rows(vram, &all, from, NULL, NULL);
}

static dw_status vram_buffer_read(void *context, void *to, const void *from, size_t size) {
    dw_vram *vram = context;
    dw_vram_rows all = {.offset = (uint64_t)(uintptr_t)from - vram->base, .step = size, .row_bytes = size, .n = 1};
    return vram_move_rows(vram, &all, NULL, to, NULL);
}

/* Nobody may clear a buffer whose addresses are mapped in part. */
static dw_status vram_buffer_fill(void *context, void *to, unsigned char value, size_t size) {
    (void)context, (void)to, (void)value, (void)size;
    return DW_E_UNSUPPORTED;
}

static const dw_guard_memory vram_memory = {.release = vram_buffer_release, .write = vram_buffer_write,
                                            .read = vram_buffer_read, .fill = vram_buffer_fill};

dw_status dw_vram_buffer(dw_vram *vram, uint64_t offset, uint64_t size, dw_buffer **out, dw_error *err) {
    *out = NULL;
    if (vram->device == NULL) return dw_fail(err, DW_E_UNSUPPORTED, "these addresses have no device");
    if (!dw_in_range(offset, size, vram->bytes)) return dw_fail(err, DW_E_RANGE, "a buffer outside its addresses");
    void *base = (void *)(uintptr_t)(vram->base + offset);
    return dw_device_buffer_over(vram->device, base, size, &vram_memory, vram, out, err);
}

/* rows_host.c: KV rows in host memory (rows.h).
 *
 * One region holds all slots. A memory is a memory object with the layout of a slot, so that one map covers a slot that
 * has a single span. A checkpoint's file has its own offset for each area. Maps of what others write are private:
 * nothing is ever written through them, but devices that wrap host memory cannot take read-only maps.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/kv/rows.h"

struct dw_rows_memory {
    dw_backing *backing; /* a reference of ours */
    uint64_t *offsets;   /* [n_areas] of a file; NULL: the layout of a slot */
    uint64_t has_bytes;  /* of each area, from its row 0 on */
};

typedef struct host_rows {
    dw_rows base;
    dw_device *device;
    dw_region *region;
    dw_buffer *wrap;     /* of the whole arena, where the device follows host addresses */
    dw_buffer **wraps;   /* [n_slots] elsewhere; NULL: to be made */
} host_rows;

static host_rows *rows_host(const dw_rows *rows) { return (host_rows *)(uintptr_t)rows; }

static uint64_t rows_host_slot(const dw_rows *rows, dw_kv_slot slot) { return (uint64_t)slot * rows->stride; }

static void *rows_host_address(const dw_rows *rows, dw_kv_slot slot, uint32_t area) {
    uint8_t *base = dw_region_base(rows_host(rows)->region);
    return base + rows_host_slot(rows, slot) + dw_rows_offset(rows, area, 0);
}

/* --- memory -------------------------------------------------------------------------------------------------- */

static dw_status rows_host_memory(dw_backing *backing, uint64_t has_bytes, dw_rows_memory **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for KV rows");
    **out = (dw_rows_memory){.backing = dw_backing_retain(backing), .has_bytes = has_bytes};
    return DW_OK;
}

static dw_status rows_host_make(dw_rows *rows, dw_rows_memory **out, dw_error *err) {
    dw_backing *backing = NULL;
    *out = NULL;
    dw_status status = dw_backing_create_memory("driftwood-kv", rows->stride, &backing, err);
    if (status == DW_OK) status = rows_host_memory(backing, rows->run_bytes, out, err);
    dw_backing_release(backing);
    return status;
}

static void rows_host_free(dw_rows *rows, dw_rows_memory *memory) {
    (void)rows;
    if (memory == NULL) return;
    dw_backing_release(memory->backing);
    free(memory->offsets);
    free(memory);
}

static dw_status rows_host_open(dw_rows *rows, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                                dw_rows_memory **out, dw_error *err) {
    dw_status status = rows_host_memory(backing, dw_rows_granule_end_of(rows, n_rows), out, err);
    if (status != DW_OK) return status;
    size_t size = rows->n_areas * sizeof offsets[0];
    (*out)->offsets = malloc(size);
    if ((*out)->offsets == NULL) {
        rows_host_free(rows, *out);
        *out = NULL;
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for KV rows");
    }
    memcpy((*out)->offsets, offsets, size);
    return DW_OK;
}

/* --- maps ---------------------------------------------------------------------------------------------------- */

static dw_status rows_host_map_at(dw_rows *rows, dw_kv_slot slot, uint64_t offset, uint64_t size, dw_backing *backing,
                                  uint64_t from, dw_extent_mode mode, dw_error *err) {
    dw_extent extent = {.offset = rows_host_slot(rows, slot) + offset, .size = size, .backing = backing,
                        .backing_offset = from, .mode = mode};
    return dw_region_map(rows_host(rows)->region, &extent, true, err);
}

/* Bytes [begin, end) of every area; where the memory ends come zeros, if they are asked for. */
static dw_status rows_host_map_areas(dw_rows *rows, dw_kv_slot slot, const dw_rows_memory *memory, uint64_t begin,
                                     uint64_t end, dw_extent_mode mode, bool zeros_behind, dw_error *err) {
    uint64_t mapped_end = dw_min_u64(memory->has_bytes, end), zeros = dw_max_u64(mapped_end, begin);
    dw_status status = DW_OK;
    for (uint32_t area = 0; status == DW_OK && area < rows->n_areas; area++) {
        uint64_t at = dw_rows_offset(rows, area, 0);
        if (begin < mapped_end) {
            uint64_t from = (memory->offsets == NULL ? at : memory->offsets[area]) + begin;
            status = rows_host_map_at(rows, slot, at + begin, mapped_end - begin, memory->backing, from, mode, err);
        }
        if (status == DW_OK && zeros_behind && zeros < end) {
            status = rows_host_map_at(rows, slot, at + zeros, end - zeros, NULL, 0, DW_EXTENT_PRIVATE, err);
        }
    }
    return status;
}

static void rows_host_unwrap(host_rows *host, dw_kv_slot slot) { /* device.h rule 1 */
    if (host->wraps == NULL) return;
    dw_buffer_destroy(host->wraps[slot]);
    host->wraps[slot] = NULL;
}

/* Spans that begin with row 0: one map over the whole slot for the last of them, or of zeros behind a file, and the
 * others over it. */
static dw_status rows_host_map(dw_rows *rows, dw_kv_slot slot, const dw_rows_span *spans, uint32_t n_spans,
                               bool in_place, dw_error *err) {
    const dw_rows_span *last = &spans[n_spans - 1];
    dw_extent_mode mode = in_place ? DW_EXTENT_SHARED : DW_EXTENT_PRIVATE;
    bool whole = dw_rows_granule_of(rows, spans[0].first_row) == 0, is_file = last->memory->offsets != NULL;
    uint32_t n_over = whole && !is_file ? n_spans - 1 : n_spans;
    dw_status status = DW_OK;
    assert(!in_place || !is_file);
    rows_host_unwrap(rows_host(rows), slot);
    if (whole) status = rows_host_map_at(rows, slot, 0, rows->stride, is_file ? NULL : last->memory->backing, 0, mode,
                                         err);
    for (uint32_t i = 0; status == DW_OK && i < n_over; i++) {
        bool ends = i + 1 == n_spans;
        uint64_t begin = dw_rows_granule_of(rows, spans[i].first_row);
        uint64_t end = ends ? rows->run_bytes : dw_rows_granule_of(rows, spans[i + 1].first_row);
        status = rows_host_map_areas(rows, slot, spans[i].memory, begin, end, ends ? mode : DW_EXTENT_PRIVATE,
                                     ends && !whole, err);
    }
    return status;
}

/* If this fails the pages stay until the slot is mapped over. */
static void rows_host_unmap(dw_rows *rows, dw_kv_slot slot) {
    host_rows *host = rows_host(rows);
    uint64_t at = rows_host_slot(rows, slot), end = dw_region_size(host->region);
    rows_host_unwrap(host, slot);
    if (end <= at) return;
    dw_error err;
    dw_status status = dw_region_unmap(host->region, at, dw_min_u64(rows->stride, end - at), &err);
    if (status != DW_OK) dw_log(DW_LOG_WARN, "kv_unmap", "error=\"%s\"", err.text);
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

static dw_status rows_host_copy(dw_rows *rows, dw_kv_slot slot, uint32_t first, uint32_t end, dw_rows_memory *to,
                                dw_error *err) {
    uint64_t from_byte = dw_rows_granule_of(rows, first), end_byte = dw_rows_granule_end_of(rows, end);
    dw_status status = DW_OK;
    for (uint32_t area = 0; status == DW_OK && area < rows->n_areas && from_byte < end_byte; area++) {
        const uint8_t *from = (const uint8_t *)rows_host_address(rows, slot, area) + from_byte;
        uint64_t at = dw_rows_offset(rows, area, 0) + from_byte;
        status = dw_os_write_at(dw_backing_file(to->backing), at, from, (size_t)(end_byte - from_byte), err);
    }
    return status;
}

/* The system makes a page when it is written. */
static dw_status rows_host_reserve(dw_rows *rows, dw_kv_slot slot, uint32_t n_rows, dw_error *err) {
    (void)rows, (void)slot, (void)n_rows, (void)err;
    return DW_OK;
}

static dw_status rows_host_bind(dw_rows *rows, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err) {
    host_rows *host = rows_host(rows);
    dw_status status = DW_OK;
    if (host->wraps != NULL && host->wraps[slot] == NULL) {
        status = dw_device_wrap(host->device, rows_host_address(rows, slot, 0), rows->stride, true, &host->wraps[slot],
                                err);
    }
    if (status != DW_OK) return status;
    *out = host->wraps != NULL ? host->wraps[slot] : host->wrap;
    *offset = host->wraps != NULL ? 0 : rows_host_slot(rows, slot);
    return DW_OK;
}

static dw_status rows_host_read(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                                dw_error *err) {
    (void)err;
    const uint8_t *from = rows_host_address(rows, slot, area);
    if (n > 0) memcpy(to, from + first * rows->row_step, n * rows->row_step);
    return DW_OK;
}

static dw_status rows_host_write(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n,
                                 const void *from, dw_error *err) {
    (void)err;
    uint8_t *to = rows_host_address(rows, slot, area);
    if (n > 0) memcpy(to + first * rows->row_step, from, n * rows->row_step);
    return DW_OK;
}

/* --- making and ending --------------------------------------------------------------------------------------- */

static void rows_host_destroy(dw_rows *rows) {
    host_rows *host = rows_host(rows);
    free(host->wraps);
    dw_buffer_destroy(host->wrap);
    dw_status status = dw_region_destroy(host->region); /* no windows are ever lent of this region */
    if (status != DW_OK) dw_log(DW_LOG_ERROR, "kv_rows", "status=%s", dw_status_name(status));
    free(host);
}

static const dw_rows_ops rows_host_ops = {
    .destroy = rows_host_destroy, .make = rows_host_make, .open = rows_host_open, .free = rows_host_free,
    .map = rows_host_map, .unmap = rows_host_unmap, .copy = rows_host_copy, .reserve = rows_host_reserve,
    .bind = rows_host_bind, .read = rows_host_read, .write = rows_host_write, .address = rows_host_address,
};

static dw_status rows_host_reserve_addresses(host_rows *host, const dw_device_info *info, dw_error *err) {
    uint64_t bytes = host->base.geometry.n_slots * host->base.stride;
    dw_region_options options = {.reserve_bytes = bytes, .guard_bytes = dw_os_page_bytes()};
    dw_status status = dw_region_create(&options, &host->region, err);
    if (status != DW_OK) return status;
    host->base.in_one_buffer = info->addresses_are_host;
    if (info->addresses_are_host) {
        return dw_device_wrap(host->device, dw_region_base(host->region), bytes, true, &host->wrap, err);
    }
    host->wraps = calloc(host->base.geometry.n_slots, sizeof(dw_buffer *));
    return host->wraps != NULL ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
}

dw_status dw_rows_host_create(const dw_kv_geometry *geometry, dw_device *device, dw_rows **out, dw_error *err) {
    const dw_device_info *info = dw_device_info_view(device);
    *out = NULL;
    if (!info->can_wrap) {
        return dw_fail(err, DW_E_UNSUPPORTED, "device %s cannot work on KV rows in host memory", info->name);
    }
    host_rows *host = calloc(1, sizeof *host);
    if (host == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    host->base.ops = &rows_host_ops;
    host->device = device;
    dw_status status = dw_rows_init(&host->base, geometry, dw_os_page_bytes(), 1, err);
    if (status == DW_OK) status = rows_host_reserve_addresses(host, info, err);
    if (status != DW_OK) rows_host_destroy(&host->base);
    else *out = &host->base;
    return status;
}

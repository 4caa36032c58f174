/* rows_cuda.c: KV rows in the memory of a graphics card that can be mapped at several addresses (rows.h, vram.h).
 *
 * A granule is a chunk. What a fork costs is the number of chunks that it maps, what it holds for itself is one chunk a
 * run: so a run has several layers, and chunks are as large as the card's memory allows. A granule without a chunk
 * reads as zeros: where attention looks behind the rows, one chunk that stays zeros is mapped.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "device/vram.h"
#include "model/kv/rows.h"

struct dw_rows_memory { dw_vram_chunk **chunks; }; /* [n_runs * per_run]; NULL: never written */

typedef struct cuda_slot {
    dw_vram_chunk **chunks; /* [n_runs * per_run] mapped; NULL: nothing */
    dw_rows_memory *tail;   /* mapped in place */
} cuda_slot;

typedef struct cuda_rows {
    dw_rows base;
    dw_vram *vram;
    dw_buffer *buffer;      /* over all slots; NULL: there is no device that it could be made for */
    uint64_t per_run;       /* granules of a run */
    dw_vram_chunk *zeros;
    cuda_slot *slots;
} cuda_rows;

static cuda_rows *rows_cuda(const dw_rows *rows) { return (cuda_rows *)(uintptr_t)rows; }

static uint64_t rows_cuda_place(const dw_rows *rows, dw_kv_slot slot, uint64_t chunk) {
    return slot * rows->stride + chunk * rows->granule_bytes;
}

static uint64_t rows_cuda_granule(const dw_rows *rows, uint32_t row) {
    return dw_rows_granule_of(rows, row) / rows->granule_bytes;
}

static uint64_t rows_cuda_granule_end(const dw_rows *rows, uint32_t n_rows) {
    return dw_rows_granule_end_of(rows, n_rows) / rows->granule_bytes;
}

/* --- memory -------------------------------------------------------------------------------------------------- */

static uint64_t rows_cuda_chunks(const cuda_rows *cuda) { return cuda->base.n_runs * cuda->per_run; }

static dw_status rows_cuda_make(dw_rows *rows, dw_rows_memory **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out != NULL) (*out)->chunks = calloc(rows_cuda_chunks(rows_cuda(rows)), sizeof(dw_vram_chunk *));
    if (*out != NULL && (*out)->chunks != NULL) return DW_OK;
    free(*out);
    *out = NULL;
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for KV rows");
}

static void rows_cuda_free(dw_rows *rows, dw_rows_memory *memory) {
    cuda_rows *cuda = rows_cuda(rows);
    if (memory == NULL) return;
    for (uint64_t i = 0; i < rows_cuda_chunks(cuda); i++) dw_vram_chunk_release(cuda->vram, memory->chunks[i]);
    free(memory->chunks);
    free(memory);
}

/* Rows of one area, contiguous at `from`, into memory that nothing maps. A row may lie across the end of a granule. */
static dw_status rows_cuda_put(dw_rows *rows, dw_rows_memory *memory, uint32_t area, uint32_t n_rows,
                               const uint8_t *from, dw_error *err) {
    cuda_rows *cuda = rows_cuda(rows);
    uint64_t g = rows->granule_bytes, row_bytes = rows->geometry.row_bytes;
    dw_status status = DW_OK;
    for (uint32_t row = 0, n; status == DW_OK && row < n_rows; row += n) {
        uint64_t at = dw_rows_offset(rows, area, row), in_chunk = at % g, chunk = at / g;
        uint64_t whole = in_chunk + row_bytes <= g ? (g - in_chunk - row_bytes) / rows->row_step + 1 : 0;
        n = whole == 0 ? 1 : (uint32_t)dw_min_u64(whole, n_rows - row);
        const uint8_t *bytes = from + row * row_bytes;
        if (memory->chunks[chunk] == NULL) status = dw_vram_chunk_make(cuda->vram, &memory->chunks[chunk], err);
        if (status != DW_OK) break;
        if (whole > 0) {
            dw_vram_rows block = {.offset = in_chunk, .step = rows->row_step, .row_bytes = row_bytes, .n = n};
            status = dw_vram_write_into(cuda->vram, memory->chunks[chunk], &block, bytes, err);
            continue;
        }
        uint64_t first = g - in_chunk;
        dw_vram_rows part = {.offset = in_chunk, .step = first, .row_bytes = first, .n = 1};
        status = dw_vram_write_into(cuda->vram, memory->chunks[chunk], &part, bytes, err);
        if (status == DW_OK && memory->chunks[chunk + 1] == NULL) {
            status = dw_vram_chunk_make(cuda->vram, &memory->chunks[chunk + 1], err);
        }
        part = (dw_vram_rows){.offset = 0, .step = row_bytes - first, .row_bytes = row_bytes - first, .n = 1};
        if (status == DW_OK) {
            status = dw_vram_write_into(cuda->vram, memory->chunks[chunk + 1], &part, bytes + first, err);
        }
    }
    return status;
}

/* Uploads from the file's map. */
static dw_status rows_cuda_open(dw_rows *rows, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                                dw_rows_memory **out, dw_error *err) {
    void *map = NULL;
    size_t size = (size_t)dw_backing_size(backing);
    dw_status status = rows_cuda_make(rows, out, err);
    if (status != DW_OK || n_rows == 0) return status;
    status = dw_os_map_file(NULL, size, dw_backing_file(backing), 0, DW_OS_RO, true, &map, err);
    for (uint32_t area = 0; status == DW_OK && area < rows->n_areas; area++) {
        status = rows_cuda_put(rows, *out, area, n_rows, (const uint8_t *)map + offsets[area], err);
    }
    if (map != NULL) dw_os_unmap(map, size);
    if (status == DW_OK) return DW_OK;
    rows_cuda_free(rows, *out);
    *out = NULL;
    return status;
}

/* --- maps ---------------------------------------------------------------------------------------------------- */

/* Puts `chunk` (NULL: nothing) in the place of what is mapped there. When it fails the old one is there. */
static dw_status rows_cuda_set(dw_rows *rows, dw_kv_slot slot, uint64_t at, dw_vram_chunk *chunk, dw_error *err) {
    cuda_rows *cuda = rows_cuda(rows);
    dw_vram_chunk **mapped = &cuda->slots[slot].chunks[at];
    uint64_t place = rows_cuda_place(rows, slot, at);
    dw_status status = DW_OK;
    if (*mapped == chunk) return DW_OK;
    if (*mapped != NULL) status = dw_vram_unmap(cuda->vram, place, err);
    if (status != DW_OK) return status;
    if (chunk != NULL) status = dw_vram_map(cuda->vram, place, chunk, err);
    if (status == DW_OK) {
        dw_vram_chunk *old = *mapped;
        *mapped = dw_vram_chunk_retain(chunk);
        dw_vram_chunk_release(cuda->vram, old);
    } else if (*mapped != NULL && dw_vram_map(cuda->vram, place, *mapped, NULL) != DW_OK) {
        dw_log(DW_LOG_ERROR, "kv_rows", "slot=%u granule=%llu lost=yes", slot, (unsigned long long)at);
        dw_vram_chunk_release(cuda->vram, *mapped);
        *mapped = NULL;
    }
    return status;
}

static dw_status rows_cuda_map(dw_rows *rows, dw_kv_slot slot, const dw_rows_span *spans, uint32_t n_spans,
                               bool in_place, dw_error *err) {
    cuda_rows *cuda = rows_cuda(rows);
    dw_status status = DW_OK;
    cuda->slots[slot].tail = NULL;
    for (uint32_t run = 0; run < rows->n_runs; run++) {
        for (uint32_t i = 0; i < n_spans; i++) {
            uint64_t end = i + 1 < n_spans ? rows_cuda_granule(rows, spans[i + 1].first_row) : cuda->per_run;
            for (uint64_t g = rows_cuda_granule(rows, spans[i].first_row); status == DW_OK && g < end; g++) {
                uint64_t at = run * cuda->per_run + g;
                status = rows_cuda_set(rows, slot, at, spans[i].memory->chunks[at], err);
            }
        }
    }
    if (status == DW_OK && in_place) cuda->slots[slot].tail = spans[n_spans - 1].memory;
    return status;
}

static void rows_cuda_unmap(dw_rows *rows, dw_kv_slot slot) {
    cuda_rows *cuda = rows_cuda(rows);
    for (uint64_t at = 0; at < rows_cuda_chunks(cuda); at++) {
        dw_error why = {0};
        dw_status status = rows_cuda_set(rows, slot, at, NULL, &why);
        if (status != DW_OK) dw_log(DW_LOG_WARN, "kv_unmap", "error=\"%s\"", why.text);
    }
    cuda->slots[slot].tail = NULL;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* Of the last granule the rows alone: what lies behind them reads as zeros. */
static dw_status rows_cuda_copy(dw_rows *rows, dw_kv_slot slot, uint32_t first, uint32_t end, dw_rows_memory *to,
                                dw_error *err) {
    cuda_rows *cuda = rows_cuda(rows);
    uint64_t begin_g = rows_cuda_granule(rows, first), end_g = rows_cuda_granule_end(rows, end);
    uint64_t bytes = (uint64_t)end * rows->row_step, g_bytes = rows->granule_bytes;
    dw_status status = DW_OK;
    for (uint32_t run = 0; run < rows->n_runs; run++) {
        for (uint64_t g = begin_g; status == DW_OK && g < end_g; g++) {
            uint64_t at = run * cuda->per_run + g, size = dw_min_u64(bytes - g * g_bytes, g_bytes);
            assert(to->chunks[at] == NULL);
            status = dw_vram_chunk_make(cuda->vram, &to->chunks[at], err);
            if (status != DW_OK || cuda->slots[slot].chunks[at] == NULL) continue;
            status = dw_vram_copy_into(cuda->vram, to->chunks[at], 0, rows_cuda_place(rows, slot, at), size, err);
        }
    }
    return status;
}

/* Chunks up to the rows' end, and zeros as far behind as attention looks. */
static dw_status rows_cuda_reserve(dw_rows *rows, dw_kv_slot slot, uint32_t n_rows, dw_error *err) {
    cuda_rows *cuda = rows_cuda(rows);
    cuda_slot *s = &cuda->slots[slot];
    uint64_t end = rows_cuda_granule_end(rows, n_rows);
    uint32_t seen = (uint32_t)dw_min_u64((uint64_t)n_rows + DW_KV_SEEN_BEHIND, rows->geometry.context_tokens);
    uint64_t seen_end = rows_cuda_granule_end(rows, seen);
    dw_status status = DW_OK;
    assert(s->tail != NULL);
    for (uint32_t run = 0; run < rows->n_runs; run++) {
        for (uint64_t g = 0; status == DW_OK && g < seen_end; g++) {
            uint64_t at = run * cuda->per_run + g;
            if (s->chunks[at] != NULL && (s->chunks[at] != cuda->zeros || g >= end)) continue;
            if (g < end && s->tail->chunks[at] == NULL) {
                status = dw_vram_chunk_make(cuda->vram, &s->tail->chunks[at], err);
            }
            if (status == DW_OK)
                status = rows_cuda_set(rows, slot, at, g < end ? s->tail->chunks[at] : cuda->zeros, err);
        }
    }
    return status;
}

static dw_status rows_cuda_bind(dw_rows *rows, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err) {
    (void)err;
    *out = rows_cuda(rows)->buffer;
    *offset = rows_cuda_place(rows, slot, 0);
    return DW_OK;
}

/* Whether memory is mapped where a row lies. */
static bool rows_cuda_mapped(const dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t row) {
    const cuda_slot *s = &rows_cuda(rows)->slots[slot];
    uint64_t at = dw_rows_offset(rows, area, row), last = at + rows->geometry.row_bytes - 1;
    return s->chunks[at / rows->granule_bytes] != NULL && s->chunks[last / rows->granule_bytes] != NULL;
}

static dw_status rows_cuda_read(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                                dw_error *err) {
    uint64_t row_bytes = rows->geometry.row_bytes;
    dw_status status = DW_OK;
    for (uint32_t row = first, end = first + n, part; status == DW_OK && row < end; row += part) {
        bool mapped = rows_cuda_mapped(rows, slot, area, row);
        for (part = 1; row + part < end && rows_cuda_mapped(rows, slot, area, row + part) == mapped;) part++;
        uint8_t *there = (uint8_t *)to + (row - first) * row_bytes;
        dw_vram_rows block = {.offset = rows_cuda_place(rows, slot, 0) + dw_rows_offset(rows, area, row),
                              .step = rows->row_step, .row_bytes = row_bytes, .n = part};
        if (mapped) status = dw_vram_read(rows_cuda(rows)->vram, &block, there, err);
        else memset(there, 0, part * row_bytes);
    }
    return status;
}

static dw_status rows_cuda_write(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n,
                                 const void *from, dw_error *err) {
    dw_vram_rows block = {.offset = rows_cuda_place(rows, slot, 0) + dw_rows_offset(rows, area, first),
                          .step = rows->row_step, .row_bytes = rows->geometry.row_bytes, .n = n};
    assert(n == 0 || (rows_cuda_mapped(rows, slot, area, first) && rows_cuda_mapped(rows, slot, area, first + n - 1)));
    return dw_vram_write(rows_cuda(rows)->vram, &block, from, err);
}

static void *rows_cuda_address(const dw_rows *rows, dw_kv_slot slot, uint32_t area) {
    (void)rows, (void)slot, (void)area;
    return NULL;
}

/* --- making and ending --------------------------------------------------------------------------------------- */

static void rows_cuda_destroy(dw_rows *rows) {
    cuda_rows *cuda = rows_cuda(rows);
    for (uint32_t slot = 0; cuda->slots != NULL && slot < rows->geometry.n_slots; slot++) {
        if (cuda->slots[slot].chunks != NULL) rows_cuda_unmap(rows, slot);
        free(cuda->slots[slot].chunks);
    }
    dw_buffer_destroy(cuda->buffer);
    if (cuda->vram != NULL) dw_vram_chunk_release(cuda->vram, cuda->zeros);
    dw_vram_destroy(cuda->vram);
    free(cuda->slots);
    free(cuda);
}

static const dw_rows_ops rows_cuda_ops = {
    .destroy = rows_cuda_destroy, .make = rows_cuda_make, .open = rows_cuda_open, .free = rows_cuda_free,
    .map = rows_cuda_map, .unmap = rows_cuda_unmap, .copy = rows_cuda_copy, .reserve = rows_cuda_reserve,
    .bind = rows_cuda_bind, .read = rows_cuda_read, .write = rows_cuda_write, .address = rows_cuda_address,
};

static dw_status rows_cuda_start(cuda_rows *cuda, dw_device *device, int ordinal, dw_error *err) {
    const dw_rows *rows = &cuda->base;
    uint64_t bytes = rows->geometry.n_slots * rows->stride;
    cuda->per_run = rows->run_bytes / rows->granule_bytes;
    cuda->slots = calloc(rows->geometry.n_slots, sizeof cuda->slots[0]);
    if (cuda->slots == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    for (uint32_t slot = 0; slot < rows->geometry.n_slots; slot++) {
        cuda->slots[slot].chunks = calloc(rows_cuda_chunks(cuda), sizeof(dw_vram_chunk *));
        if (cuda->slots[slot].chunks == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    }
    dw_status status = device != NULL ? dw_vram_create(device, bytes, rows->granule_bytes, &cuda->vram, err)
                                      : dw_vram_create_bare(ordinal, bytes, rows->granule_bytes, &cuda->vram, err);
    if (status == DW_OK) status = dw_vram_chunk_make(cuda->vram, &cuda->zeros, err);
    if (status == DW_OK && device != NULL) status = dw_vram_buffer(cuda->vram, 0, bytes, &cuda->buffer, err);
    return status;
}

static dw_status rows_cuda_create(const dw_kv_geometry *geometry, dw_device *device, int ordinal, uint64_t chunk_bytes,
                                  uint32_t areas_per_run, dw_rows **out, dw_error *err) {
    *out = NULL;
    cuda_rows *cuda = calloc(1, sizeof *cuda);
    if (cuda == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    cuda->base.ops = &rows_cuda_ops;
    cuda->base.opening_takes_memory = true;
    cuda->base.in_one_buffer = true;
    dw_status status = dw_rows_init(&cuda->base, geometry, chunk_bytes, areas_per_run, err);
    if (status == DW_OK) status = rows_cuda_start(cuda, device, ordinal, err);
    if (status != DW_OK) rows_cuda_destroy(&cuda->base);
    else *out = &cuda->base;
    return status;
}

dw_status dw_rows_cuda_create_bare(const dw_kv_geometry *geometry, int ordinal, uint64_t chunk_bytes,
                                   uint32_t areas_per_run, dw_rows **out, dw_error *err) {
    return rows_cuda_create(geometry, NULL, ordinal, chunk_bytes, areas_per_run, out, err);
}

/* As many areas as make a row step of 32 KiB: one layer is then read 3 % slower than on its own (reference measurement,
 * H100). ggml's kernels multiply rows by row steps in 32 bits. */
static uint32_t rows_cuda_areas_per_run(const dw_kv_geometry *geometry, const dw_device_info *info) {
    uint32_t areas = 1;
    if (geometry->row_bytes % info->tensor_align_bytes != 0) return 1; /* each area begins where a tensor may */
    while (areas < 2 * geometry->n_layers) {
        uint64_t step = 2 * (uint64_t)areas * geometry->row_bytes;
        if (step > 32 << 10 || step * geometry->context_tokens > INT32_MAX) break;
        areas *= 2;
    }
    return areas;
}

/* A fork takes 0.03 ms a chunk that it maps, and holds a chunk a run: of 80 GiB, 64 MiB where all areas are one run
 * (two chunks for 4,096 tokens of a 1B model), 32 MiB for four runs. */
static uint64_t rows_cuda_chunk_bytes(const dw_kv_geometry *geometry, const dw_device_info *info, uint64_t unit,
                                      uint32_t areas_per_run) {
    uint64_t n_runs = (2 * geometry->n_layers + areas_per_run - 1) / areas_per_run, chunk = unit;
    uint64_t most = (uint64_t)geometry->context_tokens * areas_per_run * geometry->row_bytes;
    while (2 * chunk <= info->memory_bytes / 1024 && 2 * chunk * n_runs <= info->memory_bytes / 512 && chunk < most) {
        chunk *= 2;
    }
    return chunk;
}

dw_status dw_rows_cuda_create(const dw_kv_geometry *geometry, dw_device *device, dw_rows **out, dw_error *err) {
    const dw_device_info *info = dw_device_info_view(device);
    uint64_t unit = dw_vram_unit_bytes(device);
    *out = NULL;
    if (unit == 0) return dw_fail(err, DW_E_UNSUPPORTED, "the memory of device %s cannot be mapped", info->name);
    uint32_t areas_per_run = rows_cuda_areas_per_run(geometry, info);
    uint64_t chunk = rows_cuda_chunk_bytes(geometry, info, unit, areas_per_run);
    return rows_cuda_create(geometry, device, 0, chunk, areas_per_run, out, err);
}

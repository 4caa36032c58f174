/* image0.c: the first image of a program's memory: its active data segments, in a memory object that all its instances
 * map privately.
 *
 * Only pages with data are in the object. A page without is anonymous memory: mapped from a sparse object it would be
 * allocated twice when the guest writes to it, once in the object and once as the private copy. */
#include <stdlib.h>
#include <string.h>

#include "wasm/program.h"

typedef struct run { uint64_t start, end; } run; /* of pages with data */

/* Each run costs two maps per instance, and the system has a limit for those (vm.max_map_count). */
enum { RUNS_MAX = 8 };

static int compare_runs(const void *a, const void *b) {
    const run *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Joins runs that are not more than `gap` bytes apart. Returns how many are left. */
static size_t join_runs(run *runs, size_t n, uint64_t gap) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && runs[i].start <= runs[kept - 1].end + gap)
            runs[kept - 1].end = dw_max_u64(runs[kept - 1].end, runs[i].end);
        else runs[kept++] = runs[i];
    }
    return kept;
}

/* Pages that the segments touch, ascending; at most RUNS_MAX runs, the gaps between which are as large as possible. */
static dw_status find_runs(const dw_prepared *prepared, run **out, size_t *n_out, dw_error *err) {
    uint64_t page = dw_os_page_bytes();
    run *runs = calloc((size_t)prepared->n_segments + 1, sizeof *runs);
    if (!runs) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u data segments", (unsigned)prepared->n_segments);
    for (uint32_t i = 0; i < prepared->n_segments; i++) {
        /* Inside the memory: prepare.c. */
        uint64_t end = (uint64_t)prepared->segments[i].at + prepared->segments[i].bytes.size;
        runs[i].start = dw_round_down_u64(prepared->segments[i].at, page);
        runs[i].end = dw_round_down_u64(end + page - 1, page);
    }
    size_t n = prepared->n_segments;
    if (n > 1) qsort(runs, n, sizeof *runs, compare_runs);
    uint64_t touched = 0, gap = 0;
    n = join_runs(runs, n, gap);
    for (size_t i = 0; i < n; i++) touched += runs[i].end - runs[i].start;
    if (touched > DW_PROGRAM_IMAGE_BYTES_MAX) {
        free(runs);
        return dw_fail(err, DW_E_LIMIT, "the data segments touch %llu bytes of pages, more than %llu",
                       (unsigned long long)touched, (unsigned long long)DW_PROGRAM_IMAGE_BYTES_MAX);
    }
    for (gap = DW_WASM_PAGE_BYTES; n > RUNS_MAX; gap *= 2) n = join_runs(runs, n, gap);
    *out = runs;
    *n_out = n;
    return DW_OK;
}

/* Later segments write over earlier ones, as in an instantiation. */
static dw_status fill_image(const dw_prepared *prepared, dw_backing *backing, uint64_t size, dw_error *err) {
    void *map;
    dw_status status = dw_os_map_file(NULL, (size_t)size, dw_backing_file(backing), 0, DW_OS_RW, true, &map, err);
    if (status != DW_OK) return status;
    for (uint32_t i = 0; i < prepared->n_segments; i++) {
        const dw_prepared_segment *segment = &prepared->segments[i];
        memcpy((uint8_t *)map + segment->at, segment->bytes.data, (size_t)segment->bytes.size);
    }
    dw_os_unmap(map, (size_t)size);
    return DW_OK;
}

static dw_status make_extents(const run *runs, size_t n, dw_image0 *out, dw_error *err) {
    out->extents = calloc(2 * n, sizeof *out->extents);
    if (!out->extents) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the first image");
    uint64_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (runs[i].start > at)
            out->extents[out->n_extents++] = (dw_extent){.offset = at, .size = runs[i].start - at,
                                                         .mode = DW_EXTENT_PRIVATE};
        out->extents[out->n_extents++] = (dw_extent){.offset = runs[i].start, .size = runs[i].end - runs[i].start,
                                                     .backing = out->backing, .backing_offset = runs[i].start,
                                                     .mode = DW_EXTENT_PRIVATE};
        at = runs[i].end;
    }
    return DW_OK;
}

dw_status dw_image0_build(const dw_prepared *prepared, dw_image0 *out, dw_error *err) {
    *out = (dw_image0){0};
    run *runs = NULL;
    size_t n = 0;
    if (prepared->n_segments == 0) return DW_OK;
    dw_status status = find_runs(prepared, &runs, &n, err);
    if (status != DW_OK) return status;
    uint64_t size = runs[n - 1].end;
    status = dw_backing_create_memory("dw-image0", size, &out->backing, err);
    if (status == DW_OK) status = fill_image(prepared, out->backing, size, err);
    if (status == DW_OK) status = make_extents(runs, n, out, err);
    free(runs);
    if (status != DW_OK) dw_image0_deinit(out);
    return status;
}

void dw_image0_deinit(dw_image0 *image) {
    free(image->extents);
    dw_backing_release(image->backing);
    *image = (dw_image0){0};
}

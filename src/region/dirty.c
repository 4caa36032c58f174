/* dirty.c: which pages of a region were written since the mark.
 *
 * dirty = written, which we know of, and what is found in `tracked`: by the kernel's write tracking, or by comparing
 * each page's hash with the one taken at the mark. Mapping over pages moves them from `tracked` to `written`.
 * Read-only extents are not tracked: nobody can write there.
 * A mark that fails must not lose what an earlier mark knew: everything then counts as written. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "region/region_internal.h"

/* --- following changes ------------------------------------------------------------------------------------------- */

dw_status dw_dirty_reserve(dw_region *region) {
    dw_status status = dw_ranges_reserve(&region->dirty.tracked, 1);
    return status == DW_OK ? dw_ranges_reserve(&region->dirty.written, 1) : status;
}

/* For calls that dw_dirty_reserve made unable to fail. */
static void cannot_fail(dw_status status) {
    if (status != DW_OK) abort(); /* a bug of ours: going on would lose a write */
}

void dw_dirty_mapped(dw_region *region, uint64_t offset, uint64_t size) {
    if (!region->dirty.marked) return;
    cannot_fail(dw_ranges_remove(&region->dirty.tracked, offset, size));
    cannot_fail(dw_ranges_add(&region->dirty.written, offset, size));
}

void dw_dirty_unmapped(dw_region *region, uint64_t offset, uint64_t size) {
    if (!region->dirty.marked) return;
    cannot_fail(dw_ranges_remove(&region->dirty.tracked, offset, size));
    cannot_fail(dw_ranges_remove(&region->dirty.written, offset, size));
}

static void drop_hashes(dw_dirty_state *dirty) {
    free(dirty->runs);
    free(dirty->hashes);
    dirty->runs = NULL;
    dirty->hashes = NULL;
    dirty->run_count = 0;
}

void dw_dirty_deinit(dw_region *region) {
    dw_ranges_deinit(&region->dirty.tracked);
    dw_ranges_deinit(&region->dirty.written);
    drop_hashes(&region->dirty);
}

/* --- marking ----------------------------------------------------------------------------------------------------- */

/* The writable pages, as the `tracked` of a new mark. */
static dw_status writable_ranges(const dw_region *region, dw_ranges *out) {
    for (size_t i = 0; i < region->extents.count; i++) {
        const dw_extent *extent = &region->extents.items[i];
        if (extent->mode == DW_EXTENT_READ_ONLY) continue;
        dw_status status = dw_ranges_add(out, extent->offset, extent->size);
        if (status != DW_OK) return status;
    }
    return DW_OK;
}

static void ignore_run(void *context, void *run, size_t run_size) { (void)context, (void)run, (void)run_size; }

/* Arms one run of pages. The parts that are armed already are only scanned, which protects again what was written
 * since: the cost follows the change, not the size (I8). */
static dw_status arm_range(dw_region *region, dw_range range, dw_error *err) {
    const dw_ranges *armed = &region->dirty.tracked;
    bool armed_before = region->dirty.marked && region->dirty.method == DW_DIRTY_KERNEL;
    size_t next = armed_before ? dw_ranges_find(armed, range.offset) : armed->count;
    uint64_t at = range.offset, end = dw_range_end(range);
    while (at < end) {
        dw_range known = next < armed->count ? dw_range_intersect(armed->items[next], (dw_range){at, end - at})
                                             : (dw_range){end, 0};
        uint64_t stop = known.size ? known.offset : end;
        dw_status status = dw_os_dirty_arm(region->base + at, (size_t)(stop - at), err);
        if (status == DW_OK && known.size)
            status = dw_os_dirty_scan(region->base + known.offset, (size_t)known.size, true, ignore_run, NULL, err);
        if (status != DW_OK) return status;
        at = stop + known.size;
        next++;
    }
    return DW_OK;
}

static dw_status mark_by_kernel(dw_region *region, const dw_ranges *writable, dw_error *err) {
    for (size_t i = 0; i < writable->count; i++) {
        dw_status status = arm_range(region, writable->items[i], err);
        if (status != DW_OK) return status;
    }
    return DW_OK;
}

static dw_status hash_page(dw_region *region, dw_hasher *hasher, uint64_t offset, dw_hash *out) {
    dw_status status = dw_hasher_update(hasher, region->base + offset, (size_t)region->page);
    return status == DW_OK ? dw_hasher_finish(hasher, out) : status;
}

/* Hashes every writable page into new arrays, and puts them into the state only when all is done. */
static dw_status mark_by_hashes(dw_region *region, const dw_ranges *writable, dw_error *err) {
    uint64_t pages = 0, bytes;
    for (size_t i = 0; i < writable->count; i++) pages += writable->items[i].size / region->page;
    if (!dw_mul_u64(pages, sizeof(dw_hash), &bytes) || bytes > SIZE_MAX)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for the hashes of %" PRIu64 " pages", pages);
    dw_hash *hashes = malloc((size_t)dw_max_u64(bytes, 1));
    dw_hashed_run *runs = calloc(writable->count + 1, sizeof runs[0]);
    dw_hasher *hasher = NULL;
    dw_status status = hashes && runs ? dw_hasher_create(&hasher) : DW_E_NO_MEMORY;

    uint64_t next = 0;
    for (size_t i = 0; status == DW_OK && i < writable->count; i++) {
        dw_range range = writable->items[i];
        runs[i] = (dw_hashed_run){.range = range, .first = next};
        for (uint64_t at = range.offset; status == DW_OK && at < dw_range_end(range); at += region->page)
            status = hash_page(region, hasher, at, &hashes[next++]);
    }
    dw_hasher_destroy(hasher);
    if (status != DW_OK) {
        free(hashes);
        free(runs);
        return dw_fail(err, status, "cannot take the hashes of %" PRIu64 " pages", pages);
    }
    drop_hashes(&region->dirty);
    region->dirty.hashes = hashes;
    region->dirty.runs = runs;
    region->dirty.run_count = writable->count;
    return DW_OK;
}

dw_status dw_region_mark(dw_region *region, dw_dirty_method method, dw_error *err) {
    dw_dirty_state *dirty = &region->dirty;
    dw_ranges writable = {0};
    if (method != DW_DIRTY_AUTO && method != DW_DIRTY_KERNEL && method != DW_DIRTY_COMPARE)
        return dw_fail(err, DW_E_INVALID, "dirty method %d", (int)method);
    bool can_ask_kernel = method != DW_DIRTY_COMPARE && dw_os_dirty_supported();
    if (method == DW_DIRTY_KERNEL && !can_ask_kernel)
        return dw_fail(err, DW_E_UNSUPPORTED, "this kernel does not track written pages");
    if (method == DW_DIRTY_AUTO) method = can_ask_kernel ? DW_DIRTY_KERNEL : DW_DIRTY_COMPARE;

    dw_status status = writable_ranges(region, &writable);
    if (status == DW_OK) status = dw_ranges_reserve(&dirty->written, 1);
    if (status != DW_OK) {
        dw_ranges_deinit(&writable);
        return dw_fail(err, status, "no memory to mark a region");
    }
    status = method == DW_DIRTY_KERNEL ? mark_by_kernel(region, &writable, err)
                                       : mark_by_hashes(region, &writable, err);
    if (status != DW_OK) {
        /* Some pages may be armed anew, and what was known of them is gone: all of them count as written. */
        dw_ranges_deinit(&writable);
        dw_ranges_clear(&dirty->tracked);
        dw_ranges_clear(&dirty->written);
        if (dirty->marked) cannot_fail(dw_ranges_add(&dirty->written, 0, region->size));
        return status;
    }
    if (method == DW_DIRTY_KERNEL) drop_hashes(dirty);
    dw_ranges_deinit(&dirty->tracked);
    dirty->tracked = writable;
    dw_ranges_clear(&dirty->written);
    dirty->method = method;
    dirty->marked = true;
    return DW_OK;
}

dw_dirty_method dw_region_dirty_method(const dw_region *region) {
    return region->dirty.marked ? region->dirty.method : DW_DIRTY_AUTO;
}

dw_status dw_region_touch(dw_region *region, uint64_t offset, uint64_t size) {
    if (!dw_in_range(offset, size, region->size)) return DW_E_RANGE;
    if (!region->dirty.marked || size == 0) return DW_OK;
    uint64_t start = dw_round_down_u64(offset, region->page), end;
    if (!dw_round_up_u64(offset + size, region->page, &end)) return DW_E_RANGE;
    return dw_ranges_add(&region->dirty.written, start, end - start);
}

/* --- asking ------------------------------------------------------------------------------------------------------ */

typedef struct found_pages {
    dw_region *region;
    dw_ranges ranges;
    dw_status status;
} found_pages;

static void note_dirty_run(void *context, void *run, size_t run_size) {
    found_pages *found = context;
    if (found->status == DW_OK)
        found->status = dw_ranges_add(&found->ranges, (uint64_t)((char *)run - found->region->base), run_size);
}

static dw_status find_by_kernel(dw_region *region, found_pages *found, dw_error *err) {
    const dw_ranges *tracked = &region->dirty.tracked;
    for (size_t i = 0; i < tracked->count; i++) {
        dw_status status = dw_os_dirty_scan(region->base + tracked->items[i].offset, (size_t)tracked->items[i].size,
                                            false, note_dirty_run, found, err);
        if (status != DW_OK) return status;
    }
    return DW_OK;
}

/* Compares the pages of one tracked range that lie in one hashed run. */
static dw_status compare_run(dw_region *region, dw_hasher *hasher, const dw_hashed_run *run, dw_range tracked,
                             found_pages *found) {
    dw_range part = dw_range_intersect(run->range, tracked);
    const dw_hash *old = region->dirty.hashes + run->first;
    for (uint64_t at = part.offset; at < dw_range_end(part); at += region->page) {
        dw_hash now;
        dw_status status = hash_page(region, hasher, at, &now);
        if (status != DW_OK) return status;
        if (!dw_hash_equal(&now, &old[(at - run->range.offset) / region->page]))
            note_dirty_run(found, region->base + at, (size_t)region->page);
    }
    return DW_OK;
}

static dw_status find_by_hashes(dw_region *region, found_pages *found, dw_error *err) {
    const dw_dirty_state *dirty = &region->dirty;
    dw_hasher *hasher;
    dw_status status = dw_hasher_create(&hasher);
    for (size_t i = 0; status == DW_OK && i < dirty->run_count; i++) {
        dw_range run = dirty->runs[i].range;
        size_t next = dw_ranges_find(&dirty->tracked, run.offset);
        for (; status == DW_OK && next < dirty->tracked.count && dirty->tracked.items[next].offset < dw_range_end(run);
             next++)
            status = compare_run(region, hasher, &dirty->runs[i], dirty->tracked.items[next], found);
    }
    dw_hasher_destroy(hasher);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "cannot compare the pages of a region");
}

/* Reports what was found, as far as it is mapped: a caller will read it. */
static void report_dirty_runs(const dw_region *region, const dw_ranges *found, void (*each)(void *, uint64_t, uint64_t),
                              void *context) {
    size_t next = 0;
    for (size_t i = 0; i < region->extents.count; i++) {
        dw_range extent = {region->extents.items[i].offset, region->extents.items[i].size};
        while (next < found->count && dw_range_end(found->items[next]) <= extent.offset) next++;
        for (size_t j = next; j < found->count && found->items[j].offset < dw_range_end(extent); j++) {
            dw_range part = dw_range_intersect(found->items[j], extent);
            each(context, part.offset, part.size);
        }
    }
}

dw_status dw_region_dirty(dw_region *region, void (*each)(void *context, uint64_t offset, uint64_t size), void *context,
                          dw_error *err) {
    const dw_dirty_state *dirty = &region->dirty;
    if (!dirty->marked) return dw_fail(err, DW_E_STATE, "the region was not marked");
    found_pages found = {.region = region};
    for (size_t i = 0; found.status == DW_OK && i < dirty->written.count; i++)
        found.status = dw_ranges_add(&found.ranges, dirty->written.items[i].offset, dirty->written.items[i].size);
    dw_status status = found.status;
    if (status == DW_OK)
        status = dirty->method == DW_DIRTY_KERNEL ? find_by_kernel(region, &found, err)
                                                  : find_by_hashes(region, &found, err);
    if (status == DW_OK && found.status != DW_OK)
        status = dw_fail(err, found.status, "no memory for the list of dirty pages");
    if (status == DW_OK) report_dirty_runs(region, &found.ranges, each, context);
    dw_ranges_deinit(&found.ranges);
    return status;
}

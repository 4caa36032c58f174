/* region.c: what is mapped where in a region, and what of it is lent.
 *
 * Every change goes check, reserve, system call, record: all that can fail comes before the one system call, and what
 * comes after it cannot fail. So after a failure at any point the extents still say what is truly mapped.
 * (One exception is the kernel's: Linux before 6.12 may drop the old map when a fixed map fails for want of memory
 * half-way. It checks the limits first, so that this needs an exhausted kernel.) */
#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "region/region_internal.h"

/* --- counting maps ------------------------------------------------------------------------------------------------ */

/* Each extent counts as one, and so does each gap between extents, and the reservation before and behind them. The
 * system may see fewer. */
static atomic_uint_least64_t process_maps;
enum { MAPS_OF_RESERVATION = 2 };
/* That a change adds at most: it cuts an extent or a gap in two, and is one itself. */
enum { MAPS_OF_CHANGE = 2 };

uint64_t dw_region_maps_count(void) { return atomic_load_explicit(&process_maps, memory_order_relaxed); }

uint64_t dw_region_maps_left(void) {
    uint64_t count = dw_region_maps_count();
    return count < DW_PROCESS_MAPS_MAX ? DW_PROCESS_MAPS_MAX - count : 0;
}

static void give_maps_back(uint64_t n) { atomic_fetch_sub_explicit(&process_maps, n, memory_order_relaxed); }

static dw_status take_maps(uint64_t n, dw_error *err) {
    if (atomic_fetch_add_explicit(&process_maps, n, memory_order_relaxed) + n <= DW_PROCESS_MAPS_MAX) return DW_OK;
    give_maps_back(n);
    return dw_fail(err, DW_E_LIMIT, "the regions of this process have the %u maps that they may have",
                   DW_PROCESS_MAPS_MAX);
}

/* Extents [from, to), and the gaps between these and their neighbours. */
static uint64_t count_maps(const dw_region *region, size_t from, size_t to) {
    uint64_t n = to - from;
    for (size_t i = from > 0 ? from - 1 : 0; i < to && i + 1 < region->extents.count; i++)
        n += region->extents.items[i].offset + region->extents.items[i].size != region->extents.items[i + 1].offset;
    return n;
}

/* --- create, destroy --------------------------------------------------------------------------------------------- */

dw_status dw_region_create(const dw_region_options *options, dw_region **out, dw_error *err) {
    uint64_t page = dw_os_page_bytes(), before, reserved, after, total;
    *out = NULL;
    bool fits = dw_round_up_u64(options->guard_before_bytes, page, &before) &&
                dw_round_up_u64(options->reserve_bytes, page, &reserved) &&
                dw_round_up_u64(options->guard_bytes, page, &after) && dw_add_u64(before, reserved, &total) &&
                dw_add_u64(total, after, &total);
    if (!fits || options->reserve_bytes == 0 || total > SIZE_MAX / 2)
        return dw_fail(err, DW_E_INVALID, "cannot reserve %" PRIu64 " bytes for a region", options->reserve_bytes);

    dw_region *region = calloc(1, sizeof *region);
    if (!region) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a region");
    void *reservation;
    dw_status status = take_maps(MAPS_OF_RESERVATION, err);
    if (status != DW_OK) {
        free(region);
        return status;
    }
    status = dw_os_map_reserve((size_t)total, &reservation, err);
    if (status != DW_OK) {
        give_maps_back(MAPS_OF_RESERVATION);
        free(region);
        return status;
    }
    region->reservation = reservation;
    region->reservation_bytes = (size_t)total;
    region->base = region->reservation + before;
    region->reserved = reserved;
    region->page = page;
    *out = region;
    return DW_OK;
}

dw_status dw_region_destroy(dw_region *region) {
    if (!region) return DW_OK;
    if (region->windows.count) return DW_E_BUSY;
    dw_os_unmap(region->reservation, region->reservation_bytes);
    give_maps_back(MAPS_OF_RESERVATION + count_maps(region, 0, region->extents.count));
    for (size_t i = 0; i < region->extents.count; i++) dw_backing_release(region->extents.items[i].backing);
    DW_VEC_DEINIT(&region->extents);
    DW_VEC_DEINIT(&region->windows);
    dw_dirty_deinit(region);
    free(region);
    return DW_OK;
}

void *dw_region_base(const dw_region *region) { return region->base; }
uint64_t dw_region_size(const dw_region *region) { return region->size; }
uint64_t dw_region_reserved(const dw_region *region) { return region->reserved; }

/* --- extents ----------------------------------------------------------------------------------------------------- */

static uint64_t extent_end(const dw_extent *extent) { return extent->offset + extent->size; }

/* Index of the first extent that ends at `offset` or behind it, or the count. */
static size_t find_extent(const dw_region *region, uint64_t offset) {
    size_t low = 0, high = region->extents.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (extent_end(&region->extents.items[middle]) >= offset) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* Room for one more change: an extent put into the middle of another makes three of one. */
static dw_status reserve_extents(dw_region *region, dw_error *err) {
    dw_status status = DW_VEC_RESERVE(&region->extents, 2, DW_REGION_EXTENTS_MAX);
    if (status == DW_E_LIMIT)
        return dw_fail(err, status, "a region cannot have more than %u extents", DW_REGION_EXTENTS_MAX);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory for the extents of a region");
}

/* True when b goes on where a ends, in the region and in what it comes from. */
static bool continues(const dw_extent *a, const dw_extent *b) {
    return extent_end(a) == b->offset && a->backing == b->backing && a->mode == b->mode &&
           (!a->backing || a->backing_offset + a->size == b->backing_offset);
}

/* Appends `piece` to a list, or makes the last one longer. */
static size_t append_piece(dw_extent *pieces, size_t count, dw_extent piece) {
    if (count && continues(&pieces[count - 1], &piece)) {
        pieces[count - 1].size += piece.size;
        return count;
    }
    pieces[count] = piece;
    return count + 1;
}

/* Records that [offset, +size) now comes from `placed` (NULL: nothing is mapped there). Capacity is there, and
 * MAPS_OF_CHANGE maps are taken. */
static void record_extents(dw_region *region, uint64_t offset, uint64_t size, const dw_extent *placed) {
    /* Neighbours that only touch the range are taken in too, so that what continues is merged. */
    uint64_t end = offset + size;
    size_t first = find_extent(region, offset), last = first, count = 0;
    dw_extent pieces[4], left = {0}, right = {0};
    while (last < region->extents.count && region->extents.items[last].offset <= end) {
        const dw_extent *old = &region->extents.items[last++];
        if (old->offset < offset) {
            left = *old;
            left.size = dw_min_u64(old->size, offset - old->offset);
        }
        if (extent_end(old) > end) {
            uint64_t skipped = end - dw_min_u64(end, old->offset);
            right = *old;
            right.offset += skipped;
            right.size -= skipped;
            right.backing_offset += old->backing ? skipped : 0;
        }
    }
    if (left.size) count = append_piece(pieces, count, left);
    if (placed) count = append_piece(pieces, count, *placed);
    if (right.size) count = append_piece(pieces, count, right);

    uint64_t maps_before = count_maps(region, first, last);
    /* The new pieces take their references before the old ones give theirs back. */
    for (size_t i = 0; i < count; i++) dw_backing_retain(pieces[i].backing);
    for (size_t i = first; i < last; i++) dw_backing_release(region->extents.items[i].backing);
    assert(region->extents.count - (last - first) + count <= region->extents.capacity);
    memmove(region->extents.items + first + count, region->extents.items + last,
            (region->extents.count - last) * sizeof region->extents.items[0]);
    if (count) memcpy(region->extents.items + first, pieces, count * sizeof pieces[0]);
    region->extents.count = region->extents.count - (last - first) + count;
    give_maps_back(maps_before + MAPS_OF_CHANGE - count_maps(region, first, first + count));
}

const dw_extent *dw_region_extents(const dw_region *region, size_t *count) {
    *count = region->extents.count;
    return region->extents.items;
}

/* --- map, grow, unmap -------------------------------------------------------------------------------------------- */

static bool is_lent(const dw_region *region, dw_range range) {
    for (size_t i = 0; i < region->windows.count; i++) {
        if (dw_range_intersect(region->windows.items[i].range, range).size) return true;
    }
    return false;
}

/* Whether the pages [offset, +size) may be mapped anew or given back. */
static dw_status check_change(const dw_region *region, uint64_t offset, uint64_t size, uint64_t limit, dw_error *err) {
    if (size == 0 || offset % region->page || size % region->page)
        return dw_fail(err, DW_E_INVALID, "%" PRIu64 " bytes at %" PRIu64 " are not whole pages", size, offset);
    if (!dw_in_range(offset, size, limit))
        return dw_fail(err, DW_E_RANGE, "%" PRIu64 " bytes at %" PRIu64 " leave the region's %" PRIu64 " bytes", size,
                       offset, limit);
    if (is_lent(region, (dw_range){offset, size}))
        return dw_fail(err, DW_E_BUSY, "%" PRIu64 " bytes at %" PRIu64 " are lent to a device", size, offset);
    return DW_OK;
}

static dw_status reserve_change(dw_region *region, bool gives_back, dw_error *err) {
    dw_status status = reserve_extents(region, err);
    if (status != DW_OK) return status;
    status = dw_dirty_reserve(region);
    if (status != DW_OK) return dw_fail(err, status, "no memory for a change of a region");
    if (!gives_back) return take_maps(MAPS_OF_CHANGE, err);
    /* Never refused: it is how others come to maps again. */
    atomic_fetch_add_explicit(&process_maps, MAPS_OF_CHANGE, memory_order_relaxed);
    return DW_OK;
}

/* After a change that failed behind reserve_change. */
static dw_status undo_reserve(dw_status status) {
    give_maps_back(MAPS_OF_CHANGE);
    return status;
}

dw_status dw_region_grow(dw_region *region, uint64_t size, dw_error *err) {
    uint64_t rounded;
    if (size <= region->size) return DW_OK;
    if (!dw_round_up_u64(size, region->page, &rounded) || rounded > region->reserved)
        return dw_fail(err, DW_E_LIMIT, "cannot grow to %" PRIu64 " bytes, %" PRIu64 " are reserved", size,
                       region->reserved);
    if (region->windows.count)
        return dw_fail(err, DW_E_BUSY, "no growth while %zu windows are lent", region->windows.count);
    dw_extent tail = {.offset = region->size, .size = rounded - region->size, .mode = DW_EXTENT_PRIVATE};
    dw_status status = reserve_change(region, false, err);
    if (status != DW_OK) return status;

    status = dw_os_map_anonymous(region->base + tail.offset, (size_t)tail.size, err);
    if (status != DW_OK) return undo_reserve(status);
    record_extents(region, tail.offset, tail.size, &tail);
    dw_dirty_mapped(region, tail.offset, tail.size);
    region->size = rounded;
    return DW_OK;
}

static dw_status check_region_extent(const dw_region *region, const dw_extent *extent, bool sparse, dw_error *err) {
    dw_status status = check_change(region, extent->offset, extent->size, region->reserved, err);
    if (status != DW_OK) return status;
    bool known_mode = extent->mode == DW_EXTENT_PRIVATE ||
                      (extent->backing && (extent->mode == DW_EXTENT_SHARED || extent->mode == DW_EXTENT_READ_ONLY));
    if (!known_mode || (!extent->backing && extent->backing_offset) || extent->backing_offset % region->page)
        return dw_fail(err, DW_E_INVALID, "extent mode %d at %" PRIu64 " of its backing makes no sense",
                       (int)extent->mode, extent->backing_offset);
    if (!sparse && extent->offset > region->size)
        return dw_fail(err, DW_E_RANGE, "an extent at %" PRIu64 " leaves a gap behind the body's %" PRIu64 " bytes",
                       extent->offset, region->size);
    if (region->windows.count && extent_end(extent) > region->size)
        return dw_fail(err, DW_E_BUSY, "no growth while %zu windows are lent", region->windows.count);
    return DW_OK;
}

/* The one system call of a map. */
static dw_status map_extent(const dw_region *region, const dw_extent *extent, dw_error *err) {
    char *place = region->base + extent->offset;
    if (!extent->backing) return dw_os_map_anonymous(place, (size_t)extent->size, err);
    /* Read-only pages are mapped shared: nobody can copy them, and the kernel need not think that somebody might. */
    return dw_os_map_file(place, (size_t)extent->size, dw_backing_file(extent->backing), extent->backing_offset,
                          extent->mode == DW_EXTENT_READ_ONLY ? DW_OS_RO : DW_OS_RW, extent->mode != DW_EXTENT_PRIVATE,
                          NULL, err);
}

dw_status dw_region_map(dw_region *region, const dw_extent *extent, bool sparse, dw_error *err) {
    const dw_extent placed = *extent; /* it may be one of our own, which the change is about to move */
    dw_status status = check_region_extent(region, &placed, sparse, err);
    if (status == DW_OK) status = reserve_change(region, false, err);
    if (status != DW_OK) return status;
    status = map_extent(region, &placed, err);
    if (status != DW_OK) return undo_reserve(status);
    record_extents(region, placed.offset, placed.size, &placed);
    dw_dirty_mapped(region, placed.offset, placed.size);
    region->size = dw_max_u64(region->size, extent_end(&placed));
    return DW_OK;
}

dw_status dw_region_unmap(dw_region *region, uint64_t offset, uint64_t size, dw_error *err) {
    dw_status status = check_change(region, offset, size, region->size, err);
    if (status == DW_OK) status = reserve_change(region, true, err);
    if (status != DW_OK) return status;
    status = dw_os_map_decommit(region->base + offset, (size_t)size, err);
    if (status != DW_OK) return undo_reserve(status);
    record_extents(region, offset, size, NULL);
    dw_dirty_unmapped(region, offset, size);
    return DW_OK;
}

dw_status dw_region_fill_in(dw_region *region, const dw_region_fill *fill, dw_error *err) {
    if (!dw_in_range(fill->offset, fill->size, region->size))
        return dw_fail(err, DW_E_RANGE, "%" PRIu64 " bytes at %" PRIu64 " leave the body's %" PRIu64 " bytes",
                       fill->size, fill->offset, region->size);
    if (is_lent(region, (dw_range){fill->offset, fill->size}))
        return dw_fail(err, DW_E_BUSY, "%" PRIu64 " bytes at %" PRIu64 " are lent to a device", fill->size,
                       fill->offset);
    if (fill->backing)
        return dw_os_read_at(dw_backing_file(fill->backing), fill->backing_offset, region->base + fill->offset,
                             (size_t)fill->size, err);
    memset(region->base + fill->offset, 0, (size_t)fill->size);
    return DW_OK;
}

/* --- windows ----------------------------------------------------------------------------------------------------- */

static dw_lent_window *find_window(const dw_region *region, uint32_t id) {
    /* Youngest first: operations mostly end in the order in which they began, and few are open. */
    for (size_t i = region->windows.count; i > 0; i--) {
        if (region->windows.items[i - 1].id == id) return &region->windows.items[i - 1];
    }
    return NULL;
}

dw_status dw_region_lend(dw_region *region, uint64_t offset, uint64_t size, dw_window *out, dw_error *err) {
    *out = (dw_window){0};
    if (size == 0 || offset % region->page || size % region->page)
        return dw_fail(err, DW_E_INVALID, "a window of %" PRIu64 " bytes at %" PRIu64 " is not whole pages", size,
                       offset);
    if (!dw_in_range(offset, size, region->size))
        return dw_fail(err, DW_E_RANGE,
                       "a window of %" PRIu64 " bytes at %" PRIu64 " leaves the body's %" PRIu64 " bytes", size, offset,
                       region->size);
    dw_status status = DW_VEC_RESERVE(&region->windows, 1, DW_REGION_WINDOWS_MAX);
    if (status == DW_E_LIMIT) return dw_fail(err, status, "more than %u windows are lent", DW_REGION_WINDOWS_MAX);
    if (status != DW_OK) return dw_fail(err, status, "no memory for a window");
    do {
        region->last_window_id++;
    } while (region->last_window_id == 0 || find_window(region, region->last_window_id));
    region->windows.items[region->windows.count++] = (dw_lent_window){.id = region->last_window_id,
                                                                      .range = {offset, size}};
    out->id = region->last_window_id;
    return DW_OK;
}

dw_status dw_region_return(dw_region *region, dw_window window) {
    dw_lent_window *found = window.id ? find_window(region, window.id) : NULL;
    if (!found) return DW_E_BAD_HANDLE;
    *found = region->windows.items[--region->windows.count];
    return DW_OK;
}

uint32_t dw_region_lent(const dw_region *region) { return (uint32_t)region->windows.count; }

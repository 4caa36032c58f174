/* ranges.c: sets of addresses. Ends never overflow: callers have checked their ranges against a reservation. */
#include "region/ranges.h"

#include <string.h>

#include "base/checked.h"

void dw_ranges_deinit(dw_ranges *set) { DW_VEC_DEINIT(set); }

void dw_ranges_clear(dw_ranges *set) { set->count = 0; }

dw_status dw_ranges_reserve(dw_ranges *set, size_t changes) {
    /* One change adds at most one run: an add brings itself, a remove splits one run in two. */
    return DW_VEC_RESERVE(set, changes, DW_VEC_ITEMS_MAX);
}

size_t dw_ranges_find(const dw_ranges *set, uint64_t offset) {
    size_t low = 0, high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (dw_range_end(set->items[middle]) > offset) high = middle;
        else low = middle + 1;
    }
    return low;
}

/* Replaces `removed` runs from `first` by `pieces`; capacity is there. */
static void splice(dw_ranges *set, size_t first, size_t removed, const dw_range *pieces, size_t piece_count) {
    memmove(set->items + first + piece_count, set->items + first + removed,
            (set->count - first - removed) * sizeof set->items[0]);
    if (piece_count) memcpy(set->items + first, pieces, piece_count * sizeof pieces[0]);
    set->count = set->count - removed + piece_count;
}

dw_status dw_ranges_add(dw_ranges *set, uint64_t offset, uint64_t size) {
    if (size == 0) return DW_OK;
    dw_status status = dw_ranges_reserve(set, 1);
    if (status != DW_OK) return status;
    /* Runs that touch the new one are taken up into it: from the first that ends at `offset` or behind it. */
    size_t first = dw_ranges_find(set, offset ? offset - 1 : 0), last = first;
    uint64_t start = offset, end = offset + size;
    while (last < set->count && set->items[last].offset <= end) {
        start = dw_min_u64(start, set->items[last].offset);
        end = dw_max_u64(end, dw_range_end(set->items[last]));
        last++;
    }
    dw_range joined = {start, end - start};
    splice(set, first, last - first, &joined, 1);
    return DW_OK;
}

dw_status dw_ranges_remove(dw_ranges *set, uint64_t offset, uint64_t size) {
    if (size == 0) return DW_OK;
    dw_status status = dw_ranges_reserve(set, 1);
    if (status != DW_OK) return status;
    uint64_t end = offset + size;
    size_t first = dw_ranges_find(set, offset), last = first, piece_count = 0;
    dw_range pieces[2];
    for (; last < set->count && set->items[last].offset < end; last++) {
        dw_range run = set->items[last];
        if (run.offset < offset) pieces[piece_count++] = (dw_range){run.offset, offset - run.offset};
        if (dw_range_end(run) > end) pieces[piece_count++] = (dw_range){end, dw_range_end(run) - end};
    }
    splice(set, first, last - first, pieces, piece_count);
    return DW_OK;
}

dw_range dw_range_intersect(dw_range a, dw_range b) {
    uint64_t start = dw_max_u64(a.offset, b.offset), end = dw_min_u64(dw_range_end(a), dw_range_end(b));
    return start < end ? (dw_range){start, end - start} : (dw_range){start, 0};
}

/* region_internal.h: the region's fields, shared by region.c (places) and dirty.c (what was written). */
#ifndef DW_REGION_REGION_INTERNAL_H
#define DW_REGION_REGION_INTERNAL_H

#include "base/hash.h"
#include "region/ranges.h"
#include "region/region.h"

typedef struct dw_lent_window {
    uint32_t id;
    dw_range range;
} dw_lent_window;

/* A run of pages whose contents were hashed at the mark; its hashes begin at hashes[first]. */
typedef struct dw_hashed_run {
    dw_range range;
    uint64_t first;
} dw_hashed_run;

typedef struct dw_dirty_state {
    bool marked;
    dw_dirty_method method;
    /* Writable at the mark, and not mapped anew since: what was written here has to be found out. */
    dw_ranges tracked;
    dw_ranges written;     /* known to be dirty: touched by a device, grown, mapped or remapped since the mark */
    dw_hashed_run *runs;      /* DW_DIRTY_COMPARE only, ascending, as they were at the mark */
    size_t run_count;
    dw_hash *hashes;       /* one a page */
} dw_dirty_state;

struct dw_region {
    char *reservation;     /* guard, body, guard */
    size_t reservation_bytes;
    char *base;
    uint64_t size, reserved, page;
    DW_VEC(dw_extent) extents; /* sorted, disjoint, merged; each holds a reference to its backing */
    DW_VEC(dw_lent_window) windows;
    uint32_t last_window_id;
    dw_region_pin *pins;
    dw_dirty_state dirty;
};

/* For a change of [offset, +size): reserve before the system call, then one of the others, which cannot fail any
 * more. */
dw_status dw_dirty_reserve(dw_region *region) DW_MUST_USE;
void dw_dirty_mapped(dw_region *region, uint64_t offset, uint64_t size);
void dw_dirty_unmapped(dw_region *region, uint64_t offset, uint64_t size);
void dw_dirty_deinit(dw_region *region);

#endif

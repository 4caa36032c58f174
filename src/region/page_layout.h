/* page_layout.h: how the pages of a page map come into a region, with no more maps than wanted.
 *
 *   extents   what is mapped, privately; ascending, without gaps, the whole map
 *   fills     what is read (or zeroed) into the extents afterwards, and is the region's own memory then
 *
 * Where each piece of the map can be mapped by itself, there are no fills, and a restore copies nothing. Otherwise the
 * largest pieces are mapped, and small ones lie as fills in what they interrupt: a file with changed pages, memory that
 * is zero else. So a restore costs the maps, and the pages that were changed one by one; never the size of memory or of
 * the file.
 */
#ifndef DW_REGION_PAGE_LAYOUT_H
#define DW_REGION_PAGE_LAYOUT_H

#include <stddef.h>
#include "base/vec.h"
#include "region/page_map.h"
#include "region/region.h"

typedef struct dw_page_layout {
    DW_VEC(dw_extent) extents;  /* backings are the map's: borrowed */
    DW_VEC(dw_region_fill) fills;
} dw_page_layout;

/* At most about `maps_max` extents: pieces that are mapped for their size are at most half as many, each with what
 * follows it. A map of several files has one more for each run of another file. */
dw_status dw_page_layout_make(const dw_page_map *map, size_t maps_max, dw_page_layout *out, dw_error *err) DW_MUST_USE;
void dw_page_layout_deinit(dw_page_layout *layout);

#endif

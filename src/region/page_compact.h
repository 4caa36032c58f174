/* page_compact.h: laying the pages of a map side by side, so that it can be mapped in few pieces, and forks share what
 * they map.
 *
 *   unit   DW_PAGE_SEGMENT_PAGES pages of a map, aligned: what one segment of the store can hold, in order
*
 * Pages that are committed in different turns lie apart in the store. Before a fork or a restore a map in many pieces
 * is compacted: units that are in pieces are copied, each into a segment of its own, zeros as pages that take no memory
 * until they are read. Units with pages of a file stay: copying the file would not follow the change.
 *
 * Cost: DW_COMPACT_PAGES_PER_PIECE pages copied for each piece that is joined; every page that a turn changes makes at
 * most two. Only a map in more than pieces_max pieces, which could not be mapped, is compacted whatever that copies: at
 * most its stored pages, for pieces_max / 4 changed ones or more. A unit that was compacted refers to a whole segment,
 * with the zeros in it: such a map takes at most DW_PAGE_SEGMENT_PAGES pages of the store for each unit that has any.
 */
#ifndef DW_REGION_PAGE_COMPACT_H
#define DW_REGION_PAGE_COMPACT_H

#include <stddef.h>
#include "region/page_map.h"
#include "region/page_store.h"

/* Does nothing where it would join few pieces. The map says the same afterwards, and is as it
 * was after a failure. */
dw_status dw_page_map_compact(dw_page_map *map, dw_page_store *store, size_t pieces_max, dw_error *err) DW_MUST_USE;

#endif

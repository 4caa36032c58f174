/* page_map.h: which pages a memory consists of: a tree whose parts several maps share, so that a change costs what
 * changed (I8).
 *
 *   map    pages 0 .. n_pages, each of them zeros, a page of a file, or a page of a page store
 *   node   DW_PAGE_MAP_FANOUT slots, counted; one that several maps or nodes hold is copied and not changed
 *   slot   of level k, stands for DW_PAGE_MAP_FANOUT^k pages: all zeros, all of one run of a file, or a node of level
 *          k; of level 0 also a page of a store
 *
 * Costs: sharing a map is one count. Setting n pages copies at most n * height nodes, those on the way that others hold
 * too; in a map that shares nothing it copies none. Runs of zeros or of a file take one slot however long they are,
 * when they are aligned, else O(height) slots.
 *
 * Rules
 * 1. A map holds a reference to every file and page that its slots name, for as long as it lives.
 * 2. After a function that failed the map is a valid one, with some of the change in it. Who needs all or nothing
 *    prepares first (image.c).
 * 3. No node has only slots of zeros, but for room that was made (dw_page_map_prepare). What lies behind n_pages is
 *    zeros.
 * 4. A map and its shares may be used by different threads at once; one map by one thread at a time.
 */
#ifndef DW_REGION_PAGE_MAP_H
#define DW_REGION_PAGE_MAP_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"
#include "region/page_store.h"
#include "region/region.h"

enum { DW_PAGE_MAP_FANOUT = 16 };

typedef struct dw_page_node dw_page_node;
typedef enum dw_page_kind { DW_PAGE_ZERO, DW_PAGE_FILE, DW_PAGE_STORED, DW_PAGE_NODE } dw_page_kind;

typedef struct dw_page_slot {
    union {
        dw_page_node *node;
        dw_backing *backing;
        dw_page_segment *segment;
    } of;
    uint32_t index;         /* the first page in the file, or in the segment */
    uint32_t kind;          /* dw_page_kind */
} dw_page_slot;

typedef struct dw_page_map {
    dw_page_slot root;      /* of level `height` */
    uint32_t height;
    uint64_t n_pages;
} dw_page_map;              /* {0}: a map of no pages */

void dw_page_map_deinit(dw_page_map *map);
/* A second map of the same pages: one count. */
dw_page_map dw_page_map_share(const dw_page_map *map);
/* New pages at the end are zeros; pages beyond a smaller size are given up. DW_E_LIMIT above DW_PAGE_MAP_PAGES_MAX. */
dw_status dw_page_map_resize(dw_page_map *map, uint64_t n_pages, dw_error *err) DW_MUST_USE;
/* Pages [first, +n) become the file's from `file_page` on, or zeros where backing is NULL. */
dw_status dw_page_map_set_file(dw_page_map *map, uint64_t first, uint64_t n, dw_backing *backing, uint64_t file_page,
                               dw_error *err) DW_MUST_USE;
/* Pages [first, +run.n) become those of the run. Takes the caller's references over; a failure leaves none of them. */
dw_status dw_page_map_set_stored(dw_page_map *map, uint64_t first, dw_page_run run, dw_error *err) DW_MUST_USE;

/* Makes room for setting pages [first, +n), stored ones or zeros, without changing what the map says: nodes on the way
 * are copied where others hold them too. Afterwards setting these pages cannot fail, in any number of parts, stored
 * pages before zeros, until the map is shared again. */
dw_status dw_page_map_prepare(dw_page_map *map, uint64_t first, uint64_t n, bool stored, dw_error *err) DW_MUST_USE;
/* Gives up room that was made and not used. */
void dw_page_map_tidy(dw_page_map *map, uint64_t first, uint64_t n);

/* A longest run of pages with one origin, in bytes. */
typedef struct dw_page_piece {
    uint64_t offset, size;
    dw_backing *backing;       /* NULL: zeros */
    uint64_t backing_offset;
    bool stored;               /* of a page store */
} dw_page_piece;
/* All of a map in ascending order, without gaps. Costs what the map has, not what its memory has. */
void dw_page_map_walk(const dw_page_map *map, void (*each)(void *context, const dw_page_piece *piece), void *context);
/* Where page `page` comes from: a piece of one page. */
dw_page_piece dw_page_map_look(const dw_page_map *map, uint64_t page);
/* Nodes, counted once for each way to them, and those that no other map or node holds. */
typedef struct dw_page_map_use { uint64_t nodes, own_nodes, bytes_per_node; } dw_page_map_use;
dw_page_map_use dw_page_map_use_now(const dw_page_map *map);
/* Ends the process when the map breaks a rule; for tests. */
void dw_page_map_check(const dw_page_map *map);

#endif

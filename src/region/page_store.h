/* page_store.h: where committed pages lie: one memory object for all actors of a runtime, whose pages are counted.
 *
 *   page      dw_os_page_bytes() bytes at a place in the object. Taken, written once, then shared
 *   run       pages that follow each other in the object, inside one segment
 *   segment   the books of DW_PAGE_SEGMENT_PAGES pages: which are taken, how often each is referred to
 *   warm      a page that has memory behind it: it was written since its memory was last given back
 *
 * Rules
 * 1. A page that somebody refers to is never written again. The last reference that goes makes it free, to be taken
 *    anew.
 * 2. Bound: warm pages are at most 2 * taken + DW_PAGE_STORE_SLACK_PAGES. Beyond that the memory of free pages is given
 *    back to the system, which costs a pass over the segments after at least DW_PAGE_STORE_SLACK_PAGES pages became
 *    free: constant for each. Where the system cannot take memory back (or fails to) only the object's highest point so
 *    far is the bound.
 * 3. One descriptor, however many pages: the object grows, in steps, and is never mapped by the store itself.
 * 4. The counts of pages are no business of who maps the object: whoever maps a page privately keeps a reference as
 *    long as it may read it.
 * Threads: all functions may be called by several threads at once; a run is written by the one that took it.
 */
#ifndef DW_REGION_PAGE_STORE_H
#define DW_REGION_PAGE_STORE_H

#include <stdint.h>
#include "base/limits.h"
#include "base/status.h"
#include "region/region.h"

typedef struct dw_page_store dw_page_store;
typedef struct dw_page_segment dw_page_segment;

/* n pages from `index` of a segment on. */
typedef struct dw_page_run {
    dw_page_segment *segment;
    uint32_t index, n;
} dw_page_run;

dw_status dw_page_store_create(dw_page_store **out, dw_error *err) DW_MUST_USE;
/* No page of it is referred to any more. NULL is a no-op. */
void dw_page_store_destroy(dw_page_store *store);
/* The object: one reference of the store's own, borrowed. */
dw_backing *dw_page_store_backing(const dw_page_store *store);

/* Takes 1 to `wanted` free pages that follow each other. Each is referred to once, by the caller. DW_E_NO_MEMORY, or
 * what the system says. */
dw_status dw_page_store_take(dw_page_store *store, uint32_t wanted, dw_page_run *out, dw_error *err) DW_MUST_USE;
/* Takes n whole segments that follow each other in the object, as runs[n]; all their pages are zeros. */
dw_status dw_page_store_take_segments(dw_page_store *store, uint32_t n, dw_page_run *runs, dw_error *err) DW_MUST_USE;
/* Writes the run's pages from `data`, n pages long. Only who took them, before anybody else refers to them. */
dw_status dw_page_run_write(dw_page_run run, const void *data, dw_error *err) DW_MUST_USE;
/* Both in one: takes 1 to `wanted` pages and writes them from `data`. On failure nothing is taken. */
dw_status dw_page_store_put(dw_page_store *store, uint32_t wanted, const void *data, dw_page_run *out,
                            dw_error *err) DW_MUST_USE;
/* One reference to each page of the run more, or less. */
void dw_page_run_retain(dw_page_run run);
void dw_page_run_release(dw_page_run run);
/* Of the run's first page in the object, in bytes. */
uint64_t dw_page_run_offset(dw_page_run run);
dw_page_store *dw_page_run_store(dw_page_run run);

/* pages, pages, and segments that have books */
typedef struct dw_page_store_use { uint64_t taken, warm, segments; } dw_page_store_use;
dw_page_store_use dw_page_store_use_now(dw_page_store *store);
/* Holds the books against each other and ends the process where they differ; for tests. */
void dw_page_store_check(dw_page_store *store);

#endif

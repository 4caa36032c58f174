/* region.h: ranges of addresses that the runtime owns, whose pages come from extents (I1).
 *
 *   region   one reservation: [base, base+reserved), then a guard. Its first `size` bytes are usable ("body"). Never
 *            moves.
 *   extent   a page-aligned run of bytes of a backing object, mapped at a place in a region. An extent knows where it
 *            comes from.
 *   backing  a reference-counted file or memory object. Shared by regions (fork, thaw); closed with the last reference.
 *   window   a page-aligned part of a body that is lent to a device for one operation (I5).
 *   pin      a device knows pages beyond a window: it was told of them once, and goes on with these same pages
 *   mark     a moment; "dirty since the mark" are pages written after it.
 *
 * Rules
 * 1. The base never changes. Growth maps more of the reservation in place.
 * 2. While a window is lent: no map, unmap, shrink, rollback or destroy may touch its pages (DW_E_BUSY). Growth of the
 *    body is allowed only when no window is lent (I5).
 * 3. A backing that is mapped privately anywhere is never written again by us, except rows appended behind what was
 *    shared (the KV arena's own rule, model/kv/kv.h) and pages of a store that nobody refers to (page_store.h rule 4).
 * 4. Device writes bypass page tracking: who runs a device operation calls dw_region_touch for its outputs.
 * 5. Fresh bytes are zero.
 * 6. The maps of all regions of the process are counted, as the system counts them or more, and so are backings: what
 *    would exceed DW_PROCESS_MAPS_MAX or DW_PROCESS_BACKINGS_MAX is refused with DW_E_LIMIT before the system is asked.
 * 7. A device that was told of pages goes on with them whatever is mapped there later. So before a map, an unmap or the
 *    end of a region takes a page of a pin away, and before any growth, the region has the pin dropped.
 * Threads: a region belongs to one thread at a time; backings are reference-counted atomically.
 */
#ifndef DW_REGION_REGION_H
#define DW_REGION_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "os/os.h"

/* --- backing objects ----------------------------------------------------------------------------------------- */

typedef struct dw_backing dw_backing;

/* Takes over `file` (also on failure it is closed). `origin` is a short constant for people: "checkpoint", "memfd",
 * "image". */
dw_status dw_backing_create(dw_os_file file, const char *origin, dw_backing **out, dw_error *err) DW_MUST_USE;
/* A new sparse memory object of `size` bytes. */
dw_status dw_backing_create_memory(const char *name, uint64_t size, dw_backing **out, dw_error *err) DW_MUST_USE;
/* Read only. */
dw_status dw_backing_open(const char *path, const char *origin, dw_backing **out, dw_error *err) DW_MUST_USE;
dw_backing *dw_backing_retain(dw_backing *backing);
void dw_backing_release(dw_backing *backing); /* NULL is a no-op */
dw_os_file dw_backing_file(const dw_backing *backing); /* borrowed */
uint64_t dw_backing_size(const dw_backing *backing);
const char *dw_backing_origin(const dw_backing *backing);

/* Of the process: how many there are. */
uint64_t dw_backing_count(void);

/* --- regions ------------------------------------------------------------------------------------------------- */

typedef struct dw_region dw_region;

typedef struct dw_region_options {
    uint64_t reserve_bytes;   /* addresses for the body, rounded up to pages */
    uint64_t guard_bytes;     /* inaccessible addresses behind (and `guard_before` in front) */
    uint64_t guard_before_bytes;
} dw_region_options;

dw_status dw_region_create(const dw_region_options *options, dw_region **out, dw_error *err) DW_MUST_USE;
/* DW_E_BUSY, and nothing happens, while a window is lent. NULL is DW_OK. */
dw_status dw_region_destroy(dw_region *region) DW_MUST_USE;

void *dw_region_base(const dw_region *region);
uint64_t dw_region_size(const dw_region *region);      /* of the body */
uint64_t dw_region_reserved(const dw_region *region);

/* Makes the body at least `size` bytes long with zero-filled private memory; never shrinks. */
dw_status dw_region_grow(dw_region *region, uint64_t size, dw_error *err) DW_MUST_USE;

typedef enum dw_extent_mode {
    DW_EXTENT_PRIVATE,  /* writes are private copies; the backing stays as it is */
    DW_EXTENT_SHARED,   /* writes reach the backing */
    DW_EXTENT_READ_ONLY
} dw_extent_mode;

typedef struct dw_extent {
    uint64_t offset, size;          /* place in the region, pages */
    dw_backing *backing;            /* NULL: anonymous memory */
    uint64_t backing_offset;
    dw_extent_mode mode;
} dw_extent;

/* Maps an extent over [offset, +size) of the reservation, replacing what was there (private copies are lost). Retains
 * the backing. The body grows to cover it if it begins at or below the present size; leaving a gap is refused
 * (DW_E_RANGE) unless `sparse`, which lets arenas map islands: then size() is the end of the last extent. */
dw_status dw_region_map(dw_region *region, const dw_extent *extent, bool sparse, dw_error *err) DW_MUST_USE;
/* Bytes that become the region's own: read from a backing, or zeros where it is NULL. */
typedef struct dw_region_fill {
    uint64_t offset, size;          /* place in the region */
    dw_backing *backing;
    uint64_t backing_offset;
} dw_region_fill;
/* Writes them where writable extents are mapped. After a failure the range holds anything. */
dw_status dw_region_fill_in(dw_region *region, const dw_region_fill *fill, dw_error *err) DW_MUST_USE;
/* Gives [offset, +size) back to the reservation (inaccessible). The body does not change its size. */
dw_status dw_region_unmap(dw_region *region, uint64_t offset, uint64_t size, dw_error *err) DW_MUST_USE;
/* The extents in ascending order, neighbours merged where they continue each other; borrowed view, valid until the next
 * change. */
const dw_extent *dw_region_extents(const dw_region *region, size_t *count);

/* Of the process: maps that regions have, and how many more they may have. */
uint64_t dw_region_maps_count(void);
uint64_t dw_region_maps_left(void);

/* --- windows ------------------------------------------------------------------------------------------------- */

typedef struct dw_window { uint32_t id; } dw_window; /* id 0 = none */

/* Lends [offset, +size), page-aligned, inside the body. Windows may overlap. */
dw_status dw_region_lend(dw_region *region, uint64_t offset, uint64_t size, dw_window *out, dw_error *err) DW_MUST_USE;
/* Taking back what is not lent is DW_E_BAD_HANDLE. */
dw_status dw_region_return(dw_region *region, dw_window window) DW_MUST_USE;
uint32_t dw_region_lent(const dw_region *region);

/* --- pins ---------------------------------------------------------------------------------------------------- */

typedef struct dw_region_pin dw_region_pin;
/* A part of what its owner keeps; constant while it is pinned. */
struct dw_region_pin {
    uint64_t offset, size; /* pages of the body */
    void (*drop)(dw_region_pin *pin); /* lets go of the pages before it returns; the region has forgotten the pin */
    dw_region_pin *next;   /* the region's */
};

/* Pins may overlap. DW_E_RANGE: outside the body. */
dw_status dw_region_pin_add(dw_region *region, dw_region_pin *pin, dw_error *err) DW_MUST_USE;
void dw_region_pin_remove(dw_region *region, dw_region_pin *pin); /* by its owner, who lets go himself */
dw_region_pin *dw_region_pins(const dw_region *region);           /* the first one; borrowed */
/* All of them: for a region that rests. Not while a window is lent. */
void dw_region_pins_drop(dw_region *region);

/* --- dirty pages --------------------------------------------------------------------------------------------- */

typedef enum dw_dirty_method { DW_DIRTY_AUTO, DW_DIRTY_KERNEL, DW_DIRTY_COMPARE } dw_dirty_method;

/* From now on all pages of the body count as clean. AUTO takes kernel tracking where it is there, else contents are
 * compared by their hashes. A grown tail or a newly mapped extent counts as dirty from the moment it appears. */
dw_status dw_region_mark(dw_region *region, dw_dirty_method method, dw_error *err) DW_MUST_USE;
/* A device wrote these bytes. Cheap; only remembers. */
dw_status dw_region_touch(dw_region *region, uint64_t offset, uint64_t size) DW_MUST_USE;
/* Calls back with each run of dirty pages since the mark (ascending, disjoint, page-aligned, offsets in the region);
 * the mark stays. DW_E_STATE without a mark. A page written back to its old bytes may or may not be reported. */
dw_status dw_region_dirty(dw_region *region, void (*each)(void *context, uint64_t offset, uint64_t size), void *context,
                          dw_error *err) DW_MUST_USE;
dw_dirty_method dw_region_dirty_method(const dw_region *region); /* in use since the mark */

#endif

/* image.h: the committed image of an actor's program: memory, globals, tables, WASI state.
 *
 *   pages    memory as a page map (region/page_map.h): pages of the program's or a checkpoint's file, zeros, pages of
 *            the runtime's store
 *   change   what an instance has written since the image: planned (looked up), then kept (its pages are in the store,
 *            the image has room for them and says what it said), then published (the image is the new one)
 *
 * Rules
 * 1. What a map refers to is never overwritten; so images of forks, and of a turn that is rolled back, stay what they
 *    are.
 * 2. A change costs the pages that were written, however many were written before and however large memory is (I8).
 * 3. A page of zeros takes no room.
 * 4. The live instance maps what the image was when it was restored. Pages of that map are held (`held`) as long as the
 *    instance lives, because a page that counts as written may still be mapped. So an actor's pages in the store are at
 *    most those of two images, and while a change is kept and not published, the changed ones.
 * 5. Globals, and the tables that a program's code changes (few programs have any), are read whole at each commit:
 *    nothing tells which of their elements were written.
 * Threads: an image belongs to its actor's thread; maps of different images may share nodes.
 */
#ifndef DW_ACTOR_IMAGE_H
#define DW_ACTOR_IMAGE_H

#include "base/base.h"
#include "region/page_compact.h"
#include "region/page_layout.h"
#include "region/page_map.h"
#include "region/region.h"
#include "wasm/wasm.h"

/* Everything of an image that is not memory. */
typedef struct dw_image_values {
    dw_value *globals;
    size_t n_globals;
    dw_table_view *tables;   /* one block (wasm.h) */
    size_t n_tables;
    dw_wasi_state wasi;
} dw_image_values;

typedef struct dw_actor_image {
    dw_page_map pages;       /* no pages: there is no image yet, or a program without memory */
    dw_page_map held;        /* what the live instance maps; no pages without one */
    uint64_t memory_bytes;
    uint64_t pieces_max;     /* the map is in no more pieces: known without walking it */
    uint64_t pieces_seen;    /* when it was last looked at for compacting */
    dw_image_values values;
} dw_actor_image;

void dw_actor_image_deinit(dw_actor_image *image);
/* The image of an instance that has not run yet: what it was restored from. */
dw_status dw_actor_image_of(dw_actor_image *image, dw_instance *instance, dw_error *err) DW_MUST_USE;
/* An image over one run of a file: a checkpoint's memory. Size, globals, tables and WASI state are copied from `state`,
 * whose own extents are not looked at. */
dw_status dw_actor_image_over(dw_actor_image *image, dw_backing *backing, uint64_t offset, const dw_image *state,
                              dw_error *err) DW_MUST_USE;
/* An image of zeros of the state's size, with its values. */
dw_status dw_actor_image_blank(dw_actor_image *image, const dw_image *state, dw_error *err) DW_MUST_USE;
/* A second image of the same state: memory is shared, whatever its size. */
dw_status dw_actor_image_clone(const dw_actor_image *image, dw_actor_image *out, dw_error *err) DW_MUST_USE;

/* Before a restore or a fork: memory in many pieces is laid side by side (page_compact.h), so that forks and later
 * restores share what they map. Where that fails nothing is lost: pages that cannot be mapped are read. */
void dw_actor_image_compact(dw_actor_image *image, dw_page_store *store);
/* As dw_instance_options wants it, with memory laid out in no more maps than the process can spare; borrows from both,
 * which stay. */
dw_status dw_actor_image_view(const dw_actor_image *image, dw_page_layout *layout, dw_image *out,
                              dw_error *err) DW_MUST_USE;
/* An instance was restored from the image as it is now; or there is none any more. */
void dw_actor_image_hold(dw_actor_image *image);
void dw_actor_image_let_go(dw_actor_image *image);

/* Of `n` pages of `page` bytes from `data` on, how many in a row are zero, or are not. */
uint64_t dw_pages_of_kind(const uint8_t *data, uint64_t n, size_t page, bool zero);

/* --- changes ------------------------------------------------------------------------------------------------- */

typedef struct dw_page_range { uint64_t offset, size; } dw_page_range; /* bytes, whole pages */

/* `run.n` pages from `first` on: of the store, or zeros where the run has no segment. */
typedef struct dw_kept_pages { uint64_t first; dw_page_run run; } dw_kept_pages;

typedef struct dw_image_change {
    DW_VEC(dw_page_range) written; /* ascending, disjoint, inside memory_bytes */
    uint64_t written_bytes, memory_bytes;
    /* The instance's, where the pages are read: nothing may run in it until the change is published or dropped. */
    const uint8_t *memory;
    dw_image_values values;
    /* Of a kept change. */
    bool kept;
    DW_VEC(dw_kept_pages) pages; /* the written ones, ascending */
    uint64_t n_before;        /* pages of the image's map */
} dw_image_change;

/* Looks up what the instance changed since its region was marked. Writes nothing. A failure leaves nothing. */
dw_status dw_image_change_plan(dw_image_change *change, dw_instance *instance, dw_error *err) DW_MUST_USE;
/* Puts the written pages into the store, and makes room for them in the image's map. A failure leaves the change as
 * planned. */
dw_status dw_image_change_keep(dw_image_change *change, dw_actor_image *image, dw_page_store *store,
                               dw_error *err) DW_MUST_USE;
/* The reverse: gives the pages and the room up, and the change is as planned. A change that is not kept: no-op. */
void dw_image_change_forget(dw_image_change *change, dw_actor_image *image);
/* The image becomes what a kept change says, and the change is empty. Cannot fail. */
void dw_image_change_publish(dw_image_change *change, dw_actor_image *image);
/* Not of a kept one. */
void dw_image_change_deinit(dw_image_change *change);

#endif

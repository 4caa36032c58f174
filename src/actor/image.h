/* image.h: the committed image of an actor's program: memory, globals, tables, WASI state.
 *
 * Memory is a list of extents over backing objects. A commit appends the pages that were written to the image's page log, a
 * memory object that is only ever appended to, and lets the extents of these pages point there. So older images (of forks, of a
 * turn that is rolled back) stay what they are, and a commit costs what changed (I8). When the list gets long or the log fills up,
 * memory is folded into one new object.
 *
 * Rules
 * 1. What an extent refers to is never overwritten.
 * 2. Commit either succeeds, or leaves the image as it was.
 * 3. A page of zeros needs no backing: its extent is anonymous.
 * 4. Globals, and the tables that a program's code changes (few programs have any), are read whole at each commit: nothing tells which
 *    of their elements were written.
 */
#ifndef DW_ACTOR_IMAGE_H
#define DW_ACTOR_IMAGE_H

#include "base/base.h"
#include "region/region.h"
#include "wasm/wasm.h"

typedef struct dw_actor_image {
    dw_extent *extents;      /* ascending, without gaps; each retains its backing */
    size_t n_extents;
    uint64_t memory_bytes;
    dw_value *globals;
    size_t n_globals;
    dw_table_view *tables;   /* one block (wasm.h) */
    size_t n_tables;
    dw_wasi_state wasi;
    dw_backing *log;         /* this image's own; NULL until the first commit and after a clone */
    uint64_t log_used, log_bytes;
} dw_actor_image;

void dw_actor_image_deinit(dw_actor_image *image);
/* The image of an instance that has not run yet: what it was restored from. */
dw_status dw_actor_image_of(dw_actor_image *image, dw_instance *instance, dw_error *err) DW_MUST_USE;
/* An image over one run of a file: a checkpoint's memory. Size, globals, tables and WASI state are copied from `state`, whose own extents
 * are not looked at. */
dw_status dw_actor_image_over(dw_actor_image *image, dw_backing *backing, uint64_t offset, const dw_image *state, dw_error *err) DW_MUST_USE;
/* A second image of the same state, with a page log of its own. */
dw_status dw_actor_image_clone(const dw_actor_image *image, dw_actor_image *out, dw_error *err) DW_MUST_USE;
/* Takes over what the instance changed since its region was marked. *dirty_bytes: pages written. */
dw_status dw_actor_image_commit(dw_actor_image *image, dw_instance *instance, uint64_t *dirty_bytes, dw_error *err) DW_MUST_USE;
/* As dw_instance_options wants it; borrowed. */
dw_image dw_actor_image_view(const dw_actor_image *image);

#endif

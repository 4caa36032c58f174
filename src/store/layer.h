/* layer.h: what one layer says, in memory and as bytes; and how two become one.
 *
 *   extent  rows [first_row, +n_rows) of a session at a place of a bulk file. `stored_rows` lie there, under one
 *           checksum; of these the first n_rows count
 *   cut     of each session that the layer touches: rows below `kept` are the parent's. The layer's extents of the
 *           session go on from there without gaps
 *
 * As bytes, little-endian:
 *   u64 id, u64 parent, u64 turn                                          as the index has them beside these bytes
 *   u32 n_pages, u32 n_cuts, u32 n_extents
 *   pages    u32 index, u32 file (0: zeros), u32 page, u64 sum            ascending by index
 *   cuts     u64 session, u64 kept                                        ascending by session
 *   extents  u64 session, u64 first_row, u32 n_rows, u32 stored_rows, u32 row_bytes, u32 file, u32 page, u64 sum
 *                                                                         ascending by session, first_row
 *   u64 sum of all that (dw_store_sum)
 * Bytes come from the index, which is a file: they are checked like anybody's (I6).
 */
#ifndef DW_STORE_LAYER_H
#define DW_STORE_LAYER_H

#include "base/base.h"
#include "base/vec.h"
#include "store/store.h"

typedef struct dw_layer_cut { uint64_t session, kept; } dw_layer_cut;

typedef struct dw_layer_extent {
    uint64_t session, first_row;
    uint32_t n_rows, stored_rows, row_bytes;
    uint32_t file, page;
    uint64_t sum;             /* of stored_rows * row_bytes bytes */
} dw_layer_extent;

typedef struct dw_layer {
    uint64_t id, parent, turn;
    dw_store_place *pages;
    dw_layer_cut *cuts;
    dw_layer_extent *extents;
    size_t n_pages, n_cuts, n_extents;
} dw_layer;                   /* {0}: says nothing */

/* Pages of bulk files that no layer names any more. */
typedef struct dw_freed_run { uint32_t file, page, n; } dw_freed_run;
typedef struct dw_freed {
    DW_VEC(dw_freed_run) runs;
    bool failed;              /* no memory: runs are missing */
} dw_freed;

/* The first 8 bytes of SHA-256, little-endian. */
dw_status dw_store_sum(const void *data, size_t size, uint64_t *out) DW_MUST_USE;

void dw_layer_deinit(dw_layer *layer);
/* Pages of a bulk file that an extent takes. */
uint32_t dw_extent_pages(const dw_layer_extent *extent);
/* Entries: what a merge or a view costs. */
size_t dw_layer_weight(const dw_layer *layer);

/* The caller frees *out. */
dw_status dw_layer_encode(const dw_layer *layer, uint8_t **out, size_t *out_size, dw_error *err) DW_MUST_USE;
/* Refuses damage with DW_E_HASH, DW_E_TRUNCATED, DW_E_CORRUPT; allocates what the bytes justify. */
dw_status dw_layer_decode(const void *data, size_t size, dw_layer *out, dw_error *err) DW_MUST_USE;

/* One layer that says what both say, the newer one first: it has the newer one's id and turn, and the older one's
 * parent. With `root` there is nothing below: zeros are left out. What only the older one named goes into `freed`,
 * where that is not NULL. */
dw_status dw_layer_merge(const dw_layer *older, const dw_layer *newer, bool root, dw_layer *out, dw_freed *freed,
                         dw_error *err) DW_MUST_USE;
/* All that a layer names. */
void dw_layer_free_all(const dw_layer *layer, dw_freed *freed);

/* Room for `extra` runs more: adding these cannot fail. */
bool dw_freed_reserve(dw_freed *freed, size_t extra);
void dw_freed_add(dw_freed *freed, uint32_t file, uint32_t page, uint32_t n);
/* Sorts, and joins what lies side by side. */
void dw_freed_join(dw_freed *freed);
void dw_freed_deinit(dw_freed *freed);

/* The totals of all sessions at a turn: (u64 session, u64 n_rows, u32 row_bytes) ascending, then a sum; no bytes where
 * there are none. */
dw_status dw_sessions_encode(const dw_store_session *sessions, size_t n, uint8_t **out, size_t *out_size,
                             dw_error *err) DW_MUST_USE;
dw_status dw_sessions_decode(const void *data, size_t size, dw_store_session **out, size_t *n,
                             dw_error *err) DW_MUST_USE;

#endif

/* kv.h: the arena of KV slots of one model.
 *
 *   arena   one region; slot i begins at i * stride. Never moves.
 *   area    the rows of one layer's K or of its V inside a slot: layer 0 K, layer 0 V, layer 1 K, ...; area_bytes each (whole pages), so
 *           row r of area a lies at slot + a * area_bytes + r * row_bytes
 *   extent  rows [first, next extent's first) of a slot, in a backing object with the slot's own layout (sparse, same offsets), or in a
 *           checkpoint (per-area offsets)
 *   tail    the last extent: where new rows go. `shared`: the slot's own memory object, written in place, which forks may map.
 *           `private`: private copies over what lies below (after a fork or a thaw), anonymous memory
 *   held    memory that rows take: pages of objects that are some slot's, once each, and private copies. A checkpoint's pages are not: the
 *           system may drop and read them again
 *   seal    to turn a private tail into a memory object, so that it can be mapped a second time
 *
 * Why it looks like this: per layer one 2-D tensor over the arena serves set_rows and attention of any set of slots; a fork is one
 * map per extent of the parent (0.04 ms at 4,090 tokens where a copy takes 35 ms, and 0.7 MB own memory after 32 tokens where a copy needs
 * 74 MB: reference measurement); a thaw maps the checkpoint's areas.
 *
 * Rules
 * 1. Rows below `sealed` are in somebody else's maps: they are never written. After a rewind below `sealed` the tail is made private
 *    over the same object before the next row (new rows become private copies).
 * 2. A private map sees later writes to pages it has not copied: only bytes of rows behind its own row count, which are never
 *    read (they are masked) and are overwritten by its own rows, which copy the page first.
 * 3. Rows behind the row count are finite numbers at all times (zero, or rows of another branch): attention may multiply masked rows
 *    by 0. What a checkpoint holds behind its last row is as good as its hash: at worst that session's own logits become NaN.
 * 4. More than DW_KV_EXTENTS_MAX extents: the slot is folded into one object by copying; counted.
 * 5. A device that addresses host memory (CPU) wraps the arena once. Another that can wrap wraps each slot while it is mapped and
 *    the wrap is renewed after every remap (device.h rule 1).
 * 6. Held bytes are counted per page that rows were written to, and given back with the object or the copies: a rewind keeps its pages for the rows to
 *    come, a fold may for a while hold what others still hold too.
 * Threads: one at a time (the model's lock).
 */
#ifndef DW_MODEL_KV_KV_H
#define DW_MODEL_KV_KV_H

#include "base/base.h"
#include "device/device.h"
#include "region/region.h"

typedef struct dw_kv_arena dw_kv_arena;
typedef uint32_t dw_kv_slot;

typedef struct dw_kv_geometry {
    uint32_t n_layers, n_slots, context_tokens;
    uint32_t row_bytes;      /* of K, and of V, of one token in one layer */
} dw_kv_geometry;

dw_status dw_kv_arena_create(const dw_kv_geometry *geometry, dw_device *device, dw_kv_arena **out, dw_error *err) DW_MUST_USE;
void dw_kv_arena_destroy(dw_kv_arena *arena); /* all slots closed */
uint64_t dw_kv_stride_bytes(const dw_kv_arena *arena);
uint64_t dw_kv_area_bytes(const dw_kv_arena *arena);

/* DW_E_LIMIT when all slots are taken. */
dw_status dw_kv_open(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) DW_MUST_USE;
void dw_kv_close(dw_kv_arena *arena, dw_kv_slot slot);
/* A slot that shares the parent's first n_rows committed rows. When it fails the parent is as before. */
dw_status dw_kv_fork(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot *out, dw_error *err) DW_MUST_USE;
/* Rows that a fork takes without the slot's own maps being changed: all while its tail is shared, else those below the tail. A slot that
 * a graph is running on may be forked at these. */
uint32_t dw_kv_rows_to_give(const dw_kv_arena *arena, dw_kv_slot slot);
/* Replaces a slot's rows by the donor's first n_rows, as a fork would have them. *slot changes its number where it had rows of its own, which a
 * failure leaves as they were. DW_E_LIMIT: no slot is free for that. */
dw_status dw_kv_share(dw_kv_arena *arena, dw_kv_slot *slot, dw_kv_slot donor, uint32_t n_rows, dw_error *err) DW_MUST_USE;
/* A slot whose first n_rows rows are mapped from `backing`: offsets[2 * n_layers], in area order, page-aligned. */
dw_status dw_kv_restore(dw_kv_arena *arena, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows, dw_kv_slot *out,
                        dw_error *err) DW_MUST_USE;
/* Rows up to n_rows are evaluated and belong to the session now. Never shrinks. */
void dw_kv_commit(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
/* Gives up the rows from n_rows on. Takes effect at once and cannot fail: pages that others share are remapped when the slot is next
 * made writable. */
void dw_kv_rewind(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
uint32_t dw_kv_rows(const dw_kv_arena *arena, dw_kv_slot slot);
/* Host address of row 0 of an area. */
void *dw_kv_area(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t layer, int which);
/* Makes the rows behind the committed ones writable, and gives the buffer that holds the slot on the device and the slot's offset in it:
 * the whole arena's on the CPU, the slot's own elsewhere. To be called before each evaluation. */
dw_status dw_kv_writable(dw_kv_arena *arena, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err) DW_MUST_USE;
/* Of a writable slot: rows up to n_rows are about to be written, and count as held from now on. */
void dw_kv_reserve(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
/* Gives up the slot's rows and, unlike a rewind, what memory only it holds. Cannot fail. */
void dw_kv_release(dw_kv_arena *arena, dw_kv_slot slot);
/* Bytes held by all slots; and by how much they grow when the slot's rows up to n_rows are written. Both are sums kept as rows come and go. */
uint64_t dw_kv_held_bytes(const dw_kv_arena *arena);
uint64_t dw_kv_growth(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
/* Memory that only this slot holds (rounded to pages), extents, and bytes that seals and folds copied so far. */
typedef struct dw_kv_use { uint64_t own_bytes, copied_bytes; uint32_t extents; } dw_kv_use;
dw_status dw_kv_use_now(const dw_kv_arena *arena, dw_kv_slot slot, dw_kv_use *out, dw_error *err) DW_MUST_USE;

#endif

/* kv.h: the arena of KV slots of one model.
 *
 *   arena   the rows of all slots. Never moves
 *   area    the rows of one layer's K or of its V inside a slot: layer 0 K, layer 0 V, layer 1 K, ...
 *   granule the unit in which the device's memory is made and mapped (rows.h): a page on the host
 *   object  memory that some slot made and wrote, or a checkpoint's file. Several slots may map it
 *   extent  rows [first, next extent's first) of a slot, in an object
 *   tail    the last extent, while its object is the slot's own: new rows are written there, in place. Forks may map
 *           what it holds
 *   held    memory that rows take: granules of objects, once each. A checkpoint's are not where they are maps of its
 *           file: the system may drop and read them again
 *   fold    to copy all rows of a slot into one object
 *
 * Why it looks like this: a fork is one map per extent of the parent, and copies nothing (0.04 ms at 4,090 tokens where
 * a copy takes 35 ms: reference measurement); a thaw maps the checkpoint's areas. The first row behind a fork or a thaw
 * makes a tail: an object of the slot's own. The granule of each run in which the rows end is copied into it. So
 * whatever a slot has written can be mapped by others at once, and the pool's lock is never held for a copy that grows
 * with the rows.
 *
 * The order of rows is the device's (rows.h). Each run costs a fork one granule of memory and of copying. A longer row
 * step costs the device time when it reads one layer. On the host an area is a run: with pages of 4 KiB a fork's tail
 * takes 128, 256 and 640 KiB (16, 32, 80 layers), a layer's rows lie side by side, and a checkpoint's areas are mapped
 * as they are. With granules of 2 MiB that would be 64, 128 and 320 MiB for each fork that writes a token, so there a
 * run holds several layers: docs/architecture.md has the numbers.
 *
 * Rules
 * 1. Rows below `sealed` are in somebody else's maps: they are never written. After a rewind below `sealed`, or below
 *    the tail, the next row makes a new tail.
 * 2. A map sees later writes of the object's owner: only rows behind its own row count, which are never read (they are
 *    masked).
 * 3. Rows behind the row count are finite numbers at all times (zero, or rows of another branch): attention may
 *    multiply masked rows by 0. What a checkpoint holds behind its last row is as good as its hash: at worst that
 *    session's own logits become NaN.
 * 4. A slot with DW_KV_EXTENTS_MAX extents is folded when it needs a new tail. So is a slot for whose tail the process
 *    had no maps left: not by the call that finds that out (DW_E_LIMIT), because a fold takes more memory than that
 *    call's caller made room for, but by the next one. A caller who holds a lock copies beforehand (dw_kv_fold_begin).
 * 5. Held bytes are counted per granule that rows were written to, and given back with the object. A rewind keeps its
 *    granules for the rows to come. A fold may hold, for a while, what others still hold too.
 * Threads: one at a time (the pool's lock), except where a function says otherwise.
 */
#ifndef DW_MODEL_KV_KV_H
#define DW_MODEL_KV_KV_H

#include "base/base.h"
#include "device/device.h"
#include "region/region.h"

typedef struct dw_kv_arena dw_kv_arena;
typedef struct dw_rows dw_rows; /* rows.h */
typedef uint32_t dw_kv_slot;

/* Attention looks so far behind a slot's rows (graph.h: a step, and what sessions in one operation may differ by). */
enum { DW_KV_SEEN_BEHIND = 1280 };

typedef struct dw_kv_geometry {
    uint32_t n_layers, n_slots, context_tokens;
    uint32_t row_bytes;      /* of K, and of V, of one token in one layer */
} dw_kv_geometry;

/* With the rows that fit the device. */
dw_status dw_kv_arena_create(const dw_kv_geometry *geometry, dw_device *device, dw_kv_arena **out,
                             dw_error *err) DW_MUST_USE;
/* Takes `rows` over, also when it fails. */
dw_status dw_kv_arena_create_over(dw_rows *rows, dw_kv_arena **out, dw_error *err) DW_MUST_USE;
void dw_kv_arena_destroy(dw_kv_arena *arena); /* closes all slots */
uint64_t dw_kv_stride_bytes(const dw_kv_arena *arena); /* from slot to slot */
/* Where rows lie in a slot (rows.h), for a graph: row r of area a begins at
 * a / areas_per_run * run_bytes + r * row_step + a % areas_per_run * row_bytes. */
typedef struct dw_kv_order {
    uint64_t run_bytes, row_step;
    uint32_t areas_per_run;
    bool in_one_buffer; /* that holds all slots; else each has its own */
} dw_kv_order;
dw_kv_order dw_kv_order_of(const dw_kv_arena *arena);

/* DW_E_LIMIT when all slots are taken. */
dw_status dw_kv_open(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) DW_MUST_USE;
void dw_kv_close(dw_kv_arena *arena, dw_kv_slot slot);
/* A slot that shares the parent's first n_rows committed rows. A graph may be running on the parent. When it fails the
 * parent is as before. */
dw_status dw_kv_fork(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot *out,
                     dw_error *err) DW_MUST_USE;
/* Replaces a slot's rows by the donor's first n_rows, as a fork would. A slot with rows of its own gets another number
 * in *slot. A failure leaves those rows as they were. DW_E_LIMIT: no slot is free for that. */
dw_status dw_kv_share(dw_kv_arena *arena, dw_kv_slot *slot, dw_kv_slot donor, uint32_t n_rows,
                      dw_error *err) DW_MUST_USE;
/* A slot with n_rows rows from `backing`: offsets[2 * n_layers], in area order, page-aligned. */
dw_status dw_kv_restore(dw_kv_arena *arena, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                        dw_kv_slot *out,
                        dw_error *err) DW_MUST_USE;
/* Rows up to n_rows are evaluated and belong to the session now. They were made writable before. Never shrinks. */
void dw_kv_commit(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
/* Gives up the rows from n_rows on. Takes effect at once and cannot fail. */
void dw_kv_rewind(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
uint32_t dw_kv_rows(const dw_kv_arena *arena, dw_kv_slot slot);

/* Makes the rows behind the committed ones writable, up to n_rows, which count as held from now on. Gives the buffer
 * that holds the slot on the device and the slot's offset in it (dw_kv_order). To be called before each evaluation.
 * DW_E_LIMIT: the process had no maps for a tail. Called again, it folds. */
dw_status dw_kv_writable(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows, dw_buffer **out, uint64_t *offset,
                         dw_error *err) DW_MUST_USE;

/* The copy of all rows that dw_kv_writable would make, after a rewind to `rows` if these are fewer (rule 4), in three
 * steps, so that the long one runs without the lock. *out is NULL where none is needed. From the first step to the last
 * nobody may change the slot; others may share its rows. */
typedef struct dw_kv_fold dw_kv_fold;
dw_status dw_kv_fold_begin(dw_kv_arena *arena, dw_kv_slot slot, uint32_t rows, dw_kv_fold **out,
                           dw_error *err) DW_MUST_USE;
dw_status dw_kv_fold_copy(dw_kv_fold *fold, dw_error *err) DW_MUST_USE; /* any thread, without the lock */
/* Puts the copy in the slot's place; with a `status` that is not DW_OK it only gives the copy up and passes that on.
 * Frees the fold. */
dw_status dw_kv_fold_end(dw_kv_fold *fold, dw_status status, dw_error *err) DW_MUST_USE;

/* n committed rows of one area to host memory. No lock is needed while nobody else changes the slot. */
dw_status dw_kv_read(dw_kv_arena *arena, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                     dw_error *err) DW_MUST_USE;
/* Into rows that were made writable: as an evaluation would. */
dw_status dw_kv_write(dw_kv_arena *arena, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, const void *from,
                      dw_error *err) DW_MUST_USE;
/* Host address of row 0 of an area, whose rows lie side by side. NULL where the device's memory is not the host's. */
void *dw_kv_area(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t layer, int which);
/* Gives up the slot's rows and, unlike a rewind, what memory only it holds. Cannot fail. */
void dw_kv_release(dw_kv_arena *arena, dw_kv_slot slot);
/* Bytes held by all slots; and by how much they grow when the slot's rows up to n_rows are written. Both are sums kept
 * as rows come and go. */
uint64_t dw_kv_held_bytes(const dw_kv_arena *arena);
uint64_t dw_kv_growth(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows);
/* The same if the slot were rewound to `rows` before. */
uint64_t dw_kv_growth_after_rewind(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t rows, uint32_t n_rows);
/* Memory that only this slot holds (rounded to granules), extents, and bytes that were copied for it so far: by new
 * tails, and by folds. */
typedef struct dw_kv_use { uint64_t own_bytes, tail_bytes, fold_bytes; uint32_t extents; } dw_kv_use;
dw_status dw_kv_use_now(const dw_kv_arena *arena, dw_kv_slot slot, dw_kv_use *out, dw_error *err) DW_MUST_USE;

#endif

/* vram.h: memory of a GPU's own that can be mapped at several of its addresses (today: CUDA's).
 *
 *   space    addresses of one device, reserved for good; what is mapped where changes
 *   chunk    physical memory of the space's chunk size. Mapped at any number of places, in one space
 *
 * Rules
 * 1. A chunk reads as zeros when it is made, also one that somebody else had before.
 * 2. When a function returns, what it did is done for the host and for the device's next graph.
 * 3. Nothing may be mapped or unmapped where a graph is at work.
 * Threads: making, freeing and copying from any; maps of one place by one thread at a time.
 */
#ifndef DW_DEVICE_VRAM_H
#define DW_DEVICE_VRAM_H

#include "device/device.h"

typedef struct dw_vram dw_vram;
typedef struct dw_vram_chunk dw_vram_chunk;

/* The unit of chunk sizes; 0 where the device's memory cannot be mapped. */
uint64_t dw_vram_unit_bytes(dw_device *device);
/* `bytes` of addresses, a multiple of chunk_bytes, itself one of the unit. */
dw_status dw_vram_create(dw_device *device, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out,
                         dw_error *err) DW_MUST_USE;
/* The same on CUDA's device of that number, with neither a ledger nor buffers: for tests over a driver of their own. */
dw_status dw_vram_create_bare(int ordinal, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out,
                              dw_error *err) DW_MUST_USE;
void dw_vram_destroy(dw_vram *vram); /* after its maps, chunks and buffers; NULL is fine */

dw_status dw_vram_chunk_make(dw_vram *vram, dw_vram_chunk **out, dw_error *err) DW_MUST_USE;
dw_vram_chunk *dw_vram_chunk_retain(dw_vram_chunk *chunk);
/* With the last reference it is kept for the next one who makes a chunk. NULL is fine. */
void dw_vram_chunk_release(dw_vram *vram, dw_vram_chunk *chunk);

/* At `offset`, a multiple of the chunk size, where nothing is mapped; and the end of that. */
dw_status dw_vram_map(dw_vram *vram, uint64_t offset, const dw_vram_chunk *chunk, dw_error *err) DW_MUST_USE;
dw_status dw_vram_unmap(dw_vram *vram, uint64_t offset, dw_error *err) DW_MUST_USE;

/* A block of `n` rows of `row_bytes`, `step` bytes apart in the device's memory, side by side in the host's. */
typedef struct dw_vram_rows { uint64_t offset, step, row_bytes, n; } dw_vram_rows;
dw_status dw_vram_write(dw_vram *vram, const dw_vram_rows *rows, const void *from, dw_error *err) DW_MUST_USE;
dw_status dw_vram_read(dw_vram *vram, const dw_vram_rows *rows, void *to, dw_error *err) DW_MUST_USE;
/* As dw_vram_write and dw_vram_map would do it into a chunk that is mapped nowhere; `at` counts from its beginning. */
dw_status dw_vram_write_into(dw_vram *vram, const dw_vram_chunk *chunk, const dw_vram_rows *rows, const void *from,
                             dw_error *err) DW_MUST_USE;
/* [offset, +size), mapped, to the same place of a chunk that is mapped nowhere. */
dw_status dw_vram_copy_into(dw_vram *vram, const dw_vram_chunk *chunk, uint64_t at, uint64_t offset, uint64_t size,
                            dw_error *err) DW_MUST_USE;

/* A buffer of the device at [offset, +size), whatever is mapped there later. */
dw_status dw_vram_buffer(dw_vram *vram, uint64_t offset, uint64_t size, dw_buffer **out, dw_error *err) DW_MUST_USE;

#endif

/* rows.h: the seam between what KV rows mean (kv.c) and the memory of one device that holds them.
 *
 *   rows      the addresses of all slots of one arena on one device
 *   area      the rows of one layer's K or of its V: layer 0 K, layer 0 V, layer 1 K, ...
 *   order     where an area's row lies in a slot. A slot is a sequence of runs. A run holds `areas_per_run` areas, and
 *             for each row these areas side by side. So row r of area a begins at
 *                 a / areas_per_run * run_bytes + r * row_step + a % areas_per_run * row_bytes
 *             with row_step = areas_per_run * row_bytes
 *   granule   the unit in which memory is made and mapped: a page on the host, 2 MiB in VRAM. Each run begins on one
 *   memory    memory that holds rows in the order of a slot; sparse. Made here, or opened from a file. It has one
 *             owner, who frees it; what maps it goes on with it
 *   span      rows of one memory, mapped in a slot
 *
 * Rules
 * 1. Rows are mapped by whole granules: a span that begins with row f begins with the granule that holds row f's first
 *    byte, in each run. Its memory holds that granule whole, with the rows before f in it.
 * 2. `map` replaces what the slot has from the first span on to the slot's end. The rows before stay as they are. After
 *    a failure each granule behind is of the old or of the new memory: rows that both hold are whole. Several spans at
 *    once are for a slot without rows.
 * 3. Rows of a slot are written only in place: from a row on that is in the last span, mapped with `in_place`, in rows
 *    that were reserved.
 * 4. What lies behind a slot's rows are finite numbers: attention multiplies masked rows by 0. All of a slot is
 *    readable once rows were reserved, as far behind them as attention looks. Memory that was just made reads as zeros.
 * 5. When a function returns, what it did is done for the device's next graph too. `read` and `copy` of a slot, and
 *    maps of what it maps, may happen while a graph runs on that slot, for rows below those that the graph writes. All
 *    else waits until no graph has the slot.
 * 6. `copy` and `read` need no lock while nobody else changes the slot. Everything else is called by one thread at a
 *    time (kv.h).
 */
#ifndef DW_MODEL_KV_ROWS_H
#define DW_MODEL_KV_ROWS_H

#include "model/kv/kv.h"

typedef struct dw_rows_memory dw_rows_memory;

typedef struct dw_rows_span {
    dw_rows_memory *memory;  /* borrowed */
    uint32_t first_row;      /* up to the next span's first row, or to the slot's end */
} dw_rows_span;

typedef struct dw_rows_ops {
    void (*destroy)(dw_rows *rows); /* all slots unmapped, all memory freed */
    /* New memory for a whole slot's rows. */
    dw_status (*make)(dw_rows *rows, dw_rows_memory **out, dw_error *err);
    /* The first n_rows rows, each area's contiguous from offsets[area] of `backing` on (checked: granules of the host,
     * inside the file). */
    dw_status (*open)(dw_rows *rows, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                      dw_rows_memory **out, dw_error *err);
    void (*free)(dw_rows *rows, dw_rows_memory *memory); /* NULL: nothing */
    /* Rule 2. in_place: writes of the slot reach the last span's memory; else there are none. */
    dw_status (*map)(dw_rows *rows, dw_kv_slot slot, const dw_rows_span *spans, uint32_t n_spans, bool in_place,
                     dw_error *err);
    void (*unmap)(dw_rows *rows, dw_kv_slot slot); /* cannot fail */
    /* Rows [granule of first, end) of a slot to the same places of memory that nothing maps yet. */
    dw_status (*copy)(dw_rows *rows, dw_kv_slot slot, uint32_t first, uint32_t end, dw_rows_memory *to, dw_error *err);
    /* Memory for rows up to n_rows of a slot whose last span is mapped in place; DW_KV_SEEN_BEHIND rows more are
     * readable (rule 4). */
    dw_status (*reserve)(dw_rows *rows, dw_kv_slot slot, uint32_t n_rows, dw_error *err);
    /* The buffer that holds the slot on the device, and the slot's first byte in it. Valid until the slot is mapped or
     * unmapped. */
    dw_status (*bind)(dw_rows *rows, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err);
    /* n rows of one area, contiguous at `to` and `from` in host memory. */
    dw_status (*read)(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                      dw_error *err);
    dw_status (*write)(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, const void *from,
                       dw_error *err);
    /* Host address of row 0 of an area, row_step between rows; NULL where the host cannot read it. */
    void *(*address)(const dw_rows *rows, dw_kv_slot slot, uint32_t area);
} dw_rows_ops;

/* What every implementation begins with; constant once it is made. */
struct dw_rows {
    const dw_rows_ops *ops;
    bool in_one_buffer;        /* `bind` gives one that holds all slots */
    bool opening_takes_memory; /* what is opened from a file is a copy of it */
    dw_kv_geometry geometry;
    uint32_t n_areas, n_runs, areas_per_run;
    uint64_t granule_bytes, row_step, run_bytes, stride;
};

/* Fills in all but ops. A slot begins at a whole number of row steps and on a granule, so that one tensor over the
 * arena can address every slot's rows by index. DW_E_LIMIT, DW_E_RANGE. */
dw_status dw_rows_init(dw_rows *rows, const dw_kv_geometry *geometry, uint64_t granule_bytes, uint32_t areas_per_run,
                       dw_error *err) DW_MUST_USE;
/* In a run: first byte of the granule that holds the first byte of `row`; end of the last granule that holds a byte of
 * the first n rows. */
uint64_t dw_rows_granule_of(const dw_rows *rows, uint32_t row);
uint64_t dw_rows_granule_end_of(const dw_rows *rows, uint32_t n_rows);
/* Bytes of the granules that rows [first, end) lie on, in all runs: what memory for them takes, or a copy of them
 * copies. */
uint64_t dw_rows_bytes(const dw_rows *rows, uint32_t first, uint32_t end);
/* Where a row of an area begins in a slot. */
uint64_t dw_rows_offset(const dw_rows *rows, uint32_t area, uint32_t row);

/* Host memory: granules are pages, memory is a sparse memory object or a file, a span is a map of it. Each area is a
 * run of its own. Serves devices that follow host addresses, and those that wrap host memory. DW_E_UNSUPPORTED: this
 * device does neither. */
dw_status dw_rows_host_create(const dw_kv_geometry *geometry, dw_device *device, dw_rows **out,
                              dw_error *err) DW_MUST_USE;

/* The memory of a graphics card (CUDA's): granules are chunks of at least 2 MiB, a run holds row steps of up to 32 KiB.
 * The driver's maps do what the system's do on the host; rows leave and enter by copies. DW_E_UNSUPPORTED: none of
 * CUDA's devices. */
dw_status dw_rows_cuda_create(const dw_kv_geometry *geometry, dw_device *device, dw_rows **out,
                              dw_error *err) DW_MUST_USE;
/* The same on CUDA's device of that number, in an order of the caller's, without buffers: for tests over a driver of
 * their own. */
dw_status dw_rows_cuda_create_bare(const dw_kv_geometry *geometry, int ordinal, uint64_t chunk_bytes,
                                   uint32_t areas_per_run, dw_rows **out, dw_error *err) DW_MUST_USE;

#endif

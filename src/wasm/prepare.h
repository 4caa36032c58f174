/* prepare.h: rewrites a module once, so that each of its instances can be made by mapping an image of its memory (I3).
 *
 * What the rewritten module has that the source has not (and the other way round):
 *   exports          `__dw_m0` the memory; `__dw_g<n>` the n-th mutable global, counted in order; `__dw_start` the
 *                    start function. Only where the code changes tables: `__dw_t<n>` the n-th table that it changes,
 *                    counted in order, and `__dw_f<i>` each function that a table can come to hold, by its index
 *                    (element segments, ref.func). Only where the code drops passive segments: `__dw_s<n>` the
 *                    function of the n-th segment that it drops
 *   functions        one behind the module's own for each passive segment that the code drops, data before elements.
 *                    Called with 1 it drops the segment; called with 0 it does nothing, and traps where the segment is
 *                    dropped (segments.h)
 *   memory           has a maximum, DW_GUEST_MEMORY_BYTES_MAX where the source has none: what tells it from the heap
 *                    that Wasmtime keeps exceptions in (memory_creator.h). It could not grow beyond that anyway
 *   start section    gone: it ran at every instantiation, and would run again at every restore
 *   data segments    active ones are empty passive ones (what an applied segment is like: `memory.init` of any of its
 *                    bytes traps); their bytes make image 0. Passive ones stay
 *   custom sections  gone, but for the names, which traps show
 *   all the rest     byte for byte the same, above all the code of the module's functions; tables are rebuilt by
 *                    their element segments, and those that the code changes are then set from the image (tables.h)
 *
 * What is refused, as a restore could not give it back
 *   DW_E_UNSUPPORTED  imported memories, tables, globals; not exactly one memory; shared or 64-bit memory; instructions
 *                     that change a table of external references; tables of exceptions; mutable globals that hold
 *                     references; exceptions in their old form, which Wasmtime does not run; atomics; unknown
 *                     instructions, sections and types; imports that the runtime does not have; a linker's wrapper
 *                     that runs constructors with every message (prepare_advice.h)
 *   DW_E_INVALID      imports and entry points with a wrong signature; a command that is an actor too
 *                     (prepare_advice.h); export names that begin with `__dw_`; a data segment outside the memory
 *                     (and, found by program.c: an element segment outside its table)
 *   DW_E_LIMIT        more of something than limits.h allows; a function that could take too much memory
 *                     to compile (code_weight.h)
 *   DW_E_FORMAT, DW_E_TRUNCATED   damaged bytes. Wasmtime validates a module before it comes here, but nothing here
 *                     counts on it
 *
 * Threads: pure functions.
 */
#ifndef DW_WASM_PREPARE_H
#define DW_WASM_PREPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/base.h"
#include "wasm/module_reader.h"

#define DW_NAME_MEMORY "__dw_m0"
#define DW_NAME_START "__dw_start"
#define DW_NAME_GLOBAL "__dw_g" /* and a number */
#define DW_NAME_TABLE "__dw_t"  /* and a number */
#define DW_NAME_FUNCTION "__dw_f" /* and a number */
#define DW_NAME_SEGMENT "__dw_s"  /* and a number */
enum { DW_NAME_NUMBERED_BYTES = 20 };
/* Number of this rewriting: compiled code of another one is not used. */
#define DW_PREPARE_VERSION 5

/* An active data segment: what image 0 holds at `at`. */
typedef struct dw_prepared_segment { uint32_t at; dw_span bytes; } dw_prepared_segment;

/* A table that the code changes: how many elements it may have. */
typedef struct dw_prepared_table { uint32_t min, max; } dw_prepared_table;

/* A passive segment that the code drops. Whether it is dropped can be seen, so it is part of an image. */
typedef struct dw_prepared_drop {
    bool is_element;
    uint32_t segment, table;            /* table: one of the element segment's type; 0 for data */
} dw_prepared_drop;

typedef struct dw_prepared {
    uint8_t *wasm;                      /* the rewritten module */
    size_t wasm_size;
    uint8_t *global_types;              /* [n_globals + n_drops] dw_value_type of the mutable ones, then of drops */
    uint32_t n_globals;
    dw_prepared_segment *segments;      /* [n_segments] in order of application; bytes borrowed from the source */
    uint32_t n_segments;
    dw_prepared_table *tables;          /* [n_tables] in the order of their exports */
    uint32_t n_tables;
    /* [n_functions] indices of the exported ones, ascending; none when n_tables is 0. */
    uint32_t *functions;
    uint32_t n_functions;
    dw_prepared_drop *drops;            /* [n_drops] in the order of their exports */
    uint32_t n_drops;
    uint64_t memory_bytes, memory_bytes_max;
    dw_function_size heaviest;
    uint64_t weight, heavy_weight;      /* as in module_reader.h */
    uint32_t advice;                    /* DW_ADVICE_* of wasm.h */
    bool has_start, has_receive, has_start_command, has_initialize, has_constructors, imports_enter;
} dw_prepared;

/* `wasm` must outlive the result's segments. On failure nothing is left to free. */
dw_status dw_prepare(const void *wasm, uint64_t size, dw_prepared *out, dw_error *err) DW_MUST_USE;
void dw_prepared_deinit(dw_prepared *prepared);

#endif

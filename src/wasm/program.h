/* program.h: what a program is, for program.c and instance.c. Internal to src/wasm. */
#ifndef DW_WASM_PROGRAM_H
#define DW_WASM_PROGRAM_H

#include <stdatomic.h>
#include <wasmtime.h>
#include "wasm/prepare.h"
#include "wasm/wasm.h"

/* Image 0 as far as it has content; the memory behind and between is zero. */
typedef struct dw_image0 {
    dw_backing *backing;    /* NULL when there are no data segments */
    /* [n_extents] ascending, without gaps from 0: runs of the backing, and anonymous ones between them. */
    dw_extent *extents;
    size_t n_extents;
} dw_image0;

struct dw_program {
    atomic_uint references;
    dw_wasm_engine *engine;
    wasmtime_module_t *module;
    wasmtime_instance_pre_t *pre;    /* linked; only the memory is missing */
    wasmtime_module_t *table_accessor; /* tables.h; NULL where the code changes no table */
    dw_program_info info;
    uint8_t *global_types;           /* [info.n_globals] dw_value_type: of segments, DW_VALUE_I32 */
    dw_prepared_table *tables;       /* [info.n_tables] */
    uint32_t *functions;             /* [n_functions] indices of those that the tables may hold, ascending */
    uint32_t n_functions;
    const char *initialize;          /* what a fresh instance calls, behind the start function; NULL: nothing; static */
    bool has_start;                  /* the source had a start function: exported as __dw_start */
    dw_image0 image0;
};

/* image0.c */
dw_status dw_image0_build(const dw_prepared *prepared, dw_image0 *out, dw_error *err) DW_MUST_USE;
void dw_image0_deinit(dw_image0 *image);

#endif

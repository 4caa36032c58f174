/* tables.h: tables of functions that the code of a program changes, as numbers and back. Internal to src/wasm.
 *
 *   record     what Wasmtime keeps for each function of an instance that can be referred to. A reference is the
 *              record's address, and a null reference is NULL
 *   accessor   a module of a few instructions that imports a table and exports table.get, table.set and table.grow for
 *              it
 *
 * A reference means nothing outside its instance; in an image it is the index of the function in the module. prepare.c
 * exports all functions that tables can come to hold, so their records can be found, and the record tells which
 * function a reference is of. Wasmtime's C API moves references only where it is built with its garbage collector (else
 * its wasmtime_table_get and _set end the process); calls, however, pass them as what they are, so an accessor per
 * table reads and writes it.
 *
 * Rules
 * 1. A program whose code changes no table has nothing here: its tables are what its element segments make of them.
 * 2. A restore begins with what the element segments made, grows to the image's size and sets what differs, before
 *    anything runs.
 */
#ifndef DW_WASM_TABLES_H
#define DW_WASM_TABLES_H

#include <stdint.h>
#include <wasmtime.h>
#include "base/base.h"

struct dw_image;
struct dw_instance;
struct dw_program;
struct dw_wasm_engine;

typedef struct dw_table_access {
    wasmtime_table_t table;
    wasmtime_func_t get, set, grow; /* (i32) -> funcref, (i32, funcref) -> (), (i32) -> i32 */
} dw_table_access;

typedef struct dw_reference { void *record; uint32_t index; } dw_reference; /* which function a record is of */

/* Of an instance; made when it is first needed. */
typedef struct dw_instance_tables_state {
    dw_table_access *tables;      /* [info.n_tables] */
    void **records;               /* [program->n_functions] in the order of program->functions */
    dw_reference *references;     /* [program->n_functions] ascending by record */
} dw_instance_tables_state;

/* The accessor's code, for one program. */
dw_status dw_tables_compile(struct dw_wasm_engine *engine, wasmtime_module_t **out, dw_error *err) DW_MUST_USE;
/* Whether the tables of an image, untrusted, can be tables of the program: DW_E_CORRUPT otherwise. */
dw_status dw_tables_check(const struct dw_program *program, const struct dw_image *image, dw_error *err) DW_MUST_USE;
/* Makes the tables of a new instance those of a checked image. */
dw_status dw_tables_restore(struct dw_instance *instance, const struct dw_image *image, dw_error *err) DW_MUST_USE;
void dw_tables_deinit(dw_instance_tables_state *state);

#endif

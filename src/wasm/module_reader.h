/* module_reader.h: what preparing a module must know of a WebAssembly binary (core specification, chapter 5).
 *
 *   span     bytes of the input, borrowed, with their offset in it
 *   section  the body of a section: without its id and length
 *
 * Rules
 * 1. Safe on any bytes: the reader never reads outside the input, and allocates in proportion to it, or a bounded
 *    amount.
 * 2. It reads structure. It refuses what it cannot represent (imports other than functions, 64-bit or shared memories,
 *    types of later proposals), as the space of indices would be unknown. Policy is prepare.c's.
 * 3. The input must outlive the module: names and bytes are borrowed.
 * Threads: a module belongs to one thread at a time.
 */
#ifndef DW_WASM_MODULE_READER_H
#define DW_WASM_MODULE_READER_H

#include <stdbool.h>
#include <stdint.h>
#include "base/base.h"
#include "wasm/code_walk.h"

typedef struct dw_span { const uint8_t *data; uint64_t size, offset; } dw_span;

enum {
    DW_SECTION_CUSTOM = 0, DW_SECTION_TYPE = 1, DW_SECTION_IMPORT = 2, DW_SECTION_FUNCTION = 3, DW_SECTION_TABLE = 4,
    DW_SECTION_MEMORY = 5, DW_SECTION_GLOBAL = 6, DW_SECTION_EXPORT = 7, DW_SECTION_START = 8, DW_SECTION_ELEMENT = 9,
    DW_SECTION_CODE = 10, DW_SECTION_DATA = 11, DW_SECTION_DATA_COUNT = 12, DW_SECTION_TAG = 13,
    DW_SECTIONS = 14
};

enum { DW_KIND_FUNCTION = 0, DW_KIND_TABLE = 1, DW_KIND_MEMORY = 2, DW_KIND_GLOBAL = 3 };

/* Value types as in the binary. */
enum {
    DW_TYPE_I32 = 0x7F,
    DW_TYPE_I64 = 0x7E,
    DW_TYPE_F32 = 0x7D,
    DW_TYPE_F64 = 0x7C,
    DW_TYPE_V128 = 0x7B,
    DW_TYPE_FUNCREF = 0x70,
    DW_TYPE_EXTERNREF = 0x6F,
    DW_TYPE_EXNREF = 0x69
};

typedef struct dw_signature { dw_span params, results; } dw_signature; /* one byte per value type */
typedef struct dw_import { dw_span module, name; uint32_t type; } dw_import; /* a function */
typedef struct dw_global { uint8_t type; bool is_mutable; uint64_t offset; } dw_global;
typedef struct dw_export { dw_span name; uint8_t kind; uint32_t index; } dw_export;
/* Elements; max UINT64_MAX where none is declared. */
typedef struct dw_table { uint8_t type; uint64_t min, max; uint64_t offset; } dw_table;
typedef struct dw_element { uint8_t type; bool passive; uint32_t n; } dw_element; /* n: how many it holds */
typedef struct dw_data { bool active; uint32_t at; dw_span bytes; } dw_data; /* `at`: address, of an active one */

/* The body of a function, by its index; `offset` in the input; `weight` as in code_weight.h. */
typedef struct dw_function_size { uint32_t index, bytes; uint64_t offset, weight; } dw_function_size;

typedef struct dw_module {
    dw_span sections[DW_SECTIONS];   /* by id; data NULL where absent; [DW_SECTION_CUSTOM] is the name section */
    dw_signature *types;     uint32_t n_types;
    dw_import *imports;      uint32_t n_imports;
    uint32_t *functions;     uint32_t n_functions;  /* type of each function, imported ones first */
    dw_global *globals;      uint32_t n_globals;
    dw_constant *constants;                         /* [n_globals] values of the immutable ones */
    dw_export *exports;      uint32_t n_exports;
    dw_data *data;           uint32_t n_data;
    dw_table *tables;        uint32_t n_tables;
    dw_element *elements;    uint32_t n_elements;
    bool *named;                                    /* [n_functions] a table can come to hold it: dw_code_notes */
    bool *changed;                                  /* [n_tables] the code changes it: dw_code_notes */
    bool *dropped_elements;                         /* [n_elements] the code drops it: dw_code_notes */
    bool *dropped_data;                             /* [data_count] likewise; NULL without that section */
    uint32_t data_count;                            /* n_data, where both sections are there */
    uint32_t n_memories;
    uint64_t memory_pages_min, memory_pages_max;    /* of the last memory; max UINT64_MAX where none is declared */
    bool has_start;
    uint32_t start;
    dw_function_size heaviest;
    uint64_t weight, heavy_weight;   /* of all functions; of those above DW_FUNCTION_HEAVY_BYTES */
} dw_module;

/* Reads a whole module. On failure nothing is left to free. */
dw_status dw_module_read(const void *wasm, uint64_t size, dw_module *out, dw_error *err) DW_MUST_USE;
void dw_module_deinit(dw_module *module);

/* Signature of a function, or NULL when there is no such function. */
const dw_signature *dw_module_signature(const dw_module *module, uint32_t function);
/* Compares with types written as letters: i = i32, I = i64, f = f32, F = f64. */
bool dw_signature_is(const dw_signature *signature, const char *params, const char *results);
bool dw_span_is(const dw_span *span, const char *text);
/* A name from the module for people: cut short, everything unprintable replaced. Returns `out`. */
enum { DW_NAME_TEXT_BYTES = 64 };
const char *dw_span_text(const dw_span *span, char out[DW_NAME_TEXT_BYTES]);

#endif

/* code_walk.h: walks WebAssembly instructions without executing them, to find those whose effect a restore could not
 * repeat, and those that it must know of: which tables the code changes, which segments it drops, and to which
 * functions it makes references.
 *
 * Knows every instruction of WebAssembly 2.0 with SIMD, relaxed SIMD, tail calls, exceptions and extended constant
 * expressions (https://webassembly.github.io/spec/core/binary/instructions.html). Anything else is refused: an
 * instruction whose length is unknown cannot be stepped over.
 *
 * Rules
 * 1. Safe on any bytes: reads only through the reader, allocates nothing, and ends.
 * 2. Checks lengths, not types; that the code is valid is Wasmtime's business.
 * Threads: pure functions.
 */
#ifndef DW_WASM_CODE_WALK_H
#define DW_WASM_CODE_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include "base/base.h"
#include "wasm/code_weight.h"

/* What was found out about the module's functions, tables and segments. Indices that there are not are left to
 * Wasmtime's validation. */
typedef struct dw_code_notes {
    bool *named;             /* [n_functions] a reference to the function can be made: ref.func, element segments */
    uint32_t n_functions;
    bool *changed;           /* [n_tables] an instruction changes the table: table.set, .grow, .fill, .copy, .init */
    uint32_t n_tables;
    bool *dropped_data;      /* [n_data] data.drop names the segment */
    uint32_t n_data;
    bool *dropped_elements;  /* [n_elements] elem.drop names the segment */
    uint32_t n_elements;
    dw_code_weigher *weigher; /* of the function that is walked; NULL: nothing is weighed */
} dw_code_notes;

void dw_code_note_function(const dw_code_notes *notes, uint32_t function);

/* Walks the instructions up to the byte offset `end` of the reader's input, where the last one must end. */
dw_status dw_code_walk(dw_reader *reader, uint64_t end, const dw_code_notes *notes, dw_error *err) DW_MUST_USE;

/* Value of an immutable global, as far as offsets of data segments can use it: i32 constants. */
typedef struct dw_constant { bool known; uint32_t value; } dw_constant;

/* The globals that a constant expression may name. */
typedef struct dw_constants { const dw_constant *items; uint32_t n; } dw_constants;

/* Reads a constant expression up to and including its `end`. The result is known when the expression is of type i32 and
 * made of constants, additions, subtractions and multiplications. */
dw_status dw_constant_expression(dw_reader *reader, dw_constants globals, const dw_code_notes *notes, dw_constant *out,
                                 dw_error *err) DW_MUST_USE;

#endif

/* abort.h: `env.abort(message, file, line, column)`, which AssemblyScript's programs import unless told otherwise, and
 * call where they give up.
 *
 * A string of AssemblyScript is UTF-16, little-endian; a pointer names its first unit, and the four bytes before that
 * hold its size in bytes. 0 is no string. Both are the guest's to choose, so nothing of them is trusted.
 * Internal to src/wasm. Threads: pure function. */
#ifndef DW_WASM_ABORT_H
#define DW_WASM_ABORT_H

#include <stdint.h>
#include "wasm/wasm.h"

enum { DW_ABORT_TEXT_BYTES = 480 };

/* "MESSAGE at FILE:LINE:COLUMN", plain (base/plain.h) and UTF-8. Long strings are cut; a string that lies outside
 * memory or is none is said to be so. */
void dw_abort_text(const dw_guest_memory *memory, uint32_t message, uint32_t file, uint32_t line, uint32_t column,
                   char out[DW_ABORT_TEXT_BYTES]);

#endif

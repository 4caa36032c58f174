/* prepare_advice.h: how a module was linked, where that makes a valid program something other than its author meant.
 *
 *   stack pointer   the mutable i32 global by which compiled C, C++ and Rust keep a stack in linear memory
 *   wrapper         a function that the linker (LLVM's wasm-ld) puts before each export of a module that is neither a
 *                   reactor nor has a start file: it calls __wasm_call_ctors, the function itself, __wasm_call_dtors.
 *                   Its name ends in ".command_export"
 *
 * Rules
 * 1. Advice is a guess about tools, so it never stops a program. Refused is only what is certain.
 * 2. What is not understood gives no advice: names may be missing, damaged or lies.
 * 3. Safe on any bytes that dw_module_read has accepted; allocates nothing; linear in the module.
 * Threads: pure functions.
 */
#ifndef DW_WASM_PREPARE_ADVICE_H
#define DW_WASM_PREPARE_ADVICE_H

#include <stdint.h>
#include "base/base.h"
#include "wasm/module_reader.h"

/* *advice = DW_ADVICE_* of wasm.h.
 * DW_E_UNSUPPORTED  a wrapper runs constructors with every message: they would set the actor's state back
 * DW_E_INVALID      the module is a command (_start) and an actor (driftwood_receive) at once: _start would not run */
dw_status dw_advise(const dw_module *module, uint32_t *advice, dw_error *err) DW_MUST_USE;

#endif

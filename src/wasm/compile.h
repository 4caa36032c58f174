/* compile.h: compiling with a budget of time. Internal to src/wasm.
 *
 *   compile   the work of one thread, which makes the code of one program
 *   waiter    who called dw_compile and is blocked there
 *   given up  a compile that nobody waits for any more. Nothing can end the compiler early, so its thread goes on to
 *             the end and puts the code into the cache, where the next attempt finds it
 *
 * Rules
 * 1. A program is compiled by one thread at a time: who asks for one that is being compiled waits for that, also for
 *    one that was given up.
 * 2. A compile owns all that it uses. One that was given up holds the engine, which so outlives its destruction; the
 *    end of the process ends it.
 * 3. While DW_COMPILES_GIVEN_UP_MAX were given up and are not done, nothing else is compiled: DW_E_BUSY.
 * 4. A compile that begins while no other runs has all cores; another one has one, so that it does not stand in the
 *    queue of the first one's functions; and so has one whose functions could together take more than
 *    DW_COMPILE_BYTES_MAX of memory.
 * Threads: any.
 */
#ifndef DW_WASM_COMPILE_H
#define DW_WASM_COMPILE_H

#include <wasmtime.h>
#include "wasm/prepare.h"
#include "wasm/wasm.h"

typedef struct dw_compiler dw_compiler;

/* What a compile asks of the engine that it belongs to. */
typedef struct dw_compiler_options {
    wasm_engine_t *parallel, *serial;  /* borrowed; compile functions on all cores, and on the calling thread's */
    uint64_t limit_ns;                 /* a compile that takes longer is given up; UINT64_MAX = none */
    void (*hold)(void *context);       /* called for each thread that begins, and once it is done `drop` */
    void (*drop)(void *context);
    void (*keep)(void *context, const dw_hash *program, const void *code, size_t size); /* into the cache */
    void *context;
    void (*compiling)(void *context, size_t bytes, dw_status ended); /* as in dw_wasm_engine_options */
    void *compiling_context;
} dw_compiler_options;

dw_status dw_compiler_create(const dw_compiler_options *options, dw_compiler **out, dw_error *err) DW_MUST_USE;
void dw_compiler_destroy(dw_compiler *compiler); /* no thread of it runs; NULL is a no-op */

/* Compiles a prepared module into a module of `engine`. DW_E_DEADLINE: the limit has passed; DW_E_BUSY: rule 3;
 * DW_E_INVALID: Wasmtime does not take it. */
dw_status dw_compile(dw_compiler *compiler, const dw_hash *program, const dw_prepared *prepared,
                     wasmtime_module_t **out, dw_error *err) DW_MUST_USE;

#endif

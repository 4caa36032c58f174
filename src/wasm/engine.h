/* engine.h: what the files of this module share about the engine. Internal to src/wasm. */
#ifndef DW_WASM_ENGINE_H
#define DW_WASM_ENGINE_H

#include <stdatomic.h>
#include <wasmtime.h>
#include "wasm/compile.h"
#include "wasm/ticker.h"
#include "wasm/wasm.h"

enum { DW_ENGINE_KEY_BYTES = 17 };

struct dw_wasm_engine {
    wasm_engine_t *engine;
    wasm_engine_t *serial;           /* the same, but that it compiles on the calling thread alone */
    dw_compiler *compiler;
    /* All host functions; not changed after creation, so any thread may link with it. */
    wasmtime_linker_t *linker;
    dw_ticker *ticker;
    char *code_folder;               /* of compiled code; NULL = no cache */
    char key[DW_ENGINE_KEY_BYTES];   /* names what compiled code depends on beside the program, in hexadecimal */
    atomic_uint users;               /* programs; for an assertion at the end */
    atomic_uint holders;             /* who created it, and each compile that runs */
};

/* Takes over a Wasmtime error and makes ours of it: "prefix: text", one line, printable. */
dw_status dw_engine_fail(dw_error *err, dw_status status, const char *prefix, wasmtime_error_t *error);

/* host.c: defines what programs may import. */
dw_status dw_host_define(wasmtime_linker_t *linker, dw_error *err) DW_MUST_USE;

/* code_cache.c. Load: DW_E_NOT_FOUND when there is nothing usable; free *out with free(). */
dw_status dw_code_cache_load(const dw_wasm_engine *engine, const dw_hash *program, uint8_t **out,
                             size_t *size) DW_MUST_USE;
/* Best effort: a cache that cannot be written costs time, nothing else. */
void dw_code_cache_store(const dw_wasm_engine *engine, const dw_hash *program, const void *code, size_t size);

#endif

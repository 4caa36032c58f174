/* engine.c: the configuration of Wasmtime, and what all programs share. */
#include "wasm/engine.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/memory_creator.h"
#include "wasm/prepare.h"

enum { TICK_MS_DEFAULT = 10, TICK_MS_MAX = 1000 };

/* What compiled code depends on beside Wasmtime's version and the processor, both of which Wasmtime checks itself when
 * it loads code. A change here or in configure() must change this text, or old code is taken for new. */
#define SETTINGS "nan=1 relaxed=det epoch=1 exceptions=1 reservation=4G guard=32M stack=512K"

/* Memories come from us and never move. Everything that would let results differ from one machine to another is fixed:
 * the bits of a NaN, and relaxed SIMD. What prepare.c could not restore (threads, several or 64-bit memories, suspended
 * stacks) is off. */
static void configure(wasm_config_t *config) {
    /* With a memory creator Wasmtime aborts otherwise: its issue 10740. */
    wasmtime_config_memory_init_cow_set(config, false);
    wasmtime_config_memory_may_move_set(config, false);
    wasmtime_config_memory_reservation_set(config, DW_GUEST_RESERVATION_BYTES);
    wasmtime_config_memory_guard_size_set(config, DW_GUEST_GUARD_BYTES);
    wasmtime_config_signals_based_traps_set(config, true);
    wasmtime_config_max_wasm_stack_set(config, DW_GUEST_STACK_BYTES);
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_cranelift_nan_canonicalization_set(config, true);
    wasmtime_config_wasm_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_set(config, true);
    wasmtime_config_wasm_relaxed_simd_deterministic_set(config, true);
    wasmtime_config_wasm_bulk_memory_set(config, true);
    wasmtime_config_wasm_multi_value_set(config, true);
    wasmtime_config_wasm_tail_call_set(config, true);
    wasmtime_config_shared_memory_set(config, false);
    wasmtime_config_wasm_memory64_set(config, false);
    wasmtime_config_wasm_multi_memory_set(config, false);
    wasmtime_config_wasm_custom_page_sizes_set(config, false);
    wasmtime_config_wasm_wide_arithmetic_set(config, false);
    wasmtime_config_wasm_stack_switching_set(config, false);
    /* Exceptions are objects of the garbage collector. Others, and the types of their references, prepare.c refuses. */
    wasmtime_config_gc_support_set(config, true);
    wasmtime_config_wasm_exceptions_set(config, true);
    dw_memory_creator_install(config);
}

dw_status dw_engine_fail(dw_error *err, dw_status status, const char *prefix, wasmtime_error_t *error) {
    wasm_name_t message;
    wasmtime_error_message(error, &message);
    char text[DW_ERROR_TEXT_BYTES];
    size_t n = 0;
    for (; n < message.size && n < sizeof text - 1; n++)
        text[n] = message.data[n] >= 0x20 && message.data[n] < 0x7F ? message.data[n] : ' ';
    while (n > 0 && text[n - 1] == ' ') n--;
    text[n] = '\0';
    wasm_name_delete(&message);
    wasmtime_error_delete(error);
    return dw_fail(err, status, "%s: %s", prefix, text);
}

static dw_status make_key(char out[DW_ENGINE_KEY_BYTES], dw_error *err) {
    char text[256], hex[DW_HASH_HEX_BYTES];
    int n = snprintf(text, sizeof text, "wasmtime %s, prepare %d, %s", WASMTIME_VERSION, DW_PREPARE_VERSION, SETTINGS);
    assert(n > 0 && (size_t)n < sizeof text);
    dw_hash hash;
    dw_status status = dw_hash_of(text, (size_t)n, &hash);
    if (status != DW_OK) return dw_fail(err, status, "the engine's key cannot be hashed");
    dw_hash_hex(&hash, hex);
    memcpy(out, hex, DW_ENGINE_KEY_BYTES - 1);
    out[DW_ENGINE_KEY_BYTES - 1] = '\0';
    return DW_OK;
}

static dw_status make_code_folder(const char *cache_folder, char **out, dw_error *err) {
    static const char below[] = "/code";
    if (!cache_folder) return DW_OK;
    size_t length = strlen(cache_folder);
    char *folder = malloc(length + sizeof below);
    if (!folder) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a path");
    memcpy(folder, cache_folder, length);
    memcpy(folder + length, below, sizeof below);
    dw_status status = dw_os_make_folders(folder, err);
    if (status == DW_OK) *out = folder;
    else free(folder);
    return status;
}

static void tick(void *context) { wasmtime_engine_increment_epoch(context); }

/* --- what a compile holds ---------------------------------------------------------------------------------------- */

static void hold_engine(void *context) {
    dw_wasm_engine *engine = context;
    atomic_fetch_add(&engine->holders, 1);
}

/* The last one frees: a compile that was given up may end after the engine was destroyed. */
static void drop_engine(void *context) {
    dw_wasm_engine *engine = context;
    if (atomic_fetch_sub(&engine->holders, 1) != 1) return;
    dw_compiler_destroy(engine->compiler);
    if (engine->linker) wasmtime_linker_delete(engine->linker);
    if (engine->serial) wasm_engine_delete(engine->serial);
    if (engine->engine) wasm_engine_delete(engine->engine);
    free(engine->code_folder);
    free(engine);
}

static void keep_code(void *context, const dw_hash *program, const void *code, size_t size) {
    dw_code_cache_store(context, program, code, size);
}

static dw_status make_compiler(dw_wasm_engine *engine, const dw_wasm_engine_options *options, dw_error *err) {
    const dw_compiler_options compiler = {.parallel = engine->engine, .serial = engine->serial,
                                          .hold = hold_engine, .drop = drop_engine, .keep = keep_code,
                                          .context = engine,
                                          .limit_ns = options->compile_limit_ns ? options->compile_limit_ns
                                                                                : DW_COMPILE_NS,
                                          .compiling = options->compiling,
                                          .compiling_context = options->compiling_context};
    return dw_compiler_create(&compiler, &engine->compiler, err);
}

/* --- engines ----------------------------------------------------------------------------------------------------- */

static dw_status make_wasmtime(bool is_parallel, wasm_engine_t **out, dw_error *err) {
    wasm_config_t *config = wasm_config_new();
    configure(config);
    wasmtime_config_parallel_compilation_set(config, is_parallel); /* the code is the same */
    *out = wasm_engine_new_with_config(config); /* takes the configuration over */
    return *out ? DW_OK : dw_fail(err, DW_E_INTERNAL, "Wasmtime refuses its configuration");
}

dw_status dw_wasm_engine_create(const dw_wasm_engine_options *options, dw_wasm_engine **out, dw_error *err) {
    *out = NULL;
    uint32_t tick_ms = options->tick_ms ? options->tick_ms : TICK_MS_DEFAULT;
    if (tick_ms > TICK_MS_MAX)
        return dw_fail(err, DW_E_INVALID, "a tick of %u ms is longer than %d", (unsigned)tick_ms, TICK_MS_MAX);
    dw_wasm_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an engine");
    atomic_init(&engine->users, 0);
    atomic_init(&engine->holders, 1);
    dw_status status = make_key(engine->key, err);
    if (status != DW_OK) goto out;
    status = make_code_folder(options->cache_folder, &engine->code_folder, err);
    if (status != DW_OK) goto out;
    status = make_wasmtime(true, &engine->engine, err);
    if (status == DW_OK) status = make_wasmtime(false, &engine->serial, err);
    if (status == DW_OK) status = make_compiler(engine, options, err);
    if (status != DW_OK) goto out;
    engine->linker = wasmtime_linker_new(engine->engine);
    status = dw_host_define(engine->linker, err);
    if (status != DW_OK) goto out;
    status = dw_ticker_create(tick_ms, tick, engine->engine, &engine->ticker, err);
out:
    if (status == DW_OK) *out = engine;
    else dw_wasm_engine_destroy(engine);
    return status;
}

void dw_wasm_engine_destroy(dw_wasm_engine *engine) {
    if (!engine) return;
    assert(atomic_load(&engine->users) == 0);
    dw_ticker_destroy(engine->ticker);
    engine->ticker = NULL;
    drop_engine(engine);
}

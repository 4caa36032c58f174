/* program.c: from the bytes of a module to something that can be instantiated at once. */
#include "wasm/program.h"

#include <assert.h>
#include <stdlib.h>

#include "wasm/engine.h"
#include "wasm/tables.h"

/* Wasmtime calls a module invalid that uses what is switched off (threads, 64-bit memories). Then our own reason says
 * more than the name of a proposal, so it is asked for; it reads damaged modules safely. */
static dw_status validate(dw_wasm_engine *engine, const void *wasm, size_t size, dw_error *err) {
    wasmtime_error_t *error = wasmtime_module_validate(engine->engine, wasm, size);
    if (!error) return DW_OK;
    dw_prepared unused = {0};
    dw_status status = dw_prepare(wasm, size, &unused, err);
    dw_prepared_deinit(&unused);
    if (status != DW_E_UNSUPPORTED && status != DW_E_LIMIT)
        return dw_engine_fail(err, DW_E_INVALID, "not a valid WebAssembly module", error);
    wasmtime_error_delete(error);
    return status;
}

/* Code that Wasmtime does not take (another processor, for one) is compiled again. */
static void load_cached_code(dw_program *program, const uint8_t *code, size_t size) {
    wasmtime_error_t *error = wasmtime_module_deserialize(program->engine->engine, code, size, &program->module);
    program->info.from_cache = error == NULL;
    if (!error) return;
    dw_log(DW_LOG_INFO, "code_cache", "problem=other_engine action=compile");
    wasmtime_error_delete(error);
    program->module = NULL;
}

static void describe_program(dw_program *program, dw_prepared *prepared, size_t source_size) {
    dw_program_info *info = &program->info;
    info->source_bytes = source_size;
    info->image_bytes = prepared->memory_bytes;
    info->memory_max_bytes = prepared->memory_bytes_max;
    info->n_globals = prepared->n_globals + prepared->n_drops;
    info->n_drops = prepared->n_drops;
    info->has_receive = prepared->has_receive;
    info->has_start_command = prepared->has_start_command;
    info->has_initialize = prepared->has_initialize || prepared->has_constructors;
    info->imports_enter = prepared->imports_enter;
    info->advice = prepared->advice;
    program->has_start = prepared->has_start;
    if (prepared->has_initialize) program->initialize = "_initialize";
    else if (prepared->has_constructors) program->initialize = "__wasm_call_ctors";
    info->n_tables = prepared->n_tables;
    program->n_functions = prepared->n_functions;
    /* These move. */
    program->global_types = prepared->global_types;
    program->tables = prepared->tables;
    program->functions = prepared->functions;
    prepared->global_types = NULL;
    prepared->tables = NULL;
    prepared->functions = NULL;
}

static dw_status link_program(dw_program *program, dw_error *err) {
    wasmtime_error_t *error = wasmtime_linker_instantiate_pre(program->engine->linker, program->module, &program->pre);
    return error ? dw_engine_fail(err, DW_E_UNSUPPORTED, "the module cannot be linked", error) : DW_OK;
}

/* The last condition can only be tried: that element segments fit their tables. Found now, not when the first actor is
 * made. */
static dw_status try_out(dw_program *program, dw_error *err) {
    dw_instance *instance = NULL;
    const dw_instance_options options = {0};
    dw_status status = dw_instance_create(program, &options, &instance, err);
    dw_instance_destroy(instance);
    return status;
}

/* What is in the cache was valid when it was compiled; anything else Wasmtime validates first, as its messages are
 * about the module that the user has, not about the rewritten one. */
static dw_status build_program(dw_program *program, const void *wasm, size_t size, dw_error *err) {
    uint8_t *code = NULL;
    size_t code_size = 0;
    dw_prepared prepared = {0};
    dw_status cached = dw_code_cache_load(program->engine, &program->info.hash, &code, &code_size);
    dw_status status = cached == DW_OK ? DW_OK : validate(program->engine, wasm, size, err);
    if (status != DW_OK) goto out;
    status = dw_prepare(wasm, size, &prepared, err);
    if (status != DW_OK) goto out;
    if (cached == DW_OK) load_cached_code(program, code, code_size);
    if (!program->module)
        status = dw_compile(program->engine->compiler, &program->info.hash, &prepared, &program->module, err);
    if (status != DW_OK) goto out;
    status = link_program(program, err);
    if (status != DW_OK) goto out;
    status = dw_image0_build(&prepared, &program->image0, err);
    if (status != DW_OK) goto out;
    describe_program(program, &prepared, size);
    if (program->info.n_tables > 0) status = dw_tables_compile(program->engine, &program->table_accessor, err);
    if (status != DW_OK) goto out;
    status = try_out(program, err);
out:
    dw_prepared_deinit(&prepared);
    free(code);
    return status;
}

dw_status dw_program_prepare(dw_wasm_engine *engine, const void *wasm, size_t size, dw_program **out, dw_error *err) {
    *out = NULL;
    if (size > DW_PROGRAM_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "the module has %llu bytes, more than %llu", (unsigned long long)size,
                       (unsigned long long)DW_PROGRAM_BYTES_MAX);
    dw_program *program = calloc(1, sizeof *program);
    if (!program) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a program");
    atomic_init(&program->references, 1);
    program->engine = engine;
    atomic_fetch_add(&engine->users, 1);
    dw_status status = dw_hash_of(wasm, size, &program->info.hash);
    if (status != DW_OK) (void)dw_fail(err, status, "the module cannot be hashed");
    else status = build_program(program, wasm, size, err);
    if (status == DW_OK) *out = program;
    else dw_program_release(program);
    return status;
}

dw_program *dw_program_retain(dw_program *program) {
    atomic_fetch_add(&program->references, 1);
    return program;
}

void dw_program_release(dw_program *program) {
    if (!program) return;
    unsigned before = atomic_fetch_sub(&program->references, 1);
    assert(before > 0);
    if (before != 1) return;
    if (program->pre) wasmtime_instance_pre_delete(program->pre);
    if (program->module) wasmtime_module_delete(program->module);
    if (program->table_accessor) wasmtime_module_delete(program->table_accessor);
    dw_image0_deinit(&program->image0);
    free(program->global_types);
    free(program->tables);
    free(program->functions);
    atomic_fetch_sub(&program->engine->users, 1);
    free(program);
}

const dw_program_info *dw_program_info_view(const dw_program *program) { return &program->info; }

const dw_extent *dw_program_image0(const dw_program *program, size_t *n) {
    *n = program->image0.n_extents;
    return program->image0.extents;
}

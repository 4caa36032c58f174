/* reference.c: see reference.h. */
#include "wasm/reference.h"

#include <wasmtime.h>

struct reference {
    wasm_engine_t *engine;
    wasmtime_module_t *module;
    wasmtime_linker_t *linker;
    wasmtime_store_t *store;
    wasmtime_context_t *context;
    wasmtime_instance_t instance;
    wasmtime_memory_t memory;
    uint64_t birth, turn, reads, counter;
    uint8_t seed[32];
};

static void none(wasmtime_error_t *error, wasm_trap_t *trap) {
    wasm_name_t text;
    if (!error && !trap) return;
    if (error) wasmtime_error_message(error, &text);
    else wasm_trap_message(trap, &text);
    fail_msg("reference: %.*s", (int)text.size, text.data);
}

static uint8_t *at(reference *ref, int32_t pointer) { return wasmtime_memory_data(ref->context, &ref->memory) + (uint32_t)pointer; }

static void put_u32(reference *ref, int32_t pointer, uint32_t value) { memcpy(at(ref, pointer), &value, 4); }

static reference *self(wasmtime_caller_t *caller) {
    return wasmtime_context_get_data(wasmtime_caller_context(caller));
}

static void result(wasmtime_val_t *results, int32_t value) { results[0] = (wasmtime_val_t){.kind = WASMTIME_I32, .of.i32 = value}; }

#define IMPORT(name)                                                                                                            \
    static wasm_trap_t *name(void *env, wasmtime_caller_t *caller, const wasmtime_val_t *args, size_t n, wasmtime_val_t *results, \
                             size_t n_results)
#define UNUSED() (void)env, (void)caller, (void)args, (void)n, (void)results, (void)n_results

IMPORT(bad_descriptor) { UNUSED(); result(results, 8); return NULL; }
IMPORT(nothing) { UNUSED(); result(results, 0); return NULL; }

IMPORT(zero_sizes) {
    UNUSED();
    put_u32(self(caller), args[0].of.i32, 0);
    put_u32(self(caller), args[1].of.i32, 0);
    result(results, 0);
    return NULL;
}

IMPORT(fd_write) {
    UNUSED();
    reference *ref = self(caller);
    uint32_t total = 0, size;
    for (int32_t i = 0; i < args[2].of.i32; i++) {
        memcpy(&size, at(ref, args[1].of.i32 + 8 * i + 4), 4);
        total += size;
    }
    put_u32(ref, args[3].of.i32, total);
    result(results, 0);
    return NULL;
}

IMPORT(fdstat) {
    UNUSED();
    uint8_t stat[24] = {2};
    uint32_t rights = (args[0].of.i32 == 0 ? 2u : 64u) | 1u << 21 | 1u << 27;
    memcpy(stat + 8, &rights, 4);
    memcpy(at(self(caller), args[1].of.i32), stat, sizeof stat);
    result(results, 0);
    return NULL;
}

IMPORT(clock_time) {
    UNUSED();
    reference *ref = self(caller);
    uint64_t now = ref->turn + 1000 * ref->reads++;
    if (args[0].of.i32 != 0) now = now - ref->birth + 1;
    memcpy(at(ref, args[2].of.i32), &now, 8);
    result(results, 0);
    return NULL;
}

IMPORT(random_bytes) {
    UNUSED();
    reference *ref = self(caller);
    uint32_t size = (uint32_t)args[1].of.i32;
    for (uint32_t done = 0; done < size; done += 32, ref->counter++) {
        uint8_t input[40];
        dw_hash block;
        memcpy(input, ref->seed, 32);
        memcpy(input + 32, &ref->counter, 8);
        assert_ok(dw_hash_of(input, sizeof input, &block));
        memcpy(at(ref, args[0].of.i32) + done, block.bytes, size - done < 32 ? size - done : 32);
    }
    result(results, 0);
    return NULL;
}

static void define(reference *ref, const char *name, const char *params, wasmtime_func_callback_t callback) {
    static const char module[] = "wasi_snapshot_preview1";
    wasm_valtype_t *types[8], *i32[1] = {wasm_valtype_new(WASM_I32)};
    wasm_valtype_vec_t ins, outs;
    for (size_t i = 0; params[i]; i++) types[i] = wasm_valtype_new(params[i] == 'i' ? WASM_I32 : WASM_I64);
    wasm_valtype_vec_new(&ins, strlen(params), types);
    wasm_valtype_vec_new(&outs, 1, i32);
    wasm_functype_t *type = wasm_functype_new(&ins, &outs);
    none(wasmtime_linker_define_func(ref->linker, module, strlen(module), name, strlen(name), type, callback, NULL, NULL), NULL);
    wasm_functype_delete(type);
}

static void define_imports(reference *ref) {
    define(ref, "args_sizes_get", "ii", zero_sizes);
    define(ref, "environ_sizes_get", "ii", zero_sizes);
    define(ref, "args_get", "ii", nothing);
    define(ref, "environ_get", "ii", nothing);
    define(ref, "fd_write", "iiii", fd_write);
    define(ref, "fd_fdstat_get", "ii", fdstat);
    define(ref, "fd_fdstat_set_flags", "ii", nothing);
    define(ref, "fd_prestat_get", "ii", bad_descriptor);
    define(ref, "clock_time_get", "iIi", clock_time);
    define(ref, "random_get", "ii", random_bytes);
    define(ref, "sched_yield", "", nothing);
}

static bool find(reference *ref, const char *name, wasmtime_extern_t *out) {
    return wasmtime_instance_export_get(ref->context, &ref->instance, name, strlen(name), out);
}

reference *reference_create(const void *wasm, size_t size) {
    reference *ref = calloc(1, sizeof *ref);
    assert_non_null(ref);
    dw_instance_options options = test_options();
    ref->birth = ref->turn = options.wasi_state.birth_realtime_ns;
    memcpy(ref->seed, options.wasi_state.random_seed, sizeof ref->seed);
    wasm_config_t *config = wasm_config_new();
    wasmtime_config_cranelift_nan_canonicalization_set(config, true);
    wasmtime_config_cranelift_opt_level_set(config, WASMTIME_OPT_LEVEL_NONE); /* another compilation than ours, and a faster one */
    wasmtime_config_wasm_exceptions_set(config, true);
    ref->engine = wasm_engine_new_with_config(config);
    ref->linker = wasmtime_linker_new(ref->engine);
    define_imports(ref);
    none(wasmtime_module_new(ref->engine, wasm, size, &ref->module), NULL);
    none(wasmtime_linker_define_unknown_imports_as_traps(ref->linker, ref->module), NULL);
    ref->store = wasmtime_store_new(ref->engine, ref, NULL);
    ref->context = wasmtime_store_context(ref->store);
    wasm_trap_t *trap = NULL;
    none(wasmtime_linker_instantiate(ref->linker, ref->context, ref->module, &ref->instance, &trap), trap);
    wasmtime_extern_t item;
    assert_true(find(ref, "memory", &item));
    ref->memory = item.of.memory;
    if (find(ref, "_initialize", &item)) none(wasmtime_func_call(ref->context, &item.of.func, NULL, 0, NULL, 0, &trap), trap);
    return ref;
}

void reference_begin_turn(reference *ref, uint64_t realtime_ns) {
    uint64_t next = ref->turn + 1000 * ref->reads;
    ref->turn = realtime_ns > next ? realtime_ns : next;
    ref->reads = 0;
}

int32_t reference_receive(reference *ref) {
    wasmtime_extern_t item;
    wasmtime_val_t value = {0};
    wasm_trap_t *trap = NULL;
    assert_true(find(ref, "driftwood_receive", &item));
    none(wasmtime_func_call(ref->context, &item.of.func, NULL, 0, &value, 1, &trap), trap);
    return value.of.i32;
}

dw_hash reference_memory_hash(reference *ref) {
    dw_hash hash;
    assert_ok(dw_hash_of(wasmtime_memory_data(ref->context, &ref->memory), wasmtime_memory_data_size(ref->context, &ref->memory), &hash));
    return hash;
}

void reference_destroy(reference *ref) {
    wasmtime_store_delete(ref->store);
    wasmtime_module_delete(ref->module);
    wasmtime_linker_delete(ref->linker);
    wasm_engine_delete(ref->engine);
    free(ref);
}

/* engine_plain.c: see engine_plain.h. */
#include "engine_plain.h"

#include <stdlib.h>
#include <string.h>
#include <wasmtime.h>

#include "bench.h"

struct bench_plain {
    wasm_engine_t *engine;
    wasmtime_module_t *module;
    wasmtime_linker_t *linker;
    wasmtime_instance_pre_t *pre;
    wasmtime_store_t *store; /* of one instance that stays */
    wasmtime_instance_t instance;
};

static void must(wasmtime_error_t *error, wasm_trap_t *trap) {
    if (error != NULL || trap != NULL) bench_fail("plain Wasmtime cannot run the guest calls.wasm");
}

static wasm_trap_t *yield(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t n_values) {
    (void)env, (void)caller, (void)n_values;
    values[0].i32 = 0;
    return NULL;
}

static void define_yield(wasmtime_linker_t *linker) {
    static const char module[] = "wasi_snapshot_preview1", name[] = "sched_yield";
    wasm_valtype_vec_t params, results;
    wasm_valtype_t *result = wasm_valtype_new(WASM_I32);
    wasm_valtype_vec_new_empty(&params);
    wasm_valtype_vec_new(&results, 1, &result);
    wasm_functype_t *type = wasm_functype_new(&params, &results);
    must(wasmtime_linker_define_func_unchecked(linker, module, sizeof module - 1, name, sizeof name - 1, type, yield, NULL, NULL), NULL);
    wasm_functype_delete(type);
}

bench_plain *bench_plain_open(const void *wasm, size_t size) {
    bench_plain *p = calloc(1, sizeof *p);
    if (p == NULL) bench_fail("no memory");
    wasm_trap_t *trap = NULL;
    p->engine = wasm_engine_new();
    p->linker = wasmtime_linker_new(p->engine);
    define_yield(p->linker);
    must(wasmtime_module_new(p->engine, wasm, size, &p->module), NULL);
    must(wasmtime_linker_instantiate_pre(p->linker, p->module, &p->pre), NULL);
    p->store = wasmtime_store_new(p->engine, NULL, NULL);
    must(wasmtime_instance_pre_instantiate(p->pre, wasmtime_store_context(p->store), &p->instance, &trap), trap);
    return p;
}

void bench_plain_close(bench_plain *plain) {
    wasmtime_store_delete(plain->store);
    wasmtime_instance_pre_delete(plain->pre);
    wasmtime_module_delete(plain->module);
    wasmtime_linker_delete(plain->linker);
    wasm_engine_delete(plain->engine);
    free(plain);
}

static double call_us(bench_plain *plain, const char *name, unsigned n) {
    wasmtime_context_t *context = wasmtime_store_context(plain->store);
    wasmtime_extern_t item;
    wasm_trap_t *trap = NULL;
    wasmtime_val_t result;
    if (!wasmtime_instance_export_get(context, &plain->instance, name, strlen(name), &item)) bench_fail("calls.wasm lacks an export");
    double start = bench_now_us();
    for (unsigned i = 0; i < n; i++) must(wasmtime_func_call(context, &item.of.func, NULL, 0, &result, 1, &trap), trap);
    return bench_now_us() - start;
}

double bench_plain_yields_us(bench_plain *plain) { return call_us(plain, "yields", 1); }
double bench_plain_receives_us(bench_plain *plain, unsigned n) { return call_us(plain, "driftwood_receive", n); }

double bench_plain_instances_us(bench_plain *plain, unsigned n) {
    double start = bench_now_us();
    for (unsigned i = 0; i < n; i++) {
        wasmtime_instance_t instance;
        wasm_trap_t *trap = NULL;
        wasmtime_store_t *store = wasmtime_store_new(plain->engine, NULL, NULL);
        must(wasmtime_instance_pre_instantiate(plain->pre, wasmtime_store_context(store), &instance, &trap), trap);
        wasmtime_store_delete(store);
    }
    return bench_now_us() - start;
}

/* host.c: the functions that a program may import, as Wasmtime calls them. Types are checked once, when the program is
 * prepared and linked; the calls themselves are the unchecked kind (about 5 ns instead of 50). */
#include <string.h>

#include "wasm/abort.h"
#include "wasm/engine.h"
#include "wasm/instance.h"
#include "wasm/prepare_imports.h"

static dw_instance *instance_of(wasmtime_caller_t *caller) {
    return wasmtime_context_get_data(wasmtime_caller_context(caller));
}

static uint32_t u32_of(const wasmtime_val_raw_t *value) { return (uint32_t)value->i32; }

static wasm_trap_t *call_wasi(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t n_values) {
    (void)n_values;
    const dw_wasi_function *function = env;
    dw_instance *instance = instance_of(caller);
    uint64_t args[DW_WASI_PARAMS_MAX] = {0};
    for (size_t i = 0; function->params[i]; i++)
        args[i] = function->params[i] == 'i' ? u32_of(&values[i]) : (uint64_t)values[i].i64;
    dw_wasi_errno error = function->handler(&instance->wasi, &instance->memory, args);
    if (instance->wasi.ending != DW_OK) return dw_instance_stop(instance, instance->wasi.ending);
    if (function->results[0]) values[0].i32 = (int32_t)error;
    return NULL;
}

static wasm_trap_t *call_enter(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t n_values) {
    (void)env, (void)n_values;
    dw_instance *instance = instance_of(caller);
    if (!instance->enter) {
        values[0].i32 = DW_E_UNSUPPORTED;
        return NULL;
    }
    dw_status stop = DW_OK;
    int32_t result = instance->enter(instance->enter_context, &instance->memory, u32_of(&values[0]), u32_of(&values[1]),
                                     u32_of(&values[2]), u32_of(&values[3]), u32_of(&values[4]), values[5].i64, &stop);
    /* An interruption that came while the host worked need not wait for the next tick. */
    if (stop == DW_OK && atomic_load(&instance->interrupted)) stop = DW_E_CANCELLED;
    if (stop != DW_OK) return dw_instance_stop(instance, stop);
    values[0].i32 = result;
    return NULL;
}

/* AssemblyScript's: the text is what the trap says. */
static wasm_trap_t *call_abort(void *env, wasmtime_caller_t *caller, wasmtime_val_raw_t *values, size_t n_values) {
    (void)env, (void)n_values;
    dw_instance *instance = instance_of(caller);
    dw_abort_text(&instance->memory, u32_of(&values[0]), u32_of(&values[1]), u32_of(&values[2]), u32_of(&values[3]),
                  instance->abort_text);
    return dw_instance_stop(instance, DW_E_TRAP);
}

static void make_types(const char *letters, wasm_valtype_vec_t *out) {
    wasm_valtype_t *types[DW_WASI_PARAMS_MAX] = {0};
    size_t n = strlen(letters);
    for (size_t i = 0; i < n; i++) types[i] = wasm_valtype_new(letters[i] == 'i' ? WASM_I32 : WASM_I64);
    wasm_valtype_vec_new(out, n, types); /* takes the types over */
}

static dw_status define(wasmtime_linker_t *linker, const char *module, const char *name, const char *params,
                        const char *results, wasmtime_func_unchecked_callback_t callback, const void *env,
                        dw_error *err) {
    wasm_valtype_vec_t param_types, result_types;
    make_types(params, &param_types);
    make_types(results, &result_types);
    wasm_functype_t *type = wasm_functype_new(&param_types, &result_types);
    /* The table of functions is constant; Wasmtime hands its address back as it got it. */
    wasmtime_error_t *error = wasmtime_linker_define_func_unchecked(linker, module, strlen(module), name, strlen(name),
                                                                    type, callback, (void *)(uintptr_t)env, NULL);
    wasm_functype_delete(type);
    return error ? dw_engine_fail(err, DW_E_INTERNAL, name, error) : DW_OK;
}

dw_status dw_host_define(wasmtime_linker_t *linker, dw_error *err) {
    size_t count;
    const dw_wasi_function *functions = dw_wasi_functions(&count);
    dw_status status = define(linker, DW_ENTER_MODULE, DW_ENTER_NAME, DW_ENTER_PARAMS, DW_ENTER_RESULTS, call_enter,
                              NULL, err);
    if (status == DW_OK)
        status = define(linker, DW_ABORT_MODULE, DW_ABORT_NAME, DW_ABORT_PARAMS, DW_ABORT_RESULTS, call_abort, NULL,
                        err);
    for (size_t i = 0; status == DW_OK && i < count; i++)
        status = define(linker, DW_WASI_MODULE, functions[i].name, functions[i].params, functions[i].results, call_wasi,
                        &functions[i], err);
    return status;
}

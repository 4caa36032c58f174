/* segments.c: see segments.h. */
#include "wasm/segments.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/engine.h"
#include "wasm/instance.h"
#include "wasm/program.h"

enum { TRY = 0, DROP = 1 }; /* what a segment's function is called with */

static uint32_t n_mutable_globals(const dw_program *program) { return program->info.n_globals - program->info.n_drops; }

dw_status dw_segments_find(dw_instance *instance, dw_error *err) {
    uint32_t n = instance->program->info.n_drops;
    instance->segments = calloc((size_t)n + 1, sizeof *instance->segments);
    if (!instance->segments) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u segments", (unsigned)n);
    for (uint32_t i = 0; i < n; i++) {
        char name[DW_NAME_NUMBERED_BYTES];
        wasmtime_extern_t item;
        int length = snprintf(name, sizeof name, DW_NAME_SEGMENT "%u", (unsigned)i);
        if (!wasmtime_instance_export_get(instance->context, &instance->wasm, name, (size_t)length, &item))
            return dw_fail(err, DW_E_INTERNAL, "segment %u is not exported", (unsigned)i);
        assert(item.kind == WASMTIME_EXTERN_FUNC);
        instance->segments[i].function = item.of.func;
        wasmtime_extern_delete(&item);
    }
    return DW_OK;
}

dw_status dw_segments_check(const dw_program *program, const dw_image *image, dw_error *err) {
    for (uint32_t i = 0; i < program->info.n_drops; i++) {
        static const uint8_t no_rest[15];
        const uint8_t *bits = image->globals[n_mutable_globals(program) + i].bits;
        if (bits[0] > 1 || memcmp(bits + 1, no_rest, sizeof no_rest) != 0)
            return dw_fail(err, DW_E_CORRUPT, "segment %u of the image is neither dropped nor not", (unsigned)i);
    }
    return DW_OK;
}

/* The function is ours: neither interruption nor deadline of the guest are its business. */
static dw_status call_segment(const dw_instance *instance, uint32_t i, int32_t what, bool *trapped, dw_error *err) {
    wasmtime_val_raw_t value;
    wasmtime_trap_code_t code = 0;
    wasm_trap_t *trap = NULL;
    memset(&value, 0, sizeof value);
    value.i32 = what;
    wasmtime_context_set_epoch_deadline(instance->context, DW_NO_DEADLINE_TICKS);
    const wasmtime_func_t *function = &instance->segments[i].function;
    wasmtime_error_t *error = wasmtime_func_call_unchecked(instance->context, function, &value, 1, &trap);
    if (error) return dw_engine_fail(err, DW_E_INTERNAL, "a segment cannot be accessed", error);
    *trapped = trap != NULL;
    if (!trap) return DW_OK;
    bool outside = wasmtime_trap_code(trap, &code) &&
                   (code == WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS || code == WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS);
    wasm_trap_delete(trap);
    return outside ? DW_OK : dw_fail(err, DW_E_INTERNAL, "a segment cannot be accessed: trap %u", (unsigned)code);
}

dw_status dw_segments_restore(dw_instance *instance, const dw_image *image, dw_error *err) {
    const dw_program *program = instance->program;
    for (uint32_t i = 0; i < program->info.n_drops; i++) {
        bool trapped;
        if (image->globals[n_mutable_globals(program) + i].bits[0] == 0) continue;
        dw_status status = call_segment(instance, i, DROP, &trapped, err);
        if (status != DW_OK) return status;
        instance->segments[i].dropped = true;
    }
    return DW_OK;
}

dw_status dw_segments_read(const dw_instance *instance, dw_value *out, dw_error *err) {
    uint32_t n = instance->program->info.n_drops;
    if (n > 0 && instance->in_call) return dw_fail(err, DW_E_STATE, "the instance is inside a call");
    for (uint32_t i = 0; i < n; i++) {
        bool *dropped = &instance->segments[i].dropped;
        dw_status status = *dropped ? DW_OK : call_segment(instance, i, TRY, dropped, err);
        if (status != DW_OK) return status;
        out[i] = (dw_value){.type = DW_VALUE_I32, .bits = {*dropped}};
    }
    return DW_OK;
}

/* prove_probe.c: a guest of 147 bytes. It is here as bytes so that `prove` needs no compiler for guests:
 *
 *   (module
 *     (memory (export "memory") 1)
 *     (func (export "grow") (result i32)
 *       (memory.grow (i32.load (i32.const 0))))
 *     (func (export "poke")
 *       (i32.store (i32.load (i32.const 0)) (i32.load (i32.const 4))))
 *     (func (export "peek") (result i32)
 *       (i32.load (i32.load (i32.const 0))))
 *     (func (export "touch") (local $at i32)
 *       (loop $next
 *         (i32.store offset=64 (local.get $at) (i32.add (local.get $at) (i32.const 1)))
 *         (local.set $at (i32.add (local.get $at) (i32.const 4096)))
 *         (br_if $next (i32.lt_u (local.get $at) (i32.shl (memory.size) (i32.const 16)))))))
 *
 * Its arguments lie in its memory at 0 and 4.
 */
#include <stdlib.h>

#include "cli/prove.h"

static const uint8_t module[] = {
    0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x02, 0x60, 0x00, 0x01, 0x7f, 0x60, 0x00, 0x00, 0x03,
    0x05, 0x04, 0x00, 0x01, 0x00, 0x01, 0x05, 0x03, 0x01, 0x00, 0x01, 0x07, 0x27, 0x05, 0x06, 0x6d, 0x65, 0x6d, 0x6f,
    0x72, 0x79, 0x02, 0x00, 0x04, 0x67, 0x72, 0x6f, 0x77, 0x00, 0x00, 0x04, 0x70, 0x6f, 0x6b, 0x65, 0x00, 0x01, 0x04,
    0x70, 0x65, 0x65, 0x6b, 0x00, 0x02, 0x05, 0x74, 0x6f, 0x75, 0x63, 0x68, 0x00, 0x03, 0x0a, 0x4a, 0x04, 0x09, 0x00,
    0x41, 0x00, 0x28, 0x02, 0x00, 0x40, 0x00, 0x0b, 0x0f, 0x00, 0x41, 0x00, 0x28, 0x02, 0x00, 0x41, 0x04, 0x28, 0x02,
    0x00, 0x36, 0x02, 0x00, 0x0b, 0x0a, 0x00, 0x41, 0x00, 0x28, 0x02, 0x00, 0x28, 0x02, 0x00, 0x0b, 0x23, 0x01, 0x01,
    0x7f, 0x03, 0x40, 0x20, 0x00, 0x20, 0x00, 0x41, 0x01, 0x6a, 0x36, 0x02, 0x40, 0x20, 0x00, 0x41, 0x80, 0x20, 0x6a,
    0x21, 0x00, 0x20, 0x00, 0x3f, 0x00, 0x41, 0x10, 0x74, 0x49, 0x0d, 0x00, 0x0b, 0x0b,
};

struct dw_probe {
    dw_wasm_engine *engine;
    dw_program *program;
    dw_instance *instance;
};

dw_status dw_probe_create(dw_probe **out, dw_error *err) {
    dw_wasm_engine_options engine_options = {0}; /* no cache: 147 bytes compile in no time */
    dw_instance_options options = {0};
    *out = NULL;
    dw_probe *probe = calloc(1, sizeof *probe);
    if (!probe) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a probe");
    dw_status status = dw_wasm_engine_create(&engine_options, &probe->engine, err);
    if (status == DW_OK) status = dw_program_prepare(probe->engine, module, sizeof module, &probe->program, err);
    if (status == DW_OK) status = dw_instance_create(probe->program, &options, &probe->instance, err);
    if (status != DW_OK) {
        dw_probe_destroy(probe);
        return status;
    }
    *out = probe;
    return DW_OK;
}

void dw_probe_destroy(dw_probe *probe) {
    if (!probe) return;
    dw_instance_destroy(probe->instance);
    dw_program_release(probe->program);
    dw_wasm_engine_destroy(probe->engine);
    free(probe);
}

dw_region *dw_probe_region(const dw_probe *probe) { return dw_instance_region(probe->instance); }

/* Writes the arguments as any host call would, then lets the guest work. */
static dw_status call_probe(dw_probe *probe, const char *name, uint32_t a, uint32_t b, int32_t *value, dw_error *err) {
    const uint32_t arguments[2] = {a, b};
    dw_call_result result = {0};
    dw_status status = dw_guest_write(dw_instance_memory(probe->instance), 0, arguments, sizeof arguments);
    if (status != DW_OK) return dw_fail(err, status, "the probe's arguments do not fit");
    status = dw_instance_call(probe->instance, name, UINT64_MAX, &result, err);
    if (value) *value = result.value;
    return status;
}

dw_status dw_probe_grow(dw_probe *probe, uint64_t size, dw_error *err) {
    uint64_t now = dw_instance_memory_bytes(probe->instance);
    int32_t before = 0;
    if (size <= now) return DW_OK;
    dw_status status = call_probe(probe, "grow", (uint32_t)((size - now) / DW_WASM_PAGE_BYTES), 0, &before, err);
    if (status == DW_OK && before < 0)
        status = dw_fail(err, DW_E_NO_MEMORY, "a guest cannot grow its memory to %llu bytes here",
                         (unsigned long long)size);
    return status;
}

dw_status dw_probe_touch(dw_probe *probe, dw_error *err) { return call_probe(probe, "touch", 0, 0, NULL, err); }

dw_status dw_probe_poke(dw_probe *probe, uint32_t pointer, uint32_t value, dw_error *err) {
    return call_probe(probe, "poke", pointer, value, NULL, err);
}

dw_status dw_probe_peek(dw_probe *probe, uint32_t pointer, uint32_t *out, dw_error *err) {
    int32_t value = 0;
    dw_status status = call_probe(probe, "peek", pointer, 0, &value, err);
    *out = (uint32_t)value;
    return status;
}

/* prepare_fuzz.c: the rewriter on any bytes. What it accepts it must have read right: the rewritten module is read again, has the
 * same code, and no longer has what was to go; and when Wasmtime finds the source valid, so it does the rewritten module. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wasm/engine.h"
#include "wasm/prepare.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing changes in the module's own functions: those that are added stand behind them. */
static void check_code(const dw_module *before, const dw_module *after, uint32_t n_added) {
    const dw_span *x = &before->sections[DW_SECTION_CODE], *y = &after->sections[DW_SECTION_CODE];
    dw_reader from, to;
    assert((x->data == NULL) == (y->data == NULL));
    if (!x->data) return;
    dw_reader_init(&from, x->data, x->size);
    dw_reader_init(&to, y->data, y->size);
    uint32_t n = dw_read_leb_u32(&from), n_after = dw_read_leb_u32(&to);
    assert(n_after == n + n_added && dw_reader_left(&from) <= dw_reader_left(&to));
    assert(n_added > 0 || x->size == y->size);
    assert(memcmp(x->data + from.offset, y->data + to.offset, (size_t)dw_reader_left(&from)) == 0);
    (void)n_after;
}

static void check_rewritten(const uint8_t *data, size_t size, const dw_prepared *prepared) {
    dw_module before, after;
    dw_status status = dw_module_read(data, size, &before, NULL);
    assert(status == DW_OK);
    status = dw_module_read(prepared->wasm, prepared->wasm_size, &after, NULL);
    assert(status == DW_OK);
    (void)status;
    check_code(&before, &after, prepared->n_drops);
    assert(!after.has_start && after.n_data == before.n_data);
    assert(after.n_functions == before.n_functions + prepared->n_drops);
    uint32_t n_added = 1 + prepared->n_globals + prepared->n_tables + prepared->n_functions + prepared->n_drops;
    assert(after.n_exports == before.n_exports + n_added + before.has_start);
    (void)n_added;
    assert((prepared->advice & ~(uint32_t)DW_ADVICE_ALL) == 0);
    for (uint32_t i = 0; i < prepared->n_tables; i++) assert(prepared->tables[i].max <= DW_PROGRAM_TABLE_ELEMENTS_MAX);
    for (uint32_t i = 0; i < prepared->n_functions; i++)
        assert(prepared->functions[i] < before.n_functions && (i == 0 || prepared->functions[i - 1] < prepared->functions[i]));
    for (uint32_t i = 0; i < after.n_data; i++) assert(!after.data[i].active);
    for (uint32_t i = 0; i < prepared->n_segments; i++)
        assert(prepared->segments[i].at + prepared->segments[i].bytes.size <= prepared->memory_bytes);
    dw_module_deinit(&before);
    dw_module_deinit(&after);
}

static bool is_valid(const void *wasm, size_t size) {
    static dw_wasm_engine *engine; /* for the life of the process */
    if (!engine) {
        dw_status status = dw_wasm_engine_create(&(dw_wasm_engine_options){0}, &engine, NULL);
        assert(status == DW_OK);
        (void)status;
    }
    wasmtime_error_t *error = wasmtime_module_validate(engine->engine, wasm, size);
    if (error) wasmtime_error_delete(error);
    return error == NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_prepared prepared;
    if (dw_prepare(data, size, &prepared, NULL) != DW_OK) return 0;
    check_rewritten(data, size, &prepared);
    if (is_valid(data, size)) assert(is_valid(prepared.wasm, prepared.wasm_size));
    dw_prepared_deinit(&prepared);
    return 0;
}

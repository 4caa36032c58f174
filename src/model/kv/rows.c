/* rows.c: the arithmetic of the order of rows (rows.h). */
#include "model/kv/rows.h"

#include "base/limits.h"

static uint64_t rows_common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

dw_status dw_rows_init(dw_rows *rows, const dw_kv_geometry *g, uint64_t granule_bytes, uint32_t areas_per_run,
                       dw_error *err) {
    bool too_many = g->n_layers > DW_LAYERS_MAX || g->n_slots > DW_SESSIONS_PER_MODEL_MAX + DW_MODEL_OWN_SLOTS ||
                    g->context_tokens > DW_CONTEXT_TOKENS_MAX;
    if (g->n_layers == 0 || g->n_slots == 0 || g->context_tokens == 0 || g->row_bytes == 0 || too_many) {
        return dw_fail(err, DW_E_LIMIT, "KV arena of %u slots, %u layers, %u tokens", g->n_slots, g->n_layers,
                       g->context_tokens);
    }
    rows->geometry = *g;
    rows->n_areas = 2 * g->n_layers;
    rows->areas_per_run = areas_per_run < rows->n_areas ? areas_per_run : rows->n_areas;
    rows->n_runs = (rows->n_areas + rows->areas_per_run - 1) / rows->areas_per_run;
    rows->granule_bytes = granule_bytes;
    rows->row_step = (uint64_t)rows->areas_per_run * g->row_bytes;
    /* no overflow: 2^20 tokens, 2^11 areas, rows below 2^32 bytes */
    rows->run_bytes = dw_rows_granule_end_of(rows, g->context_tokens);
    uint64_t unit = granule_bytes / rows_common_divisor(granule_bytes, rows->row_step), total = 0;
    bool fits = dw_mul_u64(unit, rows->row_step, &unit) && dw_mul_u64(rows->n_runs, rows->run_bytes, &rows->stride) &&
                dw_add_u64(rows->stride, unit - 1, &rows->stride);
    if (!fits) return dw_fail(err, DW_E_RANGE, "KV slot too large");
    rows->stride = rows->stride / unit * unit;
    fits = dw_mul_u64(g->n_slots, rows->stride, &total) && total <= SIZE_MAX / 2;
    if (!fits) return dw_fail(err, DW_E_RANGE, "KV arena too large");
    return DW_OK;
}

uint64_t dw_rows_granule_of(const dw_rows *rows, uint32_t row) {
    return dw_round_down_u64((uint64_t)row * rows->row_step, rows->granule_bytes);
}

uint64_t dw_rows_granule_end_of(const dw_rows *rows, uint32_t n_rows) {
    uint64_t bytes = (uint64_t)n_rows * rows->row_step;
    return (bytes + rows->granule_bytes - 1) / rows->granule_bytes * rows->granule_bytes;
}

uint64_t dw_rows_bytes(const dw_rows *rows, uint32_t first, uint32_t end) {
    return end > first ? rows->n_runs * (dw_rows_granule_end_of(rows, end) - dw_rows_granule_of(rows, first)) : 0;
}

uint64_t dw_rows_offset(const dw_rows *rows, uint32_t area, uint32_t row) {
    uint64_t run = area / rows->areas_per_run, in_run = area % rows->areas_per_run;
    return run * rows->run_bytes + row * rows->row_step + in_run * rows->geometry.row_bytes;
}

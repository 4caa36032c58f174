/* fake_rows.c: see fake_rows.h. It holds whoever uses it to the rules of rows.h by assertions. */
#include "fake_rows.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

typedef struct granule { uint32_t references; uint8_t bytes[]; } granule;

struct dw_rows_memory { granule **granules; /* [n_runs * per_run]; NULL: never written, reads as zeros */ };

typedef struct fake_slot {
    granule **granules;
    dw_rows_memory *tail; /* mapped in place */
    bool mapped;
} fake_slot;

typedef struct fake_rows {
    dw_rows base;
    uint64_t per_run;     /* granules of a run */
    fake_slot *slots;
    uint64_t copied, held, steps_left;
    dw_status failure;
    bool failed;
} fake_rows;

static fake_rows *fake_of(const dw_rows *rows) { return (fake_rows *)(uintptr_t)rows; }

static dw_status fake_step(fake_rows *fake, dw_error *err) {
    if (fake->steps_left == 0 || --fake->steps_left > 0) return DW_OK;
    fake->failed = true;
    return dw_fail(err, fake->failure, "made to fail");
}

static void *fake_must(void *memory) {
    assert(memory != NULL);
    return memory;
}

/* --- granules ------------------------------------------------------------------------------------------------ */

static granule *fake_granule_make(fake_rows *fake) {
    granule *made = fake_must(calloc(1, sizeof *made + fake->base.granule_bytes));
    made->references = 1;
    fake->held++;
    return made;
}

static granule *fake_granule_retain(granule *of) {
    if (of != NULL) of->references++;
    return of;
}

static void fake_granule_release(fake_rows *fake, granule **of) {
    if (*of != NULL && --(*of)->references == 0) {
        fake->held--;
        free(*of);
    }
    *of = NULL;
}

static void fake_table_free(fake_rows *fake, granule **table) {
    uint64_t n = table != NULL ? fake->base.n_runs * fake->per_run : 0;
    for (uint64_t i = 0; i < n; i++) fake_granule_release(fake, &table[i]);
    free(table);
}

static granule **fake_table_make(const fake_rows *fake) {
    return fake_must(calloc(fake->base.n_runs * fake->per_run, sizeof(granule *)));
}

/* --- memory -------------------------------------------------------------------------------------------------- */

static dw_status fake_make(dw_rows *rows, dw_rows_memory **out, dw_error *err) {
    dw_status status = fake_step(fake_of(rows), err);
    if (status != DW_OK) return status;
    *out = fake_must(calloc(1, sizeof **out));
    (*out)->granules = fake_table_make(fake_of(rows));
    return DW_OK;
}

static void fake_free(dw_rows *rows, dw_rows_memory *memory) {
    if (memory == NULL) return;
    fake_table_free(fake_of(rows), memory->granules);
    free(memory);
}

/* A row may lie across the end of a granule. */
static void fake_put_row(fake_rows *fake, granule **table, uint32_t area, uint32_t row, const uint8_t *from) {
    uint64_t g = fake->base.granule_bytes, at = dw_rows_offset(&fake->base, area, row);
    for (uint64_t done = 0, n; done < fake->base.geometry.row_bytes; done += n, at += n) {
        if (table[at / g] == NULL) table[at / g] = fake_granule_make(fake);
        n = dw_min_u64(fake->base.geometry.row_bytes - done, g - at % g);
        memcpy(table[at / g]->bytes + at % g, from + done, n);
    }
}

static dw_status fake_open(dw_rows *rows, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                           dw_rows_memory **out, dw_error *err) {
    uint64_t row_bytes = rows->geometry.row_bytes;
    uint8_t *row_of_file = fake_must(malloc(row_bytes));
    dw_status status = fake_make(rows, out, err);
    for (uint32_t area = 0; status == DW_OK && area < rows->n_areas; area++) {
        for (uint32_t row = 0; status == DW_OK && row < n_rows; row++) {
            status = dw_os_read_at(dw_backing_file(backing), offsets[area] + row * row_bytes, row_of_file, row_bytes,
                                   err);
            if (status == DW_OK) fake_put_row(fake_of(rows), (*out)->granules, area, row, row_of_file);
        }
    }
    free(row_of_file);
    if (status == DW_OK) return DW_OK;
    fake_free(rows, *out);
    *out = NULL;
    return status;
}

/* --- maps ---------------------------------------------------------------------------------------------------- */

/* Which granule of each run holds the first byte of a row. */
static uint64_t fake_granule_of(const dw_rows *rows, uint32_t row) {
    return dw_rows_granule_of(rows, row) / rows->granule_bytes;
}

static dw_status fake_map(dw_rows *rows, dw_kv_slot slot, const dw_rows_span *spans, uint32_t n_spans, bool in_place,
                          dw_error *err) {
    fake_rows *fake = fake_of(rows);
    fake_slot *s = &fake->slots[slot];
    assert(n_spans > 0 && (s->mapped || spans[0].first_row == 0));
    s->mapped = true;
    s->tail = NULL;
    for (uint32_t run = 0; run < rows->n_runs; run++) {
        dw_status status = fake_step(fake, err);
        if (status != DW_OK) return status;
        for (uint32_t i = 0; i < n_spans; i++) {
            uint64_t end = i + 1 < n_spans ? fake_granule_of(rows, spans[i + 1].first_row) : fake->per_run;
            assert(i == 0 || spans[i - 1].first_row < spans[i].first_row);
            for (uint64_t g = fake_granule_of(rows, spans[i].first_row); g < end; g++) {
                uint64_t at = run * fake->per_run + g;
                granule *mapped = fake_granule_retain(spans[i].memory->granules[at]);
                fake_granule_release(fake, &s->granules[at]);
                s->granules[at] = mapped;
            }
        }
    }
    if (in_place) s->tail = spans[n_spans - 1].memory;
    return DW_OK;
}

static void fake_unmap(dw_rows *rows, dw_kv_slot slot) {
    fake_rows *fake = fake_of(rows);
    uint64_t n = rows->n_runs * fake->per_run;
    for (uint64_t i = 0; i < n; i++) fake_granule_release(fake, &fake->slots[slot].granules[i]);
    fake->slots[slot].tail = NULL;
    fake->slots[slot].mapped = false;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

static dw_status fake_copy(dw_rows *rows, dw_kv_slot slot, uint32_t first, uint32_t end, dw_rows_memory *to,
                           dw_error *err) {
    fake_rows *fake = fake_of(rows);
    uint64_t begin_g = fake_granule_of(rows, first), end_g = dw_rows_granule_end_of(rows, end) / rows->granule_bytes;
    for (uint32_t run = 0; run < rows->n_runs && begin_g < end_g; run++) {
        dw_status status = fake_step(fake, err);
        if (status != DW_OK) return status;
        for (uint64_t at = run * fake->per_run + begin_g; at < run * fake->per_run + end_g; at++) {
            assert(to->granules[at] == NULL);
            to->granules[at] = fake_granule_make(fake);
            if (fake->slots[slot].granules[at] != NULL) {
                memcpy(to->granules[at]->bytes, fake->slots[slot].granules[at]->bytes, rows->granule_bytes);
            }
            fake->copied++;
        }
    }
    return DW_OK;
}

static dw_status fake_reserve(dw_rows *rows, dw_kv_slot slot, uint32_t n_rows, dw_error *err) {
    fake_rows *fake = fake_of(rows);
    fake_slot *s = &fake->slots[slot];
    assert(s->tail != NULL);
    for (uint32_t run = 0; run < rows->n_runs; run++) {
        dw_status status = fake_step(fake, err);
        if (status != DW_OK) return status;
        for (uint64_t g = 0; g < dw_rows_granule_end_of(rows, n_rows) / rows->granule_bytes; g++) {
            uint64_t at = run * fake->per_run + g;
            if (s->granules[at] != NULL) continue;
            assert(s->tail->granules[at] == NULL);
            s->tail->granules[at] = fake_granule_make(fake);
            s->granules[at] = fake_granule_retain(s->tail->granules[at]);
        }
    }
    return DW_OK;
}

static dw_status fake_bind(dw_rows *rows, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err) {
    (void)err;
    assert(fake_of(rows)->slots[slot].tail != NULL);
    *out = NULL; /* no device */
    *offset = slot * rows->stride;
    return DW_OK;
}

static dw_status fake_read(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                           dw_error *err) {
    (void)err;
    const fake_slot *s = &fake_of(rows)->slots[slot];
    uint64_t g = rows->granule_bytes, row_bytes = rows->geometry.row_bytes, part;
    for (uint32_t row = first; row < first + n; row++) {
        uint8_t *row_to = (uint8_t *)to + (row - first) * row_bytes;
        for (uint64_t done = 0, at = dw_rows_offset(rows, area, row); done < row_bytes; done += part, at += part) {
            part = dw_min_u64(row_bytes - done, g - at % g);
            if (s->granules[at / g] != NULL) memcpy(row_to + done, s->granules[at / g]->bytes + at % g, part);
            else memset(row_to + done, 0, part);
        }
    }
    return DW_OK;
}

static dw_status fake_write(dw_rows *rows, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, const void *from,
                            dw_error *err) {
    (void)err;
    fake_slot *s = &fake_of(rows)->slots[slot];
    uint64_t row_bytes = rows->geometry.row_bytes, g = rows->granule_bytes;
    assert(s->tail != NULL);
    for (uint32_t row = first; row < first + n; row++) {
        uint64_t at = dw_rows_offset(rows, area, row), last = at + row_bytes - 1;
        /* reserved, and the slot's own */
        assert(s->granules[at / g] != NULL && s->granules[at / g] == s->tail->granules[at / g]);
        assert(s->granules[last / g] != NULL && s->granules[last / g] == s->tail->granules[last / g]);
        fake_put_row(fake_of(rows), s->granules, area, row, (const uint8_t *)from + (row - first) * row_bytes);
    }
    return DW_OK;
}

static void *fake_address(const dw_rows *rows, dw_kv_slot slot, uint32_t area) {
    (void)rows, (void)slot, (void)area;
    return NULL;
}

/* --- making and ending --------------------------------------------------------------------------------------- */

static void fake_destroy(dw_rows *rows) {
    fake_rows *fake = fake_of(rows);
    for (uint32_t i = 0; i < rows->geometry.n_slots; i++) fake_table_free(fake, fake->slots[i].granules);
    assert(fake->held == 0); /* all memory was freed, too */
    free(fake->slots);
    free(fake);
}

static const dw_rows_ops fake_ops = {
    .destroy = fake_destroy, .make = fake_make, .open = fake_open, .free = fake_free, .map = fake_map,
    .unmap = fake_unmap, .copy = fake_copy, .reserve = fake_reserve, .bind = fake_bind, .read = fake_read,
    .write = fake_write, .address = fake_address,
};

dw_status fake_rows_create(const dw_kv_geometry *geometry, uint64_t granule_bytes, uint32_t areas_per_run,
                           dw_rows **out) {
    fake_rows *fake = fake_must(calloc(1, sizeof *fake));
    fake->base.ops = &fake_ops;
    dw_status status = dw_rows_init(&fake->base, geometry, granule_bytes, areas_per_run, NULL);
    if (status != DW_OK) {
        free(fake);
        return status;
    }
    fake->per_run = fake->base.run_bytes / granule_bytes;
    fake->slots = fake_must(calloc(geometry->n_slots, sizeof fake->slots[0]));
    for (uint32_t i = 0; i < geometry->n_slots; i++) fake->slots[i].granules = fake_table_make(fake);
    *out = &fake->base;
    return DW_OK;
}

uint64_t fake_rows_copied(const dw_rows *rows) { return fake_of(rows)->copied; }
uint64_t fake_rows_held(const dw_rows *rows) { return fake_of(rows)->held; }

void fake_rows_fail(dw_rows *rows, uint64_t k, dw_status status) {
    fake_rows *fake = fake_of(rows);
    fake->steps_left = k;
    fake->failure = status;
    fake->failed = false;
}

bool fake_rows_failed(const dw_rows *rows) { return fake_of(rows)->failed; }

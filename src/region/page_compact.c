/* page_compact.c: see page_compact.h. */
#include "region/page_compact.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { COPY_PAGES = 64, UNIT_PAGES = DW_PAGE_SEGMENT_PAGES };

typedef struct unit_count { uint32_t pieces, stored, file; } unit_count; /* pieces, pages, pages */

typedef struct compaction {
    unit_count *units;       /* [n_units] */
    dw_page_run *runs;       /* [n_units] where a unit goes; no segment: it stays */
    size_t n_units, pieces;
    bool at_any_price;
    uint64_t page;
    uint8_t *buffer;
    dw_status status;
    dw_error *err;
} compaction;

/* The part of a piece that lies in a unit, in pages of the map. */
typedef struct page_span { uint64_t first, end; } page_span;

static page_span span_in(const compaction *c, const dw_page_piece *piece, uint64_t unit) {
    return (page_span){dw_max_u64(piece->offset / c->page, unit * UNIT_PAGES),
                       dw_min_u64((piece->offset + piece->size) / c->page, (unit + 1) * UNIT_PAGES)};
}

static uint64_t last_unit(const compaction *c, const dw_page_piece *piece) {
    return ((piece->offset + piece->size) / c->page - 1) / UNIT_PAGES;
}

static void count_units(void *context, const dw_page_piece *piece) {
    compaction *c = context;
    c->pieces++;
    for (uint64_t unit = piece->offset / c->page / UNIT_PAGES; unit <= last_unit(c, piece); unit++) {
        page_span span = span_in(c, piece, unit);
        uint32_t n = (uint32_t)(span.end - span.first);
        c->units[unit].pieces++;
        if (piece->stored) c->units[unit].stored += n;
        else if (piece->backing) c->units[unit].file += n;
    }
}

/* At any price: the map has more pieces than can be mapped. */
static bool is_joined(const unit_count *unit, bool at_any_price) {
    if (unit->pieces < 2 || unit->stored == 0 || unit->file > 0) return false;
    return at_any_price || unit->stored <= DW_COMPACT_PAGES_PER_PIECE * unit->pieces;
}

/* Takes a segment for each unit that is joined, those of neighbours side by side. */
static dw_status take_segments(compaction *c, dw_page_store *store) {
    dw_status status = DW_OK;
    for (size_t first = 0; first < c->n_units && status == DW_OK;) {
        size_t end = first;
        while (end < c->n_units && is_joined(&c->units[end], c->at_any_price)) end++;
        if (end > first) status = dw_page_store_take_segments(store, (uint32_t)(end - first), &c->runs[first], c->err);
        if (status != DW_OK) memset(&c->runs[first], 0, (end - first) * sizeof c->runs[0]);
        first = end + 1;
    }
    return status;
}

/* Pages of a stored piece to their places in a unit's run. */
static void copy_span(compaction *c, const dw_page_piece *piece, uint64_t unit) {
    page_span span = span_in(c, piece, unit);
    for (uint64_t at = span.first; at < span.end && c->status == DW_OK; at += COPY_PAGES) {
        uint32_t n = (uint32_t)dw_min_u64(COPY_PAGES, span.end - at);
        dw_page_run to = c->runs[unit];
        to.index += (uint32_t)(at % UNIT_PAGES);
        to.n = n;
        c->status = dw_os_read_at(dw_backing_file(piece->backing), piece->backing_offset + at * c->page - piece->offset,
                                  c->buffer, n * c->page, c->err);
        if (c->status == DW_OK) c->status = dw_page_run_write(to, c->buffer, c->err);
    }
}

static void copy_piece(void *context, const dw_page_piece *piece) {
    compaction *c = context;
    if (!piece->stored) return;
    for (uint64_t unit = piece->offset / c->page / UNIT_PAGES; unit <= last_unit(c, piece); unit++)
        if (c->runs[unit].segment) copy_span(c, piece, unit);
}

/* The runs become the units' pages; what lies behind the map's end is given back. Runs that are set are the map's. */
static dw_status place_units(compaction *c, dw_page_map *map) {
    dw_status status = DW_OK;
    for (size_t unit = 0; unit < c->n_units && status == DW_OK; unit++) {
        dw_page_run run = c->runs[unit];
        if (!run.segment) continue;
        uint32_t n = (uint32_t)dw_min_u64(UNIT_PAGES, map->n_pages - unit * UNIT_PAGES);
        c->runs[unit] = (dw_page_run){0};
        if (n < UNIT_PAGES) dw_page_run_release((dw_page_run){run.segment, n, UNIT_PAGES - n});
        run.n = n;
        status = dw_page_map_set_stored(map, unit * UNIT_PAGES, run, c->err);
    }
    return status;
}

static dw_status compact_units(compaction *c, dw_page_map *map, dw_page_store *store) {
    dw_page_map next = dw_page_map_share(map);
    dw_status status = take_segments(c, store);
    if (status == DW_OK) dw_page_map_walk(map, copy_piece, c);
    if (status == DW_OK) status = c->status;
    if (status == DW_OK) status = place_units(c, &next);
    for (size_t unit = 0; unit < c->n_units; unit++)
        if (c->runs[unit].segment) dw_page_run_release(c->runs[unit]);
    if (status != DW_OK) {
        dw_page_map_deinit(&next);
        return status;
    }
    dw_page_map_deinit(map);
    *map = next;
    return DW_OK;
}

dw_status dw_page_map_compact(dw_page_map *map, dw_page_store *store, size_t pieces_max, dw_error *err) {
    compaction c = {.n_units = (size_t)((map->n_pages + UNIT_PAGES - 1) / UNIT_PAGES), .page = dw_os_page_bytes(),
                    .err = err};
    dw_status status = DW_OK;
    if (c.n_units == 0) return DW_OK;
    c.units = calloc(c.n_units, sizeof *c.units);
    c.runs = calloc(c.n_units, sizeof *c.runs);
    if (!c.units || !c.runs) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to compact %zu units", c.n_units);
        goto out;
    }
    dw_page_map_walk(map, count_units, &c);
    c.at_any_price = c.pieces > pieces_max;
    size_t joined = 0, bound = c.at_any_price ? pieces_max : DW_COMPACT_PIECES_MIN;
    for (size_t unit = 0; unit < c.n_units; unit++)
        if (is_joined(&c.units[unit], c.at_any_price)) joined += c.units[unit].pieces;
    if (c.pieces <= bound || joined <= bound / 2) goto out;
    c.buffer = malloc(COPY_PAGES * c.page);
    status = c.buffer ? compact_units(&c, map, store)
                      : dw_fail(err, DW_E_NO_MEMORY, "no memory to compact %zu units", c.n_units);
out:
    free(c.units);
    free(c.runs);
    free(c.buffer);
    return status;
}

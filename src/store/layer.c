/* layer.c: layers as bytes, and merging them. */
#include "store/layer.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE_ENTRY_BYTES = 20,
    CUT_ENTRY_BYTES = 16,
    EXTENT_ENTRY_BYTES = 44,
    SESSION_ENTRY_BYTES = 20,
    SUM_BYTES = 8
};

dw_status dw_store_sum(const void *data, size_t size, uint64_t *out) {
    dw_hash hash;
    *out = 0;
    dw_status status = dw_hash_of(data, size, &hash);
    for (unsigned i = 0; status == DW_OK && i < 8; i++) *out |= (uint64_t)hash.bytes[i] << (8 * i);
    return status;
}

void dw_layer_deinit(dw_layer *layer) {
    free(layer->pages);
    free(layer->cuts);
    free(layer->extents);
    *layer = (dw_layer){0};
}

uint32_t dw_extent_pages(const dw_layer_extent *extent) {
    uint64_t bytes = (uint64_t)extent->stored_rows * extent->row_bytes;
    return (uint32_t)((bytes + DW_STORE_PAGE_BYTES - 1) / DW_STORE_PAGE_BYTES);
}

size_t dw_layer_weight(const dw_layer *layer) { return layer->n_pages + layer->n_cuts + layer->n_extents; }

/* calloc that gives memory for nothing too. */
static void *room_in_layer(size_t n, size_t size) { return calloc(n ? n : 1, size); }

static dw_status layer_allocate(dw_layer *layer, size_t n_pages, size_t n_cuts, size_t n_extents, dw_error *err) {
    *layer = (dw_layer){.pages = room_in_layer(n_pages, sizeof *layer->pages),
                        .cuts = room_in_layer(n_cuts, sizeof *layer->cuts),
                        .extents = room_in_layer(n_extents, sizeof *layer->extents)};
    if (layer->pages && layer->cuts && layer->extents) return DW_OK;
    dw_layer_deinit(layer);
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for a layer of %zu pages and %zu extents", n_pages, n_extents);
}

/* --- bytes ---------------------------------------------------------------------------------------------------- */

/* Ends what was written with its sum. */
static dw_status seal_bytes(dw_writer *writer, uint8_t **out, size_t *out_size, dw_error *err) {
    uint64_t sum = 0;
    dw_status status = writer->status;
    if (status == DW_OK) status = dw_store_sum(writer->data, writer->size, &sum);
    dw_write_u64(writer, sum);
    if (status == DW_OK) status = dw_writer_finish(writer, out, out_size);
    dw_writer_deinit(writer);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory to write a layer");
}

/* Verifies the sum at the end, and gives a reader over the rest. */
static dw_status open_sealed(const void *data, size_t size, const char *what, dw_reader *out, dw_error *err) {
    dw_reader tail;
    uint64_t sum;
    if (size < SUM_BYTES) return dw_fail_at(err, DW_E_TRUNCATED, size, "%s of %zu bytes has no checksum", what, size);
    dw_reader_init(&tail, (const uint8_t *)data + size - SUM_BYTES, SUM_BYTES);
    dw_status status = dw_store_sum(data, size - SUM_BYTES, &sum);
    if (status != DW_OK) return dw_fail(err, status, "cannot hash %s", what);
    if (sum != dw_read_u64(&tail)) return dw_fail(err, DW_E_HASH, "the checksum of %s does not match", what);
    dw_reader_init(out, data, size - SUM_BYTES);
    return DW_OK;
}

dw_status dw_layer_encode(const dw_layer *layer, uint8_t **out, size_t *out_size, dw_error *err) {
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_u64(&writer, layer->id);
    dw_write_u64(&writer, layer->parent);
    dw_write_u64(&writer, layer->turn);
    dw_write_u32(&writer, (uint32_t)layer->n_pages);
    dw_write_u32(&writer, (uint32_t)layer->n_cuts);
    dw_write_u32(&writer, (uint32_t)layer->n_extents);
    for (size_t i = 0; i < layer->n_pages; i++) {
        const dw_store_place *page = &layer->pages[i];
        dw_write_u32(&writer, page->index);
        dw_write_u32(&writer, page->file);
        dw_write_u32(&writer, page->page);
        dw_write_u64(&writer, page->sum);
    }
    for (size_t i = 0; i < layer->n_cuts; i++) {
        dw_write_u64(&writer, layer->cuts[i].session);
        dw_write_u64(&writer, layer->cuts[i].kept);
    }
    for (size_t i = 0; i < layer->n_extents; i++) {
        const dw_layer_extent *extent = &layer->extents[i];
        dw_write_u64(&writer, extent->session);
        dw_write_u64(&writer, extent->first_row);
        dw_write_u32(&writer, extent->n_rows);
        dw_write_u32(&writer, extent->stored_rows);
        dw_write_u32(&writer, extent->row_bytes);
        dw_write_u32(&writer, extent->file);
        dw_write_u32(&writer, extent->page);
        dw_write_u64(&writer, extent->sum);
    }
    return seal_bytes(&writer, out, out_size, err);
}

static dw_status read_pages(dw_reader *reader, dw_layer *layer, dw_error *err) {
    for (size_t i = 0; i < layer->n_pages; i++) {
        uint64_t at = reader->offset;
        dw_store_place *page = &layer->pages[i];
        page->index = dw_read_u32(reader);
        page->file = dw_read_u32(reader);
        page->page = dw_read_u32(reader);
        page->sum = dw_read_u64(reader);
        if (page->index >= DW_STORE_PAGES_MAX || (i > 0 && page->index <= page[-1].index))
            return dw_fail_at(err, DW_E_CORRUPT, at, "a layer's page %u is out of order", page->index);
        /* Page 0 of a file is its head. Zeros have no place. */
        if ((page->file == 0) != (page->page == 0) || (page->file == 0 && page->sum != 0))
            return dw_fail_at(err, DW_E_CORRUPT, at, "a layer's page %u lies nowhere", page->index);
    }
    return DW_OK;
}

static dw_status read_cuts(dw_reader *reader, dw_layer *layer, dw_error *err) {
    for (size_t i = 0; i < layer->n_cuts; i++) {
        uint64_t at = reader->offset;
        dw_layer_cut *cut = &layer->cuts[i];
        cut->session = dw_read_u64(reader);
        cut->kept = dw_read_u64(reader);
        if (cut->kept > DW_STORE_ROWS_MAX || (i > 0 && cut->session <= cut[-1].session))
            return dw_fail_at(err, DW_E_CORRUPT, at, "a layer's cut of session %" PRIu64 " is out of order",
                              cut->session);
    }
    return DW_OK;
}

/* Extents go on from their session's cut without gaps. */
static dw_status read_extents(dw_reader *reader, dw_layer *layer, dw_error *err) {
    size_t cut = 0;
    uint64_t end = layer->n_cuts ? layer->cuts[0].kept : 0;
    for (size_t i = 0; i < layer->n_extents; i++) {
        uint64_t at = reader->offset;
        dw_layer_extent *extent = &layer->extents[i];
        extent->session = dw_read_u64(reader);
        extent->first_row = dw_read_u64(reader);
        extent->n_rows = dw_read_u32(reader);
        extent->stored_rows = dw_read_u32(reader);
        extent->row_bytes = dw_read_u32(reader);
        extent->file = dw_read_u32(reader);
        extent->page = dw_read_u32(reader);
        extent->sum = dw_read_u64(reader);
        while (cut < layer->n_cuts && layer->cuts[cut].session < extent->session)
            if (++cut < layer->n_cuts) end = layer->cuts[cut].kept;
        bool sized = extent->n_rows > 0 && extent->n_rows <= extent->stored_rows && extent->row_bytes > 0 &&
                     (uint64_t)extent->stored_rows * extent->row_bytes <= DW_STORE_EXTENT_BYTES_MAX;
        if (cut == layer->n_cuts || layer->cuts[cut].session != extent->session || extent->first_row != end || !sized ||
            end + extent->n_rows > DW_STORE_ROWS_MAX)
            return dw_fail_at(err, DW_E_CORRUPT, at,
                              "rows %" PRIu64 " of session %" PRIu64 " do not go on from those before",
                              extent->first_row, extent->session);
        if (extent->file == 0 || extent->page == 0)
            return dw_fail_at(err, DW_E_CORRUPT, at, "rows %" PRIu64 " of session %" PRIu64 " lie nowhere",
                              extent->first_row, extent->session);
        end += extent->n_rows;
    }
    return DW_OK;
}

dw_status dw_layer_decode(const void *data, size_t size, dw_layer *out, dw_error *err) {
    dw_reader reader;
    *out = (dw_layer){0};
    dw_status status = open_sealed(data, size, "a layer", &reader, err);
    if (status != DW_OK) return status;
    const uint64_t id = dw_read_u64(&reader), parent = dw_read_u64(&reader), turn = dw_read_u64(&reader);
    uint64_t n_pages = dw_read_u32(&reader), n_cuts = dw_read_u32(&reader), n_extents = dw_read_u32(&reader);
    /* 32-bit counts of small entries: no overflow. */
    if (reader.status != DW_OK || dw_reader_left(&reader) != n_pages * PAGE_ENTRY_BYTES + n_cuts * CUT_ENTRY_BYTES +
                                                                 n_extents * EXTENT_ENTRY_BYTES)
        return dw_fail(err, DW_E_TRUNCATED, "a layer of %zu bytes does not hold what it says", size);
    status = layer_allocate(out, (size_t)n_pages, (size_t)n_cuts, (size_t)n_extents, err);
    if (status != DW_OK) return status;
    out->id = id;
    out->parent = parent;
    out->turn = turn;
    out->n_pages = (size_t)n_pages;
    out->n_cuts = (size_t)n_cuts;
    out->n_extents = (size_t)n_extents;
    status = read_pages(&reader, out, err);
    if (status == DW_OK) status = read_cuts(&reader, out, err);
    if (status == DW_OK) status = read_extents(&reader, out, err);
    assert(status != DW_OK || reader.status == DW_OK);
    if (status != DW_OK) dw_layer_deinit(out);
    return status;
}

dw_status dw_sessions_encode(const dw_store_session *sessions, size_t n, uint8_t **out, size_t *out_size,
                             dw_error *err) {
    dw_writer writer;
    *out = NULL;
    *out_size = 0;
    if (n == 0) return DW_OK;
    dw_writer_init(&writer);
    for (size_t i = 0; i < n; i++) {
        dw_write_u64(&writer, sessions[i].session);
        dw_write_u64(&writer, sessions[i].n_rows);
        dw_write_u32(&writer, sessions[i].row_bytes);
    }
    return seal_bytes(&writer, out, out_size, err);
}

dw_status dw_sessions_decode(const void *data, size_t size, dw_store_session **out, size_t *n, dw_error *err) {
    dw_reader reader;
    *out = NULL;
    *n = 0;
    if (size == 0) return DW_OK;
    dw_status status = open_sealed(data, size, "a table of sessions", &reader, err);
    if (status != DW_OK) return status;
    size_t count = (size_t)dw_reader_left(&reader) / SESSION_ENTRY_BYTES;
    if (count == 0 || count > DW_STORE_SESSIONS_MAX || count * SESSION_ENTRY_BYTES != dw_reader_left(&reader))
        return dw_fail(err, DW_E_TRUNCATED, "a table of sessions has %zu bytes", size);
    dw_store_session *sessions = room_in_layer(count, sizeof *sessions);
    if (!sessions) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu sessions", count);
    for (size_t i = 0; i < count; i++) {
        sessions[i].session = dw_read_u64(&reader);
        sessions[i].n_rows = dw_read_u64(&reader);
        sessions[i].row_bytes = dw_read_u32(&reader);
        if (sessions[i].n_rows == 0 || sessions[i].n_rows > DW_STORE_ROWS_MAX || sessions[i].row_bytes == 0 ||
            sessions[i].row_bytes > DW_STORE_ROW_BYTES_MAX ||
            (i > 0 && sessions[i].session <= sessions[i - 1].session)) {
            uint64_t session = sessions[i].session;
            free(sessions);
            return dw_fail(err, DW_E_CORRUPT, "the table of sessions says nonsense of session %" PRIu64, session);
        }
    }
    *out = sessions;
    *n = count;
    return DW_OK;
}

/* --- what is free ---------------------------------------------------------------------------------------------- */

bool dw_freed_reserve(dw_freed *freed, size_t extra) {
    return DW_VEC_RESERVE(&freed->runs, extra, DW_VEC_ITEMS_MAX) == DW_OK;
}

void dw_freed_add(dw_freed *freed, uint32_t file, uint32_t page, uint32_t n) {
    if (n == 0 || freed->failed) return;
    if (dw_freed_reserve(freed, 1)) freed->runs.items[freed->runs.count++] = (dw_freed_run){file, page, n};
    else freed->failed = true;
}

static int freed_order(const void *a, const void *b) {
    const dw_freed_run *x = a, *y = b;
    if (x->file != y->file) return x->file < y->file ? -1 : 1;
    return (x->page > y->page) - (x->page < y->page);
}

void dw_freed_join(dw_freed *freed) {
    dw_freed_run *runs = freed->runs.items;
    size_t n = 1;
    if (freed->runs.count < 2) return;
    qsort(runs, freed->runs.count, sizeof *runs, freed_order);
    for (size_t i = 1; i < freed->runs.count; i++) {
        dw_freed_run *last = &runs[n - 1];
        if (runs[i].file == last->file && runs[i].page == last->page + last->n) last->n += runs[i].n;
        else runs[n++] = runs[i];
    }
    freed->runs.count = n;
}

void dw_freed_deinit(dw_freed *freed) {
    DW_VEC_DEINIT(&freed->runs);
    freed->failed = false;
}

static void free_extent(const dw_layer_extent *extent, dw_freed *freed) {
    if (freed) dw_freed_add(freed, extent->file, extent->page, dw_extent_pages(extent));
}

void dw_layer_free_all(const dw_layer *layer, dw_freed *freed) {
    for (size_t i = 0; i < layer->n_pages; i++)
        if (layer->pages[i].file) dw_freed_add(freed, layer->pages[i].file, layer->pages[i].page, 1);
    for (size_t i = 0; i < layer->n_extents; i++) free_extent(&layer->extents[i], freed);
}

/* --- merging --------------------------------------------------------------------------------------------------- */

static void merge_pages(const dw_layer *older, const dw_layer *newer, bool root, dw_layer *out, dw_freed *freed) {
    size_t i = 0, k = 0;
    while (i < older->n_pages || k < newer->n_pages) {
        const dw_store_place *a = i < older->n_pages ? &older->pages[i] : NULL;
        const dw_store_place *b = k < newer->n_pages ? &newer->pages[k] : NULL;
        const dw_store_place *taken = a;
        if (b && (!a || b->index <= a->index)) {
            if (a && a->index == b->index) {
                if (freed && a->file) dw_freed_add(freed, a->file, a->page, 1);
                i++;
            }
            taken = b;
            k++;
        } else {
            i++;
        }
        if (taken->file || !root) out->pages[out->n_pages++] = *taken;
    }
}

/* The older layer's extents of one session, [*i, ...), up to row `kept`. *end: where they end. */
static void keep_older_rows(const dw_layer *older, size_t *i, uint64_t session, uint64_t kept, dw_layer *out,
                            dw_freed *freed, uint64_t *end) {
    for (; *i < older->n_extents && older->extents[*i].session == session; ++*i) {
        dw_layer_extent extent = older->extents[*i];
        *end = extent.first_row + extent.n_rows;
        if (extent.first_row >= kept) {
            free_extent(&extent, freed);
            continue;
        }
        if (*end > kept) extent.n_rows = (uint32_t)(kept - extent.first_row);
        out->extents[out->n_extents++] = extent;
    }
}

dw_status dw_layer_merge(const dw_layer *older, const dw_layer *newer, bool root, dw_layer *out, dw_freed *freed,
                         dw_error *err) {
    dw_status status = layer_allocate(out, older->n_pages + newer->n_pages, older->n_cuts + newer->n_cuts,
                                      older->n_extents + newer->n_extents, err);
    if (status != DW_OK) return status;
    out->id = newer->id;
    out->turn = newer->turn;
    out->parent = older->parent;
    merge_pages(older, newer, root, out, freed);
    size_t a = 0, b = 0, older_at = 0, newer_at = 0;
    while (a < older->n_cuts || b < newer->n_cuts) {
        const dw_layer_cut *x = a < older->n_cuts ? &older->cuts[a] : NULL,
                           *y = b < newer->n_cuts ? &newer->cuts[b] : NULL;
        if (x && y && x->session != y->session) *(x->session < y->session ? &y : &x) = NULL;
        uint64_t session = x ? x->session : y->session, end = x ? x->kept : 0;
        keep_older_rows(older, &older_at, session, y ? y->kept : UINT64_MAX, out, freed, &end);
        if (x && y && y->kept > end) {
            status = dw_fail(err, DW_E_CORRUPT, "session %" PRIu64 " keeps %" PRIu64 " rows of %" PRIu64, session,
                             y->kept, end);
            break;
        }
        for (; newer_at < newer->n_extents && newer->extents[newer_at].session == session; newer_at++)
            out->extents[out->n_extents++] = newer->extents[newer_at];
        uint64_t kept = x && y ? dw_min_u64(x->kept, y->kept) : x ? x->kept : y->kept;
        if (root && kept != 0) {
            status = dw_fail(err, DW_E_CORRUPT, "session %" PRIu64 " begins at row %" PRIu64, session, kept);
            break;
        }
        out->cuts[out->n_cuts++] = (dw_layer_cut){session, kept};
        a += x != NULL;
        b += y != NULL;
    }
    if (status == DW_OK && freed && freed->failed) status = dw_fail(err, DW_E_NO_MEMORY, "no memory to fold a layer");
    if (status != DW_OK) dw_layer_deinit(out);
    return status;
}

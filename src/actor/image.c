/* image.c: committed memory as a map of pages, and what an instance changed (image.h). */
#include "actor/image.h"

#include <stdlib.h>
#include <string.h>

/* --- values -------------------------------------------------------------------------------------------------- */

static void deinit_values(dw_image_values *values) {
    free(values->globals);
    free(values->tables);
    *values = (dw_image_values){0};
}

static dw_status read_image_globals(dw_instance *instance, dw_image_values *out, dw_error *err) {
    size_t n = dw_program_info_view(dw_instance_program(instance))->n_globals;
    if (n == 0) return DW_OK;
    out->globals = calloc(n, sizeof *out->globals);
    if (!out->globals) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu globals", n);
    out->n_globals = n;
    return dw_instance_globals(instance, out->globals, n, err);
}

static dw_status read_values(dw_instance *instance, dw_image_values *out, dw_error *err) {
    *out = (dw_image_values){.wasi = *dw_instance_wasi(instance)};
    dw_status status = read_image_globals(instance, out, err);
    if (status == DW_OK) status = dw_instance_tables(instance, &out->tables, &out->n_tables, err);
    if (status != DW_OK) deinit_values(out);
    return status;
}

static dw_status copy_values(const dw_image_values *from, dw_image_values *out) {
    *out = (dw_image_values){.n_globals = from->n_globals, .n_tables = from->n_tables, .wasi = from->wasi};
    if (from->n_globals > 0) {
        out->globals = calloc(from->n_globals, sizeof *out->globals);
        if (!out->globals) return DW_E_NO_MEMORY;
        memcpy(out->globals, from->globals, from->n_globals * sizeof *out->globals);
    }
    return dw_tables_copy(from->tables, from->n_tables, &out->tables);
}

/* --- construction -------------------------------------------------------------------------------------------- */

void dw_actor_image_deinit(dw_actor_image *image) {
    dw_page_map_deinit(&image->pages);
    dw_page_map_deinit(&image->held);
    deinit_values(&image->values);
    image->memory_bytes = image->pieces_max = image->pieces_seen = 0;
}

static dw_status size_map(dw_actor_image *image, uint64_t memory_bytes, dw_error *err) {
    image->memory_bytes = memory_bytes;
    image->pieces_max = 1;
    return dw_page_map_resize(&image->pages, memory_bytes / dw_os_page_bytes(), err);
}

dw_status dw_actor_image_of(dw_actor_image *image, dw_instance *instance, dw_error *err) {
    uint64_t page = dw_os_page_bytes();
    *image = (dw_actor_image){0};
    size_t n = 0;
    const dw_extent *extents = dw_region_extents(dw_instance_region(instance), &n);
    dw_status status = size_map(image, dw_instance_memory_bytes(instance), err);
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        const dw_extent *extent = &extents[i];
        if (extent->offset >= image->memory_bytes || !extent->backing) continue;
        uint64_t end = dw_min_u64(extent->offset + extent->size, image->memory_bytes);
        image->pieces_max += 2;
        status = dw_page_map_set_file(&image->pages, extent->offset / page, (end - extent->offset) / page,
                                      extent->backing, extent->backing_offset / page, err);
    }
    if (status == DW_OK) status = read_values(instance, &image->values, err);
    if (status != DW_OK) dw_actor_image_deinit(image);
    return status;
}

dw_status dw_actor_image_blank(dw_actor_image *image, const dw_image *state, dw_error *err) {
    /* copied, not written */
    const dw_image_values values = {.globals = (dw_value *)(uintptr_t)state->globals, .n_globals = state->n_globals,
                                    .tables = (dw_table_view *)(uintptr_t)state->tables, .n_tables = state->n_tables,
                                    .wasi = state->wasi};
    *image = (dw_actor_image){0};
    dw_status status = size_map(image, state->memory_bytes, err);
    if (status == DW_OK && copy_values(&values, &image->values) != DW_OK)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for an image of %zu globals", state->n_globals);
    if (status != DW_OK) dw_actor_image_deinit(image);
    return status;
}

dw_status dw_actor_image_over(dw_actor_image *image, dw_backing *backing, uint64_t offset, const dw_image *state,
                              dw_error *err) {
    dw_status status = dw_actor_image_blank(image, state, err);
    if (status == DW_OK)
        status = dw_page_map_set_file(&image->pages, 0, image->pages.n_pages, backing, offset / dw_os_page_bytes(),
                                      err);
    if (status != DW_OK) dw_actor_image_deinit(image);
    return status;
}

dw_status dw_actor_image_clone(const dw_actor_image *image, dw_actor_image *out, dw_error *err) {
    *out = (dw_actor_image){.memory_bytes = image->memory_bytes, .pieces_max = image->pieces_max,
                            .pieces_seen = image->pieces_seen,
                            .pages = dw_page_map_share(&image->pages)};
    if (copy_values(&image->values, &out->values) == DW_OK) return DW_OK;
    dw_actor_image_deinit(out);
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for a second image");
}

static void count_image_piece(void *context, const dw_page_piece *piece) {
    (void)piece;
    ++*(uint64_t *)context;
}

void dw_actor_image_compact(dw_actor_image *image, dw_page_store *store) {
    dw_error err;
    /* A map that stayed in many pieces is not walked again until it has a quarter more. */
    if (image->pieces_max <= dw_max_u64(DW_COMPACT_PIECES_MIN, image->pieces_seen + image->pieces_seen / 4)) return;
    dw_status status = dw_page_map_compact(&image->pages, store, DW_IMAGE_MAPS_MAX, &err);
    image->pieces_max = 0;
    dw_page_map_walk(&image->pages, count_image_piece, &image->pieces_max);
    image->pieces_seen = image->pieces_max;
    if (status != DW_OK) dw_log(DW_LOG_WARN, "compact", "status=%s reason=%s", dw_status_name(status), err.text);
}

dw_status dw_actor_image_view(const dw_actor_image *image, dw_page_layout *layout, dw_image *out, dw_error *err) {
    /* The fewer maps are left in the process, the fewer one instance takes. */
    uint64_t maps = dw_min_u64(DW_IMAGE_MAPS_MAX, dw_max_u64(DW_IMAGE_MAPS_MIN, dw_region_maps_left() / 16));
    const dw_image_values *values = &image->values;
    dw_status status = dw_page_layout_make(&image->pages, (size_t)maps, layout, err);
    if (status != DW_OK) return status;
    *out = (dw_image){.memory = layout->extents.items, .n_memory = layout->extents.count, .fills = layout->fills.items,
                      .n_fills = layout->fills.count,
                      .memory_bytes = image->memory_bytes, .globals = values->globals, .n_globals = values->n_globals,
                      .tables = values->tables, .n_tables = values->n_tables, .wasi = values->wasi};
    return DW_OK;
}

void dw_actor_image_hold(dw_actor_image *image) {
    dw_page_map_deinit(&image->held);
    image->held = dw_page_map_share(&image->pages);
}

void dw_actor_image_let_go(dw_actor_image *image) { dw_page_map_deinit(&image->held); }

/* --- planning a change --------------------------------------------------------------------------------------- */

static void note_range(void *context, uint64_t offset, uint64_t size) {
    dw_image_change *change = context;
    if (!change->memory || offset >= change->memory_bytes) return; /* no memory for the list: told by the caller */
    if (DW_VEC_RESERVE(&change->written, 1, DW_PAGE_MAP_PAGES_MAX) != DW_OK) {
        change->memory = NULL;
        return;
    }
    size = dw_min_u64(size, change->memory_bytes - offset);
    change->written.items[change->written.count++] = (dw_page_range){offset, size};
    change->written_bytes += size;
}

dw_status dw_image_change_plan(dw_image_change *change, dw_instance *instance, dw_error *err) {
    dw_region *region = dw_instance_region(instance);
    *change = (dw_image_change){.memory_bytes = dw_instance_memory_bytes(instance), .memory = dw_region_base(region)};
    dw_status status = dw_region_dirty(region, note_range, change, err);
    if (status == DW_OK && !change->memory)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of written pages");
    if (status == DW_OK) status = read_values(instance, &change->values, err);
    if (status != DW_OK) dw_image_change_deinit(change);
    return status;
}

/* --- keeping it ---------------------------------------------------------------------------------------------- */

uint64_t dw_pages_of_kind(const uint8_t *data, uint64_t n, size_t page, bool zero) {
    uint64_t same = 0;
    while (same < n && dw_is_zero(data + same * page, page) == zero) same++;
    return same;
}

static dw_status note_pages(dw_image_change *change, uint64_t first, dw_page_run run, dw_error *err) {
    if (DW_VEC_RESERVE(&change->pages, 1, DW_PAGE_MAP_PAGES_MAX) != DW_OK)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of written pages");
    change->pages.items[change->pages.count++] = (dw_kept_pages){first, run};
    return DW_OK;
}

/* n pages that are not zero. */
static dw_status store_pages(dw_image_change *change, dw_page_store *store, uint64_t first, uint64_t n, dw_error *err) {
    size_t page = dw_os_page_bytes();
    dw_status status = DW_OK;
    for (uint64_t done = 0; status == DW_OK && done < n;) {
        dw_page_run run;
        status = dw_page_store_put(store, (uint32_t)(n - done), change->memory + (first + done) * page, &run, err);
        if (status != DW_OK) break;
        status = note_pages(change, first + done, run, err);
        if (status != DW_OK) dw_page_run_release(run);
        done += run.n;
    }
    return status;
}

static dw_status keep_range(dw_image_change *change, dw_actor_image *image, dw_page_store *store, dw_page_range range,
                            dw_error *err) {
    size_t page = dw_os_page_bytes();
    uint64_t at = range.offset / page, end = at + range.size / page;
    dw_status status = DW_OK;
    while (status == DW_OK && at < end) {
        const uint8_t *data = change->memory + at * page;
        bool zero = dw_is_zero(data, page);
        uint64_t n = dw_pages_of_kind(data, end - at, page, zero);
        status = dw_page_map_prepare(&image->pages, at, n, !zero, err);
        if (status == DW_OK && zero) status = note_pages(change, at, (dw_page_run){.n = (uint32_t)n}, err);
        else if (status == DW_OK) status = store_pages(change, store, at, n, err);
        at += n;
    }
    return status;
}

dw_status dw_image_change_keep(dw_image_change *change, dw_actor_image *image, dw_page_store *store, dw_error *err) {
    change->kept = true;
    change->n_before = image->pages.n_pages;
    dw_status status = dw_page_map_resize(&image->pages, change->memory_bytes / dw_os_page_bytes(), err);
    for (size_t i = 0; i < change->written.count && status == DW_OK; i++)
        status = keep_range(change, image, store, change->written.items[i], err);
    if (status != DW_OK) dw_image_change_forget(change, image);
    return status;
}

/* For what room was made for. */
static void must_have_room(dw_status status) {
    if (status != DW_OK) abort(); /* a bug of ours: half a commit would be worse */
}

void dw_image_change_forget(dw_image_change *change, dw_actor_image *image) {
    if (!change->kept) return;
    for (size_t i = 0; i < change->pages.count; i++)
        if (change->pages.items[i].run.segment) dw_page_run_release(change->pages.items[i].run);
    for (size_t i = 0; i < change->written.count; i++)
        dw_page_map_tidy(&image->pages, change->written.items[i].offset / dw_os_page_bytes(),
                         change->written.items[i].size / dw_os_page_bytes());
    /* What was added holds zeros, so nothing is made for giving it up. */
    if (image->pages.n_pages > change->n_before)
        must_have_room(dw_page_map_resize(&image->pages, change->n_before, NULL));
    change->pages.count = 0;
    change->kept = false;
}

/* --- publishing it ------------------------------------------------------------------------------------------- */

void dw_image_change_publish(dw_image_change *change, dw_actor_image *image) {
    for (size_t i = 0; i < change->pages.count; i++) {
        const dw_kept_pages *kept = &change->pages.items[i];
        if (kept->run.segment) must_have_room(dw_page_map_set_stored(&image->pages, kept->first, kept->run, NULL));
    }
    for (size_t i = 0; i < change->pages.count; i++) {
        const dw_kept_pages *kept = &change->pages.items[i];
        if (!kept->run.segment)
            must_have_room(dw_page_map_set_file(&image->pages, kept->first, kept->run.n, NULL, 0, NULL));
    }
    image->pieces_max += 2 * change->pages.count + 1; /* each cuts one in two, and is one itself; grown memory is one */
    deinit_values(&image->values);
    image->values = change->values;
    image->memory_bytes = change->memory_bytes;
    change->values = (dw_image_values){0};
    dw_image_change_deinit(change);
}

void dw_image_change_deinit(dw_image_change *change) {
    deinit_values(&change->values);
    DW_VEC_DEINIT(&change->written);
    DW_VEC_DEINIT(&change->pages);
    *change = (dw_image_change){0};
}

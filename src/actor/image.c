/* image.c: committed memory as extents over an append-only page log (image.h). */
#include "actor/image.h"

#include <stdlib.h>
#include <string.h>

/* A fold copies the whole memory once; these bounds make that rare and keep the number of maps of a restore small. */
enum { EXTENTS_BEFORE_FOLD = 48 };
#define LOG_BYTES_MIN (UINT64_C(8) << 20)
#define LOG_PER_MEMORY 2u
/* A fold keeps shorter zero runs as holes of its log: else memory with many holes would have too many extents again at once. */
enum { FOLD_GAPS_MAX = 16 };
/* Zero runs are looked for in blocks of this size inside long dirty runs (a freshly grown heap). */
#define ZERO_BLOCK_BYTES UINT64_C(65536)

typedef struct run { uint64_t offset, size; } run;
typedef struct run_list {
    run *runs;
    size_t n, capacity;
    uint64_t bytes;
    bool failed;
} run_list;

typedef struct extent_list {
    dw_extent *items;
    size_t n, capacity;
} extent_list;

/* --- small lists --------------------------------------------------------------------------------------------- */

static void collect_run(void *context, uint64_t offset, uint64_t size) {
    run_list *list = context;
    if (list->failed) return;
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 32;
        run *grown = realloc(list->runs, capacity * sizeof *grown);
        if (!grown) {
            list->failed = true;
            return;
        }
        list->runs = grown;
        list->capacity = capacity;
    }
    list->runs[list->n++] = (run){offset, size};
    list->bytes += size;
}

static void release_extents(dw_extent *extents, size_t n) {
    for (size_t i = 0; i < n; i++) dw_backing_release(extents[i].backing);
    free(extents);
}

/* Appends an extent (retaining its backing), merged into the one before where it continues it. */
static dw_status append_extent(extent_list *list, const dw_extent *extent) {
    if (extent->size == 0) return DW_OK;
    if (list->n > 0) {
        dw_extent *last = &list->items[list->n - 1];
        bool continues = last->backing == extent->backing &&
                         (!extent->backing || last->backing_offset + last->size == extent->backing_offset);
        if (continues) {
            last->size += extent->size;
            return DW_OK;
        }
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 16;
        dw_extent *grown = realloc(list->items, capacity * sizeof *grown);
        if (!grown) return DW_E_NO_MEMORY;
        list->items = grown;
        list->capacity = capacity;
    }
    if (extent->backing) dw_backing_retain(extent->backing);
    list->items[list->n] = *extent;
    list->items[list->n++].mode = DW_EXTENT_PRIVATE;
    return DW_OK;
}

/* The part [from, to) of an extent. */
static dw_extent cut(const dw_extent *extent, uint64_t from, uint64_t to) {
    dw_extent part = *extent;
    part.offset = from;
    part.size = to - from;
    if (part.backing) part.backing_offset += from - extent->offset;
    return part;
}

/* --- construction -------------------------------------------------------------------------------------------- */

void dw_actor_image_deinit(dw_actor_image *image) {
    release_extents(image->extents, image->n_extents);
    free(image->globals);
    free(image->tables);
    dw_backing_release(image->log);
    *image = (dw_actor_image){0};
}

static dw_status read_globals(dw_instance *instance, dw_value **out, size_t *out_n, dw_error *err) {
    *out = NULL;
    *out_n = dw_program_info_view(dw_instance_program(instance))->n_globals;
    if (*out_n == 0) return DW_OK;
    dw_value *globals = calloc(*out_n, sizeof *globals);
    if (!globals) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu globals", *out_n);
    dw_status status = dw_instance_globals(instance, globals, *out_n, err);
    if (status != DW_OK) {
        free(globals);
        return status;
    }
    *out = globals;
    return DW_OK;
}

dw_status dw_actor_image_of(dw_actor_image *image, dw_instance *instance, dw_error *err) {
    *image = (dw_actor_image){.memory_bytes = dw_instance_memory_bytes(instance), .wasi = *dw_instance_wasi(instance)};
    extent_list list = {0};
    size_t n = 0;
    const dw_extent *extents = dw_region_extents(dw_instance_region(instance), &n);
    dw_status status = DW_OK;
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        if (extents[i].offset >= image->memory_bytes) break;
        uint64_t end = dw_min_u64(extents[i].offset + extents[i].size, image->memory_bytes);
        dw_extent part = cut(&extents[i], extents[i].offset, end);
        status = append_extent(&list, &part);
    }
    image->extents = list.items;
    image->n_extents = list.n;
    if (status != DW_OK) status = dw_fail(err, status, "no memory for the image of a program");
    if (status == DW_OK) status = read_globals(instance, &image->globals, &image->n_globals, err);
    if (status == DW_OK) status = dw_instance_tables(instance, &image->tables, &image->n_tables, err);
    if (status != DW_OK) dw_actor_image_deinit(image);
    return status;
}

/* Everything of an image that is not memory. */
static dw_status copy_values(const dw_image *from, dw_actor_image *to) {
    to->n_globals = from->n_globals;
    to->n_tables = from->n_tables;
    to->wasi = from->wasi;
    if (from->n_globals > 0) {
        to->globals = calloc(from->n_globals, sizeof *to->globals);
        if (!to->globals) return DW_E_NO_MEMORY;
        memcpy(to->globals, from->globals, from->n_globals * sizeof *to->globals);
    }
    return dw_tables_copy(from->tables, from->n_tables, &to->tables);
}

dw_status dw_actor_image_over(dw_actor_image *image, dw_backing *backing, uint64_t offset, const dw_image *state, dw_error *err) {
    *image = (dw_actor_image){.memory_bytes = state->memory_bytes};
    extent_list list = {0};
    dw_extent whole = {.offset = 0, .size = state->memory_bytes, .backing = backing, .backing_offset = offset};
    dw_status status = append_extent(&list, &whole);
    image->extents = list.items;
    image->n_extents = list.n;
    if (status == DW_OK) status = copy_values(state, image);
    if (status == DW_OK) return DW_OK;
    dw_actor_image_deinit(image);
    return dw_fail(err, status, "no memory for an image of %zu globals", state->n_globals);
}

dw_status dw_actor_image_clone(const dw_actor_image *image, dw_actor_image *out, dw_error *err) {
    *out = (dw_actor_image){.memory_bytes = image->memory_bytes};
    extent_list list = {0};
    dw_image values = dw_actor_image_view(image);
    dw_status status = DW_OK;
    for (size_t i = 0; i < image->n_extents && status == DW_OK; i++) status = append_extent(&list, &image->extents[i]);
    out->extents = list.items;
    out->n_extents = list.n;
    if (status == DW_OK) status = copy_values(&values, out);
    if (status == DW_OK) return DW_OK;
    dw_actor_image_deinit(out);
    return dw_fail(err, status, "no memory for a second image");
}

dw_image dw_actor_image_view(const dw_actor_image *image) {
    return (dw_image){.memory = image->extents, .n_memory = image->n_extents, .memory_bytes = image->memory_bytes,
                      .globals = image->globals, .n_globals = image->n_globals, .tables = image->tables, .n_tables = image->n_tables,
                      .wasi = image->wasi};
}

/* --- commit -------------------------------------------------------------------------------------------------- */

static bool is_zero(const uint8_t *data, uint64_t size) {
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, (size_t)(size - 1)) == 0);
}

/* Bytes of whole blocks from offset on that hold zeros only. */
static uint64_t zero_run(const uint8_t *memory, uint64_t offset, uint64_t end) {
    uint64_t at = offset;
    while (at < end) {
        uint64_t step = dw_min_u64(end - at, ZERO_BLOCK_BYTES);
        if (!is_zero(memory + at, step)) break;
        at += step;
    }
    return at - offset;
}

/* One written run as extents: what is not zero goes to the log at *used. Of a log that is new (`gap_bytes` > 0), zero runs shorter than
 * that are mapped too: nothing was ever written there, so they are holes, and read as zeros. */
static dw_status log_run(extent_list *list, const uint8_t *memory, run dirty, dw_backing *log, uint64_t gap_bytes, uint64_t *used, dw_error *err) {
    uint64_t offset = dirty.offset, end = dirty.offset + dirty.size;
    while (offset < end) {
        uint64_t zeros = zero_run(memory, offset, end), step = zeros ? zeros : dw_min_u64(end - offset, ZERO_BLOCK_BYTES);
        dw_extent extent = {.offset = offset, .size = step};
        if (zeros < gap_bytes || !zeros) {
            dw_status status = zeros ? DW_OK : dw_os_write_at(dw_backing_file(log), *used, memory + offset, (size_t)step, err);
            if (status != DW_OK) return status;
            extent.backing = log;
            extent.backing_offset = *used;
            *used += step;
        }
        if (append_extent(list, &extent) != DW_OK) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the extents of a commit");
        offset += step;
    }
    return DW_OK;
}

/* Appends what the old extents say about [from, to); beyond the old memory it is zero. */
static dw_status keep_old(extent_list *list, const dw_actor_image *image, uint64_t from, uint64_t to, dw_error *err) {
    dw_status status = DW_OK;
    for (size_t i = 0; i < image->n_extents && status == DW_OK; i++) {
        const dw_extent *extent = &image->extents[i];
        uint64_t first = dw_max_u64(from, extent->offset), last = dw_min_u64(to, extent->offset + extent->size);
        if (first >= last) continue;
        dw_extent part = cut(extent, first, last);
        status = append_extent(list, &part);
    }
    if (status == DW_OK && to > image->memory_bytes) {
        uint64_t first = dw_max_u64(from, image->memory_bytes);
        dw_extent fresh = {.offset = first, .size = to - first};
        status = append_extent(list, &fresh);
    }
    if (status != DW_OK) return dw_fail(err, status, "no memory for the extents of a commit");
    return DW_OK;
}

/* The new extent list: old extents, overlaid by the dirty runs. */
static dw_status overlay(extent_list *list, const dw_actor_image *image, const run_list *dirty, const uint8_t *memory, uint64_t memory_bytes,
                         dw_backing *log, uint64_t gap_bytes, uint64_t *used, dw_error *err) {
    uint64_t at = 0;
    for (size_t i = 0; i < dirty->n; i++) {
        run next = dirty->runs[i];
        if (next.offset >= memory_bytes) break;
        next.size = dw_min_u64(next.size, memory_bytes - next.offset);
        dw_status status = keep_old(list, image, at, next.offset, err);
        if (status == DW_OK) status = log_run(list, memory, next, log, gap_bytes, used, err);
        if (status != DW_OK) return status;
        at = next.offset + next.size;
    }
    return keep_old(list, image, at, memory_bytes, err);
}

static dw_status new_log(uint64_t memory_bytes, dw_backing **out, uint64_t *out_bytes, dw_error *err) {
    *out_bytes = dw_max_u64(LOG_BYTES_MIN, LOG_PER_MEMORY * memory_bytes);
    return dw_backing_create_memory("driftwood-pages", *out_bytes, out, err);
}

dw_status dw_actor_image_commit(dw_actor_image *image, dw_instance *instance, uint64_t *dirty_bytes, dw_error *err) {
    uint64_t memory_bytes = dw_instance_memory_bytes(instance);
    dw_region *region = dw_instance_region(instance);
    const uint8_t *memory = dw_region_base(region);
    run_list dirty = {0};
    extent_list list = {0};
    dw_value *globals = NULL;
    dw_table_view *tables = NULL;
    size_t n_globals = 0, n_tables = 0;
    dw_backing *log = NULL;
    uint64_t log_bytes = image->log_bytes, used = image->log_used;

    dw_status status = dw_region_dirty(region, collect_run, &dirty, err);
    if (status == DW_OK && dirty.failed) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of written pages");
    if (status == DW_OK) status = read_globals(instance, &globals, &n_globals, err);
    if (status == DW_OK) status = dw_instance_tables(instance, &tables, &n_tables, err);
    if (status != DW_OK) goto out;
    *dirty_bytes = dirty.bytes;

    /* Folding = the same overlay with everything dirty, into a log of its own. */
    bool fold = image->n_extents > EXTENTS_BEFORE_FOLD;
    if (fold || !image->log || used + dirty.bytes > log_bytes) {
        fold = fold || image->log != NULL;
        used = 0;
        status = new_log(memory_bytes, &log, &log_bytes, err);
        if (status != DW_OK) goto out;
        if (fold) {
            dirty.n = 0;
            collect_run(&dirty, 0, memory_bytes);
        }
    } else {
        log = dw_backing_retain(image->log);
    }
    status = overlay(&list, image, &dirty, memory, memory_bytes, log, fold ? memory_bytes / FOLD_GAPS_MAX : 0, &used, err);
    if (status != DW_OK) goto out;

    dw_actor_image next = {.extents = list.items, .n_extents = list.n, .memory_bytes = memory_bytes, .globals = globals, .n_globals = n_globals,
                           .tables = tables, .n_tables = n_tables, .wasi = *dw_instance_wasi(instance), .log = log, .log_used = used, .log_bytes = log_bytes};
    dw_actor_image_deinit(image);
    *image = next;
    free(dirty.runs);
    return DW_OK;

out:
    release_extents(list.items, list.n);
    dw_backing_release(log);
    free(globals);
    free(tables);
    free(dirty.runs);
    return status;
}

/* verify.c: everything is read, and the books are held against each other. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

typedef struct counted_layer { uint64_t id, parent; uint32_t refs, found; } counted_layer;

typedef struct verification {
    DW_VEC(counted_layer) layers;
    DW_VEC(char *) names;
    dw_freed named;              /* all pages that layers name */
} verification;

static void count_reference(verification *all, uint64_t id, bool *found) {
    size_t low = 0, high = all->layers.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (all->layers.items[middle].id < id) low = middle + 1;
        else high = middle;
    }
    *found = low < all->layers.count && all->layers.items[low].id == id;
    if (*found) all->layers.items[low].found++;
}

static dw_status list_layers(dw_store *store, verification *all, dw_error *err) {
    bool row = true;
    dw_status status = DW_OK;
    sqlite3_stmt *layers = dw_index_use(store, DW_SQL_LAYERS);
    while (row) {
        status = dw_index_step(store, DW_SQL_LAYERS, &row, err);
        if (status != DW_OK || !row) break;
        if (DW_VEC_RESERVE(&all->layers, 1, DW_VEC_ITEMS_MAX) != DW_OK) {
            status = dw_fail(err, DW_E_NO_MEMORY, "no memory to verify");
            break;
        }
        all->layers.items[all->layers.count++] = (counted_layer){.id = (uint64_t)sqlite3_column_int64(layers, 0),
                                                       .parent = (uint64_t)sqlite3_column_int64(layers, 1),
                                                       .refs = (uint32_t)sqlite3_column_int64(layers, 2)};
    }
    dw_index_done(store, DW_SQL_LAYERS);
    for (size_t i = 0; i < all->layers.count && status == DW_OK; i++) {
        bool found = true;
        if (all->layers.items[i].parent) count_reference(all, all->layers.items[i].parent, &found);
        if (!found)
            status = dw_fail(err, DW_E_CORRUPT, "index: the parent of layer %" PRIu64 " is missing",
                             all->layers.items[i].id);
    }
    return status;
}

static dw_status list_actors(dw_store *store, verification *all, dw_error *err) {
    bool row = true;
    dw_status status = DW_OK;
    sqlite3_stmt *actors = dw_index_use(store, DW_SQL_ACTORS);
    while (row) {
        status = dw_index_step(store, DW_SQL_ACTORS, &row, err);
        if (status != DW_OK || !row) break;
        const char *name = (const char *)sqlite3_column_text(actors, 0);
        char *copy = name ? malloc(strlen(name) + 1) : NULL;
        if (!copy || DW_VEC_RESERVE(&all->names, 1, DW_VEC_ITEMS_MAX) != DW_OK) {
            free(copy);
            status = dw_fail(err, DW_E_NO_MEMORY, "no memory to verify");
            break;
        }
        memcpy(copy, name, strlen(name) + 1);
        all->names.items[all->names.count++] = copy;
        bool found;
        count_reference(all, (uint64_t)sqlite3_column_int64(actors, 2), &found);
        if (!found) status = dw_fail(err, DW_E_CORRUPT, "index: the layer of %s is missing", copy);
        if (status != DW_OK) break;
    }
    dw_index_done(store, DW_SQL_ACTORS);
    return status;
}

/* Counts, and what each layer names. */
static dw_status verify_layers(dw_store *store, verification *all, dw_error *err) {
    dw_status status = DW_OK;
    for (size_t i = 0; i < all->layers.count && status == DW_OK; i++) {
        dw_layer layer = {0};
        dw_layer_row row;
        if (all->layers.items[i].refs != all->layers.items[i].found)
            return dw_fail(err, DW_E_CORRUPT, "index: layer %" PRIu64 " counts %u references of %u",
                           all->layers.items[i].id, all->layers.items[i].refs, all->layers.items[i].found);
        status = dw_index_layer_body(store, all->layers.items[i].id, &row, &layer, err);
        if (status == DW_OK) dw_layer_free_all(&layer, &all->named);
        dw_layer_deinit(&layer);
    }
    if (status == DW_OK && all->named.failed) status = dw_fail(err, DW_E_NO_MEMORY, "no memory to verify");
    return status;
}

/* Each page is named once, inside its file, and the files' counts are those of pages named. */
static dw_status verify_files(dw_store *store, verification *all, dw_error *err) {
    bool row = true;
    size_t at = 0;
    dw_status status = DW_OK;
    dw_freed_join(&all->named);
    sqlite3_stmt *files = dw_index_use(store, DW_SQL_FILES);
    while (row && status == DW_OK) {
        status = dw_index_step(store, DW_SQL_FILES, &row, err);
        if (status != DW_OK || !row) break;
        uint32_t file = (uint32_t)sqlite3_column_int64(files, 0);
        uint64_t pages = (uint64_t)sqlite3_column_int64(files, 1), live = (uint64_t)sqlite3_column_int64(files, 2),
                 end = 1, named = 0;
        for (; at < all->named.runs.count && all->named.runs.items[at].file == file; at++) {
            const dw_freed_run *run = &all->named.runs.items[at];
            if (run->page < end || (uint64_t)run->page + run->n > pages)
                status =
                    dw_fail(err, DW_E_CORRUPT, "page %u of bulk file %08" PRIx32 " is named twice, or behind its end",
                            run->page, file);
            end = (uint64_t)run->page + run->n;
            named += run->n;
        }
        if (status == DW_OK && named != live)
            status = dw_fail(err, DW_E_CORRUPT,
                             "bulk file %08" PRIx32 " has %" PRIu64 " live pages, and %" PRIu64 " are named", file,
                             live, named);
    }
    dw_index_done(store, DW_SQL_FILES);
    if (status == DW_OK && at < all->named.runs.count)
        status =
            dw_fail(err, DW_E_CORRUPT, "bulk file %08" PRIx32 " is not in the index", all->named.runs.items[at].file);
    return status;
}

/* All pages and rows of an actor's last turn, against their sums. */
static dw_status read_actor(dw_store *store, const char *name, dw_error *err) {
    dw_store_view view = {.store = store};
    uint8_t page[DW_STORE_PAGE_BYTES];
    uint8_t *row = NULL;
    dw_status status = dw_store_resolve(store, name, DW_STORE_LATEST, &view, err);
    for (size_t i = 0; i < view.sum.n_pages && status == DW_OK; i++)
        status = dw_store_view_read_page(&view, view.sum.pages[i].index, page, err);
    if (status == DW_OK && view.sum.n_extents && !(row = malloc(DW_STORE_ROW_BYTES_MAX)))
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to verify");
    /* One row reads its whole extent. */
    for (size_t i = 0; i < view.sum.n_extents && status == DW_OK; i++)
        status =
            dw_store_view_read_rows(&view, view.sum.extents[i].session, view.sum.extents[i].first_row, 1, row, err);
    free(row);
    dw_store_view_free_content(&view);
    return status == DW_OK ? DW_OK : dw_error_prefix(err, status, "%s", name);
}

dw_status dw_store_verify(dw_store *store, dw_error *err) {
    verification all = {0};
    dw_status status = dw_store_flush(store, true, err);
    if (status != DW_OK) return status;
    dw_store_lead(store);
    dw_os_mutex_lock(store->index_lock);
    status = list_layers(store, &all, err);
    if (status == DW_OK) status = list_actors(store, &all, err);
    if (status == DW_OK) status = verify_layers(store, &all, err);
    if (status == DW_OK) status = verify_files(store, &all, err);
    for (size_t i = 0; i < all.names.count && status == DW_OK; i++) status = read_actor(store, all.names.items[i], err);
    dw_os_mutex_unlock(store->index_lock);
    dw_store_lead_no_more(store);
    for (size_t i = 0; i < all.names.count; i++) free(all.names.items[i]);
    DW_VEC_DEINIT(&all.names);
    DW_VEC_DEINIT(&all.layers);
    dw_freed_deinit(&all.named);
    return status;
}

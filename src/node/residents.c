/* residents.c: the actors that the node knows of, and how they come out of the store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"
#include "os/os.h"

/* --- reading from the store ------------------------------------------------------------------------------------ */

dw_status dw_node_view(dw_node *node, const char *name, dw_store_view **view, dw_blob **state, dw_error *err) {
    size_t size = 0;
    *state = NULL;
    dw_status status = dw_store_view_open(node->store, name, DW_STORE_LATEST, view, err);
    if (status == DW_E_NOT_FOUND) return dw_fail(err, status, "there is no actor \"%s\" in %s", name, node->folder);
    if (status != DW_OK) return status;
    const void *bytes = dw_store_view_state(*view, &size);
    status = dw_blob_decode(bytes, size, state, err);
    uint64_t turn = dw_store_view_turn(*view);
    if (status == DW_OK && dw_blob_view(*state)->turn != turn)
        status = dw_fail(err, DW_E_CORRUPT, "the state of turn %llu is of turn %llu", (unsigned long long)turn,
                         (unsigned long long)dw_blob_view(*state)->turn);
    if (status == DW_OK) return DW_OK;
    dw_blob_free(*state);
    dw_store_view_close(*view);
    *state = NULL;
    *view = NULL;
    return dw_error_prefix(err, status, "actor %s", name);
}

static dw_status read_stored_pages(void *context, uint64_t offset, uint64_t size, void *out, dw_error *err) {
    return dw_store_view_read_pages(context, offset / DW_STORE_PAGE_BYTES, size / DW_STORE_PAGE_BYTES, out, err);
}

static dw_status read_stored_rows(void *context, uint64_t stream, uint64_t first, uint64_t n, uint32_t row_bytes,
                                void *out, dw_error *err) {
    const dw_store_session *sessions;
    size_t n_sessions = dw_store_view_sessions(context, &sessions);
    for (size_t i = 0; i < n_sessions; i++)
        if (sessions[i].session == stream && sessions[i].row_bytes != row_bytes)
            return dw_fail(err, DW_E_MISMATCH, "rows of %u bytes are kept, here they have %u", sessions[i].row_bytes,
                           row_bytes);
    return dw_store_view_read_rows(context, stream, first, n, out, err);
}

/* The pages that the store has, as ranges. *out is the caller's. */
static dw_status kept_ranges(const dw_store_view *view, dw_page_range **out, size_t *n, dw_error *err) {
    const dw_store_place *places;
    size_t n_places = dw_store_view_pages(view, &places);
    dw_page_range *ranges = calloc(n_places + 1, sizeof *ranges);
    *out = ranges;
    *n = 0;
    if (!ranges) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the places of %zu pages", n_places);
    for (size_t i = 0; i < n_places; i++) {
        uint64_t offset = (uint64_t)places[i].index * DW_STORE_PAGE_BYTES;
        dw_page_range *last = *n > 0 ? &ranges[*n - 1] : NULL;
        if (last && last->offset + last->size == offset) last->size += DW_STORE_PAGE_BYTES;
        else ranges[(*n)++] = (dw_page_range){offset, DW_STORE_PAGE_BYTES};
    }
    return DW_OK;
}

/* --- messages that wait ---------------------------------------------------------------------------------------- */

typedef struct bodies {
    dw_kept_message *items;
    uint8_t **copies;
    size_t n, room;
    dw_status status;
    dw_error *err;
} bodies;

static bool read_body(void *context, uint64_t number, const void *data, size_t size) {
    bodies *to = context;
    dw_message_record record;
    to->status = dw_message_record_decode(data, size, &record, to->err);
    if (to->status == DW_OK && to->n == to->room)
        to->status = dw_fail(to->err, DW_E_CORRUPT, "more messages wait than the books have");
    if (to->status != DW_OK) return false;
    uint8_t *copy = malloc(record.size ? record.size : 1);
    if (!copy) {
        to->status = dw_fail(to->err, DW_E_NO_MEMORY, "no memory for a message of %u bytes", record.size);
        return false;
    }
    if (record.size > 0) memcpy(copy, record.body, record.size);
    to->copies[to->n] = copy;
    to->items[to->n++] = (dw_kept_message){number, record.realtime_ns, copy, record.size};
    return true;
}

static dw_status read_bodies(dw_resident *resident, bodies *out, dw_error *err) {
    size_t room = resident->waiting.count;
    *out = (bodies){.room = room, .err = err};
    out->items = calloc(room + 1, sizeof *out->items);
    out->copies = calloc(room + 1, sizeof *out->copies);
    if (!out->items || !out->copies) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu messages", room);
    dw_status status = dw_store_records(resident->node->store, resident->name, DW_NODE_MESSAGE, 0, read_body, out,
                                        err);
    return status == DW_OK ? out->status : status;
}

static void free_bodies(bodies *of) {
    for (size_t i = 0; i < of->n; i++) free(of->copies[i]);
    free(of->copies);
    free(of->items);
}

/* --- waking ---------------------------------------------------------------------------------------------------- */

dw_status dw_node_program_path(const dw_node *node, const dw_hash *hash, char out[DW_OS_PATH_BYTES], dw_error *err) {
    char hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, hex);
    int length = snprintf(out, DW_OS_PATH_BYTES, "%s/programs/%s.wasm", node->folder, hex);
    bool fits = length > 0 && length < DW_OS_PATH_BYTES;
    return fits ? DW_OK : dw_fail(err, DW_E_INVALID, "the path %.60s... is too long", node->folder);
}

/* From the runtime, where it is known by its hash; else the node's own copy. */
static dw_status find_node_program(dw_node *node, const dw_hash *hash, dw_program **out, dw_error *err) {
    char path[DW_OS_PATH_BYTES];
    uint8_t *source = NULL;
    size_t size = 0;
    dw_status status = dw_runtime_find_program(node->runtime, hash, out, err);
    if (status != DW_E_NOT_FOUND) return status;
    status = dw_node_program_path(node, hash, path, err);
    if (status == DW_OK) status = dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, &source, &size, err);
    if (status == DW_OK) status = dw_runtime_adopt_program(node->runtime, source, size, path, out, err);
    free(source);
    if (status == DW_OK && !dw_hash_equal(&dw_program_info_view(*out)->hash, hash)) {
        dw_program_release(*out);
        *out = NULL;
        return dw_fail(err, DW_E_HASH, "%s is not the program of that name", path);
    }
    return status;
}

static dw_status wake_from(dw_resident *resident, dw_store_view *view, dw_blob *state, const bodies *waiting,
                           dw_error *err) {
    dw_page_range *pages = NULL;
    dw_kept_actor kept = {.state = state, .read_pages = read_stored_pages, .read_rows = read_stored_rows,
                          .context = view, .waiting = waiting->items, .n_waiting = waiting->n,
                          .last_message = resident->last};
    dw_thaw_options options = {.name = resident->name};
    dw_status status = kept_ranges(view, &pages, &kept.n_pages, err);
    kept.pages = pages;
    if (status == DW_OK)
        status = find_node_program(resident->node, &dw_blob_view(state)->program, &options.program, err);
    if (status == DW_OK)
        status = dw_actor_wake(resident->node->runtime, &kept, &options, &resident->actor, NULL, err);
    dw_program_release(options.program);
    free(pages);
    return status;
}

/* Rule 6. The one that is first was asked for just now. */
static void make_room(dw_node *node) {
    dw_resident *oldest = NULL;
    uint32_t n = 0;
    for (dw_resident *at = node->residents; at; at = at->next) {
        if (!at->actor) continue;
        oldest = at;
        n++;
    }
    if (n >= node->awake_max) dw_node_let_go(oldest);
}

dw_status dw_node_wake(dw_resident *resident, dw_error *err) {
    dw_node *node = resident->node;
    dw_store_view *view = NULL;
    dw_blob *state = NULL;
    bodies waiting;
    if (resident->actor) return DW_OK;
    if (!node->runtime) return dw_fail(err, DW_E_STATE, "the node has no runtime for actors to live in");
    make_room(node);
    dw_status status = dw_node_view(node, resident->name, &view, &state, err);
    if (status != DW_OK) return status;
    status = read_bodies(resident, &waiting, err);
    if (status == DW_OK) status = wake_from(resident, view, state, &waiting, err);
    free_bodies(&waiting);
    dw_blob_free(state);
    dw_store_view_close(view);
    if (status != DW_OK) return dw_error_prefix(err, status, "actor %s", resident->name);
    dw_keeper keeper = dw_node_keeper(node);
    dw_actor_keep_with(resident->actor, &keeper);
    return DW_OK;
}

/* --- the list -------------------------------------------------------------------------------------------------- */

void dw_node_let_go(dw_resident *resident) {
    dw_node *node = resident->node;
    dw_resident **at = &node->residents;
    while (*at != resident) at = &(*at)->next;
    *at = resident->next;
    node->n_residents--;
    dw_actor_destroy(resident->actor);
    dw_entries_deinit(&resident->waiting);
    dw_entries_deinit(&resident->answers);
    free(resident);
}

static void put_first(dw_node *node, dw_resident *resident) {
    resident->next = node->residents;
    node->residents = resident;
}

/* Also unlinks what it finds. */
static dw_resident *take_resident(dw_node *node, const char *name) {
    for (dw_resident **at = &node->residents; *at; at = &(*at)->next) {
        dw_resident *resident = *at;
        if (strcmp(resident->name, name) != 0) continue;
        *at = resident->next;
        return resident;
    }
    return NULL;
}

/* Who only sends to many actors must not have the books of all of them in memory. */
static void bound_residents(dw_node *node) {
    dw_resident *oldest = node->residents;
    if (node->n_residents <= node->awake_max) return;
    while (oldest->next) oldest = oldest->next;
    dw_node_let_go(oldest);
}

dw_status dw_node_resident(dw_node *node, const char *name, dw_resident **out, dw_error *err) {
    dw_store_view *view = NULL;
    dw_blob *state = NULL;
    dw_status status = dw_actor_check_name(name, err);
    if (status != DW_OK) return status;
    *out = take_resident(node, name);
    if (*out) {
        put_first(node, *out);
        return DW_OK;
    }
    status = dw_node_view(node, name, &view, &state, err);
    if (status != DW_OK) return status;
    dw_resident *made = calloc(1, sizeof *made);
    if (made) {
        made->node = node;
        snprintf(made->name, sizeof made->name, "%s", name);
        put_first(node, made);
        node->n_residents++;
        status = dw_books_read(made, state, err);
        if (status != DW_OK) {
            status = dw_error_prefix(err, status, "actor %s", name);
            dw_node_let_go(made);
        }
    } else {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's books");
    }
    dw_blob_free(state);
    dw_store_view_close(view);
    if (status != DW_OK) return status;
    bound_residents(node);
    *out = made;
    return DW_OK;
}

/* node.c: opening and closing, new actors and those that go, and looking. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"
#include "os/os.h"

static dw_status make_node_folders(dw_node *node, const char *folder, char store[DW_OS_PATH_BYTES], dw_error *err) {
    char programs[DW_OS_PATH_BYTES];
    int length = snprintf(programs, sizeof programs, "%s/programs", folder);
    if (length < 0 || (size_t)length >= sizeof programs)
        return dw_fail(err, DW_E_INVALID, "the path %.60s... is too long", folder);
    (void)snprintf(node->folder, sizeof node->folder, "%s", folder);
    (void)snprintf(store, DW_OS_PATH_BYTES, "%.*s/store", (int)strlen(folder), folder);
    bool is_new = !dw_os_exists(store);
    dw_status status = dw_os_make_folders(programs, err);
    if (status != DW_OK || !is_new) return status;
    /* A new node: the folder's own name has to last too. What is in it, the store syncs when it is opened. */
    char parent[DW_OS_PATH_BYTES];
    length = snprintf(parent, sizeof parent, "%s/..", folder);
    if (length < 0 || (size_t)length >= sizeof parent) return dw_fail(err, DW_E_INVALID, "the path is too long");
    return dw_os_sync_folder(parent, err);
}

bool dw_node_is_there(const char *folder) {
    char store[DW_OS_PATH_BYTES];
    int length = snprintf(store, sizeof store, "%s/store/index", folder);
    return length > 0 && (size_t)length < sizeof store && dw_os_exists(store);
}

dw_status dw_node_open(const char *folder, const dw_node_options *options, dw_node **out, dw_error *err) {
    char store[DW_OS_PATH_BYTES];
    *out = NULL;
    dw_node *node = calloc(1, sizeof *node);
    if (!node) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a node");
    node->awake_max = options && options->awake_max ? options->awake_max : DW_NODE_AWAKE_MAX;
    dw_status status = make_node_folders(node, folder, store, err);
    if (status == DW_OK) status = dw_store_open(store, options ? options->store : NULL, &node->store, err);
    if (status == DW_OK) *out = node;
    else free(node);
    return status;
}

/* An actor that had many turns wakes from many layers: they are folded while nobody waits for an answer. What fails
 * here is only not done yet. */
static void tidy_node(dw_node *node) {
    dw_error why;
    bool more = false;
    dw_status status = dw_store_tidy(node->store, DW_NODE_TIDY_ACTORS, &more, &why);
    if (status != DW_OK)
        dw_log(DW_LOG_WARN, "tidy", "node=%s status=%s reason=\"%s\"", node->folder, dw_status_name(status), why.text);
}

dw_status dw_node_close(dw_node *node, dw_error *err) {
    if (!node) return DW_OK;
    while (node->residents) dw_node_let_go(node->residents);
    tidy_node(node);
    dw_status status = dw_node_blame(dw_store_close(node->store, err), err);
    free(node);
    return status;
}

void dw_node_live_in(dw_node *node, dw_runtime *runtime) { node->runtime = runtime; }

/* --- new actors, and those that go ------------------------------------------------------------------------------ */

/* Before the first actor of it is: what names the program must find it. */
static dw_status keep_program(dw_node *node, const dw_program *program, dw_error *err) {
    const dw_hash *hash = &dw_program_info_view(program)->hash;
    char path[DW_OS_PATH_BYTES];
    uint8_t *source = NULL;
    size_t size = 0;
    dw_status status = dw_node_program_path(node, hash, path, err);
    if (status != DW_OK || dw_os_exists(path)) return status;
    status = dw_runtime_program_source(node->runtime, hash, &source, &size, err);
    if (status == DW_OK) status = dw_os_write_file(path, source, size, err);
    free(source);
    return status;
}

/* The first message's record; none without a message. *bytes is the caller's. */
static dw_status first_record(const dw_node_message *first, uint8_t **bytes, dw_store_record *out, dw_error *err) {
    *bytes = NULL;
    if (!first) return DW_OK;
    dw_entry entry = {0}; /* for its checks */
    dw_status status = dw_entry_of(first, 1, &entry, err);
    dw_entry_deinit(&entry);
    if (status == DW_OK && first->size > DW_MESSAGE_BYTES_MAX)
        status = dw_fail(err, DW_E_LIMIT, "a message of %zu bytes is above the limit of %llu", first->size,
                         (unsigned long long)DW_MESSAGE_BYTES_MAX);
    if (status != DW_OK) return status;
    const dw_message_record record = {.realtime_ns = first->realtime_ns ? first->realtime_ns : dw_os_realtime_ns(),
                                      .key = (const uint8_t *)first->key,
                                      .key_bytes = first->key ? (uint32_t)strlen(first->key) : 0,
                                      .body = first->body,
                                      .size = (uint32_t)first->size};
    *out = (dw_store_record){.kind = DW_NODE_MESSAGE, .number = 1};
    if (dw_message_record_encode(&record, bytes, &out->size) != DW_OK)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for a message of %zu bytes", first->size);
    out->data = *bytes;
    return DW_OK;
}

dw_status dw_node_spawn(dw_node *node, const char *name, dw_program *program, const dw_spawn_options *options,
                        dw_error *err) {
    static const dw_spawn_options defaults;
    dw_actor *actor = NULL;
    dw_actor_change birth = {0};
    dw_store_record record = {0};
    uint8_t *bytes = NULL;
    if (!options) options = &defaults;
    const dw_actor_options born = {.name = name, .arguments = options->arguments,
                                   .birth_realtime_ns = options->birth_realtime_ns,
                                   .random_seed = options->random_seed};
    if (!node->runtime) return dw_fail(err, DW_E_STATE, "the node has no runtime for actors to live in");
    if (!dw_program_info_view(program)->has_receive)
        return dw_fail(err, DW_E_UNSUPPORTED, "the program does not export driftwood_receive: it is no actor");
    dw_status status = dw_actor_check_name(name, err);
    if (status == DW_OK) status = first_record(options->first, &bytes, &record, err);
    if (status == DW_OK) status = keep_program(node, program, err);
    if (status == DW_OK) status = dw_actor_create(node->runtime, program, &born, &actor, err);
    if (status == DW_OK) status = dw_actor_birth_change(actor, &birth, err);
    if (status == DW_OK) status = dw_node_create(node, name, &birth, &record, bytes ? 1 : 0, err);
    if (status == DW_E_EXISTS)
        status = dw_fail(err, status, "there is an actor \"%s\" in %s already", name, node->folder);
    dw_actor_change_deinit(&birth);
    dw_actor_destroy(actor);
    free(bytes);
    return status;
}

dw_status dw_node_remove(dw_node *node, const char *name, dw_error *err) {
    dw_resident *resident = NULL;
    dw_status status = dw_node_resident(node, name, &resident, err);
    if (status != DW_OK) return status;
    const dw_store_change change = {.act = DW_STORE_REMOVE, .actor = name};
    status = dw_node_commit(node, &change, 1, err);
    if (status == DW_OK) dw_node_let_go(resident);
    return status;
}

/* --- looking ----------------------------------------------------------------------------------------------------- */

dw_status dw_node_list(dw_node *node, dw_store_each_actor each, void *context, dw_error *err) {
    return dw_store_actors(node->store, each, context, err);
}

dw_status dw_node_look(dw_node *node, const char *name, dw_node_info *out, dw_error *err) {
    dw_resident *resident = NULL;
    dw_store_view *view = NULL;
    const dw_store_place *places;
    const dw_store_session *sessions;
    *out = (dw_node_info){0};
    dw_status status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK) status = dw_node_view(node, name, &view, &out->state, err);
    if (status != DW_OK) return status;
    out->kept_pages = dw_store_view_pages(view, &places);
    size_t n = dw_store_view_sessions(view, &sessions);
    for (size_t i = 0; i < n; i++)
        if (dw_stream_kind_of(sessions[i].session) == DW_STREAM_ROWS) out->kept_rows += sessions[i].n_rows;
    out->waiting = (uint32_t)resident->waiting.count;
    out->answers = (uint32_t)resident->answers.count;
    out->awake = resident->actor != NULL;
    dw_store_view_close(view);
    return DW_OK;
}

void dw_node_info_deinit(dw_node_info *info) {
    dw_blob_free(info->state);
    *info = (dw_node_info){0};
}

dw_status dw_node_digest(dw_node *node, const char *name, dw_actor_digest *out, dw_error *err) {
    dw_resident *resident = NULL;
    dw_status status = dw_node_resident(node, name, &resident, err);
    if (status == DW_OK) status = dw_node_wake(resident, err);
    return status == DW_OK ? dw_actor_digest_of(resident->actor, out, err) : status;
}

dw_status dw_node_verify(dw_node *node, dw_error *err) { return dw_store_verify(node->store, err); }

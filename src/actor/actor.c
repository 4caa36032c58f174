/* actor.c: making, unmaking and looking at actors. Turns are in turn.c, freeze and thaw in freeze.c; the guest's
 * requests in src/door. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"
#include "os/os.h"

/* A part between two "/": names become paths of files and rooms of a node, so none may lead elsewhere. */
static bool is_name_part(const char *part, size_t length) {
    return length > 0 && !(length == 1 && part[0] == '.') && !(length == 2 && part[0] == '.' && part[1] == '.');
}

dw_status dw_actor_check_name(const char *name, dw_error *err) {
    size_t length = strlen(name);
    if (length == 0 || length > DW_ACTOR_NAME_BYTES_MAX) {
        return dw_fail(err, DW_E_INVALID, "an actor's name has 1 to %u bytes", DW_ACTOR_NAME_BYTES_MAX);
    }
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_./";
    if (strspn(name, allowed) != length)
        return dw_fail(err, DW_E_INVALID, "an actor's name has letters, digits and -_./ only");
    for (const char *part = name;;) {
        size_t size = strcspn(part, "/");
        if (!is_name_part(part, size)) {
            return dw_fail(err, DW_E_INVALID, "in an actor's name no part between two / is empty, . or ..: '%s'", name);
        }
        if (!part[size]) return DW_OK;
        part += size + 1;
    }
}

/* What cannot be frozen must not come to life. */
static dw_status check_arguments(const char *const *arguments, dw_error *err) {
    for (size_t i = 0; arguments && arguments[i]; i++) {
        if (i == DW_ACTOR_ARGUMENTS_MAX)
            return dw_fail(err, DW_E_LIMIT, "an actor has at most %u arguments", DW_ACTOR_ARGUMENTS_MAX);
        if (strlen(arguments[i]) > DW_ACTOR_ARGUMENT_BYTES_MAX) {
            return dw_fail(err, DW_E_LIMIT, "an argument has at most %u bytes", DW_ACTOR_ARGUMENT_BYTES_MAX);
        }
    }
    return DW_OK;
}

static char **copy_arguments(const char *const *arguments, const char *name) {
    const char *const only_name[] = {name, NULL};
    if (!arguments) arguments = only_name;
    size_t n = 0;
    while (arguments[n]) n++;
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++) {
        size_t size = strlen(arguments[i]) + 1;
        copy[i] = malloc(size);
        if (!copy[i]) {
            dw_state_free_arguments(copy);
            return NULL;
        }
        memcpy(copy[i], arguments[i], size);
    }
    return copy;
}

static dw_status make_actor_parts(dw_actor *actor, const dw_actor_birth *birth, dw_error *err) {
    actor->arguments = copy_arguments(birth->arguments, birth->name);
    if (!actor->arguments) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor");
    dw_status status = DW_OK;
    if (birth->parents_owner) actor->owner = birth->parents_owner;
    else status = dw_runtime_owner(actor->runtime, birth->owner, &actor->owner, err);
    if (status == DW_OK) status = dw_inbox_create(&actor->inbox, err);
    if (status == DW_OK && dw_handle_table_create(DW_SESSIONS_PER_ACTOR_MAX, &actor->handles) != DW_OK) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor");
    }
    if (status != DW_OK) return status;
    dw_door_options door = {.runtime = actor->runtime,
                            .name = actor->name,
                            .owner = actor->owner,
                            .priority = actor->priority,
                            .observer = birth->observer,
                            .sessions = dw_actor_sessions_for_door(actor)};
    return dw_door_create(&door, &actor->door, err);
}

dw_status dw_actor_shell(dw_runtime *runtime, dw_program *program, const dw_actor_birth *birth, dw_actor **out,
                         dw_error *err) {
    *out = NULL;
    dw_status status = dw_actor_check_name(birth->name, err);
    if (status == DW_OK) status = check_arguments(birth->arguments, err);
    if (status == DW_OK) status = dw_runtime_admit_actor(runtime, err);
    if (status != DW_OK) return status;
    dw_actor *actor = calloc(1, sizeof *actor);
    if (!actor) {
        dw_runtime_dismiss_actor(runtime);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor");
    }
    actor->runtime = runtime;
    actor->program = dw_program_retain(program);
    actor->priority = birth->priority;
    snprintf(actor->name, sizeof actor->name, "%s", birth->name);
    status = make_actor_parts(actor, birth, err);
    if (status == DW_OK) *out = actor;
    else dw_actor_destroy(actor);
    return status;
}

dw_status dw_actor_create(dw_runtime *runtime, dw_program *program, const dw_actor_options *options, dw_actor **out,
                          dw_error *err) {
    dw_actor *actor = NULL;
    const dw_actor_birth birth = {.name = options->name, .arguments = options->arguments, .observer = options->observer,
                                  .owner = options->owner, .priority = options->priority};
    *out = NULL;
    dw_status status = dw_actor_shell(runtime, program, &birth, &actor, err);
    if (status != DW_OK) return status;
    dw_wasi_state *wasi = &actor->image.values.wasi;
    wasi->birth_realtime_ns = options->birth_realtime_ns ? options->birth_realtime_ns : dw_os_realtime_ns();
    wasi->turn_realtime_ns = wasi->birth_realtime_ns;
    if (options->random_seed) memcpy(wasi->random_seed, options->random_seed, sizeof wasi->random_seed);
    else status = dw_os_random(wasi->random_seed, sizeof wasi->random_seed, err);
    if (status == DW_OK) status = dw_actor_live(actor, err); /* image 0 becomes the actor's image */
    if (status == DW_OK) *out = actor;
    else dw_actor_destroy(actor);
    return status;
}

void dw_actor_destroy(dw_actor *actor) {
    if (!actor) return;
    dw_actor_drop_instance(actor);
    dw_actor_sessions_destroy(actor);
    dw_actor_image_deinit(&actor->image);
    dw_mailbox_deinit(&actor->mailbox);
    dw_inbox_destroy(actor->inbox);
    dw_door_destroy(actor->door);
    dw_handle_table_destroy(actor->handles);
    dw_state_free_arguments(actor->arguments);
    dw_program_release(actor->program);
    dw_runtime_dismiss_actor(actor->runtime);
    free(actor);
}

dw_status dw_actor_usable(const dw_actor *actor, dw_error *err) {
    if (actor->in_turn) return dw_fail(err, DW_E_BUSY, "a turn of this actor is running");
    if (actor->broken) {
        return dw_fail(
            err, DW_E_STATE,
            "the sessions of this actor could not be put back after a turn that failed: thaw its last checkpoint");
    }
    return DW_OK;
}

/* --- the live instance --------------------------------------------------------------------------------------- */

static dw_status write_output(void *context, int stream, const void *data, size_t size) {
    dw_actor *actor = context;
    const dw_observer *observer = dw_door_observer(actor->door);
    if (stream == 1 && observer->on_text) observer->on_text(observer->context, data, size);
    if (stream == 2) dw_actor_log_write(actor, data, size);
    return DW_OK;
}

dw_status dw_actor_live(dw_actor *actor, dw_error *err) {
    if (actor->instance) return DW_OK;
    bool fresh = actor->image.memory_bytes == 0 && actor->turns == 0 && !actor->image.values.globals;
    dw_page_layout layout = {0};
    dw_image image;
    dw_actor_image_compact(&actor->image, dw_runtime_pages(actor->runtime));
    dw_status status = dw_actor_image_view(&actor->image, &layout, &image, err);
    if (status != DW_OK) return status;
    dw_instance_options options = {
        .image = fresh ? NULL : &image,
        .wasi_state = actor->image.values.wasi,
        .wasi = {.arguments = (const char *const *)actor->arguments, .write = write_output, .context = actor},
        .enter = dw_door_enter,
        .enter_context = actor->door,
        .memory_bytes_max = dw_runtime_memory_bytes_max(actor->runtime),
    };
    dw_instance *instance = NULL;
    status = dw_instance_create(actor->program, &options, &instance, err);
    dw_page_layout_deinit(&layout);
    if (status == DW_OK && fresh) status = dw_actor_image_of(&actor->image, instance, err);
    if (status == DW_OK) status = dw_region_mark(dw_instance_region(instance), DW_DIRTY_AUTO, err);
    if (status != DW_OK) {
        dw_instance_destroy(instance);
        return status;
    }
    actor->instance = instance;
    dw_actor_image_hold(&actor->image);
    return DW_OK;
}

void dw_actor_drop_instance(dw_actor *actor) {
    dw_instance_destroy(actor->instance);
    actor->instance = NULL;
    dw_actor_image_let_go(&actor->image);
}

/* --- looking ------------------------------------------------------------------------------------------------- */

void dw_actor_observe(dw_actor *actor, const dw_observer *observer) { dw_door_observe(actor->door, observer); }
const char *dw_actor_name(const dw_actor *actor) { return actor->name; }
uint64_t dw_actor_turns(const dw_actor *actor) { return actor->turns; }
dw_program *dw_actor_program(const dw_actor *actor) { return actor->program; }
size_t dw_actor_waiting(const dw_actor *actor) { return dw_inbox_waiting(actor->inbox); }
dw_guest_memory *dw_actor_memory(dw_actor *actor) {
    return actor->instance ? dw_instance_memory(actor->instance) : NULL;
}

dw_session *dw_actor_session(const dw_actor *actor, size_t index) {
    return index < actor->n_sessions ? actor->sessions[index]->shown.session : NULL;
}

dw_status dw_actor_send(dw_actor *actor, const void *body, size_t size, uint64_t realtime_ns, dw_error *err) {
    return dw_inbox_put(actor->inbox, body, size, realtime_ns ? realtime_ns : dw_os_realtime_ns(), err);
}

static void count_use_piece(void *context, const dw_page_piece *piece) {
    dw_actor_use *use = context;
    use->image_extents++;
    if (piece->stored) use->stored_bytes += piece->size;
}

dw_status dw_actor_use_now(dw_actor *actor, dw_actor_use *out, dw_error *err) {
    *out = (dw_actor_use){.memory_bytes = actor->image.memory_bytes, .sessions = (uint32_t)actor->n_sessions};
    dw_page_map_walk(&actor->image.pages, count_use_piece, out);
    for (size_t i = 0; i < actor->n_sessions; i++) {
        dw_session *session = actor->sessions[i]->shown.session;
        dw_session_use use;
        dw_status status = dw_session_use_now(session, &use, err);
        if (status != DW_OK) return status;
        uint32_t n_tokens = 0;
        dw_session_tokens(session, &n_tokens);
        out->tokens += n_tokens;
        out->rows += dw_session_rows(session);
        out->kv_bytes += use.kv_bytes;
        out->kv_own_bytes += use.own_bytes;
        out->kv_shared_bytes += use.shared_bytes;
        out->logits_bytes += use.logits_bytes;
    }
    return DW_OK;
}

static dw_status hash_rows(dw_hasher *hasher, const dw_session *session, uint32_t n_layers) {
    dw_status status = DW_OK;
    for (uint32_t layer = 0; layer < n_layers && status == DW_OK; layer++) {
        for (int which = 0; which < 2 && status == DW_OK; which++) {
            const void *rows = NULL;
            uint64_t bytes = 0;
            status = dw_session_kv_view(session, layer, which, &rows, &bytes);
            if (status == DW_OK && bytes) status = dw_hasher_update(hasher, rows, (size_t)bytes);
        }
    }
    return status;
}

/* One session's share of the hashes over all of them. */
static dw_status hash_session(const dw_session *session, dw_hasher *kv, dw_hasher *tokens, dw_hasher *logits) {
    uint32_t n_tokens = 0, n_held = 0;
    const int32_t *log = dw_session_tokens(session, &n_tokens);
    const float *held = dw_session_logits(session, &n_held);
    dw_status status = n_tokens ? dw_hasher_update(tokens, log, n_tokens * sizeof *log) : DW_OK;
    if (status == DW_OK) status = hash_rows(kv, session, dw_model_info_view(dw_session_model(session))->n_layers);
    if (status == DW_OK && n_held) status = dw_hasher_update(logits, held, n_held * sizeof *held);
    return status;
}

dw_status dw_actor_digest_of(dw_actor *actor, dw_actor_digest *out, dw_error *err) {
    dw_hasher *kv = NULL, *tokens = NULL, *logits = NULL;
    dw_status status = dw_actor_live(actor, err);
    if (status != DW_OK) return status;
    status = dw_hash_of(dw_region_base(dw_instance_region(actor->instance)), (size_t)actor->image.memory_bytes,
                        &out->memory);
    if (status == DW_OK) status = dw_hasher_create(&kv);
    if (status == DW_OK) status = dw_hasher_create(&tokens);
    if (status == DW_OK) status = dw_hasher_create(&logits);
    dw_actor_sessions_keep(actor);
    for (size_t i = 0; i < actor->n_sessions && status == DW_OK; i++)
        status = hash_session(actor->sessions[i]->shown.session, kv, tokens, logits);
    dw_actor_sessions_let_go(actor);
    if (status == DW_OK) status = dw_hasher_finish(kv, &out->kv);
    if (status == DW_OK) status = dw_hasher_finish(tokens, &out->tokens);
    if (status == DW_OK) status = dw_hasher_finish(logits, &out->logits);
    dw_hasher_destroy(kv);
    dw_hasher_destroy(tokens);
    dw_hasher_destroy(logits);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "hashing an actor failed");
}

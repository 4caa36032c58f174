/* freeze.c: an actor to a checkpoint and back, and a second actor with the same past.
 *
 * Freeze hands the checkpoint module views of live memory; thaw maps the file's pages; fork maps the parent's. The two
 * sections that only this module understands (mailbox, actor) are encoded here and in mailbox.c, and are untrusted when
 * they come back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"
#include "os/os.h"

/* --- the actor section: u32 version, u32 flags, u16 handle clock, u32 n, n x (u32 size, bytes): arguments --------- */

enum { ACTOR_SECTION_VERSION = 1, ACTOR_INITIALIZED = 1 };

void dw_state_free_arguments(char **arguments) {
    for (size_t i = 0; arguments && arguments[i]; i++) free(arguments[i]);
    free(arguments);
}

dw_status dw_state_encode_actor(const dw_actor *actor, bool initialized, uint8_t **out, size_t *size) {
    dw_writer writer;
    uint32_t n = 0;
    dw_writer_init(&writer);
    while (actor->arguments[n]) n++;
    dw_write_u32(&writer, ACTOR_SECTION_VERSION);
    dw_write_u32(&writer, initialized ? ACTOR_INITIALIZED : 0);
    dw_write_u32(&writer, dw_handle_clock(actor->handles));
    dw_write_u32(&writer, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t length = (uint32_t)strlen(actor->arguments[i]);
        dw_write_u32(&writer, length);
        dw_write_bytes(&writer, actor->arguments[i], length);
    }
    return dw_writer_finish(&writer, out, size);
}

static dw_status read_argument(dw_reader *reader, char **out) {
    uint32_t length = dw_read_u32(reader);
    if (reader->status == DW_OK && length > DW_ACTOR_ARGUMENT_BYTES_MAX) return DW_E_CORRUPT;
    const uint8_t *bytes = dw_read_bytes(reader, length);
    if (reader->status != DW_OK) return reader->status;
    if (length && memchr(bytes, 0, length)) return DW_E_CORRUPT;
    *out = calloc(1, length + 1u);
    if (!*out) return DW_E_NO_MEMORY;
    if (length) memcpy(*out, bytes, length);
    return DW_OK;
}

dw_status dw_state_decode_actor(const void *data, uint64_t size, dw_actor_section *out, dw_error *err) {
    *out = (dw_actor_section){0};
    dw_reader reader;
    dw_reader_init(&reader, data, size);
    uint32_t version = dw_read_u32(&reader), flags = dw_read_u32(&reader), clock = dw_read_u32(&reader),
             n = dw_read_u32(&reader);
    dw_status status = reader.status;
    if (status == DW_OK && version != ACTOR_SECTION_VERSION)
        return dw_fail_at(err, DW_E_VERSION, 0, "actor section of version %u", version);
    if (status == DW_OK && (flags > ACTOR_INITIALIZED || clock > UINT16_MAX || n > DW_ACTOR_ARGUMENTS_MAX))
        status = DW_E_CORRUPT;
    if (status == DW_OK) {
        out->arguments = calloc(n + 1u, sizeof *out->arguments);
        if (!out->arguments) status = DW_E_NO_MEMORY;
    }
    for (uint32_t i = 0; i < n && status == DW_OK; i++) status = read_argument(&reader, &out->arguments[i]);
    if (status == DW_OK && dw_reader_left(&reader) != 0) status = DW_E_CORRUPT;
    if (status != DW_OK) {
        dw_state_free_arguments(out->arguments);
        out->arguments = NULL;
        return dw_fail_at(err, status, reader.offset, "actor section");
    }
    out->initialized = flags == ACTOR_INITIALIZED;
    out->clock = (uint16_t)clock;
    return DW_OK;
}

/* --- freeze -------------------------------------------------------------------------------------------------- */

static dw_status rows_for_checkpoint(void *context, size_t session, uint32_t layer, int which, const void **out,
                                     uint64_t *bytes) {
    dw_actor *actor = context;
    return dw_session_kv_view(actor->sessions[session]->shown.session, layer, which, out, bytes);
}

dw_status dw_actor_describe_session(const dw_door_session *from, dw_checkpoint_session *to, dw_error *err) {
    dw_model *model = from->model->model;
    const dw_model_info *info = dw_model_info_view(model);
    *to = (dw_checkpoint_session){.handle = from->handle,
                                  .fast = dw_session_is_fast(from->session),
                                  .n_layers = info->n_layers,
                                  .n_heads_kv = info->n_heads_kv,
                                  .head_dim = info->head_dim,
                                  .kv_type = info->kv_type,
                                  .n_rows = dw_session_rows(from->session),
                                  .n_prefilled = dw_session_prefilled(from->session),
                                  .granted = dw_session_is_granted(from->session),
                                  .sampler = dw_session_sampler_state(from->session)};
    to->tokens = dw_session_tokens(from->session, &to->n_tokens);
    to->logits = dw_session_logits(from->session, &to->n_logits);
    snprintf(to->model_name, sizeof to->model_name, "%s", from->model->name);
    dw_model_profile(model, to->profile);
    return dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &to->model, err);
}

/* The program's source, or nothing where it cannot be had: the checkpoint is good without. */
static void read_program(dw_actor *actor, uint8_t **out, size_t *size) {
    dw_error why;
    const dw_hash *hash = &dw_program_info_view(actor->program)->hash;
    if (dw_runtime_program_source(actor->runtime, hash, out, size, &why) == DW_OK) return;
    dw_log(DW_LOG_WARN, "program_not_in_checkpoint", "actor=%s reason=\"%s\"", actor->name, why.text);
}

dw_status dw_actor_freeze(dw_actor *actor, const char *path, const dw_freeze_options *options,
                          dw_checkpoint_report *report, dw_error *err) {
    uint8_t *mailbox_section = NULL, *section = NULL, *program = NULL;
    size_t mailbox_bytes = 0, section_bytes = 0, program_bytes = 0;
    dw_checkpoint_session sessions[DW_SESSIONS_PER_ACTOR_MAX];
    dw_status status = dw_actor_usable(actor, err);
    if (status == DW_OK) status = dw_inbox_drain(actor->inbox, &actor->mailbox, err);
    if (status == DW_OK) status = dw_actor_live(actor, err);
    if (status != DW_OK) return status;
    dw_actor_sessions_keep(actor);
    for (size_t i = 0; i < actor->n_sessions && status == DW_OK; i++)
        status = dw_actor_describe_session(&actor->sessions[i]->shown, &sessions[i], err);
    if (status != DW_OK) goto out;
    if (!options || !options->without_program) read_program(actor, &program, &program_bytes);
    if (dw_state_encode_mailbox(&actor->mailbox, &mailbox_section, &mailbox_bytes) != DW_OK ||
        dw_state_encode_actor(actor, actor->initialized, &section, &section_bytes) != DW_OK) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory to freeze an actor");
    } else {
        dw_checkpoint_state state = {.program = dw_program_info_view(actor->program)->hash,
                                     .program_source = program,
                                     .program_bytes = program_bytes,
                                     .abi_version = DW_ABI_VERSION,
                                     .turn = actor->turns,
                                     .has_parent = actor->has_parent,
                                     .parent = actor->parent,
                                     .created_ns = dw_os_realtime_ns(),
                                     .memory = dw_region_base(dw_instance_region(actor->instance)),
                                     .memory_bytes = actor->image.memory_bytes,
                                     .globals = actor->image.values.globals,
                                     .n_globals = actor->image.values.n_globals,
                                     .tables = actor->image.values.tables,
                                     .n_tables = actor->image.values.n_tables,
                                     .wasi = actor->image.values.wasi,
                                     .sessions = sessions,
                                     .n_sessions = actor->n_sessions,
                                     .mailbox = mailbox_section,
                                     .mailbox_bytes = mailbox_bytes,
                                     .actor = section,
                                     .actor_bytes = section_bytes};
        snprintf(state.actor_name, sizeof state.actor_name, "%s", actor->name);
        dw_checkpoint_report own = {0};
        status = dw_checkpoint_write(path, &state, rows_for_checkpoint, actor, &own, err);
        if (status == DW_OK) {
            actor->has_parent = true;
            actor->parent = own.identity;
            if (report) *report = own;
        }
    }
out:
    dw_actor_sessions_let_go(actor);
    free(mailbox_section);
    free(section);
    free(program);
    return status;
}

/* --- thaw ---------------------------------------------------------------------------------------------------- */

static dw_status thawed_image(void *context, dw_actor *actor, const dw_image *values, dw_error *err) {
    dw_checkpoint *checkpoint = context;
    return dw_actor_image_over(&actor->image, dw_checkpoint_backing(checkpoint),
                               dw_checkpoint_memory_offset(checkpoint), values, err);
}

static dw_status thawed_session(void *context, size_t index, dw_model *model, dw_session_image *image,
                                dw_session **out, dw_error *err) {
    dw_checkpoint *checkpoint = context;
    uint32_t n_layers = dw_checkpoint_view(checkpoint)->sessions[index].n_layers;
    dw_kv_source *sources = calloc(n_layers, sizeof *sources);
    if (!sources) return dw_fail(err, DW_E_NO_MEMORY, "no memory to thaw a session");
    dw_status status = dw_checkpoint_kv_sources(checkpoint, index, sources, n_layers);
    image->backing = dw_checkpoint_backing(checkpoint);
    image->layers = sources;
    if (status == DW_OK) status = dw_model_restore_session(model, image, out, err);
    free(sources);
    return status;
}

/* Maps everything of a checked checkpoint. */
static dw_status thaw_checked(dw_runtime *runtime, dw_checkpoint *checkpoint, const dw_thaw_options *options,
                              dw_program *program, dw_actor **out, dw_thaw_report *report, dw_error *err) {
    const dw_restore_source source = {.state = dw_checkpoint_view(checkpoint), .image = thawed_image,
                                      .session = thawed_session, .context = checkpoint,
                                      .keep_grants = options->keep_grants};
    uint64_t start = dw_os_monotonic_ns();
    dw_status status = dw_actor_restore(runtime, &source, options, program, out, report, err);
    if (status != DW_OK) return status;
    (*out)->has_parent = true;
    (*out)->parent = *dw_checkpoint_identity(checkpoint);
    report->map_ns = dw_os_monotonic_ns() - start;
    return DW_OK;
}

/* The program that the file holds, or else the one of that hash that was run here. */
static dw_status program_of_checkpoint(dw_runtime *runtime, const dw_checkpoint_state *state, dw_program **out,
                                       dw_error *err) {
    if (state->program_bytes == 0) return dw_runtime_find_program(runtime, &state->program, out, err);
    return dw_runtime_adopt_program(runtime, state->program_source, (size_t)state->program_bytes, "section program",
                                    out, err);
}

dw_status dw_actor_thaw(dw_runtime *runtime, const char *path, const dw_thaw_options *options, dw_actor **out,
                        dw_thaw_report *report, dw_error *err) {
    static const dw_thaw_options defaults;
    dw_thaw_report own;
    dw_checkpoint *checkpoint = NULL;
    dw_program *program = NULL;
    if (!options) options = &defaults;
    if (!report) report = &own;
    *out = NULL;
    *report = (dw_thaw_report){.exact = true};

    uint64_t start = dw_os_monotonic_ns();
    dw_status status = dw_checkpoint_open(path, &checkpoint, err);
    report->open_ns = dw_os_monotonic_ns() - start;
    if (status == DW_OK) {
        start = dw_os_monotonic_ns();
        status = dw_checkpoint_verify(checkpoint, dw_os_cpu_count(), err);
        report->verify_ns = dw_os_monotonic_ns() - start;
        report->verified = status == DW_OK;
    }
    if (status == DW_OK) {
        if (options->program) program = dw_program_retain(options->program);
        else status = program_of_checkpoint(runtime, dw_checkpoint_view(checkpoint), &program, err);
    }
    if (status == DW_OK) status = thaw_checked(runtime, checkpoint, options, program, out, report, err);
    /* dw_checkpoint_open names the file itself */
    if (status != DW_OK && checkpoint) dw_error_prefix(err, status, "%s", path);
    dw_program_release(program);
    dw_checkpoint_close(checkpoint);
    return status;
}

/* --- fork ---------------------------------------------------------------------------------------------------- */

static dw_status fork_sessions(dw_actor *actor, dw_actor *child, dw_fork_report *report, dw_error *err) {
    dw_status status = DW_OK;
    for (size_t i = 0; i < actor->n_sessions && status == DW_OK; i++) {
        const dw_door_session *from = &actor->sessions[i]->shown;
        dw_held_session *added = NULL;
        dw_session *session = NULL;
        uint32_t n_tokens = 0;
        status = dw_session_fork(from->session, &session, err);
        if (status != DW_OK) break;
        dw_session_tokens(session, &n_tokens);
        report->tokens += n_tokens;
        report->kv_bytes +=
            (uint64_t)dw_session_rows(session) * dw_model_info_view(from->model->model)->kv_bytes_per_token;
        status = dw_actor_add_session(child, session, dw_model_entry_retain(from->model), from->handle, &added);
        if (status != DW_OK) return dw_fail(err, status, "a fork's session cannot take its handle");
    }
    return status;
}

static dw_status fork_state(dw_actor *actor, dw_actor *child, dw_fork_report *report, dw_error *err) {
    child->initialized = actor->initialized;
    child->turns = actor->turns;
    child->has_parent = actor->has_parent;
    child->parent = actor->parent;
    dw_actor_image_compact(&actor->image, dw_runtime_pages(actor->runtime)); /* once, for this fork and those to come */
    dw_status status = dw_actor_image_clone(&actor->image, &child->image, err);
    if (status == DW_OK && dw_mailbox_clone(&actor->mailbox, &child->mailbox) != DW_OK) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a mailbox");
    }
    if (status != DW_OK) return status;
    dw_inbox_adopt(child->inbox, &child->mailbox);
    status = fork_sessions(actor, child, report, err);
    if (status != DW_OK) return status;
    dw_handle_set_clock(child->handles, dw_handle_clock(actor->handles));
    return dw_actor_live(child, err);
}

dw_status dw_actor_fork(dw_actor *actor, const char *name, dw_actor **out, dw_fork_report *report, dw_error *err) {
    dw_fork_report own = {0};
    dw_actor *child = NULL;
    *out = NULL;
    uint64_t start = dw_os_monotonic_ns();
    const dw_actor_birth birth = {.name = name,
                                  .arguments = (const char *const *)actor->arguments,
                                  .observer = dw_door_observer(actor->door),
                                  .parents_owner = actor->owner,
                                  .priority = actor->priority};
    dw_status status = dw_actor_usable(actor, err);
    if (status == DW_OK) status = dw_inbox_drain(actor->inbox, &actor->mailbox, err);
    if (status == DW_OK) status = dw_actor_shell(actor->runtime, actor->program, &birth, &child, err);
    if (status != DW_OK) return status;
    status = fork_state(actor, child, &own, err);
    if (status != DW_OK) {
        dw_actor_destroy(child);
        return status;
    }
    own.ns = dw_os_monotonic_ns() - start;
    if (report) *report = own;
    *out = child;
    return DW_OK;
}

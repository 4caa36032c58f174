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

dw_status dw_state_encode_actor(const dw_actor *actor, uint8_t **out, size_t *size) {
    dw_writer writer;
    uint32_t n = 0;
    dw_writer_init(&writer);
    while (actor->arguments[n]) n++;
    dw_write_u32(&writer, ACTOR_SECTION_VERSION);
    dw_write_u32(&writer, actor->initialized ? ACTOR_INITIALIZED : 0);
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

static dw_status describe_session(const dw_door_session *from, dw_checkpoint_session *to, dw_error *err) {
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
        status = describe_session(&actor->sessions[i]->shown, &sessions[i], err);
    if (status != DW_OK) goto out;
    if (!options || !options->without_program) read_program(actor, &program, &program_bytes);
    if (dw_state_encode_mailbox(&actor->mailbox, &mailbox_section, &mailbox_bytes) != DW_OK ||
        dw_state_encode_actor(actor, &section, &section_bytes) != DW_OK) {
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

static dw_status check_thawed_program(const dw_checkpoint_state *state, const dw_program *program, dw_error *err) {
    const dw_program_info *info = dw_program_info_view(program);
    if (!dw_hash_equal(&info->hash, &state->program)) {
        char wanted[DW_HASH_HEX_BYTES], given[DW_HASH_HEX_BYTES];
        dw_hash_hex(&state->program, wanted);
        dw_hash_hex(&info->hash, given);
        return dw_fail(err, DW_E_MISMATCH, "the checkpoint is of program %.16s..., not of %.16s...", wanted, given);
    }
    if (state->abi_version > DW_ABI_VERSION) {
        return dw_fail(err, DW_E_VERSION, "the checkpoint uses guest ABI %u, this build knows %d", state->abi_version,
                       DW_ABI_VERSION);
    }
    if (state->n_globals != info->n_globals) {
        return dw_fail(err, DW_E_CORRUPT, "globals: %zu in the checkpoint, %u in the program", state->n_globals,
                       info->n_globals);
    }
    if (state->n_tables != info->n_tables) {
        return dw_fail(err, DW_E_CORRUPT, "tables: %zu in the checkpoint, the program's code changes %u",
                       state->n_tables, info->n_tables);
    }
    if (state->memory_bytes < info->image_bytes || state->memory_bytes > info->memory_max_bytes) {
        return dw_fail(err, DW_E_CORRUPT, "memory.0: %llu bytes do not fit the program",
                       (unsigned long long)state->memory_bytes);
    }
    return DW_OK;
}

/* The model of the runtime that this session's rows belong to, to be released. The reason given is that of the default
 * model. */
static dw_status take_fitting_model(dw_runtime *runtime, const dw_checkpoint_session *session, dw_model_entry **out,
                                    bool *exact, dw_error *err) {
    dw_model_entry *models[DW_RUNTIME_MODELS_MAX];
    size_t n_models = dw_runtime_take_models(runtime, models);
    dw_status first = DW_OK;
    *out = NULL;
    for (size_t i = 0; i < n_models; i++) {
        dw_status status =
            *out ? DW_E_MISMATCH : dw_checkpoint_session_fits(session, models[i]->model, exact, i == 0 ? err : NULL);
        if (i == 0) first = status;
        if (status == DW_OK) *out = models[i];
        else dw_model_entry_release(models[i]);
    }
    if (*out) return DW_OK;
    if (n_models > 0) return first;
    return dw_fail(err, DW_E_NOT_FOUND,
                   "the checkpoint holds a session with model '%s' and no model is open: name one with --model",
                   session->model_name);
}

static dw_status check_frozen_tokens(const dw_checkpoint_session *session, const dw_model_info *info, dw_error *err) {
    if (session->n_tokens > info->context_tokens) {
        return dw_fail(err, DW_E_LIMIT, "session %u holds %u tokens, a session here has room for %u: raise --context",
                       session->handle, session->n_tokens, info->context_tokens);
    }
    for (uint32_t i = 0; i < session->n_tokens; i++) {
        if (session->tokens[i] < 0 || (uint32_t)session->tokens[i] >= info->n_vocab) {
            return dw_fail(err, DW_E_CORRUPT, "tokens.%u: token %d at %u is outside the vocabulary", session->handle,
                           session->tokens[i], i);
        }
    }
    return DW_OK;
}

/* What the profile of this model says about an exact continuation. */
static void note_difference(const dw_checkpoint_session *from, const dw_model *model, dw_thaw_report *report) {
    char here[DW_PROFILE_BYTES];
    if (!report->exact) return;
    dw_model_profile(model, here);
    snprintf(report->profile_difference, sizeof report->profile_difference, "frozen with %s; here %s", from->profile,
             here);
    report->exact = false;
}

/* Under which a session of a checkpoint is taken: its rows have the bits that would be computed here; its grants are
 * believed. */
typedef struct dw_thaw_terms { bool exact, keep_grants; } dw_thaw_terms;

static dw_status restore_session(const dw_actor *actor, dw_checkpoint *checkpoint, size_t index, dw_model *model,
                                 const dw_thaw_terms *terms,
                                 dw_session **out, dw_error *err) {
    const dw_checkpoint_session *from = &dw_checkpoint_view(checkpoint)->sessions[index];
    dw_kv_source *sources = calloc(from->n_layers, sizeof *sources);
    if (!sources) return dw_fail(err, DW_E_NO_MEMORY, "no memory to thaw a session");
    dw_status status = dw_checkpoint_kv_sources(checkpoint, index, sources, from->n_layers);
    if (status == DW_OK) {
        dw_session_image image = {.tokens = from->tokens,
                                  .n_tokens = from->n_tokens,
                                  .n_rows = from->n_rows,
                                  .backing = dw_checkpoint_backing(checkpoint),
                                  .layers = sources,
                                  .logits = from->logits,
                                  .n_logits = from->n_logits,
                                  .sampler = from->sampler,
                                  .fast = from->fast,
                                  .granted = from->granted && terms->keep_grants,
                                  .n_prefilled = terms->exact ? from->n_prefilled : 0,
                                  .owner = actor->owner,
                                  .priority = actor->priority};
        status = dw_model_restore_session(model, &image, out, err);
    }
    free(sources);
    return status;
}

static dw_status thaw_session(dw_actor *actor, dw_checkpoint *checkpoint, size_t index, bool keep_grants,
                              dw_thaw_report *report, dw_error *err) {
    const dw_checkpoint_session *from = &dw_checkpoint_view(checkpoint)->sessions[index];
    dw_model_entry *model = NULL;
    dw_session *session = NULL;
    dw_held_session *added = NULL;
    bool exact = false;
    if (from->handle == 0) return dw_fail(err, DW_E_CORRUPT, "session.0: no session has this handle");
    dw_status status = take_fitting_model(actor->runtime, from, &model, &exact, err);
    if (status != DW_OK) return status;
    const dw_model_info *info = dw_model_info_view(model->model);
    status = check_frozen_tokens(from, info, err);
    if (status == DW_OK && !exact) note_difference(from, model->model, report);
    const dw_thaw_terms terms = {exact, keep_grants};
    if (status == DW_OK) status = restore_session(actor, checkpoint, index, model->model, &terms, &session, err);
    if (status != DW_OK) {
        dw_model_entry_release(model);
        return status;
    }
    report->tokens += from->n_tokens;
    report->tokens_reused += from->n_rows;
    report->tokens_pending += from->n_tokens - from->n_rows;
    report->logits_bytes += from->n_logits * sizeof from->logits[0];
    report->kv_bytes += (uint64_t)from->n_rows * info->kv_bytes_per_token;
    status = dw_actor_add_session(actor, session, model, from->handle, &added);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "session.%u: its handle cannot be taken", from->handle);
}

/* Maps everything of a checked checkpoint into an actor without state. */
static dw_status thaw_state(dw_actor *actor, dw_checkpoint *checkpoint, bool keep_grants, dw_thaw_report *report,
                            dw_error *err) {
    const dw_checkpoint_state *state = dw_checkpoint_view(checkpoint);
    const dw_image values = {.memory_bytes = state->memory_bytes,
                             .globals = state->globals,
                             .n_globals = state->n_globals,
                             .tables = state->tables,
                             .n_tables = state->n_tables,
                             .wasi = state->wasi};
    dw_status status = dw_actor_image_over(&actor->image, dw_checkpoint_backing(checkpoint),
                                           dw_checkpoint_memory_offset(checkpoint), &values, err);
    if (status == DW_OK) status = dw_state_decode_mailbox(state->mailbox, state->mailbox_bytes, &actor->mailbox, err);
    if (status == DW_OK) dw_inbox_adopt(actor->inbox, &actor->mailbox);
    for (size_t i = 0; i < state->n_sessions && status == DW_OK; i++)
        status = thaw_session(actor, checkpoint, i, keep_grants, report, err);
    if (status != DW_OK) return status;
    actor->turns = state->turn;
    actor->has_parent = true;
    actor->parent = *dw_checkpoint_identity(checkpoint);
    report->memory_bytes = state->memory_bytes;
    return dw_actor_live(actor, err);
}

static dw_status thaw_checked(dw_runtime *runtime, dw_checkpoint *checkpoint, const dw_thaw_options *options,
                              dw_program *program, dw_actor **out, dw_thaw_report *report, dw_error *err) {
    const dw_checkpoint_state *state = dw_checkpoint_view(checkpoint);
    dw_actor_section section = {0};
    dw_actor *actor = NULL;
    uint64_t start = dw_os_monotonic_ns();
    dw_status status = check_thawed_program(state, program, err);
    if (status == DW_OK) status = dw_state_decode_actor(state->actor, state->actor_bytes, &section, err);
    const dw_actor_birth birth = {.name = options->name ? options->name : state->actor_name,
                                  .arguments = (const char *const *)section.arguments, .observer = options->observer,
                                  .owner = options->owner, .priority = options->priority};
    if (status == DW_OK) status = dw_actor_shell(runtime, program, &birth, &actor, err);
    if (status == DW_OK) actor->initialized = section.initialized;
    if (status == DW_OK) status = thaw_state(actor, checkpoint, options->keep_grants, report, err);
    if (status == DW_OK) dw_handle_set_clock(actor->handles, section.clock);
    dw_state_free_arguments(section.arguments);
    if (status != DW_OK) {
        dw_actor_destroy(actor);
        return status;
    }
    report->map_ns = dw_os_monotonic_ns() - start;
    *out = actor;
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

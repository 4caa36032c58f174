/* restore.c: an actor of a state: what a thaw and a wake have in common. Where memory and rows come from is the
 * source's business. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

static dw_status check_restored_program(const dw_checkpoint_state *state, const dw_program *program, dw_error *err) {
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

/* Makes a session of the state with a model that fits; its rows come from the source. */
static dw_status make_session(const dw_actor *actor, const dw_restore_source *source, size_t index, dw_model *model,
                              bool exact, dw_session **out, dw_error *err) {
    const dw_checkpoint_session *from = &source->state->sessions[index];
    dw_session_image image = {.tokens = from->tokens,
                              .n_tokens = from->n_tokens,
                              .logits = from->logits,
                              .n_logits = from->n_logits,
                              .sampler = from->sampler,
                              .fast = from->fast,
                              .granted = from->granted && source->keep_grants,
                              .n_prefilled = exact ? from->n_prefilled : 0,
                              .n_rows = from->n_rows,
                              .owner = actor->owner,
                              .priority = actor->priority};
    return source->session(source->context, index, model, &image, out, err);
}

static dw_status restore_session(dw_actor *actor, const dw_restore_source *source, size_t index,
                                 dw_thaw_report *report, dw_error *err) {
    const dw_checkpoint_session *from = &source->state->sessions[index];
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
    if (status == DW_OK) status = make_session(actor, source, index, model->model, exact, &session, err);
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

static dw_status restore_mailbox(dw_actor *actor, const dw_restore_source *source, dw_error *err) {
    const dw_checkpoint_state *state = source->state;
    dw_status status = dw_state_decode_mailbox(state->mailbox, state->mailbox_bytes, &actor->mailbox, err);
    if (status == DW_OK && source->messages) status = source->messages(source->context, &actor->mailbox, err);
    if (status == DW_OK) dw_inbox_adopt(actor->inbox, &actor->mailbox);
    return status;
}

/* Everything of the state into an actor without one. */
static dw_status restore_state(dw_actor *actor, const dw_restore_source *source, dw_thaw_report *report,
                               dw_error *err) {
    const dw_checkpoint_state *state = source->state;
    const dw_image values = {.memory_bytes = state->memory_bytes,
                             .globals = state->globals,
                             .n_globals = state->n_globals,
                             .tables = state->tables,
                             .n_tables = state->n_tables,
                             .wasi = state->wasi};
    dw_status status = source->image(source->context, actor, &values, err);
    if (status == DW_OK) status = restore_mailbox(actor, source, err);
    for (size_t i = 0; i < state->n_sessions && status == DW_OK; i++)
        status = restore_session(actor, source, i, report, err);
    if (status != DW_OK) return status;
    actor->turns = state->turn;
    actor->has_parent = state->has_parent;
    actor->parent = state->parent;
    report->memory_bytes = state->memory_bytes;
    return dw_actor_live(actor, err);
}

dw_status dw_actor_restore(dw_runtime *runtime, const dw_restore_source *source, const dw_thaw_options *options,
                           dw_program *program, dw_actor **out, dw_thaw_report *report, dw_error *err) {
    const dw_checkpoint_state *state = source->state;
    dw_actor_section section = {0};
    dw_actor *actor = NULL;
    *out = NULL;
    dw_status status = check_restored_program(state, program, err);
    if (status == DW_OK) status = dw_state_decode_actor(state->actor, state->actor_bytes, &section, err);
    const dw_actor_birth birth = {.name = options->name ? options->name : state->actor_name,
                                  .arguments = (const char *const *)section.arguments, .observer = options->observer,
                                  .owner = options->owner, .priority = options->priority};
    if (status == DW_OK) status = dw_actor_shell(runtime, program, &birth, &actor, err);
    if (status == DW_OK) actor->initialized = section.initialized;
    if (status == DW_OK) status = restore_state(actor, source, report, err);
    if (status == DW_OK) dw_handle_set_clock(actor->handles, section.clock);
    dw_state_free_arguments(section.arguments);
    if (status == DW_OK) *out = actor;
    else dw_actor_destroy(actor);
    return status;
}

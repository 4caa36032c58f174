/* keep.c: what a commit changes, as its keeper wants it (keep.h). */
#include "actor/keep.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/actor_internal.h"
#include "actor/commit.h"

void dw_actor_keep_with(dw_actor *actor, const dw_keeper *keeper) {
    assert(!actor->in_turn);
    actor->keeper = keeper ? *keeper : (dw_keeper){0};
}

uint64_t dw_actor_last_message(const dw_actor *actor) { return dw_inbox_last(actor->inbox); }

void dw_actor_change_deinit(dw_actor_change *change) {
    for (size_t i = 0; i < change->n_rows; i++) free(change->rows[i].data);
    free(change->rows);
    free(change->state);
    *change = (dw_actor_change){0};
}

/* --- the state ----------------------------------------------------------------------------------------------- */

/* What an actor's state is with a plan, or without one. */
typedef struct dw_state_parts {
    const dw_actor *actor;
    const dw_image_values *values;
    uint64_t turn, memory_bytes;
    bool initialized;
} dw_state_parts;

static dw_status describe_sessions(const dw_actor *actor, dw_checkpoint_session *out, size_t *n, dw_error *err) {
    dw_status status = DW_OK;
    *n = 0;
    for (size_t i = 0; i < actor->n_sessions && status == DW_OK; i++) {
        if (actor->sessions[i]->closed) continue;
        status = dw_actor_describe_session(&actor->sessions[i]->shown, &out[(*n)++], err);
    }
    return status;
}

static dw_status encode_kept_state(const dw_state_parts *parts, uint8_t **out, size_t *size, dw_error *err) {
    const dw_actor *actor = parts->actor;
    const dw_mailbox none = {.next_id = actor->mailbox.next_id}; /* rule 3 */
    dw_checkpoint_session sessions[DW_SESSIONS_PER_ACTOR_MAX];
    uint8_t *mailbox = NULL, *section = NULL;
    size_t n_sessions = 0, mailbox_bytes = 0, section_bytes = 0;
    dw_status status = describe_sessions(actor, sessions, &n_sessions, err);
    if (status == DW_OK && (dw_state_encode_mailbox(&none, &mailbox, &mailbox_bytes) != DW_OK ||
                            dw_state_encode_actor(actor, parts->initialized, &section, &section_bytes) != DW_OK))
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's state");
    dw_checkpoint_state state = {.program = dw_program_info_view(actor->program)->hash,
                                 .abi_version = DW_ABI_VERSION,
                                 .turn = parts->turn,
                                 .has_parent = actor->has_parent,
                                 .parent = actor->parent,
                                 .created_ns = parts->values->wasi.birth_realtime_ns,
                                 .memory_bytes = parts->memory_bytes,
                                 .globals = parts->values->globals,
                                 .n_globals = parts->values->n_globals,
                                 .tables = parts->values->tables,
                                 .n_tables = parts->values->n_tables,
                                 .wasi = parts->values->wasi,
                                 .sessions = sessions,
                                 .n_sessions = n_sessions,
                                 .mailbox = mailbox,
                                 .mailbox_bytes = mailbox_bytes,
                                 .actor = section,
                                 .actor_bytes = section_bytes};
    snprintf(state.actor_name, sizeof state.actor_name, "%s", actor->name);
    if (status == DW_OK) status = dw_blob_encode(&state, out, size, err);
    free(mailbox);
    free(section);
    return status;
}

/* --- streams ------------------------------------------------------------------------------------------------- */

static dw_kept_rows *add_stream(dw_actor_change *change, uint64_t stream, uint32_t row_bytes) {
    dw_kept_rows *rows = &change->rows[change->n_rows++];
    *rows = (dw_kept_rows){.stream = stream, .row_bytes = row_bytes};
    return rows;
}

static dw_status reserve_rows(dw_kept_rows *rows, uint64_t first, uint64_t n, dw_error *err) {
    rows->first = first;
    rows->n = n;
    if (n == 0) return DW_OK;
    rows->data = malloc((size_t)(n * rows->row_bytes));
    return rows->data ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory to keep %llu rows", (unsigned long long)n);
}

static dw_status add_tokens(dw_actor_change *change, dw_held_session *session, uint32_t same, dw_error *err) {
    uint32_t n = 0;
    const int32_t *log = dw_session_tokens(session->shown.session, &n);
    session->change.tokens = n;
    if (same == n && n == session->kept.tokens) return DW_OK;
    dw_kept_rows *rows = add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_TOKENS),
                                    DW_KEPT_NUMBER_BYTES);
    dw_status status = reserve_rows(rows, same, n - same, err);
    if (status == DW_OK && n > same) memcpy(rows->data, log + same, (size_t)(n - same) * sizeof *log);
    return status;
}

static dw_status add_rows(dw_actor_change *change, dw_held_session *session, uint32_t same, dw_error *err) {
    dw_session *from = session->shown.session;
    uint32_t n = dw_session_rows(from);
    session->change.rows = n;
    if (same == n && n == session->kept.rows) return DW_OK;
    dw_kept_rows *rows = add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_ROWS),
                                    dw_session_row_bytes(from));
    dw_status status = reserve_rows(rows, same, n - same, err);
    return status == DW_OK && n > same ? dw_session_read_rows(from, same, n - same, rows->data, err) : status;
}

/* Logits are those that were kept only where every token and row is. */
static dw_status add_logits(dw_actor_change *change, dw_held_session *session, bool same, dw_error *err) {
    uint32_t n = 0;
    const float *held = dw_session_logits(session->shown.session, &n);
    session->change.logits = n;
    if (n == session->kept.logits && (n == 0 || same)) return DW_OK;
    dw_kept_rows *rows = add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_LOGITS),
                                    DW_KEPT_NUMBER_BYTES);
    dw_status status = reserve_rows(rows, 0, n, err);
    if (status == DW_OK && n > 0) memcpy(rows->data, held, n * sizeof *held);
    return status;
}

static dw_status add_session_streams(dw_actor_change *change, dw_held_session *session, dw_error *err) {
    uint32_t same_tokens = 0, same_rows = 0;
    if (!session->opened) dw_session_same(session->shown.session, &same_tokens, &same_rows);
    dw_status status = add_tokens(change, session, same_tokens, err);
    if (status == DW_OK) status = add_rows(change, session, same_rows, err);
    const dw_stream_lengths *now = &session->change, *kept = &session->kept;
    bool same = same_tokens == now->tokens && same_rows == now->rows && now->tokens == kept->tokens &&
                now->rows == kept->rows;
    return status == DW_OK ? add_logits(change, session, same, err) : status;
}

/* Whether another session has the closed one's number by now. */
static bool handle_is_taken(const dw_actor *actor, const dw_held_session *closed) {
    for (size_t i = 0; i < actor->n_sessions; i++)
        if (!actor->sessions[i]->closed && actor->sessions[i]->shown.handle == closed->shown.handle) return true;
    return false;
}

/* The streams of a session that was closed go. */
static void add_ends(dw_actor_change *change, const dw_held_session *session) {
    if (session->kept.tokens > 0)
        (void)add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_TOKENS), DW_KEPT_NUMBER_BYTES);
    if (session->kept.rows > 0)
        (void)add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_ROWS),
                         dw_session_row_bytes(session->shown.session));
    if (session->kept.logits > 0)
        (void)add_stream(change, dw_stream_of(session->shown.handle, DW_STREAM_LOGITS), DW_KEPT_NUMBER_BYTES);
}

static dw_status add_streams(dw_actor_change *change, const dw_actor *actor, dw_error *err) {
    dw_status status = DW_OK;
    if (actor->n_sessions == 0) return DW_OK;
    change->rows = calloc(3 * actor->n_sessions, sizeof *change->rows);
    if (!change->rows) return dw_fail(err, DW_E_NO_MEMORY, "no memory to keep %zu sessions", actor->n_sessions);
    for (size_t i = 0; i < actor->n_sessions && status == DW_OK; i++) {
        dw_held_session *session = actor->sessions[i];
        if (!session->closed) status = add_session_streams(change, session, err);
        else if (!session->opened && !handle_is_taken(actor, session)) add_ends(change, session);
    }
    return status;
}

/* --- changes ------------------------------------------------------------------------------------------------- */

dw_status dw_actor_change_make(const dw_commit_plan *plan, dw_actor_change *out, dw_error *err) {
    dw_actor *actor = plan->actor;
    const dw_state_parts parts = {.actor = actor, .values = &plan->image.values, .turn = actor->turns + 1,
                                  .memory_bytes = plan->image.memory_bytes, .initialized = true};
    *out = (dw_actor_change){.actor = actor,
                             .turn = parts.turn,
                             .message = dw_mailbox_first(&actor->mailbox)->id,
                             .written = plan->image.written.items,
                             .n_written = plan->image.written.count,
                             .memory = plan->image.memory,
                             .memory_bytes = plan->image.memory_bytes,
                             .memory_bytes_before = actor->image.memory_bytes,
                             .reply = plan->reply,
                             .reply_size = plan->reply_size};
    dw_actor_sessions_keep(actor); /* state and streams are of one moment */
    dw_status status = add_streams(out, actor, err);
    if (status == DW_OK) status = encode_kept_state(&parts, &out->state, &out->state_bytes, err);
    dw_actor_sessions_let_go(actor);
    if (status != DW_OK) dw_actor_change_deinit(out);
    return status;
}

dw_status dw_actor_birth_change(const dw_actor *actor, dw_actor_change *out, dw_error *err) {
    const dw_state_parts parts = {.actor = actor, .values = &actor->image.values,
                                  .memory_bytes = actor->image.memory_bytes, .initialized = actor->initialized};
    assert(actor->turns == 0 && actor->n_sessions == 0);
    *out = (dw_actor_change){.actor = (dw_actor *)(uintptr_t)actor, .memory_bytes = actor->image.memory_bytes,
                             .memory_bytes_before = actor->image.memory_bytes};
    return encode_kept_state(&parts, &out->state, &out->state_bytes, err);
}

/* sessions.c: an actor's sessions, and how a turn that ends badly puts them back.
 *
 * At the beginning of a turn only three numbers of each session are noted, length, rows and sampler state, and a
 * reference to the logits that it holds. Rolling back is a rewind then, since rows are append-only. Only where the turn
 * cuts a log below its old length would rows be lost: before that the session is saved by a fork, which shares all
 * pages. A closed session stays until commit. */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

static dw_status give_handle(dw_actor *actor, dw_held_session *added, dw_handle handle_or_0) {
    if (actor->n_sessions == DW_SESSIONS_PER_ACTOR_MAX) return DW_E_LIMIT;
    added->opened = handle_or_0 == 0;
    added->shown.handle = handle_or_0;
    return handle_or_0 ? dw_handle_reopen(actor->handles, DW_HANDLE_SESSION, added, handle_or_0)
                       : dw_handle_open(actor->handles, DW_HANDLE_SESSION, added, &added->shown.handle);
}

dw_status dw_actor_add_session(dw_actor *actor, dw_session *session, dw_model_entry *model, dw_handle handle_or_0,
                               dw_held_session **out) {
    *out = NULL;
    dw_held_session *added = calloc(1, sizeof *added);
    dw_status status = added ? give_handle(actor, added, handle_or_0) : DW_E_NO_MEMORY;
    if (status != DW_OK) {
        free(added);
        dw_session_destroy(session);
        dw_model_entry_release(model);
        return status;
    }
    added->shown.session = session;
    added->shown.model = model;
    actor->sessions[actor->n_sessions++] = added;
    *out = added;
    return DW_OK;
}

static void drop_noted_logits(dw_held_session *session) {
    dw_logits_release(session->start_logits);
    session->start_logits = NULL;
}

static void destroy_actor_session(dw_held_session *session) {
    drop_noted_logits(session);
    dw_session_destroy(session->saved);
    dw_session_destroy(session->shown.session);
    dw_model_entry_release(session->shown.model);
    free(session);
}

/* --- as the door sees them ----------------------------------------------------------------------------------- */

static dw_door_session *find_for_door(void *context, dw_handle handle) {
    dw_actor *actor = context;
    dw_held_session *found = dw_handle_get(actor->handles, DW_HANDLE_SESSION, handle);
    return found ? &found->shown : NULL;
}

static bool room_for_door(void *context) { return ((const dw_actor *)context)->n_sessions < DW_SESSIONS_PER_ACTOR_MAX; }

static dw_status add_for_door(void *context, dw_session *session, dw_model_entry *model, dw_door_session **out) {
    dw_held_session *added = NULL;
    dw_status status = dw_actor_add_session(context, session, model, 0, &added);
    *out = added ? &added->shown : NULL;
    return status;
}

static dw_status save_for_door(void *context, dw_door_session *shown, uint32_t n_tokens) {
    dw_held_session *session = (dw_held_session *)shown;
    (void)context;
    if (session->opened || session->saved || n_tokens >= session->start_tokens) return DW_OK;
    return dw_session_fork(shown->session, &session->saved, NULL);
}

static void close_for_door(void *context, dw_door_session *shown) {
    dw_actor *actor = context;
    dw_handle_close(actor->handles, DW_HANDLE_SESSION, shown->handle);
    ((dw_held_session *)shown)->closed = true;
}

dw_door_sessions dw_actor_sessions_for_door(dw_actor *actor) {
    return (dw_door_sessions){.find = find_for_door, .room = room_for_door, .add = add_for_door, .save = save_for_door,
                              .close = close_for_door, .context = actor};
}

/* --- a turn -------------------------------------------------------------------------------------------------- */

void dw_actor_sessions_begin(dw_actor *actor) {
    actor->start_clock = dw_handle_clock(actor->handles);
    for (size_t i = 0; i < actor->n_sessions; i++) {
        dw_held_session *session = actor->sessions[i];
        dw_session_tokens(session->shown.session, &session->start_tokens);
        session->start_rows = dw_session_rows(session->shown.session);
        session->start_sampler = dw_session_sampler_state(session->shown.session);
        session->start_logits = dw_session_note_logits(session->shown.session);
        session->opened = session->closed = false;
    }
}

void dw_actor_sessions_commit(dw_actor *actor) {
    size_t kept = 0;
    for (size_t i = 0; i < actor->n_sessions; i++) {
        dw_held_session *session = actor->sessions[i];
        if (session->closed) {
            destroy_actor_session(session);
            continue;
        }
        dw_session_destroy(session->saved);
        session->saved = NULL;
        drop_noted_logits(session);
        session->opened = false;
        actor->sessions[kept++] = session;
    }
    actor->n_sessions = kept;
    if (actor->keeper.keep) dw_actor_sessions_kept(actor);
}

void dw_actor_sessions_kept(dw_actor *actor) {
    for (size_t i = 0; i < actor->n_sessions; i++) {
        dw_held_session *session = actor->sessions[i];
        session->kept = session->change;
        dw_session_mark(session->shown.session);
    }
}

/* Back to what was noted. Tokens that were pending at the beginning may have got rows since: these go too, because
 * the shape in which a row is computed belongs to its bits (session.h rule 2). */
static dw_status restore_numbers(dw_held_session *session, dw_error *err) {
    if (session->saved) {
        dw_session_destroy(session->shown.session);
        session->shown.session = session->saved;
        session->saved = NULL;
    }
    dw_status status = dw_session_rewind_rows(session->shown.session, session->start_tokens, session->start_rows, err);
    dw_session_set_sampler_state(session->shown.session, session->start_sampler);
    if (status == DW_OK) dw_session_put_logits_back(session->shown.session, session->start_logits);
    drop_noted_logits(session);
    return status;
}

dw_status dw_actor_sessions_rollback(dw_actor *actor, dw_error *err) {
    dw_status status = DW_OK;
    size_t kept = 0;
    for (size_t i = 0; i < actor->n_sessions; i++) { /* handles first: a closed one may have to take its slot back */
        dw_held_session *session = actor->sessions[i];
        if (session->opened && !session->closed)
            dw_handle_close(actor->handles, DW_HANDLE_SESSION, session->shown.handle);
    }
    for (size_t i = 0; i < actor->n_sessions; i++) {
        dw_held_session *session = actor->sessions[i];
        if (session->opened) {
            destroy_actor_session(session);
            continue;
        }
        if (session->closed) {
            dw_status reopened = dw_handle_reopen(actor->handles, DW_HANDLE_SESSION, session, session->shown.handle);
            if (reopened != DW_OK) status = dw_fail(err, DW_E_INTERNAL, "a session's handle was taken");
            session->closed = false;
        }
        dw_status restored = restore_numbers(session, err);
        if (restored != DW_OK) status = restored;
        actor->sessions[kept++] = session;
    }
    actor->n_sessions = kept;
    dw_handle_set_clock(actor->handles, actor->start_clock);
    return status;
}

void dw_actor_sessions_keep(dw_actor *actor) {
    for (size_t i = 0; i < actor->n_sessions; i++) dw_session_keep(actor->sessions[i]->shown.session);
}

void dw_actor_sessions_let_go(dw_actor *actor) {
    for (size_t i = 0; i < actor->n_sessions; i++) dw_session_let_go(actor->sessions[i]->shown.session);
}

void dw_actor_sessions_destroy(dw_actor *actor) {
    for (size_t i = 0; i < actor->n_sessions; i++) destroy_actor_session(actor->sessions[i]);
    actor->n_sessions = 0;
}

/* actor_internal.h: what the files of src/actor share. Nobody else includes it. */
#ifndef DW_ACTOR_INTERNAL_H
#define DW_ACTOR_INTERNAL_H

#include "actor/actor.h"
#include "actor/image.h"
#include "actor/inbox.h"
#include "actor/keep.h"
#include "driftwood/guest.h"

/* --- actor.c: state ------------------------------------------------------------------------------------------ */

enum { DW_HANDLE_SESSION = 1 };

typedef struct dw_stream_lengths { uint32_t tokens, rows, logits; } dw_stream_lengths;

/* A session of an actor, and what a rollback needs to know of it. */
typedef struct dw_held_session {
    dw_door_session shown;        /* to the door; first */
    /* within a turn */
    bool opened, closed;
    uint32_t start_tokens, start_rows;
    dw_sampler_state start_sampler;
    dw_logits *start_logits;      /* held then; NULL: none */
    dw_session *saved;            /* as at the turn's beginning, taken before the log was cut below start_tokens */
    /* Of a kept actor: lengths of the session's streams with its keeper, and of those with the change that is made. */
    dw_stream_lengths kept, change;
} dw_held_session;

/* The line that the guest has begun to write to standard error: guest_log.c. */
typedef struct dw_guest_log { char *bytes; size_t size; } dw_guest_log;

struct dw_actor {
    dw_runtime *runtime;
    dw_program *program;
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    uint64_t owner;
    dw_priority priority;
    char **arguments;             /* NULL-terminated, owned */
    dw_actor_image image;         /* as last committed */
    bool initialized;             /* start function and _initialize are part of the image */
    uint64_t turns;
    bool broken;                  /* a rollback failed (no memory): refuses turns, freezing and forking from then on */
    dw_instance *instance;        /* live, or NULL: restored from the image when needed */
    dw_handle_table *handles;     /* of dw_held_session */
    /* In the order in which they were opened; closed ones leave at commit. */
    dw_held_session *sessions[DW_SESSIONS_PER_ACTOR_MAX];
    size_t n_sessions;
    dw_inbox *inbox;
    dw_mailbox mailbox;
    bool has_parent;
    dw_hash parent;
    dw_keeper keeper;             /* keep NULL: none */

    /* the running turn */
    dw_door *door;
    bool in_turn;
    uint16_t start_clock;
    dw_guest_log log;
};

/* What makes an actor without image, sessions or messages. */
typedef struct dw_actor_birth {
    const char *name;
    const char *const *arguments;
    const dw_observer *observer;
    uint64_t owner;               /* as in dw_actor_options */
    uint64_t parents_owner;       /* of a fork; instead of `owner` */
    dw_priority priority;
} dw_actor_birth;

dw_status dw_actor_shell(dw_runtime *runtime, dw_program *program, const dw_actor_birth *birth, dw_actor **out,
                         dw_error *err) DW_MUST_USE;
/* DW_E_BUSY inside a turn, DW_E_STATE when broken. */
dw_status dw_actor_usable(const dw_actor *actor, dw_error *err) DW_MUST_USE;
/* The live instance, restored from the image if need be, its region marked. */
dw_status dw_actor_live(dw_actor *actor, dw_error *err) DW_MUST_USE;
void dw_actor_drop_instance(dw_actor *actor);

/* guest_log.c: lines of standard error go to the observer when they end, and at the turn's end. */
void dw_actor_log_write(dw_actor *actor, const char *text, size_t size);
void dw_actor_log_flush(dw_actor *actor);

/* sessions.c */
/* As the door wants it. */
dw_door_sessions dw_actor_sessions_for_door(dw_actor *actor);
/* Takes session and model over, also when it fails. handle_or_0: the number it has to have again, or 0 for a new
 * one. */
dw_status dw_actor_add_session(dw_actor *actor, dw_session *session, dw_model_entry *model, dw_handle handle_or_0,
                               dw_held_session **out) DW_MUST_USE;
void dw_actor_sessions_begin(dw_actor *actor);
void dw_actor_sessions_commit(dw_actor *actor);
/* The change has been kept. */
void dw_actor_sessions_kept(dw_actor *actor);
dw_status dw_actor_sessions_rollback(dw_actor *actor, dw_error *err) DW_MUST_USE;
/* While the actor's rows are looked at, nobody may evict them (model.h). */
void dw_actor_sessions_keep(dw_actor *actor);
void dw_actor_sessions_let_go(dw_actor *actor);
void dw_actor_sessions_destroy(dw_actor *actor);

/* keep.c: the change of a plan's commit; *out is the caller's. */
struct dw_commit_plan;
dw_status dw_actor_change_make(const struct dw_commit_plan *plan, dw_actor_change *out, dw_error *err) DW_MUST_USE;

/* freeze.c: the section of a checkpoint that only this module understands, beside that of the mailbox. Untrusted when
 * read. */
typedef struct dw_actor_section { bool initialized; uint16_t clock; char **arguments; } dw_actor_section;
dw_status dw_state_encode_actor(const dw_actor *actor, bool initialized, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_state_decode_actor(const void *data, uint64_t size, dw_actor_section *out, dw_error *err) DW_MUST_USE;
void dw_state_free_arguments(char **arguments);
/* All of a session; tokens and logits are borrowed. */
dw_status dw_actor_describe_session(const dw_door_session *from, dw_checkpoint_session *to, dw_error *err) DW_MUST_USE;

/* restore.c: where an actor's state comes from. */
typedef struct dw_restore_source {
    const dw_checkpoint_state *state; /* checked; with the tokens of its sessions */
    /* The image of its memory, into an actor that has none; `values` are the rest of it. */
    dw_status (*image)(void *context, dw_actor *actor, const dw_image *values, dw_error *err);
    /* A session of the state with a model that fits; `image` says everything but where rows are. */
    dw_status (*session)(void *context, size_t index, dw_model *model, dw_session_image *image, dw_session **out,
                         dw_error *err);
    /* Messages that wait beside those of the state, into the mailbox; NULL: none. */
    dw_status (*messages)(void *context, dw_mailbox *box, dw_error *err);
    void *context;
    bool keep_grants;             /* the source is trusted: sessions that were granted are again */
} dw_restore_source;
/* The program is retained. Adds to *report. */
dw_status dw_actor_restore(dw_runtime *runtime, const dw_restore_source *source, const dw_thaw_options *options,
                           dw_program *program, dw_actor **out, dw_thaw_report *report, dw_error *err) DW_MUST_USE;

#endif

/* actor_internal.h: what the files of src/actor share. Nobody else includes it. */
#ifndef DW_ACTOR_INTERNAL_H
#define DW_ACTOR_INTERNAL_H

#include <stdatomic.h>
#include "actor/actor.h"
#include "actor/image.h"
#include "actor/port.h"
#include "driftwood/guest.h"

/* --- runtime.c ----------------------------------------------------------------------------------------------- */

enum { MODELS_MAX = 16, COMPUTE_DEVICES_MAX = 8, MODEL_NAME_BYTES = 128 };

typedef struct runtime_model {
    char name[MODEL_NAME_BYTES];
    dw_model *model;
} runtime_model;

typedef struct compute_device {
    char name[32];
    dw_device *device;
    dw_os_mutex *mutex;  /* one computation at a time */
} compute_device;

struct dw_runtime {
    dw_wasm_engine *wasm;
    dw_page_store *pages;     /* committed pages of all actors */
    char device_name[32];
    unsigned threads;
    char cache_folder[512];
    dw_model_options model_options;
    dw_device *engine_device; /* the models' */
    dw_engine *engine;
    /* Entries are added under the mutex, and stay as and where they are. */
    dw_os_mutex *models_mutex, *compute_mutex;
    runtime_model models[MODELS_MAX];
    size_t n_models;
    compute_device compute[COMPUTE_DEVICES_MAX]; /* opened when first asked for */
    size_t n_compute;
    _Atomic uint64_t next_owner;
    dw_device *device; /* the default device for looking at it; first of compute */
};

runtime_model *dw_runtime_find_model(dw_runtime *runtime, const char *name, size_t length); /* length 0 = default; NULL = none */
size_t dw_runtime_n_models(dw_runtime *runtime); /* those that are open now: models[0 ..] */
dw_status dw_runtime_compute_device(dw_runtime *runtime, const char *name, size_t length, compute_device **out, dw_error *err) DW_MUST_USE;
/* Of an actor: what its options say, or an owner of its own. */
dw_status dw_runtime_owner(dw_runtime *runtime, uint64_t wanted, uint64_t *out, dw_error *err) DW_MUST_USE;

/* --- actor.c: state ------------------------------------------------------------------------------------------ */

enum { HANDLE_SESSION = 1 };
enum { ARGUMENTS_MAX = 256, ARGUMENT_BYTES_MAX = 4096 }; /* what the actor section of a checkpoint may hold */

/* A session of an actor, and what a rollback needs to know of it. */
typedef struct actor_session {
    dw_handle handle;
    dw_session *session;
    runtime_model *model;
    /* within a turn */
    bool opened, closed;
    uint32_t start_tokens, start_rows;
    dw_sampler_state start_sampler;
    dw_session *saved;            /* as at the turn's beginning, taken before the log was cut below start_tokens */
} actor_session;

typedef struct message {
    uint64_t id, realtime_ns;
    uint8_t *body;                /* owned */
    uint32_t size;
} message;

typedef struct mailbox {
    message *items;               /* ring */
    uint32_t capacity, first, count;
    uint64_t bytes, next_id;
} mailbox;

struct dw_actor {
    dw_runtime *runtime;
    dw_program *program;
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_observer observer;
    uint64_t owner;
    dw_priority priority;
    char **arguments;             /* NULL-terminated, owned */
    dw_actor_image image;         /* as last committed */
    bool initialized;             /* start function and _initialize are part of the image */
    uint64_t turns;
    bool broken;                  /* a rollback failed (no memory): refuses turns, freezing and forking from then on */
    dw_instance *instance;        /* live, or NULL: restored from the image when needed */
    dw_handle_table *handles;     /* of actor_session */
    actor_session *sessions[DW_SESSIONS_PER_ACTOR_MAX]; /* in the order they were opened; closed ones leave at commit */
    size_t n_sessions;
    mailbox mailbox;
    bool has_parent;
    dw_hash parent;

    /* the running turn */
    dw_port *port;
    bool in_turn;
    message current;              /* as in the mailbox, which may move while others arrive; the body stays in place */
    uint16_t start_clock;
    uint64_t turn_deadline_ns;
    dw_writer reply;
    dw_turn_result *result;
    _Atomic bool interrupted, stopped;
    dw_instance *running;         /* in a call; under the port's lock, for dw_actor_stop */
};

/* DW_E_BUSY inside a turn, DW_E_STATE when broken. */
dw_status dw_actor_usable(const dw_actor *actor, dw_error *err) DW_MUST_USE;
/* The live instance, restored from the image if need be, its region marked. */
dw_status dw_actor_live(dw_actor *actor, dw_error *err) DW_MUST_USE;
void dw_actor_drop_instance(dw_actor *actor);
/* An actor without image, sessions or messages. */
dw_status dw_actor_shell(dw_runtime *runtime, dw_program *program, const char *name, const char *const *arguments, const dw_observer *observer,
                         dw_actor **out, dw_error *err) DW_MUST_USE;

/* sessions.c */
/* Takes `session` over; a failure destroys it. handle_or_0: the number it has to have again, or 0 for a new one. */
dw_status dw_actor_add_session(dw_actor *actor, dw_session *session, runtime_model *model, dw_handle handle_or_0, actor_session **out) DW_MUST_USE;
actor_session *dw_actor_get_session(dw_actor *actor, dw_handle handle);
/* Call before the log of a session is cut to n_tokens inside a turn. */
dw_status dw_actor_save_session(actor_session *session, uint32_t n_tokens, dw_error *err) DW_MUST_USE;
void dw_actor_close_session(dw_actor *actor, actor_session *session);
void dw_actor_sessions_begin(dw_actor *actor);
void dw_actor_sessions_commit(dw_actor *actor);
dw_status dw_actor_sessions_rollback(dw_actor *actor, dw_error *err) DW_MUST_USE;
/* While the actor's rows are looked at, nobody may evict them (model.h). */
void dw_actor_sessions_keep(dw_actor *actor);
void dw_actor_sessions_let_go(dw_actor *actor);
void dw_actor_sessions_destroy(dw_actor *actor);

/* mailbox.c */
dw_status dw_mailbox_put(mailbox *box, const void *body, size_t size, uint64_t realtime_ns, dw_error *err) DW_MUST_USE;
const message *dw_mailbox_first(const mailbox *box);
void dw_mailbox_drop_first(mailbox *box);
void dw_mailbox_deinit(mailbox *box);
dw_status dw_mailbox_clone(const mailbox *box, mailbox *out) DW_MUST_USE;

/* state.c: the sections of a checkpoint that only this module understands. Untrusted when read. */
dw_status dw_state_encode_mailbox(const mailbox *box, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_state_decode_mailbox(const void *data, uint64_t size, mailbox *out, dw_error *err) DW_MUST_USE;
typedef struct actor_section { bool initialized; uint16_t clock; char **arguments; } actor_section;
dw_status dw_state_encode_actor(const dw_actor *actor, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_state_decode_actor(const void *data, uint64_t size, actor_section *out, dw_error *err) DW_MUST_USE;
void dw_state_free_arguments(char **arguments);

/* enter.c */
int32_t dw_actor_enter(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests, uint32_t completions, uint32_t capacity,
                       uint32_t wait, int64_t deadline_ns, dw_status *stop);
/* Cancels what the guest left outstanding and waits for it. */
void dw_actor_cancel_all(dw_actor *actor);

/* operations.c, operations_model.c: what each request does.
 * copy_in: takes a copy of everything the request refers to in guest memory and checks it; a failure completes it.
 * start:   begins it, its session being free. Sets op->completion and returns true when it is complete already; false: dw_port_done comes later.
 * deliver: writes small results into guest memory; the completion's status may still become an error. */
dw_status dw_operation_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) DW_MUST_USE;
bool dw_operation_start(dw_actor *actor, dw_guest_memory *memory, operation *op);
void dw_operation_deliver(dw_actor *actor, dw_guest_memory *memory, operation *op);
/* What a done one had lent is the guest's again, also while its completion waits for room. */
void dw_operation_return_window(dw_actor *actor, operation *op);
/* Asks a running one to end; it still completes through dw_port_done. Turn's thread. */
void dw_operation_cancel(dw_actor *actor, operation *op);

/* operations_model.c */
dw_status dw_forward_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) DW_MUST_USE;
dw_status dw_generate_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) DW_MUST_USE;
dw_status dw_job_start(dw_actor *actor, operation *op) DW_MUST_USE;
void dw_job_deliver(dw_actor *actor, dw_guest_memory *memory, operation *op);
dw_status dw_tokens_copy_in(dw_guest_memory *memory, operation *op) DW_MUST_USE;
/* operations_embed.c */
dw_status dw_embed_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) DW_MUST_USE;
bool dw_embed_start(dw_actor *actor, operation *op);
/* operations_compute.c */
dw_status dw_compute_operation(dw_actor *actor, dw_guest_memory *memory, operation *op) DW_MUST_USE;

#endif

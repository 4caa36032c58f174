/* door.h: everything that a guest can ask of the host, and nothing else (include/driftwood/guest.h).
 *
 *   door       the calls of one actor's guest: what it has outstanding, the message it handles, the reply it makes
 *   operation  one request, from its submission to the delivery of its completion
 *   window     a part of guest memory that is lent to a device or the engine while an operation runs (region.h)
 *   observer   who watches a turn; called on the thread that runs it
 *
 * Rules
 * 1. A door is open between dw_door_open and dw_door_close, while a turn's guest code runs. Else `enter` is DW_E_STATE;
 *    so it is while a program initialises itself.
 * 2. What an operation decides on is copied out of guest memory once, when the request is taken, and the copy is
 *    checked (I5).
 * 3. No window overlaps another one that is lent, and no operation reads or writes memory that is lent to another:
 *    DW_E_BUSY. So whatever the engine reads in a window while it works is what the engine wrote there. Windows are
 *    lent until the call of `enter` that took the request delivers, and results are written only then: how fast an
 *    engine is changes nothing. Of one request, windows and results must not overlap each other: DW_E_INVALID.
 * 4. No number that is not finite leaves as a result of a model: the completion is DW_E_DEVICE then. Logits and
 *    log-probabilities may be -inf.
 * 5. The door knows no actor. What it needs of one is in dw_door_options: sessions through a table of functions, the
 *    rest as values.
 * 6. Every wait is at the door's park (park.h).
 * Threads: the thread of the actor's turns; engine threads reach an operation through its port (port.h). dw_door_park's
 * park by any.
 */
#ifndef DW_DOOR_DOOR_H
#define DW_DOOR_DOOR_H

#include "base/base.h"
#include "park/park.h"
#include "runtime/runtime.h"
#include "wasm/wasm.h"

typedef struct dw_door dw_door;

typedef struct dw_observer {
    void (*on_text)(void *context, const char *text, size_t size);        /* emitted text, not yet committed */
    /* A line of the guest's log; of its standard error, without the newline, at level info. */
    void (*on_log)(void *context, int level, const char *text, size_t size);
    void *context;
} dw_observer;

/* A session as the door sees it: the first member of whatever the owner keeps of it. */
typedef struct dw_door_session {
    dw_handle handle;
    dw_session *session;
    dw_model_entry *model;  /* one user of it */
} dw_door_session;

/* The sessions of the door's owner. */
typedef struct dw_door_sessions {
    dw_door_session *(*find)(void *context, dw_handle handle); /* NULL: no such session */
    bool (*room)(void *context);                               /* for one more */
    /* Takes session and model over, also when it fails. */
    dw_status (*add)(void *context, dw_session *session, dw_model_entry *model, dw_door_session **out);
    /* The log is going to be cut to n_tokens: what a rollback needs of it is put aside. */
    dw_status (*save)(void *context, dw_door_session *session, uint32_t n_tokens);
    void (*close)(void *context, dw_door_session *session);    /* its handle is dead from now on */
    void *context;
} dw_door_sessions;

typedef struct dw_door_options {
    dw_runtime *runtime;
    const char *name;            /* of the owner, for the log; borrowed */
    uint64_t owner;              /* of sessions (model.h) */
    dw_priority priority;        /* of sessions and embeddings */
    const dw_observer *observer; /* copied; NULL: nobody watches */
    dw_door_sessions sessions;
} dw_door_options;

dw_status dw_door_create(const dw_door_options *options, dw_door **out, dw_error *err) DW_MUST_USE;
void dw_door_destroy(dw_door *door); /* closed; NULL is a no-op */
void dw_door_observe(dw_door *door, const dw_observer *observer);
const dw_observer *dw_door_observer(const dw_door *door); /* borrowed, never NULL */
dw_park *dw_door_park(dw_door *door);

/* --- a turn -------------------------------------------------------------------------------------------------- */

/* What a turn asked for, counted. */
typedef struct dw_door_counts {
    uint64_t tokens_evaluated, tokens_generated;
    uint64_t tokens_shared;   /* rows of prompts that were taken from another session instead of computed */
    uint64_t model_ns;        /* of the model's steps; those of several sessions add up */
    uint64_t enters;          /* calls of the door */
    uint64_t copied_bytes;    /* tensor bytes that had to be copied between guest and device (I1) */
} dw_door_counts;

typedef struct dw_door_message { const void *body; uint32_t size; uint64_t turn; } dw_door_message;

/* The guest handles this message from now on. `body` is borrowed until the door is closed; the park's turn has
 * begun. */
void dw_door_open(dw_door *door, const dw_door_message *message);
/* Cancels what the guest left outstanding and waits for it: afterwards nothing is lent. */
void dw_door_close(dw_door *door);
dw_door_counts dw_door_counts_of(const dw_door *door);  /* of the turn that runs or ran last */
dw_writer *dw_door_reply(dw_door *door);                /* of the same turn; borrowed */

/* The guest's `driftwood.enter` (wasm.h dw_enter_function); context is the door. */
int32_t dw_door_enter(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests,
                      uint32_t completions, uint32_t capacity, uint32_t wait, int64_t deadline_ns, dw_status *stop);

#endif

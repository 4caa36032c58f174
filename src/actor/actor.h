/* actor.h: actors. Any number of them live in a runtime (runtime.h), one turn at a time per actor.
 *
 *   actor     a named instance of a program with its mailbox, sessions and last committed image
 *   inbox     messages that were sent and are not in the mailbox yet: from any thread, also while a turn runs
 *   image     the actor as its last committed turn left it: memory pages, globals, WASI state. Immutable once committed
 *   turn      one message handled: either everything of it is kept, or nothing (I2)
 *
 * How a turn stays atomic: the live instance runs on private pages. At commit (commit.h) the pages that were written go
 * into the runtime's page store, and the image's page map names them from then on: cost follows change (I8), and what
 * older images refer to is never overwritten, so a fork just shares the map. A turn that ends badly drops the instance;
 * the next turn restores the image. Sessions are put back by their lengths; one that is cut below the length it had at
 * the turn's beginning is saved first, by a fork; the logits that one holds stay until the turn's end.
 *
 * Rules
 * 1. All state of an actor is in its image, its sessions, its mailbox and its counters: freeze writes these and nothing
 *    else is needed to go on.
 * 2. Time and random come from the message and the actor's own state, so a turn is a function of (state, message, its
 *    time) and the model.
 * 3. A turn's outputs (reply) are given out only after commit; streamed text goes to the observer at once.
 * 4. A message whose turn failed by the guest's own doing (trap, negative return, exit, time) is consumed and its
 *    status given to the sender; one whose turn was interrupted from outside (DW_E_CANCELLED) stays in the mailbox and
 *    is handled again.
 * 5. Messages are handled in the order in which they were accepted. Whatever was accepted before a turn, a freeze or a
 *    fork begins, is part of it. What waits, in inbox and mailbox together, is bounded.
 * 6. A guest asks for something only while it handles a message: `enter` inside `_initialize` is DW_E_STATE.
 * Threads: each actor is used by one thread at a time, different actors of a runtime by different threads at once.
 * dw_actor_send, dw_actor_waiting, dw_actor_next_turn, dw_actor_interrupt and dw_actor_stop by any thread at any time;
 * a turn that runs blocks none of them.
 */
#ifndef DW_ACTOR_ACTOR_H
#define DW_ACTOR_ACTOR_H

#include "base/base.h"
#include "checkpoint/checkpoint.h"
#include "door/door.h"
#include "model/model.h"
#include "runtime/runtime.h"
#include "wasm/wasm.h"

/* --- actors -------------------------------------------------------------------------------------------------- */

typedef struct dw_actor dw_actor;

typedef struct dw_actor_options {
    /* 1..DW_ACTOR_NAME_BYTES_MAX bytes of letters, digits, "-_./"; no part between two "/" is empty, "." or "..". */
    const char *name;
    uint64_t birth_realtime_ns;       /* 0 = now */
    const uint8_t *random_seed;       /* [32]; NULL = from the system */
    const dw_observer *observer;      /* of initialisation and of all turns; copied */
    /* Of the program (argv); NULL = its name. Part of the actor: the same again after a thaw. */
    const char *const *arguments;
    /* Whose sessions share prefixes (session.h); below DW_OWNERS_END; 0 = an owner of its own, with its forks. */
    uint64_t owner;
    dw_priority priority;             /* of its sessions and embeddings */
} dw_actor_options;

/* The first turn of a fresh actor also runs the program's initialisation. Retains the program. */
dw_status dw_actor_create(dw_runtime *runtime, dw_program *program, const dw_actor_options *options, dw_actor **out,
                          dw_error *err) DW_MUST_USE;
void dw_actor_destroy(dw_actor *actor);
void dw_actor_observe(dw_actor *actor, const dw_observer *observer);

const char *dw_actor_name(const dw_actor *actor);
uint64_t dw_actor_turns(const dw_actor *actor);       /* committed */
dw_program *dw_actor_program(const dw_actor *actor);

/* Accepts a message. realtime_ns 0 = now; it is the time the guest will see. DW_E_FULL, DW_E_LIMIT. Any thread. */
dw_status dw_actor_send(dw_actor *actor, const void *body, size_t size, uint64_t realtime_ns,
                        dw_error *err) DW_MUST_USE;
size_t dw_actor_waiting(const dw_actor *actor);       /* messages accepted and not handled. Any thread */

typedef struct dw_turn_result {
    dw_status status;           /* how the turn ended; DW_OK = committed */
    uint64_t turn;              /* its number, from 1; valid when committed */
    char *reply; size_t reply_size; /* malloc'ed, NUL-terminated; the caller's */
    int32_t exit_code;          /* with DW_E_EXIT */
    uint64_t run_ns, commit_ns;
    uint64_t dirty_bytes;       /* pages written in this turn */
    uint64_t tokens_evaluated, tokens_generated;
    uint64_t tokens_shared;     /* rows of prompts that were taken from another session instead of computed */
    uint64_t model_ns;          /* of the model's steps for this turn; those of several sessions add up */
    uint64_t enters;            /* calls of the door */
    uint64_t copied_bytes;      /* tensor bytes that had to be copied between guest and device (I1) */
} dw_turn_result;

/* Handles the oldest message. Returns DW_E_NOT_FOUND when there is none; otherwise result->status, with the detail in
 * err. */
dw_status dw_actor_turn(dw_actor *actor, uint64_t deadline_ns, dw_turn_result *result, dw_error *err) DW_MUST_USE;
/* The number by which the turn that runs is interrupted or stopped; while none runs, the next one's. Each call of
 * dw_actor_turn that begins a turn has one of its own, also when it handles the same message again; it is not the
 * number of committed turns. Any thread. */
uint64_t dw_actor_next_turn(const dw_actor *actor);
/* Asks the guest to stop (DW_OP_INTERRUPTED becomes 1, its generations end early, as if by length). Any thread.
 * DW_E_NOT_FOUND, and nothing happens, when this is not the turn that runs or, while none runs, the next one: what
 * comes late hits nobody. */
dw_status dw_actor_interrupt(dw_actor *actor, uint64_t turn) DW_MUST_USE;
/* Cuts the turn: it ends with DW_E_CANCELLED and its message stays. Any thread. As above. */
dw_status dw_actor_stop(dw_actor *actor, uint64_t turn) DW_MUST_USE;

/* --- freeze, thaw, fork -------------------------------------------------------------------------------------- */

typedef struct dw_freeze_options {
    bool without_program; /* the file then needs the program beside it, where it was never run */
} dw_freeze_options;

/* Options and report may be NULL. A program whose source is not in the cache folder any more is left out of the file,
 * as the report says. */
dw_status dw_actor_freeze(dw_actor *actor, const char *path, const dw_freeze_options *options,
                          dw_checkpoint_report *report, dw_error *err) DW_MUST_USE;

typedef struct dw_thaw_options {
    const dw_observer *observer;
    const char *name;            /* NULL: the name in the checkpoint */
    dw_program *program;         /* NULL: found by hash, or taken from the checkpoint */
    bool keep_grants;            /* the file is trusted: sessions that were granted (session.h) are again */
    uint64_t owner;              /* as in dw_actor_options: a checkpoint does not say whose it is */
    dw_priority priority;
} dw_thaw_options;

typedef struct dw_thaw_report {
    uint64_t open_ns, verify_ns; /* structure and header; hashes of all sections */
    uint64_t map_ns;             /* memory and KV mapped, sessions and instance ready */
    uint32_t tokens, tokens_reused, tokens_recomputed, tokens_pending;
    uint64_t kv_bytes, memory_bytes;
    uint64_t logits_bytes;       /* held logits: a draw from these evaluates nothing */
    bool verified, exact;        /* exact: same profile, so the continuation is bit for bit */
    char profile_difference[2 * DW_PROFILE_BYTES + 32]; /* why not exact; "" otherwise */
} dw_thaw_report;

/* A live actor from a file. Everything is checked before anything of it runs; the reason of a refusal names the section
 * or condition. */
dw_status dw_actor_thaw(dw_runtime *runtime, const char *path, const dw_thaw_options *options, dw_actor **out,
                        dw_thaw_report *report, dw_error *err) DW_MUST_USE;

typedef struct dw_fork_report { uint64_t ns; uint32_t tokens; uint64_t kv_bytes; } dw_fork_report;
/* A second actor with the same past: memory, sessions, mailbox. Its random state is the parent's too. Costs maps, not
 * copies. */
dw_status dw_actor_fork(dw_actor *actor, const char *name, dw_actor **out, dw_fork_report *report,
                        dw_error *err) DW_MUST_USE;

/* --- looking inside ------------------------------------------------------------------------------------------ */

/* Hashes over the committed memory, over all KV rows (in session, layer, K/V order), over all token logs and over all
 * held logits: for comparing actors. */
typedef struct dw_actor_digest { dw_hash memory, kv, tokens, logits; } dw_actor_digest;
dw_status dw_actor_digest_of(dw_actor *actor, dw_actor_digest *out, dw_error *err) DW_MUST_USE;

typedef struct dw_actor_use {
    uint64_t memory_bytes;
    uint64_t image_extents;     /* runs of pages with one origin in the committed memory */
    uint64_t stored_bytes;      /* of it in the page store: shared with forks as far as neither wrote to it since */
    uint32_t sessions; uint32_t tokens, rows;
    uint64_t kv_bytes, kv_own_bytes, kv_shared_bytes;
    uint64_t logits_bytes;      /* held; of a fork's as if it were alone */
} dw_actor_use;
dw_status dw_actor_use_now(dw_actor *actor, dw_actor_use *out, dw_error *err) DW_MUST_USE;
/* The sessions in handle order; NULL at the end. Borrowed. */
dw_session *dw_actor_session(const dw_actor *actor, size_t index);
/* Guest memory of the live instance, for tests and `prove`; NULL before the first turn. */
dw_guest_memory *dw_actor_memory(dw_actor *actor);

#endif

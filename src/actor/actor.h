/* actor.h: actors and the runtime they live in. One process, any number of actors, one turn at a time per actor.
 *
 *   runtime   the engine for programs, one device, the models that are open (each with its engine thread)
 *   actor     a named instance of a program with its mailbox, sessions and last committed image
 *   image     the actor as its last committed turn left it: memory extents, globals, WASI state. Immutable once committed
 *   turn      one message handled: either everything of it is kept, or nothing (I2)
 *
 * How a turn stays atomic: the live instance runs on private pages. At commit the pages that were written are appended to the actor's
 * page log (a memory object) and the image's extents point there from then on: cost follows change (I8), and what older images
 * refer to is never overwritten, so a fork just takes the image. A turn that ends badly drops the instance; the next turn restores
 * the image. Sessions are put back by their lengths; one that is cut below the length it had at the turn's beginning is saved first, by a fork.
 *
 * Rules
 * 1. All state of an actor is in its image, its sessions, its mailbox and its counters: freeze writes these and nothing else is needed to go on.
 * 2. Time and random come from the message and the actor's own state, so a turn is a function of (state, message, its time) and the model.
 * 3. A turn's outputs (reply) are given out only after commit; streamed text goes to the observer at once.
 * 4. A message whose turn failed by the guest's own doing (trap, negative return, exit, time) is consumed and its status given to the sender;
 *    one whose turn was interrupted from outside (DW_E_CANCELLED) stays in the mailbox and is handled again.
 * Threads: each actor is used by one thread at a time, different actors of a runtime by different threads at once; dw_actor_interrupt and
 * dw_actor_stop by any thread. A runtime's functions by any thread; it is destroyed after all its actors.
 */
#ifndef DW_ACTOR_ACTOR_H
#define DW_ACTOR_ACTOR_H

#include "base/base.h"
#include "checkpoint/checkpoint.h"
#include "device/device.h"
#include "model/model.h"
#include "wasm/wasm.h"

/* --- runtime ------------------------------------------------------------------------------------------------- */

typedef struct dw_runtime dw_runtime;

typedef struct dw_runtime_options {
    const char *device;        /* "cpu", "vulkan", ...; NULL = "cpu" */
    unsigned threads;          /* of the device; 0 = all */
    const char *cache_folder;  /* compiled programs, program sources by hash; NULL = dw_os_cache_folder */
    uint32_t context_tokens, sessions_max; /* of each model; 0 = the model module's defaults */
    bool repack;               /* dw_model_options.repack, of each model */
    uint64_t kv_bytes_max;     /* of each model's KV rows; 0 = no bound */
    dw_kv_type kv_type;        /* of each model's KV rows */
} dw_runtime_options;

dw_status dw_runtime_create(const dw_runtime_options *options, dw_runtime **out, dw_error *err) DW_MUST_USE;
void dw_runtime_destroy(dw_runtime *runtime); /* after its actors */

/* Opens a model and starts its engine, while actors run. `name` is what guests open it by; the first one is the default. */
dw_status dw_runtime_add_model(dw_runtime *runtime, const char *name, const char *path, dw_error *err) DW_MUST_USE;
dw_model *dw_runtime_model(dw_runtime *runtime, const char *name); /* NULL name: the default; NULL when there is none. Borrowed */
dw_device *dw_runtime_device(dw_runtime *runtime);
/* Prepares the program at `path` and keeps its source in the cache folder under its hash, so that a checkpoint finds it later. */
dw_status dw_runtime_load_program(dw_runtime *runtime, const char *path, dw_program **out, dw_error *err) DW_MUST_USE;
/* The program with this hash, from the cache folder; DW_E_NOT_FOUND says what to do. */
dw_status dw_runtime_find_program(dw_runtime *runtime, const dw_hash *hash, dw_program **out, dw_error *err) DW_MUST_USE;

/* --- actors -------------------------------------------------------------------------------------------------- */

typedef struct dw_actor dw_actor;

/* Who watches a turn. Called on the thread that runs it. */
typedef struct dw_observer {
    void (*on_text)(void *context, const char *text, size_t size);        /* emitted text, not yet committed */
    void (*on_log)(void *context, int level, const char *text, size_t size);
    void *context;
} dw_observer;

/* Numbers from here on are given to actors without an owner. */
#define DW_OWNERS_END (UINT64_C(1) << 63)

typedef struct dw_actor_options {
    const char *name;                 /* 1..DW_ACTOR_NAME_BYTES_MAX bytes of letters, digits, "-_./" */
    uint64_t birth_realtime_ns;       /* 0 = now */
    const uint8_t *random_seed;       /* [32]; NULL = from the system */
    const dw_observer *observer;      /* of initialisation and of all turns; copied */
    const char *const *arguments;     /* of the program (argv); NULL = its name. Part of the actor: the same again after a thaw */
    uint64_t owner;                   /* whose sessions share prefixes (model.h); below DW_OWNERS_END; 0 = an owner of its own, with its forks */
    dw_priority priority;             /* of its sessions and embeddings */
} dw_actor_options;

/* The first turn of a fresh actor also runs the program's initialisation. Retains the program. */
dw_status dw_actor_create(dw_runtime *runtime, dw_program *program, const dw_actor_options *options, dw_actor **out, dw_error *err) DW_MUST_USE;
void dw_actor_destroy(dw_actor *actor);
void dw_actor_observe(dw_actor *actor, const dw_observer *observer);

const char *dw_actor_name(const dw_actor *actor);
uint64_t dw_actor_turns(const dw_actor *actor);       /* committed */
dw_program *dw_actor_program(const dw_actor *actor);

/* Puts a message into the mailbox. realtime_ns 0 = now; it is the time the guest will see. */
dw_status dw_actor_send(dw_actor *actor, const void *body, size_t size, uint64_t realtime_ns, dw_error *err) DW_MUST_USE;
size_t dw_actor_waiting(const dw_actor *actor);       /* messages in the mailbox */

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

/* Handles the oldest message. Returns DW_E_NOT_FOUND when there is none; otherwise result->status, with the detail in err. */
dw_status dw_actor_turn(dw_actor *actor, uint64_t deadline_ns, dw_turn_result *result, dw_error *err) DW_MUST_USE;
/* Asks the guest to stop (DW_OP_INTERRUPTED becomes 1, its generations end early, as if by length). Any thread. */
void dw_actor_interrupt(dw_actor *actor);
/* Cuts the running turn: it ends with DW_E_CANCELLED and its message stays. Any thread. */
void dw_actor_stop(dw_actor *actor);

/* --- freeze, thaw, fork -------------------------------------------------------------------------------------- */

dw_status dw_actor_freeze(dw_actor *actor, const char *path, dw_checkpoint_report *report, dw_error *err) DW_MUST_USE;

typedef struct dw_thaw_options {
    const dw_observer *observer;
    const char *name;            /* NULL: the name in the checkpoint */
    dw_program *program;         /* NULL: found by hash */
    uint64_t owner;              /* as in dw_actor_options: a checkpoint does not say whose it is, nor what was granted */
    dw_priority priority;
} dw_thaw_options;

typedef struct dw_thaw_report {
    uint64_t open_ns, verify_ns; /* structure and header; hashes of all sections */
    uint64_t map_ns;             /* memory and KV mapped, sessions and instance ready */
    uint32_t tokens, tokens_reused, tokens_recomputed, tokens_pending;
    uint64_t kv_bytes, memory_bytes;
    bool verified, exact;        /* exact: same profile, so the continuation is bit for bit */
    char profile_difference[2 * DW_PROFILE_BYTES + 32]; /* why not exact; "" otherwise */
} dw_thaw_report;

/* A live actor from a file. Everything is checked before anything of it runs; the reason of a refusal names the section or condition. */
dw_status dw_actor_thaw(dw_runtime *runtime, const char *path, const dw_thaw_options *options, dw_actor **out, dw_thaw_report *report,
                        dw_error *err) DW_MUST_USE;

typedef struct dw_fork_report { uint64_t ns; uint32_t tokens; uint64_t kv_bytes; } dw_fork_report;
/* A second actor with the same past: memory, sessions, mailbox. Its random state is the parent's too. Costs maps, not copies. */
dw_status dw_actor_fork(dw_actor *actor, const char *name, dw_actor **out, dw_fork_report *report, dw_error *err) DW_MUST_USE;

/* --- looking inside ------------------------------------------------------------------------------------------ */

/* Hashes over the committed memory, over all KV rows (in session, layer, K/V order) and over all token logs: for comparing actors. */
typedef struct dw_actor_digest { dw_hash memory, kv, tokens; } dw_actor_digest;
dw_status dw_actor_digest_of(dw_actor *actor, dw_actor_digest *out, dw_error *err) DW_MUST_USE;

typedef struct dw_actor_use {
    uint64_t memory_bytes;
    uint64_t image_extents;     /* runs of pages with one origin in the committed memory */
    uint64_t stored_bytes;      /* of it in the runtime's page store: shared with forks as far as neither wrote to it since */
    uint32_t sessions; uint32_t tokens, rows;
    uint64_t kv_bytes, kv_own_bytes, kv_shared_bytes;
} dw_actor_use;
dw_status dw_actor_use_now(dw_actor *actor, dw_actor_use *out, dw_error *err) DW_MUST_USE;
/* The sessions in handle order; NULL at the end. Borrowed. */
dw_session *dw_actor_session(const dw_actor *actor, size_t index);
/* Guest memory of the live instance, for tests and `prove`; NULL before the first turn. */
dw_guest_memory *dw_actor_memory(dw_actor *actor);

#endif

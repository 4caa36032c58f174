/* node.h: named actors in one folder, each as durable as the disk. A node opens the folder's store, wakes an actor when
 * its first message comes, keeps every turn there, and gives a reply out when the turn is on disk.
 *
 *   node      whoever owns the folder: one process at a time
 *   awake     an actor that lives in the runtime. All others are in the store alone
 *   message   is given a number that rises within its actor
 *   key       the sender's own name of a message. Sent again with it, it is the same message: handled once, and
 *             answered with what was answered then
 *   answer    how the turn of a message with a key ended: its reply, or why it failed
 *   books     of an actor: the numbers and keys of the messages that wait, and of the answers that are remembered
 *
 * On disk
 *   DIR/store                 store.h. An actor's turns, and its records:
 *     kind 1, by number       a message that waits: u32 version 1, u64 realtime_ns, u32 bytes of the key (0: none),
 *                             key, u32 bytes, body
 *     kind 2, by number       an answer: u32 version 1, u32 bytes of the key, key, SHA-256 of the message's body,
 *                             i32 status, u64 turn (0: none), u32 bytes, reply or the text of the failure
 *   DIR/programs/HASH.wasm    the programs of its actors, by the SHA-256 of their source
 *
 * Rules
 * 1. A turn is acknowledged (its reply is given) when it is on disk: memory, globals, tables, tokens, KV rows, and that
 *    its message is handled. What a crash leaves is the actor's last acknowledged turn, or the one behind it.
 * 2. A message that dw_node_send accepted is on disk. It is handled once: that it is gone is part of its turn's commit.
 * 3. The message of dw_node_ask is on disk with its turn, not before: one commit instead of two. A crash before that
 *    leaves nothing of it. Who then asks again with the same key gets one turn, whether or not the first one was done.
 * 4. The last DW_NODE_ANSWERS_MAX answers of an actor are remembered, and DW_NODE_ANSWER_BYTES_MAX of them; the oldest
 *    are forgotten first, in the commit of the turn that needs the room.
 * 5. An actor whose state in memory may not be the store's any more (a commit that failed, no memory) goes to sleep at
 *    once, and wakes as the store has it.
 * 6. At most awake_max actors are awake; the one that was used longest ago goes to sleep for the next. Nothing is
 *    written for that: what it is, is in the store.
 * Threads: one at a time.
 */
#ifndef DW_NODE_NODE_H
#define DW_NODE_NODE_H

#include "actor/actor.h"
#include "base/base.h"
#include "checkpoint/checkpoint.h"
#include "store/store.h"

typedef struct dw_node dw_node;

typedef struct dw_node_options {
    uint32_t awake_max;              /* 0: DW_NODE_AWAKE_MAX */
    const dw_store_options *store;   /* NULL: its defaults */
} dw_node_options;

/* Whether the folder holds a node. */
bool dw_node_is_there(const char *folder);
/* Opens the node of a folder, and makes it where it is missing. DW_E_BUSY: another process has it. Options may be
 * NULL. */
dw_status dw_node_open(const char *folder, const dw_node_options *options, dw_node **out, dw_error *err) DW_MUST_USE;
/* Puts all actors to sleep, and folds old turns of some (dw_store_tidy). The node is closed whatever this returns:
 * DW_E_IO where a sync had failed. NULL is a no-op. */
dw_status dw_node_close(dw_node *node, dw_error *err) DW_MUST_USE;
/* Where actors live that wake from now on; it stays until the node is closed. Before the first wake; without one
 * nothing wakes (DW_E_STATE). */
void dw_node_live_in(dw_node *node, dw_runtime *runtime);

typedef struct dw_node_message {
    const void *body;
    size_t size;                     /* at most DW_MESSAGE_BYTES_MAX */
    uint64_t realtime_ns;            /* that the guest sees; 0: now */
    const char *key;                 /* 1 .. DW_NODE_KEY_BYTES_MAX bytes; NULL: none */
} dw_node_message;

typedef struct dw_spawn_options {
    const char *const *arguments;    /* as in dw_actor_options */
    uint64_t birth_realtime_ns;      /* 0: now */
    const uint8_t *random_seed;      /* [32]; NULL: from the system */
    const dw_node_message *first;    /* waits for it when it is there; NULL: none */
} dw_spawn_options;

/* A new actor, on disk when this returns, with its program and its first message. DW_E_EXISTS; DW_E_UNSUPPORTED: the
 * program has no driftwood_receive. Options may be NULL. */
dw_status dw_node_spawn(dw_node *node, const char *name, dw_program *program, const dw_spawn_options *options,
                        dw_error *err) DW_MUST_USE;
/* The actor and everything of it. DW_E_NOT_FOUND. */
dw_status dw_node_remove(dw_node *node, const char *name, dw_error *err) DW_MUST_USE;

/* Rule 2. *number is the message's; *known says that its key was known, and that nothing was added. DW_E_NOT_FOUND: no
 * such actor; DW_E_MISMATCH: the key is of a message that said something else; DW_E_FULL. */
dw_status dw_node_send(dw_node *node, const char *name, const dw_node_message *message, uint64_t *number, bool *known,
                       dw_error *err) DW_MUST_USE;

typedef struct dw_node_answer {
    uint64_t number;                 /* of the message */
    dw_status status;                /* how its turn ended, with the detail in err */
    bool known;                      /* remembered: no turn was run for this */
    dw_turn_result turn;             /* of a known answer: turn and reply alone. The caller frees turn.reply */
} dw_node_answer;

/* Handles what waits and then this message; observer (NULL: none) watches these turns. Returns answer->status, or why
 * there is no answer. deadline_ns is each turn's. As for dw_node_send. */
dw_status dw_node_ask(dw_node *node, const char *name, const dw_node_message *message, uint64_t deadline_ns,
                      const dw_observer *observer, dw_node_answer *answer, dw_error *err) DW_MUST_USE;
/* Handles what waits up to a message that was accepted by its number (dw_node_send, dw_node_spawn: 1), and answers it.
 * DW_E_NOT_FOUND: it does not wait. Else as dw_node_ask. */
dw_status dw_node_await(dw_node *node, const char *name, uint64_t number, uint64_t deadline_ns,
                        const dw_observer *observer, dw_node_answer *answer, dw_error *err) DW_MUST_USE;
/* Handles what waits for an actor. *handled counts these messages; *failed those of them whose turn failed by the
 * program's own doing, of which the last one is in err. */
dw_status dw_node_drain(dw_node *node, const char *name, uint64_t deadline_ns, const dw_observer *observer,
                        uint32_t *handled, uint32_t *failed, dw_error *err) DW_MUST_USE;

/* --- looking --------------------------------------------------------------------------------------------------- */

/* Names and turns in the order of names; `each` returns false to end the walk, and must not call the node. */
dw_status dw_node_list(dw_node *node, dw_store_each_actor each, void *context, dw_error *err) DW_MUST_USE;

typedef struct dw_node_info {
    dw_blob *state;                  /* dw_blob_view: turn, program, memory, sessions */
    uint64_t kept_pages;             /* of memory, in the store, of DW_STORE_PAGE_BYTES */
    uint64_t kept_rows;              /* of all sessions */
    uint32_t waiting, answers;
    bool awake;
} dw_node_info;
/* Nothing wakes. dw_node_info_deinit. */
dw_status dw_node_look(dw_node *node, const char *name, dw_node_info *out, dw_error *err) DW_MUST_USE;
void dw_node_info_deinit(dw_node_info *info);
/* Wakes it. */
dw_status dw_node_digest(dw_node *node, const char *name, dw_actor_digest *out, dw_error *err) DW_MUST_USE;
/* Reads everything of the store and checks it. */
dw_status dw_node_verify(dw_node *node, dw_error *err) DW_MUST_USE;

#endif

/* commit.h: how what a turn did becomes the actor, in three steps.
 *
 *   plan      looks up what changed: written pages, globals, tables, the reply. Nothing is written or given out
 *   persist   keeps what plans hold where it will outlast the turn. May fail, and takes several actors' plans at once:
 *             one sync of a log can serve them all. Pages go into the runtime's page store; of actors that are kept
 *             (keep.h) the change goes to their keeper then, and is on disk when that returns
 *   publish   the actor is what the plan says: image, sessions, mailbox; the reply is the caller's. Cannot fail
 *
 * Rules
 * 1. Until it is published a plan changes nothing that can be seen: a failure at any point leaves actor, message and
 *    files as they were.
 * 2. Persist is for all plans of its call or for none; those that were not persisted can be persisted again, or
 *    dropped.
 * 3. Outputs are released by publish only (actor.h rule 3).
 * 4. While a plan lives its actor's guest does not run and its image stays: the plan's pages are read from the
 *    instance's memory.
 * 5. Plans of one persist belong to different actors, of one runtime and one keeper, or none.
 * Threads: a plan is made, published and dropped by the thread of its actor. Persist may run on any one thread, while
 * those of all its plans wait.
 */
#ifndef DW_ACTOR_COMMIT_H
#define DW_ACTOR_COMMIT_H

#include "actor/actor.h"
#include "actor/image.h"

typedef struct dw_commit_plan {
    dw_actor *actor;
    dw_image_change image;
    uint8_t *reply;          /* owned, NUL behind it */
    size_t reply_size;
    bool persisted;
} dw_commit_plan;            /* {0}: nothing planned */

/* Of an actor whose guest has returned. A failure leaves nothing to drop; the reply collected so far is gone then, as
 * the turn is. */
dw_status dw_commit_plan_make(dw_commit_plan *plan, dw_actor *actor, dw_error *err) DW_MUST_USE;
dw_status dw_commit_persist(dw_commit_plan *const *plans, size_t n, dw_error *err) DW_MUST_USE;
/* A persisted plan; it is empty then. The message leaves the mailbox, and *result gets number, reply and bytes. */
void dw_commit_publish(dw_commit_plan *plan, dw_turn_result *result);
/* Gives a plan up, persisted or not. An empty one: no-op. */
void dw_commit_plan_drop(dw_commit_plan *plan);

#endif

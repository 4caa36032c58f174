/* inbox.h: what is in front of an actor's mailbox: messages come in from any thread, and the actor's thread takes them
 * over between turns.
 *
 *   accepted   in the inbox or in the mailbox: counted against the limits until it is handled
 *
 * Rules
 * 1. Messages get their numbers in the order in which they are accepted, and reach the mailbox in that order.
 * 2. No more than DW_MAILBOX_MESSAGES_MAX messages and DW_MAILBOX_BYTES_MAX bytes are accepted at a time.
 * 3. The lock is held for a few instructions only, never while memory is copied: a turn, a freeze or a drain does not
 *    block who sends.
 * Threads: put, waiting and last by any; the others by the actor's.
 */
#ifndef DW_ACTOR_INBOX_H
#define DW_ACTOR_INBOX_H

#include "actor/mailbox.h"

typedef struct dw_inbox dw_inbox;

dw_status dw_inbox_create(dw_inbox **out, dw_error *err) DW_MUST_USE;
void dw_inbox_destroy(dw_inbox *inbox); /* and the messages in it; NULL is a no-op */

/* Accepts a copy of the message: DW_E_LIMIT for one that is too large, DW_E_FULL when too many wait. */
dw_status dw_inbox_put(dw_inbox *inbox, const void *body, size_t size, uint64_t realtime_ns, dw_error *err) DW_MUST_USE;
size_t dw_inbox_waiting(dw_inbox *inbox); /* accepted */
uint64_t dw_inbox_last(dw_inbox *inbox);  /* the number that was given last */

/* The mailbox came from elsewhere (a checkpoint, a fork): its messages are accepted, numbers go on behind its own.
 * Before the first put. */
void dw_inbox_adopt(dw_inbox *inbox, const dw_mailbox *box);
/* Moves what is in the inbox into the mailbox. DW_E_NO_MEMORY: everything stays where it is. */
dw_status dw_inbox_drain(dw_inbox *inbox, dw_mailbox *box, dw_error *err) DW_MUST_USE;
/* Drops the first message of the mailbox: it is handled. */
void dw_inbox_handled(dw_inbox *inbox, dw_mailbox *box);

#endif

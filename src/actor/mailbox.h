/* mailbox.h: the messages of an actor that wait, in order of arrival. Part of the actor's state: freeze and fork carry
 * it.
 *
 * Rules
 * 1. Numbers of messages rise; next_id is the last one that was given.
 * 2. It has no limits of its own: the inbox in front of it keeps them (inbox.h).
 * Threads: the actor's.
 */
#ifndef DW_ACTOR_MAILBOX_H
#define DW_ACTOR_MAILBOX_H

#include "base/base.h"

typedef struct dw_message {
    uint64_t id, realtime_ns;
    uint8_t *body;                /* owned */
    uint32_t size;
} dw_message;

typedef struct dw_mailbox { /* zero: empty */
    dw_message *items;            /* ring */
    uint32_t capacity, first, count;
    uint64_t bytes, next_id;
} dw_mailbox;

/* Makes room for n more messages, so that as many dw_mailbox_put cannot fail. */
dw_status dw_mailbox_reserve(dw_mailbox *box, uint32_t n) DW_MUST_USE;
void dw_mailbox_put(dw_mailbox *box, dw_message message); /* takes the body over; room was reserved */
/* A message with a number and a copy of the body. */
dw_status dw_mailbox_put_copy(dw_mailbox *box, uint64_t id, const void *body, uint32_t size,
                              uint64_t realtime_ns) DW_MUST_USE;
const dw_message *dw_mailbox_first(const dw_mailbox *box);
void dw_mailbox_drop_first(dw_mailbox *box);
void dw_mailbox_deinit(dw_mailbox *box);
dw_status dw_mailbox_clone(const dw_mailbox *box, dw_mailbox *out) DW_MUST_USE;

/* The mailbox's section of a checkpoint. Untrusted when read. */
dw_status dw_state_encode_mailbox(const dw_mailbox *box, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_state_decode_mailbox(const void *data, uint64_t size, dw_mailbox *out, dw_error *err) DW_MUST_USE;

#endif

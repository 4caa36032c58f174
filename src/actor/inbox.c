/* inbox.c: see inbox.h. A list of messages under a mutex; each is made before the lock is taken. */
#include "actor/inbox.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "os/os.h"

typedef struct inbox_item {
    struct inbox_item *next;
    dw_message message;
} inbox_item;

struct dw_inbox {
    dw_os_mutex *mutex;
    inbox_item *first, *last;
    uint32_t n_listed;       /* in the list */
    uint32_t n_accepted;     /* in the list and in the mailbox */
    uint64_t bytes_accepted;
    uint64_t last_id;
};

dw_status dw_inbox_create(dw_inbox **out, dw_error *err) {
    *out = NULL;
    dw_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an inbox");
    dw_status status = dw_os_mutex_create(&inbox->mutex, err);
    if (status == DW_OK) *out = inbox;
    else dw_inbox_destroy(inbox);
    return status;
}

static void free_inbox_item(inbox_item *item) {
    free(item->message.body);
    free(item);
}

void dw_inbox_destroy(dw_inbox *inbox) {
    if (!inbox) return;
    while (inbox->first) {
        inbox_item *item = inbox->first;
        inbox->first = item->next;
        free_inbox_item(item);
    }
    dw_os_mutex_destroy(inbox->mutex);
    free(inbox);
}

static void check_inbox(const dw_inbox *inbox) {
    assert(dw_os_mutex_held(inbox->mutex));
    assert(inbox->n_listed <= inbox->n_accepted && inbox->n_accepted <= DW_MAILBOX_MESSAGES_MAX);
    assert(inbox->bytes_accepted <= DW_MAILBOX_BYTES_MAX);
    assert((inbox->n_listed == 0) == (inbox->first == NULL));
    (void)inbox;
}

/* --- any thread ---------------------------------------------------------------------------------------------- */

static inbox_item *make_inbox_item(const void *body, size_t size, uint64_t realtime_ns) {
    inbox_item *item = calloc(1, sizeof *item);
    if (!item) return NULL;
    item->message = (dw_message){.realtime_ns = realtime_ns, .body = malloc(size ? size : 1), .size = (uint32_t)size};
    if (!item->message.body) {
        free(item);
        return NULL;
    }
    if (size) memcpy(item->message.body, body, size);
    return item;
}

/* Lock held. False: too much waits. */
static bool accept_item(dw_inbox *inbox, inbox_item *item) {
    if (inbox->n_accepted == DW_MAILBOX_MESSAGES_MAX) return false;
    if (item->message.size > DW_MAILBOX_BYTES_MAX - inbox->bytes_accepted) return false;
    item->message.id = ++inbox->last_id;
    if (inbox->last) inbox->last->next = item;
    else inbox->first = item;
    inbox->last = item;
    inbox->n_listed++;
    inbox->n_accepted++;
    inbox->bytes_accepted += item->message.size;
    check_inbox(inbox);
    return true;
}

dw_status dw_inbox_put(dw_inbox *inbox, const void *body, size_t size, uint64_t realtime_ns, dw_error *err) {
    if (size > DW_MESSAGE_BYTES_MAX) {
        return dw_fail(err, DW_E_LIMIT, "a message of %zu bytes is above the limit of %llu", size,
                       (unsigned long long)DW_MESSAGE_BYTES_MAX);
    }
    inbox_item *item = make_inbox_item(body, size, realtime_ns);
    if (!item) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a message of %zu bytes", size);
    dw_os_mutex_lock(inbox->mutex);
    bool accepted = accept_item(inbox, item);
    uint32_t n = inbox->n_accepted;
    uint64_t bytes = inbox->bytes_accepted;
    dw_os_mutex_unlock(inbox->mutex);
    if (accepted) return DW_OK;
    free_inbox_item(item);
    return dw_fail(err, DW_E_FULL, "the mailbox is full (%u messages, %llu bytes)", n, (unsigned long long)bytes);
}

size_t dw_inbox_waiting(dw_inbox *inbox) {
    dw_os_mutex_lock(inbox->mutex);
    size_t n = inbox->n_accepted;
    dw_os_mutex_unlock(inbox->mutex);
    return n;
}

uint64_t dw_inbox_last(dw_inbox *inbox) {
    dw_os_mutex_lock(inbox->mutex);
    uint64_t last = inbox->last_id;
    dw_os_mutex_unlock(inbox->mutex);
    return last;
}

/* --- the actor's thread -------------------------------------------------------------------------------------- */

void dw_inbox_adopt(dw_inbox *inbox, const dw_mailbox *box) {
    dw_os_mutex_lock(inbox->mutex);
    assert(inbox->n_accepted == 0);
    inbox->n_accepted = box->count;
    inbox->bytes_accepted = box->bytes;
    inbox->last_id = box->next_id;
    check_inbox(inbox);
    dw_os_mutex_unlock(inbox->mutex);
}

/* Takes the whole list out when the mailbox has room for it; else *n says how much room it needs. */
static inbox_item *take_list(dw_inbox *inbox, const dw_mailbox *box, uint32_t *n) {
    inbox_item *list = NULL;
    dw_os_mutex_lock(inbox->mutex);
    *n = inbox->n_listed;
    if (*n <= box->capacity - box->count) {
        list = inbox->first;
        inbox->first = inbox->last = NULL;
        inbox->n_listed = 0;
    }
    check_inbox(inbox);
    dw_os_mutex_unlock(inbox->mutex);
    return list;
}

dw_status dw_inbox_drain(dw_inbox *inbox, dw_mailbox *box, dw_error *err) {
    uint32_t n = 0;
    inbox_item *list = take_list(inbox, box, &n);
    while (!list && n > 0) { /* more may come while room is made */
        dw_status status = dw_mailbox_reserve(box, n);
        if (status != DW_OK) return dw_fail(err, status, "no memory for %u messages", n);
        list = take_list(inbox, box, &n);
    }
    while (list) {
        inbox_item *item = list;
        list = item->next;
        dw_mailbox_put(box, item->message);
        free(item);
    }
    return DW_OK;
}

void dw_inbox_handled(dw_inbox *inbox, dw_mailbox *box) {
    uint32_t size = dw_mailbox_first(box)->size;
    dw_mailbox_drop_first(box);
    dw_os_mutex_lock(inbox->mutex);
    inbox->n_accepted--;
    inbox->bytes_accepted -= size;
    check_inbox(inbox);
    dw_os_mutex_unlock(inbox->mutex);
}

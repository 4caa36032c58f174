/* inbox_tsan_test.c: several threads send while one takes over and handles, under the thread sanitizer. Nothing is lost
 * or doubled, each sender's messages come in the order in which it sent them, and the numbers rise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/inbox.h"
#include "os/os.h"

enum { SENDERS = 4, MESSAGES = 3000 };

static void require(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

typedef struct sender {
    dw_inbox *inbox;
    uint32_t index;
} sender;

static void send_all(void *argument) {
    const sender *s = argument;
    for (uint32_t i = 0; i < MESSAGES;) {
        const uint32_t body[2] = {s->index, i};
        dw_error err;
        dw_status status = dw_inbox_put(s->inbox, body, sizeof body, 1, &err);
        require(status == DW_OK || status == DW_E_FULL, "a message was refused");
        if (status == DW_OK) i++; /* full: the other side is slower, try again */
    }
}

int main(void) {
    dw_error err;
    dw_inbox *inbox = NULL;
    dw_mailbox box = {0};
    sender senders[SENDERS];
    dw_os_thread *threads[SENDERS];
    uint32_t next[SENDERS] = {0};
    uint64_t last_id = 0;
    require(dw_inbox_create(&inbox, &err) == DW_OK, "no inbox");
    for (uint32_t i = 0; i < SENDERS; i++) {
        senders[i] = (sender){inbox, i};
        require(dw_os_thread_create("sender", 0, send_all, &senders[i], &threads[i], &err) == DW_OK, "no thread");
    }
    for (uint32_t handled = 0; handled < SENDERS * MESSAGES;) {
        require(dw_inbox_drain(inbox, &box, &err) == DW_OK, "cannot drain");
        require(dw_inbox_waiting(inbox) >= box.count, "what waits is not counted");
        for (const dw_message *first; (first = dw_mailbox_first(&box)) != NULL; handled++) {
            uint32_t body[2];
            memcpy(body, first->body, sizeof body);
            require(first->id == ++last_id, "numbers do not rise by one");
            require(body[1] == next[body[0]]++, "out of order");
            dw_inbox_handled(inbox, &box);
        }
    }
    for (uint32_t i = 0; i < SENDERS; i++) dw_os_thread_join(threads[i]);
    require(dw_inbox_waiting(inbox) == 0, "something is left");
    dw_mailbox_deinit(&box);
    dw_inbox_destroy(inbox);
    return 0;
}

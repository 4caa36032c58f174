/* inbox_test.c: what was accepted, in which order it reaches the mailbox, and what is refused (inbox.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "actor/inbox.h"

static dw_error err;

static dw_inbox *make_inbox(void) {
    dw_inbox *inbox = NULL;
    assert_int_equal(dw_inbox_create(&inbox, &err), DW_OK);
    return inbox;
}

static void put_text(dw_inbox *inbox, const char *text) {
    assert_int_equal(dw_inbox_put(inbox, text, strlen(text), 5, &err), DW_OK);
}

static void assert_first(const dw_mailbox *box, uint64_t id, const char *text) {
    const dw_message *first = dw_mailbox_first(box);
    assert_non_null(first);
    assert_int_equal(first->id, id);
    assert_int_equal(first->realtime_ns, 5);
    assert_int_equal(first->size, strlen(text));
    assert_memory_equal(first->body, text, first->size);
}

static void messages_reach_the_mailbox_in_the_order_in_which_they_were_accepted(void **state) {
    (void)state;
    dw_inbox *inbox = make_inbox();
    dw_mailbox box = {0};
    put_text(inbox, "one");
    put_text(inbox, "");
    assert_null(dw_mailbox_first(&box));
    assert_int_equal(dw_inbox_drain(inbox, &box, &err), DW_OK);
    put_text(inbox, "three");
    assert_int_equal(dw_inbox_waiting(inbox), 3);
    assert_first(&box, 1, "one");
    dw_inbox_handled(inbox, &box);
    assert_first(&box, 2, "");
    dw_inbox_handled(inbox, &box);
    assert_int_equal(dw_inbox_waiting(inbox), 1);
    assert_int_equal(dw_inbox_drain(inbox, &box, &err), DW_OK);
    assert_first(&box, 3, "three");
    assert_int_equal(box.next_id, 3);
    dw_mailbox_deinit(&box);
    dw_inbox_destroy(inbox);
}

static void what_waits_in_inbox_and_mailbox_together_is_bounded(void **state) {
    (void)state;
    dw_inbox *inbox = make_inbox();
    dw_mailbox box = {0};
    for (uint32_t i = 0; i < DW_MAILBOX_MESSAGES_MAX; i++) {
        put_text(inbox, "x");
        if (i % 1000 == 0) assert_int_equal(dw_inbox_drain(inbox, &box, &err), DW_OK);
    }
    assert_int_equal(dw_inbox_put(inbox, "x", 1, 5, &err), DW_E_FULL);
    assert_int_equal(dw_inbox_drain(inbox, &box, &err), DW_OK);
    assert_int_equal(dw_inbox_put(inbox, "x", 1, 5, &err), DW_E_FULL);
    dw_inbox_handled(inbox, &box);
    put_text(inbox, "x");
    assert_int_equal(dw_inbox_waiting(inbox), DW_MAILBOX_MESSAGES_MAX);
    dw_mailbox_deinit(&box);
    dw_inbox_destroy(inbox);

    inbox = make_inbox();
    uint8_t *large = calloc(1, DW_MESSAGE_BYTES_MAX + 1);
    assert_non_null(large);
    assert_int_equal(dw_inbox_put(inbox, large, DW_MESSAGE_BYTES_MAX + 1, 5, &err), DW_E_LIMIT);
    for (uint64_t bytes = 0; bytes < DW_MAILBOX_BYTES_MAX; bytes += DW_MESSAGE_BYTES_MAX) {
        assert_int_equal(dw_inbox_put(inbox, large, DW_MESSAGE_BYTES_MAX, 5, &err), DW_OK);
    }
    assert_int_equal(dw_inbox_put(inbox, large, 1, 5, &err), DW_E_FULL);
    put_text(inbox, ""); /* takes no bytes */
    free(large);
    dw_inbox_destroy(inbox);
}

static void numbers_go_on_behind_those_of_a_mailbox_that_came_from_elsewhere(void **state) {
    (void)state;
    dw_inbox *inbox = make_inbox(), *next = make_inbox();
    dw_mailbox box = {0}, twin;
    put_text(inbox, "one");
    put_text(inbox, "two");
    assert_int_equal(dw_inbox_drain(inbox, &box, &err), DW_OK);
    dw_inbox_handled(inbox, &box);
    assert_int_equal(dw_mailbox_clone(&box, &twin), DW_OK);
    dw_inbox_adopt(next, &twin);
    assert_int_equal(dw_inbox_waiting(next), 1);
    put_text(next, "three");
    assert_int_equal(dw_inbox_drain(next, &twin, &err), DW_OK);
    assert_first(&twin, 2, "two");
    dw_inbox_handled(next, &twin);
    assert_first(&twin, 3, "three");
    dw_mailbox_deinit(&box);
    dw_mailbox_deinit(&twin);
    dw_inbox_destroy(inbox);
    dw_inbox_destroy(next);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_reach_the_mailbox_in_the_order_in_which_they_were_accepted),
        cmocka_unit_test(what_waits_in_inbox_and_mailbox_together_is_bounded),
        cmocka_unit_test(numbers_go_on_behind_those_of_a_mailbox_that_came_from_elsewhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

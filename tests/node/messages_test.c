/* messages_test.c: what a node promises of messages: accepted is on disk, handled is once, a key is one message. */
#include "node/kit.h"

#include <stdio.h>
#include <stdlib.h>

static void spawn(kit *k, const char *name, const dw_node_message *first) {
    const dw_spawn_options options = {.first = first};
    assert_ok(dw_node_spawn(k->node, name, k->counter, &options, &k->err), k->err);
}

static void an_actor_is_what_its_last_turn_left_in_the_next_process(void **state) {
    kit k;
    kit_begin(&k, state, "node-next");
    spawn(&k, "c", NULL);
    for (int i = 1; i <= 5; i++) {
        kit_reopen(&k, 0);
        assert_int_equal(kit_add(&k, "c", "add 2", NULL), 2 * i);
        assert_int_equal(kit_turn(&k, "c"), i);
    }
    kit_end(&k);
}

static void what_was_sent_is_handled_once_and_in_its_order(void **state) {
    kit k;
    uint32_t handled = 0, failed = 0;
    kit_begin(&k, state, "node-order");
    const dw_node_message first = {.body = "add 1", .size = 5};
    spawn(&k, "c", &first);
    assert_int_equal(kit_waiting(&k, "c"), 1);
    assert_int_equal(kit_send(&k, "c", "add 10", NULL), 2);
    kit_reopen(&k, 0);
    assert_int_equal(kit_send(&k, "c", "trap", NULL), 3);
    assert_int_equal(kit_send(&k, "c", "add 100", NULL), 4);
    assert_int_equal(kit_add(&k, "c", "add 1000", NULL), 1111);
    assert_int_equal(kit_waiting(&k, "c"), 0);
    assert_int_equal(kit_send(&k, "c", "add 5", NULL), 6); /* to an actor that is awake */
    kit_reopen(&k, 0);
    assert_ok(dw_node_drain(k.node, "c", UINT64_MAX, NULL, &handled, &failed, &k.err), k.err);
    assert_int_equal(handled, 1);
    assert_int_equal(failed, 0);
    assert_int_equal(kit_add(&k, "c", "add 0", NULL), 1116);
    kit_end(&k);
}

static void a_key_is_one_message_whoever_sends_it_and_when(void **state) {
    kit k;
    dw_node_answer answer;
    kit_begin(&k, state, "node-keys");
    spawn(&k, "c", NULL);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(kit_add(&k, "c", "add 7", "one"), 7);
        if (i == 1) kit_reopen(&k, 0);
    }
    assert_int_equal(kit_turn(&k, "c"), 1);
    uint64_t sent = kit_send(&k, "c", "add 3", "two");
    kit_reopen(&k, 0);
    assert_int_equal(kit_send(&k, "c", "add 3", "two"), sent);
    assert_int_equal(kit_waiting(&k, "c"), 1);
    assert_int_equal(kit_add(&k, "c", "add 3", "two"), 10); /* the waiting one is answered */
    assert_int_equal(kit_send(&k, "c", "add 3", "two"), sent);
    assert_int_equal(kit_waiting(&k, "c"), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(kit_ask(&k, "c", "trap", 4, "three", &answer), DW_E_TRAP);
        assert_true(answer.known == (i == 1));
        assert_non_null(strstr(k.err.text, "trap"));
        kit_reopen(&k, 0);
    }
    assert_int_equal(kit_ask(&k, "c", "add 8", 5, "one", &answer), DW_E_MISMATCH);
    assert_int_equal(kit_add(&k, "c", "add 0", NULL), 10);
    kit_end(&k);
}

static void the_oldest_answers_are_forgotten_first(void **state) {
    kit k;
    char key[16];
    kit_begin(&k, state, "node-forget");
    spawn(&k, "c", NULL);
    for (unsigned i = 0; i < DW_NODE_ANSWERS_MAX + 3; i++) {
        snprintf(key, sizeof key, "k%u", i);
        assert_int_equal(kit_add(&k, "c", "add 1", key), i + 1);
    }
    dw_node_info info;
    kit_reopen(&k, 0);
    assert_ok(dw_node_look(k.node, "c", &info, &k.err), k.err);
    assert_int_equal(info.answers, DW_NODE_ANSWERS_MAX);
    dw_node_info_deinit(&info);
    assert_int_equal(kit_add(&k, "c", "add 1", "k3"), 4);                       /* remembered */
    assert_int_equal(kit_add(&k, "c", "add 1", "k2"), DW_NODE_ANSWERS_MAX + 4); /* forgotten: a new message */
    kit_end(&k);
}

static void names_keys_and_programs_that_cannot_be_are_refused(void **state) {
    kit k;
    dw_node_answer answer;
    dw_node_info info;
    char long_key[DW_NODE_KEY_BYTES_MAX + 2];
    kit_begin(&k, state, "node-refusals");
    spawn(&k, "a/b", NULL);
    static const char *const bad[] = {"", ".", "..", "../c", "a/../b", "a//b", "/a", "a b", "a\n"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(dw_node_spawn(k.node, bad[i], k.counter, NULL, &k.err), DW_E_INVALID);
        assert_int_equal(kit_ask(&k, bad[i], "x", 1, NULL, &answer), DW_E_INVALID);
        assert_int_equal(dw_node_remove(k.node, bad[i], &k.err), DW_E_INVALID);
        assert_int_equal(dw_node_look(k.node, bad[i], &info, &k.err), DW_E_INVALID);
    }
    assert_int_equal(dw_node_spawn(k.node, "a/b", k.counter, NULL, &k.err), DW_E_EXISTS);
    assert_int_equal(kit_ask(&k, "nobody", "x", 1, NULL, &answer), DW_E_NOT_FOUND);
    memset(long_key, 'k', sizeof long_key - 1);
    long_key[sizeof long_key - 1] = '\0';
    assert_int_equal(kit_ask(&k, "a/b", "add 1", 5, long_key, &answer), DW_E_INVALID);
    assert_int_equal(kit_ask(&k, "a/b", "add 1", 5, "", &answer), DW_E_INVALID);
    assert_int_equal(kit_turn(&k, "a/b"), 0);
    dw_node *second = NULL;
    assert_int_equal(dw_node_open(k.folder, NULL, &second, &k.err), DW_E_BUSY);
    kit_end(&k);
}

static void a_removed_actor_is_gone_and_its_name_is_free(void **state) {
    kit k;
    dw_node_answer answer;
    kit_begin(&k, state, "node-remove");
    spawn(&k, "c", NULL);
    assert_int_equal(kit_add(&k, "c", "add 4", "once"), 4);
    kit_send(&k, "c", "add 9", NULL);
    assert_ok(dw_node_remove(k.node, "c", &k.err), k.err);
    assert_int_equal(kit_ask(&k, "c", "add 1", 5, NULL, &answer), DW_E_NOT_FOUND);
    spawn(&k, "c", NULL);
    assert_int_equal(kit_waiting(&k, "c"), 0);
    assert_int_equal(kit_add(&k, "c", "add 6", "once"), 6);
    kit_end(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_actor_is_what_its_last_turn_left_in_the_next_process),
        cmocka_unit_test(what_was_sent_is_handled_once_and_in_its_order),
        cmocka_unit_test(a_key_is_one_message_whoever_sends_it_and_when),
        cmocka_unit_test(the_oldest_answers_are_forgotten_first),
        cmocka_unit_test(names_keys_and_programs_that_cannot_be_are_refused),
        cmocka_unit_test(a_removed_actor_is_gone_and_its_name_is_free),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

/* faults_test.c: whatever system call of a message's way fails, and with whatever the system says: the message is
 * handled, or it is not; never half, never twice; and no failure of the system is taken for the program's. */
#include "node/kit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "os/fault_loop.h"

static const int numbers[] = {EIO, ENOSPC, EMFILE};
enum { N_NUMBERS = sizeof numbers / sizeof numbers[0] };

static void must_have_failed(const kit *k, const fault_loop *loop, dw_status status) {
    assert_true(loop->hit);
    if (dw_status_kind_of(status) != DW_KIND_FAILED)
        fail_msg("errno %d, call %llu: %s: %s", loop->plan.system_errno, (unsigned long long)loop->plan.k,
                 dw_status_name(status), k->err.text);
}

static void spawn_counter(kit *k, const char *name) {
    assert_ok(dw_node_spawn(k->node, name, k->counter, NULL, &k->err), k->err);
}

/* The same key, in the same node where it still takes something, else in the next one. */
static long ask_again(kit *k, const char *text, const char *key) {
    dw_node_answer answer;
    if (kit_ask(k, "c", text, strlen(text), key, &answer) == DW_OK) {
        long number = strtol(answer.turn.reply, NULL, 10);
        free(answer.turn.reply);
        return number;
    }
    assert_int_equal(dw_status_kind_of(answer.status), DW_KIND_FAILED); /* a sync had failed: the store is poisoned */
    kit_reopen(k, 0);
    return kit_add(k, "c", text, key);
}

static void a_turn_is_done_once_whatever_call_fails(void **state) {
    kit k;
    char key[24];
    long n = 0;
    kit_begin(&k, state, "node-faults");
    spawn_counter(&k, "c");
    for (int i = 0; i < N_NUMBERS; i++) {
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            dw_node_answer answer;
            snprintf(key, sizeof key, "k%ld", ++n);
            if (loop.plan.k % 2) kit_reopen(&k, 0); /* then the actor wakes first */
            fault_loop_arm(&loop);
            dw_status status = kit_ask(&k, "c", "add 1", 5, key, &answer);
            fault_loop_disarm(&loop);
            if (status == DW_OK) {
                assert_int_equal(strtol(answer.turn.reply, NULL, 10), n);
                free(answer.turn.reply);
            } else {
                must_have_failed(&k, &loop, status);
                assert_int_equal(ask_again(&k, "add 1", key), n);
            }
            assert_int_equal(kit_turn(&k, "c"), n);
        }
        kit_reopen(&k, 0);
    }
    print_message("%ld turns\n", n);
    kit_end(&k);
}

static void what_was_sent_is_there_once_whatever_call_fails(void **state) {
    kit k;
    char key[24];
    long n = 0;
    kit_begin(&k, state, "node-send-faults");
    spawn_counter(&k, "c");
    for (int i = 0; i < N_NUMBERS; i++) {
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            const dw_node_message message = {.body = "add 1", .size = 5, .key = key};
            uint64_t number = 0;
            bool known = false;
            snprintf(key, sizeof key, "k%ld", ++n);
            if (loop.plan.k % 2) kit_reopen(&k, 0);
            fault_loop_arm(&loop);
            dw_status status = dw_node_send(k.node, "c", &message, &number, &known, &k.err);
            fault_loop_disarm(&loop);
            if (status != DW_OK) {
                must_have_failed(&k, &loop, status);
                kit_reopen(&k, 0);
                kit_send(&k, "c", "add 1", key);
            }
            snprintf(key, sizeof key, "n%ld", n);
            assert_int_equal(kit_add(&k, "c", "add 0", key), n); /* the books in memory are those on disk */
        }
        kit_reopen(&k, 0);
    }
    assert_int_equal(kit_add(&k, "c", "add 0", NULL), n);
    kit_end(&k);
}

static void an_actor_is_spawned_whole_or_not_whatever_call_fails(void **state) {
    kit k;
    char name[24];
    unsigned n = 0;
    kit_begin(&k, state, "node-spawn-faults");
    for (int i = 0; i < N_NUMBERS; i++) {
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            const dw_node_message first = {.body = "add 7", .size = 5};
            const dw_spawn_options options = {.first = &first};
            snprintf(name, sizeof name, "c%u", ++n);
            fault_loop_arm(&loop);
            dw_status status = dw_node_spawn(k.node, name, k.counter, &options, &k.err);
            fault_loop_disarm(&loop);
            if (status != DW_OK) {
                must_have_failed(&k, &loop, status);
                kit_reopen(&k, 0);
                status = dw_node_spawn(k.node, name, k.counter, &options, &k.err);
                if (status != DW_E_EXISTS) assert_ok(status, k.err); /* on disk it was, and could not be told */
            }
            assert_int_equal(kit_add(&k, name, "add 1", NULL), 8);
        }
    }
    kit_end(&k);
}

static void a_node_opens_or_says_why_not_whatever_call_fails(void **state) {
    kit k;
    kit_begin(&k, state, "node-open-faults");
    spawn_counter(&k, "c");
    assert_int_equal(kit_add(&k, "c", "add 5", NULL), 5);
    for (int i = 0; i < N_NUMBERS; i++) {
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            assert_ok(dw_node_close(k.node, &k.err), k.err);
            fault_loop_arm(&loop);
            dw_status status = dw_node_open(k.folder, NULL, &k.node, &k.err);
            fault_loop_disarm(&loop);
            if (status != DW_OK) {
                must_have_failed(&k, &loop, status);
                assert_null(k.node);
                assert_ok(dw_node_open(k.folder, NULL, &k.node, &k.err), k.err);
            }
            dw_node_live_in(k.node, k.f->runtime);
            assert_int_equal(kit_add(&k, "c", "add 0", NULL), 5);
        }
    }
    kit_end(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_is_done_once_whatever_call_fails),
        cmocka_unit_test(what_was_sent_is_there_once_whatever_call_fails),
        cmocka_unit_test(an_actor_is_spawned_whole_or_not_whatever_call_fails),
        cmocka_unit_test(a_node_opens_or_says_why_not_whatever_call_fails),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

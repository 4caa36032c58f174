/* wake_test.c: an actor of a node after k turns in k processes is the actor in memory after k turns (I4); and what a
 * node's folder needs to go on. */
#include "node/kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "actor/actor_internal.h"
#include "os/os.h"

static const uint8_t seed[32] = {1, 2, 3}; /* as the fixture's actors */

static void spawn_probe(kit *k, const char *name) {
    const dw_spawn_options options = {.birth_realtime_ns = 1000000000, .random_seed = seed};
    assert_ok(dw_node_spawn(k->node, name, k->f->probe, &options, &k->err), k->err);
}

/* The same message at the same time to both. */
static void say_to_both(kit *k, const char *name, dw_actor *twin, const void *body, size_t size, uint64_t at) {
    const dw_node_message message = {.body = body, .size = size, .realtime_ns = at};
    dw_node_answer answer;
    dw_turn_result result;
    assert_ok(dw_node_ask(k->node, name, &message, UINT64_MAX, NULL, &answer, &k->err), k->err);
    assert_ok(dw_actor_send(twin, body, size, at, &k->err), k->err);
    assert_ok(dw_actor_turn(twin, UINT64_MAX, &result, &k->err), k->err);
    assert_int_equal(answer.turn.reply_size, result.reply_size);
    if (result.reply_size > 0) assert_memory_equal(answer.turn.reply, result.reply, result.reply_size);
    assert_int_equal(answer.turn.turn, result.turn);
    free(answer.turn.reply);
    free(result.reply);
}

static void assert_same_as(kit *k, const char *name, dw_actor *twin) {
    dw_actor_digest one, two;
    assert_ok(dw_node_digest(k->node, name, &one, &k->err), k->err);
    assert_ok(dw_actor_digest_of(twin, &two, &k->err), k->err);
    assert_memory_equal(&one.memory, &two.memory, sizeof one.memory);
    assert_memory_equal(&one.kv, &two.kv, sizeof one.kv);
    assert_memory_equal(&one.tokens, &two.tokens, sizeof one.tokens);
    assert_memory_equal(&one.logits, &two.logits, sizeof one.logits);
    assert_int_equal(kit_turn(k, name), dw_actor_turns(twin));
}

static void k_turns_in_k_processes_are_k_turns_in_memory(void **state) {
    static const char *const says[] = {"s1", "S2", "g3", "s4", "z", "a5", "s6", "A512", "E24", "e7", "E24", "z", "h"};
    kit k;
    kit_begin(&k, state, "node-same");
    spawn_probe(&k, "p");
    dw_actor *twin = fixture_actor(k.f, "p");
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < sizeof says / sizeof says[0]; i++) {
            kit_reopen(&k, 0);
            say_to_both(&k, "p", twin, says[i], strlen(says[i]), 2000000000 + (uint64_t)round * 1000 + i);
            if (i % 4 == 0) assert_same_as(&k, "p", twin);
        }
        kit_reopen(&k, 0);
        assert_same_as(&k, "p", twin);
    }
    dw_actor_destroy(twin);
    kit_end(&k);
}

/* With fewer awake than there are: they sleep and wake in one process, and nothing is written for it. */
static void actors_that_take_turns_to_be_awake_are_the_same_too(void **state) {
    enum { ACTORS = 4 };
    kit k;
    char name[8];
    dw_actor *twins[ACTORS];
    kit_begin(&k, state, "node-turns");
    kit_reopen(&k, 2);
    for (int i = 0; i < ACTORS; i++) {
        snprintf(name, sizeof name, "p%d", i);
        spawn_probe(&k, name);
        twins[i] = fixture_actor(k.f, name);
    }
    for (uint64_t turn = 0; turn < 24; turn++) {
        snprintf(name, sizeof name, "p%d", (int)(turn * 7 % ACTORS));
        say_to_both(&k, name, twins[turn * 7 % ACTORS], turn % 3 ? "S5" : "z", turn % 3 ? 2 : 1, 5000 + turn);
    }
    for (int i = 0; i < ACTORS; i++) {
        snprintf(name, sizeof name, "p%d", i);
        assert_same_as(&k, name, twins[i]);
        dw_actor_destroy(twins[i]);
    }
    kit_end(&k);
}

/* What the store does not have is the program's. So zeros where the program began with something have to be there. */
static void zeros_over_the_programs_own_data_stay_zeros(void **state) {
    kit k;
    dw_program *erase = NULL;
    dw_actor *twin = NULL;
    dw_actor_digest before, after;
    const dw_actor_options options = {.name = "e", .birth_realtime_ns = 1000000000, .random_seed = seed};
    const dw_spawn_options born = {.birth_realtime_ns = 1000000000, .random_seed = seed};
    kit_begin(&k, state, "node-zeros");
    assert_ok(dw_runtime_load_program(k.f->runtime, DW_TEST_PROGRAMS "/node_erase.wasm", &erase, &k.err), k.err);
    assert_ok(dw_actor_create(k.f->runtime, erase, &options, &twin, &k.err), k.err);
    assert_ok(dw_node_spawn(k.node, "e", erase, &born, &k.err), k.err);
    kit_reopen(&k, 0);
    assert_ok(dw_node_digest(k.node, "e", &before, &k.err), k.err);
    say_to_both(&k, "e", twin, "", 0, 5000);
    kit_reopen(&k, 0);
    assert_same_as(&k, "e", twin);
    assert_ok(dw_node_digest(k.node, "e", &after, &k.err), k.err);
    assert_memory_not_equal(&before.memory, &after.memory, sizeof after.memory);
    dw_actor_destroy(twin);
    dw_program_release(erase);
    kit_end(&k);
}

/* --- conversations ----------------------------------------------------------------------------------------------- */

enum { AT_TOKENS = 0, AT_OPTIONS = 20480, AT_TEXT = 28672, PROMPT = 300, HEAD_BYTES = 36 };

typedef struct pair { kit *k; dw_actor *twin; uint64_t at; uint32_t arena; } pair;

static void both_put(pair *p, uint32_t at, const void *data, uint32_t size) {
    char body[10 + PROMPT * 4 + 512];
    assert_true(size <= sizeof body - 10);
    snprintf(body, 11, "p%08x:", at);
    memcpy(body + 10, data, size);
    say_to_both(p->k, "t", p->twin, body, 10 + size, p->at++);
}

/* Where the probe's arena is in its memory: it says so when something is put there. */
static uint32_t arena_of(dw_actor *actor) { return fixture_put(actor, AT_TEXT, "", 1) - AT_TEXT; }

static void both_request(pair *p, dw_request request) {
    uint8_t body[HEAD_BYTES + sizeof request];
    const uint32_t words[6] = {0, 1, 0, 1, 1, 0};
    const int64_t deadline = -1;
    memcpy(body, "raw ", 4);
    memcpy(body + 4, words, sizeof words);
    memcpy(body + 28, &deadline, sizeof deadline);
    memcpy(body + HEAD_BYTES, &request, sizeof request);
    kit_reopen(p->k, 0);
    say_to_both(p->k, "t", p->twin, body, sizeof body, p->at++); /* completions are in the reply: they are compared */
}

static dw_request feed(const pair *p, uint32_t handle, uint32_t first, uint32_t n) {
    return (dw_request){.op = DW_OP_GENERATE, .handle = handle, .ptr0 = p->arena + 4 * first, .len0 = n,
                        .ptr1 = p->arena + AT_OPTIONS, .len1 = sizeof(dw_generate_options),
                        .ptr2 = p->arena + AT_TEXT, .len2 = 4096};
}

static void begin_pair(pair *p, kit *k) {
    int32_t prompt[PROMPT];
    const dw_generate_options options = {.size = sizeof options, .n_max = 5, .flags = DW_GENERATE_IGNORE_END,
                                         .sampling = {.temperature = 0.9f, .top_k = 20}};
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 37 + 5) % 500;
    *p = (pair){.k = k, .at = 3000000000};
    dw_actor *other = fixture_actor(k->f, "other");
    p->arena = arena_of(other);
    dw_actor_destroy(other);
    spawn_probe(k, "t");
    p->twin = fixture_actor(k->f, "t");
    both_put(p, AT_TOKENS, prompt, sizeof prompt);
    both_put(p, AT_OPTIONS, &options, sizeof options);
}

static uint32_t handle_of(const dw_actor *actor, size_t index) { return actor->sessions[index]->shown.handle; }

static void conversations_in_k_processes_are_those_in_memory(void **state) {
    kit k;
    pair p;
    kit_begin(&k, state, "node-talk");
    begin_pair(&p, &k);
    both_request(&p, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7});
    uint32_t handle = handle_of(p.twin, 0);
    both_request(&p, feed(&p, handle, 0, 200));
    both_request(&p, (dw_request){.op = DW_OP_SESSION_FORK, .handle = handle});
    uint32_t child = handle_of(p.twin, 1);
    both_request(&p, feed(&p, child, 10, 3));
    both_request(&p, feed(&p, handle, 30, 1));
    assert_same_as(&k, "t", p.twin);
    both_request(&p, (dw_request){.op = DW_OP_SESSION_REWIND, .handle = handle, .arg0 = 120});
    both_request(&p, feed(&p, handle, 200, 80));
    both_request(&p, (dw_request){.op = DW_OP_SESSION_CLOSE, .handle = child});
    both_request(&p, (dw_request){.op = DW_OP_SESSION_OPEN});
    for (uint32_t i = 0; i < 6; i++) {
        both_request(&p, (dw_request){.op = DW_OP_FORWARD, .flags = DW_FLAG_HOLD, .handle = handle,
                                      .ptr0 = p.arena + 4 * i, .len0 = 1});
        assert_same_as(&k, "t", p.twin);
        both_request(&p, feed(&p, handle, 0, 0)); /* draws from the logits that were held */
    }
    kit_reopen(&k, 0);
    assert_same_as(&k, "t", p.twin);
    dw_actor_destroy(p.twin);
    kit_end(&k);
}

/* --- programs ---------------------------------------------------------------------------------------------------- */

/* Another machine: nothing but the node's folder knows the program. */
static void the_folder_holds_its_programs(void **state) {
    kit k;
    char cache[600];
    dw_runtime *elsewhere = NULL;
    kit_begin(&k, state, "node-program");
    spawn_probe(&k, "p");
    dw_actor *twin = fixture_actor(k.f, "p");
    say_to_both(&k, "p", twin, "s1", 2, 77);
    kit_reopen(&k, 0);
    snprintf(cache, sizeof cache, "%s/cache-%llu", k.folder, (unsigned long long)dw_os_monotonic_ns());
    const dw_runtime_options options = {.cache_folder = cache, .memory_bytes_max = DW_GUEST_MEMORY_BYTES_MAX};
    assert_ok(dw_runtime_create(&options, &elsewhere, &k.err), k.err);
    dw_node_live_in(k.node, elsewhere);
    assert_same_as(&k, "p", twin);
    kit_reopen(&k, 0); /* its actor goes before its runtime */
    dw_runtime_destroy(elsewhere);
    dw_actor_destroy(twin);
    kit_end(&k);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(k_turns_in_k_processes_are_k_turns_in_memory),
        cmocka_unit_test(actors_that_take_turns_to_be_awake_are_the_same_too),
        cmocka_unit_test(zeros_over_the_programs_own_data_stay_zeros),
        cmocka_unit_test(conversations_in_k_processes_are_those_in_memory),
        cmocka_unit_test(the_folder_holds_its_programs),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

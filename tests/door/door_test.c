/* door_test.c: whatever a guest hands to `enter`, it gets a status, and harms only itself (I6). */
#include "actor/fixture.h"

#include <stdio.h>
#include "os/os.h"

static void a_call_that_is_wrong_is_refused_as_a_whole(void **state) {
    static const struct { raw_call head; int32_t expected; const char *why; } cases[] = {
        {{.requests = 4, .n = 1, .capacity = 1}, DW_E_INVALID, "records not aligned"},
        {{.requests = 0xfffffff8u, .n = 1, .capacity = 1}, DW_E_RANGE, "records beyond memory"},
        {{.n = 1025, .capacity = 1}, DW_E_LIMIT, "too many records"},
        {{.n = 0xffffffffu, .capacity = 1}, DW_E_LIMIT, "absurdly many records"},
        {{.completions = 0xfffffff8u, .capacity = 1}, DW_E_RANGE, "completions beyond memory"},
        {{.completions = 12, .capacity = 1}, DW_E_INVALID, "completions not aligned"},
        {{.capacity = 0x08000000u}, DW_E_RANGE, "room for 4 GiB of completions"},
        {{.capacity = 1, .wait = 1}, DW_E_INVALID, "waits for nothing"},
        {{.capacity = 8, .wait = 0xffffffffu}, DW_E_INVALID, "waits for more than there can be"},
    };
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "calls");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        raw_answer answer;
        assert_int_equal(fixture_raw(actor, cases[i].head, NULL, 0, &answer), DW_OK);
        if (answer.n != cases[i].expected) fail_msg("%s: %d instead of %d", cases[i].why, answer.n, cases[i].expected);
    }
    dw_actor_destroy(actor);
}

static void every_request_gets_one_completion_with_its_user_data(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "completions");
    dw_request records[] = {
        {.op = DW_OP_INTERRUPTED, .user_data = 11},
        {.op = 9999, .user_data = 12},                                            /* unknown */
        {.op = DW_OP_INTERRUPTED, .user_data = 13, .arg2 = 1},                     /* reserved field */
        {.op = DW_OP_INTERRUPTED, .user_data = 14, .flags = 0x8000},               /* unknown flag */
        {.op = DW_OP_SESSION_LENGTH, .user_data = 15, .handle = 0x10001},          /* forged handle */
        {.op = DW_OP_SLEEP, .user_data = 16, .arg0 = 2000000},
        {.op = DW_OP_SLEEP, .user_data = 17, .arg0 = UINT64_MAX},
        {.op = DW_OP_CANCEL, .user_data = 18, .arg0 = 17},
        {.op = DW_OP_SESSION_OPEN, .user_data = 19},                               /* no model here */
    };
    static const struct { uint64_t user_data; int32_t status; } expected[] = {
        {11, 0}, {12, DW_E_UNSUPPORTED}, {13, DW_E_INVALID}, {14, DW_E_INVALID}, {15, DW_E_BAD_HANDLE},
        {17, DW_E_CANCELLED}, {18, 0}, {19, DW_E_NOT_FOUND}, {16, 0}};
    raw_answer answer;
    assert_int_equal(fixture_raw(actor, (raw_call){.n = 9, .capacity = RAW_COMPLETIONS, .wait = 9, .deadline = -1},
                                 records, 9, &answer),
                     DW_OK);
    assert_int_equal(answer.n, 9);
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(answer.completions[i].user_data, expected[i].user_data);
        assert_int_equal(answer.completions[i].status, expected[i].status);
    }
    dw_actor_destroy(actor);
}

static void a_deadline_returns_without_what_is_not_done(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "deadline");
    dw_request records[] = {{.op = DW_OP_SLEEP, .user_data = 1, .arg0 = 1000000},
                            {.op = DW_OP_SLEEP, .user_data = 2, .arg0 = UINT64_C(3600000000000)}};
    raw_answer answer;
    assert_int_equal(
        fixture_raw(actor, (raw_call){.n = 2, .capacity = 4, .wait = 2, .deadline = 20000000}, records, 2, &answer),
        DW_OK);
    assert_int_equal(answer.n, 1);
    assert_int_equal(answer.completions[0].user_data, 1);
    dw_actor_destroy(actor); /* the other one was cancelled at the end of its turn */
}

/* The order in which one initializer draws is the compiler's choice, and does not matter. */
static unsigned random_next(unsigned *random) {
    *random = *random * 1103515245u + 12345u;
    return *random >> 12;
}

/* Random records made of nasty numbers, for every operation. The actor stays usable and its neighbour untouched. */
static void nasty_records_harm_nobody(void **state) {
    static const uint32_t nasty[] = {0,        1,          4,           7,           8,          64,
                                     255,      256,        4096,        65535,       65536,      1u << 20,
                                     1u << 24, 0x7fffffff, 0x80000000u, 0xfffffff8u, 0xffffffffu};
    static const uint16_t ops[] = {
#define X(name, number, window, text) number,
        DW_OP_TABLE(X)
#undef X
        0, 8, 100, 65535};
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "nasty"), *neighbour = fixture_actor(f, "neighbour"),
             *twin = fixture_actor(f, "twin");
    assert_int_equal(fixture_say(neighbour, "S1"), DW_OK);
    assert_int_equal(fixture_say(twin, "S1"), DW_OK);
    unsigned random = 77;
#define PICK(list) ((list)[random_next(&random) % (sizeof(list) / sizeof((list)[0]))])
    for (int round = 0; round < 3000; round++) {
        dw_request records[6];
        for (int i = 0; i < 6; i++) {
            records[i] =
                (dw_request){.op = PICK(ops), .user_data = PICK(nasty), .ptr0 = PICK(nasty), .len0 = PICK(nasty)};
            if (random & 0x10000) records[i].handle = PICK(nasty);
            if (random & 0x20000) records[i].flags = (uint16_t)PICK(nasty);
            if (random & 0x40000) records[i].ptr1 = PICK(nasty), records[i].len1 = PICK(nasty);
            if (random & 0x80000) records[i].ptr2 = PICK(nasty), records[i].len2 = PICK(nasty);
            if (random & 0x100000) records[i].arg0 = PICK(nasty);
            if (random & 0x200000) records[i].arg1 = PICK(nasty);
        }
        raw_answer answer;
        raw_call head = {.n = 6, .capacity = RAW_COMPLETIONS, .wait = 0, .deadline = 0};
        if (fixture_raw(actor, head, records, 6, &answer) == DW_OK) assert_in_range(answer.n, 1, 6);
    }
    assert_int_equal(fixture_say(actor, "h"), DW_OK);
    fixture_assert_same(neighbour, twin);
    dw_actor_destroy(actor);
    dw_actor_destroy(neighbour);
    dw_actor_destroy(twin);
}

static void growing_to_the_end_of_memory_harms_nobody(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "grower");
    assert_int_equal(fixture_say(actor, "G"), DW_OK);
    assert_int_equal(fixture_say(actor, "s1"), DW_OK);
    dw_error err = {0};
    dw_actor_use use;
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    assert_true(use.memory_bytes > UINT64_C(4000000000));
    dw_actor_destroy(actor);
}

/* Three matrices of a GiB, all zeros; half a minute of work and more. */
static void a_computation_without_end_is_refused(void **state) {
    enum { SIDE = 16384 };
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "busy");
    assert_int_equal(fixture_say(actor, "G"), DW_OK);
    const uint32_t gib = UINT32_C(1) << 30;
    dw_tensor tensors[3];
    for (uint32_t i = 0; i < 3; i++)
        tensors[i] = (dw_tensor){.ptr = (uint32_t)(gib / 2 + i * (uint64_t)gib), .columns = SIDE, .rows = SIDE};
    dw_node node = {.op = DW_NODE_MUL_MAT, .a = 0, .b = 1, .out = 2};
    dw_compute_options options = {.size = sizeof options, .n_tensors = 3, .n_nodes = 1};
    options.tensors = fixture_put(actor, 0, tensors, sizeof tensors);
    options.nodes = fixture_put(actor, 256, &node, sizeof node);
    dw_request request = {
        .op = DW_OP_COMPUTE, .ptr0 = fixture_put(actor, 512, &options, sizeof options), .len0 = sizeof options};
    raw_answer answer;
    assert_int_equal(
        fixture_raw(actor, (raw_call){.n = 1, .capacity = 1, .wait = 1, .deadline = -1}, &request, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_LIMIT);
    dw_actor_destroy(actor);
}

static void a_program_that_initialises_itself_cannot_ask_for_anything(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_program *program = NULL;
    dw_actor *actor = NULL;
    dw_turn_result result;
    int32_t told = 0;
    assert_ok(dw_runtime_load_program(f->runtime, DW_TEST_PROGRAMS "/door_early.wasm", &program, &err), err);
    assert_ok(dw_actor_create(f->runtime, program, &(dw_actor_options){.name = "early"}, &actor, &err), err);
    for (int i = 0; i < 2; i++) { /* the first turn initialises, the second does not */
        assert_ok(fixture_turn(actor, "", 0, &result, &err), err);
        assert_int_equal(result.reply_size, sizeof told);
        memcpy(&told, result.reply, sizeof told);
        assert_int_equal(told, DW_E_STATE);
        free(result.reply);
    }
    dw_actor_destroy(actor);
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_call_that_is_wrong_is_refused_as_a_whole),
        cmocka_unit_test(every_request_gets_one_completion_with_its_user_data),
        cmocka_unit_test(a_deadline_returns_without_what_is_not_done),
        cmocka_unit_test(nasty_records_harm_nobody),
        cmocka_unit_test(a_computation_without_end_is_refused),
        cmocka_unit_test(growing_to_the_end_of_memory_harms_nobody),
        cmocka_unit_test(a_program_that_initialises_itself_cannot_ask_for_anything),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

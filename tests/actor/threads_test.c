/* threads_test.c: actors of one runtime on several threads at once: each does what it would have done alone, to the last bit. */
#include "actor/fixture_model.h"

#include <stdio.h>
#include "os/os.h"
#include "support/traps.h"

enum { THREADS = 4, ROUNDS = 6, PROMPT = 300, AT_ROW = 16384, AT_OPTIONS = 20480, AT_TEXT = 28672, AT_COMPUTE = 65536 };

static int32_t prompt[PROMPT];

/* What one thread does with an actor of its own. cmocka's assertions belong to the main thread: here a failure is a text. */
typedef struct worker {
    fixture *f;
    int index;
    bool talks;                  /* with the model */
    uint64_t owner;
    dw_actor *actor;
    uint64_t now, tokens_shared, turns;
    uint32_t arena, handle;
    dw_actor_digest digest;
    char failure[256];
} worker;

static bool failed(worker *w, const char *what, dw_status status, const dw_error *err) {
    if (status == DW_OK) return false;
    snprintf(w->failure, sizeof w->failure, "%s: %s: %s", what, dw_status_name(status), err ? err->text : "");
    return true;
}

static bool turn(worker *w, const void *body, size_t size, char **reply, size_t *reply_size) {
    dw_error err = {0};
    dw_turn_result result = {0};
    dw_status status = dw_actor_send(w->actor, body, size, w->now += 1000000, &err);
    if (status == DW_OK) status = dw_actor_turn(w->actor, UINT64_MAX, &result, &err);
    w->tokens_shared += result.tokens_shared;
    w->turns++;
    if (reply && status == DW_OK) {
        *reply = result.reply;
        *reply_size = result.reply_size;
    } else {
        free(result.reply);
    }
    return !failed(w, "turn", status, &err);
}

static bool put(worker *w, uint32_t at, const void *data, uint32_t size) {
    char body[4096], *reply = NULL;
    size_t reply_size = 0;
    snprintf(body, 11, "p%08x:", at);
    memcpy(body + 10, data, size);
    if (!turn(w, body, 10 + size, &reply, &reply_size)) return false;
    uint64_t arena = 0;
    memcpy(&arena, reply, sizeof arena);
    free(reply);
    w->arena = (uint32_t)arena;
    return true;
}

static bool request(worker *w, dw_request r, dw_completion *out) {
    struct { char head[4]; uint32_t words[6]; int64_t deadline; } __attribute__((packed)) head = {{'r', 'a', 'w', ' '}, {0, 1, 0, 1, 1, 0}, -1};
    char body[sizeof head + sizeof r], *reply = NULL;
    size_t size = 0;
    memcpy(body, &head, sizeof head);
    memcpy(body + sizeof head, &r, sizeof r);
    if (!turn(w, body, sizeof body, &reply, &size)) return false;
    memcpy(out, reply + size - RAW_COMPLETIONS * sizeof *out, sizeof *out);
    free(reply);
    return !failed(w, "request", (dw_status)out->status, NULL);
}

static bool begin_talk(worker *w) {
    dw_completion done;
    dw_row row = {.index = DW_ROW_OF_LAST, .flags = DW_ROW_SAMPLE, .sampled = 0};
    dw_generate_options options = {.size = sizeof options, .n_max = 10, .flags = DW_GENERATE_IGNORE_END, .sampling = {.temperature = 0.9f, .top_k = 20}};
    if (!put(w, 0, prompt, sizeof prompt)) return false;
    row.sampled = w->arena + AT_TEXT;
    if (!put(w, AT_ROW, &row, sizeof row) || !put(w, AT_OPTIONS, &options, sizeof options)) return false;
    if (!request(w, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = (uint64_t)w->index}, &done)) return false;
    w->handle = done.result0;
    return request(w, (dw_request){.op = DW_OP_FORWARD, .handle = w->handle, .ptr0 = w->arena, .len0 = PROMPT, .ptr1 = w->arena + AT_ROW, .len1 = 1}, &done);
}

static bool say_more(worker *w) {
    dw_completion done;
    return request(w, (dw_request){.op = DW_OP_GENERATE, .handle = w->handle, .ptr0 = w->arena + 4 * (uint32_t)w->index, .len0 = 3, .ptr1 = w->arena + AT_OPTIONS,
                                   .len1 = sizeof(dw_generate_options), .ptr2 = w->arena + AT_TEXT, .len2 = 4096}, &done);
}

/* Two tensors of 64 x 64 multiplied, on the runtime's one device. */
static bool compute(worker *w) {
    const uint32_t side = 64, bytes = side * side * 4, at = w->arena + AT_COMPUTE;
    dw_completion done;
    dw_tensor tensors[3];
    for (uint32_t i = 0; i < 3; i++) tensors[i] = (dw_tensor){.ptr = (at + 4096 + DW_TENSOR_ALIGN) / DW_TENSOR_ALIGN * DW_TENSOR_ALIGN + i * bytes, .type = DW_TENSOR_F32, .columns = side, .rows = side};
    dw_node node = {.op = DW_NODE_MUL_MAT, .a = 0, .b = 1, .out = 2};
    dw_compute_options options = {.size = sizeof options, .tensors = at + 512, .n_tensors = 3, .nodes = at + 1024, .n_nodes = 1};
    return put(w, AT_COMPUTE, &options, sizeof options) && put(w, AT_COMPUTE + 512, tensors, sizeof tensors) && put(w, AT_COMPUTE + 1024, &node, sizeof node) &&
           request(w, (dw_request){.op = DW_OP_COMPUTE, .ptr0 = at, .len0 = sizeof options}, &done) &&
           request(w, (dw_request){.op = DW_OP_INTERRUPTED}, &done); /* in place of the completion before, which says how long it took */
}

/* The actor goes on as its own fork, or from a file. */
static bool move(worker *w, int round) {
    dw_error err = {0};
    dw_actor *moved = NULL;
    char name[64], path[512];
    dw_status status = DW_OK;
    snprintf(name, sizeof name, "thread-%d-%d", w->index, round);
    if (round % 2) {
        status = dw_actor_fork(w->actor, name, &moved, NULL, &err);
    } else {
        fixture_path(w->f, name, path);
        status = dw_actor_freeze(w->actor, path, NULL, NULL, &err);
        dw_thaw_options options = {.program = w->f->probe, .owner = w->owner};
        if (status == DW_OK) status = dw_actor_thaw(w->f->runtime, path, &options, &moved, NULL, &err);
    }
    if (failed(w, "move", status, &err)) return false;
    dw_actor_destroy(w->actor);
    w->actor = moved;
    return true;
}

static bool bad_turn(worker *w) {
    dw_error err = {0};
    dw_turn_result result;
    dw_status status = dw_actor_send(w->actor, "t", 1, w->now += 1000000, &err);
    if (status == DW_OK) status = dw_actor_turn(w->actor, UINT64_MAX, &result, &err);
    free(result.reply);
    return status == DW_E_TRAP || !failed(w, "trap", DW_E_INTERNAL, &err);
}

static void live(void *argument) {
    worker *w = argument;
    static const uint8_t seed[32] = {9};
    dw_error err = {0};
    char name[32], scatter[16];
    snprintf(name, sizeof name, "thread-%d", w->index);
    dw_actor_options options = {.name = name, .birth_realtime_ns = 1000000000, .random_seed = seed, .owner = w->owner};
    w->now = 2000000000;
    if (failed(w, "create", dw_actor_create(w->f->runtime, w->f->probe, &options, &w->actor, &err), &err)) return;
    if (w->talks && !begin_talk(w)) return;
    if (!w->talks && !put(w, 0, prompt, sizeof prompt)) return;
    for (int round = 0; round < ROUNDS; round++) {
        snprintf(scatter, sizeof scatter, "s%d", 100 * w->index + round);
        if (!turn(w, scatter, strlen(scatter), NULL, NULL) || (w->talks && !say_more(w)) || !compute(w) || !bad_turn(w)) return;
        if (round % 3 == 2 && !move(w, round / 3)) return;
    }
    failed(w, "digest", dw_actor_digest_of(w->actor, &w->digest, &err), &err);
}

static void end(worker *w) {
    dw_actor_destroy(w->actor);
    w->actor = NULL;
    if (w->failure[0]) fail_msg("thread %d: %s", w->index, w->failure);
}

/* Returns how many rows were shared. */
static uint64_t each_is_as_it_would_be_alone(fixture *f, bool talks, uint64_t owner) {
    dw_error err = {0};
    worker alone[THREADS], together[THREADS];
    dw_os_thread *threads[THREADS];
    uint64_t shared = 0;
    test_handle_traps();
    for (int i = 0; i < THREADS; i++) {
        alone[i] = (worker){.f = f, .index = i, .talks = talks, .owner = 0};
        live(&alone[i]);
        end(&alone[i]);
        together[i] = (worker){.f = f, .index = i, .talks = talks, .owner = owner};
    }
    for (int i = 0; i < THREADS; i++) assert_ok(dw_os_thread_create("actors", 8 << 20, live, &together[i], &threads[i], &err), err);
    for (int i = 0; i < THREADS; i++) dw_os_thread_join(threads[i]);
    for (int i = 0; i < THREADS; i++) {
        end(&together[i]);
        assert_memory_equal(&alone[i].digest, &together[i].digest, sizeof alone[i].digest);
        shared += together[i].tokens_shared;
    }
    print_message("%d threads, %llu turns each, %llu rows shared\n", THREADS, (unsigned long long)together[0].turns, (unsigned long long)shared);
    return shared;
}

static void actors_without_a_model(void **state) { each_is_as_it_would_be_alone(*state, false, 0); }
static void actors_that_share_nothing(void **state) { assert_int_equal(each_is_as_it_would_be_alone(*state, true, 0), 0); }

/* Somebody of their owner has said the prompt before. */
static void actors_of_one_owner_share_a_prompt(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    worker first = {.f = f, .index = 9, .owner = 77};
    dw_actor_options options = {.name = "first", .owner = 77};
    test_handle_traps();
    assert_ok(dw_actor_create(f->runtime, f->probe, &options, &first.actor, &err), err);
    if (!begin_talk(&first)) fail_msg("%s", first.failure);
    assert_true(each_is_as_it_would_be_alone(f, true, 77) >= THREADS * (PROMPT - 64));
    end(&first);
}

static void a_model_that_is_added_while_actors_run_is_found(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    worker w = {.f = f, .index = 1, .talks = true};
    test_handle_traps();
    dw_os_thread *thread;
    assert_ok(dw_os_thread_create("actors", 8 << 20, live, &w, &thread, &err), err);
    assert_ok(dw_runtime_add_model(f->runtime, "second", made_model_path(made_model_named("grouped_q8")), &err), err);
    assert_int_equal(dw_runtime_add_model(f->runtime, "second", made_model_path(made_model_named("grouped_q8")), &err), DW_E_EXISTS);
    dw_os_thread_join(thread);
    end(&w);
    assert_non_null(dw_runtime_model(f->runtime, "second"));
}

static int setup(void **state) {
    for (int i = 0; i < PROMPT; i++) prompt[i] = 260 + i * 7 % 250;
    return fixture_setup_with_model(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(actors_without_a_model),
        cmocka_unit_test(actors_that_share_nothing),
        cmocka_unit_test(actors_of_one_owner_share_a_prompt),
        cmocka_unit_test(a_model_that_is_added_while_actors_run_is_found),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}

/* runtime_test.c: registries whose entries come and go while actors run, and quotas (runtime.h). With the probe guest
 * and small models of random weights. */
#include "actor/fixture.h"

#include <stdatomic.h>
#include <stdio.h>
#include "model/kit/make_model.h"
#include "os/os.h"
#ifdef DW_FAULTS
#include "os/os_fault.h"
#endif
#include "support/traps.h"

static const char *small_model(void) { return made_model_path(made_model_named("tied_f16")); }

/* A runtime of the test's own. */
static dw_runtime *make_runtime(const fixture *f, dw_runtime_options options) {
    dw_runtime *runtime = NULL;
    dw_error err = {0};
    options.cache_folder = f->folder;
    assert_ok(dw_runtime_create(&options, &runtime, &err), err);
    return runtime;
}

static dw_actor *make_actor(dw_runtime *runtime, const char *name) {
    dw_program *program = NULL;
    dw_actor *actor = NULL;
    dw_error err = {0};
    assert_ok(dw_runtime_load_program(runtime, DW_TEST_PROGRAMS "/actor_probe.wasm", &program, &err), err);
    assert_ok(dw_actor_create(runtime, program, &(dw_actor_options){.name = name}, &actor, &err), err);
    dw_program_release(program);
    return actor;
}

static dw_completion ask_once(dw_actor *actor, dw_request request) {
    raw_answer answer;
    const raw_call head = {.n = 1, .capacity = 1, .wait = 1, .deadline = -1};
    assert_int_equal(fixture_raw(actor, head, &request, 1, &answer), DW_OK);
    return answer.completions[0];
}

/* --- models -------------------------------------------------------------------------------------------------- */

static void a_model_that_is_removed_stays_with_those_who_use_it(void **state) {
    dw_runtime *runtime = make_runtime(*state, (dw_runtime_options){0});
    dw_error err = {0};
    assert_ok(dw_runtime_add_model(runtime, "a", small_model(), &err), err);
    assert_ok(dw_runtime_add_model(runtime, "b", small_model(), &err), err);
    dw_model *a = dw_runtime_model(runtime, "a"), *b = dw_runtime_model(runtime, "b");
    dw_actor *actor = make_actor(runtime, "removing");
    uint32_t session = fixture_request(actor, (dw_request){.op = DW_OP_SESSION_OPEN}).result0;
    const int32_t tokens[4] = {1, 2, 3, 4};
    dw_request forward = {
        .op = DW_OP_FORWARD, .handle = session, .ptr0 = fixture_put(actor, 0, tokens, sizeof tokens), .len0 = 4};

    assert_ptr_equal(dw_runtime_model(runtime, NULL), a);
    assert_ok(dw_runtime_remove_model(runtime, "a", &err), err);
    assert_int_equal(dw_runtime_remove_model(runtime, "a", &err), DW_E_NOT_FOUND);
    assert_null(dw_runtime_model(runtime, "a"));
    assert_ptr_equal(dw_runtime_model(runtime, NULL), b); /* the default is the oldest that is there */
    fixture_request(actor, forward);
    dw_request open = {.op = DW_OP_SESSION_OPEN, .ptr0 = fixture_put(actor, 64, "a", 1), .len0 = 1};
    assert_int_equal(ask_once(actor, open).status, DW_E_NOT_FOUND);
    assert_ok(dw_runtime_add_model(runtime, "a", small_model(), &err), err); /* the name is free */
    assert_int_equal(ask_once(actor, open).status, DW_OK);
    fixture_request(actor, (dw_request){.op = DW_OP_SESSION_FORK, .handle = session});
    fixture_request(actor, (dw_request){.op = DW_OP_SESSION_CLOSE, .handle = session});
    assert_ok(dw_runtime_remove_model(runtime, "a", &err), err);
    assert_ok(dw_runtime_remove_model(runtime, "b", &err), err);
    assert_null(dw_runtime_model(runtime, NULL));
    dw_actor_destroy(actor);
    dw_runtime_destroy(runtime);
}

typedef struct asker {
    dw_actor *actor;
    _Atomic bool quit, failed;
    unsigned opened;
} asker;

/* Opens a session, evaluates, closes it, as fast as it can. No model: DW_E_NOT_FOUND, and nothing else. */
static void ask_and_ask(void *argument) {
    asker *a = argument;
    test_handle_traps();
    while (!atomic_load(&a->quit)) {
        struct { char head[4]; uint32_t words[6]; int64_t deadline; dw_request open; } __attribute__((packed)) body = {
            {'r', 'a', 'w', ' '}, {0, 1, 0, 1, 1, 0}, -1, {.op = DW_OP_SESSION_OPEN}};
        dw_turn_result result;
        dw_error err;
        dw_completion done;
        dw_status status = dw_actor_send(a->actor, &body, sizeof body, 1, &err);
        if (status == DW_OK) status = dw_actor_turn(a->actor, UINT64_MAX, &result, &err);
        if (status != DW_OK) break;
        memcpy(&done, result.reply + result.reply_size - RAW_COMPLETIONS * sizeof done, sizeof done);
        free(result.reply);
        if (done.status == DW_E_NOT_FOUND || done.status == DW_E_LIMIT) continue;
        if (done.status != DW_OK) break;
        a->opened++;
        body.open = (dw_request){.op = DW_OP_SESSION_CLOSE, .handle = done.result0};
        status = dw_actor_send(a->actor, &body, sizeof body, 1, &err);
        if (status == DW_OK) status = dw_actor_turn(a->actor, UINT64_MAX, &result, &err);
        if (status != DW_OK) break;
        free(result.reply);
    }
    atomic_store(&a->failed, !atomic_load(&a->quit));
}

static void models_come_and_go_while_actors_run(void **state) {
    enum { ROUNDS = 12 };
    dw_runtime *runtime = make_runtime(*state, (dw_runtime_options){0});
    dw_error err = {0};
    dw_os_thread *thread = NULL;
    asker a = {.actor = make_actor(runtime, "asking")};
    assert_ok(dw_os_thread_create("asker", 8 << 20, ask_and_ask, &a, &thread, &err), err);
    for (int i = 0; i < ROUNDS; i++) {
        assert_ok(dw_runtime_add_model(runtime, "m", small_model(), &err), err);
        assert_ok(dw_runtime_remove_model(runtime, "m", &err), err);
    }
    atomic_store(&a.quit, true);
    dw_os_thread_join(thread);
    assert_false(a.failed);
    dw_actor_destroy(a.actor);
    dw_runtime_destroy(runtime);
}

/* --- devices ------------------------------------------------------------------------------------------------- */

/* c = a + a over 64 numbers in the probe's arena. */
static dw_request addition(dw_actor *actor) {
    uint32_t arena = fixture_put(actor, 0, "", 1), at = (arena + 8192) / 256 * 256;
    const dw_tensor tensors[2] = {{.ptr = at, .columns = 64, .rows = 1}, {.ptr = at + 256, .columns = 64, .rows = 1}};
    const dw_node node = {.op = DW_NODE_ADD, .a = 0, .b = 0, .out = 1};
    const dw_compute_options options = {
        .size = sizeof options, .tensors = arena + 256, .n_tensors = 2, .nodes = arena + 512, .n_nodes = 1};
    fixture_put(actor, 256, tensors, sizeof tensors);
    fixture_put(actor, 512, &node, sizeof node);
    return (dw_request){
        .op = DW_OP_COMPUTE, .ptr0 = fixture_put(actor, 1024, &options, sizeof options), .len0 = sizeof options};
}

typedef struct stopping {
    dw_actor *actor;
    uint64_t turn;
} stopping;

/* Again and again until it hits: until the turn has begun its number is the next one's. */
static void stop_turn(void *argument) {
    const stopping *s = argument;
    while (dw_actor_stop(s->actor, s->turn) != DW_OK) {}
}

static void a_turn_that_waits_for_its_device_ends_by_deadline_and_stop(void **state) {
    dw_runtime *runtime = make_runtime(*state, (dw_runtime_options){0});
    dw_actor *actor = make_actor(runtime, "computing");
    dw_error err = {0};
    dw_device_entry *device = NULL;
    dw_request compute = addition(actor);
    fixture_request(actor, compute);
    assert_ok(dw_runtime_take_device(runtime, NULL, NULL, 0, &device, &err), err);
    assert_int_equal(dw_device_entry_begin(device, NULL), DW_OK); /* somebody computes, without end */

    struct { char head[4]; uint32_t words[6]; int64_t deadline; dw_request request; } __attribute__((packed)) body = {
        {'r', 'a', 'w', ' '}, {0, 1, 0, 1, 1, 0}, -1, compute};
    dw_turn_result result;
    assert_ok(dw_actor_send(actor, &body, sizeof body, 1, &err), err);
    assert_int_equal(dw_actor_turn(actor, dw_os_monotonic_ns() + 2000000, &result, &err), DW_E_DEADLINE);
    assert_int_equal(dw_actor_waiting(actor), 0);

    dw_os_thread *thread = NULL;
    stopping s = {actor, dw_actor_next_turn(actor)};
    assert_ok(dw_actor_send(actor, &body, sizeof body, 1, &err), err);
    assert_ok(dw_os_thread_create("stopper", 0, stop_turn, &s, &thread, &err), err);
    assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, &err), DW_E_CANCELLED);
    dw_os_thread_join(thread);
    dw_device_entry_end(device);
    dw_device_entry_release(device);
    assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err); /* the message stayed, and the device is free */
    free(result.reply);
    dw_actor_destroy(actor);
    dw_runtime_destroy(runtime);
}

static void the_default_device_stays_and_another_one_is_opened_anew(void **state) {
    dw_runtime *runtime = make_runtime(*state, (dw_runtime_options){0});
    dw_error err = {0};
    dw_device_info devices[8];
    dw_device_entry *one = NULL, *two = NULL;
    assert_int_equal(dw_runtime_remove_device(runtime, "cpu", &err), DW_E_BUSY);
    assert_int_equal(dw_runtime_remove_device(runtime, "none", &err), DW_E_NOT_FOUND);
    assert_int_equal(dw_runtime_take_device(runtime, NULL, "none", 4, &one, &err), DW_E_NOT_FOUND);
    if (dw_device_list(devices, 8) > 1) {
        const char *name = devices[1].name;
        assert_ok(dw_runtime_take_device(runtime, NULL, name, strlen(name), &one, &err), err);
        assert_ok(dw_runtime_remove_device(runtime, name, &err), err);
        assert_ok(dw_runtime_take_device(runtime, NULL, name, strlen(name), &two, &err), err);
        assert_ptr_not_equal(one, two);
        assert_string_equal(dw_device_info_view(one->device)->name, name); /* its user has it still */
        dw_device_entry_release(one);
        dw_device_entry_release(two);
    }
    dw_runtime_destroy(runtime);
}

/* --- programs ------------------------------------------------------------------------------------------------ */

static void a_program_is_prepared_once_until_it_is_removed(void **state) {
    dw_runtime *runtime = make_runtime(*state, (dw_runtime_options){0});
    dw_error err = {0};
    dw_program *one = NULL, *two = NULL, *three = NULL, *four = NULL;
    const char *path = DW_TEST_PROGRAMS "/actor_probe.wasm";
    assert_ok(dw_runtime_load_program(runtime, path, &one, &err), err);
    assert_ok(dw_runtime_load_program(runtime, path, &two, &err), err);
    assert_ptr_equal(one, two);
    const dw_hash hash = dw_program_info_view(one)->hash;
    assert_ok(dw_runtime_find_program(runtime, &hash, &three, &err), err);
    assert_ptr_equal(one, three);
    assert_ok(dw_runtime_remove_program(runtime, &hash, &err), err);
    assert_int_equal(dw_runtime_remove_program(runtime, &hash, &err), DW_E_NOT_FOUND);
    assert_ok(dw_runtime_find_program(runtime, &hash, &four, &err), err); /* from the folder of sources */
    assert_ptr_not_equal(one, four);
    assert_memory_equal(&dw_program_info_view(one)->hash, &dw_program_info_view(four)->hash, sizeof hash);
    dw_program_release(one);
    dw_program_release(two);
    dw_program_release(three);
    dw_program_release(four);
    dw_runtime_destroy(runtime);
}

/* --- quotas -------------------------------------------------------------------------------------------------- */

static void an_actors_memory_is_bounded_unless_said_otherwise(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_actor_use use;
    dw_runtime *runtime = make_runtime(f, (dw_runtime_options){0});
    dw_actor *actor = make_actor(runtime, "growing");
    assert_int_equal(fixture_say(actor, "G"), DW_OK); /* grows until memory.grow gives -1 */
    assert_int_equal(fixture_say(actor, "s1"), DW_OK);
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    assert_in_range(use.memory_bytes, DW_ACTOR_MEMORY_BYTES / 2, DW_ACTOR_MEMORY_BYTES);
    char path[512];
    fixture_path(f, "growing.drift", path);
    assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err);
    dw_actor_destroy(actor);
    dw_runtime_destroy(runtime);

    runtime = make_runtime(f, (dw_runtime_options){.memory_bytes_max = 64 << 20});
    actor = make_actor(runtime, "small");
    assert_int_equal(fixture_say(actor, "G"), DW_OK);
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    assert_true(use.memory_bytes <= 64 << 20);
    dw_actor_destroy(actor);
    actor = NULL;
    assert_int_equal(dw_actor_thaw(runtime, path, NULL, &actor, NULL, &err), DW_E_LIMIT);
    assert_null(actor);
    assert_ok(dw_os_remove(path, &err), err);
    dw_runtime_destroy(runtime);
}

static void actors_are_counted(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_runtime *runtime = make_runtime(f, (dw_runtime_options){.actors_max = 2});
    dw_actor *one = make_actor(runtime, "one"), *two = NULL, *three = NULL;
    assert_ok(dw_actor_fork(one, "two", &two, NULL, &err), err);
    assert_int_equal(dw_actor_fork(one, "three", &three, NULL, &err), DW_E_LIMIT);
    assert_null(three);
    dw_actor_destroy(two);
    assert_ok(dw_actor_fork(one, "three", &three, NULL, &err), err);
    dw_actor_destroy(one);
    dw_actor_destroy(three);
    dw_runtime_destroy(runtime);
    dw_runtime_options many = {.actors_max = DW_RUNTIME_ACTORS_MAX + 1, .cache_folder = f->folder};
    assert_int_equal(dw_runtime_create(&many, &runtime, &err), DW_E_RANGE);
}

/* --- faults -------------------------------------------------------------------------------------------------- */

#ifdef DW_FAULTS

enum { CREATE, ADD_MODEL, LOAD_PROGRAM, FIND_PROGRAM, CREATE_ACTOR, N_OPERATIONS };

typedef struct faulted {
    dw_runtime *runtime;
    dw_program *probe;
    dw_hash hash;
    char folder[400];
} faulted;

/* Does one of the operations and takes it back; false when it failed. */
static bool do_and_undo(const faulted *f, int operation, uint64_t k, bool *hit) {
    dw_runtime *runtime = NULL;
    dw_program *program = NULL;
    dw_actor *actor = NULL;
    dw_status status = DW_OK;
    dw_error err = {0};
    const dw_runtime_options options = {.cache_folder = f->folder};
    if (operation == LOAD_PROGRAM || operation == FIND_PROGRAM)
        (void)!dw_runtime_remove_program(f->runtime, &f->hash, &err);
    if (k) dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_ANY, .k = k, .system_errno = 12 /* ENOMEM */});
    switch (operation) {
    case CREATE: status = dw_runtime_create(&options, &runtime, &err); break;
    case ADD_MODEL: status = dw_runtime_add_model(f->runtime, "m", small_model(), &err); break;
    case LOAD_PROGRAM:
        status = dw_runtime_load_program(f->runtime, DW_TEST_PROGRAMS "/actor_probe.wasm", &program, &err);
        break;
    case FIND_PROGRAM: status = dw_runtime_find_program(f->runtime, &f->hash, &program, &err); break;
    default:
        status = dw_actor_create(f->runtime, f->probe, &(dw_actor_options){.name = "faulted"}, &actor, &err);
        break;
    }
    if (k) dw_fault_disarm(hit);
    if (status != DW_OK) {
        if (!k) print_error("operation %d: %s\n", operation, err.text);
        assert_int_equal(dw_status_kind_of(status) == DW_KIND_CORRUPT, 0);
        assert_true(!runtime && !program && !actor && !dw_runtime_model(f->runtime, "m"));
    }
    if (status == DW_OK && operation == ADD_MODEL) assert_ok(dw_runtime_remove_model(f->runtime, "m", &err), err);
    dw_program_release(program);
    dw_actor_destroy(actor);
    dw_runtime_destroy(runtime);
    return status == DW_OK;
}

#endif

static void a_failing_system_call_leaves_the_registries_whole(void **state) {
#ifdef DW_FAULTS
    const fixture *of = *state;
    faulted f = {.runtime = make_runtime(of, (dw_runtime_options){.actors_max = 1}), .probe = of->probe};
    unsigned failed = 0;
    f.hash = dw_program_info_view(of->probe)->hash;
    snprintf(f.folder, sizeof f.folder, "%s", of->folder);
    (void)small_model(); /* written before any fault */
    for (int operation = 0; operation < N_OPERATIONS; operation++) {
        bool hit = true;
        for (uint64_t k = 1; hit; k++) {
            failed += !do_and_undo(&f, operation, k, &hit);
            assert_true(k < 2000);
        }
        assert_true(do_and_undo(&f, operation, 0, NULL)); /* it holds nothing of those that failed, and not the quota */
    }
    assert_true(failed > 20);
    dw_runtime_destroy(f.runtime);
#else
    (void)state;
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_that_is_removed_stays_with_those_who_use_it),
        cmocka_unit_test(models_come_and_go_while_actors_run),
        cmocka_unit_test(a_turn_that_waits_for_its_device_ends_by_deadline_and_stop),
        cmocka_unit_test(the_default_device_stays_and_another_one_is_opened_anew),
        cmocka_unit_test(a_program_is_prepared_once_until_it_is_removed),
        cmocka_unit_test(an_actors_memory_is_bounded_unless_said_otherwise),
        cmocka_unit_test(actors_are_counted),
        cmocka_unit_test(a_failing_system_call_leaves_the_registries_whole),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* turn_test.c: a turn is kept completely or not at all (I2), and a restored actor goes on like one that never stopped (I4). */
#include "actor/fixture.h"

#include <stdio.h>
#include "os/os.h"
#include "os/os_fault.h"

static void digest(dw_actor *actor, dw_actor_digest *out) {
    dw_error err = {0};
    assert_ok(dw_actor_digest_of(actor, out, &err), err);
}

/* Each of these turns writes memory and then ends badly. */
static void a_turn_that_ends_badly_leaves_nothing_behind(void **state) {
    static const struct { const char *message; dw_status status; } bad[] = {
        {"t", DW_E_TRAP}, {"f", DW_E_STATE}, {"x", DW_E_EXIT}, {"R", DW_E_TRAP}, {"w", DW_E_TRAP}};
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "bad"), *twin = fixture_actor(f, "good");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dw_actor_digest before, after;
        char good[16];
        snprintf(good, sizeof good, "s%zu", i);
        assert_int_equal(fixture_say(actor, good), DW_OK);
        assert_int_equal(fixture_say(twin, good), DW_OK);
        digest(actor, &before);
        assert_int_equal(fixture_say(actor, bad[i].message), bad[i].status);
        assert_int_equal(dw_actor_waiting(actor), 0); /* consumed: its sender got the status */
        digest(actor, &after);
        assert_memory_equal(&before, &after, sizeof before);
    }
    fixture_assert_same(actor, twin);
    assert_int_equal(fixture_say(actor, "s9"), DW_OK);
    assert_int_equal(fixture_say(twin, "s9"), DW_OK);
    fixture_assert_same(actor, twin);
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
}

static void stop_soon(void *argument) {
    uint64_t until = dw_os_monotonic_ns() + 30 * UINT64_C(1000000);
    while (dw_os_monotonic_ns() < until) {}
    dw_actor *actor = argument;
    assert_int_equal(dw_actor_stop(actor, dw_actor_next_turn(actor)), DW_OK);
}

static void a_stopped_turn_keeps_its_message_and_is_handled_again(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "stopped");
    dw_error err = {0};
    dw_turn_result result;
    dw_os_thread *thread = NULL;
    dw_actor_digest before, after;
    assert_int_equal(fixture_say(actor, "s1"), DW_OK);
    digest(actor, &before);
    assert_ok(dw_actor_send(actor, "l", 1, 5000000000, &err), err);
    assert_ok(dw_os_thread_create("stopper", 0, stop_soon, actor, &thread, &err), err);
    assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, &err), DW_E_CANCELLED);
    dw_os_thread_join(thread);
    assert_int_equal(dw_actor_waiting(actor), 1);
    digest(actor, &after);
    assert_memory_equal(&before, &after, sizeof before);
    /* again, this time with a deadline: the guest's own fault, so the message goes */
    assert_int_equal(dw_actor_turn(actor, dw_os_monotonic_ns() + 20 * UINT64_C(1000000), &result, &err), DW_E_DEADLINE);
    assert_int_equal(dw_actor_waiting(actor), 0);
    assert_int_equal(fixture_say(actor, "s2"), DW_OK);
    dw_actor_destroy(actor);
}

/* An observer that acts on the first text it hears. */
typedef struct listener {
    dw_actor *actor;
    unsigned n_texts;
    bool stops;
    unsigned sends;
} listener;

static void hear(void *context, const char *text, size_t size) {
    listener *l = context;
    dw_error err = {0};
    (void)text;
    (void)size;
    if (l->n_texts++ > 0) return;
    if (l->stops) assert_int_equal(dw_actor_stop(l->actor, dw_actor_next_turn(l->actor)), DW_OK);
    for (unsigned i = 0; i < l->sends; i++) assert_ok(dw_actor_send(l->actor, "s1", 2, 5000000000, &err), err);
}

static void a_stop_that_comes_as_the_guest_returns_cuts_this_turn_and_not_the_next(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "late-stop");
    listener l = {.actor = actor, .stops = true};
    dw_error err = {0};
    dw_turn_result result;
    dw_actor_observe(actor, &(dw_observer){.on_text = hear, .context = &l});
    assert_int_equal(fixture_say(actor, "o"), DW_E_CANCELLED);
    assert_int_equal(dw_actor_waiting(actor), 1);
    assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err);
    free(result.reply);
    dw_actor_destroy(actor);
}

static void a_stop_ends_a_turn_between_two_requests_of_one_call(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "stopped-between");
    listener l = {.actor = actor, .stops = true};
    uint32_t text = fixture_put(actor, 0, "text", 4);
    dw_actor_observe(actor, &(dw_observer){.on_text = hear, .context = &l});
    dw_request records[6];
    for (int i = 0; i < 6; i++) records[i] = (dw_request){.op = DW_OP_EMIT, .ptr0 = text, .len0 = 4};
    raw_answer answer;
    assert_int_equal(
        fixture_raw(actor, (raw_call){.n = 6, .capacity = 6, .wait = 6, .deadline = -1}, records, 6, &answer),
        DW_E_CANCELLED);
    assert_int_equal(l.n_texts, 1);
    dw_actor_destroy(actor);
}

static void a_turn_keeps_its_message_while_others_arrive(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "arrivals");
    listener l = {.actor = actor, .sends = 100}; /* the mailbox grows several times */
    uint32_t text = fixture_put(actor, 0, "text", 4);
    dw_actor_observe(actor, &(dw_observer){.on_text = hear, .context = &l});
    dw_request records[] = {{.op = DW_OP_EMIT, .ptr0 = text, .len0 = 4},
                            {.op = DW_OP_MESSAGE, .ptr0 = text + 64, .len0 = 4}};
    raw_answer answer;
    assert_int_equal(
        fixture_raw(actor, (raw_call){.n = 2, .capacity = 2, .wait = 2, .deadline = -1}, records, 2, &answer), DW_OK);
    assert_int_equal(answer.completions[1].result0, 36 + sizeof records);
    assert_int_equal(dw_actor_waiting(actor), 100);
    dw_actor_destroy(actor);
}

/* Sends while a turn runs, and ends it then: what was accepted is there afterwards, also in a fork and in a checkpoint. */
static void send_and_stop(void *argument) {
    dw_actor *actor = argument;
    dw_error err = {0};
    for (int i = 0; i < 20; i++) assert_ok(dw_actor_send(actor, "s1", 2, 5000000000, &err), err);
    while (dw_actor_stop(actor, 1) != DW_OK) {}
}

static void messages_are_accepted_while_a_turn_runs_on_another_thread(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "busy-inbox"), *fork = NULL, *thawed = NULL;
    dw_error err = {0};
    dw_turn_result result;
    dw_os_thread *thread = NULL;
    char path[512];
    fixture_path(f, "busy-inbox.drift", path);
    assert_ok(dw_actor_send(actor, "l", 1, 5000000000, &err), err); /* runs until it is stopped */
    assert_int_equal(dw_actor_next_turn(actor), 1);
    assert_ok(dw_os_thread_create("sender", 0, send_and_stop, actor, &thread, &err), err);
    assert_int_equal(dw_actor_turn(actor, UINT64_MAX, &result, &err), DW_E_CANCELLED);
    dw_os_thread_join(thread);
    assert_int_equal(dw_actor_next_turn(actor), 2);
    assert_int_equal(dw_actor_stop(actor, 1), DW_E_NOT_FOUND);
    assert_int_equal(dw_actor_waiting(actor), 21);
    assert_ok(dw_actor_send(actor, "s2", 2, 5000000000, &err), err);
    assert_ok(dw_actor_fork(actor, "busy-inbox-fork", &fork, NULL, &err), err);
    assert_int_equal(dw_actor_waiting(fork), 22);
    assert_ok(dw_actor_send(actor, "s3", 2, 5000000000, &err), err);
    assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err);
    assert_ok(dw_actor_thaw(f->runtime, path, NULL, &thawed, NULL, &err), err);
    assert_int_equal(dw_actor_waiting(thawed), 23);
    dw_actor_destroy(actor);
    dw_actor_destroy(fork);
    dw_actor_destroy(thawed);
}

/* What another machine has: an empty cache folder. */
static dw_runtime *runtime_that_never_ran_anything(fixture *f, const char *folder) {
    char path[512];
    dw_runtime *runtime = NULL;
    dw_error err = {0};
    fixture_path(f, folder, path);
    assert_ok(dw_os_make_folders(path, &err), err);
    assert_ok(dw_runtime_create(&(dw_runtime_options){.cache_folder = path}, &runtime, &err), err);
    return runtime;
}

static void a_checkpoint_brings_its_program_along(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_checkpoint_report report;
    char path[512];
    fixture_path(f, "alone.drift", path);
    dw_actor *actor = fixture_actor(f, "alone"), *thawed = NULL;
    assert_int_equal(fixture_say(actor, "s7"), DW_OK);
    assert_ok(dw_actor_freeze(actor, path, NULL, &report, &err), err);
    assert_int_equal(report.program_bytes, dw_program_info_view(f->probe)->source_bytes);
    dw_runtime *elsewhere = runtime_that_never_ran_anything(f, "elsewhere");
    assert_ok(dw_actor_thaw(elsewhere, path, NULL, &thawed, NULL, &err), err);
    assert_int_equal(fixture_say(thawed, "s8"), DW_OK);
    assert_int_equal(fixture_say(actor, "s8"), DW_OK);
    fixture_assert_same(actor, thawed);
    /* It is kept there: what is frozen there again has it too. */
    assert_ok(dw_actor_freeze(thawed, path, NULL, &report, &err), err);
    assert_int_equal(report.program_bytes, dw_program_info_view(f->probe)->source_bytes);
    dw_actor_destroy(thawed);
    dw_runtime_destroy(elsewhere);

    /* Left out, it has to be there already, or to be named. */
    assert_ok(dw_actor_freeze(actor, path, &(dw_freeze_options){.without_program = true}, &report, &err), err);
    assert_int_equal(report.program_bytes, 0);
    elsewhere = runtime_that_never_ran_anything(f, "nowhere");
    assert_int_equal(dw_actor_thaw(elsewhere, path, NULL, &thawed, NULL, &err), DW_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "--program"));
    dw_actor_destroy(actor);
    dw_runtime_destroy(elsewhere);
}

static void names_of_actors_lead_nowhere_else(void **state) {
    static const char *const good[] = {"a", "a/b", "...", "a..b/.c/..d", "A-b_c.9/x"};
    static const char *const bad[] = {"",     "/",      "/a",  "a/",    "a//b", ".",    "..",     "../a",
                                      "a/..", "a/../b", "./a", "a/./b", "a b",  "a\\b", "\x1b[2J"};
    fixture *f = *state;
    dw_error err = {0};
    dw_actor *actor = NULL;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) dw_actor_destroy(fixture_actor(f, good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dw_status status = dw_actor_create(f->runtime, f->probe, &(dw_actor_options){.name = bad[i]}, &actor, &err);
        if (status != DW_E_INVALID) fail_msg("'%s': %s", bad[i], dw_status_name(status));
    }
}

static void arguments_that_a_checkpoint_cannot_hold_are_refused_at_birth(void **state) {
    fixture *f = *state;
    static char longest[4096 + 2];
    const char *many[258], *one[] = {longest, NULL};
    dw_error err = {0};
    dw_actor *actor = NULL;
    for (int i = 0; i < 257; i++) many[i] = "a";
    many[257] = NULL;
    memset(longest, 'a', 4097);
    assert_int_equal(
        dw_actor_create(f->runtime, f->probe, &(dw_actor_options){.name = "many", .arguments = many}, &actor, &err),
        DW_E_LIMIT);
    assert_int_equal(
        dw_actor_create(f->runtime, f->probe, &(dw_actor_options){.name = "long", .arguments = one}, &actor, &err),
        DW_E_LIMIT);
}

/* Random turns on an actor that is frozen, thawed, forked and rolled back at random, against a twin that only runs. Many turns, so that the
 * page log is folded several times. */
static void an_actor_that_is_moved_about_equals_one_that_is_not(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    char path[512];
    unsigned random = 20261123;
    fixture_path(f, "moved.drift", path);
    dw_actor *actor = fixture_actor(f, "moved"), *twin = fixture_actor(f, "twin");
    print_message("seed %u\n", random);
    for (int turn = 0; turn < 260; turn++) {
        random = random * 1103515245u + 12345u;
        unsigned what = (random >> 16) % 16;
        char message[32];
        if (what == 0) snprintf(message, sizeof message, "g%u", 1 + (random >> 24) % 200);
        else if (what == 1) snprintf(message, sizeof message, "S%u", random);
        else if (what == 2) snprintf(message, sizeof message, "z");
        else snprintf(message, sizeof message, "s%u", random);
        assert_int_equal(fixture_say(actor, message), DW_OK);
        assert_int_equal(fixture_say(twin, message), DW_OK);
        unsigned move = (random >> 8) % 12;
        if (move == 0) {
            dw_actor *thawed = NULL;
            assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err);
            dw_actor_destroy(actor);
            assert_ok(dw_actor_thaw(f->runtime, path, NULL, &thawed, NULL, &err), err);
            actor = thawed;
        } else if (move == 1) {
            dw_actor *child = NULL;
            assert_ok(dw_actor_fork(actor, "child", &child, NULL, &err), err);
            assert_int_equal(fixture_say(actor, "S77"), DW_OK); /* what the parent does from now on is not the child's */
            dw_actor_destroy(actor);
            actor = child;
        } else if (move == 2) {
            assert_int_equal(fixture_say(actor, "t"), DW_E_TRAP);
        }
        if (turn % 16 == 0) fixture_assert_same(actor, twin);
    }
    fixture_assert_same(actor, twin);
    assert_int_equal(fixture_guest_hash(actor), fixture_guest_hash(twin));
    dw_actor_use use;
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    assert_true(use.image_extents < 200);
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
}

static void parent_and_fork_do_not_see_each_other(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_actor *parent = fixture_actor(f, "parent"), *lone = fixture_actor(f, "lone"), *child = NULL;
    assert_int_equal(fixture_say(parent, "S1"), DW_OK);
    assert_int_equal(fixture_say(lone, "S1"), DW_OK);
    assert_ok(dw_actor_fork(parent, "fork", &child, NULL, &err), err);
    assert_int_equal(fixture_say(child, "S2"), DW_OK);
    assert_int_equal(fixture_say(parent, "S3"), DW_OK);
    assert_int_equal(fixture_say(lone, "S3"), DW_OK);
    fixture_assert_same(parent, lone);
    dw_actor_destroy(parent);
    assert_int_equal(fixture_say(child, "s4"), DW_OK);
    dw_actor_destroy(child);
    dw_actor_destroy(lone);
}

static void messages_that_wait_are_part_of_a_checkpoint(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    char path[512];
    fixture_path(f, "waiting.drift", path);
    dw_actor *actor = fixture_actor(f, "waiting"), *thawed = NULL;
    for (unsigned i = 0; i < 5; i++) {
        char message[16];
        int size = snprintf(message, sizeof message, "s%u", i);
        assert_ok(dw_actor_send(actor, message, (size_t)size, 3000000000 + i, &err), err);
    }
    assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err); /* before its first turn: image 0 */
    assert_ok(dw_actor_thaw(f->runtime, path, NULL, &thawed, NULL, &err), err);
    assert_int_equal(dw_actor_waiting(thawed), 5);
    for (int i = 0; i < 5; i++) {
        dw_turn_result one, two;
        assert_ok(dw_actor_turn(actor, UINT64_MAX, &one, &err), err);
        assert_ok(dw_actor_turn(thawed, UINT64_MAX, &two, &err), err);
        assert_int_equal(one.reply_size, two.reply_size);
        assert_memory_equal(one.reply, two.reply, one.reply_size);
        free(one.reply);
        free(two.reply);
    }
    fixture_assert_same(actor, thawed);
    dw_actor_destroy(actor);
    dw_actor_destroy(thawed);
}

static void thaw_refuses_another_program_and_a_damaged_file(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    char path[512];
    fixture_path(f, "refused.drift", path);
    dw_actor *actor = fixture_actor(f, "refused"), *thawed = NULL;
    dw_program *other = NULL;
    assert_int_equal(fixture_say(actor, "S1"), DW_OK);
    assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err);
    dw_actor_destroy(actor);
    assert_ok(dw_runtime_load_program(f->runtime, DW_TEST_PROGRAMS "/counter.wasm", &other, &err), err);
    dw_thaw_options options = {.program = other};
    assert_int_equal(dw_actor_thaw(f->runtime, path, &options, &thawed, NULL, &err), DW_E_MISMATCH);
    assert_non_null(strstr(err.text, "program"));
    dw_program_release(other);

    dw_os_file file = DW_OS_FILE_NONE;
    uint64_t size = 0;
    uint8_t byte = 0;
    assert_ok(dw_os_open(path, DW_OS_READ_WRITE, &file, &err), err);
    assert_ok(dw_os_size(file, &size, &err), err);
    assert_ok(dw_os_read_at(file, size / 2, &byte, 1, &err), err);
    byte ^= 0x10;
    assert_ok(dw_os_write_at(file, size / 2, &byte, 1, &err), err);
    dw_os_close(&file);
    assert_int_equal(dw_actor_thaw(f->runtime, path, NULL, &thawed, NULL, &err), DW_E_HASH);
    assert_non_null(strstr(err.text, "memory.0"));
}

/* Every system call of a turn, a freeze, a thaw and a fork fails once; afterwards the actor is as before and goes on. */
static void a_failing_system_call_loses_nothing(void **state) {
#ifdef DW_FAULTS
    fixture *f = *state;
    dw_error err = {0};
    char path[512];
    fixture_path(f, "faults.drift", path);
    dw_actor *actor = fixture_actor(f, "faults"), *twin = fixture_actor(f, "faultless");
    uint64_t faults = 0;
    for (int operation = 0; operation < 4; operation++) {
        bool hit = true;
        for (uint64_t k = 1; hit; k++) {
            dw_actor *made = NULL;
            dw_turn_result result = {0};
            dw_actor_digest before, after;
            digest(actor, &before);
            if (operation == 0) assert_ok(dw_actor_send(actor, "S5", 2, 1, &err), err);
            /* a thaw finds its program in the folder of sources, not in the registry */
            const dw_hash program = dw_program_info_view(f->probe)->hash;
            if (operation == 2) (void)!dw_runtime_remove_program(f->runtime, &program, &err);
            dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_ANY, .k = k, .system_errno = 12 /* ENOMEM */});
            dw_status status = operation == 0   ? dw_actor_turn(actor, UINT64_MAX, &result, &err)
                               : operation == 1 ? dw_actor_freeze(actor, path, NULL, NULL, &err)
                               : operation == 2 ? dw_actor_thaw(f->runtime, path, NULL, &made, NULL, &err)
                                                : dw_actor_fork(actor, "made", &made, NULL, &err);
            dw_fault_disarm(&hit);
            faults += hit;
            if (operation == 0 && status != DW_OK) {
                assert_int_not_equal(dw_status_kind_of(status), DW_KIND_CORRUPT);
                digest(actor, &after);
                assert_memory_equal(&before, &after, sizeof before);
                if (dw_actor_waiting(actor)) assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err);
            }
            if (operation == 0) assert_int_equal(fixture_say(twin, "S5"), DW_OK);
            free(result.reply);
            if (made) fixture_assert_same(actor, made);
            dw_actor_destroy(made);
            assert_true(k < 400);
        }
    }
    assert_true(faults > 20);
    fixture_assert_same(actor, twin);
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
#else
    (void)state;
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_that_ends_badly_leaves_nothing_behind),
        cmocka_unit_test(a_stopped_turn_keeps_its_message_and_is_handled_again),
        cmocka_unit_test(a_stop_that_comes_as_the_guest_returns_cuts_this_turn_and_not_the_next),
        cmocka_unit_test(a_stop_ends_a_turn_between_two_requests_of_one_call),
        cmocka_unit_test(a_turn_keeps_its_message_while_others_arrive),
        cmocka_unit_test(messages_are_accepted_while_a_turn_runs_on_another_thread),
        cmocka_unit_test(a_checkpoint_brings_its_program_along),
        cmocka_unit_test(names_of_actors_lead_nowhere_else),
        cmocka_unit_test(arguments_that_a_checkpoint_cannot_hold_are_refused_at_birth),
        cmocka_unit_test(an_actor_that_is_moved_about_equals_one_that_is_not),
        cmocka_unit_test(parent_and_fork_do_not_see_each_other),
        cmocka_unit_test(messages_that_wait_are_part_of_a_checkpoint),
        cmocka_unit_test(thaw_refuses_another_program_and_a_damaged_file),
        cmocka_unit_test(a_failing_system_call_loses_nothing),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

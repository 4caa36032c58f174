/* commit_test.c: the three steps of a commit, each by itself, alone and in a group; and what every failing system call
 * leaves behind. */
#include "actor/fixture.h"

#include <errno.h>

#include "actor/actor_internal.h"
#include "actor/commit.h"
#ifdef DW_FAULTS
#include "os/fault_loop.h"
#endif

enum { PAGE = 4096 };

static dw_error err;

/* What a turn begins with. */
static void send_and_drain(dw_actor *actor) {
    assert_ok(dw_actor_send(actor, "?", 1, 1, &err), err);
    assert_ok(dw_inbox_drain(actor->inbox, &actor->mailbox, &err), err);
}

/* As a guest would have written: into memory of the live instance, with its message still in the mailbox. */
static dw_actor *written_actor(fixture *f, const char *name, uint8_t value) {
    dw_actor *actor = fixture_actor(f, name);
    assert_int_equal(fixture_say(actor, "s1"), DW_OK);
    send_and_drain(actor);
    uint8_t *memory = dw_region_base(dw_instance_region(actor->instance));
    for (uint64_t at = 0; at < actor->image.memory_bytes; at += 5 * PAGE) memory[at] ^= value;
    dw_writer_init(dw_door_reply(actor->door));
    dw_write_bytes(dw_door_reply(actor->door), "said", 4);
    return actor;
}

static dw_hash committed(dw_actor *actor) {
    dw_actor_digest digest;
    dw_actor_drop_instance(actor); /* what a restore gives, and not what lies in memory */
    assert_ok(dw_actor_digest_of(actor, &digest, &err), err);
    return digest.memory;
}

static dw_hash hash_of(const dw_actor *actor) {
    dw_hash hash;
    assert_int_equal(dw_hash_of(dw_region_base(dw_instance_region(actor->instance)), (size_t)actor->image.memory_bytes,
                                &hash), DW_OK);
    return hash;
}

static uint64_t taken(const fixture *f) { return dw_page_store_use_now(dw_runtime_pages(f->runtime)).taken; }

static void a_plan_changes_nothing_until_it_is_published(void **state) {
    fixture *f = *state;
    dw_actor *actor = written_actor(f, "steps", 9);
    dw_hash written = hash_of(actor);
    dw_turn_result result = {0};
    dw_commit_plan plan;
    uint64_t before = taken(f), turns = dw_actor_turns(actor);
    assert_ok(dw_commit_plan_make(&plan, actor, &err), err);
    assert_int_equal(taken(f), before);
    assert_ok(dw_commit_persist((dw_commit_plan *[]){&plan}, 1, &err), err);
    assert_true(taken(f) > before);
    assert_int_equal(dw_actor_turns(actor), turns);
    assert_int_equal(dw_actor_waiting(actor), 1);
    assert_null(result.reply);
    dw_commit_publish(&plan, &result);
    assert_int_equal(dw_actor_turns(actor), turns + 1);
    assert_int_equal(dw_actor_waiting(actor), 0);
    assert_string_equal(result.reply, "said");
    assert_true(result.dirty_bytes >= PAGE);
    free(result.reply);
    dw_hash after = committed(actor);
    assert_memory_equal(&after, &written, sizeof after);
    dw_actor_destroy(actor);
}

/* Planned or persisted: dropped, it leaves the actor, its message and the store as they were. */
static void a_dropped_plan_leaves_nothing(void **state) {
    fixture *f = *state;
    for (int persisted = 0; persisted < 2; persisted++) {
        dw_actor *actor = written_actor(f, "dropped", 9), *twin = NULL;
        dw_commit_plan plan;
        uint64_t before = taken(f);
        assert_ok(dw_actor_fork(actor, "twin", &twin, NULL, &err), err);
        assert_ok(dw_commit_plan_make(&plan, actor, &err), err);
        if (persisted) assert_ok(dw_commit_persist((dw_commit_plan *[]){&plan}, 1, &err), err);
        dw_commit_plan_drop(&plan);
        assert_int_equal(taken(f), before);
        assert_int_equal(dw_actor_waiting(actor), 1);
        dw_actor_drop_instance(actor);
        fixture_assert_same(actor, twin);
        dw_actor_destroy(actor);
        dw_actor_destroy(twin);
    }
}

static void plans_of_several_actors_are_persisted_together(void **state) {
    enum { GROUP = 5 };
    fixture *f = *state;
    dw_actor *actors[GROUP];
    dw_commit_plan plans[GROUP], *all[GROUP];
    dw_hash written[GROUP];
    for (int i = 0; i < GROUP; i++) {
        actors[i] = written_actor(f, "member", (uint8_t)(i + 1));
        written[i] = hash_of(actors[i]);
        all[i] = &plans[i];
        assert_ok(dw_commit_plan_make(&plans[i], actors[i], &err), err);
    }
    assert_ok(dw_commit_persist(all, GROUP, &err), err);
    for (int i = 0; i < GROUP; i++) {
        dw_turn_result result = {0};
        dw_commit_publish(&plans[i], &result);
        free(result.reply);
    }
    for (int i = 0; i < GROUP; i++) {
        dw_hash after = committed(actors[i]);
        assert_memory_equal(&after, &written[i], sizeof after);
        dw_actor_destroy(actors[i]);
    }
}

/* Pages that two turns wrote are the image's once: what the first one kept is free again. */
static void superseded_pages_are_free_again(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "again");
    uint64_t outside = taken(f);
    assert_int_equal(fixture_say(actor, "A2048"), DW_OK);
    assert_int_equal(fixture_say(actor, "E100"), DW_OK);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(fixture_say(actor, "E24"), DW_OK);
        dw_actor_use use;
        assert_ok(dw_actor_use_now(actor, &use, &err), err);
        assert_int_equal((taken(f) - outside) * dw_os_page_bytes(), use.stored_bytes);
        assert_true(use.image_extents <= actor->image.pieces_max);
    }
    dw_page_store_use use = dw_page_store_use_now(dw_runtime_pages(f->runtime));
    assert_true(use.warm <= 2 * use.taken + DW_PAGE_STORE_SLACK_PAGES);
    dw_actor_destroy(actor);
    assert_int_equal(taken(f), outside);
}

/* The instance may still map a page that counts as written and is not a copy of its own: such a page must not be taken
 * anew. */
static void pages_of_the_live_instance_are_not_taken_anew(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "touched"), *other = fixture_actor(f, "other");
    assert_int_equal(fixture_say(actor, "A64"), DW_OK);
    assert_int_equal(fixture_say(actor, "e7"), DW_OK);
    dw_actor_drop_instance(actor);
    assert_ok(dw_actor_live(actor, &err), err); /* maps stored pages now */
    dw_region *region = dw_instance_region(actor->instance);
    dw_hash before = hash_of(actor);
    for (int i = 0; i < 3; i++) {
        /* as after a device that wrote nothing */
        assert_int_equal(dw_region_touch(region, 0, dw_region_size(region)), DW_OK);
        send_and_drain(actor);
        dw_commit_plan plan;
        dw_turn_result result = {0};
        dw_writer_init(dw_door_reply(actor->door));
        assert_ok(dw_commit_plan_make(&plan, actor, &err), err);
        assert_ok(dw_commit_persist((dw_commit_plan *[]){&plan}, 1, &err), err);
        dw_commit_publish(&plan, &result);
        free(result.reply);
        assert_int_equal(fixture_say(other, i == 0 ? "A256" : "e3"), DW_OK);
        assert_int_equal(fixture_say(other, "i5"), DW_OK);
    }
    dw_hash after = hash_of(actor);
    assert_memory_equal(&before, &after, sizeof before);
    dw_actor_destroy(actor);
    dw_actor_destroy(other);
}

#ifdef DW_FAULTS
/* Of a group too: all or none, and what was not persisted can be persisted again. */
static void a_persist_that_fails_is_repeated(void **state) {
    fixture *f = *state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOSPC) {
        dw_actor *actors[2] = {written_actor(f, "one", 3), written_actor(f, "two", 4)};
        dw_commit_plan plans[2];
        dw_hash written = hash_of(actors[1]);
        uint64_t before = taken(f);
        for (int i = 0; i < 2; i++) assert_ok(dw_commit_plan_make(&plans[i], actors[i], &err), err);
        fault_loop_arm(&loop);
        dw_status status = dw_commit_persist((dw_commit_plan *[]){&plans[0], &plans[1]}, 2, &err);
        fault_loop_disarm(&loop);
        assert_int_equal(status, loop.hit ? DW_E_NO_SPACE : DW_OK);
        if (loop.hit) {
            assert_int_equal(taken(f), before);
            dw_page_store_check(dw_runtime_pages(f->runtime));
            assert_ok(dw_commit_persist((dw_commit_plan *[]){&plans[0], &plans[1]}, 2, &err), err);
        }
        for (int i = 0; i < 2; i++) {
            dw_turn_result result = {0};
            dw_commit_publish(&plans[i], &result);
            free(result.reply);
        }
        dw_hash after = committed(actors[1]);
        assert_memory_equal(&after, &written, sizeof after);
        for (int i = 0; i < 2; i++) dw_actor_destroy(actors[i]);
    }
}

/* Whatever call of a turn and its commit fails, and with whatever the system says: the turn is done, or its message and
 * the actor are as before, and the next attempt succeeds. No failure of the system is taken for the guest's. */
static void whatever_call_of_a_turn_fails_the_message_stays(void **state) {
    static const int numbers[] = {EMFILE, ENFILE, ENOMEM, ENOSPC, EPERM, EBUSY, ETIMEDOUT, ENOSYS};
    fixture *f = *state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t outside = taken(f);
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            dw_actor *actor = fixture_actor(f, "faulty"), *twin = NULL;
            dw_turn_result result;
            assert_int_equal(fixture_say(actor, "A64"), DW_OK);
            assert_int_equal(fixture_say(actor, "e1"), DW_OK);
            if (loop.plan.k % 2) dw_actor_drop_instance(actor); /* then the turn begins with a restore */
            assert_ok(dw_actor_fork(actor, "twin", &twin, NULL, &err), err);
            assert_ok(dw_actor_send(actor, "E40", 3, 5, &err), err);
            fault_loop_arm(&loop);
            dw_status status = dw_actor_turn(actor, UINT64_MAX, &result, &err);
            fault_loop_disarm(&loop);
            if (status != DW_OK) {
                assert_true(loop.hit);
                if (dw_status_kind_of(status) != DW_KIND_FAILED)
                    fail_msg("errno %d: %s: %s", numbers[i], dw_status_name(status), err.text);
                assert_int_equal(dw_actor_waiting(actor), 1);
                fixture_assert_same(actor, twin);
                assert_ok(dw_actor_turn(actor, UINT64_MAX, &result, &err), err);
            }
            free(result.reply);
            assert_int_equal(dw_actor_waiting(actor), 0);
            assert_ok(dw_actor_send(twin, "E40", 3, 5, &err), err);
            assert_ok(dw_actor_turn(twin, UINT64_MAX, &result, &err), err);
            free(result.reply);
            dw_actor_drop_instance(actor);
            fixture_assert_same(actor, twin);
            dw_actor_destroy(actor);
            dw_actor_destroy(twin);
            assert_int_equal(taken(f), outside);
        }
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_plan_changes_nothing_until_it_is_published),
        cmocka_unit_test(a_dropped_plan_leaves_nothing),
        cmocka_unit_test(plans_of_several_actors_are_persisted_together),
        cmocka_unit_test(superseded_pages_are_free_again),
        cmocka_unit_test(pages_of_the_live_instance_are_not_taken_anew),
#ifdef DW_FAULTS
        cmocka_unit_test(a_persist_that_fails_is_repeated),
        cmocka_unit_test(whatever_call_of_a_turn_fails_the_message_stays),
#endif
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

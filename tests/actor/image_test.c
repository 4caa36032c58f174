/* image_test.c: what a commit costs and what becomes of it (I2, I8). */
#include "actor/fixture.h"

#include <stdio.h>

#include "os/os.h"

enum { SCATTERED_PAGES = 65536 };

/* A second and a third actor of the same state: forked, and thawed from a checkpoint. */
static void assert_goes_on(fixture *f, dw_actor *actor) {
    dw_actor *fork = NULL, *thawed = NULL;
    dw_error err = {0};
    char path[512];
    /* In memory where there is such a place: what is tested is no disk, and the file is large. */
    if (dw_os_exists("/dev/shm"))
        snprintf(path, sizeof path, "/dev/shm/driftwood-test-%llu.drift", (unsigned long long)dw_os_monotonic_ns());
    else fixture_path(f, "scattered.drift", path);
    assert_ok(dw_actor_fork(actor, "fork", &fork, NULL, &err), err);
    fixture_assert_same(actor, fork);
    assert_ok(dw_actor_freeze(fork, path, NULL, NULL, &err), err);
    assert_ok(dw_actor_thaw(f->runtime, path, NULL, &thawed, NULL, &err), err);
    fixture_assert_same(actor, thawed);
    assert_int_equal(fixture_say(fork, "e9"), DW_OK);
    assert_int_equal(fixture_say(thawed, "e9"), DW_OK);
    fixture_assert_same(fork, thawed);
    dw_actor_destroy(fork);
    dw_actor_destroy(thawed);
    assert_ok(dw_os_remove(path, &err), err);
}

/* Each of these pages is a run of its own, since its neighbours were committed in another turn: more runs than a
 * process may have maps. */
static void scattered_pages_commit_restore_fork_freeze_and_thaw(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "scattered");
    dw_actor_digest before, after;
    dw_actor_use use;
    dw_error err = {0};
    char grow[16];
    snprintf(grow, sizeof grow, "A%d", SCATTERED_PAGES);
    assert_int_equal(fixture_say(actor, grow), DW_OK);
    assert_int_equal(fixture_say(actor, "e1"), DW_OK);
    assert_int_equal(fixture_say(actor, "i1"), DW_OK);
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    assert_true(use.image_extents >= SCATTERED_PAGES);
    assert_ok(dw_actor_digest_of(actor, &before, &err), err);
    assert_goes_on(f, actor);
    assert_int_equal(fixture_say(actor, "T2"), DW_E_TRAP); /* the instance is dropped */
    assert_ok(dw_actor_digest_of(actor, &after, &err), err); /* and restored */
    assert_memory_equal(&before.memory, &after.memory, sizeof before.memory);
    assert_int_equal(fixture_say(actor, "e3"), DW_OK);
    dw_actor_destroy(actor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scattered_pages_commit_restore_fork_freeze_and_thaw),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

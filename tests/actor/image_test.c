/* image_test.c: what a commit costs (I8). */
#include "actor/fixture.h"

#include "actor/actor_internal.h"

/* The page log is replaced only when memory is folded, which copies all of it. */
static void memory_with_many_holes_is_not_folded_at_every_commit(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "holes"), *twin = NULL;
    dw_error err = {0};
    assert_int_equal(fixture_say(actor, "s1"), DW_OK);
    assert_int_equal(fixture_say(actor, "a200"), DW_OK); /* more extents than a fold may leave */
    unsigned folds = 0;
    for (int i = 0; i < 10; i++) {
        const dw_backing *log = actor->image.log;
        assert_int_equal(fixture_say(actor, "?"), DW_OK);
        folds += actor->image.log != log;
    }
    assert_true(folds <= 1);
    assert_ok(dw_actor_fork(actor, "restored", &twin, NULL, &err), err);
    fixture_assert_same(actor, twin); /* holes and all */
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_with_many_holes_is_not_folded_at_every_commit),
    };
    return cmocka_run_group_tests(tests, fixture_setup, fixture_teardown);
}

/* tables_test.c: a program that changes its tables of functions, drops its segments or makes exceptions is frozen,
 * thawed, forked and rolled back like any other (I2, I4). The guests call through their tables or catch exceptions in
 * every turn and keep what comes out in their memory. */
#include "actor/fixture.h"

#include <stdio.h>
#include "checkpoint/checkpoint.h"
#include "support/traps.h"

enum { TURNS = 40, TRAP_FLAG_AT = 64, /* where the guest looks whether its turn is to end badly */
       READ_FLAG_AT = 68 /* which segment is read beside those that must be there */, SEGMENTS = 4 };

typedef struct tables_fixture {
    fixture *base;
    dw_program *program, *segments, *exceptions; /* exceptions: NULL where that guest was not built */
    char path[512];
} tables_fixture;

static int setup(void **state) {
    tables_fixture *f = calloc(1, sizeof *f);
    dw_error err = {0};
    if (!f || fixture_setup((void **)&f->base) != 0) return -1;
    assert_ok(dw_runtime_load_program(f->base->runtime, DW_TEST_PROGRAMS "/wasm_tables.wasm", &f->program, &err), err);
    static const char segments[] = DW_TEST_PROGRAMS "/wasm_segments.wasm";
    static const char exceptions[] = DW_TEST_PROGRAMS "/wasm_exceptions.wasm";
    assert_ok(dw_runtime_load_program(f->base->runtime, segments, &f->segments, &err), err);
    if (dw_os_exists(exceptions))
        assert_ok(dw_runtime_load_program(f->base->runtime, exceptions, &f->exceptions, &err), err);
    fixture_path(f->base, "tables.drift", f->path);
    *state = f;
    return 0;
}

static int teardown(void **state) {
    tables_fixture *f = *state;
    dw_program_release(f->program);
    dw_program_release(f->segments);
    dw_program_release(f->exceptions);
    (void)fixture_teardown((void **)&f->base);
    free(f);
    return 0;
}

static dw_actor *new_actor_of(tables_fixture *f, dw_program *program, const char *name) {
    static const uint8_t seed[32] = {9};
    dw_actor_options options = {.name = name, .birth_realtime_ns = 1000000000, .random_seed = seed};
    dw_actor *actor = NULL;
    dw_error err = {0};
    test_handle_traps(); /* cmocka takes the signals at each test */
    assert_ok(dw_actor_create(f->base->runtime, program, &options, &actor, &err), err);
    return actor;
}

static dw_actor *new_actor(tables_fixture *f, const char *name) { return new_actor_of(f, f->program, name); }

static void turn(dw_actor *actor) { assert_int_equal(fixture_say(actor, "next"), DW_OK); }

/* A turn that traps. The flag goes with the rest of the memory when the turn is rolled back. */
static void turn_that_traps(dw_actor *actor, uint32_t at, uint32_t flag) {
    assert_non_null(dw_actor_memory(actor));
    assert_int_equal(dw_guest_write(dw_actor_memory(actor), at, &flag, sizeof flag), DW_OK);
    assert_int_equal(fixture_say(actor, "trap"), DW_E_TRAP);
}

/* Changes tables, drops segments, and then traps. */
static void bad_turn(dw_actor *actor) { turn_that_traps(actor, TRAP_FLAG_AT, 1); }

static dw_actor *through_a_file(tables_fixture *f, dw_actor *actor) {
    dw_error err = {0};
    dw_actor *thawed = NULL;
    assert_ok(dw_actor_freeze(actor, f->path, NULL, NULL, &err), err);
    dw_actor_destroy(actor);
    assert_ok(dw_actor_thaw(f->base->runtime, f->path, NULL, &thawed, NULL, &err), err);
    return thawed;
}

static dw_actor *through_a_fork(dw_actor *actor) {
    dw_error err = {0};
    dw_actor *child = NULL;
    assert_ok(dw_actor_fork(actor, "child", &child, NULL, &err), err);
    turn(actor); /* what the parent does to its tables from now on is not the child's */
    dw_actor_destroy(actor);
    return child;
}

/* After each way of going on, at every turn boundary. */
static void run_beside_a_twin(tables_fixture *f, dw_program *program, bool freeze, bool fork_it, bool roll_back) {
    dw_actor *actor = new_actor_of(f, program, "moved"), *twin = new_actor_of(f, program, "twin");
    for (int i = 0; i < TURNS; i++) {
        if (freeze) actor = through_a_file(f, actor);
        if (fork_it) actor = through_a_fork(actor);
        if (roll_back) bad_turn(actor);
        turn(actor);
        turn(twin);
        fixture_assert_same(actor, twin);
    }
    for (uint32_t i = 1; program == f->segments && i <= SEGMENTS; i++) { /* all are dropped by now */
        turn_that_traps(actor, READ_FLAG_AT, i);
        turn(actor);
    }
    dw_actor_destroy(actor);
    dw_actor_destroy(twin);
}

static void run_tables(void **state, bool freeze, bool fork_it, bool roll_back) {
    run_beside_a_twin(*state, ((tables_fixture *)*state)->program, freeze, fork_it, roll_back);
}

static void run_segments(void **state, bool freeze, bool fork_it, bool roll_back) {
    run_beside_a_twin(*state, ((tables_fixture *)*state)->segments, freeze, fork_it, roll_back);
}

static void run_exceptions(void **state, bool freeze, bool fork_it, bool roll_back) {
    tables_fixture *f = *state;
    if (!f->exceptions) {
        print_message("skipped: wasm_exceptions.wasm was not built, DW_PYTHON is not set\n");
        skip();
    }
    run_beside_a_twin(f, f->exceptions, freeze, fork_it, roll_back);
}

static void changed_tables_survive_a_freeze_and_a_thaw_at_every_turn(void **state) {
    run_tables(state, true, false, false);
}
static void changed_tables_of_parent_and_fork_are_their_own(void **state) {
    run_tables(state, false, true, false);
}
static void changed_tables_are_rolled_back_with_a_turn(void **state) {
    run_tables(state, false, false, true);
}
static void changed_tables_survive_all_of_it_together(void **state) {
    run_tables(state, true, true, true);
}
static void dropped_segments_survive_a_freeze_at_every_turn(void **state) {
    run_segments(state, true, false, false);
}
static void dropped_segments_of_parent_and_fork_are_their_own(void **state) {
    run_segments(state, false, true, false);
}
static void dropped_segments_are_rolled_back_with_a_turn(void **state) {
    run_segments(state, false, false, true);
}
static void dropped_segments_survive_all_of_it_together(void **state) {
    run_segments(state, true, true, true);
}
static void exceptions_leave_nothing_that_a_freeze_or_fork_misses(void **state) {
    run_exceptions(state, true, true, false);
}
static void a_turn_that_ends_with_an_exception_is_rolled_back(void **state) {
    run_exceptions(state, false, false, true);
}

typedef enum forgery { NOTHING, ONE_TABLE_LESS, NO_TABLES, TOO_SHORT, TOO_LONG, FUNCTION_IN_NO_TABLE, NO_FUNCTION_THERE, N_FORGERIES } forgery;

/* A file that is right in itself, and wrong for the program. */
static void forge(const dw_checkpoint_state *from, forgery what, const char *path) {
    static int32_t many[100]; /* more than the first table may have */
    dw_checkpoint_state state = *from;
    dw_table_view *tables = NULL;
    dw_error err = {0};
    assert_int_equal(dw_tables_copy(from->tables, from->n_tables, &tables), DW_OK);
    int32_t *first = (int32_t *)(uintptr_t)tables[0].elements;
    state.tables = tables;
    switch (what) {
    case ONE_TABLE_LESS: state.n_tables--; break;
    case NO_TABLES: state.n_tables = 0; break;
    case TOO_SHORT: tables[0].n_elements = 7; break;
    case TOO_LONG: tables[0] = (dw_table_view){many, 100}; break;
    case FUNCTION_IN_NO_TABLE: first[3] = 9; break; /* $never_in_a_table */
    case NO_FUNCTION_THERE: first[3] = 1000; break;
    case NOTHING:
    case N_FORGERIES: break;
    }
    assert_ok(dw_checkpoint_write(path, &state, NULL, NULL, NULL, &err), err);
    free(tables);
}

static void a_checkpoint_with_tables_that_the_program_cannot_have_made_is_refused(void **state) {
    tables_fixture *f = *state;
    dw_error err = {0};
    char forged[512];
    dw_checkpoint *checkpoint = NULL;
    dw_actor *actor = new_actor(f, "forged");
    for (int i = 0; i < 5; i++) turn(actor);
    assert_ok(dw_actor_freeze(actor, f->path, NULL, NULL, &err), err);
    dw_actor_destroy(actor);
    assert_ok(dw_checkpoint_open(f->path, &checkpoint, &err), err);
    assert_int_equal(dw_checkpoint_view(checkpoint)->n_tables, 3);
    fixture_path(f->base, "forged.drift", forged);
    for (int what = NOTHING; what < N_FORGERIES; what++) {
        dw_actor *thawed = NULL;
        forge(dw_checkpoint_view(checkpoint), (forgery)what, forged);
        dw_status status = dw_actor_thaw(f->base->runtime, forged, NULL, &thawed, NULL, &err);
        assert_int_equal(status, what == NOTHING ? DW_OK : DW_E_CORRUPT);
        if (what != NOTHING && !strstr(err.text, "table")) fail_msg("\"%s\" does not speak of tables", err.text);
        dw_actor_destroy(thawed);
    }
    dw_checkpoint_close(checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changed_tables_survive_a_freeze_and_a_thaw_at_every_turn),
        cmocka_unit_test(changed_tables_of_parent_and_fork_are_their_own),
        cmocka_unit_test(changed_tables_are_rolled_back_with_a_turn),
        cmocka_unit_test(changed_tables_survive_all_of_it_together),
        cmocka_unit_test(dropped_segments_survive_a_freeze_at_every_turn),
        cmocka_unit_test(dropped_segments_of_parent_and_fork_are_their_own),
        cmocka_unit_test(dropped_segments_are_rolled_back_with_a_turn),
        cmocka_unit_test(dropped_segments_survive_all_of_it_together),
        cmocka_unit_test(exceptions_leave_nothing_that_a_freeze_or_fork_misses),
        cmocka_unit_test(a_turn_that_ends_with_an_exception_is_rolled_back),
        cmocka_unit_test(a_checkpoint_with_tables_that_the_program_cannot_have_made_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}

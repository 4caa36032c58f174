/* Sets of addresses against a plain array. */
#include <string.h>

#include "base/test.h"
#include "region/ranges.h"

enum { UNIVERSE = 40, STEPS = 20000 };

static void assert_same(const dw_ranges *set, const bool *expected) {
    bool present[UNIVERSE] = {false};
    for (size_t i = 0; i < set->count; i++) {
        dw_range run = set->items[i];
        assert_true(run.size > 0);
        if (i) assert_true(run.offset > dw_range_end(set->items[i - 1])); /* disjoint, and not even touching */
        for (uint64_t at = run.offset; at < dw_range_end(run); at++) present[at] = true;
    }
    assert_memory_equal(present, expected, sizeof present);
}

static void set_behaves_as_an_array_of_flags(void **state) {
    (void)state;
    uint64_t random = test_seed(1);
    dw_ranges set = {0};
    bool expected[UNIVERSE] = {false};
    for (unsigned step = 0; step < STEPS; step++) {
        uint64_t offset = test_random_below(&random, UNIVERSE), size = test_random_below(&random, 1 + UNIVERSE - offset);
        if (size > 6) size = size % 7;
        bool adds = test_random_below(&random, 2) == 0;
        assert_status(adds ? dw_ranges_add(&set, offset, size) : dw_ranges_remove(&set, offset, size), DW_OK);
        for (uint64_t at = offset; at < offset + size; at++) expected[at] = adds;
        assert_same(&set, expected);
        uint64_t probe = test_random_below(&random, UNIVERSE);
        size_t found = dw_ranges_find(&set, probe);
        if (found < set.count) assert_true(dw_range_end(set.items[found]) > probe);
        if (found > 0) assert_true(dw_range_end(set.items[found - 1]) <= probe);
    }
    dw_ranges_deinit(&set);
}

static void reserved_changes_do_not_allocate(void **state) {
    (void)state;
    dw_ranges set = {0};
    assert_status(dw_ranges_add(&set, 0, 100), DW_OK);
    assert_status(dw_ranges_reserve(&set, 8), DW_OK);
    const dw_range *before = set.items;
    for (uint64_t i = 0; i < 8; i++) assert_status(dw_ranges_remove(&set, 10 * i + 5, 1), DW_OK);
    assert_ptr_equal(set.items, before);
    assert_int_equal(set.count, 9);
    dw_ranges_deinit(&set);
}

static void intersection_is_what_both_have(void **state) {
    (void)state;
    dw_range part = dw_range_intersect((dw_range){0, 10}, (dw_range){5, 10});
    assert_int_equal(part.offset, 5);
    assert_int_equal(part.size, 5);
    assert_int_equal(dw_range_intersect((dw_range){0, 5}, (dw_range){5, 5}).size, 0);
    assert_int_equal(dw_range_intersect((dw_range){9, 5}, (dw_range){0, 5}).size, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_behaves_as_an_array_of_flags),
        cmocka_unit_test(reserved_changes_do_not_allocate),
        cmocka_unit_test(intersection_is_what_both_have),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

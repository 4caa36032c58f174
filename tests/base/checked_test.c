/* Arithmetic on sizes from outside. */
#include "base/checked.h"
#include "base/test.h"

static const uint64_t edges[] = {0, 1, 2, 4095, 4096, 4097, UINT32_MAX, (uint64_t)UINT32_MAX + 1, INT64_MAX, UINT64_MAX - 4096, UINT64_MAX - 1, UINT64_MAX};
enum { EDGES = sizeof edges / sizeof edges[0] };

static void sums_and_products_that_do_not_fit_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++) {
        for (size_t j = 0; j < EDGES; j++) {
            uint64_t a = edges[i], b = edges[j], out;
            assert_int_equal(dw_add_u64(a, b, &out), a <= UINT64_MAX - b);
            assert_int_equal(dw_sub_u64(a, b, &out), a >= b);
            assert_int_equal(dw_mul_u64(a, b, &out), b == 0 || a <= UINT64_MAX / b);
        }
    }
}

static void range_is_inside_exactly_when_its_end_is(void **state) {
    (void)state;
    for (size_t i = 0; i < EDGES; i++) {
        for (size_t j = 0; j < EDGES; j++) {
            for (size_t k = 0; k < EDGES; k++) {
                uint64_t end;
                bool inside = dw_add_u64(edges[i], edges[j], &end) && end <= edges[k];
                assert_int_equal(dw_in_range(edges[i], edges[j], edges[k]), inside);
            }
        }
    }
}

static void rounding_up_gives_the_next_multiple_or_refuses(void **state) {
    (void)state;
    uint64_t out;
    assert_true(dw_round_up_u64(0, 4096, &out) && out == 0);
    assert_true(dw_round_up_u64(1, 4096, &out) && out == 4096);
    assert_true(dw_round_up_u64(4096, 4096, &out) && out == 4096);
    assert_true(dw_round_up_u64(UINT64_MAX - 4095, 4096, &out) && out == UINT64_MAX - 4095);
    assert_false(dw_round_up_u64(UINT64_MAX - 4094, 4096, &out));
    assert_true(dw_round_down_u64(8191, 4096) == 4096);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_products_that_do_not_fit_are_refused),
        cmocka_unit_test(range_is_inside_exactly_when_its_end_is),
        cmocka_unit_test(rounding_up_gives_the_next_multiple_or_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The growing array: limits, overflow, and what an allocation that fails leaves. */
#include "base/vec.h"

#include <string.h>

#include "base/test.h"

typedef DW_VEC(uint32_t) numbers;

static void append(numbers *list, uint32_t value) {
    assert_status(DW_VEC_RESERVE(list, 1, DW_VEC_ITEMS_MAX), DW_OK);
    list->items[list->count++] = value;
}

static void items_survive_every_growth(void **state) {
    (void)state;
    numbers list = {0};
    for (uint32_t i = 0; i < 10000; i++) append(&list, i * 7);
    assert_int_equal(list.count, 10000);
    for (uint32_t i = 0; i < 10000; i++) assert_int_equal(list.items[i], i * 7);
    DW_VEC_DEINIT(&list);
    assert_null(list.items);
    assert_int_equal(list.count + list.capacity, 0);
}

static void additions_one_by_one_grow_seldom(void **state) {
    (void)state;
    numbers list = {0};
    uint32_t growths = 0;
    for (uint32_t i = 0; i < 1000000; i++) {
        size_t before = list.capacity;
        append(&list, i);
        growths += list.capacity != before;
    }
    assert_in_range(growths, 1, 20);
    DW_VEC_DEINIT(&list);
}

static void a_reservation_keeps_its_word(void **state) {
    (void)state;
    numbers list = {0};
    append(&list, 1);
    assert_status(DW_VEC_RESERVE(&list, 1000, DW_VEC_ITEMS_MAX), DW_OK);
    const uint32_t *place = list.items;
    for (uint32_t i = 0; i < 1000; i++) append(&list, i);
    assert_ptr_equal(list.items, place);
    assert_status(DW_VEC_RESERVE(&list, 0, DW_VEC_ITEMS_MAX), DW_OK);
    DW_VEC_DEINIT(&list);
}

static void the_limit_is_the_last_item_that_fits(void **state) {
    (void)state;
    numbers list = {0};
    for (uint32_t i = 0; i < 100; i++) {
        assert_status(DW_VEC_RESERVE(&list, 1, 100), DW_OK);
        list.items[list.count++] = i;
    }
    assert_int_equal(list.capacity, 100);
    assert_status(DW_VEC_RESERVE(&list, 1, 100), DW_E_LIMIT);
    assert_status(DW_VEC_RESERVE(&list, 0, 100), DW_OK);
    assert_int_equal(list.items[99], 99);
    DW_VEC_DEINIT(&list);
    assert_status(DW_VEC_RESERVE(&list, 1, 0), DW_E_LIMIT);
}

static void counts_and_sizes_do_not_wrap(void **state) {
    (void)state;
    numbers list = {0};
    append(&list, 5);
    size_t capacity = list.capacity;
    assert_status(DW_VEC_RESERVE(&list, SIZE_MAX, SIZE_MAX), DW_E_LIMIT);            /* the count would wrap */
    assert_status(DW_VEC_RESERVE(&list, SIZE_MAX / 4 + 1, SIZE_MAX), DW_E_NO_MEMORY); /* the bytes would */
    assert_status(DW_VEC_RESERVE(&list, SIZE_MAX / 8, SIZE_MAX), DW_E_NO_MEMORY);     /* more than a pointer spans */
    assert_int_equal(list.count, 1);
    assert_int_equal(list.capacity, capacity);
    assert_int_equal(list.items[0], 5);
    DW_VEC_DEINIT(&list);
}

static void a_type_larger_than_the_first_block_has_room(void **state) {
    (void)state;
    typedef struct wide { uint8_t bytes[4096]; } wide;
    DW_VEC(wide) list = {0};
    for (uint8_t i = 0; i < 5; i++) {
        assert_status(DW_VEC_RESERVE(&list, 1, 5), DW_OK);
        memset(&list.items[list.count++], i, sizeof(wide));
    }
    assert_int_equal(list.items[4].bytes[4095], 4);
    DW_VEC_DEINIT(&list);
}

#ifdef DW_FAULTS
static void a_growth_without_memory_changes_nothing(void **state) {
    (void)state;
    for (uint64_t k = 1;; k++) {
        numbers list = {0};
        dw_vec_fault_arm(k);
        uint32_t refused = 0;
        for (uint32_t i = 0; i < 5000; i++) {
            numbers before = list;
            dw_status status = DW_VEC_RESERVE(&list, 1, DW_VEC_ITEMS_MAX);
            if (status != DW_OK) {
                assert_status(status, DW_E_NO_MEMORY);
                assert_memory_equal(&list, &before, sizeof list);
                assert_status(DW_VEC_RESERVE(&list, 1, DW_VEC_ITEMS_MAX), DW_OK); /* the fault came once */
                refused++;
            }
            list.items[list.count++] = i;
        }
        bool met = dw_vec_fault_disarm();
        for (uint32_t i = 0; i < 5000; i++) assert_int_equal(list.items[i], i);
        DW_VEC_DEINIT(&list);
        assert_int_equal(refused, met);
        if (!met) {
            assert_in_range(k, 5, 20); /* each growth had its fault */
            break;
        }
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_survive_every_growth),
        cmocka_unit_test(additions_one_by_one_grow_seldom),
        cmocka_unit_test(a_reservation_keeps_its_word),
        cmocka_unit_test(the_limit_is_the_last_item_that_fits),
        cmocka_unit_test(counts_and_sizes_do_not_wrap),
        cmocka_unit_test(a_type_larger_than_the_first_block_has_room),
#ifdef DW_FAULTS
        cmocka_unit_test(a_growth_without_memory_changes_nothing),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

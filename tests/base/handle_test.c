/* Handles: what a guest may forge. */
#include <string.h>

#include "base/handle.h"
#include "base/test.h"

static int objects[8];

static dw_handle_table *table_of(uint32_t capacity) {
    dw_handle_table *table;
    assert_status(dw_handle_table_create(capacity, &table), DW_OK);
    return table;
}

static dw_handle open_one(dw_handle_table *table, uint16_t tag, void *object) {
    dw_handle handle;
    assert_status(dw_handle_open(table, tag, object, &handle), DW_OK);
    assert_int_not_equal(handle, 0);
    return handle;
}

static void handle_gives_back_its_object_only(void **state) {
    (void)state;
    dw_handle_table *table = table_of(4);
    dw_handle a = open_one(table, 1, &objects[0]), b = open_one(table, 1, &objects[1]);
    assert_ptr_equal(dw_handle_get(table, 1, a), &objects[0]);
    assert_ptr_equal(dw_handle_get(table, 1, b), &objects[1]);
    assert_int_equal(dw_handle_count(table), 2);
    dw_handle_table_destroy(table);
}

static void forged_handles_give_nothing(void **state) {
    (void)state;
    dw_handle_table *table = table_of(3);
    dw_handle real[2] = {open_one(table, 1, &objects[0]), open_one(table, 1, &objects[1])};
    unsigned found = 0;
    for (uint64_t slot = 0; slot <= 0xFFFF; slot++) {
        for (uint32_t generation = 0; generation < 8; generation++) {
            dw_handle forged = (generation << 16) | (uint32_t)slot;
            void *object = dw_handle_get(table, 1, forged);
            if (!object) continue;
            found++;
            assert_true(forged == real[0] || forged == real[1]);
        }
    }
    assert_int_equal(found, 2);
    assert_null(dw_handle_get(table, 1, 0));
    assert_null(dw_handle_get(table, 1, UINT32_MAX));
    assert_null(dw_handle_close(table, 1, UINT32_MAX));
    dw_handle_table_destroy(table);
}

static void other_tag_is_another_kind_of_object(void **state) {
    (void)state;
    dw_handle_table *table = table_of(2);
    dw_handle handle = open_one(table, 1, &objects[0]);
    assert_null(dw_handle_get(table, 2, handle));
    assert_null(dw_handle_close(table, 2, handle));
    assert_ptr_equal(dw_handle_close(table, 1, handle), &objects[0]);
    dw_handle_table_destroy(table);
}

static void closed_number_does_not_come_back_for_65535_opens(void **state) {
    (void)state;
    dw_handle_table *table = table_of(2);
    dw_handle first = open_one(table, 1, &objects[0]);
    assert_ptr_equal(dw_handle_close(table, 1, first), &objects[0]);
    assert_null(dw_handle_get(table, 1, first));
    assert_null(dw_handle_close(table, 1, first));
    for (unsigned i = 1; i < 65535; i++) {
        dw_handle next = open_one(table, 1, &objects[1]);
        assert_int_not_equal(next, first);
        assert_null(dw_handle_get(table, 1, first));
        assert_non_null(dw_handle_close(table, 1, next));
    }
    assert_int_equal(open_one(table, 1, &objects[1]), first); /* the generations went round once: never 0 between */
    dw_handle_table_destroy(table);
}

static void full_table_refuses(void **state) {
    (void)state;
    dw_handle_table *table = table_of(2);
    dw_handle first = open_one(table, 1, &objects[0]), extra = 7;
    (void)open_one(table, 1, &objects[1]);
    assert_status(dw_handle_open(table, 1, &objects[2], &extra), DW_E_LIMIT);
    assert_int_equal(extra, 0);
    assert_non_null(dw_handle_close(table, 1, first));
    (void)open_one(table, 1, &objects[2]);
    dw_handle_table_destroy(table);
}

static void wrong_arguments_are_refused(void **state) {
    (void)state;
    dw_handle_table *table;
    assert_status(dw_handle_table_create(0, &table), DW_E_INVALID);
    assert_status(dw_handle_table_create(65536, &table), DW_E_INVALID);
    assert_null(table);
    dw_handle_table_destroy(NULL);
    table = table_of(65535);
    dw_handle handle;
    assert_status(dw_handle_open(table, 1, NULL, &handle), DW_E_INVALID);
    assert_status(dw_handle_reopen(table, 1, &objects[0], 5), DW_E_INVALID);       /* generation 0 */
    assert_status(dw_handle_reopen(table, 1, &objects[0], 0x1FFFF), DW_E_RANGE);   /* slot 65535 */
    dw_handle_table_destroy(table);
}

static void walk_finds_each_once_and_may_close(void **state) {
    (void)state;
    dw_handle_table *table = table_of(8);
    for (size_t i = 0; i < 6; i++) (void)open_one(table, i % 2 ? 1 : 2, &objects[i]);
    unsigned seen = 0;
    uint32_t cursor = 0;
    dw_handle handle;
    for (void *object; (object = dw_handle_next(table, 1, &cursor, &handle)); seen++) {
        assert_ptr_equal(dw_handle_get(table, 1, handle), object);
        assert_ptr_equal(dw_handle_close(table, 1, handle), object);
    }
    assert_int_equal(seen, 3);
    cursor = 0;
    for (seen = 0; dw_handle_next(table, 0, &cursor, NULL); seen++) {}
    assert_int_equal(seen, 3);
    dw_handle_table_destroy(table);
}

/* I4: an actor that was thawed gets the same numbers as its twin that went on. */
static void restored_table_gives_the_same_numbers_as_the_original(void **state) {
    (void)state;
    uint64_t random = test_seed(4);
    dw_handle_table *original = table_of(16);
    dw_handle open_handles[16] = {0};
    for (unsigned step = 0; step < 200; step++) {
        dw_handle *place = &open_handles[test_random_below(&random, 16)];
        if (*place) {
            assert_non_null(dw_handle_close(original, 1, *place));
            *place = 0;
        } else {
            *place = open_one(original, 1, &objects[0]);
        }
    }
    dw_handle_table *restored = table_of(16);
    uint32_t cursor = 0;
    dw_handle handle;
    while (dw_handle_next(original, 1, &cursor, &handle)) {
        assert_status(dw_handle_reopen(restored, 1, &objects[0], handle), DW_OK);
        assert_status(dw_handle_reopen(restored, 1, &objects[0], handle), DW_E_EXISTS);
    }
    dw_handle_set_clock(restored, dw_handle_clock(original));
    assert_int_equal(dw_handle_count(restored), dw_handle_count(original));
    while (dw_handle_count(original) < 16) assert_int_equal(open_one(original, 1, &objects[0]), open_one(restored, 1, &objects[0]));
    assert_int_equal(dw_handle_count(restored), 16);
    dw_handle_table_destroy(original);
    dw_handle_table_destroy(restored);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handle_gives_back_its_object_only),
        cmocka_unit_test(forged_handles_give_nothing),
        cmocka_unit_test(other_tag_is_another_kind_of_object),
        cmocka_unit_test(closed_number_does_not_come_back_for_65535_opens),
        cmocka_unit_test(full_table_refuses),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(walk_finds_each_once_and_may_close),
        cmocka_unit_test(restored_table_gives_the_same_numbers_as_the_original),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

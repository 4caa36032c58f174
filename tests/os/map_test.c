/* Memory maps. */
#include "os/os.h"
#include "os/scratch.h"

static dw_error err;

static void reservation_costs_addresses_only(void **state) {
    (void)state;
    void *base;
    dw_os_memory_use use;
    size_t size = (size_t)1 << 36;
    assert_ok(dw_os_map_reserve(size, &base, &err), err);
    assert_ok(dw_os_memory_use_range(base, size, &use, &err), err);
    assert_int_equal(use.resident, 0);
    dw_os_unmap(base, size);
    assert_status(dw_os_map_reserve(0, &base, &err), DW_E_INVALID);
}

static void anonymous_memory_is_zero_and_is_given_back(void **state) {
    (void)state;
    size_t page = dw_os_page_bytes(), size = 16 * page;
    void *base;
    assert_ok(dw_os_map_reserve(size, &base, &err), err);
    for (int round = 0; round < 2; round++) {
        assert_ok(dw_os_map_anonymous(base, size, &err), err);
        for (size_t i = 0; i < size; i += 64) assert_int_equal(((char *)base)[i], 0);
        memset(base, 7, size);
        dw_os_memory_use use;
        assert_ok(dw_os_memory_use_range(base, size, &use, &err), err);
        assert_true(use.anonymous >= size);
        assert_ok(dw_os_map_decommit(base, size, &err), err);
        assert_ok(dw_os_memory_use_range(base, size, &use, &err), err);
        assert_int_equal(use.anonymous, 0);
    }
    dw_os_unmap(base, size);
}

static void private_map_leaves_the_file_and_shared_map_writes_it(void **state) {
    (void)state;
    size_t page = dw_os_page_bytes();
    dw_os_file file;
    char *copy, *window, byte;
    assert_ok(dw_os_memory_object("test", 2 * page, &file, &err), err);
    assert_ok(dw_os_map_file(NULL, page, file, page, DW_OS_RW, true, (void **)&window, &err), err);
    window[0] = 's';
    assert_ok(dw_os_read_at(file, page, &byte, 1, &err), err);
    assert_int_equal(byte, 's');
    assert_ok(dw_os_map_file(NULL, page, file, page, DW_OS_RW, false, (void **)&copy, &err), err);
    assert_int_equal(copy[0], 's');
    copy[0] = 'p';
    assert_ok(dw_os_read_at(file, page, &byte, 1, &err), err);
    assert_int_equal(byte, 's');
    assert_int_equal(window[0], 's');
    dw_os_unmap(copy, page);
    dw_os_unmap(window, page);
    dw_os_close(&file);
}

/* Touching such a map would kill the process: it must not come into being. */
static void map_past_the_end_of_its_file_is_refused(void **state) {
    (void)state;
    size_t page = dw_os_page_bytes();
    dw_os_file file;
    void *base;
    assert_ok(dw_os_memory_object("test", page + 1, &file, &err), err);
    assert_ok(dw_os_map_file(NULL, 2 * page, file, 0, DW_OS_RO, true, &base, &err), err); /* the last, partial page is there */
    dw_os_unmap(base, 2 * page);
    assert_status(dw_os_map_file(NULL, 3 * page, file, 0, DW_OS_RO, true, &base, &err), DW_E_RANGE);
    assert_null(base);
    assert_status(dw_os_map_file(NULL, page, file, 2 * page, DW_OS_RO, true, &base, &err), DW_E_RANGE);
    assert_status(dw_os_map_file(NULL, page, file, UINT64_MAX - page + 1, DW_OS_RO, true, &base, &err), DW_E_RANGE);
    dw_os_close(&file);
}

static void protection_changes_and_advice_is_harmless(void **state) {
    (void)state;
    size_t page = dw_os_page_bytes();
    void *base;
    assert_ok(dw_os_map_reserve(page, &base, &err), err);
    assert_ok(dw_os_map_anonymous(base, page, &err), err);
    *(char *)base = 5;
    assert_ok(dw_os_map_protect(base, page, DW_OS_RO, &err), err);
    assert_int_equal(*(char *)base, 5);
    dw_os_map_will_need((char *)base + 1, 10);
    assert_ok(dw_os_map_protect(base, page, DW_OS_RW, &err), err);
    *(char *)base = 6;
    dw_os_unmap(base, page);
}

static void memory_use_counts_what_is_our_own(void **state) {
    (void)state;
    size_t size = (size_t)8 << 20;
    void *base;
    dw_os_memory_use before, after;
    assert_ok(dw_os_map_reserve(size, &base, &err), err);
    assert_ok(dw_os_map_anonymous(base, size, &err), err);
    assert_ok(dw_os_memory_use_now(&before, &err), err);
    memset(base, 1, size);
    assert_ok(dw_os_memory_use_now(&after, &err), err);
    assert_true(after.anonymous >= before.anonymous + size);
    assert_true(after.resident >= before.resident + size);
    assert_true(after.maps > 3);
    dw_os_unmap(base, size);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reservation_costs_addresses_only),
        cmocka_unit_test(anonymous_memory_is_zero_and_is_given_back),
        cmocka_unit_test(private_map_leaves_the_file_and_shared_map_writes_it),
        cmocka_unit_test(map_past_the_end_of_its_file_is_refused),
        cmocka_unit_test(protection_changes_and_advice_is_harmless),
        cmocka_unit_test(memory_use_counts_what_is_our_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

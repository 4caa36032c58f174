/* Write tracking and private copies, as the kernel tells them. Skipped where it does not. */
#include "os/os.h"
#include "os/scratch.h"

enum { PAGES = 64 };

static dw_error err;
static size_t page;

typedef struct seen_pages {
    char *base;
    uint64_t bits; /* one a page */
} seen_pages;

static void see(void *context, void *run, size_t run_size) {
    seen_pages *seen = context;
    size_t first = (size_t)((char *)run - seen->base) / page;
    for (size_t i = 0; i < run_size / page; i++) seen->bits |= UINT64_C(1) << (first + i);
}

static uint64_t scan(char *base, bool rearm) {
    seen_pages seen = {.base = base};
    assert_ok(dw_os_dirty_scan(base, PAGES * page, rearm, see, &seen, &err), err);
    return seen.bits;
}

static uint64_t private_pages(char *base) {
    seen_pages seen = {.base = base};
    assert_ok(dw_os_private_pages(base, PAGES * page, see, &seen, &err), err);
    return seen.bits;
}

/* Arms, reads every page, writes three, one of them through read(2), and expects exactly those. */
static void expect_exact_tracking(char *base) {
    volatile char sum = 0;
    if (!dw_os_dirty_supported()) skip();
    assert_ok(dw_os_dirty_arm(base, PAGES * page, &err), err);
    for (size_t i = 0; i < PAGES; i++) sum = (char)(sum + base[i * page]);
    assert_true(scan(base, false) == 0);
    base[3 * page + 5] = 1;
    base[63 * page] = 2;
    dw_os_file zero;
    assert_ok(dw_os_memory_object("source", page, &zero, &err), err);
    assert_ok(dw_os_read_at(zero, 0, base + 20 * page, 16, &err), err); /* the kernel writes for us */
    dw_os_close(&zero);
    uint64_t expected = (UINT64_C(1) << 3) | (UINT64_C(1) << 20) | (UINT64_C(1) << 63);
    assert_true(scan(base, false) == expected);
    assert_true(scan(base, true) == expected);
    assert_true(scan(base, false) == 0);
    base[3 * page] = 9;
    assert_true(scan(base, true) == UINT64_C(1) << 3);
    base[4 * page] = 9;
    assert_ok(dw_os_dirty_arm(base, PAGES * page, &err), err);
    assert_true(scan(base, false) == 0);
}

static void tracking_is_exact_in_anonymous_memory(void **state) {
    (void)state;
    void *base;
    assert_ok(dw_os_map_reserve(PAGES * page, &base, &err), err);
    assert_ok(dw_os_map_anonymous(base, PAGES * page, &err), err);
    expect_exact_tracking(base);
    dw_os_unmap(base, PAGES * page);
}

static void tracking_is_exact_in_a_memory_object(void **state) {
    for (int shared = 0; shared < 2; shared++) {
        dw_os_file file;
        void *base;
        (void)state;
        assert_ok(dw_os_memory_object("test", PAGES * page, &file, &err), err);
        assert_ok(dw_os_write_at(file, 30 * page, "x", 1, &err), err);
        assert_ok(dw_os_map_file(NULL, PAGES * page, file, 0, DW_OS_RW, shared, &base, &err), err);
        expect_exact_tracking(base);
        dw_os_unmap(base, PAGES * page);
        dw_os_close(&file);
    }
}

static void tracking_is_exact_in_a_private_map_of_a_file(void **state) {
    (void)state;
    dw_os_file file;
    void *base;
    assert_ok(dw_os_open(scratch_path("image"), DW_OS_CREATE_NEW, &file, &err), err);
    assert_ok(dw_os_resize(file, PAGES * page, &err), err);
    assert_ok(dw_os_write_at(file, 10 * page, "x", 1, &err), err);
    assert_ok(dw_os_map_file(NULL, PAGES * page, file, 0, DW_OS_RW, false, &base, &err), err);
    expect_exact_tracking(base);
    dw_os_unmap(base, PAGES * page);
    dw_os_close(&file);
}

/* A map made later inside an armed range must not look clean. */
static void lost_registration_is_an_error(void **state) {
    (void)state;
    void *base;
    if (!dw_os_dirty_supported()) skip();
    assert_ok(dw_os_map_reserve(PAGES * page, &base, &err), err);
    assert_ok(dw_os_map_anonymous(base, PAGES * page, &err), err);
    assert_ok(dw_os_dirty_arm(base, PAGES * page, &err), err);
    assert_ok(dw_os_map_anonymous((char *)base + 8 * page, page, &err), err);
    seen_pages seen = {.base = base};
    assert_int_not_equal(dw_os_dirty_scan(base, PAGES * page, false, see, &seen, &err), DW_OK);
    assert_ok(dw_os_dirty_arm(base, PAGES * page, &err), err);
    assert_true(scan(base, false) == 0);
    dw_os_unmap(base, PAGES * page);
}

static void private_copies_are_the_written_pages(void **state) {
    (void)state;
    dw_os_file file;
    char *base;
    volatile char sum = 0;
    assert_ok(dw_os_memory_object("test", PAGES * page, &file, &err), err);
    assert_ok(dw_os_write_at(file, 7 * page, "x", 1, &err), err);
    assert_ok(dw_os_map_file(NULL, PAGES * page, file, 0, DW_OS_RW, false, (void **)&base, &err), err);
    seen_pages seen = {.base = base};
    if (dw_os_private_pages(base, PAGES * page, see, &seen, &err) == DW_E_UNSUPPORTED) skip();
    for (size_t i = 0; i < PAGES; i++) sum = (char)(sum + base[i * page]);
    assert_true(private_pages(base) == 0);
    base[0] = 1;
    base[7 * page] = 1;
    base[8 * page] = 1;
    base[63 * page] = 1;
    uint64_t expected = 1 | (UINT64_C(3) << 7) | (UINT64_C(1) << 63);
    assert_true(private_pages(base) == expected);
    if (dw_os_dirty_supported()) {
        assert_ok(dw_os_dirty_arm(base, PAGES * page, &err), err);
        assert_true(private_pages(base) == expected); /* arming is no copy */
    }
    dw_os_unmap(base, PAGES * page);
    dw_os_close(&file);
}

static int set_up(void **state) {
    page = dw_os_page_bytes();
    return scratch_make(state);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tracking_is_exact_in_anonymous_memory),
        cmocka_unit_test(tracking_is_exact_in_a_memory_object),
        cmocka_unit_test(tracking_is_exact_in_a_private_map_of_a_file),
        cmocka_unit_test(lost_registration_is_an_error),
        cmocka_unit_test(private_copies_are_the_written_pages),
    };
    return cmocka_run_group_tests(tests, set_up, scratch_drop);
}

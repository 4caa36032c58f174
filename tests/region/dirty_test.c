/* Dirty pages since a mark, by both methods. */
#include <string.h>

#include "base/test.h"
#include "os/scratch.h"
#include "region/region.h"

enum { PAGES = 32 };

static dw_error err;
static uint64_t page;

typedef struct dirty_pages {
    uint64_t bits, last_end;
} dirty_pages;

static void see(void *context, uint64_t offset, uint64_t size) {
    dirty_pages *seen = context;
    assert_true(offset >= seen->last_end && size > 0 && offset % page == 0 && size % page == 0); /* ascending, disjoint, pages */
    seen->last_end = offset + size;
    for (uint64_t i = 0; i < size / page; i++) seen->bits |= UINT64_C(1) << (offset / page + i);
}

static uint64_t dirty(dw_region *region) {
    dirty_pages seen = {0};
    assert_ok(dw_region_dirty(region, see, &seen, &err), err);
    return seen.bits;
}

#define BIT(n) (UINT64_C(1) << (n))

static char *page_at(dw_region *region, uint64_t at) { return (char *)dw_region_base(region) + at * page; }

static dw_region *make_region(void) {
    dw_region *region;
    assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = PAGES * page}, &region, &err), err);
    return region;
}

static dw_status map_pages(dw_region *region, uint64_t at, uint64_t pages, dw_backing *backing, uint64_t from, dw_extent_mode mode, bool sparse) {
    dw_extent extent = {.offset = at * page, .size = pages * page, .backing = backing, .backing_offset = from * page, .mode = mode};
    return dw_region_map(region, &extent, sparse, &err);
}

/* Anonymous 0-3, private 4-7, shared 8-11, read-only 12-15. */
static dw_region *make_mixed(void) {
    dw_region *region = make_region();
    dw_backing *image, *memory;
    assert_ok(dw_backing_create_memory("image", 8 * page, &image, &err), err);
    assert_ok(dw_backing_create_memory("live", 8 * page, &memory, &err), err);
    assert_ok(dw_os_write_at(dw_backing_file(image), 0, "image", 5, &err), err);
    assert_ok(dw_region_grow(region, 4 * page, &err), err);
    assert_ok(map_pages(region, 4, 4, image, 0, DW_EXTENT_PRIVATE, false), err);
    assert_ok(map_pages(region, 8, 4, memory, 0, DW_EXTENT_SHARED, false), err);
    assert_ok(map_pages(region, 12, 4, image, 4, DW_EXTENT_READ_ONLY, false), err);
    dw_backing_release(image);
    dw_backing_release(memory);
    return region;
}

static dw_dirty_method method_of(void **state) {
    dw_dirty_method method = *(dw_dirty_method *)*state;
    if (method == DW_DIRTY_KERNEL && !dw_os_dirty_supported()) skip();
    return method;
}

static void read_into(char *target, const char *text) {
    dw_os_file source;
    assert_ok(dw_os_memory_object("source", page, &source, &err), err);
    assert_ok(dw_os_write_at(source, 0, text, strlen(text), &err), err);
    assert_ok(dw_os_read_at(source, 0, target, strlen(text), &err), err);
    dw_os_close(&source);
}

static void exactly_the_written_pages_are_dirty(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_mixed();
    *page_at(region, 1) = 1; /* before the mark */
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_int_equal(dw_region_dirty_method(region), method);
    volatile char sum = 0;
    for (uint64_t i = 0; i < 16; i++) sum = (char)(sum + *page_at(region, i));
    assert_true(dirty(region) == 0);
    *page_at(region, 2) = 1;
    page_at(region, 4)[page - 1] = 1;
    *page_at(region, 8) = 1;
    *page_at(region, 11) = 1;
    read_into(page_at(region, 6), "read");
    uint64_t expected = BIT(2) | BIT(4) | BIT(6) | BIT(8) | BIT(11);
    assert_true(dirty(region) == expected);
    assert_true(dirty(region) == expected); /* asking does not move the mark */
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_true(dirty(region) == 0);
    *page_at(region, 4) = 7;
    *page_at(region, 3) = 7;
    assert_true(dirty(region) == (BIT(3) | BIT(4)));
    assert_status(dw_region_destroy(region), DW_OK);
}

static void grown_and_mapped_pages_are_dirty_from_the_start(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_mixed();
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_ok(dw_region_grow(region, 18 * page, &err), err);
    assert_true(dirty(region) == (BIT(16) | BIT(17)));
    assert_ok(map_pages(region, 5, 2, NULL, 0, DW_EXTENT_PRIVATE, false), err);
    *page_at(region, 7) = 1;
    *page_at(region, 5) = 1;
    assert_true(dirty(region) == (BIT(5) | BIT(6) | BIT(7) | BIT(16) | BIT(17)));
    assert_ok(dw_region_mark(region, method, &err), err); /* arms what was new, and only that */
    assert_true(dirty(region) == 0);
    *page_at(region, 6) = 1;
    *page_at(region, 17) = 1;
    assert_true(dirty(region) == (BIT(6) | BIT(17)));
    assert_status(dw_region_destroy(region), DW_OK);
}

static void pages_that_are_gone_are_not_reported(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_mixed();
    assert_ok(dw_region_mark(region, method, &err), err);
    *page_at(region, 1) = 1;
    *page_at(region, 2) = 1;
    *page_at(region, 3) = 1;
    assert_status(dw_region_touch(region, 2 * page, 1), DW_OK);
    assert_ok(dw_region_unmap(region, 2 * page, page, &err), err);
    assert_true(dirty(region) == (BIT(1) | BIT(3)));
    assert_status(dw_region_touch(region, 0, 4 * page), DW_OK);
    assert_true(dirty(region) == (BIT(0) | BIT(1) | BIT(3)));
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_true(dirty(region) == 0);
    assert_ok(map_pages(region, 2, 1, NULL, 0, DW_EXTENT_PRIVATE, false), err);
    assert_true(dirty(region) == BIT(2));
    assert_status(dw_region_destroy(region), DW_OK);
}

static void touched_pages_are_dirty(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_mixed();
    assert_status(dw_region_touch(region, 0, page), DW_OK); /* without a mark there is nothing to remember */
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_status(dw_region_touch(region, page - 1, 2), DW_OK);
    assert_status(dw_region_touch(region, 9 * page, 0), DW_OK);
    assert_status(dw_region_touch(region, 10 * page + 5, 1), DW_OK);
    assert_true(dirty(region) == (BIT(0) | BIT(1) | BIT(10)));
    assert_status(dw_region_touch(region, 0, 17 * page), DW_E_RANGE);
    assert_status(dw_region_touch(region, UINT64_MAX, 2), DW_E_RANGE);
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_true(dirty(region) == 0);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void islands_of_a_sparse_region_are_tracked(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_region();
    assert_ok(map_pages(region, 3, 2, NULL, 0, DW_EXTENT_PRIVATE, true), err);
    assert_ok(map_pages(region, 10, 1, NULL, 0, DW_EXTENT_PRIVATE, true), err);
    assert_ok(map_pages(region, 20, 4, NULL, 0, DW_EXTENT_PRIVATE, true), err);
    assert_ok(dw_region_mark(region, method, &err), err);
    *page_at(region, 4) = 1;
    *page_at(region, 10) = 1;
    *page_at(region, 23) = 1;
    assert_true(dirty(region) == (BIT(4) | BIT(10) | BIT(23)));
    assert_status(dw_region_destroy(region), DW_OK);
}

/* Write tracking refuses a map that can never be written: it must not be asked for one. */
static void read_only_file_beside_written_pages_is_no_obstacle(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_region();
    dw_backing *image;
    static const char zeros[4096];
    for (uint64_t at = 0; at < 2 * page; at += sizeof zeros) {
        dw_os_file file;
        assert_ok(dw_os_open(scratch_path("image"), at ? DW_OS_READ_WRITE : DW_OS_CREATE_TRUNCATE, &file, &err), err);
        assert_ok(dw_os_write_at(file, at, zeros, sizeof zeros, &err), err);
        dw_os_close(&file);
    }
    assert_ok(dw_backing_open(scratch_path("image"), "image", &image, &err), err);
    assert_ok(map_pages(region, 0, 2, image, 0, DW_EXTENT_READ_ONLY, false), err);
    assert_ok(map_pages(region, 2, 2, image, 0, DW_EXTENT_PRIVATE, false), err);
    assert_status(map_pages(region, 4, 2, image, 0, DW_EXTENT_SHARED, false), DW_E_SYSTEM); /* the file is open for reading */
    dw_backing_release(image);
    assert_ok(dw_region_mark(region, method, &err), err);
    *page_at(region, 3) = 1;
    assert_true(dirty(region) == BIT(3));
    assert_status(dw_region_destroy(region), DW_OK);
}

static void empty_region_can_be_marked(void **state) {
    dw_dirty_method method = method_of(state);
    dw_region *region = make_region();
    dirty_pages seen = {0};
    assert_status(dw_region_dirty(region, see, &seen, &err), DW_E_STATE);
    assert_int_equal(dw_region_dirty_method(region), DW_DIRTY_AUTO);
    assert_ok(dw_region_mark(region, method, &err), err);
    assert_true(dirty(region) == 0);
    assert_ok(dw_region_grow(region, page, &err), err);
    assert_true(dirty(region) == BIT(0));
    assert_status(dw_region_destroy(region), DW_OK);
}

static void method_can_change_from_mark_to_mark(void **state) {
    (void)state;
    dw_region *region = make_mixed();
    static const dw_dirty_method methods[] = {DW_DIRTY_AUTO, DW_DIRTY_COMPARE, DW_DIRTY_AUTO, DW_DIRTY_AUTO, DW_DIRTY_COMPARE, DW_DIRTY_COMPARE};
    for (uint64_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        assert_ok(dw_region_mark(region, methods[i], &err), err);
        assert_int_not_equal(dw_region_dirty_method(region), DW_DIRTY_AUTO);
        assert_true(dirty(region) == 0);
        *page_at(region, i) = (char)(i + 1);
        assert_true(dirty(region) == BIT(i));
    }
    assert_status(dw_region_mark(region, (dw_dirty_method)9, &err), DW_E_INVALID);
    assert_true(dirty(region) == BIT(5)); /* a refused mark leaves the old one */
    assert_status(dw_region_destroy(region), DW_OK);
}

#define both(test) cmocka_unit_test_prestate(test, &kernel), {#test "/compare", test, NULL, NULL, &compare}

int main(void) {
    static dw_dirty_method kernel = DW_DIRTY_KERNEL, compare = DW_DIRTY_COMPARE;
    page = dw_os_page_bytes();
    const struct CMUnitTest tests[] = {
        both(exactly_the_written_pages_are_dirty),
        both(grown_and_mapped_pages_are_dirty_from_the_start),
        both(pages_that_are_gone_are_not_reported),
        both(touched_pages_are_dirty),
        both(islands_of_a_sparse_region_are_tracked),
        both(read_only_file_beside_written_pages_is_no_obstacle),
        both(empty_region_can_be_marked),
        cmocka_unit_test(method_can_change_from_mark_to_mark),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_drop);
}

/* Regions: places, extents, windows. */
#include <string.h>

#include "base/limits.h"
#include "base/test.h"
#include "os/os.h"
#include "region/region.h"

static dw_error err;
static uint64_t page;

static dw_region *make_region(uint64_t pages) {
    dw_region *region;
    dw_region_options options = {.reserve_bytes = pages * page, .guard_bytes = page, .guard_before_bytes = page};
    assert_ok(dw_region_create(&options, &region, &err), err);
    return region;
}

/* A memory object whose page i begins with the number first + i. */
static dw_backing *make_backing(uint64_t pages, uint64_t first) {
    dw_backing *backing;
    assert_ok(dw_backing_create_memory("test", pages * page, &backing, &err), err);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t number = first + i;
        assert_ok(dw_os_write_at(dw_backing_file(backing), i * page, &number, sizeof number, &err), err);
    }
    return backing;
}

static dw_status map_pages(dw_region *region, uint64_t at, uint64_t pages, dw_backing *backing, uint64_t from, dw_extent_mode mode, bool sparse) {
    dw_extent extent = {.offset = at * page, .size = pages * page, .backing = backing, .backing_offset = from * page, .mode = mode};
    return dw_region_map(region, &extent, sparse, &err);
}

static uint64_t number_at(const dw_region *region, uint64_t at) {
    uint64_t number;
    memcpy(&number, (char *)dw_region_base(region) + at * page, sizeof number);
    return number;
}

static void fresh_bytes_are_zero_and_growth_keeps_base_and_bytes(void **state) {
    (void)state;
    dw_region *region = make_region(8);
    char *base = dw_region_base(region);
    assert_int_equal(dw_region_size(region), 0);
    assert_int_equal(dw_region_reserved(region), 8 * page);
    assert_ok(dw_region_grow(region, 1, &err), err);
    assert_int_equal(dw_region_size(region), page);
    base[0] = 'a';
    assert_ok(dw_region_grow(region, 8 * page, &err), err);
    assert_ok(dw_region_grow(region, page, &err), err); /* never shrinks */
    assert_int_equal(dw_region_size(region), 8 * page);
    assert_ptr_equal(dw_region_base(region), base);
    assert_int_equal(base[0], 'a');
    for (uint64_t i = 1; i < 8 * page; i++) assert_int_equal(base[i], 0);
    assert_status(dw_region_grow(region, 8 * page + 1, &err), DW_E_LIMIT);
    assert_status(dw_region_grow(region, UINT64_MAX, &err), DW_E_LIMIT);
    size_t count;
    assert_int_equal(dw_region_extents(region, &count)[0].size, 8 * page);
    assert_int_equal(count, 1);
    assert_status(dw_region_destroy(region), DW_OK);
    assert_status(dw_region_destroy(NULL), DW_OK);
}

static void absurd_options_are_refused(void **state) {
    (void)state;
    dw_region *region;
    assert_status(dw_region_create(&(dw_region_options){.reserve_bytes = 0, .guard_bytes = page}, &region, &err), DW_E_INVALID);
    assert_status(dw_region_create(&(dw_region_options){.reserve_bytes = UINT64_MAX}, &region, &err), DW_E_INVALID);
    assert_status(dw_region_create(&(dw_region_options){.reserve_bytes = UINT64_MAX / 2, .guard_bytes = UINT64_MAX / 2}, &region, &err), DW_E_INVALID);
    assert_null(region);
}

static void modes_decide_where_writes_go(void **state) {
    (void)state;
    dw_region *region = make_region(8);
    dw_backing *backing = make_backing(2, 100);
    uint64_t number = 7;
    assert_ok(map_pages(region, 0, 2, backing, 0, DW_EXTENT_PRIVATE, false), err);
    assert_ok(map_pages(region, 2, 2, backing, 0, DW_EXTENT_SHARED, false), err);
    assert_ok(map_pages(region, 4, 2, backing, 0, DW_EXTENT_READ_ONLY, false), err);
    memcpy(dw_region_base(region), &number, sizeof number);
    assert_int_equal(number_at(region, 2), 100);
    number = 8;
    memcpy((char *)dw_region_base(region) + 3 * page, &number, sizeof number);
    assert_int_equal(number_at(region, 5), 8);
    assert_ok(dw_os_read_at(dw_backing_file(backing), page, &number, sizeof number, &err), err);
    assert_int_equal(number, 8);
    assert_int_equal(number_at(region, 0), 7);
    dw_backing_release(backing); /* the region holds its own references */
    assert_int_equal(number_at(region, 4), 100);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void extents_split_and_merge(void **state) {
    (void)state;
    size_t count;
    dw_region *region = make_region(16);
    dw_backing *backing = make_backing(16, 0);
    assert_ok(map_pages(region, 0, 4, backing, 0, DW_EXTENT_PRIVATE, false), err);
    assert_ok(map_pages(region, 4, 4, backing, 4, DW_EXTENT_PRIVATE, false), err);
    assert_int_equal(dw_region_extents(region, &count)[0].size, 8 * page);
    assert_int_equal(count, 1);
    assert_ok(map_pages(region, 8, 4, backing, 4, DW_EXTENT_PRIVATE, false), err); /* does not go on in the backing */
    (void)dw_region_extents(region, &count);
    assert_int_equal(count, 2);
    assert_ok(map_pages(region, 2, 2, NULL, 0, DW_EXTENT_PRIVATE, false), err);
    const dw_extent *extents = dw_region_extents(region, &count);
    assert_int_equal(count, 4);
    assert_int_equal(extents[0].size, 2 * page);
    assert_null(extents[1].backing);
    assert_int_equal(extents[2].offset, 4 * page);
    assert_int_equal(extents[2].backing_offset, 4 * page);
    assert_int_equal(number_at(region, 2), 0);
    assert_int_equal(number_at(region, 5), 5);
    assert_ok(map_pages(region, 2, 2, backing, 2, DW_EXTENT_PRIVATE, false), err); /* closes the gap again */
    (void)dw_region_extents(region, &count);
    assert_int_equal(count, 2);
    assert_ok(dw_region_map(region, dw_region_extents(region, &count), false, &err), err); /* its own view as the argument */
    (void)dw_region_extents(region, &count);
    assert_int_equal(count, 2);
    assert_int_equal(number_at(region, 7), 7);
    dw_backing_release(backing);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void body_has_no_gap_unless_sparse(void **state) {
    (void)state;
    size_t count;
    dw_region *region = make_region(16);
    assert_status(map_pages(region, 1, 1, NULL, 0, DW_EXTENT_PRIVATE, false), DW_E_RANGE);
    assert_ok(map_pages(region, 4, 2, NULL, 0, DW_EXTENT_PRIVATE, true), err);
    assert_ok(map_pages(region, 1, 1, NULL, 0, DW_EXTENT_PRIVATE, true), err);
    assert_int_equal(dw_region_size(region), 6 * page);
    (void)dw_region_extents(region, &count);
    assert_int_equal(count, 2);
    assert_ok(dw_region_unmap(region, 5 * page, page, &err), err);
    assert_int_equal(dw_region_size(region), 6 * page);
    assert_ok(dw_region_grow(region, 8 * page, &err), err);
    const dw_extent *extents = dw_region_extents(region, &count);
    assert_int_equal(count, 3);
    assert_int_equal(extents[2].offset, 6 * page);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void wrong_maps_are_refused_and_change_nothing(void **state) {
    (void)state;
    dw_region *region = make_region(4);
    dw_backing *backing = make_backing(2, 0);
    assert_status(map_pages(region, 3, 2, NULL, 0, DW_EXTENT_PRIVATE, true), DW_E_RANGE);
    assert_status(map_pages(region, 0, 3, backing, 0, DW_EXTENT_PRIVATE, true), DW_E_RANGE);
    assert_status(map_pages(region, 0, 1, backing, 2, DW_EXTENT_PRIVATE, true), DW_E_RANGE);
    assert_status(map_pages(region, 0, 0, NULL, 0, DW_EXTENT_PRIVATE, true), DW_E_INVALID);
    assert_status(map_pages(region, 0, 1, NULL, 0, DW_EXTENT_SHARED, true), DW_E_INVALID);
    assert_status(map_pages(region, 0, 1, NULL, 1, DW_EXTENT_PRIVATE, true), DW_E_INVALID);
    assert_status(map_pages(region, 0, 1, backing, 0, (dw_extent_mode)9, true), DW_E_INVALID);
    dw_extent odd = {.offset = 1, .size = page};
    assert_status(dw_region_map(region, &odd, true, &err), DW_E_INVALID);
    odd = (dw_extent){.offset = 0, .size = UINT64_MAX - page + 1};
    assert_status(dw_region_map(region, &odd, true, &err), DW_E_RANGE);
    odd = (dw_extent){.offset = UINT64_MAX - page + 1, .size = page};
    assert_status(dw_region_map(region, &odd, true, &err), DW_E_RANGE);
    assert_status(dw_region_unmap(region, 0, page, &err), DW_E_RANGE);
    size_t count;
    (void)dw_region_extents(region, &count);
    assert_int_equal(count, 0);
    assert_int_equal(dw_region_size(region), 0);
    dw_backing_release(backing);
    assert_status(dw_region_destroy(region), DW_OK);
}

/* I5 */
static void lent_pages_are_left_alone(void **state) {
    (void)state;
    dw_region *region = make_region(8);
    dw_window window, overlapping;
    assert_ok(dw_region_grow(region, 4 * page, &err), err);
    assert_ok(dw_region_lend(region, page, 2 * page, &window, &err), err);
    assert_ok(dw_region_lend(region, 2 * page, page, &overlapping, &err), err);
    assert_int_equal(dw_region_lent(region), 2);
    assert_status(map_pages(region, 2, 1, NULL, 0, DW_EXTENT_PRIVATE, false), DW_E_BUSY);
    assert_status(dw_region_unmap(region, 0, 2 * page, &err), DW_E_BUSY);
    assert_status(dw_region_grow(region, 5 * page, &err), DW_E_BUSY);
    assert_status(map_pages(region, 4, 1, NULL, 0, DW_EXTENT_PRIVATE, false), DW_E_BUSY); /* growth too */
    assert_status(dw_region_destroy(region), DW_E_BUSY);
    assert_ok(dw_region_grow(region, 4 * page, &err), err); /* no growth */
    assert_ok(map_pages(region, 0, 1, NULL, 0, DW_EXTENT_PRIVATE, false), err); /* not lent */
    assert_status(dw_region_return(region, window), DW_OK);
    assert_status(dw_region_return(region, window), DW_E_BAD_HANDLE);
    assert_status(dw_region_return(region, (dw_window){0}), DW_E_BAD_HANDLE);
    assert_status(map_pages(region, 2, 1, NULL, 0, DW_EXTENT_PRIVATE, false), DW_E_BUSY);
    assert_status(dw_region_return(region, overlapping), DW_OK);
    assert_ok(map_pages(region, 2, 1, NULL, 0, DW_EXTENT_PRIVATE, false), err);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void windows_are_whole_pages_of_the_body_and_limited(void **state) {
    (void)state;
    dw_region *region = make_region(8);
    dw_window window;
    assert_ok(dw_region_grow(region, 4 * page, &err), err);
    assert_status(dw_region_lend(region, 0, 5 * page, &window, &err), DW_E_RANGE);
    assert_status(dw_region_lend(region, 4 * page, page, &window, &err), DW_E_RANGE);
    assert_status(dw_region_lend(region, 1, page, &window, &err), DW_E_INVALID);
    assert_status(dw_region_lend(region, 0, 1, &window, &err), DW_E_INVALID);
    assert_status(dw_region_lend(region, 0, 0, &window, &err), DW_E_INVALID);
    assert_int_equal(window.id, 0);
    dw_window windows[DW_REGION_WINDOWS_MAX];
    for (unsigned i = 0; i < DW_REGION_WINDOWS_MAX; i++) assert_ok(dw_region_lend(region, 0, page, &windows[i], &err), err);
    assert_status(dw_region_lend(region, 0, page, &window, &err), DW_E_LIMIT);
    for (unsigned i = 0; i < DW_REGION_WINDOWS_MAX; i++) assert_status(dw_region_return(region, windows[i]), DW_OK);
    assert_status(dw_region_destroy(region), DW_OK);
}

static void backing_lives_as_long_as_it_is_referred_to(void **state) {
    (void)state;
    dw_backing *backing = make_backing(1, 5);
    assert_string_equal(dw_backing_origin(backing), "memfd");
    assert_int_equal(dw_backing_size(backing), page);
    assert_ptr_equal(dw_backing_retain(backing), backing);
    dw_backing_release(backing);
    assert_int_equal(dw_backing_size(backing), page);
    assert_ok(dw_os_resize(dw_backing_file(backing), 3 * page, &err), err);
    assert_int_equal(dw_backing_size(backing), 3 * page); /* session files grow */
    dw_backing_release(backing);
    dw_backing_release(NULL);
    assert_status(dw_backing_open("/no/such/file", "test", &backing, &err), DW_E_NOT_FOUND);
    assert_null(backing);
}

static int set_up(void **state) {
    (void)state;
    page = dw_os_page_bytes();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fresh_bytes_are_zero_and_growth_keeps_base_and_bytes),
        cmocka_unit_test(absurd_options_are_refused),
        cmocka_unit_test(modes_decide_where_writes_go),
        cmocka_unit_test(extents_split_and_merge),
        cmocka_unit_test(body_has_no_gap_unless_sparse),
        cmocka_unit_test(wrong_maps_are_refused_and_change_nothing),
        cmocka_unit_test(lent_pages_are_left_alone),
        cmocka_unit_test(windows_are_whole_pages_of_the_body_and_limited),
        cmocka_unit_test(backing_lives_as_long_as_it_is_referred_to),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}

/* Maps and descriptors of the process: what would be one too many is refused, and leaves the process well. */
#include <string.h>
#include <sys/resource.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/test.h"
#include "os/os.h"
#include "region/region.h"

static dw_error err;

/* Every other page of a region: each is a map, and each gap is one. */
static dw_status fill_with_maps(dw_region *region, uint64_t n) {
    uint64_t page = dw_os_page_bytes();
    dw_status status = DW_OK;
    for (uint64_t i = 0; i < n && status == DW_OK; i++) {
        dw_extent extent = {.offset = 2 * i * page, .size = page};
        status = dw_region_map(region, &extent, true, &err);
    }
    return status;
}

static void maps_are_refused_before_the_system_has_no_more(void **state) {
    (void)state;
    uint64_t page = dw_os_page_bytes(), before = dw_region_maps_count();
    dw_region *region, *other = NULL;
    dw_os_memory_use use;
    assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = 200000 * page}, &region, &err), err);
    assert_status(fill_with_maps(region, 100000), DW_E_LIMIT);
    assert_non_null(strstr(err.text, "maps"));
    assert_true(dw_region_maps_left() < 4);
    assert_ok(dw_os_memory_use_range(dw_region_base(region), dw_region_reserved(region), &use, &err), err);
    assert_true(use.maps > DW_PROCESS_MAPS_MAX / 2 && use.maps <= DW_PROCESS_MAPS_MAX);

    /* Others go on: memory comes from maps too, and the region itself is as it was. */
    void *block = malloc((size_t)64 << 20);
    assert_non_null(block);
    memset(block, 1, (size_t)64 << 20);
    free(block);
    memset(dw_region_base(region), 7, page);
    dw_status status = dw_region_create(&(dw_region_options){.reserve_bytes = page}, &other, &err);
    if (status == DW_OK) status = fill_with_maps(other, 1);
    assert_status(status, DW_E_LIMIT);
    assert_status(dw_region_destroy(other), DW_OK);

    /* What is given back can be had again. */
    assert_ok(dw_region_unmap(region, 0, 1000 * page, &err), err);
    assert_true(dw_region_maps_left() > 900);
    assert_status(dw_region_destroy(region), DW_OK);
    assert_int_equal(dw_region_maps_count(), before);
}

/* The count is exact for what regions do at random: nothing drifts. */
static void maps_are_counted_as_extents_and_gaps(void **state) {
    (void)state;
    enum { PAGES = 64 };
    uint64_t random = test_seed(21), page = dw_os_page_bytes(), before = dw_region_maps_count();
    dw_region *region;
    assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = PAGES * page}, &region, &err), err);
    for (int i = 0; i < 2000; i++) {
        uint64_t first = test_random_below(&random, PAGES), n = 1 + test_random_below(&random, PAGES - first);
        dw_extent extent = {.offset = first * page, .size = n * page};
        if (test_random_below(&random, 2)) assert_ok(dw_region_map(region, &extent, true, &err), err);
        else if ((first + n) * page <= dw_region_size(region))
            assert_ok(dw_region_unmap(region, first * page, n * page, &err), err);
        size_t n_extents;
        const dw_extent *extents = dw_region_extents(region, &n_extents);
        uint64_t maps = 2 + n_extents;
        for (size_t k = 0; k + 1 < n_extents; k++) maps += extents[k].offset + extents[k].size != extents[k + 1].offset;
        assert_int_equal(dw_region_maps_count(), before + maps);
    }
    assert_status(dw_region_destroy(region), DW_OK);
    assert_int_equal(dw_region_maps_count(), before);
}

static void backings_are_refused_before_the_system_has_no_descriptor(void **state) {
    (void)state;
    enum { ALLOWED = 160 };
    struct rlimit saved, few;
    dw_backing *backings[ALLOWED] = {0};
    dw_os_file others[32];
    size_t n = 0;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &saved), 0);
    few = saved;
    few.rlim_cur = ALLOWED;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    uint64_t before = dw_backing_count();
    dw_status status = DW_OK;
    while (status == DW_OK && n < ALLOWED) {
        status = dw_backing_create_memory("test", dw_os_page_bytes(), &backings[n], &err);
        n += status == DW_OK;
    }
    assert_status(status, DW_E_LIMIT);
    assert_int_equal(dw_backing_count(), ALLOWED - DW_PROCESS_DESCRIPTORS_SPARE);
    /* others still can */
    for (size_t i = 0; i < 32; i++) assert_ok(dw_os_open("/dev/null", DW_OS_READ, &others[i], &err), err);
    for (size_t i = 0; i < 32; i++) dw_os_close(&others[i]);
    while (n > 0) dw_backing_release(backings[--n]);
    assert_int_equal(dw_backing_count(), before);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &saved), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_are_refused_before_the_system_has_no_more),
        cmocka_unit_test(maps_are_counted_as_extents_and_gaps),
        cmocka_unit_test(backings_are_refused_before_the_system_has_no_descriptor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

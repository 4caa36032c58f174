/* For every system call of every operation of a region: when it fails, nothing has changed, nothing leaks, and a retry succeeds. */
#include <string.h>

#include "base/vec.h"
#include "os/fault_loop.h"
#include "os/scratch.h"
#include "region/region.h"

static dw_error err;
static uint64_t page;

static dw_region *make_region(uint64_t body_pages) {
    dw_region *region;
    assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = 16 * page, .guard_bytes = page}, &region, &err), err);
    if (body_pages) assert_ok(dw_region_grow(region, body_pages * page, &err), err);
    return region;
}

static uint64_t maps_in(const dw_region *region) {
    dw_os_memory_use use;
    assert_ok(dw_os_memory_use_range(dw_region_base(region), dw_region_reserved(region), &use, &err), err);
    return use.maps;
}

static void failed_create_leaves_nothing(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        unsigned descriptors = open_descriptors();
        dw_region *region = NULL;
        dw_backing *backing = NULL;
        fault_loop_arm(&loop);
        dw_status status = dw_backing_create_memory("test", page, &backing, &err);
        if (status == DW_OK) status = dw_region_create(&(dw_region_options){.reserve_bytes = page}, &region, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_true(loop.hit ? region == NULL : region != NULL);
        assert_status(dw_region_destroy(region), DW_OK);
        dw_backing_release(backing);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

/* The file is taken over in any case: who hands it in must not close it a second time. */
static void failed_backing_closes_its_file(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_STAT, EIO) {
        unsigned descriptors = open_descriptors();
        dw_os_file file;
        dw_backing *backing;
        assert_ok(dw_os_memory_object("test", page, &file, &err), err);
        fault_loop_arm(&loop);
        dw_status status = dw_backing_create(file, "test", &backing, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_IO : DW_OK);
        dw_backing_release(backing);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

static void failed_growth_changes_nothing_and_is_repeated(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        dw_region *region = make_region(2);
        uint64_t maps = maps_in(region);
        memset(dw_region_base(region), 7, 2 * page);
        fault_loop_arm(&loop);
        dw_status status = dw_region_grow(region, 5 * page, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_int_equal(dw_region_size(region), (loop.hit ? 2 : 5) * page);
        if (loop.hit) assert_int_equal(maps_in(region), maps);
        assert_ok(dw_region_grow(region, 5 * page, &err), err);
        assert_int_equal(((char *)dw_region_base(region))[2 * page - 1], 7);
        assert_int_equal(((char *)dw_region_base(region))[5 * page - 1], 0);
        assert_status(dw_region_destroy(region), DW_OK);
    }
}

static void failed_map_keeps_the_old_pages_and_no_reference(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        unsigned descriptors = open_descriptors();
        dw_region *region = make_region(4);
        dw_backing *backing;
        size_t count;
        memset(dw_region_base(region), 7, 4 * page);
        assert_ok(dw_backing_create_memory("test", 2 * page, &backing, &err), err);
        dw_extent extent = {.offset = page, .size = 2 * page, .backing = backing, .mode = DW_EXTENT_PRIVATE};
        fault_loop_arm(&loop);
        dw_status status = dw_region_map(region, &extent, false, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        (void)dw_region_extents(region, &count);
        assert_int_equal(count, loop.hit ? 1 : 3);
        assert_int_equal(((char *)dw_region_base(region))[page], loop.hit ? 7 : 0);
        if (loop.hit) assert_ok(dw_region_map(region, &extent, false, &err), err);
        assert_int_equal(((char *)dw_region_base(region))[page], 0);
        dw_backing_release(backing);
        assert_status(dw_region_destroy(region), DW_OK);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

static void failed_unmap_keeps_the_pages(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        dw_region *region = make_region(4);
        size_t count;
        memset(dw_region_base(region), 7, 4 * page);
        fault_loop_arm(&loop);
        dw_status status = dw_region_unmap(region, page, page, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        (void)dw_region_extents(region, &count);
        assert_int_equal(count, loop.hit ? 1 : 2);
        if (loop.hit) assert_int_equal(((char *)dw_region_base(region))[page], 7);
        assert_ok(dw_region_unmap(region, page, page, &err), err);
        assert_status(dw_region_destroy(region), DW_OK);
    }
}

static void note(void *context, uint64_t offset, uint64_t size) {
    for (uint64_t i = 0; i < size / page; i++) *(uint64_t *)context |= UINT64_C(1) << (offset / page + i);
}

/* A write that a mark knew of is never lost, also when the next mark fails half-way. */
static void failed_mark_loses_no_write(void **state) {
    (void)state;
    if (!dw_os_dirty_supported()) skip();
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        dw_region *region = make_region(0);
        uint64_t seen = 0;
        for (uint64_t at = 0; at < 12; at += 4)
            assert_ok(dw_region_map(region, &(dw_extent){.offset = at * page, .size = 2 * page}, true, &err), err);
        assert_ok(dw_region_mark(region, DW_DIRTY_KERNEL, &err), err);
        char *base = dw_region_base(region);
        base[page] = 1;
        base[9 * page] = 1;
        assert_ok(dw_region_map(region, &(dw_extent){.offset = 14 * page, .size = page}, true, &err), err);
        fault_loop_arm(&loop);
        dw_status status = dw_region_mark(region, DW_DIRTY_KERNEL, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_ok(dw_region_dirty(region, note, &seen, &err), err);
        uint64_t written = (UINT64_C(1) << 1) | (UINT64_C(1) << 9) | (UINT64_C(1) << 14);
        assert_true(loop.hit ? (seen & written) == written : seen == 0);
        assert_ok(dw_region_mark(region, DW_DIRTY_KERNEL, &err), err);
        base[4 * page] = 1;
        seen = 0;
        assert_ok(dw_region_dirty(region, note, &seen, &err), err);
        assert_true(seen == UINT64_C(1) << 4);
        assert_status(dw_region_destroy(region), DW_OK);
    }
}

static void failed_question_can_be_asked_again(void **state) {
    (void)state;
    if (!dw_os_dirty_supported()) skip();
    dw_region *region = make_region(4);
    assert_ok(dw_region_mark(region, DW_DIRTY_KERNEL, &err), err);
    *(char *)dw_region_base(region) = 1;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        uint64_t seen = 0;
        fault_loop_arm(&loop);
        dw_status status = dw_region_dirty(region, note, &seen, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_true(seen == (loop.hit ? 0u : 1u)); /* no half answers */
    }
    assert_status(dw_region_destroy(region), DW_OK);
}

/* Every growth of a region's lists: of extents, windows, and ranges that are tracked. */
static void a_list_without_memory_keeps_what_was(void **state) {
    (void)state;
    bool met = true;
    uint64_t k = 1;
    for (; met; k++) {
        dw_window windows[40];
        size_t count;
        dw_vec_fault_arm(k);
        dw_region *region;
        dw_status status = dw_region_create(&(dw_region_options){.reserve_bytes = 64 * page}, &region, &err);
        if (status != DW_OK) assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = 64 * page}, &region, &err), err);
        uint32_t refused = status != DW_OK;
        while ((status = dw_region_grow(region, 64 * page, &err)) != DW_OK) {
            assert_status(status, DW_E_NO_MEMORY);
            assert_int_equal(dw_region_size(region), 0);
            refused++;
        }
        for (uint64_t i = 0; i < 32; i++) {
            while ((status = dw_region_unmap(region, 2 * i * page, page, &err)) != DW_OK) {
                assert_status(status, DW_E_NO_MEMORY);
                (void)dw_region_extents(region, &count);
                assert_int_equal(count, i + (i == 0));
                refused++;
            }
        }
        for (uint32_t i = 0; i < 40; i++) {
            while ((status = dw_region_lend(region, page, page, &windows[i], &err)) != DW_OK) {
                assert_status(status, DW_E_NO_MEMORY);
                assert_int_equal(dw_region_lent(region), i);
                refused++;
            }
        }
        met = dw_vec_fault_disarm();
        assert_int_equal(refused, met);
        for (uint32_t i = 0; i < 40; i++) assert_status(dw_region_return(region, windows[i]), DW_OK);
        assert_status(dw_region_destroy(region), DW_OK);
    }
    assert_in_range(k, 8, 40); /* lists of three kinds grew, each more than once */
}

int main(void) {
    page = dw_os_page_bytes();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failed_create_leaves_nothing),
        cmocka_unit_test(failed_backing_closes_its_file),
        cmocka_unit_test(failed_growth_changes_nothing_and_is_repeated),
        cmocka_unit_test(failed_map_keeps_the_old_pages_and_no_reference),
        cmocka_unit_test(failed_unmap_keeps_the_pages),
        cmocka_unit_test(failed_mark_loses_no_write),
        cmocka_unit_test(failed_question_can_be_asked_again),
        cmocka_unit_test(a_list_without_memory_keeps_what_was),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

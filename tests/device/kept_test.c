/* Kept wraps, on the device named by the first argument (default cpu): what a region maps anew, the device sees anew. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "device/compute.h"
#include "os/os.h"

enum { TERMS = 4096, ROOM = 1 << 20 };
static const char *device_name = "cpu";
static dw_device *device;

typedef struct window { dw_region *region; uint64_t offset; float *a, *b, *sum; } window;

static dw_region *body_of(uint64_t bytes) {
    dw_region *region = NULL;
    dw_region_options options = {.reserve_bytes = 2 * bytes};
    assert_int_equal(dw_region_create(&options, &region, NULL), DW_OK);
    assert_int_equal(dw_region_grow(region, bytes, NULL), DW_OK);
    return region;
}

static window window_at(dw_region *region, uint64_t offset) {
    char *base = (char *)dw_region_base(region) + offset;
    return (window){region, offset, (float *)(void *)base, (float *)(void *)(base + ROOM / 4),
                    (float *)(void *)(base + ROOM / 2)};
}

/* Computes a + b on the device, in place, and checks the sum against what the host has. */
static void add(window w, float a, float b) {
    const dw_compute_tensor tensors[3] = {{0, DW_COMPUTE_F32, TERMS, 1}, {ROOM / 4, DW_COMPUTE_F32, TERMS, 1},
                                          {ROOM / 2, DW_COMPUTE_F32, TERMS, 1}};
    const dw_compute_node node = {DW_COMPUTE_ADD, 0, 1, 2};
    dw_compute_request request = {.window = w.a, .window_bytes = ROOM, .region = w.region, .tensors = tensors,
                                  .n_tensors = 3, .nodes = &node, .n_nodes = 1};
    dw_compute_report report;
    dw_error err = {0};
    dw_window lent;
    for (int i = 0; i < TERMS; i++) {
        w.a[i] = a + (float)i;
        w.b[i] = b;
        w.sum[i] = -1;
    }
    assert_int_equal(dw_region_lend(w.region, w.offset, ROOM, &lent, NULL), DW_OK);
    if (dw_compute_run(device, &request, &report, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(dw_region_return(w.region, lent), DW_OK);
    assert_int_equal(report.copied_bytes, 0);
    for (int i = 0; i < TERMS; i++) assert_true(w.sum[i] == a + (float)i + b);
}

static bool keeps(void) { return dw_device_info_view(device)->kind != DW_DEVICE_CPU; }
static uint64_t wrapped(void) { return dw_device_ledger(device).wrapped; }
static uint64_t pinned(void) { return dw_device_ledger(device).pinned_now; }

static void the_second_operation_on_a_window_wraps_nothing(void **state) {
    (void)state;
    dw_region *region = body_of(4 * ROOM);
    window w = window_at(region, ROOM);
    uint64_t before = pinned();
    add(w, 1, 2);
    uint64_t first = wrapped();
    assert_int_equal(pinned() - before, keeps() ? ROOM : 0);
    add(w, 3, 4);
    if (keeps()) assert_int_equal(wrapped(), first);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(pinned(), before);
}

static void a_window_that_overlaps_a_kept_one_takes_it_in(void **state) {
    (void)state;
    dw_region *region = body_of(4 * ROOM);
    uint64_t before = pinned();
    add(window_at(region, 0), 1, 2);
    add(window_at(region, ROOM), 1, 2);
    if (keeps()) assert_int_equal(pinned() - before, 2 * ROOM);
    add(window_at(region, ROOM / 2), 5, 6); /* over both */
    if (keeps()) assert_int_equal(pinned() - before, 2 * ROOM);
    uint64_t now = wrapped();
    add(window_at(region, ROOM), 7, 8);
    if (keeps()) assert_int_equal(wrapped(), now);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(pinned(), before);
}

/* What a restore, a rollback, a fork and a growth do to a guest's memory. Without the pin a GPU goes on with the old
 * pages and sums numbers that nobody has. */
static void what_is_mapped_over_a_kept_window_is_seen(void **state) {
    (void)state;
    dw_region *region = body_of(2 * ROOM);
    window w = window_at(region, 0);
    dw_backing *backing = NULL;
    uint64_t before = pinned();
    assert_int_equal(dw_backing_create_memory("test", ROOM, &backing, NULL), DW_OK);
    const dw_extent maps[] = {
        {.offset = 0, .size = ROOM, .backing = backing, .mode = DW_EXTENT_PRIVATE},
        {.offset = 0, .size = ROOM},
        {.offset = 0, .size = ROOM, .backing = backing, .mode = DW_EXTENT_SHARED},
        {.offset = dw_os_page_bytes(), .size = dw_os_page_bytes()}, /* one page of it */
    };
    for (size_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        add(w, (float)i, 1);
        assert_int_equal(dw_region_map(region, &maps[i], false, NULL), DW_OK);
        assert_int_equal(pinned(), before);
        add(w, 100 + (float)i, 2);
    }
    assert_int_equal(dw_region_grow(region, 3 * ROOM, NULL), DW_OK);
    assert_int_equal(pinned(), before);
    add(w, 50, 60);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(pinned(), before);
    dw_backing_release(backing);
}

/* Remains when its device is closed by whoever opened it. */
static void a_kept_wrap_may_outlive_its_opener(void **state) {
    (void)state;
    dw_device *mine = device, *other = NULL;
    dw_region *region = body_of(ROOM);
    assert_int_equal(dw_device_open(device_name, &(dw_device_options){.threads = 1}, &other, NULL), DW_OK);
    device = other;
    add(window_at(region, 0), 1, 2);
    dw_device_close(other);
    device = mine;
    assert_int_equal(dw_region_destroy(region), DW_OK);
}

int main(int argc, char **argv) {
    dw_error err = {0};
    if (argc > 1) device_name = argv[1];
    dw_status status = dw_device_open(device_name, &(dw_device_options){.threads = 1}, &device, &err);
    if (status != DW_OK || !dw_device_info_view(device)->can_wrap) {
        printf("skipped: %s\n", status != DW_OK ? err.text : dw_device_info_view(device)->reason);
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_operation_on_a_window_wraps_nothing),
        cmocka_unit_test(a_window_that_overlaps_a_kept_one_takes_it_in),
        cmocka_unit_test(what_is_mapped_over_a_kept_window_is_seen),
        cmocka_unit_test(a_kept_wrap_may_outlive_its_opener),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

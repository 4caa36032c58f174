/* Pins: a region lets go of what a device knows before it changes what is mapped there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "region/region.h"

enum { PAGES = 64 };

typedef struct counted { dw_region_pin pin; int drops; uint8_t seen; const uint8_t *at; } counted;

static void count_drop(dw_region_pin *pin) {
    counted *c = (counted *)(void *)pin;
    c->drops++;
    if (c->at != NULL) c->seen = *c->at; /* the old page must still be there */
}

static dw_region *region_of(uint64_t pages) {
    dw_region *region = NULL;
    dw_region_options options = {.reserve_bytes = 2 * PAGES * dw_os_page_bytes()};
    assert_int_equal(dw_region_create(&options, &region, NULL), DW_OK);
    assert_int_equal(dw_region_grow(region, pages * dw_os_page_bytes(), NULL), DW_OK);
    return region;
}

static void pin(dw_region *region, counted *c, uint64_t first, uint64_t pages) {
    uint64_t page = dw_os_page_bytes();
    c->pin = (dw_region_pin){.offset = first * page, .size = pages * page, .drop = count_drop};
    assert_int_equal(dw_region_pin_add(region, &c->pin, NULL), DW_OK);
}

static void a_map_drops_the_pins_that_it_touches_before_it_maps(void **state) {
    (void)state;
    uint64_t page = dw_os_page_bytes();
    dw_region *region = region_of(PAGES);
    uint8_t *base = dw_region_base(region);
    counted before = {0}, over = {0}, behind = {0};
    pin(region, &before, 0, 8);
    pin(region, &over, 8, 8);
    pin(region, &behind, 16, 8);
    base[15 * page] = 77;
    over.at = base + 15 * page;
    dw_extent extent = {.offset = 15 * page, .size = page};
    assert_int_equal(dw_region_map(region, &extent, false, NULL), DW_OK);
    assert_int_equal(base[15 * page], 0);
    assert_int_equal(over.seen, 77);
    assert_true(before.drops == 0 && over.drops == 1 && behind.drops == 0);
    assert_int_equal(dw_region_unmap(region, 16 * page, page, NULL), DW_OK);
    assert_true(before.drops == 0 && over.drops == 1 && behind.drops == 1);
    dw_region_pin_remove(region, &before.pin);
    assert_null(dw_region_pins(region));
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(before.drops, 0);
}

static void growth_and_the_end_drop_all_pins(void **state) {
    (void)state;
    dw_region *region = region_of(PAGES);
    counted first = {0}, second = {0}, third = {0};
    pin(region, &first, 0, 4);
    pin(region, &second, 2, 4); /* they may overlap */
    assert_int_equal(dw_region_grow(region, (PAGES + 1) * dw_os_page_bytes(), NULL), DW_OK);
    assert_true(first.drops == 1 && second.drops == 1);
    pin(region, &third, 0, PAGES);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(third.drops, 1);
}

static void a_change_that_is_refused_drops_nothing(void **state) {
    (void)state;
    uint64_t page = dw_os_page_bytes();
    dw_region *region = region_of(PAGES);
    dw_window window;
    counted one = {0};
    pin(region, &one, 0, 4);
    assert_int_equal(dw_region_lend(region, 0, page, &window, NULL), DW_OK);
    dw_extent extent = {.offset = 0, .size = page};
    assert_int_equal(dw_region_map(region, &extent, false, NULL), DW_E_BUSY);
    assert_int_equal(dw_region_grow(region, (PAGES + 1) * page, NULL), DW_E_BUSY);
    assert_int_equal(dw_region_destroy(region), DW_E_BUSY);
    assert_int_equal(one.drops, 0);
    assert_int_equal(dw_region_return(region, window), DW_OK);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(one.drops, 1);
}

static void a_pin_outside_the_body_is_refused(void **state) {
    (void)state;
    uint64_t page = dw_os_page_bytes();
    dw_region *region = region_of(PAGES);
    dw_region_pin outside = {.offset = page, .size = PAGES * page, .drop = count_drop};
    dw_region_pin part = {.offset = 8, .size = page, .drop = count_drop};
    assert_int_equal(dw_region_pin_add(region, &outside, NULL), DW_E_RANGE);
    assert_int_equal(dw_region_pin_add(region, &part, NULL), DW_E_RANGE);
    assert_int_equal(dw_region_destroy(region), DW_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_drops_the_pins_that_it_touches_before_it_maps),
        cmocka_unit_test(growth_and_the_end_drop_all_pins),
        cmocka_unit_test(a_change_that_is_refused_drops_nothing),
        cmocka_unit_test(a_pin_outside_the_body_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

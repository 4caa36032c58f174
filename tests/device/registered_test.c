/* Host memory that a card's driver was told of, over a driver that counts (fake_card.h): what is registered, and that it is
 * not any more when the region maps something else there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "device/cuda.h"
#include "ggml-cpu.h"
#include "model/kv/fake_card.h"
#include "region/region.h"

enum { PAGES = 16 };

typedef struct held { dw_region_pin pin; ggml_backend_buffer_t buffer; } held;

static void let_go(dw_region_pin *pin) { dw_guard_free(((held *)(void *)pin)->buffer); }

static dw_status hold(dw_region *region, held *h) {
    uint64_t bytes = PAGES * dw_os_page_bytes();
    dw_status status = dw_cuda_wrap(0, ggml_backend_cpu_buffer_type(), dw_region_base(region), bytes, true, &h->buffer,
                                    NULL);
    h->pin = (dw_region_pin){.size = bytes, .drop = let_go};
    return status == DW_OK ? dw_region_pin_add(region, &h->pin, NULL) : status;
}

static void each_change_of_maps_unregisters_first(void **state) {
    (void)state;
    uint64_t page = dw_os_page_bytes();
    dw_region *region = NULL;
    dw_region_options options = {.reserve_bytes = 4 * PAGES * page};
    held h = {0}, second = {0};
    fake_card_insert(4096);
    assert_int_equal(dw_region_create(&options, &region, NULL), DW_OK);
    assert_int_equal(dw_region_grow(region, PAGES * page, NULL), DW_OK);
    assert_int_equal(hold(region, &h), DW_OK);
    assert_int_equal(fake_card_registered(), 1);
    assert_int_equal(hold(region, &second), DW_E_UNSUPPORTED); /* no page twice */
    dw_extent extent = {.offset = 3 * page, .size = page};
    assert_int_equal(dw_region_map(region, &extent, false, NULL), DW_OK);
    assert_int_equal(fake_card_registered(), 0);
    assert_int_equal(hold(region, &h), DW_OK);
    assert_int_equal(dw_region_grow(region, 2 * PAGES * page, NULL), DW_OK);
    assert_int_equal(fake_card_registered(), 0);
    assert_int_equal(hold(region, &h), DW_OK);
    assert_int_equal(dw_region_unmap(region, 5 * page, page, NULL), DW_OK);
    assert_int_equal(fake_card_registered(), 0);
    assert_int_equal(dw_region_map(region, &(dw_extent){.offset = 5 * page, .size = page}, false, NULL), DW_OK);
    assert_int_equal(hold(region, &h), DW_OK);
    assert_int_equal(dw_region_destroy(region), DW_OK);
    assert_int_equal(fake_card_registrations(), 4);
    assert_int_equal(fake_card_left(), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_change_of_maps_unregisters_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

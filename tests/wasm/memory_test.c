/* memory_test.c: I1. The guest's memory is the region: same address, same bytes, same pages; and what that means for growth,
 * windows and objects. */
#include "wasm/fixture.h"

#include "wasm/guest_memory.h"

static const char *const wat =
    "(module (memory 2 10) (data (i32.const 70000) \"from the image\")"
    " (func (export \"write\") (i32.store (i32.const 65536) (i32.const 0x11223344)))"
    " (func (export \"read\") (result i32) (i32.load (i32.const 65536)))"
    " (func (export \"last\") (i32.store8 (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 1)) (i32.const 7)))"
    " (func (export \"grow\") (result i32) (memory.grow (i32.const 1))))";

static int32_t run(dw_instance *instance, const char *name) {
    dw_call_result result;
    assert_ok(dw_instance_call(instance, name, UINT64_MAX, &result, err));
    return result.value;
}

static void the_guest_addresses_the_region_also_after_growth(void **state) {
    (void)state;
    dw_program *program = test_program(wat);
    dw_instance *instance = test_instance(program);
    uint8_t *base = dw_region_base(dw_instance_region(instance));
    run(instance, "write");
    assert_int_equal(base[65536], 0x44);
    assert_int_equal(run(instance, "grow"), 2);
    assert_ptr_equal(dw_region_base(dw_instance_region(instance)), base);
    assert_int_equal(dw_instance_memory_bytes(instance), 3 * DW_WASM_PAGE_BYTES);
    assert_int_equal(dw_region_size(dw_instance_region(instance)), 3 * DW_WASM_PAGE_BYTES);
    run(instance, "last");
    assert_int_equal(base[3 * DW_WASM_PAGE_BYTES - 1], 7);
    base[65536] = 0x55; /* and what the host writes is what the guest reads */
    assert_int_equal(run(instance, "read"), 0x11223355);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void a_guest_write_to_a_shared_extent_is_in_its_object(void **state) {
    (void)state;
    dw_program *program = test_program(wat);
    dw_backing *backing = NULL;
    uint32_t found = 0;
    assert_ok(dw_backing_create_memory("live", 2 * DW_WASM_PAGE_BYTES, &backing, err));
    const dw_extent extents[] = {{.size = DW_WASM_PAGE_BYTES},
                                 {.offset = DW_WASM_PAGE_BYTES, .size = DW_WASM_PAGE_BYTES, .backing = backing,
                                  .backing_offset = DW_WASM_PAGE_BYTES, .mode = DW_EXTENT_SHARED}};
    const dw_image image = {.memory = extents, .n_memory = 2, .memory_bytes = 2 * DW_WASM_PAGE_BYTES};
    dw_instance_options options = test_options();
    options.image = &image;
    dw_instance *instance = NULL;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    run(instance, "write");
    assert_ok(dw_os_read_at(dw_backing_file(backing), DW_WASM_PAGE_BYTES, &found, sizeof found, err));
    assert_int_equal(found, 0x11223344);
    dw_instance_destroy(instance);
    dw_backing_release(backing);
    dw_program_release(program);
}

static void an_image_that_grew_comes_back_with_its_size(void **state) {
    (void)state;
    dw_program *program = test_program(wat);
    const dw_image image = {.memory_bytes = 5 * DW_WASM_PAGE_BYTES};
    dw_instance_options options = test_options();
    options.image = &image;
    dw_instance *instance = NULL;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    run(instance, "last");
    assert_int_equal(run(instance, "grow"), 5);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void the_memory_does_not_grow_while_a_window_is_lent(void **state) {
    (void)state;
    dw_program *program = test_program(wat);
    dw_instance *instance = test_instance(program);
    dw_window window;
    assert_ok(dw_region_lend(dw_instance_region(instance), 0, dw_os_page_bytes(), &window, err));
    assert_int_equal(run(instance, "grow"), -1);
    assert_ok(dw_region_return(dw_instance_region(instance), window));
    assert_int_equal(run(instance, "grow"), 2);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void instances_share_image_0_and_do_not_see_each_other(void **state) {
    (void)state;
    dw_program *program = test_program(wat);
    dw_instance *a = test_instance(program), *b = test_instance(program);
    uint8_t *in_a = dw_region_base(dw_instance_region(a)), *in_b = dw_region_base(dw_instance_region(b));
    assert_memory_equal(in_a + 70000, "from the image", 14);
    memcpy(in_a + 70000, "overwritten by", 14);
    assert_memory_equal(in_b + 70000, "from the image", 14);
    dw_instance *c = test_instance(program);
    assert_memory_equal((uint8_t *)dw_region_base(dw_instance_region(c)) + 70000, "from the image", 14);
    dw_instance_destroy(a);
    dw_instance_destroy(b);
    dw_instance_destroy(c);
    dw_program_release(program);
}

/* Image 0 as the standard would have it: later segments win, all else is zero, wherever they lie. */
static void scattered_segments_make_the_image_they_should(void **state) {
    (void)state;
    enum { PAGES = 40 };
    static char text[PAGES * 80 + 200];
    static uint8_t expected[PAGES * 65536];
    size_t n = (size_t)snprintf(text, sizeof text, "(module (memory %d)", PAGES);
    for (uint32_t i = 0; i < PAGES; i++) {
        uint32_t at = (i * 7 % PAGES) * 65536 + i * 31; /* out of order; every page of 64 KiB, so more runs than we map */
        n += (size_t)snprintf(text + n, sizeof text - n, "(data (i32.const %u) \"segment %02u\")", (unsigned)at, (unsigned)i);
        char bytes[16];
        snprintf(bytes, sizeof bytes, "segment %02u", (unsigned)i);
        memcpy(expected + at, bytes, 10);
    }
    n += (size_t)snprintf(text + n, sizeof text - n, "(data (i32.const 65533) \"across\") (data (i32.const 65535) \"XX\"))");
    memcpy(expected + 65533, "acXXss", 6);
    dw_program *program = test_program(text);
    dw_instance *instance = test_instance(program);
    assert_memory_equal(dw_region_base(dw_instance_region(instance)), expected, sizeof expected);
    size_t n_extents;
    (void)dw_region_extents(dw_instance_region(instance), &n_extents);
    assert_in_range(n_extents, 1, 17);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void guest_pointers_are_checked_at_both_ends(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 1))");
    dw_instance *instance = test_instance(program);
    const dw_guest_memory *memory = dw_instance_memory(instance);
    void *view;
    uint32_t end = 65536;
    assert_ok(dw_guest_view(memory, 0, end, 1, &view));
    assert_ptr_equal(view, dw_region_base(dw_instance_region(instance)));
    assert_ok(dw_guest_view(memory, end, 0, 1, &view));
    assert_int_equal(dw_guest_view(memory, end, 1, 1, &view), DW_E_RANGE);
    assert_null(view);
    assert_int_equal(dw_guest_view(memory, 1, end, 1, &view), DW_E_RANGE);
    assert_int_equal(dw_guest_view(memory, UINT32_MAX, 0, 1, &view), DW_E_RANGE);
    assert_int_equal(dw_guest_view(memory, UINT32_MAX, UINT64_MAX, 1, &view), DW_E_RANGE);
    assert_int_equal(dw_guest_view(memory, 8, UINT64_MAX - 7, 1, &view), DW_E_RANGE);
    assert_ok(dw_guest_view(memory, 4096, 8, 4096, &view));
    assert_int_equal(dw_guest_view(memory, 4100, 8, 8, &view), DW_E_INVALID);
    assert_int_equal(dw_guest_view(memory, 8, 8, 0, &view), DW_E_INVALID);
    assert_int_equal(dw_guest_view(memory, 8, 8, 3, &view), DW_E_INVALID);
    uint8_t bytes[4] = {1, 2, 3, 4};
    assert_ok(dw_guest_write(memory, end - 4, bytes, 4));
    assert_int_equal(dw_guest_write(memory, end - 3, bytes, 4), DW_E_RANGE);
    assert_int_equal(dw_guest_read(memory, end - 3, bytes, 4), DW_E_RANGE);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guest_addresses_the_region_also_after_growth),
        cmocka_unit_test(a_guest_write_to_a_shared_extent_is_in_its_object),
        cmocka_unit_test(an_image_that_grew_comes_back_with_its_size),
        cmocka_unit_test(the_memory_does_not_grow_while_a_window_is_lent),
        cmocka_unit_test(instances_share_image_0_and_do_not_see_each_other),
        cmocka_unit_test(scattered_segments_make_the_image_they_should),
        cmocka_unit_test(guest_pointers_are_checked_at_both_ends),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

/* restore_test.c: I3 and I4 for whole programs. Per guest, three runs side by side, compared after every message:
 *   original   the source module in Wasmtime alone
 *   rewritten  the prepared program, uninterrupted
 *   restored   the prepared program, thrown away and made anew from its image at every message boundary */
#include "wasm/fixture.h"
#include "wasm/reference.h"

enum { STEPS = 24, GLOBALS_MAX = 16 };

/* What would go into a checkpoint, with the memory in an object of its own. */
typedef struct saved { dw_extent extent; dw_value globals[GLOBALS_MAX]; dw_image image; } saved;

static void save(dw_instance *instance, saved *out) {
    uint64_t bytes = dw_instance_memory_bytes(instance);
    uint32_t n_globals = dw_program_info_view(dw_instance_program(instance))->n_globals;
    assert_in_range(n_globals, 1, GLOBALS_MAX);
    *out = (saved){.extent = {.size = bytes, .mode = DW_EXTENT_PRIVATE}};
    assert_ok(dw_backing_create_memory("saved", bytes, &out->extent.backing, err));
    assert_ok(dw_os_write_at(dw_backing_file(out->extent.backing), 0, dw_region_base(dw_instance_region(instance)), (size_t)bytes, err));
    assert_ok(dw_instance_globals(instance, out->globals, n_globals, err));
    out->image = (dw_image){.memory = &out->extent, .n_memory = 1, .memory_bytes = bytes, .globals = out->globals, .n_globals = n_globals,
                            .wasi = *dw_instance_wasi(instance)};
}

static dw_instance *restore(dw_program *program, const saved *from) {
    dw_instance *instance = NULL;
    dw_instance_options options = test_options();
    options.image = &from->image;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    return instance;
}

/* Drops the instance and makes another of what it was. */
static dw_instance *through_an_image(dw_instance *instance) {
    saved s;
    dw_program *program = dw_program_retain(dw_instance_program(instance));
    save(instance, &s);
    dw_instance_destroy(instance);
    instance = restore(program, &s);
    dw_backing_release(s.extent.backing);
    dw_program_release(program);
    return instance;
}

static int32_t receive(dw_instance *instance, uint64_t realtime_ns) {
    dw_call_result result;
    dw_wasi_begin_turn(dw_instance_wasi(instance), realtime_ns);
    assert_ok(dw_instance_receive(instance, UINT64_MAX, &result, err));
    return result.value;
}

static dw_instance *begin(dw_program *program) {
    dw_call_result result;
    dw_instance *instance = test_instance(program);
    assert_ok(dw_instance_initialize(instance, UINT64_MAX, &result, err));
    return instance;
}

static void assert_same_hash(dw_hash a, dw_hash b, const char *who, int step) {
    if (!dw_hash_equal(&a, &b)) fail_msg("memory of the %s run differs after step %d", who, step);
}

static void run_guest(const char *name) {
    test_bytes wasm = test_guest(name);
    dw_program *program = NULL;
    assert_non_null(wasm.data);
    assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
    reference *original = reference_create(wasm.data, wasm.size);
    dw_instance *rewritten = begin(program), *restored = begin(program);
    assert_same_hash(reference_memory_hash(original), test_memory_hash(rewritten), "rewritten", 0);
    for (int step = 1; step <= STEPS; step++) {
        uint64_t now = UINT64_C(1700000000000000000) + (uint64_t)step * 1000003;
        restored = through_an_image(restored);
        reference_begin_turn(original, now);
        int32_t expected = reference_receive(original);
        assert_int_equal(receive(rewritten, now), expected);
        assert_int_equal(receive(restored, now), expected);
        dw_hash memory = reference_memory_hash(original);
        assert_same_hash(test_memory_hash(rewritten), memory, "rewritten", step);
        assert_same_hash(test_memory_hash(restored), memory, "restored", step);
    }
    dw_instance_destroy(rewritten);
    dw_instance_destroy(restored);
    reference_destroy(original);
    dw_program_release(program);
    free(wasm.data);
}

static void c_with_libc_is_restored_at_every_message(void **state) { (void)state; run_guest("wasm_ledger"); }
static void cpp_with_virtual_functions_is_restored_at_every_message(void **state) { (void)state; run_guest("wasm_shapes"); }
static void go_with_a_goroutine_is_restored_at_every_message(void **state) {
    (void)state;
    test_bytes wasm = test_guest("wasm_gopher");
    if (!wasm.data) {
        print_message("skipped: wasm_gopher.wasm was not built, Go 1.24 or newer is missing\n");
        skip();
    }
    free(wasm.data);
    run_guest("wasm_gopher");
}
static void globals_segments_start_and_simd_are_restored_at_every_message(void **state) { (void)state; run_guest("wasm_globals"); }

static void globals_of_an_image_come_back_bit_for_bit(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 1) (global (mut f32) (f32.const 0)) (global (mut f64) (f64.const 0))"
                                       " (global (mut i64) (i64.const 5)) (global (mut v128) (v128.const i64x2 0 0)))");
    /* Signalling NaNs with payloads: what a conversion through a register of the processor would change. */
    const dw_value globals[4] = {{DW_VALUE_F32, {1, 2, 0xA0, 0x7F}}, {DW_VALUE_F64, {1, 2, 3, 4, 5, 6, 0xF4, 0xFF}},
                                 {DW_VALUE_I64, {9, 8, 7, 6, 5, 4, 3, 2}},
                                 {DW_VALUE_V128, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}};
    dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES, .globals = globals, .n_globals = 4};
    dw_instance_options options = test_options();
    options.image = &image;
    dw_instance *instance = NULL;
    dw_value found[4];
    assert_ok(dw_instance_create(program, &options, &instance, err));
    assert_ok(dw_instance_globals(instance, found, 4, err));
    assert_memory_equal(found, globals, sizeof globals);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void expect_image_refused(dw_program *program, const dw_image *image, dw_status expected) {
    dw_instance *instance = NULL;
    dw_error err = {0};
    dw_instance_options options = test_options();
    options.image = image;
    assert_int_equal(dw_instance_create(program, &options, &instance, &err), expected);
    assert_null(instance);
    assert_true(strlen(err.text) > 10);
}

static void an_image_that_does_not_fit_is_refused(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 2 4) (global (mut i32) (i32.const 0)))");
    const dw_value global = {.type = DW_VALUE_I32}, wrong = {.type = DW_VALUE_I64};
    dw_backing *backing = NULL;
    assert_ok(dw_backing_create_memory("image", DW_WASM_PAGE_BYTES, &backing, err));
    const dw_extent short_backing = {.size = 2 * DW_WASM_PAGE_BYTES, .backing = backing};
    const dw_extent gap = {.offset = DW_WASM_PAGE_BYTES, .size = DW_WASM_PAGE_BYTES};
    const dw_extent odd = {.size = 100}, too_long = {.size = 3 * DW_WASM_PAGE_BYTES};
    const dw_extent read_only = {.size = DW_WASM_PAGE_BYTES, .backing = backing, .mode = DW_EXTENT_READ_ONLY};
    const dw_image good = {.memory_bytes = 2 * DW_WASM_PAGE_BYTES, .globals = &global, .n_globals = 1};
    dw_image bad = good;
    bad.n_globals = 0;
    expect_image_refused(program, &bad, DW_E_MISMATCH);
    bad = good, bad.globals = &wrong;
    expect_image_refused(program, &bad, DW_E_MISMATCH);
    bad = good, bad.memory_bytes = DW_WASM_PAGE_BYTES;
    expect_image_refused(program, &bad, DW_E_MISMATCH);
    bad = good, bad.memory_bytes = 5 * DW_WASM_PAGE_BYTES;
    expect_image_refused(program, &bad, DW_E_MISMATCH);
    bad = good, bad.memory_bytes += 4096;
    expect_image_refused(program, &bad, DW_E_MISMATCH);
    bad = good, bad.n_memory = 1;
    bad.memory = &short_backing;
    expect_image_refused(program, &bad, DW_E_RANGE);
    bad.memory = &gap;
    expect_image_refused(program, &bad, DW_E_INVALID);
    bad.memory = &odd;
    expect_image_refused(program, &bad, DW_E_INVALID);
    bad.memory = &too_long;
    expect_image_refused(program, &bad, DW_E_RANGE);
    bad.memory = &read_only;
    expect_image_refused(program, &bad, DW_E_INVALID);
    dw_backing_release(backing);
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c_with_libc_is_restored_at_every_message),
        cmocka_unit_test(cpp_with_virtual_functions_is_restored_at_every_message),
        cmocka_unit_test(go_with_a_goroutine_is_restored_at_every_message),
        cmocka_unit_test(globals_segments_start_and_simd_are_restored_at_every_message),
        cmocka_unit_test(globals_of_an_image_come_back_bit_for_bit),
        cmocka_unit_test(an_image_that_does_not_fit_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

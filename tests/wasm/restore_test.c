/* restore_test.c: I3 and I4 for whole programs. Per guest, three runs side by side, compared after every message:
 *   original   the source module in Wasmtime alone
 *   rewritten  the prepared program, uninterrupted
 *   restored   the prepared program, thrown away and made anew from its image at every message boundary */
#include "wasm/fixture.h"
#include "wasm/reference.h"

enum { STEPS = 24, GLOBALS_MAX = 16 };

/* What would go into a checkpoint, with the memory in an object of its own. */
typedef struct saved { dw_extent extent; dw_value globals[GLOBALS_MAX]; dw_table_view *tables; dw_image image; } saved;

static void save(dw_instance *instance, saved *out) {
    uint64_t bytes = dw_instance_memory_bytes(instance);
    uint32_t n_globals = dw_program_info_view(dw_instance_program(instance))->n_globals;
    assert_in_range(n_globals, 1, GLOBALS_MAX);
    *out = (saved){.extent = {.size = bytes, .mode = DW_EXTENT_PRIVATE}};
    assert_ok(dw_backing_create_memory("saved", bytes, &out->extent.backing, err));
    assert_ok(dw_os_write_at(dw_backing_file(out->extent.backing), 0, dw_region_base(dw_instance_region(instance)), (size_t)bytes, err));
    assert_ok(dw_instance_globals(instance, out->globals, n_globals, err));
    size_t n_tables = 0;
    assert_ok(dw_instance_tables(instance, &out->tables, &n_tables, err));
    out->image = (dw_image){.memory = &out->extent, .n_memory = 1, .memory_bytes = bytes, .globals = out->globals, .n_globals = n_globals,
                            .tables = out->tables, .n_tables = n_tables, .wasi = *dw_instance_wasi(instance)};
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
    free(s.tables);
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
/* A guest that is built only where something beside our own needs is installed. */
static void run_optional_guest(const char *name, const char *missing) {
    test_bytes wasm = test_guest(name);
    if (!wasm.data) {
        print_message("skipped: %s.wasm was not built, %s\n", name, missing);
        skip();
    }
    free(wasm.data);
    run_guest(name);
}

static void go_with_a_goroutine_is_restored_at_every_message(void **state) {
    (void)state;
    run_optional_guest("wasm_gopher", "Go 1.24 or newer is missing");
}
static void cpp_with_exceptions_is_restored_at_every_message(void **state) {
    (void)state;
    run_optional_guest("wasm_thrower", "Zig 0.15 is missing");
}
static void globals_segments_start_and_simd_are_restored_at_every_message(void **state) { (void)state; run_guest("wasm_globals"); }

static void tables_that_the_code_changes_are_restored_at_every_message(void **state) { (void)state; run_guest("wasm_tables"); }
static void exceptions_in_every_form_are_restored_at_every_message(void **state) {
    (void)state;
    run_optional_guest("wasm_exceptions", "DW_PYTHON is not set");
}
static void segments_that_the_code_drops_are_restored_at_every_message(void **state) {
    (void)state;
    run_guest("wasm_segments");
}

/* Functions 0 to 3; the first is imported, and the last is in no table. */
#define TWO_TABLES                                                                                                             \
    "(module (import \"wasi_snapshot_preview1\" \"sched_yield\" (func $yield (result i32))) (memory 1)"                      \
    " (table $a 2 4 funcref) (table $fixed 1 funcref) (table $b 1 funcref) (elem (table $a) (i32.const 0) func $yield $one)"   \
    " (elem declare func $two) (func $one (result i32) (i32.const 1)) (func $two (result i32) (i32.const 2)) (func $three)"    \
    " (func (export \"change\") (table.set $a (i32.const 0) (ref.func $two)) (table.set $b (i32.const 0) (ref.func $yield))"   \
    "  (drop (table.grow $b (ref.func $one) (i32.const 2))) (table.set $b (i32.const 1) (ref.null func)))"                     \
    " (func (export \"of_a\") (result i32) (call_indirect $a (result i32) (i32.const 0)))"                                     \
    " (func (export \"size_of_b\") (result i32) (table.size $b)))"

static int32_t call_export(dw_instance *instance, const char *name) {
    dw_call_result result;
    assert_ok(dw_instance_call(instance, name, UINT64_MAX, &result, err));
    return result.value;
}

static void assert_table(const dw_table_view *table, const int32_t *expected, uint32_t n) {
    assert_int_equal(table->n_elements, n);
    assert_memory_equal(table->elements, expected, n * sizeof *expected);
}

static void tables_are_read_as_indices_of_functions(void **state) {
    (void)state;
    dw_program *program = test_program(TWO_TABLES);
    dw_instance *instance = test_instance(program);
    dw_table_view *tables = NULL, *copy = NULL;
    size_t n = 0;
    assert_int_equal(dw_program_info_view(program)->n_tables, 2);
    assert_ok(dw_instance_tables(instance, &tables, &n, err));
    assert_int_equal(n, 2);
    assert_table(&tables[0], (const int32_t[]){0, 1}, 2);
    assert_table(&tables[1], (const int32_t[]){-1}, 1);
    free(tables);
    (void)call_export(instance, "change");
    assert_ok(dw_instance_tables(instance, &tables, &n, err));
    assert_table(&tables[0], (const int32_t[]){2, 1}, 2);
    assert_table(&tables[1], (const int32_t[]){0, -1, 1}, 3);
    assert_int_equal(dw_tables_copy(tables, n, &copy), DW_OK);
    free(tables);
    assert_table(&copy[0], (const int32_t[]){2, 1}, 2);
    assert_table(&copy[1], (const int32_t[]){0, -1, 1}, 3);
    free(copy);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void tables_of_an_image_replace_those_of_the_element_segments(void **state) {
    (void)state;
    dw_program *program = test_program(TWO_TABLES);
    const int32_t a[] = {2, -1, 0, 1}, b[] = {-1, 2};
    const dw_table_view tables[] = {{a, 4}, {b, 2}};
    const dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES, .tables = tables, .n_tables = 2};
    dw_instance_options options = test_options();
    options.image = &image;
    dw_instance *instance = NULL;
    dw_table_view *found = NULL;
    size_t n = 0;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    assert_ok(dw_instance_tables(instance, &found, &n, err));
    assert_table(&found[0], a, 4);
    assert_table(&found[1], b, 2);
    assert_int_equal(call_export(instance, "of_a"), 2);
    assert_int_equal(call_export(instance, "size_of_b"), 2);
    free(found);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void a_table_does_not_grow_beyond_its_limit(void **state) {
    (void)state;
    dw_program *program = test_program("(module (memory 1) (table 1 funcref) (func (export \"to_the_end\") (result i32)"
                                       " (table.grow 0 (ref.null func) (i32.const 999999)))"
                                       " (func (export \"one_more\") (result i32) (table.grow 0 (ref.null func) (i32.const 1))))");
    dw_instance *instance = test_instance(program);
    dw_table_view *tables = NULL;
    size_t n = 0;
    assert_int_equal(call_export(instance, "to_the_end"), 1);
    assert_int_equal(call_export(instance, "one_more"), -1);
    assert_ok(dw_instance_tables(instance, &tables, &n, err));
    assert_int_equal(tables[0].n_elements, DW_PROGRAM_TABLE_ELEMENTS_MAX);
    const dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES, .tables = tables, .n_tables = n};
    dw_instance_options options = test_options();
    options.image = &image;
    dw_instance_destroy(instance);
    assert_ok(dw_instance_create(program, &options, &instance, err)); /* and it can be restored with as many */
    assert_int_equal(call_export(instance, "one_more"), -1);
    dw_instance_destroy(instance);
    free(tables);
    dw_program_release(program);
}

/* Reading them runs code, which looks at the clock as the guest's does. */
static void an_interruption_waits_for_the_next_call_when_tables_are_read(void **state) {
    (void)state;
    dw_program *program = test_program(TWO_TABLES), *endless = test_program("(module (memory 1) (func (export \"run\") (loop (br 0))))");
    dw_instance *instance = test_instance(program), *busy = test_instance(endless);
    dw_table_view *tables = NULL;
    dw_call_result result;
    size_t n = 0;
    (void)call_export(instance, "change");
    dw_instance_interrupt(instance);
    /* the clock moves on, beyond what the first instance was given */
    uint64_t deadline = dw_os_monotonic_ns() + UINT64_C(20000000);
    assert_int_equal(dw_instance_call(busy, "run", deadline, &result, NULL), DW_E_DEADLINE);
    assert_ok(dw_instance_tables(instance, &tables, &n, err));
    assert_table(&tables[0], (const int32_t[]){2, 1}, 2);
    assert_int_equal(dw_instance_call(instance, "size_of_b", UINT64_MAX, &result, NULL), DW_E_CANCELLED);
    assert_int_equal(call_export(instance, "size_of_b"), 3);
    free(tables);
    dw_instance_destroy(busy);
    dw_instance_destroy(instance);
    dw_program_release(endless);
    dw_program_release(program);
}

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

/* An image comes from a file that anybody may have written. */
static void an_image_with_tables_that_the_program_cannot_have_made_is_refused(void **state) {
    (void)state;
    dw_program *program = test_program(TWO_TABLES);
    static const int32_t good_a[] = {0, 1, 2, -1, 0}, good_b[] = {-1}, in_no_table[] = {0, 3}, not_there[] = {0, 100}, negative[] = {0, -2},
                         lowest[] = {0, INT32_MIN}, highest[] = {0, INT32_MAX};
    static const struct { dw_table_view tables[3]; size_t n; } bad[] = {
        {{{good_a, 2}}, 1},
        {{{good_a, 2}, {good_b, 1}, {good_b, 1}}, 3},
        {{{good_a, 1}, {good_b, 1}}, 2},                                 /* below the smallest size */
        {{{good_a, 5}, {good_b, 1}}, 2},                                 /* above the largest */
        {{{good_a, 2}, {good_b, 0}}, 2},
        {{{in_no_table, 2}, {good_b, 1}}, 2},
        {{{not_there, 2}, {good_b, 1}}, 2},
        {{{negative, 2}, {good_b, 1}}, 2},
        {{{lowest, 2}, {good_b, 1}}, 2},
        {{{highest, 2}, {good_b, 1}}, 2},
    };
    dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES};
    expect_image_refused(program, &image, DW_E_CORRUPT);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        image.tables = bad[i].tables;
        image.n_tables = bad[i].n;
        expect_image_refused(program, &image, DW_E_CORRUPT);
    }
    int32_t *many = calloc(DW_PROGRAM_TABLE_ELEMENTS_MAX + 1, sizeof *many);
    assert_non_null(many);
    const dw_table_view too_many[] = {{good_a, 2}, {many, DW_PROGRAM_TABLE_ELEMENTS_MAX + 1}}; /* a table without a maximum of its own */
    image.tables = too_many;
    image.n_tables = 2;
    expect_image_refused(program, &image, DW_E_CORRUPT);
    free(many);
    dw_program_release(program);
    program = test_program("(module (memory 1) (table 1 funcref))");
    const dw_table_view one[] = {{good_b, 1}};
    image.tables = one;
    image.n_tables = 1;
    expect_image_refused(program, &image, DW_E_CORRUPT);
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c_with_libc_is_restored_at_every_message),
        cmocka_unit_test(cpp_with_virtual_functions_is_restored_at_every_message),
        cmocka_unit_test(go_with_a_goroutine_is_restored_at_every_message),
        cmocka_unit_test(cpp_with_exceptions_is_restored_at_every_message),
        cmocka_unit_test(globals_segments_start_and_simd_are_restored_at_every_message),
        cmocka_unit_test(tables_that_the_code_changes_are_restored_at_every_message),
        cmocka_unit_test(segments_that_the_code_drops_are_restored_at_every_message),
        cmocka_unit_test(exceptions_in_every_form_are_restored_at_every_message),
        cmocka_unit_test(tables_are_read_as_indices_of_functions),
        cmocka_unit_test(tables_of_an_image_replace_those_of_the_element_segments),
        cmocka_unit_test(an_interruption_waits_for_the_next_call_when_tables_are_read),
        cmocka_unit_test(a_table_does_not_grow_beyond_its_limit),
        cmocka_unit_test(an_image_with_tables_that_the_program_cannot_have_made_is_refused),
        cmocka_unit_test(globals_of_an_image_come_back_bit_for_bit),
        cmocka_unit_test(an_image_that_does_not_fit_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

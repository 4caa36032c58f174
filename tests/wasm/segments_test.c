/* segments_test.c: which segments the code has dropped is part of an image (segments.h), and comes back as it was. */
#include "wasm/fixture.h"

#define SEGMENTS "(module (memory 1) (table $t 2 funcref) (func $f)" \
    " (global (mut i64) (i64.const 7))" \
    " (data $applied (i32.const 0) \"active\") (data $a \"abc\") (data $kept \"kept\") (data $empty \"\") (data $b \"x\")" \
    " (elem $e funcref (ref.func $f) (ref.null func)) (elem $declared declare func $f) (elem $g func $f)" \
    " (func (export \"drop0\") (data.drop $a))" \
    " (func (export \"drop1\") (data.drop $b))" \
    " (func (export \"drop2\") (elem.drop $e))" \
    " (func (export \"drop3\") (elem.drop $g))" \
    " (func (export \"use0\") (memory.init $a (i32.const 9) (i32.const 2) (i32.const 1)))" \
    " (func (export \"use1\") (memory.init $b (i32.const 9) (i32.const 0) (i32.const 1)))" \
    " (func (export \"use2\") (table.init $e (i32.const 0) (i32.const 0) (i32.const 2)))" \
    " (func (export \"use3\") (table.init $g (i32.const 0) (i32.const 0) (i32.const 1)))" \
    " (func (export \"others\") (data.drop $applied) (data.drop $empty) (elem.drop $declared)" \
    " (memory.init $kept (i32.const 9) (i32.const 0) (i32.const 4))))"

enum { N_SEGMENTS = 4, N_VALUES = 1 + N_SEGMENTS };

static dw_status call(dw_instance *instance, const char *what, unsigned i) {
    char name[16];
    dw_call_result result;
    snprintf(name, sizeof name, "%s%u", what, i);
    return dw_instance_call(instance, name, UINT64_MAX, &result, NULL);
}

/* What the instance says of itself, as an image without memory that was written. */
static dw_image read_image(dw_instance *instance, dw_value values[N_VALUES], dw_table_view **tables) {
    dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES, .globals = values, .n_globals = N_VALUES};
    image.wasi = *dw_instance_wasi(instance);
    assert_ok(dw_instance_globals(instance, values, N_VALUES, err));
    assert_ok(dw_instance_tables(instance, tables, &image.n_tables, err));
    image.tables = *tables;
    return image;
}

static dw_instance *restore(dw_program *program, const dw_image *image) {
    dw_instance *instance = NULL;
    dw_instance_options options = test_options();
    options.image = image;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    return instance;
}

static void expect_values(const dw_value values[N_VALUES], unsigned dropped) {
    assert_int_equal(values[0].type, DW_VALUE_I64);
    for (unsigned i = 0; i < N_SEGMENTS; i++) {
        const dw_value expected = {.type = DW_VALUE_I32, .bits = {(dropped >> i) & 1u}};
        assert_memory_equal(&values[1 + i], &expected, sizeof expected);
    }
}

/* All sixteen states, each through two images: of segments that were dropped, and of those that came back so. */
static void what_is_dropped_comes_back_and_nothing_else(void **state) {
    (void)state;
    dw_program *program = test_program(SEGMENTS);
    assert_int_equal(dw_program_info_view(program)->n_globals, N_VALUES);
    assert_int_equal(dw_program_info_view(program)->n_drops, N_SEGMENTS);
    for (unsigned dropped = 0; dropped < 1u << N_SEGMENTS; dropped++) {
        dw_value values[N_VALUES], again[N_VALUES];
        dw_table_view *tables = NULL, *unused = NULL;
        dw_instance *instance = test_instance(program);
        for (unsigned i = 0; i < N_SEGMENTS; i++)
            if ((dropped >> i) & 1u) assert_int_equal(call(instance, "drop", i), DW_OK);
        dw_image image = read_image(instance, values, &tables);
        expect_values(values, dropped);
        dw_instance_destroy(instance);
        for (unsigned i = 0; i < N_SEGMENTS; i++) {
            instance = restore(program, &image);
            (void)read_image(instance, again, &unused);
            free(unused);
            expect_values(again, dropped);
            assert_int_equal(call(instance, "use", i), (dropped >> i) & 1u ? DW_E_TRAP : DW_OK);
            dw_instance_destroy(instance);
        }
        free(tables);
    }
    dw_program_release(program);
}

/* What can be seen of them does not change: they are not part of an image. */
static void segments_that_are_empty_or_applied_or_declared_or_kept_are_no_state(void **state) {
    (void)state;
    dw_program *program = test_program(SEGMENTS);
    dw_instance *instance = test_instance(program);
    dw_value values[N_VALUES];
    dw_table_view *tables = NULL;
    assert_int_equal(call(instance, "drop", 1), DW_OK);
    dw_call_result result;
    assert_ok(dw_instance_call(instance, "others", UINT64_MAX, &result, err));
    dw_image image = read_image(instance, values, &tables);
    expect_values(values, 2);
    dw_instance *restored = restore(program, &image);
    assert_ok(dw_instance_call(restored, "others", UINT64_MAX, &result, err));
    free(tables);
    dw_instance_destroy(restored);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

/* To look whether a segment is dropped is to call into the instance; it must not change what it looks at. */
static void looking_changes_nothing_even_after_a_call_that_trapped(void **state) {
    (void)state;
    dw_program *program = test_program(SEGMENTS);
    dw_instance *instance = test_instance(program);
    dw_value values[N_VALUES];
    dw_hash before = test_memory_hash(instance);
    for (int i = 0; i < 3; i++) {
        assert_ok(dw_instance_globals(instance, values, N_VALUES, err));
        expect_values(values, 0);
    }
    dw_hash after = test_memory_hash(instance);
    assert_true(dw_hash_equal(&before, &after));
    assert_int_equal(call(instance, "drop", 0), DW_OK);
    assert_int_equal(call(instance, "use", 0), DW_E_TRAP);
    assert_ok(dw_instance_globals(instance, values, N_VALUES, err));
    expect_values(values, 1);
    assert_int_equal(call(instance, "use", 1), DW_E_STATE); /* still spoiled */
    dw_instance_destroy(instance);
    dw_program_release(program);
}

/* An image comes from a file that anybody may have written. */
static void an_image_with_a_segment_in_no_state_is_refused(void **state) {
    (void)state;
    static const dw_value bad[] = {{DW_VALUE_I32, {2}}, {DW_VALUE_I32, {0, 1}}, {DW_VALUE_I32, {1, 0, 0, 0x80}}};
    dw_program *program = test_program("(module (memory 1) (data $a \"a\") (func (export \"f\") (data.drop $a)))");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dw_image image = {.memory_bytes = DW_WASM_PAGE_BYTES, .globals = &bad[i], .n_globals = 1};
        dw_instance_options options = test_options();
        dw_instance *instance = NULL;
        dw_error err = {0};
        options.image = &image;
        assert_int_equal(dw_instance_create(program, &options, &instance, &err), DW_E_CORRUPT);
        assert_non_null(strstr(err.text, "segment 0"));
        assert_null(instance);
    }
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_dropped_comes_back_and_nothing_else),
        cmocka_unit_test(segments_that_are_empty_or_applied_or_declared_or_kept_are_no_state),
        cmocka_unit_test(looking_changes_nothing_even_after_a_call_that_trapped),
        cmocka_unit_test(an_image_with_a_segment_in_no_state_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

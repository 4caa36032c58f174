/* gguf_test.c: the GGUF reader: what it reads. What it refuses is in gguf_bugs_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf/gguf_kit.h"
#include "os/os.h"

/* --- reading ---------------------------------------------------------------------------------------------------- */

static void every_type_of_value_is_read(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    dw_gguf *gguf = gguf_open_good(&w);
    static const dw_gguf_type whole[] = {DW_GGUF_U8, DW_GGUF_I8, DW_GGUF_U16, DW_GGUF_I16, DW_GGUF_U32, DW_GGUF_I32, DW_GGUF_U64, DW_GGUF_I64};
    char one[32], many[32];
    bool found = false, truth = false;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        uint64_t value = 0;
        double number = 0;
        (void)snprintf(one, sizeof one, "one.%u", (unsigned)whole[i]);
        (void)snprintf(many, sizeof many, "many.%u", (unsigned)whole[i]);
        assert_int_equal(dw_gguf_u64(gguf, one, &value, &found, NULL), DW_OK);
        assert_true(found && value == 1);
        assert_int_equal(dw_gguf_f64(gguf, one, &number, &found, NULL), DW_OK);
        assert_true(found && number == 1.0);
        assert_int_equal(dw_gguf_array_u64(gguf, many, 2, &value, NULL), DW_OK);
        assert_int_equal(value, 3);
    }
    double number = 0;
    assert_int_equal(dw_gguf_array_f64(gguf, "many.6", 2, &number, NULL), DW_OK);
    assert_true(number == 3.0);
    assert_int_equal(dw_gguf_array_f64(gguf, "many.12", 1, &number, NULL), DW_OK);
    assert_true(number == 2.0);
    assert_int_equal(dw_gguf_bool(gguf, "one.7", &truth, &found, NULL), DW_OK);
    assert_true(found && truth);
    dw_gguf_string text;
    dw_gguf_strings strings;
    assert_int_equal(dw_gguf_get_string(gguf, "one.8", &text, &found, NULL), DW_OK);
    assert_true(found && text.size == 1 && text.data[0] == 'a');
    assert_int_equal(dw_gguf_array_strings(gguf, "many.8", &strings, &found, NULL), DW_OK);
    assert_true(dw_gguf_next_string(&strings, &text) && dw_gguf_next_string(&strings, &text) && dw_gguf_next_string(&strings, &text));
    assert_true(text.size == 3 && memcmp(text.data, "ccc", 3) == 0);
    assert_false(dw_gguf_next_string(&strings, &text));
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

static void tensors_are_where_the_file_says(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    dw_gguf *gguf = gguf_open_good(&w);
    assert_int_equal(dw_gguf_n_tensors(gguf), 3);
    const dw_gguf_part part = dw_gguf_part_at(gguf, 0);
    assert_int_equal(part.bytes, w.size);
    static const struct { const char *name; uint64_t shape[4], bytes; } expected[] = {
        {"one", {5, 1, 1, 1}, 20}, {"two", {32, 3, 1, 1}, 54}, {"four", {2, 3, 1, 2}, 24}};
    for (size_t i = 0; i < 3; i++) {
        const dw_gguf_tensor *tensor = dw_gguf_find_tensor(gguf, expected[i].name);
        assert_non_null(tensor);
        assert_ptr_equal(tensor, dw_gguf_tensor_at(gguf, i));
        assert_memory_equal(tensor->shape, expected[i].shape, sizeof tensor->shape);
        assert_int_equal(tensor->bytes, expected[i].bytes);
        assert_int_equal(tensor->offset % 64, 0);
        for (uint64_t b = 0; b < tensor->bytes; b++) assert_int_equal(((const uint8_t *)part.data)[tensor->offset + b], b + 1);
    }
    assert_null(dw_gguf_find_tensor(gguf, "three"));
    assert_null(dw_gguf_tensor_at(gguf, 3));
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

static void a_value_of_another_kind_is_refused(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    dw_gguf *gguf = gguf_open_good(&w);
    uint64_t value, count;
    double number;
    bool truth, found;
    dw_gguf_string text;
    dw_gguf_strings strings;
    dw_gguf_type type;
    assert_int_equal(dw_gguf_u64(gguf, "one.8", &value, &found, NULL), DW_E_FORMAT);  /* string */
    assert_int_equal(dw_gguf_u64(gguf, "one.7", &value, &found, NULL), DW_E_FORMAT);  /* truth value */
    assert_int_equal(dw_gguf_u64(gguf, "one.6", &value, &found, NULL), DW_E_FORMAT);  /* float */
    assert_int_equal(dw_gguf_u64(gguf, "many.4", &value, &found, NULL), DW_E_FORMAT); /* array */
    assert_int_equal(dw_gguf_f64(gguf, "one.8", &number, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_bool(gguf, "one.4", &truth, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_get_string(gguf, "one.4", &text, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_array(gguf, "one.4", &type, &count, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_array_strings(gguf, "many.4", &strings, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_array_u64(gguf, "many.8", 0, &value, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_array_f64(gguf, "many.7", 0, &number, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_array_u64(gguf, "many.4", 3, &value, NULL), DW_E_RANGE);
    assert_int_equal(dw_gguf_array_u64(gguf, "absent", 0, &value, NULL), DW_E_NOT_FOUND);
    assert_int_equal(dw_gguf_u64(gguf, "absent", &value, &found, NULL), DW_OK);
    assert_false(found);
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

static void negative_and_infinite_numbers_are_not_counts(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 3);
    make_key(&w, "minus", DW_GGUF_I32);
    dw_write_u32(&w, UINT32_MAX);
    make_key_f32(&w, "infinite", (float)1e38 * 1e10f);
    make_key(&w, "minus64", DW_GGUF_I64);
    dw_write_u64(&w, UINT64_MAX - 1);
    dw_gguf *gguf = gguf_open_good(&w);
    uint64_t value;
    double number = 0;
    bool found;
    assert_int_equal(dw_gguf_u64(gguf, "minus", &value, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_u64(gguf, "minus64", &value, &found, NULL), DW_E_FORMAT);
    assert_int_equal(dw_gguf_f64(gguf, "minus64", &number, &found, NULL), DW_OK);
    assert_true(number == -2.0);
    assert_int_equal(dw_gguf_f64(gguf, "infinite", &number, &found, NULL), DW_E_FORMAT);
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

static void hash_of_keys_depends_on_their_bytes_only(void **state) {
    (void)state;
    dw_hash hashes[3];
    for (uint32_t i = 0; i < 3; i++) {
        dw_writer w;
        dw_writer_init(&w);
        make_header(&w, 3, 0, 2);
        make_key_u32(&w, "tokenizer.a", i == 2 ? 8 : 7);
        make_key_u32(&w, "other", i);
        dw_gguf *gguf = gguf_open_good(&w);
        assert_int_equal(dw_gguf_hash_keys(gguf, "tokenizer.", NULL, &hashes[i], NULL), DW_OK);
        dw_gguf_close(gguf);
        dw_writer_deinit(&w);
    }
    assert_true(dw_hash_equal(&hashes[0], &hashes[1]));
    assert_false(dw_hash_equal(&hashes[0], &hashes[2]));
}

static void a_file_on_disk_reads_like_its_bytes(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    char path[512];
    (void)snprintf(path, sizeof path, "%s/gguf_test.%llu.gguf", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    assert_int_equal(dw_os_write_file(path, w.data, w.size, &err), DW_OK);
    assert_int_equal(dw_gguf_open(path, &gguf, &err), DW_OK);
    assert_string_equal(dw_gguf_path(gguf), path);
    const dw_gguf_part part = dw_gguf_part_at(gguf, 0);
    assert_int_equal(dw_gguf_n_parts(gguf), 1);
    assert_int_equal(dw_gguf_file_bytes(gguf), w.size);
    assert_int_equal(part.bytes, w.size);
    assert_memory_equal(part.data, w.data, w.size);
    assert_string_equal(part.path, path);
    assert_int_equal(part.mapped_bytes % dw_os_page_bytes(), 0);
    dw_hash from_part, from_file, from_bytes;
    assert_int_equal(dw_gguf_hash_part(gguf, 0, &from_part, NULL), DW_OK);
    assert_int_equal(dw_gguf_hash_join(&from_part, 1, &from_file, NULL), DW_OK);
    assert_int_equal(dw_hash_of(w.data, w.size, &from_bytes), DW_OK);
    assert_true(dw_hash_equal(&from_file, &from_bytes));
    dw_gguf_close(gguf);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    assert_int_equal(dw_gguf_open(path, &gguf, &err), DW_E_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
    dw_writer_deinit(&w);
}

static void an_empty_file_is_refused(void **state) {
    (void)state;
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    char path[512];
    (void)snprintf(path, sizeof path, "%s/gguf_empty.%llu.gguf", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    assert_int_equal(dw_os_write_file(path, "", 0, &err), DW_OK);
    assert_int_equal(dw_gguf_open(path, &gguf, &err), DW_E_FORMAT);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    assert_int_equal(dw_gguf_open_bytes(NULL, 0, &gguf, &err), DW_E_FORMAT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type_of_value_is_read),
        cmocka_unit_test(tensors_are_where_the_file_says),
        cmocka_unit_test(a_value_of_another_kind_is_refused),
        cmocka_unit_test(negative_and_infinite_numbers_are_not_counts),
        cmocka_unit_test(hash_of_keys_depends_on_their_bytes_only),
        cmocka_unit_test(a_file_on_disk_reads_like_its_bytes),
        cmocka_unit_test(an_empty_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

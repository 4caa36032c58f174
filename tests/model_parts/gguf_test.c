/* gguf_test.c: the GGUF reader: what it reads, and one test for each way in which GGUF loaders have been broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_parts/make_gguf.h"
#include "os/os.h"

static const uint64_t one_row[1] = {8};

/* --- helpers ---------------------------------------------------------------------------------------------------- */

/* Opens and expects a refusal of this status whose text contains `says`. */
static void assert_refused(dw_writer *w, dw_status status, const char *says) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status got = make_open(w, &gguf, &err);
    if (got != status || !strstr(err.text, says)) print_error("got %s: %s\n", dw_status_name(got), err.text);
    assert_int_equal(got, status);
    assert_null(gguf);
    assert_non_null(strstr(err.text, says));
    dw_writer_deinit(w);
}

static dw_gguf *open_good(dw_writer *w) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status status = make_open(w, &gguf, &err);
    if (status != DW_OK) print_error("%s\n", err.text);
    assert_int_equal(status, DW_OK);
    return gguf;
}

/* A file of one F32 tensor named "t". */
static void make_one_tensor(dw_writer *w, uint32_t n_dims, const uint64_t *shape, uint32_t type, uint64_t offset, size_t data_bytes) {
    dw_writer_init(w);
    make_header(w, 3, 1, 0);
    make_tensor(w, "t", n_dims, shape, type, offset);
    make_padding(w, 32);
    make_bytes(w, data_bytes, 0);
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static void every_type_of_value_is_read(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    dw_gguf *gguf = open_good(&w);
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
    dw_gguf *gguf = open_good(&w);
    assert_int_equal(dw_gguf_n_tensors(gguf), 3);
    uint64_t size = 0;
    const uint8_t *data = dw_gguf_data(gguf, &size);
    assert_int_equal(size, w.size);
    static const struct { const char *name; uint64_t shape[4], bytes; } expected[] = {
        {"one", {5, 1, 1, 1}, 20}, {"two", {32, 3, 1, 1}, 54}, {"four", {2, 3, 1, 2}, 24}};
    for (size_t i = 0; i < 3; i++) {
        const dw_gguf_tensor *tensor = dw_gguf_find_tensor(gguf, expected[i].name);
        assert_non_null(tensor);
        assert_ptr_equal(tensor, dw_gguf_tensor_at(gguf, i));
        assert_memory_equal(tensor->shape, expected[i].shape, sizeof tensor->shape);
        assert_int_equal(tensor->bytes, expected[i].bytes);
        assert_int_equal(tensor->offset % 64, 0);
        for (uint64_t b = 0; b < tensor->bytes; b++) assert_int_equal(data[tensor->offset + b], b + 1);
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
    dw_gguf *gguf = open_good(&w);
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
    dw_gguf *gguf = open_good(&w);
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
        dw_gguf *gguf = open_good(&w);
        assert_int_equal(dw_gguf_hash_keys(gguf, "tokenizer.", &hashes[i], NULL), DW_OK);
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
    uint64_t size = 0;
    const void *data = dw_gguf_data(gguf, &size);
    assert_int_equal(size, w.size);
    assert_memory_equal(data, w.data, w.size);
    assert_int_equal(dw_gguf_mapped_bytes(gguf) % dw_os_page_bytes(), 0);
    dw_hash from_file, from_bytes;
    assert_int_equal(dw_gguf_hash_file(gguf, &from_file, NULL), DW_OK);
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

/* --- the classes of loader bugs --------------------------------------------------------------------------------- */

static void truncation_at_every_byte_is_refused(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_all_types(&w);
    size_t whole = w.size - (64 - 24); /* the padding behind the last tensor is not data */
    for (size_t size = 0; size < whole; size++) {
        uint8_t *exact = malloc(size > 0 ? size : 1);
        assert_non_null(exact);
        memcpy(exact, w.data, size);
        dw_gguf *gguf = NULL;
        dw_error err = {0};
        dw_status status = dw_gguf_open_bytes(exact, size, &gguf, &err);
        assert_int_not_equal(status, DW_OK);
        assert_int_not_equal(err.text[0], '\0');
        assert_null(gguf);
        free(exact);
    }
    dw_writer_deinit(&w);
}

static void wrong_magic_and_versions_are_refused(void **state) {
    (void)state;
    static const struct { uint32_t version; dw_status status; const char *says; } cases[] = {
        {0, DW_E_UNSUPPORTED, "too old"},           {1, DW_E_UNSUPPORTED, "too old"}, {4, DW_E_VERSION, "version 4"},
        {0x03000000, DW_E_UNSUPPORTED, "big-endian"}, {UINT32_MAX, DW_E_VERSION, "version"}};
    dw_writer w;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_writer_init(&w);
        make_header(&w, cases[i].version, 0, 0);
        assert_refused(&w, cases[i].status, cases[i].says);
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 0);
    w.data[0] = 'g';
    assert_refused(&w, DW_E_FORMAT, "not a GGUF");
    dw_writer_init(&w);
    make_header(&w, 2, 0, 0);
    dw_gguf_close(open_good(&w)); /* version 2 is read */
    dw_writer_deinit(&w);
}

/* n * size wraps around in loaders that multiply before they compare. */
static void absurd_counts_are_refused_before_memory_is_asked_for(void **state) {
    (void)state;
    static const uint64_t counts[] = {65537, UINT64_C(1) << 32, (UINT64_C(1) << 61) + 1, UINT64_C(1) << 63, UINT64_MAX};
    dw_writer w;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, counts[i]);
        assert_refused(&w, DW_E_LIMIT, "keys");
        dw_writer_init(&w);
        make_header(&w, 3, counts[i], 0);
        assert_refused(&w, DW_E_LIMIT, "tensors");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 65536);
    assert_refused(&w, DW_E_TRUNCATED, "cannot hold");
    dw_writer_init(&w);
    make_header(&w, 3, 65536, 0);
    assert_refused(&w, DW_E_TRUNCATED, "cannot hold");
}

static void array_counts_that_overflow_are_refused(void **state) {
    (void)state;
    static const uint64_t counts[] = {3, UINT64_C(1) << 61, (UINT64_C(1) << 62) + 1, UINT64_MAX, UINT64_MAX / 8 + 2};
    static const uint32_t types[] = {DW_GGUF_U64, DW_GGUF_F32, DW_GGUF_U8, DW_GGUF_STRING, DW_GGUF_BOOL};
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
            dw_writer w;
            dw_writer_init(&w);
            make_header(&w, 3, 0, 1);
            make_key_array(&w, "array", types[t], counts[c]);
            make_bytes(&w, 2, 0);
            assert_refused(&w, DW_E_TRUNCATED, "array");
        }
    }
}

static void string_lengths_outside_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t lengths[] = {6, UINT32_MAX, UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        dw_status status = lengths[i] > DW_GGUF_STRING_BYTES_MAX ? DW_E_LIMIT : DW_E_TRUNCATED;
        dw_writer w;
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key(&w, "text", DW_GGUF_STRING);
        dw_write_u64(&w, lengths[i]);
        make_bytes(&w, 5, 'a');
        assert_refused(&w, status, "text");
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        dw_write_u64(&w, lengths[i]); /* of the key's name */
        make_bytes(&w, 5, 'a');
        make_bytes(&w, 1, 'x');
        make_bytes(&w, 8, 'a');
        assert_refused(&w, DW_E_FORMAT, "key"); /* the name, or the type that follows it */
    }
}

static void names_must_be_there_and_single(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_u32(&w, "", 1);
    assert_refused(&w, DW_E_FORMAT, "name of 0 bytes");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_string_bytes(&w, "a\0b", 3);
    dw_write_u32(&w, DW_GGUF_U32);
    dw_write_u32(&w, 1);
    assert_refused(&w, DW_E_FORMAT, "zero byte");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 3);
    make_key_u32(&w, "twice", 1);
    make_key_u32(&w, "once", 1);
    make_key_u32(&w, "twice", 2);
    assert_refused(&w, DW_E_FORMAT, "two keys named twice");
    dw_writer_init(&w);
    make_header(&w, 3, 2, 0);
    make_tensor(&w, "t", 1, one_row, 0, 0);
    make_tensor(&w, "t", 1, one_row, 0, 32);
    make_padding(&w, 32);
    make_bytes(&w, 64, 0);
    assert_refused(&w, DW_E_FORMAT, "two tensors named t");
}

static void a_tensor_name_that_ggml_would_cut_is_refused(void **state) {
    (void)state;
    char name[65];
    memset(name, 'n', sizeof name);
    dw_writer w;
    for (size_t length = 63; length <= 64; length++) {
        name[length] = '\0';
        dw_writer_init(&w);
        make_header(&w, 3, 1, 0);
        make_tensor(&w, name, 1, one_row, 0, 0);
        make_padding(&w, 32);
        make_bytes(&w, 32, 0);
        if (length == 63) {
            dw_gguf_close(open_good(&w));
            dw_writer_deinit(&w);
        } else {
            assert_refused(&w, DW_E_FORMAT, "name of 64 bytes");
        }
        name[length] = 'n';
    }
}

static void unknown_value_types_and_nested_arrays_are_refused(void **state) {
    (void)state;
    dw_writer w;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key(&w, "k", types[i]);
        dw_write_u64(&w, 0);
        assert_refused(&w, DW_E_FORMAT, "unknown type");
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key_array(&w, "k", types[i], 0);
        assert_refused(&w, DW_E_FORMAT, "unknown type");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_array(&w, "deep", DW_GGUF_ARRAY, 1);
    dw_write_u32(&w, DW_GGUF_ARRAY);
    dw_write_u64(&w, 1);
    assert_refused(&w, DW_E_UNSUPPORTED, "array of arrays");
}

static void a_truth_value_is_0_or_1(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_bool(&w, "truth", 2);
    assert_refused(&w, DW_E_FORMAT, "truth value that is 2");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_array(&w, "truths", DW_GGUF_BOOL, 3);
    dw_write_bytes(&w, "\x01\x00\xff", 3);
    assert_refused(&w, DW_E_FORMAT, "truth value that is 255");
}

static void alignment_must_be_a_sane_power_of_two(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 131072, UINT32_MAX};
    dw_writer w;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key_u32(&w, "general.alignment", bad[i]);
        assert_refused(&w, DW_E_FORMAT, "general.alignment");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key(&w, "general.alignment", DW_GGUF_U64);
    dw_write_u64(&w, 32);
    assert_refused(&w, DW_E_FORMAT, "general.alignment");
}

static void impossible_shapes_are_refused(void **state) {
    (void)state;
    static const struct { uint32_t n_dims; uint64_t shape[4]; } cases[] = {
        {0, {0}},
        {5, {1, 1, 1, 1}},
        {UINT32_MAX, {1}},
        {1, {0}},
        {2, {8, 0}},
        {1, {UINT64_C(1) << 63}},
        {2, {UINT64_C(1) << 32, UINT64_C(1) << 32}},                        /* product wraps to 0 */
        {4, {UINT64_C(1) << 16, UINT64_C(1) << 16, UINT64_C(1) << 16, UINT64_C(1) << 16}},
        {3, {UINT64_C(3), UINT64_C(0x5555555555555556), 1}},                /* wraps to 2 */
        {2, {UINT64_MAX, UINT64_MAX}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_writer w;
        dw_writer_init(&w);
        make_header(&w, 3, 1, 0);
        make_string(&w, "t");
        dw_write_u32(&w, cases[i].n_dims);
        for (uint32_t d = 0; d < 4; d++) dw_write_u64(&w, cases[i].shape[d]);
        make_bytes(&w, 64, 0);
        assert_refused(&w, DW_E_FORMAT, "dimension");
    }
    /* Elements fit, bytes do not: 2^61 elements of 4 bytes wrap to 2^63, of 8 bytes to 0. */
    for (uint32_t type = 0; type < 2; type++) {
        dw_writer w;
        make_one_tensor(&w, 1, (const uint64_t[]){type == 0 ? UINT64_C(1) << 62 : (UINT64_C(1) << 62) + 32}, type == 0 ? 0 : 28, 0, 64);
        assert_refused(&w, DW_E_FORMAT, "larger than any memory");
    }
}

static void unknown_and_dropped_tensor_types_are_refused(void **state) {
    (void)state;
    static const uint32_t types[] = {4, 5, 31, 36, 38, 1000, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        dw_writer w;
        make_one_tensor(&w, 1, (const uint64_t[]){32}, types[i], 0, 256);
        assert_refused(&w, DW_E_UNSUPPORTED, "does not know");
    }
}

static void rows_that_cut_a_block_are_refused(void **state) {
    (void)state;
    dw_writer w;
    make_one_tensor(&w, 2, (const uint64_t[]){33, 2}, 2, 0, 256); /* Q4_0: blocks of 32 */
    assert_refused(&w, DW_E_FORMAT, "not a multiple of 32");
    make_one_tensor(&w, 2, (const uint64_t[]){32, 3}, 12, 0, 1024); /* Q4_K: blocks of 256 */
    assert_refused(&w, DW_E_FORMAT, "not a multiple of 256");
}

static void offsets_outside_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t offsets[] = {32, 64, UINT64_C(1) << 40, UINT64_MAX - 31, (UINT64_C(1) << 63), UINT64_MAX - 63};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        dw_writer w;
        make_one_tensor(&w, 1, one_row, 0, offsets[i], 32);
        assert_refused(&w, DW_E_TRUNCATED, "past the end");
    }
    dw_writer w;
    make_one_tensor(&w, 1, one_row, 0, 0, 31); /* one byte short */
    assert_refused(&w, DW_E_TRUNCATED, "past the end");
    make_one_tensor(&w, 1, one_row, 0, 0, 32);
    dw_gguf_close(open_good(&w));
    dw_writer_deinit(&w);
}

static void unaligned_offsets_are_refused(void **state) {
    (void)state;
    dw_writer w;
    make_one_tensor(&w, 1, one_row, 0, 16, 64);
    assert_refused(&w, DW_E_FORMAT, "not a multiple of 32");
}

static void overlapping_tensors_are_refused(void **state) {
    (void)state;
    static const struct { uint64_t rows, first, second; bool good; } cases[] = {
        {16, 0, 32, false}, {16, 32, 0, false}, {8, 32, 32, false}, {8, 0, 32, true}, {8, 32, 0, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_writer w;
        dw_writer_init(&w);
        make_header(&w, 3, 2, 0);
        make_tensor(&w, "a", 1, (const uint64_t[]){cases[i].rows}, 0, cases[i].first);
        make_tensor(&w, "b", 1, (const uint64_t[]){cases[i].rows}, 0, cases[i].second);
        make_padding(&w, 32);
        make_bytes(&w, 128, 0);
        if (cases[i].good) {
            dw_gguf_close(open_good(&w));
            dw_writer_deinit(&w);
        } else {
            assert_refused(&w, DW_E_FORMAT, "overlap");
        }
    }
}

static void names_in_messages_are_bounded_and_printable(void **state) {
    (void)state;
    char name[300];
    memset(name, 'k', sizeof name);
    name[0] = '\x1b'; /* would move a terminal's cursor */
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_string_bytes(&w, name, sizeof name);
    dw_write_u32(&w, DW_GGUF_BOOL);
    dw_write_u8(&w, 7);
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    assert_int_equal(make_open(&w, &gguf, &err), DW_E_FORMAT);
    assert_null(strchr(err.text, '\x1b'));
    assert_non_null(strstr(err.text, "?kkk"));
    assert_non_null(strstr(err.text, "..."));
    assert_non_null(strstr(err.text, "at byte"));
    dw_writer_deinit(&w);
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
        cmocka_unit_test(truncation_at_every_byte_is_refused),
        cmocka_unit_test(wrong_magic_and_versions_are_refused),
        cmocka_unit_test(absurd_counts_are_refused_before_memory_is_asked_for),
        cmocka_unit_test(array_counts_that_overflow_are_refused),
        cmocka_unit_test(string_lengths_outside_the_file_are_refused),
        cmocka_unit_test(names_must_be_there_and_single),
        cmocka_unit_test(a_tensor_name_that_ggml_would_cut_is_refused),
        cmocka_unit_test(unknown_value_types_and_nested_arrays_are_refused),
        cmocka_unit_test(a_truth_value_is_0_or_1),
        cmocka_unit_test(alignment_must_be_a_sane_power_of_two),
        cmocka_unit_test(impossible_shapes_are_refused),
        cmocka_unit_test(unknown_and_dropped_tensor_types_are_refused),
        cmocka_unit_test(rows_that_cut_a_block_are_refused),
        cmocka_unit_test(offsets_outside_the_file_are_refused),
        cmocka_unit_test(unaligned_offsets_are_refused),
        cmocka_unit_test(overlapping_tensors_are_refused),
        cmocka_unit_test(names_in_messages_are_bounded_and_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

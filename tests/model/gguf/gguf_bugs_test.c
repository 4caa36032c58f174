/* gguf_bugs_test.c: one test for each class of publicly known bug in GGUF loaders. The comment of each names where it was seen. What
 * libllama's tokenizer had is in vocab_test.c, what a whole model can claim in tests/model/weights/hostile_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/gguf/gguf_kit.h"
#include "model/gguf/heap_count.h"

static const uint64_t one_row[1] = {8};

/* A file of one tensor named "t". */
static void make_one_tensor(dw_writer *w, uint32_t n_dims, const uint64_t *shape, uint32_t type, uint64_t offset, size_t data_bytes) {
    dw_writer_init(w);
    make_header(w, 3, 1, 0);
    make_tensor(w, "t", n_dims, shape, type, offset);
    make_padding(w, 32);
    make_bytes(w, data_bytes, 0);
}

/* A file that ends early, down to the magic alone: CVE-2024-39720 (Ollama, a file of four bytes), gguf-tools #25. */
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
        gguf_assert_refused(&w, cases[i].status, cases[i].says);
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 0);
    w.data[0] = 'g';
    gguf_assert_refused(&w, DW_E_FORMAT, "not a GGUF");
    dw_writer_init(&w);
    make_header(&w, 2, 0, 0);
    dw_gguf_close(gguf_open_good(&w)); /* version 2 is read */
    dw_writer_deinit(&w);
}

/* n_kv and n_tensors times the size of a record: CVE-2024-23605 (TALOS-2024-1916), CVE-2024-21836 (TALOS-2024-1915), Databricks 2024
 * ("GGML GGUF File Format Vulnerabilities"), and again where another size was multiplied: CVE-2026-27940 (GHSA-3p4r-fq3f-q74v),
 * llama.cpp #15711. Counts trusted for a reservation: kekzl/imp #532. */
static void absurd_counts_are_refused_before_memory_is_asked_for(void **state) {
    (void)state;
    static const uint64_t counts[] = {65537, UINT64_C(1) << 32, (UINT64_C(1) << 61) + 1, UINT64_C(1) << 63, UINT64_MAX};
    dw_writer w;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, counts[i]);
        gguf_assert_refused(&w, DW_E_LIMIT, "keys");
        dw_writer_init(&w);
        make_header(&w, 3, counts[i], 0);
        gguf_assert_refused(&w, DW_E_LIMIT, "tensors");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 65536);
    gguf_assert_refused(&w, DW_E_TRUNCATED, "cannot hold");
    dw_writer_init(&w);
    make_header(&w, 3, 65536, 0);
    gguf_assert_refused(&w, DW_E_TRUNCATED, "cannot hold");
}

/* Array count times element size: CVE-2024-21825 (TALOS-2024-1912); counts bounded by nothing: llama.cpp #19856, ggml #1516. */
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
            gguf_assert_refused(&w, DW_E_TRUNCATED, "array");
        }
    }
}

/* Length plus one wraps to an empty buffer, or is believed: CVE-2024-23496 (TALOS-2024-1913), gguf-tools #25; a cursor
 * that goes on behind the end: kekzl/imp #532. */
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
        gguf_assert_refused(&w, status, "text");
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        dw_write_u64(&w, lengths[i]); /* of the key's name */
        make_bytes(&w, 5, 'a');
        make_bytes(&w, 1, 'x');
        make_bytes(&w, 8, 'a');
        gguf_assert_refused(&w, DW_E_FORMAT, "key"); /* the name, or the type that follows it */
    }
}

/* An empty key is an assertion in ggml (llama.cpp #24263); two keys of one name are two answers (llama.cpp #19856); two tensors of one name
 * overwrite each other (llama.cpp #6187). */
static void names_must_be_there_and_single(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_u32(&w, "", 1);
    gguf_assert_refused(&w, DW_E_FORMAT, "name of 0 bytes");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_string_bytes(&w, "a\0b", 3);
    dw_write_u32(&w, DW_GGUF_U32);
    dw_write_u32(&w, 1);
    gguf_assert_refused(&w, DW_E_FORMAT, "zero byte");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 3);
    make_key_u32(&w, "twice", 1);
    make_key_u32(&w, "once", 1);
    make_key_u32(&w, "twice", 2);
    gguf_assert_refused(&w, DW_E_FORMAT, "two keys named twice");
    dw_writer_init(&w);
    make_header(&w, 3, 2, 0);
    make_tensor(&w, "t", 1, one_row, 0, 0);
    make_tensor(&w, "t", 1, one_row, 0, 32);
    make_padding(&w, 32);
    make_bytes(&w, 64, 0);
    gguf_assert_refused(&w, DW_E_FORMAT, "two tensors named t");
}

/* ggml keeps 64 bytes with a NUL; a longer name was cut, and the tensor looked for by another. */
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
            dw_gguf_close(gguf_open_good(&w));
            dw_writer_deinit(&w);
        } else {
            gguf_assert_refused(&w, DW_E_FORMAT, "name of 64 bytes");
        }
        name[length] = 'n';
    }
}

/* A type from the file as an index into a table of sizes: llama.cpp #19856; an unknown element type that takes no bytes: kekzl/imp #532. */
static void unknown_value_types_and_nested_arrays_are_refused(void **state) {
    (void)state;
    dw_writer w;
    static const uint32_t types[] = {13, 255, UINT32_MAX};
    for (size_t i = 0; i < 3; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key(&w, "k", types[i]);
        dw_write_u64(&w, 0);
        gguf_assert_refused(&w, DW_E_FORMAT, "unknown type");
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key_array(&w, "k", types[i], 0);
        gguf_assert_refused(&w, DW_E_FORMAT, "unknown type");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_array(&w, "deep", DW_GGUF_ARRAY, 1);
    dw_write_u32(&w, DW_GGUF_ARRAY);
    dw_write_u64(&w, 1);
    gguf_assert_refused(&w, DW_E_UNSUPPORTED, "array of arrays");
}

/* Another value in a C bool is undefined behaviour in whoever reads it. */
static void a_truth_value_is_0_or_1(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_bool(&w, "truth", 2);
    gguf_assert_refused(&w, DW_E_FORMAT, "truth value that is 2");
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key_array(&w, "truths", DW_GGUF_BOOL, 3);
    dw_write_bytes(&w, "\x01\x00\xff", 3);
    gguf_assert_refused(&w, DW_E_FORMAT, "truth value that is 255");
}

/* 0: division by zero (gguf-tools #27, CVE-2025-0317 in Ollama); huge: padding that wraps (ggml #1516); another type than u32: an assertion
 * (llama.cpp #26318). */
static void alignment_must_be_a_sane_power_of_two(void **state) {
    (void)state;
    static const uint32_t bad[] = {0, 1, 4, 24, 33, 131072, UINT32_MAX};
    dw_writer w;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        dw_writer_init(&w);
        make_header(&w, 3, 0, 1);
        make_key_u32(&w, "general.alignment", bad[i]);
        gguf_assert_refused(&w, DW_E_FORMAT, "general.alignment");
    }
    dw_writer_init(&w);
    make_header(&w, 3, 0, 1);
    make_key(&w, "general.alignment", DW_GGUF_U64);
    dw_write_u64(&w, 32);
    gguf_assert_refused(&w, DW_E_FORMAT, "general.alignment");
}

/* n_dims as an index: CVE-2024-21802 (TALOS-2024-1914), gguf-tools #25; 0 elements: division by zero (llama.cpp #24263); products that wrap:
 * CVE-2026-33298 (GHSA-96jg-mvhq-q7q7), llama.cpp #18674; negative as i64. */
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
        gguf_assert_refused(&w, DW_E_FORMAT, "dimension");
    }
    /* Elements fit, bytes do not: 2^61 elements of 4 bytes wrap to 2^63, of 8 bytes to 0. */
    for (uint32_t type = 0; type < 2; type++) {
        dw_writer w;
        make_one_tensor(&w, 1, (const uint64_t[]){type == 0 ? UINT64_C(1) << 62 : (UINT64_C(1) << 62) + 32}, type == 0 ? 0 : 28, 0, 64);
        gguf_assert_refused(&w, DW_E_FORMAT, "larger than any memory");
    }
}

/* A tensor type as an index, or one whose block size is 0 now: llama.cpp #19856. */
static void unknown_and_dropped_tensor_types_are_refused(void **state) {
    (void)state;
    static const uint32_t types[] = {4, 5, 31, 36, 38, 1000, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        dw_writer w;
        make_one_tensor(&w, 1, (const uint64_t[]){32}, types[i], 0, 256);
        gguf_assert_refused(&w, DW_E_UNSUPPORTED, "does not know");
    }
}

/* Rows that are no whole number of blocks: sizes are rounded down, and reads go on behind them. */
static void rows_that_cut_a_block_are_refused(void **state) {
    (void)state;
    dw_writer w;
    make_one_tensor(&w, 2, (const uint64_t[]){33, 2}, 2, 0, 256); /* Q4_0: blocks of 32 */
    gguf_assert_refused(&w, DW_E_FORMAT, "not a multiple of 32");
    make_one_tensor(&w, 2, (const uint64_t[]){32, 3}, 12, 0, 1024); /* Q4_K: blocks of 256 */
    gguf_assert_refused(&w, DW_E_FORMAT, "not a multiple of 256");
}

/* Data that the file does not have: CVE-2026-7482 (Ollama, "Bleeding Llama"), mlx #4179, sparkinfer #25; offset plus size wraps: llama.cpp #14595. */
static void offsets_outside_the_file_are_refused(void **state) {
    (void)state;
    static const uint64_t offsets[] = {32, 64, UINT64_C(1) << 40, UINT64_MAX - 31, (UINT64_C(1) << 63), UINT64_MAX - 63};
    for (size_t i = 0; i < sizeof offsets / sizeof offsets[0]; i++) {
        dw_writer w;
        make_one_tensor(&w, 1, one_row, 0, offsets[i], 32);
        gguf_assert_refused(&w, DW_E_TRUNCATED, "past the end");
    }
    dw_writer w;
    make_one_tensor(&w, 1, one_row, 0, 0, 31); /* one byte short */
    gguf_assert_refused(&w, DW_E_TRUNCATED, "past the end");
    make_one_tensor(&w, 1, one_row, 0, 0, 32);
    dw_gguf_close(gguf_open_good(&w));
    dw_writer_deinit(&w);
}

static void unaligned_offsets_are_refused(void **state) {
    (void)state;
    dw_writer w;
    make_one_tensor(&w, 1, one_row, 0, 16, 64);
    gguf_assert_refused(&w, DW_E_FORMAT, "not a multiple of 32");
}

/* Two tensors over the same bytes: what is written to one changes the other, if memory is ever written. */
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
            dw_gguf_close(gguf_open_good(&w));
            dw_writer_deinit(&w);
        } else {
            gguf_assert_refused(&w, DW_E_FORMAT, "overlap");
        }
    }
}

/* Sizes that fit 64 bits until they are padded or added up: CVE-2025-53630 (GHSA-vgg9-87g3-85w8), llama.cpp #14595, #24759 and #26978
 * (GGML_PAD wraps to 0), #25164 (a second copy of the formula). */
static void sizes_that_wrap_when_padded_or_added_are_refused(void **state) {
    (void)state;
    static const struct { uint64_t shape[3]; uint32_t type; } cases[] = {
        {{4, 1073741823, 1073741825}, 0},                 /* F32: 2^64 - 16 bytes */
        {{UINT64_C(0x3ffffffffffffff8), 1, 1}, 0},        /* 2^64 - 32 */
        {{1152, (UINT64_C(1) << 42) + 1, 1}, 8},          /* Q8_0 rows that wrap a 2^64 of row strides */
        {{UINT64_C(1) << 61, 1, 1}, 0},                   /* 2^63: two of them make 0 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (int first = 0; first < 2; first++) { /* the large one before and behind a good one */
            dw_writer w;
            dw_writer_init(&w);
            make_header(&w, 3, 2, 0);
            if (first == 0) make_tensor(&w, "large", 3, cases[i].shape, cases[i].type, 0);
            make_tensor(&w, "good", 1, one_row, 0, first == 0 ? 32 : 0);
            if (first != 0) make_tensor(&w, "large", 3, cases[i].shape, cases[i].type, 32);
            make_padding(&w, 32);
            make_bytes(&w, 128, 0);
            gguf_assert_refused(&w, DW_E_TRUNCATED, "tensor large");
        }
    }
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 2, 0);
    make_tensor(&w, "a", 1, (const uint64_t[]){UINT64_C(1) << 61}, 0, 0);
    make_tensor(&w, "b", 1, (const uint64_t[]){UINT64_C(1) << 61}, 0, UINT64_C(1) << 63);
    make_padding(&w, 32);
    make_bytes(&w, 128, 0);
    gguf_assert_refused(&w, DW_E_TRUNCATED, "tensor a");
}

/* A header that promises nothing: CVE-2024-41130 (GHSA-49q7-2jmh-92fp), a null pointer where arrays of 0 elements were expected. */
static void a_file_of_nothing_answers_every_question(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 0);
    dw_gguf *gguf = gguf_open_good(&w);
    uint64_t value, count;
    double number;
    bool truth, found = true;
    dw_gguf_string text;
    dw_gguf_strings strings;
    dw_gguf_type type;
    dw_hash hash;
    assert_int_equal(dw_gguf_n_keys(gguf), 0);
    assert_int_equal(dw_gguf_n_tensors(gguf), 0);
    assert_null(dw_gguf_tensor_at(gguf, 0));
    assert_null(dw_gguf_find_tensor(gguf, "t"));
    assert_true(dw_gguf_u64(gguf, "k", &value, &found, NULL) == DW_OK && !found);
    assert_true(dw_gguf_f64(gguf, "k", &number, &found, NULL) == DW_OK && !found);
    assert_true(dw_gguf_bool(gguf, "k", &truth, &found, NULL) == DW_OK && !found);
    assert_true(dw_gguf_get_string(gguf, "k", &text, &found, NULL) == DW_OK && !found);
    assert_true(dw_gguf_array(gguf, "k", &type, &count, &found, NULL) == DW_OK && !found);
    assert_true(dw_gguf_array_strings(gguf, "k", &strings, &found, NULL) == DW_OK && !found);
    assert_int_equal(dw_gguf_hash_keys(gguf, "k", NULL, &hash, NULL), DW_OK);
    assert_int_equal(dw_gguf_hash_part(gguf, 0, &hash, NULL), DW_OK);
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

/* Empty arrays, of which a first element may be asked: CVE-2024-41130 again, and loaders that take element 0 for granted. */
static void empty_arrays_have_no_elements(void **state) {
    (void)state;
    dw_writer w;
    dw_writer_init(&w);
    make_header(&w, 3, 0, 2);
    make_key_array(&w, "numbers", DW_GGUF_U32, 0);
    make_key_array(&w, "texts", DW_GGUF_STRING, 0);
    dw_gguf *gguf = gguf_open_good(&w);
    uint64_t value;
    double number;
    bool found = false;
    dw_gguf_string text;
    dw_gguf_strings strings;
    dw_gguf_numbers numbers;
    assert_int_equal(dw_gguf_array_u64(gguf, "numbers", 0, &value, NULL), DW_E_RANGE);
    assert_int_equal(dw_gguf_array_numbers(gguf, "numbers", &numbers, &found, NULL), DW_OK);
    assert_true(found && !dw_gguf_next_number(&numbers, &number));
    assert_int_equal(dw_gguf_array_strings(gguf, "texts", &strings, &found, NULL), DW_OK);
    assert_true(found && !dw_gguf_next_string(&strings, &text));
    dw_gguf_close(gguf);
    dw_writer_deinit(&w);
}

/* A file of N bytes that makes the loader ask for gigabytes: Databricks 2024, CVE-2025-0315 (Ollama), ggml #1516. The densest files
 * there are, and counts that only claim to be dense, ask for no more than 16 bytes for each of theirs. */
static void memory_is_bounded_by_the_size_of_the_file(void **state) {
    (void)state;
    if (!heap_count_works()) skip();
    enum { N = 5000 };
    for (int kind = 0; kind < 4; kind++) {
        dw_writer w;
        dw_writer_init(&w);
        make_header(&w, 3, kind % 2 == 1 ? N : 0, kind % 2 == 0 ? N : 0);
        bool claims_only = kind >= 2; /* one record less than it says */
        for (unsigned i = 0; i < N - (claims_only ? 1u : 0u); i++) {
            char name[3] = {(char)(1 + i % 255), (char)(1 + i / 255), 0};
            if (kind % 2 == 0) {
                make_key(&w, name, DW_GGUF_U8);
                dw_write_u8(&w, 0);
            } else {
                make_tensor(&w, name, 1, (const uint64_t[]){1}, 24 /* I8 */, 32ull * i);
            }
        }
        if (kind % 2 == 1) {
            make_padding(&w, 32);
            make_bytes(&w, (size_t)32 * (N - 1) + 1, 0);
        }
        uint8_t *exact = malloc(w.size);
        assert_non_null(exact);
        memcpy(exact, w.data, w.size);
        dw_gguf *gguf = NULL;
        dw_error err = {0};
        heap_count_begin();
        dw_status status = dw_gguf_open_bytes(exact, w.size, &gguf, &err);
        uint64_t asked = heap_count_end();
        print_message("%s: %llu bytes of file, %llu of memory\n", dw_status_name(status), (unsigned long long)w.size, (unsigned long long)asked);
        assert_int_equal(status == DW_OK, !claims_only);
        assert_true(asked > 0 && asked <= 16 * (uint64_t)w.size + 4096);
        dw_gguf_close(gguf);
        free(exact);
        dw_writer_deinit(&w);
    }
}

/* A name from the file is printed: CWE-150. */
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
        cmocka_unit_test(sizes_that_wrap_when_padded_or_added_are_refused),
        cmocka_unit_test(a_file_of_nothing_answers_every_question),
        cmocka_unit_test(empty_arrays_have_no_elements),
        cmocka_unit_test(memory_is_bounded_by_the_size_of_the_file),
        cmocka_unit_test(names_in_messages_are_bounded_and_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The bounded reader, LEB128, and the writer. */
#include <string.h>

#include "base/bytes.h"
#include "base/test.h"

/* A heap copy of exactly `size` bytes: the address sanitizer sees the first byte read behind it. */
static uint8_t *exact(const void *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size) memcpy(copy, data, size);
    return copy;
}

static void numbers_are_little_endian(void **state) {
    (void)state;
    static const uint8_t data[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    dw_reader reader;
    dw_reader_init(&reader, data, sizeof data);
    assert_int_equal(dw_read_u8(&reader), 1);
    assert_int_equal(dw_read_u16(&reader), 0x0302);
    assert_int_equal(dw_read_u32(&reader), 0x07060504);
    assert_true(dw_read_u64(&reader) == UINT64_C(0x0F0E0D0C0B0A0908));
    assert_int_equal(reader.status, DW_OK);
    assert_int_equal(dw_reader_left(&reader), 0);
}

/* Reads a record of one of everything. */
static void read_record(dw_reader *reader) {
    (void)dw_read_u8(reader);
    (void)dw_read_u16(reader);
    (void)dw_read_u32(reader);
    (void)dw_read_u64(reader);
    (void)dw_read_leb_u32(reader);
    (void)dw_read_leb_s64(reader);
    (void)dw_read_bytes(reader, 5);
}

static void every_truncation_fails_and_reads_nothing_behind_the_end(void **state) {
    (void)state;
    static const uint8_t record[] = {1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 0xE5, 0x8E, 0x26, 0xFF, 0x7F, 5, 5, 5, 5, 5};
    for (size_t size = 0; size <= sizeof record; size++) {
        uint8_t *copy = exact(record, size);
        dw_reader reader;
        dw_reader_init(&reader, copy, size);
        read_record(&reader);
        assert_int_equal(reader.status, size == sizeof record ? DW_OK : DW_E_TRUNCATED);
        assert_true(reader.offset <= size);
        free(copy);
    }
}

static void first_failure_stays_and_later_reads_give_zero(void **state) {
    (void)state;
    static const uint8_t data[] = {9, 9, 9, 9};
    dw_reader reader;
    dw_reader_init(&reader, data, sizeof data);
    (void)dw_read_u16(&reader);
    assert_null(dw_read_bytes(&reader, 3));
    assert_int_equal(reader.status, DW_E_TRUNCATED);
    assert_int_equal(reader.offset, 2);
    assert_int_equal(dw_read_u8(&reader), 0);
    assert_int_equal(dw_read_leb_u32(&reader), 0);
    assert_null(dw_read_bytes(&reader, 0));
    assert_int_equal(dw_reader_left(&reader), 0);
    assert_int_equal(reader.offset, 2);
}

static void absurd_length_is_refused_without_overflow(void **state) {
    (void)state;
    static const uint8_t data[8];
    dw_reader reader;
    dw_reader_init(&reader, data, sizeof data);
    (void)dw_read_u8(&reader);
    assert_null(dw_read_bytes(&reader, UINT64_MAX));
    assert_int_equal(reader.status, DW_E_TRUNCATED);
}

static void empty_view_of_empty_input_is_no_failure(void **state) {
    (void)state;
    dw_reader reader;
    dw_reader_init(&reader, NULL, 0);
    assert_non_null(dw_read_bytes(&reader, 0));
    assert_int_equal(reader.status, DW_OK);
}

/* --- LEB128 ------------------------------------------------------------------------------------------------------ */

typedef struct leb_row {
    uint8_t bytes[11];
    size_t size;
    dw_status u32, s32, u64, s64;
    int64_t value; /* where accepted; of u32 and u64 its low bits */
} leb_row;

static const leb_row leb_rows[] = {
    {{0x00}, 1, DW_OK, DW_OK, DW_OK, DW_OK, 0},
    {{0x3F}, 1, DW_OK, DW_OK, DW_OK, DW_OK, 63},
    {{0xC0, 0x00}, 2, DW_OK, DW_OK, DW_OK, DW_OK, 64},
    {{0x80, 0x80, 0x80, 0x80, 0x00}, 5, DW_OK, DW_OK, DW_OK, DW_OK, 0}, /* padded to the most bytes that 32 bits may have */
    {{0xFF, 0xFF, 0xFF, 0xFF, 0x07}, 5, DW_OK, DW_OK, DW_OK, DW_OK, 0x7FFFFFFF},
    {{0xFF, 0xFF, 0xFF, 0xFF, 0x0F}, 5, DW_OK, DW_E_FORMAT, DW_OK, DW_OK, 0xFFFFFFFF},
    {{0xFF, 0xFF, 0xFF, 0xFF, 0x1F}, 5, DW_E_FORMAT, DW_E_FORMAT, DW_OK, DW_OK, 0x1FFFFFFFF},
    {{0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 6, DW_E_FORMAT, DW_E_FORMAT, DW_OK, DW_OK, 0}, /* over-long for 32 bits */
    {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 10, DW_E_FORMAT, DW_E_FORMAT, DW_OK, DW_E_FORMAT, INT64_MIN},
    {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02}, 10, DW_E_FORMAT, DW_E_FORMAT, DW_E_FORMAT, DW_E_FORMAT, 0},
    {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x7F}, 10, DW_E_FORMAT, DW_E_FORMAT, DW_E_FORMAT, DW_OK, INT64_MIN},
    {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}, 11, DW_E_FORMAT, DW_E_FORMAT, DW_E_FORMAT, DW_E_FORMAT, 0},
};

static void leb_accepts_exactly_what_webassembly_does(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof leb_rows / sizeof leb_rows[0]; i++) {
        const leb_row *row = &leb_rows[i];
        uint8_t *copy = exact(row->bytes, row->size);
        dw_reader reader;
        dw_reader_init(&reader, copy, row->size);
        uint32_t u32 = dw_read_leb_u32(&reader);
        assert_status(reader.status, row->u32);
        assert_true(row->u32 == DW_OK ? u32 == (uint32_t)row->value && reader.offset == row->size : reader.offset == 0);
        dw_reader_init(&reader, copy, row->size);
        int32_t s32 = dw_read_leb_s32(&reader);
        assert_status(reader.status, row->s32);
        assert_true(row->s32 != DW_OK || s32 == (int32_t)row->value);
        dw_reader_init(&reader, copy, row->size);
        uint64_t u64 = dw_read_leb_u64(&reader);
        assert_status(reader.status, row->u64);
        assert_true(row->u64 != DW_OK || u64 == (uint64_t)row->value);
        dw_reader_init(&reader, copy, row->size);
        int64_t s64 = dw_read_leb_s64(&reader);
        assert_status(reader.status, row->s64);
        assert_true(row->s64 != DW_OK || s64 == row->value);
        free(copy);
    }
}

static void negative_numbers_are_sign_extended(void **state) {
    (void)state;
    static const struct { uint8_t bytes[5]; size_t size; int32_t value; } rows[] = {
        {{0x7F}, 1, -1}, {{0x40}, 1, -64}, {{0xBF, 0x7F}, 2, -65}, {{0x80, 0x7F}, 2, -128}, {{0x80, 0x80, 0x80, 0x80, 0x78}, 5, INT32_MIN}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        dw_reader reader;
        dw_reader_init(&reader, rows[i].bytes, rows[i].size);
        assert_int_equal(dw_read_leb_s32(&reader), rows[i].value);
        dw_reader_init(&reader, rows[i].bytes, rows[i].size);
        assert_true(dw_read_leb_s64(&reader) == rows[i].value);
        assert_int_equal(reader.status, DW_OK);
    }
}

static void every_truncated_leb_is_truncated(void **state) {
    (void)state;
    static const uint8_t data[] = {0xFF, 0xFF, 0xFF, 0xFF, 0x0F};
    for (size_t size = 0; size < sizeof data; size++) {
        uint8_t *copy = exact(data, size);
        dw_reader reader;
        dw_reader_init(&reader, copy, size);
        (void)dw_read_leb_u32(&reader);
        assert_int_equal(reader.status, DW_E_TRUNCATED);
        free(copy);
    }
}

/* --- writer ------------------------------------------------------------------------------------------------------ */

static void what_is_written_is_read_back(void **state) {
    (void)state;
    static const uint32_t values[] = {0, 1, 127, 128, 16383, 16384, 0x0FFFFFFF, 0x10000000, UINT32_MAX};
    dw_writer writer;
    dw_writer_init(&writer);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        dw_write_u8(&writer, (uint8_t)values[i]);
        dw_write_u32(&writer, values[i]);
        dw_write_u64(&writer, (uint64_t)values[i] << 20);
        dw_write_leb_u32(&writer, values[i]);
        dw_write_bytes(&writer, "text", 4);
    }
    uint8_t *data;
    size_t size;
    assert_status(dw_writer_finish(&writer, &data, &size), DW_OK);
    dw_reader reader;
    dw_reader_init(&reader, data, size);
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(dw_read_u8(&reader), (uint8_t)values[i]);
        assert_int_equal(dw_read_u32(&reader), values[i]);
        assert_true(dw_read_u64(&reader) == (uint64_t)values[i] << 20);
        assert_int_equal(dw_read_leb_u32(&reader), values[i]);
        assert_memory_equal(dw_read_bytes(&reader, 4), "text", 4);
    }
    assert_int_equal(dw_reader_left(&reader), 0);
    free(data);
}

static void empty_result_can_be_freed(void **state) {
    (void)state;
    dw_writer writer;
    dw_writer_init(&writer);
    uint8_t *data;
    size_t size;
    assert_status(dw_writer_finish(&writer, &data, &size), DW_OK);
    assert_non_null(data);
    assert_int_equal(size, 0);
    free(data);
}

static void absurd_write_fails_for_good_and_keeps_nothing(void **state) {
    (void)state;
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_u32(&writer, 7);
    dw_write_bytes(&writer, "x", SIZE_MAX - 2);
    dw_write_u32(&writer, 8);
    uint8_t *data;
    size_t size;
    assert_status(dw_writer_finish(&writer, &data, &size), DW_E_NO_MEMORY);
    assert_null(data);
    assert_int_equal(size, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_little_endian),
        cmocka_unit_test(every_truncation_fails_and_reads_nothing_behind_the_end),
        cmocka_unit_test(first_failure_stays_and_later_reads_give_zero),
        cmocka_unit_test(absurd_length_is_refused_without_overflow),
        cmocka_unit_test(empty_view_of_empty_input_is_no_failure),
        cmocka_unit_test(leb_accepts_exactly_what_webassembly_does),
        cmocka_unit_test(negative_numbers_are_sign_extended),
        cmocka_unit_test(every_truncated_leb_is_truncated),
        cmocka_unit_test(what_is_written_is_read_back),
        cmocka_unit_test(empty_result_can_be_freed),
        cmocka_unit_test(absurd_write_fails_for_good_and_keeps_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

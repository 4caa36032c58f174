/* gguf_parts_test.c: a GGUF in several files: what is joined, and every way in which parts do not belong together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/kit/make_gguf.h"
#include "os/os.h"

enum { PARTS_MAX = 4, PATH_BYTES = 600 };

/* --- parts in memory -------------------------------------------------------------------------------------------- */

typedef struct made { dw_writer writers[PARTS_MAX]; dw_gguf_bytes bytes[PARTS_MAX]; uint32_t n; } made;

static made make(const make_part_of *parts, uint32_t n) {
    made m = {.n = n};
    for (uint32_t i = 0; i < n; i++) {
        dw_writer_init(&m.writers[i]);
        make_part(&m.writers[i], &parts[i]);
        m.bytes[i] = (dw_gguf_bytes){m.writers[i].data, m.writers[i].size};
    }
    return m;
}

static void drop(made *m) {
    for (uint32_t i = 0; i < m->n; i++) dw_writer_deinit(&m->writers[i]);
}

static void assert_refused(const make_part_of *parts, uint32_t n, dw_status status, const char *says) {
    made m = make(parts, n);
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status got = dw_gguf_open_parts(m.bytes, n, &gguf, &err);
    if (got != status || !strstr(err.text, says)) print_error("got %s: %s\n", dw_status_name(got), err.text);
    assert_int_equal(got, status);
    assert_null(gguf);
    assert_non_null(strstr(err.text, says));
    drop(&m);
}

static const make_part_of three[] = {{0, 3, 3, {"c"}}, {1, 3, 3, {"a", "b"}}, {2, 3, 3, {0}}};

static void tensors_of_all_parts_are_found_where_they_lie(void **state) {
    (void)state;
    static const struct { const char *name; uint32_t part; } expected[] = {{"c", 0}, {"a", 1}, {"b", 1}};
    made m = make(three, 3);
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    if (dw_gguf_open_parts(m.bytes, 3, &gguf, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(dw_gguf_n_parts(gguf), 3);
    assert_int_equal(dw_gguf_n_tensors(gguf), 3);
    assert_int_equal(dw_gguf_file_bytes(gguf), m.bytes[0].size + m.bytes[1].size + m.bytes[2].size);
    for (uint64_t i = 0; i < 3; i++) {
        const dw_gguf_tensor *tensor = dw_gguf_find_tensor(gguf, expected[i].name);
        assert_non_null(tensor);
        assert_ptr_equal(tensor, dw_gguf_tensor_at(gguf, i)); /* in the order of the parts */
        assert_int_equal(tensor->part, expected[i].part);
        const uint8_t *data = dw_gguf_tensor_data(gguf, tensor);
        assert_ptr_equal(data, (const uint8_t *)m.bytes[tensor->part].data + tensor->offset);
        for (int b = 0; b < 32; b++) assert_int_equal(data[b], expected[i].name[0] + b);
    }
    assert_null(dw_gguf_find_tensor(gguf, "d"));
    dw_gguf_close(gguf);
    drop(&m);
}

static void the_hash_covers_every_part_and_their_order(void **state) {
    (void)state;
    dw_hash hashes[3], all, swapped, single;
    made m = make(three, 3);
    dw_gguf *gguf = NULL;
    assert_int_equal(dw_gguf_open_parts(m.bytes, 3, &gguf, NULL), DW_OK);
    for (uint32_t i = 0; i < 3; i++) {
        dw_hash own;
        assert_int_equal(dw_gguf_hash_part(gguf, i, &hashes[i], NULL), DW_OK);
        assert_int_equal(dw_hash_of(m.bytes[i].data, (size_t)m.bytes[i].size, &own), DW_OK);
        assert_true(dw_hash_equal(&own, &hashes[i]));
    }
    assert_int_equal(dw_gguf_hash_join(hashes, 3, &all, NULL), DW_OK);
    const dw_hash other[3] = {hashes[0], hashes[2], hashes[1]};
    assert_int_equal(dw_gguf_hash_join(other, 3, &swapped, NULL), DW_OK);
    assert_int_equal(dw_gguf_hash_join(hashes, 1, &single, NULL), DW_OK);
    assert_false(dw_hash_equal(&all, &swapped));
    assert_false(dw_hash_equal(&all, &hashes[0]));
    assert_true(dw_hash_equal(&single, &hashes[0])); /* one file: the hash that it always had */
    dw_gguf_close(gguf);
    drop(&m);
}

static void one_part_of_one_is_a_file(void **state) {
    (void)state;
    static const make_part_of alone[] = {{0, 1, 1, {"a"}}, {-1, 0, -1, {"a"}}, {-1, -1, -1, {"a"}}, {0, -1, -1, {"a"}}};
    for (int i = 0; i < 4; i++) {
        made m = make(&alone[i], 1);
        dw_gguf *gguf = NULL;
        assert_int_equal(dw_gguf_open_parts(m.bytes, 1, &gguf, NULL), DW_OK);
        assert_int_equal(dw_gguf_n_tensors(gguf), 1);
        dw_gguf_close(gguf);
        drop(&m);
    }
}

static void parts_that_do_not_belong_together_are_refused(void **state) {
    (void)state;
    const make_part_of first = {0, 2, 2, {"a"}};
#define PARTS(...) ((const make_part_of[]){first, __VA_ARGS__})
    assert_refused(PARTS({0, 2, 2, {"b"}}), 2, DW_E_FORMAT, "part 2 of 2: GGUF: split.no is 0 instead of 1");
    assert_refused(PARTS({-1, 2, 2, {"b"}}), 2, DW_E_FORMAT, "part 2 of 2: GGUF: split.no");
    assert_refused(PARTS({1, 3, 2, {"b"}}), 2, DW_E_FORMAT, "split.count is 3, in the first part 2");
    assert_refused(PARTS({1, -1, 2, {"b"}}), 2, DW_E_FORMAT, "split.count is 0, in the first part 2");
    assert_refused(PARTS({1, 2, 3, {"b"}}), 2, DW_E_FORMAT, "split.tensors.count is 3, in the first part 2");
    assert_refused(PARTS({1, 2, 2, {"a"}}), 2, DW_E_FORMAT, "two tensors named a, in part 1 and in part 2"); /* llama.cpp #6187 */
    assert_refused(PARTS({1, 2, 2, {"b", "c"}}), 2, DW_E_FORMAT, "split.tensors.count is 2, the 2 parts have 3");
    assert_refused(PARTS({1, 2, 2, {0}}), 2, DW_E_FORMAT, "split.tensors.count is 2, the 2 parts have 1");
    assert_refused(PARTS({1, 2, 2, {"b", "b"}}), 2, DW_E_FORMAT, "split.tensors.count"); /* as many names as it says is not enough */
    assert_refused((const make_part_of[]){{0, 2, 3, {"a"}}, {1, 2, 3, {"b", "b"}}}, 2, DW_E_FORMAT, "two tensors named b, in part 2 and in part 2");
    assert_refused(&first, 1, DW_E_INVALID, "split.count is 2, 1 parts were given");
    assert_refused(PARTS({1, 2, 2, {"b"}}, {2, 2, 2, {0}}), 3, DW_E_INVALID, "3 parts were given");
#undef PARTS
}

static void a_first_part_must_say_what_it_is(void **state) {
    (void)state;
    assert_refused(&(make_part_of){-1, 2, 1, {"a"}}, 1, DW_E_FORMAT, "has no split.no");
    assert_refused(&(make_part_of){0, 2, -1, {"a"}}, 1, DW_E_FORMAT, "has no split.tensors.count");
    assert_refused(&(make_part_of){1, 2, 1, {"a"}}, 1, DW_E_INVALID, "this is part 2 of 2");
    assert_refused(&(make_part_of){2, 2, 1, {"a"}}, 1, DW_E_FORMAT, "split.no is 2 (from 0), split.count 2");
    assert_refused(&(make_part_of){1, -1, 1, {"a"}}, 1, DW_E_FORMAT, "split.no is 1 (from 0), split.count 0");
    assert_refused(&(make_part_of){0, 1025, 1, {"a"}}, 1, DW_E_LIMIT, "at most 1024 parts");
    assert_refused(&(make_part_of){0, 65535, 1, {"a"}}, 1, DW_E_LIMIT, "at most 1024 parts");
    assert_refused(&(make_part_of){0, 2, 0xffffffff, {"a"}}, 1, DW_E_FORMAT, "split.tensors.count"); /* -1 */
}

/* --- parts in files --------------------------------------------------------------------------------------------- */

static char folder[PATH_BYTES / 2];

static void part_path(char out[PATH_BYTES], const char *name, unsigned number, unsigned count) {
    (void)snprintf(out, PATH_BYTES, "%s/%s-%05u-of-%05u.gguf", folder, name, number, count);
}

static void write_parts(const char *name, uint32_t n) {
    made m = make(three, 3);
    for (uint32_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        part_path(path, name, i + 1, 3);
        assert_int_equal(dw_os_write_file(path, m.bytes[i].data, (size_t)m.bytes[i].size, NULL), DW_OK);
    }
    drop(&m);
}

static void remove_parts(const char *name, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        char path[PATH_BYTES];
        part_path(path, name, i + 1, 3);
        assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    }
}

static void assert_file_refused(const char *path, dw_status status, const char *says) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status got = dw_gguf_open(path, &gguf, &err);
    if (got != status || !strstr(err.text, says)) print_error("got %s: %s\n", dw_status_name(got), err.text);
    assert_int_equal(got, status);
    assert_null(gguf);
    assert_non_null(strstr(err.text, says));
}

static void the_first_file_opens_all(void **state) {
    (void)state;
    char path[PATH_BYTES], second[PATH_BYTES];
    write_parts("good", 3);
    part_path(path, "good", 1, 3);
    part_path(second, "good", 2, 3);
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    if (dw_gguf_open(path, &gguf, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(dw_gguf_n_parts(gguf), 3);
    assert_string_equal(dw_gguf_path(gguf), path);
    assert_string_equal(dw_gguf_part_at(gguf, 1).path, second);
    assert_non_null(dw_gguf_find_tensor(gguf, "b"));
    dw_gguf_close(gguf);
    remove_parts("good", 3);
}

static void a_later_file_says_which_to_open(void **state) {
    (void)state;
    char path[PATH_BYTES];
    write_parts("later", 3);
    part_path(path, "later", 2, 3);
    assert_file_refused(path, DW_E_INVALID, "this is part 2 of 3: open later-00001-of-00003.gguf");
    remove_parts("later", 3);
}

static void a_missing_file_is_named(void **state) {
    (void)state;
    char path[PATH_BYTES];
    write_parts("gap", 2);
    part_path(path, "gap", 1, 3);
    assert_file_refused(path, DW_E_NOT_FOUND, "part 3 of 3: ");
    remove_parts("gap", 2);
}

static void a_name_that_leads_to_no_other_is_refused(void **state) {
    (void)state;
    static const char *const names[] = {"renamed.gguf", "renamed-00001-of-00002.gguf", "renamed-00002-of-00003.gguf", "renamed-1-of-3.gguf", "-00001-of-00003.gguf"};
    made m = make(three, 3);
    for (size_t i = 0; i < 4; i++) {
        char path[PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(dw_os_write_file(path, m.bytes[0].data, (size_t)m.bytes[0].size, NULL), DW_OK);
        assert_file_refused(path, DW_E_INVALID, "its name must end in -00001-of-00003.gguf");
        assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    }
    drop(&m);
}

static void a_damaged_later_file_is_named(void **state) {
    (void)state;
    char path[PATH_BYTES], second[PATH_BYTES];
    made m = make(three, 3);
    write_parts("damaged", 3);
    part_path(path, "damaged", 1, 3);
    part_path(second, "damaged", 2, 3);
    for (size_t size = 0; size < m.bytes[1].size; size += 7) {
        assert_int_equal(dw_os_write_file(second, m.bytes[1].data, size, NULL), DW_OK);
        dw_gguf *gguf = NULL;
        dw_error err = {0};
        assert_int_not_equal(dw_gguf_open(path, &gguf, &err), DW_OK);
        assert_null(gguf);
        assert_non_null(strstr(err.text, "part 2 of 3"));
    }
    remove_parts("damaged", 3);
    drop(&m);
}

static void later_parts_are_told_by_their_names(void **state) {
    (void)state;
    static const struct { const char *name; bool later; } cases[] = {
        {"m-00002-of-00003.gguf", true},  {"a/b/m-00003-of-00003.gguf", true}, {"m-00001-of-00003.gguf", false}, {"m-00004-of-00003.gguf", false},
        {"m-0002-of-00003.gguf", false},  {"m-00002-of-00003.ggu", false},     {"-00002-of-00003.gguf", false},  {"m.gguf", false},
        {"m-00002of-000003.gguf", false}, {"m-0000x-of-00003.gguf", false},    {"", false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) assert_int_equal(dw_gguf_is_later_part(cases[i].name), cases[i].later);
}

static int set_up(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/parts.%llu", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    return dw_os_make_folders(folder, NULL) == DW_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    return remove(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_of_all_parts_are_found_where_they_lie),
        cmocka_unit_test(the_hash_covers_every_part_and_their_order),
        cmocka_unit_test(one_part_of_one_is_a_file),
        cmocka_unit_test(parts_that_do_not_belong_together_are_refused),
        cmocka_unit_test(a_first_part_must_say_what_it_is),
        cmocka_unit_test(the_first_file_opens_all),
        cmocka_unit_test(a_later_file_says_which_to_open),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(a_name_that_leads_to_no_other_is_refused),
        cmocka_unit_test(a_damaged_later_file_is_named),
        cmocka_unit_test(later_parts_are_told_by_their_names),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

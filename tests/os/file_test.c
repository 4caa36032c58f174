/* Files, folders and names. */
#define _POSIX_C_SOURCE 200809L /* chmod */
#include <sys/stat.h>

#include "os/os.h"
#include "os/scratch.h"

static dw_error err;

static dw_os_file make_file(const char *name, const void *data, size_t size) {
    dw_os_file file;
    assert_ok(dw_os_open(scratch_path(name), DW_OS_CREATE_TRUNCATE, &file, &err), err);
    assert_ok(dw_os_write_at(file, 0, data, size, &err), err);
    return file;
}

static void written_bytes_are_read_back_at_their_offset(void **state) {
    (void)state;
    char back[6] = {0};
    dw_os_file file = make_file("a", "0123456789", 10);
    assert_ok(dw_os_write_at(file, 4, "xy", 2, &err), err);
    assert_ok(dw_os_read_at(file, 3, back, 5, &err), err);
    assert_string_equal(back, "3xy67");
    uint64_t size;
    assert_ok(dw_os_size(file, &size, &err), err);
    assert_int_equal(size, 10);
    assert_ok(dw_os_sync(file, &err), err);
    dw_os_close(&file);
    dw_os_close(&file);
    assert_int_equal(file.fd, -1);
}

static void early_end_of_file_is_truncated_and_says_where(void **state) {
    (void)state;
    char back[8];
    dw_os_file file = make_file("a", "0123", 4);
    assert_status(dw_os_read_at(file, 2, back, 8, &err), DW_E_TRUNCATED);
    assert_int_equal(err.offset, 4);
    assert_status(dw_os_read_at(file, UINT64_MAX - 2, back, 8, &err), DW_E_RANGE);
    assert_status(dw_os_write_at(file, INT64_MAX, back, 8, &err), DW_E_RANGE);
    assert_status(dw_os_resize(file, UINT64_MAX, &err), DW_E_RANGE);
    dw_os_close(&file);
}

static void open_modes_do_what_they_say(void **state) {
    (void)state;
    dw_os_file file = make_file("modes", "abc", 3);
    dw_os_close(&file);
    assert_status(dw_os_open(scratch_path("modes"), DW_OS_CREATE_NEW, &file, &err), DW_E_EXISTS);
    assert_int_equal(file.fd, -1);
    assert_status(dw_os_open(scratch_path("absent"), DW_OS_READ_WRITE, &file, &err), DW_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "absent"));
    assert_ok(dw_os_open(scratch_path("modes"), DW_OS_READ, &file, &err), err);
    assert_int_not_equal(dw_os_write_at(file, 0, "x", 1, &err), DW_OK);
    dw_os_close(&file);
    assert_ok(dw_os_open(scratch_path("modes"), DW_OS_CREATE_TRUNCATE, &file, &err), err);
    uint64_t size;
    assert_ok(dw_os_size(file, &size, &err), err);
    assert_int_equal(size, 0);
    dw_os_close(&file);
}

static void duplicate_is_the_same_file(void **state) {
    (void)state;
    char back[3] = {0};
    dw_os_file file = make_file("a", "ab", 2), twin;
    assert_ok(dw_os_duplicate(file, &twin, &err), err);
    dw_os_identity one, two;
    assert_ok(dw_os_identify(file, &one, &err), err);
    assert_ok(dw_os_identify(twin, &two, &err), err);
    assert_memory_equal(&one, &two, sizeof one);
    dw_os_close(&file);
    assert_ok(dw_os_read_at(twin, 0, back, 2, &err), err);
    assert_string_equal(back, "ab");
    dw_os_close(&twin);
}

static void memory_object_is_sparse_grows_and_does_not_shrink(void **state) {
    (void)state;
    dw_os_file file;
    uint64_t occupied, size;
    assert_ok(dw_os_memory_object("test", UINT64_C(1) << 30, &file, &err), err);
    assert_ok(dw_os_occupied(file, &occupied, &err), err);
    assert_int_equal(occupied, 0);
    assert_ok(dw_os_write_at(file, 1 << 20, "x", 1, &err), err);
    assert_ok(dw_os_occupied(file, &occupied, &err), err);
    assert_true(occupied > 0 && occupied <= 1 << 20);
    assert_ok(dw_os_resize(file, UINT64_C(1) << 31, &err), err);
#ifdef __linux__
    assert_status(dw_os_resize(file, 4096, &err), DW_E_SYSTEM);
    assert_ok(dw_os_size(file, &size, &err), err);
    assert_true(size == UINT64_C(1) << 31);
#endif
    (void)size;
    dw_os_close(&file);
}

static void whole_file_is_replaced_and_no_other_file_is_left(void **state) {
    (void)state;
    const char *path = scratch_path("whole");
    unsigned before = scratch_count(scratch_folder) + 1;
    uint8_t *data;
    size_t size;
    assert_ok(dw_os_write_file(path, "first", 5, &err), err);
    assert_ok(dw_os_write_file(path, "the second", 10, &err), err);
    assert_ok(dw_os_read_file(path, 10, &data, &size, &err), err);
    assert_int_equal(size, 10);
    assert_string_equal((char *)data, "the second");
    free(data);
    assert_status(dw_os_read_file(path, 9, &data, &size, &err), DW_E_LIMIT);
    assert_null(data);
    assert_ok(dw_os_write_file(path, NULL, 0, &err), err);
    assert_ok(dw_os_read_file(path, 0, &data, &size, &err), err);
    assert_int_equal(size, 0);
    free(data);
    assert_int_equal(scratch_count(scratch_folder), before);
}

static void a_file_that_others_may_write_is_not_our_own(void **state) {
    (void)state;
    const char *path = scratch_path("own");
    uint8_t *data;
    size_t size;
    assert_ok(dw_os_write_file(path, "trusted", 7, &err), err);
    assert_ok(dw_os_read_own_file(path, 7, &data, &size, &err), err);
    assert_string_equal((char *)data, "trusted");
    free(data);
    assert_status(dw_os_read_own_file(path, 6, &data, &size, &err), DW_E_LIMIT);
    assert_int_equal(chmod(path, 0622), 0);
    assert_status(dw_os_read_own_file(path, 7, &data, &size, &err), DW_E_DENIED);
    assert_null(data);
    assert_ok(dw_os_read_file(path, 7, &data, &size, &err), err);
    free(data);
    assert_status(dw_os_read_own_file(scratch_path("absent"), 7, &data, &size, &err), DW_E_NOT_FOUND);
    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(dw_os_remove(path, &err), err);
}

static void replace_takes_the_place_of_the_old_file(void **state) {
    (void)state;
    assert_ok(dw_os_write_file(scratch_path("from"), "new", 3, &err), err);
    assert_ok(dw_os_replace(scratch_path("from"), scratch_path("whole"), &err), err);
    assert_false(dw_os_exists(scratch_path("from")));
    uint8_t *data;
    size_t size;
    assert_ok(dw_os_read_file(scratch_path("whole"), 10, &data, &size, &err), err);
    assert_string_equal((char *)data, "new");
    free(data);
    assert_ok(dw_os_remove(scratch_path("whole"), &err), err);
    assert_status(dw_os_remove(scratch_path("whole"), &err), DW_E_NOT_FOUND);
    assert_status(dw_os_replace(scratch_path("from"), scratch_path("whole"), &err), DW_E_NOT_FOUND);
}

static void folders_are_made_with_their_parents(void **state) {
    (void)state;
    assert_ok(dw_os_make_folders(scratch_path("x//y/z/"), &err), err);
    assert_ok(dw_os_make_folders(scratch_path("x/y/z"), &err), err);
    assert_ok(dw_os_write_file(scratch_path("x/y/z/file"), "", 0, &err), err);
    assert_int_equal(scratch_count(scratch_path("x/y")), 1);
    assert_int_not_equal(dw_os_make_folders(scratch_path("x/y/z/file/w"), &err), DW_OK);
    assert_int_not_equal(dw_os_make_folders(scratch_path("x/y/z/file"), &err), DW_OK);
    assert_status(dw_os_make_folders("", &err), DW_E_INVALID);
    assert_status(dw_os_list(scratch_path("nowhere"), scratch_count_entry, NULL, &err), DW_E_NOT_FOUND);
    assert_int_equal(remove(scratch_path("x/y/z/file")), 0);
    assert_int_equal(remove(scratch_path("x/y/z")), 0);
    assert_int_equal(remove(scratch_path("x/y")), 0);
}

static bool stop_at_once(void *context, const char *name) {
    (void)name;
    ++*(unsigned *)context;
    return false;
}

static void listing_ends_when_told(void **state) {
    (void)state;
    unsigned count = 0;
    assert_ok(dw_os_list("/", stop_at_once, &count, &err), err);
    assert_int_equal(count, 1);
}

static void too_long_names_are_refused(void **state) {
    (void)state;
    static char path[9000];
    memset(path, 'a', sizeof path - 1);
    assert_int_not_equal(dw_os_make_folders(path, &err), DW_OK);
    assert_int_not_equal(dw_os_write_file(path, "", 0, &err), DW_OK);
    char small[4];
    assert_status(dw_os_cache_folder(small, sizeof small, &err), DW_E_LIMIT);
    assert_status(dw_os_executable_path(small, sizeof small, &err), DW_E_LIMIT);
}

static void clocks_and_random_move(void **state) {
    (void)state;
    uint64_t before = dw_os_monotonic_ns(), a = 0, b = 0;
    assert_true(dw_os_realtime_ns() > UINT64_C(1700000000000000000));
    assert_ok(dw_os_random(&a, sizeof a, &err), err);
    assert_ok(dw_os_random(&b, sizeof b, &err), err);
    assert_true(a != b);
    assert_true(dw_os_monotonic_ns() >= before);
    assert_true(dw_os_cpu_count() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_bytes_are_read_back_at_their_offset),
        cmocka_unit_test(early_end_of_file_is_truncated_and_says_where),
        cmocka_unit_test(open_modes_do_what_they_say),
        cmocka_unit_test(duplicate_is_the_same_file),
        cmocka_unit_test(memory_object_is_sparse_grows_and_does_not_shrink),
        cmocka_unit_test(whole_file_is_replaced_and_no_other_file_is_left),
        cmocka_unit_test(a_file_that_others_may_write_is_not_our_own),
        cmocka_unit_test(replace_takes_the_place_of_the_old_file),
        cmocka_unit_test(folders_are_made_with_their_parents),
        cmocka_unit_test(listing_ends_when_told),
        cmocka_unit_test(too_long_names_are_refused),
        cmocka_unit_test(clocks_and_random_move),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_drop);
}

/* What is left when a system call fails: for every call of every operation. */
#include "os/fault_loop.h"
#include "os/os.h"
#include "os/scratch.h"

static dw_error err;

static void write_plain(const char *path, const char *text) {
    assert_ok(dw_os_write_file(path, text, strlen(text), &err), err);
}

static void assert_content(const char *path, const char *expected) {
    uint8_t *data;
    size_t size;
    assert_ok(dw_os_read_file(path, 1000, &data, &size, &err), err);
    assert_string_equal((char *)data, expected);
    free(data);
}

static void plan_fails_the_chosen_calls_only(void **state) {
    (void)state;
    bool hit;
    dw_os_file file;
    const char *path = scratch_path("plan");
    write_plain(path, "x");
    dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_SYNC, .k = 2, .system_errno = ENOSPC});
    assert_ok(dw_os_open(path, DW_OS_READ_WRITE, &file, &err), err);
    assert_ok(dw_os_sync(file, &err), err);
    assert_status(dw_os_sync(file, &err), DW_E_NO_SPACE);
    assert_int_equal(err.system_errno, ENOSPC);
    assert_ok(dw_os_sync(file, &err), err);
    assert_int_equal(dw_fault_disarm(&hit), 3);
    assert_true(hit);
    dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_SYNC, .k = 1, .from_then_on = true, .system_errno = EIO});
    assert_status(dw_os_sync(file, &err), DW_E_IO);
    assert_status(dw_os_sync(file, &err), DW_E_IO);
    (void)dw_fault_disarm(NULL);
    assert_ok(dw_os_sync(file, &err), err);
    dw_os_close(&file);
}

static void a_torn_write_leaves_its_beginning(void **state) {
    (void)state;
    static uint8_t data[10000], found[4096];
    uint64_t size;
    dw_os_file file;
    memset(data, 7, sizeof data);
    for (uint64_t torn = 512; torn <= 4096; torn *= 8) {
        assert_ok(dw_os_open(scratch_path("torn"), DW_OS_CREATE_TRUNCATE, &file, &err), err);
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_WRITE, .k = 2, .system_errno = EIO, .torn_bytes = torn});
        assert_status(dw_os_write_at(file, 0, data, sizeof data, &err), DW_E_IO);
        (void)dw_fault_disarm(NULL);
        assert_ok(dw_os_size(file, &size, &err), err);
        assert_int_equal(size, torn);
        assert_ok(dw_os_read_at(file, 0, found, torn, &err), err);
        assert_memory_equal(found, data, torn);
        dw_os_close(&file);
    }
}

static void a_folder_is_synced_or_says_why_not(void **state) {
    (void)state;
    assert_ok(dw_os_sync_folder(scratch_folder, &err), err);
    assert_status(dw_os_sync_folder(scratch_path("nowhere"), &err), DW_E_NOT_FOUND);
    dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_SYNC, .k = 1, .system_errno = EIO});
    assert_status(dw_os_sync_folder(scratch_folder, &err), DW_E_IO);
    (void)dw_fault_disarm(NULL);
}

static void interrupted_and_short_transfers_are_continued(void **state) {
    (void)state;
    char back[1000], data[1000];
    dw_os_file file;
    memset(data, 'd', sizeof data);
    assert_ok(dw_os_open(scratch_path("short"), DW_OS_CREATE_TRUNCATE, &file, &err), err);
    dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_ANY, .k = 1, .system_errno = EINTR, .short_writes = true});
    assert_ok(dw_os_write_at(file, 0, data, sizeof data, &err), err);
    assert_ok(dw_os_read_at(file, 0, back, sizeof back, &err), err);
    bool hit;
    assert_true(dw_fault_disarm(&hit) >= 5);
    assert_true(hit);
    assert_memory_equal(back, data, sizeof data);
    dw_os_close(&file);
}

/* I2's ground: whatever fails, the old or the new file is there, whole, and nothing else. */
static void written_file_is_old_or_new_and_no_other_is_left(void **state) {
    (void)state;
    static const int numbers[] = {ENOSPC, EIO, ENOMEM};
    const char *path = scratch_path("whole");
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        FAULT_LOOP(loop, DW_FAULT_ANY, numbers[i]) {
            write_plain(path, "the old text");
            unsigned names = scratch_count(scratch_folder), descriptors = open_descriptors();
            loop.plan.short_writes = true;
            fault_loop_arm(&loop);
            dw_status status = dw_os_write_file(path, "new", 3, &err);
            fault_loop_disarm(&loop);
            assert_int_equal(status == DW_OK, !loop.hit);
            assert_int_equal(scratch_count(scratch_folder), names);
            assert_int_equal(open_descriptors(), descriptors);
            uint8_t *data;
            size_t size;
            assert_ok(dw_os_read_file(path, 1000, &data, &size, &err), err);
            bool is_new = strcmp((char *)data, "new") == 0;
            assert_true(is_new || strcmp((char *)data, "the old text") == 0);
            assert_true(is_new || status != DW_OK);
            free(data);
        }
    }
}

static void replaced_file_is_old_or_new(void **state) {
    (void)state;
    const char *path = scratch_path("target"), *from = scratch_path("source");
    FAULT_LOOP(loop, DW_FAULT_ANY, EIO) {
        write_plain(path, "old");
        write_plain(from, "new");
        unsigned descriptors = open_descriptors();
        fault_loop_arm(&loop);
        dw_status status = dw_os_replace(from, path, &err);
        fault_loop_disarm(&loop);
        assert_int_equal(status == DW_OK, !loop.hit);
        assert_int_equal(open_descriptors(), descriptors);
        assert_content(path, dw_os_exists(from) ? "old" : "new");
    }
}

/* One run of everything that opens something; gives the first failure. */
static dw_status open_everything(void) {
    dw_os_file file = DW_OS_FILE_NONE, twin = DW_OS_FILE_NONE, memory = DW_OS_FILE_NONE;
    dw_os_identity identity;
    uint64_t size;
    uint8_t *data = NULL;
    size_t data_size;
    char byte = 'b';
    unsigned entries = 0;
    dw_status status = dw_os_open(scratch_path("everything"), DW_OS_CREATE_TRUNCATE, &file, &err);
    if (status == DW_OK) status = dw_os_write_at(file, 0, &byte, 1, &err);
    if (status == DW_OK) status = dw_os_read_at(file, 0, &byte, 1, &err);
    if (status == DW_OK) status = dw_os_resize(file, 100, &err);
    if (status == DW_OK) status = dw_os_size(file, &size, &err);
    if (status == DW_OK) status = dw_os_occupied(file, &size, &err);
    if (status == DW_OK) status = dw_os_identify(file, &identity, &err);
    if (status == DW_OK) status = dw_os_sync(file, &err);
    if (status == DW_OK) status = dw_os_duplicate(file, &twin, &err);
    if (status == DW_OK) status = dw_os_memory_object("test", 4096, &memory, &err);
    if (status == DW_OK) status = dw_os_list(scratch_folder, scratch_count_entry, &entries, &err);
    if (status == DW_OK) status = dw_os_read_file(scratch_path("everything"), 100, &data, &data_size, &err);
    free(data);
    dw_os_close(&file);
    dw_os_close(&twin);
    dw_os_close(&memory);
    return status;
}

static void no_failed_call_leaks_or_passes_as_success(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, EIO) {
        unsigned descriptors = open_descriptors();
        fault_loop_arm(&loop);
        dw_status status = open_everything();
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_IO : DW_OK);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

/* A failed mkdir of a parent that exists is no failure, so success is measured by what is there. */
static void made_folders_are_there(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_NAME, EIO) {
        fault_loop_arm(&loop);
        dw_status status = dw_os_make_folders(scratch_path("new/folder"), &err);
        fault_loop_disarm(&loop);
        assert_int_equal(status == DW_OK, dw_os_exists(scratch_path("new/folder")));
        assert_true(status == DW_OK || loop.hit);
        assert_ok(dw_os_make_folders(scratch_path("new/folder"), &err), err);
        assert_int_equal(remove(scratch_path("new/folder")), 0);
        assert_int_equal(remove(scratch_path("new")), 0);
    }
}

static dw_status map_everything(void) {
    size_t page = dw_os_page_bytes(), size = 8 * page;
    void *base = NULL;
    dw_os_file file = DW_OS_FILE_NONE;
    dw_os_memory_use use;
    dw_status status = dw_os_memory_object("test", size, &file, &err);
    if (status == DW_OK) status = dw_os_map_reserve(size, &base, &err);
    if (status == DW_OK) status = dw_os_map_anonymous(base, size, &err);
    if (status == DW_OK) status = dw_os_map_file(base, page, file, 0, DW_OS_RW, true, NULL, &err);
    if (status == DW_OK) status = dw_os_map_protect(base, page, DW_OS_RO, &err);
    if (status == DW_OK) status = dw_os_map_decommit((char *)base + page, page, &err);
    if (status == DW_OK) status = dw_os_memory_use_range(base, size, &use, &err);
    if (status == DW_OK) status = dw_os_memory_use_now(&use, &err);
    dw_os_unmap(base, base ? size : 0);
    dw_os_close(&file);
    return status;
}

static void no_failed_map_passes_as_success(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        unsigned descriptors = open_descriptors();
        fault_loop_arm(&loop);
        dw_status status = map_everything();
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_int_equal(open_descriptors(), descriptors);
    }
}

static void failed_run_leaves_no_descriptor_and_no_child(void **state) {
    (void)state;
    const char *argv[] = {"sh", "-c", "echo text; exit 1", NULL};
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOMEM) {
        unsigned descriptors = open_descriptors();
        dw_os_process_result result;
        fault_loop_arm(&loop);
        dw_status status = dw_os_run(argv, 100, &result, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_MEMORY : DW_OK);
        assert_int_equal(open_descriptors(), descriptors);
        if (status == DW_OK) assert_int_equal(result.exit_code, 1);
        else assert_null(result.output);
        free(result.output);
    }
}

static void run_nothing(void *argument) { (void)argument; }

static void failed_thread_and_lock_creation_leaves_nothing(void **state) {
    (void)state;
    FAULT_LOOP(loop, DW_FAULT_THREAD, EAGAIN) {
        dw_os_mutex *mutex = NULL;
        dw_os_condition *condition = NULL;
        dw_os_thread *thread = NULL;
        fault_loop_arm(&loop);
        dw_status status = dw_os_mutex_create(&mutex, &err);
        if (status == DW_OK) status = dw_os_condition_create(&condition, &err);
        if (status == DW_OK) status = dw_os_thread_create("test", 0, run_nothing, NULL, &thread, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_SYSTEM : DW_OK);
        dw_os_thread_join(thread);
        dw_os_condition_destroy(condition);
        dw_os_mutex_destroy(mutex);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan_fails_the_chosen_calls_only),
        cmocka_unit_test(a_torn_write_leaves_its_beginning),
        cmocka_unit_test(a_folder_is_synced_or_says_why_not),
        cmocka_unit_test(interrupted_and_short_transfers_are_continued),
        cmocka_unit_test(written_file_is_old_or_new_and_no_other_is_left),
        cmocka_unit_test(replaced_file_is_old_or_new),
        cmocka_unit_test(no_failed_call_leaks_or_passes_as_success),
        cmocka_unit_test(made_folders_are_there),
        cmocka_unit_test(no_failed_map_passes_as_success),
        cmocka_unit_test(failed_run_leaves_no_descriptor_and_no_child),
        cmocka_unit_test(failed_thread_and_lock_creation_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_drop);
}

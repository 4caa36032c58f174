/* faults_test.c: every system call of a write, an open and a verification fails once, and every allocation of the header that
 * is written. Under the leak checker nothing is lost; on disk there is the old file or the new one, whole, and nothing else. */
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"
#include "os/os_fault.h"

enum { LOOP_MAX = 2000 };

static char path[512];

static int make_path(void **unused) {
    (void)unused;
    kit_path(path, "fault.drift");
    return 0;
}

static int clean_up(void **unused) {
    (void)unused;
    kit_remove_folder();
    return 0;
}

#ifdef DW_FAULTS

static bool same_files(const kit_file *a, const kit_file *b) { return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0; }

/* Writes over an old file with the k-th call failing, for every k, until the write gets through. */
static void write_under_faults(int system_errno, bool from_then_on) {
    kit_state before, after;
    kit_minimal(&before);
    kit_small(&after);
    kit_file old_file = kit_file_of(&before), new_file = kit_file_of(&after);
    bool was_hit = true;
    for (uint64_t k = 1; was_hit; k++) {
        assert_true(k < LOOP_MAX);
        kit_store(path, &old_file);
        dw_error err = {0};
        dw_fault_arm((dw_fault_plan){.k = k, .system_errno = system_errno, .from_then_on = from_then_on});
        dw_status status = dw_checkpoint_write(path, &after.state, kit_rows, &after, NULL, &err);
        (void)dw_fault_disarm(&was_hit);
        assert_true(was_hit || status == DW_OK);
        if (status != DW_OK) assert_int_not_equal(err.text[0], '\0');
        kit_file found = kit_load(path);
        bool is_new = same_files(&found, &new_file);
        assert_true(is_new || same_files(&found, &old_file));
        assert_true(is_new || status != DW_OK);
        kit_free(&found);
        /* When every later call fails, so does the removal. */
        if (!from_then_on) assert_int_equal(kit_count_files(), 1);
        else kit_remove_folder(), (void)make_path(NULL);
    }
    kit_free(&old_file);
    kit_free(&new_file);
    kit_deinit(&before);
    kit_deinit(&after);
}

static void a_failing_write_leaves_the_old_file_or_the_new_and_nothing_else(void **unused) {
    (void)unused;
    write_under_faults(ENOSPC, false);
    write_under_faults(EIO, false);
}

static void a_system_that_fails_from_then_on_leaves_the_old_file_or_the_new(void **unused) {
    (void)unused;
    write_under_faults(EIO, true);
}

static void short_transfers_change_nothing(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    kit_file expected = kit_file_of(&kit);
    dw_fault_arm((dw_fault_plan){.k = 0, .short_writes = true});
    dw_status status = dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, NULL);
    dw_checkpoint *checkpoint = NULL;
    if (status == DW_OK) status = dw_checkpoint_open(path, &checkpoint, NULL);
    if (status == DW_OK) status = dw_checkpoint_verify(checkpoint, 2, NULL);
    (void)dw_fault_disarm(NULL);
    assert_int_equal(status, DW_OK);
    kit_assert_holds(checkpoint, &kit);
    dw_checkpoint_close(checkpoint);
    kit_file found = kit_load(path);
    assert_true(same_files(&found, &expected));
    kit_free(&found);
    kit_free(&expected);
    kit_deinit(&kit);
}

static void a_failing_open_or_verification_gives_a_status_and_loses_nothing(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, NULL), DW_OK);
    bool was_hit = true;
    for (uint64_t k = 1; was_hit; k++) {
        assert_true(k < LOOP_MAX);
        dw_checkpoint *checkpoint = NULL;
        dw_error err = {0};
        dw_fault_arm((dw_fault_plan){.k = k, .system_errno = EIO});
        dw_status status = dw_checkpoint_open(path, &checkpoint, &err);
        bool opened = status == DW_OK;
        if (opened) status = dw_checkpoint_verify(checkpoint, 1, &err);
        (void)dw_fault_disarm(&was_hit);
        assert_true(opened == (checkpoint != NULL));
        if (was_hit != (status != DW_OK)) fail_msg("call %" PRIu64 ": %s", k, dw_status_name(status)); /* every call of these matters */
        if (opened) assert_true(dw_checkpoint_is_verified(checkpoint) == (status == DW_OK));
        if (status != DW_OK) assert_int_equal(dw_status_kind_of(status), DW_KIND_FAILED); /* a bad disk is not a corrupt file */
        dw_checkpoint_close(checkpoint);
    }
    kit_deinit(&kit);
}

static void a_verification_that_gets_no_threads_still_verifies(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, NULL), DW_OK);
    for (uint64_t k = 1; k <= 4; k++) {
        dw_checkpoint *checkpoint = NULL;
        bool was_hit = false;
        assert_int_equal(dw_checkpoint_open(path, &checkpoint, NULL), DW_OK);
        dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_THREAD, .k = k, .system_errno = EAGAIN, .from_then_on = true});
        dw_status status = dw_checkpoint_verify(checkpoint, 4, NULL);
        (void)dw_fault_disarm(&was_hit);
        assert_true(was_hit);
        assert_int_equal(status, DW_OK);
        assert_true(dw_checkpoint_is_verified(checkpoint));
        dw_checkpoint_close(checkpoint);
    }
    kit_deinit(&kit);
}

#endif

/* --- allocations of the JSON library: most of what a header costs --- */

static uint64_t allocations_left = UINT64_MAX;

static void *scarce_malloc(size_t size) {
    if (allocations_left == 0) return NULL;
    allocations_left--;
    return malloc(size);
}

/* Writing only: while reading, the library takes some of its failed allocations for errors of the text (header.c). */
static void a_writer_without_memory_for_its_header_says_so_and_leaves_nothing(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    kit_remove_folder();
    assert_int_equal(make_path(NULL), 0);
    json_set_alloc_funcs(scarce_malloc, free);
    dw_status status = DW_E_NO_MEMORY;
    uint64_t n_refused = 0;
    for (; status != DW_OK; n_refused++) {
        assert_true(n_refused < LOOP_MAX);
        allocations_left = n_refused;
        status = dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, NULL);
        allocations_left = UINT64_MAX;
        if (status != DW_OK && status != DW_E_NO_MEMORY) fail_msg("allocation %" PRIu64 ": %s", n_refused, dw_status_name(status));
        assert_int_equal(kit_count_files(), status == DW_OK ? 1 : 0);
    }
    assert_true(n_refused > 100);
    json_set_alloc_funcs(malloc, free);
    kit_deinit(&kit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#ifdef DW_FAULTS
        cmocka_unit_test(a_failing_write_leaves_the_old_file_or_the_new_and_nothing_else),
        cmocka_unit_test(a_system_that_fails_from_then_on_leaves_the_old_file_or_the_new),
        cmocka_unit_test(short_transfers_change_nothing),
        cmocka_unit_test(a_failing_open_or_verification_gives_a_status_and_loses_nothing),
        cmocka_unit_test(a_verification_that_gets_no_threads_still_verifies),
#endif
        cmocka_unit_test(a_writer_without_memory_for_its_header_says_so_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, make_path, clean_up);
}

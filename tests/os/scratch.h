/* scratch.h: a folder of its own for a test, and what is in it. */
#ifndef DW_TESTS_OS_SCRATCH_H
#define DW_TESTS_OS_SCRATCH_H

#include <stdbool.h>
#include <string.h>

#include "base/test.h"
#include "os/os.h"

enum { SCRATCH_PATH_BYTES = 1024 };
static char scratch_folder[SCRATCH_PATH_BYTES - 128];

/* A path in the folder; valid until the fourth call after it. */
static inline const char *scratch_path(const char *name) {
    static char paths[4][SCRATCH_PATH_BYTES];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    (void)snprintf(path, SCRATCH_PATH_BYTES, "%s/%s", scratch_folder, name);
    return path;
}

/* cmocka group set-up. */
static inline int scratch_make(void **state) {
    uint64_t tag = 0;
    dw_error err = {0};
    (void)state;
    if (dw_os_random(&tag, sizeof tag, &err) != DW_OK) return -1;
    (void)snprintf(scratch_folder, sizeof scratch_folder, "%s/scratch-%016llx", DW_TEST_BUILD, (unsigned long long)tag);
    return dw_os_make_folders(scratch_folder, &err) == DW_OK ? 0 : -1;
}

static inline bool scratch_remove_entry(void *context, const char *name) {
    (void)context;
    (void)remove(scratch_path(name));
    return true;
}

static inline int scratch_drop(void **state) {
    (void)state;
    if (dw_os_list(scratch_folder, scratch_remove_entry, NULL, NULL) != DW_OK) return -1;
    return remove(scratch_folder);
}

static inline bool scratch_count_entry(void *context, const char *name) {
    (void)name;
    ++*(unsigned *)context;
    return true;
}

static inline unsigned scratch_count(const char *folder) {
    unsigned count = 0;
    dw_error err = {0};
    assert_ok(dw_os_list(folder, scratch_count_entry, &count, &err), err);
    return count;
}

/* Open descriptors of this process: equal before and after = nothing leaked. 0 where the system does not tell. */
static inline unsigned open_descriptors(void) {
    const char *folder = dw_os_exists("/proc/self/fd") ? "/proc/self/fd" : "/dev/fd";
    return dw_os_exists(folder) ? scratch_count(folder) : 0;
}

#endif

/* os_internal.h: what the files of src/os share. Nobody else includes it.
 *
 * A name dw_os_sys_* is something that every system has but spells differently; os_linux.c and os_darwin.c define
 * each. */
#ifndef DW_OS_OS_INTERNAL_H
#define DW_OS_OS_INTERNAL_H

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "os/os.h"
#include "os/os_fault.h"

/* True when a test wants this call to fail; errno is then what it fails with. Use: `dw_os_faulted(KIND) ? -1 :
 * call(...)`. */
static inline bool dw_os_faulted(dw_fault_kind kind) {
    int injected = DW_FAULT_ERRNO(kind);
    (void)kind;
    if (injected) errno = injected;
    return injected != 0;
}

/* Data and size durable on the medium; -1 and errno. */
int dw_os_sys_sync(int fd);
int64_t dw_os_sys_mtime_ns(const struct stat *info);
/* Makes a hole of a range of a file; -1 and errno. */
int dw_os_sys_punch(int fd, uint64_t offset, uint64_t size);
/* Both ends close on exec; -1 and errno. */
int dw_os_sys_pipe(int ends[2]);
void dw_os_sys_name_this_thread(const char *name);
/* A condition whose deadlines are those of dw_os_monotonic_ns. Error numbers as of pthread. */
int dw_os_sys_condition_init(pthread_cond_t *condition);
int dw_os_sys_condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns);

#endif

/* os_darwin.c: what macOS spells in its own way. Written against Apple's headers and manual pages; not yet run by the
 * project's continuous integration, which has no Mac.
 *
 * macOS has no unprivileged write tracking, so dirty pages are found by comparing (region.h). */
#define _DARWIN_C_SOURCE

#include <fcntl.h>
#include <inttypes.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <mach/mach_vm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "os/os_internal.h"

/* --- files ------------------------------------------------------------------------------------------------------ */

dw_status dw_os_memory_object(const char *name, uint64_t size, dw_os_file *out, dw_error *err) {
    *out = DW_OS_FILE_NONE;
    (void)name;
    /* An unlinked temporary file, not shm_open(): Darwin's shared memory objects can be mapped but not read or
     * written. */
    char path[1024];
    const char *folder = getenv("TMPDIR");
    int length = snprintf(path, sizeof path, "%s/driftwood.XXXXXXXX", folder && *folder ? folder : "/tmp");
    if (length < 0 || (size_t)length >= sizeof path)
        return dw_fail_errno(err, ENAMETOOLONG, "cannot make a memory object");
    int fd = dw_os_faulted(DW_FAULT_OPEN) ? -1 : mkostemp(path, O_CLOEXEC);
    if (fd < 0) return dw_fail_system(err, errno, "cannot make a memory object");
    (void)unlink(path);
    dw_os_file file = {fd};
    dw_status status = dw_os_resize(file, size, err);
    if (status != DW_OK) {
        dw_os_close(&file);
        return status;
    }
    *out = file;
    return DW_OK;
}

/* fsync() only reaches the drive's cache; F_FULLFSYNC reaches the medium, where the file system knows it. */
int dw_os_sys_sync(int fd) { return fcntl(fd, F_FULLFSYNC) == 0 ? 0 : fsync(fd); }

int dw_os_sys_punch(int fd, uint64_t offset, uint64_t size) {
    struct fpunchhole hole = {.fp_offset = (off_t)offset, .fp_length = (off_t)size};
    return fcntl(fd, F_PUNCHHOLE, &hole);
}

int64_t dw_os_sys_mtime_ns(const struct stat *info) {
    return (int64_t)info->st_mtimespec.tv_sec * 1000000000 + info->st_mtimespec.tv_nsec;
}

/* There is no pipe2(): a program started by another thread between the calls inherits the ends. It only keeps them
 * open. */
int dw_os_sys_pipe(int ends[2]) {
    if (pipe(ends) != 0) return -1;
    if (fcntl(ends[0], F_SETFD, FD_CLOEXEC) == 0 && fcntl(ends[1], F_SETFD, FD_CLOEXEC) == 0) return 0;
    int kept = errno;
    (void)close(ends[0]);
    (void)close(ends[1]);
    errno = kept;
    return -1;
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

void dw_os_sys_name_this_thread(const char *name) { (void)pthread_setname_np(name); }

int dw_os_sys_condition_init(pthread_cond_t *condition) { return pthread_cond_init(condition, NULL); }

/* Conditions know only the adjustable clock here, so the wait is given as a length. */
int dw_os_sys_condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns) {
    uint64_t now = dw_os_monotonic_ns();
    uint64_t left = deadline_ns > now ? deadline_ns - now : 0;
    struct timespec length = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    return pthread_cond_timedwait_relative_np(condition, mutex, &length);
}

/* --- written and private pages: not offered ----------------------------------------------------------------------- */

bool dw_os_dirty_supported(void) { return false; }

dw_status dw_os_dirty_arm(void *address, size_t size, dw_error *err) {
    (void)address, (void)size;
    return dw_fail(err, DW_E_UNSUPPORTED, "this system has no write tracking");
}

dw_status dw_os_dirty_scan(void *address, size_t size, bool rearm,
                           void (*each)(void *context, void *run, size_t run_size), void *context, dw_error *err) {
    (void)address, (void)size, (void)rearm, (void)each, (void)context;
    return dw_fail(err, DW_E_UNSUPPORTED, "this system has no write tracking");
}

dw_status dw_os_private_pages(void *address, size_t size, void (*each)(void *context, void *run, size_t run_size),
                              void *context, dw_error *err) {
    (void)address, (void)size, (void)each, (void)context;
    return dw_fail(err, DW_E_UNSUPPORTED, "this system does not tell which pages are private copies");
}

/* --- memory use ------------------------------------------------------------------------------------------------- */

dw_status dw_os_memory_use_range(const void *address, size_t size, dw_os_memory_use *out, dw_error *err) {
    (void)err;
    *out = (dw_os_memory_use){0};
    uint64_t page = dw_os_page_bytes();
    mach_vm_address_t at = (mach_vm_address_t)(uintptr_t)address, end = at + size;
    while (at < end) {
        mach_vm_size_t length = 0;
        vm_region_extended_info_data_t info;
        mach_msg_type_number_t count = VM_REGION_EXTENDED_INFO_COUNT;
        mach_port_t object = MACH_PORT_NULL;
        kern_return_t result = mach_vm_region(mach_task_self(), &at, &length, VM_REGION_EXTENDED_INFO,
                                              (vm_region_info_t)&info, &count, &object);
        if (result != KERN_SUCCESS || at >= end) break; /* no map at or behind `at` */
        bool own = info.share_mode == SM_PRIVATE || info.share_mode == SM_COW;
        out->maps++;
        out->resident += info.pages_resident * page;
        out->proportional += info.pages_resident * page / (info.ref_count > 1 ? (uint64_t)info.ref_count : 1);
        if (own) out->anonymous += info.pages_dirtied * page;
        at += length;
    }
    return DW_OK;
}

dw_status dw_os_memory_use_now(dw_os_memory_use *out, dw_error *err) {
    dw_status status = dw_os_memory_use_range(NULL, SIZE_MAX, out, err);
    if (status != DW_OK) return status;
    task_vm_info_data_t info;
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    if (task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count) != KERN_SUCCESS)
        return dw_fail(err, DW_E_SYSTEM, "cannot ask for the memory use of this process");
    out->resident = info.resident_size;
    out->anonymous = info.internal;
    out->proportional = info.phys_footprint;
    return DW_OK;
}

/* --- random, environment ---------------------------------------------------------------------------------------- */

dw_status dw_os_random(void *out, size_t size, dw_error *err) {
    for (size_t done = 0; done < size;) {
        size_t part = (size_t)dw_min_u64(size - done, 256); /* the most that getentropy() gives */
        if (dw_os_faulted(DW_FAULT_RANDOM) || getentropy((char *)out + done, part) != 0)
            return dw_fail_system(err, errno, "cannot get random bytes");
        done += part;
    }
    return DW_OK;
}

unsigned dw_os_cpu_count(void) {
    int count = 0;
    size_t size = sizeof count;
    return sysctlbyname("hw.activecpu", &count, &size, NULL, 0) == 0 && count > 0 ? (unsigned)count : 1;
}

dw_status dw_os_executable_path(char *out, size_t out_size, dw_error *err) {
    char raw[4096];
    uint32_t raw_size = sizeof raw;
    if (out_size == 0) return dw_fail(err, DW_E_INVALID, "no room for a path");
    out[0] = '\0';
    if (_NSGetExecutablePath(raw, &raw_size) != 0)
        return dw_fail(err, DW_E_LIMIT, "the path of this program is too long");
    char *resolved = dw_os_faulted(DW_FAULT_STAT) ? NULL : realpath(raw, NULL);
    if (!resolved) return dw_fail_system(err, errno, "cannot find the path of this program");
    int length = snprintf(out, out_size, "%s", resolved);
    free(resolved);
    if (length < 0 || (size_t)length >= out_size) {
        out[0] = '\0';
        return dw_fail(err, DW_E_LIMIT, "the path of this program is longer than %zu bytes", out_size);
    }
    return DW_OK;
}

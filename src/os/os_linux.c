/* os_linux.c: what Linux spells in its own way: memory objects, memory use, random, names of threads and of
 * ourselves. */
#define _GNU_SOURCE

#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "os/os_internal.h"

/* --- files ------------------------------------------------------------------------------------------------------ */

dw_status dw_os_memory_object(const char *name, uint64_t size, dw_os_file *out, dw_error *err) {
    *out = DW_OS_FILE_NONE;
    int fd = dw_os_faulted(DW_FAULT_OPEN) ? -1 : memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) return dw_fail_system(err, errno, "cannot make a memory object");
    dw_os_file file = {fd};
    dw_status status = dw_os_resize(file, size, err);
    /* Sealed against shrinking: touching a map past the end of its file would kill the process. */
    if (status == DW_OK && (dw_os_faulted(DW_FAULT_RESIZE) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0))
        status = dw_fail_system(err, errno, "cannot seal a memory object");
    if (status != DW_OK) {
        dw_os_close(&file);
        return status;
    }
    *out = file;
    return DW_OK;
}

int dw_os_sys_sync(int fd) { return fdatasync(fd); }
int dw_os_sys_punch(int fd, uint64_t offset, uint64_t size) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size);
}
int64_t dw_os_sys_mtime_ns(const struct stat *info) {
    return (int64_t)info->st_mtim.tv_sec * 1000000000 + info->st_mtim.tv_nsec;
}
int dw_os_sys_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

/* --- threads ---------------------------------------------------------------------------------------------------- */

void dw_os_sys_name_this_thread(const char *name) {
    char short_name[16]; /* the kernel's TASK_COMM_LEN; a longer name would be refused, not cut */
    (void)snprintf(short_name, sizeof short_name, "%.15s", name);
    (void)pthread_setname_np(pthread_self(), short_name);
}

int dw_os_sys_condition_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    int failure = pthread_condattr_init(&attributes);
    if (failure) return failure;
    failure = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (!failure) failure = pthread_cond_init(condition, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return failure;
}

int dw_os_sys_condition_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, uint64_t deadline_ns) {
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
    return pthread_cond_timedwait(condition, mutex, &until);
}

/* --- memory use ------------------------------------------------------------------------------------------------- */

/* Adds up the maps of a smaps file that touch [start, end). */
static dw_status add_smaps(const char *path, uint64_t start, uint64_t end, dw_os_memory_use *use, dw_error *err) {
    FILE *stream = dw_os_faulted(DW_FAULT_OPEN) ? NULL : fopen(path, "re");
    if (!stream) return dw_fail_system(err, errno, "cannot open %s", path);
    char *line = NULL;
    size_t capacity = 0;
    bool inside = false;
    while (getline(&line, &capacity, stream) >= 0) {
        uint64_t from, to, kib;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
            inside = from < end && to > start;
            if (inside) use->maps++;
        } else if (!inside) {
            continue;
        } else if (sscanf(line, "Rss: %" SCNu64, &kib) == 1) {
            use->resident += kib * 1024;
        } else if (sscanf(line, "Pss: %" SCNu64, &kib) == 1) {
            use->proportional += kib * 1024;
        } else if (sscanf(line, "Anonymous: %" SCNu64, &kib) == 1) {
            use->anonymous += kib * 1024;
        }
    }
    dw_status status = ferror(stream) ? dw_fail(err, DW_E_IO, "cannot read %s", path) : DW_OK;
    free(line);
    (void)fclose(stream);
    return status;
}

dw_status dw_os_memory_use_now(dw_os_memory_use *out, dw_error *err) {
    *out = (dw_os_memory_use){0};
    /* The rollup is one summary: cheap for its sums, silent about the number of maps. */
    dw_status status = add_smaps("/proc/self/smaps_rollup", 0, UINT64_MAX, out, err);
    if (status != DW_OK) return status;
    dw_os_memory_use count = {0};
    status = add_smaps("/proc/self/maps", 0, UINT64_MAX, &count, err);
    out->maps = count.maps;
    return status;
}

dw_status dw_os_memory_use_range(const void *address, size_t size, dw_os_memory_use *out, dw_error *err) {
    *out = (dw_os_memory_use){0};
    return add_smaps("/proc/self/smaps", (uintptr_t)address, (uintptr_t)address + size, out, err);
}

/* --- random, environment ---------------------------------------------------------------------------------------- */

dw_status dw_os_random(void *out, size_t size, dw_error *err) {
    size_t done = 0;
    while (done < size) {
        ssize_t moved = dw_os_faulted(DW_FAULT_RANDOM) ? -1 : getrandom((char *)out + done, size - done, 0);
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return dw_fail_system(err, errno, "cannot get random bytes");
        done += (size_t)moved;
    }
    return DW_OK;
}

unsigned dw_os_cpu_count(void) {
    cpu_set_t allowed;
    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0 && CPU_COUNT(&allowed) > 0)
        return (unsigned)CPU_COUNT(&allowed);
    long online = sysconf(_SC_NPROCESSORS_ONLN); /* more processors than a cpu_set_t holds */
    return online > 0 ? (unsigned)online : 1;
}

dw_status dw_os_executable_path(char *out, size_t out_size, dw_error *err) {
    if (out_size == 0) return dw_fail(err, DW_E_INVALID, "no room for a path");
    out[0] = '\0';
    ssize_t length = dw_os_faulted(DW_FAULT_STAT) ? -1 : readlink("/proc/self/exe", out, out_size);
    if (length < 0) return dw_fail_system(err, errno, "cannot find the path of this program");
    if ((size_t)length >= out_size) {
        out[0] = '\0';
        return dw_fail(err, DW_E_LIMIT, "the path of this program is longer than %zu bytes", out_size);
    }
    out[length] = '\0';
    return DW_OK;
}

/* os_posix.c: files, folders, streams, clocks and environment, as POSIX makes them equal everywhere. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "os/os_internal.h"

/* Linux moves at most this much in one call; others refuse more than INT_MAX. */
#define TRANSFER_BYTES_MAX (UINT64_C(1) << 30)

/* --- open, close ------------------------------------------------------------------------------------------------ */

static int open_retrying(const char *path, int flags, mode_t mode) {
    int fd;
    do {
        fd = dw_os_faulted(DW_FAULT_OPEN) ? -1 : open(path, flags, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

dw_status dw_os_open(const char *path, dw_os_open_mode mode, dw_os_file *out, dw_error *err) {
    static const int mode_flags[] = {
        [DW_OS_READ] = O_RDONLY,
        [DW_OS_READ_WRITE] = O_RDWR,
        [DW_OS_CREATE_NEW] = O_RDWR | O_CREAT | O_EXCL,
        [DW_OS_CREATE_TRUNCATE] = O_RDWR | O_CREAT | O_TRUNC,
        [DW_OS_APPEND] = O_WRONLY | O_CREAT | O_APPEND,
    };
    *out = DW_OS_FILE_NONE;
    if ((unsigned)mode >= sizeof mode_flags / sizeof mode_flags[0])
        return dw_fail(err, DW_E_INVALID, "open mode %d", (int)mode);
    int fd = open_retrying(path, mode_flags[mode] | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) return dw_fail_errno(err, errno, "cannot open %s", path);
    out->fd = fd;
    return DW_OK;
}

void dw_os_close(dw_os_file *file) {
    if (file->fd >= 0) (void)close(file->fd); /* not retried: the descriptor is gone even after EINTR */
    file->fd = -1;
}

dw_status dw_os_duplicate(dw_os_file file, dw_os_file *out, dw_error *err) {
    *out = DW_OS_FILE_NONE;
    int fd = dw_os_faulted(DW_FAULT_OPEN) ? -1 : fcntl(file.fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) return dw_fail_system(err, errno, "cannot duplicate a file descriptor");
    out->fd = fd;
    return DW_OK;
}

/* --- read, write, size, sync ------------------------------------------------------------------------------------ */

static size_t transfer_size(uint64_t left) { return (size_t)DW_FAULT_TRANSFER(dw_min_u64(left, TRANSFER_BYTES_MAX)); }

/* File offsets are signed: what does not fit must be refused here, not become negative. */
static dw_status check_file_range(uint64_t offset, uint64_t size, dw_error *err) {
    if (dw_in_range(offset, size, INT64_MAX)) return DW_OK;
    return dw_fail(err, DW_E_RANGE, "file range at %" PRIu64 " of %" PRIu64 " bytes is too large", offset, size);
}

dw_status dw_os_read_at(dw_os_file file, uint64_t offset, void *data, size_t size, dw_error *err) {
    dw_status status = check_file_range(offset, size, err);
    if (status != DW_OK) return status;
    uint64_t done = 0;
    while (done < size) {
        size_t ask = transfer_size(size - done);
        ssize_t moved = dw_os_faulted(DW_FAULT_READ) ? -1
                                                     : pread(file.fd, (char *)data + done, ask, (off_t)(offset + done));
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return dw_fail_system(err, errno, "cannot read %zu bytes at %" PRIu64, size, offset);
        if (moved == 0)
            return dw_fail_at(err, DW_E_TRUNCATED, offset + done, "file ends at %" PRIu64 ", wanted up to %" PRIu64,
                              offset + done, offset + size);
        done += (uint64_t)moved;
    }
    return DW_OK;
}

dw_status dw_os_write_at(dw_os_file file, uint64_t offset, const void *data, size_t size, dw_error *err) {
    dw_status status = check_file_range(offset, size, err);
    if (status != DW_OK) return status;
    uint64_t done = 0;
    while (done < size) {
        size_t ask = transfer_size(size - done);
        ssize_t moved = dw_os_faulted(DW_FAULT_WRITE)
                            ? -1
                            : pwrite(file.fd, (const char *)data + done, ask, (off_t)(offset + done));
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) return dw_fail_system(err, errno, "cannot write %zu bytes at %" PRIu64, size, offset);
        if (moved == 0) return dw_fail(err, DW_E_IO, "wrote nothing at %" PRIu64, offset + done);
        done += (uint64_t)moved;
    }
    return DW_OK;
}

uint64_t dw_os_descriptors_max(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == 0) return 1;
    return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : (uint64_t)limit.rlim_cur;
}

static dw_status file_info(dw_os_file file, struct stat *info, dw_error *err) {
    if (dw_os_faulted(DW_FAULT_STAT) || fstat(file.fd, info) != 0)
        return dw_fail_system(err, errno, "cannot look at an open file");
    return DW_OK;
}

dw_status dw_os_size(dw_os_file file, uint64_t *out, dw_error *err) {
    struct stat info;
    *out = 0;
    dw_status status = file_info(file, &info, err);
    if (status == DW_OK) *out = (uint64_t)info.st_size;
    return status;
}

dw_status dw_os_occupied(dw_os_file file, uint64_t *out, dw_error *err) {
    struct stat info;
    *out = 0;
    dw_status status = file_info(file, &info, err);
    /* The unit of st_blocks, whatever the file system's block is. */
    if (status == DW_OK) *out = (uint64_t)info.st_blocks * 512u;
    return status;
}

dw_status dw_os_identify(dw_os_file file, dw_os_identity *out, dw_error *err) {
    struct stat info;
    *out = (dw_os_identity){0};
    dw_status status = file_info(file, &info, err);
    if (status != DW_OK) return status;
    *out = (dw_os_identity){.device = (uint64_t)info.st_dev, .inode = (uint64_t)info.st_ino,
                            .size = (uint64_t)info.st_size, .mtime_ns = dw_os_sys_mtime_ns(&info)};
    return DW_OK;
}

dw_status dw_os_check_own(dw_os_file file, dw_error *err) {
    struct stat info;
    dw_status status = file_info(file, &info, err);
    if (status != DW_OK) return status;
    if (S_ISREG(info.st_mode) && info.st_uid == geteuid() && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return DW_OK;
    return dw_fail(err, DW_E_DENIED, "the file is not this user's alone");
}

dw_status dw_os_resize(dw_os_file file, uint64_t size, dw_error *err) {
    dw_status status = check_file_range(0, size, err);
    if (status != DW_OK) return status;
    int result;
    do {
        result = dw_os_faulted(DW_FAULT_RESIZE) ? -1 : ftruncate(file.fd, (off_t)size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? DW_OK : dw_fail_system(err, errno, "cannot make a file %" PRIu64 " bytes long", size);
}

dw_status dw_os_discard(dw_os_file file, uint64_t offset, uint64_t size, dw_error *err) {
    dw_status status = check_file_range(offset, size, err);
    if (status != DW_OK || size == 0) return status;
    int result;
    do {
        result = dw_os_faulted(DW_FAULT_RESIZE) ? -1 : dw_os_sys_punch(file.fd, offset, size);
    } while (result != 0 && errno == EINTR);
    return result == 0 ? DW_OK : dw_fail_system(err, errno, "cannot give back %" PRIu64 " bytes of a file", size);
}

dw_status dw_os_sync(dw_os_file file, dw_error *err) {
    /* Not retried, EINTR included: after a failed sync the kernel may have dropped the pages, and a second call would
     * lie. */
    if (dw_os_faulted(DW_FAULT_SYNC) || dw_os_sys_sync(file.fd) != 0)
        return dw_fail_system(err, errno, "cannot sync a file");
    return DW_OK;
}

/* --- names ------------------------------------------------------------------------------------------------------ */

dw_status dw_os_sync_folder(const char *folder, dw_error *err) {
    int fd = open_retrying(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0) return dw_fail_errno(err, errno, "cannot open folder %s", folder);
    dw_status status = DW_OK;
    if (dw_os_faulted(DW_FAULT_SYNC) || fsync(fd) != 0)
        status = dw_fail_system(err, errno, "cannot sync folder %s", folder);
    (void)close(fd);
    return status;
}

/* Makes a change of names in the folder of `path` durable. */
static dw_status sync_folder_of(const char *path, dw_error *err) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    char folder[PATH_MAX];
    if (length >= sizeof folder) return dw_fail_errno(err, ENAMETOOLONG, "cannot sync the folder of %.60s", path);
    memcpy(folder, path, length);
    folder[length] = '\0';
    return dw_os_sync_folder(!slash ? "." : length == 0 ? "/" : folder, err);
}

dw_status dw_os_replace(const char *from, const char *to, dw_error *err) {
    if (dw_os_faulted(DW_FAULT_NAME) || rename(from, to) != 0)
        return dw_fail_errno(err, errno, "cannot rename to %s", to);
    return sync_folder_of(to, err);
}

dw_status dw_os_remove(const char *path, dw_error *err) {
    if (dw_os_faulted(DW_FAULT_NAME) || unlink(path) != 0) return dw_fail_errno(err, errno, "cannot remove %s", path);
    return DW_OK;
}

static dw_status make_folder(const char *path, dw_error *err) {
    if (!dw_os_faulted(DW_FAULT_NAME) && mkdir(path, 0700) == 0) return DW_OK;
    int failure = errno;
    struct stat info;
    /* A parent that exists may answer EROFS or EACCES rather than EEXIST. */
    bool is_there = stat(path, &info) == 0;
    if (is_there && S_ISDIR(info.st_mode)) return DW_OK;
    return dw_fail_errno(err, is_there ? ENOTDIR : failure, "cannot make folder %s", path);
}

dw_status dw_os_make_folders(const char *path, dw_error *err) {
    char prefix[PATH_MAX];
    size_t length = strlen(path);
    if (length == 0) return dw_fail(err, DW_E_INVALID, "empty folder name");
    if (length >= sizeof prefix) return dw_fail_errno(err, ENAMETOOLONG, "cannot make folder %.60s", path);
    memcpy(prefix, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (prefix[i] != '/') continue;
        prefix[i] = '\0';
        dw_status status = make_folder(prefix, err);
        if (status != DW_OK) return status;
        prefix[i] = '/';
    }
    return make_folder(prefix, err);
}

bool dw_os_exists(const char *path) { return access(path, F_OK) == 0; }

dw_status dw_os_list(const char *folder, bool (*each)(void *context, const char *name), void *context, dw_error *err) {
    DIR *handle = dw_os_faulted(DW_FAULT_OPEN) ? NULL : opendir(folder);
    if (!handle) return dw_fail_errno(err, errno, "cannot list %s", folder);
    dw_status status = DW_OK;
    for (;;) {
        errno = 0;
        struct dirent *entry = dw_os_faulted(DW_FAULT_READ) ? NULL : readdir(handle);
        if (!entry) {
            if (errno != 0) status = dw_fail_system(err, errno, "cannot list %s", folder);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!each(context, entry->d_name)) break;
    }
    (void)closedir(handle);
    return status;
}

dw_status dw_os_cache_folder(char *out, size_t out_size, dw_error *err) {
    const char *own = getenv("DRIFTWOOD_CACHE"), *shared = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length;
    if (own && *own) length = snprintf(out, out_size, "%s", own);
    else if (shared && *shared) length = snprintf(out, out_size, "%s/driftwood", shared);
    else if (home && *home) length = snprintf(out, out_size, "%s/.cache/driftwood", home);
    else return dw_fail(err, DW_E_NOT_FOUND, "no cache folder: set DRIFTWOOD_CACHE or HOME");
    if (length < 0 || (size_t)length >= out_size)
        return dw_fail(err, DW_E_LIMIT, "the cache folder's name is longer than %zu bytes", out_size);
    return DW_OK;
}

/* --- whole files ------------------------------------------------------------------------------------------------ */

/* The check and the bytes are of the same open file: nothing can be put in its place between them. */
static dw_status read_whole_file(const char *path, uint64_t size_max, bool own, uint8_t **out, size_t *out_size,
                                 dw_error *err) {
    dw_os_file file = DW_OS_FILE_NONE;
    uint8_t *data = NULL;
    uint64_t size = 0;
    *out = NULL;
    *out_size = 0;
    dw_status status = dw_os_open(path, DW_OS_READ, &file, err);
    if (status != DW_OK) goto out;
    if (own) status = dw_os_check_own(file, err);
    if (status == DW_OK) status = dw_os_size(file, &size, err);
    if (status == DW_OK && (size > size_max || size >= SIZE_MAX))
        status = dw_fail(err, DW_E_LIMIT, "%" PRIu64 " bytes, more than the %" PRIu64 " allowed", size, size_max);
    if (status == DW_OK && !(data = malloc((size_t)size + 1)))
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for %" PRIu64 " bytes", size);
    if (status == DW_OK) status = dw_os_read_at(file, 0, data, (size_t)size, err);
    if (status != DW_OK) {
        status = dw_error_prefix(err, status, "%s", path);
        goto out;
    }
    data[size] = 0;
    *out = data;
    *out_size = (size_t)size;
    data = NULL;
out:
    free(data);
    dw_os_close(&file);
    return status;
}

dw_status dw_os_read_file(const char *path, uint64_t size_max, uint8_t **out, size_t *out_size, dw_error *err) {
    return read_whole_file(path, size_max, false, out, out_size, err);
}

dw_status dw_os_read_own_file(const char *path, uint64_t size_max, uint8_t **out, size_t *out_size, dw_error *err) {
    return read_whole_file(path, size_max, true, out, out_size, err);
}

dw_status dw_os_write_file(const char *path, const void *data, size_t size, dw_error *err) {
    dw_os_file file = DW_OS_FILE_NONE;
    char temporary[PATH_MAX];
    uint64_t tag = 0;
    bool made = false;
    /* A random name: two writers of one file never share a temporary one, and one left by a crash is never in the
     * way. */
    dw_status status = dw_os_random(&tag, sizeof tag, err);
    if (status != DW_OK) return status;
    int length = snprintf(temporary, sizeof temporary, "%s.%016" PRIx64 ".tmp", path, tag);
    if (length < 0 || (size_t)length >= sizeof temporary)
        return dw_fail_errno(err, ENAMETOOLONG, "cannot write %.60s", path);

    status = dw_os_open(temporary, DW_OS_CREATE_NEW, &file, err);
    if (status != DW_OK) goto out;
    made = true;
    status = dw_os_write_at(file, 0, data, size, err);
    if (status == DW_OK) status = dw_os_sync(file, err);
    if (status != DW_OK) {
        status = dw_error_prefix(err, status, "%s", path);
        goto out;
    }
    if (dw_os_faulted(DW_FAULT_NAME) || rename(temporary, path) != 0) {
        status = dw_fail_errno(err, errno, "cannot rename to %s", path);
        goto out;
    }
    made = false; /* from here on the new file stands under its name, whatever happens */
    status = sync_folder_of(path, err);
out:
    dw_os_close(&file);
    if (made) (void)unlink(temporary);
    return status;
}

/* --- streams, time, environment --------------------------------------------------------------------------------- */

dw_status dw_os_write_stream(int stream, const void *data, size_t size, dw_error *err) {
    if (stream != STDOUT_FILENO && stream != STDERR_FILENO) return dw_fail(err, DW_E_INVALID, "stream %d", stream);
    size_t done = 0;
    while (done < size) {
        size_t ask = transfer_size(size - done);
        ssize_t moved = dw_os_faulted(DW_FAULT_WRITE) ? -1 : write(stream, (const char *)data + done, ask);
        if (moved >= 0) {
            done += (size_t)moved;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            /* Somebody made the terminal non-blocking; wait until it takes more. */
            struct pollfd ready = {.fd = stream, .events = POLLOUT};
            (void)poll(&ready, 1, -1);
        } else if (errno != EINTR) {
            return dw_fail_system(err, errno, "cannot write to standard %s",
                                  stream == STDOUT_FILENO ? "output" : "error");
        }
    }
    return DW_OK;
}

static uint64_t clock_ns(clockid_t clock) {
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t dw_os_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t dw_os_realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

void dw_os_sleep(uint64_t ns) {
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    (void)nanosleep(&time, NULL);
}

const char *dw_os_environment(const char *name) { return getenv(name); }
bool dw_os_is_terminal(int stream) { return isatty(stream) == 1; }

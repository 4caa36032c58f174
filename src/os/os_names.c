/* os_names.c: what a path names, and locks on names. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#else
#define _DEFAULT_SOURCE
#endif

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "os/os_internal.h"

enum { LINKS_MAX = 16 };

/* The folder of `path` without links, and behind it the last name as it is. */
static dw_status resolve_folder(const char *path, char out[DW_OS_PATH_BYTES], dw_error *err) {
    char folder[DW_OS_PATH_BYTES], real[PATH_MAX];
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    memcpy(folder, path, length);
    folder[length] = '\0';
    const char *of = !slash ? "." : length == 0 ? "/" : folder;
    if (dw_os_faulted(DW_FAULT_NAME) || !realpath(of, real))
        return dw_fail_errno(err, errno, "cannot find the folder %s", of);
    int used = snprintf(out, DW_OS_PATH_BYTES, "%s/%s", strcmp(real, "/") == 0 ? "" : real, name);
    if (used < 0 || used >= DW_OS_PATH_BYTES) return dw_fail_errno(err, ENAMETOOLONG, "%.60s", path);
    return DW_OK;
}

/* Replaces the link at `path` by what it points to, which need not be there. */
static dw_status follow_link(char path[DW_OS_PATH_BYTES], dw_error *err) {
    char target[DW_OS_PATH_BYTES], whole[DW_OS_PATH_BYTES];
    ssize_t length = dw_os_faulted(DW_FAULT_NAME) ? -1 : readlink(path, target, sizeof target - 1);
    if (length < 0) return dw_fail_errno(err, errno, "cannot follow the link %s", path);
    target[length] = '\0';
    int folder = target[0] == '/' ? 0 : (int)(strrchr(path, '/') - path) + 1; /* resolve_folder has put a slash */
    int used = snprintf(whole, sizeof whole, "%.*s%s", folder, path, target);
    if (used < 0 || (size_t)used >= sizeof whole) return dw_fail_errno(err, ENAMETOOLONG, "%.60s", path);
    memcpy(path, whole, (size_t)used + 1);
    return DW_OK;
}

static dw_os_path_kind kind_of_mode(mode_t mode) {
    if (S_ISREG(mode)) return DW_OS_PATH_FILE;
    return S_ISDIR(mode) ? DW_OS_PATH_FOLDER : DW_OS_PATH_OTHER;
}

dw_status dw_os_resolve(const char *path, char out[DW_OS_PATH_BYTES], dw_os_path_kind *kind, dw_error *err) {
    char now[DW_OS_PATH_BYTES];
    struct stat info;
    *kind = DW_OS_PATH_ABSENT;
    size_t length = strlen(path);
    if (length == 0) return dw_fail(err, DW_E_INVALID, "an empty file name");
    if (length >= sizeof now) return dw_fail_errno(err, ENAMETOOLONG, "%.60s", path);
    if (path[length - 1] == '/') return dw_fail(err, DW_E_INVALID, "%s names a folder", path);
    memcpy(now, path, length + 1);
    for (int links = 0;; links++) {
        dw_status status = resolve_folder(now, out, err);
        if (status != DW_OK) return status;
        if (dw_os_faulted(DW_FAULT_STAT) || lstat(out, &info) != 0) {
            return errno == ENOENT ? DW_OK : dw_fail_errno(err, errno, "cannot look at %s", out);
        }
        if (!S_ISLNK(info.st_mode)) {
            *kind = kind_of_mode(info.st_mode);
            return DW_OK;
        }
        if (links == LINKS_MAX) return dw_fail_errno(err, ELOOP, "%s", path);
        memcpy(now, out, strlen(out) + 1);
        status = follow_link(now, err);
        if (status != DW_OK) return status;
    }
}

dw_status dw_os_try_lock(const char *path, dw_os_file *out, dw_error *err) {
    *out = DW_OS_FILE_NONE;
    int fd = dw_os_faulted(DW_FAULT_OPEN) ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
    if (fd < 0) return dw_fail_errno(err, errno, "cannot open the lock %s", path);
    int result;
    do {
        result = dw_os_faulted(DW_FAULT_OPEN) ? -1 : flock(fd, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result == 0) {
        out->fd = fd;
        return DW_OK;
    }
    int failure = errno;
    (void)close(fd);
    if (failure == EWOULDBLOCK) return dw_fail(err, DW_E_BUSY, "the lock %s is taken", path);
    return dw_fail_errno(err, failure, "cannot lock %s", path);
}

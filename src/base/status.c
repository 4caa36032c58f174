/* status.c: the status table as text, and the one place that words an error. */
#include "base/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

typedef struct status_row {
    dw_status status;
    dw_status_kind kind;
    const char *name;
    const char *text;
} status_row;

#define KIND_ok DW_KIND_OK
#define KIND_refused DW_KIND_REFUSED
#define KIND_failed DW_KIND_FAILED
#define KIND_corrupt DW_KIND_CORRUPT

static const status_row status_rows[] = {
#define X(name, number, kind, text) {name, KIND_##kind, #name, text},
    DW_STATUS_TABLE(X)
#undef X
};

static const status_row *find_status(dw_status status) {
    for (size_t i = 0; i < sizeof status_rows / sizeof status_rows[0]; i++) {
        if (status_rows[i].status == status) return &status_rows[i];
    }
    return NULL;
}

const char *dw_status_name(dw_status status) {
    const status_row *row = find_status(status);
    return row ? row->name : "DW_E_?";
}

const char *dw_status_text(dw_status status) {
    const status_row *row = find_status(status);
    return row ? row->text : "unknown status";
}

dw_status_kind dw_status_kind_of(dw_status status) {
    const status_row *row = find_status(status);
    return row ? row->kind : DW_KIND_FAILED;
}

/* Our own wording: strerror() follows the locale and is not thread-safe everywhere, strerror_r() has two signatures. */
typedef struct errno_row {
    int system_errno;
    dw_status status;
    const char *text;
} errno_row;

static const errno_row errno_rows[] = {
    {ENOENT, DW_E_NOT_FOUND, "no such file or folder"},
    {ENOTDIR, DW_E_NOT_FOUND, "a part of the path is not a folder"},
    {EEXIST, DW_E_EXISTS, "already exists"},
    {ENOTEMPTY, DW_E_EXISTS, "folder not empty"},
    {EACCES, DW_E_DENIED, "permission denied"},
    {EPERM, DW_E_DENIED, "operation not permitted"},
    {EROFS, DW_E_DENIED, "read-only file system"},
    {EISDIR, DW_E_INVALID, "is a folder"},
    {ENAMETOOLONG, DW_E_INVALID, "name too long"},
    {ELOOP, DW_E_INVALID, "too many symbolic links"},
    {EINVAL, DW_E_SYSTEM, "invalid argument"},
    {EBUSY, DW_E_BUSY, "device or resource busy"},
    {ETXTBSY, DW_E_BUSY, "program file is being executed"},
    {ENOMEM, DW_E_NO_MEMORY, "out of memory, address space or kernel maps"},
    {EAGAIN, DW_E_SYSTEM, "resource temporarily unavailable"},
    {EMFILE, DW_E_SYSTEM, "too many open files in this process"},
    {ENFILE, DW_E_SYSTEM, "too many open files in the system"},
    {ENOSPC, DW_E_NO_SPACE, "no space left on device"},
    {EDQUOT, DW_E_NO_SPACE, "disk quota exceeded"},
    {EFBIG, DW_E_NO_SPACE, "file too large"},
    {EIO, DW_E_IO, "input/output error"},
    {ENXIO, DW_E_IO, "no such device or address"},
    {ENODEV, DW_E_UNSUPPORTED, "no such device"},
    {EPIPE, DW_E_IO, "broken pipe"},
    {ESPIPE, DW_E_IO, "not a seekable file"},
    {EBADF, DW_E_SYSTEM, "bad file descriptor"},
    {EFAULT, DW_E_SYSTEM, "bad address"},
    {EINTR, DW_E_SYSTEM, "interrupted"},
    {EXDEV, DW_E_SYSTEM, "crosses file systems"},
    {ENOSYS, DW_E_UNSUPPORTED, "not offered by this system"},
    {EOPNOTSUPP, DW_E_UNSUPPORTED, "operation not supported"},
    {ENOEXEC, DW_E_FORMAT, "not an executable file"},
    {ETIMEDOUT, DW_E_IO, "timed out"},
};

/* Starts a new error record; the text stays empty. */
static void reset_error(dw_error *err, dw_status status, int system_errno, uint64_t offset) {
    err->status = status;
    err->system_errno = (int32_t)system_errno;
    err->offset = offset;
    err->text[0] = '\0';
}

dw_status dw_fail(dw_error *err, dw_status status, const char *format, ...) {
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        reset_error(err, status, 0, DW_NO_OFFSET);
        (void)vsnprintf(err->text, sizeof err->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

dw_status dw_fail_at(dw_error *err, dw_status status, uint64_t offset, const char *format, ...) {
    if (err) {
        va_list arguments;
        va_start(arguments, format);
        reset_error(err, status, 0, offset);
        (void)vsnprintf(err->text, sizeof err->text, format, arguments);
        va_end(arguments);
    }
    return status;
}

static const errno_row *find_errno(int system_errno) {
    for (size_t i = 0; i < sizeof errno_rows / sizeof errno_rows[0]; i++) {
        if (errno_rows[i].system_errno == system_errno) return &errno_rows[i];
    }
    return NULL;
}

/* Words an error of a system call. */
DW_PRINTF(4, 0)
static dw_status fail_with(dw_error *err, dw_status status, int system_errno, const char *format, va_list arguments) {
    if (!err) return status;
    const errno_row *row = find_errno(system_errno);
    reset_error(err, status, system_errno, DW_NO_OFFSET);
    (void)vsnprintf(err->text, sizeof err->text, format, arguments);
    size_t used = strlen(err->text);
    if (row) (void)snprintf(err->text + used, sizeof err->text - used, ": %s", row->text);
    else (void)snprintf(err->text + used, sizeof err->text - used, ": system error %d", system_errno);
    return status;
}

dw_status dw_fail_errno(dw_error *err, int system_errno, const char *format, ...) {
    const errno_row *row = find_errno(system_errno);
    va_list arguments;
    va_start(arguments, format);
    dw_status status = fail_with(err, row ? row->status : DW_E_SYSTEM, system_errno, format, arguments);
    va_end(arguments);
    return status;
}

dw_status dw_fail_system(dw_error *err, int system_errno, const char *format, ...) {
    const errno_row *row = find_errno(system_errno);
    dw_status chosen = row ? row->status : DW_E_SYSTEM;
    bool wrong_file = system_errno == EISDIR || system_errno == ENODEV;
    if (dw_status_kind_of(chosen) == DW_KIND_REFUSED && !wrong_file) chosen = DW_E_SYSTEM;
    va_list arguments;
    va_start(arguments, format);
    dw_status status = fail_with(err, chosen, system_errno, format, arguments);
    va_end(arguments);
    return status;
}

dw_status dw_error_prefix(dw_error *err, dw_status status, const char *format, ...) {
    if (!err) return status;
    char old[DW_ERROR_TEXT_BYTES];
    memcpy(old, err->text, sizeof old);
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    size_t used = strlen(err->text);
    (void)snprintf(err->text + used, sizeof err->text - used, ": %s", old);
    return err->status;
}

/* status.h: what every fallible function returns, and the detail that may come with it.
 *
 * Three kinds of trouble are never mixed:
 *   refused  the caller or the guest asked for something it may not have; nothing is wrong with the machine or the data
 *   failed   the environment did not deliver (system call, memory, device)
 *   corrupt  data that should be good is not (checkpoint, model file, journal)
 *
 * Rules
 * 1. 0 is success; every other status is negative. The numbers are stable: they appear in files, logs and exit codes.
 * 2. A status is never dropped: DW_MUST_USE makes the compiler say so.
 * 3. `dw_error *err` is optional everywhere (NULL = not interested). A function that fails fills it once, at the
 *    place that knows most; callers only pass it on. It is plain memory of the caller: no thread-locals, because
 *    actors move between threads.
 */
#ifndef DW_BASE_STATUS_H
#define DW_BASE_STATUS_H

#include <stdint.h>

#if defined(__GNUC__) || defined(__clang__)
#define DW_MUST_USE __attribute__((warn_unused_result))
#define DW_PRINTF(fmt_index, first_arg) __attribute__((format(printf, fmt_index, first_arg)))
#else
#define DW_MUST_USE
#define DW_PRINTF(fmt_index, first_arg)
#endif

/* X(name, number, kind, text) */
#define DW_STATUS_TABLE(X)                                                                          \
    X(DW_OK, 0, ok, "ok")                                                                            \
    /* refused: -1 .. -99 */                                                                         \
    X(DW_E_INVALID, -1, refused, "invalid argument")                                                 \
    X(DW_E_RANGE, -2, refused, "value or address out of range")                                      \
    X(DW_E_NOT_FOUND, -3, refused, "not found")                                                      \
    X(DW_E_EXISTS, -4, refused, "already exists")                                                    \
    X(DW_E_BUSY, -5, refused, "in use by an operation that has not ended")                           \
    X(DW_E_LIMIT, -6, refused, "a configured limit is reached")                                      \
    X(DW_E_STATE, -7, refused, "not possible in the present state")                                  \
    X(DW_E_UNSUPPORTED, -8, refused, "not supported")                                                \
    X(DW_E_DENIED, -9, refused, "not permitted")                                                     \
    X(DW_E_CANCELLED, -10, refused, "cancelled")                                                     \
    X(DW_E_DEADLINE, -11, refused, "deadline passed")                                                \
    X(DW_E_MISMATCH, -12, refused, "belongs to another program, model or build")                     \
    X(DW_E_VERSION, -13, refused, "written by a newer version")                                      \
    X(DW_E_BAD_HANDLE, -14, refused, "handle is forged, closed or of another kind")                  \
    X(DW_E_TRAP, -15, refused, "the guest trapped")                                                  \
    X(DW_E_FULL, -16, refused, "no room left (context, queue or buffer)")                            \
    X(DW_E_EXIT, -17, refused, "the guest called proc_exit")                                         \
    /* failed: -100 .. -199 */                                                                       \
    X(DW_E_NO_MEMORY, -100, failed, "out of memory")                                                 \
    X(DW_E_IO, -101, failed, "input or output failed")                                               \
    X(DW_E_SYSTEM, -102, failed, "a system call failed")                                             \
    X(DW_E_DEVICE, -103, failed, "the device failed")                                                \
    X(DW_E_NO_SPACE, -104, failed, "no space left on device")                                        \
    X(DW_E_INTERNAL, -105, failed, "internal error, please report it")                               \
    /* corrupt: -200 .. -299 */                                                                      \
    X(DW_E_CORRUPT, -200, corrupt, "data is corrupt")                                                \
    X(DW_E_TRUNCATED, -201, corrupt, "data ends too early")                                          \
    X(DW_E_HASH, -202, corrupt, "hash does not match")                                               \
    X(DW_E_FORMAT, -203, corrupt, "not in the expected format")

typedef enum dw_status {
#define X(name, number, kind, text) name = number,
    DW_STATUS_TABLE(X)
#undef X
} dw_status;

typedef enum dw_status_kind { DW_KIND_OK, DW_KIND_REFUSED, DW_KIND_FAILED, DW_KIND_CORRUPT } dw_status_kind;

enum { DW_ERROR_TEXT_BYTES = 512 };

/* Detail of one failure. Valid only after a function returned a negative status. */
typedef struct dw_error {
    dw_status status;
    int32_t system_errno;            /* 0 when no system call was involved */
    uint64_t offset;                 /* byte offset in the input that was read, or DW_NO_OFFSET */
    char text[DW_ERROR_TEXT_BYTES];  /* one sentence without final full stop: what, where, what would help */
} dw_error;

#define DW_NO_OFFSET UINT64_MAX

#ifdef __cplusplus
extern "C" {
#endif

/* Name ("DW_E_RANGE"), text and kind of a status; unknown numbers give "DW_E_?" and DW_KIND_FAILED. Never NULL. */
const char *dw_status_name(dw_status status);
const char *dw_status_text(dw_status status);
dw_status_kind dw_status_kind_of(dw_status status);

/* Fills `err` (if not NULL) and returns `status`, so that a failing function ends in `return dw_fail(err, DW_E_...,
 * "...")`. */
dw_status dw_fail(dw_error *err, dw_status status, const char *format, ...) DW_PRINTF(3, 4);

/* As dw_fail, for bad input at byte `offset`. */
dw_status dw_fail_at(dw_error *err, dw_status status, uint64_t offset, const char *format, ...) DW_PRINTF(4, 5);

/* As dw_fail, for a system call on what somebody named (a path, a program): `system_errno` chooses the status (ENOMEM,
 * ENOSPC, EIO, ENOENT, ...) and its text is appended. What the name is not good for is refused; want of descriptors,
 * memory and time is a failure. */
dw_status dw_fail_errno(dw_error *err, int system_errno, const char *format, ...) DW_PRINTF(3, 4);

/* The same for a call on what is open or ours: nobody asked for what he may not have, so what would be a refusal is
 * DW_E_SYSTEM. But a file that is of the wrong kind (EISDIR, ENODEV) shows only when it is used, and is refused. */
dw_status dw_fail_system(dw_error *err, int system_errno, const char *format, ...) DW_PRINTF(3, 4);

/* Prefixes the text of an error that is being passed on, e.g. with the file's name. Returns err->status (or `status` if
 * err is NULL). */
dw_status dw_error_prefix(dw_error *err, dw_status status, const char *format, ...) DW_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif

#endif

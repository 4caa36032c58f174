/* wasi.h: WASI preview 1 (`wasi_snapshot_preview1`), virtual and serialisable. Internal to src/wasm.
 *
 * A program sees a world without files: standard input, output and error are descriptors 0, 1 and 2, like a terminal
 * that cannot be closed, and there are no others. Time and random depend on dw_wasi_state alone (wasm.h), so a turn
 * that is run again does the same again. All functions of the standard exist; those that need files, sockets or
 * processes return an errno.
 *
 * Rules
 * 1. A handler never traps, whatever it is given: it returns a WASI errno. Only proc_exit and proc_raise end the call.
 * 2. Guest memory is touched through dw_guest_* only.
 * 3. What a handler decides on (vectors, subscriptions) is copied first; payload bytes are passed on in place.
 * 4. Work is bounded per call: see the limits below. Beyond them a call returns EINVAL.
 * Knows nothing of Wasmtime. Threads: one at a time, that of the instance.
 */
#ifndef DW_WASM_WASI_H
#define DW_WASM_WASI_H

#include <stddef.h>
#include <stdint.h>
#include "wasm/module_reader.h"
#include "wasm/wasm.h"

#define DW_WASI_MODULE "wasi_snapshot_preview1"

enum {
    DW_WASI_VECTORS_MAX = 1024,          /* buffers of one fd_read or fd_write, as IOV_MAX of Linux */
    DW_WASI_SUBSCRIPTIONS_MAX = 1024,    /* of one poll_oneoff */
    DW_WASI_RANDOM_BYTES_MAX = 16 << 20, /* of one random_get: a quarter of a second */
    DW_WASI_PARAMS_MAX = 9
};

/* Numbers of the standard's `errno`, those that are used here. */
typedef enum dw_wasi_errno {
    WASI_OK = 0, WASI_EBADF = 8, WASI_EFAULT = 21, WASI_EINVAL = 28, WASI_EIO = 29, WASI_ENOSYS = 52, WASI_ENOTDIR = 54,
    WASI_ENOTSOCK = 57, WASI_ENOTSUP = 58, WASI_EOVERFLOW = 61, WASI_ESPIPE = 70
} dw_wasi_errno;

/* argv or environ: strings one after the other, each with its NUL. */
typedef struct dw_wasi_strings { char *bytes; uint32_t size, count; } dw_wasi_strings;

typedef struct dw_wasi {
    dw_wasi_state state;
    dw_wasi_options options;             /* its strings are not used after dw_wasi_init */
    dw_wasi_strings arguments, environment;
    dw_status ending;                    /* DW_E_EXIT once proc_exit was called: the caller ends the guest's call */
    int32_t exit_code;
} dw_wasi;

dw_status dw_wasi_init(dw_wasi *wasi, const dw_wasi_options *options, const dw_wasi_state *state,
                       dw_error *err) DW_MUST_USE;
void dw_wasi_deinit(dw_wasi *wasi);

/* Arguments as they come, i32 ones zero-extended. */
typedef dw_wasi_errno (*dw_wasi_handler)(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
typedef struct dw_wasi_function {
    const char *name, *params, *results; /* letters as for dw_signature_is; results "i" or "" */
    dw_wasi_handler handler;
} dw_wasi_function;

/* The functions of the standard, all of them. */
const dw_wasi_function *dw_wasi_functions(size_t *count);
const dw_wasi_function *dw_wasi_find(const dw_span *name); /* NULL when there is none */

/* --- shared by wasi.c and wasi_io.c ---------------------------------------------------------------------------- */

dw_wasi_errno dw_wasi_put_u32(const dw_guest_memory *memory, uint64_t pointer, uint32_t value);
dw_wasi_errno dw_wasi_put_u64(const dw_guest_memory *memory, uint64_t pointer, uint64_t value);

/* wasi_io.c */
dw_wasi_errno dw_wasi_fd_close(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_fdstat_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_filestat_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_read(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_write(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_poll_oneoff(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
/* For functions that our descriptors do not support: EBADF for an unknown descriptor, else the errno in the name. */
dw_wasi_errno dw_wasi_fd_nothing_to_do(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_not_seekable(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_not_supported(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_not_directory(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_not_socket(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
dw_wasi_errno dw_wasi_fd_no_preopen(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);
/* Its descriptor is the third argument, not the first. */
dw_wasi_errno dw_wasi_path_symlink(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args);

/* The virtual clocks. Every look costs a microsecond of virtual time, so that loops that wait for time end. */
uint64_t dw_wasi_read_clock(dw_wasi_state *state, uint32_t clock);
enum { WASI_CLOCK_REALTIME = 0, WASI_CLOCK_MONOTONIC = 1, WASI_CLOCKS = 4, WASI_CLOCK_STEP_NS = 1000 };

#endif

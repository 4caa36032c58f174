/* os.h: the only door to the operating system. Nothing outside src/os includes a system header for files, maps,
 * threads, clocks, processes or sockets.
 *
 *   file     an open file or memory object (dw_os_file wraps one descriptor)
 *   map      a run of addresses; reserved ones are inaccessible and cost only address space
 *   page     dw_os_page_bytes(); every map address, length and file offset here is a multiple of it
 *
 * Rules
 * 1. One implementation per system: os_linux*.c, os_darwin.c. What POSIX makes equal: files in os_posix.c, maps in
 *    os_map.c, threads in os_thread.c, processes in os_process.c.
 * 2. Every call that can fail passes through the fault seam (os_fault.h): test builds can make the k-th call fail, once
 *    or from then on, and cut writes short. In other builds the seam is an empty macro.
 * 3. Reads and writes are whole: they continue after short transfers and EINTR; an early end of file is DW_E_TRUNCATED.
 * 4. Nothing here aborts, logs or allocates more than its arguments say.
 * Threads: all functions are thread-safe; one object is used by one thread at a time unless said otherwise.
 */
#ifndef DW_OS_OS_H
#define DW_OS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"

/* --- files --------------------------------------------------------------------------------------------------- */

typedef struct dw_os_file { int fd; } dw_os_file; /* fd -1 = closed; DW_OS_FILE_NONE */
#define DW_OS_FILE_NONE ((dw_os_file){-1})

typedef enum dw_os_open_mode {
    DW_OS_READ,             /* existing, read only */
    DW_OS_READ_WRITE,       /* existing */
    DW_OS_CREATE_NEW,       /* must not exist; read and write; mode 0600: our files hold private text */
    DW_OS_CREATE_TRUNCATE,  /* made or emptied; read and write; mode 0600 */
    DW_OS_APPEND            /* made if missing */
} dw_os_open_mode;

dw_status dw_os_open(const char *path, dw_os_open_mode mode, dw_os_file *out, dw_error *err) DW_MUST_USE;
/* Anonymous memory object (memfd; an unlinked temporary file where there is none), sparse, not shrinkable afterwards
 * where seals exist. */
dw_status dw_os_memory_object(const char *name, uint64_t size, dw_os_file *out, dw_error *err) DW_MUST_USE;
/* Closing a closed file is a no-op. Errors at close are reported by dw_os_sync, which must come before. */
void dw_os_close(dw_os_file *file);
dw_status dw_os_duplicate(dw_os_file file, dw_os_file *out, dw_error *err) DW_MUST_USE;

dw_status dw_os_read_at(dw_os_file file, uint64_t offset, void *data, size_t size, dw_error *err) DW_MUST_USE;
dw_status dw_os_write_at(dw_os_file file, uint64_t offset, const void *data, size_t size, dw_error *err) DW_MUST_USE;
dw_status dw_os_size(dw_os_file file, uint64_t *out, dw_error *err) DW_MUST_USE;
/* Bytes that the file or memory object really occupies (st_blocks), for sparse objects. */
dw_status dw_os_occupied(dw_os_file file, uint64_t *out, dw_error *err) DW_MUST_USE;
dw_status dw_os_resize(dw_os_file file, uint64_t size, dw_error *err) DW_MUST_USE;
/* Gives the memory or disk space of whole pages of a file back; they read as zeros then, and the file keeps its size.
 * DW_E_UNSUPPORTED where the file's system cannot. */
dw_status dw_os_discard(dw_os_file file, uint64_t offset, uint64_t size, dw_error *err) DW_MUST_USE;
dw_status dw_os_sync(dw_os_file file, dw_error *err) DW_MUST_USE;

typedef struct dw_os_identity { uint64_t device, inode, size; int64_t mtime_ns; } dw_os_identity;
dw_status dw_os_identify(dw_os_file file, dw_os_identity *out, dw_error *err) DW_MUST_USE;
/* DW_OK when only this process's user can have written the file: a regular file that is theirs, and not writable for
 * group or others. Else DW_E_DENIED. For what is trusted because of where it lies (compiled code). */
dw_status dw_os_check_own(dw_os_file file, dw_error *err) DW_MUST_USE;

/* Renames over `to` and syncs the folder, so that after a crash either the old or the new file is there. */
dw_status dw_os_replace(const char *from, const char *to, dw_error *err) DW_MUST_USE;
/* Makes names that came or went in a folder durable. */
dw_status dw_os_sync_folder(const char *folder, dw_error *err) DW_MUST_USE;
dw_status dw_os_remove(const char *path, dw_error *err) DW_MUST_USE; /* DW_E_NOT_FOUND when absent */
/* With parents, mode 0700; existing is fine. */
dw_status dw_os_make_folders(const char *path, dw_error *err) DW_MUST_USE;
bool dw_os_exists(const char *path);

enum { DW_OS_PATH_BYTES = 4096 };
typedef enum dw_os_path_kind {
    DW_OS_PATH_ABSENT,
    DW_OS_PATH_FILE,
    DW_OS_PATH_FOLDER,
    DW_OS_PATH_OTHER /* a device, a socket, ... */
} dw_os_path_kind;
/* What a path names in the end: symbolic links are followed, also one that points to nothing yet; the name is then
 * absolute and free of links. Its folder must be there (DW_E_NOT_FOUND). */
dw_status dw_os_resolve(const char *path, char out[DW_OS_PATH_BYTES], dw_os_path_kind *kind, dw_error *err) DW_MUST_USE;
/* Takes the advisory lock of a lock file, which is made if missing; DW_E_BUSY when another process, or this one, has
 * it. Closing *out, and the end of the process however it comes, give it back. */
dw_status dw_os_try_lock(const char *path, dw_os_file *out, dw_error *err) DW_MUST_USE;
/* Calls back with each entry's name (no order, no "." and ".."); a callback that returns false ends the walk. */
dw_status dw_os_list(const char *folder, bool (*each)(void *context, const char *name), void *context,
                     dw_error *err) DW_MUST_USE;
/* The project's cache folder: $DRIFTWOOD_CACHE, $XDG_CACHE_HOME/driftwood or ~/.cache/driftwood. Refuses when it does
 * not fit. */
dw_status dw_os_cache_folder(char *out, size_t out_size, dw_error *err) DW_MUST_USE;
/* Whole small file into malloc'ed memory (NUL added, not counted), refused above `size_max`. */
dw_status dw_os_read_file(const char *path, uint64_t size_max, uint8_t **out, size_t *out_size,
                          dw_error *err) DW_MUST_USE;
/* The same of a file that passes dw_os_check_own. */
dw_status dw_os_read_own_file(const char *path, uint64_t size_max, uint8_t **out, size_t *out_size,
                              dw_error *err) DW_MUST_USE;
/* Writes a file so that it is whole or absent: temporary name beside it, sync, replace. */
dw_status dw_os_write_file(const char *path, const void *data, size_t size, dw_error *err) DW_MUST_USE;

/* Open files that this process may have, as its limit is now; at least 1. */
uint64_t dw_os_descriptors_max(void);

/* --- memory maps --------------------------------------------------------------------------------------------- */

typedef enum dw_os_protection { DW_OS_NONE, DW_OS_RO, DW_OS_RW } dw_os_protection;

size_t dw_os_page_bytes(void);
/* Inaccessible addresses without memory behind them. */
dw_status dw_os_map_reserve(size_t size, void **out, dw_error *err) DW_MUST_USE;
/* Zero-filled private memory over [address, +size) of a reservation (replaces what was mapped there). */
dw_status dw_os_map_anonymous(void *address, size_t size, dw_error *err) DW_MUST_USE;
/* Maps [offset, +size) of `file` over a reservation; address NULL = anywhere. `shared`: writes reach the file; else
 * they stay private copies. The range must lie inside the file: touching a map past the end of its file kills the
 * process. */
dw_status dw_os_map_file(void *address, size_t size, dw_os_file file, uint64_t offset, dw_os_protection protection,
                         bool shared, void **out, dw_error *err) DW_MUST_USE;
dw_status dw_os_map_protect(void *address, size_t size, dw_os_protection protection, dw_error *err) DW_MUST_USE;
/* Turns a mapped range back into reserved addresses; its memory is given back. */
dw_status dw_os_map_decommit(void *address, size_t size, dw_error *err) DW_MUST_USE;
void dw_os_unmap(void *address, size_t size);
/* Advice only, never fails: pages will be read soon / are not needed soon. */
void dw_os_map_will_need(const void *address, size_t size);

/* Dirty pages. A tracker watches ranges of this process and tells which pages were written since they were armed.
 * DW_OS_DIRTY_KERNEL uses the kernel's write tracking (Linux: userfaultfd WP_ASYNC + PAGEMAP_SCAN, unprivileged);
 * without it (`dw_os_dirty_supported` false) the region module compares contents instead.
 * Writes by devices bypass page tables: whoever runs a device marks its outputs (region.h). */
bool dw_os_dirty_supported(void);
/* (Re)arms [address, +size), which must be mapped writable; all its pages count as clean from now on. Maps made later
 * inside it are not armed. */
dw_status dw_os_dirty_arm(void *address, size_t size, dw_error *err) DW_MUST_USE;
/* Calls back for each run of written pages, ascending. `rearm` makes them clean again in the same step. */
dw_status dw_os_dirty_scan(void *address, size_t size, bool rearm,
                           void (*each)(void *context, void *run, size_t run_size), void *context,
                           dw_error *err) DW_MUST_USE;
/* For a range mapped privately over a file: the runs of pages that are private copies by now (Linux pagemap).
 * DW_E_UNSUPPORTED elsewhere. In an armed range a copy that was swapped out unchanged is not told from a page that
 * never was there: use one or the other. */
dw_status dw_os_private_pages(void *address, size_t size, void (*each)(void *context, void *run, size_t run_size),
                              void *context, dw_error *err) DW_MUST_USE;

/* Memory of this process as the kernel counts it. `anonymous` is what is truly our own (VmRSS counts shared pages). */
typedef struct dw_os_memory_use { uint64_t resident, anonymous, proportional, maps; } dw_os_memory_use;
dw_status dw_os_memory_use_now(dw_os_memory_use *out, dw_error *err) DW_MUST_USE;
/* The same for the maps inside one range of addresses (maps = how many). */
dw_status dw_os_memory_use_range(const void *address, size_t size, dw_os_memory_use *out, dw_error *err) DW_MUST_USE;

/* --- time, random, environment ------------------------------------------------------------------------------- */

uint64_t dw_os_monotonic_ns(void);
uint64_t dw_os_realtime_ns(void);
dw_status dw_os_random(void *out, size_t size, dw_error *err) DW_MUST_USE;
void dw_os_sleep(uint64_t ns); /* or less: a signal ends it */
const char *dw_os_environment(const char *name); /* NULL when absent; borrowed */
unsigned dw_os_cpu_count(void);                   /* that this process may use; at least 1 */
bool dw_os_is_terminal(int stream);               /* 0, 1, 2 */
dw_status dw_os_executable_path(char *out, size_t out_size, dw_error *err) DW_MUST_USE;
/* Writes bytes to standard output or error (1, 2), whole, without buffering. */
dw_status dw_os_write_stream(int stream, const void *data, size_t size, dw_error *err) DW_MUST_USE;
/* From now on Ctrl-C only sets the flag that is returned (and read with dw_os_interrupted); a second one within a
 * second ends the process. */
void dw_os_catch_interrupts(void);
bool dw_os_interrupted(bool clear);

/* For programs, not for libraries. From now on SIGTERM, SIGHUP and SIGINT end the process with the first exit code,
 * after a sentence; a page of a mapped file that cannot be read (SIGBUS) does so with the second, and the sentence
 * names the file. Noted temporary files are removed first. Writes to a closed pipe or beyond a limit fail instead of
 * ending the process. Call it before others (Wasmtime) install handlers of their own, which pass on what is not
 * theirs. */
void dw_os_end_well(int signals_exit_code, int bad_pages_exit_code);
/* A file that is not to be left behind. `path` stays in place until it is forgotten; at most 16 at a time, more are not
 * noted. */
void dw_os_note_temporary(const char *path);
void dw_os_forget_temporary(const char *path);

/* --- processes ----------------------------------------------------------------------------------------------- */

typedef struct dw_os_process_result {
    int exit_code; /* 128 + signal when killed */
    char *output;
    size_t output_size;
} dw_os_process_result;
/* Runs a program (argv NULL-terminated, no shell), waits, and collects its standard output (<= output_max bytes, NUL
 * added). Standard error and environment are inherited, standard input is empty. Free result.output with free(). */
dw_status dw_os_run(const char *const *argv, size_t output_max, dw_os_process_result *result,
                    dw_error *err) DW_MUST_USE;

/* --- threads ------------------------------------------------------------------------------------------------- */

typedef struct dw_os_thread dw_os_thread;
typedef struct dw_os_mutex dw_os_mutex;
typedef struct dw_os_condition dw_os_condition;

dw_status dw_os_thread_create(const char *name, size_t stack_bytes, void (*run)(void *argument), void *argument,
                              dw_os_thread **out, dw_error *err) DW_MUST_USE;
void dw_os_thread_join(dw_os_thread *thread); /* waits and frees; NULL is a no-op */
/* Frees, and lets the thread run on by itself: nobody can wait for it any more, and the end of the process ends it.
 * NULL is a no-op. */
void dw_os_thread_detach(dw_os_thread *thread);

dw_status dw_os_mutex_create(dw_os_mutex **out, dw_error *err) DW_MUST_USE;
void dw_os_mutex_destroy(dw_os_mutex *mutex);
void dw_os_mutex_lock(dw_os_mutex *mutex);
void dw_os_mutex_unlock(dw_os_mutex *mutex);
/* Whether the calling thread holds it. For assertions: a function that says "lock held" asserts this. */
bool dw_os_mutex_held(const dw_os_mutex *mutex);

dw_status dw_os_condition_create(dw_os_condition **out, dw_error *err) DW_MUST_USE;
void dw_os_condition_destroy(dw_os_condition *condition);
void dw_os_condition_wait(dw_os_condition *condition, dw_os_mutex *mutex);
/* Until signalled or dw_os_monotonic_ns() >= deadline_ns (UINT64_MAX = no deadline); false at the deadline. Wakes may
 * be spurious. */
bool dw_os_condition_wait_until(dw_os_condition *condition, dw_os_mutex *mutex, uint64_t deadline_ns);
void dw_os_condition_signal(dw_os_condition *condition);
void dw_os_condition_broadcast(dw_os_condition *condition);

#endif

/* os_process.c: running other programs, and being interrupted. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/vec.h"
#include "os/os_internal.h"

extern char **environ;

/* --- run -------------------------------------------------------------------------------------------------------- */

/* Starts the program with standard output going to `output`. Returns an error number. */
static int spawn(const char *const *argv, int output, pid_t *out) {
    posix_spawn_file_actions_t actions;
    int failure = posix_spawn_file_actions_init(&actions);
    if (failure) return failure;
    failure = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!failure) failure = posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    /* posix_spawn's argv is not const for history's sake; it does not write to it. */
    if (!failure)
        failure = dw_os_faulted(DW_FAULT_PROCESS)
                      ? errno
                      : posix_spawnp(out, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    return failure;
}

/* Reads until the program closes its output. The buffer always has room for the final NUL. */
static dw_status collect_output(int input, size_t output_max, dw_os_process_result *result, dw_error *err) {
    DW_VEC(char) output = {0};
    dw_status status = DW_OK;
    while (status == DW_OK) {
        if (DW_VEC_RESERVE(&output, 2, output_max + 2) != DW_OK) {
            status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the output of a program");
            break;
        }
        size_t room = output.capacity - 1 - output.count;
        ssize_t moved = dw_os_faulted(DW_FAULT_READ)
                            ? -1 : read(input, output.items + output.count, (size_t)DW_FAULT_TRANSFER(room));
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0) status = dw_fail_system(err, errno, "cannot read the output of a program");
        if (moved <= 0) break;
        output.count += (size_t)moved;
        if (output.count > output_max)
            status = dw_fail(err, DW_E_LIMIT, "a program wrote more than %zu bytes", output_max);
    }
    if (status == DW_OK) output.items[output.count] = '\0';
    result->output = output.items;
    result->output_size = output.count;
    return status;
}

static dw_status reap(pid_t child, dw_os_process_result *result, dw_error *err) {
    int how = 0;
    pid_t ended;
    do {
        ended = waitpid(child, &how, 0);
    } while (ended < 0 && errno == EINTR);
    if (ended < 0) return dw_fail_system(err, errno, "cannot wait for a program");
    result->exit_code = WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
    return DW_OK;
}

dw_status dw_os_run(const char *const *argv, size_t output_max, dw_os_process_result *result, dw_error *err) {
    int ends[2] = {-1, -1};
    *result = (dw_os_process_result){0};
    if (!argv[0] || output_max > SIZE_MAX / 2) return dw_fail(err, DW_E_INVALID, "no program to run");
    if (dw_os_faulted(DW_FAULT_PROCESS) || dw_os_sys_pipe(ends) != 0)
        return dw_fail_system(err, errno, "cannot make a pipe");

    pid_t child = -1;
    int failure = spawn(argv, ends[1], &child);
    (void)close(ends[1]);
    if (failure) {
        (void)close(ends[0]);
        return dw_fail_errno(err, failure, "cannot run %s", argv[0]);
    }
    dw_status status = collect_output(ends[0], output_max, result, err);
    (void)close(ends[0]);
    if (status != DW_OK) (void)kill(child, SIGKILL); /* it must not be waited for forever */
    dw_status reaped = reap(child, result, status == DW_OK ? err : NULL);
    if (status == DW_OK) status = reaped;
    if (status != DW_OK) {
        free(result->output);
        *result = (dw_os_process_result){0};
    }
    return status;
}

/* --- interrupts ------------------------------------------------------------------------------------------------- */

/* Lock-free atomics are what a signal handler may touch besides sig_atomic_t, and threads may read them. */
static atomic_bool interrupted;
static atomic_uint_least64_t last_interrupt_ns;

/* What a signal did before it was caught: dw_os_end_well's, or the system's way. Blocked while a handler runs, so it is
 * delivered, and ends us, when that returns. */
static struct sigaction before_interrupts;

static void end_by_signal(int signal_number) {
    (void)sigaction(signal_number, &before_interrupts, NULL);
    (void)raise(signal_number);
}

static void on_interrupt(int signal_number) {
    int kept = errno;
    uint64_t now = dw_os_monotonic_ns();
    uint64_t before = atomic_exchange(&last_interrupt_ns, now);
    atomic_store(&interrupted, true);
    if (before != 0 && now - before < UINT64_C(1000000000)) end_by_signal(signal_number);
    errno = kept;
}

void dw_os_catch_interrupts(void) {
    struct sigaction action = {0};
    action.sa_handler = on_interrupt;
    (void)sigemptyset(&action.sa_mask);
    /* No SA_RESTART: a read from the terminal shall return, or Ctrl-C would wait for Enter. */
    (void)sigaction(SIGINT, &action, &before_interrupts);
}

bool dw_os_interrupted(bool clear) { return clear ? atomic_exchange(&interrupted, false) : atomic_load(&interrupted); }

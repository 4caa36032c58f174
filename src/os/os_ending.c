/* os_ending.c: how the process ends when a signal asks for it, or when a mapped file can no longer be read.
 *
 * A handler may use little: lock-free atomics, and the calls that POSIX lists as async-signal-safe (open, read, write,
 * unlink, _exit). So the temporary files are noted in a table of fixed size, and the name of a bad page's file is
 * looked up in the kernel's list of maps. */
#define _POSIX_C_SOURCE 200809L
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#endif

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "os/os_internal.h"

enum { TEMPORARIES_MAX = 16, LINE_BYTES = 512 };

static _Atomic(const char *) temporaries[TEMPORARIES_MAX];
static atomic_int exit_code_of_signals, exit_code_of_bad_pages;

void dw_os_note_temporary(const char *path) {
    for (int i = 0; i < TEMPORARIES_MAX; i++) {
        const char *none = NULL;
        if (atomic_compare_exchange_strong(&temporaries[i], &none, path)) return;
    }
}

void dw_os_forget_temporary(const char *path) {
    for (int i = 0; i < TEMPORARIES_MAX; i++) {
        const char *noted = path;
        if (atomic_compare_exchange_strong(&temporaries[i], &noted, NULL)) return;
    }
}

/* --- handlers --------------------------------------------------------------------------------------------------- */

static void write_text(const char *text) {
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
}

static void end_process(int code) {
    for (int i = 0; i < TEMPORARIES_MAX; i++) {
        const char *path = atomic_load(&temporaries[i]);
        if (path) (void)unlink(path);
    }
    _exit(code);
}

static void on_ending_signal(int signal_number) {
    write_text(signal_number == SIGTERM ? "driftwood: asked to end (SIGTERM)\n"
               : signal_number == SIGHUP ? "driftwood: the terminal is gone (SIGHUP)\n" : "driftwood: interrupted\n");
    end_process(atomic_load(&exit_code_of_signals));
}

static uintptr_t hexadecimal(const char **at) {
    uintptr_t value = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c >= '0' && c <= '9') value = value * 16 + (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f') value = value * 16 + (uintptr_t)(c - 'a') + 10;
        else return value;
    }
}

/* The file in a line of /proc/self/maps, "begin-end perms offset device inode path", if the address lies in it. */
static const char *file_in_line(const char *line, uintptr_t address) {
    const char *at = line;
    uintptr_t begin = hexadecimal(&at);
    if (*at++ != '-') return NULL;
    uintptr_t end = hexadecimal(&at);
    if (address < begin || address >= end) return NULL;
    const char *path = strchr(at, '/');
    return path;
}

/* The name of the file that is mapped at the address, or a word for it. */
static void find_mapped_file(uintptr_t address, char out[LINE_BYTES]) {
    char line[LINE_BYTES], block[LINE_BYTES];
    size_t used = 0;
    memcpy(out, "a mapped file", sizeof "a mapped file");
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    for (ssize_t n = 0; (n = read(fd, block, sizeof block)) > 0;) {
        for (ssize_t i = 0; i < n; i++) {
            if (block[i] != '\n') {
                if (used + 1 < sizeof line) line[used++] = block[i];
                continue;
            }
            line[used] = '\0';
            used = 0;
            const char *path = file_in_line(line, address);
            if (path) memcpy(out, path, strlen(path) + 1);
        }
    }
    (void)close(fd);
}

static void on_bad_page(int signal_number, siginfo_t *info, void *context) {
    char file[LINE_BYTES];
    (void)signal_number, (void)context;
    find_mapped_file((uintptr_t)info->si_addr, file);
    write_text("driftwood: ");
    write_text(file);
    write_text(" can no longer be read: it was cut short, its disk fails or is full\n");
    end_process(atomic_load(&exit_code_of_bad_pages));
}

void dw_os_end_well(int signals_exit_code, int bad_pages_exit_code) {
    static const int ending[] = {SIGTERM, SIGHUP, SIGINT}, ignored[] = {SIGPIPE, SIGXFSZ};
    struct sigaction action = {.sa_handler = on_ending_signal};
    atomic_store(&exit_code_of_signals, signals_exit_code);
    atomic_store(&exit_code_of_bad_pages, bad_pages_exit_code);
    (void)sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof ending / sizeof ending[0]; i++) (void)sigaction(ending[i], &action, NULL);
    /* Their calls fail instead, with an error that says which. */
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) (void)sigaction(ignored[i], &action, NULL);
    struct sigaction bad_page = {.sa_sigaction = on_bad_page, .sa_flags = (int)(SA_SIGINFO | SA_RESETHAND)};
    (void)sigemptyset(&bad_page.sa_mask);
    (void)sigaction(SIGBUS, &bad_page, NULL);
}

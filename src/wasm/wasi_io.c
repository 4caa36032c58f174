/* wasi_io.c: descriptors of WASI preview 1. Three streams, no files: see wasi.h. */
#include "wasm/wasi.h"

#include <string.h>

#include "wasm/guest_memory.h"

enum { STDIN = 0, STDOUT = 1, STDERR = 2 };
enum { FILETYPE_CHARACTER_DEVICE = 2 };
enum { RIGHT_FD_READ = 1 << 1, RIGHT_FD_WRITE = 1 << 6, RIGHT_FILESTAT_GET = 1 << 21, RIGHT_POLL = 1 << 27 };

static bool is_open(uint64_t fd) { return fd <= STDERR; }

static uint32_t get_u32(const uint8_t *bytes) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static uint64_t get_u64(const uint8_t *bytes) { return get_u32(bytes) | (uint64_t)get_u32(bytes + 4) << 32; }

static void set_u64(uint8_t *bytes, uint64_t value) {
    for (unsigned i = 0; i < 8; i++) bytes[i] = (uint8_t)(value >> (8 * i));
}

/* --- what our descriptors do not do ------------------------------------------------------------------------------ */

static dw_wasi_errno if_open(uint64_t fd, dw_wasi_errno error) { return is_open(fd) ? error : WASI_EBADF; }

dw_wasi_errno dw_wasi_fd_nothing_to_do(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_OK);
}

dw_wasi_errno dw_wasi_fd_not_seekable(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_ESPIPE);
}

dw_wasi_errno dw_wasi_fd_not_supported(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_ENOTSUP);
}

dw_wasi_errno dw_wasi_fd_not_directory(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_ENOTDIR);
}

dw_wasi_errno dw_wasi_path_symlink(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[2], WASI_ENOTDIR);
}

dw_wasi_errno dw_wasi_fd_not_socket(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_ENOTSOCK);
}

/* EBADF tells a C library that it has seen all folders that were opened for it. */
dw_wasi_errno dw_wasi_fd_no_preopen(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory, (void)args;
    return WASI_EBADF;
}

/* A stream stays open, so that there is nothing about it to remember in a checkpoint; a C library closes all at
 * exit. */
dw_wasi_errno dw_wasi_fd_close(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi, (void)memory;
    return if_open(args[0], WASI_OK);
}

/* --- what they are ----------------------------------------------------------------------------------------------- */

dw_wasi_errno dw_wasi_fd_fdstat_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi;
    if (!is_open(args[0])) return WASI_EBADF;
    uint8_t stat[24] = {FILETYPE_CHARACTER_DEVICE}; /* flags none; rights at 8, inheriting rights at 16 */
    uint64_t rights = args[0] == STDIN ? RIGHT_FD_READ : RIGHT_FD_WRITE;
    set_u64(stat + 8, rights | RIGHT_FILESTAT_GET | RIGHT_POLL);
    return dw_guest_write(memory, (uint32_t)args[1], stat, sizeof stat) == DW_OK ? WASI_OK : WASI_EFAULT;
}

dw_wasi_errno dw_wasi_fd_filestat_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi;
    if (!is_open(args[0])) return WASI_EBADF;
    uint8_t stat[64] = {0}; /* device, inode, file type at 16, links at 24, size and times zero */
    stat[16] = FILETYPE_CHARACTER_DEVICE;
    set_u64(stat + 24, 1);
    return dw_guest_write(memory, (uint32_t)args[1], stat, sizeof stat) == DW_OK ? WASI_OK : WASI_EFAULT;
}

/* --- reading and writing ------------------------------------------------------------------------------------------ */

typedef struct vector { void *data; uint32_t size; } vector;
typedef struct vectors { vector items[DW_WASI_VECTORS_MAX]; uint32_t n; } vectors;

/* Copies the vector out and checks all of it before anything moves, so that a call with one bad buffer does nothing. */
static dw_wasi_errno take_vectors(const dw_guest_memory *memory, const uint64_t *args, vectors *out) {
    uint64_t count = args[2], total = 0;
    void *view;
    if (count > DW_WASI_VECTORS_MAX) return WASI_EINVAL;
    uint8_t raw[8 * DW_WASI_VECTORS_MAX];
    if (dw_guest_read(memory, (uint32_t)args[1], raw, 8 * count) != DW_OK) return WASI_EFAULT;
    if (dw_guest_view(memory, (uint32_t)args[3], 4, 1, &view) != DW_OK) return WASI_EFAULT;
    out->n = (uint32_t)count;
    for (uint32_t i = 0; i < out->n; i++) {
        vector *item = &out->items[i];
        item->size = get_u32(raw + 8 * i + 4);
        if (dw_guest_view(memory, get_u32(raw + 8 * i), item->size, 1, &item->data) != DW_OK) return WASI_EFAULT;
        total += item->size;
    }
    return total <= UINT32_MAX ? WASI_OK : WASI_EOVERFLOW;
}

dw_wasi_errno dw_wasi_fd_write(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    vectors from;
    if (args[0] != STDOUT && args[0] != STDERR) return WASI_EBADF;
    dw_wasi_errno error = take_vectors(memory, args, &from);
    if (error != WASI_OK) return error;
    uint32_t written = 0;
    for (uint32_t i = 0; i < from.n; i++) {
        const vector *item = &from.items[i];
        if (item->size > 0 && wasi->options.write &&
            wasi->options.write(wasi->options.context, (int)args[0], item->data, item->size) != DW_OK)
            return WASI_EIO;
        written += item->size;
    }
    return dw_wasi_put_u32(memory, args[3], written);
}

dw_wasi_errno dw_wasi_fd_read(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    vectors to;
    if (args[0] != STDIN) return WASI_EBADF;
    dw_wasi_errno error = take_vectors(memory, args, &to);
    if (error != WASI_OK) return error;
    uint32_t got = 0;
    for (uint32_t i = 0; i < to.n && wasi->options.read; i++) {
        const vector *item = &to.items[i];
        if (item->size == 0) continue;
        size_t n = wasi->options.read(wasi->options.context, item->data, item->size);
        if (n > item->size) return WASI_EIO; /* a host function that lies must not become the guest's length */
        got += (uint32_t)n;
        if (n < item->size) break;
    }
    return dw_wasi_put_u32(memory, args[3], got);
}

/* --- waiting ------------------------------------------------------------------------------------------------------ */

enum { EVENT_CLOCK = 0, EVENT_FD_READ = 1, EVENT_FD_WRITE = 2, SUBSCRIPTION_BYTES = 48, EVENT_BYTES = 32 };

/* What a subscription waits for: `ready` now, or at a moment of virtual real time. */
typedef struct subscription { uint8_t type; dw_wasi_errno error; bool ready; uint64_t at_ns; } subscription;

/* Layout: userdata 0, type 8; clock: id 16, timeout 24, precision 32, flags 40; descriptor 16. */
static subscription read_subscription(const dw_wasi_state *state, const uint8_t *raw) {
    subscription s = {.type = raw[8], .at_ns = UINT64_MAX};
    uint32_t subject = get_u32(raw + 16);
    uint64_t timeout = get_u64(raw + 24);
    bool absolute = (raw[40] & 1u) != 0;
    if (s.type == EVENT_FD_READ || s.type == EVENT_FD_WRITE) {
        bool right_way = s.type == EVENT_FD_READ ? subject == STDIN : subject == STDOUT || subject == STDERR;
        s.error = right_way ? WASI_OK : WASI_EBADF;
        s.ready = true;
    } else if (s.type != EVENT_CLOCK || subject >= WASI_CLOCKS) {
        s.error = WASI_EINVAL;
        s.ready = true;
    } else {
        uint64_t from = !absolute ? dw_wasi_now(state) : subject == WASI_CLOCK_REALTIME ? 0 : state->birth_realtime_ns;
        if (!dw_add_u64(from, timeout, &s.at_ns)) s.at_ns = UINT64_MAX;
        s.ready = s.at_ns <= dw_wasi_now(state);
    }
    return s;
}

/* Nobody waits in virtual time: when nothing is ready, the clock jumps to the first moment that was asked for. False
 * when that is never: nothing could ever wake this guest. */
static bool pass_time(dw_wasi_state *state, const uint8_t *raw, uint64_t count) {
    uint64_t first = UINT64_MAX;
    for (uint64_t i = 0; i < count; i++) {
        subscription s = read_subscription(state, raw + i * SUBSCRIPTION_BYTES);
        if (s.ready) return true;
        first = dw_min_u64(first, s.at_ns);
    }
    if (first == UINT64_MAX) return false;
    dw_wasi_begin_turn(state, first);
    return true;
}

/* Events are laid out in a buffer of our own first: the guest may have put them over its subscriptions. */
static uint32_t collect_events(const dw_wasi_state *before, const dw_wasi_state *now, const uint8_t *raw,
                               uint64_t count, uint8_t *events) {
    uint32_t n = 0;
    for (uint64_t i = 0; i < count; i++) {
        const uint8_t *from = raw + i * SUBSCRIPTION_BYTES;
        subscription s = read_subscription(before, from);
        if (!s.ready && s.at_ns > dw_wasi_now(now)) continue;
        uint8_t *event = events + (size_t)n++ * EVENT_BYTES; /* userdata 0, error 8, type 10, bytes 16, flags 24 */
        memset(event, 0, EVENT_BYTES);
        memcpy(event, from, 8);
        event[8] = (uint8_t)s.error;
        event[10] = s.type;
        if (s.type != EVENT_CLOCK && s.error == WASI_OK) event[16] = 1;
    }
    return n;
}

dw_wasi_errno dw_wasi_poll_oneoff(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    uint64_t count = args[2];
    void *view;
    if (count == 0 || count > DW_WASI_SUBSCRIPTIONS_MAX) return WASI_EINVAL;
    uint8_t raw[SUBSCRIPTION_BYTES * DW_WASI_SUBSCRIPTIONS_MAX];
    uint8_t events[EVENT_BYTES * DW_WASI_SUBSCRIPTIONS_MAX];
    if (dw_guest_read(memory, (uint32_t)args[0], raw, SUBSCRIPTION_BYTES * count) != DW_OK) return WASI_EFAULT;
    if (dw_guest_view(memory, (uint32_t)args[1], EVENT_BYTES * count, 1, &view) != DW_OK) return WASI_EFAULT;
    if (dw_guest_view(memory, (uint32_t)args[3], 4, 1, &view) != DW_OK) return WASI_EFAULT;
    dw_wasi_state before = wasi->state;
    if (!pass_time(&wasi->state, raw, count)) return WASI_ENOTSUP;
    uint32_t n = collect_events(&before, &wasi->state, raw, count, events);
    if (dw_guest_write(memory, (uint32_t)args[1], events, (uint64_t)n * EVENT_BYTES) != DW_OK) return WASI_EFAULT;
    return dw_wasi_put_u32(memory, args[3], n);
}

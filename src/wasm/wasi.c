/* wasi.c: the table of WASI preview 1, and its arguments, clocks, random bytes and process functions. Descriptors:
 * wasi_io.c. Signatures: https://github.com/WebAssembly/WASI/blob/wasi-0.1/preview1/witx/wasi_snapshot_preview1.witx */
#include "wasm/wasi.h"

#include <stdlib.h>
#include <string.h>

#include "wasm/guest_memory.h"

/* --- state ----------------------------------------------------------------------------------------------------- */

static dw_status copy_strings(const char *const *strings, dw_wasi_strings *out, dw_error *err) {
    uint64_t size = 0, count = 0;
    for (; strings && strings[count]; count++) size += strlen(strings[count]) + 1;
    if (size > UINT32_MAX / 2 || count > UINT32_MAX / 8)
        return dw_fail(err, DW_E_LIMIT, "arguments or environment are too long");
    out->bytes = malloc((size_t)size + 1);
    if (!out->bytes) return dw_fail(err, DW_E_NO_MEMORY, "no memory for arguments and environment");
    char *to = out->bytes;
    for (uint64_t i = 0; i < count; i++) {
        size_t length = strlen(strings[i]) + 1;
        memcpy(to, strings[i], length);
        to += length;
    }
    out->size = (uint32_t)size;
    out->count = (uint32_t)count;
    return DW_OK;
}

dw_status dw_wasi_init(dw_wasi *wasi, const dw_wasi_options *options, const dw_wasi_state *state, dw_error *err) {
    *wasi = (dw_wasi){.options = *options, .state = *state};
    dw_status status = copy_strings(options->arguments, &wasi->arguments, err);
    if (status == DW_OK) status = copy_strings(options->environment, &wasi->environment, err);
    if (status != DW_OK) dw_wasi_deinit(wasi);
    return status;
}

void dw_wasi_deinit(dw_wasi *wasi) {
    free(wasi->arguments.bytes);
    free(wasi->environment.bytes);
    wasi->arguments = wasi->environment = (dw_wasi_strings){0};
}

/* --- helpers --------------------------------------------------------------------------------------------------- */

static dw_wasi_errno put_bytes(const dw_guest_memory *memory, uint64_t pointer, const void *data, uint64_t size) {
    return dw_guest_write(memory, (uint32_t)pointer, data, size) == DW_OK ? WASI_OK : WASI_EFAULT;
}

dw_wasi_errno dw_wasi_put_u32(const dw_guest_memory *memory, uint64_t pointer, uint32_t value) {
    uint8_t bytes[4];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    return put_bytes(memory, pointer, bytes, sizeof bytes);
}

dw_wasi_errno dw_wasi_put_u64(const dw_guest_memory *memory, uint64_t pointer, uint64_t value) {
    uint8_t bytes[8];
    for (unsigned i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(value >> (8 * i));
    return put_bytes(memory, pointer, bytes, sizeof bytes);
}

/* --- arguments and environment --------------------------------------------------------------------------------- */

static dw_wasi_errno put_strings(const dw_guest_memory *memory, const dw_wasi_strings *strings, uint32_t pointers,
                                 uint32_t bytes) {
    void *view;
    if (dw_guest_view(memory, pointers, (uint64_t)strings->count * 4, 1, &view) != DW_OK) return WASI_EFAULT;
    if (put_bytes(memory, bytes, strings->bytes, strings->size) != WASI_OK) return WASI_EFAULT;
    uint32_t at = 0;
    for (uint32_t i = 0; i < strings->count; i++) {
        dw_wasi_errno error = dw_wasi_put_u32(memory, pointers + 4 * i, bytes + at); /* both in range: checked above */
        if (error != WASI_OK) return error;
        at += (uint32_t)strlen(strings->bytes + at) + 1;
    }
    return WASI_OK;
}

static dw_wasi_errno put_sizes(const dw_guest_memory *memory, const dw_wasi_strings *strings, const uint64_t *args) {
    dw_wasi_errno error = dw_wasi_put_u32(memory, args[0], strings->count);
    return error == WASI_OK ? dw_wasi_put_u32(memory, args[1], strings->size) : error;
}

static dw_wasi_errno args_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    return put_strings(memory, &wasi->arguments, (uint32_t)args[0], (uint32_t)args[1]);
}

static dw_wasi_errno args_sizes_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    return put_sizes(memory, &wasi->arguments, args);
}

static dw_wasi_errno environ_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    return put_strings(memory, &wasi->environment, (uint32_t)args[0], (uint32_t)args[1]);
}

static dw_wasi_errno environ_sizes_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    return put_sizes(memory, &wasi->environment, args);
}

/* --- clocks and random ----------------------------------------------------------------------------------------- */

uint64_t dw_wasi_now(const dw_wasi_state *state) {
    uint64_t steps, now;
    if (!dw_mul_u64(state->n_clock_reads, WASI_CLOCK_STEP_NS, &steps)) return UINT64_MAX;
    return dw_add_u64(state->turn_realtime_ns, steps, &now) ? now : UINT64_MAX;
}

void dw_wasi_begin_turn(dw_wasi_state *state, uint64_t realtime_ns) {
    state->turn_realtime_ns = dw_max_u64(realtime_ns, dw_wasi_now(state));
    state->n_clock_reads = 0;
}

uint64_t dw_wasi_read_clock(dw_wasi_state *state, uint32_t clock) {
    uint64_t now = dw_wasi_now(state);
    state->n_clock_reads++;
    if (clock == WASI_CLOCK_REALTIME) return now;
    /* Monotonic, and both processor clocks. Never 0: the Go runtime takes that for a broken clock and ends itself. */
    uint64_t age = now > state->birth_realtime_ns ? now - state->birth_realtime_ns : 0;
    return age < UINT64_MAX ? age + 1 : age;
}

static dw_wasi_errno clock_res_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi;
    return args[0] < WASI_CLOCKS ? dw_wasi_put_u64(memory, args[1], WASI_CLOCK_STEP_NS) : WASI_EINVAL;
}

static dw_wasi_errno clock_time_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    void *view;
    if (args[0] >= WASI_CLOCKS) return WASI_EINVAL;
    /* A call that fails must not take time: so look at the pointer before at the clock. */
    if (dw_guest_view(memory, (uint32_t)args[2], 8, 1, &view) != DW_OK) return WASI_EFAULT;
    return dw_wasi_put_u64(memory, args[2], dw_wasi_read_clock(&wasi->state, (uint32_t)args[0]));
}

/* The next 32 bytes of the stream: SHA-256 of seed and counter. */
static dw_status random_block(dw_wasi_state *state, dw_hash *out) {
    uint8_t input[sizeof state->random_seed + 8];
    memcpy(input, state->random_seed, sizeof state->random_seed);
    for (unsigned i = 0; i < 8; i++) input[sizeof state->random_seed + i] = (uint8_t)(state->random_counter >> (8 * i));
    state->random_counter++;
    return dw_hash_of(input, sizeof input, out);
}

static dw_wasi_errno random_get(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    void *view;
    uint64_t left = args[1];
    if (left > DW_WASI_RANDOM_BYTES_MAX) return WASI_EINVAL;
    if (dw_guest_view(memory, (uint32_t)args[0], left, 1, &view) != DW_OK) return WASI_EFAULT;
    for (uint8_t *to = view; left > 0;) {
        dw_hash block;
        if (random_block(&wasi->state, &block) != DW_OK) return WASI_EIO;
        size_t n = (size_t)dw_min_u64(left, sizeof block.bytes);
        memcpy(to, block.bytes, n);
        to += n;
        left -= n;
    }
    return WASI_OK;
}

/* --- process --------------------------------------------------------------------------------------------------- */

static dw_wasi_errno end_call(dw_wasi *wasi, uint32_t exit_code) {
    wasi->ending = DW_E_EXIT;
    memcpy(&wasi->exit_code, &exit_code, sizeof exit_code);
    return WASI_OK;
}

static dw_wasi_errno proc_exit(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)memory;
    return end_call(wasi, (uint32_t)args[0]);
}

/* There are no handlers, so a signal ends the program, with the code that a shell would show. Signal 0 only asks. */
static dw_wasi_errno proc_raise(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)memory;
    if (args[0] == 0) return WASI_OK;
    return args[0] <= 30 ? end_call(wasi, 128 + (uint32_t)args[0]) : WASI_EINVAL;
}

static dw_wasi_errno sched_yield(dw_wasi *wasi, const dw_guest_memory *memory, const uint64_t *args) {
    (void)wasi;
    (void)memory;
    (void)args;
    return WASI_OK;
}

/* --- the table ------------------------------------------------------------------------------------------------- */

static const dw_wasi_function functions[] = {
    {"args_get", "ii", "i", args_get},
    {"args_sizes_get", "ii", "i", args_sizes_get},
    {"environ_get", "ii", "i", environ_get},
    {"environ_sizes_get", "ii", "i", environ_sizes_get},
    {"clock_res_get", "ii", "i", clock_res_get},
    {"clock_time_get", "iIi", "i", clock_time_get},
    {"fd_advise", "iIIi", "i", dw_wasi_fd_not_seekable},
    {"fd_allocate", "iII", "i", dw_wasi_fd_not_seekable},
    {"fd_close", "i", "i", dw_wasi_fd_close},
    {"fd_datasync", "i", "i", dw_wasi_fd_nothing_to_do},
    {"fd_fdstat_get", "ii", "i", dw_wasi_fd_fdstat_get},
    {"fd_fdstat_set_flags", "ii", "i", dw_wasi_fd_nothing_to_do},
    {"fd_fdstat_set_rights", "iII", "i", dw_wasi_fd_not_supported},
    {"fd_filestat_get", "ii", "i", dw_wasi_fd_filestat_get},
    {"fd_filestat_set_size", "iI", "i", dw_wasi_fd_not_supported},
    {"fd_filestat_set_times", "iIIi", "i", dw_wasi_fd_not_supported},
    {"fd_pread", "iiiIi", "i", dw_wasi_fd_not_seekable},
    {"fd_prestat_get", "ii", "i", dw_wasi_fd_no_preopen},
    {"fd_prestat_dir_name", "iii", "i", dw_wasi_fd_no_preopen},
    {"fd_pwrite", "iiiIi", "i", dw_wasi_fd_not_seekable},
    {"fd_read", "iiii", "i", dw_wasi_fd_read},
    {"fd_readdir", "iiiIi", "i", dw_wasi_fd_not_directory},
    {"fd_renumber", "ii", "i", dw_wasi_fd_not_supported},
    {"fd_seek", "iIii", "i", dw_wasi_fd_not_seekable},
    {"fd_sync", "i", "i", dw_wasi_fd_nothing_to_do},
    {"fd_tell", "ii", "i", dw_wasi_fd_not_seekable},
    {"fd_write", "iiii", "i", dw_wasi_fd_write},
    {"path_create_directory", "iii", "i", dw_wasi_fd_not_directory},
    {"path_filestat_get", "iiiii", "i", dw_wasi_fd_not_directory},
    {"path_filestat_set_times", "iiiiIIi", "i", dw_wasi_fd_not_directory},
    {"path_link", "iiiiiii", "i", dw_wasi_fd_not_directory},
    {"path_open", "iiiiiIIii", "i", dw_wasi_fd_not_directory},
    {"path_readlink", "iiiiii", "i", dw_wasi_fd_not_directory},
    {"path_remove_directory", "iii", "i", dw_wasi_fd_not_directory},
    {"path_rename", "iiiiii", "i", dw_wasi_fd_not_directory},
    {"path_symlink", "iiiii", "i", dw_wasi_path_symlink},
    {"path_unlink_file", "iii", "i", dw_wasi_fd_not_directory},
    {"poll_oneoff", "iiii", "i", dw_wasi_poll_oneoff},
    {"proc_exit", "i", "", proc_exit},
    {"proc_raise", "i", "i", proc_raise},
    {"random_get", "ii", "i", random_get},
    {"sched_yield", "", "i", sched_yield},
    {"sock_accept", "iii", "i", dw_wasi_fd_not_socket},
    {"sock_recv", "iiiiii", "i", dw_wasi_fd_not_socket},
    {"sock_send", "iiiii", "i", dw_wasi_fd_not_socket},
    {"sock_shutdown", "ii", "i", dw_wasi_fd_not_socket},
};

const dw_wasi_function *dw_wasi_functions(size_t *count) {
    *count = sizeof functions / sizeof functions[0];
    return functions;
}

const dw_wasi_function *dw_wasi_find(const dw_span *name) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (dw_span_is(name, functions[i].name)) return &functions[i];
    return NULL;
}

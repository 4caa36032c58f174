/* kill_test.c: a process that commits on several threads is killed with SIGKILL, again and again, on one store. The
 * oracle is outside: the child writes each acknowledgement into a pipe, and the parent holds the store to it. Each turn
 * it was told of is there, or one more; with the bytes of that turn, all rows, and each turn's record once.
 *
 * $DW_TEST_KILLS is how many. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "os/scratch.h"
#include "store/kit.h"

enum { USUAL_KILLS = 16, THREADS = 3, PAGES = 6, ROW_BYTES = 900, ROWS_MAX = 40 };

typedef struct told { uint64_t thread, turn; } told;

static dw_error err;
static const dw_store_options options = {.retention_turns = 8, .file_bytes = 256 * 1024, .log_bytes = 128 * 1024};

static uint64_t seed_of(uint64_t thread, uint64_t turn, uint64_t what) {
    return thread * 1000003 + turn * 131 + what + 1;
}
/* A turn writes two pages; what page i holds after it was written last by: */
static uint64_t writer_of(uint64_t turn, uint64_t page) {
    for (; turn > 0; turn--)
        if (turn % PAGES == page || (turn * 3 + 1) % PAGES == page) return turn;
    return 0;
}
/* One row a turn; the session begins anew when it is full. */
static uint64_t rows_after(uint64_t turn) { return (turn - 1) % ROWS_MAX + 1; }

/* --- the child ------------------------------------------------------------------------------------------------------
 */

static dw_store *child_store;
static int child_pipe;

static void child_must(dw_status status) {
    if (status == DW_OK) return;
    fprintf(stderr, "child: %s: %s\n", dw_status_name(status), err.text);
    _exit(3);
}

static uint64_t turn_now(dw_store *store, const char *name) {
    dw_store_view *view = NULL;
    dw_status status = dw_store_view_open(store, name, DW_STORE_LATEST, &view, &err);
    if (status == DW_E_NOT_FOUND) return 0;
    child_must(status);
    uint64_t turn = dw_store_view_turn(view);
    dw_store_view_close(view);
    return turn;
}

static void commit_turn(uint64_t thread, const char *name, uint64_t turn) {
    static _Thread_local uint8_t bytes[PAGES][DW_STORE_PAGE_BYTES], row[ROW_BYTES], state[64];
    dw_store_page pages[PAGES];
    dw_error error;
    size_t n_pages = 0;
    for (uint64_t i = 0; i < PAGES; i++) {
        if (writer_of(turn, i) != turn) continue;
        kit_fill(seed_of(thread, turn, i), bytes[i], sizeof bytes[i]);
        pages[n_pages++] = (dw_store_page){i, bytes[i]};
    }
    kit_fill(seed_of(thread, turn, 100), row, sizeof row);
    kit_fill(seed_of(thread, turn, 101), state, sizeof state);
    const dw_store_rows rows = {
        .session = 5, .first = rows_after(turn) - 1, .n = 1, .row_bytes = ROW_BYTES, .data = row};
    const dw_store_record records[] = {{.kind = 2, .number = turn, .data = state, .size = sizeof state}};
    const dw_store_change change = {.act = turn == 1 ? DW_STORE_CREATE : DW_STORE_TURN, .actor = name, .turn = turn,
                                    .pages = pages, .n_pages = n_pages, .rows = &rows, .n_rows = 1,
                                    .state = state, .state_bytes = sizeof state, .records = records, .n_records = 1};
    dw_status status = dw_store_commit(child_store, &change, 1, DW_STORE_LEVEL_TURN, &error);
    if (status != DW_OK) err = error;
    child_must(status);
}

static void run_thread(void *argument) {
    uint64_t thread = *(const uint64_t *)argument;
    char name[32];
    kit_name((unsigned)thread, name);
    for (uint64_t turn = turn_now(child_store, name) + 1;; turn++) {
        commit_turn(thread, name, turn);
        const told message = {thread, turn};
        if (write(child_pipe, &message, sizeof message) != (ssize_t)sizeof message) _exit(4);
    }
}

static int be_child(const char *folder, const char *pipe_number) {
    static uint64_t numbers[THREADS];
    dw_os_thread *threads[THREADS];
    child_pipe = atoi(pipe_number);
    child_must(dw_store_open(folder, &options, &child_store, &err));
    for (uint64_t i = 0; i < THREADS; i++) {
        numbers[i] = i;
        child_must(dw_os_thread_create("committer", 0, run_thread, &numbers[i], &threads[i], &err));
    }
    while (child_store) { /* until it is killed */
        bool more;
        child_must(dw_store_tidy(child_store, 1, &more, &err));
        dw_os_sleep(5000000);
    }
    return 0;
}

/* --- the parent -----------------------------------------------------------------------------------------------------
 */

static char folder[SCRATCH_PATH_BYTES];

static pid_t start_child(int *out) {
    char program[1024], number[16];
    int ends[2];
    assert_ok(dw_os_executable_path(program, sizeof program, &err), err);
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[0]);
        (void)snprintf(number, sizeof number, "%d", ends[1]);
        (void)execl(program, program, "child", folder, number, (char *)NULL);
        _exit(5);
    }
    (void)close(ends[1]);
    *out = ends[0];
    return child;
}

static bool read_told(int from, told *out) {
    size_t done = 0;
    while (done < sizeof *out) {
        ssize_t moved = read(from, (char *)out + done, sizeof *out - done);
        if (moved < 0 && errno == EINTR) continue;
        if (moved <= 0) return false;
        done += (size_t)moved;
    }
    return true;
}

static bool count_records(void *context, uint64_t number, const void *data, size_t size) {
    uint64_t *expected = context;
    (void)data;
    if (number != *expected || size != 64) return false;
    ++*expected;
    return true;
}

static void assert_bytes(uint64_t seed, const void *found, size_t size) {
    uint8_t wanted[DW_STORE_PAGE_BYTES];
    kit_fill(seed, wanted, size);
    assert_memory_equal(wanted, found, size);
}

static void check_actor(dw_store *store, uint64_t thread, uint64_t *acknowledged) {
    static uint8_t rows[ROWS_MAX * ROW_BYTES], page[DW_STORE_PAGE_BYTES];
    dw_store_view *view = NULL;
    char name[32];
    uint64_t number = 1;
    size_t size;
    kit_name((unsigned)thread, name);
    dw_status status = dw_store_view_open(store, name, DW_STORE_LATEST, &view, &err);
    if (status == DW_E_NOT_FOUND && *acknowledged == 0) return;
    assert_int_equal(status, DW_OK);
    uint64_t turn = dw_store_view_turn(view);
    assert_in_range(turn, *acknowledged, *acknowledged + 1);
    *acknowledged = turn;
    const void *state = dw_store_view_state(view, &size);
    assert_int_equal(size, 64);
    assert_bytes(seed_of(thread, turn, 101), state, size);
    for (uint64_t i = 0; i < PAGES; i++) {
        assert_ok(dw_store_view_read_page(view, i, page, &err), err);
        if (writer_of(turn, i)) assert_bytes(seed_of(thread, writer_of(turn, i), i), page, sizeof page);
    }
    uint64_t n = rows_after(turn);
    assert_ok(dw_store_view_read_rows(view, 5, 0, n, rows, &err), err);
    for (uint64_t i = 0; i < n; i++)
        assert_bytes(seed_of(thread, turn - n + 1 + i, 100), rows + i * ROW_BYTES, ROW_BYTES);
    dw_store_view_close(view);
    assert_ok(dw_store_records(store, name, 2, 0, count_records, &number, &err), err);
    assert_int_equal(number, turn + 1); /* 1 .. turn, each once */
}

static void no_kill_loses_a_turn_or_does_one_twice(void **unused) {
    (void)unused;
    uint64_t random = test_seed(1), acknowledged[THREADS] = {0};
    uint32_t kills = test_number("DW_TEST_KILLS", USUAL_KILLS);
    (void)snprintf(folder, sizeof folder, "%s/store", scratch_folder);
    for (uint32_t i = 0; i < kills; i++) {
        dw_store *store = NULL;
        told message;
        int from, ended;
        pid_t child = start_child(&from);
        uint64_t n = 1 + test_random_below(&random, 40);
        for (uint64_t k = 0; k < n && read_told(from, &message); k++) acknowledged[message.thread] = message.turn;
        dw_os_sleep(test_random_below(&random, 3000000));
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &ended, 0), child);
        assert_true(WIFSIGNALED(ended)); /* it did not end by itself: nothing failed there */
        while (read_told(from, &message)) acknowledged[message.thread] = message.turn;
        (void)close(from);
        assert_ok(dw_store_open(folder, &options, &store, &err), err);
        for (uint64_t thread = 0; thread < THREADS; thread++) check_actor(store, thread, &acknowledged[thread]);
        if (i % 8 == 0) assert_ok(dw_store_verify(store, &err), err);
        assert_ok(dw_store_close(store, &err), err);
    }
    print_message("%u kills, %" PRIu64 " turns\n", kills, acknowledged[0] + acknowledged[1] + acknowledged[2]);
    assert_true(acknowledged[0] > kills / 4);
}

static int drop_all(void **state) {
    kit_empty_folder(folder);
    (void)remove(folder);
    return scratch_drop(state);
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "child") == 0) return be_child(argv[2], argv[3]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_kill_loses_a_turn_or_does_one_twice),
    };
    return cmocka_run_group_tests(tests, scratch_make, drop_all);
}

/* wasi_test.c: WASI preview 1, first its functions one by one on a memory of their own, then all of them called by a guest with
 * the worst pointers and lengths there are. */
#include "wasm/fixture.h"

#include "wasm/guest_memory.h"
#include "wasm/wasi.h"

enum { MEMORY_BYTES = 65536 };

static dw_guest_memory memory;
static dw_wasi wasi;
static char output[4096];
static size_t output_size;
static const char *input = "";

static dw_status on_write(void *context, int stream, const void *data, size_t size) {
    (void)context;
    assert_true(size <= sizeof output - output_size - 2);
    output[output_size++] = (char)('0' + stream);
    memcpy(output + output_size, data, size);
    output_size += size;
    output[output_size] = '\0';
    return DW_OK;
}

static size_t on_read(void *context, void *data, size_t capacity) {
    (void)context;
    size_t n = strlen(input) < capacity ? strlen(input) : capacity;
    memcpy(data, input, n);
    input += n;
    return n;
}

static int set_up(void **state) {
    (void)state;
    static const char *const arguments[] = {"program", "", "-x", NULL}, *const environment[] = {"A=1", "LONG=value", NULL};
    const dw_wasi_options options = {.arguments = arguments, .environment = environment, .write = on_write, .read = on_read};
    const dw_wasi_state start = {.birth_realtime_ns = 1000000, .turn_realtime_ns = 5000000, .random_seed = {1, 2, 3}};
    memory.bytes_max = MEMORY_BYTES;
    output_size = 0;
    if (dw_region_create(&(dw_region_options){.reserve_bytes = MEMORY_BYTES, .guard_bytes = MEMORY_BYTES}, &memory.region, NULL) != DW_OK ||
        dw_region_grow(memory.region, MEMORY_BYTES, NULL) != DW_OK)
        return -1;
    return dw_wasi_init(&wasi, &options, &start, NULL) == DW_OK ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    dw_wasi_deinit(&wasi);
    return dw_region_destroy(memory.region) == DW_OK ? 0 : -1;
}

static dw_wasi_errno run(const char *name, uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
    dw_span span = {.data = (const uint8_t *)name, .size = strlen(name)};
    const dw_wasi_function *function = dw_wasi_find(&span);
    assert_non_null(function);
    const uint64_t args[DW_WASI_PARAMS_MAX] = {a, b, c, d};
    return function->handler(&wasi, &memory, args);
}

static uint32_t u32_at(uint32_t pointer) {
    uint32_t value;
    assert_ok(dw_guest_read(&memory, pointer, &value, sizeof value));
    return value;
}

static uint64_t u64_at(uint32_t pointer) {
    uint64_t value;
    assert_ok(dw_guest_read(&memory, pointer, &value, sizeof value));
    return value;
}

static void set_u32(uint32_t pointer, uint32_t value) { assert_ok(dw_guest_write(&memory, pointer, &value, sizeof value)); }
static void set_u64(uint32_t pointer, uint64_t value) { assert_ok(dw_guest_write(&memory, pointer, &value, sizeof value)); }
static const char *text_at(uint32_t pointer) { return (const char *)dw_region_base(memory.region) + pointer; }

static void arguments_and_environment_arrive_as_strings(void **state) {
    (void)state;
    assert_int_equal(run("args_sizes_get", 0, 4, 0, 0), WASI_OK);
    assert_int_equal(u32_at(0), 3);
    assert_int_equal(u32_at(4), 8 + 1 + 3);
    assert_int_equal(run("args_get", 16, 64, 0, 0), WASI_OK);
    assert_string_equal(text_at(u32_at(16)), "program");
    assert_string_equal(text_at(u32_at(20)), "");
    assert_string_equal(text_at(u32_at(24)), "-x");
    assert_int_equal(run("environ_get", 16, 64, 0, 0), WASI_OK);
    assert_string_equal(text_at(u32_at(20)), "LONG=value");
    /* no room for the pointers, none for the bytes */
    assert_int_equal(run("args_get", MEMORY_BYTES - 8, 0, 0, 0), WASI_EFAULT);
    assert_int_equal(run("args_get", 0, MEMORY_BYTES - 8, 0, 0), WASI_EFAULT);
}

static void clocks_are_virtual_and_always_advance(void **state) {
    (void)state;
    assert_int_equal(run("clock_time_get", 0, 1, 8, 0), WASI_OK);
    assert_true(u64_at(8) == 5000000);
    assert_int_equal(run("clock_time_get", 0, 1, 8, 0), WASI_OK);
    assert_true(u64_at(8) == 5001000);
    assert_int_equal(run("clock_time_get", 1, 1, 8, 0), WASI_OK);
    assert_true(u64_at(8) == 5002000 - 1000000 + 1);
    assert_int_equal(run("clock_time_get", 4, 1, 8, 0), WASI_EINVAL);
    assert_int_equal(run("clock_time_get", 0, 1, MEMORY_BYTES - 7, 0), WASI_EFAULT);
    /* failed calls took no time */
    assert_true(dw_wasi_now(&wasi.state) == 5003000);
    dw_wasi_begin_turn(&wasi.state, 4000000); /* the host's clock went back; the guest's does not */
    assert_true(dw_wasi_now(&wasi.state) == 5003000);
    dw_wasi_begin_turn(&wasi.state, 6000000);
    assert_true(dw_wasi_now(&wasi.state) == 6000000);
    assert_int_equal(run("clock_res_get", 1, 8, 0, 0), WASI_OK);
    assert_true(u64_at(8) == 1000);
}

static void monotonic_time_is_never_zero(void **state) {
    (void)state;
    wasi.state.birth_realtime_ns = wasi.state.turn_realtime_ns;
    assert_int_equal(run("clock_time_get", 1, 1, 8, 0), WASI_OK);
    assert_true(u64_at(8) > 0);
}

static void random_bytes_depend_on_the_state_alone(void **state) {
    (void)state;
    dw_wasi_state start = wasi.state;
    assert_int_equal(run("random_get", 0, 100, 0, 0), WASI_OK);
    assert_int_equal(run("random_get", 200, 40, 0, 0), WASI_OK);
    wasi.state = start; /* a restore */
    assert_int_equal(run("random_get", 1000, 100, 0, 0), WASI_OK);
    assert_int_equal(run("random_get", 1200, 40, 0, 0), WASI_OK);
    assert_memory_equal(text_at(0), text_at(1000), 300);
    assert_memory_not_equal(text_at(0), text_at(200), 40);
    wasi.state = start;
    wasi.state.random_seed[31] ^= 1;
    assert_int_equal(run("random_get", 2000, 100, 0, 0), WASI_OK);
    assert_memory_not_equal(text_at(0), text_at(2000), 100);
    assert_int_equal(run("random_get", 0, DW_WASI_RANDOM_BYTES_MAX + 1, 0, 0), WASI_EINVAL);
    assert_int_equal(run("random_get", MEMORY_BYTES - 10, 11, 0, 0), WASI_EFAULT);
}

static void set_vector(uint32_t at, uint32_t pointer, uint32_t size) {
    set_u32(at, pointer);
    set_u32(at + 4, size);
}

static void writing_gathers_and_goes_to_its_stream(void **state) {
    (void)state;
    assert_ok(dw_guest_write(&memory, 100, "hello, world", 12));
    set_vector(0, 100, 7);
    set_vector(8, 65536, 0); /* empty, at the very end: allowed */
    set_vector(16, 107, 5);
    assert_int_equal(run("fd_write", 1, 0, 3, 40), WASI_OK);
    assert_int_equal(u32_at(40), 12);
    assert_int_equal(run("fd_write", 2, 16, 1, 40), WASI_OK);
    assert_string_equal(output, "1hello, 1world2world");
    assert_int_equal(run("fd_write", 0, 0, 3, 40), WASI_EBADF);
    assert_int_equal(run("fd_write", 3, 0, 3, 40), WASI_EBADF);
}

static void a_write_with_one_bad_buffer_writes_nothing(void **state) {
    (void)state;
    set_vector(0, 100, 7);
    set_vector(8, MEMORY_BYTES - 4, 5);
    assert_int_equal(run("fd_write", 1, 0, 2, 40), WASI_EFAULT);
    assert_int_equal(run("fd_write", 1, 0, 1, MEMORY_BYTES - 3), WASI_EFAULT);
    assert_int_equal(run("fd_write", 1, MEMORY_BYTES - 8, 2, 40), WASI_EFAULT);
    assert_int_equal(run("fd_write", 1, 0, DW_WASI_VECTORS_MAX + 1, 40), WASI_EINVAL);
    assert_int_equal(output_size, 0);
}

static void reading_scatters_until_the_input_ends(void **state) {
    (void)state;
    input = "abcdefgh";
    set_vector(0, 100, 3);
    set_vector(8, 200, 10);
    set_vector(16, 300, 10);
    assert_int_equal(run("fd_read", 0, 0, 3, 40), WASI_OK);
    assert_int_equal(u32_at(40), 8);
    assert_memory_equal(text_at(100), "abc", 4);
    assert_memory_equal(text_at(200), "defgh", 6);
    assert_int_equal(run("fd_read", 0, 0, 3, 40), WASI_OK);
    assert_int_equal(u32_at(40), 0);
    assert_int_equal(run("fd_read", 1, 0, 3, 40), WASI_EBADF);
}

static void subscribe_clock(uint32_t at, uint64_t userdata, uint32_t clock, uint64_t timeout, uint32_t flags) {
    set_u64(at, userdata);
    set_u64(at + 8, 0);
    set_u64(at + 16, clock);
    set_u64(at + 24, timeout);
    set_u64(at + 40, flags);
}

static void sleeping_moves_virtual_time_to_the_first_moment(void **state) {
    (void)state;
    subscribe_clock(0, 11, 1, 9000000, 0);
    subscribe_clock(48, 22, 1, 2000000, 0);
    subscribe_clock(96, 33, 0, 7000000, 1); /* absolute: the same moment as the second */
    assert_int_equal(run("poll_oneoff", 0, 1000, 3, 2000), WASI_OK);
    assert_int_equal(u32_at(2000), 2);
    assert_true(u64_at(1000) == 22 && u64_at(1032) == 33);
    assert_true(dw_wasi_now(&wasi.state) == 7000000);
}

static void streams_are_ready_at_once_and_no_time_passes(void **state) {
    (void)state;
    subscribe_clock(0, 11, 1, 9000000, 0);
    subscribe_clock(48, 22, 1, 0, 0);
    assert_ok(dw_guest_write(&memory, 48 + 8, "\1", 1)); /* fd_read of descriptor 1: not readable */
    set_u32(48 + 16, 1);
    subscribe_clock(96, 33, 0, 0, 0);
    assert_ok(dw_guest_write(&memory, 96 + 8, "\2", 1));
    set_u32(96 + 16, 2);
    /* events over the subscriptions: both must still be right */
    assert_int_equal(run("poll_oneoff", 0, 0, 3, 2000), WASI_OK);
    assert_int_equal(u32_at(2000), 2);
    assert_true(u64_at(0) == 22 && (u32_at(8) & 0xFFFF) == WASI_EBADF);
    assert_true(u64_at(32) == 33 && (u32_at(40) & 0xFFFF) == WASI_OK);
    assert_true(dw_wasi_now(&wasi.state) == 5000000);
}

static void a_sleep_without_end_is_refused(void **state) {
    (void)state;
    subscribe_clock(0, 11, 1, UINT64_MAX, 0);
    assert_int_equal(run("poll_oneoff", 0, 1000, 1, 2000), WASI_ENOTSUP);
    assert_int_equal(run("poll_oneoff", 0, 1000, 0, 2000), WASI_EINVAL);
    assert_int_equal(run("poll_oneoff", 0, 1000, DW_WASI_SUBSCRIPTIONS_MAX + 1, 2000), WASI_EINVAL);
    assert_true(dw_wasi_now(&wasi.state) == 5000000);
}

static void streams_look_like_a_terminal_and_nothing_else_exists(void **state) {
    (void)state;
    assert_int_equal(run("fd_fdstat_get", 1, 0, 0, 0), WASI_OK);
    assert_int_equal(*text_at(0), 2);
    assert_int_equal(run("fd_filestat_get", 0, 0, 0, 0), WASI_OK);
    assert_int_equal(run("fd_seek", 1, 0, 0, 0), WASI_ESPIPE);
    assert_int_equal(run("fd_close", 1, 0, 0, 0), WASI_OK);
    assert_int_equal(run("fd_close", 3, 0, 0, 0), WASI_EBADF);
    assert_int_equal(run("fd_prestat_get", 3, 0, 0, 0), WASI_EBADF);
    assert_int_equal(run("path_open", 0, 0, 0, 0), WASI_ENOTDIR);
    assert_int_equal(run("path_open", 3, 0, 0, 0), WASI_EBADF);
    assert_int_equal(run("path_symlink", 0, 0, 3, 0), WASI_EBADF);
    assert_int_equal(run("sock_recv", 0, 0, 0, 0), WASI_ENOTSOCK);
    assert_int_equal(run("fd_renumber", 1, 2, 0, 0), WASI_ENOTSUP);
}

/* --- all of them, at their worst ----------------------------------------------------------------------------------- */

enum { ROUNDS = 400, ARGS_AT = 1024 };

static const dw_region *hostile_region;

static void assert_inside(const void *data, size_t size) {
    const uint8_t *base = dw_region_base(hostile_region), *from = data;
    assert_true(from >= base && size <= dw_region_size(hostile_region) && (size_t)(from - base) <= dw_region_size(hostile_region) - size);
}

static dw_status write_inside(void *context, int stream, const void *data, size_t size) {
    (void)context, (void)stream;
    assert_inside(data, size);
    return DW_OK;
}

static size_t read_inside(void *context, void *data, size_t capacity) {
    (void)context;
    assert_inside(data, capacity);
    memset(data, 'x', capacity);
    return capacity;
}

/* A guest with a function `f<i>` for each WASI function, which takes its arguments from memory, as 64-bit numbers. */
static char *caller_of_everything(void) {
    size_t count, n = 0, capacity = 200000;
    const dw_wasi_function *functions = dw_wasi_functions(&count);
    char *wat = malloc(capacity);
    assert_non_null(wat);
    n += (size_t)snprintf(wat + n, capacity - n, "(module ");
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(wat + n, capacity - n, "(import \"wasi_snapshot_preview1\" \"%s\" (func $i%zu (param", functions[i].name, i);
        for (const char *p = functions[i].params; *p; p++) n += (size_t)snprintf(wat + n, capacity - n, *p == 'i' ? " i32" : " i64");
        n += (size_t)snprintf(wat + n, capacity - n, ")%s))", functions[i].results[0] ? " (result i32)" : "");
    }
    n += (size_t)snprintf(wat + n, capacity - n, "(memory 1)");
    for (size_t i = 0; i < count; i++) {
        n += (size_t)snprintf(wat + n, capacity - n, "(func (export \"f%zu\") (result i32) (call $i%zu", i, i);
        int at = ARGS_AT;
        for (const char *p = functions[i].params; *p; p++, at += 8)
            n += (size_t)snprintf(wat + n, capacity - n, " (%s.load (i32.const %d))", *p == 'i' ? "i32" : "i64", at);
        n += (size_t)snprintf(wat + n, capacity - n, ")%s)", functions[i].results[0] ? "" : " (i32.const 0)");
    }
    snprintf(wat + n, capacity - n, ")");
    return wat;
}

static uint64_t next_random(uint64_t *seed) {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void nasty_arguments(dw_instance *instance, uint64_t *seed) {
    static const uint64_t nasty[] = {0, 1, 2, 3, 7, 8, 1024, 65504, 65532, 65535, 65536, 65537, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC,
                                     0xFFFFFFFF, 0x100000000, UINT64_MAX / 2, UINT64_MAX};
    uint64_t args[DW_WASI_PARAMS_MAX];
    for (int i = 0; i < DW_WASI_PARAMS_MAX; i++) args[i] = nasty[next_random(seed) % (sizeof nasty / sizeof nasty[0])];
    /* Vectors and subscriptions are read from low addresses: fill these with nasty numbers, too. */
    uint32_t words[64];
    for (int i = 0; i < 64; i++) words[i] = (uint32_t)nasty[next_random(seed) % (sizeof nasty / sizeof nasty[0])];
    assert_ok(dw_guest_write(dw_instance_memory(instance), 0, words, sizeof words));
    assert_ok(dw_guest_write(dw_instance_memory(instance), ARGS_AT, args, sizeof args));
}

static dw_instance *hostile_instance(dw_program *program) {
    dw_instance *instance = NULL;
    dw_instance_options options = test_options();
    options.wasi.write = write_inside;
    options.wasi.read = read_inside;
    assert_ok(dw_instance_create(program, &options, &instance, err));
    hostile_region = dw_instance_region(instance);
    return instance;
}

static void no_arguments_of_any_function_reach_outside_the_memory(void **state) {
    (void)state;
    size_t count;
    uint64_t seed = 0x9E3779B97F4A7C15u;
    const dw_wasi_function *functions = dw_wasi_functions(&count);
    assert_int_equal(count, 46);
    char *wat = caller_of_everything();
    dw_program *program = test_program(wat);
    dw_instance *instance = hostile_instance(program);
    print_message("seed %llx\n", (unsigned long long)seed);
    for (size_t i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "f%zu", i);
        for (int round = 0; round < ROUNDS; round++) {
            dw_call_result result;
            dw_error err = {0};
            nasty_arguments(instance, &seed);
            dw_status status = dw_instance_call(instance, name, UINT64_MAX, &result, &err);
            if (status == DW_E_EXIT) {
                dw_instance_destroy(instance);
                instance = hostile_instance(program);
            } else if (status != DW_OK || result.value < 0 || result.value > 76) {
                fail_msg("%s: %s %d: %s", functions[i].name, dw_status_name(status), (int)result.value, err.text);
            }
        }
    }
    dw_instance_destroy(instance);
    dw_program_release(program);
    free(wat);
}

/* --- a whole program ------------------------------------------------------------------------------------------------ */

static void a_command_reads_writes_sleeps_and_exits(void **state) {
    (void)state;
    static const char *const arguments[] = {"command", "--flag", NULL}, *const environment[] = {"COLOUR=green", NULL};
    test_bytes wasm = test_guest("wasm_command");
    assert_non_null(wasm.data);
    dw_program *program = NULL;
    dw_instance *instance = NULL;
    dw_call_result result;
    assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
    assert_true(dw_program_info_view(program)->has_start_command);
    dw_instance_options options = test_options();
    options.wasi = (dw_wasi_options){.arguments = arguments, .environment = environment, .write = on_write, .read = on_read};
    output_size = 0;
    input = "typed";
    assert_ok(dw_instance_create(program, &options, &instance, err));
    uint64_t before = dw_wasi_now(dw_instance_wasi(instance));
    assert_int_equal(dw_instance_start_command(instance, UINT64_MAX, &result, NULL), DW_E_EXIT);
    assert_int_equal(result.exit_code, 7);
    assert_non_null(strstr(output, "command;--flag;green;typed;"));
    assert_non_null(strstr(output, "2done"));
    assert_true(dw_wasi_now(dw_instance_wasi(instance)) >= before + UINT64_C(3600000000000));
    dw_instance_destroy(instance);
    dw_program_release(program);
    free(wasm.data);
}

#define UNIT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void) {
    const struct CMUnitTest tests[] = {
        UNIT(arguments_and_environment_arrive_as_strings),
        UNIT(clocks_are_virtual_and_always_advance),
        UNIT(monotonic_time_is_never_zero),
        UNIT(random_bytes_depend_on_the_state_alone),
        UNIT(writing_gathers_and_goes_to_its_stream),
        UNIT(a_write_with_one_bad_buffer_writes_nothing),
        UNIT(reading_scatters_until_the_input_ends),
        UNIT(sleeping_moves_virtual_time_to_the_first_moment),
        UNIT(streams_are_ready_at_once_and_no_time_passes),
        UNIT(a_sleep_without_end_is_refused),
        UNIT(streams_look_like_a_terminal_and_nothing_else_exists),
        cmocka_unit_test(a_command_reads_writes_sleeps_and_exits),
        cmocka_unit_test(no_arguments_of_any_function_reach_outside_the_memory),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

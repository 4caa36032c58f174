/* abort_test.c: AssemblyScript's abort: its text is the trap's, and nothing that a guest hands over can harm. */
#include "wasm/fixture.h"

#include "wasm/abort.h"

/* Strings as the compiler lays them out: 20 bytes of head, the last four its size in bytes. */
#define ACTOR(message, file)                                                                                           \
    "(module (import \"env\" \"abort\" (func $abort (param i32 i32 i32 i32))) (memory 1)"                              \
    "(data (i32.const 16) \"\\16\\00\\00\\00o\\00u\\00t\\00 \\00o\\00f\\00 \\00t\\00e\\00a\\00!\\00\")"                \
    "(data (i32.const 64) \"\\08\\00\\00\\00a\\00.\\00t\\00s\\00\")"                                                   \
    "(func (export \"driftwood_receive\") (result i32)"                                                                \
    " (call $abort (i32.const " message ") (i32.const " file ") (i32.const 12) (i32.const 5)) (i32.const 0)))"

static void expect_trap(const char *wat, const char *text) {
    dw_program *program = test_program(wat);
    dw_instance *instance = test_instance(program);
    dw_call_result result;
    dw_error err = {0};
    assert_int_equal(dw_instance_receive(instance, UINT64_MAX, &result, &err), DW_E_TRAP);
    assert_string_equal(err.text, text);
    assert_int_equal(dw_instance_receive(instance, UINT64_MAX, &result, NULL), DW_E_STATE);
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void an_abort_is_a_trap_with_its_message_and_place(void **state) {
    (void)state;
    expect_trap(ACTOR("20", "68"), "the guest trapped: out of tea! at a.ts:12:5");
    expect_trap(ACTOR("20", "0"), "the guest trapped: out of tea!");
    expect_trap(ACTOR("0", "68"), "the guest trapped: abort at a.ts:12:5");
    expect_trap(ACTOR("0", "0"), "the guest trapped: abort");
}

static void strings_that_are_none_are_said_to_be_so(void **state) {
    (void)state;
    static const char none[] = "the guest trapped: abort, with a message that is no string at a.ts:12:5";
    expect_trap(ACTOR("1", "68"), none);
    expect_trap(ACTOR("3", "68"), none); /* no room for a size before it */
    expect_trap(ACTOR("-1", "68"), none);
    expect_trap(ACTOR("65536", "68"),
                "the guest trapped: abort at a.ts:12:5"); /* of no length, at the end of the memory */
    expect_trap(ACTOR("65541", "68"), none);              /* its size lies outside */
    expect_trap(ACTOR("24", "68"), none);                 /* a size of "ou", far too long */
    expect_trap(ACTOR("20", "65541"), "the guest trapped: out of tea! at ?:12:5");
}

static dw_instance *instance_with_memory(dw_program **program) {
    *program = test_program("(module (memory 1))");
    return test_instance(*program);
}

/* Lays a string out at 20 and gives the text of an abort with it. */
static void text_of(dw_instance *instance, const uint8_t *units, uint32_t size, char out[DW_ABORT_TEXT_BYTES]) {
    uint8_t head[4] = {(uint8_t)size, (uint8_t)(size >> 8), (uint8_t)(size >> 16), (uint8_t)(size >> 24)};
    dw_guest_memory *memory = dw_instance_memory(instance);
    assert_int_equal(dw_guest_write(memory, 16, head, sizeof head), DW_OK);
    assert_int_equal(dw_guest_write(memory, 20, units, size), DW_OK);
    dw_abort_text(memory, 20, 0, 0, 0, out);
}

static void text_outside_ascii_is_kept_and_controls_are_written_out(void **state) {
    (void)state;
    static const uint8_t units[] = {0xE9, 0, 0xAC, 0x20, 0x3D, 0xD8, 0x00, 0xDE, 0x3D, 0xD8,
                                    'x',  0, 0x00, 0xDE, 0x1B, 0,    0,    0,    0x3D, 0xD8};
    dw_program *program;
    char text[DW_ABORT_TEXT_BYTES];
    dw_instance *instance = instance_with_memory(&program);
    text_of(instance, units, sizeof units, text);
    assert_string_equal(text, "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xEF\xBF\xBDx\xEF\xBF\xBD\\x1b\\x00\xEF\xBF\xBD");
    dw_instance_destroy(instance);
    dw_program_release(program);
}

static void a_long_message_is_cut_at_a_whole_character(void **state) {
    (void)state;
    static uint8_t units[60000];
    static const uint8_t kinds[][2] = {{'a', 0}, {0xE9, 0}, {0xAC, 0x20}, {0x1B, 0}};
    dw_program *program;
    char text[DW_ABORT_TEXT_BYTES];
    dw_instance *instance = instance_with_memory(&program);
    for (size_t kind = 0; kind < 4; kind++) {
        for (size_t i = 0; i < sizeof units; i++) units[i] = kinds[kind][i % 2];
        text_of(instance, units, sizeof units, text);
        size_t size = strlen(text);
        assert_in_range(size, 100, sizeof text - 1);
        assert_string_equal(text + size - 3, "...");
        assert_true(kind != 2 || (size - 3) % 3 == 0);
        assert_true(kind != 3 || (size - 3) % 4 == 0);
    }
    dw_instance_destroy(instance);
    dw_program_release(program);
}

/* Every pointer around the edges, over memory of every byte value. */
static void any_pointers_over_any_memory_give_a_text(void **state) {
    (void)state;
    static uint8_t bytes[65536];
    dw_program *program;
    char text[DW_ABORT_TEXT_BYTES];
    dw_instance *instance = instance_with_memory(&program);
    uint64_t seed = dw_os_monotonic_ns();
    print_message("seed %llu\n", (unsigned long long)seed);
    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            bytes[i] = i % 4 > 1 ? 0 : (uint8_t)(seed >> 40); /* half of the sizes are small enough to be true */
        }
        assert_int_equal(dw_guest_write(dw_instance_memory(instance), 0, bytes, sizeof bytes), DW_OK);
        for (uint32_t i = 0; i < 2000; i++) {
            uint32_t edge = i % 2 ? 65536 : 0, pointer = edge + i - 1000,
                     file = (uint32_t)(seed >> 33) + i * 37 % 65536;
            dw_abort_text(dw_instance_memory(instance), pointer, file, i, pointer, text);
            assert_in_range(strlen(text), 1, sizeof text - 1);
        }
    }
    dw_instance_destroy(instance);
    dw_program_release(program);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_abort_is_a_trap_with_its_message_and_place),
        cmocka_unit_test(strings_that_are_none_are_said_to_be_so),
        cmocka_unit_test(text_outside_ascii_is_kept_and_controls_are_written_out),
        cmocka_unit_test(a_long_message_is_cut_at_a_whole_character),
        cmocka_unit_test(any_pointers_over_any_memory_give_a_text),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

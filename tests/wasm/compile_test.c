/* compile_test.c: a program that compiles for long is given up within its limit, and harms nothing else: neither those
 * who come after it, nor the end of the engine, nor the end of the process. */
#include "wasm/fixture.h"

/* Wasmtime takes the cube of how deep loops are nested: 500 a fifth of a second, 2,000, in 27 KB, some ten. */
enum { DEEP = 500, DEEPER = 2000 };
static const uint64_t moment_ns = 1000000;

static const char *const small_wat =
    "(module (memory 1) (func (export \"driftwood_receive\") (result i32) (i32.const 42)))";

/* A program with loops in loops. `value` makes it another program of the same kind. */
static test_bytes nested_loops(int depth, int value) {
    size_t size = (size_t)depth * 128 + 400, n = 0;
    char *text = malloc(size);
    assert_non_null(text);
    n += (size_t)snprintf(text + n, size - n, "(module (memory 1) (func (export \"driftwood_receive\") (result i32)"
                                               " (local i32 i32 i32 i32) i32.const %d local.set 0 ", value);
    for (int i = 0; i < depth; i++) {
        n += (size_t)snprintf(text + n, size - n, "loop local.get %d i32.const 1 i32.add local.set %d ", i % 4, i % 4);
    }
    for (int i = 0; i < depth; i++) n += (size_t)snprintf(text + n, size - n, "local.get 3 br_if 0 end ");
    n += (size_t)snprintf(text + n, size - n, "local.get 0))");
    assert_true(n < size);
    test_bytes wasm = test_wat(text);
    free(text);
    return wasm;
}

static dw_wasm_engine *limited_engine(const char *cache_folder) {
    dw_wasm_engine *engine = NULL;
    test_handle_traps();
    const dw_wasm_engine_options options = {.cache_folder = cache_folder, .compile_limit_ns = moment_ns};
    assert_ok(dw_wasm_engine_create(&options, &engine, err));
    return engine;
}

static dw_status prepare(dw_wasm_engine *engine, const test_bytes *wasm, dw_program **out, dw_error *err) {
    *err = (dw_error){0};
    return dw_program_prepare(engine, wasm->data, wasm->size, out, err);
}

static void give_up(dw_wasm_engine *engine, int depth, int value) {
    dw_program *program = NULL;
    dw_error err;
    test_bytes wasm = nested_loops(depth, value);
    assert_int_equal(prepare(engine, &wasm, &program, &err), DW_E_DEADLINE);
    assert_null(program);
    assert_non_null(strstr(err.text, "compiling takes longer than 0.001 s"));
    assert_non_null(strstr(err.text, "the heaviest function, 0, has "));
    assert_true(err.offset > 0 && err.offset < wasm.size);
    free(wasm.data);
}

/* Prepares again and again, as long as the limit ends it. */
static dw_program *prepare_in_the_end(dw_wasm_engine *engine, const test_bytes *wasm) {
    dw_program *program = NULL;
    dw_error err;
    dw_status status = DW_E_DEADLINE;
    while (status == DW_E_DEADLINE) status = prepare(engine, wasm, &program, &err);
    if (status != DW_OK) fail_msg("%s: %s", dw_status_name(status), err.text);
    return program;
}

static void a_program_that_compiles_for_long_is_given_up_with_a_sentence_and_others_go_on(void **state) {
    (void)state;
    dw_wasm_engine *engine = limited_engine(NULL);
    give_up(engine, DEEPER, 1);
    test_bytes wasm = test_wat(small_wat);
    dw_program *program = prepare_in_the_end(engine, &wasm);
    dw_call_result result;
    dw_instance *instance = test_instance(program);
    assert_ok(dw_instance_receive(instance, UINT64_MAX, &result, err));
    assert_int_equal(result.value, 42);
    dw_instance_destroy(instance);
    dw_program_release(program);
    free(wasm.data);
    dw_wasm_engine_destroy(engine); /* while the other one is being compiled, and so does the process end */
}

/* Without a cache: were it compiled anew each time, it would be given up each time. */
static void who_asks_again_waits_for_the_same_compile(void **state) {
    (void)state;
    dw_wasm_engine *engine = limited_engine(NULL);
    give_up(engine, DEEP, 2);
    test_bytes wasm = nested_loops(DEEP, 2);
    dw_program *program = prepare_in_the_end(engine, &wasm);
    dw_program_release(program);
    free(wasm.data);
    dw_wasm_engine_destroy(engine);
}

static bool count_file(void *context, const char *name) {
    size_t length = strlen(name);
    if (length > 6 && strcmp(name + length - 6, ".cwasm") == 0) ++*(int *)context;
    return true;
}

static void what_was_given_up_is_found_in_the_cache_once_it_is_done(void **state) {
    (void)state;
    char folder[512], code[600];
    int n = 0;
    test_folder("compile", folder, sizeof folder);
    snprintf(code, sizeof code, "%s/code", folder);
    dw_wasm_engine *engine = limited_engine(folder);
    give_up(engine, DEEP, 3);
    dw_wasm_engine_destroy(engine); /* the thread has what it needs */
    while (n == 0) {
        dw_os_sleep(moment_ns);
        assert_ok(dw_os_list(code, count_file, &n, err));
    }
    engine = limited_engine(folder);
    test_bytes wasm = nested_loops(DEEP, 3);
    dw_program *program = NULL;
    assert_ok(dw_program_prepare(engine, wasm.data, wasm.size, &program, err));
    assert_true(dw_program_info_view(program)->from_cache);
    dw_program_release(program);
    free(wasm.data);
    dw_wasm_engine_destroy(engine);
}

static void those_that_were_given_up_are_counted_and_a_further_one_is_refused(void **state) {
    (void)state;
    dw_wasm_engine *engine = limited_engine(NULL);
    dw_program *program = NULL;
    dw_error err;
    for (unsigned i = 0; i < DW_COMPILES_GIVEN_UP_MAX; i++) give_up(engine, DEEPER, 10 + (int)i);
    test_bytes wasm = test_wat(small_wat);
    assert_int_equal(prepare(engine, &wasm, &program, &err), DW_E_BUSY);
    assert_non_null(strstr(err.text, "programs that took too long are still being compiled"));
    free(wasm.data);
    dw_wasm_engine_destroy(engine);
}

/* A function with `n` times `piece` between `before` and `after`, which takes one i32 and gives one; `k` values go
 * through type 1. */
static test_bytes repeated(int k, const char *before, int n, const char *piece, const char *after) {
    size_t size = strlen(before) + strlen(after) + (size_t)n * (strlen(piece) + 1) + (size_t)k * 8 + 400, at = 0;
    char *text = malloc(size);
    assert_non_null(text);
    at += (size_t)snprintf(text + at, size - at, "(module (memory 1) (table 1 funcref) (type (func (param i32)"
                                                 " (result i32))) (type (func (param");
    for (int i = 0; i < k; i++) at += (size_t)snprintf(text + at, size - at, " i32");
    at += (size_t)snprintf(text + at, size - at, ") (result");
    for (int i = 0; i < k; i++) at += (size_t)snprintf(text + at, size - at, " i32");
    at += (size_t)snprintf(text + at, size - at, "))) (func (type 0) %s ", before);
    for (int i = 0; i < n; i++) at += (size_t)snprintf(text + at, size - at, "%s ", piece);
    at += (size_t)snprintf(text + at, size - at, "%s))", after);
    assert_true(at < size);
    test_bytes wasm = test_wat(text);
    free(text);
    return wasm;
}

/* Each is some kilobytes, and would take tens of gigabytes: measured, or more than the 12 that were there. */
static void what_would_take_too_much_memory_is_refused_and_named(void **state) {
    (void)state;
    const char *const ten = "local.get 0 local.get 0 local.get 0 local.get 0 local.get 0 local.get 0"
                            " local.get 0 local.get 0 local.get 0 local.get 0";
    const char *const drop_nine = "drop drop drop drop drop drop drop drop drop";
    const struct { const char *before, *piece, *after; int n; } shapes[] = {
        {ten, "loop (type 1) local.get 0 br_if 0 end", drop_nine, 10000},                      /* loops that carry */
        {ten, "local.get 0 if (type 1) drop i32.const 1 else end", drop_nine, 16000},          /* branches */
        {ten, "block (type 1) local.get 0 br_table 0 0 0 0 0 0 0 0 0 0 end", drop_nine, 4000}, /* tables of branches */
        {"", "i32.const 0 i32.const 0 call_indirect (type 0) drop", "local.get 0", 250000},     /* long sequences */
    };
    dw_wasm_engine *engine = limited_engine(NULL);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        dw_program *program = NULL;
        dw_error err;
        test_bytes wasm = repeated(10, shapes[i].before, shapes[i].n, shapes[i].piece, shapes[i].after);
        assert_int_equal(prepare(engine, &wasm, &program, &err), DW_E_LIMIT);
        assert_non_null(strstr(err.text, "compiling function 0 could take "));
        assert_true(err.offset > 0 && err.offset < wasm.size);
        free(wasm.data);
    }
    dw_wasm_engine_destroy(engine);
}

/* A body of 150 KB with 5,000 blocks, as compilers make of a large generated parser. */
static void a_large_function_as_compilers_make_it_is_taken(void **state) {
    (void)state;
    dw_wasm_engine *engine = NULL;
    test_handle_traps();
    assert_ok(dw_wasm_engine_create(&(dw_wasm_engine_options){.compile_limit_ns = UINT64_MAX}, &engine, err));
    test_bytes wasm = repeated(1, "(local i32 i32 i32 i32 i32 i32 i32 i32)", 5000,
                               "block local.get 0 i32.load offset=16 local.tee 2 i32.eqz br_if 0"
                               " local.get 2 local.get 1 i32.store offset=8 local.get 1 i32.const 12345 i32.add local.set 1"
                               " end", "local.get 1");
    dw_program *program = NULL;
    assert_ok(dw_program_prepare(engine, wasm.data, wasm.size, &program, err));
    dw_program_release(program);
    free(wasm.data);
    dw_wasm_engine_destroy(engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_would_take_too_much_memory_is_refused_and_named),
        cmocka_unit_test(a_large_function_as_compilers_make_it_is_taken),
        cmocka_unit_test(who_asks_again_waits_for_the_same_compile),
        cmocka_unit_test(what_was_given_up_is_found_in_the_cache_once_it_is_done),
        cmocka_unit_test(a_program_that_compiles_for_long_is_given_up_with_a_sentence_and_others_go_on),
        cmocka_unit_test(those_that_were_given_up_are_counted_and_a_further_one_is_refused),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

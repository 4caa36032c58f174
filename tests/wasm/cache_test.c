/* cache_test.c: compiled code is taken from the cache only when it is what this engine wrote for this program; and nothing is lost
 * or leaked when the system refuses something along the way. */
#define _POSIX_C_SOURCE 200809L /* chmod */
#include "wasm/fixture.h"

#include <sys/stat.h>

#include "os/os_fault.h"

static const char *const wat = "(module (memory 1) (data (i32.const 8) \"data\") (global (mut i32) (i32.const 1))"
                               " (func (export \"driftwood_receive\") (result i32) (i32.const 42)))";
static const char *const other_wat = "(module (memory 1) (func (export \"driftwood_receive\") (result i32) (i32.const 43)))";

typedef struct cache { char folder[512], file[1200]; dw_wasm_engine *engine; test_bytes wasm; int n_files; } cache;

static void open_cache(cache *c, const char *text) {
    *c = (cache){0};
    test_handle_traps();
    test_folder("cache", c->folder, sizeof c->folder);
    assert_ok(dw_wasm_engine_create(&(dw_wasm_engine_options){.cache_folder = c->folder}, &c->engine, err));
    c->wasm = test_wat(text);
}

static void close_cache(cache *c) {
    dw_wasm_engine_destroy(c->engine);
    free(c->wasm.data);
}

static bool remember_file(void *context, const char *name) {
    cache *c = context;
    c->n_files++;
    snprintf(c->file, sizeof c->file, "%s/code/%s", c->folder, name);
    return true;
}

static void find_file(cache *c) {
    char folder[600];
    snprintf(folder, sizeof folder, "%s/code", c->folder);
    c->n_files = 0;
    assert_ok(dw_os_list(folder, remember_file, c, err));
}

/* Prepares, runs, and tells whether the code came from the cache. */
static bool prepare_and_run(cache *c, int32_t expected) {
    dw_program *program = NULL;
    dw_call_result result;
    assert_ok(dw_program_prepare(c->engine, c->wasm.data, c->wasm.size, &program, err));
    dw_instance *instance = test_instance(program);
    assert_ok(dw_instance_receive(instance, UINT64_MAX, &result, err));
    assert_int_equal(result.value, expected);
    bool from_cache = dw_program_info_view(program)->from_cache;
    dw_instance_destroy(instance);
    dw_program_release(program);
    return from_cache;
}

static void the_second_preparation_takes_the_code_from_the_cache(void **state) {
    (void)state;
    cache c;
    open_cache(&c, wat);
    assert_false(prepare_and_run(&c, 42));
    assert_true(prepare_and_run(&c, 42));
    find_file(&c);
    assert_int_equal(c.n_files, 1);
    close_cache(&c);
}

static void without_a_folder_nothing_is_cached(void **state) {
    (void)state;
    cache c;
    open_cache(&c, wat);
    dw_wasm_engine_destroy(c.engine);
    assert_ok(dw_wasm_engine_create(&(dw_wasm_engine_options){0}, &c.engine, err));
    assert_false(prepare_and_run(&c, 42));
    assert_false(prepare_and_run(&c, 42));
    close_cache(&c);
}

static void a_file_with_any_damage_is_not_loaded_but_replaced(void **state) {
    (void)state;
    cache c;
    open_cache(&c, wat);
    assert_false(prepare_and_run(&c, 42));
    find_file(&c);
    uint8_t *good;
    size_t size;
    assert_ok(dw_os_read_file(c.file, 64 << 20, &good, &size, err));
    /* a bit of the magic, of the hash, of the code's head, middle and end */
    const size_t places[] = {0, 9, 39, 40, 60, size / 2, size - 1};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        good[places[i]] ^= 4;
        assert_ok(dw_os_write_file(c.file, good, size, err));
        good[places[i]] ^= 4;
        if (prepare_and_run(&c, 42)) fail_msg("a flipped bit at %zu was not noticed", places[i]);
        assert_true(prepare_and_run(&c, 42)); /* written anew */
    }
    const size_t lengths[] = {0, 7, 39, 40, size / 2, size - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        assert_ok(dw_os_write_file(c.file, good, lengths[i], err));
        if (prepare_and_run(&c, 42)) fail_msg("a file of %zu bytes was not noticed", lengths[i]);
    }
    free(good);
    close_cache(&c);
}

/* Intact, but under the name of another program: it would run the wrong code with the right hash. */
static void the_code_of_another_program_is_not_loaded(void **state) {
    (void)state;
    cache c;
    char mine[1200];
    uint8_t *code;
    size_t size;
    open_cache(&c, wat);
    assert_false(prepare_and_run(&c, 42));
    find_file(&c);
    memcpy(mine, c.file, sizeof mine);
    assert_ok(dw_os_read_file(mine, 64 << 20, &code, &size, err));
    assert_ok(dw_os_remove(mine, err));
    free(c.wasm.data);
    c.wasm = test_wat(other_wat);
    assert_false(prepare_and_run(&c, 43));
    find_file(&c);
    assert_string_not_equal(c.file, mine);
    assert_ok(dw_os_write_file(c.file, code, size, err));
    assert_false(prepare_and_run(&c, 43));
    free(code);
    close_cache(&c);
}

static void a_file_that_others_can_write_is_not_loaded(void **state) {
    (void)state;
    cache c;
    open_cache(&c, wat);
    assert_false(prepare_and_run(&c, 42));
    find_file(&c);
    assert_int_equal(chmod(c.file, 0620), 0);
    assert_false(prepare_and_run(&c, 42));
    assert_true(prepare_and_run(&c, 42)); /* written anew, for us alone */
    find_file(&c);
    assert_int_equal(chmod(c.file, 0602), 0);
    assert_false(prepare_and_run(&c, 42));
    close_cache(&c);
}

#ifdef DW_FAULTS

static dw_status whole_life(const cache *c, dw_error *err) {
    dw_wasm_engine *engine = NULL;
    dw_program *program = NULL;
    dw_instance *instance = NULL;
    dw_call_result result;
    dw_instance_options options = test_options();
    dw_status status = dw_wasm_engine_create(&(dw_wasm_engine_options){.cache_folder = c->folder}, &engine, err);
    if (status == DW_OK) status = dw_program_prepare(engine, c->wasm.data, c->wasm.size, &program, err);
    if (status == DW_OK) status = dw_instance_create(program, &options, &instance, err);
    if (status == DW_OK) status = dw_instance_receive(instance, UINT64_MAX, &result, err);
    if (status == DW_OK && result.value != 42) fail_msg("the program gave %d", (int)result.value);
    dw_instance_destroy(instance);
    dw_program_release(program);
    dw_wasm_engine_destroy(engine);
    return status;
}

static void fail_each_system_call(bool from_then_on, int system_errno) {
    cache c;
    uint64_t k = 1, failures = 0;
    open_cache(&c, wat);
    for (;; k++) {
        bool hit = false;
        dw_error felt = {0};
        /* A cold cache in every odd round, so that both ways are failed. */
        if (k % 2) {
            find_file(&c);
            if (c.n_files) assert_ok(dw_os_remove(c.file, err));
        }
        dw_fault_arm((dw_fault_plan){.k = k, .from_then_on = from_then_on, .system_errno = system_errno});
        dw_status status = whole_life(&c, &felt);
        (void)dw_fault_disarm(&hit);
        if (!hit) {
            assert_int_equal(status, DW_OK);
            break;
        }
        if (status != DW_OK) {
            failures++;
            assert_int_equal(felt.status, status);
            assert_true(dw_status_kind_of(status) == DW_KIND_FAILED);
        }
        assert_ok(whole_life(&c, err)); /* and afterwards all is well */
    }
    print_message("%llu system calls failed, %llu of them were felt\n", (unsigned long long)k - 1, (unsigned long long)failures);
    assert_in_range(k, 8, 1000);
    assert_in_range(failures, 3, 1000);
    close_cache(&c);
}

static void every_system_call_may_fail_once(void **state) { (void)state; fail_each_system_call(false, 5 /* EIO */); }
static void every_system_call_may_fail_from_then_on(void **state) { (void)state; fail_each_system_call(true, 12 /* ENOMEM */); }

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_second_preparation_takes_the_code_from_the_cache),
        cmocka_unit_test(without_a_folder_nothing_is_cached),
        cmocka_unit_test(a_file_with_any_damage_is_not_loaded_but_replaced),
        cmocka_unit_test(the_code_of_another_program_is_not_loaded),
        cmocka_unit_test(a_file_that_others_can_write_is_not_loaded),
#ifdef DW_FAULTS
        cmocka_unit_test(every_system_call_may_fail_once),
        cmocka_unit_test(every_system_call_may_fail_from_then_on),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

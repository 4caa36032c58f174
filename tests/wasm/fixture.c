/* fixture.c: see fixture.h. */
#define _POSIX_C_SOURCE 200809L /* sigaction */
#include "wasm/fixture.h"

#include <inttypes.h>

static dw_wasm_engine *engine;

dw_wasm_engine *test_engine(void) {
    test_handle_traps();
    if (!engine) assert_ok(dw_wasm_engine_create(&(dw_wasm_engine_options){.tick_ms = 2}, &engine, err));
    return engine;
}

void test_engine_end(void) {
    dw_wasm_engine_destroy(engine);
    engine = NULL;
}

static bool remove_entry(void *context, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    if (dw_os_remove(path, NULL) != DW_OK) return true; /* a folder below: stays */
    return true;
}

void test_folder(const char *name, char *out, size_t out_size) {
    snprintf(out, out_size, "%s/tests/wasm/tmp/%s-%" PRIx64, DW_TEST_BUILD, name, dw_os_monotonic_ns());
    assert_ok(dw_os_make_folders(out, err));
    assert_ok(dw_os_list(out, remove_entry, out, err));
}

test_bytes test_wat(const char *text) {
    char folder[512], source[600], target[600];
    test_bytes out;
    test_folder("wat", folder, sizeof folder);
    snprintf(source, sizeof source, "%s/m.wat", folder);
    snprintf(target, sizeof target, "%s/m.wasm", folder);
    assert_ok(dw_os_write_file(source, text, strlen(text), err));
    const char *const argv[] = {DW_WAT2WASM, "--enable-all", "--no-check", "--debug-names", source, "-o", target, NULL};
    dw_os_process_result result = {0};
    assert_ok(dw_os_run(argv, 65536, &result, err));
    free(result.output);
    if (result.exit_code != 0) fail_msg("wat2wasm does not take this module: %s", text);
    assert_ok(dw_os_read_file(target, DW_PROGRAM_BYTES_MAX, &out.data, &out.size, err));
    assert_ok(dw_os_remove(source, err));
    assert_ok(dw_os_remove(target, err));
    return out;
}

test_bytes test_guest(const char *name) {
    char path[1024];
    test_bytes out = {0};
    snprintf(path, sizeof path, "%s/%s.wasm", DW_TEST_PROGRAMS, name);
    if (!dw_os_exists(path)) return out;
    assert_ok(dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, &out.data, &out.size, err));
    return out;
}

void test_refused(const void *wasm, size_t size, dw_status status, const char *reason) {
    dw_program *program = NULL;
    dw_error err = {0};
    dw_status found = dw_program_prepare(test_engine(), wasm, size, &program, &err);
    if (found != status || !strstr(err.text, reason))
        fail_msg("expected %s: %s\n   found %s: %s", dw_status_name(status), reason, dw_status_name(found), err.text);
    assert_null(program);
}

dw_program *test_program(const char *wat) {
    test_bytes wasm = test_wat(wat);
    dw_program *program = NULL;
    assert_ok(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, err));
    free(wasm.data);
    return program;
}

dw_instance_options test_options(void) {
    dw_instance_options options = {0};
    for (unsigned i = 0; i < sizeof options.wasi_state.random_seed; i++) options.wasi_state.random_seed[i] = (uint8_t)(i * 7);
    options.wasi_state.birth_realtime_ns = options.wasi_state.turn_realtime_ns = UINT64_C(1700000000000000000);
    return options;
}

dw_instance *test_instance(dw_program *program) {
    dw_instance *instance = NULL;
    dw_instance_options options = test_options();
    assert_ok(dw_instance_create(program, &options, &instance, err));
    return instance;
}

dw_hash test_memory_hash(const dw_instance *instance) {
    dw_hash hash;
    assert_ok(dw_hash_of(dw_region_base(dw_instance_region(instance)), (size_t)dw_instance_memory_bytes(instance), &hash));
    return hash;
}

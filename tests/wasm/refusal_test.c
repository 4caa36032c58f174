/* refusal_test.c: every reason to refuse a module, with a module for it. What a restore could not give back must be refused when
 * the program is prepared, not noticed when a checkpoint is thawed. */
#include "wasm/fixture.h"

#include "wasm/prepare.h"

typedef struct refusal { const char *wat; dw_status status; const char *reason; } refusal;

#define TABLE "(memory 1) (table 4 funcref) (elem (i32.const 0) $f) "

static const refusal refusals[] = {
    /* state that is not the program's own */
    {"(module (import \"env\" \"memory\" (memory 1)))", DW_E_UNSUPPORTED,
     "imports the memory env.memory; only functions can be imported: link without --import-memory"},
    {"(module (import \"env\" \"t\" (table 1 funcref)) (memory 1))", DW_E_UNSUPPORTED, "imports the table env.t"},
    {"(module (import \"env\" \"g\" (global i32)) (memory 1))", DW_E_UNSUPPORTED, "imports the global env.g"},
    {"(module (import \"env\" \"x\" (tag)) (memory 1))", DW_E_UNSUPPORTED, "imports the tag env.x"},
    /* memories */
    {"(module (func))", DW_E_UNSUPPORTED, "has 0 memories"},
    {"(module (memory 1) (memory 1))", DW_E_UNSUPPORTED, "has 2 memories"},
    {"(module (memory i64 1))", DW_E_UNSUPPORTED, "64-bit"},
    {"(module (memory 1 2 shared))", DW_E_UNSUPPORTED, "shared"},
    {"(module (memory 65536))", DW_E_LIMIT, "begins with 65536 pages"},
    /* instructions whose effect lies outside memory and globals */
    {"(module (memory 1) (table 1 externref) (func (table.set 0 (i32.const 0) (ref.null extern))))", DW_E_UNSUPPORTED,
     "changes table 0 of external references"},
    {"(module (memory 1) (table 1 funcref) (table $x 1 externref) (func (drop (table.grow $x (ref.null extern) (i32.const 1)))))", DW_E_UNSUPPORTED,
     "changes table 1 of external references"},
    {"(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))", DW_E_UNSUPPORTED, "atomic"},
    /* behind instructions with every kind of immediate, so that a wrong length would hide or invent it */
    {"(module (memory 1) (data $p \"x\") (table 1 funcref) (func (param f32 f64) (result i32) (local v128)"
     " (block (block (br_table 0 1 0 (i32.const 70000)))) (drop (i64.const -5000000000)) (drop (f32.const 1.5)) (drop (f64.const 1e300))"
     " (local.set 2 (v128.const i64x2 11 -1)) (drop (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get 2) (local.get 2)))"
     " (drop (i8x16.extract_lane_s 11 (local.get 2))) (drop (v128.load32_lane offset=100000 2 (i32.const 0) (local.get 2)))"
     " (drop (v128.load64_zero (i32.const 0))) (drop (ref.null func)) (drop (i32.trunc_sat_f32_s (local.get 0)))"
     " (drop (select (result i32) (i32.const 1) (i32.const 2) (i32.const 3))) (call_indirect (i32.const 0))"
     " (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)) (memory.copy (i32.const 0) (i32.const 0) (i32.const 0))"
     " (memory.init $p (i32.const 0) (i32.const 0) (i32.const 0)) (drop (table.size 0)) (table.copy (i32.const 0) (i32.const 0) (i32.const 0))"
     " (table.set 0 (i32.const 0) (ref.null func)) (drop (table.grow 0 (ref.null func) (i32.const 0)))"
     " (data.drop $p) (elem.drop 0) (drop (i32.atomic.load (i32.const 0))) (memory.size)))",
     DW_E_UNSUPPORTED, "atomic"},
    /* exceptions in their old form */
    {"(module (memory 1) (tag $t) (func (try (do) (catch $t))))", DW_E_UNSUPPORTED, "wasm-opt --translate-to-exnref"},
    {"(module (memory 1) (tag $t (param i32)) (func (throw $t (i32.const 1)) (try (do) (delegate 0))))",
     DW_E_UNSUPPORTED, "exceptions in their old form"},
    {"(module (import \"env\" \"t\" (tag (param i32))) (memory 1))", DW_E_UNSUPPORTED, "imports the tag env.t"},
    /* globals */
    {"(module (memory 1) (global (mut funcref) (ref.null func)))", DW_E_UNSUPPORTED, "global 0 is mutable and holds a reference"},
    /* names and signatures */
    {"(module (memory 1) (func (export \"__dw_hello\")))", DW_E_INVALID, "exports __dw_hello"},
    {"(module (import \"env\" \"puts\" (func (param i32))) (memory 1))", DW_E_UNSUPPORTED, "imports what this runtime does not have: env.puts ("},
    {"(module (import \"wasi_snapshot_preview1\" \"sock_open\" (func)) (memory 1))", DW_E_UNSUPPORTED, "wasi_snapshot_preview1.sock_open"},
    {"(module (import \"wasi_snapshot_preview1\" \"fd_close\" (func (param i64) (result i32))) (memory 1))", DW_E_INVALID,
     "fd_close with a wrong signature"},
    {"(module (import \"driftwood\" \"enter\" (func (param i32) (result i32))) (memory 1))", DW_E_INVALID, "driftwood.enter with a wrong signature"},
    {"(module (import \"e\\ni\\1bl\" \"\\7f\" (func)) (memory 1))", DW_E_UNSUPPORTED, "does not have: e?i?l.? ("},
    {"(module (memory 1) (func (export \"driftwood_receive\")))", DW_E_INVALID, "driftwood_receive is not a function () -> i32"},
    {"(module (memory 1) (func (export \"driftwood_receive\") (param i32) (result i32) (i32.const 0)))", DW_E_INVALID, "driftwood_receive"},
    {"(module (memory (export \"driftwood_receive\") 1))", DW_E_INVALID, "driftwood_receive is not a function"},
    {"(module (memory 1) (func (export \"_initialize\") (result i32) (i32.const 0)))", DW_E_INVALID, "_initialize is not a function () -> ()"},
    {"(module (memory 1) (func (export \"_start\") (param i32)))", DW_E_INVALID, "_start is not a function () -> ()"},
    /* data */
    {"(module (memory 1) (data (i32.const 65530) \"too long\"))", DW_E_INVALID, "data segment 0, 8 bytes for address 65530, does not fit"},
    {"(module (memory 1) (data (i32.const -1) \"x\"))", DW_E_INVALID, "does not fit"},
    {"(module (memory 1) (table 2 funcref) (func $f) (elem (i32.const 1) $f $f))", DW_E_INVALID, "an element segment does not fit its table"},
    /* limits */
    {"(module (memory 1) (table 1000001 funcref))", DW_E_LIMIT, "the tables have 1000001 elements"},
    /* not valid */
    {"(module (memory 1) (func (result i32)))", DW_E_INVALID, "not a valid WebAssembly module"},
    {"(module (memory 1) (func (local.get 3) (drop)))", DW_E_INVALID, "not a valid WebAssembly module"},
};

static void every_reason_to_refuse_is_found_and_named(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++) {
        test_bytes wasm = test_wat(refusals[i].wat);
        test_refused(wasm.data, wasm.size, refusals[i].status, refusals[i].reason);
        free(wasm.data);
    }
}

/* One error with all names; what helps comes once for each kind. */
static void all_missing_imports_are_named_with_what_may_help(void **state) {
    (void)state;
    static const struct { const char *imports, *reason; } kinds[] = {
        {"(import \"env\" \"puts\" (func)) (import \"wasi_snapshot_preview1\" \"fd_write\" (func (param i32 i32 i32 i32) (result i32)))"
         "(import \"env\" \"gets\" (func))", "does not have: env.puts, env.gets (undefined when it was linked; link"},
        {"(import \"wasi_snapshot_preview1\" \"sock_open\" (func))", "wasi_snapshot_preview1.sock_open (no function of WASI preview 1"},
        {"(import \"wasi_unstable\" \"fd_write\" (func))", "WASI from before preview 1"},
        {"(import \"wasi\" \"thread-spawn\" (func))", "of threads"},
        {"(import \"wasi:cli/environment@0.2.0\" \"get-environment\" (func))", "of the component model; build for wasm32-wasip1"},
        {"(import \"driftwood\" \"leave\" (func))", "the module driftwood has one function, enter"},
        {"(import \"gojs\" \"runtime.ticks\" (func))", "GOOS=wasip1 -buildmode=c-shared"},
        {"(import \"__wbindgen_placeholder__\" \"__wbindgen_throw\" (func))", "wasm-bindgen's"},
        {"(import \"env\" \"emscripten_resize_heap\" (func)) (import \"env\" \"invoke_vi\" (func)) (import \"env\" \"abort\" (func))",
         "env.emscripten_resize_heap, env.invoke_vi, env.abort (of Emscripten's JavaScript; link with -sSTANDALONE_WASM"},
        {"(import \"env\" \"seed\" (func (result f64))) (import \"env\" \"abort\" (func (param i32 i32 i32 i32)))",
         "env.seed (AssemblyScript's, of which there is abort; name a function of your own with --use)"},
        {"(import \"mine\" \"f\" (func)) (import \"env\" \"puts\" (func)) (import \"mine\" \"g\" (func))", "; mine.f, mine.g (a program gets WASI"},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        char wat[800];
        snprintf(wat, sizeof wat, "(module %s (memory 1))", kinds[i].imports);
        test_bytes wasm = test_wat(wat);
        test_refused(wasm.data, wasm.size, DW_E_UNSUPPORTED, kinds[i].reason);
        free(wasm.data);
    }
}

static void of_more_missing_imports_than_fit_the_rest_is_counted(void **state) {
    (void)state;
    static char wat[100000];
    size_t n = (size_t)snprintf(wat, sizeof wat, "(module (import \"env\" \"abort\" (func (param i32 i32 i32 i32)))");
    for (unsigned i = 0; i < 1000; i++)
        n += (size_t)snprintf(wat + n, sizeof wat - n, "(import \"%s\" \"function_%u\" (func))", i % 2 ? "env" : "wasi_unstable", i);
    snprintf(wat + n, sizeof wat - n, "(memory 1))");
    test_bytes wasm = test_wat(wat);
    dw_program *program;
    dw_error err = {0};
    assert_int_equal(dw_program_prepare(test_engine(), wasm.data, wasm.size, &program, &err), DW_E_UNSUPPORTED);
    unsigned named = 0, more = 0;
    for (const char *at = err.text; (at = strstr(at, ".function_")) != NULL; at++) named++;
    assert_int_equal(sscanf(strstr(err.text, "; and "), "; and %u more, in the log", &more), 1);
    assert_int_equal(named + more, 1000);
    assert_in_range(named, 5, 995);
    free(wasm.data);
}

static void bytes_that_are_no_module_are_refused(void **state) {
    (void)state;
    static const uint8_t component[] = {0, 'a', 's', 'm', 0x0D, 0, 1, 0};
    test_refused("", 0, DW_E_INVALID, "not a valid");
    test_refused("#!/bin/sh\n", 10, DW_E_INVALID, "not a valid");
    test_refused(component, sizeof component, DW_E_UNSUPPORTED, "components are not supported: build for wasm32-wasip1");
}

/* (module (type $t (func)) (memory 1) (elem declare func $f) (func $f (drop (block (result (ref $t)) (ref.func $f)))))
 * The type has two parts; its second would be taken for an instruction. */
static void typed_references_of_blocks_are_refused(void **state) {
    (void)state;
    static const uint8_t wasm[] = {0, 'a', 's', 'm', 1, 0, 0, 0, 1, 4, 1, 0x60, 0, 0, 3, 2, 1, 0, 5, 3, 1, 0, 1, 9, 5, 1, 3, 0, 1, 0,
                                   10, 11, 1, 9, 0, 0x02, 0x64, 0x00, 0xD2, 0x00, 0x0B, 0x1A, 0x0B};
    uint8_t without[sizeof wasm];
    test_refused(wasm, sizeof wasm, DW_E_UNSUPPORTED, "typed references");
    memcpy(without, wasm, sizeof wasm);
    without[36] = DW_TYPE_FUNCREF; /* and then an `unreachable` */
    dw_prepared prepared;
    assert_ok(dw_prepare(without, sizeof without, &prepared, err));
    dw_prepared_deinit(&prepared);
}

static void a_module_above_the_size_limit_is_refused(void **state) {
    (void)state;
    uint8_t byte = 0; /* the size decides before a byte is read */
    test_refused(&byte, DW_PROGRAM_BYTES_MAX + 1, DW_E_LIMIT, "more than");
}

static void more_globals_than_the_limit_are_refused(void **state) {
    (void)state;
    static char wat[DW_PROGRAM_GLOBALS_MAX * 40 + 200];
    size_t n = (size_t)snprintf(wat, sizeof wat, "(module (memory 1)");
    for (unsigned i = 0; i <= DW_PROGRAM_GLOBALS_MAX; i++) n += (size_t)snprintf(wat + n, sizeof wat - n, "(global (mut i32) (i32.const 0))");
    snprintf(wat + n, sizeof wat - n, ")");
    test_bytes wasm = test_wat(wat);
    test_refused(wasm.data, wasm.size, DW_E_LIMIT, "1025 mutable globals");
    free(wasm.data);
}

static void more_globals_and_dropped_segments_than_the_limit_are_refused(void **state) {
    (void)state;
    static char wat[DW_PROGRAM_GLOBALS_MAX * 40 + 200];
    size_t n = (size_t)snprintf(wat, sizeof wat, "(module (memory 1) (global (mut i32) (i32.const 0))");
    for (unsigned i = 0; i < DW_PROGRAM_GLOBALS_MAX; i++)
        n += (size_t)snprintf(wat + n, sizeof wat - n, "(data \"x\") (func (data.drop %u))", i);
    snprintf(wat + n, sizeof wat - n, ")");
    test_bytes wasm = test_wat(wat);
    test_refused(wasm.data, wasm.size, DW_E_LIMIT, "1 mutable globals and drops 1024 segments");
    free(wasm.data);
}

static void more_changed_tables_than_the_limit_are_refused(void **state) {
    (void)state;
    char wat[4000] = "(module (memory 1)", *at = wat + strlen(wat);
    for (unsigned i = 0; i <= DW_PROGRAM_CHANGED_TABLES_MAX; i++)
        at += sprintf(at, "(table 1 funcref) (func (table.set %u (i32.const 0) (ref.null func)))", i);
    sprintf(at, ")");
    test_bytes wasm = test_wat(wat);
    test_refused(wasm.data, wasm.size, DW_E_LIMIT, "changes 17 tables");
    free(wasm.data);
}

/* Only a program whose code changes tables pays for it. */
static void tables_that_stay_as_they_are_add_nothing_to_a_module(void **state) {
    (void)state;
    static const struct { const char *name; uint32_t n_tables, n_functions; } guests[] = {{"wasm_globals", 0, 0}, {"wasm_shapes", 0, 0}, {"wasm_tables", 3, 10}};
    for (size_t i = 0; i < sizeof guests / sizeof guests[0]; i++) {
        test_bytes wasm = test_guest(guests[i].name);
        dw_prepared prepared;
        dw_module before, after;
        assert_ok(dw_prepare(wasm.data, wasm.size, &prepared, err));
        assert_ok(dw_module_read(wasm.data, wasm.size, &before, err));
        assert_ok(dw_module_read(prepared.wasm, prepared.wasm_size, &after, err));
        assert_int_equal(prepared.n_tables, guests[i].n_tables);
        assert_int_equal(prepared.n_functions, guests[i].n_functions);
        assert_int_equal(after.n_exports, before.n_exports + 1 + prepared.n_globals + (before.has_start ? 1 : 0) + guests[i].n_tables + guests[i].n_functions);
        dw_module_deinit(&before);
        dw_module_deinit(&after);
        dw_prepared_deinit(&prepared);
        free(wasm.data);
    }
}

/* A module cut short anywhere is refused by the rewriter itself, which Wasmtime's validation stands before in real life. */
static void refuse_every_truncation(const char *guest) {
    test_bytes wasm = test_guest(guest);
    size_t accepted = 0;
    for (size_t size = 0; size < wasm.size; size++) {
        dw_prepared prepared;
        uint8_t *exact = malloc(size + 1); /* so that the sanitizer sees a read behind the end */
        assert_non_null(exact);
        memcpy(exact, wasm.data, size);
        exact = realloc(exact, size ? size : 1);
        assert_non_null(exact);
        if (dw_prepare(exact, size, &prepared, NULL) == DW_OK) {
            accepted++; /* cut between sections: a shorter, well-formed module */
            dw_prepared_deinit(&prepared);
        }
        free(exact);
    }
    assert_in_range(accepted, 0, 8);
    free(wasm.data);
}

static void every_truncation_is_refused_by_the_rewriter(void **state) {
    (void)state;
    refuse_every_truncation("wasm_globals");
    refuse_every_truncation("wasm_tables");
    refuse_every_truncation("wasm_segments");
}

static void passive_segments_and_everything_ordinary_are_accepted(void **state) {
    (void)state;
    static const char *const good[] = {
        "(module (memory 0))",
        "(module (memory 0 0) (data (i32.const 0) \"\"))",
        "(module (memory 1) (data $p \"abc\") (func (export \"f\") (memory.init $p (i32.const 0) (i32.const 0) (i32.const 3))))",
        "(module (memory 1) (table 3 funcref) (func $f) (elem (i32.const 1) $f $f))",
        "(module (memory 1) (data $p \"x\") (func (data.drop $p)))",
        "(module (memory 1) (tag $t (param i32)) (func (throw $t (i32.const 1))))",
        /* external references: nobody can make another than null */
        "(module (memory 1) (table $t 2 externref) (elem (table $t) (i32.const 0) externref (ref.null extern))"
        " (func (param externref) (result i32) (local externref) (ref.is_null (table.get $t (i32.const 0)))))",
        "(module " TABLE "(elem $p funcref (ref.func $f)) (func $f (elem.drop $p)))",
        "(module (memory 1) (func $f (export \"f\") (return_call $f)))",
        "(module (memory 1) (global $a i32 (i32.const 8)) (data (i32.add (global.get $a) (i32.const 4)) \"sum\"))",
        "(module (memory 65535))",
        "(module (table (export \"t\") 1 funcref) (memory 1))",
        "(module " TABLE "(func $f (table.set 0 (i32.const 0) (ref.func $f))))",
        "(module " TABLE "(func $f (drop (table.grow 0 (ref.null func) (i32.const 1)))))",
        "(module " TABLE "(func $f (table.fill 0 (i32.const 0) (ref.null func) (i32.const 1))))",
        "(module " TABLE "(func $f (table.copy (i32.const 0) (i32.const 1) (i32.const 1))))",
        "(module " TABLE "(elem $p funcref (ref.func $f)) (func $f (table.init $p (i32.const 0) (i32.const 0) (i32.const 1))))",
        "(module (memory 1) (func (drop (i8x16.relaxed_swizzle (v128.const i64x2 0 1) (v128.const i64x2 0 1)))))",
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        dw_program *program = test_program(good[i]);
        dw_instance_destroy(test_instance(program));
        dw_program_release(program);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reason_to_refuse_is_found_and_named),
        cmocka_unit_test(all_missing_imports_are_named_with_what_may_help),
        cmocka_unit_test(of_more_missing_imports_than_fit_the_rest_is_counted),
        cmocka_unit_test(bytes_that_are_no_module_are_refused),
        cmocka_unit_test(typed_references_of_blocks_are_refused),
        cmocka_unit_test(a_module_above_the_size_limit_is_refused),
        cmocka_unit_test(more_globals_than_the_limit_are_refused),
        cmocka_unit_test(more_globals_and_dropped_segments_than_the_limit_are_refused),
        cmocka_unit_test(more_changed_tables_than_the_limit_are_refused),
        cmocka_unit_test(tables_that_stay_as_they_are_add_nothing_to_a_module),
        cmocka_unit_test(every_truncation_is_refused_by_the_rewriter),
        cmocka_unit_test(passive_segments_and_everything_ordinary_are_accepted),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_engine_end();
    return failed;
}

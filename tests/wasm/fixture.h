/* fixture.h: what the tests of the wasm module share. */
#ifndef DW_TESTS_WASM_FIXTURE_H
#define DW_TESTS_WASM_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/base.h"
#include "os/os.h"
#include "support/traps.h"
#include "wasm/wasm.h"

/* Fails the test with the error's text. */
#define assert_ok(call)                                                                                              \
    do {                                                                                                             \
        dw_error err_ = {0};                                                                                         \
        dw_error *err = &err_;                                                                                       \
        dw_status status_ = (call);                                                                                  \
        if (status_ != DW_OK) fail_msg("%s: %s: %s", #call, dw_status_name(status_), err->text);                     \
    } while (0)

typedef struct test_bytes { uint8_t *data; size_t size; } test_bytes; /* free data with free() */

/* A module from its text, through wat2wasm with every proposal on and validation off. Fails the test when the text is wrong. */
test_bytes test_wat(const char *text);
/* A built guest; data NULL when it was not built (Go is missing). */
test_bytes test_guest(const char *name);
/* A fresh folder below the build folder, empty. */
void test_folder(const char *name, char *out, size_t out_size);

dw_wasm_engine *test_engine(void); /* without cache, tick 2 ms; the test process keeps one */
void test_engine_end(void);

dw_program *test_program(const char *wat);
/* Preparing ends with this status, and its text holds the reason. */
void test_refused(const void *wasm, size_t size, dw_status status, const char *reason);
dw_instance *test_instance(dw_program *program); /* image 0, fixed seed and time, not initialised */
dw_instance_options test_options(void);
dw_hash test_memory_hash(const dw_instance *instance);

#endif

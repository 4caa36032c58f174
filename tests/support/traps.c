/* traps.c: Wasmtime installs its handlers once in a process, so they are remembered then and put back later (traps.h). */
#include "support/traps.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "wasm/wasm.h"

void test_handle_traps(void) {
    static const int signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGBUS};
    enum { N = sizeof signals / sizeof signals[0] };
    static struct sigaction of_wasmtime[N];
    static bool known;
    for (int i = 0; known && i < N; i++) assert_int_equal(sigaction(signals[i], &of_wasmtime[i], NULL), 0);
    if (known) return;
    /* Not cmocka's as the handlers that Wasmtime passes other faults on to: those of the system. */
    for (int i = 0; i < N; i++) assert_true(signal(signals[i], SIG_DFL) != SIG_ERR);
    dw_wasm_engine *first = NULL;
    assert_int_equal(dw_wasm_engine_create(&(dw_wasm_engine_options){.tick_ms = 2}, &first, NULL), DW_OK);
    dw_wasm_engine_destroy(first);
    for (int i = 0; i < N; i++) assert_int_equal(sigaction(signals[i], NULL, &of_wasmtime[i]), 0);
    known = true;
}

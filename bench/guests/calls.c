/* calls.c: calls between guest and host and nothing else: no SDK, no C library, so that it runs in plain Wasmtime too. */
#include <stdint.h>

#include "calls.h"

__attribute__((import_module("wasi_snapshot_preview1"), import_name("sched_yield"))) int32_t host_yield(void);

int32_t driftwood_receive(void) { return 0; }

int32_t yields(void) {
    int32_t sum = 0;
    for (int32_t i = 0; i < CALLS_PER_YIELDS; i++) sum |= host_yield();
    return sum;
}

/* engine_plain.h: the guest calls.c in Wasmtime as its C API gives it, without anything of ours: the other side of engine_calls.c. */
#ifndef DW_BENCH_PLAIN_H
#define DW_BENCH_PLAIN_H

#include <stddef.h>
#include <stdint.h>

typedef struct bench_plain bench_plain;

/* Default configuration; sched_yield is an unchecked host function that returns 0. Ends the program when it fails. */
bench_plain *bench_plain_open(const void *wasm, size_t size);
void bench_plain_close(bench_plain *plain);
/* Time of one call of `yields`: CALLS_PER_YIELDS host calls. */
double bench_plain_yields_us(bench_plain *plain);
/* Time of n calls of driftwood_receive, which returns at once, by wasmtime_func_call. */
double bench_plain_receives_us(bench_plain *plain, unsigned n);
/* Time of n stores with an instance in each, made and ended. */
double bench_plain_instances_us(bench_plain *plain, unsigned n);

#endif

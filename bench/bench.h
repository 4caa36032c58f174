/* bench.h: what the measuring program bench_engine is made of. bench/engine builds it, runs it and compares.
 *
 *   series   one thing measured several times, on one or two sides that took turns: ours[i] was measured right beside theirs[i]
 *
 * It prints a JSON object a line: a series with all its values. Medians and ratios are bench/engine's: one place does the arithmetic, for
 * these series as for those of other programs.
 *
 * Rules
 * 1. Two sides are measured in turn, never one after the other: a shared machine drifts.
 * 2. What is prepared (a session, a prompt) is outside of the time that is taken, unless the series says so.
 * 3. Any failure ends the program with the reason: a benchmark that goes on measures something else.
 * Threads: one.
 */
#ifndef DW_BENCH_BENCH_H
#define DW_BENCH_BENCH_H

#include <jansson.h>

#include "actor/actor.h"
#include "base/base.h"
#include "model/model.h"
#include "os/os.h"

typedef struct bench_options {
    const char *model;    /* GGUF */
    const char *device;
    unsigned threads;     /* 0 = all */
    unsigned repeats;     /* values per series */
    const char *programs; /* folder with loop.wasm and calls.wasm */
} bench_options;

/* Ends the program when a step failed. */
void bench_must(dw_status status, const dw_error *err);
/* Ends the program with this reason. */
_Noreturn void bench_fail(const char *reason);

double bench_now_us(void);

enum { BENCH_VALUES_MAX = 4096 };

typedef struct bench_series {
    const char *name;
    const char *unit;
    const char *better;   /* "higher" or "lower" */
    const char *against;  /* what theirs is; NULL: there is no other side */
    json_t *conditions;   /* object; bench_print adds what all share, and frees it */
    size_t n;
    double ours[BENCH_VALUES_MAX], theirs[BENCH_VALUES_MAX];
} bench_series;

bench_series *bench_series_new(const char *name, const char *unit, const char *better, const char *against);
/* theirs is ignored where there is no other side. */
void bench_add(bench_series *series, double ours, double theirs);
void bench_condition(bench_series *series, const char *key, json_t *value);
/* Prints it as one line and frees it. */
void bench_print(bench_series *series);

/* n tokens that are no control tokens of any usual vocabulary: the model's BOS first, then a fixed pseudo-random row. */
void bench_tokens(dw_model *model, int32_t *out, uint32_t n);

/* The parts. Each prints its series. */
void bench_info(const bench_options *options);    /* one object: what is measured with */
void bench_speed(const bench_options *options);   /* prefill and decode of the native loop */
void bench_actor(const bench_options *options);   /* what the actor adds to a token */
void bench_calls(const bench_options *options);   /* calls, turns, restores */
void bench_kv(const bench_options *options);      /* forks and thaws of KV rows */

#endif

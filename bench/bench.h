/* bench.h: what the measuring program bench_engine is made of. bench/engine, bench/share and bench/latency build it, run it and compare.
 *
 *   series   one thing measured several times, on one or two sides that took turns: ours[i] was measured right beside theirs[i]
 *   part     one run of the program: what it measures is named by its first argument
 *
 * It prints a JSON object a line: a series with all its values. Medians and ratios are bench/rows.py's: one place does the arithmetic, for
 * these series as for those of other programs.
 *
 * Rules
 * 1. Two sides are measured in turn, never one after the other: a shared machine drifts.
 * 2. What is prepared (a session, a prompt) is outside of the time that is taken, unless the series says so.
 * 3. Any failure ends the program with the reason: a benchmark that goes on measures something else.
 * Threads: one, but for the parts that say otherwise.
 */
#ifndef DW_BENCH_BENCH_H
#define DW_BENCH_BENCH_H

#include <jansson.h>

#include "actor/actor.h"
#include "base/base.h"
#include "model/engine/engine.h"
#include "os/os.h"
#include "memory.h"
#include "prompt.h"

typedef struct bench_options {
    const char *model;      /* GGUF */
    const char *small;      /* latency: GGUF of the model that answers in short turns; NULL: `model` a second time */
    const char *device;
    const char *programs;   /* folder with bench_loop.wasm and bench_calls.wasm */
    unsigned threads;       /* 0 = all */
    unsigned repeats;       /* values per series */
    /* What the parts with many sessions take; 0 = what the part measures by itself. */
    unsigned sessions;      /* at a time */
    unsigned prompt_tokens; /* of each, or of the past that they share */
    unsigned own_tokens;    /* prefix: behind what is shared */
    unsigned made_tokens;   /* by each */
    unsigned turns;         /* latency: of a kind, per repeat */
    unsigned salt;          /* of the prompts: other salts, other tokens (prompt.h) */
    bool fast;              /* sessions that may be batched in any shape */
    bool repack;            /* weights copied into the layout that the processor likes best */
} bench_options;

/* The value of an option, or the part's own. */
unsigned bench_or(unsigned value, unsigned otherwise);

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
/* The same with a prompt's two salts. */
void bench_prompt_of(dw_model *model, const bench_prompt *prompt, int32_t *out);

/* How the parts open a device and a model, so that all do it alike. */
typedef struct bench_node {
    dw_device *device;
    dw_model *model;
    dw_engine *engine;      /* NULL unless asked for */
} bench_node;
void bench_node_open(const bench_options *options, uint32_t context_tokens, uint32_t sessions_max, bool with_engine, bench_node *out);
void bench_node_close(bench_node *node);
/* Rounded up as contexts are. */
uint32_t bench_context(uint32_t tokens);

/* Jobs that run at the same time. */
typedef struct bench_crowd bench_crowd;
bench_crowd *bench_crowd_new(void);
void bench_crowd_free(bench_crowd *crowd);
/* Submits all, waits for all, and returns what that took. A job that fails ends the program. */
double bench_crowd_run_us(bench_crowd *crowd, dw_engine *engine, dw_job *jobs, uint32_t n);

/* The parts. Each prints its series. */
void bench_info(const bench_options *options);    /* one object: what is measured with */
void bench_speed(const bench_options *options);   /* prefill and decode of the native loop */
void bench_batch(const bench_options *options);   /* prefill and decode of many sessions at once */
void bench_path(const bench_options *options);    /* many actors that generate and stream at once */
void bench_actor(const bench_options *options);   /* what the actor adds to a token */
void bench_calls(const bench_options *options);   /* calls, turns, restores */
void bench_kv(const bench_options *options);      /* forks and thaws of KV rows */
void bench_forks(const bench_options *options);   /* many forks of one long session */
void bench_prefix(const bench_options *options);  /* a second session with the same beginning */
void bench_latency(const bench_options *options); /* short turns beside a busy engine */

#endif

/* share_forks.c: N forks of one long session: what a fork takes, the memory that all of them add, and how fast they go on together.
 * share_llama.c does the same in llama.cpp.
 *
 *   forks_time     us per fork
 *   forks_memory   bytes of this process that are there when all N have decoded and were not before they were forked
 *   forks_own      bytes of KV rows that the engine's ledger gives to the forks alone, then
 *   forks_decode   tokens/s of all N; greedily, without text (engine_batch.c says why) */
#include <stdlib.h>

#include "bench.h"

typedef struct family {
    bench_node node;
    bench_crowd *crowd;
    dw_session *parent;
    uint32_t n, n_prompt, n_made;
    dw_session **children; /* [n] */
    dw_job *jobs;          /* [n] */
    int32_t *tokens;       /* [n_prompt] the past, then [n] each child's first own */
} family;

static void open_family(const bench_options *options, family *out) {
    dw_error err;
    *out = (family){.n = bench_or(options->sessions, 32), .n_prompt = bench_or(options->prompt_tokens, 4000), .n_made = bench_or(options->made_tokens, 32)};
    bench_node_open(options, bench_context(out->n_prompt + 1 + out->n_made), out->n + 1, true, &out->node);
    out->crowd = bench_crowd_new();
    out->children = calloc(out->n, sizeof *out->children);
    out->jobs = calloc(out->n, sizeof *out->jobs);
    out->tokens = calloc(out->n_prompt + out->n, sizeof *out->tokens);
    if (!out->children || !out->jobs || !out->tokens) bench_fail("no memory");
    bench_prompt_of(out->node.model, &(bench_prompt){.own_salt = options->salt, .n_own = out->n_prompt + out->n}, out->tokens);
    dw_session_options session = {.fast = options->fast};
    bench_must(dw_model_create_session(out->node.model, &session, &out->parent, &err), &err);
    out->jobs[0] = (dw_job){.kind = DW_JOB_FORWARD, .session = out->parent, .tokens = out->tokens, .n_tokens = out->n_prompt};
    bench_crowd_run_us(out->crowd, out->node.engine, out->jobs, 1);
}

static void close_family(family *f) {
    dw_session_destroy(f->parent);
    bench_crowd_free(f->crowd);
    bench_node_close(&f->node);
    free(f->children);
    free(f->jobs);
    free(f->tokens);
}

static double forks_us(family *f) {
    dw_error err;
    double start = bench_now_us();
    for (uint32_t i = 0; i < f->n; i++) bench_must(dw_session_fork(f->parent, &f->children[i], &err), &err);
    return bench_now_us() - start;
}

static double decode_us(family *f) {
    for (uint32_t i = 0; i < f->n; i++) {
        f->jobs[i] = (dw_job){.kind = DW_JOB_GENERATE, .session = f->children[i], .tokens = f->tokens + f->n_prompt + i, .n_tokens = 1,
                              .n_max = f->n_made, .ignore_end = true, .sampling = {.top_p = 1}};
    }
    double us = bench_crowd_run_us(f->crowd, f->node.engine, f->jobs, f->n);
    for (uint32_t i = 0; i < f->n; i++) {
        if (f->jobs[i].n_generated != f->n_made) bench_fail("a generation is too short");
    }
    return us;
}

static double own_bytes(const family *f) {
    dw_error err;
    double bytes = 0;
    for (uint32_t i = 0; i < f->n; i++) {
        dw_session_use use;
        bench_must(dw_session_use_now(f->children[i], &use, &err), &err);
        bytes += (double)use.own_bytes;
    }
    return bytes;
}

void bench_forks(const bench_options *options) {
    family f;
    open_family(options, &f);
    bench_series *time = bench_series_new("forks_time", "us", "lower", NULL);
    bench_series *memory = bench_series_new("forks_memory", "bytes", "lower", NULL);
    bench_series *own = bench_series_new("forks_own", "bytes", "lower", NULL);
    bench_series *decode = bench_series_new("forks_decode", "tokens/s", "higher", NULL);
    bench_condition(decode, "tokens", json_integer(f.n_made));
    bench_condition(decode, "sampling", json_string("ours draws greedily, theirs takes given tokens and draws nothing"));
    bench_condition(memory, "what", json_string("private pages and memory objects of the process, buffers of the batch included"));
    /* Once: a second round would find the buffers of the first. */
    double before = bench_memory_bytes();
    bench_add(time, forks_us(&f) / f.n, 0);
    bench_add(decode, (double)f.n * f.n_made / decode_us(&f) * 1e6, 0);
    bench_add(memory, bench_memory_bytes() - before, 0);
    bench_add(own, own_bytes(&f), 0);
    for (uint32_t i = 0; i < f.n; i++) dw_session_destroy(f.children[i]);
    bench_print(time);
    bench_print(memory);
    bench_print(own);
    bench_print(decode);
    close_family(&f);
}

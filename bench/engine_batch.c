/* engine_batch.c: many sessions at once through the engine, the work of llama-batched-bench: each session gets a prompt of its own with the
 * logits of the last token, then makes tokens together with the others.
 *
 * llama-batched-bench feeds tokens of its own choice and draws none. An engine for actors has no such mode: who gives tokens one by one
 * waits for each, and a step would begin with whoever was back first. So our sessions GENERATE: greedily, past an end token, without text.
 * The steps are the same (one token of each session, logits of each); that ours also looks at every row of logits counts against us. */
#include <stdlib.h>

#include "bench.h"

typedef struct batch {
    bench_node node;
    bench_crowd *crowd;
    uint32_t n, n_prompt, n_made;
    dw_session **sessions; /* [n] */
    dw_job *jobs;          /* [n] */
    dw_row_request *rows;  /* [n] */
    float *logits;         /* [n, n_vocab] */
    int32_t *prompts;      /* [n, n_prompt + 1]: the last one begins the generation */
} batch;

static void open_batch(const bench_options *options, batch *out) {
    *out = (batch){.n = bench_or(options->sessions, 8), .n_prompt = bench_or(options->prompt_tokens, 128), .n_made = bench_or(options->made_tokens, 64)};
    bench_node_open(options, bench_context(out->n_prompt + 1 + out->n_made), out->n, true, &out->node);
    uint32_t n_vocab = dw_model_info_view(out->node.model)->n_vocab;
    out->crowd = bench_crowd_new();
    out->sessions = calloc(out->n, sizeof *out->sessions);
    out->jobs = calloc(out->n, sizeof *out->jobs);
    out->rows = calloc(out->n, sizeof *out->rows);
    out->logits = calloc((size_t)out->n * n_vocab, sizeof *out->logits);
    out->prompts = calloc((size_t)out->n * (out->n_prompt + 1), sizeof *out->prompts);
    if (!out->sessions || !out->jobs || !out->rows || !out->logits || !out->prompts) bench_fail("no memory");
    for (uint32_t i = 0; i < out->n; i++) out->rows[i] = (dw_row_request){.index = DW_ROW_LAST, .logits = out->logits + (size_t)i * n_vocab};
}

static void close_batch(batch *b) {
    bench_crowd_free(b->crowd);
    bench_node_close(&b->node);
    free(b->sessions);
    free(b->jobs);
    free(b->rows);
    free(b->logits);
    free(b->prompts);
}

static double prefill_us(batch *b) {
    for (uint32_t i = 0; i < b->n; i++) {
        b->jobs[i] = (dw_job){.kind = DW_JOB_FORWARD, .session = b->sessions[i], .tokens = b->prompts + (size_t)i * (b->n_prompt + 1),
                              .n_tokens = b->n_prompt, .rows = &b->rows[i], .n_rows = 1};
    }
    return bench_crowd_run_us(b->crowd, b->node.engine, b->jobs, b->n);
}

static double decode_us(batch *b, uint32_t n_made) {
    for (uint32_t i = 0; i < b->n; i++) {
        b->jobs[i] = (dw_job){.kind = DW_JOB_GENERATE, .session = b->sessions[i], .n_tokens = 1, .n_max = n_made, .ignore_end = true,
                              .tokens = b->prompts + (size_t)i * (b->n_prompt + 1) + b->n_prompt, .sampling = {.top_p = 1}};
    }
    double us = bench_crowd_run_us(b->crowd, b->node.engine, b->jobs, b->n);
    for (uint32_t i = 0; i < b->n; i++) {
        if (b->jobs[i].n_generated != n_made) bench_fail("a generation is too short");
    }
    return us;
}

/* Fresh sessions with prompts that nobody has had before: nothing of them can be shared. */
static void begin(batch *b, bool fast, uint32_t first_salt) {
    dw_error err;
    for (uint32_t i = 0; i < b->n; i++) {
        dw_session_options session = {.fast = fast, .seed = i};
        bench_must(dw_model_create_session(b->node.model, &session, &b->sessions[i], &err), &err);
        bench_prompt_of(b->node.model, &(bench_prompt){.own_salt = first_salt + i, .n_own = b->n_prompt + 1},
                        b->prompts + (size_t)i * (b->n_prompt + 1));
    }
}

static void end(batch *b) {
    for (uint32_t i = 0; i < b->n; i++) dw_session_destroy(b->sessions[i]);
}

void bench_batch(const bench_options *options) {
    enum { WARMING_TOKENS = 4 };
    batch b;
    open_batch(options, &b);
    bench_series *prefill = bench_series_new("batch_pp", "tokens/s", "higher", NULL);
    bench_series *decode = bench_series_new("batch_tg", "tokens/s", "higher", NULL);
    bench_condition(prefill, "tokens", json_integer(b.n_prompt));
    bench_condition(decode, "tokens", json_integer(b.n_made));
    bench_condition(decode, "sampling", json_string("ours draws greedily, theirs takes given tokens and draws nothing"));
    for (unsigned i = 0; i <= options->repeats; i++) {
        begin(&b, options->fast, options->salt + i * b.n);
        double prefill_took = prefill_us(&b), decode_took = decode_us(&b, i == 0 ? WARMING_TOKENS : b.n_made);
        end(&b);
        if (i == 0) continue; /* pages of the weights, graphs, threads */
        bench_add(prefill, (double)b.n * b.n_prompt / prefill_took * 1e6, 0);
        bench_add(decode, (double)b.n * b.n_made / decode_took * 1e6, 0);
    }
    bench_print(prefill);
    bench_print(decode);
    close_batch(&b);
}

/* engine_loop.c: the native loop: prefill and decode through dw_job_run, with no engine thread, actor or guest.
 *
 * The work is llama-bench's, so that the two can stand side by side: a fresh session each time; prefill = 512 tokens, logits of the last
 * one; decode = 128 steps of one given token each from an empty session, logits of each, nothing sampled. */
#include "bench.h"

#include <stdlib.h>

enum { PREFILL_TOKENS = 512, DECODE_TOKENS = 128, CONTEXT_TOKENS = 1024 };

typedef struct loop {
    bench_node node;
    int32_t tokens[PREFILL_TOKENS];
    float *logits;
} loop;

static void open_loop(const bench_options *options, loop *out) {
    bench_node_open(options, CONTEXT_TOKENS, 4, false, &out->node);
    bench_tokens(out->node.model, out->tokens, PREFILL_TOKENS);
    out->logits = malloc(dw_model_info_view(out->node.model)->n_vocab * sizeof *out->logits);
    if (out->logits == NULL) bench_fail("no memory for logits");
}

static void close_loop(loop *l) {
    bench_node_close(&l->node);
    free(l->logits);
}

/* Tokens/s of n tokens in steps of `step`. */
static double speed_of(loop *l, uint32_t n, uint32_t step) {
    dw_error err;
    dw_session *session = NULL;
    bench_must(dw_session_create(l->node.model, NULL, &session, &err), &err);
    double start = bench_now_us();
    for (uint32_t i = 0; i < n; i += step) {
        dw_row_request row = {.index = DW_ROW_LAST, .logits = l->logits};
        dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = l->tokens + i, .n_tokens = step, .rows = &row, .n_rows = 1};
        bench_must(dw_job_run(&job, &err), &err);
    }
    double us = bench_now_us() - start;
    dw_session_destroy(session);
    return n / us * 1e6;
}

void bench_speed(const bench_options *options) {
    loop l = {0};
    open_loop(options, &l);
    bench_series *prefill = bench_series_new("prefill_512", "tokens/s", "higher", NULL);
    bench_series *decode = bench_series_new("decode_128", "tokens/s", "higher", NULL);
    bench_condition(prefill, "tokens", json_integer(PREFILL_TOKENS));
    bench_condition(prefill, "chunk_tokens", json_integer(DW_PREFILL_CHUNK_TOKENS));
    bench_condition(decode, "tokens", json_integer(DECODE_TOKENS));
    speed_of(&l, PREFILL_TOKENS, PREFILL_TOKENS); /* pages of the weights, threads */
    for (unsigned i = 0; i < options->repeats; i++) bench_add(prefill, speed_of(&l, PREFILL_TOKENS, PREFILL_TOKENS), 0);
    speed_of(&l, 1, 1);
    for (unsigned i = 0; i < options->repeats; i++) bench_add(decode, speed_of(&l, DECODE_TOKENS, 1), 0);
    bench_print(prefill);
    bench_print(decode);
    close_loop(&l);
}

void bench_info(const bench_options *options) {
    loop l = {0};
    open_loop(options, &l);
    const dw_model_info *model = dw_model_info_view(l.node.model);
    json_t *line = json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I}", "model", model->name, "file_type", model->file_type, "device",
                             dw_device_info_view(l.node.device)->name, "processor", dw_device_info_view(l.node.device)->description, "threads",
                             (json_int_t)dw_device_threads(l.node.device), "weights_copied_bytes", (json_int_t)model->weights_copied_bytes,
                             "n_vocab", (json_int_t)model->n_vocab, "bos", (json_int_t)dw_vocab_bos(dw_model_vocab(l.node.model)),
                             "kv_bytes_per_token", (json_int_t)model->kv_bytes_per_token);
    if (line == NULL) bench_fail("the model's name is not UTF-8");
    json_dumpf(line, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(line);
    close_loop(&l);
}

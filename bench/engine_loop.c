/* engine_loop.c: the native loop: prefill and decode through dw_job_run, with no engine thread, actor or guest.
 *
 * The work is llama-bench's, so that the two can stand side by side: a fresh session each time; prefill = 512 tokens, logits of the last
 * one; decode = 128 steps of one given token each from an empty session, logits of each, nothing sampled. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct loop {
    bench_node node;
    uint32_t n_prefill, n_decode;
    uint32_t salt;   /* of the next tokens */
    int32_t *tokens; /* [the longer of both] */
    float *logits;
} loop;

static void open_loop(const bench_options *options, loop *out) {
    *out = (loop){.n_prefill = bench_or(options->prompt_tokens, 512), .n_decode = bench_or(options->made_tokens, 128), .salt = options->salt};
    uint32_t longest = out->n_prefill > out->n_decode ? out->n_prefill : out->n_decode;
    bench_node_open(options, bench_context(longest + 1), 4, false, &out->node);
    out->tokens = calloc(longest, sizeof *out->tokens);
    out->logits = malloc(dw_model_info_view(out->node.model)->n_vocab * sizeof *out->logits);
    if (out->tokens == NULL || out->logits == NULL) bench_fail("no memory");
}

static void close_loop(loop *l) {
    bench_node_close(&l->node);
    free(l->tokens);
    free(l->logits);
}

/* Tokens/s of n tokens in steps of `step`. They are others each time: nothing of an earlier session can be found again. */
static double speed_of(loop *l, uint32_t n, uint32_t step) {
    dw_error err;
    dw_session *session = NULL;
    bench_prompt_of(l->node.model, &(bench_prompt){.own_salt = l->salt++, .n_own = n}, l->tokens);
    bench_must(dw_model_create_session(l->node.model, NULL, &session, &err), &err);
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
    loop l;
    char prefill_name[32], decode_name[32];
    open_loop(options, &l);
    snprintf(prefill_name, sizeof prefill_name, "prefill_%u", l.n_prefill);
    snprintf(decode_name, sizeof decode_name, "decode_%u", l.n_decode);
    bench_series *prefill = bench_series_new(prefill_name, "tokens/s", "higher", NULL);
    bench_series *decode = bench_series_new(decode_name, "tokens/s", "higher", NULL);
    bench_condition(prefill, "tokens", json_integer(l.n_prefill));
    bench_condition(prefill, "chunk_tokens", json_integer(DW_PREFILL_CHUNK_TOKENS));
    bench_condition(decode, "tokens", json_integer(l.n_decode));
    speed_of(&l, l.n_prefill, l.n_prefill); /* pages of the weights, threads */
    for (unsigned i = 0; i < options->repeats; i++) bench_add(prefill, speed_of(&l, l.n_prefill, l.n_prefill), 0);
    speed_of(&l, 1, 1);
    for (unsigned i = 0; i < options->repeats; i++) bench_add(decode, speed_of(&l, l.n_decode, 1), 0);
    bench_print(prefill);
    bench_print(decode);
    close_loop(&l);
}

void bench_info(const bench_options *options) {
    loop l;
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

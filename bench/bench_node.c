/* bench_node.c: devices, models and jobs as the parts of bench_engine use them. */
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

void bench_prompt_of(dw_model *model, const bench_prompt *prompt, int32_t *out) {
    bench_prompt whole = *prompt;
    whole.n_vocab = dw_model_info_view(model)->n_vocab;
    whole.bos = dw_vocab_bos(dw_model_vocab(model));
    bench_prompt_make(&whole, out);
}

void bench_tokens(dw_model *model, int32_t *out, uint32_t n) { bench_prompt_of(model, &(bench_prompt){.own_salt = 1, .n_own = n}, out); }

uint32_t bench_context(uint32_t tokens) { return (tokens + 255) / 256 * 256; }

void bench_node_open(const bench_options *options, uint32_t context_tokens, uint32_t sessions_max, bool with_engine, bench_node *out) {
    dw_error err;
    dw_device_options device = {.threads = options->threads};
    dw_model_options model = {.context_tokens = context_tokens, .sessions_max = sessions_max, .repack = options->repack};
    *out = (bench_node){0};
    bench_must(dw_device_open(options->device, &device, &out->device, &err), &err);
    bench_must(dw_model_open(options->model, out->device, &model, &out->model, &err), &err);
    if (with_engine) bench_must(dw_engine_create(out->device, &out->engine, &err), &err);
}

void bench_node_close(bench_node *node) {
    dw_engine_destroy(node->engine);
    dw_model_close(node->model);
    dw_device_close(node->device);
}

/* --- a crowd of jobs ----------------------------------------------------------------------------------------- */

struct bench_crowd {
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    uint32_t left;
};

bench_crowd *bench_crowd_new(void) {
    dw_error err;
    bench_crowd *crowd = calloc(1, sizeof *crowd);
    if (crowd == NULL) bench_fail("no memory");
    bench_must(dw_os_mutex_create(&crowd->mutex, &err), &err);
    bench_must(dw_os_condition_create(&crowd->changed, &err), &err);
    return crowd;
}

void bench_crowd_free(bench_crowd *crowd) {
    dw_os_condition_destroy(crowd->changed);
    dw_os_mutex_destroy(crowd->mutex);
    free(crowd);
}

static void one_is_done(dw_job *job) {
    bench_crowd *crowd = job->context;
    dw_os_mutex_lock(crowd->mutex);
    crowd->left--;
    dw_os_condition_signal(crowd->changed);
    dw_os_mutex_unlock(crowd->mutex);
}

double bench_crowd_run_us(bench_crowd *crowd, dw_engine *engine, dw_job *jobs, uint32_t n) {
    dw_error err;
    crowd->left = n;
    double start = bench_now_us();
    for (uint32_t i = 0; i < n; i++) {
        jobs[i].context = crowd;
        jobs[i].on_done = one_is_done;
        bench_must(dw_engine_submit(engine, &jobs[i], &err), &err);
    }
    dw_os_mutex_lock(crowd->mutex);
    while (crowd->left > 0) dw_os_condition_wait(crowd->changed, crowd->mutex);
    dw_os_mutex_unlock(crowd->mutex);
    double us = bench_now_us() - start;
    for (uint32_t i = 0; i < n; i++) bench_must(jobs[i].status, &jobs[i].error);
    return us;
}

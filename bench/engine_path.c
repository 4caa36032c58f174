/* engine_path.c: the whole path of a token: mailbox, sandbox, engine, sampler, stream, commit. N actors, each on a thread of its own, get a
 * prompt each at the same time, answer it with sampled tokens and stream them: what N clients ask of a server.
 *
 *   tokens_per_s    tokens made by all, from the first message sent to the last turn committed
 *   first_token_ms  from sending to the first streamed text, of the actor in the middle (p50)
 *
 * Threads: one per actor; the main thread starts and joins them, round by round. */
#include <stdlib.h>

#include "bench_actor.h"

typedef struct talker {
    bench_loop_actor actor;
    dw_os_thread *thread;
    loop_head head;
    int32_t *prompt;
    uint32_t n_prompt;
    double first_text_us;
} talker;

static void talk(void *argument) {
    talker *t = argument;
    bench_turn turn = bench_order(&t->actor, t->head, t->prompt, t->n_prompt);
    if (turn.result.tokens_generated != t->head.n) bench_fail("an actor made too few tokens");
    t->first_text_us = turn.first_text_us;
    bench_turn_end(&turn);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double middle_first_text_us(const talker *talkers, uint32_t n) {
    double *all = calloc(n, sizeof *all);
    if (all == NULL) bench_fail("no memory");
    for (uint32_t i = 0; i < n; i++) all[i] = talkers[i].first_text_us;
    qsort(all, n, sizeof *all, ascending);
    double middle = n % 2 ? all[n / 2] : (all[n / 2 - 1] + all[n / 2]) / 2;
    free(all);
    return middle;
}

/* All at once; returns from the first message to the end of the last turn. */
static double round_us(talker *talkers, uint32_t n) {
    dw_error err;
    double start = bench_now_us();
    for (uint32_t i = 0; i < n; i++) {
        bench_must(dw_os_thread_create("talker", DW_WORKER_STACK_BYTES, talk, &talkers[i], &talkers[i].thread, &err), &err);
    }
    for (uint32_t i = 0; i < n; i++) dw_os_thread_join(talkers[i].thread);
    return bench_now_us() - start;
}

/* New prompts, so that nothing is known of them, and new seeds. */
static void give_orders(talker *talkers, uint32_t n, dw_model *model, loop_head head, uint32_t first_salt) {
    for (uint32_t i = 0; i < n; i++) {
        talkers[i].head = head;
        talkers[i].head.seed = first_salt + i;
        bench_prompt_of(model, &(bench_prompt){.own_salt = first_salt + i, .n_own = talkers[i].n_prompt}, talkers[i].prompt);
    }
}

void bench_path(const bench_options *options) {
    enum { WARMING_TOKENS = 4 };
    uint32_t n = bench_or(options->sessions, 8), n_prompt = bench_or(options->prompt_tokens, 128), n_made = bench_or(options->made_tokens, 64);
    bench_house house;
    /* A session that a turn closes keeps its slot until the commit. */
    bench_house_options with = {.with_model = true, .context_tokens = bench_context(n_prompt + n_made), .sessions_max = 2 * n};
    talker *talkers = calloc(n, sizeof *talkers);
    if (talkers == NULL) bench_fail("no memory");
    bench_house_open(options, &with, &house);
    dw_model *model = dw_runtime_model(house.runtime, NULL);
    for (uint32_t i = 0; i < n; i++) {
        talkers[i].prompt = calloc(n_prompt, sizeof *talkers[i].prompt);
        talkers[i].n_prompt = n_prompt;
        if (talkers[i].prompt == NULL) bench_fail("no memory");
        bench_actor_init(&house, DW_PRIORITY_NORMAL, &talkers[i].actor);
    }
    bench_series *speed = bench_series_new("path", "tokens/s", "higher", NULL);
    bench_series *first = bench_series_new("path_first_token", "ms", "lower", NULL);
    bench_condition(speed, "tokens", json_integer(n_made));
    bench_condition(speed, "prompt_tokens", json_integer(n_prompt));
    bench_condition(first, "prompt_tokens", json_integer(n_prompt));
    for (unsigned i = 0; i <= options->repeats; i++) {
        loop_head head = {.work = LOOP_TALK, .n = i == 0 ? WARMING_TOKENS : n_made, .flags = options->fast ? LOOP_FAST : 0};
        give_orders(talkers, n, model, head, options->salt + i * n);
        double us = round_us(talkers, n);
        if (i == 0) continue; /* instances, graphs, pages of the weights */
        bench_add(speed, (double)n * n_made / us * 1e6, 0);
        bench_add(first, middle_first_text_us(talkers, n) / 1000, 0);
    }
    bench_print(speed);
    bench_print(first);
    for (uint32_t i = 0; i < n; i++) {
        bench_actor_deinit(&talkers[i].actor);
        free(talkers[i].prompt);
    }
    free(talkers);
    bench_house_close(&house);
}

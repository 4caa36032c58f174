/* share_prefix.c: two actors of one owner whose prompts begin with the same system prompt. The first computes it; the second finds it.
 *
 *   prefix_cold     ms to the first token of the first actor
 *   prefix_second   the same of the second
 *   prefix_reused   tokens of the second prompt that needed no evaluation
 *
 * Each value has a system prompt of its own, so that the first actor really is the first. */
#include <stdlib.h>

#include "bench_actor.h"

typedef struct pair {
    bench_house house;
    bench_loop_actor first, second;
    int32_t *tokens; /* [n_shared + n_own] */
    uint32_t n_shared, n_own;
    uint32_t flags;
} pair;

/* Time to the first token, in ms. */
static double ask(pair *p, bench_loop_actor *actor, uint32_t shared_salt, uint32_t own_salt, double *reused) {
    bench_prompt prompt = {.shared_salt = shared_salt, .n_shared = p->n_shared, .own_salt = own_salt, .n_own = p->n_own};
    bench_prompt_of(dw_runtime_model(p->house.runtime, NULL), &prompt, p->tokens);
    bench_turn turn = bench_order(actor, (loop_head){.work = LOOP_TALK, .n = 1, .flags = p->flags, .seed = own_salt}, p->tokens, p->n_shared + p->n_own);
    *reused = (double)turn.result.tokens_shared;
    bench_turn_end(&turn);
    return turn.first_text_us / 1000;
}

void bench_prefix(const bench_options *options) {
    pair p = {.n_shared = bench_or(options->prompt_tokens, 2000), .n_own = bench_or(options->own_tokens, 20), .flags = options->fast ? LOOP_FAST : 0};
    bench_house_options with = {.with_model = true, .context_tokens = bench_context(p.n_shared + p.n_own + 1), .sessions_max = 8};
    p.tokens = calloc(p.n_shared + p.n_own, sizeof *p.tokens);
    if (p.tokens == NULL) bench_fail("no memory");
    bench_house_open(options, &with, &p.house);
    bench_actor_init(&p.house, DW_PRIORITY_NORMAL, &p.first);
    bench_actor_init(&p.house, DW_PRIORITY_NORMAL, &p.second);
    bench_series *cold = bench_series_new("prefix_cold", "ms", "lower", NULL);
    bench_series *second = bench_series_new("prefix_second", "ms", "lower", NULL);
    bench_series *found = bench_series_new("prefix_reused", "tokens", "higher", NULL);
    for (unsigned i = 0; i <= options->repeats; i++) {
        double reused;
        uint32_t salt = options->salt + 3 * i;
        double cold_ms = ask(&p, &p.first, salt, salt + 1, &reused);
        double second_ms = ask(&p, &p.second, salt, salt + 2, &reused);
        if (i == 0) continue; /* instances, pages of the weights */
        bench_add(cold, cold_ms, 0);
        bench_add(second, second_ms, 0);
        bench_add(found, reused, 0);
    }
    bench_print(cold);
    bench_print(second);
    bench_print(found);
    bench_actor_deinit(&p.second);
    bench_actor_deinit(&p.first);
    bench_house_close(&p.house);
    free(p.tokens);
}

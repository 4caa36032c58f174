/* bench_actor.c: see bench_actor.h. */
#include "bench_actor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *bench_program(const bench_options *options, const char *name) {
    static char path[1024];
    int length = snprintf(path, sizeof path, "%s/%s.wasm", options->programs, name);
    if (length < 0 || (size_t)length >= sizeof path) bench_fail("the programs' folder has too long a name");
    return path;
}

/* --- a runtime and its actors -------------------------------------------------------------------------------- */

void bench_house_open(const bench_options *options, const bench_house_options *house, bench_house *out) {
    dw_error err;
    dw_runtime_options runtime = {.device = options->device, .threads = options->threads, .repack = options->repack,
                                  .context_tokens = bench_or(house->context_tokens, 1024), .sessions_max = bench_or(house->sessions_max, 8)};
    *out = (bench_house){0};
    bench_must(dw_runtime_create(&runtime, &out->runtime, &err), &err);
    if (house->with_model) bench_must(dw_runtime_add_model(out->runtime, "model", options->model, &err), &err);
    if (house->with_small) {
        const char *path = options->small != NULL ? options->small : options->model;
        bench_must(dw_runtime_add_model(out->runtime, "small", path, &err), &err);
    }
    bench_must(dw_runtime_load_program(out->runtime, bench_program(options, "bench_loop"), &out->loop, &err), &err);
}

void bench_house_close(bench_house *house) {
    dw_program_release(house->loop);
    dw_runtime_destroy(house->runtime);
}

static void hear_text(void *context, const char *text, size_t size) {
    bench_loop_actor *actor = context;
    (void)text, (void)size;
    if (actor->first_text_us == 0) actor->first_text_us = bench_now_us();
    actor->texts++;
}

void bench_actor_init(const bench_house *house, dw_priority priority, bench_loop_actor *out) {
    dw_error err;
    dw_observer observer = {.on_text = hear_text, .context = out};
    dw_actor_options actor = {.name = "bench", .observer = &observer, .owner = 1, .priority = priority};
    memset(out, 0, sizeof *out);
    bench_must(dw_actor_create(house->runtime, house->loop, &actor, &out->actor, &err), &err);
}

void bench_actor_deinit(bench_loop_actor *actor) { dw_actor_destroy(actor->actor); }

/* --- orders -------------------------------------------------------------------------------------------------- */

static void send(const bench_loop_actor *actor, loop_head head, const int32_t *tokens, uint32_t n_tokens) {
    dw_error err;
    size_t size = sizeof head + n_tokens * sizeof tokens[0];
    uint8_t *message = malloc(size); /* too large for the stack of a thread */
    if (message == NULL || n_tokens > LOOP_TOKENS_MAX) bench_fail("too many tokens for one order");
    memcpy(message, &head, sizeof head);
    if (n_tokens > 0) memcpy(message + sizeof head, tokens, n_tokens * sizeof tokens[0]);
    bench_must(dw_actor_send(actor->actor, message, size, 0, &err), &err);
    free(message);
}

bench_turn bench_order(bench_loop_actor *actor, loop_head head, const int32_t *tokens, uint32_t n_tokens) {
    dw_error err;
    bench_turn turn;
    actor->first_text_us = 0;
    double start = bench_now_us();
    send(actor, head, tokens, n_tokens);
    bench_must(dw_actor_turn(actor->actor, UINT64_MAX, &turn.result, &err), &err);
    turn.us = bench_now_us() - start;
    turn.first_text_us = actor->first_text_us > 0 ? actor->first_text_us - start : turn.us;
    return turn;
}

void bench_turn_end(bench_turn *turn) {
    free(turn->result.reply);
    turn->result.reply = NULL;
}

/* engine_actor.c: what the actor adds to a token, beside the native loop over the same model, the same prompt and the same tokens.
 *
 *   generate  a turn in which the guest asks for n tokens with one GENERATE and streams them, as the chat program does
 *   forward   a turn in which the guest owns the loop: n FORWARDs of one token, each drawing the next
 *
 * Both sides use one model, one device and its threads, so that they differ in nothing else. The native loop runs on this thread while the
 * runtime's engine has nothing to do: no turn is running, and the port's lock has ordered its last step before us.
 *
 * A step takes thousands of microseconds and varies by hundreds; what the actor adds is tens. So beside the whole time per token there is
 * the time outside of the model's steps, which both sides take for themselves: their difference is what was added. */
#include "bench_actor.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT_TOKENS = 64, MADE_TOKENS = 64 };

/* Back at the prompt; then the turn that counts. */
static bench_turn run_actor(bench_loop_actor *actor, loop_work work, int32_t first) {
    bench_turn turn = bench_order(actor, (loop_head){.work = LOOP_REWIND}, NULL, 0);
    bench_turn_end(&turn);
    return bench_order(actor, (loop_head){.work = work, .n = MADE_TOKENS}, &first, 1);
}

/* --- the native loop ----------------------------------------------------------------------------------------- */

typedef struct native {
    dw_session *session;
    int32_t first;             /* appended to the prompt, as a user's message is */
    int32_t made[MADE_TOKENS];
    double us, model_us;
} native;

static bool hear_text(dw_job *job, const char *text, size_t size) {
    (void)job, (void)text, (void)size;
    return true;
}

static void run(native *n, dw_job *job) {
    dw_error err;
    bench_must(dw_job_run(job, &err), &err);
    n->model_us += (double)(job->prefill_ns + job->decode_ns) / 1000;
}

static void native_generate(native *n) {
    dw_job job = {.kind = DW_JOB_GENERATE, .session = n->session, .tokens = &n->first, .n_tokens = 1, .n_max = MADE_TOKENS, .sampling = {.top_p = 1}, .ignore_end = true,
                  .on_text = hear_text};
    run(n, &job);
    uint32_t length;
    const int32_t *log = dw_session_tokens(n->session, &length);
    if (length != PROMPT_TOKENS + 1 + MADE_TOKENS) bench_fail("the native generation is too short");
    memcpy(n->made, log + PROMPT_TOKENS + 1, sizeof n->made);
}

static void native_forward(native *n) {
    for (uint32_t i = 0; i < MADE_TOKENS; i++) {
        dw_row_request row = {.index = DW_ROW_LAST, .sample = true, .sampling = {.top_p = 1}};
        const int32_t *token = i > 0 ? &n->made[i - 1] : &n->first;
        dw_job job = {.kind = DW_JOB_FORWARD, .session = n->session, .tokens = token, .n_tokens = 1, .rows = &row, .n_rows = 1};
        run(n, &job);
        n->made[i] = row.sampled.token;
    }
}

static void run_native(native *n, void (*loop)(native *n)) {
    dw_error err;
    bench_must(dw_session_rewind(n->session, PROMPT_TOKENS, &err), &err);
    n->model_us = 0;
    double start = bench_now_us();
    loop(n);
    n->us = bench_now_us() - start;
}

/* --- side by side -------------------------------------------------------------------------------------------- */

static void compare(bench_loop_actor *actor, native *n, const char *name, const char *outside_name, loop_work work,
                    void (*loop)(native *n), unsigned repeats) {
    const char *against = "the same tokens by the native loop (dw_job_run)";
    bench_series *whole = bench_series_new(name, "us/token", "lower", against);
    bench_series *outside = bench_series_new(outside_name, "us/token", "lower", against);
    bench_condition(whole, "tokens", json_integer(MADE_TOKENS));
    bench_condition(outside, "tokens", json_integer(MADE_TOKENS));
    bench_condition(outside, "what", json_string("time outside of the model's steps, the turn and its commit included"));
    for (unsigned i = 0; i <= repeats; i++) {
        bench_turn turn = run_actor(actor, work, n->first);
        run_native(n, loop);
        if (turn.result.reply_size != sizeof n->made || memcmp(turn.result.reply, n->made, sizeof n->made) != 0) {
            bench_fail("the actor made other tokens than the native loop");
        }
        double model_us = (double)turn.result.model_ns / 1000;
        bench_turn_end(&turn);
        if (i == 0) continue; /* warms both */
        bench_add(whole, turn.us / MADE_TOKENS, n->us / MADE_TOKENS);
        bench_add(outside, (turn.us - model_us) / MADE_TOKENS, (n->us - n->model_us) / MADE_TOKENS);
    }
    bench_print(whole);
    bench_print(outside);
}

void bench_actor(const bench_options *options) {
    dw_error err;
    bench_house house;
    bench_house_options with = {.with_model = true};
    bench_loop_actor actor;
    native n = {0};
    int32_t tokens[PROMPT_TOKENS + 1];
    bench_house_open(options, &with, &house);
    bench_actor_init(&house, DW_PRIORITY_NORMAL, &actor);
    dw_model *model = dw_runtime_model(house.runtime, NULL);
    bench_tokens(model, tokens, PROMPT_TOKENS + 1);
    n.first = tokens[PROMPT_TOKENS];
    bench_turn turn = bench_order(&actor, (loop_head){.work = LOOP_PROMPT}, tokens, PROMPT_TOKENS);
    bench_turn_end(&turn);
    bench_must(dw_model_create_session(model, NULL, &n.session, &err), &err);
    dw_job prefill = {.kind = DW_JOB_FORWARD, .session = n.session, .tokens = tokens, .n_tokens = PROMPT_TOKENS};
    bench_must(dw_job_run(&prefill, &err), &err);
    compare(&actor, &n, "actor_generate", "actor_generate_outside", LOOP_GENERATE, native_generate, options->repeats);
    compare(&actor, &n, "actor_forward", "actor_forward_outside", LOOP_FORWARD, native_forward, options->repeats);
    dw_session_destroy(n.session);
    bench_actor_deinit(&actor);
    bench_house_close(&house);
}

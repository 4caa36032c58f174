/* latency_turns.c: how long a short turn takes while the same engine is busy with long ones.
 *
 *   load    16 actors that generate and one that prefills a long prompt, again and again, in the normal class, each on a thread of its own
 *   turn    one message to an actor on the main thread: from sending it to its commit. Three kinds:
 *             turn_no_model    the guest reads the message and returns
 *             turn_realtime    8 tokens of a small model, in the real-time class
 *             turn_normal      the same in the normal class
 *
 * Each series has the turns under load as ours and the same on the idle runtime as theirs, in blocks that take turns. Between two turns
 * passes a moment of random length, so that they meet every phase of a step.
 *
 * Threads: one per actor of the load, started once and parked by `pause` under the mutex; the main thread runs all turns that count. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_actor.h"

enum {
    DECODERS = 16, LOAD_PROMPT_TOKENS = 32, LOAD_MADE_TOKENS = LOOP_MADE_MAX, /* of a decoder's turn */
    PREFILL_TOKENS = 4000,
    TURN_PROMPT_TOKENS = 32, TURN_TOKENS = 8,
    BLOCK_TURNS = 40,       /* per repeat */
    NORMAL_EVERY = 4,       /* turns of the real-time class per turn of the normal one, which takes long */
    PAUSE_US_MAX = 20000,   /* between turns */
    PATIENCE_SECONDS = 300  /* until all of the load is at work */
};

typedef struct load load;

typedef struct loader {
    bench_loop_actor actor;
    dw_os_thread *thread;
    load *load;
    dw_model *model;
    loop_head head;
    uint32_t n_tokens, salt;
} loader;

struct load {
    loader *loaders; /* [n]: the decoders, then one that prefills */
    uint32_t n;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    /* under the mutex */
    uint32_t parked;
    bool running, ending;
};

/* --- the load ------------------------------------------------------------------------------------------------ */

/* False when the thread is to end. */
static bool wait_for_work(load *l) {
    dw_os_mutex_lock(l->mutex);
    l->parked++;
    dw_os_condition_broadcast(l->changed);
    while (!l->running && !l->ending) dw_os_condition_wait(l->changed, l->mutex);
    l->parked--;
    bool more = !l->ending;
    dw_os_mutex_unlock(l->mutex);
    return more;
}

/* A turn that was cut keeps its message: it is handled again before a new one is sent. */
static void send_next(loader *one, int32_t *tokens) {
    dw_error err;
    if (dw_actor_waiting(one->actor.actor) > 0) return;
    bench_prompt_of(one->model, &(bench_prompt){.own_salt = one->salt, .n_own = one->n_tokens}, tokens);
    one->salt += DECODERS + 1;
    size_t size = sizeof one->head + one->n_tokens * sizeof tokens[0];
    uint8_t *message = malloc(size);
    if (message == NULL) bench_fail("no memory");
    memcpy(message, &one->head, sizeof one->head);
    memcpy(message + sizeof one->head, tokens, one->n_tokens * sizeof tokens[0]);
    bench_must(dw_actor_send(one->actor.actor, message, size, 0, &err), &err);
    free(message);
}

static void run_loader(void *argument) {
    loader *one = argument;
    int32_t *tokens = calloc(one->n_tokens, sizeof *tokens);
    if (tokens == NULL) bench_fail("no memory");
    while (wait_for_work(one->load)) {
        dw_error err;
        dw_turn_result result;
        send_next(one, tokens);
        dw_status status = dw_actor_turn(one->actor.actor, UINT64_MAX, &result, &err);
        if (status != DW_E_CANCELLED) bench_must(status, &err);
        free(result.reply);
    }
    free(tokens);
}

static void open_load(load *l, const bench_options *options, bench_house *house) {
    dw_error err;
    uint32_t decoders = bench_or(options->sessions, DECODERS);
    *l = (load){.n = decoders + 1};
    l->loaders = calloc(l->n, sizeof *l->loaders);
    if (l->loaders == NULL) bench_fail("no memory");
    bench_must(dw_os_mutex_create(&l->mutex, &err), &err);
    bench_must(dw_os_condition_create(&l->changed, &err), &err);
    for (uint32_t i = 0; i < l->n; i++) {
        loader *one = &l->loaders[i];
        bool decodes = i < decoders;
        one->load = l;
        one->model = dw_runtime_model(house->runtime, NULL);
        one->salt = options->salt + i;
        one->head = (loop_head){.work = decodes ? LOOP_TALK : LOOP_PROMPT, .n = decodes ? LOAD_MADE_TOKENS : 0, .seed = i,
                                .flags = options->fast ? LOOP_FAST : 0};
        one->n_tokens = decodes ? LOAD_PROMPT_TOKENS : bench_or(options->prompt_tokens, PREFILL_TOKENS);
        bench_actor_init(house, DW_PRIORITY_NORMAL, &one->actor);
        bench_must(dw_os_thread_create("load", DW_WORKER_STACK_BYTES, run_loader, one, &one->thread, &err), &err);
    }
}

static uint64_t texts_of(const load *l, uint32_t i) { return atomic_load(&l->loaders[i].actor.texts); }

static uint64_t all_texts(const load *l) {
    uint64_t all = 0;
    for (uint32_t i = 0; i < l->n; i++) all += texts_of(l, i);
    return all;
}

static void set_running(load *l, bool running, bool ending) {
    dw_os_mutex_lock(l->mutex);
    l->running = running;
    l->ending = ending;
    dw_os_condition_broadcast(l->changed);
    dw_os_mutex_unlock(l->mutex);
}

static void sleep_us(load *l, double us) {
    uint64_t until = dw_os_monotonic_ns() + (uint64_t)(us * 1000);
    dw_os_mutex_lock(l->mutex);
    while (dw_os_condition_wait_until(l->changed, l->mutex, until)) {}
    dw_os_mutex_unlock(l->mutex);
}

/* Returns when every decoder has decoded. */
static void start_load(load *l) {
    uint64_t *before = calloc(l->n, sizeof *before);
    if (before == NULL) bench_fail("no memory");
    for (uint32_t i = 0; i < l->n; i++) before[i] = texts_of(l, i);
    set_running(l, true, false);
    double deadline = bench_now_us() + PATIENCE_SECONDS * 1e6;
    for (uint32_t i = 0; i + 1 < l->n;) {
        if (texts_of(l, i) > before[i]) i++;
        else sleep_us(l, 1000);
        if (bench_now_us() > deadline) bench_fail("the load does not get going");
    }
    free(before);
}

/* Cuts the turns of the load; returns when none is running. */
static void pause_load(load *l) {
    set_running(l, false, false);
    for (uint32_t i = 0; i < l->n; i++) {
        dw_actor *actor = l->loaders[i].actor.actor;
        (void)!dw_actor_stop(actor, dw_actor_next_turn(actor)); /* one that ends by itself meanwhile begins no other */
    }
    dw_os_mutex_lock(l->mutex);
    while (l->parked < l->n) dw_os_condition_wait(l->changed, l->mutex);
    dw_os_mutex_unlock(l->mutex);
}

static void close_load(load *l) {
    set_running(l, false, true);
    for (uint32_t i = 0; i < l->n; i++) {
        dw_os_thread_join(l->loaders[i].thread);
        bench_actor_deinit(&l->loaders[i].actor);
    }
    dw_os_condition_destroy(l->changed);
    dw_os_mutex_destroy(l->mutex);
    free(l->loaders);
}

/* --- turns --------------------------------------------------------------------------------------------------- */

enum { NO_MODEL, REALTIME, NORMAL, KINDS };

typedef struct turns {
    load load;
    bench_loop_actor actors[KINDS];
    int32_t first; /* appended to the prompt, as a user's message is */
    uint32_t random;
    double taken_ms[KINDS][2][BENCH_VALUES_MAX]; /* [kind][under load] */
    uint32_t n[KINDS][2];
} turns;

static void take_turn(turns *t, int kind, bool under_load) {
    bench_loop_actor *actor = &t->actors[kind];
    t->random = t->random * 1664525u + 1013904223u; /* Knuth, TAOCP 3.3.4, line 26 of table 1 */
    sleep_us(&t->load, (t->random >> 8) % PAUSE_US_MAX);
    if (kind != NO_MODEL) {
        bench_turn back = bench_order(actor, (loop_head){.work = LOOP_REWIND}, NULL, 0);
        bench_turn_end(&back);
    }
    bench_turn turn = kind == NO_MODEL ? bench_order(actor, (loop_head){.work = LOOP_NOTHING}, NULL, 0)
                                       : bench_order(actor, (loop_head){.work = LOOP_GENERATE, .n = TURN_TOKENS}, &t->first, 1);
    bench_turn_end(&turn);
    uint32_t *n = &t->n[kind][under_load];
    if (*n == BENCH_VALUES_MAX) bench_fail("too many turns");
    t->taken_ms[kind][under_load][(*n)++] = turn.us / 1000;
}

static void take_block(turns *t, bool under_load, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        take_turn(t, NO_MODEL, under_load);
        take_turn(t, REALTIME, under_load);
        if (i % NORMAL_EVERY == 0) take_turn(t, NORMAL, under_load);
    }
}

static void open_turns(turns *t, const bench_options *options, bench_house *house) {
    static const dw_priority classes[KINDS] = {DW_PRIORITY_NORMAL, DW_PRIORITY_REALTIME, DW_PRIORITY_NORMAL};
    int32_t tokens[TURN_PROMPT_TOKENS + 1];
    dw_model *small = dw_runtime_model(house->runtime, "small");
    t->random = options->salt;
    for (int kind = 0; kind < KINDS; kind++) {
        bench_actor_init(house, classes[kind], &t->actors[kind]);
        bench_prompt_of(small, &(bench_prompt){.own_salt = (uint32_t)kind + 1, .n_own = TURN_PROMPT_TOKENS + 1}, tokens);
        t->first = tokens[TURN_PROMPT_TOKENS];
        bench_turn turn = bench_order(&t->actors[kind], (loop_head){.work = LOOP_PROMPT, .flags = LOOP_SMALL}, tokens, TURN_PROMPT_TOKENS);
        bench_turn_end(&turn);
        for (int i = 0; i < 2; i++) take_turn(t, kind, false); /* warm */
        t->n[kind][false] = 0;
    }
}

static void print_kind(const turns *t, int kind, const char *name, double load_texts_per_s) {
    bench_series *series = bench_series_new(name, "ms", "lower", "the same turns on the idle runtime");
    for (uint32_t i = 0; i < t->n[kind][true]; i++) bench_add(series, t->taken_ms[kind][true][i], t->taken_ms[kind][false][i]);
    bench_condition(series, "turns", json_integer(t->n[kind][true]));
    bench_condition(series, "tokens", json_integer(kind == NO_MODEL ? 0 : TURN_TOKENS));
    bench_condition(series, "load_decodes", json_integer(t->load.n - 1));
    bench_condition(series, "load_prefill_tokens", json_integer(t->load.loaders[t->load.n - 1].n_tokens));
    bench_condition(series, "load_texts_per_s", json_real(load_texts_per_s));
    bench_print(series);
}

void bench_latency(const bench_options *options) {
    uint32_t block = bench_or(options->turns, BLOCK_TURNS);
    uint32_t sessions = 2 * (bench_or(options->sessions, DECODERS) + 1); /* a session that a turn closes keeps its slot until the commit */
    uint32_t longest = bench_or(options->prompt_tokens, PREFILL_TOKENS);
    if (longest < LOAD_PROMPT_TOKENS + LOAD_MADE_TOKENS) longest = LOAD_PROMPT_TOKENS + LOAD_MADE_TOKENS;
    bench_house house;
    bench_house_options with = {.with_model = true, .with_small = true, .context_tokens = bench_context(longest + 1), .sessions_max = sessions};
    turns *t = calloc(1, sizeof *t);
    if (t == NULL) bench_fail("no memory");
    bench_house_open(options, &with, &house);
    open_load(&t->load, options, &house);
    open_turns(t, options, &house);
    double load_us = 0;
    uint64_t texts = 0;
    for (unsigned i = 0; i < options->repeats; i++) {
        take_block(t, false, block);
        start_load(&t->load);
        double start = bench_now_us();
        uint64_t before = all_texts(&t->load);
        take_block(t, true, block);
        load_us += bench_now_us() - start;
        texts += all_texts(&t->load) - before;
        pause_load(&t->load);
    }
    double texts_per_s = (double)texts / load_us * 1e6;
    print_kind(t, NO_MODEL, "turn_no_model", texts_per_s);
    print_kind(t, REALTIME, "turn_realtime", texts_per_s);
    print_kind(t, NORMAL, "turn_normal", texts_per_s);
    close_load(&t->load);
    for (int kind = 0; kind < KINDS; kind++) bench_actor_deinit(&t->actors[kind]);
    bench_house_close(&house);
    free(t);
}

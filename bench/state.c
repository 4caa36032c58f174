/* state.c: turns that write pages all over memory: what each costs, first and last ones, and what a fork of such an
 * actor takes.
 *
 *     bench_state --pages N --turns N [--forks N] [--programs FOLDER]
 *
 * One JSON object: us of each turn and of each commit, and what is measured once. bench/state runs it and sums up. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "actor/actor.h"
#include "guests/scatter.h"
#include "memory.h"

typedef struct state_options { const char *programs; uint32_t pages, turns, forks; } state_options;
typedef struct state_bench {
    dw_runtime *runtime;
    dw_program *program;
    dw_actor *actor;
    json_t *turns, *commits;
    uint64_t dirty_bytes;
} state_bench;

enum { FORKS_MAX = 64, TURNS_MAX = 100000 };

static void must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "bench_state: %s: %s\n", dw_status_name(status), err->text);
    exit(1);
}

static double now_us(void) { return (double)dw_os_monotonic_ns() / 1000.0; }

static void open_bench(const state_options *options, state_bench *b) {
    dw_error err;
    char path[1024];
    dw_runtime_options runtime = {.device = "cpu", .threads = 1};
    must(dw_runtime_create(&runtime, &b->runtime, &err), &err);
    snprintf(path, sizeof path, "%s/bench_scatter.wasm", options->programs);
    must(dw_runtime_load_program(b->runtime, path, &b->program, &err), &err);
    dw_actor_options actor = {.name = "bench"};
    must(dw_actor_create(b->runtime, b->program, &actor, &b->actor, &err), &err);
    b->turns = json_array();
    b->commits = json_array();
}

static double turn_us(dw_actor *actor, scatter_order order, dw_turn_result *result) {
    dw_error err;
    must(dw_actor_send(actor, &order, sizeof order, 1, &err), &err);
    double start = now_us();
    must(dw_actor_turn(actor, UINT64_MAX, result, &err), &err);
    double us = now_us() - start;
    free(result->reply);
    return us;
}

static void run_turns(const state_options *options, state_bench *b) {
    dw_turn_result result;
    turn_us(b->actor, (scatter_order){0, 0}, &result); /* the first one initialises */
    for (uint32_t turn = 0; turn < options->turns; turn++) {
        json_array_append_new(b->turns, json_real(turn_us(b->actor, (scatter_order){options->pages, turn}, &result)));
        json_array_append_new(b->commits, json_real((double)result.commit_ns / 1000.0));
        b->dirty_bytes += result.dirty_bytes;
    }
}

/* The first fork may lay memory out anew, which those after it share. */
static double first_fork_us(state_bench *b) {
    dw_actor *fork;
    dw_error err;
    double start = now_us();
    must(dw_actor_fork(b->actor, "first", &fork, NULL, &err), &err);
    double us = now_us() - start;
    dw_actor_destroy(fork);
    return us;
}

/* Forks, all alive at once; each has had an empty turn before memory is looked at, so that nothing is put off. */
static json_t *run_forks(const state_options *options, state_bench *b) {
    dw_actor *forks[FORKS_MAX];
    dw_error err;
    dw_turn_result result;
    json_t *us = json_array();
    double first_us = first_fork_us(b);
    double before = bench_memory_bytes();
    for (uint32_t i = 0; i < options->forks; i++) {
        double start = now_us();
        must(dw_actor_fork(b->actor, "fork", &forks[i], NULL, &err), &err);
        json_array_append_new(us, json_real(now_us() - start));
    }
    double forked = bench_memory_bytes();
    for (uint32_t i = 0; i < options->forks; i++) turn_us(forks[i], (scatter_order){0, 0}, &result);
    double used = bench_memory_bytes();
    for (uint32_t i = 0; i < options->forks; i++) dw_actor_destroy(forks[i]);
    double n = options->forks ? options->forks : 1;
    return json_pack("{s:o, s:f, s:f, s:f}", "us", us, "first_us", first_us, "bytes", (forked - before) / n,
                     "bytes_after_turn", (used - before) / n);
}

static _Noreturn void usage(void) {
    fputs("usage: bench_state --pages N --turns N [--forks N] [--programs FOLDER]\n", stderr);
    exit(2);
}

static uint32_t number_of(const char *text, uint32_t max) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end != 0 || n > max) usage();
    return (uint32_t)n;
}

static state_options options_of(int argc, char **argv) {
    state_options options = {.programs = DW_BENCH_PROGRAMS};
    if (argc % 2 == 0) usage();
    for (int i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--programs") == 0) options.programs = argv[i + 1];
        else if (strcmp(argv[i], "--pages") == 0) options.pages = number_of(argv[i + 1], SCATTER_PAGES);
        else if (strcmp(argv[i], "--turns") == 0) options.turns = number_of(argv[i + 1], TURNS_MAX);
        else if (strcmp(argv[i], "--forks") == 0) options.forks = number_of(argv[i + 1], FORKS_MAX);
        else usage();
    }
    return options;
}

int main(int argc, char **argv) {
    state_options options = options_of(argc, argv);
    state_bench b = {0};
    open_bench(&options, &b);
    double before = bench_memory_bytes();
    run_turns(&options, &b);
    double after = bench_memory_bytes();
    json_t *forks = run_forks(&options, &b);
    json_t *line = json_pack("{s:i, s:o, s:o, s:o, s:f, s:f, s:i}", "pages", (int)options.pages, "turns", b.turns,
                             "commits", b.commits, "forks", forks,
                             "memory_bytes", after - before, "dirty_bytes_per_turn",
                             (double)b.dirty_bytes / (options.turns ? options.turns : 1),
                             "page_bytes", (int)dw_os_page_bytes());
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(line);
    dw_actor_destroy(b.actor);
    dw_program_release(b.program);
    dw_runtime_destroy(b.runtime);
    return 0;
}

/* bench_main.c: options, and the series as JSON. */
#include "bench.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bench_must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "bench_engine: %s: %s\n", dw_status_name(status), err->text);
    exit(1);
}

_Noreturn void bench_fail(const char *reason) {
    fprintf(stderr, "bench_engine: %s\n", reason);
    exit(1);
}

double bench_now_us(void) { return (double)dw_os_monotonic_ns() / 1000.0; }

/* --- series -------------------------------------------------------------------------------------------------- */

bench_series *bench_series_new(const char *name, const char *unit, const char *better, const char *against) {
    bench_series *series = calloc(1, sizeof *series);
    if (series == NULL) bench_fail("no memory");
    *series = (bench_series){.name = name, .unit = unit, .better = better, .against = against, .conditions = json_object()};
    return series;
}

void bench_add(bench_series *series, double ours, double theirs) {
    if (series->n == BENCH_VALUES_MAX) bench_fail("too many values in a series");
    series->ours[series->n] = ours;
    series->theirs[series->n++] = theirs;
}

void bench_condition(bench_series *series, const char *key, json_t *value) {
    if (json_object_set_new(series->conditions, key, value) != 0) bench_fail("no memory");
}

/* To a thousandth: nothing here is measured better than that, and lines stay readable. */
static json_t *rounded(const double *values, size_t n) {
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(array, json_real(round(values[i] * 1000) / 1000));
    return array;
}

void bench_print(bench_series *series) {
    json_t *line = json_pack("{s:s, s:s, s:s, s:o}", "name", series->name, "unit", series->unit, "better", series->better, "ours",
                             rounded(series->ours, series->n));
    if (line == NULL) bench_fail("no memory");
    if (series->against != NULL) {
        json_object_set_new(line, "theirs", rounded(series->theirs, series->n));
        json_object_set_new(line, "against", json_string(series->against));
    }
    json_object_set_new(line, "conditions", series->conditions);
    json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
    putchar('\n');
    fflush(stdout);
    json_decref(line);
    free(series);
}

unsigned bench_or(unsigned value, unsigned otherwise) { return value != 0 ? value : otherwise; }

/* --- options ------------------------------------------------------------------------------------------------- */

static _Noreturn void usage(void) {
    fputs("usage: bench_engine PART --model PATH [--small PATH] [--device NAME] [--programs FOLDER] [--NAME N ...]\n"
          "PART: info, speed, batch, path, actor, calls, kv, forks, prefix or latency.\n"
          "NAME: threads, repeats, sessions, prompt-tokens, own-tokens, made-tokens, turns, salt; fast and repack (0 or 1).\n"
          "bench/engine, bench/share and bench/latency run it; one JSON object a line.\n", stderr);
    exit(2);
}

enum { REPEATS_MAX = 80 /* times the values of any part fit a series */, SESSIONS_MAX = 256, TOKENS_MAX = 16384 };

static unsigned number_of(const char *text, unsigned max) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end != 0 || n > max) usage();
    return (unsigned)n;
}

static void take_option(bench_options *options, const char *name, const char *value) {
    const struct { const char *name; const char **text; } texts[] = {
        {"--model", &options->model}, {"--small", &options->small}, {"--device", &options->device}, {"--programs", &options->programs},
    };
    const struct { const char *name; unsigned *number; unsigned max; } numbers[] = {
        {"--threads", &options->threads, SESSIONS_MAX}, {"--repeats", &options->repeats, REPEATS_MAX},
        {"--sessions", &options->sessions, SESSIONS_MAX}, {"--prompt-tokens", &options->prompt_tokens, TOKENS_MAX},
        {"--own-tokens", &options->own_tokens, TOKENS_MAX}, {"--made-tokens", &options->made_tokens, TOKENS_MAX},
        {"--turns", &options->turns, 1000}, {"--salt", &options->salt, UINT32_MAX},
    };
    const struct { const char *name; bool *flag; } flags[] = {{"--fast", &options->fast}, {"--repack", &options->repack}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(name, texts[i].name) == 0) { *texts[i].text = value; return; }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(name, numbers[i].name) == 0) { *numbers[i].number = number_of(value, numbers[i].max); return; }
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(name, flags[i].name) == 0) { *flags[i].flag = number_of(value, 1) == 1; return; }
    }
    usage();
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(const bench_options *options); } parts[] = {
        {"info", bench_info}, {"speed", bench_speed}, {"batch", bench_batch}, {"path", bench_path}, {"actor", bench_actor},
        {"calls", bench_calls}, {"kv", bench_kv}, {"forks", bench_forks}, {"prefix", bench_prefix}, {"latency", bench_latency},
    };
    bench_options options = {.device = "cpu", .repeats = 5, .programs = DW_BENCH_PROGRAMS, .salt = 1};
    if (argc < 2 || argc % 2 != 0) usage();
    for (int i = 2; i < argc; i += 2) take_option(&options, argv[i], argv[i + 1]);
    if (options.model == NULL || options.repeats == 0) usage();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        parts[i].run(&options);
        return 0;
    }
    usage();
}

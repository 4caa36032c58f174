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

void bench_tokens(dw_model *model, int32_t *out, uint32_t n) {
    uint32_t n_vocab = dw_model_info_view(model)->n_vocab, state = 1;
    /* Small ids are control tokens and single bytes in the usual vocabularies. */
    uint32_t first = n_vocab > 4096 ? 2048 : n_vocab / 2;
    for (uint32_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u; /* Knuth, TAOCP 3.3.4, line 26 of table 1 */
        out[i] = (int32_t)(first + (state >> 8) % (n_vocab - first));
    }
    int32_t bos = dw_vocab_bos(dw_model_vocab(model));
    if (bos >= 0 && n > 0) out[0] = bos;
}

/* --- options ------------------------------------------------------------------------------------------------- */

static _Noreturn void usage(void) {
    fputs("usage: bench_engine PART --model PATH [--device NAME] [--threads N] [--repeats N] [--programs FOLDER]\n"
          "PART: info, speed, actor, calls or kv. bench/engine runs it; one JSON object a line.\n", stderr);
    exit(2);
}

enum { REPEATS_MAX = 80 }; /* times the values of any part fit a series */

static unsigned number_of(const char *text) {
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    if (end == text || *end != 0 || n > REPEATS_MAX) usage();
    return (unsigned)n;
}

int main(int argc, char **argv) {
    static const struct { const char *name; void (*run)(const bench_options *options); } parts[] = {
        {"info", bench_info}, {"speed", bench_speed}, {"actor", bench_actor}, {"calls", bench_calls}, {"kv", bench_kv},
    };
    bench_options options = {.device = "cpu", .repeats = 5, .programs = DW_BENCH_PROGRAMS};
    if (argc < 2 || argc % 2 != 0) usage();
    for (int i = 2; i < argc; i += 2) {
        if (strcmp(argv[i], "--model") == 0) options.model = argv[i + 1];
        else if (strcmp(argv[i], "--device") == 0) options.device = argv[i + 1];
        else if (strcmp(argv[i], "--threads") == 0) options.threads = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--repeats") == 0) options.repeats = number_of(argv[i + 1]);
        else if (strcmp(argv[i], "--programs") == 0) options.programs = argv[i + 1];
        else usage();
    }
    if (options.model == NULL || options.repeats == 0) usage();
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strcmp(argv[1], parts[i].name) != 0) continue;
        parts[i].run(&options);
        return 0;
    }
    usage();
}

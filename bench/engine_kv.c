/* engine_kv.c: what a fork and a thaw of KV rows cost, by their number, beside a copy of the same bytes into fresh memory, which is
 * what they would need without maps. First writes behind it (pages copied one by one) belong to the tokens that follow, and are not here. */
#include "bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT_TOKENS = 4096 };

typedef struct rows {
    dw_model *model;
    dw_session *session;
    uint32_t n_rows, n_layers;
    uint64_t bytes;       /* of all rows */
    dw_backing *backing;  /* the rows again, as a checkpoint would hold them */
    dw_kv_source *sources;
} rows;

static const void *area_of(const rows *r, uint32_t layer, int which, uint64_t *bytes) {
    const void *from = NULL;
    if (dw_session_kv_view(r->session, layer, which, &from, bytes) != DW_OK) bench_fail("no view of KV rows");
    return from;
}

/* Copies every area into memory that was just made: the page faults belong to it. From the system, because malloc would give the
 * same pages again. */
static double copy_us(const rows *r) {
    dw_error err;
    void *copy = NULL;
    size_t page = dw_os_page_bytes(), size = ((size_t)r->bytes + page - 1) / page * page, done = 0;
    double start = bench_now_us();
    bench_must(dw_os_map_reserve(size, &copy, &err), &err);
    bench_must(dw_os_map_anonymous(copy, size, &err), &err);
    for (uint32_t layer = 0; layer < r->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            uint64_t bytes;
            const void *from = area_of(r, layer, which, &bytes);
            memcpy((uint8_t *)copy + done, from, (size_t)bytes);
            done += (size_t)bytes;
        }
    }
    double us = bench_now_us() - start;
    dw_os_unmap(copy, size);
    return us;
}

static double fork_us(const rows *r) {
    dw_error err;
    dw_session *child = NULL;
    double start = bench_now_us();
    bench_must(dw_session_fork(r->session, &child, &err), &err);
    double us = bench_now_us() - start;
    dw_session_destroy(child);
    return us;
}

static double thaw_us(const rows *r) {
    dw_error err;
    dw_session *session = NULL;
    dw_session_image image = {.n_rows = r->n_rows, .backing = r->backing, .layers = r->sources};
    image.tokens = dw_session_tokens(r->session, &image.n_tokens);
    double start = bench_now_us();
    bench_must(dw_model_restore_session(r->model, &image, &session, &err), &err);
    double us = bench_now_us() - start;
    dw_session_destroy(session);
    return us;
}

/* Writes the rows of all areas, each on a page of its own, to a memory object. */
static void save(rows *r) {
    dw_error err;
    uint64_t page = dw_os_page_bytes(), at = 0;
    uint64_t area = (r->bytes / (2 * r->n_layers) + page - 1) / page * page;
    r->sources = calloc(r->n_layers, sizeof *r->sources);
    if (r->sources == NULL) bench_fail("no memory");
    bench_must(dw_backing_create_memory("bench-kv", area * 2 * r->n_layers, &r->backing, &err), &err);
    for (uint32_t layer = 0; layer < r->n_layers; layer++) {
        for (int which = 0; which < 2; which++, at += area) {
            uint64_t bytes;
            const void *from = area_of(r, layer, which, &bytes);
            bench_must(dw_os_write_at(dw_backing_file(r->backing), at, from, (size_t)bytes, &err), &err);
            *(which == 0 ? &r->sources[layer].k_offset : &r->sources[layer].v_offset) = at;
        }
    }
}

static void measure(const rows *r, const char *what, double (*one)(const rows *r), unsigned repeats) {
    char name[32];
    snprintf(name, sizeof name, "%s_%u", what, r->n_rows);
    bench_series *series = bench_series_new(name, "us", "lower", "memcpy of the rows into fresh memory");
    bench_condition(series, "tokens", json_integer(r->n_rows));
    bench_condition(series, "kv_bytes", json_integer((json_int_t)r->bytes));
    (void)one(r);
    for (unsigned i = 0; i < repeats; i++) {
        double ours = one(r);
        bench_add(series, ours, copy_us(r));
    }
    bench_print(series);
}

void bench_kv(const bench_options *options) {
    static const uint32_t sizes[] = {100, 1000, 4000};
    static int32_t tokens[CONTEXT_TOKENS];
    dw_error err;
    bench_node node;
    bench_node_open(options, CONTEXT_TOKENS, 4, false, &node);
    dw_model *model = node.model;
    bench_tokens(model, tokens, CONTEXT_TOKENS);
    const dw_model_info *info = dw_model_info_view(model);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        rows r = {.model = model, .n_rows = sizes[i], .n_layers = info->n_layers, .bytes = sizes[i] * info->kv_bytes_per_token};
        if (sizes[i] > info->context_tokens) continue;
        bench_must(dw_model_create_session(model, NULL, &r.session, &err), &err);
        dw_job job = {.kind = DW_JOB_FORWARD, .session = r.session, .tokens = tokens, .n_tokens = sizes[i]};
        bench_must(dw_job_run(&job, &err), &err);
        save(&r);
        measure(&r, "kv_fork", fork_us, 4 * options->repeats);
        measure(&r, "kv_thaw", thaw_us, 4 * options->repeats);
        dw_backing_release(r.backing);
        free(r.sources);
        dw_session_destroy(r.session);
    }
    bench_node_close(&node);
}

/* engine_calls.c: what the sandbox and the turn cost without a model. Calls and instances stand beside plain Wasmtime; a turn has nothing
 * of the kind to stand beside. */
#include <stdlib.h>

#include "bench_actor.h"
#include "engine_plain.h"
#include "guests/calls.h"
#include "wasm/wasm.h"

/* A value takes some hundred microseconds, and there are many: most escape being interrupted, so medians tell of the work. */
enum {
    ENTERS = 1000,     /* in one turn */
    RECEIVES = 5000,   /* calls into the guest per value */
    INSTANCES = 50,    /* per value */
    VALUES = 20,       /* per repeat */
    TURNS = 50,        /* values per repeat */
    PAGES = 10
};

typedef struct sides {
    dw_wasm_engine *engine;
    dw_program *program;
    dw_instance *instance;
    bench_plain *plain;
} sides;

static void open_sides(const bench_options *options, sides *out) {
    dw_error err;
    uint8_t *wasm = NULL;
    size_t size = 0;
    dw_wasm_engine_options engine = {0};
    dw_instance_options instance = {0};
    bench_must(dw_os_read_file(bench_program(options, "bench_calls"), DW_PROGRAM_BYTES_MAX, &wasm, &size, &err), &err);
    bench_must(dw_wasm_engine_create(&engine, &out->engine, &err), &err);
    bench_must(dw_program_prepare(out->engine, wasm, size, &out->program, &err), &err);
    bench_must(dw_instance_create(out->program, &instance, &out->instance, &err), &err);
    out->plain = bench_plain_open(wasm, size);
    free(wasm);
}

static void close_sides(sides *s) {
    bench_plain_close(s->plain);
    dw_instance_destroy(s->instance);
    dw_program_release(s->program);
    dw_wasm_engine_destroy(s->engine);
}

/* --- one value each ------------------------------------------------------------------------------------------ */

static double yields_us(const sides *s) {
    dw_error err;
    dw_call_result result;
    double start = bench_now_us();
    bench_must(dw_instance_call(s->instance, "yields", UINT64_MAX, &result, &err), &err);
    return bench_now_us() - start;
}

static double receives_us(const sides *s) {
    dw_error err;
    dw_call_result result;
    double start = bench_now_us();
    for (int i = 0; i < RECEIVES; i++) bench_must(dw_instance_receive(s->instance, UINT64_MAX, &result, &err), &err);
    return bench_now_us() - start;
}

static double instances_us(const sides *s) {
    dw_error err;
    dw_instance_options options = {0};
    double start = bench_now_us();
    for (int i = 0; i < INSTANCES; i++) {
        dw_instance *instance = NULL;
        bench_must(dw_instance_create(s->program, &options, &instance, &err), &err);
        dw_instance_destroy(instance);
    }
    return bench_now_us() - start;
}

/* --- series -------------------------------------------------------------------------------------------------- */

static void measure_sandbox(const sides *s, bench_loop_actor *actor, unsigned repeats) {
    const char *plain_call = "a host function of the unchecked kind in plain Wasmtime";
    bench_series *enter = bench_series_new("guest_to_host_enter", "ns", "lower", plain_call);
    bench_series *wasi = bench_series_new("guest_to_host_wasi", "ns", "lower", plain_call);
    bench_series *receive = bench_series_new("host_to_guest", "ns", "lower", "wasmtime_func_call");
    bench_series *restore = bench_series_new("instance_restore", "us", "lower", "store and instance in plain Wasmtime");
    bench_condition(enter, "what", json_string("enter with one request that is done at once, completion delivered"));
    bench_condition(wasi, "what", json_string("sched_yield"));
    bench_condition(receive, "what", json_string("a function that returns at once"));
    bench_condition(restore, "what", json_string("from image 0, with its end"));
    for (unsigned i = 0; i < VALUES * repeats; i++) {
        bench_turn turn = bench_order(actor, (loop_head){.work = LOOP_ENTERS, .n = ENTERS}, NULL, 0);
        double enter_us = (double)turn.result.run_ns / 1000;
        bench_turn_end(&turn);
        double yield_us = yields_us(s), plain_us = bench_plain_yields_us(s->plain);
        bench_add(enter, enter_us * 1000 / ENTERS, plain_us * 1000 / CALLS_PER_YIELDS);
        bench_add(wasi, yield_us * 1000 / CALLS_PER_YIELDS, plain_us * 1000 / CALLS_PER_YIELDS);
        double receive_us = receives_us(s);
        bench_add(receive, receive_us * 1000 / RECEIVES, bench_plain_receives_us(s->plain, RECEIVES) * 1000 / RECEIVES);
        double instance_us = instances_us(s);
        bench_add(restore, instance_us / INSTANCES, bench_plain_instances_us(s->plain, INSTANCES) / INSTANCES);
    }
    bench_print(enter);
    bench_print(wasi);
    bench_print(receive);
    bench_print(restore);
}

static void measure_turns(bench_loop_actor *actor, unsigned repeats) {
    bench_series *empty = bench_series_new("empty_turn", "us", "lower", NULL);
    bench_series *commit = bench_series_new("commit_10_pages", "us", "lower", NULL);
    bench_condition(empty, "what", json_string("send, turn and commit of a guest that reads its message and returns"));
    bench_condition(commit, "what", json_string("the commit alone, of a turn that wrote 10 pages and what the message itself dirties"));
    uint64_t empty_bytes = 0, commit_bytes = 0;
    for (unsigned i = 0; i < TURNS * repeats; i++) {
        bench_turn turn = bench_order(actor, (loop_head){.work = LOOP_NOTHING}, NULL, 0);
        bench_add(empty, turn.us, 0);
        empty_bytes = turn.result.dirty_bytes;
        bench_turn_end(&turn);
        turn = bench_order(actor, (loop_head){.work = LOOP_WRITE, .n = PAGES}, NULL, 0);
        bench_add(commit, (double)turn.result.commit_ns / 1000, 0);
        commit_bytes = turn.result.dirty_bytes;
        bench_turn_end(&turn);
    }
    bench_condition(empty, "dirty_bytes", json_integer((json_int_t)empty_bytes));
    bench_condition(commit, "dirty_bytes", json_integer((json_int_t)commit_bytes));
    bench_print(empty);
    bench_print(commit);
}

void bench_calls(const bench_options *options) {
    sides s = {0};
    bench_house house;
    bench_house_options without = {.with_model = false};
    bench_loop_actor actor;
    open_sides(options, &s);
    bench_house_open(options, &without, &house);
    bench_actor_init(&house, DW_PRIORITY_NORMAL, &actor);
    bench_turn first = bench_order(&actor, (loop_head){.work = LOOP_WRITE, .n = PAGES}, NULL, 0); /* initialisation is not measured */
    bench_turn_end(&first);
    measure_sandbox(&s, &actor, options->repeats);
    measure_turns(&actor, options->repeats);
    bench_actor_deinit(&actor);
    bench_house_close(&house);
    close_sides(&s);
}

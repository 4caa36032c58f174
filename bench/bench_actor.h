/* bench_actor.h: an actor of the guest loop.c in a runtime of its own, for the parts that measure actors. */
#ifndef DW_BENCH_ACTOR_H
#define DW_BENCH_ACTOR_H

#include "bench.h"
#include "guests/loop.h"

typedef struct bench_loop_actor {
    dw_runtime *runtime;
    dw_actor *actor;
} bench_loop_actor;

/* With a model only if `with_model`. Ends the program when it fails. */
void bench_actor_open(const bench_options *options, bool with_model, bench_loop_actor *out);
void bench_actor_close(bench_loop_actor *actor);

typedef struct bench_turn {
    double us;              /* send, turn and commit */
    dw_turn_result result;  /* reply is freed by bench_turn_end */
} bench_turn;

/* One order with n_tokens tokens, sent and handled. A turn that does not commit ends the program. */
bench_turn bench_order(const bench_loop_actor *actor, loop_work work, uint32_t n, const int32_t *tokens, uint32_t n_tokens);
void bench_turn_end(bench_turn *turn);

/* The path of a guest program, valid until the next call. */
const char *bench_program(const bench_options *options, const char *name);

#endif

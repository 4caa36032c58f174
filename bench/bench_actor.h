/* bench_actor.h: actors of the guest loop.c, for the parts that measure actors. */
#ifndef DW_BENCH_ACTOR_H
#define DW_BENCH_ACTOR_H

#include "bench.h"
#include "guests/loop.h"

/* --- a runtime and its actors -------------------------------------------------------------------------------- */

/* What a runtime for the guest loop.c has. Its model's name is "model"; with options->small or `small`, there is a "small" one too. */
typedef struct bench_house {
    dw_runtime *runtime;
    dw_program *loop;
} bench_house;

typedef struct bench_house_options {
    bool with_model, with_small;
    uint32_t context_tokens, sessions_max; /* of each model; 0: 1024 and 8 */
} bench_house_options;

/* Ends the program when it fails. */
void bench_house_open(const bench_options *options, const bench_house_options *house, bench_house *out);
void bench_house_close(bench_house *house);

typedef struct bench_loop_actor {
    dw_actor *actor;
    double first_text_us;   /* bench_now_us of the running or last turn's first streamed text; 0: none yet */
    _Atomic uint64_t texts; /* pieces streamed so far; any thread may look */
} bench_loop_actor;

/* In place, at an address that stays. All of a house have one owner. */
void bench_actor_init(const bench_house *house, dw_priority priority, bench_loop_actor *out);
void bench_actor_deinit(bench_loop_actor *actor);

/* --- orders -------------------------------------------------------------------------------------------------- */

typedef struct bench_turn {
    double us;              /* send, turn and commit */
    double first_text_us;   /* from the sending to the first streamed text; `us` when there was none */
    dw_turn_result result;  /* reply is freed by bench_turn_end */
} bench_turn;

/* One order, sent and handled. A turn that does not commit ends the program. */
bench_turn bench_order(bench_loop_actor *actor, loop_head head, const int32_t *tokens, uint32_t n_tokens);
void bench_turn_end(bench_turn *turn);

/* The path of a guest program, valid until the next call. */
const char *bench_program(const bench_options *options, const char *name);

#endif

/* fixture.h: a runtime without a model, the probe guest, and turns in one line, for the tests of src/actor. */
#ifndef DW_TESTS_ACTOR_FIXTURE_H
#define DW_TESTS_ACTOR_FIXTURE_H

#include <string.h>

#include "actor/actor.h"
#include "base/test.h"
#include "driftwood/guest.h"

typedef struct fixture {
    dw_runtime *runtime;
    dw_program *probe;
    char folder[400];     /* of this test, for checkpoints */
} fixture;

int fixture_setup(void **state);
int fixture_teardown(void **state);

/* An actor of the probe with a fixed birth and seed. */
dw_actor *fixture_actor(fixture *f, const char *name);
/* Sends and handles one message; frees the reply unless it is wanted. */
dw_status fixture_turn(dw_actor *actor, const void *body, size_t size, dw_turn_result *result_or_null, dw_error *err);
dw_status fixture_say(dw_actor *actor, const char *text);
/* The probe's hash of its own memory, seen by the guest itself. */
uint64_t fixture_guest_hash(dw_actor *actor);

/* One call of the door by the probe, with these records behind `head`; fields that are 0 mean the probe's own places. */
typedef struct raw_call {
    uint32_t requests, n, completions, capacity, wait;
    int64_t deadline;
    bool trap_behind, grow_behind; /* after the call: trap; grow memory by a page, the answer's n is what came of that */
} raw_call;
enum { RAW_COMPLETIONS = 64 };
typedef struct raw_answer { int32_t n; dw_completion completions[RAW_COMPLETIONS]; } raw_answer;
/* The turn's status; *answer is filled when it was committed. */
dw_status fixture_raw(dw_actor *actor, raw_call head, const dw_request *records, uint32_t n_records, raw_answer *answer);
/* One request, waited for; fails the test when its completion is not DW_OK. */
dw_completion fixture_request(dw_actor *actor, dw_request request);
/* Puts bytes into the probe's arena at `at`; the guest address of that place. */
uint32_t fixture_put(dw_actor *actor, uint32_t at, const void *data, uint32_t size);
/* 64 bytes of the arena. */
void fixture_get(dw_actor *actor, uint32_t at, uint8_t out[64]);
void fixture_assert_same(dw_actor *a, dw_actor *b);
void fixture_path(const fixture *f, const char *name, char out[512]);

#endif

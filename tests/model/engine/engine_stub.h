/* engine_stub.h: jobs whose steps do nothing but keep books, so that the engine's queue can be tested without a model.
 * Stands in for job.c, batch.c and for the two model functions that the engine calls. */
#ifndef DW_TESTS_MODEL_ENGINE_ENGINE_STUB_H
#define DW_TESTS_MODEL_ENGINE_ENGINE_STUB_H

#include <stdatomic.h>
#include <stdbool.h>
#include "model/engine/engine.h"
#include "model/engine/schedule.h"

struct dw_model { dw_device *device; };
struct dw_session {
    dw_model *model;
    _Atomic bool busy;
    /* Touched by begin, step and end without any lock: they must never run at the same time for one session. */
    uint64_t unguarded;
};

/* A job's plan, in job.context. */
typedef struct stub_plan {
    uint32_t steps;               /* until it is done; UINT32_MAX = only by cancel */
    _Atomic bool *gate;           /* a step waits until this is true, or the job is cancelled; NULL = no gate */
    _Atomic bool *vocabulary;     /* the job waits (job.h rule 5) until this is true; NULL = it never does */
    char name;                    /* for the trace */
    dw_step_group group;
    dw_priority priority;
    _Atomic uint32_t begun, entered, stepped, ended, done;
} stub_plan;

/* Names of the jobs in the order of their steps; written by the engine's thread only. */
enum { STUB_TRACE_MAX = 256 };
extern char stub_trace[STUB_TRACE_MAX];
extern _Atomic uint32_t stub_trace_length;

#endif

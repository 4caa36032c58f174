/* schedule.h: whose step is next. Looks at the jobs that wait, knows nothing of how they are evaluated; no threads, no memory of its own.
 *
 *   look   what there is to know about a waiting job
 *   small  a step of few tokens: decoding, mostly. All others are prefill
 *
 * Rules
 * 1. Classes come first: while a job of a higher class waits, those of lower ones do not move, except that one step of DW_CLASS_STREAK_MAX + 1
 *    is led by the lowest class that waits (and open to all who may join it), so that nobody waits for ever.
 * 2. Models take turns; a model's turn is one batch of small steps, and prefill chunks until DW_PREFILL_TURN_TOKENS are reached, whichever
 *    wait. More than one, because whoever is still reading his prompt is missing in the batches.
 * 3. A batch takes every small step that may go together, those whose sessions were served the fewest tokens first when there are too
 *    many. A prefill chunk is that of the session that was served the fewest tokens; others that may go with it fill it up to
 *    DW_PREFILL_TURN_TOKENS.
 */
#ifndef DW_MODEL_ENGINE_SCHEDULE_H
#define DW_MODEL_ENGINE_SCHEDULE_H

#include "base/base.h"
#include "model/session/session.h"

typedef enum dw_step_group {
    DW_STEP_ALONE,    /* small, with nobody else */
    DW_STEP_SINGLE,   /* one token: together with other single ones */
    DW_STEP_FEW,      /* some tokens: together with other such */
    DW_STEP_PREFILL   /* a chunk; together with others where both may (packs) */
} dw_step_group;

typedef struct dw_job_look {
    const void *model;      /* an identity */
    dw_priority priority;
    dw_step_group group;
    uint32_t n_tokens;      /* of the step */
    uint64_t served;        /* tokens that its session was served */
    bool packs;             /* a prefill chunk that may be evaluated together with others */
} dw_job_look;

enum { DW_SCHEDULE_MODELS = 32 };

typedef struct dw_model_turn {
    const void *model;
    uint64_t ended;         /* the step at which its last turn ended */
    bool prefill_next;      /* its batch is done, chunks are to come */
    uint32_t prefilled;     /* tokens of the chunks of this turn */
} dw_model_turn;

typedef struct dw_schedule { /* zero at the beginning */
    uint64_t steps;
    uint32_t streak;        /* steps in which a class went before waiting lower ones */
    bool open_prefill;      /* the next step that the lowest class leads is a prefill, if both kinds wait */
    dw_model_turn turns[DW_SCHEDULE_MODELS];
} dw_schedule;

/* Indices of the jobs to step together, at most DW_BATCH_PARTS_MAX; returns how many (0 only when n is 0). */
uint32_t dw_schedule_pick(dw_schedule *schedule, const dw_job_look *looks, uint32_t n, uint32_t picked[]);

#endif

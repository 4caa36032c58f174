/* schedule.h: whose step is next. Looks at the jobs that wait, knows nothing of how they are evaluated; no threads, no
 * memory of its own.
 *
 *   look     what there is to know about a waiting job. Looks come in the order in which their jobs wait: the first has
 *            waited longest. A job that was stepped waits behind all others again
 *   small    a step of few tokens: decoding, mostly. All others are prefill
 *   contest  a pick while jobs of more than one class wait
 *
 * Rules
 * 1. The highest class that waits leads. In every DW_CLASS_STREAK_MAX + 1 contests one pick is open: a lower class
 *    leads it. Of the lower classes that wait, it is the one whose last open pick is longest ago. Its job that has
 *    waited longest goes first. Higher classes may join that step.
 * 2. Models take turns in each class. A model's turn is one batch of small steps, then prefill chunks until they have
 *    DW_PREFILL_TURN_TOKENS tokens, as far as such jobs wait. A turn has more than one chunk because a session that
 *    still reads its prompt cannot join the batches.
 * 3. A batch takes the small step that has waited longest, and all small steps that may go with it. When these are too
 *    many, it takes those that have waited longest. A prefill chunk is taken from the job that has waited longest.
 *    Other chunks that may go with it fill the step up to DW_PREFILL_TURN_TOKENS.
 * 4. Nobody waits for ever. While n jobs of m models wait, a job is stepped at the latest with pick
 *    dw_schedule_wait_max(n, m) after it came or was stepped last.
 */
#ifndef DW_MODEL_ENGINE_SCHEDULE_H
#define DW_MODEL_ENGINE_SCHEDULE_H

#include "base/base.h"
#include "model/session/session.h"

typedef enum dw_step_group {
    DW_STEP_ALONE,    /* small, with nobody else */
    DW_STEP_SINGLE,   /* one token: together with other single ones */
    DW_STEP_FEW,      /* some tokens: together with other such */
    /* a chunk, of more than DW_BATCH_SMALL_TOKENS_MAX tokens; together with others where both may (packs) */
    DW_STEP_PREFILL
} dw_step_group;

typedef struct dw_job_look {
    const void *model;      /* an identity */
    dw_priority priority;
    dw_step_group group;
    uint32_t n_tokens;      /* of the step */
    bool packs;             /* a prefill chunk that may be evaluated together with others */
} dw_job_look;

enum { DW_SCHEDULE_MODELS = 32, DW_CLASSES = DW_PRIORITY_BACKGROUND - DW_PRIORITY_REALTIME + 1 };

/* Picks of one turn: a batch, and as many of the shortest chunks as a turn can have; with open picks in between. */
enum { DW_TURN_PICKS = 1 + DW_PREFILL_TURN_TOKENS / DW_BATCH_SMALL_TOKENS_MAX };
enum { DW_TURN_PICKS_MAX = DW_TURN_PICKS * (DW_CLASS_STREAK_MAX + 1) / DW_CLASS_STREAK_MAX + 1 };

/* Rule 4. Never more than n jobs stand before a job. While the class leads, one of them goes in each turn of the model.
 * While the class does not lead, at least every other open pick is its own, and one of them goes in each. */
static inline uint64_t dw_schedule_wait_max(uint32_t n_jobs, uint32_t n_models) {
    uint64_t leads = (uint64_t)n_models * DW_TURN_PICKS_MAX, open = (DW_CLASSES - 1) * (DW_CLASS_STREAK_MAX + 1);
    return ((uint64_t)n_jobs + 1) * (leads + open);
}

typedef struct dw_turn {
    uint64_t ended;         /* the pick at which the last one ended */
    bool prefill_next;      /* its batch is done, chunks are to come */
    uint32_t prefilled;     /* tokens of the chunks of this turn */
} dw_turn;

/* A model's turns in each class: what one class does leaves the order of the others alone. */
typedef struct dw_model_turns { const void *model; uint64_t used; dw_turn of[DW_CLASSES]; } dw_model_turns;

typedef struct dw_schedule { /* zero at the beginning */
    uint64_t picks;
    uint32_t streak;        /* contests since the last open pick */
    uint64_t opened[DW_CLASSES]; /* the last open pick that each class led */
    dw_model_turns turns[DW_SCHEDULE_MODELS];
} dw_schedule;

/* Indices of the jobs to step together, at most DW_BATCH_PARTS_MAX; returns how many (0 only when n is 0). */
uint32_t dw_schedule_pick(dw_schedule *schedule, const dw_job_look *looks, uint32_t n, uint32_t picked[]);

#endif

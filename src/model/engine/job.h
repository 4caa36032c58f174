/* job.h: a job taken step by step. Inside the module: job.c knows what a job's next step is and what its results mean,
 * batch.c evaluates the next steps of several jobs at once, engine.c decides whose.
 *
 *   step   one prefill chunk (session.h rule 2), or one decoded token
 *   part   what a job's next step evaluates: pending tokens of its session, and the rows wanted of them
 *
 * Rules
 * 1. begin, then steps until one says done, then end. End is called exactly once after a begin that succeeded, also
 *    when no step was taken. After a begin that failed, nothing is to be ended.
 * 2. A step is plan (it looks at job->cancel first), evaluation, take_row for each wanted row in order, took. It
 *    returns more or done; the outcome is in job->status then. A step whose evaluation was given up (preempted) is
 *    planned again: nothing of it stays.
 * 3. End settles the session: a forward job that did not finish leaves it as it was before begin; a generation keeps
 *    the tokens that were delivered. It writes the job's results and does not call on_done: that is the caller's last
 *    act.
 * 4. A job that ends before its last step (it was cancelled, or the engine is closed) gets job->status DW_E_CANCELLED
 *    from end.
 * 5. A generation that is to draw its first token before the vocabulary is loaded keeps the logits. While it waits
 *    (dw_job_waits) it is not stepped; then job->wake is called once, and its next plan draws.
 * Threads: begin on any thread (it only checks and takes the session, under the model's lock); the rest on the
 * evaluating thread.
 */
#ifndef DW_MODEL_ENGINE_JOB_H
#define DW_MODEL_ENGINE_JOB_H

#include "model/engine/engine.h"

typedef enum dw_job_progress { DW_JOB_MORE, DW_JOB_DONE } dw_job_progress;

typedef struct dw_job_part {
    const int32_t *tokens;       /* [n_tokens], the session's */
    uint32_t n_tokens, first_position;
    const uint32_t *wanted;      /* [n_wanted], ascending, within tokens; the job's, until its next plan */
    uint32_t n_wanted;
    /* the token has a row, which this one replaces (dw_session_bind_again): not to be given up half-way */
    bool again;
    float *logits;               /* where the only wanted row's logits are to lie; NULL: anywhere */
} dw_job_part;

/* Checks everything that can be checked without evaluating, marks the session busy and appends the job's tokens as
 * pending. */
dw_status dw_job_begin(dw_job *job, dw_error *err) DW_MUST_USE;
/* Rule 5. */
bool dw_job_waits(const dw_job *job);
/* How many tokens the next step would evaluate, with chunks of chunk_tokens. */
uint32_t dw_job_next_tokens(const dw_job *job, uint32_t chunk_tokens);
/* How many rows' logits it needs in all: one for what is held counts, where it is not wanted beside. */
uint32_t dw_job_rows_wanted(const dw_job *job);
/* DW_JOB_MORE: *out is to be evaluated. DW_JOB_DONE: nothing more is to be. */
dw_job_progress dw_job_plan(dw_job *job, uint32_t chunk_tokens, dw_job_part *out) DW_MUST_USE;
/* The logits [n_vocab] of the next wanted row. */
void dw_job_take_row(dw_job *job, const float *logits);
/* The part was evaluated and its rows committed, or it failed with *err. ns: what the evaluation took. */
dw_job_progress dw_job_took(dw_job *job, dw_status status, const dw_error *err, uint64_t ns) DW_MUST_USE;
/* Writes status, error and results, releases the session. Returns job->status. */
dw_status dw_job_end(dw_job *job);

#endif

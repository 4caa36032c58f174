/* job.h: a job taken step by step. Inside the module: job.c implements it, engine.c turns it into a queue.
 *
 *   step   one prefill chunk (model.h rule 2), or one decoded token: the longest time for which a cancel waits
 *
 * Rules
 * 1. begin, then step until it says done, then end. End is called exactly once after a begin that succeeded, also when no step was
 *    taken. After a begin that failed, nothing is to be ended.
 * 2. Only step computes; it looks at job->cancel first. It returns more or done; the outcome is in job->status then.
 * 3. End settles the session: a forward job that did not finish leaves it as it was before begin; a generation keeps the tokens that were
 *    delivered. It writes the job's results and does not call on_done: that is the caller's last act.
 * 4. A job that ends before its last step (the engine is closed) gets job->status DW_E_CANCELLED from end.
 * Threads: begin on any thread (it only checks and takes the session, under the model's lock); step and end on the evaluating
 * thread, one job of a model at a time.
 */
#ifndef DW_MODEL_JOB_H
#define DW_MODEL_JOB_H

#include "model/model.h"

typedef enum dw_job_progress { DW_JOB_MORE, DW_JOB_DONE } dw_job_progress;

/* Checks everything that can be checked without evaluating, marks the session busy and appends the job's tokens as pending. */
dw_status dw_job_begin(dw_job *job, dw_error *err) DW_MUST_USE;
/* Takes one step. */
dw_job_progress dw_job_step(dw_job *job) DW_MUST_USE;
/* Writes status, error and results, releases the session. Returns job->status. */
dw_status dw_job_end(dw_job *job);

#endif

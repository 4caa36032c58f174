/* batch.h: one step of several jobs of one model, evaluated in one pass.
 *
 * Rules
 * 1. Exact sessions get the bits they would get alone: with others they take part only with single tokens among single
 *    tokens, or with whole prefill chunks, and only where bits.h found that this keeps bits: dw_batch_look says so. A
 *    batch that holds an exact session is narrow.
 * 2. A job whose part fails by itself (its slot cannot be mapped, its logits cannot be used) ends alone. When the
 *    evaluation fails, all end.
 * 3. An evaluation that is stopped ends no job: nothing was committed, all are planned again next time.
 * Threads: the evaluating thread.
 */
#ifndef DW_MODEL_ENGINE_BATCH_H
#define DW_MODEL_ENGINE_BATCH_H

#include "model/engine/job.h"
#include "model/engine/schedule.h"

typedef struct dw_batch_job { dw_job *job; dw_job_progress progress; } dw_batch_job;

/* What the schedule needs to know of a job. Any thread. */
void dw_batch_look(const dw_job *job, dw_job_look *out);
/* Looks at n jobs in the order in which they wait, and leaves those out that cannot be stepped now: generations that
 * wait for their vocabulary (job.h rule 5), and embeddings of a decoder that have no slot and are not the next to take
 * one. By turns the next is the one that has waited longest, and that of the highest class. Texts that have a slot or
 * are the next have the class of those that wait for one, if that is higher. Writes looks[0..result) and
 * ready[0..result), their places in jobs. */
uint32_t dw_batch_look_all(dw_job *const *jobs, uint32_t n, dw_job_look *looks, uint32_t *ready);

typedef struct dw_batch_options {
    bool short_steps;             /* prefill in chunks as short as keeps bits: somebody is in a hurry */
    const _Atomic bool *stop;     /* set by any thread: give the evaluation up. NULL: it runs to its end */
} dw_batch_options;
/* Evaluates the next part of each of n (1 to DW_BATCH_PARTS_MAX) jobs of one model and sets progress. False when it was
 * stopped. */
bool dw_batch_step(dw_batch_job *jobs, uint32_t n, const dw_batch_options *options);

#endif

/* embed.h: embedding jobs (DW_JOB_EMBED) step by step. Inside the module: job.h's three functions, for jobs that have no session.
 *
 *   step   one graph. Encoders: as many of the next texts as come to at most DW_EMBED_STEP_TOKENS tokens, or one longer text. Decoders:
 *          the next chunk of one text
 *
 * Rules and threads are those of job.h.
 */
#ifndef DW_MODEL_ENGINE_EMBED_H
#define DW_MODEL_ENGINE_EMBED_H

#include "model/engine/job.h"
#include "model/model_internal.h"

dw_status dw_embed_begin(dw_job *job, dw_error *err) DW_MUST_USE;
dw_job_progress dw_embed_step(dw_job *job) DW_MUST_USE;
dw_status dw_embed_end(dw_job *job);

#endif

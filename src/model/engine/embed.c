/* embed.c: embedding jobs. See embed.h. */
#include "model/engine/embed.h"

#include <string.h>

#include "model/engine/embed_decoder.h"

/* --- jobs ---------------------------------------------------------------------------------------------------- */

static dw_status check_text(const dw_job *job, uint32_t i, dw_error *err) {
    const dw_embed_text *text = &job->texts[i];
    const dw_model_info *info = &job->model->info;
    if (text->vector == NULL) return dw_fail(err, DW_E_INVALID, "text %u has no place for its vector", i);
    if (text->n_tokens == 0) return dw_fail(err, DW_E_INVALID, "text %u has no tokens", i);
    if (text->n_tokens > info->context_tokens) {
        return dw_fail(err, DW_E_FULL, "text %u has %u tokens, the model takes %u", i, text->n_tokens, info->context_tokens);
    }
    for (uint32_t k = 0; k < text->n_tokens; k++) {
        if (text->tokens[k] < 0 || (uint32_t)text->tokens[k] >= info->n_vocab) {
            return dw_fail(err, DW_E_RANGE, "token %d at %u of text %u is outside the vocabulary of %u", text->tokens[k], k, i, info->n_vocab);
        }
    }
    return DW_OK;
}

dw_status dw_embed_begin(dw_job *job, dw_error *err) {
    job->state = NULL;
    if (job->model == NULL) return dw_fail(err, DW_E_INVALID, "an embedding without a model");
    if (job->model->encoder == NULL && job->model->pool == NULL) return dw_fail(err, DW_E_STATE, "%s was opened without sessions", job->model->info.name);
    if (job->n_texts == 0 || job->n_texts > DW_EMBED_TEXTS_MAX) return dw_fail(err, DW_E_LIMIT, "%u texts; 1 to %u are taken", job->n_texts, DW_EMBED_TEXTS_MAX);
    if ((unsigned)job->pooling > DW_POOLING_LAST) return dw_fail(err, DW_E_INVALID, "pooling %d", (int)job->pooling);
    if (job->pooling == DW_POOLING_DEFAULT && job->model->info.pooling == DW_POOLING_DEFAULT) {
        return dw_fail(err, DW_E_UNSUPPORTED, "the model names a pooling that is not supported; ask for mean, CLS or last");
    }
    dw_status status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < job->n_texts; i++) status = check_text(job, i, err);
    if (status == DW_OK && job->model->encoder == NULL) {
        dw_embed_decoding *decoding = NULL;
        status = dw_embed_decoding_create(job->model, &decoding, err);
        job->state = decoding;
    }
    if (status != DW_OK) return status;
    job->status = DW_OK;
    memset(&job->error, 0, sizeof job->error);
    job->n_evaluated = job->n_generated = job->n_embedded = 0;
    job->prefill_ns = job->decode_ns = 0;
    job->end_reason = DW_END_NONE;
    return DW_OK;
}

/* How many of the texts from `first` on go into one graph. */
static uint32_t step_texts(const dw_job *job, uint32_t first, uint32_t *n_tokens) {
    uint32_t n = 0;
    *n_tokens = 0;
    while (first + n < job->n_texts && n < DW_EMBED_STEP_TEXTS) {
        uint32_t more = job->texts[first + n].n_tokens;
        if (n > 0 && *n_tokens + more > DW_EMBED_STEP_TOKENS) break;
        *n_tokens += more;
        n++;
    }
    return n;
}

static dw_status encode(dw_job *job, dw_pooling pooling) {
    uint32_t n_tokens = 0, n = step_texts(job, job->n_embedded, &n_tokens);
    dw_status status = dw_encoder_run(job->model->encoder, job->texts + job->n_embedded, n, pooling, job->normalize, &job->error);
    if (status != DW_OK) return status;
    job->n_embedded += n;
    job->n_evaluated += n_tokens;
    return DW_OK;
}

static dw_status decode(dw_job *job, dw_pooling pooling) {
    uint32_t n_tokens = 0;
    bool done = false;
    dw_status status = dw_embed_decode(job->model, job->state, &job->texts[job->n_embedded], pooling, job->normalize, &n_tokens, &done, &job->error);
    job->n_evaluated += n_tokens;
    job->n_embedded += done;
    return status;
}

dw_job_progress dw_embed_step(dw_job *job) {
    if (atomic_load(&job->cancel)) {
        job->status = dw_fail(&job->error, DW_E_CANCELLED, "cancelled");
        return DW_JOB_DONE;
    }
    uint64_t start = dw_os_monotonic_ns();
    dw_pooling pooling = job->pooling == DW_POOLING_DEFAULT ? job->model->info.pooling : job->pooling;
    job->status = job->model->encoder != NULL ? encode(job, pooling) : decode(job, pooling);
    job->prefill_ns += dw_os_monotonic_ns() - start;
    return job->status != DW_OK || job->n_embedded == job->n_texts ? DW_JOB_DONE : DW_JOB_MORE;
}

dw_status dw_embed_end(dw_job *job) {
    dw_embed_decoding_destroy(job->model, job->state);
    job->state = NULL;
    if (job->status == DW_OK && job->n_embedded < job->n_texts) job->status = dw_fail(&job->error, DW_E_CANCELLED, "the engine was closed");
    if (job->status != DW_OK) job->error.status = job->status;
    return job->status;
}

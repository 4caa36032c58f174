/* engine.h: jobs, and the thread that steps them.
 *
 *   job     one request to the engine: a forward pass, a whole generation, or texts to be embedded
 *   step    one evaluation: a batch of all that decode, or a bounded chunk of prefill
 *   embed   a text's tokens to one vector [n_embedding]: the last hidden states, pooled
 *
 * Rules
 * 1. A forward job is all or nothing: when it fails or is cancelled the session is as before it. A generation that is
 *    cancelled keeps the tokens it delivered. A job without tokens is answered from the logits that the session
 *    holds, or else computes the last row again: a device that fails meanwhile costs that row, which is pending then. A
 *    budget that refuses costs nothing.
 * 2. One job per session at a time (DW_E_BUSY). A session whose model is closed has none (DW_E_STATE).
 * 3. A model is closed only when no job of it is with the engine.
 * 4. What leaves as a result is a number: a model whose logits or vectors hold NaN or an infinity ends the job with
 *    DW_E_DEVICE, and the memory for them holds zeros. Minus infinity alone is kept, as a logit and as the
 *    log-probability of a token that the model excludes.
 * 5. What is decided on (draws, candidates, the likeliest, entropy) is read from the model's own memory. Memory for
 *    results is only written, and read once, to see that it holds numbers.
 * 6. Evaluating needs no vocabulary; text, stops and the end of a text do. A generation whose model's vocabulary is not
 *    loaded yet evaluates its tokens, waits with the logits for its first draw, and nobody else waits for it.
 * Threads: dw_engine_submit and dw_engine_cancel from any thread. One engine thread per device evaluates.
 */
#ifndef DW_MODEL_ENGINE_ENGINE_H
#define DW_MODEL_ENGINE_ENGINE_H

#include <stdatomic.h>
#include "model/model.h"
#include "model/session/session.h"

/* --- jobs and the engine ------------------------------------------------------------------------------------- */

/* What is wanted of one evaluated token. NULL / 0 = not wanted. All pointers stay the caller's until the job is
 * done. */
typedef struct dw_row_request {
    uint32_t index;                  /* in job.tokens; DW_ROW_LAST = the last token of the log */
    /* [n_vocab]; on the CPU the graph of a job that is alone writes here itself (no staging copy), where nothing else
     * is wanted of the row */
    float *logits;
    dw_token_score *top; uint32_t n_top;
    const int32_t *candidates; float *candidate_logprobs; uint32_t n_candidates;
    float *entropy;
    /* draws with `sampling` and the session's sampler state; the token is not appended */
    bool sample;
    dw_sampling sampling;
    dw_token_score sampled;          /* out */
} dw_row_request;
#define DW_ROW_LAST UINT32_MAX

typedef enum dw_job_kind { DW_JOB_FORWARD, DW_JOB_GENERATE, DW_JOB_EMBED } dw_job_kind;
typedef enum dw_end_reason { /* ABI numbers */
    DW_END_NONE = 0, DW_END_TOKEN = 1, DW_END_STOP = 2, DW_END_LENGTH = 3, DW_END_CONTEXT = 4
} dw_end_reason;

typedef struct dw_job {
    dw_job_kind kind;
    dw_session *session;                        /* forward, generate */
    const int32_t *tokens; uint32_t n_tokens;   /* appended to the log first */
    /* forward */
    dw_row_request *rows; uint32_t n_rows;      /* ascending indices; DW_ROW_LAST last */
    bool hold;                                  /* the session holds the last row's logits afterwards (session.h) */
    /* generate: the last token made stays pending, its row is computed when somebody goes on. An end token is not
     * kept. */
    dw_sampling sampling;
    uint32_t n_max;                             /* tokens to make at most */
    const char *const *stops;
    uint32_t n_stops; /* NUL-terminated, of text or of a control token; a stop is neither delivered nor kept in
                       * the log: a token that it begins inside of is replaced by the tokens of the text before it */
    bool ignore_end;                            /* go on after an end-of-generation token */
    /* embed: no session. A decoder evaluates each text in a slot of the model's own, taken for that long: at most
     * DW_EMBED_SLOTS_MAX texts at a time, and other jobs wait. A decoder's vectors do not depend on the other texts. An
     * encoder's texts share products, whose kernel goes by the number of tokens (bits.h): on the CPU texts of 8 tokens
     * and more get the same bits in any company. A job that fails or is cancelled has written the first n_embedded
     * vectors. */
    dw_model *model;
    const dw_embed_text *texts; uint32_t n_texts; /* at most DW_EMBED_TEXTS_MAX */
    dw_pooling pooling;
    dw_priority priority;                       /* whose steps come first; other jobs have their session's */
    bool normalize;                             /* to length 1, so that a dot product is the cosine */
    /* Called on the evaluating thread for each piece of text that is certain (not a possible beginning of a stop):
     * whole characters, what is none as U+FFFD. The beginning of a character at the end of a generation comes with the
     * one that goes on there. Returning false ends the generation (DW_E_CANCELLED). May be NULL. */
    bool (*on_text)(struct dw_job *job, const char *text, size_t size);
    /* Called once, on the engine thread, after everything else is written. It must not submit or block. May be NULL. */
    void (*on_done)(struct dw_job *job);
    void *context;
    /* results */
    dw_status status;
    dw_error error;
    uint32_t n_evaluated, n_generated;          /* tokens: prompt rows computed in this job; tokens made */
    uint32_t n_shared;                          /* rows that the session had not and took from another one */
    uint32_t n_embedded;                        /* texts */
    uint64_t prefill_ns, decode_ns;             /* of the steps that it took part in */
    /* I1: logits that were computed beside others', or were decided on, and copied to where they are wanted */
    uint64_t copied_bytes;
    dw_end_reason end_reason;
    uint32_t stop_index;                        /* with DW_END_STOP */
    /* the engine's own */
    _Atomic bool cancel;
    void *state;
    void (*wake)(void *context);                /* it can be stepped again (job.h rule 5); NULL: nobody asks */
    void *wake_context;
} dw_job;

/* Runs a job on the calling thread, to its end: the native loop. Only while no engine runs on this model. */
dw_status dw_job_run(dw_job *job, dw_error *err) DW_MUST_USE;

typedef struct dw_engine dw_engine;
/* One thread that steps the jobs of all models of one device: each step is a batch of all that decode, or a bounded
 * chunk of prefill. The device must outlive it, and so must the models of its jobs. */
dw_status dw_engine_create(dw_device *device, dw_engine **out, dw_error *err) DW_MUST_USE;
void dw_engine_destroy(dw_engine *engine); /* cancels what is left, waits */
/* Takes the job until its on_done. Refusals that can be seen at once (range, busy, context full) are returned here and
 * on_done is not called. */
dw_status dw_engine_submit(dw_engine *engine, dw_job *job, dw_error *err) DW_MUST_USE;
/* The job ends with DW_E_CANCELLED through on_done, as always. A waiting job ends when the step under way is over,
 * whosever that is, and is not stepped again. A step of that job alone is given up, where the device can do that. */
void dw_engine_cancel(dw_engine *engine, dw_job *job);
/* Since it was made: steps; jobs' parts in them, and the most in one; steps given up for somebody of a higher class (or
 * a cancel). Any thread. */
typedef struct dw_engine_counts { uint64_t steps, parts, parts_most, given_up; } dw_engine_counts;
dw_engine_counts dw_engine_counts_now(dw_engine *engine);

#endif

/* job.c: what a job's next step is, and what its results mean. A step evaluates one chunk of the pending tokens; a
 * generation draws a token whenever nothing is pending any more. The last drawn token stays pending: its row is
 * computed when somebody goes on. What is asked of a last row whose logits the session holds is answered from them.
 */
#include "model/engine/job.h"

#include <stdlib.h>
#include <string.h>

#include "model/engine/embed.h"
#include "model/model_internal.h"

typedef struct job_state {
    /* The session as it was, for a job that fails. */
    uint32_t tokens_before, rows_before;
    dw_sampler_state sampler_before;
    dw_logits *logits_before;   /* held then; NULL: none */
    dw_logits *made;            /* what a forward job leaves held; NULL: nothing new */
    uint32_t prompt_end;        /* log length with the job's tokens */
    /* nothing is pending: the first step reads held logits, or computes the last row again */
    bool repeats_last;
    bool finished;              /* the last step is done, job->status holds the outcome */
    uint32_t next_row;          /* of job->rows */
    uint32_t n_left;            /* rows of the planned step that were not taken yet */
    /* the planned step */
    uint32_t n_planned;
    bool plans_last;            /* nothing is pending after it */
    bool decodes;               /* it continues a generation */
    dw_status row_status;       /* of the rows taken */
    dw_job_progress drawn;      /* whether the generation goes on */
    uint32_t wanted[DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN];
    /* generate */
    float *first_logits;        /* [n_vocab] from which the first token is drawn once the vocabulary is loaded */
    dw_vocab_listener on_vocab;
    bool tracks_text;           /* somebody wants text, or stops are looked for */
    bool context_is_full;         /* no token can follow */
    dw_stop_text text;
    DW_VEC(uint64_t) text_ends; /* [n_generated] bytes of text up to and with each drawn token */
    uint64_t text_begin;        /* bytes of a character that the log before had begun: they come first */
    char *piece;
    size_t piece_capacity;
} job_state;

static uint32_t pending_tokens(const dw_session *session) { return session->n_tokens - session->n_rows; }

/* Rule 2 of session.h: the size of the next chunk when n tokens are pending. */
static uint32_t size_of_chunk(uint32_t n, uint32_t chunk_tokens) {
    return n < chunk_tokens + DW_PREFILL_CHUNK_TOKENS_MIN ? n : chunk_tokens;
}

/* --- begin --------------------------------------------------------------------------------------------------- */

static dw_status check_row(const dw_job *job, const dw_row_request *row, int64_t before, dw_error *err) {
    bool outside = row->index >= job->n_tokens || (int64_t)row->index <= before;
    if (row->index == DW_ROW_LAST ? row != &job->rows[job->n_rows - 1] : outside) {
        return dw_fail(err, DW_E_RANGE, "wanted rows must ascend, within the %u tokens of the job", job->n_tokens);
    }
    if (row->index == DW_ROW_LAST && job->n_tokens > 0 && before == (int64_t)job->n_tokens - 1) {
        return dw_fail(err, DW_E_RANGE, "the last row is wanted twice");
    }
    if (row->n_top > DW_TOP_K_MAX || row->n_top > job->session->pool->model->info.n_vocab) {
        return dw_fail(err, DW_E_LIMIT, "the %u likeliest tokens", row->n_top);
    }
    if (row->n_candidates > DW_CANDIDATES_MAX) {
        return dw_fail(err, DW_E_LIMIT, "%u candidates; at most %u", row->n_candidates, DW_CANDIDATES_MAX);
    }
    if ((row->n_top > 0 && row->top == NULL) ||
        (row->n_candidates > 0 && (row->candidates == NULL || row->candidate_logprobs == NULL))) {
        return dw_fail(err, DW_E_INVALID, "results without memory for them");
    }
    dw_status status = dw_session_check_tokens(job->session, row->candidates, row->n_candidates, err);
    if (status == DW_OK && row->sample) status = dw_sampling_check(&row->sampling, err);
    return status;
}

static dw_status check_job(const dw_job *job, dw_error *err) {
    const dw_session *session = job->session;
    dw_status status = dw_session_check_tokens(session, job->tokens, job->n_tokens, err);
    if (status != DW_OK) return status;
    if (session->n_tokens == 0 && job->n_tokens == 0) return dw_fail(err, DW_E_INVALID, "the session has no tokens");
    if (job->kind == DW_JOB_GENERATE) {
        if (job->n_max == 0) return dw_fail(err, DW_E_INVALID, "no token is to be made");
        status = dw_sampling_check(&job->sampling, err);
        return status == DW_OK ? dw_stop_check(job->stops, job->n_stops, err) : status;
    }
    int64_t before = -1;
    for (uint32_t i = 0; status == DW_OK && i < job->n_rows; i++) {
        status = check_row(job, &job->rows[i], before, err);
        before = job->rows[i].index;
    }
    return status;
}

/* Rows of a common prefix that another session has, for a job whose tokens, the first of them at first_token of the
 * log, have just been appended. */
static void share_prefix(dw_job *job, uint32_t first_token) {
    uint32_t last = job->session->n_tokens - 1, first_wanted = last;
    if (job->kind == DW_JOB_FORWARD && job->n_rows > 0 && job->rows[0].index != DW_ROW_LAST) {
        first_wanted = first_token + job->rows[0].index;
    }
    job->n_shared = dw_session_share(job->session, first_wanted, dw_job_rows_wanted(job) > 1);
}

static void free_state(dw_job *job) {
    job_state *state = job->state;
    job->state = NULL;
    if (state == NULL) return;
    dw_logits_release(state->logits_before);
    dw_logits_release(state->made);
    dw_stop_deinit(&state->text);
    DW_VEC_DEINIT(&state->text_ends);
    free(state->piece);
    free(state);
}

/* --- before the vocabulary is loaded ------------------------------------------------------------------------------ */

static bool draws_with_vocabulary(const dw_job *job) {
    return !job->ignore_end || ((const job_state *)job->state)->tracks_text;
}

static bool waits_for_vocabulary(const dw_job *job) {
    return draws_with_vocabulary(job) && !dw_vocab_is_settled(job->session->pool->model->vocab);
}

bool dw_job_waits(const dw_job *job) {
    if (job->kind != DW_JOB_GENERATE) return false;
    return ((const job_state *)job->state)->first_logits != NULL && waits_for_vocabulary(job);
}

/* The logits are the model's own memory, which the next step of anybody overwrites. */
static dw_status keep_first_logits(dw_job *job, const float *logits, dw_error *err) {
    job_state *state = job->state;
    const dw_model *model = job->session->pool->model;
    size_t bytes = model->info.n_vocab * sizeof logits[0];
    state->first_logits = malloc(bytes);
    if (state->first_logits == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu bytes of logits", bytes);
    memcpy(state->first_logits, logits, bytes);
    if (job->wake == NULL) return DW_OK;
    state->on_vocab = (dw_vocab_listener){.call = job->wake, .context = job->wake_context};
    (void)dw_vocab_listen(model->vocab, &state->on_vocab); /* loaded by now: then it does not wait */
    return DW_OK;
}

static void let_first_logits_go(job_state *state) {
    free(state->first_logits);
    state->first_logits = NULL;
}

/* A generation that would draw from what the session holds draws from a copy of it later. */
static dw_status keep_what_is_held(dw_job *job, dw_error *err) {
    job_state *state = job->state;
    const dw_logits *held = job->session->logits;
    bool draws_at_once = job->kind == DW_JOB_GENERATE && state->repeats_last && !state->context_is_full && held != NULL;
    if (!draws_at_once || !waits_for_vocabulary(job)) return DW_OK;
    state->repeats_last = false;
    return keep_first_logits(job, held->values, err);
}

/* --- begin ------------------------------------------------------------------------------------------------------ */

dw_status dw_job_begin(dw_job *job, dw_error *err) {
    if (job->kind == DW_JOB_EMBED) return dw_embed_begin(job, err);
    dw_session *session = job->session;
    job->state = NULL;
    dw_status status = dw_session_take(session, err);
    if (status != DW_OK) return status;
    status = check_job(job, err);
    job_state *state = status == DW_OK ? calloc(1, sizeof *state) : NULL;
    if (status == DW_OK && state == NULL) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a job");
    if (status != DW_OK) goto out;
    job->state = state;
    state->logits_before = dw_session_note_logits(session);
    state->tokens_before = session->n_tokens;
    state->rows_before = session->n_rows;
    state->sampler_before = session->sampler;
    status = dw_session_append(session, job->tokens, job->n_tokens, err);
    if (status != DW_OK) goto out;
    share_prefix(job, state->tokens_before);
    state->prompt_end = session->n_tokens;
    state->tracks_text = job->on_text != NULL || job->n_stops > 0;
    state->context_is_full = session->n_tokens == session->pool->model->info.context_tokens;
    state->text = (dw_stop_text){.stops = job->stops, .n_stops = job->n_stops};
    state->repeats_last = pending_tokens(session) == 0;
    status = keep_what_is_held(job, err);
    if (status != DW_OK) goto out;
    job->status = DW_OK;
    memset(&job->error, 0, sizeof job->error);
    job->n_evaluated = job->n_generated = 0;
    job->prefill_ns = job->decode_ns = 0;
    job->copied_bytes = 0;
    job->end_reason = DW_END_NONE;
    job->stop_index = 0;
    return DW_OK;
out:
    free_state(job);
    atomic_store(&session->busy, false);
    return status;
}

/* --- rows of a forward job ----------------------------------------------------------------------------------- */

/* Whether something is decided from the row's logits. Then they are computed in the model's own memory, which nobody
 * else can change, and copied to where they are wanted. */
static bool row_decides(const dw_row_request *row) {
    return row->n_top > 0 || row->n_candidates > 0 || row->entropy != NULL || row->sample;
}

static void copy_logits(dw_job *job, float *to, const float *logits, size_t bytes) {
    if (to == NULL || to == logits) return;
    memcpy(to, logits, bytes);
    job->copied_bytes += bytes;
    dw_device_count_copied_out(job->session->pool->model->device, bytes);
}

/* Each function of the sampler looks first whether these are logits (engine.h rule 4). */
static dw_status deliver_row(dw_job *job, dw_row_request *row, const float *logits) {
    dw_session *session = job->session;
    dw_sampler *sampler = session->pool->model->sampler;
    size_t bytes = session->pool->model->info.n_vocab * sizeof logits[0];
    dw_status status = row_decides(row) ? DW_OK : dw_sampler_check(sampler, logits);
    if (row->n_top > 0) status = dw_sampler_top(sampler, logits, row->n_top, row->top);
    if (status == DW_OK && row->n_candidates > 0) {
        status = dw_sampler_scores(sampler, logits, row->candidates, row->n_candidates, row->candidate_logprobs);
    }
    if (status == DW_OK && row->entropy != NULL) status = dw_sampler_entropy(sampler, logits, row->entropy);
    if (status == DW_OK && row->sample) {
        status = dw_sampler_sample(sampler, logits, &row->sampling, &session->sampler, &row->sampled);
    }
    if (status == DW_OK) {
        copy_logits(job, row->logits, logits, bytes);
        return DW_OK;
    }
    if (row->logits != NULL) memset(row->logits, 0, bytes); /* the graph may have written there */
    return dw_fail(&job->error, status, "the model computed logits that are no numbers");
}

/* Of a row that is to be held and was not delivered: whether these are logits. */
static dw_status check_held(dw_job *job, const float *logits) {
    dw_status status = dw_sampler_check(job->session->pool->model->sampler, logits);
    if (status == DW_OK) return DW_OK;
    return dw_fail(&job->error, status, "the model computed logits that are no numbers");
}

/* The next row of a step's: one that is wanted, or the last one for its logits alone, or both. */
static dw_status take_forward_row(dw_job *job, const float *logits) {
    job_state *state = job->state;
    bool is_wanted = state->next_row < job->n_rows, is_held = --state->n_left == 0 && state->plans_last && state->made;
    dw_status status = is_wanted ? deliver_row(job, &job->rows[state->next_row++], logits) : check_held(job, logits);
    if (status != DW_OK || !is_held || logits == state->made->values) return status;
    memcpy(state->made->values, logits, job->session->pool->model->info.n_vocab * sizeof logits[0]);
    return DW_OK;
}

/* Which of the rows [first, first + n) are wanted. */
static uint32_t plan_rows(dw_job *job, uint32_t first, uint32_t n) {
    const dw_session *session = job->session;
    job_state *state = job->state;
    uint32_t n_wanted = 0;
    for (uint32_t i = state->next_row; i < job->n_rows; i++) {
        uint32_t index = job->rows[i].index;
        uint32_t position = index == DW_ROW_LAST ? session->n_tokens - 1 : state->tokens_before + index;
        if (position >= first + n) break;
        state->wanted[n_wanted++] = position - first;
    }
    bool has_last = n_wanted > 0 && state->wanted[n_wanted - 1] == n - 1;
    if (state->made != NULL && state->plans_last && !has_last) state->wanted[n_wanted++] = n - 1;
    return n_wanted;
}

/* --- generating ---------------------------------------------------------------------------------------------- */

static dw_job_progress finish_job(dw_job *job, dw_status status) {
    ((job_state *)job->state)->finished = true;
    job->status = status;
    return DW_JOB_DONE;
}

/* Bytes of text before drawn token number n. */
static uint64_t text_before(const job_state *state, uint32_t n) {
    return n == 0 ? state->text_begin : state->text_ends.items[n - 1];
}

/* Cuts the log to the text that was delivered. A token that holds more is replaced by the tokens of its part. */
static void cut_to_delivered(dw_job *job) {
    job_state *state = job->state;
    dw_session *session = job->session;
    if (!state->tracks_text) return;
    uint32_t n = 0;
    while (n < job->n_generated && text_before(state, n) < state->text.taken &&
           state->text_ends.items[n] <= state->text.taken)
        n++;
    int32_t part[DW_VOCAB_TOKEN_BYTES_MAX];
    size_t n_stay = n, n_part = 0;
    if (n < job->n_generated && text_before(state, n) < state->text.taken) {
        size_t bytes = (size_t)(state->text.taken - text_before(state, n));
        if (dw_vocab_cut(session->pool->model->vocab, session->tokens + state->prompt_end, n + 1, bytes, &n_stay, part,
                         DW_VOCAB_TOKEN_BYTES_MAX, &n_part, NULL) != DW_OK) {
            n_stay = n;
            n_part = 0;
        }
    }
    dw_session_cut(session, state->prompt_end + (uint32_t)n_stay, UINT32_MAX);
    if (n_part > 0 && dw_session_append(session, part, (uint32_t)n_part, NULL) != DW_OK)
        n_part = 0; /* no place for it: the token is gone */
    job->n_generated = (uint32_t)(n_stay + n_part);
}

static dw_status piece_of_token(dw_job *job, int32_t token, bool special, size_t *size) {
    job_state *state = job->state;
    dw_vocab *vocab = job->session->pool->model->vocab;
    dw_status status = dw_vocab_piece(vocab, token, special, state->piece, state->piece_capacity, size);
    if (status != DW_E_FULL) return status;
    size_t capacity = *size + 64;
    char *larger = realloc(state->piece, capacity);
    if (larger == NULL) return DW_E_NO_MEMORY;
    state->piece = larger;
    state->piece_capacity = capacity;
    return dw_vocab_piece(vocab, token, special, state->piece, state->piece_capacity, size);
}

static bool show_to_listener(void *context, const char *text, size_t size) {
    dw_job *job = context;
    return job->on_text(job, text, size);
}

/* Hands out the first `size` bytes of the held text. */
static dw_status hand_out_text(dw_job *job, size_t size) {
    job_state *state = job->state;
    dw_status status = dw_stop_hand_out(&state->text, size, job->on_text != NULL ? show_to_listener : NULL, job);
    return status == DW_OK ? DW_OK
                           : dw_fail(&job->error, status,
                                     status == DW_E_CANCELLED ? "the listener ended it" : "no memory for a text");
}

/* Ends a generation well. Text that was held back for a stop that did not come is certain now; the beginning of a
 * character is not where the generation could have gone on: it comes with the next one. */
static dw_job_progress end_generation(dw_job *job, dw_end_reason reason) {
    job_state *state = job->state;
    job->end_reason = reason;
    if (reason == DW_END_STOP) return finish_job(job, DW_OK);
    size_t size = state->text.held.count;
    return finish_job(job, hand_out_text(job, reason == DW_END_TOKEN ? size : dw_stop_whole(&state->text, size)));
}

/* A log that ends in the beginning of a character: a generation that goes on there delivers the character whole. */
static dw_status take_open_end(dw_job *job) {
    job_state *state = job->state;
    dw_session *session = job->session;
    char begun[3];
    size_t ready;
    uint32_t stop;
    if (!state->tracks_text || job->n_tokens > 0) return DW_OK;
    size_t size = dw_vocab_open_end(session->pool->model->vocab, session->tokens, state->prompt_end, begun);
    state->text_begin = size;
    return size > 0 ? dw_stop_feed(&state->text, begun, size, false, &ready, &stop) : DW_OK;
}

/* The text of a token that has just been appended. */
static dw_job_progress add_token_text(dw_job *job, int32_t token) {
    job_state *state = job->state;
    size_t size = 0, ready = 0;
    uint32_t stop = DW_STOP_NONE;
    bool is_control = dw_vocab_is_control(job->session->pool->model->vocab, token); /* a stop may name it */
    dw_status status = job->n_generated == 1 ? take_open_end(job) : DW_OK;
    if (status == DW_OK) status = piece_of_token(job, token, is_control, &size);
    if (status == DW_OK) status = dw_stop_feed(&state->text, state->piece, size, is_control, &ready, &stop);
    if (status != DW_OK) return finish_job(job, dw_fail(&job->error, status, "no text for token %d", token));
    state->text_ends.items[job->n_generated - 1] = text_before(state, job->n_generated - 1) + size;
    status = hand_out_text(job, ready);
    if (status != DW_OK) return finish_job(job, status);
    if (stop == DW_STOP_NONE) return DW_JOB_MORE;
    cut_to_delivered(job);
    job->stop_index = stop;
    return end_generation(job, DW_END_STOP);
}

static dw_status room_for_ends(dw_job *job) {
    job_state *state = job->state;
    if (!state->tracks_text) return DW_OK;
    state->text_ends.count = job->n_generated;
    dw_status status = DW_VEC_RESERVE(&state->text_ends, 1, DW_CONTEXT_TOKENS_MAX);
    return status == DW_OK ? DW_OK : dw_fail(&job->error, status, "no memory for %u tokens", job->n_generated + 1);
}

/* Draws a token from the logits and decides what follows. */
static dw_job_progress draw_token(dw_job *job, const float *logits) {
    dw_session *session = job->session;
    dw_model *model = session->pool->model;
    int32_t drawn;
    dw_status status = dw_sampler_pick(model->sampler, logits, &job->sampling, &session->sampler, &drawn);
    if (status != DW_OK) {
        return finish_job(job, dw_fail(&job->error, status, "the model computed logits that are no numbers"));
    }
    if (!job->ignore_end && dw_vocab_is_end(model->vocab, drawn)) return end_generation(job, DW_END_TOKEN);
    status = room_for_ends(job);
    if (status == DW_OK) status = dw_session_append(session, &drawn, 1, &job->error);
    if (status != DW_OK) return finish_job(job, status);
    job->n_generated++;
    if (((job_state *)job->state)->tracks_text && add_token_text(job, drawn) == DW_JOB_DONE) return DW_JOB_DONE;
    if (job->n_generated == job->n_max) return end_generation(job, DW_END_LENGTH);
    if (session->n_tokens == model->info.context_tokens) return end_generation(job, DW_END_CONTEXT);
    return DW_JOB_MORE;
}

/* Everything is evaluated and the session holds what follows: nothing has to be computed for the answer. A generation
 * goes on with the token that was drawn. */
static dw_job_progress answer_from_held(dw_job *job) {
    const float *held = job->session->logits->values;
    job_state *state = job->state;
    if (job->kind == DW_JOB_GENERATE) return draw_token(job, held); /* logits_before keeps them while the log grows */
    return finish_job(job, job->n_rows > 0 ? deliver_row(job, &job->rows[state->next_row++], held) : DW_OK);
}

/* Where the only wanted row's logits are to lie: straight in the caller's memory (I1), or in that of what is held. */
static float *place_for_logits(const dw_job *job) {
    const job_state *state = job->state;
    bool is_held = state->made != NULL && state->plans_last;
    if (state->next_row == job->n_rows) return is_held ? state->made->values : NULL;
    const dw_row_request *row = &job->rows[state->next_row];
    return row_decides(row) || is_held ? NULL : row->logits;
}

/* Blocks only where there is no engine, or none with memory for a look around. */
static dw_job_progress draw_from_first_logits(dw_job *job) {
    job_state *state = job->state;
    dw_status status = dw_vocab_wait(job->session->pool->model->vocab, &job->error);
    dw_job_progress progress = status == DW_OK ? draw_token(job, state->first_logits) : finish_job(job, status);
    let_first_logits_go(state);
    return progress;
}

/* --- a step -------------------------------------------------------------------------------------------------- */

uint32_t dw_job_next_tokens(const dw_job *job, uint32_t chunk_tokens) {
    uint32_t n = size_of_chunk(pending_tokens(job->session), chunk_tokens);
    return n > 0 ? n : 1; /* the last row again */
}

dw_job_progress dw_job_plan(dw_job *job, uint32_t chunk_tokens, dw_job_part *out) {
    dw_session *session = job->session;
    job_state *state = job->state;
    if (state->finished) return DW_JOB_DONE;
    if (atomic_load(&job->cancel)) return finish_job(job, dw_fail(&job->error, DW_E_CANCELLED, "cancelled"));
    /* A full context has no place for a token, so nothing is evaluated for one. */
    if (job->kind == DW_JOB_GENERATE && state->context_is_full) return end_generation(job, DW_END_CONTEXT);
    if (state->first_logits != NULL && draw_from_first_logits(job) == DW_JOB_DONE) return DW_JOB_DONE;
    /* Where everything is evaluated already, what follows the last token is known only from its logits: those that are
     * held, or else its row is computed again. */
    bool again = state->repeats_last;
    state->repeats_last = false;
    if (again && session->logits != NULL) {
        if (answer_from_held(job) == DW_JOB_DONE) return DW_JOB_DONE;
        again = false;
    }
    /* Memory for what is to be held comes first: a budget that refuses it costs nothing. It is asked for on the
     * evaluating thread, like memory for rows: there no fold is under way, whose copies count twice (kv.h rule 5). */
    dw_status status = job->kind == DW_JOB_FORWARD && job->hold && state->made == NULL
                           ? dw_session_make_logits(session, &state->made, &job->error)
                           : DW_OK;
    if (status != DW_OK) return finish_job(job, status);
    uint32_t first = again ? session->n_rows - 1 : session->n_rows;
    uint32_t n = state->n_planned = size_of_chunk(session->n_tokens - first, chunk_tokens);
    state->plans_last = n == session->n_tokens - first;
    state->decodes = job->n_generated > 0;
    state->row_status = DW_OK;
    state->drawn = DW_JOB_MORE;
    *out = (dw_job_part){.tokens = session->tokens + first, .n_tokens = n, .first_position = first,
                         .wanted = state->wanted, .again = again};
    if (job->kind == DW_JOB_FORWARD) {
        out->n_wanted = state->n_left = plan_rows(job, first, n);
        if (out->n_wanted == 1) out->logits = place_for_logits(job);
    } else if (state->plans_last) {
        state->wanted[0] = n - 1;
        out->n_wanted = 1;
    }
    return DW_JOB_MORE;
}

void dw_job_take_row(dw_job *job, const float *logits) {
    job_state *state = job->state;
    if (state->row_status != DW_OK) return;
    if (job->kind == DW_JOB_FORWARD) state->row_status = take_forward_row(job, logits);
    else if (waits_for_vocabulary(job)) state->row_status = keep_first_logits(job, logits, &job->error);
    else state->drawn = draw_token(job, logits);
}

dw_job_progress dw_job_took(dw_job *job, dw_status status, const dw_error *err, uint64_t ns) {
    job_state *state = job->state;
    if (state->decodes) {
        job->decode_ns += ns;
    } else {
        job->prefill_ns += ns;
        job->n_evaluated += state->n_planned;
    }
    if (state->finished) return DW_JOB_DONE;
    if (status != DW_OK) job->error = *err;
    else status = state->row_status;
    if (status != DW_OK) return finish_job(job, status);
    if (job->kind == DW_JOB_GENERATE) return state->drawn;
    if (!state->plans_last) return DW_JOB_MORE;
    if (state->made != NULL) dw_session_hold_logits(job->session, state->made);
    return finish_job(job, DW_OK);
}

/* --- end ----------------------------------------------------------------------------------------------------- */

/* The session after a job that did not end well. */
static void undo_job(dw_job *job) {
    dw_session *session = job->session;
    const job_state *state = job->state;
    if (job->kind == DW_JOB_GENERATE) cut_to_delivered(job);
    if (job->n_generated > 0) return;
    job->n_generated = 0;
    dw_session_cut(session, state->tokens_before, state->rows_before);
    dw_session_put_logits_back(session, state->logits_before);
    session->sampler = state->sampler_before;
}

uint32_t dw_job_rows_wanted(const dw_job *job) {
    if (job->kind != DW_JOB_FORWARD) return 1;
    uint32_t last = job->n_rows > 0 ? job->rows[job->n_rows - 1].index : 0;
    bool has_last = job->n_rows > 0 && (last == DW_ROW_LAST || last + 1 == job->n_tokens);
    return job->n_rows + (job->hold && !has_last ? 1 : 0);
}

dw_status dw_job_end(dw_job *job) {
    if (job->kind == DW_JOB_EMBED) return dw_embed_end(job);
    job_state *state = job->state;
    if (!state->finished) {
        (void)finish_job(job, dw_fail(&job->error, DW_E_CANCELLED,
                                      atomic_load(&job->cancel) ? "cancelled" : "the engine was closed"));
    }
    if (state->on_vocab.call != NULL) dw_vocab_unlisten(job->session->pool->model->vocab, &state->on_vocab);
    let_first_logits_go(state);
    if (job->status != DW_OK) {
        job->error.status = job->status;
        undo_job(job);
    }
    free_state(job);
    atomic_store(&job->session->busy, false);
    return job->status;
}

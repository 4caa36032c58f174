/* operations_model.c: forward and generate: from the guest's records to a job of the engine, and back.
 *
 * Everything is copied and checked when the request is taken. Logits go straight into guest memory, which is lent for
 * that long; all other results are small, wait in the operation, and are written when the completion is delivered. */
#include <stdlib.h>
#include <string.h>
#include "door/door_internal.h"
#include "os/os.h"

enum { LOGITS_ALIGN = 64 };

dw_status dw_tokens_copy_in(dw_door *door, dw_operation *op) {
    uint32_t n = op->request.len0;
    void *copy = NULL;
    if (n > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    if (n == 0) return DW_OK;
    dw_status status =
        dw_door_copy(door, op, op->request.ptr0, (uint64_t)n * sizeof *op->tokens, sizeof *op->tokens, &copy);
    op->tokens = copy;
    return status;
}

/* 0 stands for "off" in the guest's options. */
static dw_status sampling_of(const dw_sampling_options *options, dw_sampling *out) {
    *out = (dw_sampling){.temperature = options->temperature,
                         .top_p = options->top_p,
                         .min_p = options->min_p,
                         .top_k = options->top_k};
    if (options->top_p == 0.0f) out->top_p = 1.0f; /* exactly the zero of an untouched field */
    return dw_sampling_check(out, NULL);
}

/* --- forward: rows ------------------------------------------------------------------------------------------- */

static bool fields_agree(const dw_row *wanted) {
    if (wanted->reserved[0] || wanted->reserved[1] || (wanted->flags & ~(uint32_t)DW_ROW_SAMPLE)) return false;
    if ((wanted->top == 0) != (wanted->n_top == 0)) return false;
    if ((wanted->candidates == 0) != (wanted->n_candidates == 0) ||
        (wanted->candidates == 0) != (wanted->candidate_logprobs == 0))
        return false;
    return ((wanted->flags & DW_ROW_SAMPLE) != 0) == (wanted->sampled != 0);
}

static dw_status make_row_buffers(dw_door *door, dw_operation *op, dw_row_result *row, dw_row_request *request) {
    const dw_row *wanted = &row->wanted;
    /* Many rows may name the same few bytes of the guest: what it wants says nothing about what it has. */
    uint64_t bytes = wanted->n_top * sizeof *row->top +
                     wanted->n_candidates * (sizeof *row->candidates + sizeof *row->candidate_logprobs);
    dw_status charged = dw_port_charge(op->port, op, bytes);
    if (charged != DW_OK) return charged;
    if (wanted->n_top) {
        row->top = calloc(wanted->n_top, sizeof *row->top);
        if (!row->top) return DW_E_NO_MEMORY;
        request->top = row->top;
        request->n_top = wanted->n_top;
    }
    if (wanted->n_candidates) {
        row->candidates = calloc(wanted->n_candidates, sizeof *row->candidates);
        row->candidate_logprobs = calloc(wanted->n_candidates, sizeof *row->candidate_logprobs);
        if (!row->candidates || !row->candidate_logprobs) return DW_E_NO_MEMORY;
        dw_status status =
            dw_door_read(door, wanted->candidates, row->candidates, wanted->n_candidates * sizeof *row->candidates);
        if (status != DW_OK) return status;
        request->candidates = row->candidates;
        request->candidate_logprobs = row->candidate_logprobs;
        request->n_candidates = wanted->n_candidates;
    }
    if (wanted->entropy) request->entropy = &row->entropy;
    if (wanted->flags & DW_ROW_SAMPLE) {
        request->sample = true;
        return sampling_of(&wanted->sampling, &request->sampling);
    }
    return DW_OK;
}

/* What a row names in guest memory beside its logits. */
typedef struct result_place { uint32_t ptr; uint64_t bytes; } result_place;
enum { ROW_RESULTS = 4, ROW_PLACES = 5 };

/* The results first, then what is only read. */
static void places_of_row(const dw_row *wanted, result_place out[ROW_PLACES]) {
    out[0] = (result_place){wanted->top, wanted->n_top * sizeof(dw_scored_token)};
    out[1] = (result_place){wanted->candidate_logprobs, wanted->n_candidates * sizeof(float)};
    out[2] = (result_place){wanted->entropy, sizeof(float)};
    out[3] = (result_place){wanted->sampled, sizeof(dw_scored_token)};
    out[4] = (result_place){wanted->candidates, wanted->n_candidates * sizeof(int32_t)};
}

static dw_status row_copy_in(dw_door *door, uint32_t n_vocab, dw_operation *op, dw_row_result *row,
                             dw_row_request *request) {
    const dw_row *wanted = &row->wanted;
    result_place places[ROW_PLACES];
    dw_status status = DW_OK;
    if (!fields_agree(wanted)) return DW_E_INVALID;
    if (wanted->n_top > DW_TOP_K_MAX || wanted->n_candidates > DW_CANDIDATES_MAX) return DW_E_LIMIT;
    places_of_row(wanted, places);
    for (int i = 0; i < ROW_PLACES && status == DW_OK; i++)
        status = dw_door_check_place(door, places[i].ptr, places[i].bytes, 4);
    if (status == DW_OK && wanted->logits) {
        void *logits;
        uint64_t bytes = (uint64_t)n_vocab * sizeof(float);
        status = dw_door_view(door, wanted->logits, bytes, LOGITS_ALIGN, &logits);
        if (status != DW_OK) return status;
        request->logits = logits;
        op->spans[op->n_spans++] = (dw_lent_span){.first = wanted->logits, .end = wanted->logits + bytes};
    }
    if (status != DW_OK) return status;
    request->index = wanted->index == DW_ROW_OF_LAST ? DW_ROW_LAST : wanted->index;
    return make_row_buffers(door, op, row, request);
}

/* The spans are sorted: after dw_door_lend. */
static bool results_overlap_logits(const dw_operation *op) {
    for (uint32_t i = 0; i < op->job.n_rows && op->n_spans > 0; i++) {
        result_place places[ROW_PLACES];
        places_of_row(&op->rows[i].wanted, places);
        for (int k = 0; k < ROW_RESULTS; k++) {
            uint64_t first = places[k].ptr;
            if (first && dw_operation_spans_overlap(op, first, first + places[k].bytes)) return true;
        }
    }
    return false;
}

static dw_status make_rows(dw_operation *op, uint32_t n_rows) {
    if (n_rows == 0) return DW_OK;
    uint64_t bytes = n_rows * (sizeof *op->rows + sizeof *op->row_requests + sizeof *op->spans);
    dw_status status = dw_port_charge(op->port, op, bytes);
    if (status != DW_OK) return status;
    op->rows = calloc(n_rows, sizeof *op->rows);
    op->row_requests = calloc(n_rows, sizeof *op->row_requests);
    op->spans = calloc(n_rows, sizeof *op->spans);
    return op->rows && op->row_requests && op->spans ? DW_OK : DW_E_NO_MEMORY;
}

dw_status dw_forward_copy_in(dw_door *door, dw_operation *op) {
    uint32_t n_rows = op->request.len1;
    dw_door_session *session;
    void *records;
    if (n_rows > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = dw_door_view(door, op->request.ptr1, (uint64_t)n_rows * sizeof(dw_row), 4, &records);
    if (status == DW_OK) status = dw_door_session_of(door, op, &session);
    if (status == DW_OK) status = dw_tokens_copy_in(door, op);
    if (status == DW_OK) status = make_rows(op, n_rows);
    if (status != DW_OK) return status;
    uint32_t n_vocab = dw_model_info_view(session->model->model)->n_vocab;
    op->job = (dw_job){.kind = DW_JOB_FORWARD,
                       .tokens = op->tokens,
                       .n_tokens = op->request.len0,
                       .rows = op->row_requests,
                       .n_rows = n_rows,
                       .hold = (op->request.flags & DW_FLAG_HOLD) != 0};
    for (uint32_t i = 0; i < n_rows && status == DW_OK; i++) {
        memcpy(&op->rows[i].wanted, (const uint8_t *)records + i * sizeof(dw_row), sizeof(dw_row));
        status = row_copy_in(door, n_vocab, op, &op->rows[i], &op->row_requests[i]);
    }
    if (status == DW_OK) status = dw_door_lend(door, op);
    return status == DW_OK && results_overlap_logits(op) ? DW_E_INVALID : status;
}

/* --- generate ------------------------------------------------------------------------------------------------ */

static dw_status copy_stop(dw_door *door, const dw_text *text, char **out) {
    if (text->len == 0) return DW_E_INVALID;
    if (text->len > DW_STOP_STRING_BYTES_MAX) return DW_E_LIMIT;
    char *stop = calloc(1, text->len + 1u);
    if (!stop) return DW_E_NO_MEMORY;
    *out = stop;
    dw_status status = dw_door_read(door, text->ptr, stop, text->len);
    if (status == DW_OK && memchr(stop, 0, text->len)) status = DW_E_INVALID;
    return status;
}

static dw_status copy_stops(dw_door *door, dw_operation *op) {
    uint32_t n = op->generate.n_stops;
    if (n > DW_STOP_STRINGS_MAX) {
        op->generate.n_stops = 0; /* nothing was copied: nothing to free */
        return DW_E_LIMIT;
    }
    if (n == 0) return DW_OK;
    dw_text texts[DW_STOP_STRINGS_MAX];
    op->stops = calloc(n, sizeof *op->stops);
    if (!op->stops) return DW_E_NO_MEMORY;
    dw_status status = dw_door_read(door, op->generate.stops, texts, n * sizeof texts[0]);
    for (uint32_t i = 0; i < n && status == DW_OK; i++) status = copy_stop(door, &texts[i], &op->stops[i]);
    return status;
}

static bool keep_text(dw_job *job, const char *text, size_t size) {
    dw_operation *op = job->context;
    return dw_port_append_text(op->port, op, text, size);
}

static dw_status read_generate_options(dw_door *door, const dw_request *request, dw_generate_options *out) {
    const uint32_t known = (uint32_t)sizeof *out, least = 12; /* size, n_max and flags */
    if (request->len1 < least) return DW_E_INVALID;
    dw_status status = dw_door_read(door, request->ptr1, out, request->len1 < known ? request->len1 : known);
    if (status != DW_OK) return status;
    uint32_t size = out->size;
    if (size < least || size > known || size > request->len1) return DW_E_INVALID;
    memset((uint8_t *)out + size, 0, known - size); /* fields the program does not know are zero */
    if (out->flags & ~(uint32_t)(DW_GENERATE_EMIT | DW_GENERATE_IGNORE_END)) return DW_E_INVALID;
    return out->n_max == 0 || out->n_max > DW_TURN_TOKENS_MAX ? DW_E_RANGE : DW_OK;
}

dw_status dw_generate_copy_in(dw_door *door, dw_operation *op) {
    dw_generate_options options = {0};
    dw_door_session *session;
    dw_status status = read_generate_options(door, &op->request, &options);
    if (status == DW_OK) status = dw_door_check_place(door, op->request.ptr2, op->request.len2, 1);
    if (status == DW_OK) status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    op->generate = options; /* from here on its stops are the operation's to free */
    status = copy_stops(door, op);
    if (status == DW_OK) status = dw_tokens_copy_in(door, op);
    /* It is not waited for: evaluating needs none (engine.h rule 6). */
    dw_vocab *vocab = dw_model_vocab(session->model->model);
    if (status == DW_OK && dw_vocab_is_settled(vocab)) status = dw_vocab_wait(vocab, NULL);
    if (status != DW_OK) return status;
    op->job = (dw_job){.kind = DW_JOB_GENERATE,
                       .tokens = op->tokens,
                       .n_tokens = op->request.len0,
                       .n_max = op->generate.n_max,
                       .stops = (const char *const *)op->stops,
                       .n_stops = op->generate.n_stops,
                       .ignore_end = (op->generate.flags & DW_GENERATE_IGNORE_END) != 0,
                       .on_text = keep_text};
    return sampling_of(&op->generate.sampling, &op->job.sampling);
}

/* --- the job ------------------------------------------------------------------------------------------------- */

/* Engine's thread. The length is taken now: a later request of the session may run before this one is delivered. */
static void job_done(dw_job *job) {
    dw_operation *op = job->context;
    dw_session_tokens(job->session, &op->log_length);
    dw_port_done(op->port, op);
}

/* A job that adds no token to a session without pending ones computes the last row again (its logits are wanted and not
 * held), in another shape than the first time: a row from before this turn has to be saved. */
static dw_status save_last_row(dw_door *door, dw_door_session *session, const dw_operation *op) {
    uint32_t n_tokens = 0, n_held = 0;
    dw_session_tokens(session->session, &n_tokens);
    if (op->job.n_tokens > 0 || n_tokens == 0 || dw_session_rows(session->session) < n_tokens) return DW_OK;
    if (dw_session_logits(session->session, &n_held)) return DW_OK;
    return dw_door_save_session(door, session, n_tokens - 1);
}

dw_status dw_job_start(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session); /* a request before this one may have closed it */
    if (status == DW_OK) status = save_last_row(door, session, op);
    if (status != DW_OK) return status;
    op->job.session = session->session;
    op->job.context = op;
    op->job.on_done = job_done;
    op->engine = session->model->engine;
    op->has_job = true;
    dw_error err;
    status = dw_engine_submit(op->engine, &op->job, &err);
    if (status != DW_OK) {
        op->has_job = false;
        dw_log(DW_LOG_INFO, "job_refused", "actor=%s status=%s reason=%s", door->options.name, dw_status_name(status),
               err.text);
    }
    return status;
}

void dw_operation_cancel(dw_operation *op) { dw_engine_cancel(op->engine, &op->job); }

/* --- delivery ------------------------------------------------------------------------------------------------ */

static dw_status write_if(dw_door *door, uint32_t ptr, const void *data, uint64_t bytes) {
    return ptr ? dw_door_write(door, ptr, data, bytes) : DW_OK;
}

static dw_status deliver_row_results(dw_door *door, const dw_row_result *row, const dw_row_request *request) {
    _Static_assert(sizeof(dw_scored_token) == sizeof(dw_token_score),
                   "the guest's and the host's scored token are the same 8 bytes");
    const dw_row *wanted = &row->wanted;
    dw_status status = write_if(door, wanted->top, row->top, wanted->n_top * sizeof *row->top);
    if (status == DW_OK) {
        status = write_if(door, wanted->candidate_logprobs, row->candidate_logprobs,
                          wanted->n_candidates * sizeof *row->candidate_logprobs);
    }
    if (status == DW_OK) status = write_if(door, wanted->entropy, &row->entropy, sizeof row->entropy);
    if (status == DW_OK) status = write_if(door, wanted->sampled, &request->sampled, sizeof request->sampled);
    return status;
}

/* The window is over: what lies there is what the engine wrote. Logits that are no numbers are taken away again. */
static dw_status check_window_logits(const dw_operation *op) {
    for (uint32_t i = 0; i < op->job.n_rows; i++) {
        float *logits = op->row_requests[i].logits;
        size_t n = dw_model_info_view(dw_session_model(op->job.session))->n_vocab;
        if (!logits || dw_all_finite(logits, n, true)) continue;
        memset(logits, 0, n * sizeof *logits);
        return DW_E_DEVICE;
    }
    return DW_OK;
}

static void deliver_forward(dw_door *door, dw_operation *op) {
    /* Both: what a turn sees must not depend on who else is there (actor.h rule 2). */
    op->completion.result0 = op->job.n_evaluated + op->job.n_shared;
    op->completion.result1 = op->log_length;
    if (op->completion.status == DW_OK) op->completion.status = check_window_logits(op);
    for (uint32_t i = 0; i < op->job.n_rows && op->completion.status == DW_OK; i++) {
        op->completion.status = deliver_row_results(door, &op->rows[i], &op->row_requests[i]);
    }
}

static void deliver_generate(dw_door *door, dw_operation *op, bool interrupted) {
    /* The user asked for an end: what there is by now is the answer. Without a token made, the request's own are not in
     * the log either (job.h rule 3), and an answer would claim that they are. */
    bool kept = op->job.n_generated > 0 || op->job.n_tokens == 0;
    if (op->completion.status == DW_E_CANCELLED && interrupted && kept) {
        op->completion.status = DW_OK;
        op->job.end_reason = DW_END_LENGTH;
    }
    if (op->completion.status == DW_E_CANCELLED && op->text_failed) op->completion.status = DW_E_FULL;
    uint32_t fits = op->text_size < op->request.len2 ? (uint32_t)op->text_size : op->request.len2;
    op->completion.result0 = (uint32_t)op->text_size;
    op->completion.result1 = op->job.n_generated;
    op->completion.result2 = (uint64_t)op->job.end_reason | (uint64_t)op->job.stop_index << 8;
    dw_status written = fits ? dw_door_write(door, op->request.ptr2, op->text, fits) : DW_OK;
    bool cut = op->text_failed || (op->request.len2 && fits < op->text_size);
    if (op->completion.status == DW_OK) op->completion.status = written != DW_OK ? written : cut ? DW_E_FULL : DW_OK;
}

void dw_job_deliver(dw_door *door, dw_operation *op, bool to_guest) {
    dw_door_counts *counts = &door->counts;
    op->completion.status = op->job.status;
    counts->tokens_evaluated += op->job.n_evaluated;
    counts->tokens_generated += op->job.n_generated;
    counts->tokens_shared += op->job.n_shared;
    counts->copied_bytes += op->job.copied_bytes;
    counts->model_ns += op->job.prefill_ns + op->job.decode_ns;
    if (op->job.status != DW_OK && op->job.status != DW_E_CANCELLED) {
        dw_log(DW_LOG_WARN, "job", "actor=%s status=%s reason=%s", door->options.name, dw_status_name(op->job.status),
               op->job.error.text);
    }
    if (!to_guest) return;
    if (op->job.kind == DW_JOB_FORWARD) deliver_forward(door, op);
    else if (op->job.kind == DW_JOB_EMBED) dw_embed_deliver(op);
    else deliver_generate(door, op, dw_park_interrupted(door->port->park));
}

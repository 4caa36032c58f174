/* operations_model.c: forward and generate: from the guest's records to a job of the engine, and back.
 *
 * Everything is copied and checked when the request is taken. Logits go straight into guest memory, which is lent for that long; all other
 * results are small, wait in the operation, and are written when the completion is delivered. */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

enum { LOGITS_ALIGN = 64 };

dw_status dw_tokens_copy_in(dw_guest_memory *memory, operation *op) {
    uint32_t n = op->request.len0;
    if (n > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    if (n == 0) return DW_OK;
    void *place;
    dw_status status = dw_guest_view(memory, op->request.ptr0, (uint64_t)n * sizeof *op->tokens, sizeof *op->tokens, &place);
    if (status != DW_OK) return status;
    status = dw_port_charge(op->port, op, n * sizeof *op->tokens);
    if (status != DW_OK) return status;
    op->tokens = malloc(n * sizeof *op->tokens);
    if (!op->tokens) return DW_E_NO_MEMORY;
    memcpy(op->tokens, place, n * sizeof *op->tokens);
    return DW_OK;
}

/* 0 stands for "off" in the guest's options. */
static dw_status sampling_of(const dw_sampling_options *options, dw_sampling *out) {
    *out = (dw_sampling){.temperature = options->temperature, .top_p = options->top_p, .min_p = options->min_p, .top_k = options->top_k};
    if (options->top_p == 0.0f) out->top_p = 1.0f; /* exactly the zero of an untouched field */
    return dw_sampling_check(out, NULL);
}

/* --- forward: rows ------------------------------------------------------------------------------------------- */

/* The guest's place for n elements of a kind of result must be there; the same is asked again when it is written. */
static dw_status check_place(const dw_guest_memory *memory, uint32_t ptr, uint64_t n, uint64_t element, uint32_t align) {
    void *ignored;
    return ptr == 0 ? DW_OK : dw_guest_view(memory, ptr, n * element, align, &ignored);
}

static bool fields_agree(const dw_row *wanted) {
    if (wanted->reserved[0] || wanted->reserved[1] || (wanted->flags & ~(uint32_t)DW_ROW_SAMPLE)) return false;
    if ((wanted->top == 0) != (wanted->n_top == 0)) return false;
    if ((wanted->candidates == 0) != (wanted->n_candidates == 0) || (wanted->candidates == 0) != (wanted->candidate_logprobs == 0)) return false;
    return ((wanted->flags & DW_ROW_SAMPLE) != 0) == (wanted->sampled != 0);
}

static dw_status row_buffers(const dw_guest_memory *memory, operation *op, row_result *row, dw_row_request *request) {
    const dw_row *wanted = &row->wanted;
    /* Many rows may name the same few bytes of the guest: what it wants says nothing about what it has. */
    dw_status charged = dw_port_charge(op->port, op, wanted->n_top * sizeof *row->top +
                                                         wanted->n_candidates * (sizeof *row->candidates + sizeof *row->candidate_logprobs));
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
        dw_status status = dw_guest_read(memory, wanted->candidates, row->candidates, wanted->n_candidates * sizeof *row->candidates);
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

static dw_status row_copy_in(const dw_guest_memory *memory, uint32_t n_vocab, operation *op, row_result *row, dw_row_request *request) {
    const dw_row *wanted = &row->wanted;
    if (!fields_agree(wanted)) return DW_E_INVALID;
    if (wanted->n_top > DW_TOP_K_MAX || wanted->n_candidates > DW_CANDIDATES_MAX) return DW_E_LIMIT;
    dw_status status = check_place(memory, wanted->top, wanted->n_top, sizeof(dw_scored_token), 4);
    if (status == DW_OK) status = check_place(memory, wanted->candidates, wanted->n_candidates, sizeof(int32_t), 4);
    if (status == DW_OK) status = check_place(memory, wanted->candidate_logprobs, wanted->n_candidates, sizeof(float), 4);
    if (status == DW_OK) status = check_place(memory, wanted->entropy, 1, sizeof(float), 4);
    if (status == DW_OK) status = check_place(memory, wanted->sampled, 1, sizeof(dw_scored_token), 4);
    if (status == DW_OK && wanted->logits) {
        void *logits;
        status = dw_guest_view(memory, wanted->logits, (uint64_t)n_vocab * sizeof(float), LOGITS_ALIGN, &logits);
        if (status == DW_OK) request->logits = logits;
    }
    if (status != DW_OK) return status;
    request->index = wanted->index == DW_ROW_OF_LAST ? DW_ROW_LAST : wanted->index;
    return row_buffers(memory, op, row, request);
}

/* Lends the pages from the first to the last byte of all rows' logits. The rows count as written from here on: a device may write them
 * unseen by page tracking, also when its job fails. */
static dw_status lend_logits(dw_guest_memory *memory, uint32_t n_vocab, operation *op) {
    uint64_t first = UINT64_MAX, end = 0;
    for (uint32_t i = 0; i < op->job.n_rows; i++) {
        uint64_t at = op->rows[i].wanted.logits;
        if (at == 0) continue;
        dw_status touched = dw_region_touch(dw_guest_region(memory), at, (uint64_t)n_vocab * sizeof(float));
        if (touched != DW_OK) return touched;
        first = dw_min_u64(first, at);
        end = dw_max_u64(end, at + (uint64_t)n_vocab * sizeof(float));
    }
    if (end == 0) return DW_OK;
    uint64_t page = dw_os_page_bytes();
    first = dw_round_down_u64(first, page);
    if (!dw_round_up_u64(end, page, &end)) return DW_E_RANGE;
    dw_status status = dw_region_lend(dw_guest_region(memory), first, end - first, &op->lent, NULL);
    op->window = status == DW_OK;
    return status;
}

dw_status dw_forward_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    uint32_t n_rows = op->request.len1;
    if (n_rows > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    void *records;
    dw_status status = dw_guest_view(memory, op->request.ptr1, (uint64_t)n_rows * sizeof(dw_row), 4, &records);
    if (status == DW_OK) status = dw_tokens_copy_in(memory, op);
    if (status != DW_OK) return status;
    uint32_t n_vocab = dw_model_info_view(dw_actor_get_session(actor, op->session)->model->model)->n_vocab;
    if (n_rows) {
        status = dw_port_charge(op->port, op, n_rows * (sizeof *op->rows + sizeof *op->row_requests));
        if (status != DW_OK) return status;
        op->rows = calloc(n_rows, sizeof *op->rows);
        op->row_requests = calloc(n_rows, sizeof *op->row_requests);
        if (!op->rows || !op->row_requests) return DW_E_NO_MEMORY;
    }
    op->job = (dw_job){.kind = DW_JOB_FORWARD, .tokens = op->tokens, .n_tokens = op->request.len0, .rows = op->row_requests, .n_rows = n_rows};
    for (uint32_t i = 0; i < n_rows && status == DW_OK; i++) {
        memcpy(&op->rows[i].wanted, (const uint8_t *)records + i * sizeof(dw_row), sizeof(dw_row));
        status = row_copy_in(memory, n_vocab, op, &op->rows[i], &op->row_requests[i]);
    }
    return status == DW_OK ? lend_logits(memory, n_vocab, op) : status;
}

/* --- generate ------------------------------------------------------------------------------------------------ */

static dw_status copy_stop(const dw_guest_memory *memory, const dw_text *text, char **out) {
    if (text->len == 0) return DW_E_INVALID;
    if (text->len > DW_STOP_STRING_BYTES_MAX) return DW_E_LIMIT;
    char *stop = calloc(1, text->len + 1u);
    if (!stop) return DW_E_NO_MEMORY;
    *out = stop;
    dw_status status = dw_guest_read(memory, text->ptr, stop, text->len);
    if (status == DW_OK && memchr(stop, 0, text->len)) status = DW_E_INVALID;
    return status;
}

static dw_status copy_stops(const dw_guest_memory *memory, operation *op) {
    uint32_t n = op->generate.n_stops;
    if (n > DW_STOP_STRINGS_MAX) {
        op->generate.n_stops = 0; /* nothing was copied: nothing to free */
        return DW_E_LIMIT;
    }
    if (n == 0) return DW_OK;
    dw_text texts[DW_STOP_STRINGS_MAX];
    op->stops = calloc(n, sizeof *op->stops);
    if (!op->stops) return DW_E_NO_MEMORY;
    dw_status status = dw_guest_read(memory, op->generate.stops, texts, n * sizeof texts[0]);
    for (uint32_t i = 0; i < n && status == DW_OK; i++) status = copy_stop(memory, &texts[i], &op->stops[i]);
    return status;
}

static bool keep_text(dw_job *job, const char *text, size_t size) {
    operation *op = job->context;
    return dw_port_append_text(op->port, op, text, size);
}

dw_status dw_generate_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)actor;
    const uint32_t known = (uint32_t)sizeof op->generate, least = 12; /* size, n_max and flags */
    if (op->request.len1 < least) return DW_E_INVALID;
    dw_status status = dw_guest_read(memory, op->request.ptr1, &op->generate, op->request.len1 < known ? op->request.len1 : known);
    if (status != DW_OK) return status;
    uint32_t size = op->generate.size;
    if (size < least || size > known || size > op->request.len1) {
        op->generate.n_stops = 0;
        return DW_E_INVALID;
    }
    memset((uint8_t *)&op->generate + size, 0, known - size); /* fields the program does not know are zero */
    if (op->generate.flags & ~(uint32_t)(DW_GENERATE_EMIT | DW_GENERATE_IGNORE_END)) status = DW_E_INVALID;
    if (op->generate.n_max == 0 || op->generate.n_max > DW_TURN_TOKENS_MAX) status = DW_E_RANGE;
    if (status != DW_OK) op->generate.n_stops = 0;
    if (status == DW_OK) status = check_place(memory, op->request.ptr2, op->request.len2, 1, 1);
    if (status == DW_OK) status = copy_stops(memory, op);
    if (status == DW_OK) status = dw_tokens_copy_in(memory, op);
    if (status != DW_OK) return status;
    op->job = (dw_job){.kind = DW_JOB_GENERATE, .tokens = op->tokens, .n_tokens = op->request.len0, .n_max = op->generate.n_max,
                       .stops = (const char *const *)op->stops, .n_stops = op->generate.n_stops,
                       .ignore_end = (op->generate.flags & DW_GENERATE_IGNORE_END) != 0, .on_text = keep_text};
    return sampling_of(&op->generate.sampling, &op->job.sampling);
}

/* --- the job ------------------------------------------------------------------------------------------------- */

/* Engine's thread. The length is taken now: a later request of the session may run before this one is delivered. */
static void job_done(dw_job *job) {
    operation *op = job->context;
    dw_session_tokens(job->session, &op->log_length);
    dw_port_done(op->port, op);
}

/* A job that adds no token to a session without pending ones computes the last row again (its logits are wanted), in another shape
 * than the first time: a row from before this turn has to be saved. */
static dw_status save_last_row(actor_session *session, const operation *op) {
    uint32_t n_tokens = 0;
    dw_session_tokens(session->session, &n_tokens);
    if (op->job.n_tokens > 0 || n_tokens == 0 || dw_session_rows(session->session) < n_tokens) return DW_OK;
    return dw_actor_save_session(session, n_tokens - 1, NULL);
}

dw_status dw_job_start(dw_actor *actor, operation *op) {
    actor_session *session = dw_actor_get_session(actor, op->session);
    if (!session) return DW_E_BAD_HANDLE; /* closed by a request before this one */
    dw_status status = save_last_row(session, op);
    if (status != DW_OK) return status;
    op->job.session = session->session;
    op->job.context = op;
    op->job.on_done = job_done;
    op->has_job = true;
    dw_error err;
    status = dw_engine_submit(actor->runtime->engine, &op->job, &err);
    if (status != DW_OK) {
        op->has_job = false;
        dw_log(DW_LOG_INFO, "job_refused", "actor=%s status=%s reason=%s", actor->name, dw_status_name(status), err.text);
    }
    return status;
}

void dw_operation_cancel(dw_actor *actor, operation *op) {
    dw_engine_cancel(actor->runtime->engine, &op->job);
}

/* --- delivery ------------------------------------------------------------------------------------------------ */

static dw_status write_if(dw_guest_memory *memory, uint32_t ptr, const void *data, uint64_t bytes) {
    return ptr ? dw_guest_write(memory, ptr, data, bytes) : DW_OK;
}

static dw_status deliver_row(dw_guest_memory *memory, const row_result *row, const dw_row_request *request) {
    _Static_assert(sizeof(dw_scored_token) == sizeof(dw_token_score), "the guest's and the host's scored token are the same 8 bytes");
    const dw_row *wanted = &row->wanted;
    dw_status status = write_if(memory, wanted->top, row->top, wanted->n_top * sizeof *row->top);
    if (status == DW_OK) {
        status = write_if(memory, wanted->candidate_logprobs, row->candidate_logprobs, wanted->n_candidates * sizeof *row->candidate_logprobs);
    }
    if (status == DW_OK) status = write_if(memory, wanted->entropy, &row->entropy, sizeof row->entropy);
    if (status == DW_OK) status = write_if(memory, wanted->sampled, &request->sampled, sizeof request->sampled);
    return status;
}

static void deliver_forward(dw_guest_memory *memory, operation *op) {
    /* Both: what a turn sees must not depend on who else is there (actor.h rule 2). */
    op->completion.result0 = op->job.n_evaluated + op->job.n_shared;
    op->completion.result1 = op->log_length;
    for (uint32_t i = 0; i < op->job.n_rows && op->completion.status == DW_OK; i++) {
        op->completion.status = deliver_row(memory, &op->rows[i], &op->row_requests[i]);
    }
}

static void deliver_generate(dw_guest_memory *memory, operation *op, bool interrupted) {
    /* The user asked for an end: what there is by now is the answer. Without a token made, the request's own are not in the log
     * either (job.h rule 3), and an answer would claim that they are. */
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
    dw_status written = fits ? dw_guest_write(memory, op->request.ptr2, op->text, fits) : DW_OK;
    bool cut = op->text_failed || (op->request.len2 && fits < op->text_size);
    if (op->completion.status == DW_OK) op->completion.status = written != DW_OK ? written : cut ? DW_E_FULL : DW_OK;
}

static void deliver_embed(operation *op) {
    op->completion.result1 = op->job.n_evaluated;
    op->completion.result2 = dw_model_info_view(op->job.model)->context_tokens;
}

void dw_job_deliver(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    op->completion.status = op->job.status;
    if (actor->result) {
        actor->result->tokens_evaluated += op->job.n_evaluated;
        actor->result->tokens_generated += op->job.n_generated;
        actor->result->tokens_shared += op->job.n_shared;
        actor->result->copied_bytes += op->job.copied_bytes;
        actor->result->model_ns += op->job.prefill_ns + op->job.decode_ns;
    }
    if (op->job.status != DW_OK && op->job.status != DW_E_CANCELLED) {
        dw_log(DW_LOG_WARN, "job", "actor=%s status=%s reason=%s", actor->name, dw_status_name(op->job.status), op->job.error.text);
    }
    if (!memory) return;
    if (op->job.kind == DW_JOB_FORWARD) deliver_forward(memory, op);
    else if (op->job.kind == DW_JOB_EMBED) deliver_embed(op);
    else deliver_generate(memory, op, atomic_load(&actor->interrupted));
}

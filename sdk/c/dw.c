/* dw.c: plain functions over the one door, dw_enter. See dw.h.
 *
 * Blocking calls may be mixed with submitted requests, so a blocking call can meet completions that are not its own. It tells them apart by
 * user_data: the SDK's own requests carry OWN_CALL and a serial number. Foreign completions go to a queue, from where dw_wait takes them.
 * The queue cannot overflow: dw_submit refuses what it could not hold. */
#include "dw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWN_CALL DW_USER_DATA_END

enum { BATCH = 16 }; /* completions fetched at once */

static struct {
    uint32_t under_way; /* submitted by the program, completion not fetched yet */
    uint32_t first, n_ready;
    dw_completion ready[DW_SUBMITTED_MAX]; /* ring: fetched, not yet asked for */
    uint64_t serial;    /* of the SDK's own requests */
} door;

#ifdef __wasm__
__attribute__((export_name("driftwood_receive")))
#endif
int32_t driftwood_receive(void) {
    int32_t status = dw_receive();
    /* The host cancels what is still under way at the end of a turn and delivers nothing of it. */
    door.under_way = 0;
    door.n_ready = 0;
    return status;
}

/* --- the door ------------------------------------------------------------------------------------------------ */

static void keep_for_later(const dw_completion *completion) {
    if (completion->user_data & OWN_CALL) return; /* of a call that was given up: nobody waits for it */
    door.ready[(door.first + door.n_ready) % DW_SUBMITTED_MAX] = *completion;
    door.n_ready++;
    door.under_way--;
}

/* Files a batch; returns how many of it belong to the call whose serial numbers begin at `base`. */
static uint32_t sort_batch(const dw_completion *batch, uint32_t n_batch, uint64_t base, uint32_t n, dw_completion *completions) {
    uint32_t n_own = 0;
    for (uint32_t i = 0; i < n_batch; i++) {
        uint64_t index = batch[i].user_data - base;
        if (index < n) {
            completions[index] = batch[i];
            n_own++;
        } else {
            keep_for_later(&batch[i]);
        }
    }
    return n_own;
}

static int32_t first_failure(const dw_completion *completions, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (completions[i].status < 0) return completions[i].status;
    }
    return DW_OK;
}

int32_t dw_call_all(dw_request *requests, uint32_t n, dw_completion *completions) {
    uint64_t base = OWN_CALL | door.serial;
    door.serial += n;
    for (uint32_t i = 0; i < n; i++) {
        requests[i].user_data = base + i;
        completions[i] = (dw_completion){.user_data = base + i, .status = DW_E_INTERNAL};
    }
    dw_completion batch[BATCH];
    uint32_t n_new = n;
    for (uint32_t left = n; left > 0;) {
        /* At least `left` have to complete before ours all are, so waiting for fewer would only wake us in vain. */
        int32_t got = dw_enter(requests, n_new, batch, BATCH, left < BATCH ? left : BATCH, -1);
        if (got < 0) {
            for (uint32_t i = 0; i < n; i++) {
                if (completions[i].status == DW_E_INTERNAL) completions[i].status = got;
            }
            return got;
        }
        n_new = 0;
        left -= sort_batch(batch, (uint32_t)got, base, n, completions);
    }
    return first_failure(completions, n);
}

int32_t dw_call(const dw_request *request, dw_completion *out) {
    dw_request copy = *request;
    dw_completion completion;
    int32_t status = dw_call_all(&copy, 1, &completion);
    if (out) *out = completion;
    return status;
}

int32_t dw_submit(const dw_request *requests, uint32_t n) {
    if (n > DW_SUBMITTED_MAX - door.under_way - door.n_ready) return DW_E_LIMIT;
    for (uint32_t i = 0; i < n; i++) {
        if (requests[i].user_data >= DW_USER_DATA_END) return DW_E_INVALID;
    }
    /* No deadline: it would cancel requests that lend memory, and with wait = 0 nothing else is waited for. */
    int32_t status = dw_enter(requests, n, NULL, 0, 0, -1);
    if (status < 0) return status;
    door.under_way += n;
    return DW_OK;
}

int32_t dw_wait(dw_completion *out, int64_t timeout_ns) {
    while (door.n_ready == 0) {
        if (door.under_way == 0) return DW_E_NOT_FOUND;
        dw_completion completion;
        int32_t got = dw_enter(NULL, 0, &completion, 1, timeout_ns == 0 ? 0 : 1, timeout_ns);
        if (got < 0) return got;
        if (got == 0) return DW_E_DEADLINE;
        keep_for_later(&completion);
    }
    *out = door.ready[door.first];
    door.first = (door.first + 1) % DW_SUBMITTED_MAX;
    door.n_ready--;
    return DW_OK;
}

int32_t dw_cancel(uint64_t user_data, uint32_t *n) {
    dw_completion completion;
    int32_t status = dw_call(&(dw_request){.op = DW_OP_CANCEL, .arg0 = user_data}, &completion);
    if (status == DW_OK && n) *n = completion.result0;
    return status;
}

/* --- the turn ------------------------------------------------------------------------------------------------ */

const char *dw_status_text(int32_t status) {
    switch (status) {
    case DW_OK: return "ok";
    case DW_E_INVALID: return "invalid argument";
    case DW_E_RANGE: return "value or address out of range";
    case DW_E_NOT_FOUND: return "not found";
    case DW_E_EXISTS: return "already exists";
    case DW_E_BUSY: return "in use by an operation that has not ended";
    case DW_E_LIMIT: return "a configured limit is reached";
    case DW_E_STATE: return "not possible in the present state";
    case DW_E_UNSUPPORTED: return "not supported";
    case DW_E_DENIED: return "not permitted";
    case DW_E_CANCELLED: return "cancelled";
    case DW_E_DEADLINE: return "deadline passed";
    case DW_E_MISMATCH: return "belongs to another program, model or build";
    case DW_E_VERSION: return "written by a newer version";
    case DW_E_BAD_HANDLE: return "handle is forged, closed or of another kind";
    case DW_E_TRAP: return "the guest trapped";
    case DW_E_FULL: return "no room left (context, queue or buffer)";
    case DW_E_EXIT: return "the guest called proc_exit";
    case DW_E_NO_MEMORY: return "out of memory";
    case DW_E_IO: return "input or output failed";
    case DW_E_SYSTEM: return "a system call failed";
    case DW_E_DEVICE: return "the device failed";
    case DW_E_NO_SPACE: return "no space left on device";
    case DW_E_INTERNAL: return "internal error, please report it";
    case DW_E_CORRUPT: return "data is corrupt";
    case DW_E_TRUNCATED: return "data ends too early";
    case DW_E_HASH: return "hash does not match";
    case DW_E_FORMAT: return "not in the expected format";
    default: return "unknown status";
    }
}

/* The message's size and the number of the turn; at most `capacity` bytes to `buffer`. */
static int32_t read_message(char *buffer, uint32_t capacity, dw_completion *out) {
    return dw_call(&(dw_request){.op = DW_OP_MESSAGE, .ptr0 = dw_address(buffer), .len0 = capacity}, out);
}

int32_t dw_message(char *buffer, uint32_t capacity, uint32_t *size) {
    if (capacity == 0) return DW_E_INVALID;
    dw_completion completion;
    int32_t status = read_message(buffer, capacity - 1, &completion);
    if (status < 0) return status;
    bool fits = completion.result0 < capacity;
    buffer[fits ? completion.result0 : capacity - 1] = '\0';
    if (size) *size = completion.result0;
    return fits ? DW_OK : DW_E_FULL;
}

char *dw_message_copy(uint32_t *size) {
    dw_completion completion;
    if (read_message(NULL, 0, &completion) < 0) return NULL;
    size_t capacity = (size_t)completion.result0 + 1;
    char *text = malloc(capacity);
    if (text && dw_message(text, (uint32_t)capacity, size) < 0) {
        free(text);
        text = NULL;
    }
    return text;
}

int32_t dw_turn_number(uint64_t *turn) {
    dw_completion completion;
    int32_t status = read_message(NULL, 0, &completion);
    if (status == DW_OK) *turn = completion.result1;
    return status;
}

static int32_t send_text(uint16_t op, uint64_t level, const void *data, uint32_t size) {
    return dw_call(&(dw_request){.op = op, .ptr0 = dw_address(data), .len0 = size, .arg0 = level}, NULL);
}

int32_t dw_reply(const void *data, uint32_t size) { return send_text(DW_OP_REPLY, 0, data, size); }
int32_t dw_reply_text(const char *text) { return dw_reply(text, (uint32_t)strlen(text)); }
int32_t dw_emit(const void *text, uint32_t size) { return send_text(DW_OP_EMIT, 0, text, size); }

static int32_t send_formatted(uint16_t op, const char *format, va_list arguments) {
    char text[DW_FORMATTED_BYTES_MAX + 1];
    int n = vsnprintf(text, sizeof text, format, arguments);
    if (n < 0) return DW_E_INVALID;
    if ((size_t)n >= sizeof text) return DW_E_FULL;
    return send_text(op, 0, text, (uint32_t)n);
}

int32_t dw_replyf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int32_t status = send_formatted(DW_OP_REPLY, format, arguments);
    va_end(arguments);
    return status;
}

int32_t dw_emitf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int32_t status = send_formatted(DW_OP_EMIT, format, arguments);
    va_end(arguments);
    return status;
}

int32_t dw_log(enum dw_log_level level, const char *format, ...) {
    char text[DW_FORMATTED_BYTES_MAX + 1];
    va_list arguments;
    va_start(arguments, format);
    int n = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (n < 0) return DW_E_INVALID;
    uint32_t size = (uint32_t)n;
    return send_text(DW_OP_LOG, (uint64_t)level, text, size < sizeof text ? size : DW_FORMATTED_BYTES_MAX);
}

bool dw_interrupted(void) {
    dw_completion completion;
    int32_t status = dw_call(&(dw_request){.op = DW_OP_INTERRUPTED}, &completion);
    return status == DW_OK && completion.result0 != 0;
}

dw_request dw_sleep_request(uint64_t nanoseconds) { return (dw_request){.op = DW_OP_SLEEP, .arg0 = nanoseconds}; }

int32_t dw_sleep(uint64_t nanoseconds) {
    dw_request request = dw_sleep_request(nanoseconds);
    return dw_call(&request, NULL);
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

int32_t dw_session_open(const char *model, uint64_t seed, uint16_t flags, dw_session *out) {
    dw_request request = {.op = DW_OP_SESSION_OPEN, .flags = flags, .arg0 = seed};
    if (model) {
        request.ptr0 = dw_address(model);
        request.len0 = (uint32_t)strlen(model);
    }
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status < 0) return status;
    *out = (dw_session){
        .handle = completion.result0, .context_tokens = (uint32_t)completion.result1, .n_vocab = (uint32_t)completion.result2};
    return DW_OK;
}

int32_t dw_session_close(dw_session *session) {
    if (session->handle == 0) return DW_OK;
    int32_t status = dw_call(&(dw_request){.op = DW_OP_SESSION_CLOSE, .handle = session->handle}, NULL);
    session->handle = 0;
    return status;
}

int32_t dw_session_length(const dw_session *session, uint32_t *n_tokens, uint32_t *n_rows) {
    dw_completion completion;
    int32_t status = dw_call(&(dw_request){.op = DW_OP_SESSION_LENGTH, .handle = session->handle}, &completion);
    if (status < 0) return status;
    *n_tokens = completion.result0;
    if (n_rows) *n_rows = (uint32_t)completion.result1;
    return DW_OK;
}

int32_t dw_session_tokens(const dw_session *session, uint32_t first, int32_t *out, uint32_t n, uint32_t *copied) {
    dw_request request = {
        .op = DW_OP_SESSION_TOKENS, .handle = session->handle, .ptr0 = dw_address(out), .len0 = n, .arg0 = first};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status == DW_OK) *copied = completion.result0;
    return status;
}

int32_t dw_session_rewind(const dw_session *session, uint32_t n_tokens) {
    return dw_call(&(dw_request){.op = DW_OP_SESSION_REWIND, .handle = session->handle, .arg0 = n_tokens}, NULL);
}

int32_t dw_session_fork(const dw_session *session, dw_session *out) {
    dw_completion completion;
    int32_t status = dw_call(&(dw_request){.op = DW_OP_SESSION_FORK, .handle = session->handle}, &completion);
    if (status < 0) return status;
    *out = *session;
    out->handle = completion.result0;
    return DW_OK;
}

int32_t dw_session_sync(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint32_t *n_reused) {
    dw_request request = {.op = DW_OP_SESSION_SYNC, .handle = session->handle, .ptr0 = dw_address(tokens), .len0 = n_tokens};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status == DW_OK && n_reused) *n_reused = completion.result0;
    return status;
}

/* --- text ---------------------------------------------------------------------------------------------------- */

int32_t dw_tokenize(const dw_session *session, const char *text, uint32_t size, uint16_t flags, int32_t *out, uint32_t capacity,
                    uint32_t *n) {
    dw_request request = {.op = DW_OP_TOKENIZE, .flags = flags, .handle = session->handle, .ptr0 = dw_address(text), .len0 = size,
                          .ptr1 = dw_address(out), .len1 = capacity};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status == DW_OK || status == DW_E_FULL) *n = completion.result0;
    return status;
}

int32_t dw_detokenize(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint16_t flags, char *out, uint32_t capacity,
                      uint32_t *size) {
    if (capacity == 0) return DW_E_INVALID;
    dw_request request = {.op = DW_OP_DETOKENIZE, .flags = flags, .handle = session->handle, .ptr0 = dw_address(tokens),
                          .len0 = n_tokens, .ptr1 = dw_address(out), .len1 = capacity - 1};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if ((status == DW_OK || status == DW_E_FULL) && size) *size = completion.result0;
    if (status == DW_OK) out[completion.result0] = '\0';
    return status;
}

int32_t dw_token_info(const dw_session *session, int32_t token, uint32_t *flags) {
    if (token < 0) return DW_E_RANGE; /* -1 would ask for the special tokens */
    dw_request request = {.op = DW_OP_TOKEN_INFO, .handle = session->handle, .arg0 = (uint32_t)token};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status == DW_OK) *flags = completion.result0;
    return status;
}

int32_t dw_special_tokens(const dw_session *session, int32_t *bos, int32_t *eos) {
    dw_request request = {.op = DW_OP_TOKEN_INFO, .handle = session->handle, .arg0 = UINT32_MAX};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status < 0) return status;
    if (bos) *bos = (int32_t)completion.result1;
    if (eos) *eos = (int32_t)completion.result2;
    return DW_OK;
}

/* --- forward ------------------------------------------------------------------------------------------------- */

dw_row dw_row_at(uint32_t index) { return (dw_row){.index = index}; }
dw_row dw_row_last(void) { return dw_row_at(DW_ROW_OF_LAST); }

void dw_row_logits(dw_row *row, float *logits) { row->logits = dw_address(logits); }

void dw_row_top(dw_row *row, dw_scored_token *top, uint32_t n) {
    row->top = dw_address(top);
    row->n_top = n;
}

void dw_row_candidates(dw_row *row, const int32_t *tokens, float *logprobs, uint32_t n) {
    row->candidates = dw_address(tokens);
    row->candidate_logprobs = dw_address(logprobs);
    row->n_candidates = n;
}

void dw_row_entropy(dw_row *row, float *nats) { row->entropy = dw_address(nats); }

void dw_row_sample(dw_row *row, dw_sampling_options sampling, dw_scored_token *sampled) {
    row->flags |= DW_ROW_SAMPLE;
    row->sampling = sampling;
    row->sampled = dw_address(sampled);
}

dw_request dw_forward_request(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows, uint32_t n_rows) {
    return (dw_request){.op = DW_OP_FORWARD, .handle = session->handle, .ptr0 = dw_address(tokens), .len0 = n_tokens,
                        .ptr1 = dw_address(rows), .len1 = n_rows};
}

int32_t dw_forward(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows, uint32_t n_rows) {
    dw_request request = dw_forward_request(session, tokens, n_tokens, rows, n_rows);
    return dw_call(&request, NULL);
}

int32_t dw_forward_and_hold(const dw_session *session, const int32_t *tokens, uint32_t n_tokens, const dw_row *rows,
                            uint32_t n_rows) {
    dw_request request = dw_forward_request(session, tokens, n_tokens, rows, n_rows);
    request.flags = DW_FLAG_HOLD;
    return dw_call(&request, NULL);
}

/* --- generate ------------------------------------------------------------------------------------------------ */

dw_generation dw_generation_defaults(void) {
    return (dw_generation){.n_max = 256, .sampling = {.temperature = 0.7f, .top_p = 0.95f, .top_k = 40}};
}

dw_request dw_generate_request(const dw_session *session, dw_generation *generation) {
    dw_generation *g = generation;
    /* Too many stops are passed on as they are, without texts, for the host to refuse: a builder has no way to fail. */
    uint32_t n_texts = g->n_stops <= DW_STOPS_MAX ? g->n_stops : 0;
    for (uint32_t i = 0; i < n_texts; i++) {
        g->stops_[i] = (dw_text){.ptr = dw_address(g->stops[i]), .len = (uint32_t)strlen(g->stops[i])};
    }
    uint32_t flags = (g->emit ? (uint32_t)DW_GENERATE_EMIT : 0) | (g->ignore_end ? (uint32_t)DW_GENERATE_IGNORE_END : 0);
    g->options_ = (dw_generate_options){.size = sizeof g->options_, .n_max = g->n_max, .flags = flags,
                                        .stops = g->n_stops > 0 ? dw_address(g->stops_) : 0, .n_stops = g->n_stops,
                                        .sampling = g->sampling};
    return (dw_request){.op = DW_OP_GENERATE, .handle = session->handle, .ptr0 = dw_address(g->tokens), .len0 = g->n_tokens,
                        .ptr1 = dw_address(&g->options_), .len1 = sizeof g->options_,
                        .ptr2 = dw_address(g->text), .len2 = g->text_capacity > 0 ? g->text_capacity - 1 : 0};
}

int32_t dw_generation_take(dw_generation *generation, const dw_completion *completion) {
    /* A failed generation has its results too: what was made before it was cancelled, or before the text buffer was full. */
    uint32_t room = generation->text_capacity > 0 ? generation->text_capacity - 1 : 0;
    uint32_t made = completion->result0;
    generation->text_bytes = made < room ? made : room;
    generation->n_made = (uint32_t)completion->result1;
    generation->end = (uint32_t)(completion->result2 & 0xff);
    generation->stop_index = (uint32_t)(completion->result2 >> 8);
    if (generation->text_capacity > 0) generation->text[generation->text_bytes] = '\0';
    return completion->status;
}

int32_t dw_generate(const dw_session *session, dw_generation *generation) {
    if (generation->n_stops > DW_STOPS_MAX) return DW_E_LIMIT;
    dw_request request = dw_generate_request(session, generation);
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    (void)dw_generation_take(generation, &completion);
    return status;
}

/* --- embed --------------------------------------------------------------------------------------------------- */

dw_text dw_text_of(const char *text) { return (dw_text){.ptr = dw_address(text), .len = (uint32_t)strlen(text)}; }

int32_t dw_embed(dw_embedding *embedding) {
    dw_embedding *e = embedding;
    uint32_t flags = (e->raw ? 0 : (uint32_t)DW_EMBED_NORMALIZE) | (e->are_tokens ? (uint32_t)DW_EMBED_TOKENS : 0);
    dw_embed_options options = {.size = sizeof options, .flags = flags, .pooling = e->pooling, .texts = dw_address(e->texts), .n_texts = e->n_texts};
    if (e->model) {
        options.model = dw_address(e->model);
        options.model_len = (uint32_t)strlen(e->model);
    }
    dw_request request = {.op = DW_OP_EMBED, .ptr0 = dw_address(&options), .len0 = sizeof options, .ptr1 = dw_address(e->vectors), .len1 = e->capacity};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    e->dimensions = completion.result0;
    e->n_tokens = (uint32_t)completion.result1;
    e->context_tokens = (uint32_t)completion.result2;
    return status;
}

float dw_dot(const float *a, const float *b, uint32_t n) {
    float sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

/* --- compute ------------------------------------------------------------------------------------------------- */

dw_tensor dw_matrix(const float *data, uint32_t rows, uint32_t columns) {
    return (dw_tensor){.ptr = dw_address(data), .type = DW_TENSOR_F32, .columns = columns, .rows = rows};
}

int32_t dw_compute(dw_computation *computation) {
    dw_computation *c = computation;
    dw_compute_options options = {.size = sizeof options, .tensors = dw_address(c->tensors), .n_tensors = c->n_tensors,
                                  .nodes = dw_address(c->nodes), .n_nodes = c->n_nodes};
    if (c->device) {
        options.device = dw_address(c->device);
        options.device_len = (uint32_t)strlen(c->device);
    }
    dw_request request = {.op = DW_OP_COMPUTE, .flags = c->copy ? DW_FLAG_COPY : 0, .ptr0 = dw_address(&options),
                          .len0 = sizeof options};
    dw_completion completion;
    int32_t status = dw_call(&request, &completion);
    if (status < 0) return status;
    c->compute_ns = completion.result1;
    c->copied_bytes = completion.result2;
    return DW_OK;
}

/* fake_host.c: see fake_host.h. Order of the file: guest pointers, the model, the operations, the door, what tests look at. */
#include "programs/fake_host.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "dw.h"

enum { SESSIONS_MAX = 64, LOG_MAX = 16384, OUTSTANDING_MAX = 1024, RULES_MAX = 32, TEXT_MAX = 65536 };

typedef struct session {
    bool open;
    uint64_t seed;
    uint32_t context, n_tokens, n_rows;
    int32_t *log;
    bool held;        /* the logits of the last token */
    uint64_t free_ns; /* when the last request of it is done: those of one session are done in order */
} session;

typedef struct operation {
    dw_request request;
    dw_completion completion;
    bool done, window;
    uint64_t start_ns, due_ns;
    /* copies of what the request points to */
    int32_t *tokens;
    dw_row *rows;
    dw_generate_options options;
    char *stops[DW_STOPS_MAX];
    char *text; /* made by a generation; delivered with the completion */
} operation;

typedef struct rule { const char *cue, *text; float logit; } rule;

typedef struct growing { char bytes[TEXT_MAX]; uint32_t size; } growing;

static struct {
    session sessions[SESSIONS_MAX];
    operation *outstanding[OUTSTANDING_MAX];
    uint32_t n_outstanding;
    rule rules[RULES_MAX];
    uint32_t n_rules, context;
    uint64_t now_ns, turn;
    bool spoil;
    /* of the turn */
    const char *message;
    growing reply, emitted, logged, log_text;
    uint32_t enters, left, evaluated, forwards_max, made, interrupt_after;
    bool may_interrupt;
    dw_sampling_options sampling;
} host;

/* --- guest pointers ------------------------------------------------------------------------------------------ */

/* Guest addresses have 32 bits, native ones 64. A guest address is (number of a 1 MiB piece of the native address space, offset in it):
 * pieces are numbered as they turn up. Zero stays zero, and alignment stays what it is. */
enum { PIECE_BITS = 20, PIECES_MAX = 4096 };
static uintptr_t pieces[PIECES_MAX];

uint32_t dw_address(const void *pointer) {
    uintptr_t piece = (uintptr_t)pointer >> PIECE_BITS;
    if (piece == 0) return 0;
    uint32_t number = 1;
    while (number < PIECES_MAX && pieces[number] != 0 && pieces[number] != piece) number++;
    if (number == PIECES_MAX) abort();
    pieces[number] = piece;
    return number << PIECE_BITS | (uint32_t)((uintptr_t)pointer & ((1u << PIECE_BITS) - 1));
}

/* NULL for an address that was never given out, or one that is not aligned. Lengths are for the sanitizer to check. */
static void *resolve(uint32_t address, uint32_t align) {
    uint32_t number = address >> PIECE_BITS;
    if (number == 0 || pieces[number] == 0 || address % align != 0) return NULL;
    return (void *)(pieces[number] << PIECE_BITS | (address & ((1u << PIECE_BITS) - 1)));
}

/* As resolve, for an array that may be empty. */
static bool array_at(uint32_t address, uint32_t n, uint32_t align, void *out) {
    void *at = n ? resolve(address, align) : NULL;
    memcpy(out, &at, sizeof at);
    return at || n == 0;
}

/* A copy of n bytes at `address`; NULL when they are not there. Freed by the caller. */
static void *copy_of(uint32_t address, size_t n, uint32_t align) {
    const void *from = resolve(address, align);
    void *copy = from ? calloc(1, n + 1) : NULL;
    if (copy) memcpy(copy, from, n);
    return copy;
}

/* --- the model ----------------------------------------------------------------------------------------------- */

static bool ends_with(const session *s, uint32_t length, const char *cue, const char *text, size_t n_text) {
    size_t n_cue = strlen(cue), n = n_cue + n_text;
    if (n > length) return false;
    for (size_t i = 0; i < n; i++) {
        char c = i < n_cue ? cue[i] : text[i - n_cue];
        if (s->log[length - n + i] != (unsigned char)c) return false;
    }
    return true;
}

/* Logits after the first `length` tokens of the log. */
static void logits_at(const session *s, uint32_t length, float out[FAKE_VOCAB]) {
    memset(out, 0, FAKE_VOCAB * sizeof out[0]);
    out[FAKE_EOS] = 1;
    for (uint32_t r = 0; r < host.n_rules; r++) {
        const rule *known = &host.rules[r];
        for (size_t n = 0; known->text[n]; n++) {
            unsigned char next = (unsigned char)known->text[n];
            if (ends_with(s, length, known->cue, known->text, n) && out[next] < known->logit) out[next] = known->logit;
        }
    }
}

static float log_sum(const float logits[FAKE_VOCAB]) {
    double sum = 0;
    for (uint32_t i = 0; i < FAKE_VOCAB; i++) sum += exp((double)logits[i]);
    return (float)log(sum);
}

static int by_logprob(const void *a, const void *b) {
    const dw_scored_token *x = a, *y = b;
    if (x->logprob != y->logprob) return x->logprob < y->logprob ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

static void likeliest(const float logits[FAKE_VOCAB], dw_scored_token out[FAKE_VOCAB]) {
    float sum = log_sum(logits);
    for (int32_t i = 0; i < FAKE_VOCAB; i++) out[i] = (dw_scored_token){.token = i, .logprob = logits[i] - sum};
    qsort(out, FAKE_VOCAB, sizeof out[0], by_logprob);
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

static session *session_of(uint32_t handle) {
    uint32_t index = handle - FAKE_FIRST_HANDLE;
    return index < SESSIONS_MAX && host.sessions[index].open ? &host.sessions[index] : NULL;
}

static int32_t new_session(session **out, uint32_t *handle) {
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) {
        if (host.sessions[i].open) continue;
        host.sessions[i] = (session){.open = true, .context = host.context, .log = calloc(LOG_MAX, sizeof(int32_t))};
        *out = &host.sessions[i];
        *handle = FAKE_FIRST_HANDLE + i;
        return DW_OK;
    }
    return DW_E_LIMIT;
}

static int32_t append(session *s, const int32_t *tokens, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || tokens[i] >= FAKE_VOCAB) return DW_E_RANGE;
    }
    if (s->n_tokens + n > s->context) return DW_E_FULL;
    if (n) memcpy(s->log + s->n_tokens, tokens, n * sizeof tokens[0]);
    s->held = s->held && n == 0;
    s->n_tokens += n;
    return DW_OK;
}

static uint32_t evaluate(session *s) {
    uint32_t n = s->n_tokens - s->n_rows;
    host.evaluated += n;
    s->n_rows = s->n_tokens;
    return n;
}

static void shorten(session *s, uint32_t n) {
    s->held = s->held && n == s->n_tokens;
    s->n_tokens = n;
    if (s->n_rows > n) s->n_rows = n;
}

/* --- operations that need no waiting --------------------------------------------------------------------------- */

static bool collect(growing *to, const char *text, uint32_t n) {
    if (n >= TEXT_MAX - to->size) return false;
    memcpy(to->bytes + to->size, text, n);
    to->size += n;
    to->bytes[to->size] = '\0';
    return true;
}

static bool interrupted(void) { return host.may_interrupt && host.made >= host.interrupt_after; }

static int32_t do_message(const dw_request *r, dw_completion *c) {
    uint32_t size = (uint32_t)strlen(host.message), n = r->len0 < size ? r->len0 : size;
    void *to;
    if (!array_at(r->ptr0, n, 1, &to)) return DW_E_RANGE;
    if (n) memcpy(to, host.message, n);
    c->result0 = size;
    c->result1 = host.turn;
    return DW_OK;
}

static int32_t do_text(growing *to, const dw_request *r) {
    const char *text;
    if (r->op == DW_OP_LOG && r->arg0 > DW_LOG_TRACE) return DW_E_INVALID;
    if (!array_at(r->ptr0, r->len0, 1, &text)) return DW_E_RANGE;
    return r->len0 == 0 || collect(to, text, r->len0) ? DW_OK : DW_E_FULL;
}

static int32_t do_open(const dw_request *r, dw_completion *c) {
    const char *name;
    if (!array_at(r->ptr0, r->len0, 1, &name)) return DW_E_RANGE;
    if (r->len0 && (r->len0 != 4 || memcmp(name, "fake", 4) != 0)) return DW_E_NOT_FOUND;
    session *s;
    int32_t status = new_session(&s, &c->result0);
    if (status < 0) return status;
    s->seed = r->arg0;
    c->result1 = s->context;
    c->result2 = FAKE_VOCAB;
    return DW_OK;
}

static int32_t do_fork(const session *s, dw_completion *c) {
    session *child;
    int32_t status = new_session(&child, &c->result0);
    if (status < 0) return status;
    memcpy(child->log, s->log, s->n_tokens * sizeof s->log[0]);
    child->seed = s->seed;
    child->context = s->context;
    child->n_tokens = s->n_tokens;
    child->n_rows = s->n_rows;
    child->held = s->held;
    return DW_OK;
}

static int32_t do_sync(session *s, const dw_request *r, dw_completion *c) {
    const int32_t *tokens;
    uint32_t same = 0;
    if (!array_at(r->ptr0, r->len0, 4, &tokens)) return DW_E_RANGE;
    while (same < r->len0 && same < s->n_tokens && s->log[same] == tokens[same]) same++;
    shorten(s, same);
    int32_t status = same < r->len0 ? append(s, tokens + same, r->len0 - same) : DW_OK;
    c->result0 = s->n_rows;
    c->result1 = s->n_tokens - s->n_rows;
    return status;
}

static int32_t do_session(session *s, const dw_request *r, dw_completion *c) {
    int32_t *to;
    switch (r->op) {
    case DW_OP_SESSION_CLOSE:
        free(s->log);
        *s = (session){0};
        return DW_OK;
    case DW_OP_SESSION_LENGTH:
        c->result0 = s->n_tokens;
        c->result1 = s->n_rows;
        c->result2 = s->context;
        return DW_OK;
    case DW_OP_SESSION_TOKENS:
        if (r->arg0 > s->n_tokens) return DW_E_RANGE;
        c->result0 = s->n_tokens - (uint32_t)r->arg0;
        if (c->result0 > r->len0) c->result0 = r->len0;
        if (!array_at(r->ptr0, c->result0, 4, &to)) return DW_E_RANGE;
        if (c->result0) memcpy(to, s->log + r->arg0, c->result0 * sizeof to[0]);
        return DW_OK;
    case DW_OP_SESSION_REWIND:
        if (r->arg0 > s->n_tokens) return DW_E_RANGE;
        shorten(s, (uint32_t)r->arg0);
        return DW_OK;
    case DW_OP_SESSION_FORK: return do_fork(s, c);
    default: return do_sync(s, r, c);
    }
}

static int32_t do_tokenize(const dw_request *r, dw_completion *c) {
    const unsigned char *text;
    int32_t *to;
    uint32_t special = r->flags & DW_FLAG_SPECIAL ? 1 : 0;
    if (!array_at(r->ptr0, r->len0, 1, &text) || !array_at(r->ptr1, r->len1, 4, &to)) return DW_E_RANGE;
    c->result0 = r->len0 + special;
    if (c->result0 > r->len1) return DW_E_FULL;
    if (special) to[0] = FAKE_BOS;
    for (uint32_t i = 0; i < r->len0; i++) to[special + i] = text[i];
    return DW_OK;
}

static int32_t do_detokenize(const dw_request *r, dw_completion *c) {
    const int32_t *tokens;
    char *to;
    if (!array_at(r->ptr0, r->len0, 4, &tokens) || !array_at(r->ptr1, r->len1, 1, &to)) return DW_E_RANGE;
    for (uint32_t i = 0; i < r->len0; i++) {
        if (tokens[i] < 0 || tokens[i] >= FAKE_VOCAB) return DW_E_RANGE;
        if (tokens[i] < FAKE_BOS) c->result0++;
    }
    if (c->result0 > r->len1) return DW_E_FULL;
    for (uint32_t i = 0; i < r->len0; i++) {
        if (tokens[i] < FAKE_BOS) *to++ = (char)tokens[i];
    }
    return DW_OK;
}

static int32_t do_token_info(const dw_request *r, dw_completion *c) {
    if (r->arg0 == UINT32_MAX) {
        c->result1 = FAKE_BOS;
        c->result2 = FAKE_EOS;
        return DW_OK;
    }
    if (r->arg0 >= FAKE_VOCAB) return DW_E_RANGE;
    if (r->arg0 >= FAKE_BOS) c->result0 = DW_TOKEN_CONTROL;
    if (r->arg0 == FAKE_EOS) c->result0 |= DW_TOKEN_END;
    return DW_OK;
}

/* A vector says how often its text has each of the letters a to h (a token counts as its character); FAKE_EMBED_CONTEXT of them at most. */
static int32_t embed_one(const dw_text *text, uint32_t flags, float *vector) {
    bool are_tokens = flags & DW_EMBED_TOKENS;
    const char *letters = NULL;
    const int32_t *tokens = NULL;
    bool there = are_tokens ? array_at(text->ptr, text->len, 4, &tokens) : array_at(text->ptr, text->len, 1, &letters);
    float length = 0;
    if (!there) return DW_E_RANGE;
    for (uint32_t i = 0; i < text->len; i++) {
        int32_t letter = are_tokens ? tokens[i] : letters[i];
        if (letter >= 'a' && letter < 'a' + FAKE_DIMENSIONS) vector[letter - 'a'] += 1;
    }
    for (uint32_t i = 0; i < FAKE_DIMENSIONS; i++) length += vector[i] * vector[i];
    for (uint32_t i = 0; i < FAKE_DIMENSIONS && length > 0 && (flags & DW_EMBED_NORMALIZE); i++) vector[i] /= sqrtf(length);
    return DW_OK;
}

static int32_t do_embed(const dw_request *r, dw_completion *c) {
    const dw_embed_options *options = resolve(r->ptr0, 4);
    const dw_text *texts;
    const char *model;
    if (!options || r->len0 != sizeof *options || options->size != sizeof *options || options->pooling > DW_EMBED_LAST) return DW_E_INVALID;
    if ((options->n_texts == 0) != (r->len1 == 0)) return DW_E_INVALID;
    if (!array_at(options->model, options->model_len, 1, &model) || !array_at(options->texts, options->n_texts, 4, &texts)) return DW_E_RANGE;
    if (options->model_len && (options->model_len != 5 || memcmp(model, "vague", 5) != 0)) return DW_E_NOT_FOUND;
    c->result0 = FAKE_DIMENSIONS;
    c->result2 = FAKE_EMBED_CONTEXT;
    if (options->n_texts == 0) return DW_OK;
    float *vectors = resolve(r->ptr1, 64);
    if (!vectors) return DW_E_INVALID;
    if (r->len1 < options->n_texts * FAKE_DIMENSIONS) return DW_E_RANGE;
    for (uint32_t i = 0; i < options->n_texts; i++) {
        if (texts[i].len > FAKE_EMBED_CONTEXT) {
            c->result1 = texts[i].len;
            return DW_E_FULL;
        }
        c->result1 += texts[i].len;
        memset(vectors + i * FAKE_DIMENSIONS, 0, FAKE_DIMENSIONS * sizeof *vectors);
        int32_t status = embed_one(&texts[i], options->flags, vectors + i * FAKE_DIMENSIONS);
        if (status < 0) return status;
    }
    return DW_OK;
}

static float run_node(const dw_node *node, const dw_tensor *tensors, float *const *data, uint32_t row, uint32_t column) {
    const dw_tensor *a = &tensors[node->a];
    if (node->op != DW_NODE_MUL_MAT) {
        size_t at = (size_t)row * a->columns + column;
        return node->op == DW_NODE_ADD ? data[node->a][at] + data[node->b][at] : data[node->a][at] * data[node->b][at];
    }
    float sum = 0;
    for (uint32_t k = 0; k < a->columns; k++) {
        sum += data[node->b][(size_t)row * a->columns + k] * data[node->a][(size_t)column * a->columns + k];
    }
    return sum;
}

/* Shapes are taken as given: that a wrong shape is refused is the real host's to test. */
static int32_t do_compute(const dw_request *r, dw_completion *c) {
    const dw_compute_options *options = resolve(r->ptr0, 4);
    const dw_tensor *tensors;
    const dw_node *nodes;
    const char *device;
    float *data[8];
    if (!options || r->len0 != sizeof *options || options->size != sizeof *options || options->n_tensors > 8) return DW_E_INVALID;
    if (!array_at(options->device, options->device_len, 1, &device) || !array_at(options->tensors, options->n_tensors, 4, &tensors)) {
        return DW_E_RANGE;
    }
    if (!array_at(options->nodes, options->n_nodes, 4, &nodes)) return DW_E_RANGE;
    if (options->device_len && (options->device_len != 3 || memcmp(device, "cpu", 3) != 0)) return DW_E_NOT_FOUND;
    for (uint32_t i = 0; i < options->n_tensors; i++) {
        if (tensors[i].type != DW_TENSOR_F32) return DW_E_UNSUPPORTED;
        data[i] = resolve(tensors[i].ptr, DW_TENSOR_ALIGN);
        if (!data[i]) return DW_E_INVALID;
    }
    for (uint32_t i = 0; i < options->n_nodes; i++) {
        const dw_tensor *out = &tensors[nodes[i].out];
        for (uint32_t at = 0; at < out->rows * out->columns; at++) {
            data[nodes[i].out][at] = run_node(&nodes[i], tensors, data, at / out->columns, at % out->columns);
        }
        if (host.spoil) data[nodes[i].out][0] += 1;
        host.spoil = false;
        c->result2 += r->flags & DW_FLAG_COPY ? out->rows * out->columns * sizeof(float) * 3 : 0;
    }
    c->result1 = 1;
    return DW_OK;
}

/* --- forward and generate -------------------------------------------------------------------------------------- */

static int32_t deliver_row(const session *s, const dw_row *row, uint32_t first) {
    float logits[FAKE_VOCAB];
    dw_scored_token ranked[FAKE_VOCAB];
    uint32_t length = row->index == DW_ROW_OF_LAST ? s->n_tokens : first + row->index + 1;
    logits_at(s, length, logits);
    likeliest(logits, ranked);
    float sum = log_sum(logits), entropy = 0, *to;
    dw_scored_token *top, *sampled = resolve(row->sampled, 4);
    const int32_t *candidates;
    if (!array_at(row->top, row->n_top, 4, &top) || !array_at(row->candidates, row->n_candidates, 4, &candidates)) return DW_E_RANGE;
    if (row->n_top > FAKE_VOCAB) return DW_E_RANGE;
    if (row->n_top) memcpy(top, ranked, row->n_top * sizeof top[0]);
    if (!array_at(row->candidate_logprobs, row->n_candidates, 4, &to)) return DW_E_RANGE;
    for (uint32_t i = 0; i < row->n_candidates; i++) {
        if (candidates[i] < 0 || candidates[i] >= FAKE_VOCAB) return DW_E_RANGE;
        to[i] = logits[candidates[i]] - sum;
    }
    if (row->logits) {
        if (!(to = resolve(row->logits, 64))) return DW_E_INVALID;
        memcpy(to, logits, sizeof logits);
    }
    for (uint32_t i = 0; i < FAKE_VOCAB; i++) entropy -= expf(ranked[i].logprob) * ranked[i].logprob;
    if (row->entropy && (to = resolve(row->entropy, 4))) *to = entropy;
    if ((row->flags & DW_ROW_SAMPLE) && sampled) *sampled = ranked[0];
    return DW_OK;
}

static void finish_forward(operation *op) {
    session *s = session_of(op->request.handle);
    dw_completion *c = &op->completion;
    if (!s) {
        c->status = DW_E_BAD_HANDLE;
        return;
    }
    uint32_t first = s->n_tokens, rows = s->n_rows;
    bool held = s->held;
    c->status = append(s, op->tokens, op->request.len0);
    if (c->status == DW_OK && s->n_rows == s->n_tokens && !s->held) c->status = DW_E_STATE; /* nothing to evaluate */
    if (c->status == DW_OK) c->result0 = evaluate(s);
    for (uint32_t i = 0; i < op->request.len1 && c->status == DW_OK; i++) c->status = deliver_row(s, &op->rows[i], first);
    if (c->status < 0) { /* all or nothing */
        s->n_tokens = first;
        s->n_rows = rows;
        s->held = held;
    } else if (op->request.flags & DW_FLAG_HOLD) {
        s->held = true;
    }
    c->result1 = s->n_tokens;
}

/* The stop that the text ends with: its index, or n_stops. */
static uint32_t stop_at_end(const operation *op, const char *text, size_t size) {
    for (uint32_t i = 0; i < op->options.n_stops; i++) {
        size_t n = strlen(op->stops[i]);
        if (n <= size && memcmp(text + size - n, op->stops[i], n) == 0) return i;
    }
    return op->options.n_stops;
}

/* Makes at most `n_max` tokens; why it ended. */
static uint64_t generate(operation *op, session *s, uint32_t n_max) {
    float logits[FAKE_VOCAB];
    dw_scored_token ranked[FAKE_VOCAB];
    uint32_t size = 0;
    uint64_t end = DW_GENERATE_LENGTH;
    op->text = calloc(1, n_max + 1u);
    while (op->completion.result1 < n_max && !interrupted()) {
        evaluate(s);
        logits_at(s, s->n_tokens, logits);
        if (op->options.flags & DW_GENERATE_IGNORE_END) logits[FAKE_EOS] = -1;
        likeliest(logits, ranked);
        if (ranked[0].token == FAKE_EOS) {
            end = DW_GENERATE_END_TOKEN;
            break;
        }
        if (append(s, &ranked[0].token, 1) < 0) {
            end = DW_GENERATE_CONTEXT;
            break;
        }
        op->completion.result1++;
        host.made++;
        op->text[size++] = (char)ranked[0].token;
        uint32_t stop = stop_at_end(op, op->text, size);
        if (stop < op->options.n_stops) { /* neither delivered nor kept */
            uint32_t n = (uint32_t)strlen(op->stops[stop]);
            size -= n;
            shorten(s, s->n_tokens - n);
            end = DW_GENERATE_STOP | (uint64_t)stop << 8;
            break;
        }
    }
    op->completion.result0 = size;
    return end;
}

static void finish_generate(operation *op, uint32_t n_max) {
    session *s = session_of(op->request.handle);
    dw_completion *c = &op->completion;
    c->status = s ? append(s, op->tokens, op->request.len0) : DW_E_BAD_HANDLE;
    if (c->status < 0) return;
    host.sampling = op->options.sampling;
    c->result2 = generate(op, s, n_max);
    if (op->options.flags & DW_GENERATE_EMIT) collect(&host.emitted, op->text, c->result0);
    uint32_t n = c->result0 < op->request.len2 ? c->result0 : op->request.len2;
    char *to;
    if (!array_at(op->request.ptr2, n, 1, &to)) c->status = DW_E_RANGE;
    else if (n) memcpy(to, op->text, n);
    if (c->status == DW_OK && op->request.len2 && n < c->result0) c->status = DW_E_FULL;
}

/* --- requests ------------------------------------------------------------------------------------------------ */

enum { H = 1, P0 = 2, P1 = 4, P2 = 8, A0 = 16 }; /* fields that an operation uses; the others must be zero */
static const struct { uint16_t op, flags, uses; } kinds[] = {
    {DW_OP_MESSAGE, 0, P0}, {DW_OP_REPLY, 0, P0}, {DW_OP_EMIT, 0, P0}, {DW_OP_LOG, 0, P0 | A0}, {DW_OP_CANCEL, 0, A0},
    {DW_OP_INTERRUPTED, 0, 0}, {DW_OP_SLEEP, 0, A0}, {DW_OP_SESSION_OPEN, DW_FLAG_FAST | DW_FLAG_SHARED, P0 | A0}, {DW_OP_SESSION_CLOSE, 0, H},
    {DW_OP_SESSION_LENGTH, 0, H}, {DW_OP_SESSION_TOKENS, 0, H | P0 | A0}, {DW_OP_SESSION_REWIND, 0, H | A0}, {DW_OP_SESSION_FORK, 0, H},
    {DW_OP_SESSION_SYNC, 0, H | P0}, {DW_OP_FORWARD, DW_FLAG_HOLD, H | P0 | P1}, {DW_OP_GENERATE, 0, H | P0 | P1 | P2},
    {DW_OP_TOKENIZE, DW_FLAG_SPECIAL | DW_FLAG_CONTROL, H | P0 | P1}, {DW_OP_DETOKENIZE, DW_FLAG_CONTROL, H | P0 | P1},
    {DW_OP_TOKEN_INFO, 0, H | A0}, {DW_OP_COMPUTE, DW_FLAG_COPY, P0},
    {DW_OP_EMBED, 0, P0 | P1}};

static int32_t check(const dw_request *r) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i].op != r->op) continue;
        uint32_t uses = kinds[i].uses;
        bool clean = !(r->flags & ~kinds[i].flags) && ((uses & H) || !r->handle) && ((uses & P0) || !(r->ptr0 | r->len0)) &&
                     ((uses & P1) || !(r->ptr1 | r->len1)) && ((uses & P2) || !(r->ptr2 | r->len2)) && ((uses & A0) || !r->arg0) &&
                     !r->arg1 && !r->arg2;
        return clean ? DW_OK : DW_E_INVALID;
    }
    return DW_E_UNSUPPORTED;
}

static int32_t copy_stops(operation *op) {
    if (op->options.n_stops > DW_STOPS_MAX) return DW_E_LIMIT;
    const dw_text *texts;
    if (!array_at(op->options.stops, op->options.n_stops, 4, &texts)) return DW_E_RANGE;
    for (uint32_t i = 0; i < op->options.n_stops; i++) {
        if (texts[i].len == 0) return DW_E_INVALID;
        op->stops[i] = copy_of(texts[i].ptr, texts[i].len, 1);
        if (!op->stops[i]) return DW_E_RANGE;
    }
    return DW_OK;
}

/* What takes time: copies everything, and says when it will be done. */
static int32_t begin(operation *op) {
    const dw_request *r = &op->request;
    op->start_ns = op->due_ns = host.now_ns;
    if (r->op == DW_OP_SLEEP) {
        op->due_ns += r->arg0;
        return DW_OK;
    }
    session *s = session_of(r->handle);
    if (!s) return DW_E_BAD_HANDLE;
    if (r->len0 && !(op->tokens = copy_of(r->ptr0, r->len0 * sizeof op->tokens[0], 4))) return DW_E_RANGE;
    uint64_t n_steps = 1;
    if (r->op == DW_OP_FORWARD) {
        if (r->len1 && !(op->rows = copy_of(r->ptr1, r->len1 * sizeof op->rows[0], 4))) return DW_E_RANGE;
        for (uint32_t i = 0; i < r->len1; i++) {
            if (op->rows[i].logits) op->window = true;
            if (op->rows[i].index != DW_ROW_OF_LAST && op->rows[i].index >= r->len0) return DW_E_RANGE;
        }
    } else {
        const dw_generate_options *options = resolve(r->ptr1, 4);
        if (!options || r->len1 != sizeof *options || options->size != sizeof *options) return DW_E_INVALID;
        op->options = *options;
        if (options->n_max == 0) return DW_E_RANGE;
        int32_t status = copy_stops(op);
        if (status < 0) return status;
        n_steps = options->n_max;
    }
    if (s->free_ns > op->start_ns) op->start_ns = s->free_ns;
    op->due_ns = s->free_ns = op->start_ns + n_steps * FAKE_TOKEN_NS;
    return DW_OK;
}

static void cancel(operation *op) {
    if (op->done) return;
    if (op->request.op == DW_OP_GENERATE && host.now_ns > op->start_ns) { /* keeps what was made by now */
        finish_generate(op, (uint32_t)((host.now_ns - op->start_ns) / FAKE_TOKEN_NS));
    }
    op->done = true;
    op->completion.status = DW_E_CANCELLED;
}

static int32_t do_cancel(const operation *own, dw_completion *c) {
    for (uint32_t i = 0; i < host.n_outstanding; i++) {
        operation *op = host.outstanding[i];
        if (op == own || op->done || op->request.user_data != own->request.arg0) continue;
        cancel(op);
        c->result0++;
    }
    return DW_OK;
}

static int32_t do_now(operation *op) {
    const dw_request *r = &op->request;
    dw_completion *c = &op->completion;
    switch (r->op) {
    case DW_OP_MESSAGE: return do_message(r, c);
    case DW_OP_REPLY: return do_text(&host.reply, r);
    case DW_OP_EMIT: return do_text(&host.emitted, r);
    case DW_OP_LOG: return do_text(&host.logged, r);
    case DW_OP_CANCEL: return do_cancel(op, c);
    case DW_OP_INTERRUPTED: c->result0 = interrupted() ? 1 : 0; return DW_OK;
    case DW_OP_SESSION_OPEN: return do_open(r, c);
    case DW_OP_TOKENIZE: return r->handle && !session_of(r->handle) ? DW_E_BAD_HANDLE : do_tokenize(r, c);
    case DW_OP_DETOKENIZE: return r->handle && !session_of(r->handle) ? DW_E_BAD_HANDLE : do_detokenize(r, c);
    case DW_OP_TOKEN_INFO: return r->handle && !session_of(r->handle) ? DW_E_BAD_HANDLE : do_token_info(r, c);
    case DW_OP_COMPUTE: return do_compute(r, c);
    case DW_OP_EMBED: return do_embed(r, c);
    default: {
        session *s = session_of(r->handle);
        return s ? do_session(s, r, c) : DW_E_BAD_HANDLE;
    }
    }
}

static void take(const dw_request *request) {
    operation *op = calloc(1, sizeof *op);
    op->request = *request;
    op->completion.user_data = request->user_data;
    host.outstanding[host.n_outstanding++] = op;
    int32_t status = check(request);
    bool slow = request->op == DW_OP_SLEEP || request->op == DW_OP_FORWARD || request->op == DW_OP_GENERATE;
    if (status == DW_OK) status = slow ? begin(op) : do_now(op);
    op->done = status < 0 || !slow;
    op->completion.status = status;
}

/* --- the door ------------------------------------------------------------------------------------------------ */

static void finish(operation *op) {
    if (op->request.op == DW_OP_FORWARD) finish_forward(op);
    if (op->request.op == DW_OP_GENERATE) finish_generate(op, op->options.n_max);
    op->done = true;
}

static operation *next_due(void) {
    operation *next = NULL;
    for (uint32_t i = 0; i < host.n_outstanding; i++) {
        operation *op = host.outstanding[i];
        if (!op->done && (!next || op->due_ns < next->due_ns)) next = op;
    }
    return next;
}

/* Lets time pass until `wait` are done and no window is lent, or to the deadline. */
static void pass_time(uint32_t wait, uint64_t until_ns) {
    for (;;) {
        uint32_t n_done = 0, n_windows = 0;
        for (uint32_t i = 0; i < host.n_outstanding; i++) {
            n_done += host.outstanding[i]->done;
            n_windows += host.outstanding[i]->window && !host.outstanding[i]->done;
        }
        operation *next = next_due();
        if (!next || (n_done >= wait && n_windows == 0)) return;
        if (next->due_ns > until_ns) {
            host.now_ns = until_ns;
            for (uint32_t i = 0; i < host.n_outstanding; i++) {
                if (host.outstanding[i]->window) cancel(host.outstanding[i]);
            }
            return;
        }
        if (next->due_ns > host.now_ns) host.now_ns = next->due_ns;
        finish(next);
    }
}

static void drop(uint32_t index) {
    operation *op = host.outstanding[index];
    for (uint32_t i = 0; i < DW_STOPS_MAX; i++) free(op->stops[i]);
    free(op->tokens);
    free(op->rows);
    free(op->text);
    free(op);
    host.n_outstanding--;
    memmove(host.outstanding + index, host.outstanding + index + 1, (host.n_outstanding - index) * sizeof host.outstanding[0]);
}

int32_t dw_enter(const dw_request *requests, uint32_t n_requests, dw_completion *completions, uint32_t capacity, uint32_t wait,
                 int64_t deadline_ns) {
    host.enters++;
    if ((uintptr_t)requests % 8 || (uintptr_t)completions % 8) return DW_E_INVALID;
    if (n_requests > OUTSTANDING_MAX - host.n_outstanding) return DW_E_LIMIT;
    if (wait > host.n_outstanding + n_requests || wait > capacity) return DW_E_INVALID;
    uint32_t forwards = 0, n = 0;
    for (uint32_t i = 0; i < n_requests; i++) {
        forwards += requests[i].op == DW_OP_FORWARD;
        take(&requests[i]);
    }
    if (forwards > host.forwards_max) host.forwards_max = forwards;
    pass_time(wait, deadline_ns < 0 ? UINT64_MAX : host.now_ns + (uint64_t)deadline_ns);
    for (uint32_t i = 0; i < host.n_outstanding && n < capacity;) {
        if (!host.outstanding[i]->done) {
            i++;
            continue;
        }
        completions[n++] = host.outstanding[i]->completion;
        drop(i);
    }
    return (int32_t)n;
}

/* --- what tests look at ---------------------------------------------------------------------------------------- */

void fake_reset(void) {
    while (host.n_outstanding) drop(0);
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) free(host.sessions[i].log);
    memset(&host, 0, sizeof host);
    host.context = 4096;
}

void fake_set_context(uint32_t tokens) { host.context = tokens < LOG_MAX ? tokens : LOG_MAX; }

void fake_rule(const char *cue, const char *text, float logit) {
    if (host.n_rules < RULES_MAX) host.rules[host.n_rules++] = (rule){cue, text, logit};
}

int32_t fake_turn(const char *message) {
    host.message = message;
    host.turn++;
    host.reply.size = host.emitted.size = host.logged.size = 0;
    host.reply.bytes[0] = host.emitted.bytes[0] = host.logged.bytes[0] = '\0';
    host.enters = host.evaluated = host.forwards_max = host.made = 0;
    int32_t status = driftwood_receive();
    host.left = host.n_outstanding;
    host.may_interrupt = false;
    while (host.n_outstanding) drop(0);
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) host.sessions[i].free_ns = 0;
    return status;
}

void fake_interrupt_after(uint32_t n_tokens) {
    host.may_interrupt = true;
    host.interrupt_after = n_tokens;
}

const char *fake_log(uint32_t handle) {
    const session *s = session_of(handle);
    host.log_text.size = 0;
    host.log_text.bytes[0] = '\0';
    for (uint32_t i = 0; s && i < s->n_tokens; i++) {
        char c = (char)s->log[i];
        if (s->log[i] < FAKE_BOS) collect(&host.log_text, &c, 1);
    }
    return host.log_text.bytes;
}

bool fake_holds(uint32_t handle) {
    const session *s = session_of(handle);
    return s && s->held;
}

uint32_t fake_sessions_open(void) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < SESSIONS_MAX; i++) n += host.sessions[i].open;
    return n;
}

uint64_t fake_session_seed(uint32_t handle) {
    const session *s = session_of(handle);
    return s ? s->seed : 0;
}

const char *fake_reply(void) { return host.reply.bytes; }
const char *fake_emitted(void) { return host.emitted.bytes; }
const char *fake_logged(void) { return host.logged.bytes; }
uint32_t fake_enters(void) { return host.enters; }
uint32_t fake_left_outstanding(void) { return host.left; }
uint32_t fake_evaluated(void) { return host.evaluated; }
uint32_t fake_forwards_max(void) { return host.forwards_max; }
dw_sampling_options fake_sampling(void) { return host.sampling; }
uint64_t fake_clock_ns(void) { return host.now_ns; }
void fake_spoil_compute(void) { host.spoil = true; }

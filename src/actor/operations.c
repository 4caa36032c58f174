/* operations.c: requests that need no engine: turn, session and text operations; the table that leads to all of them. */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

/* A cut view of len bytes of guest memory at ptr. */
static dw_status view(dw_guest_memory *memory, uint32_t ptr, uint64_t len, uint32_t align, void *out) {
    return dw_guest_view(memory, ptr, len, align, (void **)out);
}

static dw_status view_text(dw_guest_memory *memory, const dw_request *request, const char **out) {
    if (request->len0 > DW_TEXT_BYTES_MAX) return DW_E_LIMIT;
    return view(memory, request->ptr0, request->len0, 1, (void *)out);
}

/* --- turn ---------------------------------------------------------------------------------------------------- */

static dw_status op_message(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const message *current = &actor->current;
    uint32_t n = op->request.len0 < current->size ? op->request.len0 : current->size;
    op->completion.result0 = current->size;
    op->completion.result1 = actor->turns + 1;
    return dw_guest_write(memory, op->request.ptr0, current->body, n);
}

static dw_status op_reply(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const char *text;
    dw_status status = view_text(memory, &op->request, &text);
    if (status != DW_OK) return status;
    if (actor->reply.size + op->request.len0 > DW_MESSAGE_BYTES_MAX) return DW_E_FULL;
    dw_write_bytes(&actor->reply, text, op->request.len0);
    return actor->reply.status;
}

static dw_status op_emit(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const char *text;
    dw_status status = view_text(memory, &op->request, &text);
    if (status == DW_OK && actor->observer.on_text && op->request.len0) actor->observer.on_text(actor->observer.context, text, op->request.len0);
    return status;
}

static dw_status op_log(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const char *text;
    if (op->request.arg0 > DW_LOG_TRACE) return DW_E_INVALID;
    if (op->request.len0 > DW_LOG_LINE_BYTES_MAX) return DW_E_LIMIT;
    dw_status status = view_text(memory, &op->request, &text);
    if (status != DW_OK) return status;
    const dw_observer *observer = &actor->observer;
    if (observer->on_log) observer->on_log(observer->context, (int)op->request.arg0, text, op->request.len0);
    return DW_OK;
}

static dw_status op_cancel(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    for (operation *other = actor->port->first; other; other = other->next) {
        if (other == op || other->request.user_data != op->request.arg0 || other->state == OPERATION_DONE) continue;
        op->completion.result0++;
        if (other->state == OPERATION_RUNNING && other->has_job) {
            dw_operation_cancel(actor, other);
        } else {
            other->completion.status = DW_E_CANCELLED;
            dw_port_done(actor->port, other);
        }
    }
    return DW_OK;
}

static dw_status op_interrupted(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    op->completion.result0 = atomic_load(&actor->interrupted) ? 1 : 0;
    return DW_OK;
}

/* --- session ------------------------------------------------------------------------------------------------- */

static dw_status session_of(dw_actor *actor, const operation *op, actor_session **out) {
    *out = dw_actor_get_session(actor, op->request.handle);
    return *out ? DW_OK : DW_E_BAD_HANDLE;
}

static dw_status op_session_open(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const char *name = NULL;
    if (op->request.len0 >= MODEL_NAME_BYTES) return DW_E_NOT_FOUND;
    dw_status status = view(memory, op->request.ptr0, op->request.len0, 1, (void *)&name);
    if (status != DW_OK) return status;
    runtime_model *model = dw_runtime_find_model(actor->runtime, name, op->request.len0);
    if (!model) return DW_E_NOT_FOUND;
    if (actor->n_sessions == DW_SESSIONS_PER_ACTOR_MAX) return DW_E_LIMIT;
    dw_session_options options = {.fast = (op->request.flags & DW_FLAG_FAST) != 0, .granted = (op->request.flags & DW_FLAG_SHARED) != 0,
                                  .owner = actor->owner, .priority = actor->priority, .seed = op->request.arg0};
    dw_session *session = NULL;
    status = dw_model_create_session(model->model, &options, &session, NULL);
    actor_session *added = NULL;
    if (status == DW_OK) status = dw_actor_add_session(actor, session, model, 0, &added);
    if (status != DW_OK) return status;
    const dw_model_info *info = dw_model_info_view(model->model);
    op->completion.result0 = added->handle;
    op->completion.result1 = info->context_tokens;
    op->completion.result2 = info->n_vocab;
    return DW_OK;
}

static dw_status op_session_close(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    actor_session *session;
    dw_status status = session_of(actor, op, &session);
    if (status == DW_OK) dw_actor_close_session(actor, session);
    return status;
}

static dw_status op_session_length(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    actor_session *session;
    dw_status status = session_of(actor, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    dw_session_tokens(session->session, &n_tokens);
    op->completion.result0 = n_tokens;
    op->completion.result1 = dw_session_rows(session->session);
    op->completion.result2 = dw_model_info_view(session->model->model)->context_tokens;
    return DW_OK;
}

static dw_status op_session_tokens(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    actor_session *session;
    dw_status status = session_of(actor, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    const int32_t *log = dw_session_tokens(session->session, &n_tokens);
    if (op->request.arg0 > n_tokens) return DW_E_RANGE;
    uint32_t left = n_tokens - (uint32_t)op->request.arg0;
    uint32_t n = op->request.len0 < left ? op->request.len0 : left;
    op->completion.result0 = n;
    return n ? dw_guest_write(memory, op->request.ptr0, log + op->request.arg0, (uint64_t)n * sizeof *log) : DW_OK;
}

static dw_status op_session_rewind(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    actor_session *session;
    dw_status status = session_of(actor, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    dw_session_tokens(session->session, &n_tokens);
    if (op->request.arg0 > n_tokens) return DW_E_RANGE;
    uint32_t wanted = (uint32_t)op->request.arg0;
    status = dw_actor_save_session(session, wanted, NULL);
    return status == DW_OK ? dw_session_rewind(session->session, wanted, NULL) : status;
}

static dw_status op_session_fork(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    actor_session *session, *added = NULL;
    dw_status status = session_of(actor, op, &session);
    if (status != DW_OK) return status;
    if (actor->n_sessions == DW_SESSIONS_PER_ACTOR_MAX) return DW_E_LIMIT;
    dw_session *child = NULL;
    status = dw_session_fork(session->session, &child, NULL);
    if (status == DW_OK) status = dw_actor_add_session(actor, child, session->model, 0, &added);
    if (status != DW_OK) return status;
    op->completion.result0 = added->handle;
    return DW_OK;
}

static uint32_t common_prefix(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b) {
    uint32_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

static dw_status op_session_sync(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    actor_session *session;
    dw_status status = session_of(actor, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0, n_reused = 0, n_wanted = op->request.len0;
    const int32_t *log = dw_session_tokens(session->session, &n_tokens);
    status = dw_actor_save_session(session, common_prefix(log, n_tokens, op->tokens, n_wanted), NULL);
    if (status == DW_OK) status = dw_session_sync(session->session, op->tokens, n_wanted, &n_reused, NULL);
    if (status != DW_OK) return status;
    op->completion.result0 = n_reused;
    op->completion.result1 = n_wanted - dw_session_rows(session->session);
    return DW_OK;
}

/* --- text ---------------------------------------------------------------------------------------------------- */

/* Handle 0: the default model's vocabulary. */
static dw_status vocab_of(dw_actor *actor, const operation *op, dw_vocab **out) {
    const runtime_model *model = NULL;
    if (op->request.handle) {
        actor_session *session = dw_actor_get_session(actor, op->request.handle);
        if (!session) return DW_E_BAD_HANDLE;
        model = session->model;
    } else {
        model = dw_runtime_find_model(actor->runtime, NULL, 0);
        if (!model) return DW_E_NOT_FOUND;
    }
    *out = dw_model_vocab(model->model);
    return DW_OK;
}

static dw_status op_tokenize(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const dw_request *request = &op->request;
    dw_vocab *vocab = NULL;
    const char *text = NULL;
    int32_t *tokens = NULL;
    size_t n = 0;
    if (request->len1 > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = vocab_of(actor, op, &vocab);
    if (status == DW_OK) status = view_text(memory, request, &text);
    if (status == DW_OK) status = view(memory, request->ptr1, (uint64_t)request->len1 * sizeof *tokens, 4, &tokens);
    if (status != DW_OK) return status;
    status = dw_vocab_tokenize(vocab, text, request->len0, (request->flags & DW_FLAG_SPECIAL) != 0, (request->flags & DW_FLAG_CONTROL) != 0,
                               tokens, request->len1, &n, NULL);
    op->completion.result0 = (uint32_t)n;
    return status;
}

static dw_status op_detokenize(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const dw_request *request = &op->request;
    dw_vocab *vocab = NULL;
    const int32_t *tokens = NULL;
    char *text = NULL;
    size_t n = 0;
    if (request->len0 > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = vocab_of(actor, op, &vocab);
    if (status == DW_OK) status = view(memory, request->ptr0, (uint64_t)request->len0 * sizeof *tokens, 4, (void *)&tokens);
    if (status == DW_OK) status = view(memory, request->ptr1, request->len1, 1, &text);
    if (status != DW_OK) return status;
    status = dw_vocab_detokenize(vocab, tokens, request->len0, (request->flags & DW_FLAG_CONTROL) != 0, text, request->len1, &n, NULL);
    op->completion.result0 = (uint32_t)n;
    return status;
}

static dw_status op_token_info(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)memory;
    dw_vocab *vocab = NULL;
    dw_status status = vocab_of(actor, op, &vocab);
    if (status == DW_OK) status = dw_vocab_wait(vocab, NULL);
    if (status != DW_OK) return status;
    if (op->request.arg0 == UINT32_MAX) {
        op->completion.result1 = (uint64_t)(int64_t)dw_vocab_bos(vocab);
        op->completion.result2 = (uint64_t)(int64_t)dw_vocab_eos(vocab);
        return DW_OK;
    }
    if (op->request.arg0 >= dw_vocab_size(vocab)) return DW_E_RANGE;
    int32_t token = (int32_t)op->request.arg0;
    if (dw_vocab_is_end(vocab, token)) op->completion.result0 |= DW_TOKEN_END;
    if (dw_vocab_is_control(vocab, token)) op->completion.result0 |= DW_TOKEN_CONTROL;
    return DW_OK;
}

static dw_status op_sleep(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)actor;
    (void)memory;
    uint64_t wake_ns = 0;
    op->wake_ns = dw_add_u64(dw_os_monotonic_ns(), op->request.arg0, &wake_ns) ? wake_ns : UINT64_MAX;
    return DW_OK;
}

/* --- the table ----------------------------------------------------------------------------------------------- */

typedef dw_status (*operation_function)(dw_actor *actor, dw_guest_memory *memory, operation *op);

/* Which fields of a request an operation uses; all others must be zero (guest.h rule 1). */
enum { USES_HANDLE = 1, USES_0 = 2, USES_1 = 4, USES_2 = 8, USES_ARG0 = 16 };

typedef struct operation_kind {
    uint16_t op;
    uint16_t flags;              /* allowed */
    uint8_t uses;
    bool of_session;             /* takes its place in the session's order */
    operation_function copy_in;  /* NULL: nothing to copy */
    operation_function run;      /* at once; NULL: a job */
} operation_kind;

static dw_status copy_tokens(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    (void)actor;
    return dw_tokens_copy_in(memory, op);
}

static const operation_kind kinds[] = {
    {DW_OP_MESSAGE, 0, USES_0, false, NULL, op_message},
    {DW_OP_REPLY, 0, USES_0, false, NULL, op_reply},
    {DW_OP_EMIT, 0, USES_0, false, NULL, op_emit},
    {DW_OP_LOG, 0, USES_0 | USES_ARG0, false, NULL, op_log},
    {DW_OP_CANCEL, 0, USES_ARG0, false, NULL, op_cancel},
    {DW_OP_INTERRUPTED, 0, 0, false, NULL, op_interrupted},
    {DW_OP_SLEEP, 0, USES_ARG0, false, NULL, op_sleep},
    {DW_OP_SESSION_OPEN, DW_FLAG_FAST | DW_FLAG_SHARED, USES_0 | USES_ARG0, false, NULL, op_session_open},
    {DW_OP_SESSION_CLOSE, 0, USES_HANDLE, true, NULL, op_session_close},
    {DW_OP_SESSION_LENGTH, 0, USES_HANDLE, true, NULL, op_session_length},
    {DW_OP_SESSION_TOKENS, 0, USES_HANDLE | USES_0 | USES_ARG0, true, NULL, op_session_tokens},
    {DW_OP_SESSION_REWIND, 0, USES_HANDLE | USES_ARG0, true, NULL, op_session_rewind},
    {DW_OP_SESSION_FORK, 0, USES_HANDLE, true, NULL, op_session_fork},
    {DW_OP_SESSION_SYNC, 0, USES_HANDLE | USES_0, true, copy_tokens, op_session_sync},
    {DW_OP_FORWARD, 0, USES_HANDLE | USES_0 | USES_1, true, dw_forward_copy_in, NULL},
    {DW_OP_GENERATE, 0, USES_HANDLE | USES_0 | USES_1 | USES_2, true, dw_generate_copy_in, NULL},
    {DW_OP_EMBED, 0, USES_0 | USES_1, false, dw_embed_copy_in, NULL},
    {DW_OP_TOKENIZE, DW_FLAG_SPECIAL | DW_FLAG_CONTROL, USES_HANDLE | USES_0 | USES_1, false, NULL, op_tokenize},
    {DW_OP_DETOKENIZE, DW_FLAG_CONTROL, USES_HANDLE | USES_0 | USES_1, false, NULL, op_detokenize},
    {DW_OP_TOKEN_INFO, 0, USES_HANDLE | USES_ARG0, false, NULL, op_token_info},
    {DW_OP_COMPUTE, DW_FLAG_COPY, USES_0, false, NULL, dw_compute_operation},
};

static const operation_kind *find_kind(uint16_t op) {
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i].op == op) return &kinds[i];
    }
    return NULL;
}

static bool unused_fields_are_zero(const dw_request *request, const operation_kind *kind) {
    if (request->flags & ~kind->flags) return false;
    if (!(kind->uses & USES_HANDLE) && request->handle) return false;
    if (!(kind->uses & USES_0) && (request->ptr0 || request->len0)) return false;
    if (!(kind->uses & USES_1) && (request->ptr1 || request->len1)) return false;
    if (!(kind->uses & USES_2) && (request->ptr2 || request->len2)) return false;
    if (!(kind->uses & USES_ARG0) && request->arg0) return false;
    return request->arg1 == 0 && request->arg2 == 0;
}

dw_status dw_operation_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const operation_kind *kind = find_kind(op->request.op);
    if (!kind) return DW_E_UNSUPPORTED;
    if (!unused_fields_are_zero(&op->request, kind)) return DW_E_INVALID;
    if (kind->of_session) {
        if (!dw_actor_get_session(actor, op->request.handle)) return DW_E_BAD_HANDLE;
        op->session = op->request.handle;
    }
    return kind->copy_in ? kind->copy_in(actor, memory, op) : DW_OK;
}

bool dw_operation_start(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    const operation_kind *kind = find_kind(op->request.op);
    if (kind->op == DW_OP_EMBED) return dw_embed_start(actor, op);
    if (!kind->run) {
        op->completion.status = dw_job_start(actor, op);
        return op->completion.status != DW_OK;
    }
    op->completion.status = kind->run(actor, memory, op);
    return kind->op != DW_OP_SLEEP || op->completion.status != DW_OK;
}

void dw_operation_return_window(dw_actor *actor, operation *op) {
    if (!op->lent.id) return;
    dw_status status = dw_region_return(dw_instance_region(actor->instance), op->lent);
    if (status != DW_OK) dw_log(DW_LOG_ERROR, "window", "actor=%s status=%s", actor->name, dw_status_name(status));
    op->lent.id = 0;
}

void dw_operation_deliver(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    dw_operation_return_window(actor, op);
    if (op->has_job) dw_job_deliver(actor, memory, op);
}

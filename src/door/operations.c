/* operations.c: requests about the turn and its sessions, and the table that leads to all operations. */
#include <stdlib.h>
#include <string.h>
#include "door/door_internal.h"
#include "os/os.h"

/* --- turn ---------------------------------------------------------------------------------------------------- */

static dw_status op_message(dw_door *door, dw_operation *op) {
    const dw_door_message *message = &door->message;
    uint32_t n = op->request.len0 < message->size ? op->request.len0 : message->size;
    op->completion.result0 = message->size;
    op->completion.result1 = message->turn;
    return dw_door_write(door, op->request.ptr0, message->body, n);
}

static dw_status view_text(dw_door *door, const dw_request *request, const char **out) {
    if (request->len0 > DW_TEXT_BYTES_MAX) return DW_E_LIMIT;
    return dw_door_view(door, request->ptr0, request->len0, 1, (void *)out);
}

static dw_status op_reply(dw_door *door, dw_operation *op) {
    const char *text;
    dw_status status = view_text(door, &op->request, &text);
    if (status != DW_OK) return status;
    if (door->reply.size + op->request.len0 > DW_MESSAGE_BYTES_MAX) return DW_E_FULL;
    dw_write_bytes(&door->reply, text, op->request.len0);
    return door->reply.status;
}

static dw_status op_emit(dw_door *door, dw_operation *op) {
    const char *text;
    const dw_observer *observer = &door->observer;
    dw_status status = view_text(door, &op->request, &text);
    if (status == DW_OK && observer->on_text && op->request.len0)
        observer->on_text(observer->context, text, op->request.len0);
    return status;
}

static dw_status op_log(dw_door *door, dw_operation *op) {
    const char *text;
    const dw_observer *observer = &door->observer;
    if (op->request.arg0 > DW_LOG_TRACE) return DW_E_INVALID;
    if (op->request.len0 > DW_LOG_LINE_BYTES_MAX) return DW_E_LIMIT;
    dw_status status = view_text(door, &op->request, &text);
    if (status == DW_OK && observer->on_log)
        observer->on_log(observer->context, (int)op->request.arg0, text, op->request.len0);
    return status;
}

static dw_status op_cancel(dw_door *door, dw_operation *op) {
    for (dw_operation *other = door->port->first; other; other = other->next) {
        if (other == op || other->request.user_data != op->request.arg0 || other->state == DW_OPERATION_DONE) continue;
        op->completion.result0++;
        if (other->state == DW_OPERATION_RUNNING && other->has_job) {
            dw_operation_cancel(other);
        } else {
            other->completion.status = DW_E_CANCELLED;
            dw_port_done(door->port, other);
        }
    }
    return DW_OK;
}

static dw_status op_interrupted(dw_door *door, dw_operation *op) {
    op->completion.result0 = dw_park_interrupted(door->port->park);
    return DW_OK;
}

/* --- session ------------------------------------------------------------------------------------------------- */

dw_status dw_door_save_session(dw_door *door, dw_door_session *session, uint32_t n_tokens) {
    return door->options.sessions.save(door->options.sessions.context, session, n_tokens);
}

dw_status dw_door_session_of(dw_door *door, const dw_operation *op, dw_door_session **out) {
    *out = door->options.sessions.find(door->options.sessions.context, op->request.handle);
    return *out ? DW_OK : DW_E_BAD_HANDLE;
}

/* Takes a session and a model over into the owner's table; *handle is the session's. */
static dw_status add_door_session(dw_door *door, dw_session *session, dw_model_entry *model, uint32_t *handle) {
    dw_door_session *added = NULL;
    dw_status status = door->options.sessions.add(door->options.sessions.context, session, model, &added);
    if (status == DW_OK) *handle = added->handle;
    return status;
}

static bool room_for_session(const dw_door *door) {
    return door->options.sessions.room(door->options.sessions.context);
}

static dw_status op_session_open(dw_door *door, dw_operation *op) {
    char name[DW_MODEL_NAME_BYTES_MAX];
    if (op->request.len0 > sizeof name) return DW_E_NOT_FOUND;
    dw_status status = dw_door_read(door, op->request.ptr0, name, op->request.len0);
    if (status != DW_OK) return status;
    dw_model_entry *model = dw_runtime_take_model(door->options.runtime, name, op->request.len0);
    if (!model) return DW_E_NOT_FOUND;
    dw_session_options options = {.fast = (op->request.flags & DW_FLAG_FAST) != 0,
                                  .granted = (op->request.flags & DW_FLAG_SHARED) != 0,
                                  .owner = door->options.owner,
                                  .priority = door->options.priority,
                                  .seed = op->request.arg0};
    const dw_model_info *info = dw_model_info_view(model->model);
    const uint32_t context_tokens = info->context_tokens, n_vocab = info->n_vocab;
    dw_session *session = NULL;
    status = room_for_session(door) ? dw_model_create_session(model->model, &options, &session, NULL) : DW_E_LIMIT;
    if (status != DW_OK) {
        dw_model_entry_release(model);
        return status;
    }
    status = add_door_session(door, session, model, &op->completion.result0);
    if (status != DW_OK) return status;
    op->completion.result1 = context_tokens;
    op->completion.result2 = n_vocab;
    return DW_OK;
}

static dw_status op_session_close(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status == DW_OK) door->options.sessions.close(door->options.sessions.context, session);
    return status;
}

static dw_status op_session_length(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    dw_session_tokens(session->session, &n_tokens);
    op->completion.result0 = n_tokens;
    op->completion.result1 = dw_session_rows(session->session);
    op->completion.result2 = dw_model_info_view(session->model->model)->context_tokens;
    return DW_OK;
}

static dw_status op_session_tokens(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    const int32_t *log = dw_session_tokens(session->session, &n_tokens);
    if (op->request.arg0 > n_tokens) return DW_E_RANGE;
    uint32_t left = n_tokens - (uint32_t)op->request.arg0;
    uint32_t n = op->request.len0 < left ? op->request.len0 : left;
    op->completion.result0 = n;
    if (n == 0) return DW_OK;
    status = dw_port_charge(op->port, op, n * sizeof *log);
    if (status != DW_OK) return status;
    op->tokens = malloc(n * sizeof *log);
    if (!op->tokens) return DW_E_NO_MEMORY;
    memcpy(op->tokens, log + op->request.arg0, n * sizeof *log);
    return DW_OK;
}

/* It may begin while windows are lent, when its session is free: so the tokens wait for their delivery like all
 * results. */
static dw_status check_tokens_place(dw_door *door, dw_operation *op) {
    uint64_t bytes = (uint64_t)op->request.len0 * sizeof *op->tokens;
    return dw_port_is_lent(door->port, op->request.ptr0, op->request.ptr0 + bytes) ? DW_E_BUSY : DW_OK;
}

static void deliver_tokens(dw_door *door, dw_operation *op) {
    if (op->completion.status != DW_OK || !op->tokens) return;
    uint64_t bytes = (uint64_t)op->completion.result0 * sizeof *op->tokens;
    op->completion.status = dw_door_write(door, op->request.ptr0, op->tokens, bytes);
}

static dw_status op_session_rewind(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0;
    dw_session_tokens(session->session, &n_tokens);
    if (op->request.arg0 > n_tokens) return DW_E_RANGE;
    uint32_t wanted = (uint32_t)op->request.arg0;
    status = dw_door_save_session(door, session, wanted);
    return status == DW_OK ? dw_session_rewind(session->session, wanted, NULL) : status;
}

static dw_status op_session_fork(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    if (!room_for_session(door)) return DW_E_LIMIT;
    dw_session *child = NULL;
    status = dw_session_fork(session->session, &child, NULL);
    return status == DW_OK
               ? add_door_session(door, child, dw_model_entry_retain(session->model), &op->completion.result0)
               : status;
}

static uint32_t tokens_in_common(const int32_t *a, uint32_t n_a, const int32_t *b, uint32_t n_b) {
    uint32_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

static dw_status op_session_sync(dw_door *door, dw_operation *op) {
    dw_door_session *session;
    dw_status status = dw_door_session_of(door, op, &session);
    if (status != DW_OK) return status;
    uint32_t n_tokens = 0, n_reused = 0, n_wanted = op->request.len0;
    const int32_t *log = dw_session_tokens(session->session, &n_tokens);
    status = dw_door_save_session(door, session, tokens_in_common(log, n_tokens, op->tokens, n_wanted));
    if (status == DW_OK) status = dw_session_sync(session->session, op->tokens, n_wanted, &n_reused, NULL);
    if (status != DW_OK) return status;
    op->completion.result0 = n_reused;
    op->completion.result1 = n_wanted - dw_session_rows(session->session);
    return DW_OK;
}

static dw_status op_sleep(dw_door *door, dw_operation *op) {
    (void)door;
    uint64_t wake_ns = 0;
    op->wake_ns = dw_add_u64(dw_os_monotonic_ns(), op->request.arg0, &wake_ns) ? wake_ns : UINT64_MAX;
    return DW_OK;
}

/* --- the table ----------------------------------------------------------------------------------------------- */

typedef dw_status (*operation_function)(dw_door *door, dw_operation *op);

/* Which fields of a request an operation uses; all others must be zero (guest.h rule 1). */
enum { USES_HANDLE = 1, USES_0 = 2, USES_1 = 4, USES_2 = 8, USES_ARG0 = 16 };

typedef struct operation_kind {
    uint16_t op;
    uint16_t flags;              /* allowed */
    uint8_t uses;
    bool of_session;             /* takes its place in the session's order */
    operation_function copy_in;  /* when it is taken: copies and checks what it refers to. NULL: nothing to copy */
    operation_function run;      /* when its session is free; of_session: without touching guest memory. NULL: a job */
} operation_kind;

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
    {DW_OP_SESSION_TOKENS, 0, USES_HANDLE | USES_0 | USES_ARG0, true, check_tokens_place, op_session_tokens},
    {DW_OP_SESSION_REWIND, 0, USES_HANDLE | USES_ARG0, true, NULL, op_session_rewind},
    {DW_OP_SESSION_FORK, 0, USES_HANDLE, true, NULL, op_session_fork},
    {DW_OP_SESSION_SYNC, 0, USES_HANDLE | USES_0, true, dw_tokens_copy_in, op_session_sync},
    {DW_OP_FORWARD, DW_FLAG_HOLD, USES_HANDLE | USES_0 | USES_1, true, dw_forward_copy_in, NULL},
    {DW_OP_GENERATE, 0, USES_HANDLE | USES_0 | USES_1 | USES_2, true, dw_generate_copy_in, NULL},
    {DW_OP_EMBED, 0, USES_0 | USES_1, false, dw_embed_copy_in, NULL},
    {DW_OP_TOKENIZE, DW_FLAG_SPECIAL | DW_FLAG_CONTROL, USES_HANDLE | USES_0 | USES_1, false, NULL,
     dw_tokenize_operation},
    {DW_OP_DETOKENIZE, DW_FLAG_CONTROL, USES_HANDLE | USES_0 | USES_1, false, NULL, dw_detokenize_operation},
    {DW_OP_TOKEN_INFO, 0, USES_HANDLE | USES_ARG0, false, NULL, dw_token_info_operation},
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

dw_status dw_operation_copy_in(dw_door *door, dw_operation *op) {
    const operation_kind *kind = find_kind(op->request.op);
    if (!kind) return DW_E_UNSUPPORTED;
    if (!unused_fields_are_zero(&op->request, kind)) return DW_E_INVALID;
    if (kind->of_session) {
        dw_door_session *session;
        dw_status status = dw_door_session_of(door, op, &session);
        if (status != DW_OK) return status;
        op->session = op->request.handle;
    }
    return kind->copy_in ? kind->copy_in(door, op) : DW_OK;
}

bool dw_operation_start(dw_door *door, dw_operation *op) {
    const operation_kind *kind = find_kind(op->request.op);
    if (kind->op == DW_OP_EMBED) return dw_embed_start(door, op);
    if (!kind->run) {
        op->completion.status = dw_job_start(door, op);
        return op->completion.status != DW_OK;
    }
    op->completion.status = kind->run(door, op);
    return kind->op != DW_OP_SLEEP || op->completion.status != DW_OK;
}

void dw_operation_deliver(dw_door *door, dw_operation *op, bool to_guest) {
    if (op->has_job) dw_job_deliver(door, op, to_guest);
    else if (to_guest && op->request.op == DW_OP_SESSION_TOKENS) deliver_tokens(door, op);
}

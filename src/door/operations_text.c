/* operations_text.c: text to tokens and back, with the vocabulary of a session's model. Texts and tokens are copied,
 * then looked at: the vocabulary goes over them more than once (door.h rule 2). */
#include "door/door_internal.h"

/* The model of the request's session; handle 0: the default one. To be released. */
static dw_status text_model_of(dw_door *door, const dw_operation *op, dw_model_entry **out) {
    *out = NULL;
    if (op->request.handle) {
        dw_door_session *session;
        dw_status status = dw_door_session_of(door, op, &session);
        if (status == DW_OK) *out = dw_model_entry_retain(session->model);
        return status;
    }
    *out = dw_runtime_take_model(door->options.runtime, NULL, 0);
    return *out ? DW_OK : DW_E_NOT_FOUND;
}

/* The same, with its vocabulary loaded. */
static dw_status vocab_of(dw_door *door, const dw_operation *op, dw_model_entry **model, dw_vocab **out) {
    dw_status status = text_model_of(door, op, model);
    if (status != DW_OK) return status;
    *out = dw_model_vocab((*model)->model);
    return dw_vocab_wait_in_turn(*out, door->port->park, NULL);
}

dw_status dw_tokenize_operation(dw_door *door, dw_operation *op) {
    const dw_request *request = &op->request;
    dw_model_entry *model = NULL;
    dw_vocab *vocab = NULL;
    void *text = NULL, *tokens = NULL;
    size_t n = 0;
    if (request->len1 > DW_TURN_TOKENS_MAX || request->len0 > DW_TEXT_BYTES_MAX) return DW_E_LIMIT;
    dw_status status = vocab_of(door, op, &model, &vocab);
    if (status == DW_OK) status = dw_door_copy(door, op, request->ptr0, request->len0, 1, &text);
    if (status == DW_OK)
        status = dw_door_view(door, request->ptr1, (uint64_t)request->len1 * sizeof(int32_t), 4, &tokens);
    if (status == DW_OK) {
        status = dw_vocab_tokenize(vocab, text, request->len0, (request->flags & DW_FLAG_SPECIAL) != 0,
                                   (request->flags & DW_FLAG_CONTROL) != 0, tokens, request->len1, &n, NULL);
        op->completion.result0 = (uint32_t)n;
    }
    dw_door_drop_copy(door, op, text, request->len0);
    dw_model_entry_release(model);
    return status;
}

dw_status dw_detokenize_operation(dw_door *door, dw_operation *op) {
    const dw_request *request = &op->request;
    dw_model_entry *model = NULL;
    dw_vocab *vocab = NULL;
    void *tokens = NULL, *text = NULL;
    size_t n = 0;
    if (request->len0 > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = vocab_of(door, op, &model, &vocab);
    if (status == DW_OK)
        status = dw_door_copy(door, op, request->ptr0, (uint64_t)request->len0 * sizeof(int32_t), 4, &tokens);
    if (status == DW_OK) status = dw_door_view(door, request->ptr1, request->len1, 1, &text);
    if (status == DW_OK) {
        status = dw_vocab_detokenize(vocab, tokens, request->len0, (request->flags & DW_FLAG_CONTROL) != 0, text,
                                     request->len1, &n, NULL);
        op->completion.result0 = (uint32_t)n;
    }
    dw_door_drop_copy(door, op, tokens, (uint64_t)request->len0 * sizeof(int32_t));
    dw_model_entry_release(model);
    return status;
}

dw_status dw_token_info_operation(dw_door *door, dw_operation *op) {
    dw_model_entry *model = NULL;
    dw_vocab *vocab = NULL;
    dw_status status = vocab_of(door, op, &model, &vocab);
    if (status == DW_OK && op->request.arg0 == UINT32_MAX) {
        op->completion.result1 = (uint64_t)(int64_t)dw_vocab_bos(vocab);
        op->completion.result2 = (uint64_t)(int64_t)dw_vocab_eos(vocab);
    } else if (status == DW_OK && op->request.arg0 >= dw_vocab_size(vocab)) {
        status = DW_E_RANGE;
    } else if (status == DW_OK) {
        int32_t token = (int32_t)op->request.arg0;
        if (dw_vocab_is_end(vocab, token)) op->completion.result0 |= DW_TOKEN_END;
        if (dw_vocab_is_control(vocab, token)) op->completion.result0 |= DW_TOKEN_CONTROL;
    }
    dw_model_entry_release(model);
    return status;
}

/* operations_embed.c: texts to vectors (guest.h DW_OP_EMBED): from the guest's records to a job of the model's engine.
 *
 * Texts are copied, tokenized and checked when the request is taken. The vectors' pages are lent while the job runs:
 * the model's graph writes there itself where its device can. No session takes part. */
#include <stdlib.h>
#include <string.h>
#include "door/door_internal.h"

enum { VECTORS_ALIGN = 64 };

typedef struct embed_plan {
    dw_door *door;
    dw_operation *op;
    const dw_model_info *info;
    dw_vocab *vocab;
    bool are_tokens;
    uint8_t *vectors_place; /* where they will lie, here */
    uint64_t text_bytes;
    uint32_t n_tokens;      /* of the texts so far; they lie one behind the other in op->tokens */
} embed_plan;

static dw_status read_embed_options(dw_door *door, const dw_request *request, dw_embed_options *out) {
    memset(out, 0, sizeof *out);
    if (request->len0 != sizeof *out) return DW_E_INVALID;
    dw_status status = dw_door_read(door, request->ptr0, out, sizeof *out);
    if (status != DW_OK) return status;
    if (out->size != sizeof *out || out->pooling > DW_EMBED_LAST) return DW_E_INVALID;
    if (out->flags & ~(uint32_t)(DW_EMBED_NORMALIZE | DW_EMBED_TOKENS)) return DW_E_INVALID;
    if ((out->n_texts == 0) != (request->len1 == 0)) return DW_E_INVALID;
    return out->n_texts > DW_EMBED_TEXTS_MAX ? DW_E_LIMIT : DW_OK;
}

/* The model that the options name; the operation is a user of it from now on. */
static dw_status take_embed_model(dw_door *door, dw_operation *op, const dw_embed_options *options) {
    char name[DW_MODEL_NAME_BYTES_MAX];
    if (options->model_len > sizeof name) return DW_E_NOT_FOUND;
    dw_status status = dw_door_read(door, options->model, name, options->model_len);
    if (status != DW_OK) return status;
    op->model = dw_runtime_take_model(door->options.runtime, name, options->model_len);
    return op->model ? DW_OK : DW_E_NOT_FOUND;
}

/* Charges and makes room for n more tokens behind those there are. */
static dw_status room_for(embed_plan *plan, uint64_t n) {
    dw_operation *op = plan->op;
    if (plan->n_tokens + n > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = dw_port_charge(op->port, op, n * sizeof *op->tokens);
    if (status != DW_OK) return status;
    int32_t *grown = realloc(op->tokens, (plan->n_tokens + n + 1) * sizeof *grown);
    if (!grown) return DW_E_NO_MEMORY;
    op->tokens = grown;
    return DW_OK;
}

static dw_status copy_text_tokens(embed_plan *plan, const dw_text *text, uint32_t *n) {
    void *place;
    dw_status status =
        dw_door_view(plan->door, text->ptr, (uint64_t)text->len * sizeof(int32_t), sizeof(int32_t), &place);
    if (status == DW_OK) status = room_for(plan, text->len);
    if (status != DW_OK) return status;
    memcpy(plan->op->tokens + plan->n_tokens, place, text->len * sizeof(int32_t));
    *n = text->len;
    return DW_OK;
}

/* The vocabulary is asked twice, how many tokens there are and for them: both times about the copy. */
static dw_status tokenize_copy(embed_plan *plan, const char *text, uint32_t length, uint32_t *n) {
    size_t needed = 0, made = 0;
    dw_status status = dw_vocab_tokenize(plan->vocab, text, length, true, false, NULL, 0, &needed, NULL);
    if (status != DW_OK && status != DW_E_FULL) return status;
    *n = (uint32_t)dw_min_u64(needed, UINT32_MAX);
    if (needed > plan->info->context_tokens) return DW_OK; /* refused with its number by the caller */
    status = room_for(plan, needed);
    if (status != DW_OK) return status;
    status = dw_vocab_tokenize(plan->vocab, text, length, true, false, plan->op->tokens + plan->n_tokens, needed, &made,
                               NULL);
    return status == DW_OK && made != needed ? DW_E_INTERNAL : status;
}

static dw_status tokenize_text(embed_plan *plan, const dw_text *text, uint32_t *n) {
    void *copy = NULL;
    if (text->len > DW_TEXT_BYTES_MAX || (plan->text_bytes += text->len) > DW_TEXT_BYTES_MAX) return DW_E_LIMIT;
    dw_status status = dw_vocab_wait_in_turn(plan->vocab, plan->door->port->park, NULL);
    if (status == DW_OK) status = dw_door_copy(plan->door, plan->op, text->ptr, text->len, 1, &copy);
    if (status == DW_OK) status = tokenize_copy(plan, copy, text->len, n);
    dw_door_drop_copy(plan->door, plan->op, copy, text->len);
    return status;
}

static dw_status text_copy_in(embed_plan *plan, const dw_text *text, uint32_t i) {
    dw_operation *op = plan->op;
    uint32_t n = 0;
    dw_status status = plan->are_tokens ? copy_text_tokens(plan, text, &n) : tokenize_text(plan, text, &n);
    if (status != DW_OK) return status;
    if (n == 0) return DW_E_INVALID;
    if (n > plan->info->context_tokens) {
        op->completion.result1 = n;
        op->completion.result2 = plan->info->context_tokens;
        return DW_E_FULL;
    }
    /* Its tokens' address follows when op->tokens has stopped moving. */
    op->embed_texts[i].n_tokens = n;
    op->embed_texts[i].vector =
        (float *)(void *)(plan->vectors_place + (size_t)i * plan->info->n_embedding * sizeof(float));
    plan->n_tokens += n;
    return DW_OK;
}

static dw_status texts_copy_in(embed_plan *plan, const dw_embed_options *options) {
    dw_operation *op = plan->op;
    void *place;
    dw_text texts[DW_EMBED_TEXTS_MAX];
    dw_status status = dw_door_view(plan->door, options->texts, options->n_texts * sizeof texts[0], 4, &place);
    if (status == DW_OK) status = dw_port_charge(op->port, op, options->n_texts * sizeof *op->embed_texts);
    if (status != DW_OK) return status;
    memcpy(texts, place, options->n_texts * sizeof texts[0]);
    op->embed_texts = calloc(options->n_texts, sizeof *op->embed_texts);
    if (!op->embed_texts) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < options->n_texts && status == DW_OK; i++) status = text_copy_in(plan, &texts[i], i);
    const int32_t *tokens = op->tokens;
    for (uint32_t i = 0; i < options->n_texts && status == DW_OK; i++) {
        op->embed_texts[i].tokens = tokens;
        tokens += op->embed_texts[i].n_tokens;
    }
    return status;
}

/* Checks the place of the vectors, copies the texts and lends the vectors' pages. */
static dw_status plan_vectors(embed_plan *plan, const dw_embed_options *options) {
    dw_operation *op = plan->op;
    uint64_t bytes = (uint64_t)options->n_texts * plan->info->n_embedding * sizeof(float);
    void *place = NULL;
    if ((uint64_t)op->request.len1 * sizeof(float) < bytes) return DW_E_RANGE;
    dw_status status = dw_door_view(plan->door, op->request.ptr1, bytes, VECTORS_ALIGN, &place);
    plan->vectors_place = place;
    if (status == DW_OK) status = texts_copy_in(plan, options);
    if (status == DW_OK) status = dw_port_charge(op->port, op, sizeof *op->spans);
    if (status != DW_OK) return status;
    op->spans = calloc(1, sizeof *op->spans);
    if (!op->spans) return DW_E_NO_MEMORY;
    op->spans[op->n_spans++] = (dw_lent_span){.first = op->request.ptr1, .end = op->request.ptr1 + bytes};
    op->job.texts = op->embed_texts;
    return dw_door_lend(plan->door, op);
}

dw_status dw_embed_copy_in(dw_door *door, dw_operation *op) {
    dw_embed_options options;
    dw_status status = read_embed_options(door, &op->request, &options);
    if (status == DW_OK) status = take_embed_model(door, op, &options);
    if (status != DW_OK) return status;
    dw_model *model = op->model->model;
    const dw_model_info *info = dw_model_info_view(model);
    embed_plan plan = {.door = door, .op = op, .info = info, .vocab = dw_model_vocab(model),
                       .are_tokens = (options.flags & DW_EMBED_TOKENS) != 0};
    op->completion.result0 = info->n_embedding;
    op->job = (dw_job){.kind = DW_JOB_EMBED,
                       .model = model,
                       .n_texts = options.n_texts,
                       .pooling = (dw_pooling)options.pooling,
                       .normalize = (options.flags & DW_EMBED_NORMALIZE) != 0};
    return options.n_texts ? plan_vectors(&plan, &options) : DW_OK; /* none: only asks what the model is */
}

/* Engine's thread. */
static void embed_done(dw_job *job) {
    dw_operation *op = job->context;
    dw_port_done(op->port, op);
}

bool dw_embed_start(dw_door *door, dw_operation *op) {
    dw_error err;
    if (op->job.n_texts == 0) {
        op->completion.result1 = 0;
        op->completion.result2 = dw_model_info_view(op->job.model)->context_tokens;
        return true;
    }
    op->job.priority = door->options.priority;
    op->job.context = op;
    op->job.on_done = embed_done;
    op->engine = op->model->engine;
    op->has_job = true;
    dw_status status = dw_engine_submit(op->engine, &op->job, &err);
    op->completion.status = status;
    if (status == DW_OK) return false;
    op->has_job = false;
    dw_log(DW_LOG_INFO, "job_refused", "actor=%s status=%s reason=%s", door->options.name, dw_status_name(status),
           err.text);
    return true;
}

/* The window is over: what lies there is what the engine wrote. Vectors that are no numbers are taken away again. */
void dw_embed_deliver(dw_operation *op) {
    const dw_model_info *info = dw_model_info_view(op->job.model);
    op->completion.result1 = op->job.n_evaluated;
    op->completion.result2 = info->context_tokens;
    if (op->completion.status != DW_OK) return;
    float *vectors = op->embed_texts[0].vector;
    size_t n = (size_t)op->job.n_texts * info->n_embedding;
    if (dw_all_finite(vectors, n, false)) return;
    memset(vectors, 0, n * sizeof *vectors);
    op->completion.status = DW_E_DEVICE;
}

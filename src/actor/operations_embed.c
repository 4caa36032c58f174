/* operations_embed.c: texts to vectors (guest.h DW_OP_EMBED): from the guest's records to a job of the model's engine.
 *
 * Texts are copied, tokenized and checked when the request is taken. The vectors' pages are lent while the job runs: the model's graph
 * writes there itself where its device can. No session takes part. */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

enum { VECTORS_ALIGN = 64 };

typedef struct embed_plan {
    dw_guest_memory *memory;
    operation *op;
    const dw_model_info *info;
    dw_vocab *vocab;
    bool are_tokens;
    uint64_t vectors;       /* guest address */
    uint8_t *vectors_place; /* the same, here */
    uint64_t text_bytes;
    uint32_t n_tokens;      /* of the texts so far; they lie one behind the other in op->tokens */
} embed_plan;

static dw_status read_options(const dw_guest_memory *memory, const dw_request *request, dw_embed_options *out) {
    memset(out, 0, sizeof *out);
    if (request->len0 != sizeof *out) return DW_E_INVALID;
    dw_status status = dw_guest_read(memory, request->ptr0, out, sizeof *out);
    if (status != DW_OK) return status;
    if (out->size != sizeof *out || out->pooling > DW_EMBED_LAST) return DW_E_INVALID;
    if (out->flags & ~(uint32_t)(DW_EMBED_NORMALIZE | DW_EMBED_TOKENS)) return DW_E_INVALID;
    if ((out->n_texts == 0) != (request->len1 == 0)) return DW_E_INVALID;
    return out->n_texts > DW_EMBED_TEXTS_MAX ? DW_E_LIMIT : DW_OK;
}

static dw_status find_model(dw_actor *actor, const dw_guest_memory *memory, const dw_embed_options *options, runtime_model **out) {
    char name[MODEL_NAME_BYTES];
    if (options->model_len >= sizeof name) return DW_E_NOT_FOUND;
    dw_status status = dw_guest_read(memory, options->model, name, options->model_len);
    if (status != DW_OK) return status;
    *out = dw_runtime_find_model(actor->runtime, name, options->model_len);
    return *out ? DW_OK : DW_E_NOT_FOUND;
}

/* Charges and makes room for n more tokens behind those there are. */
static dw_status room_for(embed_plan *plan, uint64_t n) {
    operation *op = plan->op;
    if (plan->n_tokens + n > DW_TURN_TOKENS_MAX) return DW_E_LIMIT;
    dw_status status = dw_port_charge(op->port, op, n * sizeof *op->tokens);
    if (status != DW_OK) return status;
    int32_t *grown = realloc(op->tokens, (plan->n_tokens + n + 1) * sizeof *grown);
    if (!grown) return DW_E_NO_MEMORY;
    op->tokens = grown;
    return DW_OK;
}

static dw_status copy_tokens(embed_plan *plan, const dw_text *text, uint32_t *n) {
    void *place;
    dw_status status = dw_guest_view(plan->memory, text->ptr, (uint64_t)text->len * sizeof(int32_t), sizeof(int32_t), &place);
    if (status == DW_OK) status = room_for(plan, text->len);
    if (status != DW_OK) return status;
    memcpy(plan->op->tokens + plan->n_tokens, place, text->len * sizeof(int32_t));
    *n = text->len;
    return DW_OK;
}

/* The vocabulary is asked twice: how many tokens there are, and for them. */
static dw_status tokenize(embed_plan *plan, const dw_text *text, uint32_t *n) {
    void *place;
    size_t needed = 0, made = 0;
    if (text->len > DW_TEXT_BYTES_MAX || (plan->text_bytes += text->len) > DW_TEXT_BYTES_MAX) return DW_E_LIMIT;
    dw_status status = dw_guest_view(plan->memory, text->ptr, text->len, 1, &place);
    if (status == DW_OK) status = dw_vocab_tokenize(plan->vocab, place, text->len, DW_TEXT_WHOLE, false, NULL, 0, &needed, NULL);
    if (status != DW_OK && status != DW_E_FULL) return status;
    *n = (uint32_t)dw_min_u64(needed, UINT32_MAX);
    if (needed > plan->info->context_tokens) return DW_OK; /* refused with its number by the caller */
    status = room_for(plan, needed);
    if (status == DW_OK) status = dw_vocab_tokenize(plan->vocab, place, text->len, DW_TEXT_WHOLE, false, plan->op->tokens + plan->n_tokens, needed, &made, NULL);
    return status == DW_OK && made != needed ? DW_E_INTERNAL : status;
}

static dw_status text_copy_in(embed_plan *plan, const dw_text *text, uint32_t i) {
    operation *op = plan->op;
    uint32_t n = 0;
    dw_status status = plan->are_tokens ? copy_tokens(plan, text, &n) : tokenize(plan, text, &n);
    if (status != DW_OK) return status;
    if (n == 0) return DW_E_INVALID;
    if (n > plan->info->context_tokens) {
        op->completion.result1 = n;
        op->completion.result2 = plan->info->context_tokens;
        return DW_E_FULL;
    }
    /* Its tokens' address follows when op->tokens has stopped moving. */
    op->embed_texts[i].n_tokens = n;
    op->embed_texts[i].vector = (float *)(void *)(plan->vectors_place + (size_t)i * plan->info->n_embedding * sizeof(float));
    plan->n_tokens += n;
    return DW_OK;
}

static dw_status texts_copy_in(embed_plan *plan, const dw_embed_options *options) {
    operation *op = plan->op;
    void *place;
    dw_text texts[DW_EMBED_TEXTS_MAX];
    dw_status status = dw_guest_view(plan->memory, options->texts, options->n_texts * sizeof texts[0], 4, &place);
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

/* Lends the vectors' pages. They count as written from here on: a device may write them unseen by page tracking, also when its job fails. */
static dw_status lend_vectors(embed_plan *plan, uint64_t bytes) {
    uint64_t page = dw_os_page_bytes(), end = plan->vectors + bytes;
    uint64_t first = dw_round_down_u64(plan->vectors, page);
    dw_status status = dw_region_touch(dw_guest_region(plan->memory), plan->vectors, bytes);
    if (status != DW_OK) return status;
    if (!dw_round_up_u64(end, page, &end)) return DW_E_RANGE;
    status = dw_region_lend(dw_guest_region(plan->memory), first, end - first, &plan->op->lent, NULL);
    plan->op->window = status == DW_OK;
    return status;
}

dw_status dw_embed_copy_in(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    dw_embed_options options;
    runtime_model *model = NULL;
    dw_status status = read_options(memory, &op->request, &options);
    if (status == DW_OK) status = find_model(actor, memory, &options, &model);
    if (status != DW_OK) return status;
    const dw_model_info *info = dw_model_info_view(model->model);
    embed_plan plan = {.memory = memory, .op = op, .info = info, .vocab = dw_model_vocab(model->model), .vectors = op->request.ptr1,
                       .are_tokens = (options.flags & DW_EMBED_TOKENS) != 0};
    uint64_t bytes = (uint64_t)options.n_texts * info->n_embedding * sizeof(float);
    op->completion.result0 = info->n_embedding;
    op->job = (dw_job){.kind = DW_JOB_EMBED, .model = model->model, .n_texts = options.n_texts, .pooling = (dw_pooling)options.pooling,
                       .normalize = (options.flags & DW_EMBED_NORMALIZE) != 0};
    if (options.n_texts == 0) return DW_OK; /* only asks what the model is */
    if ((uint64_t)op->request.len1 * sizeof(float) < bytes) return DW_E_RANGE;
    void *place = NULL;
    status = dw_guest_view(memory, op->request.ptr1, bytes, VECTORS_ALIGN, &place);
    plan.vectors_place = place;
    if (status == DW_OK) status = texts_copy_in(&plan, &options);
    op->job.texts = op->embed_texts;
    return status == DW_OK ? lend_vectors(&plan, bytes) : status;
}

/* Engine's thread. */
static void embed_done(dw_job *job) {
    operation *op = job->context;
    dw_port_done(op->port, op);
}

bool dw_embed_start(dw_actor *actor, operation *op) {
    dw_error err;
    if (op->job.n_texts == 0) {
        op->completion.result1 = 0;
        op->completion.result2 = dw_model_info_view(op->job.model)->context_tokens;
        return true;
    }
    op->job.priority = actor->priority;
    op->job.context = op;
    op->job.on_done = embed_done;
    op->has_job = true;
    op->completion.status = dw_engine_submit(actor->runtime->engine, &op->job, &err);
    if (op->completion.status == DW_OK) return false;
    op->has_job = false;
    dw_log(DW_LOG_INFO, "job_refused", "actor=%s status=%s reason=%s", actor->name, dw_status_name((dw_status)op->completion.status), err.text);
    return true;
}

/* model.c: opening and closing; what a model says about itself. */
#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_internal.h"

enum { CONTEXT_TOKENS_DEFAULT_MAX = 32768, SESSIONS_DEFAULT = 32 };

/* --- info ---------------------------------------------------------------------------------------------------- */

/* Numbers of general.file_type (llama.cpp's enum llama_ftype). */
static const char *file_type_name(uint64_t number) {
    static const struct { uint32_t number; const char *name;
    } names[] = {
        {0, "F32"},     {1, "F16"},     {2, "Q4_0"},     {3, "Q4_1"},    {7, "Q8_0"},     {8, "Q5_0"},
        {9, "Q5_1"},    {10, "Q2_K"},   {11, "Q3_K_S"},  {12, "Q3_K_M"}, {13, "Q3_K_L"},  {14, "Q4_K_S"},
        {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"},  {18, "Q6_K"},   {19, "IQ2_XXS"}, {20, "IQ2_XS"},
        {21, "Q2_K_S"}, {22, "IQ3_XS"}, {23, "IQ3_XXS"}, {24, "IQ1_S"},  {25, "IQ4_NL"},  {26, "IQ3_S"},
        {27, "IQ3_M"},  {28, "IQ2_S"},  {29, "IQ2_M"},   {30, "IQ4_XS"}, {31, "IQ1_M"},   {32, "BF16"},
        {36, "TQ1_0"},  {37, "TQ2_0"},  {38, "MXFP4"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].number == number) return names[i].name;
    }
    return "";
}

static dw_status describe_file(dw_model *model, const char *path, dw_error *err) {
    dw_model_info *info = &model->info;
    dw_gguf_string text = {0};
    uint64_t number = 0;
    bool found = false;
    const char *slash = strrchr(path, '/');
    snprintf(info->path, sizeof info->path, "%s", path);
    snprintf(info->name, sizeof info->name, "%s", slash != NULL ? slash + 1 : path);
    dw_status status = dw_gguf_get_string(model->gguf, "general.name", &text, &found, err);
    if (status == DW_OK && found && text.size > 0)
        snprintf(info->name, sizeof info->name, "%.*s", (int)dw_min_u64(text.size, sizeof info->name), text.data);
    if (status == DW_OK) status = dw_gguf_u64(model->gguf, "general.file_type", &number, &found, err);
    if (status == DW_OK && found) {
        const char *name = file_type_name(number);
        if (name[0] != 0) snprintf(info->file_type, sizeof info->file_type, "%s", name);
        else snprintf(info->file_type, sizeof info->file_type, "type %llu", (unsigned long long)number);
    }
    if (status == DW_OK)
        status = dw_gguf_get_string(model->gguf, "tokenizer.chat_template", &text, &info->has_chat_template, err);
    for (uint64_t i = 0; i < dw_gguf_n_tensors(model->gguf); i++) {
        const uint64_t *shape = dw_gguf_tensor_at(model->gguf, i)->shape;
        info->n_parameters += shape[0] * shape[1] * shape[2] * shape[3]; /* fits: the reader has multiplied it before */
    }
    info->file_bytes = dw_gguf_file_bytes(model->gguf);
    info->n_parts = dw_gguf_n_parts(model->gguf);
    return status;
}

static void describe_sizes(dw_model *model) {
    const dw_hyperparameters *hp = &model->hp;
    dw_model_info *info = &model->info;
    snprintf(info->architecture, sizeof info->architecture, "%s", model->family->architecture);
    info->n_layers = hp->n_layers;
    info->n_vocab = hp->n_vocab;
    info->n_embedding = hp->n_embedding;
    info->n_heads = hp->n_heads;
    info->n_heads_kv = hp->n_heads_kv;
    info->head_dim = hp->head_dim;
    info->context_train_tokens = hp->context_train;
    /* Heads and their size are bounded. */
    info->kv_row_bytes = (uint32_t)dw_kv_row_bytes(info->kv_type, hp->n_heads_kv, hp->head_dim);
    info->kv_bytes_per_token = 2 * (uint64_t)hp->n_layers * info->kv_row_bytes;
    /* A file whose pooling is none of ours is a good decoder all the same; embedding with it needs a pooling named. */
    if (dw_pooling_read(model->gguf, info->architecture, DW_POOLING_LAST, &info->pooling, NULL) != DW_OK)
        info->pooling = DW_POOLING_DEFAULT;
}

/* --- choices ------------------------------------------------------------------------------------------------- */

static dw_status choose_context(dw_model *model, const dw_model_options *options, dw_error *err) {
    uint32_t wanted = options != NULL ? options->context_tokens : 0;
    if (wanted == 0) wanted = (uint32_t)dw_min_u64(model->hp.context_train, CONTEXT_TOKENS_DEFAULT_MAX);
    if (wanted > DW_CONTEXT_TOKENS_MAX)
        return dw_fail(err, DW_E_LIMIT, "a context of %u tokens; at most %u", wanted, DW_CONTEXT_TOKENS_MAX);
    model->info.context_tokens = model->hp.context = wanted;
    return DW_OK;
}

/* A head is read by itself, so it must be whole blocks. */
static dw_status choose_kv_type(dw_model *model, const dw_model_options *options, dw_error *err) {
    dw_kv_type type = options != NULL ? options->kv_type : DW_KV_F16;
    if ((unsigned)type >= DW_KV_TYPES) return dw_fail(err, DW_E_INVALID, "no KV type has number %u", (unsigned)type);
    if (model->hp.head_dim % dw_kv_type_block(type) != 0) {
        return dw_fail(err, DW_E_UNSUPPORTED,
                       "KV rows of type %s need heads of a multiple of %u; this model's have %u: use F16",
                       dw_kv_type_name(type), dw_kv_type_block(type), model->hp.head_dim);
    }
    model->info.kv_type = type;
    return DW_OK;
}

/* --- the pool ------------------------------------------------------------------------------------------------ */

static dw_status make_pool(dw_model *model, const dw_model_options *options, dw_error *err) {
    uint32_t context = model->info.context_tokens,
             sessions = options != NULL && options->sessions_max != 0 ? options->sessions_max : SESSIONS_DEFAULT;
    if (sessions > DW_SESSIONS_PER_MODEL_MAX)
        return dw_fail(err, DW_E_LIMIT, "%u sessions; at most %u", sessions, DW_SESSIONS_PER_MODEL_MAX);
    const dw_session_pool_options pool = {
        .kv = {
            .n_layers = model->hp.n_layers,
            .n_slots = sessions + DW_MODEL_OWN_SLOTS,
            /* Attention sees whole steps, so the rows of the last one must be there. */
            .context_tokens = (context + DW_KV_STEP_ROWS - 1) / DW_KV_STEP_ROWS * DW_KV_STEP_ROWS,
            .row_bytes = model->info.kv_row_bytes,
        },
        .sessions_max = sessions,
        .n_vocab = model->info.n_vocab,
        .context_tokens = context,
        .kv_bytes_max = options != NULL ? options->kv_bytes_max : 0,
    };
    return dw_session_pool_create(&pool, model->device, &model->pool, err);
}

/* A pool that was kept goes on with the model whose rows it holds, and no other. */
static dw_status take_kept_pool(dw_model *model, dw_session_pool *pool, dw_error *err) {
    dw_model_fingerprint fingerprint;
    dw_status status = dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &fingerprint, err);
    if (status != DW_OK) return status;
    const dw_session_pool_options *options = &pool->options;
    bool same = pool->has_origin && memcmp(&pool->origin, &fingerprint, sizeof fingerprint) == 0 &&
                options->kv.n_layers == model->hp.n_layers && options->kv.row_bytes == model->info.kv_row_bytes &&
                options->n_vocab == model->info.n_vocab && options->context_tokens == model->info.context_tokens;
    if (!same)
        return dw_fail(err, DW_E_INVALID,
                       "the sessions to go on with are of another model, or of another context or KV type");
    model->pool = dw_session_pool_retain(pool);
    return DW_OK;
}

/* The decoder, tried on a slot: what the device cannot run is refused now, not in the middle of a conversation. */
static dw_status open_decoder(dw_model *model, dw_error *err) {
    _Static_assert((int)DW_KV_SEEN_BEHIND == (int)DW_KV_STEP_ROWS + (int)DW_KV_RUN_DIFFERENCE_ROWS,
                   "attention looks no further than rows are readable");
    dw_kv_order order = dw_kv_order_of(model->pool->arena);
    dw_graph_model parts = {.family = model->family, .hp = &model->hp, .weights = &model->weights, .bits = &model->bits,
                            .device = model->device, .kv_type = model->info.kv_type, .kv_run_bytes = order.run_bytes,
                            .kv_row_step = order.row_step, .kv_areas_per_run = order.areas_per_run,
                            .kv_in_one_buffer = order.in_one_buffer};
    dw_kv_slot slot = 0;
    dw_graph_binding binding = {0};
    dw_status status = dw_decoder_create(&parts, &model->decoder, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(model->pool->lock);
    status = dw_kv_open(model->pool->arena, &slot, err);
    if (status == DW_OK) status = dw_kv_writable(model->pool->arena, slot, 0, &binding.buffer, &binding.offset, err);
    dw_os_mutex_unlock(model->pool->lock);
    if (status == DW_OK) status = dw_decoder_check(model->decoder, binding, err);
    dw_os_mutex_lock(model->pool->lock);
    dw_kv_close(model->pool->arena, slot);
    dw_os_mutex_unlock(model->pool->lock);
    return status;
}

static dw_status attach(dw_model *model, const dw_model_options *options, dw_error *err) {
    dw_session_pool *kept = options != NULL ? options->pool : NULL;
    dw_status status = kept != NULL ? take_kept_pool(model, kept, err) : make_pool(model, options, err);
    if (status == DW_OK) status = open_decoder(model, err);
    if (status == DW_OK) status = dw_bits_find(model, err);
    if (status != DW_OK) return status;
    model->info.exact_batches = model->bits.batches;
    model->info.exact_cuts = model->bits.chunks;
    dw_os_mutex_lock(model->pool->lock);
    bool taken = model->pool->model != NULL;
    if (!taken) {
        model->pool->model = model;
        model->pool->exact_cuts = model->bits.chunks;
    }
    dw_os_mutex_unlock(model->pool->lock);
    return taken ? dw_fail(err, DW_E_BUSY, "the sessions to go on with have an open model") : DW_OK;
}

static void detach(dw_model *model) {
    if (model->pool == NULL) return;
    dw_os_mutex_lock(model->pool->lock);
    if (model->pool->model == model) model->pool->model = NULL;
    dw_os_mutex_unlock(model->pool->lock);
    dw_session_pool_release(model->pool);
    model->pool = NULL;
}

dw_status dw_model_keep_pool(dw_model *model, dw_session_pool **out, dw_error *err) {
    *out = NULL;
    if (model->pool == NULL) return dw_fail(err, DW_E_STATE, "%s has no sessions", model->info.name);
    dw_model_fingerprint fingerprint;
    dw_status status = dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &fingerprint, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(model->pool->lock);
    model->pool->origin = fingerprint;
    model->pool->has_origin = true;
    dw_os_mutex_unlock(model->pool->lock);
    *out = dw_session_pool_retain(model->pool);
    return DW_OK;
}

/* --- opening ------------------------------------------------------------------------------------------------- */

dw_status dw_model_open(const char *path, dw_device *device, const dw_model_options *options, dw_model **out,
                        dw_error *err) {
    *out = NULL;
    dw_model *model = calloc(1, sizeof *model);
    if (model == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a model");
    model->device = device;
    dw_status status = dw_os_mutex_create(&model->lock, err);
    if (status == DW_OK) status = dw_gguf_open(path, &model->gguf, err);
    if (status == DW_OK) status = describe_file(model, path, err);
    if (status == DW_OK && dw_encoder_is_one(model->gguf)) {
        status = dw_model_open_encoder(model, options, err);
        goto out;
    }
    if (status == DW_OK) status = dw_family_of(model->gguf, &model->family, err);
    if (status == DW_OK) status = dw_hyperparameters_read(model->gguf, model->family, &model->hp, err);
    if (status != DW_OK) goto out;
    status = choose_kv_type(model, options, err);
    if (status != DW_OK) goto out;
    describe_sizes(model);
    status = choose_context(model, options, err);
    if (status == DW_OK)
        status = dw_weights_open(model->gguf, model->family, &model->hp, device, options != NULL && options->repack,
                                 &model->weights, err);
    if (status != DW_OK) goto out;
    model->info.weights_wrapped_bytes = model->weights.placed.wrapped_bytes;
    model->info.weights_copied_bytes = model->weights.placed.copied_bytes;
    model->info.weights_repacked_bytes = model->weights.repacked.bytes;
    model->info.weights = model->weights.repacked.bytes > 0 ? "repacked" : "mapped";
    /* Early: it loads on its own thread while the rest is made ready. */
    status = dw_vocab_create(model->gguf, &model->vocab, err);
    if (status == DW_OK && dw_sampler_create(model->info.n_vocab, &model->sampler) != DW_OK)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a sampler");
    if (status == DW_OK && !(options != NULL && options->without_pool)) status = attach(model, options, err);
out:
    if (status != DW_OK) {
        if (model->gguf) status = dw_error_prefix(err, status, "%s", path); /* dw_gguf_open names the file itself */
        dw_model_close(model);
        return status;
    }
    *out = model;
    return DW_OK;
}

dw_status dw_model_room(float **memory, uint32_t *have, uint32_t n, uint32_t width, dw_error *err) {
    if (n <= *have) return DW_OK;
    float *larger = realloc(*memory, (size_t)n * width * sizeof **memory);
    if (larger == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u rows of %u", n, width);
    *memory = larger;
    *have = n;
    return DW_OK;
}

void dw_model_close(dw_model *model) {
    if (model == NULL) return;
    detach(model);
    dw_vocab_destroy(model->vocab);
    dw_sampler_destroy(model->sampler);
    dw_encoder_close(model->encoder);
    dw_decoder_destroy(model->decoder);
    dw_weights_close(&model->weights);
    dw_gguf_close(model->gguf);
    dw_os_mutex_destroy(model->lock);
    free(model->logits);
    free(model->hidden);
    free(model);
}

const dw_model_info *dw_model_info_view(const dw_model *model) { return &model->info; }
dw_vocab *dw_model_vocab(dw_model *model) { return model->vocab; }
dw_device *dw_model_device(dw_model *model) { return model->device; }
dw_session_pool *dw_model_pool(const dw_model *model) { return model->pool; }

dw_status dw_model_fingerprint_of(dw_model *model, dw_fingerprint_kind kind, dw_model_fingerprint *out, dw_error *err) {
    dw_os_mutex_lock(model->lock);
    bool known = model->has_fingerprint[kind];
    *out = model->fingerprints[kind];
    dw_os_mutex_unlock(model->lock);
    if (known) return DW_OK;
    dw_status status = dw_fingerprint_find(model->gguf, model->info.architecture, model->weights.rope_is_long, kind,
                                           out, err);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(model->lock);
    model->fingerprints[kind] = *out;
    model->has_fingerprint[kind] = true;
    dw_os_mutex_unlock(model->lock);
    return DW_OK;
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

static dw_status pool_for_session(const dw_model *model, dw_session_pool **out, dw_error *err) {
    *out = model->pool;
    if (model->encoder != NULL) {
        return dw_fail(err, DW_E_UNSUPPORTED, "%s (%s) is an encoder: it embeds texts and has no sessions",
                       model->info.name, model->info.architecture);
    }
    return model->pool != NULL ? DW_OK : dw_fail(err, DW_E_STATE, "%s was opened without sessions", model->info.name);
}

dw_status dw_model_create_session(dw_model *model, const dw_session_options *options, dw_session **out, dw_error *err) {
    *out = NULL;
    dw_session_pool *pool;
    dw_status status = pool_for_session(model, &pool, err);
    return status == DW_OK ? dw_session_create(pool, options, out, err) : status;
}

dw_status dw_model_restore_session(dw_model *model, const dw_session_image *image, dw_session **out, dw_error *err) {
    *out = NULL;
    dw_session_pool *pool;
    dw_status status = pool_for_session(model, &pool, err);
    return status == DW_OK ? dw_session_restore(pool, image, out, err) : status;
}

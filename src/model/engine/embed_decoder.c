/* embed_decoder.c: see embed_decoder.h. */
#include "model/engine/embed_decoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

dw_status dw_embed_decoding_create(const dw_model *model, dw_embed_decoding **out, dw_error *err) {
    dw_embed_decoding *decoding = calloc(1, sizeof *decoding);
    *out = decoding;
    if (decoding != NULL) decoding->sum = calloc(model->info.n_embedding, sizeof decoding->sum[0]);
    if (decoding != NULL && decoding->sum != NULL) return DW_OK;
    free(decoding);
    *out = NULL;
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for an embedding");
}

static void give_slot_back(dw_model *model, dw_embed_decoding *decoding) {
    if (!decoding->has_slot) return;
    dw_os_mutex_lock(model->pool->lock);
    dw_kv_close(model->pool->arena, decoding->slot);
    dw_session_pool_set_aside_locked(model->pool, decoding->slot, &decoding->bytes);
    dw_os_mutex_unlock(model->pool->lock);
    decoding->has_slot = false;
    model->embed_slots--;
}

void dw_embed_decoding_destroy(dw_model *model, dw_embed_decoding *decoding) {
    if (decoding == NULL) return;
    give_slot_back(model, decoding);
    free(decoding->sum);
    free(decoding);
}

static dw_status bind_text_slot(dw_model *model, dw_embed_decoding *decoding, uint32_t n_rows, dw_graph_binding *out,
                                dw_error *err) {
    dw_status status = DW_OK;
    dw_os_mutex_lock(model->pool->lock);
    if (!decoding->has_slot) {
        status = dw_kv_open(model->pool->arena, &decoding->slot, err);
        decoding->has_slot = status == DW_OK;
        model->embed_slots += decoding->has_slot;
        model->embed_grants += decoding->has_slot;
    }
    if (status == DW_OK) {
        status = dw_kv_writable(model->pool->arena, decoding->slot, n_rows, &out->buffer, &out->offset, err);
    }
    /* They are held now, perhaps also where that failed. */
    if (decoding->has_slot) dw_session_pool_set_aside_locked(model->pool, decoding->slot, &decoding->bytes);
    dw_os_mutex_unlock(model->pool->lock);
    return status;
}

/* The first of the chunk's rows that the pooling looks at, and how many of them. */
static uint32_t rows_for_pooling(dw_pooling pooling, bool first_chunk, bool last_chunk, uint32_t n, uint32_t *first) {
    *first = pooling == DW_POOLING_LAST ? n - 1 : 0;
    if (pooling == DW_POOLING_MEAN) return n;
    return pooling == DW_POOLING_CLS ? first_chunk : last_chunk;
}

static void add_pooled_rows(const dw_model *model, dw_embed_decoding *decoding, uint32_t n_rows) {
    uint32_t width = model->info.n_embedding;
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < width; i++) decoding->sum[i] += (double)model->hidden[(size_t)r * width + i];
    }
}

static void write_pooled_vector(const dw_model *model, const dw_embed_decoding *decoding, const dw_embed_text *text,
                                dw_pooling pooling, bool normalize) {
    uint32_t width = model->info.n_embedding;
    double divisor = pooling == DW_POOLING_MEAN ? text->n_tokens : 1, squares = 0;
    for (uint32_t i = 0; i < width; i++) squares += decoding->sum[i] * decoding->sum[i];
    if (normalize && squares > 0) divisor = sqrt(squares);
    for (uint32_t i = 0; i < width; i++) text->vector[i] = (float)(decoding->sum[i] / divisor);
}

dw_status dw_embed_decode(dw_model *model, dw_embed_decoding *decoding, const dw_embed_text *text, dw_pooling pooling,
                          bool normalize,
                          uint32_t *n_evaluated, bool *done, dw_error *err) {
    uint32_t left = text->n_tokens - decoding->n_rows, first =
        0, wanted[DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN];
    uint32_t n = left < DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN ? left : DW_PREFILL_CHUNK_TOKENS;
    uint32_t n_wanted = rows_for_pooling(pooling, decoding->n_rows == 0, n == left, n, &first);
    dw_graph_binding binding = {0};
    *n_evaluated = 0;
    *done = false;
    for (uint32_t i = 0; i < n_wanted; i++) wanted[i] = first + i;
    dw_status status = bind_text_slot(model, decoding, decoding->n_rows + n, &binding, err);
    if (status == DW_OK) {
        status = dw_model_room(&model->hidden, &model->hidden_rows, n_wanted, model->info.n_embedding, err);
    }
    if (status != DW_OK) return status;
    dw_graph_part part = {.tokens = text->tokens + decoding->n_rows, .n_tokens = n, .first_position = decoding->n_rows,
                          .binding = binding};
    dw_graph_batch batch = {.parts = &part, .n_parts = 1, .wanted = wanted, .n_wanted = n_wanted,
                            .result = DW_RESULT_NORMED};
    status = dw_decoder_evaluate(model->decoder, &batch, model->hidden, err);
    if (status != DW_OK) return status;
    add_pooled_rows(model, decoding, n_wanted);
    decoding->n_rows += n;
    dw_os_mutex_lock(model->pool->lock);
    dw_kv_commit(model->pool->arena, decoding->slot, decoding->n_rows);
    dw_os_mutex_unlock(model->pool->lock);
    *n_evaluated = n;
    if (n < left) return DW_OK;
    write_pooled_vector(model, decoding, text, pooling, normalize);
    give_slot_back(model, decoding);
    decoding->n_rows = 0;
    memset(decoding->sum, 0, model->info.n_embedding * sizeof decoding->sum[0]);
    *done = true;
    return DW_OK;
}

/* decoder.c */
#include "model/graph/graph_internal.h"

#include <stdlib.h>

/* Graphs of few columns cost little memory and come again and again. A prefill graph's memory grows with its
 * columns. */
enum { SMALL_GRAPHS = 4, SMALL_COLUMNS = DW_BATCH_PARTS_MAX };

typedef struct kept_graph {
    dw_graph *graph;
    uint64_t used; /* when last, in evaluations */
} kept_graph;

struct dw_decoder {
    kept_graph small[SMALL_GRAPHS];
    dw_graph *large, *head;
    uint64_t evaluations;
};

dw_status dw_decoder_create(const dw_graph_model *model, dw_decoder **out, dw_error *err) {
    *out = NULL;
    dw_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a decoder");
    dw_status status = dw_graph_create(model, &decoder->large, err);
    for (int i = 0; status == DW_OK && i < SMALL_GRAPHS; i++)
        status = dw_graph_create(model, &decoder->small[i].graph, err);
    if (status == DW_OK) status = dw_graph_create(model, &decoder->head, err);
    if (status != DW_OK) dw_decoder_destroy(decoder);
    else *out = decoder;
    return status;
}

void dw_decoder_destroy(dw_decoder *decoder) {
    if (decoder == NULL) return;
    for (int i = 0; i < SMALL_GRAPHS; i++) dw_graph_destroy(decoder->small[i].graph);
    dw_graph_destroy(decoder->large);
    dw_graph_destroy(decoder->head);
    free(decoder);
}

dw_status dw_decoder_check(dw_decoder *decoder, dw_graph_binding binding, dw_error *err) {
    static const int32_t tokens[DW_PREFILL_CHUNK_TOKENS_MIN];
    static const uint32_t wanted[2] = {0, 1};
    dw_graph_part one = {.tokens = tokens, .n_tokens = 1, .binding = binding};
    dw_graph_part many = {.tokens = tokens, .n_tokens = DW_PREFILL_CHUNK_TOKENS_MIN, .binding = binding};
    dw_graph_batch decode = {.parts = &one, .n_parts = 1, .wanted = wanted, .n_wanted = 1};
    dw_graph_batch prefill = {.parts = &many, .n_parts = 1, .wanted = wanted, .n_wanted = 2};
    dw_status status = dw_graph_prepare(decoder->small[0].graph, &decode, err);
    if (status == DW_OK) status = dw_graph_prepare(decoder->large, &prefill, err);
    if (status == DW_OK) status = dw_graph_prepare_head(decoder->head, prefill.n_wanted, false, err);
    return status;
}

static dw_graph *graph_for(dw_decoder *decoder, const dw_graph_batch *batch) {
    uint32_t columns = 0;
    for (uint32_t p = 0; p < batch->n_parts; p++) columns += batch->parts[p].n_tokens;
    if (columns > SMALL_COLUMNS) return decoder->large;
    kept_graph *oldest = &decoder->small[0];
    decoder->evaluations++;
    for (int i = 0; i < SMALL_GRAPHS; i++) {
        kept_graph *kept = &decoder->small[i];
        if (kept->used != 0 && dw_graph_holds(kept->graph, batch)) {
            oldest = kept;
            break;
        }
        if (kept->used < oldest->used) oldest = kept;
    }
    oldest->used = decoder->evaluations;
    return oldest->graph;
}

dw_status dw_decoder_evaluate(dw_decoder *decoder, const dw_graph_batch *batch, float *output, dw_error *err) {
    dw_graph *graph = graph_for(decoder, batch);
    dw_status status = dw_graph_prepare(graph, batch, err);
    return status == DW_OK ? dw_graph_run(graph, batch, output, err) : status;
}

dw_status dw_decoder_head(dw_decoder *decoder, const float *hidden, uint32_t n_rows, bool narrow, float *logits,
                          dw_error *err) {
    dw_status status = dw_graph_prepare_head(decoder->head, n_rows, narrow, err);
    return status == DW_OK ? dw_graph_run_head(decoder->head, hidden, logits, err) : status;
}

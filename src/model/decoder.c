/* decoder.c */
#include "model/decoder.h"

#include <stdlib.h>

struct dw_decoder {
    dw_graph *single, *prefill, *head;
};

dw_status dw_decoder_create(const dw_graph_model *model, dw_decoder **out, dw_error *err) {
    *out = NULL;
    dw_decoder *decoder = calloc(1, sizeof *decoder);
    if (decoder == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a decoder");
    dw_status status = dw_graph_create(model, &decoder->single, err);
    if (status == DW_OK) status = dw_graph_create(model, &decoder->prefill, err);
    if (status == DW_OK) status = dw_graph_create(model, &decoder->head, err);
    if (status != DW_OK) dw_decoder_destroy(decoder);
    else *out = decoder;
    return status;
}

void dw_decoder_destroy(dw_decoder *decoder) {
    if (decoder == NULL) return;
    dw_graph_destroy(decoder->single);
    dw_graph_destroy(decoder->prefill);
    dw_graph_destroy(decoder->head);
    free(decoder);
}

dw_status dw_decoder_check(dw_decoder *decoder, dw_graph_binding binding, dw_error *err) {
    dw_graph_shape decode = {.n_tokens = 1, .n_kv = DW_KV_STEP_ROWS, .n_wanted = 1};
    dw_graph_shape prefill = {.n_tokens = DW_PREFILL_CHUNK_TOKENS_MIN, .n_kv = DW_KV_STEP_ROWS, .n_wanted = 2};
    dw_status status = dw_graph_prepare(decoder->single, decode, binding, err);
    if (status == DW_OK) status = dw_graph_prepare(decoder->prefill, prefill, binding, err);
    if (status == DW_OK) status = dw_graph_prepare_head(decoder->head, prefill.n_wanted, err);
    return status;
}

static dw_graph_shape shape_of(const dw_graph_input *input, uint32_t n_tokens, uint32_t n_wanted) {
    uint32_t end = input->first_position + n_tokens;
    return (dw_graph_shape){
        .n_tokens = n_tokens,
        .n_kv = (end + DW_KV_STEP_ROWS - 1) / DW_KV_STEP_ROWS * DW_KV_STEP_ROWS,
        .n_wanted = n_wanted,
    };
}

dw_status dw_decoder_evaluate_normed(dw_decoder *decoder, const dw_graph_input *input, uint32_t n_tokens, uint32_t n_wanted,
                                     dw_graph_binding binding, float *output, dw_error *err) {
    dw_graph_shape shape = shape_of(input, n_tokens, n_wanted);
    shape.normed = n_wanted > 0;
    dw_status status = dw_graph_prepare(decoder->prefill, shape, binding, err);
    return status == DW_OK ? dw_graph_run(decoder->prefill, input, output, err) : status;
}

dw_status dw_decoder_evaluate(dw_decoder *decoder, const dw_graph_input *input, uint32_t n_tokens, uint32_t n_wanted, dw_graph_binding binding,
                              float *output, dw_error *err) {
    dw_graph_shape shape = shape_of(input, n_tokens, n_wanted);
    dw_graph *graph = n_tokens == 1 ? decoder->single : decoder->prefill;
    dw_status status = dw_graph_prepare(graph, shape, binding, err);
    return status == DW_OK ? dw_graph_run(graph, input, output, err) : status;
}

dw_status dw_decoder_head(dw_decoder *decoder, const float *hidden, uint32_t n_rows, float *logits, dw_error *err) {
    dw_status status = dw_graph_prepare_head(decoder->head, n_rows, err);
    dw_graph_input input = {.hidden = hidden};
    return status == DW_OK ? dw_graph_run(decoder->head, &input, logits, err) : status;
}

/* inputs.c: what a graph is fed with: tokens, positions, places of rows, masks, wanted columns. */
#include <stdlib.h>
#include <string.h>

#include "ggml.h"
#include "model/graph/graph_internal.h"

/* --- tensors ------------------------------------------------------------------------------------------------- */

static struct ggml_tensor *mark_input(struct ggml_tensor *t, const char *name) {
    ggml_set_name(t, name);
    ggml_set_input(t);
    return t;
}

static void make_masks(dw_graph *g, uint32_t r) {
    const dw_graph_run_shape *run = &g->shape.runs[r];
    int64_t n_queries = run->n_columns / run->n_parts, n_kv = run->n_kv, n_sequences = run->n_sequences;
    dw_graph_inputs *in = &g->inputs;
    in->mask[r] = mark_input(ggml_new_tensor_4d(g->context, GGML_TYPE_F16, n_kv, n_queries, 1, n_sequences), "mask");
    if (g->model.hp->window == 0) return;
    in->mask_window[r] = mark_input(ggml_new_tensor_4d(g->context, GGML_TYPE_F16, n_kv, n_queries, 1, n_sequences),
                                    "mask_window");
}

void dw_graph_make_inputs(dw_graph *g) {
    struct ggml_context *c = g->context;
    dw_graph_inputs *in = &g->inputs;
    int64_t n = g->shape.n_tokens;
    if (dw_graph_too_large(g, g->model.weights->embedding)) {
        in->embedding = mark_input(ggml_new_tensor_2d(c, GGML_TYPE_F32, g->model.hp->n_embedding, n), "embedding");
    } else {
        in->tokens = mark_input(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "tokens");
    }
    in->positions = mark_input(ggml_new_tensor_1d(c, GGML_TYPE_I32, n), "positions");
    in->row_index = mark_input(ggml_new_tensor_1d(c, GGML_TYPE_I64, n), "row_index");
    for (uint32_t r = 0; r < g->shape.n_runs; r++) make_masks(g, r);
    if (g->shape.n_wanted != 0 && g->shape.n_wanted < g->shape.n_tokens) {
        in->wanted = mark_input(ggml_new_tensor_1d(c, GGML_TYPE_I32, g->shape.n_wanted), "wanted");
    }
}

void dw_graph_make_head_input(dw_graph *g) {
    g->inputs.hidden = mark_input(
        ggml_new_tensor_2d(g->context, GGML_TYPE_F32, g->model.hp->n_embedding, g->shape.n_wanted), "hidden");
}

/* --- feeding ------------------------------------------------------------------------------------------------- */

/* A graph without output never looks at some of its inputs, and the allocator gives those no memory. */
static bool unused(const struct ggml_tensor *tensor) { return tensor == NULL || tensor->data == NULL; }

/* Memory to make an input in: the tensor itself where it is host memory, else scratch that `send` copies. */
static void *graph_input_memory(dw_graph *graph, struct ggml_tensor *tensor, dw_error *err) {
    if (dw_graph_on_host(graph)) return tensor->data;
    size_t bytes = ggml_nbytes(tensor);
    if (bytes > graph->scratch_bytes) {
        void *larger = realloc(graph->scratch, bytes);
        if (larger == NULL) {
            (void)dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph's input");
            return NULL;
        }
        graph->scratch = larger;
        graph->scratch_bytes = bytes;
    }
    return graph->scratch;
}

static dw_status send_graph_input(dw_graph *graph, struct ggml_tensor *tensor, const void *memory) {
    return memory == tensor->data ? DW_OK
                                  : dw_tensor_write(graph->model.device, tensor, memory, 0, ggml_nbytes(tensor));
}

static dw_status feed_tokens(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    if (unused(graph->inputs.tokens)) return DW_OK;
    int32_t *to = graph_input_memory(graph, graph->inputs.tokens, err), *next = to;
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t p = 0; p < batch->n_parts; p++) {
        memcpy(next, batch->parts[p].tokens, batch->parts[p].n_tokens * sizeof next[0]);
        next += batch->parts[p].n_tokens;
    }
    return send_graph_input(graph, graph->inputs.tokens, to);
}

/* Looks embedding rows up on the host: some devices' operations cannot take a tensor of this size. */
static dw_status feed_embedding(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    struct ggml_tensor *tensor = graph->inputs.embedding;
    if (unused(tensor)) return DW_OK;
    const struct ggml_tensor *table = graph->model.weights->embedding;
    const struct ggml_type_traits *traits = ggml_get_type_traits(table->type);
    float *to = graph_input_memory(graph, tensor, err), *next = to;
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t p = 0; p < batch->n_parts; p++) {
        for (uint32_t i = 0; i < batch->parts[p].n_tokens; i++, next += table->ne[0]) {
            const uint8_t *row = (const uint8_t *)graph->model.weights->embedding_host +
                                 (size_t)batch->parts[p].tokens[i] * table->nb[1];
            if (table->type == GGML_TYPE_F32) memcpy(next, row, table->nb[1]);
            else traits->to_float(row, next, table->ne[0]);
        }
    }
    return send_graph_input(graph, tensor, to);
}

static dw_status feed_positions(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    if (unused(graph->inputs.positions)) return DW_OK;
    int32_t *to = graph_input_memory(graph, graph->inputs.positions, err), *next = to;
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t p = 0; p < batch->n_parts; p++) {
        for (uint32_t i = 0; i < batch->parts[p].n_tokens; i++) *next++ = (int32_t)(batch->parts[p].first_position + i);
    }
    return send_graph_input(graph, graph->inputs.positions, to);
}

static dw_status feed_row_index(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    int64_t *to = graph_input_memory(graph, graph->inputs.row_index, err), *next = to;
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t p = 0; p < batch->n_parts; p++) {
        const dw_graph_part *part = &batch->parts[p];
        uint64_t slot_row = dw_graph_one_store(graph) ? part->binding.offset / graph->model.kv_row_step : 0;
        uint64_t first = slot_row + part->first_position;
        for (uint32_t i = 0; i < part->n_tokens; i++) *next++ = (int64_t)(first + i);
    }
    return send_graph_input(graph, graph->inputs.row_index, to);
}

/* 0 where a token at a position may look at a row, minus infinity elsewhere. */
static void fill_mask_row(uint16_t *to, uint32_t n_kv, uint32_t position, uint32_t window) {
    const uint16_t minus_infinity = 0xfc00; /* F16 */
    uint32_t begin = window != 0 && position >= window ? position - window + 1 : 0;
    for (uint32_t row = 0; row < begin; row++) to[row] = minus_infinity;
    memset(to + begin, 0, (position + 1 - begin) * sizeof to[0]);
    for (uint32_t row = position + 1; row < n_kv; row++) to[row] = minus_infinity;
}

static dw_status feed_mask(dw_graph *graph, const dw_graph_batch *batch, uint32_t r, struct ggml_tensor *tensor,
                           uint32_t window, dw_error *err) {
    if (unused(tensor)) return DW_OK;
    const dw_graph_run_shape *run = &graph->shape.runs[r];
    const dw_graph_part *parts = &batch->parts[graph->places[r].first_part];
    uint16_t *to = graph_input_memory(graph, tensor, err), *next = to;
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t p = 0; p < run->n_parts; p++) {
        for (uint32_t i = 0; i < parts[p].n_tokens; i++, next += run->n_kv)
            fill_mask_row(next, run->n_kv, parts[p].first_position + i, window);
    }
    if (run->n_sequences > run->n_parts) {
        for (uint32_t row = 0; row < run->n_kv; row++) next[row] = 0xfc00;
    }
    return send_graph_input(graph, tensor, to);
}

static dw_status feed_wanted(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    if (unused(graph->inputs.wanted)) return DW_OK;
    int32_t *to = graph_input_memory(graph, graph->inputs.wanted, err);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < batch->n_wanted; i++) to[i] = (int32_t)batch->wanted[i];
    return send_graph_input(graph, graph->inputs.wanted, to);
}

dw_status dw_graph_feed(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    dw_status status = feed_tokens(graph, batch, err);
    if (status == DW_OK) status = feed_embedding(graph, batch, err);
    if (status == DW_OK) status = feed_positions(graph, batch, err);
    if (status == DW_OK) status = feed_row_index(graph, batch, err);
    for (uint32_t r = 0; status == DW_OK && r < graph->shape.n_runs; r++) {
        status = feed_mask(graph, batch, r, graph->inputs.mask[r], 0, err);
        if (status == DW_OK)
            status = feed_mask(graph, batch, r, graph->inputs.mask_window[r], graph->model.hp->window, err);
    }
    return status == DW_OK ? feed_wanted(graph, batch, err) : status;
}

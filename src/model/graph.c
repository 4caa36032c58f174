/* graph.c: builds, binds and runs graphs. The operations of a layer are in layer.c. */
#include "model/graph.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/graph_internal.h"

enum {
    NODES_PER_LAYER = 64, /* the richest family uses 46 tensors a layer, views included */
    NODES_OUTSIDE = 96,   /* inputs, norm, head in parts */
};

/* --- holder -------------------------------------------------------------------------------------------------- */

dw_status dw_graph_create(const dw_graph_model *model, dw_graph **out, dw_error *err) {
    *out = NULL;
    uint32_t n_layers = model->hp->n_layers;
    dw_graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    dw_status status = DW_OK;
    graph->model = *model;
    graph->nodes_max = (size_t)n_layers * NODES_PER_LAYER + NODES_OUTSIDE;
    graph->memory_bytes = graph->nodes_max * ggml_tensor_overhead() + ggml_graph_overhead_custom(graph->nodes_max, false);
    graph->memory = malloc(graph->memory_bytes);
    graph->layers = calloc(n_layers, sizeof graph->layers[0]);
    ggml_backend_t backend = dw_device_backend(model->device);
    graph->allocator = ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend));
    if (graph->memory == NULL || graph->layers == NULL || graph->allocator == NULL) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
        dw_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return DW_OK;
}

static void forget(dw_graph *graph) {
    if (graph->context != NULL) ggml_free(graph->context);
    graph->context = NULL;
    graph->graph = NULL;
    graph->is_head = false;
    graph->shape = (dw_graph_shape){0};
}

void dw_graph_destroy(dw_graph *graph) {
    if (graph == NULL) return;
    forget(graph);
    if (graph->allocator != NULL) ggml_gallocr_free(graph->allocator);
    if (graph->counted_bytes > 0) dw_device_count_release(graph->model.device, graph->counted_bytes);
    free(graph->memory);
    free(graph->layers);
    free(graph->scratch);
    free(graph);
}

static dw_status begin(dw_graph *graph, dw_error *err) {
    forget(graph);
    memset(&graph->inputs, 0, sizeof graph->inputs);
    memset(graph->layers, 0, graph->model.hp->n_layers * sizeof graph->layers[0]);
    graph->output = NULL;
    graph->context = ggml_init((struct ggml_init_params){.mem_size = graph->memory_bytes, .mem_buffer = graph->memory, .no_alloc = true});
    if (graph->context == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    graph->graph = ggml_new_graph_custom(graph->context, graph->nodes_max, false);
    return DW_OK;
}

static bool on_host(const dw_graph *graph) { return dw_device_info_view(graph->model.device)->addresses_are_host; }

/* Checks every node, then gives memory to all tensors that have none. */
static dw_status finish(dw_graph *graph, dw_error *err) {
    dw_device *device = graph->model.device;
    dw_status status = dw_device_supports(device, graph->graph, err);
    if (status != DW_OK) return status;
    /* The logits lie where the caller wants them: a stand-in address keeps the allocator from giving them memory of its own. */
    if (graph->output != NULL && graph->output_is_placed) graph->output->data = graph->memory;
    if (!ggml_gallocr_alloc_graph(graph->allocator, graph->graph)) return dw_fail(err, DW_E_NO_MEMORY, "the device has no memory for a graph");
    uint64_t bytes = ggml_gallocr_get_buffer_size(graph->allocator, 0);
    if (bytes > graph->counted_bytes) {
        dw_device_count_allocation(device, bytes - graph->counted_bytes);
        graph->counted_bytes = bytes;
    }
    return DW_OK;
}

/* --- binding ------------------------------------------------------------------------------------------------- */

/* Points the KV tensors at the slot. On the host one tensor per area covers the arena and the slot's rows begin at a row index; where
 * each slot has a buffer of its own, the index is 0. */
static dw_status bind(dw_graph *graph, dw_graph_binding binding, dw_error *err) {
    const dw_graph_model *model = &graph->model;
    uint64_t row_bytes = dw_graph_row_bytes(graph);
    if (binding.offset % row_bytes != 0) return dw_fail(err, DW_E_INTERNAL, "a KV slot begins inside a row");
    graph->first_row = on_host(graph) ? binding.offset / row_bytes : 0;
    uint64_t base = on_host(graph) ? 0 : binding.offset;
    for (uint32_t layer = 0; layer < model->hp->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            dw_graph_kv *kv = &graph->layers[layer].kv[which];
            if (kv->rows == NULL) continue;
            kv->rows->data = NULL;
            kv->rows->buffer = NULL;
            dw_status status = dw_buffer_place(binding.buffer, kv->rows, base + (2 * layer + (uint32_t)which) * model->kv_area_bytes, err);
            if (status != DW_OK) return status;
            if (kv->written->buffer != NULL) { /* else the allocator has not been here yet and will derive the views itself */
                kv->written->data = kv->rows->data;
                kv->written->buffer = kv->rows->buffer;
            }
            if (kv->seen == NULL) continue;
            kv->seen->view_offs = (size_t)(graph->first_row * row_bytes);
            if (kv->seen->buffer != NULL) {
                kv->seen->data = (char *)kv->rows->data + kv->seen->view_offs;
                kv->seen->buffer = kv->rows->buffer;
            }
        }
    }
    return DW_OK;
}

/* Rows that the KV tensor of an area has: on the host to the end of the arena (every slot's rows are among them), elsewhere no more than
 * this graph sees, because a device limits the size of one tensor. */
static uint64_t kv_tensor_rows(const dw_graph *graph, dw_graph_binding binding) {
    uint64_t row_bytes = dw_graph_row_bytes(graph);
    if (!on_host(graph)) return graph->shape.n_kv;
    uint64_t last_area = (2 * (uint64_t)graph->model.hp->n_layers - 1) * graph->model.kv_area_bytes;
    return (dw_buffer_size(binding.buffer) - last_area) / row_bytes;
}

dw_status dw_graph_prepare(dw_graph *graph, dw_graph_shape shape, dw_graph_binding binding, dw_error *err) {
    bool same = graph->graph != NULL && !graph->is_head && graph->shape.n_tokens == shape.n_tokens && graph->shape.n_kv == shape.n_kv &&
                graph->shape.n_wanted == shape.n_wanted && graph->shape.normed == shape.normed;
    if (same) return bind(graph, binding, err);
    dw_status status = begin(graph, err);
    if (status != DW_OK) goto out;
    graph->shape = shape;
    graph->kv_rows = kv_tensor_rows(graph, binding);
    dw_graph_build(graph);
    status = bind(graph, binding, err);
    if (status == DW_OK) status = finish(graph, err);
out:
    if (status != DW_OK) forget(graph);
    return status;
}

dw_status dw_graph_prepare_head(dw_graph *graph, uint32_t n_rows, dw_error *err) {
    if (graph->graph != NULL && graph->is_head && graph->shape.n_wanted == n_rows) return DW_OK;
    dw_status status = begin(graph, err);
    if (status != DW_OK) goto out;
    graph->is_head = true;
    graph->shape = (dw_graph_shape){.n_wanted = n_rows};
    dw_graph_build_head(graph);
    status = finish(graph, err);
out:
    if (status != DW_OK) forget(graph);
    return status;
}

/* --- inputs -------------------------------------------------------------------------------------------------- */

/* A graph without output never looks at some of its inputs, and the allocator gives those no memory. */
static bool unused(const struct ggml_tensor *tensor) { return tensor == NULL || tensor->data == NULL; }

/* Memory to make an input in: the tensor itself where it is host memory, else scratch that `send` copies. */
static void *input_memory(dw_graph *graph, struct ggml_tensor *tensor, dw_error *err) {
    if (on_host(graph)) return tensor->data;
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

static dw_status send(dw_graph *graph, struct ggml_tensor *tensor, const void *memory) {
    return memory == tensor->data ? DW_OK : dw_tensor_write(graph->model.device, tensor, memory, 0, ggml_nbytes(tensor));
}

static dw_status set_i32(dw_graph *graph, struct ggml_tensor *tensor, const int32_t *values, uint32_t first, uint32_t n, dw_error *err) {
    if (unused(tensor)) return DW_OK;
    int32_t *to = input_memory(graph, tensor, err);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < n; i++) to[i] = values != NULL ? values[i] : (int32_t)(first + i);
    return send(graph, tensor, to);
}

static dw_status set_row_index(dw_graph *graph, uint32_t first, dw_error *err) {
    int64_t *to = input_memory(graph, graph->inputs.row_index, err);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < graph->shape.n_tokens; i++) to[i] = (int64_t)(graph->first_row + first + i);
    return send(graph, graph->inputs.row_index, to);
}

/* 0 where the token at a position may look at a row, minus infinity elsewhere. */
static dw_status set_mask(dw_graph *graph, struct ggml_tensor *tensor, uint32_t first, uint32_t window, dw_error *err) {
    if (unused(tensor)) return DW_OK;
    const uint16_t minus_infinity = 0xfc00; /* F16 */
    uint32_t n_kv = graph->shape.n_kv;
    uint16_t *to = input_memory(graph, tensor, err);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < graph->shape.n_tokens; i++, to += n_kv) {
        uint32_t position = first + i;
        uint32_t begin = window != 0 && position >= window ? position - window + 1 : 0;
        for (uint32_t row = 0; row < begin; row++) to[row] = minus_infinity;
        memset(to + begin, 0, (position + 1 - begin) * sizeof to[0]);
        for (uint32_t row = position + 1; row < n_kv; row++) to[row] = minus_infinity;
    }
    return send(graph, tensor, to - (size_t)graph->shape.n_tokens * n_kv);
}

/* Embedding rows looked up on the host, for devices whose operations cannot take a tensor of this size. */
static dw_status set_embedding(dw_graph *graph, const int32_t *tokens, dw_error *err) {
    struct ggml_tensor *tensor = graph->inputs.embedding;
    if (unused(tensor)) return DW_OK;
    const struct ggml_tensor *table = graph->model.weights->embedding;
    const struct ggml_type_traits *traits = ggml_get_type_traits(table->type);
    float *to = input_memory(graph, tensor, err);
    if (to == NULL) return DW_E_NO_MEMORY;
    for (uint32_t i = 0; i < graph->shape.n_tokens; i++) {
        const uint8_t *row = (const uint8_t *)graph->model.weights->embedding_host + (size_t)tokens[i] * table->nb[1];
        if (table->type == GGML_TYPE_F32) memcpy(to + i * (size_t)table->ne[0], row, table->nb[1]);
        else traits->to_float(row, to + i * (size_t)table->ne[0], table->ne[0]);
    }
    return send(graph, tensor, to);
}

static dw_status feed(dw_graph *graph, const dw_graph_input *input, dw_error *err) {
    if (graph->is_head) return dw_tensor_write(graph->model.device, graph->inputs.hidden, input->hidden, 0, ggml_nbytes(graph->inputs.hidden));
    uint32_t n = graph->shape.n_tokens, first = input->first_position;
    dw_status status = set_i32(graph, graph->inputs.tokens, input->tokens, 0, n, err);
    if (status == DW_OK) status = set_embedding(graph, input->tokens, err);
    if (status == DW_OK) status = set_i32(graph, graph->inputs.positions, NULL, first, n, err);
    if (status == DW_OK) status = set_row_index(graph, first, err);
    if (status == DW_OK) status = set_mask(graph, graph->inputs.mask, first, 0, err);
    if (status == DW_OK) status = set_mask(graph, graph->inputs.mask_window, first, graph->model.hp->window, err);
    if (status == DW_OK) status = set_i32(graph, graph->inputs.wanted, (const int32_t *)(const void *)input->wanted, 0, graph->shape.n_wanted, err);
    return status;
}

dw_status dw_graph_run(dw_graph *graph, const dw_graph_input *input, float *output, dw_error *err) {
    if (graph->graph == NULL) return dw_fail(err, DW_E_INTERNAL, "no graph is prepared");
    dw_status status = feed(graph, input, err);
    if (status != DW_OK) return status;
    if (graph->output != NULL && graph->output_is_placed) graph->output->data = output;
    status = dw_device_compute(graph->model.device, graph->graph, err);
    if (status == DW_OK && graph->output != NULL && !graph->output_is_placed) {
        status = dw_tensor_read(graph->model.device, graph->output, output, 0, ggml_nbytes(graph->output));
    }
    return status;
}

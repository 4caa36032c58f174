/* graph.c: builds, binds and runs graphs. The operations are in layer.c, attention.c and linear.c, the inputs in
 * inputs.c. */
#include "model/graph/graph.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml.h"
#include "model/graph/graph_internal.h"

enum {
    NODES_PER_LAYER = 96,  /* the richest family, views included, without what each run adds */
    NODES_PER_RUN = 12,    /* in a layer: views of Q, K and V, attention, its result */
    NODES_PER_STORE = 6,   /* in a layer: views and writing of K and V */
    NODES_PER_EXPERT = 2,  /* in a layer, for each expert in use: a view and an addition */
    NODES_OUTSIDE = 160,   /* inputs, norm, head in parts */
};

/* --- runs ---------------------------------------------------------------------------------------------------- */

static uint32_t rows_seen(const dw_graph_part *part) {
    uint32_t end = part->first_position + part->n_tokens;
    return (end + DW_KV_STEP_ROWS - 1) / DW_KV_STEP_ROWS * DW_KV_STEP_ROWS;
}

/* Whether single tokens of several sessions may be one attention operation. Some devices cut the attention of one token
 * between threads and do not cut that of several. The sums differ then. There a narrow batch has one operation for each
 * part. */
static bool may_share(const dw_graph_model *model, const dw_graph_batch *batch) {
    return model->kv_in_one_buffer && (!batch->narrow || model->bits->attention_by_rows);
}

/* How many parts from `first` on form a run. Masked rows are skipped one by one on the host, so unequal lengths cost
 * little there. */
static uint32_t run_length(const dw_graph_model *model, const dw_graph_batch *batch, uint32_t first, uint32_t *n_kv) {
    const dw_graph_part *parts = batch->parts;
    uint32_t low = rows_seen(&parts[first]), high = low, n = 1;
    *n_kv = high;
    if (parts[first].n_tokens != 1 || !may_share(model, batch)) return 1;
    for (; first + n < batch->n_parts && parts[first + n].n_tokens == 1; n++) {
        const dw_graph_part *next = &parts[first + n], *last = next - 1;
        if (next->binding.offset <= last->binding.offset) break;
        if (n > 1 && next->binding.offset - last->binding.offset != last->binding.offset - (last - 1)->binding.offset) {
            break;
        }
        uint32_t rows = rows_seen(next);
        if (rows < low) low = rows;
        if (rows > high) high = rows;
        if (high - low > DW_KV_RUN_DIFFERENCE_ROWS) break;
        *n_kv = high;
    }
    return n;
}

void dw_graph_find_runs(const dw_graph_model *model, const dw_graph_batch *batch, dw_graph_shape *shape,
                        dw_graph_run_place *places) {
    uint64_t step = model->kv_row_step;
    memset(shape, 0, sizeof *shape);
    shape->n_wanted = batch->n_wanted;
    shape->n_layers = model->hp->n_layers;
    shape->n_chosen = batch->n_layers;
    if (batch->n_layers > 0) memcpy(shape->chosen, batch->layers, batch->n_layers * sizeof shape->chosen[0]);
    shape->n_parts = batch->n_parts;
    shape->narrow = batch->narrow;
    shape->result = batch->result;
    for (uint32_t first = 0; first < batch->n_parts;) {
        const dw_graph_part *part = &batch->parts[first];
        dw_graph_run_shape *run = &shape->runs[shape->n_runs];
        dw_graph_run_place *place = &places[shape->n_runs++];
        run->n_parts = run_length(model, batch, first, &run->n_kv);
        run->n_columns = run->n_parts == 1 ? part->n_tokens : run->n_parts;
        /* A second sequence that sees nothing costs a look at its mask, and keeps the kernel from cutting the rows
         * between threads. */
        bool alone = run->n_parts == 1 && part->n_tokens == 1 && model->bits->attention_by_rows;
        run->n_sequences = alone ? 2 : run->n_parts;
        *place = (dw_graph_run_place){.first_part = first, .first_column = shape->n_tokens};
        if (model->kv_in_one_buffer) place->first_row = part->binding.offset / step;
        if (run->n_parts > 1) place->step_rows = (part[1].binding.offset - part[0].binding.offset) / step;
        shape->n_tokens += run->n_columns;
        first += run->n_parts;
    }
}

static bool same_graph_shape(const dw_graph_shape *a, const dw_graph_shape *b) {
    if (a->n_tokens != b->n_tokens || a->n_wanted != b->n_wanted || a->n_layers != b->n_layers ||
        a->n_parts != b->n_parts ||
        a->n_runs != b->n_runs || a->narrow != b->narrow || a->result != b->result || a->n_chosen != b->n_chosen) {
        return false;
    }
    if (memcmp(a->chosen, b->chosen, a->n_chosen * sizeof a->chosen[0]) != 0) return false;
    return memcmp(a->runs, b->runs, a->n_runs * sizeof a->runs[0]) == 0;
}

/* --- holder -------------------------------------------------------------------------------------------------- */

dw_status dw_graph_create(const dw_graph_model *model, dw_graph **out, dw_error *err) {
    *out = NULL;
    dw_graph *graph = calloc(1, sizeof *graph);
    if (graph == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    graph->model = *model;
    graph->allocator = dw_device_allocator_create(model->device);
    if (graph->allocator == NULL) {
        dw_graph_destroy(graph);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    }
    *out = graph;
    return DW_OK;
}

static void forget_graph(dw_graph *graph) {
    if (graph->context != NULL) ggml_free(graph->context);
    graph->context = NULL;
    graph->graph = NULL;
    graph->is_head = false;
    memset(&graph->shape, 0, sizeof graph->shape);
}

void dw_graph_destroy(dw_graph *graph) {
    if (graph == NULL) return;
    forget_graph(graph);
    dw_device_allocator_destroy(graph->allocator);
    if (graph->counted_bytes > 0) dw_device_count_release(graph->model.device, graph->counted_bytes);
    free(graph->memory);
    free(graph->stores);
    free(graph->seen);
    free(graph->scratch);
    free(graph);
}

/* Makes *memory hold at least n elements; their old content is lost. */
static bool graph_room(void **memory, size_t *capacity, size_t n, size_t element_bytes) {
    if (n <= *capacity) return true;
    free(*memory);
    *memory = malloc(n * element_bytes);
    *capacity = *memory != NULL ? n : 0;
    return *memory != NULL;
}

/* Descriptions of tensors for graph->shape. */
static dw_status begin_graph(dw_graph *graph, dw_error *err) {
    const dw_graph_shape *shape = &graph->shape;
    graph->n_stores = dw_graph_one_store(graph) ? 1 : shape->n_parts;
    size_t areas = 2 * (size_t)shape->n_layers;
    graph->nodes_max =
        (size_t)shape->n_layers * (NODES_PER_LAYER + NODES_PER_EXPERT * graph->model.hp->n_experts_used +
                                   NODES_PER_RUN * shape->n_runs + NODES_PER_STORE * graph->n_stores) +
                       dw_linear_nodes(graph) + NODES_OUTSIDE;
    size_t bytes = graph->nodes_max * ggml_tensor_overhead() + ggml_graph_overhead_custom(graph->nodes_max, false);
    memset(&graph->inputs, 0, sizeof graph->inputs);
    graph->output = graph->attended = NULL;
    bool enough = graph_room(&graph->memory, &graph->memory_bytes, bytes, 1) &&
                  graph_room((void **)&graph->stores, &graph->stores_capacity, areas * graph->n_stores,
                             sizeof graph->stores[0]) &&
                  graph_room((void **)&graph->seen, &graph->seen_capacity, areas * shape->n_runs,
                             sizeof graph->seen[0]);
    if (enough && areas > 0) {
        memset(graph->stores, 0, areas * graph->n_stores * sizeof graph->stores[0]);
        memset(graph->seen, 0, areas * shape->n_runs * sizeof graph->seen[0]);
    }
    struct ggml_init_params params = {.mem_size = graph->memory_bytes, .mem_buffer = graph->memory, .no_alloc = true};
    graph->context = enough ? ggml_init(params) : NULL;
    if (graph->context == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    graph->graph = ggml_new_graph_custom(graph->context, graph->nodes_max, false);
    return DW_OK;
}

/* Puts the result at an address of the caller's. It may be a view (a narrow product's columns): then what it looks at
 * lies there. */
static void place_output(dw_graph *graph, void *address) {
    graph->output->data = address;
    if (graph->output->view_src != NULL) graph->output->view_src->data = address;
}

/* Checks every node, then gives memory to all tensors that have none. */
static dw_status finish_graph(dw_graph *graph, dw_error *err) {
    dw_device *device = graph->model.device;
    dw_status status = dw_device_supports(device, graph->graph, err);
    if (status != DW_OK) return status;
    /* The result lies where the caller wants it: a stand-in address keeps the allocator from giving it memory of its
     * own. */
    if (graph->output != NULL && graph->output_is_placed) place_output(graph, graph->memory);
    status = dw_device_allocator_place(graph->allocator, graph->graph, err);
    if (status != DW_OK) return status;
    uint64_t bytes = ggml_gallocr_get_buffer_size(graph->allocator, 0);
    if (bytes > graph->counted_bytes) {
        dw_device_count_allocation(device, bytes - graph->counted_bytes);
        graph->counted_bytes = bytes;
    }
    return DW_OK;
}

/* --- binding ------------------------------------------------------------------------------------------------- */

/* Where an area begins in a slot. */
static uint64_t area_offset(const dw_graph *graph, uint32_t area) {
    const dw_graph_model *model = &graph->model;
    uint64_t run = area / model->kv_areas_per_run, in_run = area % model->kv_areas_per_run;
    return run * model->kv_run_bytes + in_run * dw_graph_row_bytes(graph);
}

/* Rows that a store's tensor has: where one buffer holds all slots to its end (every slot's rows are among them),
 * elsewhere no more than this graph sees, because a device limits the size of one tensor. */
static uint64_t store_rows(const dw_graph *graph, dw_graph_binding binding) {
    if (!dw_graph_one_store(graph)) {
        uint32_t most = 0;
        for (uint32_t r = 0; r < graph->shape.n_runs; r++) {
            most = graph->shape.runs[r].n_kv > most ? graph->shape.runs[r].n_kv : most;
        }
        return most;
    }
    return (dw_buffer_size(binding.buffer) - area_offset(graph, 2 * graph->model.hp->n_layers - 1)) /
           graph->model.kv_row_step;
}

static dw_status bind_store(dw_graph *graph, dw_graph_store *store, dw_graph_binding binding, uint64_t offset,
                            dw_error *err) {
    if (store->rows == NULL) return DW_OK;
    store->rows->data = NULL;
    store->rows->buffer = NULL;
    dw_status status = dw_buffer_place(binding.buffer, store->rows,
                                       (dw_graph_one_store(graph) ? 0 : binding.offset) + offset, err);
    /* else the allocator has not been here yet and will derive the views itself */
    if (status == DW_OK && store->written->buffer != NULL) {
        store->written->data = store->rows->data;
        store->written->buffer = store->rows->buffer;
    }
    return status;
}

static void bind_seen(dw_graph *graph, struct ggml_tensor *seen, const struct ggml_tensor *rows,
                      const dw_graph_run_place *place) {
    if (seen == NULL) return;
    size_t step = (size_t)graph->model.kv_row_step;
    seen->view_offs = (size_t)place->first_row * step;
    seen->nb[3] = place->step_rows != 0 ? (size_t)place->step_rows * step : 0;
    if (seen->ne[3] == 1) seen->nb[3] = seen->nb[2] * (size_t)seen->ne[2];
    if (seen->buffer == NULL) return;
    seen->data = (char *)rows->data + seen->view_offs;
    seen->buffer = rows->buffer;
}

/* Points the KV tensors at the slots. */
static dw_status bind_graph(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    for (uint32_t p = 0; p < batch->n_parts; p++) {
        if (batch->parts[p].binding.offset % graph->model.kv_row_step != 0) {
            return dw_fail(err, DW_E_INTERNAL, "a KV slot begins inside a row");
        }
    }
    for (uint32_t area = 0; area < 2 * graph->shape.n_layers; area++) {
        uint64_t offset = area_offset(graph, area);
        for (uint32_t s = 0; s < graph->n_stores; s++) {
            dw_status status = bind_store(graph, dw_graph_store_of(graph, area / 2, area % 2, s),
                                          batch->parts[s].binding, offset, err);
            if (status != DW_OK) return status;
        }
        for (uint32_t r = 0; r < graph->shape.n_runs; r++) {
            const dw_graph_run_place *place = &graph->places[r];
            uint32_t store = dw_graph_one_store(graph) ? 0 : place->first_part;
            const struct ggml_tensor *rows = dw_graph_store_of(graph, area / 2, area % 2, store)->rows;
            bind_seen(graph, *dw_graph_seen_of(graph, area / 2, area % 2, r), rows, place);
        }
    }
    return DW_OK;
}

/* --- preparing and running ----------------------------------------------------------------------------------- */

bool dw_graph_holds(const dw_graph *graph, const dw_graph_batch *batch) {
    dw_graph_shape shape;
    dw_graph_run_place places[DW_BATCH_PARTS_MAX];
    if (graph->graph == NULL || graph->is_head) return false;
    dw_graph_find_runs(&graph->model, batch, &shape, places);
    return same_graph_shape(&graph->shape, &shape);
}

dw_status dw_graph_prepare(dw_graph *graph, const dw_graph_batch *batch, dw_error *err) {
    if (batch->n_parts == 0 || batch->n_parts > DW_BATCH_PARTS_MAX) {
        return dw_fail(err, DW_E_INTERNAL, "a batch of %u parts", batch->n_parts);
    }
    assert(batch->n_layers <= DW_GRAPH_CHOSEN_MAX);
    dw_graph_shape shape;
    dw_graph_find_runs(&graph->model, batch, &shape, graph->places);
    if (graph->graph != NULL && !graph->is_head && same_graph_shape(&graph->shape, &shape)) {
        return bind_graph(graph, batch, err);
    }
    forget_graph(graph);
    graph->shape = shape;
    dw_status status = begin_graph(graph, err);
    if (status != DW_OK) goto out;
    graph->kv_rows = store_rows(graph, batch->parts[0].binding);
    dw_graph_build(graph);
    status = bind_graph(graph, batch, err);
    if (status == DW_OK) status = finish_graph(graph, err);
out:
    if (status != DW_OK) forget_graph(graph);
    return status;
}

dw_status dw_graph_prepare_head(dw_graph *graph, uint32_t n_rows, bool narrow, dw_error *err) {
    if (graph->graph != NULL && graph->is_head && graph->shape.n_wanted == n_rows && graph->shape.narrow == narrow) {
        return DW_OK;
    }
    forget_graph(graph);
    graph->shape = (dw_graph_shape){.n_wanted = n_rows, .narrow = narrow};
    dw_status status = begin_graph(graph, err);
    if (status != DW_OK) goto out;
    graph->is_head = true;
    dw_graph_build_head(graph);
    status = finish_graph(graph, err);
out:
    if (status != DW_OK) forget_graph(graph);
    return status;
}

static dw_status compute_graph(dw_graph *graph, float *output, const _Atomic bool *stop, dw_error *err) {
    if (graph->output != NULL && graph->output_is_placed) place_output(graph, output);
    dw_status status = dw_device_compute_until(graph->model.device, graph->graph, stop, err);
    if (status == DW_OK && graph->output != NULL && !graph->output_is_placed) {
        status = dw_tensor_read(graph->model.device, graph->output, output, 0, ggml_nbytes(graph->output));
    }
    return status;
}

dw_status dw_graph_run(dw_graph *graph, const dw_graph_batch *batch, float *output, dw_error *err) {
    if (graph->graph == NULL || graph->is_head) return dw_fail(err, DW_E_INTERNAL, "no graph is prepared");
    dw_status status = dw_graph_feed(graph, batch, err);
    return status == DW_OK ? compute_graph(graph, output, batch->stop, err) : status;
}

dw_status dw_graph_run_head(dw_graph *graph, const float *hidden, float *logits, dw_error *err) {
    if (graph->graph == NULL || !graph->is_head) return dw_fail(err, DW_E_INTERNAL, "no head is prepared");
    dw_status status = dw_tensor_write(graph->model.device, graph->inputs.hidden, hidden, 0,
                                       ggml_nbytes(graph->inputs.hidden));
    return status == DW_OK ? compute_graph(graph, logits, NULL, err) : status;
}

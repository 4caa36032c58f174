/* placing.c */
#include "model/weights/placing.h"

#include <stdlib.h>
#include <string.h>

#include "ggml.h"

dw_status dw_tensor_table_open(const dw_gguf *gguf, uint32_t n_layers, size_t per_layer, size_t outside,
                               dw_tensor_table *out, dw_error *err) {
    *out = (dw_tensor_table){0};
    uint64_t n_file = dw_gguf_n_tensors(gguf);
    if (n_layers > n_file)
        return dw_fail(err, DW_E_FORMAT, "%u layers and %llu tensors", n_layers, (unsigned long long)n_file);
    size_t most = n_layers * per_layer + outside;
    out->tensors = calloc(most, sizeof out->tensors[0]);
    out->sources = calloc(most, sizeof out->sources[0]);
    out->context = ggml_init((struct ggml_init_params){.mem_size = most * ggml_tensor_overhead(), .no_alloc = true});
    if (out->tensors != NULL && out->sources != NULL && out->context != NULL) return DW_OK;
    if (out->context != NULL) ggml_free(out->context);
    dw_tensor_table_close(out);
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for weights");
}

dw_status dw_tensor_table_add(dw_tensor_table *table, const char *name, const dw_gguf_tensor *source, int n_dims,
                              const int64_t *shape, struct ggml_tensor **out, dw_error *err) {
    struct ggml_tensor *tensor = ggml_new_tensor(table->context, (enum ggml_type)source->type, n_dims, shape);
    if (ggml_nbytes(tensor) != source->bytes)
        return dw_fail(err, DW_E_FORMAT, "tensor %s has %llu bytes", name, (unsigned long long)source->bytes);
    ggml_set_name(tensor, name);
    table->tensors[table->n] = tensor;
    table->sources[table->n++] = source;
    *out = tensor;
    return DW_OK;
}

void dw_tensor_table_close(dw_tensor_table *table) {
    free(table->tensors);
    free(table->sources);
    *table = (dw_tensor_table){0};
}

typedef struct placer {
    const dw_gguf *gguf;
    dw_device *device;
    const dw_tensor_table *table;
    dw_placed *placed;
    dw_error *err;
} placer;

/* Wraps the map of one of the file's parts, if the device can; else leaves its wrap NULL and says why. */
static dw_status wrap_part(placer *p, uint32_t index) {
    const dw_gguf_part part = dw_gguf_part_at(p->gguf, index);
    uint64_t bytes = dw_device_info_view(p->device)->kind == DW_DEVICE_CPU ? part.bytes : part.mapped_bytes;
    dw_error why = {0};
    dw_status status = dw_device_wrap(p->device, (void *)(uintptr_t)part.data, bytes, false, &p->placed->wraps[index],
                                      &why);
    if (status == DW_E_UNSUPPORTED || status == DW_E_INVALID) {
        dw_log(DW_LOG_INFO, "weights", "part=%u wrapped=no reason=\"%s\"", index + 1, why.text);
        return DW_OK;
    }
    if (status != DW_OK && p->err != NULL) *p->err = why;
    return status;
}

static dw_status wrap_parts(placer *p) {
    uint32_t n = dw_gguf_n_parts(p->gguf);
    p->placed->wraps = calloc(n, sizeof *p->placed->wraps);
    if (p->placed->wraps == NULL) return dw_fail(p->err, DW_E_NO_MEMORY, "no memory for weights");
    p->placed->n_wraps = n;
    /* Each step reads all weights: over a bus that takes 60 times as long as from the device's own memory (reference
     * measurement, H100). */
    if (dw_device_info_view(p->device)->kind == DW_DEVICE_GPU_DISCRETE) return DW_OK;
    dw_status status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < n; i++) status = wrap_part(p, i);
    return status;
}

static bool lies_in_a_wrap(const placer *p, size_t i) {
    dw_buffer *wrap = p->placed->wraps[p->table->sources[i]->part];
    return wrap != NULL && dw_buffer_place(wrap, p->table->tensors[i], p->table->sources[i]->offset, NULL) == DW_OK;
}

/* The end of a copied tensor's place. A backend may pad rows; twice a row is more than any does. */
static bool next_place(const placer *p, size_t i, uint64_t align, uint64_t *offset) {
    return dw_add_u64(*offset, p->table->sources[i]->bytes + 2 * p->table->tensors[i]->nb[1], offset) &&
           dw_round_up_u64(*offset, align, offset);
}

/* Tensors that lie in no wrap go one behind the other into one buffer of the device. */
static dw_status copy_rest(placer *p) {
    uint64_t align = dw_max_u64(dw_device_info_view(p->device)->tensor_align_bytes, 256), total = 0, offset = 0;
    for (size_t i = 0; i < p->table->n; i++) {
        if (p->table->tensors[i]->buffer == NULL && !next_place(p, i, align, &total))
            return dw_fail(p->err, DW_E_RANGE, "weights too large");
    }
    if (total == 0) return DW_OK;
    dw_status status = dw_device_allocate(p->device, total, &p->placed->own, p->err);
    for (size_t i = 0; status == DW_OK && i < p->table->n; i++) {
        if (p->table->tensors[i]->buffer != NULL) continue;
        status = dw_buffer_place(p->placed->own, p->table->tensors[i], offset, p->err);
        if (status == DW_OK)
            status = dw_tensor_write(p->device, p->table->tensors[i],
                                     dw_gguf_tensor_data(p->gguf, p->table->sources[i]), 0,
                                     p->table->sources[i]->bytes);
        p->placed->copied_bytes += p->table->sources[i]->bytes;
        (void)next_place(p, i, align, &offset); /* went well for the sum */
    }
    return status;
}

dw_status dw_place_tensors(const dw_gguf *gguf, dw_device *device, const dw_tensor_table *table, dw_placed *out,
                           dw_error *err) {
    *out = (dw_placed){0};
    placer p = {.gguf = gguf, .device = device, .table = table, .placed = out, .err = err};
    dw_status status = wrap_parts(&p);
    for (size_t i = 0; status == DW_OK && i < table->n; i++) {
        if (table->tensors[i]->buffer == NULL && lies_in_a_wrap(&p, i)) out->wrapped_bytes += table->sources[i]->bytes;
    }
    return status == DW_OK ? copy_rest(&p) : status;
}

void dw_placed_release(dw_placed *placed) {
    for (uint32_t i = 0; i < placed->n_wraps; i++) dw_buffer_destroy(placed->wraps[i]);
    free(placed->wraps);
    dw_buffer_destroy(placed->own);
    *placed = (dw_placed){0};
}

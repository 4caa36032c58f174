/* compute.c: checks a request completely, then runs it as one ggml graph on the window's own pages or on copies. */
#include "device/compute.h"

#include <string.h>

#include "ggml-backend.h"
#include "ggml.h"
#include "os/os.h"

typedef struct run {
    dw_device *device;
    const dw_compute_request *request;
    struct ggml_context *context;
    struct ggml_cgraph *graph;
    dw_buffer *buffer;
    /* The node that wrote tensor i last, or the tensor as it lies in the window. */
    struct ggml_tensor *latest[DW_COMPUTE_TENSORS_MAX];
    uint64_t offsets[DW_COMPUTE_TENSORS_MAX];           /* in the buffer */
    bool written[DW_COMPUTE_TENSORS_MAX];               /* is some node's output */
    bool read_first[DW_COMPUTE_TENSORS_MAX];            /* its old contents matter */
    uint64_t copied;
} run;

/* --- checks -------------------------------------------------------------------------------------------------- */

dw_status dw_compute_tensor_bytes(const dw_compute_tensor *tensor, uint64_t *out) {
    if (tensor->type != DW_COMPUTE_F32 && tensor->type != DW_COMPUTE_F16) return DW_E_INVALID;
    if (tensor->columns == 0 || tensor->rows == 0) return DW_E_INVALID;
    uint64_t elements = (uint64_t)tensor->columns * tensor->rows; /* 32 x 32 bits: no overflow */
    return dw_mul_u64(elements, tensor->type == DW_COMPUTE_F32 ? 4 : 2, out) ? DW_OK : DW_E_RANGE;
}

static dw_status check_tensors(const dw_compute_request *request, uint64_t align, dw_error *err) {
    for (size_t i = 0; i < request->n_tensors; i++) {
        const dw_compute_tensor *tensor = &request->tensors[i];
        uint64_t bytes;
        dw_status status = dw_compute_tensor_bytes(tensor, &bytes);
        if (status != DW_OK) return dw_fail(err, status, "tensor %zu has no such type or size", i);
        if (!dw_in_range(tensor->offset, bytes, request->window_bytes))
            return dw_fail(err, DW_E_RANGE, "tensor %zu leaves the window", i);
        if (tensor->offset % align != 0) {
            return dw_fail(err, DW_E_INVALID, "tensor %zu: its offset must be a multiple of %llu", i,
                           (unsigned long long)align);
        }
    }
    return DW_OK;
}

static bool same_tensor_shape(const dw_compute_tensor *a, const dw_compute_tensor *b) {
    return a->columns == b->columns && a->rows == b->rows;
}

static dw_status check_shapes(const dw_compute_request *request, size_t n, dw_error *err) {
    const dw_compute_node *node = &request->nodes[n];
    const dw_compute_tensor *a = &request->tensors[node->a], *b = &request->tensors[node->b],
                            *out = &request->tensors[node->out];
    switch (node->op) {
    case DW_COMPUTE_MUL_MAT:
        if (a->columns != b->columns || out->columns != a->rows || out->rows != b->rows) {
            return dw_fail(err, DW_E_INVALID, "node %zu: [%u,%u] times the transposed [%u,%u] is not [%u,%u]", n,
                           b->rows, b->columns, a->rows, a->columns, out->rows, out->columns);
        }
        break;
    case DW_COMPUTE_ADD:
    case DW_COMPUTE_MUL:
        if (!same_tensor_shape(a, b) || !same_tensor_shape(a, out))
            return dw_fail(err, DW_E_INVALID, "node %zu: shapes differ", n);
        if (a->type != DW_COMPUTE_F32) return dw_fail(err, DW_E_INVALID, "node %zu: only F32 here", n);
        break;
    default: return dw_fail(err, DW_E_UNSUPPORTED, "node %zu: no operation %u", n, node->op);
    }
    if (b->type != DW_COMPUTE_F32 || out->type != DW_COMPUTE_F32)
        return dw_fail(err, DW_E_INVALID, "node %zu: b and out are F32", n);
    return DW_OK;
}

/* An output shares no byte with another tensor: a device may run nodes side by side, and only sees that one needs the
 * other when they name the same tensor. */
static dw_status check_overlap(const dw_compute_request *request, size_t n, dw_error *err) {
    const dw_compute_node *node = &request->nodes[n];
    const dw_compute_tensor *out = &request->tensors[node->out];
    if (node->out == node->a || node->out == node->b)
        return dw_fail(err, DW_E_INVALID, "node %zu writes its own input", n);
    uint64_t out_bytes = 0, bytes = 0;
    dw_status status = dw_compute_tensor_bytes(out, &out_bytes);
    for (size_t i = 0; status == DW_OK && i < request->n_tensors; i++) {
        const dw_compute_tensor *other = &request->tensors[i];
        if (i == node->out) continue;
        status = dw_compute_tensor_bytes(other, &bytes);
        if (status == DW_OK && out->offset < other->offset + bytes && other->offset < out->offset + out_bytes) {
            return dw_fail(err, DW_E_INVALID, "node %zu: its output overlaps tensor %zu", n, i);
        }
    }
    return status;
}

static dw_status check_compute_request(run *r, dw_error *err) {
    const dw_compute_request *request = r->request;
    if (request->n_tensors == 0 || request->n_tensors > DW_COMPUTE_TENSORS_MAX || request->n_nodes == 0 ||
        request->n_nodes > DW_COMPUTE_NODES_MAX) {
        return dw_fail(err, DW_E_LIMIT, "1 to %d tensors and 1 to %d nodes", DW_COMPUTE_TENSORS_MAX,
                       DW_COMPUTE_NODES_MAX);
    }
    if (request->window == NULL || request->window_bytes == 0) return dw_fail(err, DW_E_INVALID, "no window");
    dw_status status = check_tensors(request, dw_device_info_view(r->device)->tensor_align_bytes, err);
    for (size_t n = 0; status == DW_OK && n < request->n_nodes; n++) {
        const dw_compute_node *node = &request->nodes[n];
        if (node->a >= request->n_tensors || node->b >= request->n_tensors || node->out >= request->n_tensors) {
            return dw_fail(err, DW_E_RANGE, "node %zu names a tensor that is not there", n);
        }
        status = check_shapes(request, n, err);
        if (status == DW_OK) status = check_overlap(request, n, err);
        if (status != DW_OK) return status;
        if (!r->written[node->a]) r->read_first[node->a] = true;
        if (!r->written[node->b]) r->read_first[node->b] = true;
        r->written[node->out] = true;
    }
    return status;
}

/* --- building ------------------------------------------------------------------------------------------------ */

static struct ggml_tensor *tensor_of(run *r, uint32_t index) {
    if (r->latest[index] == NULL) {
        const dw_compute_tensor *tensor = &r->request->tensors[index];
        enum ggml_type type = tensor->type == DW_COMPUTE_F32 ? GGML_TYPE_F32 : GGML_TYPE_F16;
        r->latest[index] = ggml_new_tensor_2d(r->context, type, tensor->columns, tensor->rows);
    }
    return r->latest[index];
}

/* Tensors and nodes without memory, in the order of the request. */
static dw_status build_compute_graph(run *r, dw_error *err) {
    size_t count = r->request->n_tensors + r->request->n_nodes;
    struct ggml_init_params params = {
        .mem_size = count * ggml_tensor_overhead() + ggml_graph_overhead_custom(count, false), .no_alloc = true};
    r->context = ggml_init(params);
    if (r->context == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a graph");
    r->graph = ggml_new_graph_custom(r->context, count, false);
    for (size_t n = 0; n < r->request->n_nodes; n++) {
        const dw_compute_node *node = &r->request->nodes[n];
        struct ggml_tensor *a = tensor_of(r, node->a), *b = tensor_of(r, node->b), *out = NULL;
        switch (node->op) {
        case DW_COMPUTE_MUL_MAT: out = ggml_mul_mat(r->context, a, b); break;
        case DW_COMPUTE_ADD: out = ggml_add(r->context, a, b); break;
        default: out = ggml_mul(r->context, a, b); break; /* check_compute_request() let nothing else pass */
        }
        ggml_format_name(out, "node %zu", n);
        ggml_build_forward_expand(r->graph, out);
        r->latest[node->out] = out;
    }
    return dw_device_supports(r->device, r->graph, err);
}

/* Every leaf and node to the place of the tensor it stands for. */
static dw_status place(run *r, dw_error *err) {
    dw_status status = DW_OK;
    for (size_t n = 0; status == DW_OK && n < r->request->n_nodes; n++) {
        const dw_compute_node *node = &r->request->nodes[n];
        struct ggml_tensor *out = ggml_graph_node(r->graph, (int)n); /* nodes have no views, so node n is the n-th */
        const uint32_t inputs[2] = {node->a, node->b};
        for (int i = 0; status == DW_OK && i < 2; i++) {
            struct ggml_tensor *input = out->src[i];
            if (input->data != NULL) continue;
            status = dw_buffer_place(r->buffer, input, r->offsets[inputs[i]], err);
        }
        if (status == DW_OK) status = dw_buffer_place(r->buffer, out, r->offsets[node->out], err);
    }
    return status;
}

/* --- the two paths ------------------------------------------------------------------------------------------- */

static dw_status prepare_wrap(run *r, dw_error *err) {
    for (size_t i = 0; i < r->request->n_tensors; i++) r->offsets[i] = r->request->tensors[i].offset;
    dw_status status = dw_device_wrap(r->device, r->request->window, r->request->window_bytes, true, &r->buffer, err);
    return status == DW_OK ? place(r, err) : status;
}

static dw_status prepare_copy(run *r, dw_error *err) {
    uint64_t align = dw_max_u64(dw_device_info_view(r->device)->tensor_align_bytes, 64);
    uint64_t total = 0, bytes = 0;
    for (size_t i = 0; i < r->request->n_tensors; i++) {
        dw_status status = dw_compute_tensor_bytes(&r->request->tensors[i], &bytes);
        if (status != DW_OK) return status;
        r->offsets[i] = total;
        if (!dw_add_u64(total, bytes, &total) || !dw_round_up_u64(total, align, &total))
            return dw_fail(err, DW_E_RANGE, "tensors too large");
    }
    dw_status status = dw_device_allocate(r->device, total, &r->buffer, err);
    if (status == DW_OK) status = place(r, err);
    for (size_t n = 0; status == DW_OK && n < r->request->n_nodes; n++) {
        const dw_compute_node *node = &r->request->nodes[n];
        const uint32_t inputs[2] = {node->a, node->b};
        for (int i = 0; status == DW_OK && i < 2; i++) {
            uint32_t index = inputs[i];
            if (!r->read_first[index]) continue;
            r->read_first[index] = false; /* once */
            struct ggml_tensor *tensor = ggml_graph_node(r->graph, (int)n)->src[i];
            bytes = ggml_nbytes(tensor);
            status = dw_tensor_write(r->device, tensor, (char *)r->request->window + r->request->tensors[index].offset,
                                     0, bytes);
            r->copied += bytes;
        }
    }
    return status;
}

static dw_status copy_back(run *r) {
    dw_status status = DW_OK;
    for (size_t i = 0; status == DW_OK && i < r->request->n_tensors; i++) {
        if (!r->written[i]) continue;
        uint64_t bytes = ggml_nbytes(r->latest[i]);
        status = dw_tensor_read(r->device, r->latest[i], (char *)r->request->window + r->request->tensors[i].offset, 0,
                                bytes);
        r->copied += bytes;
    }
    return status;
}

dw_status dw_compute_run(dw_device *device, const dw_compute_request *request, dw_compute_report *report,
                         dw_error *err) {
    run r = {.device = device, .request = request};
    memset(report, 0, sizeof *report);
    bool wraps = dw_device_info_view(device)->can_wrap && !request->copy;
    dw_status status = check_compute_request(&r, err);
    if (status == DW_OK) status = build_compute_graph(&r, err);
    if (status != DW_OK) goto out;

    uint64_t start = dw_os_monotonic_ns();
    if (wraps) {
        status = prepare_wrap(&r, err);
        /* A window that this device will not import after all (too large, pinned otherwise) is copied; the report says
         * so. */
        if (status == DW_E_UNSUPPORTED) wraps = false;
    }
    if (!wraps) status = prepare_copy(&r, err);
    uint64_t prepared = dw_os_monotonic_ns();
    if (status == DW_OK) status = dw_device_compute_until(device, r.graph, request->stop, err);
    uint64_t computed = dw_os_monotonic_ns();
    if (status == DW_OK && !wraps) status = copy_back(&r);
    dw_buffer_destroy(r.buffer);
    r.buffer = NULL;
    *report = (dw_compute_report){
        .prepare_ns = prepared - start,
        .compute_ns = computed - prepared,
        .finish_ns = dw_os_monotonic_ns() - computed,
        .wrapped_bytes = wraps ? request->window_bytes : 0,
        .copied_bytes = r.copied,
    };
out:
    dw_buffer_destroy(r.buffer);
    if (r.context != NULL) ggml_free(r.context);
    return status;
}

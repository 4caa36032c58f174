/* operations_compute.c: a guest's own tensor operations on its own memory (guest.h DW_OP_COMPUTE, device/compute.h).
 *
 * The pages from the first to the last tensor are one window: lent, wrapped by the device, computed on, and given back,
 * all while the guest is parked in this call (I5). */
#include <string.h>
#include "device/compute.h"
#include "door/door_internal.h"
#include "os/os.h"

typedef struct compute_plan {
    dw_device_entry *device; /* one user of it */
    dw_compute_tensor tensors[DW_COMPUTE_TENSORS_MAX];
    dw_compute_node nodes[DW_COMPUTE_NODES_MAX];
    uint32_t n_tensors, n_nodes;
    uint64_t first, end; /* window, guest addresses */
} compute_plan;

/* Copies the options; a program that knows fewer fields gets zeros for the others. */
static dw_status read_compute_options(dw_door *door, const dw_request *request, dw_compute_options *out) {
    memset(out, 0, sizeof *out);
    if (request->len0 != sizeof *out) return DW_E_INVALID;
    dw_status status = dw_door_read(door, request->ptr0, out, sizeof *out);
    if (status != DW_OK) return status;
    if (out->size != sizeof *out) return DW_E_INVALID;
    if (out->n_tensors == 0 || out->n_nodes == 0) return DW_E_INVALID;
    return out->n_tensors > DW_COMPUTE_TENSORS_MAX || out->n_nodes > DW_COMPUTE_NODES_MAX ? DW_E_LIMIT : DW_OK;
}

static dw_status read_compute_tensors(dw_door *door, const dw_compute_options *options, compute_plan *plan) {
    dw_tensor given[DW_COMPUTE_TENSORS_MAX];
    dw_status status = dw_door_read(door, options->tensors, given, options->n_tensors * sizeof given[0]);
    plan->first = UINT64_MAX;
    for (uint32_t i = 0; i < options->n_tensors && status == DW_OK; i++) {
        if (given[i].ptr % DW_TENSOR_ALIGN) return DW_E_INVALID;
        plan->tensors[i] = (dw_compute_tensor){
            .offset = given[i].ptr, .type = given[i].type, .columns = given[i].columns, .rows = given[i].rows};
        uint64_t bytes = 0;
        void *ignored;
        status = dw_compute_tensor_bytes(&plan->tensors[i], &bytes);
        if (status == DW_OK) status = dw_door_view(door, given[i].ptr, bytes, 1, &ignored);
        plan->first = dw_min_u64(plan->first, given[i].ptr);
        plan->end = dw_max_u64(plan->end, given[i].ptr + bytes);
    }
    plan->n_tensors = options->n_tensors;
    return status;
}

static dw_status read_plan(dw_door *door, const dw_request *request, compute_plan *plan) {
    dw_compute_options options;
    char name[32];
    dw_status status = read_compute_options(door, request, &options);
    if (status != DW_OK) return status;
    if (options.device_len > sizeof name) return DW_E_NOT_FOUND;
    status = dw_door_read(door, options.device, name, options.device_len);
    if (status == DW_OK) status = read_compute_tensors(door, &options, plan);
    if (status == DW_OK) {
        _Static_assert(sizeof(dw_node) == sizeof(dw_compute_node),
                       "a node is the same four numbers for guest and host");
        plan->n_nodes = options.n_nodes;
        status = dw_door_read(door, options.nodes, plan->nodes, options.n_nodes * sizeof plan->nodes[0]);
    }
    if (status != DW_OK) return status;
    return dw_runtime_take_device(door->options.runtime, door->port->park, name, options.device_len, &plan->device,
                                  NULL);
}

/* What the device writes bypasses page tracking (I1), also what it wrote before it failed: the outputs are dirty. */
static dw_status touch_outputs(dw_region *region, const compute_plan *plan) {
    dw_status status = DW_OK;
    for (uint32_t i = 0; i < plan->n_nodes && status == DW_OK; i++) {
        const dw_compute_tensor *out = &plan->tensors[plan->nodes[i].out];
        uint64_t bytes = 0;
        status = dw_compute_tensor_bytes(out, &bytes);
        if (status == DW_OK) status = dw_region_touch(region, plan->first + out->offset, bytes);
    }
    return status;
}

/* Nothing ends an operation half-way, and only the CPU looks at a stop between two: what bounds a computation is its
 * size (I7). Shapes that do not fit each other are refused by the device module. */
static dw_status check_work(const compute_plan *plan) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->n_nodes; i++) {
        const dw_compute_node *node = &plan->nodes[i];
        if (node->a >= plan->n_tensors || node->out >= plan->n_tensors) return DW_E_RANGE;
        const dw_compute_tensor *a = &plan->tensors[node->a], *out = &plan->tensors[node->out];
        uint64_t elements = (uint64_t)out->columns * out->rows, multiplies = 0;
        if (!dw_mul_u64(elements, node->op == DW_NODE_MUL_MAT ? a->columns : 1, &multiplies) ||
            !dw_add_u64(sum, multiplies, &sum))
            return DW_E_LIMIT;
    }
    return sum > DW_COMPUTE_MULTIPLIES_MAX ? DW_E_LIMIT : DW_OK;
}

/* Rounds the window outwards to what device and region want; tensors count from its beginning. */
static dw_status place_window(const dw_door *door, compute_plan *plan) {
    uint64_t align = dw_max_u64(dw_device_info_view(plan->device->device)->wrap_align_bytes, dw_os_page_bytes());
    plan->first = dw_round_down_u64(plan->first, align);
    if (!dw_round_up_u64(plan->end, align, &plan->end) || plan->end > dw_guest_size(door->memory)) return DW_E_RANGE;
    for (uint32_t i = 0; i < plan->n_tensors; i++) plan->tensors[i].offset -= plan->first;
    return DW_OK;
}

static dw_status compute_in_window(dw_door *door, const compute_plan *plan, bool copy, dw_compute_report *report) {
    dw_region *region = dw_guest_region(door->memory);
    dw_window window = {0};
    dw_status status = dw_region_lend(region, plan->first, plan->end - plan->first, &window, NULL);
    if (status != DW_OK) return status;
    dw_compute_request request = {.window = (uint8_t *)dw_region_base(region) + plan->first,
                                  .window_bytes = plan->end - plan->first,
                                  .region = region,
                                  .tensors = plan->tensors,
                                  .n_tensors = plan->n_tensors,
                                  .nodes = plan->nodes,
                                  .n_nodes = plan->n_nodes,
                                  .copy = copy,
                                  .stop = dw_park_stop_flag(door->port->park)};
    dw_error err;
    status = dw_device_entry_begin(plan->device, door->port->park); /* actors on other threads compute there too */
    if (status == DW_OK) {
        status = dw_compute_run(plan->device->device, &request, report, &err);
        dw_device_entry_end(plan->device);
        if (status != DW_OK && status != DW_E_CANCELLED) {
            dw_log(DW_LOG_WARN, "compute", "actor=%s status=%s reason=%s", door->options.name, dw_status_name(status),
                   err.text);
        }
    }
    dw_status returned = dw_region_return(region, window);
    return status == DW_OK ? returned : status;
}

dw_status dw_compute_operation(dw_door *door, dw_operation *op) {
    compute_plan plan = {0};
    dw_compute_report report = {0};
    dw_status status = read_plan(door, &op->request, &plan);
    if (status == DW_OK) status = place_window(door, &plan);
    if (status == DW_OK) status = check_work(&plan);
    if (status == DW_OK) status = touch_outputs(dw_guest_region(door->memory), &plan);
    if (status == DW_OK) status = compute_in_window(door, &plan, (op->request.flags & DW_FLAG_COPY) != 0, &report);
    op->completion.result1 = report.compute_ns;
    op->completion.result2 = report.copied_bytes;
    door->counts.copied_bytes += report.copied_bytes;
    dw_device_entry_release(plan.device);
    return status;
}

/* memory.c: guest memory as operations may use it: copied once (door.h rule 2), and never where it is lent (rule 3).
 *
 * What is lent is known by spans, to the byte, because a program may well keep a reply beside the logits of a row. The
 * window is the pages around all spans of an operation: what a device maps, not what it writes. */
#include <assert.h>
#include <stdlib.h>
#include "door/door_internal.h"
#include "os/os.h"

static bool place_is_lent(const dw_door *door, uint32_t ptr, uint64_t bytes) {
    return dw_port_is_lent(door->port, ptr, ptr + bytes);
}

dw_status dw_door_view(dw_door *door, uint32_t ptr, uint64_t bytes, uint32_t align, void **out) {
    dw_status status = dw_guest_view(door->memory, ptr, bytes, align, out);
    return status == DW_OK && place_is_lent(door, ptr, bytes) ? DW_E_BUSY : status;
}

dw_status dw_door_read(dw_door *door, uint32_t ptr, void *out, uint64_t bytes) {
    void *ignored;
    dw_status status = dw_door_view(door, ptr, bytes, 1, &ignored);
    return status == DW_OK ? dw_guest_read(door->memory, ptr, out, bytes) : status;
}

dw_status dw_door_write(dw_door *door, uint32_t ptr, const void *data, uint64_t bytes) {
    void *ignored;
    dw_status status = dw_door_view(door, ptr, bytes, 1, &ignored);
    return status == DW_OK ? dw_guest_write(door->memory, ptr, data, bytes) : status;
}

dw_status dw_door_copy(dw_door *door, dw_operation *op, uint32_t ptr, uint64_t bytes, uint32_t align, void **out) {
    void *ignored;
    *out = NULL;
    dw_status status = dw_door_view(door, ptr, bytes, align, &ignored);
    if (status == DW_OK) status = dw_port_charge(door->port, op, bytes);
    if (status != DW_OK) return status;
    void *copy = malloc(bytes ? (size_t)bytes : 1);
    if (!copy) {
        dw_port_refund(door->port, op, bytes);
        return DW_E_NO_MEMORY;
    }
    status = dw_guest_read(door->memory, ptr, copy, bytes);
    assert(status == DW_OK); /* the view was there, and memory never shrinks */
    *out = copy;
    return status;
}

void dw_door_drop_copy(dw_door *door, dw_operation *op, void *copy, uint64_t bytes) {
    if (!copy) return;
    free(copy);
    dw_port_refund(door->port, op, bytes);
}

dw_status dw_door_check_place(dw_door *door, uint32_t ptr, uint64_t bytes, uint32_t align) {
    void *ignored;
    return ptr == 0 ? DW_OK : dw_door_view(door, ptr, bytes, align, &ignored);
}

/* --- windows ------------------------------------------------------------------------------------------------- */

static int by_address(const void *a, const void *b) {
    const dw_lent_span *x = a, *y = b;
    return (x->first > y->first) - (x->first < y->first);
}

static dw_status check_and_touch_spans(dw_door *door, dw_operation *op) {
    dw_status status = DW_OK;
    for (uint32_t i = 0; i < op->n_spans && status == DW_OK; i++) {
        const dw_lent_span *span = &op->spans[i];
        assert(span->first < span->end);
        if (i > 0 && span->first < op->spans[i - 1].end) return DW_E_INVALID;
        if (dw_port_is_lent(door->port, span->first, span->end)) return DW_E_BUSY;
        status = dw_region_touch(dw_guest_region(door->memory), span->first, span->end - span->first);
    }
    return status;
}

dw_status dw_door_lend(dw_door *door, dw_operation *op) {
    if (op->n_spans == 0) return DW_OK;
    qsort(op->spans, op->n_spans, sizeof op->spans[0], by_address);
    dw_status status = check_and_touch_spans(door, op);
    if (status != DW_OK) return status;
    uint64_t page = dw_os_page_bytes(), end = 0;
    uint64_t first = dw_round_down_u64(op->spans[0].first, page);
    if (!dw_round_up_u64(op->spans[op->n_spans - 1].end, page, &end)) return DW_E_RANGE;
    status = dw_region_lend(dw_guest_region(door->memory), first, end - first, &op->lent, NULL);
    if (status == DW_OK) dw_port_lend(door->port, op);
    return status;
}

void dw_door_return(dw_door *door, dw_operation *op) {
    if (!op->is_lent) return;
    dw_port_take_back(door->port, op);
    dw_status status = dw_region_return(dw_guest_region(door->memory), op->lent);
    assert(status == DW_OK); /* lent by us, and returned once */
    (void)status;
    op->lent.id = 0;
}

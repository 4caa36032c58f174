/* port.c: outstanding operations and their completion (port.h). */
#include "door/port.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

dw_status dw_port_create(dw_port **out, dw_error *err) {
    *out = NULL;
    dw_port *port = calloc(1, sizeof *port);
    if (!port) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's port");
    dw_status status = dw_park_create(&port->park, err);
    if (status == DW_OK) *out = port;
    else dw_port_destroy(port);
    return status;
}

void dw_port_destroy(dw_port *port) {
    if (!port) return;
    assert(!port->first);
    dw_park_destroy(port->park);
    free(port);
}

/* --- what must hold ------------------------------------------------------------------------------------------- */

void dw_port_check(const dw_port *port) {
    uint32_t n = 0, n_done = 0, n_windows = 0;
    uint64_t bytes = 0;
    const dw_operation *last = NULL;
    assert(dw_park_held(port->park));
    for (const dw_operation *op = port->first; op; op = op->next) {
        bool done = op->state == DW_OPERATION_DONE;
        assert(op->port == port);
        assert(done == (op->done_order != 0) && op->done_order <= port->done_order);
        assert(op->text_shown <= op->text_size && op->text_size <= op->text_capacity);
        assert(!op->window || op->n_spans > 0);
        n++;
        n_done += done;
        n_windows += op->window && !done;
        bytes += op->bytes;
        last = op;
    }
    assert(n == port->n_operations && n <= DW_OUTSTANDING_MAX && last == port->last);
    assert(n_done == port->n_done && n_windows == port->n_windows);
    assert(bytes == port->bytes && bytes <= DW_OUTSTANDING_BYTES_MAX);
    (void)last;
}

static void after_change(const dw_port *port) {
#ifdef DW_FAULTS
    dw_port_check(port);
#else
    (void)port;
#endif
}

/* --- operations ---------------------------------------------------------------------------------------------- */

dw_operation *dw_port_add(dw_port *port, const dw_request *request) {
    dw_operation *op = calloc(1, sizeof *op);
    if (!op) return NULL;
    op->port = port;
    op->request = *request;
    op->completion.user_data = request->user_data;
    op->state = DW_OPERATION_WAITING;
    dw_park_lock(port->park);
    if (port->last) port->last->next = op;
    else port->first = op;
    port->last = op;
    port->n_operations++;
    after_change(port);
    dw_park_unlock(port->park);
    return op;
}

static void free_operation(dw_operation *op) {
    for (uint32_t i = 0; op->rows && i < op->job.n_rows; i++) {
        free(op->rows[i].top);
        free(op->rows[i].candidates);
        free(op->rows[i].candidate_logprobs);
    }
    free(op->rows);
    free(op->row_requests);
    free(op->embed_texts);
    for (uint32_t i = 0; op->stops && i < op->generate.n_stops; i++) free(op->stops[i]);
    free(op->stops);
    free(op->spans);
    free(op->tokens);
    free(op->text);
    dw_model_entry_release(op->model);
    free(op);
}

void dw_port_remove(dw_port *port, dw_operation *op) {
    dw_park_lock(port->park);
    dw_operation **link = &port->first, *before = NULL;
    while (*link != op) {
        before = *link;
        link = &(*link)->next;
    }
    *link = op->next;
    if (port->last == op) port->last = before;
    port->n_operations--;
    port->bytes -= op->bytes;
    if (op->state == DW_OPERATION_DONE) port->n_done--;
    else if (op->window) port->n_windows--;
    port->n_lent -= op->is_lent;
    after_change(port);
    dw_park_unlock(port->park);
    free_operation(op);
}

static bool charge_locked(dw_port *port, dw_operation *op, uint64_t bytes) {
    assert(dw_park_held(port->park));
    if (bytes > DW_OUTSTANDING_BYTES_MAX - port->bytes) return false;
    port->bytes += bytes;
    op->bytes += bytes;
    return true;
}

dw_status dw_port_charge(dw_port *port, dw_operation *op, uint64_t bytes) {
    dw_park_lock(port->park);
    bool fits = charge_locked(port, op, bytes);
    after_change(port);
    dw_park_unlock(port->park);
    return fits ? DW_OK : DW_E_LIMIT;
}

void dw_port_refund(dw_port *port, dw_operation *op, uint64_t bytes) {
    dw_park_lock(port->park);
    assert(bytes <= op->bytes);
    port->bytes -= bytes;
    op->bytes -= bytes;
    after_change(port);
    dw_park_unlock(port->park);
}

/* --- windows ------------------------------------------------------------------------------------------------- */

void dw_port_lend(dw_port *port, dw_operation *op) {
    dw_park_lock(port->park);
    assert(!op->is_lent && op->state != DW_OPERATION_DONE);
    op->window = op->is_lent = true;
    port->n_windows++;
    port->n_lent++;
    after_change(port);
    dw_park_unlock(port->park);
}

void dw_port_take_back(dw_port *port, dw_operation *op) {
    assert(op->is_lent && op->state == DW_OPERATION_DONE);
    op->is_lent = false;
    port->n_lent--;
}

bool dw_operation_spans_overlap(const dw_operation *op, uint64_t first, uint64_t end) {
    uint32_t low = 0, high = op->n_spans; /* the first span that ends behind `first` is in [low, high] */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (op->spans[middle].end > first) high = middle;
        else low = middle + 1;
    }
    return first < end && low < op->n_spans && op->spans[low].first < end;
}

bool dw_port_is_lent(const dw_port *port, uint64_t first, uint64_t end) {
    if (port->n_lent == 0) return false;
    for (const dw_operation *op = port->first; op; op = op->next) {
        if (op->is_lent && dw_operation_spans_overlap(op, first, end)) return true;
    }
    return false;
}

/* --- completing ---------------------------------------------------------------------------------------------- */

void dw_port_done(dw_port *port, dw_operation *op) {
    dw_park_lock(port->park);
    assert(op->state != DW_OPERATION_DONE);
    op->state = DW_OPERATION_DONE;
    op->done_order = ++port->done_order;
    port->n_done++;
    if (op->window) port->n_windows--;
    dw_park_wake(port->park);
    after_change(port);
    dw_park_unlock(port->park);
}

dw_operation *dw_port_oldest_done(const dw_port *port) {
    dw_operation *oldest = NULL;
    assert(dw_park_held(port->park));
    for (dw_operation *op = port->first; op; op = op->next) {
        if (op->state == DW_OPERATION_DONE && (!oldest || op->done_order < oldest->done_order)) oldest = op;
    }
    return oldest;
}

bool dw_port_append_text(dw_port *port, dw_operation *op, const char *text, size_t size) {
    bool fits = true;
    dw_park_lock(port->park);
    if (op->text_size + size > op->text_capacity) {
        size_t capacity = op->text_capacity ? op->text_capacity : 256;
        while (capacity < op->text_size + size) capacity *= 2;
        bool may = capacity <= DW_TEXT_BYTES_MAX && charge_locked(port, op, capacity - op->text_capacity);
        char *grown = may ? realloc(op->text, capacity) : NULL;
        if (grown) {
            op->text = grown;
            op->text_capacity = capacity;
        } else {
            op->text_failed = true;
            fits = false;
        }
    }
    if (fits) {
        memcpy(op->text + op->text_size, text, size);
        op->text_size += size;
        if (op->generate.flags & DW_GENERATE_EMIT) {
            port->text_waits = true;
            dw_park_wake(port->park);
        }
    }
    after_change(port);
    dw_park_unlock(port->park);
    return fits;
}

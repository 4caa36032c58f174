/* port.c: outstanding operations and their completion (port.h). */
#include "actor/port.h"

#include <stdlib.h>
#include <string.h>

dw_status dw_port_create(dw_port **out, dw_error *err) {
    *out = NULL;
    dw_port *port = calloc(1, sizeof *port);
    if (!port) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's port");
    dw_status status = dw_os_mutex_create(&port->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&port->changed, err);
    if (status != DW_OK) {
        dw_port_destroy(port);
        return status;
    }
    *out = port;
    return DW_OK;
}

void dw_port_destroy(dw_port *port) {
    if (!port) return;
    dw_os_condition_destroy(port->changed);
    dw_os_mutex_destroy(port->mutex);
    free(port);
}

operation *dw_port_add(dw_port *port, const dw_request *request) {
    operation *op = calloc(1, sizeof *op);
    if (!op) return NULL;
    op->port = port;
    op->request = *request;
    op->completion.user_data = request->user_data;
    op->state = OPERATION_WAITING;
    dw_os_mutex_lock(port->mutex);
    if (port->last) port->last->next = op;
    else port->first = op;
    port->last = op;
    port->n_operations++;
    dw_os_mutex_unlock(port->mutex);
    return op;
}

static void free_operation(operation *op) {
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
    free(op->tokens);
    free(op->text);
    free(op);
}

void dw_port_remove(dw_port *port, operation *op) {
    dw_os_mutex_lock(port->mutex);
    operation **link = &port->first, *before = NULL;
    while (*link != op) {
        before = *link;
        link = &(*link)->next;
    }
    *link = op->next;
    if (port->last == op) port->last = before;
    port->n_operations--;
    port->bytes -= op->bytes;
    if (op->state == OPERATION_DONE) port->n_done--;
    else if (op->window) port->n_windows--;
    dw_os_mutex_unlock(port->mutex);
    free_operation(op);
}

/* Lock held. */
static bool charge(dw_port *port, operation *op, uint64_t bytes) {
    if (bytes > DW_OUTSTANDING_BYTES_MAX - port->bytes) return false;
    port->bytes += bytes;
    op->bytes += bytes;
    return true;
}

dw_status dw_port_charge(dw_port *port, operation *op, uint64_t bytes) {
    dw_os_mutex_lock(port->mutex);
    bool fits = charge(port, op, bytes);
    dw_os_mutex_unlock(port->mutex);
    return fits ? DW_OK : DW_E_LIMIT;
}

void dw_port_done(dw_port *port, operation *op) {
    dw_os_mutex_lock(port->mutex);
    op->state = OPERATION_DONE;
    op->done_order = ++port->done_order;
    port->n_done++;
    if (op->window) port->n_windows--;
    dw_os_condition_signal(port->changed);
    dw_os_mutex_unlock(port->mutex);
}

operation *dw_port_oldest_done(const dw_port *port) {
    operation *oldest = NULL;
    for (operation *op = port->first; op; op = op->next) {
        if (op->state == OPERATION_DONE && (!oldest || op->done_order < oldest->done_order)) oldest = op;
    }
    return oldest;
}

bool dw_port_append_text(dw_port *port, operation *op, const char *text, size_t size) {
    bool fits = true;
    dw_os_mutex_lock(port->mutex);
    if (op->text_size + size > op->text_capacity) {
        size_t capacity = op->text_capacity ? op->text_capacity : 256;
        while (capacity < op->text_size + size) capacity *= 2;
        bool may = capacity <= DW_TEXT_BYTES_MAX && charge(port, op, capacity - op->text_capacity);
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
            dw_os_condition_signal(port->changed);
        }
    }
    dw_os_mutex_unlock(port->mutex);
    return fits;
}

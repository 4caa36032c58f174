/* enter.c: the one door between guest and host (include/driftwood/guest.h).
 *
 * A call goes through four steps: check the call itself, copy all records, take them one by one, wait and deliver. Only the turn's thread
 * is here; engine threads reach an operation through its port (port.h). */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

enum { RECORD_ALIGN = 8 };

/* --- taking requests ----------------------------------------------------------------------------------------- */

/* An operation waits while another one of its session is outstanding and was submitted before it. */
static bool session_is_free(const dw_port *port, const operation *op) {
    if (op->session == 0) return true;
    for (const operation *other = port->first; other && other != op; other = other->next) {
        if (other->session == op->session && other->state != OPERATION_DONE) return false;
    }
    return true;
}

static void complete(operation *op, dw_status status) {
    op->completion.status = status;
    dw_port_done(op->port, op);
}

static void start(dw_actor *actor, dw_guest_memory *memory, operation *op) {
    op->state = OPERATION_RUNNING;
    if (dw_operation_start(actor, memory, op)) dw_port_done(op->port, op);
}

/* Starts whatever waited for a session that is free by now. One pass in order is enough: what is started may end at once and
 * free its session, but those behind it in the list come later in the same pass. */
static void start_waiting(dw_actor *actor, dw_guest_memory *memory) {
    for (operation *op = actor->port->first; op; op = op->next) {
        if (op->state == OPERATION_WAITING && session_is_free(actor->port, op)) start(actor, memory, op);
    }
}

static dw_status take(dw_actor *actor, dw_guest_memory *memory, const dw_request *request) {
    operation *op = dw_port_add(actor->port, request);
    if (!op) return DW_E_NO_MEMORY;
    dw_status status = dw_operation_copy_in(actor, memory, op);
    if (status != DW_OK) {
        complete(op, status);
    } else {
        if (op->window) {
            dw_os_mutex_lock(op->port->mutex);
            op->port->n_windows++;
            dw_os_mutex_unlock(op->port->mutex);
        }
        if (session_is_free(actor->port, op)) start(actor, memory, op);
    }
    return DW_OK;
}

/* --- waiting ------------------------------------------------------------------------------------------------- */

/* Why the turn has to end now, if it has to. */
static dw_status must_end(const dw_actor *actor) {
    if (atomic_load(&actor->stopped)) return DW_E_CANCELLED;
    return dw_os_monotonic_ns() >= actor->turn_deadline_ns ? DW_E_DEADLINE : DW_OK;
}

/* Gives the observer what generations have written since. Lock held; released while the observer runs. */
static void show_text(dw_actor *actor) {
    dw_port *port = actor->port;
    port->text_waits = false;
    for (operation *op = port->first; op; op = op->next) {
        size_t size = op->text_size - op->text_shown;
        if (size == 0 || !(op->generate.flags & DW_GENERATE_EMIT)) continue;
        char *piece = malloc(size);
        if (!piece) return; /* shown with the next piece */
        memcpy(piece, op->text + op->text_shown, size);
        op->text_shown = op->text_size;
        dw_os_mutex_unlock(port->mutex);
        if (actor->observer.on_text) actor->observer.on_text(actor->observer.context, piece, size);
        free(piece);
        dw_os_mutex_lock(port->mutex);
    }
}

/* Completes sleeps that are over; the earliest of the others, or UINT64_MAX. Lock not held. */
static uint64_t wake_sleepers(dw_port *port, uint64_t now) {
    uint64_t next = UINT64_MAX;
    for (operation *op = port->first; op; op = op->next) {
        if (op->request.op != DW_OP_SLEEP || op->state == OPERATION_DONE) continue;
        if (op->wake_ns <= now) complete(op, DW_OK);
        else next = dw_min_u64(next, op->wake_ns);
    }
    return next;
}

static void cancel_operation(dw_actor *actor, operation *op) {
    if (op->state == OPERATION_DONE) return;
    if (op->state == OPERATION_RUNNING && op->has_job) dw_operation_cancel(actor, op);
    else complete(op, DW_E_CANCELLED);
}

static void cancel_windows(dw_actor *actor) {
    for (operation *op = actor->port->first; op; op = op->next) {
        if (op->window) cancel_operation(actor, op);
    }
}

static void cancel_generations(dw_actor *actor) {
    for (operation *op = actor->port->first; op; op = op->next) {
        if (op->request.op == DW_OP_GENERATE) cancel_operation(actor, op);
    }
}

/* Waits until `wait` operations are done and none with a window is left, or the deadline. The turn's own deadline or a stop end it with
 * a status that ends the turn. */
static dw_status wait_for(dw_actor *actor, dw_guest_memory *memory, uint32_t wait, uint64_t deadline_ns) {
    dw_port *port = actor->port;
    bool interrupted_seen = false, deadline_seen = false;
    for (;;) {
        uint64_t now = dw_os_monotonic_ns();
        uint64_t wake_ns = wake_sleepers(port, now);
        start_waiting(actor, memory);
        dw_status ending = must_end(actor);
        if (ending != DW_OK) return ending;
        if (atomic_load(&actor->interrupted) && !interrupted_seen) {
            interrupted_seen = true;
            cancel_generations(actor);
        }
        if (now >= deadline_ns && !deadline_seen) {
            deadline_seen = true;
            cancel_windows(actor);
        }
        wake_ns = dw_min_u64(wake_ns, actor->turn_deadline_ns);
        if (!deadline_seen) wake_ns = dw_min_u64(wake_ns, deadline_ns);
        dw_os_mutex_lock(port->mutex);
        if (port->text_waits) show_text(actor);
        bool enough = port->n_windows == 0 && (port->n_done >= wait || deadline_seen);
        bool startable = false; /* something became free while the lock was open */
        for (operation *op = port->first; op && !startable; op = op->next) {
            startable = op->state == OPERATION_WAITING && session_is_free(port, op);
        }
        bool asked = atomic_load(&actor->stopped) || (atomic_load(&actor->interrupted) && !interrupted_seen);
        if (!enough && !startable && !asked && !port->text_waits) dw_os_condition_wait_until(port->changed, port->mutex, wake_ns);
        dw_os_mutex_unlock(port->mutex);
        if (enough) return DW_OK;
    }
}

/* --- delivering ---------------------------------------------------------------------------------------------- */

static uint32_t deliver(dw_actor *actor, dw_guest_memory *memory, uint32_t completions, uint32_t capacity) {
    uint32_t n = 0;
    for (operation *op = actor->port->first; op; op = op->next) dw_operation_return_window(actor, op); /* all with one are done */
    while (n < capacity) {
        dw_os_mutex_lock(actor->port->mutex);
        if (actor->port->text_waits) show_text(actor);
        operation *op = dw_port_oldest_done(actor->port);
        dw_os_mutex_unlock(actor->port->mutex);
        if (!op) break;
        dw_operation_deliver(actor, memory, op);
        /* The place was checked at the door, and memory never shrinks. */
        uint32_t at = completions + n * (uint32_t)sizeof(dw_completion);
        if (dw_guest_write(memory, at, &op->completion, sizeof op->completion) != DW_OK) break;
        dw_port_remove(actor->port, op);
        n++;
    }
    return n;
}

void dw_actor_cancel_all(dw_actor *actor) {
    dw_port *port = actor->port;
    for (operation *op = port->first; op; op = op->next) cancel_operation(actor, op);
    dw_os_mutex_lock(port->mutex);
    while (port->n_done < port->n_operations) dw_os_condition_wait(port->changed, port->mutex);
    dw_os_mutex_unlock(port->mutex);
    while (port->first) {
        operation *op = port->first;
        dw_operation_deliver(actor, NULL, op); /* books its session and window back; no guest to tell */
        dw_port_remove(port, op);
    }
}

/* --- the door ------------------------------------------------------------------------------------------------ */

static dw_status check_call(dw_actor *actor, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests, uint32_t completions,
                            uint32_t capacity, uint32_t wait) {
    if (n_requests > DW_ENTER_REQUESTS_MAX) return DW_E_LIMIT;
    uint32_t outstanding = actor->port->n_operations + n_requests;
    if (outstanding > DW_OUTSTANDING_MAX) return DW_E_LIMIT;
    if (wait > outstanding || wait > capacity) return DW_E_INVALID;
    void *ignored;
    dw_status status = dw_guest_view(memory, requests, (uint64_t)n_requests * sizeof(dw_request), RECORD_ALIGN, &ignored);
    if (status == DW_OK) status = dw_guest_view(memory, completions, (uint64_t)capacity * sizeof(dw_completion), RECORD_ALIGN, &ignored);
    return status;
}

int32_t dw_actor_enter(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests, uint32_t completions, uint32_t capacity,
                       uint32_t wait, int64_t deadline_ns, dw_status *stop) {
    dw_actor *actor = context;
    if (!actor->in_turn) return DW_E_STATE;
    actor->result->enters++;
    dw_status status = check_call(actor, memory, requests, n_requests, completions, capacity, wait);
    if (status != DW_OK) return status;

    uint64_t until_ns = UINT64_MAX;
    if (deadline_ns >= 0 && !dw_add_u64(dw_os_monotonic_ns(), (uint64_t)deadline_ns, &until_ns)) until_ns = UINT64_MAX;
    dw_request few[8], *records = few;
    if (n_requests > sizeof few / sizeof few[0]) {
        records = malloc(n_requests * sizeof *records);
        if (!records) return DW_E_NO_MEMORY;
    }
    status = dw_guest_read(memory, requests, records, (uint64_t)n_requests * sizeof *records);
    for (uint32_t i = 0; i < n_requests && status == DW_OK; i++) {
        status = must_end(actor); /* some requests take their time at once */
        if (status == DW_OK) status = take(actor, memory, &records[i]);
    }
    if (records != few) free(records);
    if (status == DW_OK) status = wait_for(actor, memory, wait, until_ns);
    if (status != DW_OK) {
        *stop = status; /* out of memory in the middle, stopped, or out of time: the turn ends, nothing of it stays */
        return status;
    }
    return (int32_t)deliver(actor, memory, completions, capacity);
}

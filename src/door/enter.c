/* enter.c: the one door between guest and host (include/driftwood/guest.h).
 *
 * A call goes through four steps: check the call itself, copy all records, take them one by one, wait and deliver. Only
 * the turn's thread is here; engine threads reach an operation through its port (port.h). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "door/door_internal.h"
#include "os/os.h"

enum { RECORD_ALIGN = 8 };

/* --- making a door ------------------------------------------------------------------------------------------- */

dw_status dw_door_create(const dw_door_options *options, dw_door **out, dw_error *err) {
    *out = NULL;
    dw_door *door = calloc(1, sizeof *door);
    if (!door) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an actor's door");
    door->options = *options;
    dw_door_observe(door, options->observer);
    dw_writer_init(&door->reply);
    dw_status status = dw_port_create(&door->port, err);
    if (status == DW_OK) *out = door;
    else dw_door_destroy(door);
    return status;
}

void dw_door_destroy(dw_door *door) {
    if (!door) return;
    assert(!door->open);
    dw_port_destroy(door->port);
    dw_writer_deinit(&door->reply);
    free(door);
}

void dw_door_observe(dw_door *door, const dw_observer *observer) {
    door->observer = observer ? *observer : (dw_observer){0};
}
const dw_observer *dw_door_observer(const dw_door *door) { return &door->observer; }
dw_park *dw_door_park(dw_door *door) { return door->port->park; }
dw_door_counts dw_door_counts_of(const dw_door *door) { return door->counts; }
dw_writer *dw_door_reply(dw_door *door) { return &door->reply; }

/* --- taking requests ----------------------------------------------------------------------------------------- */

/* An operation waits while another one of its session is outstanding and was submitted before it. */
static bool session_is_free(const dw_port *port, const dw_operation *op) {
    if (op->session == 0) return true;
    for (const dw_operation *other = port->first; other && other != op; other = other->next) {
        if (other->session == op->session && other->state != DW_OPERATION_DONE) return false;
    }
    return true;
}

static void complete_operation(dw_operation *op, dw_status status) {
    op->completion.status = status;
    dw_port_done(op->port, op);
}

static void start_operation(dw_door *door, dw_operation *op) {
    op->state = DW_OPERATION_RUNNING;
    if (dw_operation_start(door, op)) dw_port_done(op->port, op);
}

/* Starts whatever waited for a session that is free by now. One pass in order is enough: what is started may end at
 * once and free its session, but those behind it in the list come later in the same pass. */
static void start_waiting_operations(dw_door *door) {
    for (dw_operation *op = door->port->first; op; op = op->next) {
        if (op->state == DW_OPERATION_WAITING && session_is_free(door->port, op)) start_operation(door, op);
    }
}

static dw_status take_request(dw_door *door, const dw_request *request) {
    dw_operation *op = dw_port_add(door->port, request);
    if (!op) return DW_E_NO_MEMORY;
    dw_status status = dw_operation_copy_in(door, op);
    if (status != DW_OK) complete_operation(op, status);
    else if (session_is_free(door->port, op)) start_operation(door, op);
    return DW_OK;
}

/* --- waiting ------------------------------------------------------------------------------------------------- */

/* Gives the observer what generations have written since. Lock held; released while the observer runs. */
static void show_text(dw_door *door) {
    dw_port *port = door->port;
    assert(dw_park_held(port->park));
    port->text_waits = false;
    for (dw_operation *op = port->first; op; op = op->next) {
        size_t size = op->text_size - op->text_shown;
        if (size == 0 || !(op->generate.flags & DW_GENERATE_EMIT)) continue;
        char *piece = malloc(size);
        if (!piece) return; /* shown with the next piece */
        memcpy(piece, op->text + op->text_shown, size);
        op->text_shown = op->text_size;
        dw_park_unlock(port->park);
        if (door->observer.on_text) door->observer.on_text(door->observer.context, piece, size);
        free(piece);
        dw_park_lock(port->park);
    }
}

/* Completes sleeps that are over; the earliest of the others, or UINT64_MAX. Lock not held. */
static uint64_t wake_sleepers(dw_port *port, uint64_t now) {
    uint64_t next = UINT64_MAX;
    for (dw_operation *op = port->first; op; op = op->next) {
        if (op->request.op != DW_OP_SLEEP || op->state == DW_OPERATION_DONE) continue;
        if (op->wake_ns <= now) complete_operation(op, DW_OK);
        else next = dw_min_u64(next, op->wake_ns);
    }
    return next;
}

static void cancel_outstanding(dw_operation *op) {
    if (op->state == DW_OPERATION_DONE) return;
    if (op->state == DW_OPERATION_RUNNING && op->has_job) dw_operation_cancel(op);
    else complete_operation(op, DW_E_CANCELLED);
}

static void cancel_windows(dw_port *port) {
    for (dw_operation *op = port->first; op; op = op->next) {
        if (op->window) cancel_outstanding(op);
    }
}

static void cancel_generations(dw_port *port) {
    for (dw_operation *op = port->first; op; op = op->next) {
        if (op->request.op == DW_OP_GENERATE) cancel_outstanding(op);
    }
}

/* Lock held: an operation waits whose session became free while the lock was open. */
static bool any_startable(const dw_port *port) {
    assert(dw_park_held(port->park));
    for (const dw_operation *op = port->first; op; op = op->next) {
        if (op->state == DW_OPERATION_WAITING && session_is_free(port, op)) return true;
    }
    return false;
}

/* Waits until `wait` operations are done and none with a window is left, or the deadline. The turn's own deadline or a
 * stop end it with a status that ends the turn. */
static dw_status wait_for_done(dw_door *door, uint32_t wait, uint64_t deadline_ns) {
    dw_port *port = door->port;
    bool interrupted_seen = false, deadline_seen = false;
    for (;;) {
        uint64_t now = dw_os_monotonic_ns();
        uint64_t wake_ns = wake_sleepers(port, now);
        start_waiting_operations(door);
        dw_status ending = dw_park_ending(port->park);
        if (ending != DW_OK) return ending;
        if (dw_park_interrupted(port->park) && !interrupted_seen) {
            interrupted_seen = true;
            cancel_generations(port);
        }
        if (now >= deadline_ns && !deadline_seen) {
            deadline_seen = true;
            cancel_windows(port);
        }
        wake_ns = dw_min_u64(wake_ns, dw_park_deadline(port->park));
        if (!deadline_seen) wake_ns = dw_min_u64(wake_ns, deadline_ns);
        dw_park_lock(port->park);
        if (port->text_waits) show_text(door);
        bool enough = port->n_windows == 0 && (port->n_done >= wait || deadline_seen);
        bool asked = dw_park_stopped(port->park) || (dw_park_interrupted(port->park) && !interrupted_seen);
        if (!enough && !asked && !port->text_waits && !any_startable(port)) dw_park_wait(port->park, wake_ns);
        dw_park_unlock(port->park);
        if (enough) return DW_OK;
    }
}

/* --- delivering ---------------------------------------------------------------------------------------------- */

static uint32_t deliver_done(dw_door *door, uint32_t completions, uint32_t capacity) {
    dw_port *port = door->port;
    uint32_t n = 0;
    /* wait_for_done: all that lend are done */
    for (dw_operation *op = port->first; op; op = op->next) dw_door_return(door, op);
    assert(port->n_lent == 0);
    while (n < capacity) {
        dw_park_lock(port->park);
        if (port->text_waits) show_text(door);
        dw_operation *op = dw_port_oldest_done(port);
        dw_park_unlock(port->park);
        if (!op) break;
        dw_operation_deliver(door, op, true);
        uint32_t at = completions + n * (uint32_t)sizeof(dw_completion);
        dw_status written = dw_door_write(door, at, &op->completion, sizeof op->completion);
        assert(written == DW_OK); /* check_call saw the place, nothing is lent, and memory never shrinks */
        (void)written;
        dw_port_remove(port, op);
        n++;
    }
    return n;
}

/* --- a turn -------------------------------------------------------------------------------------------------- */

void dw_door_open(dw_door *door, const dw_door_message *message) {
    assert(!door->open && !door->port->first);
    door->message = *message;
    door->counts = (dw_door_counts){0};
    dw_writer_deinit(&door->reply);
    dw_writer_init(&door->reply);
    door->open = true;
}

void dw_door_close(dw_door *door) {
    dw_port *port = door->port;
    assert(door->open);
    for (dw_operation *op = port->first; op; op = op->next) cancel_outstanding(op);
    dw_park_lock(port->park);
    while (port->n_done < port->n_operations) dw_park_wait(port->park, UINT64_MAX);
    dw_park_unlock(port->park);
    while (port->first) {
        dw_operation *op = port->first;
        dw_door_return(door, op);
        dw_operation_deliver(door, op, false);
        dw_port_remove(port, op);
    }
    door->open = false;
    door->memory = NULL;
    door->message = (dw_door_message){0};
}

static dw_status check_call(const dw_door *door, uint32_t requests, uint32_t n_requests, uint32_t completions,
                            uint32_t capacity, uint32_t wait) {
    if (n_requests > DW_ENTER_REQUESTS_MAX) return DW_E_LIMIT;
    uint32_t outstanding = door->port->n_operations + n_requests;
    if (outstanding > DW_OUTSTANDING_MAX) return DW_E_LIMIT;
    if (wait > outstanding || wait > capacity) return DW_E_INVALID;
    void *ignored;
    dw_status status =
        dw_guest_view(door->memory, requests, (uint64_t)n_requests * sizeof(dw_request), RECORD_ALIGN, &ignored);
    if (status != DW_OK) return status;
    return dw_guest_view(door->memory, completions, (uint64_t)capacity * sizeof(dw_completion), RECORD_ALIGN, &ignored);
}

int32_t dw_door_enter(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests,
                      uint32_t completions, uint32_t capacity, uint32_t wait, int64_t deadline_ns, dw_status *stop) {
    dw_door *door = context;
    if (!door->open) return DW_E_STATE;
    door->memory = memory;
    door->counts.enters++;
    dw_status status = check_call(door, requests, n_requests, completions, capacity, wait);
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
        status = dw_park_ending(door->port->park); /* some requests take their time at once */
        if (status == DW_OK) status = take_request(door, &records[i]);
    }
    if (records != few) free(records);
    if (status == DW_OK) status = wait_for_done(door, wait, until_ns);
    if (status != DW_OK) {
        *stop = status; /* out of memory in the middle, stopped, or out of time: the turn ends, nothing of it stays */
        return status;
    }
    return (int32_t)deliver_done(door, completions, capacity);
}

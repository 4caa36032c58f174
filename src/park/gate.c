/* gate.c: what several threads wait for (park.h). Those who run turns wait at their parks, so that a stop or a deadline
 * reaches them; the others wait at the gate's own condition. */
#include <assert.h>
#include <stdlib.h>

#include "os/os.h"
#include "park/park.h"

/* One who waits, in the order of arrival; on the stack of his thread. */
typedef struct gate_waiter {
    struct gate_waiter *next;
    dw_park *park;  /* NULL: waits at the gate's condition */
    bool look;      /* woken since it looked last. Under the park's lock, without a park under the gate's */
} gate_waiter;

struct dw_gate {
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    gate_waiter *first;
};

dw_status dw_gate_create(dw_gate **out, dw_error *err) {
    *out = NULL;
    dw_gate *gate = calloc(1, sizeof *gate);
    if (!gate) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a gate");
    dw_status status = dw_os_mutex_create(&gate->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&gate->changed, err);
    if (status == DW_OK) *out = gate;
    else dw_gate_destroy(gate);
    return status;
}

void dw_gate_destroy(dw_gate *gate) {
    if (!gate) return;
    assert(!gate->first);
    dw_os_condition_destroy(gate->changed);
    dw_os_mutex_destroy(gate->mutex);
    free(gate);
}

void dw_gate_lock(dw_gate *gate) { dw_os_mutex_lock(gate->mutex); }
void dw_gate_unlock(dw_gate *gate) { dw_os_mutex_unlock(gate->mutex); }
bool dw_gate_held(const dw_gate *gate) { return dw_os_mutex_held(gate->mutex); }

void dw_gate_wake(dw_gate *gate) {
    assert(dw_gate_held(gate));
    for (gate_waiter *waiter = gate->first; waiter; waiter = waiter->next) {
        if (!waiter->park) {
            waiter->look = true;
            continue;
        }
        dw_park_lock(waiter->park);
        waiter->look = true;
        dw_park_wake(waiter->park);
        dw_park_unlock(waiter->park);
    }
    dw_os_condition_broadcast(gate->changed);
}

static void join_queue(dw_gate *gate, gate_waiter *waiter) {
    gate_waiter **link = &gate->first;
    while (*link) link = &(*link)->next;
    *link = waiter;
}

/* Whoever is behind one that leaves has to look again. */
static void leave_queue(dw_gate *gate, const gate_waiter *waiter) {
    gate_waiter **link = &gate->first;
    while (*link != waiter) link = &(*link)->next;
    *link = waiter->next;
    if (waiter->next) dw_gate_wake(gate);
}

/* Lock held; released while the thread sleeps. */
static void sleep_at_gate(dw_gate *gate, gate_waiter *waiter) {
    if (!waiter->park) {
        while (!waiter->look) dw_os_condition_wait(gate->changed, gate->mutex);
        waiter->look = false;
        return;
    }
    dw_gate_unlock(gate);
    dw_park_lock(waiter->park);
    while (!waiter->look && dw_park_ending(waiter->park) == DW_OK)
        dw_park_wait(waiter->park, dw_park_deadline(waiter->park));
    waiter->look = false;
    dw_park_unlock(waiter->park);
    dw_gate_lock(gate);
}

dw_status dw_gate_wait(dw_gate *gate, dw_park *park, bool (*pass)(void *context), void *context) {
    assert(dw_gate_held(gate));
    if (!gate->first && pass(context)) return DW_OK;
    gate_waiter waiter = {.park = park};
    join_queue(gate, &waiter);
    dw_status status = DW_OK;
    for (;;) {
        status = park ? dw_park_ending(park) : DW_OK;
        if (status != DW_OK || (gate->first == &waiter && pass(context))) break;
        sleep_at_gate(gate, &waiter);
    }
    leave_queue(gate, &waiter);
    return status;
}

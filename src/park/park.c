/* park.c: see park.h. The one sleep of a turn is in dw_park_wait. */
#include "park/park.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "os/os.h"

struct dw_park {
    dw_os_mutex *mutex;
    dw_os_condition *woken;
    /* written under the lock by the turn's thread */
    _Atomic uint64_t turn;
    bool running;
    uint64_t deadline_ns; /* read by the turn's thread alone */
    void (*cut)(void *context);
    void *cut_context;
    /* set under the lock by any thread; read without it */
    _Atomic bool interrupted, stopped;
};

dw_status dw_park_create(dw_park **out, dw_error *err) {
    *out = NULL;
    dw_park *park = calloc(1, sizeof *park);
    if (!park) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a place to wait");
    atomic_init(&park->turn, 1);
    park->deadline_ns = UINT64_MAX;
    dw_status status = dw_os_mutex_create(&park->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&park->woken, err);
    if (status == DW_OK) *out = park;
    else dw_park_destroy(park);
    return status;
}

void dw_park_destroy(dw_park *park) {
    if (!park) return;
    assert(!park->running);
    dw_os_condition_destroy(park->woken);
    dw_os_mutex_destroy(park->mutex);
    free(park);
}

void dw_park_lock(dw_park *park) { dw_os_mutex_lock(park->mutex); }
void dw_park_unlock(dw_park *park) { dw_os_mutex_unlock(park->mutex); }
bool dw_park_held(const dw_park *park) { return dw_os_mutex_held(park->mutex); }

uint64_t dw_park_turn(const dw_park *park) { return atomic_load(&park->turn); }
uint64_t dw_park_deadline(const dw_park *park) { return park->deadline_ns; }
bool dw_park_interrupted(const dw_park *park) { return atomic_load(&park->interrupted); }
bool dw_park_stopped(const dw_park *park) { return atomic_load(&park->stopped); }
const _Atomic bool *dw_park_stop_flag(const dw_park *park) { return &park->stopped; }

/* --- the turn ------------------------------------------------------------------------------------------------ */

void dw_park_begin(dw_park *park, uint64_t deadline_ns) {
    dw_park_lock(park);
    assert(!park->running);
    park->running = true;
    park->deadline_ns = deadline_ns;
    dw_park_unlock(park);
}

void dw_park_cut_with(dw_park *park, void (*cut)(void *context), void *context) {
    dw_park_lock(park);
    assert(park->running || !cut);
    park->cut = cut;
    park->cut_context = context;
    if (cut && atomic_load(&park->stopped)) cut(context);
    dw_park_unlock(park);
}

bool dw_park_end(dw_park *park) {
    dw_park_lock(park);
    assert(park->running && !park->cut);
    bool stopped = atomic_exchange(&park->stopped, false);
    atomic_store(&park->interrupted, false);
    atomic_fetch_add(&park->turn, 1);
    park->running = false;
    park->deadline_ns = UINT64_MAX;
    dw_park_unlock(park);
    return stopped;
}

dw_status dw_park_ending(const dw_park *park) {
    if (atomic_load(&park->stopped)) return DW_E_CANCELLED;
    if (park->deadline_ns == UINT64_MAX) return DW_OK;
    return dw_os_monotonic_ns() >= park->deadline_ns ? DW_E_DEADLINE : DW_OK;
}

/* Asks `turn` to end: its thread is woken wherever it waits. */
static dw_status ask_turn(dw_park *park, uint64_t turn, bool stop) {
    dw_park_lock(park);
    bool there = atomic_load(&park->turn) == turn;
    if (there) {
        atomic_store(&park->interrupted, true);
        if (stop) atomic_store(&park->stopped, true);
        if (stop && park->cut) park->cut(park->cut_context);
        dw_os_condition_signal(park->woken);
    }
    dw_park_unlock(park);
    return there ? DW_OK : DW_E_NOT_FOUND;
}

dw_status dw_park_interrupt(dw_park *park, uint64_t turn) { return ask_turn(park, turn, false); }
dw_status dw_park_stop(dw_park *park, uint64_t turn) { return ask_turn(park, turn, true); }

/* --- waiting ------------------------------------------------------------------------------------------------- */

void dw_park_wait(dw_park *park, uint64_t until_ns) {
    assert(dw_park_held(park));
    (void)dw_os_condition_wait_until(park->woken, park->mutex, until_ns);
}

void dw_park_wake(dw_park *park) {
    assert(dw_park_held(park));
    dw_os_condition_signal(park->woken);
}

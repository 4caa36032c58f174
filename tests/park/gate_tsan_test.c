/* gate_tsan_test.c: turns and other threads take what a gate guards in turn, while somebody stops these turns, under
 * the thread sanitizer. Never two at once, and each pass is counted once. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include "os/os.h"
#include "park/park.h"

enum { THREADS = 4, ROUNDS = 3000 };

static void require(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

typedef struct device {
    dw_gate *gate;
    bool busy;            /* under the gate's lock */
    unsigned passed;      /* by who has it */
} device;

typedef struct user {
    device *device;
    dw_park *park;        /* NULL: runs no turn */
    unsigned passed, stopped;
} user;

static bool take(void *context) {
    device *d = context;
    if (d->busy) return false;
    return d->busy = true;
}

static void use(void *argument) {
    user *u = argument;
    device *d = u->device;
    for (int i = 0; i < ROUNDS; i++) {
        if (u->park) dw_park_begin(u->park, UINT64_MAX);
        dw_gate_lock(d->gate);
        dw_status status = dw_gate_wait(d->gate, u->park, take, d);
        dw_gate_unlock(d->gate);
        require(status == DW_OK || (status == DW_E_CANCELLED && u->park), "a wait ended for no reason");
        if (status == DW_OK) {
            d->passed++; /* nobody else is here */
            u->passed++;
            dw_gate_lock(d->gate);
            d->busy = false;
            dw_gate_wake(d->gate);
            dw_gate_unlock(d->gate);
        }
        if (u->park) u->stopped += dw_park_end(u->park);
    }
}

typedef struct stopper {
    user *users;
    _Atomic bool quit;
} stopper;

static void stop_them(void *argument) {
    stopper *s = argument;
    for (unsigned i = 0; !atomic_load(&s->quit); i++) {
        dw_park *park = s->users[i % THREADS].park;
        if (park) (void)!dw_park_stop(park, dw_park_turn(park));
    }
}

int main(void) {
    dw_error err;
    device d = {0};
    user users[THREADS];
    stopper s = {.users = users};
    dw_os_thread *threads[THREADS], *stopping;
    require(dw_gate_create(&d.gate, &err) == DW_OK, "no gate");
    for (int i = 0; i < THREADS; i++) {
        users[i] = (user){.device = &d};
        if (i > 0) require(dw_park_create(&users[i].park, &err) == DW_OK, "no park");
    }
    require(dw_os_thread_create("stopper", 0, stop_them, &s, &stopping, &err) == DW_OK, "no thread");
    for (int i = 0; i < THREADS; i++)
        require(dw_os_thread_create("user", 0, use, &users[i], &threads[i], &err) == DW_OK, "no thread");
    unsigned passed = 0;
    for (int i = 0; i < THREADS; i++) {
        dw_os_thread_join(threads[i]);
        passed += users[i].passed;
    }
    atomic_store(&s.quit, true);
    dw_os_thread_join(stopping);
    require(passed == d.passed && users[0].passed == ROUNDS && !d.busy, "a pass was lost or doubled");
    for (int i = 0; i < THREADS; i++) dw_park_destroy(users[i].park);
    dw_gate_destroy(d.gate);
    return 0;
}

/* park.h: where a thread that runs a turn waits, and how others end that waiting. Everything that a turn waits for goes
 * through here.
 *
 *   park       the waiting place of one actor: a lock, what wakes it, the turn that runs, its deadline, and what was
 *              asked of it
 *   turn       one run of a message, by its number; numbers only rise, and a message that is handled again has another
 *              one
 *   interrupt  asks the guest of a turn to come to an end; the turn goes on
 *   stop       ends a turn: whatever it waits for is given up
 *   gate       something that several threads wait for and others bring about: a vocabulary is loaded, a device is free
 *
 * Rules
 * 1. One thread at a time parks at a park: the one that runs the actor's turns. It sleeps in dw_park_wait and nowhere
 *    else, so this is the one place that changes when a turn runs on a fiber.
 * 2. Interrupt and stop name a turn. The turn that runs, or, while none does, the next one: any other number is
 *    DW_E_NOT_FOUND and changes nothing. So what comes too late cannot hit the next turn.
 * 3. dw_park_end says whether its turn was stopped. A stop that came before is seen there; one that comes after is
 *    refused.
 * 4. Locks are taken in this order: a gate's, then a park's. Neither is held while a guest, an observer or a device
 *    works.
 * Threads: dw_park_stop, _interrupt, _wake, _lock and _unlock, and the functions that only read, by any; the others by
 * the turn's thread. A gate's functions by any thread.
 */
#ifndef DW_PARK_PARK_H
#define DW_PARK_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

/* --- parks --------------------------------------------------------------------------------------------------- */

typedef struct dw_park dw_park;

dw_status dw_park_create(dw_park **out, dw_error *err) DW_MUST_USE;
void dw_park_destroy(dw_park *park); /* between two turns; NULL is a no-op */

/* The number that the next turn will have, or of the one that runs. From 1. */
uint64_t dw_park_turn(const dw_park *park);
/* A turn begins. deadline_ns: on dw_os_monotonic_ns, UINT64_MAX = none. What was asked of this turn beforehand
 * counts. */
void dw_park_begin(dw_park *park, uint64_t deadline_ns);
/* While guest code runs, a stop has to reach it: `cut(context)` is called under the lock when the turn is stopped, at
 * once if it is by now. NULL: no guest code runs. */
void dw_park_cut_with(dw_park *park, void (*cut)(void *context), void *context);
/* The turn can be stopped no more. True when it was stopped. */
bool dw_park_end(dw_park *park);

/* Rule 2. DW_E_NOT_FOUND: it is over, or was never. */
dw_status dw_park_interrupt(dw_park *park, uint64_t turn) DW_MUST_USE;
dw_status dw_park_stop(dw_park *park, uint64_t turn) DW_MUST_USE;
bool dw_park_interrupted(const dw_park *park);
bool dw_park_stopped(const dw_park *park);
/* The same as a flag, for what looks at one while it works. Valid as long as the park; it is of the turn that runs. */
const _Atomic bool *dw_park_stop_flag(const dw_park *park);
/* Why the turn has to end now: DW_E_CANCELLED (stopped), DW_E_DEADLINE, or DW_OK when it may go on. */
dw_status dw_park_ending(const dw_park *park) DW_MUST_USE;
uint64_t dw_park_deadline(const dw_park *park);

void dw_park_lock(dw_park *park);
void dw_park_unlock(dw_park *park);
bool dw_park_held(const dw_park *park); /* by this thread; for assertions */
/* Lock held, and released while the thread sleeps: until it is woken, interrupted, stopped, or until_ns has come
 * (UINT64_MAX: never). May return without any of these: who waits looks again. It does not look at the turn's deadline
 * by itself. */
void dw_park_wait(dw_park *park, uint64_t until_ns);
/* Lock held. */
void dw_park_wake(dw_park *park);

/* --- gates --------------------------------------------------------------------------------------------------- */

typedef struct dw_gate dw_gate;

dw_status dw_gate_create(dw_gate **out, dw_error *err) DW_MUST_USE;
void dw_gate_destroy(dw_gate *gate); /* nobody waits there; NULL is a no-op */

void dw_gate_lock(dw_gate *gate);
void dw_gate_unlock(dw_gate *gate);
bool dw_gate_held(const dw_gate *gate); /* by this thread; for assertions */
/* Lock held: those who wait look again whether they may pass. */
void dw_gate_wake(dw_gate *gate);
/* Lock held, and released while the thread sleeps. Returns, with the lock held, when pass(context) is true (DW_OK), or
 * when park's turn has to end (DW_E_CANCELLED, DW_E_DEADLINE). `pass` is called under the lock and may change what the
 * gate guards. Those who wait come to their turn in the order in which they came, those who give up left aside. park
 * NULL: a thread that runs no turn; it waits for as long as it takes. */
dw_status dw_gate_wait(dw_gate *gate, dw_park *park, bool (*pass)(void *context), void *context) DW_MUST_USE;

#endif

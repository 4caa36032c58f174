/* ticker.h: the clock of interruption. A thread that increments the engine's epoch every tick, but only while guests
 * run, so that an idle process does not wake up.
 * Threads: begin and end from any thread; create and destroy from one. */
#ifndef DW_WASM_TICKER_H
#define DW_WASM_TICKER_H

#include <stdint.h>
#include "base/base.h"

typedef struct dw_ticker dw_ticker;

/* Calls `tick(context)` on its own thread every `tick_ms` milliseconds while there is a call between begin and end. */
dw_status dw_ticker_create(uint32_t tick_ms, void (*tick)(void *context), void *context, dw_ticker **out,
                           dw_error *err) DW_MUST_USE;
void dw_ticker_destroy(dw_ticker *ticker); /* no call may be between begin and end */
/* Both cost nanoseconds, except a begin after an idle time, which wakes the thread. */
void dw_ticker_begin(dw_ticker *ticker);
void dw_ticker_end(dw_ticker *ticker);

#endif

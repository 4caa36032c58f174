/* ticker.c: see ticker.h. */
#include "wasm/ticker.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "os/os.h"

enum { TICKER_STACK_BYTES = 256 << 10 };

struct dw_ticker {
    dw_os_thread *thread;
    dw_os_mutex *mutex;
    dw_os_condition *condition;
    void (*tick)(void *context);
    void *context;
    uint64_t period_ns;
    atomic_uint running;  /* calls between begin and end */
    atomic_bool asleep;   /* the thread waits for the first of them; written under the mutex */
    bool stop;            /* under the mutex */
};

/* Sleeps until there is something to do. The order "asleep, then look at running" here and "running, then look at
 * asleep" in begin (both sequentially consistent) is what makes a lost wake-up impossible. */
static void wait_for_work(dw_ticker *ticker) {
    atomic_store(&ticker->asleep, true);
    while (!ticker->stop && atomic_load(&ticker->running) == 0) dw_os_condition_wait(ticker->condition, ticker->mutex);
    atomic_store(&ticker->asleep, false);
}

static void run(void *argument) {
    dw_ticker *ticker = argument;
    dw_os_mutex_lock(ticker->mutex);
    while (!ticker->stop) {
        wait_for_work(ticker);
        uint64_t next = dw_os_monotonic_ns() + ticker->period_ns;
        while (!ticker->stop && dw_os_condition_wait_until(ticker->condition, ticker->mutex, next)) {}
        if (!ticker->stop) ticker->tick(ticker->context);
    }
    dw_os_mutex_unlock(ticker->mutex);
}

dw_status dw_ticker_create(uint32_t tick_ms, void (*tick)(void *context), void *context, dw_ticker **out,
                           dw_error *err) {
    *out = NULL;
    dw_ticker *ticker = calloc(1, sizeof *ticker);
    if (!ticker) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the interruption clock");
    ticker->tick = tick;
    ticker->context = context;
    ticker->period_ns = (uint64_t)tick_ms * 1000000u;
    atomic_init(&ticker->running, 0);
    atomic_init(&ticker->asleep, false);
    dw_status status = dw_os_mutex_create(&ticker->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&ticker->condition, err);
    if (status == DW_OK)
        status = dw_os_thread_create("dw-ticker", TICKER_STACK_BYTES, run, ticker, &ticker->thread, err);
    if (status == DW_OK) *out = ticker;
    else dw_ticker_destroy(ticker);
    return status;
}

void dw_ticker_destroy(dw_ticker *ticker) {
    if (!ticker) return;
    if (ticker->thread) {
        assert(atomic_load(&ticker->running) == 0);
        dw_os_mutex_lock(ticker->mutex);
        ticker->stop = true;
        dw_os_condition_signal(ticker->condition);
        dw_os_mutex_unlock(ticker->mutex);
        dw_os_thread_join(ticker->thread);
    }
    if (ticker->condition) dw_os_condition_destroy(ticker->condition);
    if (ticker->mutex) dw_os_mutex_destroy(ticker->mutex);
    free(ticker);
}

void dw_ticker_begin(dw_ticker *ticker) {
    atomic_fetch_add(&ticker->running, 1);
    if (!atomic_load(&ticker->asleep)) return;
    dw_os_mutex_lock(ticker->mutex);
    dw_os_condition_signal(ticker->condition);
    dw_os_mutex_unlock(ticker->mutex);
}

void dw_ticker_end(dw_ticker *ticker) {
    unsigned before = atomic_fetch_sub(&ticker->running, 1);
    assert(before > 0);
    (void)before;
}

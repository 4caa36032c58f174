/* ticker_test.c: the clock of interruption runs while guests run, and only then. No test here fails because a machine is slow. */
#include "wasm/fixture.h"

#include <stdatomic.h>

#include "wasm/ticker.h"

static atomic_uint ticks;

static void tick(void *context) { atomic_fetch_add((atomic_uint *)context, 1); }

static dw_ticker *create(void) {
    dw_ticker *ticker = NULL;
    atomic_store(&ticks, 0);
    assert_ok(dw_ticker_create(1, tick, &ticks, &ticker, err));
    return ticker;
}

static void wait_ms(uint64_t ms) {
    uint64_t until = dw_os_monotonic_ns() + ms * 1000000;
    while (dw_os_monotonic_ns() < until) {}
}

static void it_ticks_from_begin_to_end_and_again(void **state) {
    (void)state;
    dw_ticker *ticker = create();
    for (unsigned round = 0; round < 20; round++) {
        unsigned before = atomic_load(&ticks);
        dw_ticker_begin(ticker);
        dw_ticker_begin(ticker);
        dw_ticker_end(ticker); /* one of two calls is still running */
        while (atomic_load(&ticks) < before + 3) {} /* a lost wake-up hangs here */
        dw_ticker_end(ticker);
        if (round % 2) wait_ms(3); /* asleep in some rounds, awake in others */
    }
    dw_ticker_destroy(ticker);
}

static void it_is_silent_while_nothing_runs(void **state) {
    (void)state;
    dw_ticker *ticker = create();
    wait_ms(20);
    assert_int_equal(atomic_load(&ticks), 0);
    dw_ticker_begin(ticker);
    while (atomic_load(&ticks) < 2) {}
    dw_ticker_end(ticker);
    unsigned at_end = atomic_load(&ticks);
    wait_ms(30);
    assert_in_range(atomic_load(&ticks), at_end, at_end + 2); /* one may be under way, one may follow it */
    dw_ticker_destroy(ticker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_ticks_from_begin_to_end_and_again),
        cmocka_unit_test(it_is_silent_while_nothing_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

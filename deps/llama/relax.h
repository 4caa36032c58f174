/* Force-included into ggml-cpu's C files on x86: how a thread waits for the others.
 *
 * ggml's threads meet at a barrier behind every operation, hundreds of times per token, and a waiting thread spins on `_mm_pause` without
 * end. That is right while every thread has a core. Where other programs want the cores too, the one that all wait for is not running,
 * and those that wait keep the cores from it and from everybody else: for as long as the scheduler lets them. So a wait that lasts
 * longer than a barrier of threads that all run gives its core up, and goes on.
 *
 * A wait is a row of pauses with little between them: a longer gap means that the thread has worked, or that it was not running.
 * Times are in ticks of the time-stamp counter, 2 to 4 a nanosecond: a pause is 10 to 140 cycles, so counting pauses would say little.
 * Only timing changes, no result. */
#ifndef DW_DEPS_LLAMA_RELAX_H
#define DW_DEPS_LLAMA_RELAX_H

#include <immintrin.h>
#include <sched.h>
#include <x86intrin.h>

enum { DW_RELAX_GAP_TICKS = 4000, DW_RELAX_SPIN_TICKS = 50000 };

static inline void dw_relax(void) {
    static __thread unsigned long long wait_began, last;
    _mm_pause();
    unsigned long long now = __rdtsc();
    if (now - last > DW_RELAX_GAP_TICKS) {
        wait_began = now;
    } else if (now - wait_began > DW_RELAX_SPIN_TICKS) {
        sched_yield();
        wait_began = now = __rdtsc();
    }
    last = now;
}

#define _mm_pause() dw_relax()

#endif

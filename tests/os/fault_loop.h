/* fault_loop.h: makes the 1st, 2nd, 3rd ... system call of an operation fail until the operation no longer gets that far.
 *
 *     FAULT_LOOP(loop, DW_FAULT_ANY, ENOSPC) {
 *         set up;
 *         fault_loop_arm(&loop);
 *         status = operation(...);
 *         fault_loop_disarm(&loop);
 *         check: loop.hit says whether the fault was delivered;
 *     }
 *
 * Every call is failed once ("the k-th"), and in a second sweep from then on. */
#ifndef DW_TESTS_OS_FAULT_LOOP_H
#define DW_TESTS_OS_FAULT_LOOP_H

#include <errno.h>

#include "base/test.h"
#include "os/os_fault.h"

typedef struct fault_loop {
    dw_fault_plan plan;
    bool hit;
    bool done;
} fault_loop;

static inline void fault_loop_arm(fault_loop *loop) { dw_fault_arm(loop->plan); }
static inline void fault_loop_disarm(fault_loop *loop) { (void)dw_fault_disarm(&loop->hit); }

static inline void fault_loop_next(fault_loop *loop) {
    if (loop->hit) {
        loop->plan.k++;
        assert_true(loop->plan.k < 100000); /* the operation makes no end of system calls */
    } else if (!loop->plan.from_then_on) {
        assert_true(loop->plan.k > 1); /* else the operation made no system call at all: nothing was tested */
        loop->plan.from_then_on = true;
        loop->plan.k = 1;
    } else {
        loop->done = true;
    }
}

#define FAULT_LOOP(loop, fault_kind, number)                                                                \
    for (fault_loop loop = {.plan = {.kind = (fault_kind), .k = 1, .system_errno = (number)}}; !loop.done; fault_loop_next(&loop))

#endif

/* os_fault.c: the seam that makes chosen system calls fail in test builds. */
#include "os/os_fault.h"

#ifdef DW_FAULTS

#include <errno.h>
#include <stdatomic.h>

/* Each field is atomic because calls of other threads may look at the plan while a test changes it. */
static struct {
    atomic_bool armed;
    atomic_int kind;
    atomic_uint_least64_t k;
    atomic_bool from_then_on;
    atomic_int system_errno;
    atomic_uint_least64_t torn_bytes;
    atomic_bool short_transfers;
    atomic_uint_least64_t calls;
    atomic_bool hit;
} seam;

void dw_fault_arm(dw_fault_plan plan) {
    atomic_store(&seam.armed, false);
    atomic_store(&seam.kind, (int)plan.kind);
    atomic_store(&seam.k, plan.k);
    atomic_store(&seam.from_then_on, plan.from_then_on);
    atomic_store(&seam.system_errno, plan.system_errno ? plan.system_errno : EIO);
    atomic_store(&seam.torn_bytes, plan.torn_bytes);
    atomic_store(&seam.short_transfers, plan.short_writes);
    atomic_store(&seam.calls, 0);
    atomic_store(&seam.hit, false);
    atomic_store(&seam.armed, true);
}

uint64_t dw_fault_disarm(bool *hit) {
    atomic_store(&seam.armed, false);
    if (hit) *hit = atomic_load(&seam.hit);
    return atomic_load(&seam.calls);
}

int dw_fault_errno(dw_fault_kind kind) {
    if (!atomic_load(&seam.armed)) return 0;
    int wanted = atomic_load(&seam.kind);
    if (wanted != DW_FAULT_ANY && wanted != (int)kind) return 0;
    uint64_t call = atomic_fetch_add(&seam.calls, 1) + 1;
    uint64_t k = atomic_load(&seam.k);
    bool fails = call == k || (call > k && k != 0 && atomic_load(&seam.from_then_on));
    if (!fails) return 0;
    atomic_store(&seam.hit, true);
    return atomic_load(&seam.system_errno);
}

uint64_t dw_fault_transfer(uint64_t size) {
    if (!atomic_load(&seam.armed)) return size;
    /* The call that is about to be counted is the one before the k-th: the transfer goes on with the k-th. */
    uint64_t torn = atomic_load(&seam.torn_bytes);
    if (torn != 0 && size > torn && atomic_load(&seam.calls) + 2 == atomic_load(&seam.k)) return torn;
    return size > 1 && atomic_load(&seam.short_transfers) ? size - 1 : size;
}

#endif

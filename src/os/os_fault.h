/* os_fault.h: faults for tests. Include only from src/os and tests.
 *
 * Every fallible call of os.h asks the seam once per system call. Tests arm it ("the 7th call from now fails with
 * ENOSPC, once"), run the operation, and look whether anything was lost, leaked or accepted. A fault loop raises k
 * until the operation succeeds without the fault being reached.
 * Compiled only with DW_FAULTS; otherwise DW_FAULT_ERRNO is the constant 0.
 * Threads: the counter is atomic and process-wide.
 */
#ifndef DW_OS_OS_FAULT_H
#define DW_OS_OS_FAULT_H

#include <stdbool.h>
#include <stdint.h>

typedef enum dw_fault_kind {
    DW_FAULT_ANY = 0,
    DW_FAULT_OPEN,
    DW_FAULT_READ,
    DW_FAULT_WRITE,
    DW_FAULT_RESIZE,
    DW_FAULT_SYNC,
    DW_FAULT_STAT,
    DW_FAULT_NAME,
    DW_FAULT_MAP,
    DW_FAULT_PROTECT,
    DW_FAULT_DIRTY,
    DW_FAULT_RANDOM,
    DW_FAULT_THREAD,
    DW_FAULT_PROCESS
} dw_fault_kind;

typedef struct dw_fault_plan {
    dw_fault_kind kind;     /* which calls are counted; DW_FAULT_ANY = all */
    uint64_t k;             /* the k-th counted call from arming fails, 1 = the next one */
    bool from_then_on;      /* and all later ones too */
    int system_errno;       /* what the call seems to have failed with */
    /* Not 0: the counted call before the k-th moves at most so many bytes. So a write that goes on with the k-th call
     * is torn there. */
    uint64_t torn_bytes;
    /* Reads and writes move at most one byte less than asked (never zero) before they are continued. */
    bool short_writes;
} dw_fault_plan;

#ifdef DW_FAULTS
void dw_fault_arm(dw_fault_plan plan);
/* Disarms; returns how many counted calls happened since arming, and in *hit whether the fault was delivered. */
uint64_t dw_fault_disarm(bool *hit);
/* For src/os: the errno to fail with now, or 0. */
int dw_fault_errno(dw_fault_kind kind);
/* For src/os: the length to transfer instead of `size`. */
uint64_t dw_fault_transfer(uint64_t size);
#define DW_FAULT_ERRNO(kind) dw_fault_errno(kind)
#define DW_FAULT_TRANSFER(size) dw_fault_transfer(size)
#else
#define DW_FAULT_ERRNO(kind) 0
#define DW_FAULT_TRANSFER(size) (size)
#endif

#endif

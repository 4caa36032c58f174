/* vec.c: see vec.h. */
#include "base/vec.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/checked.h"

/* What an array starts with, in bytes: a list of a few items is allocated once. */
enum { VEC_BYTES_MIN = 128 };

#ifdef DW_FAULTS
static _Atomic uint64_t vec_fault_in; /* growths until one fails; 0: none will */

void dw_vec_fault_arm(uint64_t k) { atomic_store(&vec_fault_in, k); }
bool dw_vec_fault_disarm(void) { return atomic_exchange(&vec_fault_in, 0) == 0; }

static bool vec_growth_faulted(void) {
    uint64_t left = atomic_load(&vec_fault_in);
    while (left > 0 && !atomic_compare_exchange_weak(&vec_fault_in, &left, left - 1)) {
    }
    return left == 1;
}
#else
static bool vec_growth_faulted(void) { return false; }
#endif

dw_status dw_vec_reserve(dw_vec *vec, size_t item_bytes, size_t extra, size_t most) {
    uint64_t needed, bytes;
    assert(vec->count <= vec->capacity && item_bytes > 0);
    if (!dw_add_u64(vec->count, extra, &needed) || needed > most) return DW_E_LIMIT;
    if (needed <= vec->capacity) return DW_OK;
    uint64_t doubled = dw_max_u64(vec->capacity <= most / 2 ? 2 * (uint64_t)vec->capacity : most,
                                  VEC_BYTES_MIN / item_bytes);
    uint64_t capacity = dw_max_u64(needed, dw_min_u64(doubled, most));
    if (!dw_mul_u64(capacity, item_bytes, &bytes) || bytes > PTRDIFF_MAX) return DW_E_NO_MEMORY;
    void *memory = vec_growth_faulted() ? NULL : realloc(vec->memory, (size_t)bytes);
    if (memory == NULL) return DW_E_NO_MEMORY;
    vec->memory = memory;
    vec->capacity = (size_t)capacity;
    return DW_OK;
}

void dw_vec_deinit(dw_vec *vec) {
    free(vec->memory);
    *vec = (dw_vec){0};
}

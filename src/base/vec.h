/* vec.h: an array that grows. DW_VEC(type) is its type, wherever it stands:
 *
 *     DW_VEC(int32_t) tokens;                                             zero bytes are an empty one
 *     dw_status status = DW_VEC_RESERVE(&tokens, 1, DW_TURN_TOKENS_MAX);
 *     if (status == DW_OK) tokens.items[tokens.count++] = token;
 *     DW_VEC_DEINIT(&tokens);
 *
 * Rules
 * 1. items [capacity], the first `count` of them in use. The owner alone changes `count`.
 * 2. A reservation that fails changes nothing. One that succeeds may move the items: no pointer into them outlives it.
 * 3. Capacity doubles, up to the limit, so that n additions one by one copy O(n) items.
 * 4. Every reservation names a limit. Where nothing closer bounds a list, that is DW_VEC_ITEMS_MAX.
 * Threads: an array belongs to one at a time.
 */
#ifndef DW_BASE_VEC_H
#define DW_BASE_VEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/limits.h"
#include "base/status.h"

typedef struct dw_vec {
    void *memory;
    size_t count, capacity;
} dw_vec;

/* The typed fields are those of dw_vec, so that one function grows all arrays. */
#define DW_VEC(type)                      \
    union {                               \
        dw_vec vec;                       \
        struct {                          \
            type *items;                  \
            size_t count, capacity;       \
        };                                \
    }

/* Room for `extra` items behind those in use. DW_E_LIMIT: they would be more than `most`. DW_E_NO_MEMORY. */
dw_status dw_vec_reserve(dw_vec *vec, size_t item_bytes, size_t extra, size_t most) DW_MUST_USE;
#define DW_VEC_RESERVE(array, extra, most) dw_vec_reserve(&(array)->vec, sizeof *(array)->items, (extra), (most))

/* Frees the items; the array is an empty one afterwards. */
void dw_vec_deinit(dw_vec *vec);
#define DW_VEC_DEINIT(array) dw_vec_deinit(&(array)->vec)

#ifdef DW_FAULTS
/* For tests: the k-th growth from now on finds no memory, once; 0 disarms. Process-wide, any thread. */
void dw_vec_fault_arm(uint64_t k);
/* Disarms, and tells whether the fault was met. */
bool dw_vec_fault_disarm(void);
#endif

#endif

/* checked.h: arithmetic on sizes that come from outside. Each returns true when the result fits, and then stores it. */
#ifndef DW_BASE_CHECKED_H
#define DW_BASE_CHECKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline bool dw_add_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }
static inline bool dw_mul_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool dw_sub_u64(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_sub_overflow(a, b, out); }

/* True when [offset, offset+length) lies inside [0, size). Overflow-free for any input. */
static inline bool dw_in_range(uint64_t offset, uint64_t length, uint64_t size) {
    return offset <= size && length <= size - offset;
}

/* Rounds up to a multiple of `unit`, a power of two. */
static inline bool dw_round_up_u64(uint64_t value, uint64_t unit, uint64_t *out) {
    uint64_t sum;
    if (!dw_add_u64(value, unit - 1, &sum)) return false;
    *out = sum & ~(unit - 1);
    return true;
}

static inline uint64_t dw_round_down_u64(uint64_t value, uint64_t unit) { return value & ~(unit - 1); }
static inline uint64_t dw_min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t dw_max_u64(uint64_t a, uint64_t b) { return a > b ? a : b; }

#endif

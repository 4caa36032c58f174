/* ranges.h: a set of addresses as sorted, disjoint, non-touching runs. Private to src/region.
 *
 * Rule: after dw_ranges_reserve(set, n), the next n adds or removes cannot fail. That is how the region does everything
 * that may fail before the system call, and nothing that may fail after it. */
#ifndef DW_REGION_RANGES_H
#define DW_REGION_RANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "base/vec.h"

typedef struct dw_range { uint64_t offset, size; } dw_range;

typedef DW_VEC(dw_range) dw_ranges;

void dw_ranges_deinit(dw_ranges *set);
void dw_ranges_clear(dw_ranges *set); /* keeps its memory */
dw_status dw_ranges_reserve(dw_ranges *set, size_t changes) DW_MUST_USE;
dw_status dw_ranges_add(dw_ranges *set, uint64_t offset, uint64_t size) DW_MUST_USE;
dw_status dw_ranges_remove(dw_ranges *set, uint64_t offset, uint64_t size) DW_MUST_USE;
/* Index of the first run that ends behind `offset`, or count. */
size_t dw_ranges_find(const dw_ranges *set, uint64_t offset);

/* The part of [a) that lies in [b); size 0 when none. */
dw_range dw_range_intersect(dw_range a, dw_range b);
static inline uint64_t dw_range_end(dw_range range) { return range.offset + range.size; }

#endif

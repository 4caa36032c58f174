/* scatter.h: the order that bench_state gives to its guest. Shared by guest and host. */
#ifndef DW_BENCH_SCATTER_H
#define DW_BENCH_SCATTER_H

#include <stdint.h>

enum { SCATTER_PAGE_BYTES = 4096, SCATTER_PAGES = 65536 };

/* Writes 8 bytes to each of n pages; which pages, follows from `turn`: no page twice in a turn, neighbours never. */
typedef struct scatter_order { uint32_t n, turn; } scatter_order;

#endif

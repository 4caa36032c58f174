/* scatter.c: a guest that writes to pages all over its memory, as a database's does, and nothing else. */
#include <driftwood/guest.h>

#include "scatter.h"

__attribute__((export_name("driftwood_receive"))) int32_t driftwood_receive(void);

static volatile uint64_t pages[SCATTER_PAGES][SCATTER_PAGE_BYTES / sizeof(uint64_t)] __attribute__((aligned(65536)));

int32_t driftwood_receive(void) {
    scatter_order order = {0};
    dw_completion done;
    dw_request request = {.op = DW_OP_MESSAGE, .ptr0 = (uint32_t)(uintptr_t)&order, .len0 = sizeof order};
    if (dw_enter(&request, 1, &done, 1, 1, -1) != 1 || done.status != DW_OK) return DW_E_INTERNAL;
    for (uint32_t i = 0; i < order.n; i++) {
        /* odd: all pages come before one comes again */
        uint32_t page = (order.turn * order.n + i) * 40503u % SCATTER_PAGES;
        pages[page][page % 512] = ((uint64_t)order.turn << 32) + i + 1;
    }
    return DW_OK;
}

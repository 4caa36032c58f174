/* guest_memory.h: what a dw_guest_memory is, for the files of this module that make one. Its functions are in wasm.h.
 *
 * Rule: guest_memory.c is the only file that turns a guest pointer into a host pointer. A forgotten check elsewhere
 * would be an escape, so there is no elsewhere. */
#ifndef DW_WASM_GUEST_MEMORY_H
#define DW_WASM_GUEST_MEMORY_H

#include <stdint.h>
#include "wasm/wasm.h"

struct dw_guest_memory {
    dw_region *region;   /* its body is the memory: same base, same size */
    uint64_t bytes_max;  /* memory.grow fails beyond */
};

#endif

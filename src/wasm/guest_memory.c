/* guest_memory.c: the only file that turns guest pointers into host pointers. */
#include "wasm/guest_memory.h"

#include <string.h>

uint64_t dw_guest_size(const dw_guest_memory *memory) { return dw_region_size(memory->region); }

dw_region *dw_guest_region(const dw_guest_memory *memory) { return memory->region; }

dw_status dw_guest_view(const dw_guest_memory *memory, uint32_t pointer, uint64_t length, uint32_t align, void **out) {
    *out = NULL;
    if (align == 0 || (align & (align - 1)) != 0) return DW_E_INVALID;
    if (!dw_in_range(pointer, length, dw_guest_size(memory))) return DW_E_RANGE;
    if ((pointer & (align - 1)) != 0) return DW_E_INVALID;
    *out = (uint8_t *)dw_region_base(memory->region) + pointer;
    return DW_OK;
}

/* A length of 0 touches nothing: the byte at the end of the memory need not be mapped. */
dw_status dw_guest_read(const dw_guest_memory *memory, uint32_t pointer, void *out, uint64_t length) {
    void *view;
    dw_status status = dw_guest_view(memory, pointer, length, 1, &view);
    if (status == DW_OK && length > 0) memcpy(out, view, (size_t)length);
    return status;
}

dw_status dw_guest_write(const dw_guest_memory *memory, uint32_t pointer, const void *data, uint64_t length) {
    void *view;
    dw_status status = dw_guest_view(memory, pointer, length, 1, &view);
    if (status == DW_OK && length > 0) memcpy(view, data, (size_t)length);
    return status;
}

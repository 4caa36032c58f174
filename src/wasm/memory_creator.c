/* memory_creator.c: see memory_creator.h. The callbacks' contract is in Wasmtime's config.h and in the documentation of
 * its traits MemoryCreator and LinearMemory. */
#include "wasm/memory_creator.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

/* Wasmtime calls back on the thread that instantiates, during that call, so a thread-local is exact here, and the only
 * way: the callback gets no pointer that belongs to the instance. It is empty at all other times. */
static _Thread_local dw_guest_memory *offered;
static _Thread_local bool heap_was_full;

void dw_memory_creator_offer(dw_guest_memory *memory) { offered = memory; }

bool dw_memory_creator_withdraw(void) {
    bool taken = offered == NULL;
    offered = NULL;
    return taken;
}

bool dw_memory_creator_heap_was_full(void) {
    bool was = heap_was_full;
    heap_was_full = false;
    return was;
}

/* Called often, and from compiled code's point of view while nothing else runs in this instance. */
static uint8_t *get_memory(void *env, size_t *byte_size, size_t *byte_capacity) {
    const dw_guest_memory *memory = env;
    *byte_size = (size_t)dw_region_size(memory->region);
    *byte_capacity = (size_t)dw_region_reserved(memory->region);
    return dw_region_base(memory->region);
}

/* An error makes memory.grow return -1 to the guest. The region refuses by itself while a window is lent (I5). */
static wasmtime_error_t *grow_memory(void *env, size_t new_size) {
    dw_guest_memory *memory = env;
    if (new_size > memory->bytes_max) return wasmtime_error_new("the memory has reached its limit");
    if (dw_region_lent(memory->region) != 0) return wasmtime_error_new("part of the memory is lent to a device");
    if (dw_region_grow(memory->region, new_size, NULL) != DW_OK) return wasmtime_error_new("no memory to grow");
    return NULL;
}

/* --- the heap of exceptions --------------------------------------------------------------------------------------- */

/* An error makes Wasmtime collect what nobody refers to, and where that is not enough the guest's call ends. */
static wasmtime_error_t *grow_heap(void *env, size_t new_size) {
    dw_guest_memory *heap = env;
    if (new_size <= heap->bytes_max && dw_region_grow(heap->region, new_size, NULL) == DW_OK) return NULL;
    heap_was_full = true;
    return wasmtime_error_new("the heap of exceptions has reached its limit");
}

static void end_heap(void *env) {
    dw_guest_memory *heap = env;
    dw_status status = dw_region_destroy(heap->region);
    assert(status == DW_OK); /* nothing of it is ever lent */
    (void)status;
    free(heap);
}

static wasmtime_error_t *new_heap(size_t minimum, size_t reserved, size_t guard, wasmtime_linear_memory_t *out) {
    const dw_region_options options = {.reserve_bytes = reserved, .guard_bytes = guard};
    dw_guest_memory *heap = calloc(1, sizeof *heap);
    if (!heap) return wasmtime_error_new("no memory for a heap of exceptions");
    heap->bytes_max = DW_GUEST_EXCEPTION_BYTES_MAX;
    dw_status status = dw_region_create(&options, &heap->region, NULL);
    if (status == DW_OK && minimum > 0) status = dw_region_grow(heap->region, minimum, NULL);
    if (status != DW_OK) {
        end_heap(heap);
        return wasmtime_error_new("no memory for a heap of exceptions");
    }
    *out = (wasmtime_linear_memory_t){
        .env = heap, .get_memory = get_memory, .grow_memory = grow_heap, .finalizer = end_heap};
    return NULL;
}

/* --- both --------------------------------------------------------------------------------------------------------- */

/* Compiled code leaves out bounds checks because it counts on `reserved` plus `guard` bytes of addresses: a shorter
 * region would let a guest read the host, so the numbers are compared, not assumed. */
static wasmtime_error_t *new_memory(void *env, const wasm_memorytype_t *type, size_t minimum, size_t maximum,
                                    size_t reserved, size_t guard, wasmtime_linear_memory_t *out) {
    (void)env, (void)maximum;
    uint64_t pages_max;
    if (!wasmtime_memorytype_maximum(type, &pages_max)) return new_heap(minimum, reserved, guard, out);
    dw_guest_memory *memory = offered;
    if (!memory) return wasmtime_error_new("a memory that nobody offered");
    if (reserved > dw_region_reserved(memory->region) || guard > DW_GUEST_GUARD_BYTES ||
        minimum > dw_region_size(memory->region))
        return wasmtime_error_new("the offered memory is too small");
    offered = NULL;
    *out = (wasmtime_linear_memory_t){
        .env = memory, .get_memory = get_memory, .grow_memory = grow_memory, .finalizer = NULL};
    return NULL;
}

void dw_memory_creator_install(wasm_config_t *config) {
    wasmtime_memory_creator_t creator = {.env = NULL, .new_memory = new_memory, .finalizer = NULL};
    wasmtime_config_host_memory_creator_set(config, &creator);
}

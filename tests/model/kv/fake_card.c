/* fake_card.c: see fake_card.h. One thread at a time, as the tests are. */
#include "fake_card.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda_driver.h"
#include "os/os.h"
#include "region/region.h"

enum { CHUNKS_MAX = 4096, MAPS_MAX = 16384, RANGES_MAX = 64, FRESH = 0xa5 };

typedef struct fake_map { char *at; uint64_t size, handle; } fake_map;
typedef struct fake_range { char *at; uint64_t size; } fake_range;

static struct card {
    uint64_t granularity;
    dw_backing *chunks[CHUNKS_MAX]; /* handle - 1 */
    uint64_t n_chunks;
    fake_map maps[MAPS_MAX];
    uint64_t n_maps;
    fake_range registered[RANGES_MAX];
    uint64_t n_registered, registrations, reservations, contexts, pushed, pinned, steps_left;
    bool failed;
} card;

static bool fails(void) {
    if (card.steps_left == 0 || --card.steps_left > 0) return false;
    return card.failed = true;
}

static dw_cu_result fake_init(unsigned flags) { return (void)flags, DW_CU_OK; }

static dw_cu_result fake_text(dw_cu_result result, const char **out) {
    *out = result == DW_CU_OUT_OF_MEMORY ? "out of memory" : "made up";
    return DW_CU_OK;
}

static dw_cu_result fake_device(dw_cu_device *out, int ordinal) { return *out = ordinal, DW_CU_OK; }

static dw_cu_result fake_retain(dw_cu_context *out, dw_cu_device device) {
    (void)device;
    *out = (dw_cu_context)(void *)&card;
    card.contexts++;
    return DW_CU_OK;
}

static dw_cu_result fake_release_context(dw_cu_device device) {
    (void)device;
    assert(card.contexts > 0);
    card.contexts--;
    return DW_CU_OK;
}

static dw_cu_result fake_push(dw_cu_context context) {
    assert((void *)context == (void *)&card);
    card.pushed++;
    return DW_CU_OK;
}

static dw_cu_result fake_pop(dw_cu_context *out) {
    assert(card.pushed > 0);
    card.pushed--;
    *out = (dw_cu_context)(void *)&card;
    return DW_CU_OK;
}

/* --- host memory --------------------------------------------------------------------------------------------- */

static dw_cu_result fake_register(void *address, size_t size, unsigned flags) {
    (void)flags;
    char *at = address;
    assert(card.pushed > 0);
    if (fails()) return DW_CU_OUT_OF_MEMORY;
    for (uint64_t i = 0; i < card.n_registered; i++) {
        const fake_range *r = &card.registered[i];
        if (at < r->at + r->size && r->at < at + size) return DW_CU_ALREADY_REGISTERED;
    }
    assert(card.n_registered < RANGES_MAX);
    card.registered[card.n_registered++] = (fake_range){at, size};
    card.registrations++;
    return DW_CU_OK;
}

static dw_cu_result fake_unregister(void *address) {
    uint64_t i = 0;
    while (i < card.n_registered && card.registered[i].at != address) i++;
    assert(i < card.n_registered);
    card.registered[i] = card.registered[--card.n_registered];
    return DW_CU_OK;
}

static dw_cu_result fake_host_make(void **out, size_t size) {
    *out = malloc(size);
    card.pinned++;
    return *out != NULL ? DW_CU_OK : DW_CU_OUT_OF_MEMORY;
}

static dw_cu_result fake_host_free(void *address) {
    free(address);
    card.pinned--;
    return DW_CU_OK;
}

static dw_cu_result fake_host_address(dw_cu_address *out, void *address, unsigned flags) {
    (void)flags;
    *out = (dw_cu_address)(uintptr_t)address;
    return DW_CU_OK;
}

/* --- chunks and maps ----------------------------------------------------------------------------------------- */

static dw_cu_result fake_granularity(size_t *out, const dw_cu_allocation *what, int option) {
    (void)what, (void)option;
    *out = card.granularity;
    return DW_CU_OK;
}

static dw_cu_result fake_reserve(dw_cu_address *out, size_t size, size_t alignment, dw_cu_address near_,
                                 uint64_t flags) {
    (void)alignment, (void)near_, (void)flags;
    void *address = NULL;
    if (fails() || dw_os_map_reserve(size, &address, NULL) != DW_OK) return DW_CU_OUT_OF_MEMORY;
    *out = (dw_cu_address)(uintptr_t)address;
    card.reservations++;
    return DW_CU_OK;
}

static dw_cu_result fake_unreserve(dw_cu_address address, size_t size) {
    card.reservations--;
    dw_os_unmap((void *)(uintptr_t)address, size);
    return DW_CU_OK;
}

static dw_cu_result fake_create(dw_cu_handle *out, size_t size, const dw_cu_allocation *what, uint64_t flags) {
    (void)what, (void)flags;
    uint64_t i = 0;
    if (fails()) return DW_CU_OUT_OF_MEMORY;
    assert(size % card.granularity == 0);
    while (i < CHUNKS_MAX && card.chunks[i] != NULL) i++;
    uint8_t *fresh = malloc(size);
    assert(i < CHUNKS_MAX && fresh != NULL);
    memset(fresh, FRESH, size);
    dw_status status = dw_backing_create_memory("card", size, &card.chunks[i], NULL);
    if (status == DW_OK) status = dw_os_write_at(dw_backing_file(card.chunks[i]), 0, fresh, size, NULL);
    assert(status == DW_OK);
    free(fresh);
    card.n_chunks++;
    *out = i + 1;
    return DW_CU_OK;
}

static dw_cu_result fake_release(dw_cu_handle handle) {
    for (uint64_t i = 0; i < card.n_maps; i++) assert(card.maps[i].handle != handle);
    dw_backing_release(card.chunks[handle - 1]);
    card.chunks[handle - 1] = NULL;
    card.n_chunks--;
    return DW_CU_OK;
}

static dw_cu_result fake_map_chunk(dw_cu_address address, size_t size, size_t offset, dw_cu_handle handle,
                                   uint64_t flags) {
    (void)flags;
    char *at = (char *)(uintptr_t)address;
    assert(card.pushed > 0 && offset == 0 && card.chunks[handle - 1] != NULL);
    assert(size == dw_backing_size(card.chunks[handle - 1]));
    for (uint64_t i = 0; i < card.n_maps; i++) {
        assert(at + size <= card.maps[i].at || card.maps[i].at + card.maps[i].size <= at);
    }
    if (fails()) return DW_CU_OUT_OF_MEMORY;
    assert(card.n_maps < MAPS_MAX);
    card.maps[card.n_maps++] = (fake_map){at, size, handle};
    return DW_CU_OK; /* nobody can reach it yet */
}

static fake_map *fake_map_at(dw_cu_address address, size_t size) {
    uint64_t i = 0;
    while (i < card.n_maps && card.maps[i].at != (char *)(uintptr_t)address) i++;
    assert(i < card.n_maps && card.maps[i].size == size);
    return &card.maps[i];
}

static dw_cu_result fake_unmap_chunk(dw_cu_address address, size_t size) {
    *fake_map_at(address, size) = card.maps[card.n_maps - 1];
    card.n_maps--;
    dw_status status = dw_os_map_decommit((void *)(uintptr_t)address, size, NULL);
    assert(status == DW_OK);
    (void)status;
    return DW_CU_OK;
}

static dw_cu_result fake_access(dw_cu_address address, size_t size, const dw_cu_access *access, size_t count) {
    const fake_map *map = fake_map_at(address, size);
    assert(count == 1 && access->flags == DW_CU_ACCESS_READ_WRITE);
    (void)access, (void)count;
    if (fails()) return DW_CU_OUT_OF_MEMORY;
    dw_status status = dw_os_map_file(map->at, size, dw_backing_file(card.chunks[map->handle - 1]), 0, DW_OS_RW, true,
                                      NULL, NULL);
    assert(status == DW_OK);
    (void)status;
    return DW_CU_OK;
}

/* --- copies -------------------------------------------------------------------------------------------------- */

static void *of(dw_cu_address address) { return (void *)(uintptr_t)address; }

static dw_cu_result fake_copy_in(dw_cu_address to, const void *from, size_t size) {
    memcpy(of(to), from, size);
    return DW_CU_OK;
}

static dw_cu_result fake_copy_out(void *to, dw_cu_address from, size_t size) {
    memcpy(to, of(from), size);
    return DW_CU_OK;
}

static dw_cu_result fake_copy_across(dw_cu_address to, dw_cu_address from, size_t size) {
    memcpy(of(to), of(from), size);
    return DW_CU_OK;
}

static dw_cu_result fake_copy_2d(const dw_cu_copy_2d *copy) {
    bool in = copy->from_type == DW_CU_MEMORY_HOST;
    assert(in ? copy->to_type == DW_CU_MEMORY_DEVICE : copy->from_type == DW_CU_MEMORY_DEVICE);
    const char *from = in ? copy->from_host : of(copy->from_device);
    char *to = in ? of(copy->to_device) : copy->to_host;
    for (size_t i = 0; i < copy->height; i++) memcpy(to + i * copy->to_pitch, from + i * copy->from_pitch, copy->width);
    return DW_CU_OK;
}

static dw_cu_result fake_fill(dw_cu_address to, unsigned char value, size_t size) {
    memset(of(to), value, size);
    return DW_CU_OK;
}

static dw_cu_result fake_wait(void *stream) { return (void)stream, DW_CU_OK; }

/* --- for tests ----------------------------------------------------------------------------------------------- */

static const dw_cuda_driver fake_driver = {
    .init = fake_init, .error_text = fake_text, .device_get = fake_device, .primary_retain = fake_retain,
    .primary_release = fake_release_context, .push = fake_push, .pop = fake_pop, .host_register = fake_register,
    .host_unregister = fake_unregister, .host_make = fake_host_make,
    .host_free = fake_host_free, .host_address = fake_host_address, .granularity = fake_granularity,
    .reserve = fake_reserve, .unreserve = fake_unreserve, .create = fake_create, .release = fake_release,
    .map = fake_map_chunk, .unmap = fake_unmap_chunk, .set_access = fake_access, .copy_in = fake_copy_in,
    .copy_out = fake_copy_out, .copy_across = fake_copy_across, .copy_2d = fake_copy_2d, .fill = fake_fill,
    .stream_wait = fake_wait,
};

void fake_card_insert(uint64_t granularity) {
    card.granularity = granularity;
    dw_cuda_driver_replace(&fake_driver);
}

uint64_t fake_card_chunks(void) { return card.n_chunks; }
uint64_t fake_card_maps(void) { return card.n_maps; }
uint64_t fake_card_left(void) {
    return card.n_chunks + card.n_maps + card.n_registered + card.reservations + card.contexts + card.pushed +
           card.pinned;
}

void fake_card_fail(uint64_t k) {
    card.steps_left = k;
    card.failed = false;
}

bool fake_card_failed(void) { return card.failed; }
uint64_t fake_card_registered(void) { return card.n_registered; }
uint64_t fake_card_registrations(void) { return card.registrations; }

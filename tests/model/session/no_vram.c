/* no_vram.c: a card's memory (device/vram.h) where there is none, for tests that build rooms without the device module. */
#include "device/vram.h"

static dw_status none(dw_error *err) { return dw_fail(err, DW_E_UNSUPPORTED, "no card here"); }

uint64_t dw_vram_unit_bytes(dw_device *device) { return (void)device, 0; }

dw_status dw_vram_create(dw_device *device, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out, dw_error *err) {
    (void)device, (void)bytes, (void)chunk_bytes, (void)out;
    return none(err);
}

dw_status dw_vram_create_bare(int ordinal, uint64_t bytes, uint64_t chunk_bytes, dw_vram **out, dw_error *err) {
    (void)ordinal, (void)bytes, (void)chunk_bytes, (void)out;
    return none(err);
}

void dw_vram_destroy(dw_vram *vram) { (void)vram; }
dw_status dw_vram_chunk_make(dw_vram *vram, dw_vram_chunk **out, dw_error *err) { return (void)vram, (void)out, none(err); }
dw_vram_chunk *dw_vram_chunk_retain(dw_vram_chunk *chunk) { return chunk; }
void dw_vram_chunk_release(dw_vram *vram, dw_vram_chunk *chunk) { (void)vram, (void)chunk; }

dw_status dw_vram_map(dw_vram *vram, uint64_t offset, const dw_vram_chunk *chunk, dw_error *err) {
    return (void)vram, (void)offset, (void)chunk, none(err);
}

dw_status dw_vram_unmap(dw_vram *vram, uint64_t offset, dw_error *err) { return (void)vram, (void)offset, none(err); }

dw_status dw_vram_write(dw_vram *vram, const dw_vram_rows *rows, const void *from, dw_error *err) {
    return (void)vram, (void)rows, (void)from, none(err);
}

dw_status dw_vram_read(dw_vram *vram, const dw_vram_rows *rows, void *to, dw_error *err) {
    return (void)vram, (void)rows, (void)to, none(err);
}

dw_status dw_vram_write_into(dw_vram *vram, const dw_vram_chunk *chunk, const dw_vram_rows *rows, const void *from,
                             dw_error *err) {
    return (void)vram, (void)chunk, (void)rows, (void)from, none(err);
}

dw_status dw_vram_copy_into(dw_vram *vram, const dw_vram_chunk *chunk, uint64_t at, uint64_t offset, uint64_t size,
                            dw_error *err) {
    return (void)vram, (void)chunk, (void)at, (void)offset, (void)size, none(err);
}

dw_status dw_vram_buffer(dw_vram *vram, uint64_t offset, uint64_t size, dw_buffer **out, dw_error *err) {
    return (void)vram, (void)offset, (void)size, (void)out, none(err);
}

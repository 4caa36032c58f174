/* kept.c: wraps of a region's windows that outlive one operation (device.h).
 *
 * To register 64 MiB takes 3 to 37 ms, and a guest computes on the same tensors again and again. So a wrap stays as a
 * pin of its region, which has it dropped before it changes what is mapped there.
 */
#include <stdlib.h>

#include "device/device_internal.h"

typedef struct kept_wrap {
    dw_region_pin pin; /* first: the region gives us its address */
    dw_device *device;
    dw_buffer *buffer;
} kept_wrap;

static void kept_drop(dw_region_pin *pin) {
    kept_wrap *kept = (kept_wrap *)(void *)pin;
    dw_buffer_destroy(kept->buffer);
    dw_device_close(kept->device);
    free(kept);
}

static kept_wrap *kept_of(dw_region_pin *pin) { return pin->drop == kept_drop ? (kept_wrap *)(void *)pin : NULL; }

static bool kept_covers(const dw_region_pin *pin, uint64_t offset, uint64_t end) {
    return pin->offset <= offset && end <= pin->offset + pin->size;
}

static kept_wrap *kept_find(const dw_device *device, const dw_region *region, uint64_t offset, uint64_t end) {
    for (dw_region_pin *pin = dw_region_pins(region); pin != NULL; pin = pin->next) {
        kept_wrap *kept = kept_of(pin);
        if (kept != NULL && kept->device == device && kept_covers(pin, offset, end)) return kept;
    }
    return NULL;
}

/* A driver takes no page twice, not for another device either: what overlaps ends, and its pages are taken in. */
static void kept_take_in(dw_region *region, uint64_t *offset, uint64_t *end) {
    for (dw_region_pin *pin = dw_region_pins(region), *next; pin != NULL; pin = next) {
        next = pin->next;
        uint64_t pin_end = pin->offset + pin->size;
        if (kept_of(pin) == NULL || pin->offset >= *end || pin_end <= *offset) continue;
        *offset = dw_min_u64(*offset, pin->offset);
        *end = dw_max_u64(*end, pin_end);
        dw_region_pin_remove(region, pin);
        kept_drop(pin);
        next = dw_region_pins(region); /* the range grew: what was passed over may overlap it now */
    }
}

static dw_status kept_make(dw_device *device, dw_region *region, uint64_t offset, uint64_t end, kept_wrap **out,
                           dw_error *err) {
    kept_wrap *kept = calloc(1, sizeof *kept);
    if (kept == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a wrap");
    kept->pin = (dw_region_pin){.offset = offset, .size = end - offset, .drop = kept_drop};
    kept->device = device;
    dw_status status = dw_device_wrap(device, (char *)dw_region_base(region) + offset, end - offset, true,
                                      &kept->buffer, err);
    if (status == DW_OK) status = dw_region_pin_add(region, &kept->pin, err);
    if (status == DW_OK) {
        dw_device_hold(device);
        *out = kept;
    } else {
        dw_buffer_destroy(kept->buffer);
        free(kept);
    }
    return status;
}

dw_status dw_device_wrap_window(dw_device *device, dw_region *region, uint64_t offset, uint64_t size, dw_buffer **out,
                                uint64_t *place, dw_error *err) {
    *out = NULL;
    if (size == 0 || !dw_in_range(offset, size, dw_region_size(region))) {
        return dw_fail(err, DW_E_RANGE, "a window outside its region");
    }
    kept_wrap *kept = kept_find(device, region, offset, offset + size);
    if (kept == NULL) {
        uint64_t begin = offset, end = offset + size;
        kept_take_in(region, &begin, &end);
        dw_status status = kept_make(device, region, begin, end, &kept, err);
        if (status != DW_OK) return status;
    }
    *out = kept->buffer;
    *place = offset - kept->pin.offset;
    return DW_OK;
}

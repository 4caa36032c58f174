/* prove_links.c: that host memory, the device's buffer and the guest's memory are the same pages, and what sharing them
 * costs. */
#include <string.h>

#include "cli/prove.h"
#include "device/compute.h"
#include "os/os.h"

/* --- a device at work in a window ------------------------------------------------------------------------------ */

/* out = a + b of TERMS floats each: a near the window's beginning, out in its middle, b at its end, so that a wrap that
 * reaches only a part of it, or a copy of it, shows. */
enum { TERMS = 4096, BLOCK_BYTES = 65536 };

typedef struct layout { uint64_t a, b, out; } layout;

static layout layout_of(uint64_t bytes) {
    return (layout){.a = BLOCK_BYTES, .out = dw_round_down_u64(bytes / 2, BLOCK_BYTES), .b = bytes - BLOCK_BYTES};
}

static dw_status add_in_window(dw_device *device, void *window, uint64_t bytes, bool *in_place, dw_error *err) {
    layout at = layout_of(bytes);
    const dw_compute_tensor tensors[3] = {{at.a, DW_COMPUTE_F32, TERMS, 1},
                                          {at.b, DW_COMPUTE_F32, TERMS, 1},
                                          {at.out, DW_COMPUTE_F32, TERMS, 1}};
    const dw_compute_node node = {DW_COMPUTE_ADD, 0, 1, 2};
    dw_compute_request request = {
        .window = window, .window_bytes = bytes, .tensors = tensors, .n_tensors = 3, .nodes = &node, .n_nodes = 1};
    dw_compute_report report;
    dw_status status = dw_compute_run(device, &request, &report, err);
    *in_place = status == DW_OK && report.copied_bytes == 0 && report.wrapped_bytes == bytes;
    return status;
}

static uint32_t bits_of(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* --- host and device ------------------------------------------------------------------------------------------- */

static dw_status same_address(dw_device *device, void *address, uint64_t bytes, bool *out, dw_error *err) {
    dw_buffer *buffer = NULL;
    dw_status status = dw_device_wrap(device, address, bytes, true, &buffer, err);
    *out = status == DW_OK && dw_buffer_base(buffer) == address;
    dw_buffer_destroy(buffer);
    return status;
}

dw_status dw_prove_host_device(dw_device *device, dw_link_result *out, dw_error *err) {
    const uint64_t bytes = UINT64_C(1) << 20;
    const dw_device_info *info = dw_device_info_view(device);
    dw_region *region = NULL;
    dw_window window = {0};
    bool in_place = false;
    *out = (dw_link_result){0};
    dw_region_options options = {.reserve_bytes = bytes, .guard_bytes = dw_os_page_bytes()};
    dw_status status = dw_region_create(&options, &region, err);
    if (status == DW_OK) status = dw_region_grow(region, bytes, err);
    if (status == DW_OK) status = dw_region_lend(region, 0, bytes, &window, err);
    if (status != DW_OK) goto out;

    char *base = dw_region_base(region);
    layout at = layout_of(bytes);
    float *a = (float *)(void *)(base + at.a), *b = (float *)(void *)(base + at.b),
          *sum = (float *)(void *)(base + at.out);
    for (int i = 0; i < TERMS; i++) {
        a[i] = (float)i;
        b[i] = 0.5f;
    }
    status = same_address(device, base, bytes, &out->same_address, err);
    if (status == DW_OK) status = add_in_window(device, base, bytes, &in_place, err);
    if (status != DW_OK) goto out;
    bool right = true;
    for (int i = 0; i < TERMS; i++) right = right && bits_of(sum[i]) == bits_of((float)i + 0.5f);
    out->seen_both_ways = right && in_place;
    out->holds = out->seen_both_ways && (out->same_address || !info->addresses_are_host);
out:
    if (window.id && dw_region_return(region, window) != DW_OK && status == DW_OK)
        status = dw_fail(err, DW_E_INTERNAL, "a window was lost");
    if (dw_region_destroy(region) != DW_OK && status == DW_OK)
        status = dw_fail(err, DW_E_INTERNAL, "a window is still lent");
    return status;
}

/* --- host and guest -------------------------------------------------------------------------------------------- */

/* The guest writes and the host reads at base + pointer, then the other way round. */
static dw_status exchange_through_window(dw_probe *probe, uint32_t pointer, bool *seen, dw_error *err) {
    const uint32_t from_guest = 0xd41f7000u ^ pointer, from_host = ~from_guest;
    char *place = (char *)dw_region_base(dw_probe_region(probe)) + pointer;
    uint32_t read_by_host = 0, read_by_guest = 0;
    dw_status status = dw_probe_poke(probe, pointer, from_guest, err);
    if (status != DW_OK) return status;
    memcpy(&read_by_host, place, sizeof read_by_host);
    memcpy(place, &from_host, sizeof from_host);
    status = dw_probe_peek(probe, pointer, &read_by_guest, err);
    *seen = *seen && read_by_host == from_guest && read_by_guest == from_host;
    return status;
}

dw_status dw_prove_host_guest(dw_link_result *out, dw_error *err) {
    dw_probe *probe = NULL;
    *out = (dw_link_result){.seen_both_ways = true};
    dw_status status = dw_probe_create(&probe, err);
    if (status != DW_OK) goto out;
    const void *base = dw_region_base(dw_probe_region(probe));
    status = exchange_through_window(probe, 4096, &out->seen_both_ways, err);
    if (status == DW_OK)
        status = exchange_through_window(probe, (uint32_t)DW_WASM_PAGE_BYTES - 4, &out->seen_both_ways, err);
    if (status == DW_OK) status = dw_probe_grow(probe, DW_GUEST_MEMORY_BYTES_MAX, err);
    if (status == DW_OK) status = exchange_through_window(probe, 4096, &out->seen_both_ways, err);
    if (status == DW_OK)
        status = exchange_through_window(probe, (uint32_t)(DW_GUEST_MEMORY_BYTES_MAX - 4), &out->seen_both_ways, err);
    if (status != DW_OK) goto out;
    out->same_address = dw_region_base(dw_probe_region(probe)) == base;
    out->holds = out->same_address && out->seen_both_ways;
out:
    dw_probe_destroy(probe);
    return status;
}

/* --- all three, by size ---------------------------------------------------------------------------------------- */

/* The guest writes the first and last term of a and b, the device adds, the guest reads the sum. */
static dw_status compose(dw_probe *probe, dw_device *device, uint64_t bytes, dw_link_result *out, dw_error *err) {
    static const uint32_t terms[2] = {0, TERMS - 1};
    layout at = layout_of(bytes);
    void *base = dw_region_base(dw_probe_region(probe));
    bool in_place = false;
    dw_status status = DW_OK;
    for (int i = 0; status == DW_OK && i < 2; i++) {
        status = dw_probe_poke(probe, (uint32_t)at.a + terms[i] * 4, bits_of(1.25f + (float)i), err);
        if (status == DW_OK) status = dw_probe_poke(probe, (uint32_t)at.b + terms[i] * 4, bits_of(40.0f), err);
    }
    if (status == DW_OK) status = same_address(device, base, bytes, &out->same_address, err);
    if (status == DW_OK) status = add_in_window(device, base, bytes, &in_place, err);
    bool right = status == DW_OK;
    for (int i = 0; status == DW_OK && i < 2; i++) {
        uint32_t sum = 0;
        status = dw_probe_peek(probe, (uint32_t)at.out + terms[i] * 4, &sum, err);
        right = right && sum == bits_of(41.25f + (float)i);
    }
    out->seen_both_ways = right && in_place;
    out->holds = out->seen_both_ways && (out->same_address || !dw_device_info_view(device)->addresses_are_host);
    return status;
}

static dw_status resident_now(int64_t *out, dw_error *err) {
    dw_os_memory_use use = {0};
    dw_status status = dw_os_memory_use_now(&use, err);
    *out = (int64_t)use.resident;
    return status;
}

static dw_status measure_wrap(dw_device *device, void *base, dw_size_result *out, dw_error *err) {
    dw_buffer *buffer = NULL;
    int64_t before = 0, after = 0;
    dw_status status = resident_now(&before, err);
    if (status != DW_OK) return status;
    uint64_t start = dw_os_monotonic_ns();
    status = dw_device_wrap(device, base, out->bytes, true, &buffer, err);
    out->wrap_ns = dw_os_monotonic_ns() - start;
    if (status == DW_OK) status = resident_now(&after, err);
    start = dw_os_monotonic_ns();
    dw_buffer_destroy(buffer);
    out->unwrap_ns = dw_os_monotonic_ns() - start;
    out->rss_added_wrap_bytes = after - before;
    return status;
}

/* What a device without sharing costs: memory of its own, and the bytes moved into it. In pieces, as devices limit one
 * allocation. */
static dw_status measure_copy(dw_device *device, const void *base, dw_size_result *out, dw_error *err) {
    enum { PIECES = 4 };
    const uint64_t piece_bytes = UINT64_C(1) << 30;
    dw_buffer *buffers[PIECES] = {NULL};
    int64_t before = 0, after = 0;
    dw_status status = resident_now(&before, err);
    uint64_t start = dw_os_monotonic_ns();
    for (size_t i = 0; status == DW_OK && i < PIECES && i * piece_bytes < out->bytes; i++) {
        uint64_t size = dw_min_u64(out->bytes - i * piece_bytes, piece_bytes);
        status = dw_device_allocate(device, size, &buffers[i], err);
        if (status == DW_OK) status = dw_buffer_write(buffers[i], 0, (const char *)base + i * piece_bytes, size, err);
    }
    out->copy_ns = dw_os_monotonic_ns() - start;
    if (status == DW_OK) status = resident_now(&after, err);
    for (size_t i = 0; i < PIECES; i++) dw_buffer_destroy(buffers[i]);
    out->rss_added_copy_bytes = after - before;
    out->copied = status == DW_OK;
    return status;
}

/* One size. The window is lent for as long as the device knows of it (I5); the guest calls happen between. */
static dw_status measure_size(dw_probe *probe, dw_device *device, bool with_copy, dw_size_result *out, dw_error *err) {
    dw_region *region = dw_probe_region(probe);
    dw_window window = {0};
    dw_status status = dw_probe_grow(probe, out->bytes, err);
    if (status == DW_OK) status = dw_probe_touch(probe, err); /* every page is resident before anything is measured */
    if (status == DW_OK) status = compose(probe, device, out->bytes, &out->link, err);
    if (status == DW_OK) status = dw_region_lend(region, 0, out->bytes, &window, err);
    if (status != DW_OK) return status;
    status = measure_wrap(device, dw_region_base(region), out, err);
    if (status == DW_OK && with_copy) status = measure_copy(device, dw_region_base(region), out, err);
    if (dw_region_return(region, window) != DW_OK && status == DW_OK)
        status = dw_fail(err, DW_E_INTERNAL, "a window was lost");
    return status;
}

/* Once unmeasured: the first wrap, and the first look at our memory, touch pages of code, stack and allocator that stay
 * from then on. */
static dw_status warm_up(dw_probe *probe, dw_device *device, dw_error *err) {
    dw_size_result ignored = {.bytes = UINT64_C(1) << 20};
    return measure_size(probe, device, true, &ignored, err);
}

static uint64_t memory_free(void) {
    static dw_device_info devices[32];
    size_t n = dw_device_list(devices, 32);
    for (size_t i = 0; i < n && i < 32; i++) {
        if (devices[i].kind == DW_DEVICE_CPU) return devices[i].memory_free_bytes;
    }
    return 0;
}

dw_status dw_prove_sizes(const dw_cli *cli, dw_device *device, uint64_t bytes_max, dw_sizes_result *out,
                         dw_error *err) {
    static const uint64_t wanted[DW_PROVE_SIZES] = {UINT64_C(16) << 20, UINT64_C(256) << 20, UINT64_C(1) << 30,
                                                    DW_GUEST_MEMORY_BYTES_MAX};
    const uint64_t spare = UINT64_C(512) << 20;
    const dw_device_info *info = dw_device_info_view(device);
    const uint64_t wrap_max = dw_round_down_u64(info->wrap_bytes_max, DW_WASM_PAGE_BYTES);
    char size_text[DW_SIZE_TEXT_BYTES];
    dw_probe *probe = NULL;
    memset(out, 0, sizeof *out);
    out->holds = true;
    dw_status status = dw_probe_create(&probe, err);
    if (status == DW_OK) status = warm_up(probe, device, err);
    for (size_t i = 0; status == DW_OK && i < DW_PROVE_SIZES && wanted[i] <= bytes_max; i++) {
        dw_size_result *size = &out->sizes[out->count];
        size->bytes = dw_min_u64(wanted[i], wrap_max);
        if (size->bytes < wanted[i]) {
            (void)snprintf(out->note, sizeof out->note, "%s wraps at most %s at once", info->name,
                           dw_size_text(wrap_max, size_text));
            if (out->count > 0 && size->bytes <= size[-1].bytes) break;
        }
        uint64_t available = memory_free() + (out->count > 0 ? size[-1].bytes : 0); /* what is touched already stays */
        if (available < size->bytes + spare) {
            (void)snprintf(out->note, sizeof out->note, "%s and more were left out: too little free memory",
                           dw_size_text(size->bytes, size_text));
            break;
        }
        bool with_copy = available >= 2 * size->bytes + spare;
        if (!with_copy)
            (void)snprintf(out->note, sizeof out->note, "no memory to copy %s for comparison",
                           dw_size_text(size->bytes, size_text));
        dw_cli_progress(cli, "wrapping %s ...", dw_size_text(size->bytes, size_text));
        status = measure_size(probe, device, with_copy, size, err);
        if (status != DW_OK) (void)dw_error_prefix(err, status, "at %s", dw_size_text(size->bytes, size_text));
        out->holds = out->holds && size->link.holds && size->rss_added_wrap_bytes <= DW_PROVE_RSS_BYTES_MAX;
        out->count++;
    }
    dw_cli_progress(cli, NULL);
    dw_probe_destroy(probe);
    return status;
}

/* prove.h: the parts of `driftwood prove`. The chain is: host memory -> device buffer -> Wasm linear memory.
 *   prove_probe.c   a small guest that reads and writes where it is told to
 *   prove_links.c   each link on its own, and the cost of a wrap beside a copy
 *   prove_matmul.c  the chain composed: matrices that a guest wrote, multiplied by the device, read by the guest
 */
#ifndef DW_CLI_PROVE_H
#define DW_CLI_PROVE_H

#include "cli/cli.h"

/* --- probe ----------------------------------------------------------------------------------------------------- */

typedef struct dw_probe dw_probe;

dw_status dw_probe_create(dw_probe **out, dw_error *err) DW_MUST_USE;
void dw_probe_destroy(dw_probe *probe);
dw_region *dw_probe_region(const dw_probe *probe);
/* All of these are done by the guest's own instructions. */
/* memory.grow up to `size` bytes. */
dw_status dw_probe_grow(dw_probe *probe, uint64_t size, dw_error *err) DW_MUST_USE;
dw_status dw_probe_touch(dw_probe *probe, dw_error *err) DW_MUST_USE;                 /* a store into each 4 KiB */
dw_status dw_probe_poke(dw_probe *probe, uint32_t pointer, uint32_t value, dw_error *err) DW_MUST_USE;
dw_status dw_probe_peek(dw_probe *probe, uint32_t pointer, uint32_t *out, dw_error *err) DW_MUST_USE;

/* --- links ----------------------------------------------------------------------------------------------------- */

typedef struct dw_link_result {
    bool same_address;      /* the device's base address is the guest's memory; only where info.addresses_are_host */
    bool seen_both_ways;    /* the device read what was written, and its own writes were read, without a copied byte */
    bool holds;
} dw_link_result;

/* Memory of ours, no guest: what the host writes the device reads, and back. */
dw_status dw_prove_host_device(dw_device *device, dw_link_result *out, dw_error *err) DW_MUST_USE;
/* No device: the guest's addresses are our region, at its first and last bytes, and it does not move while it grows to
 * the end. */
dw_status dw_prove_host_guest(dw_link_result *out, dw_error *err) DW_MUST_USE;

typedef struct dw_size_result {
    uint64_t bytes;
    dw_link_result link;
    int64_t rss_added_wrap_bytes, rss_added_copy_bytes;
    uint64_t wrap_ns, unwrap_ns, copy_ns;
    bool copied;            /* the copy path was measured: there was memory for it */
} dw_size_result;

enum { DW_PROVE_SIZES = 4 };
typedef struct dw_sizes_result {
    dw_size_result sizes[DW_PROVE_SIZES];
    size_t count;
    char note[200];         /* what was left out, and why; "" = nothing */
    bool holds;
} dw_sizes_result;

/* The composed chain at growing sizes of one guest's memory, up to bytes_max, and what a wrap costs. */
dw_status dw_prove_sizes(const dw_cli *cli, dw_device *device, uint64_t bytes_max, dw_sizes_result *out,
                         dw_error *err) DW_MUST_USE;

/* A wrap may add this much resident memory: bookkeeping, not pages. */
#define DW_PROVE_RSS_BYTES_MAX (INT64_C(32) << 10)

/* --- matrix product -------------------------------------------------------------------------------------------- */

typedef struct dw_matmul_result {
    uint32_t n;
    uint64_t checked, wrong;            /* elements, against a computation in double in this program */
    uint64_t guest_checked, guest_wrong; /* what the guest found when it read the result itself */
    double error_max;                   /* largest absolute difference */
    uint64_t zero_copy_ns, copy_ns;     /* preparing, computing and finishing; best of a few */
    uint64_t compute_ns;                /* of zero_copy_ns: the computing alone */
    uint64_t copied_bytes;              /* on the zero-copy path: 0 where the claim holds */
} dw_matmul_result;

dw_status dw_prove_matmul(dw_cli *cli, dw_runtime *runtime, uint32_t n, dw_matmul_result *out,
                          dw_error *err) DW_MUST_USE;

#endif

/* device.h: ggml's backends behind one header: open by name, wrap host memory, run a graph, count bytes.
 *
 *   device   one ggml backend device: "cpu", "vulkan" (= "vulkan0"), "vulkan1", later "cuda", "metal"
 *   wrap     a device buffer over host memory that somebody else owns: the same pages, no copy (I1)
 *   buffer   memory that a device allocated itself, or a wrap
 *   repack   a private copy of a weight in another order of its numbers, for which the processor has a faster product
 *            (opt-in)
 *   ledger   bytes wrapped, copied in, copied out, allocated; per device
 *
 * Rules
 * 1. A wrap pins physical pages on real GPUs: destroy the wrap before its pages are remapped or freed, then wrap again.
 *    Region windows (region.h) enforce this: lend before wrapping, return after destroying.
 * 2. Where a device cannot wrap, dw_device_wrap is DW_E_UNSUPPORTED and the caller copies with dw_buffer_write/read,
 *    which count (I1). Never silently.
 * 3. A tensor's device address is dw_buffer_base + offset; it is a host address only where info.addresses_are_host is
 *    true (Vulkan's is not).
 * 4. Every node of a graph is checked with dw_device_supports before it is trusted; a device computes garbage,
 *    silently, for what it does not support.
 * 5. While a graph runs nobody writes its inputs or reads its outputs (I5).
 * 6. No C++ exception leaves this module (guard.h): what ggml's backends throw comes back as DW_E_NO_MEMORY or
 *    DW_E_DEVICE, with its text.
 * Threads: graphs of several threads run one after the other; a buffer or tensor is used by one thread at a time;
 * listing and the ledger from any.
 */
#ifndef DW_DEVICE_DEVICE_H
#define DW_DEVICE_DEVICE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/base.h"

struct ggml_tensor;
struct ggml_cgraph;
struct ggml_backend_buffer;
struct ggml_backend_buffer_type;
struct ggml_gallocr;

typedef struct dw_device dw_device;
typedef struct dw_buffer dw_buffer;

typedef enum dw_device_kind {
    DW_DEVICE_CPU,
    DW_DEVICE_GPU_UNIFIED,
    DW_DEVICE_GPU_DISCRETE,
    DW_DEVICE_GPU_SOFTWARE
} dw_device_kind;

typedef struct dw_device_info {
    char name[32];            /* what dw_device_open takes */
    char description[128];    /* "Intel(R) Xeon(R) ...", "llvmpipe (LLVM 15.0.6, 256 bits)" */
    char backend[32];         /* ggml's name of the backend: "CPU", "Vulkan" */
    dw_device_kind kind;
    bool can_wrap;            /* host memory can be wrapped */
    bool addresses_are_host;
    uint64_t wrap_align_bytes;   /* of address and size */
    /* Of one wrap; UINT64_MAX = not known beforehand, a wrap that is too large is refused. */
    uint64_t wrap_bytes_max;
    uint64_t tensor_align_bytes; /* of a tensor's offset in a buffer */
    uint64_t tensor_bytes_max;   /* of one tensor that an operation reads or writes (maxStorageBufferRange) */
    uint64_t memory_bytes, memory_free_bytes;
    char repacks[96];         /* weight types for which a repacked product is there: "q4_0 q4_K"; "" for none */
    char reason[128];         /* why it cannot wrap, or is not usable; "" when all is well */
} dw_device_info;

/* All devices this build can open here, cpu first. At most `capacity` are written; returns how many there are. */
size_t dw_device_list(dw_device_info *out, size_t capacity);

typedef struct dw_device_options {
    unsigned threads; /* CPU threads; 0 = all that this process may use */
} dw_device_options;

/* DW_E_NOT_FOUND names the devices that exist. */
dw_status dw_device_open(const char *name, const dw_device_options *options, dw_device **out,
                         dw_error *err) DW_MUST_USE;
void dw_device_close(dw_device *device); /* after all its buffers */
const dw_device_info *dw_device_info_view(const dw_device *device);
unsigned dw_device_threads(const dw_device *device);
/* "AVX2+FMA+...": the instruction sets that the CPU's kernels were built for and use. */
void dw_device_features(char *out, size_t size);

/* Bytes by what happened to them, for the whole life of the device. */
typedef struct dw_ledger {
    uint64_t wrapped, copied_in, copied_out, allocated_now, allocated_peak, graphs, nodes;
} dw_ledger;
dw_ledger dw_device_ledger(const dw_device *device);
/* For memory of the device that somebody else allocates (a graph allocator), so that the ledger knows of it. */
void dw_device_count_allocation(dw_device *device, uint64_t bytes);
void dw_device_count_release(dw_device *device, uint64_t bytes);
void dw_device_count_copied_out(dw_device *device, uint64_t bytes); /* the same for results that somebody else copied */

/* Wraps [address, +size), aligned as info says. `writable` false: a read-only mapping (weights). The wrap does not own
 * the memory. */
dw_status dw_device_wrap(dw_device *device, void *address, uint64_t size, bool writable, dw_buffer **out,
                         dw_error *err) DW_MUST_USE;
/* Memory of the device's own. */
dw_status dw_device_allocate(dw_device *device, uint64_t size, dw_buffer **out, dw_error *err) DW_MUST_USE;
/* The buffer type in which products with this weight (its type and shape; it needs no memory) run on a repacked copy,
 * NULL where none of the device's is for it. A tensor there is written whole, can't be read back, and serves as the
 * first factor of a product alone. */
struct ggml_backend_buffer_type *dw_device_repacks(dw_device *device, const struct ggml_tensor *weight);
/* Memory in a buffer type that dw_device_repacks gave; dw_repacked_bytes is what a weight takes there. */
dw_status dw_device_allocate_repacked(dw_device *device, struct ggml_backend_buffer_type *type, uint64_t size,
                                      dw_buffer **out, dw_error *err) DW_MUST_USE;
uint64_t dw_repacked_bytes(struct ggml_backend_buffer_type *type, const struct ggml_tensor *weight);
void dw_buffer_destroy(dw_buffer *buffer);
uint64_t dw_buffer_size(const dw_buffer *buffer);
void *dw_buffer_base(const dw_buffer *buffer); /* device address, rule 3 */
struct ggml_backend_buffer *dw_buffer_ggml(const dw_buffer *buffer);
/* Explicit copy of plain bytes into a buffer, whatever will lie there; counted in the ledger. */
dw_status dw_buffer_write(dw_buffer *buffer, uint64_t offset, const void *data, uint64_t size,
                          dw_error *err) DW_MUST_USE;
/* Puts a tensor without memory at `offset` of the buffer. DW_E_RANGE / DW_E_INVALID when it does not fit or is not
 * aligned. */
dw_status dw_buffer_place(dw_buffer *buffer, struct ggml_tensor *tensor, uint64_t offset, dw_error *err) DW_MUST_USE;
/* Explicit copies between the host and a placed tensor; counted in the ledger. */
dw_status dw_tensor_write(dw_device *device, struct ggml_tensor *tensor, const void *data, uint64_t offset,
                          uint64_t size) DW_MUST_USE;
dw_status dw_tensor_read(dw_device *device, const struct ggml_tensor *tensor, void *data, uint64_t offset,
                         uint64_t size) DW_MUST_USE;

/* Gives memory of the device to those tensors of graphs that have none; one allocator serves one graph at a time. NULL:
 * no memory. */
struct ggml_gallocr *dw_device_allocator_create(dw_device *device);
void dw_device_allocator_destroy(struct ggml_gallocr *allocator); /* NULL is fine */
dw_status dw_device_allocator_place(struct ggml_gallocr *allocator, struct ggml_cgraph *graph,
                                    dw_error *err) DW_MUST_USE;

/* False with the operation's and tensor's name in err when the device cannot run one of the nodes (views and other
 * no-ops are skipped). */
dw_status dw_device_supports(dw_device *device, const struct ggml_cgraph *graph, dw_error *err) DW_MUST_USE;
/* Runs a graph whose tensors all have memory, and waits for it. */
dw_status dw_device_compute(dw_device *device, struct ggml_cgraph *graph, dw_error *err) DW_MUST_USE;
/* The same, given up between two operations once *stop is true (DW_E_CANCELLED; what it wrote by then stays written).
 * Only the CPU looks; another device runs to the end. NULL: never. */
dw_status dw_device_compute_until(dw_device *device, struct ggml_cgraph *graph, const _Atomic bool *stop,
                                  dw_error *err) DW_MUST_USE;

#endif

/* backing.c: reference-counted files and memory objects that extents come from. */
#include <stdatomic.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/limits.h"
#include "region/region.h"

/* All of the process. Exceeding the limit by what several threads add at once does no harm: it leaves room. */
static atomic_uint_least64_t backing_count;

struct dw_backing {
    atomic_uint references;
    dw_os_file file;
    uint64_t size;      /* when it was made; the file may have grown since */
    const char *origin;
};

uint64_t dw_backing_count(void) { return atomic_load_explicit(&backing_count, memory_order_relaxed); }

static dw_status check_backing_count(dw_error *err) {
    uint64_t allowed = dw_os_descriptors_max();
    allowed = allowed > DW_PROCESS_DESCRIPTORS_SPARE ? allowed - DW_PROCESS_DESCRIPTORS_SPARE : 1;
    allowed = dw_min_u64(allowed, DW_PROCESS_BACKINGS_MAX);
    if (dw_backing_count() < allowed) return DW_OK;
    return dw_fail(err, DW_E_LIMIT, "%llu files and memory objects are in use, all that this process may have",
                   (unsigned long long)allowed);
}

dw_status dw_backing_create(dw_os_file file, const char *origin, dw_backing **out, dw_error *err) {
    *out = NULL;
    uint64_t size = 0;
    dw_backing *backing = NULL;
    dw_status status = check_backing_count(err);
    if (status == DW_OK) status = dw_os_size(file, &size, err);
    if (status == DW_OK && !(backing = calloc(1, sizeof *backing)))
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a backing object");
    if (status != DW_OK) {
        dw_os_close(&file);
        return status;
    }
    atomic_init(&backing->references, 1);
    atomic_fetch_add_explicit(&backing_count, 1, memory_order_relaxed);
    backing->file = file;
    backing->size = size;
    backing->origin = origin;
    *out = backing;
    return DW_OK;
}

dw_status dw_backing_create_memory(const char *name, uint64_t size, dw_backing **out, dw_error *err) {
    *out = NULL;
    dw_os_file file;
    dw_status status = check_backing_count(err); /* before the system has to make what is refused then */
    if (status == DW_OK) status = dw_os_memory_object(name, size, &file, err);
    return status == DW_OK ? dw_backing_create(file, "memfd", out, err) : status;
}

dw_status dw_backing_open(const char *path, const char *origin, dw_backing **out, dw_error *err) {
    *out = NULL;
    dw_os_file file;
    dw_status status = dw_os_open(path, DW_OS_READ, &file, err);
    return status == DW_OK ? dw_backing_create(file, origin, out, err) : status;
}

dw_backing *dw_backing_retain(dw_backing *backing) {
    /* Whoever retains holds a reference already, so nothing has to be ordered here. */
    if (backing) atomic_fetch_add_explicit(&backing->references, 1, memory_order_relaxed);
    return backing;
}

void dw_backing_release(dw_backing *backing) {
    /* The last one out must see everything the others did with the object before it frees it. */
    if (!backing || atomic_fetch_sub_explicit(&backing->references, 1, memory_order_acq_rel) != 1) return;
    dw_os_close(&backing->file);
    atomic_fetch_sub_explicit(&backing_count, 1, memory_order_relaxed);
    free(backing);
}

dw_os_file dw_backing_file(const dw_backing *backing) { return backing->file; }
const char *dw_backing_origin(const dw_backing *backing) { return backing->origin; }

uint64_t dw_backing_size(const dw_backing *backing) {
    uint64_t now;
    return dw_os_size(backing->file, &now, NULL) == DW_OK ? now : backing->size;
}

/* os_map.c: memory maps. */
#ifdef __APPLE__
#define _DARWIN_C_SOURCE
#else
#define _DEFAULT_SOURCE
#endif

#include <inttypes.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/checked.h"
#include "os/os_internal.h"

/* NORESERVE everywhere: reservations and sparse bodies are far larger than what is ever touched, and must not count
 * against the kernel's promise of memory before they are. */
#define MAP_PRIVATE_SPARSE (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

size_t dw_os_page_bytes(void) {
    long size = sysconf(_SC_PAGESIZE);
    return size > 0 ? (size_t)size : 4096;
}

static void *map_pages(void *address, size_t size, int protection, int flags, int fd, uint64_t offset) {
    return dw_os_faulted(DW_FAULT_MAP) ? MAP_FAILED : mmap(address, size, protection, flags, fd, (off_t)offset);
}

static int protection_bits(dw_os_protection protection) {
    if (protection == DW_OS_RW) return PROT_READ | PROT_WRITE;
    return protection == DW_OS_RO ? PROT_READ : PROT_NONE;
}

dw_status dw_os_map_reserve(size_t size, void **out, dw_error *err) {
    *out = NULL;
    if (size == 0) return dw_fail(err, DW_E_INVALID, "reservation of no bytes");
    void *base = map_pages(NULL, size, PROT_NONE, MAP_PRIVATE_SPARSE, -1, 0);
    if (base == MAP_FAILED) return dw_fail_system(err, errno, "cannot reserve %zu bytes of addresses", size);
    *out = base;
    return DW_OK;
}

dw_status dw_os_map_anonymous(void *address, size_t size, dw_error *err) {
    if (size == 0) return dw_fail(err, DW_E_INVALID, "map of no bytes");
    if (map_pages(address, size, PROT_READ | PROT_WRITE, MAP_PRIVATE_SPARSE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return dw_fail_system(err, errno, "cannot map %zu bytes of memory", size);
    return DW_OK;
}

dw_status dw_os_map_file(void *address, size_t size, dw_os_file file, uint64_t offset, dw_os_protection protection,
                         bool shared, void **out, dw_error *err) {
    uint64_t file_size = 0, mappable = 0;
    if (out) *out = NULL;
    if (size == 0) return dw_fail(err, DW_E_INVALID, "map of no bytes");
    dw_status status = dw_os_size(file, &file_size, err);
    if (status != DW_OK) return status;
    if (!dw_round_up_u64(file_size, dw_os_page_bytes(), &mappable) || !dw_in_range(offset, size, mappable))
        return dw_fail(err, DW_E_RANGE, "map of %zu bytes at %" PRIu64 " leaves its file of %" PRIu64 " bytes", size,
                       offset, file_size);

    int flags = (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_NORESERVE | (address ? MAP_FIXED : 0);
    void *base = map_pages(address, size, protection_bits(protection), flags, file.fd, offset);
    if (base == MAP_FAILED)
        return dw_fail_system(err, errno, "cannot map %zu bytes of a file at %" PRIu64, size, offset);
    if (out) *out = base;
    return DW_OK;
}

dw_status dw_os_map_protect(void *address, size_t size, dw_os_protection protection, dw_error *err) {
    if (dw_os_faulted(DW_FAULT_PROTECT) || mprotect(address, size, protection_bits(protection)) != 0)
        return dw_fail_system(err, errno, "cannot change the protection of %zu bytes", size);
    return DW_OK;
}

dw_status dw_os_map_decommit(void *address, size_t size, dw_error *err) {
    if (size == 0) return dw_fail(err, DW_E_INVALID, "map of no bytes");
    if (map_pages(address, size, PROT_NONE, MAP_PRIVATE_SPARSE | MAP_FIXED, -1, 0) == MAP_FAILED)
        return dw_fail_system(err, errno, "cannot give back %zu bytes of memory", size);
    return DW_OK;
}

void dw_os_unmap(void *address, size_t size) {
    if (address && size) (void)munmap(address, size);
}

void dw_os_map_will_need(const void *address, size_t size) {
    /* madvise wants a page-aligned start; callers name the bytes they mean. */
    uintptr_t start = (uintptr_t)address & ~((uintptr_t)dw_os_page_bytes() - 1);
    (void)posix_madvise((void *)start, size + ((uintptr_t)address - start), POSIX_MADV_WILLNEED);
}

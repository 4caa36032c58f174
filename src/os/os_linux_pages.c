/* os_linux_pages.c: which pages were written, asked of the Linux kernel.
 *
 * Write tracking: userfaultfd in asynchronous write-protect mode. Arming protects the pages; the first write to each is
 * let through by the kernel itself (no handler, no signal, no wake-up), which drops the protection, and the
 * PAGEMAP_SCAN ioctl lists the pages without it. WP_UNPOPULATED protects pages that are not there yet as well, so that
 * reading one for the first time does not look like a write. Needs Linux 6.7, no privilege: UFFD_USER_MODE_ONLY is
 * enough, since asynchronous mode never hands a fault to anybody. Writes by the kernel for us (read(2) into a page) are
 * seen. Mapping over a range, or growing it, makes new kernel maps that are not registered.
 *
 * One userfaultfd and one /proc/self/pagemap serve the process; both are opened at first use and stay open. */
#define _GNU_SOURCE

#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checked.h"
#include "os/os_internal.h"

/* --- the kernel's interface, where its headers are older than it ------------------------------------------------- */

/* include/uapi/linux/userfaultfd.h */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define FEATURE_WP_HUGETLBFS_SHMEM (UINT64_C(1) << 12)
#define FEATURE_WP_UNPOPULATED (UINT64_C(1) << 13)
#define FEATURE_WP_ASYNC (UINT64_C(1) << 15)
#define FEATURES (FEATURE_WP_HUGETLBFS_SHMEM | FEATURE_WP_UNPOPULATED | FEATURE_WP_ASYNC)

/* include/uapi/linux/fs.h: struct page_region, struct pm_scan_arg, PAGEMAP_SCAN */
typedef struct scan_run {
    uint64_t start, end, categories;
} scan_run;

typedef struct scan_request {
    uint64_t size, flags, start, end, walk_end, runs, run_count, pages_max;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
} scan_request;

#define SCAN_IOCTL _IOWR('f', 16, scan_request)
#define SCAN_PROTECT_MATCHING (UINT64_C(1) << 0)
#define SCAN_CHECK_REGISTERED (UINT64_C(1) << 1)
#define PAGE_WRITTEN (UINT64_C(1) << 1)

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE_OR_SHARED (UINT64_C(1) << 61)
#define PAGEMAP_PROTECTED (UINT64_C(1) << 57)

/* --- the two descriptors of the process -------------------------------------------------------------------------- */

static atomic_int tracker_fd = -1;
static atomic_int pagemap_fd = -1;

/* Publishes a descriptor that was opened for all threads; the one who comes second closes his. */
static int publish(atomic_int *shared, int fd) {
    int before = -1;
    if (atomic_compare_exchange_strong(shared, &before, fd)) return fd;
    (void)close(fd);
    return before;
}

static int open_pagemap(void) {
    int fd = atomic_load(&pagemap_fd);
    if (fd >= 0) return fd;
    fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -1 : publish(&pagemap_fd, fd);
}

static int open_tracker(void) {
    int fd = atomic_load(&tracker_fd);
    if (fd >= 0) return fd;
    fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (fd < 0) return -1;
    struct uffdio_api handshake = {.api = UFFD_API, .features = FEATURES};
    if (ioctl(fd, UFFDIO_API, &handshake) != 0 || (handshake.features & FEATURES) != FEATURES) {
        (void)close(fd);
        errno = EOPNOTSUPP;
        return -1;
    }
    return publish(&tracker_fd, fd);
}

/* --- write tracking ----------------------------------------------------------------------------------------------- */

static int protect_pages(int fd, void *address, size_t size) {
    struct uffdio_writeprotect request = {.range = {.start = (uintptr_t)address, .len = size},
                                          .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    int result;
    do {
        result = dw_os_faulted(DW_FAULT_DIRTY) ? -1 : ioctl(fd, UFFDIO_WRITEPROTECT, &request);
    } while (result != 0 && errno == EAGAIN); /* the address space was changing */
    return result;
}

dw_status dw_os_dirty_arm(void *address, size_t size, dw_error *err) {
    if (size == 0) return DW_OK;
    int fd = dw_os_faulted(DW_FAULT_DIRTY) ? -1 : open_tracker();
    if (fd < 0) return dw_fail_system(err, errno, "cannot open the kernel's write tracking");
    struct uffdio_register request = {.range = {.start = (uintptr_t)address, .len = size},
                                      .mode = UFFDIO_REGISTER_MODE_WP};
    if (dw_os_faulted(DW_FAULT_DIRTY) || ioctl(fd, UFFDIO_REGISTER, &request) != 0)
        return dw_fail_system(err, errno, "cannot register %zu bytes for write tracking", size);
    if (protect_pages(fd, address, size) != 0)
        return dw_fail_system(err, errno, "cannot arm %zu bytes for write tracking", size);
    return DW_OK;
}

dw_status dw_os_dirty_scan(void *address, size_t size, bool rearm,
                           void (*each)(void *context, void *run, size_t run_size), void *context, dw_error *err) {
    if (size == 0) return DW_OK;
    int fd = dw_os_faulted(DW_FAULT_DIRTY) ? -1 : open_pagemap();
    if (fd < 0) return dw_fail_system(err, errno, "cannot open /proc/self/pagemap");
    scan_run runs[128];
    scan_request request = {
        .size = sizeof request,
        /* A range that lost its registration must be an error, not look clean. */
        .flags = SCAN_CHECK_REGISTERED | (rearm ? SCAN_PROTECT_MATCHING : 0),
        .start = (uintptr_t)address,
        .end = (uintptr_t)address + size,
        .runs = (uintptr_t)runs,
        .run_count = sizeof runs / sizeof runs[0],
        .category_mask = PAGE_WRITTEN,
        .return_mask = PAGE_WRITTEN,
    };
    while (request.start < request.end) {
        int found = dw_os_faulted(DW_FAULT_DIRTY) ? -1 : ioctl(fd, SCAN_IOCTL, &request);
        if (found < 0 && errno == EINTR) continue;
        if (found < 0) return dw_fail_system(err, errno, "cannot scan %zu bytes for written pages", size);
        for (int i = 0; i < found; i++)
            each(context, (void *)(uintptr_t)runs[i].start, (size_t)(runs[i].end - runs[i].start));
        if (request.walk_end <= request.start)
            return dw_fail(err, DW_E_SYSTEM, "the scan for written pages does not advance");
        request.start = request.walk_end;
    }
    return DW_OK;
}

/* --- is it there? ------------------------------------------------------------------------------------------------- */

typedef struct probe_result {
    void *first;
    size_t runs, bytes;
} probe_result;

static void note_probed_run(void *context, void *run, size_t run_size) {
    probe_result *result = context;
    if (result->runs++ == 0) result->first = run;
    result->bytes += run_size;
}

/* Running out of descriptors or memory says nothing about the kernel. */
static bool says_no(int failure) {
    static const int answers[] = {EINVAL, ENOTTY, ENOSYS, EOPNOTSUPP, EPERM, EACCES, ENOENT};
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++) {
        if (failure == answers[i]) return true;
    }
    return false;
}

/* Tries it on four pages: reads one, writes one, and expects exactly the written one. Kernels, sandboxes and emulators
 * that accept the calls and do something else are found out here. */
static bool probe_tracking(bool *sure) {
    size_t page = dw_os_page_bytes(), size = 4 * page;
    volatile char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *sure = false;
    if ((void *)pages == MAP_FAILED) return false;
    probe_result result = {0};
    dw_error error = {0};
    dw_status status = dw_os_dirty_arm((void *)(uintptr_t)pages, size, &error);
    if (status == DW_OK) {
        (void)pages[0];
        pages[2 * page] = 1;
        status = dw_os_dirty_scan((void *)(uintptr_t)pages, size, false, note_probed_run, &result, &error);
    }
    (void)munmap((void *)(uintptr_t)pages, size);
    *sure = status == DW_OK || says_no(error.system_errno);
    return status == DW_OK && result.runs == 1 && result.bytes == page &&
           result.first == (void *)(uintptr_t)(pages + 2 * page);
}

bool dw_os_dirty_supported(void) {
    enum { UNKNOWN, NO, YES };
    static atomic_int answer = UNKNOWN;
    int known = atomic_load(&answer);
    if (known != UNKNOWN) return known == YES;
    bool sure = false;
    bool works = probe_tracking(&sure);
    if (sure) atomic_store(&answer, works ? YES : NO);
    return works;
}

/* --- private copies ----------------------------------------------------------------------------------------------- */

/* An armed page that is not there yet holds a marker that looks like a swapped page under write protection. */
static bool is_private_copy(uint64_t entry) {
    bool swapped = (entry & PAGEMAP_SWAPPED) != 0 && (entry & PAGEMAP_PROTECTED) == 0;
    return ((entry & PAGEMAP_PRESENT) != 0 || swapped) && (entry & PAGEMAP_FILE_OR_SHARED) == 0;
}

/* Reports [first, first+count) pages from `address`, if any. */
static void report_pages(void *address, uint64_t first, uint64_t count, void (*each)(void *, void *, size_t),
                         void *context) {
    size_t page = dw_os_page_bytes();
    if (count) each(context, (char *)address + first * page, (size_t)count * page);
}

dw_status dw_os_private_pages(void *address, size_t size, void (*each)(void *context, void *run, size_t run_size),
                              void *context, dw_error *err) {
    int fd = dw_os_faulted(DW_FAULT_DIRTY) ? -1 : open_pagemap();
    if (fd < 0) return dw_fail_system(err, errno, "cannot open /proc/self/pagemap");
    size_t page = dw_os_page_bytes();
    uint64_t pages = size / page, first_page = (uintptr_t)address / page;
    uint64_t run_first = 0, run_count = 0, entries[512];
    for (uint64_t done = 0; done < pages;) {
        uint64_t batch = dw_min_u64(pages - done, sizeof entries / sizeof entries[0]);
        dw_status status = dw_os_read_at((dw_os_file){fd}, (first_page + done) * sizeof entries[0], entries,
                                         (size_t)batch * sizeof entries[0], err);
        if (status != DW_OK) return status;
        for (uint64_t i = 0; i < batch; i++) {
            bool own = is_private_copy(entries[i]);
            if (own && run_count++ == 0) run_first = done + i;
            if (own) continue;
            report_pages(address, run_first, run_count, each, context);
            run_count = 0;
        }
        done += batch;
    }
    report_pages(address, run_first, run_count, each, context);
    return DW_OK;
}

/* disk.h: the files of a store: the system's (os.h), or those of a test that loses power.
 *
 * Rules
 * 1. Meanings, statuses and durability are those of the functions of os.h with the same names: a write is on disk after
 *    a sync of its file, a name after a sync of its folder.
 * 2. All functions may be called by several threads at once, also on one file.
 */
#ifndef DW_STORE_DISK_H
#define DW_STORE_DISK_H

#include "os/os.h"

typedef struct dw_store_disk dw_store_disk;
struct dw_store_disk {
    void *context;
    dw_status (*make_folders)(void *context, const char *path, dw_error *err);
    dw_status (*lock)(void *context, const char *path, dw_os_file *out, dw_error *err);
    dw_status (*open)(void *context, const char *path, dw_os_open_mode mode, dw_os_file *out, dw_error *err);
    void (*close)(void *context, dw_os_file *file);
    dw_status (*read_at)(void *context, dw_os_file file, uint64_t offset, void *data, size_t size, dw_error *err);
    dw_status (*write_at)(void *context, dw_os_file file, uint64_t offset, const void *data, size_t size,
                          dw_error *err);
    dw_status (*size)(void *context, dw_os_file file, uint64_t *out, dw_error *err);
    dw_status (*resize)(void *context, dw_os_file file, uint64_t size, dw_error *err);
    dw_status (*discard)(void *context, dw_os_file file, uint64_t offset, uint64_t size, dw_error *err);
    dw_status (*sync)(void *context, dw_os_file file, dw_error *err);
    dw_status (*sync_folder)(void *context, const char *folder, dw_error *err);
    dw_status (*remove)(void *context, const char *path, dw_error *err);
    bool (*exists)(void *context, const char *path);
    dw_status (*list)(void *context, const char *folder, bool (*each)(void *walk, const char *name), void *walk,
                      dw_error *err);
};

/* The system's. */
extern const dw_store_disk dw_store_disk_system;

#endif

/* disk.c: the system's files. */
#include "store/disk.h"

static dw_status system_make_folders(void *context, const char *path, dw_error *err) {
    (void)context;
    return dw_os_make_folders(path, err);
}

static dw_status system_lock(void *context, const char *path, dw_os_file *out, dw_error *err) {
    (void)context;
    return dw_os_try_lock(path, out, err);
}

static dw_status system_open(void *context, const char *path, dw_os_open_mode mode, dw_os_file *out, dw_error *err) {
    (void)context;
    return dw_os_open(path, mode, out, err);
}

static void system_close(void *context, dw_os_file *file) {
    (void)context;
    dw_os_close(file);
}

static dw_status system_read_at(void *context, dw_os_file file, uint64_t offset, void *data, size_t size,
                                dw_error *err) {
    (void)context;
    return dw_os_read_at(file, offset, data, size, err);
}

static dw_status system_write_at(void *context, dw_os_file file, uint64_t offset, const void *data, size_t size,
                                 dw_error *err) {
    (void)context;
    return dw_os_write_at(file, offset, data, size, err);
}

static dw_status system_size(void *context, dw_os_file file, uint64_t *out, dw_error *err) {
    (void)context;
    return dw_os_size(file, out, err);
}

static dw_status system_resize(void *context, dw_os_file file, uint64_t size, dw_error *err) {
    (void)context;
    return dw_os_resize(file, size, err);
}

static dw_status system_discard(void *context, dw_os_file file, uint64_t offset, uint64_t size, dw_error *err) {
    (void)context;
    return dw_os_discard(file, offset, size, err);
}

static dw_status system_sync(void *context, dw_os_file file, dw_error *err) {
    (void)context;
    return dw_os_sync(file, err);
}

static dw_status system_sync_folder(void *context, const char *folder, dw_error *err) {
    (void)context;
    return dw_os_sync_folder(folder, err);
}

static dw_status system_remove(void *context, const char *path, dw_error *err) {
    (void)context;
    return dw_os_remove(path, err);
}

static bool system_exists(void *context, const char *path) {
    (void)context;
    return dw_os_exists(path);
}

static dw_status system_list(void *context, const char *folder, bool (*each)(void *walk, const char *name), void *walk,
                             dw_error *err) {
    (void)context;
    return dw_os_list(folder, each, walk, err);
}

const dw_store_disk dw_store_disk_system = {
    .make_folders = system_make_folders,
    .lock = system_lock,
    .open = system_open,
    .close = system_close,
    .read_at = system_read_at,
    .write_at = system_write_at,
    .size = system_size,
    .resize = system_resize,
    .discard = system_discard,
    .sync = system_sync,
    .sync_folder = system_sync_folder,
    .remove = system_remove,
    .exists = system_exists,
    .list = system_list,
};

/* vfs.c: SQLite's files, over the store's disk. One connection, which has them for itself (the store's lock file sees
 * to that), so locks and shared memory are nothing here: with locking_mode=EXCLUSIVE SQLite keeps the index of its log
 * on the heap.
 *
 * SQLite asks for a file's sync where its own order needs one. A sync that fails poisons: what the kernel could not
 * write it may have dropped, and a second sync would say that all is well. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

enum { VFS_SECTOR_BYTES = 4096, VFS_NAME_BYTES = 40 };

typedef struct vfs_file {
    sqlite3_file base;
    dw_store_vfs *vfs;
    dw_os_file file;
    bool name_unsynced;
    bool is_log;
} vfs_file;

struct dw_store_vfs {
    sqlite3_vfs base;
    char name[VFS_NAME_BYTES];
    const dw_store_disk *disk;
    const char *folder;
    atomic_bool *poisoned;
    vfs_file *log;
    uint64_t log_bytes;
    bool failed;
    dw_error failure;
};

/* Notes what the disk said first, for dw_vfs_take_failure, and gives SQLite its code. */
static int vfs_note(dw_store_vfs *vfs, const dw_error *err, int code) {
    if (!vfs->failed) vfs->failure = *err;
    vfs->failed = true;
    return err->status == DW_E_NO_SPACE ? SQLITE_FULL : err->status == DW_E_NO_MEMORY ? SQLITE_IOERR_NOMEM : code;
}

static int vfs_refuse_poisoned(dw_store_vfs *vfs, int code) {
    dw_error err;
    (void)dw_fail(&err, DW_E_STATE, "a sync has failed: nothing is written any more");
    return vfs_note(vfs, &err, code);
}

/* --- files ------------------------------------------------------------------------------------------------------ */

static int vfs_close(sqlite3_file *base) {
    vfs_file *file = (vfs_file *)base;
    if (file->vfs->log == file) file->vfs->log = NULL;
    file->vfs->disk->close(file->vfs->disk->context, &file->file);
    return SQLITE_OK;
}

static int vfs_read(sqlite3_file *base, void *data, int size, sqlite3_int64 offset) {
    vfs_file *file = (vfs_file *)base;
    dw_error err;
    dw_status status =
        file->vfs->disk->read_at(file->vfs->disk->context, file->file, (uint64_t)offset, data, (size_t)size, &err);
    if (status == DW_OK) return SQLITE_OK;
    if (status != DW_E_TRUNCATED) return vfs_note(file->vfs, &err, SQLITE_IOERR_READ);
    /* SQLite wants zeros behind the end of a file. */
    uint64_t end = err.offset > (uint64_t)offset ? err.offset - (uint64_t)offset : 0;
    assert(end < (uint64_t)size);
    memset((char *)data + end, 0, (size_t)size - (size_t)end);
    return SQLITE_IOERR_SHORT_READ;
}

static int vfs_write(sqlite3_file *base, const void *data, int size, sqlite3_int64 offset) {
    vfs_file *file = (vfs_file *)base;
    dw_error err;
    if (atomic_load(file->vfs->poisoned)) return vfs_refuse_poisoned(file->vfs, SQLITE_IOERR_WRITE);
    dw_status status =
        file->vfs->disk->write_at(file->vfs->disk->context, file->file, (uint64_t)offset, data, (size_t)size, &err);
    if (status != DW_OK) return vfs_note(file->vfs, &err, SQLITE_IOERR_WRITE);
    if (file->is_log) file->vfs->log_bytes = dw_max_u64(file->vfs->log_bytes, (uint64_t)offset + (uint64_t)size);
    return SQLITE_OK;
}

static int vfs_truncate(sqlite3_file *base, sqlite3_int64 size) {
    vfs_file *file = (vfs_file *)base;
    dw_error err;
    if (atomic_load(file->vfs->poisoned)) return vfs_refuse_poisoned(file->vfs, SQLITE_IOERR_TRUNCATE);
    dw_status status = file->vfs->disk->resize(file->vfs->disk->context, file->file, (uint64_t)size, &err);
    if (status != DW_OK) return vfs_note(file->vfs, &err, SQLITE_IOERR_TRUNCATE);
    if (file->is_log) file->vfs->log_bytes = (uint64_t)size;
    return SQLITE_OK;
}

static dw_status sync_vfs_file(vfs_file *file, dw_error *err) {
    dw_store_vfs *vfs = file->vfs;
    if (atomic_load(vfs->poisoned)) return dw_fail(err, DW_E_STATE, "a sync has failed: nothing is written any more");
    dw_status status = vfs->disk->sync(vfs->disk->context, file->file, err);
    if (status == DW_OK && file->name_unsynced) status = vfs->disk->sync_folder(vfs->disk->context, vfs->folder, err);
    if (status == DW_OK) file->name_unsynced = false;
    else atomic_store(vfs->poisoned, true);
    return status;
}

static int vfs_sync(sqlite3_file *base, int flags) {
    vfs_file *file = (vfs_file *)base;
    dw_error err;
    (void)flags;
    return sync_vfs_file(file, &err) == DW_OK ? SQLITE_OK : vfs_note(file->vfs, &err, SQLITE_IOERR_FSYNC);
}

static int vfs_size(sqlite3_file *base, sqlite3_int64 *size) {
    vfs_file *file = (vfs_file *)base;
    dw_error err;
    uint64_t bytes = 0;
    dw_status status = file->vfs->disk->size(file->vfs->disk->context, file->file, &bytes, &err);
    *size = (sqlite3_int64)bytes;
    return status == DW_OK ? SQLITE_OK : vfs_note(file->vfs, &err, SQLITE_IOERR_FSTAT);
}

static int vfs_lock(sqlite3_file *base, int level) {
    (void)base, (void)level;
    return SQLITE_OK;
}

static int vfs_check_lock(sqlite3_file *base, int *out) {
    (void)base;
    *out = 0;
    return SQLITE_OK;
}

static int vfs_control(sqlite3_file *base, int operation, void *argument) {
    (void)base, (void)operation, (void)argument;
    return SQLITE_NOTFOUND;
}

static int vfs_sector(sqlite3_file *base) {
    (void)base;
    return VFS_SECTOR_BYTES;
}

/* Bytes beside those that are written stay what they are when power fails: what SQLite assumes of every disk by
 * default. */
static int vfs_character(sqlite3_file *base) {
    (void)base;
    return SQLITE_IOCAP_POWERSAFE_OVERWRITE;
}

static const sqlite3_io_methods vfs_methods = {
    .iVersion = 1,
    .xClose = vfs_close,
    .xRead = vfs_read,
    .xWrite = vfs_write,
    .xTruncate = vfs_truncate,
    .xSync = vfs_sync,
    .xFileSize = vfs_size,
    .xLock = vfs_lock,
    .xUnlock = vfs_lock,
    .xCheckReservedLock = vfs_check_lock,
    .xFileControl = vfs_control,
    .xSectorSize = vfs_sector,
    .xDeviceCharacteristics = vfs_character,
};

/* --- names ------------------------------------------------------------------------------------------------------ */

static int vfs_open(sqlite3_vfs *base, const char *name, sqlite3_file *out, int flags, int *out_flags) {
    dw_store_vfs *vfs = (dw_store_vfs *)base;
    vfs_file *file = (vfs_file *)out;
    dw_error err;
    *file = (vfs_file){.vfs = vfs, .file = DW_OS_FILE_NONE};
    if (!name) return SQLITE_CANTOPEN; /* a temporary file: SQLite was told to keep these in memory */
    dw_status status = vfs->disk->open(vfs->disk->context, name, DW_OS_READ_WRITE, &file->file, &err);
    if (status == DW_E_NOT_FOUND && (flags & SQLITE_OPEN_CREATE))
        status = vfs->disk->open(vfs->disk->context, name, DW_OS_CREATE_NEW, &file->file, &err);
    if (status != DW_OK) return vfs_note(vfs, &err, SQLITE_CANTOPEN);
    /* Also of one that was there: whoever made it may have been killed before its folder was synced. */
    file->name_unsynced = (flags & SQLITE_OPEN_CREATE) != 0;
    file->is_log = (flags & SQLITE_OPEN_WAL) != 0;
    if (file->is_log) {
        uint64_t size = 0;
        status = vfs->disk->size(vfs->disk->context, file->file, &size, &err);
        if (status != DW_OK) {
            vfs->disk->close(vfs->disk->context, &file->file);
            return vfs_note(vfs, &err, SQLITE_CANTOPEN);
        }
        vfs->log = file;
        vfs->log_bytes = size;
    }
    if (out_flags) *out_flags = flags;
    file->base.pMethods = &vfs_methods;
    return SQLITE_OK;
}

static int vfs_delete(sqlite3_vfs *base, const char *name, int sync_folder) {
    dw_store_vfs *vfs = (dw_store_vfs *)base;
    dw_error err;
    if (atomic_load(vfs->poisoned)) return vfs_refuse_poisoned(vfs, SQLITE_IOERR_DELETE);
    dw_status status = vfs->disk->remove(vfs->disk->context, name, &err);
    if (status == DW_E_NOT_FOUND) return SQLITE_IOERR_DELETE_NOENT;
    if (status != DW_OK) return vfs_note(vfs, &err, SQLITE_IOERR_DELETE);
    if (!sync_folder) return SQLITE_OK;
    status = vfs->disk->sync_folder(vfs->disk->context, vfs->folder, &err);
    if (status == DW_OK) return SQLITE_OK;
    atomic_store(vfs->poisoned, true);
    return vfs_note(vfs, &err, SQLITE_IOERR_DIR_FSYNC);
}

static int vfs_access(sqlite3_vfs *base, const char *name, int flags, int *out) {
    dw_store_vfs *vfs = (dw_store_vfs *)base;
    (void)flags;
    *out = vfs->disk->exists(vfs->disk->context, name);
    return SQLITE_OK;
}

static int vfs_full_path(sqlite3_vfs *base, const char *name, int size, char *out) {
    (void)base;
    int used = snprintf(out, (size_t)size, "%s", name);
    return used >= 0 && used < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_random(sqlite3_vfs *base, int size, char *out) {
    (void)base;
    memset(out, 0, (size_t)size);
    return dw_os_random(out, (size_t)size, NULL) == DW_OK ? size : 0;
}

static int vfs_sleep(sqlite3_vfs *base, int microseconds) {
    (void)base;
    dw_os_sleep((uint64_t)microseconds * 1000u);
    return microseconds;
}

static int vfs_time_ms(sqlite3_vfs *base, sqlite3_int64 *out) {
    (void)base;
    /* Milliseconds of the Julian calendar: 1970-01-01 is day 2440587.5. */
    *out = (sqlite3_int64)(dw_os_realtime_ns() / 1000000u) + INT64_C(210866760000000);
    return SQLITE_OK;
}

static int vfs_time(sqlite3_vfs *base, double *out) {
    sqlite3_int64 ms = 0;
    int code = vfs_time_ms(base, &ms);
    *out = (double)ms / 86400000.0;
    return code;
}

static int vfs_last_error(sqlite3_vfs *base, int size, char *out) {
    dw_store_vfs *vfs = (dw_store_vfs *)base;
    if (size > 0) (void)snprintf(out, (size_t)size, "%s", vfs->failed ? vfs->failure.text : "");
    return vfs->failed ? vfs->failure.system_errno : 0;
}

/* --- the whole -------------------------------------------------------------------------------------------------- */

dw_status dw_vfs_create(const dw_store_disk *disk, const char *folder, atomic_bool *poisoned, dw_store_vfs **out,
                        dw_error *err) {
    *out = NULL;
    dw_store_vfs *vfs = calloc(1, sizeof *vfs);
    if (!vfs) return dw_fail(err, DW_E_NO_MEMORY, "no memory for SQLite's files");
    vfs->disk = disk;
    vfs->folder = folder;
    vfs->poisoned = poisoned;
    (void)snprintf(vfs->name, sizeof vfs->name, "driftwood-%" PRIxPTR, (uintptr_t)vfs);
    vfs->base = (sqlite3_vfs){
        .iVersion = 2,
        .szOsFile = (int)sizeof(vfs_file),
        .mxPathname = DW_OS_PATH_BYTES - 1,
        .zName = vfs->name,
        .xOpen = vfs_open,
        .xDelete = vfs_delete,
        .xAccess = vfs_access,
        .xFullPathname = vfs_full_path,
        .xRandomness = vfs_random,
        .xSleep = vfs_sleep,
        .xCurrentTime = vfs_time,
        .xGetLastError = vfs_last_error,
        .xCurrentTimeInt64 = vfs_time_ms,
    };
    int code = sqlite3_vfs_register(&vfs->base, 0);
    if (code != SQLITE_OK) {
        free(vfs);
        return dw_fail(err, code == SQLITE_NOMEM ? DW_E_NO_MEMORY : DW_E_INTERNAL, "SQLite does not start: %s",
                       sqlite3_errstr(code));
    }
    *out = vfs;
    return DW_OK;
}

void dw_vfs_destroy(dw_store_vfs *vfs) {
    if (!vfs) return;
    assert(!vfs->log);
    (void)sqlite3_vfs_unregister(&vfs->base);
    free(vfs);
}

const char *dw_vfs_name(const dw_store_vfs *vfs) { return vfs->name; }
uint64_t dw_vfs_log_bytes(const dw_store_vfs *vfs) { return vfs->log_bytes; }

dw_status dw_vfs_sync_log(dw_store_vfs *vfs, dw_error *err) { return vfs->log ? sync_vfs_file(vfs->log, err) : DW_OK; }

bool dw_vfs_take_failure(dw_store_vfs *vfs, dw_error *err) {
    bool failed = vfs->failed;
    if (failed && err) *err = vfs->failure;
    vfs->failed = false;
    return failed;
}

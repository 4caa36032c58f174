/* simdisk.c: a disk in memory that can lose power. */
#include "store/simdisk.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/test.h"

enum { SECTOR = 512, FILES_MAX = 2048, NAMES_MAX = 128, NAME_OPS_MAX = 1024, NAME_BYTES = 40, HANDLES_MAX = 128 };

typedef struct sim_bytes { uint8_t *data; uint64_t size, capacity; } sim_bytes;

/* A write of `size` bytes; or with no data, a new size of the file (`offset`), or zeros in a range. */
typedef enum sim_op_kind { SIM_WRITE, SIM_RESIZE, SIM_ZERO } sim_op_kind;
typedef struct sim_op { sim_op_kind kind; uint64_t offset, size; uint8_t *data; } sim_op;

typedef struct sim_file {
    sim_bytes cached, kept;
    sim_op *ops;                 /* in the cache and not on the disk */
    size_t n_ops, ops_capacity;
} sim_file;

typedef struct sim_name { char name[NAME_BYTES]; int file; } sim_name;      /* file -1: free */
typedef struct sim_name_op { sim_name entry; bool removed; } sim_name_op;

struct sim_disk {
    dw_store_disk ops;
    uint64_t random, operations, off_at, sync_fails_at, syncs, write_fails_at, writes;
    bool off, keep_all;
    sim_file files[FILES_MAX];
    int n_files;
    sim_name cached[NAMES_MAX], kept[NAMES_MAX];
    sim_name_op name_ops[NAME_OPS_MAX];
    size_t n_name_ops;
    int handles[HANDLES_MAX];    /* file, or -1 */
    bool locked;
};

/* --- bytes ------------------------------------------------------------------------------------------------------- */

static void bytes_resize(sim_bytes *bytes, uint64_t size) {
    if (size > bytes->capacity) {
        bytes->capacity = dw_max_u64(size, 2 * bytes->capacity);
        bytes->data = realloc(bytes->data, (size_t)bytes->capacity);
        assert(bytes->data);
    }
    if (size > bytes->size) memset(bytes->data + bytes->size, 0, (size_t)(size - bytes->size));
    bytes->size = size;
}

static void bytes_apply(sim_bytes *bytes, const sim_op *op, uint64_t from, uint64_t until) {
    if (op->kind == SIM_RESIZE) {
        bytes_resize(bytes, op->offset);
        return;
    }
    if (op->kind == SIM_ZERO) until = dw_min_u64(until, bytes->size > op->offset ? bytes->size - op->offset : 0);
    if (from >= until) return;
    if (op->offset + until > bytes->size) bytes_resize(bytes, op->offset + until);
    if (op->data) memcpy(bytes->data + op->offset + from, op->data + from, (size_t)(until - from));
    else memset(bytes->data + op->offset + from, 0, (size_t)(until - from));
}

static void forget_ops(sim_file *file) {
    for (size_t i = 0; i < file->n_ops; i++) free(file->ops[i].data);
    file->n_ops = 0;
}

/* All that is cached goes to the disk, or what the dice say. */
static void settle_file(sim_disk *sim, sim_file *file, bool all) {
    /* Some losses are heavy, some light: the chance of each change is itself a matter of chance. */
    uint64_t chance = sim->keep_all ? 4 : test_random_below(&sim->random, 5);
    for (size_t i = 0; i < file->n_ops; i++) {
        const sim_op *op = &file->ops[i];
        if (all) {
            bytes_apply(&file->kept, op, 0, op->size);
            continue;
        }
        if (op->kind == SIM_RESIZE) {
            if (test_random_below(&sim->random, 4) < chance) bytes_apply(&file->kept, op, 0, 0);
            continue;
        }
        for (uint64_t at = 0; at < op->size;) {
            /* To the next boundary of sectors. */
            uint64_t until = dw_min_u64(op->size, at + SECTOR - (op->offset + at) % SECTOR);
            if (test_random_below(&sim->random, 4) < chance) bytes_apply(&file->kept, op, at, until);
            at = until;
        }
    }
    forget_ops(file);
}

static void cache_op(sim_file *file, sim_op op) {
    if (file->n_ops == file->ops_capacity) {
        file->ops_capacity = file->ops_capacity ? 2 * file->ops_capacity : 16;
        file->ops = realloc(file->ops, file->ops_capacity * sizeof *file->ops);
        assert(file->ops);
    }
    bytes_apply(&file->cached, &op, 0, op.size);
    file->ops[file->n_ops++] = op;
}

/* --- names ------------------------------------------------------------------------------------------------------- */

static sim_name *find_name(sim_name *names, const char *name) {
    for (int i = 0; i < NAMES_MAX; i++)
        if (names[i].file >= 0 && strcmp(names[i].name, name) == 0) return &names[i];
    return NULL;
}

static void apply_name(sim_name *names, const sim_name_op *op) {
    sim_name *there = find_name(names, op->entry.name);
    if (op->removed) {
        if (there) there->file = -1;
        return;
    }
    for (int i = 0; i < NAMES_MAX && !there; i++)
        if (names[i].file < 0) there = &names[i];
    assert(there);
    *there = op->entry;
}

static void cache_name(sim_disk *sim, const char *name, int file, bool removed) {
    sim_name_op *op = &sim->name_ops[sim->n_name_ops++];
    assert(sim->n_name_ops < NAME_OPS_MAX && strlen(name) < NAME_BYTES);
    *op = (sim_name_op){.removed = removed, .entry = {.file = file}};
    memcpy(op->entry.name, name, strlen(name) + 1);
    apply_name(sim->cached, op);
}

static void settle_names(sim_disk *sim, bool all) {
    uint64_t chance = sim->keep_all ? 4 : test_random_below(&sim->random, 5);
    for (size_t i = 0; i < sim->n_name_ops; i++)
        if (all || test_random_below(&sim->random, 4) < chance) apply_name(sim->kept, &sim->name_ops[i]);
    sim->n_name_ops = 0;
}

/* --- operations -------------------------------------------------------------------------------------------------- */

static dw_status count_operation(sim_disk *sim, dw_error *err) {
    sim->operations++;
    if (sim->off_at && sim->operations >= sim->off_at) sim->off = true;
    return sim->off ? dw_fail(err, DW_E_IO, "the power is off") : DW_OK;
}

static sim_file *file_of(sim_disk *sim, dw_os_file handle) {
    assert(handle.fd >= 0 && handle.fd < HANDLES_MAX && sim->handles[handle.fd] >= 0);
    return &sim->files[sim->handles[handle.fd]];
}

static dw_status sim_make_folders(void *context, const char *path, dw_error *err) {
    (void)path;
    return count_operation(context, err);
}

static dw_status sim_open(void *context, const char *path, dw_os_open_mode mode, dw_os_file *out, dw_error *err) {
    sim_disk *sim = context;
    *out = DW_OS_FILE_NONE;
    dw_status status = count_operation(sim, err);
    if (status != DW_OK) return status;
    sim_name *there = find_name(sim->cached, path);
    int file = there ? there->file : -1;
    if (file >= 0 && mode == DW_OS_CREATE_NEW) return dw_fail(err, DW_E_EXISTS, "%s", path);
    if (file < 0 && (mode == DW_OS_READ || mode == DW_OS_READ_WRITE)) return dw_fail(err, DW_E_NOT_FOUND, "%s", path);
    if (file < 0) {
        file = sim->n_files++;
        assert(sim->n_files <= FILES_MAX);
        cache_name(sim, path, file, false);
    } else if (mode == DW_OS_CREATE_TRUNCATE) {
        cache_op(&sim->files[file], (sim_op){.kind = SIM_RESIZE});
    }
    for (int i = 0; i < HANDLES_MAX; i++) {
        if (sim->handles[i] >= 0) continue;
        sim->handles[i] = file;
        out->fd = i;
        return DW_OK;
    }
    return dw_fail(err, DW_E_SYSTEM, "too many open files");
}

static dw_status sim_lock(void *context, const char *path, dw_os_file *out, dw_error *err) {
    return sim_open(context, path, DW_OS_APPEND, out, err);
}

static void sim_close(void *context, dw_os_file *file) {
    sim_disk *sim = context;
    if (file->fd >= 0) sim->handles[file->fd] = -1;
    file->fd = -1;
}

static dw_status sim_read_at(void *context, dw_os_file handle, uint64_t offset, void *data, size_t size,
                             dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    if (status != DW_OK) return status;
    const sim_bytes *bytes = &file_of(sim, handle)->cached;
    uint64_t there = offset < bytes->size ? dw_min_u64(size, bytes->size - offset) : 0;
    if (there) memcpy(data, bytes->data + offset, (size_t)there);
    return there == size ? DW_OK : dw_fail_at(err, DW_E_TRUNCATED, offset + there, "the file ends");
}

static dw_status sim_write_at(void *context, dw_os_file handle, uint64_t offset, const void *data, size_t size,
                              dw_error *err) {
    sim_disk *sim = context;
    bool was_on = !sim->off;
    sim_file *file = file_of(sim, handle);
    dw_status status = count_operation(sim, err);
    if (!was_on) return status;
    if (sim->write_fails_at && ++sim->writes == sim->write_fails_at) {
        status = dw_fail(err, DW_E_IO, "a write fails");
        if (!sim->keep_all && test_random_below(&sim->random, 2)) return status;
    }
    /* What is on its way when the power fails may arrive too, in parts. */
    uint8_t *copy = malloc(size ? size : 1);
    assert(copy);
    memcpy(copy, data, size);
    cache_op(file, (sim_op){SIM_WRITE, offset, size, copy});
    return status;
}

static dw_status sim_size(void *context, dw_os_file handle, uint64_t *out, dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    *out = status == DW_OK ? file_of(sim, handle)->cached.size : 0;
    return status;
}

static dw_status sim_resize(void *context, dw_os_file handle, uint64_t size, dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    if (status == DW_OK) cache_op(file_of(sim, handle), (sim_op){.kind = SIM_RESIZE, .offset = size});
    return status;
}

static dw_status sim_discard(void *context, dw_os_file handle, uint64_t offset, uint64_t size, dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    if (status == DW_OK) cache_op(file_of(sim, handle), (sim_op){.kind = SIM_ZERO, .offset = offset, .size = size});
    return status;
}

static bool sync_fails(sim_disk *sim) { return sim->sync_fails_at && ++sim->syncs == sim->sync_fails_at; }

static dw_status sim_sync(void *context, dw_os_file handle, dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    if (status != DW_OK) return status;
    bool fails = sync_fails(sim);
    settle_file(sim, file_of(sim, handle), !fails);
    return fails ? dw_fail(err, DW_E_IO, "a sync fails") : DW_OK;
}

static dw_status sim_sync_folder(void *context, const char *folder, dw_error *err) {
    sim_disk *sim = context;
    (void)folder;
    dw_status status = count_operation(sim, err);
    if (status != DW_OK) return status;
    /* Names are in the file system's journal, which stops when it cannot be written: they are not dropped. */
    bool fails = sync_fails(sim);
    if (!fails) settle_names(sim, true);
    return fails ? dw_fail(err, DW_E_IO, "a sync fails") : DW_OK;
}

static dw_status sim_remove(void *context, const char *path, dw_error *err) {
    sim_disk *sim = context;
    dw_status status = count_operation(sim, err);
    if (status != DW_OK) return status;
    if (!find_name(sim->cached, path)) return dw_fail(err, DW_E_NOT_FOUND, "%s", path);
    cache_name(sim, path, -1, true);
    return DW_OK;
}

static bool sim_exists(void *context, const char *path) {
    sim_disk *sim = context;
    return find_name(sim->cached, path) != NULL;
}

static dw_status sim_list(void *context, const char *folder, bool (*each)(void *walk, const char *name), void *walk,
                          dw_error *err) {
    sim_disk *sim = context;
    size_t length = strlen(folder);
    dw_status status = count_operation(sim, err);
    for (int i = 0; i < NAMES_MAX && status == DW_OK; i++) {
        const sim_name *entry = &sim->cached[i];
        if (entry->file < 0 || strncmp(entry->name, folder, length) != 0 || entry->name[length] != '/') continue;
        if (!each(walk, entry->name + length + 1)) break;
    }
    return status;
}

/* --- the whole --------------------------------------------------------------------------------------------------- */

sim_disk *sim_create(uint64_t seed) {
    sim_disk *sim = calloc(1, sizeof *sim);
    assert(sim);
    sim->random = seed;
    sim->ops = (dw_store_disk){.context = sim,
                               .make_folders = sim_make_folders,
                               .lock = sim_lock,
                               .open = sim_open,
                               .close = sim_close,
                               .read_at = sim_read_at,
                               .write_at = sim_write_at,
                               .size = sim_size,
                               .resize = sim_resize,
                               .discard = sim_discard,
                               .sync = sim_sync,
                               .sync_folder = sim_sync_folder,
                               .remove = sim_remove,
                               .exists = sim_exists,
                               .list = sim_list};
    for (int i = 0; i < NAMES_MAX; i++) sim->cached[i].file = sim->kept[i].file = -1;
    for (int i = 0; i < HANDLES_MAX; i++) sim->handles[i] = -1;
    return sim;
}

void sim_destroy(sim_disk *sim) {
    for (int i = 0; i < sim->n_files; i++) {
        forget_ops(&sim->files[i]);
        free(sim->files[i].ops);
        free(sim->files[i].cached.data);
        free(sim->files[i].kept.data);
    }
    free(sim);
}

const dw_store_disk *sim_ops(sim_disk *sim) { return &sim->ops; }
uint64_t sim_operations(const sim_disk *sim) { return sim->operations; }
void sim_lose_power_at(sim_disk *sim, uint64_t k) { sim->off_at = k ? sim->operations + k : 0; }
bool sim_is_off(const sim_disk *sim) { return sim->off; }

void sim_fail_sync_at(sim_disk *sim, uint64_t k) {
    sim->sync_fails_at = k;
    sim->syncs = 0;
}

void sim_fail_write_at(sim_disk *sim, uint64_t k) {
    sim->write_fails_at = k;
    sim->writes = 0;
}

void sim_keep_all(sim_disk *sim) { sim->keep_all = true; }

void sim_process_ends(sim_disk *sim) {
    for (int i = 0; i < HANDLES_MAX; i++) sim->handles[i] = -1;
}

void sim_power_cycle(sim_disk *sim) {
    sim_process_ends(sim);
    settle_names(sim, false);
    memcpy(sim->cached, sim->kept, sizeof sim->cached);
    for (int i = 0; i < sim->n_files; i++) {
        sim_file *file = &sim->files[i];
        settle_file(sim, file, false);
        bytes_resize(&file->cached, 0);
        bytes_resize(&file->cached, file->kept.size);
        if (file->kept.size) memcpy(file->cached.data, file->kept.data, (size_t)file->kept.size);
    }
    sim->off = false;
    sim->off_at = 0;
}

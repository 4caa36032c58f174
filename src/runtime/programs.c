/* programs.c: the registry of prepared programs, and the folder of their sources. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/runtime_internal.h"

/* --- the registry; the mutex is held ------------------------------------------------------------------------- */

/* Its place, or n_programs. */
static size_t place_of_program(const dw_runtime *runtime, const dw_hash *hash) {
    assert(dw_os_mutex_held(runtime->programs_mutex));
    size_t i = 0;
    while (i < runtime->n_programs && !dw_hash_equal(&dw_program_info_view(runtime->programs[i])->hash, hash)) i++;
    return i;
}

/* Takes the program at this place out; its reference is the caller's. */
static dw_program *forget_program(dw_runtime *runtime, size_t place) {
    dw_program *program = runtime->programs[place];
    runtime->n_programs--;
    memmove(&runtime->programs[place], &runtime->programs[place + 1],
            (runtime->n_programs - place) * sizeof(dw_program *));
    return program;
}

/* The program of this hash, which is the one asked for last from now on; retained. NULL: not here. */
static dw_program *recall_program(dw_runtime *runtime, const dw_hash *hash) {
    size_t place = place_of_program(runtime, hash);
    if (place == runtime->n_programs) return NULL;
    dw_program *program = forget_program(runtime, place);
    runtime->programs[runtime->n_programs++] = program;
    return dw_program_retain(program);
}

static dw_program *known_program(dw_runtime *runtime, const dw_hash *hash) {
    dw_os_mutex_lock(runtime->programs_mutex);
    dw_program *known = recall_program(runtime, hash);
    dw_os_mutex_unlock(runtime->programs_mutex);
    return known;
}

/* Takes *program over into the registry and gives it back as the caller's too; or, when somebody else has prepared the
 * same meanwhile, gives that one instead. */
static void register_program(dw_runtime *runtime, dw_program **program) {
    dw_program *dropped = NULL;
    dw_os_mutex_lock(runtime->programs_mutex);
    dw_program *known = recall_program(runtime, &dw_program_info_view(*program)->hash);
    if (known) {
        dropped = *program;
        *program = known;
    } else {
        if (runtime->n_programs == DW_RUNTIME_PROGRAMS_MAX) dropped = forget_program(runtime, 0);
        runtime->programs[runtime->n_programs++] = dw_program_retain(*program);
    }
    dw_os_mutex_unlock(runtime->programs_mutex);
    dw_program_release(dropped);
}

/* --- sources ------------------------------------------------------------------------------------------------- */

static void program_path(const dw_runtime *runtime, const dw_hash *hash, char *out, size_t size) {
    char hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, hex);
    snprintf(out, size, "%s/programs/%s.wasm", runtime->cache_folder, hex);
}

static dw_status prepare_source(dw_runtime *runtime, const char *path, const uint8_t *source, size_t size,
                                dw_program **out, dw_error *err) {
    dw_hash hash;
    dw_status status = dw_hash_of(source, size, &hash);
    if (status != DW_OK) return dw_fail(err, status, "%s: hashing failed", path);
    *out = known_program(runtime, &hash);
    if (*out) return DW_OK;
    status = dw_program_prepare(runtime->wasm, source, size, out, err);
    if (status != DW_OK) return dw_error_prefix(err, status, "%s", path);
    register_program(runtime, out);
    return DW_OK;
}

/* Not being able to keep a copy is no reason not to run; a later thaw then asks for --program. */
static void keep_source(const dw_runtime *runtime, const dw_hash *hash, const uint8_t *source, size_t size) {
    char kept[700];
    dw_error ignored;
    program_path(runtime, hash, kept, sizeof kept);
    if (dw_os_exists(kept) || dw_os_write_file(kept, source, size, &ignored) == DW_OK) return;
    dw_log(DW_LOG_WARN, "program_not_kept", "path=%s reason=%s", kept, ignored.text);
}

dw_status dw_runtime_load_program(dw_runtime *runtime, const char *path, dw_program **out, dw_error *err) {
    uint8_t *source = NULL;
    size_t size = 0;
    *out = NULL;
    dw_status status = dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, &source, &size, err);
    if (status == DW_OK) status = prepare_source(runtime, path, source, size, out, err);
    if (status == DW_OK) keep_source(runtime, &dw_program_info_view(*out)->hash, source, size);
    free(source);
    return status;
}

dw_status dw_runtime_adopt_program(dw_runtime *runtime, const void *source, size_t size, const char *whence,
                                   dw_program **out, dw_error *err) {
    dw_status status = prepare_source(runtime, whence, source, size, out, err);
    if (status == DW_OK) keep_source(runtime, &dw_program_info_view(*out)->hash, source, size);
    return status;
}

dw_status dw_runtime_program_source(const dw_runtime *runtime, const dw_hash *hash, uint8_t **out, size_t *size,
                                    dw_error *err) {
    char path[700];
    dw_hash actual;
    program_path(runtime, hash, path, sizeof path);
    *out = NULL;
    dw_status status = dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, out, size, err);
    if (status == DW_OK) status = dw_hash_of(*out, *size, &actual);
    if (status == DW_OK && !dw_hash_equal(&actual, hash))
        status = dw_fail(err, DW_E_HASH, "%s does not have the content its name says", path);
    if (status == DW_OK) return DW_OK;
    free(*out);
    *out = NULL;
    *size = 0;
    return status;
}

dw_status dw_runtime_find_program(dw_runtime *runtime, const dw_hash *hash, dw_program **out, dw_error *err) {
    char path[700], hex[DW_HASH_HEX_BYTES];
    uint8_t *source = NULL;
    size_t size = 0;
    *out = known_program(runtime, hash);
    if (*out) return DW_OK;
    program_path(runtime, hash, path, sizeof path);
    dw_hash_hex(hash, hex);
    if (!dw_os_exists(path)) {
        return dw_fail(err, DW_E_NOT_FOUND,
                       "the program with SHA-256 %.16s... was never run here: name its .wasm file with --program", hex);
    }
    dw_status status = dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, &source, &size, err);
    if (status == DW_OK) status = prepare_source(runtime, path, source, size, out, err);
    free(source);
    if (status != DW_OK) return status;
    if (dw_hash_equal(&dw_program_info_view(*out)->hash, hash)) return DW_OK;
    dw_program_release(*out);
    *out = NULL;
    return dw_fail(err, DW_E_HASH, "%s does not have the content its name says", path);
}

dw_status dw_runtime_remove_program(dw_runtime *runtime, const dw_hash *hash, dw_error *err) {
    dw_os_mutex_lock(runtime->programs_mutex);
    size_t place = place_of_program(runtime, hash);
    dw_program *removed = place < runtime->n_programs ? forget_program(runtime, place) : NULL;
    dw_os_mutex_unlock(runtime->programs_mutex);
    if (!removed) return dw_fail(err, DW_E_NOT_FOUND, "no such program is registered");
    dw_program_release(removed);
    return DW_OK;
}

void dw_runtime_drop_programs(dw_runtime *runtime) {
    for (size_t i = 0; i < runtime->n_programs; i++) dw_program_release(runtime->programs[i]);
    runtime->n_programs = 0;
}

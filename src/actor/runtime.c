/* runtime.c: the process's engine for programs, its models, its devices. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

static dw_status make_cache_folders(dw_runtime *runtime, const char *folder, dw_error *err) {
    if (folder) {
        int length = snprintf(runtime->cache_folder, sizeof runtime->cache_folder, "%s", folder);
        if (length < 0 || (size_t)length >= sizeof runtime->cache_folder) return dw_fail(err, DW_E_LIMIT, "the cache folder's name is too long");
    } else {
        dw_status status = dw_os_cache_folder(runtime->cache_folder, sizeof runtime->cache_folder, err);
        if (status != DW_OK) return status;
    }
    char programs[600];
    snprintf(programs, sizeof programs, "%s/programs", runtime->cache_folder);
    return dw_os_make_folders(programs, err);
}

dw_status dw_runtime_create(const dw_runtime_options *options, dw_runtime **out, dw_error *err) {
    *out = NULL;
    dw_runtime *runtime = calloc(1, sizeof *runtime);
    if (!runtime) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a runtime");
    runtime->threads = options->threads;
    runtime->model_options = (dw_model_options){.context_tokens = options->context_tokens, .sessions_max = options->sessions_max,
                                                .kv_type = options->kv_type, .repack = options->repack, .kv_bytes_max = options->kv_bytes_max};
    snprintf(runtime->device_name, sizeof runtime->device_name, "%s", options->device ? options->device : "cpu");
    atomic_init(&runtime->next_owner, DW_OWNERS_END);
    dw_status status = make_cache_folders(runtime, options->cache_folder, err);
    if (status == DW_OK) status = dw_os_mutex_create(&runtime->models_mutex, err);
    if (status == DW_OK) status = dw_os_mutex_create(&runtime->compute_mutex, err);
    /* Now, and not at the first commit: there a descriptor that is missing would fail a turn. */
    if (status == DW_OK) status = dw_page_store_create(&runtime->pages, err);
    if (status == DW_OK) {
        dw_wasm_engine_options wasm = {.cache_folder = runtime->cache_folder};
        status = dw_wasm_engine_create(&wasm, &runtime->wasm, err);
    }
    compute_device *first = NULL;
    if (status == DW_OK) status = dw_runtime_compute_device(runtime, NULL, 0, &first, err);
    if (status == DW_OK) runtime->device = first->device;
    if (status != DW_OK) {
        dw_runtime_destroy(runtime);
        return status;
    }
    *out = runtime;
    return DW_OK;
}


static void close_compute(compute_device *compute) {
    dw_device_close(compute->device);
    if (compute->mutex) dw_os_mutex_destroy(compute->mutex);
    *compute = (compute_device){0};
}

void dw_runtime_destroy(dw_runtime *runtime) {
    if (!runtime) return;
    dw_engine_destroy(runtime->engine);
    for (size_t i = 0; i < runtime->n_models; i++) dw_model_close(runtime->models[i].model);
    dw_device_close(runtime->engine_device);
    for (size_t i = 0; i < runtime->n_compute; i++) close_compute(&runtime->compute[i]);
    dw_wasm_engine_destroy(runtime->wasm);
    dw_page_store_destroy(runtime->pages);
    if (runtime->models_mutex) dw_os_mutex_destroy(runtime->models_mutex);
    if (runtime->compute_mutex) dw_os_mutex_destroy(runtime->compute_mutex);
    free(runtime);
}

dw_device *dw_runtime_device(dw_runtime *runtime) { return runtime->device; }

/* --- models -------------------------------------------------------------------------------------------------- */

dw_status dw_runtime_owner(dw_runtime *runtime, uint64_t wanted, uint64_t *out, dw_error *err) {
    if (wanted >= DW_OWNERS_END) return dw_fail(err, DW_E_RANGE, "an owner's number is below 2^63");
    *out = wanted != 0 ? wanted : atomic_fetch_add(&runtime->next_owner, 1);
    return DW_OK;
}

size_t dw_runtime_n_models(dw_runtime *runtime) {
    dw_os_mutex_lock(runtime->models_mutex);
    size_t n = runtime->n_models;
    dw_os_mutex_unlock(runtime->models_mutex);
    return n;
}

runtime_model *dw_runtime_find_model(dw_runtime *runtime, const char *name, size_t length) {
    size_t n = dw_runtime_n_models(runtime);
    if (length == 0) return n ? &runtime->models[0] : NULL;
    for (size_t i = 0; i < n; i++) {
        const char *own = runtime->models[i].name;
        if (strlen(own) == length && memcmp(own, name, length) == 0) return &runtime->models[i];
    }
    return NULL;
}

dw_model *dw_runtime_model(dw_runtime *runtime, const char *name) {
    runtime_model *found = dw_runtime_find_model(runtime, name, name ? strlen(name) : 0);
    return found ? found->model : NULL;
}

/* One engine for all models, with a device of its own: a device is used by one thread. */
static dw_status start_engine(dw_runtime *runtime, dw_error *err) {
    if (runtime->engine) return DW_OK;
    dw_device_options device = {.threads = runtime->threads};
    dw_status status = runtime->engine_device ? DW_OK : dw_device_open(runtime->device_name, &device, &runtime->engine_device, err);
    return status == DW_OK ? dw_engine_create(runtime->engine_device, &runtime->engine, err) : status;
}

static dw_status check_addition(dw_runtime *runtime, const char *name, size_t length, dw_error *err) {
    if (dw_runtime_n_models(runtime) == MODELS_MAX) return dw_fail(err, DW_E_LIMIT, "%d models are open already", MODELS_MAX);
    if (dw_runtime_find_model(runtime, name, length)) return dw_fail(err, DW_E_EXISTS, "a model named '%s' is open already", name);
    return DW_OK;
}

/* Somebody else may have added one while this one was being opened. */
static dw_status publish(dw_runtime *runtime, const runtime_model *model, dw_error *err) {
    dw_status status = DW_OK;
    dw_os_mutex_lock(runtime->models_mutex);
    for (size_t i = 0; i < runtime->n_models && status == DW_OK; i++) {
        if (strcmp(runtime->models[i].name, model->name) == 0) status = dw_fail(err, DW_E_EXISTS, "a model named '%s' is open already", model->name);
    }
    if (status == DW_OK && runtime->n_models == MODELS_MAX) status = dw_fail(err, DW_E_LIMIT, "%d models are open already", MODELS_MAX);
    if (status == DW_OK) runtime->models[runtime->n_models++] = *model;
    dw_os_mutex_unlock(runtime->models_mutex);
    return status;
}

dw_status dw_runtime_add_model(dw_runtime *runtime, const char *name, const char *path, dw_error *err) {
    size_t length = strlen(name);
    if (length == 0 || length >= MODEL_NAME_BYTES) return dw_fail(err, DW_E_INVALID, "a model's name has 1 to %d bytes", MODEL_NAME_BYTES - 1);
    dw_status status = check_addition(runtime, name, length, err);
    if (status != DW_OK) return status;
    runtime_model model = {0};
    memcpy(model.name, name, length + 1);
    dw_os_mutex_lock(runtime->models_mutex);
    status = start_engine(runtime, err);
    dw_os_mutex_unlock(runtime->models_mutex);
    if (status == DW_OK) status = dw_model_open(path, runtime->engine_device, &runtime->model_options, &model.model, err);
    if (status == DW_OK) status = publish(runtime, &model, err);
    if (status != DW_OK) dw_model_close(model.model);
    return status;
}

/* --- devices for the guests' own computations ---------------------------------------------------------------- */

/* The one of this name, opened now if need be. Lock held. */
static dw_status open_compute(dw_runtime *runtime, const char *name, compute_device **out, dw_error *err) {
    for (size_t i = 0; i < runtime->n_compute; i++) {
        *out = &runtime->compute[i];
        if (strcmp((*out)->name, name) == 0) return DW_OK;
    }
    if (runtime->n_compute == COMPUTE_DEVICES_MAX) return dw_fail(err, DW_E_LIMIT, "%d devices are open already", COMPUTE_DEVICES_MAX);
    dw_device_options options = {.threads = runtime->threads};
    compute_device *added = &runtime->compute[runtime->n_compute];
    dw_status status = dw_os_mutex_create(&added->mutex, err);
    if (status == DW_OK) status = dw_device_open(name, &options, &added->device, err);
    if (status != DW_OK) {
        close_compute(added);
        return status;
    }
    snprintf(added->name, sizeof added->name, "%s", name);
    runtime->n_compute++;
    *out = added;
    return DW_OK;
}

dw_status dw_runtime_compute_device(dw_runtime *runtime, const char *name, size_t length, compute_device **out, dw_error *err) {
    char wanted[sizeof runtime->device_name];
    if (length >= sizeof wanted) return dw_fail(err, DW_E_NOT_FOUND, "no device has a name of %zu bytes", length);
    if (length) {
        memcpy(wanted, name, length);
        wanted[length] = '\0';
    } else {
        memcpy(wanted, runtime->device_name, sizeof wanted);
    }
    dw_os_mutex_lock(runtime->compute_mutex);
    dw_status status = open_compute(runtime, wanted, out, err);
    dw_os_mutex_unlock(runtime->compute_mutex);
    return status;
}

/* --- programs ------------------------------------------------------------------------------------------------ */

static void program_path(const dw_runtime *runtime, const dw_hash *hash, char *out, size_t size) {
    char hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, hex);
    snprintf(out, size, "%s/programs/%s.wasm", runtime->cache_folder, hex);
}

static dw_status prepare_file(dw_runtime *runtime, const char *path, uint8_t **source, size_t *size, dw_program **out, dw_error *err) {
    dw_status status = dw_os_read_file(path, DW_PROGRAM_BYTES_MAX, source, size, err);
    if (status != DW_OK) return status;
    status = dw_program_prepare(runtime->wasm, *source, *size, out, err);
    return status == DW_OK ? DW_OK : dw_error_prefix(err, status, "%s", path);
}

dw_status dw_runtime_load_program(dw_runtime *runtime, const char *path, dw_program **out, dw_error *err) {
    uint8_t *source = NULL;
    size_t size = 0;
    dw_status status = prepare_file(runtime, path, &source, &size, out, err);
    if (status == DW_OK) {
        char kept[700];
        program_path(runtime, &dw_program_info_view(*out)->hash, kept, sizeof kept);
        /* Not being able to keep a copy is no reason not to run; a later thaw then asks for --program. */
        dw_error ignored;
        if (!dw_os_exists(kept) && dw_os_write_file(kept, source, size, &ignored) != DW_OK) {
            dw_log(DW_LOG_WARN, "program_not_kept", "path=%s reason=%s", kept, ignored.text);
        }
    }
    free(source);
    return status;
}

dw_status dw_runtime_find_program(dw_runtime *runtime, const dw_hash *hash, dw_program **out, dw_error *err) {
    char path[700], hex[DW_HASH_HEX_BYTES];
    program_path(runtime, hash, path, sizeof path);
    dw_hash_hex(hash, hex);
    *out = NULL;
    if (!dw_os_exists(path)) {
        return dw_fail(err, DW_E_NOT_FOUND, "the program with SHA-256 %.16s... was never run here: name its .wasm file with --program", hex);
    }
    uint8_t *source = NULL;
    size_t size = 0;
    dw_status status = prepare_file(runtime, path, &source, &size, out, err);
    free(source);
    if (status != DW_OK) return status;
    if (dw_hash_equal(&dw_program_info_view(*out)->hash, hash)) return DW_OK;
    dw_program_release(*out);
    *out = NULL;
    return dw_fail(err, DW_E_HASH, "%s does not have the content its name says", path);
}

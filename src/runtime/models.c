/* models.c: the registry of models, and the engine that steps their jobs. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/runtime_internal.h"

/* --- entries ------------------------------------------------------------------------------------------------- */

dw_model_entry *dw_model_entry_retain(dw_model_entry *entry) {
    uint32_t before = atomic_fetch_add(&entry->users, 1);
    assert(before > 0);
    (void)before;
    return entry;
}

void dw_model_entry_release(dw_model_entry *entry) {
    if (!entry || atomic_fetch_sub(&entry->users, 1) != 1) return;
    dw_model_close(entry->model);
    free(entry);
}

/* --- the table; the mutex is held ---------------------------------------------------------------------------- */

/* Its place, or n_models. */
static size_t place_of_model(const dw_runtime *runtime, const char *name, size_t length) {
    assert(dw_os_mutex_held(runtime->models_mutex));
    size_t i = 0;
    while (i < runtime->n_models) {
        const char *own = runtime->models[i]->name;
        if (strlen(own) == length && memcmp(own, name, length) == 0) break;
        i++;
    }
    return i;
}

static dw_status may_add_model(const dw_runtime *runtime, const char *name, dw_error *err) {
    if (place_of_model(runtime, name, strlen(name)) < runtime->n_models) {
        return dw_fail(err, DW_E_EXISTS, "a model named '%s' is open already", name);
    }
    if (runtime->n_models == DW_RUNTIME_MODELS_MAX)
        return dw_fail(err, DW_E_LIMIT, "%u models are open already", DW_RUNTIME_MODELS_MAX);
    return DW_OK;
}

/* One engine for all models, with a device of its own: a device is used by one thread. */
static dw_status start_model_engine(dw_runtime *runtime, dw_error *err) {
    assert(dw_os_mutex_held(runtime->models_mutex));
    if (runtime->engine) return DW_OK;
    dw_device_options device = {.threads = runtime->threads};
    dw_status status = DW_OK;
    if (!runtime->engine_device) status = dw_device_open(runtime->device_name, &device, &runtime->engine_device, err);
    return status == DW_OK ? dw_engine_create(runtime->engine_device, &runtime->engine, err) : status;
}

/* --- adding, removing, finding ------------------------------------------------------------------------------- */

dw_status dw_runtime_add_model(dw_runtime *runtime, const char *name, const char *path, dw_error *err) {
    size_t length = strlen(name);
    if (length == 0 || length > DW_MODEL_NAME_BYTES_MAX) {
        return dw_fail(err, DW_E_INVALID, "a model's name has 1 to %u bytes", DW_MODEL_NAME_BYTES_MAX);
    }
    dw_os_mutex_lock(runtime->models_mutex);
    dw_status status = may_add_model(runtime, name, err);
    if (status == DW_OK) status = start_model_engine(runtime, err);
    dw_os_mutex_unlock(runtime->models_mutex);
    if (status != DW_OK) return status;
    dw_model_entry *entry = calloc(1, sizeof *entry);
    if (!entry) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a model");
    memcpy(entry->name, name, length + 1);
    atomic_init(&entry->users, 1);
    entry->engine = runtime->engine;
    status = dw_model_open(path, runtime->engine_device, &runtime->model_options, &entry->model, err);
    if (status == DW_OK) {
        dw_os_mutex_lock(runtime->models_mutex);
        status = may_add_model(runtime, name, err); /* somebody else may have added one meanwhile */
        if (status == DW_OK) runtime->models[runtime->n_models++] = entry;
        dw_os_mutex_unlock(runtime->models_mutex);
    }
    if (status != DW_OK) dw_model_entry_release(entry);
    return status;
}

dw_status dw_runtime_remove_model(dw_runtime *runtime, const char *name, dw_error *err) {
    dw_model_entry *removed = NULL;
    dw_os_mutex_lock(runtime->models_mutex);
    size_t place = place_of_model(runtime, name, strlen(name));
    if (place < runtime->n_models) {
        removed = runtime->models[place];
        runtime->n_models--;
        memmove(&runtime->models[place], &runtime->models[place + 1],
                (runtime->n_models - place) * sizeof(dw_model_entry *));
    }
    dw_os_mutex_unlock(runtime->models_mutex);
    if (!removed) return dw_fail(err, DW_E_NOT_FOUND, "no model named '%s' is open", name);
    dw_model_entry_release(removed);
    return DW_OK;
}

dw_model_entry *dw_runtime_take_model(dw_runtime *runtime, const char *name, size_t length) {
    dw_os_mutex_lock(runtime->models_mutex);
    size_t place = length ? place_of_model(runtime, name, length) : 0;
    dw_model_entry *found = place < runtime->n_models ? dw_model_entry_retain(runtime->models[place]) : NULL;
    dw_os_mutex_unlock(runtime->models_mutex);
    return found;
}

size_t dw_runtime_take_models(dw_runtime *runtime, dw_model_entry *out[DW_RUNTIME_MODELS_MAX]) {
    dw_os_mutex_lock(runtime->models_mutex);
    size_t n = runtime->n_models;
    for (size_t i = 0; i < n; i++) out[i] = dw_model_entry_retain(runtime->models[i]);
    dw_os_mutex_unlock(runtime->models_mutex);
    return n;
}

dw_model *dw_runtime_model(dw_runtime *runtime, const char *name) {
    dw_model_entry *found = dw_runtime_take_model(runtime, name, name ? strlen(name) : 0);
    dw_model *model = found ? found->model : NULL;
    dw_model_entry_release(found);
    return model;
}

void dw_runtime_drop_models(dw_runtime *runtime) {
    dw_engine_destroy(runtime->engine);
    for (size_t i = 0; i < runtime->n_models; i++) {
        assert(atomic_load(&runtime->models[i]->users) == 1);
        dw_model_entry_release(runtime->models[i]);
    }
    dw_device_close(runtime->engine_device);
}

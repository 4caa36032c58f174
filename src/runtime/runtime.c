/* runtime.c: making and unmaking a runtime, and its quotas. The registries are in models.c, devices.c and
 * programs.c. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include "runtime/runtime_internal.h"

static dw_status make_cache_folders(dw_runtime *runtime, const char *folder, dw_error *err) {
    if (folder) {
        int length = snprintf(runtime->cache_folder, sizeof runtime->cache_folder, "%s", folder);
        if (length < 0 || (size_t)length >= sizeof runtime->cache_folder) {
            return dw_fail(err, DW_E_LIMIT, "the cache folder's name is too long");
        }
    } else {
        dw_status status = dw_os_cache_folder(runtime->cache_folder, sizeof runtime->cache_folder, err);
        if (status != DW_OK) return status;
    }
    char programs[600];
    snprintf(programs, sizeof programs, "%s/programs", runtime->cache_folder);
    return dw_os_make_folders(programs, err);
}

static dw_status take_quotas(dw_runtime *runtime, const dw_runtime_options *options, dw_error *err) {
    if (options->actors_max > DW_RUNTIME_ACTORS_MAX) {
        return dw_fail(err, DW_E_RANGE, "a runtime has at most %u actors", DW_RUNTIME_ACTORS_MAX);
    }
    if (options->memory_bytes_max > DW_GUEST_MEMORY_BYTES_MAX) {
        return dw_fail(err, DW_E_RANGE, "an actor's memory has at most %llu bytes",
                       (unsigned long long)DW_GUEST_MEMORY_BYTES_MAX);
    }
    runtime->actors_max = options->actors_max ? options->actors_max : DW_RUNTIME_ACTORS_MAX;
    runtime->memory_bytes_max = options->memory_bytes_max ? options->memory_bytes_max : DW_ACTOR_MEMORY_BYTES;
    return DW_OK;
}

static dw_status make_parts(dw_runtime *runtime, const dw_runtime_options *options, dw_error *err) {
    dw_status status = take_quotas(runtime, options, err);
    if (status == DW_OK) status = make_cache_folders(runtime, options->cache_folder, err);
    if (status == DW_OK) status = dw_os_mutex_create(&runtime->models_mutex, err);
    if (status == DW_OK) status = dw_gate_create(&runtime->devices_gate, err);
    if (status == DW_OK) status = dw_os_mutex_create(&runtime->programs_mutex, err);
    /* Now, and not at the first commit: there a descriptor that is missing would fail a turn. */
    if (status == DW_OK) status = dw_page_store_create(&runtime->pages, err);
    if (status != DW_OK) return status;
    dw_wasm_engine_options wasm = {.cache_folder = runtime->cache_folder,
                                   .compile_limit_ns = options->compile_limit_ns,
                                   .compiling = options->compiling,
                                   .compiling_context = options->compiling_context};
    status = dw_wasm_engine_create(&wasm, &runtime->wasm, err);
    dw_device_entry *first = NULL;
    if (status == DW_OK) status = dw_runtime_take_device(runtime, NULL, NULL, 0, &first, err);
    if (status != DW_OK) return status;
    runtime->device = first->device;
    dw_device_entry_release(first); /* the registry keeps it: rule 2 */
    return DW_OK;
}

dw_status dw_runtime_create(const dw_runtime_options *options, dw_runtime **out, dw_error *err) {
    *out = NULL;
    dw_runtime *runtime = calloc(1, sizeof *runtime);
    if (!runtime) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a runtime");
    runtime->threads = options->threads;
    runtime->model_options = (dw_model_options){.context_tokens = options->context_tokens,
                                                .sessions_max = options->sessions_max,
                                                .kv_type = options->kv_type,
                                                .repack = options->repack,
                                                .kv_bytes_max = options->kv_bytes_max};
    snprintf(runtime->device_name, sizeof runtime->device_name, "%s", options->device ? options->device : "cpu");
    atomic_init(&runtime->next_owner, DW_OWNERS_END);
    dw_status status = make_parts(runtime, options, err);
    if (status == DW_OK) *out = runtime;
    else dw_runtime_destroy(runtime);
    return status;
}

void dw_runtime_destroy(dw_runtime *runtime) {
    if (!runtime) return;
    assert(atomic_load(&runtime->n_actors) == 0);
    dw_runtime_drop_models(runtime);
    dw_runtime_drop_devices(runtime);
    dw_runtime_drop_programs(runtime);
    dw_wasm_engine_destroy(runtime->wasm);
    dw_page_store_destroy(runtime->pages);
    dw_os_mutex_destroy(runtime->models_mutex);
    dw_gate_destroy(runtime->devices_gate);
    dw_os_mutex_destroy(runtime->programs_mutex);
    free(runtime);
}

/* --- quotas -------------------------------------------------------------------------------------------------- */

dw_status dw_runtime_owner(dw_runtime *runtime, uint64_t wanted, uint64_t *out, dw_error *err) {
    if (wanted >= DW_OWNERS_END) return dw_fail(err, DW_E_RANGE, "an owner's number is below 2^63");
    *out = wanted != 0 ? wanted : atomic_fetch_add(&runtime->next_owner, 1);
    return DW_OK;
}

dw_status dw_runtime_admit_actor(dw_runtime *runtime, dw_error *err) {
    if (atomic_fetch_add(&runtime->n_actors, 1) < runtime->actors_max) return DW_OK;
    atomic_fetch_sub(&runtime->n_actors, 1);
    return dw_fail(err, DW_E_LIMIT, "this runtime has its %u actors already", runtime->actors_max);
}

void dw_runtime_dismiss_actor(dw_runtime *runtime) {
    uint32_t before = atomic_fetch_sub(&runtime->n_actors, 1);
    assert(before > 0);
    (void)before;
}

uint64_t dw_runtime_memory_bytes_max(const dw_runtime *runtime) { return runtime->memory_bytes_max; }
dw_page_store *dw_runtime_pages(const dw_runtime *runtime) { return runtime->pages; }

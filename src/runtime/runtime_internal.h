/* runtime_internal.h: what the files of src/runtime share. Nobody else includes it. */
#ifndef DW_RUNTIME_INTERNAL_H
#define DW_RUNTIME_INTERNAL_H

#include "os/os.h"
#include "runtime/runtime.h"

struct dw_runtime {
    /* constant */
    dw_wasm_engine *wasm;
    char device_name[32];
    unsigned threads;
    char cache_folder[512];
    dw_model_options model_options;
    dw_device *device;        /* the default one, for looking at it; of the first entry of `devices` */
    uint64_t memory_bytes_max;
    uint32_t actors_max;
    /* models.c */
    dw_os_mutex *models_mutex;
    dw_device *engine_device; /* the models' */
    dw_engine *engine;
    dw_model_entry *models[DW_RUNTIME_MODELS_MAX]; /* in the order in which they were added */
    size_t n_models;
    /* devices.c */
    dw_gate *devices_gate;
    bool opening_device;      /* some thread opens one */
    dw_device_entry *devices[DW_RUNTIME_DEVICES_MAX];
    size_t n_devices;
    /* programs.c */
    dw_os_mutex *programs_mutex;
    dw_program *programs[DW_RUNTIME_PROGRAMS_MAX]; /* those asked for last behind the others */
    size_t n_programs;

    _Atomic uint64_t next_owner;
    _Atomic uint32_t n_actors;
};

void dw_runtime_drop_models(dw_runtime *runtime);
void dw_runtime_drop_devices(dw_runtime *runtime);
void dw_runtime_drop_programs(dw_runtime *runtime);

#endif

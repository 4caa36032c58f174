/* devices.c: the registry of devices for guests' own computations, and the turn that each of these waits for. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/runtime_internal.h"

/* --- entries ------------------------------------------------------------------------------------------------- */

void dw_device_entry_release(dw_device_entry *entry) {
    if (!entry || atomic_fetch_sub(&entry->users, 1) != 1) return;
    assert(!entry->busy);
    dw_device_close(entry->device);
    dw_gate_destroy(entry->gate);
    free(entry);
}

static bool take_device_turn(void *context) {
    dw_device_entry *entry = context;
    if (entry->busy) return false;
    return entry->busy = true;
}

dw_status dw_device_entry_begin(dw_device_entry *entry, dw_park *park) {
    dw_gate_lock(entry->gate);
    dw_status status = dw_gate_wait(entry->gate, park, take_device_turn, entry);
    dw_gate_unlock(entry->gate);
    return status;
}

void dw_device_entry_end(dw_device_entry *entry) {
    dw_gate_lock(entry->gate);
    assert(entry->busy);
    entry->busy = false;
    dw_gate_wake(entry->gate);
    dw_gate_unlock(entry->gate);
}

static dw_status open_device_entry(const dw_runtime *runtime, const char *name, dw_device_entry **out, dw_error *err) {
    *out = NULL;
    dw_device_entry *entry = calloc(1, sizeof *entry);
    if (!entry) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a device");
    dw_device_options options = {.threads = runtime->threads};
    atomic_init(&entry->users, 1);
    snprintf(entry->name, sizeof entry->name, "%s", name);
    dw_status status = dw_gate_create(&entry->gate, err);
    if (status == DW_OK) status = dw_device_open(name, &options, &entry->device, err);
    if (status == DW_OK) *out = entry;
    else dw_device_entry_release(entry);
    return status;
}

/* --- the table; the gate's lock is held ----------------------------------------------------------------------- */

/* Its place, or n_devices. */
static size_t place_of_device(const dw_runtime *runtime, const char *name) {
    assert(dw_gate_held(runtime->devices_gate));
    size_t i = 0;
    while (i < runtime->n_devices && strcmp(runtime->devices[i]->name, name) != 0) i++;
    return i;
}

typedef struct device_wish {
    dw_runtime *runtime;
    const char *name;
} device_wish;

/* The device is there, or nobody is opening any: then this one begins to. */
static bool device_is_there_or_ours_to_open(void *context) {
    const device_wish *wish = context;
    if (place_of_device(wish->runtime, wish->name) < wish->runtime->n_devices) return true;
    if (wish->runtime->opening_device) return false;
    return wish->runtime->opening_device = true;
}

/* Opens the device that this thread has begun to open. The lock is released meanwhile, because opening may take a
 * second. */
static dw_status open_device_for_all(dw_runtime *runtime, const char *name, dw_error *err) {
    dw_device_entry *entry = NULL;
    dw_status status = DW_OK;
    if (runtime->n_devices == DW_RUNTIME_DEVICES_MAX) {
        status = dw_fail(err, DW_E_LIMIT, "%u devices are open already", DW_RUNTIME_DEVICES_MAX);
    } else {
        dw_gate_unlock(runtime->devices_gate);
        status = open_device_entry(runtime, name, &entry, err);
        dw_gate_lock(runtime->devices_gate);
    }
    if (status == DW_OK) runtime->devices[runtime->n_devices++] = entry;
    runtime->opening_device = false;
    dw_gate_wake(runtime->devices_gate);
    return status;
}

static dw_status find_or_open_device(dw_runtime *runtime, dw_park *park, const char *name, dw_device_entry **out,
                                     dw_error *err) {
    device_wish wish = {.runtime = runtime, .name = name};
    dw_status status = dw_gate_wait(runtime->devices_gate, park, device_is_there_or_ours_to_open, &wish);
    if (status != DW_OK) return dw_fail(err, status, "the turn ended before device %s was open", name);
    if (place_of_device(runtime, name) == runtime->n_devices) status = open_device_for_all(runtime, name, err);
    if (status != DW_OK) return status;
    *out = runtime->devices[place_of_device(runtime, name)];
    atomic_fetch_add(&(*out)->users, 1);
    return DW_OK;
}

/* --- taking, removing ---------------------------------------------------------------------------------------- */

dw_status dw_runtime_take_device(dw_runtime *runtime, dw_park *park, const char *name, size_t length,
                                 dw_device_entry **out, dw_error *err) {
    char wanted[sizeof runtime->device_name];
    *out = NULL;
    if (length >= sizeof wanted) return dw_fail(err, DW_E_NOT_FOUND, "no device has a name of %zu bytes", length);
    if (length) {
        memcpy(wanted, name, length);
        wanted[length] = '\0';
    } else {
        memcpy(wanted, runtime->device_name, sizeof wanted);
    }
    dw_gate_lock(runtime->devices_gate);
    dw_status status = find_or_open_device(runtime, park, wanted, out, err);
    dw_gate_unlock(runtime->devices_gate);
    return status;
}

dw_status dw_runtime_remove_device(dw_runtime *runtime, const char *name, dw_error *err) {
    dw_device_entry *removed = NULL;
    if (strcmp(name, runtime->device_name) == 0)
        return dw_fail(err, DW_E_BUSY, "%s is the default device of this runtime", name);
    dw_gate_lock(runtime->devices_gate);
    size_t place = place_of_device(runtime, name);
    if (place < runtime->n_devices) {
        removed = runtime->devices[place];
        runtime->devices[place] = runtime->devices[--runtime->n_devices];
    }
    dw_gate_unlock(runtime->devices_gate);
    if (!removed) return dw_fail(err, DW_E_NOT_FOUND, "no device named '%s' is open", name);
    dw_device_entry_release(removed);
    return DW_OK;
}

dw_device *dw_runtime_device(dw_runtime *runtime) { return runtime->device; }

void dw_runtime_drop_devices(dw_runtime *runtime) {
    for (size_t i = 0; i < runtime->n_devices; i++) {
        assert(atomic_load(&runtime->devices[i]->users) == 1);
        dw_device_entry_release(runtime->devices[i]);
    }
}

/* runtime.h: what the actors of a process share: the engine for programs, the engine for models, and three registries.
 *
 *   runtime    one per process, usually; any number of actors live in it
 *   registry   programs by their hash, models and devices by their name; entries come and go while actors run
 *   entry      a model or a device with a count of its users: the registry is one, each session, request or computation
 *              another
 *   quota      a bound of the runtime on what its actors may take together, or each
 *
 * Rules
 * 1. A model or device that is removed leaves its table at once: who asks for the name from then on gets DW_E_NOT_FOUND
 *    (of a device: it is opened anew), and the name is free. It is closed when its last user lets it go; nobody is
 *    interrupted.
 * 2. The default model is the one that was added first of those that are there. The default device cannot be removed
 *    (DW_E_BUSY).
 * 3. A program is prepared once: whoever asks for the same source gets the same dw_program. When the registry is full,
 *    it forgets the program that was asked for longest ago; those who use it keep it.
 * 4. Reaching a quota refuses with DW_E_LIMIT and changes nothing. A guest that grows beyond its actor's memory gets -1
 *    from memory.grow.
 * Threads: every function by any thread. A runtime is destroyed after all its actors.
 */
#ifndef DW_RUNTIME_RUNTIME_H
#define DW_RUNTIME_RUNTIME_H

#include <stdatomic.h>
#include "base/base.h"
#include "device/device.h"
#include "model/engine/engine.h"
#include "model/model.h"
#include "park/park.h"
#include "region/page_store.h"
#include "wasm/wasm.h"

typedef struct dw_runtime dw_runtime;

typedef struct dw_runtime_options {
    const char *device;        /* "cpu", "vulkan", ...; NULL = "cpu" */
    unsigned threads;          /* of the device; 0 = all */
    const char *cache_folder;  /* compiled programs, program sources by hash; NULL = dw_os_cache_folder */
    uint32_t context_tokens, sessions_max; /* of each model; 0 = the model module's defaults */
    bool repack;               /* dw_model_options.repack, of each model */
    uint64_t kv_bytes_max;     /* of each model's KV rows; 0 = no bound */
    dw_kv_type kv_type;        /* of each model's KV rows */
    uint32_t actors_max;       /* that live at the same time; 0 = DW_RUNTIME_ACTORS_MAX, which is also the most */
    uint64_t memory_bytes_max; /* of each actor's linear memory; 0 = DW_ACTOR_MEMORY_BYTES */
    uint64_t compile_limit_ns; /* to compile a program; 0 = DW_COMPILE_NS, UINT64_MAX = none */
    /* As in dw_wasm_engine_options; NULL = nobody is told. */
    void (*compiling)(void *context, size_t bytes, dw_status ended);
    void *compiling_context;
} dw_runtime_options;

dw_status dw_runtime_create(const dw_runtime_options *options, dw_runtime **out, dw_error *err) DW_MUST_USE;
void dw_runtime_destroy(dw_runtime *runtime);

/* --- models -------------------------------------------------------------------------------------------------- */

/* Opens a model. `name` is what guests open it by. DW_E_EXISTS, DW_E_LIMIT. Blocks while the file is opened. */
dw_status dw_runtime_add_model(dw_runtime *runtime, const char *name, const char *path, dw_error *err) DW_MUST_USE;
/* Rule 1. */
dw_status dw_runtime_remove_model(dw_runtime *runtime, const char *name, dw_error *err) DW_MUST_USE;
/* NULL name: the default; NULL when there is none. Borrowed, and valid until the model is removed. */
dw_model *dw_runtime_model(dw_runtime *runtime, const char *name);

/* --- devices ------------------------------------------------------------------------------------------------- */

/* The default device, to look at. Borrowed. */
dw_device *dw_runtime_device(dw_runtime *runtime);
/* Rules 1 and 2. A device is opened when a guest first computes on it. */
dw_status dw_runtime_remove_device(dw_runtime *runtime, const char *name, dw_error *err) DW_MUST_USE;

/* --- programs ------------------------------------------------------------------------------------------------ */

/* Prepares the program at `path` and keeps its source in the cache folder under its hash, so that a checkpoint finds it
 * later. DW_E_DEADLINE, DW_E_BUSY: it compiles for too long (dw_program_prepare). *out is the caller's:
 * dw_program_release. */
dw_status dw_runtime_load_program(dw_runtime *runtime, const char *path, dw_program **out, dw_error *err) DW_MUST_USE;
/* The program with this hash, from the registry or the cache folder; DW_E_NOT_FOUND says what to do. *out is the
 * caller's. */
dw_status dw_runtime_find_program(dw_runtime *runtime, const dw_hash *hash, dw_program **out,
                                  dw_error *err) DW_MUST_USE;
/* The program with this source, which is kept as by dw_runtime_load_program; `whence` names it in errors. *out is the
 * caller's. */
dw_status dw_runtime_adopt_program(dw_runtime *runtime, const void *source, size_t size, const char *whence,
                                   dw_program **out, dw_error *err) DW_MUST_USE;
/* The kept source of a program, malloc'ed; DW_E_NOT_FOUND when the cache folder has none. */
dw_status dw_runtime_program_source(const dw_runtime *runtime, const dw_hash *hash, uint8_t **out, size_t *size,
                                    dw_error *err) DW_MUST_USE;
/* The registry lets it go; its users keep it. DW_E_NOT_FOUND. */
dw_status dw_runtime_remove_program(dw_runtime *runtime, const dw_hash *hash, dw_error *err) DW_MUST_USE;

/* --- for the door and for actors ----------------------------------------------------------------------------- */

/* A model with its users counted. */
typedef struct dw_model_entry {
    char name[DW_MODEL_NAME_BYTES_MAX + 1];
    dw_model *model;
    dw_engine *engine;       /* that steps its jobs; borrowed */
    _Atomic uint32_t users;  /* the registry's */
} dw_model_entry;

/* The model of this name (not NUL-terminated; length 0: the default), to be released; NULL: there is none. */
dw_model_entry *dw_runtime_take_model(dw_runtime *runtime, const char *name, size_t length);
/* All models, the default first, each to be released. Returns how many. */
size_t dw_runtime_take_models(dw_runtime *runtime, dw_model_entry *out[DW_RUNTIME_MODELS_MAX]);
dw_model_entry *dw_model_entry_retain(dw_model_entry *entry);
void dw_model_entry_release(dw_model_entry *entry); /* NULL is a no-op. The last one closes the model */

/* A device for guests' own computations, with its users counted. One computes at a time. */
typedef struct dw_device_entry {
    char name[32];
    dw_device *device;
    dw_gate *gate;
    bool busy;               /* under the gate's lock */
    _Atomic uint32_t users;
} dw_device_entry;

/* The device of this name (length 0: the default), opened now if need be, to be released. DW_E_NOT_FOUND, DW_E_LIMIT.
 * While another thread opens a device the turn waits at `park` (NULL: a thread that runs no turn): DW_E_CANCELLED,
 * DW_E_DEADLINE when it ends first. */
dw_status dw_runtime_take_device(dw_runtime *runtime, dw_park *park, const char *name, size_t length,
                                 dw_device_entry **out, dw_error *err) DW_MUST_USE;
void dw_device_entry_release(dw_device_entry *entry); /* NULL is a no-op */
/* Waits at `park` until nobody else computes on it: DW_E_CANCELLED, DW_E_DEADLINE when the turn ends first. */
dw_status dw_device_entry_begin(dw_device_entry *entry, dw_park *park) DW_MUST_USE;
void dw_device_entry_end(dw_device_entry *entry);

/* Numbers from here on are given to actors without an owner. */
#define DW_OWNERS_END (UINT64_C(1) << 63)
/* Of an actor: what its options say, or an owner of its own. */
dw_status dw_runtime_owner(dw_runtime *runtime, uint64_t wanted, uint64_t *out, dw_error *err) DW_MUST_USE;
/* An actor more, against the quota; and one less. */
dw_status dw_runtime_admit_actor(dw_runtime *runtime, dw_error *err) DW_MUST_USE;
void dw_runtime_dismiss_actor(dw_runtime *runtime);
uint64_t dw_runtime_memory_bytes_max(const dw_runtime *runtime);
/* Where the committed pages of all its actors lie. */
dw_page_store *dw_runtime_pages(const dw_runtime *runtime);

#endif

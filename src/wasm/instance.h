/* instance.h: what an instance is, for instance.c and host.c. Internal to src/wasm. */
#ifndef DW_WASM_INSTANCE_H
#define DW_WASM_INSTANCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <wasmtime.h>
#include "wasm/abort.h"
#include "wasm/guest_memory.h"
#include "wasm/segments.h"
#include "wasm/tables.h"
#include "wasm/wasi.h"
#include "wasm/wasm.h"

enum { DW_NO_DEADLINE_TICKS = 1 << 30 }; /* added to the present tick: must not overflow */

struct dw_instance {
    dw_program *program;             /* retained */
    wasmtime_store_t *store;         /* Wasmtime's half; its data pointer is the instance */
    wasmtime_context_t *context;
    wasmtime_instance_t wasm;
    wasmtime_global_t *globals;      /* [info.n_globals - info.n_drops] */
    dw_segment_access *segments;     /* [info.n_drops] */
    dw_instance_tables_state tables; /* those that the code changes */
    wasmtime_func_t receive;         /* where the program has one */
    dw_guest_memory memory;
    dw_wasi wasi;
    dw_enter_function enter;
    void *enter_context;
    atomic_bool interrupted;
    uint64_t deadline_ns;            /* of the running call */
    dw_status ending;                /* why the host ends the running call; DW_OK = it does not */
    char abort_text[DW_ABORT_TEXT_BYTES]; /* where `ending` is DW_E_TRAP */
    bool in_call;
    bool spoiled;                    /* a call did not return: the memory is in the middle of something */
};

/* For host functions: ends the guest's call with `status`. The trap is to be returned to Wasmtime. */
wasm_trap_t *dw_instance_stop(dw_instance *instance, dw_status status);

#endif

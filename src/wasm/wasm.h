/* wasm.h: programs, their instances, and the only way from a guest pointer to host memory.
 *
 *   engine    the process's compiler and its cache of compiled code (Wasmtime)
 *   program   a prepared module, immutable and shared; its identity is the SHA-256 of the *source* .wasm
 *   image     everything that makes an instance what it is between two calls: memory extents, globals, tables, WASI
 *             state
 *   instance  a program with a memory of its own (a dw_region) at a call boundary or inside a call
 *
 * Rules
 * 1. Every instantiation is a restore (I3): a fresh instance is the restore of the program's image 0. Nothing but the
 *    image writes guest memory before the first call. `dw_instance_initialize` then runs the program's start function,
 *    if it had one, and `_initialize` (or the linker's `__wasm_call_ctors`); an instance that is restored from a later
 *    image must not be initialised again.
 * 2. What cannot be restored is refused when prepared, with the reason (prepare.h lists the conditions).
 * 3. Compiled code is a cache, made by this process's user in the cache folder and bound to engine version, settings,
 *    processor and program hash; it is never taken from a checkpoint or any other outside source.
 * 4. Guest memory is read and written only through dw_guest_view/read/write (guest_memory.c). A view is valid until the
 *    guest runs again or the memory grows.
 * 5. A guest can end in many ways (return, trap, exit, interrupt); none of them harms another instance or the process.
 *    After anything but a return the instance's memory is in the middle of a call: drop it and restore the last image
 *    (I2). Such an instance refuses further calls with DW_E_STATE; its memory and globals can still be read. A call
 *    that was refused before it began (interrupted or out of time already) has changed nothing.
 * Threads: engine and program may be used by any thread at once. An instance belongs to one thread at a time, except
 * dw_instance_interrupt, which any thread may call. The thread that calls into a guest needs DW_WORKER_STACK_BYTES of
 * stack (the main thread's 8 MiB are enough).
 */
#ifndef DW_WASM_WASM_H
#define DW_WASM_WASM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/base.h"
#include "region/region.h"

/* --- engine -------------------------------------------------------------------------------------------------- */

typedef struct dw_wasm_engine dw_wasm_engine;

typedef struct dw_wasm_engine_options {
    const char *cache_folder; /* for compiled code; NULL = no cache */
    uint32_t tick_ms;         /* period of the interruption clock; 0 = 10 */
    /* Tells that a caller's thread waits for a module of so many bytes to be compiled, and with 0 bytes that it waits
     * no more and how that ended. NULL = nobody is told. */
    void (*compiling)(void *context, size_t bytes, dw_status ended);
    void *compiling_context;
    uint64_t compile_limit_ns; /* one that compiles for longer is given up; 0 = DW_COMPILE_NS, UINT64_MAX = none */
} dw_wasm_engine_options;

dw_status dw_wasm_engine_create(const dw_wasm_engine_options *options, dw_wasm_engine **out, dw_error *err) DW_MUST_USE;
/* After all its programs and instances. Does not wait for compiles that were given up; these end by themselves. */
void dw_wasm_engine_destroy(dw_wasm_engine *engine);

/* --- programs ------------------------------------------------------------------------------------------------ */

typedef struct dw_program dw_program;

/* Validates, rewrites (prepare.h, with what is refused and why) and compiles a module, or takes the compiled code from
 * the cache. `wasm` is only read. Blocks: compiling takes about a second for 3 MB; from the cache, milliseconds.
 * DW_E_DEADLINE: compiling takes longer than the engine's limit. It goes on without anybody who waits, and the next
 * attempt finds what it made; meanwhile the program can be asked for again, which waits for it again. DW_E_BUSY:
 * DW_COMPILES_GIVEN_UP_MAX programs were given up like that and are not done. */
dw_status dw_program_prepare(dw_wasm_engine *engine, const void *wasm, size_t size, dw_program **out,
                             dw_error *err) DW_MUST_USE;
dw_program *dw_program_retain(dw_program *program);
void dw_program_release(dw_program *program);

typedef enum dw_value_type { DW_VALUE_I32 = 0, DW_VALUE_I64, DW_VALUE_F32, DW_VALUE_F64, DW_VALUE_V128 } dw_value_type;
typedef struct dw_value { uint8_t type; uint8_t bits[16]; } dw_value; /* little-endian; unused bytes zero */

typedef struct dw_program_info {
    dw_hash hash;                     /* SHA-256 of the source .wasm */
    uint64_t source_bytes;
    uint64_t image_bytes;             /* memory of image 0: initial pages */
    uint64_t memory_max_bytes;        /* declared maximum, or DW_GUEST_MEMORY_BYTES_MAX */
    uint32_t n_globals;               /* mutable ones, then segments that are dropped: the order of dw_image.globals */
    uint32_t n_drops;                 /* those of them that are segments: an i32 each, 1 = dropped */
    uint32_t n_tables;                /* those that the code changes: the order of dw_image.tables */
    bool has_receive;                 /* exports driftwood_receive: () -> i32 */
    bool has_start_command;           /* exports _start: a WASI command */
    bool has_initialize;              /* exports _initialize or, without that, __wasm_call_ctors: () -> () */
    bool imports_enter;
    bool from_cache;                  /* compiled code was found */
    uint32_t advice;                  /* DW_ADVICE_*: what its author should know before it goes wrong */
} dw_program_info;

/* How the module was linked makes it fragile. Bits; each with a sentence and what mends it (prepare_advice.h). */
enum {
    DW_ADVICE_STACK_ABOVE_DATA = 1u << 0, /* a stack overflow writes over the data instead of trapping */
    DW_ADVICE_WRAPPED = 1u << 1,          /* driftwood_receive may run constructors with each message */
    DW_ADVICE_ALL = (1u << 2) - 1
};
const char *dw_advice_text(uint32_t bit);

const dw_program_info *dw_program_info_view(const dw_program *program);
/* Where the memory of image 0 has content: ascending; what lies between and behind is zeros. Borrowed. */
const dw_extent *dw_program_image0(const dw_program *program, size_t *n);

/* --- WASI preview 1: virtual and serialisable ------------------------------------------------------------------ */

/* Clock and random depend on this state only. realtime = turn_realtime_ns + n_clock_reads * 1 us: set by
 * dw_wasi_begin_turn once per turn, strictly increasing inside one and never going back from one to the next. monotonic
 * (and processor time) = realtime - birth_realtime_ns + 1 ns. A guest that sleeps does not wait: turn_realtime_ns jumps
 * forward to the moment. Random bytes are SHA-256(seed, counter), SHA-256(seed, counter + 1), ...; each random_get
 * begins a new block of 32 bytes. */
typedef struct dw_wasi_state {
    uint8_t random_seed[32];
    uint64_t random_counter;
    uint64_t birth_realtime_ns;
    uint64_t turn_realtime_ns;
    uint64_t n_clock_reads;   /* within the turn */
} dw_wasi_state;

/* What the next look at the real-time clock will show. */
uint64_t dw_wasi_now(const dw_wasi_state *state);
/* Sets the clock at the beginning of a turn: to `realtime_ns`, or to dw_wasi_now where the guest's time is already
 * ahead of that. */
void dw_wasi_begin_turn(dw_wasi_state *state, uint64_t realtime_ns);

typedef struct dw_wasi_options {
    const char *const *arguments;   /* argv, NULL-terminated; copied at instance creation */
    const char *const *environment; /* "NAME=value", NULL-terminated; copied */
    /* stdout (1) and stderr (2). NULL = discarded. The bytes are valid during the call only. */
    dw_status (*write)(void *context, int stream, const void *data, size_t size);
    /* stdin: gives up to `capacity` bytes; 0 = end of input. NULL = always at its end. */
    size_t (*read)(void *context, void *data, size_t capacity);
    void *context;
} dw_wasi_options;

/* --- guest memory: the only file that turns guest pointers into host pointers ------------------------------------- */

typedef struct dw_guest_memory dw_guest_memory; /* of the instance that is calling; borrowed inside a host call */

/* Host address of [pointer, +length) if it lies inside the guest's memory and `pointer` is a multiple of `align` (1, 2,
 * 4, 8, ..., page); else DW_E_RANGE or DW_E_INVALID. length 0 is allowed anywhere inside or at the end. */
dw_status dw_guest_view(const dw_guest_memory *memory, uint32_t pointer, uint64_t length, uint32_t align,
                        void **out) DW_MUST_USE;
/* Copies out of and into guest memory. What is decided on is always decided on such a copy (I5). */
dw_status dw_guest_read(const dw_guest_memory *memory, uint32_t pointer, void *out, uint64_t length) DW_MUST_USE;
dw_status dw_guest_write(const dw_guest_memory *memory, uint32_t pointer, const void *data,
                         uint64_t length) DW_MUST_USE;
uint64_t dw_guest_size(const dw_guest_memory *memory);
/* The region, for lending windows; its offsets are guest pointers. */
dw_region *dw_guest_region(const dw_guest_memory *memory);

/* --- instances ----------------------------------------------------------------------------------------------- */

typedef struct dw_instance dw_instance;

/* The door `driftwood.enter`, called on the guest's thread, which waits in it. Returns the value for the guest. To end
 * the guest's call instead (cancelled, out of time), set *stop to a negative status (it comes as DW_OK): the call ends
 * with it and the returned value is not used. A function that waits looks at dw_instance_interrupted; an interruption
 * that comes while it works ends the call when it returns. It must not call into the same instance (DW_E_STATE). */
typedef int32_t (*dw_enter_function)(void *context, dw_guest_memory *memory, uint32_t requests, uint32_t n_requests,
                                     uint32_t completions, uint32_t capacity, uint32_t wait, int64_t deadline_ns,
                                     dw_status *stop);

/* A table of functions: their indices in the module, -1 = null. */
typedef struct dw_table_view { const int32_t *elements; uint32_t n_elements; } dw_table_view;

typedef struct dw_image {
    /* [n_memory] ascending, page-aligned, without gaps from offset 0; backings are retained by the instance. */
    const dw_extent *memory;
    size_t n_memory;
    const dw_region_fill *fills; /* [n_fills] read into the extents once these are mapped: then the instance's own */
    size_t n_fills;
    uint64_t memory_bytes;    /* size of the memory, a multiple of 64 KiB */
    const dw_value *globals;  /* [n_globals] in the program's order */
    size_t n_globals;
    /* [n_tables] in the program's order. Untrusted: DW_E_CORRUPT for what the program cannot have made. */
    const dw_table_view *tables;
    size_t n_tables;
    dw_wasi_state wasi;
} dw_image;

typedef struct dw_instance_options {
    const dw_image *image;          /* NULL: image 0 with `wasi_state` */
    dw_wasi_state wasi_state;       /* used when image is NULL */
    dw_wasi_options wasi;
    dw_enter_function enter;        /* NULL: every enter gives DW_E_UNSUPPORTED */
    void *enter_context;
    uint64_t memory_bytes_max;      /* lower than the program's own: memory.grow fails beyond; 0 = the program's */
} dw_instance_options;

dw_status dw_instance_create(dw_program *program, const dw_instance_options *options, dw_instance **out,
                             dw_error *err) DW_MUST_USE;
void dw_instance_destroy(dw_instance *instance); /* not inside a call; no window may be lent */

/* How a call into the guest ended, beside its status: DW_OK returned; DW_E_TRAP; DW_E_EXIT (proc_exit, see exit_code);
 * DW_E_CANCELLED / DW_E_DEADLINE (interrupted or out of time), or the status an enter function stopped it with. */
typedef struct dw_call_result { int32_t value; int32_t exit_code; } dw_call_result;

/* Runs what a fresh instance owes: the original start function, then `_initialize` or, without that,
 * `__wasm_call_ctors`. */
dw_status dw_instance_initialize(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result,
                                 dw_error *err) DW_MUST_USE;
/* One turn: `driftwood_receive`. deadline_ns: on dw_os_monotonic_ns, UINT64_MAX = none. */
dw_status dw_instance_receive(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result,
                              dw_error *err) DW_MUST_USE;
/* A command's `_start`. */
dw_status dw_instance_start_command(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result,
                                    dw_error *err) DW_MUST_USE;
/* Any exported function without parameters and with at most one i32 result: for tests and tools. */
dw_status dw_instance_call(dw_instance *instance, const char *name, uint64_t deadline_ns, dw_call_result *result,
                           dw_error *err) DW_MUST_USE;
/* Makes the running call end with DW_E_CANCELLED soon: within two ticks while guest code runs. When none is running, or
 * the one that is ends by itself before it is noticed, the next call ends so before it begins. Any thread. */
void dw_instance_interrupt(dw_instance *instance);
bool dw_instance_interrupted(const dw_instance *instance);

dw_program *dw_instance_program(const dw_instance *instance); /* borrowed */
dw_region *dw_instance_region(const dw_instance *instance);
dw_guest_memory *dw_instance_memory(dw_instance *instance);   /* for the host between calls; borrowed */
uint64_t dw_instance_memory_bytes(const dw_instance *instance);
/* Reads the globals and what is dropped, [n_globals] in the program's order. Where the code drops segments, not inside
 * a call. */
dw_status dw_instance_globals(const dw_instance *instance, dw_value *out, size_t n, dw_error *err) DW_MUST_USE;
/* Reads the tables that the code changes into one block: *out [*n] in the program's order and the elements behind it;
 * free(*out). NULL and 0 for a program without such tables. Costs about 20 ns an element. */
dw_status dw_instance_tables(dw_instance *instance, dw_table_view **out, size_t *n, dw_error *err) DW_MUST_USE;
/* A copy of such tables, in one block again. DW_E_NO_MEMORY. */
dw_status dw_tables_copy(const dw_table_view *tables, size_t n, dw_table_view **out) DW_MUST_USE;
/* Between calls: dw_wasi_begin_turn at each turn; part of an image. */
dw_wasi_state *dw_instance_wasi(dw_instance *instance);

#endif

/* instance.c: restoring instances from images, and calls into them. The only file that knows how a guest is run and how
 * it waits: here, by blocking its thread. */
#include "wasm/instance.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/engine.h"
#include "wasm/memory_creator.h"
#include "wasm/program.h"

/* --- images ------------------------------------------------------------------------------------------------------ */

static dw_status check_image_extent(const dw_extent *extent, uint64_t expected_offset, uint64_t memory_bytes,
                                    dw_error *err) {
    uint64_t page = dw_os_page_bytes();
    if (extent->offset != expected_offset || extent->size == 0 ||
        ((extent->size | extent->backing_offset) & (page - 1)) != 0)
        return dw_fail_at(err, DW_E_INVALID, extent->offset,
                          "the extents of an image do not follow each other in whole pages");
    if (!dw_in_range(extent->offset, extent->size, memory_bytes))
        return dw_fail_at(err, DW_E_RANGE, extent->offset, "an extent of an image ends behind its memory");
    /* A guest that meets a page it may not write, or one behind the end of a file, would take the process with it. */
    if (extent->mode == DW_EXTENT_READ_ONLY)
        return dw_fail_at(err, DW_E_INVALID, extent->offset, "an extent of an image is read-only");
    if (extent->backing && !dw_in_range(extent->backing_offset, extent->size, dw_backing_size(extent->backing)))
        return dw_fail_at(err, DW_E_RANGE, extent->offset, "an extent of an image lies outside its backing object");
    return DW_OK;
}

static dw_status check_image(const dw_program *program, const dw_image *image, dw_error *err) {
    const dw_program_info *info = &program->info;
    if (image->memory_bytes % DW_WASM_PAGE_BYTES != 0 || image->memory_bytes < info->image_bytes ||
        image->memory_bytes > info->memory_max_bytes)
        return dw_fail(err, DW_E_MISMATCH, "an image of %llu bytes is not one of this program's: it has %llu to %llu",
                       (unsigned long long)image->memory_bytes, (unsigned long long)info->image_bytes,
                       (unsigned long long)info->memory_max_bytes);
    uint64_t at = 0;
    for (size_t i = 0; i < image->n_memory; i++) {
        dw_status status = check_image_extent(&image->memory[i], at, image->memory_bytes, err);
        if (status != DW_OK) return status;
        at += image->memory[i].size;
    }
    for (size_t i = 0; i < image->n_fills; i++)
        if (!dw_in_range(image->fills[i].offset, image->fills[i].size, at))
            return dw_fail_at(err, DW_E_RANGE, image->fills[i].offset, "bytes of an image lie outside its extents");
    if (image->n_globals != info->n_globals)
        return dw_fail(err, DW_E_MISMATCH, "the image has %zu globals, the program %u", image->n_globals,
                       (unsigned)info->n_globals);
    for (size_t i = 0; i < image->n_globals; i++)
        if (image->globals[i].type != program->global_types[i])
            return dw_fail(err, DW_E_MISMATCH, "global %zu of the image has another type than the program's", i);
    dw_status status = dw_segments_check(program, image, err);
    return status == DW_OK ? dw_tables_check(program, image, err) : status;
}

/* The image that the options ask for: theirs, or number 0. */
static dw_image choose_image(const dw_program *program, const dw_instance_options *options) {
    if (options->image) return *options->image;
    return (dw_image){.memory = program->image0.extents, .n_memory = program->image0.n_extents,
                      .memory_bytes = program->info.image_bytes, .wasi = options->wasi_state};
}

static dw_status map_image(dw_instance *instance, const dw_image *image, dw_error *err) {
    const dw_region_options options = {.reserve_bytes = DW_GUEST_RESERVATION_BYTES,
                                       .guard_bytes = DW_GUEST_GUARD_BYTES};
    dw_status status = dw_region_create(&options, &instance->memory.region, err);
    for (size_t i = 0; status == DW_OK && i < image->n_memory; i++)
        status = dw_region_map(instance->memory.region, &image->memory[i], false, err);
    if (status == DW_OK && dw_region_size(instance->memory.region) < image->memory_bytes)
        status = dw_region_grow(instance->memory.region, image->memory_bytes, err);
    for (size_t i = 0; status == DW_OK && i < image->n_fills; i++)
        status = dw_region_fill_in(instance->memory.region, &image->fills[i], err);
    return status;
}

/* --- globals ----------------------------------------------------------------------------------------------------- */

static wasmtime_val_t to_wasmtime(const dw_value *value) {
    static const wasmtime_valkind_t kinds[] = {[DW_VALUE_I32] = WASMTIME_I32,
                                               [DW_VALUE_I64] = WASMTIME_I64,
                                               [DW_VALUE_F32] = WASMTIME_F32,
                                               [DW_VALUE_F64] = WASMTIME_F64,
                                               [DW_VALUE_V128] = WASMTIME_V128};
    wasmtime_val_t out;
    memset(&out, 0, sizeof out);
    out.kind = kinds[value->type];
    /* Bits, not numbers: a NaN keeps its payload. */
    memcpy(&out.of, value->bits, sizeof value->bits);
    return out;
}

static dw_value from_wasmtime(const wasmtime_val_t *value, uint8_t type) {
    static const uint8_t sizes[] = {
        [DW_VALUE_I32] = 4, [DW_VALUE_I64] = 8, [DW_VALUE_F32] = 4, [DW_VALUE_F64] = 8, [DW_VALUE_V128] = 16};
    dw_value out = {.type = type};
    memcpy(out.bits, &value->of, sizes[type]);
    return out;
}

static dw_status find_globals(dw_instance *instance, dw_error *err) {
    uint32_t n = instance->program->info.n_globals - instance->program->info.n_drops;
    instance->globals = calloc((size_t)n + 1, sizeof *instance->globals);
    if (!instance->globals) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u globals", (unsigned)n);
    for (uint32_t i = 0; i < n; i++) {
        char name[DW_NAME_NUMBERED_BYTES];
        wasmtime_extern_t item;
        int length = snprintf(name, sizeof name, DW_NAME_GLOBAL "%u", (unsigned)i);
        if (!wasmtime_instance_export_get(instance->context, &instance->wasm, name, (size_t)length, &item))
            return dw_fail(err, DW_E_INTERNAL, "global %u is not exported", (unsigned)i);
        assert(item.kind == WASMTIME_EXTERN_GLOBAL);
        instance->globals[i] = item.of.global;
        wasmtime_extern_delete(&item);
    }
    return DW_OK;
}

static dw_status restore_globals(dw_instance *instance, const dw_image *image, dw_error *err) {
    size_t n = image->n_globals > 0 ? image->n_globals - instance->program->info.n_drops : 0; /* image 0: as they are */
    for (size_t i = 0; i < n; i++) {
        wasmtime_val_t value = to_wasmtime(&image->globals[i]);
        wasmtime_error_t *error = wasmtime_global_set(instance->context, &instance->globals[i], &value);
        if (error) return dw_engine_fail(err, DW_E_INTERNAL, "a global cannot be restored", error);
    }
    return DW_OK;
}

dw_status dw_instance_globals(const dw_instance *instance, dw_value *out, size_t n, dw_error *err) {
    size_t n_mutable = instance->program->info.n_globals - instance->program->info.n_drops;
    if (n != instance->program->info.n_globals)
        return dw_fail(err, DW_E_INVALID, "the program has %u globals, not %zu",
                       (unsigned)instance->program->info.n_globals, n);
    for (size_t i = 0; i < n_mutable; i++) {
        wasmtime_val_t value;
        wasmtime_global_get(instance->context, &instance->globals[i], &value);
        out[i] = from_wasmtime(&value, instance->program->global_types[i]);
    }
    return dw_segments_read(instance, out + n_mutable, err);
}

/* --- how a call ends --------------------------------------------------------------------------------------------- */

static const char *trap_text(wasmtime_trap_code_t code) {
    switch (code) {
    case WASMTIME_TRAP_CODE_STACK_OVERFLOW: return "stack overflow";
    case WASMTIME_TRAP_CODE_MEMORY_OUT_OF_BOUNDS: return "memory access out of bounds";
    case WASMTIME_TRAP_CODE_HEAP_MISALIGNED: return "misaligned memory access";
    case WASMTIME_TRAP_CODE_TABLE_OUT_OF_BOUNDS: return "table access out of bounds";
    case WASMTIME_TRAP_CODE_INDIRECT_CALL_TO_NULL: return "indirect call of a null function";
    case WASMTIME_TRAP_CODE_BAD_SIGNATURE: return "indirect call with a wrong signature";
    case WASMTIME_TRAP_CODE_INTEGER_OVERFLOW: return "integer overflow";
    case WASMTIME_TRAP_CODE_INTEGER_DIVISION_BY_ZERO: return "integer division by zero";
    case WASMTIME_TRAP_CODE_BAD_CONVERSION_TO_INTEGER: return "float is no integer";
    case WASMTIME_TRAP_CODE_UNREACHABLE_CODE_REACHED: return "unreachable code (abort)";
    case WASMTIME_TRAP_CODE_NULL_REFERENCE: return "null reference";
    default: return "trap";
    }
}

/* "in NAME" or "in function N" of the innermost frame. The name is the guest's. */
static void describe_place(const wasm_trap_t *trap, char *out, size_t out_size) {
    wasm_frame_t *frame = wasm_trap_origin(trap);
    out[0] = '\0';
    if (!frame) return;
    const wasm_name_t *name = wasmtime_frame_func_name(frame);
    if (name && name->size > 0) {
        char text[DW_NAME_TEXT_BYTES];
        dw_span span = {.data = (const uint8_t *)name->data, .size = name->size};
        snprintf(out, out_size, " in %s", dw_span_text(&span, text));
    } else {
        snprintf(out, out_size, " in function %u", (unsigned)wasm_frame_func_index(frame));
    }
    wasm_frame_delete(frame);
}

static dw_status end_by_host(dw_instance *instance, dw_call_result *result, dw_error *err) {
    dw_status ending = instance->ending;
    switch (ending) {
    case DW_E_EXIT:
        result->exit_code = instance->wasi.exit_code;
        return dw_fail(err, ending, "the guest ended itself with exit code %d", (int)result->exit_code);
    case DW_E_CANCELLED:
        atomic_store(&instance->interrupted, false);
        return dw_fail(err, ending, "the call was interrupted");
    case DW_E_DEADLINE: return dw_fail(err, ending, "the call ran over its deadline");
    case DW_E_TRAP: return dw_fail(err, ending, "the guest trapped: %s", instance->abort_text);
    default: return dw_fail(err, ending, "the call was stopped: %s", dw_status_text(ending));
    }
}

/* Whether the call ended with an exception that nothing caught, which is then gone. */
static bool take_exception(dw_instance *instance) {
    wasmtime_exnref_t exception;
    if (!wasmtime_context_take_exception(instance->context, &exception)) return false;
    wasmtime_exnref_unroot(&exception);
    return true;
}

/* Takes over trap and error, at most one of which is set. A trap made by a host function comes back as an error. */
static dw_status end_badly(dw_instance *instance, wasm_trap_t *trap, wasmtime_error_t *error, dw_call_result *result,
                           dw_error *err) {
    dw_status status;
    wasmtime_trap_code_t code;
    char place[DW_NAME_TEXT_BYTES + 16];
    bool uncaught = take_exception(instance), full = dw_memory_creator_heap_was_full();
    if (instance->ending != DW_OK) {
        status = end_by_host(instance, result, err);
    } else if (trap) {
        describe_place(trap, place, sizeof place);
        const char *text = wasmtime_trap_code(trap, &code) ? trap_text(code) : "trap";
        if (uncaught) text = "an exception that nothing caught";
        status = dw_fail(err, DW_E_TRAP, "the guest trapped: %s%s", text, place);
    } else if (full) {
        status = dw_fail(err, DW_E_TRAP, "the guest trapped: more than %llu MiB of exceptions at once",
                         (unsigned long long)(DW_GUEST_EXCEPTION_BYTES_MAX >> 20));
    } else {
        return dw_engine_fail(err, DW_E_INTERNAL, "the call failed", error);
    }
    if (trap) wasm_trap_delete(trap);
    if (error) wasmtime_error_delete(error);
    return status;
}

wasm_trap_t *dw_instance_stop(dw_instance *instance, dw_status status) {
    static const char text[] = "stopped by the host";
    instance->ending = status;
    return wasmtime_trap_new(text, sizeof text - 1);
}

/* Called by guest code, at function entries and loop ends, once per tick. */
static wasmtime_error_t *at_tick(wasmtime_context_t *context, void *data, uint64_t *delta,
                                 wasmtime_update_deadline_kind_t *kind) {
    (void)context;
    dw_instance *instance = data;
    if (atomic_load(&instance->interrupted)) instance->ending = DW_E_CANCELLED;
    else if (instance->deadline_ns != UINT64_MAX && dw_os_monotonic_ns() >= instance->deadline_ns)
        instance->ending = DW_E_DEADLINE;
    if (instance->ending != DW_OK) return wasmtime_error_new("stopped by the host");
    *delta = 1;
    *kind = WASMTIME_UPDATE_DEADLINE_CONTINUE;
    return NULL;
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

static dw_status may_call(dw_instance *instance, uint64_t deadline_ns, dw_error *err) {
    if (instance->in_call) return dw_fail(err, DW_E_STATE, "the instance is inside a call");
    if (instance->spoiled)
        return dw_fail(err, DW_E_STATE, "the instance's last call did not return: make another from the last image");
    if (atomic_exchange(&instance->interrupted, false))
        return dw_fail(err, DW_E_CANCELLED, "the call was interrupted before it began");
    if (deadline_ns != UINT64_MAX && dw_os_monotonic_ns() >= deadline_ns)
        return dw_fail(err, DW_E_DEADLINE, "the deadline had passed before the call began");
    return DW_OK;
}

/* Calls a function without parameters and with at most one i32 result. */
static dw_status call_exported(dw_instance *instance, const wasmtime_func_t *function, uint64_t deadline_ns,
                               dw_call_result *result, dw_error *err) {
    dw_status status = may_call(instance, deadline_ns, err);
    if (status != DW_OK) return status;
    wasmtime_val_raw_t value;
    memset(&value, 0, sizeof value);
    wasm_trap_t *trap = NULL;
    instance->deadline_ns = deadline_ns;
    instance->ending = instance->wasi.ending = DW_OK;
    instance->in_call = true;
    wasmtime_context_set_epoch_deadline(instance->context, 1);
    dw_ticker_begin(instance->program->engine->ticker);
    wasmtime_error_t *error = wasmtime_func_call_unchecked(instance->context, function, &value, 1, &trap);
    dw_ticker_end(instance->program->engine->ticker);
    instance->in_call = false;
    if (!error && !trap) {
        result->value = value.i32;
        return DW_OK;
    }
    instance->spoiled = true;
    return end_badly(instance, trap, error, result, err);
}

/* Finds an exported function () -> () or () -> i32; anything else must not be called unchecked. */
static dw_status find_exported_function(dw_instance *instance, const char *name, wasmtime_func_t *out, dw_error *err) {
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->wasm, name, strlen(name), &item))
        return dw_fail(err, DW_E_NOT_FOUND, "the program has no export %s", name);
    bool fits = item.kind == WASMTIME_EXTERN_FUNC;
    if (fits) {
        wasm_functype_t *type = wasmtime_func_type(instance->context, &item.of.func);
        const wasm_valtype_vec_t *results = wasm_functype_results(type);
        fits = wasm_functype_params(type)->size == 0 && results->size <= 1 &&
               (results->size == 0 || wasm_valtype_kind(results->data[0]) == WASM_I32);
        wasm_functype_delete(type);
        *out = item.of.func;
    }
    wasmtime_extern_delete(&item);
    return fits ? DW_OK : dw_fail(err, DW_E_INVALID, "the export %s is not a function () -> () or () -> i32", name);
}

dw_status dw_instance_call(dw_instance *instance, const char *name, uint64_t deadline_ns, dw_call_result *result,
                           dw_error *err) {
    wasmtime_func_t function;
    *result = (dw_call_result){0};
    if (instance->in_call) return dw_fail(err, DW_E_STATE, "the instance is inside a call");
    dw_status status = find_exported_function(instance, name, &function, err);
    return status == DW_OK ? call_exported(instance, &function, deadline_ns, result, err) : status;
}

dw_status dw_instance_initialize(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result, dw_error *err) {
    dw_status status = DW_OK;
    *result = (dw_call_result){0};
    if (instance->program->has_start) status = dw_instance_call(instance, DW_NAME_START, deadline_ns, result, err);
    const char *initialize = instance->program->initialize;
    if (status == DW_OK && initialize) status = dw_instance_call(instance, initialize, deadline_ns, result, err);
    return status;
}

dw_status dw_instance_receive(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result, dw_error *err) {
    *result = (dw_call_result){0};
    if (!instance->program->info.has_receive)
        return dw_fail(err, DW_E_NOT_FOUND, "the program has no export driftwood_receive: it is not an actor");
    return call_exported(instance, &instance->receive, deadline_ns, result, err);
}

dw_status dw_instance_start_command(dw_instance *instance, uint64_t deadline_ns, dw_call_result *result,
                                    dw_error *err) {
    return dw_instance_call(instance, "_start", deadline_ns, result, err);
}

void dw_instance_interrupt(dw_instance *instance) { atomic_store(&instance->interrupted, true); }

bool dw_instance_interrupted(const dw_instance *instance) { return atomic_load(&instance->interrupted); }

/* --- creation ---------------------------------------------------------------------------------------------------- */

static dw_status instantiate(dw_instance *instance, dw_error *err) {
    instance->store = wasmtime_store_new(instance->program->engine->engine, instance, NULL);
    if (!instance->store) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an instance");
    instance->context = wasmtime_store_context(instance->store);
    wasmtime_store_epoch_deadline_callback(instance->store, at_tick, instance, NULL);
    /* Negative: as it is without a limiter. Memory has its limit in dw_guest_memory. */
    if (instance->program->info.n_tables > 0)
        wasmtime_store_limiter(instance->store, -1, DW_PROGRAM_TABLE_ELEMENTS_MAX, -1, -1, -1);
    /* Code that fills globals and tables runs now, and looks at the clock like any other. A new store's deadline has
     * passed. */
    wasmtime_context_set_epoch_deadline(instance->context, DW_NO_DEADLINE_TICKS);
    wasm_trap_t *trap = NULL;
    dw_memory_creator_offer(&instance->memory);
    wasmtime_error_t *error = wasmtime_instance_pre_instantiate(instance->program->pre, instance->context,
                                                                &instance->wasm, &trap);
    bool taken = dw_memory_creator_withdraw();
    if (error) return dw_engine_fail(err, DW_E_INTERNAL, "the program cannot be instantiated", error);
    if (trap) {
        wasm_trap_delete(trap);
        return dw_fail(err, DW_E_INVALID,
                       "the program traps when it is instantiated: an element segment does not fit its table");
    }
    return taken ? DW_OK : dw_fail(err, DW_E_INTERNAL, "the program has not taken its memory");
}

/* I1, checked at every instantiation: what the guest addresses is the region. */
static dw_status check_identity(dw_instance *instance, dw_error *err) {
    wasmtime_extern_t item;
    if (!wasmtime_instance_export_get(instance->context, &instance->wasm, DW_NAME_MEMORY, sizeof DW_NAME_MEMORY - 1,
                                      &item))
        return dw_fail(err, DW_E_INTERNAL, "the memory is not exported");
    assert(item.kind == WASMTIME_EXTERN_MEMORY);
    bool same = wasmtime_memory_data(instance->context, &item.of.memory) == dw_region_base(instance->memory.region) &&
                wasmtime_memory_data_size(instance->context, &item.of.memory) ==
                    dw_region_size(instance->memory.region);
    wasmtime_extern_delete(&item);
    return same ? DW_OK : dw_fail(err, DW_E_INTERNAL, "the guest's memory is not the region it was given");
}

static dw_status build_instance(dw_instance *instance, const dw_instance_options *options, const dw_image *image,
                                dw_error *err) {
    dw_status status = dw_wasi_init(&instance->wasi, &options->wasi, &image->wasi, err);
    if (status == DW_OK) status = map_image(instance, image, err);
    if (status == DW_OK) status = instantiate(instance, err);
    if (status == DW_OK) status = check_identity(instance, err);
    if (status == DW_OK) status = find_globals(instance, err);
    if (status == DW_OK) status = dw_segments_find(instance, err);
    if (status == DW_OK) status = restore_globals(instance, image, err);
    /* Image 0: tables as the element segments left them, nothing dropped. */
    if (status == DW_OK && options->image) status = dw_tables_restore(instance, image, err);
    if (status == DW_OK && options->image) status = dw_segments_restore(instance, image, err);
    if (status == DW_OK && instance->program->info.has_receive)
        status = find_exported_function(instance, "driftwood_receive", &instance->receive, err);
    return status;
}

dw_status dw_instance_create(dw_program *program, const dw_instance_options *options, dw_instance **out,
                             dw_error *err) {
    *out = NULL;
    uint64_t bytes_max = program->info.memory_max_bytes;
    if (options->memory_bytes_max) bytes_max = dw_min_u64(bytes_max, options->memory_bytes_max);
    dw_image image = choose_image(program, options);
    dw_status status = options->image ? check_image(program, &image, err) : DW_OK;
    if (status != DW_OK) return status;
    if (image.memory_bytes > bytes_max)
        return dw_fail(err, DW_E_LIMIT, "the memory has %llu bytes, more than the %llu that this instance may have",
                       (unsigned long long)image.memory_bytes, (unsigned long long)bytes_max);
    dw_instance *instance = calloc(1, sizeof *instance);
    if (!instance) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an instance");
    instance->program = dw_program_retain(program);
    instance->memory.bytes_max = bytes_max;
    instance->enter = options->enter;
    instance->enter_context = options->enter_context;
    instance->deadline_ns = UINT64_MAX;
    atomic_init(&instance->interrupted, false);
    status = build_instance(instance, options, &image, err);
    if (status == DW_OK) *out = instance;
    else dw_instance_destroy(instance);
    return status;
}

void dw_instance_destroy(dw_instance *instance) {
    if (!instance) return;
    assert(!instance->in_call);
    /* Before the region, which its code may address until then. */
    if (instance->store) wasmtime_store_delete(instance->store);
    dw_status status = dw_region_destroy(instance->memory.region);
    assert(status == DW_OK); /* else a window is lent: our caller's bug, and a device may still write to it */
    (void)status;
    dw_wasi_deinit(&instance->wasi);
    free(instance->globals);
    free(instance->segments);
    dw_tables_deinit(&instance->tables);
    dw_program_release(instance->program);
    free(instance);
}

dw_program *dw_instance_program(const dw_instance *instance) { return instance->program; }
dw_region *dw_instance_region(const dw_instance *instance) { return instance->memory.region; }
dw_guest_memory *dw_instance_memory(dw_instance *instance) { return &instance->memory; }
uint64_t dw_instance_memory_bytes(const dw_instance *instance) { return dw_guest_size(&instance->memory); }
dw_wasi_state *dw_instance_wasi(dw_instance *instance) { return &instance->wasi.state; }

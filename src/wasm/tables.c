/* tables.c: see tables.h. */
#include "wasm/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/engine.h"
#include "wasm/instance.h"
#include "wasm/program.h"

enum { NO_FUNCTION = -1 };

/* --- images, untrusted ------------------------------------------------------------------------------------------- */

/* Position of a function among those that tables may hold; n_functions when it is none of them. */
static uint32_t position_of(const dw_program *program, uint32_t index) {
    uint32_t low = 0, high = program->n_functions;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (program->functions[middle] < index) low = middle + 1;
        else high = middle;
    }
    return low < program->n_functions && program->functions[low] == index ? low : program->n_functions;
}

static dw_status check_table(const dw_program *program, size_t i, const dw_table_view *table, dw_error *err) {
    const dw_prepared_table *bounds = &program->tables[i];
    if (table->n_elements < bounds->min || table->n_elements > bounds->max)
        return dw_fail(err, DW_E_CORRUPT, "table %zu of the image has %u elements, the program's has %u to %u", i,
                       (unsigned)table->n_elements, (unsigned)bounds->min, (unsigned)bounds->max);
    for (uint32_t k = 0; k < table->n_elements; k++) {
        int32_t index = table->elements[k];
        if (index == NO_FUNCTION || (index >= 0 && position_of(program, (uint32_t)index) < program->n_functions))
            continue;
        return dw_fail(err, DW_E_CORRUPT,
                       "table %zu of the image holds function %d at %u, which no table of the program can hold", i,
                       (int)index, (unsigned)k);
    }
    return DW_OK;
}

dw_status dw_tables_check(const dw_program *program, const dw_image *image, dw_error *err) {
    dw_status status = DW_OK;
    if (image->n_tables != program->info.n_tables)
        return dw_fail(err, DW_E_CORRUPT, "the image has %zu tables, the code of the program changes %u",
                       image->n_tables, (unsigned)program->info.n_tables);
    for (size_t i = 0; status == DW_OK && i < image->n_tables; i++)
        status = check_table(program, i, &image->tables[i], err);
    return status;
}

/* --- accessors and records ---------------------------------------------------------------------------------------- */

/* (module (import "" "" (table 0 funcref))
 *   (func (export "get") (param i32) (result funcref) (table.get 0 (local.get 0)))
 *   (func (export "set") (param i32 funcref) (table.set 0 (local.get 0) (local.get 1)))
 *   (func (export "grow") (param i32) (result i32) (table.grow 0 (ref.null func) (local.get 0)))) */
static const uint8_t accessor[] = {
    0x00, 'a',  's',  'm',  0x01, 0x00, 0x00, 0x00, 0x01, 0x10, 0x03, 0x60, 0x01, 0x7F, 0x01, 0x70, 0x60, 0x02, 0x7F,
    0x70, 0x00, 0x60, 0x01, 0x7F, 0x01, 0x7F, 0x02, 0x07, 0x01, 0x00, 0x00, 0x01, 0x70, 0x00, 0x00, 0x03, 0x04, 0x03,
    0x00, 0x01, 0x02, 0x07, 0x14, 0x03, 0x03, 'g',  'e',  't',  0x00, 0x00, 0x03, 's',  'e',  't',  0x00, 0x01, 0x04,
    'g',  'r',  'o',  'w',  0x00, 0x02, 0x0A, 0x1B, 0x03, 0x06, 0x00, 0x20, 0x00, 0x25, 0x00, 0x0B, 0x08, 0x00, 0x20,
    0x00, 0x20, 0x01, 0x26, 0x00, 0x0B, 0x09, 0x00, 0xD0, 0x70, 0x20, 0x00, 0xFC, 0x0F, 0x00, 0x0B,
};

dw_status dw_tables_compile(struct dw_wasm_engine *engine, wasmtime_module_t **out, dw_error *err) {
    wasmtime_error_t *error = wasmtime_module_new(engine->engine, accessor, sizeof accessor, out);
    return error ? dw_engine_fail(err, DW_E_INTERNAL, "the accessor of tables cannot be compiled", error) : DW_OK;
}

static dw_status find_export(dw_instance *instance, const wasmtime_instance_t *in, const char *name,
                             wasmtime_extern_kind_t kind, wasmtime_extern_t *out, dw_error *err) {
    if (!wasmtime_instance_export_get(instance->context, in, name, strlen(name), out))
        return dw_fail(err, DW_E_INTERNAL, "%s is not exported", name);
    if (out->kind == kind) return DW_OK;
    wasmtime_extern_delete(out);
    return dw_fail(err, DW_E_INTERNAL, "%s is of another kind", name);
}

static dw_status find_table_function(dw_instance *instance, const wasmtime_instance_t *in, const char *name,
                                     wasmtime_func_t *out, dw_error *err) {
    wasmtime_extern_t item;
    dw_status status = find_export(instance, in, name, WASMTIME_EXTERN_FUNC, &item, err);
    if (status != DW_OK) return status;
    *out = item.of.func;
    wasmtime_extern_delete(&item);
    return DW_OK;
}

static dw_status make_access(dw_instance *instance, uint32_t i, dw_table_access *out, dw_error *err) {
    char name[DW_NAME_NUMBERED_BYTES];
    wasmtime_extern_t table;
    wasmtime_instance_t made;
    wasm_trap_t *trap = NULL;
    snprintf(name, sizeof name, DW_NAME_TABLE "%u", (unsigned)i);
    dw_status status = find_export(instance, &instance->wasm, name, WASMTIME_EXTERN_TABLE, &table, err);
    if (status != DW_OK) return status;
    out->table = table.of.table;
    wasmtime_error_t *error = wasmtime_instance_new(instance->context, instance->program->table_accessor, &table, 1,
                                                    &made, &trap);
    wasmtime_extern_delete(&table);
    if (trap) wasm_trap_delete(trap);
    if (error) return dw_engine_fail(err, DW_E_INTERNAL, "a table cannot be accessed", error);
    if (trap) return dw_fail(err, DW_E_INTERNAL, "a table cannot be accessed");
    status = find_table_function(instance, &made, "get", &out->get, err);
    if (status == DW_OK) status = find_table_function(instance, &made, "set", &out->set, err);
    if (status == DW_OK) status = find_table_function(instance, &made, "grow", &out->grow, err);
    return status;
}

static int compare_references(const void *a, const void *b) {
    uintptr_t x = (uintptr_t)((const dw_reference *)a)->record, y = (uintptr_t)((const dw_reference *)b)->record;
    return x < y ? -1 : x > y;
}

static dw_status collect_records(dw_instance *instance, dw_instance_tables_state *out, dw_error *err) {
    const dw_program *program = instance->program;
    for (uint32_t i = 0; i < program->n_functions; i++) {
        char name[DW_NAME_NUMBERED_BYTES];
        wasmtime_func_t function;
        snprintf(name, sizeof name, DW_NAME_FUNCTION "%u", (unsigned)program->functions[i]);
        dw_status status = find_table_function(instance, &instance->wasm, name, &function, err);
        if (status != DW_OK) return status;
        out->records[i] = wasmtime_func_to_raw(instance->context, &function);
        out->references[i] = (dw_reference){.record = out->records[i], .index = program->functions[i]};
    }
    if (program->n_functions > 1)
        qsort(out->references, program->n_functions, sizeof *out->references, compare_references);
    return DW_OK;
}

/* Once per instance: records do not move while it lives. */
static dw_status know_tables(dw_instance *instance, dw_error *err) {
    size_t n_tables = instance->program->info.n_tables, n = instance->program->n_functions;
    if (instance->tables.tables) return DW_OK;
    dw_instance_tables_state made = {.tables = calloc(n_tables, sizeof *made.tables),
                                     .records = calloc(n + 1, sizeof *made.records),
                                     .references = calloc(n + 1, sizeof *made.references)};
    dw_status status = DW_OK;
    if (!made.tables || !made.records || !made.references)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu tables of %zu functions", n_tables, n);
    for (uint32_t i = 0; status == DW_OK && i < n_tables; i++) status = make_access(instance, i, &made.tables[i], err);
    if (status == DW_OK) status = collect_records(instance, &made, err);
    if (status == DW_OK) instance->tables = made;
    else dw_tables_deinit(&made);
    return status;
}

/* Calls one of an accessor's functions. It is ours: it cannot trap on what it is given, and neither interruption nor
 * deadline of the guest are its business. */
static dw_status call_accessor(dw_instance *instance, const wasmtime_func_t *function, wasmtime_val_raw_t values[2],
                               dw_error *err) {
    wasm_trap_t *trap = NULL;
    wasmtime_error_t *error = wasmtime_func_call_unchecked(instance->context, function, values, 2, &trap);
    if (error) return dw_engine_fail(err, DW_E_INTERNAL, "a table cannot be accessed", error);
    if (!trap) return DW_OK;
    wasm_trap_delete(trap);
    return dw_fail(err, DW_E_INTERNAL, "a table cannot be accessed");
}

/* The function that an element refers to; NO_FUNCTION for null. */
static dw_status read_element(dw_instance *instance, const dw_table_access *table, uint32_t at, int32_t *out,
                              dw_error *err) {
    wasmtime_val_raw_t values[2] = {{.i32 = (int32_t)at}};
    dw_status status = call_accessor(instance, &table->get, values, err);
    if (status != DW_OK) return status;
    dw_reference wanted = {.record = values[0].funcref};
    *out = NO_FUNCTION;
    if (!wanted.record) return DW_OK;
    const dw_reference *found = bsearch(&wanted, instance->tables.references, instance->program->n_functions,
                                        sizeof wanted, compare_references);
    if (!found)
        return dw_fail(err, DW_E_INTERNAL, "element %u of a table is a function that it cannot hold", (unsigned)at);
    *out = (int32_t)found->index; /* below 2^31: an index into a section of a bounded module */
    return DW_OK;
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* A block for tables with these numbers of elements, which are read from `sizes` into the views. */
static dw_table_view *allocate_tables(const uint32_t *sizes, size_t n) {
    size_t elements = 0;
    for (size_t i = 0; i < n; i++) elements += sizes[i]; /* at most 16 of 10^6 */
    dw_table_view *tables = malloc(n * sizeof *tables + elements * sizeof(int32_t));
    if (!tables) return NULL;
    int32_t *next = (int32_t *)(void *)(tables + n);
    for (size_t i = 0; i < n; i++) {
        tables[i] = (dw_table_view){.elements = next, .n_elements = sizes[i]};
        next += sizes[i];
    }
    return tables;
}

static dw_status read_table_elements(dw_instance *instance, const uint32_t *sizes, size_t n, int32_t *elements,
                                     dw_error *err) {
    dw_status status = DW_OK;
    wasmtime_context_set_epoch_deadline(instance->context, DW_NO_DEADLINE_TICKS);
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; status == DW_OK && k < sizes[i]; k++)
            status = read_element(instance, &instance->tables.tables[i], k, elements++, err);
    return status;
}

dw_status dw_instance_tables(dw_instance *instance, dw_table_view **out, size_t *n_out, dw_error *err) {
    size_t n = instance->program->info.n_tables;
    uint32_t sizes[DW_PROGRAM_CHANGED_TABLES_MAX];
    *out = NULL;
    *n_out = n;
    if (n == 0) return DW_OK;
    if (instance->in_call) return dw_fail(err, DW_E_STATE, "the instance is inside a call");
    dw_status status = know_tables(instance, err);
    if (status != DW_OK) return status;
    /* The limiter keeps sizes below DW_PROGRAM_TABLE_ELEMENTS_MAX. */
    for (size_t i = 0; i < n; i++)
        sizes[i] = (uint32_t)wasmtime_table_size(instance->context, &instance->tables.tables[i].table);
    dw_table_view *tables = allocate_tables(sizes, n);
    if (!tables) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu tables", n);
    status = read_table_elements(instance, sizes, n, (int32_t *)(void *)(tables + n), err);
    if (status == DW_OK) *out = tables;
    else free(tables);
    return status;
}

dw_status dw_tables_copy(const dw_table_view *tables, size_t n, dw_table_view **out) {
    uint32_t sizes[DW_PROGRAM_CHANGED_TABLES_MAX];
    *out = NULL;
    if (n == 0) return DW_OK;
    if (n > DW_PROGRAM_CHANGED_TABLES_MAX) return DW_E_LIMIT;
    for (size_t i = 0; i < n; i++) sizes[i] = tables[i].n_elements;
    *out = allocate_tables(sizes, n);
    if (!*out) return DW_E_NO_MEMORY;
    int32_t *next = (int32_t *)(void *)(*out + n);
    for (size_t i = 0; i < n; i++) {
        if (sizes[i] > 0) memcpy(next, tables[i].elements, sizes[i] * sizeof *next);
        next += sizes[i];
    }
    return DW_OK;
}

/* --- restoring ---------------------------------------------------------------------------------------------------- */

static dw_status grow_table(dw_instance *instance, const dw_table_access *table, uint64_t n_elements, dw_error *err) {
    uint64_t size = wasmtime_table_size(instance->context, &table->table);
    if (size == n_elements) return DW_OK; /* never above: the image was checked against the smallest size */
    wasmtime_val_raw_t values[2] = {{.i32 = (int32_t)(n_elements - size)}};
    dw_status status = call_accessor(instance, &table->grow, values, err);
    if (status == DW_OK && values[0].i32 < 0)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a table of %llu elements", (unsigned long long)n_elements);
    return status;
}

static dw_status restore_table(dw_instance *instance, const dw_table_access *table, const dw_table_view *from,
                               dw_error *err) {
    dw_status status = grow_table(instance, table, from->n_elements, err);
    for (uint32_t i = 0; status == DW_OK && i < from->n_elements; i++) {
        int32_t wanted = from->elements[i], present = NO_FUNCTION;
        status = read_element(instance, table, i, &present, err);
        if (status != DW_OK || present == wanted) continue;
        wasmtime_val_raw_t values[2] = {{.i32 = (int32_t)i}};
        if (wanted != NO_FUNCTION)
            values[1].funcref = instance->tables.records[position_of(instance->program, (uint32_t)wanted)];
        status = call_accessor(instance, &table->set, values, err);
    }
    return status;
}

dw_status dw_tables_restore(dw_instance *instance, const dw_image *image, dw_error *err) {
    if (image->n_tables == 0) return DW_OK;
    dw_status status = know_tables(instance, err);
    if (status != DW_OK) return status;
    wasmtime_context_set_epoch_deadline(instance->context, DW_NO_DEADLINE_TICKS);
    for (size_t i = 0; status == DW_OK && i < image->n_tables; i++)
        status = restore_table(instance, &instance->tables.tables[i], &image->tables[i], err);
    return status;
}

void dw_tables_deinit(dw_instance_tables_state *state) {
    free(state->tables);
    free(state->records);
    free(state->references);
    *state = (dw_instance_tables_state){0};
}

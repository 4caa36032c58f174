/* prepare.c: see prepare.h. First the conditions, one function each, then the rewriting. */
#include "wasm/prepare.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/prepare_advice.h"
#include "wasm/prepare_imports.h"
#include "wasm/wasm.h"

/* --- conditions ------------------------------------------------------------------------------------------------ */

static dw_status check_memory(const dw_module *module, dw_error *err) {
    uint64_t pages_max = DW_GUEST_MEMORY_BYTES_MAX / DW_WASM_PAGE_BYTES;
    if (module->n_memories != 1)
        return dw_fail(err, DW_E_UNSUPPORTED, "the module has %u memories; a program has exactly one, of its own",
                       (unsigned)module->n_memories);
    if (module->memory_pages_min > pages_max)
        return dw_fail(err, DW_E_LIMIT, "the memory begins with %llu pages, more than %llu",
                       (unsigned long long)module->memory_pages_min, (unsigned long long)pages_max);
    return DW_OK;
}

static dw_status check_table_sizes(const dw_module *module, dw_error *err) {
    uint64_t elements = 0; /* at most 10^6 tables of 2^32 */
    if (module->n_tables > DW_PROGRAM_TABLES_MAX)
        return dw_fail(err, DW_E_LIMIT, "the module has %u tables, more than %u", (unsigned)module->n_tables,
                       DW_PROGRAM_TABLES_MAX);
    for (uint32_t i = 0; i < module->n_tables; i++) elements += module->tables[i].min;
    if (elements > DW_PROGRAM_TABLE_ELEMENTS_MAX)
        return dw_fail(err, DW_E_LIMIT, "the tables have %llu elements, more than %u", (unsigned long long)elements,
                       DW_PROGRAM_TABLE_ELEMENTS_MAX);
    return DW_OK;
}

/* Fills functions and n_functions: what an image's tables may hold. */
static dw_status collect_functions(const dw_module *module, dw_prepared *out, dw_error *err) {
    out->functions = calloc((size_t)module->n_functions + 1, sizeof *out->functions);
    if (!out->functions)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u functions", (unsigned)module->n_functions);
    for (uint32_t i = 0; i < module->n_functions; i++)
        if (module->named[i]) out->functions[out->n_functions++] = i;
    return DW_OK;
}

/* Fills tables and n_tables. Only code changes a table: what a module exports is seen by nobody but the host, which
 * does not. */
static dw_status check_tables(const dw_module *module, dw_prepared *out, dw_error *err) {
    dw_status status = check_table_sizes(module, err);
    if (status != DW_OK) return status;
    out->tables = calloc((size_t)module->n_tables + 1, sizeof *out->tables);
    if (!out->tables) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u tables", (unsigned)module->n_tables);
    for (uint32_t i = 0; i < module->n_tables; i++) {
        const dw_table *table = &module->tables[i];
        if (!module->changed[i]) continue;
        if (table->type != DW_TYPE_FUNCREF)
            return dw_fail_at(err, DW_E_UNSUPPORTED, table->offset,
                              "the code changes table %u of external references, which cannot be restored",
                              (unsigned)i);
        out->tables[out->n_tables++] = (dw_prepared_table){
            .min = (uint32_t)table->min, .max = (uint32_t)dw_min_u64(table->max, DW_PROGRAM_TABLE_ELEMENTS_MAX)};
    }
    if (out->n_tables > DW_PROGRAM_CHANGED_TABLES_MAX)
        return dw_fail(err, DW_E_LIMIT, "the code changes %u tables, more than %u", (unsigned)out->n_tables,
                       DW_PROGRAM_CHANGED_TABLES_MAX);
    return out->n_tables > 0 ? collect_functions(module, out, err) : DW_OK;
}

static bool value_type_of(uint8_t type, uint8_t *out) {
    switch (type) {
    case DW_TYPE_I32: *out = DW_VALUE_I32; return true;
    case DW_TYPE_I64: *out = DW_VALUE_I64; return true;
    case DW_TYPE_F32: *out = DW_VALUE_F32; return true;
    case DW_TYPE_F64: *out = DW_VALUE_F64; return true;
    case DW_TYPE_V128: *out = DW_VALUE_V128; return true;
    default: return false;
    }
}

/* Fills global_types and n_globals. */
static dw_status check_globals(const dw_module *module, dw_prepared *out, dw_error *err) {
    out->global_types = calloc((size_t)module->n_globals + 1, 1);
    if (!out->global_types)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u globals", (unsigned)module->n_globals);
    for (uint32_t i = 0; i < module->n_globals; i++) {
        const dw_global *global = &module->globals[i];
        if (!global->is_mutable) continue;
        if (!value_type_of(global->type, &out->global_types[out->n_globals]))
            return dw_fail_at(err, DW_E_UNSUPPORTED, global->offset,
                              "global %u is mutable and holds a reference, which cannot be restored", (unsigned)i);
        out->n_globals++;
    }
    if (out->n_globals > DW_PROGRAM_GLOBALS_MAX)
        return dw_fail(err, DW_E_LIMIT, "the module has %u mutable globals, more than %u", (unsigned)out->n_globals,
                       DW_PROGRAM_GLOBALS_MAX);
    return DW_OK;
}

/* The functions that the host calls, with the signatures it calls them by. */
static dw_status check_entry_point(const dw_module *module, const dw_export *export, dw_prepared *out, dw_error *err) {
    const struct { const char *name, *results, *text; bool *found; } entries[] = {
        {"driftwood_receive", "i", "() -> i32", &out->has_receive},
        {"_initialize", "", "() -> ()", &out->has_initialize},
        {"_start", "", "() -> ()", &out->has_start_command},
        {"__wasm_call_ctors", "", "() -> ()", &out->has_constructors},
    };
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++) {
        if (!dw_span_is(&export->name, entries[i].name)) continue;
        const dw_signature *signature = export->kind == DW_KIND_FUNCTION ? dw_module_signature(module, export->index)
                                                                         : NULL;
        if (!signature || !dw_signature_is(signature, "", entries[i].results))
            return dw_fail(err, DW_E_INVALID, "the export %s is not a function %s", entries[i].name, entries[i].text);
        *entries[i].found = true;
    }
    return DW_OK;
}

static dw_status check_exports(const dw_module *module, dw_prepared *out, dw_error *err) {
    static const char reserved[] = "__dw_";
    char text[DW_NAME_TEXT_BYTES];
    for (uint32_t i = 0; i < module->n_exports; i++) {
        const dw_export *export = &module->exports[i];
        if (export->name.size >= sizeof reserved - 1 && memcmp(export->name.data, reserved, sizeof reserved - 1) == 0)
            return dw_fail(err, DW_E_INVALID, "the module exports %s; names that begin with %s belong to the runtime",
                           dw_span_text(&export->name, text), reserved);
        dw_status status = check_entry_point(module, export, out, err);
        if (status != DW_OK) return status;
    }
    return DW_OK;
}

static dw_status check_start(const dw_module *module, dw_prepared *out, dw_error *err) {
    if (!module->has_start) return DW_OK;
    const dw_signature *signature = dw_module_signature(module, module->start);
    if (!signature || !dw_signature_is(signature, "", ""))
        return dw_fail(err, DW_E_FORMAT, "the module is damaged: no such start function");
    out->has_start = true;
    return DW_OK;
}

/* Fills segments: an active segment outside the memory would make the source trap when it is instantiated. */
static dw_status check_data(const dw_module *module, dw_prepared *out, dw_error *err) {
    if (module->n_data > DW_PROGRAM_SEGMENTS_MAX)
        return dw_fail(err, DW_E_LIMIT, "the module has %u data segments, more than %u", (unsigned)module->n_data,
                       DW_PROGRAM_SEGMENTS_MAX);
    out->segments = calloc((size_t)module->n_data + 1, sizeof *out->segments);
    if (!out->segments) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u data segments", (unsigned)module->n_data);
    for (uint32_t i = 0; i < module->n_data; i++) {
        const dw_data *data = &module->data[i];
        if (!data->active) continue;
        if (!dw_in_range(data->at, data->bytes.size, out->memory_bytes))
            return dw_fail_at(err, DW_E_INVALID, data->bytes.offset,
                              "data segment %u, %llu bytes for address %lu, does not fit into the memory", (unsigned)i,
                              (unsigned long long)data->bytes.size, (unsigned long)data->at);
        if (data->bytes.size > 0)
            out->segments[out->n_segments++] = (dw_prepared_segment){.at = data->at, .bytes = data->bytes};
    }
    return DW_OK;
}

/* The first table that can take the elements of a segment; n_tables when there is none. */
static uint32_t table_for(const dw_module *module, const dw_element *element) {
    uint32_t i = 0;
    while (i < module->n_tables && module->tables[i].type != element->type) i++;
    return i;
}

/* Fills drops and n_drops, and adds to global_types. An empty segment is the same when it is dropped, and so is an
 * element segment that no table can take: no instruction can read it. Active and declared segments are dropped from
 * the beginning. */
static dw_status check_drops(const dw_module *module, dw_prepared *out, dw_error *err) {
    uint32_t n_data = module->dropped_data ? (uint32_t)dw_min_u64(module->n_data, module->data_count) : 0;
    out->drops = calloc((size_t)n_data + module->n_elements + 1, sizeof *out->drops);
    if (!out->drops)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u segments", (unsigned)(n_data + module->n_elements));
    for (uint32_t i = 0; i < n_data; i++)
        if (module->dropped_data[i] && !module->data[i].active && module->data[i].bytes.size > 0)
            out->drops[out->n_drops++] = (dw_prepared_drop){.segment = i};
    for (uint32_t i = 0; i < module->n_elements; i++) {
        const dw_element *element = &module->elements[i];
        uint32_t table = table_for(module, element);
        if (module->dropped_elements[i] && element->passive && element->n > 0 && table < module->n_tables)
            out->drops[out->n_drops++] = (dw_prepared_drop){.is_element = true, .segment = i, .table = table};
    }
    if (out->n_globals + out->n_drops > DW_PROGRAM_GLOBALS_MAX)
        return dw_fail(err, DW_E_LIMIT,
                       "the module has %u mutable globals and drops %u segments, together more than %u",
                       (unsigned)out->n_globals, (unsigned)out->n_drops, DW_PROGRAM_GLOBALS_MAX);
    if (out->n_drops > 0 && !module->sections[DW_SECTION_TYPE].data)
        return dw_fail(err, DW_E_FORMAT, "the module is damaged: it has no types");
    uint8_t *types = realloc(out->global_types, (size_t)out->n_globals + out->n_drops + 1);
    if (!types) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u segments", (unsigned)out->n_drops);
    for (uint32_t i = 0; i < out->n_drops; i++) types[out->n_globals + i] = DW_VALUE_I32;
    out->global_types = types;
    return DW_OK;
}

static dw_status check(const dw_module *module, dw_prepared *out, dw_error *err) {
    dw_status status = check_memory(module, err);
    if (status != DW_OK) return status;
    uint64_t pages_max = DW_GUEST_MEMORY_BYTES_MAX / DW_WASM_PAGE_BYTES;
    out->memory_bytes = module->memory_pages_min * DW_WASM_PAGE_BYTES;
    out->memory_bytes_max = dw_min_u64(module->memory_pages_max, pages_max) * DW_WASM_PAGE_BYTES;
    status = check_tables(module, out, err);
    if (status == DW_OK) status = check_globals(module, out, err);
    if (status == DW_OK) status = dw_check_imports(module, &out->imports_enter, err);
    if (status == DW_OK) status = check_exports(module, out, err);
    if (status == DW_OK) status = check_start(module, out, err);
    if (status == DW_OK) status = check_data(module, out, err);
    if (status == DW_OK) status = check_drops(module, out, err);
    if (status == DW_OK) status = dw_advise(module, &out->advice, err);
    out->heaviest = module->heaviest;
    out->weight = module->weight;
    out->heavy_weight = module->heavy_weight;
    return status;
}

/* --- rewriting ------------------------------------------------------------------------------------------------- */

static void write_section(dw_writer *writer, uint8_t id, const void *body, size_t size) {
    dw_write_u8(writer, id);
    dw_write_leb_u32(writer, (uint32_t)size); /* below 2^32: bounded by the source and a little more */
    dw_write_bytes(writer, body, size);
}

static void write_export(dw_writer *writer, const void *name, size_t name_size, uint8_t kind, uint32_t index) {
    dw_write_leb_u32(writer, (uint32_t)name_size);
    dw_write_bytes(writer, name, name_size);
    dw_write_u8(writer, kind);
    dw_write_leb_u32(writer, index);
}

static void write_numbered(dw_writer *body, const char *prefix, uint32_t number, uint8_t kind, uint32_t index) {
    char name[DW_NAME_NUMBERED_BYTES];
    int n = snprintf(name, sizeof name, "%s%u", prefix, (unsigned)number);
    write_export(body, name, (size_t)n, kind, index);
}

static void write_state_exports(dw_writer *body, const dw_module *module, const dw_prepared *prepared) {
    uint32_t ordinal = 0;
    for (uint32_t i = 0; i < module->n_globals; i++)
        if (module->globals[i].is_mutable) write_numbered(body, DW_NAME_GLOBAL, ordinal++, DW_KIND_GLOBAL, i);
    ordinal = 0;
    for (uint32_t i = 0; i < module->n_tables; i++)
        if (module->changed[i]) write_numbered(body, DW_NAME_TABLE, ordinal++, DW_KIND_TABLE, i);
    for (uint32_t i = 0; i < prepared->n_functions; i++)
        write_numbered(body, DW_NAME_FUNCTION, prepared->functions[i], DW_KIND_FUNCTION, prepared->functions[i]);
    for (uint32_t i = 0; i < prepared->n_drops; i++)
        write_numbered(body, DW_NAME_SEGMENT, i, DW_KIND_FUNCTION, module->n_functions + i);
}

static void write_exports(dw_writer *writer, const dw_module *module, const dw_prepared *prepared) {
    dw_writer body;
    dw_writer_init(&body);
    uint32_t n_added = 1 + prepared->n_globals + prepared->n_tables + prepared->n_functions + prepared->n_drops;
    if (module->has_start) n_added++;
    dw_write_leb_u32(&body, module->n_exports + n_added);
    for (uint32_t i = 0; i < module->n_exports; i++) {
        const dw_export *export = &module->exports[i];
        write_export(&body, export->name.data, (size_t)export->name.size, export->kind, export->index);
    }
    write_export(&body, DW_NAME_MEMORY, sizeof DW_NAME_MEMORY - 1, DW_KIND_MEMORY, 0);
    write_state_exports(&body, module, prepared);
    if (module->has_start)
        write_export(&body, DW_NAME_START, sizeof DW_NAME_START - 1, DW_KIND_FUNCTION, module->start);
    if (body.status != DW_OK) writer->status = body.status;
    else write_section(writer, DW_SECTION_EXPORT, body.data, body.size);
    dw_writer_deinit(&body);
}

static void write_data(dw_writer *writer, const dw_module *module) {
    dw_writer body;
    dw_writer_init(&body);
    dw_write_leb_u32(&body, module->n_data);
    for (uint32_t i = 0; i < module->n_data; i++) {
        const dw_data *data = &module->data[i];
        size_t size = data->active ? 0 : (size_t)data->bytes.size;
        dw_write_u8(&body, 1); /* passive */
        dw_write_leb_u32(&body, (uint32_t)size);
        dw_write_bytes(&body, data->bytes.data, size);
    }
    if (body.status != DW_OK) writer->status = body.status;
    else write_section(writer, DW_SECTION_DATA, body.data, body.size);
    dw_writer_deinit(&body);
}

static void write_copy(dw_writer *writer, const dw_module *module, uint8_t id) {
    const dw_span *section = &module->sections[id];
    if (section->data) write_section(writer, id, section->data, (size_t)section->size);
}

/* A copy of a section with `n` more entries behind its own. */
static void write_extended(dw_writer *writer, const dw_module *module, uint8_t id, uint32_t n,
                           const dw_writer *entries) {
    const dw_span *section = &module->sections[id]; /* there, as its entries are referred to */
    dw_reader reader;
    dw_writer body;
    dw_reader_init(&reader, section->data, section->size);
    dw_writer_init(&body);
    dw_write_leb_u32(&body, dw_read_leb_u32(&reader) + n);
    dw_write_bytes(&body, section->data + reader.offset, (size_t)dw_reader_left(&reader));
    dw_write_bytes(&body, entries->data, entries->size);
    if (body.status != DW_OK || entries->status != DW_OK) writer->status = DW_E_NO_MEMORY;
    else write_section(writer, id, body.data, body.size);
    dw_writer_deinit(&body);
}

/* (func (param i32) (if (local.get 0)
 *   (then (data.drop S))
 *   (else (memory.init S (i32.const 0) (i32.const 1) (i32.const 0)))))
 * or the same with elem.drop and table.init. Initialising 0 items from item 1 on writes nothing, and traps where there
 * is no item 0: where the segment is dropped. */
static void write_drop_body(dw_writer *writer, const dw_prepared_drop *drop) {
    static const uint8_t begin[] = {0x00, 0x20, 0x00, 0x04, 0x40, 0xFC}, end[] = {0x0B, 0x0B};
    static const uint8_t otherwise[] = {0x05, 0x41, 0x00, 0x41, 0x01, 0x41, 0x00, 0xFC};
    dw_writer body;
    dw_writer_init(&body);
    dw_write_bytes(&body, begin, sizeof begin);
    dw_write_u8(&body, drop->is_element ? 13 : 9);
    dw_write_leb_u32(&body, drop->segment);
    dw_write_bytes(&body, otherwise, sizeof otherwise);
    dw_write_u8(&body, drop->is_element ? 12 : 8);
    dw_write_leb_u32(&body, drop->segment);
    dw_write_leb_u32(&body, drop->table); /* of memory.init: memory 0 */
    dw_write_bytes(&body, end, sizeof end);
    dw_write_leb_u32(writer, (uint32_t)body.size);
    dw_write_bytes(writer, body.data, body.size);
    if (body.status != DW_OK) writer->status = body.status;
    dw_writer_deinit(&body);
}

/* Types, functions and code with those of the segments that the code drops behind the module's own. */
static void write_with_drops(dw_writer *writer, const dw_module *module, uint8_t id, const dw_prepared *prepared) {
    static const uint8_t type[] = {0x60, 0x01, DW_TYPE_I32, 0x00};
    dw_writer entries;
    dw_writer_init(&entries);
    if (id == DW_SECTION_TYPE) dw_write_bytes(&entries, type, sizeof type);
    for (uint32_t i = 0; i < prepared->n_drops; i++) {
        if (id == DW_SECTION_FUNCTION) dw_write_leb_u32(&entries, module->n_types);
        if (id == DW_SECTION_CODE) write_drop_body(&entries, &prepared->drops[i]);
    }
    write_extended(writer, module, id, id == DW_SECTION_TYPE ? 1 : prepared->n_drops, &entries);
    dw_writer_deinit(&entries);
}

/* The one memory, with a maximum. */
static void write_memory(dw_writer *writer, const dw_module *module) {
    dw_writer body;
    dw_writer_init(&body);
    dw_write_u8(&body, 1); /* memories */
    dw_write_u8(&body, 1); /* with a maximum */
    dw_write_leb_u32(&body, (uint32_t)module->memory_pages_min);
    dw_write_leb_u32(&body, (uint32_t)(DW_GUEST_MEMORY_BYTES_MAX / DW_WASM_PAGE_BYTES));
    if (body.status != DW_OK) writer->status = body.status;
    else write_section(writer, DW_SECTION_MEMORY, body.data, body.size);
    dw_writer_deinit(&body);
}

static void write_section_of(dw_writer *writer, const dw_module *module, uint8_t id, const dw_prepared *prepared) {
    bool grows = id == DW_SECTION_TYPE || id == DW_SECTION_FUNCTION || id == DW_SECTION_CODE;
    if (grows && prepared->n_drops > 0) write_with_drops(writer, module, id, prepared);
    else if (id == DW_SECTION_MEMORY && module->memory_pages_max == UINT64_MAX) write_memory(writer, module);
    else write_copy(writer, module, id);
}

static dw_status rewrite(const dw_module *module, dw_prepared *out, dw_error *err) {
    static const uint8_t header[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    static const uint8_t before_exports[] = {DW_SECTION_TYPE, DW_SECTION_IMPORT, DW_SECTION_FUNCTION, DW_SECTION_TABLE,
                                             DW_SECTION_MEMORY, DW_SECTION_TAG, DW_SECTION_GLOBAL};
    static const uint8_t after_exports[] = {DW_SECTION_ELEMENT, DW_SECTION_DATA_COUNT, DW_SECTION_CODE};
    dw_writer writer;
    dw_writer_init(&writer);
    dw_write_bytes(&writer, header, sizeof header);
    for (size_t i = 0; i < sizeof before_exports; i++) write_section_of(&writer, module, before_exports[i], out);
    write_exports(&writer, module, out);
    for (size_t i = 0; i < sizeof after_exports; i++) write_section_of(&writer, module, after_exports[i], out);
    if (module->sections[DW_SECTION_DATA].data) write_data(&writer, module);
    write_copy(&writer, module, DW_SECTION_CUSTOM);
    dw_status status = dw_writer_finish(&writer, &out->wasm, &out->wasm_size);
    dw_writer_deinit(&writer);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory to rewrite the module");
}

dw_status dw_prepare(const void *wasm, uint64_t size, dw_prepared *out, dw_error *err) {
    *out = (dw_prepared){0};
    if (size > DW_PROGRAM_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "the module has %llu bytes, more than %llu", (unsigned long long)size,
                       (unsigned long long)DW_PROGRAM_BYTES_MAX);
    dw_module module;
    dw_status status = dw_module_read(wasm, size, &module, err);
    if (status != DW_OK) return status;
    status = check(&module, out, err);
    if (status == DW_OK) status = rewrite(&module, out, err);
    dw_module_deinit(&module);
    if (status != DW_OK) dw_prepared_deinit(out);
    return status;
}

void dw_prepared_deinit(dw_prepared *prepared) {
    free(prepared->wasm);
    free(prepared->global_types);
    free(prepared->tables);
    free(prepared->functions);
    free(prepared->segments);
    free(prepared->drops);
    *prepared = (dw_prepared){0};
}

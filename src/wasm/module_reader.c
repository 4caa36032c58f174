/* module_reader.c: see module_reader.h. */
#include "wasm/module_reader.h"

#include <stdlib.h>
#include <string.h>

/* The bound that engines agree on for the entries of one section (WebAssembly JavaScript interface, "implementation
 * limits"). It keeps what a small entry costs us (at most 48 bytes) in proportion to the largest module. */
enum { ENTRIES_MAX = 1000000 };

static dw_status bad(const dw_reader *reader, const char *what, dw_error *err) {
    return dw_fail_at(err, reader->status, reader->offset, "the module is damaged: %s", what);
}

static dw_span read_span(dw_reader *reader, uint64_t size) {
    dw_span span = {.offset = reader->offset, .size = size};
    span.data = dw_read_bytes(reader, size);
    if (!span.data) span.size = 0;
    return span;
}

static dw_span read_module_name(dw_reader *reader) {
    uint32_t size = dw_read_leb_u32(reader);
    return read_span(reader, size);
}

/* Reads the number of entries of a section and allocates room for `extra` more than that. An entry is at least one
 * byte, so a count beyond the bytes left is damage and is found before anything is allocated. */
static dw_status read_item_count(dw_reader *reader, uint32_t extra, size_t entry_bytes, uint32_t *count, void **entries,
                                 dw_error *err) {
    uint64_t at = reader->offset;
    uint32_t n = dw_read_leb_u32(reader);
    if (reader->status != DW_OK) return bad(reader, "a section has no length", err);
    if (n > dw_reader_left(reader))
        return dw_fail_at(err, DW_E_TRUNCATED, at, "the module is damaged: a section says %u entries and is shorter",
                          (unsigned)n);
    if (n > ENTRIES_MAX)
        return dw_fail_at(err, DW_E_LIMIT, at, "a section has %u entries, more than %u", (unsigned)n,
                          (unsigned)ENTRIES_MAX);
    *count = n;
    if (!entries) return DW_OK;
    *entries = calloc((size_t)n + extra + 1, entry_bytes);
    return *entries ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for a section of %u entries", (unsigned)n);
}

static bool is_value_type(uint8_t type) {
    return (type >= DW_TYPE_V128 && type <= DW_TYPE_I32) || type == DW_TYPE_FUNCREF || type == DW_TYPE_EXTERNREF ||
           type == DW_TYPE_EXNREF;
}

/* --- one function per section ---------------------------------------------------------------------------------- */

static dw_status read_value_types(dw_reader *reader, dw_span *out, dw_error *err) {
    uint32_t n = dw_read_leb_u32(reader);
    *out = read_span(reader, n);
    if (reader->status != DW_OK) return bad(reader, "a function type is cut short", err);
    for (uint64_t i = 0; i < out->size; i++)
        if (!is_value_type(out->data[i]))
            return dw_fail_at(err, DW_E_UNSUPPORTED, out->offset + i, "the module uses the value type 0x%02x",
                              (unsigned)out->data[i]);
    return DW_OK;
}

static dw_status read_types(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, sizeof *module->types, &module->n_types, (void **)&module->types,
                                       err);
    for (uint32_t i = 0; status == DW_OK && i < module->n_types; i++) {
        uint64_t at = reader->offset;
        uint8_t form = dw_read_u8(reader);
        if (reader->status != DW_OK) return bad(reader, "a type is cut short", err);
        if (form != 0x60)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at,
                              "the module defines a type of the form 0x%02x (garbage collection)", (unsigned)form);
        status = read_value_types(reader, &module->types[i].params, err);
        if (status == DW_OK) status = read_value_types(reader, &module->types[i].results, err);
    }
    return status;
}

/* An imported memory, table or global would be state that belongs to somebody else. */
static dw_status refuse_imported_object(const dw_import *import, uint8_t kind, uint64_t at, dw_error *err) {
    static const struct { const char *name, *mend; } kinds[] = {
        [DW_KIND_TABLE] = {"table", "link without --import-table"},
        [DW_KIND_MEMORY] = {"memory", "link without --import-memory (AssemblyScript: --importMemory)"},
        [DW_KIND_GLOBAL] = {"global", "link a program, not a library (-shared) or a part of one"},
        {"tag", "nobody outside throws"},
    };
    char a[DW_NAME_TEXT_BYTES], b[DW_NAME_TEXT_BYTES];
    bool known = kind < sizeof kinds / sizeof kinds[0];
    return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the module imports the %s %s.%s; only functions can be imported%s%s",
                      known ? kinds[kind].name : "object", dw_span_text(&import->module, a),
                      dw_span_text(&import->name, b), known ? ": " : "", known ? kinds[kind].mend : "");
}

static dw_status read_imports(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, sizeof *module->imports, &module->n_imports,
                                       (void **)&module->imports, err);
    for (uint32_t i = 0; status == DW_OK && i < module->n_imports; i++) {
        dw_import *import = &module->imports[i];
        import->module = read_module_name(reader);
        import->name = read_module_name(reader);
        uint64_t at = reader->offset;
        uint8_t kind = dw_read_u8(reader);
        if (reader->status != DW_OK) return bad(reader, "an import is cut short", err);
        if (kind != DW_KIND_FUNCTION) return refuse_imported_object(import, kind, at, err);
        import->type = dw_read_leb_u32(reader);
        if (reader->status != DW_OK) return bad(reader, "an import is cut short", err);
    }
    return status;
}

/* Called also for a module without own functions, so that imported ones have their place. */
static dw_status read_functions(dw_reader *reader, dw_module *module, dw_error *err) {
    uint32_t n = 0;
    dw_status status = read_item_count(reader, module->n_imports, sizeof *module->functions, &n,
                                       (void **)&module->functions, err);
    if (status != DW_OK) return status;
    module->named = calloc((size_t)n + module->n_imports + 1, sizeof *module->named);
    if (!module->named) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u functions", (unsigned)n);
    for (uint32_t i = 0; i < module->n_imports; i++) module->functions[i] = module->imports[i].type;
    for (uint32_t i = 0; i < n; i++) module->functions[module->n_imports + i] = dw_read_leb_u32(reader);
    module->n_functions = module->n_imports + n;
    return reader->status == DW_OK ? DW_OK : bad(reader, "the function section is cut short", err);
}

/* What later sections need to know of functions, where the module has no section of them. */
static dw_status complete_functions(dw_module *module, dw_error *err) {
    static const uint8_t none[1] = {0};
    dw_reader reader;
    if (module->functions) return DW_OK;
    dw_reader_init(&reader, none, sizeof none);
    return read_functions(&reader, module, err);
}

static dw_code_notes notes_of(const dw_module *module) {
    return (dw_code_notes){.named = module->named, .n_functions = module->n_functions,
                           .changed = module->changed, .n_tables = module->changed ? module->n_tables : 0,
                           .dropped_data = module->dropped_data,
                           .n_data = module->dropped_data ? module->data_count : 0,
                           .dropped_elements = module->dropped_elements,
                           .n_elements = module->dropped_elements ? module->n_elements : 0};
}

static dw_constants constants_of(const dw_module *module) {
    return (dw_constants){.items = module->constants, .n = module->constants ? module->n_globals : 0};
}

typedef struct limits { uint8_t flags; uint64_t min, max; } limits;

static limits read_limits(dw_reader *reader) {
    limits l = {.flags = dw_read_u8(reader), .max = UINT64_MAX};
    bool wide = (l.flags & 4u) != 0;
    l.min = wide ? dw_read_leb_u64(reader) : dw_read_leb_u32(reader);
    if (l.flags & 1u) l.max = wide ? dw_read_leb_u64(reader) : dw_read_leb_u32(reader);
    return l;
}

static dw_status read_table_section(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, sizeof *module->tables, &module->n_tables, (void **)&module->tables,
                                       err);
    if (status != DW_OK) return status;
    module->changed = calloc((size_t)module->n_tables + 1, sizeof *module->changed);
    if (!module->changed) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u tables", (unsigned)module->n_tables);
    for (uint32_t i = 0; i < module->n_tables; i++) {
        uint64_t at = reader->offset;
        uint8_t type = dw_read_u8(reader);
        if (reader->status == DW_OK && type != DW_TYPE_FUNCREF && type != DW_TYPE_EXTERNREF)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "table %u is of a kind that cannot be restored (0x%02x)",
                              (unsigned)i, (unsigned)type);
        limits l = read_limits(reader);
        if (reader->status != DW_OK) return bad(reader, "a table is cut short", err);
        if (l.flags & ~1u) return dw_fail_at(err, DW_E_UNSUPPORTED, at, "table %u is shared or 64-bit", (unsigned)i);
        module->tables[i] = (dw_table){.type = type, .min = l.min, .max = l.max, .offset = at};
    }
    return DW_OK;
}

static dw_status read_memories(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, 0, &module->n_memories, NULL, err);
    for (uint32_t i = 0; status == DW_OK && i < module->n_memories; i++) {
        uint64_t at = reader->offset;
        limits l = read_limits(reader);
        if (reader->status != DW_OK) return bad(reader, "a memory is cut short", err);
        if (l.flags & 2u)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at,
                              "the memory is shared (threads), which cannot be checkpointed");
        if (l.flags & 4u)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the memory is 64-bit (memory64), which is not supported");
        if (l.flags & ~7u)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at,
                              "the memory has pages of its own size, which is not supported");
        module->memory_pages_min = l.min;
        module->memory_pages_max = l.max;
    }
    return status;
}

/* Kinds of exceptions; the section is copied as it is. */
static dw_status read_tags(dw_reader *reader, dw_module *module, dw_error *err) {
    (void)module;
    uint32_t n = 0;
    dw_status status = read_item_count(reader, 0, 0, &n, NULL, err);
    for (uint32_t i = 0; status == DW_OK && i < n; i++) {
        uint64_t at = reader->offset;
        uint8_t attribute = dw_read_u8(reader);
        (void)dw_read_leb_u32(reader);
        if (reader->status != DW_OK) return bad(reader, "a tag is cut short", err);
        if (attribute != 0)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "tag %u is of the unknown kind %u", (unsigned)i,
                              (unsigned)attribute);
    }
    return status;
}

static dw_status read_globals(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, sizeof *module->globals, &module->n_globals,
                                       (void **)&module->globals, err);
    if (status != DW_OK) return status;
    module->constants = calloc((size_t)module->n_globals + 1, sizeof *module->constants);
    if (!module->constants)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u globals", (unsigned)module->n_globals);
    const dw_code_notes notes = notes_of(module);
    for (uint32_t i = 0; status == DW_OK && i < module->n_globals; i++) {
        dw_global *global = &module->globals[i];
        global->offset = reader->offset;
        global->type = dw_read_u8(reader);
        uint8_t is_mutable = dw_read_u8(reader);
        if (reader->status != DW_OK) return bad(reader, "a global is cut short", err);
        if (!is_value_type(global->type) || is_mutable > 1)
            return dw_fail_at(err, DW_E_UNSUPPORTED, global->offset, "global %u has the type 0x%02x", (unsigned)i,
                              (unsigned)global->type);
        global->is_mutable = is_mutable != 0;
        status = dw_constant_expression(reader, (dw_constants){module->constants, i}, &notes, &module->constants[i],
                                        err);
        if (global->is_mutable) module->constants[i].known = false; /* not a constant for those after it */
    }
    return status;
}

static dw_status read_exports(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_status status = read_item_count(reader, 0, sizeof *module->exports, &module->n_exports,
                                       (void **)&module->exports, err);
    for (uint32_t i = 0; status == DW_OK && i < module->n_exports; i++) {
        dw_export *export = &module->exports[i];
        export->name = read_module_name(reader);
        export->kind = dw_read_u8(reader);
        export->index = dw_read_leb_u32(reader);
        if (reader->status != DW_OK) return bad(reader, "an export is cut short", err);
    }
    return status;
}

static dw_status read_start(dw_reader *reader, dw_module *module, dw_error *err) {
    module->has_start = true;
    module->start = dw_read_leb_u32(reader);
    return reader->status == DW_OK ? DW_OK : bad(reader, "the start section is cut short", err);
}

static dw_status read_locals(dw_reader *reader, dw_code_weigher *weigher, dw_error *err) {
    uint32_t groups = dw_read_leb_u32(reader);
    for (uint32_t i = 0; i < groups && reader->status == DW_OK; i++) {
        weigher->locals += dw_read_leb_u32(reader);
        uint64_t at = reader->offset;
        uint8_t type = dw_read_u8(reader);
        if (reader->status == DW_OK && !is_value_type(type))
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the module uses the value type 0x%02x", (unsigned)type);
    }
    return reader->status == DW_OK ? DW_OK : bad(reader, "the locals of a function are cut short", err);
}

/* The functions of a segment: indices, or (0x04) constant expressions. The count is not trusted: each round reads. */
static dw_status read_element_items(dw_reader *reader, dw_module *module, bool expressions, uint32_t *n_out,
                                    dw_error *err) {
    const dw_code_notes notes = notes_of(module);
    uint32_t n = dw_read_leb_u32(reader);
    *n_out = n;
    for (uint32_t i = 0; i < n && reader->status == DW_OK; i++) {
        dw_constant unused;
        dw_status status = DW_OK;
        if (expressions) status = dw_constant_expression(reader, constants_of(module), &notes, &unused, err);
        else dw_code_note_function(&notes, dw_read_leb_u32(reader));
        if (status != DW_OK) return status;
    }
    return reader->status == DW_OK ? DW_OK : bad(reader, "an element segment is cut short", err);
}

/* Flags: 1 = passive or declared, 2 = names its table (declared), 4 = expressions. The segment itself is copied as it
 * is; only the functions that it can put into a table are noted, and what a passive one holds. */
static dw_status read_one_element(dw_reader *reader, dw_module *module, uint32_t i, dw_error *err) {
    dw_element *element = &module->elements[i];
    uint64_t at = reader->offset;
    uint32_t flags = dw_read_leb_u32(reader);
    if (reader->status == DW_OK && flags > 7)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "element segment %u is of the unknown kind %u", (unsigned)i,
                          (unsigned)flags);
    bool active = (flags & 1u) == 0, expressions = (flags & 4u) != 0;
    *element = (dw_element){.type = DW_TYPE_FUNCREF, .passive = (flags & 3u) == 1};
    if (active && (flags & 2u)) (void)dw_read_leb_u32(reader);
    if (active && reader->status == DW_OK) {
        const dw_code_notes notes = notes_of(module);
        dw_constant offset;
        dw_status status = dw_constant_expression(reader, constants_of(module), &notes, &offset, err);
        if (status != DW_OK) return status;
    }
    if (flags & 3u) {
        at = reader->offset;
        uint8_t type = dw_read_u8(reader), expected = expressions ? DW_TYPE_FUNCREF : 0;
        if (reader->status == DW_OK && type != expected && !(expressions && type == DW_TYPE_EXTERNREF))
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "element segment %u is of the type 0x%02x", (unsigned)i,
                              (unsigned)type);
        if (expressions) element->type = type;
    }
    if (reader->status != DW_OK) return bad(reader, "an element segment is cut short", err);
    return read_element_items(reader, module, expressions, &element->n, err);
}

static dw_status read_elements(dw_reader *reader, dw_module *module, dw_error *err) {
    uint32_t n = 0;
    dw_status status = read_item_count(reader, 0, sizeof *module->elements, &n, (void **)&module->elements, err);
    if (status != DW_OK) return status;
    module->n_elements = n;
    module->dropped_elements = calloc((size_t)n + 1, sizeof *module->dropped_elements);
    if (!module->dropped_elements)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u element segments", (unsigned)n);
    for (uint32_t i = 0; status == DW_OK && i < n; i++) status = read_one_element(reader, module, i, err);
    return status;
}

static dw_status weigher_of(const dw_module *module, dw_code_weigher *out, dw_error *err) {
    dw_code_arity *types = calloc((size_t)module->n_types + 1, sizeof *types);
    uint32_t *labels = calloc(DW_FUNCTION_NESTING_MAX, sizeof *labels);
    *out = (dw_code_weigher){.types = types, .n_types = module->n_types, .labels = labels,
                             .functions = module->functions, .n_functions = module->n_functions};
    if (!types || !labels) return dw_fail(err, DW_E_NO_MEMORY, "no memory to weigh functions");
    for (uint32_t i = 0; i < module->n_types; i++) {
        types[i].params = (uint32_t)module->types[i].params.size; /* below 2^32: bounded by the source */
        types[i].results = (uint32_t)module->types[i].results.size;
    }
    return DW_OK;
}

/* A function is weighed while it is walked. What would need too much memory is refused: a module of some kilobytes
 * could end the process. */
static dw_status read_function(dw_reader *reader, dw_module *module, uint32_t i, dw_code_weigher *weigher,
                               dw_error *err) {
    dw_code_notes notes = notes_of(module);
    notes.weigher = weigher;
    uint32_t index = module->n_imports + i, size = dw_read_leb_u32(reader);
    if (reader->status != DW_OK || !dw_in_range(reader->offset, size, reader->size))
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset, "the module is damaged: function %u is cut short",
                          (unsigned)i);
    uint64_t start = reader->offset;
    dw_code_weigh_begin(weigher, size, index < module->n_functions ? module->functions[index] : UINT32_MAX);
    dw_status status = read_locals(reader, weigher, err);
    if (status == DW_OK) status = dw_code_walk(reader, start + size, &notes, err);
    if (status != DW_OK) return status;
    uint64_t weight = dw_code_weight(weigher);
    if (weight > DW_FUNCTION_COMPILE_BYTES_MAX)
        return dw_fail_at(err, DW_E_LIMIT, start,
                          "compiling function %u could take %llu MiB of memory, more than %llu: it has %llu blocks "
                          "and branches that carry %llu values, and %llu locals", (unsigned)index,
                          (unsigned long long)(weight >> 20),
                          (unsigned long long)(DW_FUNCTION_COMPILE_BYTES_MAX >> 20),
                          (unsigned long long)weigher->blocks, (unsigned long long)weigher->carried,
                          (unsigned long long)weigher->locals);
    if (weight > module->heaviest.weight) module->heaviest = (dw_function_size){index, size, start, weight};
    if (weight > DW_FUNCTION_HEAVY_BYTES) module->heavy_weight += weight;
    module->weight += weight; /* at most 10^6 times DW_FUNCTION_COMPILE_BYTES_MAX */
    return DW_OK;
}

/* The functions themselves are copied as they are. */
static dw_status read_code(dw_reader *reader, dw_module *module, dw_error *err) {
    dw_code_weigher weigher;
    uint64_t at = reader->offset;
    uint32_t n = 0;
    dw_status status = weigher_of(module, &weigher, err);
    if (status == DW_OK) status = read_item_count(reader, 0, 0, &n, NULL, err);
    if (status == DW_OK && n != module->n_functions - module->n_imports)
        status = dw_fail_at(err, DW_E_FORMAT, at,
                            "the module is damaged: it declares %u functions and has the code of %u",
                            (unsigned)(module->n_functions - module->n_imports), (unsigned)n);
    for (uint32_t i = 0; status == DW_OK && i < n; i++) status = read_function(reader, module, i, &weigher, err);
    free((void *)weigher.types);
    free(weigher.labels);
    return status;
}

static dw_status read_one_data(dw_reader *reader, dw_module *module, uint32_t i, dw_error *err) {
    dw_data *data = &module->data[i];
    uint64_t at = reader->offset;
    uint32_t flags = dw_read_leb_u32(reader);
    uint32_t memory = flags == 2 ? dw_read_leb_u32(reader) : 0;
    if (reader->status != DW_OK) return bad(reader, "a data segment is cut short", err);
    if (flags > 2 || memory != 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "data segment %u is for another memory than the first",
                          (unsigned)i);
    data->active = flags != 1;
    if (data->active) {
        const dw_code_notes notes = notes_of(module);
        dw_constant offset;
        dw_status status = dw_constant_expression(reader, constants_of(module), &notes, &offset, err);
        if (status != DW_OK) return status;
        if (!offset.known)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "the address of data segment %u is not a constant",
                              (unsigned)i);
        data->at = offset.value;
    }
    uint32_t size = dw_read_leb_u32(reader);
    data->bytes = read_span(reader, size);
    return reader->status == DW_OK ? DW_OK : bad(reader, "a data segment is cut short", err);
}

static dw_status read_data(dw_reader *reader, dw_module *module, dw_error *err) {
    uint64_t at = reader->offset;
    dw_status status = read_item_count(reader, 0, sizeof *module->data, &module->n_data, (void **)&module->data, err);
    if (status == DW_OK && module->dropped_data && module->n_data != module->data_count)
        return dw_fail_at(err, DW_E_FORMAT, at, "the module is damaged: it has %u data segments and says %u",
                          (unsigned)module->n_data, (unsigned)module->data_count);
    for (uint32_t i = 0; status == DW_OK && i < module->n_data; i++) status = read_one_data(reader, module, i, err);
    return status;
}

/* How many data segments there are, said before the code that names them. Copied as it is. */
static dw_status read_data_count(dw_reader *reader, dw_module *module, dw_error *err) {
    uint64_t at = reader->offset;
    uint32_t n = dw_read_leb_u32(reader);
    if (reader->status != DW_OK) return bad(reader, "the data count is cut short", err);
    if (n > DW_PROGRAM_SEGMENTS_MAX)
        return dw_fail_at(err, DW_E_LIMIT, at, "the module has %u data segments, more than %u", (unsigned)n,
                          DW_PROGRAM_SEGMENTS_MAX);
    module->dropped_data = calloc((size_t)n + 1, sizeof *module->dropped_data);
    if (!module->dropped_data) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u data segments", (unsigned)n);
    module->data_count = n;
    return DW_OK;
}

/* --- the module ------------------------------------------------------------------------------------------------ */

typedef dw_status (*section_reader)(dw_reader *reader, dw_module *module, dw_error *err);

/* Order of the sections in a binary; custom sections may stand anywhere. */
static int rank_of(uint8_t id) {
    switch (id) {
    case DW_SECTION_TAG: return 2 * DW_SECTION_MEMORY + 1;
    case DW_SECTION_DATA_COUNT: return 2 * DW_SECTION_ELEMENT + 1;
    default: return 2 * id;
    }
}

static section_reader reader_of(uint8_t id) {
    static const section_reader readers[DW_SECTIONS] = {
        [DW_SECTION_TYPE] = read_types,         [DW_SECTION_IMPORT] = read_imports,
        [DW_SECTION_FUNCTION] = read_functions, [DW_SECTION_TABLE] = read_table_section,
        [DW_SECTION_MEMORY] = read_memories,    [DW_SECTION_TAG] = read_tags,
        [DW_SECTION_GLOBAL] = read_globals,     [DW_SECTION_EXPORT] = read_exports,
        [DW_SECTION_START] = read_start,        [DW_SECTION_ELEMENT] = read_elements,
        [DW_SECTION_CODE] = read_code,          [DW_SECTION_DATA] = read_data,
        [DW_SECTION_DATA_COUNT] = read_data_count,
    };
    return id < DW_SECTIONS ? readers[id] : NULL;
}

/* The name section gives traps readable function names; the other custom sections are of no use after preparing. */
static void read_custom(const dw_span *body, dw_module *module) {
    dw_reader reader;
    dw_reader_init(&reader, body->data, body->size);
    dw_span name = read_module_name(&reader);
    if (dw_span_is(&name, "name")) module->sections[DW_SECTION_CUSTOM] = *body;
}

static dw_status read_section(const dw_span *wasm, uint8_t id, const dw_span *body, dw_module *module, dw_error *err) {
    if (id == DW_SECTION_CUSTOM) {
        read_custom(body, module);
        return DW_OK;
    }
    section_reader read = reader_of(id);
    if (!read)
        return dw_fail_at(err, DW_E_UNSUPPORTED, body->offset, "the module has a section of the unknown kind %u",
                          (unsigned)id);
    /* A reader that ends where the section ends but counts from the module's start, so that offsets mean the file. */
    dw_reader reader;
    dw_reader_init(&reader, wasm->data, body->offset + body->size);
    reader.offset = body->offset;
    dw_status status = rank_of(id) > rank_of(DW_SECTION_FUNCTION) ? complete_functions(module, err) : DW_OK;
    if (status == DW_OK) status = read(&reader, module, err);
    if (status != DW_OK) return status;
    if (reader.offset != reader.size)
        return dw_fail_at(err, DW_E_FORMAT, reader.offset,
                          "the module is damaged: section %u is longer than its entries", (unsigned)id);
    module->sections[id] = *body;
    return DW_OK;
}

static dw_status read_sections(dw_reader *reader, const dw_span *wasm, dw_module *module, dw_error *err) {
    int last_rank = 0;
    while (dw_reader_left(reader) > 0) {
        uint64_t at = reader->offset;
        uint8_t id = dw_read_u8(reader);
        uint32_t size = dw_read_leb_u32(reader);
        dw_span body = read_span(reader, size);
        if (reader->status != DW_OK) return bad(reader, "a section is cut short", err);
        if (id != DW_SECTION_CUSTOM) {
            if (rank_of(id) <= last_rank)
                return dw_fail_at(err, DW_E_FORMAT, at, "the module is damaged: section %u is out of order",
                                  (unsigned)id);
            last_rank = rank_of(id);
        }
        dw_status status = read_section(wasm, id, &body, module, err);
        if (status != DW_OK) return status;
    }
    return reader->status == DW_OK ? DW_OK : bad(reader, "a section is cut short", err);
}

static dw_status read_module(const dw_span *wasm, dw_module *module, dw_error *err) {
    static const uint8_t header[8] = {0, 'a', 's', 'm', 1, 0, 0, 0};
    dw_reader reader;
    dw_reader_init(&reader, wasm->data, wasm->size);
    const uint8_t *found = dw_read_bytes(&reader, sizeof header);
    if (!found || memcmp(found, header, 4) != 0) return dw_fail_at(err, DW_E_FORMAT, 0, "not a WebAssembly binary");
    if (memcmp(found, header, sizeof header) != 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, 4,
                          "not a core WebAssembly module of version 1 (components are not supported: build for "
                          "wasm32-wasip1)");
    dw_status status = read_sections(&reader, wasm, module, err);
    return status == DW_OK ? complete_functions(module, err) : status;
}

dw_status dw_module_read(const void *wasm, uint64_t size, dw_module *out, dw_error *err) {
    dw_span whole = {.data = wasm, .size = size};
    *out = (dw_module){.memory_pages_max = UINT64_MAX};
    dw_status status = read_module(&whole, out, err);
    if (status != DW_OK) dw_module_deinit(out);
    return status;
}

void dw_module_deinit(dw_module *module) {
    free(module->types);
    free(module->imports);
    free(module->functions);
    free(module->tables);
    free(module->named);
    free(module->changed);
    free(module->elements);
    free(module->dropped_elements);
    free(module->dropped_data);
    free(module->globals);
    free(module->constants);
    free(module->exports);
    free(module->data);
    *module = (dw_module){0};
}

const dw_signature *dw_module_signature(const dw_module *module, uint32_t function) {
    if (function >= module->n_functions || module->functions[function] >= module->n_types) return NULL;
    return &module->types[module->functions[function]];
}

static bool types_are(const dw_span *types, const char *letters) {
    if (types->size != strlen(letters)) return false;
    for (uint64_t i = 0; i < types->size; i++) {
        uint8_t expected = letters[i] == 'i'   ? DW_TYPE_I32
                           : letters[i] == 'I' ? DW_TYPE_I64
                           : letters[i] == 'f' ? DW_TYPE_F32
                                               : DW_TYPE_F64;
        if (types->data[i] != expected) return false;
    }
    return true;
}

bool dw_signature_is(const dw_signature *signature, const char *params, const char *results) {
    return types_are(&signature->params, params) && types_are(&signature->results, results);
}

bool dw_span_is(const dw_span *span, const char *text) {
    return span->size == strlen(text) && (span->size == 0 || memcmp(span->data, text, (size_t)span->size) == 0);
}

const char *dw_span_text(const dw_span *span, char out[DW_NAME_TEXT_BYTES]) {
    size_t n = (size_t)dw_min_u64(span->size, DW_NAME_TEXT_BYTES - 1);
    for (size_t i = 0; i < n; i++) out[i] = span->data[i] >= 0x20 && span->data[i] < 0x7F ? (char)span->data[i] : '?';
    out[n] = '\0';
    return out;
}

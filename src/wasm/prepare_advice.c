/* prepare_advice.c: see prepare_advice.h. */
#include "wasm/prepare_advice.h"

#include <stdbool.h>
#include <string.h>

#include "wasm/wasm.h"

/* --- names ------------------------------------------------------------------------------------------------------- */

/* Subsections of the name section. */
enum { NAMES_OF_FUNCTIONS = 1, NAMES_OF_GLOBALS = 7 };

typedef struct name_entry { uint32_t index; dw_span name; } name_entry;

/* A reader of the entries of one subsection; false where there is none. */
static bool open_names(const dw_module *module, uint8_t kind, dw_reader *out) {
    const dw_span *section = &module->sections[DW_SECTION_CUSTOM];
    dw_reader reader;
    if (!section->data) return false;
    dw_reader_init(&reader, section->data, section->size);
    (void)dw_read_bytes(&reader, dw_read_leb_u32(&reader)); /* the section's own name */
    while (reader.status == DW_OK && dw_reader_left(&reader) > 0) {
        uint8_t id = dw_read_u8(&reader);
        uint32_t size = dw_read_leb_u32(&reader);
        const uint8_t *body = dw_read_bytes(&reader, size);
        if (!body || id != kind) continue;
        dw_reader_init(out, body, size);
        return dw_read_leb_u32(out) > 0; /* entries; how many is not trusted */
    }
    return false;
}

static bool next_name(dw_reader *names, name_entry *out) {
    if (names->status != DW_OK || dw_reader_left(names) == 0) return false;
    out->index = dw_read_leb_u32(names);
    out->name.size = dw_read_leb_u32(names);
    out->name.data = dw_read_bytes(names, out->name.size);
    return out->name.data != NULL;
}

/* An empty span where it has none. */
static dw_span name_of_function(const dw_module *module, uint32_t function) {
    dw_reader names;
    name_entry entry = {0};
    if (!open_names(module, NAMES_OF_FUNCTIONS, &names)) return (dw_span){0};
    while (next_name(&names, &entry))
        if (entry.index == function) return entry.name;
    return (dw_span){0};
}

static bool name_ends_with(const dw_span *name, const char *ending) {
    size_t size = strlen(ending);
    return name->size >= size && memcmp(name->data + (name->size - size), ending, size) == 0;
}

static const dw_export *export_named(const dw_module *module, uint8_t kind, const char *name) {
    for (uint32_t i = 0; i < module->n_exports; i++)
        if (module->exports[i].kind == kind && dw_span_is(&module->exports[i].name, name)) return &module->exports[i];
    return NULL;
}

/* --- code -------------------------------------------------------------------------------------------------------- */

/* The bodies of the module's own functions, in order. */
typedef struct body_reader { dw_reader code; uint32_t left; } body_reader;

static body_reader open_bodies(const dw_module *module) {
    const dw_span *section = &module->sections[DW_SECTION_CODE];
    body_reader bodies = {.left = 0};
    if (!section->data) return bodies;
    dw_reader_init(&bodies.code, section->data, section->size);
    bodies.left = dw_read_leb_u32(&bodies.code);
    return bodies;
}

/* *out reads the next body from its locals on. */
static bool next_body(body_reader *bodies, dw_reader *out) {
    if (bodies->left == 0) return false;
    bodies->left--;
    uint32_t size = dw_read_leb_u32(&bodies->code);
    const uint8_t *body = dw_read_bytes(&bodies->code, size);
    if (!body) return false;
    dw_reader_init(out, body, size);
    return true;
}

static bool body_of(const dw_module *module, uint32_t function, dw_reader *out) {
    if (function < module->n_imports) return false;
    body_reader bodies = open_bodies(module);
    for (uint32_t i = module->n_imports; next_body(&bodies, out); i++)
        if (i == function) return true;
    return false;
}

/* --- where the stack lies ---------------------------------------------------------------------------------------- */

enum {
    OP_END = 0x0B,
    OP_CALL = 0x10,
    OP_LOCAL_TEE = 0x22,
    OP_GLOBAL_GET = 0x23,
    OP_GLOBAL_SET = 0x24,
    OP_I32_CONST = 0x41,
    OP_I32_SUB = 0x6B
};

static bool is_stack_like(const dw_module *module, uint32_t global) {
    return global < module->n_globals && module->globals[global].is_mutable &&
           module->globals[global].type == DW_TYPE_I32;
}

/* Does a function begin as LLVM's do that take room on the stack: stack pointer - constant, kept in a local and put
 * back? */
static bool begins_with_frame(dw_reader *body, uint32_t global) {
    uint32_t groups = dw_read_leb_u32(body);
    for (uint32_t i = 0; i < groups && body->status == DW_OK; i++) {
        (void)dw_read_leb_u32(body);
        (void)dw_read_u8(body);
    }
    if (dw_read_u8(body) != OP_GLOBAL_GET || dw_read_leb_u32(body) != global) return false;
    if (dw_read_u8(body) != OP_I32_CONST || dw_read_leb_s32(body) <= 0) return false;
    if (dw_read_u8(body) != OP_I32_SUB || dw_read_u8(body) != OP_LOCAL_TEE) return false;
    (void)dw_read_leb_u32(body);
    return dw_read_u8(body) == OP_GLOBAL_SET && dw_read_leb_u32(body) == global && body->status == DW_OK;
}

static bool any_begins_with_frame(const dw_module *module, uint32_t global) {
    body_reader bodies = open_bodies(module);
    dw_reader body;
    while (next_body(&bodies, &body))
        if (begins_with_frame(&body, global)) return true;
    return false;
}

/* By its name; in a module without names of globals it is the first global by the linker's convention, if functions use
 * it so. */
static bool find_stack_pointer(const dw_module *module, uint32_t *out) {
    static const char name[] = "__stack_pointer";
    const dw_export *exported = export_named(module, DW_KIND_GLOBAL, name);
    dw_reader names;
    name_entry entry = {0};
    *out = exported ? exported->index : 0;
    if (exported) return is_stack_like(module, *out);
    if (!open_names(module, NAMES_OF_GLOBALS, &names))
        return is_stack_like(module, 0) && any_begins_with_frame(module, 0);
    while (next_name(&names, &entry)) {
        *out = entry.index;
        if (dw_span_is(&entry.name, name)) return is_stack_like(module, *out);
    }
    return false;
}

/* What a global of type i32 begins with, when that is a plain constant. */
static bool initial_value(const dw_module *module, uint32_t global, uint32_t *out) {
    const dw_span *section = &module->sections[DW_SECTION_GLOBAL];
    uint64_t at = module->globals[global].offset - section->offset + 2; /* behind its type and mutability */
    dw_reader reader;
    dw_reader_init(&reader, section->data, section->size);
    (void)dw_read_bytes(&reader, at);
    bool constant = dw_read_u8(&reader) == OP_I32_CONST;
    *out = (uint32_t)dw_read_leb_s32(&reader);
    return constant && dw_read_u8(&reader) == OP_END && reader.status == DW_OK;
}

/* The stack grows downwards: from above the data, into the data. */
static bool stack_lies_above_data(const dw_module *module) {
    uint32_t global, top;
    uint64_t data_end = 0;
    for (uint32_t i = 0; i < module->n_data; i++) {
        const dw_data *data = &module->data[i];
        if (data->active && data->bytes.size > 0) data_end = dw_max_u64(data_end, data->at + data->bytes.size);
    }
    return data_end > 0 && find_stack_pointer(module, &global) && initial_value(module, global, &top) &&
           top >= data_end;
}

/* --- what an export really is ------------------------------------------------------------------------------------ */

enum { CALLS_MAX = 3 };

/* Reads a body that consists of calls alone. Returns how many; 0 when there is anything else. */
static uint32_t read_calls(dw_reader *body, uint32_t calls[CALLS_MAX]) {
    uint32_t n = 0;
    if (dw_read_leb_u32(body) != 0) return 0; /* locals */
    for (;;) {
        uint8_t opcode = dw_read_u8(body);
        if (opcode == OP_END && body->status == DW_OK && dw_reader_left(body) == 0) return n;
        if (opcode != OP_CALL || n == CALLS_MAX) return 0;
        calls[n++] = dw_read_leb_u32(body);
    }
}

static bool has_signature(const dw_module *module, uint32_t function, const char *results) {
    const dw_signature *signature = dw_module_signature(module, function);
    return signature && dw_signature_is(signature, "", results);
}

/* call ctors; call receive; (call dtors)? */
static bool calls_constructors_first(const dw_module *module, const uint32_t *calls, uint32_t n) {
    return n >= 2 && has_signature(module, calls[0], "") && has_signature(module, calls[1], "i") &&
           (n < 3 || has_signature(module, calls[2], ""));
}

/* call receive; call dtors: what a library of exports without constructors gets. Exit functions run once at most, and
 * flush; nothing is set back. */
static bool calls_destructors_only(const dw_module *module, const uint32_t *calls, uint32_t n) {
    return n == 2 && has_signature(module, calls[0], "i") && has_signature(module, calls[1], "");
}

#define WRAPPER_MEND                                                                                                   \
    "; link it as a reactor (-mexec-model=reactor), or export the constructors, which then run once "                  \
    "(-Wl,--export=__wasm_call_ctors; rustc -C link-arg=--export=__wasm_call_ctors)"

static dw_status advise_on_wrapper(const dw_module *module, uint32_t receive, uint32_t *advice, dw_error *err) {
    uint32_t calls[CALLS_MAX] = {0}, n = 0;
    dw_reader body;
    dw_span name = name_of_function(module, receive);
    bool named = name_ends_with(&name, ".command_export");
    if (body_of(module, receive, &body)) n = read_calls(&body, calls);
    bool constructs = calls_constructors_first(module, calls, n);
    if (named && constructs)
        return dw_fail(err, DW_E_UNSUPPORTED,
                       "the linker has wrapped driftwood_receive so that each message runs all constructors again and "
                       "sets the program's state back" WRAPPER_MEND);
    if (named && calls_destructors_only(module, calls, n)) return DW_OK;
    /* Without names: the linker's __wasm_call_ctors is the first function that is not imported. */
    if (named || (name.size == 0 && constructs && calls[0] == module->n_imports)) *advice |= DW_ADVICE_WRAPPED;
    return DW_OK;
}

/* --- all of it ------------------------------------------------------------------------------------------------- */

dw_status dw_advise(const dw_module *module, uint32_t *advice, dw_error *err) {
    const dw_export *receive = export_named(module, DW_KIND_FUNCTION, "driftwood_receive");
    *advice = 0;
    if (!receive) return DW_OK; /* a command runs once, and its memory ends with it */
    if (export_named(module, DW_KIND_FUNCTION, "_start"))
        return dw_fail(err, DW_E_INVALID,
                       "the module is a command (_start) and an actor (driftwood_receive) at once: _start, with its "
                       "main and constructors, would never run. Build a reactor, whose _initialize runs once: clang "
                       "-mexec-model=reactor, zig -fno-entry, Go -buildmode=c-shared, Rust --crate-type=cdylib, "
                       "AssemblyScript --exportStart _initialize");
    if (stack_lies_above_data(module)) *advice |= DW_ADVICE_STACK_ABOVE_DATA;
    return advise_on_wrapper(module, receive->index, advice, err);
}

const char *dw_advice_text(uint32_t bit) {
    switch (bit) {
    case DW_ADVICE_STACK_ABOVE_DATA:
        return "the program's stack lies above its data, so that a stack overflow writes over the data and nothing "
               "notices; link it with -Wl,--stack-first";
    case DW_ADVICE_WRAPPED:
        return "the linker has wrapped driftwood_receive, perhaps so that constructors run again with each message and "
               "set the program's state back" WRAPPER_MEND;
    default: return "";
    }
}

/* prepare_imports.c: see prepare_imports.h. */
#include "wasm/prepare_imports.h"

#include <stdio.h>
#include <string.h>

#include "wasm/wasi.h"

/* --- why an import is missing ---------------------------------------------------------------------------------- */

typedef struct origin {
    const char *module; /* NULL: any */
    const char *name;   /* NULL: any; else what it begins with */
    const char *hint;
} origin;

static const char emscripten[] = "of Emscripten's JavaScript; link with -sSTANDALONE_WASM, or build with wasi-libc";
static const char assembly_script[] =
    "AssemblyScript's, of which there is abort; name a function of your own with --use";
static const char bindgen[] = "wasm-bindgen's, for browsers; build for wasm32-wasip1 without it";
static const char go_script[] = "Go's for browsers; build with GOOS=wasip1 -buildmode=c-shared";
static const char threads[] = "of threads, which cannot be checkpointed; build without them";

/* The first that fits tells; a module that ends in * is a beginning. */
static const origin origins[] = {
    {DW_WASI_MODULE, NULL, "no function of WASI preview 1 but another runtime's own"},
    {"wasi_unstable", NULL, "WASI from before preview 1; build with a newer toolchain"},
    {"wasi", "thread", threads},
    {"wasi:*", NULL, "of the component model; build for wasm32-wasip1, a core module"},
    {DW_ENTER_MODULE, NULL, "the module " DW_ENTER_MODULE " has one function, " DW_ENTER_NAME},
    {"gojs", NULL, go_script},
    {"go", NULL, go_script},
    {"wbg", NULL, bindgen},
    {"__wbindgen*", NULL, bindgen},
    {"a", NULL, emscripten}, /* it shortens names */
    {"env", "emscripten_", emscripten},
    {"env", "_emscripten_", emscripten},
    {"env", "__syscall_", emscripten},
    {"env", "invoke_", emscripten},
    {"env", "__cxa_", emscripten},
    {"env", "_abort_js", emscripten},
    {"env", DW_ABORT_NAME, emscripten}, /* of another signature than AssemblyScript's */
    {"env", "seed", assembly_script},
    {"env", "trace", assembly_script},
    {"env", "console.", assembly_script},
    {"env", "Date.", assembly_script},
    {"env", "performance.", assembly_script},
    {"env", NULL, "undefined when it was linked; link the object or library that has it"},
    {NULL, NULL,
     "a program gets WASI preview 1, " DW_ENTER_MODULE "." DW_ENTER_NAME " and " DW_ABORT_MODULE "." DW_ABORT_NAME},
};
enum { ORIGINS = sizeof origins / sizeof origins[0] };

static bool span_begins_with(const dw_span *span, const char *text, size_t size) {
    return span->size >= size && memcmp(span->data, text, size) == 0;
}

static bool comes_from(const dw_import *import, const origin *from) {
    if (from->name && !span_begins_with(&import->name, from->name, strlen(from->name))) return false;
    if (!from->module) return true;
    size_t size = strlen(from->module);
    if (from->module[size - 1] == '*') return span_begins_with(&import->module, from->module, size - 1);
    return dw_span_is(&import->module, from->module);
}

static const char *hint_of(const dw_import *import) {
    size_t i = 0;
    while (!comes_from(import, &origins[i])) i++; /* the last fits all */
    return origins[i].hint;
}

/* --- what there is --------------------------------------------------------------------------------------------- */

/* params NULL: there is none of this name. */
typedef struct known_import { const char *params, *results; } known_import;

static bool is_named(const dw_import *import, const char *module, const char *name) {
    return dw_span_is(&import->module, module) && dw_span_is(&import->name, name);
}

static known_import find_known(const dw_import *import) {
    if (is_named(import, DW_ENTER_MODULE, DW_ENTER_NAME)) return (known_import){DW_ENTER_PARAMS, DW_ENTER_RESULTS};
    if (is_named(import, DW_ABORT_MODULE, DW_ABORT_NAME)) return (known_import){DW_ABORT_PARAMS, DW_ABORT_RESULTS};
    const dw_wasi_function *function = dw_span_is(&import->module, DW_WASI_MODULE) ? dw_wasi_find(&import->name) : NULL;
    return function ? (known_import){function->params, function->results} : (known_import){NULL, NULL};
}

/* *missing: there is nothing by this name, or (abort) nothing like it. */
static dw_status check_import(const dw_module *module, const dw_import *import, bool *missing, dw_error *err) {
    char a[DW_NAME_TEXT_BYTES], b[DW_NAME_TEXT_BYTES];
    known_import known = find_known(import);
    *missing = !known.params;
    dw_span_text(&import->module, a);
    dw_span_text(&import->name, b);
    if (import->type >= module->n_types)
        return dw_fail(err, DW_E_FORMAT, "the module is damaged: import %s.%s has no type", a, b);
    if (*missing || dw_signature_is(&module->types[import->type], known.params, known.results)) return DW_OK;
    *missing = is_named(import, DW_ABORT_MODULE, DW_ABORT_NAME);
    return *missing ? DW_OK : dw_fail(err, DW_E_INVALID, "the module imports %s.%s with a wrong signature", a, b);
}

/* --- naming what is missing ------------------------------------------------------------------------------------ */

/* Room is left for the file's name, which is put before the text. */
enum { LIST_BYTES = DW_ERROR_TEXT_BYTES - 140, LOGGED_MAX = 256 };

typedef struct missing_list {
    char text[LIST_BYTES];
    size_t used;
    uint32_t n_left_out;
} missing_list;

static void append_to_list(missing_list *list, const char *text) {
    size_t size = strlen(text);
    memcpy(list->text + list->used, text, size + 1);
    list->used += size;
}

static bool is_missing(const dw_module *module, uint32_t i) {
    bool missing = false;
    return check_import(module, &module->imports[i], &missing, NULL) == DW_OK && missing;
}

static void leave_out(missing_list *list, const char *name) {
    if (list->n_left_out++ < LOGGED_MAX) dw_log(DW_LOG_WARN, "missing_import", "name=%s", name);
}

/* "a.b, a.c (hint)" of the missing ones with this hint. */
static void append_kind(missing_list *list, const dw_module *module, const char *hint) {
    char a[DW_NAME_TEXT_BYTES], b[DW_NAME_TEXT_BYTES], name[2 * DW_NAME_TEXT_BYTES];
    bool named = false;
    for (uint32_t i = 0; i < module->n_imports; i++) {
        if (hint_of(&module->imports[i]) != hint || !is_missing(module, i)) continue;
        (void)snprintf(name, sizeof name, "%s.%s", dw_span_text(&module->imports[i].module, a),
                       dw_span_text(&module->imports[i].name, b));
        if (list->used + strlen(name) + strlen(hint) + sizeof "; , ()" > LIST_BYTES) {
            leave_out(list, name);
            continue;
        }
        if (list->used > 0) append_to_list(list, named ? ", " : "; ");
        append_to_list(list, name);
        named = true;
    }
    if (!named) return;
    append_to_list(list, " (");
    append_to_list(list, hint);
    append_to_list(list, ")");
}

static dw_status name_missing(const dw_module *module, dw_error *err) {
    missing_list list = {.used = 0};
    for (size_t i = 0; i < ORIGINS; i++) {
        bool again = false;
        for (size_t j = 0; j < i; j++) again = again || origins[j].hint == origins[i].hint;
        if (!again) append_kind(&list, module, origins[i].hint);
    }
    if (list.n_left_out > 0)
        return dw_fail(err, DW_E_UNSUPPORTED,
                       "the module imports what this runtime does not have: %s; and %u more, in the log", list.text,
                       (unsigned)list.n_left_out);
    return dw_fail(err, DW_E_UNSUPPORTED, "the module imports what this runtime does not have: %s", list.text);
}

dw_status dw_check_imports(const dw_module *module, bool *imports_enter, dw_error *err) {
    bool any_missing = false;
    *imports_enter = false;
    for (uint32_t i = 0; i < module->n_imports; i++) {
        bool missing;
        dw_status status = check_import(module, &module->imports[i], &missing, err);
        if (status != DW_OK) return status;
        any_missing = any_missing || missing;
        *imports_enter = *imports_enter || is_named(&module->imports[i], DW_ENTER_MODULE, DW_ENTER_NAME);
    }
    return any_missing ? name_missing(module, err) : DW_OK;
}

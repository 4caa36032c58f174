/* prepare_imports.h: the functions that a module imports, against those that there are.
 * Threads: pure functions, but for lines in the log. */
#ifndef DW_WASM_PREPARE_IMPORTS_H
#define DW_WASM_PREPARE_IMPORTS_H

#include <stdbool.h>
#include "base/base.h"
#include "wasm/module_reader.h"

/* The one import beside WASI: the door of the guest ABI. Types as for dw_signature_is. */
#define DW_ENTER_MODULE  "driftwood"
#define DW_ENTER_NAME    "enter"
#define DW_ENTER_PARAMS  "iiiiiI"
#define DW_ENTER_RESULTS "i"
/* And what AssemblyScript's programs import if nothing else (abort.h). */
#define DW_ABORT_MODULE  "env"
#define DW_ABORT_NAME    "abort"
#define DW_ABORT_PARAMS  "iiii"
#define DW_ABORT_RESULTS ""

/* DW_E_UNSUPPORTED names all that are missing, those of one kind together with what may help; what does not fit into
 * the text is in the log. DW_E_INVALID: a wrong signature. */
dw_status dw_check_imports(const dw_module *module, bool *imports_enter, dw_error *err) DW_MUST_USE;

#endif

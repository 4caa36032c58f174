/* os_library.c: libraries that are looked for while the program runs. */
#include <dlfcn.h>
#include <stdlib.h>

#include "os/os_internal.h"

/* The loader has no error numbers, only a text of its own. */
dw_status dw_os_library_open(const char *name, void **out, dw_error *err) {
    *out = NULL;
    if (dw_os_faulted(DW_FAULT_OPEN)) return dw_fail_system(err, errno, "cannot load %s", name);
    *out = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (*out != NULL) return DW_OK;
    const char *why = dlerror();
    return dw_fail(err, DW_E_NOT_FOUND, "%s", why != NULL ? why : name);
}

void *dw_os_library_symbol(void *library, const char *name) { return dlsym(library, name); }

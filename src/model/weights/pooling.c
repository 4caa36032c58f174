/* pooling.c: see pooling.h. */
#include "model/weights/pooling.h"

#include <stdio.h>

const char *dw_pooling_name(dw_pooling pooling) {
    static const char *const names[] = {"default", "mean", "cls", "last"};
    return (unsigned)pooling < sizeof names / sizeof names[0] ? names[pooling] : "unknown";
}

dw_status dw_pooling_read(const dw_gguf *gguf, const char *of, dw_pooling otherwise, dw_pooling *out, dw_error *err) {
    char key[128];
    uint64_t number = 0;
    bool found = false;
    snprintf(key, sizeof key, "%s.pooling_type", of);
    dw_status status = dw_gguf_u64(gguf, key, &number, &found, err);
    if (status != DW_OK) return status;
    if (number > DW_POOLING_LAST) {
        return dw_fail(err, DW_E_UNSUPPORTED, "key %s is %llu; mean (1), CLS (2) and last (3) are supported", key,
                       (unsigned long long)number);
    }
    *out = !found || number == 0 ? otherwise : (dw_pooling)number;
    return DW_OK;
}

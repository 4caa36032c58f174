/* pooling.h: how the hidden states of a text's tokens become one vector.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_WEIGHTS_POOLING_H
#define DW_MODEL_WEIGHTS_POOLING_H

#include "model/gguf/gguf.h"

/* Numbers of GGUF's pooling_type and of the guest ABI. */
typedef enum dw_pooling {
    DW_POOLING_DEFAULT = 0, /* the model's */
    DW_POOLING_MEAN = 1,
    DW_POOLING_CLS = 2,     /* the first token's */
    DW_POOLING_LAST = 3
} dw_pooling;

const char *dw_pooling_name(dw_pooling pooling); /* "mean"; static */
/* ARCHITECTURE.pooling_type of any file. 0 (none) and an absent key give `otherwise`; what is not mean, CLS or last is
 * refused. */
dw_status dw_pooling_read(const dw_gguf *gguf, const char *architecture, dw_pooling otherwise, dw_pooling *out,
                          dw_error *err) DW_MUST_USE;

#endif

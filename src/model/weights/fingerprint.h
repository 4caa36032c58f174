/* fingerprint.h: what must be equal for KV rows and tokens to be a model's.
 * Threads: pure, but for notes in the cache folder, which any process may write at any time.
 */
#ifndef DW_MODEL_WEIGHTS_FINGERPRINT_H
#define DW_MODEL_WEIGHTS_FINGERPRINT_H

#include <stdbool.h>
#include "model/gguf/gguf.h"

typedef struct dw_model_fingerprint { dw_hash weights, tokenizer, hyperparameters; } dw_model_fingerprint;

/* What `weights` and `tokenizer` cover (docs/drift-format.md). */
typedef enum dw_fingerprint_kind {
    DW_FINGERPRINT_TENSORS, /* tensors by name, and the keys that decide about tokens */
    DW_FINGERPRINT_FILES    /* whole files, and chat templates: as checkpoints of versions 1 and 2 have it */
} dw_fingerprint_kind;

/* Hashes the whole file the first time, which takes about a second for 2 GB; the weights' hash is then kept in the
 * cache folder, by the file's identity. rope_is_long: which rope factors the context chose (weights.h). */
dw_status dw_fingerprint_find(const dw_gguf *gguf, const char *architecture, bool rope_is_long,
                              dw_fingerprint_kind kind, dw_model_fingerprint *out, dw_error *err) DW_MUST_USE;

#endif

/* model.h: models: a file's weights on a device, its vocabulary, and the pool of its sessions. The facade of the rooms
 * below src/model.
 *
 *   model     a GGUF file mapped on a device: a decoder, which evaluates sessions, or an encoder, which only embeds
 *   pool      the sessions of a decoder, with the arena of their KV rows (session.h)
 *   profile   the conditions under which the bits of a model's results repeat
 *
 * Rules
 * 1. A model is attached to at most one pool, and a pool to at most one model. A model without a pool has weights,
 *    vocabulary and everything that it says about itself; it evaluates nothing, unless it is an encoder.
 * 2. A pool outlives its model while somebody holds it: the sessions keep logs and rows, but a job of theirs is refused
 *    (DW_E_STATE) until a model with the same fingerprint is opened with the pool.
 * 3. What bits depend on here is found out when a pool is attached (bits.h), not believed.
 * Threads: a model is opened and closed by one thread, also while the engine of its device works on others. Everything
 * else by any thread, unless it says otherwise.
 */
#ifndef DW_MODEL_MODEL_H
#define DW_MODEL_MODEL_H

#include <stdbool.h>
#include "base/base.h"
#include "device/device.h"
#include "model/graph/graph.h"
#include "model/session/session.h"
#include "model/text/text.h"
#include "model/weights/weights.h"

typedef struct dw_model_options {
    uint32_t context_tokens;  /* longest session; 0 = what the model was trained for, at most 32768 */
    uint32_t sessions_max;    /* slots in the arena; 0 = 32. Only addresses are reserved */
    /* Weights that have a faster product in another layout here go into a private copy of that layout. */
    bool repack;
    uint64_t kv_bytes_max;    /* memory for KV rows; 0 = no bound (session.h) */
    bool without_pool;        /* rule 1 */
    /* To attach to, as dw_model_keep_pool gave it; NULL = a new one. The options above that concern sessions are then
     * the pool's own. */
    dw_session_pool *pool;
    /* Of all sessions' rows. Q8_0 halves their memory and rounds them; a head that is no multiple of 32 is
     * DW_E_UNSUPPORTED. */
    dw_kv_type kv_type;
} dw_model_options;

/* Opens on a device, which must outlive the model and its sessions. Of a GGUF in parts `path` is the first (gguf.h).
 * Architectures without a family row are refused by name with the list of those that have one. */
dw_status dw_model_open(const char *path, dw_device *device, const dw_model_options *options, dw_model **out,
                        dw_error *err) DW_MUST_USE;
/* When no job of it is with an engine. NULL: nothing. Sessions stay (rule 2). */
void dw_model_close(dw_model *model);

typedef enum dw_model_kind { DW_MODEL_DECODER, DW_MODEL_ENCODER } dw_model_kind;

typedef struct dw_model_info {
    dw_model_kind kind;
    dw_pooling pooling;        /* the model's own; of a decoder that names none, the last token's */
    char name[128];            /* general.name, or the file's name */
    char architecture[32];
    char file_type[32];        /* "Q4_K_M", ... */
    char path[512];
    uint32_t n_layers, n_vocab, n_embedding, n_heads, n_heads_kv, head_dim;
    uint32_t context_tokens;       /* of a session here; of one text of an encoder */
    uint32_t context_train_tokens;
    uint64_t n_parameters;
    uint64_t file_bytes;           /* of all parts */
    uint32_t n_parts;              /* files: 1, or more for a split GGUF */
    /* I1: what was mapped and what had to be copied to the device. */
    uint64_t weights_wrapped_bytes, weights_copied_bytes;
    uint64_t weights_repacked_bytes; /* copied because it was asked for; 0 also where nothing has a repacked product */
    /* "mapped", or "repacked": products of repacked weights round differently, so a profile names it. */
    const char *weights;
    /* Of K (and of V) of one token in one layer: n_heads_kv * head_dim elements of kv_type. */
    uint32_t kv_row_bytes;
    uint64_t kv_bytes_per_token;
    dw_kv_type kv_type;
    bool has_chat_template;
    /* Exact sessions are batched here: it was tried that this keeps their bits (bits.h). */
    bool exact_batches;
    bool exact_cuts;               /* and cut and shared at any 64 tokens: prefill has the same bits in every cut */
} dw_model_info;
const dw_model_info *dw_model_info_view(const dw_model *model);
dw_vocab *dw_model_vocab(dw_model *model);     /* borrowed */
dw_device *dw_model_device(dw_model *model);   /* borrowed */
dw_session_pool *dw_model_pool(const dw_model *model); /* borrowed; NULL: rule 1 */
/* Notes in the pool which model it is of, so that it can be attached to an opening of the same file later. *out is the
 * caller's to release. DW_E_STATE for a model without a pool. */
dw_status dw_model_keep_pool(dw_model *model, dw_session_pool **out, dw_error *err) DW_MUST_USE;

/* A session in the model's pool: as dw_session_create and dw_session_restore, and DW_E_UNSUPPORTED for an encoder,
 * DW_E_STATE without a pool. */
dw_status dw_model_create_session(dw_model *model, const dw_session_options *options, dw_session **out,
                                  dw_error *err) DW_MUST_USE;
dw_status dw_model_restore_session(dw_model *model, const dw_session_image *image, dw_session **out,
                                   dw_error *err) DW_MUST_USE;

/* What must be equal for KV rows to be this model's (fingerprint.h). Found once, then kept. Any thread. */
dw_status dw_model_fingerprint_of(dw_model *model, dw_fingerprint_kind kind, dw_model_fingerprint *out,
                                  dw_error *err) DW_MUST_USE;
/* What must also be equal for bit-exact continuation:
 * "build=...;isa=...;device=...;threads=any;kv=F16;weights=mapped;chunk=256/64". Threads are named where bits depend on
 * how many there are: the CPU with more threads than the model has heads. */
enum { DW_PROFILE_BYTES = 256 };
void dw_model_profile(const dw_model *model, char out[DW_PROFILE_BYTES]);

#endif

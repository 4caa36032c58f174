/* model_internal.h: a model and a session from inside the module. */
#ifndef DW_MODEL_MODEL_INTERNAL_H
#define DW_MODEL_MODEL_INTERNAL_H

#include "model/decoder.h"
#include "model/family.h"
#include "model/kv.h"
#include "model/model.h"
#include "model/weights.h"
#include "os/os.h"

/* Logits of at most so many rows are held at a time (32 x 262,144 floats = 32 MiB). */
enum { DW_HEAD_ROWS_MAX = 32 };

struct dw_model {
    dw_model_info info;
    dw_device *device;
    dw_gguf *gguf;
    dw_vocab *vocab;
    const dw_family *family;
    dw_hyperparameters hp;
    dw_weights weights;
    dw_bits bits;
    /* Guards the arena's slots and maps: sessions come and go on any thread while the engine computes on other slots. Held for
     * microseconds, never while computing. */
    dw_os_mutex *lock;
    dw_kv_arena *arena;
    /* The evaluating thread's. */
    dw_decoder *decoder;
    dw_sampler *sampler;
    float *logits;           /* [logits_rows, n_vocab] for results that nobody gave memory for */
    uint32_t logits_rows;
    float *hidden;           /* [hidden_rows, n_embedding] */
    uint32_t hidden_rows;
    /* Once asked for. */
    bool has_fingerprint;
    dw_model_fingerprint fingerprint;
};

struct dw_session {
    dw_model *model;
    dw_kv_slot slot;
    int32_t *tokens;         /* the log */
    uint32_t n_tokens, capacity;
    uint32_t n_rows;         /* evaluated prefix */
    dw_sampler_state sampler;
    bool fast;
    dw_priority priority;
    uint64_t served;         /* tokens evaluated; the evaluating thread's */
    _Atomic bool busy;       /* a job has it */
};

/* bits.c: finds out what bits depend on here and fills model->bits; with the arena and the decoder ready and no session yet. */
dw_status dw_bits_find(dw_model *model, dw_error *err) DW_MUST_USE;

/* DW_E_RANGE for a token outside the vocabulary. */
dw_status dw_session_check_tokens(const dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) DW_MUST_USE;
/* Appends checked tokens to the log, as pending. DW_E_FULL beyond the context. */
dw_status dw_session_append(dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) DW_MUST_USE;
/* Shortens log and rows; never fails. n_rows <= n_tokens. */
void dw_session_cut(dw_session *session, uint32_t n_tokens, uint32_t n_rows);
/* The slot as the decoder needs it; and rows that have been evaluated. */
dw_status dw_session_bind(dw_session *session, dw_graph_binding *out, dw_error *err) DW_MUST_USE;
void dw_session_commit(dw_session *session, uint32_t n_rows);

#endif

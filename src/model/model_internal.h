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
    struct dw_encoder *encoder; /* NULL of a decoder; of an encoder there is nothing else but gguf, vocab and lock */
    /* Guards the arena's slots and maps: sessions come and go on any thread while the engine computes on other slots. Held for
     * microseconds, never while computing. */
    dw_os_mutex *lock;
    dw_kv_arena *arena;
    /* under the lock */
    dw_session *sessions;    /* all of them */
    uint64_t kv_bytes_max;   /* 0 = none */
    uint64_t evictions, refused;
    uint64_t session_ids, uses; /* the last ones given */
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

/* Log and rows are changed under the model's lock alone, because other sessions look for a common prefix in them; whoever uses the session
 * reads its log without. Rows can be taken away by others while no job has the session: it reads their number under the lock then. */
struct dw_session {
    dw_model *model;
    dw_session *next, *previous; /* of the model's */
    dw_kv_slot slot;
    int32_t *tokens;         /* the log */
    uint32_t n_tokens, capacity;
    uint32_t n_rows;         /* evaluated prefix */
    uint32_t n_prefilled;    /* of these; 0 for a fast session */
    dw_sampler_state sampler;
    bool fast, granted;
    bool from_file;          /* some of its rows are a checkpoint's */
    uint64_t owner;
    dw_priority priority;
    uint64_t id;             /* for logs */
    uint64_t last_use;       /* the model's count when rows were last evaluated */
    uint32_t keepers;        /* calls of dw_session_keep that were not undone */
    uint64_t served;         /* tokens evaluated; the evaluating thread's */
    _Atomic bool busy;       /* a job has it */
};

/* Room for n rows of `width` values in the model's logits or hidden rows, kept for later. The evaluating thread's; what lies there may
 * move. */
dw_status dw_model_room(float **memory, uint32_t *have, uint32_t n, uint32_t width, dw_error *err) DW_MUST_USE;

/* bits.c: finds out what bits depend on here and fills model->bits; with the arena and the decoder ready and no session yet. */
dw_status dw_bits_find(dw_model *model, dw_error *err) DW_MUST_USE;
/* bits_note.c. The path is "" where no note can be kept. */
enum { DW_BITS_NOTE_PATH_BYTES = 768 };
void dw_bits_note_path(const dw_model *model, char out[DW_BITS_NOTE_PATH_BYTES]);
bool dw_bits_read_note(const char *path, dw_bits *bits);
void dw_bits_write_note(const char *path, const dw_bits *bits);

/* DW_E_RANGE for a token outside the vocabulary. */
dw_status dw_session_check_tokens(const dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) DW_MUST_USE;
/* For a job; DW_E_BUSY when another one has it. */
dw_status dw_session_take(dw_session *session, dw_error *err) DW_MUST_USE;
/* Appends checked tokens to the log, as pending. DW_E_FULL beyond the context. */
dw_status dw_session_append(dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) DW_MUST_USE;
/* Shortens log and rows; never fails. n_rows <= n_tokens. */
void dw_session_cut(dw_session *session, uint32_t n_tokens, uint32_t n_rows);
/* The slot as the decoder needs it for the next chunk of pending tokens, with room in the budget for it (DW_E_FULL); and rows that have been
 * evaluated, all those of one chunk in one call. */
dw_status dw_session_bind(dw_session *session, dw_graph_binding *out, dw_error *err) DW_MUST_USE;
void dw_session_commit(dw_session *session, uint32_t n_rows);

/* budget.c, lock held: makes sure that rows up to n_rows may be written. DW_E_FULL. */
dw_status dw_session_reserve_locked(dw_session *session, uint32_t n_rows, dw_error *err) DW_MUST_USE;

/* share.c. Takes rows of pending tokens from another session, where there is one that has them (rule 6). At most rows_max rows are the
 * session's then; with several wanted rows the chunks that remain are cut as they would be without. Returns how many it took. */
uint32_t dw_session_share(dw_session *session, uint32_t rows_max, bool several_wanted);
/* The same with the lock held. */
uint32_t dw_session_share_locked(dw_session *session, uint32_t rows_max, bool several_wanted);
/* For a job whose tokens, the first of them at first_token of the log, have just been appended. Sets job->n_shared. */
void dw_job_share(dw_job *job, uint32_t first_token);

#endif

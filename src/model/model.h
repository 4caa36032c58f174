/* model.h: models, sessions and the engine that steps them. This is the module's face; gguf.h, vocab.h, sampler.h and kv.h are its parts.
 *
 *   model     a GGUF file mapped on a device; a decoder, with an arena of KV slots, or an encoder, which only embeds
 *   session   one conversation with one model: a log of tokens, KV rows for a prefix of the log, sampler state
 *   pending   the tokens of the log that have no KV row yet; the next evaluation takes them first
 *   slot      where a session's rows lie in the model's arena (kv.h)
 *   job       one request to the engine: a forward pass, a whole generation, or texts to be embedded
 *   embed     a text's tokens to one vector [n_embedding]: the last hidden states, pooled
 *   exact     a session whose bits depend on nobody else: batched only where that keeps them (bits.h). `fast` sessions are batched freely
 *   prefilled the leading rows of a session that were evaluated in prefill chunks alone, from row 0 on without a gap: their bits are the
 *             same however the prompt was cut (rule 2)
 *   share     to take the rows of a common prefix from another session, by the maps of a fork, instead of computing them
 *   owner     whom a session belongs to. Sessions of one owner share; those of different owners only if both are `granted`, because how fast
 *             an answer comes tells whether somebody else has evaluated the same prefix
 *
 * Rules
 * 1. Rows are append-only: a committed row is never written again (kv.h says how fork, rewind and thaw keep that true).
 * 2. Row i was computed from tokens 0..i of the log, in the shape that the schedule gave (every chunk at least
 *    DW_PREFILL_CHUNK_TOKENS_MIN tokens, a shorter tail joins the chunk before it). The same calls in the same order on the same
 *    profile give the same bits, whatever happened between them: freeze, thaw, fork, other sessions (I4).
 *    Logits of a row are computed together with those of the other rows wanted of its chunk; their last bits depend on how many those are.
 * 3. A forward job is all or nothing: when it fails or is cancelled the session is as before it. A generation that is cancelled
 *    keeps the tokens it delivered.
 * 4. A sampled token is state: it is in the log and never derived again.
 * 5. One job per session at a time (DW_E_BUSY). No session function may be called while a job of that session is with the engine.
 * 6. Sharing does not change what an exact session computes: it takes rows only when its job begins, only such as it would have computed
 *    with the same bits (prefilled ones, of exact sessions), and in place of rows that were prefilled themselves; what remains is at least one whole
 *    chunk. A fast session takes any committed rows while it has none of its own. Rows that came from a file are given to fast sessions of
 *    the same owner alone: nobody but him has reason to trust that file.
 * Threads: a model is opened and closed by one thread, also while the engine of its device works on others. dw_engine_submit/cancel from any. Each session is used by one thread at a time, different
 * sessions of a model by different threads at once; what one session does to another (sharing, eviction) is done under the model's lock.
 */
#ifndef DW_MODEL_MODEL_H
#define DW_MODEL_MODEL_H

#include <stdatomic.h>
#include <stdbool.h>
#include "base/base.h"
#include "device/device.h"
#include "model/kv_type.h"
#include "model/sampler.h"
#include "model/vocab.h"
#include "region/region.h"

/* --- models -------------------------------------------------------------------------------------------------- */

typedef struct dw_model dw_model;

typedef struct dw_model_options {
    uint32_t context_tokens;  /* longest session; 0 = what the model was trained for, at most 32768 */
    uint32_t sessions_max;    /* slots in the arena; 0 = 32. Only addresses are reserved */
    bool repack;              /* weights that have a faster product in another layout here go into a private copy of that layout */
    uint64_t kv_bytes_max;    /* memory for KV rows; 0 = no bound. See dw_model_kv_use_now */
    dw_kv_type kv_type;       /* of all sessions' rows. Q8_0 halves their memory and rounds them; a head that is no multiple of 32 is DW_E_UNSUPPORTED */
} dw_model_options;

/* Opens on a device, which must outlive the model. Of a GGUF in parts `path` is the first (gguf.h). Architectures without a family row are refused by name with the list of those that have one. */
dw_status dw_model_open(const char *path, dw_device *device, const dw_model_options *options, dw_model **out, dw_error *err) DW_MUST_USE;
void dw_model_close(dw_model *model); /* after its sessions */

typedef enum dw_model_kind { DW_MODEL_DECODER, DW_MODEL_ENCODER } dw_model_kind;

/* How the hidden states of a text's tokens become one vector. Numbers of GGUF's pooling_type and of the guest ABI. */
typedef enum dw_pooling { DW_POOLING_DEFAULT = 0 /* the model's */, DW_POOLING_MEAN = 1, DW_POOLING_CLS = 2 /* the first token's */, DW_POOLING_LAST = 3 } dw_pooling;
const char *dw_pooling_name(dw_pooling pooling); /* "mean"; static */

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
    uint64_t weights_wrapped_bytes, weights_copied_bytes; /* I1: what was mapped and what had to be copied to the device */
    uint64_t weights_repacked_bytes; /* copied because it was asked for; 0 also where nothing has a repacked product */
    const char *weights;             /* "mapped", or "repacked": products of repacked weights round differently, so a profile names it */
    uint32_t kv_row_bytes;         /* of K (and of V) of one token in one layer: n_heads_kv * head_dim elements of kv_type */
    uint64_t kv_bytes_per_token;
    dw_kv_type kv_type;
    bool has_chat_template;
    bool exact_batches;            /* exact sessions are batched here: it was tried that this keeps their bits (bits.h) */
    bool exact_cuts;               /* and cut and shared at any 64 tokens: prefill has the same bits in every cut */
} dw_model_info;
const dw_model_info *dw_model_info_view(const dw_model *model);
dw_vocab *dw_model_vocab(dw_model *model);     /* borrowed */
dw_device *dw_model_device(dw_model *model);   /* borrowed */

/* KV rows of all sessions. kv_bytes counts each session's rows as if it were alone; own_bytes is memory that one session holds, shared_bytes what
 * several do, counted once: together what the rows take. Rows that a checkpoint's file holds take none.
 * When an evaluation would take more than the budget, idle fast sessions lose their rows, lowest class first, among these the one longest unused
 * (never one of a higher class than the session that asks); their tokens stay, pending. An exact session's rows stay, because recomputed
 * they may have other bits. If that is not enough, the job ends with DW_E_FULL. */
typedef struct dw_model_kv_use { uint64_t sessions, kv_bytes, own_bytes, shared_bytes, budget_bytes, evictions, refused; } dw_model_kv_use;
void dw_model_kv_use_now(const dw_model *model, dw_model_kv_use *out);

/* What must be equal for KV rows to be this model's. The weights' hash is cached by the file's identity in the cache folder. */
typedef struct dw_model_fingerprint { dw_hash weights, tokenizer, hyperparameters; } dw_model_fingerprint;
dw_status dw_model_fingerprint_of(dw_model *model, dw_model_fingerprint *out, dw_error *err) DW_MUST_USE;
/* What must also be equal for bit-exact continuation: "build=...;isa=...;device=...;threads=any;kv=F16;weights=mapped;chunk=256/64". Threads are named
 * where bits depend on how many there are: the CPU with more threads than the model has heads. */
enum { DW_PROFILE_BYTES = 256 };
void dw_model_profile(const dw_model *model, char out[DW_PROFILE_BYTES]);

/* --- sessions ------------------------------------------------------------------------------------------------ */

typedef struct dw_session dw_session;

/* The class of whoever a session works for: the smaller, the sooner it is served (schedule.h) and the later it has to give way (budget.c). */
typedef enum dw_priority { DW_PRIORITY_REALTIME = -1, DW_PRIORITY_NORMAL = 0, DW_PRIORITY_BACKGROUND = 1 } dw_priority;

typedef struct dw_session_options {
    bool fast;
    bool granted;          /* its rows may be given to sessions of any owner, and it takes from any that is granted too */
    uint64_t owner;        /* whose; 0 = shares with nobody */
    dw_priority priority;
    uint64_t seed;
} dw_session_options;

/* DW_E_UNSUPPORTED for an encoder. */
dw_status dw_session_create(dw_model *model, const dw_session_options *options, dw_session **out, dw_error *err) DW_MUST_USE;
void dw_session_destroy(dw_session *session);
dw_model *dw_session_model(const dw_session *session);

const int32_t *dw_session_tokens(const dw_session *session, uint32_t *n_tokens); /* the log; borrowed until it changes */
uint32_t dw_session_rows(const dw_session *session);                             /* evaluated prefix, <= n_tokens */
dw_sampler_state dw_session_sampler_state(const dw_session *session);
void dw_session_set_sampler_state(dw_session *session, dw_sampler_state state);
bool dw_session_is_fast(const dw_session *session);

/* Shortens the log to n tokens (DW_E_RANGE above its length); rows beyond are dropped. */
dw_status dw_session_rewind(dw_session *session, uint32_t n_tokens, dw_error *err) DW_MUST_USE;
/* Back to n_tokens of which at most n_rows keep their rows; the others are pending again. */
dw_status dw_session_rewind_rows(dw_session *session, uint32_t n_tokens, uint32_t n_rows, dw_error *err) DW_MUST_USE;
/* Makes the log equal to tokens[n]: keeps the common prefix, drops the rest, appends the new ones as pending. *n_reused tokens have rows then: its
 * own, and those that a fast session shares. An exact one shares when a job begins, because until then it could still be rewound. */
dw_status dw_session_sync(dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint32_t *n_reused, dw_error *err) DW_MUST_USE;
/* A second session with the same past; shares the committed rows' pages. Nothing is copied but the log. */
dw_status dw_session_fork(dw_session *session, dw_session **out, dw_error *err) DW_MUST_USE;

/* For checkpoints. Rows of a layer lie contiguously: K (which 0) or V (which 1), [rows, n_heads_kv, head_dim] of info.kv_type.
 * The view is of live memory: valid until the session's next change, and on while other threads use the model's sessions only if it is kept. */
dw_status dw_session_kv_view(const dw_session *session, uint32_t layer, int which, const void **out, uint64_t *bytes) DW_MUST_USE;
/* Where the rows of one layer's K or V begin in a backing object (page-aligned offset; the object reaches at least to the page
 * end behind the last row). */
typedef struct dw_kv_source { uint64_t k_offset, v_offset; } dw_kv_source;
typedef struct dw_session_image {
    const int32_t *tokens; uint32_t n_tokens; uint32_t n_rows;
    dw_backing *backing;              /* retained; mapped privately in place, not read */
    const dw_kv_source *layers;       /* [n_layers] */
    dw_sampler_state sampler;
    bool fast;
    uint64_t owner;                   /* as in dw_session_options; granted it never is, rule 6 */
    dw_priority priority;
} dw_session_image;
dw_status dw_session_restore(dw_model *model, const dw_session_image *image, dw_session **out, dw_error *err) DW_MUST_USE;

/* While a session is kept its rows stay where they are: for who looks at views of them. Calls nest; free at once. */
void dw_session_keep(dw_session *session);
void dw_session_let_go(dw_session *session);

/* Bytes of a session: all rows; memory that only this session holds, so would be free without it; the rest of the rows' bytes. */
typedef struct dw_session_use { uint64_t kv_bytes, own_bytes, shared_bytes; uint32_t extents; } dw_session_use;
dw_status dw_session_use_now(const dw_session *session, dw_session_use *out, dw_error *err) DW_MUST_USE;

/* --- jobs and the engine ------------------------------------------------------------------------------------- */

/* What is wanted of one evaluated token. NULL / 0 = not wanted. All pointers stay the caller's until the job is done. */
typedef struct dw_row_request {
    uint32_t index;                  /* in job.tokens; DW_ROW_LAST = the last token of the log */
    float *logits;                   /* [n_vocab]; on the CPU the graph of a job that is alone writes here itself (no staging copy) */
    dw_token_score *top; uint32_t n_top;
    const int32_t *candidates; float *candidate_logprobs; uint32_t n_candidates;
    float *entropy;
    bool sample;                     /* draws with `sampling` and the session's sampler state; the token is not appended */
    dw_sampling sampling;
    dw_token_score sampled;          /* out */
} dw_row_request;
#define DW_ROW_LAST UINT32_MAX

/* One text to be embedded. All pointers stay the caller's until the job is done. */
typedef struct dw_embed_text {
    const int32_t *tokens; uint32_t n_tokens;  /* with the special tokens that the model wants (dw_vocab_tokenize add_special); 1 to context_tokens */
    float *vector;                             /* -> [n_embedding]; on the CPU the graph writes here itself (no staging copy) */
} dw_embed_text;

typedef enum dw_job_kind { DW_JOB_FORWARD, DW_JOB_GENERATE, DW_JOB_EMBED } dw_job_kind;
typedef enum dw_end_reason { DW_END_NONE = 0, DW_END_TOKEN = 1, DW_END_STOP = 2, DW_END_LENGTH = 3, DW_END_CONTEXT = 4 } dw_end_reason; /* ABI numbers */

typedef struct dw_job {
    dw_job_kind kind;
    dw_session *session;                        /* forward, generate */
    const int32_t *tokens; uint32_t n_tokens;   /* appended to the log first */
    /* forward */
    dw_row_request *rows; uint32_t n_rows;      /* ascending indices; DW_ROW_LAST last */
    /* generate: the last token made stays pending, its row is computed when somebody goes on. An end token is not kept. */
    dw_sampling sampling;
    uint32_t n_max;                             /* tokens to make at most */
    const char *const *stops; uint32_t n_stops; /* NUL-terminated; text of a stop is not delivered, and tokens that hold nothing else are not kept in the log */
    bool ignore_end;                            /* go on after an end-of-generation token */
    /* embed: no session; a decoder evaluates each text in a slot of its arena, taken for that long. A decoder's vectors do not depend
     * on the other texts; an encoder's texts share products, whose kernel goes by the number of tokens (bits.h): on the CPU texts of 8 tokens and more
     * get the same bits in any company. A job that fails or is cancelled
     * has written the first n_embedded vectors. */
    dw_model *model;
    const dw_embed_text *texts; uint32_t n_texts; /* at most DW_EMBED_TEXTS_MAX */
    dw_pooling pooling;
    dw_priority priority;                       /* whose steps come first; other jobs have their session's */
    bool normalize;                             /* to length 1, so that a dot product is the cosine */
    /* Called on the evaluating thread for each piece of text that is certain (not a possible beginning of a stop), valid UTF-8 not
     * guaranteed at its edges. Returning false ends the generation (DW_E_CANCELLED). May be NULL. */
    bool (*on_text)(struct dw_job *job, const char *text, size_t size);
    /* Called once, on the engine thread, after everything else is written. It must not submit or block. May be NULL. */
    void (*on_done)(struct dw_job *job);
    void *context;
    /* results */
    dw_status status;
    dw_error error;
    uint32_t n_evaluated, n_generated;          /* tokens: prompt rows computed in this job; tokens made */
    uint32_t n_shared;                          /* rows that the session had not and took from another one */
    uint32_t n_embedded;                        /* texts */
    uint64_t prefill_ns, decode_ns;             /* of the steps that it took part in */
    uint64_t copied_bytes;                      /* I1: logits that were computed beside others' and copied to where they are wanted */
    dw_end_reason end_reason;
    uint32_t stop_index;                        /* with DW_END_STOP */
    /* the engine's own */
    _Atomic bool cancel;
    uint64_t served;
    void *state;
} dw_job;

/* Runs a job on the calling thread, to its end: the native loop. Only while no engine runs on this model. */
dw_status dw_job_run(dw_job *job, dw_error *err) DW_MUST_USE;

typedef struct dw_engine dw_engine;
/* One thread that steps the jobs of all models of one device: each step is a batch of all that decode, or a bounded chunk of prefill.
 * The device must outlive it, and so must the models of its jobs. */
dw_status dw_engine_create(dw_device *device, dw_engine **out, dw_error *err) DW_MUST_USE;
void dw_engine_destroy(dw_engine *engine); /* cancels what is left, waits */
/* Takes the job until its on_done. Refusals that can be seen at once (range, busy, context full) are returned here and on_done is not called. */
dw_status dw_engine_submit(dw_engine *engine, dw_job *job, dw_error *err) DW_MUST_USE;
/* The job ends with DW_E_CANCELLED within one step, through on_done as always. */
void dw_engine_cancel(dw_engine *engine, dw_job *job);
/* Since it was made: steps; jobs' parts in them, and the most in one; steps given up for somebody of a higher class (or a cancel). Any thread. */
typedef struct dw_engine_counts { uint64_t steps, parts, parts_most, given_up; } dw_engine_counts;
dw_engine_counts dw_engine_counts_now(dw_engine *engine);

#endif

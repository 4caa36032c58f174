/* session.h: conversations with one model: what each has read, where its rows are, and what they share.
 *
 *   session   one conversation with one model: a log of tokens, KV rows for a prefix of the log, sampler state
 *   pending   the tokens of the log that have no KV row yet; the next evaluation takes them first
 *   logits    of the last row, [n_vocab] f32, held for a draw that comes next
 *   slot      where a session's rows lie in the pool's arena (kv.h)
 *   pool      the sessions of one model, the arena of their rows, and the budget for what the rows take. A pool needs
 *             no weights: its sessions stay while their model is closed, and go on when it is open again (model.h)
 *   exact     a session whose bits depend on nobody else: batched only where that keeps them (bits.h). `fast` sessions
 *             are batched freely
 *   prefilled the leading rows of a session that were evaluated in prefill chunks alone, from row 0 on without a gap:
 *   their bits are the
 *             same however the prompt was cut (rule 2)
 *   share     to take the rows of a common prefix from another session, by the maps of a fork, instead of computing
 *             them
 *   owner     whom a session belongs to. Sessions of one owner share. Sessions of different owners share only if both
 *             are `granted`, because how fast an answer comes tells whether somebody else has evaluated the same prefix
 *
 * Rules
 * 1. Rows are append-only: a committed row is never written again (kv.h says how fork, rewind and thaw keep that true).
 * 2. Row i was computed from tokens 0..i of the log, in the shape that the schedule gave: every chunk has at least
 *    DW_PREFILL_CHUNK_TOKENS_MIN tokens, a shorter tail joins the chunk before it. The same calls in the same order on
 *    the same profile give the same bits, whatever happened between them: freeze, thaw, fork, other sessions (I4).
 *    Logits of a row are computed together with those of the other rows wanted of its chunk. Their last bits depend on
 *    how many those are.
 * 3. A sampled token is state: it is in the log and never derived again.
 * 4. Sharing does not change what an exact session computes. It takes rows only when its job begins, and only such as
 *    it would have computed with the same bits: prefilled ones, of exact sessions, in place of rows that were prefilled
 *    themselves. What remains is at least one whole chunk. A fast session takes any committed rows while it has none of
 *    its own. Rows that came from a file are given to sessions of the same owner alone: nobody but him has reason to
 *    trust that file.
 * 5. Logits are held because somebody asked for them (engine.h), and only while every token has its row: a log that
 *    grows or is cut drops them, and so does whatever takes rows away. A draw from held logits is what it would have
 *    been when they were computed. Without them the last row is computed again, in another shape. They are state: a
 *    fork has them too, a rollback puts them back.
 * 6. No function below may be called while a job of that session is with the engine, but for dw_session_pool_of and
 *    dw_session_model.
 * Threads: each session is used by one thread at a time, different sessions of a pool by different threads at once.
 * What one session does to another (sharing, eviction) is done under the pool's lock.
 */
#ifndef DW_MODEL_SESSION_SESSION_H
#define DW_MODEL_SESSION_SESSION_H

#include <stdbool.h>
#include "base/base.h"
#include "device/device.h"
#include "model/kv/kv.h"
#include "model/sample/sample.h"
#include "region/region.h"

/* --- pools --------------------------------------------------------------------------------------------------- */

typedef struct dw_session_pool dw_session_pool;
typedef struct dw_session dw_session;
typedef struct dw_logits dw_logits; /* counted, never changed */
typedef struct dw_model dw_model; /* model.h; only its address is used here */

typedef struct dw_session_pool_options {
    dw_kv_geometry kv;       /* kv.context_tokens may be more than context_tokens: attention sees whole steps */
    uint32_t sessions_max;   /* kv.n_slots has DW_MODEL_OWN_SLOTS more */
    uint32_t n_vocab;        /* tokens are below it */
    uint32_t context_tokens; /* the longest log */
    uint64_t kv_bytes_max;   /* memory for KV rows; 0 = no bound */
} dw_session_pool_options;

/* The device must outlive the pool. */
dw_status dw_session_pool_create(const dw_session_pool_options *options, dw_device *device, dw_session_pool **out,
                                 dw_error *err) DW_MUST_USE;
/* Counted: whoever retained it releases it. Each session holds its pool, and so does the model that is attached. Any
 * thread. */
dw_session_pool *dw_session_pool_retain(dw_session_pool *pool);
void dw_session_pool_release(dw_session_pool *pool); /* NULL: nothing */

/* KV rows of all sessions, and the logits that they hold. kv_bytes counts each session's rows as if it were alone.
 * own_bytes is memory that one session holds, shared_bytes what several do, counted once: together what the rows take.
 * Rows that a checkpoint's file holds take none. logits_bytes is what held logits take; those that sessions share count
 * once. The budget bounds rows and logits together. text_bytes is memory for texts that are being embedded, and for
 * trials while a model is opened: beside the budget, bounded by DW_MODEL_OWN_SLOTS contexts.
 * When an evaluation, or logits that are to be held, would take more than the budget, idle fast sessions lose their
 * rows and logits: lowest class first, among these the one longest unused, and never one of a higher class than the
 * session that asks. Their tokens stay, pending. An exact session's rows stay, because recomputed they may have other
 * bits. If that is not enough, the job ends with DW_E_FULL. */
typedef struct dw_session_pool_use {
    uint64_t sessions, kv_bytes, own_bytes, shared_bytes, logits_bytes, text_bytes, budget_bytes, evictions, refused;
} dw_session_pool_use;
void dw_session_pool_use_now(const dw_session_pool *pool, dw_session_pool_use *out); /* any thread */

/* --- sessions ------------------------------------------------------------------------------------------------ */

/* The class of whoever a session works for: the smaller, the sooner it is served (schedule.h) and the later it has to
 * give way (budget.c). */
typedef enum dw_priority { DW_PRIORITY_REALTIME = -1, DW_PRIORITY_NORMAL = 0, DW_PRIORITY_BACKGROUND = 1 } dw_priority;

typedef struct dw_session_options {
    bool fast;
    /* Its rows may be given to sessions of any owner, and it takes from any that is granted too. */
    bool granted;
    uint64_t owner;        /* whose; 0 = shares with nobody */
    dw_priority priority;
    uint64_t seed;
} dw_session_options;

/* DW_E_LIMIT when the pool has sessions_max already, here and wherever a session is made. Options NULL: an exact
 * session without owner. */
dw_status dw_session_create(dw_session_pool *pool, const dw_session_options *options, dw_session **out,
                            dw_error *err) DW_MUST_USE;
void dw_session_destroy(dw_session *session); /* NULL: nothing */
dw_session_pool *dw_session_pool_of(const dw_session *session); /* borrowed */
/* The model that is attached to the session's pool, or NULL while there is none. Borrowed. */
dw_model *dw_session_model(const dw_session *session);

/* The log; borrowed until it changes. */
const int32_t *dw_session_tokens(const dw_session *session, uint32_t *n_tokens);
uint32_t dw_session_rows(const dw_session *session);                             /* evaluated prefix, <= n_tokens */
uint32_t dw_session_context(const dw_session *session);                          /* the longest log */
dw_sampler_state dw_session_sampler_state(const dw_session *session);
void dw_session_set_sampler_state(dw_session *session, dw_sampler_state state);
bool dw_session_is_fast(const dw_session *session);
bool dw_session_is_granted(const dw_session *session);
/* Leading rows, <= dw_session_rows; 0 for a fast session. */
uint32_t dw_session_prefilled(const dw_session *session);

/* The logits that it holds, [*n] with *n = n_vocab: borrowed until its next change, and while others use the pool's
 * sessions only if it is kept. NULL and *n = 0: none. */
const float *dw_session_logits(const dw_session *session, uint32_t *n);

/* A reference to the logits that a session holds at a moment, for a rollback. NULL: it holds none. Released before the
 * session is destroyed. */
dw_logits *dw_session_note_logits(dw_session *session);
/* Lets a session, whose log and rows are again what they were at that moment, hold what it held then. A fast session
 * that has lost rows since holds none. `noted` stays the caller's; NULL: nothing was held. */
void dw_session_put_logits_back(dw_session *session, dw_logits *noted);
void dw_logits_release(dw_logits *noted); /* NULL: nothing */

/* Shortens the log to n tokens (DW_E_RANGE above its length); rows beyond are dropped. */
dw_status dw_session_rewind(dw_session *session, uint32_t n_tokens, dw_error *err) DW_MUST_USE;
/* Back to n_tokens of which at most n_rows keep their rows; the others are pending again. */
dw_status dw_session_rewind_rows(dw_session *session, uint32_t n_tokens, uint32_t n_rows, dw_error *err) DW_MUST_USE;
/* Makes the log equal to tokens[n]: keeps the common prefix, drops the rest, appends the new ones as pending. *n_reused
 * tokens have rows then: its own, and those that a fast session shares. An exact one shares when a job begins, because
 * until then it could still be rewound. */
dw_status dw_session_sync(dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint32_t *n_reused,
                          dw_error *err) DW_MUST_USE;
/* A second session with the same past; shares the committed rows' pages and the held logits. Nothing is copied but
 * the log. */
dw_status dw_session_fork(dw_session *session, dw_session **out, dw_error *err) DW_MUST_USE;

/* --- for checkpoints ----------------------------------------------------------------------------------------- */

/* Rows of a layer lie contiguously: K (which 0) or V (which 1), [rows, row_bytes]: model.h says what a row is.
 * The view is of live memory: valid until the session's next change, and on while other threads use the pool's sessions
 * only if it is kept. Where the host cannot see the rows it is a copy, valid until the session's next view. */
dw_status dw_session_kv_view(const dw_session *session, uint32_t layer, int which, const void **out,
                             uint64_t *bytes) DW_MUST_USE;
/* Where the rows of one layer's K or V begin in a backing object (page-aligned offset; the object reaches at least to
 * the page end behind the last row). */
typedef struct dw_kv_source { uint64_t k_offset, v_offset; } dw_kv_source;
typedef struct dw_session_image {
    const int32_t *tokens; uint32_t n_tokens; uint32_t n_rows;
    dw_backing *backing;              /* retained; mapped privately in place, not read */
    const dw_kv_source *layers;       /* [n_layers] */
    const float *logits;              /* [n_logits], copied */
    uint32_t n_logits;                /* n_vocab, or 0: none are held. Not 0 only where n_rows == n_tokens */
    dw_sampler_state sampler;
    bool fast;
    bool granted;                     /* only where the image is trusted */
    /* <= n_rows; 0 where the rows are of another profile: they have other bits than would be computed here. */
    uint32_t n_prefilled;
    uint64_t owner;                   /* as in dw_session_options */
    dw_priority priority;
} dw_session_image;
dw_status dw_session_restore(dw_session_pool *pool, const dw_session_image *image, dw_session **out,
                             dw_error *err) DW_MUST_USE;

/* --- for stores: rows one by one --------------------------------------------------------------------------------- */

/* A row as one piece of bytes: those of all areas of one token, layer 0 K, layer 0 V, layer 1 K, ... on every
 * device. */
uint32_t dw_session_row_bytes(const dw_session *session);
/* A moment; and how many leading tokens and rows of the session are what they were then. A session that was never
 * marked: 0. A fork is marked as its parent is. */
void dw_session_mark(dw_session *session);
void dw_session_same(const dw_session *session, uint32_t *n_tokens, uint32_t *n_rows);
/* Rows [first, +n), side by side. DW_E_RANGE beyond the rows that there are. The session is kept meanwhile. */
dw_status dw_session_read_rows(const dw_session *session, uint32_t first, uint32_t n, void *out,
                               dw_error *err) DW_MUST_USE;
/* Rows for the next n tokens that have none, as if they had been evaluated: they must be what the model gives. The
 * first n_prefilled of all rows are prefilled then. DW_E_FULL: the budget. Not while a job has the session. */
dw_status dw_session_write_rows(dw_session *session, uint32_t n, const void *rows, uint32_t n_prefilled,
                                dw_error *err) DW_MUST_USE;

/* Holds a copy of logits[n_vocab], of the last row: every token has its row. DW_E_FULL: the budget. */
dw_status dw_session_hold_copy(dw_session *session, const float *logits, dw_error *err) DW_MUST_USE;

/* While a session is kept its rows stay where they are: for who looks at views of them. Calls nest; free at once. */
void dw_session_keep(dw_session *session);
void dw_session_let_go(dw_session *session);

/* Bytes of a session: all rows; memory that only this session holds, so would be free without it; the rest of the rows'
 * bytes; held logits, as if it were alone. */
typedef struct dw_session_use {
    uint64_t kv_bytes, own_bytes, shared_bytes, logits_bytes;
    uint32_t extents;
} dw_session_use;
dw_status dw_session_use_now(const dw_session *session, dw_session_use *out, dw_error *err) DW_MUST_USE;

#endif

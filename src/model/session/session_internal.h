/* session_internal.h: pools and sessions from inside, for this room and for the two that work on their rows: the
 * facade, which attaches a model to a pool, and the engine, which evaluates what is pending.
 *
 * A session's log and rows are changed under the pool's lock alone, because other sessions look for a common prefix in
 * them. The thread that uses a session reads its log without the lock. While no job has the session, others may take
 * its rows away: their number is then read under the lock.
 */
#ifndef DW_MODEL_SESSION_SESSION_INTERNAL_H
#define DW_MODEL_SESSION_SESSION_INTERNAL_H

#include <stdatomic.h>
#include "model/session/session.h"
#include "model/weights/weights.h"
#include "os/os.h"

struct dw_session_pool {
    dw_session_pool_options options;
    _Atomic uint32_t references;
    /* Guards the arena's slots and maps and all that follows: sessions come and go on any thread while the engine
     * computes on other slots. Held for microseconds, for half a millisecond where a fork's first row makes a tail,
     * never while computing or for a copy that grows with the rows. */
    dw_os_mutex *lock;
    dw_kv_arena *arena;
    dw_session *sessions;        /* all of them */
    uint32_t n_sessions;
    dw_model *model;             /* that is attached; NULL: none */
    bool exact_cuts;             /* of that model: prefill has the same bits in every cut (bits.h) */
    bool has_origin;             /* whose rows these are, noted when the pool was kept */
    dw_model_fingerprint origin;
    uint64_t evictions, refused;
    uint64_t logits_bytes;       /* of all blocks of held logits, each counted once */
    /* Of the arena's held bytes, beside the budget: rows of texts that are being embedded, and of trials while a model
     * is opened. */
    uint64_t text_bytes;
    uint64_t session_ids, uses;  /* the last ones given */
};

/* Counted under the pool's lock. Whoever made them writes them before a session holds them; nobody does afterwards. */
struct dw_logits {
    dw_session_pool *pool;       /* not retained: some session of it outlives each reference */
    uint32_t references;
    float values[];              /* [n_vocab] */
};

struct dw_session {
    dw_session_pool *pool;       /* retained */
    dw_session *next, *previous; /* of the pool's */
    dw_kv_slot slot;
    int32_t *tokens;             /* the log */
    uint32_t n_tokens, capacity;
    uint32_t n_rows;             /* evaluated prefix */
    uint32_t n_prefilled;        /* of these; 0 for a fast session */
    uint32_t same_tokens, same_rows; /* leading ones that are as at the last mark */
    dw_logits *logits;           /* of the last row, or NULL; only where n_rows == n_tokens */
    dw_sampler_state sampler;
    bool fast, granted;
    bool from_file;              /* some of its rows are a checkpoint's */
    uint64_t owner;
    dw_priority priority;
    uint64_t id;                 /* for logs */
    uint64_t last_use;           /* the pool's count when rows were last evaluated */
    uint32_t keepers;            /* calls of dw_session_keep that were not undone */
    _Atomic bool busy;           /* a job has it */
    uint8_t *copied;             /* for a view of rows that the host cannot see */
    size_t copied_bytes;
};

static inline uint64_t dw_session_pool_bytes_per_token(const dw_session_pool *pool) {
    return 2 * (uint64_t)pool->options.kv.n_layers * pool->options.kv.row_bytes;
}

/* Lock held: the rules between log, rows and slot, checked in builds for tests (base/check.h). */
void dw_session_check_locked(const dw_session *session);
/* DW_E_RANGE for a token outside the vocabulary. */
dw_status dw_session_check_tokens(const dw_session *session, const int32_t *tokens, uint32_t n,
                                  dw_error *err) DW_MUST_USE;
/* For a job; DW_E_BUSY when another one has it, DW_E_STATE while no model is attached. */
dw_status dw_session_take(dw_session *session, dw_error *err) DW_MUST_USE;
/* Appends checked tokens to the log, as pending. DW_E_FULL beyond the context. */
dw_status dw_session_append(dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) DW_MUST_USE;
/* Shortens log and rows; never fails. n_rows <= n_tokens. */
void dw_session_cut(dw_session *session, uint32_t n_tokens, uint32_t n_rows);
/* Before the next chunk of pending tokens is evaluated: makes room in the budget for its rows (DW_E_FULL) and makes
 * them writable. Gives the buffer that holds the slot on the device, and the slot's first byte in it. */
dw_status dw_session_bind(dw_session *session, dw_buffer **buffer, uint64_t *offset, dw_error *err) DW_MUST_USE;
/* The same before the last token is evaluated again: gives up its row, which must be there. A budget that refuses
 * (DW_E_FULL) leaves the row, unless the process has no maps left (kv.h rule 4). */
dw_status dw_session_bind_again(dw_session *session, dw_buffer **buffer, uint64_t *offset, dw_error *err) DW_MUST_USE;
/* Rows up to n_rows have been evaluated: all those of one chunk in one call. */
void dw_session_commit(dw_session *session, uint32_t n_rows);

/* logits.c. A block for logits of this session, not held yet: the caller's, who writes values[n_vocab]. Room for it is
 * made in the budget: DW_E_FULL. */
dw_status dw_session_make_logits(dw_session *session, dw_logits **out, dw_error *err) DW_MUST_USE;
/* The session's from now on, instead of those that it held; the caller keeps his reference. Every token has its row. */
void dw_session_hold_logits(dw_session *session, dw_logits *logits);
/* Lock held. The log or the rows are about to change. */
void dw_session_drop_logits_locked(dw_session *session);
/* Lock held, for a child with the same log and rows that holds none. */
void dw_session_inherit_logits_locked(dw_session *child, const dw_session *parent);

/* budget.c, lock held. What the budget bounds: rows of sessions, with the copies of their folds, and held logits. */
uint64_t dw_session_pool_held_locked(const dw_session_pool *pool);
/* The slot, which is no session's and shares nothing, was made writable or closed: what it takes is text_bytes. *bytes
 * is what it took before, and then what it takes. */
void dw_session_pool_set_aside_locked(dw_session_pool *pool, dw_kv_slot slot, uint64_t *bytes);
/* Lock held: memory beside what is held, which others give up if need be. DW_E_FULL, naming `what`. */
dw_status dw_session_make_room_locked(dw_session *session, uint64_t bytes, const char *what, dw_error *err) DW_MUST_USE;
/* Lock held: makes sure that rows from first_row, which is at most the number of rows, up to n_rows may be written.
 * DW_E_FULL, and then the session is as it was. */
dw_status dw_session_reserve_locked(dw_session *session, uint32_t first_row, uint32_t n_rows,
                                    dw_error *err) DW_MUST_USE;

/* share.c. Takes rows of pending tokens from another session, where there is one that has them (rule 4). At most
 * rows_max rows are the session's then. Where several rows are wanted, the chunks that remain are cut as they would be
 * without sharing. Returns how many it took. */
uint32_t dw_session_share(dw_session *session, uint32_t rows_max, bool several_wanted);
/* The same with the lock held. */
uint32_t dw_session_share_locked(dw_session *session, uint32_t rows_max, bool several_wanted);

#endif

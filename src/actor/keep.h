/* keep.h: an actor where it outlasts the process: what each commit changes, as whoever keeps it wants it, and an actor
 * from what was kept.
 *
 *   keeper   makes changes durable: the node, over its store. It is called by commit.h's persist, after everything else
 *            that can fail, so what it has kept is published
 *   change   what one commit changes: pages, rows of streams, and the state
 *   stream   rows of one size that are appended and cut at their end. Each session has three: its tokens, its KV rows,
 *            and the logits that it holds, which are new or gone with the last row that they are of
 *   state    everything that is neither page nor row, as one blob (checkpoint.h)
 *   birth    a new actor's first state, before any turn
 *
 * Rules
 * 1. A kept actor is its last kept change's state, with the pages and rows of all changes so far. Pages that no change
 *    had are those of the program's image 0, and zeros where that has none.
 * 2. A change costs the pages that the turn wrote and the rows that it added (I8). A session's rows are read from where
 *    they are at that moment, and nobody may evict them meanwhile.
 * 3. Messages that wait are no part of the state; the number of the last one is. Whoever keeps the actor keeps them
 *    beside it, and gives them at the wake.
 * 4. What comes back at a wake is trusted as far as a store's sums go: its grants are believed, and its rows are given
 *    to others as if they had been evaluated here. Its structure is checked as a checkpoint's is (I6).
 * Threads: a keeper is called by the thread that persists, or that runs the turn.
 */
#ifndef DW_ACTOR_KEEP_H
#define DW_ACTOR_KEEP_H

#include "actor/actor.h"
#include "actor/image.h"

enum { DW_KEPT_NUMBER_BYTES = 4 }; /* of a token, and of a logit */

/* The streams of a session, by number. */
typedef enum dw_stream_kind { DW_STREAM_TOKENS, DW_STREAM_ROWS, DW_STREAM_LOGITS } dw_stream_kind;
static inline uint64_t dw_stream_of(dw_handle session, dw_stream_kind kind) {
    return 4 * (uint64_t)session + (uint64_t)kind;
}
static inline dw_stream_kind dw_stream_kind_of(uint64_t stream) { return (dw_stream_kind)(stream % 4); }

/* Rows [0, first) of the stream stay, n come behind them, and what else was there is cut. */
typedef struct dw_kept_rows {
    uint64_t stream, first, n;
    uint32_t row_bytes;
    void *data;                  /* [n * row_bytes], owned by the change; NULL where n is 0 */
} dw_kept_rows;

typedef struct dw_actor_change {
    dw_actor *actor;
    uint64_t turn;               /* that it makes; 0: a birth */
    uint64_t message;            /* that it handles, by its number; 0: none */
    /* Borrowed from the plan: ranges of whole pages, which are read at memory + offset. */
    const dw_page_range *written;
    size_t n_written;
    const uint8_t *memory;
    uint64_t memory_bytes;       /* afterwards; and before: what lies behind that was never kept */
    uint64_t memory_bytes_before;
    dw_kept_rows *rows;          /* [n_rows], none twice */
    size_t n_rows;
    uint8_t *state;
    size_t state_bytes;
    const uint8_t *reply;        /* borrowed */
    size_t reply_size;
} dw_actor_change;               /* {0}: none */

typedef struct dw_keeper {
    /* All changes, or none. They belong to different actors. */
    dw_status (*keep)(void *context, const dw_actor_change *changes, size_t n, dw_error *err);
    /* The turn of a message ended by the guest's own doing (actor.h rule 4): it is handled. What fails leaves the
     * message where it is, and it is handled again. `why` is how the turn ended. */
    dw_status (*drop)(void *context, dw_actor *actor, uint64_t message, const dw_error *why, dw_error *err);
    void *context;
} dw_keeper;

/* From now on the actor's turns are kept. What it is by now has been kept: its birth, or what it woke from. Between two
 * turns; keeper NULL: they are kept no more. */
void dw_actor_keep_with(dw_actor *actor, const dw_keeper *keeper);
/* A new actor that has had no turn. *out is the caller's: dw_actor_change_deinit. */
dw_status dw_actor_birth_change(const dw_actor *actor, dw_actor_change *out, dw_error *err) DW_MUST_USE;
void dw_actor_change_deinit(dw_actor_change *change);

typedef struct dw_kept_message { uint64_t number, realtime_ns; const void *body; uint32_t size; } dw_kept_message;

/* What was kept of an actor, to be read. */
typedef struct dw_kept_actor {
    dw_blob *state;
    const dw_page_range *pages;  /* [n_pages] ascending, whole pages: those that some change had */
    size_t n_pages;
    dw_status (*read_pages)(void *context, uint64_t offset, uint64_t size, void *out, dw_error *err);
    dw_status (*read_rows)(void *context, uint64_t stream, uint64_t first, uint64_t n, uint32_t row_bytes, void *out,
                           dw_error *err);
    void *context;
    const dw_kept_message *waiting; /* [n_waiting] by their numbers, ascending */
    size_t n_waiting;
    uint64_t last_message;       /* a number that new messages are above, beside that of the state */
} dw_kept_actor;

/* A live actor again. Options as for a thaw (keep_grants does not matter), and so is the report, but for its times. */
dw_status dw_actor_wake(dw_runtime *runtime, const dw_kept_actor *kept, const dw_thaw_options *options,
                        dw_actor **out, dw_thaw_report *report, dw_error *err) DW_MUST_USE;

/* The number of the last message that a state knows of. */
dw_status dw_kept_last_message(const dw_blob *state, uint64_t *out, dw_error *err) DW_MUST_USE;
/* The number of the last message that was accepted. Any thread. */
uint64_t dw_actor_last_message(const dw_actor *actor);
/* DW_E_INVALID for what is no actor's name (actor.h). */
dw_status dw_actor_check_name(const char *name, dw_error *err) DW_MUST_USE;

#endif

/* port.h: the requests of one actor that are outstanding, and the queue of completions: what `enter` waits on.
 *
 *   operation   one request from submission to the delivery of its completion
 *   span        bytes of guest memory that an operation with a window has lent; a window is the pages around its spans
 *
 * An operation is made and delivered by the turn's thread. In between it may be with an engine thread, which only
 * appends text and marks it done. States: waiting (for its session) -> running -> done; operations that need no waiting
 * are done at once. The port's lock is that of the actor's park.
 * Threads: the functions say which.
 */
#ifndef DW_DOOR_PORT_H
#define DW_DOOR_PORT_H

#include <stdatomic.h>
#include "base/base.h"
#include "driftwood/guest.h"
#include "model/engine/engine.h"
#include "park/park.h"
#include "region/region.h"
#include "runtime/runtime.h"

typedef enum dw_operation_state { DW_OPERATION_WAITING, DW_OPERATION_RUNNING, DW_OPERATION_DONE } dw_operation_state;

/* A place for the small results of one row until they are delivered. */
typedef struct dw_row_result {
    dw_row wanted;               /* the guest's record, checked */
    dw_token_score *top;
    int32_t *candidates;
    float *candidate_logprobs;
    float entropy;
} dw_row_result;

typedef struct dw_lent_span { uint64_t first, end; } dw_lent_span;

typedef struct dw_operation {
    struct dw_operation *next;   /* in the port's list */
    struct dw_port *port;
    _Atomic dw_operation_state state; /* set by the turn's thread; to DONE, under the lock, by whoever completes it */
    uint64_t done_order;         /* 1, 2, ... as they were completed */
    dw_request request;          /* the copy */
    dw_completion completion;
    uint64_t bytes;              /* charged to the port */
    bool window;                 /* has one: until it is done, `enter` does not return */
    bool is_lent;                /* its spans, from dw_port_lend to dw_port_take_back */
    dw_window lent;              /* to be returned to the region */
    dw_lent_span *spans;         /* [n_spans], ascending and disjoint once they are lent */
    uint32_t n_spans;
    uint64_t wake_ns;            /* DW_OP_SLEEP */
    uint32_t session;            /* handle, 0 = none: one operation of a session runs at a time, in order */
    dw_model_entry *model;       /* DW_OP_EMBED: one user of it */
    int32_t *tokens;
    dw_row_result *rows;
    dw_row_request *row_requests;
    dw_embed_text *embed_texts;
    dw_generate_options generate;
    char **stops;
    /* text of a generation, appended by the engine's thread under the lock */
    char *text;
    size_t text_size, text_capacity, text_shown;
    bool text_failed;
    bool has_job;                /* job is with the engine, or was */
    dw_engine *engine;           /* that has it */
    dw_job job;
    uint32_t log_length;         /* of the session, when the job was done */
} dw_operation;

typedef struct dw_port {
    dw_park *park;
    dw_operation *first, *last;  /* in order of submission */
    uint32_t n_operations, n_done;
    uint32_t n_windows;          /* operations with one that are not done */
    uint32_t n_lent;             /* operations whose spans are lent; the turn's thread alone */
    uint64_t bytes;              /* kept for all operations, at most DW_OUTSTANDING_BYTES_MAX */
    uint64_t done_order;
    bool text_waits;             /* some operation has text that was not shown */
} dw_port;

dw_status dw_port_create(dw_port **out, dw_error *err) DW_MUST_USE;
void dw_port_destroy(dw_port *port); /* empty */

/* Turn's thread. The operation belongs to the port until dw_port_remove, which frees it and all it holds. */
dw_operation *dw_port_add(dw_port *port, const dw_request *request);
void dw_port_remove(dw_port *port, dw_operation *op);
/* Turn's thread, before memory is taken for an operation: DW_E_LIMIT when the actor's operations would hold too much
 * (I7). Removing the operation gives it back. */
dw_status dw_port_charge(dw_port *port, dw_operation *op, uint64_t bytes) DW_MUST_USE;
void dw_port_refund(dw_port *port, dw_operation *op, uint64_t bytes); /* what was charged before, sooner */
/* Turn's thread: the operation's spans are lent from now on, also when it is done, until they are taken back: which
 * requests are refused must not depend on how fast an engine is. */
void dw_port_lend(dw_port *port, dw_operation *op);
void dw_port_take_back(dw_port *port, dw_operation *op);
/* Turn's thread: whether a span that is lent shares a byte with [first, end). */
bool dw_port_is_lent(const dw_port *port, uint64_t first, uint64_t end);
/* The same of the spans of one operation, sorted. */
bool dw_operation_spans_overlap(const dw_operation *op, uint64_t first, uint64_t end);
/* Any thread: its completion's status and results are set; wakes the waiter. */
void dw_port_done(dw_port *port, dw_operation *op);
/* Turn's thread, lock held: the done operation that was completed first, or NULL. */
dw_operation *dw_port_oldest_done(const dw_port *port);
/* Engine's thread: more text. False when it does not fit. */
bool dw_port_append_text(dw_port *port, dw_operation *op, const char *text, size_t size);
/* Lock held: everything that must hold of a port between two changes. Runs after each change in builds with
 * DW_FAULTS. */
void dw_port_check(const dw_port *port);

#endif

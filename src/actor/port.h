/* port.h: the requests of one actor that are outstanding, and the queue of completions: what `enter` waits on.
 *
 *   operation   one request from submission to the delivery of its completion
 *
 * An operation is made and delivered by the turn's thread. In between it may be with an engine thread, which only appends text and
 * marks it done. States: waiting (for its session) -> running -> done; operations that need no waiting are done at once.
 * Threads: the functions say which.
 */
#ifndef DW_ACTOR_PORT_H
#define DW_ACTOR_PORT_H

#include <stdatomic.h>
#include "base/base.h"
#include "driftwood/guest.h"
#include "model/engine/engine.h"
#include "os/os.h"
#include "region/region.h"

typedef enum operation_state { OPERATION_WAITING, OPERATION_RUNNING, OPERATION_DONE } operation_state;

struct dw_port;

/* A place for the small results of one row until they are delivered. */
typedef struct row_result {
    dw_row wanted;               /* the guest's record, checked */
    dw_token_score *top;
    int32_t *candidates;
    float *candidate_logprobs;
    float entropy;
} row_result;

typedef struct operation {
    struct operation *next;      /* in the port's list */
    struct dw_port *port;
    _Atomic operation_state state; /* set by the turn's thread; to DONE, under the lock, by whoever completes it */
    uint64_t done_order;         /* 1, 2, ... as they were completed */
    dw_request request;          /* the copy */
    dw_completion completion;
    uint64_t bytes;              /* charged to the port */
    bool window;
    dw_window lent;
    uint64_t wake_ns;            /* DW_OP_SLEEP */
    uint32_t session;            /* handle, 0 = none: one operation of a session runs at a time, in order */
    int32_t *tokens;
    row_result *rows;
    dw_row_request *row_requests;
    dw_embed_text *embed_texts;
    dw_generate_options generate;
    char **stops;
    /* text of a generation, appended by the engine's thread under the lock */
    char *text;
    size_t text_size, text_capacity, text_shown;
    bool text_failed;
    bool has_job;                /* job is with the engine, or was */
    dw_job job;
    uint32_t log_length;         /* of the session, when the job was done */
} operation;

typedef struct dw_port {
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    operation *first, *last;     /* in order of submission */
    uint32_t n_operations, n_done, n_windows; /* n_windows: not done and with a window */
    uint64_t bytes;              /* kept for all operations, at most DW_OUTSTANDING_BYTES_MAX */
    uint64_t done_order;
    bool text_waits;             /* some operation has text that was not shown */
} dw_port;

dw_status dw_port_create(dw_port **out, dw_error *err) DW_MUST_USE;
void dw_port_destroy(dw_port *port); /* empty */

/* Turn's thread. The operation belongs to the port until dw_port_remove, which frees it and all it holds. */
operation *dw_port_add(dw_port *port, const dw_request *request);
void dw_port_remove(dw_port *port, operation *op);
/* Turn's thread, before memory is taken for an operation: DW_E_LIMIT when the actor's operations would hold too much (I7). Removing the
 * operation gives it back. */
dw_status dw_port_charge(dw_port *port, operation *op, uint64_t bytes) DW_MUST_USE;
/* Any thread: its completion's status and results are set; wakes the waiter. */
void dw_port_done(dw_port *port, operation *op);
/* Turn's thread, lock held: the done operation that was completed first, or NULL. */
operation *dw_port_oldest_done(const dw_port *port);
/* Engine's thread: more text. False when it does not fit. */
bool dw_port_append_text(dw_port *port, operation *op, const char *text, size_t size);

#endif

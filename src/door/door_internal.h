/* door_internal.h: what the files of src/door share. Nobody else includes it. */
#ifndef DW_DOOR_INTERNAL_H
#define DW_DOOR_INTERNAL_H

#include "door/door.h"
#include "door/port.h"
#include "driftwood/guest.h"

struct dw_door {
    dw_door_options options;
    dw_observer observer;
    dw_port *port;
    /* the turn */
    bool open;
    dw_guest_memory *memory;     /* of the guest that calls; NULL before its first call */
    dw_door_message message;
    dw_writer reply;
    dw_door_counts counts;
};

/* --- memory.c: guest memory as operations may use it (door.h rules 2 and 3) ------------------------------------ */

/* wasm.h's functions, and DW_E_BUSY for what overlaps a window that is lent. A view is for what is only written, or
 * read once. */
dw_status dw_door_view(dw_door *door, uint32_t ptr, uint64_t bytes, uint32_t align, void **out) DW_MUST_USE;
dw_status dw_door_read(dw_door *door, uint32_t ptr, void *out, uint64_t bytes) DW_MUST_USE;
dw_status dw_door_write(dw_door *door, uint32_t ptr, const void *data, uint64_t bytes) DW_MUST_USE;
/* A copy of bytes, charged to the operation; malloc'ed, never NULL. */
dw_status dw_door_copy(dw_door *door, dw_operation *op, uint32_t ptr, uint64_t bytes, uint32_t align,
                       void **out) DW_MUST_USE;
/* Frees such a copy (NULL is a no-op) before its operation ends. */
void dw_door_drop_copy(dw_door *door, dw_operation *op, void *copy, uint64_t bytes);
/* A place for a result is there and is not lent; ptr 0 is none and DW_OK. The same is asked again when the result is
 * written. */
dw_status dw_door_check_place(dw_door *door, uint32_t ptr, uint64_t bytes, uint32_t align) DW_MUST_USE;
/* Lends the pages of the operation's spans, which are sorted here; they count as written from now on: a device may
 * write them unseen by page tracking, also when its job fails. DW_E_INVALID when they overlap each other, DW_E_BUSY
 * when they overlap what is lent. */
dw_status dw_door_lend(dw_door *door, dw_operation *op) DW_MUST_USE;
/* What a done operation had lent is the guest's again. */
void dw_door_return(dw_door *door, dw_operation *op);

/* --- operations.c: what each request does ---------------------------------------------------------------------- */

/* Takes a copy of everything the request refers to in guest memory and checks it; a failure completes it. */
dw_status dw_operation_copy_in(dw_door *door, dw_operation *op) DW_MUST_USE;
/* Begins it, its session being free. Sets op->completion and returns true when it is complete already; false:
 * dw_port_done comes later. */
bool dw_operation_start(dw_door *door, dw_operation *op);
/* Writes small results into guest memory; the completion's status may still become an error. to_guest false: there is
 * no guest to tell, only the books are kept. */
void dw_operation_deliver(dw_door *door, dw_operation *op, bool to_guest);
/* Asks a running one to end; it still completes through dw_port_done. */
void dw_operation_cancel(dw_operation *op);

/* The session that the request names: DW_E_BAD_HANDLE. */
dw_status dw_door_session_of(dw_door *door, const dw_operation *op, dw_door_session **out) DW_MUST_USE;
/* Before the log of a session is cut to n_tokens. */
dw_status dw_door_save_session(dw_door *door, dw_door_session *session, uint32_t n_tokens) DW_MUST_USE;

/* finite.c: no NaN and no infinity among numbers[n]; minus_infinity_too: that one may be. */
bool dw_all_finite(const float *numbers, size_t n, bool minus_infinity_too);

/* operations_text.c */
dw_status dw_tokenize_operation(dw_door *door, dw_operation *op) DW_MUST_USE;
dw_status dw_detokenize_operation(dw_door *door, dw_operation *op) DW_MUST_USE;
dw_status dw_token_info_operation(dw_door *door, dw_operation *op) DW_MUST_USE;
/* operations_model.c */
dw_status dw_tokens_copy_in(dw_door *door, dw_operation *op) DW_MUST_USE;
dw_status dw_forward_copy_in(dw_door *door, dw_operation *op) DW_MUST_USE;
dw_status dw_generate_copy_in(dw_door *door, dw_operation *op) DW_MUST_USE;
dw_status dw_job_start(dw_door *door, dw_operation *op) DW_MUST_USE;
void dw_job_deliver(dw_door *door, dw_operation *op, bool to_guest);
/* operations_embed.c */
dw_status dw_embed_copy_in(dw_door *door, dw_operation *op) DW_MUST_USE;
bool dw_embed_start(dw_door *door, dw_operation *op);
void dw_embed_deliver(dw_operation *op);
/* operations_compute.c */
dw_status dw_compute_operation(dw_door *door, dw_operation *op) DW_MUST_USE;

#endif

/* wake.c: a live actor from what was kept of it (keep.h). Pages go into the runtime's page store, over those of the
 * program's image 0; rows into slots of the model, as if they had been evaluated. */
#include <stdlib.h>
#include <string.h>

#include "actor/actor_internal.h"
#include "actor/keep.h"

/* Bytes that are read at a time. */
enum { WAKE_PIECE_BYTES = 1 << 20 };

typedef struct waking {
    const dw_kept_actor *kept;
    dw_runtime *runtime;
    int32_t *tokens[DW_SESSIONS_PER_ACTOR_MAX];
    float *logits[DW_SESSIONS_PER_ACTOR_MAX];
} waking;

/* --- memory -------------------------------------------------------------------------------------------------- */

static dw_status lay_image0(dw_actor_image *image, const dw_program *program, dw_error *err) {
    uint64_t page = dw_os_page_bytes();
    size_t n = 0;
    dw_status status = DW_OK;
    const dw_extent *extents = dw_program_image0(program, &n);
    for (size_t i = 0; i < n && status == DW_OK; i++) {
        const dw_extent *extent = &extents[i];
        if (!extent->backing) continue;
        image->pieces_max += 2;
        status = dw_page_map_set_file(&image->pages, extent->offset / page, extent->size / page, extent->backing,
                                      extent->backing_offset / page, err);
    }
    return status;
}

/* n pages that were read become the map's from `first` on. */
static dw_status lay_pages(dw_actor_image *image, dw_page_store *store, uint64_t first, uint64_t n,
                           const uint8_t *data, dw_error *err) {
    size_t page = dw_os_page_bytes();
    dw_status status = DW_OK;
    for (uint64_t done = 0; done < n && status == DW_OK;) {
        dw_page_run run;
        status = dw_page_store_put(store, (uint32_t)(n - done), data + done * page, &run, err);
        if (status == DW_OK) status = dw_page_map_set_stored(&image->pages, first + done, run, err);
        done += run.n;
    }
    return status;
}

/* The same, with pages of zeros among them: they hide what the image 0 has there, and take no room. */
static dw_status lay_piece(dw_actor_image *image, dw_page_store *store, uint64_t first, uint64_t n,
                           const uint8_t *data, dw_error *err) {
    size_t page = dw_os_page_bytes();
    dw_status status = DW_OK;
    for (uint64_t at = 0; at < n && status == DW_OK;) {
        bool zero = dw_is_zero(data + at * page, page);
        uint64_t same = dw_pages_of_kind(data + at * page, n - at, page, zero);
        image->pieces_max += 2;
        if (zero) status = dw_page_map_set_file(&image->pages, first + at, same, NULL, 0, err);
        else status = lay_pages(image, store, first + at, same, data + at * page, err);
        at += same;
    }
    return status;
}

static dw_status lay_kept_pages(dw_actor_image *image, const waking *of, uint8_t *piece, dw_error *err) {
    const dw_kept_actor *kept = of->kept;
    uint64_t page = dw_os_page_bytes(), end = 0;
    dw_status status = DW_OK;
    for (size_t i = 0; i < kept->n_pages && status == DW_OK; i++) {
        dw_page_range range = kept->pages[i];
        if (range.offset < end || range.offset % page || range.size % page ||
            !dw_in_range(range.offset, range.size, image->memory_bytes))
            return dw_fail(err, DW_E_CORRUPT, "memory.0: kept pages at %llu are out of place",
                           (unsigned long long)range.offset);
        end = range.offset + range.size;
        while (range.size > 0 && status == DW_OK) {
            uint64_t size = dw_min_u64(range.size, WAKE_PIECE_BYTES);
            status = kept->read_pages(kept->context, range.offset, size, piece, err);
            if (status == DW_OK)
                status = lay_piece(image, dw_runtime_pages(of->runtime), range.offset / page, size / page, piece, err);
            range.offset += size;
            range.size -= size;
        }
    }
    return status;
}

static dw_status woken_image(void *context, dw_actor *actor, const dw_image *values, dw_error *err) {
    const waking *of = context;
    dw_actor_image *image = &actor->image;
    uint8_t *piece = malloc(WAKE_PIECE_BYTES);
    if (!piece) return dw_fail(err, DW_E_NO_MEMORY, "no memory to wake an actor");
    dw_status status = dw_actor_image_blank(image, values, err);
    if (status == DW_OK) status = lay_image0(image, actor->program, err);
    if (status == DW_OK) status = lay_kept_pages(image, of, piece, err);
    free(piece);
    return status;
}

/* --- sessions ------------------------------------------------------------------------------------------------ */

static dw_status read_stream(const waking *of, dw_handle session, dw_stream_kind kind, uint32_t n, void **out,
                             dw_error *err) {
    *out = calloc(n + 1u, DW_KEPT_NUMBER_BYTES);
    if (!*out) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u tokens or logits", n);
    if (n == 0) return DW_OK;
    return of->kept->read_rows(of->kept->context, dw_stream_of(session, kind), 0, n, DW_KEPT_NUMBER_BYTES, *out, err);
}

/* A session's tokens and logits are read before anything is made of it: whether it fits a model is seen from them. */
static dw_status read_small_streams(waking *of, dw_blob *state, size_t index, dw_error *err) {
    const dw_checkpoint_session *session = &dw_blob_view(state)->sessions[index];
    void *tokens = NULL, *logits = NULL;
    dw_status status = read_stream(of, session->handle, DW_STREAM_TOKENS, session->n_tokens, &tokens, err);
    if (status == DW_OK)
        status = read_stream(of, session->handle, DW_STREAM_LOGITS, session->n_logits, &logits, err);
    of->tokens[index] = tokens;
    of->logits[index] = logits;
    dw_blob_set_tokens(state, index, tokens);
    dw_blob_set_logits(state, index, logits);
    return status;
}

static dw_status read_kept_rows(const waking *of, const dw_checkpoint_session *from, uint32_t n_prefilled,
                                dw_session *session, dw_error *err) {
    uint32_t row = dw_session_row_bytes(session), at_a_time = WAKE_PIECE_BYTES / row + 1;
    if (from->n_rows == 0) return DW_OK;
    uint8_t *piece = malloc((size_t)dw_min_u64(at_a_time, from->n_rows) * row);
    if (!piece) return dw_fail(err, DW_E_NO_MEMORY, "no memory to wake a session");
    dw_status status = DW_OK;
    for (uint32_t done = 0; done < from->n_rows && status == DW_OK;) {
        uint32_t n = (uint32_t)dw_min_u64(at_a_time, from->n_rows - done);
        status = of->kept->read_rows(of->kept->context, dw_stream_of(from->handle, DW_STREAM_ROWS), done, n, row,
                                     piece, err);
        done += n;
        if (status == DW_OK)
            status = dw_session_write_rows(session, n, piece, (uint32_t)dw_min_u64(n_prefilled, done), err);
    }
    free(piece);
    return status;
}

static dw_status woken_session(void *context, size_t index, dw_model *model, dw_session_image *image,
                               dw_session **out, dw_error *err) {
    const waking *of = context;
    const dw_checkpoint_session *from = &dw_blob_view(of->kept->state)->sessions[index];
    uint32_t n_prefilled = image->n_prefilled;
    image->n_rows = image->n_prefilled = image->n_logits = 0; /* they come once the log is there */
    dw_status status = dw_model_restore_session(model, image, out, err);
    if (status != DW_OK) return status;
    dw_session_keep(*out); /* until all rows are there and marked, nobody takes the first ones away */
    status = read_kept_rows(of, from, n_prefilled, *out, err);
    if (status == DW_OK && from->n_logits > 0) status = dw_session_hold_copy(*out, from->logits, err);
    if (status == DW_OK) dw_session_mark(*out);
    dw_session_let_go(*out);
    if (status == DW_OK) return DW_OK;
    dw_session_destroy(*out);
    *out = NULL;
    return status;
}

/* --- the rest ------------------------------------------------------------------------------------------------- */

static dw_status woken_messages(void *context, dw_mailbox *box, dw_error *err) {
    const dw_kept_actor *kept = ((const waking *)context)->kept;
    for (size_t i = 0; i < kept->n_waiting; i++) {
        const dw_kept_message *message = &kept->waiting[i];
        bool sane = (i == 0 || message->number > kept->waiting[i - 1].number) && message->number > 0 &&
                    message->size <= DW_MESSAGE_BYTES_MAX && box->bytes + message->size <= DW_MAILBOX_BYTES_MAX &&
                    box->count < DW_MAILBOX_MESSAGES_MAX;
        if (!sane)
            return dw_fail(err, DW_E_CORRUPT, "mailbox: message %llu is out of place",
                           (unsigned long long)message->number);
        if (dw_mailbox_put_copy(box, message->number, message->body, message->size, message->realtime_ns) != DW_OK)
            return dw_fail(err, DW_E_NO_MEMORY, "no memory for a mailbox");
    }
    box->next_id = dw_max_u64(box->next_id, kept->last_message);
    return DW_OK;
}

/* What the keeper has, whatever was evicted since. Sessions are in the state's order. */
static void note_kept_streams(dw_actor *actor, const dw_checkpoint_state *state) {
    for (size_t i = 0; i < actor->n_sessions; i++)
        actor->sessions[i]->kept = (dw_stream_lengths){state->sessions[i].n_tokens, state->sessions[i].n_rows,
                                                       state->sessions[i].n_logits};
}

dw_status dw_actor_wake(dw_runtime *runtime, const dw_kept_actor *kept, const dw_thaw_options *options,
                        dw_actor **out, dw_thaw_report *report, dw_error *err) {
    static const dw_thaw_options defaults;
    dw_thaw_report own;
    waking of = {.kept = kept, .runtime = runtime};
    const dw_checkpoint_state *state = dw_blob_view(kept->state);
    const dw_restore_source source = {.state = state, .image = woken_image, .session = woken_session,
                                      .messages = woken_messages, .context = &of, .keep_grants = true};
    dw_program *program = NULL;
    if (!options) options = &defaults;
    if (!report) report = &own;
    *out = NULL;
    *report = (dw_thaw_report){.exact = true, .verified = true};
    dw_status status = DW_OK;
    for (size_t i = 0; i < state->n_sessions && status == DW_OK; i++)
        status = read_small_streams(&of, kept->state, i, err);
    if (status == DW_OK && options->program) program = dw_program_retain(options->program);
    else if (status == DW_OK) status = dw_runtime_find_program(runtime, &state->program, &program, err);
    if (status == DW_OK) status = dw_actor_restore(runtime, &source, options, program, out, report, err);
    if (status == DW_OK) note_kept_streams(*out, state);
    for (size_t i = 0; i < state->n_sessions; i++) {
        dw_blob_set_tokens(kept->state, i, NULL);
        dw_blob_set_logits(kept->state, i, NULL);
        free(of.tokens[i]);
        free(of.logits[i]);
    }
    dw_program_release(program);
    return status;
}

dw_status dw_kept_last_message(const dw_blob *state, uint64_t *out, dw_error *err) {
    const dw_checkpoint_state *view = dw_blob_view(state);
    dw_mailbox box;
    *out = 0;
    dw_status status = dw_state_decode_mailbox(view->mailbox, view->mailbox_bytes, &box, err);
    if (status != DW_OK) return status;
    *out = box.next_id;
    dw_mailbox_deinit(&box);
    return DW_OK;
}

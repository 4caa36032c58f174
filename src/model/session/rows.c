/* rows.c: rows as pieces of bytes, out of a session and into one: for who keeps them elsewhere (session.h). */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/session/session_internal.h"

/* Between rows that lie side by side and the areas of a slot, through `area_rows`, the n rows of one area. */
typedef struct row_piece {
    dw_kv_arena *arena;
    dw_kv_slot slot;
    uint32_t n_areas, row_bytes, first, n;
    uint8_t *area_rows;
} row_piece;

/* Some rows at a time, so that the piece stays small beside the rows. */
enum { ROWS_AT_A_TIME = 64 };

static dw_status row_piece_of(const dw_session *session, uint32_t n, row_piece *out, dw_error *err) {
    const dw_kv_geometry *kv = &session->pool->options.kv;
    *out = (row_piece){.arena = session->pool->arena, .slot = session->slot, .n_areas = 2 * kv->n_layers,
                       .row_bytes = kv->row_bytes};
    if (n > ROWS_AT_A_TIME) n = ROWS_AT_A_TIME;
    out->area_rows = malloc(n > 0 ? (size_t)n * kv->row_bytes : 1);
    return out->area_rows ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for %u KV rows", n);
}

static dw_status read_piece(const row_piece *piece, uint8_t *out, dw_error *err) {
    size_t row = piece->row_bytes, step = row * piece->n_areas;
    dw_status status = DW_OK;
    for (uint32_t area = 0; area < piece->n_areas && status == DW_OK; area++) {
        status = dw_kv_read(piece->arena, piece->slot, area, piece->first, piece->n, piece->area_rows, err);
        for (uint32_t i = 0; i < piece->n && status == DW_OK; i++)
            memcpy(out + i * step + area * row, piece->area_rows + i * row, row);
    }
    return status;
}

static dw_status write_piece(const row_piece *piece, const uint8_t *rows, dw_error *err) {
    size_t row = piece->row_bytes, step = row * piece->n_areas;
    dw_status status = DW_OK;
    for (uint32_t area = 0; area < piece->n_areas && status == DW_OK; area++) {
        for (uint32_t i = 0; i < piece->n; i++)
            memcpy(piece->area_rows + i * row, rows + i * step + area * row, row);
        status = dw_kv_write(piece->arena, piece->slot, area, piece->first, piece->n, piece->area_rows, err);
    }
    return status;
}

dw_status dw_session_read_rows(const dw_session *session, uint32_t first, uint32_t n, void *out, dw_error *err) {
    row_piece piece;
    if (!dw_in_range(first, n, dw_session_rows(session)))
        return dw_fail(err, DW_E_RANGE, "rows %u and %u more of %u", first, n, dw_session_rows(session));
    dw_status status = row_piece_of(session, n, &piece, err);
    for (uint32_t done = 0; done < n && status == DW_OK; done += piece.n) {
        piece.first = first + done;
        piece.n = (uint32_t)dw_min_u64(ROWS_AT_A_TIME, n - done);
        status = read_piece(&piece, (uint8_t *)out + (size_t)done * dw_session_row_bytes(session), err);
    }
    free(piece.area_rows);
    return status;
}

/* Makes n more rows writable, as before an evaluation. */
static dw_status bind_rows(dw_session *session, uint32_t n, dw_error *err) {
    dw_buffer *buffer = NULL;
    uint64_t offset = 0;
    dw_os_mutex_lock(session->pool->lock);
    uint32_t end = session->n_rows + n;
    dw_status status = dw_session_reserve_locked(session, session->n_rows, end, err);
    if (status == DW_OK) status = dw_kv_writable(session->pool->arena, session->slot, end, &buffer, &offset, err);
    dw_os_mutex_unlock(session->pool->lock);
    return status;
}

dw_status dw_session_write_rows(dw_session *session, uint32_t n, const void *rows, uint32_t n_prefilled,
                                dw_error *err) {
    row_piece piece = {0};
    uint32_t first = dw_session_rows(session);
    assert(!atomic_load(&session->busy));
    if (n > session->n_tokens - first || n_prefilled > first + n || (session->fast && n_prefilled > 0))
        return dw_fail(err, DW_E_RANGE, "%u rows behind %u of %u tokens", n, first, session->n_tokens);
    if (n == 0) return DW_OK;
    dw_session_keep(session); /* what was written before must not go while more is */
    dw_status status = bind_rows(session, n, err);
    if (status == DW_OK) status = row_piece_of(session, n, &piece, err);
    for (uint32_t done = 0; done < n && status == DW_OK; done += piece.n) {
        piece.first = first + done;
        piece.n = (uint32_t)dw_min_u64(ROWS_AT_A_TIME, n - done);
        status = write_piece(&piece, (const uint8_t *)rows + (size_t)done * dw_session_row_bytes(session), err);
    }
    free(piece.area_rows);
    if (status == DW_OK) {
        dw_os_mutex_lock(session->pool->lock);
        session->n_rows = first + n;
        session->n_prefilled = n_prefilled;
        dw_kv_commit(session->pool->arena, session->slot, session->n_rows);
        dw_session_check_locked(session);
        dw_os_mutex_unlock(session->pool->lock);
    }
    dw_session_let_go(session);
    return status;
}

dw_status dw_session_hold_copy(dw_session *session, const float *logits, dw_error *err) {
    dw_logits *held = NULL;
    assert(!atomic_load(&session->busy));
    if (session->n_tokens == 0 || dw_session_rows(session) != session->n_tokens)
        return dw_fail(err, DW_E_STATE, "logits of a last row that is not there");
    dw_status status = dw_session_make_logits(session, &held, err);
    if (status != DW_OK) return status;
    memcpy(held->values, logits, session->pool->options.n_vocab * sizeof *logits);
    dw_session_hold_logits(session, held);
    dw_logits_release(held);
    return DW_OK;
}

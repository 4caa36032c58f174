/* share.c: a session takes the rows of a common prefix from another one instead of computing them (session.h rule 4).
 *
 * Why an exact session computes the same bits with shared rows as without. A row of a prefill chunk has the same bits
 * in any chunk of at least DW_PREFILL_CHUNK_TOKENS_MIN tokens (bits.h has tried that). So rows may come from any
 * session that prefilled them. The tokens that remain may be cut anywhere, as long as no chunk is shorter than that.
 * Rows that a session decoded, or took from a checkpoint, have other bits: a session with such rows keeps them and goes
 * on from them. Where a job wants several rows, their logits depend on which of them are in one chunk. Then whole
 * chunks of the session's own schedule are taken, so that its cuts stay where they were.
 *
 * Why rows are taken at the beginning of a job. Rows that were taken earlier could be seen, in the session's length and
 * in a checkpoint. A rewind before the job would then leave fewer tokens pending than in a session that took none, and
 * its chunks would be shorter. A job has no such gap: it evaluates everything pending, or it is undone.
 *
 * A graph on the engine's thread may be running on the donor's slot, or somebody may read its rows. Sharing only makes
 * maps of committed rows. It changes neither the slot nor the rows.
 */
#include "model/session/session_internal.h"

#include <string.h>

#include "base/limits.h"

/* Rows of the donor that are fit for the session, before tokens are compared. */
static uint32_t share_rows_on_offer(const dw_session *donor, const dw_session *session) {
    if (donor == session) return 0;
    bool same_owner = session->owner != 0 && donor->owner == session->owner;
    if (!same_owner && !(session->granted && donor->granted)) return 0;
    if (donor->from_file && !same_owner) return 0;
    return session->fast ? donor->n_rows : donor->n_prefilled;
}

static uint32_t share_common_prefix(const int32_t *a, const int32_t *b, uint32_t n) {
    uint32_t same = 0;
    while (same < n && a[same] == b[same]) same++;
    return same;
}

/* The session with the longest usable prefix, and its length; at most n_max. */
static dw_session *share_find_donor(const dw_session *session, uint32_t n_max, uint32_t *n_rows) {
    dw_session *best = NULL;
    *n_rows = 0;
    for (dw_session *donor = session->pool->sessions; donor != NULL; donor = donor->next) {
        uint32_t n = (uint32_t)dw_min_u64(share_rows_on_offer(donor, session), n_max);
        /* Most sessions have another prefix, or none that is longer: one look tells. */
        if (n <= *n_rows || donor->tokens[*n_rows] != session->tokens[*n_rows]) continue;
        uint32_t same = share_common_prefix(donor->tokens, session->tokens, n);
        if (same <= *n_rows) continue;
        best = donor;
        *n_rows = same;
    }
    return best;
}

/* Whether rows of the session's own may give way to another's of the same tokens. */
static bool share_may_be_replaced(const dw_session *session) {
    return session->n_rows == (session->fast ? 0 : session->n_prefilled);
}

uint32_t dw_session_share_locked(dw_session *session, uint32_t rows_max, bool several_wanted) {
    uint32_t own = session->n_rows, n_rows = 0, rest = session->fast ? 1 : DW_PREFILL_CHUNK_TOKENS_MIN;
    if (!session->fast && !session->pool->exact_cuts) return 0; /* here the cut decides about bits */
    if (!share_may_be_replaced(session) || session->n_tokens < own + rest + DW_SHARE_ROWS_MIN) return 0;
    uint32_t n_max = (uint32_t)dw_min_u64(rows_max, session->n_tokens - rest);
    dw_session *donor = share_find_donor(session, n_max, &n_rows);
    if (n_rows < own + DW_SHARE_ROWS_MIN) return 0;
    if (several_wanted && !session->fast) n_rows -= (n_rows - own) % DW_PREFILL_CHUNK_TOKENS;
    if (n_rows == own) return 0;
    dw_error err = {0};
    dw_status status = dw_kv_share(session->pool->arena, &session->slot, donor->slot, n_rows, &err);
    if (status != DW_OK) { /* it computes them, then */
        dw_log(DW_LOG_DEBUG, "kv_not_shared", "rows=%u status=%s reason=\"%s\"", n_rows, dw_status_name(status),
               err.text);
        return 0;
    }
    session->n_rows = n_rows;
    session->n_prefilled = session->fast ? 0 : n_rows;
    session->from_file = donor->from_file;
    dw_session_check_locked(session);
    return n_rows - own;
}

uint32_t dw_session_share(dw_session *session, uint32_t rows_max, bool several_wanted) {
    dw_os_mutex_lock(session->pool->lock);
    uint32_t n = dw_session_share_locked(session, rows_max, several_wanted);
    dw_os_mutex_unlock(session->pool->lock);
    return n;
}

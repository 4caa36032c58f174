/* budget.c: what KV rows and held logits take in memory, and what gives way when it is too much (session.h,
 * dw_session_pool_use_now). */
#include "model/session/session_internal.h"

#include <assert.h>
#include <inttypes.h>

/* What rows of sessions take. */
static uint64_t row_bytes_locked(const dw_session_pool *pool) {
    uint64_t held = dw_kv_held_bytes(pool->arena);
    assert(dw_os_mutex_held(pool->lock) && pool->text_bytes <= held);
    return held - pool->text_bytes;
}

uint64_t dw_session_pool_held_locked(const dw_session_pool *pool) {
    return row_bytes_locked(pool) + pool->logits_bytes;
}

void dw_session_pool_set_aside_locked(dw_session_pool *pool, dw_kv_slot slot, uint64_t *bytes) {
    dw_kv_use use = {0};
    assert(dw_os_mutex_held(pool->lock));
    if (dw_kv_use_now(pool->arena, slot, &use, NULL) != DW_OK) use.own_bytes = 0;
    pool->text_bytes += use.own_bytes - *bytes;
    *bytes = use.own_bytes;
}

static uint64_t own_bytes_locked(const dw_session *session) {
    dw_kv_use use = {0};
    return dw_kv_use_now(session->pool->arena, session->slot, &use, NULL) == DW_OK ? use.own_bytes : 0;
}

/* Whether the session's rows may go for the sake of the one that asks. */
static bool may_be_evicted(const dw_session *session, const dw_session *asks) {
    return session != asks && session->fast && session->n_rows > 0 && session->keepers == 0 &&
           !atomic_load(&session->busy) && session->priority >= asks->priority;
}

static bool evicted_before(const dw_session *a, const dw_session *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->last_use < b->last_use;
}

static dw_session *first_to_evict(const dw_session *asks, bool frees) {
    dw_session *first = NULL;
    for (dw_session *session = asks->pool->sessions; session != NULL; session = session->next) {
        if (!may_be_evicted(session, asks) || (frees && own_bytes_locked(session) == 0)) continue;
        if (first == NULL || evicted_before(session, first)) first = session;
    }
    return first;
}

/* Sessions whose eviction frees memory come first. Rows that several sessions share are free when the last of these is
 * evicted. */
static dw_session *next_to_evict(const dw_session *asks) {
    dw_session *session = first_to_evict(asks, true);
    return session != NULL ? session : first_to_evict(asks, false);
}

static void evict_locked(dw_session *session) {
    dw_session_pool *pool = session->pool;
    dw_log(DW_LOG_INFO, "kv_evicted", "session=%" PRIu64 " rows=%u bytes=%" PRIu64, session->id, session->n_rows,
           own_bytes_locked(session));
    dw_session_drop_logits_locked(session);
    dw_kv_release(pool->arena, session->slot);
    session->n_rows = session->n_prefilled = session->same_rows = 0;
    session->from_file = false;
    pool->evictions++;
    dw_session_check_locked(session);
}

dw_status dw_session_make_room_locked(dw_session *session, uint64_t needed, const char *what, dw_error *err) {
    dw_session_pool *pool = session->pool;
    assert(dw_os_mutex_held(pool->lock));
    if (needed == 0 || pool->options.kv_bytes_max == 0) return DW_OK;
    while (dw_session_pool_held_locked(pool) + needed > pool->options.kv_bytes_max) {
        dw_session *victim = next_to_evict(session);
        if (victim == NULL) {
            pool->refused++;
            return dw_fail(err, DW_E_FULL,
                           "KV rows and held logits take %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64
                           " more are needed for %s and no idle fast session is left to evict",
                           dw_session_pool_held_locked(pool), pool->options.kv_bytes_max, needed, what);
        }
        evict_locked(victim);
    }
    return DW_OK;
}

dw_status dw_session_reserve_locked(dw_session *session, uint32_t first_row, uint32_t n_rows, dw_error *err) {
    const dw_session_pool *pool = session->pool;
    assert(dw_os_mutex_held(pool->lock) && first_row <= session->n_rows);
    if (pool->options.kv_bytes_max == 0) return DW_OK;
    uint64_t needed = dw_kv_growth_after_rewind(pool->arena, session->slot, first_row, n_rows);
    return dw_session_make_room_locked(session, needed, "KV rows", err);
}

void dw_session_pool_use_now(const dw_session_pool *pool, dw_session_pool_use *out) {
    dw_os_mutex_lock(pool->lock);
    *out = (dw_session_pool_use){.budget_bytes = pool->options.kv_bytes_max, .evictions = pool->evictions,
                                 .refused = pool->refused};
    for (const dw_session *session = pool->sessions; session != NULL; session = session->next) {
        out->sessions++;
        out->kv_bytes += session->n_rows * dw_session_pool_bytes_per_token(pool);
        out->own_bytes += own_bytes_locked(session);
    }
    uint64_t held = row_bytes_locked(pool);
    out->logits_bytes = pool->logits_bytes;
    out->text_bytes = pool->text_bytes;
    out->shared_bytes = held > out->own_bytes ? held - out->own_bytes : 0;
    dw_os_mutex_unlock(pool->lock);
}

/* budget.c: what KV rows take in memory, and what gives way when it is too much (session.h, dw_session_pool_use_now). */
#include "model/session/session_internal.h"

#include <inttypes.h>

static uint64_t own_bytes(const dw_session *session) {
    dw_kv_use use = {0};
    return dw_kv_use_now(session->pool->arena, session->slot, &use, NULL) == DW_OK ? use.own_bytes : 0;
}

/* Whether the session's rows may go for the sake of the one that asks. */
static bool may_go(const dw_session *session, const dw_session *asks) {
    return session != asks && session->fast && session->n_rows > 0 && session->keepers == 0 && !atomic_load(&session->busy) &&
           session->priority >= asks->priority;
}

static bool goes_before(const dw_session *a, const dw_session *b) {
    return a->priority != b->priority ? a->priority > b->priority : a->last_use < b->last_use;
}

static dw_session *first_to_go(const dw_session *asks, bool frees) {
    dw_session *first = NULL;
    for (dw_session *session = asks->pool->sessions; session != NULL; session = session->next) {
        if (!may_go(session, asks) || (frees && own_bytes(session) == 0)) continue;
        if (first == NULL || goes_before(session, first)) first = session;
    }
    return first;
}

/* Those that free memory first. Rows that several sessions share are free when the last of these has gone. */
static dw_session *next_to_go(const dw_session *asks) {
    dw_session *session = first_to_go(asks, true);
    return session != NULL ? session : first_to_go(asks, false);
}

static void evict(dw_session *session) {
    dw_session_pool *pool = session->pool;
    dw_log(DW_LOG_INFO, "kv_evicted", "session=%" PRIu64 " rows=%u bytes=%" PRIu64, session->id, session->n_rows, own_bytes(session));
    dw_kv_release(pool->arena, session->slot);
    session->n_rows = session->n_prefilled = 0;
    session->from_file = false;
    pool->evictions++;
}

dw_status dw_session_reserve_locked(dw_session *session, uint32_t n_rows, dw_error *err) {
    dw_session_pool *pool = session->pool;
    uint64_t needed = pool->options.kv_bytes_max != 0 ? dw_kv_growth(pool->arena, session->slot, n_rows) : 0;
    if (needed == 0) return DW_OK;
    while (dw_kv_held_bytes(pool->arena) + needed > pool->options.kv_bytes_max) {
        dw_session *victim = next_to_go(session);
        if (victim == NULL) {
            pool->refused++;
            return dw_fail(err, DW_E_FULL, "KV rows take %" PRIu64 " of %" PRIu64 " bytes, %" PRIu64 " more are needed and no idle fast session is left to evict",
                           dw_kv_held_bytes(pool->arena), pool->options.kv_bytes_max, needed);
        }
        evict(victim);
    }
    return DW_OK;
}

void dw_session_pool_use_now(const dw_session_pool *pool, dw_session_pool_use *out) {
    dw_os_mutex_lock(pool->lock);
    *out = (dw_session_pool_use){.budget_bytes = pool->options.kv_bytes_max, .evictions = pool->evictions, .refused = pool->refused};
    for (const dw_session *session = pool->sessions; session != NULL; session = session->next) {
        out->sessions++;
        out->kv_bytes += session->n_rows * dw_session_pool_bytes_per_token(pool);
        out->own_bytes += own_bytes(session);
    }
    uint64_t held = dw_kv_held_bytes(pool->arena);
    out->shared_bytes = held > out->own_bytes ? held - out->own_bytes : 0;
    dw_os_mutex_unlock(pool->lock);
}

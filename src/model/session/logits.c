/* logits.c: logits that a session holds (session.h): one block of memory, counted in its pool, for the sessions and the
 * notes that refer to it. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/session/session_internal.h"

static uint64_t logits_bytes_of(const dw_session_pool *pool) { return pool->options.n_vocab * sizeof(float); }

static dw_logits *logits_retain_locked(dw_logits *logits) {
    if (logits == NULL) return NULL;
    assert(dw_os_mutex_held(logits->pool->lock) && logits->references > 0);
    logits->references++;
    return logits;
}

static void logits_release_locked(dw_logits *logits) {
    if (logits == NULL) return;
    dw_session_pool *pool = logits->pool;
    uint64_t bytes = logits_bytes_of(pool);
    assert(dw_os_mutex_held(pool->lock) && logits->references > 0 && pool->logits_bytes >= bytes);
    if (--logits->references > 0) return;
    pool->logits_bytes -= bytes;
    free(logits);
}

void dw_logits_release(dw_logits *logits) {
    if (logits == NULL) return;
    dw_os_mutex *lock = logits->pool->lock;
    dw_os_mutex_lock(lock);
    logits_release_locked(logits);
    dw_os_mutex_unlock(lock);
}

dw_status dw_session_make_logits(dw_session *session, dw_logits **out, dw_error *err) {
    dw_session_pool *pool = session->pool;
    uint64_t bytes = logits_bytes_of(pool);
    *out = NULL;
    dw_os_mutex_lock(pool->lock);
    dw_status status = dw_session_make_room_locked(session, bytes, "held logits", err);
    if (status == DW_OK) {
        *out = malloc(sizeof **out + bytes);
        if (*out == NULL) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for %u logits", pool->options.n_vocab);
    }
    if (status == DW_OK) {
        (*out)->pool = pool;
        (*out)->references = 1;
        pool->logits_bytes += bytes;
    }
    dw_os_mutex_unlock(pool->lock);
    return status;
}

void dw_session_drop_logits_locked(dw_session *session) {
    logits_release_locked(session->logits);
    session->logits = NULL;
}

void dw_session_inherit_logits_locked(dw_session *child, const dw_session *parent) {
    assert(child->logits == NULL);
    child->logits = logits_retain_locked(parent->logits);
}

void dw_session_hold_logits(dw_session *session, dw_logits *logits) {
    dw_os_mutex_lock(session->pool->lock);
    dw_session_drop_logits_locked(session);
    session->logits = logits_retain_locked(logits);
    dw_session_check_locked(session);
    dw_os_mutex_unlock(session->pool->lock);
}

dw_logits *dw_session_note_logits(dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    dw_logits *noted = logits_retain_locked(session->logits);
    dw_os_mutex_unlock(session->pool->lock);
    return noted;
}

void dw_session_put_logits_back(dw_session *session, dw_logits *noted) {
    dw_os_mutex_lock(session->pool->lock);
    bool fits = session->n_tokens > 0 && session->n_rows == session->n_tokens;
    dw_logits *held = fits ? logits_retain_locked(noted) : NULL;
    assert(noted == NULL || noted->pool == session->pool);
    dw_session_drop_logits_locked(session);
    session->logits = held;
    dw_session_check_locked(session);
    dw_os_mutex_unlock(session->pool->lock);
}

const float *dw_session_logits(const dw_session *session, uint32_t *n) {
    dw_os_mutex_lock(session->pool->lock);
    const float *values = session->logits != NULL ? session->logits->values : NULL;
    dw_os_mutex_unlock(session->pool->lock);
    *n = values != NULL ? session->pool->options.n_vocab : 0;
    return values;
}

/* session.c: the log, the rows, and what moves them: rewind, sync, fork, restore. Sharing between sessions is in
 * share.c. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/session/session_internal.h"

void dw_session_check_locked(const dw_session *session) {
    assert(dw_os_mutex_held(session->pool->lock));
    (void)session;
#if DW_INVARIANTS
    const dw_session_pool_options *options = &session->pool->options;
    assert(session->n_tokens <= session->capacity && session->n_tokens <= options->context_tokens);
    assert(session->n_prefilled <= session->n_rows && session->n_rows <= session->n_tokens);
    assert(session->n_prefilled == 0 || !session->fast);
    assert(!session->from_file || session->n_rows > 0);
    assert(session->same_tokens <= session->n_tokens && session->same_rows <= session->n_rows);
    assert(!session->logits || (session->n_rows > 0 && session->n_rows == session->n_tokens));
    assert(dw_kv_rows(session->pool->arena, session->slot) == session->n_rows);
    uint64_t most = session->pool->options.kv_bytes_max;
    assert(most == 0 || dw_session_pool_held_locked(session->pool) <= most);
#endif
}

/* --- for jobs --------------------------------------------------------------------------------------- */

dw_status dw_session_check_tokens(const dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) {
    uint32_t n_vocab = session->pool->options.n_vocab;
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= n_vocab)
            return dw_fail(err, DW_E_RANGE, "token %d at %u is outside the vocabulary of %u", tokens[i], i, n_vocab);
    }
    return DW_OK;
}

dw_status dw_session_take(dw_session *session, dw_error *err) {
    dw_os_mutex_lock(session->pool->lock);
    bool taken = atomic_load(&session->busy), closed = session->pool->model == NULL;
    if (!taken && !closed) atomic_store(&session->busy, true);
    dw_os_mutex_unlock(session->pool->lock);
    if (taken) return dw_fail(err, DW_E_BUSY, "a job of this session has not ended");
    return closed ? dw_fail(err, DW_E_STATE, "the session's model is not open") : DW_OK;
}

/* Lock held, as for everything called _locked. Before it fails nothing has changed. */
static dw_status session_append_locked(dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) {
    uint32_t context = session->pool->options.context_tokens;
    assert(dw_os_mutex_held(session->pool->lock));
    if (n > context - session->n_tokens) {
        return dw_fail(err, DW_E_FULL, "%u tokens do not fit behind %u in a context of %u", n, session->n_tokens,
                       context);
    }
    uint32_t need = session->n_tokens + n;
    if (need > session->capacity) {
        uint32_t capacity = (uint32_t)dw_min_u64(dw_max_u64(need, 2 * (uint64_t)session->capacity), context);
        int32_t *larger = realloc(session->tokens, capacity * sizeof larger[0]);
        if (larger == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u tokens", capacity);
        session->tokens = larger;
        session->capacity = capacity;
    }
    if (n > 0) {
        memcpy(session->tokens + session->n_tokens, tokens, n * sizeof tokens[0]);
        dw_session_drop_logits_locked(session);
    }
    session->n_tokens = need;
    return DW_OK;
}

static void session_cut_locked(dw_session *session, uint32_t n_tokens, uint32_t n_rows) {
    assert(dw_os_mutex_held(session->pool->lock));
    if (n_tokens < session->n_tokens) session->n_tokens = n_tokens;
    if (session->same_tokens > session->n_tokens) session->same_tokens = session->n_tokens;
    if (n_rows > session->n_tokens) n_rows = session->n_tokens;
    if (n_rows >= session->n_rows) return;
    dw_session_drop_logits_locked(session);
    session->n_rows = n_rows;
    if (session->same_rows > n_rows) session->same_rows = n_rows;
    if (session->n_prefilled > n_rows) session->n_prefilled = n_rows;
    if (n_rows > 0) {
        dw_kv_rewind(session->pool->arena, session->slot, n_rows);
    } else {
        session->from_file = false;
        dw_kv_release(session->pool->arena, session->slot); /* nothing is left that its memory is good for */
    }
    dw_session_check_locked(session);
}

dw_status dw_session_append(dw_session *session, const int32_t *tokens, uint32_t n, dw_error *err) {
    dw_os_mutex_lock(session->pool->lock);
    dw_status status = session_append_locked(session, tokens, n, err);
    dw_os_mutex_unlock(session->pool->lock);
    return status;
}

void dw_session_cut(dw_session *session, uint32_t n_tokens, uint32_t n_rows) {
    dw_os_mutex_lock(session->pool->lock);
    session_cut_locked(session, n_tokens, n_rows);
    dw_os_mutex_unlock(session->pool->lock);
}

/* A fold copies all of the session's rows, so it does that without the lock. The session is a job's: nobody else
 * changes its rows. */
static dw_status session_fold_locked(dw_session *session, uint32_t first_row, bool *folded, dw_error *err) {
    dw_kv_fold *fold = NULL;
    assert(dw_os_mutex_held(session->pool->lock) && atomic_load(&session->busy));
    dw_status status = dw_kv_fold_begin(session->pool->arena, session->slot, first_row, &fold, err);
    *folded = fold != NULL;
    if (fold == NULL) return status;
    dw_os_mutex_unlock(session->pool->lock);
    status = dw_kv_fold_copy(fold, err);
    dw_os_mutex_lock(session->pool->lock);
    return dw_kv_fold_end(fold, status, err);
}

/* Room in the budget for rows from first_row up to n_rows and for a fold, where they need one. */
static dw_status session_prepare_locked(dw_session *session, uint32_t first_row, uint32_t n_rows, dw_error *err) {
    bool folded = false;
    dw_status status = dw_session_reserve_locked(session, first_row, n_rows, err);
    if (status == DW_OK) status = session_fold_locked(session, first_row, &folded, err);
    /* Others took memory meanwhile. */
    return status == DW_OK && folded ? dw_session_reserve_locked(session, first_row, n_rows, err) : status;
}

/* The session was prepared for the rows behind its own, up to n_rows. They count as held at once: several sessions may
 * be bound before one is evaluated. */
static dw_status session_writable_locked(dw_session *session, uint32_t n_rows, dw_buffer **buffer, uint64_t *offset,
                                         dw_error *err) {
    dw_kv_arena *arena = session->pool->arena;
    dw_status status = dw_kv_writable(arena, session->slot, n_rows, buffer, offset, err);
    if (status != DW_E_LIMIT) return status;
    /* It takes a fold, which the process has maps for, and which the budget has to have room for (kv.h rule 4). */
    status = session_prepare_locked(session, session->n_rows, n_rows, err);
    return status == DW_OK ? dw_kv_writable(arena, session->slot, n_rows, buffer, offset, err) : status;
}

dw_status dw_session_bind(dw_session *session, dw_buffer **buffer, uint64_t *offset, dw_error *err) {
    dw_os_mutex_lock(session->pool->lock);
    uint32_t pending = session->n_tokens - session->n_rows,
             chunk_end = DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN;
    uint32_t n_rows = session->n_rows + (pending < chunk_end ? pending : DW_PREFILL_CHUNK_TOKENS);
    session->last_use = ++session->pool->uses;
    dw_status status = session_prepare_locked(session, session->n_rows, n_rows, err);
    if (status == DW_OK) status = session_writable_locked(session, n_rows, buffer, offset, err);
    dw_os_mutex_unlock(session->pool->lock);
    return status;
}

dw_status dw_session_bind_again(dw_session *session, dw_buffer **buffer, uint64_t *offset, dw_error *err) {
    dw_os_mutex_lock(session->pool->lock);
    uint32_t n_rows = session->n_rows;
    session->last_use = ++session->pool->uses;
    dw_status status = session_prepare_locked(session, n_rows - 1, n_rows, err);
    if (status == DW_OK) {
        session_cut_locked(session, session->n_tokens, n_rows - 1);
        status = session_writable_locked(session, n_rows, buffer, offset, err);
    }
    dw_os_mutex_unlock(session->pool->lock);
    return status;
}

void dw_session_commit(dw_session *session, uint32_t n_rows) {
    dw_os_mutex_lock(session->pool->lock);
    bool whole_chunk = n_rows - session->n_rows >= DW_PREFILL_CHUNK_TOKENS_MIN;
    if (!session->fast && whole_chunk && session->n_prefilled == session->n_rows) session->n_prefilled = n_rows;
    session->n_rows = n_rows;
    dw_kv_commit(session->pool->arena, session->slot, n_rows);
    dw_session_check_locked(session);
    dw_os_mutex_unlock(session->pool->lock);
}

/* --- making and ending --------------------------------------------------------------------------------------- */

static dw_status session_make(dw_session_pool *pool, dw_session **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a session");
    (*out)->pool = dw_session_pool_retain(pool);
    return DW_OK;
}

/* Of a session without slot, that nobody else has seen. */
static void session_discard(dw_session *session) {
    if (session == NULL) return;
    dw_logits_release(session->logits);
    free(session->copied);
    free(session->tokens);
    dw_session_pool_release(session->pool);
    free(session);
}

static dw_status session_check_room_locked(const dw_session_pool *pool, dw_error *err) {
    uint32_t most = pool->options.sessions_max;
    return pool->n_sessions < most ? DW_OK : dw_fail(err, DW_E_LIMIT, "all %u sessions of this model are taken", most);
}

static void session_enlist_locked(dw_session *session) {
    dw_session_pool *pool = session->pool;
    dw_session_check_locked(session);
    session->id = ++pool->session_ids;
    session->next = pool->sessions;
    if (session->next != NULL) session->next->previous = session;
    pool->sessions = session;
    pool->n_sessions++;
}

static void session_delist_locked(dw_session *session) {
    assert(dw_os_mutex_held(session->pool->lock));
    if (session->next != NULL) session->next->previous = session->previous;
    if (session->previous != NULL) session->previous->next = session->next;
    else session->pool->sessions = session->next;
    session->pool->n_sessions--;
}

dw_status dw_session_create(dw_session_pool *pool, const dw_session_options *options, dw_session **out, dw_error *err) {
    *out = NULL;
    dw_session *session = NULL;
    dw_status status = session_make(pool, &session, err);
    if (status != DW_OK) return status;
    if (options != NULL) {
        session->fast = options->fast;
        session->granted = options->granted;
        session->owner = options->owner;
        session->priority = options->priority;
        session->sampler.seed = options->seed;
    }
    dw_os_mutex_lock(pool->lock);
    status = session_check_room_locked(pool, err);
    if (status == DW_OK) status = dw_kv_open(pool->arena, &session->slot, err);
    if (status == DW_OK) session_enlist_locked(session);
    dw_os_mutex_unlock(pool->lock);
    if (status != DW_OK) session_discard(session);
    else *out = session;
    return status;
}

void dw_session_destroy(dw_session *session) {
    if (session == NULL) return;
    dw_os_mutex_lock(session->pool->lock);
    session_delist_locked(session);
    dw_kv_close(session->pool->arena, session->slot);
    dw_os_mutex_unlock(session->pool->lock);
    session_discard(session);
}

/* --- looking ------------------------------------------------------------------------------------------------- */

dw_session_pool *dw_session_pool_of(const dw_session *session) { return session->pool; }

dw_model *dw_session_model(const dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    dw_model *model = session->pool->model;
    dw_os_mutex_unlock(session->pool->lock);
    return model;
}

uint32_t dw_session_context(const dw_session *session) { return session->pool->options.context_tokens; }

const int32_t *dw_session_tokens(const dw_session *session, uint32_t *n_tokens) {
    *n_tokens = session->n_tokens;
    return session->tokens;
}

uint32_t dw_session_rows(const dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    uint32_t n_rows = session->n_rows;
    dw_os_mutex_unlock(session->pool->lock);
    return n_rows;
}

dw_sampler_state dw_session_sampler_state(const dw_session *session) { return session->sampler; }
void dw_session_set_sampler_state(dw_session *session, dw_sampler_state state) { session->sampler = state; }
bool dw_session_is_fast(const dw_session *session) { return session->fast; }
bool dw_session_is_granted(const dw_session *session) { return session->granted; }

uint32_t dw_session_prefilled(const dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    uint32_t n = session->n_prefilled;
    dw_os_mutex_unlock(session->pool->lock);
    return n;
}

/* Where the host has no address of the rows: a copy, in memory that the session keeps for the next one. */
static dw_status session_copy_area(const dw_session *of, uint32_t area, uint32_t n_rows, const void **out) {
    dw_session *session = (dw_session *)(uintptr_t)of; /* who looks at rows changes nothing of what they are */
    size_t bytes = (size_t)n_rows * session->pool->options.kv.row_bytes;
    if (bytes > session->copied_bytes) {
        uint8_t *copied = realloc(session->copied, bytes);
        if (copied == NULL) return DW_E_NO_MEMORY;
        session->copied = copied;
        session->copied_bytes = bytes;
    }
    *out = session->copied;
    return dw_kv_read(session->pool->arena, session->slot, area, 0, n_rows, session->copied, NULL);
}

dw_status dw_session_kv_view(const dw_session *session, uint32_t layer, int which, const void **out, uint64_t *bytes) {
    if (layer >= session->pool->options.kv.n_layers || which < 0 || which > 1) return DW_E_RANGE;
    uint32_t n_rows = dw_session_rows(session);
    *out = dw_kv_area(session->pool->arena, session->slot, layer, which);
    *bytes = (uint64_t)n_rows * session->pool->options.kv.row_bytes;
    if (*out != NULL || n_rows == 0) return DW_OK;
    return session_copy_area(session, 2 * layer + (uint32_t)which, n_rows, out);
}

void dw_session_mark(dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    session->same_tokens = session->n_tokens;
    session->same_rows = session->n_rows;
    dw_os_mutex_unlock(session->pool->lock);
}

void dw_session_same(const dw_session *session, uint32_t *n_tokens, uint32_t *n_rows) {
    dw_os_mutex_lock(session->pool->lock);
    *n_tokens = session->same_tokens;
    *n_rows = session->same_rows;
    dw_os_mutex_unlock(session->pool->lock);
}

uint32_t dw_session_row_bytes(const dw_session *session) {
    return (uint32_t)dw_session_pool_bytes_per_token(session->pool);
}

void dw_session_keep(dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    session->keepers++;
    dw_os_mutex_unlock(session->pool->lock);
}

void dw_session_let_go(dw_session *session) {
    dw_os_mutex_lock(session->pool->lock);
    session->keepers--;
    dw_os_mutex_unlock(session->pool->lock);
}

dw_status dw_session_use_now(const dw_session *session, dw_session_use *out, dw_error *err) {
    dw_kv_use use = {0};
    dw_os_mutex_lock(session->pool->lock);
    dw_status status = dw_kv_use_now(session->pool->arena, session->slot, &use, err);
    uint32_t n_rows = session->n_rows;
    out->logits_bytes = session->logits != NULL ? session->pool->options.n_vocab * sizeof(float) : 0;
    dw_os_mutex_unlock(session->pool->lock);
    if (status != DW_OK) return status;
    out->kv_bytes = n_rows * dw_session_pool_bytes_per_token(session->pool);
    out->own_bytes = use.own_bytes;
    out->shared_bytes = out->kv_bytes > use.own_bytes ? out->kv_bytes - use.own_bytes : 0;
    out->extents = use.extents;
    return DW_OK;
}

/* --- changing ------------------------------------------------------------------------------------------------ */

static dw_status session_check_idle(const dw_session *session, dw_error *err) {
    return atomic_load(&session->busy) ? dw_fail(err, DW_E_BUSY, "a job of this session has not ended") : DW_OK;
}

dw_status dw_session_rewind(dw_session *session, uint32_t n_tokens, dw_error *err) {
    return dw_session_rewind_rows(session, n_tokens, n_tokens, err);
}

dw_status dw_session_rewind_rows(dw_session *session, uint32_t n_tokens, uint32_t n_rows, dw_error *err) {
    dw_status status = session_check_idle(session, err);
    if (status != DW_OK) return status;
    if (n_tokens > session->n_tokens)
        return dw_fail(err, DW_E_RANGE, "rewind to %u of %u tokens", n_tokens, session->n_tokens);
    dw_session_cut(session, n_tokens, n_rows);
    return DW_OK;
}

/* Writes the new tokens over what differs: appended behind the old log first, they might not fit. */
static dw_status session_replace_locked(dw_session *session, const int32_t *tokens, uint32_t n_tokens, dw_error *err) {
    uint32_t same = 0, old = session->n_tokens;
    while (same < n_tokens && same < old && tokens[same] == session->tokens[same]) same++;
    session->n_tokens = same;
    dw_status status = session_append_locked(session, tokens + same, n_tokens - same, err);
    if (status != DW_OK) {
        session->n_tokens = old;
        return status;
    }
    if (session->same_tokens > same) session->same_tokens = same;
    session_cut_locked(session, n_tokens, same);
    return DW_OK;
}

dw_status dw_session_sync(dw_session *session, const int32_t *tokens, uint32_t n_tokens, uint32_t *n_reused,
                          dw_error *err) {
    *n_reused = 0;
    uint32_t context = session->pool->options.context_tokens;
    dw_status status = session_check_idle(session, err);
    if (status == DW_OK) status = dw_session_check_tokens(session, tokens, n_tokens, err);
    if (status == DW_OK && n_tokens > context)
        status = dw_fail(err, DW_E_FULL, "%u tokens in a context of %u", n_tokens, context);
    if (status != DW_OK) return status;
    dw_os_mutex_lock(session->pool->lock);
    status = session_replace_locked(session, tokens, n_tokens, err);
    /* What an exact session has rows for, and what its next chunks are, must not depend on who else is there: it waits
     * for the job. */
    if (status == DW_OK && session->fast && n_tokens > 0) (void)dw_session_share_locked(session, n_tokens - 1, false);
    *n_reused = session->n_rows;
    dw_os_mutex_unlock(session->pool->lock);
    return status;
}

/* What a second session with the same past has of the first. */
static void session_inherit(dw_session *child, const dw_session *parent) {
    child->sampler = parent->sampler;
    child->fast = parent->fast;
    child->granted = parent->granted;
    child->owner = parent->owner;
    child->priority = parent->priority;
}

dw_status dw_session_fork(dw_session *session, dw_session **out, dw_error *err) {
    *out = NULL;
    dw_session *child = NULL;
    dw_status status = session_check_idle(session, err);
    if (status == DW_OK) status = session_make(session->pool, &child, err);
    if (status == DW_OK) status = dw_session_append(child, session->tokens, session->n_tokens, err);
    if (status != DW_OK) goto out;
    session_inherit(child, session);
    dw_os_mutex_lock(session->pool->lock);
    child->n_rows = session->n_rows;
    child->n_prefilled = session->n_prefilled;
    child->same_tokens = session->same_tokens;
    child->same_rows = session->same_rows;
    child->from_file = session->from_file;
    status = session_check_room_locked(session->pool, err);
    if (status == DW_OK) status = dw_kv_fork(session->pool->arena, session->slot, session->n_rows, &child->slot, err);
    if (status == DW_OK) dw_session_inherit_logits_locked(child, session);
    if (status == DW_OK) session_enlist_locked(child);
    dw_os_mutex_unlock(session->pool->lock);
out:
    if (status != DW_OK) session_discard(child);
    else *out = child;
    return status;
}

/* Before it is enlisted: its log, class and number of rows are set. */
static dw_status session_restore_logits(dw_session *session, const dw_session_image *image, dw_error *err) {
    uint32_t n_vocab = session->pool->options.n_vocab;
    if (image->n_logits == 0) return DW_OK;
    dw_status status = dw_session_make_logits(session, &session->logits, err);
    if (status == DW_OK) memcpy(session->logits->values, image->logits, n_vocab * sizeof image->logits[0]);
    return status;
}

static dw_status session_check_image(const dw_session_pool *pool, const dw_session_image *image, dw_error *err) {
    uint32_t n_vocab = pool->options.n_vocab;
    if (image->n_rows > image->n_tokens) {
        return dw_fail(err, DW_E_FORMAT, "%u KV rows for %u tokens", image->n_rows, image->n_tokens);
    }
    if (image->n_prefilled > image->n_rows) {
        return dw_fail(err, DW_E_FORMAT, "%u prefilled rows of %u", image->n_prefilled, image->n_rows);
    }
    if (image->n_logits == 0) return DW_OK;
    if (image->n_logits != n_vocab) {
        return dw_fail(err, DW_E_FORMAT, "%u logits for a vocabulary of %u", image->n_logits, n_vocab);
    }
    bool has_row = image->n_rows > 0 && image->n_rows == image->n_tokens;
    return has_row ? DW_OK : dw_fail(err, DW_E_FORMAT, "logits of a last row that is not there");
}

/* In the order of areas. NULL: no memory. */
static uint64_t *session_offsets_of(const dw_session_image *image, uint32_t n_layers) {
    uint64_t *offsets = calloc(2 * (size_t)n_layers, sizeof *offsets);
    for (uint32_t layer = 0; offsets != NULL && layer < n_layers && image->n_rows > 0; layer++) {
        offsets[2 * layer] = image->layers[layer].k_offset;
        offsets[2 * layer + 1] = image->layers[layer].v_offset;
    }
    return offsets;
}

dw_status dw_session_restore(dw_session_pool *pool, const dw_session_image *image, dw_session **out, dw_error *err) {
    *out = NULL;
    dw_session *session = NULL;
    uint64_t *offsets = NULL;
    dw_status status = session_check_image(pool, image, err);
    if (status == DW_OK) status = session_make(pool, &session, err);
    if (status == DW_OK) status = dw_session_check_tokens(session, image->tokens, image->n_tokens, err);
    if (status == DW_OK) status = dw_session_append(session, image->tokens, image->n_tokens, err);
    if (status == DW_OK && (offsets = session_offsets_of(image, pool->options.kv.n_layers)) == NULL)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a session");
    if (status != DW_OK) goto out;
    session->n_rows = image->n_rows;
    session->sampler = image->sampler;
    session->fast = image->fast;
    session->granted = image->granted;
    session->n_prefilled = image->fast ? 0 : image->n_prefilled;
    session->from_file = image->n_rows > 0;
    session->owner = image->owner;
    session->priority = image->priority;
    status = session_restore_logits(session, image, err);
    if (status != DW_OK) goto out;
    dw_os_mutex_lock(pool->lock);
    status = session_check_room_locked(pool, err);
    if (status == DW_OK)
        status = dw_kv_restore(pool->arena, image->backing, offsets, image->n_rows, &session->slot, err);
    if (status == DW_OK) session_enlist_locked(session);
    dw_os_mutex_unlock(pool->lock);
out:
    free(offsets);
    if (status != DW_OK) session_discard(session);
    else *out = session;
    return status;
}

/* share_tsan_test.c: sessions under the thread sanitizer: each is used by a thread of its own, and takes rows from those of the others while these
 * evaluate, rewind, fork, are evicted and go. There is no model: a row is written here, and says which token at which place it is of.
 * Exit 0 when every session had the right rows at all times; the sanitizer ends the process with another code when it sees a race. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/session/session_internal.h"

enum { THREADS = 4, ROUNDS = 300, LAYERS = 2, ROW_BYTES = 256, CONTEXT = 512, DOCUMENTS = 2, IDLE = 4 };

/* --- a device that only wraps -------------------------------------------------------------------------------- */

static const dw_device_info info = {.name = "stub", .can_wrap = true, .addresses_are_host = true};
static int the_wrap;

const dw_device_info *dw_device_info_view(const dw_device *device) {
    (void)device;
    return &info;
}

dw_status dw_device_wrap(dw_device *device, void *address, uint64_t size, bool writable, dw_buffer **out, dw_error *err) {
    (void)device, (void)address, (void)size, (void)writable, (void)err;
    *out = (dw_buffer *)&the_wrap;
    return DW_OK;
}

void dw_buffer_destroy(dw_buffer *buffer) { (void)buffer; }

/* --- the test ------------------------------------------------------------------------------------------------ */

static dw_session_pool *pool;
static int32_t documents[DOCUMENTS][CONTEXT];
static _Atomic uint64_t n_shared, n_made, n_folded;

static void must(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "share_tsan_test: %s\n", what);
    exit(1);
}

static uint32_t below(uint64_t *state, uint32_t bound) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((*state >> 33) % bound);
}

static uint32_t word_of(int32_t token, uint32_t row, uint32_t area) { return (uint32_t)token * 2654435761u + row * 97u + area; }

/* As an engine does with a job's next chunk. */
static void evaluate(dw_session *session, uint32_t n) {
    dw_buffer *buffer = NULL;
    uint64_t offset = 0;
    dw_error err = {0};
    dw_status status = dw_session_bind(session, &buffer, &offset, &err);
    if (status == DW_E_FULL) return;
    must(status == DW_OK, err.text);
    uint32_t first = session->n_rows;
    for (uint32_t area = 0; area < 2 * LAYERS; area++) {
        uint8_t *rows = dw_kv_area(pool->arena, session->slot, area / 2, (int)(area % 2));
        for (uint32_t row = first; row < first + n; row++) {
            uint32_t word = word_of(session->tokens[row], row, area);
            memcpy(rows + (size_t)row * ROW_BYTES, &word, sizeof word);
        }
    }
    dw_session_commit(session, first + n);
    atomic_fetch_add(&n_made, n);
}

static void job(dw_session *session, uint64_t *random) {
    int32_t tokens[CONTEXT];
    uint32_t n = 0, before = 0, piece = below(random, 2) ? below(random, 300) + 1 : below(random, 8) + 1;
    dw_error err = {0};
    must(dw_session_take(session, &err) == DW_OK, "busy");
    dw_session_tokens(session, &before);
    const int32_t *document = documents[below(random, DOCUMENTS)];
    for (uint32_t i = 0; i < piece; i++) tokens[i] = document[(before + i) % CONTEXT];
    if (dw_session_append(session, tokens, piece, &err) == DW_OK) {
        n = session->n_tokens;
        atomic_fetch_add(&n_shared, dw_session_share(session, n - 1, false));
        while (session->n_rows < n) {
            uint32_t pending = n - session->n_rows, had = session->n_rows;
            evaluate(session, pending < 100 ? pending : 70);
            if (session->n_rows == had) break; /* no room */
        }
        if (session->n_rows < n || below(random, 6) == 0) dw_session_cut(session, before, below(random, before + 1));
    }
    atomic_store(&session->busy, false);
}

static void check(dw_session *session) {
    dw_session_keep(session);
    uint32_t n_rows = dw_session_rows(session);
    for (uint32_t area = 0; area < 2 * LAYERS; area++) {
        const void *view = NULL;
        uint64_t bytes = 0;
        must(dw_session_kv_view(session, area / 2, (int)(area % 2), &view, &bytes) == DW_OK, "no view");
        for (uint32_t row = 0; row < n_rows; row++) {
            uint32_t word;
            memcpy(&word, (const uint8_t *)view + (size_t)row * ROW_BYTES, sizeof word);
            must(word == word_of(session->tokens[row], row, area), "a row is not what its token gives");
        }
    }
    dw_session_let_go(session);
}

static dw_session *another(dw_session *old, uint64_t *random) {
    dw_session *made = NULL;
    dw_session_options options = {.owner = 1, .fast = below(random, 4) > 0, .priority = DW_PRIORITY_NORMAL};
    dw_error err = {0};
    dw_status status = old != NULL && below(random, 2) ? dw_session_fork(old, &made, &err) : dw_session_create(pool, &options, &made, &err);
    must(status == DW_OK, err.text);
    dw_session_destroy(old);
    return made;
}

/* A fork of a fork, each with a row of its own, until the rows of all of them are copied into one object. */
static dw_session *descend(dw_session *session, uint64_t *random) {
    for (int i = 0; i < (int)DW_KV_EXTENTS_MAX + 2; i++) {
        dw_session *child = NULL;
        dw_error err = {0};
        dw_kv_use use = {0};
        int32_t token = 1;
        must(dw_session_fork(session, &child, &err) == DW_OK, err.text);
        dw_session_destroy(session);
        session = child;
        must(dw_session_take(session, &err) == DW_OK, "busy");
        if (dw_session_append(session, &token, 1, &err) == DW_OK) evaluate(session, session->n_tokens - session->n_rows < 100 ? session->n_tokens - session->n_rows : 70);
        dw_os_mutex_lock(pool->lock);
        must(dw_kv_use_now(pool->arena, session->slot, &use, &err) == DW_OK, err.text);
        dw_os_mutex_unlock(pool->lock);
        if (use.fold_bytes > 0) atomic_fetch_add(&n_folded, 1);
        atomic_store(&session->busy, false);
    }
    return below(random, 2) ? session : another(session, random);
}

static void live(void *argument) {
    uint64_t random = (uint64_t)(uintptr_t)argument * UINT64_C(0x9e3779b97f4a7c15);
    dw_session *session = another(NULL, &random);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t action = below(&random, 10), n = 0, reused = 0;
        if (round % 16 == 7) session = descend(session, &random);
        dw_session_tokens(session, &n);
        if (action < 6) job(session, &random);
        else if (action < 7) must(dw_session_rewind(session, below(&random, n + 1), NULL) == DW_OK, "rewind");
        else if (action < 8) must(dw_session_sync(session, documents[below(&random, DOCUMENTS)], below(&random, CONTEXT), &reused, NULL) == DW_OK, "sync");
        else session = another(session, &random);
        check(session);
        dw_session_pool_use use;
        dw_session_pool_use_now(pool, &use);
        must(use.own_bytes + use.shared_bytes <= use.budget_bytes, "more than the budget");
    }
    dw_session_destroy(session);
}

int main(void) {
    const dw_session_pool_options of_pool = {
        .kv = {.n_layers = LAYERS, .n_slots = 2 * THREADS + IDLE + DW_MODEL_OWN_SLOTS, .context_tokens = CONTEXT, .row_bytes = ROW_BYTES},
        .sessions_max = 2 * THREADS + IDLE,
        .n_vocab = 1000,
        .context_tokens = CONTEXT,
        .kv_bytes_max = (uint64_t)1100 * 2 * LAYERS * ROW_BYTES, /* less than four whole sessions */
    };
    dw_error err = {0};
    must(dw_session_pool_create(&of_pool, NULL, &pool, &err) == DW_OK, err.text);
    pool->model = (dw_model *)&the_wrap; /* open, as far as sessions can tell */
    pool->exact_cuts = true;
    for (int d = 0; d < DOCUMENTS; d++) {
        for (int i = 0; i < CONTEXT; i++) documents[d][i] = i < 200 ? i : i + d;
    }
    dw_session *idle[IDLE]; /* the first to go */
    uint64_t random = 1;
    for (int i = 0; i < IDLE; i++) {
        dw_session_options options = {.owner = 1, .fast = true, .priority = DW_PRIORITY_BACKGROUND};
        must(dw_session_create(pool, &options, &idle[i], &err) == DW_OK, err.text);
        for (int k = 0; k < 3; k++) job(idle[i], &random);
    }
    dw_os_thread *threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) must(dw_os_thread_create("session", 1 << 20, live, (void *)(i + 1), &threads[i], &err) == DW_OK, err.text);
    for (int i = 0; i < THREADS; i++) dw_os_thread_join(threads[i]);
    for (int i = 0; i < IDLE; i++) dw_session_destroy(idle[i]);
    dw_session_pool_use use;
    dw_session_pool_use_now(pool, &use);
    printf("%llu rows made, %llu shared, %llu evictions, %llu refused, %llu folds\n", (unsigned long long)n_made, (unsigned long long)n_shared,
           (unsigned long long)use.evictions, (unsigned long long)use.refused, (unsigned long long)n_folded);
    must(n_shared > 0 && use.evictions > 0 && n_folded > 0, "nothing was shared, evicted or folded");
    must(use.sessions == 0 && use.own_bytes + use.shared_bytes == 0, "something is left");
    dw_session_pool_release(pool);
    return 0;
}

/* pool.c: the sessions of one model together: the arena of their rows, and who holds it. */
#include <stdlib.h>

#include "model/session/session_internal.h"

dw_status dw_session_pool_create(const dw_session_pool_options *options, dw_device *device, dw_session_pool **out,
                                 dw_error *err) {
    *out = NULL;
    dw_session_pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a pool of sessions");
    pool->options = *options;
    pool->references = 1;
    dw_status status = dw_os_mutex_create(&pool->lock, err);
    if (status == DW_OK) status = dw_kv_arena_create(&options->kv, device, &pool->arena, err);
    if (status != DW_OK) dw_session_pool_release(pool);
    else *out = pool;
    return status;
}

dw_session_pool *dw_session_pool_retain(dw_session_pool *pool) {
    atomic_fetch_add(&pool->references, 1);
    return pool;
}

void dw_session_pool_release(dw_session_pool *pool) {
    if (pool == NULL || atomic_fetch_sub(&pool->references, 1) > 1) return;
    dw_kv_arena_destroy(pool->arena);
    dw_os_mutex_destroy(pool->lock);
    free(pool);
}

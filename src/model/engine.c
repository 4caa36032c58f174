/* engine.c: one thread that steps the jobs of one model.
 *
 * The queue is a circle: the thread takes the first job, steps it once, and puts it behind the others, so that each of n jobs gets
 * every n-th step. It needs no limit of its own: a session has at most one job, and a model's sessions are limited.
 *
 * Rules
 * 1. A job belongs to the engine from submit until just before on_done. From then on its memory is the owner's again, so nothing here
 *    touches it; dw_engine_cancel looks a job up by address before it writes to it.
 * 2. The mutex is held only around the queue, never during a step, begin, end or on_done.
 * 3. The thread ends when the engine is closing, the queue is empty and no submit is under way.
 */
#include "model/job.h"

#include <stdlib.h>

#include "os/os.h"

/* ggml computes on this thread too. */
static const size_t stack_bytes = (size_t)8 << 20;

struct dw_engine {
    dw_model *model;
    dw_os_thread *thread;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    /* under the mutex */
    dw_job *first, *last;
    dw_job *stepped;        /* out of the queue, in the hands of the thread */
    uint32_t submitting;    /* calls between their check and their place in the queue */
    bool closing;
};

/* --- the queue; the mutex is held -------------------------------------------------------------------------------- */

static void put_last(dw_engine *engine, dw_job *job) {
    job->next = NULL;
    if (engine->last) engine->last->next = job;
    else engine->first = job;
    engine->last = job;
}

static dw_job *take_first(dw_engine *engine) {
    dw_job *job = engine->first;
    if (!job) return NULL;
    engine->first = job->next;
    if (!engine->first) engine->last = NULL;
    job->next = NULL;
    return job;
}

/* By address alone: the memory of a job that is not here may be gone. */
static bool holds(const dw_engine *engine, const dw_job *job) {
    bool found = engine->stepped == job;
    for (const dw_job *queued = engine->first; queued && !found; queued = queued->next) found = queued == job;
    return found;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* The next job to step, or NULL when the thread is to end. */
static dw_job *next_job(dw_engine *engine, bool *closing) {
    dw_os_mutex_lock(engine->mutex);
    while (!engine->first && !(engine->closing && engine->submitting == 0)) dw_os_condition_wait(engine->changed, engine->mutex);
    dw_job *job = engine->stepped = take_first(engine);
    *closing = engine->closing;
    dw_os_mutex_unlock(engine->mutex);
    return job;
}

/* Ends a job and gives it back. It leaves the engine first: on_done may free it, and a late cancel must not find it. */
static void finish(dw_engine *engine, dw_job *job) {
    dw_os_mutex_lock(engine->mutex);
    engine->stepped = NULL;
    dw_os_mutex_unlock(engine->mutex);
    (void)dw_job_end(job); /* the outcome is in the job, for on_done */
    if (job->on_done) job->on_done(job);
}

static void run(void *argument) {
    dw_engine *engine = argument;
    bool closing = false;
    for (dw_job *job; (job = next_job(engine, &closing)) != NULL;) {
        if (closing || dw_job_step(job) == DW_JOB_DONE) {
            finish(engine, job);
            continue;
        }
        dw_os_mutex_lock(engine->mutex);
        engine->stepped = NULL;
        put_last(engine, job);
        dw_os_mutex_unlock(engine->mutex);
    }
}

/* --- the public functions ---------------------------------------------------------------------------------------- */

dw_status dw_engine_create(dw_model *model, dw_engine **out, dw_error *err) {
    *out = NULL;
    dw_status status = DW_OK;
    dw_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an engine");
    engine->model = model;
    status = dw_os_mutex_create(&engine->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&engine->changed, err);
    if (status == DW_OK) status = dw_os_thread_create("engine", stack_bytes, run, engine, &engine->thread, err);
    if (status == DW_OK) *out = engine;
    else dw_engine_destroy(engine);
    return status;
}

void dw_engine_destroy(dw_engine *engine) {
    if (!engine) return;
    if (engine->thread) {
        dw_os_mutex_lock(engine->mutex);
        engine->closing = true;
        /* A step under way may look at its flag; those that wait are ended without another step (job.h rule 4). */
        if (engine->stepped) atomic_store(&engine->stepped->cancel, true);
        dw_os_condition_broadcast(engine->changed);
        dw_os_mutex_unlock(engine->mutex);
        dw_os_thread_join(engine->thread);
    }
    if (engine->changed) dw_os_condition_destroy(engine->changed);
    if (engine->mutex) dw_os_mutex_destroy(engine->mutex);
    free(engine);
}

dw_status dw_engine_submit(dw_engine *engine, dw_job *job, dw_error *err) {
    bool embeds = job->kind == DW_JOB_EMBED;
    if (!embeds && !job->session) return dw_fail(err, DW_E_INVALID, "a job without a session");
    if ((embeds ? job->model : dw_session_model(job->session)) != engine->model)
        return dw_fail(err, DW_E_MISMATCH, "the job belongs to another model than this engine's");

    dw_os_mutex_lock(engine->mutex);
    bool closing = engine->closing, twice = holds(engine, job);
    if (!closing && !twice) engine->submitting++;
    dw_os_mutex_unlock(engine->mutex);
    if (closing) return dw_fail(err, DW_E_STATE, "the engine is being closed");
    if (twice) return dw_fail(err, DW_E_BUSY, "the engine has this job already");

    dw_status status = dw_job_begin(job, err);

    dw_os_mutex_lock(engine->mutex);
    engine->submitting--;
    if (status == DW_OK) {
        /* What a job of the same memory was told before does not count. */
        atomic_store(&job->cancel, false);
        put_last(engine, job);
    }
    dw_os_condition_signal(engine->changed);
    dw_os_mutex_unlock(engine->mutex);
    return status;
}

void dw_engine_cancel(dw_engine *engine, dw_job *job) {
    dw_os_mutex_lock(engine->mutex);
    if (holds(engine, job)) atomic_store(&job->cancel, true);
    dw_os_mutex_unlock(engine->mutex);
}

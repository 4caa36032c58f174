/* engine.c: one thread that steps the jobs of one device's models, batch by batch. schedule.c says whose turn it is,
 * batch.c evaluates.
 *
 * Jobs wait in an array until they end. It needs no limit of its own: a session has at most one job, and a model's
 * sessions are limited.
 *
 * A job of a higher class ends the evaluation under way, where the device can do that. Its rows were not committed, so
 * only time is lost. The jobs whose step was given up keep their places, and the next step of their class is not given
 * up. For a while after a real-time job came, prefill goes in short chunks.
 *
 * Rules
 * 1. A job belongs to the engine from submit until just before on_done. From then on its memory is the owner's again,
 *    so nothing here touches it; dw_engine_cancel looks a job up by address before it writes to it.
 * 2. The mutex is held only around the books, never during a step, begin, end or on_done.
 * 3. The thread ends when the engine is closing, no job waits and no submit is under way.
 * 4. `waiting` is in the order in which jobs wait (schedule.h): who comes or was stepped stands at its end.
 */
#include "model/engine/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/engine/schedule.h"
#include "os/os.h"

/* ggml computes on this thread too. */
static const size_t stack_bytes = (size_t)8 << 20;

/* How long after a real-time job others' prefill goes in short chunks. */
static const uint64_t hurry_ns = UINT64_C(2000000000);

struct dw_engine {
    dw_device *device;
    dw_os_thread *thread;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    _Atomic bool stop;        /* the evaluation under way is to be given up */
    /* under the mutex */
    DW_VEC(dw_job *) waiting; /* room for all that wait, are stepped or are being submitted */
    dw_batch_job stepped[DW_BATCH_PARTS_MAX]; /* out of `waiting`, in the hands of the thread */
    uint32_t n_stepped;
    dw_priority stepped_class; /* the highest in it */
    bool owed[DW_CLASSES];    /* the last step of this class was given up */
    uint32_t submitting;      /* calls between their check and their place */
    uint64_t hurry_until_ns;
    bool closing;
    dw_engine_counts counts;
    /* the thread's */
    dw_schedule schedule;
    DW_VEC(dw_job_look) looks; /* of those that are ready: filled and read within one step */
    DW_VEC(uint32_t) ready;   /* their places in `waiting` */
};

/* What the thread does with the jobs that it has taken. */
typedef enum engine_task { TASK_STEP, TASK_END, TASK_NONE } engine_task;

/* --- the books; the mutex is held -------------------------------------------------------------------------------- */

static bool *owed_to(dw_engine *engine, dw_priority class) {
    assert(dw_os_mutex_held(engine->mutex));
    return &engine->owed[class - DW_PRIORITY_REALTIME];
}

/* By address alone: the memory of a job that is not here may be gone. */
static bool holds_job(const dw_engine *engine, const dw_job *job) {
    assert(dw_os_mutex_held(engine->mutex));
    for (uint32_t i = 0; i < engine->n_stepped; i++) {
        if (engine->stepped[i].job == job) return true;
    }
    for (uint32_t i = 0; i < engine->waiting.count; i++) {
        if (engine->waiting.items[i] == job) return true;
    }
    return false;
}

/* A step that was given up because somebody wanted its job to end owes nothing. */
static bool any_cancelled(const dw_engine *engine) {
    for (uint32_t i = 0; i < engine->n_stepped; i++) {
        if (atomic_load(&engine->stepped[i].job->cancel)) return true;
    }
    return false;
}

static dw_status make_room_for_job(dw_engine *engine, dw_error *err) {
    assert(dw_os_mutex_held(engine->mutex));
    uint32_t more = engine->n_stepped + engine->submitting + 1;
    dw_status status = DW_VEC_RESERVE(&engine->waiting, more, UINT32_MAX);
    return status == DW_OK ? DW_OK
                           : dw_fail(err, status, "no memory for %zu jobs", engine->waiting.count + more);
}

static bool make_room_for_looks(dw_engine *engine) {
    size_t n = engine->waiting.count;
    return DW_VEC_RESERVE(&engine->looks, n, DW_VEC_ITEMS_MAX) == DW_OK &&
           DW_VEC_RESERVE(&engine->ready, n, DW_VEC_ITEMS_MAX) == DW_OK;
}

/* Whether there is a job to step or to end. Those that wait for a vocabulary are neither, until that wakes the
 * engine. */
static bool has_task(const dw_engine *engine) {
    assert(dw_os_mutex_held(engine->mutex));
    for (size_t i = 0; i < engine->waiting.count; i++) {
        const dw_job *job = engine->waiting.items[i];
        if (engine->closing || atomic_load(&job->cancel) || !dw_job_waits(job)) return true;
    }
    return false;
}

/* Moves waiting[picked[0..n)] into `stepped`. */
static void take_out(dw_engine *engine, const uint32_t picked[], uint32_t n, dw_job_progress progress) {
    assert(dw_os_mutex_held(engine->mutex) && engine->n_stepped == 0);
    engine->n_stepped = n;
    for (uint32_t i = 0; i < n; i++) {
        engine->stepped[i] = (dw_batch_job){.job = engine->waiting.items[picked[i]], .progress = progress};
        engine->waiting.items[picked[i]] = NULL;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->waiting.count; i++) {
        if (engine->waiting.items[i] != NULL) engine->waiting.items[kept++] = engine->waiting.items[i];
    }
    assert(kept + n == engine->waiting.count);
    engine->waiting.count = kept;
}

/* Takes jobs that are to end without another step: cancelled ones, or all of them when the engine is closing. */
static bool take_ending(dw_engine *engine) {
    uint32_t picked[DW_BATCH_PARTS_MAX], n = 0;
    for (uint32_t i = 0; i < engine->waiting.count && n < DW_BATCH_PARTS_MAX; i++) {
        if (engine->closing || atomic_load(&engine->waiting.items[i]->cancel)) picked[n++] = i;
    }
    if (n > 0) take_out(engine, picked, n, DW_JOB_DONE);
    return n > 0;
}

/* Takes the jobs whose step is next. Without memory for a look around the first one goes. */
static void take_next(dw_engine *engine) {
    uint32_t picked[DW_BATCH_PARTS_MAX] = {0}, n = 1, n_ready = 0;
    engine->stepped_class = DW_PRIORITY_BACKGROUND;
    if (make_room_for_looks(engine)) {
        n_ready = dw_batch_look_all(engine->waiting.items, (uint32_t)engine->waiting.count, engine->looks.items,
                                    engine->ready.items);
    }
    if (n_ready > 0) n = dw_schedule_pick(&engine->schedule, engine->looks.items, n_ready, picked);
    for (uint32_t i = 0; i < n && n_ready > 0; i++) {
        dw_priority class = engine->looks.items[picked[i]].priority;
        if (class < engine->stepped_class) engine->stepped_class = class;
        picked[i] = engine->ready.items[picked[i]];
    }
    take_out(engine, picked, n, DW_JOB_MORE);
    atomic_store(&engine->stop, false);
}

/* Puts back what goes on: at the end, or in front when its step was given up. The others stay in `stepped`, to be
 * ended: jobs that are done, also those that were done before their batch was given up. */
static void put_back(dw_engine *engine, bool gave_up) {
    assert(dw_os_mutex_held(engine->mutex) && engine->waiting.count + engine->n_stepped <= engine->waiting.capacity);
    dw_job *going_on[DW_BATCH_PARTS_MAX];
    uint32_t done = 0, n = 0;
    for (uint32_t i = 0; i < engine->n_stepped; i++) {
        if (engine->stepped[i].progress == DW_JOB_MORE) going_on[n++] = engine->stepped[i].job;
        else engine->stepped[done++] = engine->stepped[i];
    }
    if (gave_up)
        memmove(engine->waiting.items + n, engine->waiting.items,
                engine->waiting.count * sizeof engine->waiting.items[0]);
    if (n > 0) memcpy(engine->waiting.items + (gave_up ? 0 : engine->waiting.count), going_on, n * sizeof going_on[0]);
    engine->waiting.count += n;
    engine->n_stepped = done;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* Ends a job and gives it back. It leaves the engine first: on_done may free it, and a late cancel must not find it. */
static void end_one(dw_engine *engine) {
    dw_os_mutex_lock(engine->mutex);
    dw_job *job = engine->n_stepped > 0 ? engine->stepped[--engine->n_stepped].job : NULL;
    dw_os_mutex_unlock(engine->mutex);
    if (!job) return;
    (void)dw_job_end(job); /* the outcome is in the job, for on_done */
    if (job->on_done) job->on_done(job);
}

/* Waits for jobs, and takes those that are to end or to be stepped. TASK_NONE: the thread is to end. */
static engine_task take_task(dw_engine *engine, dw_batch_options *options) {
    engine_task task = TASK_NONE;
    dw_os_mutex_lock(engine->mutex);
    while (!has_task(engine) && !(engine->closing && engine->submitting == 0)) {
        dw_os_condition_wait(engine->changed, engine->mutex);
    }
    if (has_task(engine)) {
        task = take_ending(engine) ? TASK_END : TASK_STEP;
        if (task == TASK_STEP) take_next(engine);
    }
    *options = (dw_batch_options){.short_steps = engine->hurry_until_ns > dw_os_monotonic_ns(), .stop = &engine->stop};
    dw_os_mutex_unlock(engine->mutex);
    return task;
}

static void step_taken(dw_engine *engine, const dw_batch_options *options) {
    uint32_t n = engine->n_stepped; /* only this thread changes it */
    bool gave_up = !dw_batch_step(engine->stepped, n, options);
    dw_os_mutex_lock(engine->mutex);
    *owed_to(engine, engine->stepped_class) = gave_up && !any_cancelled(engine);
    put_back(engine, gave_up);
    engine->counts.steps++;
    engine->counts.parts += n;
    if (n > engine->counts.parts_most) engine->counts.parts_most = n;
    engine->counts.given_up += gave_up;
    dw_os_mutex_unlock(engine->mutex);
}

static void run_engine(void *argument) {
    dw_engine *engine = argument;
    dw_batch_options options;
    for (engine_task task; (task = take_task(engine, &options)) != TASK_NONE;) {
        if (task == TASK_STEP) step_taken(engine, &options);
        while (engine->n_stepped > 0) end_one(engine);
    }
}

/* A vocabulary is loaded: somebody may go on. On its loader's thread, under its lock. */
static void wake_engine(void *context) {
    dw_engine *engine = context;
    dw_os_mutex_lock(engine->mutex);
    dw_os_condition_signal(engine->changed);
    dw_os_mutex_unlock(engine->mutex);
}

/* --- the public functions ---------------------------------------------------------------------------------------- */

dw_status dw_engine_create(dw_device *device, dw_engine **out, dw_error *err) {
    *out = NULL;
    dw_status status = DW_OK;
    dw_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return dw_fail(err, DW_E_NO_MEMORY, "no memory for an engine");
    engine->device = device;
    status = dw_os_mutex_create(&engine->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&engine->changed, err);
    if (status == DW_OK) status = dw_os_thread_create("engine", stack_bytes, run_engine, engine, &engine->thread, err);
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
        for (uint32_t i = 0; i < engine->n_stepped; i++) atomic_store(&engine->stepped[i].job->cancel, true);
        atomic_store(&engine->stop, true);
        dw_os_condition_broadcast(engine->changed);
        dw_os_mutex_unlock(engine->mutex);
        dw_os_thread_join(engine->thread);
    }
    if (engine->changed) dw_os_condition_destroy(engine->changed);
    if (engine->mutex) dw_os_mutex_destroy(engine->mutex);
    DW_VEC_DEINIT(&engine->waiting);
    DW_VEC_DEINIT(&engine->looks);
    DW_VEC_DEINIT(&engine->ready);
    free(engine);
}

/* A job that has been begun, in its place. The mutex is held. */
static void admit_job(dw_engine *engine, dw_job *job) {
    dw_job_look look;
    assert(dw_os_mutex_held(engine->mutex) && engine->waiting.count + engine->n_stepped < engine->waiting.capacity);
    atomic_store(&job->cancel, false); /* what a job of the same memory was told before does not count */
    dw_batch_look(job, &look);
    engine->waiting.items[engine->waiting.count++] = job;
    if (look.priority == DW_PRIORITY_REALTIME) engine->hurry_until_ns = dw_os_monotonic_ns() + hurry_ns;
    bool under_way = engine->n_stepped > 0 && !*owed_to(engine, engine->stepped_class);
    if (under_way && look.priority < engine->stepped_class) atomic_store(&engine->stop, true);
}

dw_status dw_engine_submit(dw_engine *engine, dw_job *job, dw_error *err) {
    dw_model *model = job->kind == DW_JOB_EMBED ? job->model : job->session ? dw_session_model(job->session) : NULL;
    if (!model) {
        return dw_fail(err, DW_E_INVALID,
                       job->kind == DW_JOB_EMBED ? "an embedding without a model" : "a job without a session");
    }
    if (dw_model_device(model) != engine->device) {
        return dw_fail(err, DW_E_MISMATCH, "the job's model is on another device than this engine");
    }

    dw_os_mutex_lock(engine->mutex);
    bool closing = engine->closing, twice = holds_job(engine, job);
    dw_status status = closing || twice ? DW_OK : make_room_for_job(engine, err);
    bool taken = !closing && !twice && status == DW_OK;
    if (taken) engine->submitting++;
    dw_os_mutex_unlock(engine->mutex);
    if (closing) return dw_fail(err, DW_E_STATE, "the engine is being closed");
    if (twice) return dw_fail(err, DW_E_BUSY, "the engine has this job already");
    if (!taken) return status;

    job->wake = wake_engine;
    job->wake_context = engine;
    status = dw_job_begin(job, err);

    dw_os_mutex_lock(engine->mutex);
    engine->submitting--;
    if (status == DW_OK) admit_job(engine, job);
    dw_os_condition_signal(engine->changed);
    dw_os_mutex_unlock(engine->mutex);
    return status;
}

void dw_engine_cancel(dw_engine *engine, dw_job *job) {
    dw_os_mutex_lock(engine->mutex);
    if (holds_job(engine, job)) {
        atomic_store(&job->cancel, true);
        if (engine->n_stepped == 1 && engine->stepped[0].job == job) atomic_store(&engine->stop, true);
        dw_os_condition_signal(engine->changed); /* it may be one that nobody steps */
    }
    dw_os_mutex_unlock(engine->mutex);
}

dw_engine_counts dw_engine_counts_now(dw_engine *engine) {
    dw_os_mutex_lock(engine->mutex);
    dw_engine_counts counts = engine->counts;
    dw_os_mutex_unlock(engine->mutex);
    return counts;
}

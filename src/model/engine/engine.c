/* engine.c: one thread that steps the jobs of one device's models, batch by batch. schedule.c says whose turn it is, batch.c evaluates.
 *
 * Jobs wait in an array until they end. It needs no limit of its own: a session has at most one job, and a model's sessions are
 * limited.
 *
 * A job of a higher class than those being evaluated has the evaluation given up, where the device can do that: rows are append-only and
 * were not committed, so nothing is lost but time. A class whose step was given up has its next one to the end, and while somebody of
 * the real-time class was here lately prefill goes in short chunks.
 *
 * Rules
 * 1. A job belongs to the engine from submit until just before on_done. From then on its memory is the owner's again, so nothing here
 *    touches it; dw_engine_cancel looks a job up by address before it writes to it.
 * 2. The mutex is held only around the books, never during a step, begin, end or on_done.
 * 3. The thread ends when the engine is closing, no job waits and no submit is under way.
 */
#include "model/engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "model/engine/schedule.h"
#include "os/os.h"

/* ggml computes on this thread too. */
static const size_t stack_bytes = (size_t)8 << 20;

/* How long after a real-time job others' prefill goes in short chunks. */
static const uint64_t hurry_ns = UINT64_C(2000000000);

enum { N_CLASSES = DW_PRIORITY_BACKGROUND - DW_PRIORITY_REALTIME + 1 };

struct dw_engine {
    dw_device *device;
    dw_os_thread *thread;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    _Atomic bool stop;        /* the evaluation under way is to be given up */
    /* under the mutex */
    dw_job **waiting;
    uint32_t n_waiting, capacity; /* room for all that wait, are stepped or are being submitted */
    dw_batch_job stepped[DW_BATCH_PARTS_MAX]; /* out of `waiting`, in the hands of the thread */
    uint32_t n_stepped;
    dw_priority stepped_class; /* the highest in it */
    bool owed[N_CLASSES];     /* the last step of this class was given up */
    uint32_t submitting;      /* calls between their check and their place */
    uint64_t hurry_until_ns;
    bool closing;
    dw_engine_counts counts;
    /* the thread's */
    dw_schedule schedule;
    dw_job_look *looks;
    uint32_t looks_capacity;
};

/* --- the books; the mutex is held -------------------------------------------------------------------------------- */

static bool *owed_to(dw_engine *engine, dw_priority class) { return &engine->owed[class - DW_PRIORITY_REALTIME]; }

/* By address alone: the memory of a job that is not here may be gone. */
static bool holds(const dw_engine *engine, const dw_job *job) {
    for (uint32_t i = 0; i < engine->n_stepped; i++) {
        if (engine->stepped[i].job == job) return true;
    }
    for (uint32_t i = 0; i < engine->n_waiting; i++) {
        if (engine->waiting[i] == job) return true;
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

static dw_status make_room(dw_engine *engine, dw_error *err) {
    uint32_t needed = engine->n_waiting + engine->n_stepped + engine->submitting + 1;
    if (needed <= engine->capacity) return DW_OK;
    dw_job **larger = realloc(engine->waiting, 2 * (size_t)needed * sizeof *larger);
    if (!larger) return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u jobs", needed);
    engine->waiting = larger;
    engine->capacity = 2 * needed;
    return DW_OK;
}

static bool look_at_all(dw_engine *engine) {
    if (engine->n_waiting > engine->looks_capacity) {
        dw_job_look *larger = realloc(engine->looks, engine->capacity * sizeof *larger);
        if (!larger) return false;
        engine->looks = larger;
        engine->looks_capacity = engine->capacity;
    }
    for (uint32_t i = 0; i < engine->n_waiting; i++) dw_batch_look(engine->waiting[i], &engine->looks[i]);
    return true;
}

/* Moves those whose step is next into `stepped`. Without memory for a look around the first one goes. */
static void take_next(dw_engine *engine) {
    uint32_t picked[DW_BATCH_PARTS_MAX] = {0}, n = 1;
    engine->stepped_class = DW_PRIORITY_BACKGROUND;
    if (!engine->closing && look_at_all(engine)) {
        n = dw_schedule_pick(&engine->schedule, engine->looks, engine->n_waiting, picked);
        for (uint32_t i = 0; i < n; i++) {
            dw_priority class = engine->looks[picked[i]].priority;
            if (class < engine->stepped_class) engine->stepped_class = class;
        }
    }
    engine->n_stepped = n;
    for (uint32_t i = 0; i < n; i++) {
        engine->stepped[i] = (dw_batch_job){.job = engine->waiting[picked[i]], .progress = DW_JOB_MORE};
        engine->waiting[picked[i]] = NULL;
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < engine->n_waiting; i++) {
        if (engine->waiting[i]) engine->waiting[kept++] = engine->waiting[i];
    }
    engine->n_waiting = kept;
    atomic_store(&engine->stop, false);
}

/* Puts back what goes on; the others stay in `stepped`, to be ended. */
static void put_back(dw_engine *engine) {
    uint32_t done = 0;
    for (uint32_t i = 0; i < engine->n_stepped; i++) {
        if (engine->stepped[i].progress == DW_JOB_MORE) engine->waiting[engine->n_waiting++] = engine->stepped[i].job;
        else engine->stepped[done++] = engine->stepped[i];
    }
    engine->n_stepped = done;
}

/* --- the thread -------------------------------------------------------------------------------------------------- */

/* Ends a job and gives it back. It leaves the engine first: on_done may free it, and a late cancel must not find it. */
static void finish(dw_engine *engine) {
    dw_os_mutex_lock(engine->mutex);
    dw_job *job = engine->n_stepped > 0 ? engine->stepped[--engine->n_stepped].job : NULL;
    dw_os_mutex_unlock(engine->mutex);
    if (!job) return;
    (void)dw_job_end(job); /* the outcome is in the job, for on_done */
    if (job->on_done) job->on_done(job);
}

/* Waits until somebody is stepped; false when the thread is to end. */
static bool next(dw_engine *engine, bool *closing, dw_batch_options *options) {
    dw_os_mutex_lock(engine->mutex);
    while (engine->n_waiting == 0 && !(engine->closing && engine->submitting == 0)) dw_os_condition_wait(engine->changed, engine->mutex);
    bool any = engine->n_waiting > 0;
    *closing = engine->closing;
    if (any) take_next(engine);
    *options = (dw_batch_options){.short_steps = engine->hurry_until_ns > dw_os_monotonic_ns(), .stop = &engine->stop};
    dw_os_mutex_unlock(engine->mutex);
    return any;
}

static void run(void *argument) {
    dw_engine *engine = argument;
    bool closing = false;
    dw_batch_options options;
    while (next(engine, &closing, &options)) {
        uint32_t n = engine->n_stepped; /* only this thread changes it */
        bool gave_up = false;
        if (closing) {
            for (uint32_t i = 0; i < n; i++) engine->stepped[i].progress = DW_JOB_DONE;
        } else {
            gave_up = !dw_batch_step(engine->stepped, n, &options);
        }
        dw_os_mutex_lock(engine->mutex);
        *owed_to(engine, engine->stepped_class) = gave_up && !any_cancelled(engine);
        put_back(engine);
        engine->counts.steps++;
        engine->counts.parts += n;
        if (n > engine->counts.parts_most) engine->counts.parts_most = n;
        engine->counts.given_up += gave_up;
        dw_os_mutex_unlock(engine->mutex);
        while (engine->n_stepped > 0) finish(engine);
    }
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
        for (uint32_t i = 0; i < engine->n_stepped; i++) atomic_store(&engine->stepped[i].job->cancel, true);
        atomic_store(&engine->stop, true);
        dw_os_condition_broadcast(engine->changed);
        dw_os_mutex_unlock(engine->mutex);
        dw_os_thread_join(engine->thread);
    }
    if (engine->changed) dw_os_condition_destroy(engine->changed);
    if (engine->mutex) dw_os_mutex_destroy(engine->mutex);
    free(engine->waiting);
    free(engine->looks);
    free(engine);
}

/* Who comes now has no claim on what was served before: his count begins where that of the one who waits longest is. */
static void start_fairly(dw_engine *engine, dw_job *job) {
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < engine->n_waiting; i++) {
        uint64_t served = *dw_batch_served(engine->waiting[i]);
        if (served < least) least = served;
    }
    uint64_t *own = dw_batch_served(job);
    if (least != UINT64_MAX && *own < least) *own = least;
}

/* A job that has been begun, in its place. The mutex is held. */
static void admit(dw_engine *engine, dw_job *job) {
    dw_job_look look;
    start_fairly(engine, job);
    atomic_store(&job->cancel, false); /* what a job of the same memory was told before does not count */
    dw_batch_look(job, &look);
    engine->waiting[engine->n_waiting++] = job;
    if (look.priority == DW_PRIORITY_REALTIME) engine->hurry_until_ns = dw_os_monotonic_ns() + hurry_ns;
    bool under_way = engine->n_stepped > 0 && !*owed_to(engine, engine->stepped_class);
    if (under_way && look.priority < engine->stepped_class) atomic_store(&engine->stop, true);
}

dw_status dw_engine_submit(dw_engine *engine, dw_job *job, dw_error *err) {
    dw_model *model = job->kind == DW_JOB_EMBED ? job->model : job->session ? dw_session_model(job->session) : NULL;
    if (!model) return dw_fail(err, DW_E_INVALID, job->kind == DW_JOB_EMBED ? "an embedding without a model" : "a job without a session");
    if (dw_model_device(model) != engine->device) return dw_fail(err, DW_E_MISMATCH, "the job's model is on another device than this engine");

    dw_os_mutex_lock(engine->mutex);
    bool closing = engine->closing, twice = holds(engine, job);
    dw_status status = closing || twice ? DW_OK : make_room(engine, err);
    bool taken = !closing && !twice && status == DW_OK;
    if (taken) engine->submitting++;
    dw_os_mutex_unlock(engine->mutex);
    if (closing) return dw_fail(err, DW_E_STATE, "the engine is being closed");
    if (twice) return dw_fail(err, DW_E_BUSY, "the engine has this job already");
    if (!taken) return status;

    status = dw_job_begin(job, err);

    dw_os_mutex_lock(engine->mutex);
    engine->submitting--;
    if (status == DW_OK) admit(engine, job);
    dw_os_condition_signal(engine->changed);
    dw_os_mutex_unlock(engine->mutex);
    return status;
}

void dw_engine_cancel(dw_engine *engine, dw_job *job) {
    dw_os_mutex_lock(engine->mutex);
    if (holds(engine, job)) {
        atomic_store(&job->cancel, true);
        if (engine->n_stepped == 1 && engine->stepped[0].job == job) atomic_store(&engine->stop, true);
    }
    dw_os_mutex_unlock(engine->mutex);
}

dw_engine_counts dw_engine_counts_now(dw_engine *engine) {
    dw_os_mutex_lock(engine->mutex);
    dw_engine_counts counts = engine->counts;
    dw_os_mutex_unlock(engine->mutex);
    return counts;
}

/* engine_stub.c: see engine_stub.h. */
#include "model/engine/engine_stub.h"

#include "model/engine/batch.h"

char stub_trace[STUB_TRACE_MAX];
_Atomic uint32_t stub_trace_length;

dw_model *dw_session_model(const dw_session *session) { return session->model; }

bool dw_job_waits(const dw_job *job) {
    const stub_plan *plan = job->context;
    return plan->vocabulary && !atomic_load(plan->vocabulary);
}

dw_status dw_job_begin(dw_job *job, dw_error *err) {
    stub_plan *plan = job->context;
    bool idle = false;
    if (!atomic_compare_exchange_strong(&job->session->busy, &idle, true)) return dw_fail(err, DW_E_BUSY, "busy");
    job->session->unguarded++;
    job->status = DW_E_STATE; /* of no use until it has ended */
    atomic_fetch_add(&plan->begun, 1);
    return DW_OK;
}

dw_device *dw_model_device(dw_model *model) { return model->device; }

void dw_batch_look(const dw_job *job, dw_job_look *out) {
    const stub_plan *plan = job->context;
    *out = (dw_job_look){.model = job->session->model, .priority = plan->priority, .group = plan->group, .n_tokens = 1};
}

uint32_t dw_batch_look_all(dw_job *const *jobs, uint32_t n, dw_job_look *looks, uint32_t *ready) {
    uint32_t n_ready = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (dw_job_waits(jobs[i])) continue;
        dw_batch_look(jobs[i], &looks[n_ready]);
        ready[n_ready++] = i;
    }
    return n_ready;
}

static dw_job_progress step(dw_job *job) {
    stub_plan *plan = job->context;
    job->session->unguarded++;
    uint32_t at = atomic_load(&stub_trace_length);
    if (plan->name && at < STUB_TRACE_MAX) {
        stub_trace[at] = plan->name;
        atomic_store(&stub_trace_length, at + 1);
    }
    uint32_t stepped = atomic_fetch_add(&plan->stepped, 1) + 1;
    if (atomic_load(&job->cancel)) return DW_JOB_DONE;
    if (stepped < plan->steps) return DW_JOB_MORE;
    job->status = DW_OK;
    return DW_JOB_DONE;
}

bool dw_batch_step(dw_batch_job *jobs, uint32_t n, const dw_batch_options *options) {
    for (uint32_t i = 0; i < n; i++) {
        stub_plan *plan = jobs[i].job->context;
        atomic_fetch_add(&plan->entered, 1);
        while (plan->gate && !atomic_load(plan->gate) && !atomic_load(&jobs[i].job->cancel)) {
            if (atomic_load(options->stop)) return false;
        }
    }
    for (uint32_t i = 0; i < n; i++) jobs[i].progress = step(jobs[i].job);
    return true;
}

dw_status dw_job_end(dw_job *job) {
    stub_plan *plan = job->context;
    if (job->status != DW_OK) job->status = DW_E_CANCELLED;
    job->session->unguarded++;
    atomic_fetch_add(&plan->ended, 1);
    atomic_store(&job->session->busy, false);
    return job->status;
}

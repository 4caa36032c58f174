/* batch.c: one step of several jobs in one pass. */
#include "model/engine/batch.h"

#include <stdlib.h>
#include <string.h>

#include "model/engine/embed.h"
#include "model/model_internal.h"

enum {
    COLUMNS_MAX = DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN + DW_BATCH_PARTS_MAX * DW_BATCH_SMALL_TOKENS_MAX
};

/* A job in the pass. */
typedef struct member {
    dw_batch_job *entry;
    dw_job_part part;
    dw_graph_binding binding;
} member;

typedef struct pass {
    dw_model *model;
    member members[DW_BATCH_PARTS_MAX];
    uint32_t n;
    dw_graph_part parts[DW_BATCH_PARTS_MAX];
    uint32_t wanted[COLUMNS_MAX];
    dw_graph_batch batch;
} pass;

/* --- who goes together --------------------------------------------------------------------------------------- */

static bool job_is_exact(const dw_job *job) { return !job->session->fast; }

/* session.h rule 2 */
static bool logits_go_by_chunk(const dw_job *job) { return dw_job_rows_wanted(job) > 1; }

/* The size of a job's prefill chunks: fewer tokens than DW_PREFILL_CHUNK_TOKENS only where that keeps its bits. */
static uint32_t chunk_tokens(const dw_job *job, bool short_steps) {
    bool may_cut = !job_is_exact(job) || (job->session->pool->model->bits.chunks && !logits_go_by_chunk(job));
    return short_steps && may_cut ? DW_PREFILL_CHUNK_TOKENS_MIN : DW_PREFILL_CHUNK_TOKENS;
}

/* Whole chunks keep their bits in company where bits.h found it so, but for logits that go by how many are wanted of a
 * chunk. */
static bool may_pack(const dw_job *job, uint32_t n) {
    if (!job_is_exact(job)) return true;
    return job->session->pool->model->bits.packs && n >= DW_PREFILL_CHUNK_TOKENS_MIN && !logits_go_by_chunk(job);
}

void dw_batch_look(const dw_job *job, dw_job_look *out) {
    if (job->kind == DW_JOB_EMBED) { /* a graph of its own, as large as a prefill chunk */
        *out = (dw_job_look){.model = job->model, .priority = job->priority, .group = DW_STEP_PREFILL,
                             .n_tokens = DW_EMBED_STEP_TOKENS};
        return;
    }
    const dw_session *session = job->session;
    uint32_t n = dw_job_next_tokens(job, DW_PREFILL_CHUNK_TOKENS);
    *out = (dw_job_look){.model = session->pool->model, .priority = session->priority, .n_tokens = n};
    if (n > DW_BATCH_SMALL_TOKENS_MAX) {
        out->group = DW_STEP_PREFILL;
        out->packs = may_pack(job, n);
    } else if (n == 1) {
        out->group = !job_is_exact(job) || session->pool->model->bits.batches ? DW_STEP_SINGLE : DW_STEP_ALONE;
    } else {
        out->group = job_is_exact(job) ? DW_STEP_ALONE : DW_STEP_FEW;
    }
}

/* Whether it is an embedding that needs a slot of its decoder and has none. */
static bool needs_slot(const dw_job *job) {
    return job->kind == DW_JOB_EMBED && job->model->encoder == NULL && !dw_embed_holds_slot(job);
}

/* Who may take a slot next, of each model that has one left: by turns the one that has waited longest, and that of the
 * highest class. */
static void grant_slots(dw_job *const *jobs, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (jobs[i]->kind != DW_JOB_EMBED) continue;
        jobs[i]->model->embed_next = NULL;
        jobs[i]->model->embed_lacking = DW_PRIORITY_BACKGROUND;
    }
    for (uint32_t i = 0; i < n; i++) {
        dw_model *model = jobs[i]->model;
        if (!needs_slot(jobs[i]) || model->embed_slots == DW_EMBED_SLOTS_MAX) continue;
        const dw_job *next = model->embed_next;
        bool by_class = model->embed_grants % 2 == 0;
        if (next == NULL || (by_class && jobs[i]->priority < next->priority)) model->embed_next = jobs[i];
    }
}

uint32_t dw_batch_look_all(dw_job *const *jobs, uint32_t n, dw_job_look *looks, uint32_t *ready) {
    uint32_t n_ready = 0;
    grant_slots(jobs, n);
    for (uint32_t i = 0; i < n; i++) {
        dw_model *model = jobs[i]->model;
        if (dw_job_waits(jobs[i])) continue;
        if (needs_slot(jobs[i]) && model->embed_next != jobs[i]) {
            if (jobs[i]->priority < model->embed_lacking) model->embed_lacking = jobs[i]->priority;
            continue;
        }
        dw_batch_look(jobs[i], &looks[n_ready]);
        ready[n_ready++] = i;
    }
    for (uint32_t k = 0; k < n_ready; k++) {
        const dw_job *job = jobs[ready[k]];
        if (job->kind == DW_JOB_EMBED && job->model->embed_lacking < looks[k].priority) {
            looks[k].priority = job->model->embed_lacking;
        }
    }
    return n_ready;
}

/* --- planning ------------------------------------------------------------------------------------------------ */

/* What each job wants evaluated, and where its rows lie. Jobs that have nothing to evaluate are done here. */
static void plan_parts(pass *p, dw_batch_job *jobs, uint32_t n, bool short_steps) {
    for (uint32_t i = 0; i < n; i++) {
        dw_job *job = jobs[i].job;
        member *m = &p->members[p->n];
        *m = (member){.entry = &jobs[i]};
        jobs[i].progress = dw_job_plan(job, chunk_tokens(job, short_steps), &m->part);
        if (jobs[i].progress == DW_JOB_DONE) continue;
        dw_error err;
        dw_graph_binding *at = &m->binding;
        dw_status status = m->part.again ? dw_session_bind_again(job->session, &at->buffer, &at->offset, &err)
                                         : dw_session_bind(job->session, &at->buffer, &at->offset, &err);
        if (status == DW_OK) p->n++;
        else jobs[i].progress = dw_job_took(job, status, &err, 0);
    }
}

/* Ascending slots make long runs (graph.h). */
static int by_slot_offset(const void *a, const void *b) {
    const member *x = a, *y = b;
    if (x->part.n_tokens != y->part.n_tokens) return x->part.n_tokens < y->part.n_tokens ? -1 : 1;
    return x->binding.offset < y->binding.offset ? -1 : x->binding.offset > y->binding.offset;
}

static void lay_out_pass(pass *p) {
    qsort(p->members, p->n, sizeof p->members[0], by_slot_offset);
    uint32_t column = 0, n_wanted = 0;
    bool exact = false;
    for (uint32_t i = 0; i < p->n; i++) {
        const member *m = &p->members[i];
        p->parts[i] = (dw_graph_part){.tokens = m->part.tokens, .n_tokens = m->part.n_tokens,
                                      .first_position = m->part.first_position,
                                      .binding = m->binding};
        for (uint32_t w = 0; w < m->part.n_wanted; w++) p->wanted[n_wanted++] = column + m->part.wanted[w];
        column += m->part.n_tokens;
        exact = exact || job_is_exact(m->entry->job);
    }
    p->batch = (dw_graph_batch){.parts = p->parts, .n_parts = p->n, .wanted = p->wanted, .n_wanted = n_wanted,
                                .narrow = exact && p->n > 1};
}

/* --- evaluating ---------------------------------------------------------------------------------------------- */

/* The part that row w of the pass belongs to, as w ascends. */
static member *owner_of_row(pass *p, uint32_t w, uint32_t *m, uint32_t *first) {
    while (w - *first >= p->members[*m].part.n_wanted) *first += p->members[(*m)++].part.n_wanted;
    return &p->members[*m];
}

/* The pass, and its rows become the sessions'. Before results are taken: what follows from them may cut the rows
 * again. */
static dw_status evaluate_rows(pass *p, float *output, dw_error *err) {
    dw_status status = dw_decoder_evaluate(p->model->decoder, &p->batch, output, err);
    for (uint32_t i = 0; status == DW_OK && i < p->n; i++) {
        const member *m = &p->members[i];
        dw_session *session = m->entry->job->session;
        dw_session_commit(session, m->part.first_position + m->part.n_tokens);
    }
    return status;
}

/* Several rows: their hidden states, then logits of a few at a time. The first copies of these are the model's; a job
 * that wants them elsewhere copies, which the device's ledger counts. */
static dw_status evaluate_many(pass *p, dw_error *err) {
    dw_model *model = p->model;
    uint32_t n = p->batch.n_wanted, width = model->info.n_embedding, n_vocab = model->info.n_vocab;
    uint32_t m = 0, first_of_m = 0;
    uint32_t group_max = n < DW_HEAD_ROWS_MAX ? n : DW_HEAD_ROWS_MAX;
    dw_status status = dw_model_room(&model->hidden, &model->hidden_rows, n, width, err);
    if (status == DW_OK) status = dw_model_room(&model->logits, &model->logits_rows, group_max, n_vocab, err);
    if (status == DW_OK) status = evaluate_rows(p, model->hidden, err);
    for (uint32_t first = 0; status == DW_OK && first < n; first += group_max) {
        uint32_t group = n - first < group_max ? n - first : group_max;
        status = dw_decoder_head(model->decoder, model->hidden + (size_t)first * width, group, p->batch.narrow,
                                 model->logits, err);
        for (uint32_t i = 0; status == DW_OK && i < group; i++) {
            dw_job_take_row(owner_of_row(p, first + i, &m, &first_of_m)->entry->job,
                            model->logits + (size_t)i * n_vocab);
        }
    }
    return status;
}

static dw_status evaluate_one(pass *p, dw_error *err) {
    dw_model *model = p->model;
    uint32_t m = 0, first = 0;
    member *owner = owner_of_row(p, 0, &m, &first);
    dw_status status = DW_OK;
    if (owner->part.logits == NULL) {
        status = dw_model_room(&model->logits, &model->logits_rows, 1, model->info.n_vocab, err);
    }
    float *logits = owner->part.logits != NULL ? owner->part.logits : model->logits;
    if (status == DW_OK) status = evaluate_rows(p, logits, err);
    if (status == DW_OK) dw_job_take_row(owner->entry->job, logits);
    return status;
}

static dw_status evaluate_pass(pass *p, dw_error *err) {
    if (p->batch.n_wanted > 1) return evaluate_many(p, err);
    if (p->batch.n_wanted == 1) return evaluate_one(p, err);
    return evaluate_rows(p, NULL, err);
}

static bool pass_must_finish(const pass *p) {
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->members[i].part.again) return true;
    }
    return false;
}

bool dw_batch_step(dw_batch_job *jobs, uint32_t n, const dw_batch_options *options) {
    pass p;
    dw_error err = {0};
    if (jobs[0].job->kind == DW_JOB_EMBED) {
        jobs[0].progress = dw_embed_step(jobs[0].job);
        return true;
    }
    p.model = jobs[0].job->session->pool->model;
    p.n = 0;
    uint64_t start = dw_os_monotonic_ns();
    plan_parts(&p, jobs, n, options->short_steps);
    if (p.n == 0) return true;
    lay_out_pass(&p);
    p.batch.stop = pass_must_finish(&p) ? NULL : options->stop;
    dw_status status = evaluate_pass(&p, &err);
    if (status == DW_E_CANCELLED) return false;
    uint64_t took = dw_os_monotonic_ns() - start;
    for (uint32_t i = 0; i < p.n; i++) {
        member *m = &p.members[i];
        dw_job *job = m->entry->job;
        m->entry->progress = dw_job_took(job, status, &err, took);
    }
    return true;
}

dw_status dw_job_run(dw_job *job, dw_error *err) {
    job->wake = NULL; /* this thread waits itself */
    dw_status status = dw_job_begin(job, err);
    if (status != DW_OK) return status;
    dw_batch_job alone = {.job = job, .progress = DW_JOB_MORE};
    const dw_batch_options options = {0};
    while (alone.progress == DW_JOB_MORE) (void)dw_batch_step(&alone, 1, &options);
    status = dw_job_end(job);
    if (status != DW_OK && err != NULL) *err = job->error;
    return status;
}

/* engine_tsan_test.c: the engine under the thread sanitizer: several threads submit, cancel and wait, and engines are destroyed with
 * jobs in them. Sessions carry a counter that nothing guards (engine_stub.h): the engine alone has to order its uses.
 * Exit 0 when every job ended exactly once; the sanitizer ends the process with another code when it sees a race. */
#include <stdio.h>
#include <stdlib.h>

#include "model/engine/engine_stub.h"
#include "os/os.h"

enum { ROUNDS = 40, THREADS = 4, JOBS = 8, TURNS = 25 };

typedef struct slot { dw_session session; stub_plan plan; dw_job job; } slot;

typedef struct worker {
    dw_engine *engine;
    slot *all;             /* [THREADS * JOBS], for cancels across threads */
    slot *own;             /* [JOBS] */
    uint64_t random;
    uint32_t submitted;
} worker;

static int devices[2]; /* whose addresses stand for devices */
static dw_device *const device = (dw_device *)&devices[0];
static dw_model model = {(dw_device *)&devices[0]};

static void must(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "engine_tsan_test: %s\n", what);
    exit(1);
}

static uint32_t random_below(uint64_t *state, uint32_t bound) {
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33) % bound;
}

static void on_done(dw_job *job) {
    stub_plan *plan = job->context;
    must(job->status == DW_OK || job->status == DW_E_CANCELLED, "a job ended with a strange status");
    atomic_fetch_add(&plan->done, 1);
}

/* Submits each of its jobs again and again, cancelling now and then its own or another thread's. Leaves the last ones in the engine. */
static void work(void *argument) {
    worker *w = argument;
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        for (uint32_t i = 0; i < JOBS; i++) {
            slot *s = &w->own[i];
            if (random_below(&w->random, 3) == 0) dw_engine_cancel(w->engine, &w->all[random_below(&w->random, THREADS * JOBS)].job);
            /* Its last run must be over before the job's memory is written again. */
            if (atomic_load(&s->plan.done) != atomic_load(&s->plan.begun)) {
                dw_engine_cancel(w->engine, &s->job);
                while (atomic_load(&s->plan.done) != atomic_load(&s->plan.begun)) {}
            }
            s->plan.steps = 1 + random_below(&w->random, 6) * random_below(&w->random, 6);
            atomic_store(&s->plan.stepped, 0);
            must(dw_engine_submit(w->engine, &s->job, NULL) == DW_OK, "an idle session's job was refused");
            w->submitted++;
        }
    }
}

static void run_round(uint32_t round) {
    static slot slots[THREADS * JOBS];
    worker workers[THREADS];
    dw_os_thread *threads[THREADS];
    dw_engine *engine = NULL;
    must(dw_engine_create(device, &engine, NULL) == DW_OK, "no engine");
    for (uint32_t i = 0; i < THREADS * JOBS; i++) {
        slots[i].session = (dw_session){.model = &model};
        slots[i].plan = (stub_plan){.steps = 1};
        slots[i].job = (dw_job){.session = &slots[i].session, .on_done = on_done, .context = &slots[i].plan};
    }
    for (uint32_t t = 0; t < THREADS; t++) {
        workers[t] = (worker){.engine = engine, .all = slots, .own = &slots[t * JOBS], .random = round * 1000 + t};
        must(dw_os_thread_create("worker", 1 << 20, work, &workers[t], &threads[t], NULL) == DW_OK, "no thread");
    }
    uint32_t submitted = 0, done = 0;
    for (uint32_t t = 0; t < THREADS; t++) {
        dw_os_thread_join(threads[t]);
        submitted += workers[t].submitted;
    }
    dw_engine_destroy(engine); /* with whatever is still in it */
    for (uint32_t i = 0; i < THREADS * JOBS; i++) {
        must(atomic_load(&slots[i].plan.begun) == atomic_load(&slots[i].plan.ended), "a job was begun and not ended");
        must(!atomic_load(&slots[i].session.busy), "a session is still busy");
        done += atomic_load(&slots[i].plan.done);
    }
    must(done == submitted, "a job was not done once for each time that it was submitted");
}

int main(void) {
    for (uint32_t round = 0; round < ROUNDS; round++) run_round(round);
    printf("engine_tsan_test: %d rounds, every job ended once\n", ROUNDS);
    return 0;
}

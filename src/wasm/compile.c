/* compile.c: see compile.h. */
#include "wasm/compile.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "wasm/engine.h"

typedef struct compile_job {
    struct compile_job *next;
    dw_compiler *compiler;
    dw_hash program;
    uint8_t *wasm;
    size_t wasm_size;
    bool is_serial;
    /* under the compiler's mutex */
    dw_os_thread *thread;   /* NULL once it was let go */
    uint32_t n_waiters;     /* 0 while it is not done: given up */
    bool is_done;
    dw_status status;
    dw_error error;
    wasm_byte_vec_t code;   /* when done with DW_OK */
} compile_job;

struct dw_compiler {
    dw_compiler_options options;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    compile_job *jobs;      /* those that run */
};

dw_status dw_compiler_create(const dw_compiler_options *options, dw_compiler **out, dw_error *err) {
    *out = NULL;
    dw_compiler *compiler = calloc(1, sizeof *compiler);
    if (!compiler) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a compiler");
    compiler->options = *options;
    dw_status status = dw_os_mutex_create(&compiler->mutex, err);
    if (status == DW_OK) status = dw_os_condition_create(&compiler->changed, err);
    if (status == DW_OK) *out = compiler;
    else dw_compiler_destroy(compiler);
    return status;
}

void dw_compiler_destroy(dw_compiler *compiler) {
    if (!compiler) return;
    assert(!compiler->jobs);
    if (compiler->changed) dw_os_condition_destroy(compiler->changed);
    if (compiler->mutex) dw_os_mutex_destroy(compiler->mutex);
    free(compiler);
}

/* --- the thread ------------------------------------------------------------------------------------------------ */

static void free_job(compile_job *job) {
    if (job->code.data) wasm_byte_vec_delete(&job->code);
    free(job->wasm);
    free(job);
}

static dw_status make_code(compile_job *job, dw_error *err) {
    const dw_compiler_options *options = &job->compiler->options;
    wasmtime_module_t *module = NULL;
    wasm_engine_t *engine = job->is_serial ? options->serial : options->parallel;
    wasmtime_error_t *error = wasmtime_module_new(engine, job->wasm, job->wasm_size, &module);
    if (error) return dw_engine_fail(err, DW_E_INVALID, "the module cannot be compiled", error);
    error = wasmtime_module_serialize(module, &job->code);
    wasmtime_module_delete(module);
    if (error) return dw_engine_fail(err, DW_E_INTERNAL, "the module's code cannot be written down", error);
    options->keep(options->context, &job->program, job->code.data, job->code.size);
    return DW_OK;
}

static void unlink_job(dw_compiler *compiler, const compile_job *job) {
    compile_job **link = &compiler->jobs;
    while (*link != job) link = &(*link)->next;
    *link = job->next;
}

/* Whoever waits takes the result; when nobody does, the job is the thread's to free. */
static void run_compile(void *argument) {
    compile_job *job = argument;
    dw_compiler *compiler = job->compiler;
    const dw_compiler_options options = compiler->options;
    dw_error error = {.offset = DW_NO_OFFSET};
    dw_status status = make_code(job, &error);
    dw_os_mutex_lock(compiler->mutex);
    job->status = status;
    job->error = error;
    job->is_done = true;
    unlink_job(compiler, job);
    bool is_forgotten = job->n_waiters == 0;
    dw_os_condition_broadcast(compiler->changed);
    dw_os_mutex_unlock(compiler->mutex);
    if (is_forgotten) free_job(job);
    options.drop(options.context); /* the compiler may be gone behind this */
}

/* --- those who wait -------------------------------------------------------------------------------------------- */

static compile_job *running_job(const dw_compiler *compiler, const dw_hash *program) {
    compile_job *job = compiler->jobs;
    while (job && !dw_hash_equal(&job->program, program)) job = job->next;
    return job;
}

static uint32_t count_given_up(const dw_compiler *compiler) {
    uint32_t n = 0;
    for (const compile_job *job = compiler->jobs; job; job = job->next) n += job->n_waiters == 0;
    return n;
}

/* Whether its functions could take too much memory, as many as there are cores at the same time. */
static bool is_heavy(const dw_prepared *prepared) {
    uint64_t cores = dw_os_cpu_count();
    uint64_t usual = dw_min_u64(prepared->heaviest.weight, DW_FUNCTION_HEAVY_BYTES);
    uint64_t at_once = dw_min_u64(prepared->heaviest.weight * cores, usual * cores + prepared->heavy_weight);
    return dw_min_u64(prepared->weight, at_once) > DW_COMPILE_BYTES_MAX;
}

/* Mutex held. */
static dw_status start_job(dw_compiler *compiler, const dw_hash *program, const dw_prepared *prepared,
                           compile_job **out, dw_error *err) {
    uint32_t given_up = count_given_up(compiler);
    if (given_up >= DW_COMPILES_GIVEN_UP_MAX) {
        return dw_fail(err, DW_E_BUSY, "%u programs that took too long are still being compiled", (unsigned)given_up);
    }
    compile_job *job = calloc(1, sizeof *job);
    uint8_t *wasm = malloc(prepared->wasm_size);
    dw_status status = DW_E_NO_MEMORY;
    if (!job || !wasm) {
        (void)dw_fail(err, status, "no memory to compile a module of %zu bytes", prepared->wasm_size);
        goto out;
    }
    memcpy(wasm, prepared->wasm, prepared->wasm_size);
    *job = (compile_job){.compiler = compiler, .program = *program, .wasm = wasm, .wasm_size = prepared->wasm_size,
                         .is_serial = compiler->jobs != NULL || is_heavy(prepared)};
    compiler->options.hold(compiler->options.context);
    status = dw_os_thread_create("dw-compile", DW_WORKER_STACK_BYTES, run_compile, job, &job->thread, err);
    if (status != DW_OK) {
        compiler->options.drop(compiler->options.context);
        goto out;
    }
    job->next = compiler->jobs;
    compiler->jobs = job;
    *out = job;
    return DW_OK;
out:
    free(wasm);
    free(job);
    return status;
}

/* Mutex held. False: the limit has passed first. */
static bool wait_for_job(dw_compiler *compiler, const compile_job *job) {
    uint64_t limit_ns = compiler->options.limit_ns, now_ns = dw_os_monotonic_ns();
    uint64_t until_ns = limit_ns < UINT64_MAX - now_ns ? now_ns + limit_ns : UINT64_MAX;
    while (!job->is_done && dw_os_condition_wait_until(compiler->changed, compiler->mutex, until_ns)) {}
    return job->is_done;
}

static dw_status too_long(const dw_compiler *compiler, const dw_prepared *prepared, dw_error *err) {
    double seconds = (double)compiler->options.limit_ns * 1e-9;
    const dw_function_size *heaviest = &prepared->heaviest;
    return dw_fail_at(err, DW_E_DEADLINE, heaviest->offset,
                      "compiling takes longer than %.3g s (%zu bytes; the heaviest function, %u, has %u of them from "
                      "byte %llu on)", seconds, prepared->wasm_size, (unsigned)heaviest->index,
                      (unsigned)heaviest->bytes, (unsigned long long)heaviest->offset);
}

static dw_status take_code(const compile_job *job, wasm_engine_t *engine, wasmtime_module_t **out, dw_error *err) {
    if (job->status != DW_OK) {
        *err = job->error;
        return job->status;
    }
    wasmtime_error_t *error = wasmtime_module_deserialize(engine, (const uint8_t *)job->code.data, job->code.size, out);
    return error ? dw_engine_fail(err, DW_E_INTERNAL, "the compiled code cannot be loaded", error) : DW_OK;
}

/* Takes one waiter away. The thread of a job that is given up is let go; the last waiter of one that is done frees
 * it. */
static void leave_job(dw_compiler *compiler, compile_job *job) {
    dw_os_thread *joined = NULL, *let_go = NULL;
    dw_os_mutex_lock(compiler->mutex);
    assert(job->n_waiters > 0);
    bool is_last = --job->n_waiters == 0, is_done = job->is_done;
    if (is_last) {
        if (is_done) joined = job->thread;
        else let_go = job->thread;
        job->thread = NULL;
    }
    dw_os_thread_detach(let_go);
    dw_os_mutex_unlock(compiler->mutex);
    dw_os_thread_join(joined);
    if (is_last && is_done) free_job(job);
}

static void tell(const dw_compiler *compiler, size_t bytes, dw_status ended) {
    if (compiler->options.compiling) compiler->options.compiling(compiler->options.compiling_context, bytes, ended);
}

dw_status dw_compile(dw_compiler *compiler, const dw_hash *program, const dw_prepared *prepared,
                     wasmtime_module_t **out, dw_error *err) {
    dw_status status = DW_OK;
    tell(compiler, prepared->wasm_size, DW_OK);
    dw_os_mutex_lock(compiler->mutex);
    compile_job *job = running_job(compiler, program);
    if (!job) status = start_job(compiler, program, prepared, &job, err);
    if (status == DW_OK) job->n_waiters++;
    bool is_done = status == DW_OK && wait_for_job(compiler, job);
    dw_os_mutex_unlock(compiler->mutex);
    if (status == DW_OK) {
        status = is_done ? take_code(job, compiler->options.parallel, out, err) : too_long(compiler, prepared, err);
        leave_job(compiler, job);
    }
    tell(compiler, 0, status);
    return status;
}

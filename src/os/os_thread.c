/* os_thread.c: threads, mutexes and conditions over pthreads. */
#define _POSIX_C_SOURCE 200809L

#include <assert.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "os/os_internal.h"

enum { THREAD_NAME_BYTES = 32 };

struct dw_os_thread {
    pthread_t id;
    void (*run)(void *argument);
    void *argument;
    char name[THREAD_NAME_BYTES];
    atomic_uint holders; /* who still reads this: the thread while it starts, and who made it */
};

struct dw_os_mutex {
    pthread_mutex_t mutex;
    _Atomic(const void *) owner; /* `this_thread` of the thread that holds it, NULL when nobody does */
};

/* Its address is another one in each thread. */
static _Thread_local char this_thread;

struct dw_os_condition {
    pthread_cond_t condition;
};

/* A mutex call of ours fails only through a bug of ours, and going on without the lock would hide it. */
static void must_succeed(int failure) {
    assert(failure == 0);
    (void)failure;
}

/* --- threads ---------------------------------------------------------------------------------------------------- */

static void let_thread_go(dw_os_thread *thread) {
    if (atomic_fetch_sub(&thread->holders, 1) == 1) free(thread);
}

static void *thread_main(void *context) {
    dw_os_thread *thread = context;
    void (*run)(void *argument) = thread->run;
    void *argument = thread->argument;
    dw_os_sys_name_this_thread(thread->name);
    let_thread_go(thread);
    run(argument);
    return NULL;
}

static int start_thread(dw_os_thread *thread, size_t stack_bytes) {
    pthread_attr_t attributes;
    int failure = pthread_attr_init(&attributes);
    if (failure) return failure;
    if (stack_bytes) {
        uint64_t rounded;
        if (!dw_round_up_u64(dw_max_u64(stack_bytes, (uint64_t)PTHREAD_STACK_MIN), dw_os_page_bytes(), &rounded))
            failure = EINVAL;
        else failure = pthread_attr_setstacksize(&attributes, (size_t)rounded);
    }
    if (!failure) failure = pthread_create(&thread->id, &attributes, thread_main, thread);
    (void)pthread_attr_destroy(&attributes);
    return failure;
}

dw_status dw_os_thread_create(const char *name, size_t stack_bytes, void (*run)(void *argument), void *argument,
                              dw_os_thread **out, dw_error *err) {
    *out = NULL;
    dw_os_thread *thread = calloc(1, sizeof *thread);
    if (!thread) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a thread");
    thread->run = run;
    thread->argument = argument;
    atomic_init(&thread->holders, 2);
    strncpy(thread->name, name, sizeof thread->name - 1);
    int failure = dw_os_faulted(DW_FAULT_THREAD) ? errno : start_thread(thread, stack_bytes);
    if (failure) {
        free(thread);
        return dw_fail_system(err, failure, "cannot start thread %s with a stack of %zu bytes", name, stack_bytes);
    }
    *out = thread;
    return DW_OK;
}

void dw_os_thread_join(dw_os_thread *thread) {
    if (!thread) return;
    must_succeed(pthread_join(thread->id, NULL));
    let_thread_go(thread);
}

void dw_os_thread_detach(dw_os_thread *thread) {
    if (!thread) return;
    must_succeed(pthread_detach(thread->id));
    let_thread_go(thread);
}

/* --- mutexes ---------------------------------------------------------------------------------------------------- */

dw_status dw_os_mutex_create(dw_os_mutex **out, dw_error *err) {
    *out = NULL;
    dw_os_mutex *mutex = calloc(1, sizeof *mutex);
    if (!mutex) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a mutex");
    int failure = dw_os_faulted(DW_FAULT_THREAD) ? errno : pthread_mutex_init(&mutex->mutex, NULL);
    if (failure) {
        free(mutex);
        return dw_fail_system(err, failure, "cannot make a mutex");
    }
    *out = mutex;
    return DW_OK;
}

void dw_os_mutex_destroy(dw_os_mutex *mutex) {
    if (!mutex) return;
    must_succeed(pthread_mutex_destroy(&mutex->mutex));
    free(mutex);
}

static void set_owner(dw_os_mutex *mutex, const void *thread) {
    atomic_store_explicit(&mutex->owner, thread, memory_order_relaxed);
}

void dw_os_mutex_lock(dw_os_mutex *mutex) {
    must_succeed(pthread_mutex_lock(&mutex->mutex));
    set_owner(mutex, &this_thread);
}

void dw_os_mutex_unlock(dw_os_mutex *mutex) {
    assert(dw_os_mutex_held(mutex));
    set_owner(mutex, NULL);
    must_succeed(pthread_mutex_unlock(&mutex->mutex));
}

/* Only this thread ever stores its own address, so what another one stores meanwhile does not change the answer. */
bool dw_os_mutex_held(const dw_os_mutex *mutex) {
    return atomic_load_explicit(&mutex->owner, memory_order_relaxed) == &this_thread;
}

/* --- conditions ------------------------------------------------------------------------------------------------- */

dw_status dw_os_condition_create(dw_os_condition **out, dw_error *err) {
    *out = NULL;
    dw_os_condition *condition = calloc(1, sizeof *condition);
    if (!condition) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a condition");
    int failure = dw_os_faulted(DW_FAULT_THREAD) ? errno : dw_os_sys_condition_init(&condition->condition);
    if (failure) {
        free(condition);
        return dw_fail_system(err, failure, "cannot make a condition");
    }
    *out = condition;
    return DW_OK;
}

void dw_os_condition_destroy(dw_os_condition *condition) {
    if (!condition) return;
    must_succeed(pthread_cond_destroy(&condition->condition));
    free(condition);
}

void dw_os_condition_wait(dw_os_condition *condition, dw_os_mutex *mutex) {
    assert(dw_os_mutex_held(mutex));
    set_owner(mutex, NULL);
    must_succeed(pthread_cond_wait(&condition->condition, &mutex->mutex));
    set_owner(mutex, &this_thread);
}

bool dw_os_condition_wait_until(dw_os_condition *condition, dw_os_mutex *mutex, uint64_t deadline_ns) {
    if (deadline_ns == UINT64_MAX) {
        dw_os_condition_wait(condition, mutex);
        return true;
    }
    assert(dw_os_mutex_held(mutex));
    set_owner(mutex, NULL);
    int failure = dw_os_sys_condition_wait_until(&condition->condition, &mutex->mutex, deadline_ns);
    set_owner(mutex, &this_thread);
    if (failure == ETIMEDOUT) return false;
    must_succeed(failure);
    return true;
}

void dw_os_condition_signal(dw_os_condition *condition) { must_succeed(pthread_cond_signal(&condition->condition)); }
void dw_os_condition_broadcast(dw_os_condition *condition) {
    must_succeed(pthread_cond_broadcast(&condition->condition));
}

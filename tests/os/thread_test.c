/* Threads, mutexes, conditions. */
#include "os/os.h"
#include "os/scratch.h"

enum { THREADS = 4, ROUNDS = 20000 };

static dw_error err;

typedef struct shared_state {
    dw_os_mutex *mutex;
    dw_os_condition *condition;
    uint64_t counter;
    unsigned waiting, released;
    bool go;
} shared_state;

static void set_up_shared(shared_state *shared) {
    *shared = (shared_state){0};
    assert_ok(dw_os_mutex_create(&shared->mutex, &err), err);
    assert_ok(dw_os_condition_create(&shared->condition, &err), err);
}

static void drop_shared(shared_state *shared) {
    dw_os_condition_destroy(shared->condition);
    dw_os_mutex_destroy(shared->mutex);
}

static void count(void *argument) {
    shared_state *shared = argument;
    for (int i = 0; i < ROUNDS; i++) {
        dw_os_mutex_lock(shared->mutex);
        shared->counter++;
        dw_os_mutex_unlock(shared->mutex);
    }
}

static void mutex_keeps_threads_apart(void **state) {
    (void)state;
    shared_state shared;
    dw_os_thread *threads[THREADS];
    set_up_shared(&shared);
    for (int i = 0; i < THREADS; i++) assert_ok(dw_os_thread_create("a name longer than systems take", 0, count, &shared, &threads[i], &err), err);
    for (int i = 0; i < THREADS; i++) dw_os_thread_join(threads[i]);
    assert_int_equal(shared.counter, THREADS * ROUNDS);
    dw_os_thread_join(NULL);
    drop_shared(&shared);
}

typedef struct holder {
    shared_state *shared;
    bool before, inside, after;
} holder;

static void ask_who_holds(void *argument) {
    holder *h = argument;
    h->before = dw_os_mutex_held(h->shared->mutex);
    dw_os_mutex_lock(h->shared->mutex);
    h->inside = dw_os_mutex_held(h->shared->mutex);
    h->shared->go = true;
    dw_os_condition_signal(h->shared->condition);
    dw_os_mutex_unlock(h->shared->mutex);
    h->after = dw_os_mutex_held(h->shared->mutex);
}

static void only_the_thread_that_locked_holds_a_mutex(void **state) {
    (void)state;
    shared_state shared;
    holder other = {.shared = &shared, .before = true, .after = true};
    dw_os_thread *thread;
    set_up_shared(&shared);
    assert_false(dw_os_mutex_held(shared.mutex));
    dw_os_mutex_lock(shared.mutex);
    assert_true(dw_os_mutex_held(shared.mutex));
    assert_ok(dw_os_thread_create("holder", 0, ask_who_holds, &other, &thread, &err), err);
    while (!shared.go) dw_os_condition_wait(shared.condition, shared.mutex); /* gives it to the other and takes it back */
    assert_true(dw_os_mutex_held(shared.mutex));
    dw_os_mutex_unlock(shared.mutex);
    assert_false(dw_os_mutex_held(shared.mutex));
    dw_os_thread_join(thread);
    assert_true(!other.before && other.inside && !other.after);
    drop_shared(&shared);
}

static void wait_for_go(void *argument) {
    shared_state *shared = argument;
    dw_os_mutex_lock(shared->mutex);
    shared->waiting++;
    dw_os_condition_broadcast(shared->condition);
    while (!shared->go) dw_os_condition_wait(shared->condition, shared->mutex);
    shared->released++;
    dw_os_mutex_unlock(shared->mutex);
}

static void broadcast_wakes_all_who_wait(void **state) {
    (void)state;
    shared_state shared;
    dw_os_thread *threads[THREADS];
    set_up_shared(&shared);
    for (int i = 0; i < THREADS; i++) assert_ok(dw_os_thread_create("waiter", 0, wait_for_go, &shared, &threads[i], &err), err);
    dw_os_mutex_lock(shared.mutex);
    while (shared.waiting < THREADS) assert_true(dw_os_condition_wait_until(shared.condition, shared.mutex, UINT64_MAX));
    assert_int_equal(shared.released, 0);
    shared.go = true;
    dw_os_condition_broadcast(shared.condition);
    dw_os_mutex_unlock(shared.mutex);
    for (int i = 0; i < THREADS; i++) dw_os_thread_join(threads[i]);
    assert_int_equal(shared.released, THREADS);
    drop_shared(&shared);
}

static void wait_ends_at_its_deadline_and_not_before(void **state) {
    (void)state;
    shared_state shared;
    set_up_shared(&shared);
    dw_os_mutex_lock(shared.mutex);
    assert_false(dw_os_condition_wait_until(shared.condition, shared.mutex, 0)); /* long past */
    uint64_t deadline = dw_os_monotonic_ns() + UINT64_C(5000000);
    while (dw_os_condition_wait_until(shared.condition, shared.mutex, deadline)) {} /* spurious wakes are allowed */
    assert_true(dw_os_monotonic_ns() >= deadline);
    dw_os_mutex_unlock(shared.mutex);
    drop_shared(&shared);
}

enum { STACK_BYTES = 2 << 20, USED_BYTES = 1 << 20 };

static void use_stack(void *argument) {
    volatile char deep[USED_BYTES];
    for (size_t i = 0; i < sizeof deep; i += 1024) deep[i] = 1;
    *(int *)argument = deep[1024];
}

static void thread_has_the_stack_it_was_given(void **state) {
    (void)state;
    int done = 0;
    dw_os_thread *thread;
    assert_ok(dw_os_thread_create("deep", STACK_BYTES, use_stack, &done, &thread, &err), err);
    dw_os_thread_join(thread);
    assert_int_equal(done, 1);
}

static void say_that_it_ran(void *argument) {
    shared_state *shared = argument;
    dw_os_mutex_lock(shared->mutex);
    shared->released++;
    dw_os_condition_signal(shared->condition);
    dw_os_mutex_unlock(shared->mutex);
}

static void a_detached_thread_runs_on_by_itself(void **state) {
    (void)state;
    shared_state shared;
    set_up_shared(&shared);
    for (unsigned i = 1; i <= 100; i++) { /* let go at once: often before it has begun */
        dw_os_thread *thread;
        assert_ok(dw_os_thread_create("detached", 0, say_that_it_ran, &shared, &thread, &err), err);
        dw_os_thread_detach(thread);
        dw_os_mutex_lock(shared.mutex);
        while (shared.released < i) dw_os_condition_wait(shared.condition, shared.mutex);
        dw_os_mutex_unlock(shared.mutex);
    }
    dw_os_thread_detach(NULL);
    drop_shared(&shared);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutex_keeps_threads_apart),
        cmocka_unit_test(only_the_thread_that_locked_holds_a_mutex),
        cmocka_unit_test(broadcast_wakes_all_who_wait),
        cmocka_unit_test(wait_ends_at_its_deadline_and_not_before),
        cmocka_unit_test(a_detached_thread_runs_on_by_itself),
        cmocka_unit_test(thread_has_the_stack_it_was_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

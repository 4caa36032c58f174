/* port_tsan_test.c: an engine's threads complete operations and append text while the turn's thread takes completions,
 * adds operations, and somebody else interrupts and stops, under the thread sanitizer. Each operation is completed
 * once, and all text arrives. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "door/port.h"
#include "os/os.h"

enum { ENGINES = 3, OPERATIONS = 4000, AT_A_TIME = 8, PIECES = 3 };

/* The port frees an operation's model: none has one here. */
void dw_model_entry_release(dw_model_entry *entry) { (void)entry; }

static void require(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

/* A queue of operations that the engines work on. */
typedef struct work {
    dw_port *port;
    dw_os_mutex *mutex;
    dw_os_condition *changed;
    dw_operation *waiting[AT_A_TIME];
    unsigned n;
    bool quit;
} work;

static dw_operation *next_operation(work *w) {
    dw_operation *op = NULL;
    dw_os_mutex_lock(w->mutex);
    while (w->n == 0 && !w->quit) dw_os_condition_wait(w->changed, w->mutex);
    if (w->n > 0) op = w->waiting[--w->n];
    dw_os_mutex_unlock(w->mutex);
    return op;
}

static void run_engine(void *argument) {
    work *w = argument;
    for (dw_operation *op; (op = next_operation(w)) != NULL;) {
        for (int i = 0; i < PIECES; i++) require(dw_port_append_text(w->port, op, "text", 4), "text does not fit");
        op->completion.status = DW_OK;
        dw_port_done(w->port, op);
    }
}

static void submit(work *w, uint64_t user_data) {
    dw_operation *op = dw_port_add(w->port, &(dw_request){.op = DW_OP_GENERATE, .user_data = user_data});
    require(op != NULL, "no memory");
    op->generate.flags = DW_GENERATE_EMIT;
    op->state = DW_OPERATION_RUNNING;
    op->spans = calloc(1, sizeof *op->spans);
    require(op->spans != NULL, "no memory");
    op->spans[0] = (dw_lent_span){user_data * 16, user_data * 16 + 16};
    op->n_spans = 1;
    dw_port_lend(w->port, op);
    dw_os_mutex_lock(w->mutex);
    w->waiting[w->n++] = op;
    dw_os_condition_signal(w->changed);
    dw_os_mutex_unlock(w->mutex);
}

typedef struct asker {
    dw_park *park;
    _Atomic bool quit;
    unsigned stops;
} asker;

static void ask(void *argument) {
    asker *a = argument;
    while (!atomic_load(&a->quit)) {
        uint64_t turn = dw_park_turn(a->park);
        if (dw_park_interrupt(a->park, turn) == DW_OK && dw_park_stop(a->park, turn) == DW_OK) a->stops++;
    }
}

static dw_operation *wait_for_one(dw_port *port) {
    dw_park_lock(port->park);
    dw_operation *op;
    while ((op = dw_port_oldest_done(port)) == NULL) dw_park_wait(port->park, UINT64_MAX);
    op->text_shown = op->text_size;
    dw_park_unlock(port->park);
    return op;
}

int main(void) {
    dw_error err;
    work w = {0};
    asker a = {0};
    dw_os_thread *engines[ENGINES], *asking;
    require(dw_port_create(&w.port, &err) == DW_OK && dw_os_mutex_create(&w.mutex, &err) == DW_OK, "no port");
    require(dw_os_condition_create(&w.changed, &err) == DW_OK, "no condition");
    a.park = w.port->park;
    for (int i = 0; i < ENGINES; i++)
        require(dw_os_thread_create("engine", 0, run_engine, &w, &engines[i], &err) == DW_OK, "no thread");
    require(dw_os_thread_create("asker", 0, ask, &a, &asking, &err) == DW_OK, "no thread");
    uint64_t sum = 0, submitted = 0;
    for (uint64_t taken = 0; taken < OPERATIONS;) {
        dw_park_begin(w.port->park, UINT64_MAX);
        while (submitted < OPERATIONS && submitted - taken < AT_A_TIME) submit(&w, submitted++);
        (void)dw_port_is_lent(w.port, taken * 16, taken * 16 + 1);
        dw_operation *op = wait_for_one(w.port);
        require(op->text_size == 4 * PIECES, "text is missing");
        sum += op->completion.user_data;
        dw_port_take_back(w.port, op);
        dw_port_remove(w.port, op);
        taken++;
        (void)dw_park_end(w.port->park);
    }
    require(sum == (uint64_t)OPERATIONS * (OPERATIONS - 1) / 2, "an operation was lost or doubled");
    require(w.port->n_windows + w.port->n_lent == 0, "a window is left");
    atomic_store(&a.quit, true);
    dw_os_mutex_lock(w.mutex);
    w.quit = true;
    dw_os_condition_broadcast(w.changed);
    dw_os_mutex_unlock(w.mutex);
    for (int i = 0; i < ENGINES; i++) dw_os_thread_join(engines[i]);
    dw_os_thread_join(asking);
    dw_port_destroy(w.port);
    dw_os_condition_destroy(w.changed);
    dw_os_mutex_destroy(w.mutex);
    return 0;
}

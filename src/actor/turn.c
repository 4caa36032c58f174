/* turn.c: one message, handled completely or not at all (actor.h). */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"
#include "actor/commit.h"

static void begin(dw_actor *actor, const message *current, uint64_t deadline_ns, dw_turn_result *result) {
    actor->in_turn = true;
    actor->current = *current;
    actor->turn_deadline_ns = deadline_ns;
    actor->result = result;
    dw_writer_deinit(&actor->reply);
    dw_writer_init(&actor->reply);
    dw_actor_sessions_begin(actor);
    dw_wasi_begin_turn(dw_instance_wasi(actor->instance), current->realtime_ns);
}

/* dw_actor_stop may come from any thread: it sees the instance only under the lock, while it is in a call. */
static void set_running(dw_actor *actor, dw_instance *instance) {
    dw_os_mutex_lock(actor->port->mutex);
    actor->running = instance;
    if (instance && atomic_load(&actor->stopped)) dw_instance_interrupt(instance);
    dw_os_mutex_unlock(actor->port->mutex);
}

static void end(dw_actor *actor) {
    atomic_store(&actor->interrupted, false);
    atomic_store(&actor->stopped, false);
    actor->in_turn = false;
    actor->current = (message){0};
    actor->result = NULL;
}

/* Runs the guest: what a fresh instance owes first, then the message. */
static dw_status run_guest(dw_actor *actor, dw_turn_result *result, dw_error *err) {
    dw_call_result call = {0};
    dw_status status = DW_OK;
    set_running(actor, actor->instance);
    if (!actor->initialized) status = dw_instance_initialize(actor->instance, actor->turn_deadline_ns, &call, err);
    if (status == DW_OK) {
        bool command = !dw_program_info_view(actor->program)->has_receive;
        status = command ? dw_instance_start_command(actor->instance, actor->turn_deadline_ns, &call, err)
                         : dw_instance_receive(actor->instance, actor->turn_deadline_ns, &call, err);
    }
    set_running(actor, NULL);
    dw_actor_cancel_all(actor);
    result->exit_code = call.exit_code;
    /* A stop that came as the guest returned: it is for this turn, and must not be left in the instance for the next one. */
    if (status == DW_OK && atomic_load(&actor->stopped)) return dw_fail(err, DW_E_CANCELLED, "the turn was stopped");
    if (status == DW_OK && call.value < 0) {
        const char *name = dw_status_name((dw_status)call.value);
        return dw_fail(err, DW_E_STATE, "the program gave this turn up with %d (%s)", call.value, name);
    }
    return status;
}

/* A group of one. */
static dw_status commit(dw_actor *actor, dw_turn_result *result, dw_error *err) {
    uint64_t start = dw_os_monotonic_ns();
    dw_commit_plan plan;
    dw_status status = dw_commit_plan_make(&plan, actor, err);
    if (status == DW_OK) status = dw_commit_persist((dw_commit_plan *[]){&plan}, 1, err);
    if (status != DW_OK) {
        dw_commit_plan_drop(&plan);
        return status;
    }
    dw_commit_publish(&plan, result);
    result->commit_ns = dw_os_monotonic_ns() - start;
    return DW_OK;
}

static void roll_back(dw_actor *actor, dw_status why) {
    dw_actor_drop_instance(actor);
    dw_error err;
    dw_status status = dw_actor_sessions_rollback(actor, &err);
    if (status != DW_OK) {
        actor->broken = true; /* better no actor than one that is not what it was */
        dw_log(DW_LOG_ERROR, "rollback", "actor=%s status=%s reason=%s", actor->name, dw_status_name(status), err.text);
    }
    if (why != DW_E_CANCELLED && dw_status_kind_of(why) == DW_KIND_REFUSED) dw_mailbox_drop_first(&actor->mailbox);
}

dw_status dw_actor_turn(dw_actor *actor, uint64_t deadline_ns, dw_turn_result *result, dw_error *err) {
    *result = (dw_turn_result){.status = DW_E_NOT_FOUND};
    const message *current = dw_mailbox_first(&actor->mailbox);
    if (!current) return dw_fail(err, DW_E_NOT_FOUND, "the mailbox is empty");
    dw_status status = dw_actor_usable(actor, err);
    if (status == DW_OK) status = dw_actor_live(actor, err);
    if (status != DW_OK) return result->status = status;
    begin(actor, current, deadline_ns, result);
    uint64_t start = dw_os_monotonic_ns();
    status = run_guest(actor, result, err);
    result->run_ns = dw_os_monotonic_ns() - start;
    if (status == DW_OK) status = commit(actor, result, err);
    if (status != DW_OK) roll_back(actor, status);
    end(actor);
    return result->status = status;
}

void dw_actor_interrupt(dw_actor *actor) {
    atomic_store(&actor->interrupted, true);
    dw_os_mutex_lock(actor->port->mutex);
    dw_os_condition_signal(actor->port->changed);
    dw_os_mutex_unlock(actor->port->mutex);
}

void dw_actor_stop(dw_actor *actor) {
    atomic_store(&actor->stopped, true);
    dw_os_mutex_lock(actor->port->mutex);
    if (actor->running) dw_instance_interrupt(actor->running);
    dw_os_mutex_unlock(actor->port->mutex);
    dw_actor_interrupt(actor);
}

/* turn.c: one message, handled completely or not at all (actor.h). */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"
#include "actor/commit.h"
#include "os/os.h"

static dw_park *park_of(const dw_actor *actor) { return dw_door_park(actor->door); }

static void begin_turn(dw_actor *actor, const dw_message *current, uint64_t deadline_ns) {
    actor->in_turn = true;
    dw_park_begin(park_of(actor), deadline_ns);
    dw_actor_sessions_begin(actor);
    dw_wasi_begin_turn(dw_instance_wasi(actor->instance), current->realtime_ns);
}

static void cut_guest(void *context) { dw_instance_interrupt(context); }

/* What a fresh instance owes before its first message. The door is closed: actor.h rule 6. */
static dw_status initialize_guest(dw_actor *actor, dw_call_result *call, dw_error *err) {
    return actor->initialized ? DW_OK
                              : dw_instance_initialize(actor->instance, dw_park_deadline(park_of(actor)), call, err);
}

static dw_status handle_message(dw_actor *actor, const dw_message *current, dw_call_result *call, dw_error *err) {
    const dw_door_message message = {.body = current->body, .size = current->size, .turn = actor->turns + 1};
    uint64_t deadline_ns = dw_park_deadline(park_of(actor));
    bool command = !dw_program_info_view(actor->program)->has_receive;
    dw_door_open(actor->door, &message);
    dw_status status = command ? dw_instance_start_command(actor->instance, deadline_ns, call, err)
                               : dw_instance_receive(actor->instance, deadline_ns, call, err);
    dw_door_close(actor->door);
    return status;
}

/* Runs the guest. From dw_park_end on nothing stops this turn any more. */
static dw_status run_guest(dw_actor *actor, const dw_message *current, dw_turn_result *result, dw_error *err) {
    dw_call_result call = {0};
    dw_park_cut_with(park_of(actor), cut_guest, actor->instance);
    dw_status status = initialize_guest(actor, &call, err);
    if (status == DW_OK) status = handle_message(actor, current, &call, err);
    dw_park_cut_with(park_of(actor), NULL, NULL);
    bool stopped = dw_park_end(park_of(actor));
    result->exit_code = call.exit_code;
    /* A stop that came as the guest returned: it is for this turn, and must not be left in the instance for the next
     * one. */
    if (status == DW_OK && stopped) return dw_fail(err, DW_E_CANCELLED, "the turn was stopped");
    if (status == DW_OK && call.value < 0) {
        const char *name = dw_status_name((dw_status)call.value);
        return dw_fail(err, DW_E_STATE, "the program gave this turn up with %d (%s)", call.value, name);
    }
    return status;
}

/* A group of one. */
static dw_status commit_turn(dw_actor *actor, dw_turn_result *result, dw_error *err) {
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

/* actor.h rule 4. Whoever keeps the actor has to forget the message too; else it waits on. */
static void drop_message(dw_actor *actor, const dw_error *why) {
    uint64_t id = dw_mailbox_first(&actor->mailbox)->id;
    dw_error err;
    if (actor->keeper.drop) {
        dw_status status = actor->keeper.drop(actor->keeper.context, actor, id, why, &err);
        if (status != DW_OK) {
            dw_log(DW_LOG_ERROR, "message_stays", "actor=%s message=%llu status=%s reason=\"%s\"", actor->name,
                   (unsigned long long)id, dw_status_name(status), err.text);
            return;
        }
    }
    dw_inbox_handled(actor->inbox, &actor->mailbox);
}

static void roll_back(dw_actor *actor, const dw_error *why) {
    dw_actor_drop_instance(actor);
    dw_error err;
    dw_status status = dw_actor_sessions_rollback(actor, &err);
    if (status != DW_OK) {
        actor->broken = true; /* better no actor than one that is not what it was */
        dw_log(DW_LOG_ERROR, "rollback", "actor=%s status=%s reason=%s", actor->name, dw_status_name(status), err.text);
    }
    if (why->status != DW_E_CANCELLED && dw_status_kind_of(why->status) == DW_KIND_REFUSED) drop_message(actor, why);
}

static void count_into(const dw_door_counts *counts, dw_turn_result *result) {
    result->tokens_evaluated = counts->tokens_evaluated;
    result->tokens_generated = counts->tokens_generated;
    result->tokens_shared = counts->tokens_shared;
    result->model_ns = counts->model_ns;
    result->enters = counts->enters;
    result->copied_bytes = counts->copied_bytes;
}

dw_status dw_actor_turn(dw_actor *actor, uint64_t deadline_ns, dw_turn_result *result, dw_error *err) {
    dw_error own; /* a keeper is told why a turn failed, also where the caller does not ask */
    if (!err) err = &own;
    *result = (dw_turn_result){.status = DW_E_NOT_FOUND};
    dw_status status = dw_actor_usable(actor, err);
    if (status == DW_OK) status = dw_inbox_drain(actor->inbox, &actor->mailbox, err);
    if (status != DW_OK) return result->status = status;
    const dw_message *current = dw_mailbox_first(&actor->mailbox);
    if (!current) return dw_fail(err, DW_E_NOT_FOUND, "the mailbox is empty");
    status = dw_actor_live(actor, err);
    if (status != DW_OK) return result->status = status;
    begin_turn(actor, current, deadline_ns);
    uint64_t start = dw_os_monotonic_ns();
    status = run_guest(actor, current, result, err);
    dw_actor_log_flush(actor);
    result->run_ns = dw_os_monotonic_ns() - start;
    const dw_door_counts counts = dw_door_counts_of(actor->door);
    count_into(&counts, result);
    if (status == DW_OK) status = commit_turn(actor, result, err);
    if (status != DW_OK) {
        const dw_error why = {.status = status, .offset = DW_NO_OFFSET};
        roll_back(actor, err->status == status ? err : &why);
    }
    actor->in_turn = false;
    return result->status = status;
}

uint64_t dw_actor_next_turn(const dw_actor *actor) { return dw_park_turn(park_of(actor)); }
dw_status dw_actor_interrupt(dw_actor *actor, uint64_t turn) { return dw_park_interrupt(park_of(actor), turn); }
dw_status dw_actor_stop(dw_actor *actor, uint64_t turn) { return dw_park_stop(park_of(actor), turn); }

/* commit.c: see commit.h. */
#include "actor/commit.h"

#include <assert.h>
#include <stdlib.h>

#include "actor/actor_internal.h"

dw_status dw_commit_plan_make(dw_commit_plan *plan, dw_actor *actor, dw_error *err) {
    *plan = (dw_commit_plan){.actor = actor};
    dw_writer *reply = dw_door_reply(actor->door);
    dw_write_u8(reply, 0); /* the NUL behind it */
    dw_status status = dw_writer_finish(reply, &plan->reply, &plan->reply_size);
    if (status != DW_OK) {
        *plan = (dw_commit_plan){0};
        return dw_fail(err, status, "no memory for the reply");
    }
    plan->reply_size--;
    status = dw_image_change_plan(&plan->image, actor->instance, err);
    if (status != DW_OK) dw_commit_plan_drop(plan);
    return status;
}

/* The plans' changes to their keeper. */
static dw_status keep_plans(dw_commit_plan *const *plans, size_t n, dw_error *err) {
    const dw_keeper keeper = plans[0]->actor->keeper;
    for (size_t i = 1; i < n; i++) assert(plans[i]->actor->keeper.context == keeper.context);
    if (!keeper.keep) return DW_OK;
    dw_actor_change *changes = calloc(n, sizeof *changes);
    dw_status status = changes ? DW_OK : dw_fail(err, DW_E_NO_MEMORY, "no memory for the changes of %zu actors", n);
    for (size_t i = 0; i < n && status == DW_OK; i++) status = dw_actor_change_make(plans[i], &changes[i], err);
    if (status == DW_OK) status = keeper.keep(keeper.context, changes, n, err);
    for (size_t i = 0; changes && i < n; i++) dw_actor_change_deinit(&changes[i]);
    free(changes);
    return status;
}

dw_status dw_commit_persist(dw_commit_plan *const *plans, size_t n, dw_error *err) {
    dw_status status = DW_OK;
    size_t done = 0;
    for (; done < n && status == DW_OK; done++) {
        dw_commit_plan *plan = plans[done];
        assert(plan->actor && !plan->persisted);
        status = dw_image_change_keep(&plan->image, &plan->actor->image, dw_runtime_pages(plan->actor->runtime), err);
        plan->persisted = status == DW_OK;
    }
    if (status == DW_OK && n > 0) status = keep_plans(plans, n, err);
    for (size_t i = 0; i < done && status != DW_OK; i++) {
        dw_image_change_forget(&plans[i]->image, &plans[i]->actor->image);
        plans[i]->persisted = false;
    }
    return status;
}

void dw_commit_publish(dw_commit_plan *plan, dw_turn_result *result) {
    dw_actor *actor = plan->actor;
    assert(actor && plan->persisted);
    result->dirty_bytes = plan->image.written_bytes;
    dw_image_change_publish(&plan->image, &actor->image);
    dw_actor_sessions_commit(actor);
    actor->initialized = true;
    actor->turns++;
    dw_inbox_handled(actor->inbox, &actor->mailbox);
    result->turn = actor->turns;
    result->reply = (char *)plan->reply;
    result->reply_size = plan->reply_size;
    *plan = (dw_commit_plan){0};
    /* Tracking that cannot be renewed costs the instance, not the turn. */
    dw_error ignored;
    if (dw_region_mark(dw_instance_region(actor->instance), DW_DIRTY_AUTO, &ignored) != DW_OK)
        dw_actor_drop_instance(actor);
#ifdef DW_FAULTS
    dw_page_map_check(&actor->image.pages);
#endif
}

void dw_commit_plan_drop(dw_commit_plan *plan) {
    if (plan->persisted) dw_image_change_forget(&plan->image, &plan->actor->image);
    dw_image_change_deinit(&plan->image);
    free(plan->reply);
    *plan = (dw_commit_plan){0};
}

/* schedule.c: see schedule.h. */
#include "model/engine/schedule.h"

#include <assert.h>

/* What a pick looks at: jobs of one model. One of the class `lead` goes first. Jobs of that class and of higher ones
 * may join it. */
typedef struct pick_view {
    const dw_job_look *looks;
    uint32_t n;
    const void *model;
    dw_priority lead;
    bool open;
} pick_view;

static const uint32_t nobody = UINT32_MAX;
_Static_assert(DW_SCHEDULE_MODELS >= DW_RUNTIME_MODELS_MAX, "models that take turns keep their places");

/* --- who leads ----------------------------------------------------------------------------------------------- */

static uint64_t *opened_by(dw_schedule *s, dw_priority class) { return &s->opened[class - DW_PRIORITY_REALTIME]; }

/* Of the classes below `highest` that wait, the one whose last open pick is longest ago. */
static dw_priority next_to_open(dw_schedule *s, const pick_view *v, dw_priority highest) {
    dw_priority next = highest;
    for (uint32_t i = 0; i < v->n; i++) {
        dw_priority class = v->looks[i].priority;
        if (class != highest && (next == highest || *opened_by(s, class) < *opened_by(s, next))) next = class;
    }
    return next;
}

/* Rule 1. */
static void choose_lead(dw_schedule *s, pick_view *v) {
    dw_priority highest = v->looks[0].priority;
    bool contest = false;
    for (uint32_t i = 1; i < v->n; i++) {
        contest = contest || v->looks[i].priority != highest;
        if (v->looks[i].priority < highest) highest = v->looks[i].priority;
    }
    v->open = contest && s->streak >= DW_CLASS_STREAK_MAX;
    v->lead = v->open ? next_to_open(s, v, highest) : highest;
    if (v->open) *opened_by(s, v->lead) = s->picks;
    s->streak = v->open ? 0 : s->streak + contest;
}

/* --- models -------------------------------------------------------------------------------------------------- */

/* A model that is new here takes the place of the one that was last used longest ago. */
static dw_model_turns *turns_of(dw_schedule *s, const void *model) {
    dw_model_turns *oldest = &s->turns[0], *found = NULL;
    for (uint32_t t = 0; t < DW_SCHEDULE_MODELS && found == NULL; t++) {
        if (s->turns[t].model == model) found = &s->turns[t];
        else if (s->turns[t].used < oldest->used) oldest = &s->turns[t];
    }
    if (found == NULL) *(found = oldest) = (dw_model_turns){.model = model};
    found->used = s->picks;
    return found;
}

/* The turn of the leading class that is next, and whose it is. */
static dw_turn *next_turn(dw_schedule *s, pick_view *v) {
    dw_turn *next = NULL;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->looks[i].priority != v->lead) continue;
        dw_turn *turn = &turns_of(s, v->looks[i].model)->of[v->lead - DW_PRIORITY_REALTIME];
        if (next != NULL && turn->ended >= next->ended) continue;
        next = turn;
        v->model = v->looks[i].model;
    }
    return next;
}

static void end_turn(const dw_schedule *s, dw_turn *turn) { *turn = (dw_turn){.ended = s->picks}; }

/* --- jobs ---------------------------------------------------------------------------------------------------- */

/* Whether a job may go in this pick: by its model and its class. Outside of open picks none has a higher class than
 * `lead`. */
static bool may_join(const pick_view *v, const dw_job_look *look, dw_step_group group) {
    return look->model == v->model && look->priority <= v->lead && look->group == group;
}

/* The job of the leading class that has waited longest for a prefill chunk, or for a small step. */
static uint32_t longest_waiting(const pick_view *v, bool prefill) {
    for (uint32_t i = 0; i < v->n; i++) {
        dw_step_group group = v->looks[i].group;
        if ((group == DW_STEP_PREFILL) == prefill && may_join(v, &v->looks[i], group)) return i;
    }
    return nobody;
}

/* The job that leads an open pick. */
static uint32_t longest_waiting_of_lead(const pick_view *v) {
    uint32_t i = 0;
    while (v->looks[i].priority != v->lead) i++;
    return i;
}

/* Whether job a goes before job b where there is no room for both: by class, then by how long they have waited. */
static bool goes_first(const pick_view *v, uint32_t a, uint32_t b) {
    if (v->looks[a].priority != v->looks[b].priority) return v->looks[a].priority < v->looks[b].priority;
    return a < b;
}

/* Keeps picked[0..n) in order; one too many drops out at the end. */
static uint32_t insert_pick(const pick_view *v, uint32_t i, uint32_t picked[], uint32_t n) {
    uint32_t at = n;
    while (at > 0 && goes_first(v, i, picked[at - 1])) at--;
    if (at == DW_BATCH_PARTS_MAX) return n;
    uint32_t last = n < DW_BATCH_PARTS_MAX ? n : DW_BATCH_PARTS_MAX - 1;
    for (uint32_t k = last; k > at; k--) picked[k] = picked[k - 1];
    picked[at] = i;
    return n < DW_BATCH_PARTS_MAX ? n + 1 : n;
}

static uint32_t pick_small(const pick_view *v, uint32_t first, uint32_t picked[]) {
    dw_step_group group = v->looks[first].group;
    uint32_t n = 0;
    if (group == DW_STEP_ALONE) {
        picked[0] = first;
        return 1;
    }
    for (uint32_t i = 0; i < v->n; i++) {
        if (may_join(v, &v->looks[i], group)) n = insert_pick(v, i, picked, n);
    }
    bool holds_first = false;
    for (uint32_t k = 0; k < n; k++) holds_first = holds_first || picked[k] == first;
    if (!holds_first) picked[n - 1] = first; /* in an open pick, beside a full batch of higher classes */
    return n;
}

/* The chunk of `first`, and as many others' as may go with it. *tokens: of all. */
static uint32_t pick_prefill(const pick_view *v, uint32_t first, uint32_t picked[], uint32_t *tokens) {
    uint32_t n = 1;
    picked[0] = first;
    *tokens = v->looks[first].n_tokens;
    if (!v->looks[first].packs) return 1;
    for (uint32_t i = 0; i < v->n && n < DW_BATCH_PARTS_MAX; i++) {
        const dw_job_look *look = &v->looks[i];
        bool may = i != first && look->packs && may_join(v, look, DW_STEP_PREFILL);
        if (!may || *tokens + look->n_tokens > DW_PREFILL_TURN_TOKENS) continue;
        picked[n++] = i;
        *tokens += look->n_tokens;
    }
    return n;
}

/* --- the pick ------------------------------------------------------------------------------------------------ */

/* Beside the models' turns. */
static uint32_t pick_open(pick_view *v, uint32_t picked[]) {
    uint32_t first = longest_waiting_of_lead(v);
    v->model = v->looks[first].model;
    picked[0] = first;
    return v->looks[first].group == DW_STEP_PREFILL ? 1 : pick_small(v, first, picked);
}

/* Rules 2 and 3. */
static uint32_t pick_in_turn(dw_schedule *s, pick_view *v, uint32_t picked[]) {
    dw_turn *turn = next_turn(s, v);
    uint32_t prefill = longest_waiting(v, true), small = longest_waiting(v, false);
    if (prefill != nobody && (turn->prefill_next || small == nobody)) {
        uint32_t tokens = 0, n = pick_prefill(v, prefill, picked, &tokens);
        turn->prefilled += tokens;
        turn->prefill_next = turn->prefilled < DW_PREFILL_TURN_TOKENS;
        if (!turn->prefill_next) end_turn(s, turn);
        return n;
    }
    turn->prefilled = 0;
    turn->prefill_next = prefill != nobody; /* then the model stays the next one */
    if (!turn->prefill_next) end_turn(s, turn);
    return pick_small(v, small, picked);
}

uint32_t dw_schedule_pick(dw_schedule *s, const dw_job_look *looks, uint32_t n, uint32_t picked[]) {
    if (n == 0) return 0;
    pick_view v = {.looks = looks, .n = n};
    s->picks++;
    choose_lead(s, &v);
    uint32_t n_picked = v.open ? pick_open(&v, picked) : pick_in_turn(s, &v, picked);
    assert(n_picked > 0 && n_picked <= DW_BATCH_PARTS_MAX && looks[picked[0]].model == v.model);
    return n_picked;
}

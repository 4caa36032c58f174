/* schedule.c */
#include "model/engine/schedule.h"

/* What a pick looks at: jobs of one model. One of the class `lead` goes first; those of `lowest` and above may join it. */
typedef struct view {
    const dw_job_look *looks;
    uint32_t n;
    const void *model;
    dw_priority lead, lowest;
    bool open;
} view;

/* Rule 1. */
static void choose_classes(dw_schedule *s, view *v) {
    dw_priority highest = v->looks[0].priority;
    v->lowest = highest;
    for (uint32_t i = 1; i < v->n; i++) {
        if (v->looks[i].priority < highest) highest = v->looks[i].priority;
        if (v->looks[i].priority > v->lowest) v->lowest = v->looks[i].priority;
    }
    v->open = highest != v->lowest && s->streak == DW_CLASS_STREAK_MAX;
    s->streak = highest == v->lowest || v->open ? 0 : s->streak + 1;
    if (!v->open) v->lowest = highest;
    v->lead = v->lowest;
}

/* A model that is new here takes the place of the one whose last turn is longest ago. */
static dw_model_turn *turn_of(dw_schedule *s, const void *model) {
    dw_model_turn *oldest = &s->turns[0];
    for (uint32_t t = 0; t < DW_SCHEDULE_MODELS; t++) {
        if (s->turns[t].model == model) return &s->turns[t];
        if (s->turns[t].ended < oldest->ended) oldest = &s->turns[t];
    }
    *oldest = (dw_model_turn){.model = model};
    return oldest;
}

static dw_model_turn *next_model(dw_schedule *s, const view *v) {
    dw_model_turn *next = NULL;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->looks[i].priority != v->lead) continue;
        dw_model_turn *turn = turn_of(s, v->looks[i].model);
        if (next == NULL || turn->ended < next->ended) next = turn;
    }
    return next;
}

/* Whether job a goes before job b where both cannot: by class, then by tokens served. */
static bool goes_before(const view *v, uint32_t a, uint32_t b) {
    if (v->looks[a].priority != v->looks[b].priority) return v->looks[a].priority < v->looks[b].priority;
    return v->looks[a].served < v->looks[b].served;
}

/* The first of the leading class to go among prefills, or among small steps; UINT32_MAX: there is none. */
static uint32_t first_of(const view *v, bool prefill) {
    uint32_t first = UINT32_MAX;
    for (uint32_t i = 0; i < v->n; i++) {
        if (v->looks[i].priority != v->lead || v->looks[i].model != v->model || (v->looks[i].group == DW_STEP_PREFILL) != prefill) continue;
        if (first == UINT32_MAX || goes_before(v, i, first)) first = i;
    }
    return first;
}

/* Keeps picked[0..n) in order; one too many drops out at the end. */
static uint32_t insert(const view *v, uint32_t i, uint32_t picked[], uint32_t n) {
    uint32_t at = n;
    while (at > 0 && goes_before(v, i, picked[at - 1])) at--;
    if (at == DW_BATCH_PARTS_MAX) return n;
    uint32_t last = n < DW_BATCH_PARTS_MAX ? n : DW_BATCH_PARTS_MAX - 1;
    for (uint32_t k = last; k > at; k--) picked[k] = picked[k - 1];
    picked[at] = i;
    return n < DW_BATCH_PARTS_MAX ? n + 1 : n;
}

static uint32_t pick_small(const view *v, uint32_t first, uint32_t picked[]) {
    dw_step_group group = v->looks[first].group;
    uint32_t n = 0;
    if (group == DW_STEP_ALONE) {
        picked[0] = first;
        return 1;
    }
    bool holds_first = false;
    for (uint32_t i = 0; i < v->n; i++) {
        const dw_job_look *look = &v->looks[i];
        if (look->priority <= v->lowest && look->model == v->model && look->group == group) n = insert(v, i, picked, n);
    }
    for (uint32_t k = 0; k < n; k++) holds_first = holds_first || picked[k] == first;
    if (!holds_first) picked[n - 1] = first; /* in an open step, beside a full batch of higher classes */
    return n;
}

/* The chunk of `first`, and as many others' as may go with it. *tokens: of all. */
static uint32_t pick_prefill(const view *v, uint32_t first, uint32_t picked[], uint32_t *tokens) {
    uint32_t others[DW_BATCH_PARTS_MAX], n_others = 0, n = 1;
    picked[0] = first;
    *tokens = v->looks[first].n_tokens;
    if (!v->looks[first].packs) return 1;
    for (uint32_t i = 0; i < v->n; i++) {
        const dw_job_look *look = &v->looks[i];
        bool may = look->priority == v->lead && look->model == v->model && look->group == DW_STEP_PREFILL && look->packs;
        if (may && i != first) n_others = insert(v, i, others, n_others);
    }
    for (uint32_t k = 0; k < n_others && n < DW_BATCH_PARTS_MAX; k++) {
        uint32_t more = v->looks[others[k]].n_tokens;
        if (*tokens + more > DW_PREFILL_TURN_TOKENS) continue;
        picked[n++] = others[k];
        *tokens += more;
    }
    return n;
}

static void end_turn(dw_schedule *s, dw_model_turn *turn) {
    turn->ended = s->steps;
    turn->prefilled = 0;
}

uint32_t dw_schedule_pick(dw_schedule *s, const dw_job_look *looks, uint32_t n, uint32_t picked[]) {
    if (n == 0) return 0;
    view v = {.looks = looks, .n = n};
    choose_classes(s, &v);
    dw_model_turn *turn = next_model(s, &v);
    v.model = turn->model;
    uint32_t prefill = first_of(&v, true), small = first_of(&v, false);
    s->steps++;
    if (v.open) { /* beside the models' turns; where both kinds wait they alternate */
        bool takes_prefill = small == UINT32_MAX || (prefill != UINT32_MAX && s->open_prefill);
        s->open_prefill = !takes_prefill;
        picked[0] = prefill;
        return takes_prefill ? 1 : pick_small(&v, small, picked);
    }
    if (prefill != UINT32_MAX && (turn->prefill_next || small == UINT32_MAX)) {
        uint32_t tokens = 0;
        uint32_t n_picked = pick_prefill(&v, prefill, picked, &tokens);
        turn->prefilled += tokens;
        turn->prefill_next = turn->prefilled < DW_PREFILL_TURN_TOKENS;
        if (!turn->prefill_next) end_turn(s, turn);
        return n_picked;
    }
    turn->prefilled = 0;
    turn->prefill_next = prefill != UINT32_MAX; /* then the model stays the next one */
    if (!turn->prefill_next) end_turn(s, turn);
    return pick_small(&v, small, picked);
}

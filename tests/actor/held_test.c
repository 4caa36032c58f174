/* held_test.c: logits that an actor's sessions hold: a turn that draws from them is the turn that would have been (I4),
 * in every place that the actor moves to, and a bad turn leaves what was held before (I2). */
#include "actor/fixture_model.h"

#include <stdio.h>

/* Places in the probe's arena. */
enum { AT_TOKENS = 0, AT_ROW = 16384, AT_OPTIONS = 20480, AT_RESULT = 24576, AT_TEXT = 28672, AT_LOGITS = 65536 };
enum { N_VOCAB = 512, N_SESSIONS = 2, N_PROMPT = 100 };
static const uint64_t logits_bytes = N_VOCAB * sizeof(float);

typedef struct held_talk { dw_actor *actor; uint32_t handles[N_SESSIONS], arena; } held_talk;

static held_talk begin(fixture *f, const char *name) {
    held_talk t = {.actor = fixture_actor(f, name)};
    int32_t prompt[N_PROMPT];
    for (int32_t i = 0; i < N_PROMPT; i++) prompt[i] = 259 + i * i * 7 % (N_VOCAB - 259);
    for (int i = 0; i < N_SESSIONS; i++)
        t.handles[i] = fixture_request(t.actor, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7}).result0;
    t.arena = fixture_put(t.actor, AT_TOKENS, prompt, sizeof prompt);
    const dw_row row = {.index = DW_ROW_OF_LAST, .flags = DW_ROW_SAMPLE, .sampled = t.arena + AT_RESULT,
                        .sampling = {.temperature = 1.5f}};
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    const dw_generate_options options = {.size = sizeof options, .n_max = 6, .flags = DW_GENERATE_IGNORE_END,
                                         .sampling = {.temperature = 1.5f}};
    fixture_put(t.actor, AT_OPTIONS, &options, sizeof options);
    return t;
}

static dw_request forward(const held_talk *t, int session, uint32_t n, uint16_t flags) {
    return (dw_request){.op = DW_OP_FORWARD, .flags = flags, .handle = t->handles[session], .user_data = 50,
                        .ptr0 = t->arena + AT_TOKENS, .len0 = n};
}

/* A row with a draw, of the last token. */
static dw_request draw(const held_talk *t, int session, uint16_t flags) {
    dw_request request = forward(t, session, 0, flags);
    request.ptr1 = t->arena + AT_ROW;
    request.len1 = 1;
    return request;
}

static dw_request generate(const held_talk *t, int session) {
    return (dw_request){.op = DW_OP_GENERATE, .handle = t->handles[session], .user_data = 60,
                        .ptr1 = t->arena + AT_OPTIONS, .len1 = sizeof(dw_generate_options)};
}

static dw_request of_session(const held_talk *t, int session, uint16_t op, uint64_t argument) {
    return (dw_request){.op = op, .handle = t->handles[session], .arg0 = argument};
}

static bool holds(const held_talk *t, size_t session) {
    uint32_t n = 0;
    return dw_session_logits(dw_actor_session(t->actor, session), &n) != NULL && n == N_VOCAB;
}

static dw_actor *thawed(fixture *f, dw_actor *actor, dw_thaw_report *report) {
    char path[512];
    dw_actor *next = NULL;
    dw_error err = {0};
    fixture_path(f, "held.drift", path);
    assert_ok(dw_actor_freeze(actor, path, NULL, NULL, &err), err);
    assert_ok(dw_actor_thaw(f->runtime, path, NULL, &next, report, &err), err);
    assert_true(report->exact && report->verified);
    return next;
}

/* Both sessions of the actor hold logits; one is drawn from by a generation, the other by a row. The twin never
 * moves. */
static void a_draw_behind_a_thaw_evaluates_nothing_and_is_the_same(void **state) {
    fixture *f = *state;
    held_talk t = begin(f, "held"), twin = begin(f, "held-twin");
    held_talk *both[] = {&t, &twin};
    for (int i = 0; i < 2; i++) {
        fixture_request(both[i]->actor, forward(both[i], 0, 90, DW_FLAG_HOLD));
        fixture_request(both[i]->actor, forward(both[i], 1, 7, DW_FLAG_HOLD));
    }
    dw_thaw_report report;
    dw_actor *next = thawed(f, t.actor, &report);
    assert_int_equal(report.tokens, 97);
    assert_int_equal(report.tokens_reused, 97);
    assert_int_equal(report.tokens_pending + report.tokens_recomputed, 0);
    assert_int_equal(report.logits_bytes, 2 * logits_bytes);
    dw_actor_destroy(t.actor);
    t.actor = next;
    fixture_assert_same(t.actor, twin.actor);
    for (int i = 0; i < 2; i++) {
        assert_true(holds(both[i], 0) && holds(both[i], 1));
        assert_int_equal(fixture_request(both[i]->actor, draw(both[i], 1, 0)).result0, 0);
        assert_true(holds(both[i], 1)); /* a draw alone changes no log */
        assert_int_equal(fixture_request(both[i]->actor, generate(both[i], 0)).result1, 6);
        assert_false(holds(both[i], 0));
        dw_completion length = fixture_request(both[i]->actor, of_session(both[i], 0, DW_OP_SESSION_LENGTH, 0));
        assert_int_equal(length.result0, 96);
        assert_int_equal(length.result1, 95);
    }
    /* Tokens, rows, logits; in memory, what was drawn and how likely it was. */
    fixture_assert_same(t.actor, twin.actor);
    dw_actor_destroy(t.actor);
    dw_actor_destroy(twin.actor);
}

/* Without held logits the same turn has to evaluate the last token once more, in another shape. */
static void a_draw_without_held_logits_costs_the_last_token(void **state) {
    held_talk t = begin(*state, "not-held");
    fixture_request(t.actor, forward(&t, 0, 90, 0));
    assert_false(holds(&t, 0));
    assert_int_equal(fixture_request(t.actor, draw(&t, 0, 0)).result0, 1);
    assert_int_equal(fixture_request(t.actor, draw(&t, 0, DW_FLAG_HOLD)).result0, 1);
    assert_int_equal(fixture_request(t.actor, draw(&t, 0, DW_FLAG_HOLD)).result0, 0);
    dw_actor_destroy(t.actor);
}

/* What a step does to one session of an actor. */
static void take_step(const held_talk *t, unsigned what, int session, uint32_t n) {
    switch (what) {
    case 0: case 1: fixture_request(t->actor, forward(t, session, n, DW_FLAG_HOLD)); break;
    case 2: fixture_request(t->actor, forward(t, session, n, 0)); break;
    case 3: case 4: fixture_request(t->actor, generate(t, session)); break;
    case 5: fixture_request(t->actor, draw(t, session, DW_FLAG_HOLD)); break;
    case 6: fixture_request(t->actor, draw(t, session, 0)); break;
    default: {
        dw_completion length = fixture_request(t->actor, of_session(t, session, DW_OP_SESSION_LENGTH, 0));
        if (length.result0 <= 60) break;
        fixture_request(t->actor, of_session(t, session, DW_OP_SESSION_REWIND, length.result0 / 2));
    }
    }
}

/* Random turns of two sessions with holds and draws, and freezing, thawing, forking and bad turns between them, against
 * a twin that has only the turns. */
static void turns_that_hold_and_draw_are_the_same_wherever_the_actor_is(void **state) {
    fixture *f = *state;
    held_talk t = begin(f, "moved-held"), twin = begin(f, "twin-held");
    unsigned random = 815, n_moved_held = 0;
    for (int i = 0; i < N_SESSIONS; i++) {
        take_step(&t, 0, i, 70);
        take_step(&twin, 0, i, 70);
    }
    for (int step = 0; step < 60; step++) {
        random = random * 1103515245u + 12345u;
        const unsigned what = (random >> 16) % 8, move = (random >> 8) % 4;
        const int session = (random >> 20) % N_SESSIONS;
        const uint32_t n = 1 + (random >> 12) % 90;
        take_step(&t, what, session, n);
        take_step(&twin, what, session, n);
        dw_actor *next = NULL;
        dw_thaw_report report;
        dw_error err = {0};
        const bool held = holds(&t, 0) || holds(&t, 1);
        if (move == 0) {
            next = thawed(f, t.actor, &report);
        } else if (move == 1) {
            assert_ok(dw_actor_fork(t.actor, "forked-held", &next, NULL, &err), err);
            take_step(&t, 3, 0, 0); /* the parent goes another way */
            take_step(&t, 2, 1, 5);
        } else if (move == 2) {
            raw_answer answer;
            const dw_request bad[] = {generate(&t, 0), forward(&t, 1, 40, DW_FLAG_HOLD), draw(&t, 1, 0)};
            const raw_call head = {.n = 3, .capacity = RAW_COMPLETIONS, .wait = 3, .deadline = -1, .trap_behind = true};
            assert_int_equal(fixture_raw(t.actor, head, bad, 3, &answer), DW_E_TRAP);
        }
        n_moved_held += move < 3 && held;
        if (next) {
            dw_actor_destroy(t.actor);
            t.actor = next;
        }
        for (size_t i = 0; i < N_SESSIONS; i++) assert_int_equal(holds(&t, i), holds(&twin, i));
        dw_actor_digest one, two;
        assert_ok(dw_actor_digest_of(t.actor, &one, &err), err);
        assert_ok(dw_actor_digest_of(twin.actor, &two, &err), err);
        if (memcmp(&one, &two, sizeof one) != 0) fail_msg("step %d (%u, move %u) differs", step, what, move);
    }
    assert_in_range(n_moved_held, 10, 60); /* the walk has met what it is for */
    dw_actor_destroy(t.actor);
    dw_actor_destroy(twin.actor);
}

static void a_bad_turn_leaves_what_was_held(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    held_talk t = begin(f, "bad-held");
    fixture_request(t.actor, forward(&t, 0, 80, DW_FLAG_HOLD)); /* session 1 holds nothing, and has all its rows */
    fixture_request(t.actor, forward(&t, 1, 80, 0));
    dw_actor_digest before, after;
    assert_ok(dw_actor_digest_of(t.actor, &before, &err), err);
    const dw_request changes[][3] = {
        {forward(&t, 0, 30, DW_FLAG_HOLD)},
        {forward(&t, 0, 1, 0)},
        {generate(&t, 0)},
        {draw(&t, 0, 0), draw(&t, 0, DW_FLAG_HOLD)},
        {of_session(&t, 0, DW_OP_SESSION_REWIND, 40), forward(&t, 0, 3, DW_FLAG_HOLD)},
        {generate(&t, 0), of_session(&t, 0, DW_OP_SESSION_REWIND, 80), of_session(&t, 0, DW_OP_SESSION_REWIND, 70)},
        {of_session(&t, 0, DW_OP_SESSION_CLOSE, 0), {.op = DW_OP_SESSION_OPEN}},
        {of_session(&t, 0, DW_OP_SESSION_FORK, 0), generate(&t, 0)},
        {forward(&t, 1, 0, DW_FLAG_HOLD)}, /* computes the last row again */
        {draw(&t, 1, DW_FLAG_HOLD), generate(&t, 1)},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        raw_answer answer;
        uint32_t n = 0;
        while (n < 3 && changes[i][n].op) n++;
        const raw_call head = {.n = n, .capacity = RAW_COMPLETIONS, .wait = n, .deadline = -1, .trap_behind = true};
        assert_int_equal(fixture_raw(t.actor, head, changes[i], n, &answer), DW_E_TRAP);
        assert_ok(dw_actor_digest_of(t.actor, &after, &err), err);
        if (memcmp(&before, &after, sizeof before) != 0) fail_msg("change %zu left something behind", i);
    }
    dw_actor_destroy(t.actor);
}

static void held_logits_are_counted_for_actor_and_pool(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    held_talk t = begin(f, "counted");
    dw_actor *child = NULL;
    dw_actor_use use;
    dw_session_pool_use pool;
    const dw_session_pool *sessions = dw_session_pool_of(dw_actor_session(t.actor, 0));
    fixture_request(t.actor, forward(&t, 0, 20, DW_FLAG_HOLD));
    assert_ok(dw_actor_use_now(t.actor, &use, &err), err);
    assert_int_equal(use.logits_bytes, logits_bytes);
    assert_ok(dw_actor_fork(t.actor, "counted-fork", &child, NULL, &err), err);
    dw_session_pool_use_now(sessions, &pool);
    assert_int_equal(pool.logits_bytes, logits_bytes);
    fixture_request(t.actor, generate(&t, 0));
    assert_ok(dw_actor_use_now(t.actor, &use, &err), err);
    assert_int_equal(use.logits_bytes, 0);
    assert_ok(dw_actor_use_now(child, &use, &err), err);
    assert_int_equal(use.logits_bytes, logits_bytes);
    dw_actor_destroy(child);
    dw_session_pool_use_now(sessions, &pool);
    assert_int_equal(pool.logits_bytes, 0);
    dw_actor_destroy(t.actor);
}

static void the_flag_is_a_forwards_alone(void **state) {
    held_talk t = begin(*state, "misused");
    fixture_request(t.actor, forward(&t, 0, 20, DW_FLAG_HOLD));
    dw_request wrong[] = {generate(&t, 0), of_session(&t, 0, DW_OP_SESSION_LENGTH, 0),
                          of_session(&t, 0, DW_OP_SESSION_FORK, 0), of_session(&t, 0, DW_OP_SESSION_REWIND, 10),
                          {.op = DW_OP_SESSION_OPEN}, {.op = DW_OP_EMBED},
                          forward(&t, 0, 5, DW_FLAG_HOLD | 64), forward(&t, 0, 5, DW_FLAG_HOLD | DW_FLAG_FAST)};
    enum { N = sizeof wrong / sizeof wrong[0] };
    raw_answer answer;
    for (uint32_t i = 0; i < N; i++) wrong[i].flags |= DW_FLAG_HOLD;
    const raw_call head = {.n = N, .capacity = N, .wait = N, .deadline = -1};
    assert_int_equal(fixture_raw(t.actor, head, wrong, N, &answer), DW_OK);
    assert_int_equal(answer.n, N);
    for (int i = 0; i < N; i++) assert_int_equal(answer.completions[i].status, DW_E_INVALID);
    assert_true(holds(&t, 0)); /* nothing of it happened */
    /* A log without tokens has no last row. */
    const dw_request empty = forward(&t, 1, 0, DW_FLAG_HOLD);
    const raw_call one = {.n = 1, .capacity = 1, .wait = 1, .deadline = -1};
    assert_int_equal(fixture_raw(t.actor, one, &empty, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_INVALID);
    dw_actor_destroy(t.actor);
}

/* A window that is lent for logits is filled from what is held, and returned. */
static void held_logits_are_copied_into_the_guests_window(void **state) {
    held_talk t = begin(*state, "window-held");
    const dw_row row = {.index = DW_ROW_OF_LAST, .logits = t.arena + AT_LOGITS};
    void *view = NULL;
    uint32_t n = 0;
    fixture_request(t.actor, forward(&t, 0, 20, DW_FLAG_HOLD));
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    assert_int_equal(fixture_request(t.actor, draw(&t, 0, 0)).result0, 0);
    assert_int_equal(dw_guest_view(dw_actor_memory(t.actor), row.logits, logits_bytes, 64, &view), DW_OK);
    assert_memory_equal(view, dw_session_logits(dw_actor_session(t.actor, 0), &n), logits_bytes);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(t.actor))), 0);
    dw_actor_destroy(t.actor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_draw_behind_a_thaw_evaluates_nothing_and_is_the_same),
        cmocka_unit_test(a_draw_without_held_logits_costs_the_last_token),
        cmocka_unit_test(turns_that_hold_and_draw_are_the_same_wherever_the_actor_is),
        cmocka_unit_test(a_bad_turn_leaves_what_was_held),
        cmocka_unit_test(held_logits_are_counted_for_actor_and_pool),
        cmocka_unit_test(the_flag_is_a_forwards_alone),
        cmocka_unit_test(held_logits_are_copied_into_the_guests_window),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

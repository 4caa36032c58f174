/* session_test.c: sessions inside turns, with a small model of random weights: what a guest asks for it gets, several at once, and what a bad
 * turn did to its sessions is undone to the last bit (I2); an actor with sessions that is moved equals one that is not (I4). */
#include "actor/fixture_model.h"

#include <stdio.h>
#include "os/os.h"

/* Places in the probe's arena. */
enum { AT_TOKENS = 0, AT_ROW = 16384, AT_OPTIONS = 20480, AT_RESULT = 24576, AT_TEXT = 28672, AT_LOGITS = 65536 };

static const int32_t prompt[100] = {1, 5, 9, 300, 17, 42, 77, 130, 99, 201, 8, 8, 31, 64, 250, 3, 12, 410, 6, 90};

typedef struct talk { dw_actor *actor; uint32_t handle, tokens, row, options, result, text, logits; } talk;

static talk talk_begin(fixture *f, const char *name) {
    talk t = {.actor = fixture_actor(f, name)};
    t.handle = fixture_request(t.actor, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7}).result0;
    t.tokens = fixture_put(t.actor, AT_TOKENS, prompt, sizeof prompt);
    uint32_t arena = t.tokens - AT_TOKENS;
    t.row = arena + AT_ROW;
    t.options = arena + AT_OPTIONS;
    t.result = arena + AT_RESULT;
    t.text = arena + AT_TEXT;
    t.logits = arena + AT_LOGITS;
    dw_row row = {.index = DW_ROW_OF_LAST, .flags = DW_ROW_SAMPLE, .top = t.result, .n_top = 4, .entropy = t.result + 32, .sampled = t.result + 40};
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    dw_generate_options options = {.size = sizeof options, .n_max = 12, .flags = DW_GENERATE_IGNORE_END, .sampling = {.temperature = 0.9f, .top_k = 20}};
    fixture_put(t.actor, AT_OPTIONS, &options, sizeof options);
    return t;
}

static dw_request forward(const talk *t, uint32_t first, uint32_t n) {
    return (dw_request){.op = DW_OP_FORWARD, .handle = t->handle, .user_data = 50, .ptr0 = t->tokens + 4 * first, .len0 = n, .ptr1 = t->row, .len1 = 1};
}

static dw_request generate(const talk *t, uint32_t first, uint32_t n) {
    return (dw_request){.op = DW_OP_GENERATE, .handle = t->handle, .user_data = 60, .ptr0 = t->tokens + 4 * first, .len0 = n,
                        .ptr1 = t->options, .len1 = sizeof(dw_generate_options), .ptr2 = t->text, .len2 = 4096};
}

static dw_request of_session(const talk *t, uint16_t op, uint64_t argument) { return (dw_request){.op = op, .handle = t->handle, .arg0 = argument}; }

static void forward_and_generate_deliver_what_was_asked_for(void **state) {
    talk t = talk_begin(*state, "delivers");
    dw_completion done = fixture_request(t.actor, forward(&t, 0, 20));
    assert_int_equal(done.result0, 20);
    assert_int_equal(done.result1, 20);
    uint8_t bytes[64];
    dw_scored_token top[4];
    float entropy;
    fixture_get(t.actor, AT_RESULT, bytes);
    memcpy(top, bytes, sizeof top);
    memcpy(&entropy, bytes + 32, sizeof entropy);
    for (int i = 0; i < 3; i++) assert_true(top[i].logprob >= top[i + 1].logprob);
    assert_true(top[0].logprob < 0 && entropy > 0);
    done = fixture_request(t.actor, generate(&t, 20, 3));
    assert_int_equal(done.result1, 12);
    assert_int_equal(done.result2 & 0xff, DW_GENERATE_LENGTH);
    done = fixture_request(t.actor, of_session(&t, DW_OP_SESSION_LENGTH, 0));
    assert_int_equal(done.result0, 35);
    assert_int_equal(done.result1, 34); /* the last token made is pending */
    dw_actor_destroy(t.actor);
}

static void logits_land_in_the_guests_own_memory(void **state) {
    talk t = talk_begin(*state, "logits");
    dw_row row = {.index = DW_ROW_OF_LAST, .logits = t.logits, .top = t.result, .n_top = 1};
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    fixture_request(t.actor, forward(&t, 0, 20));
    uint8_t bytes[64];
    dw_scored_token top;
    fixture_get(t.actor, AT_RESULT, bytes);
    memcpy(&top, bytes, sizeof top);
    void *view = NULL;
    assert_int_equal(dw_guest_view(dw_actor_memory(t.actor), t.logits, 512 * sizeof(float), 64, &view), DW_OK);
    const float *logits = view;
    for (int i = 0; i < 512; i++) assert_true(logits[i] <= logits[top.token]);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(t.actor))), 0);
    dw_actor_destroy(t.actor);
}

/* Every way of changing a session, followed by a trap; then the same turns as a twin that never trapped. */
static void a_bad_turn_leaves_sessions_as_they_were(void **state) {
    talk t = talk_begin(*state, "bad-sessions"), twin = talk_begin(*state, "good-sessions");
    talk *both[] = {&t, &twin};
    for (int i = 0; i < 2; i++) {
        fixture_request(both[i]->actor, forward(both[i], 0, 80));
        fixture_request(both[i]->actor, generate(both[i], 80, 2));
    }
    const dw_request changes[][4] = {
        {forward(&t, 10, 30)},
        {generate(&t, 10, 5)},
        {of_session(&t, DW_OP_SESSION_REWIND, 40), forward(&t, 60, 20)},
        {of_session(&t, DW_OP_SESSION_REWIND, 94), of_session(&t, DW_OP_SESSION_REWIND, 93), generate(&t, 0, 0)},
        {{.op = DW_OP_SESSION_SYNC, .handle = t.handle, .ptr0 = t.tokens + 40, .len0 = 50}, forward(&t, 0, 1)},
        {{.op = DW_OP_SESSION_SYNC, .handle = t.handle}, forward(&t, 0, 70)},
        {of_session(&t, DW_OP_SESSION_CLOSE, 0), {.op = DW_OP_SESSION_OPEN}, {.op = DW_OP_SESSION_OPEN}},
        {of_session(&t, DW_OP_SESSION_FORK, 0), {.op = DW_OP_SESSION_OPEN}},
        {generate(&t, 0, 0), generate(&t, 0, 0)},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        uint32_t n = 0;
        raw_answer answer;
        while (n < 4 && changes[i][n].op) n++;
        raw_call head = {.n = n, .capacity = RAW_COMPLETIONS, .wait = n, .deadline = -1, .trap_behind = true};
        assert_int_equal(fixture_raw(t.actor, head, changes[i], n, &answer), DW_E_TRAP);
        dw_actor_digest one, two;
        dw_error err = {0};
        assert_ok(dw_actor_digest_of(t.actor, &one, &err), err);
        assert_ok(dw_actor_digest_of(twin.actor, &two, &err), err);
        if (memcmp(&one, &two, sizeof one) != 0) fail_msg("change %zu left something behind", i);
    }
    for (int i = 0; i < 2; i++) { /* and they go on alike: sampler state, handles, pending tokens */
        fixture_request(both[i]->actor, generate(both[i], 3, 2));
        dw_completion opened = fixture_request(both[i]->actor, (dw_request){.op = DW_OP_SESSION_OPEN});
        both[i]->handle = opened.result0;
    }
    assert_int_equal(t.handle, twin.handle);
    fixture_assert_same(t.actor, twin.actor);
    dw_actor_destroy(t.actor);
    dw_actor_destroy(twin.actor);
}

static void requests_of_one_session_are_done_in_order_and_of_several_at_once(void **state) {
    talk t = talk_begin(*state, "order");
    fixture_request(t.actor, forward(&t, 0, 70));
    uint32_t children[3];
    for (int i = 0; i < 3; i++) children[i] = fixture_request(t.actor, of_session(&t, DW_OP_SESSION_FORK, 0)).result0;
    dw_request records[10];
    uint32_t n = 0;
    for (uint32_t i = 0; i < 3; i++) {
        records[n] = forward(&t, 20 + i, 1);
        records[n].handle = children[i];
        records[n++].user_data = 100 + i;
        records[n++] = (dw_request){.op = DW_OP_SESSION_REWIND, .handle = children[i], .arg0 = 50, .user_data = 200 + i};
        records[n++] = (dw_request){.op = DW_OP_SESSION_LENGTH, .handle = children[i], .user_data = 300 + i};
    }
    raw_answer answer;
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = n, .capacity = RAW_COMPLETIONS, .wait = n, .deadline = -1}, records, n, &answer), DW_OK);
    assert_int_equal(answer.n, (int)n);
    uint32_t seen[3] = {0};
    for (int i = 0; i < answer.n; i++) {
        const dw_completion *done = &answer.completions[i];
        uint32_t child = (uint32_t)(done->user_data % 100);
        assert_int_equal(done->status, DW_OK);
        assert_int_equal(done->user_data / 100, 1 + seen[child]++);
        if (done->user_data / 100 == 1) assert_int_equal(done->result1, 71);
        if (done->user_data / 100 == 3) assert_int_equal(done->result0, 50);
    }
    dw_actor_destroy(t.actor);
}

static void cancel_and_deadline_end_what_is_outstanding(void **state) {
    talk t = talk_begin(*state, "cancel");
    dw_generate_options options = {.size = sizeof options, .n_max = 1900, .flags = DW_GENERATE_IGNORE_END};
    fixture_put(t.actor, AT_OPTIONS, &options, sizeof options);
    dw_request records[] = {generate(&t, 0, 20), {.op = DW_OP_CANCEL, .arg0 = 60, .user_data = 61}};
    raw_answer answer;
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = 2, .capacity = 8, .wait = 2, .deadline = -1}, records, 2, &answer), DW_OK);
    assert_int_equal(answer.n, 2);
    assert_int_equal(answer.completions[0].user_data, 61);
    assert_int_equal(answer.completions[1].status, DW_E_CANCELLED);
    /* A window is not left lent over a deadline: the forward with logits is cancelled, and completes inside the call. */
    dw_row row = {.index = DW_ROW_OF_LAST, .logits = t.logits};
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    dw_request windowed[] = {forward(&t, 0, 100)};
    windowed[0].user_data = 70;
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = 1, .capacity = 8, .wait = 1, .deadline = 0}, windowed, 1, &answer), DW_OK);
    assert_int_equal(answer.n, 1);
    assert_true(answer.completions[0].status == DW_E_CANCELLED || answer.completions[0].status == DW_OK);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(t.actor))), 0);
    /* Left outstanding at the end of a turn: cancelled, and the next turn can use the session. */
    dw_request left[] = {generate(&t, 0, 20)};
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = 1, .capacity = 8, .wait = 0, .deadline = 0}, left, 1, &answer), DW_OK);
    fixture_request(t.actor, of_session(&t, DW_OP_SESSION_LENGTH, 0));
    dw_actor_destroy(t.actor);
}

/* Else memory.grow would fail for a guest that has done nothing wrong. */
static void a_window_ends_with_its_request_and_not_with_the_completion(void **state) {
    talk t = talk_begin(*state, "windows");
    const dw_row rows[] = {{.index = DW_ROW_OF_LAST, .logits = t.logits}, {.index = DW_ROW_OF_LAST, .logits = t.logits + 4096}};
    fixture_put(t.actor, AT_ROW, rows, sizeof rows);
    dw_request records[] = {forward(&t, 0, 20), forward(&t, 20, 20)};
    records[1].ptr1 += sizeof rows[0];
    raw_call head = {.n = 2, .capacity = 1, .wait = 1, .deadline = -1, .grow_behind = true};
    raw_answer answer;
    assert_int_equal(fixture_raw(t.actor, head, records, 2, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_OK);
    assert_int_not_equal(answer.n, -1);
    dw_actor_destroy(t.actor);
}

/* 187 rows that each want much, in a few kilobytes of guest memory; twelve times. */
static void what_the_host_keeps_for_requests_is_bounded(void **state) {
    enum { ROWS = 187, N = 12 };
    talk t = talk_begin(*state, "greedy");
    dw_row rows[ROWS];
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = (dw_row){.index = i, .top = t.text, .n_top = 512, .candidates = t.logits + 65536, .candidate_logprobs = t.logits + 65536, .n_candidates = 4096};
    }
    uint32_t place = fixture_put(t.actor, AT_LOGITS, rows, sizeof rows);
    dw_request records[N];
    for (uint32_t i = 0; i < N; i++) {
        records[i] = forward(&t, 0, 100);
        records[i].ptr1 = place;
        records[i].len1 = ROWS;
    }
    raw_answer answer;
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = N, .capacity = N, .wait = N, .deadline = -1}, records, N, &answer), DW_OK);
    assert_int_equal(answer.n, N);
    unsigned limited = 0;
    for (int i = 0; i < N; i++) limited += answer.completions[i].status == DW_E_LIMIT;
    assert_in_range(limited, 1, N - 1);
    /* and what was delivered is given back */
    dw_row row = {.index = DW_ROW_OF_LAST, .entropy = t.result};
    fixture_put(t.actor, AT_ROW, &row, sizeof row);
    fixture_request(t.actor, forward(&t, 0, 20));
    dw_actor_destroy(t.actor);
}

/* engine.h rule 1. The job is cancelled while another session's prefill keeps the engine busy. */
static void a_cancelled_job_leaves_the_last_row(void **state) {
    talk t = talk_begin(*state, "last-row");
    static int32_t many[700];
    for (int i = 0; i < 700; i++) many[i] = 1 + i % 300;
    fixture_put(t.actor, AT_LOGITS, many, sizeof many);
    fixture_request(t.actor, forward(&t, 0, 20));
    uint32_t other = fixture_request(t.actor, (dw_request){.op = DW_OP_SESSION_OPEN}).result0;
    dw_request records[] = {
        {.op = DW_OP_FORWARD, .handle = other, .ptr0 = t.logits, .len0 = 700},
        {.op = DW_OP_FORWARD, .handle = t.handle, .user_data = 71},
        {.op = DW_OP_CANCEL, .arg0 = 71},
    };
    raw_answer answer;
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = 3, .capacity = 3, .wait = 3, .deadline = -1}, records, 3, &answer), DW_OK);
    dw_completion length = fixture_request(t.actor, of_session(&t, DW_OP_SESSION_LENGTH, 0));
    assert_int_equal(length.result0, 20);
    assert_int_equal(length.result1, 20);
    dw_actor_destroy(t.actor);
}

/* A completion that says DW_OK says that the prompt is in the log. */
static void a_generation_interrupted_in_its_prompt_does_not_claim_it(void **state) {
    talk t = talk_begin(*state, "interrupted");
    static int32_t many[900];
    for (int i = 0; i < 900; i++) many[i] = 1 + i % 300;
    fixture_put(t.actor, AT_LOGITS, many, sizeof many);
    dw_request request = generate(&t, 0, 0);
    request.ptr0 = t.logits;
    request.len0 = 900;
    raw_answer answer;
    assert_int_equal(dw_actor_interrupt(t.actor, dw_actor_next_turn(t.actor)), DW_OK); /* holds for the next turn */
    assert_int_equal(fixture_raw(t.actor, (raw_call){.n = 1, .capacity = 1, .wait = 1, .deadline = -1}, &request, 1, &answer), DW_OK);
    dw_completion length = fixture_request(t.actor, of_session(&t, DW_OP_SESSION_LENGTH, 0));
    /* On a busy machine the prompt may be done before the interruption is seen: then it is there, and may be claimed. */
    assert_int_equal(answer.completions[0].status, length.result0 >= 900 ? DW_OK : DW_E_CANCELLED);
    dw_actor_destroy(t.actor);
}

/* Random talk with freezing, thawing and forking in between, against a twin that only talks. */
static void a_conversation_that_is_moved_equals_one_that_is_not(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    char path[512];
    fixture_path(f, "talk.drift", path);
    talk t = talk_begin(f, "moved-talk"), twin = talk_begin(f, "twin-talk");
    unsigned random = 4711;
    for (int step = 0; step < 40; step++) {
        random = random * 1103515245u + 12345u;
        unsigned what = (random >> 16) % 5, a = (random >> 20) % 60, b = 1 + (random >> 12) % 30;
        talk *both[] = {&t, &twin};
        for (int i = 0; i < 2; i++) {
            if (what == 0) {
                dw_completion length = fixture_request(both[i]->actor, of_session(both[i], DW_OP_SESSION_LENGTH, 0));
                fixture_request(both[i]->actor, of_session(both[i], DW_OP_SESSION_REWIND, length.result0 / 2));
            } else if (what < 3) {
                fixture_request(both[i]->actor, forward(both[i], a, b));
            } else {
                fixture_request(both[i]->actor, generate(both[i], a, b));
            }
        }
        unsigned move = (random >> 8) % 4;
        dw_actor *next = NULL;
        dw_thaw_report report;
        if (move == 0) {
            assert_ok(dw_actor_freeze(t.actor, path, NULL, NULL, &err), err);
            assert_ok(dw_actor_thaw(f->runtime, path, NULL, &next, &report, &err), err);
            assert_true(report.exact && report.verified && report.tokens_recomputed == 0);
        } else if (move == 1) {
            assert_ok(dw_actor_fork(t.actor, "forked-talk", &next, NULL, &err), err);
            fixture_request(t.actor, forward(&t, 1, 40)); /* the parent goes another way */
        }
        if (next) {
            dw_actor_destroy(t.actor);
            t.actor = next;
        }
        fixture_assert_same(t.actor, twin.actor);
    }
    dw_actor_destroy(t.actor);
    dw_actor_destroy(twin.actor);
}

/* A session with these flags after a long prompt; how much of its rows is memory of its own. */
static bool shares_a_long_prompt(dw_actor *actor, uint16_t flags) {
    int32_t tokens[300];
    dw_actor_use use;
    dw_error err = {0};
    for (int i = 0; i < 300; i++) tokens[i] = 260 + i * 7 % 250;
    uint32_t at = fixture_put(actor, AT_TOKENS, tokens, sizeof tokens);
    uint32_t handle = fixture_request(actor, (dw_request){.op = DW_OP_SESSION_OPEN, .flags = flags}).result0;
    dw_completion done = fixture_request(actor, (dw_request){.op = DW_OP_FORWARD, .handle = handle, .ptr0 = at, .len0 = 300});
    assert_int_equal(done.result0, 300); /* what a guest sees does not tell */
    assert_ok(dw_actor_use_now(actor, &use, &err), err);
    return use.kv_shared_bytes > use.kv_own_bytes;
}

static dw_actor *owned(fixture *f, const char *name, uint64_t owner) {
    dw_actor_options options = {.name = name, .owner = owner};
    dw_actor *actor = NULL;
    dw_error err = {0};
    assert_ok(dw_actor_create(f->runtime, f->probe, &options, &actor, &err), err);
    return actor;
}

static void actors_share_within_an_owner_with_forks_and_where_both_grant_it(void **state) {
    fixture *f = *state;
    dw_error err = {0};
    dw_actor *fork = NULL, *thawed = NULL, *nobody = NULL;
    char path[512];
    fixture_path(f, "owner.drift", path);
    dw_actor *first = fixture_actor(f, "first-owner");
    assert_ok(dw_actor_fork(first, "first-fork", &fork, NULL, &err), err); /* before there is anything to inherit */
    assert_false(shares_a_long_prompt(first, 0));
    assert_true(shares_a_long_prompt(fork, 0));
    dw_actor *others[] = {owned(f, "other", 0), owned(f, "granted", 0), owned(f, "taker", 0), owned(f, "ask", 7), owned(f, "same", 7)};
    assert_false(shares_a_long_prompt(others[0], DW_FLAG_SHARED)); /* nobody else has granted it yet */
    assert_true(shares_a_long_prompt(others[1], DW_FLAG_SHARED));
    assert_false(shares_a_long_prompt(others[2], 0));
    assert_false(shares_a_long_prompt(others[3], 0));
    assert_true(shares_a_long_prompt(others[4], 0));
    /* A checkpoint does not say whose it is: this one was frozen before it had read anything. */
    dw_actor *fresh = owned(f, "fresh", 7);
    assert_int_equal(fixture_say(fresh, "s1"), DW_OK);
    assert_ok(dw_actor_freeze(fresh, path, NULL, NULL, &err), err);
    dw_actor_destroy(fresh);
    dw_thaw_options options = {.program = f->probe, .name = "thawed"};
    assert_ok(dw_actor_thaw(f->runtime, path, &options, &thawed, NULL, &err), err);
    assert_false(shares_a_long_prompt(thawed, 0));
    dw_actor_destroy(thawed);
    /* What its own sessions had prefilled it shares, as it would have without the file. */
    assert_ok(dw_actor_freeze(others[3], path, NULL, NULL, &err), err);
    assert_ok(dw_actor_thaw(f->runtime, path, &options, &thawed, NULL, &err), err);
    assert_true(shares_a_long_prompt(thawed, 0));
    dw_actor_options out_of_range = {.name = "nobody", .owner = DW_OWNERS_END};
    assert_int_equal(dw_actor_create(f->runtime, f->probe, &out_of_range, &nobody, &err), DW_E_RANGE);
    for (int i = 0; i < 5; i++) dw_actor_destroy(others[i]);
    dw_actor_destroy(first);
    dw_actor_destroy(fork);
    dw_actor_destroy(thawed);
}

/* Hugging Face's reader over the checkpoint of a live actor, beside dumps of the actor's own memory. */
static void safetensors_reads_the_rows_that_the_actor_holds(void **state) {
    if (DW_TEST_PYTHON[0] == '\0') skip();
    fixture *f = *state;
    dw_error err = {0};
    char drift[512], rows[512], log[512];
    fixture_path(f, "rows.drift", drift);
    fixture_path(f, "rows.f16", rows);
    fixture_path(f, "rows.i32", log);
    talk t = talk_begin(f, "rows");
    fixture_request(t.actor, forward(&t, 0, 90));
    fixture_request(t.actor, generate(&t, 0, 3));
    assert_ok(dw_actor_freeze(t.actor, drift, NULL, NULL, &err), err);

    dw_session *session = dw_actor_session(t.actor, 0);
    FILE *out = fopen(rows, "wb");
    assert_non_null(out);
    for (uint32_t layer = 0; layer < dw_model_info_view(dw_session_model(session))->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            const void *view = NULL;
            uint64_t bytes = 0;
            assert_int_equal(dw_session_kv_view(session, layer, which, &view, &bytes), DW_OK);
            assert_int_equal(fwrite(view, 1, bytes, out), bytes);
        }
    }
    assert_int_equal(fclose(out), 0);
    uint32_t n_tokens = 0;
    const int32_t *tokens = dw_session_tokens(session, &n_tokens);
    assert_ok(dw_os_write_file(log, tokens, n_tokens * sizeof *tokens, &err), err);

    const char *const argv[] = {DW_TEST_PYTHON, DW_TEST_SOURCE "/tests/actor/rows_test.py", drift, rows, log, NULL};
    dw_os_process_result result;
    assert_ok(dw_os_run(argv, 4096, &result, &err), err);
    print_message("%s", result.output);
    assert_int_equal(result.exit_code, 0);
    free(result.output);
    dw_actor_destroy(t.actor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_and_generate_deliver_what_was_asked_for),
        cmocka_unit_test(logits_land_in_the_guests_own_memory),
        cmocka_unit_test(a_bad_turn_leaves_sessions_as_they_were),
        cmocka_unit_test(requests_of_one_session_are_done_in_order_and_of_several_at_once),
        cmocka_unit_test(cancel_and_deadline_end_what_is_outstanding),
        cmocka_unit_test(a_window_ends_with_its_request_and_not_with_the_completion),
        cmocka_unit_test(what_the_host_keeps_for_requests_is_bounded),
        cmocka_unit_test(a_cancelled_job_leaves_the_last_row),
        cmocka_unit_test(a_generation_interrupted_in_its_prompt_does_not_claim_it),
        cmocka_unit_test(a_conversation_that_is_moved_equals_one_that_is_not),
        cmocka_unit_test(actors_share_within_an_owner_with_forks_and_where_both_grant_it),
        cmocka_unit_test(safetensors_reads_the_rows_that_the_actor_holds),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

/* window_test.c: what is lent to a request is its own (door.h rule 3): no other request reads or writes a byte of it,
 * so that whatever the engine reads there is what it wrote there. With a small model of random weights. */
#include "actor/fixture_model.h"

#include "os/os.h"

/* Places in the probe's arena. A row of logits is LOGITS_BYTES long. */
enum {
    AT_TOKENS = 0,
    AT_ROWS = 16384,
    AT_OPTIONS = 20480,
    AT_RESULT = 24576,
    AT_TENSORS = 28672,
    AT_NODE = 29696,
    AT_TEXTS = 30720,
    AT_LOGITS = 65536,
    LOGITS_BYTES = 512 * 4,
    PROMPT = 64
};

typedef struct lending { dw_actor *actor; uint32_t arena, first, second; } lending;

static uint32_t open_session(dw_actor *actor) {
    return fixture_request(actor, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7}).result0;
}

static lending lend_begin(fixture *f, const char *name) {
    int32_t tokens[PROMPT];
    for (int i = 0; i < PROMPT; i++) tokens[i] = 1 + i * 37 % 400;
    lending l = {.actor = fixture_actor(f, name)};
    l.arena = fixture_put(l.actor, AT_TOKENS, tokens, sizeof tokens) - AT_TOKENS;
    l.first = open_session(l.actor);
    l.second = open_session(l.actor);
    fixture_request(l.actor,
                    (dw_request){.op = DW_OP_SESSION_SYNC, .handle = l.second, .ptr0 = l.arena, .len0 = PROMPT});
    return l;
}

/* Row i at its own place among the rows, with its results at a place of their own. */
static dw_row row_at(const lending *l, uint32_t logits, uint32_t i) {
    uint32_t results = l->arena + AT_RESULT + 64 * i;
    return (dw_row){.index = DW_ROW_OF_LAST,
                    .flags = DW_ROW_SAMPLE,
                    .logits = logits,
                    .top = results,
                    .n_top = 4,
                    .sampled = results + 40};
}

static dw_request forward_with(const lending *l, uint32_t handle, uint32_t row) {
    return (dw_request){.op = DW_OP_FORWARD, .handle = handle, .user_data = 1, .ptr0 = l->arena, .len0 = PROMPT,
                        .ptr1 = l->arena + AT_ROWS + row * (uint32_t)sizeof(dw_row), .len1 = 1};
}

/* A forward with logits, and another request of the same call: the status of each. */
static void both(const lending *l, dw_request other, dw_status expected) {
    raw_answer answer;
    other.user_data = 2;
    const dw_request records[2] = {forward_with(l, l->first, 0), other};
    raw_call head = {.n = 2, .capacity = 2, .wait = 2, .deadline = -1};
    assert_int_equal(fixture_raw(l->actor, head, records, 2, &answer), DW_OK);
    assert_int_equal(answer.n, 2);
    for (int i = 0; i < 2; i++) {
        bool forward = answer.completions[i].user_data == 1;
        dw_status status = (dw_status)answer.completions[i].status;
        if (status != (forward ? DW_OK : expected))
            fail_msg("operation %u: %s", forward ? (unsigned)DW_OP_FORWARD : other.op, dw_status_name(status));
    }
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(l->actor))), 0);
    fixture_request(l->actor, (dw_request){.op = DW_OP_SESSION_REWIND, .handle = l->first});
}

static dw_request embed_into(const lending *l, uint32_t vectors) {
    const dw_text text = {l->arena + AT_TOKENS, 5};
    const dw_embed_options options = {
        .size = sizeof options, .flags = DW_EMBED_TOKENS, .texts = l->arena + AT_TEXTS, .n_texts = 1};
    fixture_put(l->actor, AT_TEXTS, &text, sizeof text);
    fixture_put(l->actor, AT_OPTIONS, &options, sizeof options);
    return (dw_request){
        .op = DW_OP_EMBED, .ptr0 = l->arena + AT_OPTIONS, .len0 = sizeof options, .ptr1 = vectors, .len1 = 512};
}

static dw_request add_into(const lending *l, uint32_t a, uint32_t out) {
    const dw_tensor tensors[2] = {{.ptr = a, .columns = 64, .rows = 1}, {.ptr = out, .columns = 64, .rows = 1}};
    const dw_node node = {.op = DW_NODE_ADD, .a = 0, .b = 0, .out = 1};
    const dw_compute_options options = {.size = sizeof options, .tensors = l->arena + AT_TENSORS, .n_tensors = 2,
                                        .nodes = l->arena + AT_NODE, .n_nodes = 1};
    fixture_put(l->actor, AT_TENSORS, tensors, sizeof tensors);
    fixture_put(l->actor, AT_NODE, &node, sizeof node);
    fixture_put(l->actor, AT_OPTIONS, &options, sizeof options);
    return (dw_request){.op = DW_OP_COMPUTE, .ptr0 = l->arena + AT_OPTIONS, .len0 = sizeof options};
}

static void nothing_else_reads_or_writes_what_is_lent(void **state) {
    lending l = lend_begin(*state, "lent");
    const uint32_t logits = (l.arena + AT_LOGITS + 255) / 256 * 256, last = logits + LOGITS_BYTES - 4,
                   far = logits + 4 * LOGITS_BYTES;
    const dw_row rows[2] = {row_at(&l, logits, 0), row_at(&l, logits + LOGITS_BYTES - 64, 1)};
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    both(&l, (dw_request){.op = DW_OP_MESSAGE, .ptr0 = last, .len0 = 100}, DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_REPLY, .ptr0 = last + 3, .len0 = 1}, DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_EMIT, .ptr0 = logits - 1, .len0 = 2}, DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_LOG, .ptr0 = logits, .len0 = 1}, DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_SESSION_TOKENS, .handle = l.second, .ptr0 = logits + 64, .len0 = PROMPT},
         DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_SESSION_SYNC, .handle = l.second, .ptr0 = logits, .len0 = 4}, DW_E_BUSY);
    both(&l, (dw_request){.op = DW_OP_SESSION_OPEN, .ptr0 = logits, .len0 = 4}, DW_E_BUSY);
    both(&l, embed_into(&l, logits), DW_E_BUSY);
    both(&l, add_into(&l, far, logits), DW_E_BUSY);
    both(&l, add_into(&l, logits, far), DW_E_BUSY);
    both(&l, forward_with(&l, l.second, 1), DW_E_BUSY); /* its logits begin where the first one's end */
    dw_request generate = {.op = DW_OP_GENERATE,
                           .handle = l.second,
                           .ptr1 = l.arena + AT_OPTIONS,
                           .len1 = sizeof(dw_generate_options),
                           .ptr2 = last,
                           .len2 = 10};
    const dw_generate_options options = {.size = sizeof options, .n_max = 1, .flags = DW_GENERATE_IGNORE_END};
    fixture_put(l.actor, AT_OPTIONS, &options, sizeof options);
    both(&l, generate, DW_E_BUSY);
    dw_actor_destroy(l.actor);
}

static void what_lies_beside_a_window_is_free(void **state) {
    lending l = lend_begin(*state, "beside");
    const uint32_t logits = (l.arena + AT_LOGITS + 255) / 256 * 256;
    const dw_row rows[2] = {row_at(&l, logits, 0), row_at(&l, logits + LOGITS_BYTES, 1)};
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    both(&l, (dw_request){.op = DW_OP_MESSAGE, .ptr0 = logits - 16, .len0 = 16}, DW_OK);
    both(&l, (dw_request){.op = DW_OP_MESSAGE, .ptr0 = logits + LOGITS_BYTES, .len0 = 16}, DW_OK);
    both(&l, (dw_request){.op = DW_OP_MESSAGE, .ptr0 = logits, .len0 = 0}, DW_OK);
    both(&l, forward_with(&l, l.second, 1), DW_OK);
    dw_actor_destroy(l.actor);
}

static void windows_and_results_of_one_request_lie_apart(void **state) {
    lending l = lend_begin(*state, "apart");
    const uint32_t logits = (l.arena + AT_LOGITS + 255) / 256 * 256;
    dw_row rows[2] = {row_at(&l, logits, 0), row_at(&l, logits + 64, 1)};
    rows[0].index = 3;
    raw_answer answer;
    const raw_call head = {.n = 1, .capacity = 1, .wait = 1, .deadline = -1};
    dw_request request = forward_with(&l, l.first, 0);
    request.len1 = 2;
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    assert_int_equal(fixture_raw(l.actor, head, &request, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_INVALID);
    rows[1].logits = logits + LOGITS_BYTES;
    rows[1].sampled = logits + LOGITS_BYTES - 8; /* in the logits of the other row */
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    assert_int_equal(fixture_raw(l.actor, head, &request, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_INVALID);
    rows[1].sampled = l.arena + AT_RESULT;
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    fixture_request(l.actor, request);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(l.actor))), 0);
    dw_actor_destroy(l.actor);
}

/* A request may begin when its session is free, while a window is lent that came after it: its results wait for the
 * delivery. */
static void a_request_that_waited_writes_when_windows_are_over(void **state) {
    lending l = lend_begin(*state, "waited");
    const uint32_t logits = (l.arena + AT_LOGITS + 255) / 256 * 256;
    const dw_row rows[2] = {row_at(&l, logits, 0), row_at(&l, 0, 1)};
    fixture_put(l.actor, AT_ROWS, rows, sizeof rows);
    fixture_request(l.actor, (dw_request){.op = DW_OP_SESSION_SYNC, .handle = l.first, .ptr0 = l.arena, .len0 = 0});
    /* second: a forward, then its tokens to where first's logits are going to lie */
    const dw_request records[3] = {
        forward_with(&l, l.second, 1),
        {.op = DW_OP_SESSION_TOKENS, .handle = l.second, .user_data = 2, .ptr0 = logits, .len0 = PROMPT},
        forward_with(&l, l.first, 0)};
    raw_answer answer;
    const raw_call head = {.n = 3, .capacity = 3, .wait = 3, .deadline = -1};
    assert_int_equal(fixture_raw(l.actor, head, records, 3, &answer), DW_OK);
    for (int i = 0; i < 3; i++) {
        dw_status status = (dw_status)answer.completions[i].status;
        if (status != DW_OK) fail_msg("%d: %s", i, dw_status_name(status));
    }
    void *written = NULL;
    assert_int_equal(dw_guest_view(dw_actor_memory(l.actor), logits, PROMPT * sizeof(int32_t), 4, &written), DW_OK);
    for (int i = 0; i < PROMPT; i++) assert_int_equal(((const int32_t *)written)[i], 1 + i * 37 % 400);
    dw_actor_destroy(l.actor);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_else_reads_or_writes_what_is_lent),
        cmocka_unit_test(what_lies_beside_a_window_is_free),
        cmocka_unit_test(windows_and_results_of_one_request_lie_apart),
        cmocka_unit_test(a_request_that_waited_writes_when_windows_are_over),
    };
    return cmocka_run_group_tests(tests, fixture_setup_with_model, fixture_teardown);
}

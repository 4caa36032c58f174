/* finite_test.c: what a model computed and is no number does not leave as a result (door.h rule 4). The model's last
 * weights are NaN. */
#include "actor/fixture.h"

#include <math.h>
#include <stdio.h>
#include "door/door_internal.h"
#include "model/kit/make_model.h"
#include "os/os.h"

enum {
    AT_TOKENS = 0,
    AT_ROWS = 1024,
    AT_OPTIONS = 2048,
    AT_TEXTS = 3072,
    AT_NUMBERS = 65536,
    N_NUMBERS = 512,
    SPOILED_BYTES = 4096
};

static void numbers_are_told_from_what_is_none(void **state) {
    enum { N = 200 };
    (void)state;
    float numbers[N];
    static const float none[] = {NAN, -NAN, INFINITY};
    for (int i = 0; i < N; i++) numbers[i] = i % 3 == 0 ? -3.4e38f : i % 3 == 1 ? 1e-45f : 0.0f;
    assert_true(dw_all_finite(numbers, N, false) && dw_all_finite(numbers, 0, false));
    for (int at = 0; at < N; at++) {
        float kept = numbers[at];
        for (int k = 0; k < 3; k++) {
            numbers[at] = none[k];
            assert_false(dw_all_finite(numbers, N, false) || dw_all_finite(numbers, N, true));
        }
        numbers[at] = -INFINITY;
        assert_false(dw_all_finite(numbers, N, false));
        assert_true(dw_all_finite(numbers, N, true));
        numbers[at] = kept;
    }
}

/* Of the request, which writes to AT_NUMBERS: the status, and that nothing is there. */
static void gives_no_numbers(dw_actor *actor, uint32_t arena, dw_request request) {
    raw_answer answer;
    float marks[16];
    void *view = NULL;
    for (int i = 0; i < 16; i++) marks[i] = 1;
    fixture_put(actor, AT_NUMBERS, marks, sizeof marks);
    const raw_call head = {.n = 1, .capacity = 1, .wait = 1, .deadline = -1};
    assert_int_equal(fixture_raw(actor, head, &request, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_DEVICE);
    assert_int_equal(dw_guest_view(dw_actor_memory(actor), arena + AT_NUMBERS, N_NUMBERS * sizeof(float), 4, &view),
                     DW_OK);
    const float *numbers = view;
    for (uint32_t i = 0; i < 16; i++) assert_true(numbers[i] == 0.0f);
}

static void a_broken_model_gives_a_status_and_no_numbers(void **state) {
    fixture *f = *state;
    dw_actor *actor = fixture_actor(f, "finite");
    const int32_t tokens[4] = {1, 2, 3, 4};
    uint32_t arena = fixture_put(actor, AT_TOKENS, tokens, sizeof tokens);
    uint32_t session = fixture_request(actor, (dw_request){.op = DW_OP_SESSION_OPEN}).result0;
    const dw_row row = {.index = DW_ROW_OF_LAST, .logits = arena + AT_NUMBERS};
    fixture_put(actor, AT_ROWS, &row, sizeof row);
    gives_no_numbers(actor, arena, (dw_request){.op = DW_OP_FORWARD, .handle = session, .ptr0 = arena, .len0 = 4,
                                                .ptr1 = arena + AT_ROWS, .len1 = 1});
    /* Nor are they held, by a forward that asks for nothing else. */
    gives_no_numbers(actor, arena, (dw_request){.op = DW_OP_FORWARD, .flags = DW_FLAG_HOLD, .handle = session,
                                                .ptr0 = arena, .len0 = 4, .ptr1 = arena + AT_ROWS, .len1 = 1});
    raw_answer answer;
    const dw_request hold = {.op = DW_OP_FORWARD, .flags = DW_FLAG_HOLD, .handle = session, .ptr0 = arena, .len0 = 4};
    const raw_call head = {.n = 1, .capacity = 1, .wait = 1, .deadline = -1};
    uint32_t n_held = 0;
    assert_int_equal(fixture_raw(actor, head, &hold, 1, &answer), DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_DEVICE);
    assert_null(dw_session_logits(dw_actor_session(actor, 0), &n_held));
    assert_int_equal(fixture_request(actor, (dw_request){.op = DW_OP_SESSION_LENGTH, .handle = session}).result0, 0);
    const dw_text text = {arena + AT_TOKENS, 4};
    const dw_embed_options options = {
        .size = sizeof options, .flags = DW_EMBED_TOKENS, .texts = arena + AT_TEXTS, .n_texts = 1};
    fixture_put(actor, AT_TEXTS, &text, sizeof text);
    fixture_put(actor, AT_OPTIONS, &options, sizeof options);
    gives_no_numbers(actor, arena, (dw_request){.op = DW_OP_EMBED, .ptr0 = arena + AT_OPTIONS, .len0 = sizeof options,
                                                .ptr1 = arena + AT_NUMBERS, .len1 = N_NUMBERS});
    dw_actor_destroy(actor);
}

/* A copy of a small model whose last tensor is made of NaN, as F32 and as F16. */
static int setup(void **state) {
    dw_error err = {0};
    uint8_t *bytes = NULL;
    size_t size = 0;
    if (fixture_setup(state) != 0) return -1;
    fixture *f = *state;
    char path[512];
    fixture_path(f, "spoiled.gguf", path);
    assert_ok(dw_os_read_file(made_model_path(made_model_named("tied_f16")), 1 << 26, &bytes, &size, &err), err);
    assert_true(size > SPOILED_BYTES);
    memset(bytes + size - SPOILED_BYTES, 0xff, SPOILED_BYTES);
    assert_ok(dw_os_write_file(path, bytes, size, &err), err);
    free(bytes);
    assert_ok(dw_runtime_add_model(f->runtime, "spoiled", path, &err), err);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_told_from_what_is_none),
        cmocka_unit_test(a_broken_model_gives_a_status_and_no_numbers),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}

/* embed_test.c: DW_OP_EMBED with a small encoder and a small decoder of random weights: vectors land in the guest's own
 * memory, and what cannot be is refused with a status and harms nobody (I6). */
#include "actor/fixture.h"

#include <stdio.h>
#include "model/embed/make_encoder.h"
#include "model/engine/engine.h"
#include "model/kit/make_model.h"
#include "os/os.h"

/* Places in the probe's arena. */
enum {
    AT_OPTIONS = 0,
    AT_TEXTS = 1024,
    AT_NAME = 2048,
    AT_LETTERS = 4096,
    AT_TOKENS = 8192,
    AT_VECTORS = 65536,
    WIDTH = 96
};

typedef struct asking { dw_actor *actor; uint32_t arena; dw_embed_options options; } asking;

static void put_texts(asking *a, const dw_text *texts, uint32_t n) {
    fixture_put(a->actor, AT_TEXTS, texts, n * sizeof *texts);
    a->options.n_texts = n;
}

static asking begin(fixture *f, const char *name) {
    static const char letters[] = "abcdefg hij klm";
    asking a = {.actor = fixture_actor(f, name)};
    a.arena = fixture_put(a.actor, AT_LETTERS, letters, sizeof letters - 1) - AT_LETTERS;
    a.options = (dw_embed_options){.size = sizeof a.options,
                                   .flags = DW_EMBED_NORMALIZE,
                                   .model = a.arena + AT_NAME,
                                   .model_len = 7,
                                   .texts = a.arena + AT_TEXTS};
    fixture_put(a.actor, AT_NAME, "encoder", 7);
    put_texts(&a, (dw_text[]){{a.arena + AT_LETTERS, 7}, {a.arena + AT_LETTERS, 15}, {a.arena + AT_LETTERS, 0}}, 3);
    return a;
}

static dw_completion ask(asking *a, uint32_t n_floats) {
    raw_answer answer;
    fixture_put(a->actor, AT_OPTIONS, &a->options, sizeof a->options);
    dw_request request = {.op = DW_OP_EMBED, .user_data = 5, .ptr0 = a->arena + AT_OPTIONS, .len0 = sizeof a->options,
                          .ptr1 = n_floats ? a->arena + AT_VECTORS : 0, .len1 = n_floats};
    assert_int_equal(
        fixture_raw(a->actor, (raw_call){.n = 1, .capacity = 1, .wait = 1, .deadline = -1}, &request, 1, &answer),
        DW_OK);
    assert_int_equal(answer.n, 1);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(a->actor))), 0);
    return answer.completions[0];
}

static const float *vectors_of(const asking *a) {
    void *view = NULL;
    assert_int_equal(
        dw_guest_view(dw_actor_memory(a->actor), a->arena + AT_VECTORS, 4 * WIDTH * sizeof(float), 64, &view), DW_OK);
    return view;
}

static void vectors_land_in_the_guests_own_memory(void **state) {
    fixture *f = *state;
    asking a = begin(f, "lands");
    dw_completion done = ask(&a, 3 * WIDTH);
    assert_int_equal(done.status, DW_OK);
    assert_int_equal(done.user_data, 5);
    assert_int_equal(done.result0, WIDTH);
    assert_int_equal(done.result1, 9 + 15 + 2); /* [CLS], a token a letter, [SEP] */
    assert_int_equal(done.result2, 128);
    /* The same as the native job's, to the bit. */
    static float expected[3 * WIDTH];
    dw_model *model = dw_runtime_model(f->runtime, "encoder");
    int32_t tokens[3][32];
    dw_embed_text texts[3];
    static const struct {
        const char *text;
        size_t size;
    } written[3] = {{"abcdefg", 7}, {"abcdefg hij klm", 15}, {"", 0}};
    for (int i = 0; i < 3; i++) {
        size_t n = 0;
        assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), written[i].text, written[i].size, true, false,
                                           tokens[i], 32, &n, NULL),
                         DW_OK);
        texts[i] = (dw_embed_text){tokens[i], (uint32_t)n, expected + i * WIDTH};
    }
    dw_device *device = NULL; /* the runtime's engine has the model: a second one for the native job */
    dw_model *second = NULL;
    dw_error err = {0};
    assert_ok(dw_device_open("cpu", NULL, &device, &err), err);
    assert_ok(dw_model_open(dw_model_info_view(model)->path, device, NULL, &second, &err), err);
    dw_job job = {.kind = DW_JOB_EMBED, .model = second, .texts = texts, .n_texts = 3, .normalize = true};
    assert_ok(dw_job_run(&job, &err), err);
    assert_memory_equal(vectors_of(&a), expected, sizeof expected);
    assert_true(vectors_of(&a)[3 * WIDTH] == 0);
    dw_model_close(second);
    dw_device_close(device);

    /* Tokens instead of texts, and no more room than is needed. */
    fixture_put(a.actor, AT_TOKENS, tokens[0], (uint32_t)(texts[0].n_tokens * sizeof tokens[0][0]));
    a.options.flags |= DW_EMBED_TOKENS;
    put_texts(&a, &(dw_text){a.arena + AT_TOKENS, texts[0].n_tokens}, 1);
    done = ask(&a, WIDTH);
    assert_int_equal(done.status, DW_OK);
    assert_memory_equal(vectors_of(&a), expected, WIDTH * sizeof(float));
    dw_actor_destroy(a.actor);
}

static void what_a_model_is_can_be_asked(void **state) {
    asking a = begin(*state, "asks");
    a.options.n_texts = 0;
    dw_completion done = ask(&a, 0);
    assert_int_equal(done.status, DW_OK);
    assert_int_equal(done.result0, WIDTH);
    assert_int_equal(done.result2, 128);
    dw_actor_destroy(a.actor);
}

static void what_cannot_be_is_refused(void **state) {
    asking a = begin(*state, "refused");
    asking good = a;
    dw_completion done = ask(&a, 3 * WIDTH - 1);
    assert_int_equal(done.status, DW_E_RANGE);
    assert_int_equal(done.result0, WIDTH);
    char many[400];
    for (int i = 0; i < 400; i++) many[i] = i % 2 ? ' ' : 'a';
    fixture_put(a.actor, AT_LETTERS, many, sizeof many);
    put_texts(&a, &(dw_text){a.arena + AT_LETTERS, 400}, 1);
    done = ask(&a, WIDTH);
    assert_int_equal(done.status, DW_E_FULL);
    assert_int_equal(done.result1, 202);
    assert_int_equal(done.result2, 128);
    a = good;
    a.options.n_texts = DW_EMBED_TEXTS_MAX + 1;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_LIMIT);
    a = good;
    a.options.pooling = 4;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_INVALID);
    a = good;
    a.options.flags = 4;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_INVALID);
    a = good;
    a.options.size = 4;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_INVALID);
    a = good;
    a.options.model_len = 6;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_NOT_FOUND);
    a = good;
    a.options.texts = 0xfffffff0u;
    assert_int_equal(ask(&a, 3 * WIDTH).status, DW_E_RANGE);
    a = good;
    put_texts(&a, &(dw_text){0xfffffff0u, 400}, 1);
    assert_int_equal(ask(&a, WIDTH).status, DW_E_RANGE);
    a.options.flags = DW_EMBED_TOKENS;
    fixture_put(a.actor, AT_TOKENS, (int32_t[]){2, MADE_VOCABULARY, 3}, 12);
    put_texts(&a, &(dw_text){a.arena + AT_TOKENS, 3}, 1);
    assert_int_equal(ask(&a, WIDTH).status, DW_E_RANGE);
    put_texts(&a, &(dw_text){a.arena + AT_TOKENS, 0}, 1);
    assert_int_equal(ask(&a, WIDTH).status, DW_E_INVALID);
    put_texts(&a, &(dw_text){a.arena + AT_TOKENS + 2, 1}, 1);
    assert_int_equal(ask(&a, WIDTH).status, DW_E_INVALID); /* not aligned */
    raw_answer answer;
    dw_request session = {.op = DW_OP_SESSION_OPEN, .ptr0 = a.arena + AT_NAME, .len0 = 7};
    assert_int_equal(
        fixture_raw(a.actor, (raw_call){.n = 1, .capacity = 1, .wait = 1, .deadline = -1}, &session, 1, &answer),
        DW_OK);
    assert_int_equal(answer.completions[0].status, DW_E_UNSUPPORTED);
    dw_actor_destroy(a.actor);
}

/* Embedding with everything else of a turn: several at once, one cancelled by the deadline. */
static void several_requests_run_at_once_and_a_deadline_ends_them(void **state) {
    asking a = begin(*state, "several");
    fixture_put(a.actor, AT_OPTIONS, &a.options, sizeof a.options);
    dw_request records[4];
    for (uint32_t i = 0; i < 4; i++) {
        records[i] = (dw_request){.op = DW_OP_EMBED,
                                  .user_data = i,
                                  .ptr0 = a.arena + AT_OPTIONS,
                                  .len0 = sizeof a.options,
                                  .ptr1 = a.arena + AT_VECTORS + i * 65536,
                                  .len1 = 3 * WIDTH};
    }
    raw_answer answer;
    assert_int_equal(
        fixture_raw(a.actor, (raw_call){.n = 4, .capacity = 4, .wait = 4, .deadline = -1}, records, 4, &answer), DW_OK);
    assert_int_equal(answer.n, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(answer.completions[i].status, DW_OK);
    for (uint32_t i = 1; i < 4; i++) {
        void *view = NULL;
        assert_int_equal(dw_guest_view(dw_actor_memory(a.actor), a.arena + AT_VECTORS + i * 65536,
                                       3 * WIDTH * sizeof(float), 64, &view),
                         DW_OK);
        assert_memory_equal(view, vectors_of(&a), 3 * WIDTH * sizeof(float));
    }
    assert_int_equal(
        fixture_raw(a.actor, (raw_call){.n = 4, .capacity = 4, .wait = 4, .deadline = 0}, records, 4, &answer), DW_OK);
    assert_int_equal(answer.n, 4); /* rule 4: all windows are back, done or cancelled */
    for (int i = 0; i < 4; i++)
        assert_true(answer.completions[i].status == DW_OK || answer.completions[i].status == DW_E_CANCELLED);
    assert_int_equal(dw_region_lent(dw_guest_region(dw_actor_memory(a.actor))), 0);
    dw_actor_destroy(a.actor);
}

static void a_decoder_embeds_too(void **state) {
    enum { DECODER_WIDTH = 128 };
    asking a = begin(*state, "decoder");
    fixture_put(a.actor, AT_NAME, "decoder", 7);
    dw_completion done = ask(&a, 3 * DECODER_WIDTH);
    assert_int_equal(done.status, DW_OK);
    assert_int_equal(done.result0, DECODER_WIDTH);
    assert_true(done.result1 >= 3);
    for (int t = 0; t < 3; t++) {
        void *view = NULL;
        double length = 0;
        assert_int_equal(
            dw_guest_view(dw_actor_memory(a.actor), a.arena + AT_VECTORS, 3 * DECODER_WIDTH * sizeof(float), 64, &view),
            DW_OK);
        for (int i = 0; i < DECODER_WIDTH; i++)
            length += (double)((float *)view)[t * DECODER_WIDTH + i] * (double)((float *)view)[t * DECODER_WIDTH + i];
        assert_true(length > 0.9999 && length < 1.0001);
    }
    dw_actor_destroy(a.actor);
}

static uint32_t next(uint32_t *random) {
    *random = *random * 1103515245u + 12345u;
    return *random >> 12;
}

/* Options, texts and the request made of nasty numbers, with a model that is there. */
static void nasty_options_harm_nobody(void **state) {
    static const uint32_t nasty[] = {0,    1,    2,     3,        7,          28,          64,          255,        256,
                                     1024, 1025, 65536, 1u << 20, 0x7fffffff, 0x80000000u, 0xfffffff8u, 0xffffffffu};
    enum { N_NASTY = sizeof nasty / sizeof nasty[0] };
    asking good = begin(*state, "nasty"), a = good;
    uint32_t random = 7, n_ok = 0;
    for (int round = 0; round < 300; round++) {
        uint32_t words[7];
        a.options = good.options;
        memcpy(words, &a.options, sizeof words);
        for (uint32_t i = next(&random) % 3; i > 0; i--) words[next(&random) % 7] = nasty[next(&random) % N_NASTY];
        memcpy(&a.options, words, sizeof words);
        dw_text texts[3] = {{a.arena + AT_LETTERS, 7}, {a.arena + AT_LETTERS, 15}, {a.arena + AT_LETTERS, 0}};
        if (next(&random) % 3 == 0)
            texts[next(&random) % 3] = (dw_text){nasty[next(&random) % N_NASTY], nasty[next(&random) % N_NASTY]};
        fixture_put(a.actor, AT_TEXTS, texts, sizeof texts);
        uint32_t n_floats = next(&random) % 4 == 0 ? nasty[next(&random) % N_NASTY] : 3 * WIDTH;
        n_ok += ask(&a, n_floats).status == DW_OK;
    }
    print_message("%u of 300 were taken\n", n_ok);
    assert_true(n_ok > 20 && n_ok < 280);
    a = good;
    put_texts(&a, (dw_text[]){{a.arena + AT_LETTERS, 7}}, 1);
    assert_int_equal(ask(&a, WIDTH).status, DW_OK);
    dw_actor_destroy(a.actor);
}

static int setup(void **state) {
    dw_error err = {0};
    if (fixture_setup(state) != 0) return -1;
    fixture *f = *state;
    assert_ok(
        dw_runtime_add_model(f->runtime, "encoder", made_encoder_path(&made_encoders[0], MADE_GOOD, "actor"), &err),
        err);
    assert_ok(dw_runtime_add_model(f->runtime, "decoder", made_model_path(made_model_named("tied_f16")), &err), err);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_land_in_the_guests_own_memory),
        cmocka_unit_test(what_a_model_is_can_be_asked),
        cmocka_unit_test(a_decoder_embeds_too),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(nasty_options_harm_nobody),
        cmocka_unit_test(several_requests_run_at_once_and_a_deadline_ends_them),
    };
    return cmocka_run_group_tests(tests, setup, fixture_teardown);
}

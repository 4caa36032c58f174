/* Embeddings of encoders: beside libllama's, alone and in company, on the CPU and on Vulkan; and files and requests that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/embed/embed_oracle.h"
#include "model/embed/make_encoder.h"
#include "model/engine/engine.h"
#include "os/os.h"

enum { WIDTH_MAX = 1024, TOKENS_MAX = 600, N_TEXTS = 40 };

static dw_device *cpu, *vulkan;

static dw_model *open_on(dw_device *device, const char *path) {
    dw_model *model = NULL;
    dw_error err = {0};
    if (dw_model_open(path, device, NULL, &model, &err) != DW_OK) fail_msg("%s", err.text);
    return model;
}

static uint64_t next(uint64_t *random) {
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *random >> 33;
}

/* [CLS], random words, [SEP]. */
static void make_text(int32_t *tokens, uint32_t n, const dw_model_info *info, bool made, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)((made ? MADE_FIRST_WORD : 1000) + next(&seed) % (info->n_vocab - (made ? MADE_FIRST_WORD : 1000u)));
    tokens[0] = made ? MADE_CLS : 101;
    if (n > 1) tokens[n - 1] = made ? MADE_SEP : 102;
}

static void embed(dw_model *model, const dw_embed_text *texts, uint32_t n, dw_pooling pooling, bool normalize) {
    dw_error err = {0};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = n, .pooling = pooling, .normalize = normalize};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(job.n_embedded, n);
}

static double largest_difference(const float *a, const float *b, uint32_t n) {
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        if (!(d <= largest)) largest = d; /* NaN becomes the result */
    }
    return largest;
}

static double cosine(const float *a, const float *b, uint32_t n) {
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

/* --- beside libllama ----------------------------------------------------------------------------------------- */

static void compare_with_libllama(const char *path, bool made) {
    static const uint32_t lengths[] = {1, 2, 3, 7, 17, 40, 63, 64, 65, 90, 128, 300, 512};
    static float ours[WIDTH_MAX];
    static int32_t tokens[TOKENS_MAX];
    dw_model *model = open_on(cpu, path);
    const dw_model_info *info = dw_model_info_view(model);
    for (int pooling = DW_POOLING_MEAN; pooling <= DW_POOLING_LAST; pooling++) {
        embed_oracle *o = embed_oracle_open(path, info->context_tokens, 1, pooling);
        assert_non_null(o);
        double worst = 0;
        uint32_t compared = 0;
        for (size_t i = 0; i < sizeof lengths / sizeof lengths[0] && lengths[i] <= info->context_tokens; i++) {
            make_text(tokens, lengths[i], info, made, i + 1);
            dw_embed_text text = {.tokens = tokens, .n_tokens = lengths[i], .vector = ours};
            embed(model, &text, 1, (dw_pooling)pooling, false);
            double d = largest_difference(ours, embed_oracle_text(o, tokens, lengths[i]), info->n_embedding);
            if (!(d <= worst)) worst = d;
            compared++;
        }
        printf("%s, %s: %u texts, largest difference from libllama %g\n", info->name, dw_pooling_name((dw_pooling)pooling), compared, worst);
        assert_true(worst == 0);
        embed_oracle_close(o);
    }
    dw_model_close(model);
}

static void made_encoders_give_libllamas_bits(void **state) {
    (void)state;
    for (const made_encoder *m = made_encoders; m->name != NULL; m++) compare_with_libllama(made_encoder_path(m, MADE_GOOD, "oracle"), true);
}

static void minilm_gives_libllamas_bits(void **state) {
    (void)state;
    if (DW_TEST_EMBEDDING_MODEL[0] == '\0') skip();
    compare_with_libllama(DW_TEST_EMBEDDING_MODEL, false);
}

static void minilm_tokenizes_as_libllama(void **state) {
    (void)state;
    static const char *const texts[] = {"", "Hello, world!", "  naïve CAFÉ\tcoöperates\n", "unaffable hyperparameters", "東京 is 日本の首都",
                                        "🦆 floats", "\xff\xfe broken", "[MASK] is text here", "3.14159 and 1,000,000"};
    if (DW_TEST_EMBEDDING_MODEL[0] == '\0') skip();
    dw_model *model = open_on(cpu, DW_TEST_EMBEDDING_MODEL);
    embed_oracle *o = embed_oracle_open(DW_TEST_EMBEDDING_MODEL, 512, 1, 1);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        int32_t ours[64], theirs[64];
        size_t n = 0;
        assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), texts[i], strlen(texts[i]), true, false, ours, 64, &n, NULL), DW_OK);
        assert_int_equal(n, embed_oracle_tokenize(o, texts[i], theirs, 64));
        assert_memory_equal(ours, theirs, n * sizeof ours[0]);
        assert_true(n >= 2 && ours[0] == 101 && ours[n - 1] == 102);
        for (size_t k = 1; k + 1 < n; k++) assert_true(ours[k] < 100 || ours[k] > 103 || ours[k] == 100); /* no control token from text */
    }
    embed_oracle_close(o);
    dw_model_close(model);
}

/* Every character there is, in one text after the other: libllama's tables know them all, and none ends in an assertion. */
static void minilm_takes_every_character(void **state) {
    (void)state;
    enum { BLOCK = 4096 };
    static char text[BLOCK * 4];
    static int32_t tokens[BLOCK * 4 + 2];
    if (DW_TEST_EMBEDDING_MODEL[0] == '\0') skip();
    dw_model *model = open_on(cpu, DW_TEST_EMBEDDING_MODEL);
    for (uint32_t first = 0; first < 0x110000; first += BLOCK) {
        size_t size = 0, n = 0;
        for (uint32_t c = first; c < first + BLOCK; c++) {
            if (c < 0x80) text[size++] = (char)c;
            else if (c < 0x800) text[size++] = (char)(0xc0 | c >> 6), text[size++] = (char)(0x80 | (c & 63));
            else if (c < 0x10000) text[size++] = (char)(0xe0 | c >> 12), text[size++] = (char)(0x80 | (c >> 6 & 63)), text[size++] = (char)(0x80 | (c & 63));
            else text[size++] = (char)(0xf0 | c >> 18), text[size++] = (char)(0x80 | (c >> 12 & 63)), text[size++] = (char)(0x80 | (c >> 6 & 63)), text[size++] = (char)(0x80 | (c & 63));
        }
        assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), text, size, true, false, tokens, BLOCK * 4 + 2, &n, NULL), DW_OK);
        for (size_t i = 0; i < n; i++) assert_in_range(tokens[i], 0, 30521);
    }
    dw_model_close(model);
}

/* --- in company ---------------------------------------------------------------------------------------------- */

static void company_changes_nothing(const char *path, bool made) {
    static int32_t tokens[N_TEXTS][TOKENS_MAX];
    static float alone[N_TEXTS][WIDTH_MAX], together[N_TEXTS][WIDTH_MAX];
    dw_model *model = open_on(cpu, path);
    const dw_model_info *info = dw_model_info_view(model);
    dw_embed_text texts[N_TEXTS];
    uint64_t random = 5;
    uint32_t equal = 0;
    double worst = 0;
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        uint32_t n = 2 + (uint32_t)(next(&random) % (i == 7 ? info->context_tokens - 2 : 40));
        make_text(tokens[i], n, info, made, 100 + i);
        texts[i] = (dw_embed_text){.tokens = tokens[i], .n_tokens = n, .vector = alone[i]};
        embed(model, &texts[i], 1, DW_POOLING_DEFAULT, true);
        texts[i].vector = together[i];
    }
    embed(model, texts, N_TEXTS, DW_POOLING_DEFAULT, true);
    for (uint32_t i = 0; i < N_TEXTS; i++) {
        double d = largest_difference(alone[i], together[i], info->n_embedding);
        equal += d == 0;
        if (!(d <= worst)) worst = d;
    }
    printf("%s: %u of %d vectors have the same bits alone and in company, largest difference %g\n", info->name, equal, N_TEXTS, worst);
    assert_int_equal(equal, N_TEXTS);
    dw_model_close(model);
}

static void a_texts_vector_has_the_same_bits_in_any_company(void **state) {
    (void)state;
    for (const made_encoder *m = made_encoders; m->name != NULL; m++) company_changes_nothing(made_encoder_path(m, MADE_GOOD, "company"), true);
    if (DW_TEST_EMBEDDING_MODEL[0] != '\0') company_changes_nothing(DW_TEST_EMBEDDING_MODEL, false);
}

static void vectors_are_written_where_they_are_wanted_and_nowhere_else(void **state) {
    (void)state;
    static int32_t tokens[20];
    static float memory[64 + 3 * 96];
    dw_model *model = open_on(cpu, made_encoder_path(&made_encoders[0], MADE_GOOD, "places"));
    const dw_model_info *info = dw_model_info_view(model);
    make_text(tokens, 20, info, true, 1);
    uint64_t copied = dw_device_ledger(cpu).copied_out;
    for (int i = 0; i < 64 + 3 * 96; i++) memory[i] = 77;
    /* One behind the other, the first not even aligned to 16 bytes. */
    dw_embed_text texts[3] = {{tokens, 20, memory + 33}, {tokens, 9, memory + 33 + 96}, {tokens, 2, memory + 33 + 192}};
    embed(model, texts, 3, DW_POOLING_MEAN, true);
    for (int i = 0; i < 64 + 3 * 96; i++) assert_true((memory[i] == 77) == (i < 33 || i >= 33 + 288));
    for (int t = 0; t < 3; t++) {
        double length = 0;
        for (int i = 0; i < 96; i++) length += (double)texts[t].vector[i] * (double)texts[t].vector[i];
        assert_true(fabs(length - 1) < 1e-5);
    }
    assert_int_equal(dw_device_ledger(cpu).copied_out, copied);
    dw_model_close(model);
}

static void poolings_differ_and_the_default_is_the_files(void **state) {
    (void)state;
    static int32_t tokens[20];
    static float vectors[4][WIDTH_MAX];
    static const dw_pooling expected[] = {DW_POOLING_MEAN, DW_POOLING_CLS, DW_POOLING_LAST, DW_POOLING_MEAN};
    for (int m = 0; made_encoders[m].name != NULL; m++) {
        dw_model *model = open_on(cpu, made_encoder_path(&made_encoders[m], MADE_GOOD, "poolings"));
        const dw_model_info *info = dw_model_info_view(model);
        assert_int_equal(info->kind, DW_MODEL_ENCODER);
        assert_int_equal(info->pooling, expected[m]);
        make_text(tokens, 20, info, true, 3);
        for (int p = 0; p <= DW_POOLING_LAST; p++) embed(model, &(dw_embed_text){tokens, 20, vectors[p]}, 1, (dw_pooling)p, false);
        for (int p = 1; p <= DW_POOLING_LAST; p++) {
            assert_int_equal(memcmp(vectors[0], vectors[p], info->n_embedding * sizeof(float)) == 0, p == (int)expected[m]);
        }
        dw_model_close(model);
    }
}

/* With a limit that the embedding exceeds, its rows are looked up on the host. */
static void rows_looked_up_on_the_host_give_the_same_bits(void **state) {
    (void)state;
    static int32_t tokens[30];
    static float whole[WIDTH_MAX], looked_up[WIDTH_MAX];
    dw_device_info *info = (dw_device_info *)(uintptr_t)dw_device_info_view(cpu); /* the test plays a smaller device */
    uint64_t real_limit = info->tensor_bytes_max;
    for (int m = 0; m < 3; m++) {
        const char *path = made_encoder_path(&made_encoders[m], MADE_GOOD, "lookup");
        for (int i = 0; i < 2; i++) {
            info->tensor_bytes_max = i == 0 ? real_limit : 10000;
            dw_model *model = open_on(cpu, path);
            make_text(tokens, 30, dw_model_info_view(model), true, 4);
            embed(model, &(dw_embed_text){tokens, 30, i == 0 ? whole : looked_up}, 1, DW_POOLING_DEFAULT, true);
            info->tensor_bytes_max = real_limit;
            dw_model_close(model);
        }
        assert_memory_equal(whole, looked_up, made_encoders[m].width * sizeof(float));
    }
}

/* --- Vulkan -------------------------------------------------------------------------------------------------- */

static void vulkan_embeds_as_the_cpu(void **state) {
    (void)state;
    static int32_t tokens[3][64];
    static float theirs[3][WIDTH_MAX], ours[3][WIDTH_MAX];
    static const uint32_t lengths[3] = {64, 5, 30};
    if (vulkan == NULL) skip();
    const char *path = made_encoder_path(&made_encoders[0], MADE_GOOD, "vulkan");
    dw_model *on_cpu = open_on(cpu, path), *on_vulkan = open_on(vulkan, path);
    const dw_model_info *info = dw_model_info_view(on_cpu);
    dw_embed_text a[3], b[3];
    for (uint32_t i = 0; i < 3; i++) {
        make_text(tokens[i], lengths[i], info, true, i + 50);
        a[i] = (dw_embed_text){tokens[i], lengths[i], theirs[i]};
        b[i] = (dw_embed_text){tokens[i], lengths[i], ours[i]};
    }
    for (int pooling = DW_POOLING_MEAN; pooling <= DW_POOLING_LAST; pooling++) {
        double worst = 0, least = 1;
        embed(on_cpu, a, 3, (dw_pooling)pooling, true);
        embed(on_vulkan, b, 3, (dw_pooling)pooling, true);
        for (uint32_t i = 0; i < 3; i++) {
            double d = largest_difference(theirs[i], ours[i], info->n_embedding), c = cosine(theirs[i], ours[i], info->n_embedding);
            if (!(d <= worst)) worst = d;
            if (!(c >= least)) least = c;
        }
        printf("vulkan, %s: largest difference %g, least cosine %.7f\n", dw_pooling_name((dw_pooling)pooling), worst, least);
        assert_true(worst < 0.005 && least > 0.9999);
    }
    dw_model_close(on_cpu);
    dw_model_close(on_vulkan);
}

/* --- refusals ------------------------------------------------------------------------------------------------ */

static void files_that_are_no_encoder_are_refused(void **state) {
    (void)state;
    static const struct { made_fault fault; const char *says; } cases[] = {
        {MADE_NO_LAYERS, "bert.block_count"}, {MADE_ABSURD_LAYERS, "1000 layers"}, {MADE_NO_EPSILON, "layer_norm_epsilon"},
        {MADE_HEADS_DO_NOT_DIVIDE, "7 heads"}, {MADE_SHARED_HEADS, "share"}, {MADE_CAUSAL, "causal"}, {MADE_RANK_POOLING, "pooling_type is 4"},
        {MADE_NO_POSITIONS, "position_embd.weight is missing"}, {MADE_FEW_POSITIONS, "position_embd.weight is [96, 127"},
        {MADE_ABSURD_CONTEXT, "bert.context_length"}, {MADE_NO_NORM_BIAS, "token_embd_norm.bias is missing"},
        {MADE_NARROW_FEED, "ffn_up.weight"}, {MADE_F16_NORM, "must be F32"}, {MADE_NO_TOKENIZER, "tokenizer.ggml.model"},
        {MADE_NO_SEPARATOR, "seperator"}, {MADE_SEPARATOR_OUTSIDE, "seperator"}, {MADE_BYTE_TOKEN, "byte"}, {MADE_OTHER_VOCABULARY, "99"},
    };
    assert_int_equal(sizeof cases / sizeof cases[0], MADE_FAULTS - 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_model *model = NULL;
        dw_error err = {0};
        dw_status status = dw_model_open(made_encoder_path(&made_encoders[0], cases[i].fault, "bad"), cpu, NULL, &model, &err);
        if (status == DW_OK) status = dw_vocab_wait(dw_model_vocab(model), &err);
        if (status == DW_OK || strstr(err.text, cases[i].says) == NULL) fail_msg("fault %d: %s: %s", (int)cases[i].fault, dw_status_name(status), err.text);
        dw_model_close(model);
    }
}

static void refuse(dw_job job, dw_status expected, const char *says) {
    dw_error err = {0};
    job.kind = DW_JOB_EMBED;
    assert_int_equal(dw_job_run(&job, &err), expected);
    if (strstr(err.text, says) == NULL) fail_msg("\"%s\" does not say \"%s\"", err.text, says);
}

static void requests_that_cannot_be_are_refused(void **state) {
    (void)state;
    static int32_t tokens[200];
    static float vector[96];
    dw_model *model = open_on(cpu, made_encoder_path(&made_encoders[0], MADE_GOOD, "requests"));
    make_text(tokens, 200, dw_model_info_view(model), true, 1);
    dw_embed_text text = {tokens, 129, vector};
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 1}, DW_E_FULL, "129 tokens, the model takes 128");
    text.n_tokens = 0;
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 1}, DW_E_INVALID, "no tokens");
    text = (dw_embed_text){tokens, 128, NULL};
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 1}, DW_E_INVALID, "no place");
    text.vector = vector;
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 0}, DW_E_LIMIT, "0 texts");
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 1, .pooling = (dw_pooling)4}, DW_E_INVALID, "pooling");
    refuse((dw_job){.texts = &text, .n_texts = 1}, DW_E_INVALID, "without a model");
    tokens[3] = MADE_VOCABULARY;
    refuse((dw_job){.model = model, .texts = &text, .n_texts = 1}, DW_E_RANGE, "token 100 at 3 of text 0");
    dw_session *session = NULL;
    dw_error err = {0};
    assert_int_equal(dw_model_create_session(model, NULL, &session, &err), DW_E_UNSUPPORTED);
    assert_null(session);
    assert_non_null(strstr(err.text, "encoder"));
    dw_model_close(model);
}

static void a_cancelled_job_ends_within_a_step(void **state) {
    (void)state;
    static int32_t tokens[128];
    static float vectors[N_TEXTS][96];
    dw_model *model = open_on(cpu, made_encoder_path(&made_encoders[0], MADE_GOOD, "cancel"));
    make_text(tokens, 128, dw_model_info_view(model), true, 1);
    dw_embed_text texts[N_TEXTS];
    for (int i = 0; i < N_TEXTS; i++) texts[i] = (dw_embed_text){tokens, 128, vectors[i]};
    dw_job job = {.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = N_TEXTS, .cancel = true};
    assert_int_equal(dw_job_run(&job, NULL), DW_E_CANCELLED);
    assert_int_equal(job.n_embedded, 0);
    assert_true(vectors[0][0] == 0);
    dw_model_close(model);
}

static struct { dw_os_mutex *mutex; dw_os_condition *changed; int n; } finished;

static void count_finished(dw_job *job) {
    (void)job;
    dw_os_mutex_lock(finished.mutex);
    finished.n++;
    dw_os_condition_signal(finished.changed);
    dw_os_mutex_unlock(finished.mutex);
}

static void an_engine_embeds_too(void **state) {
    (void)state;
    static int32_t tokens[50];
    static float alone[96], by_engine[N_TEXTS][96];
    dw_engine *engine = NULL;
    dw_model *model = open_on(cpu, made_encoder_path(&made_encoders[0], MADE_GOOD, "engine"));
    make_text(tokens, 50, dw_model_info_view(model), true, 1);
    embed(model, &(dw_embed_text){tokens, 50, alone}, 1, DW_POOLING_DEFAULT, false);
    assert_int_equal(dw_engine_create(dw_model_device(model), &engine, NULL), DW_OK);
    dw_embed_text texts[N_TEXTS];
    for (int i = 0; i < N_TEXTS; i++) texts[i] = (dw_embed_text){tokens, 50, by_engine[i]};
    dw_job jobs[2] = {{.kind = DW_JOB_EMBED, .model = model, .texts = texts, .n_texts = N_TEXTS / 2, .on_done = count_finished},
                      {.kind = DW_JOB_EMBED, .model = model, .texts = texts + N_TEXTS / 2, .n_texts = N_TEXTS / 2, .on_done = count_finished}};
    assert_int_equal(dw_os_mutex_create(&finished.mutex, NULL), DW_OK);
    assert_int_equal(dw_os_condition_create(&finished.changed, NULL), DW_OK);
    assert_int_equal(dw_engine_submit(engine, &(dw_job){.kind = DW_JOB_EMBED, .model = NULL}, NULL), DW_E_INVALID);
    for (int i = 0; i < 2; i++) assert_int_equal(dw_engine_submit(engine, &jobs[i], NULL), DW_OK);
    dw_os_mutex_lock(finished.mutex);
    while (finished.n < 2) dw_os_condition_wait(finished.changed, finished.mutex);
    dw_os_mutex_unlock(finished.mutex);
    dw_engine_destroy(engine);
    dw_os_condition_destroy(finished.changed);
    dw_os_mutex_destroy(finished.mutex);
    for (int i = 0; i < 2; i++) assert_int_equal(jobs[i].status, DW_OK);
    for (int i = 0; i < N_TEXTS; i++) assert_memory_equal(alone, by_engine[i], sizeof alone);
    dw_model_close(model);
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    dw_error err = {0};
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &cpu, &err) != DW_OK) return 1;
    if (argc > 1 && dw_device_open("vulkan", NULL, &vulkan, &err) != DW_OK) printf("without Vulkan: %s\n", err.text);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_encoders_give_libllamas_bits),
        cmocka_unit_test(minilm_gives_libllamas_bits),
        cmocka_unit_test(minilm_tokenizes_as_libllama),
        cmocka_unit_test(minilm_takes_every_character),
        cmocka_unit_test(a_texts_vector_has_the_same_bits_in_any_company),
        cmocka_unit_test(vectors_are_written_where_they_are_wanted_and_nowhere_else),
        cmocka_unit_test(poolings_differ_and_the_default_is_the_files),
        cmocka_unit_test(rows_looked_up_on_the_host_give_the_same_bits),
        cmocka_unit_test(vulkan_embeds_as_the_cpu),
        cmocka_unit_test(files_that_are_no_encoder_are_refused),
        cmocka_unit_test(requests_that_cannot_be_are_refused),
        cmocka_unit_test(a_cancelled_job_ends_within_a_step),
        cmocka_unit_test(an_engine_embeds_too),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(vulkan);
    dw_device_close(cpu);
    return failed;
}

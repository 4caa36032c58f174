/* Every family beside libllama's own inference, on the CPU: logits equal to the bit, and 64 greedy tokens. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/kit/compare.h"
#include "model/weights/weights.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"

enum { CONTEXT = 1024, N_GREEDY = 64, PROMPT_MAX = 700 };

static dw_device *device;

static dw_model *open_model(const char *path, uint32_t context) {
    return open_model_on(device, path, &(dw_model_options){.context_tokens = context, .sessions_max = 2});
}

static oracle *open_oracle(const char *path, uint32_t context) {
    oracle *o = oracle_open(path, context, 1);
    if (o == NULL) fail_msg("libllama cannot load %s", path);
    return o;
}

/* How a prompt comes: lengths of the calls, ended by 0. Long calls are divided into chunks inside. */
static const uint32_t schedules[][4] = {{1}, {37}, {300}, {70, 65, 1}, {PROMPT_MAX}};
enum { N_SCHEDULES = sizeof schedules / sizeof schedules[0] };

static const char text[] = "The ship had been three days out of harbour when the wind turned. \"Reef the mainsail!\" cried the mate (1,234 times, it seemed), "
                           "and d\xc3\xa9j\xc3\xa0 vu struck me: for i in range(10): print(i) \xe2\x80\x94 that is what the parrot said.\n\n";

typedef struct totals { uint32_t prompts, equal; double difference; } totals;

static void add(totals *t, comparison c) {
    t->prompts++;
    t->equal += c.equal;
    if (!(c.difference <= t->difference)) t->difference = c.difference;
}

/* Real text through the model's vocabulary first, then tokens from everywhere in it. */
static totals compare_all(const char *path, uint32_t context, uint32_t n_schedules) {
    totals sum = {0};
    int32_t prompt[PROMPT_MAX];
    dw_model *model = open_model(path, context);
    oracle *o = open_oracle(path, context);
    assert_int_equal(oracle_vocab(o), dw_model_info_view(model)->n_vocab);
    size_t n_text = 0;
    assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), text, strlen(text), DW_TEXT_WHOLE, false, prompt,
                                       PROMPT_MAX, &n_text, NULL),
                     DW_OK);
    add(&sum, compare_with_oracle(model, o, prompt, &(uint32_t){(uint32_t)n_text}, 1, N_GREEDY));
    for (uint32_t i = 0; i < n_schedules; i++) {
        uint32_t n_parts = 0, n = 0;
        while (n_parts < 4 && schedules[i][n_parts] != 0) n += schedules[i][n_parts++];
        if (n + N_GREEDY > context) continue;
        make_prompt(prompt, n, oracle_vocab(o), 1, 100 + i);
        add(&sum, compare_with_oracle(model, o, prompt, schedules[i], n_parts, N_GREEDY));
    }
    oracle_close(o);
    dw_model_close(model);
    return sum;
}

/* One line of the table. */
static bool show(const made_model *m, const char *note, totals t) {
    printf("%-18s %-11s %-10s %7u %17g %10u of %u%s\n", m->name, m->architecture, ggml_type_name(m->type), t.prompts, t.difference, t.equal,
           t.prompts * N_GREEDY, note);
    return t.difference == 0 && t.equal == t.prompts * N_GREEDY;
}

static void show_head(void) { printf("%-18s %-11s %-10s %7s %17s %10s\n", "model", "family", "weights", "prompts", "first difference", "greedy equal"); }

static void every_family_equals_libllama_with_a_real_vocabulary(void **state) {
    (void)state;
    if (!made_vocabularies_there()) {
        printf("skipped: no vocabularies (DW_TEST_VOCABULARIES)\n");
        skip();
    }
    bool good = true;
    show_head();
    for (const made_model *m = made_families; m->name != NULL; m++) {
        good &= show(m, "", compare_all(made_model_path(m), CONTEXT, N_SCHEDULES));
        /* Short factors below the original context, long ones above: both. */
        if (m->rope_short_and_long) good &= show(m, " (short rope)", compare_all(made_model_path(m), m->rope_original, N_SCHEDULES));
    }
    assert_true(good);
}

static void no_family_is_without_a_test(void **state) {
    (void)state;
    for (size_t i = 0; dw_family_at(i) != NULL; i++) {
        const made_model *m = made_families;
        while (m->name != NULL && strcmp(m->architecture, dw_family_at(i)->architecture) != 0) m++;
        if (m->name == NULL) fail_msg("%s", dw_family_at(i)->architecture);
    }
}

static void variants_of_files_equal_libllama(void **state) {
    (void)state;
    bool good = true;
    show_head();
    for (const made_model *m = made_variants; m->name != NULL; m++) good &= show(m, "", compare_all(made_model_path(m), CONTEXT, 3));
    assert_true(good);
}

/* --- short and long rope ------------------------------------------------------------------------------------- */

static dw_model_fingerprint fingerprint_with(const made_model *m, uint32_t context) {
    dw_model_fingerprint fingerprint;
    dw_error err = {0};
    dw_model *model = open_model(made_model_path(m), context);
    if (dw_model_fingerprint_of(model, DW_FINGERPRINT_TENSORS, &fingerprint, &err) != DW_OK) fail_msg("%s", err.text);
    dw_model_close(model);
    return fingerprint;
}

/* A checkpoint's rows are thawed only where they would be computed with the same factors. */
static void rows_of_short_rope_are_not_those_of_long_rope(void **state) {
    (void)state;
    const made_model *m = made_model_named("v_llama_longrope");
    dw_model_fingerprint brief = fingerprint_with(m, 256), limit = fingerprint_with(m, m->rope_original), above = fingerprint_with(m, m->rope_original + 1);
    assert_memory_equal(&brief, &limit, sizeof brief);
    assert_memory_equal(&above.weights, &brief.weights, sizeof brief.weights);
    assert_memory_not_equal(&above.hyperparameters, &brief.hyperparameters, sizeof brief.hyperparameters);
}

/* --- weight types -------------------------------------------------------------------------------------------- */

/* All that hold weights: whatever ggml can quantise to and read back. */
static bool holds_weights(enum ggml_type type) {
    if (type == GGML_TYPE_F32 || type == GGML_TYPE_F16 || type == GGML_TYPE_BF16) return true;
    const struct ggml_type_traits *traits = ggml_get_type_traits(type);
    return ggml_is_quantized(type) && traits->to_float != NULL && traits->blck_size > 0 && ggml_type_name(type) != NULL;
}

static void every_weight_type_equals_libllama(void **state) {
    (void)state;
    bool good = true;
    uint32_t n = 0;
    show_head();
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        char name[64];
        if (!holds_weights((enum ggml_type)type)) continue;
        snprintf(name, sizeof name, "type_%s", ggml_type_name((enum ggml_type)type));
        made_model m = {.name = name, .architecture = "llama", .n_layers = 1, .width = 256, .n_heads = 4, .n_heads_kv = 2, .head_dim = 64, .n_feed_forward = 256,
                        .n_vocab = 512, .context = 2048, .type = (enum ggml_type)type, .own_output = true, .seed = 60 + (uint64_t)type};
        good &= show(&m, "", compare_all(made_model_path(&m), CONTEXT, 2));
        n++;
    }
    assert_true(good);
    assert_true(n >= 26); /* what ggml 0.26 has */
}

/* --- layers of unequal size ---------------------------------------------------------------------------------- */

/* libllama cannot load these for the families here; it gets the same model with the missing parts multiplied by 0. */
static void unequal_layers_equal_padded_ones(void **state) {
    (void)state;
    static const uint32_t heads[3] = {4, 2, 3}, feeds[3] = {128, 256, 192};
    made_model m = {.name = "unequal", .architecture = "llama", .n_layers = 3, .width = 256, .n_heads = 4, .n_heads_kv = 1, .head_dim = 64, .n_feed_forward = 256,
                    .n_vocab = 512, .context = 2048, .type = GGML_TYPE_F32, .heads_of = heads, .feed_of = feeds, .seed = 90};
    made_model padded = m;
    padded.name = "unequal_padded";
    padded.padded = true;
    int32_t prompt[300];
    char path[1024];
    snprintf(path, sizeof path, "%s", made_model_path(&m));
    dw_model *model = open_model(path, CONTEXT);
    oracle *o = open_oracle(made_model_path(&padded), CONTEXT);
    make_prompt(prompt, 300, 512, 1, 5);
    comparison c = compare_with_oracle(model, o, prompt, &(uint32_t){300}, 1, N_GREEDY);
    printf("unequal layers: differ by at most %g, %u of %d greedy tokens equal\n", c.difference, c.equal, N_GREEDY);
    assert_true(c.difference <= 1e-4); /* sums over fewer terms may be added in another order */
    assert_int_equal(c.equal, N_GREEDY);
    oracle_close(o);
    dw_model_close(model);
}

/* --- one matrix for gate and up ------------------------------------------------------------------------------ */

/* libllama takes these from phi3 alone. The maker gives both files the same rows, so the model is the same. */
static void gate_and_up_in_one_matrix_equal_two(void **state) {
    (void)state;
    static const char *const names[2] = {"grouped_q8", "window_q8"}; /* SiLU and GELU */
    for (int i = 0; i < 2; i++) {
        made_model fused = *made_model_named(names[i]);
        char name[64], path[1024];
        int32_t prompt[300];
        snprintf(name, sizeof name, "fused_%s", names[i]);
        fused.name = name;
        fused.fused_gate = fused.fused_qkv = true;
        snprintf(path, sizeof path, "%s", made_model_path(&fused));
        dw_model *model = open_model(path, CONTEXT);
        oracle *o = open_oracle(made_model_path(made_model_named(names[i])), CONTEXT);
        make_prompt(prompt, 300, 512, 1, 6);
        comparison c = compare_with_oracle(model, o, prompt, &(uint32_t){300}, 1, N_GREEDY);
        printf("%s: differs by at most %g, %u of %d greedy tokens equal\n", name, c.difference, c.equal, N_GREEDY);
        assert_true(c.difference == 0);
        assert_int_equal(c.equal, N_GREEDY);
        oracle_close(o);
        dw_model_close(model);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_family_equals_libllama_with_a_real_vocabulary),
        cmocka_unit_test(no_family_is_without_a_test),
        cmocka_unit_test(variants_of_files_equal_libllama),
        cmocka_unit_test(rows_of_short_rope_are_not_those_of_long_rope),
        cmocka_unit_test(every_weight_type_equals_libllama),
        cmocka_unit_test(unequal_layers_equal_padded_ones),
        cmocka_unit_test(gate_and_up_in_one_matrix_equal_two),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    dw_error err = {0};
    /* One thread: several wait for each other at hundreds of barriers a step, which on a busy machine takes minutes. */
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, &err) != DW_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

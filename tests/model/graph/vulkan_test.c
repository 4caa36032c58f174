/* The decoder on Vulkan: tokens beside the CPU's, KV rows in the same pages, forks and rewinds under wraps. And the paths for devices
 * that limit a tensor's size, on both. The first argument chooses the tests (CMakeLists.txt says why). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/engine/batch.h"
#include "model/kit/random.h"
#include "model/kit/forward.h"
#include "model/kit/make_model.h"
#include "model/model.h"

enum { CONTEXT = 768, N_GREEDY = 64, N_PROMPT = 200 };

static dw_device *cpu, *vulkan;

static dw_model *open_made(dw_device *device, const made_model *made) {
    return open_model_on(device, made_model_path(made), &(dw_model_options){.context_tokens = CONTEXT, .sessions_max = 8});
}

static dw_model *open_on(dw_device *device, const char *name) { return open_made(device, made_model_named(name)); }

static dw_session *new_session(dw_model *model) {
    dw_session *session = NULL;
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    return session;
}

static void greedy(dw_session *session, uint32_t n) {
    dw_job job = {.kind = DW_JOB_GENERATE, .session = session, .n_max = n, .ignore_end = true, .sampling = {.top_p = 1}};
    dw_error err = {0};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
}

static const int32_t *tail(const dw_session *session, uint32_t n) {
    uint32_t have = 0;
    const int32_t *tokens = dw_session_tokens(session, &have);
    return tokens + have - n;
}

static double largest_difference(const float *a, const float *b, uint32_t n, double *largest_value) {
    double largest = 0;
    *largest_value = 0;
    for (uint32_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i], v = (double)a[i];
        if (!((d < 0 ? -d : d) <= largest)) largest = d < 0 ? -d : d;
        if ((v < 0 ? -v : v) > *largest_value) *largest_value = v < 0 ? -v : v;
    }
    return largest;
}

typedef struct outcome { double value, first, difference; uint32_t equal, beyond; } outcome; /* beyond: steps that differ by more than allowed */

static int32_t best_of(const float *logits) {
    int32_t best = 0;
    for (int32_t t = 1; t < 512; t++) {
        if (logits[t] > logits[best]) best = t;
    }
    return best;
}

/* Each token from the CPU's own past, so that one near-tie that falls the other way does not spoil those behind it. */
static outcome decode_on_both(const made_model *made, uint32_t n_prompt, uint32_t n_greedy, double tolerance) {
    static float ours[512], theirs[512];
    int32_t tokens[N_PROMPT];
    outcome o = {0};
    dw_model *on_cpu = open_made(cpu, made), *on_vulkan = open_made(vulkan, made);
    dw_session *a = new_session(on_cpu), *b = new_session(on_vulkan);
    make_tokens(tokens, n_prompt, 1);
    forward(a, tokens, n_prompt, theirs);
    forward(b, tokens, n_prompt, ours);
    for (uint32_t i = 0; i < n_greedy; i++) {
        double d = largest_difference(theirs, ours, 512, &o.value);
        int32_t best = best_of(theirs), best_ours = best_of(ours);
        /* Where the choice differs, both must have been about equally good. */
        if (best == best_ours) o.equal++;
        else assert_true((double)theirs[best] - (double)theirs[best_ours] <= 2 * d);
        if (i == 0) o.first = d;
        if (!(d <= tolerance)) o.beyond++;
        if (!(d <= o.difference)) o.difference = d;
        forward(a, &best, 1, theirs);
        forward(b, &best, 1, ours);
    }
    dw_session_destroy(a);
    dw_session_destroy(b);
    dw_model_close(on_cpu);
    dw_model_close(on_vulkan);
    return o;
}

static void vulkan_decodes_as_the_cpu(const char *name, double tolerance) {
    if (vulkan == NULL) skip();
    outcome o = decode_on_both(made_model_named(name), N_PROMPT, N_GREEDY, tolerance);
    printf("%s: logits up to %.2f, differ by at most %.4f; %u of %d greedy tokens equal\n", name, o.value, o.difference, o.equal, N_GREEDY);
    assert_true(o.difference <= tolerance);
    assert_true(o.equal >= N_GREEDY - 3);
}

/* A family with a small vocabulary and weights of one type, so that the families share most shaders. Logits, whose largest are 2 to 7, may
 * differ by 0.06: the driver adds up in F16 here and there. Where a router finds two experts about equally good, that decides which is used,
 * and a step may differ by anything; it must not happen often, and never where all experts are in use. */
static void a_family_on_vulkan_is_as_on_the_cpu(const char *name, uint32_t n_experts_used) {
    enum { N_SHORT_PROMPT = 70, N_BEYOND_MAX = 8 };
    const double tolerance = 0.06;
    if (vulkan == NULL) skip();
    made_model m = *made_model_named(name);
    bool chooses = m.n_experts != 0 && n_experts_used != m.n_experts;
    if (n_experts_used != 0) m.n_experts_used = n_experts_used;
    char own_name[64];
    snprintf(own_name, sizeof own_name, "vulkan_small_%s_%u", name, n_experts_used);
    m.name = own_name;
    m.vocabulary = NULL;
    m.n_vocab = 512;
    m.type = GGML_TYPE_F16;
    m.embedding_type = GGML_TYPE_F32;
    if (m.window != 0) m.window = 32; /* within the prompt */
    static const uint8_t windows[4] = {1, 0, 1, 1};
    if (m.n_layers > 4 && m.window != 0) m.window_layers = windows;
    if (m.n_layers > 4) m.n_layers = 4;
    outcome o = decode_on_both(&m, N_SHORT_PROMPT, N_GREEDY, tolerance);
    printf("%-11s %-11s Vulkan: first logits differ by at most %.4f, all by %.4f, %u steps beyond %.2f; %u of %d greedy tokens equal%s\n", name, m.architecture,
           o.first, o.difference, o.beyond, tolerance, o.equal, N_GREEDY, n_experts_used != 0 ? " (all experts)" : "");
    assert_true(o.beyond <= (chooses ? N_BEYOND_MAX : 0));
    assert_true(o.equal >= N_GREEDY - 3);
}

static void family_llama(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("llama", 0); }
static void family_llama3(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("llama3", 0); }
static void family_mixtral(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("mixtral", 0); }
static void family_mixtral_with_all_experts(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("mixtral", 4); }
static void family_qwen2(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("qwen2", 0); }
static void family_qwen3(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("qwen3", 0); }
static void family_qwen3moe(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("qwen3moe", 0); }
static void family_qwen3moe_with_all_experts(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("qwen3moe", 8); }
static void family_gemma2(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("gemma2", 0); }
static void family_gemma3(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("gemma3", 0); }
static void family_phi3(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("phi3", 0); }
static void family_granite(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("granite", 0); }
static void family_olmo2(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("olmo2", 0); }
static void family_smollm3(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("smollm3", 0); }
static void family_starcoder2(void **state) { (void)state; a_family_on_vulkan_is_as_on_the_cpu("starcoder2", 0); }

static void f32_on_vulkan_is_as_on_the_cpu(void **state) { (void)state; vulkan_decodes_as_the_cpu("grouped_three_f32", 0.05); }
static void q8_on_vulkan_is_as_on_the_cpu(void **state) { (void)state; vulkan_decodes_as_the_cpu("grouped_q8", 0.15); }
static void windows_on_vulkan_are_as_on_the_cpu(void **state) { (void)state; vulkan_decodes_as_the_cpu("window_q8", 0.5); }

static void q8_rows_on_vulkan_are_host_pages_that_forks_share(void **state) {
    (void)state;
    if (vulkan == NULL) skip();
    int32_t tokens[N_PROMPT], other[30];
    make_tokens(tokens, N_PROMPT, 2);
    make_tokens(other, 30, 3);
    dw_model *model = open_on(vulkan, "grouped_q8");
    assert_int_equal(dw_model_info_view(model)->weights_copied_bytes, 0);
    dw_session *parent = new_session(model), *fresh = new_session(model), *child = NULL;
    forward(parent, tokens, N_PROMPT, NULL);
    const uint16_t *rows = NULL;
    uint64_t bytes = 0;
    assert_int_equal(dw_session_kv_view(parent, 1, 0, (const void **)&rows, &bytes), DW_OK);
    uint32_t zeros = 0;
    for (uint64_t i = 0; i < bytes / 2; i++) zeros += rows[i] == 0;
    assert_true(zeros < bytes / 200); /* the device wrote into the host's pages */
    assert_int_equal(dw_session_fork(parent, &child, NULL), DW_OK);
    forward(parent, other, 30, NULL);
    forward(child, tokens, 5, NULL);
    greedy(child, 10);
    forward(fresh, tokens, N_PROMPT, NULL);
    forward(fresh, tokens, 5, NULL);
    greedy(fresh, 10);
    assert_memory_equal(tail(child, 15), tail(fresh, 15), 15 * sizeof(int32_t));
    /* Back into what the child stands on: the parent's slot is mapped and wrapped anew. */
    assert_int_equal(dw_session_rewind(parent, 60, NULL), DW_OK);
    forward(parent, other, 30, NULL);
    greedy(child, 10);
    greedy(fresh, 10);
    assert_memory_equal(tail(child, 10), tail(fresh, 10), 10 * sizeof(int32_t));
    dw_session_destroy(parent);
    dw_session_destroy(child);
    dw_session_destroy(fresh);
    dw_model_close(model);
}

/* Three sessions of unequal length, each with its own buffer of rows, one batch of steps of unequal size: as one after the other. */
static void batch_on_vulkan_is_what_its_parts_are(void **state) {
    (void)state;
    if (vulkan == NULL) skip();
    enum { PARTS = 3, STEPS = 3, VOCAB = 512 };
    static float alone[PARTS][VOCAB], together[PARTS][VOCAB];
    int32_t tokens[N_PROMPT];
    make_tokens(tokens, N_PROMPT, 9);
    dw_model *model = open_on(vulkan, "grouped_q8");
    dw_session *one[PARTS], *many[PARTS];
    double largest = 0, value = 0;
    for (uint32_t p = 0; p < PARTS; p++) {
        one[p] = new_session(model);
        forward(one[p], tokens + p, 20 + 40 * p, NULL);
        assert_int_equal(dw_session_fork(one[p], &many[p], NULL), DW_OK);
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        dw_row_request rows[PARTS];
        dw_job jobs[PARTS];
        dw_batch_job batch[PARTS];
        for (uint32_t p = 0; p < PARTS; p++) {
            uint32_t n = step == 1 ? 1 + p : 1;
            forward(one[p], tokens + 100 + step, n, alone[p]);
            rows[p] = (dw_row_request){.index = DW_ROW_LAST, .logits = together[p]};
            jobs[p] = (dw_job){.kind = DW_JOB_FORWARD, .session = many[p], .tokens = tokens + 100 + step, .n_tokens = n, .rows = &rows[p], .n_rows = 1};
            assert_int_equal(dw_job_begin(&jobs[p], NULL), DW_OK);
            batch[p] = (dw_batch_job){.job = &jobs[p], .progress = DW_JOB_MORE};
        }
        assert_true(dw_batch_step(batch, PARTS, &(dw_batch_options){0}));
        for (uint32_t p = 0; p < PARTS; p++) {
            assert_int_equal(batch[p].progress, DW_JOB_DONE);
            if (dw_job_end(&jobs[p]) != DW_OK) fail_msg("%s", jobs[p].error.text);
            assert_int_equal(jobs[p].copied_bytes, VOCAB * sizeof(float)); /* I1: beside others, so counted */
            double d = largest_difference(alone[p], together[p], VOCAB, &value);
            largest = d > largest ? d : largest;
        }
    }
    printf("batch on vulkan: differs by at most %g\n", largest);
    assert_true(value > 0.1 && largest < 0.05);
    for (uint32_t p = 0; p < PARTS; p++) {
        dw_session_destroy(one[p]);
        dw_session_destroy(many[p]);
    }
    dw_model_close(model);
}

/* With a limit that the embedding exceeds, rows are looked up on the host and the output is used in parts. */
static void a_split_head_gives_the_same(dw_device *device, double tolerance) {
    if (device == NULL) skip();
    static float whole[512], split[512];
    double value;
    int32_t tokens[N_PROMPT];
    make_tokens(tokens, N_PROMPT, 4);
    float *const results[2] = {whole, split};
    dw_device_info *info = (dw_device_info *)(uintptr_t)dw_device_info_view(device); /* the test plays a smaller device */
    uint64_t real_limit = info->tensor_bytes_max;
    for (int i = 0; i < 2; i++) {
        info->tensor_bytes_max = i == 0 ? real_limit : 120000; /* the embedding has 131,072 bytes */
        dw_model *model = open_on(device, "tied_f16");
        dw_session *session = new_session(model);
        forward(session, tokens, N_PROMPT - 1, NULL);
        forward(session, tokens + N_PROMPT - 1, 1, results[i]);
        dw_session_destroy(session);
        dw_model_close(model);
    }
    info->tensor_bytes_max = real_limit;
    double d = largest_difference(whole, split, 512, &value);
    printf("split head: differs by at most %g\n", d);
    assert_true(value > 0.1 && d <= tolerance);
}

static void split_head_on_the_cpu_is_equal(void **state) { (void)state; a_split_head_gives_the_same(cpu, 0); }
static void split_head_on_vulkan_is_equal(void **state) { (void)state; a_split_head_gives_the_same(vulkan, 0.01); }

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    dw_error err = {0};
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &cpu, &err) != DW_OK) return 1;
    if (dw_device_open("vulkan", NULL, &vulkan, &err) != DW_OK) printf("without Vulkan: %s\n", err.text);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_head_on_the_cpu_is_equal),
        cmocka_unit_test(f32_on_vulkan_is_as_on_the_cpu),
        cmocka_unit_test(q8_on_vulkan_is_as_on_the_cpu),
        cmocka_unit_test(windows_on_vulkan_are_as_on_the_cpu),
        cmocka_unit_test(q8_rows_on_vulkan_are_host_pages_that_forks_share),
        cmocka_unit_test(split_head_on_vulkan_is_equal),
        cmocka_unit_test(batch_on_vulkan_is_what_its_parts_are),
        cmocka_unit_test(family_llama),
        cmocka_unit_test(family_llama3),
        cmocka_unit_test(family_mixtral),
        cmocka_unit_test(family_mixtral_with_all_experts),
        cmocka_unit_test(family_qwen2),
        cmocka_unit_test(family_qwen3),
        cmocka_unit_test(family_qwen3moe),
        cmocka_unit_test(family_qwen3moe_with_all_experts),
        cmocka_unit_test(family_gemma2),
        cmocka_unit_test(family_gemma3),
        cmocka_unit_test(family_phi3),
        cmocka_unit_test(family_granite),
        cmocka_unit_test(family_olmo2),
        cmocka_unit_test(family_smollm3),
        cmocka_unit_test(family_starcoder2),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(vulkan);
    dw_device_close(cpu);
    return failed;
}

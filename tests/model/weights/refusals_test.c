/* Files that the decoder must refuse, by name. libllama says of each whether it could be loaded at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gguf.h"
#include "model/weights/weights.h"
#include "model/kit/make_model.h"
#include "model/engine/engine.h"
#include "model/kit/oracle.h"

static dw_device *device;
static char path[1024];

/* Opens the file at `path`; what was refused says why. */
static dw_status open_there(dw_error *err) {
    dw_model *model = NULL;
    dw_model_options options = {.context_tokens = 256, .sessions_max = 1};
    *err = (dw_error){0};
    dw_status status = dw_model_open(path, device, &options, &model, err);
    dw_model_close(model);
    return status;
}

static dw_status open_made(const made_model *m, dw_error *err) {
    assert_true(made_model_write(m, path));
    return open_there(err);
}

/* The family's model with a small vocabulary and two layers. */
static made_model small(const made_model *of) {
    made_model m = *of;
    m.vocabulary = NULL;
    m.embedding_type = GGML_TYPE_F32;
    m.n_vocab = 512;
    m.type = GGML_TYPE_Q8_0;
    m.n_layers = 2;
    return m;
}

static void a_missing_tensor_is_refused_by_name(void **state) {
    (void)state;
    uint32_t n_refused = 0, n_loaded = 0;
    for (const made_model *m = made_families; m->name != NULL; m++) {
        made_model whole = small(m);
        dw_error err;
        if (open_made(&whole, &err) != DW_OK) fail_msg("%s: %s", m->name, err.text);
        struct gguf_context *file = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = true});
        assert_non_null(file);
        for (int64_t i = 0; i < gguf_get_n_tensors(file); i++) {
            made_model without = whole;
            without.omit = gguf_get_tensor_name(file, i);
            if (strncmp(without.omit, "blk.0.", 6) == 0) continue; /* as in layer 1 */
            dw_status status = open_made(&without, &err);
            /* libllama loads these too; it then goes on without one of the two sets of factors or the experts' gates, or crashes. */
            bool stricter = strncmp(without.omit, "rope_factors_", 13) == 0 || strstr(without.omit, "ffn_gate_exps") != NULL ||
                            strstr(without.omit, "attn_qkv") != NULL;
            bool loads = oracle_loads(path) && !stricter;
            if (loads != (status == DW_OK)) fail_msg("%s without %s: libllama %s it; here: %s", m->name, without.omit, loads ? "loads" : "refuses", err.text);
            const char *what = strncmp(without.omit, "blk.1.", 6) == 0 ? without.omit + 6 : without.omit;
            if (!loads && strstr(err.text, what) == NULL) fail_msg("%s without %s: %s", m->name, without.omit, err.text);
            if (loads) n_loaded++;
            else n_refused++;
        }
        gguf_free(file);
    }
    printf("%u models without a tensor refused by its name, %u loaded without an optional one\n", n_refused, n_loaded);
    assert_true(n_refused > 100 && n_loaded > 5);
}

static void expect(dw_status status, dw_status wanted, const dw_error *err, const char *part) {
    if (status != wanted || strstr(err->text, part) == NULL) fail_msg("\"%s\" (%d) does not say \"%s\" (%d)", err->text, status, part, wanted);
}

static void a_tensor_without_a_place_is_refused_by_name(void **state) {
    (void)state;
    dw_error err;
    made_model m = small(made_model_named("qwen3"));
    m.extra = "blk.1.attn_sinks.weight";
    expect(open_made(&m, &err), DW_E_UNSUPPORTED, &err, "blk.1.attn_sinks.weight");
}

static void another_architecture_is_refused_with_the_list(void **state) {
    (void)state;
    dw_error err;
    made_model m = small(made_model_named("llama"));
    m.architecture = "mamba2";
    expect(open_made(&m, &err), DW_E_UNSUPPORTED, &err, "\"mamba2\"");
    for (size_t i = 0; dw_family_at(i) != NULL; i++) {
        char listed[64];
        snprintf(listed, sizeof listed, dw_family_at(i + 1) != NULL ? " %s," : " %s", dw_family_at(i)->architecture);
        expect(DW_E_UNSUPPORTED, DW_E_UNSUPPORTED, &err, listed);
    }
    static const char last[] = "starcoder2, and bert for embeddings";
    const char *end = err.text + strlen(err.text) - strlen(last);
    assert_string_equal(end, last); /* the list ends with its last row: it was not cut off */
}

/* --- keys ---------------------------------------------------------------------------------------------------- */

static void set_unequal_kv(struct gguf_context *f) {
    gguf_set_arr_data(f, "llama.attention.head_count_kv", GGUF_TYPE_UINT32, (const uint32_t[2]){2, 1}, 2);
}
static void set_short_array(struct gguf_context *f) { gguf_set_arr_data(f, "llama.feed_forward_length", GGUF_TYPE_UINT32, (const uint32_t[1]){512}, 1); }
static void set_zero_heads(struct gguf_context *f) { gguf_set_arr_data(f, "llama.attention.head_count", GGUF_TYPE_UINT32, (const uint32_t[2]){4, 0}, 2); }
static void set_unknown_scaling(struct gguf_context *f) { gguf_set_val_str(f, "llama.rope.scaling.type", "dynamic"); }
static void set_longrope_without_factors(struct gguf_context *f) { gguf_set_val_str(f, "llama.rope.scaling.type", "longrope"); }
static void set_longrope_of_qwen2(struct gguf_context *f) { gguf_set_val_str(f, "qwen2.rope.scaling.type", "longrope"); }
static void set_experts_of_qwen2(struct gguf_context *f) { gguf_set_val_u32(f, "qwen2.expert_count", 8); }
static void set_too_many_used(struct gguf_context *f) { gguf_set_val_u32(f, "llama.expert_used_count", 5); }
static void remove_used(struct gguf_context *f) { gguf_remove_key(f, "llama.expert_used_count"); }
static void remove_experts(struct gguf_context *f) { gguf_remove_key(f, "qwen3moe.expert_count"); }
static void remove_logit_scale(struct gguf_context *f) { gguf_remove_key(f, "granite.logit_scale"); }
static void remove_epsilon(struct gguf_context *f) { gguf_remove_key(f, "starcoder2.attention.layer_norm_epsilon"); }
static void set_short_pattern(struct gguf_context *f) {
    gguf_set_arr_data(f, "gemma2.attention.sliding_window_pattern", GGUF_TYPE_BOOL, (const uint8_t[1]){1}, 1);
}
static void set_text_pattern(struct gguf_context *f) {
    const char *texts[2] = {"a", "b"};
    gguf_set_arr_str(f, "gemma2.attention.sliding_window_pattern", texts, 2);
}

static void what_cannot_be_is_refused_by_key(void **state) {
    (void)state;
    static const struct { const char *of; void (*edit)(struct gguf_context *); dw_status status; const char *said; } rows[] = {
        {"llama", set_unequal_kv, DW_E_UNSUPPORTED, "llama.attention.head_count_kv differs"},
        {"llama", set_short_array, DW_E_FORMAT, "llama.feed_forward_length has 1 values for 2 layers"},
        {"llama", set_zero_heads, DW_E_FORMAT, "llama.attention.head_count is 0 for layer 1"},
        {"llama", set_unknown_scaling, DW_E_UNSUPPORTED, "llama.rope.scaling.type: rope scaling \"dynamic\""},
        {"llama", set_longrope_without_factors, DW_E_FORMAT, "rope_factors_short.weight is missing"},
        {"qwen2", set_longrope_of_qwen2, DW_E_UNSUPPORTED, "rope scaling \"longrope\" is not supported for qwen2"},
        {"qwen2", set_experts_of_qwen2, DW_E_UNSUPPORTED, "qwen2.expert_count"},
        {"mixtral", set_too_many_used, DW_E_FORMAT, "llama.expert_used_count is 5, allowed are 1 to 4"},
        {"mixtral", remove_used, DW_E_FORMAT, "llama.expert_used_count is missing"},
        {"qwen3moe", remove_experts, DW_E_FORMAT, "qwen3moe.expert_count is missing"},
        {"granite", remove_logit_scale, DW_E_FORMAT, "granite.logit_scale is missing"},
        {"starcoder2", remove_epsilon, DW_E_FORMAT, "starcoder2.attention.layer_norm_epsilon is missing"},
        {"gemma2", set_short_pattern, DW_E_FORMAT, "gemma2.attention.sliding_window_pattern has 1 values"},
        {"gemma2", set_text_pattern, DW_E_FORMAT, "gemma2.attention.sliding_window_pattern"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        made_model m = small(made_model_named(rows[i].of));
        dw_error err;
        m.edit = rows[i].edit;
        expect(open_made(&m, &err), rows[i].status, &err, rows[i].said);
    }
}

static void a_type_that_holds_no_weights_is_refused(void **state) {
    (void)state;
    dw_error err;
    made_model m = small(made_model_named("llama"));
    m.type = GGML_TYPE_F32;
    assert_true(made_model_write(&m, path));
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    char head[65536];
    size_t n = fread(head, 1, sizeof head, file), at = 0;
    static const char name[] = "blk.0.attn_q.weight";
    while (at + sizeof name + 24 < n && memcmp(head + at, name, sizeof name - 1) != 0) at++;
    long type_at = (long)(at + sizeof name - 1 + 4 + 16); /* behind the number of dimensions and two dimensions */
    const int32_t type = GGML_TYPE_I32;                   /* as large as F32 */
    assert_int_equal(fseek(file, type_at, SEEK_SET), 0);
    assert_int_equal(fwrite(&type, sizeof type, 1, file), 1);
    fclose(file);
    expect(open_there(&err), DW_E_UNSUPPORTED, &err, "tensor blk.0.attn_q.weight is i32");
}

/* --- damage -------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t next_random(void) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return random_state >> 33;
}

static uint8_t *read_whole(size_t *size) {
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(*size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

static size_t find(const uint8_t *bytes, size_t size, const char *text) {
    size_t at = 0, length = strlen(text);
    while (at + length < size && memcmp(bytes + at, text, length) != 0) at++;
    assert_true(at + length < size);
    return at;
}

/* What opens must also run. */
static bool opens_and_runs(void) {
    dw_model *model = NULL;
    dw_session *session = NULL;
    dw_error err = {0};
    dw_model_options options = {.context_tokens = 256, .sessions_max = 1};
    if (dw_model_open(path, device, &options, &model, &err) != DW_OK) {
        assert_true(err.text[0] != 0);
        return false;
    }
    const int32_t token = 0;
    float *logits = malloc(dw_model_info_view(model)->n_vocab * sizeof logits[0]);
    assert_non_null(logits);
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    dw_row_request row = {.index = DW_ROW_LAST, .logits = logits};
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = &token, .n_tokens = 1, .rows = &row, .n_rows = 1};
    assert_int_equal(dw_job_run(&job, &err), DW_OK);
    dw_session_destroy(session);
    dw_model_close(model);
    free(logits);
    return true;
}

/* Keys and tensor descriptions with a number changed: refused, or a model that runs. The sanitizers watch. */
static void damaged_keys_and_tensors_are_refused_or_run(void **state) {
    (void)state;
    static const uint32_t numbers[] = {0, 1, 2, 3, 5, 64, 255, 256, 257, 512, 65536, 0x7fffffffu, 0x80000000u, 0xffffffffu};
    enum { N_EACH = 60 };
    uint32_t opened = 0, refused = 0;
    random_state = 20261125;
    for (const made_model *m = made_families; m->name != NULL; m++) {
        made_model whole = small(m);
        size_t size = 0;
        whole.n_vocab = 300;
        assert_true(made_model_write(&whole, path));
        uint8_t *bytes = read_whole(&size);
        size_t begin = find(bytes, size, "general.architecture"), end = find(bytes, size, "blk.1.") + 200;
        for (int i = 0; i < N_EACH; i++) {
            uint32_t before, number = numbers[next_random() % (sizeof numbers / sizeof numbers[0])];
            size_t at = begin + next_random() % (end - begin);
            memcpy(&before, bytes + at, sizeof before);
            if (next_random() % 2) memcpy(bytes + at, &number, sizeof number);
            else bytes[at] = (uint8_t)next_random();
            FILE *file = fopen(path, "wb");
            assert_non_null(file);
            assert_int_equal(fwrite(bytes, 1, size, file), size);
            fclose(file);
            if (opens_and_runs()) opened++;
            else refused++;
            memcpy(bytes + at, &before, sizeof before);
        }
        free(bytes);
    }
    printf("%u damaged files refused, %u opened and ran\n", refused, opened);
    assert_true(refused > 100 && opened > 10);
}

int main(int argc, char **argv) {
    if (argc > 1) cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_missing_tensor_is_refused_by_name),
        cmocka_unit_test(a_tensor_without_a_place_is_refused_by_name),
        cmocka_unit_test(another_architecture_is_refused_with_the_list),
        cmocka_unit_test(what_cannot_be_is_refused_by_key),
        cmocka_unit_test(a_type_that_holds_no_weights_is_refused),
        cmocka_unit_test(damaged_keys_and_tensors_are_refused_or_run),
    };
    setvbuf(stdout, NULL, _IOLBF, 0);
    snprintf(path, sizeof path, "%s/refused.gguf", DW_TEST_BUILD);
    dw_error err = {0};
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, &err) != DW_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    remove(path);
    return failed;
}

/* split_test.c: a model in several files is the model. The files are made with ggml's own writer, as gguf-split makes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gguf.h"
#include "model/kit/make_model.h"
#include "model/engine/engine.h"
#include "os/os.h"

enum { PARTS_MAX = 5, PATH_BYTES = 600, N_TOKENS = 70 };

static dw_device *device;
static char folder[PATH_BYTES / 2];

static int set_up(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/split.%llu", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    if (dw_os_make_folders(folder, NULL) != DW_OK) return 1;
    return dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, NULL) == DW_OK ? 0 : 1;
}

static int tear_down(void **state) {
    (void)state;
    dw_device_close(device);
    return remove(folder);
}

static void part_path(char out[PATH_BYTES], uint32_t number, uint32_t count) {
    (void)snprintf(out, PATH_BYTES, "%s/m-%05u-of-%05u.gguf", folder, number, count);
}

/* Tensors [first, end) of `whole` as part `index`; the first part has all keys. */
static void write_part(const struct gguf_context *whole, struct ggml_context *tensors, uint32_t index, uint32_t count, int64_t first, int64_t end) {
    char path[PATH_BYTES];
    struct gguf_context *part = gguf_init_empty();
    if (index == 0) gguf_set_kv(part, whole);
    gguf_set_val_u16(part, "split.no", (uint16_t)index);
    gguf_set_val_u16(part, "split.count", (uint16_t)count);
    gguf_set_val_i32(part, "split.tensors.count", (int32_t)gguf_get_n_tensors(whole));
    for (int64_t i = first; i < end; i++) gguf_add_tensor(part, ggml_get_tensor(tensors, gguf_get_tensor_name(whole, i)));
    part_path(path, index + 1, count);
    assert_true(gguf_write_to_file(part, path, false));
    gguf_free(part);
}

/* Splits evenly; with `keys_alone` the first part has no tensors. */
static void split(const char *path, uint32_t count, bool keys_alone) {
    struct ggml_context *tensors = NULL;
    struct gguf_context *whole = gguf_init_from_file(path, (struct gguf_init_params){.no_alloc = false, .ctx = &tensors});
    assert_non_null(whole);
    int64_t n = gguf_get_n_tensors(whole), shares = keys_alone ? count - 1 : count, done = 0;
    for (uint32_t i = 0; i < count; i++) {
        int64_t share = keys_alone && i == 0 ? 0 : i + 1 == count ? n - done : n / shares;
        write_part(whole, tensors, i, count, done, done + share);
        done += share;
    }
    gguf_free(whole);
    ggml_free(tensors);
}

static void remove_parts(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        char path[PATH_BYTES];
        part_path(path, i + 1, count);
        assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    }
}

static dw_model *open_model(const char *path) {
    dw_model *model = NULL;
    dw_error err = {0};
    if (dw_model_open(path, device, &(dw_model_options){.context_tokens = 256, .sessions_max = 1}, &model, &err) != DW_OK) fail_msg("%s", err.text);
    return model;
}

/* Logits behind N_TOKENS tokens; the caller frees them. */
static float *logits_of(dw_model *model) {
    int32_t tokens[N_TOKENS];
    dw_session *session = NULL;
    dw_error err = {0};
    uint32_t n_vocab = dw_model_info_view(model)->n_vocab;
    float *logits = malloc(n_vocab * sizeof logits[0]);
    assert_non_null(logits);
    for (int32_t i = 0; i < N_TOKENS; i++) tokens[i] = i * 37 % (int32_t)n_vocab;
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    dw_row_request last = {.index = DW_ROW_LAST, .logits = logits};
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = N_TOKENS, .rows = &last, .n_rows = 1};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    dw_session_destroy(session);
    return logits;
}

static void a_split_model_gives_the_same_logits(void **state) {
    (void)state;
    static const struct { const char *name; uint32_t count; bool keys_alone; } cases[] = {
        {"tied_f16", 2, false}, {"grouped_q8", 5, false}, {"window_q8", 3, false}, {"grouped_q8", 3, true}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char first[PATH_BYTES], path[PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s", made_model_path(made_model_named(cases[i].name)));
        split(path, cases[i].count, cases[i].keys_alone);
        part_path(first, 1, cases[i].count);
        dw_model *whole = open_model(path), *parts = open_model(first);
        const dw_model_info *a = dw_model_info_view(whole), *b = dw_model_info_view(parts);
        float *expected = logits_of(whole), *logits = logits_of(parts);
        assert_memory_equal(logits, expected, a->n_vocab * sizeof logits[0]);
        assert_int_equal(dw_vocab_wait(dw_model_vocab(parts), NULL), DW_OK);
        assert_int_equal(b->n_parts, cases[i].count);
        assert_int_equal(a->n_parts, 1);
        assert_int_equal(a->n_parameters, b->n_parameters);
        assert_int_equal(a->weights_wrapped_bytes, b->weights_wrapped_bytes); /* I1: every part is mapped, none copied */
        assert_int_equal(b->weights_copied_bytes, 0);
        assert_true(b->file_bytes > a->weights_wrapped_bytes);
        free(expected);
        free(logits);
        dw_model_close(whole);
        dw_model_close(parts);
        remove_parts(cases[i].count);
    }
}

static dw_model_fingerprint fingerprint_of(const char *path, dw_fingerprint_kind kind) {
    dw_model_fingerprint print;
    dw_error err = {0};
    dw_model *model = open_model(path);
    if (dw_model_fingerprint_of(model, kind, &print, &err) != DW_OK) fail_msg("%s", err.text);
    dw_model_close(model);
    return print;
}

static void flip_bit(const char *path, size_t from_end) {
    uint8_t *bytes = NULL;
    size_t size = 0;
    assert_int_equal(dw_os_read_file(path, 1 << 28, &bytes, &size, NULL), DW_OK);
    bytes[size - from_end] ^= 1;
    assert_int_equal(dw_os_write_file(path, bytes, size, NULL), DW_OK);
    free(bytes);
}

static void the_fingerprint_is_of_the_tensors_however_they_are_split(void **state) {
    (void)state;
    enum { COUNT = 3 };
    char first[PATH_BYTES], last[PATH_BYTES], path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s", made_model_path(made_model_named("tied_f16")));
    split(path, COUNT, false);
    part_path(first, 1, COUNT);
    part_path(last, COUNT, COUNT);
    dw_model_fingerprint whole = fingerprint_of(path, DW_FINGERPRINT_TENSORS), parts = fingerprint_of(first, DW_FINGERPRINT_TENSORS);
    assert_memory_equal(&whole, &parts, sizeof whole);
    flip_bit(last, 33); /* of the last part's last weight */
    dw_model_fingerprint changed = fingerprint_of(first, DW_FINGERPRINT_TENSORS);
    assert_false(dw_hash_equal(&changed.weights, &parts.weights));
    assert_true(dw_hash_equal(&changed.tokenizer, &parts.tokenizer));
    assert_true(dw_hash_equal(&changed.hyperparameters, &parts.hyperparameters));
    remove_parts(COUNT);
}

/* What checkpoints of versions 1 and 2 compare with: of one file SHA-256 of it, as sha256sum gives. */
static void the_older_fingerprint_is_of_whole_files(void **state) {
    (void)state;
    enum { COUNT = 3 };
    char first[PATH_BYTES], path[PATH_BYTES];
    uint8_t *bytes = NULL;
    size_t size = 0;
    dw_hash file;
    (void)snprintf(path, sizeof path, "%s", made_model_path(made_model_named("tied_f16")));
    split(path, COUNT, false);
    part_path(first, 1, COUNT);
    dw_model_fingerprint whole = fingerprint_of(path, DW_FINGERPRINT_FILES), parts = fingerprint_of(first, DW_FINGERPRINT_FILES);
    assert_int_equal(dw_os_read_file(path, 1 << 28, &bytes, &size, NULL), DW_OK);
    assert_int_equal(dw_hash_of(bytes, size, &file), DW_OK);
    free(bytes);
    assert_true(dw_hash_equal(&whole.weights, &file));
    assert_false(dw_hash_equal(&whole.weights, &parts.weights));
    assert_true(dw_hash_equal(&whole.tokenizer, &parts.tokenizer));
    remove_parts(COUNT);
}

/* The place of a text in the file's keys. */
static uint8_t *find_text(uint8_t *bytes, size_t size, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= size; i++) {
        if (memcmp(bytes + i, text, n) == 0) return bytes + i;
    }
    fail_msg("the model has no %s", text);
    return NULL;
}

static void a_name_may_change_and_a_token_may_not(void **state) {
    (void)state;
    char path[PATH_BYTES], other[PATH_BYTES];
    uint8_t *bytes = NULL;
    size_t size = 0;
    (void)snprintf(path, sizeof path, "%s", made_model_path(made_model_named("tied_f16")));
    (void)snprintf(other, sizeof other, "%s.other", path);
    dw_model_fingerprint before = fingerprint_of(path, DW_FINGERPRINT_TENSORS);
    assert_int_equal(dw_os_read_file(path, 1 << 28, &bytes, &size, NULL), DW_OK);

    uint8_t *name = find_text(bytes, size, "general.name") + strlen("general.name") + 4 + 8; /* behind type and length */
    name[0] ^= 1;
    assert_int_equal(dw_os_write_file(other, bytes, size, NULL), DW_OK);
    dw_model_fingerprint renamed = fingerprint_of(other, DW_FINGERPRINT_TENSORS), old = fingerprint_of(other, DW_FINGERPRINT_FILES);
    assert_memory_equal(&before, &renamed, sizeof before);
    assert_false(dw_hash_equal(&old.weights, &before.weights));
    name[0] ^= 1;

    uint8_t *tokens = find_text(bytes, size, "tokenizer.ggml.token_type") + strlen("tokenizer.ggml.token_type") + 4 + 4 + 8;
    tokens[4 * 300] ^= 4; /* a normal token (1) becomes a user's own (5) */
    assert_int_equal(dw_os_write_file(other, bytes, size, NULL), DW_OK);
    dw_model_fingerprint retyped = fingerprint_of(other, DW_FINGERPRINT_TENSORS);
    assert_false(dw_hash_equal(&retyped.tokenizer, &before.tokenizer));
    assert_true(dw_hash_equal(&retyped.weights, &before.weights));
    free(bytes);
    assert_int_equal(dw_os_remove(other, NULL), DW_OK);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_split_model_gives_the_same_logits),
        cmocka_unit_test(the_fingerprint_is_of_the_tensors_however_they_are_split),
        cmocka_unit_test(the_older_fingerprint_is_of_whole_files),
        cmocka_unit_test(a_name_may_change_and_a_token_may_not),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

/* blob_test.c: a state as one blob is what it was, and whatever is wrong with a blob is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/test.h"
#include "checkpoint/drift_kit.h"

static dw_error err;

static void assert_same_state(const dw_checkpoint_state *a, const dw_checkpoint_state *b) {
    assert_string_equal(a->actor_name, b->actor_name);
    assert_memory_equal(&a->program, &b->program, sizeof a->program);
    assert_int_equal(a->turn, b->turn);
    assert_int_equal(a->memory_bytes, b->memory_bytes);
    assert_int_equal(a->has_parent, b->has_parent);
    assert_memory_equal(&a->wasi, &b->wasi, sizeof a->wasi);
    assert_int_equal(a->n_globals, b->n_globals);
    if (a->n_globals > 0) assert_memory_equal(a->globals, b->globals, a->n_globals * sizeof *a->globals);
    assert_int_equal(a->n_tables, b->n_tables);
    for (size_t i = 0; i < a->n_tables; i++) {
        size_t n = a->tables[i].n_elements;
        assert_int_equal(n, b->tables[i].n_elements);
        if (n > 0) assert_memory_equal(a->tables[i].elements, b->tables[i].elements, n * sizeof(int32_t));
    }
    assert_int_equal(a->mailbox_bytes, b->mailbox_bytes);
    if (a->mailbox_bytes > 0) assert_memory_equal(a->mailbox, b->mailbox, (size_t)a->mailbox_bytes);
    assert_int_equal(a->actor_bytes, b->actor_bytes);
    if (a->actor_bytes > 0) assert_memory_equal(a->actor, b->actor, (size_t)a->actor_bytes);
    assert_int_equal(a->n_sessions, b->n_sessions);
    for (size_t i = 0; i < a->n_sessions; i++) {
        const dw_checkpoint_session *one = &a->sessions[i], *two = &b->sessions[i];
        assert_int_equal(one->handle, two->handle);
        assert_memory_equal(&one->model, &two->model, sizeof one->model);
        assert_int_equal(one->n_tokens, two->n_tokens);
        assert_int_equal(one->n_rows, two->n_rows);
        assert_int_equal(one->n_prefilled, two->n_prefilled);
        assert_int_equal(one->kv_type, two->kv_type);
        assert_memory_equal(&one->sampler, &two->sampler, sizeof one->sampler);
    }
}

static void a_state_comes_back_as_it_was(void **unused) {
    (void)unused;
    uint64_t seed = test_seed(dw_os_monotonic_ns());
    for (int i = 0; i < 60; i++) {
        kit_state kit;
        uint8_t *bytes = NULL;
        size_t size = 0;
        dw_blob *blob = NULL;
        kit_random_state(&kit, &seed);
        if (dw_blob_encode(&kit.state, &bytes, &size, &err) != DW_OK) fail_msg("%s", err.text);
        if (dw_blob_decode(bytes, size, &blob, &err) != DW_OK) fail_msg("%s", err.text);
        free(bytes); /* the blob holds copies */
        assert_same_state(&kit.state, dw_blob_view(blob));
        dw_blob_free(blob);
        kit_deinit(&kit);
    }
}

static void no_part_of_a_blob_is_a_blob(void **unused) {
    (void)unused;
    kit_state kit;
    uint8_t *bytes = NULL;
    size_t size = 0;
    dw_blob *blob = NULL;
    kit_tables(&kit);
    if (dw_blob_encode(&kit.state, &bytes, &size, &err) != DW_OK) fail_msg("%s", err.text);
    for (size_t n = 0; n < size; n++) {
        dw_status status = dw_blob_decode(bytes, n, &blob, &err);
        assert_true(status == DW_E_TRUNCATED || status == DW_E_FORMAT);
        assert_null(blob);
    }
    uint8_t *longer = malloc(size + 1);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    assert_int_equal(dw_blob_decode(longer, size + 1, &blob, &err), DW_E_CORRUPT);
    longer[0]++;
    assert_int_equal(dw_blob_decode(longer, size, &blob, &err), DW_E_VERSION);
    free(longer);
    free(bytes);
    kit_deinit(&kit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_state_comes_back_as_it_was),
        cmocka_unit_test(no_part_of_a_blob_is_a_blob),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

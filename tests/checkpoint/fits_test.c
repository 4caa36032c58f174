/* fits_test.c: a session is taken to a model only when nothing about the two differs. The model is made of four functions here. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/checkpoint.h"

static const int32_t tokens[] = {1, 2, 99};
static dw_model_info info;
static dw_model_fingerprint fingerprint;
static dw_status fingerprint_status;
static dw_fingerprint_kind asked_kind;
static const char *profile;
static dw_model *const model = (dw_model *)&info; /* never looked into */

dw_status dw_model_fingerprint_of(dw_model *of, dw_fingerprint_kind kind, dw_model_fingerprint *out, dw_error *err) {
    assert_ptr_equal(of, model);
    asked_kind = kind;
    *out = fingerprint;
    return fingerprint_status == DW_OK ? DW_OK : dw_fail(err, fingerprint_status, "weights cannot be read");
}

const dw_model_info *dw_model_info_view(const dw_model *of) {
    assert_ptr_equal(of, model);
    return &info;
}

void dw_model_profile(const dw_model *of, char out[DW_PROFILE_BYTES]) {
    assert_ptr_equal(of, model);
    (void)snprintf(out, DW_PROFILE_BYTES, "%s", profile);
}

static dw_checkpoint_session matching_session(void) {
    info = (dw_model_info){.n_layers = 18, .n_heads_kv = 1, .head_dim = 256, .n_vocab = 100, .context_tokens = 3};
    fingerprint = (dw_model_fingerprint){.weights = {{1}}, .tokenizer = {{2}}, .hyperparameters = {{3}}};
    fingerprint_status = DW_OK;
    profile = "build=1;threads=2";
    return (dw_checkpoint_session){.handle = 65537, .model = fingerprint, .profile = "build=1;threads=2", .n_tokens = 3, .n_rows = 3, .n_layers = 18,
                                   .n_heads_kv = 1, .head_dim = 256, .tokens = tokens};
}

static void assert_mismatch(const dw_checkpoint_session *session, const char *named) {
    dw_error err = {0};
    bool exact = true;
    assert_int_equal(dw_checkpoint_session_fits(session, model, &exact, &err), DW_E_MISMATCH);
    assert_false(exact);
    if (!strstr(err.text, "session.65537") || !strstr(err.text, named)) fail_msg("\"%s\" does not name %s", err.text, named);
}

static void the_same_model_and_profile_fit_exactly(void **unused) {
    (void)unused;
    dw_checkpoint_session session = matching_session();
    bool exact = false;
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_OK);
    assert_true(exact);
    assert_int_equal(asked_kind, DW_FINGERPRINT_TENSORS);
    session.fingerprint_kind = DW_FINGERPRINT_FILES; /* of an older file: compared with what it had then */
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_OK);
    assert_int_equal(asked_kind, DW_FINGERPRINT_FILES);
}

static void another_profile_fits_but_not_exactly(void **unused) {
    (void)unused;
    dw_checkpoint_session session = matching_session();
    bool exact = true;
    profile = "build=1;threads=3";
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_OK);
    assert_false(exact);
}

static void a_fast_session_is_never_exact(void **unused) {
    (void)unused;
    dw_checkpoint_session session = matching_session();
    bool exact = true;
    session.fast = true;
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_OK);
    assert_false(exact);
}

static void each_difference_is_refused_by_its_name(void **unused) {
    (void)unused;
    dw_checkpoint_session session = matching_session();
    fingerprint.weights.bytes[31] = 1;
    assert_mismatch(&session, "weights");
    session = matching_session();
    fingerprint.tokenizer.bytes[0] = 9;
    assert_mismatch(&session, "tokenizers");
    session = matching_session();
    fingerprint.hyperparameters.bytes[0] = 9;
    assert_mismatch(&session, "hyperparameters");
    session = matching_session();
    info.n_layers = 17;
    assert_mismatch(&session, "18 layers of 1x256");
    session = matching_session();
    info.n_heads_kv = 2;
    assert_mismatch(&session, "18 of 2x256");
    session = matching_session();
    info.head_dim = 128;
    assert_mismatch(&session, "1x128");
    session = matching_session();
    info.kv_type = DW_KV_Q8_0;
    assert_mismatch(&session, "KV rows differ: the checkpoint has F16, this model Q8_0");
    session = matching_session();
    info.context_tokens = 2;
    assert_mismatch(&session, "context of 2");
    session = matching_session();
    info.n_vocab = 99;
    assert_mismatch(&session, "token 2 is 99");
    session = matching_session();
    session.n_logits = 99;
    assert_mismatch(&session, "99 logits for a vocabulary of 100");
    session.n_logits = 100;
    bool exact = false;
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_OK);
}

static void a_model_without_a_fingerprint_gives_its_own_status(void **unused) {
    (void)unused;
    dw_checkpoint_session session = matching_session();
    bool exact = true;
    fingerprint_status = DW_E_IO;
    assert_int_equal(dw_checkpoint_session_fits(&session, model, &exact, NULL), DW_E_IO);
    assert_false(exact);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_model_and_profile_fit_exactly),
        cmocka_unit_test(another_profile_fits_but_not_exactly),
        cmocka_unit_test(a_fast_session_is_never_exact),
        cmocka_unit_test(each_difference_is_refused_by_its_name),
        cmocka_unit_test(a_model_without_a_fingerprint_gives_its_own_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

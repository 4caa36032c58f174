/* Perplexity of Gemma 3 270M on a text that is in the public domain (texts/alice.txt), beside libllama's own: every token's probability given those
 * before it, in windows of 512. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <math.h>

#include "model/engine/engine.h"
#include "model/kit/oracle.h"
#include "os/os.h"

enum { WINDOW = 512, TOKENS_MAX = 4096 };

/* Sum of ours over a window: log-probability of each token behind the first. */
static double window_ours(dw_model *model, const int32_t *tokens, uint32_t n) {
    dw_session *session = NULL;
    dw_error err = {0};
    double sum = 0;
    dw_row_request *rows = calloc(n, sizeof *rows);
    float *logprobs = calloc(n, sizeof *logprobs);
    assert_true(rows != NULL && logprobs != NULL);
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    for (uint32_t i = 0; i + 1 < n; i++) {
        rows[i] = (dw_row_request){.index = i, .candidates = &tokens[i + 1], .candidate_logprobs = &logprobs[i], .n_candidates = 1};
    }
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n, .rows = rows, .n_rows = n - 1};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
    for (uint32_t i = 0; i + 1 < n; i++) sum += (double)logprobs[i];
    dw_session_destroy(session);
    free(rows);
    free(logprobs);
    return sum;
}

static void perplexity_equals_libllamas(void **state) {
    (void)state;
    const char *path = getenv("DW_TEST_MODEL");
    if (path == NULL || path[0] == 0) skip();
    dw_device *device = NULL;
    dw_model *model = NULL;
    dw_error err = {0};
    uint8_t *text = NULL;
    size_t size = 0, n = 0;
    static int32_t tokens[TOKENS_MAX];
    assert_int_equal(dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, NULL), DW_OK);
    if (dw_model_open(path, device, &(dw_model_options){.context_tokens = WINDOW, .sessions_max = 2}, &model, &err) != DW_OK) fail_msg("%s", err.text);
    assert_int_equal(dw_os_read_file(DW_TEST_SOURCE "/tests/model/graph/texts/alice.txt", 1 << 20, &text, &size, NULL), DW_OK);
    assert_int_equal(dw_vocab_tokenize(dw_model_vocab(model), (const char *)text, size, false, false, tokens, TOKENS_MAX, &n, NULL), DW_OK);
    oracle *o = oracle_open(path, WINDOW, 1);
    assert_non_null(o);
    double ours = 0, theirs = 0;
    uint32_t predicted = 0;
    for (size_t at = 0; at + 1 < n; at += WINDOW - 1) {
        int32_t window[WINDOW];
        uint32_t some = n - at < WINDOW - 1 ? (uint32_t)(n - at) : WINDOW - 1;
        window[0] = dw_vocab_bos(dw_model_vocab(model));
        memcpy(window + 1, tokens + at, some * sizeof tokens[0]);
        ours += window_ours(model, window, some + 1);
        oracle_reset(o);
        theirs += oracle_log_likelihood(o, window, some + 1);
        predicted += some;
    }
    double a = exp(-ours / predicted), b = exp(-theirs / predicted);
    printf("perplexity over %u tokens: %.6f, libllama %.6f (%.5f %% apart)\n", predicted, a, b, fabs(a / b - 1) * 100);
    assert_true(a > 1 && fabs(a / b - 1) < 1e-4);
    free(text);
    oracle_close(o);
    dw_model_close(model);
    dw_device_close(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(perplexity_equals_libllamas)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

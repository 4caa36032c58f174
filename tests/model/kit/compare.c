/* compare.c */
#include "model/kit/compare.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model/kit/random.h"

void make_prompt(int32_t *tokens, uint32_t n, uint32_t n_vocab, int32_t begin, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t token = random_below(&seed, n_vocab);
        tokens[i] = i == 0 ? begin : (int32_t)token;
    }
}

double largest_difference(const float *a, const float *b, uint32_t n) {
    double largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        double d = (double)a[i] - (double)b[i];
        if (d < 0) d = -d;
        if (!(d <= largest)) largest = d; /* NaN becomes the result */
    }
    return largest;
}

static void run(dw_job *job) {
    dw_error err = {0};
    if (dw_job_run(job, &err) != DW_OK) fail_msg("%s", err.text);
}

static void evaluate(dw_session *session, const int32_t *tokens, uint32_t n, float *logits) {
    dw_row_request last = {.index = DW_ROW_LAST, .logits = logits};
    dw_job forward = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n, .rows = &last, .n_rows = logits != NULL};
    run(&forward);
    assert_int_equal(forward.n_evaluated, n);
}

/* Greedy tokens after the session's log, of which the first is known from the logits. */
static const int32_t *greedy(dw_session *session, int32_t first, uint32_t n_greedy) {
    uint32_t before = dw_session_rows(session), n_log = 0;
    dw_job generate = {.kind = DW_JOB_GENERATE, .session = session, .tokens = &first, .n_tokens = 1, .n_max = n_greedy - 1, .ignore_end = true,
                       .sampling = {.top_p = 1}};
    run(&generate);
    assert_int_equal(generate.end_reason, DW_END_LENGTH);
    const int32_t *log = dw_session_tokens(session, &n_log);
    assert_int_equal(n_log, before + n_greedy);
    return log + before;
}

comparison compare_with_oracle(dw_model *model, oracle *o, const int32_t *prompt, const uint32_t *parts, uint32_t n_parts, uint32_t n_greedy) {
    uint32_t n_vocab = dw_model_info_view(model)->n_vocab;
    float *logits = malloc(n_vocab * sizeof logits[0]);
    int32_t *theirs = malloc(n_greedy * sizeof theirs[0]);
    dw_session *session = NULL;
    const float *expected = NULL;
    assert_non_null(logits);
    assert_non_null(theirs);
    assert_int_equal(dw_model_create_session(model, NULL, &session, NULL), DW_OK);
    oracle_reset(o);
    for (uint32_t i = 0, done = 0; i < n_parts; done += parts[i++]) {
        evaluate(session, prompt + done, parts[i], i + 1 == n_parts ? logits : NULL);
        expected = oracle_evaluate(o, prompt + done, parts[i]);
    }
    comparison result = {.difference = largest_difference(logits, expected, n_vocab)};
    theirs[0] = oracle_argmax(expected, n_vocab);
    for (uint32_t i = 1; i < n_greedy; i++) theirs[i] = oracle_argmax(oracle_evaluate(o, &theirs[i - 1], 1), n_vocab);
    const int32_t *ours = greedy(session, oracle_argmax(logits, n_vocab), n_greedy);
    while (result.equal < n_greedy && ours[result.equal] == theirs[result.equal]) result.equal++;
    dw_session_destroy(session);
    free(theirs);
    free(logits);
    return result;
}

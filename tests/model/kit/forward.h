/* forward.h: opening a model and evaluating tokens, in one line each. What cannot be done fails the running test.
 * Include it behind <cmocka.h>. */
#ifndef DW_TESTS_MODEL_KIT_FORWARD_H
#define DW_TESTS_MODEL_KIT_FORWARD_H

#include "model/engine/engine.h"

static inline dw_model *open_model_on(dw_device *device, const char *path, const dw_model_options *options) {
    dw_model *model = NULL;
    dw_error err = {0};
    if (dw_model_open(path, device, options, &model, &err) != DW_OK) fail_msg("%s", err.text);
    return model;
}

/* Evaluates n tokens behind the session's log; logits of the last one, or NULL. */
static inline void forward(dw_session *session, const int32_t *tokens, uint32_t n, float *logits) {
    dw_error err = {0};
    dw_row_request last = {.index = DW_ROW_LAST, .logits = logits};
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = n, .rows = &last,
                  .n_rows = logits != NULL};
    if (dw_job_run(&job, &err) != DW_OK) fail_msg("%s", err.text);
}

#endif

/* open_fuzz.c: any bytes as a model file: dw_model_open refuses it with a reason, or the model can be evaluated. What only whole models have
 * is behind this: hyperparameters against tensors, vocabulary, arena, graphs, whose builders assert what they are given. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/engine/engine.h"
#include "os/os.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static dw_device *device;
static char path[512];

static void must(int truth, const char *what, const dw_error *err) {
    if (truth) return;
    fprintf(stderr, "model: %s: %s\n", what, err->text);
    abort();
}

static void remove_file(void) {
    if (dw_os_remove(path, NULL) != DW_OK) fprintf(stderr, "model: %s stays\n", path);
    dw_device_close(device);
    device = NULL; /* reached by nothing else: the leak check runs later */
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    dw_error err = {0};
    must(dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, &err) == DW_OK, "no device", &err);
    (void)snprintf(path, sizeof path, "%s/open_fuzz.%llu.gguf", DW_TEST_BUILD, (unsigned long long)dw_os_monotonic_ns());
    atexit(remove_file);
    return 0;
}

/* Not dw_os_write_file, which syncs. */
static bool write_file(const uint8_t *data, size_t size) {
    FILE *file = fopen(path, "wb");
    bool good = file != NULL && (size == 0 || fwrite(data, 1, size, file) == size);
    return file != NULL && fclose(file) == 0 && good;
}

static void evaluate(dw_model *model) {
    dw_session *session = NULL;
    dw_error err = {0};
    const int32_t tokens[2] = {0, (int32_t)dw_model_info_view(model)->n_vocab - 1};
    must(dw_model_create_session(model, NULL, &session, &err) == DW_OK, "taken, but a session fails", &err);
    dw_token_score top[1];
    dw_row_request last = {.index = DW_ROW_LAST, .top = top, .n_top = 1};
    dw_job job = {.kind = DW_JOB_FORWARD, .session = session, .tokens = tokens, .n_tokens = tokens[1] > 0 ? 2 : 1, .rows = &last, .n_rows = 1};
    dw_status status = dw_job_run(&job, &err);
    /* Weights that a mutation made NaN give logits that are none; everything else computes. */
    must(status == DW_OK || err.text[0] != '\0', "an evaluation failed without a reason", &err);
    dw_session_destroy(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_model *model = NULL;
    dw_error err = {0};
    must(write_file(data, size), "cannot write", &err);
    dw_status status = dw_model_open(path, device, &(dw_model_options){.context_tokens = 64, .sessions_max = 1}, &model, &err);
    must(status == DW_OK || (model == NULL && err.text[0] != '\0'), "a refusal has no text", &err);
    must(status != DW_E_NO_MEMORY && status != DW_E_INTERNAL, "the file made it fail", &err);
    if (status == DW_OK) evaluate(model);
    dw_model_close(model);
    return 0;
}

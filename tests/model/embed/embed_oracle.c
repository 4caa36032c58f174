/* embed_oracle.c */
#include "model/embed/embed_oracle.h"

#include <stdlib.h>
#include <string.h>

#include "ggml-backend.h"
#include "llama.h"

struct embed_oracle {
    struct llama_model *model;
    struct llama_context *context;
};

static void quiet(enum ggml_log_level level, const char *text, void *context) {
    (void)level;
    (void)text;
    (void)context;
}

embed_oracle *embed_oracle_open(const char *path, uint32_t context_tokens, int threads, int pooling) {
    embed_oracle *o = calloc(1, sizeof *o);
    if (o == NULL) abort();
    llama_log_set(quiet, NULL);
    /* Without devices libllama stays on the CPU, whatever graphics hardware there is. */
    static ggml_backend_dev_t none[] = {NULL};
    struct llama_model_params mp = llama_model_default_params();
    mp.devices = none;
    mp.n_gpu_layers = 0;
    mp.use_extra_bufts = false;
    o->model = llama_model_load_from_file(path, mp);
    if (o->model == NULL) {
        free(o);
        return NULL;
    }
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = cp.n_batch = cp.n_ubatch = context_tokens;
    cp.n_threads = cp.n_threads_batch = threads;
    cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    cp.embeddings = true;
    cp.pooling_type = (enum llama_pooling_type)pooling;
    cp.offload_kqv = cp.op_offload = false;
    cp.no_perf = true;
    o->context = llama_init_from_model(o->model, cp);
    if (o->context == NULL) abort();
    return o;
}

void embed_oracle_close(embed_oracle *o) {
    if (o == NULL) return;
    llama_free(o->context);
    llama_model_free(o->model);
    free(o);
}

const float *embed_oracle_text(embed_oracle *o, const int32_t *tokens, uint32_t n) {
    if (llama_get_memory(o->context) != NULL) llama_memory_clear(llama_get_memory(o->context), true);
    struct llama_batch batch = llama_batch_init((int32_t)n, 0, 1);
    batch.n_tokens = (int32_t)n;
    for (uint32_t i = 0; i < n; i++) {
        batch.token[i] = tokens[i];
        batch.pos[i] = (int32_t)i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = 1;
    }
    if (llama_decode(o->context, batch) != 0) abort();
    llama_batch_free(batch);
    return llama_get_embeddings_seq(o->context, 0);
}

uint32_t embed_oracle_tokenize(const embed_oracle *o, const char *text, int32_t *tokens, uint32_t capacity) {
    int32_t n = llama_tokenize(llama_model_get_vocab(o->model), text, (int32_t)strlen(text), tokens, (int32_t)capacity, true, false);
    return n < 0 ? 0 : (uint32_t)n;
}

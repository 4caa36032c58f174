/* oracle.c */
#include "model/kit/oracle.h"

#include <math.h>
#include <stdlib.h>

#include "base/limits.h"
#include "ggml-backend.h"
#include "llama.h"

struct oracle {
    struct llama_model *model;
    struct llama_context *context;
    uint32_t n_vocab;
    int32_t n_past;
};

static void quiet(enum ggml_log_level level, const char *text, void *context) {
    (void)level;
    (void)text;
    (void)context;
}

static struct llama_model *load(const char *path, bool repack) {
    llama_log_set(quiet, NULL);
    /* Without devices libllama stays on the CPU, whatever graphics hardware there is. */
    static ggml_backend_dev_t none[] = {NULL};
    struct llama_model_params mp = llama_model_default_params();
    mp.devices = none;
    mp.n_gpu_layers = 0;
    mp.use_extra_bufts = repack;
    return llama_model_load_from_file(path, mp);
}

bool oracle_loads(const char *path) {
    struct llama_model *model = load(path, false);
    llama_model_free(model);
    return model != NULL;
}

static oracle *open_with(const char *path, uint32_t context_tokens, int threads, bool repack, int kv_type) {
    oracle *o = calloc(1, sizeof *o);
    if (o == NULL) abort();
    o->model = load(path, repack);
    if (o->model == NULL) {
        free(o);
        return NULL;
    }
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx = context_tokens;
    cp.n_batch = cp.n_ubatch = DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN;
    cp.n_threads = cp.n_threads_batch = threads;
    cp.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_ENABLED;
    cp.type_k = cp.type_v = (enum ggml_type)kv_type;
    cp.swa_full = true;
    cp.offload_kqv = cp.op_offload = false;
    cp.no_perf = true;
    o->context = llama_init_from_model(o->model, cp);
    if (o->context == NULL) abort();
    o->n_vocab = (uint32_t)llama_vocab_n_tokens(llama_model_get_vocab(o->model));
    return o;
}

oracle *oracle_open(const char *path, uint32_t context_tokens, int threads) { return open_with(path, context_tokens, threads, false, GGML_TYPE_F16); }
oracle *oracle_open_repacked(const char *path, uint32_t context_tokens, int threads) { return open_with(path, context_tokens, threads, true, GGML_TYPE_F16); }
oracle *oracle_open_kv(const char *path, uint32_t context_tokens, int threads, int kv_type) {
    return open_with(path, context_tokens, threads, false, kv_type);
}

void oracle_close(oracle *o) {
    if (o == NULL) return;
    llama_free(o->context);
    llama_model_free(o->model);
    free(o);
}

void oracle_reset(oracle *o) {
    llama_memory_clear(llama_get_memory(o->context), true);
    o->n_past = 0;
}

/* Evaluates one chunk; logits of its last token, or of all. */
static void decode(oracle *o, struct llama_batch *batch, const int32_t *tokens, uint32_t n, bool all) {
    batch->n_tokens = (int32_t)n;
    for (uint32_t i = 0; i < n; i++) {
        batch->token[i] = tokens[i];
        batch->pos[i] = o->n_past + (int32_t)i;
        batch->n_seq_id[i] = 1;
        batch->seq_id[i][0] = 0;
        batch->logits[i] = all || i + 1 == n;
    }
    if (llama_decode(o->context, *batch) != 0) abort();
    o->n_past += (int32_t)n;
}

static uint32_t chunk_of(uint32_t left) { return left < DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN ? left : DW_PREFILL_CHUNK_TOKENS; }

const float *oracle_evaluate(oracle *o, const int32_t *tokens, uint32_t n) {
    struct llama_batch batch = llama_batch_init(DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN, 0, 1);
    for (uint32_t done = 0; done < n; done += (uint32_t)batch.n_tokens) decode(o, &batch, tokens + done, chunk_of(n - done), false);
    const float *logits = llama_get_logits_ith(o->context, batch.n_tokens - 1);
    llama_batch_free(batch);
    return logits;
}

static double log_probability(const float *logits, uint32_t n_vocab, int32_t token) {
    double largest = (double)logits[oracle_argmax(logits, n_vocab)], sum = 0;
    for (uint32_t i = 0; i < n_vocab; i++) sum += exp((double)logits[i] - largest);
    return (double)logits[token] - largest - log(sum);
}

double oracle_log_likelihood(oracle *o, const int32_t *tokens, uint32_t n) {
    struct llama_batch batch = llama_batch_init(DW_PREFILL_CHUNK_TOKENS + DW_PREFILL_CHUNK_TOKENS_MIN, 0, 1);
    double sum = 0;
    for (uint32_t done = 0; done < n; done += (uint32_t)batch.n_tokens) {
        decode(o, &batch, tokens + done, chunk_of(n - done), true);
        for (int32_t i = 0; i < batch.n_tokens; i++) {
            uint32_t next = done + (uint32_t)i + 1;
            if (next < n) sum += log_probability(llama_get_logits_ith(o->context, i), o->n_vocab, tokens[next]);
        }
    }
    llama_batch_free(batch);
    return sum;
}

uint32_t oracle_vocab(const oracle *o) { return o->n_vocab; }

int32_t oracle_argmax(const float *logits, uint32_t n_vocab) {
    uint32_t best = 0;
    for (uint32_t i = 1; i < n_vocab; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return (int32_t)best;
}

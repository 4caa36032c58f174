/* oracle.h: libllama's own inference over the same file, to compare with. Tests only. */
#ifndef DW_TESTS_MODEL_KIT_ORACLE_H
#define DW_TESTS_MODEL_KIT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct oracle oracle;

/* Flash attention, KV in F16, full caches for windowed layers, no repacked weights: what the decoder does. NULL when the file cannot be loaded. */
oracle *oracle_open(const char *path, uint32_t context_tokens, int threads);
/* Only whether it can be: some files that libllama loads crash it when it goes on. */
bool oracle_loads(const char *path);
/* The same with its weights repacked where it would by default. */
oracle *oracle_open_repacked(const char *path, uint32_t context_tokens, int threads);
/* The same with K and V of another type (enum ggml_type). libllama rotates quantised K and V unless LLAMA_ATTN_ROT_DISABLE=1 is in the environment. */
oracle *oracle_open_kv(const char *path, uint32_t context_tokens, int threads, int kv_type);
void oracle_close(oracle *o);
/* Forgets everything. */
void oracle_reset(oracle *o);
/* Evaluates in the chunks of session.h rule 2, and returns the last token's logits [n_vocab] (valid until the next call). */
const float *oracle_evaluate(oracle *o, const int32_t *tokens, uint32_t n);
/* Sum of the log-probabilities (nats) of tokens 1 .. n - 1, each given those before it; in the same chunks. */
double oracle_log_likelihood(oracle *o, const int32_t *tokens, uint32_t n);
uint32_t oracle_vocab(const oracle *o);
int32_t oracle_argmax(const float *logits, uint32_t n_vocab);

#endif

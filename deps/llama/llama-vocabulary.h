/* llama-vocabulary.h: a vocabulary of libllama without the rest of it.
 *
 * llama.h opens a vocabulary as a part of a model, so that a program which only wants text turned into tokens links, and first
 * compiles, every model that llama.cpp knows. Here the vocabulary alone is loaded, by the same source: what llama.h offers for a
 * `struct llama_vocab` works on it. A program may link the whole libllama beside this.
 *
 * Threads: any; a loaded vocabulary is constant. */
#ifndef DW_DEPS_LLAMA_VOCABULARY_H
#define DW_DEPS_LLAMA_VOCABULARY_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct gguf_context;
struct llama_vocab;

/* The vocabulary that a GGUF header describes; the header may be freed afterwards. NULL when libllama does not take it: then `reason`
 * (may be NULL, then `reason_bytes` is 0) holds its words as printable ASCII, cut to fit, with a NUL. No exception leaves. The caller frees it. */
struct llama_vocab *dw_llama_vocabulary_load(struct gguf_context *header, char *reason, size_t reason_bytes);

/* NULL is allowed. */
void dw_llama_vocabulary_free(struct llama_vocab *vocabulary);

#ifdef __cplusplus
}
#endif

#endif

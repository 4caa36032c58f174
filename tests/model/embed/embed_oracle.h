/* embed_oracle.h: libllama's own embeddings over the same file, to compare with. Tests only. */
#ifndef DW_TESTS_MODEL_EMBED_EMBED_ORACLE_H
#define DW_TESTS_MODEL_EMBED_EMBED_ORACLE_H

#include <stdint.h>

typedef struct embed_oracle embed_oracle;

/* pooling: GGUF's number (1 mean, 2 CLS, 3 last). Flash attention, no repacked weights. NULL when the file cannot be loaded. */
embed_oracle *embed_oracle_open(const char *path, uint32_t context_tokens, int threads, int pooling);
void embed_oracle_close(embed_oracle *o);
/* One text: its vector [n_embedding], not normalised; valid until the next call. */
const float *embed_oracle_text(embed_oracle *o, const int32_t *tokens, uint32_t n);
/* Tokens of a text as libllama makes them with special tokens; returns how many. */
uint32_t embed_oracle_tokenize(const embed_oracle *o, const char *text, int32_t *tokens, uint32_t capacity);

#endif

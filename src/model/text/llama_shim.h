/* llama_shim.h: inside the module: libllama's vocabulary behind statuses. The one place that includes llama.h.
 *
 * libllama is C++ behind a C interface, and what its tokenizers throw (a code point beyond the last one, no memory)
 * would leave through our C and end the process. Each function here catches everything: std::bad_alloc is
 * DW_E_NO_MEMORY, the rest DW_E_INTERNAL with the text of what was thrown. What libllama asserts cannot be caught, so
 * vocab_check.h looks at a file before, and texts are repaired (utf8.h).
 *
 * Rules
 * 1. C and C++ include this header, so it uses what both have.
 * Threads: dw_llama_open any; an open one by any number of threads at once.
 */
#ifndef DW_MODEL_TEXT_LLAMA_SHIM_H
#define DW_MODEL_TEXT_LLAMA_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct dw_llama dw_llama;

typedef enum dw_llama_kind {
    DW_LLAMA_SENTENCE_PIECE,
    DW_LLAMA_BYTE_PAIRS,
    DW_LLAMA_WORD_PIECES,
    DW_LLAMA_OTHER
} dw_llama_kind;

/* What libllama made of the file. Tokens are -1 where the model has none. */
typedef struct dw_llama_facts {
    dw_llama_kind kind;
    int32_t n_tokens, bos, eos, separator;
    bool adds_bos, adds_eos;
} dw_llama_facts;

/* flags of a token */
enum {
    DW_LLAMA_TOKEN_END = 1,      /* ends a generation */
    DW_LLAMA_TOKEN_CONTROL = 2,  /* recognised in a text only where control tokens are */
    DW_LLAMA_TOKEN_UNKNOWN = 4,  /* stands for what has no token; recognised likewise */
    DW_LLAMA_TOKEN_WHOLE = 8     /* user-defined: cut out of every text before it is split */
};

/* header [bytes]: a GGUF file up to its tensors' data, checked. is_normal: texts come normalized already, so libllama
 * is told neither to lower nor to strip them. DW_E_FORMAT with libllama's own words where it does not take the file. */
dw_status dw_llama_open(const void *header, size_t bytes, bool is_normal, dw_llama **out, dw_llama_facts *facts,
                        dw_error *err) DW_MUST_USE;
void dw_llama_close(dw_llama *llama); /* NULL is fine */

/* The token's text in the file, which stays until close, and its flags. token: 0 to n_tokens - 1. */
dw_status dw_llama_token(const dw_llama *llama, int32_t token, const char **text, unsigned *flags,
                         dw_error *err) DW_MUST_USE;
/* *n = tokens needed. DW_E_FULL: capacity is too small, nothing is written. DW_E_LIMIT: more than an int32_t counts. */
dw_status dw_llama_tokenize(const dw_llama *llama, const char *text, size_t length, bool add_special,
                            bool parse_special, int32_t *tokens, size_t capacity, size_t *n, dw_error *err) DW_MUST_USE;
/* *n = bytes needed. DW_E_FULL as above. token: 0 to n_tokens - 1. */
dw_status dw_llama_piece(const dw_llama *llama, int32_t token, bool special, char *out, size_t capacity,
                         size_t *n) DW_MUST_USE;

#ifdef __cplusplus
}
#endif

#endif

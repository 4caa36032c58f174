/* vocab_check.h: inside the module: is this a vocabulary that libllama can take?
 *
 * libllama trusts its vocabulary: two equal tokens, a byte without a token, a beginning-of-sequence token that does not
 * exist, end in an exception or in an assertion that ends the process, at load or in the middle of a tokenization. So
 * all that it assumes is checked first. Read from llama-vocab.cpp of the pinned source; read it again when the pin
 * moves.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_VOCAB_CHECK_H
#define DW_MODEL_TEXT_VOCAB_CHECK_H

#include "model/gguf/gguf.h"
#include "model/text/llama_shim.h"
#include "model/text/splitter.h"

typedef struct dw_vocab_facts {
    uint32_t n_tokens;
    dw_llama_kind kind;
    dw_splitter_kind splitter; /* of byte pairs */
} dw_vocab_facts;
/* Kinds, types, counts and single values: microseconds. */
dw_status dw_vocab_check_keys(const dw_gguf *gguf, dw_vocab_facts *facts, dw_error *err) DW_MUST_USE;
/* Every token, after the keys: tens of milliseconds for 262,144 tokens. */
dw_status dw_vocab_check_tokens(const dw_gguf *gguf, const dw_vocab_facts *facts, dw_error *err) DW_MUST_USE;

#endif

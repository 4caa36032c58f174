/* vocab_check.h: inside the module: is this a vocabulary that libllama can take?
 *
 * libllama trusts its vocabulary: two equal tokens, a byte without a token, a beginning-of-sequence token that does not exist, end in
 * an assertion or an exception that no C caller can catch, at load or in the middle of a tokenization. So all that it assumes is
 * checked first. Read from llama-vocab.cpp of the pinned source; read it again when the pin moves.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_VOCAB_CHECK_H
#define DW_MODEL_TEXT_VOCAB_CHECK_H

#include "model/gguf/gguf.h"

/* Kinds, types, counts and single values: microseconds. */
dw_status dw_vocab_check_keys(const dw_gguf *gguf, uint32_t *n_tokens, dw_error *err) DW_MUST_USE;
/* Every token, after the keys: tens of milliseconds for 262,144 tokens. */
dw_status dw_vocab_check_tokens(const dw_gguf *gguf, dw_error *err) DW_MUST_USE;

#endif

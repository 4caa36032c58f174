/* vocab.h: tokenizer of a model, through libllama (vocabulary only; its inference is not used).
 *
 * Loading takes 0.4-0.5 s for a 262k vocabulary, so it is done on a thread of its own from dw_vocab_create on; the first function
 * that needs it waits. Threads: after creation any thread, at the same time.
 */
#ifndef DW_MODEL_TEXT_VOCAB_H
#define DW_MODEL_TEXT_VOCAB_H

#include <stdbool.h>
#include "base/base.h"
#include "model/gguf/gguf.h"
#include "park/park.h"

typedef struct dw_vocab dw_vocab;

/* Starts loading. The GGUF has been validated by dw_gguf_open; its tokenizer keys are checked here, its single tokens on the loader's
 * thread, both before libllama sees them (vocab_check.h). The GGUF must stay open until dw_vocab_wait or dw_vocab_destroy has returned. */
dw_status dw_vocab_create(const dw_gguf *gguf, dw_vocab **out, dw_error *err) DW_MUST_USE;
void dw_vocab_destroy(dw_vocab *vocab); /* waits for the loader */
/* Waits until it is loaded; tells whether that worked. */
dw_status dw_vocab_wait(dw_vocab *vocab, dw_error *err) DW_MUST_USE;
/* The same in a turn, at the actor's park (park.h): its deadline or a stop end the wait with DW_E_DEADLINE, DW_E_CANCELLED. The functions
 * below wait without end, so a turn calls this one before them. */
dw_status dw_vocab_wait_in_turn(dw_vocab *vocab, dw_park *park, dw_error *err) DW_MUST_USE;

/* text[length] -> tokens. add_special: BOS etc. as the model wants; parse_special: control tokens in the text become tokens (never for
 * untrusted text). *n = tokens needed; DW_E_FULL when capacity is too small (nothing written). DW_E_LIMIT for text above
 * DW_TEXT_BYTES_MAX, and for long text that libllama would take quadratic time for (vocab_cost.h); then tokenize it in parts. */
dw_status dw_vocab_tokenize(dw_vocab *vocab, const char *text, size_t length, bool add_special, bool parse_special,
                            int32_t *tokens, size_t capacity, size_t *n, dw_error *err) DW_MUST_USE;
/* One token's bytes (may be part of a UTF-8 sequence). *n = bytes needed, DW_E_FULL as above. DW_E_RANGE for a token outside the vocabulary. */
dw_status dw_vocab_piece(dw_vocab *vocab, int32_t token, bool special, char *out, size_t capacity, size_t *n) DW_MUST_USE;
/* The pieces of the tokens one after the other: exactly what a generation streams, no space is added or removed. On DW_E_FULL, `out`
 * holds a part. */
dw_status dw_vocab_detokenize(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, bool special, char *out, size_t capacity,
                              size_t *n, dw_error *err) DW_MUST_USE;
bool dw_vocab_is_end(dw_vocab *vocab, int32_t token); /* end of generation */
bool dw_vocab_is_control(dw_vocab *vocab, int32_t token); /* not text: turn marks, padding, ... */
/* Special tokens, -1 when the model has none. */
int32_t dw_vocab_bos(dw_vocab *vocab);
int32_t dw_vocab_eos(dw_vocab *vocab);
uint32_t dw_vocab_size(dw_vocab *vocab); /* known at once, does not wait */

#endif

/* vocab.h: tokenizer of a model, through libllama (vocabulary only; its inference is not used).
 *
 *   place   where a text stands in what the model reads: it begins a log, goes on in one, or is all there is
 *
 * Rules
 * 1. Texts are UTF-8. What is not is replaced before a tokenizer sees it, for every kind of vocabulary: each broken
 *    part, as long as it could still have become a character, by one U+FFFD (utf8.h). A text in parts is cut between
 *    characters, then.
 * 2. A text that begins a log gets what the model wants at the beginning: its BOS, and for SentencePiece mostly a
 *    space. A text that goes on gets nothing, so that the pieces of all tokens are all texts, one behind the other.
 *    Only a text that is all there is gets an end, too.
 * 3. Loading takes 0.4-0.5 s for a 262k vocabulary, so it is done on a thread of its own from dw_vocab_create on; the
 *    first function that needs it waits.
 * 4. A text does not change while it is tokenized: it is looked at more than once. What lies in a guest's memory is
 *    copied before.
 * Threads: after creation any thread, at the same time.
 */
#ifndef DW_MODEL_TEXT_VOCAB_H
#define DW_MODEL_TEXT_VOCAB_H

#include <stdbool.h>
#include "base/base.h"
#include "model/gguf/gguf.h"
#include "park/park.h"

typedef struct dw_vocab dw_vocab;

/* Starts loading. The GGUF has been validated by dw_gguf_open; its tokenizer keys are checked here, its single tokens
 * on the loader's thread, both before libllama sees them (vocab_check.h). The GGUF must stay open until dw_vocab_wait
 * or dw_vocab_destroy has returned. */
dw_status dw_vocab_create(const dw_gguf *gguf, dw_vocab **out, dw_error *err) DW_MUST_USE;
void dw_vocab_destroy(dw_vocab *vocab); /* waits for the loader */
/* Waits until it is loaded; tells whether that worked. */
dw_status dw_vocab_wait(dw_vocab *vocab, dw_error *err) DW_MUST_USE;
/* The same in a turn, at the actor's park (park.h): its deadline or a stop end the wait with DW_E_DEADLINE,
 * DW_E_CANCELLED. The functions below wait without end, so a turn calls this one before them. */
dw_status dw_vocab_wait_in_turn(dw_vocab *vocab, dw_park *park, dw_error *err) DW_MUST_USE;

/* Whether loading has ended, well or not: dw_vocab_wait will not block. */
bool dw_vocab_is_settled(const dw_vocab *vocab);
/* For whoever must not wait: `call` is called once, on the loader's thread, when loading has ended. It must not block
 * or call the vocabulary. The listener is the caller's and stays in place until it was called or dw_vocab_unlisten has
 * returned; false: loading has ended already, and it is not called. */
typedef struct dw_vocab_listener {
    struct dw_vocab_listener *next;
    void (*call)(void *context);
    void *context;
} dw_vocab_listener;
bool dw_vocab_listen(dw_vocab *vocab, dw_vocab_listener *listener);
void dw_vocab_unlisten(dw_vocab *vocab, const dw_vocab_listener *listener); /* also one that does not listen */

typedef enum dw_text_place {
    DW_TEXT_GOES_ON, /* behind other tokens: exactly the text */
    DW_TEXT_BEGINS,  /* first in a log that will go on: BOS and the like before it, nothing after it */
    DW_TEXT_WHOLE    /* all there is (an embedding): with what the model wants on both sides */
} dw_text_place;

/* text[length] -> tokens. parse_special: control tokens in the text become tokens (never for untrusted text). *n =
 * tokens needed; DW_E_FULL when capacity is too small (nothing written). DW_E_LIMIT for text above DW_TEXT_BYTES_MAX,
 * and for long text that libllama would take quadratic time or too much stack for (vocab_cost.h, splitter.h); then
 * tokenize it in parts. */
dw_status dw_vocab_tokenize(dw_vocab *vocab, const char *text, size_t length, dw_text_place place, bool parse_special,
                            int32_t *tokens, size_t capacity, size_t *n, dw_error *err) DW_MUST_USE;
/* One token's bytes (may be part of a UTF-8 sequence). *n = bytes needed, DW_E_FULL as above. DW_E_RANGE for a token
 * outside the vocabulary. */
dw_status dw_vocab_piece(dw_vocab *vocab, int32_t token, bool special, char *out, size_t capacity,
                         size_t *n) DW_MUST_USE;
/* The pieces of the tokens one after the other, no space is added or removed. On DW_E_FULL, `out` holds a part. */
dw_status dw_vocab_detokenize(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, bool special, char *out,
                              size_t capacity, size_t *n, dw_error *err) DW_MUST_USE;
/* The end of a log whose text ends inside its last token, after the first `bytes` bytes of that token's piece: how many
 * of the tokens [n_tokens] stay (*n_stay), and the tokens that follow them instead (*n, at most `capacity`, in `out`).
 * Only the last four are looked at. A character that the text would cut is left out, and all of the last token where
 * its part does not fit or has no text. */
dw_status dw_vocab_cut(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, size_t bytes, size_t *n_stay,
                       int32_t *out, size_t capacity, size_t *n, dw_error *err) DW_MUST_USE;
/* The beginning of a character at the end of the tokens' text: at most three bytes, written to out[3]. */
size_t dw_vocab_open_end(dw_vocab *vocab, const int32_t *tokens, size_t n_tokens, char out[3]);
bool dw_vocab_is_end(dw_vocab *vocab, int32_t token); /* end of generation */
bool dw_vocab_is_control(dw_vocab *vocab, int32_t token); /* not text: turn marks, padding, ... */
/* Special tokens, -1 when the model has none. */
int32_t dw_vocab_bos(dw_vocab *vocab);
int32_t dw_vocab_eos(dw_vocab *vocab);
uint32_t dw_vocab_size(dw_vocab *vocab); /* known at once, does not wait */

#endif

/* vocab_cost.h: inside the module: what a text would cost libllama.
 *
 * Two loops of libllama's tokenizer are quadratic (measured at the pinned source, SentencePiece, 2026 hardware): every character
 * that has no token copies the tokens made so far (100 KB of such text: 1.4 s), and every special token found in the text walks the
 * list of those before it. WordPiece tries, at every character, all lengths up to that of the longest token, each a copy and a
 * look-up: a file with one long token makes every text expensive. None of this can be interrupted, and the text may be a guest's. So
 * texts that are long enough to matter are counted first, in one pass, and refused when the product is too large; ordinary text of the
 * same length is far below.
 * Threads: constant after building.
 */
#ifndef DW_MODEL_TEXT_VOCAB_COST_H
#define DW_MODEL_TEXT_VOCAB_COST_H

#include <stdbool.h>
#include "base/base.h"

struct llama_vocab;

typedef struct dw_vocab_cost {
    bool sentence_piece, word_pieces;
    uint32_t longest;                   /* bytes of the longest token */
    uint8_t symbols[0x110000 / 8];      /* code points that are a token by themselves */
    /* Special tokens: [0] those that are found in any text, [1] also those that need permission (parse_special). */
    struct {
        uint8_t pairs[65536 / 8];       /* first two bytes, of tokens that are not a run */
        uint64_t runs[256];             /* lengths (bit n: n bytes, to 63) of the tokens that repeat one byte: white space, mostly */
    } special[2];
} dw_vocab_cost;

void dw_vocab_cost_build(dw_vocab_cost *cost, const struct llama_vocab *vocab);
/* DW_E_LIMIT, with the reason, for a text that would take more than about a second. */
dw_status dw_vocab_cost_check(const dw_vocab_cost *cost, const char *text, size_t length, bool parse_special, dw_error *err) DW_MUST_USE;

#endif

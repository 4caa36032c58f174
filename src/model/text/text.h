/* text.h: between text and tokens. The room's face: neighbours include this header alone.
 *
 *   vocab   a model's tokenizer, and what is known of each token (vocab.h)
 *   piece   the bytes of one token; a token may hold a part of a character
 *   stop    a string that ends a generation: looked for in generated text on its way out (stop.h)
 *
 * Rules
 * 1. Vocabularies are from files, and texts from anybody: both are checked before libllama sees them.
 * 2. What a generation streams is the pieces of its tokens, byte for byte.
 * Threads: a vocabulary by any thread; a stop_text by one at a time.
 */
#ifndef DW_MODEL_TEXT_TEXT_H
#define DW_MODEL_TEXT_TEXT_H

#include "model/text/stop.h"
#include "model/text/vocab.h"

#endif

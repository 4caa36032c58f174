/* hangul.h: inside the module: the canonical decomposition of Hangul syllables (Unicode Standard, section 3.12).
 *
 * BERT's normalizer decomposes text before it drops accents, and its vocabularies hold Korean as single letters (jamo). libllama's
 * table of decompositions has one code point for each and so leaves syllables whole, which no vocabulary has. They are taken apart before.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_HANGUL_H
#define DW_MODEL_TEXT_HANGUL_H

#include <stddef.h>

/* How many bytes the text [length] has when its syllables are taken apart: at most three times as many; `length` when it has none. */
size_t dw_hangul_decomposed_bytes(const char *text, size_t length);
/* Writes that many bytes to `out`. */
void dw_hangul_decompose(const char *text, size_t length, char *out);

#endif

/* bert_text.h: text as BERT's vocabularies expect it. Inside the module.
 *
 * WordPiece vocabularies were made from normalized text: control characters are gone, white space is spaces; an uncased
 * one has small letters without accents. libllama's own normalizer drops all marks where BERT's drops those without a
 * width of their own, so Indic scripts lose vowel signs, and it leaves Hangul syllables whole where the vocabularies
 * hold single letters. So text is normalized here, with utf8proc's tables, and libllama is told not to (llama_shim.h).
 *
 * Source: Devlin et al. 2018 (BasicTokenizer); the order of the steps is that of Hugging Face's BertNormalizer.
 * Combining marks that stay after stripping are not reordered: no vocabulary has them.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_BERT_TEXT_H
#define DW_MODEL_TEXT_BERT_TEXT_H

#include <stdbool.h>
#include <stddef.h>

typedef struct dw_bert_rules {
    bool strips_accents; /* canonical decomposition, then no nonspacing mark (Mn) */
    bool lowers;
} dw_bert_rules;

/* Bytes of the normalized text, at most four times as many; written to `out` where it is not NULL. text [length] is
 * UTF-8, what is not vanishes. */
size_t dw_bert_normalize(const dw_bert_rules *rules, const char *text, size_t length, char *out);

#endif

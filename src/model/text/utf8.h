/* utf8.h: is a text UTF-8? Inside the module.
 *
 *   character  a well-formed UTF-8 sequence (Unicode Standard, table 3-7): no overlong form, no surrogate, nothing
 *              beyond U+10FFFF
 *   broken     what is none. Each broken part, as long as it could still have become a character, counts as one U+FFFD
 *              (Unicode Standard, chapter 3, "Substitution of Maximal Subparts")
 *
 * Texts come from anybody: from a guest's memory, which may hold anything, and from tokens, which may be parts of
 * characters. Tokenizers assume UTF-8 and differ in what they do otherwise, so a text is repaired before one sees it.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_UTF8_H
#define DW_MODEL_TEXT_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define DW_UTF8_REPLACEMENT UINT32_C(0xfffd)

/* Bytes of the character or of the broken part at text [left > 0]; *point is its code point, U+FFFD for a broken one
 * (and for U+FFFD). */
size_t dw_utf8_step(const char *text, size_t left, uint32_t *point);
/* Bytes of the code point in UTF-8, written to out[4]. point: a character's. */
size_t dw_utf8_put(uint32_t point, char *out);
/* Bytes of the text [length] after repair; `length` exactly when nothing is broken or each broken part has three bytes.
 */
size_t dw_utf8_repaired_bytes(const char *text, size_t length);
/* Writes that many bytes to `out`. */
void dw_utf8_repair(const char *text, size_t length, char *out);
/* Bytes at the beginning of the text [length] that no later byte can change: `length`, less what may be the beginning
 * of a character, at most three bytes. */
size_t dw_utf8_settled(const char *text, size_t length);

#endif

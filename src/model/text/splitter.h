/* splitter.h: how a byte-pair vocabulary's text is split into words before it becomes tokens, and what that may cost.
 * Inside the module.
 *
 *   splitter  a rule that a file names (tokenizer.ggml.pre); libllama has a pattern for each
 *   stretch   what a word cannot be longer than: characters up to where every pattern ends a word
 *
 * libllama runs most patterns through std::regex, which calls itself for each character of a word: 320 bytes of stack
 * each (measured, GCC 12, the pinned source). A text with a long word would overflow the stack, and nothing catches
 * that. So a text's longest stretch is found first: short ones are split on the caller's stack, long ones on a thread
 * with a stack for them, and longer ones are refused. Two patterns take the square of a run's length besides: these
 * runs are counted.
 * Threads: pure functions.
 */
#ifndef DW_MODEL_TEXT_SPLITTER_H
#define DW_MODEL_TEXT_SPLITTER_H

#include <stdbool.h>
#include "base/base.h"

/* What a splitter's patterns do. */
typedef enum dw_splitter_kind {
    DW_SPLITTER_LOOPS,        /* loops of libllama's own: no recursion */
    DW_SPLITTER_REGEX,
    DW_SPLITTER_REGEX_SPACES, /* and the square of a run of white space */
    DW_SPLITTER_REGEX_DIGITS, /* and the square of a run of digits */
    DW_SPLITTER_REGEX_LINES   /* words may hold single spaces between letters */
} dw_splitter_kind;

/* The splitter of that name [size]; false when libllama has none. An absent name is "default". */
bool dw_splitter_find(const char *name, size_t size, dw_splitter_kind *kind);
/* The names, by position; NULL behind the last one. */
const char *dw_splitter_at(size_t index);

typedef struct dw_splitter_cost {
    uint64_t stretch, squares;
} dw_splitter_cost; /* longest stretch, in characters; sum of the runs' squares */

/* text [length] is UTF-8. */
dw_splitter_cost dw_splitter_measure(dw_splitter_kind kind, const char *text, size_t length);
/* DW_E_LIMIT, with the reason, for a text that would need more stack than DW_TEXT_STRETCH_CHARS_MAX characters do, or
 * more than about a second. */
dw_status dw_splitter_check(const dw_splitter_cost *cost, dw_error *err) DW_MUST_USE;

#endif

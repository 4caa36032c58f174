/* prompt.h: the tokens that both sides are given: the same numbers, from the same few parameters, in every program of bench/. */
#ifndef DW_BENCH_PROMPT_H
#define DW_BENCH_PROMPT_H

#include <stdint.h>

/* n_shared tokens drawn with shared_salt, then n_own tokens drawn with own_salt. */
typedef struct bench_prompt {
    uint32_t n_vocab;
    int32_t bos;           /* the first token; negative: the vocabulary has none */
    uint32_t shared_salt, n_shared;
    uint32_t own_salt, n_own;
} bench_prompt;

/* Writes n_shared + n_own tokens. None is a control token of any usual vocabulary but the first. Prompts of different salts differ in
 * the second token already, so that no cache can have more of them than BOS. */
void bench_prompt_make(const bench_prompt *prompt, int32_t *out);

#endif

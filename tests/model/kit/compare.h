/* compare.h: the decoder beside libllama (oracle.h) over the same prompt. Fails the running test where either cannot evaluate. */
#ifndef DW_TESTS_MODEL_KIT_COMPARE_H
#define DW_TESTS_MODEL_KIT_COMPARE_H

#include "model/engine/engine.h"
#include "model/kit/oracle.h"

/* Largest difference of the logits behind the prompt, and how many of the greedy tokens from there on are the same. */
typedef struct comparison { double difference; uint32_t equal; } comparison;

/* The prompt is evaluated in calls of parts[n_parts] tokens; both divide a call into chunks by session.h rule 2. */
comparison compare_with_oracle(dw_model *model, oracle *o, const int32_t *prompt, const uint32_t *parts, uint32_t n_parts, uint32_t n_greedy);
/* Tokens that look random; the first is `begin`. */
void make_prompt(int32_t *tokens, uint32_t n, uint32_t n_vocab, int32_t begin, uint64_t seed);
/* NaN where either has one. */
double largest_difference(const float *a, const float *b, uint32_t n);

#endif

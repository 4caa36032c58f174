/* random.h: the random numbers of the models' tests, the same on every machine. */
#ifndef DW_TESTS_MODEL_KIT_RANDOM_H
#define DW_TESTS_MODEL_KIT_RANDOM_H

#include <stdint.h>

/* A linear congruential generator with Knuth's constants; its high bits are the good ones. */
static inline uint64_t random_next(uint64_t *state) {
    return *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
}

static inline uint32_t random_below(uint64_t *state, uint32_t n) { return (uint32_t)((random_next(state) >> 33) % n); }

/* (-1, 1) */
static inline float random_uniform(uint64_t *state) {
    return (float)(random_next(state) >> 40) / (float)(1u << 23) - 1.0f;
}

/* Made models have a vocabulary of 512 tokens, of which these are text. */
enum { TEXT_TOKENS_FIRST = 259, TEXT_TOKENS = 512 - TEXT_TOKENS_FIRST };

static inline void make_tokens(int32_t *tokens, uint32_t n, uint64_t seed) {
    for (uint32_t i = 0; i < n; i++) tokens[i] = (int32_t)(TEXT_TOKENS_FIRST + random_below(&seed, TEXT_TOKENS));
}

#endif

/* sample.h: from logits to a token. The room's face. Deterministic: the same logits, parameters and state give the same token; bulk sums use our
 * own exponential and a fixed order of summation, so only the scalar log of the C library is borrowed. The state is 16 bytes of
 * plain data that a checkpoint carries.
 *
 * Order: logits -> (greedy: argmax, lowest id wins ties) -> top-k -> temperature -> min-p -> top-p -> draw. Meaning as in
 * llama.cpp's sampler chain of these names: min-p keeps p >= min_p * p_max, top-p keeps the likeliest tokens until their sum
 * reaches top_p of what is left. Among equal logits the lower id counts as the likelier one. temperature <= 0 is greedy.
 *
 * Rules
 * 1. A successful draw advances the counter by exactly one; greedy and failed calls leave the state alone.
 * 2. The draw walks the kept tokens by ascending id: the kept set decides, not the order in which it was found.
 * 3. Random numbers are Philox4x32-10 (Salmon et al., SC 2011) of (seed, counter): no hidden state.
 * Threads: a dw_sampler belongs to one thread at a time.
 */
#ifndef DW_MODEL_SAMPLE_SAMPLE_H
#define DW_MODEL_SAMPLE_SAMPLE_H

#include "base/base.h"

typedef struct dw_sampling {
    float temperature;   /* 0..100; <= 0 greedy */
    float top_p;         /* (0, 1]; 1 = off */
    float min_p;         /* [0, 1); 0 = off */
    uint32_t top_k;      /* 0 = off */
} dw_sampling;

typedef struct dw_sampler_state { uint64_t seed, counter; } dw_sampler_state;

/* NaN, negative probabilities, top_p 0, ... are refused with the name of the field. */
dw_status dw_sampling_check(const dw_sampling *sampling, dw_error *err) DW_MUST_USE;

typedef struct dw_token_score { int32_t token; float logprob; } dw_token_score;

typedef struct dw_sampler dw_sampler; /* scratch memory for one vocabulary size; no state that matters */
dw_status dw_sampler_create(uint32_t n_vocab, dw_sampler **out) DW_MUST_USE;
void dw_sampler_destroy(dw_sampler *sampler);

/* logits [n_vocab] f32, not changed; -inf excludes a token. A NaN, +inf, or nothing but -inf is DW_E_DEVICE (a broken device), never a
 * random token; so it is for every function below. out->logprob is over the whole vocabulary at temperature 1, as in dw_sampler_top. */
dw_status dw_sampler_sample(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, dw_sampler_state *state,
                            dw_token_score *out) DW_MUST_USE;
/* The same token and the same change of state, without its probability, which costs a pass over the whole vocabulary (a third of a
 * millisecond for 262,144 tokens): for loops that do not show it. */
dw_status dw_sampler_pick(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, dw_sampler_state *state,
                          int32_t *token) DW_MUST_USE;
/* The k likeliest, descending, log-probabilities over the whole vocabulary (temperature 1). k <= DW_TOP_K_MAX and n_vocab. */
dw_status dw_sampler_top(dw_sampler *sampler, const float *logits, uint32_t k, dw_token_score *out) DW_MUST_USE;
/* Log-probabilities of given tokens (DW_E_RANGE for one outside), and the entropy in nats of the whole distribution. */
dw_status dw_sampler_scores(dw_sampler *sampler, const float *logits, const int32_t *tokens, uint32_t n, float *out) DW_MUST_USE;
dw_status dw_sampler_entropy(dw_sampler *sampler, const float *logits, float *out) DW_MUST_USE;

/* The next uniform number in [0, 1) with 53 random bits; advances the counter. */
double dw_sampler_uniform(dw_sampler_state *state);

#endif

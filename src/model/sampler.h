/* sampler.h: from logits to a token. Deterministic: the same logits, parameters and state give the same token on every machine
 * with the same libm; the state is 24 bytes of plain data that a checkpoint carries.
 *
 * Order: logits -> (greedy: argmax, lowest id wins ties) -> top-k -> temperature -> min-p -> top-p -> draw. Values as in llama.cpp's
 * sampler chain of these names. temperature <= 0 is greedy. top_k 0 = whole vocabulary.
 * Random: Philox-like counter generator (seed, counter): no hidden state.
 */
#ifndef DW_MODEL_SAMPLER_H
#define DW_MODEL_SAMPLER_H

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

/* logits [n_vocab] f32, not changed. NaN logits are DW_E_DEVICE (a broken device), never a random token. */
dw_status dw_sampler_sample(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, dw_sampler_state *state,
                            dw_token_score *out) DW_MUST_USE;
/* The k likeliest, descending, log-probabilities over the whole vocabulary (temperature 1). k <= DW_TOP_K_MAX. */
dw_status dw_sampler_top(dw_sampler *sampler, const float *logits, uint32_t k, dw_token_score *out) DW_MUST_USE;
/* Log-probabilities of given tokens (DW_E_RANGE for one outside), and the entropy in nats of the whole distribution. */
dw_status dw_sampler_scores(dw_sampler *sampler, const float *logits, const int32_t *tokens, uint32_t n, float *out) DW_MUST_USE;
dw_status dw_sampler_entropy(dw_sampler *sampler, const float *logits, float *out) DW_MUST_USE;

#endif

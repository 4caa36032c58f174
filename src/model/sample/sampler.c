/* sampler.c: sampling from 262,144 logits in well under a millisecond.
 *
 *   block       64 logits; its maximum lets whole blocks be skipped, its mass lets a draw find its block
 *   candidate   a token that may still be drawn, in order of ids
 *   key         a logit as an unsigned integer of the same order, so that "the likeliest" is a radix select, not a sort
 *
 * Every filter keeps a prefix of the order (logit descending, id ascending). So none needs a sort: top-k is the select
 * of k by number, top-p the select of top_p by mass, min-p a threshold; and candidates far below any of these are never
 * gathered.
 */
#include "model/sample/sample.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The same bits on every machine: no product is fused with a sum (GCC does not in ISO mode). */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

enum { BLOCK = 64, LANES = 16, BUCKETS = 4096 };

typedef struct candidate {
    uint32_t key;
    int32_t id;
    float logit;
    float weight;  /* exp((logit - max) / temperature); 1 while counting */
} candidate;

struct dw_sampler {
    uint32_t n_vocab, n_blocks;
    candidate *candidates;  /* [n_blocks * BLOCK] */
    float *block_max;       /* [n_blocks] */
    double *block_mass;     /* [n_blocks] */
    double *buckets;        /* [BUCKETS] */
};

/* --- parameters, memory, random numbers ------------------------------------------------------------------------- */

dw_status dw_sampling_check(const dw_sampling *sampling, dw_error *err) {
    /* Written so that NaN fails every test. */
    if (!(sampling->temperature <= 100.0f))
        return dw_fail(err, DW_E_RANGE, "temperature is %g, not a number up to 100", (double)sampling->temperature);
    if (!(sampling->top_p > 0.0f && sampling->top_p <= 1.0f))
        return dw_fail(err, DW_E_RANGE, "top_p is %g, not above 0 and at most 1", (double)sampling->top_p);
    if (!(sampling->min_p >= 0.0f && sampling->min_p < 1.0f))
        return dw_fail(err, DW_E_RANGE, "min_p is %g, not from 0 to below 1", (double)sampling->min_p);
    return DW_OK;
}

dw_status dw_sampler_create(uint32_t n_vocab, dw_sampler **out) {
    *out = NULL;
    if (n_vocab == 0 || n_vocab > DW_VOCAB_TOKENS_MAX) return DW_E_RANGE;
    dw_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler) return DW_E_NO_MEMORY;
    sampler->n_vocab = n_vocab;
    sampler->n_blocks = (n_vocab + BLOCK - 1) / BLOCK;
    sampler->candidates = calloc((size_t)sampler->n_blocks * BLOCK, sizeof *sampler->candidates);
    sampler->block_max = calloc(sampler->n_blocks, sizeof *sampler->block_max);
    sampler->block_mass = calloc(sampler->n_blocks, sizeof *sampler->block_mass);
    sampler->buckets = calloc(BUCKETS, sizeof *sampler->buckets);
    if (!sampler->candidates || !sampler->block_max || !sampler->block_mass || !sampler->buckets) {
        dw_sampler_destroy(sampler);
        return DW_E_NO_MEMORY;
    }
    *out = sampler;
    return DW_OK;
}

void dw_sampler_destroy(dw_sampler *sampler) {
    if (!sampler) return;
    free(sampler->candidates);
    free(sampler->block_max);
    free(sampler->block_mass);
    free(sampler->buckets);
    free(sampler);
}

/* Philox4x32-10: key = seed, counter = (counter, 0). */
double dw_sampler_uniform(dw_sampler_state *state) {
    uint32_t c[4] = {(uint32_t)state->counter, (uint32_t)(state->counter >> 32), 0, 0};
    uint32_t k0 = (uint32_t)state->seed, k1 = (uint32_t)(state->seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = UINT64_C(0xD2511F53) * c[0], p1 = UINT64_C(0xCD9E8D57) * c[2];
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c[1] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[0] = n0;
        c[1] = (uint32_t)p1;
        c[2] = n2;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    state->counter++;
    return (double)((((uint64_t)c[1] << 32) | c[0]) >> 11) * 0x1p-53;
}

/* --- passes over all logits: fixed lanes, so that compilers vectorise them and any width gives the same bits
 * ------- */

/* The block's logits; the last one is filled up with -inf in `spare`. */
static const float *block_at(const dw_sampler *sampler, const float *logits, uint32_t block, float spare[BLOCK]) {
    uint32_t first = block * BLOCK, n = sampler->n_vocab - first;
    if (n >= BLOCK) return logits + first;
    for (uint32_t i = 0; i < BLOCK; i++) spare[i] = i < n ? logits[first + i] : -INFINITY;
    return spare;
}

/* Fills block_max and finds the maximum. DW_E_DEVICE when these are not logits. */
static dw_status scan_logits(dw_sampler *sampler, const float *logits, float *max) {
    float spare[BLOCK], all = -INFINITY;
    int32_t nan_seen = 0;
    for (uint32_t b = 0; b < sampler->n_blocks; b++) {
        const float *x = block_at(sampler, logits, b, spare);
        float lane[LANES];
        int32_t nan_lane[LANES] = {0};
        for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
        for (int i = 0; i < BLOCK; i += LANES) {
            for (int l = 0; l < LANES; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
            for (int l = 0; l < LANES; l++) nan_lane[l] |= x[i + l] != x[i + l];
        }
        float top = lane[0];
        for (int l = 0; l < LANES; l++) {
            top = lane[l] > top ? lane[l] : top;
            nan_seen |= nan_lane[l];
        }
        sampler->block_max[b] = top;
        all = top > all ? top : all;
    }
    *max = all;
    return nan_seen || all == INFINITY || all == -INFINITY ? DW_E_DEVICE : DW_OK;
}

/* Weights below exp(-40) are 0: a draw has a resolution of 2^-53 = exp(-36.7), and a million of them would change no
 * digit of a float. So whole blocks that lie so far below the maximum are not even looked at. */
static const float lightest = -40.0f;

/* exp(a) for a <= 0, within 2 units in the last place; 0 below `lightest`. Method: Cody and Waite's reduction, a
 * polynomial of degree 6 (coefficients of Cephes' expf), and the exponent put in by hand. A number above 0, or none,
 * comes only from logits that somebody changes meanwhile (sample.h rule 4): it is bounded like the others. */
static inline float exp_negative(float a) {
    float bounded = a > lightest ? a : lightest; /* written so that NaN becomes a number */
    bounded = bounded < 0.0f ? bounded : 0.0f;
    int32_t exponent = (int32_t)(bounded * 1.44269504088896341f - 0.5f);
    float n = (float)exponent;
    float r = bounded - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    float y = p * r * r + r + 1.0f;
    int32_t bits = (exponent + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return a < lightest ? 0.0f : y * scale;
}

/* 1 / temperature, finite: 0 times it must stay 0. */
static float inverse(float temperature) { return 1.0f / temperature > FLT_MAX ? FLT_MAX : 1.0f / temperature; }

static double sum_lanes(const float lane[LANES]) {
    double sum = 0;
    for (int l = 0; l < LANES; l++) sum += (double)lane[l];
    return sum;
}

/* The sum of exp((logit - max) * scale) over logits >= low; fills block_mass. */
static double mass(dw_sampler *sampler, const float *logits, float max, float scale, float low) {
    float spare[BLOCK];
    double total = 0;
    for (uint32_t b = 0; b < sampler->n_blocks; b++) {
        sampler->block_mass[b] = 0;
        if ((sampler->block_max[b] - max) * scale < lightest || sampler->block_max[b] < low) continue;
        const float *x = block_at(sampler, logits, b, spare);
        float lane[LANES] = {0};
        for (int i = 0; i < BLOCK; i += LANES) {
            for (int l = 0; l < LANES; l++) {
                float weight = exp_negative((x[i + l] - max) * scale);
                lane[l] += x[i + l] < low ? 0.0f : weight;
            }
        }
        sampler->block_mass[b] = sum_lanes(lane);
        total += sampler->block_mass[b];
    }
    return total;
}

/* log of the softmax denominator at temperature 1, less max. */
static double log_mass(dw_sampler *sampler, const float *logits, float max) {
    return log(mass(sampler, logits, max, 1.0f, -INFINITY));
}

/* --- candidates ------------------------------------------------------------------------------------------------- */

static uint32_t sort_key_of(float logit) {
    float positive_zero = logit + 0.0f; /* -0 ties with +0 */
    uint32_t bits;
    memcpy(&bits, &positive_zero, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

/* Gathers the tokens with logit >= low, ascending ids, weight 1. */
static uint32_t gather(dw_sampler *sampler, const float *logits, float low) {
    uint32_t n = 0;
    for (uint32_t b = 0; b < sampler->n_blocks; b++) {
        if (sampler->block_max[b] < low) continue;
        uint32_t end = b * BLOCK + BLOCK < sampler->n_vocab ? b * BLOCK + BLOCK : sampler->n_vocab;
        for (uint32_t id = b * BLOCK; id < end; id++) {
            /* Written without a branch: most tokens of a block that is not skipped fail, but nobody knows which. */
            sampler->candidates[n] = (candidate){sort_key_of(logits[id]), (int32_t)id, logits[id], 1.0f};
            n += logits[id] >= low;
        }
    }
    return n;
}

/* Finds the bucket, from the highest down, in which the running sum reaches `target`; *above becomes the sum over the
 * higher ones. When rounding keeps the sum below the target, the lowest bucket that is in use. */
static uint32_t bucket_at(const double *buckets, uint32_t n_buckets, double target, double *above) {
    uint32_t at = 0;
    double before = *above, sum = *above;
    for (uint32_t b = n_buckets; b-- > 0;) {
        if (buckets[b] <= 0) continue;
        at = b;
        before = sum;
        sum += buckets[b];
        if (sum >= target) break;
    }
    *above = before;
    return at;
}

/* Keeps the likeliest of n candidates until their weights sum up to `target`, at least one; the order of ids stays. A
 * radix select: 12, 12 and 8 bits of the key, each round only among the candidates that share the bits found before. */
static uint32_t keep_likeliest(dw_sampler *sampler, uint32_t n, double target) {
    static const struct { unsigned shift, bits; } rounds[] = {{20, 12}, {8, 12}, {0, 8}};
    candidate *c = sampler->candidates;
    double above = 0;
    uint32_t prefix = 0;
    for (size_t r = 0; r < sizeof rounds / sizeof rounds[0]; r++) {
        uint32_t n_buckets = 1u << rounds[r].bits;
        unsigned known = rounds[r].shift + rounds[r].bits; /* bits from here up equal the prefix */
        memset(sampler->buckets, 0, n_buckets * sizeof *sampler->buckets);
        for (uint32_t i = 0; i < n; i++) {
            if (known < 32 && c[i].key >> known != prefix) continue;
            sampler->buckets[(c[i].key >> rounds[r].shift) & (n_buckets - 1)] += (double)c[i].weight;
        }
        prefix = (known < 32 ? prefix << rounds[r].bits : 0) | bucket_at(sampler->buckets, n_buckets, target, &above);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        bool keep = c[i].key > prefix;
        if (c[i].key == prefix && (above < target || kept == 0)) {
            keep = true;
            above += (double)c[i].weight;
        }
        if (keep) c[kept++] = c[i];
    }
    return kept;
}

/* A logit that at least k tokens reach: the k-th largest of the block maxima. Uses the candidates as scratch. */
static float reached_by(dw_sampler *sampler, uint32_t k) {
    if (k > sampler->n_blocks) return -FLT_MAX;
    for (uint32_t b = 0; b < sampler->n_blocks; b++)
        sampler->candidates[b] = (candidate){sort_key_of(sampler->block_max[b]), (int32_t)b, sampler->block_max[b],
                                             1.0f};
    uint32_t n = keep_likeliest(sampler, sampler->n_blocks, (double)k);
    float low = INFINITY;
    for (uint32_t i = 0; i < n; i++) low = sampler->candidates[i].logit < low ? sampler->candidates[i].logit : low;
    return low < -FLT_MAX ? -FLT_MAX : low; /* -inf is excluded, however many are wanted */
}

static uint32_t gather_top(dw_sampler *sampler, const float *logits, uint32_t k) {
    return keep_likeliest(sampler, gather(sampler, logits, reached_by(sampler, k)), (double)k);
}

/* Drops candidates below `low` and weighs the others. Returns the sum of the weights. */
static double weigh(dw_sampler *sampler, uint32_t *n, float max, float scale, float low) {
    double total = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < *n; i++) {
        candidate c = sampler->candidates[i];
        if (c.logit < low) continue;
        c.weight = exp_negative((c.logit - max) * scale);
        total += (double)c.weight;
        sampler->candidates[kept++] = c;
    }
    *n = kept;
    return total;
}

/* The largest float not above value, so that a threshold never drops what it should keep. */
static float round_down(double value) {
    if (value <= -(double)FLT_MAX) return -FLT_MAX;
    float rounded = (float)value;
    return (double)rounded > value ? nextafterf(rounded, -INFINITY) : rounded;
}

/* The smallest logit that min-p keeps. */
static float min_p_low(const dw_sampling *sampling, float max) {
    if (!(sampling->min_p > 0.0f)) return -FLT_MAX;
    double low = (double)max + (double)sampling->temperature * log((double)sampling->min_p);
    float down = round_down(low);
    return (double)down < low ? nextafterf(down, INFINITY) : down;
}

/* --- drawing ---------------------------------------------------------------------------------------------------- */

/* The candidate at which the running sum exceeds `point`; rounding at the end falls to the last one with a weight. */
static int32_t draw_candidate(const dw_sampler *sampler, uint32_t n, double point) {
    int32_t token = sampler->candidates[0].id;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!(sampler->candidates[i].weight > 0.0f)) continue;
        token = sampler->candidates[i].id;
        sum += (double)sampler->candidates[i].weight;
        if (sum > point) break;
    }
    return token;
}

/* The same over all logits >= low, by block_mass: finds the block, then the token in it. */
static int32_t draw_any(const dw_sampler *sampler, const float *logits, float max, float scale, float low,
                        double point) {
    uint32_t block = 0;
    double sum = 0, before = 0;
    for (uint32_t b = 0; b < sampler->n_blocks; b++) {
        if (!(sampler->block_mass[b] > 0)) continue;
        block = b;
        before = sum;
        sum += sampler->block_mass[b];
        if (sum > point) break;
    }
    uint32_t end = block * BLOCK + BLOCK < sampler->n_vocab ? block * BLOCK + BLOCK : sampler->n_vocab;
    int32_t token = (int32_t)(block * BLOCK);
    for (uint32_t id = block * BLOCK; id < end; id++) {
        float weight = logits[id] < low ? 0.0f : exp_negative((logits[id] - max) * scale);
        if (!(weight > 0.0f)) continue;
        token = (int32_t)id;
        before += (double)weight;
        if (before > point) break;
    }
    return token;
}

/* Without top-k: top-p needs the mass of the whole vocabulary first. All tokens lighter than (1 - top_p) / n_vocab of
 * it weigh together less than what top-p drops, so they need not be gathered. */
static uint32_t gather_top_p(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, float max,
                             float scale, float low) {
    double total = mass(sampler, logits, max, scale, low);
    double least = total * (1.0 - (double)sampling->top_p) / (double)sampler->n_vocab;
    /* A little lower: the single weights carry rounding of their own. */
    float light = round_down((double)max + (log(least) - 1e-3) / (double)scale);
    uint32_t n = gather(sampler, logits, light > low ? light : low);
    (void)weigh(sampler, &n, max, scale, low);
    return keep_likeliest(sampler, n, total * (double)sampling->top_p);
}

static int32_t draw(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, float max,
                    dw_sampler_state *state) {
    float scale = inverse(sampling->temperature), low = min_p_low(sampling, max);
    uint32_t n;
    if (sampling->top_k > 0 && sampling->top_k < sampler->n_vocab) {
        n = gather_top(sampler, logits, sampling->top_k);
        double total = weigh(sampler, &n, max, scale, low);
        if (sampling->top_p < 1.0f) n = keep_likeliest(sampler, n, total * (double)sampling->top_p);
    } else if (sampling->top_p < 1.0f) {
        n = gather_top_p(sampler, logits, sampling, max, scale, low);
    } else {
        double total = mass(sampler, logits, max, scale, low);
        return draw_any(sampler, logits, max, scale, low, dw_sampler_uniform(state) * total);
    }
    double total = 0;
    for (uint32_t i = 0; i < n; i++) total += (double)sampler->candidates[i].weight;
    return draw_candidate(sampler, n, dw_sampler_uniform(state) * total);
}

static int32_t first_of(const dw_sampler *sampler, const float *logits, float max) {
    uint32_t block = 0;
    while (sampler->block_max[block] < max) block++; /* ends: max is the largest of these */
    uint32_t id = block * BLOCK, end = id + BLOCK < sampler->n_vocab ? id + BLOCK : sampler->n_vocab;
    /* the block's last token where the maximum has gone meanwhile (sample.h rule 4) */
    while (id + 1 < end && logits[id] < max) id++;
    return (int32_t)id;
}

/* --- the public functions --------------------------------------------------------------------------------------- */

dw_status dw_sampler_check(dw_sampler *sampler, const float *logits) {
    float max;
    return scan_logits(sampler, logits, &max);
}

/* A log-probability as it leaves: minus infinity for an excluded token, else a number. */
static dw_status score_of(double logit, float max, double log_sum, float *out) {
    *out = (float)(logit - (double)max - log_sum);
    return *out < INFINITY ? DW_OK : DW_E_DEVICE; /* false for NaN too */
}

static dw_status pick(dw_sampler *sampler, const float *logits, const dw_sampling *sampling, dw_sampler_state *state,
                      int32_t *token,
                      float *max) {
    dw_status status = dw_sampling_check(sampling, NULL);
    if (status == DW_OK) status = scan_logits(sampler, logits, max);
    if (status != DW_OK) return status;
    *token = sampling->temperature > 0.0f ? draw(sampler, logits, sampling, *max, state) : first_of(sampler, logits,
        *max);
    return DW_OK;
}

dw_status dw_sampler_pick(dw_sampler *sampler, const float *logits, const dw_sampling *sampling,
                          dw_sampler_state *state, int32_t *token) {
    float max;
    return pick(sampler, logits, sampling, state, token, &max);
}

dw_status dw_sampler_sample(dw_sampler *sampler, const float *logits, const dw_sampling *sampling,
                            dw_sampler_state *state,
                            dw_token_score *out) {
    float max;
    dw_status status = pick(sampler, logits, sampling, state, &out->token, &max);
    if (status != DW_OK) return status;
    return score_of((double)logits[out->token], max, log_mass(sampler, logits, max), &out->logprob);
}

static int by_logit(const void *a, const void *b) {
    const candidate *x = a, *y = b;
    if (x->key != y->key) return x->key > y->key ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

dw_status dw_sampler_top(dw_sampler *sampler, const float *logits, uint32_t k, dw_token_score *out) {
    float max;
    if (k > DW_TOP_K_MAX) return DW_E_LIMIT;
    if (k > sampler->n_vocab) return DW_E_RANGE;
    dw_status status = scan_logits(sampler, logits, &max);
    if (status != DW_OK || k == 0) return status;
    double log_sum = log_mass(sampler, logits, max);
    uint32_t n = gather_top(sampler, logits, k);
    if (n < k) { /* excluded tokens are wanted too: whoever asks for k gets k */
        n = keep_likeliest(sampler, gather(sampler, logits, -INFINITY), (double)k);
    }
    qsort(sampler->candidates, n, sizeof *sampler->candidates, by_logit);
    for (uint32_t i = 0; status == DW_OK && i < k; i++) {
        const candidate *c = &sampler->candidates[i];
        out[i].token = c->id;
        /* fewer than were there */
        status = i < n ? score_of((double)c->logit, max, log_sum, &out[i].logprob) : DW_E_DEVICE;
    }
    return status;
}

dw_status dw_sampler_scores(dw_sampler *sampler, const float *logits, const int32_t *tokens, uint32_t n, float *out) {
    float max;
    for (uint32_t i = 0; i < n; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= sampler->n_vocab) return DW_E_RANGE;
    }
    dw_status status = scan_logits(sampler, logits, &max);
    if (status != DW_OK) return status;
    double log_sum = log_mass(sampler, logits, max);
    for (uint32_t i = 0; status == DW_OK && i < n; i++) {
        uint32_t token = (uint32_t)tokens[i];
        status = token < sampler->n_vocab ? score_of((double)logits[token], max, log_sum, &out[i]) : DW_E_RANGE;
    }
    return status;
}

dw_status dw_sampler_entropy(dw_sampler *sampler, const float *logits, float *out) {
    float max, spare[BLOCK];
    dw_status status = scan_logits(sampler, logits, &max);
    if (status != DW_OK) return status;
    double sum = 0, weighted = 0;
    for (uint32_t b = 0; b < sampler->n_blocks; b++) {
        if (sampler->block_max[b] - max < lightest) continue;
        const float *x = block_at(sampler, logits, b, spare);
        float lane[LANES] = {0}, product[LANES] = {0};
        for (int i = 0; i < BLOCK; i += LANES) {
            for (int l = 0; l < LANES; l++) {
                /* -inf times 0 would be NaN */
                float difference = x[i + l] - max < lightest ? lightest : x[i + l] - max;
                float weight = exp_negative(x[i + l] - max);
                lane[l] += weight;
                product[l] += weight * difference;
            }
        }
        sum += sum_lanes(lane);
        weighted += sum_lanes(product);
    }
    double entropy = log(sum) - weighted / sum;
    if (!isfinite(entropy)) return DW_E_DEVICE;
    *out = entropy > 0 ? (float)entropy : 0.0f; /* of a certain token it is 0, whatever the rounding */
    return DW_OK;
}

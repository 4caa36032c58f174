/* sampler_test.c: the sampler against an independent one (sort everything, double precision), and against libllama's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "llama.h"
#include "model/sample/sample.h"

enum { VOCAB_MAX = 5000 };

/* --- random logits ---------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_next(void) {
    uint64_t z = (random_state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static double random_unit(void) { return (double)(random_next() >> 11) * 0x1p-53; }

/* Roughly normal; with `ties`, rounded so that many are equal; some are -inf. */
static void random_logits(float *x, uint32_t n, double width, bool ties, bool excluded) {
    for (uint32_t i = 0; i < n; i++) {
        double sum = -6;
        for (int j = 0; j < 12; j++) sum += random_unit();
        x[i] = (float)(sum * width);
        if (ties) x[i] = roundf(x[i] * 2) / 2;
        if (excluded && random_next() % 8 == 0) x[i] = -INFINITY;
    }
}

/* --- the independent sampler ------------------------------------------------------------------------------------ */

typedef struct entry { int32_t id; double logit, p; } entry;

static int by_logit(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}
static int by_id(const void *a, const void *b) { return ((const entry *)a)->id - ((const entry *)b)->id; }

static void softmax(entry *e, uint32_t n, double temperature) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) sum += e[i].p = exp((e[i].logit - e[0].logit) / temperature);
    for (uint32_t i = 0; i < n; i++) e[i].p /= sum;
}

/* What is kept, by descending logit. *close: a decision hung on less than float's precision. */
static uint32_t reference_kept(const float *x, uint32_t n, const dw_sampling *s, entry *e, bool *close) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > -INFINITY) e[kept++] = (entry){(int32_t)i, (double)x[i], 0};
    }
    qsort(e, kept, sizeof *e, by_logit);
    if (s->top_k > 0 && s->top_k < kept) kept = s->top_k;
    double t = (double)s->temperature;
    softmax(e, kept, t);
    uint32_t strong = 0;
    for (; strong < kept; strong++) {
        double ratio = e[strong].p / e[0].p;
        if (s->min_p > 0 && fabs(ratio - (double)s->min_p) < 1e-6 * (double)s->min_p) *close = true;
        if (ratio < (double)s->min_p) break;
    }
    kept = strong;
    softmax(e, kept, t);
    double sum = 0;
    for (uint32_t i = 0; s->top_p < 1.0f && i < kept; i++) {
        sum += e[i].p;
        if (fabs(sum - (double)s->top_p) < 1e-5) *close = true;
        if (sum >= (double)s->top_p) kept = i + 1;
    }
    softmax(e, kept, t);
    return kept;
}

static int32_t reference_draw(entry *e, uint32_t n, double u, bool *close) {
    qsort(e, n, sizeof *e, by_id);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += e[i].p;
        if (fabs(sum - u) < 1e-6) *close = true;
        if (sum > u) return e[i].id;
    }
    return e[n - 1].id;
}

static double reference_logprob(const float *x, uint32_t n, int32_t token) {
    double max = -INFINITY, sum = 0;
    for (uint32_t i = 0; i < n; i++) max = (double)x[i] > max ? (double)x[i] : max;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)x[i] - max);
    return (double)x[token] - max - log(sum);
}

static dw_sampler *make_sampler(uint32_t n) {
    dw_sampler *sampler = NULL;
    assert_int_equal(dw_sampler_create(n, &sampler), DW_OK);
    return sampler;
}

static dw_sampling random_sampling(void) {
    static const float temperatures[] = {0.05f, 0.7f, 1.0f, 1.3f, 5.0f, 100.0f}, top_ps[] = {1.0f, 0.95f, 0.5f, 0.01f, 0.9999f};
    static const float min_ps[] = {0.0f, 0.05f, 0.5f, 0.99f, 1e-6f};
    static const uint32_t top_ks[] = {0, 1, 2, 40, 64, 65, 1000, 4999, 100000};
    return (dw_sampling){temperatures[random_next() % 6], top_ps[random_next() % 5], min_ps[random_next() % 5], top_ks[random_next() % 9]};
}

/* --- against the independent sampler ---------------------------------------------------------------------------- */

static void draws_equal_those_of_a_sampler_that_sorts_everything(void **state) {
    (void)state;
    static float x[VOCAB_MAX];
    static entry e[VOCAB_MAX];
    static const uint32_t sizes[] = {1, 2, 63, 64, 65, 1000, VOCAB_MAX};
    int compared = 0, close_calls = 0;
    random_state = 20261;
    for (int round = 0; round < 3000; round++) {
        uint32_t n = sizes[random_next() % 7];
        dw_sampling s = random_sampling();
        random_logits(x, n, 1.0 + 4.0 * random_unit(), round % 3 == 0, round % 4 == 1);
        if (!(x[n / 2] > -INFINITY)) x[n / 2] = 1.0f;
        dw_sampler *sampler = make_sampler(n);
        dw_sampler_state ours = {random_next(), random_next()}, before = ours;
        dw_token_score got;
        assert_int_equal(dw_sampler_sample(sampler, x, &s, &ours, &got), DW_OK);
        assert_true(ours.seed == before.seed && ours.counter == before.counter + 1);
        bool close = false;
        uint32_t kept = reference_kept(x, n, &s, e, &close);
        int32_t expected = reference_draw(e, kept, dw_sampler_uniform(&before), &close);
        if (close && got.token != expected) {
            close_calls++;
        } else {
            if (got.token != expected)
                print_error("round %d n %u t %g p %g m %g k %u\n", round, n, (double)s.temperature, (double)s.top_p, (double)s.min_p, s.top_k);
            assert_int_equal(got.token, expected);
            compared++;
        }
        assert_float_equal(got.logprob, (float)reference_logprob(x, n, got.token), 2e-5);
        dw_sampler_destroy(sampler);
    }
    assert_true(compared > 2900);
    assert_true(close_calls < 100);
}

/* Draws from a set give away the set: every token of it is drawn, no other is. */
static void kept_sets_are_exact_at_ties(void **state) {
    (void)state;
    float x[200];
    for (uint32_t i = 0; i < 200; i++) x[i] = i % 2 ? 1.0f : 0.0f; /* 100 equal maxima: ids 1, 3, 5, ... */
    static const struct { dw_sampling s; int kept; } cases[] = {
        {{1.0f, 1.0f, 0.0f, 7}, 7}, {{1.0f, 1.0f, 0.9f, 0}, 100}, {{1.0f, 0.25f, 0.9f, 0}, 25}, {{2.0f, 0.5f, 0.9f, 90}, 45}};
    dw_sampler *sampler = make_sampler(200);
    for (size_t c = 0; c < 4; c++) {
        bool seen[200] = {false};
        dw_sampler_state rng = {c, 0};
        for (int i = 0; i < 5000; i++) {
            int32_t token;
            assert_int_equal(dw_sampler_pick(sampler, x, &cases[c].s, &rng, &token), DW_OK);
            seen[token] = true;
        }
        for (int i = 0; i < 200; i++) assert_int_equal(seen[i], i % 2 == 1 && i < 2 * cases[c].kept);
    }
    dw_sampler_destroy(sampler);
}

static void greedy_takes_the_lowest_of_equal_maxima_and_no_random_number(void **state) {
    (void)state;
    static float x[VOCAB_MAX];
    dw_sampler_state rng = {5, 77};
    const dw_sampling greedy[] = {{0.0f, 0.5f, 0.5f, 3}, {-1.0f, 1.0f, 0.0f, 0}};
    random_state = 7;
    for (int round = 0; round < 200; round++) {
        uint32_t n = 1 + (uint32_t)(random_next() % VOCAB_MAX);
        random_logits(x, n, 2.0, true, true);
        x[random_next() % n] = 9.5f;
        x[random_next() % n] = 9.5f;
        int32_t expected = 0;
        for (uint32_t i = 1; i < n; i++) {
            if (x[i] > x[expected]) expected = (int32_t)i;
        }
        dw_sampler *sampler = make_sampler(n);
        dw_token_score got;
        int32_t picked;
        assert_int_equal(dw_sampler_sample(sampler, x, &greedy[round % 2], &rng, &got), DW_OK);
        assert_int_equal(dw_sampler_pick(sampler, x, &greedy[round % 2], &rng, &picked), DW_OK);
        assert_true(got.token == expected && picked == expected);
        dw_sampler_destroy(sampler);
    }
    assert_true(rng.seed == 5 && rng.counter == 77);
}

static void minus_zero_and_zero_are_equal(void **state) {
    (void)state;
    const float x[3] = {-1.0f, -0.0f, 0.0f};
    dw_sampler *sampler = make_sampler(3);
    dw_sampler_state rng = {0, 0};
    dw_token_score top[3];
    int32_t token;
    assert_int_equal(dw_sampler_pick(sampler, x, &(dw_sampling){0, 1, 0, 0}, &rng, &token), DW_OK);
    assert_int_equal(token, 1);
    assert_int_equal(dw_sampler_pick(sampler, x, &(dw_sampling){1, 1, 0, 1}, &rng, &token), DW_OK);
    assert_int_equal(token, 1);
    assert_int_equal(dw_sampler_top(sampler, x, 3, top), DW_OK);
    assert_true(top[0].token == 1 && top[1].token == 2 && top[2].token == 0);
    dw_sampler_destroy(sampler);
}

/* --- the numbers ------------------------------------------------------------------------------------------------ */

static void random_numbers_are_philox(void **state) {
    (void)state;
    /* Known answers of Random123 (kat_vectors, philox4x32 10 rounds): first two words of the block for counter 0, key 0. */
    dw_sampler_state rng = {0, 0};
    double expected = (double)(((UINT64_C(0xe169c58d) << 32) | 0x6627e8d5u) >> 11) * 0x1p-53;
    assert_true(dw_sampler_uniform(&rng) == expected);
    assert_int_equal(rng.counter, 1);
    double sum = 0;
    for (int i = 0; i < 100000; i++) {
        double u = dw_sampler_uniform(&rng);
        assert_true(u >= 0.0 && u < 1.0);
        sum += u;
    }
    assert_true(fabs(sum / 100000 - 0.5) < 0.005); /* 5 sigma */
    dw_sampler_state wrapping = {1, UINT64_MAX};
    (void)dw_sampler_uniform(&wrapping);
    assert_int_equal(wrapping.counter, 0);
}

/* Chi-square of 20,000 draws against the exact probabilities; the seed is fixed, so this either holds or does not. */
static void draws_follow_the_distribution(void **state) {
    (void)state;
    enum { N = 300, DRAWS = 20000 };
    static const dw_sampling cases[] = {{1.0f, 1.0f, 0.0f, 0}, {0.7f, 0.9f, 0.0f, 0}, {1.5f, 1.0f, 0.1f, 0}, {1.0f, 0.95f, 0.01f, 20}};
    float x[N];
    entry e[N];
    random_state = 99;
    random_logits(x, N, 1.5, false, false);
    dw_sampler *sampler = make_sampler(N);
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        int counts[N] = {0};
        dw_sampler_state rng = {1234 + c, 0};
        for (int i = 0; i < DRAWS; i++) {
            int32_t token;
            assert_int_equal(dw_sampler_pick(sampler, x, &cases[c], &rng, &token), DW_OK);
            counts[token]++;
        }
        bool close = false;
        uint32_t kept = reference_kept(x, N, &cases[c], e, &close);
        double chi = 0, rest_expected = 0;
        int cells = 0, rest = DRAWS;
        for (uint32_t i = 0; i < kept; i++) {
            if (e[i].p * DRAWS < 5) continue; /* pooled below */
            double difference = counts[e[i].id] - e[i].p * DRAWS;
            chi += difference * difference / (e[i].p * DRAWS);
            rest -= counts[e[i].id];
            rest_expected += e[i].p * DRAWS;
            cells++;
        }
        rest_expected = DRAWS - rest_expected;
        if (rest_expected >= 5) chi += (rest - rest_expected) * (rest - rest_expected) / rest_expected;
        /* mean cells, standard deviation sqrt(2 cells): 4 sigma */
        assert_true(chi < cells + 4 * sqrt(2.0 * cells));
    }
    dw_sampler_destroy(sampler);
}

static void top_scores_and_entropy_match_double_precision(void **state) {
    (void)state;
    static float x[VOCAB_MAX];
    static entry e[VOCAB_MAX];
    static dw_token_score top[DW_TOP_K_MAX];
    random_state = 3;
    for (int round = 0; round < 300; round++) {
        uint32_t n = 1 + (uint32_t)(random_next() % VOCAB_MAX), k = 1 + (uint32_t)(random_next() % DW_TOP_K_MAX);
        if (k > n) k = n;
        random_logits(x, n, 0.5 + 5.0 * random_unit(), round % 2 == 0, false);
        dw_sampler *sampler = make_sampler(n);
        assert_int_equal(dw_sampler_top(sampler, x, k, top), DW_OK);
        for (uint32_t i = 0; i < n; i++) e[i] = (entry){(int32_t)i, (double)x[i], 0};
        qsort(e, n, sizeof *e, by_logit);
        softmax(e, n, 1.0);
        double entropy = 0;
        for (uint32_t i = 0; i < n; i++) entropy -= e[i].p > 0 ? e[i].p * log(e[i].p) : 0;
        for (uint32_t i = 0; i < k; i++) {
            assert_int_equal(top[i].token, e[i].id);
            assert_float_equal(top[i].logprob, (float)log(e[i].p), 2e-5);
        }
        int32_t tokens[2] = {e[n - 1].id, e[0].id};
        float scores[2], measured;
        assert_int_equal(dw_sampler_scores(sampler, x, tokens, 2, scores), DW_OK);
        assert_float_equal(scores[0], (float)log(e[n - 1].p), 5e-5);
        assert_float_equal(scores[1], top[0].logprob, 0);
        assert_int_equal(dw_sampler_entropy(sampler, x, &measured), DW_OK);
        assert_float_equal(measured, (float)entropy, 1e-4);
        dw_sampler_destroy(sampler);
    }
}

static void excluded_tokens_are_never_drawn_but_can_be_scored(void **state) {
    (void)state;
    float x[130], score;
    for (int i = 0; i < 130; i++) x[i] = -INFINITY;
    x[129] = -50.0f;
    x[3] = -51.0f;
    dw_sampler *sampler = make_sampler(130);
    dw_sampler_state rng = {1, 0};
    static const dw_sampling cases[] = {{100.0f, 1.0f, 0.0f, 0}, {100.0f, 1.0f, 0.0f, 50}, {100.0f, 0.999f, 0.0f, 0}, {100.0f, 0.999f, 0.0f, 129}};
    for (size_t c = 0; c < 4; c++) {
        for (int i = 0; i < 200; i++) {
            int32_t token;
            assert_int_equal(dw_sampler_pick(sampler, x, &cases[c], &rng, &token), DW_OK);
            assert_true(token == 129 || token == 3);
        }
    }
    dw_token_score top[4];
    assert_int_equal(dw_sampler_top(sampler, x, 4, top), DW_OK);
    assert_true(top[0].token == 129 && top[1].token == 3 && top[2].token == 0 && top[3].token == 1);
    assert_true(isinf(top[2].logprob) && top[2].logprob < 0);
    assert_int_equal(dw_sampler_scores(sampler, x, (const int32_t[]){7}, 1, &score), DW_OK);
    assert_true(isinf(score) && score < 0);
    dw_sampler_destroy(sampler);
}

/* --- what is refused -------------------------------------------------------------------------------------------- */

static void a_broken_device_never_gives_a_token(void **state) {
    (void)state;
    float x[200], value;
    dw_sampler *sampler = make_sampler(200);
    dw_token_score score, top[3];
    const dw_sampling cases[] = {{0, 1, 0, 0}, {1, 1, 0, 0}, {1, 0.9f, 0, 40}};
    for (int kind = 0; kind < 3; kind++) {
        for (int at = 0; at < 200; at += kind == 2 ? 200 : 13) {
            for (int i = 0; i < 200; i++) x[i] = kind == 2 ? -INFINITY : (float)i;
            if (kind < 2) x[at] = kind == 0 ? NAN : INFINITY;
            for (int c = 0; c < 3; c++) {
                dw_sampler_state rng = {1, 9};
                assert_int_equal(dw_sampler_sample(sampler, x, &cases[c], &rng, &score), DW_E_DEVICE);
                assert_int_equal(rng.counter, 9);
            }
            assert_int_equal(dw_sampler_top(sampler, x, 3, top), DW_E_DEVICE);
            assert_int_equal(dw_sampler_scores(sampler, x, (const int32_t[]){1}, 1, &value), DW_E_DEVICE);
            assert_int_equal(dw_sampler_entropy(sampler, x, &value), DW_E_DEVICE);
        }
    }
    dw_sampler_destroy(sampler);
}

static void bad_parameters_are_refused_by_name(void **state) {
    (void)state;
    static const struct { dw_sampling s; const char *says; } cases[] = {
        {{NAN, 1, 0, 0}, "temperature"},    {{100.5f, 1, 0, 0}, "temperature"}, {{INFINITY, 1, 0, 0}, "temperature"},
        {{1, 0, 0, 0}, "top_p"},            {{1, -0.1f, 0, 0}, "top_p"},        {{1, 1.1f, 0, 0}, "top_p"},
        {{1, NAN, 0, 0}, "top_p"},          {{1, 1, 1, 0}, "min_p"},            {{1, 1, -0.1f, 0}, "min_p"},
        {{1, 1, NAN, 0}, "min_p"},
    };
    const float x[1] = {0};
    dw_sampler *sampler = make_sampler(1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        dw_error err = {0};
        dw_sampler_state rng = {0, 0};
        dw_token_score out;
        assert_int_equal(dw_sampling_check(&cases[i].s, &err), DW_E_RANGE);
        assert_non_null(strstr(err.text, cases[i].says));
        assert_int_equal(dw_sampler_sample(sampler, x, &cases[i].s, &rng, &out), DW_E_RANGE);
    }
    assert_int_equal(dw_sampling_check(&(dw_sampling){-3.0f, 1, 0, 0}, NULL), DW_OK);
    assert_int_equal(dw_sampling_check(&(dw_sampling){100.0f, 0.001f, 0.999f, UINT32_MAX}, NULL), DW_OK);
    dw_sampler_destroy(sampler);
}

static void tokens_and_sizes_outside_are_refused(void **state) {
    (void)state;
    const float x[4] = {0, 1, 2, 3};
    float out[2];
    dw_token_score top[5];
    dw_sampler *sampler = NULL;
    assert_int_equal(dw_sampler_create(0, &sampler), DW_E_RANGE);
    assert_int_equal(dw_sampler_create(DW_VOCAB_TOKENS_MAX + 1, &sampler), DW_E_RANGE);
    sampler = make_sampler(4);
    assert_int_equal(dw_sampler_scores(sampler, x, (const int32_t[]){0, 4}, 2, out), DW_E_RANGE);
    assert_int_equal(dw_sampler_scores(sampler, x, (const int32_t[]){-1}, 1, out), DW_E_RANGE);
    assert_int_equal(dw_sampler_top(sampler, x, 5, top), DW_E_RANGE);
    assert_int_equal(dw_sampler_top(sampler, x, DW_TOP_K_MAX + 1, top), DW_E_LIMIT);
    assert_int_equal(dw_sampler_top(sampler, x, 0, top), DW_OK);
    dw_sampler_destroy(sampler);
    dw_sampler_destroy(NULL);
}

static void extreme_temperatures_and_logits_are_finite(void **state) {
    (void)state;
    static const float temperatures[] = {FLT_MIN, 1e-44f, 1e-6f, 100.0f};
    static const float tops[] = {1.0f, 0.5f};
    float x[100];
    for (int i = 0; i < 100; i++) x[i] = i == 42 ? FLT_MAX : i % 2 ? -FLT_MAX : 0.0f;
    dw_sampler *sampler = make_sampler(100);
    for (size_t t = 0; t < 4; t++) {
        for (uint32_t k = 0; k < 3; k++) {
            for (size_t p = 0; p < 2; p++) {
                dw_sampler_state rng = {t, k};
                dw_token_score got;
                assert_int_equal(dw_sampler_sample(sampler, x, &(dw_sampling){temperatures[t], tops[p], 0.0f, k}, &rng, &got), DW_OK);
                assert_int_equal(got.token, 42);
                assert_true(got.logprob == 0.0f);
            }
        }
    }
    dw_sampler_destroy(sampler);
}

/* --- against libllama ------------------------------------------------------------------------------------------- */

static void apply(struct llama_sampler *sampler, llama_token_data_array *all) {
    llama_sampler_apply(sampler, all);
    llama_sampler_free(sampler);
}

/* The tokens that libllama's top-k, temperature, min-p and top-p keep, in that order, are the tokens that can be drawn here; and its
 * order of the top k is ours. */
static void kept_sets_and_order_equal_libllamas(void **state) {
    (void)state;
    enum { N = 1500 };
    static float x[N];
    static llama_token_data data[N];
    static entry e[N];
    dw_token_score top[100];
    dw_sampler *sampler = make_sampler(N);
    random_state = 4242;
    int compared = 0;
    for (int round = 0; round < 400; round++) {
        random_logits(x, N, 1.0 + 3.0 * random_unit(), false, false);
        dw_sampling s = random_sampling();
        for (int32_t i = 0; i < N; i++) data[i] = (llama_token_data){i, x[i], 0};
        llama_token_data_array all = {data, N, -1, false};
        if (s.top_k > 0) apply(llama_sampler_init_top_k((int32_t)(s.top_k < N ? s.top_k : N)), &all);
        apply(llama_sampler_init_temp(s.temperature), &all);
        apply(llama_sampler_init_min_p(s.min_p, 1), &all);
        apply(llama_sampler_init_top_p(s.top_p, 1), &all);
        bool close = false;
        uint32_t kept = reference_kept(x, N, &s, e, &close);
        if (close) continue; /* float against double at the edge of the set */
        compared++;
        assert_int_equal(all.size, kept);
        bool member[N] = {false};
        for (size_t i = 0; i < all.size; i++) member[all.data[i].id] = true;
        dw_sampler_state rng = {(uint64_t)round, 0};
        for (int i = 0; i < 50; i++) {
            int32_t token;
            assert_int_equal(dw_sampler_pick(sampler, x, &s, &rng, &token), DW_OK);
            assert_true(member[token]);
        }
        for (int32_t i = 0; i < N; i++) data[i] = (llama_token_data){i, x[i], 0};
        all = (llama_token_data_array){data, N, -1, false};
        apply(llama_sampler_init_top_k(100), &all);
        assert_int_equal(dw_sampler_top(sampler, x, 100, top), DW_OK);
        for (int i = 0; i < 100; i++) assert_true(x[top[i].token] == all.data[i].logit);
    }
    assert_true(compared > 300);
    dw_sampler_destroy(sampler);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(draws_equal_those_of_a_sampler_that_sorts_everything),
        cmocka_unit_test(kept_sets_are_exact_at_ties),
        cmocka_unit_test(greedy_takes_the_lowest_of_equal_maxima_and_no_random_number),
        cmocka_unit_test(minus_zero_and_zero_are_equal),
        cmocka_unit_test(random_numbers_are_philox),
        cmocka_unit_test(draws_follow_the_distribution),
        cmocka_unit_test(top_scores_and_entropy_match_double_precision),
        cmocka_unit_test(excluded_tokens_are_never_drawn_but_can_be_scored),
        cmocka_unit_test(a_broken_device_never_gives_a_token),
        cmocka_unit_test(bad_parameters_are_refused_by_name),
        cmocka_unit_test(tokens_and_sizes_outside_are_refused),
        cmocka_unit_test(extreme_temperatures_and_logits_are_finite),
        cmocka_unit_test(kept_sets_and_order_equal_libllamas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

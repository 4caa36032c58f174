/* family.h: the model families that the decoder builds graphs for, as a table of traits, and the hyperparameters of one model.
 *
 * A dense decoder-only family is a row of the table. The decoder asks for traits, never for names.
 * Keys and tensor names: github.com/ggml-org/ggml docs/gguf.md and llama.cpp's converters.
 * Threads: immutable.
 */
#ifndef DW_MODEL_FAMILY_H
#define DW_MODEL_FAMILY_H

#include <stdbool.h>
#include "base/base.h"
#include "model/gguf.h"

typedef enum dw_activation { DW_ACTIVATION_SILU, DW_ACTIVATION_GELU } dw_activation; /* of the gate: act(gate(x)) * up(x) */

typedef struct dw_family {
    const char *architecture;
    bool rope_neox;          /* pairs are (i, i + n/2), else (2i, 2i+1) */
    dw_activation activation;
    bool qk_norm;            /* RMS norm of each head of Q and K before rope */
    bool post_norms;         /* RMS norm of what attention and feed-forward add */
    bool embedding_scale;    /* embeddings times sqrt(n_embedding) */
    bool scale_q;            /* attention's scale is multiplied into Q (else given to the attention operation; same value, other rounding) */
    bool biases;             /* optional biases of the projections */
    bool rope_factors;       /* optional tensor rope_freqs.weight */
    uint32_t window_pattern; /* every n-th layer attends to everything, the others to a sliding window; 0 = no windows */
    uint32_t wide_scale_layers; /* models with this many layers scale attention by the head count's share of the width instead of the head's */
} dw_family;

typedef struct dw_hyperparameters {
    uint32_t n_layers, n_embedding, n_heads, n_heads_kv, head_dim, n_feed_forward, n_vocab;
    uint32_t context_train, context_original;
    uint32_t n_rot;
    uint32_t window;         /* tokens a windowed layer sees; 0 = none */
    uint32_t window_pattern;
    float norm_epsilon;
    float rope_base, rope_scale, rope_attention_factor;
    float rope_base_window;  /* of windowed layers, which are never rope-scaled */
    float attention_scale;
    float final_softcap;     /* 0 = none */
} dw_hyperparameters;

/* The row for general.architecture; an unknown one is refused by name with the list of those that are there. */
dw_status dw_family_of(const dw_gguf *gguf, const dw_family **out, dw_error *err) DW_MUST_USE;
/* Reads and checks; what this decoder cannot do (experts, other rope scalings, unequal layers) is refused by key. */
dw_status dw_hyperparameters_read(const dw_gguf *gguf, const dw_family *family, dw_hyperparameters *out, dw_error *err) DW_MUST_USE;
/* Whether a layer sees only the window. */
bool dw_layer_is_windowed(const dw_hyperparameters *hp, uint32_t layer);

#endif

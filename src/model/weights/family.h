/* family.h: the model families that the decoder builds graphs for, as a table of traits, and the hyperparameters of one
 * model.
 *
 * A decoder-only family is a row of the table (family.c). The decoder asks for traits, never for names; what a file
 * says for itself (biases, one matrix for Q, K and V, an output matrix of its own, experts) is no trait: it is read
 * from the file. Keys and tensor names: github.com/ggml-org/ggml docs/gguf.md and llama.cpp's converters.
 * Threads: immutable.
 */
#ifndef DW_MODEL_WEIGHTS_FAMILY_H
#define DW_MODEL_WEIGHTS_FAMILY_H

#include <stdbool.h>
#include "base/base.h"
#include "model/gguf/gguf.h"

typedef enum dw_norm { DW_NORM_RMS, DW_NORM_LAYER } dw_norm;   /* LAYER: with mean and bias (Ba et al. 2016) */
typedef enum dw_activation { DW_ACTIVATION_SILU, DW_ACTIVATION_GELU } dw_activation;
typedef enum dw_qk_norm {
    DW_QK_NORM_NONE,
    DW_QK_NORM_HEAD,         /* RMS norm of each head of Q and K before rope */
    DW_QK_NORM_WIDTH,        /* RMS norm over all heads at once */
} dw_qk_norm;
typedef enum dw_experts {
    DW_EXPERTS_NONE,         /* a file with experts is refused */
    DW_EXPERTS_MAY,          /* each as wide as feed_forward_length */
    /* As wide as expert_feed_forward_length; without that key the used ones share feed_forward_length. */
    DW_EXPERTS_ALWAYS,
} dw_experts;
/* How windowed layers place their tokens. */
typedef enum dw_window_rope {
    DW_WINDOW_ROPE_SAME,     /* as the other layers, but for a base of its own where the file has the key */
    DW_WINDOW_ROPE_LOCAL,    /* base 10000 or the key's, no scale */
    DW_WINDOW_ROPE_PLAIN,    /* the other layers' base, no scaling of any kind */
} dw_window_rope;

typedef struct dw_family {
    const char *architecture;
    dw_norm norm;
    bool norms_inside;       /* no norm before attention and feed-forward (then there are post_norms) */
    bool post_norms;         /* norm of what attention and feed-forward add */
    dw_qk_norm qk_norm;
    dw_activation activation;
    bool plain_feed_forward; /* act(up(x)), else act(gate(x)) * up(x) */
    bool biases_required;    /* of the attention's output and of the feed-forward; any family may have some */
    bool own_output_required;/* else an output matrix may be the embedding */
    dw_experts experts;
    bool embedding_scale;    /* embeddings times sqrt(n_embedding) */
    bool scales;             /* has the keys embedding_scale, residual_scale, attention.scale and logit_scale */
    /* attention's scale is multiplied into Q (else given to the attention operation; same value, other rounding). */
    bool scale_q;
    float attention_softcap, final_softcap; /* where the file has no key for it; 0 = none */
    /* Models with this many layers scale attention by the head count's share of the width instead of the head's. */
    uint32_t wide_scale_layers;
    bool rope_neox;          /* pairs are (i, i + n/2), else (2i, 2i+1) */
    bool rope_factors;       /* optional tensor rope_freqs.weight */
    /* Optional tensors rope_factors_short.weight and _long.weight, whatever rope.scaling.type says. */
    bool rope_long;
    bool rope_switch;        /* rope.scaling.finetuned = false turns rope off */
    uint32_t no_rope_step;   /* every n-th layer does without rope; 0 = none */
    /* Every n-th layer attends to everything, the others to a sliding window; 0 = no windows, whatever the file
     * says. */
    uint32_t window_pattern;
    uint32_t window;         /* where the file has no key for it */
    dw_window_rope window_rope;
} dw_family;

typedef struct dw_layer_sizes {
    uint32_t n_heads, n_feed_forward;
    bool windowed;           /* sees only the window */
    bool rope;
} dw_layer_sizes;

/* Parameters of ggml_rope_ext (YaRN: Peng et al. 2023). */
typedef struct dw_rope { float base, scale, extrapolation, magnitude; } dw_rope;

typedef struct dw_hyperparameters {
    uint32_t n_layers, n_embedding, n_heads_kv, head_dim, n_vocab;
    uint32_t n_heads;        /* of the first layer */
    uint32_t n_experts, n_experts_used, n_expert_feed_forward; /* 0 = none */
    uint32_t context_train, context_original;
    uint32_t n_rot;
    uint32_t window;         /* tokens a windowed layer sees; 0 = none */
    bool rope_long, rope_long_required; /* may, must have short and long factors */
    uint32_t context;        /* of a session here: decides between these. dw_hyperparameters_read leaves it 0 */
    dw_rope rope, rope_window;
    float norm_epsilon;
    float attention_scale;
    float attention_softcap, final_softcap;                    /* 0 = none */
    float embedding_scale, residual_scale, logit_divisor;      /* 0 = none */
    dw_layer_sizes layers[DW_LAYERS_MAX];
} dw_hyperparameters;

/* The row for general.architecture; an unknown one is refused by name with the list of those that are there. */
dw_status dw_family_of(const dw_gguf *gguf, const dw_family **out, dw_error *err) DW_MUST_USE;
/* Rows of the table, in its order; NULL behind the last. */
const dw_family *dw_family_at(size_t index);
/* Tokens of the vocabulary, as the embedding matrix has rows for them: of a decoder or an encoder. */
dw_status dw_vocab_tokens_read(const dw_gguf *gguf, uint32_t *out, dw_error *err) DW_MUST_USE;
/* Reads and checks; what this decoder cannot do is refused by key. */
dw_status dw_hyperparameters_read(const dw_gguf *gguf, const dw_family *family, dw_hyperparameters *out,
                                  dw_error *err) DW_MUST_USE;
/* Whether a layer sees only the window. */
bool dw_layer_is_windowed(const dw_hyperparameters *hp, uint32_t layer);

#endif

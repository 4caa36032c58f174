/* make_model.h: small models with random weights, as GGUF files, for tests. */
#ifndef DW_TESTS_MODEL_KIT_MAKE_MODEL_H
#define DW_TESTS_MODEL_KIT_MAKE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "ggml.h"

struct gguf_context;

typedef struct made_model {
    const char *name;
    const char *architecture;      /* one of the table in make_model.c */
    uint32_t n_layers, width, n_heads, n_heads_kv, head_dim, n_feed_forward, context;
    const char *vocabulary;        /* "qwen2": of llama.cpp's ggml-vocab-qwen2.gguf, where they are; NULL: n_vocab tokens made up here */
    uint32_t n_vocab;              /* of a made-up one */
    enum ggml_type type;           /* of the matrices */
    enum ggml_type embedding_type; /* F32 (0): as `type` */
    uint32_t window;
    const uint8_t *window_layers;  /* [n_layers], a pattern array; NULL: the family's pattern */
    uint32_t n_experts, n_experts_used, n_expert_feed_forward; /* the last: 0 = no key */
    bool own_output;               /* else tied to the embedding */
    bool output_bias;
    bool rope_factors;             /* as in Llama 3.x */
    bool rope_short_and_long;
    const char *rope_scaling;      /* "linear", ...; NULL: no key */
    float rope_factor;             /* 0 = no key */
    uint32_t rope_original;        /* 0 = no key */
    bool qkv_biases, biases;       /* of Q, K and V; of every other product of a layer */
    bool fused_qkv, fused_gate;
    /* Layers of unequal size: the first this[layer] of n_heads and n_feed_forward are kept. Padded: layers stay equal, and what the others would
     * contribute is multiplied by 0. F32 alone. */
    const uint32_t *heads_of, *feed_of;
    bool padded;
    const char *omit;              /* a tensor that is left out */
    const char *extra;             /* a vector [width] that no family has */
    void (*edit)(struct gguf_context *file); /* last change to the keys */
    uint64_t seed;
} made_model;

/* Flavours of llama and gemma3 with a small made-up vocabulary; the array ends with a NULL name. */
extern const made_model made_models[];
const made_model *made_model_named(const char *name);
/* A model of each family with a real vocabulary, and variants that between them meet what files may contain, with a small one. */
extern const made_model made_families[], made_variants[];
/* Where the real vocabularies are there. */
bool made_vocabularies_there(void);
/* Writes the file; false on failure. */
bool made_model_write(const made_model *model, const char *path);
/* Path of the model in the build folder, written first if need be. Borrowed, until the next call. */
const char *made_model_path(const made_model *model);

#endif

/* make_model.h: small models with random weights, as GGUF files, for tests. */
#ifndef DW_TESTS_MODEL_MAKE_MODEL_H
#define DW_TESTS_MODEL_MAKE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "ggml.h"

typedef struct made_model {
    const char *name;
    const char *architecture;      /* "llama" or "gemma3" */
    uint32_t n_layers, width, n_heads, n_heads_kv, head_dim, n_feed_forward, n_vocab, context;
    uint32_t window;               /* gemma3 */
    enum ggml_type type;           /* of the matrices */
    bool own_output;               /* else tied to the embedding */
    bool rope_factors;             /* as in Llama 3.x */
    float rope_linear;             /* scaling factor, 0 = none */
    bool biases;
    uint64_t seed;
} made_model;

/* Flavours that between them meet every trait; the array ends with a NULL name. */
extern const made_model made_models[];
const made_model *made_model_named(const char *name);
/* Writes the file; false on failure. */
bool made_model_write(const made_model *model, const char *path);
/* Path of the model in the build folder, written first if need be. Borrowed, until the next call. */
const char *made_model_path(const made_model *model);

#endif

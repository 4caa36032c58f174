/* make_encoder.h: small BERT encoders with random weights, as GGUF files, good ones and bad ones. */
#ifndef DW_TESTS_MODEL_EMBED_MAKE_ENCODER_H
#define DW_TESTS_MODEL_EMBED_MAKE_ENCODER_H

#include <stdbool.h>
#include <stdint.h>

#include "ggml.h"

/* What is wrong with a file; MADE_GOOD loads. */
typedef enum made_fault {
    MADE_GOOD, MADE_NO_LAYERS, MADE_ABSURD_LAYERS, MADE_NO_EPSILON, MADE_HEADS_DO_NOT_DIVIDE, MADE_SHARED_HEADS, MADE_CAUSAL,
    MADE_RANK_POOLING, MADE_NO_POSITIONS, MADE_FEW_POSITIONS, MADE_ABSURD_CONTEXT, MADE_NO_NORM_BIAS, MADE_NARROW_FEED, MADE_F16_NORM,
    MADE_NO_TOKENIZER, MADE_NO_SEPARATOR, MADE_SEPARATOR_OUTSIDE, MADE_BYTE_TOKEN, MADE_OTHER_VOCABULARY, MADE_FAULTS
} made_fault;

typedef struct made_encoder {
    const char *name;
    uint32_t n_layers, width, n_heads, n_feed_forward, context;
    enum ggml_type type;      /* of the matrices */
    uint32_t pooling;         /* GGUF's number; 0: not in the file */
    bool token_types;
} made_encoder;

enum { MADE_VOCABULARY = 100, MADE_UNK = 1, MADE_CLS = 2, MADE_SEP = 3, MADE_FIRST_WORD = 5 };

/* Between them they meet every trait; the array ends with a NULL name. */
extern const made_encoder made_encoders[];
/* Path of the file in the build folder, written anew. `purpose` keeps tests that run side by side apart. Borrowed, until the next call. */
const char *made_encoder_path(const made_encoder *encoder, made_fault fault, const char *purpose);

#endif

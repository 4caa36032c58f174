/* make_gguf.h: writes small GGUF files for tests, good ones and, through its single steps, bad ones. */
#ifndef DW_TESTS_MODEL_KIT_MAKE_GGUF_H
#define DW_TESTS_MODEL_KIT_MAKE_GGUF_H

#include <stdbool.h>
#include "base/base.h"
#include "model/gguf/gguf.h"

/* --- single steps: the caller keeps the counts of the header true, or not --- */
void make_header(dw_writer *w, uint32_t version, uint64_t n_tensors, uint64_t n_keys);
void make_string(dw_writer *w, const char *text);
void make_string_bytes(dw_writer *w, const void *bytes, size_t size);
void make_key(dw_writer *w, const char *name, uint32_t type);
void make_key_u32(dw_writer *w, const char *name, uint32_t value);
void make_key_f32(dw_writer *w, const char *name, float value);
void make_key_bool(dw_writer *w, const char *name, uint8_t value);
void make_key_string(dw_writer *w, const char *name, const char *text);
void make_key_array(dw_writer *w, const char *name, uint32_t element_type, uint64_t count); /* elements follow */
void make_tensor(dw_writer *w, const char *name, uint32_t n_dims, const uint64_t *shape, uint32_t type, uint64_t offset);
void make_padding(dw_writer *w, size_t unit);
void make_bytes(dw_writer *w, size_t n, uint8_t first); /* n bytes that count up */
void make_f32(dw_writer *w, float value);

/* --- whole files --- */

/* One part of a split file. Tensors are 8 F32 each, whose first byte is the first letter of the name, the others counting up from it. */
typedef struct make_part_of {
    int64_t number, count, n_tensors; /* split.no (from 0), split.count, split.tensors.count; -1: no such key */
    const char *names[4];             /* of its tensors, ended by NULL */
} make_part_of;
void make_part(dw_writer *w, const make_part_of *part);
/* Parts in one input, as the fuzzers take them: "PARTS", a byte with their number, then each one's size as u32, then their bytes. */
void make_bundle(dw_writer *w, const make_part_of *parts, uint8_t n_parts);

/* Every type of value, alone and in arrays, and three tensors; a little over 1 KB. */
void make_all_types(dw_writer *w);

/* What is wrong with a vocabulary; MAKE_GOOD is a file that loads. */
typedef enum make_fault {
    MAKE_GOOD, MAKE_NO_MODEL, MAKE_UNKNOWN_MODEL, MAKE_UNKNOWN_PRE, MAKE_NO_TOKENS, MAKE_TOKENS_NOT_STRINGS, MAKE_EQUAL_TOKENS,
    MAKE_EQUAL_UP_TO_ZERO, MAKE_NAME_OF_EMPTY, MAKE_MISSING_BYTE, MAKE_SHORT_SCORES, MAKE_NAN_SCORE, MAKE_SCORES_NOT_NUMBERS,
    MAKE_SHORT_TYPES, MAKE_UNKNOWN_TYPE, MAKE_BYTE_NOT_WRITTEN_SO, MAKE_NO_MERGES, MAKE_BOS_OUTSIDE, MAKE_BOS_MISSING, MAKE_EOS_MISSING,
    MAKE_OTHER_SIZE, MAKE_BOS_NONE, MAKE_BOS_NONE_SIGNED, MAKE_OTHER_ROWS, MAKE_LONG_TOKEN, MAKE_GROWING_TOKENS,
    MAKE_NO_ARCHITECTURE, MAKE_SUPPRESS_NOT_ARRAY, MAKE_FAULTS
} make_fault;

typedef struct make_vocabulary {
    bool byte_pairs;  /* gpt2 with llama-bpe word splitting; else llama (SentencePiece) */
    make_fault fault;
    const char *pre;  /* of byte pairs: another word splitting */
    bool spaces;      /* SentencePiece: texts get a space in front, and the last word is a space */
    bool adds_eos;
} make_vocabulary;

/* A llama-like file with a vocabulary and an embedding, no layers. Tokens: <unk> <s> </s>, 256 bytes, then words. */
void make_llama(dw_writer *w, const make_vocabulary *options);
/* A BERT-like file with a WordPiece vocabulary and no tensors. */
void make_word_pieces(dw_writer *w);
/* The words of both vocabularies, joined from left to right by score or merge rank: "lo" before "hello". */
enum { MAKE_FIRST_BYTE = 3, MAKE_FIRST_WORD = 259 };

/* A llama that can be opened and evaluated: one layer, 32 wide, 2 heads over 1, F16 matrices, the SentencePiece vocabulary above. Some 35 KB,
 * of which all keys but the vocabulary's arrays are within the first 4 KiB. `changes` replace keys of it or add some. */
typedef struct make_change {
    const char *key;
    uint32_t type;    /* a number's, or MAKE_LEFT_OUT, or DW_GGUF_STRING ("x"), or DW_GGUF_ARRAY (three u32 of this value) */
    uint64_t value;   /* its bits */
} make_change;
#define MAKE_LEFT_OUT UINT32_MAX
void make_whole_model(dw_writer *w, const make_change *changes, size_t n_changes);

/* Opens what a writer holds. The bytes stay valid until the writer is deinitialised; they are moved to a block of exactly their
 * size, so that the address sanitizer sees a read past their end. */
dw_status make_open(dw_writer *w, dw_gguf **out, dw_error *err);

#endif

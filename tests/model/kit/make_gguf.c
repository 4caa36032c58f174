/* make_gguf.c: a GGUF writer for tests. Independent of the reader: it shares only the numbers of the types. */
#include "model/kit/make_gguf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GGML_F32 = 0, GGML_F16 = 1, GGML_Q4_0 = 2, ROW_Q4_0 = 18, EMBEDDING = 2 };

void make_header(dw_writer *w, uint32_t version, uint64_t n_tensors, uint64_t n_keys) {
    dw_write_bytes(w, "GGUF", 4);
    dw_write_u32(w, version);
    dw_write_u64(w, n_tensors);
    dw_write_u64(w, n_keys);
}

void make_string_bytes(dw_writer *w, const void *bytes, size_t size) {
    dw_write_u64(w, size);
    dw_write_bytes(w, bytes, size);
}

void make_string(dw_writer *w, const char *text) { make_string_bytes(w, text, strlen(text)); }

void make_key(dw_writer *w, const char *name, uint32_t type) {
    make_string(w, name);
    dw_write_u32(w, type);
}

void make_key_u32(dw_writer *w, const char *name, uint32_t value) {
    make_key(w, name, DW_GGUF_U32);
    dw_write_u32(w, value);
}

void make_f32(dw_writer *w, float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    dw_write_u32(w, bits);
}

void make_key_f32(dw_writer *w, const char *name, float value) {
    make_key(w, name, DW_GGUF_F32);
    make_f32(w, value);
}

void make_key_bool(dw_writer *w, const char *name, uint8_t value) {
    make_key(w, name, DW_GGUF_BOOL);
    dw_write_u8(w, value);
}

void make_key_string(dw_writer *w, const char *name, const char *text) {
    make_key(w, name, DW_GGUF_STRING);
    make_string(w, text);
}

void make_key_array(dw_writer *w, const char *name, uint32_t element_type, uint64_t count) {
    make_key(w, name, DW_GGUF_ARRAY);
    dw_write_u32(w, element_type);
    dw_write_u64(w, count);
}

void make_tensor(dw_writer *w, const char *name, uint32_t n_dims, const uint64_t *shape, uint32_t type, uint64_t offset) {
    make_string(w, name);
    dw_write_u32(w, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) dw_write_u64(w, shape[i]);
    dw_write_u32(w, type);
    dw_write_u64(w, offset);
}

void make_padding(dw_writer *w, size_t unit) {
    while (w->status == DW_OK && w->size % unit != 0) dw_write_u8(w, 0);
}

void make_bytes(dw_writer *w, size_t n, uint8_t first) {
    for (size_t i = 0; i < n; i++) dw_write_u8(w, (uint8_t)(first + i));
}

/* --- every type ------------------------------------------------------------------------------------------------- */

static void write_integer(dw_writer *w, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) dw_write_u8(w, (uint8_t)(value >> (8 * i)));
}

/* Element i of `type`: i + 1, so that tests know what to expect; strings are "a", "bb", ...; truth values alternate. */
static void make_element(dw_writer *w, dw_gguf_type type, unsigned i) {
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 0, 0, 0, 0, 8, 8, 0};
    double number = (double)(i + 1);
    uint64_t bits;
    char text[16];
    switch (type) {
    case DW_GGUF_F32: make_f32(w, (float)number); break;
    case DW_GGUF_F64:
        memcpy(&bits, &number, sizeof bits);
        dw_write_u64(w, bits);
        break;
    case DW_GGUF_BOOL: dw_write_u8(w, (uint8_t)((i + 1) % 2)); break;
    case DW_GGUF_STRING:
        memset(text, (int)('a' + i), i + 1);
        make_string_bytes(w, text, i + 1);
        break;
    default: write_integer(w, i + 1, bytes[type]); break;
    }
}

void make_all_types(dw_writer *w) {
    static const dw_gguf_type types[] = {DW_GGUF_U8,  DW_GGUF_I8,   DW_GGUF_U16,    DW_GGUF_I16, DW_GGUF_U32, DW_GGUF_I32,
                                         DW_GGUF_F32, DW_GGUF_BOOL, DW_GGUF_STRING, DW_GGUF_U64, DW_GGUF_I64, DW_GGUF_F64};
    enum { N = sizeof types / sizeof types[0] };
    char name[32];
    make_header(w, 3, 3, 2 * N + 2);
    make_key_string(w, "general.architecture", "llama");
    make_key_u32(w, "general.alignment", 64);
    for (unsigned i = 0; i < N; i++) {
        (void)snprintf(name, sizeof name, "one.%u", (unsigned)types[i]);
        make_key(w, name, types[i]);
        make_element(w, types[i], 0);
        (void)snprintf(name, sizeof name, "many.%u", (unsigned)types[i]);
        make_key_array(w, name, types[i], 3);
        for (unsigned e = 0; e < 3; e++) make_element(w, types[i], e);
    }
    make_tensor(w, "one", 1, (const uint64_t[]){5}, GGML_F32, 0);
    make_tensor(w, "two", 2, (const uint64_t[]){32, 3}, GGML_Q4_0, 64);
    make_tensor(w, "four", 4, (const uint64_t[]){2, 3, 1, 2}, GGML_F16, 128);
    make_padding(w, 64);
    make_bytes(w, 20, 1);
    make_padding(w, 64);
    make_bytes(w, 3 * ROW_Q4_0, 1);
    make_padding(w, 64);
    make_bytes(w, 24, 1);
    make_padding(w, 64);
}

/* --- parts ------------------------------------------------------------------------------------------------------ */

void make_part(dw_writer *w, const make_part_of *part) {
    static const char *const keys[] = {"split.no", "split.count", "split.tensors.count"};
    const int64_t values[] = {part->number, part->count, part->n_tensors};
    uint64_t n_keys = 0, n_tensors = 0;
    for (int i = 0; i < 3; i++) n_keys += values[i] >= 0;
    while (part->names[n_tensors] != NULL) n_tensors++;
    make_header(w, 3, n_tensors, n_keys);
    for (int i = 0; i < 3; i++) {
        if (values[i] < 0) continue;
        make_key(w, keys[i], i == 2 ? DW_GGUF_I32 : DW_GGUF_U16);
        write_integer(w, (uint64_t)values[i], i == 2 ? 4 : 2);
    }
    for (uint64_t i = 0; i < n_tensors; i++) make_tensor(w, part->names[i], 1, (const uint64_t[]){8}, GGML_F32, 32 * i);
    make_padding(w, 32);
    for (uint64_t i = 0; i < n_tensors; i++) make_bytes(w, 32, (uint8_t)part->names[i][0]);
}

void make_bundle(dw_writer *w, const make_part_of *parts, uint8_t n_parts) {
    dw_writer whole;
    dw_writer_init(&whole);
    dw_write_bytes(w, "PARTS", 5);
    dw_write_u8(w, n_parts);
    for (uint8_t i = 0; i < n_parts; i++) {
        dw_writer one;
        dw_writer_init(&one);
        make_part(&one, &parts[i]);
        dw_write_u32(w, (uint32_t)one.size);
        dw_write_bytes(&whole, one.data, one.size);
        dw_writer_deinit(&one);
    }
    dw_write_bytes(w, whole.data, whole.size);
    dw_writer_deinit(&whole);
}

/* --- a vocabulary ----------------------------------------------------------------------------------------------- */

/* Words in the order of their merges: each is the join of two that came before it (bytes included). */
static const char *const words[] = {"he", "ll", "hell", "hello", "wo", "wor", "worl", "world", "lo"};
static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "w o", "wo r", "wor l", "worl d", "l o"};
enum { N_WORDS = sizeof words / sizeof words[0], N_TOKENS = MAKE_FIRST_WORD + N_WORDS };

/* How a byte is written in a byte-pair vocabulary: printable ones as they are, the others from U+0100 on. */
static size_t write_byte_character(unsigned byte, char out[8]) {
    unsigned point = byte;
    bool direct = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    if (!direct) {
        unsigned before = 0;
        for (unsigned b = 0; b < byte; b++) before += !((b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae);
        point = 0x100 + before;
    }
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    out[0] = (char)(0xc0 | point >> 6);
    out[1] = (char)(0x80 | (point & 0x3f));
    return 2;
}

static void make_token(dw_writer *w, const make_vocabulary *options, unsigned id) {
    static const char *const special[] = {"<unk>", "<s>", "</s>"};
    char text[8192];
    if (options->fault == MAKE_EQUAL_TOKENS && id == N_TOKENS - 1) {
        make_string(w, "hello");
    } else if (options->fault == MAKE_EQUAL_UP_TO_ZERO && id == N_TOKENS - 1) {
        make_string_bytes(w, "hello\0x", 7);
    } else if (options->fault == MAKE_NAME_OF_EMPTY && id >= N_TOKENS - 2) {
        (void)snprintf(text, sizeof text, "[EMPTY_%u]", id + 1u);
        make_string(w, id == N_TOKENS - 1 ? "" : text);
    } else if (options->fault == MAKE_LONG_TOKEN && id == N_TOKENS - 1) {
        memset(text, 'x', 5000);
        make_string_bytes(w, text, 5000);
    } else if (options->fault == MAKE_GROWING_TOKENS && id >= N_TOKENS - N_WORDS) {
        memset(text, ' ', 4000);
        text[0] = (char)('a' + id % 26);
        make_string_bytes(w, text, 4000);
    } else if (id < MAKE_FIRST_BYTE) {
        make_string(w, special[id]);
    } else if (id >= MAKE_FIRST_WORD) {
        make_string(w, options->spaces && id == N_TOKENS - 1 ? "\xe2\x96\x81" : words[id - MAKE_FIRST_WORD]);
    } else if (options->fault == MAKE_MISSING_BYTE && id == MAKE_FIRST_BYTE + 0xe2) {
        make_string(w, "<0xe2>"); /* libllama looks for capital digits */
    } else if (options->byte_pairs) {
        size_t size = write_byte_character(id - MAKE_FIRST_BYTE, text);
        make_string_bytes(w, text, size);
    } else {
        (void)snprintf(text, sizeof text, "<0x%02X>", id - MAKE_FIRST_BYTE);
        make_string(w, text);
    }
}

static uint32_t token_type(const make_vocabulary *options, unsigned id) {
    enum { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, BYTE = 6 };
    if (options->fault == MAKE_UNKNOWN_TYPE && id == 7) return 99;
    if (options->fault == MAKE_BYTE_NOT_WRITTEN_SO && id == N_TOKENS - 1) return BYTE;
    if (id < MAKE_FIRST_BYTE) return id == 0 ? UNKNOWN : CONTROL;
    if (options->fault == MAKE_MISSING_BYTE && id == MAKE_FIRST_BYTE + 0xe2) return NORMAL;
    return id < MAKE_FIRST_WORD && !options->byte_pairs ? BYTE : NORMAL;
}

static void make_tokens(dw_writer *w, const make_vocabulary *options, unsigned *n_keys) {
    make_fault fault = options->fault;
    if (fault == MAKE_NO_TOKENS) return;
    *n_keys += 3;
    if (fault == MAKE_TOKENS_NOT_STRINGS) {
        make_key_array(w, "tokenizer.ggml.tokens", DW_GGUF_U32, N_TOKENS);
        for (unsigned i = 0; i < N_TOKENS; i++) dw_write_u32(w, i);
    } else {
        make_key_array(w, "tokenizer.ggml.tokens", DW_GGUF_STRING, N_TOKENS);
        for (unsigned i = 0; i < N_TOKENS; i++) make_token(w, options, i);
    }
    unsigned n_scores = fault == MAKE_SHORT_SCORES ? N_TOKENS - 1 : N_TOKENS;
    if (fault == MAKE_SCORES_NOT_NUMBERS) {
        make_key_array(w, "tokenizer.ggml.scores", DW_GGUF_BOOL, N_TOKENS);
        for (unsigned i = 0; i < N_TOKENS; i++) dw_write_u8(w, 0);
    } else {
        make_key_array(w, "tokenizer.ggml.scores", DW_GGUF_F32, n_scores);
        for (unsigned i = 0; i < n_scores; i++) make_f32(w, fault == MAKE_NAN_SCORE && i == 9 ? NAN : -(float)i);
    }
    unsigned n_types = fault == MAKE_SHORT_TYPES ? N_TOKENS - 1 : N_TOKENS;
    make_key_array(w, "tokenizer.ggml.token_type", DW_GGUF_I32, n_types);
    for (unsigned i = 0; i < n_types; i++) dw_write_u32(w, token_type(options, i));
}

static void make_settings(dw_writer *w, const make_vocabulary *options, unsigned *n_keys) {
    make_fault fault = options->fault;
    if (fault != MAKE_BOS_MISSING) {
        uint32_t bos = fault == MAKE_BOS_OUTSIDE                                 ? N_TOKENS
                       : fault == MAKE_BOS_NONE || fault == MAKE_BOS_NONE_SIGNED ? UINT32_MAX
                                                                                 : 1;
        make_key(w, "tokenizer.ggml.bos_token_id", fault == MAKE_BOS_NONE_SIGNED ? DW_GGUF_I32 : DW_GGUF_U32);
        dw_write_u32(w, bos);
        ++*n_keys;
    }
    if (fault != MAKE_EOS_MISSING) {
        make_key_u32(w, "tokenizer.ggml.eos_token_id", 2);
        ++*n_keys;
    }
    make_key_bool(w, "tokenizer.ggml.add_bos_token", 1);
    make_key_bool(w, "tokenizer.ggml.add_eos_token", fault == MAKE_EOS_MISSING || options->adds_eos);
    make_key_bool(w, "tokenizer.ggml.add_space_prefix", options->spaces);
    make_key_u32(w, "llama.vocab_size", fault == MAKE_OTHER_SIZE ? N_TOKENS + 1 : N_TOKENS);
    *n_keys += 4;
    if (fault == MAKE_SUPPRESS_NOT_ARRAY) {
        make_key_u32(w, "tokenizer.ggml.suppress_tokens", 1);
        ++*n_keys;
    }
    if (options->byte_pairs && fault != MAKE_NO_MERGES) {
        make_key_array(w, "tokenizer.ggml.merges", DW_GGUF_STRING, N_WORDS);
        for (unsigned i = 0; i < N_WORDS; i++) make_string(w, merges[i]);
        ++*n_keys;
    }
}

static void make_identity(dw_writer *w, const make_vocabulary *options, unsigned *n_keys) {
    make_fault fault = options->fault;
    if (fault != MAKE_NO_ARCHITECTURE) {
        make_key_string(w, "general.architecture", "llama");
        ++*n_keys;
    }
    make_key_string(w, "general.name", "tiny");
    ++*n_keys;
    if (fault != MAKE_NO_MODEL) {
        make_key_string(w, "tokenizer.ggml.model", fault == MAKE_UNKNOWN_MODEL ? "rwkv" : options->byte_pairs ? "gpt2" : "llama");
        ++*n_keys;
    }
    if (options->byte_pairs) {
        make_key_string(w, "tokenizer.ggml.pre",
                        fault == MAKE_UNKNOWN_PRE ? "no-such-splitting"
                        : options->pre            ? options->pre
                                                  : "llama-bpe");
        ++*n_keys;
    }
}

void make_llama(dw_writer *w, const make_vocabulary *options) {
    unsigned n_keys = 0;
    make_header(w, 3, 1, 0);
    make_identity(w, options, &n_keys);
    make_tokens(w, options, &n_keys);
    make_settings(w, options, &n_keys);
    uint64_t rows = options->fault == MAKE_OTHER_ROWS ? N_TOKENS - 1 : N_TOKENS;
    make_tensor(w, "token_embd.weight", 2, (const uint64_t[]){EMBEDDING, rows}, GGML_F16, 0);
    make_padding(w, 32);
    make_bytes(w, (size_t)(rows * EMBEDDING * 2), 0);
    make_padding(w, 32);
    if (w->status == DW_OK) w->data[16] = (uint8_t)n_keys; /* fewer than 256 */
}

/* --- a whole model ---------------------------------------------------------------------------------------------- */

enum { WIDTH = 32, HEAD = 16, FEED = 32, F32_EPSILON = 0x3727c5ac /* 1e-5 */ };

static const make_change hyperparameters[] = {
    {"llama.block_count", DW_GGUF_U32, 1},          {"llama.context_length", DW_GGUF_U32, 4096},     {"llama.embedding_length", DW_GGUF_U32, WIDTH},
    {"llama.feed_forward_length", DW_GGUF_U32, FEED}, {"llama.attention.head_count", DW_GGUF_U32, 2}, {"llama.attention.head_count_kv", DW_GGUF_U32, 1},
    {"llama.rope.dimension_count", DW_GGUF_U32, HEAD}, {"llama.attention.layer_norm_rms_epsilon", DW_GGUF_F32, F32_EPSILON},
};
enum { N_HYPERPARAMETERS = sizeof hyperparameters / sizeof hyperparameters[0] };

static const struct { const char *name; uint64_t columns, rows; } layers[] = {
    {"token_embd.weight", WIDTH, N_TOKENS},   {"output_norm.weight", WIDTH, 0},         {"blk.0.attn_norm.weight", WIDTH, 0},
    {"blk.0.attn_q.weight", WIDTH, 2 * HEAD}, {"blk.0.attn_k.weight", WIDTH, HEAD},     {"blk.0.attn_v.weight", WIDTH, HEAD},
    {"blk.0.attn_output.weight", 2 * HEAD, WIDTH}, {"blk.0.ffn_norm.weight", WIDTH, 0}, {"blk.0.ffn_gate.weight", WIDTH, FEED},
    {"blk.0.ffn_up.weight", WIDTH, FEED},     {"blk.0.ffn_down.weight", FEED, WIDTH},
};
enum { N_LAYERS = sizeof layers / sizeof layers[0] };

static const make_change *find_change(const make_change *changes, size_t n, const char *key) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(changes[i].key, key) == 0) return &changes[i];
    }
    return NULL;
}

static void make_change_key(dw_writer *w, const make_change *change, unsigned *n_keys) {
    static const int bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (change->type == MAKE_LEFT_OUT) return;
    ++*n_keys;
    if (change->type == DW_GGUF_STRING) {
        make_key_string(w, change->key, "x");
    } else if (change->type == DW_GGUF_ARRAY) {
        make_key_array(w, change->key, DW_GGUF_U32, 3);
        for (int i = 0; i < 3; i++) dw_write_u32(w, (uint32_t)change->value);
    } else {
        make_key(w, change->key, change->type);
        write_integer(w, change->value, bytes[change->type]);
    }
}

void make_whole_model(dw_writer *w, const make_change *changes, size_t n_changes) {
    const make_vocabulary vocabulary = {.byte_pairs = false};
    unsigned n_keys = 0;
    uint64_t offset = 0;
    make_header(w, 3, N_LAYERS, 0);
    for (size_t i = 0; i < N_HYPERPARAMETERS; i++) {
        const make_change *change = find_change(changes, n_changes, hyperparameters[i].key);
        make_change_key(w, change != NULL ? change : &hyperparameters[i], &n_keys);
    }
    for (size_t i = 0; i < n_changes; i++) {
        if (find_change(hyperparameters, N_HYPERPARAMETERS, changes[i].key) == NULL) make_change_key(w, &changes[i], &n_keys);
    }
    make_identity(w, &vocabulary, &n_keys);
    make_settings(w, &vocabulary, &n_keys);
    make_tokens(w, &vocabulary, &n_keys);
    for (size_t i = 0; i < N_LAYERS; i++) {
        bool matrix = layers[i].rows != 0;
        uint64_t bytes = layers[i].columns * (matrix ? layers[i].rows * 2 : 4);
        make_tensor(w, layers[i].name, matrix ? 2 : 1, (const uint64_t[]){layers[i].columns, layers[i].rows}, matrix ? GGML_F16 : GGML_F32, offset);
        offset += (bytes + 31) / 32 * 32;
    }
    make_padding(w, 32);
    for (size_t i = 0; i < N_LAYERS; i++) {
        for (uint64_t n = 0; n < layers[i].columns * (layers[i].rows != 0 ? layers[i].rows : 1); n++) {
            if (layers[i].rows == 0) make_f32(w, 1.0f);
            else write_integer(w, 0x2c00 | (n * 0x9e5 & 0x83ff), 2); /* between 1/16 and 1/8, either sign */
        }
        make_padding(w, 32);
    }
    if (w->status == DW_OK) w->data[16] = (uint8_t)n_keys; /* fewer than 256 */
}

void make_word_pieces(dw_writer *w) {
    enum { SPECIAL = 5, LETTERS = 26, WORDS = 4, N = SPECIAL + 2 * LETTERS + WORDS };
    static const char *const special[SPECIAL] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    static const char *const whole[WORDS] = {"\xe2\x96\x81hello", "\xe2\x96\x81wor", "ld", "\xe2\x96\x81."};
    make_header(w, 3, 0, 13);
    make_key_string(w, "general.architecture", "bert");
    make_key_u32(w, "bert.vocab_size", N);
    make_key_u32(w, "bert.context_length", 64);
    make_key_u32(w, "bert.embedding_length", 32);
    make_key_u32(w, "bert.block_count", 1);
    make_key_u32(w, "bert.attention.head_count", 1);
    make_key_u32(w, "tokenizer.ggml.bos_token_id", 2);
    make_key_u32(w, "tokenizer.ggml.seperator_token_id", 3);
    make_key_u32(w, "tokenizer.ggml.unknown_token_id", 1);
    make_key_bool(w, "tokenizer.ggml.normalizer.lowercase", 1);
    make_key_string(w, "tokenizer.ggml.model", "bert");
    make_key_array(w, "tokenizer.ggml.tokens", DW_GGUF_STRING, N);
    for (int i = 0; i < SPECIAL; i++) make_string(w, special[i]);
    for (int i = 0; i < 2 * LETTERS; i++) {
        char letter[8];
        (void)snprintf(letter, sizeof letter, "%s%c", i < LETTERS ? "\xe2\x96\x81" : "", (char)('a' + i % LETTERS));
        make_string(w, letter);
    }
    for (int i = 0; i < WORDS; i++) make_string(w, whole[i]);
    make_key_array(w, "tokenizer.ggml.token_type", DW_GGUF_I32, N);
    for (int i = 0; i < N; i++) dw_write_u32(w, i == 1 ? 2 : i < SPECIAL ? 3 : 1);
    make_padding(w, 32);
}

dw_status make_open(dw_writer *w, dw_gguf **out, dw_error *err) {
    if (w->status != DW_OK) return w->status;
    uint8_t *exact = malloc(w->size > 0 ? w->size : 1);
    if (!exact) return DW_E_NO_MEMORY;
    memcpy(exact, w->data, w->size);
    free(w->data);
    w->data = exact;
    w->capacity = w->size;
    return dw_gguf_open_bytes(w->data, w->size, out, err);
}

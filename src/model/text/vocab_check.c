/* vocab_check.c: what libllama assumes of a vocabulary, checked. See vocab_check.h. */
#include "model/text/vocab_check.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char key_model[] = "tokenizer.ggml.model", key_pre[] = "tokenizer.ggml.pre",
                  key_tokens[] = "tokenizer.ggml.tokens", key_scores[] = "tokenizer.ggml.scores",
                  key_types[] = "tokenizer.ggml.token_type", key_merges[] = "tokenizer.ggml.merges";

enum { TYPE_NORMAL = 1, TYPE_BYTE = 6, TYPE_MAX = 6 }; /* enum llama_token_type */
enum { GROUPS = 65536, GROUP_SHIFT = 48 };

static bool equals(dw_gguf_string text, const char *expected) {
    return text.size == strlen(expected) && memcmp(text.data, expected, (size_t)text.size) == 0;
}

/* --- keys ------------------------------------------------------------------------------------------------------- */

static dw_status check_model(const dw_gguf *gguf, dw_vocab_facts *facts, dw_error *err) {
    dw_gguf_string model, pre;
    bool found;
    dw_status status = dw_gguf_get_string(gguf, "general.architecture", &model, &found, err);
    if (status != DW_OK) return status;
    if (!found) return dw_fail(err, DW_E_FORMAT, "vocabulary: the file has no general.architecture");
    status = dw_gguf_get_string(gguf, key_model, &model, &found, err);
    if (status != DW_OK) return status;
    if (!found) return dw_fail(err, DW_E_FORMAT, "vocabulary: the file has no %s", key_model);
    facts->kind = equals(model, "gpt2")   ? DW_LLAMA_BYTE_PAIRS
                  : equals(model, "bert") ? DW_LLAMA_WORD_PIECES
                                          : DW_LLAMA_SENTENCE_PIECE;
    if (facts->kind == DW_LLAMA_SENTENCE_PIECE && !equals(model, "llama"))
        return dw_fail(err, DW_E_UNSUPPORTED, "vocabulary: tokenizer \"%.*s\" is not supported (llama, gpt2, bert are)",
                       (int)dw_min_u64(model.size, 32), model.data);
    if (facts->kind != DW_LLAMA_BYTE_PAIRS) return DW_OK;
    status = dw_gguf_get_string(gguf, key_pre, &pre, &found, err);
    if (status != DW_OK) return status;
    if (!found || pre.size == 0) pre = (dw_gguf_string){"default", 7}; /* as libllama takes it */
    if (dw_splitter_find(pre.data, (size_t)pre.size, &facts->splitter)) return DW_OK;
    return dw_fail(err, DW_E_UNSUPPORTED, "vocabulary: word splitting \"%.*s\" (%s) is not known to libllama",
                   (int)dw_min_u64(pre.size, 32), pre.data, key_pre);
}

/* The number of tokens, as the array has it, and as the model's matrix does. What the file may say beside that
 * (vocab_size) nobody reads. */
static dw_status check_vocab_count(const dw_gguf *gguf, uint64_t *n_tokens, dw_error *err) {
    dw_gguf_type type = DW_GGUF_U8;
    uint64_t n = 0;
    bool found;
    dw_status status = dw_gguf_array(gguf, key_tokens, &type, &n, &found, err);
    if (status != DW_OK) return status;
    if (!found || type != DW_GGUF_STRING)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: %s is not an array of strings", key_tokens);
    if (n == 0 || n > DW_VOCAB_TOKENS_MAX)
        return dw_fail(err, DW_E_LIMIT, "vocabulary: %" PRIu64 " tokens (1 to %u are taken)", n, DW_VOCAB_TOKENS_MAX);
    const dw_gguf_tensor *embeddings = dw_gguf_find_tensor(gguf, "token_embd.weight");
    if (embeddings && embeddings->shape[1] != n)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: %" PRIu64 " tokens, but token_embd.weight has %" PRIu64 " rows",
                       n, embeddings->shape[1]);
    *n_tokens = n;
    return DW_OK;
}

/* An array that, when it is there, has `n` elements of one of two types. */
static dw_status check_array(const dw_gguf *gguf, const char *key, uint64_t n, dw_gguf_type one, dw_gguf_type other,
                             dw_error *err) {
    dw_gguf_type type = DW_GGUF_U8;
    uint64_t count = 0;
    bool found;
    dw_status status = dw_gguf_array(gguf, key, &type, &count, &found, err);
    if (status != DW_OK || !found) return status;
    if (type != one && type != other)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: the elements of %s have the wrong type", key);
    if (count != n)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: %s has %" PRIu64 " elements for %" PRIu64 " tokens", key, count,
                       n);
    return DW_OK;
}

static dw_status check_merges(const dw_gguf *gguf, dw_error *err) {
    dw_gguf_type type = DW_GGUF_U8;
    uint64_t count = 0;
    bool found;
    dw_status status = dw_gguf_array(gguf, key_merges, &type, &count, &found, err);
    dw_gguf_string pre;
    bool named;
    if (status == DW_OK) status = dw_gguf_get_string(gguf, key_pre, &pre, &named, err);
    if (status != DW_OK) return status;
    if (!found && named && equals(pre, "kimi-k2")) return DW_OK; /* merges by the order of its tokens */
    if (!found || type != DW_GGUF_STRING || count > INT32_MAX)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: %s is not an array of strings", key_merges);
    return DW_OK;
}

/* Whole numbers. One that is no token's, -1 mostly, says that there is none: libllama goes on with the tokenizer's own
 * default. */
static dw_status check_special_ids(const dw_gguf *gguf, dw_error *err) {
    static const char *const names[] = {
        "tokenizer.ggml.bos_token_id",     "tokenizer.ggml.eos_token_id",     "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",     "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.seperator_token_id",
        "tokenizer.ggml.padding_token_id", "tokenizer.ggml.mask_token_id",    "tokenizer.ggml.fim_pre_token_id",
        "tokenizer.ggml.fim_suf_token_id", "tokenizer.ggml.fim_mid_token_id", "tokenizer.ggml.fim_pad_token_id",
        "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id", "tokenizer.ggml.prefix_token_id",
        "tokenizer.ggml.suffix_token_id",  "tokenizer.ggml.middle_token_id",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        double id = 0;
        bool found;
        dw_status status = dw_gguf_f64(gguf, names[i], &id, &found, err);
        if (status != DW_OK) return status;
        if (found && id != floor(id))
            return dw_fail(err, DW_E_FORMAT, "vocabulary: %s is %g, which numbers no token", names[i], id);
    }
    return DW_OK;
}

/* A WordPiece text always begins and ends with a special token, and a word without pieces becomes one. libllama takes
 * the numbers of the original BERT where the file names none. */
static dw_status check_word_piece_ids(const dw_gguf *gguf, uint64_t n_tokens, dw_error *err) {
    static const struct { const char *key; uint64_t otherwise;
    } needed[] = {
        {"tokenizer.ggml.bos_token_id", 101},
        {"tokenizer.ggml.seperator_token_id", 102},
        {"tokenizer.ggml.unknown_token_id", 100},
    };
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        double id = -1;
        bool found;
        dw_status status = dw_gguf_f64(gguf, needed[i].key, &id, &found, err);
        if (status != DW_OK) return status;
        bool names_one = found && id >= 0 && id < (double)n_tokens;
        if (!names_one && needed[i].otherwise >= n_tokens)
            return dw_fail(err, DW_E_FORMAT,
                           "vocabulary: no token for %s, and among %" PRIu64 " tokens there is no token %" PRIu64,
                           needed[i].key, n_tokens, needed[i].otherwise);
    }
    return DW_OK;
}

static dw_status check_switches(const dw_gguf *gguf, dw_error *err) {
    static const char *const names[] = {
        "tokenizer.ggml.add_bos_token",
        "tokenizer.ggml.add_eos_token",
        "tokenizer.ggml.add_sep_token",
        "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.remove_extra_whitespaces",
        "tokenizer.ggml.normalizer.lowercase",
        "tokenizer.ggml.normalizer.strip_accents",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        bool value, found;
        dw_status status = dw_gguf_bool(gguf, names[i], &value, &found, err);
        if (status != DW_OK) return status;
    }
    return DW_OK;
}

dw_status dw_vocab_check_keys(const dw_gguf *gguf, dw_vocab_facts *facts, dw_error *err) {
    uint64_t n = 0;
    *facts = (dw_vocab_facts){0};
    dw_status status = check_model(gguf, facts, err);
    if (status == DW_OK) status = check_vocab_count(gguf, &n, err);
    if (status == DW_OK) status = check_array(gguf, key_scores, n, DW_GGUF_F32, DW_GGUF_I32, err);
    if (status == DW_OK) status = check_array(gguf, key_types, n, DW_GGUF_I32, DW_GGUF_I32, err);
    if (status == DW_OK && facts->kind == DW_LLAMA_BYTE_PAIRS) status = check_merges(gguf, err);
    if (status == DW_OK) status = check_special_ids(gguf, err);
    if (status == DW_OK && facts->kind == DW_LLAMA_WORD_PIECES) status = check_word_piece_ids(gguf, n, err);
    if (status == DW_OK) status = check_switches(gguf, err);
    facts->n_tokens = (uint32_t)n;
    return status;
}

/* --- tokens ----------------------------------------------------------------------------------------------------- */

/* A token as libllama sees it: up to its first zero byte, and never empty. */
typedef struct token { const char *text; uint64_t size; uint64_t hash; uint32_t id; } token;

static uint64_t hash_of(const char *text, uint64_t size) {
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (uint64_t i = 0; i < size; i++) hash = (hash ^ (uint8_t)text[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* By hash, because that is one comparison in almost all cases; by text where a file has chosen its hashes. */
static int by_hash(const void *a, const void *b) {
    const token *x = a, *y = b;
    if (x->hash != y->hash) return x->hash < y->hash ? -1 : 1;
    int order = memcmp(x->text, y->text, (size_t)dw_min_u64(x->size, y->size));
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

/* An empty token number i becomes "[EMPTY_i]" inside libllama, which must not be another token's text. Returns i, or
 * -1. */
static int64_t empty_name(token t) {
    char text[32];
    if (t.size < 9 || t.size >= sizeof text || memcmp(t.text, "[EMPTY_", 7) != 0 || t.text[t.size - 1] != ']')
        return -1;
    memcpy(text, t.text + 7, (size_t)t.size - 8);
    text[t.size - 8] = '\0';
    char *end = NULL;
    unsigned long id = strtoul(text, &end, 10);
    return *end == '\0' && id <= INT32_MAX ? (int64_t)id : -1;
}

/* Groups the tokens by the top bits of their hashes; a group has a handful of members, unless a file has chosen its
 * hashes. */
static void group(const token *tokens, uint32_t n, token *grouped, uint32_t *starts) {
    memset(starts, 0, (GROUPS + 1) * sizeof *starts);
    for (uint32_t i = 0; i < n; i++) starts[(tokens[i].hash >> GROUP_SHIFT) + 1]++;
    for (uint32_t g = 0; g < GROUPS; g++) starts[g + 1] += starts[g];
    for (uint32_t i = 0; i < n; i++) grouped[starts[tokens[i].hash >> GROUP_SHIFT]++] = tokens[i];
    memmove(starts + 1, starts, GROUPS * sizeof *starts); /* each had moved to the start of the next */
    starts[0] = 0;
}

static dw_status refuse_equal(const token *tokens, uint32_t n, dw_error *err) {
    dw_status status = DW_OK;
    token *grouped = calloc(n, sizeof *grouped);
    uint32_t *starts = calloc(GROUPS + 1, sizeof *starts);
    if (!grouped || !starts) {
        status = dw_fail(err, DW_E_NO_MEMORY, "vocabulary: no memory for %u tokens", n);
        goto out;
    }
    group(tokens, n, grouped, starts);
    for (uint32_t g = 0; g < GROUPS; g++) {
        if (starts[g + 1] - starts[g] > 1)
            qsort(grouped + starts[g], starts[g + 1] - starts[g], sizeof *grouped, by_hash);
    }
    for (uint32_t i = 1; status == DW_OK && i < n; i++) {
        if (grouped[i].size > 0 && by_hash(&grouped[i - 1], &grouped[i]) == 0)
            status = dw_fail(err, DW_E_FORMAT, "vocabulary: tokens %u and %u have the same text", grouped[i - 1].id,
                             grouped[i].id);
    }
out:
    free(grouped);
    free(starts);
    return status;
}

/* "<0xHH>" with capital digits: the value; else -1. */
static int byte_value(token t) {
    static const char digits[] = "0123456789ABCDEF";
    if (t.size != 6 || memcmp(t.text, "<0x", 3) != 0 || t.text[5] != '>') return -1;
    const char *high = memchr(digits, t.text[3], 16), *low = memchr(digits, t.text[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* Characters that do not stand for a byte in a byte-pair vocabulary. libllama renders each of them as a message that
 * repeats the whole token, so a long token of such characters would grow with the square of its length. */
static uint64_t foreign_characters(token t) {
    uint64_t foreign = 0;
    for (uint64_t i = 0; i < t.size; i++) {
        uint8_t c = (uint8_t)t.text[i];
        if (c > 0x20 && c < 0x7f) continue;
        uint8_t next = i + 1 < t.size ? (uint8_t)t.text[i + 1] : 0;
        uint32_t point = (uint32_t)(c & 0x1f) << 6 | (next & 0x3f);
        bool two = c >= 0xc2 && c <= 0xc5 && (next & 0xc0) == 0x80;
        if (two && point >= 0xa1 && point <= 0x143 && point != 0xad) i++;
        else foreign++;
    }
    return foreign;
}

typedef struct checker {
    dw_gguf_numbers types, scores;
    dw_llama_kind kind;
    bool has_types, has_scores;
    bool byte_covered[256];
    uint64_t text_bytes, rendered_bytes;
} checker;

static dw_status check_token(checker *check, token t, dw_error *err) {
    double type = TYPE_NORMAL, score = 0;
    if (check->has_types) (void)dw_gguf_next_number(&check->types, &type);
    if (check->has_scores) (void)dw_gguf_next_number(&check->scores, &score);
    int byte = byte_value(t);
    if (t.size > DW_VOCAB_TOKEN_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "vocabulary: token %u is %" PRIu64 " bytes long (at most %u)", t.id, t.size,
                       DW_VOCAB_TOKEN_BYTES_MAX);
    if (type < 0 || type > TYPE_MAX)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: token %u has the unknown type %.0f", t.id, type);
    if (type == TYPE_BYTE && check->kind == DW_LLAMA_WORD_PIECES)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: token %u is a byte among word pieces", t.id);
    if (type == TYPE_BYTE && byte < 0)
        return dw_fail(err, DW_E_FORMAT, "vocabulary: token %u is a byte, but not written <0xHH>", t.id);
    if (!isfinite(score)) return dw_fail(err, DW_E_FORMAT, "vocabulary: token %u has no finite score", t.id);
    if (byte >= 0) check->byte_covered[byte] = true;
    if (t.size == 1) check->byte_covered[(uint8_t)t.text[0]] = true;
    check->text_bytes += t.size + 1;
    if (check->kind == DW_LLAMA_BYTE_PAIRS && type == TYPE_NORMAL)
        check->rendered_bytes += foreign_characters(t) * (t.size + 32);
    return DW_OK;
}

/* Two tokens of one text, also where one of them gets its text from libllama because it is empty. */
static dw_status check_unique(const token *tokens, uint32_t n, dw_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        int64_t id = empty_name(tokens[i]);
        if (id >= 0 && id < n && tokens[id].size == 0)
            return dw_fail(err, DW_E_FORMAT, "vocabulary: token %u has the name of the empty token %u", i,
                           (uint32_t)id);
    }
    return refuse_equal(tokens, n, err);
}

static dw_status check_whole(const checker *check, dw_error *err) {
    if (check->rendered_bytes / DW_VOCAB_PIECES_GROWTH_MAX > check->text_bytes)
        return dw_fail(err, DW_E_LIMIT, "vocabulary: too many characters that no byte-pair token has");
    for (int i = 0; check->kind == DW_LLAMA_SENTENCE_PIECE && i < 256; i++) {
        if (!check->byte_covered[i])
            return dw_fail(err, DW_E_UNSUPPORTED,
                           "vocabulary: no token for the byte <0x%02X>; text with it could not be tokenized", i);
    }
    return DW_OK;
}

dw_status dw_vocab_check_tokens(const dw_gguf *gguf, const dw_vocab_facts *facts, dw_error *err) {
    checker check = {.kind = facts->kind};
    dw_gguf_strings strings;
    dw_gguf_string text;
    bool found;
    token *tokens = NULL;
    dw_status status = dw_gguf_array_numbers(gguf, key_types, &check.types, &check.has_types, err);
    if (status == DW_OK) status = dw_gguf_array_numbers(gguf, key_scores, &check.scores, &check.has_scores, err);
    if (status == DW_OK) status = dw_gguf_array_strings(gguf, key_tokens, &strings, &found, err);
    if (status != DW_OK) goto out;
    uint32_t n = facts->n_tokens;
    tokens = calloc(n, sizeof *tokens);
    if (!tokens) {
        status = dw_fail(err, DW_E_NO_MEMORY, "vocabulary: no memory for %u tokens", n);
        goto out;
    }
    for (uint32_t i = 0; status == DW_OK && dw_gguf_next_string(&strings, &text); i++) {
        const char *zero = memchr(text.data, 0, (size_t)text.size);
        uint64_t size = zero ? (uint64_t)(zero - text.data) : text.size;
        tokens[i] = (token){text.data, size, hash_of(text.data, size), i};
        status = check_token(&check, tokens[i], err);
    }
    if (status == DW_OK) status = check_whole(&check, err);
    if (status == DW_OK) status = check_unique(tokens, n, err);
out:
    free(tokens);
    return status;
}

/* vocab_cost.c: bounds the quadratic loops of libllama's tokenizer. See vocab_cost.h. */
#include "model/text/vocab_cost.h"

#include <inttypes.h>
#include <string.h>

#include "llama.h"

/* A text shorter than 64 KiB cannot reach the first bound, one shorter than 20,000 bytes not the second. */
static const uint64_t copies_max = UINT64_C(1) << 32;   /* characters without a token, times the length: 0.6 s */
static const uint64_t specials_max = 20000;              /* special tokens in the text: 1.1 s */
/* Bytes that WordPiece copies and hashes, 64 counted for each look-up: below a second. The original BERT's vocabulary reaches it
 * with 1.2 MB of text. */
static const uint64_t piece_bytes_max = UINT64_C(1) << 31;

static void set_bit(uint8_t *bits, uint32_t at) { bits[at / 8] = (uint8_t)(bits[at / 8] | 1u << (at % 8)); }
static bool bit(const uint8_t *bits, uint32_t at) { return bits[at / 8] >> (at % 8) & 1; }

/* libllama cuts text into symbols by their first byte alone. *point is the code point, or UINT32_MAX when the symbol is no proper
 * UTF-8 (then no token has it). Returns the symbol's bytes. */
static size_t symbol_at(const char *text, size_t left, uint32_t *point) {
    static const uint8_t sizes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 4};
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t first = (uint8_t)text[0];
    size_t size = sizes[first >> 4];
    uint32_t value = size == 1 ? first : first & (0xffu >> (size + 1));
    bool proper = size <= left && (size > 1 || first < 0x80);
    if (size > left) size = left;
    for (size_t i = 1; i < size; i++) {
        uint8_t next = (uint8_t)text[i];
        proper = proper && (next & 0xc0) == 0x80;
        value = value << 6 | (next & 0x3f);
    }
    *point = proper && value >= least[size] && value < 0x110000 ? value : UINT32_MAX;
    return size;
}

/* True when the text is one byte, once to 63 times. */
static bool is_run(const char *text, size_t length) {
    size_t same = 1;
    while (same < length && text[same] == text[0]) same++;
    return same == length && length < 64;
}

static void note_special(dw_vocab_cost *cost, int which, const char *text, size_t length) {
    uint32_t first = (uint8_t)text[0];
    if (is_run(text, length)) {
        cost->special[which].runs[first] |= UINT64_C(1) << length;
        return;
    }
    set_bit(cost->special[which].pairs, first << 8 | (uint8_t)text[1]);
}

void dw_vocab_cost_build(dw_vocab_cost *cost, const struct llama_vocab *vocab) {
    memset(cost, 0, sizeof *cost);
    cost->sentence_piece = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_SPM;
    cost->word_pieces = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_WPM;
    int32_t n = llama_vocab_n_tokens(vocab);
    for (int32_t id = 0; id < n; id++) {
        const char *text = llama_vocab_get_text(vocab, id);
        unsigned kind = (unsigned)llama_vocab_get_attr(vocab, id);
        size_t length = strlen(text);
        uint32_t point;
        if (length == 0) continue;
        if (length > cost->longest) cost->longest = (uint32_t)length;
        if (length <= 4 && symbol_at(text, length, &point) == length && point != UINT32_MAX) set_bit(cost->symbols, point);
        if (kind & LLAMA_TOKEN_ATTR_USER_DEFINED) note_special(cost, 0, text, length);
        if (kind & (LLAMA_TOKEN_ATTR_USER_DEFINED | LLAMA_TOKEN_ATTR_CONTROL | LLAMA_TOKEN_ATTR_UNKNOWN)) note_special(cost, 1, text, length);
    }
    if (bit(cost->symbols, 0x2581)) set_bit(cost->symbols, ' '); /* a space is looked up as U+2581 */
}

static uint64_t count_unknown(const dw_vocab_cost *cost, const char *text, size_t length) {
    uint64_t unknown = 0;
    uint32_t point;
    for (size_t at = 0; at < length;) {
        at += symbol_at(text + at, length - at, &point);
        unknown += point == UINT32_MAX || !bit(cost->symbols, point);
    }
    return unknown;
}

/* How many tokens libllama cuts out of `length` equal bytes: it looks for the longest tokens first. */
static uint64_t count_in_run(uint64_t lengths, size_t length) {
    uint64_t tokens = 0;
    for (size_t n = 63; n >= 1; n--) {
        if (!(lengths >> n & 1)) continue;
        tokens += length / n;
        length %= n;
    }
    return tokens;
}

/* The special tokens that a text may have: never too few. */
static uint64_t count_special(const dw_vocab_cost *cost, int which, const char *text, size_t length) {
    uint64_t found = 0;
    for (size_t at = 0, end; at < length; at = end) {
        uint8_t byte = (uint8_t)text[at];
        for (end = at + 1; end < length && (uint8_t)text[end] == byte; end++) {}
        if (cost->special[which].runs[byte]) found += count_in_run(cost->special[which].runs[byte], end - at);
        if (bit(cost->special[which].pairs, (uint32_t)byte << 8 | byte)) found += end - at;
        if (end < length) found += bit(cost->special[which].pairs, (uint32_t)byte << 8 | (uint8_t)text[end]);
    }
    return found;
}

dw_status dw_vocab_cost_check(const dw_vocab_cost *cost, const char *text, size_t length, bool parse_special, dw_error *err) {
    if (cost->sentence_piece && (uint64_t)length * length > copies_max) {
        uint64_t unknown = count_unknown(cost, text, length);
        if (unknown * length > copies_max)
            return dw_fail(err, DW_E_LIMIT, "%" PRIu64 " of the characters in a text of %zu bytes have no token: too many to tokenize at once",
                           unknown, length);
    }
    uint64_t per_byte = ((uint64_t)cost->longest + 1) * (cost->longest / 2 + 64);
    if (cost->word_pieces && length > piece_bytes_max / per_byte)
        return dw_fail(err, DW_E_LIMIT, "a text of %zu bytes, with a longest token of %u bytes, is too long to tokenize at once", length, cost->longest);
    if (length > specials_max) {
        uint64_t special = count_special(cost, parse_special ? 1 : 0, text, length);
        if (special > specials_max)
            return dw_fail(err, DW_E_LIMIT, "%" PRIu64 " special tokens may be in a text of %zu bytes: too many to tokenize at once", special,
                           length);
    }
    return DW_OK;
}

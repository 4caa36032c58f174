/* utf8.c: table 3-7 of the Unicode Standard as code. See utf8.h. */
#include "model/text/utf8.h"

#include <stdbool.h>
#include <string.h>

/* How many bytes a character with this first byte has (0: none begins so), and between which bounds its second byte
 * lies. */
static size_t shape_of(uint8_t first, uint8_t *low, uint8_t *high) {
    *low = 0x80;
    *high = 0xbf;
    if (first < 0x80) return 1;
    if (first < 0xc2) return 0;                  /* continuation bytes, and overlong forms of ASCII */
    if (first < 0xe0) return 2;
    if (first == 0xe0) *low = 0xa0;              /* shorter forms exist */
    if (first == 0xed) *high = 0x9f;             /* surrogates */
    if (first < 0xf0) return 3;
    if (first == 0xf0) *low = 0x90;
    if (first == 0xf4) *high = 0x8f;             /* beyond U+10FFFF */
    return first < 0xf5 ? 4 : 0;
}

/* Bytes of the character that begins at text, or of the part of one before it breaks; *whole tells which. */
static size_t measure_character(const char *text, size_t left, bool *whole) {
    uint8_t low, high;
    size_t size = shape_of((uint8_t)text[0], &low, &high), have = 1;
    while (have < size && have < left) {
        uint8_t byte = (uint8_t)text[have];
        if (byte < low || byte > high) break;
        low = 0x80;
        high = 0xbf;
        have++;
    }
    *whole = have == size;
    return have;
}

size_t dw_utf8_step(const char *text, size_t left, uint32_t *point) {
    bool whole;
    size_t size = measure_character(text, left, &whole);
    *point = DW_UTF8_REPLACEMENT;
    if (!whole) return size;
    uint32_t value = (uint8_t)text[0];
    if (size > 1) value &= 0xffu >> (size + 1);
    for (size_t i = 1; i < size; i++) value = value << 6 | ((uint8_t)text[i] & 0x3f);
    *point = value;
    return size;
}

size_t dw_utf8_put(uint32_t point, char *out) {
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    size_t size = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = size - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (point & 0x3f));
        point >>= 6;
    }
    out[0] = (char)(0xf00u >> size | point);
    return size;
}

size_t dw_utf8_repaired_bytes(const char *text, size_t length) {
    size_t bytes = 0;
    for (size_t at = 0, size; at < length; at += size) {
        bool whole;
        size = measure_character(text + at, length - at, &whole);
        bytes += whole ? size : 3;
    }
    return bytes;
}

void dw_utf8_repair(const char *text, size_t length, char *out) {
    for (size_t at = 0, size; at < length; at += size) {
        bool whole;
        size = measure_character(text + at, length - at, &whole);
        if (whole) memcpy(out, text + at, size);
        else (void)dw_utf8_put(DW_UTF8_REPLACEMENT, out);
        out += whole ? size : 3;
    }
}

size_t dw_utf8_settled(const char *text, size_t length) {
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        uint8_t low, high;
        uint8_t first = (uint8_t)text[length - back];
        if ((first & 0xc0) == 0x80) continue; /* not a first byte */
        bool whole;
        bool begins = shape_of(first, &low, &high) > back &&
                      measure_character(text + length - back, back, &whole) == back;
        return begins ? length - back : length;
    }
    return length;
}

/* hangul.c */
#include "model/text/hangul.h"

#include <stdint.h>

enum { SYLLABLE_BASE = 0xac00, SYLLABLES = 11172, LEADING_BASE = 0x1100, VOWEL_BASE = 0x1161, TRAILING_BASE = 0x11a7, VOWELS = 21, TRAILINGS = 28 };
enum { POINT_BYTES = 3 }; /* in UTF-8: of a syllable and of each of its letters */

/* The number of the syllable that begins at text, or -1. */
static int32_t syllable_at(const char *text, size_t left) {
    const uint8_t *bytes = (const uint8_t *)text;
    if (left < POINT_BYTES || bytes[0] < 0xea || bytes[0] > 0xed || (bytes[1] & 0xc0) != 0x80 || (bytes[2] & 0xc0) != 0x80) return -1;
    int32_t number = ((bytes[0] & 0x0f) << 12 | (bytes[1] & 0x3f) << 6 | (bytes[2] & 0x3f)) - SYLLABLE_BASE;
    return number >= 0 && number < SYLLABLES ? number : -1;
}

static char *put(char *out, int32_t point) {
    *out++ = (char)(0xe0 | point >> 12);
    *out++ = (char)(0x80 | (point >> 6 & 0x3f));
    *out++ = (char)(0x80 | (point & 0x3f));
    return out;
}

size_t dw_hangul_decomposed_bytes(const char *text, size_t length) {
    size_t bytes = 0;
    for (size_t at = 0; at < length;) {
        int32_t syllable = syllable_at(text + at, length - at);
        bytes += syllable < 0 ? 1 : syllable % TRAILINGS == 0 ? 2 * POINT_BYTES : 3 * POINT_BYTES;
        at += syllable < 0 ? 1 : POINT_BYTES;
    }
    return bytes;
}

void dw_hangul_decompose(const char *text, size_t length, char *out) {
    for (size_t at = 0; at < length;) {
        int32_t syllable = syllable_at(text + at, length - at);
        if (syllable < 0) {
            *out++ = text[at++];
            continue;
        }
        out = put(out, LEADING_BASE + syllable / (VOWELS * TRAILINGS));
        out = put(out, VOWEL_BASE + syllable / TRAILINGS % VOWELS);
        if (syllable % TRAILINGS != 0) out = put(out, TRAILING_BASE + syllable % TRAILINGS);
        at += POINT_BYTES;
    }
}

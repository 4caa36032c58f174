/* plain.c: see plain.h. */
#include "base/plain.h"

#include <stdint.h>
#include <string.h>

/* The length of the UTF-8 sequence at text[size > 0] (RFC 3629: none too long, no surrogates, nothing above U+10FFFF)
 * and its character; 0: it is no such sequence. */
static size_t utf8_sequence(const uint8_t *text, size_t size, uint32_t *character) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t lead = text[0];
    size_t n = lead < 0x80                   ? 1
               : lead >= 0xf0 && lead < 0xf8 ? 4
               : lead >= 0xe0 && lead < 0xf0 ? 3
               : lead >= 0xc0 && lead < 0xe0 ? 2
                                             : 0;
    if (n == 0 || n > size) return 0;
    uint32_t value = n == 1 ? lead : lead & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (text[i] & 0x3fu);
    }
    if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) return 0;
    *character = value;
    return n;
}

static bool is_plain(uint32_t character, bool keep_lines) {
    if (character == '\n' || character == '\t') return keep_lines;
    if (character < 0x20 || (character >= 0x7f && character < 0xa0)) return false;
    return !(character >= 0x202a && character <= 0x202e) && !(character >= 0x2066 && character <= 0x2069);
}

static size_t escape_byte(uint8_t byte, char out[4]) {
    static const char digits[] = "0123456789abcdef";
    out[0] = '\\';
    out[1] = 'x';
    out[2] = digits[byte >> 4];
    out[3] = digits[byte & 15];
    return 4;
}

size_t dw_plain_text(const char *text, size_t size, bool keep_lines, char *out, size_t capacity) {
    const uint8_t *bytes = (const uint8_t *)text;
    size_t needed = 0, written = 0;
    for (size_t at = 0; at < size;) {
        uint32_t character = 0;
        char piece[4];
        size_t n = utf8_sequence(bytes + at, size - at, &character), length = n;
        if (n > 0 && is_plain(character, keep_lines)) {
            memcpy(piece, text + at, n);
        } else {
            n = 1; /* one byte; those behind it are looked at anew, and no sequence begins with any of them */
            length = escape_byte(bytes[at], piece);
        }
        if (written == needed && needed + length < capacity) {
            memcpy(out + written, piece, length);
            written += length;
        }
        needed += length;
        at += n;
    }
    if (capacity > 0) out[written] = '\0';
    return needed;
}

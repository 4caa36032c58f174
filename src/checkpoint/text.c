/* text.c: the small texts of a header: numbers, hexadecimal, names; and runs of zeros. */
#include <math.h>
#include <string.h>

#include "checkpoint/drift.h"

dw_status dw_drift_parse_decimal(const char *text, uint64_t max, uint64_t *out) {
    uint64_t value = 0;
    *out = 0;
    if (text[0] == '\0' || (text[0] == '0' && text[1] != '\0')) return DW_E_FORMAT;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9') return DW_E_FORMAT;
        if (!dw_mul_u64(value, 10, &value) || !dw_add_u64(value, (uint64_t)(*at - '0'), &value) || value > max)
            return DW_E_FORMAT;
    }
    *out = value;
    return DW_OK;
}

static int digit_value(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    return -1;
}

dw_status dw_drift_parse_hex(const char *text, size_t length, uint8_t *out, size_t size) {
    memset(out, 0, size);
    if (length != 2 * size) return DW_E_FORMAT;
    for (size_t i = 0; i < size; i++) {
        int high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
        if (high < 0 || low < 0) return DW_E_FORMAT;
        out[i] = (uint8_t)(high * 16 + low);
    }
    return DW_OK;
}

void dw_drift_format_hex(const uint8_t *bytes, size_t size, char *out) {
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
}

/* Bytes of the character at `text`, or 0 when it is a control character or not UTF-8 (RFC 3629: no surrogates, no
 * over-long forms). Stops at the terminator, so it never looks behind it. */
static size_t clean_character(const char *text) {
    const uint8_t *at = (const uint8_t *)text;
    if (at[0] < 0x80) return at[0] >= 0x20 && at[0] != 0x7f ? 1 : 0;
    size_t n = at[0] >= 0xf0 ? 4 : at[0] >= 0xe0 ? 3 : 2;
    uint32_t value = n == 4 ? at[0] & 0x07u : n == 3 ? at[0] & 0x0fu : at[0] & 0x1fu;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (at[0] < 0xc2 || at[0] > 0xf4) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (at[i] & 0x3fu);
    }
    bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
    bool is_control = value < 0xa0; /* C1: terminals obey some of them */
    return value < least[n] || value > 0x10ffff || is_surrogate || is_control ? 0 : n;
}

bool dw_drift_is_clean(const char *text) {
    while (*text) {
        size_t n = clean_character(text);
        if (n == 0) return false;
        text += n;
    }
    return true;
}

void dw_drift_clean(const char *text, char *out, size_t size) {
    size_t used = 0;
    while (*text && used + 1 < size) {
        size_t n = clean_character(text);
        if (n == 0) {
            out[used++] = '?';
            text++;
        } else if (used + n < size) {
            memcpy(out + used, text, n);
            used += n;
            text += n;
        } else {
            break;
        }
    }
    out[used] = '\0';
}

bool dw_drift_is_bad_logit(float logit) { return isnan(logit) || (isinf(logit) && logit > 0); }

const char *dw_drift_printable(const char *text, char out[DW_DRIFT_PRINTABLE_BYTES]) {
    size_t n = 0;
    for (; text[n] && n + 1 < DW_DRIFT_PRINTABLE_BYTES; n++) out[n] = text[n] > 0x20 && text[n] < 0x7f ? text[n] : '?';
    out[n] = '\0';
    return out;
}

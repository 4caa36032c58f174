/* bert_text.c: see bert_text.h. */
#include "model/text/bert_text.h"

#include <stdint.h>
#include <utf8proc.h>

#include "model/text/utf8.h"

enum { DECOMPOSED_MAX = 8 }; /* code points of one character's canonical decomposition; Unicode has at most 4 */

static bool is_space(uint32_t point, utf8proc_category_t category) {
    return point == ' ' || point == '\t' || point == '\n' || point == '\r' || category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

static bool is_control(utf8proc_category_t category) {
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF || category == UTF8PROC_CATEGORY_CO;
}

static size_t put_point(const dw_bert_rules *rules, uint32_t point, char *out) {
    char scratch[4];
    if (!rules->lowers) return dw_utf8_put(point, out ? out : scratch);
    if (point == 0x130) { /* the one character whose small form has two code points: i with a dot above */
        size_t size = dw_utf8_put('i', out ? out : scratch);
        return size + dw_utf8_put(0x307, out ? out + size : scratch);
    }
    return dw_utf8_put((uint32_t)utf8proc_tolower((utf8proc_int32_t)point), out ? out : scratch);
}

static size_t put_stripped(const dw_bert_rules *rules, uint32_t point, char *out) {
    utf8proc_int32_t parts[DECOMPOSED_MAX];
    int last_class = 0;
    utf8proc_ssize_t n =
        utf8proc_decompose_char((utf8proc_int32_t)point, parts, DECOMPOSED_MAX, UTF8PROC_DECOMPOSE, &last_class);
    size_t bytes = 0;
    if (n < 0 || n > DECOMPOSED_MAX) return put_point(rules, point, out);
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        if (utf8proc_category(parts[i]) == UTF8PROC_CATEGORY_MN) continue;
        bytes += put_point(rules, (uint32_t)parts[i], out ? out + bytes : NULL);
    }
    return bytes;
}

size_t dw_bert_normalize(const dw_bert_rules *rules, const char *text, size_t length, char *out) {
    size_t bytes = 0;
    for (size_t at = 0; at < length;) {
        uint32_t point;
        char *to = out ? out + bytes : NULL;
        at += dw_utf8_step(text + at, length - at, &point);
        utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)point);
        if (is_space(point, category)) {
            if (to) *to = ' ';
            bytes++;
        } else if (point != 0 && point != DW_UTF8_REPLACEMENT && !is_control(category)) {
            bytes += rules->strips_accents ? put_stripped(rules, point, to) : put_point(rules, point, to);
        }
    }
    return bytes;
}

/* abort.c: see abort.h. */
#include "wasm/abort.h"

#include <stdbool.h>
#include <stdio.h>

/* Units that are read of each string, and what they can become. */
enum {
    MESSAGE_UNITS_MAX = 256,
    FILE_UNITS_MAX = 96,
    UTF8_BYTES = 3 * MESSAGE_UNITS_MAX,
    MESSAGE_BYTES = 320,
    FILE_BYTES = 120
};

static size_t put_utf8(char *out, uint32_t point) {
    uint8_t *to = (uint8_t *)out;
    if (point < 0x80) return (to[0] = (uint8_t)point), 1;
    if (point < 0x800) return (to[0] = (uint8_t)(0xC0 | point >> 6)), (to[1] = (uint8_t)(0x80 | (point & 0x3F))), 2;
    if (point < 0x10000) {
        to[0] = (uint8_t)(0xE0 | point >> 12);
        to[1] = (uint8_t)(0x80 | (point >> 6 & 0x3F));
        to[2] = (uint8_t)(0x80 | (point & 0x3F));
        return 3;
    }
    to[0] = (uint8_t)(0xF0 | point >> 18);
    to[1] = (uint8_t)(0x80 | (point >> 12 & 0x3F));
    to[2] = (uint8_t)(0x80 | (point >> 6 & 0x3F));
    to[3] = (uint8_t)(0x80 | (point & 0x3F));
    return 4;
}

static uint32_t utf16_unit_at(const uint8_t *units, uint32_t i) {
    return (uint32_t)units[2 * i] | (uint32_t)units[2 * i + 1] << 8;
}

/* Half a pair becomes U+FFFD. Returns bytes: at most 3 for each unit. */
static size_t utf8_of_utf16(const uint8_t *units, uint32_t n, char *out) {
    size_t size = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t unit = utf16_unit_at(units, i), next = i + 1 < n ? utf16_unit_at(units, i + 1) : 0;
        bool high = (unit & 0xFC00) == 0xD800, pair = high && (next & 0xFC00) == 0xDC00;
        if (pair) i++;
        if (pair) unit = 0x10000 + ((unit & 0x3FF) << 10) + (next & 0x3FF);
        else if ((unit & 0xF800) == 0xD800) unit = 0xFFFD;
        size += put_utf8(out + size, unit);
    }
    return size;
}

static uint32_t u32_of_bytes(const uint8_t bytes[4]) {
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

/* Copies the string out, once, and makes plain text of it; false when there is no such string. */
static bool read_script_string(const dw_guest_memory *memory, uint32_t pointer, uint32_t units_max, char *out,
                               size_t capacity) {
    uint8_t head[4], units[2 * MESSAGE_UNITS_MAX];
    char utf8[UTF8_BYTES];
    if (pointer < sizeof head || dw_guest_read(memory, pointer - (uint32_t)sizeof head, head, sizeof head) != DW_OK)
        return false;
    uint32_t size = u32_of_bytes(head);
    if (size % 2 != 0 || !dw_in_range(pointer, size, dw_guest_size(memory))) return false;
    uint32_t n = size / 2 < units_max ? size / 2 : units_max;
    if (dw_guest_read(memory, pointer, units, 2 * n) != DW_OK) return false;
    size_t needed = dw_plain_text(utf8, utf8_of_utf16(units, n, utf8), false, out, capacity - 3); /* room for "..." */
    if (n < size / 2 || needed >= capacity - 3) {
        size_t end = 0;
        while (out[end]) end++;
        (void)snprintf(out + end, capacity - end, "...");
    }
    return true;
}

void dw_abort_text(const dw_guest_memory *memory, uint32_t message, uint32_t file, uint32_t line, uint32_t column,
                   char out[DW_ABORT_TEXT_BYTES]) {
    char said[MESSAGE_BYTES] = "", where[FILE_BYTES] = "";
    bool readable = message == 0 || read_script_string(memory, message, MESSAGE_UNITS_MAX, said, sizeof said);
    bool placed = file == 0 || read_script_string(memory, file, FILE_UNITS_MAX, where, sizeof where);
    const char *text = !readable ? "abort, with a message that is no string" : said[0] ? said : "abort";
    if (!placed) (void)snprintf(where, sizeof where, "?");
    if (file == 0) (void)snprintf(out, DW_ABORT_TEXT_BYTES, "%s", text);
    else (void)snprintf(out, DW_ABORT_TEXT_BYTES, "%s at %s:%u:%u", text, where, (unsigned)line, (unsigned)column);
}

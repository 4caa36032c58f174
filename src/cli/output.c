/* output.c: text for people, JSON for programs. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "os/os.h"

static const char *const style_codes[] = {
    [DW_STYLE_NONE] = "", [DW_STYLE_BOLD] = "\033[1m", [DW_STYLE_DIM] = "\033[2m",
    [DW_STYLE_GOOD] = "\033[32m", [DW_STYLE_BAD] = "\033[31m", [DW_STYLE_NAME] = "\033[36m",
};

void dw_cli_say(const dw_cli *cli, const char *format, ...) {
    if (cli->json) return;
    va_list list;
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    (void)fflush(stdout); /* what was said is seen before anything slow happens */
}

void dw_cli_say_styled(const dw_cli *cli, dw_style style, const char *format, ...) {
    if (cli->json) return;
    bool styled = cli->colour && style != DW_STYLE_NONE;
    if (styled) (void)fputs(style_codes[style], stdout);
    va_list list;
    va_start(list, format);
    (void)vprintf(format, list);
    va_end(list);
    if (styled) (void)fputs("\033[0m", stdout);
    (void)fflush(stdout);
}

void dw_cli_heading(const dw_cli *cli, const char *text) {
    dw_cli_say(cli, "\n");
    dw_cli_say_styled(cli, DW_STYLE_BOLD, "%s", text);
    dw_cli_say(cli, "\n");
}

void dw_cli_say_text(const dw_cli *cli, const char *text, size_t size) {
    static unsigned char previous; /* a sequence may come in two pieces */
    if (cli->json) return;
    bool terminal = dw_os_is_terminal(1);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        /* A model or a program must not be able to drive the user's terminal with escape sequences: no C0, no C1
         * (U+0080..9F). */
        bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f ||
                       (previous == 0xc2 && byte >= 0x80 && byte < 0xa0);
        (void)putchar(terminal && control ? '?' : byte);
        previous = byte;
    }
    (void)fflush(stdout);
}

void dw_cli_progress(const dw_cli *cli, const char *format, ...) {
    (void)cli;
    if (!dw_os_is_terminal(2)) return;
    (void)fputs("\r\033[K", stderr);
    if (format) {
        va_list list;
        va_start(list, format);
        (void)vfprintf(stderr, format, list);
        va_end(list);
    }
    (void)fflush(stderr);
}

void dw_cli_hint(dw_cli *cli, const char *format, ...) {
    va_list list;
    va_start(list, format);
    (void)vsnprintf(cli->hint, sizeof cli->hint, format, list);
    va_end(list);
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

dw_status dw_cli_finish(const dw_cli *cli, json_t *object, dw_error *err) {
    dw_status status = DW_OK;
    if (!object) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
    if (cli->json) {
        char *line = json_dumps(object, JSON_COMPACT | JSON_REAL_PRECISION(9));
        if (!line) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
        else if (puts(line) < 0 || fflush(stdout) != 0)
            status = dw_fail(err, DW_E_IO, "cannot write to standard output");
        free(line);
    }
    json_decref(object);
    return status;
}

/* Length of the UTF-8 sequence at text (RFC 3629), or 0 when there is none. */
static size_t sequence_length(const unsigned char *text, size_t size) {
    unsigned char first = text[0];
    if (first < 0x80) return 1;
    size_t length = first >= 0xf0 && first <= 0xf4  ? 4
                    : first >= 0xe0 && first < 0xf0 ? 3
                    : first >= 0xc2 && first < 0xe0 ? 2
                                                    : 0;
    if (length == 0 || length > size) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
    }
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f)) return 0; /* overlong; surrogates */
    if ((first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f)) return 0; /* overlong; above U+10FFFF */
    return length;
}

json_t *dw_json_text(const char *text, size_t size) {
    /* A byte that is not text becomes the three bytes of U+FFFD. */
    char *clean = malloc(size * 3 + 1);
    if (!clean) return NULL;
    size_t written = 0;
    for (size_t i = 0; i < size;) {
        size_t length = sequence_length((const unsigned char *)text + i, size - i);
        if (length == 0) {
            memcpy(clean + written, "\xef\xbf\xbd", 3);
            written += 3;
            i++;
        } else {
            memcpy(clean + written, text + i, length);
            written += length;
            i += length;
        }
    }
    json_t *string = json_stringn(clean, written);
    free(clean);
    return string;
}

json_t *dw_json_u64(uint64_t value) { return json_integer((json_int_t)dw_min_u64(value, INT64_MAX)); }
json_t *dw_json_ms(uint64_t ns) { return json_real(dw_ms(ns)); }

json_t *dw_json_hash(const dw_hash *hash) {
    char hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, hex);
    return json_string(hex);
}

/* --- units ----------------------------------------------------------------------------------------------------- */

const char *dw_size_text(uint64_t bytes, char out[DW_SIZE_TEXT_BYTES]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024;
        unit++;
    }
    const char *format = unit == 0 ? "%.0f %s" : value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s";
    (void)snprintf(out, DW_SIZE_TEXT_BYTES, format, value, units[unit]);
    return out;
}

double dw_ms(uint64_t ns) { return (double)(ns / 1000) / 1000.0; }

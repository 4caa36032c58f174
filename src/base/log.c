/* log.c: one line per event on standard error.
 *
 *   2026-01-31T23:59:59.123Z warn thaw actor=a tokens=12
 */
#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"

static const char *const level_names[] = {"error", "warn", "info", "debug", "trace"};
enum { LEVEL_COUNT = sizeof level_names / sizeof level_names[0], LEVEL_UNSET = -1 };

/* The module's only state. Two threads that find it unset both read the same environment. */
static atomic_int current_level = LEVEL_UNSET;

void dw_log_set_level(dw_log_level level) { atomic_store_explicit(&current_level, (int)level, memory_order_relaxed); }

dw_status dw_log_parse_level(const char *text, dw_log_level *out) {
    for (int i = 0; text && i < LEVEL_COUNT; i++) {
        if (strcmp(text, level_names[i]) != 0) continue;
        *out = (dw_log_level)i;
        return DW_OK;
    }
    return DW_E_INVALID;
}

bool dw_log_enabled(dw_log_level level) {
    int limit = atomic_load_explicit(&current_level, memory_order_relaxed);
    if (limit == LEVEL_UNSET) {
        dw_log_level chosen = DW_LOG_WARN;
        if (dw_log_parse_level(getenv("DRIFTWOOD_LOG"), &chosen) != DW_OK) chosen = DW_LOG_WARN;
        /* An explicit dw_log_set_level that comes between wins over the environment. */
        if (atomic_compare_exchange_strong(&current_level, &limit, (int)chosen)) limit = (int)chosen;
    }
    return (int)level <= limit;
}

/* Proleptic Gregorian date of a day number since 1970-01-01; gmtime() is not thread-safe and gmtime_r() is not C11.
 * Years are counted from March, which puts the leap day at the end of a year. */
static void civil_date(int64_t days, int64_t *year, unsigned *month, unsigned *day) {
    int64_t shifted = days + 719468; /* days from 0000-03-01 to 1970-01-01 */
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    *day = (unsigned)(day_of_year - (153 * month_from_march + 2) / 5 + 1);
    *month = (unsigned)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *year = year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

static size_t put_time(char *out, size_t out_size) {
    struct timespec now = {0};
    (void)timespec_get(&now, TIME_UTC);
    int64_t seconds = (int64_t)now.tv_sec, year;
    unsigned month, day;
    int64_t second_of_day = seconds % 86400;
    civil_date(seconds / 86400, &year, &month, &day);
    int used = snprintf(out, out_size, "%04lld-%02u-%02uT%02d:%02d:%02d.%03dZ", (long long)year, month, day,
                        (int)(second_of_day / 3600), (int)(second_of_day / 60 % 60), (int)(second_of_day % 60),
                        (int)(now.tv_nsec / 1000000));
    return used > 0 && (size_t)used < out_size ? (size_t)used : 0;
}

/* Copies `text`, control characters as \xNN: a name from outside must not forge a second line or drive a terminal. */
static size_t put_escaped(char *out, size_t out_size, const char *text) {
    static const char digits[] = "0123456789abcdef";
    size_t used = 0;
    for (; *text && used + 4 < out_size; text++) {
        unsigned char c = (unsigned char)*text;
        if (c >= 0x20 && c != 0x7F) {
            out[used++] = *text;
            continue;
        }
        out[used++] = '\\';
        out[used++] = 'x';
        out[used++] = digits[c >> 4];
        out[used++] = digits[c & 15];
    }
    return used;
}

void dw_log(dw_log_level level, const char *event, const char *format, ...) {
    if (level < DW_LOG_ERROR || level > DW_LOG_TRACE || !dw_log_enabled(level)) return;
    char pairs[DW_LOG_LINE_BYTES_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(pairs, sizeof pairs, format, arguments);
    va_end(arguments);
    if (length < 0) pairs[0] = '\0';

    char line[DW_LOG_LINE_BYTES_MAX + 128];
    size_t used = put_time(line, sizeof line);
    int head = snprintf(line + used, sizeof line - used, " %s %.64s ", level_names[level], event);
    if (head > 0) used += (size_t)head;
    used += put_escaped(line + used, sizeof line - 1 - used, pairs);
    line[used++] = '\n';
    /* Standard error is unbuffered: this is one write, so lines of several threads do not mix. */
    (void)fwrite(line, 1, used, stderr);
}

/* stop.c */
#include "model/text/stop.h"

#include <stdlib.h>
#include <string.h>

dw_status dw_stop_check(const char *const *stops, uint32_t n_stops, dw_error *err) {
    if (n_stops > DW_STOP_STRINGS_MAX) return dw_fail(err, DW_E_LIMIT, "%u stop strings; at most %u", n_stops, DW_STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < n_stops; i++) {
        size_t length = stops[i] != NULL ? strlen(stops[i]) : 0;
        if (length == 0 || length > DW_STOP_STRING_BYTES_MAX) {
            return dw_fail(err, DW_E_INVALID, "stop string %u has %zu bytes; 1 to %u are allowed", i, length, DW_STOP_STRING_BYTES_MAX);
        }
    }
    return DW_OK;
}

void dw_stop_deinit(dw_stop_text *text) {
    free(text->held);
    memset(text, 0, sizeof *text);
}

/* Whether a stop and held[at..] agree as far as both reach. */
static bool agrees(const dw_stop_text *text, size_t at, const char *stop, bool *whole) {
    size_t length = strlen(stop), left = text->size - at;
    *whole = left >= length;
    return memcmp(text->held + at, stop, *whole ? length : left) == 0;
}

/* The first place where a stop stands or may yet come to stand. */
static void scan(const dw_stop_text *text, size_t *ready, uint32_t *stop) {
    *stop = DW_STOP_NONE;
    *ready = text->size;
    bool may = false;
    for (size_t at = 0; at < text->size; at++) {
        for (uint32_t i = 0; i < text->n_stops; i++) {
            bool whole;
            if (!agrees(text, at, text->stops[i], &whole)) continue;
            if (whole) {
                /* A longer one that began earlier and is not complete yet loses to this one: nobody waits for a stop that
                 * may never come when another is there. */
                *stop = i;
                *ready = at;
                return;
            }
            if (!may) *ready = at;
            may = true;
        }
    }
}

dw_status dw_stop_feed(dw_stop_text *text, const char *piece, size_t size, size_t *ready, uint32_t *stop) {
    *ready = 0;
    *stop = DW_STOP_NONE;
    if (size > text->capacity - text->size) {
        size_t capacity = (text->size + size) * 2;
        char *larger = realloc(text->held, capacity);
        if (larger == NULL) return DW_E_NO_MEMORY;
        text->held = larger;
        text->capacity = capacity;
    }
    if (size > 0) memcpy(text->held + text->size, piece, size);
    text->size += size;
    scan(text, ready, stop);
    return DW_OK;
}

void dw_stop_take(dw_stop_text *text, size_t size) {
    if (size == 0) return;
    memmove(text->held, text->held + size, text->size - size);
    text->size -= size;
    text->taken += size;
}

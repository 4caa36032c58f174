/* stop.c */
#include "model/text/stop.h"

#include <stdlib.h>
#include <string.h>

#include "model/text/utf8.h"

dw_status dw_stop_check(const char *const *stops, uint32_t n_stops, dw_error *err) {
    if (n_stops > DW_STOP_STRINGS_MAX)
        return dw_fail(err, DW_E_LIMIT, "%u stop strings; at most %u", n_stops, DW_STOP_STRINGS_MAX);
    for (uint32_t i = 0; i < n_stops; i++) {
        size_t length = stops[i] != NULL ? strlen(stops[i]) : 0;
        if (length == 0 || length > DW_STOP_STRING_BYTES_MAX) {
            return dw_fail(err, DW_E_INVALID, "stop string %u has %zu bytes; 1 to %u are allowed", i, length,
                           DW_STOP_STRING_BYTES_MAX);
        }
    }
    return DW_OK;
}

void dw_stop_deinit(dw_stop_text *text) {
    DW_VEC_DEINIT(&text->held);
    DW_VEC_DEINIT(&text->hidden);
    memset(text, 0, sizeof *text);
}

enum { VISIBLE, HIDDEN_FIRST, HIDDEN_LATER }; /* of each byte held: of text, first of a control token, or a later one */

/* Whether a stop and held[at..] agree as far as both reach. A control token is named whole or not at all: ">" names
 * none. */
static bool stop_agrees(const dw_stop_text *text, size_t at, const char *stop, bool *whole) {
    size_t length = strlen(stop), left = text->held.count - at;
    *whole = left >= length;
    if (text->hidden.items[at] == HIDDEN_LATER || (left > length && text->hidden.items[at + length] == HIDDEN_LATER))
        return false;
    return memcmp(text->held.items + at, stop, *whole ? length : left) == 0;
}

/* The first place where a stop stands or may yet come to stand. */
static void scan_for_stops(const dw_stop_text *text, size_t *ready, uint32_t *stop) {
    *stop = DW_STOP_NONE;
    *ready = text->held.count;
    bool may = false;
    for (size_t at = 0; at < text->held.count; at++) {
        for (uint32_t i = 0; i < text->n_stops; i++) {
            bool whole;
            if (!stop_agrees(text, at, text->stops[i], &whole)) continue;
            if (whole) {
                /* A longer one that began earlier and is not complete yet loses to this one: nobody waits for a stop
                 * that may never come when another is there. */
                *stop = i;
                *ready = at;
                return;
            }
            if (!may) *ready = at;
            may = true;
        }
    }
}

static dw_status make_room_to_hold(dw_stop_text *text, size_t size) {
    dw_status status = DW_VEC_RESERVE(&text->held, size, DW_VEC_ITEMS_MAX);
    return status == DW_OK ? DW_VEC_RESERVE(&text->hidden, size, DW_VEC_ITEMS_MAX) : status;
}

dw_status dw_stop_feed(dw_stop_text *text, const char *piece, size_t size, bool hidden, size_t *ready, uint32_t *stop) {
    *ready = 0;
    *stop = DW_STOP_NONE;
    dw_status status = make_room_to_hold(text, size);
    if (status != DW_OK) return status;
    if (size > 0) {
        memcpy(text->held.items + text->held.count, piece, size);
        memset(text->hidden.items + text->held.count, hidden ? HIDDEN_LATER : VISIBLE, size);
        if (hidden) text->hidden.items[text->held.count] = HIDDEN_FIRST;
    }
    text->held.count += size;
    text->hidden.count += size;
    scan_for_stops(text, ready, stop);
    if (*stop == DW_STOP_NONE) *ready = dw_stop_whole(text, *ready);
    return DW_OK;
}

size_t dw_stop_whole(const dw_stop_text *text, size_t size) {
    return size > 0 && text->hidden.items[size - 1] ? size : dw_utf8_settled(text->held.items, size);
}

static dw_status show_repaired(const char *text, size_t size, dw_stop_show show, void *context) {
    uint32_t point = 0;
    size_t at = 0;
    while (at < size && point != DW_UTF8_REPLACEMENT) at += dw_utf8_step(text + at, size - at, &point);
    if (point != DW_UTF8_REPLACEMENT) return show(context, text, size) ? DW_OK : DW_E_CANCELLED;
    size_t bytes = dw_utf8_repaired_bytes(text, size);
    char *repaired = malloc(bytes);
    if (repaired == NULL) return DW_E_NO_MEMORY;
    dw_utf8_repair(text, size, repaired);
    bool wants_more = show(context, repaired, bytes);
    free(repaired);
    return wants_more ? DW_OK : DW_E_CANCELLED;
}

dw_status dw_stop_hand_out(dw_stop_text *text, size_t size, dw_stop_show show, void *context) {
    dw_status status = DW_OK;
    for (size_t at = 0, end; show != NULL && status == DW_OK && at < size; at = end) {
        for (end = at + 1; end < size && !text->hidden.items[end] == !text->hidden.items[at]; end++) {}
        if (!text->hidden.items[at]) status = show_repaired(text->held.items + at, end - at, show, context);
    }
    dw_stop_take(text, size);
    return status;
}

void dw_stop_take(dw_stop_text *text, size_t size) {
    if (size == 0) return;
    memmove(text->held.items, text->held.items + size, text->held.count - size);
    memmove(text->hidden.items, text->hidden.items + size, text->held.count - size);
    text->held.count -= size;
    text->hidden.count -= size;
    text->taken += size;
}

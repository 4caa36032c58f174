/* stop.h: generated text on its way out, with stop strings looked for.
 *
 *   held   text that may be the beginning of a stop, or is not yet taken
 *   ready  the part of held that is certain
 *
 * A stop may begin in one token and end in a later one, so a text that could still become one is held back. At most the longest stop
 * less one byte is held between two pieces.
 */
#ifndef DW_MODEL_TEXT_STOP_H
#define DW_MODEL_TEXT_STOP_H

#include "base/base.h"

typedef struct dw_stop_text {
    const char *const *stops;   /* borrowed; checked by dw_stop_check */
    uint32_t n_stops;
    char *held;
    size_t size, capacity;
    uint64_t taken;             /* bytes that left through dw_stop_take */
} dw_stop_text;

#define DW_STOP_NONE UINT32_MAX

/* Refuses empty or too long stops, and too many. */
dw_status dw_stop_check(const char *const *stops, uint32_t n_stops, dw_error *err) DW_MUST_USE;
void dw_stop_deinit(dw_stop_text *text);
/* Adds a piece. *ready = certain bytes at the beginning of held; *stop = index of the stop that begins there, earliest first (then
 * ready is what comes before it), or DW_STOP_NONE. */
dw_status dw_stop_feed(dw_stop_text *text, const char *piece, size_t size, size_t *ready, uint32_t *stop) DW_MUST_USE;
/* Removes the first `size` bytes of held. */
void dw_stop_take(dw_stop_text *text, size_t size);

#endif

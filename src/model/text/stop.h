/* stop.h: generated text on its way out, with stop strings looked for.
 *
 *   held    text that may be the beginning of a stop or of a character, or is not yet taken
 *   ready   the part of held that is certain
 *   hidden  text of a control token: a stop may name it whole, nobody is shown it
 *
 * A stop may begin in one token and end in a later one, and so may a character; what could still become one is held
 * back. At most the longest stop less one byte, and the beginning of a character before it, are held between two
 * pieces.
 */
#ifndef DW_MODEL_TEXT_STOP_H
#define DW_MODEL_TEXT_STOP_H

#include <stdbool.h>
#include "base/base.h"

typedef struct dw_stop_text {
    const char *const *stops;   /* borrowed; checked by dw_stop_check */
    uint32_t n_stops;
    DW_VEC(char) held;
    DW_VEC(uint8_t) hidden;     /* of each byte of held */
    uint64_t taken;             /* bytes that left through dw_stop_take, hidden ones too */
} dw_stop_text;

#define DW_STOP_NONE UINT32_MAX

/* Refuses empty or too long stops, and too many. */
dw_status dw_stop_check(const char *const *stops, uint32_t n_stops, dw_error *err) DW_MUST_USE;
void dw_stop_deinit(dw_stop_text *text);
/* Adds a piece. *ready = certain bytes at the beginning of held; *stop = index of the stop that begins there, earliest
 * first (then ready is what comes before it), or DW_STOP_NONE. */
dw_status dw_stop_feed(dw_stop_text *text, const char *piece, size_t size, bool hidden, size_t *ready,
                       uint32_t *stop) DW_MUST_USE;
/* Hands the visible text among the first `size` bytes of held to `show`, what is no character as U+FFFD, and removes
 * these bytes. show may be NULL; false from it ends the showing: DW_E_CANCELLED. */
typedef bool (*dw_stop_show)(void *context, const char *text, size_t size);
dw_status dw_stop_hand_out(dw_stop_text *text, size_t size, dw_stop_show show, void *context) DW_MUST_USE;
/* How many of the first `size` bytes of held no later byte can change: less than `size` where they end in the beginning
 * of a character. */
size_t dw_stop_whole(const dw_stop_text *text, size_t size);
/* Removes the first `size` bytes of held. */
void dw_stop_take(dw_stop_text *text, size_t size);

#endif

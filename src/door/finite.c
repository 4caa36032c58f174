/* finite.c: whether numbers that leave as results are numbers (door.h rule 4). Compiled so that the loop becomes vector
 * instructions: a row of logits has up to 262,144 of them. */
#include <string.h>
#include "door/door_internal.h"

/* An exponent of ones is an infinity or no number; minus infinity alone may be wanted. Looks at bits, so no comparison
 * can trap. */
static uint32_t not_finite(uint32_t bits, uint32_t allowed) {
    return (bits & 0x7f800000u) == 0x7f800000u && bits != allowed;
}

bool dw_all_finite(const float *numbers, size_t n, bool minus_infinity_too) {
    const uint32_t allowed = minus_infinity_too ? 0xff800000u : 0;
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &numbers[i], sizeof bits);
        bad |= not_finite(bits, allowed);
    }
    return bad == 0;
}

/* plain.h: text from outside as a terminal may show it: what would drive the terminal is written out instead.
 *
 * Escaped, byte by byte as \xNN: control characters (C0, DEL, and C1 as UTF-8), bytes that are no UTF-8, and the marks
 * that turn the direction of text around (U+202A..202E, U+2066..2069). All else stays as it is, a backslash too: this
 * is for eyes, not for reading back. */
#ifndef DW_BASE_PLAIN_H
#define DW_BASE_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

/* Room for any text of `size` bytes. */
#define DW_PLAIN_BYTES(size) (4 * (size) + 1)

/* Writes text[size] as plain text to out[capacity], with a NUL behind it, and returns the bytes it needs without the
 * NUL. What does not fit is left out at the end, whole characters and escapes at a time. keep_lines: newlines and tabs
 * stay. */
size_t dw_plain_text(const char *text, size_t size, bool keep_lines, char *out, size_t capacity);

#endif

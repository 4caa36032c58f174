/* segments.h: which passive segments the code of an instance has dropped, as values of an image and back. Internal to
 * src/wasm.
 *
 * Wasmtime does not tell, but an instruction does: to initialise nothing from item 1 of a segment on traps where the
 * segment is dropped, and has no effect otherwise. prepare.c gives each such segment a function that tries, and that
 * drops it.
 *
 * Rules
 * 1. In an image they follow the globals, an i32 each: 1 dropped, 0 not.
 * 2. A segment that is dropped stays so as long as its instance lives, so that is tried until it is found once.
 */
#ifndef DW_WASM_SEGMENTS_H
#define DW_WASM_SEGMENTS_H

#include <stdbool.h>
#include <stdint.h>
#include <wasmtime.h>
#include "base/base.h"

struct dw_image;
struct dw_instance;
struct dw_program;
struct dw_value;

typedef struct dw_segment_access { wasmtime_func_t function; bool dropped; } dw_segment_access; /* (i32) -> () */

/* Fills instance->segments, once. */
dw_status dw_segments_find(struct dw_instance *instance, dw_error *err) DW_MUST_USE;
/* Whether the values of an image, untrusted, can be of the program: DW_E_CORRUPT otherwise. */
dw_status dw_segments_check(const struct dw_program *program, const struct dw_image *image, dw_error *err) DW_MUST_USE;
/* Makes the segments of a new instance those of a checked image. */
dw_status dw_segments_restore(struct dw_instance *instance, const struct dw_image *image, dw_error *err) DW_MUST_USE;
/* Not inside a call. out: [info.n_drops] */
dw_status dw_segments_read(const struct dw_instance *instance, struct dw_value *out, dw_error *err) DW_MUST_USE;

#endif

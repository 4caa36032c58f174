/* handle.h: generation-checked handles, the only way a guest or client names one of our objects (I6).
 *
 * A handle is 32 bits: slot index in the low 16, generation in the high 16, never 0. A new handle takes the lowest free
 * slot and the next value of the table's clock, so a closed handle's number does not come back before 65,535 further
 * opens, and the numbers to come depend on nothing but the open handles and the clock: a thaw restores both (I4).
 * The table stores a tag per handle so that one kind of object cannot be taken for another.
 *
 * Threads: one at a time (a table belongs to one actor).
 */
#ifndef DW_BASE_HANDLE_H
#define DW_BASE_HANDLE_H

#include <stdint.h>
#include "base/status.h"

typedef uint32_t dw_handle;

typedef struct dw_handle_table dw_handle_table;

/* `capacity` <= 65,535 objects. The table owns itself only, never the objects. */
dw_status dw_handle_table_create(uint32_t capacity, dw_handle_table **out) DW_MUST_USE;
void dw_handle_table_destroy(dw_handle_table *table);

/* DW_E_LIMIT when full. `object` must not be NULL. */
dw_status dw_handle_open(dw_handle_table *table, uint16_t tag, void *object, dw_handle *out) DW_MUST_USE;
/* The object, or NULL when the handle is forged, closed or has another tag. */
void *dw_handle_get(const dw_handle_table *table, uint16_t tag, dw_handle handle);
/* Closes and returns the object, or NULL as above. */
void *dw_handle_close(dw_handle_table *table, uint16_t tag, dw_handle handle);
/* Walks the open handles of `tag` (0 = all): start with *cursor = 0; returns NULL at the end. Closing the one just
 * returned is allowed. */
void *dw_handle_next(const dw_handle_table *table, uint16_t tag, uint32_t *cursor, dw_handle *out);
uint32_t dw_handle_count(const dw_handle_table *table);
/* Opens an object under a given number: used by a thaw, so that numbers the guest remembers stay true. DW_E_EXISTS if
 * taken, DW_E_RANGE if the table has no such slot, DW_E_INVALID if no table ever gives such a number. */
dw_status dw_handle_reopen(dw_handle_table *table, uint16_t tag, void *object, dw_handle handle) DW_MUST_USE;
/* The generation given last. A thaw sets it after the last reopen, so that the next handles are those that an
 * uninterrupted actor gets. */
uint16_t dw_handle_clock(const dw_handle_table *table);
void dw_handle_set_clock(dw_handle_table *table, uint16_t clock);

#endif

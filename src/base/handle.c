/* handle.c: generation-checked handles.
 *
 * Both parts of a new handle follow from little state, because guests keep handles in their memory and a resumed actor
 * must get the very numbers that an uninterrupted one would have got (I4): the slot is the lowest free one, and the
 * generation is one clock for the whole table, advanced by every open. A checkpoint that keeps the open handles and the
 * clock therefore keeps everything. */
#include "base/handle.h"

#include <stdbool.h>
#include <stdlib.h>

enum { GENERATION_BITS = 16, SLOT_MASK = 0xFFFF, CAPACITY_MAX = 0xFFFF };

typedef struct slot {
    void *object;        /* NULL = free */
    uint16_t tag;
    uint16_t generation; /* of the open handle */
} slot;

struct dw_handle_table {
    uint32_t capacity;
    uint32_t count;
    uint32_t lowest_free; /* no slot below it is free */
    uint16_t clock;       /* generation given last; 1..65535, so that a handle is never 0 */
    slot slots[];
};

dw_status dw_handle_table_create(uint32_t capacity, dw_handle_table **out) {
    *out = NULL;
    if (capacity == 0 || capacity > CAPACITY_MAX) return DW_E_INVALID;
    dw_handle_table *table = calloc(1, sizeof *table + capacity * sizeof table->slots[0]);
    if (!table) return DW_E_NO_MEMORY;
    table->capacity = capacity;
    *out = table;
    return DW_OK;
}

void dw_handle_table_destroy(dw_handle_table *table) { free(table); }

static dw_handle make_handle(uint32_t index, uint16_t generation) {
    return ((uint32_t)generation << GENERATION_BITS) | index;
}

/* Index of the slot that `handle` truly names, or `capacity`. */
static uint32_t find_slot(const dw_handle_table *table, uint16_t tag, dw_handle handle) {
    uint32_t index = handle & SLOT_MASK;
    if (index >= table->capacity) return table->capacity;
    const slot *found = &table->slots[index];
    bool same = found->object && found->tag == tag && found->generation == handle >> GENERATION_BITS;
    return same ? index : table->capacity;
}

dw_status dw_handle_open(dw_handle_table *table, uint16_t tag, void *object, dw_handle *out) {
    *out = 0;
    if (!object) return DW_E_INVALID;
    if (table->count == table->capacity) return DW_E_LIMIT;
    uint32_t index = table->lowest_free;
    while (table->slots[index].object) index++; /* ends: one slot is free */
    table->clock = table->clock == UINT16_MAX ? 1 : (uint16_t)(table->clock + 1);
    table->slots[index] = (slot){.object = object, .tag = tag, .generation = table->clock};
    table->lowest_free = index + 1;
    table->count++;
    *out = make_handle(index, table->clock);
    return DW_OK;
}

void *dw_handle_get(const dw_handle_table *table, uint16_t tag, dw_handle handle) {
    uint32_t index = find_slot(table, tag, handle);
    return index < table->capacity ? table->slots[index].object : NULL;
}

void *dw_handle_close(dw_handle_table *table, uint16_t tag, dw_handle handle) {
    uint32_t index = find_slot(table, tag, handle);
    if (index == table->capacity) return NULL;
    void *object = table->slots[index].object;
    table->slots[index].object = NULL;
    table->count--;
    if (index < table->lowest_free) table->lowest_free = index;
    return object;
}

void *dw_handle_next(const dw_handle_table *table, uint16_t tag, uint32_t *cursor, dw_handle *out) {
    while (*cursor < table->capacity) {
        uint32_t index = (*cursor)++;
        const slot *found = &table->slots[index];
        if (!found->object || (tag != 0 && found->tag != tag)) continue;
        if (out) *out = make_handle(index, found->generation);
        return found->object;
    }
    return NULL;
}

uint32_t dw_handle_count(const dw_handle_table *table) { return table->count; }

dw_status dw_handle_reopen(dw_handle_table *table, uint16_t tag, void *object, dw_handle handle) {
    uint32_t index = handle & SLOT_MASK;
    uint16_t generation = (uint16_t)(handle >> GENERATION_BITS);
    if (!object || generation == 0) return DW_E_INVALID;
    if (index >= table->capacity) return DW_E_RANGE;
    if (table->slots[index].object) return DW_E_EXISTS;
    table->slots[index] = (slot){.object = object, .tag = tag, .generation = generation};
    if (generation > table->clock) table->clock = generation;
    table->count++;
    return DW_OK;
}

uint16_t dw_handle_clock(const dw_handle_table *table) { return table->clock; }
void dw_handle_set_clock(dw_handle_table *table, uint16_t clock) { table->clock = clock; }

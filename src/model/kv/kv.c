/* kv.c: slots of KV rows, made of extents. kv.h has the words and the rules.
 *
 * Page geometry. Rows do not end at page ends, maps do. So an extent whose first row is f owns, in each area, the pages from the one
 * that holds row f's first byte (page_of(f)) up to the page where the next extent begins. Its object holds that first page whole,
 * with the rows before f in it (copied when the extent was made).
 *
 * Order of changes. Every function changes maps first and its notes last, and repeats nothing that a half-done predecessor could
 * have spoilt: after a failure the rows of the slot are where the notes say, and the operation can be tried again.
 */
#include "model/kv/kv.h"

#include <stdlib.h>
#include <string.h>

/* A backing object and who has it. */
typedef struct kv_object {
    dw_backing *backing;   /* a reference of ours */
    uint32_t holders;      /* extents, each of another slot */
    uint64_t bytes;        /* held: of the pages of all areas that rows were written to. 0 for a checkpoint */
} kv_object;

typedef struct kv_extent {
    kv_object *object;
    uint64_t *offsets;     /* [n_areas] where each area's row 0 lies in the backing; NULL: as in the slot */
    uint32_t first_row;
    uint32_t end_row;      /* with offsets: rows that are there; else UINT32_MAX */
} kv_extent;

typedef struct kv_slot {
    bool open;
    bool shared_tail;      /* rows from tail_row on are written into the last extent's object; else they are private copies */
    uint32_t rows;         /* committed */
    uint32_t tail_row;
    uint32_t sealed;       /* with shared_tail: rows below are in other slots' maps */
    uint32_t n_extents;
    kv_extent extents[DW_KV_EXTENTS_MAX];
    dw_buffer *wrap;       /* of the slot, on devices that wrap each slot */
    uint64_t private_bytes; /* held: copies behind tail_row, while the tail is private */
    uint64_t copied_bytes;
} kv_slot;

struct dw_kv_arena {
    dw_kv_geometry geometry;
    dw_device *device;
    dw_region *region;
    dw_buffer *wrap;       /* of the whole arena, where the device follows host addresses */
    uint64_t area_bytes, stride;
    uint64_t held_bytes;   /* of all objects and private copies */
    uint32_t n_areas;
    kv_slot *slots;
};

/* --- geometry ------------------------------------------------------------------------------------------------ */

static uint64_t greatest_common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* Offset in an area of the page that holds the first byte of `row`. */
static uint64_t page_of(const dw_kv_arena *arena, uint32_t row) {
    return dw_round_down_u64((uint64_t)row * arena->geometry.row_bytes, dw_os_page_bytes());
}

/* Offset in an area of the end of the last page that holds a byte of the first `rows` rows. */
static uint64_t page_end_of(const dw_kv_arena *arena, uint32_t rows) {
    uint64_t page = dw_os_page_bytes(), bytes = (uint64_t)rows * arena->geometry.row_bytes;
    return (bytes + page - 1) / page * page;
}

static uint64_t slot_offset(const dw_kv_arena *arena, dw_kv_slot slot) { return (uint64_t)slot * arena->stride; }

static kv_slot *slot_of(const dw_kv_arena *arena, dw_kv_slot slot) {
    return slot < arena->geometry.n_slots && arena->slots[slot].open ? &arena->slots[slot] : NULL;
}

static uint8_t *area_address(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t area) {
    return (uint8_t *)dw_region_base(arena->region) + slot_offset(arena, slot) + area * arena->area_bytes;
}

/* --- arena --------------------------------------------------------------------------------------------------- */

static dw_status check_geometry(dw_kv_arena *arena, dw_error *err) {
    const dw_kv_geometry *g = &arena->geometry;
    if (g->n_layers == 0 || g->n_layers > DW_LAYERS_MAX || g->n_slots == 0 || g->n_slots > DW_SESSIONS_PER_MODEL_MAX + DW_MODEL_OWN_SLOTS ||
        g->context_tokens == 0 || g->context_tokens > DW_CONTEXT_TOKENS_MAX || g->row_bytes == 0) {
        return dw_fail(err, DW_E_LIMIT, "KV arena of %u slots, %u layers, %u tokens", g->n_slots, g->n_layers, g->context_tokens);
    }
    uint64_t page = dw_os_page_bytes(), total = 0;
    arena->n_areas = 2 * g->n_layers;
    arena->area_bytes = page_end_of(arena, g->context_tokens);
    /* A slot begins at a whole number of rows, so that one tensor over the arena addresses every slot's rows by index. */
    uint64_t unit = page / greatest_common_divisor(page, g->row_bytes) * g->row_bytes;
    if (!dw_mul_u64(arena->n_areas, arena->area_bytes, &arena->stride) || arena->stride > UINT64_MAX - unit) return dw_fail(err, DW_E_RANGE, "KV slot too large");
    arena->stride = (arena->stride + unit - 1) / unit * unit;
    if (!dw_mul_u64(g->n_slots, arena->stride, &total) || total > SIZE_MAX / 2) return dw_fail(err, DW_E_RANGE, "KV arena too large");
    return DW_OK;
}

dw_status dw_kv_arena_create(const dw_kv_geometry *geometry, dw_device *device, dw_kv_arena **out, dw_error *err) {
    *out = NULL;
    dw_kv_arena *arena = calloc(1, sizeof *arena);
    if (arena == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    arena->geometry = *geometry;
    arena->device = device;
    const dw_device_info *info = dw_device_info_view(device);
    dw_status status = check_geometry(arena, err);
    if (status != DW_OK) goto out;
    if (!info->can_wrap) {
        status = dw_fail(err, DW_E_UNSUPPORTED, "device %s cannot work on KV rows in host memory", info->name);
        goto out;
    }
    arena->slots = calloc(geometry->n_slots, sizeof arena->slots[0]);
    if (arena->slots == NULL) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for KV slots");
        goto out;
    }
    dw_region_options options = {.reserve_bytes = geometry->n_slots * arena->stride, .guard_bytes = dw_os_page_bytes()};
    status = dw_region_create(&options, &arena->region, err);
    if (status == DW_OK && info->addresses_are_host) {
        status = dw_device_wrap(device, dw_region_base(arena->region), options.reserve_bytes, true, &arena->wrap, err);
    }
out:
    if (status != DW_OK) dw_kv_arena_destroy(arena);
    else *out = arena;
    return status;
}

void dw_kv_arena_destroy(dw_kv_arena *arena) {
    if (arena == NULL) return;
    for (uint32_t i = 0; arena->slots != NULL && i < arena->geometry.n_slots; i++) dw_kv_close(arena, i);
    dw_buffer_destroy(arena->wrap);
    dw_status status = dw_region_destroy(arena->region); /* no windows are ever lent of this region */
    if (status != DW_OK) dw_log(DW_LOG_ERROR, "kv_arena", "status=%s", dw_status_name(status));
    free(arena->slots);
    free(arena);
}

uint64_t dw_kv_stride_bytes(const dw_kv_arena *arena) { return arena->stride; }
uint64_t dw_kv_area_bytes(const dw_kv_arena *arena) { return arena->area_bytes; }

/* --- maps ---------------------------------------------------------------------------------------------------- */

static dw_status map_at(dw_kv_arena *arena, dw_kv_slot slot, uint64_t offset, uint64_t size, dw_backing *backing,
                        uint64_t backing_offset, dw_extent_mode mode, dw_error *err) {
    dw_extent extent = {.offset = slot_offset(arena, slot) + offset, .size = size, .backing = backing, .backing_offset = backing_offset, .mode = mode};
    return dw_region_map(arena->region, &extent, true, err);
}

/* One object over the whole slot: a single map. NULL: zeros. */
static dw_status map_whole(dw_kv_arena *arena, dw_kv_slot slot, dw_backing *backing, dw_extent_mode mode, dw_error *err) {
    return map_at(arena, slot, 0, arena->stride, backing, 0, mode, err);
}

/* Bytes [begin, end) of every area from an extent; beyond what the extent has come zeros. */
static dw_status map_areas(dw_kv_arena *arena, dw_kv_slot slot, const kv_extent *extent, uint64_t begin, uint64_t end, dw_extent_mode mode,
                           bool zeros_behind, dw_error *err) {
    uint64_t has = extent->offsets == NULL ? arena->area_bytes : page_end_of(arena, extent->end_row);
    uint64_t mapped_end = dw_min_u64(has, end);
    dw_status status = DW_OK;
    for (uint32_t area = 0; status == DW_OK && area < arena->n_areas; area++) {
        uint64_t at = area * arena->area_bytes;
        if (begin < mapped_end) {
            uint64_t from = (extent->offsets == NULL ? at : extent->offsets[area]) + begin;
            status = map_at(arena, slot, at + begin, mapped_end - begin, extent->object->backing, from, mode, err);
        }
        uint64_t zeros = dw_max_u64(mapped_end, begin);
        if (status == DW_OK && zeros_behind && zeros < end) status = map_at(arena, slot, at + zeros, end - zeros, NULL, 0, DW_EXTENT_PRIVATE, err);
    }
    return status;
}

/* A slot without maps gets those of its extents; all private. */
static dw_status map_extents(dw_kv_arena *arena, dw_kv_slot slot, const kv_slot *s, dw_error *err) {
    const kv_extent *last = &s->extents[s->n_extents - 1];
    uint32_t n_overlaid = last->offsets == NULL ? s->n_extents - 1 : s->n_extents;
    dw_status status = map_whole(arena, slot, last->offsets == NULL ? last->object->backing : NULL, DW_EXTENT_PRIVATE, err);
    for (uint32_t i = 0; status == DW_OK && i < n_overlaid; i++) {
        uint64_t end = i + 1 < s->n_extents ? page_of(arena, s->extents[i + 1].first_row) : arena->area_bytes;
        status = map_areas(arena, slot, &s->extents[i], page_of(arena, s->extents[i].first_row), end, DW_EXTENT_PRIVATE, false, err);
    }
    return status;
}

/* --- extents ------------------------------------------------------------------------------------------------- */

static dw_status make_object(dw_backing *backing, kv_object **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV object");
    (*out)->backing = dw_backing_retain(backing);
    (*out)->holders = 1;
    return DW_OK;
}

/* A new memory object with the layout of a slot. */
static dw_status make_memory_object(const dw_kv_arena *arena, kv_object **out, dw_error *err) {
    dw_backing *backing = NULL;
    *out = NULL;
    dw_status status = dw_backing_create_memory("driftwood-kv", arena->stride, &backing, err);
    if (status == DW_OK) status = make_object(backing, out, err);
    dw_backing_release(backing);
    return status;
}

static void release_object(dw_kv_arena *arena, kv_object *object) {
    if (object == NULL || --object->holders > 0) return;
    arena->held_bytes -= object->bytes;
    dw_backing_release(object->backing);
    free(object);
}

/* Bytes of the pages that rows [first, end) lie on, in all areas. */
static uint64_t bytes_of_rows(const dw_kv_arena *arena, uint32_t first, uint32_t end) {
    return end > first ? arena->n_areas * (page_end_of(arena, end) - page_of(arena, first)) : 0;
}

/* Pages that were written once stay, whatever happens to their rows. */
static void count_written(dw_kv_arena *arena, uint64_t *held, uint64_t bytes) {
    if (bytes <= *held) return;
    arena->held_bytes += bytes - *held;
    *held = bytes;
}

/* The private copies were mapped over. */
static void count_private_dropped(dw_kv_arena *arena, kv_slot *s) {
    arena->held_bytes -= s->private_bytes;
    s->private_bytes = 0;
}

static void drop_extents(dw_kv_arena *arena, kv_slot *s, uint32_t keep) {
    while (s->n_extents > keep) {
        kv_extent *extent = &s->extents[--s->n_extents];
        release_object(arena, extent->object);
        free(extent->offsets);
        memset(extent, 0, sizeof *extent);
    }
}

static dw_status copy_extent(const dw_kv_arena *arena, const kv_extent *from, kv_extent *to, dw_error *err) {
    *to = *from;
    if (from->offsets != NULL) {
        to->offsets = malloc(arena->n_areas * sizeof to->offsets[0]);
        if (to->offsets == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV extent");
        memcpy(to->offsets, from->offsets, arena->n_areas * sizeof to->offsets[0]);
    }
    to->object->holders++;
    return DW_OK;
}

/* How many of the extents hold rows below `row`. */
static uint32_t extents_below(const kv_slot *s, uint32_t row) {
    uint32_t n = 0;
    while (n < s->n_extents && s->extents[n].first_row < row) n++;
    return n;
}

static dw_status take_slot(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) {
    for (uint32_t i = 0; i < arena->geometry.n_slots; i++) {
        if (arena->slots[i].open) continue;
        memset(&arena->slots[i], 0, sizeof arena->slots[i]);
        arena->slots[i].open = true;
        *out = i;
        return DW_OK;
    }
    return dw_fail(err, DW_E_LIMIT, "all %u sessions of this model are taken", arena->geometry.n_slots);
}

/* The slot's own new object, written in place, over the whole slot. Replaces whatever was mapped. */
static dw_status start_afresh(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    kv_object *object = NULL;
    dw_status status = make_memory_object(arena, &object, err);
    if (status == DW_OK) status = map_whole(arena, slot, object->backing, DW_EXTENT_SHARED, err);
    if (status != DW_OK) {
        release_object(arena, object);
        return status;
    }
    drop_extents(arena, s, 0);
    count_private_dropped(arena, s);
    s->extents[0] = (kv_extent){.object = object, .end_row = UINT32_MAX};
    s->n_extents = 1;
    s->shared_tail = true;
    s->tail_row = s->sealed = 0;
    return DW_OK;
}

/* --- opening and closing ------------------------------------------------------------------------------------- */

dw_status dw_kv_open(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) {
    dw_kv_slot slot = 0;
    dw_status status = take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    status = start_afresh(arena, slot, err);
    if (status != DW_OK) dw_kv_close(arena, slot);
    else *out = slot;
    return status;
}

/* If this fails the pages stay until the slot is mapped over. */
static void unmap_slot(dw_kv_arena *arena, dw_kv_slot slot) {
    if (dw_region_size(arena->region) <= slot_offset(arena, slot)) return;
    uint64_t size = dw_min_u64(arena->stride, dw_region_size(arena->region) - slot_offset(arena, slot));
    dw_error err;
    if (dw_region_unmap(arena->region, slot_offset(arena, slot), size, &err) != DW_OK) dw_log(DW_LOG_WARN, "kv_close", "error=\"%s\"", err.text);
}

/* A slot without rows and without maps that mean anything: it gets its own object before the next row. */
static void forget_rows(dw_kv_arena *arena, kv_slot *s) {
    dw_buffer_destroy(s->wrap); /* device.h rule 1 */
    s->wrap = NULL;
    drop_extents(arena, s, 0);
    count_private_dropped(arena, s);
    s->shared_tail = false;
    s->rows = s->sealed = 0;
    s->tail_row = 1; /* above the rows: not writable as it is */
}

void dw_kv_release(dw_kv_arena *arena, dw_kv_slot slot) {
    kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return;
    forget_rows(arena, s);
    unmap_slot(arena, slot);
}

void dw_kv_close(dw_kv_arena *arena, dw_kv_slot slot) {
    kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return;
    dw_kv_release(arena, slot);
    memset(s, 0, sizeof *s);
}

/* --- sealing and forking ------------------------------------------------------------------------------------- */

/* Copies the rows of pages from page_of(first) on, of every area, to the same places of a new object. */
static dw_status copy_rows(dw_kv_arena *arena, dw_kv_slot slot, uint32_t first, dw_backing *to, uint64_t *copied, dw_error *err) {
    uint64_t begin = page_of(arena, first), end = page_end_of(arena, arena->slots[slot].rows);
    dw_status status = DW_OK;
    for (uint32_t area = 0; status == DW_OK && area < arena->n_areas && begin < end; area++) {
        uint64_t at = area * arena->area_bytes + begin;
        status = dw_os_write_at(dw_backing_file(to), at, area_address(arena, slot, area) + begin, (size_t)(end - begin), err);
        *copied += end - begin;
    }
    return status;
}

/* Turns a private tail that holds rows into the slot's own object. With too many extents all rows move there. A failure half-way
 * leaves some areas mapped to the new object already: they hold the same bytes, and nobody else maps it. */
static dw_status seal(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    if (s->shared_tail || s->rows <= s->tail_row) return DW_OK;
    uint32_t keep = extents_below(s, s->tail_row);
    uint32_t first = keep < DW_KV_EXTENTS_MAX ? s->tail_row : 0;
    if (first == 0) keep = 0;
    uint64_t copied = 0;
    kv_extent extent = {.first_row = first, .end_row = UINT32_MAX};
    dw_status status = make_memory_object(arena, &extent.object, err);
    if (status == DW_OK) status = copy_rows(arena, slot, first, extent.object->backing, &copied, err);
    if (status != DW_OK) goto out;
    dw_buffer_destroy(s->wrap); /* device.h rule 1 */
    s->wrap = NULL;
    status = first == 0 ? map_whole(arena, slot, extent.object->backing, DW_EXTENT_SHARED, err)
                        : map_areas(arena, slot, &extent, page_of(arena, first), arena->area_bytes, DW_EXTENT_SHARED, false, err);
    if (status != DW_OK) goto out;
    drop_extents(arena, s, keep);
    count_private_dropped(arena, s);
    count_written(arena, &extent.object->bytes, bytes_of_rows(arena, first, s->rows));
    s->extents[s->n_extents++] = extent;
    s->shared_tail = true;
    s->tail_row = first;
    s->sealed = 0;
    s->copied_bytes += copied;
    return DW_OK;
out:
    release_object(arena, extent.object);
    return status;
}

/* The parent's first n_rows rows, all private, in a slot without rows or extents. After a failure it has no extents either, whatever is mapped. */
static dw_status fork_into(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot slot, dw_error *err) {
    kv_slot *p = &arena->slots[parent], *child = &arena->slots[slot];
    dw_status status = n_rows > p->tail_row ? seal(arena, parent, err) : DW_OK;
    uint32_t n = extents_below(p, n_rows);
    for (uint32_t i = 0; status == DW_OK && i < n; i++) {
        status = copy_extent(arena, &p->extents[i], &child->extents[i], err);
        if (status == DW_OK) child->n_extents++;
    }
    if (status == DW_OK) status = map_extents(arena, slot, child, err);
    if (status != DW_OK) {
        drop_extents(arena, child, 0);
        return status;
    }
    child->shared_tail = false;
    child->rows = child->tail_row = n_rows;
    child->sealed = 0;
    if (p->shared_tail && n == p->n_extents && n_rows > p->sealed) p->sealed = n_rows;
    return DW_OK;
}

static dw_status check_fork(const dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_error *err) {
    const kv_slot *p = slot_of(arena, parent);
    if (p == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    if (n_rows > p->rows) return dw_fail(err, DW_E_RANGE, "fork at row %u of %u", n_rows, p->rows);
    return DW_OK;
}

dw_status dw_kv_fork(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot *out, dw_error *err) {
    dw_kv_slot slot = 0;
    dw_status status = check_fork(arena, parent, n_rows, err);
    if (status == DW_OK && n_rows == 0) return dw_kv_open(arena, out, err);
    if (status == DW_OK) status = take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    status = fork_into(arena, parent, n_rows, slot, err);
    if (status != DW_OK) dw_kv_close(arena, slot);
    else *out = slot;
    return status;
}

uint32_t dw_kv_rows_to_give(const dw_kv_arena *arena, dw_kv_slot slot) {
    const kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return 0;
    return s->shared_tail || s->rows < s->tail_row ? s->rows : s->tail_row;
}

dw_status dw_kv_share(dw_kv_arena *arena, dw_kv_slot *slot, dw_kv_slot donor, uint32_t n_rows, dw_error *err) {
    kv_slot *s = slot_of(arena, *slot);
    dw_status status = check_fork(arena, donor, n_rows, err);
    if (status == DW_OK && (s == NULL || *slot == donor || n_rows == 0)) status = dw_fail(err, DW_E_INVALID, "no such KV slot to share rows with");
    if (status != DW_OK) return status;
    if (s->rows > 0) {
        dw_kv_slot made = 0;
        status = dw_kv_fork(arena, donor, n_rows, &made, err);
        if (status != DW_OK) return status;
        dw_kv_close(arena, *slot);
        *slot = made;
        return DW_OK;
    }
    forget_rows(arena, s);
    return fork_into(arena, donor, n_rows, *slot, err);
}

/* --- restoring ----------------------------------------------------------------------------------------------- */

static dw_status check_image(const dw_kv_arena *arena, const dw_backing *backing, const uint64_t *offsets, uint32_t n_rows, dw_error *err) {
    if (n_rows > arena->geometry.context_tokens) {
        return dw_fail(err, DW_E_FULL, "%u KV rows, and this model was opened for %u", n_rows, arena->geometry.context_tokens);
    }
    uint64_t size = dw_backing_size(backing);
    for (uint32_t area = 0; area < arena->n_areas; area++) {
        if (offsets[area] % dw_os_page_bytes() != 0) return dw_fail_at(err, DW_E_FORMAT, offsets[area], "KV rows do not begin on a page");
        if (!dw_in_range(offsets[area], page_end_of(arena, n_rows), size)) {
            return dw_fail_at(err, DW_E_TRUNCATED, offsets[area], "KV rows reach beyond the end of the file");
        }
    }
    return DW_OK;
}

dw_status dw_kv_restore(dw_kv_arena *arena, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows, dw_kv_slot *out, dw_error *err) {
    if (n_rows == 0) return dw_kv_open(arena, out, err);
    dw_status status = check_image(arena, backing, offsets, n_rows, err);
    dw_kv_slot slot = 0;
    if (status == DW_OK) status = take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    kv_slot *s = &arena->slots[slot];
    kv_extent image = {.offsets = (uint64_t *)(uintptr_t)offsets, .end_row = n_rows}; /* copied, not written */
    status = make_object(backing, &image.object, err);
    if (status == DW_OK) {
        status = copy_extent(arena, &image, &s->extents[0], err);
        release_object(arena, image.object);
    }
    if (status == DW_OK) {
        s->n_extents = 1;
        status = map_extents(arena, slot, s, err);
    }
    if (status != DW_OK) {
        dw_kv_close(arena, slot);
        return status;
    }
    s->rows = s->tail_row = n_rows;
    *out = slot;
    return DW_OK;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

void dw_kv_reserve(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return;
    uint64_t *held = s->shared_tail ? &s->extents[s->n_extents - 1].object->bytes : &s->private_bytes;
    count_written(arena, held, bytes_of_rows(arena, s->tail_row, n_rows));
}

void dw_kv_commit(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    kv_slot *s = slot_of(arena, slot);
    if (s == NULL || n_rows <= s->rows) return;
    s->rows = n_rows;
    dw_kv_reserve(arena, slot, n_rows);
}

void dw_kv_rewind(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    kv_slot *s = slot_of(arena, slot);
    if (s != NULL && n_rows < s->rows) s->rows = n_rows;
}

uint32_t dw_kv_rows(const dw_kv_arena *arena, dw_kv_slot slot) {
    const kv_slot *s = slot_of(arena, slot);
    return s != NULL ? s->rows : 0;
}

/* The maps after a rewind into rows that may not be written: those from the cut on go, the last extent that stays goes on below
 * them, and new rows become private copies. Pages before the cut are not touched. */
static dw_status make_tail_private(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    if (s->rows == 0) return start_afresh(arena, slot, err);
    uint32_t keep = extents_below(s, s->rows);
    const kv_extent *last = &s->extents[keep - 1];
    /* A shared tail that stays is itself remapped, from its beginning. */
    uint32_t cut_row = keep < s->n_extents ? s->extents[keep].first_row : s->shared_tail ? last->first_row : s->tail_row;
    if (!s->shared_tail && s->tail_row < cut_row) cut_row = s->tail_row;
    uint64_t cut = page_of(arena, cut_row);
    dw_status status = cut == 0 && last->offsets == NULL ? map_whole(arena, slot, last->object->backing, DW_EXTENT_PRIVATE, err)
                                                         : map_areas(arena, slot, last, cut, arena->area_bytes, DW_EXTENT_PRIVATE, true, err);
    if (status != DW_OK) return status;
    drop_extents(arena, s, keep);
    count_private_dropped(arena, s);
    s->shared_tail = false;
    s->tail_row = s->rows;
    s->sealed = 0;
    return DW_OK;
}

/* Rows below may not be written in place. */
static uint32_t writable_from(const kv_slot *s) { return s->shared_tail && s->sealed > s->tail_row ? s->sealed : s->tail_row; }

dw_status dw_kv_writable(dw_kv_arena *arena, dw_kv_slot slot, dw_buffer **out, uint64_t *offset, dw_error *err) {
    kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    dw_status status = DW_OK;
    if (s->rows < writable_from(s)) {
        dw_buffer_destroy(s->wrap); /* device.h rule 1 */
        s->wrap = NULL;
        status = make_tail_private(arena, slot, err);
    }
    if (status == DW_OK && arena->wrap == NULL && s->wrap == NULL) {
        status = dw_device_wrap(arena->device, area_address(arena, slot, 0), arena->stride, true, &s->wrap, err);
    }
    if (status != DW_OK) return status;
    *out = arena->wrap != NULL ? arena->wrap : s->wrap;
    *offset = arena->wrap != NULL ? slot_offset(arena, slot) : 0;
    return DW_OK;
}

void *dw_kv_area(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t layer, int which) {
    return area_address(arena, slot, 2 * layer + (which != 0 ? 1 : 0));
}

/* --- use ----------------------------------------------------------------------------------------------------- */

uint64_t dw_kv_held_bytes(const dw_kv_arena *arena) { return arena->held_bytes; }

uint64_t dw_kv_growth(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    const kv_slot *s = slot_of(arena, slot);
    if (s == NULL || n_rows <= s->rows) return 0;
    if (s->rows < writable_from(s)) return bytes_of_rows(arena, s->rows, n_rows); /* in an object or copies yet to be made */
    uint64_t held = s->shared_tail ? s->extents[s->n_extents - 1].object->bytes : s->private_bytes;
    uint64_t bytes = bytes_of_rows(arena, s->tail_row, n_rows);
    return bytes > held ? bytes - held : 0;
}

/* Objects that nobody else has, whole; of the slot's own tail that others have too, the pages behind what they map; private copies. */
dw_status dw_kv_use_now(const dw_kv_arena *arena, dw_kv_slot slot, dw_kv_use *out, dw_error *err) {
    const kv_slot *s = slot_of(arena, slot);
    if (s == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    *out = (dw_kv_use){.own_bytes = s->private_bytes, .copied_bytes = s->copied_bytes, .extents = s->n_extents};
    for (uint32_t i = 0; i < s->n_extents; i++) {
        if (s->extents[i].object->holders == 1) out->own_bytes += s->extents[i].object->bytes;
    }
    bool tail_is_shared = s->shared_tail && s->extents[s->n_extents - 1].object->holders > 1;
    if (tail_is_shared) out->own_bytes += bytes_of_rows(arena, writable_from(s), s->rows);
    return DW_OK;
}

/* kv.c: slots of KV rows, made of extents. kv.h has the words and the rules, rows.h what lies below.
 *
 * Rows do not end at the ends of granules, maps do. So an extent whose first row is f owns, in each run, the granules
 * from the one that holds row f's first byte up to the one where the next extent begins. Its object holds that first
 * granule whole, with the rows before f in it (copied when the extent was made).
 *
 * Order of changes. Every function changes maps first and its notes last. It can be called again after a call that
 * stopped half-way. So after a failure the rows of the slot are where the notes say, and the operation can be tried
 * again.
 */
#include "model/kv/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "model/kv/rows.h"

/* Memory and who has it. */
typedef struct kv_object {
    dw_rows_memory *memory; /* its owner */
    uint32_t holders;       /* extents, each of another slot, and folds */
    uint32_t seen, seen_end; /* kv_check */
    uint64_t bytes;         /* held: of the granules of all runs that rows were written to. 0 for a checkpoint */
} kv_object;

typedef struct kv_extent {
    kv_object *object;
    uint32_t first_row;
} kv_extent;

typedef struct kv_slot {
    bool open;
    bool owns_tail;        /* the last extent is the tail */
    bool lacked_maps;      /* for a tail: a fold comes next */
    uint32_t rows;         /* committed */
    uint32_t sealed;       /* with a tail: rows below are in other slots' maps */
    uint32_t n_extents;
    kv_extent extents[DW_KV_EXTENTS_MAX];
    uint64_t tail_bytes, fold_bytes; /* copied */
} kv_slot;

struct dw_kv_arena {
    dw_rows *rows;
    uint64_t held_bytes;   /* of all objects */
    uint64_t folds_bytes;  /* of these, of folds that have not ended */
    kv_slot *slots;
};

struct dw_kv_fold {
    dw_kv_arena *arena;
    kv_object *object;
    dw_kv_slot slot;
    uint32_t rows;
};

static kv_slot *kv_slot_of(const dw_kv_arena *arena, dw_kv_slot slot) {
    return slot < arena->rows->geometry.n_slots && arena->slots[slot].open ? &arena->slots[slot] : NULL;
}

/* Rows from this one on may be written in place. */
static uint32_t kv_writable_from(const kv_slot *s) {
    if (!s->owns_tail) return UINT32_MAX;
    uint32_t first = s->extents[s->n_extents - 1].first_row;
    return s->sealed > first ? s->sealed : first;
}

/* --- checks of our own rules --------------------------------------------------------------------------------- */

#if DW_INVARIANTS
static void kv_check_slot(const dw_kv_arena *arena, const kv_slot *s) {
    assert(s->n_extents <= DW_KV_EXTENTS_MAX);
    assert(s->rows <= arena->rows->geometry.context_tokens);
    assert(s->rows == 0 || s->n_extents > 0);
    assert(s->n_extents == 0 || s->extents[0].first_row == 0);
    assert(!s->owns_tail || s->n_extents > 0);
    for (uint32_t i = 1; i < s->n_extents; i++) assert(s->extents[i - 1].first_row < s->extents[i].first_row);
    if (s->owns_tail && s->rows > kv_writable_from(s)) {
        const kv_extent *tail = &s->extents[s->n_extents - 1];
        assert(tail->object->bytes >= dw_rows_bytes(arena->rows, tail->first_row, s->rows));
    }
}

/* Rows of one extent that others see end here. */
static uint32_t kv_extent_end(const kv_slot *s, uint32_t i) {
    return i + 1 < s->n_extents ? s->extents[i + 1].first_row : s->rows;
}

/* What the slots say agrees: who holds an object, what all objects hold, and that nobody maps rows that an owner may
 * still write. */
static void kv_check(dw_kv_arena *arena) {
    uint32_t n_slots = arena->rows->geometry.n_slots;
    uint64_t held = arena->folds_bytes;
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        kv_slot *s = &arena->slots[slot];
        if (!s->open) continue;
        kv_check_slot(arena, s);
        for (uint32_t i = 0; i < s->n_extents; i++) s->extents[i].object->seen = s->extents[i].object->seen_end = 0;
    }
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        kv_slot *s = &arena->slots[slot];
        for (uint32_t i = 0; s->open && i < s->n_extents; i++) {
            kv_object *object = s->extents[i].object;
            bool is_tail = s->owns_tail && i + 1 == s->n_extents;
            if (object->seen++ == 0) held += object->bytes;
            if (!is_tail && kv_extent_end(s, i) > object->seen_end) object->seen_end = kv_extent_end(s, i);
        }
    }
    assert(held == arena->held_bytes);
    for (uint32_t slot = 0; slot < n_slots; slot++) {
        const kv_slot *s = &arena->slots[slot];
        for (uint32_t i = 0; s->open && i < s->n_extents; i++) {
            assert(s->extents[i].object->seen == s->extents[i].object->holders);
        }
        if (s->open && s->owns_tail) assert(s->extents[s->n_extents - 1].object->seen_end <= kv_writable_from(s));
    }
}
#else
static void kv_check(dw_kv_arena *arena) { (void)arena; }
#endif

/* --- arena --------------------------------------------------------------------------------------------------- */

dw_status dw_kv_arena_create_over(dw_rows *rows, dw_kv_arena **out, dw_error *err) {
    *out = NULL;
    dw_kv_arena *arena = calloc(1, sizeof *arena);
    kv_slot *slots = calloc(rows->geometry.n_slots, sizeof slots[0]);
    if (arena == NULL || slots == NULL) {
        rows->ops->destroy(rows);
        free(slots);
        free(arena);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV arena");
    }
    arena->rows = rows;
    arena->slots = slots;
    *out = arena;
    return DW_OK;
}

dw_status dw_kv_arena_create(const dw_kv_geometry *geometry, dw_device *device, dw_kv_arena **out, dw_error *err) {
    dw_rows *rows = NULL;
    *out = NULL;
    /* A card with memory of its own reads the host's 44 times slower (reference measurement, H100). */
    bool discrete = dw_device_info_view(device)->kind == DW_DEVICE_GPU_DISCRETE;
    dw_status status = discrete ? dw_rows_cuda_create(geometry, device, &rows, err) : DW_E_UNSUPPORTED;
    if (status == DW_E_UNSUPPORTED) status = dw_rows_host_create(geometry, device, &rows, err);
    return status == DW_OK ? dw_kv_arena_create_over(rows, out, err) : status;
}

void dw_kv_arena_destroy(dw_kv_arena *arena) {
    if (arena == NULL) return;
    for (uint32_t i = 0; i < arena->rows->geometry.n_slots; i++) dw_kv_close(arena, i);
    arena->rows->ops->destroy(arena->rows);
    free(arena->slots);
    free(arena);
}

uint64_t dw_kv_stride_bytes(const dw_kv_arena *arena) { return arena->rows->stride; }

dw_kv_order dw_kv_order_of(const dw_kv_arena *arena) {
    const dw_rows *rows = arena->rows;
    return (dw_kv_order){.run_bytes = rows->run_bytes, .row_step = rows->row_step, .areas_per_run = rows->areas_per_run,
                         .in_one_buffer = rows->in_one_buffer};
}

/* --- objects and extents ------------------------------------------------------------------------------------- */

/* Takes the memory over, also when it fails. */
static dw_status kv_make_object(dw_kv_arena *arena, dw_rows_memory *memory, kv_object **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (*out == NULL) {
        arena->rows->ops->free(arena->rows, memory);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for a KV object");
    }
    **out = (kv_object){.memory = memory, .holders = 1};
    return DW_OK;
}

static dw_status kv_make_new_object(dw_kv_arena *arena, kv_object **out, dw_error *err) {
    dw_rows_memory *memory = NULL;
    *out = NULL;
    dw_status status = arena->rows->ops->make(arena->rows, &memory, err);
    return status == DW_OK ? kv_make_object(arena, memory, out, err) : status;
}

static void kv_release_object(dw_kv_arena *arena, kv_object *object) {
    if (object == NULL || --object->holders > 0) return;
    arena->held_bytes -= object->bytes;
    arena->rows->ops->free(arena->rows, object->memory);
    free(object);
}

/* Granules that were written once stay, whatever happens to their rows. */
static void kv_count_written(dw_kv_arena *arena, kv_object *object, uint64_t bytes) {
    if (bytes <= object->bytes) return;
    arena->held_bytes += bytes - object->bytes;
    object->bytes = bytes;
}

static void kv_drop_extents(dw_kv_arena *arena, kv_slot *s, uint32_t keep) {
    while (s->n_extents > keep) {
        kv_extent *extent = &s->extents[--s->n_extents];
        kv_release_object(arena, extent->object);
        *extent = (kv_extent){0};
    }
}

/* How many of the extents hold rows below `row`. */
static uint32_t kv_extents_below(const kv_slot *s, uint32_t row) {
    uint32_t n = 0;
    while (n < s->n_extents && s->extents[n].first_row < row) n++;
    return n;
}

/* A slot without rows or maps gets the maps of its extents. */
static dw_status kv_map_extents(dw_kv_arena *arena, dw_kv_slot slot, const kv_slot *s, dw_error *err) {
    dw_rows_span spans[DW_KV_EXTENTS_MAX];
    for (uint32_t i = 0; i < s->n_extents; i++) {
        spans[i] = (dw_rows_span){.memory = s->extents[i].object->memory, .first_row = s->extents[i].first_row};
    }
    return arena->rows->ops->map(arena->rows, slot, spans, s->n_extents, false, err);
}

/* The object, which holds one reference and all rows that the slot has from `first_row` on, becomes the slot's tail,
 * behind `keep` extents. A failure half-way leaves some runs mapped to it already: they hold the same rows, and nobody
 * else maps it. */
static dw_status kv_put_tail(dw_kv_arena *arena, dw_kv_slot slot, kv_object *object, uint32_t first_row, uint32_t keep,
                             dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    dw_rows_span span = {.memory = object->memory, .first_row = first_row};
    dw_status status = arena->rows->ops->map(arena->rows, slot, &span, 1, true, err);
    if (status != DW_OK) return status;
    kv_drop_extents(arena, s, keep);
    s->extents[s->n_extents++] = (kv_extent){.object = object, .first_row = first_row};
    s->owns_tail = true;
    s->lacked_maps = false;
    s->sealed = 0;
    return DW_OK;
}

/* --- opening and closing ------------------------------------------------------------------------------------- */

static dw_status kv_take_slot(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) {
    uint32_t n_slots = arena->rows->geometry.n_slots;
    for (uint32_t i = 0; i < n_slots; i++) {
        if (arena->slots[i].open) continue;
        arena->slots[i] = (kv_slot){.open = true};
        *out = i;
        return DW_OK;
    }
    return dw_fail(err, DW_E_LIMIT, "all %u sessions of this model are taken", n_slots);
}

static void kv_forget_rows(dw_kv_arena *arena, kv_slot *s) {
    kv_drop_extents(arena, s, 0);
    s->owns_tail = s->lacked_maps = false;
    s->rows = s->sealed = 0;
}

void dw_kv_release(dw_kv_arena *arena, dw_kv_slot slot) {
    kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL) return;
    arena->rows->ops->unmap(arena->rows, slot);
    kv_forget_rows(arena, s);
    kv_check(arena);
}

void dw_kv_close(dw_kv_arena *arena, dw_kv_slot slot) {
    kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL) return;
    dw_kv_release(arena, slot);
    *s = (kv_slot){0};
}

/* The slot's own new object over the whole of a slot without rows. Replaces whatever was mapped. */
static dw_status kv_start_afresh(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    kv_object *object = NULL;
    dw_status status = kv_make_new_object(arena, &object, err);
    if (status == DW_OK) status = kv_put_tail(arena, slot, object, 0, 0, err);
    if (status != DW_OK) kv_release_object(arena, object);
    return status;
}

dw_status dw_kv_open(dw_kv_arena *arena, dw_kv_slot *out, dw_error *err) {
    dw_kv_slot slot = 0;
    dw_status status = kv_take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    status = kv_start_afresh(arena, slot, err);
    if (status != DW_OK) dw_kv_close(arena, slot);
    else *out = slot;
    kv_check(arena);
    return status;
}

/* --- forking ------------------------------------------------------------------------------------------------- */

/* The parent's first n_rows rows in a slot without rows or extents. After a failure it has no extents either, whatever
 * is mapped. */
static dw_status kv_fork_into(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot slot, dw_error *err) {
    kv_slot *p = &arena->slots[parent], *child = &arena->slots[slot];
    uint32_t n = kv_extents_below(p, n_rows);
    for (uint32_t i = 0; i < n; i++) {
        child->extents[child->n_extents++] = p->extents[i];
        p->extents[i].object->holders++;
    }
    dw_status status = kv_map_extents(arena, slot, child, err);
    if (status != DW_OK) {
        kv_drop_extents(arena, child, 0);
        return status;
    }
    child->owns_tail = false;
    child->rows = n_rows;
    child->sealed = 0;
    if (p->owns_tail && n == p->n_extents && n_rows > p->sealed) p->sealed = n_rows;
    return DW_OK;
}

static dw_status kv_check_fork(const dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_error *err) {
    const kv_slot *p = kv_slot_of(arena, parent);
    if (p == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    if (n_rows > p->rows) return dw_fail(err, DW_E_RANGE, "fork at row %u of %u", n_rows, p->rows);
    return DW_OK;
}

dw_status dw_kv_fork(dw_kv_arena *arena, dw_kv_slot parent, uint32_t n_rows, dw_kv_slot *out, dw_error *err) {
    dw_kv_slot slot = 0;
    dw_status status = kv_check_fork(arena, parent, n_rows, err);
    if (status == DW_OK && n_rows == 0) return dw_kv_open(arena, out, err);
    if (status == DW_OK) status = kv_take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    status = kv_fork_into(arena, parent, n_rows, slot, err);
    if (status != DW_OK) dw_kv_close(arena, slot);
    else *out = slot;
    kv_check(arena);
    return status;
}

dw_status dw_kv_share(dw_kv_arena *arena, dw_kv_slot *slot, dw_kv_slot donor, uint32_t n_rows, dw_error *err) {
    kv_slot *s = kv_slot_of(arena, *slot);
    dw_status status = kv_check_fork(arena, donor, n_rows, err);
    if (status == DW_OK && (s == NULL || *slot == donor || n_rows == 0)) {
        status = dw_fail(err, DW_E_INVALID, "no such KV slot to share rows with");
    }
    if (status != DW_OK) return status;
    if (s->rows > 0) {
        dw_kv_slot made = 0;
        status = dw_kv_fork(arena, donor, n_rows, &made, err);
        if (status != DW_OK) return status;
        dw_kv_close(arena, *slot);
        *slot = made;
        return DW_OK;
    }
    kv_forget_rows(arena, s);
    status = kv_fork_into(arena, donor, n_rows, *slot, err);
    kv_check(arena);
    return status;
}

/* --- restoring ----------------------------------------------------------------------------------------------- */

static dw_status kv_check_image(const dw_kv_arena *arena, const dw_backing *backing, const uint64_t *offsets,
                                uint32_t n_rows, dw_error *err) {
    const dw_kv_geometry *g = &arena->rows->geometry;
    if (n_rows > g->context_tokens) {
        return dw_fail(err, DW_E_FULL, "%u KV rows, and this model was opened for %u", n_rows, g->context_tokens);
    }
    uint64_t size = dw_backing_size(backing), page = dw_os_page_bytes(), bytes = (uint64_t)n_rows * g->row_bytes;
    /* as they are mapped; a file's page ends are this system's, whatever the granule */
    bytes = (bytes + page - 1) / page * page;
    for (uint32_t area = 0; area < arena->rows->n_areas; area++) {
        if (offsets[area] % page != 0) {
            return dw_fail_at(err, DW_E_FORMAT, offsets[area], "KV rows do not begin on a page");
        }
        if (!dw_in_range(offsets[area], bytes, size)) {
            return dw_fail_at(err, DW_E_TRUNCATED, offsets[area], "KV rows reach beyond the end of the file");
        }
    }
    return DW_OK;
}

dw_status dw_kv_restore(dw_kv_arena *arena, dw_backing *backing, const uint64_t *offsets, uint32_t n_rows,
                        dw_kv_slot *out, dw_error *err) {
    if (n_rows == 0) return dw_kv_open(arena, out, err);
    dw_kv_slot slot = 0;
    dw_rows_memory *memory = NULL;
    kv_object *object = NULL;
    dw_status status = kv_check_image(arena, backing, offsets, n_rows, err);
    if (status == DW_OK) status = kv_take_slot(arena, &slot, err);
    if (status != DW_OK) return status;
    kv_slot *s = &arena->slots[slot];
    status = arena->rows->ops->open(arena->rows, backing, offsets, n_rows, &memory, err);
    if (status == DW_OK) status = kv_make_object(arena, memory, &object, err);
    if (status == DW_OK) {
        if (arena->rows->opening_takes_memory) kv_count_written(arena, object, dw_rows_bytes(arena->rows, 0, n_rows));
        s->extents[s->n_extents++] = (kv_extent){.object = object};
        status = kv_map_extents(arena, slot, s, err);
    }
    if (status == DW_OK) {
        s->rows = n_rows;
        *out = slot;
    } else {
        dw_kv_close(arena, slot);
    }
    kv_check(arena);
    return status;
}

/* --- folding ------------------------------------------------------------------------------------------------- */

static dw_status kv_begin_fold(dw_kv_arena *arena, dw_kv_slot slot, dw_kv_fold **out, dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    dw_kv_fold *fold = calloc(1, sizeof *fold);
    if (fold == NULL) return dw_fail(err, DW_E_NO_MEMORY, "no memory to fold KV rows");
    *fold = (dw_kv_fold){.arena = arena, .slot = slot, .rows = s->rows};
    dw_status status = kv_make_new_object(arena, &fold->object, err);
    if (status != DW_OK) {
        free(fold);
        return status;
    }
    kv_count_written(arena, fold->object, dw_rows_bytes(arena->rows, 0, fold->rows));
    arena->folds_bytes += fold->object->bytes;
    *out = fold;
    return DW_OK;
}

static bool kv_is_writable_from(const kv_slot *s, uint32_t rows) { return rows >= kv_writable_from(s); }
static bool kv_is_writable(const kv_slot *s) { return kv_is_writable_from(s, s->rows); }

/* Whether rows from `rows` on are written behind a copy of all rows before them (rule 4). */
static bool kv_needs_fold(const kv_slot *s, uint32_t rows) {
    return !kv_is_writable_from(s, rows) && (s->lacked_maps || kv_extents_below(s, rows) == DW_KV_EXTENTS_MAX);
}

dw_status dw_kv_fold_begin(dw_kv_arena *arena, dw_kv_slot slot, uint32_t rows, dw_kv_fold **out, dw_error *err) {
    const kv_slot *s = kv_slot_of(arena, slot);
    *out = NULL;
    if (s == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    return !kv_needs_fold(s, rows) ? DW_OK : kv_begin_fold(arena, slot, out, err);
}

dw_status dw_kv_fold_copy(dw_kv_fold *fold, dw_error *err) {
    dw_rows *rows = fold->arena->rows;
    return rows->ops->copy(rows, fold->slot, 0, fold->rows, fold->object->memory, err);
}

dw_status dw_kv_fold_end(dw_kv_fold *fold, dw_status status, dw_error *err) {
    dw_kv_arena *arena = fold->arena;
    kv_slot *s = &arena->slots[fold->slot];
    assert(s->open && s->rows == fold->rows);
    arena->folds_bytes -= fold->object->bytes;
    if (status == DW_OK) status = kv_put_tail(arena, fold->slot, fold->object, 0, 0, err);
    if (status == DW_OK) s->fold_bytes += fold->object->bytes;
    else kv_release_object(arena, fold->object);
    free(fold);
    kv_check(arena);
    return status;
}

static dw_status kv_fold_at_once(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    dw_kv_fold *fold = NULL;
    dw_status status = kv_begin_fold(arena, slot, &fold, err);
    if (status != DW_OK) return status;
    return dw_kv_fold_end(fold, dw_kv_fold_copy(fold, err), err);
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* A tail behind the committed rows. The granules that these end in are copied. */
static dw_status kv_make_tail(dw_kv_arena *arena, dw_kv_slot slot, dw_error *err) {
    kv_slot *s = &arena->slots[slot];
    if (s->rows == 0) return kv_start_afresh(arena, slot, err);
    if (kv_needs_fold(s, s->rows)) return kv_fold_at_once(arena, slot, err);
    uint32_t keep = kv_extents_below(s, s->rows);
    kv_object *object = NULL;
    dw_status status = kv_make_new_object(arena, &object, err);
    if (status == DW_OK) status = arena->rows->ops->copy(arena->rows, slot, s->rows, s->rows, object->memory, err);
    if (status == DW_OK) status = kv_put_tail(arena, slot, object, s->rows, keep, err);
    if (status != DW_OK) {
        kv_release_object(arena, object);
        s->lacked_maps = status == DW_E_LIMIT; /* one object takes a single map */
        return status;
    }
    uint64_t end = dw_rows_granule_end_of(arena->rows, s->rows);
    s->tail_bytes += arena->rows->n_runs * (end - dw_rows_granule_of(arena->rows, s->rows));
    return DW_OK;
}

dw_status dw_kv_writable(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows, dw_buffer **out, uint64_t *offset,
                         dw_error *err) {
    kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    uint32_t most = arena->rows->geometry.context_tokens;
    if (n_rows > most) return dw_fail(err, DW_E_RANGE, "%u KV rows in a slot for %u", n_rows, most);
    dw_status status = kv_is_writable(s) ? DW_OK : kv_make_tail(arena, slot, err);
    if (status == DW_OK) status = arena->rows->ops->reserve(arena->rows, slot, n_rows, err);
    if (status == DW_OK) {
        const kv_extent *tail = &s->extents[s->n_extents - 1];
        kv_count_written(arena, tail->object, dw_rows_bytes(arena->rows, tail->first_row, n_rows));
        status = arena->rows->ops->bind(arena->rows, slot, out, offset, err);
    }
    kv_check(arena);
    return status;
}

void dw_kv_commit(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL || n_rows <= s->rows) return;
    assert(kv_is_writable(s));
    s->rows = n_rows;
    kv_check(arena);
}

void dw_kv_rewind(dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    kv_slot *s = kv_slot_of(arena, slot);
    if (s != NULL && n_rows < s->rows) s->rows = n_rows;
    kv_check(arena);
}

uint32_t dw_kv_rows(const dw_kv_arena *arena, dw_kv_slot slot) {
    const kv_slot *s = kv_slot_of(arena, slot);
    return s != NULL ? s->rows : 0;
}

static bool kv_has_rows(const dw_kv_arena *arena, uint32_t area, uint32_t first, uint32_t n) {
    return area < arena->rows->n_areas && dw_in_range(first, n, arena->rows->geometry.context_tokens);
}

dw_status dw_kv_read(dw_kv_arena *arena, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, void *to,
                     dw_error *err) {
    const kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL || !kv_has_rows(arena, area, first, n)) return dw_fail(err, DW_E_RANGE, "no such KV rows");
    return arena->rows->ops->read(arena->rows, slot, area, first, n, to, err);
}

dw_status dw_kv_write(dw_kv_arena *arena, dw_kv_slot slot, uint32_t area, uint32_t first, uint32_t n, const void *from,
                      dw_error *err) {
    const kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL || !kv_has_rows(arena, area, first, n)) return dw_fail(err, DW_E_RANGE, "no such KV rows");
    assert(kv_is_writable(s) && first >= s->rows);
    return arena->rows->ops->write(arena->rows, slot, area, first, n, from, err);
}

void *dw_kv_area(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t layer, int which) {
    return arena->rows->ops->address(arena->rows, slot, 2 * layer + (which != 0 ? 1 : 0));
}

/* --- use ----------------------------------------------------------------------------------------------------- */

uint64_t dw_kv_held_bytes(const dw_kv_arena *arena) { return arena->held_bytes; }

uint64_t dw_kv_growth(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t n_rows) {
    return dw_kv_growth_after_rewind(arena, slot, dw_kv_rows(arena, slot), n_rows);
}

uint64_t dw_kv_growth_after_rewind(const dw_kv_arena *arena, dw_kv_slot slot, uint32_t rows, uint32_t n_rows) {
    const kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL || n_rows <= rows) return 0;
    if (!kv_is_writable_from(s, rows)) {
        return dw_rows_bytes(arena->rows, kv_needs_fold(s, rows) ? 0 : rows, n_rows); /* in an object yet to be made */
    }
    const kv_extent *tail = &s->extents[s->n_extents - 1];
    uint64_t bytes = dw_rows_bytes(arena->rows, tail->first_row, n_rows);
    return bytes > tail->object->bytes ? bytes - tail->object->bytes : 0;
}

/* Objects that nobody else has, whole; of a tail that others have too, the granules behind what they map. */
dw_status dw_kv_use_now(const dw_kv_arena *arena, dw_kv_slot slot, dw_kv_use *out, dw_error *err) {
    const kv_slot *s = kv_slot_of(arena, slot);
    if (s == NULL) return dw_fail(err, DW_E_INVALID, "no such KV slot");
    *out = (dw_kv_use){.tail_bytes = s->tail_bytes, .fold_bytes = s->fold_bytes, .extents = s->n_extents};
    for (uint32_t i = 0; i < s->n_extents; i++) {
        if (s->extents[i].object->holders == 1) out->own_bytes += s->extents[i].object->bytes;
    }
    bool tail_is_shared = s->owns_tail && s->extents[s->n_extents - 1].object->holders > 1;
    if (tail_is_shared) out->own_bytes += dw_rows_bytes(arena->rows, kv_writable_from(s), s->rows);
    return DW_OK;
}

/* page_map.c: see page_map.h. */
#include "region/page_map.h"

#include <assert.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

enum { FANOUT_BITS = 4, HEIGHT_MAX = 8 };

struct dw_page_node {
    atomic_uint holders;    /* slots and roots that refer to it */
    uint32_t level;
    dw_page_slot slots[DW_PAGE_MAP_FANOUT];
};

/* Pages that a slot of a level stands for. */
static uint64_t span_of(uint32_t level) { return UINT64_C(1) << (FANOUT_BITS * level); }

/* --- references ---------------------------------------------------------------------------------------------- */

static dw_page_run stored_page(const dw_page_slot *slot) { return (dw_page_run){slot->of.segment, slot->index, 1}; }

static dw_page_slot retain_slot(const dw_page_slot *slot) {
    if (slot->kind == DW_PAGE_FILE) dw_backing_retain(slot->of.backing);
    else if (slot->kind == DW_PAGE_STORED) dw_page_run_retain(stored_page(slot));
    else if (slot->kind == DW_PAGE_NODE) atomic_fetch_add_explicit(&slot->of.node->holders, 1, memory_order_relaxed);
    return *slot;
}

/* Recursion is as deep as the map is high. */
static void release_slot(dw_page_slot *slot) {
    if (slot->kind == DW_PAGE_FILE) {
        dw_backing_release(slot->of.backing);
    } else if (slot->kind == DW_PAGE_STORED) {
        dw_page_run_release(stored_page(slot));
    } else if (slot->kind == DW_PAGE_NODE) {
        dw_page_node *node = slot->of.node;
        if (atomic_fetch_sub_explicit(&node->holders, 1, memory_order_acq_rel) == 1) {
            for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++) release_slot(&node->slots[i]);
            free(node);
        }
    }
    *slot = (dw_page_slot){0};
}

void dw_page_map_deinit(dw_page_map *map) {
    release_slot(&map->root);
    *map = (dw_page_map){0};
}

dw_page_map dw_page_map_share(const dw_page_map *map) {
    dw_page_map second = *map;
    (void)retain_slot(&map->root);
    return second;
}

/* --- changing ------------------------------------------------------------------------------------------------ */

/* The part of a slot of level + 1 that its i-th slot stands for, with a reference of its own. */
static dw_page_slot part_of(const dw_page_slot *slot, uint32_t level, uint32_t i) {
    dw_page_slot part = retain_slot(slot);
    if (slot->kind == DW_PAGE_FILE) part.index += (uint32_t)(i * span_of(level));
    return part;
}

/* Makes the slot of a level above 0 one with a node that nobody else holds, saying the same. */
static dw_page_node *own_node(dw_page_slot *slot, uint32_t level) {
    dw_page_node *old = slot->kind == DW_PAGE_NODE ? slot->of.node : NULL;
    /* Acquire: what others did with it before they gave it up must have happened. */
    if (old && atomic_load_explicit(&old->holders, memory_order_acquire) == 1) return old;
    dw_page_node *node = malloc(sizeof *node);
    if (!node) return NULL;
    atomic_init(&node->holders, 1);
    node->level = level;
    for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++)
        node->slots[i] = old ? retain_slot(&old->slots[i]) : part_of(slot, level - 1, i);
    release_slot(slot);
    slot->of.node = node;
    slot->index = 0;
    slot->kind = DW_PAGE_NODE;
    return node;
}

/* A node of zeros only becomes a slot of zeros. */
static void collapse_zeros(dw_page_slot *slot) {
    for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++)
        if (slot->of.node->slots[i].kind != DW_PAGE_ZERO) return;
    release_slot(slot);
}

/* What a range of pages is to become: the slot of level 0 for its first page, without a reference of its own. */
typedef struct change {
    uint64_t first, end;
    dw_page_slot to;
    bool only_prepare;      /* goes the same ways, and changes nothing at their ends */
} change;

/* The slot that stands for `span` pages from `at` on, after the change, with a reference. The stored pages' are the
 * change's own. */
static dw_page_slot changed_slot(const change *c, uint64_t at) {
    dw_page_slot slot = c->to;
    slot.index += slot.kind == DW_PAGE_ZERO ? 0 : (uint32_t)(at - c->first);
    if (slot.kind == DW_PAGE_FILE) dw_backing_retain(slot.of.backing);
    return slot;
}

/* Changes what of `c` lies in the slot, whose pages begin at `at`. *done: pages up to there are changed. */
static dw_status change_slot(dw_page_slot *slot, uint32_t level, uint64_t at, const change *c, uint64_t *done) {
    uint64_t end = at + span_of(level);
    bool whole = c->first <= at && end <= c->end;
    if (whole && (level == 0 || c->to.kind != DW_PAGE_STORED)) {
        if (c->only_prepare) return DW_OK;
        release_slot(slot);
        *slot = changed_slot(c, at);
        *done = end;
        return DW_OK;
    }
    if (c->to.kind == DW_PAGE_ZERO && slot->kind == DW_PAGE_ZERO) return DW_OK;
    dw_page_node *node = own_node(slot, level);
    if (!node) return DW_E_NO_MEMORY;
    uint64_t span = span_of(level - 1), first = dw_max_u64(c->first, at), last = dw_min_u64(c->end, end);
    dw_status status = DW_OK;
    for (uint64_t i = (first - at) / span; status == DW_OK && i < DW_PAGE_MAP_FANOUT && at + i * span < last; i++)
        status = change_slot(&node->slots[i], level - 1, at + i * span, c, done);
    if (!c->only_prepare) collapse_zeros(slot);
    return status;
}

static dw_status check_pages(const dw_page_map *map, uint64_t first, uint64_t n, dw_error *err) {
    if (dw_in_range(first, n, map->n_pages)) return DW_OK;
    return dw_fail(err, DW_E_RANGE, "%" PRIu64 " pages from %" PRIu64 " leave a map of %" PRIu64, n, first,
                   map->n_pages);
}

dw_status dw_page_map_set_file(dw_page_map *map, uint64_t first, uint64_t n, dw_backing *backing, uint64_t file_page,
                               dw_error *err) {
    dw_status status = check_pages(map, first, n, err);
    if (status != DW_OK || n == 0) return status;
    if (!dw_in_range(file_page, n, UINT32_MAX))
        return dw_fail(err, DW_E_RANGE, "page %" PRIu64 " of a file is too far behind", file_page);
    change c = {.first = first, .end = first + n};
    if (backing) c.to = (dw_page_slot){.of.backing = backing, .index = (uint32_t)file_page, .kind = DW_PAGE_FILE};
    uint64_t done = first;
    status = change_slot(&map->root, map->height, 0, &c, &done);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory for a map of %" PRIu64 " pages", map->n_pages);
}

dw_status dw_page_map_set_stored(dw_page_map *map, uint64_t first, dw_page_run run, dw_error *err) {
    uint64_t done = first;
    dw_status status = check_pages(map, first, run.n, err);
    if (status == DW_OK) {
        change c = {.first = first, .end = first + run.n,
                    .to = {.of.segment = run.segment, .index = run.index, .kind = DW_PAGE_STORED}};
        status = change_slot(&map->root, map->height, 0, &c, &done);
        if (status != DW_OK) dw_fail(err, status, "no memory for a map of %" PRIu64 " pages", map->n_pages);
    }
    uint32_t placed = (uint32_t)(done - first);
    if (placed < run.n) dw_page_run_release((dw_page_run){run.segment, run.index + placed, run.n - placed});
    return status;
}

dw_status dw_page_map_prepare(dw_page_map *map, uint64_t first, uint64_t n, bool stored, dw_error *err) {
    dw_status status = check_pages(map, first, n, err);
    if (status != DW_OK || n == 0) return status;
    change c = {.first = first, .end = first + n, .to.kind = stored ? DW_PAGE_STORED : DW_PAGE_ZERO,
                .only_prepare = true};
    uint64_t done = first;
    status = change_slot(&map->root, map->height, 0, &c, &done);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory for a map of %" PRIu64 " pages", map->n_pages);
}

static void tidy_slot(dw_page_slot *slot, uint32_t level, uint64_t at, uint64_t first, uint64_t end) {
    /* A node that others hold was not made for us. */
    if (slot->kind != DW_PAGE_NODE || atomic_load(&slot->of.node->holders) != 1) return;
    uint64_t span = span_of(level - 1);
    for (uint64_t i = 0; i < DW_PAGE_MAP_FANOUT; i++)
        if (at + i * span < end && at + (i + 1) * span > first)
            tidy_slot(&slot->of.node->slots[i], level - 1, at + i * span, first, end);
    collapse_zeros(slot);
}

void dw_page_map_tidy(dw_page_map *map, uint64_t first, uint64_t n) {
    tidy_slot(&map->root, map->height, 0, first, first + n);
}

/* One level more, whose first slot is what there was. */
static dw_status raise_map(dw_page_map *map) {
    if (map->root.kind != DW_PAGE_ZERO) {
        dw_page_node *node = calloc(1, sizeof *node);
        if (!node) return DW_E_NO_MEMORY;
        atomic_init(&node->holders, 1);
        node->level = map->height + 1;
        node->slots[0] = map->root;
        map->root = (dw_page_slot){.of.node = node, .kind = DW_PAGE_NODE};
    }
    map->height++;
    return DW_OK;
}

dw_status dw_page_map_resize(dw_page_map *map, uint64_t n_pages, dw_error *err) {
    if (n_pages > DW_PAGE_MAP_PAGES_MAX)
        return dw_fail(err, DW_E_LIMIT, "a map has at most %llu pages", (unsigned long long)DW_PAGE_MAP_PAGES_MAX);
    if (n_pages < map->n_pages) {
        dw_status status = dw_page_map_set_file(map, n_pages, map->n_pages - n_pages, NULL, 0, err);
        if (status != DW_OK) return status;
    }
    while (span_of(map->height) < n_pages) {
        dw_status status = raise_map(map);
        if (status != DW_OK) return dw_fail(err, status, "no memory for a map of %" PRIu64 " pages", n_pages);
    }
    map->n_pages = n_pages;
    return DW_OK;
}

/* --- looking ------------------------------------------------------------------------------------------------- */

/* The pages of a slot without a node, as a piece. */
static dw_page_piece slot_piece(const dw_page_slot *slot, uint64_t first, uint64_t n, uint64_t page) {
    dw_page_piece piece = {.offset = first * page, .size = n * page};
    if (slot->kind == DW_PAGE_FILE) {
        piece.backing = slot->of.backing;
        piece.backing_offset = slot->index * page;
    } else if (slot->kind == DW_PAGE_STORED) {
        dw_page_run run = stored_page(slot);
        piece.backing = dw_page_store_backing(dw_page_run_store(run));
        piece.backing_offset = dw_page_run_offset(run);
        piece.stored = true;
    }
    return piece;
}

typedef struct walk {
    dw_page_piece last;     /* size 0: none yet */
    uint64_t n_pages, page;
    void (*each)(void *context, const dw_page_piece *piece);
    void *context;
} walk;

static void walk_slot(walk *w, const dw_page_slot *slot, uint32_t level, uint64_t at) {
    if (at >= w->n_pages) return;
    if (slot->kind == DW_PAGE_NODE) {
        for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++)
            walk_slot(w, &slot->of.node->slots[i], level - 1, at + i * span_of(level - 1));
        return;
    }
    dw_page_piece piece = slot_piece(slot, at, dw_min_u64(span_of(level), w->n_pages - at), w->page);
    bool continues = w->last.size > 0 && w->last.backing == piece.backing &&
                     (!piece.backing || w->last.backing_offset + w->last.size == piece.backing_offset);
    if (continues) {
        w->last.size += piece.size;
        return;
    }
    if (w->last.size > 0) w->each(w->context, &w->last);
    w->last = piece;
}

void dw_page_map_walk(const dw_page_map *map, void (*each)(void *context, const dw_page_piece *piece), void *context) {
    walk w = {.n_pages = map->n_pages, .page = dw_os_page_bytes(), .each = each, .context = context};
    walk_slot(&w, &map->root, map->height, 0);
    if (w.last.size > 0) each(context, &w.last);
}

dw_page_piece dw_page_map_look(const dw_page_map *map, uint64_t page) {
    assert(page < map->n_pages);
    const dw_page_slot *slot = &map->root;
    uint32_t level = map->height;
    while (slot->kind == DW_PAGE_NODE) {
        level--;
        slot = &slot->of.node->slots[page / span_of(level) % DW_PAGE_MAP_FANOUT];
    }
    dw_page_slot one = *slot;
    if (one.kind == DW_PAGE_FILE) one.index += (uint32_t)(page % span_of(level));
    return slot_piece(&one, page, 1, dw_os_page_bytes());
}

static void count_nodes(const dw_page_slot *slot, bool own, dw_page_map_use *use) {
    if (slot->kind != DW_PAGE_NODE) return;
    own = own && atomic_load(&slot->of.node->holders) == 1;
    use->nodes++;
    use->own_nodes += own;
    for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++) count_nodes(&slot->of.node->slots[i], own, use);
}

dw_page_map_use dw_page_map_use_now(const dw_page_map *map) {
    dw_page_map_use use = {.bytes_per_node = sizeof(dw_page_node)};
    count_nodes(&map->root, true, &use);
    return use;
}

static void check_slot(const dw_page_map *map, const dw_page_slot *slot, uint32_t level, uint64_t at) {
    assert(slot->kind <= DW_PAGE_NODE);
    assert(at < map->n_pages || slot->kind == DW_PAGE_ZERO);
    if (slot->kind == DW_PAGE_STORED) assert(level == 0 && slot->of.segment && slot->index < DW_PAGE_SEGMENT_PAGES);
    if (slot->kind == DW_PAGE_FILE) assert(slot->of.backing && at + span_of(level) <= map->n_pages);
    if (slot->kind != DW_PAGE_NODE) return;
    const dw_page_node *node = slot->of.node;
    bool only_zeros = true;
    assert(level > 0 && node->level == level && atomic_load(&node->holders) >= 1);
    for (uint32_t i = 0; i < DW_PAGE_MAP_FANOUT; i++) {
        check_slot(map, &node->slots[i], level - 1, at + i * span_of(level - 1));
        only_zeros = only_zeros && node->slots[i].kind == DW_PAGE_ZERO;
    }
    assert(!only_zeros);
}

void dw_page_map_check(const dw_page_map *map) {
    assert(map->height <= HEIGHT_MAX && map->n_pages <= span_of(map->height) && map->n_pages <= DW_PAGE_MAP_PAGES_MAX);
    if (map->n_pages > 0) check_slot(map, &map->root, map->height, 0);
    else assert(map->root.kind == DW_PAGE_ZERO);
}

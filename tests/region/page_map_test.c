/* Page maps and their store against a plain array: whatever is written, shared, given up or restored, every page has
 * the bytes that the array says, no page is lost and none is kept for nobody. */
#include <string.h>

#include "base/checked.h"
#include "base/limits.h"
#include "base/test.h"
#ifdef DW_FAULTS
#include "os/fault_loop.h"
#endif
#include "region/page_compact.h"
#include "region/page_layout.h"
#include "region/page_map.h"
#include "model/gguf/heap_count.h"
#include "region/page_store.h"

enum { MAPS = 6, PAGES_MAX = 5000, FILE_PAGES = 900 };

static dw_error err;
static uint64_t page;

/* The first bytes of each page name it; 0 = a page of zeros. */
typedef struct memory {
    bool used;
    dw_page_map map;
    uint64_t tags[PAGES_MAX];
} memory;

typedef struct world {
    dw_page_store *store;
    dw_backing *file;      /* page i has tag FILE_TAG + i */
    memory memories[MAPS];
    uint64_t random, next_tag;
    uint8_t *data;         /* [PAGES_MAX] pages, for writing */
} world;
#define FILE_TAG (UINT64_C(1) << 40)

static void world_init(world *w, uint64_t seed) {
    page = dw_os_page_bytes();
    *w = (world){.random = seed, .next_tag = 1};
    w->data = calloc(PAGES_MAX, page);
    assert_non_null(w->data);
    assert_ok(dw_page_store_create(&w->store, &err), err);
    assert_ok(dw_backing_create_memory("test", FILE_PAGES * page, &w->file, &err), err);
    for (uint64_t i = 0; i < FILE_PAGES; i++) {
        uint64_t tag = FILE_TAG + i;
        assert_ok(dw_os_write_at(dw_backing_file(w->file), i * page, &tag, sizeof tag, &err), err);
    }
}

static void world_deinit(world *w) {
    for (int i = 0; i < MAPS; i++) dw_page_map_deinit(&w->memories[i].map);
    assert_int_equal(dw_page_store_use_now(w->store).taken, 0);
    dw_page_store_check(w->store);
    dw_page_store_destroy(w->store);
    dw_backing_release(w->file);
    free(w->data);
}

/* --- what is held against the array -------------------------------------------------------------------------- */

typedef struct stored_set { uint8_t *seen; uint64_t n, size; } stored_set;

static void note_stored(void *context, const dw_page_piece *piece) {
    stored_set *set = context;
    for (uint64_t at = piece->backing_offset; piece->stored && at < piece->backing_offset + piece->size; at += page) {
        assert_true(at / page < set->size);
        set->n += !set->seen[at / page];
        set->seen[at / page] = 1;
    }
}

/* No page is taken that no map refers to, and the object holds no more than the books say. */
static void check_store(world *w) {
    stored_set set = {.size = dw_backing_size(dw_page_store_backing(w->store)) / page};
    set.seen = calloc(set.size, 1);
    assert_non_null(set.seen);
    for (int i = 0; i < MAPS; i++)
        if (w->memories[i].used) dw_page_map_walk(&w->memories[i].map, note_stored, &set);
    dw_page_store_use use = dw_page_store_use_now(w->store);
    uint64_t occupied = 0;
    assert_int_equal(use.taken, set.n);
    assert_true(use.warm <= 2 * use.taken + DW_PAGE_STORE_SLACK_PAGES);
    assert_ok(dw_os_occupied(dw_backing_file(dw_page_store_backing(w->store)), &occupied, &err), err);
    assert_true(occupied <= use.warm * page);
    dw_page_store_check(w->store);
    free(set.seen);
}

static uint64_t tag_at(const dw_page_piece *piece) {
    uint64_t tag = 0;
    if (piece->backing)
        assert_ok(dw_os_read_at(dw_backing_file(piece->backing), piece->backing_offset, &tag, sizeof tag, &err), err);
    return tag;
}

static void check_tags(const memory *m) {
    for (uint64_t i = 0; i < m->map.n_pages; i++) {
        dw_page_piece piece = dw_page_map_look(&m->map, i);
        assert_int_equal(tag_at(&piece), m->tags[i]);
    }
}

static void check_memory(const memory *m) {
    dw_page_map_check(&m->map);
    check_tags(m);
}

/* Maps it with few or many maps and reads it all. */
static void check_restore(const memory *m, size_t maps_max) {
    dw_page_layout layout;
    dw_region *region;
    assert_ok(dw_page_layout_make(&m->map, maps_max, &layout, &err), err);
    assert_true(layout.extents.count <= maps_max + FILE_PAGES);
    assert_ok(dw_region_create(&(dw_region_options){.reserve_bytes = PAGES_MAX * page}, &region, &err), err);
    for (size_t i = 0; i < layout.extents.count; i++)
        assert_ok(dw_region_map(region, &layout.extents.items[i], false, &err), err);
    for (size_t i = 0; i < layout.fills.count; i++) assert_ok(dw_region_fill_in(region, &layout.fills.items[i], &err), err);
    assert_int_equal(dw_region_size(region), m->map.n_pages * page);
    for (uint64_t i = 0; i < m->map.n_pages; i++) {
        uint64_t tag;
        memcpy(&tag, (char *)dw_region_base(region) + i * page, sizeof tag);
        assert_int_equal(tag, m->tags[i]);
    }
    assert_status(dw_region_destroy(region), DW_OK);
    dw_page_layout_deinit(&layout);
}

/* --- changes ------------------------------------------------------------------------------------------------- */

static uint64_t below(world *w, uint64_t bound) { return test_random_below(&w->random, bound); }

/* Most changes are small, some are long. */
static uint64_t some_pages(world *w, uint64_t at_most) {
    uint64_t n = below(w, 4) ? 1 + below(w, 3) : 1 + below(w, 700);
    return dw_min_u64(n, at_most);
}

static void write_pages(world *w, dw_page_map *map, uint64_t *tags, uint64_t first, uint64_t n) {
    while (n > 0) {
        dw_page_run run;
        assert_ok(dw_page_store_take(w->store, (uint32_t)n, &run, &err), err);
        assert_true(run.n >= 1 && run.n <= n);
        for (uint64_t i = 0; i < run.n; i++) {
            tags[first + i] = w->next_tag++;
            memcpy(w->data + i * page, &tags[first + i], sizeof tags[0]);
        }
        assert_ok(dw_page_run_write(run, w->data, &err), err);
        assert_ok(dw_page_map_set_stored(map, first, run, &err), err);
        first += run.n;
        n -= run.n;
    }
}

static void change_once(world *w, dw_page_map *map, uint64_t *tags) {
    uint64_t first = below(w, map->n_pages), n = some_pages(w, map->n_pages - first), kind = below(w, 8);
    if (kind >= 3) {
        write_pages(w, map, tags, first, n);
    } else if (kind >= 1) {
        assert_ok(dw_page_map_set_file(map, first, n, NULL, 0, &err), err);
        for (uint64_t i = 0; i < n; i++) tags[first + i] = 0;
    } else {
        uint64_t from = below(w, FILE_PAGES);
        n = dw_min_u64(n, FILE_PAGES - from);
        assert_ok(dw_page_map_set_file(map, first, n, w->file, from, &err), err);
        for (uint64_t i = 0; i < n; i++) tags[first + i] = FILE_TAG + from + i;
    }
}

/* As a commit does it: a share is changed, and takes the place of the map, or is given up. */
static void commit_or_roll_back(world *w, memory *m) {
    static uint64_t tags[PAGES_MAX];
    dw_page_map next = dw_page_map_share(&m->map);
    memcpy(tags, m->tags, sizeof tags);
    uint64_t n_pages = next.n_pages;
    if (below(w, 5) == 0) n_pages = 1 + below(w, PAGES_MAX);
    assert_ok(dw_page_map_resize(&next, n_pages, &err), err);
    for (uint64_t i = n_pages; i < PAGES_MAX; i++) tags[i] = 0;
    for (uint64_t i = 0; i < 1 + below(w, 20); i++) change_once(w, &next, tags);
    dw_page_map_check(&next);
    if (below(w, 4) == 0) {
        dw_page_map_deinit(&next);
        return;
    }
    dw_page_map_deinit(&m->map);
    m->map = next;
    memcpy(m->tags, tags, sizeof tags);
}

static void step(world *w) {
    memory *m = &w->memories[below(w, MAPS)], *other = &w->memories[below(w, MAPS)];
    if (!m->used) {
        *m = (memory){.used = true};
        assert_ok(dw_page_map_resize(&m->map, 1 + below(w, PAGES_MAX), &err), err);
    } else if (below(w, 12) == 0 && m != other) { /* fork */
        dw_page_map_deinit(&other->map);
        *other = *m;
        other->map = dw_page_map_share(&m->map);
    } else if (below(w, 20) == 0) {
        assert_ok(dw_page_map_compact(&m->map, w->store, (size_t)below(w, 100), &err), err);
    } else if (below(w, 20) == 0) {
        dw_page_map_deinit(&m->map);
        *m = (memory){0};
    } else {
        commit_or_roll_back(w, m);
    }
}

static void pages_are_those_of_a_plain_array_whatever_happens(void **state) {
    (void)state;
    static world w;
    world_init(&w, test_seed(11));
    for (int i = 0; i < 600; i++) {
        step(&w);
        if (i % 8 == 0) check_store(&w);
        for (int k = 0; k < MAPS; k++) {
            if (!w.memories[k].used) continue;
            dw_page_map_check(&w.memories[k].map);
            if (i % 20 == 0) check_memory(&w.memories[k]);
            if (i % 20 == 0) check_restore(&w.memories[k], 1 + (size_t)below(&w, i % 40 ? 40 : PAGES_MAX));
        }
    }
    world_deinit(&w);
}

/* --- room that is made first --------------------------------------------------------------------------------- */

/* With room made for it, a change takes no memory, so it cannot fail; room that is not used leaves nothing. */
static void a_prepared_change_needs_no_memory(void **state) {
    (void)state;
    static world w;
    uint64_t seed = test_seed(18);
    world_init(&w, seed);
    memory *m = &w.memories[0], *fork = &w.memories[1];
    m->used = fork->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    for (int round = 0; round < 300; round++) {
        if (below(&w, 4) == 0) {
            dw_page_map_deinit(&fork->map);
            *fork = *m;
            fork->map = dw_page_map_share(&m->map);
        }
        bool used = below(&w, 3) != 0;
        uint64_t first = below(&w, PAGES_MAX - 40), zeros = below(&w, PAGES_MAX);
        uint64_t n_zeros = some_pages(&w, PAGES_MAX - zeros);
        dw_page_run run;
        assert_ok(dw_page_store_take(w.store, 1 + (uint32_t)below(&w, 40), &run, &err), err);
        memset(w.data, 0, run.n * page);
        for (uint32_t i = 0; i < run.n; i++) memcpy(w.data + i * page, &(uint64_t){w.next_tag + i}, sizeof(uint64_t));
        assert_ok(dw_page_run_write(run, w.data, &err), err);
        assert_ok(dw_page_map_prepare(&m->map, first, run.n, true, &err), err);
        assert_ok(dw_page_map_prepare(&m->map, zeros, n_zeros, false, &err), err);
        if (round % 10 == 0) check_tags(m);
        if (!used) {
            dw_page_run_release(run);
            dw_page_map_tidy(&m->map, first, run.n);
            dw_page_map_tidy(&m->map, zeros, n_zeros);
        } else {
            heap_count_begin();
            assert_ok(dw_page_map_set_stored(&m->map, first, run, &err), err);
            assert_ok(dw_page_map_set_file(&m->map, zeros, n_zeros, NULL, 0, &err), err);
            assert_int_equal(heap_count_end(), 0);
            for (uint32_t i = 0; i < run.n; i++) m->tags[first + i] = w.next_tag++;
            for (uint64_t i = 0; i < n_zeros; i++) m->tags[zeros + i] = 0;
        }
        dw_page_map_check(&m->map);
    }
    check_memory(m);
    check_memory(fork);
    check_store(&w);
    world_deinit(&w);
}

/* --- costs --------------------------------------------------------------------------------------------------- */

/* Takes as many pages and copies as many nodes in turn 1,000 as in turn 1; the pages from before come back. */
static void scattered_turns_cost_their_pages_for_ever(void **state) {
    (void)state;
    enum { SCATTERED = 24, TURNS = 1000 };
    static world w;
    memory *m = &w.memories[0];
    uint64_t peak = 0;
    world_init(&w, test_seed(12));
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    for (int turn = 0; turn < TURNS; turn++) {
        dw_page_map next = dw_page_map_share(&m->map);
        uint64_t before = dw_page_store_use_now(w.store).taken;
        for (int i = 0; i < SCATTERED; i++) write_pages(&w, &next, m->tags, below(&w, PAGES_MAX), 1);
        assert_true(dw_page_store_use_now(w.store).taken <= before + SCATTERED);
        assert_true(dw_page_map_use_now(&next).own_nodes <= SCATTERED * next.height);
        dw_page_map_deinit(&m->map);
        m->map = next;
        check_store(&w);
        peak = dw_max_u64(peak, dw_page_store_use_now(w.store).taken);
    }
    assert_true(peak <= PAGES_MAX);
    check_memory(m);
    world_deinit(&w);
}

static void a_share_takes_no_page_and_no_node(void **state) {
    (void)state;
    static world w;
    world_init(&w, test_seed(13));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    write_pages(&w, &m->map, m->tags, 0, PAGES_MAX);
    dw_page_store_use before = dw_page_store_use_now(w.store);
    dw_page_map second = dw_page_map_share(&m->map);
    assert_int_equal(dw_page_store_use_now(w.store).taken, before.taken);
    assert_int_equal(dw_page_map_use_now(&second).own_nodes, 0);
    w.memories[1].used = true;
    w.memories[1].map = second;
    memcpy(w.memories[1].tags, m->tags, sizeof m->tags);
    write_pages(&w, &w.memories[1].map, w.memories[1].tags, 777, 1);
    assert_int_equal(dw_page_store_use_now(w.store).taken, before.taken + 1);
    check_memory(m);
    check_memory(&w.memories[1]);
    world_deinit(&w);
}

/* A large memory that becomes small gives its room back, though one page of every segment stays. */
static void freed_pages_give_their_memory_back(void **state) {
    (void)state;
    static world w;
    world_init(&w, test_seed(14));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    write_pages(&w, &m->map, m->tags, 0, PAGES_MAX);
    for (uint64_t i = 0; i < PAGES_MAX; i++) {
        if (i % 500 == 0) continue;
        assert_ok(dw_page_map_set_file(&m->map, i, 1, NULL, 0, &err), err);
        m->tags[i] = 0;
    }
    check_store(&w);
    assert_int_equal(dw_page_store_use_now(w.store).taken, PAGES_MAX / 500);
    check_memory(m);
    world_deinit(&w);
}

static void zeros_take_no_room_however_many(void **state) {
    (void)state;
    dw_page_map map = {0};
    page = dw_os_page_bytes();
    assert_ok(dw_page_map_resize(&map, DW_PAGE_MAP_PAGES_MAX, &err), err);
    assert_ok(dw_page_map_set_file(&map, 5, DW_PAGE_MAP_PAGES_MAX - 9, NULL, 0, &err), err);
    assert_int_equal(dw_page_map_use_now(&map).nodes, 0);
    dw_page_map_check(&map);
    dw_page_map_deinit(&map);
}

static void bad_ranges_are_refused(void **state) {
    (void)state;
    static world w;
    dw_page_map map = {0};
    dw_page_run run;
    world_init(&w, test_seed(15));
    assert_status(dw_page_map_resize(&map, DW_PAGE_MAP_PAGES_MAX + 1, &err), DW_E_LIMIT);
    assert_ok(dw_page_map_resize(&map, 10, &err), err);
    assert_status(dw_page_map_set_file(&map, 5, 6, w.file, 0, &err), DW_E_RANGE);
    assert_status(dw_page_map_set_file(&map, UINT64_MAX, 2, NULL, 0, &err), DW_E_RANGE);
    assert_status(dw_page_map_set_file(&map, 0, 1, w.file, UINT64_MAX, &err), DW_E_RANGE);
    assert_ok(dw_page_store_take(w.store, 3, &run, &err), err);
    assert_status(dw_page_map_set_stored(&map, 8, run, &err), DW_E_RANGE); /* and its references are gone */
    assert_int_equal(dw_page_store_use_now(w.store).taken, 0);
    dw_page_map_deinit(&map);
    world_deinit(&w);
}

/* --- layouts ------------------------------------------------------------------------------------------------- */

/* A file in which every other page was changed is mapped once, and the changed pages are read into it. */
static void a_changed_file_is_mapped_once(void **state) {
    (void)state;
    static world w;
    dw_page_layout layout;
    world_init(&w, test_seed(16));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, FILE_PAGES, &err), err);
    assert_ok(dw_page_map_set_file(&m->map, 0, FILE_PAGES, w.file, 0, &err), err);
    for (uint64_t i = 0; i < FILE_PAGES; i++) m->tags[i] = FILE_TAG + i;
    for (uint64_t i = 1; i < FILE_PAGES - 1; i += 2) write_pages(&w, &m->map, m->tags, i, 1);
    assert_ok(dw_page_map_set_file(&m->map, 100, 1, NULL, 0, &err), err);
    m->tags[100] = 0; /* has to be zeroed in the file's map */
    assert_ok(dw_page_layout_make(&m->map, 16, &layout, &err), err);
    assert_int_equal(layout.extents.count, 1);
    assert_int_equal(layout.fills.count, (FILE_PAGES - 1) / 2 + 1);
    dw_page_layout_deinit(&layout);
    check_restore(m, 16);
    check_restore(m, PAGES_MAX);
    world_deinit(&w);
}

static void few_pieces_are_mapped_and_nothing_is_copied(void **state) {
    (void)state;
    static world w;
    dw_page_layout layout;
    world_init(&w, test_seed(17));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    for (uint64_t i = 0; i < 100; i++) write_pages(&w, &m->map, m->tags, i * 50, 1 + i % 3);
    assert_ok(dw_page_layout_make(&m->map, 256, &layout, &err), err);
    assert_int_equal(layout.fills.count, 0);
    dw_page_layout_deinit(&layout);
    assert_ok(dw_page_layout_make(&m->map, 100, &layout, &err), err);
    assert_true(layout.extents.count <= 100 && layout.fills.count > 0);
    dw_page_layout_deinit(&layout);
    check_restore(m, 100);
    world_deinit(&w);
}

#ifdef DW_FAULTS
static void a_layout_without_memory_leaves_nothing(void **state) {
    (void)state;
    static world w;
    bool met = true;
    uint64_t k = 1;
    world_init(&w, test_seed(18));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    for (uint64_t i = 0; i < 100; i++) write_pages(&w, &m->map, m->tags, i * 50, 1 + i % 3);
    for (; met; k++) {
        dw_page_layout layout;
        dw_vec_fault_arm(k);
        dw_status status = dw_page_layout_make(&m->map, 100, &layout, &err);
        met = dw_vec_fault_disarm();
        assert_status(status, met ? DW_E_NO_MEMORY : DW_OK);
        if (met) assert_true(layout.extents.items == NULL && layout.fills.items == NULL);
        dw_page_layout_deinit(&layout);
    }
    assert_in_range(k, 5, 40);
    world_deinit(&w);
}
#endif

/* Committed one by one, in any order: many pieces. Compacted they are few, and say the same; the pages from before come
 * back. */
static void a_map_in_pieces_is_compacted(void **state) {
    (void)state;
    static world w;
    dw_page_layout layout;
    world_init(&w, test_seed(19));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, PAGES_MAX, &err), err);
    for (uint64_t i = 0; i < PAGES_MAX / 2; i++) write_pages(&w, &m->map, m->tags, i * 7919 % PAGES_MAX, 1);
    uint64_t before = dw_page_store_use_now(w.store).taken;
    assert_int_equal(before, PAGES_MAX / 2);
    assert_ok(dw_page_map_compact(&m->map, w.store, 256, &err), err);
    assert_true(dw_page_store_use_now(w.store).taken <= PAGES_MAX);
    assert_ok(dw_page_layout_make(&m->map, 16, &layout, &err), err);
    assert_true(layout.extents.count <= PAGES_MAX / DW_PAGE_SEGMENT_PAGES + 1);
    assert_int_equal(layout.fills.count, 0);
    dw_page_layout_deinit(&layout);
    check_memory(m);
    check_store(&w);
    check_restore(m, 16);
    /* Few pages that change afterwards move nothing, though they make more pieces than DW_COMPACT_PIECES_MIN. */
    for (uint64_t i = 0; i < 30; i++) write_pages(&w, &m->map, m->tags, 100 + i * 160, 1);
    dw_page_piece kept = dw_page_map_look(&m->map, 1);
    assert_ok(dw_page_map_compact(&m->map, w.store, 256, &err), err);
    assert_int_equal(dw_page_map_look(&m->map, 1).backing_offset, kept.backing_offset);
    check_memory(m);
    world_deinit(&w);
}

/* A file's pages are never copied into the store. */
static void a_changed_file_is_not_compacted(void **state) {
    (void)state;
    static world w;
    world_init(&w, test_seed(20));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, FILE_PAGES, &err), err);
    assert_ok(dw_page_map_set_file(&m->map, 0, FILE_PAGES, w.file, 0, &err), err);
    for (uint64_t i = 0; i < FILE_PAGES; i++) m->tags[i] = FILE_TAG + i;
    for (uint64_t i = 0; i < FILE_PAGES; i += 2) write_pages(&w, &m->map, m->tags, i, 1);
    uint64_t before = dw_page_store_use_now(w.store).taken;
    assert_ok(dw_page_map_compact(&m->map, w.store, 16, &err), err);
    assert_int_equal(dw_page_store_use_now(w.store).taken, before);
    check_memory(m);
    world_deinit(&w);
}

/* A small memory is soon cheaper to copy than to map in pieces. */
static void a_small_map_is_compacted_early(void **state) {
    (void)state;
    static world w;
    dw_page_layout layout;
    world_init(&w, test_seed(23));
    memory *m = &w.memories[0];
    m->used = true;
    assert_ok(dw_page_map_resize(&m->map, 200, &err), err);
    for (uint64_t i = 0; i < 60; i++) write_pages(&w, &m->map, m->tags, i * 7 % 200, 1);
    assert_ok(dw_page_map_compact(&m->map, w.store, 1024, &err), err);
    assert_ok(dw_page_layout_make(&m->map, 1024, &layout, &err), err);
    assert_int_equal(layout.extents.count, 1);
    dw_page_layout_deinit(&layout);
    check_memory(m);
    check_restore(m, 1024);
    world_deinit(&w);
}

#ifdef DW_FAULTS
static void a_compaction_that_fails_leaves_the_map(void **state) {
    (void)state;
    static world w;
    FAULT_LOOP(loop, DW_FAULT_ANY, ENOSPC) {
        world_init(&w, 22);
        memory *m = &w.memories[0];
        m->used = true;
        assert_ok(dw_page_map_resize(&m->map, 1500, &err), err);
        for (uint64_t i = 0; i < 60; i++) write_pages(&w, &m->map, m->tags, i * 25, 1);
        fault_loop_arm(&loop);
        dw_status status = dw_page_map_compact(&m->map, w.store, 8, &err);
        fault_loop_disarm(&loop);
        assert_status(status, loop.hit ? DW_E_NO_SPACE : DW_OK);
        check_memory(m);
        dw_page_store_check(w.store);
        world_deinit(&w);
    }
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_those_of_a_plain_array_whatever_happens),
        cmocka_unit_test(a_prepared_change_needs_no_memory),
        cmocka_unit_test(scattered_turns_cost_their_pages_for_ever),
        cmocka_unit_test(a_share_takes_no_page_and_no_node),
        cmocka_unit_test(freed_pages_give_their_memory_back),
        cmocka_unit_test(zeros_take_no_room_however_many),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(a_changed_file_is_mapped_once),
        cmocka_unit_test(few_pieces_are_mapped_and_nothing_is_copied),
#ifdef DW_FAULTS
        cmocka_unit_test(a_layout_without_memory_leaves_nothing),
#endif
        cmocka_unit_test(a_map_in_pieces_is_compacted),
        cmocka_unit_test(a_changed_file_is_not_compacted),
        cmocka_unit_test(a_small_map_is_compacted_early),
#ifdef DW_FAULTS
        cmocka_unit_test(a_compaction_that_fails_leaves_the_map),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

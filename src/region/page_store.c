/* page_store.c: see page_store.h.
 *
 * Free pages are looked for in one segment after the other, from where the last ones were taken: what was written in
 * one turn lies side by side and dies together, so free runs stay long. Segments with a free page form a ring. */
#include "region/page_store.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/vec.h"

enum { WORD_BITS = 64, WORDS = DW_PAGE_SEGMENT_PAGES / WORD_BITS };
/* The object grows by so many segments at least, or by a quarter. */
enum { GROWTH_SEGMENTS = 16 };

struct dw_page_segment {
    dw_page_store *store;
    uint32_t number;                    /* its first page is number * DW_PAGE_SEGMENT_PAGES of the object */
    uint32_t taken, warm, next;         /* pages; next: where to look for a free one first */
    dw_page_segment *before, *after;    /* in the ring of those with a free page; NULL outside of it */
    uint64_t taken_bits[WORDS], warm_bits[WORDS];
    atomic_uint references[DW_PAGE_SEGMENT_PAGES];
};

struct dw_page_store {
    dw_os_mutex *mutex;                 /* guards everything but the counts of references */
    dw_backing *backing;
    uint64_t page;                      /* bytes */
    DW_VEC(dw_page_segment *) segments; /* by number; NULL = no books, all its pages are free and without memory */
    uint32_t unused;                    /* no lower number of a segment is NULL */
    uint32_t object_segments;           /* that the object has room for */
    dw_page_segment *ring;              /* where pages are taken next; NULL = no segment has a free page */
    uint64_t taken, warm, trim_above;   /* pages; free memory is given back when `warm` is above */
    uint32_t books;                     /* segments that are there */
};

/* --- bits ---------------------------------------------------------------------------------------------------- */

static bool has_page_bit(const uint64_t *bits, uint32_t index) {
    return (bits[index / WORD_BITS] >> (index % WORD_BITS) & 1) != 0;
}
static void set_page_bit(uint64_t *bits, uint32_t index) {
    bits[index / WORD_BITS] |= UINT64_C(1) << (index % WORD_BITS);
}
static void clear_page_bit(uint64_t *bits, uint32_t index) {
    bits[index / WORD_BITS] &= ~(UINT64_C(1) << (index % WORD_BITS));
}

/* The first index from `from` on whose bit is `wanted`; DW_PAGE_SEGMENT_PAGES when there is none. */
static uint32_t find_page_bit(const uint64_t *bits, uint32_t from, bool wanted) {
    for (uint32_t index = from; index < DW_PAGE_SEGMENT_PAGES;) {
        uint64_t word = (wanted ? bits[index / WORD_BITS] : ~bits[index / WORD_BITS]) >> (index % WORD_BITS);
        if (word != 0) return index + (uint32_t)__builtin_ctzll(word);
        index = (index / WORD_BITS + 1) * WORD_BITS;
    }
    return DW_PAGE_SEGMENT_PAGES;
}

/* --- create, destroy ----------------------------------------------------------------------------------------- */

static uint64_t segment_bytes(const dw_page_store *store) { return DW_PAGE_SEGMENT_PAGES * store->page; }

dw_status dw_page_store_create(dw_page_store **out, dw_error *err) {
    *out = NULL;
    dw_page_store *store = calloc(1, sizeof *store);
    if (!store) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a store of pages");
    store->page = dw_os_page_bytes();
    store->trim_above = DW_PAGE_STORE_SLACK_PAGES;
    dw_status status = dw_os_mutex_create(&store->mutex, err);
    if (status == DW_OK)
        status = dw_backing_create_memory("driftwood-pages", GROWTH_SEGMENTS * segment_bytes(store), &store->backing,
                                          err);
    store->object_segments = GROWTH_SEGMENTS;
    if (status == DW_OK) *out = store;
    else dw_page_store_destroy(store);
    return status;
}

void dw_page_store_destroy(dw_page_store *store) {
    if (!store) return;
    assert(store->taken == 0); /* else somebody would release a page of a store that is gone */
    for (uint32_t i = 0; i < store->segments.count; i++) free(store->segments.items[i]);
    DW_VEC_DEINIT(&store->segments);
    dw_backing_release(store->backing);
    if (store->mutex) dw_os_mutex_destroy(store->mutex);
    free(store);
}

dw_backing *dw_page_store_backing(const dw_page_store *store) { return store->backing; }

/* --- segments; the lock is held ------------------------------------------------------------------------------ */

static void join_ring(dw_page_store *store, dw_page_segment *segment) {
    dw_page_segment *head = store->ring ? store->ring : segment;
    if (head == segment) {
        segment->before = segment->after = segment;
    } else { /* last: it is looked at after all others */
        segment->before = head->before;
        segment->after = head;
        head->before->after = segment;
        head->before = segment;
    }
    store->ring = head;
}

static void leave_ring(dw_page_store *store, dw_page_segment *segment) {
    if (store->ring == segment) store->ring = segment->after == segment ? NULL : segment->after;
    segment->before->after = segment->after;
    segment->after->before = segment->before;
    segment->before = segment->after = NULL;
}

static dw_status grow_object(dw_page_store *store, uint32_t end, dw_error *err) {
    if (end <= store->object_segments) return DW_OK;
    uint32_t wanted = end + GROWTH_SEGMENTS + store->object_segments / 4;
    dw_status status = dw_os_resize(dw_backing_file(store->backing), wanted * segment_bytes(store), err);
    if (status == DW_OK) store->object_segments = wanted;
    return status;
}

/* The first of n numbers in a row that no segment has. */
static uint32_t find_numbers(dw_page_store *store, uint32_t n) {
    uint32_t first = store->unused;
    for (uint32_t i = first; i < store->segments.count && i - first < n; i++)
        if (store->segments.items[i]) first = i + 1;
    return first;
}

static dw_status reserve_numbers(dw_page_store *store, uint32_t first, uint32_t n, dw_error *err) {
    uint32_t end = first + n;
    if (end > DW_PAGE_SEGMENTS_MAX)
        return dw_fail(err, DW_E_NO_MEMORY, "committed pages fill %u segments", DW_PAGE_SEGMENTS_MAX);
    size_t known = store->segments.count, extra = end > known ? end - known : 0;
    if (DW_VEC_RESERVE(&store->segments, extra, DW_PAGE_SEGMENTS_MAX) != DW_OK)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for the books of committed pages");
    return grow_object(store, end, err);
}

/* Under a number that is reserved and not taken. */
static dw_status add_segment(dw_page_store *store, uint32_t number, dw_error *err) {
    dw_page_segment *segment = calloc(1, sizeof *segment);
    if (!segment) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the books of committed pages");
    segment->store = store;
    segment->number = number;
    while (store->segments.count <= number) store->segments.items[store->segments.count++] = NULL;
    store->segments.items[number] = segment;
    while (store->unused < store->segments.count && store->segments.items[store->unused]) store->unused++;
    store->books++;
    join_ring(store, segment);
    return DW_OK;
}

static dw_status add_any_segment(dw_page_store *store, dw_error *err) {
    uint32_t number = find_numbers(store, 1);
    dw_status status = reserve_numbers(store, number, 1, err);
    return status == DW_OK ? add_segment(store, number, err) : status;
}

static void drop_segment(dw_page_store *store, dw_page_segment *segment) {
    assert(segment->taken == 0 && segment->warm == 0);
    leave_ring(store, segment);
    store->segments.items[segment->number] = NULL;
    if (segment->number < store->unused) store->unused = segment->number;
    store->books--;
    free(segment);
}

/* --- taking -------------------------------------------------------------------------------------------------- */

/* From a segment that has a free page. */
static dw_page_run take_from(dw_page_store *store, dw_page_segment *segment, uint32_t wanted) {
    uint32_t first = find_page_bit(segment->taken_bits, segment->next, false);
    if (first == DW_PAGE_SEGMENT_PAGES) first = find_page_bit(segment->taken_bits, 0, false);
    uint32_t end = find_page_bit(segment->taken_bits, first, true);
    if (end - first > wanted) end = first + wanted;
    for (uint32_t i = first; i < end; i++) {
        atomic_store_explicit(&segment->references[i], 1, memory_order_relaxed);
        set_page_bit(segment->taken_bits, i);
        if (has_page_bit(segment->warm_bits, i)) continue;
        set_page_bit(segment->warm_bits, i); /* from here on: whether it comes to be written or not */
        segment->warm++;
        store->warm++;
    }
    segment->next = end;
    segment->taken += end - first;
    store->taken += end - first;
    /* One that was looked at to its end goes behind the others, also when pages before that are free again. */
    if (segment->taken == DW_PAGE_SEGMENT_PAGES) leave_ring(store, segment);
    else if (end == DW_PAGE_SEGMENT_PAGES) store->ring = segment->after;
    return (dw_page_run){segment, first, end - first};
}

dw_status dw_page_store_take(dw_page_store *store, uint32_t wanted, dw_page_run *out, dw_error *err) {
    assert(wanted > 0);
    dw_os_mutex_lock(store->mutex);
    dw_status status = store->ring ? DW_OK : add_any_segment(store, err);
    if (status == DW_OK) *out = take_from(store, store->ring, wanted);
    dw_os_mutex_unlock(store->mutex);
    return status;
}

dw_status dw_page_store_take_segments(dw_page_store *store, uint32_t n, dw_page_run *runs, dw_error *err) {
    uint32_t done = 0;
    dw_os_mutex_lock(store->mutex);
    uint32_t first = find_numbers(store, n);
    dw_status status = reserve_numbers(store, first, n, err);
    for (; done < n && status == DW_OK; done++) {
        status = add_segment(store, first + done, err);
        if (status != DW_OK) break;
        runs[done] = take_from(store, store->segments.items[first + done], DW_PAGE_SEGMENT_PAGES);
    }
    dw_os_mutex_unlock(store->mutex);
    while (status != DW_OK && done > 0) dw_page_run_release(runs[--done]);
    return status;
}

uint64_t dw_page_run_offset(dw_page_run run) {
    return ((uint64_t)run.segment->number * DW_PAGE_SEGMENT_PAGES + run.index) * run.segment->store->page;
}

dw_page_store *dw_page_run_store(dw_page_run run) { return run.segment->store; }

dw_status dw_page_run_write(dw_page_run run, const void *data, dw_error *err) {
    return dw_os_write_at(dw_backing_file(run.segment->store->backing), dw_page_run_offset(run), data,
                          run.n * run.segment->store->page, err);
}

dw_status dw_page_store_put(dw_page_store *store, uint32_t wanted, const void *data, dw_page_run *out, dw_error *err) {
    dw_status status = dw_page_store_take(store, wanted, out, err);
    if (status != DW_OK) return status;
    status = dw_page_run_write(*out, data, err);
    if (status != DW_OK) dw_page_run_release(*out);
    return status;
}

/* --- giving back --------------------------------------------------------------------------------------------- */

/* Gives the memory of a segment's free pages back to the system; false where that failed. */
static bool cool_segment(dw_page_store *store, dw_page_segment *segment) {
    uint64_t page = store->page, start = (uint64_t)segment->number * DW_PAGE_SEGMENT_PAGES;
    for (uint32_t first = 0; segment->warm > segment->taken;) {
        first = find_page_bit(segment->taken_bits, first, false);
        uint32_t end = find_page_bit(segment->taken_bits, first, true);
        if (dw_os_discard(dw_backing_file(store->backing), (start + first) * page, (end - first) * page, NULL) != DW_OK)
            return false;
        for (; first < end; first++) {
            if (!has_page_bit(segment->warm_bits, first)) continue;
            clear_page_bit(segment->warm_bits, first);
            segment->warm--;
            store->warm--;
        }
    }
    return true;
}

static void cool_store(dw_page_store *store) {
    bool works = true;
    for (uint32_t i = 0; i < store->segments.count && works; i++) {
        dw_page_segment *segment = store->segments.items[i];
        if (!segment || segment->warm == segment->taken) continue;
        works = cool_segment(store, segment);
        if (works && segment->taken == 0) drop_segment(store, segment);
    }
    /* A system that does not take it back is not asked again for every page. */
    store->trim_above = works ? 0 : store->warm + DW_PAGE_STORE_SLACK_PAGES;
}

static void free_page(dw_page_store *store, dw_page_segment *segment, uint32_t index) {
    dw_os_mutex_lock(store->mutex);
    clear_page_bit(segment->taken_bits, index);
    if (segment->taken-- == DW_PAGE_SEGMENT_PAGES) join_ring(store, segment);
    store->taken--;
    if (store->warm > 2 * store->taken + DW_PAGE_STORE_SLACK_PAGES && store->warm > store->trim_above)
        cool_store(store);
    dw_os_mutex_unlock(store->mutex);
}

void dw_page_run_retain(dw_page_run run) {
    /* Whoever retains holds a reference already, so nothing has to be ordered here. */
    for (uint32_t i = run.index; i < run.index + run.n; i++)
        atomic_fetch_add_explicit(&run.segment->references[i], 1, memory_order_relaxed);
}

void dw_page_run_release(dw_page_run run) {
    dw_page_store *store = run.segment->store; /* the segment may go with its last page */
    for (uint32_t i = run.index; i < run.index + run.n; i++) {
        unsigned before = atomic_fetch_sub_explicit(&run.segment->references[i], 1, memory_order_acq_rel);
        assert(before != 0);
        if (before == 1) free_page(store, run.segment, i);
    }
}

/* --- looking ------------------------------------------------------------------------------------------------- */

dw_page_store_use dw_page_store_use_now(dw_page_store *store) {
    dw_os_mutex_lock(store->mutex);
    dw_page_store_use use = {.taken = store->taken, .warm = store->warm, .segments = store->books};
    dw_os_mutex_unlock(store->mutex);
    return use;
}

static void check_segment(const dw_page_store *store, const dw_page_segment *segment) {
    uint32_t taken = 0, warm = 0;
    for (uint32_t i = 0; i < DW_PAGE_SEGMENT_PAGES; i++) {
        bool is_taken = has_page_bit(segment->taken_bits, i), is_warm = has_page_bit(segment->warm_bits, i);
        taken += is_taken;
        warm += is_warm;
        assert(!is_taken || is_warm);
        /* A count of 0 of a taken page: its last reference is going, on another thread. */
        assert(is_taken || atomic_load(&segment->references[i]) == 0);
    }
    assert(taken == segment->taken && warm == segment->warm && segment->store == store);
    assert((segment->after != NULL) == (taken < DW_PAGE_SEGMENT_PAGES) &&
           (segment->before != NULL) == (segment->after != NULL));
    assert(!segment->after || (segment->after->before == segment && segment->before->after == segment));
}

void dw_page_store_check(dw_page_store *store) {
    uint64_t taken = 0, warm = 0;
    uint32_t books = 0;
    dw_os_mutex_lock(store->mutex);
    for (uint32_t i = 0; i < store->segments.count; i++) {
        const dw_page_segment *segment = store->segments.items[i];
        assert(segment || i >= store->unused);
        if (!segment) continue;
        check_segment(store, segment);
        assert(segment->number == i && i < store->object_segments);
        taken += segment->taken;
        warm += segment->warm;
        books++;
    }
    assert(taken == store->taken && warm == store->warm && books == store->books);
    assert(warm <= dw_max_u64(2 * taken + DW_PAGE_STORE_SLACK_PAGES, store->trim_above));
    dw_os_mutex_unlock(store->mutex);
}

/* page_layout.c: see page_layout.h. */
#include "region/page_layout.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"

enum { SIZE_CLASSES = 64 };

typedef struct piece_count {
    size_t pieces;
    size_t of_class[SIZE_CLASSES];   /* zeros and stored pages, by the logarithm of their size */
} piece_count;

static unsigned size_class(uint64_t size) { return 63u - (unsigned)__builtin_clzll(size); }

static void count_layout_piece(void *context, const dw_page_piece *piece) {
    piece_count *count = context;
    count->pieces++;
    if (!piece->backing || piece->stored) count->of_class[size_class(piece->size)]++;
}

/* The smallest size such that at most `wanted` pieces are as large or larger. */
static uint64_t choose_size(const piece_count *count, size_t wanted) {
    unsigned class = SIZE_CLASSES;
    size_t mapped = 0;
    while (class > 0 && mapped + count->of_class[class - 1] <= wanted) mapped += count->of_class[--class];
    return class < SIZE_CLASSES ? UINT64_C(1) << class : UINT64_MAX;
}

typedef struct layout_maker {
    dw_page_layout *layout;
    size_t gap_fills;        /* fills from here on lie behind the last extent */
    uint64_t mapped_end;     /* of the last extent */
    uint64_t size_min;       /* of zeros and stored pages that are mapped */
    dw_status status;
} layout_maker;

static bool add_layout_extent(layout_maker *maker, dw_extent extent) {
    dw_page_layout *layout = maker->layout;
    if (DW_VEC_RESERVE(&layout->extents, 1, DW_PAGE_MAP_PAGES_MAX) != DW_OK) return false;
    layout->extents.items[layout->extents.count++] = extent;
    maker->mapped_end = extent.offset + extent.size;
    maker->gap_fills = layout->fills.count;
    return true;
}

static bool add_layout_fill(layout_maker *maker, const dw_page_piece *piece) {
    dw_page_layout *layout = maker->layout;
    if (DW_VEC_RESERVE(&layout->fills, 1, DW_PAGE_MAP_PAGES_MAX) != DW_OK) return false;
    layout->fills.items[layout->fills.count++] =
        (dw_region_fill){.offset = piece->offset, .size = piece->size, .backing = piece->backing,
                         .backing_offset = piece->backing_offset};
    return true;
}

/* Whether the piece goes on, behind a gap or at once, where the last extent's backing would be if the extent were
 * longer. */
static bool goes_on(const layout_maker *maker, const dw_page_piece *piece) {
    /* Between pages of a store lie those of others, or none yet, which a map would bring to life. */
    if (maker->layout->extents.count == 0 || piece->stored) return false;
    const dw_extent *last = &maker->layout->extents.items[maker->layout->extents.count - 1];
    if (last->backing != piece->backing) return false;
    return !piece->backing || (piece->backing_offset >= last->backing_offset &&
                               piece->backing_offset - last->backing_offset == piece->offset - last->offset);
}

/* Anonymous memory for the gap behind the last extent: what is zero in it needs nothing more. */
static bool close_gap(layout_maker *maker, uint64_t end) {
    dw_page_layout *layout = maker->layout;
    if (maker->mapped_end == end) return true;
    size_t kept = maker->gap_fills;
    for (size_t i = maker->gap_fills; i < layout->fills.count; i++)
        if (layout->fills.items[i].backing) layout->fills.items[kept++] = layout->fills.items[i];
    layout->fills.count = kept;
    dw_extent *last = layout->extents.count > 0 ? &layout->extents.items[layout->extents.count - 1] : NULL;
    if (!last || last->backing)
        return add_layout_extent(maker, (dw_extent){.offset = maker->mapped_end, .size = end - maker->mapped_end});
    last->size = end - last->offset;
    maker->mapped_end = end;
    maker->gap_fills = layout->fills.count;
    return true;
}

static void place_piece(void *context, const dw_page_piece *piece) {
    layout_maker *maker = context;
    uint64_t end = piece->offset + piece->size;
    bool file = piece->backing && !piece->stored, large = file || piece->size >= maker->size_min, done;
    if (maker->status != DW_OK) return;
    if (large && goes_on(maker, piece)) {
        /* The gap stays in the extent, under its fills; zeros have to be written there, unless it is anonymous. */
        dw_extent *last = &maker->layout->extents.items[maker->layout->extents.count - 1];
        done = last->backing || close_gap(maker, piece->offset);
        last->size = end - last->offset;
        maker->mapped_end = end;
        maker->gap_fills = maker->layout->fills.count;
    } else if (large) {
        dw_extent extent = {.offset = piece->offset, .size = piece->size, .backing = piece->backing,
                            .backing_offset = piece->backing_offset};
        done = close_gap(maker, piece->offset);
        if (done && !piece->backing && goes_on(maker, piece)) { /* the gap has become anonymous memory before it */
            maker->layout->extents.items[maker->layout->extents.count - 1].size += piece->size;
            maker->mapped_end = end;
        } else if (done) {
            done = add_layout_extent(maker, extent);
        }
    } else {
        done = add_layout_fill(maker, piece);
    }
    if (!done) maker->status = DW_E_NO_MEMORY;
}

dw_status dw_page_layout_make(const dw_page_map *map, size_t maps_max, dw_page_layout *out, dw_error *err) {
    piece_count count = {0};
    *out = (dw_page_layout){0};
    dw_page_map_walk(map, count_layout_piece, &count);
    layout_maker maker = {.layout = out, .size_min = count.pieces <= maps_max ? 0 : choose_size(&count, maps_max / 2)};
    dw_page_map_walk(map, place_piece, &maker);
    bool done = maker.status == DW_OK && close_gap(&maker, map->n_pages * dw_os_page_bytes());
    if (done) return DW_OK;
    dw_page_layout_deinit(out);
    return dw_fail(err, DW_E_NO_MEMORY, "no memory for the layout of %zu pieces of memory", count.pieces);
}

void dw_page_layout_deinit(dw_page_layout *layout) {
    DW_VEC_DEINIT(&layout->extents);
    DW_VEC_DEINIT(&layout->fills);
}

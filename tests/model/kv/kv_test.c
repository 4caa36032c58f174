/* KV slots against plain arrays: any tree of forks, appends, rewinds, restores and closings, rows compared byte for byte; and the same
 * operations with every system call failing once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "model/kv/kv.h"
#include "os/os_fault.h"

enum { LAYERS = 2, AREAS = 2 * LAYERS, SLOTS = 10, CONTEXT = 200, ROW_MAX = 384 };

static dw_device *device;
static uint64_t random_state;

static uint32_t roll(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((random_state >> 33) % n);
}

typedef struct plain { bool open; uint32_t rows; uint8_t bytes[AREAS][CONTEXT][ROW_MAX]; } plain;

typedef struct world {
    dw_kv_arena *arena;
    uint32_t row_bytes;
    plain slots[SLOTS];
} world;

static world *world_make(uint32_t row_bytes) {
    world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->row_bytes = row_bytes;
    dw_kv_geometry geometry = {.n_layers = LAYERS, .n_slots = SLOTS, .context_tokens = CONTEXT, .row_bytes = row_bytes};
    dw_error err = {0};
    if (dw_kv_arena_create(&geometry, device, &w->arena, &err) != DW_OK) fail_msg("%s", err.text);
    return w;
}

static void world_free(world *w) {
    dw_kv_arena_destroy(w->arena);
    free(w);
}

static uint8_t *row_at(const world *w, dw_kv_slot slot, uint32_t area, uint32_t row) {
    return (uint8_t *)dw_kv_area(w->arena, slot, area / 2, (int)(area % 2)) + (size_t)row * w->row_bytes;
}

static void check_slot(const world *w, dw_kv_slot slot) {
    const plain *p = &w->slots[slot];
    assert_int_equal(dw_kv_rows(w->arena, slot), p->rows);
    for (uint32_t area = 0; area < AREAS; area++) {
        for (uint32_t row = 0; row < p->rows; row++) assert_memory_equal(row_at(w, slot, area, row), p->bytes[area][row], w->row_bytes);
    }
}

static void check_all(const world *w) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (w->slots[i].open) check_slot(w, i);
    }
}

/* As an evaluation does: rows behind the committed ones, of which the last few may belong to one that failed. */
static dw_status append(world *w, dw_kv_slot slot, uint32_t n, uint32_t n_failed, dw_error *err) {
    plain *p = &w->slots[slot];
    dw_buffer *buffer = NULL;
    uint64_t offset = 0;
    dw_status status = dw_kv_writable(w->arena, slot, &buffer, &offset, err);
    if (status != DW_OK) return status;
    assert_non_null(buffer);
    for (uint32_t row = p->rows; row < p->rows + n + n_failed && row < CONTEXT; row++) {
        for (uint32_t area = 0; area < AREAS; area++) {
            uint8_t *bytes = row_at(w, slot, area, row);
            for (uint32_t i = 0; i < w->row_bytes; i++) bytes[i] = (uint8_t)roll(256);
            if (row < p->rows + n) memcpy(p->bytes[area][row], bytes, w->row_bytes);
        }
    }
    p->rows += n;
    dw_kv_commit(w->arena, slot, p->rows);
    return DW_OK;
}

static dw_status fork_slot(world *w, dw_kv_slot parent, uint32_t n, dw_kv_slot *out, dw_error *err) {
    dw_status status = dw_kv_fork(w->arena, parent, n, out, err);
    if (status != DW_OK) return status;
    w->slots[*out] = w->slots[parent];
    w->slots[*out].rows = n;
    return DW_OK;
}

/* The slot's rows become the donor's first n; its number may change. */
static dw_status share_rows(world *w, dw_kv_slot *slot, dw_kv_slot donor, uint32_t n, dw_error *err) {
    dw_kv_slot before = *slot;
    dw_status status = dw_kv_share(w->arena, slot, donor, n, err);
    if (status != DW_OK) return status;
    w->slots[before].open = false;
    w->slots[*slot] = w->slots[donor];
    w->slots[*slot].rows = n;
    return DW_OK;
}

static void rewind_slot(world *w, dw_kv_slot slot, uint32_t n) {
    dw_kv_rewind(w->arena, slot, n);
    w->slots[slot].rows = n;
}

static void close_slot(world *w, dw_kv_slot slot) {
    dw_kv_close(w->arena, slot);
    w->slots[slot].open = false;
}

/* The slot's rows as a checkpoint holds them: areas in any order, page-aligned. */
static dw_status save(const world *w, dw_kv_slot slot, dw_backing **out, uint64_t offsets[AREAS]) {
    const plain *p = &w->slots[slot];
    uint64_t page = dw_os_page_bytes(), area_bytes = ((uint64_t)p->rows * w->row_bytes + page - 1) / page * page;
    dw_status status = dw_backing_create_memory("checkpoint", page + AREAS * area_bytes, out, NULL);
    for (uint32_t area = 0; status == DW_OK && area < AREAS; area++) {
        offsets[area] = page + (AREAS - 1 - area) * area_bytes;
        for (uint32_t row = 0; status == DW_OK && row < p->rows; row++) {
            status = dw_os_write_at(dw_backing_file(*out), offsets[area] + (uint64_t)row * w->row_bytes, p->bytes[area][row], w->row_bytes, NULL);
        }
    }
    return status;
}

static uint32_t pick_open(const world *w) {
    for (int tries = 0; tries < 100; tries++) {
        uint32_t slot = roll(SLOTS);
        if (w->slots[slot].open) return slot;
    }
    return SLOTS;
}

static uint32_t n_open(const world *w) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < SLOTS; i++) n += w->slots[i].open ? 1 : 0;
    return n;
}

/* What the arena counts is what its slots have: nothing is forgotten, nothing counted twice. */
static void check_held(const world *w) {
    uint64_t own = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        dw_kv_use use = {0};
        if (w->slots[i].open) assert_int_equal(dw_kv_use_now(w->arena, i, &use, NULL), DW_OK);
        own += use.own_bytes;
    }
    assert_true(own <= dw_kv_held_bytes(w->arena));
}

static void random_step(world *w) {
    uint32_t slot = pick_open(w), action = roll(100);
    dw_kv_slot made = 0;
    bool full = n_open(w) == SLOTS;
    if (slot == SLOTS || (action < 8 && !full)) {
        assert_int_equal(dw_kv_open(w->arena, &made, NULL), DW_OK);
        w->slots[made].open = true;
        w->slots[made].rows = 0;
        return;
    }
    plain *p = &w->slots[slot];
    if (action < 50) {
        uint32_t room = CONTEXT - p->rows, n = roll(24);
        assert_int_equal(append(w, slot, n < room ? n : room, roll(4), NULL), DW_OK);
    } else if (action < 70 && !full) {
        uint32_t n = roll(3) == 0 ? roll(p->rows + 1) : p->rows;
        assert_int_equal(fork_slot(w, slot, n, &made, NULL), DW_OK);
        w->slots[made].open = true;
    } else if (action < 75) {
        uint32_t donor = pick_open(w), to = slot;
        if (donor == slot || w->slots[donor].rows == 0) return;
        dw_status status = share_rows(w, &to, donor, roll(w->slots[donor].rows) + 1, NULL);
        if (status != DW_OK) assert_true(full && p->rows > 0 && status == DW_E_LIMIT);
    } else if (action < 78) {
        dw_kv_release(w->arena, slot);
        p->rows = 0;
    } else if (action < 85) {
        rewind_slot(w, slot, roll(p->rows + 1));
    } else if (action < 92 && !full) {
        dw_backing *backing = NULL;
        uint64_t offsets[AREAS];
        assert_int_equal(save(w, slot, &backing, offsets), DW_OK);
        assert_int_equal(dw_kv_restore(w->arena, backing, offsets, p->rows, &made, NULL), DW_OK);
        dw_backing_release(backing);
        w->slots[made] = *p;
    } else {
        close_slot(w, slot);
    }
}

static void any_tree_keeps_every_row(uint32_t row_bytes) {
    random_state = 20261123 + row_bytes;
    printf("seed %llu\n", (unsigned long long)random_state);
    world *w = world_make(row_bytes);
    for (int step = 0; step < 3000; step++) {
        random_step(w);
        if (step % 10 == 0) check_all(w);
        check_held(w);
    }
    check_all(w);
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (w->slots[i].open) close_slot(w, i);
    }
    assert_int_equal(dw_kv_held_bytes(w->arena), 0);
    world_free(w);
}

static void rows_that_divide_pages(void **state) { (void)state; any_tree_keeps_every_row(256); }
static void rows_across_page_ends(void **state) { (void)state; any_tree_keeps_every_row(384); }

static dw_kv_slot opened(world *w, uint32_t rows) {
    dw_kv_slot slot = 0;
    assert_int_equal(dw_kv_open(w->arena, &slot, NULL), DW_OK);
    w->slots[slot].open = true;
    w->slots[slot].rows = 0;
    assert_int_equal(append(w, slot, rows, 0, NULL), DW_OK);
    return slot;
}

static dw_kv_slot forked(world *w, dw_kv_slot parent, uint32_t n) {
    dw_kv_slot slot = 0;
    assert_int_equal(fork_slot(w, parent, n, &slot, NULL), DW_OK);
    w->slots[slot].open = true;
    return slot;
}

static void parent_and_child_do_not_see_each_other(void **state) {
    (void)state;
    world *w = world_make(384);
    dw_kv_slot parent = opened(w, 101), child = forked(w, parent, 101);
    assert_int_equal(append(w, parent, 20, 0, NULL), DW_OK);
    check_all(w);
    assert_int_equal(append(w, child, 30, 0, NULL), DW_OK);
    check_all(w);
    dw_kv_slot grandchild = forked(w, child, 110);
    assert_int_equal(append(w, child, 5, 0, NULL), DW_OK);
    assert_int_equal(append(w, grandchild, 50, 0, NULL), DW_OK);
    check_all(w);
    /* The parent goes back into what both others stand on, and says something else. */
    rewind_slot(w, parent, 40);
    assert_int_equal(append(w, parent, 80, 0, NULL), DW_OK);
    check_all(w);
    close_slot(w, parent);
    close_slot(w, child);
    check_all(w);
    world_free(w);
}

static void a_fork_adds_only_what_it_writes(void **state) {
    (void)state;
    world *w = world_make(256);
    dw_kv_slot parent = opened(w, 160), child = forked(w, parent, 160);
    dw_kv_use use = {0};
    assert_int_equal(dw_kv_use_now(w->arena, child, &use, NULL), DW_OK);
    assert_int_equal(use.own_bytes, 0);
    assert_int_equal(use.copied_bytes, 0);
    assert_int_equal(append(w, child, 1, 0, NULL), DW_OK);
    assert_int_equal(dw_kv_use_now(w->arena, child, &use, NULL), DW_OK);
    assert_int_equal(use.own_bytes, AREAS * dw_os_page_bytes());
    world_free(w);
}

static void many_generations_are_folded(void **state) {
    (void)state;
    world *w = world_make(256);
    dw_kv_slot slot = opened(w, 10);
    for (uint32_t i = 0; i < 3 * DW_KV_EXTENTS_MAX; i++) {
        dw_kv_slot next = forked(w, slot, w->slots[slot].rows);
        assert_int_equal(append(w, next, 3, 0, NULL), DW_OK);
        close_slot(w, slot);
        slot = next;
        dw_kv_use use = {0};
        assert_int_equal(dw_kv_use_now(w->arena, slot, &use, NULL), DW_OK);
        assert_true(use.extents <= DW_KV_EXTENTS_MAX);
        check_slot(w, slot);
    }
    world_free(w);
}

static void refusals(void **state) {
    (void)state;
    world *w = world_make(256);
    dw_kv_slot slots[SLOTS + 1], out = 77;
    for (uint32_t i = 0; i < SLOTS; i++) slots[i] = opened(w, 5);
    assert_int_equal(dw_kv_open(w->arena, &out, NULL), DW_E_LIMIT);
    assert_int_equal(dw_kv_fork(w->arena, slots[0], 3, &out, NULL), DW_E_LIMIT);
    close_slot(w, slots[1]);
    assert_int_equal(dw_kv_fork(w->arena, slots[0], 6, &out, NULL), DW_E_RANGE);
    assert_int_equal(dw_kv_fork(w->arena, slots[1], 1, &out, NULL), DW_E_INVALID);
    dw_backing *backing = NULL;
    uint64_t offsets[AREAS];
    assert_int_equal(save(w, slots[0], &backing, offsets), DW_OK);
    assert_int_equal(dw_kv_restore(w->arena, backing, offsets, CONTEXT + 1, &out, NULL), DW_E_FULL);
    assert_int_equal(dw_kv_restore(w->arena, backing, offsets, CONTEXT, &out, NULL), DW_E_TRUNCATED);
    offsets[2] += 8;
    assert_int_equal(dw_kv_restore(w->arena, backing, offsets, 5, &out, NULL), DW_E_FORMAT);
    offsets[2] = UINT64_MAX - dw_os_page_bytes() + 1;
    assert_int_equal(dw_kv_restore(w->arena, backing, offsets, 5, &out, NULL), DW_E_TRUNCATED);
    dw_backing_release(backing);
    assert_int_equal(out, 77);
    check_all(w);
    world_free(w);
}

/* --- faults -------------------------------------------------------------------------------------------------- */

/* A tree in which every kind of change has work to do: private tails, sealed prefixes, several extents. */
static void grow_tree(world *w, dw_kv_slot slots[3]) {
    slots[0] = opened(w, 60);
    slots[1] = forked(w, slots[0], 50);
    assert_int_equal(append(w, slots[1], 40, 0, NULL), DW_OK);
    slots[2] = forked(w, slots[1], 85);
    assert_int_equal(append(w, slots[2], 30, 0, NULL), DW_OK);
}

typedef dw_status (*operation)(world *w, dw_kv_slot slots[3], dw_error *err);

static dw_status fork_with_seal(world *w, dw_kv_slot slots[3], dw_error *err) {
    dw_kv_slot made;
    dw_status status = fork_slot(w, slots[2], 100, &made, err);
    if (status == DW_OK) w->slots[made].open = true;
    return status;
}

static dw_status write_after_rewind_into_shared(world *w, dw_kv_slot slots[3], dw_error *err) {
    rewind_slot(w, slots[0], 30);
    return append(w, slots[0], 25, 0, err);
}

static dw_status write_after_rewind_through_extents(world *w, dw_kv_slot slots[3], dw_error *err) {
    rewind_slot(w, slots[2], 20);
    return append(w, slots[2], 60, 0, err);
}

static dw_status restore(world *w, dw_kv_slot slots[3], dw_error *err) {
    dw_backing *backing = NULL;
    uint64_t offsets[AREAS];
    dw_kv_slot made;
    dw_status status = save(w, slots[2], &backing, offsets);
    if (status == DW_OK) status = dw_kv_restore(w->arena, backing, offsets, w->slots[slots[2]].rows, &made, err);
    if (status == DW_OK) w->slots[made] = w->slots[slots[2]];
    dw_backing_release(backing);
    return status;
}

static dw_status share_in_place(world *w, dw_kv_slot slots[3], dw_error *err) {
    rewind_slot(w, slots[1], 0);
    return share_rows(w, &slots[1], slots[2], 100, err); /* seals the donor, too */
}

static dw_status share_for_own_rows(world *w, dw_kv_slot slots[3], dw_error *err) { return share_rows(w, &slots[1], slots[2], 100, err); }

static dw_status open_one(world *w, dw_kv_slot slots[3], dw_error *err) {
    (void)slots;
    dw_kv_slot made;
    dw_status status = dw_kv_open(w->arena, &made, err);
    if (status == DW_OK) w->slots[made] = (plain){.open = true};
    return status;
}

static void every_failure_leaves_the_others_whole(void **state) {
    (void)state;
    static const struct { const char *name; operation run; } operations[] = {
        {"fork with seal", fork_with_seal}, {"write after rewind into shared rows", write_after_rewind_into_shared},
        {"write after rewind through extents", write_after_rewind_through_extents}, {"restore", restore}, {"open", open_one}, {"share in place", share_in_place}, {"share for own rows", share_for_own_rows},
    };
    for (size_t o = 0; o < sizeof operations / sizeof operations[0]; o++) {
        uint64_t k = 1;
        for (bool hit = true; hit; k++) {
            world *w = world_make(384);
            dw_kv_slot slots[3];
            grow_tree(w, slots);
            dw_fault_arm((dw_fault_plan){.kind = DW_FAULT_ANY, .k = k, .system_errno = 12 /* ENOMEM */});
            dw_error err = {0};
            dw_status status = operations[o].run(w, slots, &err);
            (void)dw_fault_disarm(&hit);
            if (!hit && status != DW_OK) fail_msg("%s: %s", operations[o].name, err.text);
            check_all(w);
            if (status != DW_OK) assert_int_equal(operations[o].run(w, slots, NULL), DW_OK); /* and it can be tried again */
            for (int i = 0; i < 3; i++) {
                assert_int_equal(append(w, slots[i], 10, 0, NULL), DW_OK);
                check_all(w);
                forked(w, slots[i], w->slots[slots[i]].rows);
            }
            check_all(w);
            world_free(w);
        }
        printf("%s: %llu calls failed in turn\n", operations[o].name, (unsigned long long)k - 2);
        assert_true(k > 2);
    }
}

int main(void) {
    if (dw_device_open("cpu", &(dw_device_options){.threads = 1}, &device, NULL) != DW_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_that_divide_pages),
        cmocka_unit_test(rows_across_page_ends),
        cmocka_unit_test(parent_and_child_do_not_see_each_other),
        cmocka_unit_test(a_fork_adds_only_what_it_writes),
        cmocka_unit_test(many_generations_are_folded),
        cmocka_unit_test(refusals),
        cmocka_unit_test(every_failure_leaves_the_others_whole),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    dw_device_close(device);
    return failed;
}

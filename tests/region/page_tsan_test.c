/* page_tsan_test.c: forks of one memory are committed, compacted and given up on several threads at once, under the
 * thread sanitizer. Each keeps what it wrote, and nothing is left in the store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/limits.h"
#include "os/os.h"
#include "region/page_compact.h"
#include "region/page_map.h"

enum { FORKS = 4, PAGES = 3000, TURNS = 60, PAGES_PER_TURN = 20, PAGE_BYTES_MAX = 65536 };

static void require(bool truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "%s\n", what);
    exit(1);
}

typedef struct fork {
    dw_page_store *store;
    dw_page_map map;
    uint32_t number;
} fork;

static void write_page(dw_page_store *store, dw_page_map *map, uint64_t at, uint32_t value) {
    static _Thread_local uint32_t data[PAGE_BYTES_MAX / sizeof(uint32_t)];
    dw_page_run run;
    dw_error err;
    data[0] = value;
    require(dw_page_store_take(store, 1, &run, &err) == DW_OK, "no page");
    require(dw_page_run_write(run, data, &err) == DW_OK, "a page is not written");
    require(dw_page_map_prepare(map, at, 1, true, &err) == DW_OK, "no room");
    require(dw_page_map_set_stored(map, at, run, &err) == DW_OK, "a page is not set");
}

static uint32_t value_at(const dw_page_map *map, uint64_t page) {
    dw_page_piece piece = dw_page_map_look(map, page);
    uint32_t value = 0;
    dw_error err;
    if (piece.backing)
        require(dw_os_read_at(dw_backing_file(piece.backing), piece.backing_offset, &value, sizeof value, &err) == DW_OK,
                "a page is not read");
    return value;
}

static void run_fork(void *argument) {
    fork *f = argument;
    dw_error err;
    for (uint32_t turn = 0; turn < TURNS; turn++) {
        for (uint32_t i = 0; i < PAGES_PER_TURN; i++)
            write_page(f->store, &f->map, (turn * PAGES_PER_TURN + i) * 7u % PAGES, f->number + 1);
        dw_page_map second = dw_page_map_share(&f->map);
        if (turn % 16 == 15) require(dw_page_map_compact(&f->map, f->store, 16, &err) == DW_OK, "not compacted");
        dw_page_map_deinit(&second);
    }
    for (uint32_t i = 0; i < TURNS * PAGES_PER_TURN; i++)
        require(value_at(&f->map, i * 7u % PAGES) == f->number + 1, "another's page");
    dw_page_map_check(&f->map);
    dw_page_map_deinit(&f->map);
}

int main(void) {
    dw_error err;
    dw_page_store *store;
    dw_page_map parent = {0};
    fork forks[FORKS];
    dw_os_thread *threads[FORKS];
    require(dw_page_store_create(&store, &err) == DW_OK, "no store");
    require(dw_page_map_resize(&parent, PAGES, &err) == DW_OK, "no map");
    for (uint64_t i = 0; i < PAGES; i++) write_page(store, &parent, i, 1000);
    for (uint32_t i = 0; i < FORKS; i++) {
        forks[i] = (fork){store, dw_page_map_share(&parent), i};
        require(dw_os_thread_create("fork", 0, run_fork, &forks[i], &threads[i], &err) == DW_OK, "no thread");
    }
    for (uint32_t i = 0; i < PAGES; i++) require(value_at(&parent, i) == 1000, "the parent's page was overwritten");
    for (uint32_t i = 0; i < FORKS; i++) dw_os_thread_join(threads[i]);
    for (uint32_t i = 0; i < PAGES; i++) require(value_at(&parent, i) == 1000, "the parent's page was overwritten");
    dw_page_map_deinit(&parent);
    dw_page_store_check(store);
    require(dw_page_store_use_now(store).taken == 0, "pages are left");
    dw_page_store_destroy(store);
    return 0;
}

/* kit.h: what tests of the store share: a model of what was committed, in memory, and random changes that are made to
 * both.
 *
 * Contents follow from a number (a seed of a page, of a row), so the model keeps numbers and compares bytes. */
#ifndef DW_TESTS_STORE_KIT_H
#define DW_TESTS_STORE_KIT_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

enum {
    KIT_ACTORS = 5,
    KIT_PAGES = 20,
    KIT_SESSIONS = 2,
    KIT_ROWS = 48,
    KIT_RECORDS = 6,
    KIT_PAST = 4,
    KIT_ROW_BYTES = 700,
    KIT_STATE_BYTES = 300,
    KIT_RECORD_BYTES = 90,
    KIT_CHANGES = 3,
    KIT_WHY_BYTES = 700
};

typedef struct kit_version {
    uint64_t turn, state;
    uint64_t pages[KIT_PAGES];                   /* 0: zeros */
    uint32_t n_rows[KIT_SESSIONS];
    uint64_t rows[KIT_SESSIONS][KIT_ROWS];
} kit_version;

typedef struct kit_actor {
    bool exists;
    kit_version now;
    uint32_t n_past;                             /* the newest first */
    kit_version past[KIT_PAST];
    uint64_t records[KIT_RECORDS];               /* 0: none */
} kit_actor;

typedef struct kit_model { kit_actor actors[KIT_ACTORS]; } kit_model;

/* A batch with everything that it points to. */
typedef struct kit_batch {
    dw_store_change changes[KIT_CHANGES];
    size_t n;
    char names[KIT_CHANGES][2][32];
    dw_store_page pages[KIT_CHANGES][KIT_PAGES];
    dw_store_rows rows[KIT_CHANGES][KIT_SESSIONS];
    dw_store_record records[KIT_CHANGES][KIT_RECORDS];
    uint8_t page_bytes[KIT_CHANGES][KIT_PAGES][DW_STORE_PAGE_BYTES];
    uint8_t row_bytes[KIT_CHANGES][KIT_SESSIONS][KIT_ROWS * KIT_ROW_BYTES];
    uint8_t state_bytes[KIT_CHANGES][KIT_STATE_BYTES];
    uint8_t record_bytes[KIT_CHANGES][KIT_RECORDS][KIT_RECORD_BYTES];
} kit_batch;

void kit_name(unsigned actor, char out[32]);
/* Removes the files of a folder; where there is none, nothing. */
void kit_empty_folder(const char *folder);
/* Bytes that follow from a number. */
void kit_fill(uint64_t seed, void *out, size_t size);
/* A random batch that the model allows, and the model after it. */
void kit_random_batch(uint64_t *random, const kit_model *before, kit_model *after, kit_batch *out);
/* A turn of one actor that writes `n_pages` pages and appends `n_rows` rows to session 0. */
void kit_turn(uint64_t *random, kit_model *model, unsigned actor, unsigned n_pages, unsigned n_rows, kit_batch *out);
/* Whether the store holds what the model says; `why` says what differs. With `past` also the turns before. A status
 * that is neither success nor the absence of an actor is a difference. */
bool kit_matches(dw_store *store, const kit_model *model, bool past, char why[KIT_WHY_BYTES]);

#endif

/* drift_kit.h: what the tests of .drift files share: states to write, files in memory, and headers edited and sealed again. */
#ifndef DW_TESTS_DRIFT_KIT_H
#define DW_TESTS_DRIFT_KIT_H

#include "checkpoint/drift.h"

/* --- random numbers: the same on every machine for one seed --- */
uint64_t kit_random(uint64_t *state);
uint64_t kit_below(uint64_t *state, uint64_t bound); /* 0 for bound 0 */

/* --- states to write --- */
typedef struct kit_state {
    dw_checkpoint_state state;        /* points into what follows */
    dw_checkpoint_session sessions[DW_SESSIONS_PER_ACTOR_MAX];
    dw_value globals[64];
    dw_table_view tables[DW_PROGRAM_CHANGED_TABLES_MAX];
    int32_t *functions[DW_PROGRAM_CHANGED_TABLES_MAX]; /* elements of the tables */
    uint8_t *memory, *mailbox, *actor, *program;
    float *logits[DW_SESSIONS_PER_ACTOR_MAX];
    int32_t *tokens[DW_SESSIONS_PER_ACTOR_MAX];
    uint8_t *kv[DW_SESSIONS_PER_ACTOR_MAX]; /* [layers, 2, rows] rows */
    uint64_t n_rows_calls;
} kit_state;

typedef struct kit_shape { uint32_t tokens, rows, layers, heads_kv, head_dim; dw_kv_type kv_type; } kit_shape;

/* A state of zeros but for its name; nothing is allocated. */
void kit_init(kit_state *kit);
void kit_set_bytes(kit_state *kit, uint64_t *random, uint64_t memory, uint64_t mailbox, uint64_t actor);
void kit_add_table(kit_state *kit, uint64_t *random, uint32_t n_elements);
/* A program, whose hash the state then names. */
void kit_set_program(kit_state *kit, uint64_t *random, uint64_t bytes);
/* Logits of a session's last row, of which it must have one; and what it may share. */
void kit_add_logits(kit_state *kit, uint64_t *random, size_t session, uint32_t n_logits);
void kit_set_sharing(kit_state *kit, size_t session, uint32_t n_prefilled, bool granted);
void kit_add_session(kit_state *kit, uint64_t *random, dw_handle handle, kit_shape shape);
/* Any legal state of moderate size: many sessions or none, odd geometries, empty sections. */
void kit_random_state(kit_state *kit, uint64_t *random);
/* The states of the corpus. */
void kit_minimal(kit_state *kit);
void kit_small(kit_state *kit);
void kit_tables(kit_state *kit); /* the small one and three tables: empty, short, longer than a page */
void kit_kv_types(kit_state *kit); /* sessions with rows of each type */
void kit_whole(kit_state *kit); /* what version 3 added: a program, logits, prefilled rows, a grant */
void kit_deinit(kit_state *kit);
/* dw_checkpoint_rows over a kit_state. */
dw_status kit_rows(void *context, size_t session, uint32_t layer, int which, const void **out, uint64_t *bytes);
/* Asserts that an open checkpoint holds exactly this state; rows are compared where the sections say they are. */
void kit_assert_holds(const dw_checkpoint *checkpoint, const kit_state *kit);

/* --- files --- */
typedef struct kit_file { uint8_t *bytes; size_t size; } kit_file;

/* A folder of this process's own below the build folder; made at the first call, and emptied by kit_remove_folder. */
const char *kit_folder(void);
void kit_path(char out[512], const char *name);
size_t kit_count_files(void);
void kit_remove_folder(void);
kit_file kit_load(const char *path);
void kit_store(const char *path, const kit_file *file);
kit_file kit_copy(const kit_file *file);
void kit_free(kit_file *file);
/* The state as a file in memory, through dw_checkpoint_write. */
kit_file kit_file_of(const kit_state *kit);
/* Opens and verifies; the status of the first that refuses. */
dw_status kit_check(const kit_file *file, dw_error *err);

/* --- headers edited by force --- */
uint64_t kit_header_bytes(const kit_file *file); /* with the length prefix */
/* Replaces the first occurrence of `from` in the header's text by `to`; the padding takes up the difference. False when it is not there. */
bool kit_edit(kit_file *file, const char *from, const char *to);
/* Makes every hash right again for what the file holds now, as far as the header can still be read by searching: a forger's work. */
void kit_seal(kit_file *file);

#endif

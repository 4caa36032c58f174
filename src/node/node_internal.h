/* node_internal.h: what the files of src/node share. Nobody else includes it. */
#ifndef DW_NODE_INTERNAL_H
#define DW_NODE_INTERNAL_H

#include "actor/keep.h"
#include "base/vec.h"
#include "node/node.h"

typedef enum dw_node_kind { DW_NODE_MESSAGE = 1, DW_NODE_ANSWER = 2 } dw_node_kind; /* of records */

/* A message in the books. */
typedef struct dw_entry {
    uint64_t number;
    char *key;                 /* owned; NULL: none */
    dw_hash body;              /* of a message with a key */
    size_t bytes;              /* of a message that waits, its body; of an answer, its reply */
} dw_entry;

typedef DW_VEC(dw_entry) dw_entries; /* ascending by number */

/* An actor that the node knows of: its books, and the actor itself while it is awake. */
typedef struct dw_resident {
    struct dw_resident *next;  /* the one used before it */
    dw_node *node;
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_actor *actor;           /* NULL: asleep */
    dw_entries waiting;        /* on disk, not handled */
    dw_entries answers;        /* on disk */
    uint64_t last;             /* the highest number that was given */
    uint64_t handled;          /* the message whose handling was kept last */
    const dw_entry *asked;     /* the message of an ask that runs, which is not on disk; NULL: none */
} dw_resident;

struct dw_node {
    char folder[DW_OS_PATH_BYTES];
    dw_store *store;
    dw_runtime *runtime;
    dw_resident *residents;    /* the one used last first */
    uint32_t n_residents, awake_max;
};

/* books.c */
void dw_entry_deinit(dw_entry *entry);
/* Takes the entry over, also when it fails. It is the last one. */
dw_status dw_entries_add(dw_entries *entries, dw_entry entry, dw_error *err) DW_MUST_USE;
/* Room for one more, so that the next add cannot fail. */
dw_status dw_entries_reserve(dw_entries *entries, dw_error *err) DW_MUST_USE;
void dw_entries_remove(dw_entries *entries, size_t index);
void dw_entries_deinit(dw_entries *entries);
const dw_entry *dw_entries_with_key(const dw_entries *entries, const char *key);
const dw_entry *dw_entries_numbered(const dw_entries *entries, uint64_t number);
/* An entry of a message: copies. */
dw_status dw_entry_of(const dw_node_message *message, uint64_t number, dw_entry *out, dw_error *err) DW_MUST_USE;
dw_status dw_entry_copy(const dw_entry *entry, dw_entry *out, dw_error *err) DW_MUST_USE;
/* Reads an actor's books from its records; `state` knows numbers too. */
dw_status dw_books_read(dw_resident *resident, const dw_blob *state, dw_error *err) DW_MUST_USE;

/* records.c: records as bytes. Untrusted when read. */
typedef struct dw_message_record {
    uint64_t realtime_ns;
    const uint8_t *key, *body; /* borrowed */
    uint32_t key_bytes, size;
} dw_message_record;
typedef struct dw_answer_record {
    const uint8_t *key, *text; /* borrowed */
    uint32_t key_bytes, size;
    dw_hash body;
    dw_status status;
    uint64_t turn;
} dw_answer_record;
dw_status dw_message_record_encode(const dw_message_record *record, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_message_record_decode(const void *data, size_t size, dw_message_record *out, dw_error *err) DW_MUST_USE;
dw_status dw_answer_record_encode(const dw_answer_record *record, uint8_t **out, size_t *size) DW_MUST_USE;
dw_status dw_answer_record_decode(const void *data, size_t size, dw_answer_record *out, dw_error *err) DW_MUST_USE;

/* residents.c */
/* The actor's resident, with its books, asleep or awake; DW_E_NOT_FOUND. Borrowed until another one is looked for. */
dw_status dw_node_resident(dw_node *node, const char *name, dw_resident **out, dw_error *err) DW_MUST_USE;
/* Wakes it if need be. */
dw_status dw_node_wake(dw_resident *resident, dw_error *err) DW_MUST_USE;
/* Forgets what is in memory of it. */
void dw_node_let_go(dw_resident *resident);
/* The state that the store has; the view is closed by the caller. */
dw_status dw_node_view(dw_node *node, const char *name, dw_store_view **view, dw_blob **state,
                       dw_error *err) DW_MUST_USE;
/* DIR/programs/HASH.wasm */
dw_status dw_node_program_path(const dw_node *node, const dw_hash *hash, char out[DW_OS_PATH_BYTES],
                               dw_error *err) DW_MUST_USE;

/* keeper.c */
dw_keeper dw_node_keeper(dw_node *node);
/* A birth with the records that come with it. */
dw_status dw_node_create(dw_node *node, const char *name, const dw_actor_change *birth, const dw_store_record *records,
                         size_t n_records, dw_error *err) DW_MUST_USE;
/* A status of the store: what it refuses for reasons that are none of the node's caller's is a failure. */
dw_status dw_node_blame(dw_status status, dw_error *err) DW_MUST_USE;
/* A commit that is on disk when this returns. */
dw_status dw_node_commit(dw_node *node, const dw_store_change *changes, size_t n, dw_error *err) DW_MUST_USE;

#endif

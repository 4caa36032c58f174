/* kit.h: a node in an empty folder, counters in it, and messages in one line. */
#ifndef DW_TESTS_NODE_KIT_H
#define DW_TESTS_NODE_KIT_H

#include "actor/fixture_model.h"
#include "node/node.h"

typedef struct kit {
    fixture *f;
    dw_program *counter;
    dw_node *node;
    char folder[512];
    dw_error err;
} kit;

/* A group's setup is fixture_setup_with_model. Then kit_begin and kit_end in each test. */
void kit_begin(kit *k, void **state, const char *name);
void kit_end(kit *k);
/* Closed and opened again: another process, as far as the folder can tell. */
void kit_reopen(kit *k, uint32_t awake_max);
/* The number that a counter answers. */
long kit_add(kit *k, const char *name, const char *text, const char *key);
dw_status kit_ask(kit *k, const char *name, const void *body, size_t size, const char *key, dw_node_answer *answer);
uint64_t kit_send(kit *k, const char *name, const char *text, const char *key);
uint64_t kit_turn(kit *k, const char *name);
uint32_t kit_waiting(kit *k, const char *name);

#endif

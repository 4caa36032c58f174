/* kit.c: see kit.h */
#include "node/kit.h"

#include <stdio.h>
#include <stdlib.h>

#include "os/os.h"
#include "support/traps.h"

static bool remove_file(void *context, const char *name) {
    char path[1024];
    dw_error err;
    snprintf(path, sizeof path, "%s/%s", (const char *)context, name);
    if (dw_os_remove(path, &err) != DW_OK) print_message("%s\n", err.text);
    return true;
}

/* The files of an earlier run. */
static void empty_folder(const char *folder) {
    dw_error err;
    if (dw_os_exists(folder)) assert_ok(dw_os_list(folder, remove_file, (void *)(uintptr_t)folder, &err), err);
}

void kit_begin(kit *k, void **state, const char *name) {
    char part[600];
    test_handle_traps(); /* cmocka takes the handlers for itself at each test */
    *k = (kit){.f = *state};
    fixture_path(k->f, name, k->folder);
    snprintf(part, sizeof part, "%s/store", k->folder);
    empty_folder(part);
    snprintf(part, sizeof part, "%s/programs", k->folder);
    empty_folder(part);
    assert_ok(dw_runtime_load_program(k->f->runtime, DW_TEST_PROGRAMS "/counter.wasm", &k->counter, &k->err), k->err);
    kit_reopen(k, 0);
}

void kit_end(kit *k) {
    assert_ok(dw_node_verify(k->node, &k->err), k->err);
    assert_ok(dw_node_close(k->node, &k->err), k->err);
    dw_program_release(k->counter);
}

void kit_reopen(kit *k, uint32_t awake_max) {
    const dw_node_options options = {.awake_max = awake_max};
    dw_status closed = dw_node_close(k->node, &k->err);
    if (closed != DW_E_IO) assert_ok(closed, k->err); /* a sync that had failed is told once more */
    assert_ok(dw_node_open(k->folder, &options, &k->node, &k->err), k->err);
    dw_node_live_in(k->node, k->f->runtime);
}

dw_status kit_ask(kit *k, const char *name, const void *body, size_t size, const char *key, dw_node_answer *answer) {
    const dw_node_message message = {.body = body, .size = size, .key = key};
    return dw_node_ask(k->node, name, &message, UINT64_MAX, NULL, answer, &k->err);
}

long kit_add(kit *k, const char *name, const char *text, const char *key) {
    dw_node_answer answer;
    assert_ok(kit_ask(k, name, text, strlen(text), key, &answer), k->err);
    long number = strtol(answer.turn.reply, NULL, 10);
    free(answer.turn.reply);
    return number;
}

uint64_t kit_send(kit *k, const char *name, const char *text, const char *key) {
    const dw_node_message message = {.body = text, .size = strlen(text), .key = key};
    uint64_t number = 0;
    bool known = false;
    assert_ok(dw_node_send(k->node, name, &message, &number, &known, &k->err), k->err);
    return number;
}

uint64_t kit_turn(kit *k, const char *name) {
    dw_node_info info;
    assert_ok(dw_node_look(k->node, name, &info, &k->err), k->err);
    uint64_t turn = dw_blob_view(info.state)->turn;
    dw_node_info_deinit(&info);
    return turn;
}

uint32_t kit_waiting(kit *k, const char *name) {
    dw_node_info info;
    assert_ok(dw_node_look(k->node, name, &info, &k->err), k->err);
    uint32_t n = info.waiting;
    dw_node_info_deinit(&info);
    return n;
}

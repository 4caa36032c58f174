/* drift_make.c: writes .drift files for tests in other languages, and the corpus.
 *
 *     drift_make corpus FOLDER   least.drift and whole.drift, always the same bytes. The other files of the corpus are of versions 1 and 2, which nothing writes any more
 *     drift_make dump FOLDER     actor.drift, and what went into each of its sections as FOLDER/<section>.bin, without padding
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"

static const char *out_folder;

static void must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "drift_make: %s\n", err->text);
    exit(1);
}

static void write_drift(const char *name, kit_state *kit) {
    char path[1024];
    dw_error err = {0};
    (void)snprintf(path, sizeof path, "%s/%s", out_folder, name);
    must(dw_checkpoint_write(path, &kit->state, kit_rows, kit, NULL, &err), &err);
}

static void dump(const char *section, const void *data, uint64_t size) {
    char path[1024];
    dw_error err = {0};
    (void)snprintf(path, sizeof path, "%s/%s.bin", out_folder, section);
    must(dw_os_write_file(path, data, (size_t)size, &err), &err);
}

static void dump_session(kit_state *kit, size_t index) {
    char name[64];
    const dw_checkpoint_session *session = &kit->sessions[index];
    (void)snprintf(name, sizeof name, "tokens.%" PRIu32, session->handle);
    dump(name, session->tokens, session->n_tokens * sizeof *session->tokens);
    (void)snprintf(name, sizeof name, "logits.%" PRIu32, session->handle);
    if (session->n_logits > 0) dump(name, session->logits, session->n_logits * sizeof *session->logits);
    for (uint32_t layer = 0; layer < session->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            const void *rows;
            uint64_t bytes;
            dw_error err = {0};
            (void)snprintf(name, sizeof name, "kv.%" PRIu32 ".%c.%" PRIu32, session->handle, which ? 'v' : 'k', layer);
            must(kit_rows(kit, index, layer, which, &rows, &bytes), &err);
            dump(name, rows, bytes);
        }
    }
}

static void make_dump(void) {
    kit_state kit;
    uint64_t random = 11;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 3 * DW_WASM_PAGE_BYTES, 5000, 321);
    kit_add_table(&kit, &random, 5000);
    kit_add_table(&kit, &random, 0);
    kit_add_session(&kit, &random, 65537, (kit_shape){.tokens = 130, .rows = 129, .layers = 3, .heads_kv = 1, .head_dim = 256});
    kit_add_session(&kit, &random, 131074, (kit_shape){.tokens = 9, .rows = 7, .layers = 2, .heads_kv = 3, .head_dim = 80});
    kit_add_session(&kit, &random, 196611, (kit_shape){.tokens = 2, .rows = 0, .layers = 1, .heads_kv = 2, .head_dim = 64});
    kit_add_session(&kit, &random, 262148, (kit_shape){.tokens = 90, .rows = 89, .layers = 2, .heads_kv = 2, .head_dim = 96, .kv_type = DW_KV_Q8_0});
    kit_add_session(&kit, &random, 327685, (kit_shape){.tokens = 50, .rows = 49, .layers = 1, .heads_kv = 5, .head_dim = 48, .kv_type = DW_KV_BF16});
    kit_set_program(&kit, &random, 20000);
    kit_add_session(&kit, &random, 393222, (kit_shape){.tokens = 7, .rows = 7, .layers = 1, .heads_kv = 1, .head_dim = 64});
    kit_set_sharing(&kit, 5, 6, true);
    kit_add_logits(&kit, &random, 5, 5000);
    write_drift("actor.drift", &kit);
    dump("memory.0", kit.memory, kit.state.memory_bytes);
    dump("table.0", kit.functions[0], kit.tables[0].n_elements * sizeof(int32_t));
    dump("table.1", kit.functions[1], 0);
    dump("mailbox", kit.mailbox, kit.state.mailbox_bytes);
    dump("actor", kit.actor, kit.state.actor_bytes);
    dump("program", kit.program, kit.state.program_bytes);
    for (size_t i = 0; i < kit.state.n_sessions; i++) dump_session(&kit, i);
    kit_deinit(&kit);
}

static void make_corpus(void) {
    kit_state kit;
    kit_minimal(&kit);
    write_drift("least.drift", &kit);
    kit_deinit(&kit);
    kit_whole(&kit);
    write_drift("whole.drift", &kit);
    kit_deinit(&kit);
}

int main(int argc, char **argv) {
    dw_error err = {0};
    if (argc != 3 || (strcmp(argv[1], "corpus") != 0 && strcmp(argv[1], "dump") != 0)) {
        fprintf(stderr, "usage: drift_make corpus|dump FOLDER\n");
        return 2;
    }
    out_folder = argv[2];
    must(dw_os_make_folders(out_folder, &err), &err);
    if (strcmp(argv[1], "corpus") == 0) make_corpus();
    else make_dump();
    return 0;
}

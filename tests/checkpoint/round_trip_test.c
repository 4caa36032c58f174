/* round_trip_test.c: what was written is what is read. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/test.h"
#include "checkpoint/drift_kit.h"

static void write_and_compare(const kit_state *kit, unsigned threads) {
    char path[512];
    dw_error err = {0};
    dw_checkpoint_report report;
    dw_checkpoint *checkpoint = NULL;
    kit_path(path, "round.drift");
    assert_ok(dw_checkpoint_write(path, &kit->state, kit_rows, (void *)(uintptr_t)kit, &report, &err), err);
    assert_ok(dw_checkpoint_open(path, &checkpoint, &err), err);
    assert_false(dw_checkpoint_is_verified(checkpoint));
    assert_ok(dw_checkpoint_verify(checkpoint, threads, &err), err);
    assert_true(dw_checkpoint_is_verified(checkpoint));
    kit_assert_holds(checkpoint, kit);
    assert_true(dw_hash_equal(dw_checkpoint_identity(checkpoint), &report.identity));
    assert_int_equal(dw_checkpoint_file_bytes(checkpoint), report.file_bytes);
    assert_non_null(dw_checkpoint_backing(checkpoint));
    dw_checkpoint_close(checkpoint);
    assert_int_equal(kit_count_files(), 1); /* no temporary file is left */
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
}

static void random_states_come_back_as_they_were(void **unused) {
    (void)unused;
    uint64_t seed = test_seed(dw_os_monotonic_ns());
    for (int i = 0; i < 60; i++) {
        kit_state kit;
        kit_random_state(&kit, &seed);
        write_and_compare(&kit, (unsigned)i % 5);
        kit_deinit(&kit);
    }
}

static void the_smallest_state_comes_back(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 3;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 0, 0);
    write_and_compare(&kit, 1);
    kit_deinit(&kit);
}

static void as_many_tables_as_a_program_may_change_come_back(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 14;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 1, 1);
    for (uint32_t i = 0; i < DW_PROGRAM_CHANGED_TABLES_MAX; i++) kit_add_table(&kit, &random, i == 3 ? DW_PROGRAM_TABLE_ELEMENTS_MAX : i);
    kit_add_session(&kit, &random, 7, (kit_shape){.tokens = 3, .rows = 3, .layers = 2, .heads_kv = 1, .head_dim = 64});
    write_and_compare(&kit, 2);
    kit_deinit(&kit);
}

static void as_many_sessions_as_an_actor_may_have_come_back(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 4;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, DW_WASM_PAGE_BYTES, 1, 1);
    for (uint32_t i = 0; i < DW_SESSIONS_PER_ACTOR_MAX; i++)
        kit_add_session(&kit, &random, UINT32_MAX - i, (kit_shape){.tokens = 3, .rows = i % 4, .layers = 2, .heads_kv = 1, .head_dim = 64});
    write_and_compare(&kit, 2);
    kit_deinit(&kit);
}

/* The header's own bounds must hold what the limits of a state allow. */
static void as_many_sections_as_a_file_may_have_come_back_and_one_more_is_refused(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 9;
    char path[512];
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 0, 0);
    kit_add_table(&kit, &random, 1);
    for (uint32_t i = 0; i < 33; i++) /* 4 + 1 + 33 + 2 * (31 * 1024 + 502 + 503) = 65,536 */
        kit_add_session(&kit, &random, UINT32_MAX - i, (kit_shape){.layers = i < 31 ? 1024 : 471 + i, .heads_kv = 1024, .head_dim = 256});
    assert_int_equal(dw_drift_count_sections(&kit.state), DW_DRIFT_TENSORS_MAX);
    write_and_compare(&kit, 2);
    kit.sessions[32].n_layers++;
    kit_path(path, "many.drift");
    assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, NULL), DW_E_LIMIT);
    kit_deinit(&kit);
}

static void every_section_begins_on_a_page_without_holes(void **unused) {
    (void)unused;
    uint64_t random = 5;
    for (int i = 0; i < 10; i++) {
        kit_state kit;
        kit_random_state(&kit, &random);
        kit_file file = kit_file_of(&kit);
        dw_checkpoint *checkpoint = NULL;
        dw_error err = {0};
        assert_ok(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, &err), err);
        const dw_checkpoint_section *sections;
        size_t n = dw_checkpoint_sections(checkpoint, &sections);
        uint64_t offset = kit_header_bytes(&file);
        for (size_t k = 0; k < n; k++) {
            assert_int_equal(sections[k].offset, offset);
            assert_int_equal(offset % DW_DRIFT_PAGE_BYTES, 0);
            assert_true(sections[k].used_bytes <= sections[k].bytes);
            offset += sections[k].bytes;
        }
        assert_int_equal(offset, file.size);
        dw_checkpoint_close(checkpoint);
        kit_free(&file);
        kit_deinit(&kit);
    }
}

/* Rows of 480 bytes fit pages only 512 at a time. */
static void odd_rows_are_padded_to_whole_rows_and_whole_pages(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 6;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 0, 0);
    kit_add_session(&kit, &random, 7, (kit_shape){.tokens = 600, .rows = 513, .layers = 1, .heads_kv = 3, .head_dim = 80});
    kit_file file = kit_file_of(&kit);
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    assert_int_equal(dw_checkpoint_sections(checkpoint, &sections), 7);
    assert_string_equal(sections[2].name, "kv.7.k.0");
    assert_string_equal(sections[2].dtype, "F16");
    assert_int_equal(sections[2].shape[0], 1024);
    assert_int_equal(sections[2].shape[1], 3);
    assert_int_equal(sections[2].shape[2], 80);
    assert_int_equal(sections[2].used_bytes, 513 * 480);
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
    kit_deinit(&kit);
}

/* Blocks of 34 bytes have no dtype in safetensors: rows of bytes, 17 pages at least. */
static void rows_of_blocks_are_rows_of_bytes(void **unused) {
    (void)unused;
    static const struct { dw_kv_type type; const char *dtype; uint32_t n_dims; uint64_t shape[3], used; } cases[] = {
        {DW_KV_F16, "F16", 3, {128, 2, 96}, 5 * 384},
        {DW_KV_BF16, "BF16", 3, {128, 2, 96}, 5 * 384},
        {DW_KV_Q8_0, "U8", 2, {4096, 204, 0}, 5 * 204},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kit_state kit;
        uint64_t random = 6;
        kit_init(&kit);
        kit_set_bytes(&kit, &random, 0, 0, 0);
        kit_add_session(&kit, &random, 7, (kit_shape){.tokens = 6, .rows = 5, .layers = 1, .heads_kv = 2, .head_dim = 96, .kv_type = cases[i].type});
        kit_file file = kit_file_of(&kit);
        dw_checkpoint *checkpoint = NULL;
        assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
        const dw_checkpoint_section *sections;
        (void)dw_checkpoint_sections(checkpoint, &sections);
        assert_int_equal(dw_checkpoint_version(checkpoint), DW_DRIFT_VERSION);
        assert_string_equal(sections[2].dtype, cases[i].dtype);
        assert_int_equal(sections[2].n_dims, cases[i].n_dims);
        for (uint32_t d = 0; d < cases[i].n_dims; d++) assert_int_equal(sections[2].shape[d], cases[i].shape[d]);
        assert_int_equal(sections[2].used_bytes, cases[i].used);
        kit_assert_holds(checkpoint, &kit);
        dw_checkpoint_close(checkpoint);
        kit_free(&file);
        kit_deinit(&kit);
    }
}

static void zero_runs_occupy_no_disk(void **unused) {
    (void)unused;
    enum { MEMORY_BYTES = 64 << 20 };
    char path[512];
    kit_state kit;
    uint64_t random = 7;
    dw_checkpoint_report report;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 0, 10);
    free(kit.memory);
    kit.state.memory = kit.memory = calloc(1, MEMORY_BYTES);
    kit.state.memory_bytes = MEMORY_BYTES;
    kit.memory[30 << 20] = 1;
    kit_path(path, "sparse.drift");
    assert_int_equal(dw_checkpoint_write(path, &kit.state, NULL, NULL, &report, NULL), DW_OK);
    assert_true(report.file_bytes > MEMORY_BYTES);
    assert_true(report.occupied_bytes < (4 << 20));
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    write_and_compare(&kit, 1);
    kit_deinit(&kit);
}

static void equal_states_give_equal_files(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    kit_file first = kit_file_of(&kit), second = kit_file_of(&kit);
    assert_int_equal(first.size, second.size);
    assert_memory_equal(first.bytes, second.bytes, first.size);
    kit_free(&first);
    kit_free(&second);
    kit_deinit(&kit);
}

static void files_of_every_version_are_read_as_they_were_written(void **unused) {
    (void)unused;
    static const struct { const char *name; uint32_t version; void (*make)(kit_state *); } kept[] = {
        {"minimal", 1, kit_minimal}, {"small", 1, kit_small}, {"tables", 1, kit_tables}, {"kv_types", 2, kit_kv_types}, {"least", 3, kit_minimal}, {"whole", 3, kit_whole}};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
        char path[512];
        kit_state kit;
        dw_checkpoint *checkpoint = NULL;
        dw_error err = {0};
        (void)snprintf(path, sizeof path, "%s/tests/checkpoint/corpus/%s.drift", DW_TEST_SOURCE, kept[i].name);
        kept[i].make(&kit);
        if (dw_checkpoint_open(path, &checkpoint, &err) != DW_OK || dw_checkpoint_verify(checkpoint, 1, &err) != DW_OK) fail_msg("%s", err.text);
        assert_int_equal(dw_checkpoint_version(checkpoint), kept[i].version);
        kit_assert_holds(checkpoint, &kit);
        dw_checkpoint_close(checkpoint);
        if (kept[i].version == DW_DRIFT_VERSION) {
            kit_file now = kit_file_of(&kit), then = kit_load(path);
            assert_int_equal(now.size, then.size);
            assert_memory_equal(now.bytes, then.bytes, then.size);
            kit_free(&now);
            kit_free(&then);
        }
        kit_deinit(&kit);
    }
}

static void a_program_that_is_not_the_states_is_not_written(void **unused) {
    (void)unused;
    char path[512];
    kit_state kit;
    dw_error err = {0};
    kit_whole(&kit);
    kit.state.program.bytes[0] ^= 1;
    kit_path(path, "other.drift");
    assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, &err), DW_E_INVALID);
    assert_non_null(strstr(err.text, "section program"));
    kit.state.program.bytes[0] ^= 1;
    kit.logits[0][5] = NAN;
    assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, &err), DW_E_INVALID);
    assert_non_null(strstr(err.text, "section logits.65537"));
    kit_deinit(&kit);
}

/* A name that was cut in the middle of a character, or that carries terminal codes, is no reason not to freeze. */
static void an_odd_model_name_is_cleaned_not_refused(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 8;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 0, 0, 0);
    kit_add_session(&kit, &random, 9, (kit_shape){.layers = 1, .heads_kv = 1, .head_dim = 1});
    (void)snprintf(kit.sessions[0].model_name, sizeof kit.sessions[0].model_name, "G\x1b[31m\xe2\x82");
    kit_file file = kit_file_of(&kit);
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
    assert_string_equal(dw_checkpoint_view(checkpoint)->sessions[0].model_name, "G?[31m??");
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
    kit_deinit(&kit);
}

static dw_status short_rows(void *context, size_t session, uint32_t layer, int which, const void **out, uint64_t *bytes) {
    dw_status status = kit_rows(context, session, layer, which, out, bytes);
    *bytes -= 2;
    return status;
}

static void a_writer_given_too_few_rows_refuses_and_leaves_nothing(void **unused) {
    (void)unused;
    char path[512];
    kit_state kit;
    dw_error err;
    kit_small(&kit);
    kit_path(path, "short.drift");
    assert_int_equal(dw_checkpoint_write(path, &kit.state, short_rows, &kit, NULL, &err), DW_E_INVALID);
    assert_non_null(strstr(err.text, "kv.65537.k.0"));
    assert_int_equal(kit_count_files(), 0);
    kit_deinit(&kit);
}

/* Each breaks one rule of a state. */
static void break_name(kit_state *kit) { kit->state.actor_name[0] = '\0'; }
static void break_name_text(kit_state *kit) { kit->state.actor_name[0] = '\n'; }
static void break_name_utf8(kit_state *kit) { kit->state.actor_name[0] = '\xff'; }
static void break_memory(kit_state *kit) { kit->state.memory_bytes = 4096; }
static void break_memory_limit(kit_state *kit) { kit->state.memory_bytes = DW_GUEST_MEMORY_BYTES_MAX + DW_WASM_PAGE_BYTES; }
static void break_mailbox_limit(kit_state *kit) { kit->state.mailbox_bytes = DW_DRIFT_STATE_BYTES_MAX + 1; }
static void break_global_type(kit_state *kit) { kit->globals[0].type = 5; kit->state.n_globals = 1; }
static void break_global_bits(kit_state *kit) { kit->globals[0] = (dw_value){.type = DW_VALUE_I32, .bits = {[4] = 1}}; kit->state.n_globals = 1; }
static void break_table_count(kit_state *kit) { kit->state.n_tables = DW_PROGRAM_CHANGED_TABLES_MAX + 1; }
static void break_table_size(kit_state *kit) { kit->tables[0].n_elements = DW_PROGRAM_TABLE_ELEMENTS_MAX + 1; kit->state.n_tables = 1; }
static const int32_t bad_function = -2;
static void break_function(kit_state *kit) { kit->tables[0] = (dw_table_view){&bad_function, 1}; kit->state.n_tables = 1; }
static void break_handle(kit_state *kit) { kit->sessions[0].handle = 0; }
static void break_handles(kit_state *kit) { kit->sessions[1].handle = kit->sessions[0].handle; }
static void break_rows(kit_state *kit) { kit->sessions[0].n_rows = kit->sessions[0].n_tokens + 1; }
static void break_layers(kit_state *kit) { kit->sessions[0].n_layers = 0; }
static void break_layer_limit(kit_state *kit) { kit->sessions[0].n_layers = DW_LAYERS_MAX + 1; }
static void break_row_unit(kit_state *kit) { kit->sessions[0].head_dim = 33333; kit->sessions[0].n_heads_kv = 3; }
static void break_kv_type(kit_state *kit) { kit->sessions[0].kv_type = (dw_kv_type)DW_KV_TYPES; }
static void break_kv_block(kit_state *kit) { kit->sessions[0].kv_type = DW_KV_Q8_0; kit->sessions[0].head_dim = 48; }
static void break_token(kit_state *kit) { kit->tokens[0][0] = -1; }

static void a_state_that_breaks_a_rule_is_not_written(void **unused) {
    (void)unused;
    static const struct { void (*break_it)(kit_state *); dw_status status; const char *named; } cases[] = {
        {break_name, DW_E_INVALID, "actor.name"}, {break_name_text, DW_E_INVALID, "actor.name"}, {break_name_utf8, DW_E_INVALID, "actor.name"},
        {break_memory, DW_E_INVALID, "memory.bytes"}, {break_memory_limit, DW_E_LIMIT, "memory.bytes"}, {break_mailbox_limit, DW_E_LIMIT, "mailbox.bytes"},
        {break_global_type, DW_E_INVALID, "globals"}, {break_global_bits, DW_E_INVALID, "globals"}, {break_handle, DW_E_INVALID, "sessions"},
        {break_table_count, DW_E_LIMIT, "tables"}, {break_table_size, DW_E_LIMIT, "tables"}, {break_function, DW_E_INVALID, "table.0"},
        {break_handles, DW_E_INVALID, "sessions"}, {break_rows, DW_E_INVALID, "session.65537"}, {break_layers, DW_E_INVALID, "session.65537"},
        {break_layer_limit, DW_E_LIMIT, "session.65537"}, {break_row_unit, DW_E_LIMIT, "session.65537"}, {break_token, DW_E_INVALID, "tokens.65537"},
        {break_kv_type, DW_E_INVALID, "session.65537"}, {break_kv_block, DW_E_INVALID, "session.65537"}};
    char path[512];
    kit_path(path, "broken.drift");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        kit_state kit;
        dw_error err = {0};
        kit_small(&kit);
        cases[i].break_it(&kit);
        assert_int_equal(dw_checkpoint_write(path, &kit.state, kit_rows, &kit, NULL, &err), cases[i].status);
        if (!strstr(err.text, cases[i].named)) fail_msg("\"%s\" does not name %s", err.text, cases[i].named);
        assert_int_equal(kit_count_files(), 0);
        kit.state.n_tables = 0; /* they were only claimed */
        kit_deinit(&kit);
    }
}

static int clean_up(void **unused) {
    (void)unused;
    kit_remove_folder();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_states_come_back_as_they_were),
        cmocka_unit_test(the_smallest_state_comes_back),
        cmocka_unit_test(as_many_tables_as_a_program_may_change_come_back),
        cmocka_unit_test(as_many_sessions_as_an_actor_may_have_come_back),
        cmocka_unit_test(as_many_sections_as_a_file_may_have_come_back_and_one_more_is_refused),
        cmocka_unit_test(every_section_begins_on_a_page_without_holes),
        cmocka_unit_test(odd_rows_are_padded_to_whole_rows_and_whole_pages),
        cmocka_unit_test(rows_of_blocks_are_rows_of_bytes),
        cmocka_unit_test(zero_runs_occupy_no_disk),
        cmocka_unit_test(equal_states_give_equal_files),
        cmocka_unit_test(files_of_every_version_are_read_as_they_were_written),
        cmocka_unit_test(a_program_that_is_not_the_states_is_not_written),
        cmocka_unit_test(an_odd_model_name_is_cleaned_not_refused),
        cmocka_unit_test(a_writer_given_too_few_rows_refuses_and_leaves_nothing),
        cmocka_unit_test(a_state_that_breaks_a_rule_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, clean_up);
}

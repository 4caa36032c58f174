/* forgery_test.c: a file whose hashes are right but which says what no checkpoint may say. Hashes show damage, not intent: what a
 * header claims is checked against the rules and against the file. Each case edits the header's text and seals it again. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"

static kit_file old_small, old_kv_types, whole, small, tables, kv_types;

static int make_file(void **unused) {
    (void)unused;
    kit_state kit;
    kit_small(&kit);
    small = kit_file_of(&kit);
    kit_deinit(&kit);
    kit_tables(&kit);
    tables = kit_file_of(&kit);
    kit_deinit(&kit);
    kit_kv_types(&kit);
    kv_types = kit_file_of(&kit);
    kit_deinit(&kit);
    kit_whole(&kit);
    whole = kit_file_of(&kit);
    kit_deinit(&kit);
    old_small = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/small.drift");
    old_kv_types = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/kv_types.drift");
    return 0;
}

static int clean_up(void **unused) {
    (void)unused;
    kit_free(&small);
    kit_free(&tables);
    kit_free(&kv_types);
    kit_free(&whole);
    kit_free(&old_small);
    kit_free(&old_kv_types);
    kit_remove_folder();
    return 0;
}

typedef struct forgery { const char *from, *to; dw_status status; const char *named; } forgery;

static void assert_forgery_of_refused(const kit_file *original, const forgery *attempt) {
    kit_file file = kit_copy(original);
    dw_error err = {0};
    if (!kit_edit(&file, attempt->from, attempt->to)) fail_msg("the header does not hold %s", attempt->from);
    kit_seal(&file);
    dw_status status = kit_check(&file, &err);
    if (status != attempt->status) fail_msg("%s -> %s: %s (%s), not %s", attempt->from, attempt->to, dw_status_name(status), err.text, dw_status_name(attempt->status));
    if (!strstr(err.text, attempt->named)) fail_msg("%s -> %s: \"%s\" does not name %s", attempt->from, attempt->to, err.text, attempt->named);
    kit_free(&file);
}

static void assert_forgery_refused(const forgery *attempt) { assert_forgery_of_refused(&small, attempt); }

static void assert_all_refused(const forgery *attempts, size_t n) {
    for (size_t i = 0; i < n; i++) assert_forgery_refused(&attempts[i]);
}
#define ASSERT_ALL_REFUSED(...)                                                    \
    do {                                                                           \
        static const forgery attempts[] = {__VA_ARGS__};                           \
        assert_all_refused(attempts, sizeof attempts / sizeof attempts[0]);        \
    } while (0)

/* The control of all others: the tool that forges is able to make a good file. */
static void a_sealed_edit_of_something_harmless_is_accepted(void **unused) {
    (void)unused;
    kit_file file = kit_copy(&small);
    dw_checkpoint *checkpoint = NULL;
    assert_true(kit_edit(&file, "\"actor.name\":\"kit\"", "\"actor.name\":\"somebody \\u20ac\""));
    kit_seal(&file);
    assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
    assert_int_equal(dw_checkpoint_verify(checkpoint, 1, NULL), DW_OK);
    assert_string_equal(dw_checkpoint_view(checkpoint)->actor_name, "somebody \xe2\x82\xac");
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
}

static void a_newer_version_is_refused_as_newer(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"version\":\"3\"", "\"version\":\"4\"", DW_E_VERSION, "version 4"},
        /* whatever else is new in it */
        {"\"version\":\"3\",\"base\"", "\"version\":\"10\",\"basis\"", DW_E_VERSION, "version 10"},
        {"\"version\":\"3\"", "\"version\":\"0\"", DW_E_FORMAT, "version"},
        {"\"version\":\"3\"", "\"version\":\"\"", DW_E_FORMAT, "version"},
        {"\"version\":\"3\"", "\"version\":\"03\"", DW_E_FORMAT, "version"},
        {"\"version\":\"3\"", "\"version\":\" 3\"", DW_E_FORMAT, "version"},
        {"\"version\":\"3\"", "\"version\":3", DW_E_FORMAT, "version"},
        {"\"version\":\"3\",", "", DW_E_FORMAT, "version"});
}

static void another_format_is_refused(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"format\":\"drift\"", "\"format\":\"pt\"", DW_E_FORMAT, "format"},
        {"\"format\":\"drift\",", "", DW_E_FORMAT, "format"},
        {"\"format\":\"drift\"", "\"format\":null", DW_E_FORMAT, "format"});
}

static void unknown_entries_and_sections_are_refused(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"turn\":", "\"extra\":\"\",\"turn\":", DW_E_FORMAT, "extra"},
        {"\"turn\":", "\"hash.logits.1\":\"\",\"turn\":", DW_E_FORMAT, "hash.logits.1"},
        {"\"turn\":", "\"bad\\u001b\\nname\":\"\",\"turn\":", DW_E_FORMAT, "bad??name"},
        {"\\\"mode\\\":", "\\\"extra\\\":\\\"\\\",\\\"mode\\\":", DW_E_FORMAT, "extra"},
        {"\\\"random_counter\\\":", "\\\"x\\\":\\\"\\\",\\\"random_counter\\\":", DW_E_FORMAT, "wasi: \"x\""},
        {"\"mailbox\":{", "\"extra\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},\"mailbox\":{", DW_E_FORMAT, "section \"extra\""},
        {"\"mailbox\":{", "\"mailbox\":{\"comment\":1,", DW_E_FORMAT, "section mailbox"});
}

static void missing_entries_and_sections_are_refused(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"program\":", "\"programs\":", DW_E_FORMAT, "program"},
        {"\"globals\":", "\"global\":", DW_E_FORMAT, "globals"},
        {"\"session.65537\":", "\"session.65538\":", DW_E_FORMAT, "session.65537"},
        {"\"hash.mailbox\":", "\"hash.mailbag\":", DW_E_FORMAT, "hash.mailbox"},
        {"\\\"head_dim\\\":", "\\\"head_size\\\":", DW_E_FORMAT, "head_dim"},
        {"\"mailbox\":{", "\"mailbag\":{", DW_E_CORRUPT, "section mailbox"},
        {",\"actor\":{\"dtype\":\"U8\",\"shape\":[16384],\"data_offsets\":[65536,81920]}", "", DW_E_CORRUPT, "sections"},
        {"\"__metadata__\":{\"hash.header\":", "\"__metadata__\":{\"hash.headers\":", DW_E_FORMAT, "does not begin"});
}

static void entries_given_twice_are_refused(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"turn\":", "\"turn\":\"1\",\"turn\":", DW_E_FORMAT, "JSON"},
        {"\"mailbox\":{", "\"mailbox\":{},\"mailbox\":{", DW_E_FORMAT, "JSON"},
        {"\\\"mode\\\":", "\\\"mode\\\":\\\"fast\\\",\\\"mode\\\":", DW_E_FORMAT, "session.65537"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"65537 65537\"", DW_E_FORMAT, "session.65537"});
}

static void numbers_must_be_plain_and_in_range(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"-1\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"+40\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"0x28\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"40 \"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"040\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"4e1\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"18446744073709551616\"", DW_E_FORMAT, "actor.bytes"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"18446744073709551615\"", DW_E_LIMIT, "actor.bytes"},
        {"\\\"sampler_counter\\\":\\\"687\\\"", "\\\"sampler_counter\\\":687", DW_E_FORMAT, "sampler_counter"},
        {"\\\"tokens\\\":\\\"5\\\"", "\\\"tokens\\\":\\\"4294967296\\\"", DW_E_FORMAT, "tokens"},
        {"\\\"layers\\\":\\\"1\\\"", "\\\"layers\\\":\\\"0\\\"", DW_E_CORRUPT, "layers"});
}

static void hashes_must_be_lower_case_hexadecimal(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\"program\":\"06792cc6", "\"program\":\"06792CC6", DW_E_FORMAT, "program"},
        {"\"program\":\"06792cc6", "\"program\":\"6792cc6", DW_E_FORMAT, "program"},
        {"\"program\":\"06792cc6", "\"program\":\"x6792cc6", DW_E_FORMAT, "program"},
        {"\"parent\":\"6310", "\"parent\":\"63", DW_E_FORMAT, "parent"},
        {"\\\"weights\\\":\\\"be3d", "\\\"weights\\\":\\\"BE3D", DW_E_FORMAT, "weights"});
}

static void texts_must_be_plain_and_short(void **unused) {
    (void)unused;
    char long_name[DW_ACTOR_NAME_BYTES_MAX + 32] = "\"actor.name\":\"";
    size_t used = strlen(long_name);
    memset(long_name + used, 'a', DW_ACTOR_NAME_BYTES_MAX + 1);
    (void)snprintf(long_name + used + DW_ACTOR_NAME_BYTES_MAX + 1, 4, "\"");
    assert_forgery_refused(&(forgery){"\"actor.name\":\"kit\"", long_name, DW_E_FORMAT, "actor.name"});
    ASSERT_ALL_REFUSED(
        {"\"actor.name\":\"kit\"", "\"actor.name\":\"\"", DW_E_CORRUPT, "actor.name"},
        {"\"actor.name\":\"kit\"", "\"actor.name\":\"a\\u001b[2J\"", DW_E_FORMAT, "actor.name"},
        {"\"actor.name\":\"kit\"", "\"actor.name\":\"a\\u0000b\"", DW_E_FORMAT, "JSON"},
        {"\"actor.name\":\"kit\"", "\"actor.name\":\"a\xff\"", DW_E_FORMAT, "JSON"},
        {"\"actor.name\":\"kit\"", "\"actor.name\":\"a\xc2\x9b\"", DW_E_FORMAT, "actor.name"},
        {"\\\"mode\\\":\\\"exact\\\"", "\\\"mode\\\":\\\"Exact\\\"", DW_E_FORMAT, "mode"});
}

static void globals_must_be_typed_values(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"i64:6cff8386b329642f ", "i64:6cff8386b329642 ", DW_E_FORMAT, "globals"},
        {"i64:6cff8386b329642f ", "i32:6cff8386b329642f ", DW_E_FORMAT, "globals"},
        {"i64:6cff8386b329642f ", "i65:6cff8386b329642f ", DW_E_FORMAT, "globals"},
        {"i64:6cff8386b329642f ", "i64:6cff8386b329642f  ", DW_E_FORMAT, "globals"},
        {"i64:6cff8386b329642f ", " ", DW_E_FORMAT, "globals"},
        {"i64:6cff8386b329642f ", "i646cff8386b329642f ", DW_E_FORMAT, "globals"},
        {"i64:4f96e4bd60d8d8c4\"", "i64:4f96e4bd60d8d8c4 \"", DW_E_FORMAT, "globals"});
}

static void sessions_must_keep_their_rules(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\\\"rows\\\":\\\"4\\\"", "\\\"rows\\\":\\\"6\\\"", DW_E_CORRUPT, "session.65537"},
        {"\\\"tokens\\\":\\\"5\\\"", "\\\"tokens\\\":\\\"1048577\\\"", DW_E_LIMIT, "session.65537"},
        {"\\\"layers\\\":\\\"1\\\"", "\\\"layers\\\":\\\"1025\\\"", DW_E_LIMIT, "session.65537"},
        {"\\\"heads_kv\\\":\\\"1\\\"", "\\\"heads_kv\\\":\\\"1025\\\"", DW_E_LIMIT, "session.65537"},
        {"\\\"head_dim\\\":\\\"64\\\"", "\\\"head_dim\\\":\\\"4294967295\\\"", DW_E_LIMIT, "session.65537"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"65537  131074\"", DW_E_FORMAT, "sessions"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"65537 131074 \"", DW_E_FORMAT, "sessions"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"65537\"", DW_E_FORMAT, "entry \"session.131074\""},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"\"", DW_E_CORRUPT, "section mailbox"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"0 65537 131074\"", DW_E_FORMAT, "session.0"},
        {"\"sessions\":\"65537 131074\"", "\"sessions\":\"131074 65537\"", DW_E_CORRUPT, "section tokens.131074"},
        {"\"sessions\":\"65537 131074\"",
         "\"sessions\":\"1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 "
         "48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63 64 65\"", DW_E_FORMAT, "sessions"},
        {"\"session.65537\":\"{", "\"session.65537\":\"[", DW_E_FORMAT, "session.65537"},
        {"\"session.65537\":\"{", "\"session.65537\":\"{{", DW_E_FORMAT, "session.65537"},
        {"\"memory.bytes\":\"0\"", "\"memory.bytes\":\"16384\"", DW_E_CORRUPT, "memory.bytes"},
        {"\"memory.bytes\":\"0\"", "\"memory.bytes\":\"4294967296\"", DW_E_LIMIT, "memory.bytes"},
        {"\"memory.bytes\":\"0\"", "\"memory.bytes\":\"65536\"", DW_E_CORRUPT, "section memory.0"});
}

static void tables_must_keep_their_rules(void **unused) {
    (void)unused;
    static const forgery attempts[] = {
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":4097", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0  5 4097\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5 4097 \"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 -5 4097\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"00 5 4097\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5 4294967296\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5 1000001\"", DW_E_LIMIT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1\"", DW_E_FORMAT, "tables"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5 4096\"", DW_E_CORRUPT, "section table.2"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"5 0 4097\"", DW_E_CORRUPT, "section table.0"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 4 4097\"", DW_E_CORRUPT, "section table.1: padding"}, /* hides a function */
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5\"", DW_E_CORRUPT, "section tokens.65537"},
        {"\"tables\":\"0 5 4097\"", "\"tables\":\"0 5 4097 0\"", DW_E_CORRUPT, "sections"},
        {"\"tables\":\"0 5 4097\",", "", DW_E_CORRUPT, "section tokens.65537"},
        {"\"table.1\":{\"dtype\":\"I32\"", "\"table.1\":{\"dtype\":\"U32\"", DW_E_CORRUPT, "section table.1"},
        {"\"hash.table.1\":", "\"hash.table.9\":", DW_E_FORMAT, "hash.table.1"},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) assert_forgery_of_refused(&tables, &attempts[i]);
    assert_forgery_refused(&(forgery){"\"wasi\":", "\"tables\":\"1\",\"wasi\":", DW_E_CORRUPT, "sections"});
}

static void kv_types_must_keep_their_rules(void **unused) {
    (void)unused;
    static const forgery attempts[] = {
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"F16\\\"", DW_E_CORRUPT, "section kv.131074.k.0"},
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"Q8_0\\\"", DW_E_CORRUPT, "section kv.131074.k.0"},
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"bf16\\\"", DW_E_FORMAT, "kv_type"},
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"Q4_0\\\"", DW_E_FORMAT, "kv_type"},
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"\\\"", DW_E_FORMAT, "kv_type"},
        {"\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"BF16BF16\\\"", DW_E_FORMAT, "kv_type"},
        {"\\\"kv_type\\\":\\\"BF16\\\",", "", DW_E_FORMAT, "kv_type"},
        {"\\\"head_dim\\\":\\\"64\\\",\\\"kv_type\\\":\\\"Q8_0\\\"", "\\\"head_dim\\\":\\\"48\\\",\\\"kv_type\\\":\\\"Q8_0\\\"", DW_E_CORRUPT, "session.196611"},
        {"\"dtype\":\"BF16\",\"shape\":[128,1,64]", "\"dtype\":\"F16\",\"shape\":[128,1,64]", DW_E_CORRUPT, "section kv.131074.k.0"},
        {"\"dtype\":\"U8\",\"shape\":[0,68]", "\"dtype\":\"U8\",\"shape\":[0,64]", DW_E_CORRUPT, "section kv.196611.k.0"},
        {"\"dtype\":\"U8\",\"shape\":[0,68]", "\"dtype\":\"U8\",\"shape\":[0]", DW_E_CORRUPT, "section kv.196611.k.0"},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) assert_forgery_of_refused(&kv_types, &attempts[i]);
    assert_forgery_of_refused(&old_small, &(forgery){"\"version\":\"1\"", "\"version\":\"2\"", DW_E_FORMAT, "kv_type"}); /* version 2 needs the key */
    assert_forgery_of_refused(&old_kv_types, &(forgery){"\"version\":\"2\"", "\"version\":\"1\"", DW_E_FORMAT, "kv_type"}); /* version 1 has none */
}

/* Of the older versions one state had one file: version 2 was for what version 1 could not say. */
static void a_version_that_nothing_needs_is_refused(void **unused) {
    (void)unused;
    kit_file file = kit_copy(&old_kv_types);
    assert_true(kit_edit(&file, "\\\"kv_type\\\":\\\"BF16\\\"", "\\\"kv_type\\\":\\\"F16\\\""));
    assert_forgery_of_refused(&file, &(forgery){"\\\"kv_type\\\":\\\"Q8_0\\\"", "\\\"kv_type\\\":\\\"F16\\\"", DW_E_FORMAT, "version"});
    kit_free(&file);
}

static void what_version_3_added_must_keep_its_rules(void **unused) {
    (void)unused;
    static const forgery attempts[] = {
        {"\"version\":\"3\"", "\"version\":\"2\"", DW_E_FORMAT, "prefilled"},
        {"\"base\":\"\"", "\"base\":\"00\"", DW_E_UNSUPPORTED, "changes to the checkpoint 00"},
        {"\"base\":\"\",", "", DW_E_FORMAT, "base"},
        {"\\\"prefilled\\\":\\\"70\\\"", "\\\"prefilled\\\":\\\"91\\\"", DW_E_CORRUPT, "prefilled"},
        {"\\\"prefilled\\\":\\\"70\\\",", "", DW_E_FORMAT, "prefilled"},
        {"\\\"granted\\\":\\\"yes\\\"", "\\\"granted\\\":\\\"YES\\\"", DW_E_FORMAT, "granted"},
        {"\\\"logits\\\":\\\"300\\\"", "\\\"logits\\\":\\\"0\\\"", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\\\"logits\\\":\\\"300\\\"", "\\\"logits\\\":\\\"299\\\"", DW_E_CORRUPT, "section logits.65537: padding"},
        {"\\\"logits\\\":\\\"300\\\"", "\\\"logits\\\":\\\"4194305\\\"", DW_E_LIMIT, "logits"},
        {"\\\"logits\\\":\\\"0\\\"", "\\\"logits\\\":\\\"1\\\"", DW_E_CORRUPT, "last row"}, /* of the session with a pending token */
        {"\"program.bytes\":\"5000\"", "\"program.bytes\":\"4999\"", DW_E_CORRUPT, "section program"},
        {"\"program.bytes\":\"5000\"", "\"program.bytes\":\"5001\"", DW_E_CORRUPT, "section program: is another program"},
        {"\"program.bytes\":\"5000\"", "\"program.bytes\":\"0\"", DW_E_CORRUPT, "section program"},
        {"\"program.bytes\":\"5000\"", "\"program.bytes\":\"67108865\"", DW_E_LIMIT, "program.bytes"},
        {"\"hash.program\":", "\"hash.programme\":", DW_E_FORMAT, "hash.program"},
    };
    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) assert_forgery_of_refused(&whole, &attempts[i]);
    /* Logits by which nothing can be drawn. */
    static const uint32_t bad[] = {0x7fc00000, 0xffc00001, 0x7f800000};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kit_file file = kit_copy(&whole);
        dw_checkpoint *checkpoint = NULL;
        const dw_checkpoint_section *sections;
        dw_error err = {0};
        assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
        (void)dw_checkpoint_sections(checkpoint, &sections);
        assert_string_equal(sections[2].name, "logits.65537");
        memcpy(file.bytes + sections[2].offset + 4 * 17, &bad[i], sizeof bad[i]);
        dw_checkpoint_close(checkpoint);
        kit_seal(&file);
        assert_int_equal(kit_check(&file, &err), DW_E_CORRUPT);
        assert_non_null(strstr(err.text, "section logits.65537: logit 17"));
        kit_free(&file);
    }
}

static void counts_shapes_and_places_must_agree(void **unused) {
    (void)unused;
    ASSERT_ALL_REFUSED(
        {"\\\"tokens\\\":\\\"5\\\"", "\\\"tokens\\\":\\\"4097\\\"", DW_E_CORRUPT, "section tokens.65537"},
        {"\\\"head_dim\\\":\\\"64\\\"", "\\\"head_dim\\\":\\\"128\\\"", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\\\"layers\\\":\\\"1\\\"", "\\\"layers\\\":\\\"2\\\"", DW_E_CORRUPT, "sections"},
        {"\"dtype\":\"F16\",\"shape\":[128,1,64]", "\"dtype\":\"BF16\",\"shape\":[128,1,64]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"shape\":[128,1,64]", "\"shape\":[64,2,64]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"shape\":[128,1,64]", "\"shape\":[128,64]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"shape\":[128,1,64]", "\"shape\":[128.0,1,64]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"shape\":[128,1,64]", "\"shape\":[-128,-1,64]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"shape\":[128,1,64]", "\"shape\":\"128\"", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"data_offsets\":[16384,32768]", "\"data_offsets\":[0,16384]", DW_E_CORRUPT, "section kv.65537.k.0"},           /* overlap */
        {"\"data_offsets\":[16384,32768]", "\"data_offsets\":[16384,49152]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"data_offsets\":[16384,32768]", "\"data_offsets\":[32768,16384]", DW_E_CORRUPT, "section kv.65537.k.0"},
        {"\"data_offsets\":[32768,49152]", "\"data_offsets\":[32768,49152,49152]", DW_E_CORRUPT, "section kv.65537.v.0"},
        {"\"data_offsets\":[65536,81920]", "\"data_offsets\":[65536,18446744073709551615]", DW_E_FORMAT, "JSON"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"16385\"", DW_E_CORRUPT, "section actor"},
        {"\"actor.bytes\":\"40\"", "\"actor.bytes\":\"0\"", DW_E_CORRUPT, "section actor"});
}

static void the_header_may_only_be_json_of_its_shape(void **unused) {
    (void)unused;
    char deep[600] = "\"turn\":";
    memset(deep + strlen(deep), '[', 500);
    assert_forgery_refused(&(forgery){"\"turn\":", deep, DW_E_FORMAT, "nested"});
    ASSERT_ALL_REFUSED(
        {"[81920,81920]}}", "[65536,81920]}", DW_E_FORMAT, "JSON"},
        {"[81920,81920]}}", "[81920,81920]}},", DW_E_FORMAT, "brace"},
        {"[81920,81920]}}", "[81920,81920]}}{}", DW_E_FORMAT, "JSON"},
        {"[81920,81920]}}", "[81920,81920]}}\n", DW_E_FORMAT, "brace"},
        {"\"turn\":", "//\n\"turn\":", DW_E_FORMAT, "JSON"},
        {"\"mailbox\":{", "\"mailbox\":[],\"other\":{", DW_E_FORMAT, "section mailbox"});
}

/* Two bytes of text can cost a parser a hundred: a file of 64 MiB must not ask for gigabytes. */
static void a_header_of_very_many_values_is_refused_before_it_is_parsed(void **unused) {
    (void)unused;
    enum { SIZE = 8 << 20 };
    kit_file file = {.bytes = malloc(SIZE), .size = SIZE};
    assert_non_null(file.bytes);
    memset(file.bytes, ' ', SIZE);
    for (size_t i = 0; i < 8; i++) file.bytes[i] = (uint8_t)((uint64_t)(SIZE - 8) >> (8 * i));
    memcpy(file.bytes + 8, DW_DRIFT_HEADER_BEGIN, DW_DRIFT_HEADER_BEGIN_BYTES);
    size_t at = 8 + DW_DRIFT_HEADER_BEGIN_BYTES + DW_DRIFT_HASH_DIGITS;
    memcpy(file.bytes + at, "\",\"a\":[0", 8);
    for (at += 8; at + 4 < SIZE - 3; at += 2) memcpy(file.bytes + at, ",0", 2);
    memcpy(file.bytes + at, "]}}", 3);
    kit_seal(&file);
    dw_error err = {0};
    assert_int_equal(kit_check(&file, &err), DW_E_FORMAT);
    assert_non_null(strstr(err.text, "too many values"));
    kit_free(&file);
}

/* What only the sections' bytes show; found when they are verified. */
static void negative_tokens_and_hidden_bytes_in_padding_are_refused(void **unused) {
    (void)unused;
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(small.bytes, small.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections);
    for (size_t i = 0; i < n; i++) {
        if (sections[i].bytes == sections[i].used_bytes) continue;
        kit_file file = kit_copy(&small);
        dw_error err = {0};
        file.bytes[sections[i].offset + sections[i].used_bytes] = 1;
        kit_seal(&file);
        assert_int_equal(kit_check(&file, &err), DW_E_CORRUPT);
        assert_non_null(strstr(err.text, sections[i].name));
        assert_non_null(strstr(err.text, "padding"));
        kit_free(&file);
    }
    kit_file file = kit_copy(&small);
    dw_error err = {0};
    file.bytes[sections[1].offset + 4 * 4 + 3] = 0x80; /* the last of five tokens */
    kit_seal(&file);
    assert_int_equal(kit_check(&file, &err), DW_E_CORRUPT);
    assert_non_null(strstr(err.text, "section tokens.65537: token 4 is negative"));
    kit_free(&file);
    dw_checkpoint_close(checkpoint);
}

static void functions_below_none_are_refused(void **unused) {
    (void)unused;
    static const int32_t bad[] = {-2, INT32_MIN, -256, -257, -65537, -16777217};
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(tables.bytes, tables.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    assert_true(dw_checkpoint_sections(checkpoint, &sections) > 3);
    assert_string_equal(sections[2].name, "table.1");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        kit_file file = kit_copy(&tables);
        dw_error err = {0};
        memcpy(file.bytes + sections[2].offset + 4 * 4, &bad[i], sizeof bad[i]); /* the last of five */
        kit_seal(&file);
        assert_int_equal(kit_check(&file, &err), DW_E_CORRUPT);
        assert_non_null(strstr(err.text, "section table.1: function 4 is negative"));
        kit_free(&file);
    }
    dw_checkpoint_close(checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_sealed_edit_of_something_harmless_is_accepted),
        cmocka_unit_test(a_newer_version_is_refused_as_newer),
        cmocka_unit_test(another_format_is_refused),
        cmocka_unit_test(unknown_entries_and_sections_are_refused),
        cmocka_unit_test(missing_entries_and_sections_are_refused),
        cmocka_unit_test(entries_given_twice_are_refused),
        cmocka_unit_test(numbers_must_be_plain_and_in_range),
        cmocka_unit_test(hashes_must_be_lower_case_hexadecimal),
        cmocka_unit_test(texts_must_be_plain_and_short),
        cmocka_unit_test(globals_must_be_typed_values),
        cmocka_unit_test(sessions_must_keep_their_rules),
        cmocka_unit_test(tables_must_keep_their_rules),
        cmocka_unit_test(functions_below_none_are_refused),
        cmocka_unit_test(kv_types_must_keep_their_rules),
        cmocka_unit_test(a_version_that_nothing_needs_is_refused),
        cmocka_unit_test(what_version_3_added_must_keep_its_rules),
        cmocka_unit_test(counts_shapes_and_places_must_agree),
        cmocka_unit_test(the_header_may_only_be_json_of_its_shape),
        cmocka_unit_test(a_header_of_very_many_values_is_refused_before_it_is_parsed),
        cmocka_unit_test(negative_tokens_and_hidden_bytes_in_padding_are_refused),
    };
    return cmocka_run_group_tests(tests, make_file, clean_up);
}

/* damage_test.c: a file that lost bytes, gained bytes or had a bit flipped is refused, and the refusal names the section. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"

static kit_file small; /* with tables */

static int make_file(void **unused) {
    (void)unused;
    kit_state kit;
    kit_tables(&kit);
    small = kit_file_of(&kit);
    kit_deinit(&kit);
    return 0;
}

static int clean_up(void **unused) {
    (void)unused;
    kit_free(&small);
    kit_remove_folder();
    return 0;
}

static void assert_refused(const kit_file *file, dw_status expected, const char *named) {
    dw_error err = {0};
    dw_status status = kit_check(file, &err);
    if (status != expected) fail_msg("%s (%s), not %s", dw_status_name(status), err.text, dw_status_name(expected));
    if (!strstr(err.text, named)) fail_msg("\"%s\" does not name %s", err.text, named);
}

static void the_undamaged_file_is_accepted(void **unused) {
    (void)unused;
    dw_error err = {0};
    assert_int_equal(kit_check(&small, &err), DW_OK);
}

/* Through the file itself: what is mapped must never be longer than what is there. */
static void every_truncation_is_refused(void **unused) {
    (void)unused;
    char path[512];
    kit_path(path, "cut.drift");
    uint64_t header_bytes = kit_header_bytes(&small);
    for (size_t size = 0; size < small.size; size += size < 64 ? 1 : size < header_bytes ? 509 : 1021) {
        kit_file cut = {.bytes = small.bytes, .size = size};
        dw_error err = {0};
        dw_checkpoint *checkpoint = NULL;
        kit_store(path, &cut);
        assert_int_equal(dw_checkpoint_open(path, &checkpoint, &err), DW_E_TRUNCATED);
        assert_null(checkpoint);
        const char *named = size < header_bytes ? "header" : "section ";
        if (!strstr(err.text, named)) fail_msg("cut at %zu: \"%s\" does not name %s", size, err.text, named);
    }
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
}

static void a_truncation_names_the_section_where_the_file_ends(void **unused) {
    (void)unused;
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(small.bytes, small.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections);
    for (size_t i = 0; i < n; i++) {
        if (sections[i].bytes == 0) continue;
        kit_file first_byte = {.bytes = small.bytes, .size = sections[i].offset};
        kit_file last_byte = {.bytes = small.bytes, .size = sections[i].offset + sections[i].bytes - 1};
        assert_refused(&first_byte, DW_E_TRUNCATED, sections[i].name);
        assert_refused(&last_byte, DW_E_TRUNCATED, sections[i].name);
    }
    dw_checkpoint_close(checkpoint);
}

static void bytes_behind_the_last_section_are_refused(void **unused) {
    (void)unused;
    for (size_t more = 1; more <= DW_DRIFT_PAGE_BYTES; more += DW_DRIFT_PAGE_BYTES - 1) {
        kit_file longer = {.bytes = calloc(1, small.size + more), .size = small.size + more};
        assert_non_null(longer.bytes);
        memcpy(longer.bytes, small.bytes, small.size);
        assert_refused(&longer, DW_E_CORRUPT, "follow the last section");
        kit_free(&longer);
    }
}

static void a_flipped_bit_in_any_byte_of_the_header_is_refused(void **unused) {
    (void)unused;
    uint64_t header_bytes = kit_header_bytes(&small);
    kit_file file = kit_copy(&small);
    for (size_t at = 0; at < header_bytes; at++) {
        uint8_t flip = (uint8_t)(1u << (at % 8));
        for (int round = 0; round < 2; round++) { /* a bit that walks, and the one that makes capitals of letters */
            dw_error err = {0};
            file.bytes[at] ^= round ? 0x20 : flip;
            dw_status status = kit_check(&file, &err);
            if (dw_status_kind_of(status) != DW_KIND_CORRUPT) fail_msg("byte %zu: %s", at, dw_status_name(status));
            if (!strstr(err.text, "header")) fail_msg("byte %zu: \"%s\" does not name the header", at, err.text);
            file.bytes[at] = small.bytes[at];
        }
    }
    kit_free(&file);
}

/* In the meant bytes and in the padding alike. */
static void a_flipped_bit_in_any_section_is_refused_by_name(void **unused) {
    (void)unused;
    dw_checkpoint *checkpoint = NULL;
    kit_file file = kit_copy(&small);
    assert_int_equal(dw_checkpoint_open_bytes(small.bytes, small.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections), n_flipped = 0;
    for (size_t i = 0; i < n; i++) {
        for (uint64_t at = 0; at < sections[i].bytes; at += 127) {
            uint8_t *byte = &file.bytes[sections[i].offset + at];
            *byte ^= (uint8_t)(1u << (at % 8));
            assert_refused(&file, DW_E_HASH, sections[i].name);
            *byte ^= (uint8_t)(1u << (at % 8));
            n_flipped++;
        }
    }
    assert_true(n_flipped > 500);
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
}

/* With any number of threads the first bad section of the file is the one that is told. */
static void the_first_damaged_section_is_told_whatever_the_threads_do(void **unused) {
    (void)unused;
    kit_state kit;
    uint64_t random = 21;
    kit_init(&kit);
    kit_set_bytes(&kit, &random, 16 * DW_WASM_PAGE_BYTES, 10, 10);
    kit_set_program(&kit, &random, 10);
    kit_add_session(&kit, &random, 5, (kit_shape){.tokens = 200, .rows = 200, .layers = 16, .heads_kv = 2, .head_dim = 64});
    kit_file file = kit_file_of(&kit);
    dw_checkpoint *checkpoint = NULL;
    assert_int_equal(dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, NULL), DW_OK);
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections);
    for (int round = 0; round < 200; round++) {
        size_t first = kit_below(&random, n), second = kit_below(&random, n), lower = first < second ? first : second;
        file.bytes[sections[first].offset] ^= 1;
        if (second != first) file.bytes[sections[second].offset + 1] ^= 1;
        dw_error err = {0};
        assert_int_equal(dw_checkpoint_verify(checkpoint, 1 + (unsigned)round % 6, &err), DW_E_HASH);
        assert_false(dw_checkpoint_is_verified(checkpoint));
        char named[80];
        (void)snprintf(named, sizeof named, "section %s:", sections[lower].name);
        if (!strstr(err.text, named)) fail_msg("\"%s\" does not name %s", err.text, named);
        file.bytes[sections[first].offset] ^= 1;
        if (second != first) file.bytes[sections[second].offset + 1] ^= 1;
    }
    assert_int_equal(dw_checkpoint_verify(checkpoint, 4, NULL), DW_OK);
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
    kit_deinit(&kit);
}

/* --- not a .drift at all --- */

static void assert_text_refused(const char *text, size_t size, dw_status expected) {
    kit_file file = {.bytes = malloc(size ? size : 1), .size = size};
    assert_non_null(file.bytes);
    memset(file.bytes, 0, size);
    memcpy(file.bytes, text, strlen(text) < size ? strlen(text) : size);
    assert_refused(&file, expected, "header");
    kit_free(&file);
}

static void other_files_are_refused(void **unused) {
    (void)unused;
    assert_text_refused("", 0, DW_E_TRUNCATED);
    assert_text_refused("GGUF", 4, DW_E_TRUNCATED);
    assert_text_refused("#!/bin/sh\necho hello\n", 21, DW_E_FORMAT);
    assert_text_refused("\xff\xff\xff\xff\xff\xff\xff\xff", 8, DW_E_FORMAT);          /* 2^64 - 1: the sum would wrap */
    assert_text_refused("\xf8\xff\xff\xff\xff\xff\xff\xff", 16384, DW_E_FORMAT);      /* sum is 2^64 */
    assert_text_refused("\xf8\xff\xff\x03", 16384, DW_E_TRUNCATED);                   /* 64 MiB, the most */
    assert_text_refused("\xf8\x3f\x00\x04", 16384, DW_E_FORMAT);                      /* one page more */
    assert_text_refused("\xf8\x3f", 16384, DW_E_FORMAT);                              /* a page of zeros */
    char safetensors[32] = "\xf8\x3f\0\0\0\0\0\0{\"a\":{}}";
    kit_file file = {.bytes = calloc(1, 16384), .size = 16384};
    assert_non_null(file.bytes);
    memset(file.bytes, ' ', file.size);
    memcpy(file.bytes, safetensors, 16);
    assert_refused(&file, DW_E_FORMAT, "does not begin as that of a .drift");
    kit_free(&file);
}

static void a_missing_file_and_a_folder_are_refused(void **unused) {
    (void)unused;
    char path[512];
    dw_checkpoint *checkpoint = NULL;
    kit_path(path, "absent.drift");
    assert_int_equal(dw_checkpoint_open(path, &checkpoint, NULL), DW_E_NOT_FOUND);
    assert_null(checkpoint);
    assert_int_not_equal(dw_checkpoint_open(kit_folder(), &checkpoint, NULL), DW_OK);
    assert_null(checkpoint);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_undamaged_file_is_accepted),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(a_truncation_names_the_section_where_the_file_ends),
        cmocka_unit_test(bytes_behind_the_last_section_are_refused),
        cmocka_unit_test(a_flipped_bit_in_any_byte_of_the_header_is_refused),
        cmocka_unit_test(a_flipped_bit_in_any_section_is_refused_by_name),
        cmocka_unit_test(the_first_damaged_section_is_told_whatever_the_threads_do),
        cmocka_unit_test(other_files_are_refused),
        cmocka_unit_test(a_missing_file_and_a_folder_are_refused),
    };
    return cmocka_run_group_tests(tests, make_file, clean_up);
}

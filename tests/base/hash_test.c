/* SHA-256 against the values of FIPS 180-4's examples. */
#include <string.h>

#include "base/hash.h"
#include "base/test.h"

static const char empty_hex[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char abc_hex[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

static void assert_hex(const dw_hash *hash, const char *expected) {
    char hex[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, hex);
    assert_string_equal(hex, expected);
}

static void known_values(void **state) {
    (void)state;
    dw_hash hash;
    assert_status(dw_hash_of("abc", 3, &hash), DW_OK);
    assert_hex(&hash, abc_hex);
    assert_status(dw_hash_of(NULL, 0, &hash), DW_OK);
    assert_hex(&hash, empty_hex);
}

static void pieces_hash_as_the_whole_and_finish_starts_anew(void **state) {
    (void)state;
    dw_hasher *hasher;
    assert_status(dw_hasher_create(&hasher), DW_OK);
    for (int round = 0; round < 2; round++) {
        dw_hash hash;
        assert_status(dw_hasher_update(hasher, "a", 1), DW_OK);
        assert_status(dw_hasher_update(hasher, "", 0), DW_OK);
        assert_status(dw_hasher_update(hasher, "bc", 2), DW_OK);
        assert_status(dw_hasher_finish(hasher, &hash), DW_OK);
        assert_hex(&hash, abc_hex);
    }
    dw_hasher_destroy(hasher);
    dw_hasher_destroy(NULL);
}

static void hex_is_parsed_back_and_nothing_else_is(void **state) {
    (void)state;
    dw_hash hash, parsed;
    assert_status(dw_hash_of("abc", 3, &hash), DW_OK);
    assert_status(dw_hash_parse(abc_hex, 64, &parsed), DW_OK);
    assert_true(dw_hash_equal(&hash, &parsed));
    assert_status(dw_hash_parse("BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD", 64, &parsed), DW_OK);
    assert_true(dw_hash_equal(&hash, &parsed));
    assert_status(dw_hash_parse(abc_hex, 63, &parsed), DW_E_FORMAT);
    assert_status(dw_hash_parse(abc_hex, 65, &parsed), DW_E_FORMAT);
    for (size_t i = 0; i < 64; i++) {
        char bad[65];
        memcpy(bad, abc_hex, sizeof bad);
        bad[i] = i % 2 ? 'g' : ' ';
        assert_status(dw_hash_parse(bad, 64, &parsed), DW_E_FORMAT);
    }
    assert_false(dw_hash_equal(&hash, &parsed));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(pieces_hash_as_the_whole_and_finish_starts_anew),
        cmocka_unit_test(hex_is_parsed_back_and_nothing_else_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

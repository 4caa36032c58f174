/* test.h: what a cmocka test needs before and around <cmocka.h>, and the random numbers of our randomised tests. */
#ifndef DW_TESTS_BASE_TEST_H
#define DW_TESTS_BASE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/status.h"

/* The call must succeed; when it does not, the error's own words are shown. */
#define assert_ok(call, error)                                                                             \
    do {                                                                                                   \
        dw_status assert_ok_status = (call);                                                               \
        if (assert_ok_status != DW_OK)                                                                     \
            fail_msg("%s: %s: %s", #call, dw_status_name(assert_ok_status), (error).text);                 \
    } while (0)

#define assert_status(call, expected) assert_string_equal(dw_status_name(call), dw_status_name(expected))

/* splitmix64: small, and the same everywhere. */
static inline uint64_t test_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t test_random_below(uint64_t *state, uint64_t bound) { return test_random(state) % bound; }

/* The seed of a randomised test: $DW_TEST_SEED, else the given one; printed, so that a failure can be repeated. */
static inline uint64_t test_seed(uint64_t usual) {
    const char *wanted = getenv("DW_TEST_SEED");
    uint64_t seed = wanted ? strtoull(wanted, NULL, 0) : usual;
    print_message("seed %llu (DW_TEST_SEED)\n", (unsigned long long)seed);
    return seed;
}

/* A number from the environment, else the usual one. */
static inline uint32_t test_number(const char *name, uint32_t usual) {
    const char *wanted = getenv(name);
    return wanted ? (uint32_t)strtoul(wanted, NULL, 0) : usual;
}

/* Threads of the device of a test that compares bits: $DW_TEST_THREADS, else 1. */
static inline uint32_t test_threads(void) { return test_number("DW_TEST_THREADS", 1); }

#endif

/* check.h: cmocka, with the headers that it wants first. */
#ifndef DW_TESTS_PROGRAMS_CHECK_H
#define DW_TESTS_PROGRAMS_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "dw.h"
#include "programs/fake_host.h"

#define assert_contains(text, part)                                                     \
    do {                                                                                \
        if (!strstr((text), (part))) fail_msg("no \"%s\" in \"%s\"", (part), (text));   \
    } while (0)

static inline int fresh_host(void **state) {
    (void)state;
    fake_reset();
    return 0;
}

#define host_test(function) cmocka_unit_test_setup(function, fresh_host)

#endif

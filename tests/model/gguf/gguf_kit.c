/* gguf_kit.c */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "model/gguf/gguf_kit.h"

dw_gguf *gguf_open_good(dw_writer *w) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status status = make_open(w, &gguf, &err);
    if (status != DW_OK) print_error("%s\n", err.text);
    assert_int_equal(status, DW_OK);
    return gguf;
}

void gguf_assert_refused(dw_writer *w, dw_status status, const char *says) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status got = make_open(w, &gguf, &err);
    if (got != status || !strstr(err.text, says)) print_error("got %s: %s\n", dw_status_name(got), err.text);
    assert_int_equal(got, status);
    assert_null(gguf);
    assert_non_null(strstr(err.text, says));
    dw_writer_deinit(w);
}

/* gguf_kit.h: opening made files in tests, with the assertions that all of them share. */
#ifndef DW_TESTS_MODEL_GGUF_GGUF_KIT_H
#define DW_TESTS_MODEL_GGUF_GGUF_KIT_H

#include "model/kit/make_gguf.h"

/* Opens what a writer holds, which must be good. The writer stays the caller's. */
dw_gguf *gguf_open_good(dw_writer *w);
/* Opens, which must be refused with this status and a text that contains `says`; releases the writer. */
void gguf_assert_refused(dw_writer *w, dw_status status, const char *says);

#endif

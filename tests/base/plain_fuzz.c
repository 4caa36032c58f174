/* plain_fuzz.c: whatever the bytes are, what comes out holds nothing that drives a terminal, is plain already, and is as long as said. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "base/plain.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *out = malloc(DW_PLAIN_BYTES(size)), *again = malloc(DW_PLAIN_BYTES(DW_PLAIN_BYTES(size)));
    require(out && again);
    size_t length = dw_plain_text((const char *)data, size, false, out, DW_PLAIN_BYTES(size));
    require(length == strlen(out) && length <= 4 * size);
    for (size_t i = 0; i < length; i++) require((uint8_t)out[i] >= 0x20 && out[i] != 0x7f);
    require(dw_plain_text(out, length, false, again, DW_PLAIN_BYTES(length)) == length);
    require(memcmp(out, again, length + 1) == 0);
    free(again);
    again = malloc(length / 2 + 1); /* exactly, so that the sanitizer sees a byte too much */
    require(again != NULL);
    require(dw_plain_text((const char *)data, size, false, again, length / 2 + 1) == length);
    require(strncmp(out, again, strlen(again)) == 0);
    free(again);
    free(out);
    return 0;
}

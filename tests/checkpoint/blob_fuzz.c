/* blob_fuzz.c: any bytes as a state's blob. What is accepted is a state that can be written, and then is the same bytes
 * however often it is read and written. */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) abort();
}

static void encode(const dw_blob *blob, uint8_t **out, size_t *size) {
    require(dw_blob_encode(dw_blob_view(blob), out, size, NULL) == DW_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_blob *first = NULL, *second = NULL;
    uint8_t *once = NULL, *twice = NULL;
    size_t once_size = 0, twice_size = 0;
    if (dw_blob_decode(data, size, &first, NULL) != DW_OK) return 0;
    encode(first, &once, &once_size);
    require(dw_blob_decode(once, once_size, &second, NULL) == DW_OK);
    encode(second, &twice, &twice_size);
    require(once_size == twice_size && memcmp(once, twice, once_size) == 0);
    free(once);
    free(twice);
    dw_blob_free(first);
    dw_blob_free(second);
    return 0;
}

/* layer_fuzz.c: what the store parses itself: layers and tables of sessions from the index, heads of bulk files. Bytes
 * are tried as they are, and with a checksum that fits, so that what lies behind the checksum is reached. What is
 * accepted is written again to the same bytes, and merges with itself by the rules. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "store/store_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool truth) {
    if (!truth) abort();
}

static void try_layer(const uint8_t *data, size_t size) {
    dw_layer layer, merged, again;
    dw_error err;
    uint8_t *written = NULL;
    size_t written_size = 0;
    if (dw_layer_decode(data, size, &layer, &err) != DW_OK) return;
    must(dw_layer_encode(&layer, &written, &written_size, &err) == DW_OK);
    must(written_size == size && memcmp(written, data, size) == 0);
    free(written);
    dw_freed freed = {0};
    if (dw_layer_merge(&layer, &layer, false, &merged, &freed, &err) == DW_OK) {
        must(dw_layer_encode(&merged, &written, &written_size, &err) == DW_OK);
        must(dw_layer_decode(written, written_size, &again, &err) == DW_OK); /* a merge makes what is accepted */
        free(written);
        dw_layer_deinit(&again);
        dw_layer_deinit(&merged);
    }
    dw_layer_free_all(&layer, &freed);
    dw_freed_join(&freed);
    dw_freed_deinit(&freed);
    dw_layer_deinit(&layer);
}

static void try_sessions(const uint8_t *data, size_t size) {
    dw_store_session *sessions;
    size_t n, written_size = 0;
    uint8_t *written = NULL;
    dw_error err;
    if (dw_sessions_decode(data, size, &sessions, &n, &err) != DW_OK) return;
    must(dw_sessions_encode(sessions, n, &written, &written_size, &err) == DW_OK);
    must(written_size == size && (size == 0 || memcmp(written, data, size) == 0));
    free(written);
    free(sessions);
}

static void try_head(const uint8_t *data, size_t size) {
    static const uint8_t identity[16] = {1, 2, 3};
    uint8_t written[DW_BULK_HEAD_BYTES];
    dw_error err;
    if (dw_bulk_head_check(identity, 1, data, size, &err) != DW_OK) return;
    dw_bulk_head_write(identity, 1, written);
    must(memcmp(written, data, 32) == 0);
}

static void put_sum(uint8_t *data, size_t covered) {
    uint64_t sum;
    must(dw_store_sum(data, covered, &sum) == DW_OK);
    for (unsigned i = 0; i < 8; i++) data[covered + i] = (uint8_t)(sum >> (8 * i));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_layer(data, size);
    try_sessions(data, size);
    try_head(data, size);
    uint8_t *summed = malloc(size + 8);
    must(summed != NULL);
    memcpy(summed, data, size);
    put_sum(summed, size);
    try_layer(summed, size + 8);
    try_sessions(summed, size + 8);
    if (size >= DW_BULK_HEAD_BYTES) {
        put_sum(summed, DW_BULK_HEAD_BYTES - 8);
        try_head(summed, size);
    }
    free(summed);
    return 0;
}

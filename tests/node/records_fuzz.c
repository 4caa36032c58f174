/* records_fuzz.c: the records of messages and answers. First byte: which one. What is accepted must encode to the same
 * bytes. */
#include <stdlib.h>
#include <string.h>

#include "node/node_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) abort();
}

static void check_same(const uint8_t *data, size_t size, dw_status status, uint8_t *again, size_t again_size) {
    require(status == DW_OK && again_size == size && memcmp(again, data, size) == 0);
    free(again);
}

static void check_message(const uint8_t *data, size_t size) {
    dw_message_record record;
    uint8_t *again = NULL;
    size_t again_size = 0;
    if (dw_message_record_decode(data, size, &record, NULL) != DW_OK) return;
    dw_status status = dw_message_record_encode(&record, &again, &again_size);
    check_same(data, size, status, again, again_size);
}

static void check_answer(const uint8_t *data, size_t size) {
    dw_answer_record record;
    uint8_t *again = NULL;
    size_t again_size = 0;
    if (dw_answer_record_decode(data, size, &record, NULL) != DW_OK) return;
    dw_status status = dw_answer_record_encode(&record, &again, &again_size);
    check_same(data, size, status, again, again_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] & 1) check_message(data + 1, size - 1);
    else check_answer(data + 1, size - 1);
    return 0;
}

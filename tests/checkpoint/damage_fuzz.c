/* damage_fuzz.c: any change of any bytes of a checkpoint is refused. The one thing that this target must never see is a mutated file
 * that opens and verifies: it aborts then. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_original(const uint8_t *data, size_t size) {
    static kit_file originals[6];
    if (!originals[0].bytes) {
        originals[0] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/minimal.drift");
        originals[1] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/small.drift");
        originals[2] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/tables.drift");
        originals[3] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/kv_types.drift");
        originals[4] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/whole.drift");
        originals[5] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/least.drift");
    }
    for (size_t i = 0; i < sizeof originals / sizeof originals[0]; i++) {
        if (size == originals[i].size && memcmp(data, originals[i].bytes, size) == 0) return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_checkpoint *checkpoint = NULL;
    dw_error err = {0};
    dw_status status = dw_checkpoint_open_bytes(data, size, &checkpoint, &err);
    if (status == DW_OK) status = dw_checkpoint_verify(checkpoint, 1, &err);
    if (is_original(data, size) != (status == DW_OK)) {
        fprintf(stderr, "fuzz: %s: %s\n", status == DW_OK ? "a changed file was accepted" : "an original was refused", status == DW_OK ? "" : err.text);
        abort();
    }
    if (status != DW_OK && (dw_status_kind_of(status) == DW_KIND_FAILED || err.text[0] == '\0')) {
        fprintf(stderr, "fuzz: refused without a reason: %s\n", dw_status_name(status));
        abort();
    }
    dw_checkpoint_close(checkpoint);
    return 0;
}

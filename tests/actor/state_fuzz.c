/* state_fuzz.c: the two sections of a checkpoint that src/actor reads. First byte: which one. What is accepted must encode to the same bytes. */
#include <stdlib.h>
#include <string.h>
#include "actor/actor_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth) {
    if (!truth) abort();
}

static void check_mailbox(const uint8_t *data, size_t size) {
    dw_mailbox box;
    dw_error err;
    if (dw_state_decode_mailbox(data, size, &box, &err) != DW_OK) return;
    uint8_t *again = NULL;
    size_t again_size = 0;
    require(dw_state_encode_mailbox(&box, &again, &again_size) == DW_OK);
    require(again_size == size && memcmp(again, data, size) == 0);
    free(again);
    dw_mailbox_deinit(&box);
}

static void check_actor(const uint8_t *data, size_t size) {
    dw_actor_section section;
    dw_error err;
    if (dw_state_decode_actor(data, size, &section, &err) != DW_OK) return;
    dw_actor actor = {.initialized = section.initialized, .arguments = section.arguments};
    require(dw_handle_table_create(4, &actor.handles) == DW_OK);
    dw_handle_set_clock(actor.handles, section.clock);
    uint8_t *again = NULL;
    size_t again_size = 0;
    require(dw_state_encode_actor(&actor, actor.initialized, &again, &again_size) == DW_OK);
    require(again_size == size && memcmp(again, data, size) == 0);
    free(again);
    dw_handle_table_destroy(actor.handles);
    dw_state_free_arguments(section.arguments);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    if (data[0] & 1) check_mailbox(data + 1, size - 1);
    else check_actor(data + 1, size - 1);
    return 0;
}

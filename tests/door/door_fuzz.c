/* door_fuzz.c: the input is one call of `enter` with its records (probe.c "raw"), made by a guest in a turn. The host
 * answers with statuses, and afterwards the actor still works and holds nothing lent. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static dw_actor *actor;

static void must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "%s: %s\n", dw_status_name(status), err->text);
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const uint8_t seed[32];
    dw_runtime *runtime = NULL;
    dw_program *program = NULL;
    dw_error err;
    (void)argc;
    (void)argv;
    dw_runtime_options options = {.cache_folder = DW_TEST_BUILD "/actor-tests"};
    must(dw_runtime_create(&options, &runtime, &err), &err);
    must(dw_runtime_load_program(runtime, DW_TEST_PROGRAMS "/actor_probe.wasm", &program, &err), &err);
    dw_actor_options actor_options = {.name = "fuzzed", .random_seed = seed, .birth_realtime_ns = 1};
    must(dw_actor_create(runtime, program, &actor_options, &actor, &err), &err);
    dw_program_release(program);
    return 0;
}

static dw_status turn(const void *body, size_t size, uint64_t time_ns) {
    dw_turn_result result;
    dw_error err;
    must(dw_actor_send(actor, body, size, 1, &err), &err);
    dw_status status = dw_actor_turn(actor, time_ns ? dw_os_monotonic_ns() + time_ns : UINT64_MAX, &result, &err);
    free(result.reply);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { TAG = 4, BODY_MAX = 16000 };
    uint8_t body[TAG + BODY_MAX] = "raw ";
    if (size > BODY_MAX) size = BODY_MAX;
    memcpy(body + TAG, data, size);
    dw_status status = turn(body, TAG + size, 5000000); /* a long sleep, an endless wait: the turn's time runs out */
    if (dw_status_kind_of(status) == DW_KIND_CORRUPT) abort();
    dw_guest_memory *memory = dw_actor_memory(actor);
    if (memory && dw_region_lent(dw_guest_region(memory)) != 0) abort();
    if (turn("?", 1, 0) != DW_OK) abort();
    return 0;
}

/* fixture.c: see fixture.h */
#include "actor/fixture.h"

#include <stdio.h>
#include "os/os.h"
#include "support/traps.h"

int fixture_setup(void **state) {
    fixture *f = calloc(1, sizeof *f);
    dw_error err = {0};
    if (!f) return -1;
    test_handle_traps(); /* before the first engine, whose handlers it has to see */
    snprintf(f->folder, sizeof f->folder, "%s/actor-tests", DW_TEST_BUILD);
    assert_ok(dw_os_make_folders(f->folder, &err), err);
    dw_runtime_options options = {.cache_folder = f->folder, .memory_bytes_max = DW_GUEST_MEMORY_BYTES_MAX};
    assert_ok(dw_runtime_create(&options, &f->runtime, &err), err);
    assert_ok(dw_runtime_load_program(f->runtime, DW_TEST_PROGRAMS "/actor_probe.wasm", &f->probe, &err), err);
    *state = f;
    return 0;
}

int fixture_teardown(void **state) {
    fixture *f = *state;
    dw_program_release(f->probe);
    dw_runtime_destroy(f->runtime);
    free(f);
    return 0;
}

dw_actor *fixture_actor(fixture *f, const char *name) {
    static const uint8_t seed[32] = {1, 2, 3};
    test_handle_traps();
    dw_error err = {0};
    dw_actor *actor = NULL;
    dw_actor_options options = {.name = name, .birth_realtime_ns = 1000000000, .random_seed = seed};
    assert_ok(dw_actor_create(f->runtime, f->probe, &options, &actor, &err), err);
    return actor;
}

dw_status fixture_turn(dw_actor *actor, const void *body, size_t size, dw_turn_result *result_or_null, dw_error *err) {
    static uint64_t now = 2000000000; /* the same sequence for every run of a test */
    dw_turn_result result;
    dw_status status = dw_actor_send(actor, body, size, now += 1000000, err);
    if (status != DW_OK) return status;
    status = dw_actor_turn(actor, UINT64_MAX, &result, err);
    if (result_or_null) *result_or_null = result;
    else free(result.reply);
    return status;
}

dw_status fixture_say(dw_actor *actor, const char *text) {
    dw_error err = {0};
    return fixture_turn(actor, text, strlen(text), NULL, &err);
}

uint64_t fixture_guest_hash(dw_actor *actor) {
    dw_turn_result result;
    dw_error err = {0};
    uint64_t hash = 0;
    assert_ok(fixture_turn(actor, "h", 1, &result, &err), err);
    assert_int_equal(result.reply_size, sizeof hash);
    memcpy(&hash, result.reply, sizeof hash);
    free(result.reply);
    return hash;
}

void fixture_assert_same(dw_actor *a, dw_actor *b) {
    dw_actor_digest one, two;
    dw_error err = {0};
    assert_ok(dw_actor_digest_of(a, &one, &err), err);
    assert_ok(dw_actor_digest_of(b, &two, &err), err);
    assert_memory_equal(&one.memory, &two.memory, sizeof one.memory);
    assert_memory_equal(&one.kv, &two.kv, sizeof one.kv);
    assert_memory_equal(&one.tokens, &two.tokens, sizeof one.tokens);
    assert_memory_equal(&one.logits, &two.logits, sizeof one.logits);
    assert_int_equal(dw_actor_turns(a), dw_actor_turns(b));
}

void fixture_path(const fixture *f, const char *name, char out[512]) { snprintf(out, 512, "%s/%s", f->folder, name); }

dw_status fixture_raw(dw_actor *actor, raw_call head, const dw_request *records, uint32_t n_records, raw_answer *answer) {
    enum { HEAD_BYTES = 36, RECORDS_MAX = 128 };
    uint8_t body[HEAD_BYTES + RECORDS_MAX * sizeof(dw_request)];
    dw_turn_result result;
    dw_error err = {0};
    uint32_t words[6] = {head.requests, head.n, head.completions, head.capacity, head.wait, 0};
    assert_true(n_records <= RECORDS_MAX);
    memcpy(body, head.trap_behind ? "rawt" : head.grow_behind ? "rawg" : "raw ", 4);
    memcpy(body + 4, words, sizeof words);
    memcpy(body + 28, &head.deadline, sizeof head.deadline);
    if (n_records) memcpy(body + HEAD_BYTES, records, n_records * sizeof *records);
    dw_status status = fixture_turn(actor, body, HEAD_BYTES + n_records * sizeof *records, &result, &err);
    if (status == DW_OK) {
        const size_t size = sizeof answer->n + sizeof answer->completions; /* the end of it: a record may itself be a reply */
        assert_true(result.reply_size >= size);
        const char *end = result.reply + result.reply_size - size;
        memcpy(&answer->n, end, sizeof answer->n);
        memcpy(answer->completions, end + sizeof answer->n, sizeof answer->completions);
    }
    free(result.reply);
    return status;
}

dw_completion fixture_request(dw_actor *actor, dw_request request) {
    raw_answer answer;
    assert_int_equal(fixture_raw(actor, (raw_call){.n = 1, .capacity = 1, .wait = 1, .deadline = -1}, &request, 1, &answer), DW_OK);
    assert_int_equal(answer.n, 1);
    if (answer.completions[0].status != DW_OK) fail_msg("operation %u: %s", request.op, dw_status_name((dw_status)answer.completions[0].status));
    return answer.completions[0];
}

uint32_t fixture_put(dw_actor *actor, uint32_t at, const void *data, uint32_t size) {
    char body[10 + 12000];
    dw_turn_result result;
    dw_error err = {0};
    uint64_t arena = 0;
    assert_true(size <= sizeof body - 10);
    snprintf(body, 11, "p%08x:", at);
    memcpy(body + 10, data, size);
    assert_ok(fixture_turn(actor, body, 10 + size, &result, &err), err);
    assert_int_equal(result.reply_size, sizeof arena);
    memcpy(&arena, result.reply, sizeof arena);
    free(result.reply);
    return (uint32_t)arena + at;
}

void fixture_get(dw_actor *actor, uint32_t at, uint8_t out[64]) {
    char body[16];
    dw_turn_result result;
    dw_error err = {0};
    snprintf(body, sizeof body, "q%08x", at);
    assert_ok(fixture_turn(actor, body, 9, &result, &err), err);
    assert_int_equal(result.reply_size, 64);
    memcpy(out, result.reply, 64);
    free(result.reply);
}

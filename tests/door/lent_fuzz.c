/* lent_fuzz.c: one call of `enter` with requests to a small model, made by a guest in a turn: sessions, forwards,
 * generations, embeddings and computations that name each other's memory. The host answers with statuses; afterwards
 * the actor works and nothing is lent; and the same call by an actor with the same past ends the same: which requests
 * are refused must not depend on how fast an engine is.
 *
 * Input: u16 n, n bytes for the arena; then for the call u8 records, u8 capacity, u8 wait, and the records
 * (dw_request). In arena and records a 32-bit word 0xA0000000 + at, at below 1 MiB, stands for the arena's address plus
 * `at`, and a handle of 0xB0000000 + i for that of session i. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actor/actor.h"
#include "driftwood/guest.h"
#include "model/kit/make_model.h"
#include "os/os.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

enum { SESSIONS = 2, PROMPT = 40, ARENA_MAX = 8192, RECORDS_MAX = 32, ARENA_BYTES = 1 << 20, COMPLETIONS = 64 };

static dw_runtime *runtime;
static dw_program *program;
static dw_actor *parent;             /* every input begins with two forks of it */
static uint32_t arena, handles[SESSIONS];

static void must(dw_status status, const dw_error *err) {
    if (status == DW_OK) return;
    fprintf(stderr, "%s: %s\n", dw_status_name(status), err->text);
    abort();
}

static dw_status turn(dw_actor *actor, const void *body, size_t size, uint64_t time_ns, dw_turn_result *result) {
    dw_error err;
    must(dw_actor_send(actor, body, size, 1, &err), &err);
    return dw_actor_turn(actor, time_ns ? dw_os_monotonic_ns() + time_ns : UINT64_MAX, result, &err);
}

/* "p<place>:" of the probe. */
static void put(dw_actor *actor, uint32_t at, const void *data, size_t size) {
    char body[10 + ARENA_MAX + 1];
    dw_turn_result result;
    dw_error err = {0};
    snprintf(body, sizeof body, "p%08x:", at);
    memcpy(body + 10, data, size);
    must(turn(actor, body, 10 + size, 0, &result), &err);
    memcpy(&arena, result.reply, sizeof arena);
    free(result.reply);
}

typedef struct raw_body {
    char head[4];
    uint32_t words[6];
    int64_t deadline;
    dw_request records[RECORDS_MAX];
} __attribute__((packed)) raw_body;

static dw_status enter(dw_actor *actor, raw_body *body, uint64_t time_ns, dw_turn_result *result) {
    memcpy(body->head, "raw ", 4);
    return turn(actor, body, sizeof *body - (RECORDS_MAX - body->words[1]) * sizeof(dw_request), time_ns, result);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static const uint8_t seed[32];
    dw_error err;
    (void)argc;
    (void)argv;
    dw_runtime_options options = {.cache_folder = DW_TEST_BUILD "/actor-tests", .threads = 1};
    must(dw_runtime_create(&options, &runtime, &err), &err);
    must(dw_runtime_add_model(runtime, "small", made_model_path(made_model_named("tied_f16")), &err), &err);
    must(dw_runtime_load_program(runtime, DW_TEST_PROGRAMS "/actor_probe.wasm", &program, &err), &err);
    dw_actor_options actor = {.name = "fuzzed", .random_seed = seed, .birth_realtime_ns = 1};
    must(dw_actor_create(runtime, program, &actor, &parent, &err), &err);
    int32_t tokens[PROMPT];
    for (int i = 0; i < PROMPT; i++) tokens[i] = 1 + i * 37 % 400;
    put(parent, 0, tokens, sizeof tokens);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        raw_body open = {
            .words = {0, 1, 0, 1, 1, 0}, .deadline = -1, .records = {{.op = DW_OP_SESSION_OPEN, .arg0 = i}}};
        dw_turn_result result;
        dw_completion done;
        must(enter(parent, &open, 0, &result), &err);
        memcpy(&done, result.reply + result.reply_size - COMPLETIONS * sizeof done, sizeof done);
        must((dw_status)done.status, &err);
        handles[i] = done.result0;
        free(result.reply);
    }
    return 0;
}

static uint32_t resolve(uint32_t word) {
    if (word >> 28 == 0xA && (word & 0x0fffffffu) < ARENA_BYTES) return arena + (word & 0x0fffffffu);
    return word >> 28 == 0xB ? handles[word % SESSIONS] : word;
}

static void resolve_words(void *data, size_t size) {
    for (size_t at = 0; at + 4 <= size; at += 4) {
        uint32_t word;
        memcpy(&word, (uint8_t *)data + at, 4);
        word = resolve(word);
        memcpy((uint8_t *)data + at, &word, 4);
    }
}

/* What depends on time leaves: results of computations say how long they took. */
static void blank_times(uint8_t *completions, const raw_body *body) {
    for (uint32_t i = 0; i < COMPLETIONS; i++) {
        dw_completion done;
        memcpy(&done, completions + i * sizeof done, sizeof done);
        for (uint32_t r = 0; r < body->words[1]; r++) {
            if (body->records[r].op == DW_OP_COMPUTE && body->records[r].user_data == done.user_data) done.result1 = 0;
        }
        memcpy(completions + i * sizeof done, &done, sizeof done);
    }
}

static int by_bytes(const void *a, const void *b) { return memcmp(a, b, sizeof(dw_completion)); }

/* One of two actors with the same past: what it was told, in an order of its own (who is done first is a matter of
 * time). */
static dw_status call(const char *name, const uint8_t *put_bytes, size_t n_put, raw_body body,
                      uint8_t told[COMPLETIONS * sizeof(dw_completion)], dw_hash ended[2]) {
    dw_actor *actor = NULL;
    dw_error err;
    dw_turn_result result = {0};
    dw_actor_digest digest;
    memset(told, 0, COMPLETIONS * sizeof(dw_completion));
    must(dw_actor_fork(parent, name, &actor, NULL, &err), &err);
    if (n_put) put(actor, 4096, put_bytes, n_put);
    dw_status status = enter(actor, &body, 0, &result);
    if (dw_status_kind_of(status) == DW_KIND_CORRUPT) abort();
    const size_t size = COMPLETIONS * sizeof(dw_completion);
    if (status == DW_OK && result.reply_size >= size) memcpy(told, result.reply + result.reply_size - size, size);
    blank_times(told, &body);
    qsort(told, COMPLETIONS, sizeof(dw_completion), by_bytes);
    free(result.reply);
    dw_guest_memory *guest = dw_actor_memory(actor);
    if (guest && dw_region_lent(dw_guest_region(guest)) != 0) abort();
    must(turn(actor, "?", 1, 0, &result), &err);
    must(dw_actor_digest_of(actor, &digest, &err), &err);
    ended[0] = digest.kv;
    ended[1] = digest.logits;
    free(result.reply);
    dw_actor_destroy(actor);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t first[COMPLETIONS * sizeof(dw_completion)], second[sizeof first];
    uint8_t put_bytes[ARENA_MAX];
    dw_hash ended[2][2];
    raw_body body = {.deadline = -1};
    if (size < 2) return 0;
    size_t n_put = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    size -= 2;
    if (n_put > ARENA_MAX || n_put > size || size - n_put < 3) return 0;
    memcpy(put_bytes, data, n_put);
    resolve_words(put_bytes, n_put);
    data += n_put;
    size -= n_put;
    uint32_t n = data[0] % (RECORDS_MAX + 1);
    if (n > (size - 3) / sizeof(dw_request)) n = (uint32_t)((size - 3) / sizeof(dw_request));
    memcpy(body.records, data + 3, n * sizeof(dw_request));
    resolve_words(body.records, n * sizeof(dw_request));
    for (uint32_t i = 0; i < n; i++) {
        if (body.records[i].op == DW_OP_SLEEP) body.records[i].arg0 %= 1000000;
        if (body.records[i].op == DW_OP_CANCEL) body.records[i].op = DW_OP_INTERRUPTED; /* what it meets is a matter of time */
        body.records[i].user_data = i;
    }
    uint32_t capacity = n < COMPLETIONS ? n : COMPLETIONS;
    body.words[1] = n;
    body.words[3] = body.words[4] = capacity; /* all of them: which come first is a matter of time */
    dw_status one = call("first", put_bytes, n_put, body, first, ended[0]);
    dw_status two = call("second", put_bytes, n_put, body, second, ended[1]);
    bool same = one == two && memcmp(first, second, sizeof first) == 0;
    if (!same || memcmp(ended[0], ended[1], sizeof ended[0]) != 0) abort();
    return 0;
}

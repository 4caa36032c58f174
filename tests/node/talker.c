/* talker.c: one step of a conversation with an actor of a node, as a process of its own that can be killed.
 *
 *     node_talker FOLDER spawn | STEP     makes the actor; gives it the message of a step, whose key is its number
 *     node_talker FOLDER digest           hashes of memory, KV rows, tokens and held logits
 *     node_talker - N                     the same hashes of an actor in memory after steps 0 .. N-1
 *
 * Prints one line when all is done: "ok TURN", or the hashes. */
#include "actor/fixture_model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "node/node.h"

enum { AT_TOKENS = 0, AT_OPTIONS = 20480, AT_TEXT = 28672, PROMPT = 300, HEAD_BYTES = 36, BODY_BYTES = 2048 };

typedef struct talk { fixture *f; uint32_t arena; dw_handle first, second; } talk;

static dw_error err;

static void check(dw_status status) {
    if (status == DW_OK) return;
    (void)fprintf(stderr, "%s: %s\n", dw_status_name(status), err.text);
    exit(1);
}

/* The numbers that the first two sessions of an actor get. */
static void find_handles(talk *t) {
    dw_handle_table *table = NULL;
    check(dw_handle_table_create(4, &table));
    check(dw_handle_open(table, 1, t, &t->first));
    check(dw_handle_open(table, 1, t, &t->second));
    dw_handle_table_destroy(table);
}

static void begin(talk *t) {
    void *state = NULL;
    if (fixture_setup_with_model(&state) != 0) exit(1);
    t->f = state;
    dw_actor *other = fixture_actor(t->f, "other");
    t->arena = fixture_put(other, AT_TEXT, "", 1) - AT_TEXT;
    dw_actor_destroy(other);
    find_handles(t);
}

/* --- messages ----------------------------------------------------------------------------------------------------- */

static size_t put_body(uint8_t *body, uint32_t at, const void *data, size_t size) {
    (void)snprintf((char *)body, 11, "p%08x:", at);
    memcpy(body + 10, data, size);
    return 10 + size;
}

static size_t request_body(uint8_t *body, dw_request request) {
    const uint32_t words[6] = {0, 1, 0, 1, 1, 0};
    const int64_t deadline = -1;
    memcpy(body, "raw ", 4);
    memcpy(body + 4, words, sizeof words);
    memcpy(body + 28, &deadline, sizeof deadline);
    memcpy(body + HEAD_BYTES, &request, sizeof request);
    return HEAD_BYTES + sizeof request;
}

static dw_request feed(const talk *t, dw_handle handle, uint32_t first, uint32_t n) {
    return (dw_request){.op = DW_OP_GENERATE, .handle = handle, .ptr0 = t->arena + 4 * first, .len0 = n,
                        .ptr1 = t->arena + AT_OPTIONS, .len1 = sizeof(dw_generate_options),
                        .ptr2 = t->arena + AT_TEXT, .len2 = 4096};
}

/* A prompt, a branch, and then turn by turn: some go on, some rewind before, some draw from logits that the turn before
 * held. */
static size_t step_body(const talk *t, uint32_t step, uint8_t body[BODY_BYTES]) {
    int32_t prompt[PROMPT];
    const dw_generate_options options = {.size = sizeof options, .n_max = 5, .flags = DW_GENERATE_IGNORE_END,
                                         .sampling = {.temperature = 0.9f, .top_k = 20}};
    for (int i = 0; i < PROMPT; i++) prompt[i] = (i * 37 + 5) % 500;
    switch (step) {
    case 0: return put_body(body, AT_TOKENS, prompt, sizeof prompt);
    case 1: return put_body(body, AT_OPTIONS, &options, sizeof options);
    case 2: return request_body(body, (dw_request){.op = DW_OP_SESSION_OPEN, .arg0 = 7});
    case 3: return request_body(body, feed(t, t->first, 0, 200));
    case 4: return request_body(body, (dw_request){.op = DW_OP_SESSION_FORK, .handle = t->first});
    default: break;
    }
    if (step % 6 == 5)
        return request_body(body, (dw_request){.op = DW_OP_SESSION_REWIND, .handle = t->first, .arg0 = 150 + step});
    if (step % 6 == 1)
        return request_body(body, (dw_request){.op = DW_OP_FORWARD, .flags = DW_FLAG_HOLD, .handle = t->first,
                                               .ptr0 = t->arena + 4 * step, .len0 = 1});
    if (step % 6 == 2) return request_body(body, feed(t, t->first, 0, 0)); /* draws from what was held */
    return request_body(body, feed(t, step % 3 ? t->first : t->second, step, 1 + step % 4));
}

static uint64_t step_time(uint32_t step) { return UINT64_C(2000000000) + step; }

/* --- what it does ------------------------------------------------------------------------------------------------- */

static void print_digest(const dw_actor_digest *digest) {
    char memory[DW_HASH_HEX_BYTES], kv[DW_HASH_HEX_BYTES], tokens[DW_HASH_HEX_BYTES];
    char logits[DW_HASH_HEX_BYTES];
    dw_hash_hex(&digest->memory, memory);
    dw_hash_hex(&digest->kv, kv);
    dw_hash_hex(&digest->tokens, tokens);
    dw_hash_hex(&digest->logits, logits);
    (void)printf("%s %s %s %s\n", memory, kv, tokens, logits);
}

static void talk_in_memory(const talk *t, uint32_t n) {
    dw_actor *actor = fixture_actor(t->f, "t");
    dw_actor_digest digest;
    for (uint32_t step = 0; step < n; step++) {
        uint8_t body[BODY_BYTES];
        dw_turn_result result;
        size_t size = step_body(t, step, body);
        check(dw_actor_send(actor, body, size, step_time(step), &err));
        check(dw_actor_turn(actor, UINT64_MAX, &result, &err));
        free(result.reply);
    }
    check(dw_actor_digest_of(actor, &digest, &err));
    print_digest(&digest);
    dw_actor_destroy(actor);
}

static void take_step(const talk *t, dw_node *node, uint32_t step) {
    uint8_t body[BODY_BYTES];
    char key[16];
    dw_node_answer answer;
    (void)snprintf(key, sizeof key, "%u", step);
    const dw_node_message message = {.body = body, .size = step_body(t, step, body), .realtime_ns = step_time(step),
                                     .key = key};
    check(dw_node_ask(node, "t", &message, UINT64_MAX, NULL, &answer, &err));
    (void)printf("ok %" PRIu64 "\n", answer.turn.turn);
    free(answer.turn.reply);
}

static void talk_in_node(const talk *t, const char *folder, const char *what) {
    static const uint8_t seed[32] = {1, 2, 3}; /* as the fixture's actors */
    const dw_spawn_options born = {.birth_realtime_ns = 1000000000, .random_seed = seed};
    dw_node *node = NULL;
    dw_actor_digest digest;
    check(dw_node_open(folder, NULL, &node, &err));
    dw_node_live_in(node, t->f->runtime);
    if (strcmp(what, "spawn") == 0) {
        check(dw_node_spawn(node, "t", t->f->probe, &born, &err));
        (void)printf("ok 0\n");
    } else if (strcmp(what, "digest") == 0) {
        check(dw_node_verify(node, &err));
        check(dw_node_digest(node, "t", &digest, &err));
        print_digest(&digest);
    } else {
        take_step(t, node, (uint32_t)strtoul(what, NULL, 10));
    }
    (void)fflush(stdout); /* acknowledged; what comes now may be killed too */
    check(dw_node_close(node, &err));
}

int main(int argc, char **argv) {
    talk t = {0};
    if (argc != 3) return 2;
    begin(&t);
    if (strcmp(argv[1], "-") == 0) talk_in_memory(&t, (uint32_t)strtoul(argv[2], NULL, 10));
    else talk_in_node(&t, argv[1], argv[2]);
    void *state = t.f;
    return fixture_teardown(&state);
}

/* demo_talk.c: the conversation of the demonstration. */
#include <stdlib.h>
#include <string.h>

#include "cli/demo.h"
#include "os/os.h"

/* The time that the program sees, so that the two lives of the actor can be compared to the last byte. */
static const uint64_t first_message_ns = UINT64_C(1767225600000000000); /* 2026-01-01 */
static const uint64_t second_ns = UINT64_C(1000000000);

static const char *const opening[] = {"What is the largest ocean on Earth?", "And what lives in it?",
                                      "Tell me a short story about driftwood."};
enum { N_OPENING = sizeof opening / sizeof opening[0] };
static const char next_question[] = "Where did the driftwood come from?";
static const char *const branch_questions[] = {"What is the capital of Italy?", "How do I make a cup of tea?"};
enum { N_BRANCHES = sizeof branch_questions / sizeof branch_questions[0] };

/* --- the other process ----------------------------------------------------------------------------------------- */

/* A failed child reported on standard error already, and as an object. */
static dw_status child_failure(const json_t *report, int exit_code, dw_error *err) {
    const char *text = json_string_value(json_object_get(json_object_get(report, "error"), "text"));
    return dw_fail(err, DW_E_STATE, "the process that thaws ended with exit code %d%s%.120s", exit_code,
                   text ? ": " : "", text ? text : "");
}

dw_status dw_demo_thaw_elsewhere(const dw_demo *demo, const char *file, const char *message, uint64_t at_ns,
                                 dw_demo_child *out, dw_error *err) {
    char model[DW_PATH_BYTES], at[24];
    const char *device = dw_device_info_view(dw_runtime_device(demo->runtime))->name;
    dw_os_process_result process = {0};
    *out = (dw_demo_child){0};
    dw_status status = dw_find_model(demo->cli, demo->args, model, err);
    if (status != DW_OK) return status;
    (void)snprintf(at, sizeof at, "%llu", (unsigned long long)at_ns);
    const char *const argv[] = {demo->executable, "thaw", file, "--message", message, "--at", at, "--model", model,
                                "--device", device, "--threads", demo->threads, "--digest", "--json", NULL};
    uint64_t started_ns = dw_os_monotonic_ns();
    status = dw_os_run(argv, 1u << 20, &process, err);
    if (status != DW_OK) return status;
    json_t *report = json_loads(process.output, 0, NULL);
    if (process.exit_code != 0) status = child_failure(report, process.exit_code, err);
    else if (!report) status = dw_fail(err, DW_E_FORMAT, "the process that thaws printed no JSON");
    free(process.output);
    if (status != DW_OK) {
        json_decref(report);
        return status;
    }
    out->report = report;
    out->process_ns = (uint64_t)json_integer_value(json_object_get(report, "ready_at_ns")) - started_ns;
    return DW_OK;
}

/* --- talking --------------------------------------------------------------------------------------------------- */

typedef struct talk {
    const dw_demo *demo;
    dw_cli *cli;
    dw_watch watch;             /* of the actor that is never frozen */
    uint64_t now_ns;            /* of the next message */
    char *last_reply;
    json_t *turns;
    char file[DW_PATH_BYTES];
} talk;

/* One exchange, printed as a conversation. */
static dw_status exchange_in_demo(talk *t, dw_watch *watch, const char *who, const char *question, uint64_t at_ns,
                                  char **reply, dw_error *err) {
    dw_turn_result result;
    dw_cli_say_styled(t->cli, DW_STYLE_BOLD, "  %-10s ", who);
    dw_cli_say(t->cli, "%s\n", question);
    const dw_message message = {question, strlen(question)};
    dw_status status = dw_take_turn(watch, message, at_ns, &result, err);
    dw_say_reply(watch, &result);
    if (status == DW_OK && json_array_append_new(t->turns, dw_json_turn(watch, message, &result)) != 0) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
    }
    if (status == DW_OK && reply) {
        free(*reply);
        *reply = result.reply;
        result.reply = NULL;
    }
    dw_turn_free(&result);
    return status;
}

static dw_status start_talk(talk *t, dw_error *err) {
    static const uint8_t seed[32] = "a fixed seed, to compare runs by";
    char path[DW_PATH_BYTES];
    dw_program *program = NULL;
    dw_observer observer = dw_watch_observer(&t->watch);
    dw_actor_options options = {
        .name = "demo", .birth_realtime_ns = first_message_ns, .random_seed = seed, .observer = &observer};
    dw_status status = dw_find_program(t->cli, "chat", path, err);
    if (status == DW_OK) status = dw_runtime_load_program(t->demo->runtime, path, &program, err);
    if (status == DW_OK) status = dw_actor_create(t->demo->runtime, program, &options, &t->watch.actor, err);
    dw_program_release(program);
    return status;
}

static dw_status converse_in_demo(talk *t, dw_error *err) {
    dw_status status = DW_OK;
    dw_cli_heading(t->cli, "1. A conversation");
    dw_cli_say(t->cli,
               "  An actor: a small C program, compiled to WebAssembly, that talks through a language model.\n\n");
    for (size_t i = 0; status == DW_OK && i < N_OPENING; i++) {
        status = exchange_in_demo(t, &t->watch, "you", opening[i], t->now_ns, &t->last_reply, err);
        t->now_ns += second_ns;
    }
    return status;
}

static dw_status freeze_in_demo(talk *t, json_t **out, dw_error *err) {
    dw_checkpoint_report report;
    char size[DW_SIZE_TEXT_BYTES];
    dw_cli_heading(t->cli, "2. Frozen");
    dw_status status = dw_path_join(t->file, t->demo->folder, "demo.drift", err);
    if (status == DW_OK) status = dw_actor_freeze(t->watch.actor, t->file, NULL, &report, err);
    if (status != DW_OK) return status;
    *out = dw_json_freeze(t->file, &report);
    dw_cli_say(t->cli,
               "  Its memory, its conversation and the model's attention state (KV cache) are in one file now:\n  %s "
               "(%s, %.1f ms)\n",
               t->file, dw_size_text(report.occupied_bytes, size),
               dw_ms(report.write_ns + report.hash_ns + report.sync_ns));
    return DW_OK;
}

/* --- comparing ------------------------------------------------------------------------------------------------- */

static bool same_hash(const json_t *report, const char *name, const dw_hash *hash) {
    char hex[DW_HASH_HEX_BYTES];
    const char *other = json_string_value(json_object_get(json_object_get(report, "digest"), name));
    dw_hash_hex(hash, hex);
    return other && strcmp(other, hex) == 0;
}

static void say_equal(const dw_cli *cli, const char *what, bool equal, const dw_hash *hash) {
    char hex[DW_HASH_HEX_BYTES] = "";
    if (hash) dw_hash_hex(hash, hex);
    dw_cli_say(cli, "  %-16s ", what);
    dw_cli_say_styled(cli, equal ? DW_STYLE_GOOD : DW_STYLE_BAD, "%-10s", equal ? "the same" : "DIFFERENT");
    dw_cli_say(cli, " %.16s\n", hex);
}

static dw_status thaw_and_compare(talk *t, dw_demo_talk *out, json_t **child_report, dw_error *err) {
    dw_demo_child child;
    dw_actor_digest digest;
    dw_cli_heading(t->cli, "3. Thawed in another process, beside its twin that was never frozen");
    dw_cli_progress(t->cli, "another process thaws it ...");
    dw_status status = dw_demo_thaw_elsewhere(t->demo, t->file, next_question, t->now_ns, &child, err);
    dw_cli_progress(t->cli, NULL);
    if (status != DW_OK) return status;
    *child_report = child.report;
    const json_t *turn = json_array_get(json_object_get(child.report, "turns"), 0);
    const char *reply = json_string_value(json_object_get(turn, "reply"));
    if (!reply) reply = "";
    dw_cli_say(t->cli, "  %lld tokens reused, %lld recomputed, ready %.2f ms after the file was checked\n\n",
               (long long)json_integer_value(json_object_get(child.report, "tokens_reused")),
               (long long)json_integer_value(json_object_get(child.report, "tokens_recomputed")),
               json_number_value(json_object_get(child.report, "map_ms")));
    dw_cli_say_styled(t->cli, DW_STYLE_BOLD, "  %-10s ", "you");
    dw_cli_say(t->cli, "%s\n", next_question);
    dw_cli_say_styled(t->cli, DW_STYLE_NAME, "  %-10s ", "thawed");
    const char *shown = reply[0] == ' ' ? reply + 1 : reply;
    dw_cli_say_text(t->cli, shown, strlen(shown));
    dw_cli_say(t->cli, "\n\n");

    t->watch.label = "  twin       ";
    status = exchange_in_demo(t, &t->watch, "you", next_question, t->now_ns, &t->last_reply, err);
    t->watch.label = "  driftwood  ";
    t->now_ns += second_ns;
    if (status == DW_OK) status = dw_actor_digest_of(t->watch.actor, &digest, err);
    if (status != DW_OK) return status;
    out->equal_memory = same_hash(child.report, "memory", &digest.memory);
    out->equal_kv = same_hash(child.report, "kv", &digest.kv);
    out->equal_tokens = same_hash(child.report, "tokens", &digest.tokens);
    json_t *own = dw_json_text(t->last_reply ? t->last_reply : "", t->last_reply ? strlen(t->last_reply) : 0);
    out->equal_text = own && strcmp(json_string_value(own), reply) == 0;
    json_decref(own);
    out->exact = json_is_true(json_object_get(child.report, "exact"));
    dw_cli_say(t->cli, "\n");
    say_equal(t->cli, "the answer", out->equal_text, NULL);
    say_equal(t->cli, "memory", out->equal_memory, &digest.memory);
    say_equal(t->cli, "attention state", out->equal_kv, &digest.kv);
    say_equal(t->cli, "tokens", out->equal_tokens, &digest.tokens);
    return DW_OK;
}

/* --- branches -------------------------------------------------------------------------------------------------- */

static dw_status branch_in_demo(talk *t, size_t i, dw_error *err) {
    static const char *const names[N_BRANCHES] = {"demo-a", "demo-b"};
    static const char *const labels[N_BRANCHES] = {"  branch a   ", "  branch b   "};
    dw_watch watch = {.cli = t->cli, .stream = true, .trim = true, .label = labels[i]};
    dw_fork_report report;
    dw_observer observer = dw_watch_observer(&watch);
    dw_status status = dw_actor_fork(t->watch.actor, names[i], &watch.actor, &report, err);
    if (status != DW_OK) return status;
    dw_actor_observe(watch.actor, &observer);
    status = exchange_in_demo(t, &watch, i == 0 ? "you, to a" : "you, to b", branch_questions[i], t->now_ns, NULL, err);
    if (status == DW_OK)
        dw_cli_say(t->cli, "             (%u tokens shared, not copied: forked in %.3f ms)\n", report.tokens,
                   dw_ms(report.ns));
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    return status;
}

static bool same_digest(const dw_actor_digest *a, const dw_actor_digest *b) {
    return dw_hash_equal(&a->memory, &b->memory) && dw_hash_equal(&a->kv, &b->kv) &&
           dw_hash_equal(&a->tokens, &b->tokens) && dw_hash_equal(&a->logits, &b->logits);
}

static dw_status fork_branches(talk *t, dw_demo_talk *out, dw_error *err) {
    dw_actor_digest before, after;
    dw_cli_heading(t->cli, "4. Forked into two branches with the same past");
    dw_status status = dw_actor_digest_of(t->watch.actor, &before, err);
    for (size_t i = 0; status == DW_OK && i < N_BRANCHES; i++) status = branch_in_demo(t, i, err);
    if (status == DW_OK) status = dw_actor_digest_of(t->watch.actor, &after, err);
    if (status != DW_OK) return status;
    out->fork_left_parent_alone = same_digest(&before, &after);
    dw_cli_say(t->cli, "  The actor they came from is %s.\n", out->fork_left_parent_alone ? "untouched" : "CHANGED");
    return DW_OK;
}

dw_status dw_demo_run_talk(const dw_demo *demo, dw_demo_talk *out, dw_error *err) {
    talk t = {.demo = demo, .cli = demo->cli, .now_ns = first_message_ns, .turns = json_array()};
    t.watch = (dw_watch){.cli = demo->cli, .stream = true, .trim = true, .label = "  driftwood  "};
    json_t *frozen = NULL, *child = NULL;
    *out = (dw_demo_talk){0};
    dw_status status = start_talk(&t, err);
    if (status == DW_OK) status = converse_in_demo(&t, err);
    if (status == DW_OK) status = freeze_in_demo(&t, &frozen, err);
    if (status == DW_OK) status = thaw_and_compare(&t, out, &child, err);
    if (status == DW_OK) status = fork_branches(&t, out, err);
    if (status == DW_OK)
        out->details = json_pack("{s:O, s:O, s:O}", "turns", t.turns, "frozen", frozen, "thawed", child);
    json_decref(frozen);
    json_decref(child);
    json_decref(t.turns);
    free(t.last_reply);
    dw_actor_destroy(t.watch.actor);
    dw_watch_deinit(&t.watch);
    return status;
}

/* nodes.c: a node that lives in a verb's process: the folder is opened, the message is given to the actor, and all is
 * closed again. Killed in between, the folder is as the last turn on disk left it. */
#include <string.h>

#include "cli/cli.h"
#include "os/os.h"

enum { NODE_WAIT_DEFAULT_S = 60 };

/* --- opening and closing ----------------------------------------------------------------------------------------- */

/* Another process has it for the time of one turn, mostly. */
static dw_status wait_for_node(const dw_cli *cli, const char *folder, uint64_t wait_s, dw_node **out, dw_error *err) {
    uint64_t end_ns = dw_os_monotonic_ns() + dw_min_u64(wait_s, UINT64_C(1) << 32) * UINT64_C(1000000000);
    dw_status status = dw_node_open(folder, NULL, out, err);
    while (status == DW_E_BUSY && dw_os_monotonic_ns() < end_ns) {
        dw_cli_progress(cli, "waiting for another driftwood that has %s ...", folder);
        dw_os_sleep(UINT64_C(10000000));
        status = dw_node_open(folder, NULL, out, err);
    }
    dw_cli_progress(cli, NULL);
    if (status != DW_E_BUSY) return status;
    return dw_fail(err, DW_E_BUSY, "another driftwood has had %s for %llu seconds", folder,
                   (unsigned long long)wait_s);
}

dw_status dw_local_node_open(dw_cli *cli, const dw_args *args, bool make, dw_local_node *out, dw_error *err) {
    const char *folder = dw_args_text(args, "in");
    *out = (dw_local_node){0};
    if (!folder || !folder[0]) return dw_cli_usage(cli, err, "--in DIR has to say which node's folder");
    if (!make && !dw_node_is_there(folder)) {
        dw_cli_hint(cli, "`driftwood spawn NAME PROGRAM --in %.100s` makes a node there.", folder);
        return dw_fail(err, DW_E_NOT_FOUND, "there is no node in %.200s", folder);
    }
    return wait_for_node(cli, folder, dw_args_number(args, "wait", NODE_WAIT_DEFAULT_S), &out->node, err);
}

dw_status dw_local_node_live(dw_cli *cli, const dw_args *args, const char *name, dw_local_node *of, dw_error *err) {
    dw_node_info info = {0};
    dw_status status = name ? dw_node_look(of->node, name, &info, err) : DW_OK;
    if (status == DW_OK && name)
        status = dw_open_runtime_for_state(cli, args, dw_blob_view(info.state), &of->runtime, err);
    else if (status == DW_OK) status = dw_open_runtime(cli, args, DW_MODEL_IF_THERE, &of->runtime, err);
    dw_node_info_deinit(&info);
    if (status == DW_OK) dw_node_live_in(of->node, of->runtime);
    return status;
}

dw_status dw_local_node_close(dw_local_node *of, dw_status status, dw_error *err) {
    dw_error own;
    dw_status closed = dw_node_close(of->node, &own);
    dw_runtime_destroy(of->runtime);
    *of = (dw_local_node){0};
    if (status == DW_OK && closed != DW_OK) return dw_fail(err, closed, "%s", own.text);
    return status;
}

/* --- messages ---------------------------------------------------------------------------------------------------- */

dw_node_message dw_message_of(const dw_args *args, const char *text) {
    return (dw_node_message){.body = text, .size = strlen(text), .realtime_ns = dw_args_number(args, "at", 0),
                             .key = dw_args_text(args, "key")};
}

uint64_t dw_turn_deadline(const dw_watch *watch) {
    return watch->turn_limit_ns ? dw_os_monotonic_ns() + watch->turn_limit_ns : UINT64_MAX;
}

static json_t *json_of_answer(const dw_watch *watch, const char *name, const char *text,
                              const dw_node_answer *answer) {
    const dw_message message = {text, strlen(text)};
    return json_pack("{s:s, s:I, s:b, s:o}", "actor", name, "number", (json_int_t)answer->number, "known",
                     (int)answer->known, "turn", dw_json_turn(watch, message, &answer->turn));
}

dw_status dw_ask_node(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0), *text = dw_args_operand(args, 1);
    const dw_node_message message = dw_message_of(args, text);
    dw_watch watch = dw_watch_of(cli, args);
    watch.trim = true;
    watch.last_byte = '\n';
    const dw_observer observer = dw_watch_observer(&watch);
    dw_local_node local;
    dw_node_answer answer = {0};
    json_t *object = NULL;
    dw_status status = dw_local_node_open(cli, args, false, &local, err);
    if (status == DW_OK) status = dw_local_node_live(cli, args, name, &local, err);
    watch.started_ns = dw_os_monotonic_ns();
    if (status == DW_OK)
        status = dw_node_ask(local.node, name, &message, dw_turn_deadline(&watch), &observer, &answer, err);
    if (status == DW_OK) {
        dw_say_reply(&watch, &answer.turn);
        object = json_of_answer(&watch, name, text, &answer);
        status = dw_cli_finish(cli, object, err);
    }
    dw_turn_free(&answer.turn);
    status = dw_local_node_close(&local, status, err);
    dw_watch_deinit(&watch);
    return status;
}

/* --- inspect ------------------------------------------------------------------------------------------------------ */

static json_t *json_of_info(const char *name, const dw_node_info *info) {
    const dw_checkpoint_state *state = dw_blob_view(info->state);
    json_t *sessions = json_array();
    for (size_t i = 0; i < state->n_sessions; i++) {
        const dw_checkpoint_session *s = &state->sessions[i];
        (void)json_array_append_new(
            sessions, json_pack("{s:I, s:o, s:I, s:I, s:b}", "handle", (json_int_t)s->handle, "model",
                                dw_json_text(s->model_name, strlen(s->model_name)), "tokens", (json_int_t)s->n_tokens,
                                "rows", (json_int_t)s->n_rows, "fast", (int)s->fast));
    }
    return json_pack("{s:s, s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:o}", "actor", name, "turn", (json_int_t)state->turn,
                     "program", dw_json_hash(&state->program), "memory_bytes", (json_int_t)state->memory_bytes,
                     "kept_bytes", (json_int_t)(info->kept_pages * DW_STORE_PAGE_BYTES), "kept_rows",
                     (json_int_t)info->kept_rows, "waiting", (json_int_t)info->waiting, "answers",
                     (json_int_t)info->answers, "sessions", sessions);
}

static void say_info(const dw_cli *cli, const char *name, const dw_node_info *info) {
    const dw_checkpoint_state *state = dw_blob_view(info->state);
    char memory[DW_SIZE_TEXT_BYTES], kept[DW_SIZE_TEXT_BYTES], program[DW_HASH_HEX_BYTES];
    dw_hash_hex(&state->program, program);
    dw_cli_say_styled(cli, DW_STYLE_BOLD, "%s", name);
    dw_cli_say(cli, ": %llu turns, %u messages wait, %u answers are remembered\n", (unsigned long long)state->turn,
               info->waiting, info->answers);
    dw_cli_say(cli, "  program    %s\n  memory     %s, of which %s are its own on disk\n", program,
               dw_size_text(state->memory_bytes, memory), dw_size_text(info->kept_pages * DW_STORE_PAGE_BYTES, kept));
    for (size_t i = 0; i < state->n_sessions; i++)
        dw_cli_say(cli, "  session %u  %u tokens, %u with KV rows, model %s\n", state->sessions[i].handle,
                   state->sessions[i].n_tokens, state->sessions[i].n_rows, state->sessions[i].model_name);
}

dw_status dw_inspect_node(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0);
    bool digest = dw_args_flag(args, "digest");
    dw_local_node local;
    dw_node_info info = {0};
    dw_actor_digest hashes;
    dw_status status = dw_local_node_open(cli, args, false, &local, err);
    if (status == DW_OK) status = dw_node_look(local.node, name, &info, err);
    if (status == DW_OK && dw_args_flag(args, "verify")) status = dw_node_verify(local.node, err);
    if (status == DW_OK && digest) status = dw_local_node_live(cli, args, name, &local, err);
    if (status == DW_OK && digest) status = dw_node_digest(local.node, name, &hashes, err);
    if (status == DW_OK) {
        say_info(cli, name, &info);
        if (digest) dw_say_digest(cli, &hashes);
        json_t *object = json_of_info(name, &info);
        if (object && digest) (void)json_object_set_new(object, "digest", dw_json_digest(&hashes));
        status = dw_cli_finish(cli, object, err);
    }
    dw_node_info_deinit(&info);
    return dw_local_node_close(&local, status, err);
}

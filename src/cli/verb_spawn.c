/* verb_spawn.c: driftwood spawn. A new actor in a node's folder, and its first message. */
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"

/* The first message waits with the actor, in one commit; so whatever comes next, it is handled. */
static dw_status answer_first(const dw_args *args, dw_watch *watch, dw_node *node, const dw_node_message *first,
                              dw_node_answer *answer, dw_error *err) {
    const dw_observer observer = dw_watch_observer(watch);
    watch->last_byte = '\n';
    watch->started_ns = dw_os_monotonic_ns();
    if (!first) return DW_OK;
    return dw_node_await(node, dw_args_operand(args, 0), 1, dw_turn_deadline(watch), &observer, answer, err);
}

static dw_status run_spawn(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0), *text = dw_args_operand(args, 2);
    const dw_node_message first = dw_message_of(args, text ? text : "");
    const dw_spawn_options born = {.birth_realtime_ns = dw_args_number(args, "at", 0), .first = text ? &first : NULL};
    const dw_message message = {text, text ? strlen(text) : 0};
    dw_watch watch = dw_watch_of(cli, args);
    dw_local_node local = {0};
    dw_program *program = NULL;
    dw_node_answer answer = {0};
    dw_status status = !text && dw_args_text(args, "key") ? dw_cli_usage(cli, err, "--key is for a message") : DW_OK;
    if (status == DW_OK) status = dw_local_node_open(cli, args, true, &local, err);
    if (status == DW_OK) status = dw_local_node_live(cli, args, NULL, &local, err);
    if (status == DW_OK) status = dw_load_program(cli, local.runtime, dw_args_operand(args, 1), &program, err);
    if (status == DW_OK) status = dw_node_spawn(local.node, name, program, &born, err);
    if (status == DW_OK) dw_cli_say(cli, "%s is in %s\n", name, dw_args_text(args, "in"));
    if (status == DW_OK) status = answer_first(args, &watch, local.node, born.first, &answer, err);
    if (status == DW_OK) {
        dw_say_reply(&watch, &answer.turn);
        status = dw_cli_finish(cli, json_pack("{s:s, s:o, s:o}", "actor", name, "program",
                                              dw_json_hash(&dw_program_info_view(program)->hash), "turn",
                                              text ? dw_json_turn(&watch, message, &answer.turn) : json_null()), err);
    }
    dw_turn_free(&answer.turn);
    dw_program_release(program);
    status = dw_local_node_close(&local, status, err);
    dw_watch_deinit(&watch);
    return status;
}

static const dw_option options[] = {
    DW_OPTION_IN,
    DW_OPTION_KEY,
    DW_OPTION_WAIT,
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_spawn = {
    .name = "spawn",
    .summary = "a new actor in a node, durable from then on",
    .operands = "NAME PROGRAM [MESSAGE]",
    .operands_min = 2,
    .operands_max = 3,
    .text = "Makes an actor of that name in the node's folder (--in DIR), which is made where it is missing. The\n"
            "actor, its program and its first message are on disk when this ends well; the message is handled then.",
    .options = options,
    .run = run_spawn,
};

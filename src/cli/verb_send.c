/* verb_send.c: driftwood send. A message for an actor of a node, whose answer nobody waits for. */
#include "cli/cli.h"
#include "cli/verbs.h"

static dw_status run_send(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0);
    const dw_node_message message = dw_message_of(args, dw_args_operand(args, 1));
    dw_watch watch = dw_watch_of(cli, args);
    dw_local_node local = {0};
    uint64_t number = 0;
    uint32_t handled = 0, failed = 0;
    bool known = false;
    dw_error why;
    dw_status status = dw_local_node_open(cli, args, false, &local, err);
    if (status == DW_OK) status = dw_node_send(local.node, name, &message, &number, &known, err);
    if (status == DW_OK) dw_cli_say(cli, "message %llu %s\n", (unsigned long long)number,
                                    known ? "was accepted before" : "is accepted");
    if (status == DW_OK && !dw_args_flag(args, "leave")) {
        /* Accepted it is, whatever becomes of its turn. */
        if (dw_local_node_live(cli, args, name, &local, &why) != DW_OK ||
            dw_node_drain(local.node, name, dw_turn_deadline(&watch), NULL, &handled, &failed, &why) != DW_OK)
            dw_log(DW_LOG_WARN, "message_waits", "actor=%s reason=\"%s\"", name, why.text);
    }
    if (status == DW_OK)
        status = dw_cli_finish(cli, json_pack("{s:s, s:I, s:b, s:I, s:I}", "actor", name, "number",
                                              (json_int_t)number, "known", (int)known, "handled", (json_int_t)handled,
                                              "failed", (json_int_t)failed), err);
    status = dw_local_node_close(&local, status, err);
    dw_watch_deinit(&watch);
    return status;
}

static const dw_option options[] = {
    DW_OPTION_IN,
    DW_OPTION_KEY,
    DW_OPTION_WAIT,
    {"leave", DW_OPTION_FLAG, NULL, "only accept the message: it waits until the actor wakes for another reason"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_send = {
    .name = "send",
    .summary = "a message to an actor of a node, without an answer",
    .operands = "NAME MESSAGE",
    .operands_min = 2,
    .operands_max = 2,
    .text = "The message is on disk when this says that it is accepted; it is handled once, now or when the actor\n"
            "next wakes. What its turn replies goes nowhere; a turn that fails is told on standard error.",
    .options = options,
    .run = run_send,
};

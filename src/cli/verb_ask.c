/* verb_ask.c: driftwood ask. One question to an actor that lives in a file, or in a node. */
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"

static dw_status ask_file(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *file = dw_args_operand(args, 0), *text = dw_args_operand(args, 1);
    bool dry = dw_args_flag(args, "dry-run");
    const dw_message message = {text, strlen(text)};
    dw_opened opened;
    dw_opened_init(&opened, cli, args);
    opened.watch.trim = true;
    dw_thaw_options options = {.observer = &opened.observer};
    dw_thaw_report thawed;
    dw_checkpoint_report frozen;
    dw_turn_result result = {0};

    /* Claimed before it is read: of two who ask at once, the second one's question comes after the first one's
     * answer. */
    dw_status status = dry ? DW_OK : dw_claim_own(cli, file, &opened.claim, err);
    if (status == DW_OK)
        status = dw_wake_actor(cli, args, dry ? file : opened.claim.path, &options, &opened.runtime,
                               &opened.watch.actor, &thawed, err);
    if (status == DW_OK) status = dw_take_turn(&opened.watch, message, dw_args_number(args, "at", 0), &result, err);
    dw_say_reply(&opened.watch, &result);
    /* Over the file that is mapped: the new one replaces the name, the old pages live on until we close them. */
    if (status == DW_OK && !dry) status = dw_keep_actor(args, opened.watch.actor, &opened.claim, &frozen, err);
    if (status != DW_OK) goto out;
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:o, s:o, s:o}", "actor", dw_actor_name(opened.watch.actor), "turn",
                                     dw_json_turn(&opened.watch, message, &result), "thawed", dw_json_thaw(&thawed),
                                     "frozen", dry ? json_null() : dw_json_freeze(file, &frozen)),
                           err);
out:
    dw_turn_free(&result);
    dw_opened_close(&opened);
    return status;
}

static dw_status run_ask(dw_cli *cli, const dw_args *args, dw_error *err) {
    bool of_node = dw_args_text(args, "in") != NULL;
    if (!of_node && (dw_args_text(args, "key") || dw_args_number(args, "wait", 0)))
        return dw_cli_usage(cli, err, "--key and --wait are for an actor of a node (--in)");
    if (of_node && (dw_args_flag(args, "dry-run") || dw_args_flag(args, "no-program") || dw_args_text(args, "program")))
        return dw_cli_usage(cli, err, "--dry-run, --program and --no-program are for an actor in a file");
    return of_node ? dw_ask_node(cli, args, err) : ask_file(cli, args, err);
}

static const dw_option options[] = {
    DW_OPTION_IN,
    DW_OPTION_KEY,
    DW_OPTION_WAIT,
    {"dry-run", DW_OPTION_FLAG, NULL, "leave the file as it is: the actor will not remember the question"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_PROGRAM,
    DW_OPTION_NO_PROGRAM,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_ask = {
    .name = "ask",
    .summary = "ask an actor in a file or a node something; it remembers",
    .operands = "FILE.drift|NAME TEXT",
    .operands_min = 2,
    .operands_max = 2,
    .text =
        "Thaws the actor, gives it the message, prints what it answers, and freezes it back into the same file. If\n"
        "anything fails on the way, the file stays as it was.\n"
        "With --in DIR the actor is the one of that name in the node's folder, and its answer is printed when the\n"
        "turn is on disk: killed at any moment, it is as its last answer left it, or as the next one would have.",
    .options = options,
    .run = run_ask,
};

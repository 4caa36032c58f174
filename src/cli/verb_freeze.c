/* verb_freeze.c: driftwood freeze. A program, some messages, a checkpoint. */
#include "cli/cli.h"
#include "cli/verbs.h"

static dw_status run_freeze(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *file = dw_args_operand(args, 1), *given = dw_args_text(args, "name");
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_opened opened;
    dw_checkpoint_report report;
    size_t n_messages;
    const char *const *messages = dw_args_texts(args, "message", &n_messages);
    json_t *turns = json_array();

    dw_opened_init(&opened, cli, args);
    dw_name_from_path(file, name);
    dw_actor_options options = {.name = given ? given : name, .birth_realtime_ns = dw_args_number(args, "at", 0),
                                .observer = &opened.observer};
    dw_status status = dw_claim_new(cli, args, file, &opened.claim, err);
    if (status == DW_OK)
        status = dw_open_program(&opened, cli, args, dw_args_operand(args, 0), DW_MODEL_IF_THERE, err);
    if (status == DW_OK)
        status = dw_actor_create(opened.runtime, opened.program, &options, &opened.watch.actor, err);
    if (status == DW_OK)
        status = dw_take_turns(&opened.watch, messages, n_messages, dw_args_number(args, "at", 0), turns, err);
    if (status == DW_OK) status = dw_keep_actor(args, opened.watch.actor, &opened.claim, &report, err);
    if (status != DW_OK) goto out;
    dw_say_freeze(cli, file, &report);
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:O, s:o}", "actor", options.name, "turns", turns, "frozen",
                                     dw_json_freeze(file, &report)),
                           err);
out:
    json_decref(turns);
    dw_opened_close(&opened);
    return status;
}

static const dw_option options[] = {
    {"message", DW_OPTION_TEXT, "TEXT", "a message to handle before freezing; several are handled in order"},
    {"name", DW_OPTION_TEXT, "NAME", "of the actor; default the file's name"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_FORCE,
    DW_OPTION_NO_PROGRAM,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_freeze = {
    .name = "freeze",
    .summary = "make an actor of a program, give it messages, write it to a file",
    .operands = "PROGRAM.wasm OUT.drift",
    .operands_min = 2,
    .operands_max = 2,
    .text = "Starts the program as an actor, handles the messages, and writes the actor with its memory and its\n"
            "conversations to a checkpoint. The file is whole or not there at all; it holds what was said: keep it "
            "private.",
    .options = options,
    .run = run_freeze,
};

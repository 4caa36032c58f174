/* verb_freeze.c: driftwood freeze. A program, some messages, a checkpoint. */
#include "cli/cli.h"
#include "cli/verbs.h"

static dw_status run_freeze(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *file = dw_args_operand(args, 1), *given = dw_args_text(args, "name");
    char path[DW_PATH_BYTES], name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_runtime *runtime = NULL;
    dw_program *program = NULL;
    dw_claim claim;
    dw_watch watch = dw_watch_of(cli, args);
    dw_observer observer = dw_watch_observer(&watch);
    dw_checkpoint_report report;
    size_t n_messages;
    const char *const *messages = dw_args_texts(args, "message", &n_messages);
    json_t *turns = json_array();

    dw_name_from_path(file, name);
    dw_actor_options options = {.name = given ? given : name, .birth_realtime_ns = dw_args_number(args, "at", 0),
                                .observer = &observer};
    dw_status status = dw_claim_new(cli, args, file, &claim, err);
    if (status == DW_OK) status = dw_find_program(cli, dw_args_operand(args, 0), path, err);
    if (status == DW_OK) status = dw_open_runtime(cli, args, DW_MODEL_IF_THERE, &runtime, err);
    if (status == DW_OK) status = dw_runtime_load_program(runtime, path, &program, err);
    if (status == DW_OK) status = dw_actor_create(runtime, program, &options, &watch.actor, err);
    if (status == DW_OK)
        status = dw_take_turns(&watch, messages, n_messages, dw_args_number(args, "at", 0), turns, err);
    if (status == DW_OK) status = dw_keep_actor(args, watch.actor, &claim, &report, err);
    if (status != DW_OK) goto out;
    dw_say_freeze(cli, file, &report);
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:O, s:o}", "actor", options.name, "turns", turns, "frozen",
                                     dw_json_freeze(file, &report)),
                           err);
out:
    json_decref(turns);
    dw_actor_destroy(watch.actor);
    dw_watch_deinit(&watch);
    dw_claim_release(&claim);
    dw_program_release(program);
    dw_runtime_destroy(runtime);
    return status;
}

static const dw_option options[] = {
    {"message", DW_OPTION_TEXT, "TEXT", "a message to handle before freezing; several are handled in order"},
    {"name", DW_OPTION_TEXT, "NAME", "of the actor; default the file's name"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_FORCE,
    DW_OPTION_NO_PROGRAM,
    DW_OPTION_AT,
    DW_OPTION_MODEL,
    DW_OPTION_DEVICE,
    DW_OPTION_THREADS,
    DW_OPTION_REPACK,
    DW_OPTION_KV_BUDGET,
    DW_OPTION_MEMORY,
    DW_OPTION_KV,
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

/* verb_thaw.c: driftwood thaw. Makes a live actor of a file, says what was proved on the way, and goes on. */
#include "cli/cli.h"
#include "cli/verbs.h"
#include "os/os.h"

static dw_status run_thaw(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *file = dw_args_operand(args, 0);
    dw_opened opened;
    dw_opened_init(&opened, cli, args);
    opened.watch.trim = true;
    dw_thaw_options options = {.observer = &opened.observer, .name = dw_args_text(args, "name")};
    dw_thaw_report report;
    dw_actor_digest digest;
    size_t n_messages;
    const char *const *messages = dw_args_texts(args, "message", &n_messages);
    json_t *turns = json_array(), *object = NULL;

    dw_status status = dw_wake_actor(cli, args, file, &options, &opened.runtime, &opened.watch.actor, &report, err);
    uint64_t ready_at_ns = dw_os_monotonic_ns();
    if (status == DW_OK) dw_say_thaw(cli, &report);
    if (status == DW_OK)
        status = dw_take_turns(&opened.watch, messages, n_messages, dw_args_number(args, "at", 0), turns, err);
    if (status == DW_OK && dw_args_flag(args, "digest"))
        status = dw_actor_digest_of(opened.watch.actor, &digest, err);
    if (status != DW_OK) goto out;
    if (dw_args_flag(args, "digest")) dw_say_digest(cli, &digest);
    object = dw_json_thaw(&report);
    if (object) {
        (void)json_object_set_new(object, "actor", json_string(dw_actor_name(opened.watch.actor)));
        (void)json_object_set(object, "turns", turns);
        /* On this machine's monotonic clock, the same in every process: who started us can tell how long that took. */
        (void)json_object_set_new(object, "ready_at_ns", dw_json_u64(ready_at_ns));
        if (dw_args_flag(args, "digest")) (void)json_object_set_new(object, "digest", dw_json_digest(&digest));
    }
    status = dw_cli_finish(cli, object, err);
out:
    json_decref(turns);
    dw_opened_close(&opened);
    return status;
}

static const dw_option options[] = {
    {"message", DW_OPTION_TEXT, "TEXT", "a message to go on with; several are handled in order"},
    {"digest", DW_OPTION_FLAG, NULL,
     "print the hashes of memory, KV rows, tokens and held logits at the end, to compare actors"},
    {"name", DW_OPTION_TEXT, "NAME", "the actor's name from now on; default the one in the file"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_PROGRAM,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_thaw = {
    .name = "thaw",
    .summary = "bring an actor in a file to life, and say what that cost and proved",
    .operands = "FILE.drift",
    .operands_min = 1,
    .operands_max = 1,
    .text =
        "Checks every byte of the checkpoint, that program and model are those it was made with, maps memory and KV\n"
        "rows in place, and reports: times to open, verify and map, tokens reused and recomputed, and whether the\n"
        "continuation is exact (bit for bit as if never frozen) and why not. The file itself stays as it is.",
    .options = options,
    .run = run_thaw,
};

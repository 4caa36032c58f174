/* verb_run.c: driftwood run. Any program: an actor that gets messages, or a WASI command that runs once. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "os/os.h"

/* --- a WASI command -------------------------------------------------------------------------------------------- */

typedef struct command_io {
    bool collect;          /* --json: its output becomes part of the object */
    dw_writer output;
} command_io;

static dw_status write_stream(void *context, int stream, const void *data, size_t size) {
    command_io *io = context;
    if (stream == 1 && io->collect) {
        dw_write_bytes(&io->output, data, size);
        return io->output.status;
    }
    return dw_os_write_stream(stream, data, size, NULL);
}

/* Up to a line at a time, so that a program that converses gets what was typed. */
static size_t read_stdin(void *context, void *data, size_t capacity) {
    (void)context;
    char *bytes = data;
    size_t size = 0;
    int byte;
    while (size < capacity && (byte = getchar()) != EOF) {
        bytes[size++] = (char)byte;
        if (byte == '\n') break;
    }
    return size;
}

static dw_status argv_of(const dw_args *args, const char ***out, dw_error *err) {
    size_t n = dw_args_operands(args);
    const char **argv = calloc(n + 1, sizeof *argv);
    *out = argv;
    if (!argv) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the program's arguments");
    memcpy(argv, dw_args_operands_from(args, 0), n * sizeof *argv);
    return DW_OK;
}

static dw_status run_command(dw_cli *cli, const dw_args *args, dw_program *program, dw_error *err) {
    command_io io = {.collect = cli->json};
    dw_instance *instance = NULL;
    const char **argv = NULL;
    dw_call_result result = {0};
    dw_writer_init(&io.output);
    uint64_t now = dw_os_realtime_ns();
    dw_instance_options options = {.wasi_state = {.birth_realtime_ns = now, .turn_realtime_ns = now},
                                   .wasi = {.write = write_stream, .read = read_stdin, .context = &io}};
    dw_status status = dw_os_random(options.wasi_state.random_seed, sizeof options.wasi_state.random_seed, err);
    if (status == DW_OK) status = argv_of(args, &argv, err);
    options.wasi.arguments = argv;
    if (status == DW_OK) status = dw_instance_create(program, &options, &instance, err);
    if (status == DW_OK) status = dw_instance_start_command(instance, UINT64_MAX, &result, err);
    if (status == DW_E_EXIT) status = DW_OK; /* how a command ends that calls exit() */
    if (status == DW_OK) {
        cli->exit_code = result.exit_code;
        status = dw_cli_finish(cli,
                               json_pack("{s:i, s:o}", "exit_code", (int)result.exit_code, "output",
                                         dw_json_text((const char *)io.output.data, io.output.size)),
                               err);
    }
    dw_instance_destroy(instance);
    dw_writer_deinit(&io.output);
    free(argv);
    return status;
}

/* --- an actor -------------------------------------------------------------------------------------------------- */

static dw_status take_lines(dw_watch *watch, uint64_t at, json_t *turns, dw_error *err) {
    bool terminal = dw_os_is_terminal(0);
    for (uint64_t n = 0;; n++) {
        dw_line kind;
        char *line = NULL;
        size_t size = 0;
        if (terminal) dw_cli_say_styled(watch->cli, DW_STYLE_BOLD, "message> ");
        dw_status status = dw_read_line(&kind, &line, &size, err);
        if (status == DW_OK && kind != DW_LINE_TEXT) return DW_OK;
        if (status == DW_OK) {
            dw_turn_result result;
            const dw_message message = {line, size};
            status = dw_take_turn(watch, message, at ? at + n * UINT64_C(1000000000) : 0, &result, err);
            dw_say_reply(watch, &result);
            if (status == DW_OK && json_array_append_new(turns, dw_json_turn(watch, message, &result)) != 0) {
                status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
            }
            dw_turn_free(&result);
        }
        free(line);
        /* A program that refuses or fails one message goes on with the next when somebody is there to see it. */
        if (status != DW_OK && dw_status_kind_of(status) == DW_KIND_REFUSED && terminal) {
            dw_cli_say_styled(watch->cli, DW_STYLE_BAD, "%s", err->text);
            dw_cli_say(watch->cli, "\n");
            continue;
        }
        if (status != DW_OK) return status;
    }
}

/* The default model's KV rows. */
static json_t *json_of_model(dw_runtime *runtime) {
    dw_model *model = dw_runtime_model(runtime, NULL);
    dw_session_pool_use use;
    if (!model) return json_null();
    dw_session_pool_use_now(dw_model_pool(model), &use);
    return dw_json_kv(&use);
}

static dw_status run_actor(dw_cli *cli, const dw_args *args, dw_opened *opened, dw_error *err) {
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_actor_use use;
    const char **argv = NULL;
    const char *freeze = dw_args_text(args, "freeze");
    json_t *frozen = NULL, *turns = json_array();
    dw_name_from_path(dw_args_operand(args, 0), name);
    dw_status status = freeze ? dw_claim_new(cli, args, freeze, &opened->claim, err) : DW_OK;
    if (status == DW_OK) status = argv_of(args, &argv, err);
    dw_actor_options options = {.name = name, .birth_realtime_ns = dw_args_number(args, "at", 0),
                                .observer = &opened->observer,
                                .arguments = dw_args_operands(args) > 1 ? argv : NULL};
    if (status == DW_OK)
        status = dw_actor_create(opened->runtime, opened->program, &options, &opened->watch.actor, err);
    if (status != DW_OK) goto out;

    size_t n_messages;
    const char *const *messages = dw_args_texts(args, "message", &n_messages);
    uint64_t at = dw_args_number(args, "at", 0);
    status = n_messages ? dw_take_turns(&opened->watch, messages, n_messages, at, turns, err)
                        : take_lines(&opened->watch, at, turns, err);
    if (status == DW_OK && freeze) {
        dw_checkpoint_report report;
        status = dw_keep_actor(args, opened->watch.actor, &opened->claim, &report, err);
        if (status == DW_OK) dw_say_freeze(cli, freeze, &report);
        if (status == DW_OK) frozen = dw_json_freeze(freeze, &report);
    }
    if (status == DW_OK) status = dw_actor_use_now(opened->watch.actor, &use, err);
    if (status != DW_OK) goto out;
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:O, s:o, s:o, s:o}", "actor", name, "turns", turns, "frozen",
                                     frozen ? frozen : json_null(), "use", dw_json_use(&use), "kv",
                                     json_of_model(opened->runtime)),
                           err);
    frozen = NULL;
out:
    json_decref(frozen);
    if (status != DW_OK) cli->so_far = json_pack("{s:O}", "turns", turns);
    json_decref(turns);
    free(argv);
    return status;
}

static dw_status run_run(dw_cli *cli, const dw_args *args, dw_error *err) {
    dw_opened opened;
    dw_opened_init(&opened, cli, args);
    dw_status status = dw_open_program(&opened, cli, args, dw_args_operand(args, 0), DW_MODEL_IF_THERE, err);
    if (status != DW_OK) goto out;
    const dw_program_info *info = dw_program_info_view(opened.program);
    if (info->has_receive) {
        status = run_actor(cli, args, &opened, err);
    } else if (info->has_start_command) {
        status = run_command(cli, args, opened.program, err);
    } else {
        dw_cli_hint(cli, "sdk/c/README.md shows a first program in 20 lines.");
        status = dw_fail(err, DW_E_UNSUPPORTED,
                         "%.80s exports neither driftwood_receive (an actor) nor _start (a command)",
                         dw_args_operand(args, 0));
    }
out:
    dw_opened_close(&opened);
    return status;
}

static const dw_option options[] = {
    {"message", DW_OPTION_TEXT, "TEXT",
     "a message for the actor; several are handled in order; without any, each line of standard input is one"},
    {"freeze", DW_OPTION_TEXT, "FILE.drift", "write a checkpoint at the end"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_FORCE,
    DW_OPTION_NO_PROGRAM,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_run = {
    .name = "run",
    .summary = "run a program: an actor that gets messages, or a WASI command",
    .operands = "PROGRAM.wasm [ARGUMENTS...]",
    .operands_min = 1,
    .operands_max = -1,
    .text =
        "A program that exports driftwood_receive becomes an actor: each message is one turn, its reply is printed.\n"
        "A WASI command (_start) runs once, with standard input, output and error passed through, and its exit code\n"
        "becomes ours. Arguments that begin with a dash go behind --, as in: driftwood run tool.wasm -- -v\n"
        "The name of a shipped program will do too: driftwood run counter --message \"add 2\". --model none\n"
        "opens none.",
    .options = options,
    .run = run_run,
};

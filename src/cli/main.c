/* main.c: the table of verbs, `help` and `version`, and the one place that prints errors and chooses the exit code. */
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "driftwood/guest.h"
#include "os/os.h"

static dw_status run_help(dw_cli *cli, const dw_args *args, dw_error *err);
static dw_status run_version(dw_cli *cli, const dw_args *args, dw_error *err);

static const dw_option no_options[] = {DW_OPTION_END};

static const dw_verb verb_help = {
    .name = "help",
    .summary = "this overview, or the help of one verb",
    .operands = "[VERB]",
    .operands_max = 1,
    .text = "Shows what there is, or the same as driftwood VERB --help.",
    .options = no_options,
    .run = run_help,
};

static const dw_verb verb_version = {
    .name = "version",
    .summary = "the version of the program and of its formats",
    .operands = "",
    .text = "Prints the version of driftwood, of the guest ABI, and of the checkpoint format.",
    .options = no_options,
    .run = run_version,
};

const dw_verb *const dw_verbs[] = {
    &dw_verb_doctor, &dw_verb_models, &dw_verb_chat,  &dw_verb_run,  &dw_verb_ask, &dw_verb_freeze,  &dw_verb_thaw,
    &dw_verb_fork,   &dw_verb_spawn,  &dw_verb_send,  &dw_verb_list, &dw_verb_rm,  &dw_verb_inspect, &dw_verb_embed,
    &dw_verb_prove,  &dw_verb_demo,   &verb_version,  &verb_help,    NULL,
};

static const dw_verb *find_verb(const char *name) {
    for (size_t i = 0; dw_verbs[i]; i++) {
        if (strcmp(dw_verbs[i]->name, name) == 0) return dw_verbs[i];
    }
    return NULL;
}

/* --- help and version ------------------------------------------------------------------------------------------ */

static void print_overview(void) {
    printf("usage: driftwood VERB [ARGUMENTS]\n\n"
           "Driftwood runs WebAssembly actors whose memory and conversations with language models are memory that\n"
           "it owns, so that an actor can be frozen, thawed and forked in the middle of a conversation.\n\n"
           "Verbs:\n");
    for (size_t i = 0; dw_verbs[i]; i++) printf("  %-9s %s\n", dw_verbs[i]->name, dw_verbs[i]->summary);
    printf("\ndriftwood VERB --help tells more; every verb takes --json.\n\n"
           "Exit codes:\n"
           "  0  done\n"
           "  1  refused: what was asked for is not possible or not allowed\n"
           "  2  the command line is wrong\n"
           "  3  failed: the system or the device did not deliver\n"
           "  4  corrupt: a checkpoint or model file is damaged\n"
           "  5  the guest program trapped or exited\n"
           "  6  ended by a signal (SIGINT, SIGTERM, SIGHUP); files are whole, each with what was written last\n\n"
           "Environment:\n"
           "  DRIFTWOOD_MODEL   the model to use (a path or a name)\n"
           "  DRIFTWOOD_CACHE   folder for models and compiled programs; default ~/.cache/driftwood\n"
           "  DRIFTWOOD_LOG     error, warn (default), info, debug or trace; to standard error\n"
           "  NO_COLOR          no colours\n");
}

static dw_status help_as_json(const dw_cli *cli, dw_error *err) {
    json_t *verbs = json_array();
    for (size_t i = 0; dw_verbs[i]; i++) {
        (void)json_array_append_new(verbs, json_pack("{s:s, s:s, s:s}", "name", dw_verbs[i]->name, "operands",
                                                     dw_verbs[i]->operands, "summary", dw_verbs[i]->summary));
    }
    return dw_cli_finish(cli, json_pack("{s:o}", "verbs", verbs), err);
}

static dw_status run_help(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0);
    const dw_verb *verb = name ? find_verb(name) : NULL;
    if (name && !verb) return dw_cli_usage(cli, err, "there is no verb \"%.60s\"", name);
    if (cli->json) return help_as_json(cli, err);
    if (verb) dw_verb_help(cli, verb);
    else print_overview();
    return DW_OK;
}

static dw_status run_version(dw_cli *cli, const dw_args *args, dw_error *err) {
    (void)args;
    dw_cli_say(cli, "driftwood %s (guest ABI %d, checkpoint format %d)\n", DW_VERSION_TEXT, DW_ABI_VERSION,
               DW_DRIFT_VERSION);
    return dw_cli_finish(
        cli, json_pack("{s:s, s:i, s:i}", "version", DW_VERSION_TEXT, "abi", DW_ABI_VERSION, "drift", DW_DRIFT_VERSION),
        err);
}

/* --- errors ---------------------------------------------------------------------------------------------------- */

static int exit_code_of(const dw_cli *cli, dw_status status) {
    if (cli->usage_error) return DW_EXIT_USAGE;
    if (cli->exit_code >= 0) return cli->exit_code;
    if (status == DW_E_TRAP || status == DW_E_EXIT) return DW_EXIT_GUEST;
    switch (dw_status_kind_of(status)) {
    case DW_KIND_OK: return DW_EXIT_OK;
    case DW_KIND_REFUSED: return DW_EXIT_REFUSED;
    case DW_KIND_CORRUPT: return DW_EXIT_CORRUPT;
    case DW_KIND_FAILED: break;
    }
    return DW_EXIT_FAILED;
}

static const char *failure_kind_text(const dw_cli *cli, dw_status status) {
    static const char *const texts[] = {
        [DW_KIND_OK] = "ok", [DW_KIND_REFUSED] = "refused", [DW_KIND_FAILED] = "failed", [DW_KIND_CORRUPT] = "corrupt"};
    return cli->usage_error ? "usage" : texts[dw_status_kind_of(status)];
}

static void report_error(const dw_cli *cli, const char *verb, dw_status status, const dw_error *err) {
    const char *text = err->text[0] ? err->text : dw_status_text(status);
    dw_cli_progress(cli, NULL);
    (void)fflush(stdout);
    bool colour = dw_os_is_terminal(2) && !dw_os_environment("NO_COLOR");
    (void)fprintf(stderr, "%sdriftwood%s%s:%s %s", colour ? "\033[31m" : "", verb ? " " : "", verb ? verb : "",
                  colour ? "\033[0m" : "", text);
    if (err->offset != DW_NO_OFFSET && dw_status_kind_of(status) == DW_KIND_CORRUPT)
        (void)fprintf(stderr, " (at byte %llu)", (unsigned long long)err->offset);
    (void)fprintf(stderr, "\n");
    if (cli->hint[0]) (void)fprintf(stderr, "%s\n", cli->hint);
    if (cli->usage_error) (void)fprintf(stderr, "Try: driftwood %s%s--help\n", verb ? verb : "", verb ? " " : "");
    if (!cli->json) return;

    json_t *error = json_pack("{s:s, s:i, s:s, s:o}", "status", dw_status_name(status), "code", (int)status, "kind",
                              failure_kind_text(cli, status), "text", dw_json_text(text, strlen(text)));
    if (error && cli->hint[0]) (void)json_object_set_new(error, "hint", dw_json_text(cli->hint, strlen(cli->hint)));
    if (error && err->offset != DW_NO_OFFSET) (void)json_object_set_new(error, "offset", dw_json_u64(err->offset));
    if (error && err->system_errno != 0) (void)json_object_set_new(error, "errno", json_integer(err->system_errno));
    dw_error ignored;
    json_t *object = cli->so_far ? json_incref(cli->so_far) : json_object();
    if (json_object_set_new(object, "error", error) != 0) object = (json_decref(object), NULL);
    if (dw_cli_finish(cli, object, &ignored) != DW_OK && strcmp(ignored.text, text) != 0)
        (void)fprintf(stderr, "driftwood: %s\n", ignored.text);
}

/* --- main ------------------------------------------------------------------------------------------------------ */

static dw_status run_verb(dw_cli *cli, const dw_verb *verb, int argc, char **argv, dw_error *err) {
    dw_args *args = NULL;
    dw_status status = dw_args_parse(cli, verb, argc, argv, &args, err);
    if (status != DW_OK) return status;
    if (dw_args_flag(args, "help")) dw_verb_help(cli, verb);
    else status = verb->run(cli, args, err);
    dw_args_free(args);
    return status;
}

static dw_status set_log_level(dw_cli *cli, dw_error *err) {
    const char *text = dw_os_environment("DRIFTWOOD_LOG");
    dw_log_level level;
    if (!text || !text[0]) return DW_OK;
    if (dw_log_parse_level(text, &level) != DW_OK)
        return dw_cli_usage(cli, err, "DRIFTWOOD_LOG is \"%.40s\", not error, warn, info, debug or trace", text);
    dw_log_set_level(level);
    return DW_OK;
}

int main(int argc, char **argv) {
    dw_cli cli = {.exit_code = -1};
    dw_error err = {.offset = DW_NO_OFFSET};
    const dw_verb *verb = NULL;
    dw_os_end_well(DW_EXIT_SIGNAL, DW_EXIT_FAILED);
    cli.colour = dw_os_is_terminal(1) && !dw_os_environment("NO_COLOR");
    /* Known before the options are parsed, so that an error in them is JSON too. */
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) cli.json = cli.json || strcmp(argv[i], "--json") == 0;

    dw_status status = set_log_level(&cli, &err);
    if (status != DW_OK) goto out;
    const char *name = argc > 1 ? argv[1] : "help";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) name = "help";
    if (strcmp(name, "--version") == 0) name = "version";
    verb = find_verb(name);
    if (verb) status = run_verb(&cli, verb, argc > 2 ? argc - 2 : 0, argv + (argc > 2 ? 2 : argc), &err);
    else status = dw_cli_usage(&cli, &err, "there is no verb \"%.60s\"", name);
    if (status == DW_OK && argc < 2) cli.exit_code = DW_EXIT_USAGE; /* the overview was not asked for */
out:
    /* An answer that nobody got is no success, whichever line of it was lost. */
    if (status == DW_OK && (fflush(stdout) != 0 || ferror(stdout) != 0))
        status = dw_fail(&err, DW_E_IO, "cannot write to standard output");
    if (status != DW_OK) report_error(&cli, verb ? verb->name : NULL, status, &err);
    json_decref(cli.so_far);
    return exit_code_of(&cli, status);
}

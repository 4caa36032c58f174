/* verb_chat.c: driftwood chat. A conversation with a model through the shipped chat program. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "os/os.h"

typedef struct chat {
    dw_cli *cli;
    const dw_args *args;
    dw_opened opened;  /* its claim is on --save's file */
    bool saves;
    dw_checkpoint_report saved; /* the last time */
    json_t *turns;
    bool interactive;  /* somebody types: prompts, and no failure ends it */
    bool quit;
} chat;

/* --- commands -------------------------------------------------------------------------------------------------- */

static void complain(const chat *c, const dw_error *err) {
    dw_cli_say_styled(c->cli, DW_STYLE_BAD, "%s", err->text);
    dw_cli_say(c->cli, "\n");
}

static dw_status command_freeze(chat *c, const char *file, dw_error *err) {
    dw_checkpoint_report report;
    dw_claim claim;
    dw_status status = dw_claim_new(c->cli, c->args, file, &claim, err);
    if (status == DW_OK) status = dw_keep_actor(c->args, c->opened.watch.actor, &claim, &report, err);
    if (status == DW_OK) dw_say_freeze(c->cli, file, &report);
    dw_claim_release(&claim);
    return status;
}

static dw_status command_fork(chat *c, const char *file, dw_error *err) {
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_actor *child = NULL;
    dw_fork_report forked;
    dw_checkpoint_report frozen;
    dw_claim claim;
    dw_name_from_path(file, name);
    dw_status status = dw_claim_new(c->cli, c->args, file, &claim, err);
    if (status == DW_OK) status = dw_actor_fork(c->opened.watch.actor, name, &child, &forked, err);
    if (status == DW_OK) status = dw_keep_actor(c->args, child, &claim, &frozen, err);
    dw_actor_destroy(child);
    dw_claim_release(&claim);
    if (status != DW_OK) return status;
    dw_cli_say(c->cli, "forked as %s in %.3f ms: %u tokens shared. ", name, dw_ms(forked.ns), forked.tokens);
    dw_say_freeze(c->cli, file, &frozen);
    dw_cli_say(c->cli, "go on with it in another terminal: driftwood chat --thaw %s\n", file);
    return DW_OK;
}

static dw_status command_stats(chat *c, dw_error *err) {
    dw_actor_use use;
    char memory[DW_SIZE_TEXT_BYTES], kv[DW_SIZE_TEXT_BYTES], own[DW_SIZE_TEXT_BYTES];
    dw_status status = dw_actor_use_now(c->opened.watch.actor, &use, err);
    if (status != DW_OK) return status;
    dw_cli_say(c->cli, "%llu turns; memory %s; %u tokens, %s KV (%s of it only ours)\n",
               (unsigned long long)dw_actor_turns(c->opened.watch.actor), dw_size_text(use.memory_bytes, memory),
               use.tokens, dw_size_text(use.kv_bytes, kv), dw_size_text(use.kv_own_bytes, own));
    return DW_OK;
}

static void say_help(const chat *c) {
    dw_cli_say(c->cli,
               "  /freeze FILE   write this conversation to a file; driftwood chat --thaw FILE goes on with it\n"
               "  /fork FILE     write a second actor with this past, and go on here\n"
               "  /stats         turns, tokens and bytes\n"
               "  /reset         forget the conversation      /seed N, /temperature X   how answers are drawn\n"
               "  /help, /quit   Ctrl-C stops an answer; twice, the program\n");
}

/* Handles a line that is for us and not for the program. */
static bool own_command(chat *c, const char *line, dw_status *status, dw_error *err) {
    size_t length = strcspn(line, " ");
    const char *file = line + length + strspn(line + length, " ");
    *status = DW_OK;
    bool freeze = strncmp(line, "/freeze", length) == 0 && length == strlen("/freeze");
    bool fork_it = strncmp(line, "/fork", length) == 0 && length == strlen("/fork");
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) c->quit = true;
    else if (strcmp(line, "/help") == 0) say_help(c);
    /* And then what the program counts. */
    else if (strcmp(line, "/stats") == 0) return (*status = command_stats(c, err)) != DW_OK;
    else if ((freeze || fork_it) && !*file)
        *status = dw_fail(err, DW_E_INVALID, "%s needs a file name", freeze ? "/freeze" : "/fork");
    else if (freeze) *status = command_freeze(c, file, err);
    else if (fork_it) *status = command_fork(c, file, err);
    else return false;
    return true;
}

/* --- conversation ---------------------------------------------------------------------------------------------- */

/* After each turn: whatever ends the process then, what was said is in the file. */
static dw_status save_conversation(chat *c, dw_error *err) {
    return c->saves ? dw_keep_actor(c->args, c->opened.watch.actor, &c->opened.claim, &c->saved, err) : DW_OK;
}

static dw_status converse_line(chat *c, dw_message line, uint64_t at, dw_error *err) {
    dw_status status;
    if (strlen(line.text) == line.size && line.text[strspn(line.text, " \t")] == '\0') return DW_OK;
    if (own_command(c, line.text, &status, err)) return status;
    dw_turn_result result;
    status = dw_take_turn(&c->opened.watch, line, at, &result, err);
    dw_say_reply(&c->opened.watch, &result);
    if (status == DW_OK) status = save_conversation(c, err);
    if (status == DW_OK && json_array_append_new(c->turns, dw_json_turn(&c->opened.watch, line, &result)) != 0) {
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the result");
    }
    dw_turn_free(&result);
    if (c->opened.watch.ended_by_user) c->quit = true;
    /* Stopped by the user: the turn left nothing behind, and that is no error. */
    if (status == DW_E_CANCELLED && c->opened.watch.ended_by_user) status = DW_OK;
    return status;
}

static dw_status converse(chat *c, uint64_t at, dw_error *err) {
    dw_status status = DW_OK;
    for (uint64_t n = 0; status == DW_OK && !c->quit; n++) {
        dw_line kind;
        char *line = NULL;
        size_t size = 0;
        if (c->interactive) dw_cli_say_styled(c->cli, DW_STYLE_BOLD, "you> ");
        status = dw_read_line(&kind, &line, &size, err);
        if (status == DW_OK && kind == DW_LINE_INTERRUPTED) dw_cli_say(c->cli, "\n(/quit or Ctrl-D leaves)\n");
        if (status == DW_OK && kind == DW_LINE_END) {
            if (c->interactive) dw_cli_say(c->cli, "\n");
            break;
        }
        if (status == DW_OK && kind == DW_LINE_TEXT)
            status = converse_line(c, (dw_message){line, size}, at ? at + n * UINT64_C(1000000000) : 0, err);
        free(line);
        bool serious = dw_status_kind_of(status) == DW_KIND_FAILED;
        if (status != DW_OK && c->interactive && !serious) {
            complain(c, err);
            status = DW_OK;
        }
    }
    return status;
}

static void greet(const chat *c, dw_runtime *runtime) {
    if (!c->interactive) return;
    dw_model *model = dw_runtime_model(runtime, NULL);
    dw_cli_say_styled(c->cli, DW_STYLE_DIM,
                      "%s on %s. It is small and makes things up. /help shows what you can do here; Ctrl-D leaves.",
                      model ? dw_model_info_view(model)->name : "no model",
                      dw_device_info_view(dw_runtime_device(runtime))->description);
    dw_cli_say(c->cli, "\n");
}

/* Draws answers by the user's seed or temperature: commands that the program itself understands. */
static dw_status apply_setting(chat *c, const char *command, const char *value, uint64_t at, dw_error *err) {
    char line[80];
    dw_turn_result result;
    if (!value) return DW_OK;
    int length = snprintf(line, sizeof line, "%s %.60s", command, value);
    dw_status status = dw_take_turn(&c->opened.watch, (dw_message){line, (size_t)length}, at, &result, err);
    dw_turn_free(&result);
    return status;
}

static dw_status apply_settings(chat *c, uint64_t at, dw_error *err) {
    dw_status status = apply_setting(c, "/seed", dw_args_text(c->args, "seed"), at, err);
    return status == DW_OK ? apply_setting(c, "/temperature", dw_args_text(c->args, "temperature"), at, err) : status;
}

/* Values that the program would refuse in its own words, which nobody would see. */
static dw_status check_settings(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *seed = dw_args_text(args, "seed"), *temperature = dw_args_text(args, "temperature");
    char *end = NULL;
    if (seed && (strspn(seed, "0123456789") != strlen(seed) || strlen(seed) == 0 || strlen(seed) > 19)) {
        return dw_cli_usage(cli, err, "--seed needs a whole number of at most 19 digits, not \"%.40s\"", seed);
    }
    if (!temperature) return DW_OK;
    double value = strtod(temperature, &end);
    bool good = end != temperature && *end == '\0' && value >= 0 && value <= 10 &&
                strspn(temperature, "0123456789.") == strlen(temperature);
    return good ? DW_OK
                : dw_cli_usage(cli, err, "--temperature needs a number from 0 to 10, not \"%.40s\"", temperature);
}

/* --save: the file is there from the beginning on, so that a path that will not do shows now. */
static dw_status begin_saving(chat *c, dw_error *err) {
    const char *file = dw_args_text(c->args, "save");
    if (!file) return DW_OK;
    c->saves = true;
    return save_conversation(c, err);
}

static dw_status begin_conversation(chat *c, const dw_args *args, dw_error *err) {
    const char *thaw = dw_args_text(args, "thaw"), *program = dw_args_text(args, "program");
    dw_opened *opened = &c->opened;
    if (thaw) {
        dw_thaw_options options = {.observer = &opened->observer};
        dw_thaw_report report;
        dw_status status =
            dw_wake_actor(c->cli, args, thaw, &options, &opened->runtime, &opened->watch.actor, &report, err);
        if (status == DW_OK) status = apply_settings(c, dw_args_number(args, "at", 0), err);
        if (status == DW_OK && c->interactive) dw_say_thaw(c->cli, &report);
        return status;
    }
    uint64_t at = dw_args_number(args, "at", 0);
    dw_actor_options options = {.name = "chat", .birth_realtime_ns = at, .observer = &opened->observer};
    dw_status status = dw_open_program(opened, c->cli, args, program ? program : "chat", DW_MODEL_NEEDED, err);
    if (status == DW_OK)
        status = dw_actor_create(opened->runtime, opened->program, &options, &opened->watch.actor, err);
    return status == DW_OK ? apply_settings(c, at, err) : status;
}

/* The claim on --save's file: the conversation's own, where it goes on in the file that it came from. */
static dw_status claim_file(chat *c, dw_error *err) {
    const char *save = dw_args_text(c->args, "save"), *thaw = dw_args_text(c->args, "thaw");
    char from[DW_PATH_BYTES], to[DW_PATH_BYTES];
    dw_os_path_kind kind;
    if (!save) return DW_OK;
    bool own = thaw && dw_os_resolve(thaw, from, &kind, NULL) == DW_OK &&
               dw_os_resolve(save, to, &kind, NULL) == DW_OK && strcmp(from, to) == 0;
    return own ? dw_claim_own(c->cli, save, &c->opened.claim, err)
               : dw_claim_new(c->cli, c->args, save, &c->opened.claim, err);
}

static dw_status run_chat(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *save = dw_args_text(args, "save");
    chat c = {.cli = cli, .args = args, .turns = json_array(),
              .interactive = dw_os_is_terminal(0) && dw_os_is_terminal(1) && !cli->json};
    dw_opened_init(&c.opened, cli, args);
    c.opened.watch.trim = true;
    c.opened.watch.label = c.interactive ? "driftwood> " : NULL;

    dw_status status = check_settings(cli, args, err);
    if (status == DW_OK) status = claim_file(&c, err);
    dw_cli_progress(cli, "opening the model ...");
    if (status == DW_OK) status = begin_conversation(&c, args, err);
    if (status == DW_OK) status = begin_saving(&c, err);
    dw_cli_progress(cli, NULL);
    if (status == DW_OK) status = dw_watch_interrupts(&c.opened.watch, err);
    if (status != DW_OK) goto out;
    greet(&c, c.opened.runtime);
    status = converse(&c, dw_args_number(args, "at", 0), err);
    if (status != DW_OK) goto out;
    if (save && c.interactive) dw_say_freeze(cli, save, &c.saved);
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:O, s:o}", "actor", dw_actor_name(c.opened.watch.actor), "turns", c.turns,
                                     "frozen", save ? dw_json_freeze(save, &c.saved) : json_null()),
                           err);
out:
    if (status != DW_OK) cli->so_far = json_pack("{s:O}", "turns", c.turns);
    json_decref(c.turns);
    dw_opened_close(&c.opened);
    return status;
}

static const dw_option options[] = {
    {"thaw", DW_OPTION_TEXT, "FILE.drift", "go on with a frozen conversation"},
    {"save", DW_OPTION_TEXT, "FILE.drift",
     "keep the conversation in a file, from the beginning on and after each answer"},
    {"seed", DW_OPTION_TEXT, "N", "draw answers differently"},
    {"temperature", DW_OPTION_TEXT, "X", "0 always takes the likeliest word; the program's own is moderate"},
    {"program", DW_OPTION_TEXT, "PATH|NAME", "another program to talk to; default chat"},
    DW_OPTION_TURN_LIMIT,
    DW_OPTION_FORCE,
    DW_OPTION_NO_PROGRAM,
    DW_OPTION_AT,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_chat = {
    .name = "chat",
    .summary = "talk to a model through the shipped chat program",
    .operands = "",
    .text =
        "Each line you type is a message; the answer streams as it comes. Ctrl-C stops an answer, and once more ends\n"
        "the program. /help in the chat lists commands: freeze, fork, stats. Without a terminal, each line of\n"
        "standard input is a message and only answers are printed.",
    .options = options,
    .run = run_chat,
};

/* verb_fork.c: driftwood fork. A second actor in a file of its own, with the same past. */
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"

/* A fork in its parent's file would be the end of the parent, --force or not. */
static dw_status check_names(dw_cli *cli, const char *from, const char *to, dw_error *err) {
    char parent[DW_PATH_BYTES], child[DW_PATH_BYTES];
    dw_os_path_kind kind;
    dw_status status = dw_os_resolve(from, parent, &kind, err);
    /* Told where it is opened. */
    if (status == DW_E_NOT_FOUND || (status == DW_OK && kind == DW_OS_PATH_ABSENT)) return DW_OK;
    if (status == DW_OK) status = dw_os_resolve(to, child, &kind, err);
    if (status != DW_OK || strcmp(parent, child) != 0) return status;
    return dw_cli_usage(cli, err, "the fork needs a file of its own: %s is its parent's", to);
}

static dw_status run_fork(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *from = dw_args_operand(args, 0), *to = dw_args_operand(args, 1), *given = dw_args_text(args, "name");
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_runtime *runtime = NULL;
    dw_actor *parent = NULL, *child = NULL;
    dw_thaw_report thawed;
    dw_fork_report forked;
    dw_checkpoint_report frozen;

    dw_claim claim = {.lock = DW_OS_FILE_NONE};
    dw_name_from_path(to, name);
    dw_status status = check_names(cli, from, to, err);
    if (status == DW_OK) status = dw_claim_new(cli, args, to, &claim, err);
    if (status == DW_OK) status = dw_wake_actor(cli, args, from, NULL, &runtime, &parent, &thawed, err);
    if (status == DW_OK) status = dw_actor_fork(parent, given ? given : name, &child, &forked, err);
    if (status == DW_OK) status = dw_keep_actor(args, child, &claim, &frozen, err);
    if (status != DW_OK) goto out;
    dw_cli_say(cli, "forked %s from %s: %u tokens shared, %.3f ms\n", dw_actor_name(child), dw_actor_name(parent),
               forked.tokens, dw_ms(forked.ns));
    dw_say_freeze(cli, to, &frozen);
    status = dw_cli_finish(cli,
                           json_pack("{s:s, s:s, s:{s:o, s:I, s:I}, s:o}", "actor", dw_actor_name(child), "parent",
                                     dw_actor_name(parent), "fork", "ms", dw_json_ms(forked.ns), "tokens",
                                     (json_int_t)forked.tokens, "kv_bytes", (json_int_t)forked.kv_bytes, "frozen",
                                     dw_json_freeze(to, &frozen)),
                           err);
out:
    dw_actor_destroy(child);
    dw_actor_destroy(parent);
    dw_claim_release(&claim);
    dw_runtime_destroy(runtime);
    return status;
}

static const dw_option options[] = {
    {"name", DW_OPTION_TEXT, "NAME", "of the new actor; default the new file's name"},
    DW_OPTION_FORCE,
    DW_OPTION_PROGRAM,
    DW_OPTION_NO_PROGRAM,
    DW_OPTIONS_OF_RUNTIME,
    DW_OPTION_END,
};

const dw_verb dw_verb_fork = {
    .name = "fork",
    .summary = "a second actor, in a file of its own, with the same past",
    .operands = "FILE.drift NEW.drift",
    .operands_min = 2,
    .operands_max = 2,
    .text =
        "Thaws the actor, forks it (memory and conversations are shared, not copied), and writes the new one to its\n"
        "own file, which names the old one as its parent. From then on the two live apart. FILE.drift is only read.",
    .options = options,
    .run = run_fork,
};

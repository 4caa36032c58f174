/* verb_rm.c: driftwood rm. An actor of a node goes for good. */
#include "cli/cli.h"
#include "cli/verbs.h"

static dw_status run_rm(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *name = dw_args_operand(args, 0);
    dw_local_node local;
    dw_status status = dw_local_node_open(cli, args, false, &local, err);
    if (status == DW_OK) status = dw_node_remove(local.node, name, err);
    if (status == DW_OK) dw_cli_say(cli, "%s is gone\n", name);
    if (status == DW_OK) status = dw_cli_finish(cli, json_pack("{s:s}", "removed", name), err);
    return dw_local_node_close(&local, status, err);
}

static const dw_option options[] = {DW_OPTION_IN, DW_OPTION_WAIT, DW_OPTION_END};

const dw_verb dw_verb_rm = {
    .name = "rm",
    .summary = "remove an actor of a node, with everything of it",
    .operands = "NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "The actor, its messages and its conversations are gone when this ends well. There is no way back.",
    .options = options,
    .run = run_rm,
};

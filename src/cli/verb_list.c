/* verb_list.c: driftwood list. The actors of a node. */
#include <stdlib.h>
#include <string.h>

#include "base/vec.h"
#include "cli/cli.h"
#include "cli/verbs.h"

/* Names are noted first: a walk must not ask the node for more. */
typedef struct actor_names { DW_VEC(char *) list; dw_status status; } actor_names;

static bool note_name(void *context, const char *name, uint64_t turn) {
    actor_names *names = context;
    size_t size = strlen(name) + 1;
    (void)turn;
    names->status = DW_VEC_RESERVE(&names->list, 1, DW_VEC_ITEMS_MAX);
    char *copy = names->status == DW_OK ? malloc(size) : NULL;
    if (!copy) {
        if (names->status == DW_OK) names->status = DW_E_NO_MEMORY;
        return false;
    }
    memcpy(copy, name, size);
    names->list.items[names->list.count++] = copy;
    return true;
}

static dw_status list_actor(const dw_cli *cli, dw_node *node, const char *name, json_t *actors, dw_error *err) {
    dw_node_info info;
    char program[DW_HASH_HEX_BYTES];
    dw_status status = dw_node_look(node, name, &info, err);
    if (status != DW_OK) return status;
    const dw_checkpoint_state *state = dw_blob_view(info.state);
    dw_hash_hex(&state->program, program);
    dw_cli_say(cli, "%-32s %10llu turns %6u waiting  program %.12s\n", name, (unsigned long long)state->turn,
               info.waiting, program);
    json_t *row = json_pack("{s:s, s:I, s:I, s:s, s:I}", "name", name, "turn", (json_int_t)state->turn, "waiting",
                            (json_int_t)info.waiting, "program", program, "memory_bytes",
                            (json_int_t)state->memory_bytes);
    if (json_array_append_new(actors, row) != 0) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the list");
    dw_node_info_deinit(&info);
    return status;
}

static dw_status run_list(dw_cli *cli, const dw_args *args, dw_error *err) {
    dw_local_node local;
    actor_names names = {0};
    json_t *actors = json_array();
    dw_status status = dw_local_node_open(cli, args, false, &local, err);
    if (status == DW_OK) status = dw_node_list(local.node, note_name, &names, err);
    if (status == DW_OK && names.status != DW_OK) status = dw_fail(err, names.status, "no memory for the list");
    for (size_t i = 0; i < names.list.count && status == DW_OK; i++)
        status = list_actor(cli, local.node, names.list.items[i], actors, err);
    if (status == DW_OK) status = dw_cli_finish(cli, json_pack("{s:O}", "actors", actors), err);
    json_decref(actors);
    for (size_t i = 0; i < names.list.count; i++) free(names.list.items[i]);
    DW_VEC_DEINIT(&names.list);
    return dw_local_node_close(&local, status, err);
}

static const dw_option options[] = {DW_OPTION_IN, DW_OPTION_WAIT, DW_OPTION_END};

const dw_verb dw_verb_list = {
    .name = "list",
    .summary = "the actors of a node",
    .operands = "",
    .text = "Names, committed turns, messages that wait, and programs. Nothing wakes.",
    .options = options,
    .run = run_list,
};

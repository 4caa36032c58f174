/* verbs.h: every verb_<name>.c gives one of these; main.c puts them into its table. */
#ifndef DW_CLI_VERBS_H
#define DW_CLI_VERBS_H

#include "cli/cli.h"

extern const dw_verb dw_verb_ask, dw_verb_chat, dw_verb_demo, dw_verb_doctor, dw_verb_embed, dw_verb_fork,
    dw_verb_freeze, dw_verb_inspect, dw_verb_list, dw_verb_models, dw_verb_prove, dw_verb_rm, dw_verb_run,
    dw_verb_send, dw_verb_spawn, dw_verb_thaw;

#endif

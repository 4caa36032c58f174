/* actors.c: an actor in a file comes to life, and goes into one: what the verbs that do so have in common. */
#include <string.h>

#include "cli/cli.h"
#include "os/os.h"

/* The program that --program names; NULL when it is not given: the checkpoint's own. */
static dw_status named_program(dw_cli *cli, const dw_args *args, dw_runtime *runtime, dw_program **out, dw_error *err) {
    char path[DW_PATH_BYTES];
    const char *name = dw_args_text(args, "program");
    *out = NULL;
    if (!name) return DW_OK;
    dw_status status = dw_find_program(cli, name, path, err);
    return status == DW_OK ? dw_runtime_load_program(runtime, path, out, err) : status;
}

dw_status dw_wake_actor(dw_cli *cli, const dw_args *args, const char *file, const dw_thaw_options *options, dw_runtime **runtime, dw_actor **actor,
                        dw_thaw_report *report, dw_error *err) {
    dw_thaw_options own = options ? *options : (dw_thaw_options){0};
    *actor = NULL;
    dw_status status = dw_open_runtime_for(cli, args, file, runtime, err);
    if (status == DW_OK) status = named_program(cli, args, *runtime, &own.program, err);
    if (status == DW_OK) status = dw_actor_thaw(*runtime, file, &own, actor, report, err);
    dw_program_release(own.program);
    return status;
}

dw_status dw_keep_actor(dw_cli *cli, const dw_args *args, dw_actor *actor, const char *file, dw_keep_mode mode, dw_checkpoint_report *report,
                        dw_error *err) {
    const dw_freeze_options options = {.without_program = dw_args_flag(args, "no-program")};
    if (mode == DW_KEEP_NEW && !dw_args_flag(args, "force") && dw_os_exists(file)) {
        dw_cli_hint(cli, "--force replaces it.");
        return dw_fail(err, DW_E_EXISTS, "%s is there already", file);
    }
    return dw_actor_freeze(actor, file, &options, report, err);
}

/* actors.c: an actor in a file comes to life, and goes into one: what the verbs that do so have in common.
 *
 * Who is going to write a file claims it first. A claim holds an advisory lock on the file's final name, in the cache
 * folder, so that it outlives the renames by which files are replaced, and leaves nothing beside them. Where the lock
 * cannot help (another user, another machine), the file's identity tells: an actor's own file is replaced only while it
 * is the one that the actor came from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

static const uint64_t claim_wait_ns = UINT64_C(60000000000), claim_poll_ns = UINT64_C(20000000);

/* --- claims ---------------------------------------------------------------------------------------------------- */

static dw_status lock_path_of(const char *path, char out[DW_PATH_BYTES], dw_error *err) {
    char cache[DW_PATH_BYTES], folder[DW_PATH_BYTES], hex[DW_HASH_HEX_BYTES];
    dw_hash hash;
    dw_status status = dw_os_cache_folder(cache, sizeof cache, err);
    if (status == DW_OK) status = dw_path_join(folder, cache, "locks", err);
    if (status == DW_OK) status = dw_os_make_folders(folder, err);
    if (status == DW_OK && dw_hash_of(path, strlen(path), &hash) != DW_OK)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a hash");
    if (status != DW_OK) return status;
    dw_hash_hex(&hash, hex);
    return dw_path_join(out, folder, hex, err);
}

static dw_status wait_for_lock(const dw_cli *cli, const char *lock, dw_claim *claim, dw_error *err) {
    uint64_t end_ns = dw_os_monotonic_ns() + claim_wait_ns;
    dw_status status = dw_os_try_lock(lock, &claim->lock, err);
    while (status == DW_E_BUSY && dw_os_monotonic_ns() < end_ns) {
        dw_cli_progress(cli, "waiting for another driftwood that has %s ...", claim->path);
        dw_os_sleep(claim_poll_ns);
        status = dw_os_try_lock(lock, &claim->lock, err);
    }
    dw_cli_progress(cli, NULL);
    if (status == DW_E_BUSY)
        return dw_fail(err, DW_E_BUSY, "another driftwood has had %s for %d seconds", claim->path,
                       (int)(claim_wait_ns / 1000000000u));
    return status;
}

/* "c.drift.0123456789abcdef.tmp" of "c.drift": left by a writer that was killed. Nobody else writes while we have the
 * lock. */
typedef struct dw_leftovers { const char *name; char folder[DW_PATH_BYTES]; } dw_leftovers;

static bool remove_leftover(void *context, const char *name) {
    const dw_leftovers *of = context;
    char path[DW_PATH_BYTES];
    size_t length = strlen(of->name);
    const char *rest = name + length;
    if (strncmp(name, of->name, length) != 0 || rest[0] != '.' || strspn(rest + 1, "0123456789abcdef") != 16 ||
        strcmp(rest + 17, ".tmp") != 0)
        return true;
    if (dw_path_join(path, of->folder, name, NULL) == DW_OK && dw_os_remove(path, NULL) != DW_OK)
        dw_log(DW_LOG_WARN, "leftover", "path=%s", path);
    return true;
}

static void remove_leftovers(const dw_claim *claim) {
    dw_leftovers of;
    const char *slash = strrchr(claim->path, '/'); /* the path is absolute */
    (void)snprintf(of.folder, sizeof of.folder, "%.*s", (int)(slash - claim->path), claim->path);
    of.name = slash + 1;
    dw_error ignored;
    if (dw_os_list(of.folder[0] ? of.folder : "/", remove_leftover, &of, &ignored) != DW_OK)
        dw_log(DW_LOG_DEBUG, "leftover", "reason=\"%s\"", ignored.text);
}

static dw_status claim_path(const dw_cli *cli, const char *file, dw_claim *claim, dw_os_path_kind *kind,
                            dw_error *err) {
    char lock[DW_PATH_BYTES];
    *claim = (dw_claim){.lock = DW_OS_FILE_NONE};
    dw_status status = dw_os_resolve(file, claim->path, kind, err);
    if (status == DW_OK) status = lock_path_of(claim->path, lock, err);
    if (status == DW_OK) status = wait_for_lock(cli, lock, claim, err);
    if (status == DW_OK) status = dw_os_resolve(file, claim->path, kind, err); /* who had it may have made it */
    if (status == DW_OK && *kind == DW_OS_PATH_FOLDER) status = dw_fail(err, DW_E_INVALID, "%s is a folder", file);
    if (status == DW_OK && *kind == DW_OS_PATH_OTHER) status = dw_fail(err, DW_E_INVALID, "%s is no plain file", file);
    if (status == DW_OK) remove_leftovers(claim);
    return status;
}

/* That a file can be made there: found out now, not when there is something to lose. */
static dw_status try_to_write(const dw_claim *claim, dw_error *err) {
    char path[DW_PATH_BYTES];
    dw_os_file file = DW_OS_FILE_NONE;
    int length = snprintf(path, sizeof path, "%s.0000000000000000.tmp", claim->path);
    if (length < 0 || (size_t)length >= sizeof path)
        return dw_fail(err, DW_E_INVALID, "the path %.60s... is too long", claim->path);
    dw_status status = dw_os_open(path, DW_OS_CREATE_NEW, &file, err);
    dw_os_close(&file);
    return status == DW_OK ? dw_os_remove(path, err) : status;
}

dw_status dw_claim_new(dw_cli *cli, const dw_args *args, const char *file, dw_claim *claim, dw_error *err) {
    dw_os_path_kind kind;
    dw_status status = claim_path(cli, file, claim, &kind, err);
    if (status == DW_OK && kind == DW_OS_PATH_FILE && !dw_args_flag(args, "force")) {
        dw_cli_hint(cli, "--force replaces it.");
        status = dw_fail(err, DW_E_EXISTS, "%s is there already", file);
    }
    if (status == DW_OK) status = try_to_write(claim, err);
    if (status != DW_OK) dw_claim_release(claim);
    return status;
}

static dw_status identity_of(const char *path, dw_hash *out, dw_error *err) {
    dw_checkpoint *checkpoint = NULL;
    dw_status status = dw_checkpoint_open(path, &checkpoint, err);
    if (status == DW_OK) *out = *dw_checkpoint_identity(checkpoint);
    dw_checkpoint_close(checkpoint);
    return status;
}

dw_status dw_claim_own(dw_cli *cli, const char *file, dw_claim *claim, dw_error *err) {
    dw_os_path_kind kind;
    dw_status status = claim_path(cli, file, claim, &kind, err);
    if (status == DW_OK) status = identity_of(claim->path, &claim->identity, err);
    claim->is_known = status == DW_OK;
    if (status == DW_E_NOT_FOUND)
        dw_cli_hint(cli, "`driftwood freeze` makes a checkpoint, and so does /freeze in a chat.");
    if (status != DW_OK) dw_claim_release(claim);
    return status;
}

void dw_claim_release(dw_claim *claim) { dw_os_close(&claim->lock); }

/* --- waking and keeping ---------------------------------------------------------------------------------------- */

/* Says on standard error what its author should know of how it was linked. */
static dw_status load_with_notes(dw_runtime *runtime, const char *path, dw_program **out, dw_error *err) {
    dw_status status = dw_runtime_load_program(runtime, path, out, err);
    if (status != DW_OK) return status;
    uint32_t advice = dw_program_info_view(*out)->advice;
    for (uint32_t bit = 1; bit <= DW_ADVICE_ALL; bit <<= 1)
        if (advice & bit) (void)fprintf(stderr, "driftwood: note: %s\n", dw_advice_text(bit));
    return DW_OK;
}

dw_status dw_load_program(dw_cli *cli, dw_runtime *runtime, const char *name, dw_program **out, dw_error *err) {
    char path[DW_PATH_BYTES];
    dw_status status = dw_find_program(cli, name, path, err);
    return status == DW_OK ? load_with_notes(runtime, path, out, err) : status;
}

/* The program that --program names; NULL when it is not given: the checkpoint's own. */
static dw_status named_program(dw_cli *cli, const dw_args *args, dw_runtime *runtime, dw_program **out, dw_error *err) {
    const char *name = dw_args_text(args, "program");
    *out = NULL;
    return name ? dw_load_program(cli, runtime, name, out, err) : DW_OK;
}

dw_status dw_wake_actor(dw_cli *cli, const dw_args *args, const char *file, const dw_thaw_options *options,
                        dw_runtime **runtime, dw_actor **actor, dw_thaw_report *report, dw_error *err) {
    dw_thaw_options own = options ? *options : (dw_thaw_options){0};
    *actor = NULL;
    dw_status status = dw_open_runtime_for(cli, args, file, runtime, err);
    if (status == DW_OK) status = named_program(cli, args, *runtime, &own.program, err);
    if (status == DW_OK) status = dw_actor_thaw(*runtime, file, &own, actor, report, err);
    dw_program_release(own.program);
    return status;
}

dw_status dw_keep_actor(const dw_args *args, dw_actor *actor, dw_claim *claim, dw_checkpoint_report *report,
                        dw_error *err) {
    const dw_freeze_options options = {.without_program = dw_args_flag(args, "no-program")};
    if (claim->is_known) {
        dw_hash now;
        dw_status status = identity_of(claim->path, &now, err);
        if (status == DW_OK && !dw_hash_equal(&now, &claim->identity))
            status = dw_fail(err, DW_E_STATE, "%s was changed by somebody else meanwhile", claim->path);
        if (status != DW_OK) return status;
    }
    dw_status status = dw_actor_freeze(actor, claim->path, &options, report, err);
    if (status != DW_OK) return status;
    claim->is_known = true;
    claim->identity = report->identity;
    return DW_OK;
}

/* --- what a verb has open -------------------------------------------------------------------------------------- */

void dw_opened_init(dw_opened *opened, const dw_cli *cli, const dw_args *args) {
    *opened = (dw_opened){.claim = {.lock = DW_OS_FILE_NONE}, .watch = dw_watch_of(cli, args)};
    opened->observer = dw_watch_observer(&opened->watch);
}

dw_status dw_open_program(dw_opened *opened, dw_cli *cli, const dw_args *args, const char *program, dw_model_need need,
                          dw_error *err) {
    char path[DW_PATH_BYTES];
    dw_status status = dw_find_program(cli, program, path, err);
    if (status == DW_OK) status = dw_open_runtime(cli, args, need, &opened->runtime, err);
    return status == DW_OK ? load_with_notes(opened->runtime, path, &opened->program, err) : status;
}

void dw_opened_close(dw_opened *opened) {
    dw_actor_destroy(opened->watch.actor);
    dw_watch_deinit(&opened->watch);
    dw_claim_release(&opened->claim);
    dw_program_release(opened->program);
    dw_runtime_destroy(opened->runtime);
}

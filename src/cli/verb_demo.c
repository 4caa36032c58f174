/* verb_demo.c: driftwood demo. What ./run shows: a conversation that survives, and the price of that in numbers. */
#include <string.h>

#include "cli/demo.h"
#include "cli/verbs.h"
#include "os/os.h"

/* --- text ------------------------------------------------------------------------------------------------------ */

static void say_table(const dw_cli *cli, const dw_demo_table *table) {
    dw_cli_heading(cli, "5. What it costs, and what it saves");
    dw_cli_say(
        cli,
        "  Conversations of several lengths, thawed in a new process each, beside reading the same tokens again.\n\n");
    dw_cli_say_styled(cli, DW_STYLE_DIM, "  %7s  %9s  %10s  %10s  %10s  %12s  %12s  %6s  %7s", "tokens", "KV", "freeze",
                      "check", "ready", "first token", "read again", "ratio", "reused");
    dw_cli_say(cli, "\n");
    for (size_t i = 0; i < table->n_rows; i++) {
        const dw_demo_row *r = &table->rows[i];
        char kv[DW_SIZE_TEXT_BYTES];
        double ratio = r->first_token_ns ? (double)r->reprefill_ns / (double)r->first_token_ns : 0;
        dw_cli_say(cli, "  %7u  %9s  %7.1f ms  %7.1f ms  %7.3f ms  %9.1f ms  %9.1f ms  %5.1fx  %7u%s\n", r->tokens,
                   dw_size_text(r->kv_bytes, kv), dw_ms(r->freeze_ns), dw_ms(r->verify_ns), dw_ms(r->ready_ns),
                   dw_ms(r->first_token_ns), dw_ms(r->reprefill_ns), ratio, r->tokens_reused,
                   r->exact ? "" : "  (not bit-exact)");
    }
    dw_cli_say(
        cli,
        "  check: hashing every byte of the file. ready: memory and KV mapped in place, nothing read or computed.\n");
    if (table->n_rows > 0)
        dw_cli_say(cli, "  A process that starts from nothing and opens the model is ready after %.0f ms.\n",
                   dw_ms(table->rows[table->n_rows - 1].process_ns));
}

static void say_fork(const dw_cli *cli, const dw_demo_fork *f) {
    char added[DW_SIZE_TEXT_BYTES], copy[DW_SIZE_TEXT_BYTES];
    dw_cli_say(cli,
               "\n  A fork at %u tokens took %.3f ms; its first token came after %.1f ms. After %u tokens it owned "
               "%s,\n  where a copy would have needed %s.\n",
               f->tokens, dw_ms(f->ns), dw_ms(f->first_token_ns), f->tokens_made,
               dw_size_text(f->added_bytes > 0 ? (uint64_t)f->added_bytes : 0, added),
               dw_size_text(f->copy_bytes, copy));
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static json_t *json_of_row(const dw_demo_row *r) {
    return json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:b, s:o, s:o, s:o, s:I}", "tokens",
                     (json_int_t)r->tokens, "kv_bytes", (json_int_t)r->kv_bytes, "freeze_ms", dw_json_ms(r->freeze_ns),
                     "ready_ms", dw_json_ms(r->ready_ns), "first_token_ms", dw_json_ms(r->first_token_ns),
                     "reprefill_ms", dw_json_ms(r->reprefill_ns), "tokens_reused", (json_int_t)r->tokens_reused,
                     "tokens_recomputed", (json_int_t)r->tokens_recomputed, "exact", (int)r->exact, "open_ms",
                     dw_json_ms(r->open_ns), "verify_ms", dw_json_ms(r->verify_ns), "process_ms",
                     dw_json_ms(r->process_ns), "file_bytes", (json_int_t)r->file_bytes);
}

static json_t *json_of_fork(const dw_demo_fork *f) {
    return json_pack("{s:I, s:o, s:I, s:o, s:I, s:I, s:I}", "tokens", (json_int_t)f->tokens, "ms", dw_json_ms(f->ns),
                     "added_bytes", (json_int_t)f->added_bytes, "first_token_ms", dw_json_ms(f->first_token_ns),
                     "copy_bytes", (json_int_t)f->copy_bytes, "kv_own_bytes", (json_int_t)f->kv_own_bytes,
                     "tokens_made", (json_int_t)f->tokens_made);
}

static json_t *json_of_demo(const dw_demo *demo, const dw_demo_talk *talk, const dw_demo_table *table, bool holds) {
    const dw_model_info *model = dw_model_info_view(dw_runtime_model(demo->runtime, NULL));
    json_t *rows = json_array();
    for (size_t i = 0; i < table->n_rows; i++) (void)json_array_append_new(rows, json_of_row(&table->rows[i]));
    return json_pack("{s:{s:b, s:b, s:b, s:b}, s:o, s:o, s:b, s:b, s:b, s:o, s:s, s:o, s:s, s:s}", "equal", "memory",
                     (int)talk->equal_memory, "kv", (int)talk->equal_kv, "tokens", (int)talk->equal_tokens, "text",
                     (int)talk->equal_text, "thaw", rows, "fork", json_of_fork(&table->fork), "exact", (int)talk->exact,
                     "parent_untouched", (int)talk->fork_left_parent_alone, "holds", (int)holds, "conversation",
                     json_incref(talk->details), "device", dw_device_info_view(dw_runtime_device(demo->runtime))->name,
                     "model", dw_json_text(model->name, strlen(model->name)), "model_type", model->file_type, "kv_type",
                     dw_kv_type_name(model->kv_type));
}

/* --- the verb -------------------------------------------------------------------------------------------------- */

static dw_status prepare_demo(dw_demo *demo, dw_error *err) {
    char cache[DW_PATH_BYTES];
    dw_status status = dw_os_executable_path(demo->executable, sizeof demo->executable, err);
    if (status == DW_OK) status = dw_os_cache_folder(cache, sizeof cache, err);
    if (status == DW_OK) status = dw_path_join(demo->folder, cache, "demo", err);
    if (status == DW_OK) status = dw_os_make_folders(demo->folder, err);
    if (status != DW_OK) return status;
    dw_cli_progress(demo->cli, "opening the model ...");
    status = dw_open_runtime(demo->cli, demo->args, DW_MODEL_NEEDED, &demo->runtime, err);
    dw_cli_progress(demo->cli, NULL);
    if (status == DW_OK)
        (void)snprintf(demo->threads, sizeof demo->threads, "%u", dw_device_threads(dw_runtime_device(demo->runtime)));
    return status;
}

static bool all_equal(const dw_demo_talk *talk) {
    return talk->equal_memory && talk->equal_kv && talk->equal_tokens && talk->equal_text;
}

static void say_verdict(const dw_cli *cli, const dw_demo *demo, const dw_demo_talk *talk, bool holds) {
    dw_cli_say(cli, "\n");
    if (holds)
        dw_cli_say_styled(cli, DW_STYLE_GOOD,
                          "The thawed actor went on exactly as if nothing had happened, and forks shared their past.");
    else if (all_equal(talk)) dw_cli_say_styled(cli, DW_STYLE_BAD, "Something above is not as it should be.");
    else dw_cli_say_styled(cli, DW_STYLE_BAD, "The thawed actor went on differently from its twin.");
    dw_cli_say(cli, "\nLook inside:  driftwood inspect %s/demo.drift\nTalk yourself: driftwood chat\n", demo->folder);
}

static dw_status run_demo(dw_cli *cli, const dw_args *args, dw_error *err) {
    static dw_demo demo; /* zero; its paths are large for a stack */
    dw_demo_talk talk = {0};
    dw_demo_table table;
    demo.cli = cli;
    demo.args = args;
    dw_status status = prepare_demo(&demo, err);
    if (status != DW_OK) goto out;
    const dw_model_info *model = dw_model_info_view(dw_runtime_model(demo.runtime, NULL));
    dw_cli_say_styled(cli, DW_STYLE_BOLD,
                      "Driftwood: an actor that can be frozen, thawed and forked in the middle of a conversation");
    dw_cli_say(cli, "\n");
    dw_cli_say_styled(cli, DW_STYLE_DIM, "%s (%s) on %s. A small base model: it is fluent, not wise.", model->name,
                      model->file_type, dw_device_info_view(dw_runtime_device(demo.runtime))->description);
    dw_cli_say(cli, "\n");
    status = dw_demo_run_talk(&demo, &talk, err);
    if (status == DW_OK) status = dw_demo_run_table(&demo, dw_args_flag(args, "quick"), &table, err);
    if (status != DW_OK) goto out;
    say_table(cli, &table);
    say_fork(cli, &table.fork);

    bool holds = all_equal(&talk) && talk.fork_left_parent_alone;
    for (size_t i = 0; i < table.n_rows; i++) holds = holds && table.rows[i].tokens_recomputed == 0;
    say_verdict(cli, &demo, &talk, holds);
    if (!holds) cli->exit_code = DW_EXIT_FAILED;
    status = dw_cli_finish(cli, json_of_demo(&demo, &talk, &table, holds), err);
out:
    json_decref(talk.details);
    dw_runtime_destroy(demo.runtime);
    return status;
}

static const dw_option options[] = {
    {"quick", DW_OPTION_FLAG, NULL, "leave out the longest conversation of the table"},
    DW_OPTION_MODEL,
    DW_OPTION_DEVICE,
    DW_OPTION_THREADS,
    DW_OPTION_KV_BUDGET,
    DW_OPTION_MEMORY,
    DW_OPTION_COMPILE_LIMIT,
    DW_OPTION_KV,
    DW_OPTION_END,
};

const dw_verb dw_verb_demo = {
    .name = "demo",
    .summary = "see it work: a conversation frozen, thawed elsewhere, forked, compared",
    .operands = "",
    .text =
        "A chat actor talks, is frozen into a file, and a new process goes on with it, beside a twin that was never\n"
        "frozen: their answers, memory, attention state and tokens are compared. Then it is forked, and a table shows "
        "what\n"
        "freezing, thawing and forking cost at 100, 1,000 and 4,000 tokens. Exit code 0 only if everything is equal.",
    .options = options,
    .run = run_demo,
};

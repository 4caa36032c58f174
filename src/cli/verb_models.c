/* verb_models.c: driftwood models. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "model/text/text.h"
#include "os/os.h"

typedef struct models_run {
    dw_cli *cli;
    bool repack;
    dw_device *device;
    json_t *models;
    size_t n_usable;
} models_run;

static json_t *json_of_model_file(const dw_model_info *info) {
    return json_pack(
        "{s:o, s:o, s:s, s:s, s:s?, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:b, s:s, s:I, s:I, s:b}",
        "path", dw_json_text(info->path, strlen(info->path)), "name", dw_json_text(info->name, strlen(info->name)),
        "architecture", info->architecture, "kind", info->kind == DW_MODEL_ENCODER ? "encoder" : "decoder", "pooling",
        info->kind == DW_MODEL_ENCODER ? dw_pooling_name(info->pooling) : NULL, "type", info->file_type, "file_bytes",
        (json_int_t)info->file_bytes, "parts", (json_int_t)info->n_parts, "parameters", (json_int_t)info->n_parameters,
        "layers", (json_int_t)info->n_layers, "vocabulary", (json_int_t)info->n_vocab, "context_tokens",
        (json_int_t)info->context_train_tokens, "kv_bytes_per_token", (json_int_t)info->kv_bytes_per_token, "kv_type",
        dw_kv_type_name(info->kv_type), "chat_template", (int)info->has_chat_template, "exact_batches",
        (int)info->exact_batches, "exact_cuts", (int)info->exact_cuts, "weights", info->weights, "weights_mapped_bytes",
        (json_int_t)info->weights_wrapped_bytes, "weights_repacked_bytes", (json_int_t)info->weights_repacked_bytes,
        "usable", 1);
}

/* A file that is no usable model is a line of the answer, not an error. */
static dw_status show_model(models_run *run, const char *path, dw_error *err) {
    dw_model *model = NULL;
    dw_error why = {0};
    char size[DW_SIZE_TEXT_BYTES], kv[DW_SIZE_TEXT_BYTES], parts[32] = "";
    json_t *entry;
    dw_status status = dw_model_open(path, run->device, &(dw_model_options){.repack = run->repack}, &model, &why);
    if (status == DW_OK) status = dw_vocab_wait(dw_model_vocab(model), &why); /* its verdict belongs to the answer */
    if (status == DW_E_NO_MEMORY) return dw_fail(err, status, "%s", why.text);
    if (status == DW_OK) {
        const dw_model_info *info = dw_model_info_view(model);
        entry = json_of_model_file(info);
        run->n_usable++;
        dw_cli_say_styled(run->cli, DW_STYLE_BOLD, "%s", info->name);
        if (info->n_parts > 1) snprintf(parts, sizeof parts, " in %u parts", info->n_parts);
        dw_cli_say(run->cli, "\n  %s, %s, %.0f million parameters, %s%s, context %u tokens, ", info->architecture,
                   info->file_type, (double)info->n_parameters / 1e6, dw_size_text(info->file_bytes, size), parts,
                   info->context_train_tokens);
        if (info->kind == DW_MODEL_ENCODER)
            dw_cli_say(run->cli, "encoder for embeddings (%u numbers, %s pooling)", info->n_embedding,
                       dw_pooling_name(info->pooling));
        else
            dw_cli_say(run->cli, "%s KV per token (%s)", dw_size_text(info->kv_bytes_per_token, kv),
                       dw_kv_type_name(info->kv_type));
        dw_cli_say(run->cli, "\n  %s\n", path);
        if (info->kind == DW_MODEL_DECODER) {
            dw_cli_say(run->cli, "  exact sessions %s, %s (tried on this device)\n",
                       info->exact_batches ? "are batched" : "decode alone",
                       info->exact_cuts ? "share prefixes" : "share no prefixes");
        }
        if (run->repack) {
            dw_cli_say(run->cli, "  repacked: %s in a copy, %s used in the file's map\n",
                       dw_size_text(info->weights_repacked_bytes, size), dw_size_text(info->weights_wrapped_bytes, kv));
        }
    } else {
        entry = json_pack("{s:o, s:b, s:s, s:o}", "path", dw_json_text(path, strlen(path)), "usable", 0, "status",
                          dw_status_name(status), "reason", dw_json_text(why.text, strlen(why.text)));
        dw_cli_say(run->cli, "%s\n", path);
        dw_cli_say_styled(run->cli, DW_STYLE_BAD, "  not usable: %s", why.text);
        dw_cli_say(run->cli, "\n");
    }
    dw_model_close(model);
    return json_array_append_new(run->models, entry) == 0
               ? DW_OK
               : dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of models");
}

static dw_status show_all(models_run *run, dw_error *err) {
    char **paths = NULL;
    size_t count = 0;
    dw_status status = dw_list_models(&paths, &count, err);
    for (size_t i = 0; status == DW_OK && i < count; i++) status = show_model(run, paths[i], err);
    const char *named = dw_os_environment("DRIFTWOOD_MODEL");
    bool listed = !named || !named[0];
    for (size_t i = 0; i < count && !listed; i++) listed = strcmp(paths[i], named) == 0;
    if (status == DW_OK && !listed && dw_os_exists(named)) status = show_model(run, named, err);
    if (status == DW_OK && json_array_size(run->models) == 0) {
        dw_cli_say(
            run->cli,
            "No models yet. ./run fetches Gemma 3 270M (225 MB); any GGUF file of a supported family works too:\n"
            "driftwood models PATH.gguf looks at one, --model PATH.gguf uses it.\n");
    }
    dw_list_free(paths, count);
    return status;
}

static dw_status run_models(dw_cli *cli, const dw_args *args, dw_error *err) {
    models_run run = {.cli = cli, .repack = dw_args_flag(args, "repack"), .models = json_array()};
    const char *path = dw_args_operand(args, 0);
    dw_status status = run.models ? dw_device_open("cpu", NULL, &run.device, err)
                                  : dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of models");
    if (status == DW_OK && path && !dw_os_exists(path))
        status = dw_fail(err, DW_E_NOT_FOUND, "there is no file \"%.120s\"", path);
    if (status == DW_OK) status = path ? show_model(&run, path, err) : show_all(&run, err);
    dw_device_close(run.device);
    if (status != DW_OK) {
        json_decref(run.models);
        return status;
    }
    if (path && run.n_usable == 0) cli->exit_code = DW_EXIT_REFUSED;
    return dw_cli_finish(cli, json_pack("{s:o}", "models", run.models), err);
}

static const dw_option options[] = {DW_OPTION_REPACK, DW_OPTION_END};

const dw_verb dw_verb_models = {
    .name = "models",
    .summary = "the models that are here, or what is in one GGUF file",
    .operands = "[PATH.gguf]",
    .operands_max = 1,
    .text =
        "Lists the GGUF files in the cache folder's models/ and the one that DRIFTWOOD_MODEL names, with family,\n"
        "type, size, context and the KV bytes that one token costs. With a path it looks at that file only; the\n"
        "exit code is 1 when the file is not usable, and the reason is printed. With --repack it says how much memory\n"
        "that option would cost for each.",
    .options = options,
    .run = run_models,
};

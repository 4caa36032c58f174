/* verb_embed.c: driftwood embed. Texts to vectors, and how near they are to each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/verbs.h"
#include "model/engine/engine.h"

enum { SHOWN_NUMBERS = 6 };

typedef struct embed_run {
    dw_device *device;
    dw_model *model;
    const dw_model_info *info;
    dw_embed_text *texts;
    int32_t **tokens;            /* [n_texts], each malloc'ed */
    float *vectors;              /* [n_texts, n_embedding] */
    uint32_t n_texts;
} embed_run;

/* --- options ------------------------------------------------------------------------------------------------- */

static dw_status pooling_of(dw_cli *cli, const dw_args *args, dw_pooling *out, dw_error *err) {
    const char *name = dw_args_text(args, "pooling");
    *out = DW_POOLING_DEFAULT;
    if (!name) return DW_OK;
    for (dw_pooling pooling = DW_POOLING_MEAN; pooling <= DW_POOLING_LAST; pooling++) {
        if (strcmp(name, dw_pooling_name(pooling)) == 0) *out = pooling;
    }
    return *out == DW_POOLING_DEFAULT ? dw_cli_usage(cli, err, "--pooling must be mean, cls or last") : DW_OK;
}

/* --- embedding ----------------------------------------------------------------------------------------------- */

static dw_status open_model(embed_run *run, dw_cli *cli, const dw_args *args, dw_error *err) {
    char path[DW_PATH_BYTES];
    uint64_t threads = dw_args_number(args, "threads", 0);
    const char *device = dw_args_text(args, "device");
    if (threads > 4096) return dw_cli_usage(cli, err, "--threads must be at most 4096");
    dw_status status = dw_find_model(cli, args, path, err);
    if (status == DW_OK)
        status = dw_device_open(device ? device : "cpu", &(dw_device_options){.threads = (unsigned)threads},
                                &run->device, err);
    if (status == DW_E_NOT_FOUND && device) dw_cli_hint(cli, "`driftwood doctor` lists the devices of this machine.");
    if (status == DW_OK) status = dw_model_open(path, run->device, NULL, &run->model, err);
    if (status == DW_OK) run->info = dw_model_info_view(run->model);
    return status;
}

static dw_status tokenize(embed_run *run, uint32_t i, const char *text, dw_error *err) {
    size_t capacity = strlen(text) + 8, n = 0; /* a token has at least a byte; and the special ones */
    run->tokens[i] = malloc(capacity * sizeof run->tokens[i][0]);
    if (!run->tokens[i]) return dw_fail(err, DW_E_NO_MEMORY, "no memory for the tokens of a text");
    dw_status status = dw_vocab_tokenize(dw_model_vocab(run->model), text, strlen(text), DW_TEXT_WHOLE, false,
                                         run->tokens[i], capacity, &n, err);
    run->texts[i] = (dw_embed_text){.tokens = run->tokens[i], .n_tokens = (uint32_t)n,
                                    .vector = run->vectors + (size_t)i * run->info->n_embedding};
    return status;
}

static dw_status embed(embed_run *run, const dw_args *args, dw_pooling pooling, dw_error *err) {
    run->texts = calloc(run->n_texts, sizeof run->texts[0]);
    run->tokens = calloc(run->n_texts, sizeof run->tokens[0]);
    run->vectors = calloc((size_t)run->n_texts * run->info->n_embedding, sizeof run->vectors[0]);
    if (!run->texts || !run->tokens || !run->vectors)
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %u texts", run->n_texts);
    dw_status status = DW_OK;
    for (uint32_t i = 0; status == DW_OK && i < run->n_texts; i++)
        status = tokenize(run, i, dw_args_operand(args, i), err);
    for (uint32_t first = 0; status == DW_OK && first < run->n_texts; first += DW_EMBED_TEXTS_MAX) {
        uint32_t n = (uint32_t)dw_min_u64(run->n_texts - first, DW_EMBED_TEXTS_MAX);
        dw_job job = {.kind = DW_JOB_EMBED, .model = run->model, .texts = run->texts + first, .n_texts = n,
                      .pooling = pooling,
                      .normalize = !dw_args_flag(args, "raw")};
        status = dw_job_run(&job, err);
    }
    return status;
}

static void close_run(embed_run *run) {
    for (uint32_t i = 0; run->tokens && i < run->n_texts; i++) free(run->tokens[i]);
    free(run->tokens);
    free(run->texts);
    free(run->vectors);
    dw_model_close(run->model);
    dw_device_close(run->device);
}

/* --- showing ------------------------------------------------------------------------------------------------- */

static double cosine(const embed_run *run, uint32_t i, uint32_t k) {
    const float *a = run->texts[i].vector, *b = run->texts[k].vector;
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t x = 0; x < run->info->n_embedding; x++) {
        ab += (double)a[x] * (double)b[x];
        aa += (double)a[x] * (double)a[x];
        bb += (double)b[x] * (double)b[x];
    }
    double lengths = sqrt(aa) * sqrt(bb);
    return lengths > 0 ? ab / lengths : 0;
}

static void say_vectors(const dw_cli *cli, const embed_run *run, const dw_args *args) {
    for (uint32_t i = 0; i < run->n_texts; i++) {
        const char *text = dw_args_operand(args, i);
        dw_cli_say_styled(cli, DW_STYLE_DIM, "%u", i + 1);
        dw_cli_say(cli, "  ");
        dw_cli_say_text(cli, text, strlen(text));
        dw_cli_say(cli, "\n   %u tokens; [", run->texts[i].n_tokens);
        for (uint32_t x = 0; x < run->info->n_embedding && x < SHOWN_NUMBERS; x++)
            dw_cli_say(cli, "%s%.5f", x > 0 ? ", " : "", (double)run->texts[i].vector[x]);
        dw_cli_say(cli, "%s]\n", run->info->n_embedding > SHOWN_NUMBERS ? ", ..." : "");
    }
    if (run->n_texts < 2) return;
    dw_cli_heading(cli, "Cosine");
    for (uint32_t i = 0; i < run->n_texts; i++) {
        for (uint32_t k = i + 1; k < run->n_texts; k++)
            dw_cli_say(cli, "  %u, %u  %.4f\n", i + 1, k + 1, cosine(run, i, k));
    }
}

static json_t *json_of_text(const embed_run *run, uint32_t i, const char *text) {
    json_t *vector = json_array();
    for (uint32_t x = 0; x < run->info->n_embedding; x++)
        (void)json_array_append_new(vector, json_real((double)run->texts[i].vector[x]));
    return json_pack("{s:o, s:i, s:o}", "text", dw_json_text(text, strlen(text)), "tokens", (int)run->texts[i].n_tokens,
                     "vector", vector);
}

static json_t *json_of_embedding(const embed_run *run, const dw_args *args, dw_pooling pooling) {
    json_t *texts = json_array(), *cosines = json_array();
    for (uint32_t i = 0; i < run->n_texts; i++) {
        json_t *row = json_array();
        for (uint32_t k = 0; k < run->n_texts; k++)
            (void)json_array_append_new(row, json_real(i == k ? 1.0 : cosine(run, i, k)));
        (void)json_array_append_new(cosines, row);
        (void)json_array_append_new(texts, json_of_text(run, i, dw_args_operand(args, i)));
    }
    return json_pack("{s:o, s:s, s:b, s:I, s:o, s:o}", "model", dw_json_text(run->info->name, strlen(run->info->name)),
                     "pooling", dw_pooling_name(pooling == DW_POOLING_DEFAULT ? run->info->pooling : pooling),
                     "normalized", (int)!dw_args_flag(args, "raw"), "dimensions", (json_int_t)run->info->n_embedding,
                     "texts", texts, "cosine", cosines);
}

static dw_status run_embed(dw_cli *cli, const dw_args *args, dw_error *err) {
    embed_run run = {.n_texts = (uint32_t)dw_args_operands(args)};
    dw_pooling pooling;
    dw_status status = pooling_of(cli, args, &pooling, err);
    if (status == DW_OK) status = open_model(&run, cli, args, err);
    if (status == DW_OK) status = embed(&run, args, pooling, err);
    if (status == DW_OK && !cli->json) say_vectors(cli, &run, args);
    if (status == DW_OK && cli->json) status = dw_cli_finish(cli, json_of_embedding(&run, args, pooling), err);
    close_run(&run);
    return status;
}

static const dw_option options[] = {
    {"pooling", DW_OPTION_TEXT, "mean|cls|last",
     "how a text's hidden states become one vector; default is the model's own"},
    {"raw", DW_OPTION_FLAG, NULL, "leave the vectors' lengths as they are; else each is scaled to length 1"},
    DW_OPTION_MODEL,
    DW_OPTION_DEVICE,
    DW_OPTION_THREADS,
    DW_OPTION_END,
};

const dw_verb dw_verb_embed = {
    .name = "embed",
    .summary = "texts to vectors, with an embedding model",
    .operands = "TEXT...",
    .operands_min = 1,
    .operands_max = -1,
    .text =
        "Embeds each text and prints the beginning of its vector, and the cosine of each two; --json has the vectors\n"
        "whole. scripts/minilm.sh fetches a small embedding model (all-MiniLM-L6-v2) and prints its path. Models that\n"
        "are made to talk embed too, by the state of the last token, but their vectors mean less.",
    .options = options,
    .run = run_embed,
};

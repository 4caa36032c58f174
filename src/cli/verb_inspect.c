/* verb_inspect.c: driftwood inspect. Looks into a checkpoint, or at a node's actor, without running anything of it. */
#include <string.h>

#include "checkpoint/checkpoint.h"
#include "cli/cli.h"
#include "cli/verbs.h"
#include "os/os.h"

static json_t *json_of_section(const dw_checkpoint_section *section) {
    json_t *shape = json_array();
    for (uint32_t d = 0; d < section->n_dims; d++) (void)json_array_append_new(shape, dw_json_u64(section->shape[d]));
    return json_pack("{s:s, s:s, s:o, s:I, s:I, s:o}", "name", section->name, "dtype", section->dtype, "shape", shape,
                     "offset", (json_int_t)section->offset, "bytes", (json_int_t)section->bytes, "sha256",
                     dw_json_hash(&section->hash));
}

/* K and V of all layers. */
static uint64_t kv_bytes_of(const dw_checkpoint_session *s) {
    return 2 * (uint64_t)s->n_rows * s->n_layers * dw_kv_row_bytes(s->kv_type, s->n_heads_kv, s->head_dim);
}

static json_t *json_of_session(const dw_checkpoint_session *s) {
    return json_pack("{s:I, s:o, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:b, s:o, s:{s:o, s:o, s:o}}", "handle",
                     (json_int_t)s->handle, "model", dw_json_text(s->model_name, strlen(s->model_name)), "tokens",
                     (json_int_t)s->n_tokens, "rows", (json_int_t)s->n_rows, "layers", (json_int_t)s->n_layers,
                     "kv_heads", (json_int_t)s->n_heads_kv, "head_dim", (json_int_t)s->head_dim, "kv_type",
                     dw_kv_type_name(s->kv_type), "kv_bytes", (json_int_t)kv_bytes_of(s), "fast", (int)s->fast,
                     "profile", dw_json_text(s->profile, strlen(s->profile)), "fingerprint", "weights",
                     dw_json_hash(&s->model.weights), "tokenizer", dw_json_hash(&s->model.tokenizer), "hyperparameters",
                     dw_json_hash(&s->model.hyperparameters));
}

static json_t *json_of_checkpoint(const dw_checkpoint *checkpoint, const char *path) {
    const dw_checkpoint_state *state = dw_checkpoint_view(checkpoint);
    const dw_checkpoint_section *sections;
    size_t n_sections = dw_checkpoint_sections(checkpoint, &sections);
    json_t *section_list = json_array(), *session_list = json_array();
    for (size_t i = 0; i < n_sections; i++) (void)json_array_append_new(section_list, json_of_section(&sections[i]));
    for (size_t i = 0; i < state->n_sessions; i++)
        (void)json_array_append_new(session_list, json_of_session(&state->sessions[i]));
    return json_pack("{s:o, s:i, s:I, s:o, s:o, s:o, s:I, s:o, s:i, s:I, s:I, s:I, s:b, s:o, s:o}", "file",
                     dw_json_text(path, strlen(path)), "version", (int)dw_checkpoint_version(checkpoint), "file_bytes",
                     (json_int_t)dw_checkpoint_file_bytes(checkpoint), "identity",
                     dw_json_hash(dw_checkpoint_identity(checkpoint)), "parent",
                     state->has_parent ? dw_json_hash(&state->parent) : json_null(), "name",
                     dw_json_text(state->actor_name, strlen(state->actor_name)), "turn", (json_int_t)state->turn,
                     "program", dw_json_hash(&state->program), "abi", (int)state->abi_version, "created_ns",
                     (json_int_t)state->created_ns, "memory_bytes", (json_int_t)state->memory_bytes, "globals",
                     (json_int_t)state->n_globals, "verified", (int)dw_checkpoint_is_verified(checkpoint), "sessions",
                     session_list, "sections", section_list);
}

static void say_session(const dw_cli *cli, const dw_checkpoint_session *s) {
    char kv[DW_SIZE_TEXT_BYTES], weights[DW_HASH_HEX_BYTES];
    dw_hash_hex(&s->model.weights, weights);
    dw_cli_say(cli, "  session %u  %u tokens, %u with KV rows (%s: %u layers x %u heads x %u, %s), %s\n", s->handle,
               s->n_tokens, s->n_rows, dw_size_text(kv_bytes_of(s), kv), s->n_layers, s->n_heads_kv, s->head_dim,
               dw_kv_type_name(s->kv_type), s->fast ? "fast" : "exact");
    dw_cli_say(cli, "             model %s, weights %.12s\n             profile %s\n", s->model_name, weights,
               s->profile);
}

static void say_sections(const dw_cli *cli, const dw_checkpoint *checkpoint) {
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections);
    dw_cli_heading(cli, "Sections");
    dw_cli_say_styled(cli, DW_STYLE_DIM, "  %-18s %-5s %-20s %12s %12s  %s", "name", "type", "shape", "offset", "bytes",
                      "sha256");
    dw_cli_say(cli, "\n");
    for (size_t i = 0; i < n; i++) {
        const dw_checkpoint_section *s = &sections[i];
        char shape[96] = "", hex[DW_HASH_HEX_BYTES];
        size_t length = 0;
        for (uint32_t d = 0; d < s->n_dims && length < sizeof shape; d++) {
            int written = snprintf(shape + length, sizeof shape - length, "%s%llu", d ? " x " : "",
                                   (unsigned long long)s->shape[d]);
            if (written > 0) length += (size_t)written;
        }
        dw_hash_hex(&s->hash, hex);
        dw_cli_say(cli, "  %-18s %-5s %-20s %12llu %12llu  %.16s\n", s->name, s->dtype, shape,
                   (unsigned long long)s->offset, (unsigned long long)s->bytes, hex);
    }
}

static void say_checkpoint(const dw_cli *cli, const dw_checkpoint *checkpoint, const char *path, uint64_t verify_ns) {
    const dw_checkpoint_state *state = dw_checkpoint_view(checkpoint);
    char size[DW_SIZE_TEXT_BYTES], memory[DW_SIZE_TEXT_BYTES], identity[DW_HASH_HEX_BYTES], parent[DW_HASH_HEX_BYTES],
        program[DW_HASH_HEX_BYTES];
    dw_hash_hex(dw_checkpoint_identity(checkpoint), identity);
    dw_hash_hex(&state->parent, parent);
    dw_hash_hex(&state->program, program);
    dw_cli_say_styled(cli, DW_STYLE_BOLD, "%s", path);
    dw_cli_say(cli, ": actor %s after %llu turns, %s\n", state->actor_name, (unsigned long long)state->turn,
               dw_size_text(dw_checkpoint_file_bytes(checkpoint), size));
    dw_cli_say(cli, "  identity   %s\n  parent     %s\n  program    %s (ABI %u)\n", identity,
               state->has_parent ? parent : "none: this is the first of its line", program, state->abi_version);
    dw_cli_say(cli, "  memory     %s, %zu globals\n", dw_size_text(state->memory_bytes, memory), state->n_globals);
    for (size_t i = 0; i < state->n_sessions; i++) say_session(cli, &state->sessions[i]);
    say_sections(cli, checkpoint);
    if (dw_checkpoint_is_verified(checkpoint))
        dw_cli_say_styled(cli, DW_STYLE_GOOD, "\nEvery byte is what it was when written (verified in %.1f ms).",
                          dw_ms(verify_ns));
    else dw_cli_say(cli, "\nThe header is intact; --verify checks the sections too.");
    dw_cli_say(cli, "\n");
}

static dw_status inspect_file(dw_cli *cli, const dw_args *args, dw_error *err) {
    const char *path = dw_args_operand(args, 0);
    dw_checkpoint *checkpoint = NULL;
    uint64_t verify_ns = 0;
    dw_status status = dw_checkpoint_open(path, &checkpoint, err);
    if (status != DW_OK) goto out;
    if (dw_args_flag(args, "verify")) {
        uint64_t start = dw_os_monotonic_ns();
        status = dw_checkpoint_verify(checkpoint, dw_os_cpu_count(), err);
        verify_ns = dw_os_monotonic_ns() - start;
    }
    if (status != DW_OK) goto out;
    if (!cli->json) say_checkpoint(cli, checkpoint, path, verify_ns);
    json_t *object = json_of_checkpoint(checkpoint, path);
    if (object && verify_ns) (void)json_object_set_new(object, "verify_ms", dw_json_ms(verify_ns));
    status = dw_cli_finish(cli, object, err);
out:
    dw_checkpoint_close(checkpoint);
    return status;
}

static dw_status run_inspect(dw_cli *cli, const dw_args *args, dw_error *err) {
    bool of_node = dw_args_text(args, "in") != NULL;
    if (!of_node && dw_args_flag(args, "digest"))
        return dw_cli_usage(cli, err,
                            "--digest is for an actor of a node (--in); `driftwood thaw --digest` for a file's");
    return of_node ? dw_inspect_node(cli, args, err) : inspect_file(cli, args, err);
}

static const dw_option options[] = {
    DW_OPTION_IN,
    DW_OPTION_WAIT,
    {"digest", DW_OPTION_FLAG, NULL,
     "of a node's actor: wake it, and print the hashes of memory, KV rows, tokens and logits"},
    DW_OPTIONS_OF_RUNTIME,
    {"verify", DW_OPTION_FLAG, NULL,
     "also hash every section and compare, or of a node everything in its store; exit code 4 when one differs"},
    DW_OPTION_END,
};

const dw_verb dw_verb_inspect = {
    .name = "inspect",
    .summary = "what is inside a checkpoint, or known of a node's actor",
    .operands = "FILE.drift|NAME",
    .operands_min = 1,
    .operands_max = 1,
    .text = "Shows a checkpoint without running anything of it: the actor, its program and lineage, its sessions with\n"
            "the model they belong to, and every section with place, size and SHA-256. A .drift file is also a valid\n"
            "safetensors file, so other tools can open it.\n"
            "With --in DIR: the actor of that name in the node's folder, which is not woken for that.",
    .options = options,
    .run = run_inspect,
};

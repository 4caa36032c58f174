/* lookup.c: from what the user typed to models, programs and a runtime. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "model/gguf/gguf.h"
#include "os/os.h"

#define NS_PER_SECOND UINT64_C(1000000000)

dw_status dw_path_join(char out[DW_PATH_BYTES], const char *folder, const char *name, dw_error *err) {
    int length = snprintf(out, DW_PATH_BYTES, "%s/%s", folder, name);
    if (length < 0 || length >= DW_PATH_BYTES)
        return dw_fail(err, DW_E_INVALID, "the path %.60s/... is too long", folder);
    return DW_OK;
}

static dw_status copy_path(char out[DW_PATH_BYTES], const char *path, dw_error *err) {
    size_t length = strlen(path);
    if (length >= DW_PATH_BYTES) return dw_fail(err, DW_E_INVALID, "the path %.60s... is too long", path);
    memcpy(out, path, length + 1);
    return DW_OK;
}

static bool ends_with(const char *text, const char *ending) {
    size_t length = strlen(text), wanted = strlen(ending);
    return length > wanted && strcmp(text + length - wanted, ending) == 0;
}

void dw_name_from_path(const char *path, char out[DW_ACTOR_NAME_BYTES_MAX + 1]) {
    const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
    const char *dot = strrchr(name, '.');
    size_t length = dot && dot != name ? (size_t)(dot - name) : strlen(name);
    if (length > DW_ACTOR_NAME_BYTES_MAX) length = DW_ACTOR_NAME_BYTES_MAX;
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    for (size_t i = 0; i < length; i++) out[i] = strchr(allowed, name[i]) ? name[i] : '_';
    out[length] = '\0';
    if (length == 0) memcpy(out, "actor", sizeof "actor");
}

/* --- folders --------------------------------------------------------------------------------------------------- */

typedef struct listing {
    const char *ending;
    DW_VEC(char *) names;
    bool full;
} listing;

static bool add_name(void *context, const char *name) {
    listing *list = context;
    if (!ends_with(name, list->ending)) return true;
    size_t size = strlen(name) + 1;
    char *copy = DW_VEC_RESERVE(&list->names, 1, DW_VEC_ITEMS_MAX) == DW_OK ? malloc(size) : NULL;
    if (!copy) return !(list->full = true);
    memcpy(copy, name, size);
    list->names.items[list->names.count++] = copy;
    return true;
}

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void dw_list_free(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) free(names[i]);
    free(names);
}

dw_status dw_list_folder(const char *folder, const char *ending, char ***out, size_t *count, dw_error *err) {
    listing list = {.ending = ending};
    *out = NULL;
    *count = 0;
    if (!dw_os_exists(folder)) return DW_OK;
    dw_status status = dw_os_list(folder, add_name, &list, err);
    if (status == DW_OK && list.full)
        status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the names in %.100s", folder);
    if (status != DW_OK) {
        dw_list_free(list.names.items, list.names.count);
        return status;
    }
    if (list.names.count > 1) qsort(list.names.items, list.names.count, sizeof *list.names.items, compare_names);
    *out = list.names.items;
    *count = list.names.count;
    return DW_OK;
}

/* --- models ---------------------------------------------------------------------------------------------------- */

static dw_status models_folder(char out[DW_PATH_BYTES], dw_error *err) {
    char cache[DW_PATH_BYTES];
    dw_status status = dw_os_cache_folder(cache, sizeof cache, err);
    return status == DW_OK ? dw_path_join(out, cache, "models", err) : status;
}

dw_status dw_list_models(char ***out, size_t *count, dw_error *err) {
    char folder[DW_PATH_BYTES], path[DW_PATH_BYTES];
    *out = NULL;
    *count = 0;
    char **names = NULL;
    size_t n = 0;
    dw_status status = models_folder(folder, err);
    if (status == DW_OK) status = dw_list_folder(folder, ".gguf", &names, &n, err);
    /* Of a model in parts the first one stands for all. */
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (dw_gguf_is_later_part(names[i])) free(names[i]);
        else names[kept++] = names[i];
    }
    n = kept;
    for (size_t i = 0; status == DW_OK && i < n; i++) {
        status = dw_path_join(path, folder, names[i], err);
        if (status != DW_OK) break;
        size_t size = strlen(path) + 1;
        char *whole = realloc(names[i], size);
        if (!whole) {
            status = dw_fail(err, DW_E_NO_MEMORY, "no memory for the list of models");
            break;
        }
        memcpy(whole, path, size);
        names[i] = whole;
    }
    if (status != DW_OK) {
        dw_list_free(names, n);
        return status;
    }
    *out = names;
    *count = n;
    return DW_OK;
}

/* A path that is there, or <cache>/models/NAME[.gguf]. */
static dw_status find_named_model(dw_cli *cli, const char *name, char path[DW_PATH_BYTES], dw_error *err) {
    char folder[DW_PATH_BYTES];
    if (dw_os_exists(name)) return copy_path(path, name, err);
    dw_status status = models_folder(folder, err);
    if (status == DW_OK) status = dw_path_join(path, folder, name, err);
    if (status != DW_OK) return status;
    if (dw_os_exists(path)) return DW_OK;
    size_t length = strlen(path);
    if (length + sizeof ".gguf" <= DW_PATH_BYTES) {
        memcpy(path + length, ".gguf", sizeof ".gguf");
        if (dw_os_exists(path)) return DW_OK;
    }
    dw_cli_hint(cli, "Give the path of a GGUF file, or one of the names that `driftwood models` lists.");
    return dw_fail(err, DW_E_NOT_FOUND, "there is no model \"%.100s\"", name);
}

dw_status dw_find_model(dw_cli *cli, const dw_args *args, char path[DW_PATH_BYTES], dw_error *err) {
    const char *name = dw_args_text(args, "model");
    if (!name) name = dw_os_environment("DRIFTWOOD_MODEL");
    if (name && name[0]) return find_named_model(cli, name, path, err);

    char **models = NULL;
    size_t count = 0;
    dw_status status = dw_list_models(&models, &count, err);
    if (status == DW_OK && count == 0) {
        dw_cli_hint(cli, "Run ./run once, which fetches Gemma 3 270M (225 MB), or name a GGUF file: --model PATH.gguf "
                         "or DRIFTWOOD_MODEL=PATH.gguf.");
        status = dw_fail(err, DW_E_NOT_FOUND, "this needs a model, and there is none yet");
    }
    if (status == DW_OK) status = copy_path(path, models[0], err);
    dw_list_free(models, count);
    return status;
}

/* --- programs -------------------------------------------------------------------------------------------------- */

dw_status dw_programs_folder(char path[DW_PATH_BYTES], dw_error *err) {
    char executable[DW_PATH_BYTES];
    dw_status status = dw_os_executable_path(executable, sizeof executable, err);
    if (status != DW_OK) return status;
    char *slash = strrchr(executable, '/');
    if (slash) *slash = '\0';
    return dw_path_join(path, executable, "programs", err);
}

dw_status dw_find_program(dw_cli *cli, const char *name, char path[DW_PATH_BYTES], dw_error *err) {
    char folder[DW_PATH_BYTES], file[DW_PATH_BYTES];
    if (dw_os_exists(name) && ends_with(name, ".wasm")) return copy_path(path, name, err);
    if (!strchr(name, '/')) {
        dw_status status = dw_programs_folder(folder, err);
        if (status == DW_OK) status = dw_path_join(file, folder, name, err);
        if (status != DW_OK) return status;
        if (!ends_with(file, ".wasm") && strlen(file) + sizeof ".wasm" <= sizeof file)
            memcpy(file + strlen(file), ".wasm", sizeof ".wasm");
        if (dw_os_exists(file)) return copy_path(path, file, err);
    }
    if (dw_os_exists(name)) return copy_path(path, name, err); /* whatever it is: preparing it says what is wrong */
    dw_cli_hint(cli,
                "Give the path of a .wasm file, or the name of a shipped program; `driftwood doctor` lists those.");
    return dw_fail(err, DW_E_NOT_FOUND, "there is no program \"%.100s\"", name);
}

/* --- runtime --------------------------------------------------------------------------------------------------- */

static dw_status add_model_at(dw_runtime *runtime, const char *path, dw_error *err) {
    char name[DW_ACTOR_NAME_BYTES_MAX + 1];
    dw_name_from_path(path, name);
    return dw_runtime_add_model(runtime, name, path, err);
}

/* The first of the cache folder's models that can be opened: one that was downloaded half must not stop what does not
 * need it. */
static dw_status add_any_model(dw_cli *cli, dw_model_need need, dw_runtime *runtime, dw_error *err) {
    char **models = NULL;
    size_t count = 0;
    dw_status status = dw_list_models(&models, &count, err), opened = DW_E_NOT_FOUND;
    for (size_t i = 0; status == DW_OK && opened != DW_OK && i < count; i++) {
        dw_error why;
        opened = add_model_at(runtime, models[i], &why);
        if (opened == DW_OK) break;
        (void)fprintf(stderr, "driftwood: a model is passed over: %s\n", why.text);
        *err = why;
    }
    dw_list_free(models, count);
    if (status != DW_OK || opened == DW_OK || need == DW_MODEL_IF_THERE) return status;
    if (count > 0) return opened;
    dw_cli_hint(cli, "Run ./run once, which fetches Gemma 3 270M (225 MB), or name a GGUF file: --model PATH.gguf or "
                     "DRIFTWOOD_MODEL=PATH.gguf.");
    return dw_fail(err, DW_E_NOT_FOUND, "this needs a model, and there is none yet");
}

/* What --model or $DRIFTWOOD_MODEL say; NULL: nothing. */
static const char *named_model(const dw_args *args) {
    const char *name = dw_args_text(args, "model");
    if (!name) name = dw_os_environment("DRIFTWOOD_MODEL");
    return name && name[0] ? name : NULL;
}

/* A vocabulary that is none is told before the first turn, with its reason: a guest gets a number alone. */
static dw_status vocabulary_verdict(dw_runtime *runtime, dw_error *err) {
    dw_model *model = dw_runtime_model(runtime, NULL);
    return model ? dw_vocab_wait(dw_model_vocab(model), err) : DW_OK;
}

static dw_status add_model(dw_cli *cli, const dw_args *args, dw_model_need need, dw_runtime *runtime, dw_error *err) {
    char path[DW_PATH_BYTES];
    const char *name = named_model(args);
    if (need == DW_MODEL_NONE || (need == DW_MODEL_IF_THERE && name && strcmp(name, "none") == 0)) return DW_OK;
    if (!name) {
        dw_status any = add_any_model(cli, need, runtime, err);
        return any == DW_OK && need == DW_MODEL_NEEDED ? vocabulary_verdict(runtime, err) : any;
    }
    dw_status status = find_named_model(cli, name, path, err);
    if (status != DW_OK) return status;
    status = add_model_at(runtime, path, err);
    if (status == DW_OK) status = vocabulary_verdict(runtime, err); /* whoever names one means to use it */
    if (status == DW_E_FORMAT || status == DW_E_TRUNCATED)
        dw_cli_hint(cli, "The file is no usable GGUF model. If it was downloaded, fetch it again.");
    return status;
}

/* --- the models of a checkpoint ----------------------------------------------------------------------------------- */

/* Whether the GGUF at `path` has the session's weights and tokens; false also when it cannot be read. */
static bool is_model_of(const char *path, const dw_checkpoint_session *session) {
    dw_gguf *gguf = NULL;
    dw_gguf_string architecture = {0};
    dw_model_fingerprint fingerprint;
    char text[64] = "";
    bool found = false;
    dw_status status = dw_gguf_open(path, &gguf, NULL);
    if (status == DW_OK) status = dw_gguf_get_string(gguf, "general.architecture", &architecture, &found, NULL);
    if (status == DW_OK && found)
        (void)snprintf(text, sizeof text, "%.*s", (int)dw_min_u64(architecture.size, sizeof text - 1),
                       architecture.data);
    if (status == DW_OK) status = dw_fingerprint_find(gguf, text, false, session->fingerprint_kind, &fingerprint, NULL);
    dw_gguf_close(gguf);
    return status == DW_OK && dw_hash_equal(&fingerprint.weights, &session->model.weights) &&
           dw_hash_equal(&fingerprint.tokenizer, &session->model.tokenizer);
}

/* Looks through the cache folder, files of the name that the checkpoint remembers first: hashing a model takes seconds
 * the first time. */
static dw_status find_model_of(dw_cli *cli, const dw_checkpoint_session *session, char path[DW_PATH_BYTES],
                               dw_error *err) {
    char **models = NULL, name[DW_ACTOR_NAME_BYTES_MAX + 1], weights[DW_HASH_HEX_BYTES];
    size_t count = 0;
    bool found = false;
    dw_status status = dw_list_models(&models, &count, err);
    for (int of_that_name = 1; status == DW_OK && !found && of_that_name >= 0; of_that_name--) {
        for (size_t i = 0; i < count && !found; i++) {
            dw_name_from_path(models[i], name);
            if ((strcmp(name, session->model_name) == 0) != (of_that_name == 1)) continue;
            found = is_model_of(models[i], session);
            if (found) status = copy_path(path, models[i], err);
        }
    }
    dw_list_free(models, count);
    if (status != DW_OK || found) return status;
    dw_hash_hex(&session->model.weights, weights);
    dw_cli_hint(cli, "Name its GGUF file with --model PATH.gguf.");
    return dw_fail(err, DW_E_NOT_FOUND,
                   "a conversation in the checkpoint is with the model \"%.60s\" (weights %.12s...), which is not "
                   "among the models here",
                   session->model_name, weights);
}

/* The models of all sessions, each once. */
static dw_status add_models_of(dw_cli *cli, const dw_checkpoint_state *state, dw_runtime *runtime, dw_error *err) {
    char path[DW_PATH_BYTES];
    dw_status status = DW_OK;
    for (size_t i = 0; i < state->n_sessions && status == DW_OK; i++) {
        bool known = false;
        for (size_t k = 0; k < i && !known; k++)
            known = dw_hash_equal(&state->sessions[k].model.weights, &state->sessions[i].model.weights);
        if (known) continue;
        status = find_model_of(cli, &state->sessions[i], path, err);
        if (status == DW_OK) status = add_model_at(runtime, path, err);
    }
    return status;
}

/* --kv, or what it is without. */
static dw_status kv_type_asked_for(dw_cli *cli, const dw_args *args, dw_kv_type otherwise, dw_kv_type *out,
                                   dw_error *err) {
    char name[8] = "";
    const char *text = dw_args_text(args, "kv");
    *out = otherwise;
    if (!text) return DW_OK;
    for (size_t i = 0; text[i] && i + 1 < sizeof name; i++)
        name[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
    return strlen(text) < sizeof name && dw_kv_type_named(name, out)
               ? DW_OK
               : dw_cli_usage(cli, err, "--kv is f16, bf16 or q8_0, not \"%.20s\"", text);
}

/* Compiling takes milliseconds from the cache, and then nothing is told. */
static void tell_of_compiling(void *context, size_t bytes, dw_status ended) {
    dw_cli *cli = context;
    char size[DW_SIZE_TEXT_BYTES];
    if (bytes > 0) dw_cli_progress(cli, "compiling a program of %s ...", dw_size_text(bytes, size));
    else dw_cli_progress(cli, NULL);
    if (ended != DW_E_DEADLINE) return;
    dw_cli_hint(cli, "--compile-limit SECONDS gives it more time, 0 all that it takes; what is compiled once is kept.");
}

/* --compile-limit for the runtime: there 0 means the default. */
static uint64_t compile_limit(const dw_args *args) {
    uint64_t seconds = dw_args_number(args, "compile-limit", DW_COMPILE_NS / NS_PER_SECOND);
    return seconds == 0 || seconds > UINT64_MAX / NS_PER_SECOND ? UINT64_MAX : seconds * NS_PER_SECOND;
}

/* Without models. */
static dw_status open_bare_runtime(dw_cli *cli, const dw_args *args, dw_kv_type otherwise, dw_runtime **out,
                                   dw_error *err) {
    *out = NULL;
    uint64_t threads = dw_args_number(args, "threads", 0);
    if (threads > 4096) return dw_cli_usage(cli, err, "--threads must be at most 4096");
    dw_runtime_options options = {.device = dw_args_text(args, "device"), .threads = (unsigned)threads,
                                  .repack = dw_args_flag(args, "repack"),
                                  .compile_limit_ns = compile_limit(args),
                                  .compiling = tell_of_compiling, .compiling_context = cli};
    dw_status status = dw_args_bytes(cli, args, "kv-budget", &options.kv_bytes_max, err);
    if (status == DW_OK) status = dw_args_bytes(cli, args, "memory", &options.memory_bytes_max, err);
    if (status == DW_OK) status = kv_type_asked_for(cli, args, otherwise, &options.kv_type, err);
    if (status == DW_OK) status = dw_runtime_create(&options, out, err);
    if (status == DW_E_NOT_FOUND) dw_cli_hint(cli, "`driftwood doctor` lists the devices of this machine.");
    return status;
}

/* Takes *runtime away when what was wanted of it failed. */
static dw_status settle(dw_runtime **runtime, dw_status status) {
    if (status == DW_OK) return DW_OK;
    dw_runtime_destroy(*runtime);
    *runtime = NULL;
    return status;
}

dw_status dw_open_runtime(dw_cli *cli, const dw_args *args, dw_model_need need, dw_runtime **out, dw_error *err) {
    dw_status status = open_bare_runtime(cli, args, DW_KV_F16, out, err);
    if (status == DW_OK) status = add_model(cli, args, need, *out, err);
    return settle(out, status);
}

/* Ready to use: tokenizer loaded, fingerprint known. */
static dw_status await_model(dw_runtime *runtime, const dw_checkpoint_session *session, dw_error *err) {
    dw_model *model = dw_runtime_model(runtime, NULL);
    dw_model_fingerprint fingerprint;
    if (!model) return DW_OK;
    dw_status status = dw_vocab_wait(dw_model_vocab(model), err);
    return status == DW_OK ? dw_model_fingerprint_of(model, session->fingerprint_kind, &fingerprint, err) : status;
}

dw_status dw_open_runtime_for_state(dw_cli *cli, const dw_args *args, const dw_checkpoint_state *state,
                                    dw_runtime **out, dw_error *err) {
    const dw_checkpoint_session *first = state->n_sessions > 0 ? &state->sessions[0] : NULL;
    /* The type is checked when a session is restored. */
    dw_status status = open_bare_runtime(cli, args, first ? first->kv_type : DW_KV_F16, out, err);
    if (status == DW_OK) {
        if (first && !named_model(args)) status = add_models_of(cli, state, *out, err);
        else status = add_model(cli, args, first ? DW_MODEL_NEEDED : DW_MODEL_IF_THERE, *out, err);
    }
    if (status == DW_OK && first) status = await_model(*out, first, err);
    return settle(out, status);
}

dw_status dw_open_runtime_for(dw_cli *cli, const dw_args *args, const char *path, dw_runtime **out, dw_error *err) {
    dw_checkpoint *checkpoint = NULL;
    *out = NULL;
    dw_status status = dw_checkpoint_open(path, &checkpoint, err);
    if (status == DW_E_NOT_FOUND)
        dw_cli_hint(cli, "`driftwood freeze` makes a checkpoint, and so does /freeze in a chat.");
    if (status == DW_OK) status = dw_open_runtime_for_state(cli, args, dw_checkpoint_view(checkpoint), out, err);
    dw_checkpoint_close(checkpoint);
    return status;
}

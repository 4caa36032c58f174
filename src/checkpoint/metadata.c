/* metadata.c: a checkpoint's state as the strings of `__metadata__`, and back.
 *
 * Numbers are decimal strings: JSON's own numbers lose 64-bit values in many readers. wasi and session.<s> are objects
 * of strings, themselves written as JSON text, because safetensors allows strings only. Reading takes every entry it
 * knows out of the object, so that what is left over is what nobody understands, and is refused. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

enum { KEY_BYTES = 32, INNER_TEXT_BYTES_MAX = 8192, GLOBAL_TEXT_BYTES_MAX = 4 + 1 + 32 + 1 };

static const struct { const char *name; size_t bytes;
} value_types[] = {[DW_VALUE_I32] = {"i32", 4},
                   [DW_VALUE_I64] = {"i64", 8},
                   [DW_VALUE_F32] = {"f32", 4},
                   [DW_VALUE_F64] = {"f64", 8},
                   [DW_VALUE_V128] = {"v128", 16}};
enum { N_VALUE_TYPES = sizeof value_types / sizeof value_types[0] };

static void session_key(dw_handle handle, char out[KEY_BYTES]) {
    (void)snprintf(out, KEY_BYTES, "session.%" PRIu32, handle);
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

/* Builds one object; the first failure sticks, so that entries are put without a check at each. */
typedef struct putter {
    json_t *object;
    bool failed;
} putter;

static void put_text(putter *to, const char *key, const char *text) {
    if (json_object_set_new(to->object, key, json_string(text)) != 0) to->failed = true;
}

static void put_decimal(putter *to, const char *key, uint64_t value) {
    char text[24];
    (void)snprintf(text, sizeof text, "%" PRIu64, value);
    put_text(to, key, text);
}

static void put_hash(putter *to, const char *key, const dw_hash *hash) {
    char text[DW_HASH_HEX_BYTES];
    dw_hash_hex(hash, text);
    put_text(to, key, text);
}

/* Puts the object of `inner` as JSON text, and drops it. */
static void put_inner(putter *to, const char *key, putter *inner) {
    char *text = inner->failed ? NULL : json_dumps(inner->object, JSON_COMPACT);
    if (text) put_text(to, key, text);
    else to->failed = true;
    free(text);
    json_decref(inner->object);
}

static void put_wasi(putter *to, const dw_wasi_state *wasi) {
    putter inner = {.object = json_object()};
    char seed[2 * sizeof wasi->random_seed + 1] = {0};
    dw_drift_format_hex(wasi->random_seed, sizeof wasi->random_seed, seed);
    put_text(&inner, "random_seed", seed);
    put_decimal(&inner, "random_counter", wasi->random_counter);
    put_decimal(&inner, "birth_realtime_ns", wasi->birth_realtime_ns);
    put_decimal(&inner, "turn_realtime_ns", wasi->turn_realtime_ns);
    put_decimal(&inner, "clock_reads", wasi->n_clock_reads);
    put_inner(to, "wasi", &inner);
}

static void put_session(putter *to, const dw_checkpoint_session *session) {
    putter inner = {.object = json_object()};
    char name[sizeof session->model_name];
    /* A model file's odd name must not make an actor unfreezable. */
    dw_drift_clean(session->model_name, name, sizeof name);
    put_text(&inner, "model", name);
    put_hash(&inner, "weights", &session->model.weights);
    put_hash(&inner, "tokenizer", &session->model.tokenizer);
    put_hash(&inner, "hyperparameters", &session->model.hyperparameters);
    put_text(&inner, "profile", session->profile);
    put_text(&inner, "mode", session->fast ? "fast" : "exact");
    put_decimal(&inner, "tokens", session->n_tokens);
    put_decimal(&inner, "rows", session->n_rows);
    put_decimal(&inner, "prefilled", session->n_prefilled);
    put_decimal(&inner, "logits", session->n_logits);
    put_text(&inner, "granted", session->granted ? "yes" : "no");
    put_decimal(&inner, "layers", session->n_layers);
    put_decimal(&inner, "heads_kv", session->n_heads_kv);
    put_decimal(&inner, "head_dim", session->head_dim);
    put_text(&inner, "kv_type", dw_kv_type_name(session->kv_type));
    put_decimal(&inner, "sampler_seed", session->sampler.seed);
    put_decimal(&inner, "sampler_counter", session->sampler.counter);
    char key[KEY_BYTES];
    session_key(session->handle, key);
    put_inner(to, key, &inner);
}

/* "65537 131074": the handles in the order of their sections. */
static void put_sessions(putter *to, const dw_checkpoint_state *state) {
    char handles[DW_SESSIONS_PER_ACTOR_MAX * 11 + 1] = "";
    size_t used = 0;
    for (size_t i = 0; i < state->n_sessions; i++)
        used += (size_t)snprintf(handles + used, sizeof handles - used, "%s%" PRIu32, i ? " " : "",
                                 state->sessions[i].handle);
    put_text(to, "sessions", handles);
    for (size_t i = 0; i < state->n_sessions; i++) put_session(to, &state->sessions[i]);
}

/* "i32:00010000 f64:3ff0000000000000": type and bits as one number, most significant digit first. */
static void put_globals(putter *to, const dw_checkpoint_state *state) {
    char *text = calloc(state->n_globals + 1, GLOBAL_TEXT_BYTES_MAX);
    if (!text) {
        to->failed = true;
        return;
    }
    char *at = text;
    for (size_t i = 0; i < state->n_globals; i++) {
        const dw_value *value = &state->globals[i];
        uint8_t digits_first[sizeof value->bits];
        size_t n = value_types[value->type].bytes;
        for (size_t k = 0; k < n; k++) digits_first[k] = value->bits[n - 1 - k];
        at += snprintf(at, 8, "%s%s:", i ? " " : "", value_types[value->type].name);
        dw_drift_format_hex(digits_first, n, at);
        at += 2 * n;
    }
    put_text(to, "globals", text);
    free(text);
}

/* "4 1000": how many elements each table has. Programs that leave their tables alone, nearly all, have no such
 * entry. */
static void put_tables(putter *to, const dw_checkpoint_state *state) {
    char counts[DW_PROGRAM_CHANGED_TABLES_MAX * 11 + 1] = "";
    size_t used = 0;
    if (state->n_tables == 0) return;
    for (size_t i = 0; i < state->n_tables; i++)
        used += (size_t)snprintf(counts + used, sizeof counts - used, "%s%" PRIu32, i ? " " : "",
                                 state->tables[i].n_elements);
    put_text(to, "tables", counts);
}

dw_status dw_drift_metadata_write(json_t *metadata, const dw_checkpoint_state *state, dw_error *err) {
    putter to = {.object = metadata};
    put_text(&to, "format", "drift");
    put_decimal(&to, "version", DW_DRIFT_VERSION);
    put_text(&to, "base", "");
    put_hash(&to, "program", &state->program);
    put_decimal(&to, "abi", state->abi_version);
    put_text(&to, "actor.name", state->actor_name);
    put_decimal(&to, "turn", state->turn);
    if (state->has_parent) put_hash(&to, "parent", &state->parent);
    else put_text(&to, "parent", "");
    put_decimal(&to, "created_ns", state->created_ns);
    put_decimal(&to, "memory.bytes", state->memory_bytes);
    put_decimal(&to, "mailbox.bytes", state->mailbox_bytes);
    put_decimal(&to, "actor.bytes", state->actor_bytes);
    put_decimal(&to, "program.bytes", state->program_bytes);
    put_globals(&to, state);
    put_tables(&to, state);
    put_wasi(&to, &state->wasi);
    put_sessions(&to, state);
    return to.failed ? dw_fail(err, DW_E_NO_MEMORY, "header: no memory for the metadata") : DW_OK;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

/* Takes entries out of one object; the first failure sticks and is the one told. `where` names the object in errors. */
typedef struct taker {
    json_t *object;
    const char *where;
    dw_status status;
    dw_error *err;
} taker;

static void taking_failed(taker *from, const char *key, const char *what) {
    if (from->status == DW_OK) from->status = dw_fail(from->err, DW_E_FORMAT, "%s: \"%s\" %s", from->where, key, what);
}

/* The text of `key`, which stays in the object until drop(); NULL once anything failed. */
static const char *look(taker *from, const char *key) {
    if (from->status != DW_OK) return NULL;
    const char *text = json_string_value(json_object_get(from->object, key));
    if (!text) taking_failed(from, key, "is missing or not a string");
    return text;
}

static void drop(taker *from, const char *key) { (void)json_object_del(from->object, key); }

static uint64_t take_decimal(taker *from, const char *key, uint64_t max) {
    uint64_t value = 0;
    const char *text = look(from, key);
    if (text && dw_drift_parse_decimal(text, max, &value) != DW_OK)
        taking_failed(from, key, "is not a decimal number in range");
    drop(from, key);
    return value;
}

static uint32_t take_u32(taker *from, const char *key) { return (uint32_t)take_decimal(from, key, UINT32_MAX); }

static void take_hex(taker *from, const char *key, uint8_t *out, size_t size) {
    const char *text = look(from, key);
    if (text && dw_drift_parse_hex(text, strlen(text), out, size) != DW_OK)
        taking_failed(from, key, "is not lower-case hexadecimal of its length");
    drop(from, key);
}

static void take_text(taker *from, const char *key, char *out, size_t size) {
    const char *text = look(from, key);
    if (text && (strlen(text) >= size || !dw_drift_is_clean(text)))
        taking_failed(from, key, "is too long or not plain text");
    else if (text) memcpy(out, text, strlen(text) + 1);
    drop(from, key);
}

/* True for `yes`, false for `no`, anything else fails. */
static bool take_choice(taker *from, const char *key, const char *yes, const char *no) {
    const char *text = look(from, key);
    bool is_yes = text && strcmp(text, yes) == 0;
    if (text && !is_yes && strcmp(text, no) != 0) taking_failed(from, key, "has a value that is not known");
    drop(from, key);
    return is_yes;
}

/* Opens an object that is written as text; its entries replace `inner->object`. */
static void take_inner(taker *from, const char *key, taker *inner) {
    *inner = (taker){.where = key, .err = from->err};
    const char *text = look(from, key);
    if (text && strlen(text) > INNER_TEXT_BYTES_MAX) taking_failed(from, key, "is too long");
    else if (text) {
        json_error_t detail = {0};
        inner->object = json_loads(text, JSON_REJECT_DUPLICATES, &detail);
        if (!inner->object && dw_drift_json_starved(&detail))
            from->status = dw_fail(from->err, DW_E_NO_MEMORY, "%s: no memory for \"%s\"", from->where, key);
        else if (!json_is_object(inner->object)) taking_failed(from, key, "is not the JSON text of an object");
    }
    drop(from, key);
    inner->status = from->status;
}

/* Everything must have been taken. Passes the inner failure on. */
static void finish_inner(taker *from, taker *inner) {
    if (inner->status == DW_OK && json_object_size(inner->object) > 0) {
        char shown[DW_DRIFT_PRINTABLE_BYTES];
        taking_failed(inner, dw_drift_printable(json_object_iter_key(json_object_iter(inner->object)), shown),
                      "is not known to this version");
    }
    if (from->status == DW_OK) from->status = inner->status;
    json_decref(inner->object);
}

dw_status dw_drift_take_hash(json_t *object, const char *key, dw_hash *out, dw_error *err) {
    taker from = {.object = object, .where = "header", .err = err};
    take_hex(&from, key, out->bytes, sizeof out->bytes);
    return from.status;
}

/* The format's version, of those that this build reads. */
static uint32_t take_format(taker *from) {
    const char *format = look(from, "format");
    if (format && strcmp(format, "drift") != 0) taking_failed(from, "format", "is not \"drift\"");
    drop(from, "format");
    uint64_t version = take_decimal(from, "version", UINT32_MAX);
    if (from->status == DW_OK && version > DW_DRIFT_VERSION)
        from->status = dw_fail(from->err, DW_E_VERSION,
                               "header: format version %" PRIu64
                               ", this build reads up to version %d: use a newer driftwood",
                               version, (int)DW_DRIFT_VERSION);
    else if (version < DW_DRIFT_VERSION_F16) taking_failed(from, "version", "is none that ever was");
    return (uint32_t)version;
}

static void take_wasi(taker *from, dw_wasi_state *wasi) {
    taker inner;
    take_inner(from, "wasi", &inner);
    take_hex(&inner, "random_seed", wasi->random_seed, sizeof wasi->random_seed);
    wasi->random_counter = take_decimal(&inner, "random_counter", UINT64_MAX);
    wasi->birth_realtime_ns = take_decimal(&inner, "birth_realtime_ns", UINT64_MAX);
    wasi->turn_realtime_ns = take_decimal(&inner, "turn_realtime_ns", UINT64_MAX);
    wasi->n_clock_reads = take_decimal(&inner, "clock_reads", UINT64_MAX);
    finish_inner(from, &inner);
}

static void take_kv_type(taker *from, dw_kv_type *out) {
    char name[8] = "";
    take_text(from, "kv_type", name, sizeof name);
    if (from->status == DW_OK && !dw_kv_type_named(name, out))
        taking_failed(from, "kv_type", "is not known to this version");
}

/* What version 3 added to a session. */
static void take_sharing(taker *from, dw_checkpoint_session *session) {
    session->n_prefilled = take_u32(from, "prefilled");
    session->n_logits = take_u32(from, "logits");
    session->granted = take_choice(from, "granted", "yes", "no");
}

static void take_session(taker *from, dw_checkpoint_session *session, uint32_t version) {
    char key[KEY_BYTES];
    session_key(session->handle, key);
    taker inner;
    take_inner(from, key, &inner);
    take_text(&inner, "model", session->model_name, sizeof session->model_name);
    take_hex(&inner, "weights", session->model.weights.bytes, DW_HASH_BYTES);
    take_hex(&inner, "tokenizer", session->model.tokenizer.bytes, DW_HASH_BYTES);
    take_hex(&inner, "hyperparameters", session->model.hyperparameters.bytes, DW_HASH_BYTES);
    take_text(&inner, "profile", session->profile, sizeof session->profile);
    session->fast = take_choice(&inner, "mode", "fast", "exact");
    session->n_tokens = take_u32(&inner, "tokens");
    session->n_rows = take_u32(&inner, "rows");
    if (version >= DW_DRIFT_VERSION_WHOLE) take_sharing(&inner, session);
    else session->fingerprint_kind = DW_FINGERPRINT_FILES;
    session->n_layers = take_u32(&inner, "layers");
    session->n_heads_kv = take_u32(&inner, "heads_kv");
    session->head_dim = take_u32(&inner, "head_dim");
    if (version >= DW_DRIFT_VERSION_KV_TYPES) take_kv_type(&inner, &session->kv_type);
    session->sampler.seed = take_decimal(&inner, "sampler_seed", UINT64_MAX);
    session->sampler.counter = take_decimal(&inner, "sampler_counter", UINT64_MAX);
    finish_inner(from, &inner);
}

/* Copies the word at *at (up to a single blank or the end) and steps behind it; false when it is empty or too long. */
static bool next_word(const char **at, char *out, size_t size) {
    size_t n = strcspn(*at, " ");
    if (n == 0 || n >= size) return false;
    memcpy(out, *at, n);
    out[n] = '\0';
    *at += n;
    if (**at == ' ') {
        (*at)++;
        return **at != '\0'; /* no blank at the end */
    }
    return true;
}

/* How many words a list has, without trusting it: an empty text has none. */
static size_t count_words(const char *text) {
    size_t n = *text != '\0';
    for (; *text; text++) n += *text == ' ';
    return n;
}

static void take_sessions(taker *from, dw_drift_state *out, uint32_t version) {
    const char *text = look(from, "sessions");
    size_t n = text ? count_words(text) : 0;
    if (n > DW_SESSIONS_PER_ACTOR_MAX) taking_failed(from, "sessions", "lists more sessions than an actor may have");
    if (from->status != DW_OK) return;
    out->sessions = calloc(n + 1, sizeof *out->sessions);
    if (!out->sessions) {
        from->status = dw_fail(from->err, DW_E_NO_MEMORY, "no memory for %zu sessions", n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char word[12];
        uint64_t handle = 0;
        if (!next_word(&text, word, sizeof word) || dw_drift_parse_decimal(word, UINT32_MAX, &handle) != DW_OK) {
            taking_failed(from, "sessions", "is not a list of handles");
            return;
        }
        out->sessions[i].handle = (dw_handle)handle;
    }
    drop(from, "sessions");
    out->state.sessions = out->sessions;
    out->state.n_sessions = n;
    for (size_t i = 0; i < n; i++) take_session(from, &out->sessions[i], version);
}

static dw_status parse_global(char *word, dw_value *out) {
    char *colon = strchr(word, ':');
    if (!colon) return DW_E_FORMAT;
    *colon = '\0';
    for (uint8_t type = 0; type < N_VALUE_TYPES; type++) {
        if (strcmp(word, value_types[type].name) != 0) continue;
        uint8_t digits_first[sizeof out->bits];
        size_t n = value_types[type].bytes;
        dw_status status = dw_drift_parse_hex(colon + 1, strlen(colon + 1), digits_first, n);
        if (status != DW_OK) return status;
        out->type = type;
        for (size_t k = 0; k < n; k++) out->bits[k] = digits_first[n - 1 - k];
        return DW_OK;
    }
    return DW_E_FORMAT;
}

static void take_globals(taker *from, dw_drift_state *out) {
    const char *text = look(from, "globals");
    size_t n = text ? count_words(text) : 0;
    if (n > DW_PROGRAM_GLOBALS_MAX) taking_failed(from, "globals", "lists more globals than a program may have");
    if (from->status != DW_OK) return;
    out->globals = calloc(n + 1, sizeof *out->globals);
    if (!out->globals) {
        from->status = dw_fail(from->err, DW_E_NO_MEMORY, "no memory for %zu globals", n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char word[GLOBAL_TEXT_BYTES_MAX];
        if (!next_word(&text, word, sizeof word) || parse_global(word, &out->globals[i]) != DW_OK) {
            taking_failed(from, "globals", "is not a list of typed values");
            return;
        }
    }
    drop(from, "globals");
    out->state.globals = out->globals;
    out->state.n_globals = n;
}

static void take_tables(taker *from, dw_drift_state *out) {
    if (from->status != DW_OK || !json_object_get(from->object, "tables")) return;
    const char *text = look(from, "tables");
    size_t n = text ? count_words(text) : 0;
    if (text && (n == 0 || n > DW_PROGRAM_CHANGED_TABLES_MAX))
        taking_failed(from, "tables", "lists no tables or more than a program may have");
    if (from->status != DW_OK) return;
    out->tables = calloc(n, sizeof *out->tables);
    if (!out->tables) {
        from->status = dw_fail(from->err, DW_E_NO_MEMORY, "no memory for %zu tables", n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        char word[12];
        uint64_t count = 0;
        if (!next_word(&text, word, sizeof word) || dw_drift_parse_decimal(word, UINT32_MAX, &count) != DW_OK) {
            taking_failed(from, "tables", "is not a list of counts");
            return;
        }
        out->tables[i].n_elements = (uint32_t)count;
    }
    drop(from, "tables");
    out->state.tables = out->tables;
    out->state.n_tables = n;
}

static void take_parent(taker *from, dw_checkpoint_state *state) {
    const char *text = look(from, "parent");
    state->has_parent = text && *text != '\0';
    if (state->has_parent) take_hex(from, "parent", state->parent.bytes, DW_HASH_BYTES);
    else drop(from, "parent");
}

/* A delta would name the checkpoint that it changes. */
static void take_base(taker *from) {
    const char *text = look(from, "base");
    if (text && *text != '\0') {
        char shown[DW_DRIFT_PRINTABLE_BYTES];
        from->status = dw_fail(
            from->err, DW_E_UNSUPPORTED,
            "header: only the changes to the checkpoint %s are in this file: this build reads whole ones",
            dw_drift_printable(text, shown));
    }
    drop(from, "base");
}

static bool all_rows_are_f16(const dw_checkpoint_state *state) {
    for (size_t i = 0; i < state->n_sessions; i++) {
        if (state->sessions[i].kv_type != DW_KV_F16) return false;
    }
    return true;
}

dw_status dw_drift_metadata_read(json_t *metadata, dw_drift_state *out, dw_error *err) {
    taker from = {.object = metadata, .where = "header", .err = err};
    dw_checkpoint_state *state = &out->state;
    *out = (dw_drift_state){0};
    uint32_t version = state->version = take_format(&from);
    if (version >= DW_DRIFT_VERSION_WHOLE) take_base(&from);
    take_hex(&from, "program", state->program.bytes, DW_HASH_BYTES);
    state->abi_version = take_u32(&from, "abi");
    take_text(&from, "actor.name", state->actor_name, sizeof state->actor_name);
    state->turn = take_decimal(&from, "turn", UINT64_MAX);
    take_parent(&from, state);
    state->created_ns = take_decimal(&from, "created_ns", UINT64_MAX);
    state->memory_bytes = take_decimal(&from, "memory.bytes", UINT64_MAX);
    state->mailbox_bytes = take_decimal(&from, "mailbox.bytes", UINT64_MAX);
    state->actor_bytes = take_decimal(&from, "actor.bytes", UINT64_MAX);
    if (version >= DW_DRIFT_VERSION_WHOLE) state->program_bytes = take_decimal(&from, "program.bytes", UINT64_MAX);
    take_globals(&from, out);
    take_tables(&from, out);
    take_wasi(&from, &state->wasi);
    take_sessions(&from, out, version);
    /* One spelling for one state: of the older versions, a file that needs 2 says so, and no other. */
    if (from.status == DW_OK && version == DW_DRIFT_VERSION_KV_TYPES && all_rows_are_f16(state)) {
        taking_failed(&from, "version", "is higher than what is in the file needs");
    }
    dw_status status = from.status;
    if (status == DW_OK) {
        status = dw_drift_check_state(state, DW_E_CORRUPT, err);
        if (status != DW_OK) status = dw_error_prefix(err, status, "header");
    }
    if (status != DW_OK) dw_drift_state_deinit(out);
    return status;
}

void dw_drift_state_deinit(dw_drift_state *state) {
    free(state->sessions);
    free(state->globals);
    free(state->tables);
    *state = (dw_drift_state){0};
}

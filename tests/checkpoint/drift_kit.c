/* drift_kit.c: see drift_kit.h. */
#include "checkpoint/drift_kit.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- random numbers: splitmix64 --- */

uint64_t kit_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t kit_below(uint64_t *state, uint64_t bound) { return bound ? kit_random(state) % bound : 0; }

static void fill(uint64_t *random, void *out, size_t size) {
    uint8_t *bytes = out;
    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)kit_random(random);
}

static void *allocate(size_t size) {
    void *made = calloc(1, size ? size : 1);
    assert_non_null(made);
    return made;
}

/* --- states to write --- */

void kit_init(kit_state *kit) {
    *kit = (kit_state){.state.version = DW_DRIFT_VERSION};
    (void)snprintf(kit->state.actor_name, sizeof kit->state.actor_name, "kit");
    kit->state.sessions = kit->sessions;
    kit->state.globals = kit->globals;
    kit->state.tables = kit->tables;
}

/* Some stretches stay zero, as memory's do. */
static uint8_t *patchy(uint64_t *random, uint64_t size) {
    uint8_t *bytes = allocate((size_t)size);
    for (uint64_t at = 0; at < size; at += 4096) {
        if (kit_below(random, 3) == 0) fill(random, bytes + at, (size_t)dw_min_u64(4096, size - at));
    }
    if (size > 0) bytes[size - 1] = 1; /* the end must arrive too */
    return bytes;
}

void kit_set_bytes(kit_state *kit, uint64_t *random, uint64_t memory, uint64_t mailbox, uint64_t actor) {
    kit->state.memory = kit->memory = patchy(random, memory);
    kit->state.memory_bytes = memory;
    kit->state.mailbox = kit->mailbox = patchy(random, mailbox);
    kit->state.mailbox_bytes = mailbox;
    kit->state.actor = kit->actor = patchy(random, actor);
    kit->state.actor_bytes = actor;
}

void kit_add_table(kit_state *kit, uint64_t *random, uint32_t n_elements) {
    size_t index = kit->state.n_tables++;
    int32_t *elements = allocate(n_elements * sizeof *elements);
    for (uint32_t i = 0; i < n_elements; i++) elements[i] = (int32_t)kit_below(random, 1000) - 1;
    if (n_elements > 1) elements[0] = -1, elements[1] = INT32_MAX;
    kit->functions[index] = elements;
    kit->tables[index] = (dw_table_view){.elements = elements, .n_elements = n_elements};
}

void kit_add_session(kit_state *kit, uint64_t *random, dw_handle handle, kit_shape shape) {
    size_t index = kit->state.n_sessions++;
    dw_checkpoint_session *session = &kit->sessions[index];
    *session = (dw_checkpoint_session){
        .handle = handle, .n_tokens = shape.tokens, .n_rows = shape.rows, .n_layers = shape.layers, .n_heads_kv = shape.heads_kv, .head_dim = shape.head_dim, .kv_type = shape.kv_type};
    fill(random, &session->model, sizeof session->model);
    (void)snprintf(session->model_name, sizeof session->model_name, "model %" PRIu32 " \"\xc3\xa9\"", handle);
    (void)snprintf(session->profile, sizeof session->profile, "build=1;isa=avx2;device=cpu;threads=%u;kv=%s", 1 + (unsigned)kit_below(random, 8),
                   dw_kv_type_name(shape.kv_type));
    session->fast = kit_below(random, 2) != 0;
    session->sampler = (dw_sampler_state){.seed = kit_random(random), .counter = kit_below(random, 1000)};
    kit->tokens[index] = allocate(shape.tokens * sizeof *kit->tokens[index]);
    for (uint32_t i = 0; i < shape.tokens; i++) kit->tokens[index][i] = (int32_t)kit_below(random, 262144);
    session->tokens = kit->tokens[index];
    size_t bytes = (size_t)shape.layers * 2 * shape.rows * dw_drift_row_bytes(session);
    kit->kv[index] = allocate(bytes);
    for (size_t i = 0; i + 1 < bytes; i += 2) { /* every row is a whole number of pairs */
        uint16_t pair = (uint16_t)kit_below(random, 0x7c00); /* as F16 finite and positive */
        memcpy(kit->kv[index] + i, &pair, sizeof pair);
    }
}

void kit_set_program(kit_state *kit, uint64_t *random, uint64_t bytes) {
    kit->program = patchy(random, bytes);
    kit->state.program_source = kit->program;
    kit->state.program_bytes = bytes;
    assert_int_equal(dw_hash_of(kit->program, (size_t)bytes, &kit->state.program), DW_OK);
}

void kit_add_logits(kit_state *kit, uint64_t *random, size_t session, uint32_t n_logits) {
    kit->logits[session] = allocate(n_logits * sizeof(float));
    for (uint32_t i = 0; i < n_logits; i++) kit->logits[session][i] = i % 7 == 3 ? -INFINITY : (float)kit_below(random, 1000) / 8 - 60;
    kit->sessions[session].logits = kit->logits[session];
    kit->sessions[session].n_logits = n_logits;
}

void kit_set_sharing(kit_state *kit, size_t session, uint32_t n_prefilled, bool granted) {
    kit->sessions[session].n_prefilled = n_prefilled;
    kit->sessions[session].granted = granted;
}

static kit_shape random_shape(uint64_t *random) {
    static const uint32_t dims[] = {1, 2, 3, 33, 64, 80, 128, 256};
    kit_shape shape = {.layers = 1 + (uint32_t)kit_below(random, 4), .heads_kv = 1 + (uint32_t)kit_below(random, 5), .head_dim = dims[kit_below(random, 8)]};
    shape.kv_type = (dw_kv_type)kit_below(random, DW_KV_TYPES);
    if (shape.head_dim % dw_kv_type_block(shape.kv_type) != 0) shape.kv_type = DW_KV_BF16;
    shape.tokens = kit_below(random, 4) == 0 ? 0 : (uint32_t)kit_below(random, 300);
    shape.rows = kit_below(random, 4) == 0 ? 0 : (uint32_t)kit_below(random, shape.tokens + 1);
    if (kit_below(random, 4) == 0) shape.rows = shape.tokens;
    return shape;
}

static void random_values(kit_state *kit, uint64_t *random) {
    static const size_t sizes[] = {4, 8, 4, 8, 16};
    kit->state.n_globals = kit_below(random, 20);
    for (size_t i = 0; i < kit->state.n_globals; i++) {
        kit->globals[i].type = (uint8_t)kit_below(random, 5);
        fill(random, kit->globals[i].bits, sizes[kit->globals[i].type]);
    }
    fill(random, kit->state.wasi.random_seed, sizeof kit->state.wasi.random_seed);
    kit->state.wasi.random_counter = kit_random(random);
    kit->state.wasi.birth_realtime_ns = kit_below(random, 2) ? UINT64_MAX : 0;
    kit->state.wasi.turn_realtime_ns = kit_random(random);
    kit->state.wasi.n_clock_reads = kit_below(random, 10);
    fill(random, &kit->state.program, sizeof kit->state.program);
    kit->state.abi_version = (uint32_t)kit_random(random);
    kit->state.turn = kit_random(random);
    kit->state.created_ns = kit_random(random);
    kit->state.has_parent = kit_below(random, 2) != 0;
    if (kit->state.has_parent) fill(random, &kit->state.parent, sizeof kit->state.parent);
}

void kit_random_state(kit_state *kit, uint64_t *random) {
    kit_init(kit);
    (void)snprintf(kit->state.actor_name, sizeof kit->state.actor_name, "a/b \\ \"%" PRIx64 "\" \xe2\x82\xac", kit_random(random));
    random_values(kit, random);
    kit_set_bytes(kit, random, kit_below(random, 4) * DW_WASM_PAGE_BYTES, kit_below(random, 3) * kit_below(random, 20000), kit_below(random, 40000));
    for (uint64_t n_tables = kit_below(random, 3) == 0 ? kit_below(random, DW_PROGRAM_CHANGED_TABLES_MAX + 1) : 0; n_tables > 0; n_tables--)
        kit_add_table(kit, random, kit_below(random, 4) == 0 ? 0 : (uint32_t)kit_below(random, 9000));
    if (kit_below(random, 2)) kit_set_program(kit, random, 1 + kit_below(random, 40000));
    size_t n = kit_below(random, 8) == 0 ? 20 : kit_below(random, 4);
    uint32_t handle = 0;
    for (size_t i = 0; i < n; i++) {
        handle += 1 + (uint32_t)kit_below(random, UINT32_MAX / 32);
        kit_add_session(kit, random, handle, random_shape(random));
        const dw_checkpoint_session *session = &kit->sessions[i];
        kit_set_sharing(kit, i, (uint32_t)kit_below(random, session->n_rows + 1), kit_below(random, 2) != 0);
        if (session->n_rows > 0 && session->n_rows == session->n_tokens) kit_add_logits(kit, random, i, 1 + (uint32_t)kit_below(random, 9000));
    }
}

void kit_minimal(kit_state *kit) {
    uint64_t random = 1;
    kit_init(kit);
    kit_set_bytes(kit, &random, 0, 0, 40);
}

void kit_small(kit_state *kit) {
    uint64_t random = 2;
    kit_init(kit);
    random_values(kit, &random);
    kit_set_bytes(kit, &random, 0, 100, 40);
    kit_add_session(kit, &random, 65537, (kit_shape){.tokens = 5, .rows = 4, .layers = 1, .heads_kv = 1, .head_dim = 64});
    kit_add_session(kit, &random, 131074, (kit_shape){.tokens = 0, .rows = 0, .layers = 1, .heads_kv = 2, .head_dim = 33});
}

void kit_tables(kit_state *kit) {
    uint64_t random = 3;
    kit_small(kit);
    kit_add_table(kit, &random, 0);
    kit_add_table(kit, &random, 5);
    kit_add_table(kit, &random, 4097);
}

void kit_kv_types(kit_state *kit) {
    uint64_t random = 4;
    kit_init(kit);
    kit_set_bytes(kit, &random, 0, 0, 40);
    kit_add_session(kit, &random, 65537, (kit_shape){.tokens = 5, .rows = 4, .layers = 1, .heads_kv = 1, .head_dim = 64, .kv_type = DW_KV_F16});
    kit_add_session(kit, &random, 131074, (kit_shape){.tokens = 3, .rows = 3, .layers = 1, .heads_kv = 1, .head_dim = 64, .kv_type = DW_KV_BF16});
    /* Without rows: a row of Q8_0 has a factor of 17, so that whole pages of whole rows are 278,528 bytes or more. */
    kit_add_session(kit, &random, 196611, (kit_shape){.tokens = 2, .rows = 0, .layers = 1, .heads_kv = 1, .head_dim = 64, .kv_type = DW_KV_Q8_0});
}

void kit_whole(kit_state *kit) {
    uint64_t random = 5;
    kit_init(kit);
    random_values(kit, &random);
    kit_set_bytes(kit, &random, 0, 10, 40);
    kit_set_program(kit, &random, 5000);
    kit_add_session(kit, &random, 65537, (kit_shape){.tokens = 90, .rows = 90, .layers = 1, .heads_kv = 1, .head_dim = 64});
    kit_set_sharing(kit, 0, 70, true);
    kit_add_logits(kit, &random, 0, 300);
    kit_add_session(kit, &random, 131074, (kit_shape){.tokens = 5, .rows = 4, .layers = 1, .heads_kv = 1, .head_dim = 64, .kv_type = DW_KV_BF16});
}

void kit_deinit(kit_state *kit) {
    for (size_t i = 0; i < kit->state.n_tables; i++) free(kit->functions[i]);
    free(kit->memory);
    free(kit->mailbox);
    free(kit->actor);
    free(kit->program);
    for (size_t i = 0; i < kit->state.n_sessions; i++) {
        free(kit->tokens[i]);
        free(kit->logits[i]);
        free(kit->kv[i]);
    }
    *kit = (kit_state){0};
}

dw_status kit_rows(void *context, size_t session, uint32_t layer, int which, const void **out, uint64_t *bytes) {
    kit_state *kit = context;
    const dw_checkpoint_session *about = &kit->sessions[session];
    size_t area = (size_t)(about->n_rows * dw_drift_row_bytes(about));
    *out = kit->kv[session] + (2 * (size_t)layer + (size_t)which) * area;
    *bytes = area;
    kit->n_rows_calls++;
    return DW_OK;
}

static void assert_same_bytes(const void *actual, const void *expected, uint64_t size) {
    if (size > 0) assert_memory_equal(actual, expected, (size_t)size);
}

static void assert_session_equal(const dw_checkpoint_session *actual, const dw_checkpoint_session *expected) {
    assert_int_equal(actual->handle, expected->handle);
    assert_memory_equal(&actual->model, &expected->model, sizeof expected->model);
    assert_string_equal(actual->model_name, expected->model_name);
    assert_string_equal(actual->profile, expected->profile);
    assert_int_equal(actual->fast, expected->fast);
    assert_int_equal(actual->n_tokens, expected->n_tokens);
    assert_int_equal(actual->n_rows, expected->n_rows);
    assert_int_equal(actual->n_prefilled, expected->n_prefilled);
    assert_int_equal(actual->granted, expected->granted);
    assert_int_equal(actual->n_logits, expected->n_logits);
    assert_same_bytes(actual->logits, expected->logits, expected->n_logits * sizeof(float));
    assert_int_equal(actual->n_layers, expected->n_layers);
    assert_int_equal(actual->n_heads_kv, expected->n_heads_kv);
    assert_int_equal(actual->head_dim, expected->head_dim);
    assert_int_equal(actual->kv_type, expected->kv_type);
    assert_int_equal(actual->sampler.seed, expected->sampler.seed);
    assert_int_equal(actual->sampler.counter, expected->sampler.counter);
    assert_same_bytes(actual->tokens, expected->tokens, expected->n_tokens * sizeof(int32_t));
}

static void assert_rows_equal(const dw_checkpoint *checkpoint, size_t session, const kit_state *kit) {
    const dw_checkpoint_session *about = &kit->sessions[session];
    dw_kv_source *sources = allocate(about->n_layers * sizeof *sources);
    assert_int_equal(dw_checkpoint_kv_sources(checkpoint, session, sources, about->n_layers), DW_OK);
    for (uint32_t layer = 0; layer < about->n_layers; layer++) {
        for (int which = 0; which < 2; which++) {
            const void *rows;
            uint64_t bytes, offset = which ? sources[layer].v_offset : sources[layer].k_offset;
            assert_int_equal(kit_rows((void *)(uintptr_t)kit, session, layer, which, &rows, &bytes), DW_OK);
            assert_int_equal(offset % DW_DRIFT_PAGE_BYTES, 0);
            assert_same_bytes(checkpoint->source.bytes + offset, rows, bytes);
        }
    }
    free(sources);
}

void kit_assert_holds(const dw_checkpoint *checkpoint, const kit_state *kit) {
    const dw_checkpoint_state *actual = dw_checkpoint_view(checkpoint), *expected = &kit->state;
    assert_memory_equal(&actual->program, &expected->program, sizeof expected->program);
    assert_int_equal(actual->program_bytes, expected->program_bytes);
    assert_same_bytes(actual->program_source, expected->program_source, expected->program_bytes);
    assert_int_equal(actual->abi_version, expected->abi_version);
    assert_string_equal(actual->actor_name, expected->actor_name);
    assert_int_equal(actual->turn, expected->turn);
    assert_int_equal(actual->has_parent, expected->has_parent);
    assert_memory_equal(&actual->parent, &expected->parent, sizeof expected->parent);
    assert_int_equal(actual->created_ns, expected->created_ns);
    assert_int_equal(actual->n_globals, expected->n_globals);
    assert_same_bytes(actual->globals, expected->globals, expected->n_globals * sizeof *expected->globals);
    assert_int_equal(actual->n_tables, expected->n_tables);
    for (size_t i = 0; i < expected->n_tables; i++) {
        assert_int_equal(actual->tables[i].n_elements, expected->tables[i].n_elements);
        assert_same_bytes(actual->tables[i].elements, expected->tables[i].elements, expected->tables[i].n_elements * sizeof(int32_t));
    }
    assert_memory_equal(&actual->wasi, &expected->wasi, sizeof expected->wasi);
    assert_int_equal(actual->memory_bytes, expected->memory_bytes);
    assert_same_bytes(actual->memory, expected->memory, expected->memory_bytes);
    assert_ptr_equal(actual->memory, checkpoint->source.bytes + dw_checkpoint_memory_offset(checkpoint));
    assert_int_equal(actual->mailbox_bytes, expected->mailbox_bytes);
    assert_same_bytes(actual->mailbox, expected->mailbox, expected->mailbox_bytes);
    assert_int_equal(actual->actor_bytes, expected->actor_bytes);
    assert_same_bytes(actual->actor, expected->actor, expected->actor_bytes);
    assert_int_equal(actual->n_sessions, expected->n_sessions);
    for (size_t i = 0; i < expected->n_sessions; i++) {
        assert_session_equal(&actual->sessions[i], &expected->sessions[i]);
        assert_rows_equal(checkpoint, i, kit);
    }
}

/* --- files --- */

static char folder[400];

const char *kit_folder(void) {
    if (folder[0]) return folder;
    uint64_t tag = 0;
    assert_int_equal(dw_os_random(&tag, sizeof tag, NULL), DW_OK);
    (void)snprintf(folder, sizeof folder, "%s/drift-%016" PRIx64, DW_TEST_BUILD, tag);
    assert_int_equal(dw_os_make_folders(folder, NULL), DW_OK);
    return folder;
}

void kit_path(char out[512], const char *name) { (void)snprintf(out, 512, "%s/%s", kit_folder(), name); }

static bool count_one(void *context, const char *name) {
    (void)name;
    ++*(size_t *)context;
    return true;
}

size_t kit_count_files(void) {
    size_t n = 0;
    assert_int_equal(dw_os_list(kit_folder(), count_one, &n, NULL), DW_OK);
    return n;
}

static bool remove_one(void *context, const char *name) {
    char path[512];
    kit_path(path, name);
    if (dw_os_remove(path, NULL) != DW_OK) *(bool *)context = false;
    return true;
}

void kit_remove_folder(void) {
    bool emptied = true;
    if (!folder[0]) return;
    assert_int_equal(dw_os_list(folder, remove_one, &emptied, NULL), DW_OK);
    assert_true(emptied);
    assert_int_equal(remove(folder), 0);
    folder[0] = '\0';
}

kit_file kit_load(const char *path) {
    kit_file file = {0};
    assert_int_equal(dw_os_read_file(path, UINT64_C(1) << 30, &file.bytes, &file.size, NULL), DW_OK);
    return file;
}

void kit_store(const char *path, const kit_file *file) { assert_int_equal(dw_os_write_file(path, file->bytes, file->size, NULL), DW_OK); }

kit_file kit_copy(const kit_file *file) {
    kit_file copy = {.bytes = allocate(file->size), .size = file->size};
    if (file->size) memcpy(copy.bytes, file->bytes, file->size);
    return copy;
}

void kit_free(kit_file *file) {
    free(file->bytes);
    *file = (kit_file){0};
}

kit_file kit_file_of(const kit_state *kit) {
    char path[512];
    kit_path(path, "kit.drift");
    dw_error err = {0};
    dw_status status = dw_checkpoint_write(path, &kit->state, kit_rows, (void *)(uintptr_t)kit, NULL, &err);
    if (status != DW_OK) print_error("write: %s\n", err.text);
    assert_int_equal(status, DW_OK);
    kit_file file = kit_load(path);
    assert_int_equal(dw_os_remove(path, NULL), DW_OK);
    return file;
}

dw_status kit_check(const kit_file *file, dw_error *err) {
    dw_checkpoint *checkpoint = NULL;
    uint8_t *exact = allocate(file->size); /* exactly as long as the file, so that reading too far is seen */
    if (file->size) memcpy(exact, file->bytes, file->size);
    dw_status status = dw_checkpoint_open_bytes(exact, file->size, &checkpoint, err);
    if (status == DW_OK) status = dw_checkpoint_verify(checkpoint, 1, err);
    dw_checkpoint_close(checkpoint);
    free(exact);
    return status;
}

/* --- headers edited by force --- */

uint64_t kit_header_bytes(const kit_file *file) {
    uint64_t length = 0;
    for (size_t i = 0; i < 8; i++) length |= (uint64_t)file->bytes[i] << (8 * i);
    return 8 + length;
}

/* As memmem, which not every C library has. */
static uint8_t *find(const uint8_t *begin, const uint8_t *end, const char *text) {
    size_t n = strlen(text);
    while ((size_t)(end - begin) >= n) {
        const uint8_t *at = memchr(begin, text[0], (size_t)(end - begin) - n + 1);
        if (!at || memcmp(at, text, n) == 0) return (uint8_t *)(uintptr_t)at;
        begin = at + 1;
    }
    return NULL;
}

bool kit_edit(kit_file *file, const char *from, const char *to) {
    uint8_t *end = file->bytes + kit_header_bytes(file), *at = find(file->bytes + 8, end, from);
    size_t old_n = strlen(from), new_n = strlen(to);
    if (!at) return false;
    if (new_n > old_n) {
        size_t more = new_n - old_n;
        assert_true(find(end - more, end, "}") == NULL); /* enough padding to give up */
        memmove(at + new_n, at + old_n, (size_t)(end - at) - new_n);
    } else {
        memmove(at + new_n, at + old_n, (size_t)(end - at) - old_n);
        memset(end - (old_n - new_n), ' ', old_n - new_n);
    }
    memcpy(at, to, new_n);
    return true;
}

/* Reads digits at *at and the character that must follow. */
static bool number(const uint8_t **at, const uint8_t *end, char then, uint64_t *out) {
    uint64_t value = 0;
    const uint8_t *begin = *at;
    while (*at < end && **at >= '0' && **at <= '9' && *at - begin < 15) value = value * 10 + (uint64_t)(*(*at)++ - '0');
    *out = value;
    return *at > begin && *at < end && *(*at)++ == (uint8_t)then;
}

static void seal_section(kit_file *file, uint64_t header_bytes, uint8_t *digits, const char *name, size_t name_size) {
    char key[160];
    if (name_size > 64) return;
    (void)snprintf(key, sizeof key, "\"%.*s\":{", (int)name_size, name);
    const uint8_t *end = file->bytes + header_bytes, *at = find(digits, end, key);
    if (at) at = find(at, end, "\"data_offsets\":[");
    if (!at) return;
    at += strlen("\"data_offsets\":[");
    uint64_t from, to;
    dw_hash hash;
    if (!number(&at, end, ',', &from) || !number(&at, end, ']', &to) || to < from || !dw_in_range(header_bytes + from, to - from, file->size)) return;
    if (dw_hash_of(file->bytes + header_bytes + from, (size_t)(to - from), &hash) != DW_OK) abort();
    dw_drift_format_hex(hash.bytes, DW_HASH_BYTES, (char *)digits);
}

void kit_seal(kit_file *file) {
    enum { DIGITS_AT = DW_DRIFT_LENGTH_BYTES + DW_DRIFT_HEADER_BEGIN_BYTES };
    if (file->size < DIGITS_AT + DW_DRIFT_HASH_DIGITS) return;
    uint64_t header_bytes = kit_header_bytes(file);
    if (header_bytes < DIGITS_AT + DW_DRIFT_HASH_DIGITS || header_bytes > file->size) return;
    uint8_t *end = file->bytes + header_bytes;
    for (uint8_t *at = find(file->bytes + DIGITS_AT, end, "\"hash."); at; at = find(at, end, "\"hash.")) {
        at += strlen("\"hash.");
        uint8_t *name_end = find(at, end, "\":\"");
        if (!name_end || end - name_end < 3 + DW_DRIFT_HASH_DIGITS) break;
        seal_section(file, header_bytes, name_end + 3, (const char *)at, (size_t)(name_end - at));
    }
    dw_hash hash;
    memset(file->bytes + DIGITS_AT, '0', DW_DRIFT_HASH_DIGITS);
    if (dw_hash_of(file->bytes, (size_t)header_bytes, &hash) != DW_OK) abort();
    dw_drift_format_hex(hash.bytes, DW_HASH_BYTES, (char *)file->bytes + DIGITS_AT);
}

/* forgery_fuzz.c: what lies behind the hashes. Every input is sealed again after it was mutated, and a few edits that know what a
 * header looks like are made first, so that the parser and the rules see what an attacker can make. Accepting is allowed; then
 * everything is read that a caller could read, under the sanitizers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "checkpoint/drift_kit.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* keeps reads from being optimised away */

static void read_all(const void *data, uint64_t size) {
    const uint8_t *bytes = data;
    uint64_t sum = 0;
    for (uint64_t i = 0; i < size; i++) sum += bytes[i];
    sink = sum;
}

static void require(bool condition, const char *what) {
    if (condition) return;
    fprintf(stderr, "fuzz: an accepted file breaks a rule: %s\n", what);
    abort();
}

static void walk_session(const dw_checkpoint *checkpoint, size_t index) {
    const dw_checkpoint_session *session = &dw_checkpoint_view(checkpoint)->sessions[index];
    static dw_kv_source sources[DW_LAYERS_MAX];
    require(session->handle != 0 && session->n_rows <= session->n_tokens, "handle, rows");
    for (uint32_t i = 0; i < session->n_tokens; i++) require(session->tokens[i] >= 0, "tokens");
    require(session->n_prefilled <= session->n_rows && (session->n_logits == 0 || session->n_rows == session->n_tokens), "prefilled, logits");
    for (uint32_t i = 0; i < session->n_logits; i++) require(!dw_drift_is_bad_logit(session->logits[i]), "logits");
    read_all(session->model_name, strlen(session->model_name));
    read_all(session->profile, strlen(session->profile));
    require(session->n_layers <= DW_LAYERS_MAX, "layers");
    require(dw_checkpoint_kv_sources(checkpoint, index, sources, session->n_layers) == DW_OK, "sources");
    uint64_t bytes = (uint64_t)session->n_rows * dw_drift_row_bytes(session);
    for (uint32_t layer = 0; layer < session->n_layers; layer++) {
        require(dw_in_range(sources[layer].k_offset, bytes, dw_checkpoint_file_bytes(checkpoint)), "K rows");
        require(dw_in_range(sources[layer].v_offset, bytes, dw_checkpoint_file_bytes(checkpoint)), "V rows");
        read_all(checkpoint->source.bytes + sources[layer].k_offset, bytes);
        read_all(checkpoint->source.bytes + sources[layer].v_offset, bytes);
    }
}

static void walk(const dw_checkpoint *checkpoint) {
    const dw_checkpoint_state *state = dw_checkpoint_view(checkpoint);
    const dw_checkpoint_section *sections;
    size_t n = dw_checkpoint_sections(checkpoint, &sections);
    read_all(state->actor_name, strlen(state->actor_name));
    read_all(state->memory, state->memory_bytes);
    read_all(state->mailbox, state->mailbox_bytes);
    read_all(state->actor, state->actor_bytes);
    dw_hash program = state->program;
    if (state->program_bytes > 0) require(dw_hash_of(state->program_source, (size_t)state->program_bytes, &program) == DW_OK, "hash");
    require(dw_hash_equal(&program, &state->program), "program");
    read_all(state->globals, state->n_globals * sizeof *state->globals);
    for (size_t i = 0; i < state->n_tables; i++) {
        const dw_table_view *table = &state->tables[i];
        require(table->n_elements <= DW_PROGRAM_TABLE_ELEMENTS_MAX, "size of a table");
        for (uint32_t k = 0; k < table->n_elements; k++) require(table->elements[k] >= -1, "functions");
    }
    require(state->memory_bytes % DW_WASM_PAGE_BYTES == 0 && dw_checkpoint_memory_offset(checkpoint) % DW_DRIFT_PAGE_BYTES == 0, "memory");
    for (size_t i = 0; i < n; i++) {
        require(sections[i].offset % DW_DRIFT_PAGE_BYTES == 0 && sections[i].used_bytes <= sections[i].bytes, "sections");
        require(dw_in_range(sections[i].offset, sections[i].bytes, dw_checkpoint_file_bytes(checkpoint)), "sections' places");
    }
    for (size_t i = 0; i < state->n_sessions; i++) walk_session(checkpoint, i);
}

/* --- edits that know what a header looks like --- */

typedef struct text { uint8_t *begin, *last, *end; } text; /* last: the last brace; end: of the padding */

/* Replaces [at, at+old) by n bytes; the padding takes up the difference, or the edit is not made. */
static void replace(text *in, uint8_t *at, size_t old, const char *by, size_t n) {
    size_t tail = (size_t)(in->end - at) - old;
    if (n > old) {
        if (tail < n - old) return;
        memmove(at + n, at + old, tail - (n - old));
    } else {
        memmove(at + n, at + old, tail);
        memset(in->end - (old - n), ' ', old - n);
    }
    memcpy(at, by, n);
}

/* The begin of a run of digits (or of a quoted text) at or behind a random place, and its length. */
static uint8_t *pick_run(const text *in, uint64_t *random, bool digits, size_t *length) {
    uint8_t *at = in->begin + kit_below(random, (uint64_t)(in->last - in->begin));
    if (digits) while (at < in->end && !(*at >= '0' && *at <= '9')) at++;
    else while (at < in->end && *at++ != '"') continue;
    uint8_t *end = at;
    if (digits) while (end < in->end && *end >= '0' && *end <= '9') end++;
    else while (end < in->end && *end != '"') end++;
    *length = (size_t)(end - at);
    return at;
}

static void edit_header(text *in, uint64_t *random) {
    static const char *const numbers[] = {"0", "1", "2", "4", "5", "63", "64", "65", "127", "128", "255", "256", "1024", "1025", "4095", "4096", "4097", "16384", "32768",
        "65535", "65536", "131072", "1048576", "1048577", "2147483648", "4294967295", "4294967296", "9223372036854775807", "18446744073709551615", "99999999999999999999", "-1", "1.5", "1e3"};
    static const char *const words[] = {"", "drift", "fast", "exact", "i32:00000000", "v128:0", "65537", "65537 131074", "131074 65537", "kv.65537.k.0", "memory.0",
        "session.65537", "tables", "table.0", "0 5 4097", "5 0 4097", "{}", "\\u0000", "\\ud800", "[[", "hash.actor", "F16", "F32", "BF16", "Q8_0", "kv_type", "program", "program.bytes", "base", "logits", "prefilled", "granted", "yes"};
    size_t length, other_length;
    uint8_t *at = pick_run(in, random, kit_below(random, 2) != 0, &length);
    uint8_t *other = pick_run(in, random, true, &other_length);
    const char *number = numbers[kit_below(random, sizeof numbers / sizeof numbers[0])], *word = words[kit_below(random, sizeof words / sizeof words[0])];
    char copy[64];
    if (other_length > sizeof copy) other_length = sizeof copy;
    memcpy(copy, other, other_length);
    switch (kit_below(random, 4)) {
    case 0: replace(in, at, length, number, strlen(number)); break;
    case 1: replace(in, at, length, word, strlen(word)); break;
    case 2: replace(in, at, length, copy, other_length); break;  /* one number for another */
    default: replace(in, at, length + 1 < (size_t)(in->end - at) ? length + 1 : length, "", 0); break;
    }
}

/* Makes the fixed begin of the header right again and edits the text behind it. */
static void forge(kit_file *file, uint64_t *random) {
    uint64_t header_bytes = file->size >= 16384 ? kit_header_bytes(file) : 0;
    if (header_bytes > file->size || header_bytes % DW_DRIFT_PAGE_BYTES != 0 || header_bytes == 0) {
        if (file->size < 16384) return;
        memcpy(file->bytes, "\xf8\x3f\0\0\0\0\0\0", 8);
        header_bytes = 16384;
    }
    memcpy(file->bytes + 8, DW_DRIFT_HEADER_BEGIN, DW_DRIFT_HEADER_BEGIN_BYTES);
    text header = {.begin = file->bytes + 8 + DW_DRIFT_HEADER_BEGIN_BYTES + DW_DRIFT_HASH_DIGITS, .end = file->bytes + header_bytes};
    header.last = header.end - 1;
    while (header.last > header.begin + 1 && *header.last == ' ') header.last--;
    for (uint64_t n = kit_below(random, 4); n > 0; n--) edit_header(&header, random);
    kit_seal(file);
}

/* The edits depend on the input alone, so that an input repeats its failure. */
static uint64_t seed_of(const uint8_t *data, size_t size) {
    uint64_t seed = size, word;
    for (size_t i = 0; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, data + i, sizeof word);
        seed = (seed ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        seed ^= seed >> 29;
    }
    return seed;
}

/* Two times in three the input only chooses the edits of an undamaged file: they alone decide then. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static kit_file originals[4];
    static uint64_t n_accepted, n_runs;
    if (!originals[0].bytes) {
        originals[0] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/small.drift");
        originals[1] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/tables.drift");
        originals[2] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/kv_types.drift");
        originals[3] = kit_load(DW_TEST_SOURCE "/tests/checkpoint/corpus/whole.drift");
    }
    kit_file given = {.bytes = (uint8_t *)(uintptr_t)data, .size = size};
    uint64_t random = seed_of(data, size);
    kit_file file = kit_copy(kit_below(&random, 3) != 0 ? &originals[kit_below(&random, 4)] : &given);
    forge(&file, &random);
    dw_checkpoint *checkpoint = NULL;
    dw_error err = {0};
    dw_status status = dw_checkpoint_open_bytes(file.bytes, file.size, &checkpoint, &err);
    if (status == DW_OK) status = dw_checkpoint_verify(checkpoint, 1, &err);
    if (status == DW_OK) walk(checkpoint);
    n_accepted += status == DW_OK;
    if (++n_runs % 20000 == 0) printf("fuzz: %" PRIu64 " forgeries, %" PRIu64 " said nothing wrong\n", n_runs, n_accepted);
    dw_checkpoint_close(checkpoint);
    kit_free(&file);
    return 0;
}

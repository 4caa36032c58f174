/* layout.c: the rules that a checkpoint's state must keep, and the sections that follow from it.
 *
 * Order of the sections: memory.0; the tables; then for each session, in the order of `sessions`: tokens, logits where
 * it has some, then K and V of layer 0, of layer 1, ...; then mailbox, actor, and from version 3 on program. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

enum { TOKEN_BYTES = 4, TABLE_ELEMENT_BYTES = 4, LOGIT_BYTES = 4 };

/* --- rules ------------------------------------------------------------------------------------------------------- */

uint64_t dw_drift_row_bytes(const dw_checkpoint_session *session) {
    return dw_kv_row_bytes(session->kv_type, session->n_heads_kv, session->head_dim);
}

/* Rows are padded to a number of rows whose bytes are whole pages: page / gcd(row, page) rows. The page is a power of
 * two, so the gcd is the lowest set bit of the row's size, if that is smaller. */
static uint64_t row_unit(uint64_t row_bytes) {
    uint64_t lowest_bit = row_bytes & (~row_bytes + 1);
    return DW_DRIFT_PAGE_BYTES / dw_min_u64(lowest_bit, DW_DRIFT_PAGE_BYTES);
}

static dw_status check_session_geometry(const dw_checkpoint_session *session, dw_status status, dw_error *err) {
    dw_handle handle = session->handle;
    if (session->n_layers < 1 || session->n_heads_kv < 1 || session->head_dim < 1)
        return dw_fail(err, status, "session.%" PRIu32 ": layers, heads and head size must be at least 1", handle);
    if (session->n_layers > DW_LAYERS_MAX || session->n_heads_kv > DW_HEADS_MAX)
        return dw_fail(err, DW_E_LIMIT,
                       "session.%" PRIu32 ": %" PRIu32 " layers of %" PRIu32 " heads, more than %u of %u", handle,
                       session->n_layers, session->n_heads_kv, DW_LAYERS_MAX, DW_HEADS_MAX);
    if ((unsigned)session->kv_type >= DW_KV_TYPES || session->head_dim % dw_kv_type_block(session->kv_type) != 0)
        return dw_fail(err, status, "session.%" PRIu32 ": heads of %" PRIu32 " elements cannot be of this KV type",
                       handle, session->head_dim);
    uint64_t row_bytes = dw_drift_row_bytes(session); /* at most 2^10 * 2^32 * 2 */
    if (row_bytes > DW_DRIFT_KV_UNIT_BYTES_MAX || row_unit(row_bytes) * row_bytes > DW_DRIFT_KV_UNIT_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT,
                       "session.%" PRIu32 ": rows of %" PRIu64 " bytes cannot be padded to pages within %" PRIu64
                       " bytes",
                       handle, row_bytes, DW_DRIFT_KV_UNIT_BYTES_MAX);
    return DW_OK;
}

static dw_status check_session(const dw_checkpoint_session *session, dw_status status, dw_error *err) {
    dw_handle handle = session->handle;
    if (handle == 0) return dw_fail(err, status, "sessions: 0 is not a handle");
    if (!memchr(session->model_name, '\0', sizeof session->model_name) ||
        !memchr(session->profile, '\0', sizeof session->profile))
        return dw_fail(err, status, "session.%" PRIu32 ": model name or profile has no end", handle);
    if (!dw_drift_is_clean(session->profile))
        return dw_fail(err, status, "session.%" PRIu32 ": the profile is not plain text", handle);
    if (session->n_tokens > DW_CONTEXT_TOKENS_MAX)
        return dw_fail(err, DW_E_LIMIT, "session.%" PRIu32 ": %" PRIu32 " tokens, more than %u", handle,
                       session->n_tokens, DW_CONTEXT_TOKENS_MAX);
    if (session->n_rows > session->n_tokens)
        return dw_fail(err, status, "session.%" PRIu32 ": %" PRIu32 " rows of only %" PRIu32 " tokens", handle,
                       session->n_rows, session->n_tokens);
    if (session->n_prefilled > session->n_rows)
        return dw_fail(err, status, "session.%" PRIu32 ": %" PRIu32 " prefilled rows of only %" PRIu32, handle,
                       session->n_prefilled, session->n_rows);
    if (session->n_logits > DW_VOCAB_TOKENS_MAX)
        return dw_fail(err, DW_E_LIMIT, "session.%" PRIu32 ": %" PRIu32 " logits, more than %u", handle,
                       session->n_logits, DW_VOCAB_TOKENS_MAX);
    if (session->n_logits > 0 && (session->n_rows == 0 || session->n_rows != session->n_tokens))
        return dw_fail(err, status, "session.%" PRIu32 ": logits of a last row that is not there", handle);
    return check_session_geometry(session, status, err);
}

static dw_status check_sessions(const dw_checkpoint_state *state, dw_status status, dw_error *err) {
    if (state->n_sessions > DW_SESSIONS_PER_ACTOR_MAX)
        return dw_fail(err, DW_E_LIMIT, "sessions: %zu, more than %u", state->n_sessions, DW_SESSIONS_PER_ACTOR_MAX);
    for (size_t i = 0; i < state->n_sessions; i++) {
        dw_status checked = check_session(&state->sessions[i], status, err);
        if (checked != DW_OK) return checked;
        for (size_t k = 0; k < i; k++) {
            if (state->sessions[k].handle == state->sessions[i].handle)
                return dw_fail(err, status, "sessions: handle %" PRIu32 " twice", state->sessions[i].handle);
        }
    }
    return DW_OK;
}

static dw_status check_state_globals(const dw_checkpoint_state *state, dw_status status, dw_error *err) {
    static const size_t sizes[] = {
        [DW_VALUE_I32] = 4, [DW_VALUE_I64] = 8, [DW_VALUE_F32] = 4, [DW_VALUE_F64] = 8, [DW_VALUE_V128] = 16};
    if (state->n_globals > DW_PROGRAM_GLOBALS_MAX)
        return dw_fail(err, DW_E_LIMIT, "globals: %zu, more than %u", state->n_globals, DW_PROGRAM_GLOBALS_MAX);
    for (size_t i = 0; i < state->n_globals; i++) {
        const dw_value *value = &state->globals[i];
        if (value->type >= sizeof sizes / sizeof sizes[0])
            return dw_fail(err, status, "globals: %zu has unknown type %u", i, value->type);
        for (size_t k = sizes[value->type]; k < sizeof value->bits; k++) {
            if (value->bits[k] != 0) return dw_fail(err, status, "globals: %zu has bits outside its type", i);
        }
    }
    return DW_OK;
}

static dw_status check_state_tables(const dw_checkpoint_state *state, dw_error *err) {
    if (state->n_tables > DW_PROGRAM_CHANGED_TABLES_MAX)
        return dw_fail(err, DW_E_LIMIT, "tables: %zu, more than %u", state->n_tables, DW_PROGRAM_CHANGED_TABLES_MAX);
    for (size_t i = 0; i < state->n_tables; i++) {
        if (state->tables[i].n_elements > DW_PROGRAM_TABLE_ELEMENTS_MAX)
            return dw_fail(err, DW_E_LIMIT, "tables: %zu has %" PRIu32 " elements, more than %u", i,
                           state->tables[i].n_elements, DW_PROGRAM_TABLE_ELEMENTS_MAX);
    }
    return DW_OK;
}

dw_status dw_drift_check_state(const dw_checkpoint_state *state, dw_status status, dw_error *err) {
    const char *end = memchr(state->actor_name, '\0', sizeof state->actor_name);
    if (!end || end == state->actor_name || !dw_drift_is_clean(state->actor_name))
        return dw_fail(err, status, "actor.name: must be 1 to %u bytes of plain text", DW_ACTOR_NAME_BYTES_MAX);
    if (state->memory_bytes % DW_WASM_PAGE_BYTES != 0)
        return dw_fail(err, status, "memory.bytes: %" PRIu64 " is not a multiple of %" PRIu64, state->memory_bytes,
                       DW_WASM_PAGE_BYTES);
    if (state->memory_bytes > DW_GUEST_MEMORY_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "memory.bytes: %" PRIu64 ", more than %" PRIu64, state->memory_bytes,
                       DW_GUEST_MEMORY_BYTES_MAX);
    if (state->mailbox_bytes > DW_DRIFT_STATE_BYTES_MAX || state->actor_bytes > DW_DRIFT_STATE_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT,
                       "mailbox.bytes and actor.bytes: %" PRIu64 " and %" PRIu64 ", more than %" PRIu64,
                       state->mailbox_bytes, state->actor_bytes, DW_DRIFT_STATE_BYTES_MAX);
    if (state->program_bytes > DW_PROGRAM_BYTES_MAX)
        return dw_fail(err, DW_E_LIMIT, "program.bytes: %" PRIu64 ", more than %" PRIu64, state->program_bytes,
                       DW_PROGRAM_BYTES_MAX);
    dw_status checked = check_state_globals(state, status, err);
    if (checked == DW_OK) checked = check_state_tables(state, err);
    if (checked == DW_OK) checked = check_sessions(state, status, err);
    if (checked != DW_OK) return checked;
    size_t n = dw_drift_count_sections(state);
    if (n > DW_DRIFT_TENSORS_MAX)
        return dw_fail(err, DW_E_LIMIT, "sessions: %zu sections, more than %u", n, DW_DRIFT_TENSORS_MAX);
    return DW_OK;
}

/* --- sections ---------------------------------------------------------------------------------------------------- */

enum { SECTIONS_OF_ACTOR = 3 }; /* memory.0, mailbox, actor */

static size_t sections_of_session(const dw_checkpoint_session *session) {
    return 1u + (session->n_logits > 0 ? 1u : 0u) + 2 * (size_t)session->n_layers;
}

size_t dw_drift_count_sections(const dw_checkpoint_state *state) {
    size_t n = SECTIONS_OF_ACTOR + (state->version >= DW_DRIFT_VERSION_WHOLE ? 1u : 0u) + state->n_tables;
    for (size_t i = 0; i < state->n_sessions; i++) n += sections_of_session(&state->sessions[i]);
    return n;
}

size_t dw_drift_first_kv(const dw_checkpoint_state *state, size_t session) {
    size_t index = 1 + state->n_tables; /* behind memory.0 */
    for (size_t i = 0; i < session; i++) index += sections_of_session(&state->sessions[i]);
    return index + 1 + (state->sessions[session].n_logits > 0 ? 1u : 0u); /* behind tokens and logits */
}

/* Appends a section of `n_units` units of `unit_bytes`, padded to pages, and gives it for its name and shape. None of
 * the products can overflow: a checked state's counts are below 2^20 and its sizes below 2^33. */
static dw_checkpoint_section *add_section(dw_drift_layout *layout, dw_drift_part part, const char *dtype,
                                          uint64_t used_bytes, uint64_t unit_bytes) {
    dw_checkpoint_section *section = &layout->sections[layout->n];
    layout->parts[layout->n++] = part;
    (void)snprintf(section->dtype, sizeof section->dtype, "%s", dtype);
    section->n_dims = 1;
    section->used_bytes = used_bytes;
    section->bytes = (used_bytes + unit_bytes - 1) / unit_bytes * unit_bytes;
    return section;
}

static void add_bytes(dw_drift_layout *layout, dw_drift_kind kind, const char *name, uint64_t bytes) {
    dw_checkpoint_section *section = add_section(layout, (dw_drift_part){.kind = kind}, "U8", bytes,
                                                 DW_DRIFT_PAGE_BYTES);
    (void)snprintf(section->name, sizeof section->name, "%s", name);
    section->shape[0] = section->bytes;
}

static void add_table(dw_drift_layout *layout, const dw_table_view *table, uint32_t index) {
    dw_drift_part part = {.kind = DW_DRIFT_TABLE, .table = index};
    dw_checkpoint_section *section = add_section(layout, part, "I32", (uint64_t)table->n_elements * TABLE_ELEMENT_BYTES,
                                                 DW_DRIFT_PAGE_BYTES);
    (void)snprintf(section->name, sizeof section->name, "table.%" PRIu32, index);
    section->shape[0] = section->bytes / TABLE_ELEMENT_BYTES;
}

static void add_kv(dw_drift_layout *layout, const dw_checkpoint_session *session, dw_drift_part part) {
    uint64_t row_bytes = dw_drift_row_bytes(session);
    bool blocks = dw_kv_type_block(session->kv_type) > 1; /* safetensors has no dtype for these: plain bytes */
    const char *dtype = blocks ? "U8" : dw_kv_type_name(session->kv_type);
    dw_checkpoint_section *section = add_section(layout, part, dtype, session->n_rows * row_bytes,
                                                 row_unit(row_bytes) * row_bytes);
    (void)snprintf(section->name, sizeof section->name, "kv.%" PRIu32 ".%c.%" PRIu32, session->handle,
                   part.kind == DW_DRIFT_K ? 'k' : 'v', part.layer);
    section->n_dims = blocks ? 2 : 3;
    section->shape[0] = section->bytes / row_bytes;
    section->shape[1] = blocks ? row_bytes : session->n_heads_kv;
    if (!blocks) section->shape[2] = session->head_dim;
}

static void add_session(dw_drift_layout *layout, const dw_checkpoint_session *session, uint32_t index) {
    dw_drift_part part = {.kind = DW_DRIFT_TOKENS, .session = index};
    dw_checkpoint_section *tokens = add_section(layout, part, "I32", (uint64_t)session->n_tokens * TOKEN_BYTES,
                                                DW_DRIFT_PAGE_BYTES);
    (void)snprintf(tokens->name, sizeof tokens->name, "tokens.%" PRIu32, session->handle);
    tokens->shape[0] = tokens->bytes / TOKEN_BYTES;
    if (session->n_logits > 0) {
        part.kind = DW_DRIFT_LOGITS;
        dw_checkpoint_section *logits = add_section(layout, part, "F32", (uint64_t)session->n_logits * LOGIT_BYTES,
                                                    DW_DRIFT_PAGE_BYTES);
        (void)snprintf(logits->name, sizeof logits->name, "logits.%" PRIu32, session->handle);
        logits->shape[0] = logits->bytes / LOGIT_BYTES;
    }
    for (part.layer = 0; part.layer < session->n_layers; part.layer++) {
        part.kind = DW_DRIFT_K;
        add_kv(layout, session, part);
        part.kind = DW_DRIFT_V;
        add_kv(layout, session, part);
    }
}

dw_status dw_drift_layout_init(dw_drift_layout *layout, const dw_checkpoint_state *state, dw_error *err) {
    size_t n = dw_drift_count_sections(state);
    *layout = (dw_drift_layout){0};
    layout->sections = calloc(n, sizeof *layout->sections);
    layout->parts = calloc(n, sizeof *layout->parts);
    if (!layout->sections || !layout->parts) {
        dw_drift_layout_deinit(layout);
        return dw_fail(err, DW_E_NO_MEMORY, "no memory for %zu sections", n);
    }
    add_bytes(layout, DW_DRIFT_MEMORY, "memory.0", state->memory_bytes);
    for (size_t i = 0; i < state->n_tables; i++) add_table(layout, &state->tables[i], (uint32_t)i);
    for (size_t i = 0; i < state->n_sessions; i++) add_session(layout, &state->sessions[i], (uint32_t)i);
    add_bytes(layout, DW_DRIFT_MAILBOX, "mailbox", state->mailbox_bytes);
    add_bytes(layout, DW_DRIFT_ACTOR, "actor", state->actor_bytes);
    if (state->version >= DW_DRIFT_VERSION_WHOLE) add_bytes(layout, DW_DRIFT_PROGRAM, "program", state->program_bytes);
    dw_drift_layout_place(layout, 0);
    return DW_OK;
}

void dw_drift_layout_place(dw_drift_layout *layout, uint64_t data_offset) {
    uint64_t offset = data_offset;
    for (size_t i = 0; i < layout->n; i++) {
        layout->sections[i].offset = offset;
        offset += layout->sections[i].bytes;
    }
    layout->data_offset = data_offset;
    layout->data_bytes = offset - data_offset;
}

void dw_drift_layout_deinit(dw_drift_layout *layout) {
    free(layout->sections);
    free(layout->parts);
    *layout = (dw_drift_layout){0};
}

/* write.c: a state becomes a file, whole or not at all.
 *
 * Sections first, each hashed as it is written; then the header, whose length is known before the hashes are, because a
 * hash always takes 64 digits. All of it goes to a temporary file beside the target, which replaces the target once it
 * is synced. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

enum {
    CHUNK_BYTES = 256 * 1024, /* hashed and then written while it is in the cache */
    HOLE_BYTES = 4096         /* zero runs are left out in units of this: the usual block of a file system */
};

typedef struct writer {
    const dw_checkpoint_state *state;
    dw_checkpoint_rows rows;
    void *context;
    dw_os_file file;
    dw_hasher *hasher;
    dw_checkpoint_report report;
    dw_error *err;
} writer;

/* Writes what of a chunk is not zero: the file was made at its full length, so what is left out reads as zeros. */
static dw_status write_sparse(const writer *to, uint64_t offset, const uint8_t *data, size_t size) {
    size_t begin = 0; /* of the run of bytes that must be written */
    dw_status status = DW_OK;
    for (size_t at = 0; at < size && status == DW_OK; at += HOLE_BYTES) {
        size_t n = (size_t)dw_min_u64(HOLE_BYTES, size - at);
        if (!dw_is_zero(data + at, n)) continue;
        if (at > begin) status = dw_os_write_at(to->file, offset + begin, data + begin, at - begin, to->err);
        begin = at + n;
    }
    if (status == DW_OK && begin < size)
        status = dw_os_write_at(to->file, offset + begin, data + begin, size - begin, to->err);
    return status;
}

static dw_status hash_bytes(writer *to, const void *data, size_t size) {
    uint64_t begin = dw_os_monotonic_ns();
    dw_status status = dw_hasher_update(to->hasher, data, size);
    to->report.hash_ns += dw_os_monotonic_ns() - begin;
    return status == DW_OK ? DW_OK : dw_fail(to->err, status, "cannot hash");
}

/* Padding is zeros: hashed, not written. */
static dw_status hash_padding(writer *to, uint64_t size) {
    static const uint8_t zeros[16384];
    dw_status status = DW_OK;
    while (size > 0 && status == DW_OK) {
        size_t n = (size_t)dw_min_u64(size, sizeof zeros);
        status = hash_bytes(to, zeros, n);
        size -= n;
    }
    return status;
}

static dw_status write_drift_section(writer *to, dw_checkpoint_section *section, const uint8_t *data) {
    dw_status status = DW_OK;
    for (uint64_t at = 0; at < section->used_bytes && status == DW_OK; at += CHUNK_BYTES) {
        size_t n = (size_t)dw_min_u64(CHUNK_BYTES, section->used_bytes - at);
        status = hash_bytes(to, data + at, n);
        if (status != DW_OK) break;
        uint64_t begin = dw_os_monotonic_ns();
        status = write_sparse(to, section->offset + at, data + at, n);
        to->report.write_ns += dw_os_monotonic_ns() - begin;
    }
    if (status == DW_OK) status = hash_padding(to, section->bytes - section->used_bytes);
    if (status == DW_OK) status = dw_hasher_finish(to->hasher, &section->hash);
    return status;
}

/* The bytes of a section: from the state, or asked for. */
static dw_status section_data(writer *to, const dw_drift_part *part, const dw_checkpoint_section *section,
                              const uint8_t **out) {
    const dw_checkpoint_state *state = to->state;
    uint64_t given = section->used_bytes;
    const void *data = NULL;
    dw_status status = DW_OK;
    *out = NULL;
    if (section->used_bytes == 0) return DW_OK;
    switch (part->kind) {
    case DW_DRIFT_MEMORY: data = state->memory; break;
    case DW_DRIFT_TABLE: data = state->tables[part->table].elements; break;
    case DW_DRIFT_MAILBOX: data = state->mailbox; break;
    case DW_DRIFT_ACTOR: data = state->actor; break;
    case DW_DRIFT_TOKENS: data = state->sessions[part->session].tokens; break;
    case DW_DRIFT_LOGITS: data = state->sessions[part->session].logits; break;
    case DW_DRIFT_PROGRAM:
        data = state->program_source;
        to->report.program_bytes = state->program_bytes;
        break;
    case DW_DRIFT_K:
    case DW_DRIFT_V:
        if (to->rows)
            status = to->rows(to->context, part->session, part->layer, part->kind == DW_DRIFT_V, &data, &given);
        if (status == DW_OK) to->report.kv_bytes += section->used_bytes;
        break;
    }
    if (status != DW_OK) return dw_fail(to->err, status, "its rows cannot be read");
    if (!data || given != section->used_bytes)
        return dw_fail(to->err, DW_E_INVALID, "%" PRIu64 " bytes given, %" PRIu64 " needed", data ? given : 0,
                       section->used_bytes);
    *out = data;
    return DW_OK;
}

static dw_status write_sections(writer *to, dw_drift_layout *layout) {
    for (size_t i = 0; i < layout->n; i++) {
        dw_checkpoint_section *section = &layout->sections[i];
        const uint8_t *data = NULL;
        dw_status status = section_data(to, &layout->parts[i], section, &data);
        if (status == DW_OK) status = write_drift_section(to, section, data);
        if (status != DW_OK) return dw_error_prefix(to->err, status, "section %s", section->name);
    }
    return DW_OK;
}

static dw_status check_tokens(const dw_checkpoint_state *state, dw_error *err) {
    for (size_t i = 0; i < state->n_sessions; i++) {
        const dw_checkpoint_session *session = &state->sessions[i];
        for (uint32_t k = 0; session->tokens && k < session->n_tokens; k++) {
            if (session->tokens[k] < 0)
                return dw_fail(err, DW_E_INVALID, "section tokens.%" PRIu32 ": token %" PRIu32 " is %" PRId32,
                               session->handle, k, session->tokens[k]);
        }
    }
    return DW_OK;
}

static dw_status check_functions(const dw_checkpoint_state *state, dw_error *err) {
    for (size_t i = 0; i < state->n_tables; i++) {
        const dw_table_view *table = &state->tables[i];
        for (uint32_t k = 0; table->elements && k < table->n_elements; k++) {
            if (table->elements[k] < -1)
                return dw_fail(err, DW_E_INVALID, "section table.%zu: function %" PRIu32 " is %" PRId32, i, k,
                               table->elements[k]);
        }
    }
    return DW_OK;
}

static dw_status check_written_logits(const dw_checkpoint_state *state, dw_error *err) {
    for (size_t i = 0; i < state->n_sessions; i++) {
        const dw_checkpoint_session *session = &state->sessions[i];
        for (uint32_t k = 0; session->logits && k < session->n_logits; k++) {
            if (dw_drift_is_bad_logit(session->logits[k]))
                return dw_fail(err, DW_E_INVALID,
                               "section logits.%" PRIu32 ": logit %" PRIu32 " is no number to draw by", session->handle,
                               k);
        }
    }
    return DW_OK;
}

/* A program that is given is the one that the state names. */
static dw_status check_written_program(const dw_checkpoint_state *state, dw_error *err) {
    dw_hash hash;
    if (state->program_bytes == 0 || !state->program_source) return DW_OK;
    dw_status status = dw_hash_of(state->program_source, (size_t)state->program_bytes, &hash);
    if (status != DW_OK) return dw_fail(err, status, "section program: cannot be hashed");
    return dw_hash_equal(&hash, &state->program)
               ? DW_OK
               : dw_fail(err, DW_E_INVALID, "section program: is not the program of this state");
}

/* Writes the whole file and makes it durable. */
static dw_status write_file(writer *to, dw_drift_layout *layout) {
    uint8_t *header = NULL;
    uint64_t header_bytes = 0;
    /* Once for its length, once with the hashes. */
    dw_status status = dw_drift_header_write(to->state, layout, &header, &header_bytes, &to->report.identity, to->err);
    if (status != DW_OK) return status;
    free(header);
    dw_drift_layout_place(layout, header_bytes);
    to->report.file_bytes = layout->data_offset + layout->data_bytes;
    status = dw_os_resize(to->file, to->report.file_bytes, to->err);
    if (status == DW_OK) status = write_sections(to, layout);
    if (status != DW_OK) return status;
    status = dw_drift_header_write(to->state, layout, &header, &header_bytes, &to->report.identity, to->err);
    if (status != DW_OK) return status;
    if (header_bytes != layout->data_offset)
        status = dw_fail(to->err, DW_E_INTERNAL, "header: its length changed with the hashes");
    if (status == DW_OK) status = dw_os_write_at(to->file, 0, header, (size_t)header_bytes, to->err);
    free(header);
    if (status != DW_OK) return status;
    uint64_t begin = dw_os_monotonic_ns();
    status = dw_os_sync(to->file, to->err);
    to->report.sync_ns = dw_os_monotonic_ns() - begin;
    return status == DW_OK ? dw_os_occupied(to->file, &to->report.occupied_bytes, to->err) : status;
}

/* A name beside `path` that no other writer has, so that two freezes to one path do not meet. Free with free(). */
static dw_status temporary_path(const char *path, char **out, dw_error *err) {
    uint64_t tag = 0;
    *out = NULL;
    dw_status status = dw_os_random(&tag, sizeof tag, err);
    if (status != DW_OK) return status;
    size_t size = strlen(path) + sizeof ".0123456789abcdef.tmp";
    *out = malloc(size);
    if (!*out) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a file name");
    (void)snprintf(*out, size, "%s.%016" PRIx64 ".tmp", path, tag);
    return DW_OK;
}

dw_status dw_checkpoint_write(const char *path, const dw_checkpoint_state *given, dw_checkpoint_rows rows,
                              void *context, dw_checkpoint_report *report, dw_error *err) {
    dw_checkpoint_state now = *given;
    const dw_checkpoint_state *state = &now;
    now.version = DW_DRIFT_VERSION;
    writer to = {.state = state, .rows = rows, .context = context, .file = DW_OS_FILE_NONE, .err = err};
    dw_drift_layout layout = {0};
    char *temporary = NULL;
    bool made = false;
    if (report) *report = (dw_checkpoint_report){0};
    dw_status status = dw_drift_check_state(state, DW_E_INVALID, err);
    if (status == DW_OK) status = check_tokens(state, err);
    if (status == DW_OK) status = check_written_logits(state, err);
    if (status == DW_OK) status = check_functions(state, err);
    if (status == DW_OK) status = check_written_program(state, err);
    if (status == DW_OK) status = dw_drift_layout_init(&layout, state, err);
    if (status == DW_OK) status = temporary_path(path, &temporary, err);
    if (status != DW_OK) goto out;
    status = dw_hasher_create(&to.hasher);
    if (status != DW_OK) {
        status = dw_fail(err, status, "no memory for a hasher");
        goto out;
    }
    dw_os_note_temporary(temporary);
    status = dw_os_open(temporary, DW_OS_CREATE_NEW, &to.file, err);
    if (status != DW_OK) goto out;
    made = true;
    status = write_file(&to, &layout);
    dw_os_close(&to.file);
    if (status != DW_OK) goto out;
    status = dw_os_replace(temporary, path, err);
    /* A replace that failed only at the folder's sync has renamed already: then there is nothing under the temporary
     * name. */
    if (status == DW_OK) made = false;
    if (status == DW_OK && report) *report = to.report;
out:
    dw_os_close(&to.file);
    if (made) {
        dw_status ignored = dw_os_remove(temporary, NULL); /* the first failure is the one to tell */
        (void)ignored;
    }
    dw_hasher_destroy(to.hasher);
    dw_drift_layout_deinit(&layout);
    if (temporary) dw_os_forget_temporary(temporary);
    free(temporary);
    return status;
}

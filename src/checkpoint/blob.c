/* blob.c: a state as one blob, for stores that keep memory, rows and tokens elsewhere (checkpoint.h). */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

enum { BLOB_VERSION = 1, BLOB_HEAD_BYTES = 8, ELEMENT_BYTES = 4 };

struct dw_blob {
    dw_drift_state content;
    uint8_t *bytes;        /* of what the metadata counts: table elements, mailbox, actor */
};

/* --- writing ----------------------------------------------------------------------------------------------------- */

static dw_status state_metadata(const dw_checkpoint_state *state, char **out, dw_error *err) {
    json_t *metadata = json_object();
    dw_status status = metadata ? dw_drift_metadata_write(metadata, state, err)
                                : dw_fail(err, DW_E_NO_MEMORY, "no memory for a state's metadata");
    *out = status == DW_OK ? json_dumps(metadata, JSON_COMPACT) : NULL;
    json_decref(metadata);
    if (status == DW_OK && !*out) status = dw_fail(err, DW_E_NO_MEMORY, "no memory for a state's metadata");
    return status;
}

dw_status dw_blob_encode(const dw_checkpoint_state *state, uint8_t **out, size_t *size, dw_error *err) {
    char *metadata = NULL;
    dw_writer writer;
    *out = NULL;
    *size = 0;
    dw_status status = dw_drift_check_state(state, DW_E_INVALID, err);
    if (status == DW_OK) status = state_metadata(state, &metadata, err);
    if (status != DW_OK) return status;
    size_t length = strlen(metadata);
    dw_writer_init(&writer);
    dw_write_u32(&writer, BLOB_VERSION);
    dw_write_u32(&writer, (uint32_t)length);
    dw_write_bytes(&writer, metadata, length);
    for (size_t i = 0; i < state->n_tables; i++)
        dw_write_bytes(&writer, state->tables[i].elements, (size_t)state->tables[i].n_elements * ELEMENT_BYTES);
    dw_write_bytes(&writer, state->mailbox, (size_t)state->mailbox_bytes);
    dw_write_bytes(&writer, state->actor, (size_t)state->actor_bytes);
    free(metadata);
    status = dw_writer_finish(&writer, out, size);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "no memory for a state");
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

static dw_status read_state_metadata(dw_reader *reader, dw_drift_state *out, dw_error *err) {
    uint32_t version = dw_read_u32(reader), length = dw_read_u32(reader);
    if (reader->status == DW_OK && version != BLOB_VERSION)
        return dw_fail_at(err, DW_E_VERSION, 0, "state of version %u, this build reads version %d", version,
                          BLOB_VERSION);
    const uint8_t *text = dw_read_bytes(reader, length);
    if (reader->status != DW_OK || length > DW_DRIFT_HEADER_BYTES_MAX)
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset, "state: its metadata is not all there");
    json_error_t detail = {0};
    json_t *metadata = json_loadb((const char *)text, length, JSON_REJECT_DUPLICATES, &detail);
    if (!json_is_object(metadata)) {
        bool starved = !metadata && dw_drift_json_starved(&detail);
        json_decref(metadata);
        return starved ? dw_fail(err, DW_E_NO_MEMORY, "no memory for a state's metadata")
                       : dw_fail_at(err, DW_E_FORMAT, BLOB_HEAD_BYTES, "state: its metadata is not an object");
    }
    dw_status status = dw_drift_metadata_read(metadata, out, err);
    if (status == DW_OK && json_object_size(metadata) > 0) {
        char shown[DW_DRIFT_PRINTABLE_BYTES];
        const char *key = dw_drift_printable(json_object_iter_key(json_object_iter(metadata)), shown);
        status = dw_fail_at(err, DW_E_FORMAT, BLOB_HEAD_BYTES, "state: \"%s\" is not known to this version", key);
        dw_drift_state_deinit(out);
    }
    json_decref(metadata);
    return status;
}

/* Points the state into its bytes. The elements come first, so that they are aligned. */
static dw_status attach_state(dw_blob *state, const uint8_t *rest, uint64_t size, dw_error *err) {
    dw_checkpoint_state *content = &state->content.state;
    uint64_t wanted = content->mailbox_bytes + content->actor_bytes; /* both are below 2^29 by now */
    for (size_t i = 0; i < content->n_tables; i++) wanted += (uint64_t)content->tables[i].n_elements * ELEMENT_BYTES;
    if (wanted != size)
        return dw_fail(err, wanted > size ? DW_E_TRUNCATED : DW_E_CORRUPT,
                       "state: %llu bytes, its metadata counts %llu", (unsigned long long)size,
                       (unsigned long long)wanted);
    state->bytes = malloc(size ? (size_t)size : 1);
    if (!state->bytes) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a state");
    if (size) memcpy(state->bytes, rest, (size_t)size);
    uint8_t *at = state->bytes;
    for (size_t i = 0; i < content->n_tables; i++) {
        state->content.tables[i].elements = (const int32_t *)(const void *)at;
        at += (size_t)content->tables[i].n_elements * ELEMENT_BYTES;
    }
    content->mailbox = at;
    content->actor = at + content->mailbox_bytes;
    return DW_OK;
}

dw_status dw_blob_decode(const void *data, size_t size, dw_blob **out, dw_error *err) {
    dw_reader reader;
    *out = NULL;
    dw_blob *state = calloc(1, sizeof *state);
    if (!state) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a state");
    dw_reader_init(&reader, data, size);
    dw_status status = read_state_metadata(&reader, &state->content, err);
    if (status == DW_OK && state->content.state.version != DW_DRIFT_VERSION)
        status = dw_fail(err, DW_E_FORMAT, "state: format version %u", state->content.state.version);
    if (status == DW_OK)
        status = attach_state(state, reader.data + reader.offset, dw_reader_left(&reader), err);
    if (status == DW_OK) *out = state;
    else dw_blob_free(state);
    return status;
}

void dw_blob_free(dw_blob *state) {
    if (!state) return;
    dw_drift_state_deinit(&state->content);
    free(state->bytes);
    free(state);
}

const dw_checkpoint_state *dw_blob_view(const dw_blob *state) { return &state->content.state; }

void dw_blob_set_tokens(dw_blob *state, size_t session, const int32_t *tokens) {
    state->content.sessions[session].tokens = tokens;
}

void dw_blob_set_logits(dw_blob *state, size_t session, const float *logits) {
    state->content.sessions[session].logits = logits;
}

/* read.c: opening a checkpoint: the header is copied once, checked and turned into a state; the sections that this
 * state must have are compared with those the file says it has; then the file is mapped. Nothing behind the header is
 * looked at here. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

dw_status dw_drift_read(const dw_drift_source *source, uint64_t offset, void *out, size_t size, dw_error *err) {
    if (!dw_in_range(offset, size, source->size))
        return dw_fail_at(err, DW_E_TRUNCATED, source->size, "file ends at %" PRIu64, source->size);
    if (source->backing) return dw_os_read_at(dw_backing_file(source->backing), offset, out, size, err);
    memcpy(out, source->bytes + offset, size);
    return DW_OK;
}

/* --- sections of the file against sections of the state ----------------------------------------------------------- */

static bool is_number(const json_t *value, uint64_t number) {
    return json_is_integer(value) && json_integer_value(value) >= 0 && (uint64_t)json_integer_value(value) == number;
}

static dw_status check_entry(const json_t *entry, const dw_checkpoint_section *section, uint64_t data_offset,
                             dw_error *err) {
    if (!entry) return dw_fail(err, DW_E_CORRUPT, "section %s: is missing", section->name);
    if (json_object_size(entry) != 3)
        return dw_fail(err, DW_E_FORMAT, "section %s: is not described by dtype, shape and data_offsets",
                       section->name);
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype || strcmp(dtype, section->dtype) != 0)
        return dw_fail(err, DW_E_CORRUPT, "section %s: dtype is not %s", section->name, section->dtype);
    const json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    bool same = json_is_array(shape) && json_array_size(shape) == section->n_dims;
    for (uint32_t i = 0; i < section->n_dims && same; i++)
        same = is_number(json_array_get(shape, i), section->shape[i]);
    if (!same)
        return dw_fail(err, DW_E_CORRUPT, "section %s: shape is not what the counts in the metadata give",
                       section->name);
    uint64_t begin = section->offset - data_offset;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !is_number(json_array_get(offsets, 0), begin) ||
        !is_number(json_array_get(offsets, 1), begin + section->bytes))
        return dw_fail(err, DW_E_CORRUPT, "section %s: is not at %" PRIu64 " to %" PRIu64 " behind the header",
                       section->name, begin, begin + section->bytes);
    return DW_OK;
}

static dw_status refuse_leftover(json_t *object, const char *what, dw_error *err) {
    if (json_object_size(object) == 0) return DW_OK;
    char shown[DW_DRIFT_PRINTABLE_BYTES];
    return dw_fail(err, DW_E_FORMAT, "header: %s \"%s\" is not known to this version", what,
                   dw_drift_printable(json_object_iter_key(json_object_iter(object)), shown));
}

/* Checks the entries of all sections and takes their hashes; nothing unknown may be left. */
static dw_status take_sections(dw_checkpoint *checkpoint, json_t *root, json_t *metadata, dw_error *err) {
    dw_drift_layout *layout = &checkpoint->layout;
    for (size_t i = 0; i < layout->n; i++) {
        dw_checkpoint_section *section = &layout->sections[i];
        char key[80];
        (void)snprintf(key, sizeof key, "hash.%s", section->name);
        dw_status status = check_entry(json_object_get(root, section->name), section, layout->data_offset, err);
        if (status == DW_OK) status = dw_drift_take_hash(metadata, key, &section->hash, err);
        if (status != DW_OK) return status;
        (void)json_object_del(root, section->name);
    }
    dw_status status = refuse_leftover(metadata, "entry", err);
    return status == DW_OK ? refuse_leftover(root, "section", err) : status;
}

/* Which section a file that is too short ends in. */
static dw_status check_file_size(const dw_checkpoint *checkpoint, dw_error *err) {
    const dw_drift_layout *layout = &checkpoint->layout;
    uint64_t size = checkpoint->source.size, wanted = layout->data_offset + layout->data_bytes;
    if (size == wanted) return DW_OK;
    if (size > wanted)
        return dw_fail_at(err, DW_E_CORRUPT, wanted, "section %s: %" PRIu64 " bytes follow the last section",
                          layout->sections[layout->n - 1].name, size - wanted);
    size_t i = 0;
    while (i + 1 < layout->n && layout->sections[i].offset + layout->sections[i].bytes <= size) i++;
    return dw_fail_at(err, DW_E_TRUNCATED, size, "section %s: file ends at %" PRIu64 ", %" PRIu64 " bytes are missing",
                      layout->sections[i].name, size, wanted - size);
}

/* --- opening ----------------------------------------------------------------------------------------------------- */

static dw_status load_content(dw_checkpoint *checkpoint, json_t *root, uint64_t header_bytes, dw_error *err) {
    json_t *metadata = json_object_get(root, "__metadata__");
    if (!json_is_object(metadata)) return dw_fail(err, DW_E_FORMAT, "header: __metadata__ is not an object");
    json_incref(metadata);
    (void)json_object_del(root, "__metadata__");
    dw_hash header_hash; /* its digits are zeros by now; they were compared before */
    dw_status status = dw_drift_take_hash(metadata, "hash.header", &header_hash, err);
    if (status == DW_OK) status = dw_drift_metadata_read(metadata, &checkpoint->content, err);
    if (status != DW_OK) goto out;
    /* The table of sections is allocated for what is there, not for what counts claim. */
    size_t n = dw_drift_count_sections(&checkpoint->content.state);
    if (json_object_size(root) < n) {
        status = dw_fail(err, DW_E_CORRUPT, "header: %zu sections, %zu follow from the metadata",
                         json_object_size(root), n);
        goto out;
    }
    status = dw_drift_layout_init(&checkpoint->layout, &checkpoint->content.state, err);
    if (status != DW_OK) goto out;
    dw_drift_layout_place(&checkpoint->layout, header_bytes);
    status = take_sections(checkpoint, root, metadata, err);
    if (status == DW_OK) status = check_file_size(checkpoint, err);
out:
    json_decref(metadata);
    return status;
}

static dw_status load_header(dw_checkpoint *checkpoint, dw_error *err) {
    uint8_t prefix[DW_DRIFT_LENGTH_BYTES];
    uint64_t size = 0;
    json_t *root = NULL;
    uint8_t *header = NULL;
    if (checkpoint->source.size < sizeof prefix)
        return dw_fail_at(err, DW_E_TRUNCATED, checkpoint->source.size,
                          "header: file of %" PRIu64 " bytes is too short to have one", checkpoint->source.size);
    dw_status status = dw_drift_read(&checkpoint->source, 0, prefix, sizeof prefix, err);
    if (status == DW_OK) status = dw_drift_header_size(prefix, checkpoint->source.size, &size, err);
    if (status != DW_OK) return status;
    header = malloc((size_t)size); /* at most the file's own size */
    if (!header) return dw_fail(err, DW_E_NO_MEMORY, "header: no memory for %" PRIu64 " bytes", size);
    status = dw_drift_read(&checkpoint->source, 0, header, (size_t)size, err);
    if (status == DW_OK) status = dw_drift_header_read(header, size, &root, &checkpoint->identity, err);
    if (status == DW_OK) status = load_content(checkpoint, root, size, err);
    json_decref(root);
    free(header);
    return status;
}

/* Points the state into the mapped bytes. */
static void attach_sections(dw_checkpoint *checkpoint) {
    const dw_drift_layout *layout = &checkpoint->layout;
    dw_checkpoint_state *state = &checkpoint->content.state;
    for (size_t i = 0; i < layout->n; i++) {
        const uint8_t *data = checkpoint->source.bytes + layout->sections[i].offset;
        switch (layout->parts[i].kind) {
        case DW_DRIFT_MEMORY: state->memory = data; break;
        case DW_DRIFT_TABLE:
            checkpoint->content.tables[layout->parts[i].table].elements = (const int32_t *)(const void *)data;
            break;
        case DW_DRIFT_MAILBOX: state->mailbox = data; break;
        case DW_DRIFT_ACTOR: state->actor = data; break;
        case DW_DRIFT_TOKENS:
            checkpoint->content.sessions[layout->parts[i].session].tokens = (const int32_t *)(const void *)data;
            break;
        case DW_DRIFT_LOGITS:
            checkpoint->content.sessions[layout->parts[i].session].logits = (const float *)(const void *)data;
            break;
        case DW_DRIFT_PROGRAM: state->program_source = state->program_bytes > 0 ? data : NULL; break;
        case DW_DRIFT_K:
        case DW_DRIFT_V: break; /* mapped by whoever thaws them */
        }
    }
}

static dw_status create_empty(dw_checkpoint **out, dw_error *err) {
    *out = calloc(1, sizeof **out);
    if (!*out) return dw_fail(err, DW_E_NO_MEMORY, "no memory for a checkpoint");
    atomic_init(&(*out)->verified, false);
    return DW_OK;
}

dw_status dw_checkpoint_open(const char *path, dw_checkpoint **out, dw_error *err) {
    dw_checkpoint *checkpoint = NULL;
    void *map = NULL;
    *out = NULL;
    dw_status status = create_empty(&checkpoint, err);
    if (status != DW_OK) return status;
    status = dw_backing_open(path, "checkpoint", &checkpoint->source.backing, err);
    if (status == DW_OK)
        status = dw_os_size(dw_backing_file(checkpoint->source.backing), &checkpoint->source.size, err);
    if (status == DW_OK) status = load_header(checkpoint, err);
    if (status == DW_OK && checkpoint->source.size > SIZE_MAX)
        status = dw_fail(err, DW_E_LIMIT, "file of %" PRIu64 " bytes", checkpoint->source.size);
    if (status == DW_OK)
        status = dw_os_map_file(NULL, (size_t)checkpoint->source.size, dw_backing_file(checkpoint->source.backing), 0,
                                DW_OS_RO, false, &map, err);
    if (status != DW_OK) {
        /* A file that could not be opened is named by that error already. */
        if (checkpoint->source.backing) status = dw_error_prefix(err, status, "%s", path);
        goto out;
    }
    checkpoint->source.bytes = map;
    attach_sections(checkpoint);
    *out = checkpoint;
    checkpoint = NULL;
out:
    dw_checkpoint_close(checkpoint);
    return status;
}

dw_status dw_checkpoint_open_bytes(const void *bytes, uint64_t size, dw_checkpoint **out, dw_error *err) {
    dw_checkpoint *checkpoint = NULL;
    *out = NULL;
    dw_status status = create_empty(&checkpoint, err);
    if (status != DW_OK) return status;
    checkpoint->source = (dw_drift_source){.bytes = bytes, .size = size};
    status = load_header(checkpoint, err);
    if (status != DW_OK) {
        dw_checkpoint_close(checkpoint);
        return status;
    }
    attach_sections(checkpoint);
    *out = checkpoint;
    return DW_OK;
}

void dw_checkpoint_close(dw_checkpoint *checkpoint) {
    if (!checkpoint) return;
    if (checkpoint->source.backing && checkpoint->source.bytes)
        dw_os_unmap((void *)(uintptr_t)checkpoint->source.bytes, (size_t)checkpoint->source.size);
    dw_backing_release(checkpoint->source.backing);
    dw_drift_layout_deinit(&checkpoint->layout);
    dw_drift_state_deinit(&checkpoint->content);
    free(checkpoint);
}

/* --- views ------------------------------------------------------------------------------------------------------- */

bool dw_checkpoint_is_verified(const dw_checkpoint *checkpoint) { return atomic_load(&checkpoint->verified); }
const dw_checkpoint_state *dw_checkpoint_view(const dw_checkpoint *checkpoint) { return &checkpoint->content.state; }
uint32_t dw_checkpoint_version(const dw_checkpoint *checkpoint) { return checkpoint->content.state.version; }
const dw_hash *dw_checkpoint_identity(const dw_checkpoint *checkpoint) { return &checkpoint->identity; }
uint64_t dw_checkpoint_file_bytes(const dw_checkpoint *checkpoint) { return checkpoint->source.size; }
dw_backing *dw_checkpoint_backing(const dw_checkpoint *checkpoint) { return checkpoint->source.backing; }
uint64_t dw_checkpoint_memory_offset(const dw_checkpoint *checkpoint) { return checkpoint->layout.sections[0].offset; }

dw_status dw_checkpoint_kv_sources(const dw_checkpoint *checkpoint, size_t session, dw_kv_source *out,
                                   size_t n_layers) {
    const dw_checkpoint_state *state = &checkpoint->content.state;
    if (session >= state->n_sessions || n_layers != state->sessions[session].n_layers) return DW_E_RANGE;
    const dw_checkpoint_section *section = &checkpoint->layout.sections[dw_drift_first_kv(state, session)];
    for (size_t layer = 0; layer < n_layers; layer++, section += 2)
        out[layer] = (dw_kv_source){.k_offset = section[0].offset, .v_offset = section[1].offset};
    return DW_OK;
}

size_t dw_checkpoint_sections(const dw_checkpoint *checkpoint, const dw_checkpoint_section **out) {
    *out = checkpoint->layout.sections;
    return checkpoint->layout.n;
}

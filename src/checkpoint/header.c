/* header.c: the header's text: written, hashed, bounded, parsed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/drift.h"

/* Of one header: what a layout of DW_DRIFT_TENSORS_MAX sections needs, an object, two arrays, five numbers, two strings
 * each, and some. */
enum { JSON_VALUES_MAX = 16 * DW_DRIFT_TENSORS_MAX, JSON_DEPTH_MAX = 3 };

static void put_length(uint8_t out[DW_DRIFT_LENGTH_BYTES], uint64_t length) {
    for (size_t i = 0; i < DW_DRIFT_LENGTH_BYTES; i++) out[i] = (uint8_t)(length >> (8 * i));
}

/* The file's identity: SHA-256 of a header whose hash digits are zeros. */
static dw_status hash_header(uint8_t *header, uint64_t size, dw_hash *out, dw_error *err) {
    memset(header + DW_DRIFT_LENGTH_BYTES + DW_DRIFT_HEADER_BEGIN_BYTES, '0', DW_DRIFT_HASH_DIGITS);
    dw_status status = dw_hash_of(header, (size_t)size, out);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "header: cannot be hashed");
}

/* --- writing ----------------------------------------------------------------------------------------------------- */

static bool put_new(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

static bool put_hash_key(json_t *metadata, const char *section, const dw_hash *hash) {
    char key[80], text[DW_HASH_HEX_BYTES];
    (void)snprintf(key, sizeof key, "hash.%s", section);
    dw_hash_hex(hash, text);
    return put_new(metadata, key, json_string(text));
}

static bool put_section(json_t *root, const dw_checkpoint_section *section, uint64_t data_offset) {
    json_t *entry = json_object(), *shape = json_array(), *offsets = json_array();
    bool done = put_new(entry, "dtype", json_string(section->dtype));
    for (uint32_t i = 0; i < section->n_dims; i++)
        done = json_array_append_new(shape, json_integer((json_int_t)section->shape[i])) == 0 && done;
    uint64_t begin = section->offset - data_offset;
    done = json_array_append_new(offsets, json_integer((json_int_t)begin)) == 0 && done;
    done = json_array_append_new(offsets, json_integer((json_int_t)(begin + section->bytes))) == 0 && done;
    done = put_new(entry, "shape", shape) && done;
    done = put_new(entry, "data_offsets", offsets) && done;
    return put_new(root, section->name, entry) && done;
}

static dw_status build_header(const dw_checkpoint_state *state, const dw_drift_layout *layout, json_t **out,
                              dw_error *err) {
    json_t *root = json_object(), *metadata = json_object();
    /* First: DW_DRIFT_HEADER_BEGIN; digits become right last. */
    bool done = put_hash_key(metadata, "header", &(dw_hash){{0}});
    dw_status status = dw_drift_metadata_write(metadata, state, err);
    for (size_t i = 0; i < layout->n && done; i++)
        done = put_hash_key(metadata, layout->sections[i].name, &layout->sections[i].hash);
    done = put_new(root, "__metadata__", metadata) && done;
    for (size_t i = 0; i < layout->n && done; i++) done = put_section(root, &layout->sections[i], layout->data_offset);
    if (status == DW_OK && !done) status = dw_fail(err, DW_E_NO_MEMORY, "header: no memory for its sections");
    if (status == DW_OK) *out = root;
    else json_decref(root);
    return status;
}

dw_status dw_drift_header_write(const dw_checkpoint_state *state, const dw_drift_layout *layout, uint8_t **out,
                                uint64_t *out_size, dw_hash *identity, dw_error *err) {
    json_t *root = NULL;
    char *text = NULL;
    uint8_t *header = NULL;
    *out = NULL;
    dw_status status = build_header(state, layout, &root, err);
    if (status != DW_OK) goto out;
    text = json_dumps(root, JSON_COMPACT);
    if (!text) {
        status = dw_fail(err, DW_E_NO_MEMORY, "header: no memory for its text");
        goto out;
    }
    size_t text_size = strlen(text);
    uint64_t size;
    if (!dw_round_up_u64(DW_DRIFT_LENGTH_BYTES + text_size, DW_DRIFT_PAGE_BYTES, &size) ||
        size > DW_DRIFT_HEADER_BYTES_MAX) {
        status = dw_fail(err, DW_E_LIMIT, "header: %zu bytes, more than %" PRIu64, text_size,
                         DW_DRIFT_HEADER_BYTES_MAX);
        goto out;
    }
    if (strncmp(text, DW_DRIFT_HEADER_BEGIN, DW_DRIFT_HEADER_BEGIN_BYTES) != 0) {
        status = dw_fail(err, DW_E_INTERNAL, "header: the JSON library changed the order of keys");
        goto out;
    }
    header = malloc((size_t)size);
    if (!header) {
        status = dw_fail(err, DW_E_NO_MEMORY, "header: no memory for %" PRIu64 " bytes", size);
        goto out;
    }
    memset(header, ' ', (size_t)size);
    put_length(header, size - DW_DRIFT_LENGTH_BYTES);
    memcpy(header + DW_DRIFT_LENGTH_BYTES, text, text_size);
    status = hash_header(header, size, identity, err);
    if (status != DW_OK) goto out;
    dw_drift_format_hex(identity->bytes, DW_HASH_BYTES,
                        (char *)header + DW_DRIFT_LENGTH_BYTES + DW_DRIFT_HEADER_BEGIN_BYTES);
    *out = header;
    *out_size = size;
    header = NULL;
out:
    free(header);
    free(text);
    json_decref(root);
    return status;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

dw_status dw_drift_header_size(const uint8_t prefix[DW_DRIFT_LENGTH_BYTES], uint64_t file_bytes, uint64_t *out,
                               dw_error *err) {
    uint64_t length = 0, size;
    *out = 0;
    for (size_t i = 0; i < DW_DRIFT_LENGTH_BYTES; i++) length |= (uint64_t)prefix[i] << (8 * i);
    if (!dw_add_u64(length, DW_DRIFT_LENGTH_BYTES, &size) || size > DW_DRIFT_HEADER_BYTES_MAX)
        return dw_fail_at(err, DW_E_FORMAT, 0, "header: length %" PRIu64 " is not that of a .drift file", length);
    if (size % DW_DRIFT_PAGE_BYTES != 0)
        return dw_fail_at(err, DW_E_FORMAT, 0, "header: length %" PRIu64 " does not end on a page", length);
    if (size > file_bytes)
        return dw_fail_at(err, DW_E_TRUNCATED, file_bytes,
                          "header: file ends at %" PRIu64 ", inside the header of %" PRIu64 " bytes", file_bytes, size);
    *out = size;
    return DW_OK;
}

/* Bounds what the parser may build before it builds anything: a value costs it up to some hundred bytes, and two bytes
 * of text are enough for one. A text that is not JSON may be counted wrongly, never endlessly; the parser refuses
 * it. */
static dw_status check_json_budget(const char *text, size_t size, dw_error *err) {
    size_t depth = 0, values = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '\\') i++;
            else if (c == '"') in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            values++;
            depth++;
        } else if (c == ',' || c == ':') {
            values++;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
        if (depth > JSON_DEPTH_MAX || values > JSON_VALUES_MAX)
            return dw_fail_at(err, DW_E_FORMAT, DW_DRIFT_LENGTH_BYTES + i,
                              "header: nested too deeply or too many values");
    }
    return DW_OK;
}

/* The library tells of some failed allocations by saying nothing, and takes some inside a token for a syntax error:
 * those come out as DW_E_FORMAT. check_json_budget keeps what it asks for small. */
bool dw_drift_json_starved(const json_error_t *detail) {
    return json_error_code(detail) == json_error_out_of_memory || detail->text[0] == '\0';
}

static dw_status parse_header(const char *text, size_t size, json_t **out, dw_error *err) {
    dw_status status = check_json_budget(text, size, err);
    if (status != DW_OK) return status;
    json_error_t detail = {0};
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &detail);
    if (!root && dw_drift_json_starved(&detail)) return dw_fail(err, DW_E_NO_MEMORY, "header: no memory to parse it");
    if (!root) {
        char shown[DW_DRIFT_PRINTABLE_BYTES];
        uint64_t at = DW_DRIFT_LENGTH_BYTES + (detail.position > 0 ? (uint64_t)detail.position : 0);
        /* The library quotes the place, which is the file's text. */
        return dw_fail_at(err, DW_E_FORMAT, at, "header: not valid JSON at byte %" PRIu64 ": %s", at,
                          dw_drift_printable(detail.text, shown));
    }
    *out = root;
    return DW_OK;
}

dw_status dw_drift_header_read(uint8_t *header, uint64_t size, json_t **out, dw_hash *identity, dw_error *err) {
    const char *text = (const char *)header + DW_DRIFT_LENGTH_BYTES;
    size_t text_size = (size_t)size - DW_DRIFT_LENGTH_BYTES; /* at least a page */
    const char *digits = text + DW_DRIFT_HEADER_BEGIN_BYTES;
    *out = NULL;
    if (memcmp(text, DW_DRIFT_HEADER_BEGIN, DW_DRIFT_HEADER_BEGIN_BYTES) != 0)
        return dw_fail_at(err, DW_E_FORMAT, DW_DRIFT_LENGTH_BYTES, "header: does not begin as that of a .drift file");
    if (dw_drift_parse_hex(digits, DW_DRIFT_HASH_DIGITS, identity->bytes, DW_HASH_BYTES) != DW_OK)
        return dw_fail(err, DW_E_HASH, "header: hash.header is not 64 lower-case hexadecimal digits");
    dw_hash actual;
    dw_status status = hash_header(header, size, &actual, err);
    if (status != DW_OK) return status;
    if (!dw_hash_equal(&actual, identity))
        return dw_fail(err, DW_E_HASH, "header: its hash does not match, the file is damaged or was changed");
    while (text_size > 0 && text[text_size - 1] == ' ') text_size--;
    if (text_size == 0 || text[text_size - 1] != '}')
        return dw_fail(err, DW_E_FORMAT, "header: is not padded with spaces behind its last brace");
    return parse_header(text, text_size, out, err);
}

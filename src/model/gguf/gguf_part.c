/* gguf_part.c: reads one GGUF file. One pass validates the whole header and keeps, for every key and tensor, where it
 * lies.
 *
 *   header     magic "GGUF" | u32 version | u64 n_tensors | u64 n_keys
 *   key        string name | u32 type | value
 *   string     u64 length | bytes
 *   array      u32 element type | u64 count | elements
 *   tensor     string name | u32 n_dims | u64 shape[n_dims] | u32 ggml type | u64 offset in the data section
 *   data       begins at the next multiple of general.alignment (32 when not given); so does each tensor in it
 *
 * Names are looked up in sorted indices: a hash table would let a file choose its collisions.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "ggml.h"
#include "model/gguf/gguf_internal.h"
#include "os/os.h"

enum { VERSION_MIN = 2, VERSION_MAX = 3, ALIGNMENT_DEFAULT = 32, TYPE_COUNT = DW_GGUF_F64 + 1 };
/* The smallest key and tensor that a file can hold; counts are held against them before anything is allocated. */
static const uint64_t key_bytes_min = 8 + 1 + 4 + 1, tensor_bytes_min = 8 + 1 + 4 + 8 + 4 + 8;

/* --- names in messages ------------------------------------------------------------------------------------------ */

dw_gguf_shown dw_gguf_show(dw_gguf_string name) {
    dw_gguf_shown out;
    uint64_t n = dw_min_u64(name.size, sizeof out.text - 1);
    for (uint64_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)name.data[i];
        out.text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    out.text[n] = '\0';
    if (n < name.size) memcpy(out.text + n - 3, "...", 3);
    return out;
}

/* --- reading the header ----------------------------------------------------------------------------------------- */

static dw_status truncated(const dw_reader *reader, dw_error *err, const char *what) {
    return dw_fail_at(err, reader->status, reader->offset, "GGUF: the file ends inside %s, at byte %" PRIu64, what,
                      reader->offset);
}

/* Reads a name: not empty, no longer than `size_max`, without a NUL (names are looked up as C strings). */
static dw_status read_gguf_name(dw_reader *reader, uint64_t size_max, const char *what, dw_gguf_string *out,
                                dw_error *err) {
    uint64_t at = reader->offset;
    uint64_t size = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, what);
    if (size == 0 || size > size_max)
        return dw_fail_at(err, DW_E_FORMAT, at,
                          "GGUF: %s at byte %" PRIu64 " has a name of %" PRIu64 " bytes (1 to %" PRIu64 ")", what, at,
                          size, size_max);
    const uint8_t *bytes = dw_read_bytes(reader, size);
    if (!bytes) return truncated(reader, err, what);
    if (memchr(bytes, 0, (size_t)size))
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: the name of %s at byte %" PRIu64 " has a zero byte in it", what,
                          at);
    *out = (dw_gguf_string){(const char *)bytes, size};
    return DW_OK;
}

static dw_status read_strings(dw_reader *reader, dw_gguf_key *k, dw_error *err) {
    /* Each takes 8 bytes at least, so this also bounds the loop by the file's size. */
    if (k->count > dw_reader_left(reader) / 8)
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset,
                          "GGUF: key %s says %" PRIu64 " strings, the %" PRIu64 " bytes left cannot hold them",
                          dw_gguf_show(k->name).text, k->count, dw_reader_left(reader));
    for (uint64_t i = 0; i < k->count; i++) {
        uint64_t at = reader->offset;
        uint64_t size = dw_read_u64(reader);
        if (reader->status == DW_OK && size > DW_GGUF_STRING_BYTES_MAX)
            return dw_fail_at(err, DW_E_LIMIT, at,
                              "GGUF: string %" PRIu64 " of key %s, at byte %" PRIu64 ", is %" PRIu64
                              " bytes long (at most %" PRIu64 ")",
                              i, dw_gguf_show(k->name).text, at, size, DW_GGUF_STRING_BYTES_MAX);
        if (!dw_read_bytes(reader, size))
            return dw_fail_at(err, reader->status, at,
                              "GGUF: string %" PRIu64 " of key %s, at byte %" PRIu64
                              ", reaches past the end of the file",
                              i, dw_gguf_show(k->name).text, at);
    }
    return DW_OK;
}

static dw_status read_numbers(dw_reader *reader, const dw_gguf_key *k, dw_error *err) {
    uint64_t at = reader->offset, bytes;
    if (!dw_mul_u64(k->count, dw_gguf_type_bytes[k->element], &bytes) || !dw_read_bytes(reader, bytes))
        return dw_fail_at(err, DW_E_TRUNCATED, at,
                          "GGUF: %" PRIu64 " values of key %s, at byte %" PRIu64 ", reach past the end of the file",
                          k->count, dw_gguf_show(k->name).text, at);
    if (k->element != DW_GGUF_BOOL) return DW_OK;
    for (uint64_t i = 0; i < k->count; i++) {
        if (reader->data[at + i] > 1)
            return dw_fail_at(err, DW_E_FORMAT, at + i, "GGUF: key %s has a truth value that is %u, at byte %" PRIu64,
                              dw_gguf_show(k->name).text, (unsigned)reader->data[at + i], (at + i));
    }
    return DW_OK;
}

static dw_status read_type(dw_reader *reader, const dw_gguf_key *k, dw_gguf_type *out, dw_error *err) {
    uint64_t at = reader->offset;
    uint32_t type = dw_read_u32(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "a key");
    if (type >= TYPE_COUNT)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: key %s has the unknown type %u, at byte %" PRIu64,
                          dw_gguf_show(k->name).text, type, at);
    *out = (dw_gguf_type)type;
    return DW_OK;
}

static dw_status read_key(dw_reader *reader, dw_gguf_key *k, dw_error *err) {
    k->begin = reader->offset;
    dw_status status = read_gguf_name(reader, DW_GGUF_KEY_BYTES_MAX, "a key", &k->name, err);
    if (status == DW_OK) status = read_type(reader, k, &k->type, err);
    if (status != DW_OK) return status;
    k->element = k->type;
    k->count = 1;
    if (k->type == DW_GGUF_ARRAY) {
        uint64_t at = reader->offset;
        status = read_type(reader, k, &k->element, err);
        if (status != DW_OK) return status;
        if (k->element == DW_GGUF_ARRAY)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "GGUF: key %s is an array of arrays, at byte %" PRIu64,
                              dw_gguf_show(k->name).text, at);
        k->count = dw_read_u64(reader);
        if (reader->status != DW_OK) return truncated(reader, err, "an array");
    }
    uint64_t value_at = reader->offset;
    k->value = reader->data + value_at;
    status = k->element == DW_GGUF_STRING ? read_strings(reader, k, err) : read_numbers(reader, k, err);
    k->end = reader->offset;
    k->value_bytes = k->end - value_at;
    return status;
}

static dw_status read_shape(dw_reader *reader, dw_gguf_tensor *tensor, dw_error *err) {
    uint64_t at = reader->offset;
    tensor->n_dims = dw_read_u32(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "a tensor");
    if (tensor->n_dims < 1 || tensor->n_dims > 4)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s has %u dimensions (1 to 4), at byte %" PRIu64,
                          dw_gguf_show(tensor->name).text, tensor->n_dims, at);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->shape[i] = i < tensor->n_dims ? dw_read_u64(reader) : 1;
        if (reader->status != DW_OK) return truncated(reader, err, "a tensor");
        /* ggml counts elements in int64_t. */
        if (tensor->shape[i] == 0 || !dw_mul_u64(elements, tensor->shape[i], &elements) || elements > INT64_MAX)
            return dw_fail_at(err, DW_E_FORMAT, at,
                              "GGUF: tensor %s has an impossible dimension %u of %" PRIu64 ", at byte %" PRIu64,
                              dw_gguf_show(tensor->name).text, i, tensor->shape[i], at);
    }
    return DW_OK;
}

/* Block and type size tell the tensor's bytes; a type that ggml has dropped has a size of 0. */
static dw_status measure_tensor(dw_gguf_tensor *tensor, uint64_t at, dw_error *err) {
    uint64_t block = 0, block_bytes = 0;
    if (tensor->type < GGML_TYPE_COUNT) {
        block = (uint64_t)ggml_blck_size((enum ggml_type)tensor->type);
        block_bytes = ggml_type_size((enum ggml_type)tensor->type);
    }
    if (block == 0 || block_bytes == 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at,
                          "GGUF: tensor %s has type %u, which this build does not know, at byte %" PRIu64,
                          dw_gguf_show(tensor->name).text, tensor->type, at);
    if (tensor->shape[0] % block != 0)
        return dw_fail_at(err, DW_E_FORMAT, at,
                          "GGUF: tensor %s of type %s has rows of %" PRIu64 " elements, not a multiple of %" PRIu64,
                          dw_gguf_show(tensor->name).text, ggml_type_name((enum ggml_type)tensor->type),
                          tensor->shape[0], block);
    bool fits = dw_mul_u64(tensor->shape[0] / block, block_bytes, &tensor->bytes);
    for (int i = 1; i < 4; i++) fits = fits && dw_mul_u64(tensor->bytes, tensor->shape[i], &tensor->bytes);
    if (!fits)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s is larger than any memory",
                          dw_gguf_show(tensor->name).text);
    return DW_OK;
}

/* Leaves tensor->offset relative to the data section; place_tensors turns it into the file's. */
static dw_status read_tensor(dw_reader *reader, dw_gguf_tensor *tensor, dw_error *err) {
    dw_status status = read_gguf_name(reader, DW_GGUF_TENSOR_NAME_BYTES_MAX, "a tensor", &tensor->name, err);
    if (status == DW_OK) status = read_shape(reader, tensor, err);
    if (status != DW_OK) return status;
    uint64_t at = reader->offset;
    tensor->type = dw_read_u32(reader);
    tensor->offset = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "a tensor");
    return measure_tensor(tensor, at, err);
}

/* --- sorted indices --------------------------------------------------------------------------------------------- */

int dw_gguf_compare_names(dw_gguf_string a, dw_gguf_string b) {
    int order = memcmp(a.data, b.data, (size_t)dw_min_u64(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int by_name(const void *a, const void *b) {
    return dw_gguf_compare_names(((const dw_gguf_line *)a)->name, ((const dw_gguf_line *)b)->name);
}
static int by_offset(const void *a, const void *b) {
    uint64_t x = ((const dw_gguf_line *)a)->offset, y = ((const dw_gguf_line *)b)->offset;
    return (x > y) - (x < y);
}

void dw_gguf_index_names(dw_gguf_line *lines, uint64_t n, uint32_t *order, uint64_t *second) {
    qsort(lines, (size_t)n, sizeof *lines, by_name);
    *second = 0;
    for (uint64_t i = 0; i < n; i++) {
        order[i] = lines[i].index;
        if (*second == 0 && i > 0 && dw_gguf_compare_names(lines[i - 1].name, lines[i].name) == 0) *second = i;
    }
}

static uint64_t offset_in(const dw_gguf_file *part, dw_gguf_string name) {
    return (uint64_t)((const uint8_t *)name.data - part->data);
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* Checks a count against its limit and against what the rest of the file can hold; only then memory is asked for. */
static dw_status check_gguf_count(const dw_reader *reader, uint64_t n, uint64_t n_max, uint64_t bytes_min,
                                  const char *what, dw_error *err) {
    if (n > n_max)
        return dw_fail(err, DW_E_LIMIT, "GGUF: the file says %" PRIu64 " %s, at most %" PRIu64 " are taken", n, what,
                       n_max);
    if (n > dw_reader_left(reader) / bytes_min)
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset,
                          "GGUF: the file says %" PRIu64 " %s, its %" PRIu64 " bytes cannot hold them", n, what,
                          reader->size);
    return DW_OK;
}

static dw_status read_header(dw_gguf_file *part, dw_reader *reader, dw_error *err) {
    const uint8_t *magic = dw_read_bytes(reader, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return dw_fail_at(err, DW_E_FORMAT, 0, "not a GGUF file: it does not begin with GGUF");
    uint32_t version = dw_read_u32(reader);
    part->n_tensors = dw_read_u64(reader);
    part->n_keys = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "its header");
    if (version > VERSION_MAX && (version & 0xffff) == 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, 4, "GGUF: the file is big-endian; convert it to little-endian");
    if (version > VERSION_MAX)
        return dw_fail_at(err, DW_E_VERSION, 4, "GGUF: version %u; this build reads up to %d", version, VERSION_MAX);
    if (version < VERSION_MIN)
        return dw_fail_at(err, DW_E_UNSUPPORTED, 4, "GGUF: version %u is too old; convert the model again", version);
    dw_status status = check_gguf_count(reader, part->n_keys, DW_GGUF_KEYS_MAX, key_bytes_min, "keys", err);
    if (status == DW_OK)
        status = check_gguf_count(reader, part->n_tensors, DW_GGUF_TENSORS_MAX, tensor_bytes_min, "tensors", err);
    return status;
}

static dw_status read_keys(dw_gguf_file *part, dw_reader *reader, dw_error *err) {
    dw_status status = DW_OK;
    size_t n = (size_t)part->n_keys;
    dw_gguf_line *lines = calloc(n + 1, sizeof *lines);
    part->keys = calloc(n + 1, sizeof *part->keys);
    part->keys_by_name = calloc(n + 1, sizeof *part->keys_by_name);
    if (!lines || !part->keys || !part->keys_by_name) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %zu keys", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = read_key(reader, &part->keys[i], err);
        if (status != DW_OK) goto out;
        lines[i] = (dw_gguf_line){part->keys[i].name, offset_in(part, part->keys[i].name), (uint32_t)i};
    }
    uint64_t second = 0;
    dw_gguf_index_names(lines, n, part->keys_by_name, &second);
    if (second > 0)
        status = dw_fail_at(err, DW_E_FORMAT, dw_max_u64(lines[second - 1].offset, lines[second].offset),
                            "GGUF: there are two keys named %s", dw_gguf_show(lines[second].name).text);
out:
    free(lines);
    return status;
}

static dw_status read_alignment(dw_gguf_file *part, dw_error *err) {
    part->alignment = ALIGNMENT_DEFAULT;
    const dw_gguf_key *k = dw_gguf_find_key(part, "general.alignment");
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_U32)
        return dw_fail_at(err, DW_E_FORMAT, k->begin, "GGUF: general.alignment is not a 32-bit unsigned integer");
    dw_reader reader;
    dw_reader_init(&reader, k->value, k->value_bytes);
    uint64_t alignment = dw_read_u32(&reader);
    if (alignment < DW_GGUF_ALIGNMENT_MIN || alignment > DW_GGUF_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return dw_fail_at(err, DW_E_FORMAT, k->begin,
                          "GGUF: general.alignment is %" PRIu64 ", not a power of two from %u to %u", alignment,
                          DW_GGUF_ALIGNMENT_MIN, DW_GGUF_ALIGNMENT_MAX);
    part->alignment = alignment;
    return DW_OK;
}

/* Makes offsets absolute; each must be aligned and inside the file. `lines` gets name and place of every tensor. */
static dw_status place_tensors(dw_gguf_file *part, uint64_t header_end, dw_gguf_line *lines, dw_error *err) {
    uint64_t data_begin;
    if (!dw_round_up_u64(header_end, part->alignment, &data_begin))
        return dw_fail(err, DW_E_FORMAT, "GGUF: the header has no end");
    for (uint64_t i = 0; i < part->n_tensors; i++) {
        dw_gguf_tensor *tensor = &part->tensors[i];
        uint64_t at;
        if (tensor->offset % part->alignment != 0)
            return dw_fail_at(err, DW_E_FORMAT, offset_in(part, tensor->name),
                              "GGUF: tensor %s begins at %" PRIu64 ", not a multiple of %" PRIu64,
                              dw_gguf_show(tensor->name).text, tensor->offset, part->alignment);
        if (!dw_add_u64(data_begin, tensor->offset, &at) || !dw_in_range(at, tensor->bytes, part->size))
            return dw_fail_at(err, DW_E_TRUNCATED, offset_in(part, tensor->name),
                              "GGUF: tensor %s (%" PRIu64 " bytes at %" PRIu64
                              ") reaches past the end of the file (%" PRIu64 " bytes)",
                              dw_gguf_show(tensor->name).text, tensor->bytes, tensor->offset, part->size);
        tensor->offset = at;
        lines[i] = (dw_gguf_line){tensor->name, at, (uint32_t)i};
    }
    return DW_OK;
}

static dw_status refuse_overlaps(const dw_gguf_file *part, dw_gguf_line *lines, dw_error *err) {
    qsort(lines, (size_t)part->n_tensors, sizeof *lines, by_offset);
    for (uint64_t i = 1; i < part->n_tensors; i++) {
        const dw_gguf_tensor *before = &part->tensors[lines[i - 1].index], *tensor = &part->tensors[lines[i].index];
        if (tensor->offset - before->offset < before->bytes)
            return dw_fail_at(err, DW_E_FORMAT, tensor->offset, "GGUF: tensors %s and %s overlap, at byte %" PRIu64,
                              dw_gguf_show(before->name).text, dw_gguf_show(tensor->name).text, tensor->offset);
    }
    return DW_OK;
}

static dw_status read_tensors(dw_gguf_file *part, dw_reader *reader, dw_error *err) {
    /* Again, now that the keys have taken their room. */
    dw_status status = check_gguf_count(reader, part->n_tensors, DW_GGUF_TENSORS_MAX, tensor_bytes_min, "tensors", err);
    if (status != DW_OK) return status;
    size_t n = (size_t)part->n_tensors;
    dw_gguf_line *lines = calloc(n + 1, sizeof *lines);
    part->tensors = calloc(n + 1, sizeof *part->tensors);
    if (!lines || !part->tensors) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %zu tensors", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = read_tensor(reader, &part->tensors[i], err);
        if (status != DW_OK) goto out;
    }
    status = place_tensors(part, reader->offset, lines, err);
    if (status == DW_OK) status = refuse_overlaps(part, lines, err);
out:
    free(lines);
    return status;
}

dw_status dw_gguf_part_parse(dw_gguf_file *part, dw_error *err) {
    dw_reader reader;
    dw_reader_init(&reader, part->data, part->size);
    dw_status status = read_header(part, &reader, err);
    if (status == DW_OK) status = read_keys(part, &reader, err);
    if (status == DW_OK) status = read_alignment(part, err);
    if (status == DW_OK) status = read_tensors(part, &reader, err);
    return status;
}

void dw_gguf_part_deinit(dw_gguf_file *part) {
    if (part->mapped) dw_os_unmap((void *)(uintptr_t)part->data, (size_t)part->mapped);
    free(part->keys);
    free(part->keys_by_name);
    free(part->tensors);
    free(part->path);
    *part = (dw_gguf_file){0};
}

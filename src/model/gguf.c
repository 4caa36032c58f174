/* gguf.c: the GGUF reader. One pass validates the whole header and keeps, for every key and tensor, where it lies; values are read
 * from the map when asked for.
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
#include "model/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "ggml.h"
#include "os/os.h"

enum {
    VERSION_MIN = 2,
    VERSION_MAX = 3,
    ALIGNMENT_DEFAULT = 32,
    TYPE_COUNT = DW_GGUF_F64 + 1,
    NAME_SHOWN_BYTES = 64
};
/* The smallest key and tensor that a file can hold; counts are held against them before anything is allocated. */
static const uint64_t key_bytes_min = 8 + 1 + 4 + 1, tensor_bytes_min = 8 + 1 + 4 + 8 + 4 + 8;

static const uint8_t type_bytes[TYPE_COUNT] = {
    [DW_GGUF_U8] = 1,  [DW_GGUF_I8] = 1,   [DW_GGUF_U16] = 2, [DW_GGUF_I16] = 2, [DW_GGUF_U32] = 4, [DW_GGUF_I32] = 4,
    [DW_GGUF_F32] = 4, [DW_GGUF_BOOL] = 1, [DW_GGUF_U64] = 8, [DW_GGUF_I64] = 8, [DW_GGUF_F64] = 8,
};

typedef struct key {
    dw_gguf_string name;
    dw_gguf_type type;
    dw_gguf_type element;  /* of an array; else = type */
    uint64_t count;        /* of an array; else 1 */
    const uint8_t *value;  /* first element */
    uint64_t value_bytes;
    uint64_t begin, end;   /* the whole record in the file */
} key;

struct dw_gguf {
    const uint8_t *data;
    uint64_t size, mapped;  /* mapped 0: the bytes are the caller's */
    char *path;
    key *keys;
    dw_gguf_tensor *tensors;
    uint32_t *keys_by_name, *tensors_by_name;
    uint64_t n_keys, n_tensors;
    uint64_t alignment;
};

/* --- names in messages ------------------------------------------------------------------------------------------ */

typedef struct shown { char text[NAME_SHOWN_BYTES]; } shown;

/* A name from the file, made fit for a message: bounded, printable. */
static shown show(dw_gguf_string name) {
    shown out;
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
static dw_status read_name(dw_reader *reader, uint64_t size_max, const char *what, dw_gguf_string *out, dw_error *err) {
    uint64_t at = reader->offset;
    uint64_t size = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, what);
    if (size == 0 || size > size_max)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: %s at byte %" PRIu64 " has a name of %" PRIu64 " bytes (1 to %" PRIu64 ")", what,
                          at, size, size_max);
    const uint8_t *bytes = dw_read_bytes(reader, size);
    if (!bytes) return truncated(reader, err, what);
    if (memchr(bytes, 0, (size_t)size))
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: the name of %s at byte %" PRIu64 " has a zero byte in it", what, at);
    *out = (dw_gguf_string){(const char *)bytes, size};
    return DW_OK;
}

static dw_status read_strings(dw_reader *reader, key *k, dw_error *err) {
    /* Each takes 8 bytes at least, so this also bounds the loop by the file's size. */
    if (k->count > dw_reader_left(reader) / 8)
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset, "GGUF: key %s says %" PRIu64 " strings, the %" PRIu64 " bytes left cannot hold them",
                          show(k->name).text, k->count, dw_reader_left(reader));
    for (uint64_t i = 0; i < k->count; i++) {
        uint64_t at = reader->offset;
        uint64_t size = dw_read_u64(reader);
        if (reader->status == DW_OK && size > DW_GGUF_STRING_BYTES_MAX)
            return dw_fail_at(err, DW_E_LIMIT, at, "GGUF: string %" PRIu64 " of key %s, at byte %" PRIu64 ", is %" PRIu64 " bytes long (at most %" PRIu64 ")",
                              i, show(k->name).text, at, size,
                              DW_GGUF_STRING_BYTES_MAX);
        if (!dw_read_bytes(reader, size))
            return dw_fail_at(err, reader->status, at, "GGUF: string %" PRIu64 " of key %s, at byte %" PRIu64 ", reaches past the end of the file",
                              i, show(k->name).text, at);
    }
    return DW_OK;
}

static dw_status read_numbers(dw_reader *reader, const key *k, dw_error *err) {
    uint64_t at = reader->offset, bytes;
    if (!dw_mul_u64(k->count, type_bytes[k->element], &bytes) || !dw_read_bytes(reader, bytes))
        return dw_fail_at(err, DW_E_TRUNCATED, at, "GGUF: %" PRIu64 " values of key %s, at byte %" PRIu64 ", reach past the end of the file",
                          k->count, show(k->name).text, at);
    if (k->element != DW_GGUF_BOOL) return DW_OK;
    for (uint64_t i = 0; i < k->count; i++) {
        if (reader->data[at + i] > 1)
            return dw_fail_at(err, DW_E_FORMAT, at + i, "GGUF: key %s has a truth value that is %u, at byte %" PRIu64, show(k->name).text,
                              (unsigned)reader->data[at + i], (at + i));
    }
    return DW_OK;
}

static dw_status read_type(dw_reader *reader, const key *k, dw_gguf_type *out, dw_error *err) {
    uint64_t at = reader->offset;
    uint32_t type = dw_read_u32(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "a key");
    if (type >= TYPE_COUNT)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: key %s has the unknown type %u, at byte %" PRIu64, show(k->name).text, type,
                          at);
    *out = (dw_gguf_type)type;
    return DW_OK;
}

static dw_status read_key(dw_reader *reader, key *k, dw_error *err) {
    k->begin = reader->offset;
    dw_status status = read_name(reader, DW_GGUF_KEY_BYTES_MAX, "a key", &k->name, err);
    if (status == DW_OK) status = read_type(reader, k, &k->type, err);
    if (status != DW_OK) return status;
    k->element = k->type;
    k->count = 1;
    if (k->type == DW_GGUF_ARRAY) {
        uint64_t at = reader->offset;
        status = read_type(reader, k, &k->element, err);
        if (status != DW_OK) return status;
        if (k->element == DW_GGUF_ARRAY)
            return dw_fail_at(err, DW_E_UNSUPPORTED, at, "GGUF: key %s is an array of arrays, at byte %" PRIu64, show(k->name).text,
                              at);
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
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s has %u dimensions (1 to 4), at byte %" PRIu64, show(tensor->name).text,
                          tensor->n_dims, at);
    uint64_t elements = 1;
    for (uint32_t i = 0; i < 4; i++) {
        tensor->shape[i] = i < tensor->n_dims ? dw_read_u64(reader) : 1;
        if (reader->status != DW_OK) return truncated(reader, err, "a tensor");
        /* ggml counts elements in int64_t. */
        if (tensor->shape[i] == 0 || !dw_mul_u64(elements, tensor->shape[i], &elements) || elements > INT64_MAX)
            return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s has an impossible dimension %u of %" PRIu64 ", at byte %" PRIu64,
                              show(tensor->name).text, i, tensor->shape[i], at);
    }
    return DW_OK;
}

/* Block and type size tell the tensor's bytes; a type that ggml has dropped has a size of 0. */
static dw_status measure(dw_gguf_tensor *tensor, uint64_t at, dw_error *err) {
    uint64_t block = 0, block_bytes = 0;
    if (tensor->type < GGML_TYPE_COUNT) {
        block = (uint64_t)ggml_blck_size((enum ggml_type)tensor->type);
        block_bytes = ggml_type_size((enum ggml_type)tensor->type);
    }
    if (block == 0 || block_bytes == 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, at, "GGUF: tensor %s has type %u, which this build does not know, at byte %" PRIu64,
                          show(tensor->name).text, tensor->type, at);
    if (tensor->shape[0] % block != 0)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s of type %s has rows of %" PRIu64 " elements, not a multiple of %" PRIu64,
                          show(tensor->name).text, ggml_type_name((enum ggml_type)tensor->type), tensor->shape[0],
                          block);
    bool fits = dw_mul_u64(tensor->shape[0] / block, block_bytes, &tensor->bytes);
    for (int i = 1; i < 4; i++) fits = fits && dw_mul_u64(tensor->bytes, tensor->shape[i], &tensor->bytes);
    if (!fits)
        return dw_fail_at(err, DW_E_FORMAT, at, "GGUF: tensor %s is larger than any memory", show(tensor->name).text);
    return DW_OK;
}

/* Leaves tensor->offset relative to the data section; place_tensors turns it into the file's. */
static dw_status read_tensor(dw_reader *reader, dw_gguf_tensor *tensor, dw_error *err) {
    dw_status status = read_name(reader, DW_GGUF_TENSOR_NAME_BYTES_MAX, "a tensor", &tensor->name, err);
    if (status == DW_OK) status = read_shape(reader, tensor, err);
    if (status != DW_OK) return status;
    uint64_t at = reader->offset;
    tensor->type = dw_read_u32(reader);
    tensor->offset = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "a tensor");
    return measure(tensor, at, err);
}

/* --- sorted indices --------------------------------------------------------------------------------------------- */

static int compare_names(dw_gguf_string a, dw_gguf_string b) {
    int order = memcmp(a.data, b.data, (size_t)dw_min_u64(a.size, b.size));
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

/* One line of a table that is sorted by name or by offset: qsort has no context argument. */
typedef struct line { dw_gguf_string name; uint64_t offset; uint32_t index; } line;

static int by_name(const void *a, const void *b) { return compare_names(((const line *)a)->name, ((const line *)b)->name); }
static int by_offset(const void *a, const void *b) {
    uint64_t x = ((const line *)a)->offset, y = ((const line *)b)->offset;
    return (x > y) - (x < y);
}

/* Sorts `lines`, refuses two equal names, and gives the order. */
static dw_status index_names(line *lines, uint64_t n, const char *what, uint32_t *order, dw_error *err) {
    qsort(lines, (size_t)n, sizeof *lines, by_name);
    for (uint64_t i = 0; i < n; i++) {
        order[i] = lines[i].index;
        if (i > 0 && compare_names(lines[i - 1].name, lines[i].name) == 0)
            return dw_fail_at(err, DW_E_FORMAT, dw_max_u64(lines[i - 1].offset, lines[i].offset), "GGUF: there are two %s named %s", what,
                              show(lines[i].name).text);
    }
    return DW_OK;
}

static uint64_t offset_in(const dw_gguf *gguf, dw_gguf_string name) { return (uint64_t)((const uint8_t *)name.data - gguf->data); }

static const key *find_key(const dw_gguf *gguf, const char *name) {
    dw_gguf_string wanted = {name, strlen(name)};
    uint64_t low = 0, high = gguf->n_keys;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const key *k = &gguf->keys[gguf->keys_by_name[middle]];
        int order = compare_names(wanted, k->name);
        if (order == 0) return k;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

const dw_gguf_tensor *dw_gguf_find_tensor(const dw_gguf *gguf, const char *name) {
    dw_gguf_string wanted = {name, strlen(name)};
    uint64_t low = 0, high = gguf->n_tensors;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const dw_gguf_tensor *tensor = &gguf->tensors[gguf->tensors_by_name[middle]];
        int order = compare_names(wanted, tensor->name);
        if (order == 0) return tensor;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

/* Checks a count against its limit and against what the rest of the file can hold; only then memory is asked for. */
static dw_status check_count(const dw_reader *reader, uint64_t n, uint64_t n_max, uint64_t bytes_min, const char *what, dw_error *err) {
    if (n > n_max)
        return dw_fail(err, DW_E_LIMIT, "GGUF: the file says %" PRIu64 " %s, at most %" PRIu64 " are taken", n, what,
                       n_max);
    if (n > dw_reader_left(reader) / bytes_min)
        return dw_fail_at(err, DW_E_TRUNCATED, reader->offset, "GGUF: the file says %" PRIu64 " %s, its %" PRIu64 " bytes cannot hold them",
                          n, what, reader->size);
    return DW_OK;
}

static dw_status read_header(dw_gguf *gguf, dw_reader *reader, dw_error *err) {
    const uint8_t *magic = dw_read_bytes(reader, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) return dw_fail_at(err, DW_E_FORMAT, 0, "not a GGUF file: it does not begin with GGUF");
    uint32_t version = dw_read_u32(reader);
    gguf->n_tensors = dw_read_u64(reader);
    gguf->n_keys = dw_read_u64(reader);
    if (reader->status != DW_OK) return truncated(reader, err, "its header");
    if (version > VERSION_MAX && (version & 0xffff) == 0)
        return dw_fail_at(err, DW_E_UNSUPPORTED, 4, "GGUF: the file is big-endian; convert it to little-endian");
    if (version > VERSION_MAX)
        return dw_fail_at(err, DW_E_VERSION, 4, "GGUF: version %u; this build reads up to %d", version, VERSION_MAX);
    if (version < VERSION_MIN) return dw_fail_at(err, DW_E_UNSUPPORTED, 4, "GGUF: version %u is too old; convert the model again", version);
    dw_status status = check_count(reader, gguf->n_keys, DW_GGUF_KEYS_MAX, key_bytes_min, "keys", err);
    if (status == DW_OK) status = check_count(reader, gguf->n_tensors, DW_GGUF_TENSORS_MAX, tensor_bytes_min, "tensors", err);
    return status;
}

static dw_status read_keys(dw_gguf *gguf, dw_reader *reader, dw_error *err) {
    dw_status status = DW_OK;
    size_t n = (size_t)gguf->n_keys;
    line *lines = calloc(n + 1, sizeof *lines);
    gguf->keys = calloc(n + 1, sizeof *gguf->keys);
    gguf->keys_by_name = calloc(n + 1, sizeof *gguf->keys_by_name);
    if (!lines || !gguf->keys || !gguf->keys_by_name) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %zu keys", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = read_key(reader, &gguf->keys[i], err);
        if (status != DW_OK) goto out;
        lines[i] = (line){gguf->keys[i].name, offset_in(gguf, gguf->keys[i].name), (uint32_t)i};
    }
    status = index_names(lines, n, "keys", gguf->keys_by_name, err);
out:
    free(lines);
    return status;
}

static dw_status read_alignment(dw_gguf *gguf, dw_error *err) {
    gguf->alignment = ALIGNMENT_DEFAULT;
    const key *k = find_key(gguf, "general.alignment");
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_U32)
        return dw_fail_at(err, DW_E_FORMAT, k->begin, "GGUF: general.alignment is not a 32-bit unsigned integer");
    dw_reader reader;
    dw_reader_init(&reader, k->value, k->value_bytes);
    uint64_t alignment = dw_read_u32(&reader);
    if (alignment < DW_GGUF_ALIGNMENT_MIN || alignment > DW_GGUF_ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return dw_fail_at(err, DW_E_FORMAT, k->begin, "GGUF: general.alignment is %" PRIu64 ", not a power of two from %u to %u",
                          alignment, DW_GGUF_ALIGNMENT_MIN, DW_GGUF_ALIGNMENT_MAX);
    gguf->alignment = alignment;
    return DW_OK;
}

/* Makes offsets absolute; each must be aligned and inside the file. `lines` gets name and place of every tensor. */
static dw_status place_tensors(dw_gguf *gguf, uint64_t header_end, line *lines, dw_error *err) {
    uint64_t data_begin;
    if (!dw_round_up_u64(header_end, gguf->alignment, &data_begin)) return dw_fail(err, DW_E_FORMAT, "GGUF: the header has no end");
    for (uint64_t i = 0; i < gguf->n_tensors; i++) {
        dw_gguf_tensor *tensor = &gguf->tensors[i];
        uint64_t at;
        if (tensor->offset % gguf->alignment != 0)
            return dw_fail_at(err, DW_E_FORMAT, offset_in(gguf, tensor->name), "GGUF: tensor %s begins at %" PRIu64 ", not a multiple of %" PRIu64,
                              show(tensor->name).text, tensor->offset, gguf->alignment);
        if (!dw_add_u64(data_begin, tensor->offset, &at) || !dw_in_range(at, tensor->bytes, gguf->size))
            return dw_fail_at(err, DW_E_TRUNCATED, offset_in(gguf, tensor->name),
                              "GGUF: tensor %s (%" PRIu64 " bytes at %" PRIu64 ") reaches past the end of the file (%" PRIu64 " bytes)",
                              show(tensor->name).text, tensor->bytes, tensor->offset,
                              gguf->size);
        tensor->offset = at;
        lines[i] = (line){tensor->name, at, (uint32_t)i};
    }
    return DW_OK;
}

static dw_status refuse_overlaps(const dw_gguf *gguf, line *lines, dw_error *err) {
    qsort(lines, (size_t)gguf->n_tensors, sizeof *lines, by_offset);
    for (uint64_t i = 1; i < gguf->n_tensors; i++) {
        const dw_gguf_tensor *before = &gguf->tensors[lines[i - 1].index], *tensor = &gguf->tensors[lines[i].index];
        if (tensor->offset - before->offset < before->bytes)
            return dw_fail_at(err, DW_E_FORMAT, tensor->offset, "GGUF: tensors %s and %s overlap, at byte %" PRIu64, show(before->name).text,
                              show(tensor->name).text, tensor->offset);
    }
    return DW_OK;
}

static dw_status read_tensors(dw_gguf *gguf, dw_reader *reader, dw_error *err) {
    dw_status status = DW_OK;
    size_t n = (size_t)gguf->n_tensors;
    line *lines = calloc(n + 1, sizeof *lines);
    gguf->tensors = calloc(n + 1, sizeof *gguf->tensors);
    gguf->tensors_by_name = calloc(n + 1, sizeof *gguf->tensors_by_name);
    if (!lines || !gguf->tensors || !gguf->tensors_by_name) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %zu tensors", n);
        goto out;
    }
    for (size_t i = 0; i < n; i++) {
        status = read_tensor(reader, &gguf->tensors[i], err);
        if (status != DW_OK) goto out;
    }
    status = place_tensors(gguf, reader->offset, lines, err);
    if (status == DW_OK) status = refuse_overlaps(gguf, lines, err);
    if (status == DW_OK) status = index_names(lines, n, "tensors", gguf->tensors_by_name, err);
out:
    free(lines);
    return status;
}

/* Takes the bytes over (mapped or borrowed) and validates them. On failure they stay the caller's. */
static dw_status parse(dw_gguf *gguf, dw_error *err) {
    dw_reader reader;
    dw_reader_init(&reader, gguf->data, gguf->size);
    dw_status status = read_header(gguf, &reader, err);
    if (status == DW_OK) status = read_keys(gguf, &reader, err);
    if (status == DW_OK) status = read_alignment(gguf, err);
    if (status == DW_OK) status = read_tensors(gguf, &reader, err);
    return status;
}

dw_status dw_gguf_open_bytes(const void *data, uint64_t size, dw_gguf **out, dw_error *err) {
    *out = NULL;
    dw_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf) return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory");
    gguf->data = data;
    gguf->size = data ? size : 0;
    dw_status status = parse(gguf, err);
    if (status == DW_OK) *out = gguf;
    else dw_gguf_close(gguf);
    return status;
}

static dw_status map_whole(dw_gguf *gguf, const char *path, dw_error *err) {
    dw_os_file file = DW_OS_FILE_NONE;
    void *base = NULL;
    uint64_t size = 0, mapped = 0;
    dw_status status = dw_os_open(path, DW_OS_READ, &file, err);
    if (status == DW_OK) status = dw_os_size(file, &size, err);
    if (status != DW_OK) goto out;
    if (size == 0 || !dw_round_up_u64(size, dw_os_page_bytes(), &mapped) || mapped > SIZE_MAX) {
        status = dw_fail(err, DW_E_FORMAT, "%s: not a GGUF file: %" PRIu64 " bytes", path, size);
        goto out;
    }
    status = dw_os_map_file(NULL, (size_t)mapped, file, 0, DW_OS_RO, true, &base, err);
    if (status != DW_OK) goto out;
    gguf->data = base;
    gguf->size = size;
    gguf->mapped = mapped;
out:
    dw_os_close(&file);
    return status;
}

dw_status dw_gguf_open(const char *path, dw_gguf **out, dw_error *err) {
    *out = NULL;
    dw_status status = DW_OK;
    dw_gguf *gguf = calloc(1, sizeof *gguf);
    if (!gguf || !(gguf->path = malloc(strlen(path) + 1))) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory");
        goto out;
    }
    memcpy(gguf->path, path, strlen(path) + 1);
    status = map_whole(gguf, path, err);
    if (status != DW_OK) goto out; /* names the file already */
    status = parse(gguf, err);
    if (status != DW_OK) status = dw_error_prefix(err, status, "%s", path);
out:
    if (status == DW_OK) *out = gguf;
    else dw_gguf_close(gguf);
    return status;
}

void dw_gguf_close(dw_gguf *gguf) {
    if (!gguf) return;
    if (gguf->mapped) dw_os_unmap((void *)(uintptr_t)gguf->data, (size_t)gguf->mapped);
    free(gguf->keys);
    free(gguf->keys_by_name);
    free(gguf->tensors);
    free(gguf->tensors_by_name);
    free(gguf->path);
    free(gguf);
}

/* --- what is in it ---------------------------------------------------------------------------------------------- */

const void *dw_gguf_data(const dw_gguf *gguf, uint64_t *file_bytes) {
    if (file_bytes) *file_bytes = gguf->size;
    return gguf->data;
}

uint64_t dw_gguf_mapped_bytes(const dw_gguf *gguf) { return gguf->mapped ? gguf->mapped : gguf->size; }
const char *dw_gguf_path(const dw_gguf *gguf) { return gguf->path ? gguf->path : ""; }
uint64_t dw_gguf_n_tensors(const dw_gguf *gguf) { return gguf->n_tensors; }

const dw_gguf_tensor *dw_gguf_tensor_at(const dw_gguf *gguf, uint64_t index) {
    return index < gguf->n_tensors ? &gguf->tensors[index] : NULL;
}

uint64_t dw_gguf_n_keys(const dw_gguf *gguf) { return gguf->n_keys; }

dw_gguf_string dw_gguf_key_at(const dw_gguf *gguf, uint64_t index, dw_gguf_type *type, dw_gguf_type *element_type, uint64_t *count) {
    const key *k = &gguf->keys[index];
    if (type) *type = k->type;
    if (element_type) *element_type = k->element;
    if (count) *count = k->count;
    return k->name;
}

static uint64_t load_little_endian(const uint8_t *at, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)at[i] << (8 * i);
    return value;
}

/* Element `index` as an integer; false when it is not one, or negative. */
static bool as_u64(const key *k, uint64_t index, uint64_t *out) {
    unsigned bytes = type_bytes[k->element];
    uint64_t value = load_little_endian(k->value + index * bytes, bytes);
    switch (k->element) {
    case DW_GGUF_U8: case DW_GGUF_U16: case DW_GGUF_U32: case DW_GGUF_U64:
        break;
    case DW_GGUF_I8: case DW_GGUF_I16: case DW_GGUF_I32: case DW_GGUF_I64:
        if (value >> (8 * bytes - 1)) return false;
        break;
    default:
        return false;
    }
    *out = value;
    return true;
}

/* The number at an address; false when the type is none. Negative integers are numbers too. */
static bool number_at(const uint8_t *at, dw_gguf_type type, double *out) {
    uint64_t value = load_little_endian(at, type_bytes[type]);
    uint32_t low = (uint32_t)value;
    float single;
    switch (type) {
    case DW_GGUF_F32:
        memcpy(&single, &low, sizeof single);
        *out = (double)single;
        return true;
    case DW_GGUF_F64:
        memcpy(out, &value, sizeof *out);
        return true;
    case DW_GGUF_I8: *out = (double)(int8_t)value; return true;
    case DW_GGUF_I16: *out = (double)(int16_t)value; return true;
    case DW_GGUF_I32: *out = (double)(int32_t)value; return true;
    case DW_GGUF_I64: *out = (double)(int64_t)value; return true;
    case DW_GGUF_U8: case DW_GGUF_U16: case DW_GGUF_U32: case DW_GGUF_U64: *out = (double)value; return true;
    default:
        return false;
    }
}

static bool as_f64(const key *k, uint64_t index, double *out) {
    return number_at(k->value + index * type_bytes[k->element], k->element, out);
}

static dw_status wrong_kind(const key *k, const char *wanted, dw_error *err) {
    return dw_fail_at(err, DW_E_FORMAT, k->begin, "GGUF: key %s is not %s", show(k->name).text, wanted);
}

dw_status dw_gguf_u64(const dw_gguf *gguf, const char *name, uint64_t *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    return k->type != DW_GGUF_ARRAY && as_u64(k, 0, out) ? DW_OK : wrong_kind(k, "a whole number", err);
}

dw_status dw_gguf_f64(const dw_gguf *gguf, const char *name, double *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    return k->type != DW_GGUF_ARRAY && as_f64(k, 0, out) && isfinite(*out) ? DW_OK : wrong_kind(k, "a finite number", err);
}

dw_status dw_gguf_bool(const dw_gguf *gguf, const char *name, bool *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_BOOL) return wrong_kind(k, "a truth value", err);
    *out = k->value[0] != 0;
    return DW_OK;
}

dw_status dw_gguf_get_string(const dw_gguf *gguf, const char *name, dw_gguf_string *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_STRING) return wrong_kind(k, "a string", err);
    *out = (dw_gguf_string){(const char *)k->value + 8, k->value_bytes - 8};
    return DW_OK;
}

dw_status dw_gguf_array(const dw_gguf *gguf, const char *name, dw_gguf_type *type, uint64_t *count, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_ARRAY) return wrong_kind(k, "an array", err);
    *type = k->element;
    *count = k->count;
    return DW_OK;
}

static dw_status find_element(const dw_gguf *gguf, const char *name, uint64_t index, const key **out, dw_error *err) {
    const key *k = find_key(gguf, name);
    if (!k) return dw_fail(err, DW_E_NOT_FOUND, "GGUF: there is no key %.64s", name);
    if (k->type != DW_GGUF_ARRAY) return wrong_kind(k, "an array", err);
    if (index >= k->count)
        return dw_fail(err, DW_E_RANGE, "GGUF: key %s has %" PRIu64 " elements, not %" PRIu64, show(k->name).text, k->count,
                       index);
    *out = k;
    return DW_OK;
}

dw_status dw_gguf_array_u64(const dw_gguf *gguf, const char *name, uint64_t index, uint64_t *out, dw_error *err) {
    const key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    return as_u64(k, index, out) ? DW_OK : wrong_kind(k, "an array of whole numbers", err);
}

dw_status dw_gguf_array_f64(const dw_gguf *gguf, const char *name, uint64_t index, double *out, dw_error *err) {
    const key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    return as_f64(k, index, out) ? DW_OK : wrong_kind(k, "an array of numbers", err);
}

dw_status dw_gguf_array_bool(const dw_gguf *gguf, const char *name, uint64_t index, bool *out, dw_error *err) {
    const key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    if (k->element != DW_GGUF_BOOL) return wrong_kind(k, "an array of truth values", err);
    *out = k->value[index] != 0;
    return DW_OK;
}

dw_status dw_gguf_array_strings(const dw_gguf *gguf, const char *name, dw_gguf_strings *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_ARRAY || k->element != DW_GGUF_STRING) return wrong_kind(k, "an array of strings", err);
    *out = (dw_gguf_strings){k->value, k->count};
    return DW_OK;
}

bool dw_gguf_next_string(dw_gguf_strings *strings, dw_gguf_string *out) {
    if (strings->left == 0) return false;
    /* Lengths were checked when the file was opened. */
    uint64_t size = load_little_endian(strings->next, 8);
    *out = (dw_gguf_string){(const char *)strings->next + 8, size};
    strings->next += 8 + size;
    strings->left--;
    return true;
}

dw_status dw_gguf_array_numbers(const dw_gguf *gguf, const char *name, dw_gguf_numbers *out, bool *found, dw_error *err) {
    const key *k = find_key(gguf, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_ARRAY || k->element == DW_GGUF_STRING || k->element == DW_GGUF_BOOL)
        return wrong_kind(k, "an array of numbers", err);
    *out = (dw_gguf_numbers){k->value, k->count, k->element};
    return DW_OK;
}

bool dw_gguf_next_number(dw_gguf_numbers *numbers, double *out) {
    if (numbers->left == 0) return false;
    (void)number_at(numbers->next, numbers->type, out);
    numbers->next += type_bytes[numbers->type];
    numbers->left--;
    return true;
}

/* --- hashes ----------------------------------------------------------------------------------------------------- */

dw_status dw_gguf_hash_keys(const dw_gguf *gguf, const char *prefix, dw_hash *out, dw_error *err) {
    dw_hasher *hasher = NULL;
    size_t prefix_bytes = strlen(prefix);
    dw_status status = dw_hasher_create(&hasher);
    for (uint64_t i = 0; status == DW_OK && i < gguf->n_keys; i++) {
        const key *k = &gguf->keys[i];
        if (k->name.size < prefix_bytes || memcmp(k->name.data, prefix, prefix_bytes) != 0) continue;
        status = dw_hasher_update(hasher, gguf->data + k->begin, (size_t)(k->end - k->begin));
    }
    if (status == DW_OK) status = dw_hasher_finish(hasher, out);
    dw_hasher_destroy(hasher);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the keys %.64s failed", prefix);
}

dw_status dw_gguf_hash_file(const dw_gguf *gguf, dw_hash *out, dw_error *err) {
    dw_status status = dw_hash_of(gguf->data, (size_t)gguf->size, out);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the file failed");
}

/* gguf.c: opening a GGUF, of one file or of parts, and its tensors.
 *
 * Parts, as llama.cpp's gguf-split writes them: files NAME-00001-of-0000N.gguf, each a GGUF of its own with keys
 * split.no (from 0), split.count and split.tensors.count. The first has the model's keys; which tensors lie where is
 * free. Everything that one of them says about the others is checked: a part of another model must not be taken.
 */
#include "model/gguf/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/gguf/gguf_internal.h"
#include "os/os.h"

/* --- names of parts --------------------------------------------------------------------------------------------- */

/* "-00001-of-00003.gguf" */
enum { PART_ENDING_BYTES = 20, PART_DIGITS = 5 };

static void part_ending(uint64_t number, uint64_t count, char out[PART_ENDING_BYTES + 32]) {
    (void)snprintf(out, PART_ENDING_BYTES + 32, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", number, count);
}

static bool read_digits(const char *text, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < PART_DIGITS; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (uint32_t)(text[i] - '0');
    }
    return true;
}

bool dw_gguf_is_later_part(const char *path) {
    size_t length = strlen(path);
    uint32_t number = 0, count = 0;
    if (length <= PART_ENDING_BYTES) return false;
    const char *ending = path + length - PART_ENDING_BYTES;
    return ending[0] == '-' && read_digits(ending + 1, &number) && strncmp(ending + 1 + PART_DIGITS, "-of-", 4) == 0 &&
           read_digits(ending + 5 + PART_DIGITS, &count) && strcmp(ending + 5 + 2 * PART_DIGITS, ".gguf") == 0 &&
           number > 1 && number <= count;
}

static const char *name_in(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The path of part `number` (from 1) from that of part `own`; the caller frees it. DW_E_INVALID: `path` is not named as
 * a part. */
static dw_status path_of_part(const char *path, uint64_t own, uint64_t number, uint64_t count, char **out,
                              dw_error *err) {
    char ending[PART_ENDING_BYTES + 32];
    size_t length = strlen(path);
    part_ending(own, count, ending);
    *out = NULL;
    if (length <= strlen(ending) || strcmp(path + length - strlen(ending), ending) != 0)
        return dw_fail(err, DW_E_INVALID,
                       "it is part %" PRIu64 " of %" PRIu64 ", so its name must end in %s for the others to be found",
                       own, count, ending);
    if (!(*out = malloc(length + 1))) return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory");
    memcpy(*out, path, length + 1);
    part_ending(number, count, ending);
    memcpy(*out + length - strlen(ending), ending, strlen(ending)); /* as long: five digits hold DW_GGUF_PARTS_MAX */
    return DW_OK;
}

/* --- what parts say of each other ------------------------------------------------------------------------------- */

/* Keys of one part; where it has none: a file of its own. */
typedef struct split { uint64_t number, count, n_tensors; bool has_number, has_count, has_tensors; } split;

static dw_status read_split(const dw_gguf_file *part, split *out, dw_error *err) {
    *out = (split){0};
    dw_status status = dw_gguf_part_u64(part, "split.no", &out->number, &out->has_number, err);
    if (status == DW_OK) status = dw_gguf_part_u64(part, "split.count", &out->count, &out->has_count, err);
    if (status == DW_OK)
        status = dw_gguf_part_u64(part, "split.tensors.count", &out->n_tensors, &out->has_tensors, err);
    if (status == DW_OK && out->count > DW_GGUF_PARTS_MAX)
        return dw_fail(err, DW_E_LIMIT, "GGUF: split.count is %" PRIu64 ", at most %u parts are taken", out->count,
                       DW_GGUF_PARTS_MAX);
    return status;
}

/* The part that was opened must be the first one of 1 or more. */
static dw_status check_first(const dw_gguf_file *part, const split *first, dw_error *err) {
    if (!first->has_number || first->number == 0) {
        if (first->count > 1 && (!first->has_number || !first->has_tensors))
            return dw_fail(err, DW_E_FORMAT, "GGUF: the file is the first of %" PRIu64 " parts, but has no split.%s",
                           first->count, first->has_number ? "tensors.count" : "no");
        return DW_OK;
    }
    if (first->number >= first->count)
        return dw_fail(err, DW_E_FORMAT, "GGUF: split.no is %" PRIu64 " (from 0), split.count %" PRIu64, first->number,
                       first->count);
    char *path = NULL;
    dw_status status = DW_E_INVALID;
    if (part->path && path_of_part(part->path, first->number + 1, 1, first->count, &path, NULL) == DW_OK) {
        status = dw_fail(err, status, "this is part %" PRIu64 " of %" PRIu64 ": open %s", first->number + 1,
                         first->count, name_in(path));
    } else {
        status = dw_fail(err, status, "this is part %" PRIu64 " of %" PRIu64 ": open the first one", first->number + 1,
                         first->count);
    }
    free(path);
    return status;
}

static dw_status check_other(const dw_gguf_file *part, const split *first, uint32_t index, dw_error *err) {
    split own;
    dw_status status = read_split(part, &own, err);
    if (status != DW_OK) return status;
    if (!own.has_number || own.number != index)
        return dw_fail(err, DW_E_FORMAT, "GGUF: split.no is %" PRIu64 " instead of %u", own.number, index);
    if (own.count != first->count)
        return dw_fail(err, DW_E_FORMAT, "GGUF: split.count is %" PRIu64 ", in the first part %" PRIu64, own.count,
                       first->count);
    if (own.has_tensors && own.n_tensors != first->n_tensors)
        return dw_fail(err, DW_E_FORMAT, "GGUF: split.tensors.count is %" PRIu64 ", in the first part %" PRIu64,
                       own.n_tensors, first->n_tensors);
    return DW_OK;
}

/* --- joining ---------------------------------------------------------------------------------------------------- */

/* One table of all parts' tensors. */
static dw_status collect_tensors(dw_gguf *gguf, const split *first, dw_error *err) {
    for (uint32_t i = 0; i < gguf->n_parts; i++) {
        gguf->n_tensors += gguf->parts[i].n_tensors; /* small numbers: each part's is below its limit */
        gguf->file_bytes += gguf->parts[i].size;     /* of what is mapped */
    }
    if (gguf->n_tensors > DW_GGUF_TENSORS_MAX)
        return dw_fail(err, DW_E_LIMIT, "GGUF: the parts have %" PRIu64 " tensors, at most %u are taken",
                       gguf->n_tensors, DW_GGUF_TENSORS_MAX);
    if (gguf->n_parts > 1 && first->n_tensors != gguf->n_tensors)
        return dw_fail(err, DW_E_FORMAT, "GGUF: split.tensors.count is %" PRIu64 ", the %u parts have %" PRIu64,
                       first->n_tensors, gguf->n_parts, gguf->n_tensors);
    gguf->tensors = calloc((size_t)gguf->n_tensors + 1, sizeof *gguf->tensors);
    if (!gguf->tensors) return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %" PRIu64 " tensors", gguf->n_tensors);
    uint64_t n = 0;
    for (uint32_t i = 0; i < gguf->n_parts; i++) {
        for (uint64_t k = 0; k < gguf->parts[i].n_tensors; k++) {
            gguf->tensors[n] = gguf->parts[i].tensors[k];
            gguf->tensors[n++].part = i;
        }
        free(gguf->parts[i].tensors);
        gguf->parts[i].tensors = NULL;
    }
    return DW_OK;
}

static dw_status index_tensors(dw_gguf *gguf, dw_error *err) {
    dw_status status = DW_OK;
    uint64_t second = 0;
    dw_gguf_line *lines = calloc((size_t)gguf->n_tensors + 1, sizeof *lines);
    gguf->tensors_by_name = calloc((size_t)gguf->n_tensors + 1, sizeof *gguf->tensors_by_name);
    if (!lines || !gguf->tensors_by_name) {
        status = dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %" PRIu64 " tensors", gguf->n_tensors);
        goto out;
    }
    for (uint64_t i = 0; i < gguf->n_tensors; i++)
        lines[i] = (dw_gguf_line){gguf->tensors[i].name, gguf->tensors[i].offset, (uint32_t)i};
    dw_gguf_index_names(lines, gguf->n_tensors, gguf->tensors_by_name, &second);
    if (second == 0) goto out;
    const dw_gguf_tensor *a = &gguf->tensors[lines[second - 1].index], *b = &gguf->tensors[lines[second].index];
    if (gguf->n_parts == 1)
        status = dw_fail_at(err, DW_E_FORMAT, dw_max_u64(a->offset, b->offset), "GGUF: there are two tensors named %s",
                            dw_gguf_show(a->name).text);
    else
        status = dw_fail(err, DW_E_FORMAT,
                         "GGUF: there are two tensors named %s, in part %" PRIu32 " and in part %" PRIu32,
                         dw_gguf_show(a->name).text, (uint32_t)dw_min_u64(a->part, b->part) + 1,
                         (uint32_t)dw_max_u64(a->part, b->part) + 1);
out:
    free(lines);
    return status;
}

/* --- opening ---------------------------------------------------------------------------------------------------- */

static dw_status map_whole(dw_gguf_file *part, const char *path, dw_error *err) {
    dw_os_file file = DW_OS_FILE_NONE;
    void *base = NULL;
    uint64_t size = 0, mapped = 0;
    if (!(part->path = malloc(strlen(path) + 1))) return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory");
    memcpy(part->path, path, strlen(path) + 1);
    dw_status status = dw_os_open(path, DW_OS_READ, &file, err);
    if (status == DW_OK) status = dw_os_size(file, &size, err);
    if (status != DW_OK) goto out;
    if (size == 0 || !dw_round_up_u64(size, dw_os_page_bytes(), &mapped) || mapped > SIZE_MAX) {
        status = dw_fail(err, DW_E_FORMAT, "%s: not a GGUF file: %" PRIu64 " bytes", path, size);
        goto out;
    }
    status = dw_os_map_file(NULL, (size_t)mapped, file, 0, DW_OS_RO, true, &base, err);
    if (status != DW_OK) goto out;
    part->data = base;
    part->size = size;
    part->mapped = mapped;
out:
    dw_os_close(&file);
    return status;
}

/* Where parts come from: files beside the first one, or memory. */
typedef struct source { const char *path; const dw_gguf_bytes *bytes; uint32_t n_bytes; } source;

/* Opens part `index` (from 0) of `count` and validates what is its own. */
static dw_status open_part(dw_gguf_file *part, const source *from, uint32_t index, uint64_t count, dw_error *err) {
    if (from->bytes) {
        part->data = from->bytes[index].data;
        part->size = part->data ? from->bytes[index].size : 0;
        return dw_gguf_part_parse(part, err);
    }
    char *other = NULL;
    dw_status status = index == 0 ? DW_OK : path_of_part(from->path, 1, index + 1, count, &other, err);
    if (status == DW_OK) status = map_whole(part, index == 0 ? from->path : other, err); /* names the file */
    free(other);
    if (status == DW_OK) {
        status = dw_gguf_part_parse(part, err);
        if (status != DW_OK) status = dw_error_prefix(err, status, "%s", index == 0 ? from->path : name_in(part->path));
    }
    return status;
}

/* The parts behind the first one. */
static dw_status open_others(dw_gguf *gguf, const source *from, const split *first, dw_error *err) {
    if (from->bytes && from->n_bytes != dw_max_u64(first->count, 1))
        return dw_fail(err, DW_E_INVALID, "GGUF: split.count is %" PRIu64 ", %u parts were given", first->count,
                       from->n_bytes);
    if (first->count <= 1) return DW_OK;
    dw_gguf_file *grown = realloc(gguf->parts, (size_t)first->count * sizeof *grown);
    if (!grown) return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory for %" PRIu64 " parts", first->count);
    gguf->parts = grown;
    for (uint32_t i = 1; i < first->count; i++) {
        gguf->parts[i] = (dw_gguf_file){0};
        gguf->n_parts = i + 1;
        dw_status status = open_part(&gguf->parts[i], from, i, first->count, err);
        if (status == DW_OK) status = check_other(&gguf->parts[i], first, i, err);
        if (status != DW_OK) return dw_error_prefix(err, status, "part %u of %" PRIu64, i + 1, first->count);
    }
    return DW_OK;
}

static dw_status open_all(const source *from, dw_gguf **out, dw_error *err) {
    split first = {0};
    *out = NULL;
    dw_gguf *gguf = calloc(1, sizeof *gguf);
    dw_status status = DW_OK;
    if (!gguf || !(gguf->parts = calloc(1, sizeof *gguf->parts))) {
        free(gguf);
        return dw_fail(err, DW_E_NO_MEMORY, "GGUF: no memory");
    }
    gguf->n_parts = 1;
    status = open_part(&gguf->parts[0], from, 0, 1, err);
    if (status != DW_OK) goto out; /* names the file already */
    status = read_split(&gguf->parts[0], &first, err);
    if (status == DW_OK) status = check_first(&gguf->parts[0], &first, err);
    if (status == DW_OK) status = open_others(gguf, from, &first, err);
    if (status == DW_OK) status = collect_tensors(gguf, &first, err);
    if (status == DW_OK) status = index_tensors(gguf, err);
    if (status != DW_OK && from->path) status = dw_error_prefix(err, status, "%s", from->path);
out:
    if (status == DW_OK) *out = gguf;
    else dw_gguf_close(gguf);
    return status;
}

dw_status dw_gguf_open(const char *path, dw_gguf **out, dw_error *err) {
    return open_all(&(source){.path = path}, out, err);
}

dw_status dw_gguf_open_parts(const dw_gguf_bytes *parts, uint32_t n_parts, dw_gguf **out, dw_error *err) {
    return open_all(&(source){.bytes = parts, .n_bytes = n_parts}, out, err);
}

dw_status dw_gguf_open_bytes(const void *data, uint64_t size, dw_gguf **out, dw_error *err) {
    return dw_gguf_open_parts(&(dw_gguf_bytes){data, size}, 1, out, err);
}

void dw_gguf_close(dw_gguf *gguf) {
    if (!gguf) return;
    for (uint32_t i = 0; i < gguf->n_parts; i++) dw_gguf_part_deinit(&gguf->parts[i]);
    free(gguf->parts);
    free(gguf->tensors);
    free(gguf->tensors_by_name);
    free(gguf);
}

/* --- what is in it ---------------------------------------------------------------------------------------------- */

uint32_t dw_gguf_n_parts(const dw_gguf *gguf) { return gguf->n_parts; }

dw_gguf_part dw_gguf_part_at(const dw_gguf *gguf, uint32_t index) {
    const dw_gguf_file *part = &gguf->parts[index];
    return (dw_gguf_part){.data = part->data, .bytes = part->size,
                          .mapped_bytes = part->mapped ? part->mapped : part->size,
                          .path = part->path ? part->path : ""};
}

uint64_t dw_gguf_file_bytes(const dw_gguf *gguf) { return gguf->file_bytes; }
const char *dw_gguf_path(const dw_gguf *gguf) { return gguf->parts[0].path ? gguf->parts[0].path : ""; }
uint64_t dw_gguf_n_tensors(const dw_gguf *gguf) { return gguf->n_tensors; }

const dw_gguf_tensor *dw_gguf_tensor_at(const dw_gguf *gguf, uint64_t index) {
    return index < gguf->n_tensors ? &gguf->tensors[index] : NULL;
}

const void *dw_gguf_tensor_data(const dw_gguf *gguf, const dw_gguf_tensor *tensor) {
    return gguf->parts[tensor->part].data + tensor->offset;
}

const dw_gguf_tensor *dw_gguf_find_tensor(const dw_gguf *gguf, const char *name) {
    dw_gguf_string wanted = {name, strlen(name)};
    uint64_t low = 0, high = gguf->n_tensors;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const dw_gguf_tensor *tensor = &gguf->tensors[gguf->tensors_by_name[middle]];
        int order = dw_gguf_compare_names(wanted, tensor->name);
        if (order == 0) return tensor;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

/* --- hashes ----------------------------------------------------------------------------------------------------- */

dw_status dw_gguf_hash_part(const dw_gguf *gguf, uint32_t index, dw_hash *out, dw_error *err) {
    dw_status status = dw_hash_of(gguf->parts[index].data, (size_t)gguf->parts[index].size, out);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the file failed");
}

/* Everything of a tensor but its place. */
static dw_status hash_tensor(const dw_gguf *gguf, const dw_gguf_tensor *tensor, dw_hasher *all) {
    dw_hash content;
    dw_writer record;
    uint8_t *bytes = NULL;
    size_t size = 0;
    dw_status status = dw_hash_of(dw_gguf_tensor_data(gguf, tensor), (size_t)tensor->bytes, &content);
    if (status != DW_OK) return status;
    dw_writer_init(&record);
    dw_write_u64(&record, tensor->name.size);
    dw_write_bytes(&record, tensor->name.data, (size_t)tensor->name.size);
    dw_write_u32(&record, tensor->type);
    dw_write_u32(&record, tensor->n_dims);
    for (int d = 0; d < 4; d++) dw_write_u64(&record, tensor->shape[d]);
    dw_write_bytes(&record, content.bytes, sizeof content.bytes);
    status = dw_writer_finish(&record, &bytes, &size);
    if (status == DW_OK) status = dw_hasher_update(all, bytes, size);
    free(bytes);
    return status;
}

dw_status dw_gguf_hash_tensors(const dw_gguf *gguf, dw_hash *out, dw_error *err) {
    dw_hasher *all = NULL;
    dw_status status = dw_hasher_create(&all);
    for (uint64_t i = 0; status == DW_OK && i < gguf->n_tensors; i++) {
        status = hash_tensor(gguf, &gguf->tensors[gguf->tensors_by_name[i]], all);
    }
    if (status == DW_OK) status = dw_hasher_finish(all, out);
    dw_hasher_destroy(all);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the tensors failed");
}

dw_status dw_gguf_hash_join(const dw_hash *parts, uint32_t n_parts, dw_hash *out, dw_error *err) {
    static const char begin[] = "GGUF parts";
    dw_hasher *hasher = NULL;
    if (n_parts == 1) {
        *out = parts[0];
        return DW_OK;
    }
    dw_status status = dw_hasher_create(&hasher);
    if (status == DW_OK) status = dw_hasher_update(hasher, begin, sizeof begin);
    for (uint32_t i = 0; status == DW_OK && i < n_parts; i++)
        status = dw_hasher_update(hasher, parts[i].bytes, sizeof parts[i].bytes);
    if (status == DW_OK) status = dw_hasher_finish(hasher, out);
    dw_hasher_destroy(hasher);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the parts failed");
}

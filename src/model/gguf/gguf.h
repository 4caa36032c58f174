/* gguf.h: a GGUF (version 2 and 3, little-endian), validated completely before anything else looks at it (I6).
 *
 *   part   one file of it. A model that was split (llama.cpp's gguf-split) has several: NAME-00001-of-0000N.gguf and so
 *          on. The first has the keys; tensors lie in any. All are opened and validated with the first
 *
 * Files are mapped read-only; strings and arrays are views into the maps. Every count, offset, size and alignment is
 * checked against the file's size when opened; nothing is allocated that the files' sizes do not justify.
 * Format: github.com/ggml-org/ggml docs/gguf.md.
 * Threads: immutable after opening.
 */
#ifndef DW_MODEL_GGUF_GGUF_H
#define DW_MODEL_GGUF_GGUF_H

#include <stdbool.h>
#include "base/base.h"

typedef struct dw_gguf dw_gguf;

typedef enum dw_gguf_type {
    DW_GGUF_U8,
    DW_GGUF_I8,
    DW_GGUF_U16,
    DW_GGUF_I16,
    DW_GGUF_U32,
    DW_GGUF_I32,
    DW_GGUF_F32,
    DW_GGUF_BOOL,
    DW_GGUF_STRING,
    DW_GGUF_ARRAY,
    DW_GGUF_U64,
    DW_GGUF_I64,
    DW_GGUF_F64
} dw_gguf_type;

typedef struct dw_gguf_string { const char *data; uint64_t size; } dw_gguf_string; /* not NUL-terminated */

typedef struct dw_gguf_tensor {
    dw_gguf_string name;
    uint32_t type;            /* enum ggml_type, known to this build */
    uint32_t n_dims;          /* 1..4 */
    uint64_t shape[4];        /* ne: fastest dimension first; unused = 1 */
    uint32_t part;            /* that it lies in */
    uint64_t offset;          /* in the part's file */
    uint64_t bytes;
} dw_gguf_tensor;

/* Opens and validates; of a model in parts `path` is the first, and the others lie beside it. Errors name file, what
 * and the byte offset. A later part is DW_E_INVALID, and the text says which file to open; a part that is not there is
 * DW_E_NOT_FOUND. */
dw_status dw_gguf_open(const char *path, dw_gguf **out, dw_error *err) DW_MUST_USE;
/* The same over bytes that stay valid until close (tests, fuzzing); of one part or of several, in their order. */
typedef struct dw_gguf_bytes { const void *data; uint64_t size; } dw_gguf_bytes;
dw_status dw_gguf_open_bytes(const void *data, uint64_t size, dw_gguf **out, dw_error *err) DW_MUST_USE;
dw_status dw_gguf_open_parts(const dw_gguf_bytes *parts, uint32_t n_parts, dw_gguf **out, dw_error *err) DW_MUST_USE;
void dw_gguf_close(dw_gguf *gguf);

/* Whether a path is named as part 2 or higher of a split model: those are opened with their first one only. */
bool dw_gguf_is_later_part(const char *path);

typedef struct dw_gguf_part {
    const void *data;         /* the whole file */
    uint64_t bytes;
    uint64_t mapped_bytes;    /* of the map: page-rounded; `bytes` where the bytes are the caller's */
    const char *path;         /* "" for bytes */
} dw_gguf_part;
uint32_t dw_gguf_n_parts(const dw_gguf *gguf); /* 1 or more */
dw_gguf_part dw_gguf_part_at(const dw_gguf *gguf, uint32_t index);
uint64_t dw_gguf_file_bytes(const dw_gguf *gguf); /* of all parts */
const char *dw_gguf_path(const dw_gguf *gguf); /* of the first part */
uint64_t dw_gguf_n_tensors(const dw_gguf *gguf);
const dw_gguf_tensor *dw_gguf_tensor_at(const dw_gguf *gguf, uint64_t index);
/* NULL: none; O(log n) whatever the file says. */
const dw_gguf_tensor *dw_gguf_find_tensor(const dw_gguf *gguf, const char *name);

/* tensor->bytes bytes, aligned to 8 and in the file as the alignment there. */
const void *dw_gguf_tensor_data(const dw_gguf *gguf, const dw_gguf_tensor *tensor);

/* Values by key, of the first part. *found tells absence; a value of another kind or out of range is DW_E_FORMAT.
 * Integers of any width are accepted. */
dw_status dw_gguf_u64(const dw_gguf *gguf, const char *key, uint64_t *out, bool *found, dw_error *err) DW_MUST_USE;
dw_status dw_gguf_f64(const dw_gguf *gguf, const char *key, double *out, bool *found, dw_error *err) DW_MUST_USE;
dw_status dw_gguf_bool(const dw_gguf *gguf, const char *key, bool *out, bool *found, dw_error *err) DW_MUST_USE;
dw_status dw_gguf_get_string(const dw_gguf *gguf, const char *key, dw_gguf_string *out, bool *found,
                             dw_error *err) DW_MUST_USE;
/* Array: its element type and count; numbers by index as double or u64, truth values by index, strings one after the
 * other. */
dw_status dw_gguf_array(const dw_gguf *gguf, const char *key, dw_gguf_type *type, uint64_t *count, bool *found,
                        dw_error *err) DW_MUST_USE;
dw_status dw_gguf_array_u64(const dw_gguf *gguf, const char *key, uint64_t index, uint64_t *out,
                            dw_error *err) DW_MUST_USE;
dw_status dw_gguf_array_f64(const dw_gguf *gguf, const char *key, uint64_t index, double *out,
                            dw_error *err) DW_MUST_USE;
dw_status dw_gguf_array_bool(const dw_gguf *gguf, const char *key, uint64_t index, bool *out,
                             dw_error *err) DW_MUST_USE;
/* Strings of an array, in order, as views: they lie one behind the other in the file, and an index of them would cost
 * more memory than reading a vocabulary needs. */
typedef struct dw_gguf_strings { const uint8_t *next; uint64_t left; } dw_gguf_strings;
dw_status dw_gguf_array_strings(const dw_gguf *gguf, const char *key, dw_gguf_strings *out, bool *found,
                                dw_error *err) DW_MUST_USE;
bool dw_gguf_next_string(dw_gguf_strings *strings, dw_gguf_string *out); /* false at the end */
/* Numbers of an array, in order, without a look-up for each; other elements than numbers are DW_E_FORMAT. */
typedef struct dw_gguf_numbers { const uint8_t *next; uint64_t left; dw_gguf_type type; } dw_gguf_numbers;
dw_status dw_gguf_array_numbers(const dw_gguf *gguf, const char *key, dw_gguf_numbers *out, bool *found,
                                dw_error *err) DW_MUST_USE;
bool dw_gguf_next_number(dw_gguf_numbers *numbers, double *out); /* false at the end */
/* Keys by position (inspection, fuzzing): name, type; for an array the type of its elements and their count. */
uint64_t dw_gguf_n_keys(const dw_gguf *gguf);
dw_gguf_string dw_gguf_key_at(const dw_gguf *gguf, uint64_t index, dw_gguf_type *type, dw_gguf_type *element_type,
                              uint64_t *count);
/* Hash over the bytes of every key that begins with `prefix`, but not with `except` (NULL: none is left out), in the
 * file's order. */
dw_status dw_gguf_hash_keys(const dw_gguf *gguf, const char *prefix, const char *except, dw_hash *out,
                            dw_error *err) DW_MUST_USE;
/* Hash over the tensors by name: names, types, shapes and bytes (docs/drift-format.md). It does not depend on keys, on
 * the tensors' order or on how the model is split. Takes 0.13 s per 256 MB. */
dw_status dw_gguf_hash_tensors(const dw_gguf *gguf, dw_hash *out, dw_error *err) DW_MUST_USE;
/* SHA-256 of a part's file. Takes 0.13 s per 256 MB. */
dw_status dw_gguf_hash_part(const dw_gguf *gguf, uint32_t index, dw_hash *out, dw_error *err) DW_MUST_USE;
/* One hash for all: of one part its own; else SHA-256 over "GGUF parts", a zero byte and the parts' hashes in their
 * order. */
dw_status dw_gguf_hash_join(const dw_hash *parts, uint32_t n_parts, dw_hash *out, dw_error *err) DW_MUST_USE;

#endif

/* gguf_internal.h: an open GGUF from inside. gguf_part.c reads and validates one file, gguf.c joins the parts,
 * gguf_values.c reads values. */
#ifndef DW_MODEL_GGUF_GGUF_INTERNAL_H
#define DW_MODEL_GGUF_GGUF_INTERNAL_H

#include "model/gguf/gguf.h"

typedef struct dw_gguf_key {
    dw_gguf_string name;
    dw_gguf_type type;
    dw_gguf_type element;  /* of an array; else = type */
    uint64_t count;        /* of an array; else 1 */
    const uint8_t *value;  /* first element */
    uint64_t value_bytes;
    uint64_t begin, end;   /* the whole record in the file */
} dw_gguf_key;

/* One file. */
typedef struct dw_gguf_file {
    const uint8_t *data;
    uint64_t size, mapped; /* mapped 0: the bytes are the caller's */
    char *path;            /* NULL for bytes */
    dw_gguf_key *keys;
    uint32_t *keys_by_name;
    dw_gguf_tensor *tensors; /* of this file; NULL once gguf.c has joined them */
    uint64_t n_keys, n_tensors;
    uint64_t alignment;
} dw_gguf_file;

struct dw_gguf {
    dw_gguf_file *parts;     /* [n_parts] */
    uint32_t n_parts;
    dw_gguf_tensor *tensors; /* of all parts, in the parts' order */
    uint32_t *tensors_by_name;
    uint64_t n_tensors;
    uint64_t file_bytes;     /* of all parts */
};

/* --- gguf_part.c --- */

/* Validates the bytes of a part completely, but for two tensors of one name. What was allocated is released by
 * dw_gguf_part_deinit. */
dw_status dw_gguf_part_parse(dw_gguf_file *part, dw_error *err) DW_MUST_USE;
void dw_gguf_part_deinit(dw_gguf_file *part); /* unmaps, too */

/* One line of a table that is sorted by name or by offset: qsort has no context argument. */
typedef struct dw_gguf_line { dw_gguf_string name; uint64_t offset; uint32_t index; } dw_gguf_line;
/* Sorts `lines` by name and gives the order. *second: position of the latter of two equal names, 0 where all differ. */
void dw_gguf_index_names(dw_gguf_line *lines, uint64_t n, uint32_t *order, uint64_t *second);
int dw_gguf_compare_names(dw_gguf_string a, dw_gguf_string b);

enum { GGUF_NAME_SHOWN_BYTES = 64 };
typedef struct dw_gguf_shown { char text[GGUF_NAME_SHOWN_BYTES]; } dw_gguf_shown;
/* A name from the file, made fit for a message: bounded, printable. */
dw_gguf_shown dw_gguf_show(dw_gguf_string name);

/* --- gguf_values.c --- */

extern const uint8_t dw_gguf_type_bytes[DW_GGUF_F64 + 1]; /* 0: strings and arrays */
const dw_gguf_key *dw_gguf_find_key(const dw_gguf_file *part, const char *name);
/* dw_gguf_u64 of one part. */
dw_status dw_gguf_part_u64(const dw_gguf_file *part, const char *name, uint64_t *out, bool *found,
                           dw_error *err) DW_MUST_USE;

#endif

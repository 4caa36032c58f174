/* gguf_values.c: values by key, read from the map when they are asked for. Keys of later parts are not looked at: the
 * first part has the model's. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "model/gguf/gguf_internal.h"

const uint8_t dw_gguf_type_bytes[DW_GGUF_F64 + 1] = {
    [DW_GGUF_U8] = 1,  [DW_GGUF_I8] = 1,   [DW_GGUF_U16] = 2, [DW_GGUF_I16] = 2, [DW_GGUF_U32] = 4, [DW_GGUF_I32] = 4,
    [DW_GGUF_F32] = 4, [DW_GGUF_BOOL] = 1, [DW_GGUF_U64] = 8, [DW_GGUF_I64] = 8, [DW_GGUF_F64] = 8,
};

const dw_gguf_key *dw_gguf_find_key(const dw_gguf_file *part, const char *name) {
    dw_gguf_string wanted = {name, strlen(name)};
    uint64_t low = 0, high = part->n_keys;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        const dw_gguf_key *k = &part->keys[part->keys_by_name[middle]];
        int order = dw_gguf_compare_names(wanted, k->name);
        if (order == 0) return k;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

uint64_t dw_gguf_n_keys(const dw_gguf *gguf) { return gguf->parts[0].n_keys; }

dw_gguf_string dw_gguf_key_at(const dw_gguf *gguf, uint64_t index, dw_gguf_type *type, dw_gguf_type *element_type,
                              uint64_t *count) {
    const dw_gguf_key *k = &gguf->parts[0].keys[index];
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
static bool as_u64(const dw_gguf_key *k, uint64_t index, uint64_t *out) {
    unsigned bytes = dw_gguf_type_bytes[k->element];
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
    uint64_t value = load_little_endian(at, dw_gguf_type_bytes[type]);
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

static bool as_f64(const dw_gguf_key *k, uint64_t index, double *out) {
    return number_at(k->value + index * dw_gguf_type_bytes[k->element], k->element, out);
}

static dw_status wrong_kind(const dw_gguf_key *k, const char *wanted, dw_error *err) {
    return dw_fail_at(err, DW_E_FORMAT, k->begin, "GGUF: key %s is not %s", dw_gguf_show(k->name).text, wanted);
}

dw_status dw_gguf_part_u64(const dw_gguf_file *part, const char *name, uint64_t *out, bool *found, dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(part, name);
    *found = k != NULL;
    if (!k) return DW_OK;
    return k->type != DW_GGUF_ARRAY && as_u64(k, 0, out) ? DW_OK : wrong_kind(k, "a whole number", err);
}

dw_status dw_gguf_u64(const dw_gguf *gguf, const char *name, uint64_t *out, bool *found, dw_error *err) {
    return dw_gguf_part_u64(&gguf->parts[0], name, out, found, err);
}

dw_status dw_gguf_f64(const dw_gguf *gguf, const char *name, double *out, bool *found, dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
    *found = k != NULL;
    if (!k) return DW_OK;
    return k->type != DW_GGUF_ARRAY && as_f64(k, 0, out) && isfinite(*out) ? DW_OK
                                                                           : wrong_kind(k, "a finite number", err);
}

dw_status dw_gguf_bool(const dw_gguf *gguf, const char *name, bool *out, bool *found, dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_BOOL) return wrong_kind(k, "a truth value", err);
    *out = k->value[0] != 0;
    return DW_OK;
}

dw_status dw_gguf_get_string(const dw_gguf *gguf, const char *name, dw_gguf_string *out, bool *found, dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_STRING) return wrong_kind(k, "a string", err);
    *out = (dw_gguf_string){(const char *)k->value + 8, k->value_bytes - 8};
    return DW_OK;
}

dw_status dw_gguf_array(const dw_gguf *gguf, const char *name, dw_gguf_type *type, uint64_t *count, bool *found,
                        dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
    *found = k != NULL;
    if (!k) return DW_OK;
    if (k->type != DW_GGUF_ARRAY) return wrong_kind(k, "an array", err);
    *type = k->element;
    *count = k->count;
    return DW_OK;
}

static dw_status find_element(const dw_gguf *gguf, const char *name, uint64_t index, const dw_gguf_key **out,
                              dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
    if (!k) return dw_fail(err, DW_E_NOT_FOUND, "GGUF: there is no key %.64s", name);
    if (k->type != DW_GGUF_ARRAY) return wrong_kind(k, "an array", err);
    if (index >= k->count)
        return dw_fail(err, DW_E_RANGE, "GGUF: key %s has %" PRIu64 " elements, not %" PRIu64,
                       dw_gguf_show(k->name).text, k->count, index);
    *out = k;
    return DW_OK;
}

dw_status dw_gguf_array_u64(const dw_gguf *gguf, const char *name, uint64_t index, uint64_t *out, dw_error *err) {
    const dw_gguf_key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    return as_u64(k, index, out) ? DW_OK : wrong_kind(k, "an array of whole numbers", err);
}

dw_status dw_gguf_array_f64(const dw_gguf *gguf, const char *name, uint64_t index, double *out, dw_error *err) {
    const dw_gguf_key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    return as_f64(k, index, out) ? DW_OK : wrong_kind(k, "an array of numbers", err);
}

dw_status dw_gguf_array_bool(const dw_gguf *gguf, const char *name, uint64_t index, bool *out, dw_error *err) {
    const dw_gguf_key *k = NULL;
    dw_status status = find_element(gguf, name, index, &k, err);
    if (status != DW_OK) return status;
    if (k->element != DW_GGUF_BOOL) return wrong_kind(k, "an array of truth values", err);
    *out = k->value[index] != 0;
    return DW_OK;
}

dw_status dw_gguf_array_strings(const dw_gguf *gguf, const char *name, dw_gguf_strings *out, bool *found,
                                dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
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

dw_status dw_gguf_array_numbers(const dw_gguf *gguf, const char *name, dw_gguf_numbers *out, bool *found,
                                dw_error *err) {
    const dw_gguf_key *k = dw_gguf_find_key(&gguf->parts[0], name);
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
    numbers->next += dw_gguf_type_bytes[numbers->type];
    numbers->left--;
    return true;
}

/* --- hashes ----------------------------------------------------------------------------------------------------- */

static bool begins_with(dw_gguf_string name, const char *prefix) {
    size_t n = strlen(prefix);
    return name.size >= n && memcmp(name.data, prefix, n) == 0;
}

dw_status dw_gguf_hash_keys(const dw_gguf *gguf, const char *prefix, const char *except, dw_hash *out, dw_error *err) {
    dw_hasher *hasher = NULL;
    dw_status status = dw_hasher_create(&hasher);
    for (uint64_t i = 0; status == DW_OK && i < gguf->parts[0].n_keys; i++) {
        const dw_gguf_key *k = &gguf->parts[0].keys[i];
        if (!begins_with(k->name, prefix) || (except != NULL && begins_with(k->name, except))) continue;
        status = dw_hasher_update(hasher, gguf->parts[0].data + k->begin, (size_t)(k->end - k->begin));
    }
    if (status == DW_OK) status = dw_hasher_finish(hasher, out);
    dw_hasher_destroy(hasher);
    return status == DW_OK ? DW_OK : dw_fail(err, status, "GGUF: hashing the keys %.64s failed", prefix);
}

/* gguf_fuzz.c: any bytes as a GGUF: refused, or every value and tensor of it can be read. Whatever is accepted holds what gguf.h
 * promises; the address sanitizer watches the reads. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum; /* what was read goes in here, so that no read is dropped */

static void must(int truth, const char *what) {
    if (truth) return;
    fprintf(stderr, "gguf: accepted, but %s\n", what);
    abort();
}

static void touch(dw_gguf_string text) {
    for (uint64_t i = 0; i < text.size; i++) sum += (uint8_t)text.data[i];
}

static void read_array(const dw_gguf *gguf, const char *name, uint64_t count) {
    dw_gguf_strings strings;
    dw_gguf_string text;
    bool found, truth;
    uint64_t value;
    double number;
    if (dw_gguf_array_strings(gguf, name, &strings, &found, NULL) == DW_OK) {
        uint64_t n = 0;
        while (dw_gguf_next_string(&strings, &text)) {
            touch(text);
            n++;
        }
        must(n == count, "an array of strings has another length");
        return;
    }
    dw_gguf_numbers numbers;
    if (dw_gguf_array_numbers(gguf, name, &numbers, &found, NULL) == DW_OK) {
        uint64_t n = 0;
        for (; dw_gguf_next_number(&numbers, &number); n++) sum += number > 0;
        must(n == count, "an array of numbers has another length");
    }
    /* The ends and a few between: elements are of one size. */
    for (uint64_t i = 0; i < count; i += 1 + count / 16) {
        if (dw_gguf_array_u64(gguf, name, i, &value, NULL) == DW_OK) sum += value;
        if (dw_gguf_array_f64(gguf, name, i, &number, NULL) == DW_OK) sum += number > 0;
        if (dw_gguf_array_bool(gguf, name, i, &truth, NULL) == DW_OK) sum += truth;
    }
    must(count == 0 || dw_gguf_array_u64(gguf, name, count, &value, NULL) == DW_E_RANGE, "an array has an element behind its end");
}

static void read_key(const dw_gguf *gguf, uint64_t index) {
    char name[256];
    dw_gguf_type type, element;
    uint64_t count, value;
    double number;
    bool truth, found = false;
    dw_gguf_string text, key = dw_gguf_key_at(gguf, index, &type, &element, &count);
    touch(key);
    if (key.size >= sizeof name) return;
    memcpy(name, key.data, (size_t)key.size);
    name[key.size] = '\0';
    if (dw_gguf_u64(gguf, name, &value, &found, NULL) == DW_OK) sum += value;
    must(found, "a key is not found by its name");
    if (dw_gguf_f64(gguf, name, &number, &found, NULL) == DW_OK) sum += number > 0;
    if (dw_gguf_bool(gguf, name, &truth, &found, NULL) == DW_OK) sum += truth;
    if (dw_gguf_get_string(gguf, name, &text, &found, NULL) == DW_OK) touch(text);
    if (dw_gguf_array(gguf, name, &element, &count, &found, NULL) == DW_OK) read_array(gguf, name, count);
}

static void read_tensor(const dw_gguf *gguf, const uint8_t *data, uint64_t size, uint64_t index) {
    char name[DW_GGUF_TENSOR_NAME_BYTES_MAX + 1];
    const dw_gguf_tensor *tensor = dw_gguf_tensor_at(gguf, index);
    must(dw_in_range(tensor->offset, tensor->bytes, size) && tensor->bytes > 0, "a tensor lies outside the file");
    must(tensor->offset % 8 == 0, "a tensor is not aligned");
    must(tensor->name.size < sizeof name, "a tensor has a long name");
    memcpy(name, tensor->name.data, (size_t)tensor->name.size);
    name[tensor->name.size] = '\0';
    must(dw_gguf_find_tensor(gguf, name) == tensor, "a tensor is not found by its name");
    for (uint64_t i = 0; i < tensor->bytes; i++) sum += data[tensor->offset + i];
    for (uint64_t i = 0; i < index; i++) {
        const dw_gguf_tensor *other = dw_gguf_tensor_at(gguf, i);
        must(other->offset + other->bytes <= tensor->offset || tensor->offset + tensor->bytes <= other->offset, "two tensors overlap");
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_status status = dw_gguf_open_bytes(data, size, &gguf, &err);
    if (status != DW_OK) {
        must(gguf == NULL, "an object came with the refusal");
        must(status < 0 && err.status == status && err.text[0] != '\0', "a refusal has no text");
        return 0;
    }
    for (uint64_t i = 0; i < dw_gguf_n_keys(gguf); i++) read_key(gguf, i);
    for (uint64_t i = 0; i < dw_gguf_n_tensors(gguf); i++) read_tensor(gguf, data, size, i);
    dw_gguf_close(gguf);
    return 0;
}

/* gguf_fuzz.c: any bytes as a GGUF: refused, or every value and tensor of it can be read. Whatever is accepted holds what gguf.h
 * promises; the address sanitizer watches the reads. Opening asks for no more memory than a fixed multiple of the file's size.
 * An input that begins with PARTS is a bundle (make_gguf.h) of the parts of a split file, each in a block of exactly its size. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/gguf/gguf.h"
#include "model/gguf/heap_count.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARTS_MAX = 4 };

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

static void read_tensor(const dw_gguf *gguf, uint64_t index) {
    char name[DW_GGUF_TENSOR_NAME_BYTES_MAX + 1];
    const dw_gguf_tensor *tensor = dw_gguf_tensor_at(gguf, index);
    must(tensor->part < dw_gguf_n_parts(gguf), "a tensor is in no part");
    const dw_gguf_part part = dw_gguf_part_at(gguf, tensor->part);
    const uint8_t *data = part.data;
    must(dw_in_range(tensor->offset, tensor->bytes, part.bytes) && tensor->bytes > 0, "a tensor lies outside the file");
    must(tensor->offset % 8 == 0, "a tensor is not aligned");
    must(tensor->name.size < sizeof name, "a tensor has a long name");
    memcpy(name, tensor->name.data, (size_t)tensor->name.size);
    name[tensor->name.size] = '\0';
    must(dw_gguf_find_tensor(gguf, name) == tensor, "a tensor is not found by its name");
    must(dw_gguf_tensor_data(gguf, tensor) == data + tensor->offset, "a tensor's data is elsewhere");
    for (uint64_t i = 0; i < tensor->bytes; i++) sum += data[tensor->offset + i];
    for (uint64_t i = 0; i < index; i++) {
        const dw_gguf_tensor *other = dw_gguf_tensor_at(gguf, i);
        must(other->part != tensor->part || other->offset + other->bytes <= tensor->offset || tensor->offset + tensor->bytes <= other->offset, "two tensors overlap");
    }
}

/* The parts of a bundle as blocks of their own; how many, 0 when it is none. The last part takes what is left, so that a cut bundle is one too. */
static uint32_t unbundle(const uint8_t *data, size_t size, dw_gguf_bytes parts[PARTS_MAX]) {
    dw_reader reader;
    uint64_t sizes[PARTS_MAX];
    dw_reader_init(&reader, data, size);
    const uint8_t *magic = dw_read_bytes(&reader, 5);
    if (!magic || memcmp(magic, "PARTS", 5) != 0) return 0;
    uint32_t n = dw_read_u8(&reader) % (PARTS_MAX + 1);
    for (uint32_t i = 0; i < n; i++) sizes[i] = dw_read_u32(&reader);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes = i + 1 == n ? dw_reader_left(&reader) : dw_min_u64(sizes[i], dw_reader_left(&reader));
        const uint8_t *from = dw_read_bytes(&reader, bytes);
        uint8_t *exact = malloc(bytes > 0 ? (size_t)bytes : 1);
        if (!exact) abort();
        if (from && bytes > 0) memcpy(exact, from, (size_t)bytes);
        parts[i] = (dw_gguf_bytes){exact, from ? bytes : 0};
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_gguf *gguf = NULL;
    dw_error err = {0};
    dw_gguf_bytes parts[PARTS_MAX];
    uint32_t n_parts = unbundle(data, size, parts);
    heap_count_begin();
    dw_status status = n_parts > 0 ? dw_gguf_open_parts(parts, n_parts, &gguf, &err) : dw_gguf_open_bytes(data, size, &gguf, &err);
    must(heap_count_end() <= 16 * (uint64_t)size + 4096, "opening asked for more memory than the file's size justifies");
    must(status != DW_E_NO_MEMORY, "the file made it run out of memory");
    if (status == DW_OK) {
        for (uint64_t i = 0; i < dw_gguf_n_keys(gguf); i++) read_key(gguf, i);
        for (uint64_t i = 0; i < dw_gguf_n_tensors(gguf); i++) read_tensor(gguf, i);
        dw_gguf_close(gguf);
    } else {
        must(gguf == NULL, "an object came with the refusal");
        must(status < 0 && err.status == status && err.text[0] != '\0', "a refusal has no text");
    }
    for (uint32_t i = 0; i < n_parts; i++) free((void *)(uintptr_t)parts[i].data);
    return 0;
}

/* The reader on arbitrary bytes. The input is a program: each byte chooses the next read. Checked: the reader stays inside,
 * never goes back, stays failed once failed, and every accepted unsigned LEB128 is what our writer's shortest form reads as. */
#include <stdlib.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int holds) {
    if (!holds) abort();
}

static void leb_round_trip(uint32_t value) {
    dw_writer writer;
    uint8_t *encoded;
    size_t encoded_size;
    dw_writer_init(&writer);
    dw_write_leb_u32(&writer, value);
    check(dw_writer_finish(&writer, &encoded, &encoded_size) == DW_OK && encoded_size <= 5);
    dw_reader reader;
    dw_reader_init(&reader, encoded, encoded_size);
    check(dw_read_leb_u32(&reader) == value && reader.status == DW_OK && dw_reader_left(&reader) == 0);
    free(encoded);
}

static void one_read(dw_reader *reader, uint8_t choice) {
    switch (choice % 9) {
    case 0: (void)dw_read_u16(reader); break;
    case 1: (void)dw_read_u32(reader); break;
    case 2: (void)dw_read_u64(reader); break;
    case 3: leb_round_trip(dw_read_leb_u32(reader)); break;
    case 4: (void)dw_read_leb_u64(reader); break;
    case 5: (void)dw_read_leb_s32(reader); break;
    case 6: (void)dw_read_leb_s64(reader); break;
    case 7: (void)dw_read_bytes(reader, dw_read_leb_u64(reader)); break;
    default: (void)dw_read_bytes(reader, choice); break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    dw_reader reader;
    dw_reader_init(&reader, data, size);
    while (dw_reader_left(&reader) > 0) {
        uint64_t before = reader.offset;
        one_read(&reader, dw_read_u8(&reader));
        check(reader.offset <= size && reader.offset >= before);
        if (reader.status == DW_OK) continue;
        check(dw_read_u8(&reader) == 0 && dw_read_bytes(&reader, 0) == NULL && dw_reader_left(&reader) == 0);
    }
    return 0;
}

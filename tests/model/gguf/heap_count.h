/* heap_count.h: how much heap memory a call asked for, under the address sanitizer. */
#ifndef DW_TESTS_MODEL_GGUF_HEAP_COUNT_H
#define DW_TESTS_MODEL_GGUF_HEAP_COUNT_H

#include <stdbool.h>
#include <stdint.h>

/* False where no sanitizer counts; then heap_count_end gives 0. */
bool heap_count_works(void);
/* Bytes that this thread asked for since begin; what it gave back is not taken off, so this is never less than the most it held. */
void heap_count_begin(void);
uint64_t heap_count_end(void);

#endif

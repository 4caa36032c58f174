/* reference.h: a module as Wasmtime alone runs it: the source bytes, Wasmtime's own memory, start function and data segments as
 * the standard has them, and a second, independent implementation of the few imports that the guests need. */
#ifndef DW_TESTS_WASM_REFERENCE_H
#define DW_TESTS_WASM_REFERENCE_H

#include "wasm/fixture.h"

typedef struct reference reference;

reference *reference_create(const void *wasm, size_t size); /* instantiates, runs _initialize */
void reference_begin_turn(reference *ref, uint64_t realtime_ns);
int32_t reference_receive(reference *ref);
dw_hash reference_memory_hash(reference *ref);
void reference_destroy(reference *ref);

#endif

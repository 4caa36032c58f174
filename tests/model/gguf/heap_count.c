/* heap_count.c: the sanitizer tells of every block. */
#include "model/gguf/heap_count.h"

#include <stddef.h>

/* Present when the address sanitizer is linked (sanitizer/allocator_interface.h). */
__attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t), void (*on_free)(const volatile void *));

static _Thread_local uint64_t asked;
static _Thread_local bool counting;

static void on_malloc(const volatile void *block, size_t size) {
    (void)block;
    if (counting) asked += size;
}

static void on_free(const volatile void *block) { (void)block; }

bool heap_count_works(void) {
    static int installed; /* tests call this from one thread first */
    if (installed == 0 && __sanitizer_install_malloc_and_free_hooks != NULL) installed = __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free) > 0 ? 1 : -1;
    return installed == 1;
}

void heap_count_begin(void) {
    asked = 0;
    counting = heap_count_works();
}

uint64_t heap_count_end(void) {
    counting = false;
    return asked;
}

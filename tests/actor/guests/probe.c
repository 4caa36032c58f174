/* probe.c: a guest that does as the message says: writes pages, grows, ends its turn in every bad way, and hands raw records to the door.
 * It speaks the bare ABI (driftwood/guest.h), so that tests meet the host and not the SDK. */
#include <driftwood/guest.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PAGE = 4096, N_PAGES = 512, MESSAGE_MAX = 16384, RAW_COMPLETIONS = 64 };

static uint8_t pages[N_PAGES][PAGE] __attribute__((aligned(65536)));
static char message[MESSAGE_MAX];
static uint32_t message_size;
static uint64_t turns;
static dw_completion raw_completions[RAW_COMPLETIONS];
static uint8_t *heap;
static uint32_t heap_size;

__attribute__((export_name("driftwood_receive"))) int32_t driftwood_receive(void);

static int32_t one(dw_request request, dw_completion *completion) {
    int32_t n = dw_enter(&request, 1, completion, 1, 1, -1);
    return n == 1 ? completion->status : n;
}

static void read_message(void) {
    dw_completion done;
    dw_request request = {.op = DW_OP_MESSAGE, .ptr0 = (uint32_t)(uintptr_t)message, .len0 = MESSAGE_MAX};
    memset(message, 0, sizeof message);
    if (one(request, &done) == 0) message_size = done.result0 < MESSAGE_MAX ? done.result0 : MESSAGE_MAX;
}

static void reply(const void *data, uint32_t size) {
    dw_completion done;
    dw_request request = {.op = DW_OP_REPLY, .ptr0 = (uint32_t)(uintptr_t)data, .len0 = size};
    one(request, &done);
}

static uint64_t hash_all(void) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (uint32_t i = 0; i < sizeof pages; i++) hash = (hash ^ ((uint8_t *)pages)[i]) * UINT64_C(1099511628211);
    for (uint32_t i = 0; i < heap_size; i++) hash = (hash ^ heap[i]) * UINT64_C(1099511628211);
    return hash ^ turns;
}

static void scatter(uint32_t seed, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        pages[(seed >> 8) % N_PAGES][(seed >> 20) % PAGE] += (uint8_t)(seed >> 24) | 1;
    }
}

/* New memory of n blocks of 128 KiB, of which only the first byte of each is written: a heap with holes. */
static void grow_sparse(uint32_t n) {
    enum { BLOCK = 128 * 1024, PAGES_PER_BLOCK = 2 };
    size_t first = __builtin_wasm_memory_grow(0, (size_t)n * PAGES_PER_BLOCK) * 65536;
    for (uint32_t i = 0; i < n; i++) *(volatile uint8_t *)(uintptr_t)(first + (size_t)i * BLOCK) = (uint8_t)(i | 1);
}

static volatile uint8_t *field;
static uint32_t field_pages;

/* New memory of n pages, none of which is written yet. */
static void grow_field(uint32_t n) {
    size_t first = __builtin_wasm_memory_grow(0, ((size_t)n * PAGE + 65535) / 65536);
    if (first == (size_t)-1) __builtin_trap();
    field = (volatile uint8_t *)(uintptr_t)(first * 65536);
    field_pages = n;
}

/* Every other page of it, from `first` on, gets another byte. */
static void scatter_field(uint32_t first, uint32_t value) {
    for (uint32_t i = first; i < field_pages; i += 2) field[(size_t)i * PAGE + i % PAGE] = (uint8_t)(value + i);
}

/* The same of n pages, which are other ones for other values. */
static void scatter_some(uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t page = (uint32_t)((turns * n + i) * 7919u) % field_pages;
        field[(size_t)page * PAGE + turns % PAGE] = (uint8_t)(turns | 1);
    }
}

static int recurse(volatile int depth) {
    volatile char frame[512];
    frame[0] = (char)depth;
    return depth == 0 ? frame[0] : recurse(depth + 1) + frame[0];
}

/* "raw" + any byte ('t': trap behind it; 'g': then grows memory by a page, and answers with what came of that): u32 requests (0 = the bytes behind the header), u32 n, u32 completions (0 = own), u32 capacity, u32 wait, i64 deadline, bytes. */
static void raw(void) {
    static uint8_t records[MESSAGE_MAX] __attribute__((aligned(8)));
    uint32_t head[6];
    int64_t deadline;
    memcpy(head, message + 4, sizeof head);
    memcpy(&deadline, message + 4 + sizeof head, sizeof deadline);
    memcpy(records, message + 36, sizeof records - 36);
    memset(raw_completions, 0, sizeof raw_completions);
    const dw_request *requests = head[0] ? (const dw_request *)(uintptr_t)head[0] : (const dw_request *)records;
    dw_completion *completions = head[2] ? (dw_completion *)(uintptr_t)head[2] : raw_completions;
    int32_t n = dw_enter(requests, head[1], completions, head[3], head[4], deadline);
    if (message[3] == 't') __builtin_trap(); /* after the fact: nothing of it may stay */
    if (message[3] == 'g') n = (int32_t)__builtin_wasm_memory_grow(0, 1);
    reply(&n, sizeof n);
    reply(raw_completions, sizeof raw_completions);
}

int32_t driftwood_receive(void) {
    turns++;
    read_message();
    uint32_t argument = message_size > 1 ? (uint32_t)strtoul(message + 1, NULL, 10) : 0;
    uint64_t value = 0;
    switch (message[0]) {
    case 's': scatter(argument, 40); break;
    case 'S': scatter(argument, 4000); break;
    case 'z': memset(pages, 0, sizeof pages); break;
    case 'g': {
        uint8_t *grown = realloc(heap, heap_size + argument * 1024);
        if (!grown) return DW_E_NO_MEMORY;
        memset(grown + heap_size, (int)argument, argument * 1024);
        heap = grown;
        heap_size += argument * 1024;
        break;
    }
    case 'G': while (__builtin_wasm_memory_grow(0, 1024) != (size_t)-1) value++; break;
    case 'a': grow_sparse(argument); break;
    case 'A': grow_field(argument); break;
    case 'e': scatter_field(0, argument); break;
    case 'i': scatter_field(1, argument); break;
    case 'E': scatter_some(argument); break;
    case 'T': scatter_field(0, argument); __builtin_trap();
    case 'o': return write(1, "o", 1) == 1 ? 0 : DW_E_IO; /* the last thing it does is a host call that is not the door's */
    case 't': scatter(1, 200); __builtin_trap();
    case 'f': scatter(2, 200); return DW_E_DENIED;
    case 'x': scatter(3, 200); exit(7);
    case 'l': scatter(4, 200); for (volatile int forever = 0;; forever++) {}
    case 'p': { /* puts the bytes behind "p<8 hex digits>:" at that address of the arena: inputs of raw calls */
        uint32_t at = (uint32_t)strtoul(message + 1, NULL, 16);
        memcpy((uint8_t *)pages + at, message + 10, message_size - 10);
        value = (uint32_t)(uintptr_t)pages;
        reply(&value, sizeof value);
        return 0;
    }
    case 'q': { /* gives back 64 bytes from "q<8 hex digits>" of the arena */
        reply((uint8_t *)pages + strtoul(message + 1, NULL, 16), 64);
        return 0;
    }
    case '?': return 0; /* alive */
    case 'R': return recurse(1);
    case 'w': *(volatile uint8_t *)(uintptr_t)0xfffffff0u = 1; break;
    case 'r': if (message[1] == 'a') { raw(); return 0; } break;
    default: break;
    }
    value = hash_all();
    reply(&value, sizeof value);
    return 0;
}

/* frames.c: an actor that uses its stack, to be linked with the stack in one place or the other, with names or none. */
#include <string.h>

static char kept[64] = "initial";

__attribute__((noinline)) static void fill(char *buffer, int size) {
    for (int i = 0; i < size; i++) buffer[i] = (char)(kept[i % 8] + i);
}

int driftwood_receive(void) {
    char buffer[256];
    fill(buffer, (int)sizeof buffer);
    memcpy(kept, buffer + 100, sizeof kept);
    return kept[1] & 0x7F; /* negative would give the turn up */
}

/* Fills frames, one below the other, until the data is damaged. */
__attribute__((noinline)) static int dig(int depth) {
    char room[1024];
    memset(room, 0xEE, sizeof room);
    __asm__ volatile("" : : "r"(room) : "memory");
    if (kept[0] != 'i') return depth;
    int found = dig(depth + 1);
    __asm__ volatile("" : : "r"(room) : "memory");
    return found;
}

int overflow(void) { return dig(1); }

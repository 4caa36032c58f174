/* counter.c: counts messages; no model needed. Small enough to see through, with all that a checkpoint has to carry: variables, a history,
 * memory from malloc. Tests of freezing, thawing, forking and of misbehaving programs are made of its commands:
 *
 *   add N      adds N to the sum                  grow N   allocates N KiB, fills them, and keeps them
 *   get        shows the state                    trap     executes an unreachable instruction
 *   time       the clock, in nanoseconds          spin     never ends
 *   random     eight random bytes, as hex         refuse   ends the turn with DW_E_DENIED
 *
 * Any other message is only counted.
 */
#define _DEFAULT_SOURCE /* getentropy */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dw.h"

enum { HISTORY = 8, HISTORY_BYTES = 32, BLOCKS_MAX = 256, MESSAGE_BYTES_MAX = 4096 };

static struct {
    uint64_t messages;
    int64_t sum;
    uint64_t checksum;                    /* over all messages, in order */
    char history[HISTORY][HISTORY_BYTES]; /* beginnings of the last messages; a ring */
    struct { unsigned char *data; size_t size; } blocks[BLOCKS_MAX];
    uint32_t n_blocks;
} state;

/* FNV-1a, 64 bit: good enough to see that two histories differ. */
static uint64_t mix(uint64_t hash, const void *data, size_t size) {
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static void remember(const char *message, uint32_t size) {
    char *line = state.history[state.messages % HISTORY];
    uint32_t n = size < HISTORY_BYTES ? size : HISTORY_BYTES - 1;
    memset(line, 0, HISTORY_BYTES);
    memcpy(line, message, n);
    state.messages++;
    state.checksum = mix(mix(state.checksum, &size, sizeof size), message, size);
}

static int32_t show(void) {
    uint64_t blocks = 0;
    size_t total = 0;
    for (uint32_t i = 0; i < state.n_blocks; i++) {
        blocks = mix(blocks, state.blocks[i].data, state.blocks[i].size);
        total += state.blocks[i].size;
    }
    int32_t status = dw_replyf("messages=%" PRIu64 " sum=%" PRId64 " checksum=%016" PRIx64 " blocks=%016" PRIx64 " kib=%zu last=",
                               state.messages, state.sum, state.checksum, blocks, total / 1024);
    uint64_t n = state.messages < HISTORY ? state.messages : HISTORY;
    for (uint64_t i = state.messages - n; status == DW_OK && i < state.messages; i++) {
        status = dw_replyf("%s%s", i + n > state.messages ? "|" : "", state.history[i % HISTORY]);
    }
    return status;
}

static int32_t grow(uint64_t kib) {
    if (state.n_blocks == BLOCKS_MAX || kib == 0 || kib > SIZE_MAX / 1024) return dw_reply_text("refused");
    size_t size = (size_t)kib * 1024;
    unsigned char *block = malloc(size);
    if (!block) return dw_reply_text("no memory");
    for (size_t i = 0; i < size; i++) block[i] = (unsigned char)(state.n_blocks + i * 31 + (i >> 12)); /* no two pages alike */
    state.blocks[state.n_blocks].data = block;
    state.blocks[state.n_blocks].size = size;
    state.n_blocks++;
    return dw_replyf("grown by %zu KiB", size / 1024);
}

static int32_t show_time(void) {
    struct timespec now;
    if (timespec_get(&now, TIME_UTC) != TIME_UTC) return dw_reply_text("no clock");
    return dw_replyf("%" PRId64, (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
}

static int32_t show_random(void) {
    unsigned char bytes[8];
    if (getentropy(bytes, sizeof bytes) != 0) return dw_reply_text("no random");
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return dw_replyf("%016" PRIx64, value);
}

static void spin(void) {
    for (volatile uint64_t turns = 0;;) turns = turns + 1; /* volatile: the compiler may not remove it */
}

int32_t dw_receive(void) {
    static char message[MESSAGE_BYTES_MAX];
    uint32_t size = 0;
    int32_t status = dw_message(message, sizeof message, &size);
    if (status == DW_E_FULL)
        dw_log(DW_LOG_ERROR, "That message has %u bytes; at most %d are taken.", size, MESSAGE_BYTES_MAX - 1);
    if (status < 0) return status;
    remember(message, size);
    if (strncmp(message, "add ", 4) == 0) {
        state.sum = (int64_t)((uint64_t)state.sum + (uint64_t)strtoll(message + 4, NULL, 10)); /* wraps: overflow is not our subject */
        return dw_replyf("%" PRId64, state.sum);
    }
    if (strncmp(message, "grow ", 5) == 0) return grow(strtoull(message + 5, NULL, 10));
    if (strcmp(message, "get") == 0) return show();
    if (strcmp(message, "time") == 0) return show_time();
    if (strcmp(message, "random") == 0) return show_random();
    if (strcmp(message, "refuse") == 0) return DW_E_DENIED;
    if (strcmp(message, "trap") == 0) __builtin_trap();
    if (strcmp(message, "spin") == 0) spin();
    return dw_replyf("%" PRIu64, state.messages);
}

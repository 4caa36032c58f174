/* loop.h: what the host asks of the guest loop.c: one order is one message. Shared by both. */
#ifndef DW_BENCH_LOOP_H
#define DW_BENCH_LOOP_H

#include <stdint.h>

enum { LOOP_TOKENS_MAX = 256, LOOP_PAGES_MAX = 64, LOOP_PAGE_BYTES = 65536 /* at least a page on any host */ };

typedef enum loop_work {
    LOOP_NOTHING,  /* returns */
    LOOP_PROMPT,   /* a session whose log is tokens[n], all evaluated */
    LOOP_REWIND,   /* back to the prompt */
    LOOP_GENERATE, /* appends tokens[0] and makes n tokens by one GENERATE, streamed as a chat does; replies with them */
    LOOP_FORWARD,  /* appends tokens[0] and makes n tokens by n FORWARDs, each with the token that the one before drew; replies with them */
    LOOP_ENTERS,   /* n calls of enter, each with one request that is done at once */
    LOOP_WRITE     /* writes a byte in each of n pages */
} loop_work;

typedef struct loop_order {
    uint32_t work, n;
    int32_t tokens[LOOP_TOKENS_MAX]; /* LOOP_PROMPT, LOOP_GENERATE, LOOP_FORWARD */
} loop_order;

#endif

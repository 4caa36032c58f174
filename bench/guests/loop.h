/* loop.h: what the host asks of the guest loop.c: one order is one message. Shared by both. */
#ifndef DW_BENCH_LOOP_H
#define DW_BENCH_LOOP_H

#include <stdint.h>

enum { LOOP_TOKENS_MAX = 8192, LOOP_MADE_MAX = 256, LOOP_PAGES_MAX = 64, LOOP_PAGE_BYTES = 65536 /* at least a page on any host */ };

typedef enum loop_work {
    LOOP_NOTHING,  /* returns */
    LOOP_PROMPT,   /* a session whose log is tokens[], all evaluated */
    LOOP_REWIND,   /* back to the prompt */
    LOOP_GENERATE, /* appends tokens[0] and makes n tokens by one GENERATE, streamed as a chat does; replies with them */
    LOOP_FORWARD,  /* appends tokens[0] and makes n tokens by n FORWARDs, each with the token that the one before drew; replies with them */
    LOOP_TALK,     /* a session that is new, and in it one GENERATE of n tokens from the prompt tokens[], drawn with LOOP_SAMPLING, streamed */
    LOOP_ENTERS,   /* n calls of enter, each with one request that is done at once */
    LOOP_WRITE     /* writes a byte in each of n pages */
} loop_work;

typedef enum loop_flags {
    LOOP_FAST = 1, /* of the session that LOOP_PROMPT and LOOP_TALK open */
    LOOP_SMALL = 2 /* it is one with the model named "small" */
} loop_flags;

/* Of LOOP_TALK. bench/clients.c asks llama-server for the same. */
#define LOOP_SAMPLING .temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f

typedef struct loop_head { uint32_t work, n, flags, seed; } loop_head;

typedef struct loop_order {
    loop_head head;
    int32_t tokens[LOOP_TOKENS_MAX]; /* as many as the message holds */
} loop_order;

#endif

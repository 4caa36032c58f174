/* demo.h: the parts of `driftwood demo`.
 *   demo_talk.c    a conversation that is frozen, thawed in another process and forked, beside a twin that is not
 *   demo_table.c   what freezing, thawing and forking cost at 100, 1,000 and 4,000 tokens, beside computing the
 *                  conversation again
 */
#ifndef DW_CLI_DEMO_H
#define DW_CLI_DEMO_H

#include "cli/cli.h"

typedef struct dw_demo {
    dw_cli *cli;
    const dw_args *args;
    dw_runtime *runtime;
    char executable[DW_PATH_BYTES];
    char folder[DW_PATH_BYTES];     /* where checkpoints go; they stay, for `driftwood inspect` */
    char threads[16];               /* for the other process: the same as ours, or its bits would differ */
} dw_demo;

/* What the other process said: thaw's own object, and how long it took from its start until the actor was ready. */
typedef struct dw_demo_child {
    json_t *report;                 /* the caller's */
    uint64_t process_ns;
} dw_demo_child;

/* Runs `driftwood thaw FILE --message TEXT --json --digest` as a process of its own. */
dw_status dw_demo_thaw_elsewhere(const dw_demo *demo, const char *file, const char *message, uint64_t at_ns,
                                 dw_demo_child *out, dw_error *err) DW_MUST_USE;

typedef struct dw_demo_talk {
    bool equal_memory, equal_kv, equal_tokens, equal_text;
    bool exact, fork_left_parent_alone;
    json_t *details;                /* for JSON; the caller's */
} dw_demo_talk;

dw_status dw_demo_run_talk(const dw_demo *demo, dw_demo_talk *out, dw_error *err) DW_MUST_USE;

typedef struct dw_demo_row {
    uint32_t tokens;
    uint64_t kv_bytes, freeze_ns, file_bytes;
    uint64_t process_ns, open_ns, verify_ns, ready_ns, first_token_ns;
    uint64_t reprefill_ns;          /* the same tokens from the start, to the first new one */
    uint32_t tokens_reused, tokens_recomputed;
    bool exact;
} dw_demo_row;

typedef struct dw_demo_fork {
    uint32_t tokens, tokens_made;
    uint64_t ns, first_token_ns, copy_bytes, kv_own_bytes;
    int64_t added_bytes;            /* anonymous memory of the process after tokens_made tokens */
} dw_demo_fork;

enum { DW_DEMO_ROWS = 3 };
typedef struct dw_demo_table {
    dw_demo_row rows[DW_DEMO_ROWS];
    size_t n_rows;
    dw_demo_fork fork;              /* of the longest row */
} dw_demo_table;

dw_status dw_demo_run_table(const dw_demo *demo, bool quick, dw_demo_table *out, dw_error *err) DW_MUST_USE;

#endif

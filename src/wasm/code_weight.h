/* code_weight.h: how much memory a function can cost the compiler, estimated from its code before anything is
 * compiled. Internal to src/wasm.
 *
 *   block     a place where control can arrive or part: block, loop, if, else, each branch and each target of a table
 *   carried   a value that goes with control into a block by its type: parameters and results of blocks, and those of
 *             the branches to them
 *   joined    a local whose value depends on the way that control came: a set inside blocks joins at the end of each
 *   passed    a parameter or result of a call
 *   helper    an instruction that becomes a long sequence: call_indirect, and what works on tables or on stretches of
 *             memory
 *
 * Cranelift keeps something for each pair of a block and a local, and of a block and a carried value. So a function of
 * some kilobytes can need gigabytes: 10,000 loops with 10 parameters, 60 KB, take more than 12 GiB (measured). The
 * factors are what was measured with Wasmtime 48 over modules that have much of one thing each.
 *
 * Rules
 * 1. Safe on any code: what is not valid weighs something, and validation is Wasmtime's business.
 * 2. The estimate is never exact. It is made so that compiled programs need far less than the limit, and hostile shapes
 *    that it counts not much more. One shape it does not see, as that takes the flow of values: where a sum is built up
 *    and read in branches alone, the optimiser writes it out anew in each. 46 KB of that take 2 GiB, and it grows with
 *    the square.
 * Threads: a weigher belongs to one thread at a time.
 */
#ifndef DW_WASM_CODE_WEIGHT_H
#define DW_WASM_CODE_WEIGHT_H

#include <stdbool.h>
#include <stdint.h>
#include "base/base.h"

/* How many values a type has. */
typedef struct dw_code_arity { uint32_t params, results; } dw_code_arity;

typedef enum dw_code_block { DW_CODE_BLOCK = 0, DW_CODE_LOOP, DW_CODE_TRY } dw_code_block; /* DW_CODE_BLOCK: also if */

/* What is counted of one function, and what counting it needs. */
typedef struct dw_code_weigher {
    const dw_code_arity *types;    /* [n_types] */
    uint32_t n_types;
    const uint32_t *functions;     /* [n_functions] their types */
    uint32_t n_functions;
    uint32_t *labels;              /* [DW_FUNCTION_NESTING_MAX] values that a branch to it carries; LABEL_OF_TRY */
    uint32_t n_labels;             /* those that are open */
    uint32_t n_tries;              /* of these; inside one each call parts control */
    uint64_t bytes, locals, blocks, carried, joined, passed, calls, helpers;
} dw_code_weigher;

/* A function begins: a body of so many bytes; its locals are counted by the caller. */
void dw_code_weigh_begin(dw_code_weigher *weigher, uint64_t bytes, uint32_t type);
/* `type` is the block's, as in the binary. DW_E_LIMIT: nested too deeply. */
dw_status dw_code_weigh_block(dw_code_weigher *weigher, dw_code_block block, int64_t type,
                              dw_error *err) DW_MUST_USE;
void dw_code_weigh_else(dw_code_weigher *weigher);
void dw_code_weigh_end(dw_code_weigher *weigher);
void dw_code_weigh_branch(dw_code_weigher *weigher, uint32_t depth);
void dw_code_weigh_set(dw_code_weigher *weigher);                          /* of a local */
void dw_code_weigh_call(dw_code_weigher *weigher, uint32_t function);
void dw_code_weigh_throw(dw_code_weigher *weigher);
void dw_code_weigh_helper(dw_code_weigher *weigher);
void dw_code_weigh_indirect_call(dw_code_weigher *weigher, uint32_t type);
/* Bytes of memory; saturates. */
uint64_t dw_code_weight(const dw_code_weigher *weigher);

#endif

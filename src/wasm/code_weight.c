/* code_weight.c: see code_weight.h. */
#include "wasm/code_weight.h"

/* Bytes of memory for one of each. */
enum { PER_BYTE = 200, PER_BLOCK = 2048, PER_CALL = 3072, PER_HELPER = 20480, PER_PASSED = 512 };
enum { PER_CARRIED = 1536, PER_JOINED = 1280 };
/* In a label: it is a try's. There are fewer values than that. */
#define LABEL_OF_TRY 0x80000000u
/* And for a pair of each block with ... */
enum { PER_BLOCK_AND_LOCAL = 40, PER_BLOCK_AND_CARRIED = 6 };

static dw_code_arity arity_of(const dw_code_weigher *weigher, int64_t type) {
    if (type >= 0 && (uint64_t)type < weigher->n_types) return weigher->types[type];
    return (dw_code_arity){0, type == -64 ? 0 : 1}; /* -64: no values; any other below 0 is one value's type */
}

void dw_code_weigh_begin(dw_code_weigher *weigher, uint64_t bytes, uint32_t type) {
    dw_code_arity arity = arity_of(weigher, type);
    weigher->bytes = bytes;
    weigher->locals = arity.params;
    weigher->blocks = 1;
    weigher->carried = arity.params + arity.results;
    weigher->joined = weigher->passed = weigher->calls = weigher->helpers = 0;
    weigher->labels[0] = arity.results;
    weigher->n_labels = 1;
    weigher->n_tries = 0;
}

dw_status dw_code_weigh_block(dw_code_weigher *weigher, dw_code_block block, int64_t type, dw_error *err) {
    dw_code_arity arity = arity_of(weigher, type);
    if (weigher->n_labels == DW_FUNCTION_NESTING_MAX) {
        return dw_fail(err, DW_E_LIMIT, "blocks are nested more than %u deep", (unsigned)DW_FUNCTION_NESTING_MAX);
    }
    uint32_t values = block == DW_CODE_LOOP ? arity.params : arity.results;
    if (block == DW_CODE_TRY) weigher->n_tries++;
    weigher->labels[weigher->n_labels++] = values | (block == DW_CODE_TRY ? LABEL_OF_TRY : 0);
    weigher->blocks++;
    weigher->carried += (uint64_t)arity.params + arity.results;
    return DW_OK;
}

void dw_code_weigh_else(dw_code_weigher *weigher) { weigher->blocks++; }

void dw_code_weigh_end(dw_code_weigher *weigher) {
    if (weigher->n_labels > 0 && (weigher->labels[--weigher->n_labels] & LABEL_OF_TRY)) weigher->n_tries--;
}

void dw_code_weigh_branch(dw_code_weigher *weigher, uint32_t depth) {
    weigher->blocks++;
    if (depth < weigher->n_labels) weigher->carried += weigher->labels[weigher->n_labels - 1 - depth] & ~LABEL_OF_TRY;
}

void dw_code_weigh_set(dw_code_weigher *weigher) { weigher->joined += weigher->n_labels; }

static void weigh_passed(dw_code_weigher *weigher, dw_code_arity arity) {
    weigher->passed += (uint64_t)arity.params + arity.results;
    if (weigher->n_tries > 0) weigher->blocks++;
}

void dw_code_weigh_call(dw_code_weigher *weigher, uint32_t function) {
    weigher->calls++;
    if (function < weigher->n_functions) weigh_passed(weigher, arity_of(weigher, weigher->functions[function]));
}

/* Makes an exception, and goes on in another place. */
void dw_code_weigh_throw(dw_code_weigher *weigher) {
    weigher->helpers++;
    weigher->blocks++;
}

void dw_code_weigh_helper(dw_code_weigher *weigher) { weigher->helpers++; }

void dw_code_weigh_indirect_call(dw_code_weigher *weigher, uint32_t type) {
    weigher->helpers++;
    weigh_passed(weigher, arity_of(weigher, type));
}

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t product;
    return dw_mul_u64(a, b, &product) ? product : UINT64_MAX;
}

static uint64_t plus(uint64_t a, uint64_t b) { return a <= UINT64_MAX - b ? a + b : UINT64_MAX; }

uint64_t dw_code_weight(const dw_code_weigher *w) {
    uint64_t sum = times(w->bytes, PER_BYTE);
    sum = plus(sum, times(w->blocks, PER_BLOCK));
    sum = plus(sum, times(w->calls, PER_CALL));
    sum = plus(sum, times(w->helpers, PER_HELPER));
    sum = plus(sum, times(w->passed, PER_PASSED));
    sum = plus(sum, times(w->carried, PER_CARRIED));
    sum = plus(sum, times(dw_min_u64(w->joined, times(w->blocks, w->locals)), PER_JOINED));
    sum = plus(sum, times(w->blocks, times(w->locals, PER_BLOCK_AND_LOCAL)));
    return plus(sum, times(w->blocks, times(w->carried, PER_BLOCK_AND_CARRIED)));
}

/* kv_type.h: what KV rows are made of.
 *
 *   row   K (or V) of one token in one layer: n_heads_kv x head_dim elements, as ggml lays out a row of that type. Q8_0
 *         packs 32 elements into a block of 34 bytes (an F16 scale, then 32 int8), so a head must be whole blocks
 *
 * Threads: constant.
 */
#ifndef DW_MODEL_GRAPH_KV_TYPE_H
#define DW_MODEL_GRAPH_KV_TYPE_H

#include <stdbool.h>
#include "base/base.h"

typedef enum dw_kv_type { DW_KV_F16 = 0, DW_KV_BF16, DW_KV_Q8_0 } dw_kv_type;
enum { DW_KV_TYPES = DW_KV_Q8_0 + 1 };

const char *dw_kv_type_name(dw_kv_type type); /* "F16", "BF16", "Q8_0": ggml's names in capitals */
bool dw_kv_type_named(const char *name, dw_kv_type *out); /* by exactly that name */
uint32_t dw_kv_type_ggml(dw_kv_type type); /* enum ggml_type */
uint32_t dw_kv_type_block(dw_kv_type type); /* elements: head_dim must be a multiple */
/* Bytes of a row. A head that is no whole number of blocks is the caller's to refuse: the last one is counted whole. */
uint64_t dw_kv_row_bytes(dw_kv_type type, uint32_t n_heads_kv, uint32_t head_dim);

#endif
